"""Replays refuse what they cannot use, everything at once, and do right by what is extreme but valid."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import mipplan as mp
from chunked_replays import chain
from mipplan.core import MAX_DURATION_NS, InputError
from mipplan.profiles import LatencyTable
from mipplan.replayer.noise import MOST_ENTRIES
from mipplan.trace import gamma_chunks
from random_pipelines import HARDWARE

TRACE = mp.Trace.from_seconds([0, 0.1, 0.2, 0.5])
PLAN = chain()
RESULT = mp.replay(PLAN, TRACE)
HUGE = 10**400


def places(call: Callable[[], object]) -> list[str]:
    with pytest.raises(InputError) as caught:
        call()
    return [fault.place for fault in caught.value.faults]


def test_all_arguments_at_fault_are_named_at_once() -> None:
    odd = {
        "discipline": "lifo",
        "engine": ["python"],
        "seed": True,
        "schedule": {"s9": 3},
        "noise": {"s0": 1},
    }
    common = ["engine", "seed", "discipline", "schedule.s9", "schedule.s9", "noise.s0"]
    assert places(lambda: mp.replay(PLAN, "trace.csv", **odd)) == ["trace", *common]  # type: ignore[arg-type]
    assert (
        places(lambda: mp.replay_many([PLAN], TRACE, slo_s=-1, quantile=99, **odd))
        == [  # type: ignore[call-overload]
            *("engine", "seed", "slo_s", "quantile"),
            *common[2:],
        ]
    )
    found = places(
        lambda: mp.replay_stream(PLAN, None, slo_s="x", chunk=0, backlog=1.5, progress=3, **odd)  # type: ignore[arg-type]
    )
    assert found == ["source", "engine", "seed", "slo_s", "chunk", "backlog", "progress", *common[2:]]


@pytest.mark.parametrize(
    ("call", "place", "said"),
    [
        (lambda: mp.replay("plan.json", TRACE), "plan", "Plan.load(…) reads a file"),  # type: ignore[arg-type]
        (lambda: mp.replay(PLAN, [0, 1]), "trace", "Trace.from_ns(…) take times"),  # type: ignore[arg-type]
        (lambda: mp.replay_many(PLAN, TRACE), "plans", "replay(…) takes one"),  # type: ignore[call-overload]
        (lambda: mp.replay_many([PLAN, None], TRACE), "plans[1]", "expected a Plan"),  # type: ignore[list-item]
        (lambda: mp.replay_stream(PLAN, b"trace.csv"), "source", "expected a file"),  # type: ignore[arg-type]
        (lambda: mp.replay_stream(PLAN, [[0, 1], [[2], [3, 4]]]), "source", "after row 2"),  # type: ignore[list-item]
        (
            lambda: mp.replay(PLAN, TRACE, schedule={"S0": mp.ReplicaSchedule([], [1])}),
            "schedule.S0",
            "mean 's0'",
        ),
    ],
)
def test_first_mistakes_get_a_helpful_message(call: Callable[[], object], place: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    (fault,) = caught.value.faults
    assert fault.place == place
    assert said in fault.message


NO_TIMES = [True, "0.3", None, [0.3], float("nan"), float("inf"), -1, 0, 1e300, HUGE, 1e-12]


@pytest.mark.parametrize("value", NO_TIMES, ids=lambda value: str(value)[:9])
def test_objectives_and_windows_are_positive_times(value: float) -> None:
    for call in (RESULT.misses, RESULT.miss_rate):
        assert places(lambda call=call: call(value)) == ["slo_s"]
    assert places(lambda: RESULT.windows(value)) == ["window_s"]
    if value is None:
        return
    for call in (RESULT.statistics, RESULT.summary, RESULT.to_json):
        assert places(lambda call=call: call(value)) == ["slo_s"]
    assert places(lambda: RESULT.windows(1.0, value)) == ["slo_s"]
    assert places(lambda: mp.replay_many([PLAN], TRACE, slo_s=value)) == ["slo_s"]
    assert places(lambda: mp.replay_stream(PLAN, TRACE, slo_s=value)) == ["slo_s"]


def test_numpy_numbers_do_as_well() -> None:
    assert RESULT.misses(np.float64(0.05)) == RESULT.misses(0.05)
    assert RESULT.quantile(np.int64(1)) == RESULT.quantile(1)
    assert RESULT.to_json(np.float64(0.05)) == RESULT.to_json(0.05)
    assert RESULT.windows(np.int32(1)).queries.tolist() == RESULT.windows(1).queries.tolist()
    seeded = mp.ServiceNoise.lognormal(np.float64(0.3), seed=np.uint64(3))
    assert type(seeded.seed) is int
    same = mp.replay_stream(PLAN, TRACE, chunk=np.int64(2), backlog=np.int32(10**6), seed=np.uint8(0))
    assert same.mean_latency_s == RESULT.mean_latency_s


@pytest.mark.parametrize(
    ("call", "found"),
    [
        (
            lambda: RESULT.statistics(-1, quantiles=(0,), confidence=95, seed=-1),
            ["slo_s", "quantile", "confidence", "seed"],
        ),
        (lambda: RESULT.statistics(quantiles=0.5), ["quantiles"]),  # type: ignore[arg-type]
        (lambda: RESULT.statistics(confidence="95%"), ["confidence"]),  # type: ignore[arg-type]
        (lambda: RESULT.utilisation(["s0"]), ["stage"]),  # type: ignore[arg-type]
        (lambda: RESULT.in_flight.at([0.5]), ["instants_ns"]),  # type: ignore[arg-type]
        (lambda: RESULT.in_flight.means([[0, 1]]), ["edges_ns"]),  # type: ignore[arg-type]
        (lambda: RESULT.save(""), [""]),
        (lambda: RESULT.save(3), ["3"]),  # type: ignore[arg-type]
        (lambda: RESULT.save("a\0b"), ["a?b"]),
        (
            lambda: mp.ReplicaSchedule.from_seconds([True, "2"], [1, 2, 3], delay_s=None),
            ["change_s[0]", "change_s[1]", "delay_s"],
        ),  # type: ignore[arg-type]
        (lambda: mp.ServiceNoise.uniform(HUGE, 2), ["low"]),
        (lambda: mp.ServiceNoise.from_factors([1, None]), ["factors"]),  # type: ignore[list-item]
        (lambda: mp.ServiceNoise.from_factors([[1], [1, 2]]), ["factors"]),  # type: ignore[list-item]
        (lambda: gamma_chunks(True, HUGE, 1.5, -1, size=0.5), ["rate_rps", "cv", "queries", "size", "seed"]),  # type: ignore[arg-type]
        (lambda: list(gamma_chunks(1e-9, 1.0, 10, 1)), ["rate_rps"]),
    ],
)
def test_other_values_are_refused_by_name(call: Callable[[], object], found: list[str]) -> None:
    assert places(call) == found


def on_all_engines(plan: mp.Plan, trace: mp.Trace, **conditions: object) -> mp.ReplayResult:
    """Replay on every engine, whole and streamed: all must agree."""
    expected = mp.replay(plan, trace, engine="python", **conditions)  # type: ignore[arg-type]
    for engine in mp.replayer.ENGINES:
        result = mp.replay(plan, trace, engine=engine, **conditions)  # type: ignore[arg-type]
        assert np.array_equal(result.latency_ns, expected.latency_ns)
        assert dict(result.paid_replica_ns) == dict(expected.paid_replica_ns)
        stream = mp.replay_stream(plan, trace, engine=engine, chunk=97, **conditions)  # type: ignore[arg-type]
        assert stream.latency_sum_ns == sum(expected.latency_ns.tolist())
        assert stream.mean_latency_s == expected.mean_latency_s
        assert [totals.wait_ns for totals in stream.stages.values()] == [
            seen.total_wait_ns for seen in expected.stages.values()
        ]
    return expected


BURSTS = mp.Trace.gamma(rate_rps=200, cv=4, duration_s=5, seed=1)


@pytest.mark.parametrize(
    "trace",
    [
        mp.Trace.from_ns([0, 0]),
        mp.Trace.from_ns([0, MAX_DURATION_NS]),
        mp.Trace.from_ns([MAX_DURATION_NS - 1] * 3 + [MAX_DURATION_NS] * 50),
    ],
    ids=["at once", "ten years apart", "ten years late"],
)
def test_extreme_traces(trace: mp.Trace) -> None:
    on_all_engines(PLAN, trace)


@pytest.mark.parametrize("replicas", [10_000, 10**9])
def test_more_replicas_than_tokens_cost_no_memory(replicas: int) -> None:
    idle = on_all_engines(chain(replicas=(replicas,) * 3), BURSTS)
    assert idle.stages["s0"].total_wait_ns == 0
    single = mp.Plan.from_choices(
        PLAN.pipeline, PLAN.profiles, {f"s{i}": (HARDWARE, 1, replicas) for i in range(3)}, slo_s=1
    )
    assert on_all_engines(single, BURSTS).stages["s0"].batches == len(BURSTS)


@pytest.mark.parametrize("delay_ns", [0, 10**8, MAX_DURATION_NS])
def test_schedules_of_many_changes(delay_ns: int) -> None:
    rng = np.random.default_rng(5)
    schedule = mp.ReplicaSchedule(
        np.arange(20_000) * 250_000, np.append(rng.integers(0, 5, 20_000), 3), delay_ns
    )
    on_all_engines(
        PLAN, BURSTS, schedule={"s0": schedule, "s2": mp.ReplicaSchedule([MAX_DURATION_NS], [1, 10**9])}
    )


def slow(latency_ms: float) -> mp.Plan:
    """The chain with one batch size, of that latency."""
    tables = [LatencyTable(f"m{i}", HARDWARE, np.array([1]), np.array([latency_ms])) for i in range(3)]
    profiles = mp.Profiles.from_parts(list(PLAN.profiles.hardware.values()), tables)
    return mp.Plan.from_choices(
        PLAN.pipeline, profiles, {f"s{i}": (HARDWARE, 1, 2) for i in range(3)}, slo_s=1
    )


def test_batches_of_a_day_are_replayed_and_what_leaves_int64_is_refused() -> None:
    assert on_all_engines(slow(86_400_000.0), BURSTS).latency_ns.min() == 3 * 86_400 * 10**9
    years = slow(3e11)
    for engine in mp.replayer.ENGINES:
        for call in (
            lambda engine=engine: mp.replay(years, BURSTS, engine=engine),
            lambda engine=engine: mp.replay_stream(years, BURSTS, engine=engine, chunk=100),
        ):
            with pytest.raises(InputError, match="may take beyond 73 years at a stage"):
                call()
        # That it misses is certain long before.
        (verdict,) = mp.replay_many([years], BURSTS, engine=engine, slo_s=1.0)
        assert (verdict.keeps, verdict.queries_replayed < len(BURSTS)) == (False, True)


def test_random_service_beyond_measure_is_refused() -> None:
    factors = np.linspace(0.5, 1.5, 65_536)
    wide = LatencyTable("m0", HARDWARE, np.array([1, 1024]), np.array([1.0, 9.0]))
    assert factors.size * 1024 > MOST_ENTRIES
    assert places(lambda: mp.ServiceNoise.from_factors(factors).service_ns(wide, 1024)) == ["noise"]
    assert places(lambda: mp.ServiceNoise.from_factors([1e308]).service_ns(wide, 4)) == ["noise"]
    assert mp.ServiceNoise.from_factors([1e-300]).service_ns(wide, 4).tolist() == [[1, 1, 1, 1]]
