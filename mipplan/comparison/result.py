"""What comparisons find: a row per planner, with figures on both parts of the trace; a price per guarantee."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from mipplan.core import (
    NS_PER_S,
    FieldOf,
    Printable,
    Summary,
    counted,
    drawn,
    format_duration,
    from_front,
    higher_rank,
    usd_text,
)
from mipplan.reliability import fewest_scenarios
from mipplan.result import Objective, Plan, PlanStatus, RunEnergy
from mipplan.trace import Trace

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class Contender(StrEnum):
    """A planner that may be compared."""

    CERTIFIED = "certified"
    """`mipplan.plan`: the cheapest certified plan."""
    REFINED = "refined"
    """`mipplan.refine`, started from the certified plan."""
    INFERLINE = "inferline"
    """`mipplan.baselines.inferline`."""
    COARSE_MEAN = "coarse_mean"
    """`mipplan.baselines.coarse_grained`, sized for the mean rate."""
    COARSE_PEAK = "coarse_peak"
    """`mipplan.baselines.coarse_grained`, sized for the peak rate."""
    HALF_SLO = "half_slo"
    """`mipplan.baselines.half_slo`."""


@dataclass(frozen=True)
class Judgement:
    """A plan replayed on one part of the trace, or of each of several: then queries and misses are those of all."""

    seed: int
    """Of the token draws, the first of several."""
    queries: int
    quantile_ns: int
    """Latency quantile over these queries (``method="higher"``), of several limits the first's; of several traces and
    seeds the greatest."""
    misses: int
    """Queries slower than the objective."""
    keeps: bool
    """Whether the objective is kept, with all its limits."""
    energy: RunEnergy | None = None
    """What these runs took; None where energy was not asked about."""

    quantile_s = FieldOf[float]("quantile_ns", NS_PER_S)
    """`quantile_ns` in seconds."""

    @property
    def miss_rate(self) -> float:
        """Share of queries slower than the objective."""
        return self.misses / self.queries


@dataclass(frozen=True)
class ComparisonRow:
    """One planner: its plan, and how that did."""

    planner: Contender
    plan: Plan
    """Without choices if the planner found none; its `reason` says why."""
    planning_s: float
    """Wall-clock time of the planner, one run."""
    estimator_calls: int
    """Configurations that the planner replayed."""
    certificate_ns: int | None = None
    """Certified latency quantile on the part planned on, whatever the planner made of it; None without a
    plan."""
    in_sample: Judgement | None = None
    """On the part planned on, with the draws planned with."""
    over_seeds: tuple[Judgement, ...] = ()
    """On the rest, once for each seed of the comparison; empty without a plan."""
    accuracy: float | None = None
    """Of the pipeline with what the plan runs; None where no stage lists variants, or one's is not known."""
    accurate: bool | None = None
    """Whether that is the least accuracy asked for; None where none was, or without a plan."""

    certificate_s = FieldOf[float | None]("certificate_ns", NS_PER_S)
    """`certificate_ns` in seconds."""

    @property
    def held_out(self) -> Judgement | None:
        """On the rest, with the first of the seeds; None without a plan."""
        return self.over_seeds[0] if self.over_seeds else None

    @property
    def median_quantile_s(self) -> float | None:
        """Median over the seeds of the latency quantile on the rest, seconds; the higher of two middle ones."""
        return self._over_seeds("quantile_s", 0.5)

    @property
    def worst_quantile_s(self) -> float | None:
        """Largest of them, seconds."""
        return self._over_seeds("quantile_s", 1.0)

    @property
    def median_miss_rate(self) -> float | None:
        """Median over the seeds of the miss rate on the rest; the higher of two middle ones."""
        return self._over_seeds("miss_rate", 0.5)

    @property
    def worst_miss_rate(self) -> float | None:
        """Largest of them."""
        return self._over_seeds("miss_rate", 1.0)

    def _over_seeds(self, figure: str, quantile: float) -> float | None:
        values: list[float] = sorted(getattr(judged, figure) for judged in self.over_seeds)
        return values[higher_rank(quantile, len(values))] if values else None


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Printable):
    """Several planners on one problem.

    Attributes
    ----------
    objective : Objective
        What all were asked for, with the seed of the token draws planned with.
    discipline : str
        Queue discipline of all replays here.
    split : float
        Share of the trace's time that was planned on.
    seeds : tuple of int
        Of the token draws on the rest; one where the pipeline draws nothing.
    planned_on, judged_on : Trace
        The first part of the trace, and the rest.
    rows : tuple of ComparisonRow
        In the order asked for.
    left_out : tuple of Contender
        Asked for, but Ctrl-C came first.
    others : tuple of (Trace, Trace)
        The same two parts of further traces.
    draws : int
        Of every trace, planned with.
    """

    objective: Objective
    discipline: str
    split: float
    seeds: tuple[int, ...]
    planned_on: Trace
    judged_on: Trace
    rows: tuple[ComparisonRow, ...]
    left_out: tuple[Contender, ...] = ()
    others: tuple[tuple[Trace, Trace], ...] = ()
    draws: int = 1

    slo_ns = FieldOf[int]("objective.slo_ns")
    """The objective in nanoseconds."""
    slo_s = FieldOf[float]("objective.slo_ns", NS_PER_S)
    """The objective in seconds."""
    quantile = FieldOf[float]("objective.quantile")
    """Of latency over queries that must keep it."""
    seed = FieldOf[int]("objective.seed")
    """Of the token draws planned with."""
    min_accuracy = FieldOf[float | None]("objective.min_accuracy")
    """The least accuracy that was asked for."""

    @property
    def accuracy_note(self) -> str | None:
        """Say which plans lack the accuracy asked for, or that plans differ in it where none was; else None."""
        choosing = "only certified and refined choose variants, others run the models that the pipeline names"
        short = [row.planner for row in self.rows if row.accurate is False]
        if short:
            lack = f"{', '.join(short)} lack{'s' if len(short) == 1 else ''} the accuracy of {self.min_accuracy:g}"
            return f"{lack} asked for, and cannot be called the cheapest: {choosing}"
        # What differs by rounding is alike, and without variants nothing is known of any plan.
        every = {row.accuracy and round(row.accuracy, 9) for row in self.rows if row.plan.choices}
        known = sorted(value for value in every if value is not None)
        if self.min_accuracy is not None or not known or len(every) < 2:
            return None
        ends = " to ".join(f"{value:.4g}" for value in dict.fromkeys([known[0], known[-1]]))
        span = (
            f"{ends}{' or not known' if None in every else ''}: ask for a least one to compare like with like"
        )
        return f"plans differ in accuracy, {span}; {choosing}"

    @property
    def by_cost(self) -> tuple[ComparisonRow, ...]:
        """Rows by cost, cheapest first; those without a plan come last."""

        def cost(row: ComparisonRow) -> tuple[bool, int]:
            return row.plan.microusd_per_hour is None, row.plan.microusd_per_hour or 0

        return tuple(sorted(self.rows, key=cost))

    def row(self, planner: str) -> ComparisonRow:
        """Return the row of a planner.

        Raises
        ------
        KeyError
            If it has none.
        """
        return {row.planner.value: row for row in self.rows}[planner]

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per planner, cheapest first: status, cost, certificate, quantiles and miss rates.

        And ``accuracy``, ``held_out_power_w`` and ``held_out_j_per_thousand``, where these are known.
        """
        import pandas as pd

        rows = [
            {
                "status": row.plan.status.value,
                "usd_per_hour": row.plan.usd_per_hour,
                "certificate_s": row.certificate_s,
                "planning_s": row.planning_s,
                "in_sample_s": None if row.in_sample is None else row.in_sample.quantile_s,
                "in_sample_miss_rate": None if row.in_sample is None else row.in_sample.miss_rate,
                "held_out_s": None if row.held_out is None else row.held_out.quantile_s,
                "held_out_miss_rate": None if row.held_out is None else row.held_out.miss_rate,
                **_further_figures(row),
            }
            for row in self.by_cost
        ]
        return pd.DataFrame(rows, pd.Index([row.planner.value for row in self.by_cost], name="planner"))

    def plot(self) -> Figure:
        """Draw what each plan costs, and its latency quantile in sample and held out.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ValueError
            If Ctrl-C left no rows.
        """
        if not self.rows:
            raise ValueError("no planner was done: there is nothing to draw")
        report = from_front("comparison_report", "mipplan.reporting")(self.rows[0].plan.pipeline, self, [])
        figure: Figure = drawn("draw_comparison", report)
        return figure

    def _summary(self) -> Summary:
        accurate = [">accuracy"] if any(row.accuracy is not None for row in self.rows) else []
        return Summary(
            f"{len(self.rows)} planners on {self.planned_on.name}: {self.objective.text}",
            figures=(
                ("planned on", f"the first {self.split:.0%} of its time, {len(self.planned_on):,} queries"),
                (
                    "held out",
                    f"the rest, {len(self.judged_on):,} queries, {counted(len(self.seeds), 'seed')}",
                ),
                ("and on", ", ".join(planned.name for planned, _ in self.others)),
                ("left out", ", ".join(self.left_out)),
                ("accuracy", self.accuracy_note),
            ),
            headings=("planner", "status", ">$/h", *accurate, "in sample", "held out"),
            rows=(
                (
                    row.planner.value,
                    row.plan.status.value,
                    "" if row.plan.usd_per_hour is None else usd_text(row.plan.usd_per_hour),
                    *("" if row.accuracy is None else f"{row.accuracy:.4g}" for _ in accurate),
                    _verdict_text(row.in_sample),
                    _verdict_text(row.held_out),
                )
                for row in self.by_cost
            ),
            count=len(self.rows),
            what="planners",
        )

    def _line(self) -> str:
        planners = ", ".join(row.planner.value for row in self.rows[:8])
        return f": {self.objective.text}, {planners}"


@dataclass(frozen=True)
class GuaranteeCost:
    """What an objective costs under one guarantee.

    Attributes
    ----------
    name, label : str
        Key of `mipplan.comparison.GUARANTEES`, and what tables call it.
    plan : Plan
        The cheapest plan found, or none; `status` says how much is proven.
    is_answer : bool
        Whether it is the plan that the others stand beside.
    holds_for, void_if : str
        What the guarantee holds for, and what voids it, in a few words.
    """

    name: str
    label: str
    plan: Plan
    is_answer: bool
    holds_for: str
    void_if: str

    @property
    def usd_per_hour(self) -> float | None:
        """Its price; None where there is no plan, or one that is not known to keep what the guarantee says."""
        if self.plan.status not in (PlanStatus.OPTIMAL, PlanStatus.FEASIBLE):
            return None
        return self.plan.usd_per_hour

    @property
    def proof(self) -> str:
        """What is known of the price, in a few words: proven, within how much, tested how, or why there is none."""
        plan, test = self.plan, self.plan.reliability
        if plan.status is PlanStatus.INFEASIBLE:
            return "proven: there is none"
        if test is not None and test.scenarios:
            is_whole = test.scenarios >= fewest_scenarios(test.confidence)
            said = f"kept {test.kept} of {test.scenarios} {'fresh scenarios' if is_whole else 'so far'}"
            return f"{said}, {test.interval}" if test.passed else f"failed its test: {said}"
        if plan.status is PlanStatus.UNKNOWN:
            missing = "not tested" if plan.choices else "not found"
            return missing if plan.limit is None else f"{missing} in the time"
        if plan.status is PlanStatus.OPTIMAL:
            return "proven cheapest"
        if not plan.lower_bound_microusd_per_hour or plan.gap is None:
            return "found, nothing proven"
        # Rounded up, to be true of the gap as it is: cheaper plans would cost at least the lower bound.
        return f"within {math.ceil(round(1000 * plan.gap, 6)) / 10:g} % of the cheapest"


def _further_figures(row: ComparisonRow) -> dict[str, float]:
    """What is not known of every comparison."""
    energy = row.held_out and row.held_out.energy
    took = energy and {
        "held_out_power_w": energy.mean_power_w,
        "held_out_j_per_thousand": energy.j_per_thousand,
    }
    return ({} if row.accuracy is None else {"accuracy": row.accuracy}) | (took or {})


def _verdict_text(judged: Judgement | None) -> str:
    if judged is None:
        return ""
    return f"{'kept' if judged.keeps else 'MISSED'}, {format_duration(judged.quantile_ns)}"
