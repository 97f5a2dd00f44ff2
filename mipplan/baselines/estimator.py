"""What a greedy search asks of the replay: whether a configuration keeps the objective."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from mipplan.baselines.configuration import Assignment, Configuration
from mipplan.baselines.problem import Problem
from mipplan.core import Int64, higher_rank
from mipplan.replayer import Capacity, StageTask, resolve_engine
from mipplan.result import Choice

#: The choices of a stage and of all stages above it: what happens at the stage depends on nothing else.
_Cause: TypeAlias = tuple[Choice, ...]

#: Discipline of InferLine's own estimator, and of the frameworks it configures.
DISCIPLINE = "fifo"
#: Replays of one stage that are remembered. A search alters one stage at a time: what recurs is the stage as it is,
#: and as it was before the last attempts.
_REMEMBERED = 4


class TimeUpError(Exception):
    """The search's time limit has passed."""


@dataclass(frozen=True)
class _Seen:
    """What happened at one stage.

    Attributes
    ----------
    exit_ns : int64, shape (tokens,)
    late : int64, shape (l,)
        Queries with a token that leaves later than the objective allows.
    waited : bool
        Whether any token waited.
    """

    exit_ns: Int64
    late: Int64
    waited: bool


class Estimator:
    """Judges configurations by exact replays, each once.

    A stage is replayed only if it or one above it differs from what is remembered, and a configuration is refused
    at the first stage by which too many queries are late.

    Parameters
    ----------
    problem : Problem
    engine : str
        As for `mipplan.replay`.
    ends_at : float
        Time (`time.monotonic`) after which every question raises `TimeUpError`.

    Attributes
    ----------
    calls : int
        Configurations judged so far; asking again for one of them costs nothing and is not counted.
    """

    def __init__(self, problem: Problem, engine: str, ends_at: float) -> None:
        self.calls = 0
        self._problem = problem
        self._engine = resolve_engine(engine, frozenset())
        self._ends_at = ends_at
        queries = problem.workload.queries
        self._allowed = queries - 1 - higher_rank(problem.base.quantile, queries)
        self._above = _stages_above(problem)
        self._known: dict[_Cause, bool] = {}
        self._seen: dict[str, dict[_Cause, _Seen]] = {stage: {} for stage in problem.workload.stages}

    def keeps(self, configuration: Configuration) -> bool:
        """Whether the replayed latency quantile is at most the objective.

        Raises
        ------
        TimeUpError
        """
        key = tuple(assignment.choice for assignment in configuration.values())
        if key not in self._known:
            if time.monotonic() > self._ends_at:
                raise TimeUpError
            self.calls += 1
            self._known[key] = self._judge(configuration)
        return self._known[key]

    def first_kept(self, configurations: Iterable[Configuration]) -> Configuration | None:
        """Return the first configuration that keeps the objective; those after it are not replayed."""
        return next((candidate for candidate in configurations if self.keeps(candidate)), None)

    def anyone_waits(self, configuration: Configuration, stages: Sequence[str]) -> bool:
        """Whether a token waits at one of these stages: if none does, more replicas there change nothing."""
        ordered = [stage for stage in self._problem.workload.stages if stage in stages]
        return any(self._replay(configuration, stage).waited for stage in ordered)

    def _judge(self, configuration: Configuration) -> bool:
        late = np.zeros(self._problem.workload.queries, dtype=np.bool_)
        for stage in self._problem.workload.stages:
            late[self._replay(configuration, stage).late] = True
            if int(np.count_nonzero(late)) > self._allowed:
                return False
        return True

    def _replay(self, configuration: Configuration, stage: str) -> _Seen:
        """Replay one stage, and those above it, unless they are remembered."""
        remembered = self._seen[stage]
        cause = tuple(configuration[name].choice for name in self._above[stage])
        # Taken out and put back in, so that what was asked for longest ago comes first.
        seen = remembered.pop(cause, None)
        if seen is None:
            parents = {edge.parent for edge in self._problem.pipeline.incoming(stage)}
            exits = {parent: self._replay(configuration, parent).exit_ns for parent in parents}
            seen = self._serve(stage, configuration[stage], self._problem.workload.arrival_ns(stage, exits))
        remembered[cause] = seen
        if len(remembered) > _REMEMBERED:
            del remembered[next(iter(remembered))]
        return seen

    def _serve(self, stage: str, assignment: Assignment, arrival_ns: Int64) -> _Seen:
        task = StageTask(
            arrival_ns,
            assignment.family.service_ns[np.newaxis],
            Capacity.constant(assignment.replicas),
            fifo=DISCIPLINE == "fifo",
        )
        served = self._engine.serve_many([task])[0]
        workload = self._problem.workload
        query = workload.stages[stage].query
        late = query[served.exit_ns - workload.ingress_ns[query] > self._problem.deadline_ns]
        return _Seen(served.exit_ns, late, bool(np.any(served.dispatch_ns > arrival_ns)))


def _stages_above(problem: Problem) -> dict[str, tuple[str, ...]]:
    """Each stage with all stages that its tokens come through, in a fixed order."""
    above: dict[str, set[str]] = {}
    for stage in problem.workload.stages:
        parents = {edge.parent for edge in problem.pipeline.incoming(stage)}
        above[stage] = {stage}.union(*(above[parent] for parent in parents))
    return {stage: tuple(sorted(names)) for stage, names in above.items()}
