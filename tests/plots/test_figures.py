"""Figures say what the results say, and look as they did when somebody looked at them."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.testing.compare import compare_images

import mipplan as mp
from drawn_plans import drawn_plan, drawn_replay, drawn_trace
from mipplan import plots
from mipplan.calculus import ArrivalCurve, StageService
from mipplan.core import NS_PER_S, InputError
from mipplan.plots.curves import deviation
from mipplan.plots.plans import slower_share

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
}


@pytest.mark.parametrize("name", FIGURES)
def test_figure_looks_as_it_did(name: str, tmp_path: Path) -> None:
    """``MIPPLAN_BASELINE=write`` writes the pictures anew: look at each before it is committed."""
    expected, made = BASELINE / f"{name}.png", tmp_path / f"{name}.png"
    with mpl.rc_context(mpl.rcParamsDefault):
        figure = FIGURES[name]()
        figure.set_dpi(60)
        plots.write_figure(made, figure)
    if os.environ.get("MIPPLAN_BASELINE") == "write":
        expected.write_bytes(made.read_bytes())
    assert compare_images(str(expected), str(made), TOLERANCE) is None


def texts_of(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_each_stage_and_what_is_special_of_an_edge_is_written() -> None:
    words = "\n".join(texts_of(plots.draw_plan(drawn_plan())))
    for said in ("prepare", "look", "read", "merge", "1 × h, batch ≤ 4", "1.00 $/h", "p 0.4\n×2\n2 ms"):
        assert said in words


def test_nothing_is_drawn_of_a_plan_without_choices() -> None:
    plan = mp.Plan(drawn_plan().pipeline, drawn_plan().profiles, drawn_plan().objective, reason="none")
    with pytest.raises(mp.NoPlanError):
        plots.draw_plan(plan)


def test_figures_can_share_a_page() -> None:
    left, right = Figure().subplots(1, 2)
    assert plots.draw_plan(drawn_plan(), axes=left) is left
    assert plots.draw_curves(drawn_plan(), drawn_trace(), "look", axes=right) is right


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
