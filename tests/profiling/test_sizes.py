"""Sizes that are chosen: the bound of a gap is what it says, and the rule stops when no line may be off by more."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle_sizes as oracle
from benchmarks.compare import shared_data
from campaigns import campaign_size
from mipplan.core import InputError
from mipplan.profiling import BatchMeasurement, MeasuringParams
from mipplan.profiling.sizes import (
    AdaptiveSizes,
    EnoughSizes,
    InTime,
    KnownLatency,
    NamedSizes,
    NextSize,
    check_sizes,
    find_gaps,
    known_latency,
)
from profiling.fake_latencies import Latency, follow, found_at, measured_at

#: Measured sizes with latencies: whole numbers, in any shape.
TABLES = st.dictionaries(st.integers(1, 40), st.integers(1, 10**6), min_size=2, max_size=7)


def adaptive(**changed: Any) -> AdaptiveSizes:
    given = {"max_batch": 64, "tolerance": 0.05, "latency": "p99", "time_limit_s": 60.0, "fewest_runs": 10}
    return AdaptiveSizes(**(given | changed))


def exactly(latencies: dict[int, int]) -> dict[int, KnownLatency]:
    return {batch: KnownLatency(value, value, value) for batch, value in sorted(latencies.items())}


def curve(kind: str, seed: int, sizes: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A latency for every size that grows, convex or concave."""
    random = np.random.default_rng(seed)
    steps = np.sort(random.pareto(0.7, sizes) * (random.random(sizes) < random.random()))
    if kind == "concave":
        steps = steps[::-1]
    return random.uniform(0.1, 10) + np.cumsum(steps)


@given(TABLES)
@settings(deadline=None, max_examples=60)
def test_error_is_what_its_definition_says(latencies: dict[int, int]) -> None:
    wanted = oracle.errors(latencies)
    gaps = {(gap.low, gap.high): gap for gap in find_gaps(exactly(latencies))}
    assert gaps.keys() == wanted.keys()
    for ends, gap in gaps.items():
        assert gap.error == pytest.approx(float(wanted[ends]), rel=1e-9, abs=1e-12)
        assert gap.shown == gap.error  # without doubt, all of it shows


@given(
    kind=st.sampled_from(["convex", "concave"]),
    seed=st.integers(0, 10**6),
    measured=st.sets(st.integers(1, 60), min_size=2, max_size=8),
)
@settings(deadline=None, max_examples=100)
def test_a_line_is_off_by_no_more_where_the_latency_bends_one_way(
    kind: str, seed: int, measured: set[int]
) -> None:
    """The bound against what it bounds: every size of every gap."""
    truth = curve(kind, seed, 60)
    known = {size: KnownLatency(*[float(truth[size - 1])] * 3) for size in sorted(measured)}
    for gap in find_gaps(known):
        at = np.arange(gap.low + 1, gap.high)
        straight = np.interp(at, list(known), [one.value for one in known.values()])
        assert np.abs(truth[at - 1] / straight - 1).max() <= gap.error + 1e-9


@given(TABLES, st.floats(0, 0.3))
@settings(deadline=None, max_examples=60)
def test_doubt_takes_away_from_what_shows_and_adds_nothing(latencies: dict[int, int], noise: float) -> None:
    known = {
        batch: KnownLatency(value * (1 - noise), value, value * (1 + noise))
        for batch, value in sorted(latencies.items())
    }
    for gap, sure in zip(find_gaps(known), find_gaps(exactly(latencies)), strict=True):
        assert gap.error == sure.error
        assert 0 <= gap.shown <= sure.shown + 1e-12


@given(
    kind=st.sampled_from(["convex", "concave"]), seed=st.integers(0, 10**6), tolerance=st.floats(0.01, 0.5)
)
@settings(deadline=None, max_examples=20)
def test_the_rule_ends_when_every_line_is_good_enough(kind: str, seed: int, tolerance: float) -> None:
    truth = curve(kind, seed, 50)
    rule = adaptive(max_batch=50, tolerance=tolerance, time_limit_s=1e12)
    found, order, enough, _ = follow(rule, lambda batch: float(truth[batch - 1]))
    assert [choice.batch for choice in order[:7]] == [1, 2, 4, 8, 16, 32, 50]
    measured = [one.latency_ms("p99") for one in found.values()]
    off = np.abs(truth / np.interp(np.arange(1, 51), list(found), measured) - 1).max()
    assert off <= tolerance + 1e-6  # nanoseconds are rounded
    assert "a straight line is off by at most" in enough.why


def test_straight_lines_need_no_more_than_doubling() -> None:
    found, order, enough, _ = follow(adaptive(), lambda batch: 2 + 0.5 * batch)
    assert list(found) == [1, 2, 4, 8, 16, 32, 64]
    assert [choice.left for choice in order] == [7, 6, 5, 4, 3, 2, 1]
    assert enough.why.startswith("between measured sizes a straight line is off by at most 0%, unless")


@pytest.mark.parametrize(
    ("latency", "around", "most"),
    [
        (lambda batch: 2 + 0.5 * batch + 0.8 * max(0, batch - 24), {24, 25}, 15),  # memory runs short
        (lambda batch: 5.0 if batch <= 11 else 9.0, {11, 12}, 14),  # one more wave of thread blocks
    ],
)
def test_sizes_gather_where_the_latency_bends(latency: Latency, around: set[int], most: int) -> None:
    found, order, _, _ = follow(adaptive(), latency)
    assert around <= found.keys()
    assert len(found) <= most
    assert all("may be off by" in choice.why for choice in order[7:])


def test_what_intervals_can_account_for_is_not_chased() -> None:
    random = np.random.default_rng(3)
    noisy = {batch: (2 + 0.5 * batch) * (1 + 0.02 * random.standard_normal()) for batch in range(1, 65)}
    without, *_ = follow(adaptive(tolerance=0.02), noisy.__getitem__)
    within, _, enough, _ = follow(adaptive(tolerance=0.02), noisy.__getitem__, noise=0.06)
    assert list(within) == [1, 2, 4, 8, 16, 32, 64]
    assert len(without) > len(within)
    assert "beyond what intervals can account for" in enough.why


def test_noise_of_real_measurements_makes_no_sizes_and_bends_do() -> None:
    """Through the measuring loop: runs up to a fifth slower than the function says, P99 known within 5 %."""

    def sizes(latency: Latency) -> list[int]:
        rule, found = adaptive(tolerance=0.1), dict[int, BatchMeasurement]()
        while isinstance(choice := rule.next(found, {}), NextSize):
            found[choice.batch] = measured_at(choice.batch, latency, 0.2, MeasuringParams())
            found = dict(sorted(found.items()))
        return list(found)

    assert sizes(lambda batch: 2 + 0.5 * batch) == [1, 2, 4, 8, 16, 32, 64]
    assert 24 in sizes(lambda batch: 2 + 0.5 * batch + 2 * max(0, batch - 24))


def test_doubling_ends_where_a_size_fails() -> None:
    found, order, enough, failed = follow(
        adaptive(), lambda batch: 2.0 + batch, fails=lambda batch: batch > 20
    )
    assert list(found) == [1, 2, 4, 8, 16]
    assert failed == {32}
    assert order[-1].batch == 32
    assert "nothing is known above batch 16: batch 32 failed" in enough.why


def test_a_model_for_one_batch_size_is_found_by_doubling() -> None:
    found, _, _, failed = follow(adaptive(), lambda _batch: 5.0, fails=lambda batch: batch != 8)
    assert (list(found), failed) == ([8], {1, 2, 4, 16})
    nothing, _, enough, failed = follow(adaptive(), lambda _batch: 5.0, fails=lambda _batch: True)
    assert (nothing, enough.why) == ({}, "")
    assert failed == {1, 2, 4, 8, 16, 32, 64}


def test_doubling_ends_where_runs_would_be_too_few() -> None:
    found, _, enough, failed = follow(adaptive(), lambda batch: 600.0 * batch)
    assert (list(found), failed) == ([1, 2, 4, 8], set())
    assert "nothing is known above batch 8: a larger batch would take too long" in enough.why


def test_a_middle_that_fails_closes_its_gap() -> None:
    found, _, _, failed = follow(adaptive(), lambda batch: float(batch**2), fails=lambda batch: batch == 24)
    assert failed == {24}
    assert not any(16 < batch < 32 for batch in found)
    assert 48 in found


def test_time_for_all_ends_it_before_a_size_that_would_not_fit() -> None:
    found, _, enough, _ = follow(InTime(adaptive(), 5.5), lambda batch: float(batch**2))
    assert list(found) == [1, 2, 4, 8, 16]  # a second each
    assert enough.why == "5 s of 5.5 s are spent, and the next size would have been 32 (doubling)"
    assert list(follow(InTime(adaptive(), 0.1), lambda batch: float(batch))[0]) == [1]
    *_, failed = follow(InTime(adaptive(), 2.5), lambda batch: float(batch), fails=lambda _batch: True)
    assert failed == {1, 2}  # what fails takes time, too
    half = {batch: replace(found_at(batch, 1.0), visits=(3,)) for batch in (1, 2)}
    for total_s, ends in (
        (5.9, True),
        (6.1, False),
    ):  # both are visited once more, so a third would end at 6 s
        assert isinstance(InTime(adaptive(), total_s, visits=2).next(half, {}), EnoughSizes) == ends


def test_it_goes_on_from_what_is_there_as_if_it_had_never_stopped() -> None:
    """The rule remembers nothing: killed after any size, it makes the same choices."""

    def latency(batch: int) -> float:
        return 1 + 0.02 * batch**2

    whole, order, *_ = follow(adaptive(), latency)
    for place in range(0, len(order), campaign_size(quick=3, deep=1)):
        before = {one.batch: found_at(one.batch, latency(one.batch)) for one in order[:place]}
        rest, later, *_ = follow(adaptive(), latency, known=dict(sorted(before.items())))
        assert rest.keys() == whole.keys()
        assert [one.batch for one in later] == [one.batch for one in order[place:]]


@pytest.mark.shared_data
@pytest.mark.skipif(not shared_data.is_present(), reason="the public data sets are not beside the checkout")
def test_real_latencies_mostly_keep_the_assumptions() -> None:
    """Every inner size of every public table, left out: docs/how-to/profile.md quotes these shares."""
    tables: dict[tuple[str, str, str], dict[int, float]] = defaultdict(dict)
    for name, column in (("proteus_profiles.csv", "latency_p50_ms"), ("glet_profiles.csv", "latency_avg_ms")):
        text = (shared_data.FOLDER / "profiles" / name).read_text(encoding="utf-8")
        for row in csv.DictReader(text.splitlines()):
            tables[name, row["model"], row["hardware"]][int(row["batch_size"])] = float(row[column])
    within, between, used = [], [], set()
    for key, table in tables.items():
        known = {batch: KnownLatency(*[table[batch]] * 3) for batch in sorted(table)}
        for batch in list(known)[1:-1]:
            rest = {size: one for size, one in known.items() if size != batch}
            gap = next((gap for gap in find_gaps(rest) if gap.low < batch < gap.high), None)
            if gap is None:
                continue
            straight = float(np.interp(batch, list(rest), [one.value for one in rest.values()]))
            within.append(abs(table[batch] / straight - 1) <= gap.error + 0.02)
            low, high = sorted((table[gap.low], table[gap.high]))
            between.append(0.98 * low <= table[batch] <= 1.02 * high)
            used.add(key)
    assert (len(within), len(used)) == (515, 155)
    assert round(float(np.mean(within)), 2) == 0.93
    assert round(float(np.mean(between)), 2) == 0.94


def test_named_sizes_are_measured_smallest_first_and_nothing_else() -> None:
    rule = NamedSizes((1, 3, 7))
    assert rule.next({}, {}) == NextSize(1, "named", 3)
    assert rule.next({1: found_at(1, 1.0)}, {3: 1.0}) == NextSize(7, "named", 1)
    found, _, enough, _ = follow(rule, lambda batch: float(batch**3))
    assert (list(found), enough.why) == ([1, 3, 7], "")


@pytest.mark.parametrize("latency", ["p50", "p99", "mean", "max"])
def test_only_quantiles_have_intervals(latency: str) -> None:
    known = known_latency(found_at(4, 8.0, noise=0.25), latency)
    assert known.value == (10.0 if latency == "max" else 8.0)
    assert (known.low, known.high) == ((6.0, 10.0) if latency in ("p50", "p99") else (known.value,) * 2)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "batches: say which sizes to measure, such as 1, 2, 4, 8, or up to which to choose"),
    ({"batches": []}, "expected batch sizes such as 1, 2, 4, 8"),
    ({"batches": [1], "max_batch": 8}, "max_batch: does not go with batch sizes that are named"),
    ({"batches": [1], "tolerance": 0.1}, "tolerance: does not go with batch sizes that are named"),
    ({"batches": [1], "for_a_plan": True}, "for_: does not go with batch sizes that are named"),
    ({"max_batch": 0}, "max_batch: expected a whole number from 1 to 1000000, found 0"),
    ({"max_batch": 2.5}, "max_batch: expected a whole number, found 2.5"),
    ({"max_batch": 8, "tolerance": 2.0}, "tolerance: expected a share such as 0.05, found 2.0"),
    ({"for_a_plan": True, "tolerance": 0.1}, "tolerance: goes without a plan"),
    ({"max_batch": 8, "total_time_s": -1.0}, "total_time_s: expected seconds above 0, found -1.0"),
]


@pytest.mark.parametrize(("given", "message"), REFUSED)
def test_what_is_no_choice_of_sizes_is_refused(given: dict[str, Any], message: str) -> None:
    nothing: dict[str, Any] = dict.fromkeys(("batches", "max_batch", "tolerance", "total_time_s"))
    with pytest.raises(InputError) as error:
        check_sizes(**(nothing | {"for_a_plan": False} | given))
    assert message in str(error.value)


def test_the_time_left_counts_what_the_shape_so_far_asks_for() -> None:
    """A bend found on the way makes the rest longer; the last size is the last."""
    _, order, _, _ = follow(adaptive(), lambda batch: 2 + 0.5 * batch + 0.8 * max(0, batch - 24))
    left = [choice.left for choice in order]
    assert left[0] == 7
    assert max(left[6:]) > 1
    assert left[-1] == 1
