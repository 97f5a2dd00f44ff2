"""Textbook algebra of arrival and service curves: convolution, deviations. The package's closed forms are held to it.

References
----------
J.-Y. Le Boudec, P. Thiran, "Network Calculus", Springer LNCS 2050, 2001, doi:10.1007/3-540-45318-0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate

from mipplan.calculus import ArrivalCurve


def after_delay(arrival: ArrivalCurve, delay_s: float) -> ArrivalCurve:
    """Curve of the same traffic after a stage that holds it back by at most `delay_s`: α(u + delay)."""
    return ArrivalCurve(tuple((burst + rate * delay_s, rate) for burst, rate in arrival.buckets))


@dataclass(frozen=True)
class ServiceCurve:
    """Convex service curve through the origin, as segments of rising slope.

    Attributes
    ----------
    segments : tuple of (rate, length)
        Slope (tokens/s, ``inf`` allowed last: a pure delay) and length (s); the last length is ``inf``.
    """

    segments: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if not self.segments or self.segments[-1][1] != math.inf:
            raise ValueError("the last segment of a service curve must have infinite length")
        rates = [rate for rate, _ in self.segments]
        if rates[0] < 0 or any(math.isnan(rate) for rate in rates) or sorted(rates) != rates:
            raise ValueError(f"slopes must rise from at least 0 (convex curve), found {rates}")
        if any(not length > 0 for _, length in self.segments):
            raise ValueError("segment lengths must be positive")

    @classmethod
    def rate_latency(cls, rate: float, latency_s: float) -> ServiceCurve:
        """Build β(t) = rate·(t − latency)⁺; ``rate = inf`` is a pure delay."""
        if not (rate >= 0 and latency_s >= 0 and math.isfinite(latency_s)):
            raise ValueError(f"rate and latency must not be negative, found ({rate}, {latency_s})")
        final = ((float(rate), math.inf),)
        return cls(((0.0, float(latency_s)), *final) if latency_s > 0 and rate > 0 else final)

    @property
    def rate(self) -> float:
        """Long-run rate, tokens/s."""
        return self.segments[-1][0]

    @property
    def idle_s(self) -> float:
        """Time before anything is served (s)."""
        return sum((length for rate, length in self.segments if rate == 0), start=0.0)

    def corners(self) -> tuple[tuple[float, float], ...]:
        """Points (t in s, tokens) where the slope changes, the origin first."""
        finite = self.segments[:-1]
        times = accumulate((length for _, length in finite), initial=0.0)
        tokens = accumulate((rate * length for rate, length in finite), initial=0.0)
        return tuple(zip(times, tokens, strict=True))

    def __call__(self, time_s: float) -> float:
        """β at one time (s)."""
        if time_s <= 0:
            return 0.0
        served = 0.0
        for rate, length in self.segments:
            step = min(length, time_s)
            served += rate * step if step > 0 else 0.0
            time_s -= step
            if time_s <= 0:
                break
        return served

    def first_reach(self, tokens: float) -> float:
        """Pseudo-inverse: infimum of t with β(t) ≥ tokens (s); ∞ if never."""
        if tokens <= 0:
            return 0.0
        time_s = 0.0
        for rate, length in self.segments:
            if rate > 0 and tokens <= rate * length:
                return time_s + tokens / rate
            if length == math.inf:
                return math.inf
            tokens -= rate * length
            time_s += length
        return math.inf


def convolve(first: ServiceCurve, second: ServiceCurve) -> ServiceCurve:
    """Min-plus convolution of two convex service curves: the service of two stages in a row.

    Segments of both in order of slope, up to the first endless one. For rate-latency curves this gives rate
    min(R₁, R₂) and latency T₁ + T₂, hence "pay bursts only once".

    References
    ----------
    Le Boudec & Thiran 2001, theorem 3.1.6 (convolution of convex piecewise-linear functions).
    """
    merged: list[tuple[float, float]] = []
    for rate, length in sorted(first.segments + second.segments):
        if merged and merged[-1][0] == rate:
            rate, length = rate, merged.pop()[1] + length
        merged.append((rate, length))
        if length == math.inf:
            break
    return ServiceCurve(tuple(merged))


def horizontal_deviation(arrival: ArrivalCurve, service: ServiceCurve) -> float:
    """Largest delay (s): ``sup_u inf { d ≥ 0 : α(u) ≤ β(u + d) }``; ∞ if the long-run rate exceeds the service.

    References
    ----------
    Le Boudec & Thiran 2001, definition 3.1.15 and theorem 1.4.2.
    """
    if arrival.rate > service.rate:
        return math.inf
    corners = [arrival.first_reach(tokens) for _, tokens in service.corners()]
    windows = [0.0, *arrival.breakpoints(), *(u for u in corners if math.isfinite(u))]
    # α is concave and β⁻¹∘α − u piecewise linear between these points; beyond the last it does not grow. Only at
    # the origin does it jump: without a burst β⁻¹(α(0)) = 0, yet whatever comes first waits for service to begin.
    idle_s = 0.0 if arrival.buckets == ((0.0, 0.0),) else service.idle_s
    return max(idle_s, *(service.first_reach(arrival.just_after(u)) - u for u in windows))


def vertical_deviation(arrival: ArrivalCurve, service: ServiceCurve) -> float:
    """Largest backlog (tokens): ``sup_u α(u) − β(u)``; ∞ if the long-run rate exceeds the service.

    References
    ----------
    Le Boudec & Thiran 2001, definition 3.1.15 and theorem 1.4.1.
    """
    if arrival.rate > service.rate:
        return math.inf
    if service.segments[0][0] == math.inf:
        return 0.0  # whatever arrives is gone at once, a burst too
    windows = [0.0, *arrival.breakpoints(), *(time for time, _ in service.corners())]
    return max(0.0, *(arrival.just_after(u) - service(u) for u in windows))
