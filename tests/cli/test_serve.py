"""`mipplan serve`: what it says, that it serves, and how it stops."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

import mipplan as mp
from mipplan.cli.app import app
from mipplan.core import QuantileLimit, format_duration
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


def test_a_reader_that_leaves_is_no_verdict(plan_file: Path) -> None:
    """It ended with 1, which says that a plan is not kept."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "mipplan", "serve", str(plan_file), "--emulate", "--port", "0"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_faults_of_numbers_and_times_come_at_once(plan_file: Path) -> None:
    code, said = invoke(str(plan_file), "--emulate", "--port", "-1", "--for", "0s")
    assert (code, "the input has 2 faults" in said) == (2, True)
    assert "--for: expected seconds above 0" in said
    assert "--port: expected 0 to 65535, found -1" in said


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
    # The metrics count what is later than the certificate of any query: that of P99 is exceeded by right, as is the
    # quantile that the law `timed` guarantees.
    longest_ns = int(mp.certify(raised, trace).latency_ns.max()) if dispatch == "eager" else None
    assert watched == [longest_ns]
    assert longest_ns is None or longest_ns > bound_ns
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
    assert "slow has 2 replicas, found 0" in said
    assert "preprocess has 2 replicas, found 0" in said


def test_options_that_would_be_ignored_and_what_only_the_server_would_find_are_told(
    plan_file: Path, tmp_path: Path
) -> None:
    bad = "http://127.0.0.1:9/v2/x"
    replicas = [("preprocess", 2), ("fast", 1), ("slow", 2)]
    endpoints = [word for stage, count in replicas for word in ("--endpoint", f"{stage}={bad}") * count]
    code, said = invoke(
        str(plan_file), *endpoints, "--start-delay", "3s", "--from", "3s", "--expand", "zzz", "--allowance", "5s",
        "--log", str(tmp_path / "gone" / "stages.parquet"),
    )  # fmt: skip
    assert code == 2
    assert "  --endpoint slow[1]: expected http://HOST:PORT/v2/models/NAME" in said
    assert "  --start-delay: goes with --emulate" in said
    assert "  --from: goes with --trace" in said
    assert "  --expand: goes with --trace" in said
    assert "  --allowance: expected seconds from 0 to 1" in said
    assert "  --log: there is no folder" in said


def test_endpoints_that_are_not_there_are_all_told_and_an_earlier_log_stays(
    plan_file: Path, tmp_path: Path
) -> None:
    log = tmp_path / "stages.parquet"
    log.write_bytes(b"an earlier run")
    gone = "http://127.0.0.1:9/v2/models/m"
    replicas = [("preprocess", 2), ("fast", 1), ("slow", 2)]
    endpoints = [word for stage, count in replicas for word in ("--endpoint", f"{stage}={gone}") * count]
    code, said = invoke(str(plan_file), *endpoints, "--port", "0", "--for", "1s", "--log", str(log))
    assert code == 2
    assert said.count(f"{gone} cannot be reached") == 5
    assert "  --endpoint preprocess[1]: " in said
    assert log.read_bytes() == b"an earlier run"


def test_the_log_is_not_what_is_read(plan_file: Path, tmp_path: Path) -> None:
    trace = tmp_path / "a.parquet"
    trace.write_bytes(b"arrivals")
    code, said = invoke(str(plan_file), "--emulate", "--trace", str(trace), "--log", str(trace))
    assert code == 2
    assert "is the trace that is read; name another file" in said
    assert trace.read_bytes() == b"arrivals"


def test_a_log_that_is_lost_at_the_end_is_told_after_the_summary(
    plan_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, serve = tmp_path / "logs", mp.serving.serve
    folder.mkdir()

    def losing(*given: Any, started: Any, **settings: Any) -> Any:
        return serve(*given, started=lambda url: (started(url), folder.rmdir()), **settings)

    monkeypatch.setattr(mp.serving, "serve", losing)
    arguments = ["--emulate", "--port", "0", "--for", "0.1s", "--log", str(folder / "stages.parquet")]
    code, said = invoke(str(plan_file), *arguments)
    assert code == 2
    assert "Served cascade" in said
    assert f"  --log {folder / 'stages.parquet'}: was not written" in said


def test_what_is_guaranteed_is_of_the_whole_objective(
    plan_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By windows, with further limits, and of every query inside an arrival curve."""
    monkeypatch.setattr(mp.serving, "serve", lambda *_, **_settings: SimpleNamespace(unwritten=None))
    trace, timed = mp.Trace.read("steady", end_s=5.0), mp.Plan.load(plan_file)
    raised = mp.serving.with_allowance(timed, 0.002)
    slo_ns = mp.replay(raised, trace).quantile_ns(0.99)  # kept over all queries, and in some second missed
    asked = [
        replace(timed.objective, slo_ns=slo_ns, per_ns=10**9),
        replace(timed.objective, slo_ns=10 * slo_ns, others=(QuantileLimit(0.5, 1_000_000),)),
    ]
    arguments = ["--emulate", "--trace", "steady", "--to", "5s"]
    for objective in asked:
        replace(timed, objective=objective).save(tmp_path / "plan.json")
        code, said = invoke(str(tmp_path / "plan.json"), *arguments)
        bound = format_duration(mp.replay(raised, trace).objective_ns(objective))
        assert code == 0
        assert f"guarantee    {objective.name} ≤ {bound} on " in said
        assert "is NOT kept" in said
    eager = replace(timed.objective, dispatch=())
    longest_ns = int(mp.certify(replace(raised, objective=eager), trace).latency_ns.max())
    inside = replace(eager, slo_ns=longest_ns - 1, envelope=((4.0, 160.0),))
    replace(timed, objective=inside).save(tmp_path / "plan.json")
    assert "is NOT kept" in invoke(str(tmp_path / "plan.json"), *arguments)[1]
