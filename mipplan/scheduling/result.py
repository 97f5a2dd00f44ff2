"""What a schedule says: counts of every bin, when they are commanded, and what that costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from mipplan.core import (
    MICRODOLLARS_PER_DOLLAR,
    NS_PER_HOUR,
    NS_PER_S,
    FieldOf,
    Float64,
    Int64,
    Printable,
    Summary,
    usd_text,
    window_text,
)
from mipplan.replayer import ReplicaSchedule
from mipplan.result import Plan

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class StageSchedule:
    """One stage, bin by bin; arrays of shape (bins,).

    Attributes
    ----------
    stage, hardware : str
    needed : int64
        Fewest replicas with which the bin keeps its objective.
    replicas : int64
        Those that serve throughout the bin; at least `needed`.
    planned : int
        Those of the plan.
    microusd_per_hour : int
        Price of one.
    """

    stage: str
    hardware: str
    needed: Int64
    replicas: Int64
    planned: int
    microusd_per_hour: int

    def __repr__(self) -> str:
        return f"<StageSchedule: {self.stage}, {self.replicas.min()} to {self.replicas.max()} replicas>"


@dataclass(frozen=True, eq=False, repr=False)
class DaySchedule(Printable):
    """Replica counts by the bin of time.

    Attributes
    ----------
    plan : Plan
        Whose hardware and batch caps stay.
    bin_ns : int
        Length of a bin; the first begins at 0.
    rate_rps : float64, shape (bins,)
        Queries per second that each bin is scheduled for, headroom included.
    stages : mapping of str to StageSchedule
        In topological order.
    keep : str
        What the counts of a bin keep, in words.
    delay_ns : int
        Replicas are ordered so long before the bin that they serve in.
    settle_ns : int
        Replicas go so long after the last bin that needs them: the objective, by which its queries have left.
    repeats : bool
        Whether the first bin follows the last, as of a day that is like every day.
    switch_microusd : int
        What each start of a replica was counted as, beside its rent.
    notes : tuple of str
    """

    plan: Plan
    bin_ns: int
    rate_rps: Float64
    stages: Mapping[str, StageSchedule]
    keep: str
    delay_ns: int
    settle_ns: int
    repeats: bool
    switch_microusd: int
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", MappingProxyType(dict(self.stages)))

    bin_s = FieldOf[float]("bin_ns", NS_PER_S)
    """Length of a bin, s."""

    @property
    def bins(self) -> int:
        """How many there are."""
        return int(self.rate_rps.size)

    @property
    def span_ns(self) -> int:
        """Length of all bins together."""
        return self.bins * self.bin_ns

    def commands(self, stage: str, step_ns: int = 1) -> tuple[Int64, Int64]:
        """When a stage is told another count, and the counts.

        Parameters
        ----------
        stage : str
        step_ns : int
            Commands are at multiples of this, orders earlier and removals later where it does not divide them: a minute
            for cron.

        Returns
        -------
        change_ns : int64, shape (c,)
            In (0, span).
        replicas : int64, shape (c + 1,)
            The first from 0 on.
        """
        counts, bins = self.stages[stage].replicas, np.arange(self.bins)
        lead_ns, lag_ns = (-(-time // step_ns) * step_ns for time in (self.delay_ns, self.settle_ns))
        starts, ends = bins * self.bin_ns - lead_ns, (bins + 1) * self.bin_ns + lag_ns
        if self.repeats:
            around = -(-max(lead_ns, lag_ns) // self.span_ns) + 1
            turns = self.span_ns * np.arange(-around, around + 1, dtype=np.int64)[:, None]
            starts, ends = (turns + starts).ravel(), (turns + ends).ravel()
            counts = np.tile(counts, turns.size)
        edges = np.unique(np.concatenate([[0], starts, ends]))
        edges = edges[(edges >= 0) & (edges < self.span_ns)]
        # A window covers edges from its start to before its end; of those that cover one the largest count holds.
        first, last = np.searchsorted(edges, starts), np.searchsorted(edges, ends)
        told = np.zeros(edges.size, dtype=np.int64)
        for low, high, count in zip(first.tolist(), last.tolist(), counts.tolist(), strict=True):
            np.maximum(told[low:high], count, out=told[low:high])
        changes = np.flatnonzero(np.diff(told)) + 1
        return edges[changes], told[np.concatenate([[0], changes])]

    @cached_property
    def schedules(self) -> dict[str, ReplicaSchedule]:
        """The commands as `mipplan.replay` takes them."""
        return {stage: ReplicaSchedule(*self.commands(stage), self.delay_ns) for stage in self.stages}

    @cached_property
    def microusd(self) -> int:
        """Rent of all replicas from their orders to their ends, over the span, micro-dollars."""
        total = 0
        for name, stage in self.stages.items():
            change_ns, counts = self.commands(name)
            lengths = np.diff(np.concatenate([[0], change_ns, [self.span_ns]]))
            replica_ns = sum(int(n) * int(length) for n, length in zip(counts, lengths, strict=True))
            total += -(-replica_ns * stage.microusd_per_hour // NS_PER_HOUR)
        return total

    @property
    def peak_microusd(self) -> int:
        """The same with the largest count of each stage all the time: what a plan for the peak costs."""
        rate = sum(int(stage.needed.max()) * stage.microusd_per_hour for stage in self.stages.values())
        return -(-rate * self.span_ns // NS_PER_HOUR)

    usd = FieldOf[float]("microusd", MICRODOLLARS_PER_DOLLAR)
    """`microusd` in dollars."""
    peak_usd = FieldOf[float]("peak_microusd", MICRODOLLARS_PER_DOLLAR)
    """`peak_microusd` in dollars."""

    @property
    def starts(self) -> int:
        """How often a replica is ordered for the span; where it does not repeat, beyond those that the plan has."""
        rises = 0
        for name, stage in self.stages.items():
            _, counts = self.commands(name)
            before = counts[-1] if self.repeats else stage.planned
            rises += int(np.maximum(np.diff(counts, prepend=before), 0).sum())
        return rises

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per bin: begin in seconds, queries per second, and the replicas of every stage."""
        import pandas as pd

        times = {"begin_s": np.arange(self.bins) * self.bin_s, "rate_rps": self.rate_rps}
        return pd.DataFrame(times | {name: stage.replicas for name, stage in self.stages.items()})

    def _summary(self) -> Summary:
        span = window_text(self.span_ns)
        figures = f"{usd_text(self.usd, 2)} $ for {span}, {usd_text(self.peak_usd, 2)} $ at the peak's counts"
        return Summary(
            f"Schedule of {self.plan.pipeline.name}: {figures}",
            figures=(("keeps", self.keep), *(("note", note) for note in self.notes)),
            headings=("from", ">queries/s", *(f">{name}" for name in self.stages)),
            rows=(
                (
                    window_text(place * self.bin_ns) if place else "0",
                    f"{self.rate_rps[place]:.4g}",
                    *(str(stage.replicas[place]) for stage in self.stages.values()),
                )
                for place in range(self.bins)
            ),
            count=self.bins,
            what="bins",
        )

    def _line(self) -> str:
        return f" of {self.plan.pipeline.name}: {self.bins} bins, {usd_text(self.usd, 2)} $"
