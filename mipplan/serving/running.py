"""A server that runs until it is told to stop: a host with its HTTP front, metrics and log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mipplan.core import InputError, Printable, Summary, check_time_limit, format_duration
from mipplan.documents import AnyPath
from mipplan.result import Plan
from mipplan.serving.clock import precise_loop
from mipplan.serving.dispatching import AdmissionParams, DrawnDecisions, Outcome
from mipplan.serving.front import serving_app
from mipplan.serving.host import HostParams, ServingHost
from mipplan.serving.records import ServingMetrics, StageRecorder
from mipplan.serving.workers import EmulatedWorker, ServingWorker

if TYPE_CHECKING:
    from aiohttp import web


@dataclass(frozen=True)
class ServeParams:
    """How a server treats its clients.

    Attributes
    ----------
    address : str
        Of the interface to listen on; by default only this machine can connect.
    port : int
        0 for any that is free.
    allowance_s : float
        Time on top of ℓ(k) that the dispatcher itself may take for a batch.
    drain_s : float
        Queries in flight when it is told to stop are served for so long, then answered with an error.
    farewell_s : float
        Then clients that have not sent all of a request, or not taken all of an answer, are left after this time.
    start_s : float
        How long an emulated replica takes to start that is added while it serves.
    certificate_ns : int, optional
        Certified of every query, with the allowance, on the traffic to come: the metrics count those that are later. By
        default the plan's own, if it is of every query; with an allowance none: that is of batches within the tables.
    admission : AdmissionParams
    host : HostParams
    """

    address: str = "127.0.0.1"
    port: int = 8000
    allowance_s: float = 0.002
    drain_s: float = 10.0
    farewell_s: float = 2.0
    start_s: float = 0.0
    certificate_ns: int | None = None
    admission: AdmissionParams = field(default_factory=AdmissionParams)
    host: HostParams = field(default_factory=HostParams)


@dataclass(frozen=True, eq=False, repr=False)
class ServingSummary(Printable):
    """What came of a run of a server."""

    name: str
    """Of the pipeline."""
    counts: Mapping[str, int]
    """As `ServingHost.counts`; 0 for what did not happen."""
    objective: str
    unwritten: str | None = None
    """What kept the log from being written at the end; None if it was written, or none was asked for."""

    def _summary(self) -> Summary:
        count = Counter(self.counts)
        failed = count[Outcome.FAILED.value]
        left = {"timed out": count[Outcome.TIMED_OUT.value], "clients gone": count[Outcome.CANCELLED.value]}
        others = [f"{number:,} {what}" for what, number in left.items() if number]
        return Summary(
            f"Served {self.name}",
            figures=(
                ("served", f"{count[Outcome.SERVED.value]:,} queries"),
                ("missed", f"{count['late']:,} later than the objective ({self.objective})"),
                ("overruns", f"{count['overran']:,} batches; {count['void']:,} queries lost the guarantee"),
                (
                    "errors",
                    ", ".join([f"{failed:,} failed", *others, f"{count['retried']:,} batches retried"]),
                ),
                ("rejected", f"{count['rejected']:,} queries"),
                ("log", None if self.unwritten is None else f"not written: {self.unwritten}"),
            ),
        )

    def _line(self) -> str:
        return f" {self.name}: {self.counts.get(Outcome.SERVED.value, 0)} queries served"


def _log_of_defects() -> logging.Logger:
    """Where aiohttp tells what went wrong: what clients send that is no HTTP is answered, and no defect of ours."""
    log = logging.getLogger("mipplan.serving")
    log.addFilter(_is_defect)  # once, however many servers there are
    return log


def _is_defect(record: logging.LogRecord) -> bool:
    from aiohttp import web
    from aiohttp.http import HttpProcessingError

    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError | web.RequestPayloadError)


async def serve_until(
    stop: asyncio.Event,
    plan: Plan,
    workers: ServingWorker | Mapping[str, ServingWorker] | None = None,
    *,
    log: AnyPath | None = None,
    started: Callable[[str], None] | None = None,
    params: ServeParams = ServeParams(),
) -> ServingSummary:
    """Serve a plan over HTTP until an event is set, then drain.

    Parameters
    ----------
    stop : asyncio.Event
        Replicas that still start when it is set are not waited for.
    plan : Plan
    workers : ServingWorker or mapping of str to ServingWorker, optional
        For all stages, or by stage. By default emulated devices: then delays of edges are kept here, and decisions that
        a query does not bring are drawn as `mipplan.replay` draws them.
    log : path, optional
        Where to log what each stage did; see `StageRecorder`. Nothing is written if the server cannot start, and what
        keeps it from being written at the end is told in the summary.
    started : callable, optional
        Given the URL, when connections are taken.
    params : ServeParams

    Raises
    ------
    InputError
        If the log surely cannot be written, a stage has no worker, replicas cannot be had, or the address or port.
    NoPlanError
        If the plan holds no choices.
    """
    from aiohttp import web

    is_emulated = workers is None
    observers: list[Any] = []
    host = ServingHost(
        plan,
        EmulatedWorker(plan, start_s=params.start_s) if workers is None else workers,
        allowance_s=params.allowance_s,
        hold_delays=is_emulated,
        admission=params.admission,
        decide=DrawnDecisions(plan.pipeline, plan.seed).__getitem__ if is_emulated else None,
        observers=observers,
        params=params.host,
    )
    metrics = ServingMetrics(host.promised, host.dispatcher, host.told, certificate_ns=params.certificate_ns)
    # Last of all: it makes its folder, and has a thread, which nobody would end if something above cannot be.
    target = "emulated" if is_emulated else None
    recorder = None if log is None else StageRecorder(log, plan, target, allowance_s=params.allowance_s)
    observers += [metrics] if recorder is None else [metrics, recorder]
    runner = web.AppRunner(
        serving_app(host, metrics),
        access_log=None,
        logger=_log_of_defects(),
        handler_cancellation=True,
        shutdown_timeout=params.farewell_s,
    )
    has_started, unwritten = False, None
    try:
        async with contextlib.AsyncExitStack() as replicas:
            if await _is_ready(replicas.enter_async_context(host), stop):
                url = await _listening(runner, params)
                has_started = True
                if started is not None:
                    started(url)
                await stop.wait()
                with contextlib.suppress(TimeoutError):  # leaving the host answers the rest with an error
                    await asyncio.wait_for(host.drain(), params.drain_s)
    finally:
        await runner.cleanup()
        if recorder is not None and not has_started:
            recorder.discard()  # an empty log would take the place of one that is there
            unwritten = "it was told to stop before all replicas had started"
        elif recorder is not None:
            try:
                recorder.close()
            except InputError as error:  # the run is over, and what came of it must not be lost, too
                unwritten = "; ".join(fault.message for fault in error.faults)
    objective = f"{format_duration(plan.slo_ns)}"
    return ServingSummary(plan.pipeline.name, Counter(host.counts), objective, unwritten)


async def _is_ready(starting: Awaitable[ServingHost], stop: asyncio.Event) -> bool:
    """Wait until replicas are ready, which may load models for minutes; False if it is told to stop before."""
    begun, told = asyncio.ensure_future(starting), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({begun, told}, return_when=asyncio.FIRST_COMPLETED)
        return begun.done() and begun.result() is not None
    finally:
        for task in (begun, told):
            task.cancel()
        await asyncio.gather(begun, told, return_exceptions=True)


async def _listening(runner: web.AppRunner, params: ServeParams) -> str:
    """Take connections, and return the URL; raises `InputError` if the address or port cannot be had."""
    from aiohttp import web

    host = f"[{params.address}]" if ":" in params.address else params.address  # as URLs have IPv6
    await runner.setup()
    try:
        await web.TCPSite(runner, params.address, params.port).start()
    except (OSError, OverflowError, ValueError) as error:  # the latter of ports and names that cannot be
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError.one("port", f"cannot listen on {host}:{params.port}: {reason}") from None
    return f"http://{host}:{runner.addresses[0][1]}"


def serve(
    plan: Plan,
    workers: ServingWorker | Mapping[str, ServingWorker] | None = None,
    *,
    log: AnyPath | None = None,
    time_limit_s: float | None = None,
    started: Callable[[str], None] | None = None,
    params: ServeParams = ServeParams(),
) -> ServingSummary:
    """Serve a plan over HTTP until Ctrl-C, SIGTERM or a time limit; all else is as of `serve_until`."""
    limit_s = check_time_limit(time_limit_s)

    async def run() -> ServingSummary:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        if math.isfinite(limit_s):
            loop.call_later(limit_s, stop.set)
        return await serve_until(stop, plan, workers, log=log, started=started, params=params)

    with asyncio.Runner(loop_factory=precise_loop) as runner:
        return runner.run(run())
