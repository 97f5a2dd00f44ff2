"""The load generator: an open loop, so that a slow server gets no less to do.

Whoever waits for an answer before sending the next query slows down with the server, and hides the queue that real
clients would have met (*coordinated omission*). Here a query is sent when its time comes. How late that was is part of
the result, because a machine that cannot keep up spoils the measurement without any other sign.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

from mipplan.core import (
    NS_PER_S,
    Fault,
    Faults,
    InputError,
    Int64,
    begun,
    check_time_limit,
    format_duration,
    interrupts_held,
    is_finite,
    shown,
)
from mipplan.documents import AnyPath, output_problem
from mipplan.driving.result import Drive
from mipplan.driving.targets import ROUTE_HEADER, Target, TargetRequest, find_target
from mipplan.logs import MISSING, LogMetadata, QueryLog, QueryStatus
from mipplan.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Coroutine

    import aiohttp

#: The server has no room.
_REJECTED = (429, 503)


@dataclass(frozen=True)
class DriveParams:
    """How the load generator works."""

    lead_s: float = 0.2
    """The first query is due this long after the start, so that it is not late for want of preparation."""
    report_every_s: float = 2.0
    most_answer_bytes: int = 64 * 2**20
    """Answers beyond are broken off: a server that never stops must not fill the memory."""
    checked_bytes: int = 64 * 2**10
    """Answers up to here are all looked into. Larger ones take time that the sending of others needs, …"""
    checked_large: int = 10
    """… so only the first few of them are."""


def drive(
    trace: Trace,
    target: str,
    *,
    model: str | None = None,
    scale: float = 1.0,
    time_limit_s: float | None = None,
    timeout_s: float = 30.0,
    method: str | None = None,
    body: str | None = None,
    headers: Mapping[str, str] | None = None,
    inputs: str | None = None,
    axes: Mapping[str, int] | None = None,
    out: AnyPath | None = None,
    progress: Callable[[str], None] | None = None,
    params: DriveParams = DriveParams(),
) -> Drive:
    """Send a trace to a server at its time stamps, never waiting for answers.

    Parameters
    ----------
    trace : Trace
    target : str
        ``http://HOST:PORT`` of a server that speaks the Open Inference Protocol v2 (with `model`), the URL of such a
        model (``http://HOST:PORT/v2/models/NAME``), or any other HTTP URL.
    model : str, optional
        Its name on the server.
    scale : float
        Multiple of the trace's rate.
    time_limit_s : float, optional
        Stop sending after so many seconds.
    timeout_s : float
        A query without its whole answer after this time counts as timed out.
    method, body, headers
        Method and body for other URLs: GET without a body and POST with one by default; ``{query}`` in the body becomes
        the number of the query. Headers go with whatever is asked.
    inputs, axes
        For models of the protocol, as for `mipplan.measure`: where inputs come from, sizes of free axes.
    out : path, optional
        Write the log here, also after Ctrl-C. If that is not possible by then, `Drive.unwritten` says why.
    progress : callable, optional
        Told how far it is, every two seconds.
    params : DriveParams

    Returns
    -------
    Drive
        With the log. After Ctrl-C (in the main thread) it is that of the queries sent so far.

    Raises
    ------
    InputError
        With every argument that cannot be used, or if nothing answers at the target.
    """
    faults = Faults()
    if not isinstance(trace, Trace):
        faults.add(Fault("trace", f"expected a Trace, found {shown(trace)}; Trace.read(…) reads a file"))
    if not isinstance(params, DriveParams):
        faults.add(Fault("params", f"expected DriveParams, found {shown(params)}"))
    asked = TargetRequest(target, model, method, body, headers, inputs, axes)
    faults.take(lambda: check_drive(asked, scale, time_limit_s, timeout_s, out))
    where = faults.take(lambda: find_target(asked))
    faults.check()
    scaled = trace.scale(float(scale))
    offsets_ns = scaled.arrival_ns - scaled.arrival_ns[0]
    if time_limit_s is not None:
        offsets_ns = offsets_ns[offsets_ns < time_limit_s * NS_PER_S]
    run = _Run(where.value, offsets_ns, float(timeout_s), params, progress or (lambda _line: None))
    interrupted = _completed(run.whole)
    name = trace.name if scale == 1 else f"{trace.name} × {scale:g}"
    # Whoever presses Ctrl-C again, as writing takes a moment, would else lose all that was measured.
    again = contextlib.suppress(KeyboardInterrupt) if interrupted else contextlib.nullcontext()
    with again, interrupts_held():
        made = Drive(run.log(), name, target, int(offsets_ns.size), interrupted)
        try:
            if out is not None:
                made.save(out)
        except InputError as error:  # a full disk must not cost what was measured
            made = replace(made, unwritten="; ".join(fault.message for fault in error.faults))
    return made


def check_drive(
    asked: TargetRequest, scale: float, time_limit_s: float | None, timeout_s: float, out: AnyPath | None
) -> None:
    """Find out what is wrong with arguments of `drive`, as far as can be told without asking the target.

    Raises `InputError` with every fault.
    """
    faults = Faults()
    if not is_finite(scale) or not scale > 0:
        faults.add(Fault("scale", f"expected a positive number such as 2, found {shown(scale)}"))
    faults.take(lambda: check_time_limit(time_limit_s))
    if not is_finite(timeout_s) or not timeout_s > 0:
        faults.add(Fault("timeout_s", f"expected seconds above 0, found {shown(timeout_s)}"))
    problem = None if out is None else output_problem(out)
    if problem is not None:
        faults.add(Fault("out", problem))
    faults.take(_check_aiohttp)
    faults.take(asked.check)
    faults.check()


def _check_aiohttp() -> None:
    try:
        import aiohttp  # noqa: F401 -- asked for before the run, used in it
    except ImportError:
        raise InputError.one("drive", "needs aiohttp: pip install 'mipplan[drive]'") from None


async def _sent_once(_session: object, context: SimpleNamespace, _headers: object) -> None:
    """Keep aiohttp from sending a query again.

    It does so, without a word, where the connection breaks before there is an answer to a GET or PUT. The server would
    get more than it is due, and what it does not answer would be no error.
    """
    import aiohttp

    if hasattr(context, "was_sent"):
        raise aiohttp.ServerDisconnectedError
    context.was_sent = True


def _route(text: str | None) -> str | None:
    """Return what a server says of a query's branches, if it is what a log may hold."""
    try:
        return text if text is not None and isinstance(json.loads(text), dict) else None
    except (ValueError, RecursionError):
        return None


def _completed(work: Callable[[], Coroutine[None, None, bool]]) -> bool:
    """Run to the end and return whether Ctrl-C ended it; beside a loop that runs already, in a thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        try:
            return asyncio.run(work())
        except KeyboardInterrupt:  # what was cancelled has ended in good order
            return True
    loop = asyncio.new_event_loop()
    task = loop.create_task(work())
    outcome = begun(partial(loop.run_until_complete, task), "mipplan-drive")
    try:
        interrupted = outcome.result()
    except KeyboardInterrupt:  # as in notebooks; by itself the thread would go on sending
        loop.call_soon_threadsafe(task.cancel)
        interrupted = outcome.result()
    loop.close()
    return interrupted


@dataclass(eq=False)
class _Run:
    """One run, and what has come of each query so far."""

    target: Target
    offsets_ns: Int64
    timeout_s: float
    params: DriveParams
    progress: Callable[[str], None]
    start_ns: int = 0
    offset_ns: int = 0
    sent: int = 0
    answered: int = 0
    large: int = 0  # Large answers looked into.
    under_way: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        count = self.offsets_ns.size
        self.sent_ns = np.full(count, MISSING, dtype=np.int64)
        self.answered_ns = np.full(count, MISSING, dtype=np.int64)
        self.status: list[str] = [QueryStatus.TIMEOUT] * count
        self.error: list[str | None] = ["not answered when the run was stopped"] * count
        self.route: list[str | None] = [None] * count

    async def whole(self) -> bool:
        """Send everything and wait for the answers; whether it was cancelled."""
        import aiohttp

        # A limit would make queries wait here instead of at the server.
        connector = aiohttp.TCPConnector(limit=0)
        once = aiohttp.TraceConfig()
        once.on_request_headers_sent.append(_sent_once)
        timeout = aiohttp.ClientTimeout(total=self.timeout_s, sock_connect=self.timeout_s)
        async with aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            # Unpacking would take time that sending needs; who is not told this may compress, as Triton does.
            headers={"Accept-Encoding": "identity"},
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[once],
        ) as session:
            reporting = asyncio.create_task(self._report())
            try:
                await self._send_all(session)
                while self.under_way:
                    await asyncio.wait(self.under_way)
            except asyncio.CancelledError:
                return True
            finally:
                for task in (*self.under_way, reporting):
                    task.cancel()
                await asyncio.gather(*self.under_way, reporting, return_exceptions=True)
        return False

    async def _send_all(self, session: aiohttp.ClientSession) -> None:
        lead_ns = round(self.params.lead_s * NS_PER_S)
        # The stamps in the log are of the clock that servers share, by one offset for the whole run from the one that
        # nobody sets: a clock that is set meanwhile would be taken for latency.
        self.offset_ns = time.time_ns() - time.monotonic_ns()
        begin_ns = time.monotonic_ns() + lead_ns
        self.start_ns = begin_ns + self.offset_ns
        for query, offset_ns in enumerate(self.offsets_ns.tolist()):
            ahead_ns = begin_ns + offset_ns - time.monotonic_ns()
            await asyncio.sleep(max(0, ahead_ns) / NS_PER_S)
            task = asyncio.create_task(self._send(session, query))
            self.under_way.add(task)
            task.add_done_callback(self.under_way.discard)

    async def _send(self, session: aiohttp.ClientSession, query: int) -> None:
        import aiohttp

        body, headers = self.target.request(query)
        self.sent_ns[query] = time.monotonic_ns() + self.offset_ns
        self.sent += 1
        try:
            async with session.request(
                self.target.method, self.target.url, data=body, headers=headers, allow_redirects=False
            ) as response:
                pieces = bytearray()
                async for piece in response.content.iter_any():
                    pieces += piece
                    if len(pieces) > self.params.most_answer_bytes:
                        limit = self.params.most_answer_bytes >> 20
                        self._end(query, QueryStatus.ERROR, f"answer of more than {limit} MiB")
                        response.close()
                        return
                self.answered_ns[query] = time.monotonic_ns() + self.offset_ns
                self.route[query] = _route(response.headers.get(ROUTE_HEADER))
                self._judge(query, response.status, bytes(pieces), response.headers)
        except TimeoutError:
            self._end(query, QueryStatus.TIMEOUT, f"no answer within {self.timeout_s:g} s")
        except aiohttp.ClientPayloadError:
            self._end(query, QueryStatus.ERROR, "answer broken off")
        except aiohttp.ServerDisconnectedError:
            self._end(query, QueryStatus.ERROR, "connection closed without an answer")
        except aiohttp.ClientConnectorError as error:
            self._end(query, QueryStatus.ERROR, f"cannot connect: {error.strerror or error.os_error}")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            self._end(query, QueryStatus.ERROR, f"connection: {reason}")

    def _judge(self, query: int, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        """Decide what a whole answer is worth."""
        if status in _REJECTED:
            self._end(query, QueryStatus.REJECTED, f"HTTP {status}")
        elif not 200 <= status < 300:
            self._end(query, QueryStatus.ERROR, f"HTTP {status}")
        else:
            is_large = len(body) > self.params.checked_bytes
            self.large += is_large
            fault = None
            if not is_large or self.large <= self.params.checked_large:
                fault = self.target.fault(body, headers)
            self._end(query, QueryStatus.OK if fault is None else QueryStatus.ERROR, fault)

    def _end(self, query: int, status: QueryStatus, error: str | None) -> None:
        self.status[query], self.error[query] = status, error
        self.answered += 1

    async def _report(self) -> None:
        last_s = float(self.offsets_ns[-1]) / NS_PER_S
        for looks in itertools.count(1):
            await asyncio.sleep(self.params.report_every_s)
            late_ns = np.sort(self._late_ns())
            late = (
                ""
                if not late_ns.size
                else f", sent late by P99 {format_duration(late_ns[int(0.99 * late_ns.size)])}"
            )
            now_s = min(looks * self.params.report_every_s, last_s)
            failed = sum(1 for status in self.status[: self.sent] if status == QueryStatus.ERROR)
            self.progress(
                f"{now_s:.0f} of {last_s:.0f} s: {self.sent:,} sent, {len(self.under_way):,} under way, "
                f"{failed:,} errors{late}"
            )

    def _late_ns(self) -> Int64:
        sent = np.flatnonzero(self.sent_ns != MISSING)
        late_ns: Int64 = self.sent_ns[sent] - (self.start_ns + self.offsets_ns[sent])
        return late_ns

    def log(self) -> QueryLog:
        """Return the log of what was sent."""
        metadata = LogMetadata.here(target=self.target.url)
        whole = QueryLog.from_columns(
            {
                "query": np.arange(self.offsets_ns.size, dtype=np.int64),
                "scheduled_ns": self.start_ns + self.offsets_ns,
                "sent_ns": self.sent_ns,
                "answered_ns": self.answered_ns,
                "status": self.status,
                "error": self.error,
                "route": self.route,
            },
            metadata,
        )
        return whole.taken(self.sent_ns != MISSING)
