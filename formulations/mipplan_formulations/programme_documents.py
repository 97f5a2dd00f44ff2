"""Programmes and pools as plain documents (dictionaries, lists, numbers, strings) for JSON files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mipplan_formulations import documents
from mipplan_formulations.problem import Resource
from mipplan_formulations.programme import ColumnPool, Columns, Programme


def to_document(problem: Programme | ColumnPool) -> dict[str, Any]:
    """Return the problem as a document; a pool has columns where a programme has projects."""
    shared = {
        "resources": [{"name": r.name, "capacity": r.capacity} for r in problem.resources],
        "forgone": None if problem.forgone is None else list(problem.forgone),
    }
    if isinstance(problem, Programme):
        return {**shared, "projects": [documents.to_document(project) for project in problem.projects]}
    columns = [{"cost": c.cost.tolist(), "usage": c.usage.tolist()} for c in problem.projects]
    return {**shared, "excess": None if problem.excess is None else list(problem.excess), "columns": columns}


def from_document(document: Mapping[str, Any]) -> Programme | ColumnPool:
    """Rebuild the problem from what `to_document` returned.

    Raises
    ------
    ValueError
        If the problem is not valid, naming every fault of the first part that is wrong.
    KeyError
        If a field is missing.
    """
    resources = tuple(Resource(r["name"], r["capacity"]) for r in document["resources"])
    forgone = None if document["forgone"] is None else tuple(document["forgone"])
    if "projects" in document:
        projects = tuple(documents.from_document(project) for project in document["projects"])
        return Programme(projects, resources, forgone)
    columns = tuple(
        Columns(
            np.array(entry["cost"], dtype=np.int64),
            np.array(entry["usage"], dtype=np.int64).reshape(-1, len(resources)),
        )
        for entry in document["columns"]
    )
    excess = None if document["excess"] is None else tuple(document["excess"])
    return ColumnPool(columns, resources, forgone, excess)
