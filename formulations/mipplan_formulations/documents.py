"""Problems of all types as plain documents (dictionaries, lists, numbers, strings) for JSON files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from mipplan_formulations.projects import ColumnPool, Columns, MultiProjectProblem
from mipplan_formulations.scaling import Demand, Group, ScalingActivity, ScalingProblem
from mipplan_formulations.time_cost import Activity, Arc, Cover, Path, Resource, TimeCostProblem

Problem = TimeCostProblem | ScalingProblem | MultiProjectProblem | ColumnPool

_FIELDS: dict[type, dict[str, type | None]] = {
    TimeCostProblem: {
        "deadline": None,
        "resources": Resource,
        "activities": Activity,
        "arcs": Arc,
        "paths": Path,
        "covers": Cover,
    },
    ScalingProblem: {
        "groups": Group,
        "resources": Resource,
        "activities": ScalingActivity,
        "arcs": Arc,
        **dict.fromkeys(("need", "least", "most", "present")),
        "demands": Demand,
    },
    MultiProjectProblem: {"resources": Resource, "forgone": None, "projects": TimeCostProblem},
    ColumnPool: {"resources": Resource, "forgone": None, "excess": None, "projects": Columns},
}
"""Fields of a problem in the order of its document, and of what they are lists."""


def to_document(problem: Problem) -> dict[str, Any]:
    """Return a problem as a document; activities, groups and projects are named by their indices."""
    document: dict[str, Any] = _plain(problem)
    if isinstance(problem, ColumnPool):
        document["columns"] = document.pop("projects")
    return document


def from_document(document: Mapping[str, Any]) -> Any:
    """Rebuild a problem, of whichever type, from what `to_document` returned.

    Raises `ValueError` if the problem is not valid, naming every fault of the first part that is wrong, and `KeyError`
    if a field is missing.
    """
    if "projects" in document:
        return _read(MultiProjectProblem, document)
    if "columns" in document:
        width = len(document["resources"])  # an empty list of uses does not tell it
        usages = [np.array(c["usage"], np.int64).reshape(len(c["usage"]), width) for c in document["columns"]]
        columns = [{**c, "usage": usage} for c, usage in zip(document["columns"], usages, strict=True)]
        return _read(ColumnPool, {**document, "projects": columns})
    return _read(ScalingProblem if "groups" in document else TimeCostProblem, document)


def _plain(value: Any) -> Any:
    """Arrays and tuples as lists, parts of a problem as dictionaries of their fields."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if isinstance(value, Cover):
        return [{"activity": v, "marked": marked.tolist()} for v, marked in value.members]
    if is_dataclass(value):
        names = _FIELDS.get(type(value)) or [field.name for field in fields(value)]
        return {name: _plain(getattr(value, name)) for name in names}
    return value


def _read(kind: Any, document: Any) -> Any:
    """Rebuild a problem or a part of one; None stays None."""
    if kind is Cover:
        return Cover(
            tuple((member["activity"], np.array(member["marked"], dtype=bool)) for member in document)
        )
    if document is None:
        return None
    kinds = _FIELDS.get(kind, {})
    values = {field.name: document[field.name] for field in fields(kind)}
    for name, value in values.items():
        if isinstance(value, list):
            of = kinds.get(name)
            values[name] = tuple(value if of is None else (_read(of, part) for part in value))
    return kind(**values)
