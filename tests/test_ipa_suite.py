"""The benchmark against IPA: its traffic is always the same, everybody is judged alike, losses are found by hand."""

from __future__ import annotations

from itertools import pairwise

import pandas as pd
import pytest

import mipplan as mp
from benchmarks.ipa.measure import OURS, OURS_CHEAPEST, OURS_FRUGAL, OURS_REPLAYED, Court
from benchmarks.ipa.plots import draw_planes
from benchmarks.ipa.summary import BOTH, CERTIFIED, frontier, points, summarise
from benchmarks.ipa.workload import COUNTS, MADE, SEGMENTS, SETUPS, SHARED, traces, traffic
from mipplan.documents import shipped_folder


def rows(*plans: tuple[str, str, float, float, float]) -> pd.DataFrame:
    """Method, rate, cost, accuracy and P99 of plans of one pair, whose objective is a second."""
    table = pd.DataFrame(plans, columns=["method", "rate", "usd", "accuracy", "p99_s"])
    # A dollar's worth of devices takes a hundred joules.
    known = {"p99_again_s": table["p99_s"], "j_per_thousand": 100 * table["usd"], "taken_s": 0.1}
    return table.assign(pipeline="video", trace="gamma, CV 4", setting="", slo_s=1.0, **known)


TABLE = rows(
    ("ipa", "mean", 1.0, 0.5, 1.1),  # misses
    ("ipa", "peak of 1 s", 2.5, 0.5, 0.9),
    ("ipa", "peak of 1 s", 3.0, 0.5, 0.8),  # beaten by the one before
    ("ipa", "peak of 2 s", 4.0, 0.7, 0.8),
    ("rim", "mean", 5.0, 0.8, 0.8),
    (OURS, "", 1.5, 0.5, 0.9),
    (OURS, "", 4.4, 0.7, 0.9),
    (OURS_REPLAYED, "", 2.0, 0.6, 0.9),
    (OURS_REPLAYED, "", 4.0, 0.7, 1.0),
)


def test_points_by_hand() -> None:
    assert frontier(TABLE[TABLE["method"] == "ipa"]) == [(1.0, 0.5), (4.0, 0.7)]  # kept or not
    first, second = points(TABLE, "IPA's program", BOTH)
    assert (first.usd, first.least_usd, first.most_accuracy) == (2.5, 1.5, 0.6)
    assert (first.saving, first.gain) == (pytest.approx(0.4), pytest.approx(0.1))
    assert (second.saving, second.gain) == (0.0, 0.0)
    _, alone = points(TABLE, "IPA's program", CERTIFIED)
    assert (alone.saving, alone.most_accuracy) == (pytest.approx(-0.1), 0.5)
    (rim,) = points(TABLE, "RIM", BOTH)
    assert rim.least_usd == float("inf")


def test_summary_tells_losses() -> None:
    told = summarise(TABLE)
    assert "| IPA's program | 2 | 0 | 20% (40%) | 5.0 (10.0) | 1 of 2 | +15% |" in told
    assert "| RIM | 1 | 1 |" in told
    assert "| FA2-low | none kept |" in told
    assert "| peak of 1 s | 2 of 2, +83% |" in told
    assert "| ipa | 3 of 4 | 3 (100%) |" in told
    assert [axes.get_title(loc="left") for axes in draw_planes(TABLE).axes] == ["video"]


def test_summary_tells_energy() -> None:
    told = summarise(TABLE)
    # Beside the points of 2.5 and 4 dollars ours cost 1.5 and 4.
    assert "| IPA's program | -20% |" in told
    assert "| RIM | – |" in told
    pairs = [rows((m, "", usd, 0.5, 0.9)) for m, usd in ((OURS_CHEAPEST, 1.0), (OURS_FRUGAL, 1.005))]
    for table, joules in zip(pairs, (100.0, 80.0), strict=True):
        table[["setting", "j_per_thousand"]] = "place 0, 1%", joules
    assert "| 1% | 1 | 1 | 20.0% (20.0%) | 0.5% (0.5%) | 0.10 |" in summarise(pd.concat([TABLE, *pairs]))


def test_setups_are_of_the_shipped_pipelines() -> None:
    for name, setup in SETUPS.items():
        pipeline = mp.Pipeline.read(shipped_folder() / "pipelines" / f"{name}.yaml")
        several = {stage: own.models for stage, own in pipeline.stages.items() if len(own.models) > 1}
        assert set(setup.low) == set(setup.high) == set(several)
        assert all(one in several[stage] for own in (setup.low, setup.high) for stage, one in own.items())
        assert set(setup.replicas) == set(pipeline.stages)


def test_traffic_is_drawn_and_always_the_same() -> None:
    assert set(MADE) <= set(traces())
    for name in MADE:
        assert traffic(name, 1).sha256 == traffic(name, 1).sha256 != traffic(name, 2).sha256


@pytest.mark.shared_data
@pytest.mark.skipif(not (SHARED / COUNTS).exists(), reason="the public data sets are not beside the checkout")
def test_segments_are_those_of_ipa() -> None:
    """Mean rates of the file of counts, as its page tells them, divided by eight."""
    means = [len(trace) / (trace.span_ns / 1e9) for trace in (traffic(name, 1) for name in SEGMENTS)]
    assert means[:2] == [pytest.approx(44 / 8, rel=0.05), pytest.approx(100 / 8, rel=0.05)]
    assert means[3] == pytest.approx(234 / 8, rel=0.05)


def test_everybody_is_judged_alike() -> None:
    court = Court("sum-qa", "gamma, CV 2", span_s=20.0)
    rivals = [*court.ipa((30.0,), ["mean"]), *court.fa2(["mean"]), *court.rim([1.0], ["mean"])]
    found = pd.DataFrame([*rivals, *court.ours()])
    assert {"ipa", "fa2-low", "fa2-high", "fa2, other variants", "rim", OURS, OURS_REPLAYED} <= set(
        found["method"]
    )
    assert found["accuracy"].notna().all()
    own = found[found["method"] == OURS]
    assert (own["p99_s"] <= own["slo_s"]).all()
    replayed = found[found["method"] == OURS_REPLAYED]
    assert all(a < b for a, b in pairwise(replayed["accuracy"]))
    assert all(point.saving >= 0 and point.gain >= 0 for point in points(found, "FA2, any variants", BOTH))
