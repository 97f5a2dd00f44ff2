"""`mipplan serve`: what it says, that it serves, and how it stops."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import mipplan as mp
from mipplan.cli.app import app
from mipplan.core import format_duration
from mipplan.logs import read_log

pytest.importorskip("aiohttp")
pytest.importorskip("prometheus_client")

REQUEST = {"inputs": [{"name": "input", "datatype": "INT64", "shape": [1, 1], "data": [0]}]}


@pytest.fixture(scope="module")
def plan_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("served") / "plan.json"
    pipeline = mp.Pipeline.read(Path(__file__).parents[2] / "profiles" / "pipelines" / "cascade.yaml")
    choices = {"preprocess": ("cpu", 1, 2), "fast": ("t4", 4, 1), "slow": ("v100", 8, 2)}
    mp.Plan.from_choices(pipeline, mp.Profiles.default(), choices, dispatch="timed").save(path)
    return path


def test_it_serves_until_it_is_told_to_stop(plan_file: Path, tmp_path: Path) -> None:
    log = tmp_path / "stages.parquet"
    command = [sys.executable, "-m", "mipplan", "serve", str(plan_file), "--emulate", "--port", "0"]
    with subprocess.Popen([*command, "--log", str(log)], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        said = []
        for line in server.stdout:
            said.append(line)
            if (found := re.search(r"POST (http://\S+)", line)) is not None:
                break
        for _ in range(3):
            request = urllib.request.Request(found[1], json.dumps(REQUEST).encode())
            with urllib.request.urlopen(request, timeout=60) as answer:
                assert json.load(answer)["outputs"][0]["name"] == "latency_ns"
        server.send_signal(signal.SIGINT)
        rest, _ = server.communicate(timeout=60)
    assert server.returncode == 0
    assert "timed, oldest first: void unless" in "".join(said)
    assert "a batch of k may take ℓ(k) + 2 ms" in "".join(said)
    assert "3 queries" in rest
    assert sorted(set(read_log(log).stages.at("preprocess").query.tolist())) == [0, 1, 2]


def invoke(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["serve", *arguments])
    return done.exit_code, done.output


@pytest.mark.parametrize("dispatch", ["eager", "timed"])
def test_it_says_what_is_guaranteed_on_a_trace(
    dispatch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = mp.Pipeline.read(Path(__file__).parents[2] / "profiles" / "pipelines" / "cascade.yaml")
    choices = {"preprocess": ("cpu", 1, 4), "fast": ("t4", 8, 2), "slow": ("v100", 8, 3)}
    plan = mp.Plan.from_choices(pipeline, mp.Profiles.default(), choices, dispatch=dispatch)
    plan.save(tmp_path / "plan.json")
    arguments = ["--emulate", "--port", "0", "--for", "0.1s", "--trace", "steady", "--to", "5s"]
    watched, serve = [], mp.serving.serve

    def seen(*given: Any, params: mp.serving.ServeParams, **settings: Any) -> Any:
        watched.append(params.certificate_ns)
        return serve(*given, params=params, **settings)

    monkeypatch.setattr(mp.serving, "serve", seen)
    code, said = invoke(str(tmp_path / "plan.json"), *arguments)
    assert code == 0
    raised = mp.serving.with_allowance(plan, 0.002)
    trace = mp.Trace.read(Path(__file__).parents[2] / "profiles" / "traces" / "steady.csv.gz").slice(0, 5)
    bound_ns = (
        mp.replay(raised, trace).quantile_ns(0.99)
        if dispatch == "timed"
        else mp.certify(raised, trace).bound_ns
    )
    assert f"guarantee    P99 ≤ {format_duration(bound_ns)} on " in said
    # The metrics count what is later than the certificate. The law `timed` guarantees a quantile, which some exceed.
    assert watched == [None if dispatch == "timed" else bound_ns]
    assert ("law          eager, oldest first; void unless" in said) == (dispatch == "eager")


def test_every_fault_is_told_at_once(plan_file: Path) -> None:
    code, said = invoke(
        str(plan_file), "--endpoint", "fast=http://localhost:1/v2/models/m", "--endpoint", "x=", "--port", "70000",
        "--allowance", "1", "--most-waiting", "-1", "--emulate",
    )  # fmt: skip
    assert code == 2
    for place in ("--endpoint", "--port", "--allowance", "--most-waiting", "--emulate"):
        assert f"  {place}" in said


def test_a_replica_without_an_endpoint_is_told(plan_file: Path) -> None:
    code, said = invoke(str(plan_file), "--endpoint", "fast=http://localhost:1/v2/models/m")
    assert code == 2
    assert "slow has 2 replica(s), found 0" in said
    assert "preprocess has 2 replica(s), found 0" in said
