"""The mutants: how code is changed and what is left alone, who judges, and that what survives is explained."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator

from benchmarks.mutants import summary
from benchmarks.mutants.listing import Mutant, draw, list_mutants, mutants_of
from benchmarks.mutants.operators import OWN, operators
from benchmarks.mutants.record import EQUIVALENT, Verdicts, reasons
from benchmarks.mutants.subjects import SUBJECTS, files_of_tests
from campaigns import tried

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "mutants"

#: Every line with a number has one mutant at least, unless a comment says why it may not have any.
CODE = '''
"""At most 3 things."""
from typing import Protocol

LIMIT = 5


class SearchParams:
    most: int = 7  # a threshold


class Plug(Protocol):
    def answer(self) -> int:
        return 42  # what has a body here is a default


@dataclass(frozen=True)
class Thing:
    size: int | None = 3

    @compiled
    def larger(self, other: int | None = 1) -> bool | None:
        """Whether it is 2 larger."""
        assert other > 0  # says what holds
        if not other:
            raise ValueError(f"{other + 1} is no size")
        self.count += 1
        return all(zip(self.size, other, strict=True)) and min(self.size, 4) >= other

    def __repr__(self) -> str:
        return f"{self.size}" + "x" * 3  # for people
'''


@pytest.fixture(scope="module")
def found() -> list[Mutant]:
    return list(mutants_of("thing.py", CODE))


@cache
def mutants_of_verification() -> tuple[Mutant, ...]:
    return tuple(
        list_mutants(SUBJECTS["verification"].files[:1])
    )  # the shorter file: listing them takes seconds


@pytest.mark.parametrize("own", OWN)
def test_operators_of_our_own_do_what_their_examples_say(own: type[Operator]) -> None:
    operator = operators()[own.__name__]
    for example in own.examples():
        made = mutate_code(example.pre_mutation_code, operator, example.occurrence)
        assert made is not None
        assert made.split() == example.post_mutation_code.split()
        assert mutate_code(example.pre_mutation_code, operator, example.occurrence + 1) is None


def test_texts_annotations_assertions_and_thresholds_are_left_alone(found: list[Mutant]) -> None:
    lines = {CODE.splitlines()[mutant.line - 1].strip() for mutant in found}
    assert lines == {
        "LIMIT = 5",
        "@dataclass(frozen=True)",
        "size: int | None = 3",
        "def larger(self, other: int | None = 1) -> bool | None:",
        "if not other:",
        'raise ValueError(f"{other + 1} is no size")',
        "self.count += 1",
        "return all(zip(self.size, other, strict=True)) and min(self.size, 4) >= other",
    }
    changes = {mutant.change for mutant in found}
    last = "return all(zip(self.size, other, strict=True)) and min(self.size, 4) >= other"
    for before, after in (
        ("self.count += 1", "pass"),
        (last, last.replace("all", "any")),
        (last, last.replace("min", "max")),
        (last, last.replace(">=", ">")),
        (last, last.replace(" and ", " or ")),
        ("if not other:", "if not not other:"),
        ('raise ValueError(f"{other + 1} is no size")', "pass"),
        ("@dataclass(frozen=True)", ""),
    ):
        assert (before, after) in changes
    assert not any("frozen=False" in after or "strict=False" in after for _, after in changes)
    assert {mutant.scope for mutant in found} == {"", "Thing", "Thing.larger"}


def test_every_line_gives_one_mutant_before_any_gives_two() -> None:
    mutants = mutants_of_verification()
    whole = draw(mutants, len(mutants))
    assert len({mutant.key for mutant in whole}) == len(whole) > 0.9 * len(mutants)
    assert [mutant.key for mutant in draw(mutants[::-1], 20)] == [mutant.key for mutant in whole[:20]]
    assert [m.key for m in draw(mutants, 20, seed=1)] != [m.key for m in whole[:20]]
    lines = len({(mutant.file, mutant.line) for mutant in whole})
    assert len({(mutant.file, mutant.line) for mutant in whole[:lines]}) == lines
    taken = Counter[tuple[str, int]]()
    rounds = []
    for mutant in whole:
        taken[mutant.file, mutant.line] += 1
        rounds.append(taken[mutant.file, mutant.line])
    assert all(first <= second for first, second in pairwise(rounds))


JUDGING = """
import json, sys
from pathlib import Path
from benchmarks.mutants.judging import Judge
from benchmarks.mutants.subjects import Subject

file = "mipplan/core/units.py"
judge = Judge(Subject((file,), ("tests/test_units.py",), 1), Path(sys.argv[1]), import_s=3)
text = Path(file).read_text(encoding="utf-8")
marked = "NS_PER_MS = 1_000_000"
assert marked in text
endless, broken = "\\nwhile True:\\n    pass\\n", "\\nsyntax error"
for other in (text, text.replace(marked, "NS_PER_MS = 1_000_001"), text + endless, text + broken):
    verdict = judge.judge(file, "", other)
    print(verdict.outcome, verdict.test.split("::")[0])
"""


def test_a_mutant_is_killed_or_times_out_or_survives(tmp_path: Path) -> None:
    command = [sys.executable, "-c", JUDGING, str(tmp_path / "known.json")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    outcomes = [line.split(" ") for line in done.stdout.splitlines()]
    assert [outcome for outcome, *_ in outcomes[:2]] == ["survived", "killed"]
    assert outcomes[1][1] == "tests/test_units.py"
    assert done.stdout.splitlines()[2].startswith("timed out")
    assert done.stdout.splitlines()[3].startswith("killed")
    assert (ROOT / "mipplan" / "core" / "units.py").read_text(encoding="utf-8").count("while True") == 0


def test_a_verdict_counts_until_its_file_or_its_test_changes(tmp_path: Path) -> None:
    one, two, three = draw(mutants_of_verification(), 3)
    path = tmp_path / "verdicts.csv"
    verdicts = Verdicts(path)
    verdicts.add("verification", one, "survived", "", 1.0)
    verdicts.add("verification", two, "killed", "tests/verification/test_verify.py::test_fresh", 0.5)
    again = Verdicts(path)
    assert [again.of("verification", m) is None for m in (one, two, three)] == [False, False, True]
    assert again.of("certificate", one) is None
    # A test that has been rewritten since has to notice once more.
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], lines[2].replace(again.of("verification", two).code, "other")]))
    changed = Verdicts(path)
    assert changed.of("verification", two) is None
    changed.settle({"verification": [one, two, three]})
    assert path.read_text().splitlines() == lines[:2]


def test_subjects_are_there() -> None:
    for subject in SUBJECTS.values():
        assert all((ROOT / file).is_file() for file in subject.files)
        assert all(path.is_file() for path in files_of_tests(subject))
        for name in subject.slow:
            path, test = name.split("::")
            assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8")


def test_what_is_no_fault_is_still_a_mutant() -> None:
    """An entry whose line has changed says nothing any more."""
    entries = json.loads(EQUIVALENT.read_text(encoding="utf-8"))
    for entry in entries:
        assert {*entry} == {"file", "scope", "before", "after", "reason"}
        assert entry["reason"].endswith("."), "a whole sentence"
    wanted = set(reasons())
    assert len(wanted) == sum(len(entry["after"]) for entry in entries), "an entry stands there twice"
    lines = {(entry["file"], entry["before"].splitlines()[0]) for entry in entries}
    files = tried(sorted({entry["file"] for entry in entries}))  # listing them takes seconds
    mutants = list_mutants(files)
    here = {
        mutant.key
        for mutant in mutants
        if (mutant.file, mutant.code.splitlines()[mutant.line - 1].strip()) in lines
    }
    assert {reason for reason in wanted if reason[0] in files} - here == set()


def test_what_was_noticed_is_not_called_no_fault() -> None:
    survivors = {
        (each["at"].rsplit(":", 1)[0], each["in"], each["before"], each["after"])
        for counts in json.loads((RESULTS / "mutants.json").read_text(encoding="utf-8"))["subjects"].values()
        for each in counts["survivors"]
    }
    # A file that was moved since is judged by the next run.
    judged = {file for file, *_ in survivors}
    assert len(judged) > 3
    assert {reason for reason in reasons() if reason[0] in judged} - survivors == set()


def test_committed_scores_keep_the_aim_and_say_what_survived() -> None:
    subjects = json.loads((RESULTS / "mutants.json").read_text(encoding="utf-8"))["subjects"]
    assert [*subjects] == [*SUBJECTS]
    for name, counts in subjects.items():
        outcomes = sum(counts[outcome] for outcome in ("killed", "timed out", "survived"))
        assert outcomes + counts["not judged"] == counts["drawn"]
        assert counts["not judged"] == 0
        assert counts["survived"] == len(counts["survivors"])
        assert summary.score(counts) >= summary.AIM >= 0.95, name
    assert "of the faults of each are noticed: kept by each." in summary.tell(RESULTS)


def test_subjects_that_miss_the_aim_are_named(tmp_path: Path) -> None:
    document = json.loads((RESULTS / "mutants.json").read_text(encoding="utf-8"))
    document["subjects"]["cuts"] |= {"killed": 0}
    (tmp_path / "mutants.json").write_text(json.dumps(document), encoding="utf-8")
    shutil.copy(RESULTS / "machine.json", tmp_path)
    (line,) = [line for line in summary.tell(tmp_path).splitlines() if line.startswith("Aim: ")]
    assert line.endswith("noticed: missed for cuts (0.0 %).")


def test_the_page_says_what_the_verdicts_say() -> None:
    assert (RESULTS / "summary.md").read_text(encoding="utf-8") == summary.tell(RESULTS)
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert '--8<-- "benchmarks/results/mutants/summary.md"' in page
