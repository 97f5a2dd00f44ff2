"""The replayer against one global event loop, token by token and batch by batch."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaigns import campaign_size, write_summary
from mipplan.replayer import ENGINES, replay
from mipplan.result import ReplayResult
from mipplan.tokens import realise
from oracle_replay import Discipline, EventLoop, SlowReplay
from oracle_tokens import slow_tokens
from random_pipelines import Case, cases, features, random_case

DISCIPLINES: tuple[Discipline, ...] = ("oldest_first", "fifo")
WANTED = (
    "join all",
    "join each",
    "skip",
    "fan-out above 1",
    "overload",
    "ties",
    "non-monotone",
    "several sources",
)


def differences(made: ReplayResult, expected: SlowReplay) -> list[str]:
    """Name what a replay and the event loop disagree about."""
    found = [] if made.latency_ns.tolist() == expected.latency else ["latency"]
    if list(made.stages) != list(expected.batches) and set(made.stages) != set(expected.batches):
        found.append("stages")
    for stage, seen in made.stages.items():
        batches = expected.batches[stage]
        tokens = range(len(expected.exit[stage]))
        pairs = {
            "arrival": (seen.arrival_ns, [expected.arrival[stage][token] for token in tokens]),
            "dispatch": (seen.dispatch_ns, [expected.dispatch[stage][token] for token in tokens]),
            "exit": (seen.exit_ns, [expected.exit[stage][token] for token in tokens]),
            "batch start": (seen.batch_start_ns, [batch.start for batch in batches]),
            "batch size": (seen.batch_size, [len(batch.tokens) for batch in batches]),
            "batch service": (seen.batch_service_ns, [batch.service for batch in batches]),
        }
        found += [f"{what} at {stage}" for what, (left, right) in pairs.items() if left.tolist() != right]
    return found


def run_both(case: Case, discipline: Discipline, engine: str, seed: int) -> list[str]:
    tokens = slow_tokens(case.pipeline, len(case.trace), seed)
    loop = EventLoop(tokens, case.ingress_ns(), case.service_ns(), case.replicas(), discipline)
    made = replay(case.plan(seed=seed), case.trace, discipline=discipline, engine=engine)
    return differences(made, loop.run())


@pytest.mark.parametrize("engine", ENGINES)
def test_equals_the_event_loop(engine: str) -> None:
    seen: Counter[str] = Counter()
    count = campaign_size(quick=600, deep=15_000)
    for number in range(count):
        case = random_case(np.random.default_rng([51, number]))
        seen.update(features(case, realise(case.pipeline, case.trace, number)))
        for discipline in DISCIPLINES:
            found = run_both(case, discipline, engine, number)
            assert not found, f"case {number}, {discipline}: {found}"
    rare = {name: seen[name] for name in WANTED if seen[name] < count / 20}
    assert not rare, f"too few of {count} cases hold these: {rare}"
    write_summary(
        f"replay-{engine}",
        {
            "cases": count,
            "disciplines": list(DISCIPLINES),
            "violations": 0,
            "cases_with_feature": dict(sorted(seen.items())),
        },
    )


@given(cases(max_stages=4, max_arrivals=12), st.sampled_from(DISCIPLINES), st.integers(0, 2**32))
@settings(max_examples=campaign_size(quick=100, deep=2_000))
def test_equals_the_event_loop_on_cases_that_hypothesis_picks(
    case: Case, discipline: Discipline, seed: int
) -> None:
    assert run_both(case, discipline, "auto", seed) == []
