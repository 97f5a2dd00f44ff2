"""What a refinement came to, and the plan that says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mipplan.calculus import analyse_paths
from mipplan.certificate import certify_services, plan_services
from mipplan.refinement.fragility import noisy_quantiles_ns, other_seeds_quantiles_ns
from mipplan.refinement.meter import Tally
from mipplan.replayer import replay
from mipplan.result import Choice, Figures, Plan, PlanStatus, Refinement
from mipplan.tokens import Workload
from mipplan.trace import Trace

OPTIMAL = "optimal"
ASSUMING = (
    "optimal assuming that neither fewer replicas nor later arrivals ever make a stage serve more "
    "queries in time"
)


@dataclass(frozen=True)
class Outcome:
    """What a search came to.

    Attributes
    ----------
    status : PlanStatus
    choices : mapping of str to Choice
        Empty without a plan.
    lower_bound : int or None
        Micro-dollars per hour.
    proof, reason : str or None
    tally : Tally
    """

    status: PlanStatus
    choices: Mapping[str, Choice]
    lower_bound: int | None
    proof: str | None
    reason: str | None
    tally: Tally


def finished_plan(
    base: Plan, trace: Trace, workload: Workload, outcome: Outcome, discipline: str, engine: str
) -> Plan:
    """Put together the plan with its figures and its record."""
    record = Refinement(
        discipline,
        outcome.proof,
        replays=outcome.tally.replays,
        stage_replays=outcome.tally.stage_replays,
        refuted=outcome.tally.refuted,
    )
    made = replace(
        base,
        status=outcome.status,
        choices=dict(outcome.choices),
        figures=Figures(lower_bound_microusd_per_hour=outcome.lower_bound),
        reason=outcome.reason,
        provenance=replace(base.provenance, refinement=record),
    )
    if not made.choices:
        return made
    services = plan_services(made)
    replayed = replay(made, trace, discipline=discipline, engine=engine)
    record = replace(
        record,
        quantile_ns=replayed.quantile_ns(made.quantile),
        noisy_ns=noisy_quantiles_ns(made, trace, discipline, engine),
        other_seeds_ns=other_seeds_quantiles_ns(made, trace, discipline, engine),
    )
    return replace(
        made,
        figures=replace(
            made.figures,
            bound_ns=analyse_paths(workload, made.quantile).bound_ns(services),
            certificate_ns=certify_services(workload, services, made.quantile).bound_ns,
        ),
        provenance=replace(made.provenance, refinement=record),
    )
