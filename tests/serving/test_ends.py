"""What becomes of queries and replicas where they end in odd ways, or a host does. Nothing asserts a wall time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import mipplan as mp
from mipplan.serving import (
    Blueprint,
    Dispatcher,
    Outcome,
    ServedBatch,
    ServeParams,
    ServingHost,
    Voided,
    rehearse,
    serve_until,
)
from serving_plans import MS, small_plan


def test_a_query_that_ends_where_two_stages_merge_at_once_ends_once() -> None:
    """The first has no replica left, which answers the query; the second waited for the same decision."""
    stages = {name: ([1.0], 1) for name in ("first", "second", "one", "two")}
    maybe = {"probability": 0.5}
    edges = {("first", merging): {} for merging in ("second", "one", "two")}
    edges |= {("second", merging): maybe for merging in ("one", "two")}
    run = rehearse(
        Dispatcher(Blueprint.of(small_plan(stages, edges))),
        [0, MS // 2],
        decide=lambda batch: [{"one": 0, "two": 0} for _ in batch.tokens],
        incidents=[(3 * MS // 2, lambda dispatcher, now: dispatcher.gone("one", 0, now, "killed"))],
    )
    ends = {answer.query.name: (answer.outcome, answer.reason) for answer in run.answers}
    assert ends == dict.fromkeys((0, 1), (Outcome.FAILED, "no replica of stage one is left"))


@pytest.mark.parametrize("dispatch", ["eager", "paced", "timed"])
def test_a_query_that_waits_for_no_time_does_not_keep_a_disturbance_up(dispatch: str) -> None:
    dispatcher = Dispatcher(Blueprint.of(small_plan({"a": ([1.0], 1)}, dispatch=dispatch)))
    dispatcher.arrive("hasty", 0, deadline_ns=0)
    steps = dispatcher.wake(0)
    for number, taken_ns in enumerate((3 * MS, MS, MS)):  # the first batch overruns
        sent_ns = (1 + number) * 100 * MS
        dispatcher.arrive(number, sent_ns)
        steps += dispatcher.wake(sent_ns)
        dispatcher.finished(number, sent_ns + taken_ns)
        steps += dispatcher.wake(sent_ns + taken_ns)
    assert [step.query.name for step in steps if isinstance(step, Voided) and step.query.name != "hasty"] == [
        0
    ]


class TwoPlaces:
    """Has room for two replicas of a stage, and is done as soon as it may be."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.stopped: list[tuple[str, int]] = []

    def most_replicas(self, stage: str) -> int:
        return 2

    async def start(self, stage: str, replica: int) -> None:
        pass

    async def run(self, stage: str, replica: int, batch: ServedBatch) -> Sequence[Any]:
        await self.may_end.wait()
        return [None] * len(batch.tokens)

    async def stop(self, stage: str, replica: int) -> None:
        self.stopped.append((stage, replica))

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("dispatch", ["eager", "timed"])
def test_a_replica_that_is_given_back_within_its_batch_comes_back(dispatch: str) -> None:
    """Of a timed stage the batch is held back beyond its end."""
    plan = small_plan({"a": ([100.0], 2)}, dispatch=dispatch)

    async def run() -> None:
        worker = TwoPlaces()
        async with ServingHost(plan, worker) as host:
            queries = [asyncio.create_task(host.infer(number)) for number in range(2)]
            await asyncio.sleep(0)
            host.scale({"a": 1})
            host.scale({"a": 2})
            worker.may_end.set()
            assert [answer.outcome for answer in await asyncio.gather(*queries)] == [Outcome.SERVED] * 2
            for _ in range(1_000):
                if host.dispatcher.stages["a"].alive == {0, 1}:
                    break
                await asyncio.sleep(0.001)
            assert host.dispatcher.stages["a"].alive == {0, 1}
            assert (await host.infer()).outcome is Outcome.SERVED

    asyncio.run(run())


def test_a_replica_whose_batch_is_held_back_is_let_go() -> None:
    plan = small_plan({"a": ([1e6], 2)}, dispatch="timed")

    async def run() -> None:
        worker = TwoPlaces()
        worker.may_end.set()
        async with ServingHost(plan, worker) as host:
            queries = [asyncio.create_task(host.infer(number)) for number in range(2)]
            while [batch.finished_ns is None for batch in host.dispatcher.batches.values()] != [False] * 2:
                await asyncio.sleep(0)
            host.scale({"a": 1})
            await asyncio.sleep(0)
            assert worker.stopped == [("a", 1)]
        await asyncio.wait_for(asyncio.gather(*queries), 60)

    asyncio.run(run())


@pytest.mark.parametrize(("dispatch", "first_ms", "delay"), [("eager", 1.0, "1000s"), ("timed", 1e6, "1ms")])
def test_leaving_answers_what_is_between_stages_or_held_back(
    dispatch: str, first_ms: float, delay: str
) -> None:
    plan = small_plan(
        {"a": ([first_ms], 1), "b": ([1.0], 1)}, {("a", "b"): {"delay": delay}}, dispatch=dispatch
    )

    async def run() -> None:
        worker = TwoPlaces()
        worker.may_end.set()
        async with ServingHost(plan, worker) as host:
            query = asyncio.create_task(host.infer())
            await asyncio.sleep(0)
            while any(batch.finished_ns is None for batch in host.dispatcher.batches.values()):
                await asyncio.sleep(0)
        answer = await asyncio.wait_for(query, 60)
        assert (answer.outcome, answer.reason) == (Outcome.FAILED, "the server has stopped")
        assert host.counts["failed"] == 1

    asyncio.run(run())


class Reluctant(TwoPlaces):
    """Lets a batch of the first stage go only when the second stage has one, or after some time."""

    def __init__(self) -> None:
        super().__init__()
        self.has_gone_on = asyncio.Event()

    async def run(self, stage: str, replica: int, batch: ServedBatch) -> Sequence[Any]:
        try:
            if stage == "b":
                self.has_gone_on.set()
            if stage == "b" or batch.number:
                await asyncio.Event().wait()
        finally:
            if stage == "a" and batch.number:
                await asyncio.wait({asyncio.ensure_future(self.has_gone_on.wait())}, timeout=0.2)
        return [None] * len(batch.tokens)


def test_nothing_is_dispatched_while_a_host_is_left() -> None:
    edges = {("a", "b"): {"delay": "50ms"}}
    plan = small_plan({"a": ([1.0], 1), "b": ([1.0], 1)}, edges)

    async def run() -> None:
        worker = Reluctant()
        async with ServingHost(plan, worker) as host:
            queries = [asyncio.create_task(host.infer(number)) for number in range(2)]
            while 1 not in host.dispatcher.batches:
                await asyncio.sleep(0)
        assert {answer.outcome for answer in await asyncio.gather(*queries)} == {Outcome.FAILED}
        assert {task for task in asyncio.all_tasks() if "ServingHost" in repr(task)} == set()

    asyncio.run(asyncio.wait_for(run(), 60))


@pytest.mark.parametrize(
    ("address", "port"), [("127.0.0.1", 70_000), ("127.0.0.1", -1), ("no..name", 0), ("x" * 64, 0)]
)
def test_addresses_and_ports_that_cannot_be_are_told(address: str, port: int) -> None:
    pytest.importorskip("aiohttp")
    pytest.importorskip("prometheus_client")
    plan, params = small_plan({"a": ([1.0], 1)}), ServeParams(address=address, port=port)
    with pytest.raises(mp.InputError, match=f"port: cannot listen on {address}:{port}: "):
        asyncio.run(serve_until(asyncio.Event(), plan, params=params))


def test_a_host_that_cannot_be_leaves_no_log(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    threads = set(threading.enumerate())
    plan = small_plan({"a": ([1.0], 1)})
    with pytest.raises(mp.InputError, match="the stage has no worker"):
        asyncio.run(serve_until(asyncio.Event(), plan, {}, log=tmp_path / "stages"))
    assert not list(tmp_path.iterdir())
    assert set(threading.enumerate()) <= threads
