"""Write the LP files and optima of all golden instances anew: python formulations/golden/regenerate.py.

The problem in each JSON file is written by hand and stays as it is; its optimum comes from brute force, its
LP files from every registered formulation. Look at the difference before keeping it: these files are there to
show that a formulation changed.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from mipplan.solvers import write_model
from mipplan_formulations import (
    FORMULATIONS,
    PROGRAMME_FORMULATIONS,
    SCALING,
    ColumnPool,
    Columns,
    Programme,
    TimeCostProblem,
    scale_exhaustively,
    solve_exhaustively,
)
from mipplan_formulations.documents import from_document, to_document
from mipplan_formulations.programme_documents import from_document as read_programme
from mipplan_formulations.scaling_documents import scaling_from_document, scaling_to_document

FOLDER = Path(__file__).resolve().parent


def regenerate(path: Path) -> None:
    """Rewrite one instance's file and its LP files."""
    document = json.loads(path.read_text(encoding="utf-8"))
    problem = from_document(document["problem"])
    best = solve_exhaustively(problem)
    document["problem"] = to_document(problem)
    document["optimum"] = None if best is None else {"cost": best.cost, "selection": list(best.selection)}
    path.write_text(_lay_out(document), encoding="utf-8")
    for name, formulation in FORMULATIONS.items():
        write_model(formulation.build(problem), FOLDER / f"{path.stem}.{name}.lp")


def regenerate_scaling(path: Path) -> None:
    """Rewrite one instance of the scaling problem and its LP files."""
    document = json.loads(path.read_text(encoding="utf-8"))
    problem = scaling_from_document(document["problem"])
    best = scale_exhaustively(problem)
    document["problem"] = scaling_to_document(problem)
    document["optimum"] = (
        None if best is None else {"cost": best.cost, "units": list(best.units), "shed": list(best.shed)}
    )
    path.write_text(_lay_out(document), encoding="utf-8")
    for name, formulation in SCALING.items():
        write_model(formulation.build(problem), path.with_name(f"{path.stem}.{name}.lp"))


def regenerate_programme(path: Path) -> None:
    """Rewrite the files of an instance with several projects."""
    document = json.loads(path.read_text(encoding="utf-8"))
    problem = read_programme(document["problem"])
    document["optimum"] = _optimum(problem)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    for name, formulation in PROGRAMME_FORMULATIONS.items():
        if isinstance(problem, formulation.problem):
            write_model(formulation.build(problem), path.with_name(f"{path.stem}.{name}.lp"))


def _optimum(problem: Programme | ColumnPool) -> int | None:
    """Of every combination of choices the cheapest that is allowed."""
    out = [] if problem.forgone is None else [None]
    ways: list[list[object]] = [
        [*(range(p.cost.size) if isinstance(p, Columns) else _selections(p)), *out] for p in problem.projects
    ]
    found = [problem.evaluate(chosen) for chosen in itertools.product(*ways)]  # type: ignore[arg-type]
    return min((evaluation.cost for evaluation in found if evaluation.feasible), default=None)


def _selections(project: TimeCostProblem) -> list[tuple[int, ...]]:
    return list(itertools.product(*(range(int(count)) for count in project.mode_counts)))


def _lay_out(document: dict[str, object]) -> str:
    """JSON with one line per entry of the problem: short enough to read, long enough to compare."""
    lines = ["{"]
    for key, value in document.items():
        if key != "problem":
            lines.append(f"  {json.dumps(key)}: {json.dumps(value)},")
    problem = document["problem"]
    assert isinstance(problem, dict)
    lines.append('  "problem": {')
    for key, value in problem.items():
        comma = "," if key != list(problem)[-1] else ""
        if isinstance(value, list) and any(isinstance(row, dict | list) for row in value):
            rows = ",\n".join(f"      {json.dumps(row)}" for row in value)
            lines.append(f"    {json.dumps(key)}: [\n{rows}\n    ]{comma}")
        else:
            lines.append(f"    {json.dumps(key)}: {json.dumps(value)}{comma}")
    lines += ["  }", "}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for instance in sorted(FOLDER.glob("*.json")):
        regenerate(instance)
    for instance in sorted((FOLDER / "scaling").glob("*.json")):
        regenerate_scaling(instance)
    for instance in sorted((FOLDER / "programmes").glob("*.json")):
        regenerate_programme(instance)
