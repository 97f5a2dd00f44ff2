"""The planners that are compared, each asked the same; and a watch for Ctrl-C, which they take as their own end."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any

from mipplan.baselines import coarse_grained, half_slo, inferline
from mipplan.comparison.result import ComparisonRow, Contender
from mipplan.core import Report
from mipplan.pipeline import Pipeline
from mipplan.planner import plan
from mipplan.profiles import Profiles
from mipplan.refinement import refine
from mipplan.result import Plan
from mipplan.trace import Trace


@dataclass(frozen=True)
class PlanningTask:
    """What every planner is given: the part of the trace to plan on, and nothing of the rest."""

    pipeline: Pipeline
    profiles: Profiles
    trace: Trace
    slo_s: float
    quantile: float
    seed: int
    discipline: str  # That the plans are judged under; only refinement can make use of it.
    time_limit_s: float | None  # Of each search.
    _made: dict[Contender, ComparisonRow] = field(default_factory=dict, init=False, compare=False, repr=False)

    def make(self, contender: Contender, report: Report) -> ComparisonRow:
        """Have a planner make its plan, once; it is not judged yet."""
        if contender not in self._made:
            self._made[contender] = self._make(contender, report)
        return self._made[contender]

    def _make(self, contender: Contender, report: Report) -> ComparisonRow:
        searching = {"time_limit_s": self.time_limit_s, "progress": report}
        if contender is Contender.REFINED:
            # The time of the certified plan counts for both.
            start = self.make(Contender.CERTIFIED, report)
            made = _timed(contender, refine, start.plan, self.trace, discipline=self.discipline, **searching)
            calls = start.estimator_calls + made.estimator_calls
            return replace(made, planning_s=start.planning_s + made.planning_s, estimator_calls=calls)
        planners: dict[Contender, tuple[Callable[..., Plan], dict[str, Any]]] = {
            Contender.CERTIFIED: (plan, searching),
            Contender.INFERLINE: (inferline, searching),
            Contender.COARSE_MEAN: (coarse_grained, {"mode": "mean"}),
            Contender.COARSE_PEAK: (coarse_grained, {"mode": "peak"}),
            Contender.HALF_SLO: (half_slo, {}),
        }
        planner, more = planners[contender]
        asked = {"slo_s": self.slo_s, "quantile": self.quantile, "seed": self.seed, **more}
        return _timed(contender, planner, self.pipeline, self.profiles, self.trace, **asked)


def _timed(
    contender: Contender, planner: Callable[..., Plan], *given: object, **asked: object
) -> ComparisonRow:
    started = time.monotonic()
    made = planner(*given, **asked)
    elapsed_s = time.monotonic() - started
    if made.effort is not None:
        return ComparisonRow(contender, made, made.effort.seconds, made.effort.estimator_calls)
    return ComparisonRow(
        contender, made, elapsed_s, 0 if made.refinement is None else made.refinement.replays
    )


@contextmanager
def interrupts_seen() -> Iterator[list[int]]:
    """Within this context, note every Ctrl-C in a list; what Ctrl-C does otherwise stays the same.

    Planners stop at Ctrl-C and return what they have, so their caller would not hear of it and go on.
    """
    seen: list[int] = []
    previous = signal.getsignal(signal.SIGINT)
    # Python delivers signals to the main thread, and lets no other one set a handler.
    if not callable(previous) or threading.current_thread() is not threading.main_thread():
        yield seen
        return

    def notice(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        previous(number, frame)

    signal.signal(signal.SIGINT, notice)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, previous)
