"""The closed loop, period by period, is what one event loop over everything does, and one replay of its schedules."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from campaigns import Violations, campaign_size, write_summary
from mipplan.core import Int64
from mipplan.replayer import (
    ENGINES,
    Discipline,
    Engine,
    EngineFeature,
    ReplaySettings,
    ReplicaSchedule,
    replay,
)
from mipplan.tuner.policies import Observation, Setting
from mipplan.tuner.simulation.loop import control_instants, run_closed_loop
from oracle_closed_loop import SlowClosedLoop
from oracle_tokens import slow_tokens
from random_pipelines import Case, random_case

NEEDED = frozenset({EngineFeature.SCHEDULE, EngineFeature.RESUME})
LOOPING = [engine for engine in ENGINES.values() if engine.can(NEEDED)]


class Whim:
    """Decides by what it sees, as erratically as possible, but reproducibly, and `often`."""

    def __init__(self, seed: int, often: float = 0.5) -> None:
        self.seed, self.often = seed, often
        self.seen: list[Observation] = []

    def decide(self, seen: Observation) -> Mapping[str, int]:
        self.seen.append(seen)
        wanted = {}
        for stage, observed in seen.stages.items():
            figures = (observed.waiting, observed.busy_ns % 97, observed.ongoing_ns % 89, observed.arrived)
            rng = np.random.default_rng([self.seed, len(self.seen), *figures])
            if rng.random() < self.often:
                wanted[stage] = int(rng.integers(1, 5))
        return wanted


def setting_of(case: Case, rng: np.random.Generator, seed: int, periods: int = 12) -> Setting:
    span_ns = max(1, case.trace.span_ns)
    period_ns = max(1, span_ns // int(rng.integers(1, periods)))
    start_ns = int(case.trace.arrival_ns[0])
    delay_ns = int(rng.choice([0, 1, period_ns // 2, period_ns, 3 * period_ns + 1]))
    return Setting(case.plan(seed=seed), case.trace, start_ns, period_ns, delay_ns)


def loop(
    case: Case, setting: Setting, engine: Engine, seed: int, whim: Whim
) -> tuple[dict[str, ReplicaSchedule], Int64]:
    settings = ReplaySettings(Discipline.OLDEST_FIRST)
    return run_closed_loop(setting, case.trace, whim.decide, settings, engine, seed)


def as_told(seen: Observation) -> tuple[object, ...]:
    return (seen.now_ns, seen.period_ns, seen.arrival_ns.tolist(), dict(seen.stages))


@pytest.mark.parametrize("engine", LOOPING, ids=lambda engine: engine.name)
@pytest.mark.parametrize(("often", "periods"), [(0.5, 12), (0.03, 90)], ids=["often", "seldom"])
def test_equals_an_event_loop_and_one_replay(engine: Engine, often: float, periods: int) -> None:
    """Where commands are few, many periods are served at once and looked at afterwards."""
    count = campaign_size(quick=15, deep=1_500)
    changed = awaited = 0
    violations = Violations()
    for number in range(count):
        with violations.case(number):
            rng = np.random.default_rng([61, number])
            case = random_case(rng, max_stages=4, max_arrivals=40)
            setting = setting_of(case, rng, number, periods)
            whim, slow_whim = Whim(number, often), Whim(number, often)
            schedules, latency_ns = loop(case, setting, engine, number, whim)
            slow = SlowClosedLoop(
                slow_tokens(case.pipeline, len(case.trace), number),
                case.ingress_ns(),
                case.service_ns(),
                case.replicas(),
                setting.delay_ns,
            )
            seen = slow.control(slow_whim, control_instants(case.trace, setting).tolist(), setting.start_ns)
            assert [as_told(one) for one in whim.seen] == [as_told(one) for one in slow.observations]
            assert latency_ns.tolist() == seen.latency
            result = replay(setting.plan, case.trace, seed=number, schedule=schedules)
            assert result.latency_ns.tolist() == seen.latency
            assert dict(result.paid_replica_ns) == seen.paid
            changed += sum(schedule.change_ns.size for schedule in schedules.values())
            awaited += sum(
                observed.active < observed.replicas for one in whim.seen for observed in one.stages.values()
            )
    assert changed > count
    assert awaited > (count / 4 if often > 0.1 else count / 20)
    write_summary(
        f"closed-loop-{engine.name}-{periods}",
        {"cases": count, "changes": changed, "violations": violations.checked()},
    )


def test_decisions_do_not_depend_on_what_comes_later() -> None:
    for number in range(campaign_size(quick=30, deep=300)):
        rng = np.random.default_rng([62, number])
        case = random_case(rng, max_stages=3, max_arrivals=40)
        setting = setting_of(case, rng, number)
        whim = Whim(number)
        loop(case, setting, LOOPING[-1], number, whim)
        kept = len(case.trace) // 2
        if kept < 2:
            continue
        cut_ns = int(case.trace.arrival_ns[kept - 1])
        later = case.trace.arrival_ns.copy()
        later[kept:] += int(rng.integers(1, 50))
        other = case._replace(trace=type(case.trace)(later))
        other_whim = Whim(number)
        loop(other, setting, LOOPING[-1], number, other_whim)
        early = [as_told(one) for one in whim.seen if one.now_ns <= cut_ns]
        assert early == [as_told(one) for one in other_whim.seen][: len(early)]
