"""The host that runs a dispatcher in real time, inside an asyncio event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self

from mipplan.core import Fault, Faults, InputError, MipplanError, format_duration, is_whole, shown, to_ns
from mipplan.result import Plan
from mipplan.serving.clock import Alarm, now_ns
from mipplan.serving.dispatching import (
    AdmissionParams,
    Answered,
    Blueprint,
    Decisions,
    Dispatched,
    Dispatcher,
    Outcome,
    Overran,
    ServedBatch,
    Step,
    Voided,
    with_allowance,
)
from mipplan.serving.workers import BatchFailedError, ReplicaGoneError, Routed, ServingWorker

#: More replicas of a stage than this are a slip.
_MOST_REPLICAS = 1_000


class RejectedError(MipplanError):
    """A query was turned away at the door; the message says why."""


class QueryName(NamedTuple):
    """What a query is called while it is served."""

    number: int
    """The client's, if it has one; else by arrival. Logs name queries by it."""
    serial: int
    """By arrival: unique, whatever numbers clients give."""


class StepObserver(Protocol):
    """Is told what happens, such as metrics and logs."""

    def observe(self, step: Step) -> None:
        """Take note of a step."""

    def rejected(self, reason: str) -> None:
        """Take note that a query was turned away."""


@dataclass(frozen=True)
class HostParams:
    """How patient a host is."""

    patience: float = 10.0
    """A replica that takes this many times as long as its table says has gone, …"""
    least_patience_s: float = 5.0
    """… but not before this time."""
    first_restart_s: float = 0.05
    """Wait so long before a replica that has gone is started again, twice as long after each attempt, …"""
    longest_restart_s: float = 10.0
    """… up to this."""


class ServingHost:
    """Serves queries by a plan.

    Use it as ``async with ServingHost(plan, worker) as host: await host.infer(payload)``, best in a `precise_loop`.

    Parameters
    ----------
    plan : Plan
    workers : ServingWorker, or mapping of str to ServingWorker
        For all stages, or by stage.
    allowance_s : float
        Time on top of ℓ(k) that the dispatcher itself may take for a batch; see `with_allowance`.
    hold_delays : bool
        Whether the delays of edges are kept here, exactly. True where nothing else makes them (emulated devices), False
        where they are those of a network between here and the replicas.
    admission : AdmissionParams, optional
    decide : callable, optional
        Given the number of a query, its decisions, for those that bring none.
    observers : sequence of StepObserver
    params : HostParams

    Raises
    ------
    InputError
        If a stage has no worker, or the allowance is no time from 0 to 1 s.
    NoPlanError
        If the plan holds no choices.
    """

    def __init__(
        self,
        plan: Plan,
        workers: ServingWorker | Mapping[str, ServingWorker],
        *,
        allowance_s: float = 0.0,
        hold_delays: bool = True,
        admission: AdmissionParams | None = None,
        decide: Callable[[int], Decisions] | None = None,
        observers: Sequence[StepObserver] = (),
        params: HostParams | None = None,
    ) -> None:
        self.plan = plan
        self.promised = with_allowance(plan, allowance_s)
        """The plan with the allowance: what is guaranteed is what holds for this one."""
        blueprint = Blueprint.of(self.promised, hold_delays=hold_delays)
        given = dict(workers) if isinstance(workers, Mapping) else dict.fromkeys(blueprint.stages, workers)
        missing = dict.fromkeys(blueprint.stages.keys() - given, "the stage has no worker")
        unknown = dict.fromkeys(given.keys() - blueprint.stages, "there is no such stage")
        InputError.raise_if(Fault(f"workers.{name}", what) for name, what in (missing | unknown).items())
        self.workers: Mapping[str, ServingWorker] = given
        self.dispatcher = Dispatcher(blueprint, admission)
        self.counts: Counter[str] = Counter()
        """How many queries ended each way (an `Outcome`), were ``rejected``, were ``late`` for the objective, lost the
        guarantee (``void``), and how many batches ``overran`` or were ``retried``."""
        self._decide, self._observers = decide, observers
        self._params = params or HostParams()
        self._alarm = Alarm(self._wake)
        self._answers: dict[QueryName, asyncio.Future[Answered]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.told = {name: stage.replicas for name, stage in blueprint.stages.items()}
        """Replicas that each stage is told to have; those that start are among them."""
        self._starting: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._arrived = 0

    async def __aenter__(self) -> Self:
        """Make all replicas ready; raises `InputError` with every one that is not, or what else a worker raises."""
        replicas = [
            (name, replica)
            for name, stage in self.dispatcher.stages.items()
            for replica in sorted(stage.alive)
        ]
        starts = (self.workers[name].start(name, replica) for name, replica in replicas)
        try:
            failures = await asyncio.gather(*starts, return_exceptions=True)
        except asyncio.CancelledError:  # else processes that load their models would be left
            await self._close_workers()
            raise
        if any(failure is not None for failure in failures):
            await self._close_workers()
        faults = Faults()
        for (name, replica), failure in zip(replicas, failures, strict=True):
            if isinstance(failure, ReplicaGoneError):
                faults.add(Fault(f"workers.{name}[{replica}]", str(failure)))
            elif isinstance(failure, InputError):
                faults.add(*failure.faults)
            elif failure is not None:  # a defect, of the worker or ours
                raise failure
        faults.check()
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Stop: whatever is still in flight is answered as failed. `drain` before, to serve it."""
        for name, stage in self.dispatcher.stages.items():
            for replica in tuple(stage.alive):
                self.dispatcher.gone(name, replica, now_ns(), "the server has stopped")
        for query in tuple(self.dispatcher.queries):  # between stages, or held back
            self.dispatcher.cancel(query, now_ns(), "the server has stopped")
        self._do(self.dispatcher.wake(now_ns()))
        self._alarm.set(None)
        for task in self._tasks:  # not before: nothing may be dispatched while they end
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._close_workers()

    async def _close_workers(self) -> None:
        for worker in {id(worker): worker for worker in self.workers.values()}.values():
            await worker.close()

    @property
    def problem(self) -> str | None:
        """Why no query would be accepted now; None if one would be."""
        return self.dispatcher.refusal()

    async def infer(
        self,
        payload: Any = None,
        *,
        decisions: Decisions | None = None,
        timeout_s: float | None = None,
        number: int | None = None,
    ) -> Answered:
        """Serve one query and return its answer, whatever its outcome.

        If the waiting task is cancelled, the query is given up.

        Parameters
        ----------
        payload : object
            What the workers of the first stages get.
        decisions : mapping of (parent, child) to counts, optional
            See `Dispatcher.arrive`.
        timeout_s : float, optional
            Give the query up after this time.
        number : int, optional
            The query's number, for logs and for draws of decisions; by arrival if not given.

        Raises
        ------
        RejectedError
            If it was turned away.
        InputError
            If the decisions do not fit the pipeline, or the time-out is no time of at most ten years.
        """
        instant_ns, wait_ns = now_ns(), None if timeout_s is None else to_ns(timeout_s)
        if timeout_s is not None and wait_ns is None:
            raise InputError.one("timeout_s", f"expected seconds, found {shown(timeout_s)}")
        name = QueryName(self._arrived if number is None else number, self._arrived)
        if decisions is None and self._decide is not None:
            decisions = self._decide(name.number)
        reason = self.dispatcher.arrive(
            name,
            instant_ns,
            payload=payload,
            decisions=decisions,
            deadline_ns=None if wait_ns is None else instant_ns + wait_ns,
        )
        if reason is not None:
            self.counts["rejected"] += 1
            for observer in self._observers:
                observer.rejected(reason)
            raise RejectedError(reason)
        self._arrived += 1
        answer = self._answers[name] = asyncio.get_running_loop().create_future()
        self._wake()
        try:
            answered: Answered = await answer
        except asyncio.CancelledError:
            self.dispatcher.cancel(name, now_ns())
            self._wake()
            raise
        return answered

    def scale(self, replicas: Mapping[str, int]) -> None:
        """Have other numbers of replicas from now on; those that are added serve when their workers have started.

        Those that start go first, then those that idle, then those that are under way, each after its batch, as in
        `mipplan.ReplicaSchedule`; but one that goes after its batch does not stay if another becomes active. What is
        guaranteed is so with the plan's replicas; under eager dispatch of the oldest first, by the classic certificate,
        with more, too.

        Raises
        ------
        InputError
            If there is no such stage, or a count is no whole number from 1 to 1,000, or to as many as its worker can
            have (endpoints that were given); nothing is changed then.
        """
        if not isinstance(replicas, Mapping):  # it comes as clients send it
            raise InputError.one("replicas", f"expected counts by stage, found {shown(replicas)}")
        InputError.raise_if(
            Fault(f"replicas.{name}", "there is no such stage")
            if name not in self.told
            else Fault(
                f"replicas.{name}",
                f"expected a whole number from 1 to {self._most(name):,}, found {shown(n)}",
            )
            for name, n in replicas.items()
            if name not in self.told or not is_whole(n) or not 1 <= n <= self._most(name)
        )
        for name, count in replicas.items():
            self.told[name] = count
            self._fit(name)
        self._wake()

    def _most(self, name: str) -> int:
        """How many replicas of a stage there can be."""
        most = getattr(self.workers[name], "most_replicas", None)
        return _MOST_REPLICAS if most is None else min(_MOST_REPLICAS, most(name))

    def _fit(self, name: str) -> None:
        """Start or stop replicas of a stage until they are as many as told."""
        state = self.dispatcher.stages[name]
        starting = [replica for stage, replica in self._starting if stage == name]
        surplus = len(state.alive) + len(starting) - self.told[name]
        for replica in starting[::-1][: max(0, surplus)]:
            self._starting.pop((name, replica)).cancel()
            self._spawn(self.workers[name].stop(name, replica))
            surplus -= 1
        # What a timed stage holds back keeps a replica from further batches, while its worker has none.
        under_way = {replica for replica, batch in state.busy.items() if batch.finished_ns is None}
        idle_first = sorted(state.alive, key=lambda replica: (replica in state.busy, -replica))
        # One that is there has to stay while those that were asked for start.
        for replica in idle_first[: min(max(0, surplus), len(state.alive) - 1)]:
            self.dispatcher.retire(name, replica, now_ns())
            # What came meanwhile may have been handed to it.
            if (last := state.busy.get(replica)) is not None and last.finished_ns is None:
                under_way.add(replica)
            else:
                self._spawn(self.workers[name].stop(name, replica))
        taken = state.alive | under_way | set(starting)
        for _ in range(-surplus):
            free = set(range(min(len(taken) + 1, self._most(name)))) - taken
            if not free:  # one that goes is under way yet: its place is free after its batch
                break
            taken.add(replica := min(free))
            self._starting[name, replica] = self._spawn(self._restart(name, replica, 0.0))

    async def drain(self) -> None:
        """Accept no further query, and return when those in flight are answered."""
        self.dispatcher.drain()
        while self._answers:
            await asyncio.wait(list(self._answers.values()))

    def _wake(self) -> None:
        self._do(self.dispatcher.wake(now_ns()))
        self._alarm.set(self.dispatcher.next_wake_ns)

    def _do(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if isinstance(step, Dispatched):
                self._spawn(self._run(step.batch))
            elif isinstance(step, Answered):
                self._answered(step)
            elif isinstance(step, Overran):
                self.counts["overran"] += 1
            elif isinstance(step, Voided):
                self.counts["void"] += 1
            elif step.retries:
                self.counts["retried"] += 1
            for observer in self._observers:
                observer.observe(step)

    def _answered(self, answered: Answered) -> None:
        self.counts[answered.outcome.value] += 1
        if answered.outcome is Outcome.SERVED and answered.latency_ns > self.plan.slo_ns:
            self.counts["late"] += 1
        answer = self._answers.pop(QueryName(*answered.query.name))  # type: ignore[misc]
        if not answer.done():  # its client may have gone
            answer.set_result(answered)

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run(self, batch: ServedBatch) -> None:
        """Have a replica run a batch, and tell the dispatcher what came of it."""
        table_s = (batch.due_ns - batch.dispatched_ns) / 1e9
        patience_s = max(self._params.patience * table_s, self._params.least_patience_s)
        try:
            async with asyncio.timeout(patience_s) as patience:
                outputs = await self.workers[batch.stage].run(batch.stage, batch.replica, batch)
            routed = [output if isinstance(output, Routed) else Routed(output) for output in outputs]
        except ReplicaGoneError as error:
            self._lose(batch, str(error))
        # What a worker raises, be it of another task's cancellation, is the answer to its batch.
        except (Exception, asyncio.CancelledError) as error:
            if (task := asyncio.current_task()) is not None and task.cancelling():  # the host is left
                raise
            if isinstance(error, TimeoutError) and patience.expired():
                self._lose(batch, f"no answer within {format_duration(round(patience_s * 1e9))}")
            else:
                kind = "" if isinstance(error, BatchFailedError) else f"{type(error).__name__}: "
                self.dispatcher.failed(batch.number, now_ns(), f"{kind}{error}")
        else:
            self._take(batch, routed)
        self._wake()
        is_gone = batch.replica not in self.dispatcher.stages[batch.stage].alive
        if is_gone and (batch.stage, batch.replica) not in self._starting:  # else it is started again
            await self.workers[batch.stage].stop(batch.stage, batch.replica)
            self._fit(batch.stage)

    def _take(self, batch: ServedBatch, routed: Sequence[Routed]) -> None:
        try:
            self.dispatcher.finished(
                batch.number, now_ns(), [one.output for one in routed], [one.copies for one in routed]
            )
        except InputError:
            return  # the dispatcher counts the batch as failed, with this reason

    def _lose(self, batch: ServedBatch, reason: str) -> None:
        is_there = batch.replica in self.dispatcher.stages[batch.stage].alive
        self.dispatcher.gone(batch.stage, batch.replica, now_ns(), reason)
        if is_there:  # else it was about to go
            work = self._restart(batch.stage, batch.replica, self._params.first_restart_s)
            self._starting[batch.stage, batch.replica] = self._spawn(work)

    async def _restart(self, stage: str, replica: int, wait_s: float) -> None:
        """Start a replica that has gone, or one more, as often as it takes."""
        while True:
            await asyncio.sleep(wait_s)
            wait_s = min(max(2 * wait_s, self._params.first_restart_s), self._params.longest_restart_s)
            with contextlib.suppress(Exception):
                await self.workers[stage].start(stage, replica)
                break
        del self._starting[stage, replica]
        self.dispatcher.back(stage, replica, now_ns())
        self._fit(stage)
        self._wake()
