"""Replica counts that change while a stage serves: what may be busy when, and what is paid for."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from mipplan.core import MAX_DURATION_NS, Fault, InputError, Int64, array_of, frozen, is_whole, shown, to_ns
from mipplan.replayer.stage_task import ALWAYS, NEVER, Capacity

#: Far beyond any use: a larger count is a slip.
MAX_REPLICAS = 1_000_000_000
#: So many instants are looked at together: few megabytes, and little time lost between them.
_INSTANTS_AT_ONCE = 1 << 16


@dataclass(frozen=True, eq=False, repr=False)
class ReplicaSchedule:
    r"""How many replicas a stage is told to have, piecewise constant, and how long one takes to start.

    The commanded count is n(s) = ``replicas[i]`` from ``change_ns[i-1]``, included, to ``change_ns[i]``; the first
    count holds from the beginning, the last one for ever. Let δ be `delay_ns`. The rules:

    1. Where n rises by d at s, d replicas are ordered; each becomes *active* at s + δ. Those of the first count
       are active from the beginning.
    2. Where n falls by d, d replicas go. Those not yet active are cancelled, the last ordered first. If that is not
       enough, active ones that idle retire at once; for the rest, whoever completes a batch next retires then: as
       many replicas are *finishing*, and no longer active.
    3. If a replica is finishing when another becomes active, it stays, active again, and the other is let go.
    4. At one instant, changes of n, activations, arrivals and completions come first, then dispatch.

    **Capacity.** There are c(t) = min { n(s) : t − δ ≤ s ≤ t } active replicas at t, and a batch may start if and only
    if fewer than c(t) batches are under way.

    *Proof.* Those not yet active were ordered after all active ones. For counting it does not matter which active one
    goes; let it be the last ordered too. Then the replicas are a stack of height n(s): orders push, removals pop. The
    one in place p of the stack at t has been there since it was pushed; n ≥ p since then and n < p just before. So it
    is active (pushed at t − δ or before, or there from the beginning) if and only if n(s) ≥ p for all s in
    [t − δ, t], that is p ≤ c(t). Now let b batches be under way, on active replicas and on f finishing ones. Finishing
    begins only when no active replica idles (rule 2). While f > 0, whoever completes retires, and no new replica
    comes (rule 3), so no active one idles then: b = c(t) + f, and none may start. If f = 0, an active one idles if
    and only if b < c(t). ∎

    It follows that f(t) = max(0, b(t) − c(t)).

    **Payment.** A replica is paid from its order until it is cancelled or retires. Ordered and active ones number n(t),
    so n(t) + f(t) replicas are paid at t.

    Attributes
    ----------
    change_ns : int64, shape (c,)
        When the count changes, on the trace's time axis: at least 0, strictly increasing.
    replicas : int64, shape (c + 1,)
        At least 0, the last at least 1 (or tokens would wait for ever).
    delay_ns : int
        Activation delay δ, at least 0.

    Raises
    ------
    InputError
        With every fault.
    """

    change_ns: Int64
    replicas: Int64
    delay_ns: int = 0

    def __repr__(self) -> str:
        counts = f"{self.replicas.min()} to {self.replicas.max()} replicas"
        return f"<ReplicaSchedule: {self.change_ns.size} changes, {counts}>"

    def __post_init__(self) -> None:
        change_ns, faults = _whole_numbers("change_ns", self.change_ns, MAX_DURATION_NS)
        replicas, more = _whole_numbers("replicas", self.replicas, MAX_REPLICAS)
        faults += [*more, *_relation_faults(change_ns, replicas)]
        delay = self.delay_ns
        if not is_whole(delay):
            faults.append(Fault("delay_ns", f"expected whole nanoseconds, found {shown(delay)}"))
        elif not 0 <= delay <= MAX_DURATION_NS:
            faults.append(Fault("delay_ns", f"expected 0 ns to ten years, found {shown(delay)}"))
        if faults:
            raise InputError(faults)
        object.__setattr__(self, "change_ns", change_ns)
        object.__setattr__(self, "replicas", replicas)
        object.__setattr__(self, "delay_ns", int(delay))

    @classmethod
    def from_seconds(
        cls, change_s: ArrayLike, replicas: ArrayLike, *, delay_s: float = 0.0
    ) -> ReplicaSchedule:
        """Make a schedule of times in seconds, each rounded to the nearest nanosecond.

        Raises
        ------
        InputError
            With every fault.
        """
        faults: list[Fault] = []
        seconds = np.atleast_1d(np.asarray(change_s, dtype=object)).tolist()
        times = [_nanoseconds(f"change_s[{i}]", time, faults) for i, time in enumerate(seconds)]
        delay_ns = _nanoseconds("delay_s", delay_s, faults)
        if faults:
            raise InputError([*faults, *_whole_numbers("replicas", replicas, MAX_REPLICAS)[1]])
        return cls(np.array(times, dtype=np.int64), replicas, delay_ns)  # type: ignore[arg-type]  # checked there

    def __reduce__(self) -> tuple[type[ReplicaSchedule], tuple[Int64, Int64, int]]:
        # Unpickled arrays are writeable; going through the constructor makes them read-only again.
        return ReplicaSchedule, (self.change_ns, self.replicas, self.delay_ns)

    @cached_property
    def capacity(self) -> Capacity:
        """How many batches may be under way over time: the least count in the last δ, c(t) of the class."""
        instants = np.unique(np.concatenate([self.change_ns, self.change_ns + self.delay_ns]))
        oldest = np.searchsorted(self.change_ns, instants - self.delay_ns, side="right")
        newest = np.searchsorted(self.change_ns, instants, side="right")
        least = _window_minima(self.replicas, oldest, newest)
        from_ns = np.concatenate([[ALWAYS], instants])
        active = np.concatenate([self.replicas[:1], least])
        changes = np.concatenate([[True], active[1:] != active[:-1]])
        return Capacity(frozen(from_ns[changes]), frozen(active[changes]))

    def paid_ns(self, batch_start_ns: Int64, batch_service_ns: Int64, start_ns: int, end_ns: int) -> int:
        """Replica-nanoseconds paid for from `start_ns` to `end_ns`: the integral of n(t) + f(t), exactly.

        The batches, in order of dispatch, were served under this schedule, all within these instants.
        """
        end_of_batch_ns = batch_start_ns + batch_service_ns
        return self.planned_ns(start_ns, end_ns) + finishing_ns(
            self.capacity, batch_start_ns, end_of_batch_ns
        )

    def planned_ns(self, start_ns: int, end_ns: int) -> int:
        """The integral of n(t) alone."""
        edges = np.concatenate([[start_ns], np.clip(self.change_ns, start_ns, end_ns), [end_ns]])
        return _integral(self.replicas, np.diff(edges))


def finishing_ns(
    capacity: Capacity, start_ns: Int64, end_ns: Int64, low_ns: int = ALWAYS, high_ns: int = NEVER
) -> int:
    """Integrate max(0, batches under way − capacity) over time, or between two instants, given all under way then."""
    if capacity.is_constant:
        return 0  # no batch ever starts beyond it
    edges = (np.array([low_ns, high_ns]),) if (low_ns, high_ns) != (ALWAYS, NEVER) else ()
    ends, instants = np.sort(end_ns), np.concatenate([capacity.from_ns[1:], end_ns, *edges])
    instants = instants.clip(low_ns, high_ns)
    instants.sort()
    total = 0
    # A few instants at a time, because all of them take several times the memory of the batches.
    for low in range(0, instants.size - 1, _INSTANTS_AT_ONCE):
        here = instants[low : low + _INSTANTS_AT_ONCE + 1]
        started = start_ns.searchsorted(here[:-1], side="right")
        ended = ends.searchsorted(here[:-1], side="right")
        active = capacity.replicas[np.searchsorted(capacity.from_ns, here[:-1], side="right") - 1]
        # From one of these instants to the next nobody retires or is removed. Batches may start there, but only below
        # the capacity, so a positive difference stays what it is and others stay at most 0.
        finishing = np.maximum(0, started - ended - active)
        some = np.flatnonzero(finishing)
        total += _integral(finishing[some], here[some + 1] - here[some])
    return total


def _integral(counts: Int64, lengths_ns: Int64) -> int:
    """Add up count times length in Python integers: such products leave int64 sooner than one thinks."""
    return sum(map(operator.mul, counts.tolist(), lengths_ns.tolist()))


def _window_minima(values: Int64, first: Int64, last: Int64) -> Int64:
    """Least of ``values[first[i]], …, values[last[i]]``: that of two windows, as long as the next power of two."""
    least = np.empty(first.size, dtype=np.int64)
    length, span = 1, last + 1 - first
    while values.size:
        here = (length <= span) & (span < 2 * length)
        least[here] = np.minimum(values[first[here]], values[last[here] + 1 - length])
        values = np.minimum(values[:-length], values[length:])
        length *= 2
    return least


def _whole_numbers(name: str, given: object, most: int) -> tuple[Int64 | None, list[Fault]]:
    """Read a list of numbers from 0 to `most`; None if it is no such list at all."""
    values = array_of(given)
    if values.ndim != 1 or (values.size and values.dtype.kind not in "iu"):
        return None, [Fault(name, f"expected a list of whole numbers, found {shown(given)}")]
    faults = [
        Fault(f"{name}[{position}]", f"expected 0 to {most}, found {values[position]}")
        for position in np.flatnonzero((values < 0) | (values > most)).tolist()
    ]
    return frozen(np.array(values, dtype=np.int64)), faults


def _relation_faults(change_ns: Int64 | None, replicas: Int64 | None) -> list[Fault]:
    faults = []
    if change_ns is not None:
        message = "expected a time after the one before: they increase strictly"
        faults += [
            Fault(f"change_ns[{position + 1}]", message)
            for position in np.flatnonzero(change_ns[1:] <= change_ns[:-1]).tolist()
        ]
    if replicas is not None and replicas.size and replicas[-1] == 0:
        faults.append(Fault(f"replicas[{replicas.size - 1}]", "the last count must be at least 1, found 0"))
    if change_ns is not None and replicas is not None and replicas.size != change_ns.size + 1:
        message = f"expected one count more than changes ({change_ns.size + 1}), found {replicas.size}"
        faults.append(Fault("replicas", message))
    return faults


def _nanoseconds(name: str, seconds: float, faults: list[Fault]) -> int:
    rounded = to_ns(seconds)
    if rounded is None:
        faults.append(Fault(name, f"expected a time in seconds, found {shown(seconds)}"))
    return rounded or 0
