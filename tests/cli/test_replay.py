"""``mipplan replay`` as a user runs it: figures, intervals, windows, and the files it writes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import jsonschema
import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

import mipplan as mp
from mipplan.cli.app import app
from mipplan.core import telling
from mipplan.plots import draw_replay, write_figure
from mipplan.reporting import documents

Run = Callable[..., Result]
SLO_S = 0.05


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Replay a small plan in a folder that holds it, and a trace that it does not quite keep up with."""
    plan = mp.Plan.from_choices(
        mp.Pipeline.read(Path(__file__).parents[2] / "profiles" / "pipelines" / "image-processing.yaml"),
        mp.Profiles.default(),
        {"preprocess": ("cpu", 1, 3), "classify": ("v100", 4, 2)},
        slo_s=SLO_S,
    )
    plan.save(tmp_path / "plan.json")
    trace = mp.Trace.poisson(rate_rps=150, duration_s=60, seed=1)
    rows = "\n".join(f"{time / 1e9:.9f}" for time in trace.arrival_ns)
    (tmp_path / "trace.csv").write_text(f"arrival_s\n{rows}\n")
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["replay", "plan.json", "--trace", "trace.csv", *arguments])

    return invoke


def replayed() -> mp.ReplayResult:
    return mp.replay(mp.Plan.load("plan.json"), mp.Trace.read("trace.csv"))


def test_figures_come_with_intervals_and_the_objective_with_a_verdict(run: Run) -> None:
    done = run()
    assert done.exit_code == 0, done.output
    result = replayed()
    verdict = "kept" if result.quantile(0.99) <= SLO_S else "missed"
    for said in (
        f"P99 ≤ 50 ms: {verdict}",
        f"{result.misses(SLO_S):,} of {result.queries:,} queries",
        "95% interval",
        " $/h; ",
        "per 1,000 queries",
        "max queue",
        "preprocess",
        "out of sample",
    ):
        assert said in done.stdout
    interval = result.statistics().quantiles[0][1].interval
    assert interval is not None
    assert f"{interval.low * 1e3:.4g} ms to {interval.high * 1e3:.4g} ms" in done.stdout


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99, 1.0])
def test_the_verdict_is_that_of_the_quantile(run: Run, quantile: float) -> None:
    result, plan = replayed(), mp.Plan.load("plan.json")
    observed_s = result.quantile(quantile)
    for slo_s, verdict in ((observed_s, "kept"), (observed_s - 1e-9, "missed")):
        mp.Plan.from_choices(plan.pipeline, plan.profiles, plan.choices, slo_s=slo_s, quantile=quantile).save(
            "plan.json"
        )
        assert f": {verdict}\n" in run().stdout


def test_inside_an_arrival_curve_the_verdict_is_that_of_every_query(run: Run) -> None:
    plan = mp.plan(
        mp.Pipeline.read("image-processing"),
        mp.Profiles.default(),
        mp.Trace.read("trace.csv"),
        slo_s=0.2,
        guarantee="envelope",
        envelope=mp.ArrivalCurve.token_bucket(4, 160),
    )
    plan.save("plan.json")
    slowest_ns = int(replayed().latency_ns.max())  # of a trace that leaves the curve
    for slo_ns, kept in ((slowest_ns, True), (slowest_ns - 1, False)):
        plan.with_slo(slo_ns).save("plan.json")
        document = json.loads(run("--json").stdout)
        assert document["objective"].startswith("every query ≤ ")
        assert (document["quantile"], document["kept"]) == (1.0, kept)


def test_the_document_holds_what_the_table_shows(run: Run) -> None:
    done = run("--windows", "20s", "--json")
    document = json.loads(done.stdout)
    jsonschema.validate(document, documents.ReplayCommandReport.model_json_schema())
    assert document["replay"] == replayed().summary(SLO_S)
    assert document["window_s"] == 20
    assert [window["start_s"] for window in document["windows"]] == [0, 20, 40]
    assert sum(window["queries"] for window in document["windows"]) == document["trace"]["queries"]
    table = run("--windows", "20s").stdout
    for window in document["windows"]:
        assert f"{window['queries']:,}" in table
        assert f"{window['p99_s'] * 1e3:.4g} ms" in table


def test_a_serving_systems_law_is_named_with_what_it_turned_away(run: Run) -> None:
    done = run("--system", "mosec:waiting=2", "--out", "out.json", "--latencies", "kept.csv")
    assert done.exit_code == 0, done.output
    told = " ".join(done.stdout.split())
    assert "replay only: not certified for servers that make batches so" in told
    assert "mosec (one queue, collects for 1.7 ms from its first tokens on, at most 2 waiting)" in told
    document = json.loads(Path("out.json").read_text())["replay"]
    lost = document["rejected"]
    assert lost > 10
    assert f", {lost:,} turned away" in told
    assert document["misses"] >= lost
    assert set(document["systems"]) == {"preprocess", "classify"}
    assert not document["certificate_applies"]
    jsonschema.validate(document, documents.ReplayReport.model_json_schema())
    assert len(pd.read_csv("kept.csv")) == document["queries"] - lost


def test_a_system_that_there_is_not_and_one_for_a_stream_are_refused(run: Run) -> None:
    done = run("--system", "rey")
    assert done.exit_code == 2
    assert "--system: there is no system 'rey'; did you mean 'ray'?" in " ".join(done.stderr.split())
    done = run("--system", "ray", "--stream")
    assert done.exit_code == 2
    assert "does not go with --stream: a serving system's law is replayed as a whole" in done.stderr


def test_windows_without_queries_are_null(run: Run) -> None:
    Path("trace.csv").write_text("arrival_s\n1\n1.5\n9\n")
    document = json.loads(run("--windows", "4s", "--json").stdout)
    assert [window["queries"] for window in document["windows"]] == [2, 0, 1]
    assert document["windows"][1]["p99_s"] is None
    assert run("--windows", "4s").exit_code == 0


def test_too_many_windows_to_read_are_cut_short(run: Run) -> None:
    done = run("--windows", "100ms")
    assert "100 windows more" in done.stdout
    assert len(json.loads(run("--windows", "100ms", "--json").stdout)["windows"]) == 600


def test_the_document_goes_to_a_file_too(run: Run) -> None:
    done = run("--json", "--out", "replay.json")
    assert Path("replay.json").read_text(encoding="utf-8") == done.stdout
    assert json.loads(done.stdout)["written"] == ["replay.json"]
    assert "written to replay.json" in run("--out", "replay.json").stdout


@pytest.mark.parametrize("name", ["latencies.csv", "latencies.parquet"])
def test_latencies_of_all_queries_are_a_file_and_a_trace(run: Run, name: str) -> None:
    assert run("--latencies", name).exit_code == 0
    result = replayed()
    table = pd.read_csv(name) if name.endswith("csv") else pd.read_parquet(name)
    assert table.columns.tolist() == ["arrival_s", "latency_s"]
    assert np.array_equal(np.rint(table["latency_s"].to_numpy() * 1e9), result.latency_ns)
    assert np.array_equal(mp.Trace.read(name).arrival_ns, result.ingress_ns)
    assert not list(Path().glob(".*part"))


def test_csv_holds_every_nanosecond_as_a_plain_decimal(run: Run) -> None:
    Path("trace.csv").write_text("arrival_s\n0\n0.000000007\n12.5\n")
    assert run("--latencies", "latencies.csv").exit_code == 0
    lines = Path("latencies.csv").read_text().splitlines()
    assert lines[0] == "arrival_s,latency_s"
    assert [line.split(",")[0] for line in lines[1:]] == ["0.000000000", "0.000000007", "12.500000000"]
    decimals = [f"{ns // 10**9}.{ns % 10**9:09}" for ns in replayed().latency_ns.tolist()]
    assert [line.split(",")[1] for line in lines[1:]] == decimals


@pytest.mark.parametrize(("name", "magic"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.pdf", b"%PDF")])
def test_a_picture_is_drawn(run: Run, name: str, magic: bytes) -> None:
    assert run("--plot", name, "--windows", "5s").exit_code == 0
    assert Path(name).read_bytes().startswith(magic)
    if name.endswith("png"):
        assert matplotlib.image.imread(name).std() > 0.05


def test_the_picture_shows_windows_traffic_objective_and_tail(run: Run) -> None:
    result = replayed()
    windows = result.windows(5.0)
    figure = draw_replay(result, SLO_S, 0.99, 5.0)
    over_time, traffic, distribution = figure.axes
    p99, p50 = (patch.get_data()[0] for patch in over_time.patches)
    assert np.array_equal(p99, windows.p99_s * 1e3)
    assert np.array_equal(p50, windows.p50_s * 1e3)
    assert np.array_equal(traffic.patches[0].get_data()[0], windows.queries / 5.0)
    assert [line.get_ydata()[0] for line in over_time.lines] == [50.0]
    curve = distribution.lines[0]
    latency_ms, share = np.asarray(curve.get_xdata()), np.asarray(curve.get_ydata())
    for place in (0, latency_ms.size // 2, -1):
        assert share[place] == pytest.approx(np.mean(result.latency_ns >= round(latency_ms[place] * 1e6)))


def test_times_are_dates_where_the_trace_has_dates(run: Run) -> None:
    dates = pd.to_datetime(mp.Trace.read("trace.csv").arrival_ns + 1_772_616_600 * 10**9).strftime(
        "%Y-%m-%dT%H:%M:%S.%fZ"
    )
    Path("trace.csv").write_text("\n".join(["timestamp", *dates]))
    done = run("--windows", "20s", "--plot", "over_time.svg")
    assert re.search(r"on 03-04 .*\n09:30:00 .*\n09:30:20 ", done.stdout), done.stdout
    assert "2026-Mar-04" in Path("over_time.svg").read_text()
    document = json.loads(run("--windows", "20s", "--json").stdout)
    assert document["trace"]["zero"].startswith("2026-03-04T09:30:00")
    queues = ["plot", "plan.json", "--trace", "trace.csv", "--of", "queues", "--out", "queues.svg"]
    assert CliRunner().invoke(app, queues).exit_code == 0
    assert "since the first query at 2026-03-04 09:30:00 UTC" in Path("queues.svg").read_text()


@pytest.mark.parametrize("arrivals", [[0, 0], [0, 1], [5, 5, 5, 10**12]])
def test_even_tiny_replays_can_be_drawn(run: Run, arrivals: list[int], tmp_path: Path) -> None:
    result = mp.replay(mp.Plan.load("plan.json"), mp.Trace.from_ns(arrivals))
    for quantile in (0.99, 1.0):
        write_figure(tmp_path / "a.png", draw_replay(result, SLO_S, quantile))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--windows", "60"), "write 60s"),
        (("--windows", "0s"), "positive"),
        (("--windows", "1ns"), "windows, more than"),
        (("--out", "nowhere/replay.json"), "nowhere"),
        (("--latencies", "latencies.txt"), ".csv or .parquet"),
        (("--latencies", "nowhere/latencies.csv"), "nowhere"),
        (("--plot", "a.gif"), ".png, .svg or .pdf"),
    ],
)
def test_first_mistakes_get_one_helpful_message(run: Run, arguments: tuple[str, str], said: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert arguments[0] in done.stderr
    assert done.stdout == ""


def test_all_mistakes_come_at_once_and_nothing_is_written(run: Run) -> None:
    done = run(
        "--windows",
        "5",
        "--plot",
        "a.gif",
        "--latencies",
        "l.txt",
        "--out",
        "ok.json",
        "--from",
        "1d",
        "--dispatch",
        "lazy",
    )
    assert done.exit_code == 2
    for said in (
        "--windows",
        "--plot",
        "--latencies",
        "--from",
        "--dispatch: expected eager, paced or timed",
    ):
        assert said in done.stderr
    assert not Path("ok.json").exists()


def test_passes_over_a_trace_say_how_many_stages_are_done() -> None:
    plan = mp.plan(
        mp.Pipeline.read("cascade"), mp.Profiles.default(), mp.Trace.read("steady").slice(0, 2), slo_s=0.2
    )
    trace, lines = mp.Trace.read("steady").slice(0, 2), list[str]()
    with telling(lines.append):
        mp.replay(plan, trace)
        mp.verify(plan, trace)
    mp.replay(plan, trace)
    assert lines[0] == f"replaying {len(trace):,} queries: 0% of the stages"
    assert lines[1:3] == [f"replaying {len(trace):,} queries: {part}% of the stages" for part in (33, 67)]
    assert lines[3] == "recomputing the certificate: 0% of the stages"


def test_files_to_write_are_told_flag_by_flag_and_once_each(run: Run) -> None:
    told = run("--out", "plan.json", "--latencies", "plan.json", "--plot", "x.txt").stderr
    where = [told.index(f"--{flag}: ") for flag in ("out plan.json", "latencies plan.json", "plot x.txt")]
    assert where == sorted(where)
    assert told.count("plan.json: ") == 2
    streamed = run("--stream", "--latencies", "x.txt").stderr
    assert "--latencies: does not go with --stream" in streamed
    assert "expected a name that ends" not in streamed
