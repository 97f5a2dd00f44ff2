"""Triton repositories: read by Triton's own description of configurations, and run with a stand-in for its backend."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import given, settings

import mipplan as mp
from export_plans import CHOICES, diamond, random_plans, shipped_plan
from mipplan.exporters import TARGETS, Deployment, FlowShape

TRITON = TARGETS["triton"]


def load(path: Path, name: str) -> ModuleType:
    """Run a Python file as a module."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model_config() -> Any:
    """Triton's description of a configuration; the package that holds it wants gRPC, the file itself does not."""
    spec = importlib.util.find_spec("tritonclient")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("tritonclient is not installed: configurations are not read by Triton's own description")
    return load(Path(spec.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py", "model_config_pb2")


def configs(model_config: Any, plan: mp.Plan, *, emulate: bool = False) -> dict[str, Any]:
    """Configurations by model; a fault of the text is a fault of the test."""
    files = TRITON.files(Deployment(plan, emulate))
    found = {}
    for path, text in files.items():
        if path.endswith("config.pbtxt"):
            config = text_format.Parse(text, model_config.ModelConfig())
            assert path == f"models/{config.name}/config.pbtxt"
            found[config.name] = config
    return found


def instances(config: Any) -> int:
    """Instances of a model: as many on every GPU that is listed."""
    return sum(group.count * max(1, len(group.gpus)) for group in config.instance_group)


@pytest.mark.parametrize("emulate", [False, True])
@pytest.mark.parametrize("name", CHOICES)
def test_stages_are_what_the_plan_says(model_config: Any, name: str, emulate: bool) -> None:
    plan = shipped_plan(name)
    made = configs(model_config, plan, emulate=emulate)
    for stage in Deployment(plan).stages:
        config, choice = made[stage.label], plan.choices[stage.name]
        assert (config.backend, config.max_batch_size, instances(config)) == (
            "python",
            choice.batch,
            choice.replicas,
        )
        kind = "KIND_CPU" if emulate or choice.hardware == "cpu" else "KIND_GPU"
        kinds = model_config.ModelInstanceGroup.Kind
        assert {kinds.Name(group.kind) for group in config.instance_group} == {kind}
        assert config.HasField("dynamic_batching")
        batching = config.dynamic_batching
        assert batching.max_queue_delay_microseconds == 0
        assert list(batching.preferred_batch_size) == []
        assert not batching.preserve_ordering
        policy = batching.default_queue_policy
        assert (policy.max_queue_size, policy.default_timeout_microseconds) == (0, 0)
    # No GPU serves two stages.
    gpus = [gpu for config in made.values() for group in config.instance_group for gpu in group.gpus]
    assert len(gpus) == len(set(gpus))


@settings(max_examples=25)
@given(plan=random_plans())
def test_ensembles_wire_every_input_to_its_parent(model_config: Any, plan: mp.Plan) -> None:
    deployment = Deployment(plan)
    made = configs(model_config, plan)
    if len(deployment.stages) == 1:
        assert list(made) == [deployment.stages[0].label]
        return
    whole = made[deployment.name]
    if deployment.shape is FlowShape.DRAWN:
        assert (whole.backend, whole.max_batch_size) == ("python", 0)
        return
    assert (whole.platform, whole.max_batch_size) == ("ensemble", 1)
    steps = {step.model_name: step for step in whole.ensemble_scheduling.step}
    assert sorted(steps) == sorted(stage.label for stage in deployment.stages)
    source = {step.output_map["OUTPUT"]: name for name, step in steps.items()}
    for stage in deployment.stages:
        wired = dict(steps[stage.label].input_map)
        assert set(wired) == {tensor.name for tensor in made[stage.label].input}
        parents = [deployment.by_name[edge.parent].label for edge in stage.incoming]
        # In the order of the model's inputs: maps of protobuf have none.
        fed = [source.get(wired[tensor.name], "") for tensor in made[stage.label].input]
        assert fed == (parents or [""])
    ends = {stage.label for stage in deployment.sinks}
    assert {source[tensor.name] for tensor in whole.output} == ends


class Backend:
    """Stands in for the Python backend: models by name, loaded from a repository."""

    def __init__(self, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.repository = repository
        self.served: Counter[str] = Counter()
        utils = ModuleType("triton_python_backend_utils")
        utils.__dict__.update(
            Tensor=lambda name, array: SimpleNamespace(name=name, as_numpy=lambda: array),
            InferenceResponse=lambda tensors=(), error=None: SimpleNamespace(
                tensors=tensors, error=lambda: error, has_error=lambda: error is not None
            ),
            InferenceRequest=self.request,
            TritonError=lambda text: SimpleNamespace(message=lambda: text),
            TritonModelException=type("TritonModelException", (Exception,), {}),
            get_input_tensor_by_name=self.tensor,
            get_output_tensor_by_name=self.tensor,
        )
        monkeypatch.setitem(sys.modules, utils.__name__, utils)
        self.models: dict[str, Any] = {}

    @staticmethod
    def tensor(holder: Any, name: str) -> Any:
        return next(tensor for tensor in holder.tensors if tensor.name == name)

    def request(self, model_name: str, requested_output_names: list[str], inputs: list[Any]) -> Any:
        async def async_exec() -> Any:
            await asyncio.sleep(0)
            self.served[model_name] += 1
            return self.model(model_name).execute([SimpleNamespace(tensors=inputs)])[0]

        assert requested_output_names == ["OUTPUT"]
        return SimpleNamespace(async_exec=async_exec)

    def model(self, name: str) -> Any:
        if name not in self.models:
            folder = self.repository / name / "1"
            sys.path.insert(0, str(folder))
            try:
                module = load(folder / "model.py", f"model_{name}")
            finally:
                sys.path.remove(str(folder))
                sys.modules.pop("mipplan_flow", None)
            if hasattr(module, "time"):
                module.__dict__["time"] = Clock()
            self.models[name] = module.TritonPythonModel()
            if hasattr(self.models[name], "initialize"):
                self.models[name].initialize({})
            self.models[name].module = module
        return self.models[name]


class Clock:
    """A clock that only moves when somebody sleeps or looks at it."""

    def __init__(self) -> None:
        self.now_ns = 0

    def monotonic_ns(self) -> int:
        self.now_ns += 1_000
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


def query(rows: int, *names: str) -> Any:
    array = np.arange(rows, dtype=np.float32).reshape(rows, 1)
    return SimpleNamespace(
        tensors=[SimpleNamespace(name=name, as_numpy=lambda: array) for name in names or ("INPUT",)]
    )


def test_emulated_stage_sleeps_as_long_as_its_table_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = diamond()
    mp.export(plan, to="triton", directory=tmp_path / "out", emulate=True)
    backend = Backend(tmp_path / "out" / "models", monkeypatch)
    for label, names in (("left", ("INPUT",)), ("last", ("INPUT_0", "INPUT_1"))):
        model = backend.model(label)
        cap = plan.choices[label].batch
        for rows in range(1, cap + 1):
            clock = model.module.time = Clock()
            answers = model.execute([query(1, *names) for _ in range(rows)])
            assert len(answers) == rows
            service_ns = int(plan.service_ns(label)[rows - 1])
            # Looking at the clock takes a microsecond.
            assert service_ns <= clock.now_ns <= service_ns + 3_000
    whole = backend.model("left").execute([query(2), query(3)])
    assert [len(answer.tensors[0].as_numpy()) for answer in whole] == [2, 3]


def test_a_model_that_is_not_put_in_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mp.export(diamond(), to="triton", directory=tmp_path / "out")
    model = Backend(tmp_path / "out" / "models", monkeypatch).model("left")
    with pytest.raises(NotImplementedError, match="put the model of this stage in here"):
        model.execute([query(1)])


def test_script_leads_queries_as_the_plan_assumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = shipped_plan("video-monitoring")
    mp.export(plan, to="triton", directory=tmp_path / "out", emulate=True)
    backend = Backend(tmp_path / "out" / "models", monkeypatch)
    script = backend.model("video-monitoring")
    queries = 400
    script.random_numbers.seed(3)
    answers = asyncio.run(script.execute([query(1) for _ in range(queries)]))
    assert all(len(answer.tensors[0].as_numpy()) == 1 for answer in answers)
    for stage in Deployment(plan).stages:
        assert backend.served[stage.label] / queries == pytest.approx(stage.tokens_per_query, rel=0.2)
    assert backend.served["merge"] == queries


def test_an_error_of_a_stage_is_the_error_of_the_query(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mp.export(shipped_plan("cascade"), to="triton", directory=tmp_path / "out", emulate=True)
    backend = Backend(tmp_path / "out" / "models", monkeypatch)

    def broken(requests: list[Any]) -> list[Any]:
        utils = sys.modules["triton_python_backend_utils"]
        return [utils.InferenceResponse(error=utils.TritonError("out of memory")) for _ in requests]

    backend.model("fast").execute = broken
    (answer,) = asyncio.run(backend.model("cascade").execute([query(1)]))
    assert answer.error().message() == "out of memory"


def test_script_has_instances_for_the_queries_under_way() -> None:
    def count(plan: mp.Plan) -> str:
        text = TRITON.files(Deployment(plan))["models/cascade/config.pbtxt"]
        return next(line for line in text.splitlines() if line.startswith("instance_group"))

    # 100 queries/s of 80 ms each; without a trace 3 · 1 + 2 · 8 + 1 · 16.
    assert count(shipped_plan("cascade")) == "instance_group [ { kind: KIND_CPU count: 8 } ]"
    plan = shipped_plan("cascade")
    bare = mp.Plan.from_choices(plan.pipeline, mp.Profiles.default(), CHOICES["cascade"])
    assert count(bare) == "instance_group [ { kind: KIND_CPU count: 35 } ]"
