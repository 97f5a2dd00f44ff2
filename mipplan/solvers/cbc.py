"""CBC, the solver bundled with PuLP, through PuLP: the fallback where HiGHS is missing.

The CBC that PuLP bundles is of 2019. Its preprocessing now and then loses the optimum, so it is off; without it
CBC now and then crashes, returns a fractional point, or calls a small model infeasible that is not, so in these
cases it is asked again with preprocessing. What it returns is checked exactly, but what it fails to find cannot be:
of 8,700 random problems with near-ties of one unit, at scales from 1 to 5·10¹⁰, it called one (at 10⁹) infeasible
that is not. HiGHS was right in all of 5,100 such problems.
"""

from __future__ import annotations

import functools
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

from mipplan.core import SolverError
from mipplan.solvers.answer import RawAnswer, Settings, SolverInfo, Termination
from mipplan.solvers.pulp_models import build_pulp
from mipplan.solvers.recheck import check_solution
from mipplan.solvers.scaling import ScaledModel, scale_model
from mipplan_formulations import LinearModel

NAME = "cbc"

_BOUND_PATTERN = re.compile(r"^Lower bound:\s+(\S+)", re.MULTILINE)
_VERSION_PATTERN = re.compile(r"^Version:\s+(\S+)", re.MULTILINE)
_NODES_PATTERN = re.compile(r"^Enumerated nodes:\s+(\d+)", re.MULTILINE)
_WITHOUT_PREPROCESSING = ("-preprocess", "off")
_SLACK = 1e-6
"""Ten times the tolerance that CBC keeps rows to."""
_GRACE_S = 5.0
"""CBC looks at the clock only now and then; so long after its time limit it is killed."""
_PRINTED_PRECISION = 1e-3
"""CBC prints the bound with three decimals; a bound must not be rounded up."""


def probe() -> SolverInfo:
    """Tell whether PuLP and the CBC it bundles work here."""
    if importlib.util.find_spec("pulp") is None:
        return SolverInfo(NAME, False, None, "the package pulp is not installed")
    import pulp

    if not _bundled_cbc(pulp).available():
        return SolverInfo(NAME, False, None, "PuLP brings no CBC for this platform")
    return SolverInfo(NAME, True, _read_version(_bundled_cbc(pulp).path), None)


@functools.cache
def _read_version(path: str) -> str | None:
    """Version that CBC prints when started; asked once per process."""
    try:
        done = subprocess.run(
            [path, "-stop"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION_PATTERN.search(done.stdout)
    return match[1] if match else None


def run(model: LinearModel, settings: Settings) -> RawAnswer:
    """Solve a model; where CBC finds it infeasible, crashes or gives no solution, ask it again in another way.

    Raises
    ------
    SolverError
        If CBC fails, or ends in a way that tells nothing, both times.
    """
    scaled = scale_model(model, slack=_SLACK)
    problem = build_pulp(model, scaled)
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
        start = None if settings.start is None else scaled.lower_values(settings.start)
        outcome = _run_cbc(problem, options, settings.time_limit_s, start, Path(folder))
        elapsed_s = time.monotonic() - started
    if settings.log:
        sys.stderr.write(outcome.log)
    ran_out = settings.time_limit_s is not None and elapsed_s >= settings.time_limit_s
    return _read_answer(model, scaled, outcome, ran_out=ran_out)


@dataclass(frozen=True)
class _Outcome:
    """What PuLP reads from CBC's solution file, and CBC's log; no status at all if CBC had to be killed."""

    status: int | None
    solution_status: int | None
    value_by_name: dict[str, float]
    log: str


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


def _run_cbc(
    problem: Any,
    options: list[str],
    time_limit_s: float | None,
    start: NDArray[np.float64] | None,
    folder: Path,
) -> _Outcome:
    """Let PuLP write and read the files, but start CBC here: PuLP would leave it running after Ctrl-C."""
    import pulp

    reader = _bundled_cbc(pulp)
    model_path, solution_path, log_path = (folder / name for name in ("model.mps", "model.sol", "cbc.log"))
    columns, column_names, row_names, _ = problem.writeMPS(str(model_path), rename=True)
    if start is not None:
        options = [*options, "-mipstart", str(_write_start(folder / "start.txt", start, column_names))]
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


def _write_start(path: Path, start: NDArray[np.float64], column_names: dict[str, str]) -> Path:
    """Write a start in CBC's own format of solutions; CBC completes it, or ignores it if it is none."""
    lines = ["Stopped on time - objective value 0"]
    lines += [
        f"{number} {renamed} {float(start[int(name[1:])])!r} 0"
        for number, (name, renamed) in enumerate(column_names.items())
        if name[1:].isdecimal()  # PuLP has a column of its own where objective or a row is empty
    ]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")
    return path


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


def _read_answer(model: LinearModel, scaled: ScaledModel, outcome: _Outcome, *, ran_out: bool) -> RawAnswer:
    """Translate what PuLP read.

    Its `status` is Optimal after a time limit, too: only the solution status tells. Yet an infeasibility found by
    branching is told by `status` alone. Values are there even if there is no solution.
    """
    import pulp

    found, log = outcome.solution_status, outcome.log
    values: NDArray[np.float64] | None = None
    if found == pulp.LpSolutionOptimal:
        termination = Termination.OPTIMAL
        values = _read_values(scaled, outcome.value_by_name)
    elif found == pulp.LpSolutionIntegerFeasible:
        values = _keep_if_sound(model, _read_values(scaled, outcome.value_by_name))
        termination = Termination.NO_SOLUTION_FOUND if values is None else Termination.FEASIBLE
    elif ran_out or outcome.status == pulp.LpStatusNotSolved:
        # even if it says infeasible: that is what CBC calls a model when stopped while preprocessing
        termination = Termination.NO_SOLUTION_FOUND
    elif pulp.LpStatusInfeasible in (found, outcome.status):
        termination = Termination.INFEASIBLE
    else:
        raise SolverError(f"cbc: ended without telling how\n{log[-2000:]}")
    return RawAnswer(termination, values, _read_bound(termination, log), _read_details(log))


def _read_values(scaled: ScaledModel, value_by_name: dict[str, float]) -> NDArray[np.float64]:
    """One value per column; a column that occurs nowhere is not in the file, and any value will do for it."""
    lower = scaled.column_lower.tolist()
    values = [value_by_name.get(f"x{j}", low) for j, low in enumerate(lower)]
    return scaled.lift_values(np.array(values, dtype=np.float64))


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
