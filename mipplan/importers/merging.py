"""Imported rows in a profile folder: everything is checked, then each file is written whole; nothing there is lost."""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mipplan.core import Fault, Faults, InputError, listed
from mipplan.documents import (
    AnyPath,
    decode_text,
    files_in,
    is_folder,
    is_there,
    read_bytes,
    read_yaml,
    write_text_atomically,
)
from mipplan.importers.rows import ImportedFile, ImportedRow
from mipplan.profiles import OPTIONAL_COLUMNS, LatencyTable

_COLUMNS = ("model", "hardware", "batch", "latency_ms", "source")
_MEASURED = ("latency_ms", *OPTIONAL_COLUMNS)
#: What does not change with latency.
_OF_THE_MODEL = ("memory_gib", "accuracy")
#: What a file's name is made of.
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")

#: A row of a table file, by column.
_Row = dict[str, str]


@dataclass(frozen=True)
class FolderMerge:
    """What became of rows that were merged into a profile folder.

    Attributes
    ----------
    added, replaced, unchanged : int
        Rows that were new, were written over others, or stood there already.
    written : tuple of str
        Files, in the order of their names.
    notes : tuple of str
        What is to be known, or done next.
    """

    added: int
    replaced: int
    unchanged: int
    written: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass
class _TableFile:
    """One file of ``models/``, as it is and as it will be."""

    path: Path
    columns: list[str] = field(default_factory=lambda: list(_COLUMNS))
    rows: list[tuple[int, _Row]] = field(default_factory=list)  # With the line; 0 for new ones.
    is_changed: bool = False

    @classmethod
    def read(cls, path: Path) -> _TableFile:
        text = decode_text(read_bytes(path), str(path))
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        try:
            records = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
        except csv.Error as error:
            raise InputError.one(f"{path}:{reader.line_num}", f"is not well-formed CSV: {error}") from None
        if not records:
            return cls(path)
        header = [cell.strip() for cell in records[0][1]]
        missing = [name for name in _COLUMNS if name not in header]
        if missing:
            raise InputError.one(f"{path}:{records[0][0]}", f"missing columns: {listed(missing)}")
        wrong = [
            Fault(f"{path}:{line}", f"expected {len(header)} values as in the header, found {len(cells)}")
            for line, cells in records[1:]
            if len(cells) != len(header)
        ]
        InputError.raise_if(wrong)
        rows = [
            (line, dict(zip(header, (cell.strip() for cell in cells), strict=True)))
            for line, cells in records[1:]
        ]
        return cls(path, header, rows)

    def text(self) -> str:
        given = [name for name in OPTIONAL_COLUMNS if any(row.get(name) for _, row in self.rows)]
        for name in given:
            if name not in self.columns:
                self.columns.insert(self.columns.index("source"), name)
        made = io.StringIO()
        writer = csv.DictWriter(made, self.columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for _, row in self.rows)
        return made.getvalue()


def merge_rows(
    folder: AnyPath, files: Sequence[ImportedFile], *, replace_existing: bool = False
) -> FolderMerge:
    """Merge imported rows into a profile folder, which is made if it is not there.

    A batch size that stands there with the same figures stays as it is. Every check comes before the first file is
    written, and each file is written whole or not at all.

    Parameters
    ----------
    folder : path
        Profile folder; ``hardware.yaml`` is not touched.
    files : sequence of ImportedFile
        What `read_measurements` gave.
    replace_existing : bool
        Whether a row takes the place of another one for the same model, hardware and batch size.

    Returns
    -------
    FolderMerge

    Raises
    ------
    InputError
        If a batch size stands there with other figures, or is given twice; if a column such as ``latency_p99_ms``
        would be filled for part of a table; or if what is in the folder cannot be read.
    """
    root = Path(folder)
    if is_there(root) and not is_folder(root):
        raise InputError.one(str(root), "is a file; name a profile folder")
    faults = Faults()
    paths = files_in(root / "models", ".csv")
    existing = [faults.take(partial(_TableFile.read, path)) for path in paths]
    priced = faults.take(lambda: _hardware_in(root / "hardware.yaml"))
    faults.check()
    merging = _Merging([taken.value for taken in existing], root / "models", replace_existing)
    by_table: dict[tuple[str, str], list[tuple[ImportedFile, ImportedRow]]] = defaultdict(list)
    for file in files:
        for row in file.rows:
            by_table[row.model, row.hardware].append((file, row))
    for (model, hardware), rows in by_table.items():
        faults.take(partial(merging.add, model, hardware, rows))
    faults.check()
    notes = merging.notes
    unpriced = sorted({hardware for _, hardware in by_table} - priced.value)
    if unpriced:
        what = f"{root / 'hardware.yaml'} has no price of {listed(unpriced)}"
        notes.append(
            f"{what}: nothing is planned with this folder before it has; see `mipplan profiles prices`"
        )
    changed = [file for file in merging.files if file.is_changed]
    if changed:
        make_folder(root / "models")
    for table in changed:
        write_text_atomically(table.path, table.text())
    written = tuple(str(table.path) for table in changed)
    return FolderMerge(merging.added, merging.replaced, merging.unchanged, written, tuple(notes))


def make_folder(folder: Path) -> None:
    """Make a folder to write to; `InputError` if that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError.one(str(folder), f"cannot be made: {error.strerror or error}") from None


def _hardware_in(path: Path) -> set[str]:
    if not is_there(path):
        return set()
    value = read_yaml(path).value
    return set(value) if isinstance(value, dict) else set()


class _Merging:
    """Tables of a folder, while rows are added to them."""

    def __init__(self, files: list[_TableFile], folder: Path, replace_existing: bool) -> None:
        self.files, self._folder, self._replaces = files, folder, replace_existing
        self.added = self.replaced = self.unchanged = 0
        self.notes: list[str] = []

    def add(
        self, model: str, hardware: str, rows: Sequence[tuple[ImportedFile, ImportedRow]]
    ) -> LatencyTable | None:
        """Add the rows of one table, all or none; the table as it will be, or None if nothing changes."""
        standing = {
            _size(row["batch"]): (file, line, row)
            for file in self.files
            for line, row in file.rows
            if (row["model"], row["hardware"]) == (model, hardware)
        }
        faults: list[Fault] = []
        first: dict[int, ImportedRow] = {}
        new: list[tuple[ImportedFile, ImportedRow]] = []
        for imported, row in rows:
            there = standing.get(str(row.batch))
            before = first.setdefault(row.batch, row)
            if before is not row:
                what = f"batch {row.batch} of {model} on {hardware} is given twice; first at {before.place}"
                faults.append(Fault(row.place, what))
            elif there is None:
                new.append((imported, row))
            elif _is_same(there[2], row):
                self.unchanged += 1
            elif self._replaces:
                new.append((imported, row))
            else:
                place = f"{there[0].path}:{there[1]}"
                what = f"batch {row.batch} of {model} on {hardware} is {row.latency_ms!r} ms here, "
                what += f"{there[2]['latency_ms']} in {place}: --replace takes this one"
                faults.append(Fault(row.place, what))
        InputError.raise_if(faults)
        if not new:
            return None
        replaced = {str(row.batch) for _, row in new} & set(standing)
        kept = [row for batch, (_, _, row) in standing.items() if batch not in replaced]
        made = self._rows_of(new, kept, {batch: standing[batch][2] for batch in replaced})
        table = _checked(model, hardware, [*kept, *made])
        target = next(iter(standing.values()))[0] if standing else self._file_of(model)
        for batch in replaced:
            file, line, _ = standing[batch]
            file.rows = [entry for entry in file.rows if entry[0] != line or line == 0]
            file.is_changed = True
        target.rows += [(0, row) for row in made]
        target.is_changed = True
        self.added += len(new) - len(replaced)
        self.replaced += len(replaced)
        return table

    def _rows_of(
        self, new: Sequence[tuple[ImportedFile, ImportedRow]], kept: Sequence[_Row], gone: Mapping[str, _Row]
    ) -> list[_Row]:
        """Write rows as a table file holds them; P99 stands in all rows of a table, or in none.

        Of rows that are `gone`, by batch, those that come in their place have what latency has no part in.
        """
        has_p99 = all(row.latency_p99_ms is not None for _, row in new)
        has_p99 = has_p99 and all(row.get("latency_p99_ms") for row in kept)
        model, hardware = new[0][1].model, new[0][1].hardware
        if not has_p99 and any(row.latency_p99_ms is not None for _, row in new):
            what = f"{model} on {hardware}: latency_p99_ms is left out, since not all batch sizes have one"
            self.notes.append(what)
        carried = [
            name
            for name in _OF_THE_MODEL
            if all(gone.get(str(row.batch), {}).get(name) for _, row in new)
            and all(row.get(name) for row in kept)
        ]
        filled = {*carried, "latency_p99_ms"} if has_p99 else {*carried}
        lost = [
            name for name in OPTIONAL_COLUMNS if name not in filled and any(row.get(name) for row in kept)
        ]
        dropped = [
            name
            for name in OPTIONAL_COLUMNS
            if name not in {*filled, *lost} and any(row.get(name) for row in gone.values())
        ]
        if dropped:
            self.notes.append(f"{model} on {hardware}: {listed(dropped)} of what is replaced is left out")
        if lost:
            what = (
                f"the table of {model} on {hardware} has {listed(lost)} for all its rows, and these have none"
            )
            raise InputError.one(
                new[0][1].place, f"{what}: a column is filled for all of a table or for none of it"
            )
        made = []
        for file, row in sorted(new, key=lambda pair: pair[1].batch):
            figures = {"batch": str(row.batch), "latency_ms": repr(row.latency_ms)}
            if has_p99:
                figures["latency_p99_ms"] = repr(row.latency_p99_ms)
            figures |= {name: gone[str(row.batch)][name] for name in carried}
            made.append({"model": model, "hardware": hardware, **figures, "source": file.source_of(row)})
        return made

    def _file_of(self, model: str) -> _TableFile:
        """Return the file of a model's name, of a new one if there is none."""
        name = f"{_NOT_IN_NAMES.sub('-', model).strip('-.') or 'model'}.csv"
        path = self._folder / name
        file = next((file for file in self.files if file.path.name.lower() == name.lower()), None)
        if file is None:
            file = _TableFile(path)
            self.files.append(file)
        return file


def _size(text: str) -> str:
    """Write a batch size in one way: 4.0 is 4."""
    try:
        return f"{float(text):.0f}"
    except ValueError:
        return text


def _is_same(there: _Row, row: ImportedRow) -> bool:
    p99 = there.get("latency_p99_ms", "")
    try:
        return float(there["latency_ms"]) == row.latency_ms and (
            not p99 or row.latency_p99_ms is None or float(p99) == row.latency_p99_ms
        )
    except ValueError:
        return False


def _checked(model: str, hardware: str, rows: Iterable[_Row]) -> LatencyTable:
    """Make the table as it will be read, so that no folder is left that cannot be."""
    try:
        ordered = sorted(rows, key=lambda row: float(row["batch"]))
        given = [name for name in _MEASURED if ordered[0].get(name)]
        columns = {name: [float(row[name]) for row in ordered] for name in given}
        batch = [float(row["batch"]) for row in ordered]
    except ValueError:
        what = f"the rows of {model} on {hardware} in the folder hold what is no number: mend them first"
        raise InputError.one("models", what) from None
    return LatencyTable(model, hardware, batch=batch, source=(), **columns)  # type: ignore[arg-type]
