from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mipplan.core import InputError
from mipplan.pipeline import Edge, FanOut, Join, Pipeline, Stage

VIDEO = """\
name: video-monitoring
slo: 300ms
stages:
  decode:   {model: preprocess}
  detect:   {model: ssd, hardware: [t4, a100]}
  identify: {model: resnet50, replicas: {min: 2}}
  plates:   {model: ocr, batch: [1, 4]}
  merge:    {model: postprocess, join: all}
edges:
  - {from: decode, to: detect, delay: 1ms}
  - {from: detect, to: identify, fanout: 2.6}
  - {from: detect, to: plates, probability: 0.4}
  - {from: identify, to: merge}
  - {from: plates, to: merge}
"""


@pytest.fixture
def video(tmp_path: Path) -> Pipeline:
    path = tmp_path / "video.yaml"
    path.write_text(VIDEO)
    return Pipeline.read(path)


def test_stages(video: Pipeline) -> None:
    assert list(video.stages) == ["decode", "detect", "identify", "plates", "merge"]
    assert video.stages["decode"] == Stage("decode", "preprocess")
    assert video.stages["detect"].hardware == ("t4", "a100")
    assert video.stages["identify"].replicas_min == 2
    assert video.stages["plates"].batch_sizes == (1, 4)
    assert video.stages["merge"].join is Join.ALL


def test_edges_keep_the_order_of_the_file(video: Pipeline) -> None:
    assert video.edges == (
        Edge("decode", "detect", delay_ns=1_000_000),
        Edge("detect", "identify", fanout=FanOut.constant(2.6)),
        Edge("detect", "plates", probability=0.4),
        Edge("identify", "merge"),
        Edge("plates", "merge"),
    )
    assert [edge.parent for edge in video.incoming("merge")] == ["identify", "plates"]
    assert [edge.child for edge in video.outgoing("detect")] == ["identify", "plates"]


def test_objective_sources_and_order(video: Pipeline) -> None:
    assert (video.slo_s, video.slo_ns) == (0.3, 300_000_000)
    assert video.sources == ("decode",)
    assert video.topological_order == ("decode", "detect", "identify", "plates", "merge")


def test_the_file_form_is_kept(video: Pipeline) -> None:
    assert video.to_document() == yaml.safe_load(VIDEO)
    assert video.graph.edges["decode", "detect"]["delay"] == "1ms"
    assert video.graph.nodes["detect"]["hardware"] == ["t4", "a100"]


def test_document_is_json_and_reads_back_equal(video: Pipeline) -> None:
    again = Pipeline.from_document(json.loads(json.dumps(video.to_document())))
    assert again == video
    assert hash(again) == hash(video)
    assert again.to_document() == video.to_document()
    assert pickle.loads(pickle.dumps(video)) == video


def test_spelling_does_not_matter_for_equality() -> None:
    stages = {"a": {"model": "m", "hardware": "t4", "batch": 4, "replicas": {"min": 2, "max": 2}}}
    plainly = {"a": {"model": "m", "hardware": ["t4"], "batch": [4], "replicas": 2, "join": "each"}}
    one = Pipeline.from_document({"stages": stages, "slo": "0.3s"})
    other = Pipeline.from_document({"stages": plainly, "slo": "300ms", "edges": []})
    assert one == other
    assert one != dataclasses.replace(one, slo_s=0.4)
    assert one != "pipeline"


def test_edge_order_survives_where_networkx_groups_by_parent() -> None:
    edges = [("b", "d"), ("a", "d"), ("b", "c"), ("a", "c"), ("c", "d")]
    document = {
        "stages": {name: {"model": "m"} for name in "abcd"},
        "edges": [{"from": parent, "to": child} for parent, child in edges],
    }
    pipeline = Pipeline.from_document(document)
    assert list(pipeline.graph.edges) != edges  # so the order must be kept somewhere else
    for variant in (
        pipeline,
        dataclasses.replace(pipeline, slo_s=0.1),
        Pipeline.from_document(pipeline.to_document()),
        Pipeline(pipeline.graph),
        pickle.loads(pickle.dumps(pipeline)),
    ):
        assert [(edge.parent, edge.child) for edge in variant.edges] == edges


def test_edges_changed_in_a_copied_graph_are_followed(video: Pipeline) -> None:
    graph = nx.DiGraph(video.graph)
    graph.remove_edge("detect", "plates")
    graph.add_edge("decode", "plates")
    arcs = [(edge.parent, edge.child) for edge in Pipeline(graph).edges]
    assert arcs == [
        ("decode", "detect"),
        ("detect", "identify"),
        ("identify", "merge"),
        ("plates", "merge"),
        ("decode", "plates"),
    ]


def test_graph_made_in_python() -> None:
    graph = nx.DiGraph()
    graph.add_node("a", model="m", hardware=("t4",), batch=np.int64(4))
    graph.add_node("b", model="n", batch={"min": 2, "max": 8}, replicas={"max": 3}, join="all")
    graph.add_edge("a", "b", delay="2us", probability=np.float64(0.5), fanout={"poisson": 1.5})
    pipeline = Pipeline(graph=graph, slo_s=0.25, name="mine")
    assert pipeline.stages["a"].batch_sizes == (4,)
    b = pipeline.stages["b"]
    assert (b.batch_min, b.batch_max, b.replicas_min, b.replicas_max, b.join) == (2, 8, 1, 3, Join.ALL)
    assert [b.allows_batch(cap) for cap in (1, 2, 8, 9)] == [False, True, True, False]
    assert pipeline.edges == (Edge("a", "b", 2_000, 0.5, FanOut.poisson(1.5)),)
    assert Pipeline.from_document(pipeline.to_document()) == pipeline


def test_graph_is_copied_and_frozen() -> None:
    graph = nx.DiGraph()
    graph.add_node("a", model="m", hardware=["t4"])
    pipeline = Pipeline(graph)
    graph.nodes["a"]["hardware"].append("a100")
    graph.add_node("b", model="m")
    assert pipeline.graph.nodes["a"]["hardware"] == ["t4"]
    assert list(pipeline.stages) == ["a"]
    with pytest.raises(nx.NetworkXError, match="Frozen"):
        pipeline.graph.add_node("c")
    with pytest.raises(dataclasses.FrozenInstanceError):
        pipeline.slo_s = 1.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        pipeline.stages["b"] = Stage("b", "m")  # type: ignore[index]


def test_join_defaults_to_all_only_where_edges_merge() -> None:
    stages: dict[str, Any] = {name: {"model": "m"} for name in "abcd"}
    stages["d"]["join"] = "each"
    edges = [
        {"from": "a", "to": "c"},
        {"from": "b", "to": "c"},
        {"from": "a", "to": "d"},
        {"from": "b", "to": "d"},
    ]
    pipeline = Pipeline.from_document({"stages": stages, "edges": edges})
    assert [stage.join for stage in pipeline.stages.values()] == [Join.EACH, Join.EACH, Join.ALL, Join.EACH]
    assert pipeline.sources == ("a", "b")


def test_topological_order_is_stable() -> None:
    stages = {name: {"model": "m"} for name in ("z", "last", "y", "x")}
    edges = [{"from": "x", "to": "last"}, {"from": "z", "to": "last"}]
    assert Pipeline.from_document({"stages": stages, "edges": edges}).topological_order == (
        "z",
        "y",
        "x",
        "last",
    )


@pytest.mark.parametrize("slo_s", [0, -1, float("nan"), float("inf"), True, "300ms", "0.3", 1e-12, 10**400])
def test_unusable_objective(slo_s: float) -> None:
    graph = nx.DiGraph()
    graph.add_node("a", model="m")
    with pytest.raises(InputError, match="slo_s: expected a positive number of seconds"):
        Pipeline(graph, slo_s=slo_s)


@pytest.mark.parametrize("graph", [None, nx.Graph(), nx.MultiDiGraph(), {"a": 1}])
def test_only_plain_directed_graphs(graph: Any) -> None:
    with pytest.raises(InputError, match=r"expected a networkx.DiGraph"):
        Pipeline(graph)


def test_arguments_are_judged_together() -> None:
    with pytest.raises(InputError) as caught:
        Pipeline(None, slo_s=-1, name="")  # type: ignore[arg-type]
    assert [fault.place for fault in caught.value.faults] == ["graph", "slo_s", "name"]


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    name = st.text("abcé-_ ", min_size=1, max_size=4).filter(lambda text: text == text.strip())
    names = draw(st.lists(name, unique=True, min_size=1, max_size=5))
    count = st.integers(1, 64)
    stage = st.fixed_dictionaries(
        {"model": st.sampled_from(["m", "n"])},
        optional={
            "hardware": st.sampled_from(["t4", ["t4", "a100"]]),
            "batch": count | st.lists(count, unique=True, min_size=1, max_size=3) | st.just({"min": 2}),
            "replicas": count | st.just({"min": 2, "max": 5}) | st.just({"max": 5}),
            "join": st.sampled_from(["each", "all"]),
        },
    )
    weights = st.lists(st.floats(0.01, 9), min_size=3, max_size=3)
    edge = st.fixed_dictionaries(
        {},
        optional={
            "delay": st.integers(0, 10**12).map(lambda ns: f"{ns}ns"),
            "probability": st.floats(0, 1, exclude_min=True),
            "fanout": st.floats(0.1, 100)
            | st.integers(1, 9)
            | st.builds(lambda mean: {"poisson": mean}, st.floats(0.1, 9))
            | weights.map(lambda parts: {"values": [0, 2, 5], "weights": parts}),
        },
    )
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    return {
        "name": "random",
        "slo": draw(st.integers(1, 10**12).map(lambda ns: f"{ns}ns")),
        "stages": {name: draw(stage) for name in draw(st.permutations(names))},
        "edges": [{"from": parent, "to": child, **draw(edge)} for parent, child in chosen],
    }


@given(documents())
def test_any_pipeline_reads_back_exactly(document: dict[str, Any]) -> None:
    pipeline = Pipeline.from_document(document)
    written = pipeline.to_document()
    again = Pipeline.from_document(
        yaml.safe_load(yaml.safe_dump(written, sort_keys=False, allow_unicode=True))
    )
    assert again == pipeline
    assert (dict(again.stages), again.edges, again.slo_ns) == (
        dict(pipeline.stages),
        pipeline.edges,
        pipeline.slo_ns,
    )
    assert again.to_document() == written
    assert list(pipeline.stages) == list(document["stages"])
    assert [(e.parent, e.child) for e in pipeline.edges] == [(e["from"], e["to"]) for e in document["edges"]]
    rank = {name: position for position, name in enumerate(pipeline.topological_order)}
    assert all(rank[edge.parent] < rank[edge.child] for edge in pipeline.edges)
    replaced = dataclasses.replace(pipeline, slo_s=None)
    assert replaced.edges == pipeline.edges
