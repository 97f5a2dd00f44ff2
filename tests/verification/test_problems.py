"""`verify` names each thing that is wrong with a plan, alone and in words, and nothing that is right."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mipplan as mp
from mipplan.calculus import ArrivalCurve, WorstCase
from mipplan.certificate import plan_services
from mipplan.core import format_duration
from mipplan.result import document_text, fingerprint
from planning_instances import hand_made, powered_profiles
from variant_instances import variant_instance

TRACE, PROFILES = hand_made().trace, mp.Profiles.default()
#: Five queries at once and 130 per second: what the trace has, whose bursts come every 40 ms.
CURVE = ArrivalCurve.token_bucket(5, 130)


@pytest.fixture
def forged(tmp_path: Path) -> Callable[..., mp.Verification]:
    """Verify a plan of which some fields were changed and every checksum made anew."""

    def verify(plan: mp.Plan, trace: mp.Trace | list[mp.Trace] = TRACE, **changes: Any) -> mp.Verification:
        path = tmp_path / "plan.json"
        plan.save(path)
        document = json.loads(path.read_text(encoding="utf-8"))
        body = {key: value for key, value in document.items() if key != "checksum"}
        for place, value in changes.items():
            inner, *_, key = (body, *place.split("__"))
            for step in place.split("__")[:-1]:
                inner = inner[step]
            inner[key] = value
        body["hashes"] = {part: fingerprint(body[part]) for part in ("pipeline", "profiles")}
        path.write_text(document_text(body), encoding="utf-8")
        return mp.verify(path, trace)

    return verify


Forge = Callable[..., mp.Verification]


def test_certificate_and_class_of_runs_go_together(forged: Forge) -> None:
    together = "the file's certificate and its class of runs do not go together"
    classic = hand_made().plan()
    sharp = hand_made().plan(certificate="sharp")
    assert forged(classic).problems == forged(sharp).problems == ()
    assert together in forged(classic, certificate="sharp").problems
    assert together in forged(sharp, certificate="classic").problems
    by_arrival = hand_made().plan(discipline="fifo", runs=mp.RunClass(0.9))
    assert by_arrival.runs is not None
    assert by_arrival.certificate_ns is not None
    assert forged(by_arrival).problems == ()
    other = by_arrival.certificate_ns - 1
    assert forged(by_arrival, figures__certificate_ns=other).problems == (
        f"the file states a certificate of {other} ns; recomputed it is {by_arrival.certificate_ns} ns",
    )


def test_figures_of_samples_are_held_against_each_other_and_recomputed(forged: Forge) -> None:
    """The worst of all is the file's; each is what it is on the traces at hand, and of others nothing is said."""
    instance = hand_made()
    calm = mp.Trace.from_ns(np.arange(50) * 9_000_000, name="calm")
    plan = mp.plan(instance.pipeline, instance.profiles, [TRACE, calm]).require()
    (first, second), names = plan.samples, [one.name for one in plan.samples]
    assert sorted(names) == ["bursts", "calm"]
    worst = max(first.certificate_ns, second.certificate_ns)
    assert worst == plan.certificate_ns
    # Judged as it was not planned, its figures are others.
    for how in ({"dispatch": "paced"}, {"certificate": "sharp"}):
        assert mp.verify(plan, [TRACE, calm], **how).problems == ()
    both = {"bursts": TRACE, "calm": calm}
    for number, (name, other) in enumerate(zip(names, names[::-1], strict=True)):
        own = plan.samples[number].certificate_ns
        for figure in (own + 1, own - 1):
            changed = replace(
                plan,
                figures=replace(
                    plan.figures,
                    samples=tuple(
                        replace(one, certificate_ns=figure if n == number else one.certificate_ns)
                        for n, one in enumerate(plan.samples)
                    ),
                ),
            )
            told = f"the file states a certificate of {figure} ns on {name}; recomputed it is {own} ns"
            greatest = "the file's certificate is not the greatest of those on its samples"
            is_greatest = max(one.certificate_ns for one in changed.samples) == worst
            expected = {told} if is_greatest else {told, greatest}
            assert set(mp.verify(changed, [TRACE, calm]).problems) == expected
            assert set(mp.verify(changed, both[name]).problems) == expected
            assert set(mp.verify(changed, both[other]).problems) == expected - {told}


def test_a_lower_bound_is_held_against_cost_and_status(forged: Forge) -> None:
    plan = hand_made().plan()
    cost = plan.microusd_per_hour
    assert cost is not None
    assert plan.status == "optimal"
    assert forged(plan, figures__lower_bound_microusd_per_hour=cost + 1).problems == (
        "the file states a lower bound above its cost",
    )
    below = {"figures__lower_bound_microusd_per_hour": cost - 1}
    assert forged(plan, **below).problems == (
        "the file calls the plan optimal, but its lower bound is below its cost",
    )
    # With a gap it is what it says it is, and without a bound nothing is said.
    assert forged(plan, **below, status="feasible").problems == ()
    assert forged(plan, figures__lower_bound_microusd_per_hour=None).problems == ()


def test_a_cost_is_what_the_choices_cost(forged: Forge) -> None:
    plan = hand_made().plan()
    cost = plan.microusd_per_hour
    assert cost is not None
    for other in (cost - 1, cost + 1):
        # The lower bound goes along, so that nothing else is wrong.
        changes = {"figures__microusd_per_hour": other, "figures__lower_bound_microusd_per_hour": other}
        (problem,) = forged(plan, **changes).problems
        assert problem == f"the file states a cost of {other / 1e6} $/h; its choices cost {cost / 1e6} $/h"


def test_a_budget_may_be_spent_to_the_last_cent(forged: Forge) -> None:
    plan = hand_made().plan()
    cost = plan.microusd_per_hour
    assert cost is not None
    assert forged(plan, budget_microusd_per_hour=cost).problems == ()
    assert forged(plan, budget_microusd_per_hour=cost - 1).problems == (
        "the plan costs more than the budget that the file states",
    )


def test_guarantee_and_arrival_curve_go_together(forged: Forge) -> None:
    plan = hand_made().plan(guarantee="envelope", envelope=CURVE)
    assert forged(plan).problems == ()
    assert forged(plan, guarantee="trace").problems == (
        "the file's guarantee and its arrival curve do not go together",
    )
    assert (
        "the file's guarantee and its arrival curve do not go together"
        in forged(plan, envelope=None).problems
    )


def test_the_certificate_may_reach_the_objective_less_the_margin(forged: Forge) -> None:
    plan = hand_made().plan()
    certified = plan.certificate_ns
    assert certified is not None
    assert forged(plan, slo_ns=certified).problems == ()
    (problem,) = forged(plan, slo_ns=certified - 1).problems
    assert problem == (
        f"the certificate is {format_duration(certified)}, above the objective of {format_duration(certified - 1)}"
    )
    assert forged(plan, slo_ns=certified + 7_000_000, margin_ns=7_000_000).problems == ()
    (problem,) = forged(plan, slo_ns=certified + 6_999_999, margin_ns=7_000_000).problems
    assert problem.endswith(" less 7 ms of margin")


def test_a_refined_plan_is_told_why_it_is_refused(forged: Forge) -> None:
    plan = hand_made().plan()
    (told,) = forged(plan, slo_ns=1_000_000, guarantee="replay").problems
    assert told.endswith(
        "; the plan was refined by replay, which no theorem covers: judge it with mipplan replay"
    )
    (told,) = forged(plan, slo_ns=1_000_000).problems
    assert "refined" not in told
    timed = hand_made().plan(dispatch="timed", time_limit_s=60)
    assert timed.guarantee == "replay"
    (told,) = forged(timed, slo_ns=1_000_000).problems
    assert told.endswith("above the objective of 1 ms")  # the theorem of timed dispatch covers its replay


def test_what_there_was_no_time_to_certify_is_no_problem_of_a_refined_plan(forged: Forge) -> None:
    refined = replace(hand_made().plan(), objective=replace(hand_made().plan().objective, guarantee="replay"))
    assert forged(refined).problems == ()
    assert forged(refined, figures__certificate_ns=None, figures__bound_ns=None).problems == ()
    assert "certificate of nothing" in forged(hand_made().plan(), figures__certificate_ns=None).problems[0]


def test_headroom_is_planned_for_and_judged(forged: Forge) -> None:
    """The first stage serves 143 tokens per second: enough for 139, and not for half as many again."""
    instance = hand_made()
    choices = {"detect": ("cpu", 2, 1), "identify": ("cpu", 2, 2)}
    plan = mp.Plan.from_choices(instance.pipeline, instance.profiles, choices, slo_s=60.0)
    assert forged(plan).problems == ()
    for headroom in (2.0, 1.5):
        verification = forged(plan, headroom=headroom)
        assert verification.certificate is not None
        latency_ns = verification.certificate.latency_ns.tolist()
        assert latency_ns == mp.certify(plan, TRACE.scale(headroom)).latency_ns.tolist()
        assert latency_ns != mp.certify(plan, TRACE).latency_ns.tolist()
    (problem,) = verification.problems
    assert problem.startswith(
        "stage 'detect' is overloaded: it serves 142.9 tokens/s at most, and 208.3 arrive"
    )


def test_the_worst_case_of_a_curve_is_recomputed_on_any_trace(forged: Forge) -> None:
    plan = hand_made().plan(guarantee="envelope", envelope=CURVE)
    worst_ns = WorstCase(plan.pipeline, CURVE).bound_ns(plan_services(plan))
    assert plan.certificate_ns == worst_ns
    calm = mp.Trace.from_ns(np.arange(50) * 9_000_000, name="calm")
    for trace in (TRACE, calm):
        verification = forged(plan, trace)
        assert verification.problems == ()
        assert verification.worst_case_ns == worst_ns
        problems = forged(plan, trace, figures__certificate_ns=worst_ns - 1).problems
        assert problems == (
            f"the file states a certificate of {worst_ns - 1} ns; recomputed it is {worst_ns} ns",
        )
    # What a trace guarantees is known of the trace planned for only.
    traced = hand_made().plan()
    assert forged(traced).worst_case_ns is None
    assert forged(traced, calm, figures__certificate_ns=1, figures__bound_ns=1).problems == ()
    # The worst case decides, not the certificate of the trace, which is less.
    (problem,) = forged(plan, slo_ns=worst_ns - 1).problems
    assert problem.startswith(f"the certificate is {format_duration(worst_ns)}, above")


def test_a_trace_outside_the_curve_is_remarked(forged: Forge) -> None:
    plan = hand_made().plan(guarantee="envelope", envelope=CURVE)
    assert forged(plan).remarks == ()
    # Six at once where the curve allows five.
    burst = mp.Trace.from_ns([*np.arange(20) * 40_000_000, *[800_000_000] * 6], name="burst")
    other, outside = forged(plan, burst).remarks
    assert other.startswith("judged on another trace")
    own_ns = mp.certify(plan, burst).bound_ns
    told = (
        "this trace exceeds the plan's arrival curve by up to 1 queries: only its own certificate covers it, "
        f"{format_duration(own_ns)}"
    )
    assert outside == told
    exactly = mp.Trace.from_ns([*np.arange(20) * 40_000_000, *[800_000_000] * 5], name="exactly")
    (other,) = forged(plan, exactly).remarks
    assert other.startswith("judged on another trace")
    # Far outside, its own certificate misses, though the worst case inside keeps the objective.
    flood = mp.Trace.from_ns([*np.arange(20) * 40_000_000, *[800_000_000] * 60], name="flood")
    verification = forged(plan, flood)
    (problem,) = verification.problems
    own, asked = (format_duration(ns) for ns in (mp.certify(plan, flood).bound_ns, plan.slo_ns))
    assert problem.startswith("this trace exceeds the plan's arrival curve by up to 55 queries: ")
    assert problem.endswith(f"{own}, above the objective of {asked}")
    assert not verification.verified
    # Of several traces the one outside is named.
    both = forged(plan, [exactly, flood])
    assert [problem.partition(" ")[0] for problem in both.problems] == ["flood"]


def test_remarks_say_how_it_was_judged_where_that_is_not_as_planned(tmp_path: Path) -> None:
    """Each alone: other laws, another certificate, another class of runs; figures are recomputed under none of them."""
    laws = "judged under other laws, discipline, stagger, window or batch latencies than it was made for"
    classic = hand_made().plan()
    sharp = hand_made().plan(certificate="sharp", runs=mp.RunClass(0.9))
    of_sharp = f"the certificate is a sharp one, for runs where {mp.RunClass(0.9).text}"
    for how in ({"dispatch": "paced"}, {"stagger_s": 1e-6}, {"window_s": 1e-6}, {"discipline": "fifo"}):
        remarks = mp.verify(classic, TRACE, **how).remarks
        assert laws in remarks
    assert mp.verify(sharp, TRACE).remarks == (of_sharp,)
    (of_others, other) = mp.verify(classic, TRACE, certificate="sharp").remarks
    assert of_others.startswith("the certificate is a sharp one, for runs where ")
    assert other == "judged by another certificate than the classic one that the file's figure comes from"
    assert mp.verify(sharp, TRACE, certificate="classic").remarks == (
        "judged by another certificate than the sharp one that the file's figure comes from",
    )
    by_arrival = hand_made().plan(discipline="fifo", runs=mp.RunClass(0.9))
    of_fifo = f"the certificate is that of fifo queues, for runs where {mp.RunClass(0.9).text}"
    assert mp.verify(by_arrival, TRACE).remarks == (of_fifo,)
    told, runs = mp.verify(by_arrival, TRACE, runs=mp.RunClass(0.5)).remarks
    assert told == of_fifo.replace(mp.RunClass(0.9).text, mp.RunClass(0.5).text)
    assert runs == "judged for another class of runs than the one that the file's figure holds for"


def test_remarks_name_both_traces(forged: Forge) -> None:
    instance = hand_made()
    plan = instance.plan()
    other = mp.Trace.from_ns(np.arange(1200) * 40_000_000, name="other")
    assert forged(plan, other).remarks == (
        "judged on another trace: the plan was made for 'bursts' (50 queries), this is 'other' (1,200 queries)",
    )
    choices = {"detect": ("t4", 4, 2), "identify": ("t4", 4, 2)}
    given = mp.Plan.from_choices(instance.pipeline, instance.profiles, choices, slo_s=0.08)
    assert forged(given).remarks == (
        "judged on a trace the plan was not made for: it was made for none, this is 'bursts' (50 queries)",
    )
    noted = plan.trace.note if plan.trace is not None else ""
    assert noted == ""
    (remark,) = forged(plan, other, trace__note="first hour").remarks
    assert "made for 'bursts' (50 queries, first hour), this" in remark


def test_an_overloaded_stage_is_told_by_its_rates(forged: Forge) -> None:
    instance = hand_made()
    choices = {"detect": ("t4", 4, 1), "identify": ("cpu", 2, 1)}
    plan = mp.Plan.from_choices(instance.pipeline, instance.profiles, choices, slo_s=60.0)
    # 50 queries in 360 ms go through both stages; two take 10 ms at the second.
    busy = mp.Trace.from_ns(np.linspace(0, 200_000_000, 50).astype(np.int64), name="busy")
    (problem,) = forged(plan, busy).problems
    assert problem == (
        "stage 'identify' is overloaded: it serves 200 tokens/s at most, and 250 arrive on average, so its queue "
        "grows as long as such traffic goes on"
    )
    assert forged(plan).problems == ()


def test_the_rate_of_a_curve_and_that_of_the_trace_both_count(forged: Forge) -> None:
    """Half the queries go on, and the worst case is that all do."""
    instance = hand_made(probability=0.5)
    slow = ArrivalCurve.token_bucket(50, 100)
    plan = instance.plan(guarantee="envelope", envelope=slow, slo_s=60.0)
    assert forged(plan).problems == ()
    rate = {
        stage: choice.replicas * choice.batch * 1e9 / int(plan.service_ns(stage)[-1])
        for stage, choice in plan.choices.items()
    }
    # As many as the slower stage serves, and half as many.
    slower = min(rate, key=rate.__getitem__)
    for share, overloaded in ((0.95, []), (1.05, [slower])):
        gap_ns = 1e9 / (share * rate[slower])
        trace = mp.Trace.from_ns((np.arange(400) * gap_ns).astype(np.int64))
        found = forged(plan, trace).problems
        assert [problem.split("'")[1] for problem in found if "overloaded" in problem] == overloaded
    # The curve alone, for ever: the trace has 139 per second.
    for rate, problem in ((140.0, None), (500.0, "and 500 arrive on average")):
        found = forged(plan, envelope=[[50.0, rate]], slo_ns=10**12).problems
        told = [each for each in found if each.startswith(f"stage {slower!r} is overloaded")]
        assert len(told) == (problem is not None)
        assert all(problem is not None and problem in each for each in told)


def test_only_the_very_same_trace_is_the_same(forged: Forge) -> None:
    """Whether another trace's fingerprint is above or below makes no difference."""
    plan = hand_made().plan()
    assert plan.trace is not None
    orders = set()
    for number in range(12):
        other = mp.Trace.from_ns(TRACE.arrival_ns + number + 1)
        orders.add(other.sha256 < plan.trace.sha256)
        assert len(forged(plan, other).remarks) == 1
    assert orders == {False, True}


def test_limits_of_the_pipeline_and_its_devices_are_kept() -> None:
    """A certificate is not enough: nobody can run on more devices than there are."""
    document = {"name": "x", "slo": "2s", "edges": [{"from": "a", "to": "b"}]}
    stage = {"model": "resnet50", "hardware": ["t4", "v100_32gb"]}

    def problems(a: tuple[str, int, int], b: tuple[str, int, int], **more: Any) -> tuple[str, ...]:
        stages = {"a": {**stage, **more}, "b": {"model": "resnet50"}}
        pipeline = mp.Pipeline.from_document({**document, "stages": stages})
        hardware = [replace(h, limit=8) if h.name == "t4" else h for h in PROFILES.hardware.values()]
        limited = mp.Profiles.from_parts(hardware, PROFILES.tables.values())
        plan = mp.Plan.from_choices(pipeline, limited, {"a": a, "b": b})
        verification = mp.verify(plan, mp.Trace.poisson(50.0, 10.0, seed=1))
        assert verification.verified == (not verification.problems)
        return verification.problems

    t4, many = ("t4", 4, 4), {"replicas": {"min": 2, "max": 4}}
    assert problems(t4, t4) == problems(t4, t4, **many) == ()
    assert problems(t4, ("t4", 4, 5)) == ("the plan runs on 9 t4, of which there are 8",)
    assert problems(("t4", 4, 5), ("v100_32gb", 4, 2), **many) == (
        "stage 'a' has 5 replicas; the pipeline allows 2 to 4",
    )
    assert problems(("t4", 4, 1), t4, replicas={"min": 2}) == (
        "stage 'a' has 1 replicas; the pipeline allows 2 to any number",
    )
    assert problems(("a100_80gb", 4, 4), t4) == (
        "stage 'a' runs on a100_80gb; the pipeline allows t4, v100_32gb",
    )
    for caps in ([1, 8], {"max": 2}, {"min": 8}):
        assert problems(t4, t4, batch=caps) == (
            "stage 'a' has batch cap 4, which the pipeline does not allow",
        )
    assert problems(t4, t4, batch=[4]) == ()


@pytest.mark.parametrize(("cap", "needed"), [(2, None), (3, None), (4, 16), (6, 16), (8, 20)])
def test_what_a_device_cannot_hold_is_no_plan_of_it(cap: int, needed: int | None) -> None:
    columns = {"memory_gib": np.array([8.0, 10.0, 16.0, 20.0])}
    table = mp.profiles.LatencyTable("m", "t4", np.array([1, 2, 4, 8]), np.arange(1.0, 5.0), **columns)
    profiles = mp.Profiles.from_parts([mp.profiles.Hardware("t4", 1.0, memory_gib=12.0)], [table])
    pipeline = mp.Pipeline.from_document({"name": "x", "slo": "1s", "stages": {"a": {"model": "m"}}})
    plan = mp.Plan.from_choices(pipeline, profiles, {"a": ("t4", cap, 1)})
    told = [] if needed is None else [f"stage 'a' needs {needed} GiB of memory; t4 has 12"]
    assert list(mp.verify(plan, mp.Trace.poisson(5.0, 10.0, seed=1)).problems) == told


POWERED = powered_profiles(hand_made())


def test_power_and_its_price_are_recomputed_to_the_milliwatt(forged: Forge) -> None:
    instance = hand_made()
    terms = mp.EnergyTerms(usd_per_kwh=1.0)
    plan = mp.plan(instance.pipeline, POWERED, TRACE, energy=terms)
    most, least, cost = plan.figures.power_mw, plan.figures.least_power_mw, plan.microusd_per_hour
    assert most is not None
    assert least is not None
    assert cost is not None
    assert 0 < least < most
    assert forged(plan).problems == ()
    for figure, value in (
        ("power_mw", most + 1),
        ("least_power_mw", least - 1),
        ("least_power_mw", least + 1),
    ):
        (problem,) = forged(plan, **{f"figures__{figure}": value}).problems
        stated = {"power_mw": most, "least_power_mw": least, figure: value}
        assert problem == (
            f"the file states a mean power of {tuple(stated.values())} mW; recomputed it is {(most, least)} mW"
        )
    # The lower bound goes along, so that nothing else is wrong; it is the devices' price and the electricity.
    devices = sum(
        choice.replicas * POWERED.hardware[choice.hardware].microusd_per_hour
        for choice in plan.choices.values()
    )
    assert devices < cost
    for other in (devices, cost + 1):
        changes = {"figures__microusd_per_hour": other, "figures__lower_bound_microusd_per_hour": other}
        (problem,) = forged(plan, **changes).problems
        assert problem == f"the file states a cost of {other / 1e6} $/h; its choices cost {cost / 1e6} $/h"
    # On another trace its figures are not known, and the cap is kept or not.
    calm = mp.Trace.from_ns(np.arange(60) * 9_000_000, name="calm")
    assert forged(plan, calm, figures__power_mw=most + 1).problems == ()


def test_a_cap_on_power_may_be_reached_and_not_exceeded() -> None:
    instance = hand_made()
    plan = mp.plan(instance.pipeline, POWERED, TRACE, energy=mp.EnergyTerms(max_power_w=500.0))
    watts = plan.power_w
    assert watts is not None
    assert watts < 500.0

    def capped(at_w: float) -> tuple[str, ...]:
        terms = replace(plan.energy or mp.EnergyTerms(), max_power_w=at_w)
        return mp.verify(replace(plan, objective=replace(plan.objective, energy=terms)), TRACE).problems

    assert capped(watts) == capped(watts + 0.001) == ()
    assert capped(watts - 0.001) == (
        f"the mean power may reach {watts:g} W, above the {watts - 0.001:g} W asked for",
    )


def test_of_a_trace_at_one_instant_no_power_is_known(forged: Forge) -> None:
    """Nor of several, if one is such a trace: means are over all of them."""
    instance = hand_made(slo_s=5.0)
    plan = mp.plan(instance.pipeline, POWERED, TRACE, energy=mp.EnergyTerms())
    instant = mp.Trace.from_ns([7, 7, 7], name="instant")
    for traces in (instant, [instant, TRACE], [TRACE, instant]):
        assert mp.verify(plan, traces).problems == ()
    assert forged(plan, figures__power_mw=1).problems != ()


def test_power_of_several_traces_is_that_of_the_busiest_and_of_the_calmest() -> None:
    instance = hand_made(slo_s=5.0)
    document = instance.pipeline.to_document()
    for stage in document["stages"].values():
        stage |= {"hardware": ["t4"], "batch": [4], "replicas": 2}
    only = mp.Pipeline.from_document(document), POWERED
    terms, calm = mp.EnergyTerms(), mp.Trace.from_ns(TRACE.arrival_ns * 3, name="calm")

    def power(traces: mp.Trace | list[mp.Trace], **more: Any) -> tuple[int | None, int | None]:
        plan = mp.plan(*only, traces, energy=terms, **more).require()
        assert mp.verify(plan, traces).problems == ()
        return plan.figures.power_mw, plan.figures.least_power_mw

    busy, quiet, both = power(TRACE), power(calm), power([TRACE, calm])
    assert (busy[0] or 0) > (quiet[0] or 0)
    assert (busy[1] or 0) > (quiet[1] or 0)
    assert both == (busy[0], quiet[1])
    # Inside an arrival curve nobody knows how little comes: devices are idle.
    most, least = power(TRACE, guarantee="envelope", envelope=ArrivalCurve.token_bucket(5, 200))
    assert (most or 0) > (busy[0] or 0)
    assert least == 2 * 2 * 50_000


def test_the_least_accuracy_is_kept(forged: Forge) -> None:
    instance = next(made for made in map(variant_instance, range(40)) if made.plan().accuracy)
    plan = instance.plan()
    known = plan.accuracy
    assert known is not None
    assert forged(plan, instance.trace, min_accuracy=known).problems == ()
    assert forged(plan, instance.trace, min_accuracy=known * 1.001).problems == (
        f"the accuracy is {known:.6g}, below the {known * 1.001:g} asked for",
    )
