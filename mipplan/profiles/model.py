"""Hardware types with their prices, and the profiles of models on them."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from mipplan.core import (
    MICRODOLLARS_PER_DOLLAR,
    Fault,
    Faults,
    InputError,
    check_one_of,
    dollars_to_microdollars,
    is_finite,
    is_whole,
    listed,
    name_problem,
    plain,
    remake,
    shown,
    suggestion,
    text_problem,
)
from mipplan.documents import AnyPath, Document
from mipplan.profiles.tables import LATENCY_COLUMNS, LatencyTable

if TYPE_CHECKING:
    import pandas as pd

_PartT = TypeVar("_PartT")

#: A device costs at most a million dollars per hour, because a dearer one is surely mistaken and would overflow sums.
MAX_USD_PER_HOUR = 1_000_000.0
#: A device draws at most a megawatt, because more is surely mistaken.
MAX_W = 1_000_000.0


@dataclass(frozen=True)
class Hardware:
    """A hardware type; one replica occupies one device.

    Raises `InputError` with every fault.
    """

    name: str
    usd_per_hour: float  # Price of one device: at least a micro-dollar.
    memory_gib: float | None = None  # Memory of one device, None if it does not matter.
    limit: int | None = None  # Most devices over all stages, None for any number.
    source: str = ""  # Where the figures come from.
    # Watts that one device draws idle, and its thermal design power; None where nothing is known.
    idle_w: float | None = None
    tdp_w: float | None = None
    power_source: str = ""  # Where these come from.

    def __post_init__(self) -> None:
        problems = {
            "name": name_problem(self.name),
            "usd_per_hour": price_problem(self.usd_per_hour),
            "memory_gib": None if self.memory_gib is None else memory_problem(self.memory_gib),
            "limit": None if self.limit is None else limit_problem(self.limit),
            "idle_w": None if self.idle_w is None else power_problem(self.idle_w),
            "tdp_w": None if self.tdp_w is None else power_problem(self.tdp_w),
            "source": text_problem(self.source),
            "power_source": text_problem(self.power_source),
        }
        if not problems["idle_w"] and not problems["tdp_w"]:
            idle = idle_problem(self.idle_w, self.tdp_w)
            problems["idle_w"] = None if idle is None else idle.removeprefix("idle_w ")
        place = f"hardware {shown(self.name)}"
        faults = [Fault(f"{place}: {name}", problem) for name, problem in problems.items() if problem]
        if faults:
            raise InputError(faults)
        # One spelling of every number, so that equal hardware is written to equal files.
        object.__setattr__(self, "usd_per_hour", float(self.usd_per_hour))
        for name in ("memory_gib", "idle_w", "tdp_w"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, float(getattr(self, name)))
        if self.limit is not None:
            object.__setattr__(self, "limit", int(self.limit))

    @cached_property
    def microusd_per_hour(self) -> int:
        """Price of one device in whole micro-dollars per hour, the planner's currency."""
        return dollars_to_microdollars(self.usd_per_hour)

    def to_document(self) -> dict[str, Any]:
        """Write it as in ``hardware.yaml``, without the name."""
        limits = {"memory_gib": self.memory_gib, "limit": self.limit}
        given = {name: value for name, value in limits.items() if value is not None}
        power = {"idle_w": self.idle_w, "tdp_w": self.tdp_w, "power_source": self.power_source or None}
        told = {name: value for name, value in power.items() if value is not None}
        return {"usd_per_hour": self.usd_per_hour, **given, "source": self.source, **told}


@dataclass(frozen=True)
class Profiles:
    """Hardware types and the latency tables of models on them.

    Attributes
    ----------
    hardware : mapping of str to Hardware
        In the order of ``hardware.yaml``.
    tables : mapping of (model, hardware) to LatencyTable

    Raises
    ------
    InputError
        If a key does not match its entry, or a table is for hardware that is not there.
    """

    hardware: Mapping[str, Hardware]
    tables: Mapping[tuple[str, str], LatencyTable]

    def __post_init__(self) -> None:
        wrong = [
            f"the key {name!r} holds the hardware type {entry.name!r}"
            for name, entry in self.hardware.items()
            if name != entry.name
        ]
        for key, table in self.tables.items():
            if key != (table.model, table.hardware):
                wrong.append(f"the key {key!r} holds {table.model} on {table.hardware}")
            if table.hardware not in self.hardware:
                wrong.append(f"{table.model} is profiled on unknown {table.hardware!r}")
        if wrong:
            raise InputError(Fault("profiles", problem) for problem in wrong)
        object.__setattr__(self, "hardware", MappingProxyType(dict(self.hardware)))
        object.__setattr__(self, "tables", MappingProxyType(dict(self.tables)))

    @classmethod
    def from_parts(cls, hardware: Iterable[Hardware], tables: Iterable[LatencyTable]) -> Profiles:
        """Make profiles from hardware types and tables; their names become the keys.

        Raises
        ------
        InputError
            If two hardware types have one name, or two tables one model and hardware; or something is neither.
        """
        faults = Faults()
        taken = faults.take(lambda: _all_of("hardware", hardware, Hardware))
        measured = faults.take(lambda: _all_of("tables", tables, LatencyTable)).or_else([])
        faults.check()
        devices = taken.value
        names = Counter(device.name for device in devices)
        keys = Counter((table.model, table.hardware) for table in measured)
        wrong = [f"the hardware type {name!r} is given twice" for name, times in names.items() if times > 1]
        wrong += [
            f"{model} on {name} is profiled twice" for (model, name), times in keys.items() if times > 1
        ]
        if wrong:
            raise InputError(Fault("profiles", problem) for problem in wrong)
        return cls(dict(zip(names, devices, strict=True)), dict(zip(keys, measured, strict=True)))

    @property
    def models(self) -> tuple[str, ...]:
        """Profiled models, in the order of their tables."""
        return tuple(dict.fromkeys(model for model, _ in self.tables))

    def table(self, model: str, hardware: str) -> LatencyTable | None:
        """Return the profile of a model on a hardware type, None if there is none."""
        return self.tables.get((model, hardware))

    def hardware_for(self, model: str) -> tuple[str, ...]:
        """Hardware types on which a model is profiled, in the order of ``hardware.yaml``."""
        return tuple(name for name in self.hardware if (model, name) in self.tables)

    @property
    def remarks(self) -> tuple[str, ...]:
        """The warnings of `mipplan.profiles.examine`: what a user should know although it is no fault."""
        from mipplan.profiles.lint import Severity, examine

        return tuple(str(finding) for finding in examine(self) if finding.severity is Severity.WARNING)

    def restricted_to(
        self, models: Iterable[str] | None = None, hardware: Iterable[str] | None = None
    ) -> Profiles:
        """Keep only the given models and hardware types; None keeps all, unknown names keep nothing."""
        kept = self.hardware if hardware is None else set(hardware)
        wanted = self.models if models is None else set(models)
        return Profiles(
            {name: device for name, device in self.hardware.items() if name in kept},
            {key: table for key, table in self.tables.items() if key[0] in wanted and key[1] in kept},
        )

    def without_power(self) -> Profiles:
        """Leave out what devices draw: for problems that do not ask for it."""
        devices = {name: copy.copy(device) for name, device in self.hardware.items()}
        for device in devices.values():  # What is left of them is checked already.
            for name, nothing in (("idle_w", None), ("tdp_w", None), ("power_source", "")):
                object.__setattr__(device, name, nothing)
        return Profiles(devices, self.tables)

    def with_hardware(self, hardware: Hardware, tables: Iterable[LatencyTable] = ()) -> Profiles:
        """Add a hardware type, or replace the one of that name (keeping its tables), and add tables."""
        added = {(table.model, table.hardware): table for table in tables}
        return Profiles({**self.hardware, hardware.name: hardware}, {**self.tables, **added})

    def without_hardware(self, name: str) -> Profiles:
        """Remove a hardware type and its tables; removing one that is not there changes nothing."""
        return self.restricted_to(hardware=[other for other in self.hardware if other != name])

    @property
    def latency_text(self) -> str | None:
        """By which column batches are planned and replayed, where it is not ``latency_ms`` throughout."""
        models: dict[str, list[str]] = {}
        for table in self.tables.values():
            models.setdefault(LATENCY_COLUMNS[table.latency], []).append(table.model)
        if set(models) <= {"latency_ms"}:
            return None
        parts = (f"{column} of {listed(dict.fromkeys(names))}" for column, names in models.items())
        return next(iter(models)) if len(models) == 1 else "; ".join(parts)

    def using(
        self,
        latency: str | Mapping[str, str],
        models: Iterable[str] | None = None,
        needed: Iterable[tuple[str, str]] = (),
    ) -> Profiles:
        """Choose the column of the tables that certificates and replays take for the latency of a batch.

        Parameters
        ----------
        latency : {"p99", "p50", "table"}, or mapping of str to such
            ``latency_p99_ms``, ``latency_p50_ms``, or ``latency_ms``, which holds what its source says; for all models,
            or by model, ``""`` being the others. A table without the column is left out: nothing stands in for what was
            not measured.
        models : iterable of str, optional
            Those that are to be planned with; all by default. Tables of others stay as they are.
        needed : iterable of (model, hardware)
            Tables that must not be left out.

        Raises
        ------
        InputError
            Listing what is no column or no model, and models that would be left without any table.
        """
        columns = dict(latency) if isinstance(latency, Mapping) else {"": latency}
        needed, wanted = set(needed), set(self.models if models is None else models)
        faults = Faults()
        for name, column in columns.items():
            faults.take(lambda column=column: check_one_of("latency", column, LATENCY_COLUMNS))  # type: ignore[misc]
            if name and name not in wanted:
                faults.add(Fault("latency", f"there is no model {shown(name)}{suggestion(name, wanted)}"))
        faults.check()
        kept = dict(self.tables)
        for key, table in self.tables.items():
            chosen = columns.get(key[0], columns.get("", table.latency))
            if key[0] in wanted and getattr(table, LATENCY_COLUMNS[chosen]) is None:
                del kept[key]
                if key in needed or key[0] not in {model for model, _ in kept}:
                    where = f"on {key[1]}" if key in needed else "on any hardware"
                    faults.add(Fault("latency", f"{key[0]} has no column {LATENCY_COLUMNS[chosen]} {where}"))
            elif key[0] in wanted:
                kept[key] = replace(table, latency=chosen)
        faults.check()
        return Profiles(self.hardware, kept)

    @classmethod
    def read(cls, folder: AnyPath) -> Profiles:
        """Read a folder of ``hardware.yaml`` and ``models/*.csv``.

        Raises
        ------
        InputError
            With every fault of every file, each with its line and field.
        """
        from mipplan.profiles.folder import read_profiles

        return cls.from_parts(*read_profiles(folder))

    @classmethod
    def default(cls) -> Profiles:
        """Read the profiles that come with mipplan."""
        from mipplan.documents import shipped_folder

        return cls.read(shipped_folder())

    def to_document(self) -> dict[str, Any]:
        """Write everything as one JSON-able mapping; `from_document` is its inverse."""
        return {
            "hardware": {name: device.to_document() for name, device in self.hardware.items()},
            "tables": [table.to_document() for table in self.tables.values()],
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any] | Document, origin: str = "profiles") -> Profiles:
        """Make profiles from what `to_document` wrote.

        Raises
        ------
        InputError
            With every fault.
        """
        from mipplan.profiles.folder import parse_document

        if not isinstance(document, Document):
            document = Document(plain(document), origin)
        return cls.from_parts(*parse_document(document))

    @classmethod
    def from_pandas(cls, hardware: pd.DataFrame, tables: pd.DataFrame) -> Profiles:
        """Make profiles from two tables, with the columns of the files of a profile folder.

        Parameters
        ----------
        hardware : DataFrame
            A row per hardware type, its name in the index: ``usd_per_hour``, and perhaps ``memory_gib``, ``limit``,
            ``source``, ``idle_w``, ``tdp_w``, ``power_source``.
        tables : DataFrame
            A row per measurement: ``model``, ``hardware``, ``batch``, ``latency_ms``, and perhaps others.

        Raises
        ------
        InputError
            With every fault.
        """
        from mipplan.profiles.frames import document_of_frames

        return cls.from_document(document_of_frames(hardware, tables))

    def to_pandas(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return what `from_pandas` takes: hardware types, and measurements."""
        from mipplan.profiles.frames import frames_of_document

        return frames_of_document(self.to_document())

    def __hash__(self) -> int:
        return hash((tuple(self.hardware.values()), frozenset(self.tables.values())))

    def __reduce__(self) -> tuple[Any, ...]:
        return remake(self)

    def __repr__(self) -> str:
        return (
            f"<Profiles: {len(self.models)} models, {len(self.hardware)} hardware types, "
            f"{len(self.tables)} tables>"
        )


def _all_of(place: str, given: object, kind: type[_PartT]) -> list[_PartT]:
    """Return what is given one after the other; raises `InputError` unless each is of that kind."""
    parts = list(given) if isinstance(given, Iterable) else [given]
    odd = parts if not isinstance(given, Iterable) else [part for part in parts if not isinstance(part, kind)]
    if odd:
        raise InputError.one(place, f"expected {kind.__name__} objects, found {shown(odd[0])}")
    return [part for part in parts if isinstance(part, kind)]


def idle_problem(idle_w: float | None, tdp_w: float | None) -> str | None:
    """Say what is wrong with what a device draws idle beside what it may draw, or None."""
    if idle_w is None or tdp_w is None or idle_w <= tdp_w:
        return None
    return f"idle_w {idle_w:g} is above tdp_w {tdp_w:g}"


def price_problem(value: object) -> str | None:
    """Say what is wrong with a price in dollars per hour, or None."""
    if not is_finite(value):
        return f"expected a price in dollars per hour, found {shown(value)}"
    if not 1 / MICRODOLLARS_PER_DOLLAR <= float(value) <= MAX_USD_PER_HOUR:
        return f"expected a price from 0.000001 to {MAX_USD_PER_HOUR:.0f}, found {shown(value)}"
    return None


def memory_problem(value: object) -> str | None:
    """Say what is wrong with a memory size in GiB, or None."""
    usable = is_finite(value) and float(value) > 0
    return None if usable else f"expected a positive number of GiB, found {shown(value)}"


def power_problem(value: object) -> str | None:
    """Say what is wrong with a power in watts, or None."""
    usable = is_finite(value) and 0 <= float(value) <= MAX_W
    return None if usable else f"expected watts from 0 to {MAX_W:,.0f}, found {shown(value)}"


def limit_problem(value: object) -> str | None:
    """Say what is wrong with a limit on devices, or None."""
    usable = is_whole(value) and 0 <= value <= 1_000_000_000
    return (
        None
        if usable
        else f"expected a whole number of devices from 0 to 1,000,000,000, found {shown(value)}"
    )
