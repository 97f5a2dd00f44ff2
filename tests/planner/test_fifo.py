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

import mipplan as mp
from campaigns import Violations, campaign_size, write_summary
from mipplan.calculus import StageService
from mipplan.certificate import NO_LIMIT, FifoEvaluator
from mipplan.core import quantile_ns
from mipplan.pipeline import Pipeline
from mipplan.result import Choice, RunClass
from mipplan.tokens import Workload, realise
from oracle_fifo import slow_along
from oracle_planner import OracleFamily, batch_ns, oracle_families, oracle_limits
from planning_instances import PlanningInstance, planning_instance

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
        gap = base.pipeline.staggers_ns(laws)[stage]
        spread = (family.batch - 1) * gap
        latency, period, tokens = family.service(replicas)
        slacks = sorted({e.delay_ns - runs.least_delay_ns(e.delay_ns) for e in base.pipeline.outgoing(stage)})
        passing = []
        for slack in slacks:
            along = slow_along(service, replicas, slack, Fraction(runs.least_service), False, gap)
            apart = slack > 0 or spread > min(service)
            passing.append(NO_LIMIT if along == np.inf else 2 * int(along) + apart)
        return StageService(latency + spread, period, tokens, tuple(passing))

    def certified(self) -> Iterator[tuple[int, dict[str, Choice]]]:
        """Cost and choices of every plan that keeps the objective."""
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
            if found <= self.instance.slo_ns:
                choices = {
                    stage: Choice(family.hardware, family.batch, replicas)
                    for stage, (_, family, replicas, _) in zip(self.options, picks, strict=True)
                }
                yield sum(cost for cost, *_ in picks), choices


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
    numbers = range(FIRST, FIRST + campaign_size(60, 2_000))
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
