"""The host in real time: what workers do, and what becomes of queries when they fail. Nothing asserts a wall time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

import mipplan as mp
from mipplan.core import QuantileLimit
from mipplan.serving import (
    ROUTE_HEADER,
    AdmissionParams,
    Blueprint,
    CallableWorker,
    Dispatcher,
    EmulatedWorker,
    HostParams,
    Outcome,
    RejectedError,
    ReplicaGoneError,
    Routed,
    ServedBatch,
    ServingHost,
    rehearse,
    route_headers,
    with_allowance,
)
from serving_plans import Unreadable, double, small_plan

PLAN = small_plan({"a": ([1.0, 1.5], 2), "b": ([1.0], 1)}, {("a", "b"): {}})
QUICK = HostParams(least_patience_s=0.2, first_restart_s=0.01)


class ScriptedWorker:
    """Does what it is told for each batch, by the number of the call; returns the inputs' sum for each token."""

    def __init__(self, *script: str) -> None:
        self.script = list(script)
        self.started: list[tuple[str, int]] = []

    async def start(self, stage: str, replica: int) -> None:
        self.started.append((stage, replica))

    async def run(self, stage: str, replica: int, batch: ServedBatch) -> Sequence[Any]:
        told = self.script.pop(0) if self.script else "serve"
        if told == "die":
            raise ReplicaGoneError("killed")
        if told == "raise":
            raise ValueError("out of memory")
        if told == "cancel":  # as gRPC does with a call that the server cancels
            raise asyncio.CancelledError
        if told == "late":  # as of a call that the worker itself makes
            raise TimeoutError("no database")
        if told == "hang":
            await asyncio.sleep(3600)
        if told == "short":
            return []
        if told == "nothing":
            return None  # type: ignore[return-value]
        if told == "misroute":
            return [Routed(0, 5) for _ in batch.tokens]  # type: ignore[arg-type]
        return [sum(value for _, value in token.inputs) + 1 for token in batch.tokens]

    async def close(self) -> None:
        pass


async def served(host: ServingHost, count: int) -> list[Any]:
    return list(
        await asyncio.gather(*(host.infer(number) for number in range(count)), return_exceptions=True)
    )


def test_queries_are_served_with_their_outputs() -> None:
    async def run() -> None:
        async with ServingHost(PLAN, ScriptedWorker()) as host:
            answers = await served(host, 5)
            assert [answer.query.outputs for answer in answers] == [
                [("b", number + 2)] for number in range(5)
            ]
            assert host.counts["served"] == 5

    asyncio.run(run())


@pytest.mark.parametrize(
    ("script", "outcomes", "reason"),
    [
        (["raise"], ["served"], None),
        (["raise", "raise"], ["failed"], "stage a: ValueError: out of memory"),
        (["cancel"], ["served"], None),
        (["cancel", "cancel"], ["failed"], "stage a: CancelledError: "),
        (["late"], ["served"], None),
        (["late", "late"], ["failed"], "stage a: TimeoutError: no database"),
        (["die"], ["served"], None),
        (["hang"], ["served"], None),
        (["short", "serve"], ["served"], None),
        (["nothing", "serve"], ["served"], None),
        (["nothing", "nothing"], ["failed"], "stage a: TypeError: 'NoneType' object is not iterable"),
        (["die", "die"], ["failed"], "stage a: killed"),
    ],
)
def test_faults_of_workers(script: list[str], outcomes: list[str], reason: str | None) -> None:
    async def run() -> None:
        worker = ScriptedWorker(*script)
        async with ServingHost(PLAN, worker, params=QUICK) as host:
            answers = await served(host, 1)
            assert [answer.outcome.value for answer in answers] == outcomes
            assert answers[0].reason == reason
            while any(stage.is_off_plan for stage in host.dispatcher.stages.values()):
                await asyncio.sleep(0.01)
            again = await host.infer(10)
            assert again.outcome is Outcome.SERVED
            gone = script.count("die") + script.count("hang")
            assert len(worker.started) == 3 + gone

    asyncio.run(run())


def test_time_outs_cancelled_clients_and_rejection() -> None:
    async def run() -> None:
        worker = ScriptedWorker("hang", "hang")
        patient = HostParams(least_patience_s=600)
        async with ServingHost(
            PLAN, worker, params=patient, admission=AdmissionParams(most_in_flight=2)
        ) as host:
            gone = asyncio.create_task(host.infer(0))
            timed = asyncio.create_task(host.infer(1, timeout_s=0.05))
            await asyncio.sleep(0)
            with pytest.raises(RejectedError, match="2 queries are in flight, the limit is 2"):
                await host.infer(2)
            assert (await timed).outcome is Outcome.TIMED_OUT
            with pytest.raises(mp.InputError, match="timeout_s: expected seconds"):
                await host.infer(3, timeout_s=float("inf"))
            gone.cancel()
            with pytest.raises(asyncio.CancelledError):
                await gone
            assert not host.dispatcher.queries
            assert {kind: host.counts[kind] for kind in ("rejected", "timed_out", "cancelled", "served")} == {
                "rejected": 1,
                "timed_out": 1,
                "cancelled": 1,
                "served": 0,
            }

    asyncio.run(run())


def test_leaving_answers_what_is_in_flight() -> None:
    async def run() -> None:
        async with ServingHost(PLAN, ScriptedWorker("hang")) as host:
            answer = asyncio.create_task(host.infer(0))
            await asyncio.sleep(0)
        assert (await answer).outcome is Outcome.FAILED
        assert "the server has stopped" in str((await answer).reason)

    asyncio.run(run())


def test_draining_waits_for_what_is_in_flight() -> None:
    async def run() -> None:
        async with ServingHost(PLAN, EmulatedWorker(PLAN)) as host:
            answers = [asyncio.create_task(host.infer()) for _ in range(4)]
            await asyncio.sleep(0)
            await host.drain()
            assert all(answer.done() for answer in answers)
            with pytest.raises(RejectedError, match="being drained"):
                await host.infer()

    asyncio.run(run())


def test_a_stage_without_a_worker_is_told() -> None:
    with pytest.raises(mp.InputError) as told:
        ServingHost(PLAN, {"a": EmulatedWorker(PLAN), "c": EmulatedWorker(PLAN)})
    assert {fault.place for fault in told.value.faults} == {"workers.b", "workers.c"}


def test_decisions_come_with_outputs() -> None:
    plan = small_plan({"a": ([1.0], 1), "b": ([1.0], 1)}, {("a", "b"): {"fanout": 1.5}})

    class Deciding(ScriptedWorker):
        async def run(self, stage: str, replica: int, batch: ServedBatch) -> Sequence[Any]:
            return [Routed(stage, {"b": 3} if stage == "a" else {}) for _ in batch.tokens]

    async def run() -> None:
        async with ServingHost(plan, Deciding()) as host:
            assert (await host.infer()).query.outputs == [("b", "b")] * 3
        async with ServingHost(plan, ScriptedWorker("misroute", "misroute"), params=QUICK) as host:
            assert "expected how many tokens" in str((await host.infer(0)).reason)

    asyncio.run(run())


class Cutting(ScriptedWorker):
    """Cuts a text into words at ``a``, each of which goes on by itself; longer words take longer at ``b``."""

    async def run(self, stage: str, replica: int, batch: ServedBatch) -> Sequence[Any]:
        inputs = [value for token in batch.tokens for _, value in token.inputs]
        if stage == "b":
            await asyncio.sleep(max(map(len, inputs)) / 1e3)
            return [word.upper() for word in inputs]
        return [Routed(text, {"b": text.split(), "c": len(text.split())}) for text in inputs]


def test_every_token_gets_a_part_of_its_own_and_answers_are_in_their_order() -> None:
    edges: dict[tuple[str, str], dict[str, Any]] = {("a", "b"): {"fanout": 2.5}, ("a", "c"): {"fanout": 1.5}}
    plan = small_plan({"a": ([1.0], 1), "b": ([50.0], 3), "c": ([1.0], 1)}, edges)

    class Worker(Cutting):
        async def run(self, stage: str, replica: int, batch: ServedBatch) -> Sequence[Any]:
            if stage == "c":
                return [value for token in batch.tokens for _, value in token.inputs]
            return await super().run(stage, replica, batch)

    async def run() -> None:
        async with ServingHost(plan, Worker()) as host:
            answered = await host.infer("abcdefghijklmnopqrstuvwxyz to be")
            # The long word is done last, and is the first in the answer.
            text = "abcdefghijklmnopqrstuvwxyz to be"
            words = [("b", word.upper()) for word in text.split()]
            assert answered.query.outputs == words + [("c", text)] * 3
            assert answered.query.route == {("a", "b"): [3], ("a", "c"): [3]}
            assert route_headers(answered) == {ROUTE_HEADER: '{"a -> b": [3], "a -> c": [3]}'}
            nothing = await host.infer("")
            assert (nothing.query.outputs, nothing.query.route) == (
                [("a", "")],
                {("a", "b"): [0], ("a", "c"): [0]},
            )

    asyncio.run(run())


@pytest.mark.parametrize(
    ("fanout", "words", "told"),
    [
        (2, 2, None),
        (2, 3, "expected a list for 2 tokens that it makes of this token, found one of 3"),
        (1.5, 3, None),
    ],
)
def test_parts_have_to_be_as_many_as_an_edge_always_makes(
    fanout: float, words: int, told: str | None
) -> None:
    plan = small_plan({"a": ([1.0], 1), "b": ([50.0], 1)}, {("a", "b"): {"fanout": fanout}})

    async def run() -> None:
        async with ServingHost(plan, Cutting(), params=QUICK) as host:
            answered = await host.infer(" ".join(["x"] * words))
            if told is None:
                assert answered.query.outputs == [("b", "X")] * words
            else:
                assert told in str(answered.reason)

    asyncio.run(run())


def test_parts_have_to_be_as_many_as_a_query_said_before() -> None:
    plan = small_plan({"a": ([1.0], 1), "b": ([50.0], 1)}, {("a", "b"): {"fanout": 1.5}})

    async def run() -> None:
        async with ServingHost(plan, Cutting(), params=QUICK) as host:
            kept = await host.infer("to be", decisions={("a", "b"): [2]})
            assert kept.query.outputs == [("b", "TO"), ("b", "BE")]
            broken = await host.infer("to be", decisions={("a", "b"): [1]})
            assert "expected a list for 1 tokens" in str(broken.reason)

    asyncio.run(run())


def test_no_query_makes_so_many_tokens_that_others_are_not_served_meanwhile() -> None:
    plan = small_plan({"a": ([1.0], 1), "b": ([50.0], 1)}, {("a", "b"): {"fanout": 1.5}})

    async def run() -> None:
        async with ServingHost(plan, ScriptedWorker(), params=QUICK) as host:
            with pytest.raises(mp.InputError, match="more than 10,000 tokens"):
                await host.infer(1, decisions={("a", "b"): [10_001]})

    asyncio.run(run())


def test_functions_run_in_processes_of_their_own() -> None:
    plan = small_plan({"a": ([1.0], 2)})

    async def run() -> None:
        async with ServingHost(
            plan, CallableWorker({"a": double}), params=HostParams(first_restart_s=0.01)
        ) as host:
            assert (await host.infer(21)).query.outputs == [("a", 42)]
            failed = await host.infer("raise")
            assert failed.reason == "stage a: ValueError: no such number"
            unsent = await host.infer("unsendable")
            assert (unsent.reason, host.problem) == (
                "stage a: TypeError: cannot pickle 'generator' object",
                None,
            )
            unread = await host.infer(Unreadable())
            assert (unread.reason, host.problem) == ("stage a: ValueError: no such number", None)
            dead = await host.infer("die")
            assert dead.outcome is Outcome.FAILED
            assert "its process ended with code 3" in str(dead.reason)
            while host.problem is not None:
                await asyncio.sleep(0.01)
            assert (await host.infer(1)).query.outputs == [("a", 2)]

    asyncio.run(run())


def test_an_allowance_raises_every_table() -> None:
    raised = with_allowance(PLAN, 0.002)
    for stage in PLAN.choices:
        assert raised.service_ns(stage).tolist() == [
            time + 2_000_000 for time in PLAN.service_ns(stage).tolist()
        ]
    assert (raised.laws, raised.discipline, raised.slo_ns) == (PLAN.laws, PLAN.discipline, PLAN.slo_ns)
    asked = replace(PLAN.objective, per_ns=10**9, share=0.5, others=(QuantileLimit(0.5, 10**8),))
    assert with_allowance(replace(PLAN, objective=asked), 0.002).objective.text == asked.text
    with pytest.raises(mp.InputError, match="seconds from 0 to 1"):
        with_allowance(PLAN, 2.0)
    first = next(iter(PLAN.choices))
    one = with_allowance(PLAN, 0.002, [first])
    assert {name for name in PLAN.choices if one.table(name) != PLAN.table(name)} == {first}
    with pytest.raises(mp.InputError, match="stages: the plan has no 'nobody'"):
        with_allowance(PLAN, 0.002, ["nobody"])


class StartingWorker(ScriptedWorker):
    """Starts when it is let, and notes who was stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.let_start = asyncio.Event()
        self.let_start.set()
        self.stopped: list[tuple[str, int]] = []

    async def start(self, stage: str, replica: int) -> None:
        await self.let_start.wait()
        self.started.append((stage, replica))

    async def stop(self, stage: str, replica: int) -> None:
        self.stopped.append((stage, replica))


async def settled(host: ServingHost, stage: str, alive: set[int]) -> None:
    for _ in range(1000):
        if host.dispatcher.stages[stage].alive == alive:
            return
        await asyncio.sleep(0.001)
    raise AssertionError(host.dispatcher.stages[stage].alive)


def test_replicas_are_scaled_up_and_down() -> None:
    async def run() -> None:
        worker = StartingWorker()
        async with ServingHost(PLAN, worker) as host:
            host.scale({"a": 4})
            await settled(host, "a", {0, 1, 2, 3})
            host.scale({"a": 1, "b": 2})
            await settled(host, "a", {0})
            await settled(host, "b", {0, 1})
            assert sorted(worker.stopped) == [("a", 1), ("a", 2), ("a", 3)]
            assert all(answer.outcome is Outcome.SERVED for answer in await served(host, 20))
            assert host.counts["served"] == 20
            assert host.told == {"a": 1, "b": 2}

    asyncio.run(run())


def test_those_that_start_go_first() -> None:
    async def run() -> None:
        worker = StartingWorker()
        async with ServingHost(PLAN, worker) as host:
            worker.let_start.clear()
            host.scale({"a": 5})
            await asyncio.sleep(0.01)
            host.scale({"a": 3})
            worker.let_start.set()
            await settled(host, "a", {0, 1, 2})
            assert sorted(worker.stopped) == [("a", 3), ("a", 4)]

    asyncio.run(run())


def test_replica_that_goes_finishes_its_batch() -> None:
    plan = small_plan({"a": ([30.0], 2)})

    async def run() -> None:
        async with ServingHost(plan, EmulatedWorker(plan)) as host:
            queries = [asyncio.create_task(host.infer(number)) for number in range(4)]
            await asyncio.sleep(0.005)
            host.scale({"a": 1})
            answers = await asyncio.gather(*queries)
            assert all(answer.outcome is Outcome.SERVED for answer in answers)
            assert host.counts["retried"] == 0
            assert host.dispatcher.stages["a"].alive == {0}

    asyncio.run(run())


def test_counts_that_cannot_be_are_refused_as_a_whole() -> None:
    async def run() -> None:
        async with ServingHost(PLAN, ScriptedWorker()) as host:
            for wrong in ({"a": 0}, {"a": 3, "c": 1}, {"a": 2.5}, {"a": True}, {"a": 10**9}, [1], 3, None):
                with pytest.raises(mp.InputError, match="replicas"):
                    host.scale(wrong)  # type: ignore[arg-type]
            assert host.told == {"a": 2, "b": 1}

    asyncio.run(run())


@pytest.mark.parametrize(
    ("settings", "voids"), [({}, False), ({"dispatch": "paced"}, True), ({"discipline": "fifo"}, True)]
)
def test_more_replicas_than_planned_keep_the_guarantee_where_a_theorem_says_so(
    settings: dict[str, str], voids: bool
) -> None:
    plan = small_plan({"a": ([1.0, 1.5], 2)}, **settings)
    dispatcher = Dispatcher(Blueprint.of(plan))
    more = (5_000_000, lambda one, now_ns: one.back("a", 2, now_ns))
    seen = rehearse(dispatcher, [0, 10_000_000, 20_000_000], incidents=[more])
    assert seen.void == ({1, 2} if voids else set())
    # Away again while nobody is there, it leaves nothing behind.
    less = (15_000_000, lambda one, now_ns: one.retire("a", 2, now_ns))
    seen = rehearse(Dispatcher(Blueprint.of(plan)), [0, 10_000_000, 20_000_000], incidents=[more, less])
    assert seen.void == ({1} if voids else set())


def test_more_replicas_than_planned_void_certificates_for_classes_of_runs() -> None:
    """The stage below gets its tokens sooner, and together: the sharp certificate counts on when they may come."""
    bare = small_plan({"a": ([33.0, 41.0], 1), "b": ([39.0], 2)}, {("a", "b"): {}})
    plan = replace(bare, objective=replace(bare.objective, runs=mp.RunClass(), certificate="sharp"))
    arrivals = [27_000_000, 27_000_000, 31_000_000, 48_000_000, 72_000_000]
    bound = mp.certify(plan, mp.Trace.from_ns(arrivals)).latency_ns  # type: ignore[arg-type]
    dispatcher = Dispatcher(Blueprint.of(plan))
    dispatcher.back("a", 1, 0)
    seen = rehearse(dispatcher, arrivals)
    assert {query for query, most in enumerate(bound) if seen.latency_ns[query] > most} == {1}
    assert 1 in seen.void


def test_a_replica_that_is_handed_a_batch_as_it_goes_finishes_it() -> None:
    plan = small_plan({"a": ([1.0], 2), "b": ([1.0], 2)}, {("a", "b"): {"delay": "30ms"}})

    async def run() -> None:
        async with ServingHost(plan, CallableWorker({"a": double, "b": double}), allowance_s=0.5) as host:
            queries = [asyncio.create_task(host.infer(1.0)) for _ in range(2)]
            await asyncio.sleep(0.015)  # both have left the first stage, and come to the second in a while
            time.sleep(0.05)  # the loop is busy meanwhile, as with a large request
            host.scale({"b": 1})
            answers = await asyncio.gather(*queries)
            assert [answer.outcome for answer in answers] == [Outcome.SERVED] * 2
            assert host.counts["retried"] == 0

    asyncio.run(run())


def test_last_replica_of_a_stage_stays() -> None:
    dispatcher = Dispatcher(Blueprint.of(PLAN))
    with pytest.raises(mp.InputError, match="the last one stays"):
        dispatcher.retire("b", 0, 0)
