"""What plans of a comparison have of accuracy and take of energy: who counts as cheapest, and what is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import mipplan as mp
from mipplan.cli.app import app
from mipplan.comparison import Comparison
from mipplan.core import InputError
from mipplan.plots import draw_comparison
from mipplan.profiles import Hardware, LatencyTable
from mipplan.reporting import comparison_report
from refinement.test_samples import drawing

PLANNERS = ("certified", "refined", "inferline", "half_slo")
TRACE = mp.Trace.gamma(rate_rps=150, cv=1.0, duration_s=10, seed=1)
#: Models of one stage: milliseconds of a batch of one, and accuracy.
MODELS = {"small": (5.0, 0.5), "middle": (12.0, 0.7), "large": (40.0, 0.9)}


def pipeline(*, stated: bool = False) -> mp.Pipeline:
    """One stage that runs the middle model; the file states accuracies, or leaves them to the profiles."""
    known = {name: accuracy for name, (_, accuracy) in MODELS.items()}
    stage = {"variants": known if stated else list(known), "model": "middle"}
    return mp.Pipeline.from_document({"name": "p", "slo": "300ms", "stages": {"a": stage}, "edges": []})


def profiles(tdp_w: float | None = 100.0) -> mp.Profiles:
    size = np.array([1, 2, 4])
    tables = [
        LatencyTable(m, "gpu", size, ms * np.array([1.0, 1.8, 3.2]), accuracy=np.full(3, accuracy))
        for m, (ms, accuracy) in MODELS.items()
    ]
    return mp.Profiles.from_parts([Hardware("gpu", 1.0, tdp_w=tdp_w)], tables)


def compared(**asked: Any) -> Comparison:
    return mp.compare(pipeline(), profiles(), TRACE, **{"planners": PLANNERS} | asked)


def run(tmp_path: Path, *arguments: str) -> str:
    (tmp_path / "p.yaml").write_text(json.dumps(pipeline().to_document()))
    (tmp_path / "t.csv").write_text("arrival_s\n" + "\n".join(f"{t / 1e9:.9f}" for t in TRACE.arrival_ns))
    (tmp_path / "profiles" / "models").mkdir(parents=True, exist_ok=True)
    (tmp_path / "profiles" / "hardware.yaml").write_text("gpu: {usd_per_hour: 1.0, tdp_w: 100}\n")
    for (model, _), table in profiles().tables.items():
        rows = zip(table.batch, table.latency_ms, strict=True)
        lines = "".join(f"{model},gpu,{batch},{float(ms)!r},{MODELS[model][1]},x\n" for batch, ms in rows)
        written = tmp_path / "profiles" / "models" / f"{model}.csv"
        written.write_text(f"model,hardware,batch,latency_ms,accuracy,source\n{lines}")
    given = ["compare", str(tmp_path / "p.yaml"), "--trace", str(tmp_path / "t.csv")]
    given += ["--profiles", str(tmp_path / "profiles"), "--planners", ",".join(PLANNERS), *arguments]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_accuracies_of_the_file_count_as_those_of_the_profiles() -> None:
    comparison = mp.compare(pipeline(stated=True), profiles(), TRACE, planners=PLANNERS)
    assert [row.accuracy for row in comparison.rows] == [row.accuracy for row in compared().rows]


def test_unlike_accuracies_are_told_where_none_is_asked_for(tmp_path: Path) -> None:
    comparison = compared()
    assert {row.planner.value: row.accuracy for row in comparison.rows} == {
        "certified": 0.5,
        "refined": 0.5,
        "inferline": 0.7,
        "half_slo": 0.7,
    }
    assert comparison.to_pandas()["accuracy"].to_dict()["inferline"] == 0.7
    note = comparison.accuracy_note
    assert note is not None
    assert "differ in accuracy, 0.5 to 0.7" in note
    text = run(tmp_path)
    assert note in text
    assert "accuracy" in text.splitlines()[4]
    cheapest = [line for line in text.splitlines() if line.startswith("cheapest")]
    assert len(cheapest) == 2
    assert all(line.endswith(", accuracy 0.5") for line in cheapest)


def test_accuracies_that_no_table_has_are_unlike_those_that_it_has() -> None:
    rows = [{"a": "small", "accuracy": 0.5}, {"a": "large", "accuracy": 0.9}]
    asked = mp.Pipeline.from_document({**pipeline().to_document(), "accuracy": {"table": rows}})
    comparison = mp.compare(asked, profiles(), TRACE, planners=("certified", "half_slo"))
    assert [row.accuracy for row in comparison.rows] == [0.5, None]
    assert "differ in accuracy, 0.5 or not known" in (comparison.accuracy_note or "")
    least = mp.compare(asked, profiles(), TRACE, planners=("certified", "half_slo"), accuracy=0.5)
    assert [row.accurate for row in least.rows] == [True, False]


@pytest.mark.parametrize(("least", "chosen", "is_short"), [(0.7, 0.7, False), (0.8, 0.9, True)])
def test_a_least_accuracy_is_kept_by_those_that_choose_and_counts_for_all(
    least: float, chosen: float, is_short: bool
) -> None:
    comparison = compared(accuracy=least)
    assert comparison.min_accuracy == least
    for row in comparison.rows:
        chooses = row.planner in ("certified", "refined")
        assert row.accuracy == (chosen if chooses else 0.7)
        assert row.accurate is (chooses or not is_short)
        assert row.in_sample is not None, (
            "a plan that falls short is judged, like one that misses the objective"
        )
    expected = mp.plan(pipeline(), profiles(), comparison.planned_on, accuracy=least)
    assert comparison.row("certified").plan == expected
    note = comparison.accuracy_note
    assert (note is not None) is is_short
    if note is not None:
        assert note.startswith("inferline, half_slo lack the accuracy of 0.8 asked for")


def test_only_plans_of_enough_accuracy_are_called_cheapest(tmp_path: Path) -> None:
    text = run(tmp_path, "--accuracy", "80%")
    comparison = compared(accuracy=0.8)
    assert comparison.by_cost[0].planner.value in ("inferline", "half_slo"), "the example says something"
    best = min(row.plan.usd_per_hour for row in comparison.rows if row.accurate)
    cheapest = [line for line in text.splitlines() if line.startswith("cheapest")]
    assert [line.split(": ")[0] for line in cheapest] == [
        "cheapest of at least 0.8 accuracy that keeps it in sample",
        "cheapest of at least 0.8 accuracy that keeps it held out",
    ]
    assert all(f"{best:.4f} $/h" in line and "inferline" not in line for line in cheapest)
    assert "0.7 < 0.8" in text
    document = json.loads(run(tmp_path, "--accuracy", "80%", "--json"))
    assert document["min_accuracy"] == 0.8
    assert {row["planner"]: (row["accuracy"], row["accurate"]) for row in document["rows"]} == {
        "certified": (0.9, True),
        "refined": (0.9, True),
        "inferline": (0.7, False),
        "half_slo": (0.7, False),
    }


def test_nobody_is_cheapest_where_nobody_has_it(tmp_path: Path) -> None:
    text = run(tmp_path, "--accuracy", "0.95")
    assert text.count(": none of these") == 2
    assert "certified: " in text, "the reason why there is no plan"


def test_energy_is_that_of_the_replays(tmp_path: Path) -> None:
    terms = mp.EnergyTerms(gco2_per_kwh=400.0)
    comparison, plain = compared(energy=terms), compared()
    for row in comparison.rows:
        parts = [(comparison.planned_on, row.in_sample, 0)]
        parts += [(comparison.judged_on, judged, judged.seed) for judged in row.over_seeds]
        for trace, judged, seed in parts:
            assert judged is not None
            assert judged.energy == mp.replay(row.plan, trace, seed=seed).energy
            assert judged.energy is not None
        other = plain.row(row.planner)
        assert other.in_sample is not None
        assert other.in_sample.energy is None
        assert dict(row.plan.choices) == dict(other.plan.choices), "it is told, and changes no plan"
    frame = comparison.to_pandas()
    held_out = comparison.row("certified").held_out
    assert held_out is not None
    assert held_out.energy is not None
    assert frame.loc["certified", "held_out_power_w"] == held_out.energy.mean_power_w
    assert frame.loc["certified", "held_out_j_per_thousand"] == held_out.energy.j_per_thousand
    text = run(tmp_path, "--energy")
    figure = f"{held_out.energy.mean_power_w:.4g} W, {held_out.energy.j_per_thousand:.4g} J per 1,000"
    assert figure in text
    assert "gpu: a batch is taken to draw the 100 W of its thermal design" in text
    document = json.loads(run(tmp_path, "--energy", "--json"))
    told = {row["planner"]: row["held_out"]["energy"] for row in document["rows"]}
    assert told["certified"]["energy_j"] == held_out.energy.energy_j


def test_energy_of_several_samples_is_that_of_all() -> None:
    traces = [TRACE, TRACE.slice(0.0, 8.0)]
    comparison = mp.compare(pipeline(), profiles(), traces, planners=["certified"], energy=mp.EnergyTerms())
    row = comparison.row("certified")
    planned = [comparison.planned_on, *(one for one, _ in comparison.others)]
    runs = [mp.replay(row.plan, trace, seed=0).energy for trace in planned]
    assert row.in_sample is not None
    told = row.in_sample.energy
    assert told is not None
    assert told.pj == sum(one.pj for one in runs if one is not None)
    assert told.span_ns == sum(one.span_ns for one in runs if one is not None)
    assert told.queries == row.in_sample.queries


def test_what_cannot_be_asked_for_is_refused() -> None:
    given = pipeline(), profiles(None), TRACE
    with pytest.raises(
        InputError, match=r"(?s)accuracy.*expected an accuracy.*energy.*expected mipplan.EnergyTerms"
    ):
        mp.compare(*given, accuracy=2, energy="much")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="not known"):
        mp.compare(*given, energy=mp.EnergyTerms())
    for terms in (mp.EnergyTerms(max_power_w=100.0), mp.EnergyTerms(usd_per_kwh=0.3)):
        with pytest.raises(InputError, match="baselines keep no cap on power"):
            mp.compare(pipeline(), profiles(), TRACE, energy=terms)
    alone = mp.Pipeline.from_document(
        {"name": "p", "slo": "300ms", "stages": {"a": {"model": "small"}}, "edges": []}
    )
    with pytest.raises(InputError, match="no stage of the pipeline lists variants"):
        mp.compare(alone, profiles(), TRACE, accuracy=0.5)


def test_nothing_of_it_stands_where_there_is_nothing_to_tell() -> None:
    alone = mp.Pipeline.from_document(
        {"name": "p", "slo": "300ms", "stages": {"a": {"model": "small"}}, "edges": []}
    )
    comparison = mp.compare(alone, profiles(), TRACE, planners=PLANNERS)
    told = comparison_report(alone, comparison, []).model_dump_json()
    words = ("accura", "energy", "power_w", "j_per_thousand")
    assert comparison.accuracy_note is None
    assert not any(
        word in text for word in words for text in (told, str(comparison), *comparison.to_pandas())
    )


def test_the_picture_tells_accuracy() -> None:
    report = comparison_report(pipeline(), compared(accuracy=0.8), [])
    said = [text.get_text() for axes in draw_comparison(report).axes for text in axes.texts]
    assert sum("accuracy 0.9" in text for text in said) == 2
    assert sum("accuracy 0.7, too low" in text for text in said) == 2
    plain = comparison_report(pipeline(), compared(), [])
    assert any(
        "accuracy 0.5" in text.get_text() for axes in draw_comparison(plain).axes for text in axes.texts
    )


def test_plans_whose_variants_draw_are_judged_on_every_draw() -> None:
    """One draw stood for all, as the models that the pipeline names draw nothing."""
    given = drawing()
    compared = mp.compare(*given, accuracy=0.8, draws=3, planners=["certified", "inferline"])
    queries = [row.in_sample.queries for row in compared.rows if row.in_sample is not None]
    assert queries == [3 * len(compared.planned_on), len(compared.planned_on)]
