"""The aims of the comparison, and what became of them by the rows measured."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from benchmarks.compare.figures import EQUAL, geometric_mean, planned, ratios
from benchmarks.compare.planners import (
    CERTIFIED,
    EXHAUSTIVE,
    GREEDY,
    PACED,
    PACED_SHARP,
    REFINED,
    SHARP,
    SHARP_ANY,
    TIMED,
)

#: What is proven may cost so many times greedy's plan, over all instances where greedy has one.
LAW_FACTORS = {TIMED: 0.85, PACED: 1.15, PACED_SHARP: 1.15, SHARP: 1.20, SHARP_ANY: 1.45}
#: Its certificate may be so many times P99 in replay, in the median.
TIGHTNESS = {PACED: 1.35, PACED_SHARP: 1.35, SHARP: 1.2}


@dataclass(frozen=True)
class Aim:
    """A figure to be reached.

    Attributes
    ----------
    text : str
    found : float
        NaN if it was not measured.
    least, most : float
        What it must be at least or at most.
    over : str
        What it was measured on.
    unit : str
        A format of the figure.
    rows : Series
        The figure of each instance, where the one found pools them; then the aim is kept if each of them keeps it.
    pooled : str
        How it pools them.
    without : int
        Instances that have no such figure, because there is no plan.
    """

    text: str
    found: float
    over: str
    least: float = float("-inf")
    most: float = float("inf")
    unit: str = "{:.3f}"
    rows: pd.Series[float] = field(default_factory=lambda: pd.Series(dtype=float))
    pooled: str = ""
    without: int = 0

    @property
    def outcome(self) -> str:
        """Kept, or missed by how much: in how many rows, and in the worst."""
        if pd.isna(self.found):
            return "not measured"
        short, shorts = self._short(self.found), self.rows.map(self._short)
        said = f"by {self.unit.format(short)}"
        if self.without:
            return f"missed: no plan on {self.without}; on the others {f'missed {said}' if short > 0 else 'kept'}"
        if shorts.empty:
            return f"missed {said}" if short > 0 else "kept"
        if not (shorts > 0).any():
            return "kept"
        return (
            f"missed: {(shorts > 0).sum()} of {shorts.size} instances, worst {shorts.idxmax()} by "
            f"{self.unit.format(shorts.max())}; in the {self.pooled} {said if short > 0 else 'kept'}"
        )

    def _short(self, figure: float) -> float:
        """How far a figure is beyond the aim."""
        return max(0.0, self.least - figure, figure - self.most)


def judge_aims(table: pd.DataFrame) -> list[str]:
    """Lines of a Markdown table."""
    lines = ["| aim | found | over | outcome |", "|---" * 4 + "|"]
    for aim in find_aims(table):
        found = "–" if pd.isna(aim.found) else aim.unit.format(aim.found)
        lines.append(f"| {aim.text} | {found} | {aim.over} | {aim.outcome} |")
    return lines


def find_aims(table: pd.DataFrame) -> list[Aim]:
    """Judge the rows by all aims."""
    compared, large = table[table["group"] != "large"], table[table["group"] == "large"]
    greedy = planned(compared, GREEDY)
    refined, certified = ratios(compared, REFINED), ratios(compared, CERTIFIED)
    # Where greedy has a plan and refinement none, refinement is not at most as dear.
    no_dearer = (refined <= 1 + EQUAL).sum() / len(greedy) if len(greedy) else float("nan")
    exact = _beside_optimum(compared)
    both = "instances where both have a plan"
    return [
        Aim(
            "refined ≤ greedy, same trace and estimator: 100 %",
            100 * no_dearer,
            f"{len(greedy)} instances where greedy has a plan",
            least=100.0,
            unit="{:.1f} %",
        ),
        Aim(
            "refined / greedy ≤ 0.80 in geometric mean",
            geometric_mean(refined),
            f"{len(refined)} {both}",
            most=0.80,
            rows=refined,
            pooled="mean",
        ),
        Aim(
            "certified / greedy ≤ 1.0 in geometric mean",
            geometric_mean(certified),
            f"{len(certified)} {both}; on {len(greedy) - len(certified)} only greedy has one",
            most=1.0,
            rows=certified,
            pooled="mean",
        ),
        *(_of_law(compared, planner, most) for planner, most in LAW_FACTORS.items()),
        *(_tightness(compared, planner, most) for planner, most in TIGHTNESS.items()),
        _planning_time(large),
        *_planning_speed(large),
        Aim(
            "refined = exhaustive optimum: ≥ 95 %",
            100 * (exact <= 1 + EQUAL).mean() if len(exact) else float("nan"),
            f"{len(exact)} instances small enough",
            least=95.0,
            unit="{:.1f} %",
        ),
        Aim(
            "refined within 2 % of the exhaustive optimum on all",
            100 * (exact.max() - 1) if len(exact) else float("nan"),
            f"{len(exact)} instances small enough",
            most=2.0,
            unit="{:.2f} %",
        ),
    ]


def _of_law(table: pd.DataFrame, planner: str, most: float) -> Aim:
    """Cost beside greedy's, for which there must be a plan wherever greedy has one."""
    with_greedy = planned(table, GREEDY)["instance"]
    found = ratios(table, planner)
    without = len(with_greedy) - len(found) if len(found) else 0
    return Aim(
        f"{planner} / greedy ≤ {most:.2f} in geometric mean, a plan on every instance",
        geometric_mean(found),
        f"{len(found)} of {len(with_greedy)} instances where greedy has a plan",
        most=most,
        without=without,
    )


def _tightness(table: pd.DataFrame, planner: str, most: float) -> Aim:
    rows = planned(table, planner)
    return Aim(
        f"{planner}: certificate ≤ {most:g} times P99 in replay, in the median",
        float((rows["certificate_s"] / rows["p99_s"]).median()) if len(rows) else float("nan"),
        f"{len(rows)} plans",
        most=most,
    )


def _beside_optimum(table: pd.DataFrame) -> pd.Series[float]:
    """Cost of refined plans to the optimum by exhaustive replay; infinite where none was found."""
    optima = planned(table, EXHAUSTIVE)["instance"]
    return ratios(table, REFINED, EXHAUSTIVE).reindex(optima, fill_value=float("inf"))


def _planning_time(large: pd.DataFrame) -> Aim:
    seconds = large[large["planner"] == CERTIFIED].set_index("instance")["seconds"]
    greedy = large[large["planner"] == GREEDY]
    beside = (
        f"{len(seconds)} instances; greedy {greedy['seconds'].median():.2f} s with "
        f"{greedy['estimator_calls'].median():.0f} replays"
        if len(greedy)
        else "0 instances"
    )
    return Aim(
        "certified planning at 10⁵ queries ≤ 0.1 s in the median",
        float(seconds.median()),
        beside,
        most=0.1,
        unit="{:.3f} s",
        rows=seconds,
        pooled="median",
    )


def _planning_speed(large: pd.DataFrame) -> list[Aim]:
    """How many times as long greedy takes, on the same engine."""
    seconds = large.pivot_table("seconds", "instance", "planner")
    factors = (
        seconds[GREEDY] / seconds[CERTIFIED]
        if {GREEDY, CERTIFIED} <= {*seconds.columns}
        else pd.Series(dtype=float)
    )
    text, over = "certified planning at 10⁵ queries {} times as fast as greedy{}", f"{len(factors)} instances"
    return [
        Aim(text.format("≥ 10", ", median"), float(factors.median()), over, least=10.0, unit="{:.1f}"),
        Aim(text.format("≥ 3", ", each"), float(factors.min()), over, least=3.0, unit="{:.1f}"),
    ]
