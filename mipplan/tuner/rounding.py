"""From a solution of the relaxation to whole units, in exact arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mipplan.tuner.timing import Timing
from mipplan_formulations import ScalingEvaluation, ScalingProblem
from mipplan_formulations.scaling import WHOLE

#: Further from a whole number than the solver's tolerance.
_CLOSE = 1e-5


def round_shedding(
    problem: ScalingProblem, relaxed: NDArray[np.float64], shed: Sequence[float]
) -> list[int] | None:
    """Whole units of a problem without demands, close to the relaxation's; None if none keep the resources.

    Each unit is rounded up. Where a resource does not admit that, first what is more than needed goes, then the group
    for which that costs least sheds a little more, and so on: at most a unit per activity is too many.

    Parameters
    ----------
    problem : ScalingProblem
    relaxed : float64, shape (v,)
        Units in the relaxation.
    shed : sequence of float
        Thousandths shed in it, per group.
    """
    rounding = _Rounding(problem, shed)
    upwards = np.ceil(relaxed - _CLOSE).astype(np.int64)
    units = np.clip(np.maximum(upwards, rounding.floors()), problem.least, problem.most)
    while (broken := rounding.broken(units)) is not None:
        usage = rounding.usage[:, broken]
        spare = np.flatnonzero((units > rounding.floors()) & (usage > 0))
        if spare.size:
            worst = spare[np.argmax(usage[spare] * (units - rounding.floors())[spare])]
            units[worst] -= 1
        elif not rounding.shed_more(usage > 0, units):
            return None
    rounding.shed_less(units)
    return [int(n) for n in units]


def round_times(problem: ScalingProblem, relaxed: NDArray[np.float64]) -> list[int] | None:
    """Whole units that keep every deadline, close to the relaxation's; for activities without demand the least.

    Rounded up, then raised where the relaxation was too easy, then lowered one by one while the deadlines are kept: the
    dearest first, or, if a resource does not admit what is left, those that use most of it.
    """
    timing = Timing(problem)
    floors = np.maximum(problem.least, -(-problem.need // WHOLE))
    whole = np.maximum(floors, np.ceil(relaxed - _CLOSE).astype(np.int64))
    units = np.where(problem.is_timed, whole, problem.least).tolist()
    if not timing.is_kept(units):
        raised = timing.raised(units)
        if raised is None:
            return None
        units = raised
    lowered = timing.lowered(units, floors.tolist(), [a.cost for a in problem.activities])
    usage = np.array([a.usage for a in problem.activities], dtype=np.int64).reshape(len(units), -1)
    over = lowered @ usage > [resource.capacity for resource in problem.resources]
    if over.any():
        return timing.lowered(units, floors.tolist(), usage[:, over].sum(axis=1).tolist())
    return lowered


def improve(
    problem: ScalingProblem, units: Sequence[int], evaluation: ScalingEvaluation
) -> tuple[list[int], ScalingEvaluation]:
    """Change one activity by a unit, as long as that makes feasible units cheaper: always the best such change."""
    chosen = list(units)
    while True:
        better: tuple[int, list[int], ScalingEvaluation] | None = None
        for v, n in enumerate(chosen):
            for other in (n - 1, n + 1):
                if problem.least[v] <= other <= problem.most[v]:
                    tried = [*chosen[:v], other, *chosen[v + 1 :]]
                    judged = problem.evaluate(tried)
                    if judged.feasible and judged.cost < (better[0] if better else evaluation.cost):
                        better = (judged.cost, tried, judged)
        if better is None:
            return chosen, evaluation
        _, chosen, evaluation = better


class _Rounding:
    """Units needed at least, as what is shed changes."""

    def __init__(self, problem: ScalingProblem, shed: Sequence[float]) -> None:
        self.problem = problem
        self.usage = np.array([a.usage for a in problem.activities], dtype=np.int64).reshape(
            problem.need.size, -1
        )
        self._capacity = np.array([r.capacity for r in problem.resources], dtype=np.int64)
        self._group = np.array([a.group for a in problem.activities], dtype=np.int64)
        may = [g.penalty is not None for g in problem.groups]
        self.shed = np.where(may, np.clip(np.floor(np.asarray(shed) + _CLOSE), 0, WHOLE), 0).astype(np.int64)
        most_kept = problem.most * WHOLE * WHOLE // np.maximum(1, problem.need)
        np.maximum.at(self.shed, self._group, np.maximum(0, WHOLE - most_kept))
        self._least_shed = self.shed.copy()
        self._penalty = np.array(
            [-1 if g.penalty is None else g.penalty for g in problem.groups], dtype=np.int64
        )

    def floors(self) -> NDArray[np.int64]:
        """Units needed at least with what is shed now, within what is allowed."""
        left = WHOLE - self.shed[self._group]
        needed = -(-self.problem.need * left // (WHOLE * WHOLE))
        return np.asarray(np.clip(needed, self.problem.least, self.problem.most), dtype=np.int64)

    def broken(self, units: NDArray[np.int64]) -> int | None:
        """Index of a resource that does not suffice."""
        over = np.flatnonzero(units @ self.usage > self._capacity)
        return int(over[0]) if over.size else None

    def shed_more(self, users: NDArray[np.bool_], units: NDArray[np.int64]) -> bool:
        """Let one group shed so much more that one of the users needs a unit less; False if none can."""
        best: tuple[float, int, int] | None = None
        for v in np.flatnonzero(users & (units > self.problem.least)).tolist():
            group = int(self._group[v])
            if self._penalty[group] < 0:
                continue
            # need·(1000 − s) ≤ (n − 1)·10⁶
            enough = WHOLE - (int(units[v]) - 1) * WHOLE * WHOLE // int(self.problem.need[v])
            if enough <= WHOLE:
                loss = float(self._penalty[group]) * (enough - int(self.shed[group]))
                best = min(best or (loss, v, enough), (loss, v, enough))
        if best is None:
            return False
        group = int(self._group[best[1]])
        self.shed[group] = max(int(self.shed[group]), best[2])
        np.copyto(units, np.where(self._group == group, np.minimum(units, self._kept(units)), units))
        return True

    def shed_less(self, units: NDArray[np.int64]) -> None:
        """Give the groups back what the resources still admit, the dearest first, up to what the relaxation serves."""
        for group in np.argsort(-self._penalty, kind="stable").tolist():
            low, high = int(self._least_shed[group]), int(self.shed[group])
            while low < high:
                self.shed[group] = (low + high) // 2
                if self.broken(np.maximum(units, self.floors())) is None:
                    high = int(self.shed[group])
                else:
                    low = int(self.shed[group]) + 1
            self.shed[group] = high
            np.copyto(units, np.maximum(units, self.floors()))

    def _kept(self, units: NDArray[np.int64]) -> NDArray[np.int64]:
        """Units above the floors are given up with the group's shedding."""
        return np.minimum(units, self.floors())
