"""Assemble the time-cost problem: stages become activities, options modes, devices resources.

The wait of every option on a path is exact, or bounded from below at little cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mipplan.calculus import PathWaits, Wait, analyse_paths
from mipplan.core import Fault, InputError, Int64, check_budget, check_quantile
from mipplan.options.families import check_names, find_families, trace_demand
from mipplan.options.table import StageOptions, expand, undominated
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
    """Assemble activities, arcs, paths and resources from the options of every stage, in file order, none empty.

    `covers` are cuts found so far. With a `tolerance` of 0 waits are exact, else lower bounds on them, told apart to
    within this share of the deadline.
    """
    index = {stage: position for position, stage in enumerate(options)}
    used = {f.hardware for table in options.values() for f in table.families.families if f.limited}
    devices = [name for name in limits if name in used]
    activities, least_ns = [], {}
    for stage, table in options.items():
        serial_ns: Int64 = -(-paths.serial_tokens.get(stage, 0) * table.period_ns // table.tokens)
        hardware = table.hardware
        usage = np.zeros((table.count, len(devices)), dtype=np.int64)
        for column, name in enumerate(devices):
            usage[:, column] = np.where(hardware == name, table.replicas, 0)
        activities.append(Activity(stage, table.cost, table.latency_ns + serial_ns, usage))
        least_ns[stage] = int(activities[-1].duration.min())
    arcs = tuple(Arc(index[edge.parent], index[edge.child], edge.delay_ns) for edge in pipeline.edges)
    # Paths share curves: a stage's waits on one are looked up once, unless another path leaves it more slack.
    known: dict[tuple[str, int], tuple[int, Int64]] = {}
    rows = []
    for path in paths.paths:
        # More wait than this no option of the path can afford, whatever the others are.
        slack_ns = deadline_ns - path.lag_ns - sum(least_ns[stage] for stage in path.stages)
        waits = []
        for stage, curve in zip(path.stages, path.curves, strict=True):
            key = (stage, id(curve))
            if key not in known or slack_ns > known[key][0]:
                found = wait_bounds(curve, options[stage], int(tolerance * deadline_ns), slack_ns)
                known[key] = slack_ns, found
            waits.append(known[key][1])
        rows.append(Path(tuple(index[stage] for stage in path.stages), path.lag_ns, tuple(waits)))
    resources = tuple(Resource(name, limits[name]) for name in devices)
    return TimeCostProblem(tuple(activities), arcs, tuple(rows), deadline_ns, resources, tuple(covers))


def wait_bounds(
    curve: Wait, options: StageOptions, tolerance_ns: int = 0, beyond_ns: int | None = None
) -> Int64:
    """Wait of every option on the curve's path, or a lower bound on it; shape (m,), ns.

    With a tolerance of 0 every option is evaluated exactly. Otherwise the curve's own lower bounds are taken, only as
    finely as to know these within the tolerance: the wait grows with 1/R, so what bounds that of a faster option bounds
    that of a slower one, too. Bounds above `beyond_ns` need not be told apart.
    """
    rates = list(zip(options.period_ns.tolist(), options.tokens.tolist(), strict=True))
    if tolerance_ns <= 0 or not rates:
        return np.array([curve.exact(*rate) for rate in rates], dtype=np.int64)
    wanted: dict[tuple[int, int], list[int]] = {}
    for option in np.argsort(-options.speed, kind="stable").tolist():
        wanted.setdefault(rates[option], []).append(option)
    # From fast to slow, by halving where the bounds still differ; they do not fall.
    distinct, farthest = list(wanted), np.iinfo(np.int64).max if beyond_ns is None else beyond_ns
    found = [0] * len(distinct)
    found[0] = curve.lower(*distinct[0])
    found[-1] = max(found[0], curve.lower(*distinct[-1])) if found[0] <= farthest else found[0]
    pending = [(0, len(distinct) - 1)]
    while pending:
        low, high = pending.pop()
        if found[low] > farthest or found[high] - found[low] <= tolerance_ns:
            found[low + 1 : high] = [found[low]] * max(0, high - low - 1)
        elif high - low > 1:
            middle = (low + high) // 2
            found[middle] = min(found[high], max(found[low], curve.lower(*distinct[middle])))
            pending += [(low, middle), (middle, high)]
    bounds = np.empty(options.count, dtype=np.int64)
    for members, bound in zip(wanted.values(), found, strict=True):
        bounds[members] = bound
    return bounds
