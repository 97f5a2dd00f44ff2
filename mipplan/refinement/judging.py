"""Judging single plans by their replay, and a part of the trace that stands for the whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mipplan.refinement.domains import Options, Problem
from mipplan.refinement.least_times import find_least_times
from mipplan.refinement.meter import Meter
from mipplan.refinement.stage_runs import StageReplays, StageRun
from mipplan.replayer import NEVER

#: Weight of the latest plan in the share of late queries that show on the screen.
_LEARNING = 0.5


class Judge:
    """Says of single plans whether they keep the deadline.

    Parameters
    ----------
    problem : Problem
        Plans must be made of its domains.
    replays : StageReplays
        On its workload.
    """

    def __init__(self, problem: Problem, replays: StageReplays) -> None:
        self.problem = problem
        self._replays = replays
        self._times = find_least_times(problem.workload, problem.domains, problem.deadline_ns)

    def keeps(self, options: Options, meter: Meter) -> bool:
        """Whether a plan keeps deadline and device limits."""
        used: Counter[str] = Counter()
        for option in options.values():
            used[option.family.hardware] += option.replicas
        if any(used[name] > limit for name, limit in self.problem.limits.items()):
            return False
        return self.count_late(options, meter) <= self.problem.allowed

    def count_late(self, options: Options, meter: Meter) -> int:
        """Count late queries; once they are more than allowed, those known by then."""
        late = np.zeros(self.problem.workload.queries, dtype=np.bool_)
        runs: dict[str, StageRun] = {}
        count = 0
        for stage in self.problem.workload.stages:
            runs[stage] = self._replays.serve(stage, [options[stage]], runs, meter)[0]
            late[self._times.late_queries(stage, runs[stage].exit_ns)] = True
            count = int(np.count_nonzero(late))
            if count > self.problem.allowed:
                break
        meter.tally.replays += 1
        return count

    def replay(self, options: Options, meter: Meter) -> dict[str, StageRun]:
        """Replay all stages of a plan."""
        runs: dict[str, StageRun] = {}
        for stage in self.problem.workload.stages:
            runs[stage] = self._replays.serve(stage, [options[stage]], runs, meter)[0]
        return runs

    def lateness_ns(self, runs: Mapping[str, StageRun]) -> NDArray[np.int64]:
        """By how much each query misses the deadline; negative if it keeps it."""
        workload = self.problem.workload
        lateness = np.full(workload.queries, -NEVER, dtype=np.int64)
        for stage, tokens in workload.stages.items():
            np.maximum.at(lateness, tokens.query, runs[stage].exit_ns - self._times.due_ns[stage])
        return lateness


class Screen:
    """A part of the trace in place of the whole, and how many of the late queries show there.

    What keeps the deadline on the part is judged on the whole. From every such plan is learnt how many may be late
    on the part, so that few are put forward in vain.

    Parameters
    ----------
    part, whole : Judge
        The same if the trace is not screened.
    """

    def __init__(self, part: Judge, whole: Judge) -> None:
        self._part = part
        self._whole = whole
        self._share = 1.0

    @property
    def problem(self) -> Problem:
        """On the part, with as many late queries as allow for those elsewhere."""
        if self._part is self._whole:
            return self._whole.problem
        return replace(self._part.problem, allowed=int(self._share * self._whole.problem.allowed))

    def confirms(self, options: Options, meter: Meter) -> bool:
        """Whether a plan that keeps the deadline on the part does so on the whole trace."""
        if self._part is self._whole:
            return True
        late = self._whole.count_late(options, meter)
        allowed = self._whole.problem.allowed
        if late > allowed // 2:  # of a few late queries the share is a matter of chance
            share = min(1.0, self._part.count_late(options, meter) / late)
            self._share += _LEARNING * (share - self._share)
        return late <= allowed
