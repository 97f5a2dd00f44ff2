"""The replayer against one global event loop, token by token and batch by batch.

Every engine that is installed, both disciplines, with and without replica schedules and random service times.
"""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaigns import Violations, campaign_size, write_summary
from mipplan.core import InputError
from mipplan.replayer import ENGINES, EngineFeature, ReplicaSchedule, ServiceNoise, replay
from mipplan.replayer import engines as all_engines
from mipplan.replayer.engines.plain import PlainEngine
from mipplan.result import ReplayResult
from mipplan.tokens import realise
from oracle_replay import Discipline, EventLoop, SlowReplay, SlowSchedule, slow_noise
from oracle_tokens import SlowTokens, slow_tokens
from random_pipelines import Case, cases, features, random_case, random_noise, random_schedules

DISCIPLINES: tuple[Discipline, ...] = ("oldest_first", "fifo")
#: What is added to constant replicas and certain service times.
VARIATIONS: dict[str, frozenset[EngineFeature]] = {
    "plain": frozenset(),
    "schedule": frozenset({EngineFeature.SCHEDULE}),
    "noise": frozenset({EngineFeature.RANDOM_SERVICE}),
    "schedule and noise": frozenset({EngineFeature.SCHEDULE, EngineFeature.RANDOM_SERVICE}),
}
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
WANTED_OF_SCHEDULES = (
    "activated",
    "cancelled",
    "retired idle",
    "retired after its batch",
    "stayed in another's stead",
    "nobody there for a token",
    "change at an arrival",
    "change at a completion",
    "activation at a completion",
)


class Limited(PlainEngine):
    """Can do nothing beyond the plain model."""

    name = "limited"
    features = frozenset()


def differences(made: ReplayResult, expected: SlowReplay) -> list[str]:
    """Name what a replay and the event loop disagree about."""
    found = [] if made.latency_ns.tolist() == expected.latency else ["latency"]
    if set(made.stages) != set(expected.batches):
        found.append("stages")
    if dict(made.paid_replica_ns) != expected.paid:
        found.append("payment")
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


def slowly(
    case: Case,
    tokens: SlowTokens,
    discipline: Discipline,
    seed: int,
    schedules: dict[str, ReplicaSchedule],
    noise: ServiceNoise | None,
) -> SlowReplay:
    """Run the event loop."""
    batch_time = None
    if noise is not None:
        assert noise.factors is not None
        noise_seed = seed if noise.seed is None else noise.seed
        batch_time = slow_noise(tokens, case.service_ns(), noise.factors.tolist(), noise_seed)
    return EventLoop(
        tokens,
        case.ingress_ns(),
        case.service_ns(),
        case.replicas(),
        discipline,
        schedules={
            stage: SlowSchedule(schedule.change_ns.tolist(), schedule.replicas.tolist(), schedule.delay_ns)
            for stage, schedule in schedules.items()
        },
        batch_time=batch_time,
    ).run()


def meetings(schedules: dict[str, ReplicaSchedule], seen: SlowReplay) -> set[str]:
    """Which events of a schedule fall on the instant of others."""
    found = set()
    for stage, schedule in schedules.items():
        changes = set(schedule.change_ns.tolist())
        activations = {change + schedule.delay_ns for change in changes if schedule.delay_ns}
        completions = set(seen.exit[stage].values())
        found |= {"change at an arrival"} if changes & set(seen.arrival[stage].values()) else set()
        found |= {"change at a completion"} if changes & completions else set()
        found |= {"activation at a completion"} if activations & completions else set()
    return found


@cache
def able_engines(needed: frozenset[EngineFeature]) -> tuple[str, ...]:
    """Engines that are installed and can do what is needed."""
    return tuple(name for name, engine in ENGINES.items() if engine.can(needed) and engine.missing() is None)


@pytest.mark.parametrize("variation", VARIATIONS)
def test_engines_equal_the_event_loop(variation: str) -> None:
    needed = VARIATIONS[variation]
    engines = able_engines(needed)
    seen: Counter[str] = Counter()
    count = campaign_size(quick=30, deep=5_000)
    violations = Violations()
    for number in range(count):
        with violations.case(number):
            rng = np.random.default_rng([51, number])
            case = random_case(rng)
            schedules = random_schedules(rng, case) if EngineFeature.SCHEDULE in needed else {}
            noise = random_noise(rng) if EngineFeature.RANDOM_SERVICE in needed else None
            kinds = features(case, realise(case.pipeline, case.trace, number))
            tokens = slow_tokens(case.pipeline, len(case.trace), number)
            for discipline in DISCIPLINES:
                expected = slowly(case, tokens, discipline, number, schedules, noise)
                kinds |= expected.happened | meetings(schedules, expected)
                for engine in engines:
                    made = replay(
                        case.plan(seed=number),
                        case.trace,
                        discipline=discipline,
                        engine=engine,
                        schedule=schedules,
                        noise=noise,
                    )
                    found = differences(made, expected)
                    assert not found, f"case {number}, {discipline}, {engine}: {found}"
            seen.update(kinds)
    wanted = WANTED + (WANTED_OF_SCHEDULES if EngineFeature.SCHEDULE in needed else ())
    rare = {name: seen[name] for name in wanted if seen[name] < count / 20}
    assert not rare, f"too few of {count} cases hold these: {rare}"
    write_summary(
        f"replay-{variation.replace(' ', '-')}",
        {
            "cases": count,
            "engines": list(engines),
            "disciplines": list(DISCIPLINES),
            "violations": violations.checked(),
            "cases_with_feature": dict(sorted(seen.items())),
        },
    )


@given(
    cases(max_stages=4, max_arrivals=12), st.sampled_from(DISCIPLINES), st.integers(0, 2**32), st.booleans()
)
@settings(max_examples=campaign_size(quick=50, deep=2_000))
def test_engines_equal_the_event_loop_on_cases_that_hypothesis_picks(
    case: Case, discipline: Discipline, seed: int, scheduled: bool
) -> None:
    schedules = random_schedules(np.random.default_rng(seed), case) if scheduled else {}
    made = replay(case.plan(seed=seed), case.trace, discipline=discipline, schedule=schedules)
    tokens = slow_tokens(case.pipeline, len(case.trace), seed)
    assert differences(made, slowly(case, tokens, discipline, seed, schedules, None)) == []


@pytest.mark.parametrize("variation", VARIATIONS)
def test_engine_that_cannot_says_who_can(variation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines there are, and one that can do nothing beyond the plain model."""
    limited = Limited()
    monkeypatch.setattr(all_engines, "ENGINES", {"limited": limited, **ENGINES})
    case = random_case(np.random.default_rng(0))
    needed = VARIATIONS[variation]
    stage = next(iter(case.pipeline.stages))
    schedule = (
        {stage: ReplicaSchedule(np.array([5]), np.array([1, 2]))}
        if EngineFeature.SCHEDULE in needed
        else None
    )
    noise = ServiceNoise.uniform(0.5, 1) if EngineFeature.RANDOM_SERVICE in needed else None
    for name, engine in all_engines.ENGINES.items():
        if engine.missing() is not None or engine.can(needed):
            continue
        with pytest.raises(InputError, match=rf"{name} does not do this: .*use one of auto, .*python"):
            replay(case.plan(), case.trace, engine=name, schedule=schedule, noise=noise)
    chosen = replay(case.plan(), case.trace, schedule=schedule, noise=noise).engine
    assert all_engines.ENGINES[chosen].can(needed)
    assert (chosen == "limited") == (variation == "plain")
