"""Solving linear models with free solvers, each answer re-checked by our own arithmetic."""

from mipplan.solvers.answer import Answer, SolverInfo, Termination
from mipplan.solvers.auto import NAME, choose_formulation
from mipplan.solvers.dispatch import available_solvers, resolve_solver, solve
from mipplan.solvers.files import write_model
from mipplan.solvers.kept import KeptRelaxation, Relaxed
from mipplan.solvers.problem_answer import ProblemAnswer
from mipplan.solvers.problems import available_problem_solvers, solve_problem
from mipplan.solvers.relaxation import Continuous, Relaxation, Relaxations, relax, solve_relaxed
from mipplan.solvers.shrinking import Shrunk, shrink

__all__ = [
    "NAME",
    "Answer",
    "Continuous",
    "KeptRelaxation",
    "ProblemAnswer",
    "Relaxation",
    "Relaxations",
    "Relaxed",
    "Shrunk",
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
