"""Choosing among enumerable plans in several scenarios, against replays of every plan in every scenario."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

import mipplan as mp
from campaigns import Violations, campaign_size, write_summary
from mipplan.core import QuantileLimit
from mipplan.profiles import LatencyTable
from mipplan.refinement import WorkLimit
from mipplan.reliability import Scenario
from mipplan.reliability.judges import Judge, JudgeParams, Judges, ServiceDraws
from mipplan.reliability.search import NoPlanKeepsError, ScenarioSearch
from mipplan.result import Choice, Objective
from oracle_refinement import Choices, all_choices
from oracle_reliable import kept_by, quantile_in
from random_pipelines import random_trace
from refinement_instances import refinement_instance


@dataclass(frozen=True)
class ReliableInstance:
    """A problem in a few scenarios, small enough to replay all plans in all of them."""

    asked: mp.Plan
    scenarios: list[Scenario]

    @property
    def conditions(self) -> tuple[int, float, str]:
        """Objective, quantile and discipline, as the oracle takes them."""
        return self.asked.slo_ns, self.asked.quantile, self.asked.discipline.value

    def good(self) -> dict[int, list[Choices]]:
        """All plans that keep all scenarios, by cost."""
        return kept_by(self.asked.pipeline, self.asked.profiles, self.scenarios, *self.conditions)

    def search(self) -> ScenarioSearch:
        """A search that has not begun."""
        judges = Judges(self.asked, ServiceDraws(self.asked))
        return ScenarioSearch(self.asked, judges, list(self.scenarios), WorkLimit(), lambda _: None)


def reliable_instance(number: int) -> ReliableInstance:
    """Instance `number`, always the same one; every third has profiles with a P99."""
    rng = np.random.default_rng([20261126, number])
    small = refinement_instance(number)
    profiles = small.profiles
    if number % 3 == 0:
        profiles = mp.Profiles.from_parts(
            list(profiles.hardware.values()), [_with_p99(rng, table) for table in profiles.tables.values()]
        )
    scenarios = [
        Scenario(k, small.trace if k == 0 else random_trace(rng, 100, max_arrivals=30), int(rng.integers(5)))
        for k in range(int(rng.integers(1, 4)))
    ]
    some = list(all_choices(small.pipeline, profiles))
    picked = some[int(rng.integers(len(some)))]
    reached = max(
        quantile_in(small.pipeline, profiles, picked, scenario, small.quantile, small.discipline)
        for scenario in scenarios
    )
    slo_ns = max(1, int(reached * rng.choice([1.0, 1.0, 1.2, 0.5])))
    objective = Objective(slo_ns, small.quantile).under(small.pipeline.laws(), small.discipline)
    return ReliableInstance(mp.Plan(small.pipeline, profiles, objective), scenarios)


def _with_p99(rng: np.random.Generator, table: LatencyTable) -> LatencyTable:
    if rng.random() < 0.3:
        return table
    p99 = table.latency_ms * rng.uniform(1.0, 2.0, table.latency_ms.size)
    return replace(table, latency_p99_ms=p99)


def test_judges_say_what_the_public_replay_says() -> None:
    for number in range(campaign_size(12, 300)):
        instance = reliable_instance(number)
        asked, limit = instance.asked, WorkLimit()
        draws = ServiceDraws(asked)
        judges = [Judge(asked, scenario, draws, 1 << 20) for scenario in instance.scenarios]
        for choices in list(all_choices(asked.pipeline, asked.profiles))[:12]:
            made = {stage: Choice(*choice) for stage, choice in choices.items()}
            for judge in judges:
                reached = quantile_in(
                    asked.pipeline,
                    asked.profiles,
                    choices,
                    judge.scenario,
                    asked.quantile,
                    asked.discipline.value,
                )
                if judge.configuration(made) is not None:
                    assert judge.keeps(made, limit) == (reached <= asked.slo_ns), (number, choices)
                    assert judge.lateness_ns(made, limit) == reached - asked.slo_ns, (number, choices)


def test_least_times_do_not_hold_the_tables_that_they_are_of() -> None:
    """Tables of which few are kept would fill the memory by a row of each."""
    draws, *of = next(
        (draws, name, hardware, 1)
        for number in range(0, 60, 3)
        for draws in [ServiceDraws(reliable_instance(number).asked)]
        for name, stage in reliable_instance(number).asked.pipeline.stages.items()
        for hardware in reliable_instance(number).asked.profiles.hardware_for(stage.model)
        if draws.is_random(name, hardware)
    )
    assert draws.least_ns(*of).tolist() == draws.table_ns(*of)[0].tolist()
    assert draws.least_ns(*of).base is None


def test_what_is_found_keeps_all_scenarios_and_is_nearly_always_the_cheapest() -> None:
    """Nothing found costs less than the cheapest there is, the bound is none above that, and few cost more."""
    violations, cases, solved, equal, missed, extra = Violations(), campaign_size(10, 1_500), 0, 0, 0, []
    for number in range(cases):
        instance = reliable_instance(number)
        good = instance.good()
        search = instance.search()
        proven_none = False
        try:
            search.find({})
            search.raise_bound()
        except NoPlanKeepsError as error:
            proven_none = error.reason is not None
        with violations.case(number):
            if proven_none:
                assert not good, "there is a plan though it is proven that there is none"
            if search.best:
                found = {s: (c.hardware, c.batch, c.replicas) for s, c in search.best.items()}
                assert found in good.get(search.cost or 0, []), "it misses a scenario"
                assert search.lower_bound <= min(good), "a lower bound above the optimum"
        if good:
            solved += 1
            missed += not search.best
            if search.cost is not None:
                equal += search.cost == min(good)
                extra.append(search.cost / min(good))
    assert violations.found == []
    assert solved > 0.3 * cases
    assert missed <= 0.02 * solved
    assert equal >= 0.8 * solved
    write_summary(
        "reliable",
        {"cases": cases, "with a plan": solved, "optimal": equal, "none found": missed, "dearer": max(extra)},
    )


def test_more_scenarios_are_kept_once_they_are_demanded() -> None:
    for number in range(campaign_size(12, 300)):
        instance = reliable_instance(number)
        if len(instance.scenarios) < 2 or not instance.good():
            continue
        search = ReliableInstance(instance.asked, instance.scenarios[:1]).search()
        search.find({})
        search.add(instance.scenarios[1:])
        assert not search.best
        search.find({})
        assert search.keeps_all(search.best)
        assert (search.cost or 0) >= min(instance.good())


def test_judges_go_by_windows_and_further_quantiles() -> None:
    missed = 0
    for number in range(campaign_size(12, 100)):
        instance = reliable_instance(3 * number + 1)  # those without random service times
        limit, asked = WorkLimit(), instance.asked
        objective = replace(
            asked.objective,
            per_ns=max(1, instance.scenarios[0].trace.span_ns // 4),
            share=0.75,
            others=(QuantileLimit(asked.quantile / 2, max(1, asked.slo_ns // 2)),),
        )
        asked = replace(asked, objective=objective)
        draws = ServiceDraws(asked)
        for scenario in instance.scenarios:
            judge = Judge(asked, scenario, draws, 1 << 20)
            for choices in list(all_choices(asked.pipeline, asked.profiles))[:12]:
                made = {stage: Choice(*choice) for stage, choice in choices.items()}
                if judge.configuration(made) is None:
                    continue
                plan = replace(asked, choices=made)
                queue = asked.discipline.value
                run = mp.replay(plan, scenario.trace, seed=scenario.seed, discipline=queue)
                late_ns = run.objective_ns(objective) - asked.slo_ns
                assert judge.keeps(made, limit) == (late_ns <= 0), (number, choices)
                assert judge.lateness_ns(made, limit) == late_ns, (number, choices)
                missed += late_ns > 0
    assert missed > 0


def test_judges_are_made_again_when_memory_is_short() -> None:
    instance = next(i for i in map(reliable_instance, range(50)) if len(i.scenarios) == 3)
    roomy = Judges(instance.asked, ServiceDraws(instance.asked))
    tight = Judges(instance.asked, ServiceDraws(instance.asked), JudgeParams(most_tokens=1))
    for choices in list(all_choices(instance.asked.pipeline, instance.asked.profiles))[:10]:
        made = {stage: Choice(*choice) for stage, choice in choices.items()}
        for scenario in instance.scenarios:
            limit = WorkLimit()
            assert roomy.of(scenario).keeps(made, limit) == tight.of(scenario).keeps(made, limit)
    first = instance.scenarios[0]
    assert roomy.of(first) is roomy.of(first)
    assert tight.of(first) is tight.of(first)
    assert tight.of(instance.scenarios[1]) is not None
    assert len(tight) == 1
