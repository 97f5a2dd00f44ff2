"""Several pipelines tuned at once, on devices and money that they share."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from mipplan.core import Fault, InputError, dollars_to_microdollars, shown
from mipplan.tuner.conditions import Conditions, dollar_faults
from mipplan.tuner.requirements import decide
from mipplan.tuner.scaling import Scaler
from mipplan.tuner.steps import TuningStep
from mipplan.tuner.traffic import Traffic
from mipplan.tuner.tuner import Tuner


class JointTuner:
    """Re-solves the replica counts of several pipelines as one problem.

    Parameters
    ----------
    tuners : mapping of str to Tuner
        By names of your choice; each observes its own traffic. Their own conditions are not looked at.
    conditions : Conditions, optional
        For all pipelines together; by default the device limits of their plans' profiles, the least where they
        differ.
    loss_usd_per_hour : mapping of str to float, optional
        For every pipeline what it costs to serve none of its traffic for an hour. Where a limit binds, those lose that
        lose least by it; and traffic is not served either where replicas for it cost more than is lost. Without it
        all serve the same share, as much as can be (`TuningStep.share`).

    Raises
    ------
    InputError
        With every fault.
    """

    def __init__(
        self,
        tuners: Mapping[str, Tuner],
        *,
        conditions: Conditions | None = None,
        loss_usd_per_hour: Mapping[str, float] | None = None,
    ) -> None:
        _check_parts(tuners, conditions, loss_usd_per_hour)
        self.tuners: Mapping[str, Tuner] = MappingProxyType(dict(tuners))
        plans = [tuner.plan for tuner in self.tuners.values()]
        self.conditions = conditions if conditions is not None else Conditions.of_plans(plans)
        losses = {} if loss_usd_per_hour is None else _read_losses(loss_usd_per_hour, self.tuners)
        shapes = [tuner.shape(losses.get(name)) for name, tuner in self.tuners.items()]
        self.scaler = Scaler(shapes, self.conditions)

    def retune(
        self,
        now_ns: int | None = None,
        *,
        traffic: Mapping[str, Traffic] | None = None,
        backlog: Mapping[str, int | Mapping[str, int]] | None = None,
        active: Mapping[str, Mapping[str, int]] | None = None,
        ordered: Mapping[str, Mapping[str, int]] | None = None,
    ) -> dict[str, TuningStep]:
        """Re-solve all replica counts; arguments as for `Tuner.retune`, by pipeline, those left out as there.

        Returns
        -------
        dict of str to TuningStep
            One per pipeline; objective and lower bound are those of all together.

        Raises
        ------
        InputError
        """
        arguments = {"traffic": traffic, "backlog": backlog, "active": active, "ordered": ordered}
        given: dict[str, Any] = {argument: values or {} for argument, values in arguments.items()}
        _check_names(given, self.tuners)
        situations = []
        for name, tuner in self.tuners.items():
            own = {argument: values[name] for argument, values in given.items() if name in values}
            situations.append(tuner.situation(now_ns, **own))
        steps = decide([tuner.budget for tuner in self.tuners.values()], self.scaler, situations)
        for tuner, step in zip(self.tuners.values(), steps, strict=True):
            tuner.accept(step)
        return dict(zip(self.tuners, steps, strict=True))


def _check_parts(tuners: object, conditions: object, losses: object) -> None:
    by_name = tuners if isinstance(tuners, Mapping) else {}
    parts = [
        ("tuners", tuners, bool(by_name), "at least one Tuner by name"),
        *((f"tuners.{name}", tuner, isinstance(tuner, Tuner), "a Tuner") for name, tuner in by_name.items()),
        ("conditions", conditions, isinstance(conditions, Conditions | None), "Conditions"),
        ("loss_usd_per_hour", losses, isinstance(losses, Mapping | None), "dollars by name"),
    ]
    InputError.raise_if(
        Fault(place, f"expected {expected}, found {shown(part)}")
        for place, part, fits, expected in parts
        if not fits
    )


def _check_names(given: Mapping[str, Mapping[str, object]], tuners: Mapping[str, Tuner]) -> None:
    faults: list[Fault] = []
    known = f"there is no such pipeline; there are {', '.join(tuners)}"
    for argument, values in given.items():
        if isinstance(values, Mapping):
            faults += [Fault(f"{argument}.{name}", known) for name in values if name not in tuners]
        else:
            faults.append(Fault(argument, f"expected values by pipeline, found {shown(values)}"))
    InputError.raise_if(faults)


def _read_losses(given: Mapping[str, float], tuners: Mapping[str, Tuner]) -> dict[str, int]:
    _check_names({"loss_usd_per_hour": given}, tuners)
    places = {name: f"loss_usd_per_hour.{name}" for name in tuners}
    InputError.raise_if(
        fault for name, place in places.items() for fault in dollar_faults(place, given.get(name))
    )
    return {name: dollars_to_microdollars(given[name]) for name in tuners}
