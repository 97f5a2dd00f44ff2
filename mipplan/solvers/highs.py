"""HiGHS through its own Python interface, highspy."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mipplan.core import SolverError
from mipplan.solvers.answer import RawAnswer, Settings, SolverInfo, Termination
from mipplan.solvers.interrupts import run_interruptibly
from mipplan.solvers.scaling import ScaledModel, scale_model
from mipplan_formulations import LinearModel

NAME = "highs"

_TIGHTEST_TOLERANCE = 1e-9
"""The default 1e-6 would let a row of coefficients near 1 s be broken by microseconds."""

SLACK = 2e-7
"""More than presolving shifts a row with event times by, of which 3e-8 was seen."""

_ENDLESS_RULES = 1 << 13
"""Presolve's search for parallel rows and columns: seen not to end, past every time limit, on models with thousands
of options that cost the same (HiGHS 1.16)."""

_SMALL = 500
"""Columns up to which looking for a first solution takes longer than it saves."""

GAIN_BITS = 12
"""Resolves one unit in rows of coefficients up to 2**36, in nanoseconds more than a minute."""


def probe() -> SolverInfo:
    """Tell whether highspy is installed, without importing it."""
    if importlib.util.find_spec("highspy") is None:
        return SolverInfo(NAME, False, None, "the package highspy is not installed")
    return SolverInfo(NAME, True, importlib.metadata.version("highspy"), None)


def run(model: LinearModel, settings: Settings) -> RawAnswer:
    """Solve a model.

    Raises
    ------
    SolverError
        If HiGHS rejects the model or an option, or ends in a way that tells nothing.
    """
    scaled = scale_model(model, gain_bits=GAIN_BITS, slack=SLACK)
    highs = make_highs(settings.log)
    set_options(highs, scaled, settings)
    pass_arrays(highs, model, scaled)
    if settings.start is not None:
        pass_start(highs, scaled.lower_values(settings.start))
    if settings.start is not None or model.num_columns <= _SMALL:
        leave_out_searches(highs)
    run_until_told(highs)
    return _read_answer(highs, scaled)


class RelaxationSolver:
    """Row duals of a scaled model's linear relaxation, for changing upper bounds of its columns.

    Parameters
    ----------
    model : LinearModel
    scaled : ScaledModel
    """

    def __init__(self, model: LinearModel, scaled: ScaledModel) -> None:
        import highspy

        self._lower = scaled.column_lower
        self._columns = np.arange(model.num_columns, dtype=np.int32)
        self._highs = make_quiet_highs()
        # Few rows: simplex is done in less time than presolve takes to look at all columns.
        require(self._highs.setOptionValue("presolve", "off"), "presolve")
        pass_arrays(self._highs, model, scaled)
        continuous = np.full(model.num_columns, int(highspy.HighsVarType.kContinuous), dtype=np.uint8)
        status = self._highs.changeColsIntegrality(model.num_columns, self._columns, continuous)
        require(status, "a relaxation")

    def duals(
        self, column_upper: NDArray[np.float64], time_limit_s: float | None
    ) -> tuple[NDArray[np.float64], bool] | None:
        """Return the row duals, shape (k,), and False; or a ray of them that proves infeasibility, and True."""
        import highspy

        highs = self._highs
        status = highs.changeColsBounds(column_upper.size, self._columns, self._lower, column_upper)
        require(status, "bounds of a relaxation")
        limit_s = highs.inf if time_limit_s is None else highs.getRunTime() + float(time_limit_s)
        require(highs.setOptionValue("time_limit", limit_s), "option time_limit")
        highs.run()
        if highs.getModelStatus() == highspy.HighsModelStatus.kOptimal:
            return np.array(highs.getSolution().row_dual, dtype=np.float64), False
        if highs.getModelStatus() == highspy.HighsModelStatus.kInfeasible:
            _, has_ray, ray = highs.getDualRay()
            return (np.array(ray, dtype=np.float64), True) if has_ray else None
        return None

    def values(self) -> NDArray[np.float64]:
        """Return the columns of the last optimum, shape (n,)."""
        return np.array(self._highs.getSolution().col_value, dtype=np.float64)


def solve_continuous(
    model: LinearModel, scaled: ScaledModel, time_limit_s: float | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Solve the scaled model's linear relaxation: its columns, shape (n,), and row duals, shape (k,).

    None unless it is solved to optimality.
    """
    solver = RelaxationSolver(model, scaled)
    found = solver.duals(scaled.column_upper, time_limit_s)
    return None if found is None or found[1] else (solver.values(), found[0])


def make_quiet_highs() -> Any:
    """Return a Highs object that prints nothing."""
    import highspy

    class QuietHighs(highspy.Highs):
        """Silenced before its constructor registers callbacks, upon which HiGHS prints a banner."""

        def enableCallbacks(self) -> None:  # noqa: N802
            require(self.setOptionValue("output_flag", False), "output_flag")
            super().enableCallbacks()  # type: ignore[no-untyped-call]

    make: Any = QuietHighs  # its constructor has no types
    return make()


def pass_arrays(highs: Any, model: LinearModel, scaled: ScaledModel) -> None:
    """Hand the scaled model to HiGHS."""
    import highspy

    matrix = scaled.matrix
    status = highs.passModel(
        model.num_columns,
        model.num_rows,
        matrix.nnz,
        int(highspy.MatrixFormat.kRowwise),
        int(highspy.ObjSense.kMinimize),
        0.0,
        scaled.objective,
        scaled.column_lower,
        scaled.column_upper,
        scaled.row_lower,
        scaled.row_upper,
        matrix.indptr.astype(np.int32),
        matrix.indices.astype(np.int32),
        matrix.data,
        model.integrality.astype(np.int32),
    )
    require(status, "the model")


def make_highs(log: bool) -> Any:
    """Return a Highs object that logs to stderr, or not at all."""
    highs = make_quiet_highs()
    if log:  # through a callback, because HiGHS itself would write to stdout
        require(highs.setOptionValue("output_flag", True), "output_flag")
        require(highs.setOptionValue("log_to_console", False), "log_to_console")
        highs.cbLogging += lambda event: sys.stderr.write(event.message)
    return highs


def pass_start(highs: Any, start: NDArray[np.float64]) -> None:
    """Hand over a solution to start from."""
    import highspy

    solution = highspy.HighsSolution()
    solution.col_value = start.tolist()
    require(highs.setSolution(solution), "the start solution")


def leave_out_searches(highs: Any) -> None:
    """Leave out the root's large-neighbourhood searches, which mainly look for a first good solution.

    With one at hand, or where the model is small, they only cost time: on masters of the planner more than half.
    """
    for option in (
        "mip_heuristic_run_rins",
        "mip_heuristic_run_rens",
        "mip_heuristic_run_root_reduced_cost",
    ):
        require(highs.setOptionValue(option, False), option)


def set_options(highs: Any, scaled: ScaledModel, settings: Settings) -> None:
    """Hand over limits, gap, threads, seed and tolerances."""
    options: dict[str, float | int] = {
        "mip_rel_gap": settings.gap,
        # objectives differ by a whole step, so half a step left is a proof; the default 1e-6 need not be
        "mip_abs_gap": scaled.objective_step / 2,
        "threads": settings.threads,
        "random_seed": settings.seed,
        # a restart solves the root again, which on these models costs more than the columns it gets rid of
        "mip_allow_restart": False,
        "presolve_rule_off": _ENDLESS_RULES,
        "mip_feasibility_tolerance": _TIGHTEST_TOLERANCE,
        "primal_feasibility_tolerance": _TIGHTEST_TOLERANCE,
        # the default 1e-9 silently drops 1 ns beside 1 s in a scaled row
        "small_matrix_value": 1e-12,
    }
    if settings.time_limit_s is not None:
        options["time_limit"] = float(settings.time_limit_s)
    for name, value in options.items():
        require(highs.setOptionValue(name, value), f"option {name} = {value}")


def require(status: Any, what: str) -> None:
    """Turn an error status of HiGHS into an exception; a mere warning passes."""
    import highspy

    if status == highspy.HighsStatus.kError:
        raise SolverError(f"highs refused {what}")


def run_until_told(highs: Any) -> None:
    """Run HiGHS; Ctrl-C stops it and is passed on.

    highspy's own `HandleKeyboardInterrupt` swallows the interrupt, and all Highs objects share its lock.
    """
    highs.HandleUserInterrupt = True
    try:
        run_interruptibly(lambda: _run(highs), highs.cancelSolve, NAME)
    except Exception as failure:
        raise SolverError(f"highs: {failure}") from failure


def _run(highs: Any) -> None:
    """Run, and if presolve moved a solution by more than the tolerance ("Solve error"), again without presolve."""
    import highspy

    highs.run()
    if highs.getModelStatus() == highspy.HighsModelStatus.kSolveError:
        require(highs.setOptionValue("presolve", "off"), "presolve")
        highs.run()


def has_solution(info: Any) -> bool:
    """Whether HiGHS has a solution that keeps all rows."""
    import highspy

    return bool(info.primal_solution_status == int(highspy.SolutionStatus.kSolutionStatusFeasible))


def was_limited(highs: Any) -> bool:
    """Whether a limit ended the run."""
    import highspy

    ends = highspy.HighsModelStatus
    limits = (ends.kTimeLimit, ends.kIterationLimit, ends.kSolutionLimit, ends.kMemoryLimit)
    return highs.getModelStatus() in limits


def _read_answer(highs: Any, scaled: ScaledModel) -> RawAnswer:
    import highspy

    status, info = highs.getModelStatus(), highs.getInfo()
    ends = highspy.HighsModelStatus
    if status == ends.kOptimal:
        termination = Termination.OPTIMAL
    elif status in (ends.kInfeasible, ends.kUnboundedOrInfeasible):  # bounded columns: it is the former
        termination = Termination.INFEASIBLE
    elif was_limited(highs):
        termination = Termination.FEASIBLE if has_solution(info) else Termination.NO_SOLUTION_FOUND
    else:
        raise SolverError(f"highs: ended with {highs.modelStatusToString(status)!r}")
    solved = termination in (Termination.OPTIMAL, Termination.FEASIBLE)
    values = None
    if solved:
        values = scaled.lift_values(np.array(highs.getSolution().col_value, dtype=np.float64))
    bound = scaled.lift_bound(read_bound(highs, info, termination))
    return RawAnswer(termination, values, bound, read_details(info))


def read_bound(highs: Any, info: Any, termination: Termination) -> float:
    """Bound on the scaled objective; a model without integer columns has its optimum as bound, or nothing."""
    if termination is Termination.INFEASIBLE:
        return float("inf")
    if info.mip_node_count >= 0:
        bound = float(info.mip_dual_bound)
        return bound if abs(bound) < highs.inf else float("-inf")
    return float(info.objective_function_value) if termination is Termination.OPTIMAL else float("-inf")


def read_details(info: Any) -> dict[str, float | int | str]:
    """Nodes and gap, if there was a search."""
    if info.mip_node_count < 0:
        return {}
    return {"nodes": int(info.mip_node_count), "gap": float(info.mip_gap)}
