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
        return MultiProjectProblem(projects, _read_resources(document), _read_costs(document["forgone"]))
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


def _read_resources(document: Mapping[str, Any]) -> tuple[Resource, ...]:
    return tuple(Resource(r["name"], r["capacity"]) for r in document["resources"])


def _read_arcs(document: Mapping[str, Any]) -> tuple[Arc, ...]:
    return tuple(Arc(arc["tail"], arc["head"], arc["lag"]) for arc in document["arcs"])


def _read_time_cost(document: Mapping[str, Any]) -> TimeCostProblem:
    return TimeCostProblem(
        activities=tuple(
            Activity(a["name"], np.array(a["cost"]), np.array(a["duration"]), np.array(a["usage"], np.int64))
            for a in document["activities"]
        ),
        arcs=_read_arcs(document),
        paths=tuple(
            Path(tuple(p["activities"]), p["lag"], tuple(np.array(w) for w in p["waits"]))
            for p in document["paths"]
        ),
        deadline=document["deadline"],
        resources=_read_resources(document),
        covers=tuple(
            Cover(tuple((member["activity"], np.array(member["marked"], dtype=bool)) for member in members))
            for members in document["covers"]
        ),
    )


def _read_scaling(document: Mapping[str, Any]) -> ScalingProblem:
    return ScalingProblem(
        activities=tuple(
            ScalingActivity(**{**activity, "usage": np.array(activity["usage"], dtype=np.int64)})
            for activity in document["activities"]
        ),
        groups=tuple(Group(group["name"], group["penalty"]) for group in document["groups"]),
        resources=_read_resources(document),
        arcs=_read_arcs(document),
        demands=tuple(
            None if d is None else Demand(np.array(d["offset"]), np.array(d["load"]), d["own_load"])
            for d in document["demands"]
        ),
        **{name: np.array(document[name], dtype=np.int64) for name in _COUNTS},
    )


def _read_pool(document: Mapping[str, Any]) -> ColumnPool:
    resources = _read_resources(document)
    columns = tuple(
        Columns(
            np.array(entry["cost"], dtype=np.int64),
            np.array(entry["usage"], dtype=np.int64).reshape(-1, len(resources)),
        )
        for entry in document["columns"]
    )
    return ColumnPool(columns, resources, _read_costs(document["forgone"]), _read_costs(document["excess"]))


def _read_costs(costs: list[int] | None) -> tuple[int, ...] | None:
    return None if costs is None else tuple(costs)
