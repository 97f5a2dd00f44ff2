"""Replays of several plans on the same tokens, each stage served once for all plans that are alike so far."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import MappingProxyType

from mipplan.replayer.engines import Engine
from mipplan.replayer.task import Served, StageTask, Times, latest_exit_ns
from mipplan.replayer.tasks import Conditions, stage_identity, stage_task
from mipplan.result import Plan, ReplayResult, StageReplay
from mipplan.tokens import Workload


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
        incoming = self._workload.pipeline.incoming(stage)
        parents = [edge.parent for edge in incoming]
        level = self._conditions.levels(self._workload.seed, self._workload.stages[stage])
        arrivals: dict[tuple[int, ...], Times] = {}
        numbers: dict[tuple[object, ...], int] = {}
        tasks: list[StageTask] = []
        latest_ns: list[int] = []
        for member in members:
            above = tuple(self._number[member][parent] for parent in parents)
            identity = (above, stage_identity(self._plans[member], stage, self._conditions))
            if identity not in numbers:
                numbers[identity] = len(tasks)
                if above not in arrivals:
                    arrivals[above] = self._workload.arrival_ns(stage, self.exits_ns(member, parents))
                tasks.append(stage_task(self._plans[member], stage, arrivals[above], self._conditions, level))
                arrived_ns = max(
                    (
                        self._latest_ns[edge.parent][number] + edge.delay_ns
                        for edge, number in zip(incoming, above, strict=True)
                    ),
                    default=int(self._workload.ingress_ns[-1]),
                )
                latest_ns.append(latest_exit_ns(tasks[-1], arrived_ns))
            self._number[member][stage] = numbers[identity]
        answers = self._engine.serve_many(tasks)
        self._latest_ns[stage] = latest_ns
        self._served[stage] = [_stage_replay(*pair) for pair in zip(tasks, answers, strict=True)]

    def stage_replay(self, member: int, stage: str) -> StageReplay:
        """What happened at a stage under a plan."""
        return self._served[stage][self._number[member][stage]]

    def exits_ns(self, member: int, stages: Iterable[str]) -> dict[str, Times]:
        """Exit of every token of these stages under a plan."""
        return {stage: self.stage_replay(member, stage).exit_ns for stage in stages}

    def result(self, member: int) -> ReplayResult:
        """Put together the replay of a plan under which all stages were served."""
        plan, workload, conditions = self._plans[member], self._workload, self._conditions
        stages = {stage: self.stage_replay(member, stage) for stage in workload.stages}
        latency_ns = _frozen(workload.latency_ns(self.exits_ns(member, workload.stages)))
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


def _stage_replay(task: StageTask, served: Served) -> StageReplay:
    return StageReplay(
        task.capacity.most,
        *(
            _frozen(array)
            for array in (
                task.arrival_ns,
                served.dispatch_ns,
                served.exit_ns,
                served.batch_start_ns,
                served.batch_size,
                served.batch_service_ns,
            )
        ),
    )


def _frozen(array: Times) -> Times:
    array.flags.writeable = False
    return array
