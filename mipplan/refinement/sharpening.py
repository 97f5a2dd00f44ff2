"""`mipplan.sharpen`: a plan in, the cheapest plan that the sharp certificate certifies out.

The sharp certificate is not monotone, so no cuts hold for it. The planner's programs propose, for looser
objectives, and so does greedy, for tighter ones; the certificate disposes; refinement's neighbourhoods make the best
cheaper, and its exact search proves, with the certificate of a part in the place of its replay.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from mipplan.baselines import inferline
from mipplan.certificate import certified_on
from mipplan.core import (
    MICRODOLLARS_PER_DOLLAR,
    NS_PER_S,
    Deadline,
    Faults,
    InputError,
    SearchLimits,
    check_time_limit,
)
from mipplan.options import Configuration, check_names, joint_demand
from mipplan.pipeline import Discipline, are_timed
from mipplan.planner import PlanMaker, PlanningParams
from mipplan.refinement.certificates import StageCertificates
from mipplan.refinement.evaluation import LimitReachedError, ReplayOracle, WorkLimit
from mipplan.refinement.heuristics import Heuristics
from mipplan.refinement.problem import RefinementProblem, find_options
from mipplan.refinement.refining import Refining
from mipplan.refinement.result import OPTIMAL
from mipplan.refinement.samples import pivot_first
from mipplan.replayer import CacheParams, StageReplays
from mipplan.result import (
    CertificateKind,
    Choice,
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

#: A proposal that is infeasible needs no reason.
_PROPOSING = PlanningParams(diagnosis_s=0.0)


@dataclass(frozen=True)
class SharpeningParams:
    """Where proposals come from, and how the time is divided."""

    proposed_by: float = 0.4
    """By the end of this share of the time limit proposals must be done: neighbourhoods lead further."""
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
        classic one rests on token order); so the plan found is never dearer.
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
    faults = Faults()
    faults.take(lambda: _check_objective(plan))
    faults.take(lambda: check_runs(runs))
    faults.take(lambda: check_time_limit(time_limit_s))
    faults.take(lambda: check_names(plan.pipeline, plan.profiles))
    found = faults.take(lambda: find_samples(plan.pipeline, trace, plan.seed, plan.seeds))
    faults.check()
    objective = replace(
        plan.objective,
        guarantee=Guarantee.TRACE,
        certificate=CertificateKind.SHARP,
        runs=runs or plan.runs or RunClass(),
    )
    base = replace(
        plan,
        objective=objective,
        status=PlanStatus.UNKNOWN,
        figures=Figures(plan.microusd_per_hour, 0),
        provenance=Provenance.on(trace, plan.formulation, plan.solver),
        reason=None,
        limit=None,
    )
    limits = SearchLimits(Deadline.after(time_limit_s, started), progress or (lambda _: None))
    samples = [sample.scaled(plan.headroom) for sample in pivot_first(plan, found.value)]
    return Sharpening(base, samples, Discipline.OLDEST_FIRST, "auto", limits).run()


def _check_objective(plan: Plan) -> None:
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
    if plan.budget_microusd_per_hour is not None:
        raise InputError.one(
            "plan", "is the fastest within a budget, which goes with the classic certificate only"
        )


@dataclass(eq=False)
class Sharpening(Refining):
    """One search under way, of a plan whose objective is what is asked for."""

    sharpening: SharpeningParams = SharpeningParams()

    def _demand(self) -> Mapping[str, Fraction]:
        return joint_demand(self._workloads)

    def _replays_of(self, problem: RefinementProblem, params: CacheParams | None = None) -> StageReplays:
        replays = super()._replays_of(problem, params)
        return StageCertificates(problem, replays, self.base.runs or RunClass())

    def _try_given(self) -> None:
        """Take the choices of the given plan, if they are certified."""
        found = find_options(self._problem.domains, self.base.choices) if self.base.choices else None
        is_certified = found is not None and self._is_certified(
            self.base.choices, ReplayOracle(self._problem, self._replays), WorkLimit(self._counters)
        )
        if self.base.choices and not is_certified:
            self.limits.report("the given plan is not certified")

    def _improve(self) -> None:
        """Let others propose plans, and make the best cheaper."""
        whole = ReplayOracle(self._problem, self._replays)
        limit = self._work_until(self.sharpening.proposed_by)
        try:
            self._loosen(whole, limit)
            for proposed in self._tightened(limit):
                if self._is_certified(proposed, whole, limit):
                    break
        except LimitReachedError:
            self.limits.report("no time left for proposals")
        super()._improve()

    def _cheapen(self, heuristics: Heuristics, first: Configuration) -> None:
        # Drafts would bound every stage under dozens of options: small steps lead further in the same time.
        heuristics.settle(first, (1, 2), np.random.default_rng(0))

    def _loosen(self, oracle: ReplayOracle, limit: WorkLimit) -> None:
        """Take classic plans for looser objectives: by bisection of how much looser."""
        low, high = 1.0, self.sharpening.loosest
        for _ in range(self.sharpening.loosenings):
            factor = math.sqrt(low * high)
            self.limits.report(f"proposing a classic plan for {factor:.3g} times the objective")
            limit.spend(0)
            left = SearchLimits(limit.deadline.share(1 / self.sharpening.loosenings))
            asked = self._asked(factor)
            proposed = PlanMaker(asked, left, _PROPOSING).cheapest()
            if proposed.choices and not self._is_certified(proposed.choices, oracle, limit):
                high = factor
            else:
                low = factor

    def _asked(self, factor: float) -> Plan:
        """The same request, of a classic plan, for a looser objective; the traffic has its headroom already."""
        objective = replace(
            self.base.objective,
            slo_ns=max(1, round(self._problem.deadline_ns * factor)),
            margin_ns=0,
            headroom=1.0,
            certificate=CertificateKind.CLASSIC,
            runs=None,
        )
        traces = {sample.number: sample.trace for sample in self.samples}
        provenance = Provenance.on(list(traces.values()), self.base.formulation, self.base.solver)
        return replace(self.base, objective=objective, choices={}, provenance=provenance, figures=Figures())

    def _tightened(self, limit: WorkLimit) -> Iterator[Mapping[str, Choice]]:
        """Greedy plans for tighter objectives, the cheapest first."""
        for share in self.sharpening.tightenings:
            self.limits.report(f"proposing greedy's plan for {share:.0%} of the objective")
            limit.spend(0)
            left_s = limit.deadline.left_s(0.1)
            pivot = self.samples[0]
            proposed = inferline(
                self.base.pipeline,
                self.base.profiles,
                pivot.trace,
                slo_s=share * self._problem.deadline_ns / NS_PER_S,
                quantile=self.base.quantile,
                seed=pivot.seed,
                time_limit_s=None if math.isinf(left_s) else left_s,
            )
            if proposed.choices:
                yield proposed.choices

    def _is_certified(self, choices: Mapping[str, Choice], oracle: ReplayOracle, limit: WorkLimit) -> bool:
        """Whether proposed choices are certified; then they count."""
        found = find_options(self._problem.domains, choices)
        if found is None or not (oracle.keeps(found, limit) and self._others.keep(found, limit)):
            return False
        return self._take(found)

    def _concluded(self, proof: str | None, why: str | None = None) -> Plan:
        """The best plan with what is proven about it; without any, the reason."""
        base, proven = replace(self.base, choices=self._choices, figures=Figures()), proof == OPTIMAL
        if self._choices:
            made = replace(base, figures=certified_on(base, self.samples, self._workloads))
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
        reason = f"{self._ended()} before any plan was found whose sharp certificate keeps the objective"
        return replace(base, status=PlanStatus.UNKNOWN, figures=figures, reason=reason, limit=self._stopped)

    def _ended(self) -> str:
        return "it was interrupted" if self._stopped is Limit.INTERRUPT else "the time was up"
