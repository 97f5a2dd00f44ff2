"""Whether plans keep the objective in a scenario, by exact replays of single stages that plans share.

Where a profile has a P99, service times are drawn: by the seed of the scenario, stage and token, as a replay with
`ServiceNoise.from_p99` draws them. So every plan meets the same luck in a scenario (common random numbers), and the
public replay, which shares none of this, comes to the same verdict.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mipplan.core import Faults, Int64, frozen
from mipplan.options import Configuration, Family, Option
from mipplan.pipeline import Discipline, DispatchLaw
from mipplan.refinement import Domains, RefinementProblem, ReplayOracle, Span, WorkLimit, state_problem
from mipplan.reliability.scenarios import Scenario
from mipplan.replayer import (
    NEVER,
    CacheParams,
    Engine,
    EngineFeature,
    ServiceNoise,
    StageReplays,
    plan_features,
    resolve_engine,
)
from mipplan.result import Choice, Plan
from mipplan.tokens import Workload, realise

Choices: TypeAlias = Mapping[str, Choice]


@dataclass(frozen=True)
class JudgeParams:
    """What judges may hold in memory."""

    most_tokens: int = 8_000_000
    """Judges of at most 8,000,000 tokens together, which take about 1 GB; the longest unused go first."""
    # Of stage replays, for each scenario: the plans asked about in a row are alike.
    cache_bytes: int = 1 << 23
    pivot_bytes: int = 1 << 28  # The same for the scenario that plans are made on.
    most_tables: int = 64  # Tables of drawn service times, which take up to half a megabyte each.


class ServiceDraws:
    """Which service times are random, and what they are, for all stages that a plan can be made of."""

    def __init__(self, plan: Plan, params: JudgeParams = JudgeParams()) -> None:
        self._plan = plan
        self.noise = ServiceNoise.from_p99()
        self.table_ns = lru_cache(params.most_tables)(self._table_ns)
        #: The least time of each batch size, of a stage on some hardware with some cap.
        self.least_ns = cache(lambda *of: frozen(self.table_ns(*of)[0].copy()))  # a view would keep the table

    def is_random(self, stage: str, hardware: str) -> bool:
        """Whether the profile says how much service times spread there."""
        table = self._plan.profiles.table(self._plan.pipeline.stages[stage].model, hardware)
        return table is not None and table.latency_p99_ms is not None

    def of_plan(self, choices: Choices) -> dict[str, ServiceNoise]:
        """The noise of a plan, by stage, as a replay takes it."""
        return {
            stage: self.noise for stage, choice in choices.items() if self.is_random(stage, choice.hardware)
        }

    def check(self) -> None:
        """Raise `InputError` listing every profile with a P99 from which nothing can be drawn."""
        faults = Faults()
        for stage in self._plan.pipeline.stages.values():
            for hardware in stage.hardware or self._plan.profiles.hardware_for(stage.model):
                table = self._plan.profiles.table(stage.model, hardware)
                if table is not None and table.latency_p99_ms is not None:
                    faults.add(*self.noise.faults(stage.name, table))
        faults.check()

    def _table_ns(self, stage: str, hardware: str, batch: int) -> Int64:
        table = self._plan.profiles.table(self._plan.pipeline.stages[stage].model, hardware)
        if table is None:
            raise AssertionError("asked for what is measured only")
        return self.noise.service_ns(table, batch)

    def least_family(self, stage: str, family: Family) -> Family:
        """The same with the least service times that may be drawn, where conditions must hold for all."""
        if family.law is DispatchLaw.TIMED or not self.is_random(stage, family.hardware):
            return family
        return replace(family, service_ns=self.least_ns(stage, family.hardware, family.batch))


class Judge:
    """Says of plans whether they keep the objective in one scenario."""

    def __init__(self, plan: Plan, scenario: Scenario, draws: ServiceDraws, cache_bytes: int) -> None:
        self.scenario = scenario
        self.workload = realise(plan.pipeline, scenario.trace, scenario.seed)
        self.problem = state_problem(
            plan.pipeline,
            plan.profiles,
            self.workload,
            plan.objective.deadline_ns,
            plan.objective.criterion(self.workload.ingress_ns),
            plan.laws,
            # A scenario is kept if its quantile is, which short ones are with less than their mean rate takes.
            dict.fromkeys(plan.pipeline.stages, Fraction(0)),
        )
        self._draws, self._bytes = draws, cache_bytes
        self._fifo = plan.discipline is Discipline.FIFO
        self._engine = find_engine(plan)
        self.replays = self.replays_of(self.problem)
        least = {
            stage: tuple(replace(span, family=draws.least_family(stage, span.family)) for span in domain)
            for stage, domain in self.problem.domains.items()
        }
        #: The problem with the least service times: what its conditions exclude, no plan of the scenario keeps.
        self.least = replace(self.problem, domains=least)
        self._spans = _spans_by_option(self.problem.domains)
        self._oracle = ReplayOracle(self.least, self.replays) if all(least.values()) else None

    @property
    def tokens(self) -> int:
        """Number of tokens at all stages."""
        return sum(tokens.count for tokens in self.workload.stages.values())

    def keeps(self, choices: Choices, limit: WorkLimit) -> bool:
        """Whether a plan keeps the objective here; stops as soon as that is certain."""
        configuration = self.configuration(choices)
        return (
            configuration is not None
            and self._oracle is not None
            and self._oracle.keeps(configuration, limit)
        )

    def lateness_ns(self, choices: Choices, limit: WorkLimit) -> int:
        """By how much the objective is missed, as if by its first quantile; negative if it is below."""
        configuration = self.configuration(choices)
        if configuration is None or self._oracle is None:
            return NEVER
        runs = dict(self._oracle.runs(configuration, limit))
        lateness_ns = self._oracle.lateness_ns(runs)
        # Of further quantiles the limits are shifted against the deadline, so latencies are put before the criterion.
        deadline_ns = self.problem.deadline_ns
        return self.problem.criterion.figure_ns(lateness_ns + deadline_ns) - deadline_ns

    def raised(self, choices: Choices) -> dict[str, Choice]:
        """Return the same with at least the replicas that every stage must have."""
        spans = {
            stage: self._spans.get((stage, choice.hardware, choice.batch))
            for stage, choice in choices.items()
        }
        return {
            stage: choice if span is None else replace(choice, replicas=max(choice.replicas, span.fewest))
            for (stage, choice), span in zip(choices.items(), spans.values(), strict=True)
        }

    def most_replicas(self, stage: str, choice: Choice) -> int:
        """The most replicas that stage and hardware admit; more than there are tokens are never of use."""
        span = self._spans.get((stage, choice.hardware, choice.batch))
        return choice.replicas if span is None else span.most

    def replays_of(self, problem: RefinementProblem) -> StageReplays:
        """Replays of the scenario, or of a part of it."""
        workload = problem.workload
        return StageReplays(
            workload,
            self._engine,
            fifo=self._fifo,
            params=CacheParams(self._bytes),
            drawn=_Draw(workload, self._draws),
        )

    def configuration(self, choices: Choices) -> Configuration | None:
        """Return the options of the scenario that these choices are; None if one of them is not on offer."""
        made = Configuration()
        for stage in self.problem.domains:
            choice = choices[stage]
            span = self._spans.get((stage, choice.hardware, choice.batch))
            if span is None or choice.replicas < span.fewest:
                return None
            made[stage] = Option(span.family, choice.replicas)
        return made


class _Draw:
    """Draws the service times of a workload's stages, once for each."""

    def __init__(self, workload: Workload, draws: ServiceDraws) -> None:
        self._workload, self._draws = workload, draws
        self._levels: dict[str, NDArray[np.uint16]] = {}

    def __call__(self, stage: str, choice: Choice) -> tuple[Int64, NDArray[np.uint16]] | None:
        if not self._draws.is_random(stage, choice.hardware):
            return None
        if stage not in self._levels:
            self._levels[stage] = self._draws.noise.draw_levels(
                self._workload.seed, self._workload.stages[stage]
            )
        return self._draws.table_ns(stage, choice.hardware, choice.batch), self._levels[stage]


def find_engine(plan: Plan) -> Engine:
    """The fastest engine that can replay any plan of these laws with random service times."""
    return resolve_engine("auto", plan_features(plan) | {EngineFeature.RANDOM_SERVICE})


def _spans_by_option(domains: Domains) -> dict[tuple[str, str, int], Span]:
    return {
        (stage, span.family.hardware, span.family.batch): span
        for stage, domain in domains.items()
        for span in domain
    }


class Judges:
    """Judges of scenarios, made when they are asked for."""

    def __init__(self, plan: Plan, draws: ServiceDraws, params: JudgeParams = JudgeParams()) -> None:
        self._plan, self._draws, self._params = plan, draws, params
        self._made: OrderedDict[Scenario, Judge] = OrderedDict()

    def __len__(self) -> int:
        """How many are at hand."""
        return len(self._made)

    def of(self, scenario: Scenario) -> Judge:
        """Return the judge of a scenario."""
        if scenario not in self._made:
            self._made[scenario] = Judge(self._plan, scenario, self._draws, self._params.cache_bytes)
            while (
                len(self._made) > 1 and sum(j.tokens for j in self._made.values()) > self._params.most_tokens
            ):
                self._made.popitem(last=False)
        self._made.move_to_end(scenario)
        return self._made[scenario]

    def pivot(self, scenario: Scenario) -> Judge:
        """Return a judge that remembers more, to make plans on its scenario."""
        return Judge(self._plan, scenario, self._draws, self._params.pivot_bytes)
