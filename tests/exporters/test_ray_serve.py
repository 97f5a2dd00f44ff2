"""Ray Serve applications: their configuration by Serve's own schema, and the application with a stand-in for Serve."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import json
import shlex
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest
import yaml

import mipplan as mp
from export_plans import CHOICES, shipped_plan
from mipplan.exporters import TARGETS, Deployment
from mipplan.serving import QUERY_HEADER, ROUTE_HEADER

RAY = TARGETS["ray"]


def configuration(plan: mp.Plan, *, emulate: bool = False) -> dict[str, Any]:
    document = yaml.safe_load(RAY.files(Deployment(plan, emulate))["serve.yaml"])
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize("emulate", [False, True])
@pytest.mark.parametrize("name", CHOICES)
def test_stages_ask_for_their_devices(name: str, emulate: bool) -> None:
    plan = shipped_plan(name)
    (application,) = configuration(plan, emulate=emulate)["applications"]
    (ingress,) = application["deployments"]
    # All queues are in one process, and batches are what the dispatcher makes, never what Serve collects.
    assert (ingress["name"], ingress["num_replicas"]) == ("Ingress", 1)
    module = ast.parse(RAY.files(Deployment(plan, emulate))["app.py"])
    assert "serve.batch" not in ast.unparse(module)
    values = {
        node.targets[0].id: node.value
        for node in module.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    options = ast.literal_eval(values["OPTIONS"])
    assert list(options) == [stage.name for stage in Deployment(plan).stages]
    for stage, asked in options.items():
        hardware = plan.choices[stage].hardware
        gpus = {} if hardware == "cpu" else {"num_gpus": 1}
        assert asked == ({} if emulate else {**gpus, "resources": {hardware: 1}})


def test_hardware_that_is_called_as_ray_calls_its_own_is_a_resource_that_ray_takes() -> None:
    plan = hardware_plan("CPU", "o'x")
    assert "'a': {'resources': {'CPU device': 1}}" in RAY.files(Deployment(plan))["app.py"]
    (line,) = [line for line in RAY.start(Deployment(plan)).splitlines() if line.startswith("ray start")]
    assert json.loads(shlex.split(line)[-1]) == {"CPU device": 1, "o'x": 2}


def hardware_plan(first: str, second: str) -> mp.Plan:
    """Two stages, each on a type of its own."""
    profiles = mp.Profiles.from_pandas(
        pd.DataFrame({"usd_per_hour": 1.0}, index=[first, second]),
        pd.DataFrame({"model": "m", "hardware": [first, second], "batch": 1, "latency_ms": 5.0}),
    )
    pipeline = mp.Pipeline.from_document(
        {
            "slo": "1s",
            "stages": {"a": {"model": "m"}, "b": {"model": "m"}},
            "edges": [{"from": "a", "to": "b"}],
        }
    )
    return mp.Plan.from_choices(pipeline, profiles, {"a": (first, 1, 1), "b": (second, 1, 2)})


def test_no_two_types_are_one_resource_and_none_is_ray_s_own() -> None:
    plan = hardware_plan("GPU", "GPU device")
    text = RAY.files(Deployment(plan))["app.py"]
    assert "'a': {'num_gpus': 1, 'resources': {'GPU device-2': 1}}" in text
    assert "'b': {'num_gpus': 1, 'resources': {'GPU device': 1}}" in text
    typed = RAY.files(Deployment(hardware_plan("accelerator_type:A100", "t4")))["app.py"]
    assert "'resources': {'accelerator_type A100': 1}" in typed
    (told,) = [one for one in RAY.departures(Deployment(plan)) if one.subject == "devices"]
    assert "GPUs that Ray itself finds: 3 in all" in told.what


def test_accelerators_that_are_no_gpu_to_ray_are_refused_unless_that_is_said(tmp_path: Path) -> None:
    plan = hardware_plan("TPU", "t4")
    with pytest.raises(mp.InputError, match="cpu: TPU is an accelerator to Ray"):
        mp.export(plan, to="ray", directory=tmp_path / "out")
    assert "'a': {'resources': {'TPU device': 1}}" in RAY.files(Deployment(plan, cpu=("TPU",)))["app.py"]


def test_accelerators_that_ray_knows_are_known_here() -> None:
    accelerators = pytest.importorskip("ray._private.accelerators", reason="ray is not installed")
    for name in accelerators.get_all_accelerator_resource_names() - {"GPU"}:
        assert RAY.faults(Deployment(hardware_plan(name, "t4")))


@pytest.mark.parametrize("name", CHOICES)
def test_serve_takes_the_configuration(name: str) -> None:
    if importlib.util.find_spec("starlette") is None:
        pytest.skip("ray[serve] is not installed: configurations are not read by Serve's own schema")
    schema = pytest.importorskip("ray.serve.schema", reason="ray[serve] is not installed")
    schema.ServeDeploySchema.model_validate(configuration(shipped_plan(name)))


def test_configuration_has_the_fields_of_serve() -> None:
    """The fields that are used, with the types of `ray.serve.schema`."""
    deployment = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "num_replicas": {"type": "integer", "minimum": 1},
            "max_ongoing_requests": {"type": "integer", "minimum": 1},
            "ray_actor_options": {
                "type": "object",
                "properties": {
                    "num_cpus": {"type": "number", "minimum": 0},
                    "num_gpus": {"type": "number", "minimum": 0},
                    "resources": {"type": "object", "additionalProperties": {"type": "number"}},
                },
                "additionalProperties": False,
            },
        },
        "required": ["name"],
        "additionalProperties": False,
    }
    application = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "route_prefix": {"type": "string", "pattern": "^/"},
            "import_path": {"type": "string", "pattern": "^\\w+:\\w+$"},
            "runtime_env": {"type": "object"},
            "deployments": {"type": "array", "items": deployment},
        },
        "required": ["import_path"],
        "additionalProperties": False,
    }
    whole = {
        "type": "object",
        "properties": {"applications": {"type": "array", "items": application}},
        "additionalProperties": False,
    }
    for name in CHOICES:
        jsonschema.validate(configuration(shipped_plan(name)), whole)


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offer what the application and `mipplan.serving` import of Ray and Starlette, all in this process."""

    class Actor:
        def __init__(self, made: Any) -> None:
            async def run(inputs: Any) -> Any:
                await asyncio.sleep(0)
                return made.run(inputs)

            self.run = SimpleNamespace(remote=run)

    def remote(function: type) -> Any:
        made = SimpleNamespace(remote=lambda *arguments: Actor(function(*arguments)))
        return SimpleNamespace(options=lambda **asked: made)

    modules = {
        "ray": {
            "serve": SimpleNamespace(deployment=lambda made: SimpleNamespace(bind=lambda: made)),
            "remote": remote,
            "kill": lambda actor: None,
            "exceptions": SimpleNamespace(RayError=type("RayError", (Exception,), {})),
        },
        "starlette": {},
        "starlette.requests": {"Request": object},
        "starlette.responses": {
            "JSONResponse": lambda document, status=200, headers=None: (status, document, headers),
            "Response": lambda body, media_type: (media_type, body),
        },
    }
    for name, offered in modules.items():
        module = ModuleType(name)
        module.__dict__.update(offered)
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.skipif(
    importlib.util.find_spec("mipplan.serving") is None, reason="mipplan.serving is not there: no dispatcher"
)
@pytest.mark.parametrize("name", ["image-processing", "video-monitoring"])
def test_application_serves_queries(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    monkeypatch.setenv("MIPPLAN_LOG", str(tmp_path / "log"))
    mp.export(shipped_plan(name), to="ray", directory=tmp_path / "out", emulate=True, allowance_s=0.05)
    spec = importlib.util.spec_from_file_location("exported_app", tmp_path / "out" / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "sleep_until", lambda end_ns: None)

    async def body() -> bytes:
        return b"7"

    first = next(iter(shipped_plan(name).choices))

    def request(path: str, document: Any, number: int = 0) -> Any:
        async def json() -> Any:
            return document

        headers = {QUERY_HEADER: str(number)}
        return SimpleNamespace(body=body, json=json, url=SimpleNamespace(path=path), headers=headers)

    async def ask() -> Any:
        # As Serve does: it makes the object in its event loop, and waits for it before queries are let in.
        ingress = object.__new__(module.application)
        await ingress.__init__()
        try:
            told = [await ingress(request("/scale", {first: count})) for count in (3, 0)]
            answers = await asyncio.gather(*(ingress(request("/", 7, number)) for number in range(20)))
            assert ingress.host.promised.service_ns(first)[0] == module.PLAN.service_ns(first)[0] + 50_000_000
            return told, answers, await ingress(request("/metrics", None))
        finally:
            await ingress.host.__aexit__(None, None, None)
            ingress.__del__()  # as Serve does when it stops an application

    told, answers, metrics = asyncio.run(ask())
    assert [status for status, *_ in told] == [200, 400]
    assert told[0][1]["replicas"][first] == 3
    assert metrics[0] == "text/plain"
    assert b'mipplan_queries_total{outcome="served"} 20.0' in metrics[1]
    assert f'mipplan_replicas{{stage="{first}"}} 3.0'.encode() in metrics[1]
    assert {status for status, *_ in answers} == {200}
    last = {stage.name for stage in Deployment(shipped_plan(name)).sinks}
    assert all({stage for stage, _ in document["outputs"]} == last for _, document, _ in answers)
    assert all(value == 7 for _, document, _ in answers for _, value in document["outputs"])
    # Every token is in the log, by the client's number of its query, and as many as the answer says that there were.
    log = mp.read_log(tmp_path / "log").stages
    pipeline = shipped_plan(name).pipeline
    for number, (_, _, headers) in enumerate(answers):
        for arc, counts in json.loads(headers[ROUTE_HEADER]).items():
            child = arc.partition(" -> ")[2]
            if len(pipeline.incoming(child)) == 1:
                assert int(((log.query == number) & (np.array(log.stage) == child)).sum()) == sum(counts)


@pytest.mark.parametrize("emulate", [False, True])
def test_what_ray_takes_voids_the_certificate_unless_it_is_allowed_for(emulate: bool, tmp_path: Path) -> None:
    plan = shipped_plan("image-processing")

    def voiding(allowance_s: float) -> list[str]:
        made = mp.export(
            plan, to="ray", directory=tmp_path / "out", emulate=emulate, allowance_s=allowance_s, force=True
        )
        voided = [one for one in made.departures if one.voids]
        assert all("--allowance" in one.effect or "with_allowance" in one.effect for one in voided)
        readme = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
        assert made.certificate_holds == ("The certificate of the plan holds here" in readme) == (not voided)
        return [one.subject for one in voided]

    assert voiding(0.0) == ["turnaround"]
    assert voiding(0.05) == ["allowance"]
