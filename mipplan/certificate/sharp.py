"""The sharp certificate of a whole pipeline: intervals of arrival carried from stage to stage.

Statement and proof: [The sharp certificate][the-sharp-certificate]. What each stage guarantees is in
`mipplan.calculus.intervals`; here stands what one stage tells the next: when its tokens arrive, which of them arrive
together, and how many can overtake.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from mipplan.calculus import StageArrivals, StageBounds, bound_stage
from mipplan.certificate.classic import last_way, most_served, slack_ns, sped_up
from mipplan.core import Int64
from mipplan.pipeline import DispatchLaw, Edge
from mipplan.result import CriticalStage, RunClass
from mipplan.tokens import Messages, Workload


@dataclass(frozen=True)
class StageSetting:
    """What serves a stage: ℓ(1), …, ℓ(b) in ns, shape (b,), replicas, and how far apart outputs are sent on, ns."""

    service_ns: Int64
    replicas: int
    stagger_ns: int = 0
    law: DispatchLaw = DispatchLaw.EAGER


@dataclass(frozen=True)
class StageBound:
    """A stage under a setting, with what is known of its arrivals and its tokens."""

    setting: StageSetting
    arrivals: StageArrivals
    tokens: StageBounds

    @property
    def latest_sent_ns(self) -> Int64:
        """When what each token makes is sent on at the latest, ns."""
        stagger_ns = self.setting.stagger_ns
        latest_ns = self.tokens.latest_exit_ns
        return latest_ns + (self.tokens.largest_batch - 1) * stagger_ns if stagger_ns else latest_ns


class SharpEvaluator:
    """Sharp certificates on one workload, for one class of runs, stage by stage."""

    def __init__(self, workload: Workload, runs: RunClass, *, is_compiled: bool | None = None) -> None:
        self.workload = workload
        self.runs = runs
        self._is_compiled = is_compiled
        self._early = workload if runs.least_delay == 1.0 else sped_up(workload, runs)
        self._inflows: dict[str, _Inflow] = {}

    def bound(self, settings: Mapping[str, StageSetting]) -> dict[str, StageBound]:
        """Bound the tokens of all stages, in topological order."""
        made: dict[str, StageBound] = {}
        for stage in self.workload.stages:
            made[stage] = self.bound_stage(stage, settings[stage], made)
        return made

    def bound_stage(
        self,
        stage: str,
        setting: StageSetting,
        above: Mapping[str, StageBound],
        check: Callable[[], None] = lambda: None,
    ) -> StageBound:
        """Bound the tokens of a stage, whose parents are bounded in `above`; `check` may end it by raising."""
        arrivals = self.arrivals(stage, above)
        tokens = bound_stage(
            arrivals,
            setting.service_ns,
            setting.replicas,
            not self.workload.stages[stage].messages,
            self.runs,
            setting.law,
            is_compiled=self._is_compiled,
            check=check,
        )
        return StageBound(setting, arrivals, tokens)

    def arrivals(self, stage: str, above: Mapping[str, StageBound]) -> StageArrivals:
        """What is known of the arrivals at a stage, whose parents are bounded in `above`."""
        parents = {edge.parent for edge in self.workload.pipeline.incoming(stage)}
        earliest = {parent: above[parent].tokens.earliest_exit_ns for parent in parents}
        latest = {parent: above[parent].latest_sent_ns for parent in parents}
        if stage not in self._inflows:
            self._inflows[stage] = _Inflow.of(self.workload, stage, self.runs)
        inflow = self._inflows[stage]
        return StageArrivals(
            self._early.arrival_ns(stage, earliest),
            self.workload.arrival_ns(stage, latest),
            inflow.group,
            inflow.overtakers(above, self.runs),
        )

    def critical_path(self, bounds: Mapping[str, StageBound], query: int) -> tuple[CriticalStage, ...]:
        """Follow a query's last exit back to its source, at each join along the latest arrival.

        At a stage the wait is from the latest arrival to the latest dispatch that gives the exit, and T the rest.
        """
        exits = {stage: bound.tokens.latest_exit_ns for stage, bound in bounds.items()}
        sent = {stage: bound.latest_sent_ns for stage, bound in bounds.items()}
        path: list[CriticalStage] = []
        way = list(last_way(self.workload, exits, query, sent))
        for stage, token, arrival_ns, left_ns, edge in reversed(way):
            wait_ns = max(0, _start_ns(bounds[stage], token) - arrival_ns)
            latency_ns = left_ns - arrival_ns - wait_ns
            path.append(CriticalStage(stage, latency_ns, wait_ns, 0 if edge is None else edge.delay_ns))
        return tuple(path)


def _start_ns(bound: StageBound, token: int) -> int:
    """The last dispatch after which the token's batch can take until its latest exit."""
    tokens, arrivals = bound.tokens, bound.arrivals
    dispatch_ns = tokens.latest_dispatch_ns
    mine = (dispatch_ns >= arrivals.earliest_ns[token]) & (dispatch_ns <= dispatch_ns[token])
    longest_ns = np.maximum.accumulate(bound.setting.service_ns)
    for start_ns in np.unique(dispatch_ns[mine])[::-1].tolist():
        size = int(np.count_nonzero((arrivals.earliest_ns <= start_ns) & (dispatch_ns >= start_ns)))
        if start_ns + longest_ns[min(size, longest_ns.size) - 1] == tokens.latest_exit_ns[token]:
            return int(start_ns)
    raise AssertionError("the latest exit is attained at some latest dispatch")


@dataclass(frozen=True)
class _Inflow:
    """What about the arrivals at a stage does not depend on times."""

    group: Int64
    # All edges, if every token gets one message along each, else none: what can be known of order comes along these.
    ordered: tuple[Messages, ...]
    copies: int  # Most messages of one parent token.
    is_source: bool

    @classmethod
    def of(cls, workload: Workload, stage: str, runs: RunClass) -> _Inflow:
        tokens = workload.stages[stage]
        each = np.arange(tokens.count, dtype=np.int64)
        if not runs.is_settled:
            return cls(each, (), 1, False)
        if not tokens.messages:
            return cls(_numbered(workload.ingress_ns[tokens.query]), (), 1, True)
        sent = [messages for messages in tokens.messages if messages.parent.size]
        if sum(messages.parent.size for messages in sent) == tokens.count:
            # One message per token, or some token would have none.
            sender, edge = np.empty_like(each), np.empty_like(each)
            for number, messages in enumerate(sent):
                sender[messages.child], edge[messages.child] = messages.parent, number
            exact = all(m.edge.delay_ns == runs.least_delay_ns(m.edge.delay_ns) for m in sent)
            group = _numbered(sender, edge) if exact else each
            ordered = tuple(sent) if len(sent) == 1 else ()
            copies = int(np.bincount(sent[0].parent).max()) if ordered else 1
            return cls(group, ordered, copies, False)
        complete = all(_is_once_each(messages.child, tokens.count) for messages in sent)
        return cls(each, tuple(sent) if complete else (), 1, False)

    def overtakers(self, above: Mapping[str, StageBound], runs: RunClass) -> Int64:
        """How many younger tokens can be dispatched before each arrives; −1: unknown.

        By the [lemma (overtaking)][lemma-overtaking].
        """
        known = np.full(self.group.size, 0 if self.is_source or self.ordered else -1, dtype=np.int64)
        for messages in self.ordered:
            parent = above[messages.edge.parent]
            behind = self._overtakers_behind(parent, messages.edge, runs)[messages.parent]
            told = np.empty_like(behind)
            told[messages.child] = behind
            known = np.where((known < 0) | (told < 0), np.int64(-1), known + told)
        return known

    def _overtakers_behind(self, parent: StageBound, edge: Edge, runs: RunClass) -> Int64:
        """The same for what the tokens of one parent send along an edge, shape (tokens of the parent,)."""
        passed, batch = parent.arrivals.overtakers, parent.tokens.largest_batch
        setting, others = parent.setting, parent.setting.replicas - 1
        spread_ns = (setting.service_ns.size - 1) * setting.stagger_ns
        jitter_ns = slack_ns(edge, runs, spread_ns, setting.service_ns)
        if runs.least_service == 0.0 and (others or jitter_ns):
            return np.full(passed.size, -1, dtype=np.int64)
        service_ns = setting.service_ns[: batch.max(initial=1)]
        least_ns = runs.least_service_ns(service_ns)
        late_ns = jitter_ns + (batch - 1) * setting.stagger_ns
        found = passed.copy()
        if others:
            found += others * most_served(np.maximum.accumulate(service_ns)[batch - 1] + late_ns, least_ns)
        if jitter_ns:
            found += batch - 1 + most_served(late_ns, least_ns)
        # What grows from stage to stage would leave int64; no stage has as many tokens as 2³⁰.
        found = np.minimum(self.copies * found + (self.copies - 1 if jitter_ns else 0), 2**30)
        return np.where(passed < 0, np.int64(-1), found)


def _numbered(*marks: Int64) -> Int64:
    """Number the runs of neighbours that are alike in all marks."""
    changes = np.zeros(marks[0].size, dtype=np.int64)
    for mark in marks:
        changes[1:] |= mark[1:] != mark[:-1]
    return np.cumsum(changes)


def _is_once_each(child: Int64, count: int) -> bool:
    return child.size == count and np.array_equal(child, np.arange(count))
