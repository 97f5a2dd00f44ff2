"""Replicas as Ray actors, on a cluster of this test's own."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from mipplan.serving import HostParams, Outcome, RayWorker, ServingHost
from serving_plans import Doubler, small_plan


def test_batches_run_on_actors_that_are_started_again_when_they_die(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="the extra mipplan[ray] is not installed")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # Actors import the model from the folder of these tests.
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in paths if path))
    plan = small_plan({"a": ([1.0, 1.0], 2)})
    params = HostParams(least_patience_s=60, first_restart_s=0.01)

    async def run() -> None:
        async with ServingHost(plan, RayWorker({"a": Doubler}), params=params) as host:
            answers = await asyncio.gather(*(host.infer(number) for number in range(6)))
            assert [answer.query.outputs for answer in answers] == [
                [("a", 2 * number)] for number in range(6)
            ]
            failed: Any = await host.infer("raise")
            assert failed.reason == "stage a: ValueError: no such number"
            dead: Any = await host.infer("die")
            assert dead.outcome is Outcome.FAILED
            assert "its actor has gone" in str(dead.reason)
            while host.problem is not None:
                await asyncio.sleep(0.05)
            assert (await host.infer(4)).query.outputs == [("a", 8)]

    # Sockets lie in its folder, and their paths must be short.
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:
        ray.init(
            "local",
            num_cpus=2,
            num_gpus=0,
            object_store_memory=100 * 2**20,
            include_dashboard=False,
            logging_level="ERROR",
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=folder,
        )
        try:
            asyncio.run(run())
        finally:
            ray.shutdown()
