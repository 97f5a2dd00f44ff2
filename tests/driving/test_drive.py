"""The load generator sends what it was given when it was given it, and tells what came of each query."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from typer.testing import CliRunner

import mipplan as mp
from driving.servers import ANSWER, MODEL, served
from mipplan.cli.app import app
from mipplan.driving import QUERY_HEADER, Drive, DriveParams, TargetRequest, find_target
from mipplan.logs import MISSING, LogMetadata, QueryLog

TRACE = mp.Trace.from_seconds(np.arange(20) * 0.01, name="even")


async def answers(request: web.Request) -> web.Response:
    return web.json_response(ANSWER)


def drive(url: str, **others: object) -> Drive:
    return mp.drive(TRACE, url, params=DriveParams(lead_s=0.01), **others)  # type: ignore[arg-type]


def test_every_query_goes_out_with_its_number_and_what_the_model_takes() -> None:
    seen: list[dict[str, object]] = []

    async def infer(request: web.Request) -> web.Response:
        seen.append({**json.loads(await request.read()), "header": request.headers["Mipplan-Query"]})
        return web.json_response(ANSWER, headers={"Mipplan-Route": '{"detect": ["plates"]}'})

    with served(infer) as url:
        driven = drive(url, model="net", scale=2)
    assert sorted(int(str(entry["id"])) for entry in seen) == list(range(20))
    assert all(entry["id"] == entry["header"] for entry in seen)
    assert seen[0]["inputs"][0]["shape"] == [1, 2]  # type: ignore[index]
    log = driven.log
    assert log.ok.all()
    assert set(log.route) == {'{"detect": ["plates"]}'}
    assert np.array_equal(log.scheduled_ns - log.scheduled_ns[0], TRACE.scale(2).arrival_ns)
    assert np.all(log.sent_ns >= log.scheduled_ns - 1_000_000)  # Timers have the grain of the clock.
    assert np.all(log.answered_ns >= log.sent_ns)
    assert log.metadata.target == f"{url}/v2/models/net/infer"


def test_a_server_that_wants_a_key_gets_it_before_the_run_too() -> None:
    with served(answers, key="k") as url:
        assert drive(url, model="net", headers={"X-Key": "k"}).log.ok.all()


def test_servers_that_compress_answers_do_not_here() -> None:
    """Triton compresses wherever it may, and what is compressed is no answer that could be looked into."""

    async def infer(request: web.Request) -> web.Response:
        response = web.json_response({**ANSWER, "padding": " " * 5_000})
        response.enable_compression()  # What the client takes.
        return response

    with served(infer) as url:
        assert drive(url, model="net").log.ok.all()


def test_slow_answers_do_not_slow_the_sending_down() -> None:
    """The first answer is held back until all queries have come: a closed loop would never end."""
    come: list[int] = []
    all_come = asyncio.Event()

    async def infer(request: web.Request) -> web.Response:
        come.append(1)
        if len(come) == len(TRACE):
            all_come.set()
        await all_come.wait()
        return web.json_response(ANSWER)

    with served(infer) as url:
        assert drive(url, model="net").log.ok.all()


def test_clock_that_is_set_during_the_run_is_no_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    shift_ns, real = [0], time.time_ns

    async def infer(request: web.Request) -> web.Response:
        if request.headers["Mipplan-Query"] == "9":
            shift_ns[0] = 3_600 * 10**9
        return web.json_response(ANSWER)

    monkeypatch.setattr(time, "time_ns", lambda: real() + shift_ns[0])
    with served(infer) as url:
        log = drive(url, model="net").log
    assert shift_ns[0]
    assert (log.answered_ns - log.sent_ns).max() < 60 * 10**9
    assert (log.sent_ns - log.scheduled_ns).max() < 60 * 10**9


def test_connections_are_used_again() -> None:
    ports: set[object] = set()

    async def infer(request: web.Request) -> web.Response:
        ports.add(request.transport and request.transport.get_extra_info("peername"))
        return web.Response()

    with served(infer) as url:
        driven = drive(f"{url}/any", scale=0.2)
    assert driven.log.ok.all()
    assert len(ports) < len(TRACE)


def test_binary_tensors_go_where_the_server_takes_them() -> None:
    async def infer(request: web.Request) -> web.Response:
        head = int(request.headers["Inference-Header-Content-Length"])
        data = await request.read()
        document, tensor = json.loads(data[:head]), data[head:]
        assert document["inputs"][0]["parameters"] == {"binary_data_size": len(tensor)}
        assert np.frombuffer(tensor, np.float32).shape == (2,)
        return web.json_response(ANSWER)

    with served(infer, extensions=["binary_tensor_data"]) as url:
        assert drive(url, model="net").log.ok.all()


@pytest.mark.parametrize(
    ("kind", "status", "error"),
    [
        ("hangs", "timeout", "no answer within 0.3 s"),
        ("500", "error", "HTTP 500"),
        ("302", "error", "HTTP 302"),
        ("503", "rejected", "HTTP 503"),
        ("429", "rejected", "HTTP 429"),
        ("closes", "error", "connection closed without an answer"),
        ("breaks off", "error", "answer broken off"),
        ("floods", "error", "answer of more than 1 MiB"),
        ("nan", "error", "the output 'y' holds NaN: give inputs the model is made for (--inputs)"),
        ("shape", "error", "the output 'y' holds 2 values, not the [1, 3] it says"),
        ("negative", "error", "the server's answer is no inference response: "),
        ("half", "error", "the server's answer is no inference response: "),
        ("no list", "error", "the server's answer is no inference response: "),
        ("text", "error", "the server's answer is no inference response: b'hello'"),
        ("deep", "error", "the server's answer is no inference response: "),
    ],
)
def test_every_third_answer_is_bad_and_counted_by_kind(kind: str, status: str, error: str) -> None:
    async def infer(request: web.Request) -> web.StreamResponse:
        if int(request.headers["Mipplan-Query"]) % 3:
            return web.json_response(ANSWER)
        if kind.isdecimal():
            return web.Response(status=int(kind))
        if kind == "hangs":
            await asyncio.sleep(60)
        if kind == "closes":
            assert request.transport is not None
            request.transport.close()
        if kind in ("breaks off", "floods"):
            response = web.StreamResponse(headers={"Content-Length": str(2**22)})
            await response.prepare(request)
            await response.write(bytes(100 if kind == "breaks off" else 2**22))
            assert request.transport is not None
            request.transport.close()
            return response
        output = ANSWER["outputs"][0]
        shapes = {"shape": [1, 3], "batch": [2, 1], "negative": [-1, -2], "half": [1.5, 2], "no list": "12"}
        lies = {"nan": {"data": [0.5, float("nan")]}} | {what: {"shape": of} for what, of in shapes.items()}
        texts = {"text": "hello", "deep": "[" * 100_000}
        text = texts.get(kind) or json.dumps({"outputs": [output | lies.get(kind, {})]})
        return web.Response(text=text)

    with served(infer) as url:
        driven = mp.drive(
            TRACE, url, model="net", timeout_s=0.3 if kind == "hangs" else 60.0,
            params=DriveParams(lead_s=0.01, most_answer_bytes=2**20),
        )  # fmt: skip
    assert driven.counts == {"ok": 13, "error": 0, "timeout": 0, "rejected": 0} | {status: 7}
    ((found, count),) = driven.errors.items()
    assert found.startswith(error)
    assert count == 7
    assert error[:30] in str(driven)


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_what_a_server_does_not_answer_is_not_sent_again(method: str) -> None:
    seen: list[int] = []

    async def infer(request: web.Request) -> web.Response:
        seen.append(int(request.headers["Mipplan-Query"]))
        if seen[-1] % 3 == 0 and request.transport is not None:
            request.transport.close()
        return web.Response()

    with served(infer) as url:
        driven = drive(f"{url}/any", method=method)
    assert sorted(seen) == list(range(20))
    assert driven.errors == {"connection closed without an answer": 7}


@pytest.mark.parametrize("shape", [[-1, -2], [-1, 1.5], [True, 2], "12"])
def test_what_a_model_cannot_take_is_told_before_the_run(shape: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODEL, "inputs", [{"name": "x", "datatype": "FP32", "shape": shape}])
    with served(answers) as url, pytest.raises(mp.InputError, match="does not say what the model takes"):
        drive(url, model="net")


def test_whole_numbers_of_shapes_may_be_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODEL, "inputs", [{"name": "x", "datatype": "FP32", "shape": ["-1", "2"]}])
    with served(answers) as url:
        assert drive(url, model="net").log.ok.all()


def test_what_makes_inputs_is_found_where_the_command_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed `mipplan` begins its path with its own folder, `python -m mipplan` with the working one."""
    makes = "import numpy\n\ndef ones(batch):\n    return {'x': numpy.ones((batch, 2), numpy.float32)}\n"
    (tmp_path / "made_for_net.py").write_text(makes, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", str(tmp_path))])
    with served(answers) as url:
        assert drive(url, model="net", inputs="made_for_net:ones").log.ok.all()


def test_other_urls_get_the_body_that_was_given() -> None:
    seen: list[tuple[str, bytes, str]] = []

    async def infer(request: web.Request) -> web.Response:
        seen.append((request.method, await request.read(), request.headers["X-Key"]))
        return web.Response()

    with served(infer) as url:
        drive(f"{url}/any", body='{"frame": {query}}', headers={"X-Key": "k"})
        drive(f"{url}/any", method="put", body="x", headers={"X-Key": "k"}, time_limit_s=0.05)
    assert seen[0] == ("POST", b'{"frame": 0}', "k")
    assert seen[20:] == [("PUT", b"x", "k")] * 5


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(mp.InputError) as caught:
        mp.drive(
            "steady",
            "ftp://x",
            scale=-1,
            time_limit_s=0,
            timeout_s=0,
            method="DO",
            inputs="x.npz",
            out=tmp_path,
        )  # type: ignore[arg-type]
    places = [fault.place for fault in caught.value.faults]
    assert places == ["trace", "scale", "time_limit_s", "timeout_s", "out", "target", "inputs", "method"]
    with pytest.raises(mp.InputError, match="what a model of the Open Inference Protocol takes is known"):
        find_target(TargetRequest("http://127.0.0.1:9/v2/models/net", body="x"))


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/any", "http://127.0.0.1:9/v2/models/net"])
def test_headers_that_no_request_can_have_are_told_before_the_run(url: str) -> None:
    headers = {
        "X-Fine": "a b\té",
        "X-Split": "a\r\nHost: b",
        "X-Sign": "\x00",
        "X-Euro": "5 €",
        "a b": "x",
        "Content-Length": "0",
        "mipplan-query": "7",
    }
    with pytest.raises(mp.InputError) as caught:
        drive(url, headers=headers)
    places = [fault.place for fault in caught.value.faults]
    assert places == [f"headers.{name}" for name in headers if name != "X-Fine"]


@pytest.mark.parametrize("url", ["http://[::1", "http://h:99999", "http://a b", "http://a..b", None])
def test_what_is_no_url_is_told(url: Any) -> None:
    with pytest.raises(mp.InputError, match="target: expected http://HOST:PORT"):
        find_target(TargetRequest(url))


def test_hosts_and_folders_that_begin_like_the_protocol_stay() -> None:
    with served(answers) as url, pytest.raises(mp.InputError, match=r"/v2x/v2: .*answers 404"):
        find_target(TargetRequest(f"{url}/v2x/v2", model="net"))


def test_target_that_is_not_there_is_told_before_the_run() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # Bound and not listening: nobody else gets the port.
        port = bound.getsockname()[1]
        with pytest.raises(mp.InputError, match="nothing takes connections at"):
            drive(f"http://127.0.0.1:{port}/any")
        with pytest.raises(mp.InputError, match="cannot be reached"):
            drive(f"http://127.0.0.1:{port}", model="net")

    with served(answers) as url, pytest.raises(mp.InputError, match="answers 404"):
        drive(url, model="other")


def test_late_sending_spoils_and_is_said() -> None:
    late = np.zeros(1_000, dtype=np.int64)
    late[:10] = 11_000_000
    numbers = np.arange(1_000)
    log = QueryLog.from_columns(
        {"query": numbers, "scheduled_ns": numbers * 10**9, "sent_ns": numbers * 10**9 + late,
         "answered_ns": numbers * 10**9 + 20_000_000, "status": ["ok"] * 1_000, "error": [None] * 1_000,
         "route": [None] * 1_000},
        LogMetadata(),
    )  # fmt: skip
    driven = Drive(log, "t", "u", 1_000)
    assert driven.spoilt
    assert "send times spoil the measurement: P99 11 ms late" in str(driven)
    assert not Drive(log.taken(numbers > 0), "t", "u", 999).spoilt


def test_it_runs_beside_a_loop_that_runs_already_and_ends_at_an_interrupt() -> None:
    """As in notebooks, where Ctrl-C is raised in the thread of that loop."""
    trace = mp.Trace.from_seconds([0.0, 0.01, 1_000.0])

    async def infer(request: web.Request) -> web.Response:
        if request.headers[QUERY_HEADER] == "1":
            os.kill(os.getpid(), signal.SIGINT)
        return web.json_response(ANSWER)

    async def inside(url: str, limit_s: float | None) -> Drive:
        return mp.drive(trace, f"{url}/any", time_limit_s=limit_s)

    loop = asyncio.new_event_loop()
    with served(infer) as url:
        whole, ended = (loop.run_until_complete(inside(url, limit_s)) for limit_s in (0.005, None))
    loop.close()
    assert (whole.log.ok.all(), whole.interrupted, ended.interrupted) == (True, False, True)
    assert (len(whole.log), len(ended.log)) == (1, 2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_writes_the_log_and_after_an_interrupt_what_there_is(number: int, tmp_path: Path) -> None:
    trace, out = tmp_path / "t.csv", tmp_path / "q.parquet"
    trace.write_text("arrival_s\n" + "\n".join(str(k * 0.02) for k in range(3_000)))
    command = [sys.executable, "-m", "mipplan", "drive", str(trace), "-o", str(out), "--json", "--target"]
    with served(answers) as url:
        done = subprocess.run(
            [*command, url, "--model", "net", "--time-limit", "300ms", "--scale", "2x"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert json.loads(done.stdout)["sent"] == 30, done.stderr
        out.unlink()
        process = subprocess.Popen(
            [*command, f"{url}/any"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        while " sent, " not in process.stderr.readline():  # The first line of progress.
            assert process.poll() is None
        os.kill(process.pid, number)
        stdout, _ = process.communicate()
    report = json.loads(stdout)
    assert process.returncode == 130
    assert report["interrupted"]
    assert 0 < report["sent"] < 3_000
    log = mp.read_log(out).queries
    assert len(log) == report["sent"]
    assert set(log.status) <= {"ok", "timeout"}
    assert np.all(log.answered_ns[log.status == "timeout"] == MISSING)
    assert log.sent_ns[-1] < time.time_ns()


def test_command_says_of_which_server_an_address_is_and_what_to_do_where_nothing_is(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("arrival_s\n0\n0.01\n0.02\n")
    command = ["drive", str(tmp_path / "t.csv"), "-o", str(tmp_path / "q.parquet"), "--target"]
    with served(answers) as url:
        other = CliRunner().invoke(app, [*command, url, "--model", "other"])
        nothing = CliRunner().invoke(app, [*command, f"{url}/nothing", "--json"])
        good = CliRunner().invoke(app, [*command, url, "--model", "net", "--json"])
    gone = CliRunner().invoke(app, [*command, url, "--model", "net"])
    for result, told in (
        (other, "/v2/models/other: the server answers 404"),
        (gone, "/v2: the server cannot be"),
    ):
        assert (result.exit_code, f"  {url}{told}" in result.stderr) == (2, True), result.stderr
    assert (nothing.exit_code, good.exit_code) == (1, 0)
    _, advice = json.loads(nothing.stdout)["notes"]
    assert advice.startswith(f"nothing is served at {url}/nothing; ")
    assert "--model NAME" in advice
    assert json.loads(good.stdout)["notes"] == []


def test_a_second_interrupt_does_not_cost_the_log(tmp_path: Path) -> None:
    """It comes as the log is written, which takes longer than people wait."""
    trace, out = tmp_path / "t.csv", tmp_path / "q.parquet"
    trace.write_text("arrival_s\n" + "\n".join(str(k * 0.02) for k in range(3_000)))
    command = [sys.executable, "-m", "mipplan", "drive", str(trace), "-o", str(out), "--json", "--target"]
    with served(answers) as url:
        process = subprocess.Popen(
            [*command, f"{url}/any"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        while " sent, " not in process.stderr.readline():
            assert process.poll() is None
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.1)
        os.kill(process.pid, signal.SIGINT)
        process.communicate()
    assert process.returncode == 130
    assert len(mp.read_log(out).queries) > 0


def test_a_log_that_cannot_be_written_at_the_end_does_not_cost_what_was_measured(tmp_path: Path) -> None:
    out = tmp_path / "gone" / "q.parquet"
    out.parent.mkdir()

    async def infer(request: web.Request) -> web.Response:
        if out.parent.exists():
            out.parent.rmdir()
        return web.json_response(ANSWER)

    with served(infer) as url:
        driven = drive(url, model="net", out=out)
    assert driven.log.ok.all()
    assert driven.unwritten is not None
    assert any("the log was not written: there is no folder" in note for note in driven.notes)
    driven.save(tmp_path / "elsewhere.parquet")


def test_the_command_that_loses_its_log_prints_one_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "gone" / "q.parquet"
    out.parent.mkdir()
    (tmp_path / "trace.csv").write_text("arrival_s\n0\n0.01\n")
    monkeypatch.chdir(tmp_path)

    async def infer(request: web.Request) -> web.Response:
        if out.parent.exists():
            out.parent.rmdir()
        return web.json_response(ANSWER)

    with served(infer) as url:
        asked = ["drive", "trace.csv", "--target", url, "--model", "net", "--out", str(out), "--json"]
        done = CliRunner().invoke(app, asked)
    assert done.exit_code == 2
    document = json.loads(done.stdout)  # no second one stands behind it
    assert (document["sent"], document["written"]) == (2, [])
    assert f"  --out {out}: was not written: there is no folder" in done.stderr
