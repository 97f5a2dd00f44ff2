"""What is kept of a run: Prometheus metrics, and a log with a row for every token and stage."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mipplan.core import NS_PER_S, InputError, check_allowance, shown
from mipplan.documents import AnyPath, is_folder, is_there, output_problem
from mipplan.logs import LogMetadata, LogWriter, StageLog, StageRow, write_log
from mipplan.result import Plan, fingerprint
from mipplan.serving.clock import now_ns, unix_offset_ns
from mipplan.serving.dispatching import (
    Answered,
    BatchEnded,
    Dispatched,
    Dispatcher,
    Outcome,
    Overran,
    StageState,
    Step,
    Voided,
)

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

#: Bounds of the histograms of times, s: from a fast stage to a queue that has gone wild, three for a decade.
_TIMES_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class _BusySeconds:
    """Time that replicas were under way, as a counter that goes on while they are."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self.ended_ns = dict.fromkeys(dispatcher.stages, 0)
        self._told_ns = dict.fromkeys(dispatcher.stages, 0)

    def collect(self) -> Iterator[Any]:
        """Yield the counter as it is now."""
        from prometheus_client.core import CounterMetricFamily

        found = CounterMetricFamily("mipplan_busy_seconds", "Time under way.", labels=["stage"])
        now = now_ns()
        for name, stage in self._dispatcher.stages.items():
            open_ns = sum(max(0, now - batch.dispatched_ns) for batch in stage.busy.values())
            # A batch that is held back ends when it is due, which may be before the look that went before.
            self._told_ns[name] = max(self._told_ns[name], self.ended_ns[name] + open_ns)
            found.add_metric([name], self._told_ns[name] / NS_PER_S)
        yield found


def _size(stage: StageState, what: str) -> int:
    return len(getattr(stage, what))


class ServingMetrics:
    """Metrics of a dispatcher, in a registry of their own.

    All names begin with ``mipplan_``; the times are those by which the dispatcher decides.

    Parameters
    ----------
    plan : Plan
        Whose objective and certificate queries may miss: `ServingHost.promised`. With an allowance it has no
        certificate: the plan's own is of batches within its tables. One that is a quantile may be missed by right, and
        is not watched.
    dispatcher : Dispatcher
        Its queues are looked at when the metrics are read.
    told : mapping of str to int, optional
        Replicas that each stage is told to have, if these change (`ServingHost.told`).
    certificate_ns : int, optional
        To watch instead of the plan's, as a bound of every query. Without either, no certificate is watched.
    """

    def __init__(
        self,
        plan: Plan,
        dispatcher: Dispatcher,
        told: Mapping[str, int] | None = None,
        *,
        certificate_ns: int | None = None,
    ) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry: CollectorRegistry = CollectorRegistry()
        self._limits_ns = {"objective": plan.slo_ns}
        is_of_all = plan.quantile == 1.0 and plan.objective.share == 1.0
        if certificate_ns is None and (is_of_all or plan.envelope is not None):
            certificate_ns = plan.certificate_ns
        if certificate_ns is not None:
            self._limits_ns["certificate"] = certificate_ns
        by_stage = ["stage"]
        waiting = Gauge(
            "mipplan_queue_length", "Tokens that wait at a stage.", by_stage, registry=self.registry
        )
        replicas = Gauge(
            "mipplan_replicas", "Replicas of a stage that can serve.", by_stage, registry=self.registry
        )
        busy = Gauge(
            "mipplan_busy_replicas", "Replicas of a stage under way.", by_stage, registry=self.registry
        )
        if told is not None:
            asked = Gauge("mipplan_replicas_told", "Replicas asked for.", by_stage, registry=self.registry)
            for name in told:
                asked.labels(name).set_function(partial(told.__getitem__, name))
        for name, stage in dispatcher.stages.items():
            waiting.labels(name).set_function(partial(getattr, stage, "waiting"))
            replicas.labels(name).set_function(partial(_size, stage, "alive"))
            busy.labels(name).set_function(partial(_size, stage, "busy"))
        in_flight = Gauge("mipplan_in_flight", "Queries accepted and not answered.", registry=self.registry)
        in_flight.set_function(lambda: len(dispatcher.queries))
        self._wait = Histogram(
            "mipplan_wait_seconds",
            "Time from a token's arrival at a stage to its dispatch.",
            by_stage,
            buckets=_TIMES_S,
            registry=self.registry,
        )
        caps = [stage.blueprint.batch for stage in dispatcher.stages.values()]
        sizes = sorted({size for cap in caps for size in (1, 2, 4, 8, 16, 32, 64, cap) if size <= max(caps)})
        self._sizes = Histogram(
            "mipplan_batch_size", "Tokens of a batch.", by_stage, buckets=sizes, registry=self.registry
        )
        self._latency = Histogram(
            "mipplan_latency_seconds",
            "From ingress to the last exit, of queries that were served.",
            buckets=_TIMES_S,
            registry=self.registry,
        )
        self._queries = Counter(
            "mipplan_queries", "Queries by how they ended.", ["outcome"], registry=self.registry
        )
        self._missed = Counter(
            "mipplan_missed", "Queries served later than a limit.", ["limit"], registry=self.registry
        )
        self._overruns = Counter(
            "mipplan_overruns",
            "Batches that took longer than their table says.",
            by_stage,
            registry=self.registry,
        )
        self._retries = Counter(
            "mipplan_retries", "Batches that failed and were tried again.", by_stage, registry=self.registry
        )
        self._void = Counter(
            "mipplan_void", "Queries that have lost what the plan guarantees.", registry=self.registry
        )
        self._busy = _BusySeconds(dispatcher)
        self.registry.register(self._busy)
        for outcome in (*Outcome, "rejected"):
            self._queries.labels(str(outcome))
        for limit in self._limits_ns:
            self._missed.labels(limit)
        for name in dispatcher.stages:
            # There from the beginning, or whoever reads them misses what came before the second look.
            self._sizes.labels(name)
            self._wait.labels(name)
            self._overruns.labels(name)
            self._retries.labels(name)

    def observe(self, step: Step) -> None:
        """Count a step."""
        if isinstance(step, Dispatched):
            batch = step.batch
            self._sizes.labels(batch.stage).observe(len(batch.tokens))
            for token in batch.tokens:
                self._wait.labels(batch.stage).observe((batch.dispatched_ns - token.arrival_ns) / NS_PER_S)
        elif isinstance(step, BatchEnded):
            self._busy.ended_ns[step.batch.stage] += max(0, step.now_ns - step.batch.dispatched_ns)
            if step.retries:
                self._retries.labels(step.batch.stage).inc()
        elif isinstance(step, Overran):
            self._overruns.labels(step.batch.stage).inc()
        elif isinstance(step, Voided):
            self._void.inc()
        else:
            self._count_answer(step)

    def _count_answer(self, answered: Answered) -> None:
        self._queries.labels(answered.outcome.value).inc()
        if answered.outcome is Outcome.SERVED:
            self._latency.observe(answered.latency_ns / NS_PER_S)
            for limit, limit_ns in self._limits_ns.items():
                if answered.latency_ns > limit_ns:
                    self._missed.labels(limit).inc()

    def rejected(self, reason: str) -> None:
        """Count a query that was turned away."""
        del reason
        self._queries.labels("rejected").inc()

    def text(self) -> bytes:
        """Return all in Prometheus' text format."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)


def check_log(path: AnyPath) -> None:
    """Find out whether a `StageRecorder` could write there; raises `InputError` if surely not."""
    if not isinstance(path, str | os.PathLike):
        raise InputError.one("log", f"expected the name of a folder or a file, found {shown(path)}")
    place = Path(path)
    problem = output_problem(path) if place.suffix == ".parquet" else None
    if place.suffix != ".parquet" and is_there(place) and not is_folder(place):
        problem = f"{place} is a file: name a folder, or a file that ends in .parquet"
    if problem is not None:
        raise InputError.one("log", problem)


class StageRecorder:
    """Logs what each stage did with each token (`mipplan.logs.StageRow`).

    Parameters
    ----------
    path : path
        A ``.parquet`` file, which is written at the end; or a folder, into which files are written as it
        goes, in threads of their own, so that little is lost if the server is killed.
    plan : Plan
        The one that is served.
    target : str, optional
        What served, for the log's metadata.
    rows_at_once : int
        Of a file in a folder.
    longest_s : float
        Fewer rows are written there, too, after this time: where little comes, they would be those of hours.
    allowance_s : float
        Of the server, for the log's metadata.

    Raises
    ------
    InputError
        If the folder cannot be made, the file surely not be written, or the allowance is none.
    """

    def __init__(
        self,
        path: AnyPath,
        plan: Plan,
        target: str | None = None,
        *,
        rows_at_once: int = 10_000,
        longest_s: float = 30.0,
        allowance_s: float = 0.0,
    ) -> None:
        self._path = Path(path)
        law, allowance_ns = f"{plan.dispatch}, {plan.discipline}", check_allowance(allowance_s)
        metadata = LogMetadata.here(fingerprint(plan.to_document()), target, law, allowance_ns)
        self._metadata, self._rows = metadata, list[StageRow]()
        is_file = self._path.suffix == ".parquet"
        check_log(path)  # now, and not when all that was to be written is lost
        self._makes_folder = not is_file and not self._path.exists()
        self._writer = None if is_file else LogWriter(self._path, StageLog, metadata, sys.maxsize)
        self._thread, self._unwritten = ThreadPoolExecutor(1), 0
        self._rows_at_once, self._longest_s = rows_at_once, longest_s
        self._closing = threading.Event()
        self._regularly = threading.Thread(target=self._write_regularly, daemon=True)
        if self._writer is not None:
            self._regularly.start()
        # One offset for the whole run, so that a clock that is set meanwhile does not tear times apart.
        self._offset_ns = unix_offset_ns()

    def observe(self, step: Step) -> None:
        """Log the tokens of a batch that has ended."""
        if not isinstance(step, BatchEnded):
            return
        batch, shift_ns = step.batch, self._offset_ns
        finished_ns = batch.finished_ns
        if finished_ns is not None:
            finished_ns += shift_ns
        rows = [
            StageRow(
                int(getattr(token.query.name, "number", token.query.number)),
                batch.stage,
                token.arrival_ns + shift_ns,
                batch.dispatched_ns + shift_ns,
                finished_ns,
                batch.number,
                len(batch.tokens),
                batch.replica,
                step.error,
            )
            for token in batch.tokens
        ]
        if self._writer is None:
            self._rows += rows
        else:
            self._writer.add(*rows)
            self._unwritten += len(rows)
            if self._unwritten >= self._rows_at_once:
                self._unwritten = 0
                self._thread.submit(self._writer.flush)  # what fails is tried again with the next

    def rejected(self, reason: str) -> None:
        """A query that was turned away has no rows."""

    def _write_regularly(self) -> None:
        while self._writer is not None and not self._closing.wait(self._longest_s):
            with contextlib.suppress(InputError):  # what fails is tried again, and told at the end
                self._writer.flush()

    def _end_threads(self) -> None:
        self._closing.set()
        if self._writer is not None:
            self._regularly.join()
        self._thread.shutdown()

    def close(self) -> None:
        """Write what has not been written; raises `InputError` if that is not possible."""
        self._end_threads()
        if self._writer is None:
            write_log(self._path, StageLog.from_rows(self._rows, self._metadata))
        else:
            self._writer.close()

    def discard(self) -> None:
        """Write nothing, and leave no folder that was not there: there was no run."""
        self._end_threads()
        if self._makes_folder:
            with contextlib.suppress(OSError):  # somebody else uses it by now
                self._path.rmdir()
