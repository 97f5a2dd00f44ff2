"""``mipplan compare`` as a user runs it: tables, document, picture, what goes wrong."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import matplotlib.image
import pytest
from typer.testing import CliRunner, Result

import mipplan as mp
from mipplan.cli.app import app
from mipplan.cli.flags import Planners
from mipplan.comparison import Comparison, Contender, comparing
from mipplan.plots import draw_comparison
from mipplan.reporting import comparison_report, comparisons

Run = Callable[..., Result]
PLANNERS = ("half_slo", "certified", "inferline")
CASCADE = Path(__file__).parents[2] / "profiles" / "pipelines" / "cascade.yaml"
SLO_S = 0.08


@pytest.fixture(scope="module")
def trace() -> mp.Trace:
    return mp.Trace.gamma(rate_rps=80, cv=2.0, duration_s=20, seed=3)


@pytest.fixture(scope="module")
def compared(trace: mp.Trace) -> Comparison:
    """What the library finds."""
    return mp.compare(mp.Pipeline.read(CASCADE), mp.Profiles.default(), trace, planners=PLANNERS)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trace: mp.Trace) -> Run:
    rows = "\n".join(f"{time / 1e9:.9f}" for time in trace.arrival_ns)
    (tmp_path / "trace.csv").write_text(f"arrival_s\n{rows}\n")
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str) -> Result:
        given = ["compare", "cascade", "--trace", "trace.csv", "--planners", ",".join(PLANNERS), *arguments]
        return CliRunner().invoke(app, given)

    return invoke


def lines_about(planner: str, text: str) -> list[str]:
    return [line for line in text.splitlines() if re.match(rf"{planner}\b", line)]


def written(seconds: float) -> str:
    return f"{seconds * 1e3:.4g} ms"


def test_tables_say_who_keeps_the_objective_where_cheapest_first(run: Run, compared: Comparison) -> None:
    done = run()
    assert done.exit_code == 0, done.output
    assert "P99 ≤ 80 ms, all judged under oldest first" in done.stdout
    shown = re.findall(r"^(\w+) +([\d.]+) +(?:kept|MISSED) ", done.stdout, re.MULTILINE)
    assert shown == [(row.planner, f"{row.plan.usd_per_hour:.4f}") for row in compared.by_cost]
    for row in compared.rows:
        verdict, planning = lines_about(row.planner, done.stdout)
        for judged in (row.in_sample, row.held_out):
            mark = "kept  " if judged.quantile_s <= SLO_S else "MISSED"
            assert f"{mark} {written(judged.quantile_s)}, {judged.miss_rate:.2%}" in verdict
        kept = sum(judged.keeps for judged in row.over_seeds)
        worst = (
            f"{written(row.median_quantile_s)}, {written(row.worst_quantile_s)}, {row.worst_miss_rate:.2%}"
        )
        assert f"kept {kept} of 5  {worst}" in verdict
        assert row.plan.status in planning
        assert f"{row.certificate_s * 1e3:.4g} ms" in planning or f"{row.certificate_s:.4g} s" in planning
        assert planning.endswith(f" {row.estimator_calls}")


def test_output_tells_in_sample_from_held_out(run: Run, compared: Comparison) -> None:
    text = run().stdout
    assert "in sample: judged on what was planned on" in text
    assert "no planner saw" in " ".join(text.split())
    assert f"first 50% of its time: {len(compared.planned_on):,} queries" in text
    assert f"after the first 50% of its time: {len(compared.judged_on):,} queries" in text
    assert "inferline plans by replays under fifo" in text
    keeping = [row for row in compared.by_cost if all(judged.keeps for judged in row.over_seeds)]
    first = f"{keeping[0].planner}, {keeping[0].plan.usd_per_hour:.4f} $/h"
    assert f"cheapest that keeps it held out with every seed: {first}" in text


def test_document_holds_the_figures_of_the_library(run: Run, compared: Comparison) -> None:
    document = json.loads(run("--json").stdout)
    jsonschema.validate(document, comparisons.ComparisonReport.model_json_schema())
    assert (document["split"], document["seed"], document["seeds"]) == (0.5, 0, [1, 2, 3, 4, 5])
    assert document["planned_on"]["sha256"] == compared.planned_on.sha256
    assert document["judged_on"]["sha256"] == compared.judged_on.sha256
    for shown, row in zip(document["rows"], compared.by_cost, strict=True):
        assert (shown["planner"], shown["status"]) == (row.planner, row.plan.status)
        assert shown["usd_per_hour"] == row.plan.usd_per_hour
        assert sum(choice["usd_per_hour"] for choice in shown["choices"].values()) == pytest.approx(
            row.plan.usd_per_hour
        )
        assert (shown["bound_s"], shown["certificate_s"]) == (row.plan.bound_s, row.certificate_s)
        assert shown["held_out"] == shown["over_seeds"][0]
        judged = [row.in_sample, *row.over_seeds]
        for figures, judgement in zip([shown["in_sample"], *shown["over_seeds"]], judged, strict=True):
            assert figures == {
                "seed": judgement.seed,
                "queries": judgement.queries,
                "latency_s": judgement.quantile_s,
                "misses": judgement.misses,
                "miss_rate": judgement.miss_rate,
                "kept": judgement.keeps,
            }
        assert shown["median_latency_s"] == row.median_quantile_s
        assert shown["worst_miss_rate"] == row.worst_miss_rate


def test_infeasible_is_shown_with_its_reason_and_is_no_failure(run: Run) -> None:
    done = run("--slo", "12ms", "--plot", "none.png")
    assert done.exit_code == 0
    assert Path("none.png").is_file()
    for planner in PLANNERS:
        status, reason = lines_about(planner, done.stdout)
        assert "infeasible" in status
        assert len(reason) > len(f"{planner}: ") + 20
    assert "none of these" in done.stdout
    document = json.loads(run("--slo", "12ms", "--json").stdout)
    for row in document["rows"]:
        assert row["reason"]
        assert row["usd_per_hour"] is row["held_out"] is row["worst_latency_s"] is None
        assert row["over_seeds"] == []


def test_flags_reach_the_library(run: Run, monkeypatch: pytest.MonkeyPatch, compared: Comparison) -> None:
    seen: dict[str, Any] = {}

    def compare(*given: Any, **more: Any) -> Comparison:
        seen.update(more)
        return compared

    monkeypatch.setattr(mp, "compare", compare)
    flags = ("--slo", "70ms", "--quantile", "0.9", "--split", "0.25", "--discipline", "fifo", "--energy")
    flags += ("--accuracy", "60%")
    done = run(*flags, "--planners", "refined, half_slo", "--seed", "3", "--seeds", "2", "--time-limit", "5s")
    assert done.exit_code == 0, done.output
    seen.pop("progress")
    assert seen == {
        "dispatch": None,
        "accuracy": 0.6,
        "energy": mp.EnergyTerms(),
        "slo_s": 0.07,
        "quantile": 0.9,
        "split": 0.25,
        "discipline": "fifo",
        "planners": ["refined", "half_slo"],
        "seed": 3,
        "draws": 2,
        "time_limit_s": 5.0,
    }


def test_certificates_under_fifo_are_said_to_be_of_such_queues(run: Run) -> None:
    done = run("--discipline", "fifo", "--planners", "half_slo")
    assert "all judged under fifo" in done.stdout
    assert "certificates are those of fifo queues" in done.stdout
    assert "inferline plans" not in done.stdout
    timed = run("--discipline", "fifo", "--dispatch", "timed", "--planners", "half_slo")
    assert "fifo queues" not in timed.stdout


def test_picture_is_drawn(run: Run) -> None:
    done = run("--plot", "bars.png")
    assert "written to bars.png" in done.stdout
    assert matplotlib.image.imread("bars.png").std() > 0.05


def test_picture_shows_costs_marks_and_latencies(compared: Comparison) -> None:
    report = comparison_report(mp.Pipeline.read(CASCADE), compared, [])
    costs, latencies = draw_comparison(report).axes
    assert [bar.get_width() for bar in costs.patches] == [row.plan.usd_per_hour for row in compared.by_cost]
    assert [label.get_text() for label in costs.get_yticklabels()] == [r.planner for r in compared.by_cost]
    for row, bar, text in zip(compared.by_cost, costs.patches, costs.texts, strict=True):
        kept = sum(judged.keeps for judged in row.over_seeds)
        assert (bar.get_hatch() is None) == (kept == 5)
        assert f"kept {kept} of 5 held out" in text.get_text()
        assert ("missed in sample" in text.get_text()) == (not row.in_sample.keeps)
    points = [line.get_xdata() for line in latencies.lines[:-1]]
    for place, row in enumerate(compared.by_cost):
        in_sample, spread, held_out = points[3 * place : 3 * place + 3]
        seeds = [judged.quantile_s * 1e3 for judged in row.over_seeds]
        assert list(in_sample) == [row.in_sample.quantile_s * 1e3]
        assert list(spread) == [min(seeds), max(seeds)]
        assert list(held_out) == seeds[:1]
    assert list(latencies.lines[-1].get_xdata()) == [80.0, 80.0]


def test_interrupted_shows_the_rows_so_far(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "inferline", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    done = run()
    assert done.exit_code == 130
    assert "interrupted before these were done: inferline" in done.stdout
    assert lines_about("certified", done.stdout)
    assert json.loads(run("--json").stdout)["left_out"] == ["inferline"]


def test_mistakes_in_flags_and_files_are_told_together(run: Run) -> None:
    mistakes = {
        "--profiles": ("none", "there is no such"),
        "--split": ("7", "between 0 and 1"),
        "--quantile": ("99", "for P99 write 0.99"),
        "--planners": ("greedy", "did you mean 'inferline'?"),
        "--discipline": ("lifo", "oldest_first, fifo"),
        "--seed": ("-1", "non-negative"),
        "--dispatch": ("lazy", "expected eager, paced or timed"),
    }
    done = run(*(word for flag, (value, _) in mistakes.items() for word in (flag, value)))
    assert done.exit_code == 2
    assert f"the input has {len(mistakes)} faults" in done.stderr
    for _, said in mistakes.values():
        assert said in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--split", "1"), "between 0 and 1"),
        (("--split", "0.0001"), "has 1 arrival and no duration"),
        (("--planners", "greedy"), "there is no 'greedy'; did you mean 'inferline'?"),
        (("--planners", "refine"), "did you mean 'refined'?"),
        (("--planners", ""), "there is no ''"),
        (("--discipline", "lifo"), "oldest_first, fifo"),
        (("--time-limit", "60"), "write 60s"),
        (("--plot", "bars.gif"), ".png, .svg or .pdf"),
        (("--slo", "fast"), "300ms"),
    ],
)
def test_first_mistakes_get_one_helpful_message(run: Run, arguments: tuple[str, str], said: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert arguments[0] in done.stderr
    assert done.stdout == ""


def test_the_help_names_every_planner() -> None:
    (names,) = re.findall(r"Some of ([^;]+); all", Planners.__metadata__[0].help)
    assert names.split(", ") == [contender.value for contender in Contender]
