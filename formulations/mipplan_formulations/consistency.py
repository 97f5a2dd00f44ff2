"""What can be wrong with a problem whose parts are each valid on their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from mipplan_formulations.arrays import check_number

if TYPE_CHECKING:
    from mipplan_formulations.problem import Arc, Path, TimeCostProblem


def find_faults(problem: TimeCostProblem) -> Iterator[str]:
    """Yield everything wrong with a problem whose parts are each valid on their own."""
    if not problem.activities:
        yield "a problem needs at least one activity"
    yield from _repeated("activity", [activity.name for activity in problem.activities])
    yield from _repeated("resource", [resource.name for resource in problem.resources])
    faults: list[str] = []
    check_number(problem.deadline, "deadline", faults)
    for resource in problem.resources:
        check_number(resource.capacity, f"resource {resource.name!r}: capacity", faults)
    yield from faults
    for activity in problem.activities:
        if activity.usage.shape[1] != len(problem.resources):
            yield (
                f"activity {activity.name!r}: usage has {activity.usage.shape[1]} columns, "
                f"there are {len(problem.resources)} resources"
            )
    arc_faults = list(_arc_faults(problem))
    yield from arc_faults
    if not arc_faults:
        lags = _lags_between(problem.arcs)
        for path in problem.paths:
            yield from _path_faults(problem, path, lags)
    for index, cover in enumerate(problem.covers):
        for activity_index, marked in cover.members:
            yield from _array_faults(problem, activity_index, marked, f"cover {index}")


def _arc_faults(problem: TimeCostProblem) -> Iterator[str]:
    count = len(problem.activities)
    faults: list[str] = []
    for arc in problem.arcs:
        if not (0 <= arc.tail < count and 0 <= arc.head < count):
            faults.append(f"arc {arc.tail} -> {arc.head}: no such activity")
        check_number(arc.lag, f"arc {arc.tail} -> {arc.head}: lag", faults)
    yield from faults
    if not faults and not _is_acyclic(count, problem.arcs):
        yield "the arcs contain a cycle"


def _path_faults(
    problem: TimeCostProblem, path: Path, lags: dict[tuple[int, int], tuple[int, int]]
) -> Iterator[str]:
    place = f"path {path.activities}"
    for v, waits in zip(path.activities, path.waits, strict=True):
        yield from _array_faults(problem, v, waits, place)
    steps = list(zip(path.activities, path.activities[1:], strict=False))
    missing = [step for step in steps if step not in lags]
    if missing:
        yield from (f"{place}: there is no arc {tail} -> {head}" for tail, head in missing)
        return
    least, greatest = (sum(lags[step][side] for step in steps) for side in (0, 1))
    if not least <= path.lag <= greatest:
        expected = f"{least}" if least == greatest else f"between {least} and {greatest}"
        yield f"{place}: lag {path.lag}, the arcs along it make {expected}"


def _array_faults(problem: TimeCostProblem, index: int, array: NDArray[Any], place: str) -> Iterator[str]:
    if not 0 <= index < len(problem.activities):
        yield f"{place}: there is no activity {index}"
    elif array.shape[0] != problem.activities[index].num_modes:
        yield (
            f"{place}: {array.shape[0]} entries for activity {problem.activities[index].name!r}, "
            f"which has {problem.activities[index].num_modes} modes"
        )


def _lags_between(arcs: Iterable[Arc]) -> dict[tuple[int, int], tuple[int, int]]:
    """Least and greatest lag of the arcs from one activity to another (they differ for parallel arcs)."""
    lags: dict[tuple[int, int], tuple[int, int]] = {}
    for arc in arcs:
        least, greatest = lags.get((arc.tail, arc.head), (arc.lag, arc.lag))
        lags[arc.tail, arc.head] = (min(least, arc.lag), max(greatest, arc.lag))
    return lags


def _is_acyclic(count: int, arcs: Iterable[Arc]) -> bool:
    """Remove activities without remaining predecessors until none is left (acyclic) or all have some."""
    successors: list[list[int]] = [[] for _ in range(count)]
    waiting_for = [0] * count
    for arc in arcs:
        successors[arc.tail].append(arc.head)
        waiting_for[arc.head] += 1
    ready = [v for v in range(count) if waiting_for[v] == 0]
    removed = 0
    while ready:
        removed += 1
        for head in successors[ready.pop()]:
            waiting_for[head] -= 1
            if waiting_for[head] == 0:
                ready.append(head)
    return removed == count


def _repeated(kind: str, names: list[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            yield f"two {kind} entries are called {name!r}"
        seen.add(name)
