"""The motivating experiment: its tables keep what must be so, and its page says what they say."""

from __future__ import annotations

import re
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest

import mipplan as mp
from benchmarks.__main__ import RESULTS
from benchmarks.motivation import measure, spaces
from benchmarks.motivation.run import EXPERIMENTS, run
from benchmarks.motivation.spaces import Case, _cheapest_first
from benchmarks.motivation.summary import crossing

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "motivation.md").read_text(encoding="utf-8")
FOLDER = RESULTS / "motivation"
MOST_WORDS = 900

Tables = dict[str, pd.DataFrame]


@pytest.fixture(scope="module", params=["committed", "quick"])
def tables(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """The tables that the page shows, and those of a quick run now."""
    folder = FOLDER
    if request.param == "quick":
        folder = tmp_path_factory.mktemp("motivation")
        with patch.object(measure, "LIMIT_S", 1.5), patch.object(spaces, "LIMIT_S", 3.0):
            run(folder, quick=True)
        assert len(list(folder.glob("*.png"))) == PAGE.count("](images/motivation/")
    return {name: pd.read_csv(folder / f"{name}.csv") for name in EXPERIMENTS}


def test_throughput_is_batch_by_latency(tables: Tables) -> None:
    rows = tables["batches"]
    assert np.allclose(rows["items_per_s"], 1e3 * rows["batch"] / rows["latency_ms"])
    assert (rows.groupby(["model", "hardware"])["gain"].first() == 1.0).all()
    hardware = mp.Profiles.default().hardware
    price = rows["hardware"].map(lambda name: hardware[name].usd_per_hour)
    assert np.allclose(rows["usd_per_thousand"] * rows["items_per_s"] * 3.6, price)


def test_no_certificate_is_below_its_replay(tables: Tables) -> None:
    rows = tables["tails"]
    assert (rows["certificate_ms"] >= rows["p99_ms"]).all()
    assert np.ptp(rows["rate_rps"] / rows["load"]) < 1e-6


def test_no_plan_costs_less_than_devices_that_are_never_idle(tables: Tables) -> None:
    rows = tables["rates"]
    assert np.allclose(rows["usd_per_thousand"] * 3.6 * rows["rate_rps"], rows["usd_per_hour"])
    # A trace ends with its last arrival, so its rate is a little off the one asked for.
    assert (rows["usd_per_thousand"] >= 0.9 * rows["least_usd_per_thousand"]).all()


def test_no_search_finds_less_than_the_optimum(tables: Tables) -> None:
    rows = tables["spaces"]
    proven = rows[(rows["planner"] == "optimum") & rows["proven"]].set_index("pipeline")["usd_per_hour"]
    beside = rows["pipeline"].map(proven)
    assert (rows["usd_per_hour"] >= beside - 1e-9)[rows["usd_per_hour"].notna() & beside.notna()].all()
    best = rows[rows["planner"] == "optimum"].set_index("pipeline")["usd_per_hour"]
    greedy = rows[rows["planner"] == "greedy"].set_index("pipeline")["usd_per_hour"]
    assert (best <= greedy + 1e-9).all()


def test_a_larger_budget_finds_nothing_dearer(tables: Tables) -> None:
    drawn = tables["spaces"].query("planner == 'grid, at random'").fillna({"usd_per_hour": np.inf})
    for _, own in drawn.groupby(["pipeline", "seed"]):
        assert own.sort_values("budget")["usd_per_hour"].is_monotonic_decreasing
        assert (own["replays"] <= own["budget"]).all()


@pytest.mark.parametrize("planner", ["eager", "paced", "timed"])
def test_a_looser_objective_never_costs_more(tables: Tables, planner: str) -> None:
    rows = tables["objectives"].query("planner == @planner and (proven or planner != 'timed')")
    costs = rows.sort_values("from_ms")["usd_per_hour"].fillna(np.inf)
    assert costs.is_monotonic_decreasing


def test_a_crossing_is_where_it_stays_cheaper() -> None:
    costs = {"epyc_core": [1.0, 1.0, 3.0, 3.0, 4.0], "inf2": [2.0, 0.5, 3.5, 2.0, 2.0], "gpu": [9.0] * 5}
    rows = pd.DataFrame(
        {"model": "m", "hardware": hardware, "rate_rps": [1, 2, 4, 8, 16], "usd_per_hour": own}
        for hardware, own in costs.items()
    ).explode(["rate_rps", "usd_per_hour"])
    rows = rows.astype({"rate_rps": float, "usd_per_hour": float})
    assert (crossing(rows, "m", "inf2"), crossing(rows, "m", "gpu")) == (8.0, None)


def test_a_grid_is_walked_by_cost_and_wholly() -> None:
    options = [
        [(cost, mp.Choice("h", 1, cost)) for cost in costs] for costs in ((1, 4, 9), (2, 3), (5, 5, 6))
    ]
    walked = [
        (sum(cost for cost, _ in one), tuple(choice.replicas for _, choice in one))
        for one in _cheapest_first(options)
    ]
    assert len(walked) == 18
    assert [cost for cost, _ in walked] == sorted(cost for cost, _ in walked)
    assert {choices for _, choices in walked} == {
        (a, b, c) for a in (1, 4, 9) for b in (2, 3) for c in (5, 6)
    }


def test_configurations_are_counted_as_one_by_one() -> None:
    pipeline = mp.Pipeline.from_document(
        {"slo": "1s", "stages": {"a": {"model": "postprocess"}, "b": {"model": "postprocess"}}}
        | {"edges": [{"from": "a", "to": "b"}]}
    )
    case = Case(pipeline, mp.Trace.poisson(10.0, 2.0, seed=1))
    batches = len(case.profiles.table("postprocess", "cpu").batch)
    # Of 5 devices in all, both stages have at least one: 10 ways to share them out.
    assert case.count_within(5 * 85_000) == 10 * batches**2


def test_the_page_takes_in_every_part_and_figure() -> None:
    summary = (FOLDER / "summary.md").read_text(encoding="utf-8")
    sections = re.findall(r"\[start:(\w+)\]", summary)
    assert re.findall(r"motivation/summary\.md:([a-z]+)", PAGE) == sections == list(EXPERIMENTS)
    shown = re.findall(r"\(images/motivation/(\w+\.png)\)", PAGE)
    assert sorted(path.name for path in (ROOT / "docs" / "images" / "motivation").iterdir()) == sorted(shown)


def test_the_page_is_read_in_a_few_minutes() -> None:
    summary = (FOLDER / "summary.md").read_text(encoding="utf-8")
    prose = [
        line
        for line in [*PAGE.splitlines(), *summary.splitlines()]
        if line and not re.match(r"\||<!--|--8<--|!\[|```|mipplan plan", line)
    ]
    assert len(" ".join(prose).split()) <= MOST_WORDS
