"""What finding a plan took."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """What finding a plan took.

    Attributes
    ----------
    estimator_calls : int
        Configurations that were simulated on the trace, each counted once.
    seconds : float
        Wall-clock time of the search, judging the result left out.
    """

    estimator_calls: int
    seconds: float
