from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from campaigns import campaign_size
from mipplan.core import InputError
from mipplan.replayer import replay
from mipplan.reporting.documents import ReplayReport
from mipplan.result import BatchAssignment, ReplayResult, StageReplay, StepFunction
from mipplan.result.stream import exact_product_sum, exact_sum
from random_pipelines import random_case

S = 10**9


def ns(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def stage(replicas: int = 2) -> StageReplay:
    """ℓ = (10, 14), two replicas: {0, 1} at 0–14, {2} at 0–10, {3} arrives at 4, served at 10–20."""
    assignment = BatchAssignment(4, None, ns(0, 0, 10), ns(2, 1, 1), ns(14, 10, 10))
    return StageReplay(replicas, assignment, ns(0, 0, 0, 4))


def result(latency_ns: np.ndarray, ingress_ns: np.ndarray, **fields: object) -> ReplayResult:
    given: dict[str, object] = {
        "stages": {"a": stage()},
        "discipline": "oldest_first",
        "engine": "python",
        "seed": 0,
        "replica_microusd_per_hour": {"a": 3_600_000},
        "paid_replica_ns": {"a": 100 * S},
    }
    return ReplayResult(latency_ns=latency_ns, ingress_ns=ingress_ns, **(given | fields))  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------- Little's law


def slow_integral(from_ns: np.ndarray, until_ns: np.ndarray) -> int:
    """Event by event, in Python integers."""
    events = sorted([(int(t), 1) for t in from_ns] + [(int(t), -1) for t in until_ns])
    area = count = 0
    for (instant, change), (following, _) in itertools.pairwise(events):
        count += change
        area += count * (following - instant)
    return area


def test_littles_law_holds_to_the_nanosecond_on_random_runs() -> None:
    waited = 0
    for number in range(campaign_size(quick=150, deep=1_000)):
        case = random_case(np.random.default_rng([77, number]))
        for discipline in ("oldest_first", "fifo"):
            made = replay(case.plan(seed=number), case.trace, discipline=discipline)
            assert made.in_flight.integral_ns == sum(made.latency_ns.tolist())
            for seen in made.stages.values():
                queue, busy = seen.queue_length, seen.busy_replicas
                assert queue.integral_ns == seen.total_wait_ns == sum(seen.wait_ns.tolist())
                assert queue.integral_ns == slow_integral(seen.arrival_ns, seen.dispatch_ns)
                assert busy.integral_ns == seen.total_service_ns == sum(seen.batch_service_ns.tolist())
                # Tokens in service: each token of a batch of k is there for all of ℓ(k).
                served = StepFunction.counting(seen.dispatch_ns, seen.exit_ns).integral_ns
                assert served == exact_product_sum(seen.batch_size, seen.batch_service_ns)
                assert queue.maximum == seen.max_queue
                assert busy.maximum <= seen.replicas
                waited += seen.total_wait_ns > 0
    assert waited > 100


def test_no_replica_idles_while_tokens_wait() -> None:
    for number in range(40):
        case = random_case(np.random.default_rng([78, number]))
        for seen in replay(case.plan(), case.trace).stages.values():
            queue = seen.queue_length
            waiting = queue.at_ns[queue.value > 0]
            assert np.all(seen.busy_replicas.at(waiting) == seen.replicas)


@pytest.mark.parametrize(
    "values", [ns(), ns(5, -7), ns(2**62, 2**62, 2**62, 17), ns(-(2**62), -(2**62), -(2**62), 3)]
)
def test_sums_are_exact_beyond_int64(values: np.ndarray) -> None:
    assert exact_sum(values) == sum(values.tolist())


def test_products_are_exact_beyond_int64() -> None:
    counts, durations = ns(2**31 - 1, 3, 0), ns(2**62 + 1, 2**40 + 7, 2**62)
    assert exact_product_sum(counts, durations) == sum(
        a * b for a, b in zip(counts.tolist(), durations.tolist(), strict=True)
    )


# ----------------------------------------------------------------------------------------------- one stage


def test_figures_of_a_stage_by_hand() -> None:
    seen = stage()
    assert (seen.tokens, seen.batches, seen.span_ns) == (4, 3, 20)
    assert seen.queue_length.at_ns.tolist() == [4, 10]
    assert seen.queue_length.value.tolist() == [1, 0]
    assert (seen.max_queue, seen.mean_queue, seen.total_wait_ns) == (1, 6 / 20, 6)
    assert seen.busy_replicas.at_ns.tolist() == [0, 14, 20]
    assert seen.busy_replicas.value.tolist() == [2, 1, 0]
    assert seen.batch_sizes == {1: 2, 2: 1}
    assert seen.mean_service_s == pytest.approx(34e-9 / 3)
    assert seen.wait_quantile(0.5) == 0.0
    assert seen.wait_quantile(0.99) == seen.max_wait_s == 6e-9
    assert seen.utilisation == 34 / 40


def test_tables_of_a_stage() -> None:
    tokens = stage().to_pandas()
    assert tokens.index.name == "token"
    assert tokens["wait_ns"].tolist() == [0, 0, 0, 6]
    assert tokens["exit_ns"].tolist() == [14, 14, 10, 20]
    batches = stage().batches_to_pandas()
    assert batches.columns.tolist() == ["start_ns", "size", "service_ns"]
    assert batches["service_ns"].sum() == 34


def test_a_stage_without_tokens_has_figures() -> None:
    empty = StageReplay(3, BatchAssignment(0, None, ns(), ns(), ns()), ns())
    figures = (
        empty.tokens,
        empty.batches,
        empty.span_ns,
        empty.total_wait_ns,
        empty.max_queue,
        empty.batch_sizes,
    )
    assert figures == (0, 0, 0, 0, 0, {})
    assert (empty.mean_wait_s, empty.mean_queue, empty.utilisation, empty.wait_quantile(0.99)) == (0, 0, 0, 0)
    assert empty.queue_length.integral_ns == empty.queue_length.maximum == 0


# ------------------------------------------------------------------------------------------- step functions


def test_what_begins_and_ends_at_one_instant_is_never_counted() -> None:
    steps = StepFunction.counting(ns(5, 5, 7), ns(5, 9, 9))
    assert steps.at_ns.tolist() == [5, 7, 9]
    assert steps.value.tolist() == [1, 2, 0]
    assert steps.at(ns(4, 5, 6, 8, 9)).tolist() == [0, 1, 1, 2, 0]
    assert steps.integral_ns == 6
    assert steps.to_pandas().loc[7] == 2


def test_means_of_windows_add_up_to_the_integral() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        begins = rng.integers(0, 100, 30)
        steps = StepFunction.counting(begins, begins + rng.integers(0, 40, 30))
        edges = np.unique(np.concatenate([[0, 140], rng.integers(0, 140, 5)]))
        means = steps.means(edges)
        assert float(np.sum(means * np.diff(edges))) == pytest.approx(steps.integral_ns)
        direct = [steps.at(np.arange(a, b)).mean() for a, b in itertools.pairwise(edges)]
        assert means == pytest.approx(direct)


@pytest.mark.parametrize("edges", [ns(3), ns(3, 3), ns(4, 2)])
def test_edges_must_increase(edges: np.ndarray) -> None:
    with pytest.raises(InputError, match="increase"):
        StepFunction.counting(ns(1), ns(2)).means(edges)


# ---------------------------------------------------------------------------------------------- a replay


def test_money_and_utilisation_use_what_was_paid_for() -> None:
    made = result(ns(1 * S, 2 * S), ns(0, 48 * S))
    assert made.span_ns == 50 * S
    assert made.usd == pytest.approx(0.1)
    assert made.usd_per_query == pytest.approx(0.05)
    assert made.utilisation("a") == pytest.approx(34 / (100 * S))
    with pytest.raises(InputError, match="expected one of a"):
        made.utilisation("b")


def test_constant_replicas_are_paid_from_first_ingress_to_last_exit() -> None:
    case = random_case(np.random.default_rng(5))
    plan = case.plan()
    made = replay(plan, case.trace)
    last = max(int(seen.exit_ns.max()) for seen in made.stages.values() if seen.tokens)
    assert made.span_ns == last - int(case.trace.arrival_ns[0])
    assert plan.usd_per_hour is not None
    assert made.usd == pytest.approx(plan.usd_per_hour * made.span_ns / 3600e9)


def test_misses_are_slower_not_as_slow() -> None:
    made = result(ns(10, 11, 12, 12), ns(0, 1, 2, 3))
    assert made.misses(11e-9) == 2
    assert made.miss_rate(11e-9) == 0.5
    assert made.miss_rate(12e-9) == 0.0


def test_one_row_per_query() -> None:
    made = result(ns(10, 11), ns(0, 7))
    frame = made.to_pandas()
    assert frame.index.name == "query"
    assert frame["ingress_ns"].tolist() == [0, 7]
    assert frame["latency_ns"].tolist() == [10, 11]


def test_windows_by_hand() -> None:
    latency = ns(4, 1, 3, 2, 9) * S
    windows = result(latency, ns(12, 13, 14, 19, 41) * S).windows(10.0, 3.0)
    assert windows.start_s.tolist() == [10, 20, 30, 40]
    assert windows.queries.tolist() == [4, 0, 0, 1]
    assert windows.mean_s.tolist()[0] == 2.5
    assert windows.p50_s.tolist()[0] == 3.0  # "higher": the third of four
    assert windows.p99_s.tolist()[::3] == windows.max_s.tolist()[::3] == [4.0, 9.0]
    assert windows.miss_rate is not None
    assert windows.miss_rate.tolist()[::3] == [0.25, 1.0]
    assert np.isnan(windows.p50_s[1:3]).all()
    assert "miss_rate" not in result(latency, ns(12, 13, 14, 19, 41) * S).windows(10.0).to_pandas()


def test_windows_agree_with_a_loop() -> None:
    rng = np.random.default_rng(8)
    ingress = np.sort(rng.integers(0, 50 * S, 4_000))
    latency = rng.integers(1, S, 4_000)
    windows = result(latency, ingress).windows(3.0)
    for place, start in enumerate(windows.start_s):
        inside = latency[(ingress >= start * S) & (ingress < (start + 3) * S)]
        assert windows.queries[place] == inside.size
        for quantile, got in ((0.5, windows.p50_s), (0.9, windows.p90_s), (0.99, windows.p99_s)):
            assert got[place] == np.quantile(inside, quantile, method="higher") / S
        assert windows.mean_s[place] == pytest.approx(inside.mean() / S)


@pytest.mark.parametrize("window_s", [0.0, -1.0, float("nan"), "60s", 1e-9])
def test_useless_windows_are_refused(window_s: float) -> None:
    with pytest.raises(InputError, match="window_s"):
        result(ns(1, 1), ns(0, S)).windows(window_s)


def test_the_summary_fits_its_document_and_is_written_whole(tmp_path: Path) -> None:
    case = random_case(np.random.default_rng(6))
    made = replay(case.plan(), case.trace)
    for slo_s in (1e-6, None):
        ReplayReport.model_validate(made.summary(slo_s))
        made.save(tmp_path / "replay.json", slo_s)
        written = json.loads((tmp_path / "replay.json").read_text(encoding="utf-8"))
        assert written == made.summary(slo_s)
        assert written["miss_rate"] == (None if slo_s is None else made.miss_rate(slo_s))
        assert written["latency_s"]["p99"] == made.quantile(0.99)
    assert [path.name for path in tmp_path.iterdir()] == ["replay.json"]
    with pytest.raises(InputError, match="there is no folder"):
        made.save(tmp_path / "nowhere" / "replay.json")
