"""How much time and work a search may take, and what it did."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from mipplan.core import MipplanError


class OutOfAllowanceError(MipplanError):
    """A search has used up what it was given; caught where searches are started."""


@dataclass
class Tally:
    """What was done.

    Attributes
    ----------
    replays : int
        Complete plans of which a replay said whether they keep the objective.
    stage_replays : int
        Stages replayed; plans that agree on a stage and on all above it share one.
    refuted : Counter of str
        By ground: how many plans, or partial plans with all that extends them, were refuted.
    """

    replays: int = 0
    stage_replays: int = 0
    refuted: Counter[str] = field(default_factory=Counter)


@dataclass
class Meter:
    """Time and work of one search.

    Attributes
    ----------
    tally : Tally
    ends_at : float
        By `time.monotonic`.
    most_stage_replays : float
        In this search.
    """

    tally: Tally
    ends_at: float
    most_stage_replays: float = float("inf")
    _used: int = 0

    def spend(self, stage_replays: int) -> None:
        """Take stage replays off the allowance, before they are made.

        Raises
        ------
        OutOfAllowanceError
            If the time or the work is used up.
        """
        self._used += stage_replays
        if self._used > self.most_stage_replays or time.monotonic() >= self.ends_at:
            raise OutOfAllowanceError
        self.tally.stage_replays += stage_replays
