"""A trace: the arrival times of a sample of the traffic."""

from __future__ import annotations

import functools
import hashlib
import inspect
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np
from numpy.typing import ArrayLike

from mipplan.core import (
    MAX_DURATION_NS,
    NS_PER_S,
    Float64,
    InputError,
    Int64,
    Slo,
    check_all,
    check_quantile,
    check_seed,
    counted,
    format_duration,
    name_problem,
    shown,
)
from mipplan.documents import AnyPath, shipped_path
from mipplan.trace import generators
from mipplan.trace.adequacy import grid_step_ns, sample_warnings, spread_uniformly
from mipplan.trace.checks import (
    check_arrivals,
    check_labels,
    check_split,
    number_fault,
    seconds_column_to_ns,
    time_ns,
    window_ns,
    window_text,
)
from mipplan.trace.moments import arrivals_of_pandas, date_text, pandas_of
from mipplan.trace.reading import read_arrivals

if TYPE_CHECKING:
    import pandas as pd
_Drawn = ParamSpec("_Drawn")


def _drawn_by(draw: Callable[_Drawn, Int64]) -> Callable[_Drawn, Trace]:
    """Return what makes a trace of what a generator draws; its note is the call of the generator."""
    name, signature = draw.__name__, inspect.signature(draw)

    @functools.wraps(draw)
    def make(*given: _Drawn.args, **named: _Drawn.kwargs) -> Trace:
        # NumPy's integers overflow, and have no negative powers.
        given, named = tuple(map(_plain, given)), {key: _plain(value) for key, value in named.items()}  # type: ignore[assignment]
        arrival_ns = draw(*given, **named)
        if len(arrival_ns) < 2:
            found = f"only {counted(len(arrival_ns), 'arrival')} drawn"
            raise InputError.one(name, f"{found}; a trace needs two: raise rate or duration")
        arguments = signature.bind(*given, **named).arguments
        how = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        return Trace(arrival_ns, name, f"{name}({how})")

    # Else help() would show that of the generator, whose answer is an array.
    make.__signature__ = signature.replace(return_annotation="Trace")  # type: ignore[attr-defined]
    return make


def _plain(given: object) -> object:
    return given.tolist() if isinstance(given, np.generic | np.ndarray) else given


@dataclass(frozen=True, eq=False, repr=False)
class Trace:
    """Arrival times of queries.

    Attributes
    ----------
    arrival_ns : int64[n]
        Nanoseconds, at least 0, non-decreasing; n ≥ 2. Read-only.
    name : str
        For reports.
    note : str
        How the trace was made: file, expansion, generator, seed, and what was done to it since.
    zero_ns : int or None
        What time 0 is, in ns since 1970 (UTC); None where no dates are known.

    Raises
    ------
    InputError
        If the times are not such an array (positions are counted from 0).
    """

    arrival_ns: Int64
    name: str = "trace"
    note: str = ""
    zero_ns: int | None = None

    def __post_init__(self) -> None:
        check_labels(self.name, self.note, self.zero_ns)
        object.__setattr__(self, "arrival_ns", check_arrivals(self.arrival_ns))

    # ------------------------------------------------------------------------------------- measures

    def __len__(self) -> int:
        return len(self.arrival_ns)

    @property
    def span_ns(self) -> int:
        """Time from the first arrival to the last, in nanoseconds."""
        return int(self.arrival_ns[-1] - self.arrival_ns[0])

    @property
    def duration_s(self) -> float:
        """Time from the first arrival to the last, in seconds."""
        return self.span_ns / NS_PER_S

    @property
    def rate_rps(self) -> float:
        """Queries divided by the duration; infinite if all arrive at once."""
        return len(self) / self.duration_s if self.span_ns else math.inf

    @property
    def cv(self) -> float:
        """Coefficient of variation of the gaps (1 for Poisson); NaN if all queries arrive at once."""
        if not self.span_ns:
            return math.nan
        gaps = np.diff(self.arrival_ns).astype(np.float64)
        return float(gaps.std() / gaps.mean())

    @property
    def zero(self) -> str | None:
        """What time 0 is, as an ISO date (UTC); None where no dates are known."""
        return None if self.zero_ns is None else date_text(self.zero_ns)

    @property
    def sha256(self) -> str:
        """SHA-256 of the arrival times as little-endian int64, in hexadecimal."""
        return hashlib.sha256(np.ascontiguousarray(self.arrival_ns, dtype="<i8").data).hexdigest()

    def rate_over_time(self, window_s: float) -> tuple[Float64, Float64]:
        """Count arrivals in windows that follow each other from the first arrival on.

        Raises `InputError` if the window is not positive, or there would be more than ten million windows.

        Returns
        -------
        t_s : float64[w]
            Start of each window on the trace's own time axis.
        rps : float64[w]
            Arrivals in each window divided by `window_s`; the last window may reach beyond the end.
        """
        step_ns = time_ns("window_s", window_s)
        if step_ns < 1 or self.span_ns // step_ns >= 10_000_000:
            raise InputError.one("window_s", f"expected a longer window, found {window_s!r} s")
        counts = np.bincount((self.arrival_ns - self.arrival_ns[0]) // step_ns)
        starts: Float64 = (self.arrival_ns[0] + step_ns * np.arange(len(counts))) / NS_PER_S
        rates: Float64 = counts.astype(np.float64) * (NS_PER_S / step_ns)
        return starts, rates

    # ----------------------------------------------------------------------------------- variations

    def slice(self, start_s: float | None = None, end_s: float | None = None) -> Trace:
        """Keep the arrivals in the window ``[start_s, end_s)`` of the trace's own time axis, times unchanged.

        Raises `InputError` if fewer than two arrivals remain.
        """
        start, end = window_ns(start_s, end_s)
        kept = self.arrival_ns[slice(*np.searchsorted(self.arrival_ns, [start, end]))]
        if len(kept) < 2:
            raise InputError.one(
                "slice",
                f"only {counted(len(kept), 'arrival')} in {window_text(start_s, end_s)}; the trace spans "
                f"{self.arrival_ns[0] / NS_PER_S:g} s to {self.arrival_ns[-1] / NS_PER_S:g} s",
            )
        return self._made(kept, f"slice {window_text(start_s, end_s)}")

    def scale(self, factor: float) -> Trace:
        """Multiply the rate by `factor`: every gap is divided by it.

        The number of queries stays, time is compressed (or stretched, below 1). The first arrival keeps its
        time; others are rounded to the nearest nanosecond. Raises `InputError` if `factor` is not positive and finite,
        or the stretched trace is longer than ten years.
        """
        fault = number_fault("scale", factor)
        InputError.raise_if([fault] if fault else [])
        first = int(self.arrival_ns[0])
        if self.span_ns / factor > MAX_DURATION_NS - first:
            raise InputError.one("scale", f"with factor {factor!r} the trace lasts more than ten years")
        if factor == 1:
            return self
        offsets = np.rint((self.arrival_ns - first) / factor).astype(np.int64)
        return self._made(first + offsets, f"rate × {factor:g}")

    def spread(self, seed: int = 0) -> Trace:
        """Move every arrival later by a random part of the step of the grid on which the time stamps lie.

        For logs in whole seconds, say: queries of one stamp come at random within its second, and the order of stamps
        stays. This assumes that stamps were rounded down and that traffic is even within a step; bursts shorter than
        that are unknown. The step is the largest whose multiples, from the first on, all stamps are. Raises
        `InputError` if all queries arrive at once, so that there is no step, or the seed is none.

        Parameters
        ----------
        seed : int
            Of the positions; the same gives the same trace.
        """
        if (step_ns := grid_step_ns(self.arrival_ns)) is None:
            raise InputError.one("spread", "all queries arrive at once: no step of their times is known")
        how = f"spread uniformly over steps of {format_duration(step_ns)}, seed {check_seed(seed)}"
        return self._made(spread_uniformly(self.arrival_ns, check_seed(seed)), how)

    def warnings(
        self, quantile: float = 0.99, capacity_rps: float | None = None, per_s: float | None = None
    ) -> tuple[str, ...]:
        """Say what is doubtful about this trace as a sample; see `mipplan.trace.adequacy.sample_warnings`.

        Raises `InputError` listing every argument that cannot be used.

        Parameters
        ----------
        quantile : float
            Of latency, that is asked about, in (0, 1].
        capacity_rps : float, optional
            Queries per second that the slowest stage of a plan can serve.
        per_s : float, optional
            Length of the windows that it is asked of, as for `mipplan.plan`; by default there are none.
        """
        faults = [] if capacity_rps is None else [number_fault("capacity_rps", capacity_rps)]
        over, odd = functools.partial(Slo().over, per_s, None), filter(None, faults)
        check_all(lambda: check_quantile(quantile), lambda: InputError.raise_if(odd), over)
        return sample_warnings(self.arrival_ns, quantile, capacity_rps, over().per_ns)

    @classmethod
    def concatenate(cls, traces: Sequence[Trace], gap_s: float | None = None) -> Trace:
        """Put traces one after the other.

        Parameters
        ----------
        traces : sequence of Trace
            At least one. The first keeps its times.
        gap_s : float, optional
            Time from the last arrival of one to the first of the next; by default the mean gap of the former.
        """
        if not (isinstance(traces, Sequence) and traces and {*map(type, traces)} <= {Trace}):
            raise InputError.one("traces", f"expected a list of at least one trace, found {shown(traces)}")
        fixed_ns = None if gap_s is None else time_ns("gap_s", gap_s)
        if fixed_ns is not None and fixed_ns < 0:
            raise InputError.one("gap_s", f"expected a time ≥ 0, found {gap_s!r}")
        parts = [traces[0].arrival_ns]
        for before, trace in itertools.pairwise(traces):
            gap_ns = fixed_ns if fixed_ns is not None else round(before.span_ns / (len(before) - 1))
            begin_ns = min(int(parts[-1][-1]) + gap_ns, MAX_DURATION_NS + 1)  # Beyond ten years is refused.
            parts.append(trace.arrival_ns + (begin_ns - int(trace.arrival_ns[0])))
        note = "concatenation of " + "; ".join(f"{trace.name} ({trace.note})" for trace in traces)
        return cls(np.concatenate(parts), traces[0].name, note, traces[0].zero_ns)

    def _made(self, arrival_ns: Int64, how: str) -> Trace:
        return Trace(arrival_ns, self.name, f"{self.note}; {how}" if self.note else how, self.zero_ns)

    # -------------------------------------------------------------------------------------- sources

    @classmethod
    def from_ns(cls, arrival_ns: ArrayLike, name: str = "trace", note: str = "") -> Trace:
        """Make a trace from whole nanoseconds, shape (n,)."""
        return cls(check_arrivals(arrival_ns), name, note)

    @classmethod
    def from_seconds(cls, arrival_s: ArrayLike, name: str = "trace", note: str = "") -> Trace:
        """Make a trace from seconds, or durations (``timedelta64``), shape (n,), rounded to the nearest nanosecond."""
        return cls(seconds_column_to_ns(arrival_s), name, note)

    @classmethod
    def from_pandas(cls, data: pd.Series[Any] | pd.DataFrame, name: str = "trace", note: str = "") -> Trace:
        """Make a trace from a series of seconds or dates, or a table with one column of those that `read` takes."""
        arrival_ns, zero_ns = arrivals_of_pandas(data)
        return cls(arrival_ns, name, note, zero_ns)

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per query: ``arrival_s``."""
        return pandas_of(self.arrival_ns)

    @classmethod
    def read(
        cls,
        path: AnyPath,
        *,
        expand: str | None = None,
        seed: int = 0,
        start_s: float | str | None = None,
        end_s: float | str | None = None,
    ) -> Trace:
        """Read a CSV or Parquet file, gzip accepted, of arrivals or of counts per interval; or a shipped one by name.

        Parameters
        ----------
        path : str or path
            Arrivals: one column ``arrival_s``, ``arrival_ms`` or ``timestamp`` (ISO dates; times become
            relative to the first). Counts: one column ``requests_per_s``, ``requests_per_min`` or
            ``requests_per_hour``; ``t_s``, ``minute_index``, ``hour`` or ``window_start_s`` tells the interval, else
            each row is a second, minute or hour. Rows of the same interval are added up; other columns are ignored.
        expand : {"poisson", "uniform", "even"}, optional
            How counts become arrivals; required for counts and refused for arrivals. ``poisson``: a Poisson
            number at random times; ``uniform``: the number given, at random times; ``even``: evenly spaced.
        seed : int
            Of the expansion.
        start_s, end_s : float or str, optional
            Keep only the window ``[start_s, end_s)``; applied before expansion, so a short window of a long file is
            cheap. Seconds, or a text: ``1h``, ``9:00``, of files with dates an ISO date or seconds since 1970.

        Raises
        ------
        InputError
            With every kind of fault in the file and the rows where it occurs.
        """
        path = shipped_path("traces", path) if isinstance(path, str) else path
        arrival_ns, note, zero_ns = read_arrivals(
            path, expand=expand, seed=seed, start_s=start_s, end_s=end_s
        )
        name = Path(path).name.split(".")[0].strip()
        return cls(arrival_ns, name if name_problem(name) is None else "trace", note, zero_ns)

    poisson = staticmethod(_drawn_by(generators.poisson))
    """``Trace.poisson(rate_rps, duration_s, seed)``; see `mipplan.trace.generators.poisson`."""
    gamma = staticmethod(_drawn_by(generators.gamma))
    """``Trace.gamma(rate_rps, cv, duration_s, seed)``; see `mipplan.trace.generators.gamma`."""
    markov_modulated = staticmethod(_drawn_by(generators.markov_modulated))
    """``Trace.markov_modulated(rates_rps, mean_sojourn_s, duration_s, seed)``; see
    `mipplan.trace.generators.markov_modulated`."""
    diurnal = staticmethod(_drawn_by(generators.diurnal))
    """``Trace.diurnal(mean_rps, amplitude, period_s, duration_s, seed)``; see `mipplan.trace.generators.diurnal`."""
    ramp = staticmethod(_drawn_by(generators.ramp))
    """``Trace.ramp(rates_rps, cvs, durations_s, transition_s, seed)``; see `mipplan.trace.generators.ramp`."""

    # ------------------------------------------------------------------------------------- protocol

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Trace)
            and (self.name, self.note, self.zero_ns) == (other.name, other.note, other.zero_ns)
            and np.array_equal(self.arrival_ns, other.arrival_ns)
        )

    def __hash__(self) -> int:
        return hash((self.name, self.note, self.sha256))

    def __reduce__(self) -> tuple[type[Trace], tuple[Any, ...]]:
        # Unpickled arrays are writeable; going through the constructor makes them read-only again.
        return Trace, (self.arrival_ns, self.name, self.note, self.zero_ns)

    def __repr__(self) -> str:
        measures = f"{self.duration_s:.6g} s, {self.rate_rps:.4g}/s, CV {self.cv:.3g}"
        return f"<Trace {self.name}: {len(self)} queries, {measures}>"


def split_trace(trace: Trace, split: float) -> tuple[Trace, Trace]:
    """Cut a trace in two: what comes before the share `split` of its time, t − t₁ < split · (tₙ − t₁), and the rest.

    Raises `InputError` if `split` is no such number, or one of the parts has fewer than two arrivals or no duration.
    """
    # Whole numbers: over a few months, float64 no longer tells nanoseconds apart.
    cut_ns = int(trace.arrival_ns[0]) + math.ceil(Fraction(check_split(split)) * trace.span_ns)
    first = int(np.searchsorted(trace.arrival_ns, cut_ns))
    parts = trace.arrival_ns[:first], trace.arrival_ns[first:]
    for name, part in zip(("first part", "rest"), parts, strict=True):
        if part.size < 2 or part[0] == part[-1]:
            found = f"{counted(part.size, 'arrival')} and no duration: choose another split or a longer trace"
            where = f"the {name} of the trace, cut at {split:g} of its time"
            raise InputError.one("split", f"{where}, has {found}")
    share = f"first {100 * split:.6g}% of its time"
    return trace._made(parts[0], share), trace._made(parts[1], f"after the {share}")


@dataclass(frozen=True)
class TraceReference:
    """Which trace a plan was made for: also how that was made, and SHA-256 of its times (little-endian int64 ns)."""

    name: str
    note: str
    sha256: str
    queries: int
    span_ns: int

    @classmethod
    def of(cls, trace: Trace) -> TraceReference:
        """Reference to `trace`."""
        return cls(trace.name, trace.note, trace.sha256, len(trace), trace.span_ns)

    @property
    def text(self) -> str:
        """Name, length and how it was made, in words."""
        return f"{self.name!r} ({self.queries:,} queries{', ' if self.note else ''}{self.note})"
