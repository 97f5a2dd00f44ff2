"""A loop over the batches of one stage, compiled by numba. Imported only when the compiled engine serves.

The loop sees tokens sorted by arrival, which makes the queue's end a matter of counting. It keeps the ends of
batches in a sorted window: with n replicas, one is idle at t exactly if the n-th largest end is not after t.
What else ended earlier matters to nobody here, so the window holds the `most` largest ends and slides; the batches it
leaves behind are in order of their ends, as the stage below wants them. New ends belong near its upper edge, so
sorting them in is cheap, unless replicas are many and service times vary; a heap takes its place then, if their
number does not change: at its root lies the n-th largest end.

All that the loop calls is in this file, since numba's cache looks for changes only here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mipplan.core import Int32, Int64, UInt64, compiled
from mipplan.replayer.stage_task import ALWAYS, NEVER

#: With more replicas than this, if their number is constant, ends are kept in a heap (measured).
MOST_SORTED = 64
#: Stands for a batch that was under way before.
_EARLIER = -1
#: As many tokens may make room for each that joins a sorted queue, on average (measured).
_MOST_SHIFTS = 16

# Lowest set bit of a word by multiplication: bits 58-63 of the product are different for each power of two.
_DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
_BIT = np.zeros(64, dtype=np.int64)
_BIT[[(int(_DE_BRUIJN) << bit) % 2**64 >> 58 for bit in range(64)]] = np.arange(64)


@compiled
def serve_queue(
    key: Int64,
    order: Int32 | None,
    service_ns: Int64,
    level: NDArray[np.uint16] | None,
    from_ns: Int64,
    replicas: Int64,
    ends: Int64,
    by_end: Int32 | None,
    pacing: tuple[Int64, Int64, Int64] | None,
    until_ns: int,
    rider: Int32 | None,
    batch_start_ns: Int64,
    batch_size: Int64,
    batch_service_ns: Int64,
) -> tuple[int, int]:
    """Serve tokens; return how many batches there were and how many tokens rode. The last four arrays are filled in.

    Numba compiles this for every combination of arguments that are None, and leaves out what the others need.

    Parameters
    ----------
    key : int64, shape (tokens,)
        Sorted arrivals.
    order : int32, shape (tokens,), or None
        The token at each place; None if they are in token order.
    from_ns, replicas : int64, shapes (c + 1,) and (c,)
        Capacity; the last instant is `NEVER`.
    ends : int64
        The first ``replicas.max()`` are ends of earlier batches, sorted; the rest is room, at least one.
    by_end : int32, shape (tokens,), or None
        Filled in: numbers of the batches in order of their ends. None, with replicas that do not change, for ends to
        be kept in a heap.
    pacing : (int64, int64, int64), shapes (b,), (c,) and that of `ends`, or None
        For rule P: its table, the capacity of which `replicas` are no more than can be of use, and when the batches
        of `ends` should end. None if dispatch is eager.
    rider : int32, shape (tokens,), or None
        The token in each place, batch after batch, if those that wait ride by token number; None if they ride by
        arrival, ties by token number.
    """
    count, cap = key.size, service_ns.shape[1]
    most = replicas.max()
    last, step, batches, head, seat, waiting = most, 0, 0, 0, 0, 0
    number, noted = np.full(ends.size, _EARLIER, dtype=np.int32), 0
    # Those that wait lie sorted in the next seats; in a tree of bits from the time when sorting them takes too long.
    in_tree, shifts = False, 0
    scratch = np.empty(0 if pacing is None else most, dtype=np.int64)
    offset, words = _bit_tree(0)
    now = np.int64(ALWAYS)
    while head < count or waiting > 0:
        if waiting == 0:
            now = max(now, key[head])
        now, step = _idle_from(now, ends, last, step, from_ns, replicas)
        if pacing is not None:
            now, step = _spread_from(
                now, key, head, waiting, ends, last, step, from_ns, replicas, pacing, scratch
            )
        if now > until_ns:
            break
        row = 0
        if rider is None:
            stop = min(head + cap, count)
            tail = head + 1
            while tail < stop and key[tail] <= now:
                tail += 1
            size = tail - head
            if level is not None:
                row = level[head if order is None else _least(order, head, tail)]
        else:
            tail = head
            while tail < count and key[tail] <= now:
                tail += 1
            if waiting == 0 and tail - head <= cap:
                # Everybody goes: no need to ask who is oldest.
                size = tail - head
                for place in range(size):
                    rider[seat + place] = order[head + place]  # type: ignore[index]  # riders have an order
            else:
                joined = head
                if not in_tree:
                    joined, shifts = _sort_in(order, head, tail, rider, seat, seat + waiting, shifts)
                    if joined < tail:
                        in_tree = True
                        offset, words = _bit_tree(count)
                        for place in range(seat, seat + waiting + joined - head):
                            _add_bit(words, offset, rider[place])
                for place in range(joined, tail):
                    _add_bit(words, offset, order[place])  # type: ignore[index]
                waiting += tail - head
                size = min(cap, waiting)
                if in_tree:
                    _take_lowest_bits(words, offset, rider, seat, size)
                waiting -= size
            if level is not None:
                row = level[_least(rider, seat, seat + size)]
            seat += size
        head = tail
        busy_ns = service_ns[row, size - 1]
        end = now + busy_ns
        batch_start_ns[batches], batch_size[batches], batch_service_ns[batches] = now, size, busy_ns
        if by_end is None:
            _replace_root(ends, most, end)
        else:
            if last == ends.size:
                noted = _note(by_end, noted, number, last - most)
                if pacing is not None:
                    _slide_dues(pacing[2], most)
                last = _slide(ends, number, most)
            last, place = _add_end(ends, number, last, end, batches)
            if pacing is not None:
                _add_due(pacing[2], place, last, now + pacing[0][size - 1])
        batches += 1
    if by_end is not None:
        _note(by_end, noted, number, last)
    return batches, head if rider is None else seat


@compiled
def _least(tokens: Int32, low: int, high: int) -> np.int32:
    least: np.int32 = tokens[low]
    for place in range(low + 1, high):
        least = min(least, tokens[place])
    return least


@compiled
def _idle_from(
    instant: np.int64, ends: Int64, last: int, step: int, from_ns: Int64, replicas: Int64
) -> tuple[np.int64, int]:
    """Return the first instant from `instant` on at which a replica may start, and the step it falls into."""
    while True:
        count = replicas[step]
        ready = np.int64(NEVER)
        if count > 0:
            ready = max(instant, ends[last - count])
        if ready < from_ns[step + 1]:
            return ready, step
        step += 1
        instant = max(instant, from_ns[step])


@compiled
def _spread_from(
    instant: np.int64,
    key: Int64,
    head: int,
    waiting: int,
    ends: Int64,
    last: int,
    step: int,
    from_ns: Int64,
    replicas: Int64,
    pacing: tuple[Int64, Int64, Int64],
    scratch: Int64,
) -> tuple[np.int64, int]:
    """Return the first instant from `instant` on at which rule P lets a replica start, and the step it falls into.

    One idles at `instant`. `waiting` tokens wait besides those that arrive from place `head` on.
    """
    table, counts, due = pacing
    slowest = table.max()
    tail = head
    while True:
        while tail < key.size and key[tail] <= instant:
            tail += 1
        size = min(table.size, waiting + tail - head)
        # Batches under way, by when they should end, the last first: mostly they end in that order.
        busy, is_early, place = 0, False, last - 1
        while place >= 0 and ends[place] > instant:
            should = due[place]
            is_early |= should != ends[place]
            seat = busy
            while seat > 0 and scratch[seat - 1] < should:
                scratch[seat] = scratch[seat - 1]
                seat -= 1
            scratch[seat] = should
            busy += 1
            place -= 1
        delta = -(-slowest // counts[step])
        own = -(-table[size - 1] // delta)
        ready = instant
        for seat in range(busy):
            rank = counts[step] - seat
            if rank <= own:
                rank -= 1
            ready = max(ready, scratch[seat] - rank * delta)
        if ready <= instant:
            return instant, step
        # Looked at again when time alone makes it right, or when anything happens before.
        if is_early:
            ready = min(ready, ends[last - busy])
        if size < table.size and tail < key.size:
            ready = min(ready, key[tail])
        instant, step = _idle_from(min(ready, from_ns[step + 1]), ends, last, step, from_ns, replicas)


@compiled
def _add_due(due: Int64, place: int, last: int, should: np.int64) -> None:
    """Insert at the place where the end of the batch was inserted."""
    for later in range(last - 1, place, -1):
        due[later] = due[later - 1]
    due[place] = should


@compiled
def _slide_dues(due: Int64, most: int) -> None:
    """Keep what belongs to the ends that `_slide` keeps."""
    for place in range(most):
        due[place] = due[due.size - most + place]


@compiled
def _add_end(ends: Int64, number: Int32, last: int, end: np.int64, batch: int) -> tuple[int, int]:
    """Insert the end of a batch before `last`, behind those of its instant; return the new last, and its place."""
    place = last
    # Stops at the replica just taken, at the latest: that one was idle.
    while ends[place - 1] > end:
        ends[place], number[place] = ends[place - 1], number[place - 1]
        place -= 1
    ends[place], number[place] = end, batch
    return last + 1, place


@compiled
def _note(by_end: Int32, noted: int, number: Int32, upto: int) -> int:
    """Note the batches with the first ends of the window, and return how many are noted now."""
    for place in range(upto):
        if number[place] != _EARLIER:
            by_end[noted] = number[place]
            noted += 1
    return noted


@compiled
def _slide(ends: Int64, number: Int32, most: int) -> int:
    """Keep only the last `most` ends of a full window, and return how many these are."""
    for place in range(most):
        ends[place] = ends[ends.size - most + place]
        number[place] = number[ends.size - most + place]
    return most


@compiled
def _replace_root(ends: Int64, size: int, end: np.int64) -> None:
    """Put an end into a heap of this size, instead of its smallest."""
    place, child = 0, 1
    while child < size:
        if child + 1 < size and ends[child + 1] < ends[child]:
            child += 1
        if ends[child] >= end:
            break
        ends[place] = ends[child]
        place, child = child, 2 * child + 1
    ends[place] = end


@compiled
def _sort_in(
    order: Int32, head: int, tail: int, rider: Int32, low: int, high: int, shifts: int
) -> tuple[int, int]:
    """Sort the tokens at places [head, tail) into the seats [low, high), which grow by as many.

    Return the first place not sorted in, because too many have had to make room so far (`tail` if there is none), and
    how many have.
    """
    for place in range(head, tail):
        if shifts > _MOST_SHIFTS * (place + _MOST_SHIFTS):
            return place, shifts
        token, seat = order[place], high
        while seat > low and rider[seat - 1] > token:
            rider[seat] = rider[seat - 1]
            seat -= 1
        rider[seat] = token
        shifts += high - seat
        high += 1
    return tail, shifts


@compiled
def _bit_tree(count: int) -> tuple[Int64, UInt64]:
    """Return where each layer of a bit tree over numbers below `count` starts, and its empty words.

    A bit of the lowest layer is a number, a bit of a higher one says whether a word below holds any bit.
    """
    offset = [0]
    words = count
    while True:
        words = (words + 63) // 64
        offset.append(offset[-1] + words)
        if words <= 1:
            return np.array(offset), np.zeros(offset[-1], dtype=np.uint64)


@compiled
def _add_bit(words: UInt64, offset: Int64, number: int) -> None:
    for layer in range(offset.size - 1):
        place = offset[layer] + (number >> 6)
        before = words[place]
        words[place] = before | (np.uint64(1) << np.uint64(number & 63))
        if before != 0:
            return
        number >>= 6


@compiled
def _take_lowest_bits(words: UInt64, offset: Int64, taken: Int32, seat: int, size: int) -> None:
    """Move the lowest `size` numbers in the tree to `taken`, from `seat` on, ascending; there are that many."""
    layers = offset.size - 1
    found = 0
    while found < size:
        number = 0
        for layer in range(layers - 1, 0, -1):
            number = (number << 6) + _lowest(words[offset[layer] + number])
        word = words[number]
        while word != 0 and found < size:
            taken[seat + found] = (number << 6) + _lowest(word)
            found += 1
            word &= word - np.uint64(1)
        words[number] = word
        layer = 1
        while word == 0 and layer < layers:
            place = offset[layer] + (number >> 6)
            word = words[place] & ~(np.uint64(1) << np.uint64(number & 63))
            words[place] = word
            number >>= 6
            layer += 1


@compiled
def _lowest(word: np.uint64) -> np.int64:
    """Number of the lowest set bit of a uint64 other than 0."""
    bit: np.int64 = _BIT[((word & (~word + np.uint64(1))) * _DE_BRUIJN) >> np.uint64(58)]
    return bit
