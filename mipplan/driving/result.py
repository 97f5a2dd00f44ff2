"""What a run of a trace against a server came to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from mipplan.core import NS_PER_MS, Int64, Printable, Summary, format_duration, quantile_ns
from mipplan.documents import AnyPath
from mipplan.logs import QueryLog, QueryStatus, write_log


@dataclass(frozen=True, eq=False, repr=False)
class Drive(Printable):
    """What a run came to.

    Attributes
    ----------
    log : QueryLog
        In the order of sending; queries not sent before an interrupt are not in it.
    trace : str
        What was sent.
    target : str
        Where.
    asked : int
        Queries of the trace that were to be sent.
    interrupted : bool
        Whether it was stopped by Ctrl-C or SIGTERM.
    unwritten : str, optional
        What kept the log from being written where it was asked for; `save` may do so elsewhere.
    """

    log: QueryLog
    trace: str
    target: str
    asked: int
    interrupted: bool = False
    unwritten: str | None = None

    #: Where one query of a hundred is sent later than this, the measurement is of this machine as much as of the
    #: server: in measured runs such send errors went with latencies that were off.
    spoilt_beyond_ns: ClassVar[int] = 10 * NS_PER_MS

    @cached_property
    def latency_ns(self) -> Int64:
        """Latencies of the queries with a good answer, in the order of sending."""
        return self.log.latency_ns[self.log.ok]

    @property
    def counts(self) -> Mapping[str, int]:
        """How many queries ended each way, by status."""
        found = Counter(str(status) for status in self.log.status)
        return {str(status): found[status] for status in QueryStatus}

    @property
    def errors(self) -> Mapping[str, int]:
        """How many queries failed of each kind, the most frequent first."""
        return dict(Counter(str(error) for error in self.log.error if error is not None).most_common())

    def send_error_ns(self, quantile: float) -> int:
        """Quantile of how much later than scheduled queries were sent; 0 if none was."""
        return quantile_ns(self.log.send_error_ns, quantile) if len(self.log) else 0

    @property
    def spoilt(self) -> bool:
        """Whether queries were sent so late that the measurement is not of the server."""
        return self.send_error_ns(0.99) > self.spoilt_beyond_ns

    @property
    def notes(self) -> tuple[str, ...]:
        """What to think of before using it."""
        notes = []
        if self.spoilt:
            notes.append(
                f"send times spoil the measurement: P99 {format_duration(self.send_error_ns(0.99))} late, more than "
                f"{format_duration(self.spoilt_beyond_ns)}; drive from a quieter machine, or lower the rate"
            )
        if self.interrupted:
            notes.append(f"stopped before its end: {len(self.log):,} of {self.asked:,} queries were sent")
        if len(self.log) and not self.latency_ns.size:
            notes.append("no query got a good answer")
        if self.unwritten is not None:
            notes.append(f"the log was not written: {self.unwritten}")
        return tuple(notes)

    def save(self, path: AnyPath) -> None:
        """Write the log as a Parquet file, whole or not at all; `InputError` if that is not possible."""
        write_log(path, self.log)

    def _summary(self) -> Summary:
        late = ", ".join(
            f"{name} {format_duration(self.send_error_ns(quantile))}"
            for name, quantile in (("P50", 0.5), ("P99", 0.99), ("max", 1.0))
        )
        ended = ", ".join(f"{count:,} {status}" for status, count in self.counts.items() if count)
        return Summary(
            f"{self.trace} against {self.target}",
            figures=(
                ("queries", f"{len(self.log):,} sent: {ended}" if len(self.log) else "none was sent"),
                ("latency", self._latency_text()),
                ("sent late by", late if len(self.log) else None),
                *(("note", note) for note in self.notes),
            ),
            headings=("error", ">queries"),
            rows=((error, f"{count:,}") for error, count in self.errors.items()),
            count=len(self.errors),
            what="kinds of errors",
        )

    def _latency_text(self) -> str | None:
        if not self.latency_ns.size:
            return None
        figures = [(f"P{100 * q:g}", quantile_ns(self.latency_ns, q)) for q in (0.5, 0.9, 0.99)]
        figures += [("mean", round(float(np.mean(self.latency_ns))))]
        return ", ".join(f"{name} {format_duration(ns)}" for name, ns in figures)

    def _line(self) -> str:
        return f" {self.trace}: {len(self.log)} queries sent to {self.target}, {self.latency_ns.size} good answers"
