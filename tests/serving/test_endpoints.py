"""Stages served elsewhere: whole batches as one request, tensors put together and taken apart, servers that fail."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mipplan as mp
from benchmarks.truth.servers import TRUTH_SYSTEMS, free_port, started
from mipplan.serving import (
    EndpointWorker,
    HostParams,
    InferTensor,
    Outcome,
    ReplicaGoneError,
    ServingHost,
    precise_loop,
)
from mipplan.serving.clock import Alarm, now_ns, sleep_until
from mipplan.serving.tensors import apart, named_as, together
from serving_plans import small_plan

aiohttp = pytest.importorskip("aiohttp")
web = pytest.importorskip("aiohttp.web")

PLAN = small_plan({"a": ([1.0, 1.5, 2.0, 2.5], 1)})


class Doubling:
    """An OIP server that doubles its input; `script` says what else it does, request by request."""

    def __init__(self, *script: str, odd: str = "", inputs: tuple[str, ...] = (), name: str = "m") -> None:
        self.script, self.odd, self.inputs, self.name = list(script), odd, inputs, name
        self.batches: list[int] = []

    async def infer(self, request: Any) -> Any:
        told = self.script.pop(0) if self.script else "serve"
        (tensor,) = (await request.json())["inputs"]
        if self.inputs and tensor["name"] not in self.inputs:
            return web.json_response({"error": f"unexpected input {tensor['name']}"}, status=400)
        rows = tensor["shape"][0]
        if tensor["datatype"] == self.odd:
            return web.json_response({"error": f"expected INT64, found {self.odd}"}, status=400)
        self.batches.append(rows)
        if told == "break off":
            request.transport.close()
        if told == "fail":
            return web.json_response({"error": "out of memory"}, status=500)
        if told == "lie":
            rows += 1
        data = [[2 * value] for value in tensor["data"]] + [[0]] * (rows - len(tensor["data"]))
        return web.json_response(
            {"outputs": [{"name": "y", "datatype": "INT64", "shape": [rows, 1], "data": data}]}
        )


async def with_server(server: Doubling, client: Callable[[str], Awaitable[None]]) -> None:
    app = web.Application()

    async def ready(request: Any) -> Any:
        return web.json_response({"ready": True})

    async def told(request: Any) -> Any:
        if server.script and server.script[0] == "tell nothing":
            request.transport.close()
        return web.json_response({"inputs": [{"name": name} for name in server.inputs]})

    place = f"/v2/models/{server.name}"
    app.add_routes([web.post(f"{place}/infer", server.infer), web.get(f"{place}/ready", ready)])
    if server.inputs:
        app.add_routes([web.get(place, told)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        await client(f"http://127.0.0.1:{runner.addresses[0][1]}{place}")
    finally:
        await runner.cleanup()


def asked(number: int) -> list[InferTensor]:
    return [InferTensor("x", "INT64", (1, 1), [number])]


async def nine_are_doubled(url: str) -> None:
    async with ServingHost(PLAN, EndpointWorker({"a": [url]})) as host:
        answers = await asyncio.gather(*(host.infer(asked(number)) for number in range(9)))
    found = [answer.query.outputs[0][1] for answer in answers]
    assert found == [[InferTensor("y", "INT64", (1, 1), [2 * number])] for number in range(9)]


@pytest.mark.parametrize("name", ["m", "inference"])  # not all that ends so is mosec's
def test_a_batch_is_one_request(name: str) -> None:
    server = Doubling(name=name)

    asyncio.run(with_server(server, nine_are_doubled))
    assert sum(server.batches) == 9
    assert max(server.batches) == 4


def test_one_query_with_an_odd_tensor_gets_the_error_and_no_other() -> None:
    server = Doubling(odd="FP32")
    tensors = [asked(number) for number in range(9)]
    tensors[5] = [InferTensor("x", "FP32", (1, 1), [5.0])]
    tensors[7] = [InferTensor("z", "INT64", (1, 1), [7])]  # which the server takes, alone

    async def all_at_once(url: str) -> None:
        async with ServingHost(PLAN, EndpointWorker({"a": [url]})) as host:
            answers = await asyncio.gather(*(host.infer(one) for one in tensors))
        ends = [answer.outcome for answer in answers]
        assert ends == [Outcome.FAILED if number == 5 else Outcome.SERVED for number in range(9)]
        assert answers[5].reason is not None
        assert "answers 400" in answers[5].reason
        assert host.counts["failed"] == 1
        assert host.counts["void"] >= 4

    asyncio.run(with_server(server, all_at_once))


def test_outputs_go_on_under_the_names_of_the_next_models_inputs() -> None:
    """What the first model calls its output, ``y``, is not what the second calls its input."""
    plan = small_plan({"a": ([1.0], 1), "b": ([1.0], 1)}, {("a", "b"): {}})

    async def twice_doubled(url: str) -> None:
        async with ServingHost(plan, EndpointWorker({"a": [url], "b": [url]})) as host:
            answer = await host.infer(asked(3))
        assert answer.outcome is Outcome.SERVED, answer.reason
        assert answer.query.outputs == [("b", [InferTensor("y", "INT64", (1, 1), [12])])]

    asyncio.run(with_server(Doubling(inputs=("x",)), twice_doubled))


def test_a_model_that_breaks_off_before_it_has_told_its_inputs_is_not_ready() -> None:
    """Started again like this, it was sent tensors under the names that the model above gives them."""
    server = Doubling(inputs=("x",))

    async def started_again(url: str) -> None:
        worker = EndpointWorker({"a": [url]})
        await worker.start("a", 0)
        server.script.append("tell nothing")
        with pytest.raises(ReplicaGoneError, match=f"{url} cannot be reached: Server disconnected"):
            await worker.start("a", 0)
        await worker.close()

    asyncio.run(with_server(server, started_again))


@pytest.mark.parametrize(
    ("names", "given", "sent"),
    [
        ("", "yz", "yz"),
        ("ab", "yz", "ab"),
        ("ab", "ba", "ba"),
        ("ab", "yy", "ab"),
        ("ab", "aa", "ab"),
        ("ab", "yb", "ab"),
        ("abc", "yb", "yb"),
    ],
)
def test_tensors_are_named_as_a_model_names_its_inputs(names: str, given: str, sent: str) -> None:
    made = named_as(list(names), [InferTensor(name, "INT64", (1, 1), [1]) for name in given])
    assert "".join(tensor.name for tensor in made) == sent


def test_clients_may_give_their_tensors_in_any_order() -> None:
    one, other = (InferTensor(name, "INT64", (1, 1), [1]) for name in "xy")
    assert [tensor.name for tensor in together([[one, other], [other, one]])] == ["x", "y"]


MOSEC = """
from mosec import Server, Worker

class Doubling(Worker):
    def forward(self, asked):
        (tensor,) = asked["inputs"]
        return {"outputs": [{**tensor, "name": "y", "data": [2 * value for value in tensor["data"]]}]}

if __name__ == "__main__":
    server = Server()
    server.append_worker(Doubling)
    server.run()
"""


def test_a_stage_may_be_a_service_of_mosec(tmp_path: Path) -> None:
    if (reason := TRUTH_SYSTEMS["mosec"].missing()) is not None:
        pytest.skip(reason)
    (tmp_path / "server.py").write_text(MOSEC, encoding="utf-8")

    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "server.py", "--address", "127.0.0.1", "--port", str(port)]
    with started(command, tmp_path, f"{url}/metrics"):
        asyncio.run(nine_are_doubled(f"{url}/inference"))


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (["fail", "fail"], "answers 500: "),
        (["lie", "lie"], "the first dimension is 2, expected 1"),
        (["break off", "break off"], "breaks off"),
        (["fail"], None),
        (["lie"], None),
    ],
)
def test_faults_of_servers(script: list[str], reason: str | None) -> None:
    async def client(url: str) -> None:
        plan = small_plan({"a": ([1.0], 2)})
        worker = EndpointWorker({"a": [url, url]})
        async with ServingHost(plan, worker, params=HostParams(first_restart_s=0.01)) as host:
            answer = await host.infer(asked(1))
            assert (answer.outcome is Outcome.SERVED) == (reason is None)
            assert (reason or "None") in str(answer.reason)
            while host.problem is not None:
                await asyncio.sleep(0.01)
            assert (await host.infer(asked(2))).outcome is Outcome.SERVED

    asyncio.run(with_server(Doubling(*script), client))


def test_an_answer_without_end_is_broken_off() -> None:
    class Endless(Doubling):
        async def infer(self, request: Any) -> Any:
            response = web.StreamResponse()
            await response.prepare(request)
            while True:
                await response.write(b" " * 1_000)

    async def asked_once(url: str) -> None:
        worker = EndpointWorker({"a": [url]}, most_answer_bytes=100_000)
        async with ServingHost(PLAN, worker) as host:
            answer = await host.infer(asked(1))
        assert f"stage a: {url}/infer answers more than 100,000 bytes" == answer.reason

    asyncio.run(asyncio.wait_for(with_server(Endless(), asked_once), 60))


def test_there_are_no_more_replicas_than_endpoints() -> None:
    """One that goes after its batch gives its endpoint to one that comes; there was none with a number beyond."""
    answers = asyncio.Event()

    class Held(Doubling):
        async def infer(self, request: Any) -> Any:
            await answers.wait()
            return await super().infer(request)

    async def scaled(url: str) -> None:
        plan = small_plan({"a": ([1.0], 2)})
        async with ServingHost(plan, EndpointWorker({"a": [url, url, url]})) as host:
            with pytest.raises(mp.InputError, match="expected a whole number from 1 to 3, found 4"):
                host.scale({"a": 4})
            asking = [asyncio.create_task(host.infer(asked(number))) for number in range(2)]
            while len(host.dispatcher.batches) < 2:
                await asyncio.sleep(0.001)
            for count in (1, 3):
                host.scale({"a": count})
            answers.set()
            assert [(await one).outcome for one in asking] == [Outcome.SERVED] * 2
            while host.dispatcher.stages["a"].alive != {0, 1, 2}:
                await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(with_server(Held(), scaled), 60))


def test_only_the_host_says_how_long_a_batch_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of minutes, by its table, was cut off by what aiohttp allows any request."""
    slow = small_plan({"a": ([400.0], 1)})

    class Slow(Doubling):
        async def infer(self, request: Any) -> Any:
            await asyncio.sleep(0.4)
            return await super().infer(request)

    async def one_is_doubled(url: str) -> None:
        monkeypatch.setattr("aiohttp.client.DEFAULT_TIMEOUT", aiohttp.ClientTimeout(total=0.1))
        async with ServingHost(slow, EndpointWorker({"a": [url]}), allowance_s=0.5) as host:
            answered = await host.infer([InferTensor("x", "INT64", (1, 1), [4])])
        assert answered.outcome is Outcome.SERVED, answered.reason

    asyncio.run(with_server(Slow(), one_is_doubled))


def test_a_server_that_is_not_there_is_told_at_the_start() -> None:
    async def start() -> None:
        urls = [f"http://127.0.0.1:9/v2/models/{name}" for name in "mn"]
        async with ServingHost(small_plan({"a": ([1.0], 2)}), EndpointWorker({"a": urls})):
            pass

    with pytest.raises(mp.InputError, match=r"http://127.0.0.1:9/v2/models/m cannot be reached") as told:
        asyncio.run(start())
    assert [fault.place for fault in told.value.faults] == ["workers.a[0]", "workers.a[1]"]
    with pytest.raises(mp.InputError) as told:
        EndpointWorker({"a": ["ftp://x", "http://127.0.0.1:9/v2/models/m"], "b": ["http://h/x"]})
    assert {fault.place for fault in told.value.faults} == {"urls.a[0]", "urls.b[0]"}


@given(st.integers(1, 5), st.integers(1, 3), st.data())
def test_tensors_come_apart_as_they_were_put_together(queries: int, tensors: int, data: Any) -> None:
    widths = [data.draw(st.integers(1, 3)) for _ in range(tensors)]
    batch = [
        [
            InferTensor(
                f"x{number}",
                "FP32",
                (1, width),
                data.draw(st.lists(st.integers(), min_size=width, max_size=width)),
            )
            for number, width in enumerate(widths)
        ]
        for _ in range(queries)
    ]
    assert apart(together(batch), queries) == batch


@pytest.mark.parametrize(
    "other",
    [
        [InferTensor("y", "INT64", (1, 1), [1])],
        [InferTensor("x", "INT64", (1, 2), [1, 2])],
        [InferTensor("x", "FP32", (1, 1), [1])],
        [*asked(1), *asked(1)],
    ],
)
def test_what_does_not_go_together_is_told(other: list[InferTensor]) -> None:
    with pytest.raises(mp.InputError):
        together([asked(1), other])


def test_nobody_wakes_up_before_the_time() -> None:
    async def run() -> None:
        instant_ns = now_ns() + 3_000_000
        await sleep_until(instant_ns)
        assert now_ns() >= instant_ns
        rung: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        alarm = Alarm(lambda: rung.set_result(now_ns()))
        alarm.set(now_ns())
        instant_ns = now_ns() + 3_000_000
        alarm.set(instant_ns)  # the last one holds
        assert await rung >= instant_ns
        alarm.set(now_ns())
        alarm.set(None)
        await asyncio.sleep(0.001)

    with asyncio.Runner(loop_factory=precise_loop) as runner:
        runner.run(run())
