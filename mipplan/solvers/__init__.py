"""Solving linear models with free solvers, each answer re-checked by our own arithmetic."""

from mipplan.solvers.answer import Answer, SolverInfo, Termination
from mipplan.solvers.dispatch import available_solvers, resolve_solver, solve
from mipplan.solvers.files import write_model
from mipplan.solvers.kept import KeptRelaxation, Relaxed
from mipplan.solvers.relaxation import Relaxation, relax

__all__ = [
    "Answer",
    "KeptRelaxation",
    "Relaxation",
    "Relaxed",
    "SolverInfo",
    "Termination",
    "available_solvers",
    "relax",
    "resolve_solver",
    "solve",
    "write_model",
]
