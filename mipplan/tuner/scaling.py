"""Replica counts of one or several pipelines on shared devices, as scaling problems that differ in numbers only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from mipplan.calculus import Envelope
from mipplan.core import Fault, InputError, Int64
from mipplan.tuner.conditions import Conditions
from mipplan.tuner.rounding import Deadlines
from mipplan.tuner.scaling_solver import ScalingSolution, ScalingSolver
from mipplan.tuner.stages import StageScale
from mipplan_formulations import (
    LARGEST_MAGNITUDE,
    Arc,
    Demand,
    Group,
    Resource,
    ScalingActivity,
    ScalingProblem,
)
from mipplan_formulations.scaling import WHOLE

#: Thousandths of a replica that a stage may need: more is a slip, and left out of what solvers are given.
MOST_NEED = LARGEST_MAGNITUDE // (WHOLE * WHOLE)
#: The budget is a resource among others, which are named like hardware types: no type has a space in its name.
_MONEY = "the budget"
#: A stage without a limit may have 100,000 replicas.
UNLIMITED = 100_000


@dataclass(frozen=True)
class PipelineShape:
    """What of a pipeline stays the same from one scaling to the next; edges are (parent, child, delay in ns).

    To serve none of its traffic costs `loss_microusd` per hour; None: as much as it takes to serve all that can be.
    """

    stages: tuple[StageScale, ...]
    edges: tuple[tuple[int, int, int], ...]
    deadline_ns: int
    loss_microusd: int | None = None


@dataclass(frozen=True)
class Requirement:
    """What the stages of a pipeline need now."""

    needs: tuple[int, ...]
    """Thousandths of a replica; with demands those that no share of the wait can save."""
    present: tuple[int, ...]
    """Replicas that changes are counted from."""
    demands: tuple[Demand, ...] | None = None
    """If waits are to be shared out."""
    owned: tuple[int, ...] | None = None
    """Replicas that own times assume: not to be shed."""


@dataclass(frozen=True)
class ScalingResult:
    """Replica counts of all pipelines, and the thousandths of a replica that their stages needed.

    Objective and bound are micro-dollars per hour, with what changes and shedding are counted as; the bound is proven.
    They are None if even the fewest replicas, or the fewest that may be left for now, are more than conditions admit.
    """

    replicas: tuple[tuple[int, ...], ...]
    needs: tuple[tuple[int, ...], ...]
    shed: tuple[int, ...]
    """Thousandths of each pipeline's traffic."""
    objective: int | None
    bound: int | None
    reused: bool
    unreachable: tuple[bool, ...]
    """Pipelines whose deadline no replica counts keep, so that waits could not be shared out."""
    owned: tuple[tuple[int, ...] | None, ...]
    """Replicas that each pipeline's own times assume; with fewer, what is served takes longer than it should."""
    is_slow: bool = False
    """Whether only the pace of removing replicas keeps more of them than the conditions admit."""

    def lacks_owned(self, m: int) -> bool:
        """Whether a pipeline has fewer replicas than own times assume."""
        owned = self.owned[m]
        return owned is not None and any(n < own for n, own in zip(self.replicas[m], owned, strict=True))


#: What problems have in common in which the same pipelines share out waits.
_Model = tuple[ScalingSolver, tuple[ScalingActivity, ...], tuple[Arc, ...]]


class Scaler:
    """Scales pipelines under shared conditions; models are kept from one call to the next."""

    def __init__(self, pipelines: Sequence[PipelineShape], conditions: Conditions) -> None:
        self.pipelines = tuple(pipelines)
        self.conditions = conditions
        self._stages = [stage for pipeline in self.pipelines for stage in pipeline.stages]
        self._first = list(accumulate((len(pipeline.stages) for pipeline in self.pipelines), initial=0))
        self._least = np.array([s.least for s in self._stages], dtype=np.int64)
        self._most = np.array([UNLIMITED if s.most is None else s.most for s in self._stages], dtype=np.int64)
        self._added_microusd = conditions.added_microusd
        used = {stage.hardware for stage in self._stages}
        self._resources = tuple(Resource(*limit) for limit in conditions.limits.items() if limit[0] in used)
        devices = [[s.hardware == r.name for r in self._resources] for s in self._stages]
        self._usage = np.array(devices, dtype=np.int64)
        if conditions.budget_microusd is not None:
            self._resources += (Resource(_MONEY, conditions.budget_microusd),)
            self._usage = np.column_stack([self._usage, [s.microusd_per_hour for s in self._stages]])
        self._capacity = np.array([resource.capacity for resource in self._resources], dtype=np.int64)
        self._common = all(pipeline.loss_microusd is None for pipeline in self.pipelines)
        #: Whether it is best to serve all traffic with the fewest replicas, wherever that can be.
        self.is_plain = self._common and not self._added_microusd and not conditions.removed_microusd
        self._shedding = [0 if self._common else m for m in range(len(self.pipelines))]
        self._models: dict[tuple[bool, ...], _Model] = {}
        self._alone: dict[int, ScalingSolver] = {}

    @property
    def builds(self) -> int:
        """How often a model was passed to the solver as a whole."""
        return sum(solver.relaxation.builds for solver in self._solvers())

    @property
    def solves(self) -> int:
        """How often a relaxation was solved."""
        return sum(solver.relaxation.solves for solver in self._solvers())

    def _solvers(self) -> list[ScalingSolver]:
        return [solver for solver, *_ in self._models.values()] + list(self._alone.values())

    def scale(self, requirements: Sequence[Requirement]) -> ScalingResult:
        """Replica counts for what is needed, of least cost; if that cannot be, shedding as little as possible."""
        builds = self.builds
        unreachable = (False,) * len(self.pipelines)
        solution = self._solve(requirements)
        if solution is None and any(needed.demands is not None for needed in requirements):
            requirements, unreachable = self._share_out(requirements)
            solution = self._solve(requirements)
        owned = tuple(needed.owned for needed in requirements)
        if solution is None and any(owned):
            solution = self._solve([replace(needed, owned=None) for needed in requirements])
        reused = self.builds == builds
        needs = tuple(needed.needs for needed in requirements)
        if solution is None:
            present = [n for needed in requirements for n in needed.present]
            lowest, _ = self._allowed(present)
            fits, is_kept = self.is_admitted(self._least), self.is_admitted(lowest)
            counts, objective, bound, is_slow = tuple(lowest.tolist()), None, None, fits and not is_kept
        else:
            counts, objective, bound, is_slow = solution.units, solution.cost, solution.bound, False
        replicas = tuple(counts[self._part(m)] for m in range(len(needs)))
        # A pipeline by itself may shed less than its group.
        shed = tuple(
            max((WHOLE - n * WHOLE * WHOLE // need for n, need in pairs if need > n * WHOLE), default=0)
            for pairs in map(zip, replicas, needs)
        )
        if objective is None and not is_slow:
            shed = (WHOLE,) * len(needs)
        return ScalingResult(replicas, needs, shed, objective, bound, reused, unreachable, owned, is_slow)

    def allowed(self, m: int, needed: Requirement) -> list[tuple[int, int]]:
        """Fewest and most replicas that a pipeline's stages may have, from those present."""
        lowest, highest = self._allowed(needed.present, self._part(m))
        return list(zip(lowest.tolist(), highest.tolist(), strict=True))

    def is_admitted(self, units: Int64) -> bool:
        """Whether limits and budget leave room for so many replicas of the stages."""
        return bool(np.all(units @ self._usage <= self._capacity))

    def binding(self, needed: Requirement, result: ScalingResult, m: int) -> list[str]:
        """What keeps a pipeline from being served in full: limits that are used up, and stages at their most."""
        units = [n for counts in result.replicas for n in counts]
        # What a thousandth more of the traffic can ask for, or a query's own tokens.
        steps = [max(0, least - n) for at in range(len(result.needs)) for n, least in _least(result, at)]
        part = slice(None) if self._common else self._part(m)
        used, more = units @ self._usage, steps[part] @ self._usage[part]
        is_used_up = (more > 0) & (used + more > [resource.capacity for resource in self._resources])
        found = [f"{r.name} is used up" for r, gone in zip(self._resources, is_used_up, strict=True) if gone]
        found += [
            f"{self.pipelines[m].stages[k].stage} has the most replicas allowed ({high})"
            for k, at_least, high in self._lacking(needed, result, m)
            if at_least > high
        ]
        return found

    def is_rate_limited(self, needed: Requirement, result: ScalingResult, m: int) -> bool:
        """Whether only the pace of adding replicas keeps a pipeline from being served in full."""
        lasting = self._most[self._part(m)]
        lacking = [high < lasting[k] and least > high for k, least, high in self._lacking(needed, result, m)]
        return self.conditions.most_added is not None and bool(lacking) and all(lacking)

    def _lacking(self, needed: Requirement, result: ScalingResult, m: int) -> Iterator[tuple[int, int, int]]:
        """Stages that need more than they have, with what a thousandth more would take, and the most allowed."""
        _, most = self._allowed(needed.present, self._part(m))
        for k, ((n, least), high) in enumerate(zip(_least(result, m), most.tolist(), strict=True)):
            if least > n:
                yield k, least, high

    def _part(self, m: int) -> slice:
        """Where the stages of a pipeline stand among all."""
        return slice(self._first[m], self._first[m + 1])

    def _solve(self, requirements: Sequence[Requirement]) -> ScalingSolution | None:
        """Solve for all pipelines."""
        timed = tuple(needed.demands is not None for needed in requirements)
        is_plain = self.is_plain and timed in self._models and not any(timed)
        if timed not in self._models:
            self._models[timed] = ScalingSolver(), self._activities(timed), self._arcs(timed)
        solver, activities, arcs = self._models[timed]
        needs = self._needs(requirements)
        present = [n for needed in requirements for n in needed.present]
        least, most = self._allowed(present)
        owned = [n for needed in requirements for n in needed.owned or (1,) * len(needed.needs)]
        least = np.maximum(least, np.minimum(np.array(owned, dtype=np.int64), most))
        if is_plain:  # with a model at hand for when something binds
            units = np.maximum(least, -(-needs // WHOLE))
            if np.all(units <= most) and np.all(units @ self._usage <= self._capacity):
                # To shed a thousandth costs more than it saves, so these are the cheapest.
                counts = tuple(units.tolist())
                cost = sum(n * s.microusd_per_hour for n, s in zip(counts, self._stages, strict=True))
                return ScalingSolution(counts, (0,), cost, cost)
        demands = [d for needed in requirements for d in needed.demands or (None,) * len(needed.needs)]
        problem = ScalingProblem(
            activities,
            self._groups(timed, needs),
            needs,
            least,
            most,
            np.array(present, dtype=np.int64),
            self._resources,
            arcs,
            tuple(demands),
        )
        return solver.solve(problem)

    def _needs(self, requirements: Sequence[Requirement]) -> Int64:
        needs = [need for needed in requirements for need in needed.needs]
        InputError.raise_if(
            Fault(f"traffic, backlog: {stage.stage}", f"asks for more than {MOST_NEED // WHOLE:,} replicas")
            for stage, need in zip(self._stages, needs, strict=True)
            if need > MOST_NEED
        )
        return np.array(needs, dtype=np.int64)

    def _share_out(self, requirements: Sequence[Requirement]) -> tuple[list[Requirement], tuple[bool, ...]]:
        """Fix how waits are shared out as without any limits, so that what is left may be shed."""
        fixed: list[Requirement] = []
        unreachable: list[bool] = []
        for m, needed in enumerate(requirements):
            unreachable.append(False)
            if needed.demands is None:
                fixed.append(needed)
                continue
            alone = self._alone_problem(m, needed)
            solution = self._alone.setdefault(m, ScalingSolver()).solve(alone)
            if solution is None:
                # No counts keep the deadline: keep up with the rate, and give up nothing.
                unreachable[-1] = True
                held = zip(needed.needs, needed.present, strict=True)
                fixed.append(Requirement(tuple(max(need, WHOLE * n) for need, n in held), needed.present))
                continue
            spare = Deadlines(alone).spare(solution.units)
            parts = zip(needed.needs, needed.demands, solution.units, strict=True)
            needs, owned = [], []
            for v, (need, demand, n) in enumerate(parts):
                needs.append(max(need, _thousandths(demand, spare[v])))
                owned.append(n if demand.own_load else 1)
            fixed.append(Requirement(tuple(needs), needed.present, owned=tuple(owned)))
        return fixed, tuple(unreachable)

    def _alone_problem(self, m: int, needed: Requirement) -> ScalingProblem:
        pipeline = self.pipelines[m]
        deadline = max(0, pipeline.deadline_ns)
        activities = tuple(
            ScalingActivity(f"{v}", s.microusd_per_hour, duration=s.lasting_ns, deadline=deadline)
            for v, s in enumerate(pipeline.stages)
        )
        return ScalingProblem(
            activities,
            (Group(f"{m}"),),
            np.array(needed.needs, dtype=np.int64),
            self._least[self._part(m)],
            np.full(len(activities), UNLIMITED, dtype=np.int64),
            np.array(needed.present, dtype=np.int64),
            arcs=tuple(Arc(*edge) for edge in pipeline.edges),
            demands=needed.demands or (),
        )

    def _allowed(self, present: Sequence[int], part: slice = slice(None)) -> tuple[Int64, Int64]:
        """Fewest and most replicas of the stages of a part, with how fast counts may change."""
        least, most, now = self._least[part], self._most[part], np.array(present, dtype=np.int64)
        added, removed = self.conditions.most_added, self.conditions.most_removed
        lowest = least if removed is None else np.minimum(most, np.maximum(least, now - removed))
        highest = most if added is None else np.maximum(lowest, np.minimum(most, now + added))
        return lowest, highest

    def _activities(self, timed: Sequence[bool]) -> tuple[ScalingActivity, ...]:
        usages = iter(self._usage)
        # Groups that shed come first, then one for all whose waits are shared out: they shed nothing.
        strict = max(self._shedding) + 1
        return tuple(
            ScalingActivity(
                f"{m}:{stage.stage}",
                stage.microusd_per_hour,
                next(usages),
                group=strict if timed[m] else self._shedding[m],
                duration=stage.lasting_ns,
                deadline=max(0, pipeline.deadline_ns),
                up_cost=self._added_microusd,
                down_cost=self.conditions.removed_microusd,
            )
            for m, pipeline in enumerate(self.pipelines)
            for stage in pipeline.stages
        )

    def _groups(self, timed: Sequence[bool], needs: Int64) -> tuple[Group, ...]:
        groups = []
        for g in range(max(self._shedding) + 1):
            loss = None if self._common else self.pipelines[g].loss_microusd
            if loss is None:
                # A thousandth is worth more than all replicas that it can ask for: as much as possible is served.
                asked = zip(map(_thousandth, needs.tolist()), self._stages, strict=True)
                prices = (n * (stage.microusd_per_hour + self._added_microusd) for n, stage in asked)
                penalty = sum(prices) + 1
            else:
                penalty = -(-loss // WHOLE)
            groups.append(Group(f"g{g}", penalty))
        if any(timed):
            groups.append(Group("none"))
        return tuple(groups)

    def _arcs(self, timed: Sequence[bool]) -> tuple[Arc, ...]:
        return tuple(
            Arc(self._first[m] + parent, self._first[m] + child, delay)
            for m, pipeline in enumerate(self.pipelines)
            if timed[m]
            for parent, child, delay in pipeline.edges
        )


def _least(result: ScalingResult, m: int) -> Iterator[tuple[int, int]]:
    """Replicas of each stage of a pipeline, and those with which a thousandth more is served, in time; or enough."""
    owned = result.owned[m] or (1,) * len(result.needs[m])
    for n, need, own in zip(result.replicas[m], result.needs[m], owned, strict=True):
        yield n, max(own, n + _thousandth(need) if need > n * WHOLE else 1)


def _thousandth(need: int) -> int:
    """Most units that a thousandth more of the traffic can take of a stage that needs so many thousandths of one."""
    return 1 + need // (WHOLE * WHOLE)


def _thousandths(demand: Demand, wait: int) -> int:
    """Units needed for a wait, in thousandths, rounded up."""
    pairs = zip(demand.offset.tolist(), demand.load.tolist(), strict=True)
    return max((-(-load * WHOLE // (offset + wait)) for offset, load in pairs if load > 0), default=0)


def make_demand(scale: StageScale, envelope: Envelope) -> Demand:
    """Times of a stage as functions of its replicas; windows that are no whole ns are rounded down.

    Raises `InputError` if the work of a window is more than can be reckoned with.
    """
    up, down = scale.pace.denominator, scale.pace.numerator
    offsets = [window // common for _, window, common in envelope.excesses]
    loads = [max(0, -(-up * excess // (down * common))) for excess, _, common in envelope.excesses]
    if max(loads, default=0) > LARGEST_MAGNITUDE:
        raise InputError.one(
            "traffic", f"holds more queries at once than stage {scale.stage!r} serves in months"
        )
    return Demand(offsets, loads, scale.divided_ns)  # type: ignore[arg-type]  # made arrays there
