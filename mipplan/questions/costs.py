"""What frontiers and sensitivities are, as data: the least cost along an axis, and what it depends on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mipplan.core import MICRODOLLARS_PER_DOLLAR, FieldOf, Printable, Summary, counted, drawn, usd_text
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
            f"Least cost of {self.plan.pipeline.name} along {self.title}: {counted(len(self.steps), 'step')}",
            figures=(
                ("now", now),
                ("breakpoints", f"{how}; {counted(self.solves, 'plan')} made"),
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


#: A model is tried up to this many percent faster, in whole percents.
MOST_FASTER = 90


@dataclass(frozen=True)
class HardwareSensitivity:
    """What the price of a hardware type decides."""

    name: str
    usd_per_hour: float
    devices: int
    """So many of them the plan uses."""
    chosen_below_usd: float | None
    """Below this price the cheapest plan uses more of them; None if not down to a tenth of
    its price."""
    kept_up_to_usd: float | None
    """Up to this price it uses as many; None if so up to four times the price, or if it uses none."""

    @property
    def cheaper_by(self) -> float | None:
        """By what share it must become cheaper for more of them to be chosen."""
        return None if self.chosen_below_usd is None else 1.0 - self.chosen_below_usd / self.usd_per_hour


@dataclass(frozen=True)
class ModelSensitivity:
    """What the speed of a model decides."""

    model: str
    stages: tuple[str, ...]
    """That run it, or may run it as one of their variants."""
    faster_by: float | None
    """By what share its batches must take less time, everywhere, for a plan to be cheaper, in whole percents; None if
    even 90 % less saves nothing."""
    microusd_per_hour: int | None
    """What the cheapest plan then costs."""

    usd_per_hour = FieldOf[float | None]("microusd_per_hour", MICRODOLLARS_PER_DOLLAR)
    """The same in $/h."""


@dataclass(frozen=True)
class MeasurementSensitivity:
    """What one measurement of the profiles decides: the change of the least cost where it is off."""

    model: str
    hardware: str
    batch: int
    latency_ms: float
    microusd_slower: int | None
    """If the batch takes longer by the share asked about; None if there is then no plan."""
    microusd_faster: int
    """If it takes less, by that share."""

    usd_slower = FieldOf[float | None]("microusd_slower", MICRODOLLARS_PER_DOLLAR)
    """`microusd_slower` in $/h."""
    usd_faster = FieldOf[float]("microusd_faster", MICRODOLLARS_PER_DOLLAR)
    """`microusd_faster` in $/h."""

    @property
    def weight(self) -> float:
        """The larger of both changes, $/h; infinite if there is no plan any more."""
        return float("inf") if self.usd_slower is None else max(abs(self.usd_slower), abs(self.usd_faster))


@dataclass(frozen=True, eq=False, repr=False)
class Sensitivity(Printable):
    """What the least cost depends on.

    Attributes
    ----------
    plan : Plan
        The cheapest one as things are.
    share : float
        By which measurements are varied.
    hardware : tuple of HardwareSensitivity
    models : tuple of ModelSensitivity
    measurements : tuple of MeasurementSensitivity
        What matters most first; those that change nothing are left out.
    measured : int
        Measurements that were looked at.
    solves : int
        Plans made.
    complete : bool
        False if time was up, or Ctrl-C came, before all was looked at.
    """

    plan: Plan
    share: float
    hardware: tuple[HardwareSensitivity, ...]
    models: tuple[ModelSensitivity, ...]
    measurements: tuple[MeasurementSensitivity, ...]
    measured: int
    solves: int
    complete: bool

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per measurement that matters: what it is, and the change of cost where it is off."""
        import pandas as pd

        names = ("model", "hardware", "batch", "latency_ms", "usd_slower", "usd_faster")
        return pd.DataFrame(
            [{name: getattr(one, name) for name in names} for one in self.measurements], columns=list(names)
        )

    def plot(self) -> Figure:
        """Draw what matters as bars; see `mipplan.plots.draw_sensitivity`."""
        figure: Figure = drawn("draw_sensitivity", self)
        return figure

    def _summary(self) -> Summary:
        cheaper = [one for one in self.hardware if one.cheaper_by is not None]
        nearest = min(cheaper, key=lambda one: one.cheaper_by or 0.0, default=None)
        faster = [one for one in self.models if one.faster_by is not None]
        model = min(faster, key=lambda one: one.faster_by or 0.0, default=None)
        done = "" if self.complete else ", stopped before all was looked at"
        return Summary(
            f"What the cost of {self.plan.pipeline.name} depends on: {usd_text(self.plan.usd_per_hour)} $/h",
            figures=(
                ("price", None if nearest is None else hardware_text(nearest)),
                ("model", None if model is None else model_text(model, self.plan)),
                ("measurements", f"{self._measured_text()}{done}"),
            ),
            headings=("measurement", ">ms", ">slower", ">faster"),
            rows=(measurement_row(one) for one in self.measurements),
            count=len(self.measurements),
            what="measurements",
        )

    def _measured_text(self) -> str:
        return f"{self.found_text} change the cost if they are off by {100 * self.share:g} %"

    @property
    def found_text(self) -> str:
        """How many measurements matter: of all, or of those that there was time for."""
        count = len(self.measurements)
        return f"{count} of {self.measured}" if self.complete else f"so far {count} of the {self.measured}"

    def _line(self) -> str:
        return f" {self.plan.pipeline.name}: {len(self.measurements)} of {self.measured} measurements matter"


def hardware_text(one: HardwareSensitivity) -> str:
    """Say what a price decides."""
    more = "more of it" if one.devices else "it"
    parts = []
    if one.chosen_below_usd is not None and one.cheaper_by is not None:
        share = f"{100 * one.cheaper_by:.1f} % cheaper"
        parts.append(f"{more} would be chosen below {usd_text(one.chosen_below_usd)} $/h ({share})")
    if one.kept_up_to_usd is not None:
        parts.append(f"as many are kept up to {usd_text(one.kept_up_to_usd)} $/h")
    said = "; ".join(parts) or "from a tenth to four times of that nothing would change"
    return f"{one.name} at {usd_text(one.usd_per_hour)} $/h: {said}"


def model_text(one: ModelSensitivity, plan: Plan) -> str:
    """Say what the speed of a model decides."""
    if one.faster_by is None or one.usd_per_hour is None or plan.usd_per_hour is None:
        return f"{one.model}: even {MOST_FASTER} % faster it would save nothing"
    saved = plan.usd_per_hour - one.usd_per_hour
    return f"{one.model}: {100 * one.faster_by:g} % faster it would save {usd_text(saved)} $/h"


def measurement_row(one: MeasurementSensitivity) -> tuple[str, str, str, str]:
    """Write a measurement, its latency, and what the cost changes by if it is off."""
    slower = "no plan" if one.usd_slower is None else usd_text(one.usd_slower, sign=True)
    what = f"{one.model} on {one.hardware}, batch {one.batch}"
    return what, f"{one.latency_ms:.4g}", slower, usd_text(one.usd_faster, sign=True)
