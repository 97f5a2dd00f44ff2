"""What can be wrong with the rows of logs: in one file, and between files of several machines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mipplan.core import Bool, Fault, Int64, Positions, format_duration, listed, shown, suggestion
from mipplan.logs.rows import MISSING, LogMetadata, QueryLog, QueryStatus, StageLog

#: Rows named in a message; their number is always told.
_ROWS_NAMED = 5
#: Where no query was answered nothing says what clocks are ahead by at least: less than any clock is.
NONE_ENDED = -(2**62)


@dataclass(frozen=True)
class ClockParams:
    """What passes for one clock."""

    tolerance_ns: int = 1_000_000
    """Clocks that NTP holds together in one data centre differ by less than 1 ms."""


def query_faults(log: QueryLog, place: str) -> Iterator[Fault]:
    """Yield what is wrong with single rows of a file of queries."""
    yield from _times_faults(log, ("scheduled_ns", "sent_ns", "answered_ns"), place)
    yield from _fault(place, "query", log.query < 0, "is negative")
    answered = log.answered_ns != MISSING
    yield from _fault(place, "answered_ns", answered & (log.answered_ns < log.sent_ns), "is before sent_ns")
    yield from _fault(place, "answered_ns", log.ok & ~answered, "has no value although status is ok")
    known = [str(status) for status in QueryStatus]
    for word in sorted({str(word) for word in log.status} - set(known)):
        at_fault = np.asarray(log.status == word, dtype=np.bool_)
        message = f"expected one of {', '.join(known)}, found {shown(word)}{suggestion(word, known)}"
        yield from _fault(place, "status", at_fault, message)
    bad = {text for text in set(log.route) - {None} if not _is_object(str(text))}
    if bad:
        at_fault = np.array([text in bad for text in log.route], dtype=np.bool_)
        yield from _fault(place, "route", at_fault, f"is no JSON object: {shown(min(bad), 30)}")


def numbering_faults(log: QueryLog, place: str) -> Iterator[Fault]:
    """Yield what is wrong with the numbers of the queries of all files together."""
    if not len(log):
        return
    numbers, counts = np.unique(log.query, return_counts=True)
    twice = numbers[counts > 1]
    if twice.size:
        yield Fault(place, f"query: found more than once: {_named('query', twice)}")
    gaps = np.flatnonzero(np.diff(numbers) > 1)
    if gaps.size:
        missing = int(numbers[-1] - numbers[0] + 1 - numbers.size)
        first = int(numbers[gaps[0]]) + 1
        yield Fault(
            place,
            f"query: {missing:,} numbers from {first} on are missing: the log has gaps, and without the load of these "
            "queries no prediction can be compared; give every file of the run",
        )


def stage_faults(log: StageLog, place: str) -> Iterator[Fault]:
    """Yield what is wrong with single rows of a file of stages."""
    yield from _times_faults(log, ("arrival_ns", "dispatch_ns", "finish_ns"), place)
    yield from _fault(place, "query", log.query < 0, "is negative")
    yield from _fault(place, "stage", np.array([not name for name in log.stage], dtype=np.bool_), "is empty")
    dispatched, finished = log.dispatch_ns != MISSING, log.finish_ns != MISSING
    early = dispatched & (log.dispatch_ns < log.arrival_ns)
    yield from _fault(place, "dispatch_ns", early, "is before arrival_ns")
    early = dispatched & finished & (log.finish_ns < log.dispatch_ns)
    yield from _fault(place, "finish_ns", early, "is before dispatch_ns")
    yield from _fault(place, "finish_ns", finished & ~dispatched, "has a value although dispatch_ns has none")
    yield from _fault(
        place, "batch", dispatched & (log.batch == MISSING), "has no value although dispatch_ns has one"
    )
    yield from _fault(place, "batch_size", (log.batch != MISSING) & (log.batch_size < 1), "is below 1")


def batch_faults(log: StageLog, place: str) -> Iterator[Fault]:
    """Yield what is wrong with the batches of all files of a run together."""
    rows = np.flatnonzero(log.batch != MISSING)
    if not rows.size:
        return
    _, stage = np.unique(log.stage[rows].astype(str), return_inverse=True)
    order = np.lexsort((log.batch[rows], stage))
    ordered, of_stage = log.taken(rows[order]), stage[order]
    begins = np.flatnonzero(
        np.concatenate([[True], (np.diff(of_stage) != 0) | (np.diff(ordered.batch) != 0)])
    )
    found = np.diff(begins, append=rows.size)
    least, most = (part.reduceat(ordered.batch_size, begins) for part in (np.minimum, np.maximum))
    for wrong, message in (
        (least != most, "batch_size differs within a batch"),
        ((least == most) & (found < least), "fewer rows than batch_size says: the log has gaps"),
        ((least == most) & (found > most), "more rows than batch_size says"),
        (
            np.minimum.reduceat(ordered.dispatch_ns, begins)
            != np.maximum.reduceat(ordered.dispatch_ns, begins),
            "dispatch_ns differs within a batch",
        ),
    ):
        at_fault = begins[wrong]
        if at_fault.size:
            first = at_fault[0]
            name = f"batch {int(ordered.batch[first])} of stage {ordered.stage[first]}"
            more = f" and {at_fault.size - 1:,} more" if at_fault.size > 1 else ""
            yield Fault(place, f"batch: {name}{more}: {message}")


def clock_faults(
    queries: QueryLog, stages: Mapping[str, StageLog], params: ClockParams = ClockParams()
) -> Iterator[Fault]:
    """Yield where the clock of a host of stages, by its name, is not the one that the queries' sender had.

    Whatever a stage does for a query happens between sending and answer. If a host's clock is ahead by δ, its times
    are all late by δ: then sent ≤ arrival − δ and finish − δ ≤ answered for every query, which is an interval for δ.
    If 0 is not in it, the clock is off, and by how much is told; if it is empty, no offset explains the times.
    """
    for host, log in stages.items():
        slack = clock_slack(queries, log)
        if slack is None or slack.has_none_beyond(params.tolerance_ns):
            continue
        if slack.least > slack.most + params.tolerance_ns:
            outside = slack.outside(params.tolerance_ns)
            twice = np.intersect1d(slack.query[outside], slack.query[~outside])
            why = "no single offset of this host's clock explains it (a clock was set during the run, or these logs "
            why += "are of different runs)"
            if np.isin(slack.query[outside], twice).all():  # each of them has other times that are
                why = f"{_named('query', twice)} came twice: the server was asked for the same numbers outside this "
                why += "run, by hand or by another run; start it anew for each run that is to be compared"
            yield Fault(
                host,
                f"clock: {np.count_nonzero(outside):,} of {outside.size:,} stage times are not between sending and "
                f"answer, and {why}",
            )
            continue
        yield Fault(host, _offset_text(host, slack.least, slack.most))


@dataclass(frozen=True, eq=False, repr=False)
class ClockSlack:
    """Stage times beside those of their queries, shape (rows,): by how much a host's clock may be ahead.

    `answered_ns` and `finish_ns` are `MISSING` where there is none, or no good one.
    """

    query: Int64
    sent_ns: Int64
    answered_ns: Int64
    arrival_ns: Int64
    finish_ns: Int64

    @property
    def most(self) -> int:
        """At most so much: nothing arrives before it was sent."""
        return int((self.arrival_ns - self.sent_ns).min())

    @property
    def least(self) -> int:
        """At least so much: nothing ends after the answer; `NONE_ENDED` if no query was answered."""
        ended = (self.finish_ns != MISSING) & (self.answered_ns != MISSING)
        late = (self.finish_ns - self.answered_ns)[ended]
        return int(late.max()) if late.size else NONE_ENDED

    def has_none_beyond(self, tolerance_ns: int) -> bool:
        """Whether no offset at all explains the times, but for so much."""
        return self.least <= tolerance_ns and self.most >= -tolerance_ns

    def outside(self, tolerance_ns: int) -> Bool:
        """Which rows are not between sending and answer."""
        ended = (self.finish_ns != MISSING) & (self.answered_ns != MISSING)
        late = ended & (self.finish_ns > self.answered_ns + tolerance_ns)
        outside: Bool = late | (self.arrival_ns < self.sent_ns - tolerance_ns)
        return outside


def clock_slack(queries: QueryLog, stages: StageLog) -> ClockSlack | None:
    """Put the times of a host's stages beside those of their queries; None if there are none in common."""
    if not len(queries):
        return None
    order = np.argsort(queries.query, kind="stable")
    numbers = queries.query[order]
    place = np.searchsorted(numbers, stages.query)
    known = (place < numbers.size) & (numbers[np.minimum(place, numbers.size - 1)] == stages.query)
    if not known.any():
        return None
    of = order[place[known]]
    answered_ns = np.where(queries.ok, queries.answered_ns, MISSING)[of]
    return ClockSlack(
        stages.query[known],
        queries.sent_ns[of],
        answered_ns,
        stages.arrival_ns[known],
        stages.finish_ns[known],
    )


def _offset_text(host: str, least: int, most: int) -> str:
    """Say by how much a clock is off, at least and at most."""
    if least == NONE_ENDED:  # Only one end is known.
        offset, between = most, f"at least {format_duration(-most)}"
    else:
        offset = (least + most) // 2
        ends = sorted((abs(least), abs(most)))
        between = f"{format_duration(ends[0])} to {format_duration(ends[1])}"
    side = "ahead of" if offset > 0 else "behind"
    return (
        f"clock: it is {between} {side} the clock of the queries' sender; let NTP hold them together, or take the "
        f"offset out: --shift {host}={-offset / 1e6:.3f}ms"
    )


def _times_faults(log: QueryLog | StageLog, names: tuple[str, ...], place: str) -> Iterator[Fault]:
    lacking = {column.name for column in log.columns() if column.may_lack}
    for name in names:
        values: Int64 = getattr(log, name)
        yield from _fault(
            place, name, (values < 0) & ((values != MISSING) | (name not in lacking)), "is negative"
        )


def _fault(place: str, column: str, at_fault: Bool, message: str) -> Iterator[Fault]:
    rows = np.flatnonzero(at_fault)
    if rows.size:
        yield Fault(place, f"{column}, {_named('row', rows + 1)}: {message}")


def _named(what: str, numbers: Int64 | Positions) -> str:
    """Name some numbers, and how many more there are."""
    first = ", ".join(str(number) for number in numbers[:_ROWS_NAMED])
    more = f" and {numbers.size - _ROWS_NAMED:,} more" if numbers.size > _ROWS_NAMED else ""
    plural = {"query": "queries"}.get(what, f"{what}s")
    return f"{plural if numbers.size > 1 else what} {first}{more}"


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def part_faults(sources: Sequence[LogMetadata], place: str) -> list[Fault]:
    """Find the holes in series of files; that the end is missing cannot be seen here."""
    parts: dict[str, set[int]] = {}
    for source in sources:
        if source.part is not None:
            parts.setdefault(source.run, set()).add(source.part)
    return [
        Fault(place, f"the log of run {run} lacks part {listed(map(str, lacking))}")
        for run, found in parts.items()
        if (lacking := sorted(set(range(max(found))) - found))
    ]
