"""mipplan.toml: what options are by default, in what order, and every fault of it at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner, Result

from mipplan.cli import config
from mipplan.cli.app import app

COMMAND = ("plan", "image-processing", "--no-replay", "--no-costs", "--json")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MIPPLAN_CONFIG", raising=False)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def document(*arguments: str) -> dict[str, Any]:
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_command_line_over_section_over_top_over_default(folder: Path) -> None:
    config = folder / "mipplan.toml"
    config.write_text('trace = "steady"\nto = "20s"\nslo = "900ms"\n')
    assert document(*COMMAND)["slo_s"] == 0.9
    config.write_text(config.read_text() + '\n[plan]\nslo = "800ms"\nheadroom = 1.5\n')
    found = document(*COMMAND)
    assert (found["slo_s"], found["headroom"], found["trace"]["name"]) == (0.8, 1.5, "steady")
    found = document(*COMMAND, "--slo", "700ms")
    assert (found["slo_s"], found["headroom"]) == (0.7, 1.5)


def test_another_file_by_flag_or_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a.toml").write_text('trace = "steady"\nto = "20s"\nslo = "600ms"\n')
    (folder / "b.toml").write_text('trace = "steady"\nto = "20s"\nslo = "500ms"\n')
    monkeypatch.setenv("MIPPLAN_CONFIG", "a.toml")
    assert document(*COMMAND)["slo_s"] == 0.6
    assert document("--config", "b.toml", *COMMAND)["slo_s"] == 0.5


def test_every_fault_is_told_at_once(folder: Path) -> None:
    (folder / "mipplan.toml").write_text('slow = "1s"\n[plam]\nx = 1\n[plan]\nheadrom = 2.0\n')
    done = run(*COMMAND, "--trace", "steady")
    assert done.exit_code == 2
    assert "the input has 3 faults" in done.stderr
    assert "mipplan.toml: slow: no command has such an option; did you mean 'slo'?" in done.stderr
    assert "mipplan.toml: plam: there is no such command; did you mean 'plan'?" in done.stderr
    assert (
        "mipplan.toml: plan.headrom: the command has no such option; did you mean 'headroom'?" in done.stderr
    )
    (folder / "mipplan.toml").write_text("slo = \n")
    assert "is not valid TOML" in run(*COMMAND).stderr
    assert run("--config", "none.toml", *COMMAND).exit_code == 2


@pytest.mark.parametrize("text", ["seed = " + "9" * 5_000, "limit = " + "[" * 100_000, "seed = "])
def test_what_no_parser_takes_is_no_valid_toml(folder: Path, text: str) -> None:
    """Numbers without end and lists in lists ended with a traceback."""
    (folder / "mipplan.toml").write_text(text)
    done = run(*COMMAND, "--trace", "steady")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "  mipplan.toml: is not valid TOML: " in done.stderr


def test_values_that_options_do_not_take_are_told_at_their_keys(folder: Path) -> None:
    """They were told as flags, which nobody had typed, and one by one; true was a seed of 1, and a list ignored."""
    (folder / "mipplan.toml").write_text(
        'headroom = "much"\nseeds = "few"\n[plan]\nseed = true\nreplay = "often"\nslo = ["1s", "2s"]\n'
        "trace = [{}]\n[[explain]]\n"
    )
    done = run(*COMMAND, "--trace", "steady")
    assert (done.exit_code, "the input has 7 faults" in done.stderr) == (2, True)
    for fault in (
        "mipplan.toml: explain: expected one section, [explain], found a list of 1",
        "mipplan.toml: plan.seed: expected a value, found true",
        "mipplan.toml: plan.replay: expected true or false, found 'often'",
        "mipplan.toml: plan.slo: expected one value, found 2",
        "mipplan.toml: plan.trace: expected values, found a table",
        "mipplan.toml: headroom: --headroom does not take 'much'",
        "mipplan.toml: seeds: --seeds does not take 'few'",
    ):
        assert fault in done.stderr
    # Of what stands at the top a command is only told what it would have taken itself.
    (folder / "mipplan.toml").write_text('headroom = "much"\n')
    assert run("solvers").exit_code == 0
    assert run("explain", "nowhere.json", "--trace", "steady").stderr.count("headroom") == 0


def test_an_objective_for_pipelines_leaves_plan_files_alone(folder: Path) -> None:
    assert run(*COMMAND[:-1], "--trace", "steady", "--to", "20s", "--out", "plan.json").exit_code == 0
    (folder / "mipplan.toml").write_text('trace = "steady"\nto = "20s"\nslo = "1ms"\n')
    assert run("explain", "plan.json").exit_code == 0
    assert run("explain", "plan.json", "--slo", "1s").exit_code == 2


def test_completion_is_offered() -> None:
    assert "--install-completion" in run("--help").stdout


def test_a_profile_folder_for_all_commands(folder: Path) -> None:
    """`profiles` is a command, too."""
    (folder / "mipplan.toml").write_text('profiles = "nowhere"\ntrace = "steady"\nto = "20s"\n')
    assert "there is no such folder" in run(*COMMAND).stdout
    assert document("solvers", "--json")
    (folder / "mipplan.toml").write_text('trace = "steady"\n[profiles]\ncheck = true\n')
    assert run("profiles", "--json").stdout == run("profiles", "--check", "--json").stdout


def test_what_is_written_may_be_named_shortly() -> None:
    outs = {
        name: option.opts
        for name, command in typer.main.get_group(app).commands.items()
        for option in command.params
        if "--out" in option.opts
    }
    assert {"plan", "report", "plot", "whatif", "frontier", "export"} <= set(outs)
    assert {tuple(opts) for opts in outs.values()} == {("--out", "-o")}


def test_traffic_and_profiles_for_all_commands_stop_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands that take them for something else only go on without."""
    assert run(*COMMAND[:-1], "--trace", "steady", "--to", "20s", "--out", "plan.json").exit_code == 0
    (folder / "mipplan.toml").write_text('trace = "steady"\nprofiles = "mine"\nto = "20s"\n')
    rows = "model,hardware,batch,latency_avg_ms\nresnet50,t4,1,2.9\n"
    (folder / "measured.csv").write_text(rows)
    (folder / "day.csv").write_text("hour,requests_per_hour\n0,90000\n1,400000\n")
    (folder / "numbers_of.py").write_text("def double(batch):\n    return list(range(100 * batch))\n")
    monkeypatch.syspath_prepend(folder)
    done = run("profiles", "import", "measured.csv", "--out", "mine", "--json")
    assert done.exit_code == 0, done.output
    (folder / "mine" / "hardware.yaml").write_text("t4: {usd_per_hour: 0.5, source: us}\n")
    assert [one["model"] for one in document("profiles", "--json")["tables"]] == ["resnet50"]
    assert document("profiles", "--check", "--json")["tables"] == 1
    document("schedule", "plan.json", "--counts", "day.csv", "--sample", "steady", "--json")
    measure = ["profile", "numbers_of:double", "--hardware", "t4", "--batch", "1", "--out", "mine"]
    measured = document(*measure, "--time-limit", "0.1s", "--disturbed", "keep", "--json")
    assert [one["batch"] for one in measured["batches"]] == [1]
    for typed, told in (("--trace", "--trace: goes with --for"), ("--strict", "--strict: goes with --check")):
        refused = run("profiles", *([typed, "steady"] if typed == "--trace" else [typed]))
        assert (refused.exit_code, told in refused.stderr) == (2, True)
    assert "flags belong behind 'import'" in run("profiles", "--check", "import", "x", "--out", "y").stderr


def test_a_key_at_the_top_is_not_for_options_that_mean_something_else(folder: Path) -> None:
    """`to` is where traces end, not where entries go; what is wrong with a key is told at that key."""
    (folder / "mipplan.toml").write_text('to = "30s"\nfor = "5s"\nlatency = "table"\n')
    assert "Missing option '--to'" in run("export", "plan.json", "--out", "exp").output
    assert "--to: goes with --out" in run("schedule", "p.json", "--counts", "c.csv", "--out", "d.cron").stderr
    assert "--for" not in run("profiles").output
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for command, flags in config._OF_ITS_OWN.items():
        known = {flag for option in commands[command].params for flag in option.opts}
        assert {f"--{flag}" for flag in flags} <= known, command
    (folder / "mipplan.toml").write_text("from = 10\n[verify]\nto = 20\n")
    told = run("verify", "plan.json", "--trace", "steady").stderr
    assert "mipplan.toml: from: '10' has no unit" in told
    assert "mipplan.toml: verify.to: '20' has no unit" in told
