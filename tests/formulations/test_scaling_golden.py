"""Every registered formulation of the scaling problem has a page and golden files, and reproduces them."""

from __future__ import annotations

import json
from pathlib import Path

import highspy
import numpy as np
import pytest

from mipplan.solvers import Termination, solve, write_model
from mipplan_formulations import FORMULATIONS, SCALING, ScalingProblem, scale_exhaustively
from mipplan_formulations.scaling_documents import scaling_from_document, scaling_to_document
from random_scaling import random_scaling

FOLDER = Path(__file__).resolve().parents[2] / "formulations"
INSTANCES = sorted((FOLDER / "golden" / "scaling").glob("*.json"))


def read(path: Path) -> tuple[ScalingProblem, dict[str, object] | None]:
    document = json.loads(path.read_text(encoding="utf-8"))
    return scaling_from_document(document["problem"]), document["optimum"]


def lines_of(text: str) -> list[str]:
    """Words of each line but comments: how a writer spaces them is not what is tested."""
    return [" ".join(line.split()) for line in text.splitlines() if line.strip() and line[0] != "\\"]


def test_registers_do_not_overlap() -> None:
    # Those of the one are for `mipplan.plan`, those of the other are not.
    assert not set(FORMULATIONS) & set(SCALING)


def test_there_are_golden_instances_of_all_kinds() -> None:
    found = [read(path) for path in INSTANCES]
    assert len(found) >= 4
    assert any(optimum is None for _, optimum in found)
    assert any(any(optimum["shed"]) for _, optimum in found if optimum is not None)  # type: ignore[call-overload]
    assert any(any(problem.is_timed) for problem, optimum in found if optimum is not None)
    assert any(any(a.down_cost for a in problem.activities) for problem, _ in found)


@pytest.mark.parametrize("name", SCALING)
def test_formulation_has_its_name_a_page_and_golden_files(name: str) -> None:
    formulation = SCALING[name]
    assert formulation.name == name
    page = (FOLDER / formulation.page).read_text(encoding="utf-8")
    assert page.startswith(f"# Formulation `{name}`")
    for path in INSTANCES:
        assert path.with_name(f"{path.stem}.{name}.lp").is_file()


def test_no_golden_file_is_left_over() -> None:
    expected = {f"{path.stem}.{name}.lp" for path in INSTANCES for name in SCALING}
    assert {path.name for path in (FOLDER / "golden" / "scaling").glob("*.lp")} == expected


@pytest.mark.parametrize("path", INSTANCES, ids=lambda path: path.stem)
def test_recorded_optimum_is_that_of_brute_force(path: Path) -> None:
    problem, optimum = read(path)
    best = scale_exhaustively(problem)
    if optimum is None:
        assert best is None
    else:
        assert best is not None
        assert {"cost": best.cost, "units": list(best.units), "shed": list(best.shed)} == optimum


@pytest.mark.parametrize("name", SCALING)
@pytest.mark.parametrize("path", INSTANCES, ids=lambda path: path.stem)
def test_rebuilding_gives_the_same_file(path: Path, name: str, tmp_path: Path) -> None:
    problem, _ = read(path)
    write_model(SCALING[name].build(problem), tmp_path / "rebuilt.lp")
    golden = path.with_name(f"{path.stem}.{name}.lp").read_text(encoding="utf-8")
    assert lines_of((tmp_path / "rebuilt.lp").read_text(encoding="utf-8")) == lines_of(golden)


@pytest.mark.parametrize("name", SCALING)
@pytest.mark.parametrize("path", INSTANCES, ids=lambda path: path.stem)
def test_golden_file_solves_to_the_recorded_optimum(path: Path, name: str) -> None:
    _, optimum = read(path)
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.readModel(str(path.with_name(f"{path.stem}.{name}.lp")))
    highs.run()
    status = highs.modelStatusToString(highs.getModelStatus())
    if optimum is None:
        assert status == "Infeasible"
    else:
        assert status == "Optimal"
        assert highs.getInfo().objective_function_value == pytest.approx(optimum["cost"], abs=1e-6)


@pytest.mark.parametrize("solver", ["highs", "cbc", "cp_sat"])
@pytest.mark.parametrize("name", SCALING)
@pytest.mark.parametrize("path", INSTANCES, ids=lambda path: path.stem)
def test_golden_instance_is_solved(path: Path, name: str, solver: str) -> None:
    problem, optimum = read(path)
    formulation = SCALING[name]
    model = formulation.build(problem)
    answer = solve(model, solver)
    if optimum is None:
        assert answer.termination is Termination.INFEASIBLE
        return
    assert answer.values is not None
    evaluation = problem.evaluate(formulation.decode(problem, model, answer.values))
    assert (answer.objective, evaluation.cost, evaluation.feasible) == (
        optimum["cost"],
        optimum["cost"],
        True,
    )


def test_documents_keep_everything() -> None:
    for seed in range(40):
        problem = random_scaling(np.random.default_rng(seed))
        document = json.loads(json.dumps(scaling_to_document(problem)))
        assert scaling_to_document(scaling_from_document(document)) == document
