"""Options against their definitions: expansion, exact speed ranks, dominance."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mipplan.options import Family, StageFamilies, StageOptions, expand, undominated
from mipplan.options.table import frontier, speed_ranks, swept_frontier
from mipplan.pipeline import DispatchLaw

#: Pays for every option there is in these tests.
PLENTY = 10**9

FAMILIES = st.lists(
    st.builds(
        lambda hardware, batch, base, price, fewest, more, limited, law: Family(
            hardware,
            batch,
            np.arange(base, base + batch, dtype=np.int64),
            price,
            fewest,
            fewest + more,
            False,
            limited and hardware != "cpu",
            law,
        ),
        st.sampled_from(["cpu", "t4", "a100"]),
        st.integers(1, 4),
        st.integers(1, 6),
        st.integers(1, 4),
        st.integers(1, 3),
        st.integers(0, 4),
        st.booleans(),
        st.sampled_from(DispatchLaw),
    ),
    min_size=1,
    max_size=5,
)


def consistent(families: list[Family]) -> StageFamilies:
    """One law, and one price and one limit flag per hardware, as from real profiles."""
    first = {f.hardware: f for f in reversed(families)}
    made = [
        Family(
            f.hardware,
            f.batch,
            f.service_ns,
            first[f.hardware].microusd_per_hour,
            f.fewest,
            f.most,
            f.is_source,
            first[f.hardware].limited,
            families[0].law,
        )
        for f in families
    ]
    return StageFamilies("stage", tuple(made), ())


def beats_or_equals(options: StageOptions, a: int, b: int) -> bool:
    """Whether a is at least as good as b in cost, T, R and every limited device."""
    used = [devices(options, row) for row in (a, b)]
    return (
        options.cost[a] <= options.cost[b]
        and options.latency_ns[a] <= options.latency_ns[b]
        and rate(options, a) >= rate(options, b)
        and all(used[0].get(name, 0) <= used[1].get(name, 0) for name in used[0])
    )


def devices(options: StageOptions, row: int) -> dict[str, int]:
    family = options.families.families[int(options.family[row])]
    return {family.hardware: int(options.replicas[row])} if family.limited else {}


def rate(options: StageOptions, row: int) -> Fraction:
    return Fraction(int(options.tokens[row]), int(options.period_ns[row]))


@given(FAMILIES)
@settings(max_examples=200)
def test_undominated_is_the_definition(families: list[Family]) -> None:
    options = expand(consistent(families), PLENTY)
    kept = undominated(options)
    rows = {(int(f), int(n)) for f, n in zip(kept.family, kept.replicas, strict=True)}
    everything = range(options.count)
    for b in everything:
        better = [a for a in everything if a != b and beats_or_equals(options, a, b)]
        strictly = any(not beats_or_equals(options, b, a) for a in better)
        is_kept = (int(options.family[b]), int(options.replicas[b])) in rows
        if strictly:
            assert not is_kept
        elif not better:
            assert is_kept
    # Whatever was dropped, something kept is at least as good; and nothing kept repeats another.
    for b in everything:
        positions = [a for a in everything if (int(options.family[a]), int(options.replicas[a])) in rows]
        assert any(beats_or_equals(options, a, b) for a in positions)
    for a in range(kept.count):
        assert not any(a != b and beats_or_equals(kept, a, b) for b in range(kept.count))


@given(st.lists(st.tuples(*[st.integers(0, 9)] * 3), max_size=40))
def test_sweep_keeps_what_the_grid_keeps(columns: list[tuple[int, int, int]]) -> None:
    cost, latency, speed = (np.array([row[k] for row in columns], dtype=np.int64) for k in range(3))
    order = np.lexsort((-speed, latency, cost))
    swept = swept_frontier(latency[order].tolist(), speed[order].tolist())
    assert swept.tolist() == frontier(cost, latency, speed)[order].tolist()


@given(
    st.lists(st.tuples(st.integers(1, 10**12), st.integers(1, 2**25)), min_size=1, max_size=30),
    st.sampled_from([1, 2**26]),
)
def test_speed_ranks_are_those_of_fractions(ratios: list[tuple[int, int]], factor: int) -> None:
    # Multiplied by 2²⁶ the denominators leave the range in which floats tell broken parts apart.
    period = np.array([p for p, _ in ratios], dtype=np.int64)
    tokens = np.array([t * factor for _, t in ratios], dtype=np.int64)
    ranks = speed_ranks(period, tokens)
    exact = [Fraction(int(t), int(p)) for p, t in zip(period, tokens, strict=True)]
    order = {value: rank for rank, value in enumerate(sorted(set(exact)))}
    assert ranks.tolist() == [order[value] for value in exact]


def test_neighbouring_fractions_get_different_ranks() -> None:
    large = 2**25
    period = np.array([large - 2, large - 1, large - 2, 10**15 + 1, 10**15], dtype=np.int64)
    tokens = np.array([large - 1, large, large - 1, large, large], dtype=np.int64)
    ranks = speed_ranks(period, tokens).tolist()
    assert ranks == [3, 2, 3, 0, 1]
    assert speed_ranks(np.empty(0, np.int64), np.empty(0, np.int64)).size == 0


@given(FAMILIES, st.integers(0, 20) | st.just(PLENTY))
def test_expand_lists_exactly_what_the_budget_allows(families: list[Family], budget: int) -> None:
    stage = consistent(families)
    options = expand(stage, budget)
    wanted = [
        (index, n)
        for index, family in enumerate(stage.families)
        for n in range(family.fewest, family.most + 1)
        if n * family.microusd_per_hour <= budget
    ]
    assert list(zip(options.family.tolist(), options.replicas.tolist(), strict=True)) == wanted
    assert sum(family.count_within(budget) for family in stage.families) == len(wanted)
    for row, (index, n) in enumerate(wanted):
        family = stage.families[index]
        assert options.service(row) == family.service(n)
        assert int(options.cost[row]) == n * family.microusd_per_hour
        assert (options.option(row).choice.hardware, options.option(row).choice.batch) == (
            family.hardware,
            family.batch,
        )
        assert options.option(row).choice.replicas == n


@given(FAMILIES)
def test_ideal_and_keep(families: list[Family]) -> None:
    options = expand(consistent(families), PLENTY)
    ideal = options.ideal()
    assert ideal.latency_ns == min(options.latency_ns)
    assert 1 / ideal.ns_per_token == max(rate(options, row) for row in range(options.count))
    half = options.keep(np.arange(options.count) % 2 == 0)
    assert half.speed.tolist() == options.speed[::2].tolist()
    assert [rate(half, row) for row in range(half.count)] == [
        rate(options, row) for row in range(0, options.count, 2)
    ]


@pytest.mark.parametrize("limited_first", [True, False])
def test_unlimited_twin_replaces_the_limited_one(limited_first: bool) -> None:
    twins = [
        Family(name, 1, np.array([5], dtype=np.int64), 7, 1, 2, False, name == "scarce")
        for name in (("scarce", "plenty") if limited_first else ("plenty", "scarce"))
    ]
    kept = undominated(expand(StageFamilies("stage", tuple(twins), ()), PLENTY))
    assert {kept.option(row).choice.hardware for row in range(kept.count)} == {"plenty"}
