"""What every policy is: parameters from which a controller is started, afresh for each run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

from mipplan.replayer import ReplicaSchedule
from mipplan.result import Plan
from mipplan.tokens import realise
from mipplan.trace import Trace
from mipplan.tuner.observation import Observation


@dataclass(frozen=True)
class Setting:
    """What a controller is told before it starts; nothing of the traffic to come.

    Attributes
    ----------
    plan : Plan
        Hardware, batch sizes, and the replicas to start with.
    sample : Trace
        The traffic that was planned for.
    start_ns : int
        When the run begins.
    period_ns : int
        Time between two instants of control.
    delay_ns : int
        Time from ordering a replica to its first batch.
    """

    plan: Plan
    sample: Trace
    start_ns: int
    period_ns: int
    delay_ns: int

    @property
    def stages(self) -> tuple[str, ...]:
        """In topological order."""
        return self.plan.pipeline.topological_order

    @cached_property
    def replicas(self) -> dict[str, int]:
        """The plan's."""
        return {stage: self.plan.choices[stage].replicas for stage in self.stages}

    @cached_property
    def tokens_per_query(self) -> dict[str, float]:
        """Mean number of tokens of a query, in the sample."""
        workload = realise(self.plan.pipeline, self.sample, self.plan.seed)
        return {stage: workload.stages[stage].count / workload.queries for stage in self.stages}

    @cached_property
    def replica_rate_rps(self) -> dict[str, float]:
        """Tokens per second of one replica with full batches."""
        service = {stage: self.plan.service_ns(stage) for stage in self.stages}
        return {stage: 1e9 * ns.size / float(ns[-1]) for stage, ns in service.items()}

    @cached_property
    def sample_rate_rps(self) -> float:
        """Queries per second in the sample."""
        return self.sample.rate_rps


class Controller(Protocol):
    """One run of a policy. It remembers what it saw, and sees nothing else."""

    def decide(self, seen: Observation) -> Mapping[str, int]:
        """Say how many replicas each stage is to have from now on; stages left out keep theirs."""
        ...


@runtime_checkable
class Policy(Protocol):
    """A rule by which replicas follow traffic."""

    @property
    def name(self) -> str:
        """For tables."""
        ...

    def start(self, setting: Setting) -> Controller:
        """Start a controller that has seen nothing yet."""
        ...


@runtime_checkable
class Clairvoyant(Protocol):
    """What nobody can run: all commands at once, knowing the traffic to come."""

    @property
    def name(self) -> str:
        """For tables."""
        ...

    def schedules(self, setting: Setting, trace: Trace, seed: int) -> Mapping[str, ReplicaSchedule]:
        """Choose what is commanded, stage by stage, for a trace and its draws."""
        ...
