"""What counts as a number where one is expected: Python's and NumPy's, but no truth value."""

from __future__ import annotations

import math
from typing import TypeGuard

import numpy as np


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
