"""What became of which mutant: kept from run to run for as long as the code stands that it is about."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.mutants.listing import Mutant
from benchmarks.mutants.subjects import SUBJECTS, files_of_tests
from benchmarks.provenance import ROOT, commit_of

#: Mutants that are no faults, with the reason for each.
EQUIVALENT = Path(__file__).with_name("equivalent.json")


@dataclass(frozen=True)
class Row:
    """A verdict, as it is written down."""

    subject: str
    mutant: str
    """Digest of the mutant's key."""
    outcome: str
    """``killed``, ``timed out`` or ``survived``."""
    test: str
    cpu_s: float
    code: str
    """Key of what the verdict rests on: the file mutated, and the tests that had a say."""
    commit: str


HEADER = ",".join(field.name for field in fields(Row)) + "\n"


class Verdicts:
    """The verdicts in a file; one counts for as long as the mutated file is the same, and the test that noticed.

    That a mutant survived is held against all the tests of its subject and what they share.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._commit = (commit_of() or "")[:12]
        self._rows: dict[tuple[str, str], Row] = {}
        if not path.exists():
            path.write_text(HEADER, encoding="utf-8")
        else:
            with path.open(encoding="utf-8", newline="") as lines:
                for row in csv.DictReader(lines):
                    self._keep(Row(**{**row, "cpu_s": float(row["cpu_s"])}))  # type: ignore[arg-type]

    def of(self, subject: str, mutant: Mutant) -> Row | None:
        """What is known of a mutant and still holds."""
        row = self._rows.get((subject, digest(mutant)))
        return row if row is not None and row.code == code_of(subject, mutant.file, row.test) else None

    def add(self, subject: str, mutant: Mutant, outcome: str, test: str, cpu_s: float) -> None:
        """Write a verdict down at once."""
        code = code_of(subject, mutant.file, test)
        row = Row(subject, digest(mutant), outcome, test, cpu_s, code, self._commit)
        self._keep(row)
        # One write at the end of the file: others may be writing there, too.
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(astuple(row))
        with self._path.open("a", encoding="utf-8", newline="") as lines:
            lines.write(text.getvalue())

    def settle(self, mutants: Mapping[str, Iterable[Mutant]]) -> None:
        """Write the file anew, without what no longer counts; subjects that are not given stay as they are."""
        kept = [row for row in self._rows.values() if row.subject in SUBJECTS and row.subject not in mutants]
        for subject, drawn in mutants.items():
            kept += [row for row in (self.of(subject, mutant) for mutant in drawn) if row is not None]
        rows = sorted(map(astuple, kept))
        partial = self._path.with_name(f"partial-{self._path.name}")
        with partial.open("w", encoding="utf-8", newline="") as lines:
            lines.write(HEADER)
            csv.writer(lines, lineterminator="\n").writerows(rows)
        partial.replace(self._path)

    def _keep(self, row: Row) -> None:
        self._rows[row.subject, row.mutant] = row


def digest(mutant: Mutant) -> str:
    """Name of a mutant, 16 hexadecimal digits."""
    return hashlib.blake2b(repr(mutant.key).encode(), digest_size=8).hexdigest()


@cache
def code_of(subject: str, file: str, test: str) -> str:
    """Key of what a verdict rests on."""
    noticed = ROOT / test.split("::")[0]
    if test and noticed.is_file():
        others = [noticed]
    else:
        shared = [path for path in sorted((ROOT / "tests").glob("*.py")) if not path.stem.startswith("test_")]
        others = [*files_of_tests(SUBJECTS[subject]), *shared]
    words = hashlib.blake2b(digest_size=8)
    for path in (ROOT / file, *others):
        words.update(hashlib.blake2b(path.read_bytes(), digest_size=16).digest())
    return words.hexdigest()


@cache
def reasons() -> dict[tuple[str, str, str, str], str]:
    """Why some mutants are no faults, by the key of each."""
    entries: list[dict[str, Any]] = json.loads(EQUIVALENT.read_text(encoding="utf-8"))
    return {(e["file"], e["scope"], e["before"], after): e["reason"] for e in entries for after in e["after"]}
