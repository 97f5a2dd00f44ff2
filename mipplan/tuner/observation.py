"""What a controller can see of a running pipeline, one control period at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mipplan.core import Int64


@dataclass(frozen=True)
class StageObservation:
    """One stage over one control period, which lasts from the last instant of control (included) to this one (not).

    Attributes
    ----------
    replicas : int
        Told to have, until now.
    active : int
        Of these, how many may serve at the end of the period: the others still start.
    waiting : int
        Tokens that wait at the end of the period.
    under_way : int
        Tokens in batches at its end.
    arrived : int
        Tokens that became ready in it.
    busy_ns : int
        Sum over replicas of the time that they were busy in it.
    active_ns : int
        Sum over replicas of the time that they were active in it.
    ongoing_ns : int
        Sum over tokens of the time that they waited or were served in it.
    """

    replicas: int
    active: int
    waiting: int
    under_way: int
    arrived: int
    busy_ns: int
    active_ns: int
    ongoing_ns: int

    @property
    def ongoing(self) -> int:
        """Tokens that wait or are served at the end of the period."""
        return self.waiting + self.under_way


@dataclass(frozen=True)
class Observation:
    """A pipeline over one control period; nothing of what happens from `now_ns` on.

    Attributes
    ----------
    now_ns : int
        The instant of control. What happens at this very instant is not seen yet.
    period_ns : int
        Since the instant of control before.
    arrival_ns : int64, shape (k,)
        Ingress of the queries of this period, non-decreasing.
    stages : mapping of str to StageObservation
        In topological order.
    """

    now_ns: int
    period_ns: int
    arrival_ns: Int64
    stages: Mapping[str, StageObservation]
