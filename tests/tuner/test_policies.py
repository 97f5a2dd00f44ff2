"""Each policy's rules by hand, and that none of them knows the future."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command

import mipplan as mp
from mipplan.calculus import WindowCounts
from mipplan.cli.app import app
from mipplan.core import InputError
from mipplan.result import Plan
from mipplan.trace import Trace
from mipplan.tuner import POLICIES, USUAL, simulate
from mipplan.tuner.policies import (
    Clairvoyant,
    ForecastRule,
    Hpa,
    InferLine,
    Lp,
    Observation,
    Oracle,
    Policy,
    Ray,
    Setting,
    SpareRule,
    StageObservation,
    Static,
)
from mipplan.tuner.policies.forecast import Forecast, burstiness, peak_rate_rps
from mipplan.tuner.traffic import RecentArrivals
from tuned_plans import one_stage

NS = 1_000_000_000
CASCADE = Path(__file__).parents[2] / "profiles" / "pipelines" / "cascade.yaml"


def setting_of(plan: Plan, sample: Trace | None = None, period_s: float = 1.0) -> Setting:
    known = sample or Trace.from_seconds(np.arange(0.0, 60.0, 0.1))
    return Setting(plan, known, 0, round(period_s * NS), 5 * NS)


def seen_at(
    second: float,
    replicas: int,
    *,
    busy: float = 0.0,
    ongoing: float = 0.0,
    arrivals: int = 0,
    period: float = 1.0,
) -> Observation:
    """A period that ends at a second, with mean busy replicas and mean ongoing tokens."""
    length = round(period * NS)
    now = round(second * NS)
    stage = StageObservation(
        replicas=replicas,
        active=replicas,
        waiting=0,
        under_way=0,
        arrived=arrivals,
        busy_ns=round(busy * length),
        active_ns=replicas * length,
        ongoing_ns=round(ongoing * length),
    )
    times = now - length + np.arange(arrivals, dtype=np.int64) * (length // max(1, arrivals))
    return Observation(now, length, times, {"only": stage})


def run_of(controller: object, replicas: int, periods: int, start: int = 0, **figures: float) -> list[int]:
    """Counts over so many seconds in which everything looks the same; the controller gets what it asks for."""
    counts = []
    for second in range(start + 1, start + periods + 1):
        seen = seen_at(second, replicas, **figures)
        replicas = {"only": replicas, **controller.decide(seen)}["only"]
        counts.append(replicas)
    return counts


def test_the_command_names_every_policy_of_the_register() -> None:
    # The command's help must not load what policies need, so it cannot read the register itself.
    (option,) = (one for one in get_command(app).commands["tune"].params if one.name == "policy")
    assert option.help == f"Some of {', '.join(POLICIES)}, with commas between."
    assert option.default == ", ".join(USUAL)
    assert all(isinstance(make(), Policy | Clairvoyant) for make in POLICIES.values())


def test_static_never_changes_anything() -> None:
    assert run_of(Static().start(setting_of(one_stage())), 2, 20, busy=2.0) == [2] * 20


# --- HPA -------------------------------------------------------------------------------------------------------------


def test_hpa_decides_every_15_s_by_the_ratio_rounded_up() -> None:
    # Utilisation 0.9, target 0.5: 4 · 1.8 = 7.2, so 8; at most max(100 %, 4) more.
    counts = run_of(Hpa(target=0.5).start(setting_of(one_stage(4))), 4, 16, busy=3.6)
    assert counts == [4] * 14 + [8] * 2
    # What was due while nobody could ask is not made up for: after 80 s it decides at 81 s, and then at 90 s.
    controller = Hpa(target=0.5).start(setting_of(one_stage(4)))
    assert run_of(controller, 4, 1, start=80, busy=2.0) == [4]
    assert run_of(controller, 4, 9, start=81, busy=3.6) == [4] * 8 + [7]


def test_hpa_adds_at_most_as_many_again_or_four() -> None:
    # ⌈3 · 1.0/0.1⌉ = 30: at most 3 + 4; ⌈10 · 10⌉ = 100: at most 2 · 10.
    assert run_of(Hpa(target=0.1).start(setting_of(one_stage(3))), 3, 15, busy=3.0)[-1] == 7
    assert run_of(Hpa(target=0.1).start(setting_of(one_stage(10))), 10, 15, busy=10.0)[-1] == 20


def test_hpa_adds_no_more_in_15_s_however_often_it_looks() -> None:
    # From 10 at 3 s, the first look, on at most 20 until 18 s, and 40 then.
    counts = run_of(Hpa(target=0.1, sync_s=3.0).start(setting_of(one_stage(10))), 10, 19, busy=10.0)
    assert counts == [10] * 2 + [20] * 15 + [40] * 2


def test_hpa_scales_down_by_the_replicas_that_serve() -> None:
    # Kubernetes sets those aside that are not ready: ⌈4 · 0.4/0.5⌉ are enough, not ⌈10 · 0.8⌉.
    controller = Hpa(target=0.5, sync_s=1.0, down_window_s=0.0).start(setting_of(one_stage(10)))
    seen = seen_at(1, 10, busy=1.6)
    stage = replace(seen.stages["only"], active=4, active_ns=4 * seen.period_ns)
    assert controller.decide(replace(seen, stages={"only": stage})) == {"only": 4}


def test_hpa_tolerates_a_tenth() -> None:
    assert run_of(Hpa(target=0.5).start(setting_of(one_stage(10))), 10, 30, busy=5.5)[-1] == 10
    assert run_of(Hpa(target=0.5).start(setting_of(one_stage(10))), 10, 30, busy=5.6)[-1] == 12


def test_hpa_scales_down_to_the_largest_wish_of_300_s() -> None:
    controller = Hpa(target=0.5).start(setting_of(one_stage(10)))
    counts = run_of(controller, 10, 330, busy=1.0)
    # The start counts as a wish for 10. At 300 s it is still within the window, at 315 s no more.
    assert counts[:314] == [10] * 314
    assert counts[314:] == [2] * 16


def test_hpa_sees_late_what_comes_late() -> None:
    controller = Hpa(target=0.5, metric_delay_s=10.0).start(setting_of(one_stage(4)))
    assert run_of(controller, 4, 15, busy=2.0)[-1] == 4
    # From 15 s to 30 s all are busy, but at 30 s only what was before 20 s is known: 5 s of 15 at 1.0, 10 s at 0.5.
    assert run_of(controller, 4, 15, start=15, busy=4.0)[-1] == 6  # ⌈4 · (2/3)/0.5⌉


# --- Ray Serve -------------------------------------------------------------------------------------------------------


def test_ray_waits_30_s_and_jumps() -> None:
    # 20 ongoing by 2 each: 10 replicas, once that has been asked for during 30 s.
    counts = run_of(Ray().start(setting_of(one_stage(2))), 2, 32, ongoing=20.0)
    assert counts == [2] * 30 + [10] * 2


def test_ray_starts_to_wait_anew_when_the_wish_goes_away() -> None:
    controller = Ray(look_back_s=1.0).start(setting_of(one_stage(2)))
    assert run_of(controller, 2, 20, ongoing=20.0)[-1] == 2
    assert run_of(controller, 2, 1, start=20, ongoing=4.0) == [2]
    assert run_of(controller, 2, 31, start=21, ongoing=20.0) == [2] * 30 + [10]


def test_ray_averages_over_30_s() -> None:
    controller = Ray(up_delay_s=0.0).start(setting_of(one_stage(2)))
    assert run_of(controller, 2, 30, ongoing=4.0)[-1] == 2
    # 15 s of 20 and 15 s of 4 make 12.
    assert run_of(controller, 2, 15, start=30, ongoing=20.0)[-1] == 6


def test_ray_scales_down_after_600_s_and_never_beyond_its_most() -> None:
    counts = run_of(Ray().start(setting_of(one_stage(8))), 8, 602, ongoing=4.0)
    assert counts == [8] * 600 + [2] * 2
    assert run_of(Ray(up_delay_s=0.0).start(setting_of(one_stage(2))), 2, 1, ongoing=1e4) == [100]


def test_tuned_ray_counts_in_batches() -> None:
    controller = Ray.tuned(1.0).start(setting_of(one_stage(1, batch=16)))
    assert run_of(controller, 1, 1, ongoing=33.0) == [3]


# --- InferLine -------------------------------------------------------------------------------------------------------


def steady_sample(seconds: float = 60.0) -> Trace:
    """Ten queries per second, evenly."""
    return Trace.from_seconds(np.arange(0.0, seconds, 0.1))


def test_inferline_leaves_things_alone_inside_the_samples_envelope() -> None:
    controller = InferLine().start(setting_of(one_stage(2), steady_sample()))
    assert run_of(controller, 2, 60, arrivals=10) == [2] * 60


def test_inferline_scales_up_at_once_by_the_largest_rate_that_exceeds() -> None:
    # μ = 10/s, ρ = 10·1/(10·2) = 0.5. Forty in one second: in a closed window of 0.1 s at most 5 come (50/s), in 0.2 s
    # 9 (45/s), in 0.4 s 17, in 0.8 s 33 (41.25/s): r = 50, and ⌈50/(10·0.5)⌉ = 10.
    controller = InferLine().start(setting_of(one_stage(2), steady_sample()))
    assert run_of(controller, 2, 20, arrivals=10) == [2] * 20
    assert run_of(controller, 2, 1, start=20, arrivals=40) == [10]


@pytest.mark.parametrize("seconds", [60.0, 12.0])  # windows of the sample may be shorter than the look back
def test_inferline_scales_down_after_15_quiet_seconds_to_the_largest_rate_in_5_s(seconds: float) -> None:
    controller = InferLine().start(setting_of(one_stage(2), steady_sample(seconds)))
    run_of(controller, 2, 20, arrivals=10)
    assert run_of(controller, 2, 1, start=20, arrivals=40) == [10]
    # In the seconds after, long windows still hold the burst: nothing ends inside the sample's envelope until they do
    # not, and that restarts nothing, for it asks for no more. Fifteen seconds after the change: 80 in 5 s at most (the
    # burst's second and four others), 16/s, ⌈16/(10·0.5)⌉ = 4.
    later = run_of(controller, 10, 80, start=21, arrivals=10)
    assert later[0] == 10
    assert sorted(set(later), reverse=True) == [10, 4, 2]


def test_windows_are_closed_and_end_at_new_arrivals() -> None:
    times = np.array([0, 10, 20, 20, 35])
    assert WindowCounts.of_arrivals(times, [0 + 1, 10, 20, 100]).count.tolist() == [2, 3, 4, 5]
    recent = RecentArrivals(20)
    recent.add(times[:4], 21)
    recent.add(times[4:], 36)
    assert recent.arrival_ns.tolist() == [20, 20, 35]
    assert recent.most_ending(times[4:], np.array([10, 15])).tolist() == [1, 3]
    assert recent.most_ending(times[:0], np.array([10, 15])).tolist() == [0, 0]


# --- ours ------------------------------------------------------------------------------------------------------------


def test_burstiness_is_the_cv_of_renewal_traffic_and_ignores_drift() -> None:
    for cv in (1.0, 3.0):
        trace = Trace.gamma(rate_rps=400, cv=cv, duration_s=60, seed=5)
        found = burstiness(trace.arrival_ns, 0, 60 * NS)
        assert found == pytest.approx(cv, rel=0.2)
    ramp = Trace.ramp([100, 800], [1.0, 1.0], [1, 1], 58, seed=6)
    assert burstiness(ramp.arrival_ns, 0, 60 * NS) == pytest.approx(1.0, rel=0.2)
    assert burstiness(ramp.arrival_ns, 0, 4 * NS) is None
    assert burstiness(ramp.arrival_ns[:0], 0, 60 * NS) is None


def test_the_forecast_is_the_sample_at_the_rate_at_hand_and_never_less_than_lately() -> None:
    plain = ForecastRule(jump_s=())
    windows = np.array([NS, 10 * NS])
    forecast = Forecast(plain, steady_sample(), windows, 0, 6 * NS)
    live = _counts(windows, [25, 205])
    forecast.observe(np.arange(0, 20 * NS, NS // 20), 20 * NS)  # twice the sample's rate
    # A closed second of the sample, compressed to half, holds 21; the rates are compared in steps of 2 %.
    first, second = forecast.outlook(20 * NS, live)(1.0).count.tolist()
    assert first == 25
    assert second == 205
    forecast = Forecast(plain, steady_sample(), windows, 0, 6 * NS)
    forecast.observe(np.arange(0, 20 * NS, NS // 20), 20 * NS)
    first, second = forecast.outlook(20 * NS, _counts(windows, [1, 1]))(1.0).count.tolist()
    assert 20 <= first <= 21
    assert 200 <= second <= 202


def test_the_forecast_of_far_less_traffic_keeps_windows_of_nanoseconds_apart() -> None:
    windows = np.array([2, 4, 8])
    forecast = Forecast(ForecastRule(jump_s=()), steady_sample(), windows, 0, 6 * NS)
    forecast.observe(np.array([19 * NS]), 20 * NS)
    found = forecast.outlook(20 * NS, _counts(windows, [1, 1, 1]))(1.0)
    assert found.window_ns.tolist() == [2, 4, 8]
    assert found.count.min() >= 1


def test_a_burst_that_the_sample_holds_is_no_reason_to_be_ready_for_more_than_the_sample() -> None:
    # 10 queries/s, and 40 for five seconds in the middle.
    quiet, busy = np.arange(0, 50 * NS, NS // 10), np.arange(20 * NS, 25 * NS, NS // 30) + 1
    sample = mp.Trace.from_ns(np.sort(np.concatenate([quiet, busy])))
    assert peak_rate_rps(sample, 5 * NS) == pytest.approx(40.0, rel=0.02)
    assert peak_rate_rps(sample, 60 * NS) == sample.rate_rps
    windows = np.array([NS, 5 * NS], dtype=np.int64)
    own = WindowCounts.of_arrivals(sample.arrival_ns, windows).count.tolist()
    plain = ForecastRule(jump_s=())

    def ready_for(rate: int) -> list[int]:
        forecast = Forecast(plain, sample, windows, 0, 6 * NS)
        forecast.observe(np.arange(0, 20 * NS, NS // rate), 20 * NS)
        return forecast.outlook(20 * NS, _counts(windows, [1, 1]))(1.0).count.tolist()

    assert ready_for(20) == own  # more than its mean, less than its burst
    assert ready_for(40) == pytest.approx(own, abs=4)
    first, second = ready_for(80)
    assert first == pytest.approx(2 * own[0], rel=0.1)
    assert second == pytest.approx(2 * own[1], rel=0.1)


def test_the_forecast_looks_ahead_along_a_trend() -> None:
    times = np.concatenate([np.arange(0, 10, 0.1), np.arange(10, 15, 0.05), np.arange(15, 20, 1 / 30)])
    rule = ForecastRule(level_s=(5.0,), jump_s=(), trend_noise=0.0, trend_lead=1.0)
    windows = np.array([10 * NS])
    forecast = Forecast(rule, steady_sample(), windows, 0, 5 * NS)
    forecast.observe(np.rint(times * NS).astype(np.int64), 20 * NS)
    # 30/s now, 20/s in the span before: 2/s each second, for 5 s and the half span: 45/s.
    (count,) = forecast.outlook(20 * NS, _counts(windows, [1]))(1.0).count.tolist()
    assert count == pytest.approx(451, abs=10)
    # A surge is that many times the rate of now, and not of where the trend leads.
    (count,) = forecast.outlook(20 * NS, _counts(windows, [1]))(2.0).count.tolist()
    assert count == pytest.approx(601, abs=15)
    level = Forecast(ForecastRule(level_s=(5.0,), jump_s=()), steady_sample(), windows, 0, 5 * NS)
    level.observe(np.rint(times * NS).astype(np.int64), 20 * NS)
    (count,) = level.outlook(20 * NS, _counts(windows, [1]))(1.0).count.tolist()
    assert count == pytest.approx(301, abs=10)


def _counts(window_ns: np.ndarray, count: list[int]) -> WindowCounts:
    return WindowCounts(window_ns, np.array(count))


@pytest.fixture(scope="module")
def planned() -> tuple[Plan, Trace]:
    sample = Trace.gamma(rate_rps=60, cv=1.5, duration_s=30, seed=1)
    choices = {"preprocess": ("cpu", 1, 1), "fast": ("t4", 2, 1), "slow": ("v100", 8, 1)}
    return Plan.from_choices(mp.Pipeline.read(CASCADE), mp.Profiles.default(), choices), sample


@pytest.mark.parametrize("name", POLICIES)
def test_no_policy_but_the_clairvoyant_knows_the_future(name: str, planned: tuple[Plan, Trace]) -> None:
    plan, sample = planned
    calm = Trace.ramp([60, 150], [1.5, 1.5], [20, 20], 10, seed=2)
    setting = Setting(plan, sample, int(calm.arrival_ns[0]), NS, 3 * NS)
    cut_ns = 30 * NS
    kept = calm.arrival_ns[calm.arrival_ns < cut_ns]
    storm = np.sort(np.concatenate([kept, cut_ns + np.arange(0, 15 * NS, NS // 400)]))
    policy = POLICIES[name]()
    runs = [simulate(setting, trace, policy) for trace in (calm, Trace.from_ns(storm))]
    early = [[action for action in run.actions if action.at_s <= cut_ns / NS] for run in runs]
    if isinstance(policy, Clairvoyant):
        assert not isinstance(policy, Policy)
        assert early[0] != early[1]
    else:
        assert early[0] == early[1]


def test_ours_follows_a_ramp_up_and_down(planned: tuple[Plan, Trace]) -> None:
    plan, sample = planned
    trace = Trace.ramp([60, 240, 60], [1.5] * 3, [20, 20, 60], 15, seed=4)
    run = simulate(Setting(plan, sample, 0, NS, 3 * NS), trace, POLICIES["lp-lean"]())
    still = simulate(Setting(plan, sample, 0, NS, 3 * NS), trace, POLICIES["static"]())
    counts = {stage: schedule.replicas for stage, schedule in run.schedules.items()}
    assert still.misses > 1_000
    assert run.misses < still.misses / 50
    # One replica of the third stage carries all of it.
    assert counts["slow"].tolist() == [1]
    for stage in ("preprocess", "fast"):
        assert counts[stage].max() > counts[stage][0]
        assert counts[stage][-1] < counts[stage].max()


def test_spares_carry_a_jump_that_nobody_could_foresee() -> None:
    plan, sample = one_stage(5), Trace.poisson(rate_rps=40, duration_s=30, seed=1)
    trace = Trace.ramp([40, 80, 40], [1.0] * 3, [30, 20, 30], 0.001, seed=4)
    setting = Setting(plan, sample, 0, NS, 5 * NS)
    lean, spared = (simulate(setting, trace, policy) for policy in (Lp.lean(), Lp()))
    assert lean.misses > 500
    assert spared.misses == 0
    assert spared.usd > lean.usd


@pytest.mark.parametrize(
    ("policy", "bad"),
    [
        (Lp, {"miss_rate": 1.5, "hold_s": -1.0}),
        (Lp, {"horizon_s": 61.0}),
        (ForecastRule, {"level_s": (5.0, 0.0)}),
        (ForecastRule, {"trend_noise": float("nan")}),
        (Hpa, {"target": 0.0, "tolerance": "much"}),
        (Ray, {"target": True, "most": 0}),
        (InferLine, {"down_window_s": 0.0}),
        (Oracle, {"miss_rate": -0.1}),
        (SpareRule, {"most": float("nan"), "share": -1.0}),
    ],
)
def test_parameters_that_make_no_sense_are_all_named(policy: type, bad: dict[str, object]) -> None:
    with pytest.raises(InputError) as caught:
        policy(**bad)
    assert {fault.place for fault in caught.value.faults} == {f"{policy.__name__}.{name}" for name in bad}
