"""Replaying piece by piece gives what one replay of everything gives, bit for bit, wherever the pieces end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from campaigns import Violations, campaign_size, write_summary
from chunked_replays import RESUMING, check_pieces, random_settings, variant
from mipplan.replayer import ChunkedReplay, Discipline, Engine, ReplaySettings, replay_many
from mipplan.tokens import Workload, joined, realise, realise_queries, without_first
from random_pipelines import Case, cases, random_case


def check(
    case: Case, sizes: list[int], discipline: Discipline, engine: Engine, seed: int, rng: np.random.Generator
) -> None:
    plans = [case.plan(), variant(case, rng), variant(case, rng)]
    settings = random_settings(case, discipline, engine, rng)
    check_pieces(plans, case, sizes, settings=settings, engine=engine, seed=seed)


@pytest.mark.parametrize("engine", RESUMING, ids=lambda engine: engine.name)
@pytest.mark.parametrize("discipline", Discipline)
def test_equals_one_replay(engine: Engine, discipline: Discipline) -> None:
    count = campaign_size(quick=20, deep=1_000)
    violations = Violations()
    for number in range(count):
        with violations.case(number):
            rng = np.random.default_rng([71, number])
            case = random_case(rng)
            sizes = rng.integers(1, rng.choice([2, 5, 40]), 3, endpoint=True).tolist()
            check(case, sizes, discipline, engine, number, rng)
    write_summary(
        f"chunks-{engine.name}-{discipline.value}", {"cases": count, "violations": violations.checked()}
    )


@given(
    cases(max_stages=4, max_arrivals=12),
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.sampled_from(Discipline),
)
@examples(max_examples=campaign_size(quick=50, deep=400), deadline=None)
def test_equals_one_replay_on_cases_that_hypothesis_picks(
    case: Case, sizes: list[int], discipline: Discipline
) -> None:
    check(case, sizes, discipline, RESUMING[0], 5, np.random.default_rng(0))


def assert_same(left: Workload, right: Workload) -> None:
    assert left.ingress_ns.tolist() == right.ingress_ns.tolist()
    for name, tokens in left.stages.items():
        other = right.stages[name]
        assert (tokens.query.tolist(), tokens.queries) == (other.query.tolist(), other.queries)
        for ours, theirs in zip(tokens.messages, other.messages, strict=True):
            assert ours.parent.tolist() == theirs.parent.tolist()
            assert ours.child.tolist() == theirs.child.tolist()


def test_a_workload_can_be_drawn_in_pieces_and_cut() -> None:
    for number in range(campaign_size(quick=150, deep=400)):
        rng = np.random.default_rng([72, number])
        case = random_case(rng)
        ingress_ns = case.trace.arrival_ns
        cut = int(rng.integers(0, ingress_ns.size + 1))
        whole = realise(case.pipeline, case.trace, number)
        first = realise_queries(case.pipeline, ingress_ns[:cut], number)
        second = realise_queries(case.pipeline, ingress_ns[cut:], number, cut)
        assert_same(joined(first, second), whole)
        assert_same(without_first(whole, cut), second)


def test_the_floor_of_a_latency_holds_and_rises_to_it() -> None:
    raised = 0
    for number in range(campaign_size(quick=80, deep=300)):
        case = random_case(np.random.default_rng([73, number]))
        plan = case.plan()
        discipline = Discipline.FIFO if number % 2 else Discipline.OLDEST_FIRST
        actual = replay_many([plan], case.trace, discipline=discipline, seed=number)[0].latency_ns
        chunks = ChunkedReplay([plan], ReplaySettings(discipline), RESUMING[0], number)
        ingress_ns = case.trace.arrival_ns
        before = np.zeros_like(actual)
        for end in range(4, ingress_ns.size, 4):
            chunks.advance(ingress_ns[end - 4 : end], int(ingress_ns[end]) - 1)
            floor_ns, finished = chunks.latency_floor_ns(0)
            query = chunks.query
            assert np.all(floor_ns <= actual[query])
            assert np.all(floor_ns[finished] == actual[query][finished])
            assert np.all(floor_ns >= before[query])
            raised += int(np.sum(floor_ns > before[query]))
            before[query] = floor_ns
            chunks.release([0])
    assert raised > 100
