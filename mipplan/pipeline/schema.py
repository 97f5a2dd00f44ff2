"""The form of a pipeline document: its fields, and the rules between them.

This module knows no model: it turns a document into checked raw entries and reports every fault at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from mipplan.core import (
    InputError,
    QuantileLimit,
    Slo,
    duration_text,
    find_cycle,
    is_number,
    listed,
    name_problem,
    shown,
    suggestion,
)
from mipplan.documents import (
    TAG_MARK,
    Document,
    Duration,
    FieldPath,
    Finding,
    Name,
    StrictEntry,
    checked_by,
    parse_entry,
    positive_duration,
)
from mipplan.pipeline.accuracy import AccuracyRule, accuracy_problem, read_rule
from mipplan.pipeline.fanout import choice_problem, mean_problem
from mipplan.pipeline.laws import STAGGER, WINDOW, Discipline, DispatchLaw
from mipplan.pipeline.variants import ByVariant, edge_findings, mark_variants, rule_findings

#: Batch caps and replica counts are at most a million, because larger ones are surely mistaken and would overflow sums.
MAX_COUNT = 1_000_000
#: Pipelines have at most 1,000 stages and 10,000 edges, because larger ones are surely mistaken and would take forever.
MAX_STAGES = 1_000
MAX_EDGES = 10_000
#: A stage has at most 1,000 variants, because more are surely mistaken.
MAX_VARIANTS = 1_000


def _distinct(values: list[Any]) -> list[Any]:
    repeated = [value for position, value in enumerate(values) if value in values[:position]]
    if repeated:
        raise ValueError(f"{shown(repeated[0])} is given twice")
    return values


def _join_problem(value: object) -> str | None:
    return None if value in ("each", "all") else f"expected each or all, found {shown(value)}"


def _law_problem(value: object) -> str | None:
    return None if value in list(DispatchLaw) else f"expected eager, paced or timed, found {shown(value)}"


def _discipline_problem(value: object) -> str | None:
    return None if value in list(Discipline) else f"expected oldest_first or fifo, found {shown(value)}"


def _at_most(most_ns: int) -> AfterValidator:
    def check(ns: int) -> int:
        if ns > most_ns:
            raise ValueError(f"expected at most {duration_text(most_ns)}, found {duration_text(ns)}")
        return ns

    return AfterValidator(check)


def _kind(value: object) -> str | None:
    """Tell which of the accepted forms a value has, so that faults speak of that form only."""
    if isinstance(value, bool):
        return None
    if isinstance(value, ByVariant):
        return f"{TAG_MARK}variants"
    if isinstance(value, dict | Range):
        return f"{TAG_MARK}mapping"
    if isinstance(value, list):
        return f"{TAG_MARK}list"
    return f"{TAG_MARK}one" if isinstance(value, int | float | str) else None


def _forms(expected: str) -> Discriminator:
    return Discriminator(_kind, custom_error_type="form", custom_error_message=f"expected {expected}")


_Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]
_Mean = Annotated[float, checked_by(mean_problem)]
_Law = Annotated[Literal["eager", "paced", "timed"], checked_by(_law_problem)]
_Discipline = Annotated[Literal["oldest_first", "fifo"], checked_by(_discipline_problem)]
_Stagger = Annotated[Duration, _at_most(STAGGER.most_ns)]
_Window = Annotated[Duration, _at_most(WINDOW.most_ns)]
_One = Tag(f"{TAG_MARK}one")
_List = Tag(f"{TAG_MARK}list")
_Mapping = Tag(f"{TAG_MARK}mapping")
_ByVariant = Tag(f"{TAG_MARK}variants")
_Share = Annotated[float, Field(gt=0, le=1)]


class Range(StrictEntry):
    """Smallest and largest accepted value."""

    min: _Count = 1
    max: _Count | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class Distribution(StrictEntry):
    """A fan-out distribution: Poisson, or values with weights."""

    poisson: _Mean | None = None
    values: list[int] | None = None
    weights: list[float] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Distribution:
        if self.poisson is not None:
            problem = "give poisson, or values and weights, not both" if self.values or self.weights else None
        elif self.values is None or self.weights is None:
            problem = "expected {poisson: mean}, or both values and weights"
        else:
            problem = choice_problem(self.values, self.weights)
        if problem is not None:
            raise ValueError(problem)
        return self


_FAN_FORMS = _forms("a mean number of tokens, {poisson: mean} or {values: […], weights: […]}")
_Fan = Annotated[Annotated[_Mean, _One] | Annotated[Distribution, _Mapping], _FAN_FORMS]


class StageEntry(StrictEntry):
    """One stage as written; of several variants without a `model` the first is the one that is run."""

    model: Name
    variants: (
        Annotated[
            Annotated[
                list[Name], Field(min_length=1, max_length=MAX_VARIANTS), AfterValidator(_distinct), _List
            ]
            | Annotated[
                dict[Name, Annotated[float, checked_by(accuracy_problem)]],
                Field(min_length=1, max_length=MAX_VARIANTS),
                _Mapping,
            ],
            _forms("a list of models, or models to accuracies"),
        ]
        | None
    ) = None
    hardware: (
        Annotated[
            Annotated[Name, _One]
            | Annotated[list[Name], Field(min_length=1), AfterValidator(_distinct), _List],
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
    join: Annotated[Literal["each", "all"], checked_by(_join_problem)] | None = None
    dispatch: _Law | None = None
    stagger: _Stagger | None = None
    window: _Window | None = None

    @model_validator(mode="before")
    @classmethod
    def _runs_the_first(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "variants" not in value or "model" in value:
            return value
        given = value["variants"]
        first = next(iter(given), None) if isinstance(given, list | dict) else None
        return {**value, "model": first if isinstance(first, str) else "variants"}

    @model_validator(mode="after")
    def _runs_a_variant(self) -> StageEntry:
        if self.variants is not None and self.model not in self.variants:
            raise ValueError(f"the model {shown(self.model)} is none of the variants {listed(self.variants)}")
        return self


class EdgeEntry(StrictEntry):
    """One edge as written; `delay` in nanoseconds."""

    parent: Name = Field(alias="from")
    child: Name = Field(alias="to")
    delay: Duration = 0
    probability: Annotated[
        Annotated[_Share, _One] | Annotated[dict[str, _Share], _ByVariant],
        _forms("a number above 0, at most 1"),
    ] = 1.0
    fanout: Annotated[
        Annotated[_Mean, _One] | Annotated[Distribution, _Mapping] | Annotated[dict[str, _Fan], _ByVariant],
        _FAN_FORMS,
    ] = 1.0


def read_slo(value: object) -> tuple[int, Slo]:
    """Read an objective as in the file: a duration, or quantiles with their limits and a window.

    Raises `ValueError` with every fault.
    """
    if not isinstance(value, dict):
        return positive_duration(value), Slo()
    problems: list[str] = []
    limits: dict[float, int] = {}
    written: dict[float, str] = {}
    read: dict[str, Any] = {}
    for key, given in value.items():
        number = _QUANTILE_KEY.fullmatch(str(key))
        quantile = None if number is None else _percent(number[1])
        try:
            if key == "per":
                read["per_ns"] = positive_duration(given)
            elif key == "share":
                if not is_number(given) or not 0 < given <= 1:
                    raise ValueError(f"expected a number in (0, 1] such as 0.99, found {shown(given)}")
                read["share"] = float(given)
            elif quantile is None or not 0 < quantile <= 1:
                raise ValueError("expected p50, p99, p99.9 or such, per or share")
            elif quantile in written:  # p99 and p99.0: only one of them would be kept
                raise ValueError(f"is the same quantile as {written[quantile]}")
            else:
                written[quantile] = key
                limits[quantile] = positive_duration(given)
        except ValueError as error:
            problems.append(
                f"{key if key in ('per', 'share') or quantile is not None else shown(key)}: {error}"
            )
    if not limits and not problems:
        problems.append("expected a quantile with its limit, such as p99: 300ms")
    if "share" in read and "per" not in value:
        problems.append("share: is of windows: say how long they are by per: 5min")
    if problems:
        raise ValueError("; ".join(problems))
    (*others, (quantile, limit_ns)) = sorted(limits.items())
    return limit_ns, Slo(quantile, others=tuple(QuantileLimit(*other) for other in others), **read)


#: As people write quantiles: p50, p99.9.
_QUANTILE_KEY = re.compile(r"p([0-9]+(?:\.[0-9]+)?)", re.ASCII)


def _percent(text: str) -> float:
    return float(Decimal(text) / 100)


class PipelineEntry(StrictEntry):
    """A whole document; times in nanoseconds.

    `dispatch` is for the stages that name no law of their own, `stagger` and `window` for the eager ones that name none
    of theirs; the `discipline` is that of all queues.
    """

    name: Name = "pipeline"
    slo: Annotated[tuple[int, Slo], BeforeValidator(read_slo)] | None = None
    dispatch: _Law = "eager"
    discipline: _Discipline = "oldest_first"
    stagger: _Stagger = 0
    window: _Window = 0
    accuracy: Annotated[AccuracyRule, BeforeValidator(read_rule)] = AccuracyRule()
    stages: dict[str, StageEntry] = Field(min_length=1, max_length=MAX_STAGES)
    edges: list[EdgeEntry] = Field(default_factory=list, max_length=MAX_EDGES)


def parse_pipeline(document: Document) -> PipelineEntry:
    """Check a document and return its entries.

    Raises `InputError` with every fault of the document, in its order.
    """
    if isinstance(document.value, dict) and {"choices", "pipeline"} <= document.value.keys():
        message = "is a plan, not a pipeline: the one that it was made for stands in it, as `pipeline`"
        raise InputError.one(document.origin, message)
    odd_keys: list[Finding] = []
    cleaned = replace(document, value=mark_variants(_without_odd_keys(document.value, odd_keys)))
    return parse_entry(cleaned, PipelineEntry, before=odd_keys, after=_structure_findings(document))


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


def _structure_findings(document: Document) -> list[Finding]:
    """Return what is wrong between the entries of a document, whatever else is wrong in them."""
    value = document.value if isinstance(document.value, Mapping) else {}
    stages, edges = value.get("stages"), value.get("edges")
    if not isinstance(stages, Mapping):
        return []
    # More than the schema allows would take forever.
    if any(
        isinstance(given, dict | list) and len(given) > limit
        for given, limit in ((stages, MAX_STAGES), (edges, MAX_EDGES))
    ):
        return []
    findings: list[Finding] = [*rule_findings(value.get("accuracy"), stages)]
    findings += [
        (("stages", name if isinstance(name, str) else repr(name)), problem)
        for name in stages
        if (problem := name_problem(name)) is not None
    ]
    if not isinstance(edges, Sequence) or isinstance(edges, str):
        return findings
    arcs: dict[tuple[str, str], int] = {}
    for index, edge in enumerate(edges):
        found = _edge_findings(document, stages, index, edge, arcs)
        findings += found or edge_findings(stages, index, edge)
        if not found and isinstance(edge, Mapping) and {"from", "to"} <= edge.keys():
            arcs[edge["from"], edge["to"]] = index
    cycle = find_cycle(arcs)
    if cycle:
        last = arcs[cycle[-1], cycle[0]]
        route = " → ".join([*cycle, cycle[0]])
        findings.append((("edges", last), f"this edge closes a cycle: {route}"))
    return findings


def _edge_findings(
    document: Document,
    stages: Mapping[Any, Any],
    index: int,
    edge: object,
    arcs: Mapping[tuple[str, str], int],
) -> list[Finding]:
    if not isinstance(edge, Mapping):
        return []  # the schema says so
    findings: list[Finding] = []
    for end in ("from", "to"):
        name = edge.get(end)
        if isinstance(name, str) and name not in stages:
            known = [stage for stage in stages if isinstance(stage, str)]
            message = f"there is no stage {shown(name)}{suggestion(name, known)}"
            findings.append((("edges", index, end), message))
        elif end in edge and not isinstance(name, str):
            return [*findings, (("edges", index, end), f"expected the name of a stage, found {shown(name)}")]
    if findings:
        return findings
    arc = (edge.get("from", ""), edge.get("to", ""))
    if arc[0] and arc[0] == arc[1]:
        findings.append((("edges", index), f"the edge leads from {shown(arc[0])} to itself"))
    elif arc in arcs:
        first = document.line(("edges", arcs[arc]))
        where = f"edges[{arcs[arc]}]" if first is None else f"line {first}"
        findings.append((("edges", index), f"the edge {arc[0]} → {arc[1]} is given twice; first at {where}"))
    return findings
