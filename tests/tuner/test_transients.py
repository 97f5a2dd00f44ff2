"""Backlog and activation delay: what is claimed for queries from now on, against replays that change replicas now."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import Any

import networkx as nx
import numpy as np
import pytest

import mipplan as mp
from adversarial_traffic import conforming_traffic
from campaigns import Violations, campaign_size, write_summary
from mipplan.calculus import ArrivalCurve, Envelope
from mipplan.tuner.transients import Transient, awaited
from random_pipelines import random_trace
from tuner_cases import bounded_case, chain, outstanding, promises_recovery, with_objective


def test_a_stage_by_itself_promises_too_much() -> None:
    """Two stages in a row, 20 queries at once, a first stage of one replica that gets nine more after a second.

    Times are a thousand times shorter below. By itself the first stage has served all 20 after 1.1 s (10 in the first
    second, then 100 a second), the second, which serves 20 a second all along, after 1 s: so a wait of 1.1 s would do
    for both. But the second stage is idle half of the first second, and then gets ten at once.
    """
    plan = chain(a=([100], 1), b=([50], 1))
    trace = mp.Trace.from_ns([0] * 20 + [10_000])
    schedule = {"a": mp.ReplicaSchedule([0], [1, 10], delay_ns=1_000)}
    latest = int(mp.replay(plan, trace, schedule=schedule).latency_ns.max())
    service_ns = 100 + 2 * 50
    envelope = Envelope(((0, 20),), 0)
    alone = {
        "a": Transient(0, Fraction(1, 100), 1_000, 0).wait_ns(envelope, Fraction(10, 100)),
        "b": Transient(0, Fraction(1, 50), 1_000, 0).wait_ns(envelope, Fraction(1, 50)),
    }
    # The condition, α(u) + Q ≤ μ·[…], stage by stage: it holds with this wait, even with α for α − 1.
    wait = max(alone.values())
    assert Fraction(1, 100) * 1_000 + Fraction(10, 100) * (wait + 10 - 1_000) >= 20
    assert Fraction(1, 50) * (wait + 10) >= 20
    assert latest > service_ns + wait + 10
    # What the tuner states is with the least rate of the path until the delay is over, and that is kept.
    tuner = mp.Tuner(plan, keep="objective", activation_delay_s=1e-6)
    situation = tuner.situation(0, traffic=envelope, active={"a": 1, "b": 1})
    assert latest <= tuner.budget.transient_bound_ns({"a": 10, "b": 1}, situation) <= latest + 2 * 50
    shared = Transient(0, Fraction(1, 100), 1_000, 0).wait_ns(envelope, Fraction(1, 50))
    assert latest <= service_ns + shared


def test_by_hand() -> None:
    # One replica of 10 ns a query, nine in the queue, five at once now and one every 20 ns; δ = 40.
    envelope = Envelope(((0, 5),), Fraction(1, 20))
    # Without help: 13 others before the last of the five, 130 ns.
    assert Transient(9, Fraction(1, 10), 0, 0).wait_ns(envelope, Fraction(1, 10)) == 130
    # Three more after 40 ns: four are through by then, nine more at 4 in 10 ns.
    assert Transient(9, Fraction(1, 10), 40, 0).wait_ns(envelope, Fraction(4, 10)) == 63
    # To be through within 63 ns takes just that, for those who come now …
    assert Transient(9, Fraction(1, 10), 40, 0).rate_needed(envelope, 63) == Fraction(9, 23)
    # … and nothing helps who may wait 40 ns only.
    assert Transient(9, Fraction(1, 10), 40, 0).rate_needed(envelope, 40) is None
    # Who comes 40 ns later waits no more than 23 ns with (13 + 2 − 4) in 63 ns of help less 40.
    assert Transient(9, Fraction(1, 10), 40, 40).rate_needed(envelope, 23) == Fraction(11, 23)
    # One more if a query's own tokens may be served before the delay is over, to be merged after it.
    assert Transient(9, Fraction(1, 10), 40, 40, merged=1).rate_needed(envelope, 23) == Fraction(12, 23)
    # Twelve in 30 ns that follow an idle moment at 30, of whom one is through at 40, and who have until 70.
    later = Transient(0, Fraction(1, 10), 40, 60, merged=1)
    assert later.rate_needed(Envelope(((0, 1), (30, 12)), 0), 10) == Fraction(12 - 1 + 1 - 1, 30)


def test_what_several_tokens_of_a_query_are_merged_of_is_known() -> None:
    graph: nx.DiGraph[str] = nx.DiGraph()
    for name, join in (("z", None), ("u", "each"), ("v", "all"), ("w", "each"), ("y", "all")):
        graph.add_node(name, model=name, **({} if join is None else {"join": join}))
    graph.add_edge("z", "u", fanout=3)
    graph.add_edge("u", "v")
    graph.add_edge("v", "w")
    graph.add_edge("z", "y")  # merges, but one token only
    known = awaited(mp.Pipeline(graph), {"z": 1, "u": 3, "v": 1, "w": 1, "y": 1})
    assert known.stages == {
        "z": {"z", "u"},
        "u": {"z", "u"},
        "v": {"z", "u", "v"},
        "w": {"z", "u", "v", "w"},
        "y": {"z", "y"},
    }
    assert known.merged == {"z": 1, "u": 1, "v": 1, "w": 1, "y": 0}
    # Where nothing is to be proven, each stage has to serve what is on its way to it.
    assert awaited(mp.Pipeline(graph)).stages["z"] == {"z"}
    assert set(awaited(mp.Pipeline(graph)).merged.values()) == {0}


def test_nothing_serves_before_the_delay() -> None:
    envelope = Envelope(((0, 3),), 0)
    assert Transient(0, Fraction(0), 100, 100).rate_needed(envelope, 20) == Fraction(2, 20)
    assert Transient(0, Fraction(0), 100, 0).wait_ns(envelope, Fraction(1)) >= 2**52


def test_what_cannot_be_made_up_for_is_said() -> None:
    # Service times leave nothing of the objective: whoever comes now waits for those who are there.
    plan = chain(a=([100], 1), slo_s=100e-9)
    tuner = mp.Tuner(plan, keep="objective")
    step = tuner.retune(0, traffic=Envelope(((0, 1),), 0), backlog=5)
    assert step.latency_bound_ns == 100
    assert step.transient_bound_ns == 600
    assert not step.replan
    assert step.notes == ("queries may be late even after 0 ns: a cannot make up for what is there",)
    # In time it is through, whatever waits.
    later = mp.Tuner(plan, keep="objective", recovery_s=250e-9).retune(
        0, traffic=Envelope(((0, 1),), 0), backlog=5
    )
    assert (dict(later.replicas), later.notes) == ({"a": 2}, ())


def test_no_query_is_later_than_its_transient_bound() -> None:
    """From any state: traffic before now is anything, after it inside the envelope, replicas change now."""
    tally: Counter[str] = Counter()
    tightest, violations = 0.0, Violations()
    for number in range(campaign_size(quick=40, deep=6_000)):
        rng = np.random.default_rng([83, number])
        case, curve = bounded_case(rng)
        plan = with_objective(case, curve, rng)
        delay_ns = int(rng.choice([0, 1, 20, 200])) * int(rng.integers(1, 10))
        tuner = mp.Tuner(
            plan, activation_delay_s=delay_ns * 1e-9, recovery_s=int(rng.integers(0, 500)) * 1e-9
        )
        before = random_trace(rng, int(rng.choice([3, 30])), max_arrivals=20).arrival_ns
        now_ns = int(before[-1]) + int(rng.integers(1, 60))
        for traffic in conforming_traffic(rng, curve):
            after = traffic.arrival_ns - traffic.arrival_ns[0] + now_ns
            trace = mp.Trace.from_ns(np.concatenate([before, after]))
            # What happens before now does not depend on what comes later, nor on replicas that change now.
            exits = {name: stage.exit_ns for name, stage in mp.replay(plan, trace).stages.items()}
            backlog = outstanding(plan, trace, now_ns, exits, as_total=rng.random() < 0.3)
            step = tuner.retune(now_ns, traffic=curve, backlog=backlog, active=case.replicas())
            schedule = {
                stage: mp.ReplicaSchedule([now_ns], [case.replicas()[stage], n], delay_ns)
                for stage, n in step.replicas.items()
            }
            result = mp.replay(plan, trace, schedule=schedule)
            latency = result.latency_ns[before.size :]
            if step.transient_bound_ns is not None:
                worst = int(latency.max())
                violations.expect(worst <= step.transient_bound_ns, f"case {number}: bound")
                tightest = max(tightest, worst / step.transient_bound_ns)
                tally["bounded"] += 1
            if promises_recovery(step):
                recovered = latency[after >= now_ns + tuner.recovery_ns]
                violations.expect(recovered.max(initial=0) <= plan.slo_ns, f"case {number}: recovery")
                tally["recovered"] += recovered.size > 0
                tally["late before"] += bool((latency > plan.slo_ns).any())
            tally["backlog"] += bool(backlog if isinstance(backlog, int) else any(backlog.values()))
            tally["raised"] += any(n > case.replicas()[s] for s, n in step.replicas.items())
            tally["lowered"] += any(n < case.replicas()[s] for s, n in step.replicas.items())
            tally["steps"] += 1
    for kind in ("bounded", "recovered", "late before", "backlog", "raised", "lowered"):
        assert tally[kind] > tally["steps"] / 50, kind
    assert tightest > 0.9
    summary = {**tally, "violations": violations.checked(), "tightest": round(tightest, 4)}
    write_summary("tuner_transients", summary)


@pytest.mark.parametrize("backlog", [-1, 1.5, {"a": -1}, {"nowhere": 1}])
def test_wrong_backlogs_are_refused(backlog: Any) -> None:
    tuner = mp.Tuner(chain(a=([10], 1)), sample=ArrivalCurve.token_bucket(1, 1))
    with pytest.raises(mp.InputError, match="backlog"):
        tuner.retune(backlog=backlog)
