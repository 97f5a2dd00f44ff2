"""Exact replays of plans and of single stages, and what a search may spend on them.

A long trace is searched by a part of it on which most bad plans show: the queries around its worst bursts. What keeps
the deadline there must be judged on the whole trace; what does not is most probably no good either.

On its own a stage sees its tokens as early as they can arrive at all. If an option is too slow even then, it is left
aside: an earlier arrival could make a query later (a batching anomaly), but hardly ever does. Nothing of that is
proven.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from mipplan.core import Bool, Deadline, Int64, LimitReachedError, first_true, higher_rank
from mipplan.options import Configuration, Option
from mipplan.refinement.bounds import LeastTimes
from mipplan.refinement.problem import Domain, Domains, RefinementProblem, Span
from mipplan.replayer import NEVER, StageReplays, StageRun


@dataclass
class Counters:
    """What was done."""

    replays: int = 0  # Complete plans of which a replay said whether they keep the objective.
    stage_replays: int = 0  # Stages replayed; plans that agree on a stage and on all above it share one.
    # By ground: how many plans, or partial plans with all that extends them, were refuted.
    refuted: Counter[str] = field(default_factory=Counter)


@dataclass
class WorkLimit:
    """Time and stage replays that one search may use; what it does is counted."""

    counters: Counters = field(default_factory=Counters)
    deadline: Deadline = field(default_factory=Deadline)
    most_stage_replays: float = float("inf")
    _used: int = 0

    def spend(self, stage_replays: int) -> None:
        """Take stage replays off the allowance, before they are made.

        Raises `LimitReachedError` if the time or the work is used up.
        """
        self._used += stage_replays
        if self._used > self.most_stage_replays or self.deadline.is_over:
            raise LimitReachedError
        self.counters.stage_replays += stage_replays


class ReplayOracle:
    """Says of single plans, made of the problem's domains, whether they keep the deadline."""

    def __init__(self, problem: RefinementProblem, replays: StageReplays) -> None:
        self.problem = problem
        self.replays = replays
        self.times = LeastTimes(problem)

    def keeps(self, plan: Configuration, limit: WorkLimit) -> bool:
        """Whether a plan keeps deadline, device limits and accuracy."""
        return self.problem.allows(plan) and self.judge(plan, limit)[0]

    def judge(self, plan: Configuration, limit: WorkLimit) -> tuple[bool, int]:
        """Whether a plan keeps the deadline, and how many queries are late; once too many are, those known by then."""
        late = np.zeros(self.problem.workload.queries, dtype=np.bool_)
        runs, keeps = {}, True
        for stage, run in self.runs(plan, limit):
            runs[stage] = run
            late[self.times.late_queries(stage, run.exit_ns)] = True
            keeps = not self.problem.criterion.main.is_exceeded(late)
            if not keeps:
                break
        limit.counters.replays += 1
        return keeps and self.problem.keeps_others(runs), int(np.count_nonzero(late))

    def runs(self, plan: Configuration, limit: WorkLimit) -> Iterator[tuple[str, StageRun]]:
        """Replay the stages of a plan, one after the other."""
        runs: dict[str, StageRun] = {}
        for stage in self.problem.workload.stages:
            (runs[stage],) = self.replays.serve(stage, [plan[stage]], runs, limit.spend)
            yield stage, runs[stage]

    def lateness_ns(self, runs: Mapping[str, StageRun]) -> Int64:
        """By how much each query misses the deadline; negative if it keeps it."""
        workload = self.problem.workload
        lateness = np.full(workload.queries, -NEVER, dtype=np.int64)
        for stage, tokens in workload.stages.items():
            np.maximum.at(lateness, tokens.query, runs[stage].exit_ns - self.times.due_ns[stage])
        return lateness


@dataclass(frozen=True)
class ScreenParams:
    """Which part of a trace stands for the whole, and what is tried of a stage on its own."""

    # Traces of at most 25,000 queries are searched as they are, because replaying them is quick enough.
    longest_unscreened: int = 25_000
    queries: int = 10_000  # Longer ones are screened by about 10,000 queries.
    # Queries are taken in blocks of 500 neighbours, so that a burst comes with what leads up to it.
    block: int = 500
    # Rates of service, as multiples of the mean rate, under which waits show what is bad.
    rates: tuple[float, ...] = (1.05, 1.2, 1.5, 2.0, 3.0, 5.0)
    learning: float = 0.5  # Weight of the latest plan in the share of late queries that show on the part.
    # Numbers of replicas that are tried of a stage besides the fewest, as multiples of them.
    multiples: tuple[float, ...] = (1.0, 1.05, 1.1, 1.2, 1.3, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0)


@dataclass(eq=False)
class Screen:
    """A part of the trace in place of the whole, and how many of the late queries show there.

    What keeps the deadline on the part is judged on the whole. From every such plan is learnt how many may be late
    on the part, so that few are put forward in vain. Part and whole are the same if the trace is not screened.
    """

    part: ReplayOracle
    whole: ReplayOracle
    params: ScreenParams = ScreenParams()
    share: float = field(default=1.0, init=False)  # Of the late queries, those that show on the part.

    @property
    def problem(self) -> RefinementProblem:
        """On the part, with as many late queries as allow for those elsewhere."""
        if self.part is self.whole:
            return self.whole.problem
        return replace(self.part.problem, criterion=self.part.problem.criterion.scaled(self.share))

    def keeps(self, plan: Configuration, limit: WorkLimit) -> bool:
        """Whether a plan keeps deadline and device limits; the whole is asked only where the part does not refuse."""
        return self.part.keeps(plan, limit) and self.confirms(plan, limit)

    def confirms(self, plan: Configuration, limit: WorkLimit) -> bool:
        """Whether a plan that keeps the deadline on the part does so on the whole trace."""
        if self.part is self.whole:
            return True
        keeps, late = self.whole.judge(plan, limit)
        if late > self.whole.problem.allowed // 2:  # of a few late queries the share is a matter of chance
            share = min(1.0, self.part.judge(plan, limit)[1] / late)
            self.share += self.params.learning * (share - self.share)
        return keeps


def screen(problem: RefinementProblem, params: ScreenParams = ScreenParams()) -> RefinementProblem | None:
    """Return the problem on the worst parts of its trace; None if the trace is short enough as it is.

    As many queries may be missed there as on the whole trace, since that is where they are missed.
    """
    ingress_ns = problem.workload.ingress_ns
    if ingress_ns.size <= params.longest_unscreened:
        return None
    kept = np.repeat(_worst_blocks(ingress_ns, params), params.block)[: ingress_ns.size]
    return problem.restricted(kept)


def _worst_blocks(ingress_ns: Int64, params: ScreenParams) -> Bool:
    """Blocks of queries with the longest waits at some rate, and those just before them."""
    blocks = -(-ingress_ns.size // params.block)
    kept = np.zeros(blocks, dtype=np.bool_)
    rankings = [_rank_blocks(ingress_ns, rate, params.block) for rate in params.rates]
    for block in np.column_stack(rankings).ravel().tolist():  # the worst at any rate, then the next ones
        kept[max(0, block - 1) : block + 1] = True
        if kept.sum() >= params.queries // params.block:
            break
    return kept


def _rank_blocks(ingress_ns: Int64, rate: float, block: int) -> Int64:
    """Blocks by their longest wait at a server of this rate, the worst first."""
    span_ns = float(ingress_ns[-1] - ingress_ns[0])
    served = np.arange(ingress_ns.size) * (span_ns / ingress_ns.size / rate)
    waits = np.maximum.accumulate(ingress_ns - served) + served - ingress_ns
    worst = np.maximum.reduceat(waits, np.arange(0, ingress_ns.size, block))
    order: Int64 = np.argsort(-worst, kind="stable")
    return order


@dataclass(frozen=True)
class RatedOption:
    """An option of a stage on its own."""

    option: Option
    sojourn_ns: int  # Quantile over tokens of the time in the stage.


@dataclass(frozen=True)
class StageAlone:
    """What is worth considering for a stage."""

    domain: Domain  # Replicas enough for the stage on its own.
    # Of a sample of them, those that no other beats in both cost and time; by cost.
    frontier: tuple[RatedOption, ...]


def sufficient_domains(oracle: ReplayOracle, limit: WorkLimit) -> Domains | None:
    """Leave out what is too slow even if every token arrives as early as it can; None if nothing is left."""
    kept: dict[str, Domain] = {}
    for stage, domain in oracle.problem.domains.items():
        spans = [_sufficient(oracle, stage, span, limit) for span in domain]
        kept[stage] = tuple(span for span in spans if span is not None)
    return kept if all(kept.values()) else None


def study_stages(
    oracle: ReplayOracle, quantile: float, limit: WorkLimit, params: ScreenParams = ScreenParams()
) -> dict[str, StageAlone] | None:
    """Study every stage on its own; None if nothing would do for one of them."""
    studied: dict[str, StageAlone] = {}
    for stage, domain in (sufficient_domains(oracle, limit) or {}).items():
        sample = [Option(span.family, n) for span in domain for n in _some_replicas(span, params.multiples)]
        frontier = _rate(oracle.replays, oracle.times.arrival_ns[stage], sample, quantile, limit)
        studied[stage] = StageAlone(domain, frontier)
    return studied or None


def _sufficient(oracle: ReplayOracle, stage: str, span: Span, limit: WorkLimit) -> Span | None:
    """Leave out replicas that are too few even if every token arrives as early as it can."""

    def suffices(replicas: int) -> bool:
        option = Option(span.family, replicas)
        (run,) = oracle.replays.serve_alone(oracle.times.arrival_ns[stage], [option], limit.spend)
        return oracle.times.count_late(stage, run.exit_ns) <= oracle.problem.allowed

    low, high = span.fewest, span.fewest
    while not suffices(high):
        if high >= span.most:
            return None
        low, high = high + 1, min(span.most, 2 * high)
    return replace(span, fewest=first_true(low, high, suffices))


def _some_replicas(span: Span, multiples: Sequence[float]) -> list[int]:
    wanted = {min(span.most, round(span.fewest * multiple)) for multiple in multiples}
    return sorted(wanted | {min(span.most, span.fewest + more) for more in (1, 2, 3)})


def _rate(
    replays: StageReplays, arrival_ns: Int64, sample: Sequence[Option], quantile: float, limit: WorkLimit
) -> tuple[RatedOption, ...]:
    """Find what no other of a sample beats in both cost and time; cheapest first, so that much need not be served."""
    frontier: list[RatedOption] = []
    unsaturated: set[int] = set()
    least_ns = {id(option.family): int(option.family.service_ns.min()) for option in sample}

    def matters(option: Option) -> bool:
        """Not if it is at best as slow as something cheaper, or no different from fewer replicas."""
        key = id(option.family)
        return key not in unsaturated and (not frontier or least_ns[key] < frontier[-1].sojourn_ns)

    left = filter(matters, sorted(sample, key=lambda option: option.microusd_per_hour))
    while group := list(islice(left, replays.together)):
        for option, run in zip(group, replays.serve_alone(arrival_ns, group, limit.spend), strict=True):
            if not run.waits:
                unsaturated.add(id(option.family))
            spent = run.exit_ns - arrival_ns
            # Service times without any wait are ties by the thousands, which sorting copes with and partition does not.
            rank = higher_rank(quantile, spent.size)
            sojourn_ns = int(np.sort(spent)[rank]) if spent.size else 0
            if frontier and sojourn_ns >= frontier[-1].sojourn_ns:
                continue
            if frontier and option.microusd_per_hour == frontier[-1].option.microusd_per_hour:
                frontier.pop()
            frontier.append(RatedOption(option, sojourn_ns))
    return tuple(frontier)
