"""`mipplan.sharpen` as people call it, against the sharp certificate of every plan there is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mipplan as mp
from benchmarks.compare.instances import build
from benchmarks.compare.specs import read_frozen
from campaigns import campaign_size, write_summary
from mipplan.baselines import inferline
from mipplan.calculus import ArrivalCurve, StageArrivals, bound_stage
from mipplan.options import Option
from mipplan.pipeline import DispatchLaw
from mipplan.planner import PlanMaker
from mipplan.profiles import Hardware, LatencyTable
from mipplan.refinement.certificates import BoundedRun, StageCertificates
from mipplan.refinement.problem import state_problem
from mipplan.replayer import ENGINES, StageReplays
from mipplan.result import CertificateKind, Limit
from mipplan.tokens import realise
from oracle_paced import slow_paced_service
from planning_instances import hand_made
from refinement_instances import RefinementInstance, refinement_instance


def random_class(number: int) -> mp.RunClass:
    """One class or another."""
    return mp.RunClass((0.0, 0.9, 1.0)[number % 3], ties="any" if number % 5 == 4 else "settled")  # type: ignore[arg-type]


def rate(table: list[int], replicas: int, law: str) -> Fraction:
    """R, tokens per ns."""
    eager = Fraction(replicas * len(table), table[-1])
    return slow_paced_service(table, replicas, False)[1] if law == "paced" else eager


def certified_optimum(
    instance: RefinementInstance, slo_ns: int, runs: mp.RunClass, law: str = "eager"
) -> int | None:
    """Least cost of the stable plans whose certificate keeps the objective."""
    workload = realise(instance.pipeline, instance.trace, instance.seed)
    kept: list[int] = []
    for made in instance.plans:
        plan = mp.Plan.from_choices(
            instance.pipeline,
            instance.profiles,
            made.choices,
            slo_s=1.0,
            quantile=instance.quantile,
            seed=instance.seed,
            dispatch=law,
        )
        stable = all(
            rate(plan.service_ns(stage).tolist(), choice.replicas, law)
            > Fraction(workload.stages[stage].count, workload.span_ns)
            for stage, choice in plan.choices.items()
        )
        if stable and mp.certify(plan, instance.trace, certificate="sharp", runs=runs).bound_ns <= slo_ns:
            kept.append(made.cost)
    return min(kept, default=None)


def under(plan: mp.Plan, law: str) -> mp.Plan:
    """The same plan where all stages are dispatched so."""
    laws = {stage: DispatchLaw(law) for stage in plan.pipeline.stages}
    return replace(plan, objective=plan.objective.under(laws))


def test_sharpened_plan_is_the_cheapest_that_is_certified() -> None:
    seen: Counter[str] = Counter()
    cases = 0
    for number in {*range(campaign_size(12, 1_500)), 162}:  # 162: an objective of 1 ns
        instance = replace(refinement_instance(number), discipline="oldest_first")
        if instance.trace.span_ns == 0 or len(instance.plans) > 400:
            continue  # without a span there is no rate to be stable at; and every plan is certified below
        cases += 1
        slo_ns, runs = instance.slo_ns * (1 + number % 3), random_class(number)
        law = "paced" if number % 4 == 3 else "eager"
        start = under(instance.start(number).with_slo(slo_ns), law)
        best = mp.sharpen(start, instance.trace, runs=runs, time_limit_s=None)
        seen[best.status.value] += 1
        seen[law] += 1
        optimum = certified_optimum(instance, slo_ns, runs, law)
        assert best.microusd_per_hour == optimum, number
        assert (best.certificate, best.runs, best.bound_ns) == (CertificateKind.SHARP, runs, None)
        assert best.dispatch == law
        if optimum is None:
            assert best.status is mp.PlanStatus.INFEASIBLE
            assert best.reason
            continue
        assert best.status is mp.PlanStatus.OPTIMAL
        assert best.lower_bound_microusd_per_hour == optimum
        certificate = mp.certify(best, instance.trace)
        assert best.certificate_ns == certificate.bound_ns <= slo_ns
        assert certificate.runs == runs
    assert min(seen["optimal"], seen["infeasible"], seen["paced"]) > cases // 10
    write_summary("sharpen", {"cases": cases, **seen})


def test_a_limit_leaves_the_best_plan_so_far_and_a_true_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time runs out after a number of looks at the clock, wherever that is."""
    seen: Counter[str] = Counter()
    for number in range(campaign_size(10, 500)):
        instance = replace(refinement_instance(number), discipline="oldest_first")
        if instance.trace.span_ns == 0 or len(instance.plans) > 400:
            continue
        ticks = count()
        with monkeypatch.context() as patch:
            patch.setattr("time.monotonic", lambda ticks=ticks: float(next(ticks)))
            best = mp.sharpen(
                instance.start(number).with_slo(2 * instance.slo_ns),
                instance.trace,
                time_limit_s=float(2 + number % 20),
            )
        seen[best.status.value] += 1
        optimum = certified_optimum(instance, 2 * instance.slo_ns, mp.RunClass())
        if best.choices:
            assert best.certificate_ns is not None
            assert best.certificate_ns <= best.slo_ns
            assert best.lower_bound_microusd_per_hour is not None
            assert optimum is not None
            assert best.lower_bound_microusd_per_hour <= optimum
        if best.status is mp.PlanStatus.FEASIBLE:
            assert best.reason
            assert best.limit is not None
        if best.status is mp.PlanStatus.OPTIMAL:
            assert best.microusd_per_hour == optimum
        if best.status is mp.PlanStatus.INFEASIBLE:
            assert optimum is None
    assert seen["feasible"] + seen["unknown"] > 1


@pytest.mark.parametrize("given", [True, False])
def test_ctrl_c_as_a_plan_is_found_leaves_it_with_its_own_certificate(given: bool) -> None:
    """It came between a plan and its certificate: that of the plan before, or an AttributeError if there was none."""
    instance = hand_made()
    classic = instance.plan()
    start = classic if given else replace(classic, choices={})
    for after in count():
        found = count()

        def interrupt(line: str, found: Any = found, after: int = after) -> None:
            if line.startswith(("found a plan", "the given plan")) and next(found) == after:
                raise KeyboardInterrupt

        plan = mp.sharpen(start, instance.trace, progress=interrupt)
        assert plan.choices
        assert mp.certify(plan, instance.trace, certificate="sharp").bound_ns == plan.certificate_ns
        if next(found) <= after:
            assert after > 0
            break
        assert plan.limit is Limit.INTERRUPT


@pytest.mark.parametrize("asked", ["classic", "greedy"])
def test_ctrl_c_while_others_propose_a_plan_ends_the_search(
    asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They end with what they have, and the search went on to the next proposal: one Ctrl-C was lost on each."""
    instance = hand_made()
    classic, tried = instance.plan(), count()

    def interrupted(*given: Any, **settings: Any) -> mp.Plan:
        next(tried)
        return replace(found(*given, **settings), limit=Limit.INTERRUPT)

    if asked == "classic":
        found: Callable[..., mp.Plan] = PlanMaker.cheapest
        monkeypatch.setattr(PlanMaker, "cheapest", interrupted)
    else:
        found = inferline
        monkeypatch.setattr("mipplan.refinement.sharpening.inferline", interrupted)
    plan = mp.sharpen(classic, instance.trace)
    assert (next(tried), plan.limit, plan.status) == (1, Limit.INTERRUPT, mp.PlanStatus.FEASIBLE)
    assert plan.choices


@pytest.mark.parametrize("dispatch", ["eager", "paced"])
@pytest.mark.parametrize("looks", [1, 3, 10, 30, 100])
def test_no_limit_is_so_short_that_a_sharp_plan_is_dearer(
    looks: int, dispatch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = hand_made(0.045)
    classic = mp.plan(instance.pipeline, instance.profiles, instance.trace, dispatch=dispatch)
    ticks = count()
    with monkeypatch.context() as patch:
        patch.setattr("time.monotonic", lambda: float(next(ticks)))
        found = mp.sharpen(classic, instance.trace, time_limit_s=float(looks))
    assert found.status is mp.PlanStatus.FEASIBLE
    assert classic.microusd_per_hour is not None
    assert found.lower_bound_microusd_per_hour is not None
    assert found.microusd_per_hour is not None
    assert found.lower_bound_microusd_per_hour <= found.microusd_per_hour <= classic.microusd_per_hour
    if looks == 1:  # nothing was evaluated
        assert (found.certificate, found.runs) == (CertificateKind.CLASSIC, None)
        assert (found.choices, found.certificate_ns) == (classic.choices, classic.certificate_ns)
        assert "classic" in (found.reason or "")
    found.save(tmp_path / "plan.json")
    assert mp.verify(tmp_path / "plan.json", instance.trace).verified


@pytest.mark.parametrize("looks", [1, 3, 10, 30])
def test_a_given_plan_with_more_replicas_than_tokens_is_not_lost(
    looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The classic certificate of three at once needs ten replicas for 12 ms; it was as if no plan had been given."""
    document: dict[str, Any] = {"name": "one", "slo": "12ms", "stages": {"s": {"model": "m"}}, "edges": []}
    table = LatencyTable("m", "device", np.array([1]), np.array([10.0]))
    trace = mp.Trace.from_ns(np.repeat(np.arange(2), 3) * 10**9, name="threes")
    given = mp.Pipeline.from_document(document), mp.Profiles.from_parts([Hardware("device", 1.0)], [table])
    classic = mp.plan(*given, trace, quantile=1.0)
    assert classic.choices["s"].replicas == 10
    ticks = count()
    with monkeypatch.context() as patch:
        patch.setattr("time.monotonic", lambda: float(next(ticks)))
        found = mp.sharpen(classic, trace, time_limit_s=float(looks))
    assert found.choices
    assert mp.sharpen(classic, trace).choices["s"].replicas == 3


@pytest.mark.parametrize(
    ("name", "looks", "most"),
    # Without the paced plan random-103 had one of 51 times the paced plan's cost after as many looks at the clock.
    [("random-103", 2_700, 2.0), ("random-103", 3_000, 1.25), ("random-079", 8_000, 4.0)],
)
def test_where_nothing_classic_is_certified_the_search_begins_with_the_paced_plan(
    name: str, looks: int, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = build(next(spec for spec in read_frozen() if spec.name == name))
    instance = replace(whole, planned_on=mp.Trace.from_ns(whole.planned_on.arrival_ns[:600]))
    paced, classic = (
        mp.plan(instance.pipeline, instance.profiles, instance.planned_on, slo_s=instance.slo_s, dispatch=law)
        for law in ("paced", "eager")
    )
    assert not classic.choices
    ticks = count()
    with monkeypatch.context() as patch:
        patch.setattr("time.monotonic", lambda: float(next(ticks)))
        runs = mp.RunClass(least_service=0.0)
        sharp = mp.sharpen(classic, instance.planned_on, runs=runs, time_limit_s=float(looks))
    assert sharp.limit is Limit.TIME
    assert sharp.microusd_per_hour is not None
    assert paced.microusd_per_hour is not None
    assert sharp.microusd_per_hour <= most * paced.microusd_per_hour
    certificate = mp.certify(sharp, instance.planned_on, certificate="sharp", runs=runs)
    assert certificate.bound_ns == sharp.certificate_ns <= sharp.slo_ns


@pytest.mark.parametrize("dispatch", ["eager", "paced", {"detect": "paced"}], ids=["eager", "paced", "mixed"])
@pytest.mark.parametrize("slo_s", [0.02, 0.045])
def test_a_sharp_plan_is_never_dearer_than_a_classic_one(slo_s: float, dispatch: Any, tmp_path: Path) -> None:
    instance = hand_made(slo_s)
    given: tuple[Any, ...] = (instance.pipeline, instance.profiles, instance.trace)
    classic = mp.plan(*given, dispatch=dispatch)
    sharp = mp.plan(*given, dispatch=dispatch, certificate="sharp", time_limit_s=None)
    assert sharp.status is mp.PlanStatus.OPTIMAL
    assert sharp.certificate is CertificateKind.SHARP
    assert sharp.microusd_per_hour is not None
    assert sharp.microusd_per_hour <= (classic.microusd_per_hour or sharp.microusd_per_hour)
    assert mp.replay(sharp, instance.trace).quantile(0.99) <= slo_s
    sharp.save(tmp_path / "plan.json")
    assert mp.verify(tmp_path / "plan.json", instance.trace).verified


def test_auto_is_sharp_where_that_is_affordable_and_there_is_one() -> None:
    instance = hand_made()
    given: tuple[Any, ...] = (instance.pipeline, instance.profiles, instance.trace)
    assert mp.plan(*given, certificate="auto").certificate is CertificateKind.SHARP
    assert mp.plan(*given, certificate="auto", guarantee="envelope").certificate is CertificateKind.CLASSIC
    assert mp.plan(*given, certificate="auto", budget_usd_per_hour=3.0).certificate is CertificateKind.CLASSIC


def test_headroom_and_margin_are_kept(tmp_path: Path) -> None:
    instance = hand_made()
    made = mp.plan(
        instance.pipeline, instance.profiles, instance.trace, headroom=1.3, margin_s=0.01, certificate="sharp"
    )
    assert made.certificate_ns is not None
    assert made.certificate_ns <= made.slo_ns - 10_000_000
    made.save(tmp_path / "plan.json")
    assert mp.verify(tmp_path / "plan.json", instance.trace).verified


def test_a_plan_file_says_which_certificate_its_figure_is(tmp_path: Path) -> None:
    instance, path = hand_made(0.02), tmp_path / "plan.json"
    runs = mp.RunClass(least_service=0.9)
    made = mp.plan(instance.pipeline, instance.profiles, instance.trace, certificate="sharp", runs=runs)
    made.save(path)
    loaded = mp.Plan.load(path)
    assert (loaded.certificate, loaded.runs) == (CertificateKind.SHARP, runs)
    assert loaded.to_json() == path.read_text(encoding="utf-8")
    verification = mp.verify(path, instance.trace)
    assert verification.verified
    assert verification.remarks == (f"the certificate is a sharp one, for runs where {runs.text}",)
    # By the classic theorem the same plan is not certified, as it was made for less.
    again = mp.verify(path, instance.trace, certificate="classic")
    assert again.certificate is not None
    assert again.certificate.runs is None
    assert again.certificate.bound_ns > loaded.slo_ns
    assert not again.verified


def test_a_forged_class_of_runs_is_noticed(tmp_path: Path) -> None:
    instance, path = hand_made(0.045), tmp_path / "plan.json"
    made = mp.plan(instance.pipeline, instance.profiles, instance.trace, certificate="sharp")
    replace(made, objective=replace(made.objective, runs=None)).save(path)
    problems = " ".join(mp.verify(path, instance.trace).problems)
    assert "its class of runs do not go together" in problems


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({"certificate": "dull"}, "certificate"),
        ({"certificate": "sharp", "guarantee": "envelope"}, "certificate"),
        ({"certificate": "sharp", "budget_usd_per_hour": 3.0}, "certificate"),
        ({"runs": mp.RunClass()}, "runs"),
        ({"certificate": "auto", "runs": mp.RunClass(), "guarantee": "envelope"}, "runs"),
        ({"certificate": "auto", "runs": mp.RunClass(), "budget_usd_per_hour": 3.0}, "runs"),
    ],
)
def test_what_has_no_sharp_certificate_is_refused(more: dict[str, Any], place: str) -> None:
    instance = hand_made()
    with pytest.raises(mp.InputError) as caught:
        mp.plan(instance.pipeline, instance.profiles, instance.trace, **more)
    assert place in {fault.place for fault in caught.value.faults}


def test_plans_of_other_guarantees_are_refused() -> None:
    instance = hand_made()
    given: tuple[Any, ...] = (instance.pipeline, instance.profiles, instance.trace)
    curve = ArrivalCurve.token_bucket(5.0, 125.0)
    for made in (
        mp.plan(*given, guarantee="envelope", envelope=curve),
        mp.plan(*given, budget_usd_per_hour=3.0),
    ):
        with pytest.raises(mp.InputError):
            mp.sharpen(made, instance.trace)


def bounded(
    stages: str, table_ns: int, replicas: int, runs: mp.RunClass, law: DispatchLaw, together: int = 2
) -> BoundedRun:
    """The first stage of a chain, some queries at a time: bounded under so many replicas, which serve one each."""
    edges = [{"from": parent, "to": child} for parent, child in pairwise(stages)]
    document = {"name": "chain", "slo": "1s", "stages": {s: {"model": "m"} for s in stages}, "edges": edges}
    pipeline = mp.Pipeline.from_document(document)
    table = LatencyTable("m", "device", np.array([1]), np.array([table_ns * 1e-6]))
    profiles = mp.Profiles.from_parts([Hardware("device", 1.0)], [table])
    workload = realise(pipeline, mp.Trace.from_ns(np.repeat(np.arange(5) * 2 * table_ns, together)), 0)
    problem = state_problem(pipeline, profiles, workload, 10**9, 1.0, dict.fromkeys(stages, law))
    replays = StageReplays(workload, ENGINES["numpy"], fifo=False)
    option = Option(problem.domains[stages[0]][0].family, replicas)
    (found,) = StageCertificates(problem, replays, runs).serve(stages[0], [option], {})
    assert isinstance(found, BoundedRun)
    return found


def test_more_replicas_are_left_out_where_they_are_surely_of_no_use() -> None:
    """Nobody waits in any of these; what has no use ends the search for more replicas of the family."""
    early = mp.RunClass(least_service=0.5)
    for stages, replicas, runs, felt in (
        ("a", 2, early, False),
        ("ab", 2, early, False),  # b may be passed by more, and nothing is below it
        ("abc", 2, early, True),
        ("abc", 2, mp.RunClass(), False),  # how many pass is not known anyway
        ("abc", 2, mp.RunClass(least_service=0.5, ties="any"), False),
    ):
        found = bounded(stages, 1_000, replicas, runs, DispatchLaw.EAGER)
        assert found.bound is not None
        assert (found.bound.tokens.latest_dispatch_ns == found.bound.arrivals.latest_ns).all()
        assert found.waits is felt, stages


def test_whole_nanoseconds_of_pacing_may_make_more_replicas_wait() -> None:
    """4 ns each, two at once: 3 replicas (2 ns apart) may start both, 4 (1 ns apart) may not."""
    three, four = (bounded("a", 4, number, mp.RunClass(), DispatchLaw.PACED) for number in (3, 4))
    assert (three.exit_ns < four.exit_ns).any()
    assert three.waits
    assert not bounded("a", 16, 3, mp.RunClass(), DispatchLaw.PACED, 1).waits


def test_who_comes_later_may_be_surely_served_sooner() -> None:
    """Why more that may pass is no reason to leave a plan out where stages follow: the fourth token's own bound falls.

    From 34 on the second one is surely gone before it comes, so one batch fewer can be before it.
    """
    earliest_ns, latest_ns = np.array([23, 26, 27, 28, 28]), np.array([31, 30, 37, 33, 39])
    found = []
    for more in (0, 1):
        latest_ns[3] += more
        arrivals = StageArrivals(earliest_ns, latest_ns.copy(), np.arange(5), np.zeros(5, dtype=np.int64))
        bounds = bound_stage(arrivals, np.array([4]), 2, False, mp.RunClass(), DispatchLaw.PACED)
        found.append(int(bounds.latest_dispatch_ns[3]))
    assert found == [39, 38]
