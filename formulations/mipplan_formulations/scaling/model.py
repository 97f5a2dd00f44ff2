"""Formulation `scaling`: units, what is shed, and event times. Row numbers are those of the page ``scaling.md``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

import numpy as np

from mipplan_formulations.linear import Bool, Float64, Int64, LinearModel, ModelBuilder
from mipplan_formulations.scaling.demands import KINDS, lower_hull, side_by_side
from mipplan_formulations.scaling.problem import WHOLE, ScalingActivity, ScalingProblem

MOST_UNITS = 4096
"""At most this many numbers of units per activity with a demand are written out; more are refused without slopes."""

_Row = tuple[str, Sequence[tuple[int, str, int]], float, float]
"""Name, sum of terms (coefficient, kind and index of a column), and the two sides."""


def build(problem: ScalingProblem, slopes: Int64 | None = None) -> LinearModel:
    """Write the problem as a linear model, all of its columns integers.

    Slopes, shape (2, t, r), are those of the rows (5) and of the rows (6) for each activity with a demand, in order; 0
    stands for no row. Only these are written: a relaxation. By default all that the numbers of units have; `ValueError`
    if these are more than 4,096.
    """
    kinds, indices, lower, upper, cost = zip(*_columns(problem, bound_times=slopes is None), strict=True)
    model = ModelBuilder()
    model.add_columns(map("{}_{}".format, kinds, indices), lower=lower, upper=upper, cost=cost)
    places = {column: place for place, column in enumerate(zip(kinds, indices, strict=True))}
    times = _all_times(problem) if slopes is None else _times(problem, slopes)
    for name, terms, low, high in chain(_needs(problem), _totals(problem), times, _paths(problem)):
        columns = np.array([places[kind, index] for _, kind, index in terms], dtype=np.int64)
        coefficients = np.array([term[0] for term in terms], dtype=np.int64)
        model.add_row(name, columns, coefficients, lower=low, upper=high)
    return model.build("scaling")


def decode(problem: ScalingProblem, model: LinearModel, values: Float64) -> tuple[int, ...]:  # noqa: ARG001
    """Return the number of units of every activity."""
    return tuple(int(n) for n in np.rint(values[: len(problem.activities)]))


def encode(problem: ScalingProblem, model: LinearModel, units: Sequence[int]) -> Float64:
    """Write numbers of units as values of the columns: no more is shed, and nothing is later, than they make necessary.

    The values satisfy all rows if the problem allows the units. Shape (model.num_columns,).
    """
    places = {name: place for place, name in enumerate(model.column_names)}
    values = np.zeros(model.num_columns)
    values[: len(units)] = units
    for g, (group, shed) in enumerate(zip(problem.groups, problem.least_shed(units), strict=True)):
        if group.penalty is not None:
            values[places[f"shed_{g}"]] = shed
    before, after, _ = problem.path_times(units)
    for v, (n, now, demand) in enumerate(zip(units, problem.present.tolist(), problem.demands, strict=True)):
        if f"up_{v}" in places:
            values[places[f"up_{v}"]], values[places[f"down_{v}"]] = max(0, n - now), max(0, now - n)
        if demand is not None:
            values[places[f"wait_{v}"]] = demand.waits(n)
            values[places[f"own_{v}"]] = demand.own_times(n)
            values[places[f"before_{v}"]], values[places[f"after_{v}"]] = before[v], after[v]
    return values


def _columns(problem: ScalingProblem, *, bound_times: bool) -> Iterator[tuple[str, int, int, int, int]]:
    """Kind, index, bounds and cost of every column."""
    fewest = _fewest(problem, _shedding(problem)).tolist()
    for v, (activity, most) in enumerate(zip(problem.activities, problem.most.tolist(), strict=True)):
        yield "n", v, min(fewest[v], most), most, activity.cost
    for g, group in enumerate(problem.groups):
        if group.penalty is not None:
            yield "shed", g, 0, WHOLE, group.penalty
    for v, activity in _changing(problem):
        now = int(problem.present[v])
        yield "up", v, 0, max(0, int(problem.most[v]) - now), activity.up_cost
        yield "down", v, 0, max(0, now - int(problem.least[v])), activity.down_cost
    for v, demand in enumerate(problem.demands):
        if demand is not None:
            latest, most = problem.activities[v].deadline, problem.most[v]
            # With rows for some slopes only, the model shall not depend on the most units but by their own bound.
            wait, own = (int(demand.waits(most)), int(demand.own_times(most))) if bound_times else (0, 0)
            yield "wait", v, wait, max(wait, latest), 0
            yield "own", v, own, max(own, latest), 0
            yield "before", v, 0, latest, 0
            yield "after", v, 0, latest, 0


def _shedding(problem: ScalingProblem) -> Bool:
    """Which activities may shed."""
    return np.array([problem.groups[activity.group].penalty is not None for activity in problem.activities])


def _fewest(problem: ScalingProblem, shedding: Bool) -> Int64:
    """Fewest units allowed that meet the need where nothing may be shed."""
    return np.where(shedding, problem.least, np.maximum(problem.least, -(-problem.need // WHOLE)))


def _changing(problem: ScalingProblem) -> list[tuple[int, ScalingActivity]]:
    """Activities whose changes cost something."""
    return [(v, a) for v, a in enumerate(problem.activities) if a.up_cost or a.down_cost]


def _needs(problem: ScalingProblem) -> Iterator[_Row]:
    """Rows (1) and (2); where nothing may be shed, bounds say it, or a row if they cannot."""
    for v, (activity, need) in enumerate(zip(problem.activities, problem.need.tolist(), strict=True)):
        if problem.groups[activity.group].penalty is None:
            if (whole := -(-need // WHOLE)) > problem.most[v]:
                yield f"need_{v}", [(1, "n", v)], whole, np.inf
            continue
        need = max(1, need)
        whole, fraction = -(-need // WHOLE), (need - 1) % WHOLE + 1
        shed = (need, "shed", activity.group)
        yield f"need_{v}", [(WHOLE * WHOLE, "n", v), shed], need * WHOLE, np.inf
        yield f"round_{v}", [(WHOLE * fraction, "n", v), shed], WHOLE * fraction * whole, np.inf


def _totals(problem: ScalingProblem) -> Iterator[_Row]:
    """Rows (3), resources, and (4), changes."""
    for r, resource in enumerate(problem.resources):
        used = [int(activity.usage[r]) for activity in problem.activities]
        terms = [(amount, "n", v) for v, amount in enumerate(used) if amount]
        yield f"resource_{r}", terms, -np.inf, resource.capacity
    for v, _ in _changing(problem):
        now = int(problem.present[v])
        yield f"change_{v}", [(1, "n", v), (-1, "up", v), (1, "down", v)], now, now


def _all_times(problem: ScalingProblem) -> Iterator[_Row]:
    """Rows (5) and (6): all that the numbers of units have."""
    for v, demand in enumerate(problem.demands):
        if demand is None:
            continue
        low, high = int(problem.least[v]), int(problem.most[v])
        if high - low >= MOST_UNITS:
            name = problem.activities[v].name
            raise ValueError(f"activity {name!r}: {high - low + 1} numbers of units; give slopes")
        units = np.arange(low, high + 1, dtype=np.int64)
        for kind in KINDS:
            for k, (slope, time, side) in enumerate(lower_hull(units, demand.times(kind, units))):
                yield f"{kind}_{v}_{k}", [(slope, "n", v), (time, kind, v)], side, np.inf


def _times(problem: ScalingProblem, slopes: Int64) -> Iterator[_Row]:
    """Rows (5) and (6) of the given slopes."""
    timed = np.flatnonzero(problem.is_timed)
    sides = side_by_side(problem.demands).supports(slopes, problem.least[timed], problem.most[timed])
    for i, v in enumerate(timed.tolist()):
        for kind, name in enumerate(KINDS):
            for k in np.flatnonzero(slopes[kind, i]).tolist():
                terms = [(int(slopes[kind, i, k]), "n", v), (1, name, v)]
                yield f"{name}_{v}_{k}", terms, int(sides[kind, i, k]), np.inf


def _paths(problem: ScalingProblem) -> Iterator[_Row]:
    """Rows (7) to (9): times before and after each activity, and both within its deadline."""
    timed = [(v, a) for v, a in enumerate(problem.activities) if problem.demands[v] is not None]
    heads, tails = {arc.head for arc in problem.arcs}, {arc.tail for arc in problem.arcs}
    for v, activity in timed:
        for kind, others in (("before", heads), ("after", tails)):
            if v not in others:
                yield f"{kind}_{v}", [(1, kind, v), (-1, "own", v)], activity.duration, np.inf
    for k, arc in enumerate(problem.arcs):
        if problem.demands[arc.tail] is None:
            continue
        ways = (("onward", "before", arc.tail, arc.head), ("backward", "after", arc.head, arc.tail))
        for name, kind, here, there in ways:
            terms = [(1, kind, there), (-1, kind, here), (-1, "own", there)]
            yield f"{name}_{k}", terms, arc.lag + problem.activities[there].duration, np.inf
    for v, activity in timed:
        terms = [(1, "before", v), (1, "after", v), (-1, "own", v), (1, "wait", v)]
        yield f"deadline_{v}", terms, -np.inf, activity.deadline + activity.duration


class ScalingTemplate:
    """Writes models for problems with the activities, groups, resources and arcs of a first one.

    What may differ: needs, least, most and present units, capacities, penalties, demands, and slopes if the same
    ones are 0. `write` returns what `build` would, without building rows one by one: seven times as fast with 200
    activities.

    Raises `ValueError` if activities have demands but no slopes (as for `build`), or more is needed of something than
    is allowed and nothing may be shed.
    """

    def __init__(self, problem: ScalingProblem, slopes: Int64 | None = None) -> None:
        if slopes is None and any(problem.is_timed):
            raise ValueError("a template of activities with demands needs slopes")
        self._problem = problem
        self._model = model = build(problem, slopes)
        columns = {name: place for place, name in enumerate(model.column_names)}
        rows = {name: place for place, name in enumerate(model.row_names)}
        starts = model.matrix.indptr
        self._shedding = _shedding(problem)
        if self._is_short(problem):
            raise ValueError("a template needs a problem in which no more is needed than is allowed")
        self._sheds = np.flatnonzero(self._shedding)
        self._need_rows = _places(rows, "need", self._sheds)
        self._round_rows = _places(rows, "round", self._sheds)
        # In each of these rows the units come first: columns are sorted, and theirs are the first of all.
        self._need_at, self._round_at = starts[self._need_rows], starts[self._round_rows]
        self._resource_rows = _places(rows, "resource", range(len(problem.resources)))
        self._changing = np.array([v for v, _ in _changing(problem)], dtype=np.int64)
        self._change_rows = _places(rows, "change", self._changing)
        self._up = _places(columns, "up", self._changing)
        self._down = _places(columns, "down", self._changing)
        self._priced = [g for g, group in enumerate(problem.groups) if group.penalty is not None]
        self._shed = _places(columns, "shed", self._priced)
        self._timed = np.flatnonzero(problem.is_timed)
        self._sloped = _with_rows(slopes)
        names = [f"{KINDS[kind]}_{self._timed[i]}_{k}" for kind, i, k in np.argwhere(self._sloped)]
        self._time_rows = np.array([rows[name] for name in names], dtype=np.int64)
        self._time_at = starts[self._time_rows]

    def fits(self, problem: ScalingProblem) -> bool:
        """Whether `write` accepts a problem: the same parts, but for numbers that may differ."""
        mine = self._problem
        return (
            problem.activities is mine.activities
            and problem.arcs is mine.arcs
            and len(problem.resources) == len(mine.resources)
            and [g.penalty is None for g in problem.groups] == [g.penalty is None for g in mine.groups]
            and problem.is_timed == mine.is_timed
            and not self._is_short(problem)
        )

    def write(self, problem: ScalingProblem, slopes: Int64 | None = None) -> LinearModel:
        """Return the model of a problem that fits.

        Raises `ValueError` if it does not fit.
        """
        if not self.fits(problem):
            raise ValueError("the problem differs from that of the template in more than its numbers")
        if not np.array_equal(_with_rows(slopes), self._sloped):
            raise ValueError("the slopes differ from those of the template in which of them are 0")
        model = self._model
        names = ("objective", "row_lower", "row_upper", "column_lower", "column_upper")
        numbers = {name: getattr(model, name).copy() for name in names}
        objective, lower, upper, column_lower, column_upper = numbers.values()
        entries = numbers["entries"] = model.matrix.data.copy()
        units = slice(problem.need.size)
        column_lower[units], column_upper[units] = _fewest(problem, self._shedding), problem.most
        now = problem.present[self._changing]
        column_upper[self._up] = np.maximum(0, problem.most[self._changing] - now)
        column_upper[self._down] = np.maximum(0, now - problem.least[self._changing])
        objective[self._shed] = [problem.groups[g].penalty or 0 for g in self._priced]
        need = np.maximum(1, problem.need[self._sheds])
        fraction = (need - 1) % WHOLE + 1
        entries[self._need_at + 1] = entries[self._round_at + 1] = need
        entries[self._round_at] = WHOLE * fraction
        lower[self._need_rows] = need * WHOLE
        lower[self._round_rows] = WHOLE * fraction * -(-need // WHOLE)
        upper[self._resource_rows] = [resource.capacity for resource in problem.resources]
        lower[self._change_rows] = upper[self._change_rows] = now
        if slopes is not None:
            least, most = problem.least[self._timed], problem.most[self._timed]
            sides = side_by_side(problem.demands).supports(slopes, least, most)
            entries[self._time_at] = slopes[self._sloped]
            lower[self._time_rows] = sides[self._sloped]
        return model.renumbered(**numbers)

    def _is_short(self, problem: ScalingProblem) -> bool:
        """Whether a need that may not be shed exceeds what is allowed: then the model has a row more."""
        return bool(np.any(_fewest(problem, self._shedding) > problem.most))


def _places(table: Mapping[str, int], kind: str, indices: Iterable[int]) -> Int64:
    return np.array([table[f"{kind}_{index}"] for index in indices], dtype=np.int64)


def _with_rows(slopes: Int64 | None) -> Bool:
    """Which slopes have a row."""
    return np.zeros((2, 0, 0), dtype=np.bool_) if slopes is None else slopes != 0
