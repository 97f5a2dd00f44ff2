"""What watching found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from mipplan.core import Printable, Summary, usd_text
from mipplan.result import Plan

if TYPE_CHECKING:
    import pandas as pd


class MisfitKind(StrEnum):
    """In what a plan no longer fits."""

    ENVELOPE = "envelope"
    """More came within some time than was planned for."""
    PROFILE = "profile"
    """Batches take longer than the table says."""
    OBJECTIVE = "objective"
    """The plan, replayed on what came, misses its objective."""
    PRICE = "price"
    """A new plan for what came is cheaper."""


@dataclass(frozen=True)
class Misfit:
    """One thing in which a plan no longer fits."""

    kind: MisfitKind
    place: str
    """A stage; empty for all of them."""
    text: str
    """What it is, with its figures."""
    ratio: float
    """Found over planned: queries in a window, service times, latency, or dollars."""


@dataclass(frozen=True, eq=False, repr=False)
class Watch(Printable):
    """Whether a plan still fits what runs.

    Attributes
    ----------
    plan : Plan
        What was watched.
    queries : int
        That were seen.
    duration_s : float
        From the first to the last of them.
    misfits : tuple of Misfit
    replan : Plan or None
        A plan for what was seen: its arrivals, and the tables as they are by now; None if none was asked for.
    notes : tuple of str
        What could not be told.
    """

    plan: Plan
    queries: int
    duration_s: float
    misfits: tuple[Misfit, ...]
    replan: Plan | None
    notes: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether nothing speaks against the plan."""
        return not self.misfits

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per misfit: kind, place, text and ratio."""
        import pandas as pd

        return pd.DataFrame(map(vars, self.misfits), columns=list(Misfit.__dataclass_fields__))

    @property
    def offer(self) -> str | None:
        """What a new plan costs beside this one; None if there is none."""
        if self.replan is None:
            return None
        new, old = self.replan.usd_per_hour, self.plan.usd_per_hour
        if new is None or old is None:
            return f"no plan keeps the objective on what was seen: {self.replan.reason or self.replan.status}"
        counts = ", ".join(
            f"{stage} {choice.replicas} × {choice.hardware}, cap {choice.batch}"
            for stage, choice in self.replan.choices.items()
        )
        change = f" ({new / old - 1:+.0%})" if old else ""
        return f"{usd_text(new)} $/h instead of {usd_text(old)} $/h{change}: {counts}"

    def _summary(self) -> Summary:
        seen = f"{self.queries:,} queries in {self.duration_s:.4g} s"
        return Summary(
            f"{self.plan.pipeline.name}: {'fits' if self.fits else 'no longer fits'} {seen}",
            figures=(
                *((str(misfit.kind), misfit.text) for misfit in self.misfits),
                ("re-plan", self.offer),
                *(("note", note) for note in self.notes),
            ),
        )

    def _line(self) -> str:
        return f" of {self.plan.pipeline.name}: {len(self.misfits)} misfits in {self.queries} queries"
