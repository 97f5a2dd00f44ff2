"""The theorem against executions: no query of any of them may be later than its certificate.

The executions come from the event loop of `oracle_replay`, which shares nothing with the certificate. They are
the serving model itself and the wider class that the theorem speaks of: batches that take any time up to ℓ(k),
hops that take any time up to the stated delay, and replicas that dispatch in the middle of an instant, whatever
the order of its events. One order matters: where T = ℓ(1), queries of one instant enter in token order.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from campaigns import Violations, campaign_size, write_summary
from mipplan.calculus import analyse_paths
from mipplan.certificate import Certificate, plan_services
from mipplan.tokens import realise
from mipplan.verification import certify
from oracle_replay import EventLoop
from oracle_tokens import SlowTokens, slow_tokens
from random_pipelines import Case, features, random_case

#: What at least one case in twenty must hold, or the campaign would prove little.
WANTED = (
    "join all",
    "join each",
    "skip",
    "fan-out above 1",
    "overload",
    "ties",
    "non-monotone",
    "several sources",
)


@dataclass
class Tally:
    """What a campaign saw."""

    cases: int = 0
    queries: int = 0
    features: Counter[str] = field(default_factory=Counter)
    executions: Counter[str] = field(default_factory=Counter)
    attained: Counter[str] = field(default_factory=Counter)
    attained_at_twice_the_slowest_batch: int = 0
    bounds_attained: int = 0
    ratios: list[float] = field(default_factory=list)

    def add(self, case: Case, certificate: Certificate, seen: dict[str, list[int]], bound_ns: int) -> None:
        """Count one case with the latencies of its executions."""
        attained = {kind for kind, latency in seen.items() if np.any(certificate.latency_ns == latency)}
        self.cases += 1
        self.queries += certificate.latency_ns.size
        self.executions.update(seen.keys())
        self.attained.update(attained)
        if all(case.choices[stage][1] > 1 for stage in case.pipeline.sources):  # else T is ℓ(1) there
            self.attained_at_twice_the_slowest_batch += bool(attained)
        self.bounds_attained += bound_ns == certificate.bound_ns
        self.ratios.append(float(certificate.latency_ns.max() / max(seen["serving model"])))

    def summary(self, violations: int) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "cases": self.cases,
            "queries": self.queries,
            "executions": dict(self.executions),
            "violations": violations,
            "largest_certificate_over_largest_replayed_latency": {
                "least": round(min(self.ratios), 4),
                "median": round(float(np.median(self.ratios)), 4),
                "most": round(max(self.ratios), 4),
            },
            "cases_with_a_query_at_its_certificate": {kind: self.attained[kind] for kind in self.executions},
            "of_these_with_twice_the_slowest_batch_at_all_sources": self.attained_at_twice_the_slowest_batch,
            "cases_with_bound_equal_to_certificate": self.bounds_attained,
            "cases_with_feature": dict(sorted(self.features.items())),
        }


def executions(case: Case, tokens: SlowTokens, rng: np.random.Generator) -> dict[str, list[int]]:
    """Latency of each query in executions that the theorem covers; the first is the serving model itself."""
    given = (tokens, case.ingress_ns(), case.service_ns(), case.replicas())

    def shorter_service(stated: int) -> int:
        return int(rng.integers(1, stated + 1))

    def shorter_delay(stated: int) -> int:
        return int(rng.integers(0, stated + 1))

    loops = {
        "serving model": EventLoop(*given),
        "shorter service and delays": EventLoop(
            *given, service_takes=shorter_service, delay_takes=shorter_delay
        ),
        "any order within an instant": EventLoop(*given, tie=rng.random),
        "both": EventLoop(*given, service_takes=shorter_service, delay_takes=shorter_delay, tie=rng.random),
    }
    return {name: loop.run().latency for name, loop in loops.items()}


def test_no_execution_exceeds_the_certificate() -> None:
    tally = Tally()
    violations = Violations()
    for number in range(campaign_size(quick=100, deep=20_000)):
        with violations.case(number):
            rng = np.random.default_rng([41, number])
            case = random_case(rng)
            workload = realise(case.pipeline, case.trace, number)
            plan = case.plan(seed=number)
            certificate = certify(plan, case.trace)
            seen = executions(case, slow_tokens(case.pipeline, len(case.trace), number), rng)
            for kind, latency in seen.items():
                late = np.flatnonzero(np.array(latency) > certificate.latency_ns).tolist()
                assert not late, f"case {number}, {kind}: queries {late} exceed their certificate"
            bound_ns = analyse_paths(workload, plan.quantile).bound_ns(plan_services(plan))
            assert bound_ns <= certificate.bound_ns, f"case {number}"
            tally.features.update(features(case, workload))
            tally.add(case, certificate, seen, bound_ns)
    rare = {name: tally.features[name] for name in WANTED if tally.features[name] < tally.cases / 20}
    assert not rare, f"too few of {tally.cases} cases hold these: {rare}"
    # The bound is attained to the nanosecond, so that a term too small by 1 ns somewhere would have failed above.
    assert tally.attained["serving model"] > tally.cases / 50
    assert tally.attained_at_twice_the_slowest_batch > tally.cases / 50
    write_summary("certificate", tally.summary(violations.checked()))
