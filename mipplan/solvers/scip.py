"""SCIP, the one that OR-Tools brings, through MathOpt.

OR-Tools brings a HiGHS, too, which must not be used: where highspy is loaded as well, the process dies.
"""

from __future__ import annotations

import datetime
import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from mipplan.core import Float64, SolverError
from mipplan.solvers.backend import Answer, PackageBackend, Settings, SolverFeature, Termination
from mipplan.solvers.numerics import ScaledModel, scale_model
from mipplan_formulations import LinearModel


@dataclass(frozen=True)
class ScipParams:
    """What SCIP is tuned to."""

    tolerance: float = 1e-9
    """Tolerance of rows, because the default 1e-6 would let a row of coefficients near 1 s be broken by
    microseconds."""
    epsilon: float = 1e-12
    """Two relative numbers this close are equal: the default 1e-9 makes equal two costs that differ by a micro-dollar
    in 8,000 dollars."""
    slack: float = 2e-6
    """Rows with event times are relaxed by far more than the tolerance, and far less than what matters to the
    search."""
    gain_bits: int = 12  # Long rows are scaled up by 2**12 at most, as for HiGHS.


class Scip(PackageBackend):
    """SCIP through MathOpt."""

    name = "scip"
    packages = ("ortools",)
    features = frozenset({SolverFeature.CONTINUOUS})
    params = ScipParams()

    def run(self, model: LinearModel, settings: Settings, start: Float64 | None) -> Answer[Float64]:
        """Solve a model."""
        from ortools.math_opt.python import mathopt

        scaled = scale_model(model, gain_bits=self.params.gain_bits, slack=self.params.slack)
        translated = mathopt.Model.from_model_proto(translate(model, scaled))
        hints = []
        if start is not None:
            values = dict(zip(translated.variables(), scaled.lower_values(start).tolist(), strict=True))
            hints.append(mathopt.SolutionHint(variable_values=values))
        try:
            result = mathopt.solve(
                translated,
                mathopt.SolverType.GSCIP,
                params=self._make_parameters(mathopt, model, scaled, settings),
                model_params=mathopt.ModelSolveParameters(solution_hints=hints),
                msg_cb=mathopt.printer_message_callback(file=sys.stderr) if settings.log else None,
            )
        except (AttributeError, RuntimeError, ValueError) as refusal:
            # MathOpt masks some refusals as the first
            raise SolverError(f"{self.name} refused the model: {refusal}") from refusal
        if result.termination.limit == mathopt.Limit.INTERRUPTED:
            raise KeyboardInterrupt
        return _read_answer(mathopt, scaled, result)

    def _make_parameters(
        self, mathopt: Any, model: LinearModel, scaled: ScaledModel, settings: Settings
    ) -> Any:
        # threads are left out: SCIP's search uses one
        parameters = mathopt.SolveParameters(
            enable_output=False,
            random_seed=settings.seed,
            relative_gap_tolerance=settings.gap,
            # objectives differ by a whole step, so half a step left is a proof
            absolute_gap_tolerance=scaled.objective_step / 2,
        )
        if settings.time_limit_s is not None:
            # Longer than anybody waits; no duration is much longer.
            parameters.time_limit = datetime.timedelta(seconds=min(settings.time_limit_s, 1e9))
        parameters.gscip.real_params["numerics/feastol"] = self.params.tolerance
        parameters.gscip.real_params["numerics/epsilon"] = self.params.epsilon
        if not model.integrality.all():
            # presolving loses solutions that keep rows with event times by a hair: one in 500 random near-ties
            parameters.gscip.int_params["presolving/maxrounds"] = 0
        # SCIP takes Ctrl-C from Python, so it had better act on it (it then prints a line to stdout that nothing can
        # keep back). MathOpt's own interrupter fails with this SCIP, and complains on stderr.
        parameters.gscip.bool_params["misc/catchctrlc"] = True
        return parameters


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
    entries.row_ids.extend(np.repeat(np.arange(model.num_rows), np.diff(scaled.starts)).tolist())
    entries.column_ids.extend(scaled.columns.tolist())
    entries.coefficients.extend(scaled.entries.tolist())
    used = np.flatnonzero(scaled.objective)
    proto.objective.linear_coefficients.ids.extend(used.tolist())
    proto.objective.linear_coefficients.values.extend(scaled.objective[used].tolist())
    return proto


def _read_answer(mathopt: Any, scaled: ScaledModel, result: Any) -> Answer[Float64]:
    reason, reasons = result.termination.reason, mathopt.TerminationReason
    termination = {
        reasons.OPTIMAL: Termination.OPTIMAL,
        reasons.INFEASIBLE: Termination.INFEASIBLE,
        reasons.INFEASIBLE_OR_UNBOUNDED: Termination.INFEASIBLE,  # bounded columns: it is the former
        reasons.FEASIBLE: Termination.FEASIBLE,
        reasons.NO_SOLUTION_FOUND: Termination.NO_SOLUTION_FOUND,
    }.get(reason)
    if termination is None:
        raise SolverError(f"{Scip.name}: ended with {reason.name}: {result.termination.detail}")
    values = None
    if termination in (Termination.OPTIMAL, Termination.FEASIBLE):
        by_column = result.variable_values()
        found = [by_column[column] for column in sorted(by_column, key=lambda column: column.id)]
        values = scaled.lift_values(np.array(found, dtype=np.float64))
    told = float(result.termination.objective_bounds.dual_bound)
    bound = scaled.lift_bound(told if abs(told) < 1e20 else -math.inf)  # SCIP's infinity is a number
    nodes = {"nodes": int(result.solve_stats.node_count)}
    return Answer(termination, values, lower_bound=bound, details=nodes)
