"""Assemble the time-cost problem: stages become activities, options modes, devices resources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mipplan.calculus import PathWaits, Wait, analyse_paths
from mipplan.core import Fault, InputError, check_budget, check_quantile
from mipplan.options.admissibility import check_names
from mipplan.options.enumeration import StageOptions, expand, undominated
from mipplan.options.families import find_families, trace_demand
from mipplan.options.waits import wait_bounds
from mipplan.pipeline import Pipeline
from mipplan.profiles import Profiles
from mipplan.result import resolve_slo_ns
from mipplan.tokens import realise
from mipplan.trace import Trace
from mipplan_formulations import Activity, Arc, Cover, Path, Resource, TimeCostProblem

#: Without a budget, `time_cost_problem` offers this many times the replicas that keep up with the mean rate.
_SPARE_REPLICAS = 4


def time_cost_problem(
    pipeline: Pipeline,
    profiles: Profiles,
    trace: Trace,
    *,
    slo_s: float | None = None,
    quantile: float = 0.99,
    seed: int = 0,
    budget_usd_per_hour: float | None = None,
) -> TimeCostProblem:
    """Build the planning problem of a pipeline, for people who benchmark formulations and solvers.

    Costs are micro-dollars per hour, times nanoseconds; waits are exact for every option. The planner solves
    the same problem, with replicas bounded by the cost of a plan it already has.

    Parameters
    ----------
    pipeline, profiles, trace
        As for `mipplan.plan`.
    slo_s, quantile, seed
        As for `mipplan.plan`.
    budget_usd_per_hour : float, optional
        Options of a stage that alone cost more are left out. Without it, each family offers up to four times
        the replicas it needs for the mean rate, plus four.

    Raises
    ------
    InputError
        If an input is bad, or some stage has no option at all.
    """
    check_names(pipeline, profiles)
    slo_ns = resolve_slo_ns(pipeline, slo_s)
    budget = check_budget(budget_usd_per_hour)
    workload = realise(pipeline, trace, seed)
    if workload.span_ns == 0:
        raise InputError.one("trace", "all arrivals are at one instant: it has no rate to plan for")
    paths = analyse_paths(workload, check_quantile(quantile))
    options: dict[str, StageOptions] = {}
    faults: list[Fault] = []
    for name, found in find_families(pipeline, profiles, trace_demand(workload)).items():
        spare = max(
            (_SPARE_REPLICAS * (f.fewest + 1) * f.microusd_per_hour for f in found.families), default=0
        )
        options[name] = undominated(expand(found, budget if budget is not None else spare))
        if options[name].count == 0:
            reasons = "; ".join(found.rejected) or "every option costs more than the budget"
            faults.append(Fault(f"stages.{name}", f"has no option: {reasons}"))
    if faults:
        raise InputError(faults)
    return build_problem(pipeline, options, paths, slo_ns, limits_of(profiles))


def limits_of(profiles: Profiles) -> dict[str, int]:
    """Device limits by hardware name, only where there is one."""
    return {name: hw.limit for name, hw in profiles.hardware.items() if hw.limit is not None}


def build_problem(
    pipeline: Pipeline,
    options: Mapping[str, StageOptions],
    paths: PathWaits,
    deadline_ns: int,
    limits: Mapping[str, int],
    *,
    covers: Sequence[Cover] = (),
    tolerance: float = 0.0,
) -> TimeCostProblem:
    """Assemble activities, arcs, paths and resources from the options of every stage.

    Parameters
    ----------
    pipeline : Pipeline
    options : mapping of str to StageOptions
        One per stage, in file order, none empty.
    paths : PathWaits
    deadline_ns : int
    limits : mapping of str to int
    covers : sequence of Cover
        Cuts found so far.
    tolerance : float
        0 for exact waits, else lower bounds, told apart to within this share of the deadline.
    """
    index = {stage: position for position, stage in enumerate(options)}
    used = {f.hardware for table in options.values() for f in table.families.families if f.limited}
    devices = [name for name in limits if name in used]
    activities = tuple(
        Activity(
            stage, table.cost, _durations(table, paths.serial_tokens.get(stage, 0)), _usage(table, devices)
        )
        for stage, table in options.items()
    )
    arcs = tuple(Arc(index[edge.parent], index[edge.child], edge.delay_ns) for edge in pipeline.edges)
    least_ns = {
        stage: int(activity.duration.min()) for stage, activity in zip(options, activities, strict=True)
    }
    known: dict[tuple[str, int], NDArray[np.int64]] = {}
    slacks: dict[tuple[str, int], int] = {}

    def waits(stage: str, curve: Wait, slack_ns: int) -> NDArray[np.int64]:
        key = (stage, id(curve))
        if key not in known or slack_ns > slacks[key]:
            known[key] = wait_bounds(curve, options[stage], int(tolerance * deadline_ns), slack_ns)
            slacks[key] = slack_ns
        return known[key]

    rows = []
    for path in paths.paths:
        # More wait than this no option of the path can afford, whatever the others are.
        slack_ns = deadline_ns - path.lag_ns - sum(least_ns[stage] for stage in path.stages)
        members = tuple(index[stage] for stage in path.stages)
        curves = zip(path.stages, path.curves, strict=True)
        rows.append(
            Path(members, path.lag_ns, tuple(waits(stage, curve, slack_ns) for stage, curve in curves))
        )
    resources = tuple(Resource(name, limits[name]) for name in devices)
    return TimeCostProblem(activities, arcs, tuple(rows), deadline_ns, resources, tuple(covers))


def _durations(options: StageOptions, serial_tokens: int) -> NDArray[np.int64]:
    """``T + serial_tokens/R`` of every option, rounded up, shape (m,)."""
    serial_ns: NDArray[np.int64] = -(-serial_tokens * options.period_ns // options.tokens)
    return options.latency_ns + serial_ns


def _usage(options: StageOptions, devices: Sequence[str]) -> NDArray[np.int64]:
    hardware = options.hardware
    columns = [np.where(hardware == name, options.replicas, 0) for name in devices]
    return np.stack(columns, axis=1) if columns else np.zeros((options.count, 0), dtype=np.int64)
