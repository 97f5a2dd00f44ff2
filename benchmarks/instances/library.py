"""The frozen problems as files for people outside, with best known values; and plans of theirs held against both.

``README.md``, made of ``library.md``, says what stands in the files. ``python -m benchmarks.instances`` runs this.
"""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as File
from typing import Any

import numpy as np

from benchmarks.instances.best_known import Record
from benchmarks.instances.building import build, fingerprint
from benchmarks.instances.checking import check
from benchmarks.instances.specs import Spec
from mipplan.solvers import write_model
from mipplan_formulations import FORMULATIONS, Activity, Arc, Cover, Path, Resource, TimeCostProblem

FORMAT = "time-cost-problem/1"
BEST_KNOWN = "best_known.csv"
COLUMNS = (
    "name",
    "fingerprint",
    "group",
    "family",
    "stages",
    "modes",
    "paths",
    "status",
    "value",
    "lower_bound",
    "proven_by",
    "selection",
)
#: Linear models of more coefficients are not written: the largest would be a hundred times the whole library.
MOST_COEFFICIENTS = 100_000

#: The page that explains the files, with places for figures.
PAGE = File(__file__).with_suffix(".md")


@dataclass(frozen=True)
class Claim:
    """What became of a plan that somebody claims.

    Attributes
    ----------
    name : str
    cost : int or None
        None if the plan is none.
    verdict : str
        ``better`` or ``equal`` to the best known value, ``worse``, or what is wrong with the plan.
    selection : tuple of int
    """

    name: str
    cost: int | None
    verdict: str
    selection: tuple[int, ...]


def export(
    folder: File, specs: Sequence[Spec], records: Mapping[str, Record], *, models: bool = True
) -> None:
    """Write the problems, their linear models if wanted, best known values and the page that explains them."""
    for name in ("problems", "models") if models else ("problems",):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows = []
    for spec in specs:
        problem = build(spec)
        write_problem(problem, spec.name, folder / "problems" / f"{spec.name}.json.gz")
        if models:
            _write_models(problem, folder / "models" / spec.name)
        rows.append(_row(spec, problem, records.get(spec.name)))
    with (folder / BEST_KNOWN).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    still_open = sum(row["status"] in ("open", "unknown") for row in rows)
    page = PAGE.read_text(encoding="utf-8").format(
        count=len(rows), format=FORMAT, most=MOST_COEFFICIENTS, best_known=BEST_KNOWN, open=still_open
    )
    (folder / "README.md").write_text(page, encoding="utf-8")


def write_problem(problem: TimeCostProblem, name: str, path: File) -> None:
    """Write a problem to a file; the same problem always makes the same bytes."""
    text = json.dumps(_to_document(problem, name), separators=(",", ":")) + "\n"
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def read_problem(path: File) -> TimeCostProblem:
    """Read a problem, and see that it is the one its file says it is.

    Raises
    ------
    ValueError
        If the file is of another format, or the problem is not valid or has another fingerprint.
    """
    document = json.loads(gzip.decompress(path.read_bytes()))
    if document.get("format") != FORMAT:
        raise ValueError(f"{path.name}: expected the format {FORMAT}, not {document.get('format')!r}")
    problem = _from_document(document)
    if fingerprint(problem) != document["fingerprint"]:
        raise ValueError(f"{path.name}: its numbers are not those of fingerprint {document['fingerprint']}")
    return problem


def judge_claims(folder: File, claims: File) -> Iterator[Claim]:
    """Judge the plans in a CSV file, one by one, by the problems and best known values of an exported library.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    with (folder / BEST_KNOWN).open(newline="", encoding="utf-8") as file:
        known = {row["name"]: row["value"] for row in csv.DictReader(file)}
    with claims.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if lacking := {"name", "selection"} - set(rows.fieldnames or ()):
            raise ValueError(f"{claims}: there is no column {', '.join(sorted(lacking))}")
        for row in rows:
            name, words = row["name"], (row["selection"] or "").split()
            if not all(word.isdecimal() for word in words):
                yield Claim(name, None, "its selection is no list of modes", ())
                continue
            selection = tuple(map(int, words))
            if name not in known:
                yield Claim(name, None, "there is no such problem", selection)
                continue
            verdict = check(read_problem(folder / "problems" / f"{name}.json.gz"), selection)
            said = "; ".join(verdict.faults) or _compare(verdict.cost, known[name])
            yield Claim(name, verdict.cost, said, selection)


def take_over(records: Mapping[str, Record], claims: Sequence[Claim]) -> dict[str, Record]:
    """Best known values with better ones in place of those they beat."""
    updated = dict(records)
    for claim in claims:
        if claim.verdict == "better" and claim.cost is not None:
            before = updated[claim.name]
            settled = before.lower_bound is not None and claim.cost <= before.lower_bound
            status = "optimal" if settled else "open"
            updated[claim.name] = replace(
                before, status=status, cost=claim.cost, selection=claim.selection, proven_by=()
            )
    return updated


def _compare(cost: int | None, known: str) -> str:
    if not known or (cost is not None and cost < int(known)):
        return "better"
    return "equal" if cost == int(known) else f"worse: {known} is known"


def _row(spec: Spec, problem: TimeCostProblem, record: Record | None) -> dict[str, object]:
    known = record or Record(spec.fingerprint, "unknown", None, None, (), ())
    return {
        "name": spec.name,
        "fingerprint": spec.fingerprint,
        "group": spec.group,
        "family": spec.family,
        "stages": spec.stages,
        "modes": problem.num_binaries,
        "paths": len(problem.paths),
        "status": known.status,
        "value": known.cost,
        "lower_bound": known.lower_bound,
        "proven_by": "; ".join(known.proven_by),
        "selection": " ".join(map(str, known.selection)),
    }


def _write_models(problem: TimeCostProblem, stem: File) -> None:
    # `levels` has a binary per step of a path's wait, so it is not even built where `paths` is too large already.
    for name in ("potentials", "paths", "levels"):
        model = FORMULATIONS[name].build(problem)
        if model.matrix.nnz > MOST_COEFFICIENTS:
            return
        plain = stem.with_name(f"{stem.name}.{name}.mps")
        write_model(model, plain)
        with plain.open("rb") as source, gzip.GzipFile(f"{plain}.gz", "wb", mtime=0) as target:
            shutil.copyfileobj(source, target)
        plain.unlink()


def _to_document(problem: TimeCostProblem, name: str) -> dict[str, Any]:
    functions: list[dict[bytes, int]] = [{} for _ in problem.activities]
    waits: list[list[list[int]]] = [[] for _ in problem.activities]
    paths = []
    for path in problem.paths:
        places = []
        for v, own in zip(path.activities, path.waits, strict=True):
            if own.tobytes() not in functions[v]:
                functions[v][own.tobytes()] = len(waits[v])
                waits[v].append(own.tolist())
            places.append(functions[v][own.tobytes()])
        paths.append({"activities": list(path.activities), "lag": path.lag, "waits": places})
    return {
        "format": FORMAT,
        "name": name,
        "fingerprint": fingerprint(problem),
        "deadline": int(problem.deadline),
        "resources": [{"name": r.name, "capacity": int(r.capacity)} for r in problem.resources],
        "activities": [
            {
                "name": a.name,
                "cost": a.cost.tolist(),
                "duration": a.duration.tolist(),
                "usage": a.usage.tolist(),
                "waits": own,
            }
            for a, own in zip(problem.activities, waits, strict=True)
        ],
        "arcs": [{"tail": int(a.tail), "head": int(a.head), "lag": int(a.lag)} for a in problem.arcs],
        "paths": paths,
        "covers": [
            [{"activity": v, "modes": np.flatnonzero(marked).tolist()} for v, marked in cover.members]
            for cover in problem.covers
        ],
    }


def _from_document(document: Mapping[str, Any]) -> TimeCostProblem:
    width = len(document["resources"])
    activities = tuple(
        Activity(
            a["name"], a["cost"], a["duration"], np.array(a["usage"], np.int64).reshape(len(a["cost"]), width)
        )
        for a in document["activities"]
    )
    waits = [[np.array(own, dtype=np.int64) for own in a["waits"]] for a in document["activities"]]
    for own in waits:
        for array in own:
            array.flags.writeable = False  # so that paths go on sharing them
    paths = tuple(
        Path(
            tuple(path["activities"]),
            path["lag"],
            tuple(waits[v][k] for v, k in zip(path["activities"], path["waits"], strict=True)),
        )
        for path in document["paths"]
    )
    covers = tuple(
        Cover(
            tuple(
                (m["activity"], np.isin(np.arange(activities[m["activity"]].num_modes), m["modes"]))
                for m in cover
            )
        )
        for cover in document["covers"]
    )
    return TimeCostProblem(
        activities,
        tuple(Arc(**arc) for arc in document["arcs"]),
        paths,
        document["deadline"],
        tuple(Resource(**resource) for resource in document["resources"]),
        covers,
    )
