"""Rules between the entries of a pipeline document: names, references, and no cycle.

They are checked on the raw document, so that a misspelt field elsewhere hides none of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mipplan.core import find_cycle, name_problem, shown, suggestion
from mipplan.documents import Document, Finding


def structure_findings(document: Document) -> list[Finding]:
    """Return what is wrong between the entries of a document, whatever else is wrong in them."""
    if not isinstance(document.value, Mapping):
        return []
    stages = document.value.get("stages")
    edges = document.value.get("edges")
    if not isinstance(stages, Mapping):
        return []
    findings = _name_findings(stages)
    if not isinstance(edges, Sequence) or isinstance(edges, str):
        return findings
    arcs: dict[tuple[str, str], int] = {}
    for index, edge in enumerate(edges):
        found = _edge_findings(document, stages, index, edge, arcs)
        findings += found
        if not found and isinstance(edge, Mapping) and {"from", "to"} <= edge.keys():
            arcs[edge["from"], edge["to"]] = index
    cycle = find_cycle(arcs)
    if cycle:
        last = arcs[cycle[-1], cycle[0]]
        route = " → ".join([*cycle, cycle[0]])
        findings.append((("edges", last), f"this edge closes a cycle: {route}"))
    return findings


def _name_findings(stages: Mapping[Any, Any]) -> list[Finding]:
    findings: list[Finding] = []
    for name in stages:
        problem = name_problem(name)
        if problem is not None:
            findings.append((("stages", name if isinstance(name, str) else repr(name)), problem))
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
