"""Solving a problem by a linear model of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from mipplan.solvers.answer import Settings
from mipplan.solvers.dispatch import solve
from mipplan.solvers.problem_answer import RawProblemAnswer
from mipplan_formulations import FORMULATIONS, TimeCostProblem

_LEAST_TIME_S = 1e-3


def solve_by_model(
    problem: TimeCostProblem, formulation: str, solver: str, settings: Settings, start: Sequence[int] | None
) -> tuple[RawProblemAnswer, float]:
    """Build a linear model, solve it, and return the answer in terms of the problem, and the seconds of building.

    Parameters
    ----------
    problem : TimeCostProblem
    formulation, solver : str
        Names; the solver works here.
    settings : Settings
        The time limit includes building.
    start : sequence of int or None
        A mode per activity to start from.
    """
    chosen = FORMULATIONS[formulation]
    began = time.perf_counter()
    model = chosen.build(problem)
    build_s = time.perf_counter() - began
    if settings.time_limit_s is not None:
        settings = replace(settings, time_limit_s=max(_LEAST_TIME_S, settings.time_limit_s - build_s))
    answer = solve(
        model,
        solver,
        time_limit_s=settings.time_limit_s,
        gap=settings.gap,
        threads=settings.threads,
        seed=settings.seed,
        log=settings.log,
        start=None if start is None else chosen.encode(problem, model, start),
    )
    selection = None if answer.values is None else chosen.decode(problem, model, answer.values)
    return RawProblemAnswer(answer.termination, selection, answer.lower_bound, answer.details), build_s
