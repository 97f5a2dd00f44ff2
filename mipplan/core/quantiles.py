"""The one definition of a quantile used everywhere: over queries, the higher order statistic, never interpolated.

A quantile is kept if few enough queries are late: over all of them, in every window of time, or in most windows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from functools import partial
from operator import attrgetter

import numpy as np

from mipplan.core.checks import Bool, Int64, is_number, positive_ns
from mipplan.core.errors import Fault, Faults, InputError
from mipplan.core.search import Numbers, greatest_values, order_statistic
from mipplan.core.units import MAX_DURATION_NS, duration_text, window_text
from mipplan.core.wording import shown


def check_quantile(quantile: float) -> float:
    """Return `quantile` as a float.

    Raises `InputError` if it is no number in (0, 1].
    """
    if not is_number(quantile) or not 0.0 < quantile <= 1.0:
        percent = is_number(quantile) and 1.0 < quantile <= 100.0
        hint = f": for P{quantile:g} write {quantile / 100:g}" if percent else ""
        message = f"expected a number in (0, 1] such as 0.99, found {quantile!r}{hint}"
        raise InputError.one("quantile", message)
    return float(quantile)


def higher_rank(quantile: float, count: int) -> int:
    """Rank (0-based, ascending) of the quantile of `count` values, as ``numpy.quantile(method="higher")``."""
    return min(count - 1, math.ceil(quantile * (count - 1)))


def quantile_ns(values_ns: Int64, quantile: float) -> int:
    """Return the quantile of integer nanoseconds, shape (n,), n ≥ 1: an element of `values_ns`."""
    return order_statistic(values_ns, higher_rank(quantile, values_ns.size))


def over_text(per_ns: int | None, share: float = 1.0) -> str:
    """Say over which queries a quantile is taken, in words that follow its name; empty for all of them."""
    if per_ns is None:
        return ""
    of = "every" if share == 1.0 else f"{100 * share:g} % of all windows of"
    return f" in {of} {window_text(per_ns)}"


@dataclass(frozen=True, eq=False)
class Allowance:
    """How many queries may be late, in each window that holds any.

    Attributes
    ----------
    quantile : float
        The latency quantile that allows it.
    over : str
        Over which queries it is taken, in words that follow its name; empty for all of them.
    starts : int64, shape (w + 1,)
        Queries of a window are neighbours: those of window k are ``starts[k]`` to ``starts[k + 1] - 1``.
    allowed : int64, shape (w,)
        Most of them that may be late.
    spare : int
        So many windows need not keep that.
    total : int
        Most queries that may be late in all.
    """

    quantile: float
    over: str
    starts: Int64
    allowed: Int64
    spare: int
    total: int

    @classmethod
    def of(
        cls, quantile: float, ingress_ns: Int64, per_ns: int | None = None, share: float = 1.0
    ) -> Allowance:
        """Return what a latency quantile allows that is to be kept by all queries, or in a share of the windows.

        Parameters
        ----------
        quantile, share : float
            In (0, 1].
        ingress_ns : int64, shape (n,), n ≥ 1
            Non-decreasing.
        per_ns : int or None
            Length of the windows, which begin with the first query; those without a query do not count. None for
            one window that holds everything.
        """
        starts = np.array([0, ingress_ns.size])
        if per_ns is not None:
            window = (ingress_ns - ingress_ns[0]) // per_ns
            starts = np.append(np.flatnonzero(np.diff(window, prepend=-1)), ingress_ns.size)
        sizes = np.diff(starts)
        allowed = np.array([size - 1 - higher_rank(quantile, size) for size in sizes.tolist()])
        # As a fraction: three windows of four are 75 % of them, whatever a float makes of that.
        spare = sizes.size * (1 - Fraction(str(share))) // 1
        free = np.sort(sizes - allowed)[sizes.size - int(spare) :]
        over, total = over_text(per_ns, share), int(allowed.sum() + free.sum())
        return cls(quantile, over, starts, allowed, int(spare), total)

    @property
    def is_whole(self) -> bool:
        """Whether there is but one window."""
        return self.allowed.size == 1

    def restricted(self, kept: Bool) -> Allowance:
        """Return the same for some queries, marked in `kept`, shape (n,): as many of them may be late as of all."""
        return replace(self, starts=np.searchsorted(np.flatnonzero(kept), self.starts))

    def scaled(self, factor: float) -> Allowance:
        """Return the same with so many times as many that may be late, rounded down."""
        allowed = (factor * self.allowed).astype(np.int64)
        return replace(self, allowed=allowed, total=int(factor * self.total))

    def is_exceeded(self, late: Bool) -> bool:
        """Whether too many are late, shape (n,)."""
        count = int(np.count_nonzero(late))
        if count > self.total or self.is_whole:
            return count > self.total
        return self.is_exceeded_by(self.count(late))

    def is_exceeded_by(self, late: Int64) -> bool:
        """Whether so many of each window, shape (w,), are too many."""
        return int(np.count_nonzero(late > self.allowed)) > self.spare

    def are_exceeded(self, late: Bool) -> Bool:
        """Whether too many are late in each of k cases, shape (k, n); shape (k,)."""
        if self.is_whole:
            exceeded: Bool = np.count_nonzero(late, axis=1) > self.total
        else:
            # A sum from an empty window would take the next one's first query.
            held = np.diff(self.starts) > 0
            counts = np.add.reduceat(late, self.starts[:-1][held], axis=1, dtype=np.int64)
            exceeded = np.count_nonzero(counts > self.allowed[held], axis=1) > self.spare
        return exceeded

    def count(self, marked: Bool) -> Int64:
        """Count those marked, shape (n,), by window, shape (w,)."""
        return self.count_numbers(np.flatnonzero(marked))

    def count_numbers(self, query: Int64) -> Int64:
        """Count queries by window, shape (w,), given their numbers, increasing."""
        counts: Int64 = np.diff(np.searchsorted(query, self.starts))
        return counts

    def figure(self, values: Numbers) -> int:
        """Return the least limit that values, shape (n,), keep, which is their quantile; 0 if they keep any."""
        limits = self.limits(values)
        return max(limits) if self.spare == 0 else sorted(limits)[-1 - self.spare]

    def limits(self, values: Numbers) -> list[int]:
        """Return the least limit of each window, as `figure` does of all."""
        limits = []
        for start, end, allowed in zip(*self._bounds(), self.allowed.tolist(), strict=True):
            rank = end - start - 1 - allowed
            limits.append(order_statistic(values[start:end], rank) if rank >= 0 else 0)
        return limits

    def slowest(self, values: Numbers, factor: float) -> tuple[Int64, Allowance]:
        """Return some of the slowest queries, ascending, by whose values it shows first what is exceeded.

        These are `factor` times as many as are too many in each of the windows that decide: the first one whose limit
        is the figure or, where windows are spare, `factor` times as many windows as are too many. Second, what they
        must keep: if values of them exceed that, values of all queries exceed this allowance.
        """
        windows = self._deciding(values, factor)
        slow = [
            start + greatest_values(values[start:end], math.ceil(factor * (allowed + 1)))
            for start, end, allowed in windows
        ]
        return self._of_some(slow, windows)

    def late(self, values: Numbers, limit: int, factor: float) -> tuple[Int64, Allowance]:
        """Return the queries above a limit of the windows that decide, as in `slowest`, and what they must keep."""
        windows = self._deciding(values, factor)
        late = [start + np.flatnonzero(values[start:end] > limit) for start, end, _ in windows]
        return self._of_some(late, windows)

    def _of_some(self, queries: list[Int64], windows: list[tuple[int, int, int]]) -> tuple[Int64, Allowance]:
        """Return queries of some windows side by side, and what they must keep."""
        starts = np.cumsum([0, *(some.size for some in queries)])
        allowed = np.array([allowed for *_, allowed in windows])
        total = self.total if self.spare else int(allowed.sum())
        return np.concatenate(queries), replace(self, starts=starts, allowed=allowed, total=total)

    def _deciding(self, values: Numbers, factor: float) -> list[tuple[int, int, int]]:
        """Return start, end and allowance of the windows that decide, ascending."""
        every = list(zip(*self._bounds(), self.allowed.tolist(), strict=True))
        if self.is_whole:
            return every
        limits = np.array(self.limits(values))
        if self.spare == 0:
            return [every[int(np.argmax(limits))]]
        return [every[place] for place in greatest_values(limits, math.ceil(factor * (self.spare + 1)))]

    def first_at(self, values: Numbers) -> int:
        """Return the first of the values, shape (n,), that is the figure, in a window whose limit it is."""
        figure = self.figure(values)
        starts, ends = self._bounds()
        window = 0 if self.is_whole else self.limits(values).index(figure)
        return starts[window] + int(np.flatnonzero(values[starts[window] : ends[window]] == figure)[0])

    def _bounds(self) -> tuple[list[int], list[int]]:
        return self.starts[:-1].tolist(), self.starts[1:].tolist()


@dataclass(frozen=True, eq=False)
class Criterion:
    """What latencies must keep: an allowance, whose limit is asked about, and others whose limits are that, shifted.

    None of it gets easier when a latency grows, which is all that searches rely on.
    """

    main: Allowance
    others: tuple[tuple[Allowance, int], ...] = ()  # With shifts in ns.

    @classmethod
    def of(cls, asked: float | Criterion, ingress_ns: Int64) -> Criterion:
        """Return what is asked of queries with these ingress times, shape (n,); a number is a quantile over all."""
        return asked if isinstance(asked, Criterion) else cls(Allowance.of(asked, ingress_ns))

    def restricted(self, kept: Bool) -> Criterion:
        """Return the same for some of the queries, marked in `kept`, shape (n,)."""
        return Criterion(
            self.main.restricted(kept), tuple((other.restricted(kept), ns) for other, ns in self.others)
        )

    def scaled(self, factor: float) -> Criterion:
        """Return the same with so many times as many queries that may be late, rounded down."""
        return Criterion(self.main.scaled(factor), tuple((one.scaled(factor), ns) for one, ns in self.others))

    def exceeds(self, latency_ns: Int64, limit_ns: int) -> bool:
        """Whether latencies, shape (n,), do not keep a limit."""
        return self.main.is_exceeded(latency_ns > limit_ns) or any(
            other.is_exceeded(latency_ns > limit_ns - shift_ns) for other, shift_ns in self.others
        )

    def refusing(self, latency_ns: Int64, limit_ns: int) -> tuple[Allowance, int]:
        """Return the first allowance that latencies, shape (n,), exceed, and its shift; the main one if they do not."""
        every = ((self.main, 0), *self.others)
        exceeded = (one for one in every if one[0].is_exceeded(latency_ns > limit_ns - one[1]))
        return next(exceeded, every[0]) if self.others else every[0]

    def figure_ns(self, latency_ns: Int64) -> int:
        """Return the least limit that latencies, shape (n,), keep."""
        further = (other.figure(latency_ns) + shift_ns for other, shift_ns in self.others)
        return max(self.main.figure(latency_ns), *further) if self.others else self.main.figure(latency_ns)

    def query_at(self, latency_ns: Int64) -> int:
        """Return the first query whose latency is what the figure comes from."""
        figure_ns = self.figure_ns(latency_ns)
        binding = (one for one, shift_ns in self.others if one.figure(latency_ns) + shift_ns == figure_ns)
        of_main = not self.others or self.main.figure(latency_ns) == figure_ns
        return (self.main if of_main else next(binding)).first_at(latency_ns)


#: Of latency, where nobody says which one.
DEFAULT_QUANTILE = 0.99


@dataclass(frozen=True)
class QuantileLimit:
    """A latency quantile, in (0, 1], and its limit."""

    quantile: float
    limit_ns: int


@dataclass(frozen=True)
class Slo:
    """What a pipeline asks of latency beyond one limit: which quantile, over what, and further ones.

    Raises `InputError` with every fault.
    """

    quantile: float | None = None  # That the limit is of, in (0, 1]; None if the pipeline leaves it open.
    # The quantiles are over the queries of each window of this length; None for over all.
    per_ns: int | None = None
    share: float = 1.0  # Of the windows that must keep them, in (0, 1].
    others: tuple[QuantileLimit, ...] = ()  # Further quantiles, with their limits.

    def __post_init__(self) -> None:
        faults = Faults()
        stated = [DEFAULT_QUANTILE if self.quantile is None else self.quantile]
        stated += [other.quantile for other in self.others]
        for number, quantile in enumerate(stated):
            faults.take(partial(check_quantile, quantile))
            if quantile in stated[:number]:
                faults.add(Fault("slo.others", f"P{100 * quantile:g} is asked for twice"))
        for name, value, most in (("per_ns", self.per_ns, MAX_DURATION_NS), ("share", self.share, 1)):
            if value is not None and not (is_number(value) and 0 < value <= most):
                faults.add(
                    Fault(f"slo.{name}", f"expected a number above 0, at most {most}, found {shown(value)}")
                )
        faults.check()

    def over(self, per_s: float | None, share: float | None) -> Slo:
        """Return the same over windows of so many seconds, infinitely many for all queries; None leaves it as it is."""
        per_ns, faults = self.per_ns, Faults()
        if share is not None and not (is_number(share) and 0 < share <= 1):
            faults.add(Fault("share", f"expected a number above 0, at most 1, found {shown(share)}"))
        if per_s is not None:
            per_ns = None if per_s == math.inf else positive_ns(per_s)
            if per_ns is None and per_s != math.inf:
                faults.add(Fault("per_s", f"expected a positive number of seconds, found {shown(per_s)}"))
        faults.check()
        kept = (1.0 if per_ns is None else self.share) if share is None else share
        if per_ns is None and kept != 1.0:
            raise InputError.one("share", "is of windows, and it is not said how long they are (per)")
        return replace(self, per_ns=per_ns, share=kept)

    def to_document(self, limit_ns: int) -> object:
        """Write it with the limit of its quantile, as in the file."""
        if self == Slo():
            return duration_text(limit_ns)
        main = QuantileLimit(DEFAULT_QUANTILE if self.quantile is None else self.quantile, limit_ns)
        limits = sorted([*self.others, main], key=attrgetter("quantile"))
        document: dict[str, object] = {_key(one.quantile): duration_text(one.limit_ns) for one in limits}
        if self.per_ns is not None:
            document["per"] = window_text(self.per_ns)
        return document if self.share == 1.0 else {**document, "share": self.share}


def _key(quantile: float) -> str:
    return f"p{Decimal(str(float(quantile))) * 100:f}".rstrip("0").rstrip(".")
