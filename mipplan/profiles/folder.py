"""Profile folders (``hardware.yaml`` and ``models/*.csv``) and documents, read with every fault at once."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, RootModel, model_validator

from mipplan.core import Fault, Faults, InputError, listed, name_problem, shown, suggestion
from mipplan.documents import (
    FAULTS_TOLD,
    AnyPath,
    Document,
    FieldPath,
    Finding,
    StrictEntry,
    check_path,
    checked_by,
    decode_text,
    files_in,
    first_faults,
    is_folder,
    is_there,
    parse_entry,
    read_bytes,
    read_yaml,
)
from mipplan.profiles.model import (
    Hardware,
    idle_problem,
    limit_problem,
    memory_problem,
    power_problem,
    price_problem,
)
from mipplan.profiles.tables import OPTIONAL_COLUMNS, LatencyTable, batch_problem, measurement_problem

_REQUIRED_COLUMNS = ("model", "hardware", "batch", "latency_ms", "source")
_COLUMNS = (*_REQUIRED_COLUMNS, *OPTIONAL_COLUMNS)
#: At most 100,000 rows of one file are read, because nobody measures more and a hostile file could hold millions.
MAX_ROWS = 100_000
#: At most 1,000 hardware types are read, because more are surely mistaken.
MAX_HARDWARE = 1_000


class HardwareEntry(StrictEntry):
    """One hardware type as written."""

    usd_per_hour: Annotated[float, checked_by(price_problem)]
    memory_gib: Annotated[float, checked_by(memory_problem)] | None = None
    limit: Annotated[int, checked_by(limit_problem)] | None = None
    source: str = ""
    idle_w: Annotated[float, checked_by(power_problem)] | None = None
    tdp_w: Annotated[float, checked_by(power_problem)] | None = None
    power_source: str = ""

    @model_validator(mode="after")
    def _draws_more_when_busy(self) -> HardwareEntry:
        if (problem := idle_problem(self.idle_w, self.tdp_w)) is not None:
            raise ValueError(problem)
        return self


class TableEntry(StrictEntry):
    """One latency table as a plan file holds it; its values are checked by `LatencyTable`."""

    model_config = ConfigDict(allow_inf_nan=True)  # what was not measured is no number

    model: str
    hardware: str
    batch: list[int] = Field(min_length=1)
    latency_ms: list[float] = Field(min_length=1)
    latency_p99_ms: list[float] | None = None
    latency_p50_ms: list[float] | None = None
    accuracy: list[float] | None = None
    energy_j: list[float] | None = None
    memory_gib: list[float] | None = None
    power_w: list[float] | None = None
    latency: str = "table"  # Files had none before there was a choice.
    source: list[str] = Field(default_factory=list)


class HardwareFile(
    RootModel[Annotated[dict[str, HardwareEntry], Field(min_length=1, max_length=MAX_HARDWARE)]]
):
    """The content of ``hardware.yaml``."""

    model_config = ConfigDict(strict=True)


class ProfilesEntry(StrictEntry):
    """All hardware types and tables in one document."""

    hardware: dict[str, HardwareEntry] = Field(max_length=MAX_HARDWARE)
    tables: list[TableEntry]


@dataclass(frozen=True)
class _Row:
    """One row of a table file; `place` is the file and its line."""

    place: str
    batch: int
    source: str
    values: dict[str, float | None]


#: Rows read so far, by model and hardware.
_Rows = dict[tuple[str, str], list[_Row]]


def read_profiles(folder: AnyPath) -> tuple[list[Hardware], list[LatencyTable]]:
    """Read a profile folder.

    Raises `InputError` with every fault of every file.
    """
    if not os.fspath(check_path(folder)):
        raise InputError.one("profiles", "the name of a folder is empty")
    root = Path(folder)
    if not is_folder(root):
        what = "is a file; a profile folder was expected" if is_there(root) else "there is no such folder"
        raise InputError.one(os.fspath(folder), what)
    faults = Faults()
    hardware = faults.take(lambda: read_hardware(root / "hardware.yaml")).or_else([])
    read = faults.take(lambda: files_in(root / "models", ".csv"))
    paths = read.or_else([])
    if read and not paths:
        faults.add(Fault(str(root / "models"), "there is no table here; expected at least one *.csv file"))
    known = [device.name for device in hardware]
    rows: _Rows = {}
    for path in paths:
        faults.take(partial(_read_file, path, known, rows))
    for of_table in rows.values():
        faults.add(*_repeated(of_table), *_partly_given(of_table))
    faults.check()
    return hardware, [_table(*names, of_table) for names, of_table in rows.items()]


def read_hardware(path: Path) -> list[Hardware]:
    """Read a file of hardware types.

    Raises `InputError` with every fault.
    """
    document = read_yaml(path)
    entry = parse_entry(document, HardwareFile, before=_name_findings(document.value, ()))
    return _hardware(entry.root)


def parse_document(document: Document) -> tuple[list[Hardware], list[LatencyTable]]:
    """Make hardware types and tables of a document of profiles.

    Raises `InputError` with every fault of the document.
    """
    written = document.value.get("hardware") if isinstance(document.value, dict) else None
    entry = parse_entry(document, ProfilesEntry, before=_name_findings(written, ("hardware",)))
    faults: list[Fault] = []
    tables: list[LatencyTable] = []
    for index, table in enumerate(entry.tables):
        place = document.place(("tables", index))
        if table.hardware not in entry.hardware:
            unknown = _unknown_hardware(table.hardware, tuple(entry.hardware))
            faults.append(Fault(f"{place}.hardware", unknown))
        try:
            tables.append(LatencyTable(**table.model_dump()))
        except InputError as error:
            faults += [Fault(f"{place}: {fault.place}", fault.message) for fault in error.faults]
    if faults:
        raise InputError(faults)
    return _hardware(entry.hardware), tables


def _name_findings(entries: object, path: FieldPath) -> list[Finding]:
    if not isinstance(entries, dict):
        return []
    judged = ((name, name_problem(name)) for name in entries if isinstance(name, str))
    return [((*path, name), problem) for name, problem in judged if problem is not None]


def _hardware(entries: dict[str, HardwareEntry]) -> list[Hardware]:
    return [Hardware(name=name, **entry.model_dump()) for name, entry in entries.items()]


def _unknown_hardware(name: str, known: Sequence[str]) -> str:
    hint = suggestion(name, known) or f"; known are {listed(known)}"
    return f"there is no hardware type {shown(name)}{hint}"


def _read_file(path: Path, known: Sequence[str], rows: _Rows) -> None:
    """Add the rows of one file to those read so far.

    Raises `InputError` with what is wrong in it, of very many faults the first.
    """
    records = _records(decode_text(read_bytes(path), str(path)), str(path))
    if not records:
        raise InputError.one(str(path), "is empty; the first line must name the columns")
    line, header = records[0]
    header = [name.strip() for name in header]
    wrong = [Fault(f"{path}:{line}", problem) for problem in _header_problems(header)]
    if wrong:
        raise InputError(wrong)
    if len(records) == 1:
        raise InputError.one(str(path), "holds no row below its header")
    faults: list[Fault] = []
    for line, cells in records[1:]:
        place = f"{path}:{line}"
        if len(cells) != len(header):
            message = f"expected {len(header)} values as in the header, found {len(cells)}"
            faults.append(Fault(place, message))
        else:
            row = dict(zip(header, (cell.strip() for cell in cells), strict=True))
            faults += _read_row(place, row, known, rows)
        if len(faults) > FAULTS_TOLD:
            break
    if faults:
        raise InputError(first_faults(faults, str(path)))


def _records(text: str, origin: str) -> list[tuple[int, list[str]]]:
    """Return the first line and the cells of each record that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    records: list[tuple[int, list[str]]] = []
    before = 0
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                records.append((before + 1, cells))
            before = reader.line_num
            if len(records) > MAX_ROWS:
                raise InputError.one(f"{origin}:{before}", f"holds more than {MAX_ROWS:,} rows up to here")
    except csv.Error as error:
        raise InputError.one(f"{origin}:{before + 1}", f"is not well-formed CSV: {error}") from None
    return records


def _header_problems(header: Sequence[str]) -> Iterator[str]:
    separator = next((sign for sign in ";\t|" if len(header) == 1 and sign in header[0]), None)
    if separator is not None:
        yield f"the columns are separated by {separator!r}: use commas"
        return
    if not set(header) & set(_COLUMNS):
        yield f"names none of the columns {', '.join(_REQUIRED_COLUMNS)}; the first line must name them"
        return
    for name in dict.fromkeys(header):
        if name not in _COLUMNS:
            hint = suggestion(name, _COLUMNS) or f"; known are {', '.join(_COLUMNS)}"
            yield f"unknown column {shown(name)}{hint}"
        elif header.count(name) > 1:
            yield f"the column {name} is given twice"
    missing = [name for name in _REQUIRED_COLUMNS if name not in header]
    if missing:
        yield f"missing columns: {', '.join(missing)}"


def _read_row(place: str, cells: dict[str, str], known: Sequence[str], rows: _Rows) -> list[Fault]:
    """Check one row, and add it if it can be used; no hardware is known where its file cannot be read."""
    faults: list[Fault] = []
    for name in ("model", "hardware"):
        problem = name_problem(cells[name])
        if problem is not None:
            faults.append(Fault(f"{place}: {name}", problem))
    if known and cells["hardware"].strip() and cells["hardware"] not in known:
        message = f"{_unknown_hardware(cells['hardware'], known)} (in hardware.yaml)"
        faults.append(Fault(f"{place}: hardware", message))
    batch = _number(f"{place}: batch", cells["batch"], batch_problem, faults)
    values: dict[str, float | None] = {}
    for name in ("latency_ms", *OPTIONAL_COLUMNS):
        text = cells.get(name, "")
        blank = text == "" and name in OPTIONAL_COLUMNS
        judge = partial(measurement_problem, name)
        values[name] = None if blank else _number(f"{place}: {name}", text, judge, faults)
    if not faults and batch is not None:
        row = _Row(place, int(batch), cells["source"], values)
        rows.setdefault((cells["model"], cells["hardware"]), []).append(row)
    return faults


def _number(place: str, text: str, judge: Callable[[float], str | None], faults: list[Fault]) -> float | None:
    try:
        if "_" in text:  # Python would read 1_000; spreadsheets do not
            raise ValueError
        value = float(text)
    except ValueError:
        faults.append(Fault(place, f"expected a number, found {shown(text)}"))
        return None
    problem = judge(value)
    if problem is not None:
        faults.append(Fault(place, problem))
    return value


def _table(model: str, hardware: str, rows: Sequence[_Row]) -> LatencyTable:
    rows = sorted(rows, key=lambda row: row.batch)
    given = [name for name, value in rows[0].values.items() if value is not None]
    columns = {name: [row.values[name] for row in rows] for name in given}
    source = tuple(row.source for row in rows)
    batch = [row.batch for row in rows]
    return LatencyTable(model, hardware, batch=batch, source=source, **columns)  # type: ignore[arg-type]


def _repeated(rows: Sequence[_Row]) -> Iterator[Fault]:
    first: dict[int, str] = {}
    for row in rows:
        if row.batch in first:
            message = f"batch {row.batch} is given twice; first at {first[row.batch]}"
            yield Fault(f"{row.place}: batch", message)
        first.setdefault(row.batch, row.place)


def _partly_given(rows: Sequence[_Row]) -> Iterator[Fault]:
    """A column must be filled for all batch sizes of a model on a hardware type, or for none."""
    for name in OPTIONAL_COLUMNS:
        blank = [row.place for row in rows if row.values[name] is None]
        if blank and len(blank) < len(rows):
            yield Fault(
                f"{blank[0]}: {name}",
                f"is blank in {len(blank)} of {len(rows)} rows of this model and hardware: fill all or none",
            )
