"""Who runs batches: what a worker is, and two of them, emulated devices and Python functions in processes.

A worker runs the batches of one stage, on as many replicas as the plan has. That of endpoints behind HTTP is in
`mipplan.serving.endpoints`.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any, Protocol, TypeAlias

from mipplan.result import Plan
from mipplan.serving.clock import sleep_until
from mipplan.serving.dispatching import ServedBatch

#: Given the inputs of every token of a batch (a list of values for each), return an output for each.
BatchFunction: TypeAlias = Callable[[list[list[Any]]], Sequence[Any]]


#: A process whose connection has broken ends within this time, or is killed when it is started again.
_LAST_WORDS_S = 2.0


class ReplicaGoneError(Exception):
    """A replica has died, or cannot be reached: no other batch shall be sent there before it is restarted."""


class BatchFailedError(Exception):
    """A batch failed, and the replica can go on; the message says why."""


@dataclass(frozen=True)
class Routed:
    """An output together with what was decided by it: how many tokens go to stages below, and what they get."""

    output: Any
    copies: Mapping[str, int | Sequence[Any]] = field(default_factory=dict)
    """By child stage, for edges that need a decision: a number of tokens, each of which gets the output, or a list of
    what each gets, such as the parts cut out of a picture. Lists may be told for other edges, too."""


class ServingWorker(Protocol):
    """Runs the batches of a stage. One that cannot have any number of replicas says so by ``most_replicas(stage)``."""

    async def start(self, stage: str, replica: int) -> None:
        """Make a replica ready; called for each before the first batch, and again after it has gone.

        Whatever it raises, it is called again some time later.
        """

    async def run(self, stage: str, replica: int, batch: ServedBatch) -> Sequence[Any]:
        """Return one output (or `Routed`) for each token, in their order.

        Raises `ReplicaGoneError` if the replica cannot go on; whatever else it raises, such as `BatchFailedError`,
        fails the batch alone.
        """

    async def stop(self, stage: str, replica: int) -> None:
        """Let go of a replica that is not needed any more; it may be started again later."""

    async def close(self) -> None:
        """Let go of everything."""


class EmulatedWorker:
    """Devices that take as long as the plan's table says, and compute nothing: their outputs are None.

    Parameters
    ----------
    plan : Plan
        Whose tables hold; not the one with the dispatcher's allowance.
    start_s : float
        How long a replica takes to start that was not there at the beginning, as if its model were loaded.
    """

    def __init__(self, plan: Plan, *, start_s: float = 0.0) -> None:
        self._service_ns = {stage: plan.service_ns(stage).tolist() for stage in plan.require().choices}
        self._there = {(s, k) for s, choice in plan.choices.items() for k in range(choice.replicas)}
        self._start_s = start_s

    async def start(self, stage: str, replica: int) -> None:
        """Be ready at once if it was there before, else in a while."""
        if (stage, replica) not in self._there:
            await asyncio.sleep(self._start_s)
            self._there.add((stage, replica))

    async def stop(self, stage: str, replica: int) -> None:
        """Be gone."""
        self._there.discard((stage, replica))

    async def run(self, stage: str, replica: int, batch: ServedBatch) -> Sequence[Any]:
        """Be busy from the dispatch on, for as long as the table says."""
        del replica  # all are alike
        await sleep_until(batch.dispatched_ns + self._service_ns[stage][len(batch.tokens) - 1])
        return [None] * len(batch.tokens)

    async def close(self) -> None:
        """Do nothing."""


class CallableWorker:
    """Python functions, each replica in a process of its own, so that one may crash without the others.

    Parameters
    ----------
    functions : mapping of str to callable
        By stage. Each takes a list with the inputs of every token (a list of values: the query's payload at a source,
        the outputs of the stages above elsewhere, several where a stage merges), and returns one output for each. It
        must be importable, as it is sent to other processes by its name.
    """

    def __init__(self, functions: Mapping[str, BatchFunction]) -> None:
        self._functions = dict(functions)
        self._context = multiprocessing.get_context("spawn")
        self._processes: dict[tuple[str, int], _FunctionProcess] = {}

    async def start(self, stage: str, replica: int) -> None:
        """Start the process of a replica; what there was of an earlier one is killed."""
        if (earlier := self._processes.pop((stage, replica), None)) is not None:
            await earlier.close()
        process = _FunctionProcess(self._context, self._functions[stage])
        self._processes[stage, replica] = process
        await process.ask(None)  # answered when everything is imported

    async def run(self, stage: str, replica: int, batch: ServedBatch) -> Sequence[Any]:
        """Have the process of the replica call the function."""
        inputs = [[value for _, value in token.inputs] for token in batch.tokens]
        return await self._processes[stage, replica].ask(inputs)

    async def stop(self, stage: str, replica: int) -> None:
        """End the process of a replica."""
        if (process := self._processes.pop((stage, replica), None)) is not None:
            await process.close()

    async def close(self) -> None:
        """End all processes."""
        for process in self._processes.values():
            await process.close()
        self._processes.clear()


class _FunctionProcess:
    """One process, and a thread here that waits for its answers."""

    def __init__(self, context: Any, function: BatchFunction) -> None:
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, function), daemon=True)
        self._thread = ThreadPoolExecutor(1)
        self._process.start()
        other.close()  # else its end would never be noticed here

    async def ask(self, inputs: list[list[Any]] | None) -> Sequence[Any]:
        """Return what the function returns; raises what it raises, as text."""
        loop = asyncio.get_running_loop()
        try:
            error, outputs = await loop.run_in_executor(self._thread, self._exchange, inputs)
        except (EOFError, OSError):
            await loop.run_in_executor(None, self._process.join, _LAST_WORDS_S)
            raise ReplicaGoneError(f"its process ended with code {self._process.exitcode}") from None
        if error is not None:
            raise BatchFailedError(error)
        return list(outputs)

    def _exchange(self, inputs: list[list[Any]] | None) -> tuple[str | None, Sequence[Any]]:
        self._connection.send(inputs)
        answer: tuple[str | None, Sequence[Any]] = self._connection.recv()
        return answer

    async def close(self) -> None:
        """Kill it: whoever waits for its answer finds that it has gone."""
        self._process.kill()
        await asyncio.get_running_loop().run_in_executor(None, self._process.join)
        self._connection.close()
        self._thread.shutdown(wait=False)


def _serve(connection: Connection, function: BatchFunction) -> None:
    """Call a function for every batch that comes; the main function of the process of a replica."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes, but this one is still needed
    while True:
        try:
            given = connection.recv_bytes()
        except EOFError:
            return
        try:
            inputs = ForkingPickler.loads(given)
            outputs = [] if inputs is None else list(function(inputs))
            # What cannot be read or sent fails its batch: done outside, that would end the process.
            answer = ForkingPickler.dumps((None, outputs))
        except Exception as error:
            answer = ForkingPickler.dumps((f"{type(error).__name__}: {error}", []))
        connection.send_bytes(answer)
