"""`plan(guarantee="envelope")`: as cheap as brute force, within its arguments, and re-checkable from its file."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

import mipplan as mp
from campaigns import Violations, campaign_size, write_summary
from mipplan.calculus import ArrivalCurve, empirical_envelope
from mipplan.core import NS_PER_S
from mipplan.result import document_text, fingerprint
from mipplan.tokens import realise
from oracle_envelope import SlowService, slow_most_tokens, slow_worst_case
from oracle_planner import (
    OracleFamily,
    Services,
    TooLargeError,
    cheapest_within,
    oracle_families,
    oracle_limits,
)
from planning_instances import PlanningInstance, hand_made, planning_instance

HOPELESS_NS = 2**60


def brute_force_parts(
    instance: PlanningInstance, curve: ArrivalCurve
) -> tuple[dict[str, list[OracleFamily]], Callable[[Services], int]]:
    """Families that outrun both curve and trace, and the worst case of any choice, from the definition."""
    pipeline, trace = instance.pipeline, instance.trace
    rate = max(Fraction(len(trace), trace.span_ns), Fraction(curve.rate) / NS_PER_S)
    families = oracle_families(pipeline, instance.profiles, realise(pipeline, trace, instance.seed))
    raised: dict[str, list[OracleFamily]] = {}
    for stage, found in families.items():
        needed = [
            math.floor(rate * slow_most_tokens(pipeline, stage) * f.period_ns / f.batch) + 1 for f in found
        ]
        raised[stage] = [
            replace(f, fewest=max(f.fewest, n)) for f, n in zip(found, needed, strict=True) if n <= f.most
        ]

    def worst_case_ns(services: Services) -> int:
        slow = {s: SlowService(t, Fraction(tokens, period)) for s, (t, period, tokens) in services.items()}
        worst = slow_worst_case(pipeline, slow, curve.buckets, math.ceil)
        return HOPELESS_NS if worst is None else int(worst)

    return raised, worst_case_ns


def envelope_request(number: int) -> tuple[PlanningInstance, ArrivalCurve | None]:
    """Draw an instance, an arrival curve (None: the trace's own) and an objective near some plan's worst case."""
    instance = planning_instance(number)
    rng = np.random.default_rng([77, number])
    curve = None
    if rng.random() < 0.7:
        burst = float(rng.choice([1.0, 2.0, 3.5, 8.0]))
        curve = ArrivalCurve.token_bucket(burst, instance.trace.rate_rps * float(rng.uniform(0.4, 1.6)))
        if rng.random() < 0.5:
            curve = curve.minimum(ArrivalCurve.token_bucket(1.0, 6 * instance.trace.rate_rps))
    families, worst_case_ns = brute_force_parts(
        instance, curve or empirical_envelope(instance.trace.arrival_ns)
    )
    if all(families.values()):
        chosen = {stage: found[int(rng.integers(len(found)))] for stage, found in families.items()}
        reached = worst_case_ns(
            {s: f.service(min(f.most, f.fewest + int(rng.integers(3)))) for s, f in chosen.items()}
        )
        factor = float(rng.choice([1.0, 1.0, 0.8, 1.3, 0.2]))
        instance = replace(instance, slo_ns=max(1, int(reached * factor) - int(rng.integers(2))))
    return instance, curve


def test_plans_are_as_cheap_as_brute_force() -> None:
    numbers = range(7000, 7000 + campaign_size(16, 200))
    verdicts: Counter[str] = Counter()
    skipped = 0
    violations = Violations()
    for number in numbers:
        with violations.case(number):
            instance, curve = envelope_request(number)
            actual = curve or empirical_envelope(instance.trace.arrival_ns)
            families, worst_case_ns = brute_force_parts(instance, actual)
            try:
                truth = cheapest_within(
                    families, oracle_limits(instance.profiles), worst_case_ns, instance.slo_ns
                )
            except TooLargeError:
                skipped += 1
                continue
            plan = instance.plan(guarantee="envelope", envelope=curve)
            verdicts[plan.status] += 1
            if truth is None:
                assert (plan.status, dict(plan.choices)) == ("infeasible", {}), number
                assert plan.reason
                continue
            assert plan.status == "optimal", number
            assert plan.microusd_per_hour == plan.lower_bound_microusd_per_hour == truth.cost, number
            assert dict(plan.choices) in truth.optima, number
            assert plan.envelope == actual.buckets
            assert plan.certificate_ns == worst_case_ns(services_of(plan, families)) <= instance.slo_ns, (
                number
            )
            assert plan.bound_ns == plan.certificate_ns, number
            # Any draw of the tokens, not only the plan's: the guarantee is for every one.
            if curve is None:
                for seed in range(3):
                    assert mp.replay(plan, instance.trace, seed=seed).latency_ns.max() <= plan.certificate_ns
    assert skipped <= len(numbers) / 5
    assert min(verdicts["optimal"], verdicts["infeasible"]) >= 0.15 * len(numbers)
    write_summary(
        "envelope_planning",
        {
            "instances": len(numbers) - skipped,
            "too_large_for_brute_force": skipped,
            "mismatches": violations.checked(),
            "verdicts": dict(sorted(verdicts.items())),
        },
    )


def services_of(plan: mp.Plan, families: Mapping[str, list[OracleFamily]]) -> dict[str, tuple[int, int, int]]:
    return {
        stage: next(f for f in families[stage] if (f.hardware, f.batch) == (c.hardware, c.batch)).service(
            c.replicas
        )
        for stage, c in plan.choices.items()
    }


def test_what_is_guaranteed_for_all_queries_costs_no_less() -> None:
    # The own envelope admits the trace, so what holds for all of it holds for the trace at every quantile.
    for number in range(7300, 7312):
        instance = planning_instance(number, limited=False)
        certified = instance.plan(quantile=1.0)
        worst = instance.plan(guarantee="envelope")
        if worst.choices:
            assert certified.microusd_per_hour is not None
            assert worst.microusd_per_hour is not None
            assert certified.microusd_per_hour <= worst.microusd_per_hour


@pytest.mark.parametrize(
    ("wrong", "place", "said"),
    [
        ({"envelope": ArrivalCurve.token_bucket(5, 100)}, "envelope", "the guarantee envelope"),
        ({"guarantee": "envelope", "envelope": (5, 100)}, "envelope", "ArrivalCurve"),
        (
            {"guarantee": "envelope", "envelope": ArrivalCurve.token_bucket(0.5, 100)},
            "envelope",
            "at least 1",
        ),
        ({"guarantee": "enveloppe"}, "guarantee", "envelope"),
    ],
)
def test_bad_arguments(wrong: dict[str, object], place: str, said: str) -> None:
    with pytest.raises(mp.InputError) as caught:
        hand_made().plan(**wrong)
    assert [fault.place for fault in caught.value.faults] == [place]
    assert said in str(caught.value)


def test_poisson_fan_out_is_refused_with_its_edge() -> None:
    instance = hand_made()
    graph = nx.DiGraph(instance.pipeline.graph)
    graph.edges["detect", "identify"]["fanout"] = {"poisson": 1.2}
    random = replace(instance, pipeline=mp.Pipeline(graph=graph, slo_s=1.0, name="random"))
    assert random.plan(slo_s=1.0).status == "optimal"
    with pytest.raises(mp.InputError, match="random: edge detect -> identify: a Poisson fan-out"):
        random.plan(guarantee="envelope")


def test_traffic_that_nothing_outruns_is_infeasible_with_the_stage() -> None:
    instance = hand_made(limit=2)
    graph = nx.DiGraph(instance.pipeline.graph)
    graph.nodes["detect"]["hardware"] = ["t4"]
    limited = replace(instance, pipeline=mp.Pipeline(graph=graph, slo_s=1.0))
    plan = limited.plan(guarantee="envelope", envelope=ArrivalCurve.token_bucket(5, 5_000))
    assert plan.status == "infeasible"
    assert "'detect' at 5000 tokens/s" in (plan.reason or "")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    plan = hand_made(0.2).plan(guarantee="envelope", envelope=ArrivalCurve(((2.0, 1000.0), (6.0, 140.0))))
    assert plan.status == "optimal"
    plan.save(tmp_path / "plan.json")
    return tmp_path / "plan.json"


def test_curves_of_whole_numbers_come_back_from_files(tmp_path: Path) -> None:
    instance = hand_made()
    curve = ArrivalCurve(((20, 130), (np.int64(8), np.float32(2000))))
    plan = instance.plan(slo_s=0.5, guarantee="envelope", envelope=curve)
    plan.save(tmp_path / "plan.json")
    assert mp.Plan.load(tmp_path / "plan.json") == plan
    assert mp.verify(tmp_path / "plan.json", instance.trace).verified


def test_file_is_verified_on_every_trace_inside(path: Path) -> None:
    # Bursts of five at once are outside min(2 + 1000·u, …); pairs 50 ms apart are inside.
    inside = mp.Trace.from_ns(np.repeat(np.arange(40) * 50_000_000, 2), name="pairs")
    verification = mp.verify(path, inside)
    assert verification.verified
    assert ["another trace" in remark for remark in verification.remarks] == [True]
    assert verification.worst_case_ns == verification.plan.certificate_ns
    outside = mp.verify(path, hand_made().trace)
    assert outside.verified
    (remark,) = outside.remarks
    assert remark.startswith(
        "this trace exceeds the plan's arrival curve by up to 3 queries: only its own certif"
    )


@pytest.mark.parametrize(
    ("bucket", "place", "value"), [(0, 0, 1.5), (0, 1, 500.0), (1, 0, 12.0), (1, 1, 155.0)]
)
def test_altered_curve_is_noticed(path: Path, bucket: int, place: int, value: float) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    document["envelope"][bucket][place] = value
    path.write_text(json.dumps(document), encoding="utf-8")
    problems = mp.verify(path, hand_made().trace).problems
    assert "altered" in problems[0]
    # Also a forger who makes every checksum anew has to match the figures.
    body = {key: content for key, content in document.items() if key != "checksum"}
    body["hashes"] = {part: fingerprint(body[part]) for part in ("pipeline", "profiles")}
    path.write_text(document_text(body), encoding="utf-8")
    problems = mp.verify(path, hand_made().trace).problems
    assert problems
    reasons = ("recomputed", "objective", "overloaded")
    assert all(any(reason in problem for reason in reasons) for problem in problems)


@pytest.mark.parametrize(
    ("guarantee", "envelope"),
    [
        ("envelope", None),
        ("trace", [[5.0, 200.0]]),
        ("envelope", []),
        ("envelope", [[5.0]]),
        ("envelope", [[-1.0, 200.0]]),
        ("envelope", [[5.0, "fast"]]),
    ],
)
def test_guarantee_and_curve_go_together(path: Path, guarantee: str, envelope: object) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    document.update({"guarantee": guarantee, "envelope": envelope})
    body = {key: content for key, content in document.items() if key != "checksum"}
    path.write_text(document_text(body), encoding="utf-8")
    try:
        problems = " ".join(mp.verify(path, hand_made().trace).problems)
    except mp.InputError as error:
        problems = str(error)
    assert "arrival curve" in problems or "envelope" in problems
