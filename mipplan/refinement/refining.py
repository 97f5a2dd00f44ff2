"""`mipplan.refine`: a plan in, the cheapest plan that replays within the objective out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from mipplan.core import Fault, InputError, check_margin, check_quantile, check_seed, check_time_limit
from mipplan.options import check_names
from mipplan.refinement.domains import state_problem
from mipplan.refinement.outcome import Outcome, finished_plan
from mipplan.refinement.phases import Refining
from mipplan.replayer import Discipline, resolve_engine
from mipplan.result import (
    Figures,
    Guarantee,
    Objective,
    Plan,
    PlanStatus,
    Provenance,
    TraceReference,
    resolve_slo_ns,
)
from mipplan.tokens import realise
from mipplan.trace import Trace

Value = TypeVar("Value")


def refine(
    plan: Plan,
    trace: Trace,
    *,
    slo_s: float | None = None,
    quantile: float | None = None,
    discipline: str = "oldest_first",
    time_limit_s: float | None = 60.0,
    margin_s: float = 0.0,
    seed: int | None = None,
    engine: str = "auto",
    progress: Callable[[str], None] | None = None,
) -> Plan:
    """Find the cheapest plan whose *replayed* latency quantile keeps the objective on a trace.

    A certified plan holds for every run of the trace that the theorem covers, a refined one for one run: that of the
    serving model, to the nanosecond. So it is cheaper, and more fragile; its record says how fragile.

    Parameters
    ----------
    plan : Plan
        Whose pipeline and profiles to plan with. Its choices, if any, are a first plan if they keep the objective.
    trace : Trace
    slo_s, quantile : float, optional
        The plan's by default.
    discipline : {"oldest_first", "fifo"}
        Of all replays. Nothing of what is proven rests on it.
    time_limit_s : float or None
        Wall-clock limit; the best plan by then is returned with a proven lower bound. The few replays that say how
        fragile it is come on top.
    margin_s : float
        Keep back this much of the objective: the replayed quantile must be at most the objective less the margin.
    seed : int, optional
        Of the token draws; the plan's by default.
    engine : str
        ``"auto"`` or a key of `mipplan.replayer.ENGINES`.
    progress : callable, optional
        Called with one line of text as the work proceeds.

    Returns
    -------
    Plan
        Always, with `refinement` set. `status` is ``optimal`` if every cheaper plan of the option set was refuted;
        ``feasible`` if some were left, then compare cost and lower bound; ``infeasible`` if all were refuted;
        ``unknown`` if no plan was found. Its certificate is that of the theorem, and may be above the objective.
        Ctrl-C stops the search as the time limit does.

    Raises
    ------
    InputError
        Listing every bad argument.

    Notes
    -----
    The option set: all hardware and measured batch sizes that the pipeline admits, with any number of replicas
    within its limits. What is refuted without a replay is refuted by the conditions of docs/theory.md.
    """
    started = time.monotonic()
    base, deadline_ns = _base(plan, trace, slo_s, quantile, margin_s, seed, discipline, engine, time_limit_s)
    ends_at = float("inf") if time_limit_s is None else started + time_limit_s
    report = progress or (lambda _: None)
    report(f"refining on {len(trace):,} queries")
    workload = realise(base.pipeline, trace, base.seed)
    problem = state_problem(base.pipeline, base.profiles, workload, deadline_ns, base.quantile)
    refining = Refining(base, trace, problem, Discipline(discipline), engine, ends_at, report)
    outcome: Outcome = refining.run()
    return finished_plan(base, trace, workload, outcome, discipline, engine)


def _base(
    plan: Plan,
    trace: Trace,
    slo_s: float | None,
    quantile: float | None,
    margin_s: float,
    seed: int | None,
    discipline: str,
    engine: str,
    time_limit_s: float | None,
) -> tuple[Plan, int]:
    """Check the arguments; the plan with them in place, and the deadline."""
    faults: list[Fault] = []

    def checked(check: Callable[[], Value], otherwise: Value) -> Value:
        try:
            return check()
        except InputError as error:
            faults.extend(error.faults)
            return otherwise

    slo_ns = plan.slo_ns
    if slo_s is not None:
        slo_ns = checked(lambda: resolve_slo_ns(plan.pipeline, slo_s), plan.slo_ns)
    margin_ns = checked(lambda: check_margin(margin_s, slo_ns), 0)
    wanted = plan.quantile if quantile is None else checked(lambda: check_quantile(quantile), plan.quantile)
    drawn = plan.seed if seed is None else checked(lambda: check_seed(seed), plan.seed)
    checked(lambda: _check_discipline(discipline), None)
    checked(lambda: _check_engine(engine), None)
    checked(lambda: check_time_limit(time_limit_s), None)
    checked(lambda: check_names(plan.pipeline, plan.profiles), None)
    if faults:
        raise InputError(faults)
    base = replace(
        plan,
        objective=Objective(slo_ns, wanted, drawn, Guarantee.REPLAY, margin_ns=margin_ns),
        status=PlanStatus.UNKNOWN,
        figures=Figures(plan.microusd_per_hour, 0),
        provenance=Provenance(TraceReference.of(trace)),
        reason=None,
        limit=None,
    )
    return base, slo_ns - margin_ns


def _check_discipline(discipline: str) -> None:
    names = [known.value for known in Discipline]
    if discipline not in names:
        raise InputError.one("discipline", f"expected one of {', '.join(names)}, found {discipline!r}")


def _check_engine(engine: str) -> None:
    resolve_engine(engine, frozenset())
