"""Replays of several plans on the same tokens, each stage served once for all plans that are alike so far."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from mipplan.core import Int64
from mipplan.replayer.engines import Engine
from mipplan.replayer.task import Served, StageTask, latest_exit_ns
from mipplan.replayer.tasks import Conditions, stage_identity, stage_task
from mipplan.result import Following, Plan, ReplayResult, StageReplay
from mipplan.tokens import Workload

#: Which of the distinct replays of each parent of a stage.
Above: TypeAlias = tuple[int, ...]


class SharedReplay:
    """Serves stage after stage, in topological order, for those plans that still matter.

    Parameters
    ----------
    plans : sequence of Plan
        Of the workload's pipeline; named by their place here.
    workload : Workload
    conditions : Conditions
    engine : Engine
        That can do what they need.
    """

    def __init__(
        self, plans: Sequence[Plan], workload: Workload, conditions: Conditions, engine: Engine
    ) -> None:
        self._plans = plans
        self._workload = workload
        self._conditions = conditions
        self._engine = engine
        # Of each plan: which of the distinct replays of a stage is its own.
        self._number: list[dict[str, int]] = [{} for _ in plans]
        self._served: dict[str, list[StageReplay]] = {}
        self._latest_ns: dict[str, list[int]] = {}

    def serve(self, stage: str, members: Iterable[int]) -> None:
        """Serve a stage under these plans; all stages above it must have been served under them."""
        wanted = self._distinct(stage, members)
        arrivals = {above: self._arrivals(stage, member) for above, member in dict(wanted).items()}
        level = self._conditions.levels(self._workload.seed, self._workload.stages[stage])
        tasks = [
            stage_task(self._plans[member], stage, _written(arrivals[above]), self._conditions, level)
            for above, member in wanted
        ]
        tokens = self._workload.stages[stage].count
        self._latest_ns[stage] = [
            latest_exit_ns(task, self._arrived_ns(stage, above), tokens)
            for (above, _), task in zip(wanted, tasks, strict=True)
        ]
        answers = self._answers(tasks, [arrivals[above] for above, _ in wanted])
        self._served[stage] = [
            StageReplay(task.capacity.most, served, arrivals[above])
            for (above, _), task, served in zip(wanted, tasks, answers, strict=True)
        ]

    def _distinct(self, stage: str, members: Iterable[int]) -> list[tuple[Above, int]]:
        """Find what there is to serve at a stage: replays of the parents, and a plan that has them and will do."""
        parents = [edge.parent for edge in self._workload.pipeline.incoming(stage)]
        numbers: dict[tuple[object, ...], int] = {}
        wanted: list[tuple[Above, int]] = []
        for member in members:
            above = tuple(self._number[member][parent] for parent in parents)
            identity = (above, stage_identity(self._plans[member], stage, self._conditions))
            if identity not in numbers:
                numbers[identity] = len(wanted)
                wanted.append((above, member))
            self._number[member][stage] = numbers[identity]
        return wanted

    def _arrivals(self, stage: str, member: int) -> Int64 | Following:
        """When the tokens of a stage arrive under a plan; as what they follow, if the engine makes use of that."""
        edge = self._workload.follows(stage)
        if edge is not None and self._engine.follow_many is not None:
            return Following(self.stage_replay(member, edge.parent).rides, edge.delay_ns)
        parents = [edge.parent for edge in self._workload.pipeline.incoming(stage)]
        return _frozen(self._workload.arrival_ns(stage, self.exits_ns(member, parents)))

    def _arrived_ns(self, stage: str, above: Above) -> int:
        """Bound the arrivals at a stage below these replays of its parents."""
        incoming = self._workload.pipeline.incoming(stage)
        bounds_ns = (
            self._latest_ns[edge.parent][number] + edge.delay_ns
            for edge, number in zip(incoming, above, strict=True)
        )
        return max(bounds_ns, default=int(self._workload.ingress_ns[-1]))

    def _answers(self, tasks: list[StageTask], arrivals: list[Int64 | Following]) -> list[Served]:
        follow_many = self._engine.follow_many
        if follow_many is None or not any(isinstance(given, Following) for given in arrivals):
            return self._engine.serve_many(tasks)
        # All follow the same stage, but each may follow another replay of it.
        answers: dict[int, Served] = {}
        for following in dict.fromkeys(given for given in arrivals if isinstance(given, Following)):
            alike = [number for number, given in enumerate(arrivals) if given is following]
            served = follow_many([tasks[number] for number in alike], following)
            answers.update(zip(alike, served, strict=True))
        return [answers[number] for number in range(len(tasks))]

    def stage_replay(self, member: int, stage: str) -> StageReplay:
        """What happened at a stage under a plan."""
        return self._served[stage][self._number[member][stage]]

    def exits_ns(self, member: int, stages: Iterable[str]) -> dict[str, Int64]:
        """Exit of every token of these stages under a plan."""
        return {stage: self.stage_replay(member, stage).exit_ns for stage in stages}

    def result(self, member: int) -> ReplayResult:
        """Put together the replay of a plan under which all stages were served."""
        plan, workload, conditions = self._plans[member], self._workload, self._conditions
        stages = {stage: self.stage_replay(member, stage) for stage in workload.stages}
        latency_ns = _frozen(workload.latency_ns(self.exits_ns(member, workload.last_stages)))
        first_ns, last_ns = int(workload.ingress_ns[0]), int((workload.ingress_ns + latency_ns).max())
        return ReplayResult(
            latency_ns,
            MappingProxyType(stages),
            conditions.discipline.value,
            self._engine.name,
            workload.seed,
            service=conditions.service(workload.seed),
            certificate_applies=conditions.certificate_applies,
            ingress_ns=workload.ingress_ns,
            replica_microusd_per_hour=MappingProxyType(
                {
                    stage: plan.profiles.hardware[choice.hardware].microusd_per_hour
                    for stage, choice in plan.choices.items()
                }
            ),
            paid_replica_ns=MappingProxyType(
                {
                    stage: _paid_ns(seen, stage, conditions, first_ns, last_ns)
                    for stage, seen in stages.items()
                }
            ),
        )


def _paid_ns(seen: StageReplay, stage: str, conditions: Conditions, start_ns: int, end_ns: int) -> int:
    scheduled = conditions.schedule.get(stage)
    if scheduled is None:
        return seen.replicas * (end_ns - start_ns)
    return scheduled.paid_ns(seen.batch_start_ns, seen.batch_service_ns, start_ns, end_ns)


def _written(arrivals: Int64 | Following) -> Int64:
    """Arrivals as a task holds them: none where they follow from a stage above."""
    return np.empty(0, dtype=np.int64) if isinstance(arrivals, Following) else arrivals


def _frozen(array: Int64) -> Int64:
    array.flags.writeable = False
    return array
