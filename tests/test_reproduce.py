"""A sample of a benchmark's jobs, measured again, says how many answers are still the same."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.machine import describe
from benchmarks.reproduce import SAMPLES, WRITTEN, Sample, compare_rows, reproduce
from benchmarks.status import RESULTS, tell_status

COMPARE = SAMPLES["compare"]


def rows_of(*rows: tuple[str, str, float | None]) -> pd.DataFrame:
    """Rows of one instance: planner, status and cost."""
    columns = ["planner", "status", "usd_per_hour"]
    return pd.DataFrame(rows, columns=columns).assign(instance="video-0")


def test_answers_that_differ_are_named_and_those_at_a_limit_are_not_compared() -> None:
    before = rows_of(
        ("greedy", "given", 2.0),
        ("paced", "optimal", 1.5),
        ("sharp", "feasible", 3.0),
        ("eager", "infeasible", None),
    )
    assert compare_rows(before, before, COMPARE) == {
        "compared": 3,
        "same": 3,
        "stopped": 1,
        "differing": [],
    }
    again = rows_of(
        ("greedy", "given", 2.1),
        ("paced", "infeasible", None),
        ("sharp", "optimal", 2.9),
        ("timed", "optimal", 1.0),
    )
    found = compare_rows(before, again, COMPARE)
    assert (found["compared"], found["same"], found["stopped"]) == (4, 0, 1)
    assert found["differing"] == [f"video-0, {name}" for name in ("eager", "greedy", "paced", "timed")]


def test_cells_are_the_same_however_a_file_spells_them(tmp_path: Path) -> None:
    own = Sample("", ("job",), ("setting",), ("usd", "kept", "word"), 1, list)
    before = pd.DataFrame(
        {
            "job": [1, 1],
            "setting": [0.5, None],
            "usd": [0.1 + 0.2, 1.0],
            "kept": [3, None],
            "word": ["a", None],
        }
    )
    before.to_csv(tmp_path / "rows.csv", index=False, float_format="%.10g")
    read = pd.read_csv(tmp_path / "rows.csv")
    assert compare_rows(read, before, own)["same"] == 2
    for column, other in {"usd": 0.3001, "kept": 4, "word": "b"}.items():
        found = compare_rows(read, before.assign(**{column: [other, before[column][1]]}), own)
        assert (found["same"], found["differing"]) == (1, ["1, 0.5"])
    found = compare_rows(read, before.assign(usd=[before["usd"][0], 2.0]), own)
    assert found["differing"] == ["1"]  # the one without a setting


def measure_twice(job: str) -> list[dict[str, object]]:
    """A job of two rows, as long as its name."""
    return [{"name": job, "setting": setting, "usd": float(len(job) + setting)} for setting in (1, 2)]


def test_a_sample_of_jobs_is_measured_again_and_told_while_the_code_is_the_same(tmp_path: Path) -> None:
    sample = Sample("tuner.csv", ("name",), ("setting",), ("usd",), 2, measure_twice)
    folder = tmp_path / "tuner"
    folder.mkdir()
    jobs = ["steady", "ramp", "day"]
    rows = pd.DataFrame([row for job in jobs for row in measure_twice(job)])
    rows.assign(usd=rows["usd"].where(rows["name"] != "ramp", 0.0)).to_csv(folder / "tuner.csv", index=False)
    reproduce(tmp_path, {"tuner": sample})
    written = json.loads((folder / WRITTEN).read_text())
    assert len(written["jobs"]) == 2
    assert set(written["jobs"]) < set(jobs)
    assert (written["compared"], written["same"]) == (4, 4 - 2 * ("ramp" in written["jobs"]))
    machine = describe("tuner")
    old = {**machine, "code_parts": {**machine["code_parts"], "mipplan/tuner": "old"}}
    (folder / "machine.json").write_text(json.dumps(old))
    assert f"2 jobs measured again on today's code: {written['same']} of 4 answers" in tell_status(tmp_path)
    written["machine"]["code"] = "other"
    (folder / WRITTEN).write_text(json.dumps(written))
    assert "measured again" not in tell_status(tmp_path)


def test_without_rows_there_is_nothing_to_reproduce(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no rows"):
        reproduce(tmp_path)


def test_samples_are_of_results_and_their_columns_are_there() -> None:
    for name, sample in SAMPLES.items():
        benchmark, machine = RESULTS[name]
        assert (benchmark, machine) == (name, f"{name}/machine.json")
        path = Path(__file__).parents[1] / "benchmarks" / "results" / name / sample.rows
        columns = set(pd.read_csv(path, nrows=1))
        assert {*sample.job, *sample.key, *sample.answers} <= columns
        assert not pd.read_csv(path).duplicated([*sample.job, *sample.key]).any()
