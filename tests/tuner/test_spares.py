"""Spare replicas: as many as money and devices allow, and the same multiple for every stage."""

from __future__ import annotations

import math
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from mipplan.tuner.policies import SpareRule
from mipplan.tuner.policies.base import StabilizationWindow
from oracle_spares import best_spares, most_since

NS = 1_000_000_000
#: Replicas per multiple of the rate.
LOAD = {"dear": 0.9, "cheap": 2.5}
PRICE = {"dear": 100, "cheap": 10}


def at_surge(surge: float) -> dict[str, int]:
    return {stage: math.ceil(load * surge) for stage, load in LOAD.items()}


def test_all_stages_are_ready_for_the_same_multiple() -> None:
    # 2.7 and 7.5 replicas: 2 · 100 + 5 · 10 more than the 130 of now.
    rule = SpareRule(most=3.0, share=2.0)
    assert rule.counts(at_surge(1.0), PRICE, at_surge) == {"dear": 3, "cheap": 8}
    assert SpareRule(most=3.0, share=1.9).counts(at_surge(1.0), PRICE, at_surge) != {"dear": 3, "cheap": 8}


def test_what_does_not_fit_whole_is_left_out() -> None:
    # A second dear replica costs 100 of 130: up to 1/0.9 there are cheap ones only.
    assert SpareRule(most=3.0, share=0.5).counts(at_surge(1.0), PRICE, at_surge) == {"dear": 1, "cheap": 3}
    assert SpareRule(most=3.0, share=0.8).counts(at_surge(1.0), PRICE, at_surge) == {"dear": 2, "cheap": 3}


def test_no_spares_where_none_are_wanted() -> None:
    asked: list[float] = []
    assert SpareRule(most=1.0).counts(at_surge(1.0), PRICE, lambda surge: asked.append(surge)) == {}
    assert not asked


def test_devices_that_are_not_there_are_no_spares() -> None:
    def limited(surge: float) -> dict[str, int] | None:
        counts = at_surge(surge)
        return counts if counts["dear"] <= 2 else None

    # The multiple 2.2 is the most that two dear replicas carry.
    found = SpareRule(most=3.0, share=3.0).counts(limited(1.0), PRICE, limited)
    assert found["dear"] == 2
    assert found["cheap"] <= math.ceil(2.5 * 2.2222)
    assert SpareRule().counts(None, PRICE, lambda _: None) == {}


stages = st.dictionaries(
    st.sampled_from("abcd"), st.tuples(st.floats(0.05, 4.0), st.integers(1, 50)), min_size=1
)


@given(stages, st.floats(1.0, 4.0), st.floats(0.0, 3.0), st.one_of(st.none(), st.integers(1, 12)))
def test_the_largest_affordable_multiple_is_found(
    loads: dict[str, tuple[float, int]], most: float, share: float, limit: int | None
) -> None:
    price = {stage: cost for stage, (_, cost) in loads.items()}
    rule = SpareRule(most, share)

    def counts_at(surge: float) -> dict[str, int] | None:
        counts = {stage: math.ceil(load * surge) for stage, (load, _) in loads.items()}
        return None if limit is not None and sum(counts.values()) > limit else counts

    found = rule.counts(counts_at(1.0), price, counts_at)
    step = (rule.most - 1.0) / 2**5
    best, next_best = (best_spares(rule, price, counts_at, cut) for cut in (0.0, step))
    assert found.keys() == best.keys()
    assert all(next_best[stage] <= found[stage] <= best[stage] for stage in found)


@given(
    st.lists(st.tuples(st.integers(1, 4 * NS), st.integers(0, 9)), max_size=30),
    st.sampled_from([0, NS, 5 * NS // 2]),
    st.one_of(st.none(), st.integers(0, 9)),
)
def test_the_largest_count_of_late_is_held(
    steps: list[tuple[int, int]], hold_ns: int, first: int | None
) -> None:
    start: Mapping[str, int] = {} if first is None else {"only": first}
    held = StabilizationWindow(hold_ns, 0, start)
    history = [(0, count) for count in start.values()]
    now = 0
    for gap, count in steps:
        now += gap
        history.append((now, count))
        assert held.largest(now, {"only": count}) == {"only": most_since(history, now - hold_ns)}
