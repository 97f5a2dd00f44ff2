"""Replicas as Ray actors, on a cluster of this test's own."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from mipplan.serving import HostParams, Outcome, RayWorker, ServingHost
from ray_clusters import own_cluster
from serving_plans import Doubler, small_plan


def test_batches_run_on_actors_that_are_started_again_when_they_die(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="the extra mipplan[ray] is not installed")
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
            unsent: Any = await host.infer("unsendable")
            assert (unsent.reason, host.problem) == (
                "stage a: TypeError: cannot pickle 'generator' object",
                None,
            )
            dead: Any = await host.infer("die")
            assert dead.outcome is Outcome.FAILED
            assert "its actor has gone" in str(dead.reason)
            while host.problem is not None:
                await asyncio.sleep(0.05)
            assert (await host.infer(4)).query.outputs == [("a", 8)]

    with own_cluster(monkeypatch):
        asyncio.run(run())
