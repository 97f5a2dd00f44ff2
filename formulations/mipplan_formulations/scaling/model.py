"""Formulation `scaling`: units, what is shed, and event times. Row numbers are those of the page ``scaling.md``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from mipplan_formulations.linear import Bool, Float64, Int64, LinearModel, ModelBuilder
from mipplan_formulations.scaling.demands import KINDS, lower_hull, side_by_side
from mipplan_formulations.scaling.problem import WHOLE, ScalingProblem

MOST_UNITS = 4096
"""At most this many numbers of units per activity with a demand are written out; more are refused without slopes."""


def build(problem: ScalingProblem, slopes: Int64 | None = None) -> LinearModel:
    """Write the problem as a linear model, all of its columns integers.

    Raises `ValueError` if an activity with a demand has more than 4,096 numbers of units and no slopes are
    given.

    Parameters
    ----------
    slopes : int64 array, shape (2, t, r), optional
        Of the rows (5) and of the rows (6) for each activity with a demand, in order; 0 stands for no row. Only these
        are written: a relaxation. By default all that the numbers of units have.
    """
    writer = _Writer(problem, bound_times=slopes is None)
    writer.add_needs()
    writer.add_resources()
    writer.add_changes()
    if slopes is None:
        writer.add_all_times()
    else:
        writer.add_times(slopes)
    writer.add_paths()
    return writer.model.build("scaling")


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


class _Writer:
    """A model under construction; a column is known by its kind and index, and a row is written as terms of columns."""

    def __init__(self, problem: ScalingProblem, *, bound_times: bool) -> None:
        self._problem = problem
        self.model = ModelBuilder()
        kinds, indices, lower, upper, cost = zip(*_columns(problem, bound_times=bound_times), strict=True)
        names = list(map("{}_{}".format, kinds, indices))
        self.model.add_columns(names, lower=lower, upper=upper, cost=cost)
        self._places = {column: place for place, column in enumerate(zip(kinds, indices, strict=True))}

    def _add_row(
        self, name: str, *terms: tuple[int, str, int], lower: float = -np.inf, upper: float = np.inf
    ) -> None:
        """Add the sum of the terms (coefficient, kind, index) between two sides."""
        places = np.array([self._places[kind, index] for _, kind, index in terms], dtype=np.int64)
        coefficients = np.array([term[0] for term in terms], dtype=np.int64)
        self.model.add_row(name, places, coefficients, lower=lower, upper=upper)

    def add_needs(self) -> None:
        """Rows (1) and (2); where nothing may be shed, bounds say it, or a row if they cannot."""
        problem = self._problem
        for v, (activity, need) in enumerate(zip(problem.activities, problem.need.tolist(), strict=True)):
            whole = -(-need // WHOLE)
            if problem.groups[activity.group].penalty is None:
                if whole > int(problem.most[v]):
                    self._add_row(f"need_{v}", (1, "n", v), lower=whole)
                continue
            need = max(1, need)
            whole, fraction = -(-need // WHOLE), (need - 1) % WHOLE + 1
            shed = (need, "shed", activity.group)
            self._add_row(f"need_{v}", (WHOLE * WHOLE, "n", v), shed, lower=need * WHOLE)
            self._add_row(f"round_{v}", (WHOLE * fraction, "n", v), shed, lower=WHOLE * fraction * whole)

    def add_resources(self) -> None:
        """Rows (3)."""
        for r, resource in enumerate(self._problem.resources):
            used = [int(activity.usage[r]) for activity in self._problem.activities]
            terms = [(amount, "n", v) for v, amount in enumerate(used) if amount]
            self._add_row(f"resource_{r}", *terms, upper=resource.capacity)

    def add_changes(self) -> None:
        """Rows (4)."""
        for v, now in enumerate(self._problem.present.tolist()):
            if ("up", v) in self._places:
                terms = (1, "n", v), (-1, "up", v), (1, "down", v)
                self._add_row(f"change_{v}", *terms, lower=now, upper=now)

    def add_all_times(self) -> None:
        """Rows (5) and (6): all that the numbers of units have."""
        problem = self._problem
        for v, demand in enumerate(problem.demands):
            if demand is None:
                continue
            low, high = int(problem.least[v]), int(problem.most[v])
            if high - low >= MOST_UNITS:
                name = problem.activities[v].name
                raise ValueError(f"activity {name!r}: {high - low + 1} numbers of units; give slopes")
            units = np.arange(low, high + 1, dtype=np.int64)
            for kind in KINDS:
                places = np.array([self._places["n", v], self._places[kind, v]], dtype=np.int64)
                for k, (slope, time, side) in enumerate(lower_hull(units, demand.times(kind, units))):
                    self.model.add_row(f"{kind}_{v}_{k}", places, np.array([slope, time]), lower=side)

    def add_times(self, slopes: Int64) -> None:
        """Rows (5) and (6) of the given slopes."""
        demands = side_by_side(self._problem.demands)
        timed = list(demands.activities)
        sides = demands.supports(slopes, self._problem.least[timed], self._problem.most[timed])
        for i, v in enumerate(timed):
            for kind, name in enumerate(KINDS):
                places = np.array([self._places["n", v], self._places[name, v]], dtype=np.int64)
                for k in np.flatnonzero(slopes[kind, i]).tolist():
                    pair = np.array([slopes[kind, i, k], 1])
                    self.model.add_row(f"{name}_{v}_{k}", places, pair, lower=int(sides[kind, i, k]))

    def add_paths(self) -> None:
        """Rows (7) to (9): times before and after each activity, and both within its deadline."""
        problem = self._problem
        timed = [(v, a) for v, a in enumerate(problem.activities) if problem.demands[v] is not None]
        heads = {arc.head for arc in problem.arcs}
        tails = {arc.tail for arc in problem.arcs}
        for v, activity in timed:
            for kind, others in (("before", heads), ("after", tails)):
                if v not in others:
                    self._add_row(f"{kind}_{v}", (1, kind, v), (-1, "own", v), lower=activity.duration)
        for k, arc in enumerate(problem.arcs):
            if problem.demands[arc.tail] is None:
                continue
            tail, head = problem.activities[arc.tail], problem.activities[arc.head]
            ahead = (1, "before", arc.head), (-1, "before", arc.tail), (-1, "own", arc.head)
            self._add_row(f"onward_{k}", *ahead, lower=arc.lag + head.duration)
            back = (1, "after", arc.tail), (-1, "after", arc.head), (-1, "own", arc.tail)
            self._add_row(f"backward_{k}", *back, lower=arc.lag + tail.duration)
        for v, activity in timed:
            terms = (1, "before", v), (1, "after", v), (-1, "own", v), (1, "wait", v)
            self._add_row(f"deadline_{v}", *terms, upper=activity.deadline + activity.duration)


def _columns(problem: ScalingProblem, *, bound_times: bool) -> Iterator[tuple[str, int, int, int, int]]:
    """Kind, index, bounds and cost of every column."""
    for v, activity in enumerate(problem.activities):
        low, high = int(problem.least[v]), int(problem.most[v])
        if problem.groups[activity.group].penalty is None:
            low = max(low, -(-int(problem.need[v]) // WHOLE))
        yield "n", v, min(low, high), high, activity.cost
    for g, group in enumerate(problem.groups):
        if group.penalty is not None:
            yield "shed", g, 0, WHOLE, group.penalty
    for v, activity in enumerate(problem.activities):
        if activity.up_cost or activity.down_cost:
            now = int(problem.present[v])
            yield "up", v, 0, max(0, int(problem.most[v]) - now), activity.up_cost
            yield "down", v, 0, max(0, now - int(problem.least[v])), activity.down_cost
    for v, demand in enumerate(problem.demands):
        if demand is None:
            continue
        latest, most = problem.activities[v].deadline, problem.most[v]
        # With rows for some slopes only, the model shall not depend on the most units but by their own bound.
        wait, own = (int(demand.waits(most)), int(demand.own_times(most))) if bound_times else (0, 0)
        yield "wait", v, wait, max(wait, latest), 0
        yield "own", v, own, max(own, latest), 0
        yield "before", v, 0, latest, 0
        yield "after", v, 0, latest, 0


class ScalingTemplate:
    """Writes models for problems with the activities, groups, resources and arcs of a first one.

    What may differ: needs, least, most and present units, capacities, penalties, demands, and slopes if the same
    ones are 0. `write` returns what `build` would, without building rows one by one: seven times as fast with 200
    activities.

    Raises `ValueError` if slopes are missing, or more is needed of something than is allowed and nothing may
    be shed.

    Parameters
    ----------
    slopes : int64 array, shape (2, t, r), optional
        As for `build`; needed if activities have demands.
    """

    def __init__(self, problem: ScalingProblem, slopes: Int64 | None = None) -> None:
        if slopes is None and any(problem.is_timed):
            raise ValueError("a template of activities with demands needs slopes")
        self._problem = problem
        self._model = model = build(problem, slopes)
        columns = {name: place for place, name in enumerate(model.column_names)}
        rows = {name: place for place, name in enumerate(model.row_names)}
        starts = model.matrix.indptr
        shedding = [problem.groups[a.group].penalty is not None for a in problem.activities]
        self._sheds = np.flatnonzero(shedding)
        self._bound = np.flatnonzero(np.logical_not(shedding))
        if self._is_short(problem):
            raise ValueError("a template needs a problem in which no more is needed than is allowed")
        self._need_rows = _places(rows, "need", self._sheds)
        self._round_rows = _places(rows, "round", self._sheds)
        # In each of these rows the units come first: columns are sorted, and theirs are the first of all.
        self._need_at, self._round_at = starts[self._need_rows], starts[self._round_rows]
        self._resource_rows = _places(rows, "resource", range(len(problem.resources)))
        self._changing = np.array([v for v in range(len(shedding)) if f"up_{v}" in columns], dtype=np.int64)
        self._change_rows = _places(rows, "change", self._changing)
        self._up = _places(columns, "up", self._changing)
        self._down = _places(columns, "down", self._changing)
        self._penal = [
            (g, columns[f"shed_{g}"]) for g, x in enumerate(problem.groups) if x.penalty is not None
        ]
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
        entries = model.matrix.data.copy()
        objective = model.objective.copy()
        lower, upper = model.row_lower.copy(), model.row_upper.copy()
        columns = model.column_lower.copy(), model.column_upper.copy()
        self._write_units(problem, *columns)
        self._write_needs(problem, entries, lower)
        if self._resource_rows.size:
            upper[self._resource_rows] = [resource.capacity for resource in problem.resources]
        lower[self._change_rows] = upper[self._change_rows] = problem.present[self._changing]
        for g, place in self._penal:
            objective[place] = problem.groups[g].penalty or 0
        if slopes is not None:
            self._write_times(problem, slopes, entries, lower)
        return model.renumbered(
            objective=objective,
            entries=entries,
            row_lower=lower,
            row_upper=upper,
            column_lower=columns[0],
            column_upper=columns[1],
        )

    def _is_short(self, problem: ScalingProblem) -> bool:
        """Whether a need that may not be shed exceeds what is allowed: then the model has a row more."""
        return bool(np.any(-(-problem.need[self._bound] // WHOLE) > problem.most[self._bound]))

    def _write_units(self, problem: ScalingProblem, lower: Float64, upper: Float64) -> None:
        count = problem.need.size
        lower[:count], upper[:count] = problem.least, problem.most
        lower[self._bound] = np.maximum(problem.least[self._bound], -(-problem.need[self._bound] // WHOLE))
        now = problem.present[self._changing]
        upper[self._up] = np.maximum(0, problem.most[self._changing] - now)
        upper[self._down] = np.maximum(0, now - problem.least[self._changing])

    def _write_needs(self, problem: ScalingProblem, entries: Int64, lower: Float64) -> None:
        need = np.maximum(1, problem.need[self._sheds])
        fraction = (need - 1) % WHOLE + 1
        entries[self._need_at + 1] = entries[self._round_at + 1] = need
        entries[self._round_at] = WHOLE * fraction
        lower[self._need_rows] = need * WHOLE
        lower[self._round_rows] = WHOLE * fraction * -(-need // WHOLE)

    def _write_times(self, problem: ScalingProblem, slopes: Int64, entries: Int64, lower: Float64) -> None:
        sides = side_by_side(problem.demands).supports(
            slopes, problem.least[self._timed], problem.most[self._timed]
        )
        entries[self._time_at] = slopes[self._sloped]
        lower[self._time_rows] = sides[self._sloped]


def _places(table: Mapping[str, int], kind: str, indices: Iterable[int]) -> Int64:
    return np.array([table[f"{kind}_{index}"] for index in indices], dtype=np.int64)


def _with_rows(slopes: Int64 | None) -> Bool:
    """Which slopes have a row."""
    return np.zeros((2, 0, 0), dtype=np.bool_) if slopes is None else slopes != 0
