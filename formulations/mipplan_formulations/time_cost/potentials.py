"""Formulation `potentials`: two event times per node of the network of paths, one before and one after the wait.

The mathematics, with the proof that it is exact, is on the page ``potentials.md``; row numbers refer to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mipplan_formulations.linear import Float64, Int64, LinearModel, ModelBuilder
from mipplan_formulations.time_cost import paths
from mipplan_formulations.time_cost.networks import END, START, PathEdge, breakable_network
from mipplan_formulations.time_cost.problem import TimeCostProblem


def build(problem: TimeCostProblem) -> LinearModel:
    """Build the model: a binary ``y_{v}_{o}`` per mode, continuous ``early_{q}`` and ``late_{q}`` per inner node.

    Paths, capacities and covers that no choice can break have no rows.
    """
    network = breakable_network(problem)
    model = ModelBuilder()
    modes = paths.add_choices(problem, model)
    inner = range(START + 1, network.num_nodes)
    names = [f"{kind}_{node}" for kind in ("early", "late") for node in inner]
    early, late = model.add_columns(names, upper=problem.deadline, integral=False).reshape(2, -1)
    for number, edge in enumerate(network.edges):
        _add_time_rows(problem, number, edge, modes[edge.activity], (early, late), model)
    return model.build("potentials")


def encode(problem: TimeCostProblem, model: LinearModel, selection: Sequence[int]) -> Float64:
    """As `paths.encode`, and the earliest times that fit, cut at the deadline."""
    values = paths.encode(problem, model, selection)
    network = breakable_network(problem)
    modes = [selection[edge.activity] for edge in network.edges]
    spent = [
        edge.lag + int(problem.activities[edge.activity].duration[mode])
        for edge, mode in zip(network.edges, modes, strict=True)
    ]
    waited = [
        own + int(edge.waits[mode]) for own, edge, mode in zip(spent, network.edges, modes, strict=True)
    ]
    early, late = network.times_reached(spent, waited)
    times = [*early[START + 1 :], *late[START + 1 :]]
    values[problem.num_binaries :] = np.minimum(np.array(times, dtype=np.int64), problem.deadline)
    return values


def _add_time_rows(
    problem: TimeCostProblem,
    number: int,
    edge: PathEdge,
    modes: Int64,
    times: tuple[Int64, Int64],
    model: ModelBuilder,
) -> None:
    """Rows (4) to (6) of one edge: on without a wait, on having waited, and the wait in between."""
    duration = problem.activities[edge.activity].duration
    early, late = times
    before = None if edge.tail == START else early[edge.tail - 1]
    waited = None if edge.tail == START else late[edge.tail - 1]
    after = None if edge.head == END else late[edge.head - 1]
    wanted: list[tuple[str, np.int64 | None, Int64, np.int64 | None]] = [
        ("wait", before, duration + edge.waits, after)
    ]
    if edge.head != END:
        wanted.append(("early", before, duration, early[edge.head - 1]))
    if edge.tail != START:
        wanted.append(("late", waited, duration, after))
    for kind, tail, spent, head in wanted:
        # tail + spent + lag <= head, where the start is at 0 and the end at the deadline
        events = [(column, sign) for column, sign in ((tail, 1), (head, -1)) if column is not None]
        columns = np.concatenate([modes, [column for column, _ in events]])
        coefficients = np.concatenate([spent, [sign for _, sign in events]])
        room = (problem.deadline if head is None else 0) - edge.lag
        model.add_row(f"{kind}_{number}", columns.astype(np.int64), coefficients.astype(np.int64), upper=room)
