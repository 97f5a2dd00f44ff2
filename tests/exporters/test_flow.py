"""The way of a query through the stages, as an export takes it along."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mipplan.exporters.runtime.mipplan_flow import Flow, FlowEdge, Message
from mipplan.pipeline import Join, Pipeline
from random_pipelines import Case, cases


def flow_of(pipeline: Pipeline) -> Flow:
    merges = {
        name: bool(pipeline.incoming(name)) and pipeline.stages[name].join is Join.ALL
        for name in pipeline.topological_order
    }
    return Flow(merges, [FlowEdge(edge.parent, edge.child) for edge in pipeline.edges])


def tokens_by_hand(pipeline: Pipeline, copies: Mapping[tuple[str, str], int]) -> dict[str, int]:
    """Count tokens stage by stage: each of those sent, or one of all of them."""
    tokens: dict[str, int] = {}
    for name in pipeline.topological_order:
        edges = pipeline.incoming(name)
        sent = sum(tokens[edge.parent] * copies[edge.parent, edge.child] for edge in edges)
        tokens[name] = 1 if not edges else min(1, sent) if pipeline.stages[name].join is Join.ALL else sent
    return tokens


@settings(max_examples=60, deadline=None)
@given(
    case=cases(max_stages=5, max_arrivals=3), numbers=st.lists(st.integers(0, 2), min_size=15, max_size=15)
)
def test_stages_serve_the_tokens_of_the_serving_model(case: Case, numbers: list[int]) -> None:
    pipeline = case.pipeline
    arcs = [(edge.parent, edge.child) for edge in pipeline.edges]
    copies = dict(zip(arcs, (numbers * len(arcs))[: len(arcs)], strict=True))
    served: Counter[str] = Counter()
    order: list[str] = []

    async def infer(stage: str, messages: list[Message]) -> str:
        served[stage] += 1
        parents = {edge.parent for edge in pipeline.incoming(stage)}
        assert {sender for sender, _ in messages} <= (parents or {""})
        await asyncio.sleep(0)
        order.append(stage)
        return stage

    ends = asyncio.run(flow_of(pipeline).run("query", infer, lambda edge, _: copies[edge.parent, edge.child]))
    expected = tokens_by_hand(pipeline, copies)
    assert {name: served[name] for name in expected} == expected
    for name in expected:
        if pipeline.stages[name].join is Join.ALL and pipeline.incoming(name) and served[name]:
            for edge in pipeline.incoming(name):
                last = max((i for i, stage in enumerate(order) if stage == edge.parent), default=-1)
                assert last < order.index(name)
    # An answer that made no further token ends its way.
    left = {
        name: all(copies[edge.parent, edge.child] == 0 for edge in pipeline.outgoing(name))
        for name in expected
    }
    assert Counter(stage for stage, _ in ends) == +Counter(
        {name: expected[name] for name in expected if left[name]}
    )


def test_a_merged_token_has_all_messages() -> None:
    flow = Flow(
        {"a": False, "b": False, "c": True}, [FlowEdge("a", "b"), FlowEdge("a", "c"), FlowEdge("b", "c")]
    )

    async def infer(stage: str, messages: list[Message]) -> Any:
        return stage, sorted(sender for sender, _ in messages)

    ends = asyncio.run(flow.run(0, infer, lambda edge, _: 2))
    assert ends == [("c", ("c", ["a", "a", "b", "b", "b", "b"]))]


def test_a_failure_ends_the_query_and_cancels_the_rest() -> None:
    flow = Flow({"a": False, "b": False, "c": False}, [FlowEdge("a", "b"), FlowEdge("a", "c")])
    cancelled = []

    async def infer(stage: str, messages: list[Message]) -> str:
        if stage == "b":
            raise ValueError("no model")
        if stage == "c":
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.append(stage)
                raise
        return stage

    with pytest.raises(ValueError, match="no model"):
        asyncio.run(flow.run(0, infer, lambda edge, _: 1))
    assert cancelled == ["c"]


@pytest.mark.parametrize(
    ("edge", "mean"),
    [
        (FlowEdge("a", "b", 0.3), 0.3),
        (FlowEdge("a", "b", 0.5, (0, 2, 5), (0.2, 0.5, 0.3)), 1.25),
        (FlowEdge("a", "b", 1.0, poisson_mean=2.6), 2.6),
    ],
)
def test_draws_have_the_mean_that_the_plan_assumes(edge: FlowEdge, mean: float) -> None:
    random_numbers = random.Random(1)
    drawn = [edge.draw(random_numbers) for _ in range(4_000)]
    assert np.mean(drawn) == pytest.approx(mean, rel=0.1)


def test_every_token_gets_a_part_of_its_own() -> None:
    flow = Flow({"a": False, "b": False, "c": True}, [FlowEdge("a", "b"), FlowEdge("b", "c")])
    seen: list[tuple[str, list[Message]]] = []

    async def infer(stage: str, messages: list[Message]) -> str:
        seen.append((stage, messages))
        return "+".join(answer for _, answer in messages)

    def copies(edge: FlowEdge, answer: str) -> int | list[str]:
        return answer.split() if edge.child == "b" else 1

    assert asyncio.run(flow.run("to be", infer, copies)) == [("c", "to+be")]
    assert seen[1:3] == [("b", [("a", "to")]), ("b", [("a", "be")])]


@pytest.mark.parametrize(
    "count", [2, np.int64(2), np.count_nonzero([1, 1]), np.bool_(True), np.int64(0), False]
)
def test_counts_may_be_those_of_numpy(count: Any) -> None:
    async def infer(stage: str, _messages: list[Message]) -> str:
        return stage

    flow = Flow({"a": False, "b": False}, [FlowEdge("a", "b")])
    ends = asyncio.run(flow.run("query", infer, lambda _edge, _answer: count))
    assert ends == ([("b", "b")] * int(count) or [("a", "a")])
