"""How long and how much a search may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """How long and how much a search may take.

    Attributes
    ----------
    ends_at : float
        ``time.monotonic()`` value at which to come to an end.
    most_labels : int
        More labels than this are not kept after an activity: those with the least bounds are.
    few_labels : int
        So many are followed up once the time is over, to end with a solution.
    """

    ends_at: float
    most_labels: int = 200_000
    few_labels: int = 100
