"""The loop that measures one batch size: run until latencies are known well enough, or the time is spent.

It knows no process, no model and no clock of its own: whoever calls it passes in how to run for a while, and a clock.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from mipplan.core import NS_PER_MS, NS_PER_S, Int64
from mipplan.profiling.disturbance import DisturbanceParams, RunBlock, TimedRun, find_disturbances
from mipplan.profiling.statistics import (
    QuantileRange,
    WarmUp,
    WarmUpParams,
    find_warm_up,
    look_confidence,
    quantile_range,
)

#: Makes runs for about that many seconds, at least one.
Observe = Callable[[float], RunBlock]


@dataclass(frozen=True)
class MeasuringParams:
    """How long one batch size is measured."""

    time_limit_s: float = 60.0
    # Half of the width of both intervals that is narrow enough, as a share of the quantile.
    precision: float = 0.05
    confidence: float = 0.95
    # Runs are made half a second at a time: load is judged in between, and a disturbed block costs no more than that.
    block_s: float = 0.5
    # Intervals assume that runs are independent, but machines have phases of seconds: precise or not, runs are made for
    # this long. `measure` takes a tenth of the time for a batch size where that is less.
    least_s: float = 6.0
    # And until P50 and P99 of the first half of the runs differ from those of the second by no more than this share:
    # else one of them saw a phase that the other did not, and a second measurement would differ as well.
    apart: float = 0.1
    # Fewer runs than ten say nothing about a latency.
    fewest_runs: int = 10
    # Nobody needs more than these; they are kept in the record of the measurement, too.
    most_runs: int = 20_000
    # Intervals are looked at when there are half as many runs again as at the look before: looks are not for nothing
    # (`look_confidence`).
    first_look: int = 50
    look_growth: float = 1.5
    # Disturbed runs are counted like all others.
    keeps_disturbed: bool = False
    # Every thread has a processor to itself (see `find_disturbances`).
    is_alone: bool = True
    warm_up: WarmUpParams = field(default_factory=WarmUpParams)
    disturbance: DisturbanceParams = field(default_factory=DisturbanceParams)


class Ending(StrEnum):
    """Why the measurement of a batch size ended."""

    PRECISE = "precise"
    """Both intervals are narrow enough."""
    TIME = "time"
    """The time for this batch size was spent."""
    RUNS = "runs"
    """There were as many runs as are ever made."""


class UnmeasuredError(Exception):
    """Nothing can be said about the latency of a batch size; the text says why."""


@dataclass(frozen=True)
class BatchMeasurement:
    """What was measured of one batch size."""

    batch: int
    ending: Ending
    latency_ns: Int64 = field(repr=False)  # Of the runs that count, in the order of the runs.
    p50: QuantileRange
    p99: QuantileRange
    confidence: float  # Of both intervals, together with all looks at earlier ones.
    warm_up: int  # Runs cut off at the beginning.
    settled: bool  # Whether latencies stopped changing.
    disturbed: int  # Runs disturbed by other load.
    disturbances: dict[str, int]  # … by what.
    kept: bool  # Whether disturbed runs count all the same.
    spent_s: float
    cpu_ms: float | None = None  # Mean CPU time of one batch.
    memory_gib: float | None = None
    energy_j: float | None = None  # Mean energy of one batch, of all that was metered.

    @property
    def mean_ms(self) -> float:
        """Mean latency."""
        return float(self.latency_ns.mean()) / NS_PER_MS

    @property
    def max_ms(self) -> float:
        """Longest latency."""
        return float(self.latency_ns.max()) / NS_PER_MS

    def latency_ms(self, statistic: str) -> float:
        """Return the latency that goes into a table: ``p99``, ``p50``, ``mean`` or ``max``."""
        known = {"p50": self.p50.value_ns / NS_PER_MS, "p99": self.p99.value_ns / NS_PER_MS}
        return known.get(statistic) or {"mean": self.mean_ms, "max": self.max_ms}[statistic]

    def to_document(self) -> dict[str, Any]:
        """Write it as a JSON-able mapping, all latencies included."""
        parts = {name: getattr(self, name) for name in self.__dataclass_fields__}
        ranges = {name: vars(parts[name]) for name in ("p50", "p99")}
        return {**parts, **ranges, "ending": self.ending.value, "latency_ns": self.latency_ns.tolist()}


class _Runs:
    """Runs made so far, and what they say."""

    def __init__(self, params: MeasuringParams) -> None:
        self.params = params
        self.all: list[TimedRun] = []
        self.reasons: list[str | None] = []
        self.energy: list[float] = []
        self.memory_gib: float | None = None

    def add(self, block: RunBlock) -> None:
        self.all += block.runs
        self.reasons += find_disturbances(block, self.params.is_alone, self.params.disturbance)
        if block.energy_j is not None:
            self.energy.append(block.energy_j)
        if block.memory_gib is not None:
            self.memory_gib = max(block.memory_gib, self.memory_gib or 0.0)

    def counted(self) -> list[TimedRun]:
        """Those that count, warm-up included."""
        if self.params.keeps_disturbed:
            return self.all
        return [run for run, reason in zip(self.all, self.reasons, strict=True) if reason is None]

    def steady(self) -> tuple[WarmUp, list[TimedRun]]:
        """The warm-up of those that count, and what comes after it."""
        counted = self.counted()
        warm_up = find_warm_up(np.array([run.wall_ns for run in counted], np.int64), self.params.warm_up)
        return warm_up, counted[warm_up.runs :]

    def are_fair(self) -> bool:
        """Whether enough runs count for them to be no odd selection."""
        return len(self.counted()) >= self.params.disturbance.least_share * len(self.all)

    def check(self, spent_s: float) -> None:
        """Refuse to say anything of too few runs.

        Raises `UnmeasuredError`.
        """
        steady = len(self.steady()[1])
        left_out = len(self.all) - len(self.counted())
        if not self.are_fair() or (steady < self.params.fewest_runs and left_out):
            what = ", ".join(f"{reason}: {count}" for reason, count in self.disturbances().items())
            raise UnmeasuredError(
                f"other load disturbed too many of {len(self.all)} runs ({what}): measure while the machine is "
                "quiet, or let such runs count (--disturbed keep)"
            )
        if steady < self.params.fewest_runs:
            raise UnmeasuredError(
                f"only {steady} runs after warm-up in {spent_s:.3g} s: allow more time (--time-limit)"
            )

    def disturbances(self) -> dict[str, int]:
        return dict(Counter(reason for reason in self.reasons if reason is not None))


def measure_batch(
    batch: int,
    observe: Observe,
    clock: Callable[[], float],
    params: MeasuringParams = MeasuringParams(),
    report: Callable[[str, float], None] = lambda _text, _left_s: None,
) -> BatchMeasurement:
    """Measure one batch size.

    Blocks of runs are made until both intervals are narrow enough, or no other run fits into the time: a run under way
    is never cut off, so the limit is exceeded by at most one run.

    Raises `UnmeasuredError` if too few runs remain to say anything.

    Parameters
    ----------
    batch : int
    observe : callable
        Makes runs for about that many seconds, at least one.
    clock : callable
        Seconds, from any origin.
    params : MeasuringParams
    report : callable
        Told how it goes after each block: a text, and the seconds that may be left.
    """
    started = clock()
    runs = _Runs(params)
    look, look_at = 0, params.first_look
    while True:
        runs.add(observe(min(params.block_s, params.time_limit_s - (clock() - started))))
        spent_s = clock() - started
        counted = len(runs.counted())
        if counted >= look_at:  # enough may have come at once for several looks: one is made
            look, look_at = look + 1, math.ceil(counted * params.look_growth)
            found = _say(batch, runs, look, Ending.PRECISE, spent_s)
            is_known = found.settled and _widest(found) <= params.precision and runs.are_fair()
            if is_known and spent_s >= params.least_s and _halves_agree(found.latency_ns, params.apart):
                return found
            report(_progress(found), _left_s(found, params, spent_s))
        longest_s = max(run.wall_ns for run in runs.all[-params.first_look :]) / NS_PER_S
        if len(runs.all) >= params.most_runs or spent_s + longest_s >= params.time_limit_s:
            ending = Ending.RUNS if len(runs.all) >= params.most_runs else Ending.TIME
            runs.check(spent_s)
            return _say(batch, runs, look + 1, ending, spent_s)


def _say(batch: int, runs: _Runs, look: int, ending: Ending, spent_s: float) -> BatchMeasurement:
    """Say what the runs made so far show."""
    params = runs.params
    warm_up, steady = runs.steady()
    latency_ns = np.array([run.wall_ns for run in steady], dtype=np.int64)
    confidence = look_confidence(look, params.confidence)
    cpu = [run.cpu_ns for run in steady if run.cpu_ns is not None]
    disturbances = runs.disturbances()
    return BatchMeasurement(
        batch=batch,
        ending=ending,
        latency_ns=latency_ns,
        p50=quantile_range(latency_ns, 0.50, confidence),
        p99=quantile_range(latency_ns, 0.99, confidence),
        confidence=params.confidence,
        warm_up=warm_up.runs,
        settled=warm_up.settled,
        disturbed=sum(disturbances.values()),
        disturbances=disturbances,
        kept=params.keeps_disturbed,
        spent_s=spent_s,
        cpu_ms=sum(cpu) / len(cpu) / NS_PER_MS if cpu else None,
        memory_gib=runs.memory_gib,
        energy_j=float(np.median(runs.energy)) if runs.energy else None,
    )


def _halves_agree(latency_ns: Int64, apart: float) -> bool:
    """Whether both halves of the runs have the same P50 and P99, but for this share."""
    halves = np.array_split(latency_ns, 2)
    quantiles = np.array([np.quantile(half, (0.5, 0.99), method="higher") for half in halves])
    return bool((quantiles.max(axis=0) <= (1.0 + apart) * quantiles.min(axis=0)).all())


def _widest(found: BatchMeasurement) -> float:
    return max(found.p50.width, found.p99.width)


def _progress(found: BatchMeasurement) -> str:
    width = found.p99.width
    known = f"± {width:.0%}" if math.isfinite(width) else "not known yet"
    return f"{found.latency_ns.size:,} runs, P50 {found.latency_ms('p50'):.4g} ms, P99 {known}"


def _left_s(found: BatchMeasurement, params: MeasuringParams, spent_s: float) -> float:
    """Seconds that may be left: intervals become narrow with the square root of the number of runs."""
    most = params.time_limit_s - spent_s
    widest = _widest(found)
    return max(
        0.0, most if math.isinf(widest) else min(most, spent_s * ((widest / params.precision) ** 2 - 1))
    )
