"""Replay plans piece by piece, carrying over what is unfinished; bit-equal to one replay of everything.

Pipelines are feed-forward. When all queries that enter up to an instant H are known, so is everything that arrives
at a source up to H, and every dispatch there up to H is final. A batch takes at least 1 ns, so whatever arrives
at a stage up to H comes from dispatches above it before H: stage after stage, all dispatches up to H are final.
Later ones wait for the next piece. Queries with a token not yet dispatched stay in a *window*, with what is
known of their tokens; the others are released.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mipplan.core import Int64
from mipplan.replayer.engines import Engine
from mipplan.replayer.task import ALWAYS, NEVER, Capacity, Served, StageTask, latest_exit_ns
from mipplan.replayer.tasks import Conditions, stage_identity, stage_task
from mipplan.result import Plan, StageTotals
from mipplan.tokens import Workload, joined, realise_queries, without_first

#: Exit of a token that was not dispatched yet: beyond every time, and adding a delay to it does not overflow.
UNKNOWN = NEVER // 2


@dataclass(frozen=True)
class Released:
    """Queries that are finished under every plan.

    Attributes
    ----------
    query : int64, shape (k,)
        Their numbers in the whole trace, increasing.
    ingress_ns : int64, shape (k,)
    latency_ns : tuple of int64, shape (k,)
        One array per plan.
    """

    query: Int64
    ingress_ns: Int64
    latency_ns: tuple[Int64, ...]


@dataclass
class _Lane:
    """A stage as at least one plan configures it, below parents as that plan configures them.

    Attributes
    ----------
    parents : dict of str to int
        The lane of each parent stage.
    blank : StageTask
        Service times, capacity and discipline, without a token.
    totals : StageTotals
        Of everything dispatched so far.
    exit_ns : int64, shape (tokens,)
        Of the window's tokens; `UNKNOWN` if not dispatched.
    busy_until_ns : int64, shape (m,)
        Ends of the batches under way.
    latest_ns : int
        No batch served so far ends later.
    """

    parents: dict[str, int]
    blank: StageTask
    totals: StageTotals
    exit_ns: Int64
    busy_until_ns: Int64
    latest_ns: int = ALWAYS


class ChunkedReplay:
    """Replays of plans of one pipeline on the same tokens, in step; alike stages below alike stages are shared.

    Parameters
    ----------
    plans : sequence of Plan
        Of one pipeline.
    conditions : Conditions
    engine : Engine
        That can do what they need, and `Feature.RESUME`.
    seed : int
        Of the token draws.
    watch : callable, optional
        Told of each stage, as one plan has it, what an engine was asked for and what it answered.
    """

    def __init__(
        self,
        plans: Sequence[Plan],
        conditions: Conditions,
        engine: Engine,
        seed: int,
        watch: Callable[[str, StageTask, Served], None] | None = None,
    ) -> None:
        self._conditions, self._engine, self._seed, self._watch = conditions, engine, seed, watch
        self._pipeline = plans[0].pipeline
        self._window: Workload = realise_queries(self._pipeline, np.empty(0, dtype=np.int64), seed)
        #: Numbers in the whole trace of the window's queries, increasing.
        self.query: Int64 = np.empty(0, dtype=np.int64)
        self._seen = 0
        self._served_until_ns = self._until_ns = ALWAYS
        self._lanes: dict[str, dict[int, _Lane]] = {stage: {} for stage in self._window.stages}
        self._lane_of: list[dict[str, int]] = [{} for _ in plans]
        self._make_lanes(plans)

    def _make_lanes(self, plans: Sequence[Plan]) -> None:
        for stage, lanes in self._lanes.items():
            numbers: dict[tuple[object, ...], int] = {}
            for plan, lane_of in zip(plans, self._lane_of, strict=True):
                parents = {edge.parent: lane_of[edge.parent] for edge in self._pipeline.incoming(stage)}
                identity = (stage_identity(plan, stage, self._conditions), *parents.values())
                number = numbers.setdefault(identity, len(numbers))
                lane_of[stage] = number
                if number not in lanes:
                    nothing = np.empty(0, dtype=np.int64)
                    blank = stage_task(plan, stage, nothing, self._conditions)
                    totals = StageTotals(blank.capacity.most)
                    lanes[number] = _Lane(parents, blank, totals, nothing, nothing)

    @property
    def seen(self) -> int:
        """Queries taken in so far."""
        return self._seen

    @property
    def carried_tokens(self) -> int:
        """Tokens of the queries that were not released yet, at all stages."""
        return sum(tokens.count for tokens in self._window.stages.values())

    def totals(self, plan: int) -> dict[str, StageTotals]:
        """What each stage did so far under one plan, in topological order."""
        return {stage: lanes[self._lane_of[plan][stage]].totals for stage, lanes in self._lanes.items()}

    def set_capacity(self, capacities: Mapping[str, Capacity]) -> None:
        """Change how many replicas these stages may use, under all plans, later than the instant reached.

        Parameters
        ----------
        capacities : mapping of str to Capacity
            What they say about the time up to that instant has no effect.
        """
        for stage, capacity in capacities.items():
            for lane in self._lanes[stage].values():
                lane.blank = replace(lane.blank, capacity=capacity)

    def advance(self, ingress_ns: Int64, until_ns: int = NEVER) -> None:
        """Take in the next queries, and serve everything that happens up to an instant.

        Parameters
        ----------
        ingress_ns : int64, shape (k,)
            Non-decreasing, and all later than `until_ns` of the call before.
        until_ns : int
            Before the ingress of every query still to come; by default there is none.
        """
        chunk = realise_queries(self._pipeline, ingress_ns, self._seed, self._seen)
        numbers = np.arange(self._seen, self._seen + ingress_ns.size, dtype=np.int64)
        self._seen += ingress_ns.size
        self.query = np.concatenate([self.query, numbers])
        self._window = joined(self._window, chunk)
        self._served_until_ns, self._until_ns = self._until_ns, until_ns
        for stage, lanes in self._lanes.items():
            undispatched = np.full(chunk.stages[stage].count, UNKNOWN, dtype=np.int64)
            for lane in lanes.values():
                lane.exit_ns = np.concatenate([lane.exit_ns, undispatched])
            self._serve(stage, list(lanes.values()))

    def _serve(self, stage: str, lanes: list[_Lane]) -> None:
        level = self._conditions.levels(self._seed, self._window.stages[stage], self.query)
        ready, tasks = [], []
        for lane in lanes:
            arrival_ns = self._arrival_ns(stage, lane)
            tokens = np.flatnonzero((lane.exit_ns == UNKNOWN) & (arrival_ns <= self._until_ns))
            ready.append(tokens)
            tasks.append(
                replace(
                    lane.blank,
                    arrival_ns=arrival_ns[tokens],
                    capacity=_capacity_after(self._served_until_ns, lane.blank.capacity),
                    level=None if level is None else level[tokens],
                    busy_until_ns=lane.busy_until_ns,
                    until_ns=self._until_ns,
                )
            )
            lane.latest_ns = max(lane.latest_ns, latest_exit_ns(tasks[-1], self._arrived_ns(stage, lane)))
        answers = self._engine.serve_many(tasks)
        for lane, tokens, task, served in zip(lanes, ready, tasks, answers, strict=True):
            self._record(lane, tokens, task, served)
            if self._watch is not None:
                self._watch(stage, task, served)

    def _arrived_ns(self, stage: str, lane: _Lane) -> int:
        """Bound the arrivals that are served now."""
        if self._until_ns < NEVER:
            return self._until_ns
        last_ns = int(self._window.ingress_ns[-1]) if self._window.queries else ALWAYS
        above = (
            self._lanes[edge.parent][lane.parents[edge.parent]].latest_ns + edge.delay_ns
            for edge in self._pipeline.incoming(stage)
        )
        return max(above, default=last_ns)

    def _record(self, lane: _Lane, tokens: Int64, task: StageTask, served: Served) -> None:
        lane.exit_ns[tokens] = np.minimum(served.exit_ns, UNKNOWN)
        ends_ns = np.concatenate([lane.busy_until_ns, served.batch_start_ns + served.batch_service_ns])
        lane.busy_until_ns = ends_ns[ends_ns > self._until_ns]
        lane.totals = lane.totals.plus(task.arrival_ns, served)

    def _arrival_ns(self, stage: str, lane: _Lane) -> Int64:
        """When the window's tokens are ready; at least `UNKNOWN` if that is not known yet."""
        exits = {parent: self._lanes[parent][number].exit_ns for parent, number in lane.parents.items()}
        return self._window.arrival_ns(stage, exits)

    def _lane(self, plan: int, stage: str) -> _Lane:
        return self._lanes[stage][self._lane_of[plan][stage]]

    def release(self, plans: Iterable[int]) -> Released:
        """Hand over the queries that are finished under all of these plans, and forget them.

        Plans left out are given up: they are served no further, and must not be asked for again.
        """
        asked = list(plans)
        self._give_up_all_but(asked)
        latencies = [self._latency_ns(plan) for plan in asked]
        finished = np.ones(self._window.queries, dtype=bool)
        for latency_ns in latencies:
            # An unknown exit is far beyond every known one, whichever time is taken off it.
            finished &= latency_ns < UNKNOWN // 2
        released = Released(
            self.query[finished],
            self._window.ingress_ns[finished],
            tuple(latency_ns[finished] for latency_ns in latencies),
        )
        self._keep(~finished)
        return released

    def _latency_ns(self, plan: int) -> Int64:
        return self._window.latency_ns({stage: self._lane(plan, stage).exit_ns for stage in self._lanes})

    def _give_up_all_but(self, plans: list[int]) -> None:
        for stage, lanes in self._lanes.items():
            used = {self._lane_of[plan][stage] for plan in plans}
            self._lanes[stage] = {number: lane for number, lane in lanes.items() if number in used}

    def _keep(self, kept: NDArray[np.bool_]) -> None:
        """Keep these of the window's queries. Most often they are its last few: so cut first, then pick."""
        first = int(np.argmax(kept)) if kept.any() else kept.size
        picked = kept[first:]
        rest = without_first(self._window, first)
        for stage, lanes in self._lanes.items():
            tokens = rest.stages[stage]
            mark = picked[tokens.query]
            for lane in lanes.values():
                lane.exit_ns = lane.exit_ns[lane.exit_ns.size - tokens.count :][mark]
        self._window = rest if picked.all() else rest.restricted(picked)
        self.query = self.query[kept]

    def latency_floor_ns(self, plan: int) -> tuple[Int64, NDArray[np.bool_]]:
        """Bound the latency of the window's queries under one plan from below, as far as it is known.

        Returns
        -------
        floor_ns : int64, shape (k,)
            For a finished query its latency. For another, its tokens are dispatched after the instant reached,
            and not before they are ready, and then take the fastest batch of each stage still ahead.
        finished : bool, shape (k,)
        """
        exits: dict[str, Int64] = {}
        later_ns = min(self._until_ns, UNKNOWN) + 1
        for stage in self._lanes:
            lane = self._lane(plan, stage)
            ready_ns = np.maximum(self._window.arrival_ns(stage, exits), later_ns)
            exits[stage] = np.where(
                lane.exit_ns == UNKNOWN, ready_ns + int(lane.blank.service_ns.min()), lane.exit_ns
            )
        return self._window.latency_ns(exits), self._latency_ns(plan) < UNKNOWN // 2


def _capacity_after(instant_ns: int, capacity: Capacity) -> Capacity:
    """Let nothing start up to an instant, as everything up to it is served.

    Where replicas are constant, a token still waiting then has all of them busy. But where they change, a stage
    without any may have tokens waiting that arrived when it had some.
    """
    if capacity.is_constant or instant_ns == ALWAYS:
        return capacity
    now = int(np.searchsorted(capacity.from_ns, instant_ns + 1, side="right")) - 1
    if now == capacity.from_ns.size - 1 and capacity.from_ns[now] <= instant_ns:
        return Capacity.constant(int(capacity.replicas[now]))
    from_ns = np.concatenate([[ALWAYS, instant_ns + 1], capacity.from_ns[now + 1 :]])
    return Capacity(from_ns, np.concatenate([[0], capacity.replicas[now:]]))
