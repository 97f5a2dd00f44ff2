"""``python -m benchmarks.truth.ray_server FOLDER PORT [plain]…``: a Ray cluster of two workers with Serve in it.

Serves the application that ``mipplan export --to ray`` wrote into the folder at ``/``, as its ``serve.yaml`` says; with
``plain`` only, or besides with ``both``, the same models behind ``@serve.batch`` at ``/plain``, as Ray Serve comes. It
ends when its input is closed, or by SIGTERM.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import ray
import yaml
from ray import serve
from starlette.requests import Request

import mipplan as mp
from benchmarks.truth.servers import ONGOING, RAY_WINDOW_MS


def plain_application(plan: mp.Plan) -> Any:
    """A deployment for each stage of a chain, whose batches ``@serve.batch`` makes, behind one that leads queries."""
    handles = []
    for stage in plan.pipeline.topological_order:
        choice, service_ns = plan.choices[stage], plan.service_ns(stage).tolist()
        settings = {"max_batch_size": choice.batch, "batch_wait_timeout_s": RAY_WINDOW_MS / 1_000}
        deployed = serve.deployment(
            name=stage,
            num_replicas=choice.replicas,
            max_ongoing_requests=ONGOING,
            ray_actor_options={"num_cpus": 0},
        )(batching_stage(settings))
        handles.append(deployed.bind(service_ns))
    ingress = serve.deployment(
        name="Chain", num_replicas=1, max_ongoing_requests=1_000_000, ray_actor_options={"num_cpus": 0}
    )(Chain)
    return ingress.bind(*handles)


def batching_stage(settings: dict[str, Any]) -> type:
    """A stage that sleeps ℓ(k); batches run in a thread, so that the replica takes queries in meanwhile."""
    import asyncio

    class Stage:
        def __init__(self, service_ns: list[int]) -> None:
            self.service_ns = service_ns

        @serve.batch(**settings)
        async def serve_batch(self, queries: list[Any]) -> list[Any]:
            await asyncio.sleep(self.service_ns[len(queries) - 1] / 1e9)
            return queries

        async def __call__(self, query: Any) -> Any:
            return await self.serve_batch(query)

    return Stage


class Chain:
    """Leads each query through the stages."""

    def __init__(self, *stages: Any) -> None:
        self.stages = stages

    async def __call__(self, request: Request) -> Any:
        """Serve one query."""
        answer = await request.json()
        for stage in self.stages:
            answer = await stage.remote(answer)
        return answer


def main(folder: Path, port: int, what: list[str]) -> None:
    """Run until the input is closed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    sys.path.insert(0, str(folder.resolve()))
    plan = mp.Plan.load(folder / "plan.json")
    devices = Counter[str]()
    for choice in plan.choices.values():
        devices[choice.hardware] += choice.replicas
    # Sockets lie in its folder, and their paths must be short.
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as scratch:
        ray.init(
            "local",
            namespace="serve",
            num_cpus=2,
            num_gpus=0,
            resources=dict(devices),  # as many as the plan rents; what emulates them asks for none
            object_store_memory=100 * 2**20,
            include_dashboard=False,
            logging_level="ERROR",
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=scratch,
        )
        try:
            serve.start(http_options={"host": "127.0.0.1", "port": port})
            if "plain" in what or "both" in what:
                serve.run(plain_application(plan), name="plain", route_prefix="/plain", blocking=False)
            if "plain" not in what:
                _deploy(yaml.safe_load((folder / "serve.yaml").read_text(encoding="utf-8")))
            print("every application is running", flush=True)
            sys.stdin.read()
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what is logged is written in the shutdown
            serve.shutdown()
            ray.shutdown()


def _deploy(configuration: dict[str, Any]) -> None:
    """Run the applications of a configuration, as ``serve run`` does, with what it says of their deployments."""
    import importlib

    for application in configuration["applications"]:
        module, name = application["import_path"].split(":")
        bound = getattr(importlib.import_module(module), name)
        (deployment,) = application["deployments"]
        options = {key: value for key, value in deployment.items() if key != "name"}
        assert bound._bound_deployment.name == deployment["name"]
        changed = bound._bound_deployment.options(**options).bind()
        serve.run(changed, name=application["name"], route_prefix=application["route_prefix"], blocking=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
