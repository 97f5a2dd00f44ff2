"""CBC, the solver bundled with PuLP, through PuLP: the fallback where HiGHS is missing.

The CBC that PuLP bundles is of 2019. Its preprocessing now and then loses the optimum, so it is off; without it
CBC now and then crashes, returns a fractional point, or calls a small model infeasible that is not, so in these
cases it is asked again with preprocessing. What it returns is checked exactly, but what it fails to find cannot be:
of 8,700 random problems with near-ties of one unit, at scales from 1 to 5·10¹⁰, it called one (at 10⁹) infeasible
that is not. HiGHS was right in all of 5,100 such problems.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mipplan.errors import SolverError
from mipplan.solvers.answer import RawAnswer, Settings, SolverInfo, Termination
from mipplan.solvers.recheck import check_solution
from mipplan.solvers.scaling import ScaledModel, scale_model
from mipplan_formulations.linear import LinearModel

NAME = "cbc"

_BOUND_PATTERN = re.compile(r"^Lower bound:\s+(\S+)", re.MULTILINE)
_NODES_PATTERN = re.compile(r"^Enumerated nodes:\s+(\d+)", re.MULTILINE)
_WITHOUT_PREPROCESSING = ("-preprocess", "off")
_GRACE_S = 5.0
"""CBC looks at the clock only now and then; so long after its time limit it is killed."""
_PRINTED_PRECISION = 1e-3
"""CBC prints the bound with three decimals; a bound must not be rounded up."""


def probe() -> SolverInfo:
    """Tell whether PuLP and the CBC it bundles work here."""
    if importlib.util.find_spec("pulp") is None:
        return SolverInfo(NAME, False, None, "the package pulp is not installed")
    import pulp

    version = importlib.metadata.version("pulp")
    if not _bundled_cbc(pulp).available():
        return SolverInfo(NAME, False, version, "PuLP brings no CBC for this platform")
    return SolverInfo(NAME, True, version, None)


def run(model: LinearModel, settings: Settings) -> RawAnswer:
    """Solve a model; where CBC finds it infeasible, crashes or gives no solution, ask it again in another way.

    Raises
    ------
    SolverError
        If CBC fails, or ends in a way that tells nothing, both times.
    """
    scaled = scale_model(model)
    problem = _build_problem(model, scaled)
    started = time.monotonic()
    try:
        answer = _run_once(model, problem, scaled, settings, _WITHOUT_PREPROCESSING)
        settled = answer.termination is not Termination.INFEASIBLE
        if answer.values is not None:
            check_solution(model, answer.values, NAME)
    except SolverError:
        settled = False
    if not settled:
        settings = replace(settings, time_limit_s=_time_left(settings, started))
        answer = _run_once(model, problem, scaled, settings, ())
    return replace(answer, lower_bound=scaled.lift_bound(answer.lower_bound))


def _time_left(settings: Settings, started: float) -> float | None:
    if settings.time_limit_s is None:
        return None
    return max(1e-3, settings.time_limit_s - (time.monotonic() - started))


def _run_once(
    model: LinearModel, problem: Any, scaled: ScaledModel, settings: Settings, way: tuple[str, ...]
) -> RawAnswer:
    with tempfile.TemporaryDirectory(prefix="mipplan-cbc-") as folder:
        started = time.monotonic()
        options = [*_list_options(scaled, settings), *way]
        outcome = _run_cbc(problem, options, settings.time_limit_s, Path(folder))
        elapsed_s = time.monotonic() - started
    if settings.log:
        sys.stderr.write(outcome.log)
    ran_out = settings.time_limit_s is not None and elapsed_s >= settings.time_limit_s
    return _read_answer(model, outcome, ran_out=ran_out)


@dataclass(frozen=True)
class _Outcome:
    """What PuLP reads from CBC's solution file, and CBC's log; no status at all if CBC had to be killed."""

    status: int | None
    solution_status: int | None
    value_by_name: dict[str, float]
    log: str


def _build_problem(model: LinearModel, scaled: ScaledModel) -> Any:
    """Build PuLP's objects, columns named ``x{j}``. Its expressions are dictionaries, hence the loops."""
    import pulp

    problem = pulp.LpProblem("model", pulp.LpMinimize)
    columns = [
        problem.add_variable(f"x{j}", lower, upper, pulp.LpInteger if integral else pulp.LpContinuous)
        for j, (lower, upper, integral) in enumerate(
            zip(model.column_lower.tolist(), model.column_upper.tolist(), model.integrality, strict=True)
        )
    ]
    costs = scaled.objective.tolist()
    problem.setObjective(pulp.LpAffineExpression([(x, c) for x, c in zip(columns, costs, strict=True) if c]))
    starts, indices = scaled.matrix.indptr.tolist(), scaled.matrix.indices.tolist()
    coefficients = scaled.matrix.data.tolist()
    for i, (lower, upper) in enumerate(
        zip(scaled.row_lower.tolist(), scaled.row_upper.tolist(), strict=True)
    ):
        entries = range(starts[i], starts[i + 1])
        terms = pulp.LpAffineExpression([(columns[indices[e]], coefficients[e]) for e in entries])
        for side, sense in _sides(lower, upper):
            problem.addConstraint(pulp.LpConstraint(terms, sense, f"r{i}_{sense}", side))
    return problem


def _sides(lower: float, upper: float) -> list[tuple[float, int]]:
    """Finite sides of a row with PuLP's senses (0: equal, 1: at least, -1: at most)."""
    if lower == upper:
        return [(lower, 0)]
    return [(side, sense) for side, sense in ((lower, 1), (upper, -1)) if np.isfinite(side)]


def _bundled_cbc(pulp: Any) -> Any:
    """PuLP's COIN_CMD with the CBC it bundles; its PULP_CBC_CMD is the same with a deprecation warning."""
    return pulp.COIN_CMD(path=pulp.PULP_CBC_CMD.pulp_cbc_path, msg=False)


def _list_options(scaled: ScaledModel, settings: Settings) -> list[str]:
    # CBC's own tolerances stay: tightened, it calls models infeasible that are not, whereas a solution that breaks
    # a row within them is found out and cut off afterwards
    options = ["-timeMode", "elapsed", "-randomCbcSeed", str(settings.seed), "-ratio", repr(settings.gap)]
    # objectives differ by a whole step, so half a step left is a proof
    options += ["-allow", repr(scaled.objective_step / 2)]
    if settings.threads > 1:  # told to use 1 thread, CBC starts one worker, and now and then hangs or crashes
        options += ["-threads", str(settings.threads)]
    if settings.time_limit_s is not None:
        options += ["-sec", repr(settings.time_limit_s)]
    return options


def _run_cbc(problem: Any, options: list[str], time_limit_s: float | None, folder: Path) -> _Outcome:
    """Let PuLP write and read the files, but start CBC here: PuLP would leave it running after Ctrl-C."""
    import pulp

    reader = _bundled_cbc(pulp)
    model_path, solution_path, log_path = (folder / name for name in ("model.mps", "model.sol", "cbc.log"))
    columns, column_names, row_names, _ = problem.writeMPS(str(model_path), rename=True)
    command = [reader.path, str(model_path), *options, "-solve", "-printingOptions", "all"]
    with log_path.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [*command, "-solution", str(solution_path)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        killed = _wait(process, None if time_limit_s is None else time_limit_s + _GRACE_S)
    text = log_path.read_text(encoding="utf-8", errors="replace")
    if killed:
        return _Outcome(None, None, {}, text)
    if process.returncode != 0 or not solution_path.exists():
        raise SolverError(f"cbc: ended with exit code {process.returncode}\n{text[-2000:]}")
    status, values, _, _, _, solution_status = reader.readsol_MPS(
        str(solution_path), problem, columns, column_names, row_names
    )
    return _Outcome(status, solution_status, values, text)


def _wait(process: subprocess.Popen[bytes], limit_s: float | None) -> bool:
    """Wait for CBC to end and tell whether it had to be killed; whatever happens, it does not outlive this."""
    try:
        process.wait(timeout=limit_s)
    except subprocess.TimeoutExpired:
        return True
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    return False


def _read_answer(model: LinearModel, outcome: _Outcome, *, ran_out: bool) -> RawAnswer:
    """Translate what PuLP read.

    Its `status` is Optimal after a time limit, too: only the solution status tells. Yet an infeasibility found by
    branching is told by `status` alone. Values are there even if there is no solution.
    """
    import pulp

    found, log = outcome.solution_status, outcome.log
    values: NDArray[np.float64] | None = None
    if found == pulp.LpSolutionOptimal:
        termination = Termination.OPTIMAL
        values = _read_values(model, outcome.value_by_name)
    elif found == pulp.LpSolutionIntegerFeasible:
        values = _keep_if_sound(model, _read_values(model, outcome.value_by_name))
        termination = Termination.NO_SOLUTION_FOUND if values is None else Termination.FEASIBLE
    elif ran_out or outcome.status == pulp.LpStatusNotSolved:
        # even if it says infeasible: that is what CBC calls a model when stopped while preprocessing
        termination = Termination.NO_SOLUTION_FOUND
    elif pulp.LpStatusInfeasible in (found, outcome.status):
        termination = Termination.INFEASIBLE
    else:
        raise SolverError(f"cbc: ended without telling how\n{log[-2000:]}")
    return RawAnswer(termination, values, _read_bound(termination, log), _read_details(log))


def _read_values(model: LinearModel, value_by_name: dict[str, float]) -> NDArray[np.float64]:
    """One value per column; a column that occurs nowhere is not in the file, and any value will do for it."""
    lower = model.column_lower.tolist()
    return np.array([value_by_name.get(f"x{j}", low) for j, low in enumerate(lower)], dtype=np.float64)


def _keep_if_sound(model: LinearModel, values: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Drop what is no solution: stopped by a limit, CBC may write down a fractional or broken point."""
    try:
        check_solution(model, values, NAME)
    except SolverError:
        return None
    return values


def _read_bound(termination: Termination, log: str) -> float:
    """Bound on the scaled objective from the log, which is the only place that has it."""
    if termination is Termination.INFEASIBLE:
        return float("inf")
    match = _BOUND_PATTERN.search(log)
    if match is None:
        return float("-inf")
    try:
        return float(match[1]) - _PRINTED_PRECISION
    except ValueError:
        return float("-inf")


def _read_details(log: str) -> dict[str, float | int | str]:
    match = _NODES_PATTERN.search(log)
    return {"nodes": int(match[1])} if match else {}
