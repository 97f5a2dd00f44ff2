"""The form of a pipeline document: its fields, and the rules between them.

This module knows no model: it turns a document into checked raw entries and reports every fault at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from mipplan.core import InputError, name_problem, parse_duration_ns, shown
from mipplan.documents import TAG_MARK, Document, FieldPath, Finding, schema_findings
from mipplan.pipeline.fanout import choice_problem, mean_problem
from mipplan.pipeline.structure import structure_findings

#: Larger batch caps and replica counts are surely mistaken, and would overflow sums.
MAX_COUNT = 1_000_000
#: Larger pipelines are surely mistaken, and would take forever.
MAX_STAGES = 1_000
MAX_EDGES = 10_000


def _name(value: object) -> object:
    problem = name_problem(value)
    if problem is not None:
        raise ValueError(problem)
    return value


def _positive_duration(value: object) -> int:
    ns = parse_duration_ns(value)
    if ns < 1:
        raise ValueError(f"expected a positive duration, found {shown(value)}")
    return ns


def _distinct(values: list[Any]) -> list[Any]:
    repeated = [value for position, value in enumerate(values) if value in values[:position]]
    if repeated:
        raise ValueError(f"{shown(repeated[0])} is given twice")
    return values


def _join(value: object) -> object:
    if value not in ("each", "all"):
        raise ValueError(f"expected each or all, found {shown(value)}")
    return value


def _mean(value: object) -> object:
    problem = mean_problem(value)
    if problem is not None:
        raise ValueError(problem)
    return value


def _kind(value: object) -> str | None:
    """Tell which of the accepted forms a value has, so that faults speak of that form only."""
    if isinstance(value, bool):
        return None
    if isinstance(value, dict | Range):
        return f"{TAG_MARK}mapping"
    if isinstance(value, list):
        return f"{TAG_MARK}list"
    return f"{TAG_MARK}one" if isinstance(value, int | float | str) else None


def _forms(expected: str) -> Discriminator:
    return Discriminator(_kind, custom_error_type="form", custom_error_message=f"expected {expected}")


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


_Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]
_Name = Annotated[str, BeforeValidator(_name)]
_One = Tag(f"{TAG_MARK}one")
_List = Tag(f"{TAG_MARK}list")
_Mapping = Tag(f"{TAG_MARK}mapping")


class Range(_Entry):
    """Smallest and largest accepted value."""

    min: _Count = 1
    max: _Count | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class Choice(_Entry):
    """A fan-out distribution: Poisson, or values with weights."""

    poisson: Annotated[float, BeforeValidator(_mean)] | None = None
    values: list[int] | None = None
    weights: list[float] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Choice:
        if self.poisson is not None:
            problem = "give poisson, or values and weights, not both" if self.values or self.weights else None
        elif self.values is None or self.weights is None:
            problem = "expected {poisson: mean}, or both values and weights"
        else:
            problem = choice_problem(self.values, self.weights)
        if problem is not None:
            raise ValueError(problem)
        return self


class StageEntry(_Entry):
    """One stage as written."""

    model: _Name
    hardware: (
        Annotated[
            Annotated[_Name, _One]
            | Annotated[list[_Name], Field(min_length=1), AfterValidator(_distinct), _List],
            _forms("a hardware type or a list of them"),
        ]
        | None
    ) = None
    batch: (
        Annotated[
            Annotated[_Count, _One]
            | Annotated[list[_Count], Field(min_length=1), AfterValidator(_distinct), _List]
            | Annotated[Range, _Mapping],
            _forms("a batch cap, a list of them, or {min: …, max: …}"),
        ]
        | None
    ) = None
    replicas: (
        Annotated[
            Annotated[_Count, _One] | Annotated[Range, _Mapping],
            _forms("a number of replicas or {min: …, max: …}"),
        ]
        | None
    ) = None
    join: Annotated[Literal["each", "all"], BeforeValidator(_join)] | None = None


class EdgeEntry(_Entry):
    """One edge as written; `delay` in nanoseconds."""

    parent: _Name = Field(alias="from")
    child: _Name = Field(alias="to")
    delay: Annotated[int, BeforeValidator(parse_duration_ns)] = 0
    probability: Annotated[float, Field(gt=0, le=1)] = 1.0
    fanout: Annotated[
        Annotated[float, BeforeValidator(_mean), _One] | Annotated[Choice, _Mapping],
        _forms("a mean number of tokens, {poisson: mean} or {values: […], weights: […]}"),
    ] = 1.0


class PipelineEntry(_Entry):
    """A whole document; `slo` in nanoseconds."""

    name: _Name = "pipeline"
    slo: Annotated[int, BeforeValidator(_positive_duration)] | None = None
    stages: dict[str, StageEntry] = Field(min_length=1, max_length=MAX_STAGES)
    edges: list[EdgeEntry] = Field(default_factory=list, max_length=MAX_EDGES)


def known_keys(path: FieldPath) -> Iterable[str]:
    """Return the keys allowed in the mapping at a field path."""
    if not path:
        return PipelineEntry.model_fields
    if len(path) == 2:
        return (
            ("from", "to", "delay", "probability", "fanout")
            if path[0] == "edges"
            else StageEntry.model_fields
        )
    return Choice.model_fields if path[-1] == "fanout" else Range.model_fields


def parse_pipeline(document: Document) -> PipelineEntry:
    """Check a document and return its entries.

    Raises
    ------
    InputError
        With every fault of the document, in its order.
    """
    findings: list[Finding] = []
    entry: PipelineEntry | None = None
    try:
        entry = PipelineEntry.model_validate(_without_odd_keys(document.value, findings))
    except ValidationError as error:
        findings += schema_findings(error, known_keys)
    if not _is_oversized(document.value):
        findings += structure_findings(document)
    faults = document.faults(findings)
    if faults or entry is None:
        raise InputError(faults)
    return entry


def _is_oversized(value: Any) -> bool:
    """Whether there are more entries than the schema allows; the rules between them would take forever."""
    if not isinstance(value, dict):
        return False
    limits = {"stages": MAX_STAGES, "edges": MAX_EDGES}
    entries = ((value.get(name), limit) for name, limit in limits.items())
    return any(isinstance(given, dict | list) and len(given) > limit for given, limit in entries)


def _without_odd_keys(value: Any, findings: list[Finding], path: FieldPath = ()) -> Any:
    """Report keys that are not text (possible in documents built in Python) and go on without them."""
    if isinstance(value, list):
        return [_without_odd_keys(entry, findings, (*path, index)) for index, entry in enumerate(value)]
    if not isinstance(value, dict):
        return value
    kept: dict[str, Any] = {}
    for key, entry in value.items():
        if isinstance(key, str):
            kept[key] = _without_odd_keys(entry, findings, (*path, key))
        elif path != ("stages",):  # the names of stages have their own rule
            findings.append((path, f"the key {shown(key)} is not text"))
    return kept
