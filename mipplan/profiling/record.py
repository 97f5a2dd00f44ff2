"""What is kept of a measurement: a record beside the table, from which it goes on, and the profile folder itself.

Every file is written whole or not at all, after each batch size; a measurement that is killed loses the batch size that
was under way and nothing else. Of two measurements at once each keeps the batch sizes of the other.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from mipplan.core import NS_PER_MS, Fault, Faults, InputError, listed, shown
from mipplan.documents import (
    Document,
    StrictEntry,
    decode_text,
    files_in,
    folder_locked,
    folder_problem,
    is_folder,
    is_there,
    output_problem,
    parse_entry,
    parse_yaml,
    read_bytes,
    write_text_atomically,
)
from mipplan.profiles import Hardware, LatencyTable, Profiles, read_hardware
from mipplan.profiling.machine import MachineRecord
from mipplan.profiling.measuring import BatchMeasurement, Ending
from mipplan.profiling.result import LATENCIES, is_as_written
from mipplan.profiling.statistics import QuantileRange

#: A record holds at most some forty thousand latencies for each batch size.
_MOST_BYTES = 256 * 1024**2
_FORMAT = 1
#: Every table has these columns; the source comes last, because it is long.
_FIRST, _LAST = ("model", "hardware", "batch", "latency_ms"), "source"
#: What may have no meter here: then it is somebody else's.
_METERED = ("memory_gib", "energy_j", "power_w")


class RangeEntry(StrictEntry):
    """A quantile and its interval as written."""

    value_ns: int = Field(gt=0)
    low_ns: int | None
    high_ns: int | None


class BatchEntry(StrictEntry):
    """What was measured of one batch size, as written."""

    batch: int = Field(gt=0)
    ending: str
    latency_ns: list[int] = Field(min_length=1)
    p50: RangeEntry
    p99: RangeEntry
    confidence: float
    warm_up: int
    settled: bool
    disturbed: int
    disturbances: dict[str, int]
    kept: bool
    spent_s: float
    cpu_ms: float | None
    memory_gib: float | None
    energy_j: float | None
    visits: list[int] = Field(default_factory=list)  # Older records do not say.
    looks: int = 1
    day: str
    chosen: str = ""

    @model_validator(mode="after")
    def _has_visits_of_all_runs(self) -> BatchEntry:
        if self.visits and (min(self.visits) < 1 or sum(self.visits) != len(self.latency_ns)):
            raise ValueError("visits do not add up to the latencies")
        return self


class MachineEntry(StrictEntry):
    """The machine as written."""

    processor: str
    processors: int
    memory_gib: float | None
    system: str
    power: str | None
    load: float | None
    versions: dict[str, str]


class RecordEntry(StrictEntry):
    """The content of a record."""

    format: int
    model: str
    hardware: str
    subject: dict[str, Any]
    together: int
    machine: MachineEntry
    batches: list[BatchEntry]


@dataclass(frozen=True)
class MeasurementRecord:
    """What has been measured so far, and of what."""

    model: str
    hardware: str
    subject: dict[str, Any]  # What was measured and how it was loaded: what must be the same to go on.
    together: int
    machine: MachineRecord
    batches: dict[int, BatchMeasurement] = field(default_factory=dict)
    days: dict[int, str] = field(default_factory=dict)
    chosen: dict[int, str] = field(default_factory=dict)  # Why each size was measured.

    def check_continues(self, other: MeasurementRecord, place: str) -> None:
        """Refuse to go on with measurements of something else.

        Raises `InputError` with every difference.
        """
        faults = []
        for name in ("model", "hardware", "together"):
            before, now = getattr(self, name), getattr(other, name)
            if before != now:
                faults.append(f"{name} was {shown(before)}, now {shown(now)}")
        for name in self.subject.keys() | other.subject.keys():
            before, now = self.subject.get(name), other.subject.get(name)
            if before != now:
                faults.append(f"{name} was {shown(before)}, now {shown(now)}")
        if not self.machine.is_same_as(other.machine):
            faults.append("it was another machine, or other versions of the software")
        end = "; measure all anew (--again), or into another folder or under another name"
        InputError.raise_if(Fault(place, f"was measured otherwise: {what}{end}") for what in sorted(faults))

    def joined(self, other: MeasurementRecord, own: Collection[int]) -> MeasurementRecord:
        """Return these measurements of one's own sizes, and those that the other record has of others."""
        parts = {
            name: getattr(other, name)
            | {size: one for size, one in getattr(self, name).items() if size in own}
            for name in ("batches", "days", "chosen")
        }
        return replace(self, **parts | {"batches": dict(sorted(parts["batches"].items()))})


@dataclass(frozen=True)
class ProfileFolder:
    """A profile folder that is measured into, and where in it one model on one hardware type stands."""

    root: Path
    model: str
    hardware: str

    @property
    def table_path(self) -> Path:
        """The table that has rows of this model on this hardware, whoever named its file; else one of its name.

        Models whose names are alike but for unusual signs share one.
        """
        return next(iter(self._holding()), self.root / "models" / f"{_file_name(self.model)}.csv")

    def _holding(self) -> list[Path]:
        """Return all tables with rows of this model on this hardware."""
        return [
            path
            for path in files_in(self.root / "models", ".csv")
            if any(
                (row.get("model"), row.get("hardware")) == (self.model, self.hardware) for row in _rows(path)
            )
        ]

    @property
    def record_path(self) -> Path:
        """The record beside it; readers of profile folders look at tables only."""
        return self.root / "models" / f"{_file_name(self.model)}.{_file_name(self.hardware)}.json"

    def prepare(self, usd_per_hour: float | None, *, replaces: bool) -> None:
        """Look through the folder before anything is loaded; it need not be there, and is not made.

        Raises `InputError` if it cannot be written to, holds something that is no profile, the price is missing, or
        what is to be replaced is the record of another model.
        """
        for folder in (self.root, self.root / "models"):
            if (problem := folder_problem(folder)) is not None:
                raise InputError.one("out", f"{folder}: {problem}")
        faults = Faults()
        for path in (self.table_path, self.record_path, self.root / "hardware.yaml"):
            if is_folder(path.parent) and (problem := output_problem(path)) is not None:
                faults.add(Fault("out", f"{path}: {problem}"))
        faults.check()
        self._hardware_text(usd_per_hour)
        if files_in(self.root / "models", ".csv"):
            Profiles.read(self.root)
        holding = self._holding()
        if len(holding) > 1:
            stated = f"stand in {listed(map(str, holding))}: bring them together in one"
            raise InputError.one("out", f"rows of {self.model} on {self.hardware} {stated}")
        if replaces:
            self._check_name()

    def add_hardware(self, usd_per_hour: float | None) -> None:
        """Make the folder, and write the hardware into ``hardware.yaml``, if it is not there.

        Raises `InputError` if that cannot be.
        """
        try:
            (self.root / "models").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError.one("out", f"{self.root}: {error.strerror or error}") from None
        with folder_locked(self.root):
            if (text := self._hardware_text(usd_per_hour)) is not None:
                write_text_atomically(self.root / "hardware.yaml", text)

    def _hardware_text(self, usd_per_hour: float | None) -> str | None:
        """What ``hardware.yaml`` is to say; None if it says it. Raises `InputError` if that cannot be told."""
        path = self.root / "hardware.yaml"
        known = {device.name: device for device in read_hardware(path)} if is_there(path) else {}
        device = known.get(self.hardware)
        if device is not None:
            if usd_per_hour is not None and usd_per_hour != device.usd_per_hour:
                message = f"{path} says {device.usd_per_hour:g} for {self.hardware}: change it there"
                raise InputError.one("usd_per_hour", message)
            return None
        if usd_per_hour is None:
            message = f"{self.hardware} is not in {path}: say what one device costs in $/h"
            raise InputError.one("usd_per_hour", message)
        device = Hardware(self.hardware, usd_per_hour, source="price given when it was measured")
        text = decode_text(read_bytes(path), str(path)) if path.exists() else ""
        text += "" if not text or text.endswith("\n") else "\n"
        text += f"{json.dumps(device.name)}:\n"
        text += "".join(f"  {key}: {json.dumps(value)}\n" for key, value in device.to_document().items())
        try:
            added = parse_yaml(text, str(path)).value
        except InputError:
            added = {}
        if self.hardware not in added:
            message = f"has a form that nothing can be added to: write {self.hardware} into it"
            raise InputError.one(str(path), message)
        return text

    def read_record(self) -> MeasurementRecord | None:
        """Return what was measured before; None if nothing was.

        Raises `InputError` if the record is damaged.
        """
        path = self.record_path
        if not path.exists():
            return None
        again = "remove it, or measure all anew (--again)"
        try:
            value = json.loads(decode_text(read_bytes(path, limit=_MOST_BYTES), str(path)))
        except (ValueError, RecursionError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError.one(str(path), f"is no record of a measurement ({error}): {again}") from None
        if isinstance(value, dict) and value.get("format") not in (None, _FORMAT):
            raise InputError.one(str(path), f"is a record of another version of mipplan: {again}")
        return _record(parse_entry(Document(value, str(path)), RecordEntry))

    def joined(self, record: MeasurementRecord, own: Collection[int]) -> MeasurementRecord:
        """Bring a record up to what another run of this measurement may have written, except for one's own sizes.

        Raises `InputError` if what is there was measured otherwise, or is damaged.
        """
        there = self.read_record()
        if there is None:
            return record
        there.check_continues(record, str(self.record_path))
        return record.joined(there, own)

    def _check_name(self) -> None:
        """Refuse to replace the record of another model, whose file has the same name; a damaged one is nobody's.

        Raises `InputError`.
        """
        try:
            before = self.read_record()
        except InputError:
            return
        if before is not None and (before.model, before.hardware) != (self.model, self.hardware):
            message = f"is the record of {before.model} on {before.hardware}: choose another"
            raise InputError.one("name", f"{self.record_path} {message}")

    def check_table(self, measured: Mapping[int, BatchMeasurement]) -> None:
        """Refuse to replace rows that are not of these measurements: what was imported or written by hand stays.

        Raises `InputError`.
        """
        path = self.table_path
        ours = [
            (line, row, measured.get(round(float(row["batch"]))))
            for line, row in enumerate(_rows(path), start=2)
            if (row["model"], row["hardware"]) == (self.model, self.hardware)
        ]
        lines = [line for line, row, found in ours if not _is_of(row, found)]
        if lines:
            message = (
                f"has {self.model} on {self.hardware} already (row {listed(map(str, lines))}), without a record of its "
                "measurement: replace it by --again, or measure under another name"
            )
            raise InputError.one(str(path), message)
        own = {
            name for name in _METERED for _, row, one in ours if row.get(name) and vars(one).get(name) is None
        }
        if own:
            message = f"has {listed(sorted(own))} of {self.model} on {self.hardware}, which is not of its measurement "
            message += "and would be lost: keep it elsewhere until all sizes are there, or say --again"
            raise InputError.one(str(path), message)

    def write(self, record: MeasurementRecord, table: LatencyTable) -> None:
        """Write the record, then the table; rows about other models and hardware stay as they are, and the accuracy."""
        document = {
            "format": _FORMAT,
            "model": record.model,
            "hardware": record.hardware,
            "subject": record.subject,
            "together": record.together,
            "machine": asdict(record.machine),
            "batches": [
                found.to_document() | {"day": record.days[batch], "chosen": record.chosen.get(batch, "")}
                for batch, found in record.batches.items()
            ],
        }
        write_text_atomically(self.record_path, json.dumps(document) + "\n")
        path, ours = self.table_path, table.to_document()
        columns = {name: values for name, values in ours.items() if isinstance(values, list)}
        rows: list[dict[str, str]] = []
        accuracy: dict[float, str] = {}
        for row in _rows(path):
            if (row["model"], row["hardware"]) != (self.model, self.hardware):
                rows.append(row)
            elif row.get("accuracy"):
                accuracy[float(row["batch"])] = row["accuracy"]
        if accuracy:  # Nothing here measures it, so it is the user's; larger batches have it, too.
            known = [[size for size in accuracy if size <= batch] for batch in table.batch.tolist()]
            columns["accuracy"] = [accuracy[max(sizes, default=min(accuracy))] for sizes in known]
        for place in range(table.batch.size):
            cells = {name: str(values[place]) for name, values in columns.items()}
            rows.append({"model": self.model, "hardware": self.hardware, **cells})
        names = dict.fromkeys([*_FIRST, *(name for row in rows for name in row if name != _LAST), _LAST])
        stream = io.StringIO(newline="")
        writer = csv.DictWriter(stream, list(names), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text_atomically(path, stream.getvalue())


def _rows(path: Path) -> list[dict[str, str]]:
    """Rows of a table as it is; that they can be used is found out when the folder is prepared."""
    if not path.exists():
        return []
    text = decode_text(read_bytes(path), str(path))
    cells = [row for row in csv.reader(io.StringIO(text, newline="")) if any(cell.strip() for cell in row)]
    header = [name.strip() for name in cells[0]] if cells else []
    return [dict(zip(header, map(str.strip, row), strict=False)) for row in cells[1:]]


def _is_of(row: Mapping[str, str], found: BatchMeasurement | None) -> bool:
    """Whether a row holds what was measured, by whichever statistic; its last visit, only the record may know."""
    if found is None:
        return False
    held = [found.latency_ms(name) for name in LATENCIES]
    for runs in np.cumsum(found.visits[:-1], dtype=np.int64):
        part = found.latency_ns[:runs] / NS_PER_MS
        held += map(float, [*np.quantile(part, (0.5, 0.99), method="higher"), part.mean(), part.max()])
    return any(is_as_written(float(row["latency_ms"]), one) for one in held)


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name).strip(".") or "model"


def _record(entry: RecordEntry) -> MeasurementRecord:
    batches: dict[int, BatchMeasurement] = {}
    for one in entry.batches:
        given = one.model_dump(exclude={"day", "chosen"})
        ranges: dict[str, Any] = {name: QuantileRange(**given[name]) for name in ("p50", "p99")}
        ending = Ending(given["ending"]) if given["ending"] in list(Ending) else Ending.TIME
        arrays = {"latency_ns": np.array(one.latency_ns, dtype=np.int64), "visits": tuple(one.visits)}
        batches[one.batch] = BatchMeasurement(**{**given, **ranges, **arrays, "ending": ending})
    return MeasurementRecord(
        entry.model,
        entry.hardware,
        entry.subject,
        entry.together,
        MachineRecord(**entry.machine.model_dump()),
        dict(sorted(batches.items())),
        {one.batch: one.day for one in entry.batches},
        {one.batch: one.chosen for one in entry.batches},
    )
