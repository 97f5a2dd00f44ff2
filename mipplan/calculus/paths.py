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

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from mipplan.calculus.samplepath import StageService, service_time_ns
from mipplan.calculus.waits import Probes, StageQueue, Wait, WaitCurve, grid_rate, grid_step
from mipplan.core import (
    NO_DEADLINE,
    UNLIMITED_NS,
    Allowance,
    Bool,
    Criterion,
    Deadline,
    Int64,
    greatest_values,
)
from mipplan.pipeline import Edge
from mipplan.tokens import Messages, StageTokens, Workload

#: At most 512 paths are looked at, because there can be exponentially many: the bound stays a relaxation, only a
#: weaker one.
MAX_PATHS = 512
#: Of an objective over windows the waits of 8 windows count, those with most queries, because each adds to every curve.
MAX_WINDOWS = 8


@dataclass(frozen=True)
class LongestWait:
    """The longest of several waits: a quantile that every window keeps is no shorter in any of them."""

    waits: tuple[Wait, ...]

    def exact(self, period_ns: int, tokens: int) -> int:
        """Longest of the exact waits."""
        return max(wait.exact(period_ns, tokens) for wait in self.waits)

    def lower(self, period_ns: int, tokens: int, least_ns: int = 0, most_ns: int = UNLIMITED_NS) -> int:
        """Longest of the lower bounds; parameters as for `Wait`."""
        found = 0
        for wait in self.waits:
            found = max(found, wait.lower(period_ns, tokens, max(found, least_ns), most_ns))
            if found > most_ns:
                break
        return found


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
        latencies_ns = [0]
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
            latencies_ns.append(path.lag_ns + sum(durations) + max(waits))
        return max(latencies_ns)


def join_paths(several: Sequence[PathWaits]) -> PathWaits:
    """Put the paths of several workloads of one pipeline together: what keeps the longest waits keeps all of them.

    A path that the quantile sees in one of them only counts for that one.
    """
    found: dict[tuple[str, ...], list[PathWait]] = {}
    for path in (path for one in several for path in one.paths):
        found.setdefault(path.stages, []).append(path)
    # Where paths share curves in each workload, they share the longest of them.
    longest: dict[tuple[Wait, ...], Wait] = {}

    def joined(curves: tuple[Wait, ...]) -> Wait:
        return longest.setdefault(curves, curves[0] if len(curves) == 1 else LongestWait(curves))

    paths = [
        PathWait(stages, own[0].lag_ns, tuple(map(joined, zip(*(path.curves for path in own), strict=True))))
        for stages, own in found.items()
    ]
    return PathWaits(tuple(paths), any(one.truncated for one in several))


def analyse_paths(workload: Workload, asked: float | Criterion, *, most_paths: int = MAX_PATHS) -> PathWaits:
    """Find every path the quantile can see, with its wait curves.

    A path may end at any stage where a query may end. One that is always continued is left out, because the
    longer path bounds the same queries from further above; so is one that too few queries take.

    Parameters
    ----------
    asked : float or Criterion
        A quantile in (0, 1] over queries, or what they are to keep: then of all queries so few may be late that it can
        be kept at all, and no wait is below that of the busiest windows.
    most_paths : int
        Of more paths the rest is left out.
    """
    allowance = Criterion.of(asked, workload.ingress_ns).main
    return _Analysis(workload, allowance, most_paths).run()


@dataclass
class _Analysis:
    """Depth-first search over paths with the token sets that reach each stage along the path."""

    workload: Workload
    allowance: Allowance
    most_paths: int
    found: list[PathWait] = field(default_factory=list)
    truncated: bool = False
    # Queues are shared between stages and paths with the same tokens, curves between those where the same ones go on:
    # a chain of any length costs one curve.
    queues: dict[tuple[str, ...], StageQueue] = field(default_factory=dict)
    curves: dict[tuple[tuple[str, ...], ...], Wait] = field(default_factory=dict)
    #: Per stage the one, if any, whose tokens all go on as those of this stage, which has no others.
    followed: dict[str, str | None] = field(default_factory=dict)
    #: Per stage the first one with the same tokens, as far as that is known: theirs are the same waits.
    alike: dict[str, str] = field(default_factory=dict)
    suffixes: dict[tuple[str, ...], Int64 | None] = field(default_factory=dict)
    messages: dict[tuple[str, str], Messages] = field(default_factory=dict)

    def __post_init__(self) -> None:
        #: The quantile's rank among queries of which only some are on a path, less their number: others wait least.
        self.off_path_rank = -1 - self.allowance.total
        starts, allowed = self.allowance.starts, self.allowance.allowed
        alone = self.allowance.is_whole or self.allowance.spare
        busiest = [] if alone else greatest_values(np.diff(starts), MAX_WINDOWS).tolist()
        self.windows = [(starts[k : k + 2], int(allowed[k])) for k in busiest]

    def run(self) -> PathWaits:
        for name, tokens in self.workload.stages.items():
            self.messages |= {(messages.edge.parent, name): messages for messages in tokens.messages}
            edge = self.workload.follows(name)
            self.followed[name] = None if edge is None else edge.parent
            same = self.workload.pipeline.sources[0] if tokens.one_per_query else self.followed[name]
            self.alike[name] = name if same is None else self.alike.get(same, same)
        # Beginnings of paths: stages, the tokens of each that are on it (None for all), and whether all that goes on
        # from there has been looked at, so that only the path that ends there is left.
        pending: list[tuple[tuple[str, ...], tuple[Int64 | None, ...], bool]]
        pending = [((source,), (None,), False) for source in reversed(self.workload.pipeline.sources)]
        while pending:
            stages, reached, is_end = pending.pop()
            if is_end:
                self._record(stages, reached)
            elif len(self.found) >= self.most_paths:
                self.truncated = True
            elif self._queries_on(stages[-1], reached[-1]) + self.off_path_rank >= 0:
                edges = self.workload.pipeline.outgoing(stages[-1])
                onward = [self._sent(edge, reached[-1]) for edge in edges]
                if not any(by_all for by_all, _ in onward):
                    pending.append((stages, reached, True))
                longer = zip(edges, onward, strict=True)
                pending += [((*stages, e.child), (*reached, there), False) for e, (_, there) in longer][::-1]
        return PathWaits(tuple(self.found), self.truncated)

    def _queries_on(self, stage: str, reached: Int64 | None) -> int:
        tokens = self.workload.stages[stage]
        if reached is None:
            return tokens.count if tokens.at_most_one else int(tokens.first_of_query.size)
        return int(_last_of_each_query(tokens, reached).size)

    def _sent(self, edge: Edge, reached: Int64 | None) -> tuple[bool, Int64 | None]:
        """Whether all of some tokens (None for all) send along an edge, and which tokens of its child they reach."""
        messages, stages = self.messages[edge.parent, edge.child], self.workload.stages
        if reached is None and self.followed[edge.child] == edge.parent:
            return True, None
        sends, received = _marked(stages[edge.parent].count, messages.parent), messages.child
        if reached is None and len(stages[edge.child].messages) == 1:
            return bool(sends.all()), None
        if reached is not None:
            sends = sends[reached]
            received = received[_marked(stages[edge.parent].count, reached)[messages.parent]]
        return bool(sends.all()), _none_for_all(_marked(stages[edge.child].count, received))

    def _record(self, stages: tuple[str, ...], reached: tuple[Int64 | None, ...]) -> None:
        steps = range(len(stages))
        curves = [self._curve(stages[: step + 1], stages[step:], reached[step]) for step in steps]
        lag = sum(self.messages[arc].edge.delay_ns for arc in pairwise(stages))
        self.found.append(PathWait(stages, lag, tuple(curves)))

    def _going_on(self, remainder: tuple[str, ...]) -> Int64 | None:
        """Tokens of the first stage that go on along the remainder of a path (None for all)."""
        further: Int64 | None = None
        for start in range(len(remainder) - 2, -1, -1):
            rest = remainder[start:]
            if rest not in self.suffixes:
                messages = self.messages[rest[0], rest[1]]
                parents = messages.parent
                if self.followed[rest[1]] == rest[0]:
                    self.suffixes[rest] = further
                    continue
                if further is not None:
                    parents = parents[_marked(self.workload.stages[rest[1]].count, further)[messages.child]]
                self.suffixes[rest] = _none_for_all(_marked(self.workload.stages[rest[0]].count, parents))
            further = self.suffixes[rest]
        return further

    def _curve(self, beginning: tuple[str, ...], remainder: tuple[str, ...], reached: Int64 | None) -> Wait:
        """Make the curve of the stage where `beginning` ends and `remainder` starts; equal ones are shared."""
        tokens, going_on = self.workload.stages[remainder[0]], self._going_on(remainder)
        # Where all goes on together, it came like the first of these stages, and goes on like the last.
        while len(beginning) > 1 and self.followed[beginning[-1]] == beginning[-2]:
            beginning = beginning[:-1]
        first = beginning if reached is not None else (self.alike[tokens.name],)
        while len(remainder) > 1 and self.followed[remainder[1]] == remainder[0]:
            remainder = remainder[1:]
        key = (first, remainder if going_on is not None else ())
        if key not in self.curves:
            self.curves[key] = self._make_curve(first, tokens, reached, going_on)
        return self.curves[key]

    def _make_curve(
        self, first: tuple[str, ...], tokens: StageTokens, reached: Int64 | None, going_on: Int64 | None
    ) -> Wait:
        ingress_ns, owners = self.workload.ingress_ns, tokens.query
        if first not in self.queues:
            entered = ingress_ns if tokens.one_per_query else ingress_ns[owners]
            self.queues[first] = StageQueue(entered if reached is None else entered[reached], reached)
        queue, above = self.queues[first], -self.off_path_rank
        if reached is None and going_on is None and tokens.at_most_one:
            return self._longest(queue.curve(None, above), None, owners)
        probe = _last_of_each_query(tokens, going_on)
        if reached is None:
            marked = _marked(tokens.count, probe)
            return self._longest(queue.curve(marked, above), marked, owners)
        last = np.searchsorted(reached, probe, side="right") - 1
        # A query with no older token on the path's beginning has no wait at all (−∞) and is left out.
        probe, last = probe[last >= 0], last[last >= 0]
        probes = Probes(last, probe, ingress_ns[owners[probe]])
        return self._longest(queue.curve(probes, above), probes, owners[probe])

    def _longest(self, curve: WaitCurve, among: Bool | Probes | None, owners: Int64) -> Wait:
        """Return the wait that all queries and the busiest windows have; `owners` are the queries of the tokens."""
        waits: list[Wait] = [curve]
        for window, allowed in self.windows:
            own = slice(*np.searchsorted(owners, window).tolist())
            marked = np.zeros(owners.size, dtype=bool)
            marked[own] = True if among is None or isinstance(among, Probes) else among[own]
            if np.count_nonzero(marked) > allowed:
                some = Probes(*(column[own] for column in among)) if isinstance(among, Probes) else marked
                waits.append(curve.queue.curve(some, allowed + 1))
        return curve if len(waits) == 1 else LongestWait(tuple(waits))


def slowest_within(
    curve: Wait, most_ns: int, least: float, most: float, deadline: Deadline = NO_DEADLINE
) -> tuple[int, int]:
    """Largest 1/R on the grid, between two in ns per token, with a wait within `most_ns`: it grows with 1/R.

    Raises `LimitReachedError` if the deadline passes before it is found.
    """
    steps = range(grid_step(least) + 1, grid_step(most) + 2)

    def is_beyond(step: int) -> bool:
        deadline.check()
        return curve.lower(*grid_rate(step), least_ns=most_ns, most_ns=most_ns) > most_ns

    # Mostly not far from the slowest, where the rates are that will be asked about.
    last, stride = steps.stop, 1
    while last - stride > steps.start and is_beyond(last - stride):
        last, stride = last - stride, 2 * stride
    steps = range(max(steps.start, last - stride), last)
    return grid_rate(steps.start + bisect.bisect_left(steps, True, key=is_beyond) - 1)


def _marked(count: int, tokens: Int64) -> Bool:
    marked = np.zeros(count, dtype=bool)
    marked[tokens] = True
    return marked


def _none_for_all(marked: Bool) -> Int64 | None:
    return None if marked.all() else np.flatnonzero(marked)


def _last_of_each_query(tokens: StageTokens, numbers: Int64 | None) -> Int64:
    if numbers is not None and tokens.at_most_one:
        return numbers
    owners = tokens.query if numbers is None else tokens.query[numbers]
    ends = np.flatnonzero(np.r_[owners[1:] != owners[:-1], owners.size > 0])
    return ends if numbers is None else numbers[ends]
