"""Cuts by queries, against sums in exact numbers: what they refuse, one by one, many at once and stage by stage."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from campaigns import campaign_size
from mipplan.calculus import StageService
from mipplan.core import Allowance
from mipplan.planner.cuts import Chains, QueryCuts

CASES = range(campaign_size(quick=120, deep=3_000))


def of_all(queries: int, allowed: int) -> Allowance:
    """All in one window, of whom so many may be late."""
    return Allowance(1.0, "", np.array([0, queries]), np.array([allowed]), 0, allowed)


class SlowCuts:
    """The same in whole numbers, as the words say it: rows of numbers, one query after the other."""

    def __init__(self, cuts: QueryCuts) -> None:
        self.constant = [int(number) for number in cuts.constant_ns]
        self.uses, self.tokens = cuts.uses.astype(int).tolist(), cuts.tokens.astype(int).tolist()
        self.kept = cuts.kept

    def excess(self, latency: list[int], period: list[int]) -> list[int]:
        return [
            constant
            + sum(t * row[q] for t, row in zip(latency, self.uses, strict=True))
            + sum(p * row[q] for p, row in zip(period, self.tokens, strict=True))
            for q, constant in enumerate(self.constant)
        ]

    def refuse(self, latency: list[int], period: list[int]) -> bool:
        late = [excess > 0 for excess in self.excess(latency, period)]
        starts = self.kept.starts.tolist()
        windows = zip(starts, starts[1:], self.kept.allowed.tolist(), strict=False)
        return sum(sum(late[start:end]) > allowed for start, end, allowed in windows) > self.kept.spare

    def with_more(self, latency: list[int], period: list[int], stage: int, t: int, p: int) -> bool:
        more = (
            [*values[:stage], values[stage] + by, *values[stage + 1 :]]
            for values, by in ((latency, t), (period, p))
        )
        return self.refuse(*more)


def random_cuts() -> Iterator[tuple[int, np.random.Generator, QueryCuts]]:
    """Small whole numbers, so that many sums are 0 exactly, or one away from it."""
    for number in CASES:
        rng = np.random.default_rng([31, number])
        stages, queries = int(rng.integers(1, 5)), int(rng.integers(1, 9))
        uses = rng.integers(0, 2, (stages, queries)).astype(np.float64)
        tokens = rng.integers(0, 4, (stages, queries)).astype(np.float64)
        constant = rng.integers(-14, 3, queries).astype(np.float64)
        kept = of_all(queries, int(rng.integers(0, queries)))
        if number % 3 == 0:  # Windows, of which some are spare.
            ingress = np.sort(rng.integers(0, 4, queries))
            kept = Allowance.of(
                *rng.choice([0.4, 0.8, 1.0], 1), ingress, 1, float(rng.choice([0.3, 0.6, 1.0]))
            )
        yield number, rng, QueryCuts(constant, uses, tokens, kept)


def services(rng: np.random.Generator, cuts: QueryCuts) -> tuple[list[int], list[int]]:
    stages = len(cuts.uses)
    return rng.integers(0, 6, stages).tolist(), rng.integers(0, 4, stages).tolist()


def floats(values: list[int]) -> NDArray[np.float64]:
    return np.array(values, dtype=np.float64)


def test_services_are_refused_if_too_many_queries_miss_the_limit() -> None:
    verdicts = []
    for number, rng, cuts in random_cuts():
        slow = SlowCuts(cuts)
        for _ in range(3):
            latency, period = services(rng, cuts)
            excess = cuts.excess_ns(floats(latency), floats(period))
            assert excess.tolist() == slow.excess(latency, period), f"case {number}"
            assert cuts.refuse(excess) == slow.refuse(latency, period), f"case {number}"
            verdicts.append(cuts.refuse(excess))
    assert {*verdicts} == {False, True}


@pytest.mark.parametrize("pieces", [{}, {"queries": 1, "products": 1}, {"queries": 3, "products": 20}])
def test_many_services_at_once_are_refused_as_each_by_itself(pieces: dict[str, int]) -> None:
    for number, rng, cuts in random_cuts():
        slow = SlowCuts(cuts)
        asked = [services(rng, cuts) for _ in range(int(rng.integers(1, 8)))]
        latencies, periods = (np.array(values, dtype=np.float64) for values in zip(*asked, strict=True))
        found = cuts.refuse_many(latencies, periods, **pieces).tolist()
        assert found == [slow.refuse(*one) for one in asked], f"case {number}"


def test_stages_that_get_slower_are_judged_one_by_one() -> None:
    struck = 0
    for number, rng, cuts in random_cuts():
        slow = SlowCuts(cuts)
        latency, period = services(rng, cuts)
        excess = cuts.excess_ns(floats(latency), floats(period))
        more = services(rng, cuts)
        expected = [
            stage
            for stage in range(len(latency))
            if slow.with_more(latency, period, stage, more[0][stage], more[1][stage])
        ]
        assert cuts.refuse_some(excess, *map(floats, more)) == expected, f"case {number}"
        for stage in range(len(latency)):
            options = [(int(rng.integers(0, 6)), int(rng.integers(0, 4))) for _ in range(4)]
            found = cuts.refuse_each(excess, stage, *(floats(list(by)) for by in zip(*options, strict=True)))
            assert found.tolist() == [slow.with_more(latency, period, stage, *by) for by in options], (
                f"case {number}"
            )
            struck += bool(found.any() and not found.all())
    assert struck > len(CASES) / 10


def test_a_burden_is_the_wait_that_all_queries_have_more() -> None:
    for number, rng, cuts in random_cuts():
        slow = SlowCuts(cuts)
        (latency, period), more = services(rng, cuts), services(rng, cuts)
        before = sum(slow.excess(latency, period))
        expected = []
        for stage in range(len(latency)):
            slower = [list(latency), list(period)]
            slower[0][stage] += more[0][stage]
            slower[1][stage] += more[1][stage]
            expected.append(sum(slow.excess(*slower)) - before)
        assert cuts.burdens_ns(*map(floats, more)).tolist() == expected, f"case {number}"


def large_chains(rng: np.random.Generator) -> tuple[Chains, dict[str, StageService]]:
    """Times of a clock, and rates that are no whole numbers: all sums are, and floats miss them on either side."""
    stages, queries = int(rng.integers(1, 7)), 40
    names = tuple("abcdefg"[:stages])
    made = {name: StageService(*(int(v) for v in rng.integers(1, (10**9, 10**9, 1000)))) for name in names}
    uses = rng.integers(0, 2, (stages, queries)).astype(np.float64)
    parallel = np.array([service.tokens for service in made.values()])
    tokens = (rng.integers(0, 10**4, (stages, queries)) * parallel[:, None]).astype(np.float64)
    constant = -np.rint(rng.uniform(0, 10.0 ** rng.integers(6, 14), queries))
    return Chains(names, constant, uses, tokens), made


def exact_ns(chains: Chains, made: dict[str, StageService]) -> list[Fraction]:
    return [
        Fraction(chains.constant_ns[q])
        + sum(
            (
                int(chains.uses[s, q]) * made[name].latency_ns
                + int(chains.tokens[s, q]) * Fraction(made[name].period_ns, made[name].tokens)
                for s, name in enumerate(chains.stages)
            ),
            Fraction(0),
        )
        for q in range(chains.constant_ns.size)
    ]


def test_rounding_never_lifts_a_chain_above_its_sum() -> None:
    for number in CASES:
        chains, made = large_chains(np.random.default_rng([32, number]))
        for found, exact, constant in zip(
            chains.latency_ns(made).tolist(), exact_ns(chains, made), chains.constant_ns.tolist(), strict=True
        ):
            assert Fraction(found) <= exact, f"case {number}"
            # Nor does the care that is taken cost much: ε times a few dozen.
            assert exact - Fraction(found) <= 100 * Fraction(2) ** -52 * (
                abs(Fraction(constant)) + abs(exact)
            )


def test_cuts_are_made_for_stages_in_another_order_and_round_to_the_safe_side() -> None:
    at_the_limit = 0
    for number in CASES:
        rng = np.random.default_rng([33, number])
        chains, made = large_chains(rng)
        exact = exact_ns(chains, made)
        order = [str(name) for name in rng.permutation(list(chains.stages))]
        latency = floats([made[name].latency_ns for name in order])
        period = np.array([made[name].period_ns / made[name].tokens for name in order])
        # A limit that the slowest query keeps exactly.
        limit_ns = max(1, math.ceil(max(exact)))
        kept = of_all(len(exact), 3)
        cuts = QueryCuts.of(chains, order, limit_ns, kept)
        assert cuts.kept is kept
        for found, truth, constant in zip(
            cuts.excess_ns(latency, period).tolist(), exact, chains.constant_ns.tolist(), strict=True
        ):
            care = 200 * Fraction(2) ** -52 * (abs(Fraction(constant)) + max(limit_ns, abs(truth)))
            at_the_limit += truth == limit_ns
            assert found <= 0 or truth > limit_ns, f"case {number}"
            assert abs(Fraction(found) - (truth - limit_ns)) <= care, f"case {number}"
    assert at_the_limit > len(CASES) / 2
