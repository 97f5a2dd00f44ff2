"""What a replay observed at one stage: integer times per token and per batch, and figures computed when asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mipplan.core import NS_PER_S, Int64, check_quantile, quantile_ns
from mipplan.result.rides import Following, Rides
from mipplan.result.steps import StepFunction
from mipplan.result.totals import exact_sum

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class StageReplay:
    """One stage's tokens and batches, in integer ns.

    Times per token are written out when they are asked for first, and kept from then on.

    Little's law holds to the nanosecond: ``queue_length.integral_ns == total_wait_ns`` and
    ``busy_replicas.integral_ns == total_service_ns``.

    Attributes
    ----------
    replicas : int
        The most there were at any time.
    rides : Rides
        Its batches, and who rode in them.
    arrivals : int64, shape (tokens,), or Following
        When each token was ready at the stage.
    """

    replicas: int
    rides: Rides
    arrivals: Int64 | Following

    @property
    def arrival_ns(self) -> Int64:
        """When each token was ready at the stage, in token order, shape (tokens,)."""
        return self.arrivals.at_ns if isinstance(self.arrivals, Following) else self.arrivals

    @property
    def dispatch_ns(self) -> Int64:
        """When each token was taken into a batch, in token order, shape (tokens,)."""
        return self.rides.dispatch_ns

    @property
    def exit_ns(self) -> Int64:
        """When the batch of each token was done, in token order, shape (tokens,)."""
        return self.rides.exit_ns

    @property
    def batch_start_ns(self) -> Int64:
        """When each batch was dispatched, in this order, shape (batches,)."""
        return self.rides.batch_start_ns

    @property
    def batch_size(self) -> Int64:
        """Tokens in each batch, shape (batches,)."""
        return self.rides.batch_size

    @property
    def batch_service_ns(self) -> Int64:
        """How long each batch took, shape (batches,)."""
        return self.rides.batch_service_ns

    @property
    def tokens(self) -> int:
        """Number of tokens served."""
        return self.rides.tokens

    @property
    def batches(self) -> int:
        """Number of batches dispatched."""
        return int(self.batch_size.size)

    @property
    def span_ns(self) -> int:
        """Time from the stage's first arrival to its last exit; 0 if it saw no token."""
        return self.rides.last_exit_ns - int(self.arrival_ns.min()) if self.tokens else 0

    # ----------------------------------------------------------------------------------------- waiting

    @property
    def wait_ns(self) -> Int64:
        """Time of each token from ready to dispatch, shape (tokens,); computed anew each time."""
        return self.dispatch_ns - self.arrival_ns

    @property
    def total_wait_ns(self) -> int:
        """Sum of the waits of all tokens; exact."""
        return exact_sum(self.wait_ns)

    @property
    def mean_wait_s(self) -> float:
        """Mean time from ready to dispatch (s); 0 if the stage saw no token."""
        return self.total_wait_ns / self.tokens / NS_PER_S if self.tokens else 0.0

    @property
    def max_wait_s(self) -> float:
        """Longest time from ready to dispatch (s); 0 if the stage saw no token."""
        return float(np.max(self.wait_ns)) / NS_PER_S if self.tokens else 0.0

    def wait_quantile(self, quantile: float) -> float:
        """Quantile over tokens of the time from ready to dispatch (s), ``method="higher"``; 0 without tokens.

        Raises
        ------
        InputError
            If `quantile` is not in (0, 1].
        """
        wanted = check_quantile(quantile)
        return quantile_ns(self.wait_ns, wanted) / NS_PER_S if self.tokens else 0.0

    @property
    def queue_length(self) -> StepFunction:
        """How many tokens wait, over time.

        At an instant everything that arrives is enqueued and idle replicas dispatch; what then still waits is
        the length of the queue at that instant.
        """
        return StepFunction.counting(self.arrival_ns, self.dispatch_ns)

    @property
    def mean_queue(self) -> float:
        """Time-average of the queue length between the stage's first arrival and its last exit."""
        return self.total_wait_ns / self.span_ns if self.tokens else 0.0

    @property
    def max_queue(self) -> int:
        """The longest the queue ever was; ``queue_length.maximum`` at a fraction of its memory."""
        if not self.tokens:
            return 0
        # Between dispatches a queue only grows, so it is longest just before one.
        arrivals = self.arrival_ns if _is_sorted(self.arrival_ns) else np.sort(self.arrival_ns)
        arrived = np.searchsorted(arrivals, self.batch_start_ns, side="left")
        gone = np.cumsum(self.batch_size) - self.batch_size
        return max(0, int(np.max(arrived - gone)))

    # ----------------------------------------------------------------------------------------- service

    @property
    def mean_batch(self) -> float:
        """Mean batch size; 0 if there was no batch."""
        return float(np.mean(self.batch_size)) if self.batches else 0.0

    @property
    def batch_sizes(self) -> dict[int, int]:
        """How many batches there were of each size that occurred, by size."""
        counts = np.bincount(self.batch_size)
        return {int(size): int(counts[size]) for size in np.flatnonzero(counts)}

    @property
    def mean_service_s(self) -> float:
        """Mean time a batch takes (s); 0 if there was none."""
        return float(np.mean(self.batch_service_ns)) / NS_PER_S if self.batches else 0.0

    @property
    def total_service_ns(self) -> int:
        """Sum of the service times of all batches; exact."""
        return exact_sum(self.batch_service_ns)

    @property
    def busy_replicas(self) -> StepFunction:
        """How many replicas are busy, over time."""
        return StepFunction.counting(self.batch_start_ns, self.batch_start_ns + self.batch_service_ns)

    @property
    def utilisation(self) -> float:
        """Busy share of all replicas between the stage's first arrival and its last exit.

        Where replicas come and go, `ReplayResult.utilisation` is the figure to look at.
        """
        return self.total_service_ns / (self.span_ns * self.replicas) if self.tokens else 0.0

    # ------------------------------------------------------------------------------------------ tables

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per token, in token order: ``arrival_ns``, ``dispatch_ns``, ``exit_ns``, ``wait_ns``."""
        import pandas as pd

        columns = {
            "arrival_ns": self.arrival_ns,
            "dispatch_ns": self.dispatch_ns,
            "exit_ns": self.exit_ns,
            "wait_ns": self.wait_ns,
        }
        return pd.DataFrame(columns, index=pd.RangeIndex(self.tokens, name="token"))

    def batches_to_pandas(self) -> pd.DataFrame:
        """Return one row per batch, in order of dispatch: ``start_ns``, ``size``, ``service_ns``."""
        import pandas as pd

        columns = {
            "start_ns": self.batch_start_ns,
            "size": self.batch_size,
            "service_ns": self.batch_service_ns,
        }
        return pd.DataFrame(columns, index=pd.RangeIndex(self.batches, name="batch"))


def _is_sorted(times: Int64) -> bool:
    return bool(np.all(times[1:] >= times[:-1]))
