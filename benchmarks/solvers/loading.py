"""Handing a model over to a solver, up to where it would begin to solve: what building costs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

import numpy as np

from mipplan.solvers.highs import Highs, make_highs, pass_arrays
from mipplan.solvers.numerics import scale_model
from mipplan_formulations import LinearModel


def _into_highs(model: LinearModel) -> str:
    scaled = scale_model(model, gain_bits=Highs.params.gain_bits)
    pass_arrays(make_highs(), scaled, model.integrality)
    return version("highspy")


def _into_pulp_highs(model: LinearModel) -> str:
    import pulp

    problem, solver = _into_pulp(model), pulp.HiGHS(msg=False)
    solver.createAndConfigureSolver(problem)
    solver.buildSolverModel(problem)
    return version("pulp")


def _into_cbc(model: LinearModel) -> str:
    """PuLP hands models to CBC in a file."""
    with tempfile.TemporaryDirectory() as folder:
        _into_pulp(model).writeMPS(str(Path(folder) / "model.mps"), rename=True)
    return version("pulp")


def _into_pulp(model: LinearModel) -> object:
    from mipplan.solvers.pulp import build_pulp

    return build_pulp(model, scale_model(model))


def _into_cp_sat(model: LinearModel) -> str:
    from mipplan.solvers.cp_sat import translate

    translate(model, max(1, int(np.gcd.reduce(model.objective))))
    return version("ortools")


def _into_scip(model: LinearModel) -> str:
    from ortools.math_opt.python import mathopt

    from mipplan.solvers.scip import translate

    mathopt.Model.from_model_proto(translate(model, scale_model(model)))
    return version("ortools")


LOADERS: MappingProxyType[str, Callable[[LinearModel], str]] = MappingProxyType(
    {
        "highs": _into_highs,
        "pulp_highs": _into_pulp_highs,
        "cbc": _into_cbc,
        "cp_sat": _into_cp_sat,
        "scip": _into_scip,
    }
)
