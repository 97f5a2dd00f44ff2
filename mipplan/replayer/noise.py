"""Random service times: quantile tables, and which quantile a batch gets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mipplan.core import (
    MAX_DURATION_NS,
    NS_PER_MS,
    Fault,
    Faults,
    Float64,
    InputError,
    Int64,
    array_of,
    check_seed,
    frozen,
    is_finite,
    is_whole,
    shown,
)
from mipplan.profiles import LatencyTable
from mipplan.tokens import StageTokens, service_key, uniform_pairs

Levels = NDArray[np.uint16]
#: Measured latencies in milliseconds, increasing, by (model, hardware) and batch size.
Samples: TypeAlias = Mapping[tuple[str, str], Mapping[int, Float64]]

#: Equally likely quantiles of a distribution, unless it is given by its own.
LEVELS = 1_024
#: As many as a level of 16 bits can tell apart.
MOST_LEVELS = 65_536
#: Service times of one stage, over levels and batch sizes: half a gigabyte in the engine that holds most.
MOST_ENTRIES = 2**23
_MAX_CV = 100.0
#: Tokens drawn at once, so that the draws stay in the processor's cache.
_TOKENS_AT_ONCE = 65_536
_Z99 = NormalDist().inv_cdf(0.99)


@dataclass(frozen=True, eq=False)
class ServiceNoise:
    """Random service times of batches, the same for every plan, engine and order of events.

    A batch of k takes the quantile at a random level of a distribution that belongs to ℓ(k). The level is drawn by
    (seed, stage, oldest token of the batch), so that one more replica or another discipline meets the same luck as
    far as batches begin with the same tokens, and a streamed trace the same as one read at once. There are finitely
    many levels, equally likely: each is the quantile at the middle of its share of the probability, and what lies
    further out than half a share is cut off.

    Make one by `lognormal`, `uniform`, `from_p99`, `from_samples` or `from_factors`.

    Attributes
    ----------
    factors : float64, shape (levels,), or None
        The quantiles as multiples of ℓ(k), increasing; None if the profiles' own P99, or `samples`, give the spread.
    seed : int or None
        Of the draws; None for the seed of the replay.
    label : str
        For reports.
    samples : mapping of (model, hardware) to mapping of int to float64, or None
        Measured latencies by batch size, in milliseconds.
    """

    factors: Float64 | None = field(repr=False)
    seed: int | None = None
    label: str = "by factors"
    samples: Samples | None = field(repr=False, default=None)

    def __post_init__(self) -> None:
        faults = _seed_faults(self.seed)
        factors = faults.take(lambda: None if self.factors is None else _read_factors(self.factors))
        samples = faults.take(lambda: None if self.samples is None else _read_samples(self.samples))
        faults.check()
        object.__setattr__(self, "samples", samples.value)
        object.__setattr__(self, "factors", factors.value)
        object.__setattr__(self, "seed", None if self.seed is None else int(self.seed))

    def __reduce__(self) -> tuple[type[ServiceNoise], tuple[object, ...]]:
        # Unpickled arrays are writeable; going through the constructor makes them read-only again.
        return ServiceNoise, (self.factors, self.seed, self.label, self.samples)

    @classmethod
    def lognormal(cls, cv: float, *, seed: int | None = None) -> ServiceNoise:
        """Multiply ℓ(k) by lognormal noise of mean 1.

        Parameters
        ----------
        cv : float
            Coefficient of variation, at least 0 and at most 100. That of the levels is smaller, as the far tail is
            cut off: by 0.15 % at 0.3, by 1.6 % at 1.
        seed : int, optional

        Raises
        ------
        InputError
            With every fault; so for all constructors here.
        """
        if not is_finite(cv) or not 0 <= cv <= _MAX_CV:
            fault = Fault("cv", f"expected a number from 0 to {_MAX_CV:g}, found {shown(cv)}")
            _seed_faults(seed, fault).check()
        sigma = math.sqrt(math.log1p(cv * cv))
        return cls(_lognormal_factors(np.array([sigma]))[:, 0], seed, f"lognormal, CV {cv:g}")

    @classmethod
    def uniform(cls, low: float, high: float, *, seed: int | None = None) -> ServiceNoise:
        """Multiply ℓ(k) by a number between `low` and `high`; with `high` ≤ 1 no batch takes longer than ℓ(k)."""
        faults = [
            Fault(name, f"expected a positive number, found {shown(value)}")
            for name, value in (("low", low), ("high", high))
            if not is_finite(value) or value <= 0
        ]
        if not faults and low > high:
            faults.append(Fault("low", f"expected at most high = {high:g}, found {low:g}"))
        if faults:
            _seed_faults(seed, *faults).check()
        return cls(low + (high - low) * _middles(LEVELS), seed, f"uniform, {low:g} to {high:g} times")

    @classmethod
    def from_p99(cls, *, seed: int | None = None) -> ServiceNoise:
        """Draw from the lognormal distribution that has the profile's P50 and P99, or its mean and P99.

        Where a table has ``latency_p50_ms`` and ``latency_p99_ms``, these two; where it has no P50, ``latency_ms`` is
        taken for the mean. Both are interpolated between measured sizes. Where it is replayed, every table needs the
        P99, not below the other figure, and at most 14.97 times the mean (no lognormal distribution has a larger
        ratio).
        """
        return cls(None, seed, "lognormal through the profiles' P99")

    @classmethod
    def from_samples(
        cls, samples: Mapping[tuple[str, str], Mapping[int, ArrayLike]], *, seed: int | None = None
    ) -> ServiceNoise:
        """Draw from latencies that were measured.

        The quantile of a batch size between two measured ones lies on the straight line between theirs, as ℓ does;
        sizes below the smallest take as long as that one.

        Parameters
        ----------
        samples : mapping of (model, hardware) to mapping of int to array_like
            By batch size, latencies of the whole batch in milliseconds (`mipplan.profiling.read_samples` has those of a
            profile folder). Where it is replayed, every table needs samples up to its batch size.
        seed : int, optional
        """
        return cls(None, seed, "measured latencies", samples)  # type: ignore[arg-type]  # arrays are made of it

    @classmethod
    def from_factors(cls, factors: ArrayLike, *, seed: int | None = None) -> ServiceNoise:
        """Multiply ℓ(k) by one of these factors, each equally likely; up to 65,536."""
        given = array_of(factors)
        in_order = np.sort(given) if given.ndim == 1 and given.dtype.kind in "iuf" else given
        return cls(in_order, seed, f"{given.size} equally likely factors")

    @property
    def levels(self) -> int:
        """Number of equally likely quantiles."""
        return LEVELS if self.factors is None else int(self.factors.size)

    def stays_within(self, least: float) -> bool:
        """Whether every batch of k takes from least·ℓ(k) to ℓ(k), whatever the profiles: only then a theorem holds."""
        return self.factors is not None and bool(least <= self.factors[0] and self.factors[-1] <= 1.0)

    def faults(self, place: str, table: LatencyTable) -> list[Fault]:
        """What keeps this noise from being drawn for a table."""
        name = f"{place}: profile of {table.model} on {table.hardware}"
        if self.factors is not None:
            return []
        if self.samples is not None:
            missing = (table.model, table.hardware) not in self.samples
            return [Fault(name, "there are no measured latencies of it")] if missing else []
        if table.latency_p99_ms is None:
            return [Fault(name, "has no column latency_p99_ms, from which the spread is to be taken")]
        of_p50 = table.latency_p50_ms is not None
        most, what = (math.inf, "P50") if of_p50 else (math.exp(_Z99 * _Z99 / 2), "mean")
        allowed = "at least" if of_p50 else f"1 to {most:.4g} times"
        centre = table.latency_ms if table.latency_p50_ms is None else table.latency_p50_ms
        return [
            Fault(
                name,
                f"batch {size}: the P99 {p99:g} ms must be {allowed} the {what} {middle:g} ms for "
                "a lognormal distribution to have both",
            )
            for size, middle, p99 in zip(
                table.batch.tolist(), centre.tolist(), table.latency_p99_ms.tolist(), strict=True
            )
            if not middle <= p99 <= middle * most
        ]

    def service_ns(self, table: LatencyTable, cap: int) -> Int64:
        """Quantiles of the service time of every batch size, whole ns and at least 1, shape (levels, cap).

        Raises
        ------
        InputError
            If the table cannot be used (see `faults`), a time is beyond ten years, or there would be more than
            `MOST_ENTRIES`.
        """
        place = "noise"
        faults = self.faults(place, table)
        if faults:
            raise InputError(faults)
        if self.levels * cap > MOST_ENTRIES:
            raise InputError.one(
                place,
                f"{self.levels:,} levels for batches of up to {cap:,} make more than {MOST_ENTRIES:,} service times: "
                "give fewer factors",
            )
        with np.errstate(over="ignore"):  # infinity is over ten years, too
            if self.samples is not None:
                drawn_ns = _sampled_ns(table, cap, self.samples[table.model, table.hardware])
            elif self.factors is not None:
                drawn_ns = self.factors[:, np.newaxis] * table.service_ns(cap)
            else:
                drawn_ns = _p99_ns(table, cap)
            service_ns = np.maximum(1.0, np.rint(drawn_ns))
        if service_ns.max() > MAX_DURATION_NS:
            message = f"batches of {table.model} on {table.hardware} may take over ten years"
            raise InputError.one(place, message)
        return frozen(service_ns.astype(np.int64))

    def draw_levels(self, seed: int, tokens: StageTokens, numbers: Int64 | None = None) -> Levels:
        """Draw the level of every token of a stage, for the batches of which it is the oldest, shape (tokens,).

        The counter is (query, number of the token among those of its query at this stage); `numbers` are those of the
        queries in the whole trace, by default 0, 1, …. The replay's `seed` is used if the noise has none of its own.
        """
        key = service_key(seed if self.seed is None else self.seed, tokens.name)
        ordinal = tokens.ordinal
        levels = np.empty(tokens.count, dtype=np.uint16)
        for start in range(0, tokens.count, _TOKENS_AT_ONCE):
            piece = slice(start, start + _TOKENS_AT_ONCE)
            query = tokens.query[piece] if numbers is None else numbers[tokens.query[piece]]
            uniform, _ = uniform_pairs(key, query, ordinal[piece])
            levels[piece] = (uniform * self.levels).astype(np.uint16)
        return frozen(levels)

    def describe(self, seed: int) -> str:
        """Say what is drawn, and by which seed in a replay with that seed."""
        return f"{self.label} (seed {seed if self.seed is None else self.seed})"


def _middles(levels: int) -> Float64:
    """Probabilities in the middle of equal shares."""
    return (np.arange(levels) + 0.5) / levels


@cache
def _normal_quantiles() -> Float64:
    normal = NormalDist()
    return np.array([normal.inv_cdf(probability) for probability in _middles(LEVELS).tolist()])


def _lognormal_factors(sigma: Float64) -> Float64:
    """Quantiles of lognormal noise of mean 1, shape (levels, len(sigma)); their mean is 1 as well."""
    factors = np.exp(np.multiply.outer(_normal_quantiles(), sigma) - sigma * sigma / 2)
    scaled: Float64 = factors / factors.mean(axis=0)
    return scaled


def _p99_ns(table: LatencyTable, cap: int) -> Float64:
    """Quantiles by the P99 and the P50, or else the mean, at every batch size; nanoseconds, shape (levels, cap)."""
    sizes = np.arange(1, cap + 1)
    p99 = np.interp(sizes, table.batch, np.asarray(table.latency_p99_ms))
    if table.latency_p50_ms is not None:
        p50 = np.interp(sizes, table.batch, table.latency_p50_ms)
        quantiles: Float64 = p50 * np.exp(np.multiply.outer(_normal_quantiles(), np.log(p99 / p50) / _Z99))
        return quantiles * NS_PER_MS
    mean = np.interp(sizes, table.batch, table.latency_ms)
    # P99/mean = exp(z·σ − σ²/2), solved for the smaller σ. Rounding may leave a hair below 0 under the root, where the
    # P99 is as large as it can be.
    root = np.sqrt(np.maximum(0.0, _Z99 * _Z99 - 2.0 * np.log(p99 / mean)))
    factors = _lognormal_factors(np.maximum(0.0, _Z99 - root))
    return factors * np.maximum(1.0, np.rint(mean * NS_PER_MS))


def _sampled_ns(table: LatencyTable, cap: int, samples: Mapping[int, Float64]) -> Float64:
    """Quantiles of samples, linear between the sizes that have some; nanoseconds, shape (levels, cap)."""
    measured = sorted(samples)
    if measured[-1] < cap:
        name = f"noise: {table.model} on {table.hardware}"
        raise InputError.one(name, f"there are samples of batches up to {measured[-1]}, not {cap}")
    # Of n ordered samples, the one in whose share of the probability the level lies.
    known = np.array(
        [samples[size][(_middles(LEVELS) * samples[size].size).astype(int)] for size in measured]
    )
    sizes = np.arange(1, cap + 1)
    above = np.clip(np.searchsorted(measured, sizes), 0, len(measured) - 1)
    below = np.maximum(above - 1, 0)
    ends = np.array(measured, dtype=np.float64)
    width = np.maximum(ends[above] - ends[below], 1.0)
    share = np.where(above == below, 1.0, np.clip((sizes - ends[below]) / width, 0.0, 1.0))
    quantiles: Float64 = (known[below].T * (1.0 - share) + known[above].T * share) * NS_PER_MS
    return quantiles


def _read_samples(given: object) -> Samples:
    expected = "expected latencies in milliseconds, above 0, by (model, hardware) and batch size"
    if not isinstance(given, Mapping) or not given:
        raise InputError.one("samples", f"{expected}; found {shown(given)}")
    read: dict[tuple[str, str], dict[int, Float64]] = {}
    for key, by_size in given.items():
        if (
            not isinstance(by_size, Mapping)
            or not by_size
            or not all(is_whole(k) and k >= 1 for k in by_size)
        ):
            raise InputError.one("samples", f"{expected}; found {shown(by_size)} for {shown(key)}")
        arrays = {int(size): array_of(latencies) for size, latencies in by_size.items()}
        for size, array in arrays.items():
            usable = array.ndim == 1 and array.size and array.dtype.kind in "iuf"
            if not usable or not bool(np.all((array > 0) & np.isfinite(array))):
                raise InputError.one("samples", f"{expected}; not so for batches of {size} of {shown(key)}")
        read[key] = {size: frozen(np.sort(array.astype(np.float64))) for size, array in arrays.items()}
    return read


def _read_factors(given: object) -> Float64:
    factors = np.array(given)
    if factors.ndim != 1 or not 1 <= factors.size <= MOST_LEVELS or factors.dtype.kind not in "iuf":
        raise InputError.one("factors", f"expected 1 to {MOST_LEVELS} numbers, found {shown(given)}")
    factors = factors.astype(np.float64)
    if not bool(np.all((factors > 0) & np.isfinite(factors))):
        raise InputError.one("factors", "expected finite numbers above 0")
    if bool(np.any(np.diff(factors) < 0)):
        raise InputError.one("factors", "expected them in increasing order; from_factors() sorts them")
    return frozen(factors)


def _seed_faults(seed: object, *others: Fault) -> Faults:
    """Faults found so far, and those of a seed."""
    faults = Faults()
    faults.add(*others)
    faults.take(lambda: None if seed is None else check_seed(seed, "noise seed"))
    return faults
