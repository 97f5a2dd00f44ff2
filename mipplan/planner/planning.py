"""`mipplan.plan`: inputs in, the cheapest certified plan out."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from mipplan.calculus import ArrivalCurve, empirical_envelope, given_up_at, least_above
from mipplan.certificate import resolve_certificate
from mipplan.core import (
    Deadline,
    LimitReachedError,
    SearchLimits,
    check_all,
    check_budget,
    check_margin,
    from_front,
    is_finite,
    seconds_to_ns,
)
from mipplan.options import Configuration, check_accuracies, check_names, check_power, resolve_discipline
from mipplan.pipeline import Discipline, Dispatch, Pipeline, check_accuracy
from mipplan.planner.benders import PlanSearch, SearchMethod, check_search
from mipplan.planner.choices import CertifiedChoice
from mipplan.planner.heuristics import CertifiedConfiguration, break_ties, cheapen, find_first_plan
from mipplan.planner.infeasible import Diagnosis, Feasibility, over_budget
from mipplan.planner.instance import Request, asked_objective, check_theorem, check_tomorrow, state_question
from mipplan.planner.narrowing import PLANNING, Known, PlanningParams, begin, known_by_limits, options_within
from mipplan.profiles import EnergyTerms, Profiles
from mipplan.result import (
    CertificateKind,
    Figures,
    Guarantee,
    Limit,
    Objective,
    Plan,
    PlanStatus,
    Provenance,
    RunClass,
    check_laws,
)
from mipplan.solvers import AUTO, resolve_solver
from mipplan.tokens import read_traces
from mipplan.trace import Trace

_CONFIDENCE = 0.95  # The share of scenarios that a reliable plan keeps unless another is asked for.
_STOPPED = "the search was stopped (time limit or interrupt)"  # Begins the reason where it was.


def plan(
    pipeline: Pipeline,
    profiles: Profiles,
    trace: Trace | Sequence[Trace],
    *,
    slo_s: float | None = None,
    quantile: float | None = None,
    guarantee: str = "trace",
    formulation: str = AUTO,
    solver: str = AUTO,
    time_limit_s: float | None = 60.0,
    seed: int = 0,
    headroom: float = 1.0,
    margin_s: float = 0.0,
    envelope: ArrivalCurve | None = None,
    budget_usd_per_hour: float | None = None,
    accuracy: float | None = None,
    energy: EnergyTerms | None = None,
    dispatch: Dispatch = None,
    discipline: str | None = None,
    certificate: str = CertificateKind.CLASSIC,
    runs: RunClass | None = None,
    per_s: float | None = None,
    share: float | None = None,
    confidence: float | None = _CONFIDENCE,
    drift: float | None = None,
    seeds: int = 1,
    progress: Callable[[str], None] | None = None,
) -> Plan:
    """Find the cheapest configuration whose latency quantile keeps the objective, in the sense of a guarantee.

    Parameters
    ----------
    pipeline, profiles : Pipeline, Profiles
    trace : Trace, or sequence of Trace
        A sample of the traffic, or several: the plan is certified on each by itself, in any order. It is in-sample.
    slo_s : float, optional
        Latency objective in seconds; the pipeline's own by default.
    quantile : float, optional
        Of latency over queries that must keep the objective, in (0, 1]; the pipeline's by default, or else 0.99.
        Further quantiles of the pipeline count where neither this nor `slo_s` is given.
    guarantee : {"trace", "envelope", "replay", "reliable"}
        What traffic the certificate covers: this trace (with the quantile), or every query of any traffic whose
        arrivals stay inside an arrival curve. Or what keeps the objective without a theorem: the exact replay of this
        trace (`mipplan.refine`); a share `confidence` of scenarios of tomorrow's traffic (a plan that is tested on
        fresh ones, see `Plan.reliability` and [theory, section 13][13-reliability-what-a-test-on-scenarios-says]).
    formulation, solver : str
        A key of ``mipplan_formulations.FORMULATIONS``, and a name from ``mipplan.solvers.available_solvers()``; by the
        features of each problem with ``"auto"``, or the first solver that works for a formulation that is named.
    time_limit_s : float or None
        Wall-clock limit; what was found by then is returned with its proven lower bound.
    seed, seeds : int
        The first draw of tokens, and how many: `seed`, `seed` + 1 and so on, of every trace (and scenario). The
        certificate holds for these draws, and each is kept by itself.
    headroom : float
        Plan for this multiple of the trace's traffic (at least 1: gaps are divided by it).
    margin_s : float
        Keep back this much of the objective: the certificate must be at most the objective less the margin.
    envelope : ArrivalCurve, optional
        With ``guarantee="envelope"``; by default the concave hull of the trace's own envelope.
    budget_usd_per_hour : float, optional
        The mirror problem: the least certified latency within this cost, which is then the plan's `slo_s`.
    accuracy : float, optional
        The least accuracy of the pipeline, in (0, 1], with the variants chosen; without it the cheapest ones will do.
    energy : EnergyTerms, optional
        A cap on the mean power that is guaranteed, and prices, which the cost then includes; empty: it is told.
    dispatch : {"eager", "paced", "timed"}, or mapping of str to such, optional
        When a batch is made: at all stages, or at those named; by default as the pipeline says. Where all stages are
        timed the replay is the certificate: the plan is refined (`mipplan.refine`), without headroom or budget.
    discipline : {"oldest_first", "fifo"}, optional
        Which waiting tokens a batch takes first, by default as the pipeline says; ``fifo`` is what Triton and mosec do.
    certificate : {"classic", "sharp", "auto"}
        By which theorem the plan is certified. The sharp one is never above the classic one, and takes longer: the plan
        is the cheapest found (`mipplan.sharpen`), never dearer, and rarely proven the cheapest there is. ``"auto"``
        takes it for the guarantee ``"trace"``, without budget and window, on workloads of up to 100,000 tokens.
    runs : RunClass, optional
        The runs that a sharp certificate, or one of ``fifo`` queues, is to hold for; by default the serving model's, in
        which batches may be early. Of ``fifo`` queues little is known then: say what share of its table a batch takes.
    per_s, share : float, optional
        The queries of every window of so many seconds, counted from the first arrival, must keep the quantile by
        themselves, or those of this share of the windows; as the pipeline says by default (``math.inf``: no windows).
    confidence, drift : float, optional
        Of guarantee ``reliable``: the share of scenarios that must keep the objective; and by which share tomorrow's
        rate is off (one standard deviation), estimated by default.
    progress : callable, optional
        Called with one line of text as the work proceeds.

    Returns
    -------
    Plan
        Always; `status` says how much is proven. Infeasible is an answer, with `reason`. Ctrl-C is a time limit.

    Raises
    ------
    InputError
        Listing every bad argument.
    SolverUnavailableError
        If there is no such solver here.

    References
    ----------
    Theorem and relaxation: [theory, section 3][3-the-certificate] and [section 4][4-the-bound-a-relaxation-on-any-dag].
    The method: [section 5][5-the-exact-method]. [Accuracy][accuracy-of-a-pipeline], [energy][what-is-proven-of-energy].
    """
    started, by_budget = time.monotonic(), budget_usd_per_hour is not None
    is_usual = is_finite(confidence) and confidence == _CONFIDENCE
    discipline = resolve_discipline(pipeline, profiles, discipline)
    asked_for = partial(asked_objective, pipeline, slo_s, quantile, seed, per_s, share, guarantee, by_budget)
    check_all(
        lambda: read_traces(trace),
        lambda: check_tomorrow(guarantee, None if is_usual else confidence, drift, seeds),
        lambda: check_search(
            formulation=formulation,
            guarantee=guarantee,
            envelope=envelope,
            time_limit_s=time_limit_s,
            headroom=headroom,
            budget_usd_per_hour=budget_usd_per_hour,
            certificate=certificate,
            runs=runs,
            discipline=discipline,
        ),
        asked_for,
        lambda: check_margin(margin_s, asked_for().slo_ns),
        lambda: check_names(pipeline, profiles),
        lambda: None if accuracy is None else check_accuracy(accuracy),
        lambda: None if accuracy is None else check_accuracies(pipeline, profiles),
        lambda: None if energy is None else check_power(pipeline, profiles, energy),
        lambda: check_laws(pipeline, dispatch, discipline),
    )
    traces, laws = read_traces(trace), check_laws(pipeline, dispatch, discipline)
    how = laws, discipline, guarantee, certificate, runs, headroom, budget_usd_per_hour, energy
    by_replay = check_theorem(*how)
    by_arrival = discipline == Discipline.FIFO and not by_replay
    # A solver that does not work here is found before any work. Without a formulation by name "auto" stays "auto".
    resolved = resolve_solver(solver)
    if Guarantee(guarantee) is Guarantee.ENVELOPE and envelope is None:
        envelope = least_above([empirical_envelope(one.scale(headroom).arrival_ns) for one in traces])
    objective = replace(
        asked_for(),
        discipline=Discipline(discipline),
        runs=(runs or RunClass()) if by_arrival else None,
        guarantee=Guarantee(guarantee),
        headroom=float(headroom),
        margin_ns=0 if by_budget else seconds_to_ns(margin_s),
        envelope=None if envelope is None else envelope.buckets,
        budget_microusd_per_hour=check_budget(budget_usd_per_hour),
        seeds=seeds,
        min_accuracy=accuracy,
        energy=energy,
    ).under(laws, discipline)
    provenance = Provenance.on(traces, formulation, AUTO if solver == formulation == AUTO else resolved)
    asked = state_question(pipeline, profiles, objective, provenance)
    limits = SearchLimits(Deadline.after(time_limit_s, started), progress or (lambda _: None))
    chooses = bool(pipeline.accuracy.rows) or any(stage.variants for stage in pipeline.stages.values())
    cheapest = from_front("cheapest_of", "mipplan.variants") if chooses else PlanMaker.cheapest

    def answering(asked: Plan, limits: SearchLimits) -> Callable[[], Plan]:
        """Return what answers the question, with the tokens that the variants make which its pipeline runs."""
        ending = {"time_limit_s": limits.deadline.limit_s(), "progress": progress}
        if by_replay and asked.guarantee is Guarantee.RELIABLE:
            tomorrow = (_CONFIDENCE if confidence is None else float(confidence), drift, seeds)
            reliably = from_front("plan_reliably", "mipplan.reliability")
            return partial(reliably, asked, traces, *tomorrow, **ending)
        if by_replay:
            # Whatever the queues, a plan certified for the oldest first is a good beginning, and the one found soonest.
            eldest = replace(asked.objective, discipline=Discipline.OLDEST_FIRST)
            first = PlanMaker(replace(asked, objective=eldest), limits).hurried().cheapest(quick=True)
            ending["time_limit_s"] = 1e-3 if first.limit is Limit.INTERRUPT else limits.deadline.limit_s()
            refined = partial(from_front("refine_alike", "mipplan.refinement"), margin_s=margin_s, **ending)
            return partial(refined, replace(first, objective=asked.objective), traces)
        maker, budget = PlanMaker(asked, limits), asked.budget_microusd_per_hour
        if budget is not None:
            return partial(maker.fastest, budget)
        is_classic = by_arrival or certificate == CertificateKind.CLASSIC or asked.envelope is not None
        how = certificate, () if is_classic else maker.request.workloads, runs
        if is_classic or resolve_certificate(*how, collects=asked.collects) is CertificateKind.CLASSIC:
            return partial(cheapest, maker)
        first = maker.hurried().cheapest()
        ending["time_limit_s"] = 1e-3 if first.limit is Limit.INTERRUPT else limits.deadline.limit_s()
        return partial(from_front("sharpen_alike", "mipplan.refinement"), first, traces, runs=runs, **ending)

    combine = from_front("best_combination", "mipplan.variants") if chooses else None
    best: Plan = combine(asked, answering, limits) if combine else answering(asked, limits)()
    return best


class PlanMaker:
    """Makes the plan that one without choices asks for, with its provenance's sample at hand."""

    proven = 0  # What all plans cost at least.
    _near: Configuration | None = None  # Where to begin.

    def __init__(self, asked: Plan, limits: SearchLimits, params: PlanningParams = PLANNING) -> None:
        limits.report(f"analysing {sum(map(len, asked.provenance.samples)):,} queries")
        self.asked, self._params, before = asked, params, time.monotonic()
        self.request = Request.of(asked, asked.provenance.samples)
        self.instance = self.request.instance()
        # What is under way when the time is up takes longer on a long trace, like its analysis.
        self.spare_s = min(time.monotonic() - before, limits.deadline.left_s() / 4)
        end = Deadline(limits.deadline.at - self.spare_s)
        self.method = SearchMethod.of(asked, replace(limits, deadline=end))

    def asking(
        self, objective: Objective, limits: SearchLimits, proven: int = 0, *, brief: bool = False
    ) -> PlanMaker:
        """The same, uncapped so far, for an objective's accuracy and power; no such plan costs less than `proven`."""
        made = copy.copy(self)
        made.asked = replace(self.asked, objective=objective)
        made.request = Request(made.asked, self.request.samples)
        cap = None if objective.energy is None else objective.energy.max_power_mw
        made.instance = self.instance.with_power(cap).with_floor(objective.min_accuracy)
        made.method, made.proven = replace(self.method, limits=limits), proven
        made._params = replace(self._params, diagnosis_s=0.0) if brief else self._params
        return made

    def on(self, asked: Plan, request: Request, after: Plan | None = None) -> PlanMaker:
        """The same for a like plan whose request is at hand, `after` the cheapest one for a larger objective."""
        made = copy.copy(self)
        made.asked, made.request, made.instance = asked, request, request.instance()
        if after is not None:  # its families are a good beginning, and what it proves holds here, too
            made._near = made.instance.configuration(after.choices)
            made.proven = after.lower_bound_microusd_per_hour or 0
        return made

    def hurried(self) -> PlanMaker:
        """The same in the first share of the time, and without a reason where none: what comes next replays it."""
        deadline, params = self.method.limits.deadline, self._params
        end = min(deadline.share(params.first_share).at, deadline.at - 4.0 * self.spare_s)
        made = self.within(self.instance.deadline_ns, Deadline(end))
        first_s = max(params.first_s, params.any_share * deadline.left_s())
        made._params = replace(params, diagnosis_s=0.0, first_s=first_s)
        return made

    def within(self, latency_ns: int, deadline: Deadline) -> PlanMaker:
        """The same for another latency and with another deadline: for plans that are proposed, not answers."""
        made = copy.copy(self)
        made.method = replace(self.method, limits=replace(self.method.limits, deadline=deadline))
        made.instance = self.instance.with_deadline(latency_ns)
        made._params = replace(self._params, diagnosis_s=0.0)
        return made

    def _sooner(self, most_s: float = float("inf")) -> SearchMethod:
        end = min(time.monotonic() + most_s, self.method.limits.deadline.at - self.spare_s)
        return replace(self.method, limits=replace(self.method.limits, deadline=Deadline(end)))

    def cheapest(self, *, quick: bool = False) -> Plan:
        """Return the cheapest plan that keeps the objective; only where a first one is found at once, if `quick`."""
        instance, limits, params = self.instance, self.method.limits, self._params
        report, deadline = limits.report, limits.deadline
        if not instance.has_options:
            return self._infeasible()
        by_limits = bool(self.asked.objective.others) and not quick
        known = known_by_limits(self) if by_limits else Known(proven=self.proven)
        stopped = partial(self._stopped, proven=known.proven)
        if known.answer or known.is_hopeless or known.limit:
            return known.answer or (stopped(known.plan, known.limit) if known.limit else self._infeasible())
        # A first plan has a moment, even if the time is up.
        soon, at_hand = Deadline(max(deadline.at, time.monotonic() + params.first_s)), known.plan
        try:
            with given_up_at(soon):
                report("looking for a first certified plan")
                first = at_hand or find_first_plan(instance, params.first_plan, soon, self._near)
                if first is None and (quick or soon.is_over):
                    return self.asked if quick else stopped(None, Limit.TIME)
                if first is None:
                    report("deciding whether any plan can be certified")
                    at_hand, limit = Feasibility(self.method, params=params.search).find(instance)
                    if at_hand is None or limit is Limit.INTERRUPT:
                        return self._infeasible() if limit is None else stopped(at_hand, limit)
                    first = cheapen(instance, at_hand.configuration, params.first_plan, soon)
                assert first.certificate_ns <= instance.deadline_ns  # all that follows believes it
                at_hand, count = first, instance.count_affordable(first.cost)
                report(f"first certified plan: {first.cost / 1e6:.4f} $/h")
                fifo, why = bool(self.request.overtaking), Limit.TIME if count > params.most_options else None
                if fifo or (count > params.narrowing.most and why is None):
                    at_hand, why = begin(instance, first, self.method, params, by_arrival=fifo)
                if why is not None:
                    return stopped(at_hand, why)
                least = partial(options_within, instance, self.method, params)
                is_few = instance.count_affordable(at_hand.cost) <= params.narrowing.many
                space = instance.space((instance.affordable if is_few else least)(at_hand.cost))
                report(f"choosing among {space.size:,} options")
                start = CertifiedChoice.of(space.no_worse(at_hand.configuration), space, instance)
                outcome = PlanSearch(
                    instance, space, self.method, known=start, proven=known.proven, params=params.search
                ).run()
                best = outcome.best or start  # a search that starts from a plan ends with one
                at_hand = CertifiedConfiguration(space.configuration(best.choice), best.certificate_ns)
                optimal = outcome.finished or outcome.lower_bound >= best.cost
                end = Deadline(0.0) if outcome.limit is Limit.INTERRUPT else deadline
                choice, own_ns = break_ties(instance, space, best.choice, best.certificate_ns, end)
        except (KeyboardInterrupt, LimitReachedError) as stop:
            return stopped(at_hand, Limit.INTERRUPT if isinstance(stop, KeyboardInterrupt) else Limit.TIME)
        lower_bound, limit = (best.cost, None) if optimal else (outcome.lower_bound, outcome.limit)
        return self.made(space.configuration(choice), lower_bound, own_ns, limit)

    def _stopped(self, at_hand: CertifiedConfiguration | None, limit: Limit, proven: int) -> Plan:
        """The plan at hand; its cost is bounded by what is proven of all, and by what keeps up with the mean rate."""
        least = max(proven, sum(self.instance.cheapest_by_stage().values()))
        if at_hand is not None:
            return self.made(at_hand.configuration, least, at_hand.certificate_ns, limit)
        reason = f"{_STOPPED} before any certified plan was found; allow more time"
        return replace(self.asked, figures=Figures(None, least), reason=reason, limit=limit)

    def fastest(self, budget: int) -> Plan:
        """Return the plan with the least certified latency that costs at most `budget` (micro-dollars per hour)."""
        self.method.limits.report("looking for the least latency within the budget")
        feasibility = Feasibility(self._sooner(), budget, self._params.search)
        best, limit = feasibility.smallest_deadline(self.instance)
        if best is None:
            if limit is None and not self.method.limits.deadline.is_over:
                cheapest = self.cheapest()  # what any plan takes, limits included
                return self._without_plan(over_budget(cheapest, budget)) if cheapest.choices else cheapest
            reason = f"{_STOPPED} before any plan within the budget was found"
            return replace(self.asked, reason=reason, limit=limit or Limit.TIME)
        made = self.made(best.configuration, None, best.certificate_ns, limit)
        return made.with_slo(max(1, best.certificate_ns))

    def made(
        self, configuration: Configuration, lower_bound: int | None, certificate_ns: int, limit: Limit | None
    ) -> Plan:
        """Return the plan of a configuration with what is proven of it; the best one unless a limit stopped that."""
        oracle, services, cost = self.instance.oracle, configuration.services, configuration.microusd_per_hour
        bound_ns, samples = oracle.paths.bound_ns(services), self.request.figures(oracle.by_sample(services))
        return replace(
            self.asked,
            status=PlanStatus.OPTIMAL if limit is None else PlanStatus.FEASIBLE,
            choices=configuration.choices,
            figures=Figures(cost, lower_bound, bound_ns, certificate_ns, samples, **configuration.power_mw),
            reason=None if limit is None else f"{_STOPPED} before this plan was proven the best",
            limit=limit,
        )

    def _infeasible(self) -> Plan:
        return self._without_plan(self._diagnosis().reason())

    def what_would_do(self) -> str:
        """Say which objective and rate a certified plan keeps, as far as that is found in time."""
        return self._diagnosis().what_would_do()

    def _diagnosis(self) -> Diagnosis:
        method, budget = self._sooner(self._params.diagnosis_s), self.asked.budget_microusd_per_hour
        return Diagnosis(self.request, self.instance, Feasibility(method, budget, self._params.search))

    def _without_plan(self, reason: str) -> Plan:
        return replace(self.asked, status=PlanStatus.INFEASIBLE, reason=reason, figures=Figures())
