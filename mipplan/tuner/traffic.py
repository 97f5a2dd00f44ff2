"""What a tuner is told: traffic as it comes or in one of several forms, and what is on its way."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mipplan.calculus import ArrivalCurve, Envelope, WindowCounts
from mipplan.core import NS_PER_S, Fault, InputError, Int64, array_of, frozen, is_whole, shown, to_ns

#: Traffic as a tuner takes it: an arrival curve, counts over windows, or the corners that both come down to.
Traffic = ArrivalCurve | WindowCounts | Envelope

#: Windows of an envelope double up to this length.
LONGEST_WINDOW_NS = 60 * NS_PER_S
#: A live envelope looks back a minute, unless told otherwise.
HORIZON_NS = 60 * NS_PER_S
#: A live envelope remembers maxima by slots of a second.
SLOT_NS = NS_PER_S
#: Memory of this many slots is more than enough, and read in no time.
_MOST_SLOTS = 100_000
#: At most 16,384 arrivals are handled at once, which bounds the memory of a call, whatever it is given.
_PIECE = 1 << 14
_FIRST = np.zeros(1, dtype=np.int64)
#: More replicas or queries than this are a slip.
_MOST = 1_000_000_000


@dataclass(frozen=True)
class Situation:
    """What a pipeline is in when it is tuned."""

    envelope: Envelope
    """What to be ready for."""
    outstanding: Mapping[str, int]
    """Queries that each stage has yet to serve, those still on their way to it included."""
    active: Mapping[str, int]
    """Replicas that serve now."""
    ordered: Mapping[str, int]
    """Replicas that were asked for last; changes are counted from them."""
    now_ns: int | None


def doubling_windows_ns(shortest_ns: int, longest_ns: int = LONGEST_WINDOW_NS) -> Int64:
    """Window lengths from `shortest_ns`, doubling, the last at most `longest_ns` (but always one), shape (k,)."""
    shortest = max(1, int(shortest_ns))
    return shortest << np.arange(max(1, (longest_ns // shortest).bit_length()), dtype=np.int64)


class LiveEnvelope:
    """Counts arrivals in windows that end now, and keeps the most of them for every recent slot of time.

    For each window length u, a pointer to the oldest arrival not earlier than ``t − u`` follows the newest arrival t.
    Pointers only move forward. So with k window lengths, m new arrivals cost O(k·m) and the steps of the pointers, of
    which there are at most k per arrival over the whole run: **O(k) per arrival, amortised, however many
    arrivals are held** (those of the longest window). Reading costs O(k · slots of the horizon).

    Parameters
    ----------
    window_ns : int64, shape (k,)
        Lengths, strictly increasing.
    horizon_ns : int
        How long maxima are remembered, at most.
    slot_ns : int
        Resolution of that memory: what is read covers the horizon asked for and at most one slot more.

    Attributes
    ----------
    first_ns : int or None
        When the first arrival came; None before it.
    touched : int
        Entries of held arrivals read so far, for whoever wants to check the complexity.

    Raises
    ------
    InputError
        If the lengths do not increase from at least 1 ns, or horizon and slot do not go together.
    """

    def __init__(self, window_ns: ArrayLike, *, horizon_ns: int = HORIZON_NS, slot_ns: int = SLOT_NS) -> None:
        lengths = np.asarray(window_ns)
        if lengths.ndim != 1 or lengths.size == 0 or lengths.dtype.kind not in "iu":
            raise InputError.one(
                "window_ns", f"expected a list of whole nanoseconds, found {shown(window_ns)}"
            )
        if lengths[0] < 1 or np.any(np.diff(lengths.astype(np.int64)) <= 0):
            raise InputError.one("window_ns", "expected lengths of at least 1 ns that increase strictly")
        if slot_ns < 1 or not 1 <= horizon_ns <= _MOST_SLOTS * slot_ns:
            message = f"expected 1 ns to {_MOST_SLOTS} slots, of 1 ns and more ({slot_ns} given)"
            raise InputError.one("horizon_ns", f"{message}, found {shown(horizon_ns)}")
        self.window_ns: Int64 = frozen(np.array(lengths, dtype=np.int64))
        self.horizon_ns, self.slot_ns = int(horizon_ns), int(slot_ns)
        self.touched = 0
        slots = -(-self.horizon_ns // self.slot_ns) + 1
        self._most = np.zeros((slots, self.window_ns.size), dtype=np.int64)
        self._slot = np.full(slots, -1, dtype=np.int64)
        self._held = np.empty(1024, dtype=np.int64)
        self._size = 0
        self._oldest = np.zeros(self.window_ns.size, dtype=np.int64)
        self.first_ns: int | None = None

    @property
    def last_ns(self) -> int | None:
        """When the latest arrival came; None before the first."""
        return int(self._held[self._size - 1]) if self._size else None

    @property
    def held(self) -> int:
        """Arrivals held."""
        return self._size

    def observe(self, arrival_ns: ArrayLike) -> None:
        """Take in further arrivals.

        Parameters
        ----------
        arrival_ns : int64, shape (m,)
            Non-decreasing, and not before the latest one so far. May be empty.

        Raises
        ------
        InputError
            If it is anything else; then nothing was taken in.
        """
        arrivals = _read_arrivals(arrival_ns, self.last_ns)
        for start in range(0, arrivals.size, _PIECE):
            self._take(arrivals[start : start + _PIECE])

    def counts(self, now_ns: int, horizon_ns: int | None = None) -> WindowCounts | None:
        """Most arrivals in any closed window that ends within the horizon before `now_ns`.

        Windows longer than the traffic has been observed are left out, but for the shortest: what they would hold is
        not known. None before the first arrival.

        Parameters
        ----------
        now_ns : int
            Not before the latest arrival.
        horizon_ns : int, optional
            At most the one the envelope remembers, which is the default.
        """
        if self.first_ns is None:
            return None
        horizon = self.horizon_ns if horizon_ns is None else min(int(horizon_ns), self.horizon_ns)
        recent = self._slot >= max(0, (now_ns - horizon) // self.slot_ns)
        most = self._most[recent].max(axis=0, initial=0)
        seen = max(1, int(self.window_ns.searchsorted(now_ns - self.first_ns, side="right")))
        return WindowCounts(self.window_ns[:seen], most[:seen])

    def _take(self, arrivals: Int64) -> None:
        if self.first_ns is None:
            self.first_ns = int(arrivals[0])
        begin = self._append(arrivals)
        oldest_ns = arrivals - self.window_ns[:, None]
        found = np.empty(oldest_ns.shape, dtype=np.int64)
        pointers = self._oldest.tolist()
        for pointer, last_ns, thresholds, passed in zip(
            pointers, oldest_ns[:, -1].tolist(), oldest_ns, found, strict=True
        ):
            # For each threshold the oldest held arrival not before it; the pointer of a window follows the last one.
            held = self._passed(pointer, last_ns, arrivals.size)
            passed[:] = held.searchsorted(thresholds)
            self.touched += held.size + arrivals.size
        found += self._oldest[:, None]
        self._oldest = found[:, -1].copy()
        counts = np.arange(begin + 1, self._size + 1) - found
        slots = arrivals // self.slot_ns
        starts = np.concatenate([_FIRST, np.flatnonzero(slots[1:] != slots[:-1]) + 1])
        peaks = np.maximum.reduceat(counts, starts, axis=1).T
        for slot, most in zip(slots[starts].tolist(), peaks, strict=True):
            place = slot % self._slot.size
            if self._slot[place] == slot:
                np.maximum(self._most[place], most, out=self._most[place])
            else:
                self._slot[place], self._most[place] = slot, most

    def _passed(self, pointer: int, last_ns: int, stride: int) -> Int64:
        """Arrivals held from a pointer on, at least those before an instant."""
        held, size, reach = self._held, self._size, pointer
        # Galloping: the steps grow with what is passed, not with what is held.
        while reach < size and held[reach] < last_ns:
            reach, stride = min(size, reach + stride), 2 * stride
        return held[pointer:reach]

    def _append(self, arrivals: Int64) -> int:
        """Store further arrivals, first letting go of what no window can reach; return where they begin."""
        if self._size + arrivals.size > self._held.size:
            gone = int(self._oldest.min())
            kept = self._held[gone : self._size]
            # At least as much room as is in use, so that moving what is held is paid for by as many arrivals.
            room = np.empty(2 * (kept.size + arrivals.size) + 1024, dtype=np.int64)
            room[: kept.size] = kept
            self.touched += kept.size
            self._held, self._size = room, kept.size
            self._oldest -= gone
        begin = self._size
        self._held[begin : begin + arrivals.size] = arrivals
        self._size += arrivals.size
        return begin


class RecentArrivals:
    """The arrivals of the last `kept_ns`, themselves: for whoever counts them in other ways from time to time."""

    def __init__(self, kept_ns: int) -> None:
        self._kept_ns = kept_ns
        self.arrival_ns: Int64 = np.empty(0, dtype=np.int64)

    def add(self, arrival_ns: Int64, now_ns: int) -> None:
        """Take in what came since the last time."""
        together = np.concatenate([self.arrival_ns, arrival_ns])
        # Windows that end at the oldest of the new ones must be covered.
        oldest_ns = (int(arrival_ns[0]) if arrival_ns.size else now_ns) - self._kept_ns
        self.arrival_ns = together[together.searchsorted(oldest_ns) :]

    def since(self, start_ns: int) -> int:
        """How many of them came at `start_ns` or later."""
        return self.arrival_ns.size - int(self.arrival_ns.searchsorted(start_ns))

    def most_ending(self, end_ns: Int64, window_ns: Int64) -> Int64:
        """Most arrivals in the closed windows of each length that end at these arrivals, shape (w,); 0 without any."""
        last = self.arrival_ns.searchsorted(end_ns, side="right")
        first = self.arrival_ns.searchsorted(end_ns - window_ns[:, None])
        return np.asarray((last - first).max(axis=1, initial=0), dtype=np.int64)


def as_envelope(traffic: Traffic) -> Envelope:
    """Corners of whatever describes traffic.

    Raises `InputError` if it is something else.
    """
    if isinstance(traffic, Envelope):
        return traffic
    if isinstance(traffic, WindowCounts):
        return traffic.envelope()
    if isinstance(traffic, ArrivalCurve):
        return Envelope.of_curve(traffic)
    raise InputError.one("traffic", f"expected an ArrivalCurve or WindowCounts, found {shown(traffic)}")


def read_seconds(name: str, seconds: float, *, least_ns: int = 0) -> int:
    """Turn a duration in seconds, of at least `least_ns`, into ns; raises `InputError`."""
    duration_ns = to_ns(seconds)
    if duration_ns is None or duration_ns < least_ns:
        raise InputError.one(name, f"expected seconds, {least_ns} ns to ten years, found {shown(seconds)}")
    return duration_ns


def read_instant(now_ns: int | None) -> int | None:
    """Return an instant in whole ns, or None; raises `InputError`."""
    if now_ns is None:
        return None
    if not is_whole(now_ns):
        raise InputError.one("now_ns", f"expected whole nanoseconds, found {shown(now_ns)}")
    return int(now_ns)


def read_outstanding(
    before: Mapping[str, Collection[str]], backlog: int | Mapping[str, int]
) -> dict[str, int]:
    """Queries that each stage has yet to serve: all in the system, or its own tokens and those on the way to it.

    `before` names, for each stage, the stages on the way to it and itself. Raises `InputError` with every fault.
    """
    if not isinstance(backlog, Mapping):
        counts = read_counts("backlog", {"queries": backlog}, {"queries"}, least=0)
        return dict.fromkeys(before, counts["queries"])
    tokens = read_counts("backlog", backlog, set(before), least=0)
    return {stage: sum(tokens.get(other, 0) for other in others) for stage, others in before.items()}


def read_counts(
    name: str, given: Mapping[str, int], known: set[str], *, least: int, most: int = _MOST
) -> dict[str, int]:
    """Whole numbers by name; raises `InputError` with every fault."""
    if not isinstance(given, Mapping):
        raise InputError.one(name, f"expected a mapping of names to whole numbers, found {shown(given)}")
    faults = []
    for key, value in given.items():
        if key not in known:
            message = f"there is no such stage; there are {', '.join(sorted(known))}"
        # Python's own integers, as nearly always, need no further look.
        elif not (type(value) is int or is_whole(value)) or not least <= value <= most:
            message = f"expected a whole number of at least {least}, found {shown(value)}"
        else:
            continue
        faults.append(Fault(f"{name}.{key}", message))
    InputError.raise_if(faults)
    return {key: int(value) for key, value in given.items()}


def _read_arrivals(arrival_ns: ArrayLike, last_ns: int | None) -> Int64:
    given = array_of(arrival_ns)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        raise InputError.one("arrival_ns", f"expected a list of whole nanoseconds, found {shown(arrival_ns)}")
    arrivals = given.astype(np.int64, copy=False)
    # As nearly always; where it went back is looked for only if it did.
    if not arrivals.size or (arrivals[0] >= (last_ns or 0) and (arrivals[1:] >= arrivals[:-1]).all()):
        return arrivals
    back = np.flatnonzero(np.diff(arrivals, prepend=last_ns if last_ns is not None else np.int64(0)) < 0)
    if back.size:
        place = f"arrival_ns[{int(back[0])}]"
        if int(back[0]) == 0 and last_ns is None:
            raise InputError.one(place, f"expected at least 0, found {int(arrivals[0])}")
        earlier = last_ns if int(back[0]) == 0 else int(arrivals[back[0] - 1])
        raise InputError.one(place, f"{int(arrivals[back[0]])} is before the arrival it follows ({earlier})")
    return arrivals
