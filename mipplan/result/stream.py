"""What a streamed replay observed: exact sums, counts and a histogram instead of an array per query.

The histogram's buckets are log-linear: as wide as a double's first `PRECISION_BITS` bits after the leading one tell
values apart. A bucket is then the upper bits of the double itself, so that sorting values into buckets is one shift.

References
----------
G. Tene, HdrHistogram, for the layout of buckets; the error bound follows from the bucket width alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from mipplan.core import (
    NS_PER_S,
    FieldOf,
    Int64,
    Printable,
    Summary,
    check_quantile,
    format_duration,
    frozen,
    higher_rank,
)
from mipplan.pipeline import times_text

if TYPE_CHECKING:
    from mipplan.result.replay import ReplayResult
    from mipplan.result.stage import BatchAssignment, StageReplay
    from mipplan.result.timeline import RunEnergy

PRECISION_BITS = 10
#: No quantile is further above the true one than this share of it (and never below it).
RELATIVE_ERROR = 2.0**-PRECISION_BITS

_DROPPED_BITS = 52 - PRECISION_BITS
#: These are the upper bits of the double 1.0, so that bucket 1 begins at 1 ns and bucket 0 holds 0.
_ONE = int(np.float64(1.0).view(np.int64)) >> _DROPPED_BITS
#: This many buckets reach up to 2**63 ns.
BUCKETS = (63 << PRECISION_BITS) + 2
_HALF_BITS = 32
_LOW_HALF = np.int64(2**_HALF_BITS - 1)

STAGE_HEADINGS = ("stage", ">replicas", ">busy", ">tokens", ">mean batch", ">mean wait", ">max wait")
SHOWN_QUANTILES = {"P50": 0.5, "P90": 0.9, "P99": 0.99, "P99.9": 0.999, "max": 1.0}


def exact_sum(values: Int64) -> int:
    """Add up int64 numbers, shape (n,), n < 2³¹.

    An overloaded stage makes 10⁷ tokens wait for an hour each: 3.6·10¹⁹ ns, beyond int64.
    """
    if not values.size:
        return 0
    largest = max(abs(int(values.max())), abs(int(values.min())))
    if largest * values.size < 2**63:
        return int(values.sum())
    return (int((values >> _HALF_BITS).sum()) << _HALF_BITS) + int((values & _LOW_HALF).sum())


def exact_product_sum(counts: Int64, durations_ns: Int64) -> int:
    """Add up ``counts · durations_ns``, both shape (n,); counts below 2³¹, durations not negative."""
    high, low = durations_ns >> _HALF_BITS, durations_ns & _LOW_HALF
    return (exact_sum(counts * high) << _HALF_BITS) + exact_sum(counts * low)


@dataclass(frozen=True)
class LatencyHistogram:
    """How many latencies fell into each bucket."""

    counts: Int64 = field(repr=False)
    """Shape (BUCKETS,)."""
    largest_ns: int = 0
    """The largest latency itself; 0 if there is none."""

    @classmethod
    def empty(cls) -> LatencyHistogram:
        """A histogram of nothing."""
        return cls(np.zeros(BUCKETS, dtype=np.int64))

    def plus(self, values_ns: Int64) -> LatencyHistogram:
        """Return the histogram with these added, shape (n,), none negative."""
        if not values_ns.size:
            return self
        upper = values_ns.astype(np.float64).view(np.int64) >> _DROPPED_BITS
        counted = np.bincount(np.maximum(upper - (_ONE - 1), 0), minlength=BUCKETS)
        return LatencyHistogram(frozen(self.counts + counted), max(self.largest_ns, int(values_ns.max())))

    @property
    def total(self) -> int:
        """Number of latencies."""
        return int(self.counts.sum())

    def quantile_ns(self, quantile: float) -> int:
        """Latency quantile (``method="higher"``), at most `RELATIVE_ERROR` too high and never too low.

        Raises
        ------
        InputError
            If `quantile` is not in (0, 1].
        """
        rank = higher_rank(check_quantile(quantile), self.total)
        bucket = int(np.searchsorted(np.cumsum(self.counts), rank, side="right"))
        next_edge = np.int64((bucket + _ONE) << _DROPPED_BITS).view(np.float64)
        return min(int(np.ceil(next_edge)) - 1, self.largest_ns)


class StreamEnd(StrEnum):
    """Why a streamed replay ended."""

    COMPLETE = "complete"
    """Every query of the source is finished."""
    INTERRUPTED = "interrupted"
    """Ctrl-C."""
    OVERLOADED = "overloaded"
    """More tokens were waiting or under way than may be held in memory."""


@dataclass(frozen=True)
class StageTotals:
    """What one stage did, exactly, in integer ns."""

    replicas: int
    # Dispatched so far.
    tokens: int = 0
    batches: int = 0
    # Sum over tokens of the time from ready to dispatch, and over batches of their service time.
    wait_ns: int = 0
    busy_ns: int = 0
    max_wait_ns: int = 0
    # Of the tokens dispatched; 0 if there is none.
    first_arrival_ns: int = 0
    last_exit_ns: int = 0

    max_wait_s = FieldOf[float]("max_wait_ns", NS_PER_S)
    """Longest time from ready to dispatch (s)."""

    def plus(self, arrival_ns: Int64, served: BatchAssignment) -> StageTotals:
        """Return the totals with more tokens, shape (k,); those not dispatched count for nothing."""
        if not served.batch_size.size:
            return self
        dispatched = int(served.batch_size.sum())
        dispatch_ns, exit_ns = served.dispatch_ns, served.exit_ns
        if dispatched < arrival_ns.size:
            done = exit_ns != np.iinfo(np.int64).max
            arrival_ns, dispatch_ns, exit_ns = arrival_ns[done], dispatch_ns[done], exit_ns[done]
        wait_ns = dispatch_ns - arrival_ns
        first_ns = int(arrival_ns.min())
        return StageTotals(
            self.replicas,
            self.tokens + dispatched,
            self.batches + served.batch_size.size,
            self.wait_ns + exact_sum(wait_ns),
            self.busy_ns + exact_sum(served.batch_service_ns),
            max(self.max_wait_ns, int(wait_ns.max())),
            min(self.first_arrival_ns, first_ns) if self.tokens else first_ns,
            max(self.last_exit_ns, int(exit_ns.max())),
        )

    @property
    def mean_wait_s(self) -> float:
        """Mean time from ready to dispatch (s); 0 if the stage saw no token."""
        return self.wait_ns / self.tokens / NS_PER_S if self.tokens else 0.0

    @property
    def mean_batch(self) -> float:
        """Mean batch size; 0 if there was no batch."""
        return self.tokens / self.batches if self.batches else 0.0

    @property
    def utilisation(self) -> float:
        """Busy share of all replicas between the stage's first arrival and its last exit."""
        span_ns = self.last_exit_ns - self.first_arrival_ns
        return self.busy_ns / (span_ns * self.replicas) if self.tokens else 0.0


@dataclass(frozen=True, eq=False, repr=False)
class StreamResult(Printable):
    """Outcome of a streamed replay, over the queries that finished.

    Counts, the largest latency, the mean and all figures of stages are exact; quantiles come from a histogram and
    are at most a share of 2⁻¹⁰ too high, never too low.
    """

    # Queries read from the source, and those finished. They differ only in a partial result.
    read: int
    queries: int
    # First and last ingress among the finished queries.
    first_ns: int
    last_ns: int
    latency_sum_ns: int
    histogram: LatencyHistogram
    slo_s: float
    misses: int
    """Queries slower than `slo_s`."""
    stages: Mapping[str, StageTotals]
    """In topological order."""
    discipline: str
    engine: str
    seed: int
    service: str = "as measured"
    """What the service times were drawn from."""
    certificate_applies: bool = True
    """Whether the certificate's theorem covers this run, as for `ReplayResult`."""
    end: StreamEnd = StreamEnd.COMPLETE
    staggers_ns: Mapping[str, int] = field(default_factory=dict)
    """Time between the outputs of a batch on their way to other stages, by stage."""
    energy: RunEnergy | None = None
    """What the run took, exactly; None where the plan asks nothing of energy, and where it is not known."""
    energy_reason: str | None = None
    """Why it is not known."""

    max_latency_s = FieldOf[float]("histogram.largest_ns", NS_PER_S)
    """Largest latency (s)."""

    @property
    def partial(self) -> bool:
        """Whether it ended early: then the queries under way, the slow ones among them, are not in the figures."""
        return self.end is not StreamEnd.COMPLETE

    def quantile_ns(self, quantile: float) -> int:
        """Latency quantile over queries in ns, at most a share of 2⁻¹⁰ too high and never too low."""
        return self.histogram.quantile_ns(quantile)

    def quantile(self, quantile: float) -> float:
        """Latency quantile over queries in seconds, at most a share of 2⁻¹⁰ too high and never too low.

        Raises
        ------
        InputError
            If `quantile` is not in (0, 1].
        """
        return self.quantile_ns(quantile) / NS_PER_S

    @property
    def mean_latency_s(self) -> float:
        """Mean latency (s)."""
        return self.latency_sum_ns / self.queries / NS_PER_S

    @property
    def miss_rate(self) -> float:
        """Share of queries slower than `slo_s`."""
        return self.misses / self.queries

    def energy_text(self) -> str:
        """What the run took in a line, or why that is not known; empty where nothing was asked of it."""
        if self.energy is not None:
            return self.energy.text
        return f"not known: {self.energy_reason}" if self.energy_reason else ""

    def _summary(self) -> Summary:
        slower = latency = None
        if self.queries:
            slo = format_duration(self.slo_s * NS_PER_S)
            slower = f"{self.misses:,} queries ({self.miss_rate:.3%}) than {slo}"
            latency = latencies_text(self, *SHOWN_QUANTILES)
        return Summary(
            f"Streamed replay of {self.queries:,} queries: {self.end}",
            figures=(
                ("read", f"{self.read:,} queries" if self.partial else ""),
                ("latency", latency),
                ("slower", slower),
                ("energy", self.energy_text()),
                ("manner", manner_text(self)),
            ),
            headings=STAGE_HEADINGS,
            rows=(stage_row(name, stage, stage.utilisation) for name, stage in self.stages.items()),
            count=len(self.stages),
            what="stages",
        )

    def _line(self) -> str:
        if not self.queries:
            return f": {self.end}, 0 queries of {self.read}"
        latencies = latencies_text(self, "P50", "P99", "max")
        served = f"{self.queries} queries, {latencies}, {self.misses} slower than {self.slo_s:g} s"
        return f": {self.end}, {served}"


# --- what a replay prints, streamed or not ----------------------------------------------------------------------------


def stage_row(name: str, stage: StageReplay | StageTotals, utilisation: float) -> tuple[str, ...]:
    """Write what a stage did, as a row below `STAGE_HEADINGS`."""
    waits = (format_duration(wait_s * NS_PER_S) for wait_s in (stage.mean_wait_s, stage.max_wait_s))
    busy, batch = f"{utilisation:.1%}", f"{stage.mean_batch:.2f}"
    return (name, str(stage.replicas), busy, f"{stage.tokens:,}", batch, *waits)


def latencies_text(result: ReplayResult | StreamResult, *names: str) -> str:
    """Write latency quantiles by their names."""
    return ", ".join(f"{name} {format_duration(result.quantile_ns(SHOWN_QUANTILES[name]))}" for name in names)


def manner_text(result: ReplayResult | StreamResult) -> str:
    """Write how a replay was done."""
    return state_manner(result.discipline, result.engine, result.seed, result.staggers_ns)


def systems_text(systems: Mapping[str, str]) -> str:
    """Say by which systems' laws stages were served, each law once; empty if by none."""
    laws: dict[str, list[str]] = {}
    for stage, law in systems.items():
        laws.setdefault(law, []).append(stage)
    return "; ".join(law if len(laws) == 1 else f"{law} at {', '.join(at)}" for law, at in laws.items())


def state_manner(discipline: str, engine: str, seed: int, staggers_ns: Mapping[str, int]) -> str:
    """Write how something was replayed, in words for people."""
    manner = f"{discipline.replace('_', ' ')}, engine {engine}, seed {seed}"
    apart = times_text(staggers_ns, "{} apart")
    return f"{manner}; outputs {apart}" if apart else manner
