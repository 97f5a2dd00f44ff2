"""Replica counts of one or several pipelines on shared devices, as scaling problems that differ in numbers only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mipplan.core import Fault, InputError, Int64
from mipplan.tuner.conditions import Conditions
from mipplan.tuner.sizing import Sized, Sizing
from mipplan.tuner.stages import StageScale
from mipplan.tuner.timing import Timing
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
#: The budget, among resources that are named like hardware types: no type has a space in its name.
_MONEY = "the budget"
#: Replicas where there is no limit.
UNLIMITED = 100_000


@dataclass(frozen=True)
class Member:
    """A pipeline as a scaler sees it.

    Attributes
    ----------
    name : str
    stages : tuple of StageScale
    edges : tuple of (int, int, int)
        Parent and child by position in `stages`, and delay in ns.
    deadline_ns : int
    loss_microusd : int or None
        What it costs per hour to serve none of its traffic; None: as much as it takes to serve as much as possible.
    """

    name: str
    stages: tuple[StageScale, ...]
    edges: tuple[tuple[int, int, int], ...]
    deadline_ns: int
    loss_microusd: int | None = None


@dataclass(frozen=True)
class Want:
    """What a pipeline needs now.

    Attributes
    ----------
    needs : tuple of int
        Thousandths of a replica, per stage.
    present : tuple of int
        Replicas that changes are counted from.
    demands : tuple of Demand or None
        Per stage, if waits are to be shared out; `needs` are then what no share of the wait can save.
    owned : tuple of int or None
        Replicas that own times assume, per stage: not to be shed.
    """

    needs: tuple[int, ...]
    present: tuple[int, ...]
    demands: tuple[Demand, ...] | None = None
    owned: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Scaled:
    """Replica counts of all members.

    Attributes
    ----------
    replicas : tuple of tuple of int
    needs : tuple of tuple of int
        Thousandths of a replica that were needed, per stage; where waits were shared out only what that cannot save.
    shed : tuple of int
        Thousandths of each member's traffic.
    objective, bound : int or None
        Micro-dollars per hour with what changes and shedding are counted as; the bound is proven. None if even the
        fewest replicas are more than the conditions admit.
    reused : bool
    unreachable : tuple of bool
        Members whose deadline no replica counts keep, so that waits could not be shared out.
    keeps_own_times : bool
        Whether there are the replicas that own times assume; if not, what is served takes longer than it should.
    """

    replicas: tuple[tuple[int, ...], ...]
    needs: tuple[tuple[int, ...], ...]
    shed: tuple[int, ...]
    objective: int | None
    bound: int | None
    reused: bool
    unreachable: tuple[bool, ...]
    keeps_own_times: bool


@dataclass(frozen=True)
class _Split:
    """Wants without demands, and who cannot keep its deadline."""

    wants: list[Want]
    unreachable: tuple[bool, ...]


class Scaler:
    """Scales members under shared conditions; models are kept from one call to the next."""

    def __init__(self, members: Sequence[Member], conditions: Conditions) -> None:
        self.members = tuple(members)
        self.conditions = conditions
        self._first = np.cumsum([0, *(len(member.stages) for member in self.members)]).tolist()
        self._stages = [stage for member in self.members for stage in member.stages]
        self._resources = self._make_resources()
        self._common = all(member.loss_microusd is None for member in self.members)
        self._shedding = [0 if self._common else m for m in range(len(self.members))]
        self._kept: dict[tuple[bool, ...], tuple[Sizing, tuple[ScalingActivity, ...], tuple[Arc, ...]]] = {}
        self._alone: dict[int, Sizing] = {}

    @property
    def builds(self) -> int:
        """How often a model was passed to the solver as a whole."""
        sizings = [sizing for sizing, _, _ in self._kept.values()] + list(self._alone.values())
        return sum(sizing.relaxation.builds for sizing in sizings)

    @property
    def solves(self) -> int:
        """How often a relaxation was solved."""
        sizings = [sizing for sizing, _, _ in self._kept.values()] + list(self._alone.values())
        return sum(sizing.relaxation.solves for sizing in sizings)

    def scale(self, wants: Sequence[Want]) -> Scaled:
        """Replica counts for what is wanted, of least cost; if that cannot be, shedding as little as possible."""
        builds = self.builds
        unreachable = (False,) * len(self.members)
        sized = self._size(wants)
        if sized is None and any(want.demands is not None for want in wants):
            split = self._split(wants)
            wants, unreachable = split.wants, split.unreachable
            sized = self._size(wants)
        kept_own = sized is not None
        if sized is None and any(want.owned is not None for want in wants):
            sized = self._size([replace(want, owned=None) for want in wants])
        reused = self.builds == builds
        needs = tuple(want.needs for want in wants)
        if sized is None:
            fewest = tuple(tuple(s.least for s in member.stages) for member in self.members)
            return Scaled(fewest, needs, (WHOLE,) * len(needs), None, None, reused, unreachable, False)
        replicas = tuple(tuple(sized.units[a:b]) for a, b in zip(self._first, self._first[1:], strict=False))
        shed = self._member_shed(wants, sized)
        return Scaled(replicas, needs, shed, sized.cost, sized.bound, reused, unreachable, kept_own)

    def binding(self, want: Want, scaled: Scaled, m: int) -> list[str]:
        """What keeps a member from being served in full: limits that are used up, and stages at their most."""
        found = []
        units = [n for counts in scaled.replicas for n in counts]
        wanted = [need for needs in scaled.needs for need in needs]
        # What a thousandth more of the traffic can ask for.
        steps = [_thousandth(need) if need > n * WHOLE else 0 for n, need in zip(units, wanted, strict=True)]
        first, last = (0, len(units)) if self._common else (self._first[m], self._first[m + 1])
        for resource in self._resources:
            if resource.name in self.conditions.limits:
                amounts = [int(stage.hardware == resource.name) for stage in self._stages]
            else:
                amounts = [stage.microusd_per_hour for stage in self._stages]
            used = sum(amount * n for amount, n in zip(amounts, units, strict=True))
            more = sum(a * step for a, step in zip(amounts[first:last], steps[first:last], strict=True))
            if more and used + more > resource.capacity:
                found.append(f"{resource.name} is used up")
        _, most = self._allowed(np.array(want.present, dtype=np.int64), self.members[m].stages)
        for stage, n, high, need in zip(
            self.members[m].stages, scaled.replicas[m], most.tolist(), scaled.needs[m], strict=True
        ):
            if n + _thousandth(need) > high and need > n * WHOLE:
                found.append(f"{stage.stage} has the most replicas allowed ({high})")
        return found

    def is_rate_limited(self, want: Want, scaled: Scaled, m: int) -> bool:
        """Whether only the pace of adding replicas keeps a member from being served in full."""
        added = self.conditions.most_added
        if added is None:
            return False
        _, most = self._allowed(np.array(want.present, dtype=np.int64), self.members[m].stages)
        lasting = [stage.most if stage.most is not None else UNLIMITED for stage in self.members[m].stages]
        lacking = [
            (high < last and n + _thousandth(need) > high)
            for n, high, last, need in zip(
                scaled.replicas[m], most.tolist(), lasting, scaled.needs[m], strict=True
            )
            if need > n * WHOLE
        ]
        return bool(lacking) and all(lacking)

    def _member_shed(self, wants: Sequence[Want], sized: Sized) -> tuple[int, ...]:
        """What each member sheds by itself: less than its group, perhaps."""
        shed = []
        for want, a, b in zip(wants, self._first, self._first[1:], strict=False):
            lacks = [
                WHOLE - n * WHOLE * WHOLE // need
                for n, need in zip(sized.units[a:b], want.needs, strict=True)
                if need > n * WHOLE
            ]
            shed.append(max(lacks, default=0))
        return tuple(shed)

    def _size(self, wants: Sequence[Want]) -> Sized | None:
        """Solve for all members."""
        timed = tuple(want.demands is not None for want in wants)
        if timed not in self._kept:
            self._kept[timed] = (Sizing(), self._activities(timed), self._arcs(timed))
        sizing, activities, arcs = self._kept[timed]
        needs = self._needs(wants)
        present = np.array([n for want in wants for n in want.present], dtype=np.int64)
        least, most = self._allowed(present, self._stages)
        owned = [n for want in wants for n in want.owned or (1,) * len(want.needs)]
        least = np.maximum(least, np.minimum(np.array(owned, dtype=np.int64), most))
        demands = [
            demand
            for want in wants
            for demand in (want.demands if want.demands is not None else (None,) * len(want.needs))
        ]
        problem = ScalingProblem(
            activities,
            self._groups(timed, needs),
            needs,
            least,
            most,
            present,
            self._resources,
            arcs,
            tuple(demands),
        )
        return sizing.size(problem)

    def _needs(self, wants: Sequence[Want]) -> Int64:
        """What all stages need, in thousandths of a replica.

        Raises
        ------
        InputError
            If that is more than can be reckoned with.
        """
        needs = [need for want in wants for need in want.needs]
        faults = [
            Fault(f"traffic, backlog: {stage.stage}", f"asks for more than {MOST_NEED // WHOLE:,} replicas")
            for stage, need in zip(self._stages, needs, strict=True)
            if need > MOST_NEED
        ]
        if faults:
            raise InputError(faults)
        return np.array(needs, dtype=np.int64)

    def _split(self, wants: Sequence[Want]) -> _Split:
        """Fix how waits are shared out as without any limits, so that what is left may be shed."""
        fixed: list[Want] = []
        unreachable: list[bool] = []
        for m, (member, want) in enumerate(zip(self.members, wants, strict=True)):
            sized = None
            if want.demands is not None:
                alone = self._alone_problem(m, member, want)
                sized = self._alone.setdefault(m, Sizing()).size(alone)
            unreachable.append(want.demands is not None and sized is None)
            if want.demands is None:
                fixed.append(want)
            elif sized is None:
                # No counts keep the deadline: keep up with the rate, and give up nothing.
                held = zip(want.needs, want.present, strict=True)
                fixed.append(Want(tuple(max(need, WHOLE * n) for need, n in held), want.present))
            else:
                spare = Timing(alone).spare(sized.units)
                needs = [
                    max(need, _thousandths(demand, spare[v]))
                    for v, (need, demand) in enumerate(zip(want.needs, want.demands, strict=True))
                ]
                owned = [n if d.own_load else 1 for n, d in zip(sized.units, want.demands, strict=True)]
                fixed.append(Want(tuple(needs), want.present, owned=tuple(owned)))
        return _Split(fixed, tuple(unreachable))

    def _alone_problem(self, m: int, member: Member, want: Want) -> ScalingProblem:
        activities = tuple(
            ScalingActivity(
                f"{v}", s.microusd_per_hour, duration=s.latency_ns, deadline=max(0, member.deadline_ns)
            )
            for v, s in enumerate(member.stages)
        )
        count = len(member.stages)
        return ScalingProblem(
            activities,
            (Group(f"{m}"),),
            np.array(want.needs, dtype=np.int64),
            np.array([s.least for s in member.stages], dtype=np.int64),
            np.full(count, UNLIMITED, dtype=np.int64),
            np.array(want.present, dtype=np.int64),
            arcs=tuple(Arc(*edge) for edge in member.edges),
            demands=want.demands or (),
        )

    def _allowed(self, present: Int64, stages: Sequence[StageScale]) -> tuple[Int64, Int64]:
        least = np.array([s.least for s in stages], dtype=np.int64)
        most = np.array([s.most if s.most is not None else UNLIMITED for s in stages], dtype=np.int64)
        added, removed = self.conditions.most_added, self.conditions.most_removed
        lowest = least if removed is None else np.minimum(most, np.maximum(least, present - removed))
        highest = most if added is None else np.maximum(lowest, np.minimum(most, present + added))
        return lowest, highest

    def _make_resources(self) -> tuple[Resource, ...]:
        used = {stage.hardware for stage in self._stages}
        resources = [Resource(name, limit) for name, limit in self.conditions.limits.items() if name in used]
        if self.conditions.budget_microusd is not None:
            resources.append(Resource(_MONEY, self.conditions.budget_microusd))
        return tuple(resources)

    def _activities(self, timed: Sequence[bool]) -> tuple[ScalingActivity, ...]:
        devices = [r.name for r in self._resources if r.name in self.conditions.limits]
        made = []
        for m, member in enumerate(self.members):
            for stage in member.stages:
                usage = [int(stage.hardware == name) for name in devices]
                if self.conditions.budget_microusd is not None:
                    usage.append(stage.microusd_per_hour)
                made.append(
                    ScalingActivity(
                        f"{m}:{stage.stage}",
                        stage.microusd_per_hour,
                        np.array(usage, dtype=np.int64),
                        group=self._group_of(m, timed),
                        duration=stage.latency_ns,
                        deadline=max(0, member.deadline_ns),
                        up_cost=self.conditions.added_microusd,
                        down_cost=self.conditions.removed_microusd,
                    )
                )
        return tuple(made)

    def _group_of(self, m: int, timed: Sequence[bool]) -> int:
        """Groups: those that shed come first, then one for all whose waits are shared out and who shed nothing."""
        return max(self._shedding) + 1 if timed[m] else self._shedding[m]

    def _groups(self, timed: Sequence[bool], needs: Int64) -> tuple[Group, ...]:
        groups = []
        for g in range(max(self._shedding) + 1):
            loss = None if self._common else self.members[g].loss_microusd
            if loss is None:
                # A thousandth is worth more than all replicas that it can ask for: as much as possible is served.
                prices = [s.microusd_per_hour + self.conditions.added_microusd for s in self._stages]
                asked = [_thousandth(need) for need in needs.tolist()]
                penalty = sum(n * price for n, price in zip(asked, prices, strict=True)) + 1
            else:
                penalty = -(-loss // WHOLE)
            groups.append(Group(f"g{g}", penalty))
        if any(timed):
            groups.append(Group("none"))
        return tuple(groups)

    def _arcs(self, timed: Sequence[bool]) -> tuple[Arc, ...]:
        return tuple(
            Arc(first + parent, first + child, delay)
            for member, first, keeps in zip(self.members, self._first, timed, strict=False)
            if keeps
            for parent, child, delay in member.edges
        )


def _thousandth(need: int) -> int:
    """Most units that a thousandth more of the traffic can take of a stage that needs so many thousandths of one."""
    return 1 + need // (WHOLE * WHOLE)


def _thousandths(demand: Demand, wait: int) -> int:
    """Units needed for a wait, in thousandths, rounded up."""
    pairs = zip(demand.offset.tolist(), demand.load.tolist(), strict=True)
    return max((-(-load * WHOLE // (offset + wait)) for offset, load in pairs if load > 0), default=0)
