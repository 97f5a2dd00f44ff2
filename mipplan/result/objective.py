"""What a plan has to keep: a latency objective, for which traffic, and how surely."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mipplan.core import InputError, check_quantile, check_seed, check_slo
from mipplan.pipeline import Pipeline


class Guarantee(StrEnum):
    """What traffic the latency bound holds for."""

    TRACE = "trace"
    """The trace planned for, with the token draws of the plan's seed."""
    ENVELOPE = "envelope"
    """Every query of any traffic inside an arrival curve, whatever is drawn."""
    REPLAY = "replay"
    """None by a theorem: the *replay* of the trace kept the objective (`mipplan.refine`)."""


@dataclass(frozen=True)
class Objective:
    """What was asked for.

    Attributes
    ----------
    slo_ns : int
        The latency objective.
    quantile : float
        Of latency over queries that must keep it, in (0, 1].
    seed : int
        Of the token draws.
    guarantee : Guarantee
    headroom : float
        Multiple of the trace's traffic that was planned for; the certificate is for that multiple.
    margin_ns : int
        Kept back: the certificate is at most the objective less this.
    envelope : tuple of (burst, rate) or None
        Arrival curve of ``guarantee="envelope"``: queries and queries per second.
    budget_microusd_per_hour : int or None
        If the plan is the fastest within a budget instead of the cheapest within an objective.

    Raises
    ------
    InputError
        If the quantile or the seed is none.
    """

    slo_ns: int
    quantile: float = 0.99
    seed: int = 0
    guarantee: Guarantee = Guarantee.TRACE
    headroom: float = 1.0
    margin_ns: int = 0
    envelope: tuple[tuple[float, float], ...] | None = None
    budget_microusd_per_hour: int | None = None

    def __post_init__(self) -> None:
        # A file holds plain numbers: whole ones and NumPy's would not come back as the same bytes.
        object.__setattr__(self, "quantile", check_quantile(self.quantile))
        object.__setattr__(self, "seed", check_seed(self.seed))

    @property
    def deadline_ns(self) -> int:
        """The latency to plan for: the objective less the margin."""
        return self.slo_ns - self.margin_ns


def resolve_slo_ns(pipeline: Pipeline, slo_s: float | None) -> int:
    """Return the objective in ns: the argument, else the pipeline's.

    Raises
    ------
    InputError
        If there is neither, or it is not a positive time.
    """
    if slo_s is None:
        if pipeline.slo_ns is None:
            raise InputError.one(
                pipeline.place(("slo",)),
                f"the pipeline {pipeline.name!r} states none: write slo: 300ms there, or pass --slo 300ms "
                "(in Python slo_s=0.3)",
            )
        return pipeline.slo_ns
    return check_slo(slo_s)
