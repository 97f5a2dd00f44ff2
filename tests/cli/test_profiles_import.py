"""``mipplan profiles import`` and ``prices``: what they print, write and refuse, and that a plan can follow."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner, Result

from benchmarks.compare import shared_data
from mipplan.cli.app import app
from mipplan.profiles import Profiles
from mipplan.reporting.exchange import ImportReport, PricesReport

FILES = Path(__file__).resolve().parents[1] / "importers" / "files"
LIST = "instance,region,on_demand_usd_per_hour\ng4dn.xlarge,us-east-1,0.526\ng4dn.xlarge,eu-west-1,0.587\n"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.csv").write_text(LIST, encoding="utf-8")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["profiles", *map(str, arguments)])


def perf(*arguments: str) -> Result:
    return run(
        "import", FILES / "perf_analyzer.csv", "--model", "net", "--hardware", "t4", "--out", "p", *arguments
    )


def test_from_measurements_and_prices_to_a_plan() -> None:
    for batch, latency in ((1, 4.0), (8, 12.0)):
        text = (FILES / "trtexec.log").read_text(encoding="utf-8").replace("4x3x640", f"{batch}x3x640")
        Path(f"b{batch}.log").write_text(
            text.replace("mean = 10.0312", f"mean = {latency}"), encoding="utf-8"
        )
    taken = run("import", "b1.log", "b8.log", "--model", "net", "--hardware", "t4", "--out", "p")
    assert (taken.exit_code, "2 rows added" in taken.stdout) == (0, True), taken.output
    priced = run(
        *("prices", "list.csv", "--region", "us-east-1", "--hardware", "t4=g4dn.xlarge"),
        *("--out", "p/hardware.yaml"),
    )
    assert (priced.exit_code, "1 added" in priced.stdout) == (0, True), priced.output
    Path("one.yaml").write_text("name: one\nslo: 200ms\nstages:\n  s: {model: net}\n", encoding="utf-8")
    Path("trace.csv").write_text("arrival_s\n0\n0.1\n0.15\n0.5\n", encoding="utf-8")
    planned = CliRunner().invoke(app, ["plan", "one.yaml", "--profiles", "p", "--trace", "trace.csv"])
    assert planned.exit_code == 0, planned.output
    assert "0.526" in planned.stdout


def test_the_document_of_an_import() -> None:
    done = perf("--json")
    document = json.loads(done.stdout)
    jsonschema.validate(document, ImportReport.model_json_schema())
    report = ImportReport.model_validate(document)
    assert (report.command, report.added, report.written) == ("profiles import", 1, ["p/models/net.csv"])
    assert [(row.batch, row.latency_ms, row.statistic) for row in report.rows] == [(1, 12.006, "mean")]
    assert len(report.refused) == 3
    assert len(report.files[0].sha256) == 64


def test_the_document_of_prices() -> None:
    done = run("prices", "list.csv", "--region", "eu-west-1", "--out", "new/hardware.yaml", "--json")
    document = json.loads(done.stdout)
    jsonschema.validate(document, PricesReport.model_json_schema())
    report = PricesReport.model_validate(document)
    assert (report.added, report.written) == (["g4dn.xlarge"], ["new/hardware.yaml"])
    assert report.hardware["g4dn.xlarge"].usd_per_hour == 0.587


def test_a_reason_is_told_once_for_all_it_leaves_out() -> None:
    rows = "m,t4,1,2.5\n" + "".join(f"m,t4,{batch},\n" for batch in range(2, 42))
    Path("t.csv").write_text("model,hardware,batch,latency_avg_ms\n" + rows, encoding="utf-8")
    done = run("import", "t.csv", "--out", "p")
    assert done.stdout.count("left out") == 1
    assert "t.csv:3 and 39 more: has no latency_avg_ms" in " ".join(done.stdout.split())


def test_conflicts_exit_with_2_and_replace_takes_them() -> None:
    assert perf().exit_code == 0
    path = Path("p/models/net.csv")
    path.write_text(path.read_text(encoding="utf-8").replace("12.006", "13"), encoding="utf-8")
    done = perf()
    assert (done.exit_code, "--replace takes this one" in done.output) == (2, True)
    assert (perf("--replace").exit_code, "12.006" in path.read_text(encoding="utf-8")) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["import", "nowhere.csv", "--out", "p"], "nowhere.csv: there is no such file"),
        (["import", "list.csv", "--out", "p", "--format", "csv"], "--format: there is no format 'csv'"),
        (["import", "list.csv", "--out", "p"], "list.csv: looks like none of perf_analyzer"),
        (["import", "list.csv", "--out", "p", "--batch", "0"], "--batch: expected a whole number from 1"),
        (["import", "list.csv", "--out", "p", "--where", "x"], "--where: expected COLUMN=VALUE, found 'x'"),
        (
            ["import", "list.csv", "--out", "p", "--model", "a=b", "--model", "a=c"],
            "--model: expected one NAME",
        ),
        (["import", "list.csv", "--out", "p", "--hardware", "a="], "--hardware: expected one NAME"),
        (["prices", "list.csv", "--out", "h.yaml"], "--region: list.csv has several regions"),
        (
            ["prices", "list.csv", "--out", "h.yaml", "--tier", "x"],
            "--tier: expected one of on-demand, spot, reserved",
        ),
        (["prices", "list.csv", "--out", "h.yaml", "--hardware", "t4"], "--hardware: expected NAME=INSTANCE"),
        (
            ["prices", "list.csv", "--out", "h.yaml", "--hardware", "t4=a/0"],
            "--hardware: expected NAME=INSTANCE/PARTS",
        ),
        (["prices", "list.csv", "--region", "us-east-1", "--out", "."], "is a folder"),
    ],
)
def test_faults_exit_with_2_and_write_nothing(arguments: list[str], told: str) -> None:
    before = sorted(Path().rglob("*"))
    done = run(*arguments)
    assert done.exit_code == 2
    assert told in done.output
    assert sorted(Path().rglob("*")) == before


def test_faults_of_all_files_come_at_once() -> None:
    done = run("import", "list.csv", "nowhere.csv", "--out", "p")
    assert "the input has 2 faults" in done.output


def test_faults_of_all_pairs_come_at_once() -> None:
    """Of three only the first was told."""
    pairs = ("b=p4/0", "b=p4", "c=p4/x", "e", "d=p4/8")
    flags = [text for pair in pairs for text in ("--hardware", pair)]
    done = run("prices", "list.csv", "--out", "h.yaml", *flags, "--where", "x", "--where", "y")
    assert done.exit_code == 2
    assert "the input has 6 faults" in done.output
    for said in ("found 'p4/0'", "b is given twice", "found 'p4/x'", "found 'e'", "found 'x'", "found 'y'"):
        assert said in done.output


def test_flags_of_the_group_belong_behind_its_commands() -> None:
    assert run("--check", "import", "list.csv", "--out", "p").exit_code == 2
    assert "99 tables" in run("--check").output


@pytest.mark.shared_data
@pytest.mark.skipif(not shared_data.is_present(), reason="the public data sets are not beside the checkout")
def test_public_tables_and_price_lists_are_read() -> None:
    folder = shared_data.FOLDER
    timm = ("--where", "hardware=rtx4090", "--where", "layout=nchw", "--where", "compile=eager")
    for name, options, rows in (
        ("timm_inference.csv.gz", (*timm, "--where", "torch=2.4.0"), 1_000),
        ("glet_profiles.csv", (), 180),
        ("mlperf_inference_v4_1.csv", ("--where", "submitter=NVIDIA"), 1),
    ):
        done = run("import", folder / "profiles" / name, *options, "--out", name, "--json")
        assert done.exit_code == 0, done.output
        assert len(json.loads(done.stdout)["rows"]) >= rows
    done = run(
        *("prices", folder / "prices" / "aws_on_demand.csv.gz", "--region", "us-east-1"),
        *("--hardware", "rtx2080ti=g4dn.xlarge", "--hardware", "rtx3080=g5.xlarge"),
        *("--out", "glet_profiles.csv/hardware.yaml"),
    )
    assert done.exit_code == 0, done.output
    assert len(Profiles.read("glet_profiles.csv").tables) == 18
