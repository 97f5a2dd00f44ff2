"""Checking what `plan_fleet` is given, so that one run shows all that is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from typing import Any

from mipplan.core import (
    Fault,
    InputError,
    check_budget,
    check_quantile,
    check_seed,
    check_time_limit,
    faults_of,
    is_number,
    listed,
    name_problem,
    shown,
    suggestion,
)
from mipplan.documents import output_problem
from mipplan.fleet.request import Fleet, Member
from mipplan.fleet.schema import MAX_PIPELINES, MAX_WEIGHT
from mipplan.options import check_names
from mipplan.pipeline import Pipeline
from mipplan.profiles import Profiles, limit_problem
from mipplan.result import resolve_slo_ns
from mipplan.trace import Trace

PipelineArgument = (
    tuple[Pipeline, Trace]
    | tuple[Pipeline, Trace, float | None]
    | tuple[Pipeline, Trace, float | None, float]
)
METHODS = ("auto", "columns", "joint")


@dataclass(frozen=True)
class Search:
    """What a fleet is planned by, whatever its pipelines: arguments of `plan_fleet`, unchecked."""

    budget: float | None
    quantile: float
    seed: int
    gap: float
    time_limit_s: float | None
    method: str
    checkpoint: str | PathLike[str] | None

    def check(self) -> None:
        """Refuse what cannot be.

        Raises
        ------
        InputError
            Listing every fault.
        """
        faults = faults_of(
            lambda: check_budget(self.budget, "budget"),
            lambda: check_time_limit(self.time_limit_s),
            lambda: check_quantile(self.quantile),
            lambda: check_seed(self.seed),
        )
        if not (is_number(self.gap) and 0 <= self.gap < 1):
            faults.append(Fault("gap", f"expected a share from 0 up to 1, found {shown(self.gap)}"))
        if self.method not in METHODS:
            message = f"expected one of {', '.join(METHODS)}, found {shown(self.method)}"
            faults.append(Fault("method", message))
        if self.checkpoint is not None:
            problem = output_problem(self.checkpoint)
            if self.method == "joint":
                problem = 'goes with method="columns" only'
            if problem is not None:
                faults.append(Fault("checkpoint", problem))
        if faults:
            raise InputError(faults)


def read_fleet(
    pipelines: Mapping[str, PipelineArgument],
    profiles: Profiles,
    limits: Mapping[str, int | None] | None,
    search: Search,
) -> Fleet:
    """Make the fleet, or say everything that is wrong with it.

    Raises
    ------
    InputError
        Listing every fault.
    """
    members, wrong = _members(pipelines, profiles)
    faults = [*faults_of(search.check), *_limit_faults(limits or {}, profiles), *wrong]
    if faults:
        raise InputError(faults)
    limited = [
        replace(device, limit=(limits or {}).get(name, device.limit))
        for name, device in profiles.hardware.items()
    ]
    return Fleet(
        members,
        Profiles.from_parts(limited, profiles.tables.values()),
        check_quantile(search.quantile),
        check_seed(search.seed),
        check_budget(search.budget, "budget"),
    )


def _members(
    pipelines: Mapping[str, PipelineArgument], profiles: Profiles
) -> tuple[tuple[Member, ...], list[Fault]]:
    faults: list[Fault] = []
    members = []
    if not isinstance(pipelines, Mapping) or not 1 <= len(pipelines) <= MAX_PIPELINES:
        message = f"expected a mapping of 1 to {MAX_PIPELINES:,} names to (pipeline, trace, slo_s, weight)"
        return (), [Fault("pipelines", message)]
    for name, given in pipelines.items():
        place = f"pipelines.{name}"
        problem = name_problem(name) or ("may hold no slash" if "/" in name else None)
        if problem is not None:
            faults.append(Fault(place, problem))
            continue
        if not isinstance(given, tuple | list) or not 2 <= len(given) <= 4:
            faults.append(Fault(place, f"expected (pipeline, trace, slo_s, weight), found {shown(given)}"))
            continue
        pipeline, trace, slo_s, weight = _spelt_out(given)
        wrong = [
            *([] if isinstance(pipeline, Pipeline) else [f"expected a Pipeline, found {shown(pipeline)}"]),
            *([] if isinstance(trace, Trace) else [f"expected a Trace, found {shown(trace)}"]),
        ]
        if not wrong and trace.span_ns == 0:
            wrong.append("all arrivals of its trace are at one instant: it has no rate to plan for")
        faults += [Fault(place, message) for message in wrong]
        found: list[Fault] = []
        if not is_number(weight) or not 0 < weight <= MAX_WEIGHT:
            message = f"expected a weight above 0, at most {MAX_WEIGHT:g}, found {shown(weight)}"
            found.append(Fault(f"{place}.weight", message))
        if not wrong:
            found += [
                Fault(f"{place}: {fault.place}", fault.message)
                for fault in faults_of(
                    partial(resolve_slo_ns, pipeline, slo_s), partial(check_names, pipeline, profiles)
                )
            ]
        faults += found
        if not wrong and not found:
            thousandths = max(1, round(1000 * float(weight)))
            members.append(Member(name, pipeline, trace, resolve_slo_ns(pipeline, slo_s), thousandths))
    return tuple(members), faults


def _spelt_out(given: Sequence[Any]) -> tuple[Any, Any, Any, Any]:
    """Return pipeline, trace, objective and weight, with what was left out filled in."""
    pipeline, trace, *more = given
    slo_s = more[0] if more else None
    return pipeline, trace, slo_s, more[1] if len(more) > 1 else 1.0


def _limit_faults(limits: Mapping[str, int | None], profiles: Profiles) -> list[Fault]:
    faults = []
    for name, limit in limits.items():
        problem = None if limit is None else limit_problem(limit)
        if name not in profiles.hardware:
            hint = suggestion(name, profiles.hardware) or f"; there are {listed(profiles.hardware)}"
            problem = f"the profiles have no hardware {name!r}{hint}"
        if problem is not None:
            faults.append(Fault(f"limits.{name}", problem))
    return faults
