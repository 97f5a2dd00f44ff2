"""Figures say what the results say, and look as they did when somebody looked at them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import combinations, pairwise
from pathlib import Path
from unittest.mock import Mock

import matplotlib as mpl
import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.testing.compare import compare_images
from matplotlib.text import Text

import mipplan as mp
from drawn_plans import drawn_plan, drawn_replay, drawn_trace
from mipplan import plots
from mipplan.calculus import ArrivalCurve, StageService
from mipplan.core import NS_PER_S, InputError, QuantileLimit
from mipplan.plots.bars import _draw_devices
from mipplan.plots.curves import deviation
from mipplan.plots.plans import slower_share
from mipplan.plots.runs import _mark_break
from mipplan.plots.style import SHIPPED, figure_of, folded, hardware_looks, looks_of, new_axes, shortened
from mipplan.profiles import Hardware, LatencyTable
from mipplan.questions import FrontierStep
from mipplan.reporting import DeviceUseReport
from planning_instances import hand_made
from serving_plans import small_plan

BASELINE = Path(__file__).parent / "baseline"
#: Root mean square of the difference of pixels (0 to 255) that a release of matplotlib may make.
TOLERANCE = 12.0

FIGURES: dict[str, Callable[[], Figure]] = {
    "plan": lambda: plots.figure_of(plots.draw_plan(drawn_plan())),
    "latency": lambda: plots.figure_of(
        plots.draw_latency(drawn_plan(), mp.certify(drawn_plan(), drawn_trace()), drawn_replay())
    ),
    "curves": lambda: plots.figure_of(plots.draw_curves(drawn_plan(), drawn_trace(), "look")),
    "waterfall": lambda: plots.figure_of(plots.draw_waterfall(drawn_plan(), drawn_trace(), drawn_replay())),
    "queues": lambda: plots.draw_queues(drawn_plan(), drawn_replay()),
    "replay": lambda: drawn_replay().plot(0.3),
    "frontier": lambda: staircase().plot(),
    "front": lambda: three_axes().plot("three axes"),
    "sensitivity": lambda: what_matters().plot(),
    "performance": lambda: plots.figure_of(plots.draw_performance(solver_times(), 0.01)),
    "tuning": lambda: tuned().plot(),
    "comparison": lambda: compared().plot(),
    "fleet": lambda: shared().plot(),
    "fragility": lambda: plots.draw_fragility(mp.fragility(drawn_plan(), drawn_trace())),
}


@cache
def tuned() -> mp.Tuning:
    """Two policies on traffic with dates."""
    start_ns = 1_706_702_400 * NS_PER_S
    traffic = mp.Trace.ramp([20.0, 60.0], [1.0, 2.0], [10.0, 20.0], 1.0, seed=3)
    return mp.tune(drawn_plan(), replace(traffic, zero_ns=start_ns), policies=["lp", "static"])


@cache
def compared() -> mp.Comparison:
    instance = hand_made(probability=0.8)
    planners = ["certified", "inferline", "half_slo"]
    given = instance.pipeline, instance.profiles, instance.trace
    return mp.compare(*given, planners=planners, time_limit_s=None)


@cache
def shared() -> mp.FleetPlan:
    instance = hand_made(probability=0.8)
    pipelines = {name: (instance.pipeline, instance.trace, slo_s) for name, slo_s in (("a", 0.1), ("b", 0.2))}
    return mp.plan_fleet(pipelines, instance.profiles, limits={next(iter(instance.profiles.hardware)): 40})


@cache
def what_matters() -> mp.Sensitivity:
    instance = hand_made(probability=0.8)
    return mp.sensitivity(instance.pipeline, instance.profiles, instance.trace, share=0.3, time_limit_s=None)


def staircase() -> mp.Frontier:
    """No plan, then stairs: a step that is not proven, a narrow one, and a slope as along a price."""
    plan = drawn_plan()
    costs = [(0.1, 0.2, None, None), (0.2, 0.23, 9.0, 9.0), (0.23, 0.231, 6.5, 6.5), (0.231, 0.5, 4.0, 4.4)]
    steps = tuple(
        FrontierStep(
            start,
            end,
            None if low is None else plan,
            None if low is None else round(low * 1e6),
            None if high is None else round(high * 1e6),
            proven=start != 0.2,
        )
        for start, end, low, high in costs
    )
    return mp.Frontier("slo", "the latency objective", "s", plan, 0.3, steps, True, 1e-9, 4)


@cache
def three_axes() -> mp.Front:
    """Cost, accuracy and power of one stage: cheap devices draw much, and so some plans are beaten but in power."""
    size = np.array([1])
    models = {"small": (5.0, 0.5), "middle": (8.0, 0.7), "large": (14.0, 0.9)}
    hardware = {"hot": (0.1, 300.0, 1.0), "mild": (0.3, 80.0, 1.2), "cool": (0.5, 20.0, 1.5)}
    devices = [
        Hardware(name, usd, idle_w=tdp_w / 2, tdp_w=tdp_w) for name, (usd, tdp_w, _) in hardware.items()
    ]
    tables = [
        LatencyTable(model, name, size, np.array([ms * factor]), accuracy=np.array([accuracy]))
        for model, (ms, accuracy) in models.items()
        for name, (_, _, factor) in hardware.items()
    ]
    stages = {"stage": {"variants": list(models)}}
    pipeline = mp.Pipeline.from_document({"name": "p", "slo": "100ms", "stages": stages, "edges": []})
    trace = mp.Trace.gamma(rate_rps=60, cv=1, duration_s=5, seed=1)
    return mp.pareto(pipeline, mp.Profiles.from_parts(devices, tables), trace, by="both", time_limit_s=None)


def solver_times() -> pd.DataFrame:
    times = {name: np.random.default_rng(n).lognormal(n / 3, 1, 40) for n, name in enumerate(("a", "b", "c"))}
    table = pd.DataFrame(times)
    table.iloc[::7, 2] = np.inf
    return table


@pytest.mark.parametrize("name", FIGURES)
def test_figure_looks_as_it_did_and_is_legible_in_a_column_of_80_mm(name: str, tmp_path: Path) -> None:
    """``MIPPLAN_BASELINE=write`` writes the pictures anew: look at each before it is committed.

    Legible are five points; ten to the power of two are four.
    """
    expected, made = BASELINE / f"{name}.png", tmp_path / f"{name}.png"
    with mpl.rc_context(mpl.rcParamsDefault):
        figure = FIGURES[name]()
        figure.savefig(made, dpi=80)
        shrunk = min(1.0, 80 / 25.4 / figure.get_figwidth())
        texts = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
        assert len(texts) > 5
        assert min(text.get_fontsize() for text in texts) * shrunk >= 5.0
    if os.environ.get("MIPPLAN_BASELINE") == "write":
        expected.write_bytes(made.read_bytes())
    assert compare_images(str(expected), str(made), TOLERANCE) is None


def test_a_front_of_three_axes_shows_all_of_them() -> None:
    """Colours tell the power of every plan, and only plans that none beats in cost and accuracy make the stair."""
    front = three_axes()
    every = {
        (cost, accuracy): plan.power_w
        for (cost, accuracy), plan in zip(front.points, front.plans, strict=True)
    }
    unbeaten = [
        (c, a) for c, a in sorted(every) if not any(o != (c, a) and o[0] <= c and o[1] >= a for o in every)
    ]
    assert 1 < len(unbeaten) < len(every), "the example has both kinds"
    (axes,) = front.plot("title").axes
    assert axes.child_axes[0].get_ylabel() == "mean power at most (W)"
    line = next(line for line in axes.lines if line.get_drawstyle() == "steps-post")
    assert [tuple(point) for point in np.asarray(line.get_xydata()).tolist()] == unbeaten
    drawn = {
        tuple(place): watts
        for points in axes.collections
        for place, watts in zip(
            np.asarray(points.get_offsets()).tolist(), points.get_array().tolist(), strict=True
        )
    }
    assert drawn == every
    assert len({points.get_clim() for points in axes.collections}) == 1
    said = [text.get_text() for text in axes.get_legend().get_texts()]
    assert said[0] == "beaten in all but power"
    assert said[1] == f"middle, {every[0.1, 0.7]:.4g} W"
    assert not replace(front, by="accuracy").plot().axes[0].child_axes


def test_stairs_say_what_they_are_of() -> None:
    axes = plots.draw_frontier(staircase())
    said = [text.get_text() for text in axes.get_legend().get_texts()]
    assert said == ["now: 4.10 $/h", "4 × h", "4 × h"]
    assert axes.get_xlabel() == "the latency objective (ms)"
    assert [text.get_text() for text in axes.texts] == ["no plan", "1", "2"]
    assert axes.get_title(loc="left") == "small: 4 steps, exact"
    with pytest.raises(InputError, match="no step"):
        replace(staircase(), steps=()).plot()


def test_names_are_no_mathematics() -> None:
    document = drawn_plan().pipeline.to_document() | {"name": "a$b_$"}
    odd = replace(drawn_plan(), pipeline=mp.Pipeline.from_document(document))
    plots.draw_front(mp.Front((odd,), complete=True), title="a$b_$").draw_without_rendering()
    plots.figure_of(plots.draw_frontier(replace(staircase(), plan=odd))).draw_without_rendering()
    plots.figure_of(plots.draw_plan(odd)).draw_without_rendering()


@cache
def oddly_named() -> tuple[mp.Plan, mp.Trace]:
    """Two signs of the dollar are the beginning and end of a formula, which ``$a_$`` is not; and a long name."""
    stages = {"a$b_$": {"model": "m"}, "decode-the-incoming-video-streams-of-all-cameras": {"model": "m"}}
    edges = [{"from": "a$b_$", "to": "decode-the-incoming-video-streams-of-all-cameras"}]
    named = {"name": "p$a_$", "slo": "900ms", "stages": stages, "edges": edges}
    table = LatencyTable("m", "h", np.array([1]), np.array([10.0]))
    profiles = mp.Profiles.from_parts([Hardware("h", usd_per_hour=1.0)], [table])
    trace = replace(mp.Trace.gamma(rate_rps=20, cv=1, duration_s=3, seed=1), name="t$a_$")
    return mp.plan(mp.Pipeline.from_document(named), profiles, trace), trace


ODDLY_NAMED: dict[str, Callable[[], Figure]] = {
    "curves": lambda: plots.figure_of(plots.draw_curves(*oddly_named(), "a$b_$")),
    "waterfall": lambda: plots.figure_of(plots.draw_waterfall(*oddly_named(), mp.replay(*oddly_named()))),
    "queues": lambda: plots.draw_queues(oddly_named()[0], mp.replay(*oddly_named())),
    "replay": lambda: mp.replay(*oddly_named()).plot(0.9),
    "fragility": lambda: plots.draw_fragility(mp.fragility(*oddly_named())),
    "tuning": lambda: mp.tune(*oddly_named(), policies=["static"]).plot(),
    "fleet": lambda: mp.plan_fleet(
        {"f$a_$": (oddly_named()[0].pipeline, oddly_named()[1], 0.9)}, oddly_named()[0].profiles
    ).plot(),
}


@pytest.mark.parametrize("name", ODDLY_NAMED)
def test_odd_and_long_names_are_drawn_as_they_stand_and_leave_room(name: str) -> None:
    figure = ODDLY_NAMED[name]()
    figure.draw_without_rendering()
    width = figure.get_figwidth() * figure.dpi
    assert all(axes.get_window_extent().width > 0.1 * width for axes in figure.axes)
    assert not any("streams-of-all-cameras" in text.get_text() for text in figure.findobj(Text))


@cache
def long_winded() -> mp.Plan:
    """A plan with much to spare, of a pipeline with a long name and hardware with one."""
    named = drawn_plan().pipeline.to_document() | {"name": " ".join(["monitoring of all cameras"] * 4)}
    stages = {f"{name}-with-a-long-name": body for name, body in named["stages"].items()}
    edges = [
        edge | {end: f"{edge[end]}-with-a-long-name" for end in ("from", "to")} for edge in named["edges"]
    ]
    tables = [
        replace(drawn_plan().table(stage), hardware="h-with-24-gb-at-spot") for stage in named["stages"]
    ]
    profiles = mp.Profiles.from_parts([Hardware("h-with-24-gb-at-spot", usd_per_hour=1.0)], tables)
    choices = dict.fromkeys(stages, ("h-with-24-gb-at-spot", 1, 3))
    pipeline = mp.Pipeline.from_document(named | {"stages": stages, "edges": edges})
    return mp.Plan.from_choices(pipeline, profiles, choices, slo_s=0.9)


LONG_WINDED: dict[str, Callable[[], Figure]] = {
    "plan": lambda: plots.figure_of(plots.draw_plan(long_winded())),
    "waterfall": lambda: plots.figure_of(
        plots.draw_waterfall(long_winded(), drawn_trace(), mp.replay(long_winded(), drawn_trace()))
    ),
    "late": lambda: plots.figure_of(  # bars from one side to the other leave no room for words
        plots.draw_waterfall(
            long_winded().with_slo(20_000_000), drawn_trace(), mp.replay(long_winded(), drawn_trace())
        )
    ),
    "queues": lambda: plots.draw_queues(long_winded(), mp.replay(long_winded(), drawn_trace())),
    "replay": lambda: mp.replay(long_winded(), drawn_trace()).plot(90.0),
    "fragility": lambda: plots.draw_fragility(mp.fragility(long_winded(), drawn_trace())),
}


@pytest.mark.parametrize("name", LONG_WINDED)
def test_no_words_are_cut_at_the_edges_of_a_figure(name: str) -> None:
    figure = LONG_WINDED[name]()
    figure.draw_without_rendering()
    whole = figure.bbox.padded(1.0)
    marks = {
        id(label) for axes in figure.axes for label in (*axes.get_xticklabels(), *axes.get_yticklabels())
    }
    for text in figure.findobj(Text):
        if text.get_text().strip() and text.get_visible() and id(text) not in marks:
            place = text.get_window_extent()
            assert whole.x0 <= place.x0, text.get_text()
            assert place.x1 <= whole.x1, text.get_text()
            assert place.y1 <= whole.y1, text.get_text()


def test_short_names_are_as_different_as_the_long_ones() -> None:
    lanes = [f"detect-vehicles-in-lane-{number}-from-the-front" for number in (1, 2, 12)]
    short = list(shortened([*lanes, "merge", "a-name-that-is-like-no-other-name"]).values())
    assert short == [
        "…e-1-from-the-fro…",
        "…e-2-from-the-fro…",
        "…e-12-from-the-fr…",
        "merge",
        "a-name-th…her-name",
    ]
    far = [f"{place * 'a'}b{(29 - place) * 'a'}" for place in range(30)]
    assert len(set(shortened(far).values())) == len(far)
    plan = small_plan({lane: ([1.0], 1) for lane in lanes})
    boxes = [text.get_text() for text in plots.draw_plan(plan).texts if text.get_weight() == "bold"]
    assert len(set(boxes)) == len(lanes)


def test_headings_of_queues_are_not_written_over_each_other() -> None:
    figure = LONG_WINDED["queues"]()
    figure.draw_without_rendering()
    headings = [axes._left_title.get_window_extent() for axes in figure.axes[:3]]
    assert not any(one.overlaps(other) for one, other in combinations(headings, 2))


def test_words_in_white_boxes_are_dark_in_every_style() -> None:
    with mpl.style.context("dark_background"):
        axes = plots.draw_plan(drawn_plan())
    inside = [text for text in axes.texts if text.get_zorder() == 4]
    assert len(inside) == 2 * len(drawn_plan().choices)
    assert {text.get_color() for text in inside} == {"black"}


def test_names_of_stages_stay_in_their_boxes() -> None:
    axes = plots.draw_plan(oddly_named()[0])
    plots.figure_of(axes).draw_without_rendering()
    widest = max(text.get_window_extent().width for text in axes.texts if text.get_weight() == "bold")
    assert widest < min(patch.get_window_extent().width for patch in axes.patches)


def test_titles_of_measurements_are_not_cut() -> None:
    pipeline = mp.Pipeline.from_document(drawn_plan().pipeline.to_document() | {"name": "video-monitoring-2"})
    stopped = replace(what_matters(), plan=replace(drawn_plan(), pipeline=pipeline), complete=False)
    title = plots.draw_sensitivity(stopped).get_title(loc="left")
    assert max(map(len, title.splitlines())) <= 46


def test_a_profile_ends_where_everything_is_decided() -> None:
    axes = plots.draw_performance(solver_times(), 0.01)
    profile = plots.performance_profile(solver_times(), 0.01)
    for line, name in zip(axes.lines, profile, strict=True):
        assert np.array_equal(np.asarray(line.get_ydata())[:-1], profile[name])
    assert {line.get_linestyle() for line in axes.lines} != {"-"}


def test_policies_are_drawn_stage_by_stage_on_dates() -> None:
    figure = tuned().plot()
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[1:5] == [f"replicas of {stage}" for stage in drawn_plan().choices]
    for axes, stage in zip(figure.axes[1:], drawn_plan().choices, strict=False):
        assert axes.patches[0].get_data()[0].max() == tuned().run("lp").schedules[stage].replicas.max()
    figure.draw_without_rendering()
    missed = figure.axes[-1]
    assert missed.get_xlabel() == "ingress time (UTC)"
    assert missed.xaxis.get_offset_text().get_text() == "2024-Jan-31 12:00"
    assert [axes.get_yscale() == "log" for axes in figure.axes] == [
        "logarithmic" in title for title in titles
    ]


def test_where_a_plan_breaks_is_written_beside_the_axis_not_over_it() -> None:
    """Drawn are plans that break early on one axis and late on another."""
    for value in (1.05, 1.45):
        axes = Figure(figsize=(2.3, 1.75), layout="constrained").add_subplot()
        points = [Mock(value=factor, label=f"CV × {factor:g}") for factor in (1.05, 1.45)]
        broken = next(point for point in points if point.value == value)
        axes.plot([1.0, 1.05, 1.45], [1.0, 2.0, 3.0])
        _mark_break(axes, Mock(points=points, first_break=broken), is_line=True)
        figure_of(axes).draw_without_rendering()
        (text,) = axes.texts
        said, frame = text.get_window_extent(), axes.get_window_extent()
        assert frame.x0 <= said.x0
        assert said.x1 <= frame.x1


def test_devices_are_counted_in_whole_numbers() -> None:
    axes = new_axes(2.0)
    used = DeviceUseReport(used=9, limit=None, usd_per_hour=0.9, one_more_usd_per_hour=None)
    _draw_devices(axes, {"h": used}, hardware_looks(["h"]))
    assert all(tick == int(tick) for tick in axes.get_xticks())


def test_looks_stay() -> None:
    assert plots.hardware_looks(["t4", "v100"])["t4"] == plots.hardware_looks(["a100", "mine", "t4"])["t4"]
    assert set(mp.Profiles.default().hardware) <= set(SHIPPED)


def texts_of(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_each_stage_and_what_is_special_of_an_edge_is_written() -> None:
    words = "\n".join(texts_of(plots.draw_plan(drawn_plan())))
    for said in ("prepare", "look", "read", "merge", "1 × h, batch ≤ 4", "1.00 $/h", "p 0.4\n×2\n2 ms"):
        assert said in words


def test_what_is_written_at_the_edges_of_a_wide_fan_does_not_overlap() -> None:
    leaves = ("b", "c", "d", "e")
    stages = {name: {"model": "m"} for name in ("a", *leaves, "f", "g", "h", "i")}
    fan = [
        {"from": "a", "to": leaf, "probability": 0.123456, "fanout": 2.6, "delay": "1234us"}
        for leaf in leaves
    ]
    chain = [{"from": start, "to": end} for start, end in pairwise("efghi")]
    named = {"name": "fan", "slo": "900ms", "stages": stages, "edges": fan + chain}
    plan, trace = oddly_named()
    figure = plots.figure_of(plots.draw_plan(mp.plan(mp.Pipeline.from_document(named), plan.profiles, trace)))
    figure.draw_without_rendering()
    boxes = [
        text.get_window_extent() for text in figure.findobj(Text) if text.get_text().startswith("p 0.123")
    ]
    assert len(boxes) == len(leaves)
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_nothing_is_drawn_of_a_plan_without_choices() -> None:
    plan = mp.Plan(drawn_plan().pipeline, drawn_plan().profiles, drawn_plan().objective, reason="none")
    with pytest.raises(mp.NoPlanError):
        plots.draw_plan(plan)


def test_figures_can_share_a_page() -> None:
    left, right = Figure().subplots(1, 2)
    assert plots.draw_plan(drawn_plan(), axes=left) is left
    assert plots.draw_curves(drawn_plan(), drawn_trace(), "look", axes=right) is right


def test_the_arrival_curve_meets_its_hull_where_the_deviation_is_taken() -> None:
    """Between the windows that are looked at it is drawn too low: the arrow began beside the curve."""
    axes = plots.draw_curves(drawn_plan(), drawn_trace(), "look")
    curve, hull = axes.lines[:2]
    (arrow,) = [text for text in axes.texts if not text.get_text()]
    start, tokens = arrow.xyann
    assert np.interp(start, hull.get_xdata(), hull.get_ydata()) == pytest.approx(tokens, rel=0.01)
    at = np.searchsorted(curve.get_xdata(), start + 1e-6, side="right") - 1
    assert curve.get_ydata()[at] == pytest.approx(tokens)


def test_times_below_a_millisecond_have_units_of_their_own() -> None:
    """A pipeline of nanoseconds has a curve, and no axis is of millionths of a millisecond."""
    plan = small_plan({"a": ([2e-6], 1), "b": ([3e-6, 4e-6], 1)}, {("a", "b"): {}}, slo_s=2e-8)
    trace = mp.Trace.from_ns([0, 1, 2, 10, 50, 51, 52, 100, 200, 1_000])
    axes = plots.draw_curves(plan, trace, "a")
    assert axes.get_xlabel() == "window (ns)"
    assert axes.lines[0].get_xdata()[0] < axes.get_xlim()[1] / 10
    replayed = mp.replay(plan, trace)
    labels = [one.get_xlabel() for one in replayed.plot(plan.slo_s).axes]
    assert labels[-1] == "latency (ns)"
    assert plots.draw_waterfall(plan, trace, replayed).get_xlabel() == "since ingress (ns)"


def test_every_limit_of_an_objective_is_drawn_beside_the_latencies() -> None:
    half = QuantileLimit(0.5, 80_000_000)
    asked = replace(drawn_plan(), objective=replace(drawn_plan().objective, others=(half,)))
    axes = plots.draw_latency(asked, mp.certify(drawn_plan(), drawn_trace()), drawn_replay())
    said = {line.get_label(): line.get_xdata()[0] for line in axes.lines}
    assert said["objective: P99 ≤ 300 ms"] == 300.0
    assert said["P50 ≤ 80 ms"] == 80.0
    marks = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_marker() == "o"]
    assert (drawn_replay().quantile(0.5) * 1e3, 0.5) in [pytest.approx(mark) for mark in marks]


def test_an_unknown_stage_is_refused() -> None:
    with pytest.raises(InputError, match="expected one of prepare, look, read, merge, found 'see'"):
        plots.draw_curves(drawn_plan(), drawn_trace(), "see")


@pytest.mark.parametrize("query", [0, 17, 400])
def test_the_stays_of_a_query_add_up_to_its_latency(query: int) -> None:
    stays = plots.slowest_stays(drawn_plan(), drawn_trace(), drawn_replay(), query)
    assert stays[0].stage == "prepare"
    assert stays[0].arrival_ns == drawn_replay().ingress_ns[query]
    assert stays[-1].exit_ns - stays[0].arrival_ns == drawn_replay().latency_ns[query]
    for before, after in pairwise(stays):
        assert after.arrival_ns == before.sent_ns + after.delay_ns
        assert before.arrival_ns <= before.dispatch_ns < before.exit_ns <= before.sent_ns


@pytest.mark.parametrize(("query", "said"), [(-1, "expected 0 to"), (10**6, "expected 0 to")])
def test_there_is_no_such_query(query: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        plots.slowest_stays(drawn_plan(), drawn_trace(), drawn_replay(), query)


def test_a_replay_of_another_trace_is_refused() -> None:
    with pytest.raises(InputError, match="were replayed"):
        plots.slowest_stays(drawn_plan(), mp.Trace.poisson(5.0, 4.0, seed=1), drawn_replay(), 0)


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=3_000))
def test_shares_of_slower_queries_are_those_counted(latencies: list[int]) -> None:
    latency_ns = np.array(latencies, dtype=np.int64)
    shown, slower = slower_share(latency_ns)
    assert (shown[0], shown[-1]) == (latency_ns.min(), latency_ns.max())
    for place in (0, len(shown) // 2, -1):
        # Of equal latencies one of the equal queries' places is shown.
        least, most = np.mean(latency_ns > shown[place]), np.mean(latency_ns >= shown[place])
        assert least < slower[place] <= most + 1e-12


BUCKETS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=4)


@given(BUCKETS, st.integers(1, 80), st.integers(0, 10**9))
def test_the_deviation_is_the_largest_horizontal_distance(
    buckets: list[tuple[int, int]], rate: int, latency_ns: int
) -> None:
    envelope = ArrivalCurve.token_bucket(*buckets[0])
    for bucket in buckets[1:]:
        envelope = envelope.minimum(ArrivalCurve.token_bucket(*bucket))
    service = StageService(latency_ns, NS_PER_S, rate)
    if envelope.rate > rate:
        with pytest.raises(InputError, match="in the long run"):
            deviation(envelope, service)
        return
    found, _ = deviation(envelope, service)
    times = np.linspace(0.0, 60.0, 700)
    brute = [latency_ns / NS_PER_S + envelope.just_after(float(time)) / rate - float(time) for time in times]
    assert found >= max(brute) - 1e-9
    at_breaks = [
        latency_ns / NS_PER_S + envelope.just_after(t) / rate - t for t in (0.0, *envelope.breakpoints())
    ]
    assert found == pytest.approx(max(at_breaks))


def test_no_two_of_many_look_alike() -> None:
    names = [str(number) for number in range(32)]
    assert len(set(map(str, looks_of(names).values()))) == 32
    assert len(set(plots.hardware_looks(SHIPPED).values())) == len(SHIPPED)


@pytest.mark.parametrize("name", ["a.xyz", "a", "a.jpg"])
def test_a_figure_of_another_format_is_a_fault(name: str, tmp_path: Path) -> None:
    with pytest.raises(mp.InputError, match=r"ends in \.png, \.svg or \.pdf"):
        mp.plots.write_figure(tmp_path / name, Figure())
    assert list(tmp_path.iterdir()) == []


def test_a_number_stays_in_one_line_with_its_unit() -> None:
    assert folded("forty: 37.56 $/h, P99 ≤ 5 s", 26) == "forty: 37.56 \\$/h,\nP99 ≤ 5 s"
    assert folded("a video in 7 stages of it", 10) == "a video in\n7 stages\nof it"


def test_names_that_fonts_have_no_sign_for_are_drawn_without_a_warning(tmp_path: Path) -> None:
    figure = Figure()
    figure.suptitle("🚀")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mp.plots.write_figure(tmp_path / "a.png", figure)


def test_pipelines_of_a_fleet_never_cost_nothing() -> None:
    trace = mp.Trace.from_seconds(np.linspace(0.0, 1.0, 50))
    tables = [LatencyTable("m", "nano", np.array([1, 2]), np.array([5.0, 8.0]))]
    profiles = mp.Profiles.from_parts([Hardware("nano", 3e-6)], tables)
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node("only", model="m")
    figure = mp.plan_fleet({"a": (mp.Pipeline(graph, slo_s=0.1), trace)}, profiles).plot()
    assert "0.000003" in [text.strip() for axes in figure.axes for text in texts_of(axes)]


def test_the_query_shown_is_the_one_that_the_objective_looks_at() -> None:
    plan, result = drawn_plan(), drawn_replay()
    late_ns = result.latency_ns
    assert late_ns[plots.query_at_quantile(plan, result)] == result.quantile_ns(0.99)
    inside = replace(plan, objective=replace(plan.objective, envelope=((4.0, 160.0),)))
    assert plots.query_at_quantile(inside, result) == late_ns.argmax()
    by_second = replace(plan, objective=replace(plan.objective, per_ns=10**9))
    figure_ns = result.objective_ns(by_second.objective)
    assert late_ns[plots.query_at_quantile(by_second, result)] == figure_ns > result.quantile_ns(0.99)


def test_queries_that_were_turned_away_are_in_no_distribution() -> None:
    plan, result = drawn_plan(), drawn_replay()
    away = np.arange(result.queries) % 3 == 0
    some = replace(result, rejected=away, latency_ns=np.where(away, 0, result.latency_ns))
    axes = some.plot(0.3).axes[-1]
    shown, share = axes.lines[0].get_data()
    assert shown[0] == pytest.approx(result.latency_ns[~away].min() / 1e6)
    assert share[-1] == pytest.approx(1 / np.count_nonzero(~away))
    line = plots.draw_latency(plan, mp.certify(plan, drawn_trace()), some).lines
    replayed = next(one for one in line if str(one.get_label()).startswith("replayed"))
    assert replayed.get_xdata()[0] == pytest.approx(result.latency_ns[~away].min() / 1e6)
    assert not away[plots.query_at_quantile(plan, some)]
