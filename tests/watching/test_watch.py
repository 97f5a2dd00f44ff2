"""Systems that are known to the nanosecond, as planned or with one fault: what does watching say of them?"""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

import mipplan as mp
from following.servers import FakeDispatcher, serving
from mipplan.core import QuantileLimit
from mipplan.logs import QueryLog, RunLog
from mipplan.validation import replayed_log
from mipplan.watching import WatchParams, look_at_metrics
from mipplan.watching.evidence import StageEvidence
from serving_plans import small_plan
from validation.served_runs import CHOICES, MS, pipeline, plan, profiles, served, traffic

LOG_COLUMNS = ("query", "scheduled_ns", "sent_ns", "answered_ns")
QUIET = WatchParams(cheaper=1.0)


def kinds(found: mp.Watch) -> set[str]:
    return {misfit.kind.value for misfit in found.misfits}


def test_a_plan_that_is_kept_fits() -> None:
    again = traffic(seed=2)
    found = mp.watch(plan(), served(trace=again), sample=traffic(), replan=False)
    assert found.fits
    assert found.queries == len(again)
    assert "fits" in str(found)
    assert found.offer is None


@pytest.mark.parametrize("seed", range(5))
def test_other_traffic_of_the_same_kind_is_no_misfit(seed: int) -> None:
    found = mp.watch(plan(), served(trace=traffic(seed=10 + seed)), sample=traffic(), replan=False)
    assert "envelope" not in kinds(found)


@pytest.mark.parametrize("cv", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("seconds", [60.0, 300.0])
def test_bursts_of_the_same_kind_are_no_misfit_however_long_they_are_watched(
    cv: float, seconds: float
) -> None:
    known = mp.Trace.gamma(rate_rps=100.0, cv=cv, duration_s=60.0, seed=1)
    alarms = 0
    for seed in range(2, 7):
        seen = mp.Trace.gamma(rate_rps=100.0, cv=cv, duration_s=seconds, seed=seed)
        found = mp.watch(plan(), served(trace=seen), sample=known, replan=False)
        alarms += "envelope" in kinds(found)
        more = served(trace=seen.scale(1.7))
        assert "envelope" in kinds(mp.watch(plan(), more, sample=known, replan=False))
    assert alarms == 0


def test_late_batches_are_chance_as_often_as_the_binomial_distribution_says() -> None:
    for batches in (100, 200, 1_000, 20_000):
        for over in range(batches // 20):
            tail = float(binom.sf(over - 1, batches, 0.01))
            assert StageEvidence(batches, over, 2.0).is_late(0.01) == (tail < 1 / 30_000)
    assert not StageEvidence(99, 99, 2.0).is_late(0.01)


def test_more_traffic_leaves_the_envelope_and_a_new_plan_is_offered() -> None:
    found = mp.watch(plan(), served(trace=traffic(rate=260.0, seconds=30.0)), sample=traffic(), params=QUIET)
    assert "envelope" in kinds(found)
    misfit = next(one for one in found.misfits if one.kind == "envelope")
    assert 1.5 < misfit.ratio < 4
    assert found.to_pandas().to_dict("records") == [vars(one) for one in found.misfits]
    assert found.replan is not None
    assert found.replan.choices
    assert found.replan.certificate_s is not None
    assert found.replan.certificate_s <= plan().slo_s
    assert found.offer is not None
    assert "$/h instead of" in found.offer


def test_a_burst_is_found_where_it_is() -> None:
    """Forty queries at once, 20 s into a trace that had never more than a few."""
    calm = traffic(rate=50.0)
    burst = np.sort(np.concatenate([calm.arrival_ns, np.full(40, 20 * 10**9)]))
    found = mp.watch(plan(), served(trace=mp.Trace.from_ns(burst)), sample=calm, replan=False)
    misfit = next(one for one in found.misfits if one.kind == "envelope")
    begin_s = float(misfit.text.split(" from ")[1].split(" s on")[0])
    assert 19 <= begin_s <= 20


def test_of_a_long_log_the_end_can_be_watched_alone() -> None:
    """The burst of 20 s is told while it lies within the time that is asked for; with and without a sender's log."""
    calm = traffic(rate=50.0)
    run = served(trace=mp.Trace.from_ns(np.sort(np.concatenate([calm.arrival_ns, np.full(40, 20 * 10**9)]))))
    for log in (run, RunLog(QueryLog.from_rows([]), run.stages)):
        for last_s, is_told in ((None, True), (100.0, True), (45.0, True), (35.0, False), (1.0, False)):
            found = mp.watch(plan(), log, last_s=last_s, sample=calm, replan=False)
            assert ("envelope" in kinds(found)) == is_told, last_s
            kept = run.queries.sent_ns >= run.queries.sent_ns[-1] - int(1e9 * (last_s or 1e9))
            assert found.queries == np.count_nonzero(kept)
    with pytest.raises(mp.InputError, match="last_s: goes with logs"):
        mp.watch(plan(), metrics=["http://127.0.0.1:1/metrics"], last_s=3.0)
    with pytest.raises(mp.InputError, match="last_s: expected a positive number"):
        mp.watch(plan(), run, last_s=0.0)


def test_arrival_curve_of_a_plan_may_not_be_left_at_all() -> None:
    promised = mp.Plan.from_choices(pipeline(), profiles(), CHOICES)
    sample = traffic()
    curve = mp.ArrivalCurve.token_bucket(30.0, 110.0)
    planned = mp.plan(pipeline(), profiles(), sample, guarantee="envelope", envelope=curve)
    inside = mp.Trace.from_seconds(np.arange(1, 2000) / 100.0)
    assert "envelope" not in kinds(mp.watch(planned, served(trace=inside), replan=False))
    outside = mp.Trace.from_ns(np.sort(np.concatenate([inside.arrival_ns, np.full(31, 10**10)])))
    found = mp.watch(planned, served(as_if=promised, trace=outside), replan=False)
    assert "envelope" in kinds(found)
    assert "the arrival curve" in next(m.text for m in found.misfits if m.kind == "envelope")


def test_service_that_drifted_is_told_with_its_stage() -> None:
    slow = mp.Plan.from_choices(pipeline(), profiles(read=1.3), CHOICES)
    found = mp.watch(plan(), served(as_if=slow), sample=traffic(), params=QUIET)
    drifted = [misfit for misfit in found.misfits if misfit.kind == "profile"]
    assert [misfit.place for misfit in drifted] == ["read"]
    assert drifted[0].ratio == pytest.approx(1.3, rel=1e-6)
    assert "batches took longer than the table and the allowance; P99 of a batch size is up to 1.3 ×" in (
        drifted[0].text
    )
    # The new plan counts on the tables as they are by now.
    assert found.replan is not None
    table, before = (known.tables["read", "t4"] for known in (found.replan.profiles, plan().profiles))
    assert np.allclose(table.latency_ms, 1.3 * before.latency_ms)


def test_what_was_measured_is_told_before_what_a_replay_supposes() -> None:
    """A replay has every batch as late as the latest of a hundred: far later than what queries met."""
    run = served()
    late = (run.stages.stage == "read") & (run.stages.batch % 20 == 0)
    finish = run.stages.finish_ns + np.where(late, 10**9, 0)
    answered = run.queries.answered_ns + 300 * MS
    slower = replace(
        run,
        stages=replace(run.stages, finish_ns=finish),
        queries=replace(run.queries, answered_ns=answered),
    )
    found = mp.watch(plan(), slower, sample=traffic(), replan=False)
    late_text, told = (
        next(one for one in found.misfits if one.kind == kind) for kind in ("profile", "objective")
    )
    assert late_text.ratio > 10
    measured_ns = np.sort(slower.queries.latency_ns)[-len(slower.queries) // 100]
    assert told.text.endswith(" measured, the objective P99 ≤ 250 ms")
    assert told.ratio == pytest.approx(measured_ns / (250 * MS), rel=0.05)


def test_a_few_late_batches_are_no_drift() -> None:
    run = served()
    # One batch in two hundred takes a second longer.
    late = (run.stages.stage == "read") & (run.stages.batch % 200 == 0)
    finish = run.stages.finish_ns + np.where(late, 10**9, 0)
    found = mp.watch(
        plan(), replace(run, stages=replace(run.stages, finish_ns=finish)), sample=traffic(), replan=False
    )
    assert "profile" not in kinds(found)


def test_an_objective_that_is_missed_is_told() -> None:
    few = mp.Plan.from_choices(pipeline(), profiles(), {"detect": ("t4", 4, 3), "read": ("t4", 8, 1)})
    found = mp.watch(
        few, served(as_if=few, trace=traffic(rate=190.0)), sample=traffic(rate=190.0), replan=False
    )
    misfit = next(one for one in found.misfits if one.kind == "objective")
    assert misfit.ratio > 1


def test_queries_without_a_good_answer_miss_the_objective() -> None:
    run = served()
    columns = {name: getattr(run.queries, name) for name in LOG_COLUMNS}
    bad = np.arange(len(run.queries)) % 50 == 0
    told = {
        "status": np.where(bad, "timeout", "ok").tolist(),
        "error": [None] * bad.size,
        "route": [None] * bad.size,
    }
    broken = replace(run, queries=QueryLog.from_columns(columns | told, run.queries.metadata))
    found = mp.watch(plan(), broken, sample=traffic(), replan=False)
    assert [misfit.text for misfit in found.misfits] == [
        "more queries got no good answer than may be late, the objective P99 ≤ 250 ms"
    ]


def test_the_objective_is_looked_at_in_its_windows_and_with_its_further_quantiles() -> None:
    run, result = served(), mp.replay(plan(), traffic())
    half_ms = round(result.quantile(0.5) * 1e3)
    for asked in ({"per_ns": 10**9}, {"others": (QuantileLimit(0.5, (half_ms - 5) * MS),)}):
        objective = replace(plan().objective, slo_ns=result.quantile_ns(0.99) + 1, **asked)
        found = mp.watch(replace(plan(), objective=objective), run, sample=traffic(), replan=False)
        assert kinds(found) == {"objective"}
        (misfit,) = found.misfits
        assert ("P50 ≤" in misfit.text) == ("others" in asked)
        assert (" is missed " in misfit.text) == ("others" in asked)


def test_a_query_that_enters_at_two_stages_is_one_query(tmp_path: Path) -> None:
    both = small_plan(
        {"ear": ([5.0], 2), "eye": ([5.0], 2), "mind": ([4.0], 2)}, {("ear", "mind"): {}, ("eye", "mind"): {}}
    )
    run = served(as_if=both, trace=traffic(rate=50.0))
    mp.write_log(tmp_path / "stages.parquet", run.stages)
    found = mp.watch(both, tmp_path / "stages.parquet", sample=traffic(rate=50.0), replan=False)
    assert found.fits
    assert found.queries == len(traffic(rate=50.0))


def test_a_plan_that_is_too_large_is_told_by_its_price() -> None:
    large = mp.Plan.from_choices(pipeline(), profiles(), {"detect": ("t4", 4, 12), "read": ("t4", 8, 9)})
    found = mp.watch(large, served(as_if=large, trace=traffic(seconds=20.0)), sample=traffic())
    assert kinds(found) == {"price"}
    assert found.replan is not None
    assert found.replan.usd_per_hour is not None
    assert found.misfits[0].ratio == found.replan.usd_per_hour / 10.5


def test_a_new_plan_is_asked_for_all_that_the_old_one_was() -> None:
    """Margin, windows, draws and law as they were, not the defaults of a plan from nothing."""
    asked = mp.plan(
        pipeline(),
        profiles(),
        traffic(),
        margin_s=0.01,
        per_s=5,
        share=0.9,
        seeds=2,
        quantile=0.95,
        headroom=1.1,
    )
    found = mp.watch(asked, served(as_if=asked), sample=traffic())
    assert found.replan is not None
    assert found.replan.choices
    assert found.replan.objective == asked.objective
    bound = found.replan.certificate_s
    assert bound is not None
    assert bound <= asked.slo_s - 0.01


def test_no_new_plan_is_made_under_a_cap_that_it_would_not_keep() -> None:
    known = profiles()
    devices = [replace(hardware, idle_w=10.0, tdp_w=70.0) for hardware in known.hardware.values()]
    capped = replace(
        plan(),
        profiles=mp.Profiles.from_parts(devices, known.tables.values()),
        objective=replace(plan().objective, energy=mp.EnergyTerms(max_power_w=1e6)),
    )
    found = mp.watch(capped, served(), sample=traffic())
    assert found.replan is None
    assert any("cap on power" in note for note in found.notes)


def test_without_a_sample_nothing_is_said_of_the_envelope() -> None:
    found = mp.watch(plan(), served(), replan=False)
    assert any("give its sample" in note for note in found.notes)


def test_without_a_log_of_queries_arrivals_are_those_at_the_sources() -> None:
    run = served()
    found = mp.watch(plan(), RunLog(QueryLog.from_rows([]), run.stages), sample=traffic(), replan=False)
    assert found.queries == len(traffic())
    assert any("no log of queries" in note for note in found.notes)


# --- metrics -----------------------------------------------------------------------------------------------------


def live(dispatcher: FakeDispatcher, sample_rps: float) -> mp.Watch:
    seen = small_plan({"only": ([100.0], 2)})
    sample = mp.Trace.poisson(rate_rps=sample_rps, duration_s=60, seed=1)
    with serving(dispatcher) as fake:
        return mp.watch(seen, metrics=[f"{fake.url}/metrics"], duration_s=1.5, sample=sample, replan=False)


def test_metrics_of_a_plan_that_is_kept() -> None:
    found = live(FakeDispatcher({"only": 2}, 10.0), 10.0)
    assert "envelope" not in kinds(found)
    assert 2 <= found.queries <= 40


def test_metrics_tell_that_more_come() -> None:
    found = live(FakeDispatcher({"only": 2}, 400.0), 10.0)
    assert "envelope" in kinds(found)


@pytest.mark.parametrize("names", [("a-b", "a-b-2"), ("small-a-b", "small-a-b-2"), ("a_b", "a-b")])
def test_models_of_triton_are_found_as_they_were_exported(names: tuple[str, str]) -> None:
    """In one server, in pods of KServe, or called as the stages are."""
    looks = itertools.count(1)

    def answer(_method: str, _path: str, _document: object) -> tuple[int, bytes]:
        count = 10 * next(looks)
        if count == 10:  # the models are still being loaded
            return 200, b'nv_inference_count{model="whole"} 1\n'
        ends = {"exec_count": count, "count": 2 * count, "pending_request_count": 0, "request_success": count}
        lines = [f'nv_inference_{end}{{model="{name}"}} {n}' for name in names for end, n in ends.items()]
        return 200, "\n".join([*lines, 'nv_inference_count{model="whole"} 1', ""]).encode()

    seen = small_plan({"a_b": ([1.0], 1), "a-b": ([1.0], 1)}, {("a_b", "a-b"): {}})
    with serving(answer) as fake:
        found = look_at_metrics(seen, [fake.url], duration_s=0.3, look_s=0.1, system="triton")
    assert {stage: one.batches for stage, one in found.stages.items()} == {"a_b": 20, "a-b": 20}


def test_metrics_that_fail_now_and_then_are_told() -> None:
    dispatcher = FakeDispatcher({"only": 2}, 20.0)
    answers = iter([None, (500, b"x"), None, None, None, None])
    dispatcher.trouble = lambda method, path: next(answers, None)
    found = live(dispatcher, 20.0)
    assert any("1 looks at the metrics failed" in note for note in found.notes)


def test_metrics_that_never_answer_are_one_message() -> None:
    dispatcher = FakeDispatcher({"only": 2}, 20.0)
    dispatcher.trouble = lambda method, path: (500, b"x")
    with pytest.raises(mp.InputError, match="looks failed"):
        live(dispatcher, 20.0)


def test_a_look_whose_counters_cannot_be_is_left_out_and_what_is_not_told_is_said() -> None:
    told = "these metrics do not tell which batches were late: whether tables still hold is not judged"
    dispatcher = FakeDispatcher({"only": 2}, 20.0)
    assert told in live(dispatcher, 20.0).notes
    values = iter(["0", "0", "NaN"])
    dispatcher.trouble = lambda method, path: (
        200,
        f'{dispatcher.text()}mipplan_overruns_total{{stage="only"}} {next(values, "0")}\n'.encode(),
    )
    notes = live(dispatcher, 20.0).notes
    assert "1 looks at the metrics failed" in notes
    assert told not in notes


def test_traffic_of_one_of_several_traces_is_no_misfit() -> None:
    slow, fast = traffic(), traffic().scale(1.5)
    made = mp.plan(pipeline(), profiles(), [slow, fast], slo_s=1.0)
    for trace in (slow, fast):
        found = mp.watch(made, replayed_log(made, mp.replay(made, trace), 10**18))
        assert found.fits, found.misfits
        assert any("traffic is not known" in note for note in found.notes)


def test_looking_ends_when_told() -> None:
    stop = threading.Event()
    stop.set()
    with (
        serving(FakeDispatcher({"only": 2}, 20.0)) as fake,
        pytest.raises(mp.InputError, match="looks failed"),
    ):
        look_at_metrics(small_plan({"only": ([1.0], 1)}), [fake.url], duration_s=60, stop=stop)


def test_bad_arguments_are_all_named() -> None:
    with pytest.raises(mp.InputError) as caught:
        mp.watch(plan(), system="prometheus", duration_s=-1, sample="steady", params=3)  # type: ignore[arg-type]
    told = " ".join(map(str, caught.value.faults))
    for part in ("logs", "system", "duration_s", "sample: expected a Trace", "params: expected WatchParams"):
        assert part in told
    with pytest.raises(mp.InputError, match="cheaper"):
        WatchParams(cheaper=2)
