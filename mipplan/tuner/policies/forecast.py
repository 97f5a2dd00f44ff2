"""What traffic to be ready for: the envelope seen lately, the sample's at the present rate and burstiness, seasons."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from mipplan.calculus import WindowCounts
from mipplan.core import NS_PER_S, Float64, Int64
from mipplan.trace import Trace
from mipplan.tuner.policies.base import Parameters, Span, Times
from mipplan.tuner.traffic import RecentArrivals


@dataclass(frozen=True)
class ForecastParams:
    """How rates are compared, and how burstiness is estimated."""

    rate_step: float = 1.02
    """Rates are compared with the sample's in steps of this: the sample's envelope is stretched once for each."""
    cell_ns: int = NS_PER_S // 4
    """How bursty traffic is, is told by the spread of counts in cells of a quarter of a second."""
    span_ns: int = 60 * NS_PER_S
    """The cells of at most the last minute count."""
    fewest_cells: int = 20
    """At least 20 cells are needed, because fewer tell nothing."""
    short_span_ns: int = 15 * NS_PER_S
    """Over a quarter of a minute burstiness is known sooner, but less surely."""
    short_share: float = 0.85
    """Of the burstiness over that short time 0.85 is believed."""


_PARAMS = ForecastParams()
#: How long ago the cells began, the oldest first, and now.
_CELLS_NS = _PARAMS.cell_ns * np.arange(_PARAMS.span_ns // _PARAMS.cell_ns, -1, -1, dtype=np.int64)


@dataclass(frozen=True)
class ForecastRule(Parameters):
    """How the rate to be ready for is made of counts."""

    level_s: tuple[Span, ...] = (5.0, 10.0)
    """The rate to be ready for is at least the mean rate over each of the last such spans."""
    jump_s: tuple[Span, ...] = (1.0, 2.0)
    """Spans, too; here `jump_noise` standard deviations are taken off the mean rate."""
    jump_noise: Annotated[float, 0.0, math.inf] = 3.0
    trend_s: Span = 5.0
    """Where the last span of this length holds more than the one before by over `trend_noise` standard deviations of
    the difference, the line through both is followed."""
    trend_noise: Annotated[float, 0.0, math.inf] = 1.0
    trend_lead: Times = 0.0
    """It is followed as far ahead as new replicas take, times this. With 0 trends are left alone, because spare
    replicas are ready for more."""
    peak_s: Span = 5.0
    """The sample's own busiest seconds are no reason to be ready for more than the sample."""


class Forecast:
    """Envelopes of the traffic to come, as far as the past since `start_ns` tells.

    Windows are those of the live envelope, shape (k,). It looks ahead by `lead_ns`: until what is decided now takes
    effect.
    """

    def __init__(
        self, rule: ForecastRule, sample: Trace, window_ns: Int64, start_ns: int, lead_ns: int
    ) -> None:
        self._rule, self._sample, self._window_ns = rule, sample, window_ns
        self._start_ns, self._lead_s = start_ns, lead_ns / NS_PER_S
        self._recent = RecentArrivals(_PARAMS.span_ns)
        self._stretched: dict[int, Int64] = {}
        self._peak_rps = peak_rate_rps(sample, round(rule.peak_s * NS_PER_S))
        known = burstiness(sample.arrival_ns, int(sample.arrival_ns[0]), int(sample.arrival_ns[-1]))
        self._sample_burstiness = known or 1.0

    def observe(self, arrival_ns: Int64, now_ns: int) -> None:
        """Take in what came since the last time."""
        self._recent.add(arrival_ns, now_ns)

    def outlook(self, now_ns: int, live: WindowCounts) -> Callable[[float], WindowCounts]:
        """Most arrivals to be ready for at an instant, by how many times what it is the rate may jump to.

        The sample's counts at that pace, or that of a trend, their excess over the mean widened where the traffic is
        burstier than the sample; and nowhere less than `live`, the counts seen lately.
        """
        spread = self._burstiness(now_ns)
        wider = max(1.0, spread / self._sample_burstiness)
        level_rps, trend_rps = self._level_rps(now_ns, spread), self._trend_rps(now_ns, spread)

        def at_surge(surge: float) -> WindowCounts:
            rate_rps = max(surge * level_rps, trend_rps)
            counts = self._sample_counts(self._pace(rate_rps))
            level = rate_rps * self._window_ns / NS_PER_S
            widened = np.ceil(level + wider * np.maximum(counts - level, 0.0)).astype(np.int64)
            known = widened[: live.count.size]
            np.maximum(known, live.count, out=known)
            return WindowCounts(self._window_ns, np.maximum.accumulate(widened))

        return at_surge

    def _pace(self, rate_rps: float) -> float:
        """How many times as fast as the sample traffic of this rate is: 1 for rates that the sample holds already."""
        if rate_rps <= self._sample.rate_rps:
            return rate_rps / self._sample.rate_rps
        return max(1.0, rate_rps / self._peak_rps)

    def _burstiness(self, now_ns: int) -> float:
        arrivals, span_ns = self._recent.arrival_ns, _PARAMS.short_span_ns
        minute, lately = burstiness_twice(arrivals, self._start_ns, now_ns, span_ns)
        return max(minute or 0.0, _PARAMS.short_share * (lately or 0.0)) or self._sample_burstiness

    def _count(self, now_ns: int, span_s: float) -> int:
        return self._recent.since(now_ns - round(span_s * NS_PER_S))

    def _level_rps(self, now_ns: int, spread: float) -> float:
        """The rate now: of some seconds, or a higher one of fewer, if it is no chance."""
        rule, run_s = self._rule, (now_ns - self._start_ns) / NS_PER_S
        rates = [self._count(now_ns, span) / min(span, run_s) for span in rule.level_s]
        for span in rule.jump_s:
            count = self._count(now_ns, span)
            rates.append((count - rule.jump_noise * spread * math.sqrt(count)) / min(span, run_s))
        return max(rates)

    def _trend_rps(self, now_ns: int, spread: float) -> float:
        """The rate when what is ordered now serves, if it goes on rising as it did; 0 if it did not rise."""
        rule, span = self._rule, self._rule.trend_s
        if rule.trend_lead == 0.0 or (now_ns - self._start_ns) / NS_PER_S < 2 * span:
            return 0.0
        late = self._count(now_ns, span)
        early = self._count(now_ns, 2 * span) - late
        rise = late - early - rule.trend_noise * spread * math.sqrt(late + early)
        if rise <= 0:
            return 0.0
        # Spans are `span` apart; the late one's middle lies half of that back.
        return late / span + rise / span**2 * (rule.trend_lead * self._lead_s + span / 2)

    def _sample_counts(self, ratio: float) -> Int64:
        """Counts of the sample at about `ratio` times its pace (not less): its windows are that much longer."""
        step = math.ceil(math.log(max(ratio, 1e-3)) / math.log(_PARAMS.rate_step))
        if step not in self._stretched:
            lengths = np.rint(self._window_ns * _PARAMS.rate_step**step).astype(np.int64)
            # Shortest windows of a few ns, with far less traffic, would come to one length: each is longer by 1 ns.
            rank = np.arange(lengths.size)
            lengths = np.maximum.accumulate(np.maximum(lengths, 1) - rank) + rank
            counts = WindowCounts.of_arrivals(self._sample.arrival_ns, lengths).count
            # No window of the sample is longer than itself: it goes on at its mean rate.
            mean = np.ceil(self._sample.rate_rps * lengths / NS_PER_S).astype(np.int64)
            counts = np.where(lengths > self._sample.span_ns, np.maximum(counts, mean), counts)
            self._stretched[step] = counts
        return self._stretched[step]


def peak_rate_rps(sample: Trace, span_ns: int) -> float:
    """Return the rate of a trace's busiest span of this length; its mean rate if it is no longer than that."""
    if sample.span_ns <= span_ns:
        return sample.rate_rps
    return float(WindowCounts.of_arrivals(sample.arrival_ns, [span_ns]).count[0]) * NS_PER_S / span_ns


def burstiness(arrival_ns: Int64, since_ns: int, now_ns: int) -> float | None:
    """Estimate the CV of the gaps from counts in cells of a quarter of a second; None from fewer than twenty.

    For renewal traffic the variance of a count is about its mean times CV². Neighbouring cells are compared, so that a
    drifting rate does not count as burstiness.
    """
    return _spread(_cell_counts(arrival_ns, since_ns, now_ns))


def burstiness_twice(
    arrival_ns: Int64, since_ns: int, now_ns: int, span_ns: int
) -> tuple[float | None, float | None]:
    """`burstiness`, and the same of the last `span_ns` alone."""
    counts = _cell_counts(arrival_ns, since_ns, now_ns)
    return _spread(counts), _spread(counts[-(span_ns // _PARAMS.cell_ns) :])


def _cell_counts(arrival_ns: Int64, since_ns: int, now_ns: int) -> Float64:
    """Arrivals in the cells that end now."""
    cells = min(_PARAMS.span_ns, now_ns - since_ns) // _PARAMS.cell_ns
    places = arrival_ns.searchsorted(now_ns - _CELLS_NS[_CELLS_NS.size - cells - 1 :])
    return (places[1:] - places[:-1]).astype(np.float64)


def _spread(counts: Float64) -> float | None:
    if counts.size < _PARAMS.fewest_cells:
        return None
    mean = float(counts.sum()) / counts.size
    if mean == 0.0:
        return None
    steps = counts[1:] - counts[:-1]
    return math.sqrt(float(steps @ steps) / steps.size / 2 / mean)


@dataclass(frozen=True)
class SeasonParams:
    """When traffic is said to have a season."""

    lengths_ns: tuple[int, ...] = (7 * 86_400 * NS_PER_S, 86_400 * NS_PER_S)
    """A week, or else a day."""
    periods: int = 2
    """The sample holds at least two of them."""
    bins_ns: tuple[int, ...] = tuple(seconds * NS_PER_S for seconds in (60, 300, 900, 3_600))
    per_bin: float = 100.0
    """The shortest of these bins is taken in which a hundred queries come on average."""
    explained: float = 0.5
    """What came at the same hour of other periods explains at least half of the variance between bins."""
    noise: float = 3.0
    """A rise from bin to bin counts from three standard deviations on."""


@dataclass(frozen=True)
class Season:
    """How many queries come at which time of the day, or of the week; time 0 of sample and run are the same hour."""

    bin_ns: int
    count: Float64
    """Mean number of queries of each bin of a period, shape (bins,)."""
    noise: float
    """Standard deviations that count, of a mean number m, are ``noise · sqrt(m)``."""

    @classmethod
    def of(cls, sample: Trace, params: SeasonParams = SeasonParams()) -> Season | None:
        """The season of a sample; None where it is too short for one, or what it shows may be chance."""
        first_ns, last_ns = int(sample.arrival_ns[0]), int(sample.arrival_ns[-1])
        bin_ns = next(
            (ns for ns in params.bins_ns if sample.rate_rps * ns / NS_PER_S >= params.per_bin), None
        )
        if bin_ns is None:
            return None
        first = -(-first_ns // bin_ns)  # the first whole bin
        counts = np.diff(np.searchsorted(sample.arrival_ns, bin_ns * np.arange(first, last_ns // bin_ns + 1)))
        for length_ns in params.lengths_ns:
            bins = length_ns // bin_ns
            periods = counts.size // bins
            if periods < params.periods:
                continue
            latest = counts[counts.size - periods * bins :].reshape(periods, bins).astype(np.float64)
            mean = latest.mean(axis=0)
            # What is left of a period once the mean of the others is taken off, and once its own mean is.
            left = ((latest - mean) * (periods / (periods - 1))) ** 2
            total = (latest - latest.mean(axis=1, keepdims=True)) ** 2
            if left.sum() <= (1.0 - params.explained) * total.sum():
                begins = (first + counts.size - periods * bins) % bins
                # By what the counts of a bin vary from period to period, in units of chance's.
                spread = float(((latest - mean) ** 2).sum() / (periods - 1) / max(float(mean.sum()), 1.0))
                noise = params.noise * math.sqrt(max(spread, 1.0) / periods)
                return cls(bin_ns, np.roll(mean, begins), noise)
        return None

    def rise(self, now_ns: int, lead_ns: int) -> float:
        """How many times what it is now the rate will be at most until `lead_ns` from now, at least 1."""
        now, until = now_ns // self.bin_ns, (now_ns + lead_ns) // self.bin_ns
        ahead = np.arange(now + 1, min(until, now + self.count.size - 1) + 1) % self.count.size
        here, there = float(self.count[now % self.count.size]), self.count[ahead]
        sure = there[there - here > self.noise * np.sqrt(there + here)]
        return float(sure.max()) / max(here, 1.0) if sure.size else 1.0
