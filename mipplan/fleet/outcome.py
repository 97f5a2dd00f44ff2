"""From plans chosen to a result that people and programs can read."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mipplan.calculus import analyse_paths
from mipplan.certificate import certify_services, plan_services
from mipplan.core import MICRODOLLARS_PER_DOLLAR
from mipplan.fleet.columns import Column
from mipplan.fleet.generation import Pool
from mipplan.fleet.request import Fleet, Realisation
from mipplan.fleet.result import DeviceUse, FleetEffort, FleetPlan, FleetStatus
from mipplan.fleet.solving import Settled
from mipplan.result import Figures, Plan, PlanStatus
from mipplan.tokens import realise

#: So many names are listed in a sentence.
_MOST_NAMED = 5


def made_fleet(
    fleet: Fleet,
    settled: Settled,
    alone: Sequence[int],
    effort: FleetEffort,
    solver: str,
    reason: str | None,
) -> FleetPlan:
    """Make the plans of a fleet, certify each of them anew, and add up what they use.

    Parameters
    ----------
    fleet : Fleet
    settled : Settled
    alone : sequence of int
        What each pipeline costs at least by itself; empty if that is not known.
    effort : FleetEffort
    solver : str
    reason : str or None
        Why there is no set of plans.
    """
    chosen = settled.chosen
    plans: dict[str, Plan] = {}
    used = np.zeros(len(fleet.hardware), dtype=np.int64)
    if chosen is not None:
        for index, (made, column) in enumerate(zip(fleet.realisations, chosen.columns, strict=True)):
            if column is None:
                raise AssertionError("every pipeline of a fleet that fits has a plan")
            least = alone[index] if alone else 0
            plans[made.member.name] = _plan(made, column, solver, effort.method, least)
            used += np.array(column.devices)
    cost = None if chosen is None else int(used @ fleet.prices)
    bound = None if settled.infeasible else settled.lower_bound
    closed = cost is not None and bound is not None and bound >= cost
    if cost is not None and not closed:
        reason = "the gap asked for was reached, or the search stopped, before this was proven the cheapest"
    return FleetPlan(
        status=_status(settled, closed=closed),
        plans=plans,
        devices=_devices(fleet, used, settled),
        microusd_per_hour=cost,
        lower_bound_microusd_per_hour=bound,
        budget_microusd_per_hour=fleet.budget,
        reason=reason,
        effort=effort,
    )


def effort_of(method: str, settled: Settled, pool: Pool, started: float) -> FleetEffort:
    """Return what planning took, since a ``time.monotonic()`` value."""
    seconds = round(time.monotonic() - started, 3)
    return FleetEffort(method, settled.rounds, sum(map(len, pool.columns)), seconds)


def costs_alone(fleet: Fleet, pool: Pool) -> list[int]:
    """What each pipeline costs by itself: its first known plan was found at the hardware's own prices."""
    return [int(fleet.prices @ np.array(known[0].devices)) if known else 0 for known in pool.columns]


def infeasible_reason(fleet: Fleet, settled: Settled, pool: Pool) -> str:
    """Say why there is no set of plans."""
    if pool.hopeless:
        names = [fleet.members[index].name for index in sorted(pool.hopeless)]
        listed = ", ".join(names[:_MOST_NAMED]) + (", …" if len(names) > _MOST_NAMED else "")
        verb = "has" if len(names) == 1 else "have"
        return (
            f"{len(names)} of {len(fleet.members)} pipelines {verb} no certified plan even alone on this hardware: "
            f"{listed} (mipplan plan says why)"
        )
    budget = fleet.budget
    if budget is not None and settled.lower_bound is not None and settled.lower_bound > budget:
        return (
            f"all pipelines together cost at least {settled.lower_bound / MICRODOLLARS_PER_DOLLAR:,.4f} $/h, "
            f"more than the budget of {budget / MICRODOLLARS_PER_DOLLAR:,.10g} $/h"
        )
    if settled.infeasible:
        return f"no set of certified plans for all {len(fleet.members)} pipelines fits within {shared_text(fleet)}"
    return "the search stopped before a set of plans was found that fits; allow more time"


def shared_text(fleet: Fleet) -> str:
    """What a fleet's pipelines share, in words."""
    parts = [f"{limit} {name}" for name, limit in fleet.limits.items()]
    if fleet.budget is not None:
        parts.append(f"{fleet.budget / MICRODOLLARS_PER_DOLLAR:g} $/h")
    return ", ".join(parts)


def _status(settled: Settled, *, closed: bool) -> FleetStatus:
    if settled.infeasible:
        return FleetStatus.INFEASIBLE
    if settled.chosen is None:
        return FleetStatus.UNKNOWN
    return FleetStatus.OPTIMAL if closed else FleetStatus.FEASIBLE


def _plan(made: Realisation, column: Column, solver: str, method: str, alone: int) -> Plan:
    """Make a pipeline's plan, with figures that are computed from the whole trace."""
    choices = dict(zip(made.member.pipeline.stages, column.choices, strict=True))
    plan = replace(
        made.base_plan(solver, method),
        status=PlanStatus.FEASIBLE,
        choices=choices,
        figures=Figures(lower_bound_microusd_per_hour=alone),
        reason="chosen for a fleet: what is cheapest for all its pipelines together",
    )
    workload = realise(made.member.pipeline, made.member.trace, made.seed)
    services = plan_services(plan)
    certificate = certify_services(workload, services, made.quantile)
    if certificate.bound_ns > made.member.slo_ns:
        raise AssertionError(f"{made.member.name}: a plan that was certified is not")
    optimal = plan.microusd_per_hour == alone
    return replace(
        plan,
        status=PlanStatus.OPTIMAL if optimal else PlanStatus.FEASIBLE,
        reason=None if optimal else plan.reason,
        figures=replace(
            plan.figures,
            bound_ns=analyse_paths(workload, made.quantile).bound_ns(services),
            certificate_ns=certificate.bound_ns,
        ),
    )


def _devices(fleet: Fleet, used: NDArray[np.int64], settled: Settled) -> dict[str, DeviceUse]:
    """What is used of every hardware type, and what one more would save."""
    return {
        name: DeviceUse(
            name,
            int(amount),
            fleet.limits.get(name),
            int(amount) * int(price),
            settled.saved.get(name) if settled.chosen is not None else None,
        )
        for name, amount, price in zip(fleet.hardware, used, fleet.prices, strict=True)
        if amount or name in fleet.limits
    }
