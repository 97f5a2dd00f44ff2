"""The form of a fleet file: its fields, and what each of them may hold. Knows no pipeline and no trace."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from mipplan.core import InputError, name_problem, parse_duration_ns, shown
from mipplan.documents import Document, Finding, schema_findings
from mipplan.profiles import limit_problem

#: Larger fleets and weights are surely mistaken.
MAX_PIPELINES = 100_000
MAX_WEIGHT = 1000.0


def _duration(value: object) -> int:
    return parse_duration_ns(value)


def _positive_duration(value: object) -> int:
    ns = parse_duration_ns(value)
    if ns < 1:
        raise ValueError(f"expected a positive duration, found {shown(value)}")
    return ns


def _limit(value: object) -> object:
    problem = limit_problem(value)
    if problem is not None:
        raise ValueError(problem)
    return value


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class MemberEntry(_Entry):
    """One pipeline of the fleet as written."""

    pipeline: str = Field(min_length=1)
    trace: str = Field(min_length=1)
    slo: Annotated[int, BeforeValidator(_positive_duration)] | None = None
    weight: float = Field(default=1.0, gt=0, le=MAX_WEIGHT)
    scale: float = Field(default=1.0, gt=0, le=1000)
    expand: Literal["poisson", "uniform", "even"] | None = None
    start: Annotated[int, BeforeValidator(_duration)] | None = Field(default=None, alias="from")
    end: Annotated[int, BeforeValidator(_duration)] | None = Field(default=None, alias="to")


class FleetEntry(_Entry):
    """A whole fleet file as written."""

    name: str = "fleet"
    profiles: str | None = None
    quantile: float = Field(default=0.99, gt=0, le=1)
    seed: int = Field(default=0, ge=0)
    budget: float | None = Field(default=None, gt=0, le=1e9)
    limits: dict[str, Annotated[int, BeforeValidator(_limit)]] = Field(default_factory=dict)
    pipelines: dict[str, MemberEntry] = Field(min_length=1, max_length=MAX_PIPELINES)


def parse_fleet(document: Document) -> FleetEntry:
    """Check a document and return its entries.

    Raises
    ------
    InputError
        With every fault of the document, in its order.
    """
    findings: list[Finding] = []
    entry: FleetEntry | None = None
    try:
        entry = FleetEntry.model_validate(document.value)
    except ValidationError as error:
        findings += schema_findings(error, FleetEntry)
    findings += _name_findings(document.value)
    faults = document.faults(findings)
    if faults or entry is None:
        raise InputError(faults)
    return entry


def _name_findings(value: Any) -> list[Finding]:
    """Names become those of files, so they may hold no slash either."""
    pipelines = value.get("pipelines") if isinstance(value, dict) else None
    findings: list[Finding] = []
    for name in pipelines if isinstance(pipelines, dict) else ():
        problem = name_problem(name) or ("the name may hold no slash" if "/" in name else None)
        if problem is not None:
            findings.append((("pipelines", name), problem))
    return findings
