"""The sharp certificate where one can say by hand what it must be: late times, many replicas, joins, what is wait."""

from __future__ import annotations

from itertools import pairwise
from types import MappingProxyType

import networkx as nx
import numpy as np
import pytest

from mipplan.calculus import StageArrivals, StageBounds, bound_stage
from mipplan.certificate import SharpEvaluator, StageSetting
from mipplan.core import InputError
from mipplan.pipeline import DispatchLaw, Pipeline
from mipplan.result import CriticalStage, RunClass
from mipplan.tokens import Messages, StageTokens, Workload, realise
from mipplan.trace import Trace

WAYS = [pytest.param(False, id="numpy"), pytest.param(True, id="numba")]


def bounded(
    arrival_ns: list[int],
    service_ns: list[int],
    replicas: int,
    overtakers: int = 0,
    law: DispatchLaw = DispatchLaw.EAGER,
    *,
    is_compiled: bool,
) -> StageBounds:
    """Bound the tokens of a stage behind others, each of which arrives at one known time."""
    times, count = np.array(arrival_ns, dtype=np.int64), len(arrival_ns)
    given = StageArrivals(times, times, np.arange(count), np.full(count, overtakers))
    return bound_stage(given, np.array(service_ns), replicas, False, RunClass(), law, is_compiled=is_compiled)


def evaluator_of(tokens: dict[str, dict[str, tuple[list[int], list[int]]]], merging: str) -> SharpEvaluator:
    """Two queries at one instant: of each stage, by parent, which tokens send and which of its two tokens receive."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    for name, messages in tokens.items():
        graph.add_node(
            name, model=name, **({"join": "all" if name == merging else "each"} if messages else {})
        )
    graph.add_edges_from((parent, name) for name, messages in tokens.items() for parent in messages)
    pipeline = Pipeline(graph)
    stages = {}
    for name, messages in tokens.items():
        sent = [
            Messages(edge, *(np.array(ends, dtype=np.int64) for ends in messages[edge.parent]))
            for edge in pipeline.incoming(name)
        ]
        stages[name] = StageTokens(name, np.arange(2), tuple(sent), 2)
    workload = Workload(pipeline, np.zeros(2, dtype=np.int64), 0, MappingProxyType(stages))
    return SharpEvaluator(workload, RunClass(least_service=1.0), is_compiled=False)


@pytest.mark.parametrize("is_compiled", WAYS)
def test_times_are_refused_from_where_sums_might_leave_int64(is_compiled: bool) -> None:
    """Five tokens for two replicas: two periods and those begun, and two of the slowest batches, end before 2⁶¹ ns."""
    last_ns, second = 2**61 - 6 * 10**9 - 1, 10**9
    found = bounded([last_ns] * 5, [second], 2, is_compiled=is_compiled)
    assert (found.latest_dispatch_ns - last_ns).tolist() == [0, 0, second, second, 2 * second]
    with pytest.raises(InputError, match="century"):
        bounded([last_ns + 1] * 5, [second], 2, is_compiled=is_compiled)


@pytest.mark.parametrize("is_compiled", WAYS)
@pytest.mark.parametrize("replicas", [4096, 1_000_000_000])
def test_among_very_many_replicas_no_token_waits(is_compiled: bool, replicas: int) -> None:
    """What it takes must not grow with the batches that they could serve: here that would be terabytes."""
    found = bounded([7, 7, 7], [*range(10, 74)], replicas, is_compiled=is_compiled)
    assert found.latest_dispatch_ns.tolist() == [7, 7, 7]
    assert found.latest_exit_ns.tolist() == [19, 19, 19]


@pytest.mark.parametrize("is_compiled", WAYS)
def test_a_lone_paced_replica_is_bounded_as_an_eager_one(is_compiled: bool) -> None:
    """The younger comes first, and nothing is known of order: here the rules of paced stages would give less."""
    paced, eager = (
        bounded([1, 0], [3], 1, overtakers=-1, law=law, is_compiled=is_compiled).latest_exit_ns.tolist()
        for law in (DispatchLaw.PACED, DispatchLaw.EAGER)
    )
    assert paced == eager


def test_a_token_waits_no_longer_than_until_its_own_dispatch() -> None:
    """Two at 0 and one at 2, for two replicas: the pair leaves at 6 if together, as the third does by itself."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node("a", model="a")
    evaluator = SharpEvaluator(realise(Pipeline(graph), Trace.from_ns([0, 0, 2])), RunClass())
    bounds = evaluator.bound({"a": StageSetting(np.array([4, 6]), 2)})
    assert bounds["a"].tokens.latest_exit_ns.tolist() == [6, 6, 6]
    assert evaluator.critical_path(bounds, 0) == (CriticalStage("a", 6, 0, 0),)


def test_order_at_a_join_is_unknown_if_it_is_along_one_of_its_edges() -> None:
    """Behind `a` one token may pass, behind `either`, whose tokens come along different edges, any number."""
    alone, both = ([0, 1], [0, 1]), {"one": ([0], [0]), "other": ([1], [1])}
    settings = {
        "a": StageSetting(np.array([2, 4]), 2),
        **{name: StageSetting(np.array([5]), 1) for name in ("one", "other", "either", "join")},
    }
    for inflow, expected in (({"a": alone}, [1, 1]), ({"a": alone, "either": alone}, [-1, -1])):
        tokens = {"a": {}, "one": {}, "other": {}, "either": both, "join": inflow}
        bounds = evaluator_of(tokens, "join").bound(settings)
        assert bounds["join"].arrivals.overtakers.tolist() == expected


def test_order_at_a_join_is_unknown_where_as_many_messages_as_tokens_are_not_one_each() -> None:
    """Along the edge from `a` the first token gets two messages, and the second none."""
    tokens = {"a": {}, "b": {}, "join": {"a": ([0, 0], [0, 0]), "b": ([0, 1], [0, 1])}}
    settings = {name: StageSetting(np.array([5]), 1) for name in tokens}
    bounds = evaluator_of(tokens, "join").bound(settings)
    assert bounds["join"].arrivals.overtakers.tolist() == [-1, -1]


def test_who_may_overtake_is_counted_beyond_int64() -> None:
    """Two queries down eight stages; of the tokens of each the first makes 1,024: so many times as many each time.

    The seventh power of that is 2⁷⁰. In int64 it was 0, as if the order were kept.
    """
    names, copies = [f"s{number}" for number in range(9)], 1024
    graph: nx.DiGraph[str] = nx.DiGraph()
    for name in names:
        graph.add_node(name, model="m")
    graph.add_edges_from(pairwise(names), fanout={"values": [1, copies], "weights": [1, 1]})
    pipeline = Pipeline(graph)
    stages = {names[0]: StageTokens(names[0], np.arange(2), (), 2)}
    for name in names[1:]:
        (edge,) = pipeline.incoming(name)
        firsts = np.array([0, stages[edge.parent].count // 2])
        messages = Messages(edge, np.repeat(firsts, copies), np.arange(2 * copies))
        stages[name] = StageTokens(name, np.repeat(np.arange(2), copies), (messages,), 2)
    workload = Workload(pipeline, np.array([0, 5]), 0, MappingProxyType(stages))
    evaluator = SharpEvaluator(workload, RunClass(least_service=0.5), is_compiled=False)
    single = StageSetting(np.array([10]), 1)
    bounds = evaluator.bound(dict.fromkeys(names, single) | {names[0]: StageSetting(np.array([10]), 3)})
    assert (bounds[names[0]].arrivals.overtakers == 0).all()
    for name in names[1:]:
        assert (bounds[name].arrivals.overtakers >= 2 * copies).all(), name
