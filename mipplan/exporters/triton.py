"""Triton: a model repository with a model per stage, and an ensemble or a script (BLS) that leads queries through them.

What the server does was read in ``dynamic_batch_scheduler.cc``, ``ensemble_utils.cc`` and ``pb_stub.cc`` of its public
sources. One central queue per model, fifo; a payload grows until an instance takes it; ensembles send on the outputs of
a batch one after another.
"""

from __future__ import annotations

import math
from importlib.resources import files as resource_files
from string import Template

from mipplan.core import Fault
from mipplan.exporters.departures import Departure, ServingRules, departures_of, several_machines
from mipplan.exporters.deployment import DeployedStage, Deployment, FlowShape, quoted, remark
from mipplan.exporters.triton_stages import stage_config, stage_inputs, stage_model, tensor_list, tensor_text
from mipplan.pipeline import Edge

#: Every instance of a script is a process: no more than 64, because each takes some 50 MB.
_MOST_INSTANCES = 64

RULES = ServingRules("Triton", window_ns=600_000, stagger_ns=200_000)

_SCRIPT = Template('''\
"""$pipeline as a whole (business logic scripting): leads every query through its stages.

`copies` and `merge` are yours to replace: the plan knows how often a branch is taken, your data which query takes it.
"""

import asyncio
import random

import triton_python_backend_utils as pb_utils
from mipplan_flow import Flow, FlowEdge

# Stage, Triton model, and whether it makes one token of all that a query sends to it.
STAGES = {
$stages}
# With a probability a token of the first stage makes tokens of the second: how many, with which weights.
EDGES = [
$edges]


class TritonPythonModel:
    """The pipeline."""

    def initialize(self, args):
        """Set up the flow; draws differ from instance to instance."""
        self.flow = Flow({stage: merges for stage, (model, merges) in STAGES.items()}, EDGES)
        self.random_numbers = random.Random()

    def copies(self, edge, answer):
        """Say how many tokens of edge.child an answer makes (or list what each gets): drawn, as the plan assumes."""
        return edge.draw(self.random_numbers)

    def merge(self, stage, messages):
        """Make the input of a stage of what was sent to it, (sender, array) each: the first of them."""
        return messages[0][1]

    async def infer(self, stage, messages):
        """Have a token served by the model of its stage."""
        request = pb_utils.InferenceRequest(
            model_name=STAGES[stage][0],
            requested_output_names=["OUTPUT"],
            inputs=[pb_utils.Tensor("INPUT", self.merge(stage, messages))],
        )
        response = await request.async_exec()
        if response.has_error():
            raise pb_utils.TritonModelException(response.error().message())
        return pb_utils.get_output_tensor_by_name(response, "OUTPUT").as_numpy()

    async def respond(self, request):
        """Serve one query; its answer is that of the token that was done last."""
        query = pb_utils.get_input_tensor_by_name(request, "INPUT").as_numpy()
        try:
            ends = await self.flow.run(query, self.infer, self.copies)
        except pb_utils.TritonModelException as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", ends[-1][1])])

    async def execute(self, requests):
        """Serve queries at the same time."""
        return await asyncio.gather(*(self.respond(request) for request in requests))
''')


class Triton:
    """``--to triton``."""

    name = "triton"
    title = "Triton model repository"
    rules = RULES

    def faults(self, _deployment: Deployment) -> list[Fault]:
        """Nothing keeps a plan from being written for Triton."""
        return []

    def departures(self, deployment: Deployment) -> list[Departure]:
        """What Triton does not keep of a plan."""
        found = departures_of(deployment, self.rules)
        found += several_machines(
            deployment,
            "Start a server per machine, number its GPUs from 0 in `gpus`, and call the stages from outside: the hops "
            "between machines belong in the delays of the pipeline file",
        )
        if deployment.shape is FlowShape.DRAWN:
            found.append(
                Departure(
                    "entry",
                    f"queries wait for one of {script_instances(deployment)} instances of the script, which the plan "
                    "does not know",
                    "Where more queries are under way than that, their waiting comes on top of the certificate: "
                    f"raise `count` in models/{deployment.name}/config.pbtxt, or lead queries from outside",
                    voids=True,
                )
            )
        return found

    def files(self, deployment: Deployment) -> dict[str, str]:
        """Configurations and models by path."""
        written: dict[str, str] = {}
        for stage in deployment.stages:
            written |= stage_files(deployment, stage, f"models/{stage.label}", stage.label)
        entry = f"models/{deployment.name}"
        if deployment.shape is FlowShape.DRAWN:
            flow = resource_files("mipplan.exporters.runtime") / "mipplan_flow.py"
            written[f"{entry}/config.pbtxt"] = _script_config(deployment)
            written[f"{entry}/1/model.py"] = _script(deployment)
            written[f"{entry}/1/mipplan_flow.py"] = flow.read_text(encoding="utf-8")
        elif len(deployment.stages) > 1:
            written[f"{entry}/config.pbtxt"] = _ensemble_config(deployment)
            written[f"{entry}/1/.keep"] = (
                "Triton wants a version folder, also of an ensemble, which has no files.\n"
            )
        return written

    def settings(self, stage: DeployedStage) -> str:
        """Say where a stage's figures went."""
        return f"`models/{stage.label}/config.pbtxt`: `max_batch_size`, `instance_group`"

    def start(self, deployment: Deployment) -> str:
        """Say how to start it."""
        single = len(deployment.stages) == 1
        entry = deployment.stages[0].label if single else deployment.name
        gpus = (
            " --gpus all" if any(stage.gpus for stage in deployment.stages) and not deployment.emulate else ""
        )
        shape = "[1, 1]"
        first = (
            "Models sleep as long as the plan's tables say; no GPU is needed."
            if deployment.emulate
            else "Put your models into `models/*/1/model.py` first, and their tensors into `config.pbtxt`."
        )
        return f"""\
{first}

```bash
docker run --rm{gpus} --net host -v "$PWD/models:/models" nvcr.io/nvidia/tritonserver:24.10-py3 \\
    tritonserver --model-repository=/models
```

Without Docker: the wheel `nvidia-pytriton` holds a `tritonserver` for CPUs. Models need a `numpy` below 2 there: with a
later one their outputs come back empty. One query:

```bash
curl localhost:8000/v2/models/{entry}/infer \\
    -d '{{"inputs": [{{"name": "INPUT", "shape": {shape}, "datatype": "FP32", "data": [0]}}]}}'
```
"""


def stage_files(deployment: Deployment, stage: DeployedStage, folder: str, model: str) -> dict[str, str]:
    """Write the model of a stage into a folder of a repository, all replicas in one server."""
    return {
        f"{folder}/config.pbtxt": stage_config(deployment, stage, model, _instance_group(deployment, stage)),
        f"{folder}/1/model.py": stage_model(deployment, stage),
    }


def _instance_group(deployment: Deployment, stage: DeployedStage) -> str:
    replicas, hardware = stage.choice.replicas, stage.choice.hardware
    if stage.is_gpu and not deployment.emulate:
        text = (
            f"Replicas of the plan: {replicas} {hardware}, one instance on each. Triton makes `count` instances on "
            "every GPU that is listed; numbers go on from stage to stage, as on one machine that holds all GPUs."
        )
        gpus = ", ".join(map(str, stage.gpus))
        return remark(text) + f"instance_group [ {{ kind: KIND_GPU count: 1 gpus: [ {gpus} ] }} ]\n"
    text = f"Replicas of the plan: {replicas} {hardware}. They share this machine's processors: have enough of them."
    if deployment.emulate:
        text = f"Replicas of the plan: {replicas} {hardware}, emulated: they sleep, and need no device."
    return remark(text) + f"instance_group [ {{ kind: KIND_CPU count: {replicas} }} ]\n"


def _ensemble_config(deployment: Deployment) -> str:
    pipeline = deployment.plan.pipeline
    several = len(deployment.sinks) > 1
    ends = {stage.name: f"OUTPUT_{stage.python_name}" if several else "OUTPUT" for stage in deployment.sinks}
    tensors = {stage.name: ends.get(stage.name, f"from_{stage.python_name}") for stage in deployment.stages}
    steps = []
    for stage in deployment.stages:
        given = [tensors[edge.parent] for edge in stage.incoming] or ["INPUT"]
        maps = "".join(
            f'      input_map {{ key: "{name}" value: "{tensor}" }}\n'
            for name, tensor in zip(stage_inputs(deployment, stage), given, strict=True)
        )
        steps.append(
            f'    {{\n      model_name: "{stage.label}"\n      model_version: -1\n{maps}'
            f'      output_map {{ key: "OUTPUT" value: "{tensors[stage.name]}" }}\n    }}'
        )
    head = f"{pipeline.name} as a whole: every query visits every stage once."
    one = "A query is one item; the stages make the batches, each up to its own cap."
    return (
        remark(head)
        + f'name: "{deployment.name}"\nplatform: "ensemble"\n'
        + remark(one)
        + "max_batch_size: 1\n"
        + tensor_list("input", tensor_text("INPUT"))
        + tensor_list("output", *map(tensor_text, ends.values()))
        + "ensemble_scheduling {\n  step [\n"
        + ",\n".join(steps)
        + "\n  ]\n}\n"
    )


def script_instances(deployment: Deployment) -> int:
    """Queries that are under way at the planned rate if each takes as long as the objective (Little's law).

    Without a trace as many as all replicas hold in full batches; in any case at most 64.
    """
    if deployment.rate_rps is None:
        wanted = sum(stage.choice.replicas * stage.choice.batch for stage in deployment.stages)
    else:
        wanted = math.ceil(deployment.rate_rps * deployment.plan.slo_s)
    return min(max(1, wanted), _MOST_INSTANCES)


def _script_config(deployment: Deployment) -> str:
    plan = deployment.plan
    head = (
        f"{plan.pipeline.name} as a whole. It branches, fans out or joins single tokens, which no ensemble can: a "
        "script leads every query through the stages."
    )
    rate = deployment.rate_rps
    count = (
        "As many queries as all replicas hold in full batches: an instance leads one query at a time."
        if rate is None
        else f"Little's law: {rate:.4g} queries/s of at most {plan.slo_s:g} s each are under way at the same time, and "
        "an instance leads one query at a time."
    )
    return (
        remark(head)
        + f'name: "{deployment.name}"\nbackend: "python"\n'
        + remark("0: a query is one item; the stages make the batches.")
        + "max_batch_size: 0\n"
        + tensor_list("input", tensor_text("INPUT", dims="1, 1"))
        + tensor_list("output", tensor_text("OUTPUT", dims="1, 1"))
        + remark(count)
        + f"instance_group [ {{ kind: KIND_CPU count: {script_instances(deployment)} }} ]\n"
    )


def _script(deployment: Deployment) -> str:
    stages = "".join(
        f"    {stage.label!r}: ({stage.label!r}, {merges}),\n"
        for stage in deployment.stages
        for merges in [len(stage.incoming) > 0 and stage.stage.join == "all"]
    )
    edges = "".join(flow_edge(deployment, edge) for edge in deployment.plan.pipeline.edges)
    return _SCRIPT.substitute(pipeline=quoted(deployment.plan.pipeline.name), stages=stages, edges=edges)


def flow_edge(deployment: Deployment, edge: Edge) -> str:
    """Write an edge as code, with the labels of its stages."""
    parent, child = (deployment.by_name[name].label for name in (edge.parent, edge.child))
    fanout = edge.fanout
    drawn = f"{fanout.values!r}, {fanout.weights!r}"
    if fanout.poisson_mean is not None:
        drawn = f"poisson_mean={fanout.poisson_mean!r}"
    return f"    FlowEdge({parent!r}, {child!r}, {edge.probability!r}, {drawn}),\n"
