"""Waits per path and stage: the coefficients w_{p,v}(R) of the planning problem.

The proof is in [theory, section 4][4-the-bound-a-relaxation-on-any-dag].

For a path p, a stage v on it and a rate R, unrolling the theorem along p gives inside the certificate

    latency(q) ≥ Σ_p (T + delay) + W_{p,v}(q),   W_{p,v}(q) = max_j [ (i − j)/R − (t_q − t_{q(j)}) ]

where i is the last token of query q at v that goes on along p's remainder, j ≤ i runs over the tokens of v that
came along p's beginning, and i − j counts all tokens of v. Neither need come from the same query: under oldest
first a token waits for older ones, whichever way those came. W is −∞ where there is no such i or j.

`WaitCurve` evaluates the quantile of W over *all* queries, so `PathWaits.bound_ns` never exceeds the certificate,
for any plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from mipplan.calculus.samplepath import StageService, service_time_ns
from mipplan.calculus.waits import Probes, Wait, WaitCurve
from mipplan.core import Bool, Int64, higher_rank
from mipplan.pipeline import Edge
from mipplan.tokens import Messages, StageTokens, Workload

#: At most 512 paths are looked at, because there can be exponentially many: the bound stays a relaxation, only a
#: weaker one.
MAX_PATHS = 512


@dataclass(frozen=True)
class PathWait:
    """One path that enough queries take for the quantile to see it."""

    stages: tuple[str, ...]
    lag_ns: int  # Sum of the delays along it.
    curves: tuple[Wait, ...]  # One per stage of the path.


@dataclass(frozen=True)
class PathWaits:
    """All paths of a workload at one quantile."""

    paths: tuple[PathWait, ...]
    # Whether there were more than `MAX_PATHS`: some are missing, and the bound is weaker for it.
    truncated: bool
    # Per stage, tokens of the same query that are served before its last one whatever the wait; none for a
    # trace, where the waits count them.
    serial_tokens: Mapping[str, int] = field(default_factory=dict)

    def bound_ns(self, services: Mapping[str, StageService]) -> int:
        """Latency bound of a plan: max over paths of ΣT + Σdelays + max wait. Never above the certificate."""
        worst = 0
        for path in self.paths:
            chosen = [services[stage] for stage in path.stages]
            waits = (
                curve.exact(service.period_ns, service.tokens)
                for curve, service in zip(path.curves, chosen, strict=True)
            )
            durations = (
                service_time_ns(service, self.serial_tokens.get(stage, 0))
                for stage, service in zip(path.stages, chosen, strict=True)
            )
            worst = max(worst, path.lag_ns + sum(durations) + max(waits))
        return worst


def analyse_paths(
    workload: Workload, quantile: float, *, queries: int | None = None, most_paths: int = MAX_PATHS
) -> PathWaits:
    """Find every path the quantile can see, with its wait curves.

    A path may end at any stage where a query may end. One that is always continued is left out, because the
    longer path bounds the same queries from further above; so is one that too few queries take.

    Parameters
    ----------
    quantile : float
        In (0, 1], over queries.
    queries : int, optional
        Number of queries of the whole workload if this is an extract of it. The waits are then lower bounds of
        those of the whole, and paths that the extract hardly takes are left out.
    most_paths : int
        Of more paths the rest is left out.
    """
    count = workload.queries if queries is None else queries
    return _Analysis(workload, higher_rank(quantile, count) - count, most_paths).run()


@dataclass
class _Beginning:
    """The beginning of a path: its stages, the tokens of each that are on it (None for all), and where it goes on."""

    stages: tuple[str, ...]
    reached: tuple[Int64 | None, ...]
    onward: Iterator[Edge]
    always_continued: bool = False


@dataclass
class _Analysis:
    """Depth-first search over paths with the token sets that reach each stage along the path."""

    workload: Workload
    off_path_rank: int
    most_paths: int
    found: list[PathWait] = field(default_factory=list)
    truncated: bool = False
    # Curves are shared between paths with the same tokens at a stage: a chain of any length costs one curve.
    curves: dict[tuple[tuple[str, ...], ...], WaitCurve] = field(default_factory=dict)
    suffixes: dict[tuple[str, ...], Int64 | None] = field(default_factory=dict)
    representatives: dict[str, str] = field(default_factory=dict)
    messages: dict[tuple[str, str], Messages] = field(default_factory=dict)

    def run(self) -> PathWaits:
        for name, tokens in self.workload.stages.items():
            for messages in tokens.messages:
                self.messages[messages.edge.parent, name] = messages
        for source in self.workload.pipeline.sources:
            self._search(source)
        return PathWaits(tuple(self.found), self.truncated)

    def _search(self, source: str) -> None:
        begun = self._begin((source,), (None,))
        stack = [] if begun is None else [begun]
        while stack:
            here = stack[-1]
            edge = next(here.onward, None)
            if edge is None:
                stack.pop()
                if not here.always_continued:
                    self._record(here.stages, here.reached)
                continue
            messages = self.messages[edge.parent, edge.child]
            sent = _sent_along(messages, here.reached[-1], self.workload.stages[edge.parent].count)
            here.always_continued = here.always_continued or sent.everyone
            received = self._received(messages, sent)
            longer = self._begin((*here.stages, edge.child), (*here.reached, received))
            if longer is not None:
                stack.append(longer)

    def _begin(self, stages: tuple[str, ...], reached: tuple[Int64 | None, ...]) -> _Beginning | None:
        """Enter the last of these stages; None if no path through it is looked at."""
        if len(self.found) >= self.most_paths:
            self.truncated = True
            return None
        if _queries_on(self.workload.stages[stages[-1]], reached[-1]) + self.off_path_rank < 0:
            return None
        return _Beginning(stages, reached, iter(self.workload.pipeline.outgoing(stages[-1])))

    def _record(self, stages: tuple[str, ...], reached: tuple[Int64 | None, ...]) -> None:
        curves = [
            self._curve(stages[: step + 1], stages[step:], reached[step]) for step in range(len(stages))
        ]
        lag = sum(self.messages[arc].edge.delay_ns for arc in pairwise(stages))
        self.found.append(PathWait(stages, lag, tuple(curves)))

    def _received(self, messages: Messages, sent: _Sent) -> Int64 | None:
        child = self.workload.stages[messages.edge.child]
        children = messages.child if sent.selected is None else messages.child[sent.selected]
        mask = np.zeros(child.count, dtype=bool)
        mask[children] = True
        return None if mask.all() else np.flatnonzero(mask)

    def _going_on(self, remainder: tuple[str, ...]) -> Int64 | None:
        """Tokens of the first stage that go on along the remainder of a path (None for all)."""
        further: Int64 | None = None
        for start in range(len(remainder) - 2, -1, -1):
            rest = remainder[start:]
            if rest not in self.suffixes:
                messages = self.messages[rest[0], rest[1]]
                member = np.ones(self.workload.stages[rest[1]].count, dtype=bool)
                if further is not None:
                    member[:] = False
                    member[further] = True
                mask = np.zeros(self.workload.stages[rest[0]].count, dtype=bool)
                mask[messages.parent[member[messages.child]]] = True
                self.suffixes[rest] = None if mask.all() else np.flatnonzero(mask)
            further = self.suffixes[rest]
        return further

    def _curve(
        self, beginning: tuple[str, ...], remainder: tuple[str, ...], reached: Int64 | None
    ) -> WaitCurve:
        """Make the curve of the stage where `beginning` ends and `remainder` starts; equal ones are shared."""
        tokens = self.workload.stages[remainder[0]]
        going_on = self._going_on(remainder)
        first = beginning if reached is not None else (self._representative(tokens),)
        key = (first, remainder if going_on is not None else ())
        if key not in self.curves:
            self.curves[key] = self._make_curve(tokens, reached, going_on)
        return self.curves[key]

    def _representative(self, tokens: StageTokens) -> str:
        """First stage whose waits are the same function of R: it has the same tokens, one per query; else this one.

        In an extract the numbers must be the same, too: stages that its queries visit alike, others may not.
        """
        if tokens.name not in self.representatives:
            self.representatives[tokens.name] = (
                tokens.name
                if not tokens.one_per_query
                else next(
                    name
                    for name, other in self.workload.stages.items()
                    if other.one_per_query and _alike(other.number, tokens.number)
                )
            )
        return self.representatives[tokens.name]

    def _make_curve(self, tokens: StageTokens, reached: Int64 | None, going_on: Int64 | None) -> WaitCurve:
        ingress = self.workload.ingress_ns if tokens.one_per_query else self.workload.ingress_ns[tokens.query]
        arrival = ingress if reached is None else ingress[reached]
        if reached is None and going_on is None and tokens.one_per_query:
            return WaitCurve(arrival, tokens.number, None, self.workload.queries + self.off_path_rank)
        probe = _last_of_each_query(tokens.query, going_on)
        last = probe if reached is None else np.searchsorted(reached, probe, side="right") - 1
        # A query with no older token on the path's beginning has no wait at all (−∞) and is left out.
        probe, last = probe[last >= 0], last[last >= 0]
        number = _numbered(tokens, probe)
        position = tokens.number if reached is None else _numbered(tokens, reached)
        probes = Probes(ingress[probe], last, number)
        return WaitCurve(arrival, position, probes, int(probe.size) + self.off_path_rank)


@dataclass(frozen=True)
class _Sent:
    """Which messages of an edge belong to a path, and whether every token of the path sent one."""

    selected: Bool | None
    everyone: bool


def _sent_along(messages: Messages, reached: Int64 | None, parent_count: int) -> _Sent:
    senders = np.zeros(parent_count, dtype=bool)
    senders[messages.parent] = True
    if reached is None:
        return _Sent(None, bool(senders.all()))
    member = np.zeros(parent_count, dtype=bool)
    member[reached] = True
    return _Sent(member[messages.parent], bool(senders[reached].all()))


def _last_of_each_query(query: Int64, numbers: Int64 | None) -> Int64:
    owners = query if numbers is None else query[numbers]
    ends = np.flatnonzero(np.r_[owners[1:] != owners[:-1], True])
    return ends if numbers is None else numbers[ends]


def _queries_on(tokens: StageTokens, reached: Int64 | None) -> int:
    if reached is None:
        return int(tokens.first_of_query.size)
    if reached.size == 0:
        return 0
    owners = tokens.query[reached]
    return int(np.count_nonzero(owners[1:] != owners[:-1])) + 1


def _alike(some: Int64 | None, others: Int64 | None) -> bool:
    return some is others or (some is not None and others is not None and np.array_equal(some, others))


def _numbered(tokens: StageTokens, index: Int64) -> Int64:
    return index if tokens.number is None else tokens.number[index]
