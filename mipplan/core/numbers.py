"""Numbers: the arrays that this package computes with, by what they hold, and what counts as a number.

Where one is expected, Python's and NumPy's numbers will do, but no truth value.
"""

from __future__ import annotations

import math
from typing import TypeGuard, TypeVar

import numpy as np
from numpy.typing import NDArray

#: Times in ns, micro-dollars per hour, numbers of tokens.
Int64 = NDArray[np.int64]
#: Positions, where memory matters.
Int32 = NDArray[np.int32]
#: Positions as NumPy's own functions return them.
Positions = NDArray[np.intp]
#: Rates, duals, values of a solver.
Float64 = NDArray[np.float64]
#: Masks.
Bool = NDArray[np.bool_]
#: Words of counter-based random draws.
UInt64 = NDArray[np.uint64]

_Array = TypeVar("_Array", bound=NDArray[np.generic])


def frozen(values: _Array) -> _Array:
    """Return the array itself, made read-only: what a frozen dataclass may hold."""
    values.flags.writeable = False
    return values


def is_whole(value: object) -> TypeGuard[int]:
    """Whether it is a whole number."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a number; perhaps infinite, or none at all (NaN)."""
    return is_whole(value) or isinstance(value, float | np.floating)


def is_finite(value: object) -> TypeGuard[float]:
    """Whether it is a finite number that a float can hold."""
    try:
        return is_number(value) and math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False
