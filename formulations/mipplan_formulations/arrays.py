"""Types of arrays, and checks of the numbers, arrays and names that make up a problem."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

LARGEST_MAGNITUDE = 2**53
"""Largest number allowed anywhere in a problem: up to here float64 holds every integer exactly."""


def read_integers(values: ArrayLike, ndim: int, place: str, faults: list[str]) -> Int64:
    """Turn into a read-only int64 array, noting faults; floats are refused: they would hide rounding."""
    array = np.asarray(values)
    if array.size and array.dtype.kind not in "iu":
        faults.append(f"{place}: must be integers, not {array.dtype}")
        return np.zeros((0,) * ndim, dtype=np.int64)
    if array.ndim != ndim:
        faults.append(f"{place}: must have {ndim} dimension(s), not {array.ndim}")
        return np.zeros((0,) * ndim, dtype=np.int64)
    integers = array.astype(np.int64, copy=False)
    # Seen without a sign, negative numbers are the largest of all.
    if array.size and integers.view(np.uint64).max() > LARGEST_MAGNITUDE:
        faults.append(f"{place}: every number must be between 0 and 2**53")
    if integers is not array or isinstance(values, (list, tuple)):  # made here, so nobody else holds it
        integers.flags.writeable = False
    return read_only(integers)


def set_integers(part: object, prefix: str, faults: list[str], **dimensions: int) -> None:
    """Turn fields of a frozen part into read-only int64 arrays of these dimensions, as `read_integers` does."""
    for name, ndim in dimensions.items():
        array = read_integers(getattr(part, name), ndim, f"{prefix}{name}", faults)
        object.__setattr__(part, name, array)


def check_number(value: int, place: str, faults: list[str]) -> None:
    """Note a fault unless the value is an integer between 0 and the largest magnitude allowed."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        faults.append(f"{place}: must be an integer, not {value!r}")
    elif not 0 <= value <= LARGEST_MAGNITUDE:
        faults.append(f"{place}: must be between 0 and 2**53, not {value}")


def repeated_names(kind: str, names: Sequence[str]) -> Iterator[str]:
    """Yield a fault for every name that was there before."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            yield f"two {kind} entries are called {name!r}"
        seen.add(name)


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array itself if nobody can write to it, else a private copy that nobody can."""
    if not array.flags.writeable:
        return array
    private = array.copy()
    private.flags.writeable = False
    return private


def raise_if_any(faults: list[str]) -> None:
    """Raise one ValueError that names all faults, one a line."""
    if faults:
        raise ValueError("\n".join(faults))


def thin_out(values: Int64, most: int) -> Int64:
    """Keep at most `most` of the increasing values, evenly by rank."""
    if values.size <= most:
        return values
    return values[np.unique(np.linspace(0, values.size - 1, most).round().astype(np.int64))]
