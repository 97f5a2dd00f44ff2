"""What one retuning decides, and what is proven about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from mipplan.units import MICRODOLLARS_PER_DOLLAR, NS_PER_S, UNLIMITED_NS


@dataclass(frozen=True)
class TuningStep:
    """Replica counts for the traffic at hand.

    Attributes
    ----------
    replicas : mapping of str to int
        For every stage, in file order.
    microusd_per_hour : int
        What they cost.
    lower_bound_microusd_per_hour : int
        No replica counts that the same conditions admit cost less.
    latency_bound_ns : int or None
        Bound on the latency of every query of traffic inside the envelope that meets an empty system with these
        replicas; None if there is no bound (the long-run rate exceeds what they serve).
    transient_bound_ns : int or None
        The same for queries from now on, with the backlog and the activation delay as given.
    share : float
        Share of the traffic that is served within the objective: 1, or less where a limit binds. Whoever
        admits a share s of the queries, so that at most ``1 + s·(α(u) − 1)`` of them come in any window u, keeps it.
    reused : bool
        Whether the model of the last retuning was used again, with its basis (or none was needed).
    replan : bool
        Whether the plan's hardware or batch caps no longer fit: no replica counts keep the objective.
    notes : tuple of str
        Why, and what is assumed; one sentence each.
    binding_window_ns : mapping of str to int
        For each stage the window length that decides its count; the longest one if it is the long-run rate.
    now_ns : int or None
        When it was decided.
    """

    replicas: Mapping[str, int]
    microusd_per_hour: int
    lower_bound_microusd_per_hour: int
    latency_bound_ns: int | None
    transient_bound_ns: int | None
    share: float
    reused: bool
    replan: bool
    notes: tuple[str, ...] = ()
    binding_window_ns: Mapping[str, int] = field(default_factory=dict)
    now_ns: int | None = None

    def __post_init__(self) -> None:
        for name in ("replicas", "binding_window_ns"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        for name in ("latency_bound_ns", "transient_bound_ns"):
            bound = getattr(self, name)
            if bound is not None and bound >= UNLIMITED_NS:
                object.__setattr__(self, name, None)

    @property
    def usd_per_hour(self) -> float:
        """Cost, dollars per hour."""
        return self.microusd_per_hour / MICRODOLLARS_PER_DOLLAR

    @property
    def lower_bound_usd_per_hour(self) -> float:
        """Proven least cost under the same conditions, dollars per hour."""
        return self.lower_bound_microusd_per_hour / MICRODOLLARS_PER_DOLLAR

    @property
    def latency_bound_s(self) -> float:
        """`latency_bound_ns` in seconds, infinite if there is none."""
        return _seconds(self.latency_bound_ns)

    @property
    def transient_bound_s(self) -> float:
        """`transient_bound_ns` in seconds, infinite if there is none."""
        return _seconds(self.transient_bound_ns)


def _seconds(bound_ns: int | None) -> float:
    return float("inf") if bound_ns is None else bound_ns / NS_PER_S
