"""A prediction that came true is said to have, and each planted fault is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mipplan as mp
from mipplan.logs import QueryLog, RunLog, StageLog, write_log
from mipplan.reporting import truth_report
from mipplan.serving import with_allowance
from mipplan.validation import Agreement, ResamplingParams, Term, replayed_log
from validation.served_runs import (
    CHOICES,
    MS,
    START_NS,
    pipeline,
    plan,
    profiles,
    served,
    traffic,
    with_stages,
)

PARAMS = ResamplingParams(replicates=100)


def truth(run: RunLog, **others: object) -> mp.Truth:
    return mp.truth(plan(), run, params=PARAMS, **others)  # type: ignore[arg-type]


def found(result: mp.Truth) -> list[tuple[Term, str]]:
    return [(cause.term, cause.place) for cause in result.causes]


def variant(
    hop: str = "2ms", choices: dict[str, tuple[str, int, int]] | None = None, **factors: float
) -> mp.Plan:
    return mp.Plan.from_choices(pipeline(hop), profiles(**factors), choices or CHOICES)


def test_system_that_does_what_the_plan_says_agrees_without_a_cause() -> None:
    result = truth(served())
    assert result.agrees
    assert "within the interval" in str(result)
    assert {figure.agreement for figure in result.figures} <= {Agreement.WITHIN, Agreement.UNKNOWN}
    assert [figure.deviation for figure in result.figures] == [1.0, 1.0, 1.0, 1.0, 0.0]
    assert found(result) == []
    table = result.to_pandas()
    assert list(table.columns) == ["name", "measured", "predicted", "deviation", "agreement", "low", "high"]
    assert table["measured"].tolist() == [figure.measured for figure in result.figures]
    assert (table["low"].isna() | (table["low"] <= table["deviation"])).all()
    for stage in result.stages:
        assert stage.service_ratio == 1.0
        assert stage.wait_s == stage.predicted_wait_s
        assert stage.served_wait_s == pytest.approx(stage.wait_s, rel=1e-9)
        assert stage.longest_idle_s == 0.0
    assert [(hop.above, hop.below, hop.p50_s) for hop in result.hops] == [
        ("sent", "detect", 0.0),
        ("detect", "read", 0.002),
        ("read", "answered", 0.0),
    ]


def test_noise_of_services_is_no_fault() -> None:
    """Services 2 % up and down: tokens share batches with others, and the distributions stay what they were."""
    result = truth(served(noise=mp.ServiceNoise.lognormal(0.02)))
    assert result.agrees
    assert found(result) == []


def test_services_that_scatter_are_predicted_by_drawing_them() -> None:
    run, drawn = served(noise=mp.ServiceNoise.lognormal(0.6)), mp.ServiceNoise.lognormal(0.6, seed=9)
    assert not truth(run).agrees
    result = truth(run, noise=drawn)
    assert result.agrees
    assert "predicted with service times drawn at random" in str(result)


def test_slow_services_are_named_with_their_factor_and_waits_are_not_blamed() -> None:
    result = truth(served(variant(detect=1.3)))
    assert result.verdict is mp.TruthVerdict.MODEL_WRONG
    assert found(result) == [(Term.SERVICE, "detect")]
    assert "batches at detect take 1.30 × their table (1.30 to 1.30)" in result.causes[0].text
    assert "100% take longer" in result.causes[0].text


def test_another_objective_is_the_one_that_misses_are_of() -> None:
    result = mp.truth(plan(), served(), slo_s=1e-3)
    assert result.slo_s == 1e-3
    assert truth_report(result, "plan.json", []).slo_s == 1e-3


def test_fast_services_are_named_too() -> None:
    result = truth(served(variant(read=0.7)))
    assert found(result) == [(Term.SERVICE, "read")]
    assert "take 0.70 × their table" in result.causes[0].text


def test_long_hop_is_named() -> None:
    result = truth(served(variant(hop="7ms")))
    assert result.verdict is mp.TruthVerdict.MODEL_WRONG
    assert found(result) == [(Term.HOP, "detect → read")]
    assert "takes 7 ms in the median, 5 ms more than the 2 ms of the plan" in result.causes[0].text


def test_way_from_the_sender_is_a_hop() -> None:
    run = served()
    earlier = replace(
        run.queries, sent_ns=run.queries.sent_ns - 6 * MS, scheduled_ns=run.queries.scheduled_ns - 6 * MS
    )
    assert found(truth(replace(run, queries=earlier))) == [(Term.HOP, "sent → detect")]


def test_hops_that_add_up_are_named_together() -> None:
    """The predicted mean is some 52 ms: 2 % of it are 1 ms, and each way to and from the sender is less."""
    run = served()
    earlier = run.queries.sent_ns - 800_000
    queries = replace(
        run.queries, sent_ns=earlier, scheduled_ns=earlier, answered_ns=run.queries.answered_ns + 900_000
    )
    result = truth(replace(run, queries=queries))
    assert found(result) == [(Term.HOP, "")]
    assert "together take 1.7 ms more" in result.causes[0].text
    assert "sent → detect 800 us, read → answered 900 us" in result.causes[0].text


def test_stage_that_is_saturated_by_slow_services_is_told_from_one_that_the_load_saturates() -> None:
    slow = truth(served(variant(detect=3.3)))
    assert slow.verdict is mp.TruthVerdict.SATURATED_UNLIKE_REPLAY
    assert [stage.stage for stage in slow.stages if stage.grows] == ["detect"]
    assert (Term.SERVICE, "detect") in found(slow)
    assert (Term.SERVICE, "read") not in found(slow)
    # 12 tokens in 40 ms: at most 300/s. The load is more, the system has a replica less, and so the runs differ.
    heavy = traffic(340.0, 30.0)
    lacking = {**CHOICES, "read": ("t4", 8, 3)}
    planned = mp.Plan.from_choices(pipeline(), profiles(), lacking)
    measured = served(mp.Plan.from_choices(pipeline(), profiles(detect=1.1), lacking), heavy)
    loaded = mp.truth(planned, measured, params=PARAMS)
    assert loaded.verdict is mp.TruthVerdict.SATURATED
    assert all(stage.predicted_grows == (stage.stage == "detect") for stage in loaded.stages)
    assert "beyond the plan" in loaded.verdict_text


def test_replica_that_is_not_there_is_named() -> None:
    result = truth(served(variant(choices={**CHOICES, "detect": ("t4", 4, 2)})))
    assert found(result) == [(Term.REPLICAS, "detect")]
    assert any("never had more than 2 batches under way" in cause.text for cause in result.causes)


def test_batches_of_one_are_named() -> None:
    """What Ray Serve does without a wait: no batch ever grows."""
    trace = traffic(70.0, 60.0)
    result = truth(served(variant(choices={**CHOICES, "detect": ("t4", 1, 3)}), trace))
    assert found(result) == [(Term.BATCHING, "detect")]
    assert "batches of 1.00 in the mean and 1 at most" in result.causes[0].text


def test_batches_above_the_cap_are_named() -> None:
    result = truth(served(variant(choices={**CHOICES, "detect": ("t4", 8, 3)})))
    assert (Term.BATCHING, "detect") in found(result)
    assert "the plan's cap is 4" in next(c.text for c in result.causes if c.term is Term.BATCHING)


def test_stall_is_named_with_its_time() -> None:
    gap = mp.ReplicaSchedule.from_seconds([20.0, 21.5], [3, 0, 3])
    result = truth(served(schedule={"detect": gap}))
    stall = next(cause for cause in result.causes if cause.term is Term.STALL)
    assert stall.place == "detect"
    assert "stalled 20" in stall.text
    assert (Term.SERVICE, "detect") not in found(result)


def test_outputs_one_after_the_other_are_named_where_the_plan_has_them_at_once() -> None:
    busy = traffic(200.0, 60.0)
    result = truth(served(trace=busy, stagger_s=1e-6))
    assert result.verdict is mp.TruthVerdict.MODEL_WRONG
    assert found(result) == [(Term.STAGGER, "detect → read")]
    assert "1 us apart in the median" in result.causes[0].text
    same = truth(served(trace=busy, stagger_s=1e-6), stagger_s=1e-6)
    assert same.agrees
    assert found(same) == []


def test_outputs_that_come_one_after_the_other_and_are_dispatched_together_are_no_fault() -> None:
    """As a server does whose queue is looked at when all outputs of a batch are in it: stamps differ, nothing else."""
    run = served(trace=traffic(200.0, 60.0))
    below = run.stages.stage == "read"
    # Tokens of one batch of detect arrive together; a microsecond apart, the last one when all of them did.
    order = np.lexsort((run.stages.query, run.stages.arrival_ns, below))
    arrival = run.stages.arrival_ns[order]
    last = np.append(np.diff(arrival) != 0, True)
    ends = np.flatnonzero(last)[np.cumsum(last) - last]
    before = np.where(below[order], (ends - np.arange(ends.size)) * 1_000, 0)
    stamped = np.empty_like(arrival)
    stamped[order] = arrival - before
    result = truth(with_stages(run, replace(run.stages, arrival_ns=stamped)))
    assert result.agrees
    assert found(result) == []
    assert [stage.served_together for stage in result.stages] == [False, True]


def test_other_law_is_queueing_and_none_if_it_is_told() -> None:
    busy = traffic(200.0, 60.0)
    result = truth(served(trace=busy, dispatch="paced"))
    assert result.verdict is mp.TruthVerdict.MODEL_WRONG
    assert found(result) == [(Term.QUEUEING, "detect")]
    assert "although a replica was free" in result.causes[0].text
    for law in ("paced", "timed"):
        same = truth(served(trace=busy, dispatch=law), dispatch=law)
        assert same.agrees
        assert found(same) == []


def test_timed_batches_are_held_to_the_allowance_that_the_log_states() -> None:
    timed = mp.Plan.from_choices(pipeline(), profiles(), CHOICES, dispatch="timed")
    run = served(with_allowance(timed, 0.005))
    stages = run.stages
    ended_ns = stages.finish_ns - 5 * MS - (stages.stage == "read") * (MS // 10)
    early = replace(run, stages=replace(stages, finish_ns=ended_ns))
    told = replace(early, sources=tuple(replace(source, allowance_ns=5 * MS) for source in run.sources))
    believed = mp.truth(timed, early, params=PARAMS)
    assert believed.verdict is mp.TruthVerdict.MODEL_WRONG
    assert Term.HOP in {cause.term for cause in believed.causes}
    result = mp.truth(timed, told, params=PARAMS)
    assert result.agrees
    assert found(result) == []
    assert [figure.deviation for figure in result.figures] == [1.0, 1.0, 1.0, 1.0, 0.0]
    assert result.notes == ("timed batches are held to the server's allowance of 5 ms",)
    # How long batches took is compared with the tables that were planned with.
    assert result.stages[0].service_ratio == 1.0
    assert [hop.p50_s for hop in result.hops] == [0.0, 0.002, 0.0]
    # Other laws wait for no allowance: nothing is held.
    eager = served()
    stated = replace(eager, sources=tuple(replace(source, allowance_ns=5 * MS) for source in eager.sources))
    assert truth(stated).figures == truth(eager).figures


@pytest.mark.parametrize(
    "system", ["ray:window=5ms", "mosec:window=40ms", "triton:routing=round_robin,window=20ms"]
)
def test_log_of_a_system_with_a_law_of_its_own_agrees_under_that(system: str) -> None:
    """With other draws of the router than those of the prediction, and a stall search that knows of queues apart."""
    trace = traffic(70.0, 90.0)
    run = served(plan(), trace, system=system, seed=7)
    believed = truth(run)
    assert believed.verdict is not mp.TruthVerdict.AGREES
    assert {cause.term for cause in believed.causes} & {Term.BATCHING, Term.QUEUEING}
    own = truth(run, system=system)
    assert own.agrees
    assert not {cause.term for cause in own.causes} & {
        Term.BATCHING,
        Term.QUEUEING,
        Term.STALL,
        Term.REPLICAS,
    }
    assert own.notes[0].startswith(f"predicted by the law of {system.partition(':')[0]} (")


def test_queries_that_the_prediction_turns_away_miss() -> None:
    system = "central:waiting=3"
    run = served(plan(), traffic(150.0, 30.0), system=system)
    turned_away = int(np.count_nonzero(~run.queries.ok))
    assert turned_away > 50
    result = truth(run, system=system)
    (misses,) = (figure for figure in result.figures if figure.name == "miss_rate")
    assert misses.predicted == misses.measured >= turned_away / len(run.queries)
    assert result.agrees
    assert Term.ROUTING not in {cause.term for cause in result.causes}


def test_other_order_is_queueing() -> None:
    """Fifo instead of oldest first changes who waits, not how long all wait together: the figures may well agree."""
    result = truth(served(discipline="fifo"))
    assert Term.SERVICE not in {cause.term for cause in result.causes}
    assert truth(served(discipline="fifo"), discipline="fifo").causes == ()


def test_waits_for_full_batches_are_no_work_of_services() -> None:
    """Every dispatch held back by 8 ms, as where a server collects: the wait is longer than dispatch at once gives."""
    run = served()
    late = run.stages.stage == "read"
    stages = replace(
        run.stages,
        dispatch_ns=run.stages.dispatch_ns + 8 * MS * late,
        finish_ns=run.stages.finish_ns + 8 * MS * late,
    )
    queries = replace(run.queries, answered_ns=run.queries.answered_ns + 8 * MS)
    assert found(truth(RunLog(queries, stages))) == [(Term.QUEUEING, "read")]


def test_routing_is_named() -> None:
    branching = {
        "slo": "250ms",
        "stages": {"detect": {"model": "detect"}, "read": {"model": "read"}},
        "edges": [{"from": "detect", "to": "read", "probability": 0.3}],
    }

    def made(share: float) -> mp.Plan:
        edges = [{"from": "detect", "to": "read", "probability": share}]
        return mp.Plan.from_choices(
            mp.Pipeline.from_document({**branching, "edges": edges}), profiles(), CHOICES
        )

    result = mp.truth(made(0.3), served(made(0.45)), params=PARAMS)
    assert (Term.ROUTING, "read") in found(result)
    same = mp.truth(made(0.3), served(made(0.3), seed=5), params=PARAMS)
    assert same.agrees
    assert found(same) == []


def test_failed_queries_miss_and_late_sending_is_named() -> None:
    run = served()
    count = len(run.queries)
    failed = np.arange(count) % 20 == 0
    status = np.where(failed, "error", "ok").astype(object)
    late = np.where(np.arange(count) % 25 == 0, 15 * MS, 0)
    queries = replace(run.queries, status=status, scheduled_ns=run.queries.sent_ns - late)
    result = truth(replace(run, queries=queries))
    assert found(result) == [(Term.SENDING, ""), (Term.ERRORS, "")]
    misses = result.figures[-1]
    assert misses.agreement is Agreement.OFF
    assert misses.measured == pytest.approx(0.05 + misses.predicted, abs=0.01)


def test_batches_that_failed_are_said_to_hide_stalls_and_are_none_themselves() -> None:
    run = served()
    log = run.stages
    failed = (log.stage == "detect") & np.isin(log.batch, log.batch[log.stage == "detect"][:1])
    error = log.error.copy()
    error[failed] = "replica died"
    result = truth(with_stages(run, replace(log, error=error)))
    assert result.agrees
    assert result.causes == ()
    assert "failed batches at detect: 1;" in result.notes[0]


def test_without_stages_the_verdict_stands_and_the_term_is_not_guessed() -> None:
    run = served(variant(detect=1.3))
    result = truth(with_stages(run, StageLog.from_rows([])))
    assert result.verdict is mp.TruthVerdict.MODEL_WRONG
    assert result.causes == ()
    assert "which term is off cannot be told" in result.notes[0]
    slow = truth(with_stages(served(variant(detect=3.3)), StageLog.from_rows([])))
    assert slow.verdict is mp.TruthVerdict.SATURATED_UNLIKE_REPLAY


def test_few_queries_are_too_few() -> None:
    result = truth(served(trace=mp.Trace.from_seconds(np.arange(15) * 0.1)))
    assert result.verdict is mp.TruthVerdict.TOO_SHORT


def test_stages_that_the_replay_never_comes_to_are_compared_all_the_same() -> None:
    """One query of twenty takes the branch: with other draws than the system's the replay may have none at all."""
    document = pipeline().to_document()
    document["edges"][0]["probability"] = 0.05
    served_by = mp.Plan.from_choices(mp.Pipeline.from_document(document), profiles(), CHOICES)
    trace = mp.Trace.from_seconds(np.arange(40) * 0.02)
    replays = [mp.replay(served_by, trace, seed=seed) for seed in range(40)]
    tokens = [result.stages["read"].tokens for result in replays]
    some, none = tokens.index(max(tokens)), tokens.index(0)
    result = mp.truth(served_by, replayed_log(served_by, replays[some]), seed=none, params=PARAMS)
    read = next(stage for stage in result.stages if stage.stage == "read")
    assert read.tokens_per_query == max(tokens) / 40
    assert (read.predicted_tokens_per_query, read.predicted_mean_batch, read.predicted_wait_s) == (0, 0, 0)
    assert read.predicted_batch_sizes == {}


def test_skewed_clock_is_told_with_its_offset_and_can_be_taken_out(tmp_path: Path) -> None:
    run = served()
    skewed = run.stages.shifted(250 * MS)
    write_log(tmp_path / "q.parquet", run.queries)
    write_log(tmp_path / "s.parquet", replace(skewed, metadata=replace(skewed.metadata, host="gpu1")))
    with pytest.raises(mp.InputError, match="gpu1: clock: it is 250 ms to 250 ms ahead of"):
        mp.truth(plan(), tmp_path, params=PARAMS)
    result = mp.truth(plan(), tmp_path, shift_ns={"gpu1": -250 * MS}, params=PARAMS)
    assert result.agrees
    assert result.causes == ()


def test_logs_of_something_else_are_refused() -> None:
    run = served()
    with pytest.raises(mp.InputError, match="the plan has no stage 'other', which the log has"):
        truth(
            with_stages(run, replace(run.stages, stage=np.array(["other"] * len(run.stages), dtype=object)))
        )
    with pytest.raises(mp.InputError, match="hold no queries"):
        truth(RunLog(QueryLog.from_rows([]), run.stages))
    failed = replace(run.queries, status=np.full(len(run.queries), "error", dtype=object))
    with pytest.raises(mp.InputError, match="no query was answered well"):
        truth(RunLog(failed, run.stages))
    with pytest.raises(mp.InputError, match="logs of different runs"):
        truth(with_stages(run, replace(run.stages, query=run.stages.query + 10**6)))
    with pytest.raises(mp.InputError) as caught:
        mp.truth(plan(), slo_s=-1, discipline="lifo")
    assert [fault.place for fault in caught.value.faults] == ["discipline", "slo_s", "logs"]
    assert run.queries.sent_ns[0] == START_NS
