"""From a solution of the relaxation to whole units, in exact arithmetic: deadlines first, then what is shed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import networkx as nx
import numpy as np

from mipplan.core import Bool, Float64, Int64, LongestPaths, first_true
from mipplan_formulations import Arc, ScalingEvaluation, ScalingProblem
from mipplan_formulations.scaling import WHOLE, side_by_side
from mipplan_formulations.time_cost import topological_order

#: Numbers closer than this to a whole one are taken for it, because the solver is no more exact than that.
_CLOSE = 1e-5


def round_shedding(problem: ScalingProblem, relaxed: Float64, shed: Float64) -> list[int] | None:
    """Whole units of a problem without demands, close to the relaxation's; None if none keep the resources.

    Each unit is rounded up. Where a resource does not admit that, first what is more than needed goes, then the group
    for which that costs least sheds a little more, and so on: at most a unit per activity is too many.
    """
    shedding = _Shedding(problem, shed)
    upwards = np.ceil(relaxed - _CLOSE).astype(np.int64)
    units = np.clip(np.maximum(upwards, shedding.floors()), problem.least, problem.most)
    while (broken := shedding.broken(units)) is not None:
        usage = shedding.usage[:, broken]
        spare = np.flatnonzero((units > shedding.floors()) & (usage > 0))
        if spare.size:
            worst = spare[np.argmax(usage[spare] * (units - shedding.floors())[spare])]
            units[worst] -= 1
        elif not shedding.shed_more(usage > 0, units):
            return None
    shedding.shed_less(units)
    return [int(n) for n in units]


class _Shedding:
    """Units needed at least, as what is shed changes."""

    def __init__(self, problem: ScalingProblem, shed: Float64) -> None:
        self.problem = problem
        self.usage = _usage(problem)
        self._capacity = np.array([r.capacity for r in problem.resources], dtype=np.int64)
        self._group = np.array([a.group for a in problem.activities], dtype=np.int64)
        penalties = [-1 if g.penalty is None else g.penalty for g in problem.groups]
        self._penalty = np.array(penalties, dtype=np.int64)
        rounded = np.clip(np.floor(shed + _CLOSE), 0, WHOLE).astype(np.int64)
        self.shed = np.where(self._penalty >= 0, rounded, 0)
        most_kept = problem.most * WHOLE * WHOLE // np.maximum(1, problem.need)
        np.maximum.at(self.shed, self._group, np.maximum(0, WHOLE - most_kept))
        self._least_shed = self.shed.copy()

    def floors(self) -> Int64:
        """Units needed at least with what is shed now, within what is allowed."""
        return _needed(self.problem, WHOLE - self.shed[self._group])

    def broken(self, units: Int64) -> int | None:
        """Index of a resource that does not suffice."""
        over = np.flatnonzero(units @ self.usage > self._capacity)
        return int(over[0]) if over.size else None

    def shed_more(self, users: Bool, units: Int64) -> bool:
        """Let one group shed so much more that one of the users needs a unit less; False if none can."""
        options: list[tuple[float, int, int]] = []
        for v in np.flatnonzero(users & (units > self.problem.least)).tolist():
            group = int(self._group[v])
            # need·(1000 − s) ≤ (n − 1)·10⁶
            enough = WHOLE - (int(units[v]) - 1) * WHOLE * WHOLE // int(self.problem.need[v])
            if enough <= WHOLE and self._penalty[group] >= 0:
                options.append((float(self._penalty[group]) * (enough - int(self.shed[group])), v, enough))
        if not options:
            return False
        _, v, enough = min(options)
        group = int(self._group[v])
        self.shed[group] = max(int(self.shed[group]), enough)
        # Units above the floors are given up with the group's shedding.
        np.copyto(units, np.where(self._group == group, np.minimum(units, self.floors()), units))
        return True

    def shed_less(self, units: Int64) -> None:
        """Give the groups back what the resources still admit, the dearest first, up to what the relaxation serves."""
        for group in np.argsort(-self._penalty, kind="stable").tolist():
            least, now = int(self._least_shed[group]), int(self.shed[group])
            if least < now:
                self.shed[group] = first_true(least, now, partial(self._suffices, units, group))
            np.copyto(units, np.maximum(units, self.floors()))

    def _suffices(self, units: Int64, group: int, shed: int) -> bool:
        self.shed[group] = shed
        return self.broken(np.maximum(units, self.floors())) is None


def round_times(problem: ScalingProblem, relaxed: Float64) -> list[int] | None:
    """Whole units that keep every deadline, close to the relaxation's; for activities without demand the least.

    Rounded up, then raised where the relaxation was too easy, then lowered one by one while the deadlines are kept: the
    dearest first, or, if a resource does not admit what is left, those that use most of it.
    """
    deadlines = Deadlines(problem)
    floors = np.maximum(problem.least, -(-problem.need // WHOLE))
    whole = np.maximum(floors, np.ceil(relaxed - _CLOSE).astype(np.int64))
    units = deadlines.raised(np.where(problem.is_timed, whole, problem.least).tolist())
    if units is None:
        return None
    lowered = deadlines.lowered(units, floors.tolist(), [a.cost for a in problem.activities])
    usage = _usage(problem)
    over = lowered @ usage > [resource.capacity for resource in problem.resources]
    if over.any():
        return deadlines.lowered(units, floors.tolist(), usage[:, over].sum(axis=1).tolist())
    return lowered


def improve(
    problem: ScalingProblem, units: Sequence[int], evaluation: ScalingEvaluation
) -> tuple[list[int], ScalingEvaluation]:
    """Change one activity, or one and its group with it, as long as that is cheaper: always the best such change."""
    chosen, best = list(units), evaluation
    while True:
        judged = [(n, made) for n in _beside(problem, chosen) if (made := problem.evaluate(n)).feasible]
        tried, found = min(judged, key=lambda each: each[1].cost, default=(chosen, best))
        if found.cost >= best.cost:
            return chosen, best
        chosen, best = tried, found


def _beside(problem: ScalingProblem, chosen: Sequence[int]) -> Iterator[list[int]]:
    """One activity has a unit more or less; where its group may shed, also with the others at what is needed then."""
    groups = np.array([activity.group for activity in problem.activities])
    for v, other in ((v, other) for v, n in enumerate(chosen) for other in (n - 1, n + 1)):
        if problem.least[v] <= other <= problem.most[v]:
            yield [*chosen[:v], other, *chosen[v + 1 :]]
            if problem.groups[groups[v]].penalty is not None:
                served = min(WHOLE, other * WHOLE * WHOLE // max(1, int(problem.need[v])))
                own = np.where(groups == groups[v], _needed(problem, served), chosen).tolist()
                yield [*own[:v], other, *own[v + 1 :]]


def _needed(problem: ScalingProblem, served: Int64 | int) -> Int64:
    """Units needed at least to serve so many thousandths, within what is allowed, shape (v,)."""
    return (-(-problem.need * served // (WHOLE * WHOLE))).clip(problem.least, problem.most)


def _usage(problem: ScalingProblem) -> Int64:
    """What a unit of each activity uses of each resource, shape (v, r)."""
    return np.array([a.usage for a in problem.activities], dtype=np.int64).reshape(problem.need.size, -1)


@dataclass(frozen=True)
class _Part:
    """Activities joined by arcs: they have one deadline, which the problem has checked."""

    members: list[int]
    paths: LongestPaths[int]


class Deadlines:
    """Whether the activities with a demand keep their deadlines; times are looked up, not computed again."""

    def __init__(self, problem: ScalingProblem) -> None:
        self.problem = problem
        self._demands = side_by_side(problem.demands)
        self.timed = self._demands.activities
        self._durations = [activity.duration for activity in problem.activities]
        self._parts = _find_parts(len(problem.activities), problem.arcs, self.timed)
        self._part = {v: part for part in self._parts for v in part.members}
        self._known: dict[tuple[int, int], tuple[int, int]] = {}

    def times(self, v: int, units: int) -> tuple[int, int]:
        """Wait, and duration with the own time, of one activity."""
        if (v, units) not in self._known:
            demand = self.problem.demands[v]
            assert demand is not None
            pairs = zip(demand.offset.tolist(), demand.load.tolist(), strict=True)
            waits = [-(-load // units) - offset for offset, load in pairs]
            self._known[v, units] = max([0, *waits]), self._durations[v] - (-demand.own_load // units)
        return self._known[v, units]

    def spare(self, units: Sequence[int]) -> dict[int, int]:
        """For each activity with a demand how long it may make others wait, given all own times; perhaps negative."""
        parts = (self._spare_within(part, units) for part in self._parts)
        return {v: time for spare in parts for v, time in spare.items()}

    def are_kept(self, units: Sequence[int]) -> bool:
        """Whether every path keeps its deadline."""
        self._look_up(units)
        return all(self.times(v, units[v])[0] <= time for v, time in self.spare(units).items())

    def raised(self, units: Sequence[int]) -> list[int] | None:
        """Units, at least those given, that keep every deadline; None if none that are allowed do.

        For the own times of these units the fewest units that keep the wait are known in closed form. More units
        shorten own times further, so the result is feasible. Where own times alone are too long, units are added one
        step after another, each where it takes most lateness per cost away.
        """
        chosen, most = list(units), self.problem.most.tolist()
        if self.are_kept(chosen):
            return chosen
        if not self.are_kept(most):
            return None  # times only fall with more units
        in_time = self._closed_form(units, most)
        if in_time is not None:
            return in_time
        for part in self._parts:
            while (lateness := self._lateness(part, chosen)) > 0:
                self._add_where_best(part, chosen, most, lateness)
        return chosen

    def _closed_form(self, units: Sequence[int], most: Sequence[int]) -> list[int] | None:
        chosen = list(units)
        for v, spare in self.spare(units).items():
            demand = self.problem.demands[v]
            assert demand is not None
            needed = demand.units_for(spare, self.times(v, units[v])[1] - self._durations[v])
            if needed is None or needed > most[v]:
                return None
            chosen[v] = max(chosen[v], needed)
        return chosen

    def _add_where_best(self, part: _Part, chosen: list[int], most: Sequence[int], lateness: int) -> None:
        """Take one step, of a unit or an eighth; of several steps that help the one that is worth most."""
        options: list[tuple[float, int, int]] = []
        for v in part.members:
            before, more = chosen[v], min(most[v], chosen[v] + max(1, chosen[v] // 8))
            chosen[v] = more
            gained = lateness - self._lateness(part, chosen)
            chosen[v] = before
            if gained > 0:
                price = (self.problem.activities[v].cost + 1) * (more - before)
                options.append((gained / price, v, more))
        if options:
            _, v, more = max(options, key=lambda option: option[0])
            chosen[v] = more
        else:  # no single step shows in whole units of time, or two paths are late: all of them
            for v in part.members:
                chosen[v] = min(most[v], 2 * chosen[v])

    def _lateness(self, part: _Part, units: Sequence[int]) -> int:
        """Sum over activities of how much longer they make others wait than they may."""
        spare = self._spare_within(part, units)
        return sum(max(0, self.times(v, units[v])[0] - time) for v, time in spare.items())

    def lowered(self, units: Sequence[int], floors: Sequence[int], weights: Sequence[int]) -> list[int]:
        """Take units away while every path keeps its deadline, those of the heaviest activity first."""
        chosen = list(units)
        self._look_up(chosen, [n - 1 for n in chosen])
        spare = self.spare(chosen)
        for v in sorted(self.timed, key=lambda v: -weights[v]):
            while chosen[v] > floors[v] and self._take_one(v, chosen, spare):
                pass
        return chosen

    def _take_one(self, v: int, chosen: list[int], spare: dict[int, int]) -> bool:
        """Take a unit away if every path keeps its deadline without, and keep up what is spare; False if not."""
        wait, own = self.times(v, chosen[v] - 1)
        longer = own - self.times(v, chosen[v])[1]
        if wait > spare[v] - longer:
            return False
        if longer:
            left = self._spare_within(self._part[v], [*chosen[:v], chosen[v] - 1, *chosen[v + 1 :]])
            if any(self.times(u, chosen[u])[0] > time for u, time in left.items() if u != v):
                return False
            spare |= left
        chosen[v] -= 1
        return True

    def _look_up(self, *units: Sequence[int]) -> None:
        """Compute the times of some numbers of units for all activities at once."""
        chosen = np.maximum(1, np.array(units, dtype=np.int64)[:, self.timed])
        waits, owns = self._demands.times(chosen.T)
        for i, v in enumerate(self.timed):
            triples = zip(chosen[:, i].tolist(), waits[i].tolist(), owns[i].tolist(), strict=True)
            self._known.update({(v, n): (wait, own + self._durations[v]) for n, wait, own in triples})

    def _spare_within(self, part: _Part, units: Sequence[int]) -> dict[int, int]:
        own = {v: self.times(v, units[v])[1] for v in part.members}
        deadline = self.problem.activities[part.members[0]].deadline
        return {v: deadline - length for v, length in part.paths.through(own).items()}


@lru_cache(maxsize=8)
def _find_parts(count: int, arcs: tuple[Arc, ...], timed: tuple[int, ...]) -> tuple[_Part, ...]:
    """Parts of the last few problems: arcs are the same from one to the next."""
    joined: nx.Graph[int] = nx.Graph()
    joined.add_nodes_from(timed)
    inside = [arc for arc in arcs if arc.tail in joined]
    joined.add_edges_from((arc.tail, arc.head) for arc in inside)
    order = topological_order(count, arcs)
    parts = []
    for members in nx.connected_components(joined):
        lags = [(arc.tail, arc.head, arc.lag) for arc in inside if arc.tail in members]
        parts.append(_Part(sorted(members), LongestPaths(order, lags)))
    return tuple(parts)
