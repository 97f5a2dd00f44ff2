"""`mipplan.plan`: inputs in, the cheapest certified plan out."""

from __future__ import annotations

import time
from collections.abc import Callable

from mipplan.calculus import ArrivalCurve, empirical_envelope
from mipplan.core import (
    UNLIMITED_NS,
    InputError,
    check_all,
    check_budget,
    check_margin,
    check_quantile,
    check_seed,
    check_time_limit,
    is_number,
    seconds_to_ns,
)
from mipplan.options import check_names
from mipplan.pipeline import Pipeline
from mipplan.planner.request import Request
from mipplan.planner.solving import Solving
from mipplan.profiles import Profiles
from mipplan.result import (
    Figures,
    Guarantee,
    Objective,
    Plan,
    PlanStatus,
    Provenance,
    TraceReference,
    relevant_profiles,
    resolve_slo_ns,
)
from mipplan.solvers import AUTO, resolve_solver
from mipplan.trace import Trace
from mipplan_formulations import FORMULATIONS

#: A plan that rests on replays is made by `mipplan.refine`.
_PLANNED_FOR = (Guarantee.TRACE, Guarantee.ENVELOPE)


def plan(
    pipeline: Pipeline,
    profiles: Profiles,
    trace: Trace,
    *,
    slo_s: float | None = None,
    quantile: float = 0.99,
    guarantee: str = "trace",
    formulation: str = AUTO,
    solver: str = AUTO,
    time_limit_s: float | None = 60.0,
    seed: int = 0,
    headroom: float = 1.0,
    margin_s: float = 0.0,
    envelope: ArrivalCurve | None = None,
    budget_usd_per_hour: float | None = None,
    progress: Callable[[str], None] | None = None,
) -> Plan:
    """Find the cheapest configuration whose certified latency quantile keeps the objective.

    Parameters
    ----------
    pipeline : Pipeline
    profiles : Profiles
    trace : Trace
        A sample of the traffic. The plan is certified on this trace: it is in-sample.
    slo_s : float, optional
        Latency objective in seconds; the pipeline's own by default.
    quantile : float
        Of latency over queries that must keep the objective, in (0, 1].
    guarantee : {"trace", "envelope"}
        What traffic the certificate covers: this trace (with the quantile), or every query of any traffic whose
        arrivals stay inside an arrival curve.
    formulation : str
        Key of ``mipplan_formulations.FORMULATIONS``, or ``"auto"``: by the features of each problem that is solved.
    solver : str
        ``"auto"`` or a name from ``mipplan.solvers.available_solvers()``. Without a named formulation, ``"auto"``
        chooses by the features of each problem (`mipplan.solvers.solve_problem`); with one, the first that works.
    time_limit_s : float or None
        Wall-clock limit; what was found by then is returned with its proven lower bound.
    seed : int
        Of the token draws; the certificate holds for that draw.
    headroom : float
        Plan for this multiple of the trace's traffic (at least 1: gaps are divided by it).
    margin_s : float
        Keep back this much of the objective: the certificate must be at most the objective less the margin.
    envelope : ArrivalCurve, optional
        With ``guarantee="envelope"``; by default the concave hull of the trace's own envelope.
    budget_usd_per_hour : float, optional
        The mirror problem: find the least certified latency within this cost. The objective, if any, plays no
        part; the plan's `slo_s` is then the latency it is certified for.
    progress : callable, optional
        Called with one line of text as the work proceeds.

    Returns
    -------
    Plan
        Always; `status` says how much is proven. Infeasible is an answer, with `reason`. Ctrl-C during the search
        stops it as a time limit does.

    Raises
    ------
    InputError
        Listing every bad argument.
    SolverUnavailableError
        If there is no such solver here.

    References
    ----------
    Theorem and relaxation in docs/theory.md; the method in `mipplan.planner.benders`.
    """
    started = time.monotonic()
    by_budget = budget_usd_per_hour is not None
    check_all(
        lambda: check_search(
            formulation=formulation,
            guarantee=guarantee,
            envelope=envelope,
            time_limit_s=time_limit_s,
            headroom=headroom,
            budget_usd_per_hour=budget_usd_per_hour,
        ),
        lambda: check_quantile(quantile),
        lambda: check_seed(seed),
        lambda: None if by_budget else check_margin(margin_s, resolve_slo_ns(pipeline, slo_s)),
        lambda: check_names(pipeline, profiles),
    )
    budget = check_budget(budget_usd_per_hour)
    resolved = resolve_solver(solver)
    solver = AUTO if solver == formulation == AUTO else resolved
    relevant = relevant_profiles(pipeline, profiles)
    slo_ns = UNLIMITED_NS if budget is not None else resolve_slo_ns(pipeline, slo_s)
    scaled = trace if headroom == 1.0 else trace.scale(headroom)
    if Guarantee(guarantee) is Guarantee.ENVELOPE and envelope is None:
        envelope = empirical_envelope(scaled.arrival_ns)
    margin_ns = 0 if budget is not None else seconds_to_ns(margin_s)
    base = Plan(
        pipeline,
        relevant,
        Objective(
            slo_ns,
            quantile,
            seed,
            Guarantee(guarantee),
            float(headroom),
            margin_ns,
            None if envelope is None else envelope.buckets,
            budget,
        ),
        status=PlanStatus.UNKNOWN,
        figures=Figures(lower_bound_microusd_per_hour=0),
        provenance=Provenance(TraceReference.of(trace), formulation, solver, sample=trace),
    )
    report = progress or (lambda _: None)
    report(f"analysing {len(trace):,} queries")
    request = Request(pipeline, relevant, scaled, slo_ns, margin_ns, base.quantile, base.seed, envelope)
    ends_at = started + check_time_limit(time_limit_s)
    solving = Solving(
        base, request, request.instance(), FORMULATIONS.get(formulation), solver, ends_at, report
    )
    return solving.cheapest() if budget is None else solving.fastest(budget)


def check_search(
    *,
    formulation: str,
    guarantee: str,
    envelope: ArrivalCurve | None,
    time_limit_s: float | None,
    headroom: float,
    budget_usd_per_hour: float | None,
) -> None:
    """Refuse what `plan` cannot search by, whatever the pipeline.

    Raises
    ------
    InputError
        Listing every fault.
    """
    check_all(
        lambda: _known_formulation(formulation),
        lambda: _known_guarantee(guarantee),
        lambda: _check_envelope(guarantee, envelope),
        lambda: check_time_limit(time_limit_s),
        lambda: _check_headroom(headroom),
        lambda: check_budget(budget_usd_per_hour),
    )


def _check_envelope(guarantee: str, envelope: ArrivalCurve | None) -> None:
    if envelope is None:
        return
    if guarantee != Guarantee.ENVELOPE:
        raise InputError.one("envelope", 'goes with guarantee="envelope" only')
    if not isinstance(envelope, ArrivalCurve):
        raise InputError.one("envelope", f"expected an ArrivalCurve, found {type(envelope).__name__}")
    if envelope.just_after(0.0) < 1.0:
        message = "its burst is below one query, so no query could ever arrive; give a burst of at least 1"
        raise InputError.one("envelope", message)


def _check_headroom(headroom: float) -> None:
    if not is_number(headroom) or not 1.0 <= headroom <= 1000.0:
        raise InputError.one(
            "headroom", f"expected a multiple of the traffic from 1 to 1000, found {headroom!r}"
        )


def _known_guarantee(name: str) -> Guarantee:
    if name not in _PLANNED_FOR:
        raise InputError.one("guarantee", f"expected one of {', '.join(_PLANNED_FOR)}, found {name!r}")
    return Guarantee(name)


def _known_formulation(name: str) -> None:
    # the optimum of one that is not exact would be no lower bound for the certified plans
    known = [AUTO, *(name for name, formulation in FORMULATIONS.items() if formulation.exact)]
    if name not in known:
        raise InputError.one("formulation", f"expected one of {', '.join(known)}, found {name!r}")
