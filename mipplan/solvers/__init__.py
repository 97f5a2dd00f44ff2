"""Solving linear models with free solvers, each answer re-checked by our own arithmetic."""

from mipplan.solvers.answer import Answer, SolverInfo, Termination
from mipplan.solvers.dispatch import available_solvers, resolve_solver, solve
from mipplan.solvers.files import write_model
from mipplan.solvers.relaxation import Relaxation, Relaxations, relax

__all__ = [
    "Answer",
    "Relaxation",
    "Relaxations",
    "SolverInfo",
    "Termination",
    "available_solvers",
    "relax",
    "resolve_solver",
    "solve",
    "write_model",
]
