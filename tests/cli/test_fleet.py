"""``mipplan fleet`` as a user runs it: tables, document, plan files, picture, what goes wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import jsonschema
import matplotlib.image
import pytest
from typer.testing import CliRunner, Result

import mipplan as mp
from mipplan.cli.app import app
from mipplan.fleet import read_fleet_file
from mipplan.reporting.documents import FleetReport

Run = Callable[..., Result]
SHIPPED = Path(__file__).parents[2] / "profiles"

FLEET = """\
name: production
limits: {t4: 2, v100: 2}
pipelines:
  cascade: {pipeline: cascade, trace: trace.csv, slo: 120ms, weight: 3}
  video:   {pipeline: my-video.yaml, trace: trace.csv, slo: 300ms}
  images:  {pipeline: image-processing, trace: trace.csv, scale: 0.5}
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    trace = mp.Trace.gamma(rate_rps=60, cv=2.0, duration_s=15, seed=3)
    rows = "\n".join(f"{time / 1e9:.9f}" for time in trace.arrival_ns)
    (tmp_path / "trace.csv").write_text(f"arrival_s\n{rows}\n")
    (tmp_path / "my-video.yaml").write_text(
        (SHIPPED / "pipelines" / "video-monitoring.yaml").read_text(encoding="utf-8")
    )
    (tmp_path / "fleet.yaml").write_text(FLEET)
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str, file: str = "fleet.yaml") -> Result:
        return CliRunner().invoke(app, ["fleet", file, *arguments])

    return invoke


def planned(limits: dict[str, int] | None = None) -> mp.FleetPlan:
    """What the library finds."""
    file = read_fleet_file("fleet.yaml", find=found)
    return mp.plan_fleet(file.pipelines, file.profiles, limits=limits or file.limits)


def found(kind: str, name: str, folder: Path) -> str:
    return str(folder / name) if "." in name else str(SHIPPED / kind / f"{name}.yaml")


def test_tables_say_who_uses_what(run: Run) -> None:
    result = run()
    truth = planned()
    assert result.exit_code == 0, result.output
    assert f"cost         {truth.usd_per_hour:,.4f} $/h" in result.stdout
    assert "(proven cheapest)" in result.stdout
    assert re.search(r"^t4 +2 +2 ", result.stdout, re.MULTILINE)
    for name, plan in truth.plans.items():
        assert re.search(rf"^{name} +{plan.usd_per_hour:.4f} ", result.stdout, re.MULTILINE)
    saves = truth.devices["t4"].one_more_microusd_per_hour
    assert f"{saves / 1e6:.4f} $/h" in result.stdout
    assert "round 1: bound" in result.stderr
    assert "in-sample" in result.stdout


def test_document_plans_and_picture(run: Run, tmp_path: Path) -> None:
    result = run("--json", "--out", "plans", "--plot", "fleet.png", "--report", "fleet.html", "--jobs", "1")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    jsonschema.validate(document, FleetReport.model_json_schema())
    truth = planned()
    assert document["usd_per_hour"] == truth.usd_per_hour
    assert document["status"] == "optimal"
    assert list(document["pipelines"]) == ["cascade", "video", "images"]
    assert document["devices"]["t4"]["limit"] == 2
    assert document["admission"] is document["relaxation"] is None
    for name in truth.plans:
        assert mp.Plan.load(tmp_path / "plans" / f"{name}.json").choices == dict(truth.plans[name].choices)
    assert "mipplan" not in document["written"][0]
    height, width, _ = matplotlib.image.imread(tmp_path / "fleet.png").shape
    assert width > height > 200
    assert document["written"][1:] == ["fleet.png", "fleet.html"]
    page = (tmp_path / "fleet.html").read_text()
    assert f"{truth.usd_per_hour:,.2f} $/h" in page
    assert f"<h1>Fleet {document['name']}</h1>" in page


def test_where_not_all_fit_it_says_whom_to_admit(run: Run, tmp_path: Path) -> None:
    flags = [f"--limit={name}={count}" for name, count in _SCARCE.items()]
    result = run(*flags, "--plot", "some.png")
    assert result.exit_code == 1, result.output
    assert "no set of certified plans for all 3 pipelines fits" in result.stdout
    assert "admit weight" in result.stdout
    assert "without" in result.stdout
    assert (tmp_path / "some.png").is_file()
    document = json.loads(run(*flags, "--json").stdout)
    jsonschema.validate(document, FleetReport.model_json_schema())
    assert document["usd_per_hour"] is None
    assert document["admission"]["weight"] == document["admission"]["weight_bound"]
    kept = document["admission"]["fleet"]["pipelines"]
    assert sorted([*kept, *document["admission"]["left_out"]]) == ["cascade", "images", "video"]


def test_a_fleet_that_nothing_can_keep_is_drawn_without_a_warning(run: Run, tmp_path: Path) -> None:
    """Nothing has a label: what Matplotlib thinks of such a legend stood on stderr."""
    (tmp_path / "tight.yaml").write_text("pipelines:\n  a: {pipeline: cascade, trace: trace.csv, slo: 1ms}\n")
    assert run("--plot", "none.png", file="tight.yaml").exit_code == 1
    assert (tmp_path / "none.png").is_file()


_SCARCE = {"t4": 3, "v100": 1, "v100_32gb": 0, "a100": 0, "a100_80gb": 1}


def test_a_checkpoint_is_kept_and_gone_on_from(run: Run, tmp_path: Path) -> None:
    first = run("--checkpoint", "state.json")
    assert (tmp_path / "state.json").is_file()
    again = run("--checkpoint", "state.json")
    assert "going on from round" in again.stderr
    costs = [re.search(r"^cost .*$", result.stdout, re.MULTILINE) for result in (first, again)]
    assert costs[0] is not None
    assert costs[1] is not None
    assert costs[0][0] == costs[1][0]


def test_every_fault_of_the_file_is_named_with_its_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(
        "limit: {t4: 3}\nlimits: {t4: many}\nbudget: -1\npipelines:\n  a/b: {pipeline: x, trace: y}\n"
        "  b: {pipelin: cascade, trace: steady, slo: 5, weight: 0}\n"
    )
    result = run(
        "--limit",
        "t4:3",
        "--plot",
        "fleet.txt",
        "--report",
        "a.txt",
        "--out",
        "trace.csv",
        "--jobs",
        "0",
        file="bad.yaml",
    )
    assert result.exit_code == 2
    for said in (
        "bad.yaml:1: limit: unknown key; did you mean 'limits'?",
        "bad.yaml:2: limits.t4: expected a whole number of devices",
        "bad.yaml:3: budget: expected a number > 0",
        "bad.yaml:5: pipelines.a/b: the name may hold no slash",
        "bad.yaml:6: pipelines.b.pipelin: unknown key; did you mean 'pipeline'?",
        "bad.yaml:6: pipelines.b.slo: 5 has no unit",
        "bad.yaml:6: pipelines.b.weight: expected a number > 0",
        "--limit: expected HARDWARE=NUMBER",
        "--report a.txt: expected a name that ends in .html or .htm",
        "--plot fleet.txt: expected a name that ends in",
        "--out trace.csv: is a file",
        "--jobs: expected workers, at most 10,000, or -1 for one per core, found 0",
    ):
        assert said in result.stderr, said
    result = run("--limit", "t4=1", "--limit", "t4=2", "--limit", "cpu=x", "--out", "trace.csv/plans")
    assert result.exit_code == 2
    assert "--limit: t4 is given twice" in result.stderr
    assert "--limit: expected HARDWARE=NUMBER such as t4=40, found 'cpu=x'" in result.stderr
    assert "--out trace.csv/plans: " in result.stderr
    assert "is no folder to make it in" in result.stderr


def test_every_fault_of_what_the_file_names_is_told_with_where_it_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(
        "limits: {t5: 3}\npipelines:\n  a: {pipeline: nope, trace: burst}\n"
        "  b: {pipeline: cascade, trace: x.csv}\n  c: {pipeline: cascade, trace: x.csv}\n"
        "  d: {pipeline: cascade, trace: trace.csv, scale: 1.0e-9}\n"
    )
    result = run(file="bad.yaml")
    assert result.exit_code == 2
    assert "more than ten years (named in bad.yaml:6: pipelines.d.scale)" in " ".join(result.stderr.split())
    assert "nope: is neither a file nor one of the shipped pipelines" in result.stderr
    assert "did you mean 'bursty'? (named in bad.yaml:3: pipelines.a.trace)" in result.stderr
    assert result.stderr.count("x.csv: there is no such file") == 2
    (tmp_path / "bad.yaml").write_text(
        "limits: {t5: 3}\npipelines:\n  b: {pipeline: cascade, trace: bursty}\n"
    )
    result = run("--gap", "2", "--method", "x", file="bad.yaml")
    assert result.exit_code == 2
    for said in (
        "bad.yaml:1: limits.t5: the profiles have no hardware",
        "--gap: expected",
        "--method: expected one of",
    ):
        assert said in result.stderr
    result = run("--limit", "t5=3")
    assert "--limit t5: the profiles have no hardware 't5'" in result.stderr
    flags = ("--gap", "2", "--method", "joint", "--checkpoint", "state.json", "--budget", "0")
    result = run(*flags, file="none.yaml")
    assert "the input has 4 faults" in result.stderr
    for said in (
        "none.yaml: there is no such file",
        "--gap: expected a share",
        "--budget: expected dollars above 0",
        '--checkpoint: goes with method="columns" only',
    ):
        assert said in result.stderr


def test_a_law_that_fleets_have_not_is_told_with_other_mistakes(run: Run) -> None:
    done = run("--dispatch", "lazy", "--budget", "-1")
    assert done.exit_code == 2
    for said in ("2 faults", "--budget", "--dispatch: expected one of"):
        assert said in done.stderr
    assert "eager, paced or timed" in " ".join(
        CliRunner().invoke(app, ["fleet", "--help"]).stdout.replace("│", "").split()
    )


def test_the_law_asked_for_stands_for_those_of_the_pipelines(run: Run) -> None:
    text = (SHIPPED / "pipelines" / "cascade.yaml").read_text(encoding="utf-8")
    Path("timed.yaml").write_text(text + "dispatch: timed\n")
    Path("one.yaml").write_text("pipelines:\n  only: {pipeline: timed.yaml, trace: trace.csv}\n")
    laws = []
    for asked in ((), ("--dispatch", "paced")):
        assert run(*asked, "--out", "plans", file="one.yaml").exit_code == 0
        laws.append(mp.Plan.load("plans/only.json").dispatch)
    assert laws == ["timed", "paced"]
    refused = run("--method", "joint", file="one.yaml")
    assert refused.exit_code == 2
    assert "certified by replays: columns can do it" in refused.stderr


def test_numbers_of_thousands_of_digits_are_told(run: Run) -> None:
    """Python refuses to make numbers of them."""
    refused = run("--limit", f"t4={'9' * 5000}")
    assert refused.exit_code == 2
    assert "--limit: expected HARDWARE=NUMBER such as t4=40, found 't4=999" in refused.stderr
    given = ["profiles", "prices", "list.csv", "--out", "h.yaml", "--hardware", f"t4=g4dn/{'9' * 5000}"]
    refused = CliRunner().invoke(app, given)
    assert refused.exit_code == 2
    assert "--hardware: expected NAME=INSTANCE/PARTS such as" in refused.stderr
