"""Solving linear models with free solvers, each answer re-checked by our own arithmetic."""

from mipplan.solvers.answer import Answer, SolverInfo, Termination
from mipplan.solvers.dispatch import available_solvers, resolve_solver, solve
from mipplan.solvers.files import write_model
from mipplan.solvers.kept import KeptRelaxation, Relaxed
from mipplan.solvers.relaxation import Continuous, Relaxation, relax, solve_relaxed

__all__ = [
    "Answer",
    "Continuous",
    "KeptRelaxation",
    "Relaxation",
    "Relaxed",
    "SolverInfo",
    "Termination",
    "available_solvers",
    "relax",
    "resolve_solver",
    "solve",
    "solve_relaxed",
    "write_model",
]
