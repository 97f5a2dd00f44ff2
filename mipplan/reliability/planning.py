"""The cheapest plan found that keeps the objective in a stated share of tomorrow's scenarios, tested on fresh ones.

A plan is chosen so that it keeps the objective on the given traces and in *all* of 2/(1 − confidence) scenarios. A plan
that is fitted to N scenarios of which few decide misses about one more in N: so it should keep somewhat more than the
share asked for (Campi and Garatti 2008 make that exact for convex problems; ours is not, hence the test). It is tested
on fresh scenarios. If it fails, the scenarios that it missed are added to those chosen on, and the next plan is tested
on others: no scenario of a test ever was one to choose on.

References
----------
M. C. Campi, S. Garatti, "The exact feasibility of randomized solutions of uncertain convex programs", *SIAM Journal on
Optimization* 19 (2008), [doi:10.1137/07069821X](https://doi.org/10.1137/07069821X).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from mipplan.certificate import certified_on, join_figures
from mipplan.core import (
    Deadline,
    Fault,
    Faults,
    LimitReachedError,
    SearchLimits,
    check_seed,
    format_duration,
    is_finite,
    shown,
)
from mipplan.pipeline import are_timed
from mipplan.refinement import WorkLimit
from mipplan.reliability.judges import Choices, Judges, ServiceDraws
from mipplan.reliability.scenarios import Scenario, ScenarioSource
from mipplan.reliability.search import NoPlanKeepsError, ScenarioSearch
from mipplan.reliability.testing import ReliabilityTest, fewest_scenarios
from mipplan.replayer import replay
from mipplan.result import Figures, Limit, Plan, PlanStatus, Reliability
from mipplan.tokens import check_seeds, find_samples
from mipplan.trace import Trace


@dataclass(frozen=True)
class ReliabilityParams:
    """How many scenarios plans are chosen on, and how the time is divided."""

    per_miss: float = 2.0
    """2/(1 − confidence) scenarios: the two misses that so many would hold at the share asked for are none."""
    most: int = 400
    """At most 400 scenarios are chosen on at first; those that tests missed are added."""
    searched_by: float = 0.7
    """By the end of this share of the time that is left a plan must be chosen, to leave time for its test."""


def check_reliability(confidence: object, drift: object, seeds: object) -> None:
    """Refuse what no reliability can be asked for by.

    Raises `InputError` listing every fault.
    """
    faults = Faults()
    if confidence is not None and (not is_finite(confidence) or not 0.0 < confidence < 1.0):
        message = f"expected a share of scenarios between 0 and 1 such as 0.95, found {shown(confidence)}"
        faults.add(Fault("confidence", message))
    if drift is not None and (not is_finite(drift) or not 0.0 <= drift <= 1.0):
        message = f"expected a share of the rate from 0 to 1 such as 0.1, found {shown(drift)}"
        faults.add(Fault("drift", message))
    faults.take(lambda: check_seeds(seeds))
    faults.check()


def plan_reliably(
    asked: Plan,
    traces: Sequence[Trace],
    confidence: float = 0.95,
    drift: float | None = None,
    seeds: int = 1,
    *,
    time_limit_s: float | None = 60.0,
    progress: Callable[[str], None] | None = None,
    params: ReliabilityParams = ReliabilityParams(),
) -> Plan:
    """Find the cheapest plan that keeps the objective in a share of tomorrow's scenarios, and test it.

    Parameters
    ----------
    asked : Plan
        What to plan for: pipeline, profiles, objective with laws and discipline; its choices, if any, are where the
        search begins.
    traces : sequence of Trace
        Samples of the traffic, at least one. The plan must keep the objective on each as it is, too.
    confidence, drift, seeds
        As for `mipplan.plan`.
    time_limit_s : float or None
        Wall-clock limit on search and test.
    progress : callable, optional
        Called with one line of text as the work proceeds.
    params : ReliabilityParams
        How many scenarios are chosen on, and how the time is divided.

    Returns
    -------
    Plan
        Always, with `reliability` set. `status` is ``feasible`` if its test passed, as far as there was time for it;
        ``unknown`` if it did not, or there is no plan; ``infeasible`` if it is proven that none keeps the given traces.

    Raises
    ------
    InputError
        Listing every bad argument.
    """
    started = time.monotonic()
    check_reliability(confidence, drift, seeds)
    limits = SearchLimits(Deadline.after(time_limit_s, started), progress or (lambda _: None))
    draws = ServiceDraws(asked)
    faults = Faults()
    faults.take(draws.check)
    spread = None if drift is None else math.log1p(drift)
    source = faults.take(lambda: ScenarioSource(traces, check_seed(asked.seed), spread))
    faults.check()
    # What is under way when the time is up, drawing a scenario and replaying it, takes a few times as long as reading.
    spare_s = min(3.0 * (time.monotonic() - started), limits.deadline.left_s() / 4)
    limits = replace(limits, deadline=Deadline(limits.deadline.at - spare_s))
    return _Planning(asked, source.value, draws, confidence, seeds, limits, params).run()


@dataclass(eq=False)
class _Planning:
    """One search under way, with the tests of what it comes to."""

    asked: Plan
    source: ScenarioSource
    draws: ServiceDraws
    confidence: float
    seeds: int
    limits: SearchLimits
    params: ReliabilityParams = ReliabilityParams()
    left_out: int = field(default=0, init=False)
    tests: list[ReliabilityTest] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        # Rounded, as 2 / (1 − 0.95) is a hair above 40.
        self._draws = min(
            self.params.most, math.ceil(round(self.params.per_miss / (1.0 - self.confidence), 6))
        )
        self._given = [
            Scenario(-1 - number, trace, self.asked.seed + draw)
            for number, trace in enumerate(self.source.traces)
            for draw in range(self.seeds)
        ]
        self._drawn: list[Scenario] = []
        self._stopped: Limit | None = None
        self._reason: str | None = None
        self._is_cut = False  # Whether a search ended for lack of time; there may be time for a test.
        self._none = False  # Whether it is proven that no plan keeps the given traces.

    def run(self) -> Plan:
        """Choose, test, and choose again until a plan passes or the time is up."""
        report = self.limits.report
        search = ScenarioSearch(
            self.asked, Judges(self.asked, self.draws), list(self._given), WorkLimit(), report
        )
        best: Choices = self.asked.choices
        try:
            is_drawn = self._draw()
            search.scenarios += self._drawn
            while is_drawn and self._choose(search, best):
                best = search.best
                test = self._test(search)
                if self.limits.deadline.is_over:
                    self._stopped = Limit.TIME
                if test.record.passed or self._stopped:
                    break
                report(f"the plan failed its test: {test.record.text(self.asked.objective.name)}")
                search.add(test.missed)
        except KeyboardInterrupt:
            self._stopped = Limit.INTERRUPT
        return self._concluded(search)

    def _draw(self) -> bool:
        """Draw the scenarios to choose on; whether there was time for it, which long traces take."""
        for number in range(self._draws):
            if self.limits.deadline.is_over:
                self._is_cut = True
                return False
            self.limits.report(f"drawing {self._draws} scenarios: {number / self._draws:.0%}")
            made = self.source.scenario(number)
            self._drawn += [replace(made, seed=made.seed + draw) for draw in range(self.seeds)]
        return True

    def _choose(self, search: ScenarioSearch, start: Choices) -> bool:
        """Find a plan that keeps all scenarios but those that no plan keeps; whether there is one."""
        search.limit = WorkLimit(deadline=self.limits.deadline.share(self.params.searched_by))
        try:
            while True:
                try:
                    for scenario in self._given:
                        search.check(scenario)
                    search.find(start)
                    search.raise_bound()
                    break
                except NoPlanKeepsError as error:
                    if not self._leave_out(search, error):
                        return False
        except LimitReachedError:
            self._is_cut = True
        return bool(search.best)

    def _leave_out(self, search: ScenarioSearch, error: NoPlanKeepsError) -> bool:
        """Go on without a scenario that no plan was found to keep, if that is allowed."""
        if error.scenario in self._given:
            self._none = error.reason is not None
            name = error.scenario.trace.name
            kept = error.reason or "no plan that was tried keeps it, with all replicas that may be had"
            self._reason = (
                f"the objective of {format_duration(self.asked.slo_ns)} on the trace {name}: {kept}"
            )
            return False
        self.left_out += 1
        allowed = int(round((1.0 - self.confidence) * len(self._drawn), 6))  # 20 · (1 − 0.9) is below 2
        if self.left_out > allowed:
            self._reason = (
                f"{self.left_out} of {len(self._drawn)} scenarios are kept by no plan that was tried, more than the "
                f"{allowed} that a confidence of {self.confidence:g} leaves"
            )
            return False
        search.leave_out(error.scenario)
        return True

    def _test(self, search: ScenarioSearch) -> ReliabilityTest:
        record = Reliability(
            self.confidence,
            chosen_on=len(search.scenarios),
            left_out=self.left_out,
            drift=max(self.source.drifts),
            blocks=self.source.blocks,
            noise=bool(self.draws.of_plan(search.best)),
        )
        plan = replace(self.asked, choices=search.best, figures=Figures())
        self.tests.append(ReliabilityTest(plan, self.source, self.draws, len(self.tests) + 1, record))
        self.tests[-1].run(self.limits)
        return self.tests[-1]

    def _concluded(self, search: ScenarioSearch) -> Plan:
        """The plan of the latest test, or one that was not tested any more; without any, the reason."""
        if not self.tests:
            record = Reliability(self.confidence, drift=max(self.source.drifts), blocks=self.source.blocks)
        else:
            record = self.tests[-1].record
        choices = self.tests[-1].plan.choices if self.tests else search.best
        provenance = replace(self.asked.provenance, reliability=record)
        if self._is_cut and self._stopped is None:
            self._stopped = Limit.TIME
        made = replace(
            self.asked, choices=choices, figures=Figures(), provenance=provenance, limit=self._stopped
        )
        if not choices:
            status = PlanStatus.INFEASIBLE if self._none else PlanStatus.UNKNOWN
            ended = "it was interrupted" if self._stopped is Limit.INTERRUPT else "the time was up"
            figures = Figures() if self._none else Figures(lower_bound_microusd_per_hour=search.lower_bound)
            reason = self._reason or f"{ended} before any plan was found that keeps all scenarios"
            return replace(made, status=status, figures=figures, reason=reason)
        samples = find_samples(made.pipeline, self.source.traces, made.seed, self.seeds)
        if are_timed(made.laws):  # then the replay is the certificate
            runs = (replay(made, sample.trace, seed=sample.seed) for sample in samples)
            timed = [replace(made.figures, certificate_ns=run.objective_ns(made.objective)) for run in runs]
            figures = join_figures(samples, timed)
        else:
            figures = certified_on(made, samples)
        cost = made.microusd_per_hour or 0
        figures = replace(figures, lower_bound_microusd_per_hour=min(cost, search.lower_bound))
        if record.passed:
            return replace(made, status=PlanStatus.FEASIBLE, figures=figures, reason=self._remark(record))
        reason = self._remark(record) or self._reason or "the test failed, and no better plan was found"
        return replace(made, status=PlanStatus.UNKNOWN, figures=figures, reason=reason)

    def _remark(self, record: Reliability) -> str | None:
        """What was left undone."""
        if self._stopped is None:
            return None
        ended = "it was interrupted" if self._stopped is Limit.INTERRUPT else "the time was up"
        if not record.scenarios:
            return f"{ended} before the plan was tested"
        if record.scenarios < fewest_scenarios(self.confidence):
            return f"{ended} after {record.scenarios} fresh scenarios"
        return f"{ended} before the search for a cheaper plan came to its end"
