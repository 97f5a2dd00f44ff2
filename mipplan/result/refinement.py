"""What refining a plan by replays found out, besides the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from types import MappingProxyType
from typing import Any

from mipplan.core import NS_PER_S


@dataclass(frozen=True)
class Refinement:
    """How a refined plan was found, what is proven about it, and how fragile it is.

    Attributes
    ----------
    discipline : str
        Queue discipline of all replays here.
    proof : str or None
        ``"optimal"`` if every cheaper plan of the option set was refuted, by a replay or by a condition proven
        necessary; ``"optimal assuming …"`` if that rests on what is no theorem; None if plans were left.
    quantile_ns : int or None
        Replayed latency quantile on the trace refined for; None without a plan.
    replays : int
        Complete plans judged by a replay.
    stage_replays : int
        Stages replayed for that, and for partial plans; plans alike from the sources down share them.
    refuted : mapping of str to int
        By ground: options excluded for every plan, partial plans refuted with all that extends them, and complete
        plans.
    noisy_ns : mapping of str to int
        Latency quantile under random service times, by what was drawn.
    other_seeds_ns : mapping of int to int
        Latency quantile with other token draws, by seed; empty if the pipeline draws nothing.
    """

    discipline: str
    proof: str | None = None
    quantile_ns: int | None = None
    replays: int = 0
    stage_replays: int = 0
    refuted: Mapping[str, int] = field(default_factory=dict)
    noisy_ns: Mapping[str, int] = field(default_factory=dict)
    other_seeds_ns: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in _MAPPINGS:
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    def __reduce__(self) -> tuple[Any, ...]:
        # Read-only views cannot be pickled or copied.
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return partial(type(self), **{**values, **{name: dict(values[name]) for name in _MAPPINGS}}), ()

    @property
    def quantile_s(self) -> float | None:
        """Replayed latency quantile, seconds."""
        return None if self.quantile_ns is None else self.quantile_ns / NS_PER_S

    @property
    def worst_s(self) -> float | None:
        """Largest quantile seen under noise and other seeds, seconds."""
        seen = [*self.noisy_ns.values(), *self.other_seeds_ns.values()]
        return max(seen) / NS_PER_S if seen else None


_MAPPINGS = ("refuted", "noisy_ns", "other_seeds_ns")
