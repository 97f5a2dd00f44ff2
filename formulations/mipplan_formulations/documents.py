"""Problems as plain documents (dictionaries, lists, numbers, strings) for JSON files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mipplan_formulations.problem import Activity, Arc, Cover, Path, Resource, TimeCostProblem


def to_document(problem: TimeCostProblem) -> dict[str, Any]:
    """Return the problem as a document; activities in arcs, paths and covers are indices."""
    return {
        "deadline": problem.deadline,
        "resources": [{"name": r.name, "capacity": r.capacity} for r in problem.resources],
        "activities": [
            {
                "name": a.name,
                "cost": a.cost.tolist(),
                "duration": a.duration.tolist(),
                "usage": a.usage.tolist(),
            }
            for a in problem.activities
        ],
        "arcs": [{"tail": arc.tail, "head": arc.head, "lag": arc.lag} for arc in problem.arcs],
        "paths": [
            {"activities": list(p.activities), "lag": p.lag, "waits": [w.tolist() for w in p.waits]}
            for p in problem.paths
        ],
        "covers": [
            [{"activity": v, "marked": marked.tolist()} for v, marked in cover.members]
            for cover in problem.covers
        ],
    }


def from_document(document: Mapping[str, Any]) -> TimeCostProblem:
    """Rebuild the problem from what `to_document` returned.

    Raises
    ------
    ValueError
        If the problem is not valid, naming every fault of the first part that is wrong.
    KeyError
        If a field is missing.
    """
    return TimeCostProblem(
        activities=tuple(_read_activity(a) for a in document["activities"]),
        arcs=tuple(Arc(arc["tail"], arc["head"], arc["lag"]) for arc in document["arcs"]),
        paths=tuple(
            Path(tuple(p["activities"]), p["lag"], tuple(np.array(w) for w in p["waits"]))
            for p in document["paths"]
        ),
        deadline=document["deadline"],
        resources=tuple(Resource(r["name"], r["capacity"]) for r in document["resources"]),
        covers=tuple(
            Cover(tuple((member["activity"], np.array(member["marked"], dtype=bool)) for member in members))
            for members in document["covers"]
        ),
    )


def _read_activity(document: Mapping[str, Any]) -> Activity:
    usage = np.array(document["usage"], dtype=np.int64)
    return Activity(document["name"], np.array(document["cost"]), np.array(document["duration"]), usage)
