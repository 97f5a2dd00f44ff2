"""Running a backend from a start, and not believing a proof that contradicts itself.

HiGHS 1.16 now and then takes a start over into its presolved model at too low an objective (one start in a hundred, on
small random problems). It then finds nothing better than this, and calls the start optimal. Its bound gives it
away: it is below what the returned solution costs, by more than the gap asked for.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from types import ModuleType

import numpy as np

from mipplan.solvers.answer import RawAnswer, Settings, Termination
from mipplan_formulations import LinearModel

_LEAST_TIME_S = 1e-3


def run_from_start(backend: ModuleType, model: LinearModel, settings: Settings) -> RawAnswer:
    """Run a backend; once more, without the start, if its bound contradicts the optimum it claims."""
    began = time.perf_counter()
    raw: RawAnswer = backend.run(model, settings)
    if settings.start is None or not _contradicts_itself(model, raw, settings.gap):
        return raw
    left_s = settings.time_limit_s
    if left_s is not None:
        left_s = max(_LEAST_TIME_S, left_s - (time.perf_counter() - began))
    again: RawAnswer = backend.run(model, replace(settings, start=None, time_limit_s=left_s))
    if again.termination is Termination.NO_SOLUTION_FOUND:
        return replace(again, termination=Termination.FEASIBLE, values=raw.values)
    return again


def _contradicts_itself(model: LinearModel, raw: RawAnswer, gap: float) -> bool:
    if raw.termination is not Termination.OPTIMAL or raw.values is None or not math.isfinite(raw.lower_bound):
        return False
    used = np.flatnonzero(model.objective)
    objective = float(model.objective[used] @ np.rint(raw.values[used]))
    # bounds are whole steps of the objective: one below it is a step below it
    return objective - raw.lower_bound > gap * abs(objective) + 1e-9 * abs(objective)
