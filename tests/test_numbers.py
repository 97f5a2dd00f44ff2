"""What counts as a number is the same everywhere: Python's and NumPy's, no truth values."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from mipplan.arguments import check_budget, check_margin, check_seed, check_time_limit
from mipplan.errors import InputError
from mipplan.numbers import is_finite, is_number, is_whole
from planning_instances import hand_made

HUGE = 10**400
WHOLE = [0, -3, HUGE, np.int8(5), np.uint64(2**64 - 1)]
REAL = [0.5, np.float32(2.5), np.float64(1e300)]
INFINITE = [math.inf, -math.inf, math.nan, np.float32("inf")]
NONE = [True, False, np.bool_(True), "1", None, 1j, Fraction(1, 2), np.array([1]), [1]]


@pytest.mark.parametrize("value", [*WHOLE, *REAL, *INFINITE, *NONE], ids=repr)
def test_what_is_a_number(value: object) -> None:
    told = is_whole(value), is_number(value), is_finite(value)
    kinds = [any(value is one for one in group) for group in (WHOLE, REAL, INFINITE)]
    assert told == (kinds[0], any(kinds), any(kinds[:2]) and value is not HUGE)


@pytest.mark.parametrize("value", [*NONE, *INFINITE, -1, HUGE], ids=repr)
def test_bad_arguments_are_refused_by_name(value: object) -> None:
    checks = [
        ("margin_s", lambda: check_margin(value, 10**9)),
        ("seed", lambda: check_seed(value)),
        ("budget_usd_per_hour", lambda: check_budget(value)),
        ("time_limit_s", lambda: check_time_limit(value)),
    ]
    without_limit = any(value is one for one in (None, math.inf, INFINITE[-1], HUGE))
    for name, check in checks[: 2 if value is None else 3 if without_limit else 4]:
        with pytest.raises(InputError, match=name):
            check()


def test_numpy_numbers_are_taken() -> None:
    assert check_seed(np.uint8(7)) == 7
    assert check_budget(np.float32(2.5)) == 2_500_000
    assert check_budget(None) is None
    assert check_time_limit(np.int64(3)) == 3.0
    assert check_time_limit(None) == check_time_limit(HUGE) == math.inf
    assert check_margin(np.float64(0.25), 10**9) == 250_000_000


def test_a_truth_value_is_no_margin() -> None:
    with pytest.raises(InputError, match="margin_s"):
        hand_made().plan(margin_s=True)
