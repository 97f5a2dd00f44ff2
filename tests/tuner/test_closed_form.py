"""The closed form for replica counts: necessary, sufficient, and kept by rounding up, on any DAG of single tokens."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from campaigns import campaign_size
from mipplan.calculus import ArrivalCurve, Envelope, WorstCase, servers_needed
from mipplan.certificate import plan_services
from mipplan.core import NS_PER_S, UNLIMITED_NS
from oracle_envelope import SlowService
from oracle_scaling import slow_keeps, slow_least_counts
from tuner_cases import single_token_case

MOST = 40


def random_buckets(rng: np.random.Generator, rate_rps: float) -> ArrivalCurve:
    pairs = [
        (
            float(rng.choice([1, 2, 5, 9.5])) + float(rng.integers(0, 30)),
            rate_rps * float(rng.uniform(0.2, 3)),
        )
        for _ in range(int(rng.integers(1, 4)))
    ]
    return ArrivalCurve(tuple(pairs))


def test_closed_form_is_the_least_that_keeps_the_bound() -> None:
    kept = refused = several = 0
    for number in range(campaign_size(quick=150, deep=3_000)):
        rng = np.random.default_rng([61, number])
        case = single_token_case(rng)
        single = plan_services(
            case._replace(choices={s: (h, b, 1) for s, (h, b, _) in case.choices.items()}).plan()
        )
        slow = {s: SlowService(v.latency_ns, Fraction(v.tokens, v.period_ns)) for s, v in single.items()}
        curve = random_buckets(rng, float(rng.choice([1, 6])) * min(v.rate_rps for v in single.values()))
        # One more than what service times alone take, and up: waits from nothing to plenty.
        idle = ArrivalCurve.token_bucket(1, 0)
        least_ns = WorstCase(case.pipeline, idle).bound_ns(single)
        deadline_ns = least_ns + int(rng.integers(0, 1 + int(rng.choice([3, 100])) * least_ns))
        through = {
            stage: WorstCase(case.pipeline, idle)._through(single)[stage] for stage in case.pipeline.stages
        }
        envelope = Envelope.of_curve(curve)
        needs = {
            stage: servers_needed(envelope, v.period_ns, v.tokens, deadline_ns - through[stage])
            for stage, v in single.items()
        }
        least = slow_least_counts(case.pipeline, slow, curve.buckets, deadline_ns, MOST)
        if any(need is None or need > MOST for need in needs.values()):
            assert least is None, f"case {number}"
            refused += 1
            continue
        counts = {stage: max(1, math.ceil(need)) for stage, need in needs.items() if need is not None}
        assert counts == least, f"case {number}"
        # Each count is the least by itself; that they keep the bound together is the claim about paths.
        assert slow_keeps(case.pipeline, slow, counts, curve.buckets, deadline_ns), f"case {number}"
        kept += 1
        several += len(counts) > 1
    assert kept > 0.2 * (kept + refused)
    assert refused > 0
    assert several > 0.2 * kept


def test_corner_cases_by_hand() -> None:
    # Ten at once, 10 ns each, 45 ns to wait: nine others in 45 ns need two replicas, exactly.
    burst = Envelope(((0, 10),), 0)
    assert servers_needed(burst, 10, 1, 45) == 2
    assert servers_needed(burst, 10, 1, 44) == Fraction(90, 44)
    # Nothing to wait: none is enough for two at once, and any for one at a time.
    assert servers_needed(burst, 10, 1, 0) is None
    assert servers_needed(Envelope(((0, 1),), Fraction(1, 10)), 10, 1, 0) == 1
    assert servers_needed(burst, 10, 1, -1) is None
    # Nothing ever comes.
    assert servers_needed(Envelope(((0, 0),), 0), 10, 1, 5) == 0
    # A long-run rate of three replicas, with all the time in the world.
    assert servers_needed(Envelope(((0, 5),), Fraction(3, 10)), 10, 1, UNLIMITED_NS) == 3
    # Tokens per query multiply.
    assert servers_needed(burst, 10, 1, 45, 3) == 6
    assert servers_needed(burst, 10, 1, 45, Fraction(1, 2)) == 1


def test_a_share_of_the_replicas_serves_that_share_of_the_traffic() -> None:
    for number in range(40):
        rng = np.random.default_rng([62, number])
        envelope = Envelope.of_curve(random_buckets(rng, 50.0))
        period_ns, wait_ns = int(rng.integers(1, NS_PER_S // 10)), int(rng.integers(1, NS_PER_S))
        share = Fraction(int(rng.integers(0, 101)), 100)
        need = servers_needed(envelope, period_ns, 4, wait_ns)
        assert need is not None
        assert servers_needed(envelope.thinned(share), period_ns, 4, wait_ns) == share * need
