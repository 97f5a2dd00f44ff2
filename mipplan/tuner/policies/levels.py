"""What rate to expect when an order made now serves: the level, how sure it is, and where jumps have led so far."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mipplan.core import NS_PER_S, Float64, Int64
from mipplan.trace import Trace
from mipplan.tuner.policies.forecast import Season, burstiness, burstiness_twice
from mipplan.tuner.traffic import RecentArrivals


@dataclass(frozen=True)
class LevelParams:
    """How levels and jumps are told from chance, and what is believed before any was seen."""

    windows_s: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0)
    """The level is the mean of the longest of these windows that agrees with all shorter ones (Lepski's method)."""
    noise: float = 3.0
    """Windows agree within 3 standard deviations."""
    short_span_ns: int = 15 * NS_PER_S
    short_share: float = 0.85
    """Burstiness is that of a minute, or this share of that of a quarter of a minute, which is known less surely."""
    least_burstiness: float = 0.5
    """Less bursty than that is no traffic of many clients."""
    trends_s: tuple[float, ...] = (5.0, 2.0)
    """Two spans of so many seconds tell a trend, if they differ by more than what is chance between two rises."""
    lasting: float = 1.0
    """A trend is followed for as long as this many of its spans: what has lasted briefly may end soon."""
    step: float = 1.05
    """Rates are looked at in steps of 5 %."""
    below: int = 85
    above: int = 142
    """So many steps below and above the sample's rate: from 1/64 to 1,000 times."""
    jump: float = 1.2
    """A level that differs by a fifth, and by more than noise, is another level."""
    settled_s: float = 8.0
    """A level counts as seen once a window of 8 s agrees on it: bursts and ramps are none."""
    tail: float = 1.5
    """Before any was seen, a jump to more than z times the long-run rate has the chance (1.2 / z)^1.5: a Pareto law, as
    heavy a tail as has a mean by a good margin."""
    prior_s: float = 300.0
    """How often rises come is believed beforehand as if five minutes with one of them had been seen."""
    prior_rises: float = 3.0
    """Where they lead to is believed beforehand as if three had been seen."""
    same_s: float = 30.0
    """A rise that goes on within half a minute is the same."""
    longest_s: float = 3_600.0
    """At most the last hour of the sample is looked at."""


_PARAMS = LevelParams()


class LevelEstimator:
    """Levels of the traffic, sample and run together, and what may come within a lead time.

    The model: rises come at random instants, and where they lead to, as a multiple of the long-run rate, does not
    depend on where the rate is; one that leads no higher is none. How often each level is risen to is estimated from
    all that was seen, the sample first, and a prior.
    """

    def __init__(self, sample: Trace, period_ns: int, lead_ns: int, params: LevelParams = _PARAMS) -> None:
        self._params, self._lead_s = params, lead_ns / NS_PER_S
        steps = np.arange(-params.below, params.above + 1)
        self.rate_rps: Float64 = np.asarray(sample.rate_rps * params.step**steps, dtype=np.float64)
        """Rates that are told apart, shape (r,)."""
        tail = np.minimum(1.0, (params.step**steps / params.jump) ** -params.tail)
        # Half of the rises lead to the long-run rate, as from a dip, and half beyond it.
        self._rises: Float64 = np.asarray(params.prior_rises * -np.diff(tail, append=0.0) / 2)
        self._rises[params.below] += params.prior_rises / 2
        self._season = Season.of(sample)
        self._number, self._last_rise = 1.0, (0, -1)
        self._time_s, self._count = params.prior_s, params.prior_s * sample.rate_rps
        known = burstiness(sample.arrival_ns, int(sample.arrival_ns[0]), int(sample.arrival_ns[-1]))
        self._usual = self.burstiness = known or 1.0
        for _ in self.follow(sample, period_ns):  # to learn how it jumps
            pass

    def follow(self, sample: Trace, period_ns: int) -> Iterator[int]:
        """Take in a trace, its last hour at most, period by period; yield every instant once all before it is known."""
        first_ns, last_ns = int(sample.arrival_ns[0]), int(sample.arrival_ns[-1])
        first_ns = max(first_ns, last_ns - round(self._params.longest_s * NS_PER_S))
        edges = np.arange(first_ns, last_ns + 1, period_ns)
        cuts = np.searchsorted(sample.arrival_ns, edges)
        self.begin(first_ns)
        for now_ns, left, right in zip(
            edges[1:].tolist(), cuts[:-1].tolist(), cuts[1:].tolist(), strict=True
        ):
            self.observe(sample.arrival_ns[left:right], now_ns, period_ns)
            yield now_ns

    def begin(self, now_ns: int) -> None:
        """Start a stretch of traffic: nothing that came before is near."""
        self._since_ns, self._recent = now_ns, RecentArrivals(round(self._params.windows_s[-1] * NS_PER_S))
        self.level_rps = self._settled_rps = self._count / self._time_s
        self.error_rps = 0.0

    def observe(self, arrival_ns: Int64, now_ns: int, period_ns: int) -> None:
        """Take in what came since the last time."""
        params = self._params
        self._recent.add(arrival_ns, now_ns)
        self._time_s += period_ns / NS_PER_S
        self._count += arrival_ns.size
        arrivals, since_ns = self._recent.arrival_ns, self._since_ns
        minute, lately = burstiness_twice(arrivals, since_ns, now_ns, params.short_span_ns)
        found = max(minute or 0.0, params.short_share * (lately or 0.0)) or self._usual
        self.burstiness = max(found, params.least_burstiness)
        self.level_rps, self.error_rps, window_s = self._level(now_ns)
        if window_s >= params.settled_s:
            level, settled = max(self.level_rps, float(self.rate_rps[0])), self._settled_rps
            beyond = abs(level - settled) > params.noise * self.error_rps
            if beyond and not 1 / params.jump < level / settled < params.jump:
                if level > settled:
                    self._rise_to(self._place(level / self.long_run_rps), now_ns)
                self._settled_rps = level

    def _rise_to(self, place: int, now_ns: int) -> None:
        before, until_ns = self._last_rise
        if now_ns < until_ns:  # It goes on.
            self._rises[before] -= 1.0
            self._number -= 1.0
        self._rises[place] += 1.0
        self._number += 1.0
        self._last_rise = place, now_ns + round(self._params.same_s * NS_PER_S)

    @property
    def long_run_rps(self) -> float:
        """The rate on average over all that was seen."""
        return self._count / self._time_s

    def ahead_rps(self, now_ns: int) -> float:
        """The level one lead time from now, if nothing jumps: further along a rise that is no chance, or a season's."""
        ahead_rps, run_s = self.level_rps, (now_ns - self._since_ns) / NS_PER_S
        for span_s in self._params.trends_s:
            if run_s < 2 * span_s:
                continue
            late = self._recent.since(now_ns - round(span_s * NS_PER_S))
            early = self._recent.since(now_ns - round(2 * span_s * NS_PER_S)) - late
            rise = late - early - self._trend_noise(span_s) * self.burstiness * math.sqrt(late + early)
            if rise > 0:
                # The spans are one apart, and the middle of the late one lies half of one back.
                until_s = min(self._lead_s + span_s / 2, self._params.lasting * span_s)
                ahead_rps = max(ahead_rps, late / span_s + rise / span_s**2 * until_s)
        if self._season is not None:
            lead_ns = round(self._lead_s * NS_PER_S)
            ahead_rps = max(ahead_rps, self.level_rps * self._season.rise(now_ns, lead_ns))
        return ahead_rps

    def _trend_noise(self, span_s: float) -> float:
        """The standard deviations by which spans differ by chance once between two rises: the universal threshold.

        Of m normal numbers the largest is hardly above sqrt(2 ln m). So the rarer rises are, the plainer a trend has to
        be, and calm traffic, where the wait for the next is long, is left alone.

        References
        ----------
        Donoho and Johnstone, "Ideal spatial adaptation by wavelet shrinkage", Biometrika 1994,
        doi:10.1093/biomet/81.3.425.
        """
        spans = self._time_s / (self._number * span_s)
        return math.sqrt(2.0 * math.log(max(1.0, spans)))

    def chances(self, ahead_rps: float) -> tuple[Float64, Float64]:
        """How likely each rate is within a lead time, without a rise and by one, shape (r,) each; together 1."""
        params, rates = self._params, self.rate_rps
        shift = self._place(self.long_run_rps / float(rates[params.below])) - params.below
        risen = np.zeros(rates.size)
        low, high = max(0, shift), min(rates.size, rates.size + shift)
        chance = self._lead_s * self._number / self._time_s
        risen[low:high] = self._rises[low - shift : high - shift] * (chance / float(self._rises.sum()))
        risen[rates < params.jump * ahead_rps] = 0.0
        risen *= 1.0 / max(1.0, float(risen.sum()))
        left = 1.0 - float(risen.sum())
        stay = np.zeros(rates.size)
        # Three points have the moments of the normal law up to the fifth.
        for offset, weight in ((-math.sqrt(3.0), 1 / 6), (0.0, 2 / 3), (math.sqrt(3.0), 1 / 6)):
            at = min(max(ahead_rps + offset * self.error_rps, float(rates[0])), float(rates[-1]))
            place = math.log(at / rates[0]) / math.log(params.step)
            lower = min(int(place), rates.size - 2)
            stay[lower] += left * weight * (lower + 1 - place)
            stay[lower + 1] += left * weight * (place - lower)
        return stay, risen

    def _place(self, multiple: float) -> int:
        params = self._params
        step = round(math.log(max(multiple, 1e-9)) / math.log(params.step))
        return min(max(step + params.below, 0), self.rate_rps.size - 1)

    def _level(self, now_ns: int) -> tuple[float, float, float]:
        """The rate now, its standard error, and the window that it is the mean of, in seconds."""
        run_s = max((now_ns - self._since_ns) / NS_PER_S, 1e-9)
        least, most, found = 0.0, math.inf, (0.0, 0.0, 0.0)
        for window_s in self._params.windows_s:
            span_s = min(window_s, run_s)
            count = self._recent.since(now_ns - round(span_s * NS_PER_S))
            rate, error = count / span_s, self.burstiness * math.sqrt(max(count, 1)) / span_s
            if not least <= rate <= most:
                break
            found = rate, error, span_s
            least = max(least, rate - self._params.noise * error)
            most = min(most, rate + self._params.noise * error)
            if window_s >= run_s:
                break
        return found
