"""The library of problems: what is read is what was written, and best known values hold by its files alone."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pulp
import pytest

from benchmarks.instances.__main__ import main
from benchmarks.instances.best_known import Record, read_records
from benchmarks.instances.building import build, fingerprint
from benchmarks.instances.checking import check
from benchmarks.instances.library import (
    BEST_KNOWN,
    Claim,
    export,
    judge_claims,
    read_problem,
    take_over,
    write_problem,
)
from benchmarks.instances.specs import read_frozen
from campaigns import campaign_size
from random_problems import random_problem

RECORDS = read_records()
SPECS = [spec for spec in read_frozen() if spec.source == "synthetic" and spec.group == "suite"]
#: One of each shape, those with limits and covers, and one that is infeasible among them.
CHOSEN = [*SPECS[::3], *(spec for spec in SPECS if spec.covers)]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("library")
    export(folder, CHOSEN, RECORDS)
    return folder


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / BEST_KNOWN).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_random_problems_survive_their_files(tmp_path: Path) -> None:
    for seed in range(campaign_size(60, 600)):
        problem = random_problem(np.random.default_rng(seed))
        write_problem(problem, "drawn", tmp_path / "drawn.json.gz")
        assert fingerprint(read_problem(tmp_path / "drawn.json.gz")) == fingerprint(problem)


def test_best_known_values_hold_by_the_files_alone(library: Path) -> None:
    rows = rows_of(library)
    assert [row["name"] for row in rows] == [spec.name for spec in CHOSEN]
    assert {row["status"] for row in rows} >= {"optimal", "infeasible"}
    for row in rows:
        problem = read_problem(library / "problems" / f"{row['name']}.json.gz")
        assert fingerprint(problem) == row["fingerprint"]
        if row["value"]:
            verdict = check(problem, [int(mode) for mode in row["selection"].split()])
            assert (verdict.cost, verdict.faults) == (int(row["value"]), ())
        else:
            assert row["status"] == "infeasible"


def test_models_are_those_of_the_problems(library: Path, tmp_path: Path) -> None:
    """A solver that knows nothing of this project reads a model and comes to the best known value."""
    row = next(row for row in rows_of(library) if row["status"] == "optimal" and int(row["modes"]) < 800)
    for formulation in ("paths", "potentials", "levels"):
        packed = library / "models" / f"{row['name']}.{formulation}.mps.gz"
        plain = tmp_path / "model.mps"
        plain.write_bytes(gzip.decompress(packed.read_bytes()))
        _, model = pulp.LpProblem.fromMPS(str(plain))
        model.solve(pulp.HiGHS(msg=False))
        assert round(pulp.value(model.objective)) == int(row["value"])


def test_the_page_says_what_stands_in_the_files(library: Path) -> None:
    page = (library / "README.md").read_text(encoding="utf-8")
    path = next((library / "problems").iterdir())
    document = json.loads(gzip.decompress(path.read_bytes()))
    for key in (*document, *document["activities"][0], *document["arcs"][0], *document["paths"][0]):
        assert f"`{key}`" in page
    assert f"{len(CHOSEN)} frozen problems" in page


def test_files_that_were_changed_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "problem.json.gz"
    write_problem(build(CHOSEN[0]), "problem", path)
    document = json.loads(gzip.decompress(path.read_bytes()))
    for change, message in (({"deadline": 1}, "fingerprint"), ({"format": "other/2"}, "format")):
        path.write_bytes(gzip.compress(json.dumps({**document, **change}).encode()))
        with pytest.raises(ValueError, match=message):
            read_problem(path)


def test_claims_are_judged(library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = next(row for row in rows_of(library) if row["status"] == "optimal")
    best, problem = row["selection"], read_problem(library / "problems" / f"{row['name']}.json.gz")
    dearest = " ".join(str(int(np.argmax(a.cost))) for a in problem.activities)
    claims = tmp_path / "claims.csv"
    claims.write_text(f"name,selection\n{row['name']},{best}\nnowhere,0\n{row['name']},{dearest}\n")
    equal, nowhere, dear = judge_claims(library, claims)
    assert (equal.verdict, equal.cost) == ("equal", int(row["value"]))
    assert nowhere.verdict == "there is no such problem"
    assert dear.cost is not None
    assert dear.cost > int(row["value"])
    assert dear.verdict != "better"
    assert main(["check", str(library), str(claims)]) == 1
    assert "nowhere: -: there is no such problem" in capsys.readouterr().out
    # had less been known, the same plan would be an improvement
    (library / BEST_KNOWN).write_text(
        (library / BEST_KNOWN).read_text().replace(f",{row['value']},", f",{int(row['value']) + 1},", 1)
    )
    assert next(judge_claims(library, claims)).verdict == "better"


def test_what_is_no_submission_is_told(
    library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One row that is none costs the verdicts of the others nothing."""
    name, claims = CHOSEN[0].name, tmp_path / "claims.csv"
    claims.write_text(f"name,selection\n{name},0 one\n{name},0 0\n{name}\n", encoding="utf-8")
    verdicts = [claim.verdict for claim in judge_claims(library, claims)]
    assert "no list of modes" in verdicts[0]
    assert len(verdicts) == 3
    claims.write_text(f"problem,selection\n{name},0\n", encoding="utf-8")
    for arguments, told in (
        (["check", str(library), str(claims)], "no column name"),
        (["check", str(library), str(tmp_path / "nothing.csv")], "nothing.csv"),
        (["export", str(tmp_path), "--only", "no such problem"], "no such problem"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        assert told in capsys.readouterr().err


def test_better_values_are_taken_over() -> None:
    records = {"a": Record("f", "open", 9, 7, (1,), ("x / y",)), "b": Record("g", "open", 9, 7, (1,), ())}
    claims = [
        Claim("a", 7, "better", (2,)),
        Claim("b", 8, "better", (3,)),
        Claim("b", 9, "equal", (4,)),
    ]
    updated = take_over(records, claims)
    assert updated["a"] == Record("f", "optimal", 7, 7, (2,), ())
    assert updated["b"] == Record("g", "open", 8, 7, (3,), ())
