"""``make deep`` goes on where it was stopped, counts only what passed on the code that is there, and tells the rest."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.deep_record import commits_of_campaigns, keys_of_tests, read_rows, tell
from benchmarks.machine import describe, headline
from benchmarks.status import tell_status
from campaigns import is_deep

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "deep"
WORKERS = pytest.mark.parametrize("workers", ["0", "2"])

FINE = "import pytest\n\n@pytest.mark.parametrize('number', [1, 2])\ndef test_fine(number):\n    pass\n"
SKIPPED = "import pytest\n\npytest.skip('nothing for it here', allow_module_level=True)\n"
FAILING = "from shared import RIGHT\n\ndef test_other():\n    pass\n\ndef test_right():\n    assert RIGHT == 'right'\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small suite: of three files, one fails for what is shared."""
    (tmp_path / "tests" / "room").mkdir(parents=True)
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = tests\naddopts = --import-mode=importlib\n")
    (tmp_path / "tests" / "shared.py").write_text("RIGHT = 'wrong'\n")
    (tmp_path / "tests" / "test_fine.py").write_text(FINE)
    (tmp_path / "tests" / "test_skipped.py").write_text(SKIPPED)
    (tmp_path / "tests" / "room" / "test_right.py").write_text(FAILING)
    return tmp_path


def run(checkout: Path, workers: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "benchmarks.deep",
        "-p",
        "no:cacheprovider",
        "-p",
        "xdist",
        "-n",
        workers,
    ]
    # Loading every plugin that is installed takes longer than the tests.
    alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        [*command, "-q", *arguments],
        cwd=checkout,
        env=environment | alone | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def outcomes(checkout: Path) -> dict[str, tuple[int, int, int]]:
    rows = read_rows(checkout / "benchmarks" / "results" / "deep")
    return {row.file: (row.passed, row.skipped, row.failed) for row in rows}


def test_what_passed_does_not_run_again_until_it_changes(checkout: Path) -> None:
    workers = "0"  # With others it is the same, and takes twice as long.
    folder = checkout / "benchmarks" / "results" / "deep"
    first = run(checkout, workers)
    assert first.returncode == 1, first.stdout + first.stderr
    right, fine = "tests/room/test_right.py", "tests/test_fine.py"
    rest = {"tests/test_skipped.py": (0, 1, 0)}
    assert outcomes(checkout) == {right: (1, 0, 1), fine: (2, 0, 0), **rest}
    page = (folder / "summary.md").read_text(encoding="utf-8")
    assert f"Failed:\n\n- `{right}::test_right`" in page
    assert "5 tests in 3 of 3 files: 3 passed, 1 failed, 1 skipped" in page

    # What failed runs again, and nothing else.
    again = run(checkout, workers)
    assert (again.returncode, "1 failed, 1 passed" in again.stdout) == (1, True), again.stdout

    # A file that changes concerns itself only, and what is shared those that import it.
    (checkout / fine).write_text(FINE.replace("[1, 2]", "[1, 2, 3]"))
    changed = run(checkout, workers, fine)
    assert (changed.returncode, outcomes(checkout)[fine]) == (0, (3, 0, 0)), changed.stdout
    (checkout / "tests" / "shared.py").write_text("RIGHT = 'right'\n")
    mended = run(checkout, workers, "tests/room")
    assert mended.returncode == 0, mended.stdout
    assert outcomes(checkout) == {right: (2, 0, 0), fine: (3, 0, 0), **rest}

    # What pytest reads for all of them concerns all.
    (checkout / "tests" / "conftest.py").write_text("")
    assert run(checkout, workers, "tests/room").returncode == 0
    assert outcomes(checkout) == {right: (2, 0, 0)}
    machine = json.loads((folder / "machine.json").read_text(encoding="utf-8"))
    assert (machine["test_files"], machine["test_files_passed"]) == (3, 1)
    assert "Still to run on this code: 2, with" in (folder / "summary.md").read_text(encoding="utf-8")
    assert "`deep` | " in tell_status(folder.parent)
    assert "but 2 of 3 files of tests have not passed yet" in tell_status(folder.parent)

    # With the rest done, there is nothing left, which is no failure.
    assert run(checkout, workers).returncode == 0
    assert outcomes(checkout) == {right: (2, 0, 0), fine: (3, 0, 0), **rest}
    nothing = run(checkout, workers)
    assert (nothing.returncode, "no tests ran" in nothing.stdout) == (0, True), nothing.stdout
    assert "have not passed yet" not in tell_status(folder.parent)


@WORKERS
def test_a_file_that_was_not_finished_runs_again(checkout: Path, workers: str) -> None:
    stopped = "def test_first():\n    pass\n\ndef test_stopped():\n    raise KeyboardInterrupt\n"
    (checkout / "tests" / "room" / "test_right.py").write_text(stopped)
    (checkout / "tests" / "test_fine.py").rename(checkout / "tests" / "room" / "test_before.py")
    done = run(checkout, workers)
    assert done.returncode != 0
    # Where a worker is stopped, and not who started it, its test failed.
    found = outcomes(checkout).get("tests/room/test_right.py")
    assert found == (None if workers == "0" else (1, 0, 1))
    (checkout / "tests" / "room" / "test_right.py").write_text(FINE)
    assert run(checkout, workers).returncode == 0
    assert outcomes(checkout)["tests/room/test_right.py"] == (2, 0, 0)


@pytest.mark.parametrize("part", ["tests/test_fine.py::test_fine", "-kfine", "--deselect=tests/test_fine.py"])
def test_parts_of_files_are_refused(checkout: Path, part: str) -> None:
    refused = run(checkout, "0", part)
    assert refused.returncode == pytest.ExitCode.USAGE_ERROR
    assert "make deep goes by whole files of tests" in refused.stderr
    assert outcomes(checkout) == {}


def test_a_worker_that_dies_fails_the_test_it_was_at(checkout: Path) -> None:
    dies = "import os\n\ndef test_dies():\n    os._exit(3)\n\ndef test_other():\n    pass\n"
    (checkout / "tests" / "room" / "test_right.py").write_text(dies)
    assert run(checkout, "2").returncode == 1
    assert outcomes(checkout)["tests/room/test_right.py"] == (1, 0, 1)


def test_a_run_that_is_killed_leaves_a_page_of_the_files_it_has_run(checkout: Path) -> None:
    killed = "import os, signal\n\ndef test_killed():\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    (checkout / "tests" / "test_skipped.py").write_text(killed)
    assert run(checkout, "0").returncode == -signal.SIGKILL
    page = (checkout / "benchmarks" / "results" / "deep" / "summary.md").read_text(encoding="utf-8")
    assert set(outcomes(checkout)) == {"tests/room/test_right.py", "tests/test_fine.py"}
    assert "4 tests in 2 of 3 files: 3 passed, 1 failed, 0 skipped" in page


def test_keys_are_those_of_every_file_of_tests() -> None:
    keys = keys_of_tests(ROOT)
    assert set(keys) == {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    assert len(set(keys.values())) == len(keys)


def test_campaigns_stay_those_of_today_when_other_tests_change(checkout: Path) -> None:
    folder = checkout / "benchmarks" / "results" / "deep"
    campaign = checkout / "tests" / "test_campaign.py"
    campaign.write_text(
        "import shared\n\ndef write_summary(name):\n    pass\n\ndef test_it():\n    write_summary('it')\n"
    )
    run(checkout, "0", "tests/test_campaign.py")
    # The commit is that of this checkout, where files may be edited; rows of a clean one are written as these are.
    (row,) = read_rows(folder)
    rows = (folder / "files.csv").read_text(encoding="utf-8")
    clean = rows.replace(f",{row.commit},{row.dirty}\n", ",0123456789ab,False\n")
    (folder / "files.csv").write_text(clean, encoding="utf-8")
    assert commits_of_campaigns(folder, checkout) == {"0123456789ab"}
    (checkout / "tests" / "test_fine.py").write_text(FINE.replace("[1, 2]", "[1, 2, 3]"))
    assert commits_of_campaigns(folder, checkout) == {"0123456789ab"}
    # One more that has not run, the same one changed, and what it shares: each may be why a campaign is older.
    other = checkout / "tests" / "test_other.py"
    other.write_text(campaign.read_text(encoding="utf-8"))
    assert commits_of_campaigns(folder, checkout) == set()
    other.unlink()
    assert commits_of_campaigns(folder, checkout) == {"0123456789ab"}
    (checkout / "tests" / "shared.py").write_text("RIGHT = 'right'\n")
    assert commits_of_campaigns(folder, checkout) == set()
    (checkout / "tests" / "shared.py").write_text("RIGHT = 'wrong'\n")
    assert commits_of_campaigns(folder, checkout) == {"0123456789ab"}
    campaign.write_text(campaign.read_text(encoding="utf-8") + "\n")
    assert commits_of_campaigns(folder, checkout) == set()


def test_status_tells_campaigns_apart_from_what_has_changed_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = describe("campaigns") | {
        "commit": "0123456789ab" + 28 * "0",
        "dirty": False,
        "measured": "2026-12-02",
    }
    parts = machine["code_parts"]
    (tmp_path / "campaigns").mkdir()
    for name, changed in (("beside", {"tests", "mipplan"}), ("profiles", {"tests", "profiles"})):
        older = parts | dict.fromkeys(changed, "older")
        text = json.dumps({"campaign": name, "machine": machine | {"code_parts": older}})
        (tmp_path / "campaigns" / f"{name}.json").write_text(text, encoding="utf-8")

    def told(commits: set[str]) -> list[str]:
        monkeypatch.setattr("benchmarks.status.commits_of_campaigns", lambda folder, root: commits)
        return [line.split("|")[3].strip() for line in tell_status(tmp_path).splitlines()[2:]]

    profiles = "no: changed since in `profiles`, `tests`"
    assert told({"0123456789ab"}) == ["yes, and of `mipplan`, `tests` all that they reach", profiles]
    assert told(set()) == ["no: changed since in `mipplan`, `tests`", profiles]


@pytest.mark.skipif(is_deep(), reason="the long run writes rows and page meanwhile")
def test_the_page_says_what_its_rows_say() -> None:
    machine = json.loads((RESULTS / "machine.json").read_text(encoding="utf-8"))
    page = f"{headline(RESULTS / 'machine.json')}\n\n{tell(list(read_rows(RESULTS)), machine['test_files'])}"
    assert (RESULTS / "summary.md").read_text(encoding="utf-8") == page
