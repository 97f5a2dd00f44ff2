"""Which certificate a figure comes from and how, which runs it holds for, and what a refinement found out of others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from pydantic import Field

from mipplan.core import (
    NS_PER_S,
    Fault,
    Faults,
    FieldOf,
    InputError,
    Int64,
    check_one_of,
    format_duration,
    is_number,
    remake,
    shown,
)
from mipplan.documents import StrictEntry


class CertificateKind(StrEnum):
    """By which theorem latencies are bounded."""

    CLASSIC = "classic"
    """A rate and a latency per stage: the [theorem (sample path)][theorem-sample-path]."""
    SHARP = "sharp"
    """An interval of arrival per token: the [theorem (latest dispatch)][theorem-latest-dispatch]."""


class JudgedBy(StrEnum):
    """What says of plans whether they keep the objective, and of one what its latency is."""

    CLASSIC = "classic"
    """The classic certificate, or that of ``fifo`` queues or an arrival curve: a sum of terms."""
    SHARP = "sharp"
    """The sharp certificate."""
    REPLAY = "replay"
    """The replay: of plans that rest on it, and under timed dispatch, where it is the certificate."""

    @property
    def text(self) -> str:
        """What it says of a plan, in words."""
        if self is JudgedBy.REPLAY:
            return "replayed latency"
        return "sharp certificate" if self is JudgedBy.SHARP else "certificate"

    @property
    def kept(self) -> str:
        """What plans are that it says keep the objective."""
        return "good enough" if self is JudgedBy.REPLAY else "certified"


@dataclass(frozen=True)
class CriticalStage:
    """One stage on a critical path: T of the stage, a bound on waiting behind others, the delay of the edge before."""

    stage: str
    latency_ns: int
    wait_ns: int
    delay_ns: int


def step_text(step: CriticalStage) -> str:
    """Write one stage of a critical path."""
    parts = [f"T {format_duration(step.latency_ns)}"]
    if step.wait_ns:
        parts.append(f"wait {format_duration(step.wait_ns)}")
    if step.delay_ns:
        parts.append(f"after a delay of {format_duration(step.delay_ns)}")
    return f"{step.stage} ({', '.join(parts)})"


class Ties(StrEnum):
    """What happens first at one instant."""

    SETTLED = "settled"
    """Everything that completes or arrives at an instant is enqueued before anything is dispatched at it."""
    ANY = "any"
    """Events of one instant happen in any order, with dispatches between them."""


@dataclass(frozen=True)
class RunClass:
    """The runs that a sharp certificate holds for, beside (O), (F), (W) and (S).

    The default is the serving model, except that a batch may finish early, by any amount.

    Raises `InputError` listing every field that is none of what it may be.
    """

    least_service: float = 0.0
    """φ: a batch of k takes at least this share of ℓ(k), and at least 1 ns."""
    least_delay: float = 1.0
    """A message takes at least this share of the stated delay; 1 means exactly the delay."""
    ties: Ties = Ties.SETTLED

    def __post_init__(self) -> None:
        faults = Faults()
        for name in ("least_service", "least_delay"):
            share = getattr(self, name)
            if not is_number(share) or not 0.0 <= share <= 1.0:
                faults.add(Fault(f"runs.{name}", f"expected a share from 0 to 1, found {share!r}"))
        faults.take(lambda: check_one_of("runs.ties", self.ties, Ties, repr))
        faults.check()
        object.__setattr__(self, "least_service", float(self.least_service))
        object.__setattr__(self, "least_delay", float(self.least_delay))
        object.__setattr__(self, "ties", Ties(self.ties))

    @property
    def is_settled(self) -> bool:
        """Whether arrivals and completions of an instant come before its dispatches."""
        return self.ties is Ties.SETTLED

    def least_service_ns(self, service_ns: Int64) -> Int64:
        """Least times of batches that are stated to take at most `service_ns`."""
        least: Int64 = np.maximum(1, np.floor(self.least_service * service_ns).astype(np.int64))
        return least

    def least_delay_ns(self, delay_ns: int) -> int:
        """Least time of a message that is stated to take `delay_ns`."""
        return int(np.floor(self.least_delay * delay_ns))

    @property
    def text(self) -> str:
        """What a run may do, in words."""
        share = f"{self.least_service:g}·ℓ" if self.least_service else "nothing"
        delays = "as stated" if self.least_delay == 1.0 else f"from {self.least_delay:g} × to as stated"
        order = "before dispatches" if self.is_settled else "in any order"
        return f"batches take from {share} to ℓ, delays {delays}, events of an instant {order}"


def check_runs(runs: object) -> None:
    """Raise `InputError` unless it is a class of runs, or None."""
    if runs is not None and not isinstance(runs, RunClass):
        raise InputError.one("runs", f"expected a RunClass, such as RunClass(0.9), found {shown(runs)}")


class RunsDocument(StrictEntry):
    """The class of runs in a plan file."""

    least_service: float = Field(ge=0, le=1)
    least_delay: float = Field(ge=0, le=1)
    ties: Literal["settled", "any"]

    def runs(self) -> RunClass:
        """Return what it says."""
        return RunClass(self.least_service, self.least_delay, Ties(self.ties))


@dataclass(frozen=True)
class Refinement:
    """How a refined plan was found, what is proven about it, and how fragile it is."""

    discipline: str
    """Queue discipline of all replays here."""
    proof: str | None = None
    """``"optimal"`` if every cheaper plan of the option set was refuted, by a replay or by a condition proven
    necessary; ``"optimal assuming …"`` if that rests on what is no theorem; None if plans were left."""
    quantile_ns: int | None = None
    """Replayed latency quantile on the trace refined for, of several samples the greatest; None without any."""
    replays: int = 0
    """Complete plans judged by a replay."""
    stage_replays: int = 0
    """Stages replayed for that, and for partial plans; plans alike from the sources down share them."""
    refuted: Mapping[str, int] = field(default_factory=dict)
    """By ground: options excluded for every plan, partial plans refuted with all that extends them, and
    complete plans."""
    noisy_ns: Mapping[str, int] = field(default_factory=dict)
    """Latency quantile under random service times, by what was drawn; of several samples on the worst."""
    other_seeds_ns: Mapping[int, int] = field(default_factory=dict)
    """The same with other token draws, by seed; empty if the pipeline draws nothing."""
    samples_ns: Mapping[str, int] = field(default_factory=dict)
    """Replayed latency quantile on each of several samples, by name; empty for one."""

    quantile_s = FieldOf[float | None]("quantile_ns", NS_PER_S)
    """Replayed latency quantile, seconds."""

    def __post_init__(self) -> None:
        for name in ("samples_ns", "refuted", "noisy_ns", "other_seeds_ns"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    def __reduce__(self) -> tuple[Any, ...]:
        return remake(self)

    @property
    def worst_s(self) -> float | None:
        """Largest quantile seen under noise and other seeds, seconds."""
        seen = [*self.noisy_ns.values(), *self.other_seeds_ns.values()]
        return max(seen) / NS_PER_S if seen else None
