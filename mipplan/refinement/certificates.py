"""Sharp certificates of single stages for searches, in the place of their replays.

No exit is bounded below the one of the replay, so what the replay of a part refutes, its certificate refutes, too. A
replay takes a hundredth of the time: only what it does not refute is bounded.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mipplan.certificate import SharpEvaluator, StageBound, StageSetting
from mipplan.core import Bool, Int64
from mipplan.options import Configuration, Option
from mipplan.pipeline import DispatchLaw
from mipplan.refinement.bounds import LeastTimes
from mipplan.refinement.problem import RefinementProblem
from mipplan.replayer import StageReplays, StageRun
from mipplan.result import RunClass


@dataclass(frozen=True)
class BoundCacheParams:
    """What a cache of bounds may hold."""

    most_tokens: int = 6_000_000
    """Bounds on at most 6,000,000 tokens, which take about 400 MB, or on those of one plan; the longest unused go
    first."""


@dataclass(frozen=True, eq=False)
class BoundedRun(StageRun):
    """A stage bounded under one option: its exits are the latest ones, or those of a replay that refutes it."""

    replayed: StageRun
    bound: StageBound | None  # None if the replay refutes it.
    late: Int64  # Queries that are late for certain, judged by this stage.


class StageCertificates(StageReplays):
    """Bounds stages of a workload under options, and remembers the latest bounds."""

    def __init__(
        self,
        problem: RefinementProblem,
        replays: StageReplays,
        runs: RunClass,
        params: BoundCacheParams = BoundCacheParams(),
    ) -> None:
        self.workload = problem.workload
        self._replays = replays
        self._problem = problem
        self._evaluator = SharpEvaluator(problem.workload, runs)
        self._bounded: OrderedDict[tuple[Hashable, ...], BoundedRun] = OrderedDict()
        tokens = sum(made.count for made in problem.workload.stages.values())
        self._room = max(params.most_tokens, tokens)
        self._counter = itertools.count(1)

    @property
    def together(self) -> int:
        """How many stages are best asked for at once."""
        return 1

    @cached_property
    def _times(self) -> LeastTimes:
        """Made when it is asked for: until then a stage may have no options."""
        return LeastTimes(self._problem)

    def serve(
        self,
        stage: str,
        options: Sequence[Option],  # type: ignore[override]
        above: Mapping[str, StageRun],
        spend: Callable[[int], None] = lambda _: None,
    ) -> list[StageRun]:
        """Bound a stage under each of these options, where `above` was bounded at all stages above.

        `spend` is told how many replays and bounds are to be made, before they are; it may refuse by raising.
        """
        bounded = {name: run for name, run in above.items() if isinstance(run, BoundedRun)}
        replayed = {name: run.replayed for name, run in bounded.items()}
        runs = self._replays.serve(stage, options, replayed, spend)
        late = np.zeros(self.workload.queries, dtype=np.bool_)
        for run in bounded.values():
            late[run.late] = True
        return [
            self._bound(stage, option, run, bounded, late, spend)
            for option, run in zip(options, runs, strict=True)
        ]

    def serve_alone(
        self,
        arrival_ns: Int64,
        options: Sequence[Option],  # type: ignore[override]
        spend: Callable[[int], None] = lambda _: None,
    ) -> list[StageRun]:
        """Replay tokens that arrive at these times: what a stage does on its own only guides a search."""
        return self._replays.serve_alone(arrival_ns, options, spend)

    def certificate_ns(self, plan: Configuration) -> int:
        """Certificate of a plan that keeps the deadline; its bounds are at hand if it was the last looked at."""
        runs: dict[str, StageRun] = {}
        for stage in self.workload.stages:
            (runs[stage],) = self.serve(stage, [plan[stage]], runs)
        exits = {stage: run.exit_ns for stage, run in runs.items()}
        return self._problem.criterion.figure_ns(self.workload.latency_ns(exits))

    def _bound(
        self,
        stage: str,
        option: Option,
        replayed: StageRun,
        above: Mapping[str, BoundedRun],
        late: Bool,
        spend: Callable[[int], None],
    ) -> BoundedRun:
        parents = [edge.parent for edge in self.workload.pipeline.incoming(stage)]
        known = self._refuted(stage, replayed, late)
        if known is not None or any(above[parent].bound is None for parent in parents):
            own = self._times.late_queries(stage, replayed.exit_ns) if known is None else known
            return BoundedRun(-replayed.number, replayed.exit_ns, replayed.sent_ns, True, replayed, None, own)
        key = (stage, option.choice, tuple(above[parent].number for parent in parents))
        found = self._bounded.pop(key, None)
        if found is None:
            spend(1)
            found = self._evaluate(stage, option, replayed, above, lambda: spend(0))
            self._room -= found.exit_ns.size
        self._bounded[key] = found  # Behind all others: it is the latest.
        while self._room < 0 and len(self._bounded) > 1:
            _, oldest = self._bounded.popitem(last=False)
            self._room += oldest.exit_ns.size
        return found

    def _refuted(self, stage: str, replayed: StageRun, late: Bool) -> Int64 | None:
        """Queries that the replay of a stage makes late, if with those of the stages above they are too many."""
        own = self._times.late_queries(stage, replayed.exit_ns)
        together = late.copy()
        together[own] = True
        return own if self._problem.criterion.main.is_exceeded(together) else None

    def _evaluate(
        self,
        stage: str,
        option: Option,
        replayed: StageRun,
        above: Mapping[str, BoundedRun],
        check: Callable[[], None],
    ) -> BoundedRun:
        bounds = {name: run.bound for name, run in above.items() if run.bound is not None}
        family = option.family
        setting = StageSetting(family.service_ns, option.replicas, family.stagger_ns, family.law)
        bound = self._evaluator.bound_stage(stage, setting, bounds, check)
        exit_ns, dispatch_ns = bound.tokens.latest_exit_ns, bound.tokens.latest_dispatch_ns
        waits = bool(np.any(dispatch_ns > bound.arrivals.latest_ns)) or self._is_felt(stage, option)
        late = self._times.late_queries(stage, exit_ns)
        return BoundedRun(next(self._counter), exit_ns, bound.latest_sent_ns, waits, replayed, bound, late)

    def _is_felt(self, stage: str, option: Option) -> bool:
        """Whether more replicas may make an exit earlier although no token can wait: see [not monotone][not-monotone].

        Where more tokens may be overtaken below, arrivals further below may be later, and that may lower a bound. And
        with very many paced replicas, δ in whole nanoseconds need not fall as it should.
        """
        pipeline, runs, replicas = self.workload.pipeline, self._evaluator.runs, option.replicas
        is_known = runs.is_settled and (runs.least_service > 0.0 or replicas == 1)
        if is_known and any(pipeline.outgoing(edge.child) for edge in pipeline.outgoing(stage)):
            return True
        longest_ns = int(option.family.service_ns.max())
        return option.family.law is DispatchLaw.PACED and longest_ns < (replicas - 1) ** 2 * (replicas + 1)
