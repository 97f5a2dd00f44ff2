"""Solving linear models with free solvers, each answer re-checked by our own arithmetic."""

from mipplan.solvers.backend import Answer, Backend, ProblemAnswer, SolverFeature, SolverInfo, Termination
from mipplan.solvers.highs import write_model
from mipplan.solvers.lp import (
    Continuous,
    IncrementalLp,
    Relaxation,
    Relaxations,
    Relaxed,
    relax,
    solve_relaxed,
)
from mipplan.solvers.presolve import ReducedProblem, shrink
from mipplan.solvers.register import (
    AUTO,
    LINEAR_BACKENDS,
    available_problem_solvers,
    available_solvers,
    choose_formulation,
    resolve_solver,
    solve,
    solve_problem,
)

#: By name, those that `solve` hands linear models to, whether or not they work here.
SOLVERS = LINEAR_BACKENDS

# Former names, for whoever still uses them.
KeptRelaxation = IncrementalLp
Shrunk = ReducedProblem

__all__ = [
    "AUTO",
    "SOLVERS",
    "Answer",
    "Backend",
    "Continuous",
    "IncrementalLp",
    "KeptRelaxation",
    "ProblemAnswer",
    "ReducedProblem",
    "Relaxation",
    "Relaxations",
    "Relaxed",
    "Shrunk",
    "SolverFeature",
    "SolverInfo",
    "Termination",
    "available_problem_solvers",
    "available_solvers",
    "choose_formulation",
    "relax",
    "resolve_solver",
    "shrink",
    "solve",
    "solve_problem",
    "solve_relaxed",
    "write_model",
]
