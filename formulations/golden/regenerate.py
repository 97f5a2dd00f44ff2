"""Write the LP files and optima of all golden instances anew: python formulations/golden/regenerate.py.

The problem in each JSON file is written by hand and stays as it is; its optimum comes from brute force, its
LP files from every registered formulation of its type. Look at the difference before keeping it: these files are there
to show that a formulation changed.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from mipplan.solvers import write_model
from mipplan_formulations import (
    REGISTER,
    ColumnPool,
    Columns,
    MultiProjectProblem,
    ScalingProblem,
    TimeCostProblem,
    from_document,
    scale_exhaustively,
    solve_exhaustively,
    to_document,
)

FOLDER = Path(__file__).resolve().parent


def regenerate(path: Path) -> None:
    """Rewrite one instance's file and its LP files."""
    document = json.loads(path.read_text(encoding="utf-8"))
    problem = from_document(document["problem"])
    document["problem"] = to_document(problem)
    document["optimum"] = _optimum(problem)
    several = isinstance(problem, MultiProjectProblem | ColumnPool)
    text = json.dumps(document, indent=2) + "\n" if several else _lay_out(document)
    path.write_text(text, encoding="utf-8")
    for name, formulation in REGISTER.items():
        if isinstance(problem, formulation.problem):
            write_model(formulation.build(problem), path.with_name(f"{path.stem}.{name}.lp"))


def _optimum(problem: Any) -> Any:
    if isinstance(problem, TimeCostProblem):
        best = solve_exhaustively(problem)
        return None if best is None else {"cost": best.cost, "selection": list(best.selection)}
    if isinstance(problem, ScalingProblem):
        least = scale_exhaustively(problem)
        if least is None:
            return None
        return {"cost": least.cost, "units": list(least.units), "shed": list(least.shed)}
    return _cheapest(problem)


def _cheapest(problem: MultiProjectProblem | ColumnPool) -> int | None:
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
    for instance in sorted(FOLDER.rglob("*.json")):
        regenerate(instance)
