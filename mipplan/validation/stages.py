"""Each stage and hop, measured and predicted, so that what is wrong can be told from what follows from it.

Waits at a stage follow from three things: when tokens arrive, how long batches take, and how they are dispatched. The
first two are in the log. So the stage is replayed by itself, with the arrivals and the service times that were measured
and the plan's law: if that gives the waits that were measured, dispatching is as planned, and waits differ from the
plan's because arrivals or services do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mipplan.core import NS_PER_S, Float64, Int64
from mipplan.logs import MISSING, RunLog, StageLog
from mipplan.observing import StageBatches, batches_of, hops_of
from mipplan.pipeline import Discipline, DispatchLaw, ServingSystem
from mipplan.profiling import QuantileRange, quantile_range
from mipplan.replayer import Capacity, EngineFeature, StageTask, resolve_engine
from mipplan.result import Interval, Plan, ReplayResult
from mipplan.validation.bootstrap import ResamplingParams, mean_interval
from mipplan.validation.replayed import released_log
from mipplan.validation.result import HopComparison, ServiceComparison, StageComparison


@dataclass(frozen=True)
class GrowthParams:
    """When waits are said to grow over a run.

    At a stage with ρ times the load that it can serve, the wait grows by 1 − 1/ρ seconds a second. So it is large by
    the length of the run, and larger in each quarter of the run than in the one before. Bursts make waits long, too,
    but not by the length of the run; and what bursts do, the replay of the same arrivals shows as well.
    """

    share: float = 0.02
    """By at least this share of the run's length, from its first quarter to its last: 3 % overload gives as much."""
    quarters: int = 4


#: Outputs of a batch that are handed on in one go are 5 to 12 microseconds apart in a server written in Python.
_HARDLY_APART_NS = 20_000
#: Measured service times are drawn from this many levels.
_LEVELS = 32


def grows(arrival_ns: Int64, wait_ns: Int64, params: GrowthParams = GrowthParams()) -> bool:
    """Say whether waits grow over a run; arrays of shape (tokens,), in any order."""
    if arrival_ns.size < 2 * params.quarters:
        return False
    span_ns = int(arrival_ns.max() - arrival_ns.min())
    by_time = np.argsort(arrival_ns, kind="stable")
    means = np.array([part.mean() for part in np.array_split(wait_ns[by_time], params.quarters)])
    return bool(np.all(np.diff(means) > 0) and means[-1] - means[0] > params.share * span_ns)


@dataclass(frozen=True, eq=False)
class Sides:
    """The two logs to compare: of the system, and of the plan's replay written as one."""

    plan: Plan
    held: Plan  # With the allowance of the server that timed batches were held to.
    measured: RunLog
    predicted: RunLog
    result: ReplayResult
    law: dict[str, DispatchLaw]
    system: dict[str, ServingSystem]  # At the stages where batches are made by a serving system's law.
    params: ResamplingParams


def compare_stages(sides: Sides) -> tuple[StageComparison, ...]:
    """Compare the stages that are in the log."""
    seen, stated = batches_of(sides.measured.stages), batches_of(sides.predicted.stages)
    sizes, none = {stage: one.size for stage, one in stated.items()}, np.empty(0, dtype=np.int64)
    # Where few queries come, the replay may have drawn no token.
    return tuple(_compare_stage(sides, stage, seen[stage], sizes.get(stage, none)) for stage in seen)


def _compare_stage(sides: Sides, stage: str, seen: StageBatches, stated_sizes: Int64) -> StageComparison:
    plan, params = sides.plan, sides.params
    log, predicted = sides.measured.stages.at(stage), sides.predicted.stages.at(stage)
    log = log.taken(log.dispatch_ns != MISSING)
    wait_ns = log.dispatch_ns - log.arrival_ns
    predicted_wait_ns = predicted.dispatch_ns - predicted.arrival_ns
    table_ns = _table_ns(plan, stage)
    known = seen.size <= table_ns.size
    in_table_ns = table_ns[seen.size[known] - 1].astype(np.float64)
    service_ns = seen.service_ns[known].astype(np.float64)
    served_ns, is_together = _nearest_served_wait_ns(sides, stage, log, seen)
    excess = None
    if served_ns is not None:
        excess = mean_interval((wait_ns - served_ns) / NS_PER_S, params)
    tokens = _tokens_of_answered(sides.measured, log)
    replicas = plan.choices[stage].replicas
    begins_ns, ends_ns = seen.idle_ns(log.arrival_ns, log.dispatch_ns, replicas)
    idle_ns = ends_ns - begins_ns
    # How long failed batches kept their replicas is unknown, and so is what was idle then.
    idlest = int(np.argmax(idle_ns)) if idle_ns.size and not seen.failed else None
    slowest = int(np.argmax(service_ns - in_table_ns)) if service_ns.size else None
    start_ns = int(sides.measured.queries.sent_ns[0])
    return StageComparison(
        stage=stage,
        tokens_per_query=float(tokens.mean()),
        predicted_tokens_per_query=float(_tokens_of_answered(sides.predicted, predicted).mean()),
        tokens_error=float(tokens.std() / tokens.size**0.5),
        mean_batch=_mean(seen.size),
        predicted_mean_batch=_mean(stated_sizes),
        batch_sizes=_counts(seen.size),
        predicted_batch_sizes=_counts(stated_sizes),
        service_ratio=float(service_ns.sum() / in_table_ns.sum()) if service_ns.size else None,
        service_interval=mean_interval(service_ns, params, in_table_ns),
        overruns=float(np.mean(service_ns > in_table_ns)) if service_ns.size else None,
        services=tuple(_compare_service(seen, int(size), table_ns, params) for size in seen.sizes),
        wait_s=_mean(wait_ns) / NS_PER_S,
        predicted_wait_s=_mean(predicted_wait_ns) / NS_PER_S,
        served_wait_s=None if served_ns is None else _mean(served_ns) / NS_PER_S,
        served_together=is_together,
        wait_excess=excess,
        grows=grows(log.arrival_ns, wait_ns),
        predicted_grows=grows(predicted.arrival_ns, predicted_wait_ns),
        failed_batches=seen.failed,
        replicas=replicas,
        most_at_once=seen.most_at_once,
        longest_idle_s=0.0 if idlest is None else int(idle_ns[idlest]) / NS_PER_S,
        idle_at_s=0.0 if idlest is None else (int(begins_ns[idlest]) - start_ns) / NS_PER_S,
        longest_service_s=0.0 if slowest is None else float(service_ns[slowest]) / NS_PER_S,
        longest_table_s=0.0 if slowest is None else float(in_table_ns[slowest]) / NS_PER_S,
        longest_at_s=0.0
        if slowest is None
        else (int(seen.dispatch_ns[known][slowest]) - start_ns) / NS_PER_S,
    )


def _tokens_of_answered(run: RunLog, log: StageLog) -> Float64:
    """Tokens at a stage of each query with a good answer, shape (answered,); a single 0 if there is none.

    One that failed, or was turned away, may not have come this far.
    """
    numbers = np.sort(run.queries.query[run.queries.ok])
    if not numbers.size:
        return np.zeros(1)
    came = log.query[~log.has_error]
    ours = np.searchsorted(numbers, came[np.isin(came, numbers)])
    return np.bincount(ours, minlength=numbers.size).astype(np.float64)


def _table_ns(plan: Plan, stage: str) -> Int64:
    """ℓ(1), ℓ(2), … as far as it was measured, beyond the plan's cap."""
    table = plan.table(stage)
    return table.service_ns(table.largest_batch)


def _compare_service(
    seen: StageBatches, size: int, table_ns: Int64, params: ResamplingParams
) -> ServiceComparison:
    times_ns = seen.service_ns[seen.size == size]
    p50 = quantile_range(times_ns, 0.5, params.confidence)
    p99 = quantile_range(times_ns, 0.99, params.confidence)
    table_s = int(table_ns[size - 1]) / NS_PER_S if size <= table_ns.size else None
    return ServiceComparison(
        size, times_ns.size, p50.value_ns / NS_PER_S, _interval(p50), p99.value_ns / NS_PER_S, table_s
    )


def _nearest_served_wait_ns(
    sides: Sides, stage: str, log: StageLog, seen: StageBatches
) -> tuple[Int64 | None, bool]:
    """Waits of the log's tokens, in its order, if the stage dispatched by the plan's law; None if it saw no batch.

    Whether a dispatcher wakes up for the first output of a batch above, or when all of them are there, is a matter of
    microseconds, and changes waits a lot. Either is by the law: of both, the one that is nearer to what was measured,
    and whether that is the second.
    """
    if not seen.size.size:
        return None, False
    apart_ns = _served_wait_ns(sides, stage, log, seen, log.arrival_ns)
    joined_ns = _joined_arrivals_ns(log.arrival_ns)
    if np.array_equal(joined_ns, log.arrival_ns):
        return apart_ns, False
    together_ns = _served_wait_ns(sides, stage, log, seen, joined_ns)
    measured = _mean(log.dispatch_ns - log.arrival_ns)
    is_together = abs(_mean(together_ns) - measured) < abs(_mean(apart_ns) - measured)
    return (together_ns if is_together else apart_ns), is_together


def _joined_arrivals_ns(arrival_ns: Int64) -> Int64:
    """Move each arrival to the last one of its group: neighbours that are hardly apart."""
    order = np.argsort(arrival_ns, kind="stable")
    ordered = arrival_ns[order]
    ends = np.append(np.diff(ordered) > _HARDLY_APART_NS, True)
    lasts = np.flatnonzero(ends)
    joined_ns = np.empty_like(arrival_ns)
    joined_ns[order] = ordered[lasts[np.cumsum(ends) - ends]]
    return joined_ns


def _served_wait_ns(sides: Sides, stage: str, log: StageLog, seen: StageBatches, arrival_ns: Int64) -> Int64:
    """Waits of the log's tokens, in its order, if the plan's law saw them come at these times, which are no earlier."""
    choice, law = sides.plan.choices[stage], sides.law[stage]
    table_ns = sides.held.service_ns(stage)
    service_ns = _measured_levels(seen, table_ns)
    if law is DispatchLaw.TIMED:  # what is done before its time is held back
        service_ns = np.maximum(service_ns, table_ns)
    is_fifo = sides.result.discipline == Discipline.FIFO
    # Token order is that of ingress: queries are numbered by when they should be sent, which is nearly the same.
    order = np.lexsort((log.arrival_ns, log.query))
    task = StageTask(
        np.ascontiguousarray(arrival_ns[order] - log.arrival_ns.min()),
        service_ns,
        Capacity.constant(choice.replicas),
        is_fifo,
        np.random.default_rng(sides.params.seed).integers(0, _LEVELS, order.size).astype(np.uint16),
        pace_ns=table_ns if law is DispatchLaw.PACED else None,
        system=_boundless(sides.system.get(stage)),
        draws=stage,
    )
    needed = {EngineFeature.RANDOM_SERVICE} | ({EngineFeature.PACED} if law is DispatchLaw.PACED else set())
    needed |= set() if task.system is None else {EngineFeature.SYSTEM}
    (served,) = resolve_engine("auto", frozenset(needed), order.size).serve_many([task])
    taken_ns = np.empty(order.size, dtype=np.int64)
    taken_ns[order] = served.dispatch_ns
    since_arrival_ns: Int64 = taken_ns - (log.arrival_ns - log.arrival_ns.min())
    return since_arrival_ns


def _boundless(system: ServingSystem | None) -> ServingSystem | None:
    """The law without its bound: tokens that were turned away are not among those that the log has batches of."""
    return None if system is None else replace(system, most_waiting=None)


def _measured_levels(seen: StageBatches, table_ns: Int64) -> Int64:
    """Service times that were measured, shape (levels, b): the median by size, times levels of what is usual around.

    Sizes that were not seen lie between those that were, as the table has it. Levels reach to 1.6 % at each end, so
    that a stall is no usual service time.
    """
    sizes = seen.sizes
    medians = np.array([np.median(seen.service_ns[seen.size == size]) for size in sizes])
    inside = sizes <= table_ns.size
    by_size: Float64 = table_ns.astype(np.float64)
    if inside.any():
        ratios = medians[inside] / table_ns[sizes[inside] - 1]
        by_size *= np.interp(np.arange(1, table_ns.size + 1), sizes[inside], ratios)
    around = seen.service_ns / np.maximum(medians[np.searchsorted(sizes, seen.size)], 1.0)
    levels = np.quantile(around, (np.arange(_LEVELS) + 0.5) / _LEVELS)
    drawn_ns: Int64 = np.maximum(1, np.rint(levels[:, np.newaxis] * by_size)).astype(np.int64)
    return drawn_ns


def compare_hops(sides: Sides) -> tuple[HopComparison, ...]:
    """Compare the ways between stages, and from and to the sender."""
    edges = [(edge.parent, edge.child) for edge in sides.plan.pipeline.edges]
    released = released_log(sides.held, sides.measured, sides.law)
    measured = hops_of(released.queries, released.stages, edges)
    predicted = hops_of(sides.predicted.queries, sides.predicted.stages, edges)
    found = []
    for (above, below), times_ns in measured.items():
        p50 = quantile_range(times_ns, 0.5, sides.params.confidence)
        stated_ns = float(np.median(predicted[above, below])) if (above, below) in predicted else 0.0
        found.append(
            HopComparison(
                above,
                below,
                times_ns.size,
                p50.value_ns / NS_PER_S,
                _interval(p50),
                stated_ns / NS_PER_S,
                _stagger_s(sides.measured.stages, above, below),
                _stagger_s(sides.predicted.stages, above, below),
            )
        )
    return tuple(found)


def _stagger_s(log: StageLog, above: str, below: str) -> float | None:
    """How far apart the outputs of one batch arrive at the next stage, in the median (s)."""
    came, left = log.at(below), log.at(above)
    # Where a query has several tokens, who came from where is not told.
    numbers, first, counts = np.unique(left.query, return_index=True, return_counts=True)
    alone = numbers[counts == 1]
    place = np.minimum(np.searchsorted(alone, came.query), max(alone.size - 1, 0))
    known = alone[place] == came.query if alone.size else np.zeros(len(came), dtype=np.bool_)
    batch = left.batch[first[counts == 1][place[known]]] if alone.size else alone
    order = np.lexsort((came.arrival_ns[known], batch))
    gaps_ns = np.diff(came.arrival_ns[known][order])[np.diff(batch[order]) == 0]
    return float(np.median(gaps_ns)) / NS_PER_S if gaps_ns.size else None


def _interval(found: QuantileRange) -> Interval | None:
    if found.low_ns is None or found.high_ns is None:
        return None
    return Interval(found.low_ns / NS_PER_S, found.high_ns / NS_PER_S)


def _mean(values: Int64) -> float:
    return float(values.mean()) if values.size else 0.0


def _counts(sizes: Int64) -> dict[int, int]:
    values, counts = np.unique(sizes, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))
