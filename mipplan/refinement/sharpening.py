"""`mipplan.sharpen`: a plan in, the cheapest plan that the sharp certificate certifies out.

The sharp certificate is not monotone, so no cuts hold for it. The planner's programs propose: paced plans with more
replicas where they need them, classic ones for looser objectives; and so does greedy, for tighter ones. The certificate
disposes; refinement's neighbourhoods make the cheapest cheaper, and its exact search proves, with the certificate of a
part in the place of its replay.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

import numpy as np

from mipplan.baselines import inferline
from mipplan.certificate import certified_on, join_figures
from mipplan.core import (
    MICRODOLLARS_PER_DOLLAR,
    NS_PER_S,
    Deadline,
    Faults,
    LimitReachedError,
    SearchLimits,
    check_kinds,
    check_time_limit,
    first_true,
)
from mipplan.options import Configuration, Option, check_names, joint_demand
from mipplan.pipeline import Discipline, DispatchLaw
from mipplan.planner import PlanMaker, PlanningParams, uninterrupted
from mipplan.refinement.certificates import StageCertificates
from mipplan.refinement.evaluation import ReplayOracle, ScreenParams, StageAlone, WorkLimit
from mipplan.refinement.heuristics import Heuristics, RefinementParams
from mipplan.refinement.problem import RefinementProblem, find_options
from mipplan.refinement.refining import Refining
from mipplan.refinement.request import check_sharpening, over_variants
from mipplan.refinement.result import OPTIMAL
from mipplan.refinement.samples import pivot_first
from mipplan.replayer import CacheParams, StageReplays
from mipplan.result import (
    CertificateKind,
    Figures,
    Guarantee,
    Limit,
    Plan,
    PlanStatus,
    Provenance,
    RunClass,
    check_runs,
)
from mipplan.tokens import find_samples
from mipplan.trace import Trace

#: A proposal that is infeasible needs no reason, and among many options the best is not worth its time.
_PROPOSING = PlanningParams(diagnosis_s=0.0, first_s=0.0, most_options=10_000)

#: Screens are smaller than where plans are replayed, because a bound takes a hundred times as long as a replay.
_REFINEMENT = RefinementParams(screen=ScreenParams(longest_unscreened=4_000, queries=2_500, block=250))


@dataclass(frozen=True)
class SharpeningParams:
    """Where proposals come from, and how the time is divided."""

    proposed_by: tuple[float, float, float] = (0.15, 0.08, 0.08)
    """By the end of these shares of the time left when their turn comes, paced, classic and greedy plans must have been
    proposed: small steps lead further. Before there is any plan they may take all the time for finding plans."""
    proposal_share: float = 0.3  # Of the time left for proposals of a kind, for making one.
    # Paced plans for these shares of the objective, as long as they are cheaper than the best plan.
    pacings: tuple[float, ...] = (1.0, 0.85, 0.7)
    largest_lift: float = 6.0  # They get up to 6 times as many replicas.
    lifts: int = 12  # Steps from once to that, each by the same factor.
    loosest: float = 6.0
    """Classic plans are made for up to 6 times the objective, because beyond that none has passed."""
    loosenings: int = 6  # Steps of the bisection between the objective and that.
    # Greedy plans for these shares of the objective: the certificate is mostly within a few times the replay.
    tightenings: tuple[float, ...] = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)


def sharpen(
    plan: Plan,
    trace: Trace | Sequence[Trace],
    *,
    runs: RunClass | None = None,
    time_limit_s: float | None = 60.0,
    progress: Callable[[str], None] | None = None,
) -> Plan:
    """Find the cheapest stable plan whose *sharp* certificate keeps the objective on a trace, or on each of several.

    Parameters
    ----------
    plan : Plan
        What to plan for: pipeline, profiles and objective. Its choices, if any, are a first plan if they are certified.
        A plan of the classic certificate is, unless with ``ties="any"`` a source takes one token at a time (where the
        classic one rests on token order); so the plan found is never dearer. If the time is up before that was
        evaluated, such a plan is returned with its classic certificate.
    trace : Trace, or sequence of Trace
        Before headroom, as it was given to `mipplan.plan`; each with every seed of the plan.
    runs : RunClass, optional
        The runs that the certificate is to hold for; by default the plan's own, or else those of the serving model in
        which batches may finish early.
    time_limit_s : float or None
        Wall-clock limit; the best plan by then is returned with a proven lower bound.
    progress : callable, optional
        Called with one line of text as the work proceeds.

    Returns
    -------
    Plan
        Always. `status` is ``optimal`` if every cheaper plan of the option set was refuted; ``feasible`` if some were
        left; ``infeasible`` if all were refuted; ``unknown`` if no plan was found. Its bound is None: that of the
        program is no relaxation of this certificate.

    Raises
    ------
    InputError
        Listing every bad argument; also if the plan's guarantee is not that of its trace, or it has a budget.

    References
    ----------
    [Theorem (latest dispatch)][theorem-latest-dispatch], and what holds although it is [not monotone][not-monotone].
    """
    started = time.monotonic()
    base = _stated(plan, trace, runs, time_limit_s)
    limits = SearchLimits(Deadline.after(time_limit_s, started), progress or (lambda _: None))
    return over_variants(base, partial(_sharpening, plan, trace), limits)


def sharpen_alike(
    plan: Plan,
    trace: Trace | Sequence[Trace],
    *,
    runs: RunClass | None,
    time_limit_s: float | None,
    progress: Callable[[str], None] | None,
) -> Plan:
    """Sharpen among the variants that make the tokens which those make that the pipeline runs; see `sharpen`."""
    started = time.monotonic()
    limits = SearchLimits(Deadline.after(time_limit_s, started), progress or (lambda _: None))
    return _sharpening(plan, trace, _stated(plan, trace, runs, time_limit_s), limits)()


def _sharpening(
    first: Plan, trace: Trace | Sequence[Trace], asked: Plan, limits: SearchLimits
) -> Callable[[], Plan]:
    samples = [sample.scaled(asked.headroom) for sample in pivot_first(first, asked, trace)]
    return Sharpening(asked, samples, Discipline.OLDEST_FIRST, "auto", limits).run


def _stated(
    plan: Plan, trace: Trace | Sequence[Trace], runs: RunClass | None, time_limit_s: float | None
) -> Plan:
    """The question as a plan with the given choices; raises `InputError` with every fault."""
    check_kinds(plan=(plan, Plan))
    faults = Faults()
    faults.take(lambda: check_sharpening(plan))
    faults.take(lambda: check_runs(runs))
    faults.take(lambda: check_time_limit(time_limit_s))
    faults.take(lambda: check_names(plan.pipeline, plan.profiles))
    faults.take(lambda: find_samples(plan.pipeline, trace, plan.seed, plan.seeds))
    faults.check()
    objective = replace(
        plan.objective,
        guarantee=Guarantee.TRACE,
        certificate=CertificateKind.SHARP,
        runs=runs or plan.runs or RunClass(),
    )
    return replace(
        plan,
        objective=objective,
        status=PlanStatus.UNKNOWN,
        figures=Figures(plan.microusd_per_hour, 0),
        provenance=Provenance.on(trace, plan.formulation, plan.solver),
        reason=None,
        limit=None,
    )


@dataclass(eq=False)
class Sharpening(Refining):
    """One search under way, of a plan whose objective is what is asked for."""

    params: RefinementParams = _REFINEMENT
    sharpening: SharpeningParams = SharpeningParams()

    def __post_init__(self) -> None:
        super().__post_init__()
        every = (self._replays, *(one.replays for one in self._others.samples))
        #: Of each sample, in their order.
        self._certificates = [one for one in every if isinstance(one, StageCertificates)]
        self._certified: tuple[Configuration | None, Sequence[int]] = None, ()

    def _demand(self) -> Mapping[str, Fraction]:
        return joint_demand(self._workloads)

    def _replays_of(self, problem: RefinementProblem, params: CacheParams | None = None) -> StageReplays:
        replays = super()._replays_of(problem, params)
        return StageCertificates(problem, replays, self.base.runs or RunClass())

    def _try_given(self, limit: WorkLimit | None = None) -> None:
        # Unlike a replay, this may take a minute.
        super()._try_given(limit or self._work_until(1.0))
        self._certify()

    def _take(self, plan: Configuration) -> bool:
        counts = super()._take(plan)
        self._certify()
        return counts

    def _certify(self) -> Sequence[int]:
        """What is certified of the best plan, noted while its bounds are at hand: Ctrl-C may come in between."""
        if self._best is not None and self._best is not self._certified[0]:
            self._certified = self._best, [each.certificate_ns(self._best) for each in self._certificates]
        return self._certified[1]

    def _is_certified(self, made: Configuration) -> bool:  # noqa: ARG002
        return False  # Not by this certificate, until it is evaluated.

    def _keeps_unoffered(self) -> bool:
        return False

    def _improve(self) -> None:
        """Let others propose plans, and make the best cheaper."""
        shares = self.sharpening.proposed_by
        for propose, share in zip((self._pace, self._loosen, self._tighten), shares, strict=True):
            try:
                propose(self._work_until(share))
            except LimitReachedError:
                self.limits.report("the time for these proposals is over")
        super()._improve()

    def _allowed(self, own: WorkLimit) -> WorkLimit:
        """What a proposal may use: all that there is for finding plans, as long as there is none."""
        limit = self._improving if self._cost is None else own
        limit.spend(0)
        return limit

    def _find_first(self, stages: dict[str, StageAlone], oracle: ReplayOracle, limit: WorkLimit) -> None:
        # What replays promise is mostly too little here: where others proposed a plan it leads further.
        if self._cost is None:
            super()._find_first(stages, oracle, limit)

    def _cheapen(self, heuristics: Heuristics, first: Configuration) -> None:
        # Drafts bound every stage under dozens of options: small steps lead further in the same time, at first.
        super()._cheapen(heuristics, heuristics.settle(first, (1, 2), np.random.default_rng(0)) or first)

    def _pace(self, own: WorkLimit) -> None:
        """Take paced plans, for the objective and for tighter ones, with more replicas where they need them."""
        maker = self._maker(
            dict.fromkeys(self.base.pipeline.stages, DispatchLaw.PACED), SearchLimits(), _PROPOSING
        )
        for share in self.sharpening.pacings:
            self.limits.report(f"proposing a paced plan for {share:.0%} of the objective")
            proposed = self._options_of(self._made(maker, share, own))
            if proposed is None:
                return
            self._lift(proposed, own)

    def _lift(self, proposed: Configuration, own: WorkLimit) -> None:
        """Give all stages alike more replicas, the fewest that certify the plan; then take away what can go."""
        domains = self._problem.domains
        most = {(stage, id(span.family)): span.most for stage, domain in domains.items() for span in domain}

        def lifted(step: int) -> Configuration:
            factor = self.sharpening.largest_lift ** (step / self.sharpening.lifts)
            return Configuration(
                (stage, Option(family, min(most[stage, id(family)], math.ceil(factor * replicas))))
                for stage, (family, replicas) in proposed.items()
            )

        # What costs too much needs no certificate, nor does what is dearer yet.
        plan = lifted(
            first_true(
                0,
                self.sharpening.lifts,
                lambda step: self._is_dear(lifted(step)) or self._keeps(lifted(step), own),
            )
        )
        if not self._is_dear(plan) and self._keeps(plan, own):
            self._take(plan)
            for stage in sorted(plan, key=lambda stage: -plan[stage].microusd_per_hour):
                plan = self._with_fewest(plan, stage, own)

    def _with_fewest(self, plan: Configuration, stage: str, own: WorkLimit) -> Configuration:
        """Take replicas from one stage of a certified plan, as many as can go."""
        family, replicas = plan[stage]

        def fewer(number: int) -> Configuration:
            return plan.replaced(stage, Option(family, number))

        fewest = first_true(family.fewest, replicas, lambda number: self._keeps(fewer(number), own))
        if fewest == replicas:
            return plan
        self._take(fewer(fewest))
        return fewer(fewest)

    def _keeps(self, plan: Configuration, own: WorkLimit) -> bool:
        limit = self._allowed(own)
        return self._screening.keeps(plan, limit) and self._others.keep(plan, limit)

    def _is_dear(self, plan: Configuration) -> bool:
        """Whether a plan costs no less than the best one."""
        return self._cost is not None and plan.microusd_per_hour >= self._cost

    def _loosen(self, own: WorkLimit) -> None:
        """Take classic plans for looser objectives: by bisection of how much looser."""
        maker = self._maker(self.base.laws, SearchLimits(), _PROPOSING)
        low, high = 1.0, self.sharpening.loosest
        for _ in range(self.sharpening.loosenings):
            factor = math.sqrt(low * high)
            self.limits.report(f"proposing a classic plan for {factor:.3g} times the objective")
            made = self._made(maker, factor, own)
            cost = made.microusd_per_hour
            # Looser ones are cheaper, and there may be some where there is none for this objective.
            is_dear = cost is None or (self._cost is not None and cost >= self._cost)
            if is_dear or self._certifies(made, own):
                low = factor
            else:
                high = factor

    def _made(self, maker: PlanMaker, factor: float, own: WorkLimit) -> Plan:
        """Return what is found quickly for so many times the objective."""
        deadline = self._allowed(own).deadline.share(self.sharpening.proposal_share)
        objective_ns = max(1, round(factor * self._problem.deadline_ns))
        return uninterrupted(maker.within(objective_ns, deadline).cheapest())

    def _options_of(self, made: Plan) -> Configuration | None:
        """A proposed plan in terms of the options here; None if there is none, or it is too dear or refuted already."""
        found = find_options(self._problem.domains, made.choices) if made.choices else None
        return None if found is None or self._is_dear(found) else found

    def _tighten(self, own: WorkLimit) -> None:
        """Take the cheapest of greedy's plans for tighter objectives that is certified."""
        for share in self.sharpening.tightenings:
            self.limits.report(f"proposing greedy's plan for {share:.0%} of the objective")
            pivot = self.samples[0]
            made = inferline(
                self.base.pipeline,
                self.base.profiles,
                pivot.trace,
                slo_s=max(1, round(share * self._problem.deadline_ns)) / NS_PER_S,
                quantile=self.base.quantile,
                seed=pivot.seed,
                time_limit_s=self._allowed(own).deadline.limit_s(0.1),
            )
            if self._certifies(uninterrupted(made), own):
                return

    def _certifies(self, made: Plan, own: WorkLimit) -> bool:
        """Whether a proposed plan is certified and cheaper than the best; then it is the best."""
        found = self._options_of(made)
        return found is not None and self._keeps(found, own) and self._take(found)

    def _concluded(self, proof: str | None, why: str | None = None) -> Plan:
        """The best plan with what is proven about it; without any, the reason."""
        base, proven = replace(self.base, choices=self._choices, figures=Figures()), proof == OPTIMAL
        if self._choices:
            found = [replace(base.figures, certificate_ns=own_ns) for own_ns in self._certify()]
            made = replace(base, figures=join_figures(self.samples, found))
            bound = made.microusd_per_hour if proven else self._lower_bound
            made = replace(made, figures=replace(made.figures, lower_bound_microusd_per_hour=bound))
            if proven:
                return replace(made, status=PlanStatus.OPTIMAL)
            reason = (
                f"{self._ended()}: plans that cost from {self._lower_bound / MICRODOLLARS_PER_DOLLAR:.4g} $/h up to "
                "this one's cost were not all refuted"
            )
            return replace(made, status=PlanStatus.FEASIBLE, reason=reason, limit=self._stopped)
        if proven:
            nothing = (
                "every plan within the limits was refuted, by its certificate, its replay or without either"
            )
            return replace(base, status=PlanStatus.INFEASIBLE, reason=why or nothing)
        figures = Figures(lower_bound_microusd_per_hour=self._lower_bound)
        if (classic := self._given_as_classic(figures)) is not None:
            return classic
        reason = f"{self._ended()} before any plan was found whose sharp certificate keeps the objective"
        return replace(base, status=PlanStatus.UNKNOWN, figures=figures, reason=reason, limit=self._stopped)

    def _given_as_classic(self, figures: Figures) -> Plan | None:
        """The given plan with the figures of its classic certificate; None if that does not keep the objective."""
        base, choices = self.base, self.base.choices
        made = find_options(self._problem.domains, choices) if choices else None
        if made is None or not self._problem.allows(made) or not (base.runs or RunClass()).is_settled:
            return None
        if not super()._is_certified(made):
            return None
        objective = replace(base.objective, certificate=CertificateKind.CLASSIC, runs=None)
        reason = f"{self._ended()} before the sharp certificate of the given plan was known: this is its classic one"
        status, limit = PlanStatus.FEASIBLE, self._stopped
        given = replace(base, objective=objective, status=status, figures=figures, reason=reason, limit=limit)
        return replace(given, figures=certified_on(given, self.samples, self._workloads))

    def _ended(self) -> str:
        return "it was interrupted" if self._stopped is Limit.INTERRUPT else "the time was up"
