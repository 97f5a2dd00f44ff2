"""Names of the arrays that this package computes with, by what they hold."""

from __future__ import annotations

from typing import TypeVar

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
