"""Every registered formulation has a page, golden files and its rows in the documentation, and reproduces the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import highspy
import numpy as np
import pytest

from mipplan.solvers import Termination, solve, write_model
from mipplan_formulations import (
    FORMULATIONS,
    MULTI_PROJECT_FORMULATIONS,
    REGISTER,
    SCALING,
    ColumnPool,
    Columns,
    MultiProjectProblem,
    Resource,
    ScalingProblem,
    TimeCostProblem,
    from_document,
    scale_exhaustively,
    solve_exhaustively,
    to_document,
)
from oracle_fleet import cheapest_of_pool, cheapest_programme
from random_problems import random_problem
from random_scaling import random_scaling
from relaxations import is_solution

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "formulations"
INSTANCES = sorted((FOLDER / "golden").rglob("*.json"))
SOLVERS = {TimeCostProblem: ("highs", "cbc"), ScalingProblem: ("highs", "cbc", "cp_sat")}


def read(path: Path) -> tuple[Any, Any]:
    """Problem and optimum of an instance."""
    document = json.loads(path.read_text(encoding="utf-8"))
    return from_document(document["problem"]), document["optimum"]


def golden_of(path: Path, name: str) -> Path:
    return path.with_name(f"{path.stem}.{name}.lp")


def cost_of(optimum: Any) -> int | None:
    return optimum["cost"] if isinstance(optimum, dict) else optimum


def lines_of(text: str) -> list[str]:
    """Words of each line but comments: how a writer spaces them is not what is tested."""
    return [" ".join(line.split()) for line in text.splitlines() if line.strip() and line[0] != "\\"]


PAIRS = [
    pytest.param(path, name, id=f"{path.stem}-{name}")
    for path in INSTANCES
    for name, formulation in REGISTER.items()
    if type(read(path)[0]) is formulation.problem
]


def test_the_registers_by_problem_part_the_register() -> None:
    # Those of the first are for `mipplan.plan`, the others are not.
    assert [*FORMULATIONS, *SCALING, *MULTI_PROJECT_FORMULATIONS] == [*REGISTER]
    assert {formulation.problem for formulation in FORMULATIONS.values()} == {TimeCostProblem}
    assert {formulation.problem for formulation in SCALING.values()} == {ScalingProblem}


@pytest.mark.parametrize("name", REGISTER)
def test_formulation_has_its_name_a_page_golden_files_and_rows_in_the_documentation(name: str) -> None:
    formulation = REGISTER[name]
    assert formulation.name == name
    page = (FOLDER / formulation.page).read_text(encoding="utf-8")
    assert page.startswith(f"# Formulation `{name}`")
    golden = [path for path in INSTANCES if type(read(path)[0]) is formulation.problem]
    assert {read(path)[1] is None for path in golden} == {True, False}
    for path in golden:
        assert golden_of(path, name).is_file()
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert any(line.startswith(f"| `{name}` |") and formulation.page in line for line in readme.splitlines())
    pages = [ROOT / "docs" / page for page in ("formulations.md", "labels-and-scaling.md")]
    lines = [line for page in pages for line in page.read_text(encoding="utf-8").splitlines()]
    assert lines.count(f'--8<-- "formulations/{formulation.page}"') == 1


def test_no_golden_file_is_left_over() -> None:
    expected = {golden_of(*pair.values) for pair in PAIRS}
    assert set((FOLDER / "golden").rglob("*.lp")) == expected


@pytest.mark.parametrize("name", FORMULATIONS)
def test_formulation_that_plans_take_has_a_line_style_in_the_benchmark(name: str) -> None:
    plots = (ROOT / "benchmarks" / "solvers" / "plots.py").read_text(encoding="utf-8")
    styles = next(line for line in plots.splitlines() if line.startswith("FORMULATION_STYLES"))
    assert f'"{name}":' in styles


@pytest.mark.parametrize("problem", [TimeCostProblem, ScalingProblem, MultiProjectProblem, ColumnPool])
def test_there_are_golden_instances_of_all_problems(problem: type) -> None:
    found = [read(path) for path in INSTANCES if type(read(path)[0]) is problem]
    assert len(found) >= (4 if problem in SOLVERS else 2)
    assert any(optimum is None for _, optimum in found)


def test_there_are_golden_instances_of_all_kinds_of_scaling() -> None:
    found = [read(path) for path in INSTANCES if type(read(path)[0]) is ScalingProblem]
    assert any(any(optimum["shed"]) for _, optimum in found if optimum is not None)
    assert any(any(problem.is_timed) for problem, optimum in found if optimum is not None)
    assert any(any(a.down_cost for a in problem.activities) for problem, _ in found)


@pytest.mark.parametrize("path", INSTANCES, ids=lambda path: path.stem)
def test_recorded_optimum_is_that_of_brute_force(path: Path) -> None:
    problem, optimum = read(path)
    if isinstance(problem, TimeCostProblem):
        cheapest = solve_exhaustively(problem)
        best: Any = cheapest and {"cost": cheapest.cost, "selection": list(cheapest.selection)}
    elif isinstance(problem, ScalingProblem):
        least = scale_exhaustively(problem)
        best = least and {"cost": least.cost, "units": list(least.units), "shed": list(least.shed)}
    elif isinstance(problem, MultiProjectProblem):
        best = cheapest_programme(problem)
    else:
        best = cheapest_of_pool(problem)
    assert best == optimum


@pytest.mark.parametrize(("path", "name"), PAIRS)
def test_rebuilding_gives_the_same_file(path: Path, name: str, tmp_path: Path) -> None:
    problem, _ = read(path)
    write_model(REGISTER[name].build(problem), tmp_path / "rebuilt.lp")
    golden = golden_of(path, name).read_text(encoding="utf-8")
    assert lines_of((tmp_path / "rebuilt.lp").read_text(encoding="utf-8")) == lines_of(golden)


@pytest.mark.parametrize(("path", "name"), PAIRS)
def test_golden_file_solves_to_the_recorded_optimum(path: Path, name: str) -> None:
    cost = cost_of(read(path)[1])
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.readModel(str(golden_of(path, name)))
    highs.run()
    status = highs.modelStatusToString(highs.getModelStatus())
    if cost is None:
        assert status == "Infeasible"
    else:
        assert status == "Optimal"
        assert highs.getInfo().objective_function_value == pytest.approx(cost, abs=1e-6)


@pytest.mark.parametrize("solver", ["highs", "cbc", "cp_sat"])
@pytest.mark.parametrize(("path", "name"), PAIRS)
def test_golden_instance_is_solved(path: Path, name: str, solver: str) -> None:
    problem, optimum = read(path)
    if solver not in SOLVERS.get(type(problem), ("highs", "cbc")):
        return
    formulation, cost = REGISTER[name], cost_of(optimum)
    model = formulation.build(problem)
    answer = solve(model, solver)
    if cost is None:
        assert answer.termination is Termination.INFEASIBLE
        return
    assert answer.values is not None
    chosen = formulation.decode(problem, model, answer.values)
    evaluation = problem.evaluate(chosen)
    assert (answer.objective, evaluation.cost, evaluation.feasible) == (cost, cost, True)
    start = formulation.encode(problem, model, chosen)
    assert formulation.decode(problem, model, start) == chosen
    assert int(model.objective @ start) == cost
    assert is_solution(model, start)


@pytest.mark.parametrize("path", INSTANCES, ids=lambda path: path.stem)
def test_documents_of_instances_keep_everything(path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))["problem"]
    assert json.loads(json.dumps(to_document(from_document(document)))) == document


def test_documents_keep_everything() -> None:
    for seed in range(40):
        problem = random_problem(np.random.default_rng(seed))
        document = json.loads(json.dumps(to_document(problem)))
        assert to_document(from_document(document)) == document
        assert solve_exhaustively(from_document(document)) == solve_exhaustively(problem)
        scaling = random_scaling(np.random.default_rng(seed))
        document = json.loads(json.dumps(to_document(scaling)))
        assert to_document(from_document(document)) == document


@pytest.mark.parametrize("width", [0, 2])
def test_documents_of_pools_keep_projects_without_columns_and_pools_without_resources(width: int) -> None:
    projects = tuple(Columns(np.arange(count), np.ones((count, width), dtype=np.int64)) for count in (2, 0))
    resources = tuple(Resource(f"r{k}", 3) for k in range(width))
    document = json.loads(json.dumps(to_document(ColumnPool(projects, resources, (5, 7)))))
    pool = from_document(document)
    assert [own.usage.shape for own in pool.projects] == [(2, width), (0, width)]
    assert to_document(pool) == document
