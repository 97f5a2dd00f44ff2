"""What planning a fleet comes to: a plan per pipeline, what they share, and what would help where not all fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from mipplan.certificate import certified_figures
from mipplan.core import (
    MICRODOLLARS_PER_DOLLAR,
    FieldOf,
    InputError,
    NoPlanError,
    Printable,
    Summary,
    drawn,
    from_front,
    usd_text,
)
from mipplan.fleet.problem import Column, Fleet, FleetMember, FleetSolution
from mipplan.pipeline import choosing
from mipplan.replayer import replay
from mipplan.result import Figures, Plan, PlanStatus, Provenance
from mipplan.tokens import realise
from mipplan.trace import TraceReference

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class FleetStatus(StrEnum):
    """How much is proven about a fleet."""

    OPTIMAL = "optimal"
    """The cheapest set of certified plans within limits and budget; proven."""
    FEASIBLE = "feasible"
    """A set of certified plans within limits and budget, at most `FleetPlan.gap` dearer than the cheapest."""
    INFEASIBLE = "infeasible"
    """Proven: there is no such set; `reason` says why, and `admission` and `relaxation` what would do."""
    UNKNOWN = "unknown"
    """None was found, and that there is none was not proven."""


@dataclass(frozen=True)
class DeviceUse:
    """What a fleet uses of one hardware type."""

    hardware: str
    used: int
    limit: int | None
    microusd_per_hour: int
    """Of all devices used."""
    one_more_microusd_per_hour: int | None
    """What one device more than the limit would save, by the linear relaxation of the problem; 0 where the
    limit does not bind, None without limit or where it is not known."""

    @property
    def binds(self) -> bool:
        """Whether another device of this type would be of use."""
        return bool(self.one_more_microusd_per_hour)


@dataclass(frozen=True)
class FleetEffort:
    """What planning took."""

    method: str
    """``joint`` or ``columns``."""
    rounds: int
    """Of column generation."""
    columns: int
    """Certified plans that were found, of all pipelines together."""
    seconds: float


@dataclass(frozen=True, eq=False, repr=False)
class FleetPlan(Printable):
    """A set of certified plans on shared hardware, or the reason why there is none.

    Attributes
    ----------
    status : FleetStatus
    plans : mapping of str to Plan
        In the order given; empty if there is no set.
    devices : mapping of str to DeviceUse
        Of every hardware type that is used or limited.
    microusd_per_hour, lower_bound_microusd_per_hour : int or None
        None where there is no such figure.
    budget_microusd_per_hour : int or None
    reason : str or None
        Why there is no set, or what kept it from being proven cheapest.
    admission : Admission or None
        Where not all pipelines fit: those to admit; None if no pipeline can be, or time ran out.
    relaxation : SloRelaxation or None
        Where not all pipelines fit: the objectives with which they would.
    effort : FleetEffort
    """

    status: FleetStatus
    plans: Mapping[str, Plan]
    devices: Mapping[str, DeviceUse]
    microusd_per_hour: int | None
    lower_bound_microusd_per_hour: int | None
    budget_microusd_per_hour: int | None
    reason: str | None
    effort: FleetEffort = field(compare=False)
    admission: Admission | None = None
    relaxation: SloRelaxation | None = None

    usd_per_hour = FieldOf[float | None]("microusd_per_hour", MICRODOLLARS_PER_DOLLAR)
    """Cost of all plans, dollars per hour."""
    lower_bound_usd_per_hour = FieldOf[float | None]("lower_bound_microusd_per_hour", MICRODOLLARS_PER_DOLLAR)
    """Proven: no set of certified plans within the limits costs less. None if none exists."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "plans", MappingProxyType(dict(self.plans)))
        object.__setattr__(self, "devices", MappingProxyType(dict(self.devices)))

    @property
    def gap(self) -> float | None:
        """(cost − lower bound) / cost; 0 when optimal."""
        if self.microusd_per_hour is None or self.lower_bound_microusd_per_hour is None:
            return None
        return 1.0 - self.lower_bound_microusd_per_hour / max(self.microusd_per_hour, 1)

    @property
    def binding(self) -> tuple[str, ...]:
        """Hardware types whose limit binds."""
        return tuple(name for name, use in self.devices.items() if use.binds)

    def require(self) -> FleetPlan:
        """Return the fleet itself if it has plans.

        Raises
        ------
        NoPlanError
            With the reason.
        """
        if not self.plans:
            raise NoPlanError(f"{self.status}: {self.reason or 'there is no set of plans'}")
        return self

    def save(self, folder: str | Path) -> list[Path]:
        """Write every pipeline's plan file into a folder, made if need be, as ``NAME.json``.

        Raises
        ------
        InputError
            If the folder cannot be made or written to.
        NoPlanError
            If there are no plans.
        """
        self.require()
        target = Path(folder)
        try:
            target.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError.one(str(folder), f"cannot be made: {error.strerror or error}") from error
        written = {target / f"{name}.json": plan for name, plan in self.plans.items()}
        for path, plan in written.items():
            plan.save(path)
        return list(written)

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per pipeline: status, cost, alone at least, certificate, objective, and accuracy if known."""
        import pandas as pd

        columns = ("usd_per_hour", "lower_bound_usd_per_hour", "certificate_s", "slo_s", "accuracy")
        rows = {
            name: {"status": plan.status.value, **{column: getattr(plan, column) for column in columns}}
            for name, plan in self.plans.items()
        }
        table = pd.DataFrame.from_dict(rows, orient="index", columns=["status", *columns])
        table.index.name = "pipeline"
        return table.rename(columns={"lower_bound_usd_per_hour": "alone_usd_per_hour"})

    def plot(self, title: str = "fleet") -> Figure:
        """Draw devices used beside their limits, and the cost of the dearest pipelines by hardware.

        Returns
        -------
        matplotlib.figure.Figure
        """
        report = from_front("fleet_report", "mipplan.reporting")(title, 1.0, 0, self, [])
        figure: Figure = drawn("draw_fleet", report)
        return figure

    def _summary(self) -> Summary:
        fleet = f"Fleet of {len(self.plans):,} pipelines" if self.plans else "Fleet"
        cost, gap = self.usd_per_hour, self.gap
        proof = ", proven cheapest" if self.status is FleetStatus.OPTIMAL else ""
        proof = f", gap {gap:.3%}" if gap else proof
        dearest = sorted(self.plans.items(), key=lambda item: -(item[1].microusd_per_hour or 0))[:4]
        admission, relaxation = "", ""
        if self.admission is not None:
            admission = f"weight {self.admission.weight:g} of {self.admission.total_weight:g}"
        if self.relaxation is not None:
            relaxation = f"every objective to {self.relaxation.factor:.4g} times what it is"
        return Summary(
            f"{fleet}: {self.status}",
            figures=(
                ("cost", None if cost is None else f"{usd_text(cost)} $/h{proof}"),
                (
                    "dearest",
                    ", ".join(f"{name} {usd_text(plan.usd_per_hour, 2)} $/h" for name, plan in dearest),
                ),
                ("reason", self.reason),
                ("admit", admission),
                ("or relax", relaxation),
            ),
            headings=("hardware", ">used", ">limit", ">$/h", ">one more saves"),
            rows=(
                (
                    name,
                    f"{use.used:,}",
                    "" if use.limit is None else f"{use.limit:,}",
                    usd_text(use.microusd_per_hour / MICRODOLLARS_PER_DOLLAR),
                    f"{usd_text((use.one_more_microusd_per_hour or 0) / MICRODOLLARS_PER_DOLLAR)} $/h"
                    if use.binds
                    else "",
                )
                for name, use in self.devices.items()
            ),
            count=len(self.devices),
            what="hardware types",
        )

    def _line(self) -> str:
        cost = "" if self.usd_per_hour is None else f", {usd_text(self.usd_per_hour)} $/h"
        return f": {len(self.plans)} pipelines, {self.status}{cost}, {len(self.devices)} hardware types"


@dataclass(frozen=True)
class Admission:
    """Pipelines to admit where not all fit: some of the greatest weight that fits, as cheaply as these can be.

    Attributes
    ----------
    fleet : FleetPlan
        Of the pipelines admitted.
    left_out : tuple of str
    weight, total_weight : float
        Of the pipelines admitted, and of all.
    weight_bound : float
        Proven: no set of more weight fits.
    """

    fleet: FleetPlan
    left_out: tuple[str, ...]
    weight: float
    total_weight: float
    weight_bound: float


@dataclass(frozen=True)
class SloRelaxation:
    """Latency objectives with which all pipelines fit."""

    factor: float
    """Every pipeline's objective is multiplied by this."""
    too_small: float
    """Proven: multiplied by this, they do not fit (or only this was not decided)."""
    proven: bool
    """Whether that is proven."""
    fleet: FleetPlan
    """With the relaxed objectives."""


def make_fleet_plan(
    fleet: Fleet,
    solution: FleetSolution,
    alone: Sequence[int],
    effort: FleetEffort,
    solver: str,
    reason: str | None,
) -> FleetPlan:
    """Make the plans of a fleet, certify each of them anew, and add up what they use.

    `alone` is what each pipeline costs at least by itself, empty if unknown; `reason` is why there are no plans.
    """
    chosen = solution.chosen
    plans: dict[str, Plan] = {}
    used = np.zeros(len(fleet.hardware), dtype=np.int64)
    if chosen is not None:
        for index, (member, column) in enumerate(zip(fleet.members, chosen.columns, strict=True)):
            if column is None:
                raise AssertionError("every pipeline of a fleet that fits has a plan")
            provenance = Provenance(TraceReference.of(member.trace), effort.method, solver)
            least = alone[index] if alone else 0
            plans[member.name] = _plan(fleet, member, column, provenance, least)
            used += np.array(column.devices)
    saved = {} if chosen is None else solution.saved
    devices = {
        name: DeviceUse(name, amount, fleet.limits.get(name), amount * price, saved.get(name))
        for name, amount, price in zip(fleet.hardware, used.tolist(), fleet.prices.tolist(), strict=True)
        if amount or name in fleet.limits
    }
    cost = None if chosen is None else int(used @ fleet.prices)
    bound = None if solution.infeasible else solution.lower_bound
    if solution.infeasible:
        status = FleetStatus.INFEASIBLE
    elif cost is None:
        status = FleetStatus.UNKNOWN
    elif bound is not None and bound >= cost:
        status = FleetStatus.OPTIMAL
    else:
        status = FleetStatus.FEASIBLE
        reason = "the gap asked for was reached, or the search stopped, before this was proven the cheapest"
    return FleetPlan(status, plans, devices, cost, bound, fleet.budget, reason, effort)


def _plan(fleet: Fleet, member: FleetMember, column: Column, provenance: Provenance, alone: int) -> Plan:
    """Make a pipeline's plan, with figures that are computed from the whole trace."""
    choices = dict(zip(member.pipeline.stages, column.choices, strict=True))
    # The tokens are those that the chosen variants make.
    runs = {stage: choice.variant for stage, choice in choices.items() if choice.variant is not None}
    pipeline = choosing(member.pipeline, runs)
    plan = replace(
        replace(member, pipeline=pipeline).asked(fleet.profiles, fleet.quantile, fleet.seed),
        choices=choices,
        status=PlanStatus.FEASIBLE,
        figures=Figures(lower_bound_microusd_per_hour=alone),
        provenance=provenance,
        reason="chosen for a fleet: what is cheapest for all its pipelines together",
    )
    if member.is_timed:
        kept_ns = replay(plan, member.trace).objective_ns(plan.objective)
        plan = replace(plan, figures=replace(plan.figures, certificate_ns=kept_ns))
    else:
        plan = replace(plan, figures=certified_figures(plan, realise(pipeline, member.trace, fleet.seed)))
    if plan.certificate_ns is None or plan.certificate_ns > member.slo_ns:
        raise AssertionError(f"{member.name}: a plan that was certified is not")
    if plan.microusd_per_hour == alone:
        return replace(plan, status=PlanStatus.OPTIMAL, reason=None)
    return plan
