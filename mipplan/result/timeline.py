"""Figures over time: of the queries that came in each window, numbers that change in steps, and energy, exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from mipplan.core import (
    NS_PER_HOUR,
    NS_PER_S,
    FieldOf,
    Float64,
    InputError,
    Int64,
    array_of,
    check_slo,
    format_duration,
    frozen,
    positive_ns,
    shown,
)
from mipplan.profiles import EnergyTerms, PowerDraw
from mipplan.result.stream import exact_product_sum

if TYPE_CHECKING:
    import pandas as pd

_PJ_PER_J, _J_PER_KWH = 10**12, 3_600_000
#: At most this many windows are made, because nobody reads more, and they would fill the memory.
MOST_WINDOWS = 1_000_000
#: These quantiles are computed in each window.
WINDOW_QUANTILES = {"p50_s": 0.5, "p90_s": 0.9, "p99_s": 0.99}


@dataclass(frozen=True, eq=False, repr=False)
class Windows:
    """Figures of the queries whose ingress lies in each of w windows that follow each other.

    Window i is ``[start_s[i], start_s[i] + window_s)`` on the trace's own time axis; the first begins at the multiple
    of `window_s` at or before the first query, so the first and the last may be covered in part only.
    """

    window_s: float
    start_s: Float64
    """Shape (w,)."""
    queries: Int64
    """Shape (w,)."""
    # Latency in seconds, quantiles with ``method="higher"``; NaN where no query came, shape (w,).
    mean_s: Float64
    p50_s: Float64
    p90_s: Float64
    p99_s: Float64
    max_s: Float64
    miss_rate: Float64 | None
    """Share of queries slower than the objective, NaN where no query came; None if none was given, shape (w,)."""

    def __repr__(self) -> str:
        return f"<Windows: {self.start_s.size} of {self.window_s:g} s, {int(self.queries.sum())} queries>"

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per window."""
        import pandas as pd

        names = ("start_s", "queries", "mean_s", *WINDOW_QUANTILES, "max_s", "miss_rate")
        columns = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return pd.DataFrame(columns, index=pd.RangeIndex(self.queries.size, name="window"))


def latency_windows(
    ingress_ns: Int64, latency_ns: Int64, window_s: float, slo_s: float | None = None
) -> Windows:
    """Cut a replay into windows by ingress, which does not decrease.

    Raises `InputError` if the window or the objective is not positive, or there would be more than
    `MOST_WINDOWS`.
    """
    slo_ns = None if slo_s is None else check_slo(slo_s)
    window_ns, first, count = check_windows(ingress_ns, window_s)
    edges = (first + np.arange(count + 1, dtype=np.int64)) * window_ns
    begins = np.searchsorted(ingress_ns, edges)
    queries = np.diff(begins).astype(np.int64, copy=False)
    filled = np.flatnonzero(queries)
    starts, sizes = begins[:-1][filled], queries[filled]
    # Sorted inside each window: the k-th fastest of a window is k places after its first.
    ordered = latency_ns[np.lexsort((latency_ns, np.repeat(filled, sizes)))]

    def spread(values: Float64 | Int64) -> Float64:
        out = np.full(count, np.nan)
        out[filled] = values
        return frozen(out)

    quantiles = {
        name: spread(ordered[starts + np.ceil(quantile * (sizes - 1)).astype(np.int64)] / NS_PER_S)
        for name, quantile in WINDOW_QUANTILES.items()
    }
    missed = None
    if slo_ns is not None:
        missed = spread(np.add.reduceat(latency_ns > slo_ns, starts, dtype=np.int64) / sizes)
    return Windows(
        window_s=window_ns / NS_PER_S,
        start_s=frozen(edges[:-1] / NS_PER_S),
        queries=frozen(queries),
        mean_s=spread(np.add.reduceat(latency_ns.astype(np.float64), starts) / sizes / NS_PER_S),
        **quantiles,
        max_s=spread(ordered[starts + sizes - 1] / NS_PER_S),
        miss_rate=missed,
    )


def check_window(window_s: float, name: str = "window_s") -> int:
    """Return the length of a window in nanoseconds; it must be positive."""
    window_ns = positive_ns(window_s)
    if window_ns is None:
        raise InputError.one(name, f"expected a positive number of seconds, found {shown(window_s)}")
    return window_ns


def check_windows(ingress_ns: Int64, window_s: float, name: str = "window_s") -> tuple[int, int, int]:
    """Return the length of a window in nanoseconds, the number of the first one, and how many there are.

    Raises `InputError` if the window is not positive, or there would be more than `MOST_WINDOWS`.
    """
    window_ns = check_window(window_s, name)
    first = int(ingress_ns[0]) // window_ns
    count = int(ingress_ns[-1]) // window_ns - first + 1
    if count > MOST_WINDOWS:
        raise InputError.one(
            name,
            f"{format_duration(window_ns)} makes {count:,} windows, more than {MOST_WINDOWS:,}; take longer ones",
        )
    return window_ns, first, count


@dataclass(frozen=True, eq=False, repr=False)
class StepFunction:
    """A count over time, such as how many tokens wait."""

    at_ns: Int64
    """Instants at which the count changes, strictly increasing, shape (m,)."""
    value: Int64
    """The count from ``at_ns[i]`` (included) until ``at_ns[i+1]``; it is 0 before the first and from the last
    on, shape (m,)."""

    def __repr__(self) -> str:
        return f"<StepFunction: {self.at_ns.size} steps, at most {self.maximum}>"

    @classmethod
    def counting(cls, from_ns: Int64, until_ns: Int64) -> StepFunction:
        """Count, at each instant t, the intervals with ``from_ns <= t < until_ns``, both shape (n,).

        What begins and ends at one instant is never counted: a token that is dispatched at the instant it arrives
        does not wait.
        """
        begins, ends = np.sort(from_ns), np.sort(until_ns)
        instants = np.unique(np.concatenate([begins, ends]))
        value = np.searchsorted(begins, instants, side="right") - np.searchsorted(
            ends, instants, side="right"
        )
        changes = np.diff(value, prepend=0) != 0
        return cls(frozen(instants[changes]), frozen(value[changes].astype(np.int64)))

    @property
    def maximum(self) -> int:
        """The largest count at any time."""
        return int(self.value.max(initial=0))

    @property
    def integral_ns(self) -> int:
        """Integral over all time, count · nanoseconds; exact."""
        return exact_product_sum(self.value[:-1], np.diff(self.at_ns))

    def at(self, instants_ns: Int64) -> Int64:
        """Count at each instant, shape as `instants_ns`.

        Raises
        ------
        InputError
            If these are not whole nanoseconds.
        """
        place = np.searchsorted(self.at_ns, _instants("instants_ns", instants_ns), side="right")
        return np.concatenate([np.zeros(1, dtype=np.int64), self.value])[place]

    def means(self, edges_ns: Int64) -> Float64:
        """Time-average between neighbouring edges.

        Parameters
        ----------
        edges_ns : int64, shape (w + 1,)
            Strictly increasing.

        Returns
        -------
        float64, shape (w,)

        Raises
        ------
        InputError
            If these are not whole nanoseconds, fewer than two, or do not increase.
        """
        edges = _instants("edges_ns", edges_ns)
        if edges.ndim != 1 or edges.size < 2 or bool(np.any(np.diff(edges) <= 0)):
            raise InputError.one("edges_ns", "expected at least two instants that increase")
        # Breaking the function at the edges leaves pieces that lie in one window each.
        inside = self.at_ns[(self.at_ns > edges[0]) & (self.at_ns < edges[-1])]
        breaks = np.union1d(edges, inside)
        areas = self.at(breaks[:-1]).astype(np.float64) * np.diff(breaks)
        return np.asarray(
            np.add.reduceat(areas, np.searchsorted(breaks, edges[:-1])) / np.diff(edges), dtype=np.float64
        )

    def to_pandas(self) -> pd.Series[int]:
        """Return the counts as a series over the instants (index ``at_ns``)."""
        import pandas as pd

        return pd.Series(self.value, index=pd.Index(self.at_ns, name="at_ns"), name="count")


def _instants(name: str, given: object) -> Int64:
    instants = array_of(given)
    if instants.dtype.kind not in "iu":
        raise InputError.one(name, f"expected whole nanoseconds, found {shown(given)}")
    return instants.astype(np.int64, copy=False)


# --- what it took -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StageEnergy:
    """What the devices of one stage took in a run, in picojoules: while idle, and while they served batches."""

    idle_pj: int
    busy_pj: int

    idle_j = FieldOf[float]("idle_pj", _PJ_PER_J)
    """While idle, joules."""
    busy_j = FieldOf[float]("busy_pj", _PJ_PER_J)
    """While batches were served, joules."""


@dataclass(frozen=True)
class RunEnergy:
    """What a run took between its first ingress and its last exit."""

    stages: Mapping[str, StageEnergy]
    queries: int
    span_ns: int
    usd: float  # Paid for electricity, and for its CO₂ where that has a price.
    gco2: float | None  # Grams of CO₂; None where their intensity is not given.

    @classmethod
    def of_all(cls, runs: Sequence[RunEnergy]) -> RunEnergy:
        """Several runs of one plan as if they were one: sums of all."""
        each = {name: [run.stages[name] for run in runs] for name in runs[0].stages}
        stages = {
            n: StageEnergy(sum(s.idle_pj for s in e), sum(s.busy_pj for s in e)) for n, e in each.items()
        }
        queries, span_ns = sum(run.queries for run in runs), sum(run.span_ns for run in runs)
        gco2 = None if runs[0].gco2 is None else sum(run.gco2 or 0.0 for run in runs)
        return cls(stages, queries, span_ns, sum(run.usd for run in runs), gco2)

    @property
    def pj(self) -> int:
        """All of it, in picojoules."""
        return sum(stage.idle_pj + stage.busy_pj for stage in self.stages.values())

    @property
    def energy_j(self) -> float:
        """All of it, in joules."""
        return self.pj / _PJ_PER_J

    @property
    def j_per_thousand(self) -> float:
        """Joules per thousand queries."""
        return 1_000 * self.energy_j / self.queries

    @property
    def figures(self) -> dict[str, float]:
        """All figures by name, with their units; without those that are not known."""
        idle_pj, busy_pj = (
            sum(getattr(s, name) for s in self.stages.values()) for name in ("idle_pj", "busy_pj")
        )
        carbon = {} if self.gco2 is None else {"gco2": self.gco2}
        return {
            "energy_j": self.energy_j,
            "idle_j": idle_pj / _PJ_PER_J,
            "busy_j": busy_pj / _PJ_PER_J,
            "mean_power_w": self.mean_power_w,
            "j_per_thousand": self.j_per_thousand,
            "usd": self.usd,
            **carbon,
        }

    @property
    def by_stage(self) -> dict[str, dict[str, float]]:
        """Joules of every stage, idle and busy."""
        return {name: {"idle_j": own.idle_j, "busy_j": own.busy_j} for name, own in self.stages.items()}

    @property
    def text(self) -> str:
        """All of it in a line."""
        return energy_text(self.figures)

    @property
    def mean_power_w(self) -> float:
        """Mean power in watts."""
        return self.energy_j * NS_PER_S / self.span_ns if self.span_ns else 0.0


def energy_text(figures: Mapping[str, float] | None) -> str:
    """What a run took of energy, in a line; empty where nothing was asked of it."""
    if figures is None:
        return ""
    carbon = f", {figures['gco2']:.4g} g CO₂" if "gco2" in figures else ""
    paid = f", {figures['usd']:.4g} $ for them" if figures["usd"] else ""
    return (
        f"{figures['energy_j']:.4g} J ({figures['idle_j']:.4g} idle), {figures['mean_power_w']:.4g} W on average, "
        f"{figures['j_per_thousand']:.4g} J per 1,000 queries{carbon}{paid}"
    )


class BusyTimes:
    """How long batches of 1, …, `cap` were served at a stage; told apart by hours from `first_ns` on where asked."""

    def __init__(self, cap: int, first_ns: int, by_hour: bool) -> None:
        self._cap, self._first_ns, self._by_hour = cap, first_ns, by_hour
        self._ns: dict[int, Int64] = {}

    def add(self, start_ns: Int64, size: Int64, service_ns: Int64) -> None:
        """Count more batches, shape (k,): when they began, how large they were, and how long they took."""
        if not size.size:
            return
        end_ns, low, high = start_ns + service_ns, 0, 0
        if self._by_hour:
            low = (int(start_ns.min()) - self._first_ns) // NS_PER_HOUR
            high = (int(end_ns.max()) - 1 - self._first_ns) // NS_PER_HOUR
        for hour in range(low, high + 1):
            busy_ns, begin_ns = service_ns, self._first_ns + hour * NS_PER_HOUR
            if self._by_hour:
                inside = np.minimum(end_ns, begin_ns + NS_PER_HOUR) - np.maximum(start_ns, begin_ns)
                busy_ns = np.maximum(inside, 0)
            total = self._ns.setdefault(hour, np.zeros(self._cap, dtype=np.int64))
            np.add.at(total, size - 1, busy_ns)

    def at(self, hour: int) -> list[int]:
        """By batch size, in one hour; in the first one all of it, where hours are not told apart."""
        found: list[int] = self._ns[hour].tolist() if hour in self._ns else [0] * self._cap
        return found


def run_energy(
    busy: Mapping[str, BusyTimes],
    replicas: Mapping[str, int],
    draws: Mapping[str, PowerDraw],
    paid_ns: Mapping[str, int],
    terms: EnergyTerms,
    queries: int,
    first_ns: int,
    span_ns: int,
) -> RunEnergy:
    """Add up what a run took: idle draw over paid replica time that is not busy, and busy draw over batches.

    Where prices or intensities go by the hour, all is told apart by the hours in which it was drawn. Raises
    `InputError` if replicas come and go then: how many there were in an hour is not at hand.
    """
    by_hour, last_ns = terms.is_hourly, first_ns + span_ns
    starts = range(first_ns, max(last_ns, first_ns + 1), NS_PER_HOUR) if by_hour else [first_ns]
    found = {name: StageEnergy(0, 0) for name in busy}
    usd, gco2 = Fraction(0), Fraction(0)
    for hour, low_ns in enumerate(starts):
        high_ns, drawn_pj = min(last_ns, low_ns + NS_PER_HOUR) if by_hour else last_ns, 0
        for name, times in busy.items():
            if by_hour and paid_ns[name] != replicas[name] * span_ns:
                message = "what goes by the hour needs the same replicas throughout the run"
                raise InputError.one("energy", message)
            held_ns = replicas[name] * (high_ns - low_ns) if by_hour else paid_ns[name]
            busy_ns = times.at(hour)
            busy_pj = sum(ns * mw for ns, mw in zip(busy_ns, draws[name].busy_mw.tolist(), strict=True))
            idle_pj = draws[name].idle_mw * (held_ns - sum(busy_ns))
            before, drawn_pj = found[name], drawn_pj + idle_pj + busy_pj
            found[name] = StageEnergy(before.idle_pj + idle_pj, before.busy_pj + busy_pj)
        kwh, (price, grams) = Fraction(drawn_pj, _PJ_PER_J * _J_PER_KWH), terms.at_hour(hour)
        usd, gco2 = usd + kwh * price, gco2 + kwh * grams
    return RunEnergy(found, queries, span_ns, float(usd), None if terms.gco2_per_kwh is None else float(gco2))
