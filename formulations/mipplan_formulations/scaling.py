"""Formulation `scaling`: units, what is shed, and event times. Row numbers are those of scaling.md."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mipplan_formulations.arrays import IntArray
from mipplan_formulations.demand import lower_hull
from mipplan_formulations.demands import KINDS, side_by_side
from mipplan_formulations.linear import LinearModel
from mipplan_formulations.rows import RowCollector
from mipplan_formulations.scaling_problem import WHOLE, ScalingProblem

MOST_UNITS = 4096
"""More numbers of units than this per activity with a demand are refused, unless slopes are given."""


class _Columns:
    """Columns under construction, by kind and index."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.lower: list[int] = []
        self.upper: list[int] = []
        self.cost: list[int] = []
        self._places: dict[tuple[str, int], int] = {}

    def add(self, kind: str, index: int, lower: int, upper: int, cost: int = 0) -> None:
        self._places[kind, index] = len(self.names)
        self.names.append(f"{kind}_{index}")
        self.lower.append(lower)
        self.upper.append(upper)
        self.cost.append(cost)

    def at(self, *kinds: tuple[str, int]) -> IntArray:
        return np.array([self._places[kind] for kind in kinds], dtype=np.int64)

    def has(self, kind: str, index: int) -> bool:
        return (kind, index) in self._places


def build(problem: ScalingProblem, slopes: IntArray | None = None) -> LinearModel:
    """Write the problem as a linear model, all of its columns integers.

    Parameters
    ----------
    problem : ScalingProblem
    slopes : int64 array, shape (2, t, r), optional
        Of the rows (5) and of the rows (6) for each activity with a demand, in order; 0 stands for no row. Only these
        are written: a relaxation. By default all that the numbers of units have.

    Raises
    ------
    ValueError
        If an activity with a demand has more than 4,096 numbers of units and no slopes are given.
    """
    columns, rows = _Columns(), RowCollector()
    _add_columns(problem, columns, bound_times=slopes is None)
    _add_needs(problem, columns, rows)
    _add_resources(problem, columns, rows)
    _add_changes(problem, columns, rows)
    if slopes is None:
        _add_all_times(problem, columns, rows)
    else:
        _add_times(problem, columns, rows, slopes)
    _add_paths(problem, columns, rows)
    count = len(columns.names)
    return LinearModel(
        objective=np.array(columns.cost, dtype=np.int64),
        matrix=rows.join(count),
        row_lower=rows.lower,
        row_upper=rows.upper,
        column_lower=np.array(columns.lower, dtype=np.float64),
        column_upper=np.array(columns.upper, dtype=np.float64),
        integrality=np.ones(count, dtype=np.bool_),
        column_names=tuple(columns.names),
        row_names=rows.names,
        name="scaling",
    )


def decode(problem: ScalingProblem, model: LinearModel, values: NDArray[np.float64]) -> tuple[int, ...]:
    """Return the number of units of every activity."""
    del model
    return tuple(int(n) for n in np.rint(values[: len(problem.activities)]))


def _add_columns(problem: ScalingProblem, columns: _Columns, *, bound_times: bool) -> None:
    for v, activity in enumerate(problem.activities):
        low, high = int(problem.least[v]), int(problem.most[v])
        if problem.groups[activity.group].penalty is None:
            low = max(low, -(-int(problem.need[v]) // WHOLE))
        columns.add("n", v, min(low, high), high, activity.cost)
    for g, group in enumerate(problem.groups):
        if group.penalty is not None:
            columns.add("shed", g, 0, WHOLE, group.penalty)
    for v, activity in enumerate(problem.activities):
        if activity.up_cost or activity.down_cost:
            now = int(problem.present[v])
            columns.add("up", v, 0, max(0, int(problem.most[v]) - now), activity.up_cost)
            columns.add("down", v, 0, max(0, now - int(problem.least[v])), activity.down_cost)
    for v, demand in enumerate(problem.demands):
        if demand is None:
            continue
        latest, most = problem.activities[v].deadline, problem.most[v]
        # With rows for some slopes only, the model shall not depend on the most units but by their own bound.
        wait, own = (int(demand.waits(most)), int(demand.own_times(most))) if bound_times else (0, 0)
        columns.add("wait", v, wait, max(wait, latest))
        columns.add("own", v, own, max(own, latest))
        columns.add("before", v, 0, latest)
        columns.add("after", v, 0, latest)


def _add_needs(problem: ScalingProblem, columns: _Columns, rows: RowCollector) -> None:
    for v, (activity, need) in enumerate(zip(problem.activities, problem.need.tolist(), strict=True)):
        if problem.groups[activity.group].penalty is None:
            short = -(-need // WHOLE) > int(problem.most[v])
            if short:  # the column's bounds cannot say it
                rows.add(f"need_{v}", columns.at(("n", v)), np.array([1]), lower=-(-need // WHOLE))
            continue
        need = max(1, need)
        fraction = (need - 1) % WHOLE + 1
        pair = columns.at(("n", v), ("shed", activity.group))
        rows.add(f"need_{v}", pair, np.array([WHOLE * WHOLE, need]), lower=need * WHOLE)  # (1)
        whole = -(-need // WHOLE)
        rows.add(  # (2)
            f"round_{v}", pair, np.array([WHOLE * fraction, need]), lower=WHOLE * fraction * whole
        )


def _add_resources(problem: ScalingProblem, columns: _Columns, rows: RowCollector) -> None:
    for r, resource in enumerate(problem.resources):
        usage = np.array([activity.usage[r] for activity in problem.activities], dtype=np.int64)
        users = np.flatnonzero(usage)
        rows.add(  # (3)
            f"resource_{r}",
            columns.at(*(("n", int(v)) for v in users)),
            usage[users],
            upper=resource.capacity,
        )


def _add_changes(problem: ScalingProblem, columns: _Columns, rows: RowCollector) -> None:
    for v, now in enumerate(problem.present.tolist()):
        if columns.has("up", v):
            places = columns.at(("n", v), ("up", v), ("down", v))
            rows.add(f"change_{v}", places, np.array([1, -1, 1]), lower=now, upper=now)  # (4)


def _add_all_times(problem: ScalingProblem, columns: _Columns, rows: RowCollector) -> None:
    for v, demand in enumerate(problem.demands):
        if demand is None:
            continue
        low, high = int(problem.least[v]), int(problem.most[v])
        if high - low >= MOST_UNITS:
            raise ValueError(
                f"activity {problem.activities[v].name!r}: {high - low + 1} numbers of units; give slopes"
            )
        units = np.arange(low, high + 1, dtype=np.int64)
        for kind in KINDS:
            cuts = lower_hull(units, demand.times(kind, units))
            places = columns.at(("n", v), (kind, v))
            for k, (units_slope, time_slope, side) in enumerate(cuts):  # (5), (6)
                rows.add(f"{kind}_{v}_{k}", places, np.array([units_slope, time_slope]), lower=side)


def _add_times(problem: ScalingProblem, columns: _Columns, rows: RowCollector, slopes: IntArray) -> None:
    demands = side_by_side(problem.demands)
    timed = list(demands.activities)
    sides = demands.supports(slopes, problem.least[timed], problem.most[timed])
    for i, v in enumerate(timed):
        for kind, name in enumerate(KINDS):
            places = columns.at(("n", v), (name, v))
            for k in np.flatnonzero(slopes[kind, i]).tolist():  # (5), (6)
                pair = np.array([slopes[kind, i, k], 1])
                rows.add(f"{name}_{v}_{k}", places, pair, lower=int(sides[kind, i, k]))


def _add_paths(problem: ScalingProblem, columns: _Columns, rows: RowCollector) -> None:
    timed = problem.is_timed
    heads = {arc.head for arc in problem.arcs}
    tails = {arc.tail for arc in problem.arcs}
    for v, activity in enumerate(problem.activities):
        if not timed[v]:
            continue
        for kind, others in (("before", heads), ("after", tails)):
            if v not in others:
                places = columns.at((kind, v), ("own", v))
                rows.add(f"{kind}_{v}", places, np.array([1, -1]), lower=activity.duration)  # (7), (8)
    for k, arc in enumerate(problem.arcs):
        if not timed[arc.tail]:
            continue
        ahead = columns.at(("before", arc.head), ("before", arc.tail), ("own", arc.head))
        lower = arc.lag + problem.activities[arc.head].duration
        rows.add(f"onward_{k}", ahead, np.array([1, -1, -1]), lower=lower)  # (7)
        back = columns.at(("after", arc.tail), ("after", arc.head), ("own", arc.tail))
        lower = arc.lag + problem.activities[arc.tail].duration
        rows.add(f"backward_{k}", back, np.array([1, -1, -1]), lower=lower)  # (8)
    for v, activity in enumerate(problem.activities):
        if timed[v]:
            places = columns.at(("before", v), ("after", v), ("own", v), ("wait", v))
            latest = activity.deadline + activity.duration
            rows.add(f"deadline_{v}", places, np.array([1, 1, -1, 1]), upper=latest)  # (9)
