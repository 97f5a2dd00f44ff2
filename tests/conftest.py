"""Settings of the whole suite."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from functools import cache

import pytest
import typer.main
from hypothesis import settings

# No deadline: how long an example takes says nothing about whether it is right. CI draws the same examples
# every time, so that a red run is about the change at hand, and fewer; elsewhere they vary and find new cases.
settings.register_profile("mipplan", deadline=None, print_blob=True)
settings.register_profile(
    "mipplan-ci", deadline=None, print_blob=True, derandomize=True, database=None, max_examples=30
)
settings.load_profile("mipplan-ci" if os.environ.get("CI") else "mipplan")

# Typer makes a program's commands anew for every run: nine tenths of what a refused one takes, and hundreds run.
typer.main.get_command = cache(typer.main.get_command)

# Shells start what runs in the background with Ctrl-C ignored, and programs inherit that; tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _as_wide_as_it_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is piped is wrapped where COLUMNS says so, which some that start tests set."""
    monkeypatch.delenv("COLUMNS", raising=False)


#: Why tests of the public data sets are skipped.
ABSENT = "the public data sets are not beside the checkout"
#: ``MIPPLAN_SHARED=require`` promises that these data are there: what would be skipped for their absence then fails.
PROMISE, REQUIRED = "MIPPLAN_SHARED", "require"


def pytest_configure() -> None:
    """Refuse a promise that nobody would understand."""
    asked = os.environ.get(PROMISE, "")
    if asked not in ("", REQUIRED):
        raise pytest.UsageError(f"{PROMISE}: expected {REQUIRED} or nothing, found {asked!r}")


def _is_for_absence(report: pytest.TestReport) -> bool:
    """Whether a test was skipped because the data are absent."""
    return report.skipped and isinstance(report.longrepr, tuple) and ABSENT in report.longrepr[2]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a test fail whose data were promised and are not there."""
    report = yield
    if os.environ.get(PROMISE) == REQUIRED and _is_for_absence(report):
        report.outcome = "failed"
        report.longrepr = f"{ABSENT}, and {PROMISE}={REQUIRED} promises them"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests did not run for want of the data."""
    absent = sum(map(_is_for_absence, terminalreporter.stats.get("skipped", [])))
    if absent:
        terminalreporter.write_line(
            f"{absent} tests were skipped because {ABSENT} ({PROMISE}={REQUIRED} makes them fail instead)"
        )
