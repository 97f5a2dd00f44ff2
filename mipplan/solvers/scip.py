"""SCIP, the one that OR-Tools brings, through MathOpt.

OR-Tools brings a HiGHS, too, which must not be used: where highspy is loaded as well, the process dies.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import importlib.util
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from mipplan.core import SolverError
from mipplan.solvers.answer import RawAnswer, Settings, SolverInfo, Termination
from mipplan.solvers.scaling import ScaledModel, scale_model
from mipplan_formulations import LinearModel

NAME = "scip"

_TOLERANCE = 1e-9
"""SCIP's default 1e-6 would let a row of coefficients near 1 s be broken by microseconds."""

_EPSILON = 1e-12
"""SCIP's default 1e-9, relative, makes equal two costs that differ by a micro-dollar in 8,000 dollars."""

_SLACK = 2e-6
"""Far above the tolerance, far below what matters to the search."""

_GAIN_BITS = 12


def probe() -> SolverInfo:
    """Tell whether OR-Tools is installed, without importing it."""
    if importlib.util.find_spec("ortools") is None:
        return SolverInfo(NAME, False, None, "the package ortools is not installed")
    return SolverInfo(NAME, True, importlib.metadata.version("ortools"), None)


def run(model: LinearModel, settings: Settings) -> RawAnswer:
    """Solve a model.

    Raises
    ------
    SolverError
        If SCIP or MathOpt rejects the model or a parameter, or ends in a way that tells nothing.
    """
    from ortools.math_opt.python import mathopt

    scaled = scale_model(model, gain_bits=_GAIN_BITS, slack=_SLACK)
    translated = mathopt.Model.from_model_proto(translate(model, scaled))
    try:
        result = mathopt.solve(
            translated,
            mathopt.SolverType.GSCIP,
            params=_make_parameters(mathopt, model, scaled, settings),
            model_params=mathopt.ModelSolveParameters(
                solution_hints=_make_hints(mathopt, translated, scaled, settings)
            ),
            msg_cb=_log if settings.log else None,
        )
    except (AttributeError, RuntimeError, ValueError) as refusal:  # MathOpt masks some refusals as the first
        raise SolverError(f"{NAME} refused the model: {refusal}") from refusal
    if result.termination.limit == mathopt.Limit.INTERRUPTED:
        raise KeyboardInterrupt
    return _read_answer(mathopt, scaled, result)


def translate(model: LinearModel, scaled: ScaledModel) -> Any:
    """Write the scaled model as a message of MathOpt."""
    from ortools.math_opt import model_pb2

    proto = model_pb2.ModelProto()
    columns, rows = proto.variables, proto.linear_constraints
    columns.ids.extend(range(model.num_columns))
    columns.lower_bounds.extend(scaled.column_lower.tolist())
    columns.upper_bounds.extend(scaled.column_upper.tolist())
    columns.integers.extend(model.integrality.tolist())
    rows.ids.extend(range(model.num_rows))
    rows.lower_bounds.extend(scaled.row_lower.tolist())
    rows.upper_bounds.extend(scaled.row_upper.tolist())
    entries = proto.linear_constraint_matrix
    entries.row_ids.extend(np.repeat(np.arange(model.num_rows), np.diff(scaled.matrix.indptr)).tolist())
    entries.column_ids.extend(scaled.matrix.indices.tolist())
    entries.coefficients.extend(scaled.matrix.data.tolist())
    used = np.flatnonzero(scaled.objective)
    proto.objective.linear_coefficients.ids.extend(used.tolist())
    proto.objective.linear_coefficients.values.extend(scaled.objective[used].tolist())
    return proto


def _make_parameters(mathopt: Any, model: LinearModel, scaled: ScaledModel, settings: Settings) -> Any:
    # threads are left out: SCIP's search uses one
    parameters = mathopt.SolveParameters(
        enable_output=False,
        random_seed=settings.seed,
        relative_gap_tolerance=settings.gap,
        # objectives differ by a whole step, so half a step left is a proof
        absolute_gap_tolerance=scaled.objective_step / 2,
    )
    if settings.time_limit_s is not None:
        parameters.time_limit = datetime.timedelta(seconds=settings.time_limit_s)
    parameters.gscip.real_params["numerics/feastol"] = _TOLERANCE
    parameters.gscip.real_params["numerics/epsilon"] = _EPSILON
    if not model.integrality.all():
        # presolving loses solutions that keep rows with event times by a hair: one in 500 random near-ties
        parameters.gscip.int_params["presolving/maxrounds"] = 0
    # SCIP takes Ctrl-C from Python, so it had better act on it (it then prints a line to stdout that nothing can keep
    # back). MathOpt's own interrupter fails with this SCIP, and complains on stderr.
    parameters.gscip.bool_params["misc/catchctrlc"] = True
    return parameters


def _make_hints(mathopt: Any, translated: Any, scaled: ScaledModel, settings: Settings) -> list[Any]:
    if settings.start is None:
        return []
    values = scaled.lower_values(settings.start).tolist()
    return [mathopt.SolutionHint(variable_values=dict(zip(translated.variables(), values, strict=True)))]


def _log(lines: Sequence[str]) -> None:
    sys.stderr.writelines(f"{line}\n" for line in lines)


def _read_answer(mathopt: Any, scaled: ScaledModel, result: Any) -> RawAnswer:
    reason, reasons = result.termination.reason, mathopt.TerminationReason
    if reason == reasons.OPTIMAL:
        termination = Termination.OPTIMAL
    elif reason in (reasons.INFEASIBLE, reasons.INFEASIBLE_OR_UNBOUNDED):  # bounded columns: it is the former
        termination = Termination.INFEASIBLE
    elif reason == reasons.FEASIBLE:
        termination = Termination.FEASIBLE
    elif reason == reasons.NO_SOLUTION_FOUND:
        termination = Termination.NO_SOLUTION_FOUND
    else:
        raise SolverError(f"{NAME}: ended with {reason.name}: {result.termination.detail}")
    values = None
    if termination in (Termination.OPTIMAL, Termination.FEASIBLE):
        by_column = result.variable_values()
        found = [by_column[column] for column in sorted(by_column, key=lambda column: column.id)]
        values = scaled.lift_values(np.array(found, dtype=np.float64))
    bound = float("inf")
    if termination is not Termination.INFEASIBLE:
        bound = scaled.lift_bound(_usable(float(result.termination.objective_bounds.dual_bound)))
    nodes = {"nodes": int(result.solve_stats.node_count)}
    return RawAnswer(termination, values, bound, nodes)


def _usable(bound: float) -> float:
    """SCIP's infinity is a number."""
    return bound if abs(bound) < 1e20 else float("-inf")
