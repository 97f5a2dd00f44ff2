"""The two kinds of logs: a row per query, as its sender saw it, and a row per query and stage, as the server did.

All times are whole nanoseconds of the UNIX clock (``time.time_ns()``). What did not happen has no value: null in a
file, `MISSING` in an array.
"""

from __future__ import annotations

import platform
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from mipplan.core import Bool, InputError, Int64, Positions, frozen, shown, version_of

#: Texts, or None where there is none.
Texts = NDArray[np.object_]

#: Stands in int64 arrays for a time that did not come, a batch or replica that nobody knows. None of these is negative.
MISSING = -1


class QueryStatus(StrEnum):
    """How a query ended for its sender."""

    OK = "ok"
    """A good answer came."""
    ERROR = "error"
    """A bad answer came, or the connection broke."""
    TIMEOUT = "timeout"
    """No answer came in the time that the sender waits, or before it stopped."""
    REJECTED = "rejected"
    """The server refused it for want of room (HTTP 429 or 503)."""


class QueryRow(NamedTuple):
    """One query, as its sender saw it."""

    query: int
    """Its number, from 0 on without gaps, over all senders of a run."""
    scheduled_ns: int
    """When it should have been sent."""
    sent_ns: int
    """When it was."""
    answered_ns: int | None
    """When the answer was there as a whole; None if none came."""
    status: str
    """A `QueryStatus`."""
    error: str | None = None
    """What went wrong: one of few texts, since errors are counted by it."""
    route: str | None = None
    """Branches that the query took, as a JSON object; None if they are unknown."""


class StageRow(NamedTuple):
    """One token of a query at a stage, as the server saw it. A query with several tokens there has several rows."""

    query: int
    stage: str
    arrival_ns: int
    """When it joined the queue."""
    dispatch_ns: int | None
    """When its batch began; None if it never did."""
    finish_ns: int | None
    """When its batch ended; None if it failed or never began."""
    batch: int | None
    """Number of its batch, unique for a stage in one run of the server; None if it was in none."""
    batch_size: int | None
    """Tokens in that batch: every one of them has a row."""
    replica: int | None = None
    error: str | None = None
    """Why it failed; a batch that is tried again has rows of its own for each attempt."""


@dataclass(frozen=True)
class LogMetadata:
    """Where a log comes from.

    Attributes
    ----------
    host : str
        The machine whose clock the times are of.
    clock : str
        Name of that clock.
    mipplan : str
        Version that wrote the log.
    plan : str or None
        Of the plan that was served, if one was: `mipplan.result.fingerprint` of its document, by which `mipplan truth`
        knows it.
    target : str or None
        What was driven (a URL), or what served.
    law : str or None
        When batches are made, in the server's own words.
    run : str
        Tells one run of a driver or server from all others: numbers of batches are unique within it.
    part : int or None
        Which of a run's files this is, from 0 on; None if it is all of it.
    allowance_ns : int
        What a batch could take beyond its table; outputs of a timed one waited for that long.
    """

    host: str = "unknown"
    clock: str = "unknown"
    mipplan: str = "unknown"
    plan: str | None = None
    target: str | None = None
    law: str | None = None
    run: str = ""
    part: int | None = None
    allowance_ns: int = 0

    @classmethod
    def here(
        cls,
        plan: str | None = None,
        target: str | None = None,
        law: str | None = None,
        allowance_ns: int = 0,
    ) -> LogMetadata:
        """Describe a run that begins now on this machine."""
        about = (platform.node() or "unknown", "UNIX time", version_of("mipplan"), plan, target, law)
        return cls(*about, run=secrets.token_hex(8), allowance_ns=allowance_ns)


class LogColumn(NamedTuple):
    """A column of a log."""

    name: str
    holds_text: bool = False
    may_lack: bool = False  # Values may be missing, here and there.
    may_be_absent: bool = False  # The column itself may be missing.


@dataclass(frozen=True, eq=False, repr=False)
class _Log:
    """What both kinds of logs can do."""

    query: Int64
    metadata: LogMetadata = field(default_factory=LogMetadata, kw_only=True)

    def __post_init__(self) -> None:
        sizes = set()
        for column in self.columns():
            given = getattr(self, column.name)
            values = _texts(given) if column.holds_text else _numbers(column.name, given)
            sizes.add(values.size)
            object.__setattr__(self, column.name, frozen(values))
        if len(sizes) > 1:
            raise InputError.one("log", f"columns of one length expected, found lengths {sorted(sizes)}")

    @classmethod
    def columns(cls) -> tuple[LogColumn, ...]:
        raise NotImplementedError

    @classmethod
    def from_rows(cls, rows: Iterable[Sequence[object]], metadata: LogMetadata | None = None) -> Self:
        """Make a log of `QueryRow` or `StageRow`, whichever it holds."""
        values = list(zip(*rows, strict=True)) or [() for _ in cls.columns()]
        names = [column.name for column in cls.columns()]
        return cls.from_columns(dict(zip(names, values, strict=True)), metadata)

    @classmethod
    def from_columns(cls, columns: Mapping[str, object], metadata: LogMetadata | None = None) -> Self:
        """Make a log of a sequence for each column; None where there is no value."""
        return cls(metadata=metadata or LogMetadata(), **columns)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return int(self.query.size)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self)} rows from {self.metadata.host}>"

    def taken(self, rows: Bool | Int64) -> Self:
        """Return some of the rows: a mask or their positions."""
        chosen: dict[str, Any] = {column.name: getattr(self, column.name)[rows] for column in self.columns()}
        return replace(self, **chosen)

    def together(self, others: Sequence[Self]) -> Self:
        """Return the rows of this log and then of others; the metadata are this one's."""
        logs = [self, *others]
        joined: dict[str, Any] = {
            column.name: np.concatenate([getattr(log, column.name) for log in logs])
            for column in self.columns()
        }
        return replace(self, **joined)

    def numbered_anew(self, run: Positions) -> Self:
        """Return the log of several runs, given the run of each row, with names that are unique over all of them."""
        del run
        return self


@dataclass(frozen=True, eq=False, repr=False)
class QueryLog(_Log):
    """A row per query, as its sender saw it; each column is an array of shape (queries,). See `QueryRow`.

    Raises
    ------
    InputError
        If columns differ in length, or hold something other than whole numbers where these belong.
    """

    scheduled_ns: Int64
    sent_ns: Int64
    answered_ns: Int64
    status: Texts
    error: Texts
    route: Texts

    @classmethod
    def columns(cls) -> tuple[LogColumn, ...]:
        """Return the columns of the log, in the order of `QueryRow`."""
        return (
            LogColumn("query"),
            LogColumn("scheduled_ns"),
            LogColumn("sent_ns"),
            LogColumn("answered_ns", may_lack=True),
            LogColumn("status", holds_text=True),
            LogColumn("error", holds_text=True, may_lack=True, may_be_absent=True),
            LogColumn("route", holds_text=True, may_lack=True, may_be_absent=True),
        )

    @property
    def ok(self) -> Bool:
        """Which queries got a good answer."""
        return np.asarray(self.status == QueryStatus.OK, dtype=np.bool_)

    @property
    def latency_ns(self) -> Int64:
        """Time from sending to the answer; `MISSING` where none came."""
        return np.where(self.answered_ns == MISSING, MISSING, self.answered_ns - self.sent_ns)

    @property
    def send_error_ns(self) -> Int64:
        """How much later than scheduled each query was sent."""
        return self.sent_ns - self.scheduled_ns


@dataclass(frozen=True, eq=False, repr=False)
class StageLog(_Log):
    """A row per token and stage, as the server saw it; each column is an array of shape (tokens,). See `StageRow`.

    Raises `InputError` as `QueryLog` does.
    """

    stage: Texts
    arrival_ns: Int64
    dispatch_ns: Int64
    finish_ns: Int64
    batch: Int64
    batch_size: Int64
    replica: Int64
    error: Texts

    @classmethod
    def columns(cls) -> tuple[LogColumn, ...]:
        """Return the columns of the log, in the order of `StageRow`."""
        return (
            LogColumn("query"),
            LogColumn("stage", holds_text=True),
            LogColumn("arrival_ns"),
            LogColumn("dispatch_ns", may_lack=True),
            LogColumn("finish_ns", may_lack=True),
            LogColumn("batch", may_lack=True),
            LogColumn("batch_size", may_lack=True),
            LogColumn("replica", may_lack=True, may_be_absent=True),
            LogColumn("error", holds_text=True, may_lack=True, may_be_absent=True),
        )

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages, in the order of their first arrivals."""
        names, first = np.unique(self.stage.astype(str), return_index=True)
        order = np.argsort([self.arrival_ns[self.stage == name].min() for name in names], kind="stable")
        return tuple(str(names[place]) for place in order) if first.size else ()

    @property
    def has_error(self) -> Bool:
        """Which rows are of an attempt that failed: a token whose batch is tried again has rows of each."""
        return np.array([text is not None for text in self.error], dtype=np.bool_)

    def at(self, stage: str) -> StageLog:
        """Return the rows of one stage."""
        return self.taken(np.asarray(self.stage == stage, dtype=np.bool_))

    def numbered_anew(self, run: Positions) -> Self:
        """Return the log of several runs with other numbers of batches: theirs are unique within a run only."""
        _, batch = np.unique(np.stack([run, self.batch]), axis=1, return_inverse=True)
        return replace(self, batch=np.where(self.batch == MISSING, MISSING, batch.ravel().astype(np.int64)))

    def shifted(self, by_ns: int) -> StageLog:
        """Return the log with `by_ns` added to every time, to undo an offset of its clock."""
        moved: dict[str, Any] = {}
        for name in ("arrival_ns", "dispatch_ns", "finish_ns"):
            values = getattr(self, name)
            moved[name] = np.where(values == MISSING, MISSING, values + by_ns)
        return replace(self, **moved)


def _numbers(name: str, given: object) -> Int64:
    """Return whole numbers as int64; None becomes `MISSING`."""
    if isinstance(given, np.ndarray) and given.dtype == np.int64:
        return given.copy() if given.flags.writeable else given
    values = [MISSING if value is None else value for value in given]  # type: ignore[attr-defined]
    odd = next((value for value in values if not isinstance(value, int | np.integer)), None)
    if odd is not None:
        raise InputError.one(name, f"expected whole numbers, found {shown(odd)}")
    return np.array(values, dtype=np.int64)


def _texts(given: object) -> Texts:
    if isinstance(given, np.ndarray) and given.dtype == np.object_:
        return given.copy() if given.flags.writeable else given
    texts = list(given)  # type: ignore[call-overload]
    values = np.empty(len(texts), dtype=np.object_)
    # Half a character (a surrogate), as an exception may hold, can be in no file.
    values[:] = [
        None if text is None else str(text).encode("utf-8", "backslashreplace").decode() for text in texts
    ]
    return values
