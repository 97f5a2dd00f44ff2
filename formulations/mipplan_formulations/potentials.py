"""Formulation `potentials`: two event times per node of the network of paths, one before and one after the wait.

The mathematics, with the proof that it is exact, is on the page ``potentials.md``; row numbers refer to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mipplan_formulations.arrays import IntArray
from mipplan_formulations.choices import ChoiceColumns, add_choice_rows, read_choices, write_choices
from mipplan_formulations.extents import breakable_paths
from mipplan_formulations.linear import LinearModel
from mipplan_formulations.networks import END, START, Edge, Network, join_paths
from mipplan_formulations.problem import TimeCostProblem
from mipplan_formulations.rows import RowCollector


def build(problem: TimeCostProblem) -> LinearModel:
    """Build the model: a binary ``y_{v}_{o}`` per mode, continuous ``early_{q}`` and ``late_{q}`` per inner node.

    Parameters
    ----------
    problem : TimeCostProblem

    Returns
    -------
    LinearModel
        Paths, capacities and covers that no choice can break have no rows.
    """
    network = _network(problem)
    choices, times = ChoiceColumns(problem), _TimeColumns(problem, network)
    rows = RowCollector()
    add_choice_rows(problem, choices, rows)
    for number, edge in enumerate(network.edges):
        _add_time_rows(problem, number, edge, choices, times, rows)
    total = choices.count + times.count
    return LinearModel(
        objective=np.concatenate([choices.costs(), np.zeros(times.count, dtype=np.int64)]),
        matrix=rows.join(total),
        row_lower=rows.lower,
        row_upper=rows.upper,
        column_lower=np.zeros(total),
        column_upper=np.concatenate([np.ones(choices.count), np.full(times.count, float(problem.deadline))]),
        integrality=np.arange(total) < choices.count,
        column_names=(*choices.names(), *times.names()),
        row_names=rows.names,
        name="potentials",
    )


def decode(problem: TimeCostProblem, model: LinearModel, values: NDArray[np.float64]) -> tuple[int, ...]:
    """Read the chosen mode of every activity off a solution of the built model.

    Parameters
    ----------
    problem : TimeCostProblem
    model : LinearModel
        What `build` made of that problem.
    values : float64 array, shape (model.num_columns,)

    Raises
    ------
    ValueError
        If the values are no solution: wrong length, not binary within 1e-5, not one mode per activity.
    """
    return read_choices(problem, model, values)


def encode(problem: TimeCostProblem, model: LinearModel, selection: Sequence[int]) -> NDArray[np.float64]:
    """Write a choice of modes as values of the built model's columns: a start for a solver; inverse of `decode`.

    Parameters
    ----------
    problem : TimeCostProblem
    model : LinearModel
        What `build` made of that problem.
    selection : sequence of int, length = number of activities

    Returns
    -------
    float64 array, shape (model.num_columns,)
        The chosen modes, and the earliest times that fit, cut at the deadline. Satisfies all rows if the
        problem allows the selection.
    """
    values = write_choices(problem, model, selection)
    network = _network(problem)
    times = _TimeColumns(problem, network)
    early, late = [0] * network.num_nodes, [0] * network.num_nodes
    for edge in network.edges:  # ordered such that both times of the tail are final
        if edge.head == END:
            continue
        mode = selection[edge.activity]
        spent = edge.lag + int(problem.activities[edge.activity].duration[mode])
        after = max(late[edge.tail], early[edge.tail] + int(edge.waits[mode]))
        early[edge.head] = max(early[edge.head], early[edge.tail] + spent)
        late[edge.head] = max(late[edge.head], after + spent)
    for node in range(START + 1, network.num_nodes):
        values[times.early(node)] = min(early[node], problem.deadline)
        values[times.late(node)] = min(late[node], problem.deadline)
    return values


class _TimeColumns:
    """Where the event times stand: after the binaries, for every node but the start and the end."""

    def __init__(self, problem: TimeCostProblem, network: Network) -> None:
        self._first = problem.num_binaries
        self._inner = max(0, network.num_nodes - 1)
        self.count = 2 * self._inner

    def early(self, node: int) -> int:
        """Column of the time at which a node is reached, waits left out."""
        return self._first + node - 1

    def late(self, node: int) -> int:
        """Column of the time at which a node is reached, the largest wait included."""
        return self._first + self._inner + node - 1

    def names(self) -> list[str]:
        """Names of all event times."""
        return [f"{kind}_{node}" for kind in ("early", "late") for node in range(1, self._inner + 1)]


def _network(problem: TimeCostProblem) -> Network:
    breakable = [problem.paths[p] for p, _ in breakable_paths(problem)]
    return join_paths(problem, breakable) if breakable else Network(0, ())


def _add_time_rows(
    problem: TimeCostProblem,
    number: int,
    edge: Edge,
    choices: ChoiceColumns,
    times: _TimeColumns,
    rows: RowCollector,
) -> None:
    """Rows (4) to (6) of one edge: on without a wait, on having waited, and the wait in between."""
    duration = problem.activities[edge.activity].duration
    before = None if edge.tail == START else times.early(edge.tail)
    waited = None if edge.tail == START else times.late(edge.tail)
    after = None if edge.head == END else times.late(edge.head)
    wanted: list[tuple[str, int | None, IntArray, int | None]] = [
        ("wait", before, duration + edge.waits, after)
    ]
    if edge.head != END:
        wanted.append(("early", before, duration, times.early(edge.head)))
    if edge.tail != START:
        wanted.append(("late", waited, duration, after))
    for kind, tail, spent, head in wanted:
        # tail + spent + lag <= head, where the start is at 0 and the end at the deadline
        events = [(column, sign) for column, sign in ((tail, 1), (head, -1)) if column is not None]
        columns = np.concatenate([choices.of(edge.activity), [column for column, _ in events]])
        coefficients = np.concatenate([spent, [sign for _, sign in events]])
        room = (problem.deadline if head is None else 0) - edge.lag
        rows.add(f"{kind}_{number}", columns.astype(np.int64), coefficients.astype(np.int64), upper=room)
