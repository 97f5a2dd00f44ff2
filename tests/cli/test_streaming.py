"""``mipplan replay --stream``."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from typer.testing import CliRunner

import mipplan as mp
from chunked_replays import chain
from mipplan.cli.app import app
from mipplan.core import QuantileLimit
from mipplan.reporting.replays import StreamReport
from mipplan.trace import gamma_chunks


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plan and a trace."""
    chain().save(tmp_path / "plan.json")
    (times,) = gamma_chunks(150.0, 4.0, 3_000, seed=1)
    (tmp_path / "trace.csv").write_text(
        "\n".join(["arrival_s", *(f"{t / 1e9:.9f}" for t in times.tolist())]) + "\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_document_says_what_the_library_does(folder: Path) -> None:
    made = CliRunner().invoke(
        app, ["replay", "plan.json", "--trace", "trace.csv", "--stream", "--json", "--out", "a.json"]
    )
    assert (made.exit_code, made.stderr) == (0, "")
    report = json.loads(made.stdout)
    jsonschema.validate(report, StreamReport.model_json_schema())
    assert report == json.loads((folder / "a.json").read_text())
    full = mp.replay(chain(), mp.Trace.read("trace.csv"))
    assert (report["end"], report["queries"]) == ("complete", 3_000)
    assert report["latency_s"]["max"] == full.latency_s.max()
    assert report["misses"] == int((full.latency_s > 0.3).sum())
    assert report["stages"]["s1"]["batches"] == full.stages["s1"].batch_size.size


def test_people_get_tables(folder: Path) -> None:
    shown = CliRunner().invoke(app, ["replay", "plan.json", "--trace", "trace.csv", "--stream"])
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert "plan.json on trace.csv: 3,000 queries" in shown.stdout
    assert "P99.9" in shown.stdout
    assert "0.1% too high" in shown.stdout
    assert "oldest first, engine " in shown.stdout


@pytest.mark.parametrize(
    ("end", "code", "words"), [("interrupted", 130, "so far"), ("overloaded", 1, "keep up")]
)
def test_a_partial_result_is_shown_as_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, end: str, code: int, words: str
) -> None:
    def pieces(_: object) -> object:
        yield from gamma_chunks(3_000.0, 1.0, 30_000, seed=1, size=1_000)
        raise KeyboardInterrupt

    monkeypatch.setattr("mipplan.replayer.stream.read_pieces", pieces)
    defaults = mp.replay_stream.__kwdefaults__
    monkeypatch.setitem(defaults, "chunk", 1_000)
    monkeypatch.setitem(defaults, "backlog", 10_000 if end == "overloaded" else 10**9)
    shown = CliRunner().invoke(app, ["replay", "plan.json", "--trace", "trace.csv", "--stream"])
    assert shown.exit_code == code
    assert words in " ".join(shown.stdout.split())
    assert "kept" not in shown.stdout
    assert "missed" not in shown.stdout


def test_the_verdict_is_exact_though_quantiles_are_not(folder: Path) -> None:
    latency_ns = mp.replay(chain(), mp.Trace.read("trace.csv")).latency_ns
    observed_s = int(np.quantile(latency_ns, 0.99, method="higher")) / 1e9
    for slo_s, verdict in ((observed_s, "kept"), (observed_s - 1e-9, "missed")):
        chain(slo_s=slo_s).save("plan.json")
        shown = CliRunner().invoke(app, ["replay", "plan.json", "--trace", "trace.csv", "--stream"])
        assert f": {verdict}\n" in shown.stdout
        assert f"{np.sum(latency_ns > round(slo_s * 1e9)):,} of 3,000 queries" in shown.stdout


def test_files_written_are_named_and_links_are_followed(folder: Path) -> None:
    Path("link.json").symlink_to("there.json")
    arguments = ["replay", "plan.json", "--trace", "trace.csv", "--stream", "--out", "link.json"]
    shown = CliRunner().invoke(app, [*arguments, "--discipline", "fifo"])
    assert "written to link.json" in shown.stdout
    assert "the certificate is no theorem under fifo" in shown.stdout
    assert Path("link.json").is_symlink()
    assert json.loads(Path("there.json").read_text())["written"] == ["link.json"]


def test_a_single_query_is_one(folder: Path) -> None:
    Path("trace.csv").write_text("arrival_s\n7\n")
    shown = CliRunner().invoke(app, ["replay", "plan.json", "--trace", "trace.csv", "--stream"])
    assert "plan.json on trace.csv: 1 query, 0 ns" in shown.stdout


def test_flags_that_need_the_whole_trace_are_refused_together(folder: Path) -> None:
    arguments = ["--from", "1s", "--windows", "1s", "--expand", "even", "--plot", "a.png"]
    refused = CliRunner().invoke(app, ["replay", "none.json", "--trace", "trace.csv", "--stream", *arguments])
    assert refused.exit_code == 2
    for place in ("--from", "--windows", "--expand", "--plot", "none.json"):
        assert f"  {place}: " in refused.stderr


def test_what_a_stream_does_not_know_is_told_of_its_own_flag(folder: Path) -> None:
    refused = CliRunner().invoke(
        app, ["replay", "plan.json", "--trace", "trace.csv", "--stream", "--window", "2ms"]
    )
    assert refused.exit_code == 2
    assert "  --window: nothing is served piece by piece" in refused.stderr
    windows = ["replay", "plan.json", "--trace", "trace.csv", "--windows"]
    for length, told in (("1ns", "makes"), ("0s", "expected a positive number of seconds")):
        refused = CliRunner().invoke(app, [*windows, length])
        assert refused.exit_code == 2
        assert re.search(f"  --windows: .*{told}", refused.stderr)


def test_inside_an_arrival_curve_every_query_counts(folder: Path) -> None:
    slowest_ns = int(mp.replay(chain(), mp.Trace.read("trace.csv")).latency_ns.max())
    held = replace(chain().objective, envelope=((4.0, 160.0),))
    for slo_ns, verdict in ((slowest_ns, "kept"), (slowest_ns - 1, "missed")):
        replace(chain(), objective=replace(held, slo_ns=slo_ns)).save("plan.json")
        shown = CliRunner().invoke(app, ["replay", "plan.json", "--trace", "trace.csv", "--stream"])
        assert f": {verdict}\n" in shown.stdout


def test_what_of_an_objective_a_stream_is_not_held_to_is_told(folder: Path) -> None:
    half = replace(chain().objective, others=(QuantileLimit(0.5, 1_000_000),))
    for objective in (half, replace(chain().objective, per_ns=10**9)):
        replace(chain(), objective=objective).save("plan.json")
        shown = CliRunner().invoke(app, ["replay", "plan.json", "--trace", "trace.csv", "--stream"])
        assert f"note: of {objective.text} only the first limit is judged, over all queries" in shown.stdout
