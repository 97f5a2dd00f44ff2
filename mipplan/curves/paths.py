"""Waits per path and stage: the coefficients w_{p,v}(R) of the planning problem (relaxation, design §3).

For a query q on path p, stage v of p and rate R, unrolling the theorem along p gives

    latency(q) ≥ Σ_p (T + delay) + W_{p,v}(q),   W_{p,v}(q) = max_j [ (i − j)/R − (t_q − t_{q(j)}) ]

inside the certificate: i is q's last token at v that goes on along p, j ≤ i runs over tokens of v that came
along p's beginning, i − j counts all tokens of v. `WaitCurve` evaluates the quantile of W over *all* queries
(−∞ off the path), so `PathWaits.bound_ns` never exceeds the certificate, for any plan.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mipplan.curves.samplepath import latest_start_ns
from mipplan.curves.service import StageService
from mipplan.pipeline import Edge
from mipplan.quantiles import higher_rank
from mipplan.tokens import Messages, StageTokens, Workload

Tokens = NDArray[np.int64]
#: With more paths than this the rest is left out: the bound stays a relaxation, only a weaker one.
MAX_PATHS = 512


class WaitCurve:
    """The wait w(R) of one stage on one path, evaluated on demand and remembered.

    w grows with 1/R, so values known at smaller 1/R bound it from below without another pass over the trace.

    Parameters
    ----------
    arrival_ns : int64, shape (k,)
        Ingress time of each token that came along the path's beginning.
    position : int64, shape (k,), or None
        Their token numbers at the stage; None if these are all its tokens.
    probe : int64, shape (q,), or None
        Index into `arrival_ns` of the token whose wait counts, one per query on the path; None for all.
    rank : int
        Which of the q waits (ascending) is the quantile over all queries.
    """

    def __init__(self, arrival_ns: Tokens, position: Tokens | None, probe: Tokens | None, rank: int) -> None:
        self._arrival_ns = arrival_ns
        self._position = position
        self._probe = probe
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

    def _evaluate(self, period_ns: int, tokens: int) -> int:
        self.evaluations += 1
        waits = latest_start_ns(self._arrival_ns, period_ns, tokens, self._position)
        waits -= self._arrival_ns
        if self._probe is not None:
            waits = waits[self._probe]
        waits.partition(self._rank)
        return int(waits[self._rank])


@dataclass(frozen=True)
class PathWait:
    """One path that enough queries take for the quantile to see it.

    Attributes
    ----------
    stages : tuple of str
    lag_ns : int
        Sum of the delays along it.
    curves : tuple of WaitCurve
        One per stage of the path.
    """

    stages: tuple[str, ...]
    lag_ns: int
    curves: tuple[WaitCurve, ...]


@dataclass(frozen=True)
class PathWaits:
    """All paths of a workload at one quantile.

    Attributes
    ----------
    paths : tuple of PathWait
    truncated : bool
        Whether there were more than `MAX_PATHS`: some are missing, and the bound is weaker for it.
    """

    paths: tuple[PathWait, ...]
    truncated: bool

    def bound_ns(self, services: Mapping[str, StageService]) -> int:
        """Latency bound of a plan: max over paths of ΣT + Σdelays + max wait. Never above the certificate."""
        worst = 0
        for path in self.paths:
            chosen = [services[stage] for stage in path.stages]
            waits = (
                curve.exact(service.period_ns, service.tokens)
                for curve, service in zip(path.curves, chosen, strict=True)
            )
            worst = max(worst, path.lag_ns + sum(service.latency_ns for service in chosen) + max(waits))
        return worst

    def distinct_curves(self) -> Iterator[tuple[str, WaitCurve]]:
        """Every (stage, curve) pair once; a curve may serve several stages."""
        seen: set[tuple[str, int]] = set()
        for path in self.paths:
            for stage, curve in zip(path.stages, path.curves, strict=True):
                if (stage, id(curve)) not in seen:
                    seen.add((stage, id(curve)))
                    yield stage, curve


def analyse_paths(workload: Workload, quantile: float) -> PathWaits:
    """Find every path the quantile can see, with its wait curves.

    A path may end at any stage where a query may end. One that is always continued is left out, because the
    longer path bounds the same queries from further above; so is one that too few queries take.

    Parameters
    ----------
    workload : Workload
    quantile : float
        In (0, 1], over queries.
    """
    return _Analysis(workload, quantile).run()


@dataclass
class _Analysis:
    """Depth-first search over paths with the token sets that reach each stage along the path."""

    workload: Workload
    quantile: float
    found: list[PathWait] = field(default_factory=list)
    truncated: bool = False
    # Arrays are shared between paths and stages, and curves between equal arrays: a chain costs one curve.
    arrays: dict[str, tuple[Tokens, Tokens | None]] = field(default_factory=dict)
    curves: dict[tuple[int, int, int, int], WaitCurve] = field(default_factory=dict)

    def run(self) -> PathWaits:
        queries = self.workload.queries
        self.off_path_rank = higher_rank(self.quantile, queries) - queries
        for source in self.workload.pipeline.sources:
            self._extend([source], [], [None])
        return PathWaits(tuple(self.found), self.truncated)

    def _extend(self, stages: list[str], via: list[Messages], reached: list[Tokens | None]) -> None:
        """Grow the path `stages`; ``reached[k]`` are the tokens of its k-th stage on it (None for all)."""
        if len(self.found) >= MAX_PATHS:
            self.truncated = True
            return
        tokens = self.workload.stages[stages[-1]]
        if _queries_on(tokens, reached[-1]) + self.off_path_rank < 0:
            return
        always_continued = False
        for edge in self.workload.pipeline.outgoing(stages[-1]):
            messages = self._messages(edge)
            sent = _sent_along(messages, reached[-1], tokens.count)
            always_continued = always_continued or sent.everyone
            self._extend([*stages, edge.child], [*via, messages], [*reached, self._received(messages, sent)])
        if not always_continued:
            self._record(stages, via, reached)

    def _record(self, stages: list[str], via: list[Messages], reached: list[Tokens | None]) -> None:
        going_on = reached[-1]
        curves: list[WaitCurve] = []
        rank = _queries_on(self.workload.stages[stages[-1]], going_on) + self.off_path_rank
        for step in range(len(stages) - 1, -1, -1):
            curves.append(self._curve(self.workload.stages[stages[step]], reached[step], going_on, rank))
            if step:
                parent_count = self.workload.stages[stages[step - 1]].count
                going_on = _senders(via[step - 1], reached[step - 1], going_on, parent_count)
        lag = sum(messages.edge.delay_ns for messages in via)
        self.found.append(PathWait(tuple(stages), lag, tuple(reversed(curves))))

    def _messages(self, edge: Edge) -> Messages:
        for messages in self.workload.stages[edge.child].messages:
            if messages.edge is edge or messages.edge == edge:
                return messages
        raise AssertionError(f"no messages for edge {edge.parent} -> {edge.child}")

    def _received(self, messages: Messages, sent: _Sent) -> Tokens | None:
        child = self.workload.stages[messages.edge.child]
        children = messages.child if sent.selected is None else messages.child[sent.selected]
        mask = np.zeros(child.count, dtype=bool)
        mask[children] = True
        return None if mask.all() else np.flatnonzero(mask)

    def _curve(
        self, tokens: StageTokens, reached: Tokens | None, going_on: Tokens | None, rank: int
    ) -> WaitCurve:
        ingress, last = self._arrays_of(tokens)
        if reached is None:
            arrival, position = ingress, None
        else:
            arrival, position = ingress[reached], reached
        probe = last if going_on is None else _last_of_each_query(tokens.query, going_on)
        if probe is not None and reached is not None:
            probe = np.searchsorted(reached, probe)
        if position is None and going_on is None:
            key = (id(arrival), 0, id(last), rank)
            return self.curves.setdefault(key, WaitCurve(arrival, position, probe, rank))
        return WaitCurve(arrival, position, probe, rank)

    def _arrays_of(self, tokens: StageTokens) -> tuple[Tokens, Tokens | None]:
        """Ingress time of each token, and each query's last token (None when every query has one token)."""
        known = self.arrays.get(tokens.name)
        if known is None:
            if tokens.one_per_query:
                known = (self.workload.ingress_ns, None)
            else:
                known = (self.workload.ingress_ns[tokens.query], _last_of_each_query(tokens.query, None))
            self.arrays[tokens.name] = known
        return known


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


def _senders(
    messages: Messages, reached: Tokens | None, going_on: Tokens | None, parent_count: int
) -> Tokens | None:
    """Tokens of the parent stage on the path that sent a message to a token in `going_on`."""
    parents = messages.parent
    if going_on is not None:
        child_count = int(messages.child.max()) + 1 if messages.child.size else 0
        member = np.zeros(max(child_count, int(going_on[-1]) + 1), dtype=bool)
        member[going_on] = True
        parents = parents[member[messages.child]]
    mask = np.zeros(parent_count, dtype=bool)
    mask[parents] = True
    if reached is not None:
        on_path = np.zeros(parent_count, dtype=bool)
        on_path[reached] = True
        mask &= on_path
    return None if mask.all() else np.flatnonzero(mask)


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
