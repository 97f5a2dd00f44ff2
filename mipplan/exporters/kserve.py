"""KServe: an InferenceService per stage, an InferenceGraph where one can lead queries, HorizontalPodAutoscalers.

What the fields mean was read in the custom resource definitions and in ``cmd/router/main.go`` of KServe's public
sources: a step of a sequence whose condition is not met ends the sequence with the answer so far; an ensemble sends one
request to all its steps and joins their answers by name.
"""

from __future__ import annotations

from collections.abc import Mapping

import networkx as nx

from mipplan.core import Fault, listed
from mipplan.exporters.departures import Departure, ServingRules, departures_of
from mipplan.exporters.deployment import DeployedStage, Deployment, FlowShape, remark, service_name
from mipplan.exporters.thresholds import ScalingThresholds, scaling_thresholds
from mipplan.exporters.triton_stages import stage_config, stage_model

#: Pods hold a Triton of one replica each: one queue per pod, a hop over the network between stages.
RULES = ServingRules("KServe", is_central=False, window_ns=600_000, stagger_ns=200_000)

#: Nodes say by this label which hardware they have.
_LABEL = "mipplan/hardware"

#: A node of an InferenceGraph: its kind and its steps.
GraphNode = tuple[str, list[dict[str, str]]]

#: Stand before all sources and behind all sinks; no stage has such a name.
_START, _END = "", "\0"


class KServe:
    """``--to kserve``."""

    name = "kserve"
    title = "KServe manifests"
    rules = RULES

    def faults(self, _deployment: Deployment) -> list[Fault]:
        """Nothing keeps a plan from being written for KServe."""
        return []

    def departures(self, deployment: Deployment) -> list[Departure]:
        """What KServe does not keep of a plan."""
        found = departures_of(deployment, self.rules)
        if len(deployment.stages) == 1:
            return found
        graph = inference_nodes(deployment)
        if graph is None:
            found.append(
                Departure(
                    "graph",
                    "no InferenceGraph can lead queries through this pipeline: it has no fan-out, waits for no branch "
                    "that is not taken, and nests sequences and ensembles",
                    "The services are written, the graph is not: lead queries through the stages from outside",
                )
            )
            return found
        conditions = [name for name, edge in _conditions(deployment).items() if edge]
        if conditions:
            found.append(
                Departure(
                    "branches",
                    f"a query goes on to {listed(conditions)} if the answer before has an output of a certain name",
                    "The plan knows only how often: have the server before add that output (`to_…`, see "
                    "inference-graph.yaml)",
                )
            )
        found.append(
            Departure(
                "requests",
                "an InferenceGraph hands the answer of a step on as the next request, and an answer of the Open "
                "Inference Protocol is no request of it",
                "Stages behind others need a transformer; its time belongs in the stage's table, or in the delay of "
                "the edge",
            )
        )
        return found

    def files(self, deployment: Deployment) -> dict[str, str]:
        """Manifests, and a Triton repository for the pods of each stage."""
        thresholds = scaling_thresholds(deployment)
        documents = [_service(deployment, stage, thresholds[stage.name]) for stage in deployment.stages]
        written = {"inference-services.yaml": "---\n".join(documents)}
        graph = inference_nodes(deployment)
        if graph is not None:
            written["inference-graph.yaml"] = _graph_text(deployment, graph)
        scalers = [
            _scaler(deployment, stage, thresholds[stage.name])
            for stage in deployment.stages
            if _has_scaler(thresholds[stage.name])
        ]
        if scalers:
            written["autoscalers.yaml"] = "---\n".join(scalers)
        for stage in deployment.stages:
            model = service_name(deployment, stage)
            folder = f"repositories/{model}/{model}"
            written[f"{folder}/config.pbtxt"] = stage_config(
                deployment, stage, model, _instance_group(deployment, stage)
            )
            written[f"{folder}/1/model.py"] = stage_model(deployment, stage)
        return written

    def settings(self, stage: DeployedStage) -> str:
        """Say where a stage's figures went."""
        return f"InferenceService `…-{stage.label}`: `minReplicas`; its `config.pbtxt`: `max_batch_size`"

    def start(self, deployment: Deployment) -> str:
        """Say how to start it."""
        values = sorted(deployment.hardware_names(_label_value).values())
        labels = (f'kubectl label node NODE {_LABEL}="{value}"\n' for value in values)
        lines = "" if deployment.emulate else "".join(labels)
        first = "" if deployment.emulate else "Put your models into `repositories/*/*/1/model.py` first. "
        return f"""\
{first}Copy each folder of `repositories/` to where `storageUri` of its InferenceService says, then:

```bash
{lines}kubectl apply -f .
```

`autoscalers.yaml`, where it is there, needs an adapter that offers Prometheus metrics as `custom.metrics.k8s.io`.
KServe before 0.16 calls the deployment mode `RawDeployment` instead of `Standard`.
"""


def inference_nodes(deployment: Deployment) -> dict[str, GraphNode] | None:
    """Nest the stages into sequences and ensembles; None if there is nothing to lead, or no graph that does it.

    The node ``root`` is a sequence. Every stage is a step of exactly one node.
    """
    pipeline = deployment.plan.pipeline
    conditions = _conditions(deployment)
    if len(deployment.stages) == 1 or (deployment.shape is FlowShape.DRAWN and not conditions):
        return None
    flow: nx.DiGraph[str] = nx.DiGraph((edge.parent, edge.child) for edge in pipeline.edges)
    flow.add_edges_from((_START, source) for source in pipeline.sources)
    flow.add_edges_from((sink.name, _END) for sink in deployment.sinks)
    # Where all ways from a stage meet again first.
    meeting: Mapping[str, str] = nx.immediate_dominators(flow.reverse(copy=True), _END)
    nodes: dict[str, GraphNode] = {}
    served: set[str] = set()

    def sequence(stage: str, stop: str) -> list[dict[str, str]] | None:
        """Steps from a stage up to where ways meet; None where one has no stage, or a stage is on several of them."""
        steps: list[dict[str, str]] = []
        while stage != stop:
            if stage in served:  # ways share it before all of them meet: it would be served more than once
                return None
            if stage != _START:
                served.add(stage)
                deployed = deployment.by_name[stage]
                step = {"serviceName": service_name(deployment, deployed), "name": deployed.label}
                if conditions.get(stage):
                    step["condition"] = conditions[stage]
                steps.append(step)
            ways = list(flow.successors(stage))
            if len(ways) == 1:
                stage = ways[0]
                continue
            branches = [sequence(way, meeting[stage]) for way in ways]
            # Two hyphens, which no stage has in its label.
            node = f"behind--{deployment.by_name[stage].label}" if stage != _START else "all--entries"
            inner: list[dict[str, str]] = []
            for branch in branches:
                if not branch:
                    return None
                last = branch[-1]["name"]
                if len(branch) > 1:
                    nodes[f"to--{last}"] = ("Sequence", _handed_on(branch))
                    inner.append({"nodeName": f"to--{last}", "name": last})
                else:
                    inner.append(branch[0])
            nodes[node] = ("Ensemble", inner)
            steps.append({"nodeName": node, "name": node})
            stage = meeting[stage]
        return steps

    root = sequence(_START, _END)
    return None if root is None else {"root": ("Sequence", _handed_on(root)), **nodes}


def _handed_on(steps: list[dict[str, str]]) -> list[dict[str, str]]:
    """Give each step but the first the answer before it; the first has the request of the node."""
    return [steps[0], *({**step, "data": "$response"} for step in steps[1:])]


def _conditions(deployment: Deployment) -> dict[str, str]:
    """Conditions of the stages of a chain that some queries leave early, empty where all go on; none for others."""
    pipeline = deployment.plan.pipeline
    ways = [len(way(name)) for name in pipeline.stages for way in (pipeline.incoming, pipeline.outgoing)]
    once = all(edge.fanout.values == (1,) for edge in pipeline.edges)
    if len(pipeline.sources) > 1 or max(ways) > 1 or not once:
        return {}
    return {
        edge.child: f'outputs.#(name=="to_{deployment.by_name[edge.child].python_name}")'
        if edge.probability < 1
        else ""
        for edge in pipeline.edges
    }


def _has_scaler(thresholds: ScalingThresholds) -> bool:
    return thresholds.most > thresholds.least and thresholds.queue is not None


def _service(deployment: Deployment, stage: DeployedStage, thresholds: ScalingThresholds) -> str:
    choice, name = stage.choice, service_name(deployment, stage)
    scaled = _has_scaler(thresholds)
    head = f"Stage {stage.name} of {deployment.plan.pipeline.name}: model {stage.stage.model}, {stage.text}."
    scaler = (
        "autoscalers.yaml has the autoscaler: KServe's own goes by processor load, which says nothing of a GPU."
        if scaled
        else "No autoscaler: the plan is about exactly these replicas, and nothing says when others would do."
    )
    least = f"Replicas of the plan ({choice.replicas} {choice.hardware}), one per pod."
    most = f"At most {thresholds.most}: {thresholds.most_because}."
    batcher = "No `batcher`: KServe's waits for batches to be filled. Triton in the pod makes them at once."
    store = "Yours to replace: where this stage's folder of repositories/ was copied to."
    resources = ""
    if not deployment.emulate:
        value = deployment.hardware_names(_label_value)[choice.hardware]
        label = remark("Nodes with this hardware; see README.md for the label.", "    ")
        resources = f'{label}    nodeSelector:\n      {_LABEL}: "{value}"\n'
    device = ""
    if stage.is_gpu and not deployment.emulate:
        device = remark("A device for each replica.", "      ") + (
            '      resources:\n        limits:\n          nvidia.com/gpu: "1"\n'
        )
    return (
        remark(head)
        + "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\n"
        + f"metadata:\n  name: {name}\n  annotations:\n    serving.kserve.io/deploymentMode: Standard\n"
        + remark(scaler, "    ")
        + f"    serving.kserve.io/autoscalerClass: {'external' if scaled else 'none'}\n"
        + "spec:\n  predictor:\n"
        + remark(least, "    ")
        + f"    minReplicas: {choice.replicas}\n"
        + remark(most if scaled else "No more: see above.", "    ")
        + f"    maxReplicas: {thresholds.most if scaled else choice.replicas}\n"
        + resources
        + remark(batcher, "    ")
        + "    model:\n      modelFormat:\n        name: triton\n      protocolVersion: v2\n"
        + remark(store, "      ")
        + f"      storageUri: pvc://mipplan-models/{name}\n"
        + device
    )


def _graph_text(deployment: Deployment, nodes: Mapping[str, GraphNode]) -> str:
    head = f"Leads every query of {deployment.plan.pipeline.name} through its stages."
    text = remark(head) + "apiVersion: serving.kserve.io/v1alpha1\nkind: InferenceGraph\n"
    text += f"metadata:\n  name: {deployment.name}\nspec:\n  nodes:\n"
    for name, (kind, steps) in nodes.items():
        if kind == "Ensemble":
            text += remark("Ways that queries take at the same time, joined by name.", "    ")
        text += f"    {name}:\n      routerType: {kind}\n      steps:\n"
        for step in steps:
            target = next(key for key in ("serviceName", "nodeName") if key in step)
            if "condition" in step:
                why = "Taken by the queries whose answer so far has this output; the others end here."
                text += remark(why, "        ")
            text += f"        - {target}: {step[target]}\n          name: {step['name']}\n"
            if "condition" in step:
                text += f"          condition: '{step['condition']}'\n"
            if "data" in step:
                text += f"          data: {step['data']}\n"
    return text


def _scaler(deployment: Deployment, stage: DeployedStage, thresholds: ScalingThresholds) -> str:
    name = service_name(deployment, stage)
    least = "Replicas of the plan: never fewer, as its certificate is about them."
    return (
        "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\n"
        f"metadata:\n  name: {name}-queue\nspec:\n"
        f"  scaleTargetRef:\n    apiVersion: apps/v1\n    kind: Deployment\n    name: {name}-predictor\n"
        + remark(least, "  ")
        + f"  minReplicas: {thresholds.least}\n"
        + remark(f"At most {thresholds.most}: {thresholds.most_because}.", "  ")
        + f"  maxReplicas: {thresholds.most}\n  metrics:\n    - type: Pods\n      pods:\n        metric:\n"
        + remark("Triton's own: requests that wait in the pod.", "          ")
        + "          name: nv_inference_pending_request_count\n        target:\n          type: AverageValue\n"
        + remark(thresholds.queue_text(stage), "          ")
        + f'          averageValue: "{thresholds.queue}"\n'
    )


def _instance_group(deployment: Deployment, stage: DeployedStage) -> str:
    kind = "KIND_GPU" if stage.is_gpu and not deployment.emulate else "KIND_CPU"
    text = f"One replica per pod; the InferenceService has the plan's {stage.choice.replicas} {stage.choice.hardware}."
    return remark(text) + f"instance_group [ {{ kind: {kind} count: 1 }} ]\n"


def _label_value(hardware: str) -> str:
    """Write a hardware type as the value of a label: letters, digits, ``-``, ``_`` and ``.``, at most 63."""
    signs = (sign if sign.isascii() and (sign.isalnum() or sign in "-_.") else "-" for sign in hardware)
    return "".join(signs)[:63].strip("-_.") or "hardware"
