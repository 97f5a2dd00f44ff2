"""The benchmark of reliability: what plans are judged on, that they are judged rightly, and what aims say of rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mipplan as mp
from benchmarks.compare import shared_data
from benchmarks.compare.planners import CERTIFIED, DISCIPLINE, GREEDY, REFINED
from benchmarks.compare.specs import read_frozen
from benchmarks.reliability.aims import MAIN, find_aims
from benchmarks.reliability.figures import (
    answers,
    cheapest_as_reliable,
    frontier,
    interval_rows,
    points,
    ratios,
    settings_of,
)
from benchmarks.reliability.measure import FIRST_SEED, measure_case
from benchmarks.reliability.planners import OURS, SETTINGS, Setting, make_plan
from benchmarks.reliability.plots import draw_frontiers
from benchmarks.reliability.run import COLUMNS
from benchmarks.reliability.summary import summarise
from benchmarks.reliability.traffic import (
    GAMMA,
    REAL,
    REAL_PARTS,
    RECORDED,
    RECORDINGS,
    Case,
    all_names,
    case_names,
    make_case,
    real_parts,
    real_specs,
)
from conftest import ABSENT

needs_shared = pytest.mark.skipif(not shared_data.is_present(), reason=ABSENT)

# ------------------------------------------------------------------------------------------- traffic


def test_every_frozen_instance_that_plans_are_compared_on_is_a_case() -> None:
    names = all_names()
    assert len(set(names)) == len(names)
    assert {spec.name for spec in read_frozen() if spec.group != "large"} <= set(names)
    assert {spec.recording for spec in real_specs()} == set(RECORDINGS)
    assert set(case_names()) <= set(names)


def test_fresh_parts_are_of_the_same_process_and_all_different() -> None:
    case = make_case("random-012", parts=6)
    again = make_case("random-012", parts=3)
    assert (case.kind, len(case.parts)) == (GAMMA, 6)
    assert [part.sha256 for part in again.parts] == [part.sha256 for part in case.parts[:3]]
    assert len({case.sample.sha256, *(part.sha256 for part in case.parts)}) == 7
    spec = next(spec for spec in read_frozen() if spec.name == case.name)
    assert spec.rate_rps is not None
    assert spec.cv is not None
    for part in case.parts:
        assert len(part) == spec.queries
        assert part.rate_rps == pytest.approx(spec.rate_rps, rel=6 * spec.cv / spec.queries**0.5)
        assert part.cv == pytest.approx(spec.cv, rel=0.15)


@needs_shared
def test_a_frozen_instance_on_a_recording_has_one_half_to_be_judged_on() -> None:
    name = next(spec.name for spec in read_frozen() if spec.arrivals == "shared:azure")
    case = make_case(name)
    assert (case.kind, len(case.parts)) == (RECORDED, 1)


@needs_shared
def test_parts_of_a_recording_follow_the_sample_in_a_row() -> None:
    spec = next(spec for spec in real_specs() if spec.recording == "azure" and spec.start_s == 0.0)
    recording = RECORDINGS["azure"]
    whole = mp.Trace.read(shared_data.FOLDER / "traces" / recording.file).arrival_ns / 1e9
    parts = list(real_parts(spec))
    assert len(parts) == 1 + REAL_PARTS
    for number, part in enumerate(parts):
        begin = number * recording.part_s
        own = whole[(whole >= begin) & (whole < begin + recording.part_s)]
        assert len(part) == own.size
        scaled = (own - own[0]) / recording.factor
        assert np.allclose(part.arrival_ns / 1e9, scaled, atol=1e-5)
    case = make_case(spec.name)
    assert (case.kind, case.group) == (REAL, REAL)
    assert [trace.sha256 for trace in (case.sample, *case.parts)] == [part.sha256 for part in parts]


@needs_shared
@pytest.mark.parametrize("recording", RECORDINGS)
def test_every_recording_has_a_sample_and_parts(recording: str) -> None:
    spec = next(spec for spec in real_specs() if spec.recording == recording)
    sample, *parts = real_parts(spec)
    assert len(parts) >= 6
    assert min(len(part) for part in (sample, *parts)) >= 500
    assert all(part.arrival_ns[0] == 0 for part in parts)


# ------------------------------------------------------------------------------------------- measuring


@pytest.fixture(scope="module")
def small() -> Case:
    """A small case: two stages, a thousand queries to plan on, four parts."""
    pipeline = mp.Pipeline.read("profiles/pipelines/image-processing.yaml")
    draws = [mp.Trace.gamma(80.0, 2.0, 10.0, seed=seed) for seed in range(5)]
    profiles = mp.Profiles.default()
    return Case("small", "shipped", GAMMA, pipeline, profiles, draws[0], 0.2, draws[1:])


FEW = (Setting(GREEDY), Setting(GREEDY, of_slo=0.7), Setting(CERTIFIED), Setting(OURS, confidence=0.9))


@pytest.fixture(scope="module")
def rows(small: Case) -> list[dict[str, Any]]:
    return measure_case(small, parts=2, settings=FEW)


def test_rows_say_what_replays_say(small: Case, rows: list[dict[str, Any]]) -> None:
    assert {name for row in rows for name in row} <= set(COLUMNS)
    for setting, row in zip(FEW, rows, strict=True):
        plan = make_plan(small, setting)
        assert (row["planner"], row["status"]) == (setting.planner, plan.status)
        assert row["usd_per_hour"] == plan.usd_per_hour
        judged = mp.Plan.from_choices(small.pipeline, small.profiles, dict(plan.choices))
        kept = [
            mp.replay(judged, part, discipline=DISCIPLINE, seed=FIRST_SEED + number).quantile(0.99)
            <= small.slo_s
            for number, part in enumerate(small.parts)
        ]
        assert (row["parts"], row["kept"], row["first_kept"]) == (2, sum(kept[:2]), kept[0])
        if setting.planner == OURS:
            assert (row["all_parts"], row["all_kept"]) == (4, sum(kept))
            test = plan.reliability
            assert test is not None
            assert (row["low"], row["high"], row["test_kept"]) == (test.low, test.high, test.kept)
            fast = [part.rate_rps > test.fastest_rps for part in small.parts]
            assert (row["fast_parts"], row["fast_kept"]) == (
                sum(fast),
                sum(k and f for k, f in zip(kept, fast, strict=True)),
            )
        else:
            assert "all_parts" not in row


def test_settings_hold_what_they_keep_back(small: Case) -> None:
    made = make_plan(small, Setting(CERTIFIED, of_slo=0.8, headroom=1.25))
    by_hand = mp.plan(small.pipeline, small.profiles, small.sample.scale(1.25), slo_s=0.16)
    assert made.choices == by_hand.choices
    assert made.certificate_ns == by_hand.certificate_ns
    assert len({(s.planner, s.of_slo, s.headroom, s.confidence) for s in SETTINGS}) == len(SETTINGS)
    assert sum(setting.is_plain for setting in SETTINGS) == 3  # Each planner but ours.
    assert [s.text for s in FEW] == ["as it is", "objective × 0.7", "as it is", "confidence 0.9"]


def test_a_planner_without_a_plan_has_a_row(small: Case) -> None:
    hopeless = replace(small, slo_s=0.001)
    for row in measure_case(hopeless, settings=[Setting(CERTIFIED), Setting(OURS, confidence=0.9)]):
        assert row["usd_per_hour"] is None
        assert "parts" not in row


# ------------------------------------------------------------------------------------------- what rows say


def line(case: str, planner: str, usd: float | None, kept: int, **more: Any) -> dict[str, Any]:
    """A row of four parts, without a plan if it costs nothing."""
    own = {} if usd is None else {"parts": 4, "kept": kept, "first_kept": kept > 2}
    about = {"case": case, "kind": GAMMA, "stages": 5, "queries": 10_000, "case_cpu_seconds": 36.0}
    setting = {"of_slo": 1.0, "headroom": 1.0, "confidence": None, "status": "given", "cpu_seconds": 2.0}
    return {**about, "planner": planner, "usd_per_hour": usd, **setting, **own, **more}


def reliable(case: str, usd: float | None, kept: int, **more: Any) -> dict[str, Any]:
    test = {"test_scenarios": 59, "test_kept": 59, "low": 0.93, "high": 1.0, "all_parts": 100, "all_kept": 97}
    asked = {"confidence": 0.95, "status": "feasible", **(test if usd is not None else {"test_scenarios": 0})}
    return line(case, OURS, usd, kept, **{**asked, **more})


def made_up(*more: dict[str, Any]) -> pd.DataFrame:
    """Two cases: greedy at two settings, refined, ours."""
    both = [
        row
        for case, usd in (("a", 1.0), ("b", 4.0))
        for row in (
            line(case, GREEDY, usd, 2),
            line(case, GREEDY, 1.5 * usd, 4, of_slo=0.8),
            line(case, REFINED, 0.5 * usd, 1),
            reliable(case, 0.9 * usd, 4),
        )
    ]
    return pd.DataFrame([*both, *more]).reindex(columns=list(COLUMNS))


def outcome(table: pd.DataFrame, begins: str) -> tuple[float, str]:
    (aim,) = (aim for aim in find_aims(table) if begins in aim.text)
    return aim.found, aim.outcome


def test_points_are_means_over_the_cases_where_greedy_has_a_plan() -> None:
    alone = [line("c", GREEDY, None, 0), line("c", GREEDY, 3.0, 4, of_slo=0.8), reliable("c", 9.0, 4)]
    without = [line("d", GREEDY, 1.0, 4), line("d", GREEDY, None, 0, of_slo=0.8), reliable("d", None, 0)]
    table = made_up(*alone, *without)
    assert settings_of(table)[:2] == [Setting(GREEDY), Setting(GREEDY, of_slo=0.8)]
    found = points(table).set_index(["planner", "setting"])
    assert (found["cases"] == 3).all()
    plain, careful, ours = (
        found.loc[key]
        for key in ((GREEDY, "as it is"), (GREEDY, "objective × 0.8"), (OURS, "confidence 0.95"))
    )
    assert (plain["plans"], plain["cost"], plain["kept"]) == (3, 1.0, pytest.approx(2 / 3))
    assert (careful["plans"], careful["cost"], careful["kept"]) == (
        2,
        pytest.approx(1.5),
        pytest.approx(2 / 3),
    )
    assert (ours["plans"], ours["cost"], ours["kept"]) == (2, pytest.approx(0.9), pytest.approx(2 / 3))


def test_a_plan_that_failed_its_test_is_no_answer() -> None:
    failed = reliable("c", 0.1, 0, status="unknown", test_kept=30, low=0.3, high=0.6, all_kept=50)
    table = made_up(line("c", GREEDY, 1.0, 4), failed)
    assert len(answers(table[table["planner"] == OURS])) == 2
    assert list(ratios(table, MAIN).index) == ["a", "b"]
    assert outcome(table, "keeps the held-out half") == (100.0, "kept")
    # Its interval is held against what was observed all the same.
    assert len(interval_rows(table)) == 3
    assert "c" in set(interval_rows(table)["case"])


def test_a_frontier_leaves_out_what_is_dearer_and_no_more_reliable() -> None:
    found = pd.DataFrame(
        {"cost": [1.0, 1.2, 1.1, 1.3, float("nan")], "kept": [0.5, 0.8, 0.4, 0.8, 0.9], "planner": "greedy"}
    )
    assert list(frontier(found).index) == [0, 1]
    rival = cheapest_as_reliable(found, "greedy", 0.75)
    assert rival is not None
    assert rival["cost"] == 1.2
    assert cheapest_as_reliable(found, "greedy", 0.85) is None


def test_aims_are_judged_by_the_rows() -> None:
    table = made_up()
    assert outcome(table, "keeps the held-out half") == (100.0, "kept")
    assert outcome(table, "without headroom") == (pytest.approx(0.9), "kept")
    assert outcome(table, "with margin") == (pytest.approx(0.6), "kept")
    assert outcome(table, "lies in the stated interval") == (100.0, "kept")
    assert outcome(table, "in the median")[1] == "not measured"
    assert outcome(table, "real recordings")[1] == "not measured"
    quick = [reliable(case, 1.0, 4, confidence=0.9, cpu_seconds=s) for case, s in (("a", 9.0), ("b", 12.0))]
    assert outcome(made_up(*quick), "in the median") == (10.5, "missed by 0.5 s")
    # Dearer than greedy, missed by one of two, and outside its interval in one of two.
    worse = table.copy()
    own = worse["planner"] == OURS
    worse.loc[own, "usd_per_hour"] *= 1.5
    worse.loc[own & (worse["case"] == "b"), ["first_kept", "all_kept"]] = [False, 80]
    assert outcome(worse, "keeps the held-out half") == (50.0, "missed by 45.0 %")
    assert outcome(worse, "without headroom") == (pytest.approx(1.35), "missed by 0.430")
    assert outcome(worse, "with margin") == (pytest.approx(0.9), "missed by 0.050")
    assert outcome(worse, "lies in the stated interval") == (50.0, "missed by 40.0 %")


def test_where_no_setting_of_greedy_is_as_reliable_it_is_said() -> None:
    table = made_up()
    table.loc[table["planner"] == GREEDY, "kept"] = 1
    (aim,) = (aim for aim in find_aims(table) if "with margin" in aim.text)
    assert aim.outcome == "kept"
    assert "no setting of greedy keeps 100.0% of the parts as ours does, but 25.0% at most" in aim.over


def test_few_parts_can_contradict_an_interval_or_not() -> None:
    seen = [
        reliable("few", 1.0, 4, kind=REAL, all_parts=10, all_kept=8),
        reliable("bad", 1.0, 4, kind=REAL, all_parts=10, all_kept=2),
    ]
    rows = interval_rows(made_up(*seen)).set_index("case")
    assert not rows.loc["few", "inside"]
    assert rows.loc["few", "agrees"]
    assert not rows.loc["bad", "agrees"]
    assert outcome(made_up(*seen), "real recordings") == (50.0, "missed by 40.0 %")


def test_parts_faster_than_the_fastest_scenario_contradict_nothing_and_are_told() -> None:
    told = reliable("fast", 1.0, 4, kind=REAL, all_parts=10, all_kept=2, fast_parts=8, fast_kept=0)
    untold = reliable("slow", 1.0, 4, kind=REAL, all_parts=10, all_kept=2, fast_parts=3, fast_kept=0)
    rows = interval_rows(made_up(told, untold)).set_index("case")
    assert list(rows.loc[["fast", "slow"], "agrees_tested"]) == [True, False]
    assert not rows.loc[["fast", "slow"], "agrees"].any()
    (aim,) = (aim for aim in find_aims(made_up(told, untold)) if "real recordings" in aim.text)
    assert (aim.found, aim.outcome) == (50.0, "missed by 40.0 %")
    assert "however fast, 0.0%: of 16 parts missed 11 were faster than what the plan says" in aim.over


def test_shares_of_few_parts_are_held_against_whole_parts() -> None:
    stated = {"low": 0.979, "high": 0.99995, "all_parts": 40}
    seen = [reliable(str(kept), 1.0, 4, all_kept=kept, **stated) for kept in (38, 39, 40)]
    rows = interval_rows(made_up(*seen)).set_index("case")
    assert list(rows.loc[["38", "39", "40"], "inside"]) == [False, True, True]


def test_the_summary_says_how_much_of_it_ran() -> None:
    text = summarise(made_up(line("c", GREEDY, None, 0)), cases=278)
    assert text.startswith("3 of 278 cases ran (a part of them): 3 gamma")
    assert "at that rate all 278 cases take 2.8 hours" in text
    assert "Greedy has no plan in 1 cases, which are left out." in text
    assert "several commits" not in text
    two = made_up().assign(commit=lambda own: own["case"].map({"a": "1234567890", "b": "abcdef01"}))
    assert "2 gamma; gamma cases are judged on 4 parts. Measured on several commits: 1 on" in summarise(
        two, cases=2
    )
    assert "| ours | confidence 0.95 * | 2 of 2 | 0.900 | 100.0% | 100.0% | 2.00 s |" in text
    assert "| gamma | 0.95 | 2 | 2 | 2 | 93.0%–100.0% | 97.0% | 100.0% | 100.0% | 100.0% | 0 |" in text
    assert "instances where greedy has a plan | on this part: kept |" in text
    whole = summarise(made_up(), cases=2)
    assert "instances where greedy has a plan | kept |" in whole
    assert whole.startswith("2 of 2 cases ran: 2 gamma")


def test_the_picture_has_a_plane_for_each_kind_of_traffic() -> None:
    real = [line("r", GREEDY, 1.0, 2, kind=REAL), reliable("r", 2.0, 3, kind=REAL)]
    figure = draw_frontiers(made_up(*real))
    assert len(figure.axes) == 2
    (_, labels) = figure.axes[0].get_legend_handles_labels()
    assert labels == [GREEDY, REFINED, OURS]
