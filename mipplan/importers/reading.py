"""Files of other tools: read whole, with their hash and the line of every figure; what is no number is a fault."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mipplan.core import Fault, InputError, is_number, listed, shown, suggestion
from mipplan.documents import AnyPath, decode_text, first_faults, read_bytes
from mipplan.importers.rows import ImportedRow, Stated
from mipplan.profiles import batch_problem, measurement_problem

#: Larger files are refused: profiles of ONNX Runtime hold a line per operator and run, but hardly more than this.
MAX_BYTES = 256 * 1024 * 1024
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class MeasurementFile:
    """The text of one file of another tool."""

    path: str  # As it was named.
    text: str
    sha256: str  # Of the bytes on disk.

    @classmethod
    def read(cls, path: AnyPath) -> MeasurementFile:
        """Read a file, gzip accepted.

        Raises `InputError` if it cannot be read, is empty, too large, cut off or no text.
        """
        data = read_bytes(path, limit=MAX_BYTES)
        origin = str(path)
        text = decode_text(_unpacked(data, origin), origin)
        if not text.strip():
            raise InputError.one(origin, "is empty")
        if "\0" in text:
            raise InputError.one(origin, "holds zero bytes: no text, or UTF-16; save the file as UTF-8")
        return cls(origin, text, hashlib.sha256(data).hexdigest())

    @property
    def name(self) -> str:
        """Its name without the folder: what rows say about where they are from."""
        return Path(self.path).name.encode(errors="replace").decode()

    @property
    def is_json(self) -> bool:
        """Whether it begins as JSON does; logs begin with a date in brackets."""
        start = self.text.lstrip()
        return start.startswith("{") or (start.startswith("[") and start[1:].lstrip()[:1] in ("{", "]", ""))

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The cells of its first line, if it may be a table."""
        first = next(line for line in self.text.splitlines() if line.strip())
        if self.is_json or "," not in first:
            return ()
        try:
            return tuple(cell.strip() for cell in next(csv.reader([first]), ()))
        except csv.Error:  # a line longer than any header
            return ()

    @cached_property
    def json(self) -> Any:
        """The document it holds.

        Raises `InputError` with the line of what is no JSON.
        """

        def refuse(word: str) -> float:
            raise InputError.one(self.path, f"holds {word}, which is neither JSON nor a measurement")

        try:
            return json.loads(self.text, parse_constant=refuse)
        except json.JSONDecodeError as error:
            ends = self.text[error.pos :].strip() == ""
            what = "ends in the middle of its JSON: half a file" if ends else f"is not JSON: {error.msg}"
            raise InputError.one(f"{self.path}:{error.lineno}", what) from None
        except (RecursionError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError.one(self.path, "is JSON nested too deeply, or with too long numbers") from None

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The keys of its JSON, or of the first entry of its list."""
        if not self.is_json:
            return ()
        found = self.json[0] if isinstance(self.json, list) and self.json else self.json
        return tuple(found) if isinstance(found, dict) else ()


def _unpacked(data: bytes, origin: str) -> bytes:
    if not data.startswith(_GZIP):
        return data
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:  # several pieces may follow each other
            text = packed.read(MAX_BYTES + 1)
    except EOFError:
        raise InputError.one(origin, "ends in the middle of its gzip data: half a file") from None
    except (OSError, zlib.error) as error:
        raise InputError.one(origin, f"is not well-formed gzip: {error}") from None
    if len(text) > MAX_BYTES:
        what = f"unpacks to more than {MAX_BYTES // 1024**2} MiB, the most that is read"
        raise InputError.one(origin, what)
    return text


@dataclass(frozen=True)
class Record:
    """One row of a table."""

    place: str
    cells: Mapping[str, str]

    def text(self, *names: str) -> str:
        """The first of these cells that is there and not blank, else empty."""
        return next((self.cells[name] for name in names if self.cells.get(name)), "")


class Reading:
    """What is read from one file: rows, what was refused with the reason, and faults.

    A value that is no number is a fault and comes back as NaN; a row with one in it is not kept, so readers need not
    look at each value.
    """

    def __init__(self, file: MeasurementFile, stated: Stated) -> None:
        self.file, self.stated = file, stated
        self.tool = ""  # Which version wrote the file, if it says so.
        self.rows: list[ImportedRow] = []
        self.refused: list[Fault] = []
        self.faults: list[Fault] = []
        self.notes: list[str] = []  # What is to be known of figures that were taken, with the place.
        self._cells: dict[str, Mapping[str, str]] = {}  # Of rows of a table, by place.

    def table(self) -> Iterator[Record]:
        """Go through the rows of the file that `--where` leaves; wrong numbers of cells are faults."""
        records = _records(self.file)
        header = [cell.strip() for cell in next(records)[1]]
        repeated = sorted({name for name in header if name and header.count(name) > 1})
        if repeated:
            raise InputError.one(f"{self.file.path}:1", f"names columns twice: {listed(repeated)}")
        for name in self.stated.where:
            if name not in header:
                hint = suggestion(name, header) or f"; there are {listed(filter(None, header))}"
                raise InputError.one("where", f"{self.file.path} has no column {shown(name)}{hint}")
        several = False
        cut = 0 if self.file.text.endswith(("\n", "\r")) else self.file.text.count("\n") + 1
        for line, cells in records:
            several = True
            place = f"{self.file.path}:{line}"
            # perf_analyzer ends the lines of its verbose tables with a comma, its header not.
            while len(cells) > len(header) and not cells[-1].strip():
                cells.pop()
            if len(cells) != len(header):
                what = f"expected {len(header)} values as in the header, found {len(cells)}"
                self.faults.append(Fault(place, what))
                continue
            found = dict(zip(header, (cell.strip() for cell in cells), strict=True))
            if all(found[name] == value for name, value in self.stated.where.items()):
                self._cells[place] = found
                if line == cut and (last := cells[-1].strip()) and is_figure(last):
                    what = f"ends without a line break: if the file was cut, {last} may be half a figure"
                    self.notes.append(f"{place}: {what}")
                yield Record(place, found)
        if not several:
            raise InputError.one(self.file.path, "holds no row below its header")

    def number(self, place: str, field: str, value: object, *, zero: bool = False) -> float:
        """Read a finite number above 0, or at least 0."""
        try:
            readable = is_number(value) or (isinstance(value, str) and "_" not in value)
            found = float(value) if readable else math.nan  # type: ignore[arg-type]
        except (ValueError, OverflowError):
            found = math.nan
        if value is None or value == "":
            problem = "is blank; expected a number"
        elif math.isnan(found):
            problem = f"expected a number, found {shown(value)}"
        elif not math.isfinite(found) or found < 0 or (found == 0 and not zero):
            problem = f"expected a finite number {'≥' if zero else 'above'} 0, found {found:g}"
        else:
            return found
        self.faults.append(Fault(f"{place}: {field}", problem))
        return math.nan

    def whole(self, place: str, field: str, value: object) -> int:
        """Read a whole number of at least 1; 0 comes back for what is none, and no row is kept with it."""
        found = self.number(place, field, value)
        if math.isnan(found):
            return 0
        if found != int(found):
            self.faults.append(Fault(f"{place}: {field}", f"expected a whole number, found {found:g}"))
            return 0
        return int(found)

    def refuse(self, place: str, reason: str) -> None:
        """Leave out a figure that is sound but not the latency of one batch."""
        self.refused.append(Fault(place, reason))

    def keep(
        self,
        place: str,
        batch: int,
        latency_ms: float,
        statistic: str,
        what: str,
        *,
        model: str = "",
        hardware: str = "",
        latency_p99_ms: float | None = None,
    ) -> None:
        """Keep a row, unless a value of it was at fault."""
        if batch < 1 or math.isnan(latency_ms) or math.isnan(latency_p99_ms or 0.0):
            return
        problems = [batch_problem(batch), measurement_problem("latency_ms", latency_ms)]
        if self.stated.batch not in (None, batch):
            problems.append(f"the file says batch {batch}, --batch {self.stated.batch}")
        faults = [Fault(place, problem) for problem in problems if problem is not None]
        self.faults += faults
        if not faults:
            row = ImportedRow(place, model, hardware, batch, latency_ms, latency_p99_ms, statistic, what)
            self.rows.append(row)

    def differing(self, place: str, other: str) -> list[str]:
        """Columns of words, not figures, that tell two rows of a table apart."""
        one, two = (self._cells.get(where, {}) for where in (place, other))
        return [name for name in one if one[name] != two.get(name) and not is_figure(one[name])]

    def check(self) -> None:
        """Raise `InputError` with what is wrong in the file, of very many faults the first."""
        InputError.raise_if(first_faults(self.faults, self.file.path))


def _records(file: MeasurementFile) -> Iterator[tuple[int, list[str]]]:
    """First line and cells of each record that is not blank."""
    reader = csv.reader(io.StringIO(file.text, newline=""), strict=True)
    before = 0
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield before + 1, cells
            before = reader.line_num
    except csv.Error as error:
        raise InputError.one(f"{file.path}:{before + 1}", f"is not well-formed CSV: {error}") from None


def is_figure(text: str) -> bool:
    """Whether a cell is blank or holds a number."""
    return re.fullmatch(r"[-+0-9.eE]*", text) is not None


def fields_at(document: object, key: str) -> list[object]:
    """Return what stands under a key, anywhere in a JSON document."""
    found: list[object] = []
    waiting = [document]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            found += [value for name, value in part.items() if name == key]
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
    return found


def mean_and_p99(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean, and the 99th percentile by nearest rank if there are enough values for one."""
    ordered = sorted(values)
    high = ordered[math.ceil(0.99 * len(ordered)) - 1] if len(ordered) >= 100 else None
    return math.fsum(ordered) / len(ordered), high
