"""The search of `mipplan.refine` for the cheapest plan that replays within the objective.

Its phases: exclude, find a cheap plan, make it cheaper, prove. Every phase starts from the best plan of those before.
A limit or Ctrl-C ends the phase that is under way.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property

from mipplan.certificate import CertificateEvaluator
from mipplan.core import MICRODOLLARS_PER_DOLLAR, Deadline, LimitReachedError, SearchLimits, format_duration
from mipplan.options import Configuration
from mipplan.pipeline import Discipline, Laws, are_timed, is_accurate
from mipplan.planner import PlanMaker, PlanningParams
from mipplan.refinement.bounds import Known, Narrowed
from mipplan.refinement.evaluation import (
    Counters,
    ReplayOracle,
    Screen,
    StageAlone,
    WorkLimit,
    screen,
    study_stages,
    sufficient_domains,
)
from mipplan.refinement.heuristics import Heuristics, RefinementParams, fastest_plan, propose_plans
from mipplan.refinement.problem import Domains, RefinementProblem, find_options, least_total, state_problems
from mipplan.refinement.result import ASSUMING, OPTIMAL, conclude, record_refinement
from mipplan.refinement.samples import OtherSamples
from mipplan.refinement.search import RefinementSearch
from mipplan.replayer import CacheParams, StageReplays, plan_features, replay, resolve_engine
from mipplan.result import (
    CertificateKind,
    Choice,
    Figures,
    Guarantee,
    Limit,
    Plan,
    PlanStatus,
    Provenance,
    Refinement,
)
from mipplan.tokens import Sample, realise


@dataclass(eq=False)
class Refining:
    """One refinement under way, of a plan whose objective is what is asked for."""

    base: Plan
    samples: Sequence[Sample]  # A plan must keep all; the search is on the first one.
    discipline: str  # Of all replays.
    engine: str
    limits: SearchLimits
    params: RefinementParams = field(default_factory=RefinementParams)

    def __post_init__(self) -> None:
        self.limits.report(f"refining on {sum(len(one.trace) for one in self.samples):,} queries")
        base, params = self.base, self.params
        started = time.monotonic()
        self._engine = resolve_engine(self.engine, plan_features(base))
        self._workloads = [realise(base.pipeline, sample.trace, sample.seed) for sample in self.samples]
        self._problem, *others = state_problems(base, self._workloads, self._demand())
        self._others = OtherSamples.of(self.samples[1:], others, self._replays_of)
        self._counters = Counters()
        # What ends a search takes about as long as what begins it, so more than that is kept back.
        self._ends = self.limits.deadline
        self._setup_s = time.monotonic() - started
        kept_s = min(3.0 * self._setup_s, params.kept_back * self._ends.left_s())
        self.limits = replace(self.limits, deadline=Deadline(self._ends.at - kept_s))
        self._improving = self._work_until(params.improved_by)
        self._trusting = self._work_until(params.trusted_by, params.trusted_replays)
        self._proving = self._work_until(params.proven_by)
        self._replays = self._replays_of(self._problem)
        #: The best plan as people read it; as options unless it is not made of them; and its cost.
        self._choices: Mapping[str, Choice] = {}
        self._best: Configuration | None = None
        self._cost: int | None = None
        self._lower_bound = least_total(self._problem.domains)  # a search may be stopped at once
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
            self.limits.deadline.check()
            excluded = self._others.narrow(self._problem, None, self._known, self.limits.deadline)
            self._counters.refuted += excluded.refuted
            if excluded.blocked is None:
                self._problem = excluded.problem
                self._raise_bound(least_total(self._problem.domains))
                self._improve()
                self._bound()
                trusted = self._search_on_trust()
                proof = OPTIMAL if self._prove() else ASSUMING if trusted else None
        except LimitReachedError:
            self.limits.report("the time to exclude what no plan can be made of is over")
        except KeyboardInterrupt:
            self._stopped = Limit.INTERRUPT
        if excluded is None or excluded.blocked is None:
            return self._advised(self._concluded(proof))
        return self._advised(self._concluded(OPTIMAL, self._why_blocked(excluded.blocked)))

    def _why_blocked(self, stage: str) -> str:
        """Say why nothing is left for a stage to run on."""
        rejected = self._problem.rejected[stage]
        if rejected and not self._problem.domains[stage]:
            return f"no hardware can carry stage {stage!r}, whatever the latency: {'; '.join(rejected)}"
        where = f" on {self._others.blocking}" if self._others.blocking else ""
        return (
            f"no option of stage {stage!r} can keep {format_duration(self._problem.deadline_ns)}{where}: "
            "whatever the other stages run on, its batch latencies and theirs, or its capacity within its limits, "
            "make too many queries late"
        )

    def _advised(self, made: Plan) -> Plan:
        """Where there is no plan, say what would do: an objective and a rate that a classic certificate keeps.

        It covers the runs that are asked about, unless queues are fifo or ties are broken in any order.
        """
        runs, by_age = self.base.runs, self.discipline == Discipline.OLDEST_FIRST
        is_covered = by_age and (runs is None or runs.is_settled)
        is_covered &= all(one.trace.span_ns for one in self.samples)  # else there is no rate to keep up with
        if made.status is not PlanStatus.INFEASIBLE or not is_covered or self._ends.is_over:
            return made
        known, limits = "", replace(self.limits, deadline=self._ends)
        with suppress(KeyboardInterrupt):  # that there is no plan is known
            self.limits.report("finding out what would do")
            known = self._maker(self.base.laws, limits, PlanningParams()).what_would_do()
        return replace(made, reason=f"{made.reason}. Sure to do, though less may: {known}") if known else made

    def _maker(self, laws: Laws, limits: SearchLimits, params: PlanningParams) -> PlanMaker:
        """Makes classic plans for the same request under these laws; the traffic has its headroom already."""
        asked, kind = self.base.objective.under(laws), CertificateKind.CLASSIC
        objective = replace(asked, guarantee=Guarantee.TRACE, headroom=1.0, certificate=kind, runs=None)
        traces = {sample.number: sample.trace for sample in self.samples}
        provenance = Provenance.on(list(traces.values()), self.base.formulation, self.base.solver)
        base = replace(self.base, objective=objective, choices={}, provenance=provenance, figures=Figures())
        return PlanMaker(base, limits, params)

    def _try_given(self, limit: WorkLimit | None = None) -> None:
        """Take the choices of the given plan, if they keep the deadline."""
        if not (choices := self.base.choices):
            return
        made = find_options(self._problem.domains, choices)
        if made is None or not made.keeps(self._problem.limits):
            keeps = self._keeps_unoffered()
        else:
            limit = limit or WorkLimit(self._counters)
            keeps = self._is_certified(made) or (
                ReplayOracle(self._problem, self._replays).judge(made, limit)[0]
                and self._others.keep(made, limit)
            )
        if keeps and (made is None or self._problem.allows(made)):
            self._choices, self._cost, self._best = dict(choices), self.base.microusd_per_hour, made
            self._raise_bound(0)  # what is not on offer may cost less
        self.limits.report(f"the given plan {'keeps' if keeps else 'does not keep'} the objective")

    def _is_certified(self, made: Configuration) -> bool:
        """Whether the classic theorem says that a plan keeps all samples: that takes a tenth of their replays."""
        if self.discipline != Discipline.OLDEST_FIRST:
            return False

        def is_kept(problem: RefinementProblem) -> bool:
            latency_ns = CertificateEvaluator(problem.workload).latency_ns(made.services)
            return not problem.criterion.exceeds(latency_ns, problem.deadline_ns)

        return all(map(is_kept, (self._problem, *self._others.problems)))

    def _keeps_unoffered(self) -> bool:
        """Whether the given plan keeps all samples, although it is not made of the options on offer."""
        if are_timed(self.base.laws) or not self._has_allowed_replicas():
            return False  # A timed one may be overloaded, and a certified plan is not.
        least = self.base.min_accuracy
        if least is not None and not is_accurate(self.base.accuracy, least, len(self.base.choices)):
            return False

        def is_kept(sample: Sample) -> bool:
            self._counters.replays += 1
            discipline, engine = self.discipline, self.engine
            replayed = replay(self.base, sample.trace, discipline=discipline, engine=engine, seed=sample.seed)
            return replayed.objective_ns(self.base.objective) <= self._problem.deadline_ns

        return all(map(is_kept, self.samples))

    def _has_allowed_replicas(self) -> bool:
        """Whether the given plan keeps the limits on devices and replicas.

        What runs today may have a batch cap that nobody measured, but more devices than there are cannot be bought.
        """
        devices: Counter[str] = Counter()
        for name, choice in self.base.choices.items():
            stage = self.base.pipeline.stages[name]
            devices[choice.hardware] += choice.replicas
            most = stage.replicas_max
            if choice.replicas < stage.replicas_min or (most is not None and choice.replicas > most):
                return False
        return all(devices[name] <= limit for name, limit in self._problem.limits.items())

    def _improve(self) -> None:
        """Find a first plan if there is none, and make it cheaper."""
        limit, screening = self._improving, self._screening
        part, whole = screening.part, screening.whole

        def accept(plan: Configuration) -> bool:
            if not self._problem.allows(plan) or not screening.confirms(plan, limit):
                return False
            return self._others.keep(plan, limit) and self._take(plan)

        try:
            stages = study_stages(part, self.base.quantile, limit)
            if stages is None:
                return
            if part is whole:
                self._sufficient = {stage: alone.domain for stage, alone in stages.items()}
            self._find_first(stages, whole, limit)
            if self._best is not None:
                heuristics = Heuristics(
                    lambda: screening.problem, stages, part.replays, limit, accept, self.params.heuristics
                )
                self._cheapen(heuristics, self._best)
        except LimitReachedError:
            self.limits.report("the time for cheaper plans is over")

    @cached_property
    def _screening(self) -> Screen:
        """A part of the trace in place of the whole, once all that is excluded has been."""
        whole, part = ReplayOracle(self._problem, self._replays), screen(self._problem, self.params.screen)
        oracle = whole if part is None else ReplayOracle(part, self._replays_of(part))
        return Screen(oracle, whole, self.params.screen)

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
            if oracle.keeps(plan, limit) and self._others.keep(plan, limit):
                self._take(plan)
                return

    def _bound(self) -> None:
        """Raise the lower bound by conditions alone: by bisection, to where they no longer refute every plan."""
        low, high = self._lower_bound, self._budget()
        with suppress(LimitReachedError):
            while self._cost is not None and high - low > max(1, high // self.params.bound_precision):
                middle = (low + high) // 2
                found = self._others.narrow(self._problem, middle, self._known, self.limits.deadline)
                if found.blocked is not None:
                    low = middle
                else:
                    high = middle
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
        def accept(plan: Configuration) -> bool:
            return self._others.keep(plan, limit) and self._take(plan)

        try:
            narrowed = self._others.narrow(problem, budget, self._known, limit.deadline)
            if narrowed.blocked is None:
                domains = narrowed.problem.domains
                alone = not self._others.samples
                search = RefinementSearch(problem, domains, self._replays, limit, trusting, accept, alone)
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
            found, least = cost / MICRODOLLARS_PER_DOLLAR, self._lower_bound / MICRODOLLARS_PER_DOLLAR
            self.limits.report(f"found a plan of {found:.4g} $/h, none below {least:.4g} $/h")
        return True

    def _budget(self) -> int:
        """Plans must cost less."""
        if self._cost is not None:
            return self._cost
        domains = self._problem.domains.values()
        return 1 + sum(max(span.family.microusd_per_hour * span.most for span in own) for own in domains)

    def _raise_bound(self, bound: int) -> None:
        self._lower_bound = max(self._lower_bound, bound)
        if self._cost is not None:
            self._lower_bound = min(self._lower_bound, self._cost)

    def _replays_of(self, problem: RefinementProblem, params: CacheParams | None = None) -> StageReplays:
        fifo = self.discipline == Discipline.FIFO
        return StageReplays(problem.workload, self._engine, fifo=fifo, params=params or CacheParams())

    def _work_until(self, share: float, most_stage_replays: float = float("inf")) -> WorkLimit:
        return WorkLimit(self._counters, self.limits.deadline.share(share), most_stage_replays)

    def _concluded(self, proof: str | None, why: str | None = None) -> Plan:
        """The best plan with what is proven about it; without any, the reason."""
        # Whoever asks for many plans must hear of Ctrl-C, which a plan that is proven does not tell.
        if self._lower_bound == self._cost and self._stopped is Limit.TIME:
            proof = OPTIMAL
        made = conclude(self.base, self._choices, self._lower_bound, proof == OPTIMAL, self._stopped, why)
        done, proof = self._counters, proof if made.choices else None
        counts = done.replays, done.stage_replays, done.refuted
        record = Refinement(Discipline(self.discipline).value, proof, None, *counts)
        at_hand, limits = (self.samples, self._workloads), (self._ends, self._setup_s)
        try:
            return record_refinement(made, *at_hand, record, self.engine, *limits)
        except KeyboardInterrupt:  # what was found stands
            if are_timed(made.laws):  # unless nothing is certified without its replay
                raise
        provenance = replace(made.provenance, refinement=record)
        return replace(made, provenance=provenance, limit=Limit.INTERRUPT)
