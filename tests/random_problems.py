"""Random time-cost problems and models for tests, small enough for brute force or hard on purpose."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy import sparse

from mipplan_formulations import Activity, Arc, Cover, LinearModel, Path, Resource, TimeCostProblem


def random_problem(rng: np.random.Generator, *, unit: int = 1) -> TimeCostProblem:
    """A small problem: up to five activities and four modes, often with resources and covers, often infeasible.

    ``unit`` multiplies all times before a little noise is added, to make numbers of nanosecond size that tie
    almost but not quite.
    """
    count = int(rng.integers(1, 6))
    modes = [int(m) for m in rng.integers(1, 5, count)]
    num_resources = int(rng.integers(0, 3))
    activities = tuple(
        Activity(
            f"a{v}",
            rng.integers(0, 12, m) * int(rng.choice([1, 250_000])),
            _times(rng, m, unit),
            rng.integers(0, 4, (m, num_resources)),
        )
        for v, m in enumerate(modes)
    )
    arcs = tuple(
        Arc(tail, head, int(_times(rng, 1, unit)[0]) // 4)
        for head in range(count)
        for tail in range(head)
        if rng.random() < 0.6
    )
    paths = tuple(
        Path(nodes, _lag(nodes, arcs), tuple(_times(rng, modes[v], unit) for v in nodes))
        for nodes in _all_paths(count, arcs)
    )
    resources = tuple(
        Resource(f"r{i}", int(rng.integers(count // 2, 3 * count + 1))) for i in range(num_resources)
    )
    covers = tuple(_random_cover(rng, modes) for _ in range(int(rng.integers(0, 3))))
    problem = TimeCostProblem(activities, arcs, paths, 0, resources, covers)
    return TimeCostProblem(activities, arcs, paths, _tight_deadline(rng, problem), resources, covers)


def chain_problem(activities: int, modes: int, paths: int, seed: int) -> TimeCostProblem:
    """A chain with times of nanosecond size and several wait profiles along it, of any size."""
    rng = np.random.default_rng(seed)
    return TimeCostProblem(
        tuple(
            Activity(f"a{v}", rng.integers(1, 10**6, modes), rng.integers(10**6, 10**8, modes))
            for v in range(activities)
        ),
        tuple(Arc(v, v + 1, 5) for v in range(activities - 1)),
        tuple(
            Path(
                tuple(range(activities)),
                5 * (activities - 1),
                tuple(rng.integers(0, 10**8, modes) for _ in range(activities)),
            )
            for _ in range(paths)
        ),
        40_000_000 * activities,
    )


def market_split(rows: int, columns: int, seed: int) -> LinearModel:
    """Equality knapsacks with few or no solutions: no solver finds one, or disproves it, in a second."""
    rng = np.random.default_rng(seed)
    matrix = rng.integers(1, 100, (rows, columns))
    halves = matrix.sum(axis=1) // 2
    return binary_model(np.ones(columns), matrix, halves, halves)


def hard_covering(rows: int, columns: int, seed: int) -> LinearModel:
    """Correlated covering knapsacks: a solution is found at once, the last one per cent of the proof is not."""
    rng = np.random.default_rng(seed)
    matrix = rng.integers(1, 1000, (rows, columns))
    costs = matrix.sum(axis=0) + rng.integers(0, 50, columns)
    return binary_model(costs, matrix, matrix.sum(axis=1) // 2, np.full(rows, np.inf))


def binary_model(
    costs: np.typing.ArrayLike,
    matrix: np.typing.ArrayLike,
    lower: np.typing.ArrayLike,
    upper: np.typing.ArrayLike,
) -> LinearModel:
    """Build a model of binaries from dense data."""
    rows = sparse.csr_array(np.asarray(matrix, dtype=np.int64))
    count, columns = rows.shape
    return LinearModel(
        objective=np.array(costs, dtype=np.int64),
        matrix=rows,
        row_lower=np.array(lower, dtype=np.float64),
        row_upper=np.array(upper, dtype=np.float64),
        column_lower=np.zeros(columns),
        column_upper=np.ones(columns),
        integrality=np.ones(columns, dtype=np.bool_),
        column_names=tuple(f"x{j}" for j in range(columns)),
        row_names=tuple(f"r{i}" for i in range(count)),
    )


def _times(rng: np.random.Generator, count: int, unit: int) -> np.ndarray:
    return rng.integers(0, 20, count) * unit + (rng.integers(0, 3, count) if unit > 1 else 0)


def _all_paths(count: int, arcs: tuple[Arc, ...]) -> list[tuple[int, ...]]:
    """Every path from an activity without predecessor to one without successor."""
    following: dict[int, list[int]] = {v: [a.head for a in arcs if a.tail == v] for v in range(count)}
    open_paths = [(v,) for v in range(count) if all(arc.head != v for arc in arcs)]
    done = []
    while open_paths:
        path = open_paths.pop()
        if not following[path[-1]]:
            done.append(path)
        open_paths += [(*path, head) for head in following[path[-1]]]
    return done


def _lag(nodes: tuple[int, ...], arcs: tuple[Arc, ...]) -> int:
    lags = {(arc.tail, arc.head): arc.lag for arc in arcs}
    return sum(lags[step] for step in pairwise(nodes))


def _random_cover(rng: np.random.Generator, modes: list[int]) -> Cover:
    chosen = rng.permutation(len(modes))[: int(rng.integers(1, len(modes) + 1))]
    return Cover(tuple((int(v), rng.random(modes[int(v)]) < 0.4) for v in chosen))


def _tight_deadline(rng: np.random.Generator, problem: TimeCostProblem) -> int:
    """The makespan of a random selection, or one unit less: the deadline decides by a hair."""
    selection = [int(rng.integers(0, m)) for m in problem.mode_counts]
    return max(0, problem.evaluate(selection).makespan - int(rng.integers(0, 2)))
