"""`mipplan.refine`: a plan in, the cheapest plan that replays within the objective out.

Its phases: exclude, find a cheap plan, make it cheaper, prove. Every phase starts from the best plan of those before.
A limit or Ctrl-C ends the phase that is under way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

from mipplan.core import (
    MICRODOLLARS_PER_DOLLAR,
    Deadline,
    Faults,
    SearchLimits,
    check_margin,
    check_quantile,
    check_seed,
    check_time_limit,
    format_duration,
)
from mipplan.options import Configuration, check_names
from mipplan.pipeline import Discipline, Dispatch, are_timed
from mipplan.refinement.bounds import Known, Narrowed, narrow
from mipplan.refinement.evaluation import (
    Counters,
    LimitReachedError,
    ReplayOracle,
    Screen,
    ScreenParams,
    StageAlone,
    WorkLimit,
    screen,
    study_stages,
    sufficient_domains,
)
from mipplan.refinement.heuristics import HeuristicParams, Heuristics, fastest_plan, propose_plans
from mipplan.refinement.problem import Domains, RefinementProblem, find_options, least_cost, state_problem
from mipplan.refinement.result import ASSUMING, OPTIMAL, conclude, record_refinement
from mipplan.refinement.search import RefinementSearch
from mipplan.replayer import StageReplays, features_of, replay, resolve_engine
from mipplan.result import (
    Choice,
    Figures,
    Guarantee,
    Limit,
    Objective,
    Plan,
    PlanStatus,
    Provenance,
    Refinement,
    TraceReference,
    check_laws,
    resolve_slo_ns,
)
from mipplan.tokens import realise
from mipplan.trace import Trace


@dataclass(frozen=True)
class RefinementParams:
    """How a refinement divides its time and work."""

    improved_by: float = 0.85
    """By the end of this share of the time limit looking for better plans must be done, to leave time for proving."""
    trusted_by: float = 0.92  # By the end of this share the search on trust must be done.
    proven_by: float = 1.0  # By the end of this share the proof must be done.
    trusted_replays: int = 400_000
    """At most 400,000 stage replays of the search on trust, because without a time limit it has to end as well."""
    # Budgets of the proof, as shares of the way from the lower bound to the best plan.
    proof_steps: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    # The cost up to which conditions alone refute every plan is found to one part in 200 of itself.
    bound_precision: int = 200
    screen: ScreenParams = field(default_factory=ScreenParams)
    heuristics: HeuristicParams = field(default_factory=HeuristicParams)


def refine(
    plan: Plan,
    trace: Trace,
    *,
    slo_s: float | None = None,
    quantile: float | None = None,
    dispatch: Dispatch = None,
    discipline: str | None = None,
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
    dispatch : str or mapping of str to str, optional
        Law of all stages, or of those named; others as the plan says. Where all are timed the plan is a certified one:
        stable, and every run of it is the replay. So a trace that spans no time is refused then.
    discipline : {"oldest_first", "fifo"}, optional
        Of all replays; as the plan says by default. Nothing of what is proven rests on it. The plan keeps its own, and
        the certificate with it, unless all stages are timed: then its replay is the certificate, under this one.
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
        ``unknown`` if no plan was found. Its certificate is that of the theorem, and may be above the objective; where
        all stages are timed it is the replay. A plan that is ``fifo`` itself, and not timed, has none.
        Ctrl-C stops the search as the time limit does; `limit` says which of them did.

    Raises
    ------
    InputError
        Listing every bad argument.

    Notes
    -----
    The option set: all hardware and measured batch sizes that the pipeline admits, with any number of replicas
    within its limits. What is refuted without a replay is refuted by
    [necessary conditions][9-refinement-which-conditions-are-necessary].
    """
    started = time.monotonic()
    faults = Faults()
    slo_ns = plan.slo_ns
    if slo_s is not None:
        slo_ns = faults.take(lambda: resolve_slo_ns(plan.pipeline, slo_s)).or_else(plan.slo_ns)
    margin_ns = faults.take(lambda: check_margin(margin_s, slo_ns))
    wanted = faults.take(lambda: plan.quantile if quantile is None else check_quantile(quantile))
    others = plan.objective.others if slo_s is None and quantile is None else ()
    drawn = faults.take(lambda: plan.seed if seed is None else check_seed(seed))
    kept = plan.discipline if discipline is None else discipline
    laws = faults.take(lambda: check_laws(plan.pipeline, dispatch, kept, plan.laws))
    faults.take(lambda: resolve_engine(engine, frozenset()))
    faults.take(lambda: check_time_limit(time_limit_s))
    faults.take(lambda: check_names(plan.pipeline, plan.profiles))
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
            min_accuracy=plan.min_accuracy,
        ).under(laws.value, kept if are_timed(laws.value) else plan.discipline),
        status=PlanStatus.UNKNOWN,
        figures=Figures(plan.microusd_per_hour, 0),
        provenance=Provenance(TraceReference.of(trace), sample=trace),
        reason=None,
        limit=None,
    )
    limits = SearchLimits(Deadline.after(time_limit_s, started), progress or (lambda _: None))
    return Refining(base, trace, kept, engine, limits).run()


@dataclass(eq=False)
class Refining:
    """One refinement under way, of a plan whose objective is what is asked for."""

    base: Plan
    trace: Trace
    discipline: str  # Of all replays.
    engine: str
    limits: SearchLimits
    params: RefinementParams = RefinementParams()

    def __post_init__(self) -> None:
        self.limits.report(f"refining on {len(self.trace):,} queries")
        base, params = self.base, self.params
        self._engine = resolve_engine(self.engine, features_of(base.laws.values()))
        self._workload = realise(base.pipeline, self.trace, base.seed)
        self._problem = state_problem(
            base.pipeline,
            base.profiles,
            self._workload,
            base.objective.deadline_ns,
            base.objective.criterion(self._workload.ingress_ns),
            base.laws,
            self._demand(),
            base.min_accuracy,
        )
        self._counters = Counters()
        self._improving = self._work_until(params.improved_by)
        self._trusting = self._work_until(params.trusted_by, params.trusted_replays)
        self._proving = self._work_until(params.proven_by)
        self._replays = self._replays_of(self._problem)
        #: The best plan as people read it; as options unless it is not made of them; and its cost.
        self._choices: Mapping[str, Choice] = {}
        self._best: Configuration | None = None
        self._cost: int | None = None
        self._lower_bound = 0
        self._known: Known = {}
        self._sufficient: Domains | None = None
        self._stopped = Limit.TIME

    def _demand(self) -> Mapping[str, Fraction] | None:
        """Tokens per ns that each stage must outrun; None: as the laws say."""
        return None

    def run(self) -> Plan:
        """Go through the phases."""
        excluded: Narrowed | None = None
        proof: str | None = None
        try:
            self._try_given()
            excluded = narrow(self._problem, None, self._known)
            self._counters.refuted += excluded.refuted
            if excluded.blocked is None:
                self._problem = excluded.problem
                self._raise_bound(sum(least_cost(domain) for domain in self._problem.domains.values()))
                self._improve()
                self._bound()
                trusted = self._search_on_trust()
                proof = OPTIMAL if self._prove() else ASSUMING if trusted else None
        except KeyboardInterrupt:
            self._stopped = Limit.INTERRUPT
        if excluded is None or excluded.blocked is None:
            return self._concluded(proof)
        return self._concluded(
            OPTIMAL,
            f"no option of stage {excluded.blocked!r} can keep {format_duration(self._problem.deadline_ns)}: "
            "whatever the other stages run on, its batch latencies and theirs, or its capacity within its limits, "
            "make too many queries late",
        )

    def _try_given(self) -> None:
        """Take the choices of the given plan, if they keep the deadline."""
        choices = self.base.choices
        if not choices:
            return
        made = find_options(self._problem.domains, choices)
        if made is None and are_timed(self.base.laws):
            return  # it may be overloaded, and a certified plan is not
        replayed = replay(self.base, self.trace, discipline=self.discipline, engine=self._engine.name)
        keeps = replayed.objective_ns(self.base.objective) <= self._problem.deadline_ns
        self._counters.replays += 1
        self.limits.report(f"the given plan {'keeps' if keeps else 'does not keep'} the objective")
        if keeps and (made is None or self._problem.allows(made)):
            self._choices, self._cost = dict(choices), self.base.microusd_per_hour
            self._best = made

    def _improve(self) -> None:
        """Find a first plan if there is none, and make it cheaper."""
        limit = self._improving
        whole = ReplayOracle(self._problem, self._replays)
        part = screen(self._problem, self.params.screen)
        oracle = whole if part is None else ReplayOracle(part, self._replays_of(part))
        screening = Screen(oracle, whole, self.params.screen)

        def accept(plan: Configuration) -> bool:
            return self._problem.allows(plan) and screening.confirms(plan, limit) and self._take(plan)

        try:
            stages = study_stages(oracle, self.base.quantile, limit)
            if stages is None:
                return
            if part is None:
                self._sufficient = {stage: alone.domain for stage, alone in stages.items()}
            self._find_first(stages, whole, limit)
            if self._best is not None:
                heuristics = Heuristics(
                    lambda: screening.problem, stages, oracle.replays, limit, accept, self.params.heuristics
                )
                self._cheapen(heuristics, self._best)
        except LimitReachedError:
            self.limits.report("no time left to look for cheaper plans")

    def _cheapen(self, heuristics: Heuristics, first: Configuration) -> None:
        drafted = heuristics.redraft(first)
        # Drafts lead far and fast, and not always to where small steps from the first plan would.
        heuristics.improve([drafted] if drafted is first else [drafted, first])

    def _find_first(self, stages: dict[str, StageAlone], oracle: ReplayOracle, limit: WorkLimit) -> None:
        """Cheapest of the plans that weigh cost against time; the fastest plan if none of them will do."""
        last = [fastest_plan(self._problem)] if self._cost is None else []
        for plan in (*propose_plans(stages, self.params.heuristics), *last):
            if self._cost is not None and plan.microusd_per_hour >= self._cost:
                return
            if oracle.keeps(plan, limit):
                self._take(plan)
                return

    def _bound(self) -> None:
        """Raise the lower bound by conditions alone: by bisection, to where they no longer refute every plan."""
        low, high = self._lower_bound, self._budget()
        while self._cost is not None and high - low > max(1, high // self.params.bound_precision):
            middle = (low + high) // 2
            if narrow(self._problem, middle, self._known).blocked is not None:
                low = middle
            else:
                high = middle
            if self.limits.deadline.is_over:
                break
        self._raise_bound(low)

    def _search_on_trust(self) -> bool:
        """Search everything that could be cheaper, on trust; whether that was done to the end."""
        try:
            domains = self._sufficient or sufficient_domains(
                ReplayOracle(self._problem, self._replays), self._trusting
            )
        except LimitReachedError:
            return False
        if domains is None:
            return True
        problem = replace(self._problem, domains=domains)
        return self._search(problem, self._budget(), self._trusting, trusting=True)

    def _prove(self) -> bool:
        """Search everything that could be cheaper, without trust, the cheapest first; whether to the end."""
        start, end = self._lower_bound, self._budget()
        for step in self.params.proof_steps:
            if self._cost is None and step < 1:
                continue
            if self._lower_bound == self._cost:
                return True
            budget = min(self._budget(), start + round(step * (end - start)))
            if not self._search(self._problem, budget, self._proving, trusting=False):
                return False
            self._raise_bound(budget)
        return True

    def _search(self, problem: RefinementProblem, budget: int, limit: WorkLimit, *, trusting: bool) -> bool:
        narrowed = narrow(problem, budget, self._known)
        if narrowed.blocked is not None:
            return True
        domains = narrowed.problem.domains
        search = RefinementSearch(problem, domains, self._replays, limit, trusting, accept=self._take)
        try:
            search.run(budget)
        except LimitReachedError:
            return False
        return True

    def _take(self, plan: Configuration) -> bool:
        """Keep a plan that keeps the deadline, if it is the cheapest so far; it counts in any case."""
        cost = plan.microusd_per_hour
        if self._cost is None or cost < self._cost:
            self._choices = {stage: plan[stage].choice for stage in self.base.pipeline.stages}
            self._best, self._cost = plan, cost
            self.limits.report(f"found a plan of {cost / MICRODOLLARS_PER_DOLLAR:.4g} $/h")
        return True

    def _budget(self) -> int:
        """Plans must cost less."""
        if self._cost is not None:
            return self._cost
        dearest = [
            max(s.family.microusd_per_hour * s.most for s in d) for d in self._problem.domains.values()
        ]
        return sum(dearest) + 1

    def _raise_bound(self, bound: int) -> None:
        self._lower_bound = max(self._lower_bound, bound)
        if self._cost is not None:
            self._lower_bound = min(self._lower_bound, self._cost)

    def _replays_of(self, problem: RefinementProblem) -> StageReplays:
        return StageReplays(problem.workload, self._engine, fifo=self.discipline == Discipline.FIFO)

    def _work_until(self, share: float, most_stage_replays: float = float("inf")) -> WorkLimit:
        return WorkLimit(self._counters, self.limits.deadline.share(share), most_stage_replays)

    def _concluded(self, proof: str | None, why: str | None = None) -> Plan:
        """The best plan with what is proven about it; without any, the reason."""
        made = conclude(self.base, self._choices, self._lower_bound, proof == OPTIMAL, self._stopped, why)
        done = self._counters
        proof = proof if made.choices else None
        record = Refinement(
            Discipline(self.discipline).value, proof, None, done.replays, done.stage_replays, done.refuted
        )
        return record_refinement(made, self.trace, self._workload, record, self.engine)
