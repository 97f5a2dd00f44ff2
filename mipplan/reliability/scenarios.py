"""Scenarios of tomorrow's traffic, each made of the sample when it is asked for, from a seed and its number.

*Arrivals*: the stationary bootstrap of Politis and Romano (1994) of the gaps between queries. Blocks of neighbouring
gaps begin anywhere, their lengths are geometric, and the sample is taken for a ring. A resample is stationary, its mean
gap is the sample's on average, and within a block bursts are what they were.

*Block length*: the larger of two. That of Politis and White (2004), with the correction of Patton, Politis and White
(2009), is the best for the variance of a mean; it is about 1 where gaps are independent. And the longest busy period of
the sample at a server that is a quarter faster than the mean rate: what a plan has to live through as a whole. At most
a twentieth of the sample, or hardly anything would be resampled.

*Twice*: what is resampled is a resample itself. The sample is one draw of what traffic there is, and tomorrow will be
another: it differs from the sample as two draws do, √2 times as much as a draw differs from its mean. Resampled once, a
plan that is made to keep the luck of one sample would look more reliable than it is.

*Drift*: the rate of each scenario is multiplied by exp(drift·Z), Z standard normal. By default it is estimated from how
much the mean gaps of ten parts of the sample differ beyond what the memory of its gaps explains. Where a stationary
sample may well differ as much, the drift is what that adds to its mean, near 0; where one hardly would (once in a
hundred), the rate itself moves, and by tomorrow it may have moved as far as from part to part.

References
----------
D. N. Politis, J. P. Romano, "The stationary bootstrap", *Journal of the American Statistical Association* 89 (1994),
[doi:10.1080/01621459.1994.10476870](https://doi.org/10.1080/01621459.1994.10476870).
D. N. Politis, H. White, "Automatic block-length selection for the dependent bootstrap", *Econometric Reviews* 23
(2004), [doi:10.1081/ETC-120028836](https://doi.org/10.1081/ETC-120028836); A. Patton, D. N. Politis, H. White,
"Correction", *Econometric Reviews* 28 (2009),
[doi:10.1080/07474930802459016](https://doi.org/10.1080/07474930802459016).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from mipplan.core import MAX_DURATION_NS, Fault, Float64, InputError, Int64
from mipplan.trace import Trace


@dataclass(frozen=True)
class ScenarioParams:
    """How scenarios are made of a sample."""

    # Blocks are at most a twentieth of the sample, so that a resample has about 20 of them.
    fewest_blocks: int = 20
    busy_at: float = 1.25  # Busy periods are those of a server 1.25 times as fast as the mean rate.
    parts: int = 10  # The drift is estimated from the mean gaps of 10 parts of the sample.
    chance: float = (
        0.01  # The rate moves where parts differ as those of a stationary sample do once in a hundred.
    )


class Purpose(IntEnum):
    """What scenarios are drawn for: those of one purpose are independent of those of all others."""

    CHOICE = 0
    """Plans are chosen on these."""
    TEST = 1
    """The first plan is tested on these, the next one on those of the next number."""


@dataclass(frozen=True, eq=False)
class Scenario:
    """One way tomorrow may be; each is itself alone."""

    number: int  # Among those of one purpose.
    trace: Trace
    seed: int  # Of token draws and of service times.
    rate: float = 1.0  # What the drift multiplied the rate of its trace by.


@dataclass(frozen=True)
class ScenarioSource:
    """Makes scenarios of some traces, each of which is as likely as the others."""

    traces: Sequence[Trace]
    seed: int
    # Standard deviation of the logarithm of the rate; None: estimated for each trace.
    drift: float | None = None
    params: ScenarioParams = ScenarioParams()
    gaps_ns: tuple[Int64, ...] = field(init=False, repr=False)
    blocks: tuple[float, ...] = field(init=False)  # Mean block length of each trace, in gaps.
    drifts: tuple[float, ...] = field(init=False)  # Of each trace.

    def __post_init__(self) -> None:
        fewest = self.params.fewest_blocks + 1
        InputError.raise_if(
            Fault(
                f"trace {trace.name}",
                f"{len(trace)} queries in {trace.duration_s:g} s are too few to resample: expected at least {fewest}, "
                "not all at once",
            )
            for trace in self.traces
            if len(trace) < fewest or not trace.span_ns
        )
        gaps = tuple(np.diff(trace.arrival_ns) for trace in self.traces)
        blocks = tuple(block_length(gap, self.params) for gap in gaps)
        drifts = [estimate_drift(gap, self.params) if self.drift is None else self.drift for gap in gaps]
        object.__setattr__(self, "gaps_ns", gaps)
        object.__setattr__(self, "blocks", blocks)
        object.__setattr__(self, "drifts", tuple(drifts))

    def scenario(self, number: int, purpose: int = Purpose.CHOICE) -> Scenario:
        """Make one; the same number, purpose and seed always make the same."""
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(purpose, number)))
        which = int(rng.integers(len(self.traces)))
        rate = math.exp(self.drifts[which] * rng.standard_normal())
        drawn_by = int(rng.integers(2**63))
        block = self.blocks[which]
        gaps = resample(resample(self.gaps_ns[which], block, rng), block, rng)
        after = np.concatenate([[0.0], np.cumsum(gaps, dtype=np.float64) / rate])
        # A drift that nobody can mean makes traces longer than any may be.
        arrival_ns = np.rint(np.minimum(after, MAX_DURATION_NS)).astype(np.int64)
        name = self.traces[which].name
        note = f"resampled in blocks of {self.blocks[which]:.4g}, rate × {rate:.4g}"
        return Scenario(number, Trace(arrival_ns, name, note), drawn_by, rate)


def resample(gaps_ns: Int64, block: float, rng: np.random.Generator) -> Int64:
    """Draw as many gaps in blocks of geometric length with mean `block` (at least 1), on the ring of all gaps."""
    count = gaps_ns.size
    begins = rng.random(count) * block < 1.0
    begins[0] = True
    starts = rng.integers(count, size=count)
    place = np.arange(count)
    began = np.maximum.accumulate(np.where(begins, place, 0))
    drawn: Int64 = gaps_ns[(starts[began] + place - began) % count]
    return drawn


def block_length(gaps_ns: Int64, params: ScenarioParams = ScenarioParams()) -> float:
    """Mean length of blocks, in gaps, between 1 and a share of all of them."""
    wanted = max(best_block(gaps_ns.astype(np.float64)), float(longest_busy_period(gaps_ns, params.busy_at)))
    return min(max(1.0, wanted), max(1.0, gaps_ns.size / params.fewest_blocks))


def best_block(values: Float64) -> float:
    """Best mean block length of the stationary bootstrap for the variance of the mean of n values.

    (G²/g²)^(1/3)·n^(1/3), with both sums of `sum_covariances`.
    """
    weighted, spread = sum_covariances(values)
    return float(np.cbrt((weighted / spread) ** 2 * values.size)) if spread > 0.0 else 1.0


def sum_covariances(values: Float64) -> tuple[float, float]:
    """G = Σ λ(k/M)·|k|·R(k) and g = Σ λ(k/M)·R(k), the variance of the mean of n values times n.

    R is the autocovariance, λ the flat-top window, and M twice the lag after which no correlation stands out.
    """
    from scipy.fft import next_fast_len

    count = values.size
    centred = values - values.mean()
    run = max(5, math.ceil(math.sqrt(math.log10(count))))
    most = min(count - 1, math.ceil(math.sqrt(count)) + run)
    # By the spectrum of the values with zeros behind them, as many as make it quick: lag by lag a million gaps would
    # take many seconds.
    length = next_fast_len(count + most, real=True)
    spectrum = np.fft.rfft(centred, length)
    covariance = np.fft.irfft(spectrum * spectrum.conj(), length)[: most + 1] / count
    if covariance[0] <= 0.0:
        return 0.0, 0.0
    stands_out = np.abs(covariance[1:] / covariance[0]) >= 2.0 * math.sqrt(math.log10(count) / count)
    # The first lag after which a run of correlations does not stand out.
    quiet = [lag for lag in range(most - run + 1) if not stands_out[lag : lag + run].any()]
    last = quiet[0] if quiet else int(np.flatnonzero(stands_out).max()) + 1
    window = min(2 * max(last, 1), most)
    lags = np.arange(1, window + 1)
    weight = np.clip(2.0 * (1.0 - lags / window), 0.0, 1.0) * covariance[1 : window + 1]
    return float(2.0 * (lags * weight).sum()), float(covariance[0] + 2.0 * weight.sum())


def longest_busy_period(gaps_ns: Int64, faster: float) -> int:
    """Most queries in a row that a server at a constant rate, a multiple of the mean rate, serves without a pause."""
    service = float(gaps_ns.mean()) / faster
    # Work done so far lies at a new minimum where the server was idle.
    backlog = np.concatenate([[0.0], np.cumsum(service - gaps_ns)])
    idle = np.flatnonzero(backlog <= np.minimum.accumulate(backlog))
    return int(np.diff(idle, append=backlog.size).max())


def estimate_drift(gaps_ns: Int64, params: ScenarioParams = ScenarioParams()) -> float:
    """By how much the mean rate is off beyond what resampling has: standard deviation of its logarithm.

    From the mean gaps of equal parts of the sample. They differ by chi-squared where the sample is stationary: by the
    memory of its gaps alone.
    """
    from scipy.special import chdtri

    gaps = gaps_ns.astype(np.float64)
    means = np.array([part.mean() for part in np.array_split(gaps, params.parts)])
    free = params.parts - 1
    by_parts = float(means.var(ddof=1)) / params.parts
    by_memory = max(0.0, sum_covariances(gaps)[1]) / gaps.size
    beyond = math.sqrt(max(0.0, by_parts - by_memory)) / float(gaps.mean())
    # A part without any gap has no rate; as a multiple of the rest its logarithm would be without end.
    logs = np.log(means[means > 0])
    if by_parts * free <= by_memory * float(chdtri(free, params.chance)) or logs.size == 1:
        return beyond
    between = float(logs.var(ddof=1)) - params.parts * by_memory / float(gaps.mean()) ** 2
    return max(beyond, math.sqrt(max(0.0, between)))
