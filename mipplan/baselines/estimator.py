"""What a greedy search asks of the replay: whether a configuration keeps the objective."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from mipplan.baselines.problem import BaselineProblem
from mipplan.core import Deadline, higher_rank
from mipplan.options import Configuration
from mipplan.replayer import StageReplays, StageRun, resolve_engine
from mipplan.result import Choice

#: Discipline of InferLine's own estimator, and of the frameworks it configures.
DISCIPLINE = "fifo"


class TimeUpError(Exception):
    """The search's time limit has passed."""


class Estimator:
    """Judges configurations by exact replays, each once.

    A configuration is refused at the first stage by which too many queries are late. After the deadline every question
    raises `TimeUpError`.
    """

    def __init__(self, problem: BaselineProblem, engine: str, deadline: Deadline) -> None:
        #: Configurations judged so far; asking again for one of them costs nothing and is not counted.
        self.calls = 0
        self._workload = workload = problem.workload
        self._deadline = deadline
        self._replays = StageReplays(workload, resolve_engine(engine, frozenset()), fifo=DISCIPLINE == "fifo")
        self._allowed = workload.queries - 1 - higher_rank(problem.base.quantile, workload.queries)
        self._due_ns = {
            stage: workload.ingress_ns[tokens.query] + problem.deadline_ns
            for stage, tokens in workload.stages.items()
        }
        self._known: dict[tuple[Choice, ...], bool] = {}

    def keeps(self, configuration: Configuration) -> bool:
        """Whether the replayed latency quantile is at most the objective."""
        key = tuple(option.choice for option in configuration.values())
        if key not in self._known:
            if self._deadline.is_over:
                raise TimeUpError
            self.calls += 1
            self._known[key] = self._judge(configuration)
        return self._known[key]

    def first_kept(self, configurations: Iterable[Configuration]) -> Configuration | None:
        """Return the first configuration that keeps the objective; those after it are not replayed."""
        return next((candidate for candidate in configurations if self.keeps(candidate)), None)

    def anyone_waits(self, configuration: Configuration, stages: Sequence[str]) -> bool:
        """Whether a token waits at one of these stages: if none does, more replicas there change nothing."""
        runs: dict[str, StageRun] = {}
        ordered = [stage for stage in self._workload.stages if stage in stages]
        return any(self._replay(configuration, stage, runs).waits for stage in ordered)

    def _judge(self, configuration: Configuration) -> bool:
        late = np.zeros(self._workload.queries, dtype=np.bool_)
        runs: dict[str, StageRun] = {}
        for stage, tokens in self._workload.stages.items():
            exit_ns = self._replay(configuration, stage, runs).exit_ns
            late[tokens.query[exit_ns > self._due_ns[stage]]] = True
            if int(np.count_nonzero(late)) > self._allowed:
                return False
        return True

    def _replay(self, configuration: Configuration, stage: str, runs: dict[str, StageRun]) -> StageRun:
        """Replay one stage, and those above it, unless they are among the runs."""
        if stage not in runs:
            for edge in self._workload.pipeline.incoming(stage):
                self._replay(configuration, edge.parent, runs)
            (runs[stage],) = self._replays.serve(stage, [configuration[stage]], runs)
        return runs[stage]
