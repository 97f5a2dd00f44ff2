"""Logs as Parquet files: written whole or not at all, read with every fault told at once.

A load generator writes one file at its end. A server may be killed at any time, so its log is a series of files, each
written whole: at most the rows since the last one are lost, and beside a plan reading tells that they are.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self, TypeVar

import numpy as np

from mipplan.core import Fault, Faults, InputError, is_whole, listed, shown, suggestion
from mipplan.documents import AnyPath, check_path, files_in, is_folder, open_file, write_atomically
from mipplan.logs.checks import (
    NONE_ENDED,
    ClockParams,
    batch_faults,
    clock_faults,
    clock_slack,
    numbering_faults,
    part_faults,
    query_faults,
    stage_faults,
)
from mipplan.logs.rows import MISSING, LogColumn, LogMetadata, QueryLog, QueryRow, StageLog, StageRow
from mipplan.logs.triton import STEADY_CLOCK, read_triton

if TYPE_CHECKING:
    import pyarrow as pa

#: Under this key of the schema's metadata stands where a log comes from, as JSON.
_KEY = b"mipplan.log"
_FORMAT = 1
#: How the kinds are called in names of files.
_KINDS: Mapping[type[QueryLog] | type[StageLog], str] = {QueryLog: "queries", StageLog: "stages"}

LogT = TypeVar("LogT", QueryLog, StageLog)


@dataclass(frozen=True, repr=False)
class RunLog:
    """Everything logged about one run.

    Attributes
    ----------
    queries : QueryLog
        In the order of sending; empty if no file holds queries.
    stages : StageLog
        In the order of the files; empty if no file holds stages.
    sources : tuple of LogMetadata
        Of each file that was read.
    """

    queries: QueryLog
    stages: StageLog
    sources: tuple[LogMetadata, ...] = ()

    def __repr__(self) -> str:
        return f"<RunLog: {len(self.queries)} queries, {len(self.stages)} rows of stages>"


# ------------------------------------------------------------------------------------------------ writing


def write_log(path: AnyPath, log: QueryLog | StageLog) -> None:
    """Write a log as a Parquet file, whole or not at all.

    Raises
    ------
    InputError
        If it is no log, or the place cannot be written to.
    """
    import pyarrow.parquet as pq

    if not isinstance(log, QueryLog | StageLog):
        raise InputError.one("log", f"expected a QueryLog or a StageLog, found {shown(log)}")
    table = _table_of(log)
    write_atomically(Path(check_path(path)), lambda stream: pq.write_table(table, stream, compression="zstd"))


def _table_of(log: QueryLog | StageLog) -> pa.Table:
    import pyarrow as pa

    arrays, types = [], []
    for column in log.columns():
        values = getattr(log, column.name)
        if column.holds_text:
            arrays.append(pa.array(values.tolist(), pa.string()).dictionary_encode())
        else:
            arrays.append(pa.array(values, pa.int64(), mask=(values == MISSING) & column.may_lack))
        types.append(pa.field(column.name, arrays[-1].type, nullable=column.may_lack))
    about = json.dumps({"format": _FORMAT, **asdict(log.metadata)})
    return pa.Table.from_arrays(arrays, schema=pa.schema(types, {_KEY: about.encode()}))


class LogWriter(Generic[LogT]):
    """Writes a log as a series of files, some rows at a time; for servers, whose end nobody knows.

    >>> with LogWriter(folder, StageLog, LogMetadata.here()) as writer:  # doctest: +SKIP
    ...     writer.add(StageRow(7, "detect", arrival_ns, dispatch_ns, finish_ns, batch=3, batch_size=4))

    Parameters
    ----------
    folder : path
        Made if it is not there. Files are named ``queries-RUN-00000.parquet`` or ``stages-RUN-00000.parquet``, so that
        several runs and servers may write to one folder; `read_log` reads the folder.
    kind : QueryLog or StageLog
    metadata : LogMetadata
        `LogMetadata.here` makes it.
    rows_at_once : int
        Rows in a file. Writing 10,000 takes some 20 ms, which a server that cares does in a thread.

    Raises
    ------
    InputError
        If the folder cannot be made.
    """

    def __init__(
        self, folder: AnyPath, kind: type[LogT], metadata: LogMetadata, rows_at_once: int = 10_000
    ) -> None:
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError.one(str(folder), f"cannot be made: {error.strerror or error}") from None
        self._kind: type[LogT] = kind
        self._metadata, self._rows_at_once = metadata, rows_at_once
        self._rows: list[QueryRow | StageRow] = []
        self._parts = 0
        self._writing = threading.Lock()

    def add(self, *rows: QueryRow | StageRow) -> None:
        """Add rows; a file is written when there are enough for one."""
        self._rows.extend(rows)
        if len(self._rows) >= self._rows_at_once:
            self.flush()

    def flush(self) -> None:
        """Write the rows added since the last file, if there are any.

        Raises
        ------
        InputError
            If the file cannot be written; the rows are kept for the next attempt.
        """
        with self._writing:
            count = len(self._rows)  # Others may add rows while the file is written.
            if not count:
                return
            metadata = replace(self._metadata, part=self._parts)
            name = f"{_KINDS[self._kind]}-{metadata.run or 'log'}-{self._parts:05d}.parquet"
            write_log(self.folder / name, self._kind.from_rows(self._rows[:count], metadata))
            del self._rows[:count]
            self._parts += 1

    def close(self) -> None:
        """Write what is left."""
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# ------------------------------------------------------------------------------------------------ reading

_NO_LOG = "cannot be read as a Parquet file: expected a log"
_DOCUMENT = "is a JSON document, such as a plan: expected a log, a Parquet file"
#: Of Ray Serve, mosec and Triton alike: histograms of sizes and of times, or sums over all sizes.
_METRICS = (
    "metrics are no log: they count sizes of batches and their times apart, so that the time of a size, hops and "
    "single arrivals are not in them. `mipplan watch --metrics` reads rates and means, of Ray Serve and Triton; "
    "`mipplan profile` measures the time of a size"
)


def read_log(
    *paths: AnyPath, shift_ns: Mapping[str, int] | None = None, clock: ClockParams | None = None
) -> RunLog:
    """Read the logs of a run: any number of files of queries and of stages.

    Parameters
    ----------
    *paths : str or path
        Parquet files, folders whose ``*.parquet`` are read, or trace files of Triton (JSON).
    shift_ns : mapping of str to int, optional
        Added to all times of stages that were logged on that host, to undo an offset of its clock.
    clock : ClockParams
        How far the clocks of two hosts may be apart; 1 ms by default.

    Returns
    -------
    RunLog

    Raises
    ------
    InputError
        With every fault of all files: missing columns and wrong types, times out of order, queries logged twice, gaps
        in the numbers of queries and in batches, missing parts, and clocks that are off, with the offset.
    """
    faults = Faults()
    if not paths:
        raise InputError.one("logs", "expected at least one file")
    files = [file for path in paths for file in faults.take(partial(_files_of, path)).or_else([])]
    traces = [file for file in dict.fromkeys(files) if _begins(file, b"[")]
    logs = [
        (str(file), faults.take(partial(_read_file, file)))
        for file in dict.fromkeys(files)
        if file not in traces
    ]
    if traces:
        logs.append((listed(map(str, traces), 3), faults.take(lambda: read_triton(traces))))
    shifts = faults.take(lambda: _shifts(shift_ns)).or_else({})
    queries: list[tuple[str, QueryLog]] = []
    stages: list[tuple[str, StageLog]] = []
    for place, taken in logs:
        if not taken:
            continue
        log = taken.value
        if isinstance(log, QueryLog):
            faults.add(*query_faults(log, place))
            queries.append((place, log))
        else:
            faults.add(*stage_faults(log, place))
            stages.append((place, log.shifted(shifts.get(log.metadata.host, 0))))
    hosts = {log.metadata.host for _, log in stages}
    faults.add(
        *(
            Fault(
                "shift", f"no stage was logged on host {host!r}; hosts are {listed(sorted(hosts)) or 'none'}"
            )
            for host in shifts.keys() - hosts
        )
    )
    every_query = _joined(QueryLog, queries)
    stages = [
        (place, log) if log.metadata.clock != STEADY_CLOCK else (place, _aligned(log, every_query))
        for place, log in stages
    ]
    every_stage = _joined(StageLog, stages)
    place = listed((str(path) for path in paths), 3)
    faults.add(*part_faults([log.metadata for _, log in [*queries, *stages]], place))
    if not faults:  # What is wrong in one file would be told again as what is wrong between files.
        faults.add(*numbering_faults(every_query, place), *batch_faults(every_stage, place))
    if not faults:
        by_host = {
            host: _joined(StageLog, [entry for entry in stages if entry[1].metadata.host == host])
            for host in sorted(hosts)
        }
        faults.add(*clock_faults(every_query, by_host, clock or ClockParams()))
    faults.check()
    by_sending = np.argsort(every_query.sent_ns, kind="stable")
    sources = tuple(log.metadata for _, log in [*queries, *stages])
    return RunLog(every_query.taken(by_sending), every_stage, sources)


def _begins(path: Path, sign: bytes) -> bool:
    """Whether a file begins with a sign: a trace file of Triton with ``[``, metrics with ``#``, a plan with ``{``."""
    try:
        with path.open("rb") as stream:
            return stream.read(64).lstrip()[:1] == sign
    except OSError:
        return False  # What is wrong with it is told where it is read.


def _aligned(log: StageLog, queries: QueryLog) -> StageLog:
    """Move the times of a clock that has nothing to do with the sender's into the middle of where they may be."""
    slack = clock_slack(queries, log)
    if slack is None or slack.least > slack.most:
        return log
    least = slack.most if slack.least == NONE_ENDED else slack.least
    return log.shifted(-(least + slack.most) // 2)


def _shifts(shift_ns: object) -> dict[str, int]:
    given = {} if shift_ns is None else shift_ns
    if not isinstance(given, Mapping) or not all(is_whole(shift) for shift in given.values()):
        raise InputError.one("shift", f"expected whole nanoseconds of hosts, found {shown(shift_ns)}")
    return dict(given)


def _files_of(path: AnyPath) -> list[Path]:
    if str(check_path(path)).startswith(("http://", "https://")):
        raise InputError.one(str(path), _METRICS)
    if not is_folder(path):
        return [Path(path)]
    files = [file for file in files_in(path, ".parquet") if not file.name.startswith(".")]
    if not files:
        raise InputError.one(str(path), "is a folder without any *.parquet file")
    return files


def _read_file(path: Path) -> QueryLog | StageLog:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open_file(path) as stream:
        try:
            table = pq.read_table(stream)
        except (pa.ArrowException, OSError, ValueError):
            known = {b"#": _METRICS, b"{": _DOCUMENT}
            told = next((text for sign, text in known.items() if _begins(path, sign)), _NO_LOG)
            raise InputError.one(str(path), told) from None
    kind = _kind_of(table.column_names, str(path))
    faults, values = Faults(), {}
    for column in kind.columns():
        values[column.name] = faults.take(partial(_values, table, column, str(path)))
    metadata = faults.take(lambda: _metadata(table.schema.metadata or {}, str(path)))
    faults.check()
    return kind.from_columns({name: taken.value for name, taken in values.items()}, metadata.value)


def _kind_of(names: Sequence[str], place: str) -> type[QueryLog] | type[StageLog]:
    """Tell the kinds apart by the columns that only one of them has."""
    own = {kind: {column.name for column in kind.columns()} for kind in _KINDS}
    shared = own[QueryLog] & own[StageLog]
    for kind, other in ((QueryLog, StageLog), (StageLog, QueryLog)):
        if set(names) & (own[kind] - shared) and not set(names) & (own[other] - shared):
            return kind
    needed = " or ".join(
        ", ".join(column.name for column in kind.columns() if not column.may_be_absent) for kind in _KINDS
    )
    raise InputError.one(place, f"expected the columns {needed}; found {listed(names)}")


def _values(table: pa.Table, column: LogColumn, place: str) -> object:
    """Return a column as an array of whole numbers, or as texts."""
    import pyarrow as pa

    names = table.column_names
    if column.name not in names:
        if column.may_be_absent:
            absent: list[object] = [None] * table.num_rows
            return absent
        raise InputError.one(place, f"column {column.name} is missing{suggestion(column.name, names)}")
    held = table.column(column.name)
    of_values = held.type.value_type if pa.types.is_dictionary(held.type) else held.type
    if pa.types.is_null(of_values) and column.may_lack:
        pass
    elif column.holds_text and not (pa.types.is_string(of_values) or pa.types.is_large_string(of_values)):
        raise InputError.one(place, f"column {column.name}: expected text, it holds {held.type}")
    elif not column.holds_text and not pa.types.is_integer(of_values):
        what = "nanoseconds of the UNIX clock" if column.name.endswith("_ns") else "numbers"
        raise InputError.one(
            place, f"column {column.name}: expected whole {what} (int64), it holds {held.type}"
        )
    if held.null_count and not column.may_lack:
        first = held.is_null().to_pylist().index(True) + 1
        message = f"column {column.name}: {held.null_count:,} rows have no value, the first is row {first}"
        raise InputError.one(place, message)
    if column.holds_text:
        return held.to_pylist()
    try:
        filled = held.cast(pa.int64()).fill_null(MISSING)
    except pa.ArrowException:
        raise InputError.one(place, f"column {column.name}: holds numbers beyond int64") from None
    return np.array(filled.to_numpy(), dtype=np.int64)


def _metadata(about: Mapping[bytes, bytes], place: str) -> LogMetadata:
    """Return where a log comes from, as far as it says."""
    if _KEY not in about:
        return LogMetadata()
    try:
        found = json.loads(about[_KEY])
        if found.pop("format") != _FORMAT:
            raise InputError.one(place, "was written by a newer mipplan: update this one")
        known = {part.name for part in fields(LogMetadata)}
        if not is_whole(allowance_ns := found.get("allowance_ns", 0)) or allowance_ns < 0:
            raise ValueError
        return LogMetadata(**{name: value for name, value in found.items() if name in known})
    except (ValueError, KeyError, AttributeError, TypeError):
        raise InputError.one(place, f"the metadata under {_KEY.decode()} are damaged") from None


def _joined(kind: type[LogT], logs: Sequence[tuple[str, LogT]]) -> LogT:
    """Put logs together. Batches of several runs are numbered anew, since their numbers are unique in a run only."""
    if not logs:
        return kind.from_rows([])
    parts = [log for _, log in logs]
    whole = parts[0].together(parts[1:])
    runs = list(dict.fromkeys(log.metadata.run for log in parts))
    if len(runs) > 1:
        run = np.repeat([runs.index(log.metadata.run) for log in parts], [len(log) for log in parts])
        whole = whole.numbered_anew(run)
    return whole
