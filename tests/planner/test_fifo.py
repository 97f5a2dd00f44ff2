"""Plans for `fifo` queues against everything there is to choose: same cost, same verdict, figures that hold."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mipplan as mp
from campaigns import Violations, campaign_size, write_summary
from mipplan.calculus import StageService
from mipplan.certificate import NO_LIMIT, FifoEvaluator
from mipplan.core import quantile_ns
from mipplan.options import Family, expand, undominated
from mipplan.pipeline import DispatchLaw, Pipeline
from mipplan.planner import Instance, SearchMethod, SearchParams, trace_instance
from mipplan.planner.infeasible import Feasibility
from mipplan.planner.narrowing import NarrowingParams
from mipplan.result import Choice, RunClass, Ties
from mipplan.tokens import Workload, realise
from oracle_fifo import slow_along
from oracle_planner import OracleFamily, batch_ns, oracle_families, oracle_limits
from planning_instances import PlanningInstance, check_ranges, hand_made, made_again, planning_instance

FIRST = 6000
#: Stages have at most this many replicas, so that everything can be tried.
MOST_REPLICAS = 5
#: Instances with more choices than this are left; a campaign counts how many it skips.
MOST_CHOICES = 6_000
MOST_SKIPPED = 0.5
SHARES = (0.0, 0.5, 0.9, 1.0)


@dataclass(frozen=True)
class FifoInstance:
    """A planning request for fifo queues."""

    base: PlanningInstance
    runs: RunClass
    dispatch: str
    slo_ns: int

    def plan(self, **more: Any) -> mp.Plan:
        """Plan it."""
        asked = {
            "slo_s": self.slo_ns / 1e9,
            "discipline": "fifo",
            "runs": self.runs,
            "dispatch": self.dispatch,
            "time_limit_s": None,
        }
        return self.base.plan(**{**asked, **more})


def fifo_instance(number: int) -> FifoInstance:
    """Instance `number`, always the same one."""
    rng = np.random.default_rng([20261126, number])
    base = planning_instance(number)
    document = base.pipeline.to_document()
    for stage in document["stages"].values():
        given = stage.pop("replicas", {})
        given = {"min": given, "max": given} if isinstance(given, int) else given
        least = given.get("min", 1)
        stage["replicas"] = {
            "min": least,
            "max": max(least, min(given.get("max", MOST_REPLICAS), MOST_REPLICAS)),
        }
    if rng.random() < 0.3:
        document["stagger"] = str(rng.choice(["1us", "100us", "2ms"]))
    base = replace(base, pipeline=Pipeline.from_document(document))
    runs = RunClass(
        float(rng.choice(SHARES, p=[0.1, 0.3, 0.4, 0.2])),
        float(rng.choice([0.0, 0.7, 1.0], p=[0.15, 0.15, 0.7])),
    )
    slo_ns = int(base.slo_ns * float(rng.choice([1.0, 1.3, 1.8, 3.0])))
    if rng.random() < 0.3:  # drawn last: the instances are those of campaigns that knew of no windows
        base = replace(base, pipeline=base.pipeline.collecting(float(rng.choice([1e-6, 5e-4, 5e-3]))))
    return FifoInstance(base, runs, str(rng.choice(["eager", "paced"], p=[0.7, 0.3])), slo_ns)


class Everything:
    """All choices of an instance with their certificates, in order of cost."""

    def __init__(self, instance: FifoInstance) -> None:
        base = instance.base
        self.instance = instance
        self.workload: Workload = realise(base.pipeline, base.trace, base.seed)
        self.evaluator = FifoEvaluator(self.workload, instance.runs)
        self.limits = oracle_limits(base.profiles)
        paced = instance.dispatch == "paced"
        families = oracle_families(base.pipeline, base.profiles, self.workload, paced=paced)
        self.options = {
            stage: [(f, n) for f in found for n in range(f.fewest, f.most + 1)]
            for stage, found in families.items()
        }

    @property
    def count(self) -> int:
        """How many choices there are."""
        return int(np.prod([len(offered) for offered in self.options.values()]))

    def service(self, stage: str, family: OracleFamily, replicas: int) -> StageService:
        """T, R and what may overtake, from the definitions."""
        base, runs = self.instance.base, self.instance.runs
        table = base.profiles.tables[base.pipeline.stages[stage].model, family.hardware]
        service = [batch_ns(table.batch, table.latency_ms, k) for k in range(1, family.batch + 1)]
        laws = base.pipeline.laws(self.instance.dispatch)
        gap, window = base.pipeline.staggers_ns(laws)[stage], base.pipeline.windows_ns(laws)[stage]
        spread = (family.batch - 1) * gap
        latency, period, tokens = family.service(replicas)
        slacks = sorted({e.delay_ns - runs.least_delay_ns(e.delay_ns) for e in base.pipeline.outgoing(stage)})
        passing = []
        for slack in slacks:
            along = slow_along(service, replicas, slack, Fraction(runs.least_service), False, gap, window)
            apart = slack > 0 or spread > min(service)
            passing.append(NO_LIMIT if along == np.inf else 2 * int(along) + apart)
        return StageService(latency + spread, period, tokens, tuple(passing))

    def judged(self) -> Iterator[tuple[int, int, dict[str, Choice]]]:
        """Cost, certificate and choices of every plan within the device limits."""
        offered = [
            [(f.price * n, f, n, self.service(stage, f, n)) for f, n in options]
            for stage, options in self.options.items()
        ]
        for picks in itertools.product(*offered):
            used: Counter[str] = Counter()
            for _, family, replicas, _ in picks:
                used[family.hardware] += replicas
            if any(used[name] > limit for name, limit in self.limits.items()):
                continue
            services = dict(zip(self.options, (pick[3] for pick in picks), strict=True))
            found = quantile_ns(self.evaluator.latency_ns(services), self.instance.base.quantile)
            choices = {
                stage: Choice(family.hardware, family.batch, replicas)
                for stage, (_, family, replicas, _) in zip(self.options, picks, strict=True)
            }
            yield sum(cost for cost, *_ in picks), found, choices

    def certified(self) -> Iterator[tuple[int, dict[str, Choice]]]:
        """Cost and choices of every plan that keeps the objective."""
        yield from ((cost, choices) for cost, ns, choices in self.judged() if ns <= self.instance.slo_ns)


def check(plan: mp.Plan, everything: Everything, path: Path) -> None:
    instance = everything.instance
    certified = list(everything.certified())
    if not certified:
        assert plan.status == "infeasible"
        assert plan.reason
        assert not plan.choices
        return
    least = min(cost for cost, _ in certified)
    assert plan.status == "optimal", plan.status
    assert plan.microusd_per_hour == plan.lower_bound_microusd_per_hour == least
    assert dict(plan.choices) in [choices for cost, choices in certified if cost == least]
    assert plan.bound_ns is not None
    assert plan.certificate_ns is not None
    assert plan.bound_ns <= plan.certificate_ns <= instance.slo_ns
    assert plan.runs == instance.runs
    assert mp.certify(plan, instance.base.trace).bound_ns == plan.certificate_ns
    plan.save(path)
    assert mp.Plan.load(path) == plan
    verification = mp.verify(path, instance.base.trace)
    assert verification.verified, verification.problems
    replayed = mp.replay(plan, instance.base.trace)
    assert verification.certificate is not None
    assert replayed.discipline == "fifo"
    assert (replayed.latency_ns <= verification.certificate.latency_ns).all()


def test_cheapest_fifo_plan_is_found(tmp_path: Path) -> None:
    violations, seen = Violations(), Counter[str]()
    # In the last one choices are listed that are refused even where all stages are ideal.
    numbers = [*range(FIRST + campaign_size(10, 0), FIRST + campaign_size(34, 2_000)), 6877]
    for number in numbers:
        with violations.case(number):
            instance = fifo_instance(number)
            everything = Everything(instance)
            if everything.count > MOST_CHOICES:
                seen["skipped"] += 1
                continue
            plan = instance.plan()
            seen[plan.status] += 1
            seen["choices"] += everything.count
            seen["dearer than oldest first"] += is_dearer(plan, instance)
            check(plan, everything, tmp_path / "plan.json")
            check_ranges(plan)
    assert seen["skipped"] <= MOST_SKIPPED * len(numbers)
    assert min(seen["optimal"], seen["infeasible"], 10 * seen["dearer than oldest first"]) >= 0.1 * len(
        numbers
    )
    write_summary("planner_fifo", {"instances": len(numbers), "mismatches": violations.checked(), **seen})


def is_dearer(plan: mp.Plan, instance: FifoInstance) -> bool:
    """Whether the plan costs more than one for queues that serve the oldest first; it never costs less."""
    oldest = instance.plan(discipline="oldest_first", runs=None)
    if plan.microusd_per_hour is None:
        return oldest.microusd_per_hour is not None
    assert oldest.microusd_per_hour is not None
    assert plan.microusd_per_hour >= oldest.microusd_per_hour
    return plan.microusd_per_hour > oldest.microusd_per_hour


def small_instances(numbers: range) -> Iterator[tuple[int, FifoInstance, Everything]]:
    """Those of some instances that have few choices, and some."""
    for number in numbers:
        instance = fifo_instance(number)
        everything = Everything(instance)
        if 0 < everything.count <= 1_500:
            yield number, instance, everything


def realised(instance: FifoInstance) -> Instance:
    base = instance.base
    given = (base.pipeline, base.profiles, base.trace, instance.slo_ns, base.quantile, base.seed)
    return trace_instance(*given, base.pipeline.laws(instance.dispatch), instance.runs)


def test_the_fastest_plan_within_a_budget_is_found() -> None:
    compared = 0
    for number, instance, everything in small_instances(
        range(FIRST + campaign_size(12, 0), FIRST + campaign_size(26, 400))
    ):
        found = [(ns, cost) for cost, ns, _ in everything.judged()]
        if not found:
            continue
        budget = sorted(cost for _, cost in found)[len(found) // 3]
        plan = instance.plan(slo_s=None, budget_usd_per_hour=budget / 1e6)
        assert plan.status == "optimal", number
        assert plan.certificate_ns == min(ns for ns, cost in found if cost <= budget), number
        compared += 1
    assert compared > 3


@pytest.mark.parametrize("most", [2, None], ids=["at most two", "no limit"])
@pytest.mark.parametrize("slo", ["1ms", "3.5ms", "12ms", "40ms"])
def test_one_stage_is_planned_as_if_oldest_first(slo: str, most: int | None) -> None:
    """Its queries arrive in the order of their age. What none of its configurations keeps was once called optimal."""
    stage = {"model": "resnet50", "hardware": ["t4", "a100_80gb"]} | (
        {} if most is None else {"replicas": {"max": most}}
    )
    pipeline = Pipeline.from_document({"slo": slo, "stages": {"a": stage}})
    trace = mp.Trace.gamma(rate_rps=150, cv=4, duration_s=5, seed=1)
    found = [
        mp.plan(pipeline, mp.Profiles.default(), trace, discipline=law) for law in ("fifo", "oldest_first")
    ]
    assert len({(one.status, one.microusd_per_hour, one.certificate_ns) for one in found}) == 1
    assert all(one.certificate_ns is None or one.certificate_ns <= one.slo_ns for one in found)
    assert found[0].status == ("infeasible" if slo == "1ms" or (slo, most) == ("3.5ms", 2) else "optimal")


def test_headroom_and_margin_are_kept(tmp_path: Path) -> None:
    base = hand_made(0.1)
    more = {"discipline": "fifo", "runs": RunClass(0.9)}
    plain = base.plan(**more).require()
    for asked in ({"headroom": 1.3}, {"margin_s": 0.02}):
        plan = base.plan(**more, **asked).require()
        assert plan.status == "optimal"
        assert plan.microusd_per_hour >= plain.microusd_per_hour
        assert plan.certificate_ns <= plan.slo_ns - plan.margin_ns
        plan.save(tmp_path / "plan.json")
        verification = mp.verify(tmp_path / "plan.json", base.trace)
        assert (verification.verified, verification.problems) == (True, ())
        for law in ("oldest_first", "fifo"):
            judged = mp.verify(tmp_path / "plan.json", base.trace, discipline=law)
            assert judged.verified, judged.problems
    with pytest.raises(mp.InputError, match="inside an arrival curve"):
        base.plan(**more, guarantee="envelope")
    with pytest.raises(mp.InputError, match=r"runs\.ties"):
        base.plan(discipline="fifo", runs=RunClass(0.9, ties=Ties.ANY))
    with pytest.raises(mp.InputError, match="oldest first"):
        base.plan(**more, certificate="sharp")
    with pytest.raises(mp.InputError, match="every run is the replay"):
        base.plan(**more, dispatch="timed")


def test_explanations_go_by_overtaking() -> None:
    """The cheapest other choice of a stage is that of all there are, however many replicas let tokens pass."""
    compared = 0
    for number, instance, everything in small_instances(range(FIRST, FIRST + campaign_size(26, 400))):
        plan = instance.plan()
        if not plan.choices:
            continue
        certified = list(everything.certified())
        explained = plan.explain()
        assert explained.certificate_ns == plan.certificate_ns
        for stage in explained.stages:
            own = plan.choices[stage.stage]
            others = [
                cost
                for cost, choices in certified
                if all(choices[other] == plan.choices[other] for other in choices if other != stage.stage)
                and (choices[stage.stage].hardware, choices[stage.stage].batch) != (own.hardware, own.batch)
            ]
            found = None if stage.alternative is None else stage.alternative.microusd_per_hour
            assert found == min(others, default=None), f"case {number}, {stage.stage}"
            compared += bool(others)
    assert compared > 5


def test_whether_there_is_a_plan_is_told_by_ranges() -> None:
    verdicts: Counter[bool] = Counter()
    for number, instance, everything in small_instances(range(FIRST, FIRST + campaign_size(80, 600))):
        found, limit = Feasibility(SearchMethod()).find(realised(instance))
        truth = any(True for _ in everything.certified())
        assert (found is not None, limit) == (truth, None), number
        verdicts[truth] += 1
        if found is not None:
            assert found.certificate_ns <= instance.slo_ns
    assert min(verdicts.values()) > 10


def test_ranges_are_halved_where_neither_end_will_do() -> None:
    """Too few replicas are too slow and too many let too many pass: only numbers between keep the least certificate."""
    between = 0
    for number, instance, everything in small_instances(range(FIRST, FIRST + campaign_size(100, 600))):
        judged = [(ns, choices) for _, ns, choices in everything.judged()]
        least = min((ns for ns, _ in judged), default=0)
        fastest = [choices for ns, choices in judged if ns == least]
        ends = {
            stage: {n for family, n in options if n in (family.fewest, family.most)}
            for stage, options in everything.options.items()
        }
        if fastest and not any(
            all(choice.replicas in ends[stage] for stage, choice in choices.items()) for choices in fastest
        ):
            found, _ = Feasibility(SearchMethod()).find(realised(instance).with_deadline(least))
            assert found is not None, number
            assert found.configuration.choices in fastest
            between += 1
    assert between > 0


def test_what_is_dropped_is_beaten_and_what_stays_is_not() -> None:
    dropped = 0
    for number in range(FIRST, FIRST + 40):
        instance = realised(fifo_instance(number))
        for found in instance.families.values():
            dearest = max((f.microusd_per_hour * f.most for f in found.families), default=0)
            every = expand(found, dearest)
            kept = undominated(every)
            for row in range(every.count):
                own = (every.cost[row], every.latency_ns[row], -every.speed[row], *every.passing[row])
                beating = [
                    other
                    for other in range(kept.count)
                    if all(
                        mine <= theirs
                        for mine, theirs in zip(
                            (
                                kept.cost[other],
                                kept.latency_ns[other],
                                -kept.speed[other],
                                *kept.passing[other],
                            ),
                            own,
                            strict=True,
                        )
                    )
                    and (
                        not kept.limited[other]
                        or (
                            kept.hardware[other] == every.hardware[row]
                            and kept.replicas[other] <= every.replicas[row]
                        )
                    )
                ]
                assert beating, f"case {number}, {found.stage}: nothing is as good as {every.option(row)}"
                is_kept = any(every.option(row) == kept.option(other) for other in range(kept.count))
                assert not is_kept or len(beating) == 1
                dropped += not is_kept
    assert dropped > 100


@given(
    service=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    fewest=st.integers(1, 6),
    more=st.integers(0, 6),
    share=st.sampled_from(SHARES),
    slacks=st.lists(st.integers(0, 12), min_size=1, max_size=3, unique=True).map(sorted),
    stagger=st.integers(0, 5),
    law=st.sampled_from(DispatchLaw),
)
def test_a_range_is_no_worse_than_its_members(
    service: list[int],
    fewest: int,
    more: int,
    share: float,
    slacks: list[int],
    stagger: int,
    law: DispatchLaw,
) -> None:
    family = Family(
        *("cpu", len(service), np.array(service), 1, 1, 20, False, False, law, stagger),
        overtaking=RunClass(share),
        slacks_ns=tuple(slacks),
    )
    best = family.range_service(fewest, fewest + more)
    for replicas in range(fewest, fewest + more + 1):
        own = family.service(replicas)
        assert best.latency_ns <= own.latency_ns
        assert best.ns_per_token <= own.ns_per_token
        assert all(least <= passing for least, passing in zip(best.passing, own.passing, strict=True))
        assert list(own.passing) == sorted(own.passing)  # more slack, more overtaking
        assert own.passing == tuple(family.passing(np.array([replicas]))[0].tolist())


def test_narrowing_does_not_change_what_is_cheapest() -> None:
    """Where too many numbers of replicas are affordable, a cheaper plan among few of them is looked for first."""
    found = Counter[str]()
    for number in range(FIRST, FIRST + 20):
        whole = fifo_instance(number).plan()
        if whole.microusd_per_hour is None:
            continue
        again = made_again(whole, SearchParams(), NarrowingParams(most=3, dense=2))
        assert (again.microusd_per_hour, again.status) == (whole.microusd_per_hour, whole.status)
        found[again.status.value] += 1
    assert found["optimal"] > 8


def test_a_first_plan_is_not_thousands_of_times_too_dear() -> None:
    """More replicas let more tokens overtake: stages sized for their waits, one by one, ask each other for more."""
    pipeline = mp.Pipeline.read("profiles/pipelines/audio-question-answering.yaml")
    trace = mp.Trace.gamma(rate_rps=336, cv=1.32, duration_s=10, seed=7)
    asked = {"slo_s": 0.108, "discipline": "fifo", "runs": RunClass(0.9)}
    plan = mp.plan(pipeline, mp.Profiles.default(), trace, **asked, time_limit_s=1e-9)
    assert plan.microusd_per_hour is not None
    assert plan.lower_bound_usd_per_hour is not None
    assert plan.usd_per_hour < 100 * plan.lower_bound_usd_per_hour
