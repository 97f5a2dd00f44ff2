"""Ray Serve applications: their configuration by Serve's own schema, and the application with a stand-in for Serve."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import json
import shlex
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
from mipplan.serving import QUERY_HEADER, ROUTE_HEADER, AdmissionParams
from serving_plans import small_plan

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

    def answer(document: Any, status: int = 200, headers: Any = None) -> Any:
        json.dumps(document, allow_nan=False)  # as Starlette's does
        return status, document, headers

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
            "JSONResponse": answer,
            "Response": lambda body, media_type: (media_type, body),
        },
    }
    for name, offered in modules.items():
        module = ModuleType(name)
        module.__dict__.update(offered)
        monkeypatch.setitem(sys.modules, name, module)


def exported(plan: mp.Plan, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The application of a plan with models that do not even sleep, loaded with stand-ins for Ray and Starlette."""
    stand_in(monkeypatch)
    mp.export(plan, to="ray", directory=folder / "out", emulate=True, allowance_s=0.05)
    spec = importlib.util.spec_from_file_location("exported_app", folder / "out" / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "sleep_until", lambda end_ns: None)
    return module


def request(path: str, text: str = "", number: object = 0, method: str = "POST") -> Any:
    async def body() -> bytes:
        return text.encode()

    headers, url = {QUERY_HEADER: str(number)}, SimpleNamespace(path=path)
    return SimpleNamespace(body=body, url=url, headers=headers, method=method)


@asynccontextmanager
async def running(module: ModuleType) -> AsyncIterator[Any]:
    """The ingress as Serve has it: made in its event loop, and waited for before queries are let in."""
    ingress = object.__new__(module.application)
    await ingress.__init__()
    try:
        yield ingress
    finally:
        await ingress.host.__aexit__(None, None, None)
        ingress.__del__()  # as Serve does when it stops an application


@pytest.mark.parametrize("name", ["image-processing", "video-monitoring"])
def test_application_serves_queries(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIPPLAN_LOG", str(tmp_path / "log"))
    module = exported(shipped_plan(name), tmp_path, monkeypatch)
    first = next(iter(shipped_plan(name).choices))

    async def ask() -> Any:
        async with running(module) as ingress:
            told = [await ingress(request("/scale", json.dumps({first: count}))) for count in (3, 0)]
            answers = await asyncio.gather(*(ingress(request("/", "7", number)) for number in range(20)))
            assert ingress.host.promised.service_ns(first)[0] == module.PLAN.service_ns(first)[0] + 50_000_000
            return told, answers, await ingress(request("/metrics", method="GET"))

    told, answers, metrics = asyncio.run(ask())
    assert [status for status, *_ in told] == [200, 400]
    assert told[0][1]["replicas"][first] == 3
    assert metrics[0] == "text/plain"
    assert b'limit="certificate"' not in metrics[1]  # with the allowance there is none
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


@pytest.mark.parametrize(
    ("path", "text", "told"),
    [
        ("/", '{"a": ', "is no JSON: Expecting value"),
        ("/", "[" * 100_000, "is no JSON: nested too deeply"),
        ("/", "[NaN]", "is no JSON: it holds NaN"),
        ("/", "-Infinity", "is no JSON: it holds -Infinity"),
        ("/scale", "{", "is no JSON: Expecting"),
        ("/scale", "", "expected counts by stage, found nothing"),
        ("/scale", "[1]", "expected counts by stage, found [1]"),
        ("/scale", "3", "expected counts by stage, found 3"),
        ("/scale", '{"a": [1]}', "replicas.a: expected a whole number from 1 to 1,000, found [1]"),
        ("/scale", '{"c": 1}', "replicas.c: there is no such stage"),
    ],
)
def test_what_the_application_cannot_take_is_a_fault_of_the_client(
    path: str, text: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = exported(small_plan({"a": ([1.0], 1)}), tmp_path, monkeypatch)

    async def ask() -> None:
        async with running(module) as ingress:
            status, document, _ = await ingress(request(path, text))
            assert (status, told in document["error"]) == (400, True), document
            assert ingress.host.told == {"a": 1}
            # A number of a query that is none is as good as no number.
            for number in ("x", "-1", "9" * 40, "\u0663"):
                assert (await ingress(request("/", "7", number)))[0] == 200

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("output", "told"), [(float("nan"), "not JSON compliant"), ({1}, "not JSON serializable")]
)
def test_outputs_that_json_cannot_hold_are_told(
    output: object, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = exported(small_plan({"a": ([1.0], 1)}), tmp_path, monkeypatch)
    monkeypatch.setitem(module.MODELS, "a", lambda: lambda batch: [output] * len(batch))

    async def ask() -> None:
        async with running(module) as ingress:
            status, document, _ = await ingress(request("/", "7"))
            assert (status, told in document["error"]) == (500, True), document

    asyncio.run(ask())


def test_application_treats_clients_as_our_server_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = exported(small_plan({"a": ([1.0], 1)}), tmp_path, monkeypatch)
    assert AdmissionParams(module.MOST_IN_FLIGHT, module.MOST_WAITING) == AdmissionParams()
    assert module.TIMEOUT_S is None
    monkeypatch.setattr(module, "MOST_IN_FLIGHT", 2)

    async def ask() -> None:
        let_go = asyncio.Event()

        async def run(stage: str, replica: int, batch: Any) -> list[Any]:
            await let_go.wait()
            return [0 for _ in batch.tokens]

        async with running(module) as ingress:
            ready, drain = request("/v2/health/ready", method="GET"), request("/drain")
            assert (await ingress(ready))[:2] == (200, {"ready": True})
            monkeypatch.setattr(ingress.host.workers["a"], "run", run)
            goes, stays = (asyncio.create_task(ingress(request("/", "7"))) for _ in range(2))
            await asyncio.sleep(0)
            full = "2 queries are in flight, the limit is 2"
            assert (await ingress(ready))[:2] == (503, {"ready": False, "error": full})
            assert await ingress(request("/", "7")) == (503, {"error": full}, {"Retry-After": "1"})
            goes.cancel()  # as Serve does when a client has gone
            with pytest.raises(asyncio.CancelledError):
                await goes
            monkeypatch.setattr(module, "TIMEOUT_S", 0.01)
            status, document, _ = await ingress(request("/", "7"))
            assert (status, document["outcome"]) == (504, "timed_out")
            drained = asyncio.create_task(ingress(drain))
            await asyncio.sleep(0)
            assert not drained.done()
            assert (await ingress(request("/", "7")))[:2] == (503, {"error": "the server is being drained"})
            let_go.set()
            assert (await drained)[:2] == (200, {"drained": True})
            assert (await stays)[0] == 200
            assert {kind: ingress.host.counts[kind] for kind in ("served", "cancelled", "timed_out")} == {
                "served": 1,
                "cancelled": 1,
                "timed_out": 1,
            }

    asyncio.run(ask())


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
