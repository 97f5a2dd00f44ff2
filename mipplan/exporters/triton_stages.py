"""One stage as a model of Triton: its ``config.pbtxt``, and a Python backend to put the model into or that sleeps."""

from __future__ import annotations

from string import Template

from mipplan.exporters.deployment import WATCH, DeployedStage, Deployment, FlowShape, quoted, remark

_SERVING_MODEL = Template('''\
"""Stage $stage of $pipeline: model $model on $hardware.

$what
"""

${imports}import numpy as np
import triton_python_backend_utils as pb_utils

INPUTS = $inputs
$constants

class TritonPythonModel:
    """One replica."""

$initialize
    def infer(self, batch):
        """Serve one batch: arrays by input, with as many rows as tokens; returns as many rows."""
$infer
    def execute(self, requests):
        """Serve what the batcher puts together, as one batch."""
        given = [
            {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in INPUTS}
            for request in requests
        ]
        batch = {name: np.concatenate([one[name] for one in given]) for name in INPUTS}
        ends = np.cumsum([len(one[INPUTS[0]]) for one in given])[:-1]
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", part)])
            for part in np.split(self.infer(batch), ends)
        ]
''')
_PLACEHOLDER = {
    "what": "Put your model into `initialize` and `infer`; or serve it by another backend, and leave all of "
    "config.pbtxt\nbut `backend`, `input` and `output` as it is.",
    "imports": "",
    "constants": "",
    "initialize": """\
    def initialize(self, args):
        \"\"\"Load the model, on GPU args["model_instance_device_id"] if args["model_instance_kind"] is "GPU".\"\"\"
""",
    "infer": """\
        raise NotImplementedError("put the model of this stage in here")
""",
}
_EMULATED = {
    "what": "Emulated: a batch of k only sleeps for ℓ(k), as the plan's table says, and answers its input.",
    "imports": "import time\n\n",
    "initialize": "",
    "infer": """\
        started = time.monotonic_ns()
        answer = batch[INPUTS[0]]
        until = started + SERVICE_NS[len(answer) - 1]
        time.sleep(max(0, until - WATCHED_NS - started) / 1e9)
        while time.monotonic_ns() < until:
            continue
        return answer
""",
}


def stage_inputs(deployment: Deployment, stage: DeployedStage) -> list[str]:
    """Names of a stage's inputs: one, or in an ensemble one for each incoming edge."""
    several = len(stage.incoming) if deployment.shape is FlowShape.FIXED else 1
    return ["INPUT"] if several <= 1 else [f"INPUT_{number}" for number in range(several)]


def stage_config(deployment: Deployment, stage: DeployedStage, model: str, instance_group: str) -> str:
    """Write ``config.pbtxt`` of a stage."""
    pipeline, choice = deployment.plan.pipeline.name, stage.choice
    inputs = stage_inputs(deployment, stage)
    senders = [f"from {edge.parent}" for edge in stage.incoming] if len(inputs) > 1 else [""]
    tensors = [tensor_text(name, sender) for name, sender in zip(inputs, senders, strict=True)]
    head = f"Stage {stage.name} of {pipeline}: model {stage.stage.model}, {stage.text}; {stage.table_text}."
    cap = (
        f"The batch cap b of the plan: R = n·b/ℓ(b) = {stage.replica_rps * choice.replicas:.4g} tokens/s is what "
        f"its n = {choice.replicas} serve in full batches. Larger ones take longer than the plan counts on."
    )
    shapes = (
        "Yours to replace. Keep dims fixed: with -1 the batcher puts only requests of one shape together, and batches "
        "stay smaller than planned."
    )
    delay = "0: an idle replica takes what waits at once (eager dispatch); no batch waits to be filled."
    preferred = (
        "No preferred_batch_size: any number of waiting queries up to the cap makes a batch, as in the plan."
    )
    ordering = "The plan lets a batch go on as soon as it is done, also before one that was begun earlier."
    policy = "No bound and no time-out: the plan counts every query, and refuses none."
    return (
        remark(head)
        + f'name: "{model}"\nbackend: "python"\n'
        + remark(cap)
        + f"max_batch_size: {choice.batch}\n"
        + remark(shapes)
        + tensor_list("input", *tensors)
        + tensor_list("output", tensor_text("OUTPUT"))
        + instance_group
        + "dynamic_batching {\n"
        + remark(delay, "  ")
        + "  max_queue_delay_microseconds: 0\n"
        + remark(preferred, "  ")
        + remark(ordering, "  ")
        + "  preserve_ordering: false\n"
        + remark(policy, "  ")
        + "  default_queue_policy { max_queue_size: 0 default_timeout_microseconds: 0 }\n"
        + "}\n"
    )


def stage_model(deployment: Deployment, stage: DeployedStage) -> str:
    """Write ``model.py`` of a stage."""
    parts = dict(_PLACEHOLDER)
    if deployment.emulate:
        table = remark(", ".join(map(str, stage.service_ns.tolist())) + ",", "    ", "")
        parts = dict(_EMULATED, constants=f"# ℓ(1), ℓ(2), … in ns.\nSERVICE_NS = [\n{table}]\n{WATCH}")
    return _SERVING_MODEL.substitute(
        parts,
        stage=quoted(stage.name),
        pipeline=quoted(deployment.plan.pipeline.name),
        model=quoted(stage.stage.model),
        hardware=quoted(stage.text),
        inputs=repr(stage_inputs(deployment, stage)),
    )


def tensor_text(name: str, sender: str = "", dims: str = "1") -> str:
    """Write an input or output, for now of one number."""
    comment = remark(sender, "  ") if sender else ""
    return f'{comment}  {{ name: "{name}" data_type: TYPE_FP32 dims: [ {dims} ] }}'


def tensor_list(what: str, *tensors: str) -> str:
    """Write the inputs or outputs of a model."""
    return f"{what} [\n" + ",\n".join(tensors) + "\n]\n"
