"""Choices near their bound on cost, listed and heard, the cheapest first: the first certified one is the cheapest.

Listing needs no halving as long as the choices are few, and that they mostly are where a bound is close: the linear
relaxation drops them by their sum of reduced costs, the master's own rows by their latency bound, in integers
(`mipplan.planner.candidates`). Of those that are left each one that the certificate refuses yields witnesses, who
refuse most of the others at once.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from mipplan.core import Int64
from mipplan.planner.candidates import Bounds, Candidates, PathPart, StagePart, TooManyError, list_choices
from mipplan.planner.hearing import Hearing
from mipplan.planner.pricing import Prices
from mipplan_formulations import TimeCostProblem

#: So many choices are asked about together.
_TOGETHER = 2_000
#: More than this are not put before the judge of one list.
_MOST_HEARD = 400


class Listing:
    """Lists choices of some options and hears them.

    Parameters
    ----------
    hearing : Hearing
    problem : TimeCostProblem
        A master over the same options.
    """

    def __init__(self, hearing: Hearing, problem: TimeCostProblem) -> None:
        self._hearing = hearing
        self._problem = problem
        self._capacities = np.array([resource.capacity for resource in problem.resources], dtype=np.int64)
        self.labels = 0
        self.heard = 0

    def cheapest(self, rows: Int64, prices: Prices, most: int, labels: int, ends_at: float) -> Int64 | None:
        """Cheapest choice of certain options that keeps everything and costs at most `most`; None if there is none.

        Parameters
        ----------
        rows : int64, shape (m,)
            The options, ascending, some of every stage.
        prices : Prices
            Of these or more options.
        most : int
            Micro-dollars per hour.
        labels : int
            Partial choices to keep at most at once.
        ends_at : float
            ``time.monotonic()`` value at which to stop.

        Raises
        ------
        TooManyError
            If there are more partial choices, or too many complete ones to hear, or the time is up.
        """
        found = self._listed(rows, prices, most, labels)
        self.labels = found.labels
        heard = self.heard
        for start in range(0, found.cost.size, _TOGETHER):
            picks = found.picks[start : start + _TOGETHER]
            picks = picks[self._hearing.not_refused(picks)]
            while len(picks):
                if time.monotonic() >= ends_at or self.heard - heard >= _MOST_HEARD:
                    raise TooManyError
                pick: Int64 = picks[0]
                picks = picks[1:]
                if not self._hearing.is_allowed(pick):
                    continue
                self.heard += 1
                if self._hearing.keeps_slo(pick):
                    return pick
                picks = picks[self._hearing.are_better(picks, pick)]
                picks = picks[self._hearing.not_refused(picks, 1)]
        return None

    def _listed(self, rows: Int64, prices: Prices, most: int, labels: int) -> Candidates:
        first = self._hearing.first
        parts = []
        for own, start, activity in zip(
            np.split(rows, np.searchsorted(rows, first[1:])), first, self._problem.activities, strict=True
        ):
            mode = own - start
            parts.append(
                StagePart(
                    own,
                    activity.cost[mode],
                    prices.reduced[own],
                    activity.duration[mode],
                    activity.usage[mode],
                )
            )
        paths = [
            PathPart(
                path.activities,
                path.lag,
                tuple(
                    waits[parts[stage].rows - first[stage]]
                    for stage, waits in zip(path.activities, path.waits, strict=True)
                ),
            )
            for path in self._problem.paths
        ]
        bounds = Bounds(self._problem.deadline, most - prices.bound, most, self._capacities, labels)
        found = list_choices(parts, paths, bounds)
        return found.keep(self._keep_covers(found.picks - first)).in_order()

    def _keep_covers(self, modes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which choices of modes, shape (k, stages), meet all covers."""
        kept = np.ones(len(modes), dtype=bool)
        for cover in self._problem.covers:
            kept &= np.any([marked[modes[:, stage]] for stage, marked in cover.members], axis=0)
        return kept
