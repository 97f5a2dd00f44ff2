"""Which certificate a figure comes from, and which runs it holds for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np
from pydantic import Field

from mipplan.core import Fault, Faults, InputError, Int64, check_one_of, is_number, shown
from mipplan.documents import StrictEntry


class CertificateKind(StrEnum):
    """By which theorem latencies are bounded."""

    CLASSIC = "classic"
    """A rate and a latency per stage: the [theorem (sample path)][theorem-sample-path]."""
    SHARP = "sharp"
    """An interval of arrival per token: the [theorem (latest dispatch)][theorem-latest-dispatch]."""


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
