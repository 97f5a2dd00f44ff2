"""What counts as a number is the same everywhere: Python's and NumPy's, no truth values."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mipplan.baselines.sizing import check_peak_window
from mipplan.core import (
    MAX_DURATION_NS,
    NS_PER_S,
    InputError,
    check_budget,
    check_margin,
    check_seed,
    check_slo,
    check_time_limit,
    is_finite,
    is_number,
    is_whole,
    to_ns,
)
from mipplan.planner import plan as plan_pipeline
from mipplan.profiles import Hardware, LatencyTable, Profiles
from mipplan.replayer import ReplicaSchedule
from mipplan.tuner.traffic import read_seconds
from planning_instances import hand_made

HUGE = 10**400
WHOLE = [0, -3, HUGE, np.int8(5), np.uint64(2**64 - 1)]
REAL = [0.5, np.float32(2.5), np.float64(1e300)]
INFINITE = [math.inf, -math.inf, math.nan, np.float32("inf")]
NONE = [True, False, np.bool_(True), "1", None, 1j, Fraction(1, 2), np.array([1]), [1]]


@pytest.mark.parametrize("value", [*WHOLE, *REAL, *INFINITE, *NONE], ids=lambda value: repr(value)[:20])
def test_what_is_a_number(value: object) -> None:
    told = is_whole(value), is_number(value), is_finite(value)
    kinds = [any(value is one for one in group) for group in (WHOLE, REAL, INFINITE)]
    assert told == (kinds[0], any(kinds), any(kinds[:2]) and value is not HUGE)


@pytest.mark.parametrize("value", [*NONE, *INFINITE, -1, HUGE], ids=lambda value: repr(value)[:20])
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


def test_numpy_numbers_are_written_to_files_like_pythons(tmp_path: Path) -> None:
    written = []
    for one, half in ((1, 1.5), (np.int64(1), np.float32(1.5))):
        hardware = [Hardware("cpu", one, memory_gib=half, limit=50 * one)]
        tables = [LatencyTable(model, "cpu", np.array([1]), np.array([1.0])) for model in ("m1", "m2")]
        case, profiles = hand_made(), Profiles.from_parts(hardware, tables)
        plan = plan_pipeline(case.pipeline, profiles, case.trace, slo_s=half, headroom=2 * one)
        plan.save(tmp_path / "plan.json")
        written.append((tmp_path / "plan.json").read_bytes())
    assert written[0] == written[1]


@pytest.mark.parametrize("value", [*NONE, *INFINITE, HUGE], ids=lambda value: repr(value)[:20])
def test_what_is_no_time_is_refused_by_all_that_take_one(value: object) -> None:
    assert to_ns(value) is None
    if value is not None:  # of a window: the usual one
        with pytest.raises(InputError, match="window_s"):
            check_peak_window(value, 1)
    for read in (
        lambda: check_slo(value),
        lambda: read_seconds("horizon_s", value),
        lambda: ReplicaSchedule.from_seconds([1.0], [1, 2], delay_s=value),
    ):
        with pytest.raises(InputError):
            read()


def test_an_objective_beyond_ten_years_is_told_the_longest_one() -> None:
    assert check_slo(MAX_DURATION_NS / NS_PER_S) == MAX_DURATION_NS
    with pytest.raises(InputError, match=r"slo_s: expected a positive time .*, at most ten years, found"):
        check_slo(1.01 * MAX_DURATION_NS / NS_PER_S)


def test_a_truth_value_is_no_margin() -> None:
    with pytest.raises(InputError, match="margin_s"):
        hand_made().plan(margin_s=True)
