"""Problems of all types as plain documents (dictionaries, lists, numbers, strings) for JSON files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import numpy as np

from mipplan_formulations.projects import ColumnPool, Columns, MultiProjectProblem
from mipplan_formulations.scaling import Demand, Group, ScalingActivity, ScalingProblem
from mipplan_formulations.time_cost import Activity, Arc, Cover, Path, Resource, TimeCostProblem

Part = TypeVar("Part", Activity, Arc, Demand, Group, Path, Resource, ScalingActivity)
Problem = TimeCostProblem | ScalingProblem | MultiProjectProblem | ColumnPool

_COUNTS = ("need", "least", "most", "present")
_FIELDS: dict[type, tuple[str, ...]] = {
    TimeCostProblem: ("deadline", "resources", "activities", "arcs", "paths", "covers"),
    ScalingProblem: ("groups", "resources", "activities", "arcs", *_COUNTS, "demands"),
    MultiProjectProblem: ("resources", "forgone", "projects"),
    ColumnPool: ("resources", "forgone", "excess", "projects"),
}


def to_document(problem: Problem) -> dict[str, Any]:
    """Return a problem as a document; activities, groups and projects are named by their indices."""
    document = _plain(problem)
    if isinstance(problem, ColumnPool):
        document["columns"] = document.pop("projects")
    assert isinstance(document, dict)
    return document


def from_document(document: Mapping[str, Any]) -> Any:
    """Rebuild a problem, of whichever type, from what `to_document` returned.

    Raises
    ------
    ValueError
        If the problem is not valid, naming every fault of the first part that is wrong.
    KeyError
        If a field is missing.
    """
    if "projects" in document:
        projects = tuple(_read_time_cost(project) for project in document["projects"])
        return MultiProjectProblem(
            projects, _parts(Resource, document["resources"]), _costs(document["forgone"])
        )
    if "columns" in document:
        return _read_pool(document)
    return _read_scaling(document) if "groups" in document else _read_time_cost(document)


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


def _parts(kind: type[Part], documents: Iterable[Mapping[str, Any]]) -> tuple[Part, ...]:
    names = [field.name for field in fields(kind)]
    return tuple(kind(**{name: document[name] for name in names}) for document in documents)


def _read_time_cost(document: Mapping[str, Any]) -> TimeCostProblem:
    return TimeCostProblem(
        activities=_parts(Activity, document["activities"]),
        arcs=_parts(Arc, document["arcs"]),
        paths=_parts(Path, document["paths"]),
        deadline=document["deadline"],
        resources=_parts(Resource, document["resources"]),
        covers=tuple(
            Cover(tuple((member["activity"], np.array(member["marked"], dtype=bool)) for member in members))
            for members in document["covers"]
        ),
    )


def _read_scaling(document: Mapping[str, Any]) -> ScalingProblem:
    return ScalingProblem(
        activities=_parts(ScalingActivity, document["activities"]),
        groups=_parts(Group, document["groups"]),
        resources=_parts(Resource, document["resources"]),
        arcs=_parts(Arc, document["arcs"]),
        demands=tuple(d and _parts(Demand, [d])[0] for d in document["demands"]),
        **{name: document[name] for name in _COUNTS},
    )


def _read_pool(document: Mapping[str, Any]) -> ColumnPool:
    resources = _parts(Resource, document["resources"])
    columns = tuple(
        Columns(np.array(c["cost"], np.int64), np.array(c["usage"], np.int64).reshape(-1, len(resources)))
        for c in document["columns"]
    )
    return ColumnPool(columns, resources, _costs(document["forgone"]), _costs(document["excess"]))


def _costs(costs: list[int] | None) -> tuple[int, ...] | None:
    return None if costs is None else tuple(costs)
