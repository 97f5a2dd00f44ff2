"""When the tokens of one stage are dispatched and have left at the latest, given earliest and latest arrivals.

Statement and proof: [The sharp certificate][the-sharp-certificate]. The latest dispatches solve a system of equations
that has one solution only, so it does not matter how they are found: by NumPy, as in `find_latest_dispatch_ns` here,
and compiled, as in `interval_kernels`, they are the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mipplan.core import Bool, InputError, Int64, Positions, numba_fault
from mipplan.pipeline import DispatchLaw
from mipplan.result import RunClass

#: Times and work beyond this are refused: no sum here may leave int64.
_SAFE = 2**61


@dataclass(frozen=True)
class StageArrivals:
    """What is known of the arrivals at a stage, in token order; arrays of shape (k,)."""

    earliest_ns: Int64
    latest_ns: Int64
    # Number of the arrival group of each token, non-decreasing from 0: tokens that surely arrive at one instant.
    group: Int64
    # Most younger tokens that can be dispatched before each arrives; −1: unknown.
    overtakers: Int64


@dataclass(frozen=True)
class StageBounds:
    """What every run keeps to at a stage, in token order; arrays of shape (k,)."""

    earliest_exit_ns: Int64
    latest_dispatch_ns: Int64
    latest_exit_ns: Int64
    largest_batch: Int64  # Most tokens of the batch that a token is in.


def bound_stage(
    arrivals: StageArrivals,
    service_ns: Int64,
    replicas: int,
    is_source: bool,
    runs: RunClass,
    law: DispatchLaw = DispatchLaw.EAGER,
    *,
    is_compiled: bool | None = None,
    check: Callable[[], None] = lambda: None,
) -> StageBounds:
    """Bound dispatch and exit of every token of a stage.

    Parameters
    ----------
    arrivals : StageArrivals
    service_ns : int64, shape (b,)
        ℓ(1), …, ℓ(b).
    replicas : int
    is_source : bool
        Whether the stage has no incoming edge.
    runs : RunClass
        The runs that the bounds hold for.
    law : DispatchLaw
        Timed stages count as eager ones.
    is_compiled : bool, optional
        Whether to use machine code; by default where numba is installed. The bounds are the same.
    check : callable, optional
        Called now and then; may raise.

    Raises
    ------
    InputError
        If times come near the end of int64.

    References
    ----------
    [Lemma (exit)][lemma-exit], [theorem (latest dispatch)][theorem-latest-dispatch],
    [theorem (latest dispatch, paced)][theorem-latest-dispatch-paced].
    """
    problem = DispatchProblem(arrivals, service_ns, replicas, is_source, runs, law)
    if not problem.tokens:
        return StageBounds(*[np.empty(0, dtype=np.int64)] * 4)
    if numba_fault() is not None if is_compiled is None else not is_compiled:
        dispatch_ns = find_latest_dispatch_ns(problem, check)
        exit_ns, batch = find_latest_exit_ns(problem, dispatch_ns)
    else:
        from mipplan.calculus import interval_kernels as kernels

        dispatch_ns, exit_ns, batch = kernels.solve(problem, check)
    earliest_ns = arrivals.earliest_ns + np.int64(runs.least_service_ns(service_ns).min())
    return StageBounds(earliest_ns, dispatch_ns, exit_ns, batch)


@dataclass(frozen=True)
class DispatchProblem:
    """One stage with all that is counted once, whatever the dispatches turn out to be."""

    arrivals: StageArrivals
    service_ns: Int64
    replicas: int
    is_source: bool
    runs: RunClass
    law: DispatchLaw = DispatchLaw.EAGER

    def __post_init__(self) -> None:
        latest_ns, periods = self.arrivals.latest_ns, 2 + self.tokens // self.slots
        spent_ns = periods * self.period_ns + 2 * self.slowest_ns
        if self.tokens and int(latest_ns.max()) + spent_ns >= _SAFE:
            raise InputError.one("load", "these replicas would take more than a century for this trace")

    @property
    def tokens(self) -> int:
        """K."""
        return self.arrivals.latest_ns.size

    @property
    def batch(self) -> int:
        """B."""
        return self.service_ns.size

    @cached_property
    def pace_ns(self) -> int:
        """δ where rule P spreads the dispatches of several replicas, else 0: one paced replica is an eager one."""
        spread = self.law is DispatchLaw.PACED and self.replicas > 1
        return -(-self.slowest_ns // self.replicas) if spread else 0

    @property
    def slots(self) -> int:
        """Tokens that are surely dispatched in a period while older ones wait: n·b, paced b."""
        return self.batch if self.pace_ns else self.replicas * self.batch

    @property
    def period_ns(self) -> int:
        """ℓ(b), paced δ."""
        return self.pace_ns or int(self.service_ns[-1])

    @property
    def first_ns(self) -> int:
        """By when the first of these dispatches comes: L, paced δ."""
        return self.pace_ns or self.slowest_ns

    @cached_property
    def longest_ns(self) -> Int64:
        """m(k) = max of ℓ(1), …, ℓ(k), and m(0) = 0, shape (b + 1,)."""
        return np.append(np.int64(0), np.maximum.accumulate(self.service_ns))

    @property
    def slowest_ns(self) -> int:
        """L = m(b)."""
        return int(self.longest_ns[-1])

    @cached_property
    def levels(self) -> Int64:
        """The batch sizes below b at which m rises: of all that may take as long, the smallest holds the fewest."""
        return np.flatnonzero(np.diff(self.longest_ns[: self.batch], prepend=-1)[1:]) + 1

    @cached_property
    def coarse_ns(self) -> Int64:
        """A bound on dispatches by the [lemma (service)][lemma-service]; by the one on sources where that applies."""
        latest_ns = np.maximum.accumulate(self.arrivals.latest_ns)
        slots = max(1, min(self.slots, self.tokens))  # a plan may have more replicas than memory holds
        rows = -(-self.tokens // slots)
        padded = np.pad(latest_ns, (0, rows * slots - self.tokens), mode="edge").reshape(rows, -1)
        worked = np.arange(rows, dtype=np.int64)[:, np.newaxis] * np.int64(self.period_ns)
        start_ns: Int64 = (np.maximum.accumulate(padded - worked, axis=0) + worked).ravel()[: self.tokens]
        is_in_order = self.is_source and self.batch == 1 and self.runs.is_settled
        return start_ns if is_in_order else start_ns + np.int64(self.first_ns)

    @cached_property
    def sorted_arrivals_ns(self) -> Int64:
        """Earliest arrivals, ascending."""
        return np.sort(self.arrivals.earliest_ns)

    @cached_property
    def before(self) -> Int64:
        """How many others can arrive before a token does, shape (k,)."""
        return self._others_before(self.sorted_arrivals_ns)

    def _others_before(self, ascending_ns: Int64) -> Int64:
        """How many of these lie before each token's latest arrival, besides its own earliest one."""
        latest_ns, settled = self.arrivals.latest_ns, self.runs.is_settled
        own = self.arrivals.earliest_ns < latest_ns if settled else 1
        return _count_below(ascending_ns, latest_ns + (not settled)) - own

    @cached_property
    def before_or_older(self) -> Int64:
        """How many others can arrive before a token does, or are older, shape (k,)."""
        earliest_ns, latest_ns = self.arrivals.earliest_ns, self.arrivals.latest_ns
        bar_ns = latest_ns if self.runs.is_settled else latest_ns + 1
        greatest_ns = np.maximum.accumulate(earliest_ns)
        found = self.before.copy()
        # Looking back from every token as long as any older one arrives so late; mostly that is not far.
        token = np.arange(self.tokens)
        for back in range(1, self.tokens):
            token = token[token >= back]
            token = token[greatest_ns[token - back] >= bar_ns[token]]
            if not token.size:
                break
            found[token] += earliest_ns[token - back] >= bar_ns[token]
        return found

    @cached_property
    def group_starts(self) -> Positions:
        """First token of each arrival group."""
        return np.flatnonzero(np.diff(self.arrivals.group, prepend=-1))

    @cached_property
    def sorted_groups_ns(self) -> Int64:
        """Latest arrivals of the groups, ascending."""
        return np.sort(self.arrivals.latest_ns[self.group_starts])

    @cached_property
    def groups_before(self) -> Int64:
        """How many groups but its own can arrive before a token does, shape (k,)."""
        return self._others_before(np.sort(self.arrivals.earliest_ns[self.group_starts]))


def find_latest_dispatch_ns(problem: DispatchProblem, check: Callable[[], None]) -> Int64:
    """Find the latest dispatches by NumPy: all tokens at once, again and again until none changes; shape (k,)."""
    latest_ns = problem.arrivals.latest_ns
    dispatch_ns = problem.coarse_ns
    while True:
        check()
        rules = _Rules(problem, dispatch_ns)
        waiting = np.flatnonzero(dispatch_ns > latest_ns)
        lowered = rules.latest_ns(waiting, check)
        if np.array_equal(lowered, dispatch_ns[waiting]):
            return dispatch_ns
        dispatch_ns = dispatch_ns.copy()
        dispatch_ns[waiting] = lowered


class _Rules:
    """The theorem's bounds on dispatches, given other bounds on them."""

    def __init__(self, problem: DispatchProblem, dispatch_ns: Int64) -> None:
        self._problem = problem
        self._dispatch_ns = dispatch_ns
        self._sorted_ns = np.sort(dispatch_ns)
        self._older_ns = np.maximum.accumulate(dispatch_ns)  # Of all tokens up to each: ascending.
        groups_ns = np.maximum.reduceat(dispatch_ns, problem.group_starts) if problem.tokens else dispatch_ns
        self._sorted_groups_ns = np.sort(groups_ns)

    def latest_ns(self, token: Positions, check: Callable[[], None]) -> Int64:
        """When these tokens, which can wait, are dispatched at the latest."""
        arrival_ns = self._problem.arrivals.latest_ns[token]
        top = np.minimum(self._dispatch_ns[token], self._by_older_ns(token, arrival_ns))
        top = np.minimum(top, self._by_freed_ns(token, arrival_ns))
        low = arrival_ns.copy()
        can = np.flatnonzero(top > arrival_ns)
        full = self._can_wait(token[can], top[can])
        low[can[full]] = top[can[full]]
        left = can[~full]
        bottom, high = arrival_ns[left], top[left]
        while np.any(high - bottom > 1):
            check()
            middle = (bottom + high) // 2
            waits = self._can_wait(token[left], middle) | (middle == bottom)
            bottom, high = np.where(waits, middle, bottom), np.where(waits, high, middle)
        low[left] = bottom
        return low

    def _can_wait(self, token: Positions, time_ns: Int64) -> Bool:
        """(A): whether each token, which has arrived, can wait until a time."""
        problem = self._problem
        waits = np.zeros(token.size, dtype=np.bool_)
        wanted = np.full(token.size, problem.replicas, dtype=np.int64)
        left = np.arange(token.size)
        while left.size:
            held_ns = (problem.replicas - wanted[left]) * np.int64(problem.pace_ns)
            found = self._batches(token[left], time_ns[left], held_ns, wanted[left])
            waits[left] = found >= wanted[left]
            # No more last for longer, so no number in between is enough.
            wanted[left] = found
            left = left[~waits[left] & (found > 0)] if problem.pace_ns else left[:0]
        return waits

    def _by_older_ns(self, token: Positions, arrival_ns: Int64) -> Int64:
        """(C): later than L after its arrival a token waits only for batches of n·b older ones; paced, (C) and (E)."""
        problem = self._problem
        bound_ns = arrival_ns + np.int64(problem.first_ns)
        behind = token >= problem.slots
        freed_ns = self._older_ns[token[behind] - problem.slots] + np.int64(problem.period_ns)
        bound_ns[behind] = np.maximum(bound_ns[behind], freed_ns)
        if problem.pace_ns:
            passing = self._left(token, arrival_ns, problem.before_or_older, overtakers=0)
            bound_ns = np.minimum(bound_ns, arrival_ns + (1 + passing // problem.batch) * problem.pace_ns)
        return bound_ns

    def _by_freed_ns(self, token: Positions, arrival_ns: Int64) -> Int64:
        """(B): a token that no full batch can pass waits only for batches dispatched before it arrived."""
        problem, sorted_ns = self._problem, self._sorted_ns
        gone = np.searchsorted(sorted_ns, arrival_ns)
        apart = np.searchsorted(sorted_ns, problem.arrivals.earliest_ns[token])
        size = np.minimum(problem.batch, self._most_waiting)
        ends_ns = np.maximum.accumulate(sorted_ns + problem.longest_ns[size])
        last_ns = np.append(np.int64(0), ends_ns)[apart]
        # From its own earliest arrival on, the token is one of those counted, but not in the batch it waits for.
        others = np.minimum(problem.batch, self._most_waiting - 1)
        (beside_ns,) = range_maxima(apart, gone - apart, sorted_ns + problem.longest_ns[others])
        latest_ns = arrival_ns - problem.runs.is_settled  # When such a batch is dispatched.
        own_ns = latest_ns + problem.longest_ns[np.clip(problem.before[token] - gone, 0, problem.batch)]
        bound_ns = np.maximum(np.maximum(last_ns, beside_ns), own_ns)
        passed = problem.before_or_older[token] - gone >= problem.batch
        return np.where(passed, np.int64(np.iinfo(np.int64).max), bound_ns)

    @cached_property
    def _most_waiting(self) -> Int64:
        return most_waiting(self._problem, self._sorted_ns)

    def _batches(self, token: Positions, now_ns: Int64, held_ns: Int64, wanted: Int64) -> Int64:
        """How many batches just before a time, later than each token's arrival, can last for `held_ns` more."""
        problem = self._problem
        time_ns = now_ns + held_ns
        waited_ns = time_ns - problem.arrivals.latest_ns[token]
        count, used = np.zeros(token.size, dtype=np.int64), np.zeros(token.size, dtype=np.int64)
        most = self._left(token, time_ns - problem.longest_ns[-2], problem.before).max(initial=0)
        for size in problem.levels[problem.levels <= most]:
            longest_ns = problem.longest_ns[size]
            since_ns = time_ns - longest_ns
            more = (self._left(token, since_ns, problem.before) - used) // size
            more = np.minimum(more, self._clearing(token, since_ns) - count)
            more = np.clip(more, 0, wanted - count)
            reached = longest_ns > waited_ns if problem.runs.is_settled else longest_ns >= waited_ns
            more = np.where(reached, more, 0)
            count += more
            used += more * size
        full_ns, least_ns = problem.service_ns[-1], max(problem.service_ns[-1], problem.longest_ns[-2])
        full = self._left(token, time_ns - full_ns, problem.before_or_older)
        full = np.minimum(full, self._left(token, time_ns - least_ns, problem.before_or_older) - used)
        # None was dispatched later than just before the time.
        full = np.where(held_ns < full_ns, np.maximum(0, full // problem.batch), 0)
        total: Int64 = np.minimum(wanted, count + full)
        return total

    def _left(
        self, token: Positions, since_ns: Int64, among: Int64, overtakers: Int64 | int | None = None
    ) -> Int64:
        """How many tokens, of those counted in `among`, can be dispatched at or after a time."""
        left = among[token] - _count_below(self._sorted_ns, since_ns)
        if overtakers is None:
            overtakers = self._problem.arrivals.overtakers[token]
        older = token - np.minimum(token, _count_below(self._older_ns, since_ns)) + overtakers
        fewest: Int64 = np.where(np.less(overtakers, 0), left, np.minimum(left, older))
        return fewest

    def _clearing(self, token: Positions, since_ns: Int64) -> Int64:
        """How many batches can be dispatched at or after a time that are not full: each clears the queue."""
        problem = self._problem
        groups = problem.groups_before[token]
        arrive = 1 + groups - _count_below(problem.sorted_groups_ns, since_ns + problem.runs.is_settled)
        fewest: Int64 = np.minimum(arrive, groups - _count_below(self._sorted_groups_ns, since_ns))
        return fewest


def _count_below(ascending_ns: Int64, bars_ns: Int64) -> Int64:
    """How many lie below each bar."""
    found: Int64 = np.searchsorted(ascending_ns, bars_ns)
    return found


def most_waiting(problem: DispatchProblem, sorted_ns: Int64) -> Int64:
    """The most tokens that can wait at each of the latest dispatches, which are ascending; shape (k,)."""
    arrived = np.searchsorted(problem.sorted_arrivals_ns, sorted_ns, side="right")
    waiting: Int64 = arrived - np.searchsorted(sorted_ns, sorted_ns)
    return waiting


def find_latest_exit_ns(problem: DispatchProblem, dispatch_ns: Int64) -> tuple[Int64, Int64]:
    """Find the latest exits by NumPy, and the size of the largest batch that each token can be in; shape (k,) each.

    Both are maxima over the dispatches between earliest arrival and latest dispatch.
    """
    sorted_ns = np.sort(dispatch_ns)
    size = np.minimum(problem.batch, most_waiting(problem, sorted_ns))
    first = np.searchsorted(sorted_ns, problem.arrivals.earliest_ns)
    length = np.searchsorted(sorted_ns, dispatch_ns, side="right") - first
    exit_ns, batch = range_maxima(first, length, sorted_ns + problem.longest_ns[size], size)
    return exit_ns, batch


def range_maxima(first: Positions, length: Positions, *values: Int64) -> list[Int64]:
    """Largest of each array's values in ranges, shape (ranges,); 0 where a range is empty."""
    found = [np.zeros(first.size, dtype=np.int64) for _ in values]
    tables = list(values)  # Of ranges of one length, which doubles.
    for power in range(int(length.max(initial=0)).bit_length()):
        span = 1 << power
        held: Bool = (length >= span) & (length < 2 * span)
        left, right = first[held], first[held] + length[held] - span
        for largest, table in zip(found, tables, strict=True):
            largest[held] = np.maximum(table[left], table[right])
        tables = [np.maximum(table[:-span], table[span:]) for table in tables]
    return found
