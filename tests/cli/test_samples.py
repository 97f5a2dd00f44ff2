"""What commands say about the samples they are given, and ``--spread`` wherever a trace is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import mipplan as mp
from mipplan.cli.app import app
from planning_instances import hand_made

Run = Callable[..., Result]
#: Every command that reads a trace, and where its document has what is to be known.
COMMANDS = {
    "plan": ("plan small.yaml --profiles profiles --no-costs --slo 5s", "remarks"),
    "verify": ("verify plan.json", "remarks"),
    "compare": ("compare small.yaml --profiles profiles --slo 5s --planners half_slo,coarse_mean", "notes"),
    "tune": ("tune plan.json --policy static --split 0.5", "notes"),
    "fragility": ("fragility plan.json", "notes"),
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command on a log in whole seconds, a hundred queries in each."""
    instance = hand_made(slo_s=5.0)
    stamps = np.repeat(np.arange(40), 100)
    (tmp_path / "log.csv").write_text("arrival_s\n" + "\n".join(map(str, stamps)) + "\n")
    choices = dict.fromkeys(instance.pipeline.stages, ("t4", 4, 2))
    mp.Plan.from_choices(instance.pipeline, instance.profiles, choices).save(tmp_path / "plan.json")
    (tmp_path / "small.yaml").write_text(json.dumps(instance.pipeline.to_document()))
    models = tmp_path / "profiles" / "models"
    models.mkdir(parents=True)
    hardware = {
        name: {"usd_per_hour": each.usd_per_hour, "source": "made up"}
        for name, each in instance.profiles.hardware.items()
    }
    (tmp_path / "profiles" / "hardware.yaml").write_text(json.dumps(hardware))
    for model in instance.profiles.models:
        rows = [
            f"{model},{table.hardware},{size},{latency},made up"
            for table in instance.profiles.tables.values()
            if table.model == model
            for size, latency in zip(table.batch, table.latency_ms, strict=True)
        ]
        (models / f"{model}.csv").write_text(
            "\n".join(["model,hardware,batch,latency_ms,source", *rows]) + "\n"
        )
    monkeypatch.chdir(tmp_path)
    return lambda line, *more: CliRunner().invoke(app, [*line.split(), "--trace", "log.csv", *more])


def document(done: Result) -> dict[str, Any]:
    assert done.exit_code in (0, 1), done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_coarse_stamps_are_told_until_they_are_spread(run: Run, command: str) -> None:
    line, field = COMMANDS[command]
    told = document(run(line, "--json"))[field]
    assert [note for note in told if note.startswith("time stamps are whole multiples of 1 s")]
    assert "time stamps are whole multiples of 1 s" in run(line).stdout
    spread = document(run(line, "--json", "--spread", "uniform", "--seed", "3"))
    assert not [note for note in spread[field] if note.startswith("time stamps")]
    trace = spread["planned_on" if command == "compare" else "trace"]
    assert "spread uniformly over steps of 1 s, seed 3" in trace["note"]


@pytest.mark.parametrize(
    "line",
    [
        "explain plan.json",
        "whatif plan.json --set price.t4=-10%",
        "frontier plan.json --over price:t4 --start 0.5 --end 0.6",
        "sensitivity plan.json",
        "refine small.yaml --profiles profiles --slo 5s",
    ],
)
def test_what_is_asked_is_asked_of_the_traffic_that_was_planned_for(run: Run, line: str) -> None:
    done = document(run(line, "--json", "--spread", "uniform"))
    assert done["trace"]["sha256"] == mp.Trace.read("log.csv").spread(seed=0).sha256


def test_whatif_tells_people_what_is_doubtful_about_the_sample(run: Run) -> None:
    line = "whatif plan.json --set price.t4=-10%"
    assert "note: time stamps are whole multiples of 1 s" in run(line).stdout
    assert "time stamps" not in run(line, "--spread", "uniform").stdout


def test_replay_spreads_as_the_library_does(run: Run) -> None:
    done = document(run("replay plan.json", "--json", "--spread", "uniform", "--seed", "5"))
    assert done["trace"]["sha256"] == mp.Trace.read("log.csv").spread(seed=5).sha256


def test_other_spreads_are_refused_and_those_that_do_not_go(run: Run) -> None:
    done = run("replay plan.json", "--spread", "even")
    assert done.exit_code == 2
    assert "--spread: expected uniform, found 'even'" in done.stderr
    done = run("verify plan.json", "--spread", "uniform", "--expand", "poisson")
    assert "--spread: does not go with --expand" in done.stderr
    done = run("replay plan.json", "--stream", "--spread", "uniform")
    assert "--spread: does not go with --stream" in done.stderr


@pytest.mark.usefixtures("run")
def test_counts_and_arrivals_are_read_in_one_call(tmp_path: Path) -> None:
    """Counts need --expand and arrivals refuse it: beside each other only the counts are expanded."""
    (tmp_path / "counts.csv").write_text("t_s,requests_per_s\n0,90\n10,90\n20,90\n")
    arrivals = "\n".join(
        f"{at / 1e9:.9f}" for at in mp.Trace.poisson(rate_rps=90, duration_s=30, seed=1).arrival_ns
    )
    (tmp_path / "arrivals.csv").write_text(f"arrival_s\n{arrivals}\n")

    def invoked(line: str) -> Result:
        return CliRunner().invoke(app, line.split())

    plan = "plan small.yaml --profiles profiles --no-costs --no-replay --slo 5s --json"
    tune = "tune plan.json --policy static --json"
    for command in (
        f"{plan} --trace counts.csv --trace arrivals.csv --expand poisson",
        f"{plan} --trace arrivals.csv --trace counts.csv --expand poisson",
        f"{tune} --trace counts.csv --sample arrivals.csv --expand poisson",
        f"{tune} --trace arrivals.csv --sample counts.csv --expand poisson",
    ):
        assert invoked(command).exit_code == 0, command
    refused = invoked(f"{plan} --trace arrivals.csv --trace arrivals.csv --expand poisson")
    assert "leave out --expand" in refused.stderr
    for command in (
        f"{plan} --trace counts.csv --trace arrivals.csv",
        f"{tune} --trace counts.csv --sample arrivals.csv",
    ):
        refused = invoked(command)
        assert refused.exit_code == 2
        assert "counts.csv: requests_per_s: holds counts per interval" in refused.stderr
    missing = invoked(f"{plan} --trace nowhere.csv --trace arrivals.csv --expand poisson")
    assert missing.stderr.count("nowhere.csv: there is no such file") == 1
    assert "leave out" not in missing.stderr
