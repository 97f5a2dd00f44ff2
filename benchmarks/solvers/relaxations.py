"""Linear relaxations by three solvers; each bound is proven from the multipliers it returns, however rough they are."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from types import MappingProxyType

import numpy as np

from mipplan.solvers import relax
from mipplan.solvers.lp import prove
from mipplan.solvers.numerics import scale_model
from mipplan.solvers.scip import translate
from mipplan_formulations import LinearModel


@dataclass(frozen=True)
class Outcome:
    """A proven bound, None if the solver was not done in time, and the solver's version."""

    bound: float | None
    version: str


def _by_highs(model: LinearModel, time_limit_s: float) -> Outcome:
    relaxation = relax(model, time_limit_s=time_limit_s)
    return Outcome(None if relaxation is None else relaxation.bound, version("highspy"))


def _by_glop(model: LinearModel, time_limit_s: float) -> Outcome:
    return _by_ortools("GLOP", model, time_limit_s)


def _by_pdlp(model: LinearModel, time_limit_s: float) -> Outcome:
    return _by_ortools("PDLP", model, time_limit_s)


def _by_ortools(solver: str, model: LinearModel, time_limit_s: float) -> Outcome:
    from ortools.math_opt.python import mathopt

    scaled = scale_model(model)
    proto = translate(model, scaled)
    proto.variables.integers[:] = [False] * model.num_columns
    relaxed = mathopt.Model.from_model_proto(proto)
    limit = datetime.timedelta(seconds=time_limit_s)
    # PDLP counts threads, GLOP has but one.
    threads = 1 if solver == "PDLP" else None
    parameters = mathopt.SolveParameters(time_limit=limit, threads=threads)
    result = mathopt.solve(relaxed, mathopt.SolverType[solver], params=parameters)
    if result.termination.reason != mathopt.TerminationReason.OPTIMAL:
        return Outcome(None, version("ortools"))
    duals = np.zeros(model.num_rows)
    for row, dual in result.dual_values().items():
        duals[row.id] = dual
    return Outcome(prove(scaled, duals, scaled.column_upper).bound, version("ortools"))


RELAXERS: MappingProxyType[str, Callable[[LinearModel, float], Outcome]] = MappingProxyType(
    {"highs_lp": _by_highs, "glop": _by_glop, "pdlp": _by_pdlp}
)
