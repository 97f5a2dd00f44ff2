"""The phases of a refinement: exclude, find a cheap plan, make it cheaper, prove.

Every phase starts from the best plan of those before. A limit or Ctrl-C ends the phase that is under way.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from mipplan.core import MICRODOLLARS_PER_DOLLAR, NS_PER_S, format_duration
from mipplan.refinement.conditions import Known, Narrowed, narrow
from mipplan.refinement.domains import Domains, Options, Problem, cost_of, least_cost, options_of
from mipplan.refinement.drafts import redraft
from mipplan.refinement.judging import Judge, Screen
from mipplan.refinement.meter import Meter, OutOfAllowanceError, Tally
from mipplan.refinement.neighbourhoods import improve
from mipplan.refinement.outcome import ASSUMING, OPTIMAL, Outcome
from mipplan.refinement.screening import screen
from mipplan.refinement.search import Search
from mipplan.refinement.stage_runs import StageReplays
from mipplan.refinement.starts import (
    StageAlone,
    fastest_plan,
    propose_plans,
    study_stages,
    sufficient_domains,
)
from mipplan.replayer import Discipline, replay_many, resolve_engine
from mipplan.result import Choice, Plan, PlanStatus
from mipplan.trace import Trace

if TYPE_CHECKING:
    from mipplan.replayer import Engine

#: Shares of the time limit by whose end looking for better plans, and then the search on trust, must be done.
_IMPROVED_BY = 0.85
_TRUSTED_BY = 0.92
#: Stage replays of the search on trust, so that without a time limit it ends as well.
_MOST_TRUSTED = 400_000
#: Budgets of the proof, as shares of the way from the lower bound to the best plan.
_PROOF_STEPS = (0.25, 0.5, 0.75, 1.0)
#: To this share of itself the cost is found up to which conditions alone refute every plan.
_BOUND_PRECISION = 200


class Refining:
    """One refinement under way.

    Parameters
    ----------
    base : Plan
        The plan to start from, objective and seed as asked.
    trace : Trace
    problem : Problem
    discipline : Discipline
    engine : str
    ends_at : float
        By `time.monotonic`.
    report : callable
    """

    def __init__(
        self,
        base: Plan,
        trace: Trace,
        problem: Problem,
        discipline: Discipline,
        engine: str,
        ends_at: float,
        report: Callable[[str], None],
    ) -> None:
        self._base = base
        self._trace = trace
        self._problem = problem
        self._discipline = discipline
        self._engine: Engine = resolve_engine(engine, frozenset())
        self._started, self._ends_at = time.monotonic(), ends_at
        self._report = report
        self._tally = Tally()
        self._replays = self._replays_of(problem)
        self._choices: dict[str, Choice] = {}
        self._options: Options | None = None
        self._cost: int | None = None
        self._lower_bound = 0
        self._known: Known = {}
        self._sufficient: Domains | None = None
        self._stopped = ""

    def run(self) -> Outcome:
        """Go through the phases."""
        excluded: Narrowed | None = None
        proof: str | None = None
        try:
            self._try_given()
            excluded = narrow(self._problem, None, self._known)
            self._tally.refuted += excluded.refuted
            if excluded.blocked is None:
                self._problem = excluded.problem
                self._raise_bound(sum(least_cost(domain) for domain in self._problem.domains.values()))
                proof = self._look_and_prove()
        except KeyboardInterrupt:
            self._stopped = "it was interrupted"
        if excluded is not None and excluded.blocked is not None:
            return self._outcome(OPTIMAL, self._why_blocked(excluded.blocked))
        return self._outcome(proof, None)

    def _look_and_prove(self) -> str | None:
        self._improve()
        self._bound()
        proof = ASSUMING if self._trusting_search() else None
        return OPTIMAL if self._prove() else proof

    def _try_given(self) -> None:
        """Take the choices of the given plan, if they keep the deadline."""
        choices = self._base.choices
        if not choices:
            return
        (verdict,) = replay_many(
            [self._base],
            self._trace,
            discipline=self._discipline,
            engine=self._engine.name,
            slo_s=self._problem.deadline_ns / NS_PER_S,
            quantile=self._base.quantile,
        )
        self._tally.replays += 1
        self._report(f"the given plan {'keeps' if verdict.keeps else 'does not keep'} the objective")
        if verdict.keeps:
            cost = self._base.microusd_per_hour
            self._choices, self._cost = dict(choices), cost
            self._options = options_of(self._problem.domains, choices)

    def _improve(self) -> None:
        """Find a first plan if there is none, and make it cheaper."""
        meter = self._meter(_IMPROVED_BY)
        whole = Judge(self._problem, self._replays)
        part = screen(self._problem)
        replays = self._replays if part is None else self._replays_of(part)
        screening = Screen(whole if part is None else Judge(part, replays), whole)

        def accept(options: Options) -> bool:
            if not screening.confirms(options, meter):
                return False
            self._take(options)
            return True

        try:
            stages = study_stages(part or self._problem, replays, self._base.quantile, meter)
            if stages is None:
                return
            if part is None:
                self._sufficient = {stage: alone.domain for stage, alone in stages.items()}
            self._first_plans(stages, whole, meter)
            if self._options is not None:
                first = self._options
                drafted = redraft(lambda: screening.problem, stages, replays, first, meter, accept)
                # Drafts lead far and fast, and not always to where small steps from the first plan would.
                starts = [drafted] if drafted is first else [drafted, first]
                improve(lambda: screening.problem, stages, replays, starts, meter, accept)
        except OutOfAllowanceError:
            self._report("no time left to look for cheaper plans")

    def _first_plans(self, stages: dict[str, StageAlone], judge: Judge, meter: Meter) -> None:
        """Cheapest of the plans that weigh cost against time; the fastest plan if none of them will do."""
        for options in propose_plans(stages):
            if self._cost is not None and cost_of(options) >= self._cost:
                return
            if judge.keeps(options, meter):
                self._take(options)
                return
        if self._cost is None:
            options = fastest_plan(self._problem)
            if judge.keeps(options, meter):
                self._take(options)

    def _trusting_search(self) -> bool:
        """Search everything that could be cheaper, on trust; whether that was done to the end."""
        meter = self._meter(_TRUSTED_BY)
        meter.most_stage_replays = _MOST_TRUSTED
        domains = self._sufficient
        try:
            if domains is None:
                domains = sufficient_domains(self._problem, self._replays, meter)
        except OutOfAllowanceError:
            return False
        if domains is None:
            return True
        return self._search(replace(self._problem, domains=domains), self._budget(), meter, trusting=True)

    def _prove(self) -> bool:
        """Search everything that could be cheaper, without trust, the cheapest first; whether to the end."""
        meter = self._meter(1.0)
        start, end = self._lower_bound, self._budget()
        for step in _PROOF_STEPS:
            if self._cost is None and step < 1:
                continue
            if self._lower_bound == self._cost:
                return True
            budget = min(self._budget(), start + round(step * (end - start)))
            if not self._search(self._problem, budget, meter, trusting=False):
                return False
            self._raise_bound(budget)
        return True

    def _bound(self) -> None:
        """Raise the lower bound by conditions alone: by bisection, to where they no longer refute every plan."""
        low, high = self._lower_bound, self._budget()
        while self._cost is not None and high - low > max(1, high // _BOUND_PRECISION):
            middle = (low + high) // 2
            if narrow(self._problem, middle, self._known).blocked is not None:
                low = middle
            else:
                high = middle
            if time.monotonic() >= self._ends_at:
                break
        self._raise_bound(low)

    def _search(self, problem: Problem, budget: int, meter: Meter, *, trusting: bool) -> bool:
        narrowed = narrow(problem, budget, self._known)
        if narrowed.blocked is not None:
            return True
        search = Search(
            problem, narrowed.problem.domains, self._replays, meter, trusting, accept=self._accept
        )
        try:
            search.run(budget)
        except OutOfAllowanceError:
            return False
        return True

    def _accept(self, options: Options) -> bool:
        self._take(options)
        return True

    def _take(self, options: Options) -> None:
        cost = cost_of(options)
        if self._cost is None or cost < self._cost:
            in_file_order = self._base.pipeline.stages
            self._choices = {stage: options[stage].choice for stage in in_file_order}
            self._options, self._cost = dict(options), cost
            self._report(f"found a plan of {cost / MICRODOLLARS_PER_DOLLAR:.4g} $/h")

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

    def _replays_of(self, problem: Problem) -> StageReplays:
        fifo = self._discipline is Discipline.FIFO
        return StageReplays(problem.workload, self._engine, fifo=fifo)

    def _meter(self, share: float) -> Meter:
        return Meter(self._tally, self._started + share * (self._ends_at - self._started))

    def _why_blocked(self, stage: str) -> str:
        limit = format_duration(self._problem.deadline_ns)
        return (
            f"no option of stage {stage!r} can keep {limit}: whatever the other stages run on, its batch latencies "
            "and theirs, or its capacity within its limits, make too many queries late"
        )

    def _outcome(self, proof: str | None, why: str | None) -> Outcome:
        if proof == OPTIMAL:
            if self._cost is None:
                reason = (
                    why or "every plan within the limits was replayed, or refuted without, and none will do"
                )
                return Outcome(PlanStatus.INFEASIBLE, {}, None, None, reason, self._tally)
            return Outcome(PlanStatus.OPTIMAL, self._choices, self._cost, proof, None, self._tally)
        stopped = self._stopped or "the time was up"
        if self._cost is None:
            reason = f"{stopped} before any plan was found that keeps the objective in replay"
            return Outcome(PlanStatus.UNKNOWN, {}, self._lower_bound, None, reason, self._tally)
        reason = (
            f"{stopped}: plans that cost from {self._lower_bound / MICRODOLLARS_PER_DOLLAR:.4g} $/h up to this "
            "one's cost were not all refuted"
        )
        return Outcome(PlanStatus.FEASIBLE, self._choices, self._lower_bound, proof, reason, self._tally)
