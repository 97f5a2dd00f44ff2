"""Rule P: every engine against a clock that ticks and against the event loop of whole pipelines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from campaigns import campaign_size
from mipplan.core import InputError
from mipplan.pipeline import DispatchLaw
from mipplan.replayer import (
    ENGINES,
    Capacity,
    EngineFeature,
    ReplicaSchedule,
    ServiceNoise,
    StageTask,
    replay,
    replay_many,
    replay_stream,
)
from mipplan.replayer import engines as all_engines
from mipplan.replayer.engines import plain
from mipplan.replayer.engines.numba_engine import NumbaEngine, NumbaParams
from mipplan.replayer.engines.plain import PlainEngine
from mipplan.replayer.stage_task import NEVER
from mipplan.result import Following, Plan
from oracle_paced import ClockedStage, PacedLoop
from oracle_replay import Discipline, SlowSchedule, slow_noise
from oracle_tokens import slow_tokens
from random_pipelines import Case, random_case, random_noise, random_schedules
from random_tasks import differences, paced_task


def by_clock(task: StageTask) -> list[tuple[int, int, tuple[int, ...]]]:
    """What the clock makes of a task."""
    assert task.pace_ns is not None
    steps = list(zip(task.capacity.from_ns.tolist(), task.capacity.replicas.tolist(), strict=True))
    service = task.service_ns.tolist()
    return ClockedStage(
        task.arrival_ns.tolist(),
        task.pace_ns.tolist(),
        lambda now: [count for start, count in steps if start <= now][-1],
        lambda oldest, size: service[0 if task.level is None else task.level[oldest]][size - 1],
        task.fifo,
        list(zip(task.busy_until_ns.tolist(), task.busy_due_ns.tolist(), strict=True)),
        None if task.until_ns == NEVER else task.until_ns,
    ).run()


@pytest.mark.parametrize("name", ENGINES)
def test_engines_tick_as_the_clock_does(name: str) -> None:
    rng = np.random.default_rng(96)
    spread = 0
    for number in range(campaign_size(quick=200, deep=20_000)):
        task = paced_task(rng, most_tokens=25)
        (made,) = ENGINES[name].serve_many([task])
        expected = by_clock(task)
        riders = np.arange(task.tokens) if made.rider is None else made.rider
        taken = np.split(riders[: made.batch_size.sum()], np.cumsum(made.batch_size)[:-1])
        # Under fifo, batches of one instant hold their tokens by arrival; under oldest first by number.
        found = [
            (int(start), int(service), tuple(sorted(tokens.tolist())))
            for start, service, tokens in zip(made.batch_start_ns, made.batch_service_ns, taken, strict=False)
        ]
        assert found == [(start, service, tuple(sorted(tokens))) for start, service, tokens in expected], (
            number
        )
        spread += bool(differences(made, plain.serve(replace(task, pace_ns=None))))
    assert spread > 50, "too few tasks in which the rule makes a difference"


@pytest.mark.parametrize("name", ENGINES)
def test_engines_agree_on_paced_tasks_of_any_size(name: str) -> None:
    rng = np.random.default_rng(97)
    for number in range(campaign_size(quick=150, deep=5_000)):
        task = paced_task(rng, most_tokens=400)
        if (
            number % 3 == 0 and task.capacity.is_constant
        ):  # more replicas than tokens, and than a heap is used for
            task = replace(task, capacity=Capacity.constant(int(rng.integers(50, 1_000))))
        (made,) = ENGINES[name].serve_many([task])
        assert not differences(made, plain.serve(task)), number


def test_ends_that_are_moved_for_room_keep_when_they_were_due() -> None:
    rng = np.random.default_rng(99)
    engine = NumbaEngine(NumbaParams(ends_room=1))
    for number in range(100):
        task = paced_task(rng, most_tokens=100)
        (made,) = engine.serve_many([task])
        assert not differences(made, plain.serve(task)), number


@pytest.mark.parametrize("name", ENGINES)
def test_engines_pace_tokens_that_follow_others(name: str) -> None:
    rng = np.random.default_rng(98)
    for number in range(60):
        above = plain.serve(paced_task(rng, features=()))
        following = Following(above, int(rng.integers(20)))
        blank = replace(paced_task(rng, features=()), arrival_ns=np.empty(0, dtype=np.int64))
        (made,) = ENGINES[name].follow_many([blank], following)
        expected = plain.serve(replace(blank, arrival_ns=following.at_ns))
        assert not differences(made, expected), number


def test_rule_p_by_hand() -> None:
    """Two replicas, L = 10, δ = 5: the second of two tokens that come one after the other waits until 5."""
    arrival, table = np.array([0, 1, 2, 30], dtype=np.int64), np.array([10], dtype=np.int64)
    task = StageTask(arrival, table[np.newaxis], Capacity.constant(2), pace_ns=table)
    assert plain.serve(task).dispatch_ns.tolist() == [0, 5, 10, 30]
    # Short batches may go at once: beside a batch of two, which ends at 10, one token goes too, since ℓ(1) ≤ δ.
    table = np.array([4, 10], dtype=np.int64)
    task = StageTask(arrival[:3] * 0, table[np.newaxis], Capacity.constant(2), pace_ns=table)
    assert plain.serve(task).batch_start_ns.tolist() == [0, 0]


def test_pipelines_of_all_laws_equal_the_event_loop() -> None:
    """Stages of any law, with and without schedules and noise: every engine, whole, in pieces and by verdict."""
    for number in range(campaign_size(quick=30, deep=4_000)):
        rng = np.random.default_rng([52, number])
        case = random_case(rng, max_arrivals=30)
        laws = {stage: str(rng.choice(list(DispatchLaw))) for stage in case.pipeline.stages}
        schedules = random_schedules(rng, case) if number % 3 == 0 else {}
        noise = random_noise(rng) if number % 2 else None
        discipline = ("oldest_first", "fifo")[int(rng.integers(2))]
        plan = Plan.from_choices(
            case.pipeline,
            case.profiles,
            case.choices,
            slo_s=1.0,
            dispatch=laws,
            discipline=discipline,
            seed=number,
        )
        expected = slowly(case, number, laws, discipline, schedules, noise)
        for engine in ENGINES:
            made = replay(plan, case.trace, engine=engine, schedule=schedules, noise=noise)
            assert made.latency_ns.tolist() == expected, f"case {number}, {engine}"
            streamed = replay_stream(
                plan,
                case.trace,
                engine=engine,
                schedule=schedules,
                noise=noise,
                chunk=int(rng.integers(1, 12)),
            )
            assert streamed.latency_sum_ns == sum(expected), f"case {number}, {engine}: in pieces"
            assert streamed.histogram.largest_ns == max(expected)
        slo_ns = int(rng.choice(expected))
        (verdict,) = replay_many([plan], case.trace, schedule=schedules, noise=noise, slo_s=slo_ns / 1e9)
        assert verdict.keeps == (made.quantile_ns(0.99) <= slo_ns), f"case {number}"


def slowly(
    case: Case,
    number: int,
    laws: dict[str, str],
    discipline: Discipline,
    schedules: dict[str, ReplicaSchedule],
    noise: ServiceNoise | None,
) -> list[int]:
    """Latencies by the event loop; what a timed stage is done with before its time is held back."""
    tokens, tables = slow_tokens(case.pipeline, len(case.trace), number), case.service_ns()
    batch_time = None
    if noise is not None:
        assert noise.factors is not None
        drawn = slow_noise(
            tokens, tables, noise.factors.tolist(), number if noise.seed is None else noise.seed
        )

        def batch_time(stage: str, oldest: int, size: int) -> int:
            least = tables[stage][size - 1] if laws[stage] == "timed" else 1
            return max(least, drawn(stage, oldest, size))

    return (
        PacedLoop(
            tokens,
            case.ingress_ns(),
            tables,
            case.replicas(),
            discipline,
            paced=frozenset(stage for stage, law in laws.items() if law == "paced"),
            schedules={
                stage: SlowSchedule(
                    schedule.change_ns.tolist(), schedule.replicas.tolist(), schedule.delay_ns
                )
                for stage, schedule in schedules.items()
            },
            batch_time=batch_time,
        )
        .run()
        .latency
    )


class Eager(PlainEngine):
    """Knows nothing of rule P, and would serve as if there were none."""

    name = "eager"
    features = frozenset(EngineFeature) - {EngineFeature.PACED}


def test_an_engine_that_cannot_pace_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(all_engines, "ENGINES", {"eager": Eager(), **ENGINES})
    case = random_case(np.random.default_rng(0))
    stage = next(iter(case.pipeline.stages))
    plan = Plan.from_choices(case.pipeline, case.profiles, case.choices, slo_s=1.0, dispatch={stage: "paced"})
    with pytest.raises(InputError, match="eager does not do this: paced dispatch"):
        replay(plan, case.trace, engine="eager")
    assert replay(plan, case.trace).engine != "eager"
    assert replay(plan, case.trace, dispatch="eager").engine == "eager"
