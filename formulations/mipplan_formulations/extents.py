"""What a path can come to over all choices: its least wait, and how short and how long it can be."""

from __future__ import annotations

from dataclasses import dataclass

from mipplan_formulations.problem import Path, TimeCostProblem


@dataclass(frozen=True)
class Extent:
    """Bounds on the value of a path over all choices of modes.

    Attributes
    ----------
    least_wait : int
        Whatever is chosen, the path waits at least so long.
    shortest : int
        No choice makes the path shorter than this; perhaps none makes it so short, as the shortest modes may
        have the longer waits.
    longest : int
        No choice makes it longer.
    """

    least_wait: int
    shortest: int
    longest: int


def measure(problem: TimeCostProblem, path: Path) -> Extent:
    """Bound what a path can come to."""
    durations = [problem.activities[v].duration for v in path.activities]
    least = max(int(waits.min()) for waits in path.waits)
    largest = max(int(waits.max()) for waits in path.waits)
    shortest = sum(int(d.min()) for d in durations)
    longest = sum(int(d.max()) for d in durations)
    return Extent(least, path.lag + shortest + least, path.lag + longest + largest)


def breakable_paths(problem: TimeCostProblem) -> list[tuple[int, Extent]]:
    """Number and extent of every path that some choice of modes might make miss the deadline."""
    extents = ((p, measure(problem, path)) for p, path in enumerate(problem.paths))
    return [(p, extent) for p, extent in extents if extent.longest > problem.deadline]
