"""Calibration against the slow way: what is kept was replayed, what is not is told, for good plans and bad ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

import mipplan as mp
from campaigns import tried
from mipplan.calculus import WindowCounts
from mipplan.core import InputError
from mipplan.documents import shipped_folder
from mipplan.profiles import Hardware, LatencyTable, Profiles
from mipplan.result import Figures, Plan
from mipplan.tuner import POLICIES, simulate
from mipplan.tuner.policies import Setting
from mipplan.tuner.policies.lp import Calibration, LpParams, calibrate, waits_with_slack_ns
from oracle_calibration import slow_counts, slow_miss_rate, slow_misses
from tuned_plans import one_stage
from tuner_cases import chain

PIPELINES = ("cascade", "image-processing", "social-media")
#: Few slacks and rates, so that every one can be replayed.
PARAMS = LpParams(slacks=(0.2, 0.5, 1.0, 1.5, 2.5, 4.0), scales=(1.0, 1.6, 2.5), most_queries=1_500)


def shipped(name: str) -> mp.Pipeline:
    return mp.Pipeline.read(shipped_folder() / "pipelines" / f"{name}.yaml")


@cache
def sample_of(name: str) -> mp.Trace:
    rate = 60.0 if name == "social-media" else 150.0
    return mp.Trace.gamma(rate_rps=rate, cv=1.5, duration_s=12, seed=3)


@cache
def planned(kind: str, name: str) -> Plan:
    return MAKERS[kind](shipped(name), mp.Profiles.default(), sample_of(name))


def with_counts(plan: Plan, change: Callable[[int], int]) -> Plan:
    choices = {s: replace(c, replicas=max(1, change(c.replicas))) for s, c in plan.choices.items()}
    return replace(plan, choices=choices, figures=Figures())


MAKERS: dict[str, Callable[[mp.Pipeline, mp.Profiles, mp.Trace], Plan]] = {
    "certified": lambda *problem: mp.plan(*problem),
    "greedy": lambda *problem: mp.baselines.inferline(*problem),
    "coarse mean": lambda *problem: mp.baselines.coarse_grained(*problem, mode="mean"),
    "coarse peak": lambda *problem: mp.baselines.coarse_grained(*problem, mode="peak"),
    "half_slo mean": lambda *problem: mp.baselines.half_slo(*problem, mode="mean"),
    "half_slo peak": lambda *problem: mp.baselines.half_slo(*problem, mode="peak"),
    "refined": lambda pipeline, profiles, trace: mp.refine(
        mp.baselines.inferline(pipeline, profiles, trace), trace, time_limit_s=2
    ),
    "overloaded": lambda *problem: with_counts(mp.baselines.inferline(*problem), lambda n: n // 2),
    "hopeless": lambda *problem: mp.baselines.inferline(*problem).with_slo(4_000_000),
    "barely": lambda *problem: mp.plan(*problem).with_slo(mp.plan(*problem).certificate_ns or 1),
}


def check(plan: Plan, sample: mp.Trace, found: Calibration, miss_rate: float = 0.0) -> None:
    """Hold a calibration to every slack of the grid, replayed at every rate."""
    tuner = mp.Tuner(plan, sample=sample, keep="sample", tokens="mean")

    def misses(waits_ns: dict[str, int]) -> list[float]:
        return slow_misses(plan, sample, waits_ns, PARAMS.scales, PARAMS.most_queries)

    own = tuner.budget.waits_ns
    part = mp.Trace.from_ns(sample.arrival_ns[: PARAMS.most_queries])
    planned = slow_miss_rate(plan, {s: c.replicas for s, c in plan.choices.items()}, part)
    keeps = max(misses(own)) <= miss_rate
    allowed = miss_rate if keeps else max(miss_rate, planned)
    floor = own if keeps else dict.fromkeys(own, 1)
    grid = [waits_with_slack_ns(tuner, slack, floor) for slack in PARAMS.slacks]
    kept = [max(misses(waits)) <= allowed for waits in grid]
    assert found.missed == pytest.approx(max(misses(dict(found.waits_ns))))
    if dict(found.waits_ns) in grid and any(kept):
        place = len(grid) - 1 - grid[::-1].index(dict(found.waits_ns))
        # The longest that keeps: it does, and the next longer, if there is one, does not.
        assert kept[place] or found.waits_ns == own
        assert not any(kept[place + 1 : place + 2])
    else:
        assert found.waits_ns == own
        assert not kept[0]
    # Nothing that is not vouched for goes without a word.
    assert bool(found.notes) == (found.missed > miss_rate)
    assert keeps <= (not found.notes)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("name", PIPELINES)
def test_what_is_kept_was_replayed_and_what_is_not_is_told(name: str, kind: str) -> None:
    sample = sample_of(name)
    plan = planned(kind, name)
    if not plan.choices:
        pytest.skip("this planner finds none here")
    check(plan, sample, calibrate(plan, sample, 0.0, PARAMS))


@pytest.mark.parametrize("name", PIPELINES)
def test_less_slack_never_has_fewer_replicas(name: str) -> None:
    sample = sample_of(name)
    for kind in ("certified", "greedy", "overloaded"):
        plan = planned(kind, name)
        tuner = mp.Tuner(plan, sample=sample, keep="sample", tokens="mean")
        traffic = WindowCounts.of_arrivals(sample.scale(2.0).arrival_ns, tuner.live.window_ns).envelope()
        for floor in (tuner.budget.waits_ns, dict.fromkeys(tuner.stages, 1)):
            counts = []
            for slack in LpParams().slacks:
                waits = waits_with_slack_ns(tuner, slack, floor)
                counts.append(slow_counts(tuner, traffic, waits))
                if slack in (PARAMS.slacks[0], PARAMS.slacks[-1]):
                    made = mp.Tuner(plan, sample=sample, keep="sample", tokens="mean", waits_ns=waits)
                    assert made.replicas_for(traffic) == counts[-1]
            for more, fewer in pairwise(counts):
                assert more is not None
                assert fewer is not None
                assert all(more[stage] >= fewer[stage] for stage in more)


def test_a_laxer_miss_rate_never_waits_shorter() -> None:
    sample = sample_of("cascade")
    plan = planned("certified", "cascade")
    found = [calibrate(plan, sample, rate, PARAMS) for rate in (0.0, 0.05, 1.0)]
    for strict, lax in pairwise(found):
        assert all(wait <= lax.waits_ns[stage] for stage, wait in strict.waits_ns.items())
    assert found[-1].notes == ()


def test_greedy_plans_whose_batches_are_long_beside_the_objective_are_followed() -> None:
    """InferLine's plan for social-media: no target of up to 8 times the objective has any counts."""
    sample = mp.Trace.gamma(rate_rps=150, cv=1.5, duration_s=40, seed=1)
    trace = mp.Trace.ramp([150, 300], [1.5, 1.5], [20, 30], 5, seed=2)
    plan = mp.baselines.inferline(shipped("social-media"), mp.Profiles.default(), sample)
    target = mp.Tuner(plan.with_slo(8 * plan.slo_ns), keep="objective", tokens="mean")
    assert None in target.needs(target.envelope()).values()
    setting = Setting(plan, sample, int(trace.arrival_ns[0]), 10**9, 5 * 10**9)
    runs = {
        name: simulate(setting, trace, POLICIES[name]()) for name in ("lp", "lp-lean", "inferline", "static")
    }
    for name in ("lp", "lp-lean"):
        assert runs[name].actions
        assert runs[name].misses < 0.2 * runs["static"].misses
        assert "the plan misses" in runs[name].notes[0]
    assert runs["lp"].misses <= runs["inferline"].misses
    assert runs["inferline"].notes == ()
    assert "lp: the plan misses" in str(mp.tune(plan, trace, sample=sample, policies=["lp"]))
    assert "the plan misses" in str(runs["lp"])


def test_rates_that_devices_do_not_suffice_for_are_told() -> None:
    pipeline = one_stage().pipeline
    profiles = Profiles.from_parts(
        [Hardware("h", 1.0, limit=2)], [LatencyTable("m", "h", np.array([1]), np.array([100.0]))]
    )
    sample = mp.Trace.from_seconds(np.arange(0.0, 60.0, 0.1))
    plan = Plan.from_choices(pipeline, profiles, {"only": ("h", 1, 2)}, slo_s=0.5)
    found = calibrate(plan, sample, 0.0)
    assert found.missed == 0.0
    (note,) = found.notes
    assert note.startswith("not calibrated at 2, 2.5, 3.2 times the sample's rate"), note
    # With no rate that can be replayed nothing counts as kept: the plan's waits stay.
    busy = calibrate(plan, sample, 0.0, LpParams(scales=(3.2,)))
    assert busy.waits_ns == mp.Tuner(plan, sample=sample, keep="sample", tokens="mean").budget.waits_ns


# --- what a tuner keeps by default -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case",
    tried(
        f"{name} on {trace} {kind}"
        for name in (
            *("audio-question-answering", "cascade", "image-processing", "social-media"),
            "video-monitoring",
        )
        for trace in ("steady", "bursty")
        for kind in ("certified", "greedy", "refined")
    ),
)
def test_on_its_own_sample_a_plan_keeps_its_counts(case: str) -> None:
    name, _, trace, kind = case.split()
    sample = mp.Trace.read(shipped_folder() / "traces" / f"{trace}.csv.gz").slice(end_s=8)
    plan = MAKERS[kind](shipped(name), mp.Profiles.default(), sample)
    tuner = mp.Tuner(plan)
    before = tuner.retune()
    tuner.observe(sample.arrival_ns)
    for step in (before, tuner.retune()):
        assert all(count <= plan.choices[stage].replicas for stage, count in step.replicas.items())
        assert step.usd_per_hour <= (plan.usd_per_hour or 0)
        # Mean tokens: no theorem speaks of them.
        assert step.latency_bound_ns is None
        assert not step.notes
        assert not step.replan


def test_a_plan_without_a_sample_keeps_the_objective_and_says_so() -> None:
    plan, curve = chain(slo_s=0.045, a=([10_000_000], 1)), mp.ArrivalCurve.token_bucket(5, 10)
    step = mp.Tuner(plan).retune(traffic=curve)
    assert step.replicas == {"a": 2}
    assert step.latency_bound_s == 0.03
    (note,) = step.notes
    assert note.startswith("no sample is known")
    assert mp.Tuner(plan, keep="objective").retune(traffic=curve).notes == ()
    assert mp.Tuner(plan, sample=curve).retune().notes == ()
    sample = mp.Trace.from_seconds(np.arange(0.0, 60.0, 0.5))
    assert mp.Tuner(plan, sample=sample).retune().replicas == {"a": 1}
    with pytest.raises(InputError, match="keep=sample needs the sample"):
        mp.Tuner(plan, keep="sample")


def test_a_plan_for_an_arrival_curve_keeps_its_promise() -> None:
    trace = mp.Trace.gamma(rate_rps=60, cv=1, duration_s=10, seed=4)
    plan = mp.plan(shipped("image-processing"), mp.Profiles.default(), trace, slo_s=0.4, guarantee="envelope")
    step = mp.Tuner(plan).retune()
    assert step.usd_per_hour <= (plan.usd_per_hour or 0)
    assert step.latency_bound_s <= plan.slo_s
    assert not step.notes
