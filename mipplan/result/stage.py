"""What a replay observed at one stage: integer times per token and per batch, and figures computed when asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from mipplan.core import NS_PER_S, Bool, FieldOf, Int32, Int64, check_quantile, counted, frozen, quantile_ns
from mipplan.result.stream import exact_sum
from mipplan.result.timeline import StepFunction

if TYPE_CHECKING:
    import pandas as pd

#: Dispatch and exit of a token that was left waiting are at this instant.
NEVER = int(np.iinfo(np.int64).max)


# --- which batch served which token -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)
class BatchAssignment:
    """The batches of one stage, and which tokens were in them: all that happened there, in little memory.

    Times per token follow from those of the batches, and are written out only when somebody asks for them. A replay
    of a chain asks for those of its last stage alone.
    """

    tokens: int
    """Those that the stage was asked to serve."""
    rider: Int32 | Int64 | None
    """Token at each place, batch after batch, under fifo by arrival; None if places are in token order, shape
    (served,). Tokens beyond the last batch were left waiting."""
    # In order of dispatch, shape (batches,).
    batch_start_ns: Int64
    batch_size: Int64
    batch_service_ns: Int64
    by_end: Int32 | None = None
    """The batches in order of their ends, those of one instant in order of dispatch; None if that was not
    noted, shape (batches,)."""

    #: This many batches are spread over their tokens at once, so that what is read and written stays in the cache.
    batches_at_once: ClassVar[int] = 1 << 13

    def __post_init__(self) -> None:
        for array in (self.rider, self.batch_start_ns, self.batch_size, self.batch_service_ns, self.by_end):
            if array is not None:
                array.flags.writeable = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.tokens} tokens in {self.batch_size.size} batches>"

    @cached_property
    def dispatch_ns(self) -> Int64:
        """When each token was taken into a batch, shape (tokens,); `NEVER` if it was left waiting."""
        return frozen(self.per_token(self.batch_start_ns))

    @cached_property
    def exit_ns(self) -> Int64:
        """When the batch of each token was done, shape (tokens,); `NEVER` if it was left waiting."""
        return frozen(self.per_token(self.batch_start_ns + self.batch_service_ns))

    @property
    def last_exit_ns(self) -> int:
        """When the last batch was done; there must be one."""
        return int(np.max(self.batch_start_ns + self.batch_service_ns))

    def sent_ns(self, stagger_ns: int, *, fifo: bool) -> Int64:
        """When what each token makes is sent to the stages below, shape (tokens,): those of a batch so far apart.

        In the order in which it took them: by number, or, under fifo, by arrival. `exit_ns` itself where nothing is
        apart.
        """
        served = int(self.batch_size.sum())
        if not stagger_ns or served == self.batch_size.size:
            return self.exit_ns
        first = np.cumsum(self.batch_size) - self.batch_size
        ahead = np.arange(served, dtype=np.int64) - np.repeat(first, self.batch_size)
        tokens: slice | Int32 | Int64 = slice(served)
        if self.rider is not None and fifo:
            tokens = self.rider
        elif self.rider is not None:  # engines do not put those in order that go together anyway
            batch = np.repeat(np.arange(self.batch_size.size, dtype=np.int64), self.batch_size)
            tokens = np.sort(batch * self.tokens + self.rider) - batch * self.tokens
        sent_ns = self.exit_ns.copy()
        sent_ns[tokens] += ahead * np.int64(stagger_ns)
        return frozen(sent_ns)

    def per_token(self, instant_ns: Int64) -> Int64:
        """Find an instant of its batch for each token, in token order."""
        if self.rider is None and instant_ns.size == self.tokens:
            return instant_ns.view()  # Each is alone in its batch.
        by_token = np.empty(self.tokens, dtype=np.int64)
        if int(self.batch_size.sum()) < self.tokens:
            by_token.fill(NEVER)
        self._hand_out(instant_ns, by_token)
        return by_token

    def _hand_out(self, instant_ns: Int64, by_token: Int64) -> None:
        """Write an instant of each batch down for each of its tokens."""
        place = 0
        for low in range(0, instant_ns.size, self.batches_at_once):
            here = slice(low, low + self.batches_at_once)
            instants, size = instant_ns[here], self.batch_size[here]
            upto = place + int(size.sum())
            served = slice(place, upto) if self.rider is None else self.rider[place:upto]
            by_token[served] = instants if upto - place == size.size else np.repeat(instants, size)
            place = upto


@dataclass(frozen=True, eq=False)
class Following:
    """Arrivals of tokens that each follow the same token of a stage above, a fixed delay after its exit there."""

    above: BatchAssignment
    delay_ns: int

    @cached_property
    def at_ns(self) -> Int64:
        """When each token arrives, shape (tokens,)."""
        exit_ns = self.above.exit_ns
        return frozen(exit_ns + np.int64(self.delay_ns)) if self.delay_ns else exit_ns


# --- one stage --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class StageReplay:
    """One stage's tokens and batches, in integer ns.

    Times per token are written out when they are asked for first, and kept from then on.

    Little's law holds to the nanosecond: ``queue_length.integral_ns == total_wait_ns`` and
    ``busy_replicas.integral_ns == total_service_ns``.
    """

    replicas: int
    """The most there were at any time."""
    assignment: BatchAssignment
    """Its batches, and the tokens in them."""
    arrivals: Int64 | Following
    """When each token was ready at the stage, shape (tokens,)."""
    served: Bool | None = None
    """Which of the workload's tokens all this is about, if some were turned away, here or above; None for all."""

    dispatch_ns = FieldOf[Int64]("assignment.dispatch_ns")
    """When each token was taken into a batch, in token order, shape (tokens,)."""
    exit_ns = FieldOf[Int64]("assignment.exit_ns")
    """When the batch of each token was done, in token order, shape (tokens,)."""
    batch_start_ns = FieldOf[Int64]("assignment.batch_start_ns")
    """When each batch was dispatched, in this order, shape (batches,)."""
    batch_size = FieldOf[Int64]("assignment.batch_size")
    """Tokens in each batch, shape (batches,)."""
    batch_service_ns = FieldOf[Int64]("assignment.batch_service_ns")
    """How long each batch took, shape (batches,)."""
    tokens = FieldOf[int]("assignment.tokens")
    """Number of tokens served."""

    def __repr__(self) -> str:
        service = f"{self.tokens} tokens in {self.batches} batches"
        return f"<StageReplay: {counted(self.replicas, 'replica')}, {service}>"

    def of_served(self) -> StageReplay:
        """Return what happened to the tokens that were served, and which these are, if some were not."""
        assignment, served = self.assignment, self.dispatch_ns != NEVER
        if assignment.rider is None or served.all():
            return self
        rider = (np.cumsum(served) - 1)[assignment.rider]
        kept = replace(assignment, tokens=rider.size, rider=rider)
        return StageReplay(self.replicas, kept, self.arrival_ns[served], frozen(served))

    @property
    def arrival_ns(self) -> Int64:
        """When each token was ready at the stage, in token order, shape (tokens,)."""
        return self.arrivals.at_ns if isinstance(self.arrivals, Following) else self.arrivals

    @property
    def batches(self) -> int:
        """Number of batches dispatched."""
        return int(self.batch_size.size)

    @property
    def span_ns(self) -> int:
        """Time from the stage's first arrival to its last exit; 0 if it saw no token."""
        return self.assignment.last_exit_ns - int(self.arrival_ns.min()) if self.tokens else 0

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
        arrivals = self.arrival_ns
        if np.any(arrivals[1:] < arrivals[:-1]):
            arrivals = np.sort(arrivals)
        arrived = np.searchsorted(arrivals, self.batch_start_ns, side="left")
        gone = np.cumsum(self.batch_size) - self.batch_size
        return max(0, int(np.max(arrived - gone)))

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

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per token, in token order: ``arrival_ns``, ``dispatch_ns``, ``exit_ns``, ``wait_ns``."""
        import pandas as pd

        columns = {name: getattr(self, name) for name in ("arrival_ns", "dispatch_ns", "exit_ns", "wait_ns")}
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
