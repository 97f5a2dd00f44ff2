"""Linear models as PuLP's objects, for the solvers that are reached through PuLP."""

from __future__ import annotations

from typing import Any

import numpy as np

from mipplan.solvers.scaling import ScaledModel
from mipplan_formulations import LinearModel


def build_pulp(model: LinearModel, scaled: ScaledModel) -> Any:
    """Build PuLP's objects, columns named ``x{j}``. Its expressions are dictionaries, hence the loops."""
    import pulp

    problem = pulp.LpProblem("model", pulp.LpMinimize)
    columns = [
        problem.add_variable(f"x{j}", lower, upper, pulp.LpInteger if integral else pulp.LpContinuous)
        for j, (lower, upper, integral) in enumerate(
            zip(scaled.column_lower.tolist(), scaled.column_upper.tolist(), model.integrality, strict=True)
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
