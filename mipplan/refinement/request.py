"""`mipplan.refine`: a plan in, the cheapest plan that replays within the objective out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from mipplan.core import (
    Deadline,
    Fault,
    Faults,
    InputError,
    SearchLimits,
    check_kinds,
    check_margin,
    check_quantile,
    check_seed,
    check_time_limit,
    from_front,
)
from mipplan.options import check_names
from mipplan.pipeline import Discipline, Dispatch, alike, are_timed
from mipplan.refinement.refining import Refining
from mipplan.refinement.samples import pivot_first
from mipplan.replayer import resolve_engine
from mipplan.result import (
    Figures,
    Guarantee,
    Objective,
    Plan,
    PlanStatus,
    Provenance,
    check_laws,
    resolve_slo_ns,
)
from mipplan.tokens import find_samples
from mipplan.trace import Trace


def refine(
    plan: Plan,
    trace: Trace | Sequence[Trace],
    *,
    slo_s: float | None = None,
    quantile: float | None = None,
    dispatch: Dispatch = None,
    discipline: str | None = None,
    time_limit_s: float | None = 60.0,
    margin_s: float = 0.0,
    seed: int | None = None,
    seeds: int | None = None,
    engine: str = "auto",
    progress: Callable[[str], None] | None = None,
) -> Plan:
    """Find the cheapest plan whose *replayed* latency quantile keeps the objective on a trace, or on each of several.

    A certified plan holds for every run of the trace that the theorem covers, a refined one for one run: that of the
    serving model, to the nanosecond. So it is cheaper, and more fragile; its record says how fragile.

    Parameters
    ----------
    plan : Plan
        Whose pipeline and profiles to plan with. Its choices, if any, are a first plan if they keep the objective. Its
        headroom and margin were its certificate's, and are not taken over: scale the trace, give `margin_s`.
    trace : Trace, or sequence of Trace
    slo_s, quantile : float, optional
        The plan's by default.
    dispatch : str or mapping of str to str, optional
        Law of all stages, or of those named; others as the plan says. Where all are timed the plan is a certified one:
        stable, and every run of it is the replay. So a trace that spans no time is refused then.
    discipline : {"oldest_first", "fifo"}, optional
        Of all replays; as the plan says by default. Nothing of what is proven rests on it. The plan keeps its own, and
        the certificate with it, unless all stages are timed: then its replay is the certificate, under this one.
    time_limit_s : float or None
        Wall-clock limit; the best plan by then is returned with a proven lower bound. Of the replays that say how
        fragile it is, as many are made as there is time for.
    margin_s : float
        Keep back this much of the objective: the replayed quantile must be at most the objective less the margin.
    seed : int, optional
        Of the token draws; the plan's by default.
    seeds : int, optional
        Draws of every trace, from `seed` on, each of which must keep the objective; the plan's by default, else 1.
    engine : str
        ``"auto"`` or a key of `mipplan.replayer.ENGINES`.
    progress : callable, optional
        Called with one line of text as the work proceeds.

    Returns
    -------
    Plan
        Always, with `refinement` set. `status` is ``optimal`` if every cheaper plan of the option set was refuted;
        ``feasible`` if some were left, then compare cost and lower bound; ``infeasible`` if all were refuted;
        ``unknown`` if no plan was found. Its certificate is that of the theorem, and may be above the objective; where
        all stages are timed it is the replay. A plan that is ``fifo`` itself, and not timed, has none.
        Ctrl-C stops the search as the time limit does; `limit` says which of them did.

    Raises
    ------
    InputError
        Listing every bad argument.

    Notes
    -----
    The option set: all variants, hardware and measured batch sizes that the pipeline admits, with any number of
    replicas within its limits. What is refuted without a replay is refuted by
    [necessary conditions][9-refinement-which-conditions-are-necessary].
    """
    started = time.monotonic()
    how = slo_s, quantile, dispatch, discipline, time_limit_s, margin_s, seed, seeds, engine
    base, kept = _stated(plan, trace, *how)
    limits = SearchLimits(Deadline.after(time_limit_s, started), progress or (lambda _: None))

    def refining(asked: Plan, limits: SearchLimits) -> Callable[[], Plan]:
        return Refining(asked, pivot_first(plan, asked, trace), kept, engine, limits).run

    return over_variants(base, refining, limits)


def over_variants(
    base: Plan, find: Callable[[Plan, SearchLimits], Callable[[], Plan]], limits: SearchLimits
) -> Plan:
    """Return the best of what is found for each combination of variants that make different tokens."""
    if not any(stage.variants for stage in base.pipeline.stages.values()):
        return find(base, limits)()

    def answering(asked: Plan, limits: SearchLimits) -> Callable[[], Plan]:
        """Return what finds a plan with the tokens of other variants, for which the given choices may be none."""
        fit = all(c.variant in (None, *alike(asked.pipeline, name)) for name, c in base.choices.items())
        return find(replace(asked, choices=base.choices, figures=base.figures) if fit else asked, limits)

    question = replace(base, choices={}, figures=Figures())
    made: Plan = from_front("best_combination", "mipplan.variants")(question, answering, limits)
    return made


def refine_alike(
    plan: Plan,
    trace: Trace | Sequence[Trace],
    *,
    margin_s: float,
    time_limit_s: float | None,
    progress: Callable[[str], None] | None,
) -> Plan:
    """Refine among the variants that make the tokens which those make that the pipeline runs; see `refine`."""
    started = time.monotonic()
    base, kept = _stated(plan, trace, None, None, None, None, time_limit_s, margin_s, None, None, "auto")
    limits = SearchLimits(Deadline.after(time_limit_s, started), progress or (lambda _: None))
    return Refining(base, pivot_first(plan, base, trace), kept, "auto", limits).run()


def _stated(
    plan: Plan,
    trace: Trace | Sequence[Trace],
    slo_s: float | None,
    quantile: float | None,
    dispatch: Dispatch,
    discipline: str | None,
    time_limit_s: float | None,
    margin_s: float,
    seed: int | None,
    seeds: int | None,
    engine: str,
) -> tuple[Plan, str]:
    """The question as a plan with the given choices, and the discipline; raises `InputError` with every fault."""
    check_kinds(plan=(plan, Plan))
    faults = Faults()
    slo_ns = plan.slo_ns
    if slo_s is not None:
        slo_ns = faults.take(lambda: resolve_slo_ns(plan.pipeline, slo_s)).or_else(plan.slo_ns)
    margin_ns = faults.take(lambda: check_margin(margin_s, slo_ns))
    wanted = faults.take(lambda: plan.quantile if quantile is None else check_quantile(quantile))
    others = plan.objective.others if slo_s is None and quantile is None else ()
    drawn = faults.take(lambda: plan.seed if seed is None else check_seed(seed))
    draws = (plan.seeds if seed is None else 1) if seeds is None else seeds
    faults.take(lambda: find_samples(plan.pipeline, trace, drawn.or_else(0), draws))
    kept = plan.discipline if discipline is None else discipline
    laws = faults.take(lambda: check_laws(plan.pipeline, dispatch, kept, plan.laws))
    faults.take(lambda: resolve_engine(engine, frozenset()))
    faults.take(lambda: check_time_limit(time_limit_s))
    faults.take(lambda: check_names(plan.pipeline, plan.profiles))
    if plan.energy is not None and plan.energy.binds:
        faults.add(Fault("plan", "has a cap on power or a price of energy, which refining does not keep"))
    faults.check()
    base = replace(
        plan,
        objective=Objective(
            slo_ns,
            wanted.value,
            drawn.value,
            Guarantee.REPLAY,
            margin_ns=margin_ns.value,
            per_ns=plan.objective.per_ns,
            share=plan.objective.share,
            others=others,
            seeds=draws,
            min_accuracy=plan.min_accuracy,
            energy=plan.energy,
        ).under(laws.value, kept if are_timed(laws.value) else plan.discipline),
        status=PlanStatus.UNKNOWN,
        figures=Figures(plan.microusd_per_hour, 0),
        provenance=Provenance.on(trace),
        reason=None,
        limit=None,
    )
    return base, kept


def check_sharpening(plan: Plan) -> None:
    """Check that a plan is one of which there are sharp certificates; raises `InputError` if not."""
    if plan.guarantee is Guarantee.ENVELOPE:
        raise InputError.one(
            "plan", "is for an envelope, which has no sharp certificate: that counts one trace's arrivals"
        )
    # A timed stage beside one that is not is an eager one to the theorem.
    if are_timed(plan.laws):
        raise InputError.one("plan", "is for timed dispatch, where the replay is the certificate")
    if plan.discipline is not Discipline.OLDEST_FIRST:
        raise InputError.one(
            "plan", "is for fifo queues, and the sharp certificate is about the oldest first"
        )
    if plan.collects:
        message = "collects batches before they begin (window); the sharp certificate is about such as begin at once"
        raise InputError.one("plan", message)
    if plan.energy is not None and plan.energy.binds:
        raise InputError.one(
            "plan", "has a cap on power or a price of energy, which sharpening does not keep"
        )
    if plan.budget_microusd_per_hour is not None:
        raise InputError.one(
            "plan", "is the fastest within a budget, which goes with the classic certificate only"
        )
