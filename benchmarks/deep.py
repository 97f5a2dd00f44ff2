"""``make deep``: all tests, with long campaigns. It takes hours, so a run that was stopped goes on where it was.

A plugin of pytest (``-p benchmarks.deep``). A file whose tests have all passed is left out from then on, for as long
as the file stays as it is and what its tests can reach (`benchmarks.import_closure`). ``results/deep`` holds a row for
each file and the page that tells of them.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import astuple, fields, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.deep_record import Row, keys_of_tests, read_rows, tell
from benchmarks.machine import describe, publish_quietly

#: What controllers tell workers: the files that need not run.
SETTLED = "settled_files"


def pytest_configure(config: pytest.Config) -> None:
    """Let workers leave out what they are told to, and whoever starts them record what becomes of the rest."""
    settled = getattr(config, "workerinput", {}).get(SETTLED)
    if settled is None:
        _refuse_parts_of_files(config)
        recorder = Recorder(config.rootpath)
        config.pluginmanager.register(recorder)
        settled = recorder.settled
    config.pluginmanager.register(_Selection(config.rootpath, settled))


def _refuse_parts_of_files(config: pytest.Config) -> None:
    options = ("keyword", "markexpr", "deselect", "lf", "stepwise")
    if any("::" in arg for arg in config.args) or any(config.getoption(name, None) for name in options):
        raise pytest.UsageError(
            "make deep goes by whole files of tests: name files or folders of them, or run "
            "pytest with MIPPLAN_DEEP=1 yourself"
        )


class _Selection:
    """Leaves settled files out."""

    def __init__(self, root: Path, settled: Iterable[str]) -> None:
        self._settled = {root / name for name in settled}

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        return True if collection_path in self._settled else None


class Recorder:
    """Writes a row for each file as soon as its last test has run, and the page with it."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "benchmarks" / "results" / "deep"
        self._keys = keys_of_tests(root)
        # Told before anything runs: files may be edited while tests of the code as it was are still under way.
        self._machine = describe("campaigns")
        self._rows = {
            row.file: row for row in read_rows(self._folder) if row.key == self._keys.get(row.file, "")
        }
        self.settled = sorted(row.file for row in self._rows.values() if row.failed == 0)
        self._missing: dict[str, set[str]] = {}
        self._under_way: dict[str, Row] = {}
        self._reports: dict[str, list[pytest.TestReport]] = {}

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker which files need not run: also one that takes the place of another."""
        node.workerinput[SETTLED] = self.settled

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Take down what a worker has found, which is the same for each."""
        self._expect(ids)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Take down what there is to run, where there are no workers."""
        self._expect(item.nodeid for item in session.items)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Take a file that skips itself for one skipped test; one that cannot be imported has no row."""
        if report.skipped and report.nodeid in self._keys:
            self._write(replace(self._row_of(report.nodeid), skipped=1))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Put the phases of a test together; a test in which a worker dies has only one, of another name."""
        self._reports.setdefault(report.nodeid, []).append(report)
        if report.when in ("setup", "call"):
            return
        reports = self._reports.pop(report.nodeid)
        file = report.nodeid.split("::")[0]
        row = _add(self._under_way.get(file) or self._row_of(file), report.nodeid, reports)
        self._under_way[file] = row
        self._missing[file].discard(report.nodeid)
        if not self._missing[file]:
            self._write(row)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """That there is nothing left to run is no failure."""
        if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and not self._missing and self.settled:
            session.exitstatus = pytest.ExitCode.OK

    def pytest_unconfigure(self) -> None:
        """Say what the page says, of runs that were stopped, too."""
        if self._rows:
            print(self._write_page())

    def _expect(self, ids: Iterable[str]) -> None:
        # Each worker finds the same, and one that takes another's place finds again what has long been run.
        if not self._missing:
            for name in ids:
                self._missing.setdefault(name.split("::")[0], set()).add(name)

    def _row_of(self, file: str) -> Row:
        commit, dirty = (self._machine["commit"] or "")[:12], bool(self._machine["dirty"])
        return Row(file, 0, 0, 0, 0.0, "", 0.0, "", self._keys.get(file, ""), commit, dirty)

    def _write(self, row: Row) -> None:
        """Write the file of rows anew: what is there is never half of one."""
        self._rows[row.file] = row
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = self._folder / "partial-files.csv"
        with partial.open("w", encoding="utf-8", newline="") as lines:
            writer = csv.writer(lines, lineterminator="\n")
            writer.writerow(field.name for field in fields(Row))
            writer.writerows(astuple(self._rows[name]) for name in sorted(self._rows))
        partial.replace(self._folder / "files.csv")
        self._write_page()

    def _write_page(self) -> str:
        """Tell of the rows there are; with each row, so that a run that is killed leaves a page that is right."""
        settled = sum(row.failed == 0 for row in self._rows.values())
        machine = self._machine | {"test_files": len(self._keys), "test_files_passed": settled}
        (self._folder / "machine.json").write_text(json.dumps(machine, indent=2) + "\n", encoding="utf-8")
        rows = [self._rows[name] for name in sorted(self._rows)]
        return publish_quietly(self._folder, tell(rows, len(self._keys)))


def _add(row: Row, name: str, reports: list[pytest.TestReport]) -> Row:
    """Count one test more."""
    seconds = sum(report.duration for report in reports)
    failed, skipped = (any(getattr(each, what) for each in reports) for what in ("failed", "skipped"))
    row = replace(row, seconds=round(row.seconds + seconds, 2))
    if seconds > row.slowest_s:
        row = replace(row, slowest=name.split("::", 1)[-1], slowest_s=round(seconds, 2))
    if failed:
        return replace(row, failed=row.failed + 1, failures=f"{row.failures}\n{name}".strip())
    return replace(row, skipped=row.skipped + 1) if skipped else replace(row, passed=row.passed + 1)
