"""The planners that are compared, each asked the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from mipplan.baselines import coarse_grained, half_slo, inferline
from mipplan.pipeline import Pipeline
from mipplan.planner import plan
from mipplan.profiles import Profiles
from mipplan.refinement import refine
from mipplan.result import Plan
from mipplan.trace import Trace

#: Told of progress.
Report: TypeAlias = Callable[[str], None]


class Contender(StrEnum):
    """A planner that may be compared."""

    CERTIFIED = "certified"
    """`mipplan.plan`: the cheapest certified plan."""
    REFINED = "refined"
    """`mipplan.refine`, started from the certified plan."""
    INFERLINE = "inferline"
    """`mipplan.baselines.inferline`."""
    COARSE_MEAN = "coarse_mean"
    """`mipplan.baselines.coarse_grained`, sized for the mean rate."""
    COARSE_PEAK = "coarse_peak"
    """`mipplan.baselines.coarse_grained`, sized for the peak rate."""
    HALF_SLO = "half_slo"
    """`mipplan.baselines.half_slo`."""


@dataclass(frozen=True)
class Made:
    """A plan and what it took.

    Attributes
    ----------
    plan : Plan
    seconds : float
    estimator_calls : int
    """

    plan: Plan
    seconds: float
    estimator_calls: int


@dataclass(frozen=True)
class PlanningTask:
    """What every planner is given: the part of the trace to plan on, and nothing of the rest.

    Attributes
    ----------
    pipeline : Pipeline
    profiles : Profiles
    trace : Trace
    slo_s, quantile : float
    seed : int
    discipline : str
        That the plans are judged under; only refinement can make use of it.
    time_limit_s : float or None
        Of each search.
    """

    pipeline: Pipeline
    profiles: Profiles
    trace: Trace
    slo_s: float
    quantile: float
    seed: int
    discipline: str
    time_limit_s: float | None
    _made: dict[Contender, Made] = field(default_factory=dict, init=False, compare=False, repr=False)

    def make(self, contender: Contender, report: Report) -> Made:
        """Have a planner make its plan, once."""
        if contender not in self._made:
            self._made[contender] = self._make(contender, report)
        return self._made[contender]

    def _make(self, contender: Contender, report: Report) -> Made:
        match contender:
            case Contender.CERTIFIED:
                return self._ask(plan, time_limit_s=self.time_limit_s, progress=report)
            case Contender.REFINED:
                return self._refined(report)
            case Contender.INFERLINE:
                return self._ask(inferline, time_limit_s=self.time_limit_s, progress=report)
            case Contender.COARSE_MEAN:
                return self._ask(coarse_grained, mode="mean")
            case Contender.COARSE_PEAK:
                return self._ask(coarse_grained, mode="peak")
            case Contender.HALF_SLO:
                return self._ask(half_slo)

    def _refined(self, report: Report) -> Made:
        """Refine the certified plan, whose time counts for both."""
        start = self.make(Contender.CERTIFIED, report)
        made = _timed(
            lambda: refine(
                start.plan,
                self.trace,
                discipline=self.discipline,
                time_limit_s=self.time_limit_s,
                progress=report,
            )
        )
        return Made(made.plan, start.seconds + made.seconds, start.estimator_calls + made.estimator_calls)

    def _ask(self, planner: Callable[..., Plan], **more: object) -> Made:
        return _timed(
            lambda: planner(
                self.pipeline,
                self.profiles,
                self.trace,
                slo_s=self.slo_s,
                quantile=self.quantile,
                seed=self.seed,
                **more,
            )
        )


def _timed(make: Callable[[], Plan]) -> Made:
    started = time.monotonic()
    made = make()
    elapsed_s = time.monotonic() - started
    if made.effort is not None:
        return Made(made, made.effort.seconds, made.effort.estimator_calls)
    return Made(made, elapsed_s, 0 if made.refinement is None else made.refinement.replays)
