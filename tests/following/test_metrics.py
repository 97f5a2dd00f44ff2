"""Metrics in Prometheus' text format, counters over restarts, and what the readers make of them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

import mipplan as mp
from mipplan.following import READERS, CounterMemory, MetricSample, parse_answers, parse_metrics
from serving_plans import small_plan

PLAN = small_plan({"a": ([10, 14], 2), "b": ([30], 3)}, {("a", "b"): {}})


@given(
    values=st.dictionaries(st.text(min_size=1, max_size=8), st.floats(0, 1e9), min_size=1, max_size=4),
    help_text=st.text(max_size=10),
)
def test_text_is_read_as_prometheus_reads_it(values: dict[str, float], help_text: str) -> None:
    registry = CollectorRegistry()
    gauge = Gauge("queue", help_text, ["stage"], registry=registry)
    Counter("runs", help_text, registry=registry).inc(3)
    for label, value in values.items():
        gauge.labels(label).set(value)
    text = generate_latest(registry).decode()
    # Line ends other than \n may stand in label values.
    if any(sign in text for sign in "\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"):
        return
    theirs = [
        (sample.name, dict(sample.labels), sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]
    assert [(one.name, dict(one.labels), one.value) for one in parse_metrics(text)] == theirs


def test_special_values_and_time_stamps() -> None:
    found = parse_metrics('# HELP x y\n\nx{a="}\\"\\\\\\n",b="2",} +Inf 1700000000000\ny NaN\n')
    assert found[0] == MetricSample("x", {"a": '}"\\\n', "b": "2"}, math.inf)
    assert math.isnan(found[1].value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x 1\ny 2", "not whole"),
        (
            "\n<!DOCTYPE html><title>Sign in</title>",
            "are a page for a browser, not metrics: '<!DOCTYPE html>",
        ),
        ("x 1\n<html>\n", "metrics:2"),
        ('x{a="1" 2\n', "metrics:1"),
        ("x one\n", "metrics:1"),
        ("x 1_0\n", "metrics:1"),
        ("x ٣\n", "metrics:1"),
        ("x{a=1} 2\n", "metrics:1"),
    ],
)
def test_what_is_no_metrics_is_refused(text: str, says: str) -> None:
    with pytest.raises(mp.InputError, match=says):
        parse_metrics(text)


def series(**values: float) -> list[MetricSample]:
    return [MetricSample("runs_total", {"pod": pod}, value) for pod, value in values.items()]


def test_counters_go_on_over_restarts_new_pods_and_answers_that_are_not_whole() -> None:
    memory = CounterMemory()
    looks = [
        (series(a=100.0, b=50.0), 0.0),  # nobody knows since when
        (series(a=110.0, b=50.0), 10.0),
        (series(a=4.0, b=51.0), 5.0),  # a began anew
        (series(a=6.0, b=51.0, c=7.0), 9.0),  # c is new
        (series(a=6.0), 0.0),
        (series(a=6.0, b=60.0, c=7.0), 9.0),  # b was away
    ]
    assert [memory.increase(samples, "runs") for samples, _ in looks] == [grown for _, grown in looks]
    assert memory.increase([], "runs") is None


def test_counters_under_both_names_are_counted_once() -> None:
    """Ray exports a counter as NAME, too, as a gauge, unless it is told not to; others export NAME alone."""
    memory = CounterMemory()
    looks = []
    for count in (10.0, 15.0, 3.0):
        alone = MetricSample("runs", {"pod": "old"}, count)
        looks.append([*series(a=count), *(one._replace(name="runs") for one in series(a=count)), alone])
    assert [memory.increase(samples, "runs") for samples in looks] == [0.0, 10.0, 6.0]
    assert memory.restarts == 2


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_counters_that_lie_are_refused_and_forgotten(value: float) -> None:
    memory = CounterMemory()
    memory.increase(series(a=10.0), "runs")
    with pytest.raises(mp.InputError, match="finite"):
        memory.increase(series(a=value), "runs")
    assert memory.increase(series(a=12.0), "runs") == 2.0


def samples_of(text: str) -> list[MetricSample]:
    return parse_metrics(text)


def test_pods_that_come_and_go_make_no_counter_begin_anew() -> None:
    memory, found = CounterMemory(), []
    for look in range(5):
        stays = MetricSample("runs", {"pod": "stays"}, 1e6 + look)
        found.append(memory.increase([stays], "runs", pod="stays"))
        gone = [MetricSample("others", {"pod": f"{look}-{number}"}, 0.0) for number in range(30_000)]
        memory.increase(gone, "others")
    assert found == [0.0, 1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("sign", ["\x0b", "\x1c", "\x85", "\u2028"])
def test_signs_that_end_a_line_elsewhere_do_not_in_metrics(sign: str) -> None:
    (sample,) = parse_metrics(f'queue{{stage="a{sign}b"}} 3\n')
    assert sample == MetricSample("queue", {"stage": f"a{sign}b"}, 3.0)


def test_triton_tells_busy_time_by_batches() -> None:
    reader = READERS["triton"](PLAN, {"b": "second"})
    first = {"a": (100, 100, 25, 4_000_000, 3), "second": (100, 100, 100, 3_000_000, 0)}
    second = {"a": (140, 140, 35, 6_000_000, 5), "second": (130, 130, 130, 3_900_000, 0)}

    def text(models: dict[str, tuple[int, int, int, int, int]]) -> str:
        lines = []
        for model, (ok, count, batches, took_us, pending) in models.items():
            label = f'{{model="{model}",version="1"}}'
            lines += [
                f"nv_inference_request_success{label} {ok}",
                f"nv_inference_request_failure{label} 0",
                f"nv_inference_count{label} {count}",
                f"nv_inference_exec_count{label} {batches}",
                f"nv_inference_compute_infer_duration_us{label} {took_us}",
                f"nv_inference_pending_request_count{label} {pending}",
            ]
        return "\n".join([*lines, ""])

    reader.read(samples_of(text(first)))
    found = reader.read(samples_of(text(second)))
    assert found.queries == found.stages["a"].arrived == 42  # 40 ended, 2 more wait
    # 40 requests in 10 batches were there 2 s in sum: each batch took 0.05 s.
    assert found.stages["a"].busy_s == pytest.approx(0.5)
    assert found.stages["a"].served_s == pytest.approx(2.0)
    assert found.stages["b"].busy_s == pytest.approx(0.9)


def test_requests_in_a_batch_that_no_figure_tells_are_counted_once() -> None:
    """Triton says what waits and what has ended: what is computed is in neither."""
    reader = READERS["triton"](PLAN, {})

    def look(ended: int, pending: int) -> float:
        figures = {"nv_inference_request_success": ended, "nv_inference_pending_request_count": pending}
        lines = [f'{name}{{model="{stage}"}} {n}' for stage in PLAN.choices for name, n in figures.items()]
        return reader.read(samples_of("\n".join([*lines, ""]))).queries

    # Ten wait; eight of these are taken; one more comes; they end; four more are taken, and end with one that came.
    looks = [(100, 0), (100, 10), (100, 2), (100, 3), (108, 3), (108, 0), (111, 1)]
    assert [look(*figures) for figures in looks] == [0, 10, 0, 0, 1, 0, 1]
    # Started again while seven wait: these are lost, and the two that came since are counted.
    assert [look(111, 8), look(0, 2), look(2, 0)] == [7, 0, 0]
    assert [look(2, 3), look(5, 0)] == [3, 0]


@pytest.mark.parametrize("system", ["mipplan", "triton"])
def test_what_came_while_a_stage_was_missing_is_counted_at_the_next_look(system: str) -> None:
    reader, total, left_out = READERS[system](PLAN, {}), 0.0, 0
    for count, is_whole in ((0, True), (100, False), (200, True), (300, False), (400, True)):
        try:
            total += reader.read(samples_of(metrics_of(system, count, is_whole))).queries
        except mp.InputError:
            left_out += 1
    assert (total, left_out) == (400, 2)


def metrics_of(system: str, count: int, is_whole: bool) -> str:
    """Metrics after so many queries, or without the last stage, or the queries at the door."""
    stages = list(PLAN.choices) if is_whole or system == "mipplan" else list(PLAN.choices)[:1]
    if system == "mipplan":
        lines = [
            f'mipplan_queue_length{{stage="{stage}"}} 0\nmipplan_replicas{{stage="{stage}"}} 1'
            for stage in stages
        ]
        lines += [f'mipplan_queries_total{{outcome="served"}} {count}'] + ["mipplan_in_flight 0"] * is_whole
    else:
        lines = [
            f'nv_inference_pending_request_count{{model="{stage}"}} 0\n'
            f'nv_inference_request_success{{model="{stage}"}} {count}'
            for stage in stages
        ]
    return "\n".join(lines) + "\n"


def test_ray_tells_queues_and_ongoing_requests() -> None:
    reader = READERS["ray"](PLAN, {})

    def text(ended: int, queued: int, running: int) -> str:
        return "".join(
            f'ray_serve_deployment_request_counter_total{{deployment="{name}",replica="{replica}"}} {ended}\n'
            f'ray_serve_deployment_queued_queries{{deployment="{name}",handle="{replica}"}} {queued}\n'
            f'ray_serve_replica_processing_queries{{deployment="{name}",replica="{replica}"}} {running}\n'
            f'ray_serve_num_ongoing_requests_at_replicas{{deployment="{name}",handle="{replica}"}} {running}\n'
            for name in ("a", "b")
            for replica in (1, 2)
        )

    reader.read(samples_of(text(10, 0, 1)))
    found = reader.read(samples_of(text(15, 2, 1))).stages["a"]
    assert (found.arrived, found.waiting, found.under_way) == (14.0, 4.0, 2.0)


@pytest.mark.parametrize("system", ["mipplan", "triton", "ray"])
def test_missing_stages_are_named(system: str) -> None:
    with pytest.raises(mp.InputError, match="stage b") as caught:
        READERS[system](PLAN, {}).read(samples_of("up 1\n"))
    assert len(caught.value.faults) == 2


def test_counters_of_several_places_with_the_same_labels_are_added() -> None:
    """Pods of Triton do not tell in their labels which they are."""

    def pod(count: int) -> bytes:
        figures = {"request_success": count, "count": count, "exec_count": count, "pending_request_count": 1}
        return "".join(f'nv_inference_{name}{{model="a"}} {n}\n' for name, n in figures.items()).encode()

    reader = READERS["triton"](small_plan({"a": ([1.0], 2)}), {})
    reader.read(parse_answers([pod(100), pod(500)]))
    seen = reader.read(parse_answers([pod(160), pod(540)]))
    assert seen.queries == 100
    assert seen.stages["a"].waiting == 2
    with pytest.raises(mp.InputError, match="metrics: are no text"):
        parse_answers([b"\xff"])
