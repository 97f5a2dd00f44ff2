"""A server of emulated devices, driven over HTTP on this machine. Nothing asserts a wall time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

import mipplan as mp
from mipplan.logs import StageLog, read_log
from mipplan.serving import (
    QUERY_HEADER,
    ROUTE_HEADER,
    Blueprint,
    Dispatcher,
    DrawnDecisions,
    EmulatedWorker,
    ServedBatch,
    ServeParams,
    ServingHost,
    ServingMetrics,
    ServingSummary,
    rehearse,
    serve_until,
    serving_app,
    with_allowance,
)
from serving_plans import small_plan

aiohttp = pytest.importorskip("aiohttp")
web = pytest.importorskip("aiohttp.web")
pytest.importorskip("prometheus_client")

T = TypeVar("T")


def while_served(
    plan: mp.Plan, log: Path | None, client: Callable[[str], Awaitable[T]], **settings: Any
) -> tuple[T, ServingSummary]:
    """Run a client while a plan is served by emulated devices."""

    async def run() -> tuple[T, ServingSummary]:
        stop = asyncio.Event()
        url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        server = asyncio.create_task(
            serve_until(stop, plan, log=log, started=url.set_result, params=ServeParams(port=0, **settings))
        )
        await asyncio.wait({server, url}, return_when=asyncio.FIRST_COMPLETED)
        if server.done():
            await server
        try:
            found = await client(await url)
        finally:
            stop.set()
        return found, await server

    return asyncio.run(run())


CASCADE = mp.Plan.from_choices(
    mp.Pipeline.read(Path(__file__).parents[2] / "profiles" / "pipelines" / "cascade.yaml"),
    mp.Profiles.default(),
    {"preprocess": ("cpu", 1, 2), "fast": ("t4", 4, 1), "slow": ("v100", 8, 2)},
)
REQUEST = {"id": "x", "inputs": [{"name": "input", "datatype": "INT64", "shape": [1, 1], "data": [7]}]}


def under(dispatch: str) -> mp.Plan:
    return mp.Plan.from_choices(CASCADE.pipeline, CASCADE.profiles, CASCADE.choices, dispatch=dispatch)


@pytest.mark.parametrize("dispatch", ["eager", "paced", "timed"])
def test_what_a_server_did_is_what_the_dispatcher_does_with_its_send_times(
    dispatch: str, tmp_path: Path
) -> None:
    plan, log = under(dispatch), tmp_path / "stages.parquet"
    offsets_s = mp.Trace.gamma(rate_rps=60, cv=2, duration_s=2, seed=3).arrival_ns / 1e9
    answers: dict[int, tuple[int, dict[str, Any], str]] = {}

    async def drive(url: str) -> str:
        loop, target = asyncio.get_running_loop(), f"{url}/v2/models/cascade/infer"
        async with aiohttp.ClientSession() as session:

            async def send(number: int) -> None:
                headers = {QUERY_HEADER: str(number)}
                async with session.post(target, json=REQUEST, headers=headers) as response:
                    answers[number] = response.status, await response.json(), response.headers[ROUTE_HEADER]

            start_s, tasks = loop.time(), []
            for number, offset_s in enumerate(offsets_s.tolist()):
                await asyncio.sleep(max(0.0, start_s + offset_s - loop.time()))
                tasks.append(loop.create_task(send(number)))
            await asyncio.gather(*tasks)
            async with session.get(f"{url}/metrics") as response:
                return await response.text()

    metrics, summary = while_served(plan, log, drive, allowance_s=0.005)
    queries = len(offsets_s)
    assert sorted(answers) == list(range(queries))
    assert {status for status, _, _ in answers.values()} == {200}
    assert summary.counts["served"] == queries
    assert f'mipplan_queries_total{{outcome="served"}} {queries}.0' in metrics

    stages = read_log(log).stages
    entered = stages.at("preprocess")
    ingress = dict(zip(entered.query.tolist(), entered.arrival_ns.tolist(), strict=True))
    assert sorted(ingress) == list(range(queries))
    order = sorted(ingress, key=lambda number: ingress[number])
    drawn = DrawnDecisions(plan.pipeline)
    recorded = {stage: batches_of(stages.at(stage)) for stage in plan.choices}
    left = {stage: iter(batches) for stage, batches in recorded.items()}

    def as_recorded(batch: ServedBatch) -> int:
        dispatched_ns, finished_ns, _ = next(left[batch.stage])
        return finished_ns - dispatched_ns

    promised = with_allowance(plan, 0.005)
    run = rehearse(
        Dispatcher(Blueprint.of(promised)),
        [ingress[number] for number in order],
        [drawn[number] for number in order],
        batch_time=as_recorded,
    )
    for stage, batches in run.batches.items():
        done = [
            (batch.dispatched_ns, [order[token.query.number] for token in batch.tokens]) for batch in batches
        ]
        assert done == [(dispatched_ns, numbers) for dispatched_ns, _, numbers in recorded[stage]]
        assert all(len(numbers) <= plan.choices[stage].batch for _, numbers in done)
    assert len(run.overruns) == summary.counts["overran"]
    assert len(run.void) == summary.counts["void"]
    assert summary.counts["late"] == sum(time > plan.slo_ns for time in run.latency_ns.values())


def batches_of(log: StageLog) -> list[tuple[int, int, list[int]]]:
    """(dispatch, finish, queries) of the batches of a stage, in order of their numbers, which is that of dispatch."""
    batches: dict[int, tuple[int, int, list[int]]] = {}
    columns = (log.batch, log.dispatch_ns, log.finish_ns, log.query)
    for batch, dispatched_ns, finished_ns, query in zip(
        *(column.tolist() for column in columns), strict=True
    ):
        batches.setdefault(batch, (dispatched_ns, finished_ns, []))[2].append(query)
    return [batches[number] for number in sorted(batches)]


def test_the_front_speaks_the_open_inference_protocol(tmp_path: Path) -> None:
    async def ask(url: str) -> None:
        async with aiohttp.ClientSession() as session:

            async def get(path: str) -> tuple[int, Any]:
                async with session.get(url + path) as response:
                    return response.status, await response.json()

            async def post(path: str, document: Any) -> tuple[int, Any]:
                async with session.post(url + path, json=document) as response:
                    return response.status, await response.json()

            infer = "/v2/models/cascade/infer"
            assert (await get("/v2"))[1]["name"] == "mipplan"
            assert await get("/v2/health/live") == (200, {"live": True})
            assert await get("/v2/health/ready") == (200, {"ready": True})
            for model in ("/v2/models/cascade", "/v2/models/cascade/versions/1"):
                status, described = await get(model)
                assert (status, described["versions"], described["inputs"][0]["datatype"]) == (
                    200,
                    ["1"],
                    "INT64",
                )
                assert await get(f"{model}/ready") == (200, {"ready": True})
                assert (await post(f"{model}/infer", {}))[0] == 400
            assert (await get("/v2/models/cascade/versions/2"))[0] == 404
            assert await get("/v2/models/other") == (
                404,
                {"error": "there is no model 'other', only 'cascade'"},
            )
            assert (await get("/nothing"))[0] == 404
            async with session.get(f"{url}/scale") as response:
                assert (response.status, response.headers["Allow"]) == (405, "POST")
            status, answer = await post(infer, REQUEST)
            assert (status, answer["id"], answer["outputs"][0]["shape"]) == (200, "x", [1, 1])
            for document, place in BAD_REQUESTS:
                status, answer = await post(infer, document)
                assert (status, place in answer["error"]) == (400, True), answer
            for text in (
                '{"inputs": ',
                "[" * 100_000,
                '{"inputs": [NaN]}',
                '{"x": Infinity}',
                '{"id": -1e999}',
            ):
                async with session.post(url + infer, data=text) as response:
                    told = (await response.json())["error"]
                    assert (response.status, "is no JSON: " in told) == (400, True), told
            binary = {"Inference-Header-Content-Length": "2"}
            async with session.post(url + infer, data="{}xy", headers=binary) as response:
                assert (response.status, "binary" in await response.text()) == (400, True)
            status, answer = await post(infer, {**REQUEST, "parameters": {"timeout_ms": 0.001}})
            assert (status, answer) == (504, {"error": "its time is over"})
            assert await post("/drain", {}) == (200, {"drained": True})
            assert await get("/v2/health/ready") == (
                503,
                {"ready": False, "error": "the server is being drained"},
            )
            assert await post(infer, REQUEST) == (503, {"error": "the server is being drained"})

    _, summary = while_served(CASCADE, None, ask)
    ends = {kind: summary.counts[kind] for kind in ("served", "timed_out", "rejected", "failed", "cancelled")}
    assert ends == {"served": 1, "timed_out": 1, "rejected": 1, "failed": 0, "cancelled": 0}
    assert "1 queries" in str(summary)


BAD_REQUESTS: list[tuple[Any, str]] = [
    ([], "request: expected a JSON object"),
    ({}, "inputs: expected a list of tensors"),
    ({"inputs": [{"name": "a"}]}, "inputs[0]: expected an object with name"),
    ({"inputs": [{**REQUEST["inputs"][0], "shape": [2, 1]}]}, "the first dimension is 2"),  # type: ignore[dict-item]
    ({"inputs": [{**REQUEST["inputs"][0], "data": [1, 2]}]}, "holds 2 values"),  # type: ignore[dict-item]
    ({**REQUEST, "parameters": {"timeout_ms": -1}}, "parameters.timeout_ms"),
    ({**REQUEST, "parameters": {"route": {"fast": 1}}}, "parameters.route"),
    ({**REQUEST, "parameters": {"route": {"fast -> slow": [2, 2]}}}, "decisions.fast -> slow"),
]


@pytest.mark.parametrize(
    ("allowance_s", "certificate_ns", "missed"),
    [(0.0, None, 1), (0.05, None, None), (0.05, 2, 1), (0.05, 10**12, 0), (0.0, 10**12, 0)],
)
@pytest.mark.parametrize("quantile", [1.0, 0.99])
def test_only_a_certificate_that_is_promised_is_missed(
    quantile: float, allowance_s: float, certificate_ns: int | None, missed: int | None
) -> None:
    """The plan's is of batches within its tables: with an allowance all may be later, and nothing is wrong.

    Nor is anything wrong if one query in a hundred exceeds a certificate of P99.
    """
    plan = small_plan({"a": ([1.0], 1)}, quantile=quantile)
    missed = None if certificate_ns is None and quantile < 1.0 else missed
    plan = replace(plan, figures=replace(plan.figures, certificate_ns=1))

    async def ask(url: str) -> str:
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{url}/v2/models/small/infer", json=REQUEST) as response:
                assert response.status == 200
            async with session.get(f"{url}/metrics") as response:
                return await response.text()

    metrics, _ = while_served(plan, None, ask, allowance_s=allowance_s, certificate_ns=certificate_ns)
    assert 'mipplan_missed_total{limit="objective"} 0.0' in metrics
    assert (f'mipplan_missed_total{{limit="certificate"}} {missed}.0' in metrics) == (missed is not None)
    assert ('limit="certificate"' in metrics) == (missed is not None)


def test_a_port_that_is_taken_is_told_and_an_earlier_log_stays(tmp_path: Path) -> None:
    log = tmp_path / "stages.parquet"
    log.write_bytes(b"an earlier run")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        params = ServeParams(port=taken.getsockname()[1])
        with pytest.raises(mp.InputError, match="cannot listen on 127"):
            asyncio.run(serve_until(asyncio.Event(), CASCADE, log=log, params=params))
        with pytest.raises(mp.InputError, match="cannot listen on 127"):
            asyncio.run(serve_until(asyncio.Event(), CASCADE, log=tmp_path / "stages", params=params))
    assert list(tmp_path.iterdir()) == [log]
    assert log.read_bytes() == b"an earlier run"


class Loading(EmulatedWorker):
    """Its models take for ever to load."""

    is_closed = False

    async def start(self, stage: str, replica: int) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        self.is_closed = True


def test_replicas_that_still_start_do_not_keep_who_is_told_to_stop(tmp_path: Path) -> None:
    worker = Loading(CASCADE)

    async def run() -> ServingSummary:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(0.01, stop.set)
        params = ServeParams(port=0)
        return await serve_until(
            stop, CASCADE, worker, log=tmp_path / "log", started=pytest.fail, params=params
        )

    summary = asyncio.run(asyncio.wait_for(run(), 60))
    assert worker.is_closed
    assert not list(tmp_path.iterdir())
    assert "log       not written: it was told to stop before all replicas had started" in str(summary)


def test_its_url_has_an_address_of_ipv6_in_brackets() -> None:
    async def ask(url: str) -> str:
        async with aiohttp.ClientSession() as session, session.get(f"{url}/v2/health/live") as response:
            assert response.status == 200
        return url

    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    url, _ = while_served(CASCADE, None, ask, address="::1")
    assert url.startswith("http://[::1]:")


def test_a_log_that_cannot_be_written_at_the_end_does_not_cost_the_summary(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()

    async def ask(url: str) -> None:
        infer = f"{url}/v2/models/cascade/infer"
        async with aiohttp.ClientSession() as session, session.post(infer, json=REQUEST) as response:
            assert response.status == 200
        folder.rmdir()

    _, summary = while_served(CASCADE, folder / "stages.parquet", ask)
    assert summary.counts["served"] == 1
    assert summary.unwritten is not None
    assert "log       not written: there is no folder" in str(summary)


def test_a_request_that_never_becomes_whole_does_not_keep_the_server() -> None:
    """The client waits until the server hangs up, which it did after a minute: until then many are killed."""

    gave_up: list[bool] = []

    async def patient(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /v2/models/cascade/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        try:
            async with asyncio.timeout(40):
                await reader.read()
            gave_up.append(False)
        except TimeoutError:
            gave_up.append(True)
        writer.close()

    async def client(url: str) -> asyncio.Task[None]:
        task = asyncio.create_task(patient(int(url.rpartition(":")[2])))
        await asyncio.sleep(0.2)
        return task

    while_served(CASCADE, None, client)
    assert gave_up == [False]


@pytest.mark.parametrize(
    "request_text",
    [
        "POST /v2/models/cascade/infer HTTP/9.9\r\nHost: x\r\n\r\n",
        "POST /v2/models/cascade/infer HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        "POST /v2/models/cascade/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\nnone\r\n",
    ],
)
def test_what_is_no_request_is_the_clients_fault(
    request_text: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    async def client(url: str) -> bytes:
        host, _, port = url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request_text.encode())
        answer = await reader.readline()
        writer.close()
        async with aiohttp.ClientSession() as session, session.get(f"{url}/v2/health/ready") as response:
            assert response.status == 200
        return answer

    answer, _ = while_served(CASCADE, None, client)
    assert b" 400 " in answer
    assert not caplog.records
    assert "Traceback" not in "".join(capsys.readouterr())


def test_a_client_that_breaks_off_is_noticed() -> None:
    plan = small_plan({"a": ([300.0], 1)}, slo_s=10.0)

    async def run() -> None:
        async with ServingHost(plan, EmulatedWorker(plan)) as host:
            runner = web.AppRunner(
                serving_app(host, ServingMetrics(plan, host.dispatcher)), handler_cancellation=True
            )
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            url = f"http://127.0.0.1:{runner.addresses[0][1]}/v2/models/small/infer"
            async with aiohttp.ClientSession() as session:
                stays = asyncio.create_task(session.post(url, json=REQUEST))
                while len(host.dispatcher.queries) < 1:
                    await asyncio.sleep(0.001)
                goes = asyncio.create_task(session.post(url, json=REQUEST))
                while len(host.dispatcher.queries) < 2:
                    await asyncio.sleep(0.001)
                goes.cancel()
                while not host.counts["cancelled"]:
                    await asyncio.sleep(0.001)
                assert (await stays).status == 200
                (await stays).release()
            assert host.dispatcher.stages["a"].waiting == 0
            await runner.cleanup()

    asyncio.run(asyncio.wait_for(run(), 120))
