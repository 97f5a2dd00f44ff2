"""HiGHS through its own Python interface, highspy."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mipplan.core import Bool, Float64, InputError, SolverError
from mipplan.documents import check_path, write_atomically
from mipplan.solvers.backend import (
    Answer,
    PackageBackend,
    Settings,
    SolverFeature,
    Termination,
    check_kind,
    run_interruptibly,
)
from mipplan.solvers.numerics import LpArrays, ScaledModel, require, scale_model, values_of
from mipplan_formulations import LinearModel

# HiGHS writes 15 significant digits to a file.
_LARGEST_WRITTEN = 10**15

# Headings of an LP file in words that CBC knows: it takes the short ones for columns, and integers for any numbers.
_HEADINGS = {b"bin": b"binaries", b"gen": b"generals"}

# Bit of presolve's search for parallel rows and columns: seen not to end, past every time limit, on models with
# thousands of options that cost the same (HiGHS 1.16).
_ENDLESS_RULES = 1 << 13

# The root's large-neighbourhood searches, which mainly look for a first good solution. With one at hand, or where the
# model is small, they only cost time: on masters of the planner more than half.
_FIRST_SEARCHES = ("mip_heuristic_run_rins", "mip_heuristic_run_rens", "mip_heuristic_run_root_reduced_cost")


@dataclass(frozen=True)
class HighsParams:
    """What HiGHS is tuned to, however it is reached."""

    tolerance: float = 1e-9
    """Tolerance of rows and integers, because the default 1e-6 would let a row of coefficients near 1 s be broken by
    microseconds."""
    slack: float = 2e-7
    """Rows with event times are relaxed by more than presolving shifts them by, of which 3e-8 was seen."""
    gain_bits: int = 12
    """Long rows are scaled up by 2**12 at most, which resolves one unit in rows of coefficients up to 2**36: in
    nanoseconds more than a minute."""
    small_columns: int = 500
    """At most 500 columns make a small model, in which looking for a first solution takes longer than it saves."""


class Highs(PackageBackend):
    """HiGHS, the solver that is asked first."""

    name = "highs"
    packages = ("highspy",)
    features = frozenset({SolverFeature.CONTINUOUS})
    params = HighsParams()

    def run(self, model: LinearModel, settings: Settings, start: Float64 | None) -> Answer[Float64]:
        """Solve a model."""
        params = self.params
        scaled = scale_model(model, gain_bits=params.gain_bits, slack=params.slack)
        highs = make_highs(settings.log)
        set_options(highs, scaled, settings, params)
        pass_arrays(highs, scaled, model.integrality)
        if start is not None:
            pass_start(highs, scaled.lower_values(start))
        if start is not None or model.num_columns <= params.small_columns:
            for option in _FIRST_SEARCHES:
                require(highs.setOptionValue(option, False), option)
        run_until_told(highs)
        return read_answer(highs, scaled, self.name, lambda: values_of(highs))


def make_highs(log: bool = False) -> Any:
    """Return a Highs object that logs to stderr, or prints nothing at all."""
    import highspy

    class QuietHighs(highspy.Highs):
        """Silenced before its constructor registers callbacks, upon which HiGHS prints a banner."""

        def enableCallbacks(self) -> None:  # noqa: N802
            require(self.setOptionValue("output_flag", False), "output_flag")
            super().enableCallbacks()  # type: ignore[no-untyped-call]

    make: Any = QuietHighs  # its constructor has no types
    highs = make()
    if log:  # through a callback, because HiGHS itself would write to stdout
        require(highs.setOptionValue("output_flag", True), "output_flag")
        require(highs.setOptionValue("log_to_console", False), "log_to_console")
        highs.cbLogging += lambda event: sys.stderr.write(event.message)
    return highs


def pass_arrays(highs: Any, arrays: LpArrays, integrality: Bool) -> None:
    """Hand a linear program to HiGHS, with a mark for each column that is integer."""
    import highspy

    status = highs.passModel(
        arrays.objective.size,
        arrays.row_lower.size,
        arrays.entries.size,
        int(highspy.MatrixFormat.kRowwise),
        int(highspy.ObjSense.kMinimize),
        0.0,
        arrays.objective,
        arrays.column_lower,
        arrays.column_upper,
        arrays.row_lower,
        arrays.row_upper,
        arrays.starts.astype(np.int32),
        arrays.columns.astype(np.int32),
        arrays.entries,
        integrality.astype(np.int32),
    )
    require(status, "the model")


def pass_start(highs: Any, start: Float64) -> None:
    """Hand over a solution to start from."""
    import highspy

    solution = highspy.HighsSolution()
    solution.col_value = start.tolist()
    require(highs.setSolution(solution), "the start solution")


def set_options(highs: Any, scaled: ScaledModel, settings: Settings, params: HighsParams) -> None:
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
        "mip_feasibility_tolerance": params.tolerance,
        "primal_feasibility_tolerance": params.tolerance,
        # the default 1e-9 silently drops 1 ns beside 1 s in a scaled row
        "small_matrix_value": 1e-12,
    }
    if settings.time_limit_s is not None:
        options["time_limit"] = float(settings.time_limit_s)
    for name, value in options.items():
        require(highs.setOptionValue(name, value), f"option {name} = {value}")


def run_until_told(highs: Any) -> None:
    """Run HiGHS; Ctrl-C stops it and is passed on.

    highspy's own `HandleKeyboardInterrupt` swallows the interrupt, and all Highs objects share its lock.
    """
    highs.HandleUserInterrupt = True
    try:
        run_interruptibly(lambda: _run(highs), highs.cancelSolve, Highs.name)
    except Exception as failure:
        raise SolverError(f"highs: {failure}") from failure


def _run(highs: Any) -> None:
    """Run, and if presolve moved a solution by more than the tolerance ("Solve error"), again without presolve."""
    import highspy

    highs.run()
    if highs.getModelStatus() == highspy.HighsModelStatus.kSolveError:
        require(highs.setOptionValue("presolve", "off"), "presolve")
        highs.run()


def read_answer(
    highs: Any, scaled: ScaledModel, solver: str, values: Callable[[], Float64]
) -> Answer[Float64]:
    """How HiGHS ended, and, if it has a solution, the scaled model's values, which `values` reads.

    A model without integer columns has its optimum as bound, or nothing; only a search has nodes and a gap.
    """
    import highspy

    status, info, ends = highs.getModelStatus(), highs.getInfo(), highspy.HighsModelStatus
    bound = -math.inf
    if status == ends.kOptimal:
        termination, bound = Termination.OPTIMAL, float(info.objective_function_value)
    elif status in (ends.kInfeasible, ends.kUnboundedOrInfeasible):  # bounded columns: it is the former
        termination = Termination.INFEASIBLE
    elif status in (ends.kTimeLimit, ends.kIterationLimit, ends.kSolutionLimit, ends.kMemoryLimit):
        found = info.primal_solution_status == int(highspy.SolutionStatus.kSolutionStatusFeasible)
        termination = Termination.FEASIBLE if found else Termination.NO_SOLUTION_FOUND
    else:
        raise SolverError(f"{solver}: ended with {highs.modelStatusToString(status)!r}")
    details: dict[str, float | int | str] = {}
    if info.mip_node_count >= 0:
        details = {"nodes": int(info.mip_node_count), "gap": float(info.mip_gap)}
        bound = float(info.mip_dual_bound) if abs(info.mip_dual_bound) < highs.inf else -math.inf
    is_solved = termination in (Termination.OPTIMAL, Termination.FEASIBLE)
    lifted = scaled.lift_values(values()) if is_solved else None
    return Answer(termination, lifted, lower_bound=scaled.lift_bound(bound), details=details)


def write_model(model: LinearModel, path: str | Path) -> None:
    """Write a model to a file, unscaled and with its names, through HiGHS.

    Parameters
    ----------
    model : LinearModel
    path : str or Path
        The format follows the ending: ``.lp`` or ``.mps``.

    Raises
    ------
    InputError
        If it is no linear model, the ending is another, a number has more digits than the file would keep, or the file
        cannot be written: the message says why.
    SolverUnavailableError
        If highspy is not installed.
    """
    path = Path(check_path(path))
    check_kind("model", model, LinearModel)
    if path.suffix not in (".lp", ".mps"):
        raise InputError.one(str(path), "expected a name that ends in .lp or .mps")
    sides = np.concatenate([model.row_lower, model.row_upper])
    for numbers in (model.objective, model.matrix.data, sides[np.isfinite(sides)]):
        if numbers.size and np.abs(numbers).max() >= _LARGEST_WRITTEN:
            raise InputError.one(str(path), "numbers of more than 15 digits would be rounded in the file")
    writer = make_highs()
    pass_arrays(
        writer,
        LpArrays.of(model, np.ones(model.num_columns), np.ones(model.num_rows), 1.0),
        model.integrality,
    )
    for j, name in enumerate(model.column_names):
        writer.passColName(j, name)
    for i, name in enumerate(model.row_names):
        writer.passRowName(i, name)
    # HiGHS writes to names only, and says no more than that it failed: a draft becomes the file as any other does.
    with TemporaryDirectory() as folder:
        draft = Path(folder) / f"model{path.suffix}"
        require(writer.writeModel(str(draft)), f"to write {path}")
        written = draft.read_bytes()
    if path.suffix == ".lp":  # names are indented there
        written = re.sub(rb"(?m)^(bin|gen)(?=\r?$)", lambda heading: _HEADINGS[heading[1]], written)
    write_atomically(path, lambda stream: stream.write(written))
