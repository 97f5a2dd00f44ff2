"""Line tokens up by arrival, and hand out their exits, compiled by numba.

A batch upstream makes a run of equal arrivals here; where there are many, runs are sorted instead of tokens. And where
all tokens come from one stage whose batches are known in order of their ends, hardly anything is left to sort.
"""

from __future__ import annotations

import numpy as np

from mipplan.core import Int32, Int64, compiled

#: Up to 64 tokens of one instant are sorted by insertion: at most 32 shifts a token, if in reverse order.
_STRETCH = 64
#: Riders of a batch that are copied together, needed or not.
_WIDTH = 8


@compiled
def survey_arrivals(arrival_ns: Int64) -> tuple[bool, int]:
    """Return whether the arrivals are sorted, and how many runs of equal neighbours they have."""
    count = arrival_ns.size
    is_sorted = True
    runs = min(count, 1)
    for token in range(1, count):
        runs += arrival_ns[token] != arrival_ns[token - 1]
        is_sorted &= arrival_ns[token] >= arrival_ns[token - 1]
    return is_sorted, runs


@compiled
def list_runs(arrival_ns: Int64, key: Int64, start: Int32) -> None:
    """Note the arrival and the first token of each run of equal neighbours."""
    run = key.size - 1
    # Backwards, and writing again and again: the last write is right, and there is no branch to guess wrong.
    for token in range(arrival_ns.size - 1, -1, -1):
        key[run] = arrival_ns[token]
        start[run] = token
        run -= token > 0 and arrival_ns[token] != arrival_ns[token - 1]


@compiled
def list_tokens(arrival_ns: Int64, run_key: Int64, run_start: Int32, key: Int64, order: Int32) -> None:
    """Spell runs out, token by token."""
    place = 0
    for run in range(run_key.size):
        token = run_start[run]
        instant = run_key[run]
        while token < arrival_ns.size and arrival_ns[token] == instant:
            key[place], order[place] = instant, token
            place += 1
            token += 1


@compiled
def line_up(end_ns: Int64, by_end: Int32, size: Int64, rider: Int32 | None, key: Int64, order: Int32) -> bool:
    """Line up the riders of batches behind the stage that served them, and return whether they are in token order.

    Parameters
    ----------
    end_ns, size : int64, shape (batches,)
    by_end : int32, shape (batches,)
        Numbers of the batches in order of their ends.
    rider : int32, shape (tokens,), or None
        Token at each place, batch after batch; None if they are in token order.
    key : int64, shape (tokens,)
        Filled in: arrivals, sorted.
    order : int32, shape (tokens,)
        Filled in: the token at each place; of one instant the lowest first.
    """
    tokens = order.size
    first = np.empty(size.size, dtype=np.int32)
    upto = 0
    for batch in range(size.size):
        first[batch] = upto
        upto += size[batch]
    place = 0
    for batch in by_end:
        seat, riders = first[batch], size[batch]
        if riders <= _WIDTH and max(place, seat) + _WIDTH <= tokens:
            # As many for every batch: what is too many is written over, and there is no branch to guess wrong.
            for taken in range(_WIDTH):
                key[place + taken] = end_ns[batch]
                order[place + taken] = seat + taken if rider is None else rider[seat + taken]
        else:
            for taken in range(riders):
                key[place + taken] = end_ns[batch]
                order[place + taken] = seat + taken if rider is None else rider[seat + taken]
        place += riders
    _sort_ties(key, order)
    place = 0
    while place < tokens and order[place] == place:
        place += 1
    return place == tokens


@compiled
def hand_out(instant_ns: Int64, size: Int64, rider: Int32 | None, by_token: Int64) -> None:
    """Write an instant of each batch down for each of its riders; parameters as for `line_up`."""
    seat = 0
    for batch in range(size.size):
        for place in range(seat, seat + size[batch]):
            by_token[place if rider is None else rider[place]] = instant_ns[batch]
        seat += size[batch]


@compiled
def _sort_ties(key: Int64, order: Int32) -> None:
    """Sort `order` where keys are equal; they are sorted."""
    count = key.size
    low = 1
    while low < count:
        high = min(low + _STRETCH, count)
        descents = 0
        for place in range(low, high):
            descents += (order[place] < order[place - 1]) & (key[place] == key[place - 1])
        if descents == 0:
            low = high
            continue
        while order[low] > order[low - 1] or key[low] != key[low - 1]:
            low += 1
        first = low - 1
        while first > 0 and key[first - 1] == key[low]:
            first -= 1
        while low < count and key[low] == key[first]:
            low += 1
        if low - first > _STRETCH:
            order[first:low].sort()
            continue
        for unsorted in range(first + 1, low):
            token, place = order[unsorted], unsorted
            while place > first and order[place - 1] > token:
                order[place] = order[place - 1]
                place -= 1
            order[place] = token
