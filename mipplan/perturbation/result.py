"""What a plan bears: its figures under every perturbation, and the least one under which it misses its objective."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mipplan.core import NS_PER_S, FieldOf, Printable, Summary, drawn, format_duration
from mipplan.result import Plan
from mipplan.trace import Trace

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class FragilityPoint:
    """A plan replayed under one perturbation."""

    value: float | int | str
    """The factor, the seed, or the stage that loses a replica."""
    label: str
    size: float
    """How large the perturbation is: 0.05 for +5 %, 1/n for one of n replicas, 0 for another seed."""
    keeps: bool
    """Whether the objective is kept, with all its limits."""
    quantile_ns: int | None = None
    """Latency quantile (``method="higher"``), of several limits the first's; None if a stage has no replica left, as
    for the figures below."""
    miss_rate: float | None = None
    """Share of queries slower than the objective."""
    busiest: str | None = None
    """The stage whose replicas were busy for the largest share of their time."""
    utilisation: float | None = None
    """That share."""
    cv: float | None = None
    """Of the gaps of the trace replayed; None if all queries arrive at once."""
    sample: str | None = None
    """Where these figures are from, of several traces and seeds: where least of the objective is left."""

    quantile_s = FieldOf[float | None]("quantile_ns", NS_PER_S)
    """`quantile_ns` in seconds."""


@dataclass(frozen=True)
class FragilityBreak:
    """The least perturbation along an axis under which the objective is missed, as far as is known."""

    axis: str
    value: float | int | str
    label: str
    size: float
    resolution: float | None = None
    """Of an exact one: the objective is kept under a factor smaller by this. None for the first grid point that misses,
    where smaller perturbations between the grid points were not tried."""

    @property
    def is_exact(self) -> bool:
        """Whether it was found by bisection."""
        return self.resolution is not None

    @property
    def how(self) -> str:
        """Say how it was found."""
        if self.resolution is None:
            return "first grid point"
        return (
            f"exact to {self.resolution:g}"
            if self.axis == "burstiness"
            else f"exact to {100 * self.resolution:g} %"
        )


@dataclass(frozen=True)
class AxisFragility:
    """What came of one axis."""

    name: str
    title: str
    points: tuple[FragilityPoint, ...]
    """Smallest perturbation first; empty if there is nothing to perturb."""
    first_break: FragilityBreak | None = None
    """None if the objective is kept at all points, or missed without any perturbation."""
    obstacle: str | None = None
    """Why there is nothing to perturb."""

    @property
    def missed(self) -> tuple[FragilityPoint, ...]:
        """Points at which the objective is missed."""
        return tuple(point for point in self.points if not point.keeps)

    @property
    def verdict(self) -> str:
        """Say in a few words what came of it."""
        if self.obstacle is not None:
            return f"not perturbed: {self.obstacle}"
        if not self.points:
            return "not tried"
        if self.first_break is None:
            return "missed as it is" if self.missed else f"kept at all {len(self.points)} points"
        if self.first_break.is_exact:
            return f"missed from {self.first_break.label} on"
        return f"missed at {len(self.missed)} of {len(self.points)} points, first {self.first_break.label}"


@dataclass(frozen=True, eq=False, repr=False)
class Fragility(Printable):
    """What a plan bears on a trace.

    Attributes
    ----------
    plan : Plan
    trace : Trace
        Of several samples the worst one's, without perturbation.
    discipline, engine : str
        Of all replays.
    seed : int
        Of the token draws, on all axes but that of other seeds; of several samples the worst one's.
    quantile : float
        That is held to the objective: the plan's, or 1 if it guarantees every query.
    unperturbed : FragilityPoint
    axes : tuple of AxisFragility
    replays : int
        Replays and verdicts that it took.
    left_out : tuple of str
        Axes that were not complete when Ctrl-C came.
    samples : tuple of str
        Names of the traces and seeds, each of which must keep the objective; empty for one.
    """

    plan: Plan
    trace: Trace
    discipline: str
    engine: str
    seed: int
    quantile: float
    unperturbed: FragilityPoint
    axes: tuple[AxisFragility, ...]
    replays: int
    left_out: tuple[str, ...] = ()
    samples: tuple[str, ...] = ()

    @property
    def keeps(self) -> bool:
        """Whether the plan keeps its objective without any perturbation."""
        return self.unperturbed.keeps

    @property
    def first_break(self) -> FragilityBreak | None:
        """The first thing that breaks: of the breaks of all axes the one that is smallest in relation to what is.

        Other seeds come first, since they change nothing but luck; one of n replicas counts as 1/n.
        """
        breaks = [axis.first_break for axis in self.axes if axis.first_break is not None]
        return min(breaks, key=lambda found: found.size, default=None)

    def axis(self, name: str) -> AxisFragility:
        """Return what came of an axis.

        Raises
        ------
        KeyError
            If there is no such axis.
        """
        return {axis.name: axis for axis in self.axes}[name]

    def rows(self) -> Iterator[tuple[str, FragilityPoint]]:
        """All points, each with the name of its axis; that without a perturbation comes first."""
        yield "none", self.unperturbed
        for axis in self.axes:
            yield from ((axis.name, point) for point in axis.points)

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per replay: axis, perturbation, latency quantile, miss rate, busiest stage."""
        import pandas as pd

        return pd.DataFrame(
            {
                "axis": name,
                "perturbation": point.label,
                "value": point.value,
                "size": point.size,
                "keeps": point.keeps,
                "quantile_s": point.quantile_s,
                "miss_rate": point.miss_rate,
                "busiest": point.busiest,
                "utilisation": point.utilisation,
                "cv": point.cv,
            }
            for name, point in self.rows()
        )

    def plot(self) -> Figure:
        """Draw the latency quantile along every axis, the objective, and the first break of each.

        Returns
        -------
        matplotlib.figure.Figure
        """
        figure: Figure = drawn("draw_fragility", self)
        return figure

    @property
    def breaks_first(self) -> str:
        """Say what breaks first."""
        if not self.keeps:
            return "the objective is missed without any perturbation"
        first = self.first_break
        if first is None:
            return "nothing: the objective is kept at all points"
        return f"{self.axis(first.axis).title}, {first.label} ({first.how})"

    def _summary(self) -> Summary:
        objective = self.plan.objective.text
        kept = "kept" if self.keeps else "MISSED"
        return Summary(
            f"Fragility of the plan for {self.plan.pipeline.name} on {self.trace.name}: {objective}",
            figures=(
                ("unperturbed", f"{kept}, {format_duration(self.unperturbed.quantile_ns or 0)}"),
                ("worst of", ", ".join(self.samples)),
                ("first break", self.breaks_first),
                ("left out", ", ".join(self.left_out)),
            ),
            headings=("perturbed", "verdict", "found"),
            rows=(
                (axis.title, axis.verdict, axis.first_break.how if axis.first_break else "")
                for axis in self.axes
            ),
            count=len(self.axes),
            what="axes",
        )

    def _line(self) -> str:
        return f" {self.plan.pipeline.name} on {self.trace.name}: breaks first: {self.breaks_first}"
