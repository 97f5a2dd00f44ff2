"""KServe and KEDA: fields and types as their resource definitions have them, graphs run, thresholds checked."""

from __future__ import annotations

import math
import os
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import jsonschema
import kubernetes_validate
import numpy as np
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

import mipplan as mp
from export_plans import CHOICES, diamond, random_plans, shipped_plan, with_trace
from kubernetes_definitions import CRDS, check_resource
from mipplan.certificate import plan_services
from mipplan.exporters import TARGETS, Deployment, FlowShape, inference_nodes, scaling_thresholds
from random_pipelines import random_case

NAME = {"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}
COUNT = {"type": "integer", "minimum": 1}


def record(required: str, **properties: Any) -> dict[str, Any]:
    """A mapping with these fields and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


def resource(version: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    """A resource: what the API server looks at first."""
    strings = {"type": "object", "additionalProperties": {"type": "string"}}
    metadata = record("name", name=NAME, annotations=strings, labels=strings)
    return record(
        "apiVersion kind metadata spec",
        apiVersion={"const": version},
        kind={"const": kind},
        metadata=metadata,
        spec=spec,
    )


TARGET = record("name", apiVersion={"const": "apps/v1"}, kind={"const": "Deployment"}, name=NAME)
STEP = {
    **record(
        "name",
        name=NAME,
        serviceName=NAME,
        nodeName=NAME,
        data={"const": "$response"},
        condition={"type": "string", "minLength": 1},
    ),
    "oneOf": [{"required": ["serviceName"]}, {"required": ["nodeName"]}],
}
#: The fields that exports use, with the types of the resource definitions of KServe, Kubernetes and KEDA.
SCHEMAS = {
    "InferenceService": resource(
        "serving.kserve.io/v1beta1",
        "InferenceService",
        record(
            "predictor",
            predictor=record(
                "model minReplicas maxReplicas",
                minReplicas=COUNT,
                maxReplicas=COUNT,
                nodeSelector={"type": "object", "additionalProperties": {"type": "string", "maxLength": 63}},
                model=record(
                    "modelFormat",
                    modelFormat=record("name", name={"type": "string"}),
                    protocolVersion={"enum": ["v1", "v2", "grpc-v2"]},
                    storageUri={"type": "string", "pattern": "^pvc://"},
                    resources=record(
                        "limits", limits={"type": "object", "additionalProperties": {"type": "string"}}
                    ),
                ),
            ),
        ),
    ),
    "InferenceGraph": resource(
        "serving.kserve.io/v1alpha1",
        "InferenceGraph",
        record(
            "nodes",
            nodes={
                "type": "object",
                "required": ["root"],
                "additionalProperties": record(
                    "routerType steps",
                    routerType={"enum": ["Sequence", "Splitter", "Ensemble", "Switch"]},
                    steps={"type": "array", "items": STEP, "minItems": 1},
                ),
            },
        ),
    ),
    "HorizontalPodAutoscaler": resource(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        record(
            "scaleTargetRef minReplicas maxReplicas metrics",
            scaleTargetRef=TARGET,
            minReplicas=COUNT,
            maxReplicas=COUNT,
            metrics={
                "type": "array",
                "items": record(
                    "type pods",
                    type={"const": "Pods"},
                    pods=record(
                        "metric target",
                        metric=record("name", name={"type": "string"}),
                        target=record(
                            "type averageValue",
                            type={"const": "AverageValue"},
                            averageValue={"type": "string", "pattern": "^[0-9]+$"},
                        ),
                    ),
                ),
            },
        ),
    ),
    "ScaledObject": resource(
        "keda.sh/v1alpha1",
        "ScaledObject",
        record(
            "scaleTargetRef triggers",
            scaleTargetRef=TARGET,
            pollingInterval=COUNT,
            minReplicaCount=COUNT,
            maxReplicaCount=COUNT,
            triggers={
                "type": "array",
                "minItems": 1,
                "items": record(
                    "type metadata",
                    type={"const": "prometheus"},
                    name={"type": "string"},
                    metricType={"enum": ["AverageValue", "Value"]},
                    metadata=record(
                        "serverAddress query threshold",
                        serverAddress={"type": "string"},
                        query={"type": "string"},
                        threshold={"type": "string", "pattern": r"^[0-9.e+-]+$"},
                    ),
                ),
            },
        ),
    ),
}


def documents(target: str, plan: mp.Plan, *, emulate: bool = False) -> list[dict[str, Any]]:
    """All resources of an export, checked."""
    found = []
    for path, text in TARGETS[target].files(Deployment(plan, emulate)).items():
        if path.endswith(".yaml"):
            found += list(yaml.safe_load_all(text))
    for document in found:
        jsonschema.validate(document, SCHEMAS[document["kind"]])
        check_resource(document)
    names = [(document["kind"], document["metadata"]["name"]) for document in found]
    assert len(names) == len(set(names))
    return found


def of_kind(found: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [document for document in found if document["kind"] == kind]


def test_definitions_refuse_what_they_do_not_name() -> None:
    """What the checks of `documents` would tell, if there were anything to tell."""
    (scaler, *_) = of_kind(documents("kserve", shipped_plan("image-processing")), "HorizontalPodAutoscaler")
    scaler["spec"]["maxReplica"] = scaler["spec"].pop("maxReplicas")
    with pytest.raises(kubernetes_validate.ValidationError, match="maxReplica"):
        check_resource(scaler)
    if CRDS not in os.environ:
        pytest.skip(f"{CRDS} names no folder with the definitions of KServe and KEDA")
    (scaled, *_) = of_kind(documents("keda", shipped_plan("image-processing")), "ScaledObject")
    assert check_resource(scaled)
    scaled["spec"]["triggers"][0]["treshold"] = "1"
    with pytest.raises(AssertionError, match="treshold"):
        check_resource(scaled)


@pytest.mark.parametrize("emulate", [False, True])
@pytest.mark.parametrize("name", CHOICES)
def test_services_are_what_the_plan_says(name: str, emulate: bool) -> None:
    plan = shipped_plan(name)
    found = documents("kserve", plan, emulate=emulate)
    services = of_kind(found, "InferenceService")
    scaled = {document["metadata"]["name"] for document in of_kind(found, "HorizontalPodAutoscaler")}
    for service, stage in zip(services, Deployment(plan).stages, strict=True):
        choice, predictor = plan.choices[stage.name], service["spec"]["predictor"]
        assert predictor["minReplicas"] == choice.replicas <= predictor["maxReplicas"]
        has_scaler = f"{service['metadata']['name']}-queue" in scaled
        scaler = service["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"]
        assert scaler == ("external" if has_scaler else "none")
        limits = predictor["model"].get("resources", {}).get("limits", {})
        assert limits == ({} if emulate or choice.hardware == "cpu" else {"nvidia.com/gpu": "1"})
        selected = None if emulate else {"mipplan/hardware": choice.hardware}
        assert predictor.get("nodeSelector") == selected
        # One replica per pod, with the cap of the plan.
        model = service["metadata"]["name"]
        text = TARGETS["kserve"].files(Deployment(plan))[f"repositories/{model}/{model}/config.pbtxt"]
        assert f"\nmax_batch_size: {choice.batch}\n" in text
        assert " count: 1 " in text


def run_graph(nodes: dict[str, Any], node: str, taken: set[str], served: list[str], request: Any) -> Any:
    """Lead a query as KServe's router does; a request is the set of stages that it holds the answers of."""
    kind, steps = nodes[node]["routerType"], nodes[node]["steps"]
    answers: dict[str, Any] = {}
    answer = request
    for step in steps:
        if "condition" in step and step["name"] not in taken:
            return answer
        given = answer if step.get("data") == "$response" else request
        if "nodeName" in step:
            made = run_graph(nodes, step["nodeName"], taken, served, given)
        else:
            served.append(step["name"])
            made = frozenset({step["name"]}) | given
        if kind == "Ensemble":
            answers[step["name"]] = made
        else:
            answer = made
    return frozenset().union(*answers.values()) if kind == "Ensemble" else answer


def certain(plan: mp.Plan) -> mp.Plan:
    """The same stages and edges where every query visits every stage once."""
    document = plan.pipeline.to_document()
    document["edges"] = [{"from": edge["from"], "to": edge["to"]} for edge in document["edges"]]
    for stage in document["stages"].values():
        stage.pop("join", None)
    pipeline = mp.Pipeline.from_document(document)
    return mp.Plan.from_choices(pipeline, plan.profiles, dict(plan.choices), slo_s=1.0)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1))
@example(seed=475758807)  # two ways share a stage, and meet only at the end
def test_graphs_serve_every_stage_once_behind_its_parents(seed: int) -> None:
    plan = certain(random_case(np.random.default_rng(seed), max_arrivals=2).plan())
    deployment = Deployment(plan)
    assert deployment.shape is not FlowShape.DRAWN
    graphs = of_kind(documents("kserve", plan), "InferenceGraph")
    assert bool(graphs) == (inference_nodes(deployment) is not None)
    if deployment.shape is FlowShape.CHAIN and len(deployment.stages) > 1:
        assert graphs
    for graph in graphs:
        nodes, served = graph["spec"]["nodes"], []
        answer = run_graph(nodes, "root", set(), served, frozenset())
        labels = {stage.name: stage.label for stage in deployment.stages}
        assert Counter(served) == Counter(labels.values())
        for edge in plan.pipeline.edges:
            assert served.index(labels[edge.parent]) < served.index(labels[edge.child])
        assert answer >= {stage.label for stage in deployment.sinks}


def test_a_diamond_is_an_ensemble_in_a_sequence() -> None:
    (graph,) = of_kind(documents("kserve", diamond()), "InferenceGraph")
    kinds = {name: node["routerType"] for name, node in graph["spec"]["nodes"].items()}
    assert kinds == {"root": "Sequence", "behind--first": "Ensemble"}


def test_names_of_nodes_and_words_of_yaml_stay_apart() -> None:
    """A stage called entry once had the node of the pipeline's own entry, which led to itself then."""
    arcs = [("entry", "on"), ("entry", "null"), ("on", "off"), ("null", "off"), ("off", "no"), ("yes", "no")]
    pipeline = mp.Pipeline.from_document(
        {
            "slo": "1s",
            "stages": {name: {"model": "resnet50"} for name in ("entry", "on", "null", "off", "yes", "no")},
            "edges": [{"from": one, "to": other} for one, other in arcs],
        }
    )
    plan = mp.Plan.from_choices(pipeline, mp.Profiles.default(), dict.fromkeys(pipeline.stages, ("t4", 2, 1)))
    graph = yaml.safe_load(TARGETS["kserve"].files(Deployment(plan))["inference-graph.yaml"])
    jsonschema.validate(graph, SCHEMAS["InferenceGraph"])
    check_resource(graph)
    steps = [step for node in graph["spec"]["nodes"].values() for step in node["steps"]]
    assert sorted(step["nodeName"] for step in steps if "nodeName" in step) == sorted(
        graph["spec"]["nodes"].keys() - {"root"}
    )


def test_stages_that_are_called_as_what_kserve_or_the_export_makes_stay_apart() -> None:
    """Of a stage `a` there is `a-predictor`; behind `c` was a node `behind-c`, and one that led to it `to-behind-c`."""
    names = ("a-predictor", "a", "behind-c", "c", "d", "e")
    arcs = [("a-predictor", "a"), ("a", "behind-c"), ("a-predictor", "c"), ("c", "d"), ("c", "e")]
    pipeline = mp.Pipeline.from_document(
        {
            "slo": "1s",
            "stages": {name: {"model": "resnet50"} for name in names},
            "edges": [{"from": one, "to": other} for one, other in arcs],
        }
    )
    plan = mp.Plan.from_choices(pipeline, mp.Profiles.default(), dict.fromkeys(names, ("t4", 2, 1)))
    services = [one["metadata"]["name"] for one in of_kind(documents("kserve", plan), "InferenceService")]
    assert len({form for name in services for form in (name, f"{name}-predictor")}) == 2 * len(names)
    (graph,) = of_kind(documents("kserve", plan), "InferenceGraph")
    served: list[str] = []
    run_graph(graph["spec"]["nodes"], "root", set(), served, frozenset())
    assert Counter(served) == Counter(stage.label for stage in Deployment(plan).stages)


def test_nodes_of_two_types_have_two_labels() -> None:
    profiles = mp.Profiles.default()
    kinds = ("T 4", "T-4", "検", "検出")
    known = [replace(profiles.hardware["t4"], name=kind) for kind in kinds]
    tables = [replace(profiles.table("resnet50", "t4"), hardware=kind) for kind in kinds]  # type: ignore[type-var]
    pipeline = mp.Pipeline.from_document(
        {
            "slo": "1s",
            "stages": {kind: {"model": "resnet50"} for kind in kinds},
            "edges": [{"from": one, "to": other} for one, other in pairwise(kinds)],
        }
    )
    plan = mp.Plan.from_choices(
        pipeline, mp.Profiles.from_parts(known, tables), {kind: (kind, 2, 1) for kind in kinds}
    )
    services = of_kind(documents("kserve", plan), "InferenceService")
    selected = [one["spec"]["predictor"]["nodeSelector"]["mipplan/hardware"] for one in services]
    assert selected == ["T-4-2", "T-4", "hardware", "hardware-2"]
    for value in selected:
        assert f'mipplan/hardware="{value}"' in TARGETS["kserve"].start(Deployment(plan))


def test_a_cascade_ends_early_where_the_answer_says_so() -> None:
    plan = shipped_plan("cascade")
    (graph,) = of_kind(documents("kserve", plan), "InferenceGraph")
    nodes = graph["spec"]["nodes"]
    assert [step.get("condition") for step in nodes["root"]["steps"]] == [
        None,
        None,
        'outputs.#(name=="to_slow")',
    ]
    for taken, expected in ((set(), 2), ({"slow"}, 3)):
        served: list[str] = []
        run_graph(nodes, "root", taken, served, frozenset())
        assert len(served) == expected


@pytest.mark.parametrize("name", ["social-media", "video-monitoring"])
def test_what_no_graph_can_lead_is_said(name: str) -> None:
    plan = shipped_plan(name)
    assert of_kind(documents("kserve", plan), "InferenceGraph") == []
    told = {one.subject for one in TARGETS["kserve"].departures(Deployment(plan))}
    assert "graph" in told


def longest_through(plan: mp.Plan, stage: str) -> int:
    """The longest path through a stage, T and delays, by looking at all of them."""
    services, pipeline = plan_services(plan), plan.pipeline

    def down(name: str) -> int:
        ways = [edge.delay_ns + down(edge.child) for edge in pipeline.outgoing(name)]
        return services[name].latency_ns + max(ways, default=0)

    def up(name: str) -> int:
        ways = [edge.delay_ns + up(edge.parent) for edge in pipeline.incoming(name)]
        return services[name].latency_ns + max(ways, default=0)

    return down(stage) + up(stage) - services[stage].latency_ns


PLANNED = shipped_plan("video-monitoring")


@example(queries=15, span_ns=1)
@given(queries=st.integers(2, 10**6), span_ns=st.integers(1, 10**15))
def test_the_planned_rate_asks_for_the_planned_replicas(queries: int, span_ns: int) -> None:
    """However large or small it is: 15 queries in 1 ns were once asked to be served by one replica more."""
    deployment = Deployment(with_trace(PLANNED, queries=queries, span_ns=span_ns))
    for stage in deployment.stages:
        rate_rps = scaling_thresholds(deployment)[stage.name].rate_rps
        assert stage.rate_rps is not None
        assert rate_rps is not None
        assert math.ceil(stage.rate_rps / rate_rps) == PLANNED.choices[stage.name].replicas


@settings(max_examples=60)
@given(plan=random_plans(), slo_ns=st.integers(10, 10**6))
def test_thresholds_ask_for_the_plan_at_its_own_traffic(plan: mp.Plan, slo_ns: int) -> None:
    plan = plan.with_slo(slo_ns)
    deployment = Deployment(plan)
    services = plan_services(plan)
    for stage in deployment.stages:
        found = scaling_thresholds(deployment)[stage.name]
        replicas = plan.choices[stage.name].replicas
        assert found.least == replicas <= found.most
        if stage.rate_rps:
            assert found.rate_rps is not None
            assert math.ceil(stage.rate_rps / found.rate_rps) == replicas
        # So many may wait that the longest path still keeps the objective by the bound, and not one more per replica.
        service = services[stage.name]

        def bound_ns(queue: int, stage_name: str = stage.name, replicas: int = replicas) -> Fraction:
            wait_ns = Fraction(queue * replicas * services[stage_name].period_ns, services[stage_name].tokens)
            return longest_through(plan, stage_name) + wait_ns

        if found.queue is None:
            assert bound_ns(1) > slo_ns
        elif service.period_ns:
            assert bound_ns(found.queue) <= slo_ns < bound_ns(found.queue + 1)


@pytest.mark.parametrize("name", CHOICES)
def test_scaled_objects_have_the_thresholds(name: str) -> None:
    plan = shipped_plan(name)
    deployment = Deployment(plan)
    thresholds = scaling_thresholds(deployment)
    found = of_kind(documents("keda", plan), "ScaledObject")
    scaled = [stage for stage in deployment.stages if thresholds[stage.name].scales]
    for document, stage in zip(found, scaled, strict=True):
        spec, expected = document["spec"], thresholds[stage.name]
        assert spec["scaleTargetRef"]["name"] == f"{deployment.name}-{stage.label}-predictor"
        assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (expected.least, expected.most)
        triggers = {trigger["name"]: float(trigger["metadata"]["threshold"]) for trigger in spec["triggers"]}
        wanted = {"rate": expected.rate_rps, "queue": expected.queue}
        assert triggers == {key: value for key, value in wanted.items() if value is not None}


def test_limits_on_replicas_are_kept() -> None:
    plan = shipped_plan("cascade")
    assert scaling_thresholds(Deployment(plan))["fast"].most == 4
    document = plan.pipeline.to_document()
    document["stages"]["fast"]["replicas"] = {"max": 7}
    pipeline = mp.Pipeline.from_document(document)
    hardware = dict(plan.profiles.hardware)
    hardware["v100"] = replace(hardware["v100"], limit=1)
    limited = replace(plan, pipeline=pipeline, profiles=replace(plan.profiles, hardware=hardware))
    found = scaling_thresholds(Deployment(limited))
    assert {name: one.most for name, one in found.items()} == {"preprocess": 6, "fast": 7, "slow": 1}
    assert [
        one.what for one in TARGETS["keda"].departures(Deployment(limited)) if one.subject == "fixed"
    ] == ["slow stays at 1 replicas"]


def test_nothing_to_scale_is_refused_with_every_reason() -> None:
    plan = shipped_plan("cascade")
    document = plan.pipeline.to_document()
    for stage, choice in plan.choices.items():
        document["stages"][stage]["replicas"] = choice.replicas
    pinned = replace(plan, pipeline=mp.Pipeline.from_document(document))
    assert [str(fault) for fault in TARGETS["keda"].faults(Deployment(pinned))] == [
        f"cascade: stage {stage}: nothing to scale: no more than {choice.replicas} replicas are allowed "
        "(`replicas` in the pipeline file)"
        for stage, choice in plan.choices.items()
    ]
