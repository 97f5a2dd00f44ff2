"""Finding what nothing else beats or equals in every respect."""

from __future__ import annotations

import numpy as np

from mipplan_formulations.arrays import BoolArray, IntArray

_BLOCK = 128
"""Rows compared with each other at once: few enough for the cache, enough to leave Python rarely."""


def find_undominated(measures: IntArray, *, most_compared: int | None = None) -> BoolArray:
    """Tell which rows no other row beats or equals in every column; of equal ones one stays.

    Parameters
    ----------
    measures : int64 array, shape (n, k)
        Smaller is better in each column.
    most_compared : int, optional
        With more than three columns, each row is compared with so many undominated ones only, those nearest in the
        first column: some dominated rows then stay, none is marked wrongly.

    Returns
    -------
    bool array, shape (n,)
    """
    count, columns = measures.shape
    if count <= 1 or columns == 0:
        return _only_first(count)
    order = np.lexsort(measures.T[::-1])  # whoever dominates a row comes before it, or equals it
    ordered = np.ascontiguousarray(measures[order])
    result = np.zeros(count, dtype=np.bool_)
    result[order] = _sweep(ordered[:, 1:], most_compared)
    return result


def _sweep(rest: IntArray, most_compared: int | None) -> BoolArray:
    """Which rows no earlier row is at most equal to in all columns."""
    if rest.shape[1] == 0:
        return _only_first(rest.shape[0])
    if rest.shape[1] == 1:
        least = np.minimum.accumulate(rest[:, 0])
        return np.concatenate([[True], rest[1:, 0] < least[:-1]])
    kept = np.ones(rest.shape[0], dtype=np.bool_)
    front = rest[:0]
    for start in range(0, rest.shape[0], _BLOCK):
        block = rest[start : start + _BLOCK]
        alive = ~_is_beaten(block, front)
        own = block[alive]
        alive[alive] = ~_is_beaten_within(own)
        kept[start : start + _BLOCK] = alive
        front = _advance(front, block[alive], most_compared)
    return kept


def _only_first(count: int) -> BoolArray:
    return np.asarray(np.arange(count) == 0)


def _is_beaten(block: IntArray, front: IntArray) -> BoolArray:
    """Which rows of a block some row of the front is at most equal to in all columns."""
    if front.shape[0] == 0:
        return np.zeros(block.shape[0], dtype=np.bool_)
    if block.shape[1] == 2:  # the front is a staircase: first column increasing, second decreasing
        below = np.searchsorted(front[:, 0], block[:, 0], side="right") - 1
        return np.asarray((below >= 0) & (front[below, 1] <= block[:, 1]))
    beaten = np.zeros(block.shape[0], dtype=np.bool_)
    for start in range(0, front.shape[0], 4 * _BLOCK):
        part = front[start : start + 4 * _BLOCK]
        beaten |= _compare(part, block).any(axis=0)
    return beaten


def _is_beaten_within(rows: IntArray) -> BoolArray:
    earlier = np.triu(np.ones((rows.shape[0], rows.shape[0]), dtype=np.bool_), 1)
    return np.asarray((_compare(rows, rows) & earlier).any(axis=0))


def _compare(first: IntArray, second: IntArray) -> BoolArray:
    """Whether row i of the first is at most row j of the second in all columns, shape (i, j)."""
    result = first[:, None, 0] <= second[None, :, 0]
    for column in range(1, first.shape[1]):
        result &= first[:, None, column] <= second[None, :, column]
    return np.asarray(result)


def _advance(front: IntArray, found: IntArray, most_compared: int | None) -> IntArray:
    joined = np.concatenate([front, found])
    if joined.shape[1] == 2:
        joined = joined[np.lexsort((joined[:, 1], joined[:, 0]))]
        least = np.minimum.accumulate(joined[:, 1])
        return np.asarray(joined[np.concatenate([[True], joined[1:, 1] < least[:-1]])])
    return joined if most_compared is None else joined[-most_compared:]
