"""What came of a comparison: figures, stages, hops, and a verdict with its causes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from mipplan.core import NS_PER_S, FieldOf, Printable, Summary, format_duration
from mipplan.result import Interval, Plan
from mipplan.validation.bootstrap import Agreement, FigureComparison

if TYPE_CHECKING:
    import pandas as pd


class TruthVerdict(StrEnum):
    """What the comparison comes to."""

    AGREES = "agrees"
    """No figure is off: differences may be chance, or are too small to matter."""
    SATURATED = "saturated"
    """The load is more than the plan serves: queues grow over the whole run, in the replay as well. Latencies then
    depend on how long the run lasts, and say nothing about the model."""
    SATURATED_UNLIKE_REPLAY = "saturated_unlike_replay"
    """Queues grow over the whole run, and in the replay of the same arrivals they do not: the system has less capacity
    than the plan says."""
    MODEL_WRONG = "model_wrong"
    """The system keeps up, and still figures are off."""
    TOO_SHORT = "too_short"
    """No figure has an interval."""


class Term(StrEnum):
    """What latency is made of, and what can be wrong about each."""

    SERVICE = "service"
    HOP = "hop"
    STAGGER = "stagger"
    STALL = "stall"
    REPLICAS = "replicas"
    BATCHING = "batching"
    QUEUEING = "queueing"
    ROUTING = "routing"
    SENDING = "sending"
    ERRORS = "errors"


@dataclass(frozen=True)
class Cause:
    """One term of the prediction that is off."""

    term: Term
    place: str
    """The stage, or the hop as ``from → to``; empty for what concerns the whole run."""
    text: str


@dataclass(frozen=True)
class ServiceComparison:
    """Batches of one size at a stage. Times in seconds."""

    batch: int
    batches: int
    p50_s: float
    p50_interval: Interval | None
    p99_s: float
    table_s: float | None  # ℓ(k); None beyond the plan's table.


@dataclass(frozen=True)
class StageComparison:
    """One stage, measured and predicted. Times in seconds, means over tokens.

    Attributes
    ----------
    stage : str
    tokens_per_query, predicted_tokens_per_query : float
        Measured of answered queries.
    tokens_error : float
        Standard error of the former.
    mean_batch, predicted_mean_batch : float
    batch_sizes, predicted_batch_sizes : mapping of int to int
        How many batches there were of each size.
    service_ratio : float or None
        Time of all batches by what the plan's table says for batches of these sizes.
    service_interval : Interval or None
    overruns : float or None
        Share of batches that took longer than ℓ(k).
    services : tuple of ServiceComparison
    wait_s, predicted_wait_s : float
        From arrival at the stage to dispatch; predicted by the replay of the whole plan.
    served_wait_s : float or None
        What the wait would be with the arrivals and the service times that were measured, if the stage dispatched by
        the plan's law: so what differs from it is neither the stages above nor the service.
    served_together : bool
        Whether that is with outputs of a batch that arrive within microseconds taken as one arrival.
    wait_excess : Interval or None
        Of ``wait_s - served_wait_s``.
    grows, predicted_grows : bool
        Whether waits grow over the whole run.
    failed_batches : int
        Those that began and did not end well.
    replicas, most_at_once : int
        Of the plan; and the most batches that were under way at one time.
    longest_idle_s, idle_at_s : float
        The longest time that a token waited although fewer than `replicas` batches were under way, and when in the run
        that began.
    longest_service_s, longest_table_s, longest_at_s : float
        The batch that took longest beyond its table, what that says, and when in the run the batch began.
    """

    stage: str
    tokens_per_query: float
    predicted_tokens_per_query: float
    tokens_error: float
    mean_batch: float
    predicted_mean_batch: float
    batch_sizes: Mapping[int, int]
    predicted_batch_sizes: Mapping[int, int]
    service_ratio: float | None
    service_interval: Interval | None
    overruns: float | None
    services: tuple[ServiceComparison, ...]
    wait_s: float
    predicted_wait_s: float
    served_wait_s: float | None
    served_together: bool
    wait_excess: Interval | None
    grows: bool
    predicted_grows: bool
    failed_batches: int
    replicas: int
    most_at_once: int
    longest_idle_s: float
    idle_at_s: float
    longest_service_s: float
    longest_table_s: float
    longest_at_s: float


@dataclass(frozen=True)
class HopComparison:
    """The way from one stage to the next; the sender stands at both ends. Times in seconds."""

    above: str
    below: str
    count: int
    p50_s: float
    p50_interval: Interval | None
    predicted_p50_s: float
    stagger_s: float | None
    """How far apart outputs of one batch arrive, in the median; None if no two of a batch go this way."""
    predicted_stagger_s: float | None


@dataclass(frozen=True, eq=False, repr=False)
class Truth(Printable):
    """A plan's prediction against what was measured.

    Attributes
    ----------
    plan : Plan
    queries, answered : int
        Sent, and answered well.
    figures : tuple of FigureComparison
    stages : tuple of StageComparison
        In the order of first arrivals; empty without a log of stages.
    hops : tuple of HopComparison
    verdict : TruthVerdict
    causes : tuple of Cause
        Which terms are off, the first one first.
    notes : tuple of str
        What the comparison cannot tell.
    send_error_s : mapping of str to float
        ``p50``, ``p99``, ``max`` of how much later than scheduled queries were sent.
    confidence : float
        Of the intervals.
    slo_ns : int
        What the miss rate is of.
    """

    plan: Plan
    queries: int
    answered: int
    figures: tuple[FigureComparison, ...]
    stages: tuple[StageComparison, ...]
    hops: tuple[HopComparison, ...]
    verdict: TruthVerdict
    causes: tuple[Cause, ...]
    notes: tuple[str, ...]
    send_error_s: Mapping[str, float]
    confidence: float
    slo_ns: int

    slo_s = FieldOf[float]("slo_ns", NS_PER_S)
    """`slo_ns` in seconds."""

    @property
    def agrees(self) -> bool:
        """Whether no figure is off."""
        return self.verdict is TruthVerdict.AGREES

    @property
    def verdict_text(self) -> str:
        """The verdict as a sentence."""
        grown = ", ".join(one.stage for one in self.stages if one.grows) or "the pipeline"
        within = all(figure.agreement in (Agreement.WITHIN, Agreement.UNKNOWN) for figure in self.figures)
        return {
            TruthVerdict.AGREES: "the prediction is "
            + (
                "within the interval"
                if within
                else "close: differences are real, and within what is tolerated"
            ),
            TruthVerdict.SATURATED: f"saturated, as the replay is: queues at {grown} grow over the whole run, so the "
            "load is beyond the plan, and latencies depend on the length of the run",
            TruthVerdict.SATURATED_UNLIKE_REPLAY: f"saturated, unlike the replay: queues at {grown} grow over the "
            "whole run, so the system has less capacity than the plan says",
            TruthVerdict.MODEL_WRONG: "the model is wrong: the system keeps up, and figures are off",
            TruthVerdict.TOO_SHORT: "the run is too short to tell",
        }[self.verdict]

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per figure: measured, predicted, deviation with its interval, agreement."""
        import pandas as pd

        kept = ["name", "measured", "predicted", "deviation", "agreement"]
        ranges = [vars(one.deviation_interval or Interval(math.nan, math.nan)) for one in self.figures]
        return pd.DataFrame(map(vars, self.figures))[kept].join(pd.DataFrame(ranges))

    def _summary(self) -> Summary:
        return Summary(
            f"Truth about {self.plan.pipeline.name}: {self.queries:,} queries, {self.answered:,} answered well",
            figures=(
                ("verdict", self.verdict_text),
                *((str(cause.term), cause.text) for cause in self.causes),
                *(("note", note) for note in self.notes),
            ),
            headings=("", ">measured", ">predicted", ">deviation", ">interval", ""),
            rows=(figure_row(figure) for figure in self.figures),
            count=len(self.figures),
            what="figures",
        )

    def _line(self) -> str:
        return (
            f" {self.plan.pipeline.name}: {self.verdict}, {self.queries} queries, {len(self.causes)} causes"
        )


def figure_row(figure: FigureComparison) -> tuple[str, ...]:
    """Write a figure for people."""
    is_share = figure.name == "miss_rate"

    def amount(value: float) -> str:
        if math.isnan(value):
            return ""
        return f"{value:.2%}" if is_share else format_duration(value * NS_PER_S)

    def deviation(value: float) -> str:
        return f"{value:+.2%}" if is_share else f"{value:.3f} ×"

    interval = figure.deviation_interval
    return (
        "miss rate" if is_share else figure.name.upper() if figure.name.startswith("p") else figure.name,
        amount(figure.measured),
        amount(figure.predicted),
        "" if figure.deviation is None else deviation(figure.deviation),
        "" if interval is None else f"{deviation(interval.low)} … {deviation(interval.high)}",
        str(figure.agreement),
    )
