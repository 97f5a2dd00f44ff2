"""Numbers that change in steps over time, such as the length of a queue, exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mipplan.core import InputError, Int64, shown
from mipplan.result.totals import exact_product_sum

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class StepFunction:
    """A count over time, such as how many tokens wait.

    Attributes
    ----------
    at_ns : int64, shape (m,)
        Instants at which the count changes, strictly increasing.
    value : int64, shape (m,)
        The count from ``at_ns[i]`` (included) until ``at_ns[i+1]``; it is 0 before the first and from the last on.
    """

    at_ns: Int64
    value: Int64

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
        return cls(_frozen(instants[changes]), _frozen(value[changes].astype(np.int64)))

    @property
    def maximum(self) -> int:
        """The largest count at any time."""
        return int(self.value.max(initial=0))

    @property
    def integral_ns(self) -> int:
        """Integral over all time, count · nanoseconds; exact."""
        return exact_product_sum(self.value[:-1], np.diff(self.at_ns))

    def at(self, instants_ns: NDArray[np.int64]) -> Int64:
        """Count at each instant, shape as `instants_ns`.

        Raises
        ------
        InputError
            If these are not whole nanoseconds.
        """
        place = np.searchsorted(self.at_ns, _instants("instants_ns", instants_ns), side="right")
        return np.concatenate([np.zeros(1, dtype=np.int64), self.value])[place]

    def means(self, edges_ns: NDArray[np.int64]) -> NDArray[np.float64]:
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
    try:
        instants = np.asarray(given)
    except ValueError:  # rows of different lengths
        instants = np.empty(0)
    if instants.dtype.kind not in "iu":
        raise InputError.one(name, f"expected whole nanoseconds, found {shown(given)}")
    return instants.astype(np.int64, copy=False)


def _frozen(array: Int64) -> Int64:
    array.flags.writeable = False
    return array
