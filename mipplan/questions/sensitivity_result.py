"""What the least cost depends on, as data: prices of hardware, speeds of models, measurements of the profiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mipplan.core import MICRODOLLARS_PER_DOLLAR, FieldOf, Printable, Summary, drawn, usd_text
from mipplan.result import Plan

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

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
