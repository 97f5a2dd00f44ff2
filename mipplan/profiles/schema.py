"""The form of ``hardware.yaml`` and of profiles inside a plan file; knows no model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from mipplan.core import InputError, name_problem
from mipplan.documents import Document, FieldPath, Finding, schema_findings
from mipplan.profiles.hardware import limit_problem, memory_problem, price_problem


def _must(problem: Callable[[object], str | None]) -> BeforeValidator:
    def check(value: object) -> object:
        found = problem(value)
        if found is not None:
            raise ValueError(found)
        return value

    return BeforeValidator(check)


#: More hardware types are surely mistaken.
MAX_HARDWARE = 1_000


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class HardwareEntry(_Entry):
    """One hardware type as written."""

    usd_per_hour: Annotated[float, _must(price_problem)]
    memory_gib: Annotated[float, _must(memory_problem)] | None = None
    limit: Annotated[int, _must(limit_problem)] | None = None
    source: str = ""


class TableEntry(_Entry):
    """One latency table as a plan file holds it; its values are checked by `LatencyTable`."""

    model: str
    hardware: str
    batch: list[int] = Field(min_length=1)
    latency_ms: list[float] = Field(min_length=1)
    latency_p99_ms: list[float] | None = None
    accuracy: list[float] | None = None
    energy_j: list[float] | None = None
    memory_gib: list[float] | None = None
    source: list[str] = Field(default_factory=list)


class ProfilesEntry(_Entry):
    """All hardware types and tables in one document."""

    hardware: dict[str, HardwareEntry] = Field(max_length=MAX_HARDWARE)
    tables: list[TableEntry]


def parse_hardware(document: Document) -> dict[str, HardwareEntry]:
    """Check the content of ``hardware.yaml``.

    Raises
    ------
    InputError
        With every fault of the document.
    """
    adapter = TypeAdapter(Annotated[dict[str, HardwareEntry], Field(min_length=1, max_length=MAX_HARDWARE)])
    found = _name_findings(document.value, ())
    entries: dict[str, HardwareEntry] = _parsed(
        document, adapter.validate_python, found, lambda _: HardwareEntry.model_fields
    )
    return entries


def parse_profiles(document: Document) -> ProfilesEntry:
    """Check the form of a document of profiles.

    Raises
    ------
    InputError
        With every fault of the document.
    """
    hardware = document.value.get("hardware") if isinstance(document.value, dict) else None
    found = _name_findings(hardware, ("hardware",))
    entry: ProfilesEntry = _parsed(document, ProfilesEntry.model_validate, found, _known_keys)
    return entry


def _parsed(
    document: Document,
    validate: Callable[[Any], Any],
    findings: list[Finding],
    known_keys: Callable[[FieldPath], Iterable[str]],
) -> Any:
    entry = None
    try:
        entry = validate(document.value)
    except ValidationError as error:
        findings = [*findings, *schema_findings(error, known_keys)]
    faults = document.faults(findings)
    if faults:
        raise InputError(faults)
    return entry


def _known_keys(path: FieldPath) -> Iterable[str]:
    if not path:
        return ProfilesEntry.model_fields
    return HardwareEntry.model_fields if path[0] == "hardware" else TableEntry.model_fields


def _name_findings(entries: object, path: FieldPath) -> list[Finding]:
    if not isinstance(entries, dict):
        return []
    judged = ((name, name_problem(name)) for name in entries if isinstance(name, str))
    return [((*path, name), problem) for name, problem in judged if problem is not None]
