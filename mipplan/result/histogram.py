"""A fine histogram of latencies: quantiles of any number of queries in constant memory, with a stated error.

Buckets are log-linear: as wide as a double's first `PRECISION_BITS` bits after the leading one tell values apart.
A bucket is then the upper bits of the double itself, so that sorting values into buckets is one shift.

References
----------
G. Tene, HdrHistogram, for the layout of buckets; the error bound follows from the bucket width alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mipplan.core import Int64, check_quantile, higher_rank

PRECISION_BITS = 10
#: No quantile is further above the true one than this share of it (and never below it).
RELATIVE_ERROR = 2.0**-PRECISION_BITS

_DROPPED_BITS = 52 - PRECISION_BITS
#: Upper bits of the double 1.0, so that bucket 1 begins at 1 ns and bucket 0 holds 0.
_ONE = int(np.float64(1.0).view(np.int64)) >> _DROPPED_BITS
#: Buckets up to 2**63 ns.
BUCKETS = (63 << PRECISION_BITS) + 2


def bucket_counts(values_ns: Int64) -> Int64:
    """Count non-negative nanoseconds, shape (n,), by bucket, shape (`BUCKETS`,)."""
    upper = values_ns.astype(np.float64).view(np.int64) >> _DROPPED_BITS
    counted: Int64 = np.bincount(np.maximum(upper - (_ONE - 1), 0), minlength=BUCKETS).astype(np.int64)
    return counted


def _largest_of(bucket: int) -> int:
    """Largest value (ns) that falls into a bucket."""
    if bucket == 0:
        return 0
    next_edge = np.int64((bucket + _ONE) << _DROPPED_BITS).view(np.float64)
    return int(np.ceil(next_edge)) - 1


@dataclass(frozen=True)
class LatencyHistogram:
    """How many latencies fell into each bucket.

    Attributes
    ----------
    counts : int64, shape (BUCKETS,)
    largest_ns : int
        The largest latency itself; 0 if there is none.
    """

    counts: Int64
    largest_ns: int = 0

    @classmethod
    def empty(cls) -> LatencyHistogram:
        """A histogram of nothing."""
        return cls(np.zeros(BUCKETS, dtype=np.int64))

    def plus(self, values_ns: Int64) -> LatencyHistogram:
        """Return the histogram with these added, shape (n,), none negative."""
        if not values_ns.size:
            return self
        counts = self.counts + bucket_counts(values_ns)
        counts.flags.writeable = False
        return LatencyHistogram(counts, max(self.largest_ns, int(values_ns.max())))

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
        return min(_largest_of(bucket), self.largest_ns)
