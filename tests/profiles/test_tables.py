from __future__ import annotations

import math
import pickle
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mipplan.core import InputError
from mipplan.profiles import Hardware, LatencyTable, Profiles


def table(batch: Any = (1, 4, 8), latency_ms: Any = (2.0, 5.0, 4.0), **columns: Any) -> LatencyTable:
    return LatencyTable("m", "t4", batch=batch, latency_ms=latency_ms, **columns)


def test_measured_sizes_keep_their_latency_and_others_lie_between() -> None:
    service = table().service_ns(8)
    assert service.dtype == np.int64
    assert service.tolist() == [
        2_000_000,
        3_000_000,
        4_000_000,
        5_000_000,
        4_750_000,
        4_500_000,
        4_250_000,
        4_000_000,
    ]


def test_a_smaller_cap_is_a_prefix() -> None:
    assert table().service_ns(3).tolist() == table().service_ns(8).tolist()[:3]


def test_nothing_is_known_below_the_smallest_size_but_its_cost() -> None:
    assert table((4, 8), (5.0, 9.0)).service_ns(5).tolist() == [5_000_000] * 4 + [6_000_000]


@pytest.mark.parametrize("cap", [0, -1, 9])
def test_never_extrapolated(cap: int) -> None:
    with pytest.raises(InputError, match="outside the measured range 1 to 8"):
        table().service_ns(cap)


def test_no_service_below_one_nanosecond() -> None:
    assert table((1,), (1e-9,)).service_ns(1).tolist() == [1]


def test_largest_and_smallest() -> None:
    assert (table((2, 4, 8)).smallest_batch, table().largest_batch) == (2, 8)


@given(
    st.lists(st.integers(1, 200), unique=True, min_size=1, max_size=6).map(sorted),
    st.lists(st.floats(1e-3, 1e4), min_size=6, max_size=6),
)
def test_service_is_the_stated_interpolation(batch: list[int], latencies: list[float]) -> None:
    latency_ms = latencies[: len(batch)]
    service = table(batch, latency_ms).service_ns(batch[-1])
    for size in range(1, batch[-1] + 1):
        exact = Fraction(latency_ms[0])
        for left, right, low, high in zip(batch, batch[1:], latency_ms, latency_ms[1:], strict=False):
            if left <= size <= right:
                exact = Fraction(low) + (Fraction(high) - Fraction(low)) * (size - left) / (right - left)
        if size > batch[0] and len(batch) == 1:
            continue
        assert abs(service[size - 1] - max(1, exact * 10**6)) <= Fraction(1, 2) + exact * 10**6 / 2**50


def test_arrays_are_read_only_and_copied() -> None:
    latency = np.array([2.0, 5.0, 4.0])
    made = table(latency_ms=latency)
    latency[0] = 9.0
    assert made.latency_ms.tolist() == [2.0, 5.0, 4.0]
    for array in (made.batch, made.latency_ms, made.service_ns(2), pickle.loads(pickle.dumps(made)).batch):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_equality_is_by_content() -> None:
    assert table() == table()
    assert hash(table()) == hash(table())
    assert table() != table(latency_ms=(2.0, 5.0, 4.5))
    assert table(accuracy=(70, 70, 70)) != table()
    assert pickle.loads(pickle.dumps(table(memory_gib=(1, 2, 3)))) == table(memory_gib=(1, 2, 3))


def test_sources() -> None:
    assert table().source == ("", "", "")
    assert table(source="one paper").source == ("one paper",) * 3
    assert table(source=("a", "b", "c")).source == ("a", "b", "c")
    with pytest.raises(InputError, match="expected one text for each of 3 rows, found 2"):
        table(source=("a", "b"))


@pytest.mark.parametrize(
    ("batch", "latency_ms", "columns", "message"),
    [
        ((), (), {}, "at least one batch size"),
        ((0, 1), (1, 1), {}, "batch: expected a whole number from 1"),
        ((1.5,), (1,), {}, "batch: expected a whole number from 1"),
        ((math.nan,), (1,), {}, "batch: expected a whole number from 1"),
        ((2_000_000,), (1,), {}, "batch: expected a whole number from 1"),
        (("x",), (1,), {}, "batch: expected whole numbers"),
        ((2, 1), (1, 1), {}, "increase strictly"),
        ((1, 1), (1, 1), {}, "increase strictly"),
        ((1, 2), (1,), {}, "latency_ms: expected 2 values"),
        ((1,), (0,), {}, "latency_ms: expected a number above 0"),
        ((1,), (-1,), {}, "latency_ms: expected a number above 0"),
        ((1,), (math.nan,), {}, "latency_ms: expected a finite number"),
        ((1,), (math.inf,), {}, "latency_ms: expected a finite number"),
        ((1,), (1e15,), {}, "longer than ten years"),
        ((1,), ("x",), {}, "latency_ms: expected numbers"),
        ((1,), (1,), {"latency_p99_ms": (0,)}, "latency_p99_ms: expected a number above 0"),
        ((1,), (1,), {"accuracy": (-1,)}, "accuracy: expected a number ≥ 0"),
        ((1,), (1,), {"latency_p99_ms": (1, 2)}, "latency_p99_ms: expected 1 values"),
        # What NumPy would turn into numbers of another meaning.
        ((1, 2), np.ma.array([1.0, 2.0], mask=[0, 1]), {}, "latency_ms: expected numbers"),
        ((1, 2), np.array([1, 2], "timedelta64[s]"), {}, "latency_ms: expected numbers"),
        (np.array(["2026", "2027"], "datetime64[Y]"), (1, 2), {}, "batch: expected whole numbers"),
        ((1,), (10**400,), {}, "latency_ms: expected numbers"),
        ((10**400,), (1,), {}, "batch: expected whole numbers"),
        ((1,), (1,), {"source": None}, "source: expected text, found nothing"),
        ((1,), (1,), {"source": "\ud800"}, "source: .* holds half a character"),
        ((1,), (1,), {"latency": ["p99"]}, "latency: expected table, p50, p99"),
    ],
)
def test_bad_tables(batch: Any, latency_ms: Any, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        table(batch, latency_ms, **columns)


def test_every_fault_of_a_table_at_once() -> None:
    with pytest.raises(InputError) as caught:
        LatencyTable("", "t4", batch=(2, 1), latency_ms=(0, 1), energy_j=(math.nan, 1))  # type: ignore[arg-type]
    assert len(caught.value.faults) == 4


def test_hardware() -> None:
    device = Hardware("t4", 0.526, memory_gib=16, limit=64, source="list")
    assert device.microusd_per_hour == 526_000
    assert device.to_document() == {"usd_per_hour": 0.526, "memory_gib": 16.0, "limit": 64, "source": "list"}
    assert Hardware("t4", 1) == Hardware("t4", 1.0)
    assert Hardware("t4", 1, limit=0).limit == 0


@pytest.mark.parametrize("price", [0, -1, 1e-7, math.nan, math.inf, 2e6, True, "1"])
def test_unusable_price(price: float) -> None:
    with pytest.raises(InputError, match="usd_per_hour: expected a price"):
        Hardware("t4", price)


def test_every_fault_of_hardware_at_once() -> None:
    with pytest.raises(InputError) as caught:
        Hardware(" ", -1, memory_gib=0, limit=-1)
    assert [fault.place.rsplit(": ", 1)[1] for fault in caught.value.faults] == [
        "name",
        "usd_per_hour",
        "memory_gib",
        "limit",
    ]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"source": 5}, "source: expected text, found 5"),
        ({"power_source": None}, "power_source: expected text, found nothing"),
        ({"idle_w": 50, "tdp_w": 30}, "idle_w: 50 is above tdp_w 30"),
    ],
)
def test_hardware_that_no_file_could_say(columns: dict[str, Any], message: str) -> None:
    """Plans of such hardware were saved, and their files could not be read."""
    with pytest.raises(InputError, match=message):
        Hardware("t4", 1.0, **columns)


def test_parts_of_profiles_that_are_none() -> None:
    hardware, measured = Hardware("t4", 1.0), table()
    odd: Any
    for odd in ((None, None), ([measured], [hardware]), (hardware, measured), ("t4", "m")):
        with pytest.raises(InputError) as caught:
            Profiles.from_parts(*odd)
        assert [fault.place for fault in caught.value.faults] == ["hardware", "tables"]
    for nothing in (None, 3, b"x"):
        with pytest.raises(InputError, match="expected a name or a path"):
            Profiles.read(nothing)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="the name of a folder is empty"):
        Profiles.read("")
