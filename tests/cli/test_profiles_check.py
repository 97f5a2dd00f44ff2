"""What is odd in profiles: the command that lists it, and the remarks of a plan."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner, Result

from bad_inputs.case import HEADER, PLAN, lay_out
from mipplan.cli.app import app
from mipplan.reporting.catalog import ExaminationReport

TABLES = "profiles/models/all.csv"
SOUND = HEADER + "resize,cpu,1,2,x\nresize,cpu,2,3,x\nclassify,cpu,1,30,x\nclassify,cpu,2,31,x\n"
CHECK = ("profiles", "--check", "--profiles", "profiles")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(tables: str, *arguments: str) -> Result:
    lay_out(Path(), {TABLES: tables})
    return CliRunner().invoke(app, list(arguments))


def remarks_about_profiles(result: Result) -> list[str]:
    """Of a plan, without the last remark: the sample is very short, and that is said."""
    *ours, sample = json.loads(result.stdout)["remarks"]
    assert sample.startswith("P99 of 4 queries is their maximum")
    return ours


def checked(tables: str) -> tuple[int, ExaminationReport]:
    result = run(tables, *CHECK, "--json")
    document = json.loads(result.stdout)
    jsonschema.validate(document, ExaminationReport.model_json_schema())
    return result.exit_code, ExaminationReport.model_validate(document)


def test_sound_measurements_give_no_finding() -> None:
    code, report = checked(SOUND)
    assert (code, report.tables, report.warnings, report.notes, report.findings) == (0, 2, 0, 0, [])


def test_notes_alone_exit_with_0() -> None:
    code, report = checked(SOUND + "resize,gpu,1,2,x\n")
    assert (code, report.warnings, report.notes) == (0, 0, 1)
    assert report.findings[0].batches == (1,)


def test_warnings_are_shown_and_exit_with_1_if_strict() -> None:
    tables = SOUND + "resize,gpu,4,2,x\n"
    code, report = checked(tables)
    assert (code, report.warnings, report.notes) == (0, 1, 0)
    assert run(SOUND, *CHECK, "--strict").exit_code == 0
    assert "--strict: goes with --check" in run(SOUND, "profiles", "--strict").stderr
    shown = run(tables, *CHECK, "--strict")
    assert shown.exit_code == 1
    assert "resize on gpu" in shown.stdout
    assert "warning: nothing was measured below batch 4" in shown.stdout
    assert "3 tables: 1 warning, 0 notes" in shown.stdout


def test_the_shipped_profiles_pass_with_warnings_where_small_batches_are_not_published() -> None:
    found = CliRunner().invoke(app, ["profiles", "--check"])
    warnings = [line for line in found.output.splitlines() if "warning: " in line]
    assert len(warnings) == 4
    assert all("nothing was measured below batch" in line for line in warnings)
    assert found.exit_code == 0


def test_a_plan_spells_out_warnings_about_what_it_chose() -> None:
    result = run(SOUND.replace("resize,cpu,1,2,x\n", ""), *PLAN, "--json")
    assert result.exit_code == 0, result.output
    (remark,) = remarks_about_profiles(result)
    assert remark.startswith("resize on cpu: nothing was measured below batch 2")


def test_a_plan_counts_warnings_about_what_it_could_have_chosen() -> None:
    result = run(SOUND + "resize,gpu,4,2,x\nclassify,gpu,4,9,x\n", *PLAN, "--json")
    (remark,) = remarks_about_profiles(result)
    assert remark == (
        "2 warnings about measurements of hardware it could have chosen: "
        "see `mipplan profiles --check --profiles profiles`"
    )


def test_a_plan_is_silent_about_what_it_could_not_choose() -> None:
    Path("p.yaml").write_text(
        "slo: 100ms\nstages:\n  a: {model: resize, hardware: cpu}\n  b: {model: classify, hardware: cpu}\n"
    )
    result = run(
        SOUND + "resize,gpu,4,2,x\n",
        "plan",
        "p.yaml",
        "--trace",
        "trace.csv",
        "--profiles",
        "profiles",
        "--json",
    )
    assert remarks_about_profiles(result) == []
