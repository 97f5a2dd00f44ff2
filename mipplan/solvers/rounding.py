"""LP rounding for bounded depth [1]_: plans in the time of a few linear programs, and how far they are from the best.

Let x be a fractional choice of modes. Whoever has, on some path, a mode as slow as θ_v of every activity v, misses the
deadline, if the θ together do; so in every plan an activity has a faster mode:

    Σ_v x_v(θ_v) >= 1,   where x_v(θ) is the share of v's modes that are faster than θ.

These rows are found as they are violated. Then thresholds t_v are drawn, one per *layer* of the graph, each uniform
between 0 and 2/d, where d is the number of layers, and always 1 in sum; every activity takes its cheapest mode o with
x_v(o) < t_v. On no path the shares add up to 1, so no path is late; and in the mean over the draw an activity costs at
most d/2 times its share in the linear program. All draws that differ are tried, so the best is no worse than the mean.

A wait counts with one activity of a path, so "faster" means two things: by duration, and by duration + wait. A row
takes one activity by the latter, all others by the former, and a mode has to be below the threshold in both. This is
where the guarantee ends: d/2 is proven where all modes of an activity wait alike.

References
----------
.. [1] S. Daboul, S. Held, J. Vygen, "Approximating the discrete time-cost tradeoff problem with bounded depth",
   Mathematical Programming 197 (2023), doi:10.1007/s10107-022-01777-9.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy import sparse

from mipplan.core import Deadline, Float64, Int64
from mipplan.solvers.backend import Answer, PackageBackend, Selection, Settings, Termination
from mipplan.solvers.lp import relax, solve_relaxed
from mipplan_formulations import FORMULATIONS, LinearModel, Path, TimeCostProblem
from mipplan_formulations.time_cost import Improver, breakable_paths, drop_useless

# A row counts as violated if its shares add up to less than 1 by this: ten times the tolerance of the linear program.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class RoundingParams:
    """How much rounding may take."""

    most_rounds: int = 200  # At most 200 linear programs.
    least_gain: float = 0.0  # Another one only if the last has raised the bound by this share.
    most_rows: int = 500  # At most 500 rows, those violated most, are added at a time, as many are alike.
    #: At most 2,000 sums are looked at on a path at a time. With more, rows are perhaps missed, and plans are late.
    most_sums: int = 2_000
    most_improved: int = 8  # At most 8 plans, the cheapest, are made cheaper one exchange at a time.


class LpRounding(PackageBackend):
    """Plans within d/2 of the optimum where waits do not differ, and a bound; a heuristic elsewhere.

    Where resources or covers are not kept by any plan it comes across, it finds none.
    """

    name = "lp_rounding"
    packages = ("highspy",)

    def __init__(self, params: RoundingParams = RoundingParams()) -> None:
        self.params = params

    def run(self, problem: TimeCostProblem, settings: Settings, start: Selection | None) -> Answer[Selection]:
        """Solve a problem; threads, seed and log play no part. `details` names d as ``depth``."""
        reduction = drop_useless(problem)
        if reduction is None:
            return Answer(Termination.INFEASIBLE, None)
        rounding = Rounding(reduction.problem, settings.deadline(), self.params)
        values, bound = rounding.relax()
        details = {"depth": rounding.depth, "rows": rounding.rows}
        if math.isinf(bound):
            return Answer(Termination.INFEASIBLE, None, details=details)
        bound = float(reduction.problem.next_cost(bound))
        rounded = None if values is None else rounding.round(values)
        plans = [] if rounded is None else [reduction.lift(rounded)]
        if start is not None and problem.evaluate(start).feasible:
            plans.append(start)
        found = min(plans, key=problem.cost_of, default=None)
        if found is None:
            return Answer(Termination.NO_SOLUTION_FOUND, None, lower_bound=bound, details=details)
        cost = problem.cost_of(found)
        done = cost - bound <= settings.gap * cost
        termination = Termination.OPTIMAL if done else Termination.FEASIBLE
        return Answer(termination, found, lower_bound=min(bound, cost), details=details)


class Rounding:
    """The linear program of one problem with its rows, and the rounding of its solution."""

    def __init__(self, problem: TimeCostProblem, deadline: Deadline, params: RoundingParams) -> None:
        self.problem, self.deadline, self.params = problem, deadline, params
        self.paths = [path for _, path in breakable_paths(problem)]
        self.layers = _layers(problem, self.paths)
        self.depth = int(self.layers.max(initial=0)) + 1
        self.rows = 0
        self.prices: list[Float64] = []
        self._starts = np.concatenate([[0], np.cumsum(problem.mode_counts)]).astype(np.int64)

    def relax(self) -> tuple[Float64 | None, float]:
        """Shares of the modes, shape (binaries,), None if time is over before all rows are kept; and a proven bound.

        `prices` then hold, per path, what its rows take of the cost of each mode by the last dual values.
        """
        model, bound = FORMULATIONS["paths"].build(self.problem), 0.0
        numbers = {number: p for p, (number, _) in enumerate(breakable_paths(self.problem))}
        owners = [
            numbers[int(name.split("_")[1])] if name.startswith("deadline_") else -1
            for name in model.row_names
        ]
        for _ in range(self.params.most_rounds):
            if self.deadline.is_over:
                break
            solved = solve_relaxed(model, time_limit_s=self.deadline.limit_s())
            if solved is None:
                infeasible = relax(model, time_limit_s=self.deadline.limit_s())
                return None, bound if infeasible is None else max(bound, infeasible.bound)
            self._set_prices(model, owners, solved.row_duals)
            gain, bound = solved.bound - bound, max(bound, solved.bound)
            shares = np.clip(solved.values[: self.problem.num_binaries], 0.0, 1.0)
            rows = sorted(self._violated(shares), key=lambda row: row[0])[: self.params.most_rows]
            if not rows:
                return shares, bound
            if bound and gain < self.params.least_gain * bound:  # gains on 0 are a solver's last digits
                break
            self.rows += len(rows)
            owners += [owner for _, _, owner in rows]
            model = _with_rows(model, [columns for _, columns, _ in rows])
        return None, bound

    def _set_prices(self, model: LinearModel, owners: Sequence[int], duals: Float64) -> None:
        self.prices = [np.zeros(self.problem.num_binaries) for _ in self.paths]
        starts, matrix = model.matrix.indptr, model.matrix
        for row in np.flatnonzero(duals).tolist():
            if owners[row] >= 0:
                own = slice(starts[row], starts[row + 1])
                self.prices[owners[row]][matrix.indices[own]] += duals[row] * matrix.data[own]

    def round(self, shares: Float64) -> tuple[int, ...] | None:
        """The cheapest plan of all thresholds, made cheaper by single exchanges; None if none is allowed."""
        of_each = np.split(shares, self._starts[1:-1])
        below = [
            np.max([own @ (measure[:, None] < measure[None, :]) for measure in measures], axis=0)
            for own, measures in zip(of_each, self._measures(), strict=True)
        ]
        improver, found = Improver(self.problem), dict[tuple[int, ...], int]()
        for thresholds in self._thresholds(np.unique(np.concatenate(below))):
            chosen = []
            for v, activity in enumerate(self.problem.activities):
                allowed = np.flatnonzero(below[v] < thresholds[self.layers[v]])
                if allowed.size:
                    chosen.append(int(allowed[np.argmin(activity.cost[allowed])]))
            if len(chosen) == len(below) and tuple(chosen) not in found and improver.allows(chosen):
                found[tuple(chosen)] = self.problem.cost_of(chosen)
        cheapest = sorted(found, key=found.__getitem__)[: self.params.most_improved]
        improved = [one if self.deadline.is_over else improver.improve(one) for one in cheapest]
        return min(improved, key=self.problem.cost_of, default=None)

    def _measures(self) -> list[list[Int64]]:
        """Per activity its durations, and those with the wait on each kind of path: what faster can mean."""
        measures = [[activity.duration] for activity in self.problem.activities]
        seen: set[tuple[int, bytes]] = set()
        for path in self.paths:
            for v, waits in zip(path.activities, path.waits, strict=True):
                late = self.problem.activities[v].duration + np.maximum(waits, path.least_wait)
                if (v, late.tobytes()) not in seen:
                    seen.add((v, late.tobytes()))
                    measures[v].append(late)
        return measures

    def _thresholds(self, levels: Float64) -> Iterator[Float64]:
        """Thresholds per layer for every draw u in (0, 1) that matters: one between any two where a choice changes."""
        scaled = levels * self.depth / 2
        changes = np.concatenate([[0.0, 1.0], scaled, 1 - scaled, 1 - 2 * scaled, 2 - 2 * scaled])
        changes = np.unique(changes[(changes >= 0) & (changes <= 1)].round(12))
        for low, high in pairwise(changes):
            u = (low + high) / 2
            for branch in range(2 if self.depth % 2 else 1):
                yield 2 / self.depth * np.array(list(_joint_uniforms(self.depth, u, branch)))

    def _violated(self, shares: Float64) -> Iterator[tuple[float, Int64, int]]:
        """Rows that the shares violate: how much is on their left side, their columns, and whose path it is."""
        durations = [activity.duration for activity in self.problem.activities]
        seen: set[bytes] = set()
        for owner, path in enumerate(self.paths):
            late = [
                durations[v] + np.maximum(waits, path.least_wait)
                for v, waits in zip(path.activities, path.waits, strict=True)
            ]
            for place in range(len(path.activities)):
                measures = [durations[v] for v in path.activities]
                measures[place] = late[place]
                found = self._slowest(path, measures, shares)
                if found is not None and found[1].tobytes() not in seen:
                    seen.add(found[1].tobytes())
                    yield *found, owner

    def _slowest(self, path: Path, measures: Sequence[Int64], shares: Float64) -> tuple[float, Int64] | None:
        """The row of the thresholds on a path that miss the deadline at the least share, if that is below 1."""
        room = self.problem.deadline - path.lag
        sums, taken = np.zeros(1), np.zeros(1, dtype=np.int64)
        trail: list[tuple[Int64, Int64]] = []
        for v, measure in zip(path.activities, measures, strict=True):
            own = shares[self._starts[v] : self._starts[v + 1]]
            used = own > _TOLERANCE
            values = np.unique(measure[used])
            before = np.array([own[measure < value].sum() for value in values])
            sums, taken, parent, child = _extend(sums, taken, before, values, self.params.most_sums)
            trail.append((parent, values[child]))
        missed = np.flatnonzero((taken > room) & (sums < 1 - _TOLERANCE))
        if missed.size == 0:
            return None
        at, thresholds = int(missed[np.argmin(sums[missed])]), list[int]()
        for parent, values in reversed(trail):
            thresholds.append(int(values[at]))
            at = int(parent[at])
        thresholds.reverse()
        return self._row(path, measures, thresholds, room, shares)

    def _row(
        self, path: Path, measures: Sequence[Int64], thresholds: list[int], room: int, shares: Float64
    ) -> tuple[float, Int64]:
        """Lower thresholds as long as they miss the deadline: fewer modes are faster, and the row is stronger."""
        columns = []
        for k, (v, measure) in enumerate(zip(path.activities, measures, strict=True)):
            others = sum(thresholds) - thresholds[k]
            thresholds[k] = int(measure[measure + others > room].min())
            columns.append(self._starts[v] + np.flatnonzero(measure < thresholds[k]))
        joined = np.concatenate(columns)
        return float(shares[joined].sum()), joined


def _layers(problem: TimeCostProblem, paths: Sequence[Path]) -> Int64:
    """Layer of each activity: the most activities before it on the paths; on a path, layers increase."""
    steps = sorted({step for path in paths for step in pairwise(path.activities)})
    layers = np.zeros(len(problem.activities), dtype=np.int64)
    while True:
        before = layers.copy()
        for tail, head in steps:
            layers[head] = max(layers[head], layers[tail] + 1)
        if np.array_equal(before, layers):
            return layers


def _joint_uniforms(count: int, u: float, branch: int) -> Iterator[float]:
    """Numbers with the sum count/2, each uniform in [0, 1] if u is and, for an odd count, the branch is 0 or 1 equally.

    They come in pairs u and 1 - u; the last three of an odd count are u, and two halves of what is left.
    """
    if count == 1:
        yield 0.5
        return
    for k in range(count - 3 if count % 2 else count):
        yield 1 - u if k % 2 else u
    if count % 2:
        yield from (u, (1 - u) / 2, 1 - u / 2) if branch == 0 else (u, 1 - u / 2, (1 - u) / 2)


def _extend(
    sums: Float64, taken: Int64, shares: Float64, values: Int64, most: int
) -> tuple[Float64, Int64, Int64, Int64]:
    """Every sum with every value, less those that another one beats: at most its share, and at least as long."""
    total = (sums[:, None] + shares[None, :]).ravel()
    length = (taken[:, None] + values[None, :]).ravel()
    order = np.lexsort((-length, total))
    longest = np.maximum.accumulate(length[order])
    kept = order[np.concatenate([[True], longest[1:] > longest[:-1]])]
    kept = kept[total[kept] < 1 - _TOLERANCE]
    if kept.size > most:
        kept = kept[np.linspace(0, kept.size - 1, most).astype(np.int64)]
    return total[kept], length[kept], kept // values.size, kept % values.size


def _with_rows(model: LinearModel, rows: Sequence[Int64]) -> LinearModel:
    """Append rows: columns of a row together are at least 1."""
    starts = np.cumsum([0, *(columns.size for columns in rows)])
    columns = np.concatenate(rows)
    entries = (np.ones(columns.size, dtype=np.int64), columns, starts)
    added = sparse.csr_array(entries, shape=(len(rows), model.num_columns))
    added.sort_indices()
    return replace(
        model,
        matrix=sparse.csr_array(sparse.vstack([model.matrix, added], format="csr")),
        row_lower=np.concatenate([model.row_lower, np.ones(len(rows))]),
        row_upper=np.concatenate([model.row_upper, np.full(len(rows), np.inf)]),
        row_names=(*model.row_names, *(f"faster_{model.num_rows + k}" for k in range(len(rows)))),
    )
