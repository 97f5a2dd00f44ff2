"""Plans that keep their deadline by not a nanosecond more than they must: nothing may refute them.

The instances of `refinement_instances` are few plans, all replayed. Here they are far too many for that: more
replicas, batches and queries. So a plan is drawn, and the deadline is exactly what it reaches.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

import mipplan as mp
from campaigns import Violations, campaign_size, write_summary
from mipplan.core import LimitReachedError
from mipplan.options import Configuration
from mipplan.profiles import Hardware, LatencyTable
from mipplan.refinement.bounds import narrow
from mipplan.refinement.evaluation import WorkLimit
from mipplan.refinement.problem import Domain, Domains, RefinementProblem, Span, find_options, state_problem
from mipplan.refinement.search import RefinementSearch
from mipplan.replayer import ENGINES, StageReplays
from mipplan.result import Choice, Figures
from mipplan.tokens import realise
from random_pipelines import random_pipeline, random_trace

MOST_REPLICAS = 12
#: Stage replays for one look at all plans that are no dearer.
ALLOWANCE = 400


@dataclass(frozen=True)
class Tight:
    """A problem whose deadline is what one plan reaches, and that plan."""

    plan: mp.Plan
    trace: mp.Trace
    discipline: str
    problem: RefinementProblem
    options: Configuration

    def finds(self, domains: Domains, allowance: float = float("inf")) -> Configuration | None:
        """The cheapest plan of some domains that is no dearer than the one known."""
        replays = StageReplays(self.problem.workload, ENGINES["python"], fifo=self.discipline == "fifo")
        limit = WorkLimit(most_stage_replays=allowance)
        search = RefinementSearch(self.problem, domains, replays, limit, trusting=False)
        return search.run(self.options.microusd_per_hour + 1)

    def around(self, options: Configuration) -> Tight:
        """Another plan with the deadline that it reaches."""
        return tighten(
            replace(self.plan, choices=options.choices, figures=Figures()), self.trace, self.discipline
        )


def tighten(plan: mp.Plan, trace: mp.Trace, discipline: str) -> Tight:
    """The problem whose deadline the plan keeps to the nanosecond."""
    workload = realise(plan.pipeline, trace, plan.seed)
    reached_ns = mp.replay(plan, trace, discipline=discipline).quantile_ns(plan.quantile)
    problem = state_problem(plan.pipeline, plan.profiles, workload, reached_ns, plan.quantile)
    options = find_options(problem.domains, plan.choices)
    assert options is not None
    return Tight(plan, trace, discipline, problem, options)


def tight_instance(number: int) -> Tight:
    """Instance `number`, always the same one."""
    rng = np.random.default_rng([20261125, number])
    scale_ns = int(rng.choice([10, 100, 5_000]))
    pipeline = random_pipeline(rng, scale_ns, max_stages=4)
    names = ("small", "large")
    tables = [
        _table(rng, stage.model, name, scale_ns) for stage in pipeline.stages.values() for name in names
    ]
    profiles = mp.Profiles.from_parts(
        [Hardware(name, float(rng.choice([0.5, 1.0, 1.7]))) for name in names], tables
    )
    trace = random_trace(rng, scale_ns, max_arrivals=150)
    quantile = float(rng.choice([0.5, 0.9, 0.95, 1.0]))
    discipline = str(rng.choice(["oldest_first", "fifo"]))
    seed = int(rng.integers(0, 3))
    offered = state_problem(pipeline, profiles, realise(pipeline, trace, seed), 1, quantile).domains
    choices = {stage: _choice(rng, domain) for stage, domain in offered.items()}
    plan = mp.Plan.from_choices(pipeline, profiles, choices, slo_s=1.0, quantile=quantile, seed=seed)
    return tighten(plan, trace, discipline)


def test_nothing_refutes_a_plan_that_keeps_its_deadline_to_the_nanosecond() -> None:
    """Neither conditions, with and without a budget, nor replays of its parts; the same for the cheapest found."""
    seen: Counter[str] = Counter()
    cases = campaign_size(40, 6_000)
    violations = Violations()
    for number in range(cases):
        with violations.case(number):
            tight = tight_instance(number)
            seen["options refuted"] += refuted_beside(tight, number)
            cheapest = searched(tight, number)
            if cheapest is None:
                seen["not searched to the end"] += 1
                continue
            seen["searched to the end"] += 1
            seen["options refuted"] += refuted_beside(tight.around(cheapest), number)
    assert seen["searched to the end"] > cases // 4
    assert seen["options refuted"] > 10 * cases
    write_summary("refinement_tight_deadlines", {"cases": cases, "violations": violations.checked(), **seen})


def refuted_beside(tight: Tight, number: int) -> int:
    """Hold the conditions and the search to the plan; count the options that they refute beside it."""
    refuted = 0
    for narrowed in (narrow(tight.problem), narrow(tight.problem, tight.options.microusd_per_hour + 1)):
        assert narrowed.blocked is None, number
        assert holds(narrowed.problem.domains, tight.options), number
        refuted += narrowed.refuted.total()
    alone = {stage: (Span.of(option),) for stage, option in tight.options.items()}
    assert tight.finds(alone) == tight.options, number
    return refuted


def searched(tight: Tight, number: int) -> Configuration | None:
    """Search all that is no dearer than the plan; None if that would take too long."""
    domains = narrow(tight.problem, tight.options.microusd_per_hour + 1).problem.domains
    try:
        found = tight.finds(domains, ALLOWANCE)
    except LimitReachedError:
        return None
    assert found is not None, number
    assert found.microusd_per_hour <= tight.options.microusd_per_hour, number
    return found


def holds(domains: Domains, options: Configuration) -> bool:
    """Whether a plan is made of what is left in the domains."""
    return all(
        any(
            span.family is option.family and span.fewest <= option.replicas <= span.most
            for span in domains[stage]
        )
        for stage, option in options.items()
    )


def _choice(rng: np.random.Generator, domain: Domain) -> Choice:
    span = domain[int(rng.integers(len(domain)))]
    replicas = int(rng.integers(span.fewest, min(span.most, MOST_REPLICAS) + 1))
    return Choice(span.family.hardware, span.family.batch, replicas)


def _table(rng: np.random.Generator, model: str, hardware: str, scale_ns: int) -> LatencyTable:
    """Of up to three sizes, increasing or without order."""
    sizes = np.unique(rng.integers(1, 13, 3))
    latency_ns = rng.integers(1, 2 * scale_ns + 1, sizes.size)
    if rng.random() < 0.7:
        latency_ns = np.sort(latency_ns)
    return LatencyTable(model, hardware, sizes, latency_ns.astype(np.float64) * 1e-6)
