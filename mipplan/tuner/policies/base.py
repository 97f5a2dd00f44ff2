"""What every policy shares: what it is told and sees, how it decides, and what autoscalers remember."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from types import UnionType
from typing import Annotated, Protocol, Union, get_args, get_origin, get_type_hints, runtime_checkable

from mipplan.core import Fault, FieldOf, InputError, Int64, is_finite, shown
from mipplan.replayer import ReplicaSchedule
from mipplan.result import Plan
from mipplan.tokens import realise
from mipplan.trace import Trace
from mipplan.tuner.policies.capacity import StageCapacity, least_missed, measure_capacities, missed_in_replay
from mipplan.tuner.stages import StageScale, Tokens, stage_scales

#: Some of all.
Share = Annotated[float, 0.0, 1.0]
#: Seconds that a policy looks back: at least a nanosecond, and nothing takes longer than a day.
Span = Annotated[float, 1e-9, 86_400.0]
#: Seconds that a policy waits; perhaps none.
Wait = Annotated[float, 0.0, 86_400.0]
#: Nobody provisions for more than 1,000 times the traffic.
Times = Annotated[float, 0.0, 1_000.0]
#: Rounding must not turn ⌈3.0000000001⌉ into 4.
ROUNDING = 1e-9


@dataclass(frozen=True)
class StageObservation:
    """One stage over one control period, which lasts from the last instant of control (included) to this one (not)."""

    replicas: int
    """Told to have, until now."""
    active: int
    """Of these, how many may serve at the end of the period: the others still start."""
    waiting: int
    """Tokens that wait at the end of the period."""
    under_way: int
    """Tokens in batches at its end."""
    arrived: int
    """Tokens that became ready in it."""
    busy_ns: int
    """Sum over replicas of the time that they were busy in it."""
    active_ns: int
    """Sum over replicas of the time that they were active in it."""
    ongoing_ns: int
    """Sum over tokens of the time that they waited or were served in it."""

    @property
    def ongoing(self) -> int:
        """Tokens that wait or are served at the end of the period."""
        return self.waiting + self.under_way


@dataclass(frozen=True)
class Observation:
    """A pipeline over one control period; nothing of what happens from `now_ns` on."""

    now_ns: int
    """The instant of control. What happens at this very instant is not seen yet."""
    period_ns: int
    """Since the instant of control before."""
    arrival_ns: Int64
    """Ingress of the queries of this period, non-decreasing, shape (k,)."""
    stages: Mapping[str, StageObservation]
    """In topological order."""


@dataclass(frozen=True)
class Setting:
    """What a controller is told before it starts; nothing of the traffic to come."""

    plan: Plan
    """Hardware, batch sizes, and the replicas to start with."""
    sample: Trace
    """The traffic that was planned for."""
    start_ns: int
    """When the run begins."""
    period_ns: int
    """Time between two instants of control."""
    delay_ns: int
    """Time from ordering a replica to its first batch."""

    stages = FieldOf[tuple[str, ...]]("plan.pipeline.topological_order")
    """In topological order."""

    @cached_property
    def _missed(self) -> dict[tuple[tuple[int, ...], float, float], float]:
        """What replays of drawn traffic have told."""
        return {}

    def missed(self, counts: Sequence[int], rate_rps: float, burstiness: float) -> float:
        """Share of drawn traffic of this rate and burstiness that misses the objective with these replicas."""
        key = tuple(counts), rate_rps, burstiness
        if key not in self._missed:
            replicas = dict(zip(self.stages, counts, strict=True))
            self._missed[key] = missed_in_replay(self.plan, replicas, rate_rps, burstiness)
        return self._missed[key]

    def beginning(self, start_ns: int) -> Setting:
        """Return the same with another beginning; what was measured is at hand."""
        made = replace(self, start_ns=start_ns)
        given = {one.name for one in fields(self)}
        made.__dict__.update({name: value for name, value in self.__dict__.items() if name not in given})
        return made

    @cached_property
    def replicas(self) -> dict[str, int]:
        """The plan's."""
        return {stage: self.plan.choices[stage].replicas for stage in self.stages}

    def bounds(self, stage: str) -> tuple[int, int | None]:
        """Fewest and most replicas that a stage may be told to have; None: as many as there are devices.

        A plan of given choices may start outside: it is not forced in, but kept from going further out.
        """
        own, planned = self.plan.pipeline.stages[stage], self.replicas[stage]
        return min(max(1, own.replicas_min), planned), own.replicas_max and max(own.replicas_max, planned)

    def granted(self, held: Mapping[str, int], wanted: Mapping[str, int]) -> dict[str, int]:
        """Replicas of all stages after a command, given what they have and what is wanted.

        A wish beyond a stage's bounds, or beyond what its hardware type has left, is granted as far as possible.
        Stages are granted theirs in topological order, and what others give back at the same time is there already.
        """
        within = {}
        for stage, present in held.items():
            least, most = self.bounds(stage)
            count = max(least, wanted.get(stage, present))
            within[stage] = count if most is None else min(count, most)
        # Nobody loses what it has and wants to keep.
        made = {stage: min(count, held[stage]) for stage, count in within.items()}
        left = {
            name: math.inf if kind.limit is None else kind.limit
            for name, kind in self.plan.profiles.hardware.items()
        }
        for stage, count in made.items():
            left[self.plan.choices[stage].hardware] -= count
        for stage, count in within.items():
            hardware = self.plan.choices[stage].hardware
            more = int(max(0, min(count - made[stage], left[hardware])))
            left[hardware] -= more
            made[stage] += more
        return made

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
    def scales(self) -> Mapping[str, StageScale]:
        """What replicas of each stage cost and serve, for queries as those of the sample are in the mean."""
        return stage_scales(self.plan, Tokens.MEAN, self.sample)

    @cached_property
    def least_missed(self) -> float:
        """Share of the queries that are late however many replicas there are."""
        return least_missed(self.plan, self.scales)

    @cached_property
    def capacities(self) -> Mapping[str, StageCapacity]:
        """What replicas of each stage serve in time, measured once for all policies that ask."""
        return measure_capacities(self.plan, self.scales, self.least_missed)


class Controller(Protocol):
    """One run of a policy. It remembers what it saw, and sees nothing else. Its `notes`, if it has any, are told."""

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


@dataclass(frozen=True)
class Static:
    """The plan's replicas, whatever comes."""

    name: str = "static"

    def start(self, setting: Setting) -> _StaticController:
        """Start: a running system may have others when it is first looked at, and gets these."""
        return _StaticController(setting.replicas)


@dataclass(frozen=True)
class _StaticController:
    _replicas: Mapping[str, int]

    def decide(self, seen: Observation) -> Mapping[str, int]:  # noqa: ARG002  # as every controller
        return self._replicas


class Parameters:
    """Numbers of a policy, each (in a tuple, too) within the closed range that its type names.

    Raises
    ------
    InputError
        With every one that is not.
    """

    def __post_init__(self) -> None:
        faults: list[Fault] = []
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            value = getattr(self, name)
            # The first of a tuple's types, or of those of what may be None.
            kind = get_args(hint)[0] if get_origin(hint) in (tuple, UnionType, Union) else hint
            if get_origin(kind) is Annotated and not (value is None and kind is not hint):
                place, (least, most) = f"{type(self).__name__}.{name}", kind.__metadata__
                faults += [
                    Fault(place, f"expected a number from {least:g} to {most:g}, found {shown(number)}")
                    for number in (value if isinstance(value, tuple) else (value,))
                    if not is_finite(number) or not least <= number <= most
                ]
        InputError.raise_if(faults)


class StabilizationWindow:
    """The largest count of each stage in the last `length_ns`, its count at the start included, if it had any.

    Kubernetes calls it so: no count goes below it.
    """

    def __init__(self, length_ns: int, start_ns: int, counts: Mapping[str, int]) -> None:
        self._length_ns = length_ns
        #: Counts of each stage that no later one reaches, with their instants. The first is the largest.
        self._found = {stage: deque([(start_ns, count)]) for stage, count in counts.items()}

    def largest(self, now_ns: int, counts: Mapping[str, int]) -> dict[str, int]:
        """Take in the counts of now, and return the largest since `length_ns` ago; O(1) a stage, amortised."""
        largest = {}
        for stage, count in counts.items():
            found = self._found.setdefault(stage, deque())
            while found and found[-1][1] <= count:
                found.pop()
            found.append((now_ns, count))
            while found[0][0] < now_ns - self._length_ns:
                found.popleft()
            largest[stage] = found[0][1]
        return largest


def whole_replicas(needed: float) -> int:
    """Round up to replicas, at least one."""
    return max(1, math.ceil(needed - ROUNDING))
