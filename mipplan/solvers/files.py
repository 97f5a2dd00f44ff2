"""Writing a model to an LP or MPS file, for people and for other solvers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mipplan.solvers import highs
from mipplan.solvers.scaling import ScaledModel
from mipplan_formulations import LinearModel

_LARGEST_WRITTEN = 10**15
"""HiGHS writes 15 significant digits."""


def write_model(model: LinearModel, path: str | Path) -> None:
    """Write a model, unscaled and with its names, through HiGHS.

    Parameters
    ----------
    model : LinearModel
    path : str or Path
        The format follows the ending: ``.lp`` or ``.mps``.

    Raises
    ------
    ValueError
        If the ending is another, or a number has more digits than the file would keep.
    SolverError
        If the file cannot be written.
    SolverUnavailableError
        If highspy is not installed.
    """
    path = Path(path)
    if path.suffix not in (".lp", ".mps"):
        raise ValueError(f"{path.name}: expected a name that ends in .lp or .mps")
    sides = np.concatenate([model.row_lower, model.row_upper])
    for numbers in (model.objective, model.matrix.data, sides[np.isfinite(sides)]):
        if numbers.size and np.abs(numbers).max() >= _LARGEST_WRITTEN:
            raise ValueError(f"{path.name}: numbers of more than 15 digits would be rounded in the file")
    writer = highs.make_quiet_highs()
    highs.pass_arrays(writer, model, _unscaled(model))
    for j, name in enumerate(model.column_names):
        writer.passColName(j, name)
    for i, name in enumerate(model.row_names):
        writer.passRowName(i, name)
    highs.require(writer.writeModel(str(path)), f"to write {path}")


def _unscaled(model: LinearModel) -> ScaledModel:
    matrix = model.matrix.astype(np.float64)
    return ScaledModel(
        model.objective.astype(np.float64),
        matrix,
        model.row_lower,
        model.row_upper,
        model.column_lower,
        model.column_upper,
        np.zeros(model.num_columns, dtype=np.int64),
        1,
        1.0,
    )
