"""The answer to the traffic at hand: how many replicas each stage gets, what they cost and what they guarantee."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from types import MappingProxyType
from typing import Any

from mipplan.calculus import Envelope
from mipplan.core import (
    MICRODOLLARS_PER_DOLLAR,
    NS_PER_S,
    UNLIMITED_NS,
    Printable,
    Summary,
    format_duration,
)


@dataclass(frozen=True, repr=False)
class TuningStep(Printable):
    """Replica counts for the traffic at hand.

    Attributes
    ----------
    replicas : mapping of str to int
        For every stage, in file order.
    microusd_per_hour : int
        What they cost.
    objective_microusd_per_hour, lower_bound_microusd_per_hour : int or None
        What was minimised: the cost, and what changes and traffic that is not served are counted as; and the proven
        least value of that. Of a joint retuning both are for all pipelines together. Where queries have several tokens
        and something binds, so that `share` is below 1, the bound is for waits shared out as without limits. None
        where the conditions admit no replica counts at all.
    latency_bound_ns : int or None
        Bound on the latency of every query of traffic inside the envelope that meets an empty system with these
        replicas; None if there is no bound: the long-run rate exceeds what they serve, or tokens were counted by
        their mean.
    transient_bound_ns : int or None
        The same for all queries from now on, with the backlog and the activation delay as given.
    share : float
        Share of the traffic that is served within the objective: 1, or less where a limit binds. Whoever admits a share
        s of the queries, so that at most ``1 + s·(α(u) − 1)`` of them come in any window u, keeps it for those.
    reused : bool
        Whether the models of the last retuning were used again, with their bases.
    replan : bool
        Whether the plan's hardware or batch caps no longer fit: no allowed replica counts keep the objective.
    notes : tuple of str
        What binds, a sentence each.
    envelope : Envelope
        What was tuned for.
    now_ns : int or None
        When it was decided.
    """

    replicas: Mapping[str, int]
    microusd_per_hour: int
    objective_microusd_per_hour: int | None
    lower_bound_microusd_per_hour: int | None
    latency_bound_ns: int | None
    transient_bound_ns: int | None
    share: float
    reused: bool
    replan: bool
    notes: tuple[str, ...]
    envelope: Envelope
    now_ns: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "replicas", MappingProxyType(dict(self.replicas)))
        for name in ("latency_bound_ns", "transient_bound_ns"):
            bound = getattr(self, name)
            if bound is not None and bound >= UNLIMITED_NS:
                object.__setattr__(self, name, None)

    def __reduce__(self) -> tuple[Any, ...]:
        # Read-only views cannot be pickled; the constructor makes them anew.
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return partial(type(self), **{**values, "replicas": dict(self.replicas)}), ()

    @property
    def usd_per_hour(self) -> float:
        """Cost, dollars per hour."""
        return self.microusd_per_hour / MICRODOLLARS_PER_DOLLAR

    @property
    def gap(self) -> float | None:
        """(objective − lower bound) / objective: 0 if proven best."""
        if self.objective_microusd_per_hour is None or self.lower_bound_microusd_per_hour is None:
            return None
        if self.objective_microusd_per_hour == 0:
            return 0.0
        return 1.0 - self.lower_bound_microusd_per_hour / self.objective_microusd_per_hour

    @property
    def latency_bound_s(self) -> float:
        """`latency_bound_ns` in seconds, infinite if there is none."""
        return _seconds(self.latency_bound_ns)

    @property
    def transient_bound_s(self) -> float:
        """`transient_bound_ns` in seconds, infinite if there is none."""
        return _seconds(self.transient_bound_ns)

    def _summary(self) -> Summary:
        bounds = (self.latency_bound_ns, self.transient_bound_ns)
        steady, from_now = ("none" if bound is None else f"≤ {format_duration(bound)}" for bound in bounds)
        proof = "" if self.gap is None else ", proven best" if self.gap == 0 else f", gap {self.gap:.1%}"
        return Summary(
            f"Retuned: {self.usd_per_hour:.4f} $/h{proof}{', a new plan is needed' if self.replan else ''}",
            figures=(
                ("bound", f"{steady} for traffic inside the envelope, {from_now} from now on"),
                ("served", None if self.share == 1.0 else f"{self.share:.1%} of the traffic"),
                *(("note", note) for note in self.notes),
            ),
            headings=("stage", ">replicas"),
            rows=((stage, f"{count:,}") for stage, count in self.replicas.items()),
            count=len(self.replicas),
            what="stages",
        )

    def _line(self) -> str:
        bound = "no bound" if self.latency_bound_ns is None else f"≤ {format_duration(self.latency_bound_ns)}"
        return f": {sum(self.replicas.values())} replicas, {self.usd_per_hour:.4f} $/h, {bound}"


def _seconds(bound_ns: int | None) -> float:
    return float("inf") if bound_ns is None else bound_ns / NS_PER_S
