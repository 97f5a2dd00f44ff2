"""Simulated annealing [1]_: cheap selections where many paths meet a deadline, in a fraction of a second.

An exchange of one mode for a cheaper one mostly makes some path late. So an exchange that does is tried together with
one of another activity on such a path, at random: selections stay feasible, and two activities may share time in
another way. Measured on layered graphs of 100 stages, a million exchanges take 0.2 s and come within half a percent of
the best selection known.

References
----------
.. [1] S. Kirkpatrick, C. D. Gelatt, M. P. Vecchi, "Optimization by simulated annealing", Science 220 (1983),
   doi:10.1126/science.220.4598.671.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mipplan_formulations.time_cost.paths import breakable_paths
from mipplan_formulations.time_cost.problem import TimeCostProblem


@dataclass(frozen=True)
class AnnealingParams:
    """How hot it begins, and how many exchanges are tried; measured on layered graphs of 100 stages."""

    moves: int = 1_000_000
    """Exchanges tried per run: 0.2 s. Several such runs found more than one of as many exchanges."""
    stops: int = 100_000_000
    """Fewer exchanges are tried where they would look at more stops of paths, so that a run takes no longer."""
    hottest: float = 0.3
    """Of what an activity costs in the mean: at first exchanges that cost so much more are taken one time in e."""
    coldest: float = 0.005
    """The same, at the end."""


DEFAULT = AnnealingParams()


def can_anneal(problem: TimeCostProblem) -> bool:
    """Whether the problem has nothing but paths to keep, and numba is there, which is loaded to see."""
    if problem.resources or problem.covers:
        return False
    from mipplan_formulations.compiled import IS_COMPILED

    return IS_COMPILED


class Annealer:
    """Runs on one problem, which is laid out in arrays once.

    Raises `ValueError` where `can_anneal` says no.
    """

    def __init__(self, problem: TimeCostProblem, params: AnnealingParams = DEFAULT) -> None:
        if not can_anneal(problem):
            raise ValueError("annealing needs numba, and a problem without resources and covers")
        self._problem, self._params = problem, params
        paths = [path for _, path in breakable_paths(problem)]
        activity = np.array([v for path in paths for v in path.activities], dtype=np.int64)
        path_of = np.repeat(np.arange(len(paths)), [len(path.activities) for path in paths])
        passing = np.array([len(path.activities) for path in paths], dtype=np.int64)[path_of]
        self._moves = min(params.moves, params.stops * len(problem.activities) // max(1, int(passing.sum())))
        waits = [np.maximum(own, path.least_wait) for path in paths for own in path.waits]
        first = np.cumsum([0, *problem.mode_counts])
        self._arrays = (
            np.concatenate([a.cost for a in problem.activities]),
            np.concatenate([a.duration for a in problem.activities]),
            first.astype(np.int64),
            np.array(problem.mode_counts, dtype=np.int64),
            np.array([problem.deadline - path.lag for path in paths], dtype=np.int64),
            activity,
            np.cumsum([0, *(own.size for own in waits)]).astype(np.int64),
            np.concatenate([np.zeros(0, dtype=np.int64), *waits]),
            np.searchsorted(path_of, np.arange(len(paths) + 1)).astype(np.int64),
            # The paths through each activity, and where those of the next begin.
            np.searchsorted(np.sort(activity), np.arange(len(problem.activities) + 1)).astype(np.int64),
            path_of[np.argsort(activity, kind="stable")].astype(np.int64),
        )

    def run(self, selection: Sequence[int], seed: int) -> tuple[int, ...]:
        """Return the cheapest selection that one run comes across from a feasible one, perhaps that itself."""
        from mipplan_formulations.compiled import anneal

        mean = max(1.0, self._problem.cost_of(selection) / len(selection))
        chosen, best = np.array([selection, selection], dtype=np.int64)
        anneal(
            self._arrays,
            chosen,
            best,
            self._moves,
            self._params.hottest * mean,
            self._params.coldest * mean,
            np.random.default_rng(seed),
        )
        return tuple(best.tolist())

    def improve(self, selection: Sequence[int], seeds: Iterable[int], ends_at: float) -> tuple[int, ...]:
        """The cheapest of a run per seed, or of fewer if the ``time.monotonic()`` value comes first."""
        found = tuple(map(int, selection))
        for seed in seeds:
            if time.monotonic() > ends_at:
                break
            found = min(found, self.run(selection, seed), key=self._problem.cost_of)
        return found
