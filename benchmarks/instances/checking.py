"""Judging a claimed plan by arithmetic of its own: plain loops over Python's integers, nothing taken from elsewhere.

`TimeCostProblem.evaluate` does the same for formulations and solvers; here nothing but the data of the problem is used,
so that a mistake there could not hide in a benchmark.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mipplan_formulations import TimeCostProblem


@dataclass(frozen=True)
class Verdict:
    """What a claimed plan comes to.

    Attributes
    ----------
    cost : int or None
        None if the plan does not name a mode of each activity.
    faults : tuple of str
        What it breaks; empty if it is allowed.
    """

    cost: int | None
    faults: tuple[str, ...]


def check(problem: TimeCostProblem, selection: Sequence[int]) -> Verdict:
    """Cost and faults of a choice of modes, one index per activity."""
    faults = list(_mistaken(problem, selection))
    if faults:
        return Verdict(None, tuple(faults))
    cost = sum(int(activity.cost[mode]) for activity, mode in zip(problem.activities, selection, strict=True))
    faults += _late(problem, selection)
    faults += _over(problem, selection)
    faults += _unmet(problem, selection)
    return Verdict(cost, tuple(faults))


def _mistaken(problem: TimeCostProblem, selection: Sequence[int]) -> Iterator[str]:
    if len(selection) != len(problem.activities):
        yield f"{len(selection)} modes for {len(problem.activities)} activities"
        return
    for number, (activity, mode) in enumerate(zip(problem.activities, selection, strict=True)):
        if not 0 <= mode < len(activity.cost):
            yield f"activity {number} has no mode {mode}"


def _late(problem: TimeCostProblem, selection: Sequence[int]) -> Iterator[str]:
    """Walk along every path: its lag, then a duration per stop, then the longest of the waits."""
    spent = [
        int(activity.duration[mode]) for activity, mode in zip(problem.activities, selection, strict=True)
    ]
    for number, path in enumerate(problem.paths):
        total, longest = int(path.lag), 0
        for stop, waits in zip(path.activities, path.waits, strict=True):
            total += spent[stop]
            longest = max(longest, int(waits[selection[stop]]))
        if total + longest > problem.deadline:
            yield f"path {number} takes {total + longest}, the deadline is {problem.deadline}"


def _over(problem: TimeCostProblem, selection: Sequence[int]) -> Iterator[str]:
    for position, resource in enumerate(problem.resources):
        used = 0
        for activity, mode in zip(problem.activities, selection, strict=True):
            used += int(activity.usage[mode][position])
        if used > resource.capacity:
            yield f"{resource.name}: {used} of {resource.capacity}"


def _unmet(problem: TimeCostProblem, selection: Sequence[int]) -> Iterator[str]:
    for number, cover in enumerate(problem.covers):
        if not any(marked[selection[activity]] for activity, marked in cover.members):
            yield f"cover {number} is not met"
