"""Several pipelines tuned at once, on devices and money that they share."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from mipplan.core import Fault, InputError, dollars_to_microdollars, is_number, shown
from mipplan.tuner.conditions import MOST_USD, Conditions
from mipplan.tuner.requirements import TuningStep, decide
from mipplan.tuner.scaling import Scaler
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
    faults = []
    if not isinstance(tuners, Mapping) or not tuners:
        faults.append(Fault("tuners", f"expected at least one Tuner by name, found {shown(tuners)}"))
    else:
        faults += [
            Fault(f"tuners.{name}", f"expected a Tuner, found {shown(tuner)}")
            for name, tuner in tuners.items()
            if not isinstance(tuner, Tuner)
        ]
    if not isinstance(conditions, Conditions | None):
        faults.append(Fault("conditions", f"expected Conditions, found {shown(conditions)}"))
    if not isinstance(losses, Mapping | None):
        faults.append(Fault("loss_usd_per_hour", f"expected dollars by name, found {shown(losses)}"))
    if faults:
        raise InputError(faults)


def _check_names(given: Mapping[str, Mapping[str, object]], tuners: Mapping[str, Tuner]) -> None:
    mappings = {argument: values for argument, values in given.items() if isinstance(values, Mapping)}
    faults = [
        Fault(argument, f"expected values by pipeline, found {shown(values)}")
        for argument, values in given.items()
        if argument not in mappings
    ]
    faults += [
        Fault(f"{argument}.{name}", f"there is no such pipeline; there are {', '.join(tuners)}")
        for argument, values in mappings.items()
        for name in values
        if name not in tuners
    ]
    if faults:
        raise InputError(faults)


def _read_losses(given: Mapping[str, float], tuners: Mapping[str, Tuner]) -> dict[str, int]:
    _check_names({"loss_usd_per_hour": given}, tuners)
    faults = [
        Fault(f"loss_usd_per_hour.{name}", f"expected dollars from 0 to {MOST_USD:g}, found {shown(loss)}")
        for name in tuners
        if not is_number(loss := given.get(name)) or not 0 <= loss <= MOST_USD
    ]
    if faults:
        raise InputError(faults)
    return {name: dollars_to_microdollars(given[name]) for name in tuners}
