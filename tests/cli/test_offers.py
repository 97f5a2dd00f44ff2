"""The commands that offer plans of a pipeline: their settings, what they refuse, documents, exit codes."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner, Result

import mipplan as mp
from mipplan import ipa
from mipplan.cli.app import app
from mipplan.cli.inputs import share_of
from mipplan.reporting.answers import offers
from mipplan.variants import Asker

VIDEO = ("video", "--trace", "steady", "--to", "2s")
#: Flags, and the settings that they stand for.
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("--dispatch paced --headroom 1.5", {"dispatch": "paced", "headroom": 1.5}),
    (
        "--discipline fifo --runs 0.9:1:settled --margin 600ms",
        {"discipline": "fifo", "runs": mp.RunClass(0.9, 1.0), "margin_s": 0.6},
    ),
    (
        "--guarantee envelope --envelope 40:150 --formulation paths --solver highs",
        {
            "guarantee": "envelope",
            "envelope": mp.ArrivalCurve(((40.0, 150.0),)),
            "formulation": "paths",
            "solver": "highs",
        },
    ),
    ("--per 1s --share 0.9 --quantile 0.9", {"per_s": 1.0, "share": 0.9, "quantile": 0.9}),
    ("--stagger 5ms", {}),
    ("--window 20ms", {}),
]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_percentages_are_the_decimals_that_they_stand_for() -> None:
    """In floating point 0.7 / 100 is less than 0.007, and what costs just that more would be left out."""
    assert [share_of("--within", f"{tenths / 10}%") for tenths in range(1, 1000)] == [
        float(f"{tenths}e-3") for tenths in range(1, 1000)
    ]
    with pytest.raises(mp.InputError, match="expected a share such as 10%"):
        share_of("--within", "inf%")


def asked() -> tuple[mp.Pipeline, mp.Profiles, mp.Trace]:
    return mp.Pipeline.read("video"), mp.Profiles.default(), mp.Trace.read("steady", end_s=2.0)


@pytest.mark.parametrize(("flags", "settings"), SETTINGS, ids=[flags for flags, _ in SETTINGS])
def test_settings_of_plans_reach_the_library(flags: str, settings: dict[str, Any]) -> None:
    pipeline, profiles, trace = asked()
    if "--stagger" in flags:
        pipeline = pipeline.staggered(0.005)
    if "--window" in flags:
        pipeline = pipeline.collecting(0.02)
    found = mp.menu(pipeline, profiles, trace, by="variants", within=0.5, **settings)
    plain = mp.menu(*asked(), by="variants", within=0.5)
    done = run("menu", *VIDEO, "--by", "variants", "--within", "50%", *flags.split(), "--json")
    assert done.exit_code == 0, done.output
    offered = json.loads(done.stdout)["plans"]
    first = found.plans[0]
    manner = f"(guarantee {first.guarantee}, {first.dispatch} dispatch, {first.discipline.replace('_', ' ')})"
    assert json.loads(done.stdout)["objective"] == f"{first.objective.text} {manner}"
    certified = [(plan.usd_per_hour, plan.certificate_s) for plan in found.plans]
    assert [(plan["usd_per_hour"], plan["certificate_s"]) for plan in offered] == certified
    assert certified != [(plan.usd_per_hour, plan.certificate_s) for plan in plain.plans]


def test_fronts_and_weights_take_them_too() -> None:
    front = mp.pareto(*asked(), dispatch="paced")
    done = run("pareto", *VIDEO, "--dispatch", "paced", "--json")
    assert [one["usd_per_hour"] for one in json.loads(done.stdout)["plans"]] == [c for c, _ in front.points]
    done = run("weigh", *VIDEO, "--alpha", "20", "--dispatch", "paced", "--json")
    best = mp.weigh(*asked(), weights=ipa.Weights(accuracy=20.0), dispatch="paced")
    document = json.loads(done.stdout)
    assert (document["value"], document["plan"]["dispatch"]) == (best.value, "paced")


def test_what_is_proven_of_a_value_is_not_mixed_with_what_is_of_costs() -> None:
    """A plan of the greatest value was called feasible, with a gap: that is to the cheapest of all plans."""
    text = run("weigh", *VIDEO, "--alpha", "20").stdout
    assert "proven the greatest" in text
    assert re.search(r"^status +of the greatest value, proven  \(auto\)$", text, re.MULTILINE)
    assert re.search(r"^lower bound +[\d.]+ \$/h  \(of plans of any value\)$", text, re.MULTILINE)
    assert "of the greatest weighted value, which is proven; not of the least cost" in text
    assert not any(word in text for word in ("feasible", "gap ", "that was found"))
    cheapest = run("weigh", *VIDEO, "--alpha", "0").stdout
    assert "(proven cheapest)" in cheapest


@pytest.mark.parametrize("command", ["pareto", "menu", "weigh"])
@pytest.mark.parametrize(
    ("flag", "value", "why"),
    [
        ("--guarantee", "replay", "not by replay"),
        ("--guarantee", "reliable", "not by reliable"),
        ("--dispatch", "timed", "not under timed dispatch"),
    ],
)
def test_what_is_found_by_replays_is_refused_at_once(command: str, flag: str, value: str, why: str) -> None:
    done = run(command, *VIDEO, flag, value)
    assert done.exit_code == 2
    lines = done.stderr.splitlines()
    assert lines[0] == "mipplan: the input has 1 fault:"
    assert lines[1].startswith(
        f"  {flag}: plans are compared by classic certificates, or those of fifo queues"
    )
    assert why in lines[1]


def test_a_latency_column_that_is_not_there_is_told() -> None:
    done = run("weigh", *VIDEO, "--latency", "p99")
    assert done.exit_code == 2
    assert "latency: yolov5n has no column latency_p99_ms on any hardware" in done.stderr


def test_sharp_certificates_are_refused_before_any_search() -> None:
    for name in ("sharp", "auto"):
        with pytest.raises(mp.InputError, match="certificate: plans are compared by classic certificates"):
            mp.pareto(*asked(), certificate=name, time_limit_s=1e-9)


def test_weights_are_followed_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    weights = ipa.Weights(20.0, 0.5, 0.25)
    best = mp.weigh(*asked(), weights=weights)
    given = ("weigh", *VIDEO, "--alpha", "20", "--beta", "0.5", "--delta", "0.25", "-o", "plan.json")
    done = run(*given, "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    jsonschema.validate(document, offers.WeighReport.model_json_schema())
    assert (document["alpha"], document["beta"], document["delta"]) == (20.0, 0.5, 0.25)
    assert document["value"] == document["bound"] == best.value
    assert document["optimal"]
    assert document["plan"]["plan_file"] == "plan.json"
    assert document["plan"]["replay"] is not None
    assert mp.Plan.load("plan.json").choices == best.plan.choices
    assert run("verify", "plan.json", *VIDEO[1:]).exit_code == 0
    shown = run(*given).stdout
    assert (
        f"value {best.value:.6g} = α·accuracy − β·$/h − δ·batch sizes, with α = 20, β = 0.5, δ = 0.25"
        in shown
    )
    assert "proven the greatest" in shown


def test_exit_codes_of_weights() -> None:
    none = run("weigh", *VIDEO, "--slo", "1ms", "--json")
    assert none.exit_code == 1
    assert json.loads(none.stdout)["value"] is None
    assert json.loads(none.stdout)["plan"]["status"] == "infeasible"
    bad = run("weigh", *VIDEO, "--alpha", "-1", "--delta", "2e6")
    assert bad.exit_code == 2
    assert "--alpha: expected a number from 0 to 1,000,000, found -1.0" in bad.stderr
    assert "--delta: expected a number from 0 to 1,000,000, found 2000000.0" in bad.stderr
    assert run("weigh", *VIDEO, "--out", "nowhere/plan.json").exit_code == 2


def test_ctrl_c_between_two_searches_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Asker, "at_least", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    done = run("weigh", *VIDEO, "--alpha", "20")
    assert (done.exit_code, done.stdout) == (130, "")


def test_weights_without_time_say_what_is_proven() -> None:
    hurried = run("weigh", *VIDEO, "--alpha", "20", "--time-limit", "1ms", "--json")
    document = json.loads(hurried.stdout)
    assert hurried.exit_code == (0 if document["plan"]["choices"] else 3)
    assert not document["optimal"]
    if document["value"] is not None:
        assert document["bound"] > document["value"]


def test_carbon_has_a_price(tmp_path: Path) -> None:
    priced = ("--gco2-per-kwh", "400", "--usd-per-tonne", "100")
    file = tmp_path / "plan.json"
    done = run("plan", *VIDEO, *priced, "--no-costs", "--out", str(file), "--json")
    assert done.exit_code == 0, done.output
    energy = mp.Plan.load(file).energy
    assert energy == mp.EnergyTerms(gco2_per_kwh=400.0, usd_per_tonne=100.0)
    assert json.loads(done.stdout)["energy"]["electricity_usd_per_hour"] > 0
    cheapest = json.loads(run("menu", *VIDEO, *priced, "--most", "1", "--json").stdout)["plans"][0]
    assert cheapest["usd_per_hour"] == json.loads(done.stdout)["usd_per_hour"]
    assert cheapest["power_w"] > 0
    # What is paid in a replay says what it is of.
    rows = run("replay", str(file), "--trace", "steady", "--to", "2s").stdout
    assert re.search(r"\$/h with electricity at its most; rent [0-9.]+ \$", rows)
    assert (
        json.loads(run("replay", str(file), "--trace", "steady", "--to", "2s", "--json").stdout)["replay"][
            "usd"
        ]
        > 0
    )


@pytest.mark.parametrize("command", ["plan", "pareto", "menu", "weigh"])
def test_a_price_of_carbon_needs_to_know_how_much_there_is(command: str) -> None:
    done = run(command, *VIDEO, "--usd-per-tonne", "100")
    assert done.exit_code == 2
    told = (
        "mipplan: the input has 1 fault:\n  --usd-per-tonne: needs --gco2-per-kwh: how much CO₂ a kWh makes\n"
    )
    assert done.stderr == told
    done = run(command, *VIDEO, "--usd-per-tonne", "-1", "--gco2-per-kwh", "400")
    assert "--usd-per-tonne: expected dollars of at least 0, found -1.0" in done.stderr


def test_names_in_brackets_are_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In tables for terminals words in brackets may be colours, and the end of one that never began is an error."""
    monkeypatch.chdir(tmp_path)
    Path("models").mkdir()
    Path("hardware.yaml").write_text('"gpu[/x]": {usd_per_hour: 1.0, source: us}\n')
    Path("models/net.csv").write_text(
        "model,hardware,batch,latency_ms,accuracy,source\nnet,gpu[/x],1,5,0.5,us\n"
    )
    Path("p.yaml").write_text('slo: 80ms\nstages:\n  "see[/a]": {variants: [net]}\n')
    Path("f.yaml").write_text("profiles: .\npipelines:\n  'p[red]': {pipeline: p.yaml, trace: steady}\n")
    for command in ("menu", "pareto"):
        shown = run(command, "p.yaml", "--profiles", ".", "--trace", "steady", "--to", "2s")
        assert shown.exit_code == 0
        assert re.search(r"certificate +see\[/a\]\n.* 1 × net on gpu\[/x\]\n", shown.output)
    fleet = run("fleet", "f.yaml")
    assert fleet.exit_code == 0
    assert re.search(r"^gpu\[/x\] +\d+ .*^p\[red\] .* \d+ gpu\[/x\]$", fleet.output, re.MULTILINE | re.DOTALL)


def test_a_front_without_plans_is_not_drawn(tmp_path: Path) -> None:
    picture = tmp_path / "front.png"
    asked = ["pareto", "video", "--trace", "bursty", "--to", "10s", "--slo", "1ms", "--plot", str(picture)]
    done = CliRunner().invoke(app, [*asked, "--json"])
    assert (done.exit_code, json.loads(done.stdout)["written"]) == (1, [])
    assert not picture.exists()
