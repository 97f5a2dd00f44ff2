"""Early verdicts are those of full replays, and they are early."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from campaigns import Violations, campaign_size, write_summary
from chunked_replays import RESUMING, chain, random_settings, variant
from mipplan.core import NS_PER_S, InputError
from mipplan.pipeline import Pipeline
from mipplan.profiles import Hardware, LatencyTable, Profiles
from mipplan.replayer import (
    Discipline,
    Engine,
    ReplaySettings,
    ReplicaSchedule,
    ServiceNoise,
    Verdict,
    replay,
    replay_many,
)
from mipplan.replayer.engines.plain import PlainEngine
from mipplan.replayer.replaying import VerdictParams, decide_many
from mipplan.replayer.stage_task import Served, StageTask
from mipplan.result import Plan
from mipplan.trace import Trace
from random_pipelines import Case, random_case


class Counting(PlainEngine):
    """An engine that counts the tokens it dispatches."""

    def __init__(self) -> None:
        self.tokens = 0

    def serve_many(self, tasks: Sequence[StageTask]) -> list[Served]:
        answers = super().serve_many(tasks)
        self.tokens += sum(int(answer.batch_size.sum()) for answer in answers)
        return answers


def objectives_ns(latency_ns: np.ndarray, quantile_ns: int) -> list[int]:
    """Around the quantile, and at its neighbours in the sample."""
    ordered = np.unique(latency_ns)
    place = int(np.searchsorted(ordered, quantile_ns))
    near = ordered[max(place - 1, 0) : place + 2].tolist()
    return sorted({1, *near, *(max(value + step, 1) for value in near for step in (-1, 1))})


def check(
    case: Case, discipline: Discipline, engine: Engine, seed: int, rng: np.random.Generator
) -> Counter[str]:
    settings = random_settings(case, discipline, engine, rng)
    plans = [case.plan(), variant(case, rng), variant(case, rng)]
    quantile = float(rng.choice([0.01, 0.5, 0.8, 0.9, 0.99, 1.0]))
    full = replay_many(
        plans,
        case.trace,
        discipline=discipline.value,
        seed=seed,
        schedule=settings.schedule,
        noise=settings.noise,
    )
    seen: Counter[str] = Counter()
    for slo_ns in objectives_ns(full[0].latency_ns, full[0].quantile_ns(quantile)):
        found = decide_many(
            plans,
            case.trace,
            slo_s=slo_ns / NS_PER_S,
            quantile=quantile,
            settings=settings,
            engine=engine,
            seed=seed,
            params=VerdictParams(first_piece=int(rng.integers(1, 8))),
        )
        for verdict, result in zip(found, full, strict=True):
            misses = int(np.sum(result.latency_ns > slo_ns))
            assert verdict.keeps == (result.quantile_ns(quantile) <= slo_ns)
            assert verdict.misses_at_least <= misses <= verdict.misses_at_most
            assert verdict.queries == len(case.trace) >= verdict.queries_replayed >= 1
            assert verdict.keeps == (verdict.misses_at_most <= verdict.allowed_misses)
            assert verdict.keeps != (verdict.misses_at_least > verdict.allowed_misses)
            seen[("keeps" if verdict.keeps else "misses")] += 1
            seen["early"] += verdict.queries_replayed < verdict.queries
            seen["equality"] += result.quantile_ns(quantile) == slo_ns
    return seen


@pytest.mark.parametrize("engine", RESUMING, ids=lambda engine: engine.name)
def test_equal_those_of_full_replays(engine: Engine) -> None:
    seen: Counter[str] = Counter()
    count = campaign_size(quick=5, deep=600)
    violations = Violations()
    for number in range(count):
        with violations.case(number):
            rng = np.random.default_rng([81, number])
            seen += check(random_case(rng), list(Discipline)[number % 2], engine, number, rng)
    assert min(seen[kind] for kind in ("keeps", "misses", "early", "equality")) > count, seen
    write_summary(
        f"verdicts-{engine.name}",
        {"cases": count, "violations": violations.checked(), "verdicts": dict(sorted(seen.items()))},
    )


def judged(plans: list[Plan], trace: Trace, slo_s: float) -> tuple[list[Verdict], int]:
    counting = Counting()
    found = decide_many(plans, trace, slo_s=slo_s, quantile=0.99, settings=ReplaySettings(), engine=counting)
    return found, counting.tokens


def test_bad_plans_cost_little() -> None:
    trace = Trace.gamma(rate_rps=200, cv=4, duration_s=200, seed=1)
    plan = chain()
    quantile_s = replay(plan, trace).quantile(0.99)
    (verdict,), tokens = judged([plan], trace, quantile_s / 2)
    assert not verdict.keeps
    assert tokens < 0.1 * 3 * len(trace)
    assert verdict.queries_replayed < 0.1 * len(trace)
    (verdict,), tokens = judged([plan], trace, quantile_s)
    assert verdict.keeps
    assert tokens <= 3 * len(trace)


def test_what_no_batch_can_be_fast_enough_for_is_seen_before_it_is_served() -> None:
    """One query more than may miss is under way, and still far from its end: the floor alone refutes."""
    trace = Trace.from_ns(np.zeros(1_000, dtype=np.int64))
    plan = chain()
    (verdict,), tokens = judged([plan], trace, 1e-3)
    assert not verdict.keeps
    counting = Counting()
    (verdict,) = decide_many(
        [plan],
        trace,
        slo_s=1e-3,
        quantile=0.99,
        settings=ReplaySettings(),
        engine=counting,
        params=VerdictParams(first_piece=16),
    )
    assert not verdict.keeps
    assert verdict.queries_replayed <= 16
    assert counting.tokens == 0 < tokens


def test_plans_alike_are_served_once() -> None:
    trace = Trace.gamma(rate_rps=200, cv=1, duration_s=20, seed=2)
    wide = chain(replicas=(4, 11, 5))
    _, alone = judged([chain()], trace, 10.0)
    _, both = judged([chain(), wide], trace, 10.0)
    assert both == alone // 3 * 4  # two stages shared, the last one served twice


def test_replay_many_answers_verdicts_when_asked_for_an_objective() -> None:
    trace = Trace.gamma(rate_rps=200, cv=4, duration_s=20, seed=3)
    plans = [chain(), chain(replicas=(2, 5, 1))]
    results = replay_many(plans, trace, discipline="fifo")
    slo_s = results[0].quantile(0.9)
    verdicts = replay_many(plans, trace, discipline="fifo", slo_s=slo_s, quantile=0.9)
    assert [verdict.keeps for verdict in verdicts] == [True, results[1].quantile(0.9) <= slo_s]
    assert verdicts[0].slo_s == slo_s
    assert verdicts[0].quantile == 0.9
    noise = ServiceNoise.uniform(2.0, 3.0)
    schedule = {"s2": ReplicaSchedule.from_seconds([5.0], [1, 2])}
    slower = replay(plans[0], trace, schedule=schedule, noise=noise)
    (verdict,) = replay_many(plans[:1], trace, schedule=schedule, noise=noise, slo_s=slo_s)
    assert verdict.keeps == (slower.quantile(0.99) <= slo_s) is False


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        ({"slo_s": 0.0}, "slo_s"),
        ({"slo_s": float("nan")}, "slo_s"),
        ({"slo_s": 0.1, "quantile": 99}, "quantile"),
        ({"quantile": 0.9}, "quantile"),
        ({"slo_s": 0.1, "discipline": "lifo"}, "discipline"),
    ],
)
def test_unusable_arguments_are_refused(arguments: dict[str, float], place: str) -> None:
    with pytest.raises(InputError) as caught:
        replay_many([chain()], Trace.from_ns([0, 1]), **arguments)
    assert [fault.place for fault in caught.value.faults] == [place]


def test_no_plan_is_no_verdict() -> None:
    assert replay_many([], Trace.from_ns([0, 1]), slo_s=1.0) == []


def test_queries_far_apart_are_judged_one_by_one() -> None:
    """By hand: of four queries 10 s apart each takes 5 ms; P75 allows none to miss, P50 one."""
    profiles = Profiles.from_parts(
        [Hardware("h", 1.0)], [LatencyTable("m", "h", np.array([1]), np.array([5.0]))]
    )
    plan = Plan.from_choices(chain(stages=1, model="m").pipeline, profiles, {"s0": ("h", 1, 1)}, slo_s=1.0)
    trace = Trace.from_seconds([0.0, 10.0, 20.0, 20.0])
    late = replay_many([plan], trace, slo_s=0.005, quantile=0.5)[0]
    assert late == Verdict(True, 0.005, 0.5, 4, 4, 1, 1, 1)
    assert not replay_many([plan], trace, slo_s=0.005, quantile=0.75)[0].keeps
    assert replay_many([plan], trace, slo_s=0.01, quantile=1.0)[0].keeps


# ------------------------------------------------------------------------------------------------ windows of time


@pytest.mark.parametrize("engine", RESUMING, ids=lambda engine: engine.name)
def test_equal_those_of_full_replays_in_every_window_of_time(engine: Engine) -> None:
    """Queries are released in the order in which they finish; each counts in the window in which it arrived."""
    seen: Counter[str] = Counter()
    for number in range(campaign_size(quick=25, deep=2_000)):
        rng = np.random.default_rng([82, number])
        case = random_case(rng)
        span_ns = int(np.ptp(case.trace.arrival_ns))
        plan, other = (
            replace(
                made,
                objective=replace(
                    made.objective,
                    quantile=float(rng.choice([0.5, 0.8, 0.9])),
                    per_ns=1 + int(span_ns * rng.choice([0.02, 0.1, 0.3, 0.6])),
                    share=float(rng.choice([0.6, 0.9, 1.0])),
                ),
            )
            for made in (case.plan(), variant(case, rng))
        )
        results = replay_many([plan, other], case.trace)
        for slo_ns in objectives_ns(results[0].latency_ns, results[0].objective_ns(plan.objective)):
            found = decide_many(
                [plan, other],
                case.trace,
                slo_s=slo_ns / NS_PER_S,
                quantile=None,
                settings=ReplaySettings(),
                engine=engine,
                params=VerdictParams(first_piece=int(rng.integers(1, 8))),
            )
            for judged_plan, verdict, result in zip((plan, other), found, results, strict=True):
                assert verdict.keeps == (result.objective_ns(judged_plan.objective) <= slo_ns), number
                misses = int(np.sum(result.latency_ns > slo_ns))
                assert verdict.misses_at_least <= misses <= verdict.misses_at_most
                seen["keeps" if verdict.keeps else "misses"] += 1
                seen["early"] += verdict.queries_replayed < verdict.queries
    assert min(seen[kind] for kind in ("keeps", "misses", "early")) > 20, seen


def test_a_slow_query_counts_in_its_own_window() -> None:
    """Three in a hundred go on to a second stage, 100 ms later, when others that came after them are long done."""
    tables = [LatencyTable(model, "cpu", np.array([1]), np.array([1.0])) for model in ("fast", "slow")]
    flow = Pipeline.from_document(
        {
            "name": "x",
            "slo": {"p90": "50ms", "per": "50ms"},
            "stages": {"a": {"model": "fast"}, "b": {"model": "slow"}},
            "edges": [{"from": "a", "to": "b", "delay": "100ms", "probability": 0.03}],
        }
    )
    choices = {"a": ("cpu", 1, 40), "b": ("cpu", 1, 40)}
    plan = Plan.from_choices(flow, Profiles.from_parts([Hardware("cpu", 1.0)], tables), choices, seed=2)
    trace = Trace.from_ns(np.arange(1300) * 1_000_000)
    assert replay(plan, trace).objective_ns(plan.objective) <= plan.slo_ns
    (verdict,) = replay_many([plan], trace, slo_s=plan.slo_s)
    assert verdict.keeps
