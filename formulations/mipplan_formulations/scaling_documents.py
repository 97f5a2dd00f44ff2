"""Scaling problems as plain documents (dictionaries, lists, numbers, strings) for JSON files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mipplan_formulations.demand import Demand
from mipplan_formulations.problem import Arc, Resource
from mipplan_formulations.scaling_problem import Group, ScalingActivity, ScalingProblem

_ARRAYS = ("need", "least", "most", "present")


def scaling_to_document(problem: ScalingProblem) -> dict[str, Any]:
    """Return the problem as a document; activities and groups are named by their indices."""
    return {
        "groups": [{"name": group.name, "penalty": group.penalty} for group in problem.groups],
        "resources": [{"name": r.name, "capacity": r.capacity} for r in problem.resources],
        "activities": [{**vars(a), "usage": a.usage.tolist()} for a in problem.activities],
        "arcs": [{"tail": arc.tail, "head": arc.head, "lag": arc.lag} for arc in problem.arcs],
        **{name: getattr(problem, name).tolist() for name in _ARRAYS},
        "demands": [
            None
            if demand is None
            else {"offset": demand.offset.tolist(), "load": demand.load.tolist(), "own_load": demand.own_load}
            for demand in problem.demands
        ],
    }


def scaling_from_document(document: Mapping[str, Any]) -> ScalingProblem:
    """Rebuild the problem from what `scaling_to_document` returned.

    Raises
    ------
    ValueError
        If the problem is not valid, naming every fault of the first part that is wrong.
    KeyError
        If a field is missing.
    """
    return ScalingProblem(
        activities=tuple(
            ScalingActivity(**{**activity, "usage": np.array(activity["usage"], dtype=np.int64)})
            for activity in document["activities"]
        ),
        groups=tuple(Group(group["name"], group["penalty"]) for group in document["groups"]),
        resources=tuple(Resource(r["name"], r["capacity"]) for r in document["resources"]),
        arcs=tuple(Arc(arc["tail"], arc["head"], arc["lag"]) for arc in document["arcs"]),
        demands=tuple(
            None
            if demand is None
            else Demand(np.array(demand["offset"]), np.array(demand["load"]), demand["own_load"])
            for demand in document["demands"]
        ),
        **{name: np.array(document[name], dtype=np.int64) for name in _ARRAYS},
    )
