"""Waits per path and stage: the coefficients w_{p,v}(R) of the planning problem (relaxation, design §3).

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
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mipplan.curves.samplepath import wait_order_statistic_ns
from mipplan.curves.service import StageService, service_time_ns
from mipplan.pipeline import Edge
from mipplan.quantiles import higher_rank
from mipplan.tokens import Messages, StageTokens, Workload

Tokens = NDArray[np.int64]
#: With more paths than this the rest is left out: the bound stays a relaxation, only a weaker one.
MAX_PATHS = 512


@dataclass(frozen=True)
class Probes:
    """One token per query that goes on along a path's remainder.

    Attributes
    ----------
    ingress_ns : int64, shape (q,)
        Ingress of the query.
    last : int64, shape (q,)
        Index of the last token before or at it that came along the path's beginning.
    number : int64, shape (q,)
        Its token number at the stage.
    """

    ingress_ns: Tokens
    last: Tokens
    number: Tokens


#: Waits are bounded on one geometric grid of rates, the same for all stages, so that stages share evaluations.
_GRID_RATIO = 1.02
_GRID_TOKENS = 1024


def grid_rate(step: int) -> tuple[int, int]:
    """1/R of a grid step as (period_ns, tokens): from 1 ns per token (step 0) up, a ratio apart; 0 below that."""
    return (round(_GRID_TOKENS * _GRID_RATIO**step), _GRID_TOKENS) if step >= 0 else (0, 1)


def grid_step(ns_per_token: float) -> int:
    """Largest grid step whose 1/R is surely at most `ns_per_token`; −1 if there is none."""
    if ns_per_token < 1.0:
        return -1
    step = math.floor(math.log(ns_per_token) / math.log(_GRID_RATIO))
    # The logarithm and the rounding of the grid may each be off by a step.
    while step >= 0 and grid_rate(step)[0] > ns_per_token * _GRID_TOKENS * (1.0 - 1e-12):
        step -= 1
    return step


class Wait(Protocol):
    """The wait of one stage on one path as a function of R; it grows with 1/R."""

    def exact(self, period_ns: int, tokens: int) -> int:
        """W in ns, rounded up, at ``1/R = period_ns / tokens`` ns per token."""

    def lower(self, period_ns: int, tokens: int) -> int:
        """Return a lower bound on `exact` that costs little."""

    def prepare(self, least: float, most: float, tolerance_ns: int, beyond_ns: int) -> None:
        """Make `lower` good for 1/R between `least` and `most` ns per token.

        Within `tolerance_ns` of `exact` or one step of the grid of rates; waits above `beyond_ns` need not be told
        apart.
        """


class WaitCurve:
    """The wait w(R) of one stage on one path, evaluated on demand and remembered.

    w grows with 1/R, so values known at smaller 1/R bound it from below without another pass over the trace.

    Parameters
    ----------
    arrival_ns : int64, shape (k,)
        Ingress time of each token that came along the path's beginning.
    position : int64, shape (k,), or None
        Their token numbers at the stage; None if these are all its tokens.
    probes : Probes or None
        The tokens whose waits count; None if that is every token above.
    rank : int
        Which of these waits (ascending) is the quantile over all queries.
    """

    def __init__(self, arrival_ns: Tokens, position: Tokens | None, probes: Probes | None, rank: int) -> None:
        self._arrival_ns = arrival_ns
        self._position = position
        self._probes = probes
        self._rank = rank
        self._known: dict[tuple[int, int], int] = {}
        self._slopes: list[float] = []
        self._values: list[int] = []
        self.evaluations = 0

    def exact(self, period_ns: int, tokens: int) -> int:
        """W in ns, rounded up, at ``1/R = period_ns / tokens`` ns per token (0 for R = ∞)."""
        divisor = math.gcd(period_ns, tokens)
        key = (period_ns // divisor, tokens // divisor)
        known = self._known.get(key)
        if known is not None:
            return known
        value = self._evaluate(*key)
        self._known[key] = value
        slope = key[0] / key[1]
        place = bisect.bisect_left(self._slopes, slope)
        self._slopes.insert(place, slope)
        self._values.insert(place, value)
        return value

    def lower(self, period_ns: int, tokens: int) -> int:
        """Return a lower bound on `exact` (≥ 0) from what is known already, without touching the trace."""
        divisor = math.gcd(period_ns, tokens)
        known = self._known.get((period_ns // divisor, tokens // divisor))
        if known is not None:
            return known
        # Strictly smaller by more than float rounding: only then is monotonicity beyond doubt.
        place = bisect.bisect_left(self._slopes, period_ns / tokens * (1.0 - 1e-12))
        return self._values[place - 1] if place else 0

    def prepare(self, least: float, most: float, tolerance_ns: int, beyond_ns: int) -> None:
        """Evaluate enough of the grid of rates for `lower`, see `Wait.prepare`: by halving where w still varies."""
        pending = [(grid_step(least), grid_step(most))]
        while pending:
            low, high = pending.pop()
            below = self.exact(*grid_rate(low))
            if below > beyond_ns or high <= low:
                continue
            if self.exact(*grid_rate(high)) - below > tolerance_ns and high - low > 1:
                middle = (low + high) // 2
                pending += [(middle, high), (low, middle)]

    def _evaluate(self, period_ns: int, tokens: int) -> int:
        self.evaluations += 1
        probes = self._probes
        asked = None if probes is None else (probes.last, probes.number, probes.ingress_ns)
        return wait_order_statistic_ns(self._arrival_ns, period_ns, tokens, self._rank, self._position, asked)


@dataclass(frozen=True)
class PathWait:
    """One path that enough queries take for the quantile to see it.

    Attributes
    ----------
    stages : tuple of str
    lag_ns : int
        Sum of the delays along it.
    curves : tuple of Wait
        One per stage of the path.
    """

    stages: tuple[str, ...]
    lag_ns: int
    curves: tuple[Wait, ...]


@dataclass(frozen=True)
class PathWaits:
    """All paths of a workload at one quantile.

    Attributes
    ----------
    paths : tuple of PathWait
    truncated : bool
        Whether there were more than `MAX_PATHS`: some are missing, and the bound is weaker for it.
    serial_tokens : mapping of str to int
        Per stage, tokens of the same query that are served before its last one whatever the wait; none for a
        trace, where the waits count them.
    """

    paths: tuple[PathWait, ...]
    truncated: bool
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


def analyse_paths(workload: Workload, quantile: float, *, queries: int | None = None) -> PathWaits:
    """Find every path the quantile can see, with its wait curves.

    A path may end at any stage where a query may end. One that is always continued is left out, because the
    longer path bounds the same queries from further above; so is one that too few queries take.

    Parameters
    ----------
    workload : Workload
    quantile : float
        In (0, 1], over queries.
    queries : int, optional
        Number of queries of the whole workload if this is an extract of it. The waits are then lower bounds of
        those of the whole, and paths that the extract hardly takes are left out.
    """
    count = workload.queries if queries is None else queries
    return _Analysis(workload, higher_rank(quantile, count) - count).run()


@dataclass
class _Analysis:
    """Depth-first search over paths with the token sets that reach each stage along the path."""

    workload: Workload
    off_path_rank: int
    found: list[PathWait] = field(default_factory=list)
    truncated: bool = False
    # Curves are shared between paths with the same tokens at a stage: a chain of any length costs one curve.
    curves: dict[tuple[tuple[str, ...], ...], WaitCurve] = field(default_factory=dict)
    suffixes: dict[tuple[str, ...], Tokens | None] = field(default_factory=dict)
    representatives: dict[str, str] = field(default_factory=dict)

    def run(self) -> PathWaits:
        for source in self.workload.pipeline.sources:
            self._extend([source], [None])
        return PathWaits(tuple(self.found), self.truncated)

    def _extend(self, stages: list[str], reached: list[Tokens | None]) -> None:
        """Grow the path `stages`; ``reached[k]`` are the tokens of its k-th stage on it (None for all)."""
        if len(self.found) >= MAX_PATHS:
            self.truncated = True
            return
        tokens = self.workload.stages[stages[-1]]
        if _queries_on(tokens, reached[-1]) + self.off_path_rank < 0:
            return
        always_continued = False
        for edge in self.workload.pipeline.outgoing(stages[-1]):
            messages = self._messages(edge.parent, edge.child)
            sent = _sent_along(messages, reached[-1], tokens.count)
            always_continued = always_continued or sent.everyone
            self._extend([*stages, edge.child], [*reached, self._received(messages, sent)])
        if not always_continued:
            self._record(stages, reached)

    def _record(self, stages: list[str], reached: list[Tokens | None]) -> None:
        curves = [
            self._curve(tuple(stages[: step + 1]), tuple(stages[step:]), reached[step])
            for step in range(len(stages))
        ]
        lag = sum(self._edge(parent, child).delay_ns for parent, child in pairwise(stages))
        self.found.append(PathWait(tuple(stages), lag, tuple(curves)))

    def _edge(self, parent: str, child: str) -> Edge:
        return next(edge for edge in self.workload.pipeline.outgoing(parent) if edge.child == child)

    def _messages(self, parent: str, child: str) -> Messages:
        return next(m for m in self.workload.stages[child].messages if m.edge.parent == parent)

    def _received(self, messages: Messages, sent: _Sent) -> Tokens | None:
        child = self.workload.stages[messages.edge.child]
        children = messages.child if sent.selected is None else messages.child[sent.selected]
        mask = np.zeros(child.count, dtype=bool)
        mask[children] = True
        return None if mask.all() else np.flatnonzero(mask)

    def _going_on(self, remainder: tuple[str, ...]) -> Tokens | None:
        """Tokens of the first stage that go on along the remainder of a path (None for all)."""
        if len(remainder) == 1:
            return None
        if remainder not in self.suffixes:
            further = self._going_on(remainder[1:])
            messages = self._messages(remainder[0], remainder[1])
            member = np.ones(self.workload.stages[remainder[1]].count, dtype=bool)
            if further is not None:
                member[:] = False
                member[further] = True
            mask = np.zeros(self.workload.stages[remainder[0]].count, dtype=bool)
            mask[messages.parent[member[messages.child]]] = True
            self.suffixes[remainder] = None if mask.all() else np.flatnonzero(mask)
        return self.suffixes[remainder]

    def _curve(
        self, beginning: tuple[str, ...], remainder: tuple[str, ...], reached: Tokens | None
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

    def _make_curve(self, tokens: StageTokens, reached: Tokens | None, going_on: Tokens | None) -> WaitCurve:
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

    selected: NDArray[np.bool_] | None
    everyone: bool


def _sent_along(messages: Messages, reached: Tokens | None, parent_count: int) -> _Sent:
    senders = np.zeros(parent_count, dtype=bool)
    senders[messages.parent] = True
    if reached is None:
        return _Sent(None, bool(senders.all()))
    member = np.zeros(parent_count, dtype=bool)
    member[reached] = True
    return _Sent(member[messages.parent], bool(senders[reached].all()))


def _last_of_each_query(query: Tokens, numbers: Tokens | None) -> Tokens:
    owners = query if numbers is None else query[numbers]
    ends = np.flatnonzero(np.r_[owners[1:] != owners[:-1], True])
    return ends if numbers is None else numbers[ends]


def _queries_on(tokens: StageTokens, reached: Tokens | None) -> int:
    if reached is None:
        return int(tokens.first_of_query.size)
    if reached.size == 0:
        return 0
    owners = tokens.query[reached]
    return int(np.count_nonzero(owners[1:] != owners[:-1])) + 1


def _alike(some: Tokens | None, others: Tokens | None) -> bool:
    return some is others or (some is not None and others is not None and np.array_equal(some, others))


def _numbered(tokens: StageTokens, index: Tokens) -> Tokens:
    return index if tokens.number is None else tokens.number[index]
