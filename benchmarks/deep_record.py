"""What the long run (``make deep``) records of each file of tests, when it counts, and the page that tells of it."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.import_closure import PACKAGE, ImportClosure
from benchmarks.provenance import SUBJECTS, files_of, key_of_files, key_of_parts

#: At most so many of the slowest tests are told, each of another file.
SLOWEST = 25


@dataclass(frozen=True)
class Row:
    """What became of the tests in one file."""

    file: str
    passed: int
    skipped: int
    failed: int
    seconds: float
    """All its tests, one after the other."""
    slowest: str
    """The test that took longest."""
    slowest_s: float
    failures: str
    """Names of the tests that failed, one on each line."""
    key: str
    """Of all that the tests can reach, and of the file."""
    commit: str
    dirty: bool


def keys_of_tests(root: Path) -> dict[str, str]:
    """Files of tests by name, each with the key of what its tests depend on."""
    closure = ImportClosure(root)
    tests, always = [], []
    rooms: dict[str, list[Path]] = {room: [] for room in closure.rooms}
    for path in (path for subject in SUBJECTS["campaigns"] for path in files_of(subject, root)):
        place = path.relative_to(root).parts
        if place[0] == PACKAGE and place[1] in rooms:
            rooms[place[1]].append(path)
        elif place[0] == "tests" and path.suffix == ".py":
            tests += [path] if path.name.startswith("test_") else []
        else:
            always.append(path)
    parts = {room: key_of_files(files, root) for room, files in rooms.items()}
    others = key_of_files(always, root)

    def key_of(test: Path) -> str:
        reached, shared = closure.of(test)
        beside = {"always": others, "shared": key_of_files(sorted(shared), root)}
        return key_of_parts(beside | {room: parts[room] for room in reached})

    return {
        path.relative_to(root).as_posix(): f"{key_of(path)}-{key_of_files([path], root)}" for path in tests
    }


def read_rows(folder: Path) -> Iterator[Row]:
    """Read the rows of earlier runs; there may be none."""
    path = folder / "files.csv"
    if path.exists():
        with path.open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                counts: dict[str, Any] = {name: int(row[name]) for name in ("passed", "skipped", "failed")}
                times = {name: float(row[name]) for name in ("seconds", "slowest_s")}
                yield Row(**row | counts | times | {"dirty": row["dirty"] == "True"})


def _writers(root: Path) -> set[str]:
    """Files of tests that record campaigns."""
    return {
        path.relative_to(root).as_posix()
        for path in (root / "tests").rglob("test_*.py")
        if "write_summary(" in path.read_text(encoding="utf-8")
    }


def commits_of_campaigns(folder: Path, root: Path) -> set[str]:
    """Commits, of 12 digits, at which campaigns ran that today's code would run the same way.

    A file of tests records its campaigns whenever it runs. Where each one that does so has a row of today's code, no
    campaign that belongs to one of these commits is an older one, whatever has changed in other files of tests since.
    None, where one of the files has still to run.
    """
    keys = keys_of_tests(root)
    commits = {
        row.file: row.commit
        for row in read_rows(folder)
        if row.key == keys.get(row.file) and row.failed == 0 and not row.dirty
    }
    writers = _writers(root)
    return {commits[name] for name in writers} if writers <= set(commits) else set()


def tell(rows: list[Row], files: int) -> str:
    """The page: how many passed, by folder, what failed, what took longest, and on which commits."""
    counts = {name: sum(getattr(row, name) for row in rows) for name in ("passed", "failed", "skipped")}
    hours = sum(row.seconds for row in rows) / 3600
    outcomes = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    said = [
        f"{sum(counts.values()):,} tests in {len(rows)} of {files} files: {outcomes}; {hours:.1f} hours of tests."
    ]
    if len(rows) < files:
        said.append(f"Still to run on this code: {files - len(rows)}, with which `make deep` goes on.")
    commits = Counter(row.commit[:7] + (" with uncommitted changes" if row.dirty else "") for row in rows)
    if len(commits) > 1:
        words = ", ".join(f"{commit} ({count})" for commit, count in commits.items())
        said.append(
            f"Files by the commit they ran on; all that their tests reach has stayed as it was: {words}."
        )
    table = ["| tests | files | passed | failed | skipped | minutes |", "|---|---|---|---|---|---|"]
    for folder in sorted({row.file.rpartition("/")[0] for row in rows}):
        own = [row for row in rows if row.file.rpartition("/")[0] == folder]
        sums = (sum(getattr(row, name) for row in own) for name in counts)
        minutes = sum(row.seconds for row in own) / 60
        table.append(
            f"| `{folder}` | {len(own)} | {' | '.join(f'{each:,}' for each in sums)} | {minutes:.1f} |"
        )
    said.append("\n".join(table))
    failures = [f"- `{name}`" for row in rows for name in row.failures.splitlines()]
    if failures:
        said.append("Failed:\n\n" + "\n".join(failures))
    slowest = sorted((row for row in rows if row.slowest_s >= 1), key=lambda row: -row.slowest_s)[:SLOWEST]
    slow = "\n".join(f"- {row.slowest_s:,.0f} s: `{row.file}::{row.slowest}`" for row in slowest)
    if slow:
        said.append(f"What took longest, of each file the slowest test:\n\n{slow}")
    return "\n\n".join(said) + "\n"
