from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from mipplan.core import InputError, NoPlanError
from mipplan.pipeline import Pipeline
from mipplan.profiles import Hardware, LatencyTable, Profiles
from mipplan.replayer import ENGINES, Discipline, replay, replay_many
from mipplan.result import Objective, Plan
from mipplan.trace import Trace
from oracle_replay import EventLoop
from oracle_tokens import slow_tokens
from random_pipelines import random_case

pytestmark = pytest.mark.parametrize("engine", ENGINES)
Choices = dict[str, tuple[list[int], int]]


def pipeline(stages: list[str], edges: dict[tuple[str, str], dict[str, object]], **joins: str) -> Pipeline:
    graph: nx.DiGraph[str] = nx.DiGraph()
    for stage in stages:
        graph.add_node(stage, model=stage, **({"join": joins[stage]} if stage in joins else {}))
    graph.add_edges_from((parent, child, attributes) for (parent, child), attributes in edges.items())
    return Pipeline(graph)


def plan(flow: Pipeline, choices: Choices, seed: int = 0) -> Plan:
    """Plan from (ℓ(1), …, ℓ(b) in ns, replicas) per stage."""
    tables = [
        LatencyTable(stage, "h", np.arange(len(service)) + 1, np.array(service) * 1e-6)
        for stage, (service, _) in choices.items()
    ]
    profiles = Profiles.from_parts([Hardware("h", 1.0)], tables)
    made = {stage: ("h", len(service), replicas) for stage, (service, replicas) in choices.items()}
    return Plan.from_choices(flow, profiles, made, slo_s=1.0, seed=seed)


def lone(service: list[int], replicas: int) -> Plan:
    return plan(pipeline(["a"], {}), {"a": (service, replicas)})


# ------------------------------------------------------------------------------------------- one stage


def test_idle_replicas_share_what_waits(engine: str) -> None:
    """By hand: n = 2, b = 2, ℓ = (1, 1.5) s, four arrivals at 5 s all leave at 6.5 s."""
    seconds = 10**9
    result = replay(lone([seconds, 3 * seconds // 2], 2), Trace.from_ns([5 * seconds] * 4), engine=engine)
    stage = result.stages["a"]
    assert stage.exit_ns.tolist() == [6.5 * seconds] * 4
    assert stage.batch_size.tolist() == [2, 2]
    assert result.quantile(0.99) == 1.5


def test_no_batch_waits_to_be_filled(engine: str) -> None:
    stage = replay(lone([10, 11], 1), Trace.from_ns([0, 1, 2, 3]), engine=engine).stages["a"]
    assert stage.batch_start_ns.tolist() == [0, 10, 21]
    assert stage.batch_size.tolist() == [1, 2, 1]
    assert stage.batch_service_ns.tolist() == [10, 11, 10]
    assert stage.dispatch_ns.tolist() == [0, 10, 10, 21]


def test_arrival_at_the_instant_of_a_completion_joins_the_batch(engine: str) -> None:
    stage = replay(lone([10, 12], 1), Trace.from_ns([0, 5, 10]), engine=engine).stages["a"]
    assert stage.batch_size.tolist() == [1, 2]
    assert stage.exit_ns.tolist() == [10, 22, 22]


def test_arrivals_of_one_instant_go_together(engine: str) -> None:
    """Not: the first alone, because a replica idles."""
    stage = replay(lone([10, 12, 13], 1), Trace.from_ns([7, 7, 7]), engine=engine).stages["a"]
    assert stage.batch_size.tolist() == [3]


def test_faster_service_can_make_a_query_later(engine: str) -> None:
    """A batching anomaly: at 9 ns the replica no longer meets the arrival at 10."""
    trace = Trace.from_ns([0, 1, 10])
    slow = replay(lone([10, 12], 1), trace, engine=engine)
    fast = replay(lone([9, 12], 1), trace, engine=engine)
    assert slow.latency_ns.tolist() == [10, 21, 12]
    assert fast.latency_ns.tolist() == [9, 17, 17]


def test_more_replicas_than_tokens(engine: str) -> None:
    stage = replay(lone([10], 1_000_000), Trace.from_ns([0, 0, 3]), engine=engine).stages["a"]
    assert stage.exit_ns.tolist() == [10, 10, 13]
    assert stage.replicas == 1_000_000


def test_figures_of_a_stage(engine: str) -> None:
    stage = replay(lone([10, 14], 2), Trace.from_ns([0, 0, 0, 4]), engine=engine).stages["a"]
    # {0, 1} at 0–14, {2} at 0–10, {3} at 10–20; 14 + 10 + 10 of 2·20 busy.
    assert stage.tokens == 4
    assert stage.mean_batch == pytest.approx(4 / 3)
    assert stage.max_wait_s == pytest.approx(6e-9)
    assert stage.mean_wait_s == pytest.approx(1.5e-9)
    assert stage.utilisation == pytest.approx(34 / 40)


# ------------------------------------------------------------------------------------------ several stages


def test_parents_of_one_instant_arrive_before_anything_is_dispatched(engine: str) -> None:
    """Both copies reach c at 5, one straight, one over b: one batch."""
    flow = pipeline(["a", "b", "c"], {("a", "b"): {}, ("b", "c"): {}, ("a", "c"): {"delay": "3ns"}}, c="each")
    judged = plan(flow, {"a": ([2], 2), "b": ([3], 2), "c": ([7, 8], 2)})
    result = replay(judged, Trace.from_ns([0, 100]), engine=engine)
    assert result.stages["c"].batch_size.tolist() == [2, 2]
    assert result.latency_ns.tolist() == [13, 13]


def test_join_waits_for_the_last(engine: str) -> None:
    flow = pipeline(
        ["a", "b", "c", "d"],
        {
            ("a", "b"): {"fanout": 2},
            ("a", "c"): {"delay": "1ns"},
            ("b", "d"): {"delay": "4ns"},
            ("c", "d"): {},
        },
    )
    judged = plan(flow, {"a": ([1], 1), "b": ([10], 1), "c": ([5], 1), "d": ([2], 1)})
    # a until 1; b serves its two until 11 and 21, hop until 25; c until 7; d from 25 to 27.
    result = replay(judged, Trace.from_ns([0, 1000]), engine=engine)
    assert result.latency_ns.tolist() == [27, 27]
    assert result.stages["d"].arrival_ns.tolist() == [25, 1025]


def test_latency_ends_with_the_last_branch_even_off_the_main_path(engine: str) -> None:
    flow = pipeline(["a", "side", "main"], {("a", "side"): {}, ("a", "main"): {}})
    judged = plan(flow, {"a": ([1], 1), "side": ([50], 2), "main": ([2], 1)})
    assert replay(judged, Trace.from_ns([0, 9]), engine=engine).latency_ns.tolist() == [51, 51]


def test_disciplines_differ_where_tokens_overtake(engine: str) -> None:
    """Query 0 comes back to c at 20, when query 1 has waited since 12."""
    flow = pipeline(
        ["a", "b", "c"], {("a", "b"): {"delay": "10ns"}, ("a", "c"): {}, ("b", "c"): {}}, c="each"
    )
    judged = plan(flow, {"a": ([1], 1), "b": ([9], 9), "c": ([30], 1)})
    trace = Trace.from_ns([0, 11])
    starts = {
        rule: replay(judged, trace, discipline=rule, engine=engine).stages["c"].dispatch_ns.tolist()
        for rule in Discipline
    }
    # Tokens of c: query 0 straight (at 1) and over b (at 20), query 1 straight (at 12) and over b (at 31).
    assert starts == {"oldest_first": [1, 31, 61, 91], "fifo": [1, 61, 31, 91]}


def test_reference_pipeline(engine: str) -> None:
    """The reference pipeline at small size: ℓ(k) = a + c·k ms, fifo; equal to the event loop in whole ns."""
    shape = {"decode": (10, 2, 8, 4), "detect": (20, 5, 4, 11), "merge": (5, 1, 16, 2)}
    names = list(shape)
    flow = pipeline(names, {(names[0], names[1]): {}, (names[1], names[2]): {}})
    choices: Choices = {
        stage: ([(a + c * k) * 10**6 for k in range(1, b + 1)], n) for stage, (a, c, b, n) in shape.items()
    }
    judged = plan(flow, choices)
    trace = Trace.gamma(rate_rps=900, cv=2, duration_s=2, seed=1)
    loop = EventLoop(
        slow_tokens(flow, len(trace), 0),
        trace.arrival_ns.tolist(),
        {stage: service for stage, (service, _) in choices.items()},
        {stage: n for stage, (_, n) in choices.items()},
        "fifo",
    ).run()
    result = replay(judged, trace, discipline="fifo", engine=engine)
    assert len(trace) > 1_500
    assert result.latency_ns.tolist() == loop.latency
    for stage, batches in loop.batches.items():
        assert result.stages[stage].batch_size.tolist() == [len(batch.tokens) for batch in batches]
    assert len({len(batch.tokens) for batch in loop.batches["decode"]}) > 3


def test_stage_without_tokens(engine: str) -> None:
    flow = pipeline(["a", "b"], {("a", "b"): {"probability": 1e-12}})
    result = replay(plan(flow, {"a": ([5], 1), "b": ([5, 6], 2)}), Trace.from_ns([0, 9]), engine=engine)
    stage = result.stages["b"]
    assert result.latency_ns.tolist() == [5, 5]
    assert (stage.tokens, stage.mean_batch, stage.mean_wait_s, stage.max_wait_s, stage.utilisation) == (
        0,
        0,
        0,
        0,
        0,
    )
    assert stage.batch_start_ns.size == stage.batch_size.size == stage.batch_service_ns.size == 0


# ------------------------------------------------------------------------------------------ the interface


def branching() -> Pipeline:
    return pipeline(["a", "b"], {("a", "b"): {"probability": 0.5}})


def test_seed_is_the_plans_unless_given(engine: str) -> None:
    trace = Trace.from_ns(np.arange(50) * 100)
    choices: Choices = {"a": ([5], 1), "b": ([5], 1)}
    latencies = {seed: replay(plan(branching(), choices, seed), trace, engine=engine) for seed in (0, 1)}
    assert latencies[0].latency_ns.tolist() != latencies[1].latency_ns.tolist()
    assert latencies[1].seed == 1
    given = replay(plan(branching(), choices, 0), trace, engine=engine, seed=1)
    assert given.latency_ns.tolist() == latencies[1].latency_ns.tolist()


def test_many_plans_replay_as_each_would_alone(engine: str) -> None:
    """Also where pipeline, seed and choices alternate, so that no workload is shared by mistake."""
    trace = Trace.from_ns(np.arange(60) * 7)
    plans = [case.plan(seed=seed) for seed in (3, 4, 3) for case in map(random_case, _generators())]
    plans += [plan(branching(), {"a": ([k], k), "b": ([3, 4], 1)}, seed=k // 3) for k in range(1, 6)]
    together = replay_many(iter(plans), trace, discipline="fifo", engine=engine)
    for one, result in zip(plans, together, strict=True):
        alone = replay(one, trace, discipline="fifo", engine=engine)
        assert result.latency_ns.tolist() == alone.latency_ns.tolist()
        assert (result.seed, result.discipline) == (one.seed, "fifo")


def _generators() -> list[np.random.Generator]:
    return [np.random.default_rng([61, number]) for number in range(4)]


def test_result_is_read_only(engine: str) -> None:
    result = replay(lone([3], 1), Trace.from_ns([0, 1]), engine=engine)
    stage = result.stages["a"]
    for array in (result.latency_ns, stage.arrival_ns, stage.exit_ns, stage.batch_size):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"discipline": "lifo"}, "discipline: expected one of oldest_first, fifo, found 'lifo'"),
        ({"engine": "fortran"}, "engine: expected one of auto.*found 'fortran'"),
        ({"seed": -1}, "seed"),
    ],
)
def test_unknown_option_is_refused(engine: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replay(lone([3], 1), Trace.from_ns([0, 1]), **{"engine": engine, **options})  # type: ignore[arg-type]


def test_options_are_keywords(engine: str) -> None:
    with pytest.raises(TypeError, match="positional"):
        replay(lone([3], 1), Trace.from_ns([0, 1]), "fifo", engine)  # type: ignore[call-arg]


def test_plan_without_choices_is_refused(engine: str) -> None:
    empty = Plan(pipeline(["a"], {}), Profiles.from_parts([], []), Objective(10**9), reason="too slow")
    with pytest.raises(NoPlanError, match="too slow"):
        replay(empty, Trace.from_ns([0, 1]), engine=engine)
