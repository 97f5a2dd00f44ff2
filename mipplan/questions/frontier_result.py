"""A frontier: what the objective costs along an axis, step by step, and the plan on each step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mipplan.core import MICRODOLLARS_PER_DOLLAR, FieldOf, Printable, Summary, drawn, usd_text
from mipplan.questions.differences import diff
from mipplan.result import Plan, choice_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class FrontierStep:
    """The cheapest plan for all values from `start` to `end`."""

    start: float
    """The least value, in the frontier's unit."""
    end: float
    """The largest."""
    plan: Plan | None
    """As made at one end of the step; its choices are the cheapest all along it. None: no plan, if that is `proven`."""
    microusd_start: int | None
    microusd_end: int | None
    proven: bool
    """Whether no plan is cheaper."""

    usd_start = FieldOf[float | None]("microusd_start", MICRODOLLARS_PER_DOLLAR)
    """Cost at `start`, $/h; along a price that of the devices grows with it, else it is the same as at `end`."""
    usd_end = FieldOf[float | None]("microusd_end", MICRODOLLARS_PER_DOLLAR)
    """Cost at `end`, $/h."""

    def cost_at(self, value: float) -> float | None:
        """Cost at a value of the step, $/h."""
        if self.usd_start is None or self.usd_end is None or self.end == self.start:
            return self.usd_start
        share = (value - self.start) / (self.end - self.start)
        return self.usd_start + min(1.0, max(0.0, share)) * (self.usd_end - self.usd_start)


@dataclass(frozen=True, eq=False, repr=False)
class Frontier(Printable):
    """The least cost along an axis, as a staircase.

    Attributes
    ----------
    over : str
        The axis: ``slo``, ``rate``, ``burstiness``, ``price:t4``, ``accuracy`` …
    title, unit : str
        What it is called, and in what values are counted: ``s``, ``$/h``, ``x`` (a factor on what is), ``share``.
    plan : Plan
        The one asked about: its cost is that of the present value.
    present : float
        Where the question stands on the axis.
    steps : tuple of FrontierStep
        By ascending values.
    exact : bool
        Whether breakpoints are exact: to a nanosecond, a micro-dollar, a millionth of accuracy. Else they are between a
        value and the next, or only single values were planned at all.
    resolution : float
        How far apart values are at least.
    solves : int
        Plans made.
    complete : bool
        False if time was up, or Ctrl-C came, before the whole axis was walked.
    notes : tuple of str
        What must be known to read it.
    """

    over: str
    title: str
    unit: str
    plan: Plan
    present: float
    steps: tuple[FrontierStep, ...]
    exact: bool
    resolution: float
    solves: int
    complete: bool = True
    notes: tuple[str, ...] = ()

    def step_at(self, value: float) -> FrontierStep | None:
        """The step that a value lies on; None beside the axis that was walked."""
        tolerance = self.resolution / 2
        return next((s for s in self.steps if s.start - tolerance <= value < s.end + tolerance), None)

    def cost_at(self, value: float) -> float | None:
        """Least cost at a value, $/h; None where there is no plan, or nothing is known."""
        step = self.step_at(value)
        return None if step is None else step.cost_at(value)

    @property
    def now(self) -> float | None:
        """Least cost at the present value, $/h; beside the axis that was walked, what the plan asked about costs."""
        return self.plan.usd_per_hour if self.step_at(self.present) is None else self.cost_at(self.present)

    def saving(self, by: float) -> float | None:
        """What the present value costs more than one further up the axis by `by` (of an objective: looser), $/h.

        The last 10 ms of an objective cost ``saving(0.010)``. None if one of the two is beside the axis.
        """
        here, there = self.cost_at(self.present), self.cost_at(self.present + by)
        return None if here is None or there is None else here - there

    def text_of(self, value: float) -> str:
        """Write a value of the axis."""
        return value_text(value, self.unit)

    def changes(self) -> Iterator[tuple[FrontierStep, str]]:
        """Every step with what it runs on otherwise than the one before; of the first one, all."""
        before: Plan | None = None
        for step in self.steps:
            if step.plan is None:
                yield step, "no plan" if step.proven else "none found"
            elif before is None:
                yield step, runs_on(step.plan)
            else:
                yield (
                    step,
                    ", ".join(one.text for one in diff(before, step.plan).stages) or "the same choices",
                )
            before = step.plan

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per step: ``start``, ``end``, ``usd_start``, ``usd_end``, ``proven``, a choice per stage."""
        import pandas as pd

        rows = []
        for step in self.steps:
            chosen = {} if step.plan is None else step.plan.choices
            stages = {stage: choice_text(choice).replace("×", "x") for stage, choice in chosen.items()}
            figures = {
                name: getattr(step, name) for name in ("start", "end", "usd_start", "usd_end", "proven")
            }
            rows.append({**figures, **stages})
        return pd.DataFrame(rows)

    def plot(self) -> Figure:
        """Draw the staircase; see `mipplan.plots.draw_frontier`."""
        figure: Figure = drawn("draw_frontier", self)
        return figure

    def _summary(self) -> Summary:
        cost = self.now
        now = self.text_of(self.present) + ("" if cost is None else f": {usd_text(cost)} $/h")
        how = "exact" if self.exact else f"to {self.text_of(self.resolution)}"
        if not self.complete:
            how += ", stopped before the end of the axis"
        return Summary(
            f"Least cost of {self.plan.pipeline.name} along {self.title}: {len(self.steps)} step(s)",
            figures=(
                ("now", now),
                ("breakpoints", f"{how}; {self.solves} plans made"),
                ("note", "; ".join(self.notes) or None),
            ),
            headings=(">from", ">to", ">$/h", "changes"),
            rows=(
                (self.text_of(step.start), self.text_of(step.end), cost_range(step), changed)
                for step, changed in self.changes()
            ),
            count=len(self.steps),
            what="steps",
        )

    def _line(self) -> str:
        costs = [step.usd_start for step in self.steps if step.usd_start is not None]
        ranged = f", {usd_text(min(costs))} to {usd_text(max(costs))} $/h" if costs else ""
        return f" {self.plan.pipeline.name} over {self.over}: {len(self.steps)} steps{ranged}"


def value_text(value: float, unit: str) -> str:
    """Write a value in its unit."""
    if unit == "s":
        # To the microsecond, since steps may be close to each other.
        return f"{1000 * value:.7g} ms" if value < 1.0 else f"{value:.7g} s"
    return {"$/h": f"{value:.6f} $/h", "share": f"{100 * value:.6g} %"}.get(unit, f"× {value:.6g}")


def cost_range(step: FrontierStep) -> str:
    """Write what a step costs, at both ends where that differs; ``≤`` where a cheaper plan is not excluded."""
    if step.usd_start is None or step.usd_end is None:
        return "–"
    same = step.microusd_start == step.microusd_end
    at_most = "" if step.proven else "≤ "
    return f"{at_most}{usd_text(step.usd_start)}" + ("" if same else f"–{usd_text(step.usd_end)}")


def runs_on(plan: Plan) -> str:
    """Write what a plan runs on, by hardware: ``2 × cpu, 1 × a100``."""
    used: dict[str, int] = {}
    for choice in plan.choices.values():
        used[choice.hardware] = used.get(choice.hardware, 0) + choice.replicas
    return ", ".join(f"{count} × {name}" for name, count in used.items())
