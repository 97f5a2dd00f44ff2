"""Every broken input gives exit code 2 and a message that names file, place and remedy; stdout stays clean."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

from bad_inputs import (
    broken_flags,
    broken_pipelines,
    broken_plans,
    broken_profiles,
    broken_streams,
    broken_traces,
)
from bad_inputs.case import PLAN, Case, lay_out
from campaigns import is_deep
from mipplan.cli.app import app
from mipplan.reporting import documents

CASES = [
    *broken_pipelines.CASES,
    *broken_profiles.CASES,
    *broken_traces.CASES,
    *broken_plans.CASES,
    *broken_flags.CASES,
    *broken_streams.CASES,
]
#: These are run once more as a user does, in a process of their own.
IN_A_PROCESS = (
    "pipeline: anchor bomb",
    "table: binary",
    "trace: truncated gzip",
    "plan: deep nesting",
    "trace: parquet garbage",
    "stream: truncated gzip",
)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("TERM", "dumb")


def test_there_are_many_and_each_has_its_name() -> None:
    assert len(CASES) >= 250
    assert len({case.name for case in CASES}) == len(CASES)


def test_the_good_files_are_good() -> None:
    lay_out(Path(), {})
    result = CliRunner().invoke(app, list(PLAN))
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_message(case: Case) -> None:
    lay_out(Path(), case.files)
    result = CliRunner().invoke(app, list(case.arguments))
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.stderr
    for words in case.said:
        assert words in result.stderr
    assert len(result.stderr) < 50_000
    # Whatever a file holds, its message cannot drive a terminal.
    assert not [character for character in result.stderr if not character.isprintable() and character != "\n"]


#: As documents, in CI every third: what is said is the same, and tested for all of them.
AS_DOCUMENTS = [case for case in CASES if not case.usage][:: 1 if is_deep() else 3]


@pytest.mark.parametrize("case", AS_DOCUMENTS, ids=lambda case: case.name)
def test_document(case: Case) -> None:
    lay_out(Path(), case.files)
    result = CliRunner().invoke(app, [*case.arguments, "--json"])
    assert result.exit_code == 2
    document = json.loads(result.stdout)
    jsonschema.validate(document, documents.ErrorReport.model_json_schema())
    assert document["error"] == "input"
    text = "\n".join(f"{fault['place']}: {fault['message']}" for fault in document["faults"])
    for words in case.said:
        assert words in text


@pytest.mark.parametrize("name", IN_A_PROCESS)
def test_in_a_process(name: str, tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == name)
    lay_out(tmp_path, case.files)
    done = subprocess.run(
        [sys.executable, "-m", "mipplan", *case.arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONUTF8": "1"},
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    for words in case.said:
        assert words in done.stderr
