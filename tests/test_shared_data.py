"""Tests of the public data sets: counted where the data are absent, and failing where they were promised."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ABSENT

TESTS = Path(__file__).parent
EXAMPLES = f"""
import pytest

@pytest.mark.skipif(True, reason={ABSENT!r})
@pytest.mark.parametrize("number", [1, 2])
def test_by_mark(number):
    pass

def test_on_the_way():
    pytest.skip({ABSENT!r})

@pytest.mark.skip(reason="of something else")
def test_other():
    pass

def test_without_data():
    pass
"""


def run_examples(folder: Path, *arguments: str, promise: str | None) -> subprocess.CompletedProcess[str]:
    """Run pytest with the settings of this suite on tests whose data are absent."""
    shutil.copy(TESTS / "conftest.py", folder)
    (folder / "test_examples.py").write_text(EXAMPLES, encoding="utf-8")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "MIPPLAN"))
    }
    if promise is not None:
        environment["MIPPLAN_SHARED"] = promise
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        f"--rootdir={folder}",
        *arguments,
        folder,
    ]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [[], ["-n", "2"]], ids=["alone", "in workers"])
def test_what_was_skipped_for_want_of_data_is_counted(tmp_path: Path, arguments: list[str]) -> None:
    done = run_examples(tmp_path, *arguments, promise=None)
    assert done.returncode == 0, done.stdout
    assert f"3 tests were skipped because {ABSENT}" in done.stdout
    assert "1 passed, 4 skipped" in done.stdout


@pytest.mark.parametrize("arguments", [[], ["-n", "2"]], ids=["alone", "in workers"])
def test_data_that_were_promised_must_be_there(tmp_path: Path, arguments: list[str]) -> None:
    done = run_examples(tmp_path, *arguments, promise="require")
    assert done.returncode == 1
    assert f"{ABSENT}, and MIPPLAN_SHARED=require promises them" in done.stdout
    assert "tests were skipped because" not in done.stdout
    # A mark skips in the setup, which is an error rather than a failure.
    assert re.search(r"1 failed, 1 passed, 1 skipped, 2 errors", done.stdout), done.stdout


def test_a_promise_that_is_misspelt_is_refused(tmp_path: Path) -> None:
    done = run_examples(tmp_path, promise="yes")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "MIPPLAN_SHARED: expected require or nothing, found 'yes'" in done.stderr


def test_all_tests_of_the_data_give_the_reason_that_is_counted() -> None:
    """Whatever asks whether the data are there says so in the same words."""
    asking = re.compile(r"skipif\(not \w+(\.is_present\(\)|\.is_dir\(\)), *reason=([^)]*)\)")
    found = [
        (path.name, match[2])
        for path in sorted(TESTS.rglob("test_*.py"))
        for match in asking.finditer(path.read_text(encoding="utf-8"))
    ]
    assert len(found) >= 5
    assert {ABSENT if reason == "ABSENT" else reason.strip('"') for _, reason in found} == {ABSENT}, found
