"""The loop that measures one batch size: run until latencies are known well enough, or the time is spent.

Machines have phases of minutes, too, so a size is measured in several visits, with the others in between, and what each
of them found is put together. The loop knows no process, no model and no clock of its own: whoever calls it passes in
how to run for a while, and a clock.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
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
    # Visits of a batch size, which share its time and its runs.
    visits: int = 2
    # Where these differ, or say too little, and time is left, there are others, each with as large a share; but never
    # more than this.
    most_visits: int = 4
    # Intervals assume that runs are independent, but machines have phases of seconds: precise or not, a visit takes
    # this long. `measure` takes a tenth of the time for a batch size where that is less.
    least_s: float = 6.0
    # And until P50 and P99 of the first half of its runs differ from those of the second by no more than this share:
    # else one of them saw a phase that the other did not, and a second measurement would differ as well. So for visits.
    apart: float = 0.1
    # Fewer runs than ten say nothing about a latency.
    fewest_runs: int = 10
    # Nobody needs more than these; they are kept in the record of the measurement, too. Of models so quick that there
    # would be more in `least_s`, every second run counts, or every fourth, and so on.
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

    @property
    def visit_s(self) -> float:
        """How long a visit may take."""
        return self.time_limit_s / self.visits

    @property
    def visit_precision(self) -> float:
        """What is narrow enough in a visit: intervals become narrow with the square root of the number of runs."""
        return self.precision * math.sqrt(self.visits)


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
    visits: tuple[int, ...] = ()  # Runs of each visit that count; older records do not say.
    looks: int = 1  # Intervals that were looked at, this one included.

    @property
    def apart(self) -> float:
        """How far P50 or P99 of the highest visit is above that of the lowest, as a share of it."""
        return _apart(np.split(self.latency_ns, np.cumsum(self.visits[:-1]))) if self.visits else 0.0

    def is_due(self, params: MeasuringParams) -> bool:
        """Whether there should be another visit, and is time for one."""
        left_s = params.time_limit_s - self.spent_s
        if not self.visits or left_s < self.spent_s / len(self.visits) / 2:
            return False
        is_known = self.ending is Ending.PRECISE and self.apart <= params.apart
        return len(self.visits) < (params.visits if is_known else params.most_visits)

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
        lists = {"latency_ns": self.latency_ns.tolist(), "visits": list(self.visits)}
        return {**parts, **ranges, **lists, "ending": self.ending.value}


class _Runs:
    """Runs made so far, and what they say."""

    def __init__(self, params: MeasuringParams) -> None:
        self.params = params
        self.all: list[TimedRun] = []
        self.stride = 1
        self.reasons: list[str | None] = []
        self.energy: list[float] = []
        self.memory_gib: float | None = None

    def add(self, block: RunBlock) -> None:
        reasons = find_disturbances(block, self.params.is_alone, self.params.disturbance)
        self.all += block.runs[:: self.stride]
        self.reasons += reasons[:: self.stride]
        if block.energy_j is not None:
            self.energy.append(block.energy_j)
        if block.memory_gib is not None:
            self.memory_gib = max(block.memory_gib, self.memory_gib or 0.0)

    def thin(self) -> None:
        """Leave out every second run, of those to come as well."""
        self.all, self.reasons, self.stride = self.all[::2], self.reasons[::2], 2 * self.stride

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

    def are_enough(self) -> bool:
        """Whether something can be said of them."""
        return self.are_fair() and len(self.steady()[1]) >= self.params.fewest_runs

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
    before: BatchMeasurement | None = None,
) -> BatchMeasurement:
    """Measure one batch size, in one visit.

    Blocks of runs are made until both intervals are narrow enough, or no other run fits into the visit's share of the
    time: a run under way is never cut off, so the limit is exceeded by at most one run. A visit that would have too few
    runs to say anything takes all of the time.

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
    before : BatchMeasurement, optional
        What earlier visits found; what this one finds is put together with it.
    """
    started = clock()
    runs = _Runs(params)
    left_s = params.time_limit_s - (0.0 if before is None else before.spent_s)
    limit_s, most_runs = min(params.visit_s, left_s), max(1, params.most_runs // params.visits)
    look, look_at = 0 if before is None else before.looks, params.first_look

    def is_over() -> bool:
        longest_s = max(run.wall_ns for run in runs.all[-params.first_look :]) / NS_PER_S
        return len(runs.all) >= most_runs or spent_s + longest_s >= limit_s

    while True:
        runs.add(observe(min(params.block_s, limit_s - (clock() - started))))
        spent_s = clock() - started
        while len(runs.all) >= most_runs and spent_s < params.least_s:
            runs.thin()
        counted = len(runs.counted())
        if counted >= look_at:  # enough may have come at once for several looks: one is made
            look, look_at = look + 1, math.ceil(counted * params.look_growth)
            found = _say(batch, runs, look, Ending.PRECISE, spent_s)
            is_known = found.settled and _widest(found) <= params.visit_precision and runs.are_fair()
            if is_known and spent_s >= params.least_s and _halves_differ_by(found) <= params.apart:
                return _put_together(before, found, params)
            report(_progress(found), _left_s(found, params, limit_s - spent_s))
        if is_over() and not runs.are_enough():
            limit_s, most_runs = left_s, params.most_runs
        if is_over():
            ending = Ending.RUNS if len(runs.all) >= most_runs else Ending.TIME
            runs.check(spent_s)
            return _put_together(before, _say(batch, runs, look + 1, ending, spent_s), params)


def _put_together(
    before: BatchMeasurement | None, visit: BatchMeasurement, params: MeasuringParams
) -> BatchMeasurement:
    """Say what all visits show, and whether it is precise by now."""
    if before is not None:
        latency_ns = np.concatenate((before.latency_ns, visit.latency_ns))
        looks, share = visit.looks + 1, visit.latency_ns.size / latency_ns.size
        confidence = look_confidence(looks, params.confidence)
        visit = replace(
            visit,
            latency_ns=latency_ns,
            p50=quantile_range(latency_ns, 0.50, confidence),
            p99=quantile_range(latency_ns, 0.99, confidence),
            warm_up=before.warm_up + visit.warm_up,
            settled=before.settled and visit.settled,
            disturbed=before.disturbed + visit.disturbed,
            disturbances=dict(Counter(before.disturbances) + Counter(visit.disturbances)),
            kept=before.kept or visit.kept,
            spent_s=before.spent_s + visit.spent_s,
            cpu_ms=_mixed(before.cpu_ms, visit.cpu_ms, share),
            # By the second visit larger batches have been served, of which something may be held yet.
            memory_gib=visit.memory_gib if before.memory_gib is None else before.memory_gib,
            energy_j=_mixed(before.energy_j, visit.energy_j, share),
            visits=(*before.visits, *visit.visits),
            looks=looks,
        )
    if _widest(visit) <= params.precision:
        return replace(visit, ending=Ending.PRECISE)
    return replace(visit, ending=Ending.RUNS if visit.ending is Ending.RUNS else Ending.TIME)


def _mixed(before: float | None, visit: float | None, share: float) -> float | None:
    """Mean of two, of which the second has that share; of one where only that is known."""
    if before is None or visit is None:
        return visit if before is None else before
    return (1.0 - share) * before + share * visit


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
        visits=(latency_ns.size,),
        looks=look,
    )


def _halves_differ_by(found: BatchMeasurement) -> float:
    return _apart(np.array_split(found.latency_ns, 2))


def _apart(parts: Sequence[Int64]) -> float:
    """How far P50 or P99 of the highest part is above that of the lowest, as a share of it."""
    quantiles = np.array([np.quantile(part, (0.5, 0.99), method="higher") for part in parts])
    return float((quantiles.max(axis=0) / quantiles.min(axis=0)).max()) - 1.0


def _widest(found: BatchMeasurement) -> float:
    return max(found.p50.width, found.p99.width)


def _progress(found: BatchMeasurement) -> str:
    width = found.p99.width
    known = f"± {width:.0%}" if math.isfinite(width) else "not known yet"
    return f"{found.latency_ns.size:,} runs, P50 {found.latency_ms('p50'):.4g} ms, P99 {known}"


def _left_s(found: BatchMeasurement, params: MeasuringParams, most_s: float) -> float:
    """Seconds that may be left of a visit: intervals become narrow with the square root of the number of runs."""
    widest = _widest(found)
    if math.isinf(widest):
        return max(0.0, most_s)
    return max(0.0, min(most_s, found.spent_s * ((widest / params.visit_precision) ** 2 - 1)))
