"""Judging linear models without any of our solvers: their points, and the optimum of their relaxation."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog

from mipplan_formulations import LinearModel


def is_solution(model: LinearModel, values: np.ndarray) -> bool:
    """Whether whole values keep all rows and bounds."""
    activity = model.matrix @ values.astype(np.int64)
    kept = np.all(activity >= model.row_lower) and np.all(activity <= model.row_upper)
    return bool(kept and np.all((values >= model.column_lower) & (values <= model.column_upper)))


def relaxed_optimum(model: LinearModel) -> float:
    """Optimum of the linear relaxation, infinite where it has no point."""
    equal = model.row_lower == model.row_upper
    matrix = model.matrix.toarray()
    sides = [(matrix[~equal], model.row_upper[~equal]), (-matrix[~equal], -model.row_lower[~equal])]
    rows = np.vstack([part for part, _ in sides])
    uppers = np.concatenate([upper for _, upper in sides])
    finite = np.isfinite(uppers)
    bounds = np.column_stack([model.column_lower, model.column_upper])
    solved = linprog(
        model.objective,
        A_ub=rows[finite] if finite.any() else None,
        b_ub=uppers[finite] if finite.any() else None,
        A_eq=matrix[equal],
        b_eq=model.row_lower[equal],
        bounds=bounds,
        method="highs",
    )
    assert solved.status in (0, 2)
    return float(solved.fun) if solved.status == 0 else np.inf
