"""``mipplan export`` as a user runs it: text, document, exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner, Result

from export_plans import shipped_plan
from mipplan.cli.app import app
from mipplan.reporting import exchange

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    shipped_plan("image-processing").save(tmp_path / "chain.json")
    shipped_plan("cascade").save(tmp_path / "cascade.json")
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, ["export", *arguments])


def test_text_has_files_and_what_is_not_kept(run: Run) -> None:
    done = run("chain.json", "--to", "triton", "-o", "repository", "--emulate")
    assert done.exit_code == 0, done.output
    assert "with models that sleep" in done.stdout
    assert "does not hold there as it stands" in done.stdout
    assert "! order: Triton serves tokens in order of arrival" in done.stdout
    assert "models/classify/config.pbtxt" in done.stdout
    assert "SERVICE_NS" in Path("repository/models/classify/1/model.py").read_text(encoding="utf-8")


def test_document_says_the_same(run: Run) -> None:
    done = run("chain.json", "--to", "mosec", "--out", "service", "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    jsonschema.validate(document, exchange.ExportReport.model_json_schema())
    assert document["files"] == ["README.md", "plan.json", "server.py"]
    assert document["certificate_holds"] is False
    assert {one["subject"] for one in document["departures"] if one["voids"]} == {"order", "collection"}


def test_what_batches_may_take_beyond_their_tables_is_written_where_our_dispatcher_is(run: Run) -> None:
    done = run("chain.json", "--to", "ray", "-o", "app", "--allowance", "50ms")
    assert done.exit_code == 0, done.output
    assert "! allowance: a batch may take 50 ms beyond its table" in done.stdout
    assert "ALLOWANCE_S = 0.05\n" in Path("app/app.py").read_text(encoding="utf-8")
    refused = run("chain.json", "--to", "mosec", "-o", "service", "--allowance", "2s")
    assert refused.exit_code == 2
    assert "--allowance: expected seconds from 0 to 1" in refused.output
    assert "--allowance: mosec makes the batches itself" in refused.output


def test_an_earlier_export_is_replaced_if_it_is_said(run: Run) -> None:
    assert run("chain.json", "--to", "mosec", "-o", "out").exit_code == 0
    again = run("cascade.json", "--to", "triton", "-o", "out")
    assert again.exit_code == 2
    assert (
        "out: is not empty; name another folder (--force, or force=True, replaces an earlier export)"
        in again.output
    )
    assert run("cascade.json", "--to", "triton", "-o", "out", "--force").exit_code == 0
    assert not Path("out/server.py").exists()


def test_faults_are_told_with_their_flags(run: Run) -> None:
    done = run("nowhere.json", "--to", "titan", "-o", "no/where")
    assert done.exit_code == 2
    for told in (
        "nowhere.json: there is no such file",
        "--to: expected one of",
        "no/where: there is no folder",
    ):
        assert told in done.output
    run("chain.json", "--to", "mosec", "-o", "out")
    held = run("out/plan.json", "--to", "mosec", "-o", "out", "--force")
    assert "--out out: holds the plan that is read" in held.output
    refused = run("cascade.json", "--to", "mosec", "-o", "other", "--cpu", "tpu")
    assert refused.exit_code == 2
    assert "--cpu: the plan uses no 'tpu'" in refused.output
    assert "edge fast -> slow: is taken with probability 0.3" in refused.output
    assert not Path("other").exists()
