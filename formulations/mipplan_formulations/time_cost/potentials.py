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
    early, late = network.times_reached(*network.times_spent(problem, selection))
    times = [*early[START + 1 : END], *late[START + 1 : END]]
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
    wanted = [("wait", early, duration + edge.waits, late)]
    if edge.head != END:
        wanted.append(("early", early, duration, early))
    if edge.tail != START:
        wanted.append(("late", late, duration, late))
    for kind, before, spent, after in wanted:
        # before + spent + lag <= after, where the start is at 0 and the end at the deadline
        tail = before[:0] if edge.tail == START else before[edge.tail - 1, None]
        head = after[:0] if edge.head == END else after[edge.head - 1, None]
        columns = np.concatenate([modes, tail, head])
        coefficients = np.concatenate([spent, np.ones_like(tail), -np.ones_like(head)])
        room = (problem.deadline if edge.head == END else 0) - edge.lag
        model.add_row(f"{kind}_{number}", columns, coefficients, upper=room)
