"""The replay benchmark: what an interrupted run leaves, and what is said about its aims."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mipplan as mp
from benchmarks.replay.aims import AIMS, Aim, queries_per_s, visits_per_s
from benchmarks.replay.cases import OURS, Case, list_cases
from benchmarks.replay.instances import reference_plan
from benchmarks.replay.measure import measure
from benchmarks.replay.plots import draw
from benchmarks.replay.run import check_agreement, read_rows
from benchmarks.replay.summary import summarise

ROOT = Path(__file__).resolve().parents[1]


def test_an_interrupted_run_goes_on_with_what_the_same_code_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    partial = tmp_path / "partial.jsonl"
    assert read_rows(partial, "new") == {}
    lines = [
        json.dumps({"code": code, "case": case, "row": {"seconds": seconds}}) + "\n"
        for code, case, seconds in (("old", "a", 1.0), ("new", "a", 2.0), ("new", "b", 3.0))
    ]
    partial.write_text("".join(lines) + lines[0][:20])  # killed amid a line
    assert read_rows(partial, "new") == {"a": {"seconds": 2.0}, "b": {"seconds": 3.0}}
    assert capsys.readouterr().err == "1 rows were measured on other code and are left out\n"


def test_cases_are_different_ones() -> None:
    for quick in (True, False):
        cases = list_cases(quick=quick)
        assert len(cases) == len(set(cases)) > 50


def test_every_aim_concerns_some_case() -> None:
    table = pd.DataFrame([vars(case) for case in list_cases(quick=False)])
    for aim in AIMS:
        for column, wanted in aim.rows.items():
            assert wanted in ("min", "max") or wanted in set(table[column]), aim.text


def test_an_aim_that_is_missed_says_by_how_much() -> None:
    rows = [
        {"engine": "numba", "queries": 100, "plans": 1, "seconds": s, "served_s": s / 2, "written_s": 2 * s}
        for s in (5e-6, 20e-6)
    ]
    aim = Aim("≥ 10 M/s", "M/s", {"engine": "numba"}, queries_per_s, least=10.0)
    said = aim.judge(pd.DataFrame(rows))
    assert said == (
        "| ≥ 10 M/s | 5–20 M/s | 10–40 M/s | 2.5–10 M/s "
        "| missed in 1 of 2 cases, at worst 0.5 times the aim; kept with tokens drawn before |"
    )
    assert aim.judge(pd.DataFrame(rows[:1])).endswith("| kept |")


def test_the_summary_takes_all_cases(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows = []
    for case in list_cases(quick=False):
        ours = case.engine in OURS and case.group != "stream"
        served = {"served_s": 0.8, "written_s": 1.5, "written_peak_mib": 300.0} if ours else {}
        drawing = {"drawing_s": 0.1} if case.group == "stream" else {}
        row = {
            "seconds": float(rng.uniform(0.1, 2)),
            "wall_s": 3.0,
            "repeats": 5,
            "visits": case.queries * case.stages * case.plans,
            "before_mib": 100.0,
            "peak_mib": 200.0,
            "stage_replays": case.stages * case.plans,
            "first_call_s": 0.1,
        }
        rows.append({**vars(case), **row, **served, **drawing})
    table = pd.DataFrame(rows)
    text = summarise(table, len(table))
    assert len(AIMS) == sum(
        line.startswith("| num") or "within 500" in line for line in text.splitlines()[:14]
    )
    assert "nan" not in text
    assert "here it replayed" in text
    some = summarise(table[table["group"].isin(["queries", "stages", "plans"])], len(table))
    assert "not measured yet" in some
    assert f"of {len(table)} cases (the others are to follow)" in some
    draw(table, tmp_path)
    assert (tmp_path / "replay.png").stat().st_size > 10_000


@pytest.mark.parametrize("engine", ["numpy", "heap"])
def test_a_case_is_measured_with_its_answer(engine: str) -> None:
    row = measure(Case("queries", engine, "gamma", 500))
    assert row["seconds"] > 0 < row["wall_s"]
    other = {**row, "engine": "python"}
    check_agreement(pd.DataFrame([row, other]))
    with pytest.raises(RuntimeError, match="different latencies"):
        check_agreement(pd.DataFrame([row, {**other, "digest": "00000000"}]))


def test_readme_says_for_which_stages_numba_is_faster() -> None:
    """With the figures of the last run: batches by the ratio of whole calls, single tokens by NumPy's closed form.

    Of all rows of 200,000 queries or more: at every rate, under either discipline, streams included.
    """
    table = pd.read_csv(ROOT / "benchmarks" / "results" / "replay" / "replay.csv")
    case = [
        "group",
        "arrivals",
        "queries",
        "rate_rps",
        "discipline",
        "stages",
        "plans",
        "plans_are",
        "source",
    ]
    long = table[(table["queries"] >= 200_000) & ~table["single_token"].astype(bool)]
    seconds = long.pivot_table(index=case, columns="engine", values="seconds")
    ratio = (seconds["numpy"] / seconds["numba"]).dropna()
    assert len(ratio) > 10
    words = {2: "two", 3: "three", 4: "four", 8: "eight", 9: "nine", 10: "ten", 11: "eleven", 12: "twelve"}
    times = f"{words[math.floor(ratio.min())]} to {words[math.ceil(ratio.max())]} times as fast"
    single = visits_per_s(table[(table["group"] == "single token") & (table["engine"] == "numpy")])
    text, install = (
        " ".join((ROOT / page).read_text(encoding="utf-8").split())
        for page in ("README.md", "docs/how-to/install.md")
    )
    assert times in install
    for sentence in (
        f"stages that batch {times}",
        f"{single.min():.0f} to {single.max():.0f} million a second and stage",
    ):
        assert sentence in text, sentence


def test_pages_say_how_much_longer_replays_are_with_outputs_one_after_another() -> None:
    """The chain of this benchmark, by quantile: percent over all rates and both kinds of traffic, at gaps of 1 µs."""
    plan, percent = reference_plan(), dict[float, list[float]]({0.5: [], 0.99: []})
    for rate_rps in (500, 800, 1_000):
        for trace in (
            mp.Trace.poisson(rate_rps=rate_rps, duration_s=60, seed=1),
            mp.Trace.gamma(rate_rps=rate_rps, cv=3, duration_s=60, seed=1),
        ):
            at_once, *apart = (mp.replay(plan, trace, stagger_s=gap_s) for gap_s in (0, 1e-6, 1e-9, 1e-4))
            for quantile, found in percent.items():
                ratios = [run.quantile(quantile) / at_once.quantile(quantile) for run in apart]
                found.append(100 * (ratios[0] - 1))
                assert abs(ratios[1] - ratios[2]) < 0.02
    p50, p99 = percent.values()
    page, readme = (
        " ".join((ROOT / page).read_text(encoding="utf-8").split())
        for page in ("docs/dispatch.md", "README.md")
    )
    assert f"P99 is {min(p99):.0f} to {max(p99):.0f} % longer at 500 to 1,000 queries/s" in page
    assert f"P50 from {-min(p50):.0f} % shorter to {max(p50):.0f} % longer" in page
    assert f"P99 of a chain by {min(p99):.0f} to {max(p99):.0f} %" in readme
