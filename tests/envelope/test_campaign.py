"""The worst case against traffic that exhausts its arrival curve: no query of any execution may be later.

Arrival curves are token buckets, pairs of them, and hulls of random traces, scaled so that the slowest stage can
just about keep up. The traffic comes as early as the curve admits, or pauses until the curve admits another burst.
Executions are the replay, and those of the wider class that the theorem speaks of (`oracle_replay`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import networkx as nx
import numpy as np

from adversarial_traffic import MOST_QUERIES, conforming_traffic
from campaigns import Violations, campaign_size, write_summary
from mipplan.calculus import ArrivalCurve, StageService, WorstCase, empirical_envelope, overrun
from mipplan.certificate import plan_services
from mipplan.pipeline import Pipeline
from mipplan.replayer import replay
from mipplan.tokens import realise
from mipplan.verification import certify
from oracle_envelope import SlowService, exactly, slow_most_tokens, slow_worst_case
from oracle_replay import EventLoop
from oracle_tokens import slow_tokens
from random_pipelines import Case, features, random_case, random_trace

#: What at least one case in twenty must hold, or the campaign would prove little.
WANTED = (
    *("join all", "join each", "skip", "fan-out above 1", "branch", "delay"),
    *("ties", "overload", "non-monotone", "several sources"),
)


@dataclass
class Tally:
    """What a campaign saw."""

    features: Counter[str] = field(default_factory=Counter)
    curves: Counter[str] = field(default_factory=Counter)
    attained: Counter[str] = field(default_factory=Counter)
    attained_by_several_stages: int = 0
    theorem_attained: int = 0
    executions: int = 0
    queries: int = 0
    ratios: list[float] = field(default_factory=list)

    def summary(self, violations: int) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "cases": self.curves.total(),
            "executions": self.executions,
            "queries": self.queries,
            "violations": violations,
            "cases_by_arrival_curve": dict(sorted(self.curves.items())),
            "cases_with_a_query_at_the_bound": dict(sorted(self.attained.items())),
            "of_these_with_several_stages": self.attained_by_several_stages,
            "cases_with_a_certificate_at_the_bound": self.theorem_attained,
            "bound_over_latest_query": {
                "least": round(min(self.ratios), 4),
                "median": round(float(np.median(self.ratios)), 4),
                "most": round(max(self.ratios), 4),
            },
            "cases_with_feature": dict(sorted(self.features.items())),
        }


def test_no_conforming_traffic_exceeds_the_worst_case() -> None:
    tally = Tally()
    violations = Violations()
    for number in range(campaign_size(quick=100, deep=12_000)):
        with violations.case(number):
            rng = np.random.default_rng([31, number])
            case = adversarial_case(rng)
            services = plan_services(case.plan())
            kind, curve = random_curve(rng, case, services)
            bound_ns = WorstCase(case.pipeline, curve).bound_ns(services)
            check_against_oracle(case.pipeline, services, curve, bound_ns)
            latest = certified_most_ns = 0
            for seed, trace in enumerate(conforming_traffic(rng, curve)):
                given = case._replace(trace=trace)
                assert overrun(trace.arrival_ns, curve) <= 0, f"case {number}"
                seen = executions(given, seed, rng)
                late = {name: most for name, most in seen.items() if most > bound_ns}
                assert not late, f"case {number}, traffic {seed}: {late} exceed {bound_ns}"
                # The theorem itself stands between the two, rounded up by at most a nanosecond a stage.
                certified_ns = int(certify(given.plan(seed=seed), trace).latency_ns.max())
                assert certified_ns <= bound_ns + len(services), f"case {number}, traffic {seed}"
                latest = max(latest, *seen.values())
                certified_most_ns = max(certified_most_ns, certified_ns)
                tally.executions += len(seen)
                tally.queries += len(seen) * len(trace)
            tally.curves[kind] += 1
            tally.attained[kind] += latest == bound_ns
            tally.attained_by_several_stages += latest == bound_ns and len(services) > 1
            tally.theorem_attained += certified_most_ns >= bound_ns
            tally.ratios.append(bound_ns / latest)
            tally.features.update(features(given, realise(given.pipeline, trace, seed)))
    rare = {name for name in WANTED if tally.features[name] < tally.curves.total() / 20}
    assert not rare, f"too few cases hold these: {rare}"
    # Attained to the nanosecond, so that a term too small by 1 ns somewhere would have failed above.
    assert tally.attained.total()
    assert tally.theorem_attained > tally.curves.total() / 5
    write_summary("envelope", tally.summary(violations.checked()))


def check_against_oracle(
    pipeline: Pipeline, services: dict[str, StageService], curve: ArrivalCurve, bound_ns: int
) -> None:
    slow = {s: SlowService(v.latency_ns, Fraction(v.tokens, v.period_ns)) for s, v in services.items()}
    exact = slow_worst_case(pipeline, slow, curve.buckets, exactly)
    assert exact is not None
    assert exact <= bound_ns < exact + len(services) + 1


def adversarial_case(rng: np.random.Generator) -> Case:
    """Draw a pipeline without unbounded fan-outs; in every second one all draws are the most there may be."""
    case = random_case(rng, max_arrivals=MOST_QUERIES)
    extreme = rng.random() < 0.5
    graph: nx.DiGraph[str] = nx.DiGraph(case.pipeline.graph)
    for edge in case.pipeline.edges:
        attributes = graph.edges[edge.parent, edge.child]
        if edge.fanout.poisson_mean is not None:
            attributes["fanout"] = {"values": [0, 1, 2], "weights": [1, 2, 1]}
        elif extreme:
            attributes["fanout"] = max(edge.fanout.values)
        if extreme:
            attributes["probability"] = 1.0
    return case._replace(pipeline=Pipeline(graph))


def random_curve(
    rng: np.random.Generator, case: Case, services: dict[str, StageService]
) -> tuple[str, ArrivalCurve]:
    """Draw an arrival curve that the slowest stage can keep up with, mostly just so."""
    kind = str(rng.choice(["bucket", "two buckets", "hull"]))
    scale_ns = max(service.latency_ns for service in services.values())
    if kind == "hull":
        return kind, empirical_envelope(random_trace(rng, scale_ns, max_arrivals=MOST_QUERIES).arrival_ns)
    capacity = min(
        service.rate_rps / slow_most_tokens(case.pipeline, stage) for stage, service in services.items()
    )
    # At exactly the capacity floating point could be above it by a hair, which is overload.
    rate = capacity * float(rng.choice([0.3, 0.8, 1 - 1e-12]))
    curve = ArrivalCurve.token_bucket(float(rng.choice([1.0, 1.5, 3.0, 5.0, 12.0, 25.0])), rate)
    if kind == "two buckets":
        peak = rate * float(rng.choice([1.5, 4.0, 50.0]))
        curve = curve.minimum(ArrivalCurve.token_bucket(float(rng.choice([1.0, 2.0])), peak))
    return kind, curve


def executions(case: Case, seed: int, rng: np.random.Generator) -> dict[str, int]:
    """Latency of the latest query in the replay and in one other execution that the theorem covers."""
    given = (slow_tokens(case.pipeline, len(case.trace), seed), case.ingress_ns(), case.service_ns())

    def shorter(stated: int) -> int:
        return int(rng.integers(min(stated, 1), stated + 1))

    variants: list[tuple[str, dict[str, Any]]] = [
        ("shorter service and delays", {"service_takes": shorter, "delay_takes": shorter}),
        ("any order within an instant", {"tie": rng.random}),
        ("both", {"service_takes": shorter, "delay_takes": shorter, "tie": rng.random}),
    ]
    name, settings = variants[int(rng.integers(len(variants)))]
    return {
        "replay": int(replay(case.plan(seed=seed), case.trace).latency_ns.max()),
        name: max(EventLoop(*given, case.replicas(), **settings).run().latency),
    }
