"""Outputs of a batch that go on one after another: every engine against the event loop, and what that changes."""

from __future__ import annotations

from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from campaigns import campaign_size
from chunked_replays import RESUMING, check_pieces, random_settings, variant
from mipplan.core import InputError
from mipplan.pipeline import Discipline, DispatchLaw, Pipeline
from mipplan.profiles import Hardware, LatencyTable, Profiles
from mipplan.replayer import (
    ENGINES,
    NEVER,
    Engine,
    EngineFeature,
    ReplicaSchedule,
    ServiceNoise,
    replay,
    replay_many,
    replay_stream,
)
from mipplan.replayer.engines import plain
from mipplan.result import BatchAssignment, Plan, RunClass
from mipplan.trace import Trace
from oracle_paced import PacedLoop
from oracle_replay import SlowReplay, SlowSchedule, slow_noise
from oracle_tokens import slow_tokens
from random_pipelines import Case, cases, random_case, random_noise, random_schedules, staggered
from random_tasks import random_task

INSTALLED = [engine for engine in ENGINES.values() if engine.missing() is None]


def two_stages(first: list[int], second: list[int], replicas: tuple[int, int], **stage: str) -> Plan:
    """A chain of two, from ℓ(1), …, ℓ(b) in ns."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node("a", model="a", **stage)
    graph.add_node("b", model="b")
    graph.add_edge("a", "b", delay="5ns")
    tables = [
        LatencyTable(name, "h", np.arange(len(times)) + 1, np.array(times) * 1e-6)
        for name, times in (("a", first), ("b", second))
    ]
    choices = {"a": ("h", len(first), replicas[0]), "b": ("h", len(second), replicas[1])}
    profiles = Profiles.from_parts([Hardware("h", 1.0)], tables)
    return Plan.from_choices(Pipeline(graph), profiles, choices, slo_s=1.0)


# ------------------------------------------------------------------------------------------- by hand


@pytest.mark.parametrize("engine", INSTALLED, ids=lambda engine: engine.name)
def test_by_hand(engine: Engine) -> None:
    """Two queries at once leave a as one batch at 10; their outputs reach b at 15, or at 15 and 16."""
    plan, trace = two_stages([9, 10], [20, 30], (1, 2)), Trace.from_ns([0, 0])
    together = replay(plan, trace, engine=engine.name)
    assert together.latency_ns.tolist() == [45, 45]
    apart = replay(plan, trace, engine=engine.name, stagger_s=1e-9)
    assert apart.stages["a"].exit_ns.tolist() == [10, 10]
    assert apart.stages["b"].arrival_ns.tolist() == [15, 16]
    assert apart.latency_ns.tolist() == [35, 36]


@pytest.mark.parametrize("engine", INSTALLED, ids=lambda engine: engine.name)
def test_outputs_go_on_in_the_order_of_the_batch(engine: Engine) -> None:
    """At b, token 1 arrives before token 0: a batch of both sends 0 first under oldest first, 1 first under fifo."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    for name in "abc":
        graph.add_node(name, model=name)
    graph.add_edges_from([("a", "b"), ("b", "c")])
    tables = [
        LatencyTable(name, "h", [1, 2, 3][: len(times)], np.array(times) * 1e-6)
        for name, times in (("a", [10, 30, 12]), ("b", [40, 40, 40]), ("c", [1]))
    ]
    choices = {"a": ("h", 3, 2), "b": ("h", 3, 1), "c": ("h", 1, 9)}
    plan = Plan.from_choices(
        Pipeline(graph), Profiles.from_parts([Hardware("h", 1.0)], tables), choices, slo_s=1.0
    )
    # Queries 0 and 1 are served as two until 30, query 2 alone from 1 to 11; then 3 from 2 … on.
    trace = Trace.from_ns([0, 0, 1, 12])
    seen = {
        discipline: replay(plan, trace, discipline=discipline, engine=engine.name, stagger_s={"b": 7e-9})
        for discipline in ("oldest_first", "fifo")
    }
    for result in seen.values():
        assert result.stages["b"].arrival_ns.tolist() == [30, 30, 11, 22]
        assert result.stages["b"].exit_ns.tolist() == [91, 91, 51, 91]
    assert seen["oldest_first"].stages["c"].arrival_ns.tolist() == [91, 98, 51, 105]
    assert seen["fifo"].stages["c"].arrival_ns.tolist() == [98, 105, 51, 91]


def test_nothing_is_apart_where_batches_are_of_one_or_no_stage_follows() -> None:
    rng = np.random.default_rng(71)
    for number in range(60):
        case = random_case(rng)
        single = case._replace(choices={stage: (h, 1, n) for stage, (h, _, n) in case.choices.items()})
        last = {stage: 0.5 for stage in case.pipeline.stages if not case.pipeline.outgoing(stage)}
        for plan, stagger_s in ((single.plan(), 1e-9), (case.plan(), last)):
            plainly = replay(plan, case.trace)
            assert np.array_equal(
                replay(plan, case.trace, stagger_s=stagger_s).latency_ns, plainly.latency_ns
            )
        assert number or last


# ------------------------------------------------------------------------------------------- the event loop


def slowly(
    case: Case,
    discipline: Discipline,
    seed: int,
    schedules: dict[str, ReplicaSchedule],
    noise: ServiceNoise | None,
    laws: dict[str, str],
    stagger_ns: dict[str, int],
) -> SlowReplay:
    """Run the event loop."""
    tokens = slow_tokens(case.pipeline, len(case.trace), seed)
    batch_time = None
    if noise is not None:
        assert noise.factors is not None
        noise_seed = seed if noise.seed is None else noise.seed
        batch_time = slow_noise(tokens, case.service_ns(), noise.factors.tolist(), noise_seed)
    return PacedLoop(
        tokens,
        case.ingress_ns(),
        case.service_ns(),
        case.replicas(),
        discipline.value,
        schedules={
            stage: SlowSchedule(schedule.change_ns.tolist(), schedule.replicas.tolist(), schedule.delay_ns)
            for stage, schedule in schedules.items()
        },
        batch_time=batch_time,
        paced=frozenset(stage for stage, law in laws.items() if law == "paced"),
        stagger=stagger_ns,
    ).run()


def check(case: Case, discipline: Discipline, seed: int, rng: np.random.Generator) -> bool:
    """All engines give the event loop's times; whether the stagger mattered."""
    case = staggered(rng, case)
    laws = {stage: str(rng.choice(["eager", "eager", "paced"])) for stage in case.pipeline.stages}
    plan = Plan.from_choices(case.pipeline, case.profiles, case.choices, slo_s=1.0, seed=seed, dispatch=laws)
    schedules = random_schedules(rng, case) if rng.random() < 0.3 else {}
    noise = random_noise(rng) if rng.random() < 0.3 else None
    stagger_ns = case.pipeline.staggers_ns(plan.laws)
    expected = slowly(case, discipline, seed, schedules, noise, laws, stagger_ns)
    for engine in INSTALLED:
        made = replay(
            plan,
            case.trace,
            discipline=discipline.value,
            engine=engine.name,
            schedule=schedules,
            noise=noise,
        )
        assert made.latency_ns.tolist() == expected.latency, engine.name
        for stage, seen in made.stages.items():
            tokens = range(seen.tokens)
            assert seen.arrival_ns.tolist() == [expected.arrival[stage][token] for token in tokens]
            assert seen.exit_ns.tolist() == [expected.exit[stage][token] for token in tokens]
    at_once = replay(
        plan, case.trace, discipline=discipline.value, schedule=schedules, noise=noise, stagger_s=0
    )
    return at_once.latency_ns.tolist() != expected.latency


def test_engines_equal_the_event_loop() -> None:
    count, mattered = campaign_size(quick=60, deep=10_000), 0
    for number in range(count):
        rng = np.random.default_rng([72, number])
        discipline = list(Discipline)[number % 2]
        mattered += check(random_case(rng), discipline, number, rng)
    assert mattered > count / 4


@given(cases(max_stages=4, max_arrivals=12), st.sampled_from(Discipline), st.integers(0, 2**32))
@examples(max_examples=campaign_size(quick=50, deep=2_000))
def test_engines_equal_the_event_loop_on_cases_that_hypothesis_picks(
    case: Case, discipline: Discipline, seed: int
) -> None:
    check(case, discipline, seed, np.random.default_rng(seed))


@pytest.mark.parametrize("engine", INSTALLED, ids=lambda engine: engine.name)
def test_engines_hold_the_tokens_of_a_batch_in_its_order(engine: Engine) -> None:
    """So that outputs are in order whatever engine made the batches: lanes, pieces and closed forms, too."""
    rng = np.random.default_rng(73)
    able = tuple(feature for feature in engine.features if feature is not EngineFeature.PACED)
    for number in range(campaign_size(quick=150, deep=10_000)):
        task = random_task(rng, features=able, most_tokens=int(rng.choice([10, 60, 400])))
        alike = [replace(task, capacity=task.capacity) for _ in range(1 + 9 * (number % 3 == 0))]
        expected = plain.serve(task)
        for made in engine.serve_many(alike):
            sent_ns = made.sent_ns(3, fifo=task.fifo)
            assert sent_ns.tolist() == expected.sent_ns(3, fifo=task.fifo).tolist(), number


def test_what_is_left_waiting_is_never_sent() -> None:
    assigned = BatchAssignment(4, np.array([2, 0, 3]), np.array([5, 9]), np.array([2, 1]), np.array([10, 10]))
    assert assigned.exit_ns.tolist() == [15, NEVER, 15, 19]
    assert assigned.sent_ns(4, fifo=True).tolist() == [19, NEVER, 15, 19]
    assert assigned.sent_ns(4, fifo=False).tolist() == [15, NEVER, 19, 19]
    assert assigned.sent_ns(0, fifo=True) is assigned.exit_ns


# ------------------------------------------------------------------------------------------- in pieces, and verdicts


@given(
    case=cases(max_arrivals=40),
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    discipline=st.sampled_from(Discipline),
    engine=st.sampled_from(RESUMING),
    seed=st.integers(0, 2**32),
)
@examples(max_examples=campaign_size(quick=50, deep=2_000))
def test_pieces_equal_the_whole(
    case: Case, sizes: list[int], discipline: Discipline, engine: Engine, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    given_s = {stage: ns / 1e9 for stage, ns in staggered(rng, case).stagger_ns().items()}
    plans = [case.plan(), variant(case, rng), variant(case, rng)]
    settings = replace(random_settings(case, discipline, engine, rng), stagger_s=given_s)
    check_pieces(plans, case, sizes, settings=settings, engine=engine, seed=seed)


def test_streams_and_verdicts_are_staggered_too() -> None:
    for number in range(40):
        rng = np.random.default_rng([74, number])
        case = staggered(rng, random_case(rng))
        plan, whole = case.plan(), replay(case.plan(), case.trace)
        assert replay_stream(plan, case.trace, chunk=3).latency_sum_ns == whole.latency_ns.sum()
        other_s = float(rng.choice([0, 3e-9]))
        streamed = replay_stream(plan, case.trace, chunk=3, stagger_s=other_s)
        assert streamed.latency_sum_ns == replay(plan, case.trace, stagger_s=other_s).latency_ns.sum()
        slo_ns = max(1, whole.quantile_ns(0.5) - int(rng.integers(2)))
        (verdict,) = replay_many([plan], case.trace, slo_s=slo_ns / 1e9, quantile=0.5)
        assert verdict.keeps == (whole.quantile_ns(0.5) <= slo_ns)


# ------------------------------------------------------------------------------------------- what is said of it


def test_the_pipeline_says_it_of_eager_stages_and_a_stage_of_itself() -> None:
    graph = two_stages([9, 10], [20, 30], (1, 2)).pipeline.graph
    everywhere = Pipeline(graph, stagger_s=2e-9)
    assert everywhere.staggers_ns() == {"a": 2, "b": 0}, "nothing follows b"
    assert everywhere.staggers_ns(everywhere.laws("paced")) == {"a": 0, "b": 0}
    own = two_stages([9, 10], [20, 30], (1, 2), stagger="3ns").pipeline
    for law in DispatchLaw:
        assert own.staggers_ns(own.laws(law)) == {"a": 3, "b": 0}
        assert own.staggers_ns(own.laws(law), 0) == {"a": 0, "b": 0}
        assert own.staggers_ns(own.laws(law), {"b": 1e-9}) == {"a": 3, "b": 0}
        assert everywhere.staggered({"a": 5e-9}).staggers_ns(own.laws(law)) == {"a": 5, "b": 0}


def test_without_a_stagger_all_is_as_it_was() -> None:
    """Same arrays, whether nothing is said, or nothing at all is between outputs."""
    for number in range(40):
        rng = np.random.default_rng([75, number])
        case = random_case(rng)
        for engine in INSTALLED:
            now = replay(case.plan(), case.trace, engine=engine.name)
            for other in (
                replay(case.plan(), case.trace, engine=engine.name, stagger_s=0),
                replay(staggered(rng, case).plan(), case.trace, engine=engine.name, stagger_s=0.0),
            ):
                for stage, seen in now.stages.items():
                    assert np.array_equal(seen.exit_ns, other.stages[stage].exit_ns)
                    assert np.array_equal(seen.batch_size, other.stages[stage].batch_size)


def test_whether_the_certificate_applies() -> None:
    plan, trace = two_stages([9, 10], [20, 30], (1, 2), stagger="4ns"), Trace.from_ns([0, 0])
    for stagger_s, applies in ((None, True), (0, True), (3e-9, True), (5e-9, False)):
        assert replay(plan, trace, stagger_s=stagger_s).certificate_applies == applies
        # Timed runs are exactly as planned, or not the replay.
        timed = replay(plan, trace, stagger_s=stagger_s, dispatch="timed").certificate_applies
        assert not timed, "the plan is eager"
    timed_plan = replace(plan, objective=plan.objective.under(plan.pipeline.laws("timed")))
    for stagger_s, applies in ((None, True), (4e-9, True), (0, False), (5e-9, False)):
        assert replay(timed_plan, trace, stagger_s=stagger_s).certificate_applies == applies


def test_a_sharp_certificate_takes_the_order_of_outputs_for_granted() -> None:
    """Batches that take half of their time are covered, unless that is less than their outputs need."""
    plan, trace = two_stages([8, 10], [20, 30], (1, 2), stagger="5ns"), Trace.from_ns([0, 0])
    noise = ServiceNoise.uniform(0.5, 1.0)
    sharp = replace(plan, objective=replace(plan.objective, runs=RunClass(0.5)))
    assert replay(plan, trace, noise=noise).certificate_applies
    assert not replay(sharp, trace, noise=noise).certificate_applies
    assert replay(sharp, trace, noise=noise, stagger_s=4e-9).certificate_applies
    assert replay(sharp, trace, noise=ServiceNoise.uniform(0.8, 1.0)).certificate_applies
    # Where not even the table allows for it, nothing is taken for granted.
    slow = replace(sharp, pipeline=sharp.pipeline.staggered(9e-9))
    assert replay(slow, trace, noise=noise).certificate_applies


@pytest.mark.parametrize(
    ("given_s", "place", "message"),
    [
        pytest.param(-1e-9, "stagger_s", "expected seconds from 0 to 1", id="negative"),
        pytest.param(2.0, "stagger_s", "expected seconds from 0 to 1", id="too long"),
        pytest.param("1us", "stagger_s", "expected seconds from 0 to 1", id="text"),
        pytest.param({"a": None}, "stagger_s.a", "expected seconds from 0 to 1", id="nothing"),
        pytest.param({"c": 0}, "stagger_s.c", "there is no such stage; the stages are a, b", id="stage"),
    ],
)
def test_bad_staggers_are_refused(given_s: object, place: str, message: str) -> None:
    plan, trace = two_stages([9, 10], [20, 30], (1, 2)), Trace.from_ns([0, 0])
    for run in (replay, replay_stream):
        with pytest.raises(InputError) as caught:
            run(plan, trace, stagger_s=given_s, engine="nope")  # type: ignore[operator]
        faults = {fault.place: fault.message for fault in caught.value.faults}
        assert message in faults[place]
        assert "engine" in faults, "all faults at once"
