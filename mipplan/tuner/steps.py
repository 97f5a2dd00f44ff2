"""The answer of a tuner: replica counts for the traffic at hand, and what is proven about them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mipplan.calculus import Envelope
from mipplan.core import (
    MICRODOLLARS_PER_DOLLAR,
    NS_PER_S,
    UNLIMITED_NS,
    FieldOf,
    Printable,
    Summary,
    format_seconds,
    usd_text,
)


@dataclass(frozen=True, eq=False, repr=False)
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
        and something binds, so that `share` is below 1, the bound is for waits shared out as without limits. Of paced
        stages it is for counts that a linear condition shows to suffice, which rounds δ up: others may do. None
        where the conditions admit no replica counts at all, or none that `most_removed` allows for now.
    latency_bound_ns : int or None
        Bound on the latency of every query of traffic inside the envelope that meets an empty system with these
        replicas; None if there is no bound: the long-run rate exceeds what they serve, or tokens were counted by
        their mean.
    transient_bound_ns : int or None
        The same for all queries from now on, with the backlog and the activation delay as given.
    share : float
        Share of the traffic that is served within the objective: 1, or less where a limit binds. Whoever admits a share
        s of the queries, so that at most ``1 + s·(α(u) − 1)`` of them come in any window u, keeps it for those. 0 where
        limits leave too few replicas for the tokens of a single query. Where `notes` say that no number of replicas is
        known to keep the objective, it is the share that these keep up with.
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

    usd_per_hour = FieldOf[float]("microusd_per_hour", MICRODOLLARS_PER_DOLLAR)
    """Cost, dollars per hour."""

    @property
    def gap(self) -> float | None:
        """(objective − lower bound) / objective: 0 if proven best, of paced stages as the bound says."""
        if self.objective_microusd_per_hour is None or self.lower_bound_microusd_per_hour is None:
            return None
        if self.objective_microusd_per_hour == 0:
            return 0.0
        return 1.0 - self.lower_bound_microusd_per_hour / self.objective_microusd_per_hour

    @property
    def latency_bound_s(self) -> float:
        """`latency_bound_ns` in seconds, infinite if there is none."""
        return math.inf if self.latency_bound_ns is None else self.latency_bound_ns / NS_PER_S

    @property
    def transient_bound_s(self) -> float:
        """`transient_bound_ns` in seconds, infinite if there is none."""
        return math.inf if self.transient_bound_ns is None else self.transient_bound_ns / NS_PER_S

    def _summary(self) -> Summary:
        steady, from_now = format_seconds(self.latency_bound_s), format_seconds(self.transient_bound_s)
        return Summary(
            f"Retuned: {usd_text(self.usd_per_hour)} $/h{', a new plan is needed' if self.replan else ''}",
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
        bound, count = format_seconds(self.latency_bound_s), sum(self.replicas.values())
        return f": {count} replicas, {usd_text(self.usd_per_hour)} $/h, bound {bound}"
