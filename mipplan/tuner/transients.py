"""What a backlog and the wait for new replicas ask for, and what they do to latency.

The proof is in [theory, section 10][10-the-tuner-replicas-that-follow-the-traffic].

From now on a path serves, at each instant, as fast as its slowest stage at that instant: until the activation delay δ
with the replicas that are active now, after it with those ordered. Let m be the least rate now of the stages that share
a path with v, g the rate of v after δ, both in queries per ns, and ``G(x) = m·min(x, δ) + g·(x − δ)⁺``. Queries that
arrive t from now wait at most W if ``α(t) − 1 + Q ≤ G(t + W)``, and the same without Q for what comes after an idle
moment.

Before δ a query's own tokens, too, are served by the replicas that are active then.

It is not enough that every stage by itself serves its backlog in time, with its own rate before δ: what a slow stage
holds back until δ reaches the next one in a lump.

*Recovery.* Before δ nothing that is ordered helps. So W is asked for only of queries that arrive from θ ≥ δ on. Let κ
be the number of stages with F > 1 before stages that gather, on the paths through v (mostly 0), and
``σ(x) = (m·x − κ)⁺``: κ queries do not count of what is served before δ. The conditions, linear in g, are

    ``α(t) − 1 + Q ≤ σ(δ) + g·(t + W − δ)`` for t ≥ θ, and
    ``α(u) − 1 ≤ σ((δ − s)⁺) + g·(s + u + W − max(s, δ))`` for s + u ≥ θ,

the second for those that follow an idle moment at s > 0. Here m is taken with the counts active now, since those
ordered are yet to be found, and g ≥ m is asked for as well. That is enough: the proof uses m of the stage v* with the
least g on its way, and there the others, even with replicas removed, have at least its g.

If what is active is enough without waiting for anything, δ does not matter: g is the rate of G all along, and counts
may fall. If some rise all the same, because own times ask for that, κ is added to ``α(t) − 1 + Q`` for t ≥ θ, and to
``α(u) − 1`` for u ≥ θ − δ. Where no count is enough, as for W = 0 and θ = δ with a backlog, the step says so in a note.

*Own times* of these queries are those of the counts ordered, o¹ = (F − 1)/R. Let t ≥ θ in the proof of the theorem.

1. From v_m back to the first stage that gathers, or to v_l, e_k does not fall. Let v_κ be the first with e_κ ≥ 1. Those
   passed before it have ∫ρ < 1 − 1/F over I_k, so what of I_k lies after δ is shorter than o¹.
2. If z_κ < δ + o¹ of v_κ (or there is no v_κ), then after δ nothing is left but these, T, delays and own times: the
   query has not waited for others at all.
3. If not, take the *last* part of length o¹ from I_κ instead of the first: v_κ serves 1 − 1/F there, at the new rate.
   Further back e_{k+1} ≥ 1, and nothing needs to be taken from I_k.
4. Behind stages that gather, take from I_k the first part in which 1 − 1/F is served. What of it lies after δ is no
   longer than o¹. What lies before it, P_k, is left in I'_k, but of what v_k serves there only m of v* is counted: U
   grows by m·|P_k| < 1 each, less than κ of v* in all, and no more than m·(δ − s_l)⁺, because the P_k follow upon each
   other between s_l and δ. The lesser of the two is what the conditions take from m·(δ − s_l)⁺, or from m·δ.

The rest is as in the theorem; if m of v* is 0, then G(Y) ≤ G(t + W) says Y ≤ t + W or Y ≤ δ ≤ t. That own times before
δ count for what follows an idle moment, too, cannot be left out
(`test_own_tokens_hold_up_those_that_come_when_the_delay_is_over`: 13,899 ns, where 11,221 would be promised).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from mipplan.calculus import Envelope
from mipplan.core import UNLIMITED_NS
from mipplan.pipeline import Join, Pipeline


@dataclass(frozen=True)
class Awaited:
    """What of a pipeline has to be served before a stage is through with what is in the system."""

    stages: Mapping[str, set[str]]
    """Each stage and those before it; and, if several tokens of a query are merged further on, those before that."""
    merged: Mapping[str, int]
    """Stages on the way of each whose tokens, several per query, are merged again."""


def awaited(pipeline: Pipeline, tokens_per_query: Mapping[str, int | Fraction] | None = None) -> Awaited:
    """Return what counts as backlog of each stage.

    Without the most tokens of a query nothing is proven, and merges are left out.
    """
    before: dict[str, set[str]] = {}
    for stage in pipeline.topological_order:
        parents = [before[edge.parent] for edge in pipeline.incoming(stage)]
        before[stage] = {stage}.union(*parents)
    most = tokens_per_query or {}
    merges = [
        stage
        for stage, found in pipeline.stages.items()
        if most and found.join is Join.ALL and sum(most[edge.parent] for edge in pipeline.incoming(stage)) > 1
    ]
    stages, merged = {}, {}
    for stage, own in before.items():
        further = [before[merge] - {merge} for merge in merges if stage in before[merge]]
        stages[stage] = own.union(*further)
        along = [*further, *(before[merge] - {merge} for merge in merges if merge in own)]
        merged[stage] = sum(most[other] > 1 for other in set().union(*along))
    return Awaited(stages, merged)


@dataclass(frozen=True)
class Transient:
    """The way from what serves now to what will."""

    backlog: int
    """Q: queries in the system that the stage has yet to serve, those on their way to it included."""
    slowest: Fraction
    """m: queries per ns that get through before the delay is over."""
    delay_ns: int
    """δ: new replicas serve from then on; 0 if none is needed."""
    recovery_ns: int
    """θ: queries that arrive from then on must keep their wait."""
    merged: int = 0
    """κ: stages on the way whose tokens, several per query, are merged again."""

    def rate_needed(self, envelope: Envelope, wait_ns: int) -> Fraction | None:
        """Least rate g, at least m, with which queries from θ on wait at most `wait_ns`; None if none is enough.

        The condition on what follows an idle moment at s ("Recovery", above) is tightest at the least s allowed,
        ``max(0, θ − u)``, as g ≥ m. For u ≥ θ that with the backlog implies it, for u ≤ θ − δ it is that without any
        delay, and between them it is ``α(u) − 1 ≤ σ(u − θ + δ) + g·(θ − δ + W)``. On either side of
        ``u = θ − δ + κ/m``, where σ begins to grow, corners of the hull are enough, besides t = θ and that u itself: at
        u = θ − δ the right-hand side bends down, so the excess is not greatest there unless at a corner.
        """
        theta, delay, m = self.recovery_ns, self.delay_ns, self.slowest
        needed = max(Fraction(envelope.rate), m)
        if theta + wait_ns < delay or (theta + wait_ns == delay and delay > 0):
            if not self._keeps_before_delay(envelope, wait_ns):
                return None
            theta = delay - wait_ns
        ends = [(theta, envelope.at(theta))] + [(u, a) for u, a in envelope.corners if u > theta]
        rows = [(a - 1 + self.backlog - self._served(delay), u + wait_ns - delay) for u, a in ends]
        fresh = [(u, a) for u, a in envelope.corners if u < theta]
        # Who follows an idle moment before δ: from here on what is served before δ counts.
        since = theta - delay + self.merged / m if m > 0 else Fraction(theta)
        if 0 < since < theta:
            fresh.append((since, envelope.at(since)))
        for window, arrivals in fresh:
            before = max(Fraction(0), Fraction(window) - (theta - delay))
            rows.append((arrivals - 1 - self._served(before), window + wait_ns - before))
        for load, time in rows:
            if load <= 0:
                continue
            if time <= 0:
                return None
            needed = max(needed, load / time)
        return needed

    def wait_ns(self, envelope: Envelope, rate: Fraction) -> int:
        """Longest wait of any query from now on, ns, rounded up, if the stage serves at `rate` after the delay.

        `UNLIMITED_NS` if there is no bound.
        """
        m = min(self.slowest, rate) if self.delay_ns == 0 else self.slowest
        if envelope.rate > rate or m <= 0:
            return UNLIMITED_NS
        served = m * self.delay_ns
        windows = {Fraction(0), *(Fraction(u) for u, _ in envelope.corners)}
        # Where the last query that is served before δ arrives, the wait may have its greatest value too.
        windows |= _reaching(envelope, 1 - self.backlog + served)
        worst = Fraction(0)
        for window in windows:
            ahead = envelope.at(window) - 1 + self.backlog
            time = ahead / m if ahead <= served else self.delay_ns + (ahead - served) / rate
            worst = max(worst, time - window)
        return min(UNLIMITED_NS, math.ceil(worst))

    def _served(self, time_ns: int | Fraction) -> Fraction:
        """Queries that are surely served in so much time before the delay is over.

        The old replicas serve the own tokens of whoever is merged later: these count for less than a query per stage.
        """
        return max(Fraction(0), self.slowest * time_ns - self.merged)

    def _keeps_before_delay(self, envelope: Envelope, wait_ns: int) -> bool:
        """Whether queries from θ on that are through before δ wait no longer than that, with what serves now."""
        end = self.delay_ns - wait_ns
        m = self.slowest
        windows = [Fraction(u) for u, _ in envelope.corners if u <= end] + [Fraction(end)]
        fresh = all(envelope.at(u) - 1 <= m * (u + wait_ns) for u in windows)
        start = Fraction(self.recovery_ns)
        late = [start, *(u for u in windows if u >= start)]
        return fresh and all(envelope.at(u) - 1 + self.backlog <= m * (u + wait_ns) for u in late)


def _reaching(envelope: Envelope, arrivals: Fraction) -> set[Fraction]:
    """Window lengths inside pieces of the hull at which it reaches a number of arrivals: at most one."""
    corners = [(Fraction(u), Fraction(a)) for u, a in envelope.corners]
    for (left, low), (right, high) in pairwise(corners):
        if low <= arrivals <= high and high > low:
            return {left + (arrivals - low) / (high - low) * (right - left)}
    left, low = corners[-1]
    if arrivals > low and envelope.rate > 0:
        return {left + (arrivals - low) / Fraction(envelope.rate)}
    return set()
