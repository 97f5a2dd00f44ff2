"""``python -m benchmarks.truth.ray_server PORT [plain:]FOLDER=ROUTE …``: a Ray cluster of two workers with Serve in it.

Each folder, below the one it is started in, is what ``mipplan export --to ray`` wrote. Served at the route is that
application, as its ``serve.yaml`` says; with ``plain:`` the same models behind ``@serve.batch``, as Ray Serve comes. It
ends when its input is closed, or by SIGTERM.
"""

from __future__ import annotations

import importlib
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
from benchmarks.truth.servers import ONGOING, PLAIN, RAY_WINDOW_MS


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


def main(port: int, applications: list[str]) -> None:
    """Run until the input is closed."""
    sys.path.insert(0, str(Path.cwd()))
    asked = [application.split("=") for application in applications]
    devices = Counter[str]()
    for folder, _ in asked:
        for choice in _plan_in(folder).choices.values():
            devices[choice.hardware] += choice.replicas
    # Sockets lie in its folder, and their paths must be short.
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as scratch:
        ray.init(
            "local",
            namespace="serve",
            num_cpus=2,
            num_gpus=0,
            resources=dict(devices),  # as many as the plans rent; what emulates them asks for none
            object_store_memory=100 * 2**20,
            include_dashboard=False,
            logging_level="ERROR",
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=scratch,
        )
        # Not before: Ray sets a handler of its own, which ends the process at once, and the folder would stay.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            serve.start(http_options={"host": "127.0.0.1", "port": port})
            serve.run_many([_target(folder, route) for folder, route in asked])
            print("every application is running", flush=True)
            sys.stdin.read()
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what is logged is written in the shutdown
            serve.shutdown()
            ray.shutdown()


def _plan_in(folder: str) -> mp.Plan:
    return mp.Plan.load(Path(folder.removeprefix(PLAIN)) / "plan.json")


def _target(folder: str, route: str) -> serve.RunTarget:
    """What is run at a route."""
    if folder.startswith(PLAIN):
        return serve.RunTarget(plain_application(_plan_in(folder)), f"plain {route}", route)
    return serve.RunTarget(_exported(folder), folder, route)


def _exported(folder: str) -> Any:
    """Make the application of a folder, as ``serve run`` does, with what its configuration says of its deployment.

    Every folder has an ``app.py``: so that several can be imported here and in workers, each is a package.
    """
    (application,) = yaml.safe_load((Path(folder) / "serve.yaml").read_text(encoding="utf-8"))["applications"]
    module, name = application["import_path"].split(":")
    bound = getattr(importlib.import_module(f"{folder}.{module}"), name)
    (deployment,) = application["deployments"]
    options = {key: value for key, value in deployment.items() if key != "name"}
    assert bound._bound_deployment.name == deployment["name"]
    return bound._bound_deployment.options(**options).bind()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
