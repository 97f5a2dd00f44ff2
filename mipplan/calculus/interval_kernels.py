"""The theorem (latest dispatch) compiled by numba: tokens one after another, in order of their latest arrivals.

In that order most of what bounds a token's dispatch is settled before it is its turn, so that a few passes find what
`mipplan.calculus.intervals` finds by many. Imported only where numba is installed. All that the loops call is in this
file, since numba's cache looks for changes only here.

Tried for paced stages, and of no use: that a small own batch is allowed sooner, (B) of the theorem for every c, and (E)
for every time between. None lowered a P99 by as much as 0.1 %.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mipplan.core import Int64, compiled

if TYPE_CHECKING:
    from mipplan.calculus.intervals import DispatchProblem


#: So many tokens are bounded between two looks at the clock: a fifth of a second.
_TOGETHER = 1 << 14
#: What a pass has come to, by place: dispatches before the arrival under way, tokens up to which all are done, and
#: whether any bound was lowered.
_GONE, _KNOWN, _CHANGED = 0, 1, 2


def solve(problem: DispatchProblem, check: Callable[[], None]) -> tuple[Int64, Int64, Int64]:
    """Find latest dispatches, latest exits and sizes of largest batches of a stage's tokens, shape (k,) each.

    `check` is called every now and then, and may end it by raising.
    """
    given, longest_ns = problem.arrivals, problem.longest_ns
    full_ns = int(problem.service_ns[-1])
    shared = (
        problem.runs.is_settled,
        problem.replicas,
        problem.batch,
        problem.levels.astype(np.int64),
        longest_ns[problem.levels],
        full_ns,
        max(full_ns, int(longest_ns[-2])),
        problem.sorted_groups_ns,
        problem.pace_ns,
    )
    dispatch_ns, order = problem.coarse_ns.copy(), np.argsort(given.latest_ns, kind="stable")
    # Of millions of tokens each of these takes a good part of a second.
    check()
    before = problem.before.astype(np.int64)
    check()
    before_or_older = problem.before_or_older.astype(np.int64)
    check()
    groups_before = problem.groups_before.astype(np.int64)
    check()
    tokens = (
        np.array(given.earliest_ns),
        np.array(given.latest_ns),
        before,
        before_or_older,
        groups_before,
        np.array(given.overtakers),
        np.array(given.group),
    )
    size_of, last_ns = np.bincount(given.group), np.maximum.reduceat(dispatch_ns, problem.group_starts)
    # Dispatches in order; the latest of all tokens up to each, by this pass as far as known; those of groups.
    kept = np.sort(dispatch_ns), np.maximum.accumulate(dispatch_ns), np.sort(last_ns), last_ns
    stand, count = np.array([0, 0, 1]), dispatch_ns.size
    while stand[_CHANGED]:
        stand[:] = 0
        # Of each dispatch the most that wait and the end of all before; who is done; of groups, how many are not.
        waiting, freed_ns, done = (
            np.zeros(count, np.int64),
            np.zeros(count + 1, np.int64),
            np.zeros(count, np.bool_),
        )
        progress = waiting, freed_ns, done, size_of.copy(), np.zeros_like(size_of)
        for start in range(0, count, _TOGETHER):
            check()
            some = order[start : start + _TOGETHER]
            lower_dispatches(
                dispatch_ns,
                some,
                tokens,
                problem.sorted_arrivals_ns,
                longest_ns,
                shared,
                kept,
                progress,
                stand,
            )
    exits = find_exits(
        np.array(given.earliest_ns), dispatch_ns, problem.sorted_arrivals_ns, longest_ns, problem.batch
    )
    return (dispatch_ns, *exits)


@compiled
def _below(ascending: Int64, bar: int, start: int) -> int:
    """How many lie below the bar: steps that double lead there from a place to start from, which is mostly near."""
    low, high = 0, ascending.size
    place, step = min(max(start, 0), high), 1
    if place < high and ascending[place] < bar:
        low = place + 1
        while low + step < high and ascending[low + step] < bar:
            low += step + 1
            step *= 2
        high = min(high, low + step)
    else:
        high = place
        while high - step >= 0 and ascending[high - step] >= bar:
            high -= step
            step *= 2
        low = max(low, high - step)
    while low < high:
        middle = (low + high) >> 1
        if ascending[middle] < bar:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def _lower_one(ascending: Int64, old: int, new: int, near: int) -> None:
    """Put a lower number in the place of one of the numbers that equal `old`, in order."""
    place = _below(ascending, old, near)
    while place > 0 and ascending[place - 1] > new:
        ascending[place] = ascending[place - 1]
        place -= 1
    ascending[place] = new


@compiled
def _count_batches(
    now: int,
    held: int,
    wanted: int,
    token: int,
    arrival: int,
    before: int,
    before_or_older: int,
    groups: int,
    overtakers: int,
    sorted_ns: Int64,
    older_ns: Int64,
    sorted_last_ns: Int64,
    shared: tuple[Any, ...],
) -> int:
    """How many batches just before a time later than the token's arrival can last for `held` more, smallest first."""
    settled, _, batch, level_size, level_ns, full_ns, least_ns, sorted_groups_ns, _ = shared
    time = now + held
    count: int = 0
    used = 0
    levels = level_size.size
    # No batch holds more than can be dispatched since the longest of these began.
    most = before - _below(sorted_ns, time - level_ns[-1], before) if levels else 0
    for level in range(_below(level_ns, time - arrival + 1 if settled else time - arrival, 0), levels):
        if level_size[level] > most - used:
            break
        since = time - level_ns[level]
        left = before - _below(sorted_ns, since, before)
        if overtakers >= 0:
            left = min(left, token - min(token, _below(older_ns, since, token)) + overtakers)
        size = level_size[level]
        more = min((left - used) // size, wanted - count)
        arrive = 1 + groups - _below(sorted_groups_ns, since + 1 if settled else since, groups)
        more = min(more, arrive - count, groups - _below(sorted_last_ns, since, groups) - count)
        if more > 0:
            count += more
            used += more * size
            if count >= wanted:
                return count
    if held >= full_ns:
        return count  # a full one was dispatched before the time
    full: int = before_or_older - _below(sorted_ns, time - full_ns, before)
    beside: int = before_or_older - _below(sorted_ns, time - least_ns, before)
    if overtakers >= 0:
        full = min(full, token - min(token, _below(older_ns, time - full_ns, token)) + overtakers)
        beside = min(beside, token - min(token, _below(older_ns, time - least_ns, token)) + overtakers)
    total: int = min(wanted, count + max(0, min(full, beside - used) // batch))
    return total


@compiled
def _can_wait(
    time: int,
    token: int,
    arrival: int,
    before: int,
    before_or_older: int,
    groups: int,
    overtakers: int,
    sorted_ns: Int64,
    older_ns: Int64,
    sorted_last_ns: Int64,
    shared: tuple[Any, ...],
) -> bool:
    """(A): whether the token, which has arrived, can wait until a time."""
    replicas, pace = shared[1], shared[8]
    wanted: int = replicas
    while wanted > 0:
        found = _count_batches(
            time,
            (replicas - wanted) * pace,
            wanted,
            token,
            arrival,
            before,
            before_or_older,
            groups,
            overtakers,
            sorted_ns,
            older_ns,
            sorted_last_ns,
            shared,
        )
        if found >= wanted:
            return True
        if not pace:
            return False
        # No more last for longer, so no number in between is enough.
        wanted = found
    return False


@compiled
def lower_dispatches(
    dispatch_ns: Int64,
    order: Int64,
    given: tuple[Int64, ...],
    sorted_arrivals_ns: Int64,
    longest_ns: Int64,
    shared: tuple[Any, ...],
    kept: tuple[Int64, ...],
    progress: tuple[Any, ...],
    stand: Int64,
) -> None:
    """Lower bounds on the dispatches of some tokens, in place: one pass is all tokens, in order of latest arrival."""
    settled, replicas, batch = shared[0], shared[1], shared[2]
    full_ns, slowest, pace = shared[5], longest_ns[-1], shared[8]
    tokens, slots = dispatch_ns.size, batch if pace else replicas * batch
    first, period = (pace, pace) if pace else (slowest, full_ns)
    earliest_ns, latest_ns, before, before_or_older, groups_before, overtakers, group = given
    sorted_ns, older_ns, sorted_last_ns, last_ns = kept
    waiting, freed_ns, done, waiting_for, lowered_ns = progress
    gone, known = stand[_GONE], stand[_KNOWN]
    for token in order:
        arrival, top = latest_ns[token], dispatch_ns[token]
        while gone < tokens and sorted_ns[gone] < arrival:
            at = sorted_ns[gone]
            alike = gone > 0 and sorted_ns[gone - 1] == at
            waiting[gone] = waiting[gone - 1] if alike else _below(sorted_arrivals_ns, at + 1, gone) - gone
            freed_ns[gone + 1] = max(freed_ns[gone], at + longest_ns[min(batch, waiting[gone])])
            gone += 1
        if top > arrival:
            by_older = arrival + first
            if token >= slots:
                by_older = max(by_older, older_ns[token - slots] + period)
            top = min(top, by_older)
            if pace:
                older = token - min(token, _below(older_ns, arrival, token))
                passing = min(older, before_or_older[token] - gone)
                top = min(top, arrival + (1 + passing // batch) * pace)
            if before_or_older[token] - gone < batch:
                freed = arrival - settled + longest_ns[min(batch, max(0, before[token] - gone))]
                # From its own earliest arrival on, the token is one of those counted, but not in that batch.
                back = gone
                since = max(earliest_ns[token], freed - slowest + 1)  # earlier ones end no later
                while back > 0 and sorted_ns[back - 1] >= since:
                    back -= 1
                    freed = max(freed, sorted_ns[back] + longest_ns[min(batch, waiting[back] - 1)])
                if back > 0 and sorted_ns[back - 1] < earliest_ns[token]:
                    freed = max(freed, freed_ns[back])
                top = min(top, freed)
            low, high = arrival, top + 1
            # Most tokens wait until the bound at hand, or not at all.
            trial = top
            while high - low > 1:
                if _can_wait(
                    trial,
                    token,
                    arrival,
                    before[token],
                    before_or_older[token],
                    groups_before[token],
                    overtakers[token],
                    sorted_ns,
                    older_ns,
                    sorted_last_ns,
                    shared,
                ):
                    low = trial
                else:
                    high = trial
                trial = arrival + 1 if low == arrival and high == top else (low + high) >> 1
            if low < dispatch_ns[token]:
                _lower_one(sorted_ns, dispatch_ns[token], low, before[token])
                dispatch_ns[token] = low
                stand[_CHANGED] = 1
        done[token] = True
        while known < tokens and done[known]:
            older_ns[known] = (
                dispatch_ns[known] if known == 0 else max(older_ns[known - 1], dispatch_ns[known])
            )
            known += 1
        own_group = group[token]
        waiting_for[own_group] -= 1
        lowered_ns[own_group] = max(lowered_ns[own_group], dispatch_ns[token])
        if waiting_for[own_group] == 0 and lowered_ns[own_group] < last_ns[own_group]:
            _lower_one(sorted_last_ns, last_ns[own_group], lowered_ns[own_group], own_group)
            last_ns[own_group] = lowered_ns[own_group]
    stand[_GONE], stand[_KNOWN] = gone, known


@compiled
def find_exits(
    earliest_ns: Int64, dispatch_ns: Int64, sorted_arrivals_ns: Int64, longest_ns: Int64, batch: int
) -> tuple[Int64, Int64]:
    """Find latest exits, and the size of the largest batch each token can be in."""
    tokens = dispatch_ns.size
    sorted_ns = np.sort(dispatch_ns)
    size, ends_ns = np.empty_like(sorted_ns), np.empty_like(sorted_ns)
    first = 0
    for place in range(tokens):
        if sorted_ns[place] > sorted_ns[first]:
            first = place
        size[place] = min(batch, _below(sorted_arrivals_ns, sorted_ns[place] + 1, place) - first)
        ends_ns[place] = sorted_ns[place] + longest_ns[size[place]]
    exit_ns, largest = np.zeros_like(dispatch_ns), np.zeros_like(dispatch_ns)
    for token in range(tokens):
        place = _below(sorted_ns, dispatch_ns[token] + 1, token) - 1
        exit_, most = np.int64(0), np.int64(0)
        # Earlier dispatches that could not end later even in a slowest batch are not looked at.
        while place >= 0 and sorted_ns[place] >= earliest_ns[token]:
            if sorted_ns[place] + longest_ns[-1] <= exit_ and most >= batch:
                break
            exit_, most = max(exit_, ends_ns[place]), max(most, size[place])
            place -= 1
        exit_ns[token], largest[token] = exit_, most
    return exit_ns, largest
