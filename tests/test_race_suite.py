"""The race: its traffic is drawn and always the same, everybody runs on his own plan, and losses are found by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mipplan as mp
from benchmarks.race.entrants import HINDSIGHT, OURS, PLANNERS, entrants, measure, planned
from benchmarks.race.frontier import PAIR, cost_at, family_of, frontier, losses, lost_pairs, points
from benchmarks.race.plots import draw_frontiers
from benchmarks.race.run import trace_name
from benchmarks.race.summary import parts_of, summarise
from benchmarks.race.traffic import (
    FINAL,
    RUN_S,
    SAMPLE_S,
    Piece,
    Ranges,
    arrivals,
    day_name,
    draw_pieces,
    drawn_traffic,
    real_day,
)
from benchmarks.tuner.traffic import SHARED

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"

# ------------------------------------------------------------------------------------------------ traffic


def test_draws_are_always_the_same_and_all_different() -> None:
    seen = set()
    for draw in (0, 1, FINAL[0]):
        sample, trace = drawn_traffic(50.0, draw)
        assert [one.sha256 for one in drawn_traffic(50.0, draw)] == [sample.sha256, trace.sha256]
        assert sample.arrival_ns[-1] < SAMPLE_S * 1e9
        assert 0.95 * RUN_S * 1e9 < trace.arrival_ns[-1] < RUN_S * 1e9
        seen |= {sample.sha256, trace.sha256}
    assert len(seen) == 6


def test_draws_next_to_each_other_share_nothing() -> None:
    """A policy may be tuned on the draw before the final ones."""
    last, first = (drawn_traffic(50.0, draw) for draw in (FINAL[0] - 1, FINAL[0]))
    assert not {one.sha256 for one in last} & {one.sha256 for one in first}


def test_events_span_the_ranges() -> None:
    ranges = Ranges()
    pieces = [piece for seed in range(60) for piece in draw_pieces(seed, RUN_S, ranges)]
    multiples = np.array([piece.end for piece in pieces if piece.begin == piece.end != 1.0])
    assert multiples.max() > 0.9 * ranges.multiple[1]
    assert multiples.min() < 1.5 / ranges.multiple[1]
    assert np.mean(multiples > 1) == pytest.approx(ranges.up_share, abs=0.1)
    cvs = np.array([piece.cv for piece in pieces])
    assert (cvs.min() < 1.1, cvs.max() > 3.8) == (True, True)
    ramps = np.array([piece.length_s for piece in pieces if piece.begin != piece.end])
    assert (ramps.min() < 3, ramps.max() > 100) == (True, True)
    assert ramps.size / (2 * multiples.size) == pytest.approx(ranges.ramp_share, abs=0.1)


def test_calm_traffic_has_no_events() -> None:
    assert draw_pieces(3, SAMPLE_S, Ranges(), calm=True) == [
        Piece(1.0, 1.0, draw_pieces(3, SAMPLE_S, Ranges())[0].cv, SAMPLE_S)
    ]


def test_rates_and_burstiness_are_those_asked_for() -> None:
    pieces = [Piece(1.0, 1.0, 1.0, 200.0), Piece(1.0, 4.0, 1.0, 100.0), Piece(4.0, 4.0, 3.0, 200.0)]
    trace = arrivals(pieces, 50.0, 500.0, seed=1)
    at = trace.arrival_ns / 1e9
    for begin, end, rate in ((0, 200, 50), (200, 233.33, 75), (266.67, 300, 175), (300, 500, 200)):
        found = np.count_nonzero((at >= begin) & (at < end)) / (end - begin)
        assert found == pytest.approx(rate, rel=0.12)
    gaps = np.diff(at[at >= 300])
    assert gaps.std() / gaps.mean() == pytest.approx(3.0, rel=0.15)


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED.is_dir(), reason="the public data sets are not beside the checkout")
def test_real_days_follow_upon_their_sample() -> None:
    sample, trace = real_day(2, 2.0)
    assert trace.name == day_name(2) == "twitter day 2"
    assert sample.arrival_ns[-1] < trace.arrival_ns[0]
    assert trace.span_ns == pytest.approx(86_400e9, rel=0.03)  # half an hour of the day was not collected
    assert trace.rate_rps == pytest.approx(2.0, rel=0.2)


# ----------------------------------------------------------------------------------------------- entrants


def test_every_policy_runs_on_every_planner_and_each_setting_once() -> None:
    found = list(entrants())
    assert len({(one.family, one.setting) for one in found}) == len(found)
    kinds = {family_of(one.family) for one in found}
    assert kinds == {HINDSIGHT, OURS, "static", "inferline", "hpa", "ray", "ray-tuned"}
    for kind in kinds:
        assert {one.planner for one in found if family_of(one.family) == kind} == set(PLANNERS)
    assert [one.setting for one in found if one.setting.endswith("(as published)")] != []


def test_a_run_starts_from_its_own_planners_plan() -> None:
    sample, trace = drawn_traffic(40.0, 0)
    part = trace.slice(end_s=60.0)
    pipeline = "image-processing"
    for entrant in entrants():
        if family_of(entrant.family) != "static":
            continue
        row = measure(pipeline, sample, part, entrant)
        plan = planned(entrant.planner, pipeline, sample)
        assert row is not None
        assert row["planned_usd_per_hour"] == plan.usd_per_hour
        assert row["usd"] == pytest.approx((plan.usd_per_hour or 0.0) * part.span_ns / 3_600e9, rel=0.1)
    costs = [planned(planner, pipeline, sample).usd_per_hour for planner in PLANNERS]
    assert costs[0] != costs[1]


def test_a_planner_without_a_plan_has_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(pipeline: mp.Pipeline, sample: mp.Trace) -> mp.Plan:
        return mp.plan(pipeline, mp.Profiles.default(), sample, slo_s=0.001)

    monkeypatch.setitem(PLANNERS, "certified", none)
    sample, trace = drawn_traffic(20.0, 4)
    entrant = next(one for one in entrants() if one.planner == "certified")
    assert measure("image-processing", sample, trace, entrant) is None


# ------------------------------------------------------------------------------------------------ the plane


def row(
    family: str,
    setting: str,
    usd: float,
    misses: int,
    trace: str = trace_name(FINAL[0]),
    queries: int = 10_000,
) -> dict[str, Any]:
    return {
        "pipeline": "cascade",
        "trace": trace,
        "family": family,
        "setting": setting,
        "usd": usd,
        "misses": misses,
        "queries": queries,
    }


ROWS = [
    row("oracle, certified", "", 1.0, 0),
    row("ours, certified", "a", 2.0, 1),
    row("ours, certified", "b", 1.2, 100),
    row("ours, certified", "worse in both", 2.5, 120),
    row("inferline, inferline", "quiet 15 s (as published)", 1.5, 90),
    row("hpa, certified", "0.5", 3.0, 0),
]


def test_points_are_totals_and_need_all_of_the_traffic() -> None:
    more = [
        row("ours, certified", "a", 1.0, 3, trace="draw 1001"),
        row("hpa, certified", "0.5", 1.0, 1, "draw 1001"),
    ]
    found = points(pd.DataFrame([*ROWS, *more]))
    assert found["setting"].tolist() == ["a", "0.5"]
    assert found["usd"].tolist() == [3.0, 4.0]
    assert found["miss_rate"].tolist() == [4 / 20_000, 1 / 20_000]


def test_a_frontier_leaves_out_what_is_worse_in_both() -> None:
    found = points(pd.DataFrame(ROWS))
    ours = found[found["family"] == "ours, certified"]
    assert frontier(ours)["setting"].tolist() == ["b", "a"]
    assert cost_at(ours, 0.01) == 1.2
    assert cost_at(ours, 0.009) == 2.0
    assert cost_at(ours, 0.00001) == float("inf")


def test_losses_are_where_a_rival_does_it_for_less() -> None:
    lost = losses(pd.DataFrame(ROWS))
    assert {loss.family for loss in lost} == {"inferline, inferline"}
    assert all(0.009 <= loss.miss_rate < 0.01 for loss in lost)
    assert all(loss.ratio == pytest.approx(2.0 / 1.5) for loss in lost)
    assert list(lost_pairs(pd.DataFrame(ROWS))) == [("cascade", trace_name(FINAL[0]))]


def test_a_rate_that_ours_never_reaches_is_lost() -> None:
    rows = [row("ours, certified", "a", 1.0, 400), row("static, certified", "", 9.0, 0)]
    lost = losses(pd.DataFrame(rows))
    assert {loss.family for loss in lost} == {"static, certified"}
    assert lost[0].ratio == float("inf")


def test_hindsight_is_no_rival() -> None:
    rows = [row("ours, certified", "a", 2.0, 0), row("oracle, certified", "", 1.0, 0)]
    assert losses(pd.DataFrame(rows)) == []


def test_summary_and_picture_tell_real_days_from_final_draws() -> None:
    table = pd.DataFrame([*ROWS, *[{**one, "trace": day_name(2)} for one in ROWS]])
    parts = parts_of(table)
    assert list(parts) == ["final draws", "real days"]
    text = summarise(table)
    assert "## Final draws: 1 pairs" in text
    assert "| in total below or left of every rival, 0.01 % to 5 % | above at" in text
    assert "| 0 of 1 | missed |" in text
    assert f"- cascade, {trace_name(FINAL[0])}: inferline, inferline at" in text
    assert "InferLine's pair as published (0.90%) | 2.00 | missed |" in text
    assert len(draw_frontiers(parts).axes) == 2


# ------------------------------------------------------------------------------------------------ README


def test_the_readme_says_of_the_race_what_its_rows_say() -> None:
    race = (RESULTS / "race" / "summary.md").read_text(encoding="utf-8")
    (final,) = (part for part in race.split("\n## ") if part.startswith("Final draws"))
    said = "it is in total nowhere above InferLine's tuner and the autoscalers"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert (said in " ".join(readme.split())) == ("| nowhere above | kept |" in final)
    (each,) = (
        line for line in final.splitlines() if "at each of these miss rates on ≥ 80% of the pairs" in line
    )
    found = each.split("|")[2].strip()
    assert f"at each of these it is nowhere above them on {found} single traces" in " ".join(readme.split())
    rows = parts_of(pd.read_csv(RESULTS / "race" / "race.csv", keep_default_na=False))["final draws"]
    lost = lost_pairs(rows)
    worst = max(loss.ratio for found in lost.values() for loss in found) - 1
    pairs = len(rows[PAIR].drop_duplicates())
    assert f"a rival is cheaper on {len(lost)} of {pairs}, by up to {worst:.0%}".replace("%", " %") in readme
    on_days = parts_of(pd.read_csv(RESULTS / "race_days" / "race.csv", keep_default_na=False))["real days"]
    worst = max(loss.ratio for found in lost_pairs(on_days).values() for loss in found) - 1
    assert f"on real days by up to {worst:.0%}".replace("%", " %") in readme
