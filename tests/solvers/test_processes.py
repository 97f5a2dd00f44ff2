"""Solvers side by side in one process, without a package, and dying."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mipplan.core import SolverError
from mipplan.solvers import SolverFeature, solve, solve_problem
from mipplan.solvers.register import LINEAR_BACKENDS
from random_problems import binary_model, chain_problem

SOLVERS = list(LINEAR_BACKENDS)
PACKAGES = sorted({package for backend in LINEAR_BACKENDS.values() for package in backend.packages})


def run_python(script: str) -> subprocess.CompletedProcess[str]:
    tests = Path(__file__).resolve().parents[1]
    paths = [tests, tests.parent, tests.parent / "formulations"]
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("blocked", PACKAGES)
def test_a_missing_package_leaves_the_others_alone(blocked: str) -> None:
    script = (
        "import sys\n"
        f"sys.modules[{blocked!r}] = None\n"
        "from mipplan.solvers import available_solvers, solve\n"
        "from random_problems import binary_model\n"
        "works = {info.name for info in available_solvers() if info.available}\n"
        "assert all(solve(binary_model([1], [[1]], [1], [1]), name).objective == 1 for name in works)\n"
        "print(sorted(works))"
    )
    done = run_python(script)
    left = sorted(name for name, backend in LINEAR_BACKENDS.items() if blocked not in backend.packages)
    assert (done.stdout.strip(), done.stderr) == (str(left), "")


@pytest.mark.parametrize("order", [SOLVERS, SOLVERS[::-1]], ids=["highspy first", "ortools first"])
def test_all_solvers_live_in_one_process(order: list[str]) -> None:
    script = (
        "from mipplan.solvers import solve\n"
        "from random_problems import binary_model\n"
        f"print([solve(binary_model([3, 2], [[1, 1]], [1], [2]), name).objective for name in {2 * order!r}])"
    )
    done = run_python(script)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, str([2] * 10), "")


def test_asking_what_there_is_imports_no_ortools() -> None:
    done = run_python(
        "import sys\n"
        "from mipplan.solvers import available_solvers\n"
        "available_solvers()\n"
        "print([name for name in ('ortools', 'highspy') if name in sys.modules])"
    )
    # PuLP, asked for its CBC, imports highspy itself
    assert "ortools" not in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="needs a script with a shebang line")
def test_a_solver_process_that_dies_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dying = tmp_path / "cbc"
    dying.write_text("#!/bin/sh\nkill -SEGV $$\n", encoding="ascii")
    dying.chmod(0o755)
    import pulp

    monkeypatch.setattr(pulp.PULP_CBC_CMD, "pulp_cbc_path", str(dying))
    with pytest.raises(SolverError, match="cbc: ended with exit code -11"):
        solve(binary_model([1], [[1]], [1], [1]), "cbc")


@pytest.mark.parametrize("solver", SOLVERS)
def test_columns_that_may_need_fractions_are_solved_or_refused(solver: str) -> None:
    base = binary_model([1, 0], [[3, 2]], [1], [1])
    model = replace(base, integrality=np.array([True, False]))
    if SolverFeature.CONTINUOUS in LINEAR_BACKENDS[solver].features:
        assert solve(model, solver).objective == 0
    else:
        with pytest.raises(SolverError, match="may need fractions"):
            solve(model, solver)


def test_answers_reach_other_processes() -> None:
    model = binary_model([60, 100, 120], [[10, 20, 30]], [50], [np.inf])
    problem = chain_problem(3, 4, 1, seed=1)
    for remade in (copy.deepcopy, lambda answer: pickle.loads(pickle.dumps(answer))):
        answer = remade(solve(model, "highs"))
        assert (answer.objective, answer.values.tolist()) == (220, [0, 1, 1])
        found = solve_problem(problem)
        assert remade(found) == found
        assert hash(remade(found)) == hash(found)
