"""Results are tied to code: commits and keys are written, rows of other code are left out, pages say what rows say."""

from __future__ import annotations

import ast
import json
import math
import re
import shutil
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest

import campaigns
from benchmarks.__main__ import BENCHMARKS, RESULTS
from benchmarks.fleet.run import rows_before
from benchmarks.house.hops import measure_all
from benchmarks.machine import UNKNOWN, describe, headline, record
from benchmarks.planning.stopwatch import MEASURED, PHASES, Stopwatch
from benchmarks.planning.summary import explain_trees, judge_aims, judge_proofs, judge_trees
from benchmarks.provenance import (
    SUBJECTS,
    TELLING,
    code_key,
    code_parts,
    commit_of,
    files_of,
    is_dirty,
    keep_same_code,
    stamp,
)
from benchmarks.reproduce import SAMPLES, WRITTEN
from benchmarks.status import RESULTS as LISTED
from benchmarks.status import tell_status
from benchmarks.truth.servers import TRUTH_SYSTEMS
from benchmarks.tuner.run import missing

ROOT = Path(__file__).resolve().parents[1]
#: Whose results are still to come; a test says when one is here that should not be on this list.
NOT_RUN_YET: set[str] = set()
SUMMARISED = [name for name in BENCHMARKS if name not in {"house", *NOT_RUN_YET}]


# ------------------------------------------------------------------------------------------- the register


def test_only_results_that_are_missing_are_excused() -> None:
    assert {name for name in BENCHMARKS if not (RESULTS / name).is_dir()} == NOT_RUN_YET


def test_every_benchmark_has_a_subject_that_is_there() -> None:
    assert set(BENCHMARKS) <= set(SUBJECTS)
    for benchmark, subjects in SUBJECTS.items():
        for subject in subjects:
            assert any(files_of(subject)), f"{benchmark} measures {subject}, which is not there"
        assert (
            benchmark in ("ties", "shipped", "campaigns", "limits") or f"benchmarks/{benchmark}" in subjects
        )


@cache
def imported(path: Path) -> frozenset[str]:
    """What a file imports of the packages: rooms, and modules beside the rooms."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for parts in (name.split(".") for name in names):
            if parts[0] == "mipplan_formulations":
                found.add("formulations/mipplan_formulations")
            elif parts[0] == "mipplan" and parts[1:]:
                room = f"mipplan/{parts[1]}"
                found.add(room if (ROOT / room).is_dir() else f"{room}.py")
    return frozenset(found)


@pytest.mark.parametrize("benchmark", SUBJECTS)
def test_a_subject_holds_all_that_it_imports(benchmark: str) -> None:
    subjects = SUBJECTS[benchmark]
    files = [path for subject in subjects for path in files_of(subject) if path.suffix == ".py"]
    beyond = {name for path in files if not path.is_relative_to(ROOT / "tests") for name in imported(path)}
    assert {name for name in beyond if not name.startswith(subjects)} == set()


def test_a_request_stays_within_the_subject_of_its_benchmark() -> None:
    """The front loads rooms lazily, so what a call goes through is measured besides."""
    hops = measure_all()
    for call, benchmark in (
        ("plan, video-monitoring", "planning"),
        ("replay, numpy engine", "replay"),
        ("retune, first", "resolve"),
    ):
        files = [file for file in hops[call].files if file != "mipplan/__init__.py"]
        assert [file for file in files if not file.startswith(SUBJECTS[benchmark])] == []


def test_the_page_on_deployment_shows_every_system_that_was_driven() -> None:
    page = (ROOT / "docs" / "how-to" / "deploy.md").read_text(encoding="utf-8")
    (place,) = re.findall(r"benchmarks/results/truth/summary\.md:(\d+):(\d+)", page)
    first, last = map(int, place)
    lines = (RESULTS / "truth" / "summary.md").read_text(encoding="utf-8").splitlines()
    shown = lines[first - 1 : last]
    assert not lines[first - 2]
    assert not lines[last]
    assert [line.split(" | ")[0].removeprefix("| ") for line in shown[2:]] == [*TRUTH_SYSTEMS]


# ------------------------------------------------------------------------------------------- keys and commits


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the planning benchmark measures, and of its neighbour."""
    for subject in SUBJECTS["planning"]:
        source, copy = ROOT / subject, tmp_path / subject
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        else:
            shutil.copyfile(source, copy)
    return tmp_path


def test_a_key_is_of_the_files_measured_and_of_nothing_else(checkout: Path) -> None:
    key = code_key("planning", checkout)
    assert key == code_key("planning")
    telling = [path for path in (checkout / "benchmarks" / "planning").iterdir() if path.stem in TELLING]
    assert len(telling) == 2
    for path in (*telling, checkout / "mipplan" / "planner" / "NOTES.md", checkout / "mipplan" / "new.py"):
        path.write_text("# changed\n")
    assert code_key("planning", checkout) == key
    (checkout / "mipplan" / "planner" / "new.py").write_text("")
    parts = code_parts("planning", checkout)
    changed = [part for part, own in code_parts("planning").items() if parts[part] != own]
    assert changed == ["mipplan/planner"]
    assert code_key("planning", checkout) != key


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=nobody", "-c", "user.email=nobody@localhost")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_the_commit_is_that_of_the_checkout_and_none_outside(tmp_path: Path) -> None:
    assert (commit_of(tmp_path), is_dirty(tmp_path)) == (None, None)
    git(tmp_path, "init", "--quiet")
    (tmp_path / "file").write_text("a")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    assert (commit_of(tmp_path), is_dirty(tmp_path)) == (git(tmp_path, "rev-parse", "HEAD"), False)
    written = tmp_path / "benchmarks" / "results" / "new.csv"
    written.parent.mkdir(parents=True)
    written.write_text("")
    assert is_dirty(tmp_path) is False
    (tmp_path / "file").write_text("b")
    assert is_dirty(tmp_path) is True
    (tmp_path / "unpacked").mkdir()
    assert commit_of(tmp_path / "unpacked") is None  # somebody else's repository


def test_what_is_written_down_says_commit_and_code(tmp_path: Path) -> None:
    machine = describe("planning")
    assert machine["commit"] == commit_of()
    assert machine["code"] == code_key("planning")
    record(tmp_path / "machine.json", "planning")
    commit = commit_of()
    assert headline(tmp_path / "machine.json").startswith(
        f"*Measured on commit {commit[:7]}" if commit else "*Measured on code outside a checkout"
    )
    dirty = {**machine, "commit": "0123456789", "dirty": True, "measured": "2026-01-02"}
    (tmp_path / "machine.json").write_text(json.dumps(dirty))
    begun = "*Measured on commit 0123456 with uncommitted changes (2026-01-02), "
    assert headline(tmp_path / "machine.json").startswith(begun)
    assert headline(tmp_path / "none.json") == f"*Measured on {UNKNOWN}.*"


def test_a_campaign_says_commit_and_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaigns, "RESULTS", tmp_path)
    monkeypatch.setenv("MIPPLAN_DEEP", "1")
    campaigns.write_summary("some", {"cases": 3})
    written = json.loads((tmp_path / "some.json").read_text())
    assert written["cases"] == 3
    assert written["machine"]["commit"] == commit_of()
    assert written["machine"]["code"] == code_key("campaigns")


# ------------------------------------------------------------------------------------------- rows of other code


def test_rows_of_other_code_are_taken_out_of_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "partial.csv"
    keep_same_code(path, "tuner")
    rows = "name,fingerprint,code\na,007,{}\nb,1e9,other\nc,,\n"
    path.write_text(rows.format(code_key("tuner")))
    keep_same_code(path, "tuner")
    assert path.read_text() == f"name,fingerprint,code\na,007,{code_key('tuner')}\n"
    assert capsys.readouterr().err == "2 rows were measured on other code and are left out\n"
    keep_same_code(path, "fleet")
    assert not path.exists()


def test_the_tuner_goes_on_with_rows_of_the_same_code_only(tmp_path: Path) -> None:
    partial = tmp_path / "partial.csv"
    jobs = [("cascade", "spike", 0), ("cascade", "steady", 1)]
    columns = ["pipeline", "trace", "draw", "code"]
    pd.DataFrame([(*jobs[0], code_key("tuner"))], columns=columns).to_csv(partial, index=False)
    assert missing(jobs, partial) == jobs[1:]
    pd.DataFrame([(*job, "other") for job in jobs], columns=columns).to_csv(partial, index=False)
    assert missing(jobs, partial) == jobs


def test_the_fleet_goes_on_with_rows_of_the_same_code_only(tmp_path: Path) -> None:
    path = tmp_path / "fleet.csv"
    assert rows_before(path) == []
    rows = [{"pipelines": 10, **stamp("fleet")}, {"pipelines": 30, "code": "other"}]
    pd.DataFrame(rows).to_csv(path, index=False)
    assert [row["pipelines"] for row in rows_before(path)] == [10]
    # The committed rows are of a time when no key was written.
    pd.DataFrame([{"pipelines": 10}]).to_csv(path, index=False)
    assert rows_before(path) == []


# ------------------------------------------------------------------------------------------- what pages say


@pytest.mark.parametrize("benchmark", SUMMARISED)
def test_a_summary_says_what_the_rows_say(
    benchmark: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``python -m benchmarks --report`` writes them anew, and measures nothing."""
    folder = tmp_path / benchmark
    shutil.copytree(RESULTS / benchmark, folder)
    pages = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}
    import_module(BENCHMARKS[benchmark]).report(folder)
    assert {name: (folder / name).read_text(encoding="utf-8") for name in pages} == pages
    assert pages["summary.md"].startswith(headline(folder / "machine.json"))


def test_the_table_of_greedy_rules_says_what_it_was_measured_on() -> None:
    folder = RESULTS / "compare"
    assert (folder / "ties.md").read_text(encoding="utf-8").startswith(headline(folder / "ties.json"))


@pytest.mark.skipif(
    campaigns.is_deep(), reason="a long run writes results of its own, and the page follows after it"
)
def test_the_page_says_which_results_are_of_todays_code() -> None:
    written = (RESULTS / "status.md").read_text(encoding="utf-8")
    assert written == tell_status(RESULTS), "python -m benchmarks status writes it anew"
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert '--8<-- "benchmarks/results/status.md"' in page
    for benchmark in SUMMARISED:
        # One is told part by part on a page of its own (`tests/test_motivation.py`), another on that of its rival.
        own = benchmark if benchmark in ("motivation", "ipa") else "benchmarks"
        told = (ROOT / "docs" / f"{own}.md").read_text(encoding="utf-8")
        part = ":" if benchmark == "motivation" else '"'
        assert f'--8<-- "benchmarks/results/{benchmark}/summary.md{part}' in told


def test_status_tells_results_of_today_from_older_ones(tmp_path: Path) -> None:
    for name in ("planning", "fleet", "replay", "house", "campaigns"):
        (tmp_path / name).mkdir()
    record(tmp_path / "planning" / "machine.json", "planning")
    machine = describe("fleet")
    old = {**machine, "commit": "0123456789", "code_parts": {**machine["code_parts"], "mipplan/fleet": "old"}}
    (tmp_path / "fleet" / "machine.json").write_text(json.dumps(old))
    (tmp_path / "house" / "speed.json").write_text(json.dumps({"commits": {"now": "abcdef0"}}))
    for name in ("a", "b"):
        (tmp_path / "campaigns" / f"{name}.json").write_text("{}")
    rows = {line.split("|")[1].strip(): line.split("|")[2:4] for line in tell_status(tmp_path).splitlines()}
    assert rows["`planning`"][1] == " yes "
    assert rows["`fleet`"][0].startswith(" commit 0123456 ")
    assert rows["`fleet`"][1] == " no: changed since in `mipplan/fleet` "
    for name in ("`replay`", "`campaigns/`, 2 files"):
        assert rows[name] == [f" {UNKNOWN} ", " not known: no key was recorded "]
    assert rows["`house/speed.json`"][0] == " commit abcdef0 "


def test_status_has_every_result_that_says_what_it_was_measured_on() -> None:
    told = {file for _, file in LISTED.values()} | {f"{name}/{WRITTEN}" for name in SAMPLES}
    keyed = [path for path in RESULTS.rglob("*.json") if path.parent.name != "campaigns"]
    keyed = [path for path in keyed if "code_parts" in path.read_text(encoding="utf-8")]
    assert {path.relative_to(RESULTS).as_posix() for path in keyed} <= told


def test_status_tells_of_rows_that_are_of_other_code(tmp_path: Path) -> None:
    folder = tmp_path / "reliability"
    folder.mkdir()
    record(folder / "machine.json", "reliability")
    own, other = stamp("reliability"), {"commit": "0123456789", "dirty": False, "code": "other"}
    for rows, said in (([own, own], " |"), ([own, other, other], "; 2 of 3 rows on 0123456 |")):
        pd.DataFrame(rows).to_csv(folder / "reliability.csv", index=False)
        assert f"({describe('reliability')['measured']}){said}" in tell_status(tmp_path)


def test_the_command_prints_the_status(tmp_path: Path) -> None:
    shutil.copytree(RESULTS / "planning", tmp_path / "planning")
    command = [sys.executable, "-m", "benchmarks", "status", "--results", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == (tmp_path / "status.md").read_text().strip()
    assert "| `planning` |" in done.stdout


# ------------------------------------------------------------------------------------------- aims


def planned(
    seconds: float, seed: int, *, stages: int = 5, queries: int = 100_000, mib: float = 200.0
) -> dict:
    row = {"shape": "chain", "stages": stages, "queries": queries, "seed": seed}
    return {**row, "seconds": seconds, "peak_mib": mib}


def test_an_aim_of_planning_is_kept_if_every_run_keeps_it() -> None:
    rows = [planned(0.05, 1, stages=3), planned(0.09, 1), planned(0.08, 2)]
    assert judge_aims(pd.DataFrame(rows))[-1].endswith("| chain | 0.05–0.09 s | kept in each of 3 runs |")
    # Five stages miss it in one run; in the median they keep it.
    (line,) = judge_aims(pd.DataFrame([*rows, planned(0.14, 3)]))[2:]
    assert line.endswith("| missed in 1 of 4 runs, worst 5 stages, seed 3: 1.4 times as much |")
    large = [planned(2.0, 1, queries=1_000_000, mib=900.0), planned(2.0, 2, queries=1_000_000, mib=1_536.0)]
    (line,) = judge_aims(pd.DataFrame(large))[2:]
    assert line.endswith(
        "| 2.00–2.00 s, 1536 MiB | missed in 1 of 2 runs, worst 5 stages, seed 2: 1.5 times as much |"
    )


def test_trees_are_set_beside_chains_of_as_many_stages_and_queries() -> None:
    rows = [planned(seconds, 1, stages=stages) for stages, seconds in ((3, 0.1), (5, 0.2))]
    trees = [
        {**planned(seconds, 1, stages=stages), "shape": "tree"} for stages, seconds in ((3, 0.12), (5, 0.5))
    ]
    assert judge_trees(pd.DataFrame(rows)) == []
    (line,) = judge_trees(pd.DataFrame([*rows, *trees]))
    assert line.endswith("| missed in 1 of 2 pairs, worst 5 stages, 100,000 queries: 2.50 times a chain |")
    (line,) = judge_trees(pd.DataFrame([*rows, trees[0]]))
    assert line.endswith("| kept in each of 1 pairs |")


def test_every_function_that_the_planning_benchmark_times_is_there() -> None:
    with Stopwatch().running():
        assert {phase for phase, _, _ in PHASES} == {*MEASURED}


def test_where_trees_take_longer_is_told_by_its_largest_parts() -> None:
    def medians(tree_s: float, **tree: float) -> pd.DataFrame:
        parts = dict.fromkeys([*MEASURED, "other"], 0.01)
        chain = {"shape": "chain", "stages": 5, "queries": 100_000, "seconds": 0.1, **parts}
        return pd.DataFrame([chain, {**chain, "shape": "tree", "seconds": tree_s, **tree}])

    *_, line = explain_trees(medians(0.2, waits=0.07, solve=0.03, certify=0.02, other=0.02))
    assert line.startswith("| 5 | 100,000 | 0.100 | waits 60%, solve 20%, ")
    *_, heading, rule = explain_trees(medians(0.09))
    assert (heading, rule) == ("| stages | queries | more, s | in |", "|---|---|---|---|")
    assert explain_trees(medians(0.2)[:1]) == []


def test_plans_that_are_not_proven_are_named() -> None:
    rows = [{**planned(1.0, seed), "status": status} for seed, status in ((1, "optimal"), (2, "feasible"))]
    (line,) = judge_proofs(pd.DataFrame(rows))
    assert line == (
        "| proven cheapest within the limit | chain | 1 of 2 | missed in 1: 5 stages, 100,000 queries, seed 2 |"
    )


def test_the_readme_says_of_planning_what_its_rows_say() -> None:
    rows = pd.read_csv(RESULTS / "planning" / "planning.csv")
    chain, tree = (own.groupby(["stages", "queries"])["seconds"].median() for _, own in rows.groupby("shape"))
    few, many, long = tree[5, 100_000], tree[5, 1_000_000], tree[10, 100_000]
    ratios = few / chain[5, 100_000], many / chain[5, 1_000_000]
    said = f"{few:.1f} s on 100,000 queries and {many:.1f} s on a million, {min(ratios):.1f} to {max(ratios):.1f}"
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"{said} times as long as chains; those of ten stages {long:.1f} s on 100,000" in text


def test_the_readme_says_how_long_retuning_takes() -> None:
    rows = pd.read_csv(RESULTS / "resolve" / "resolve.csv").set_index(["case", "way"])["median_ms"]
    plain, fanned_out = rows["10 stages", "mipplan retune"], rows["10 stages, fan-out", "mipplan retune"]
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"replica counts of ten stages in {plain:.1f} ms ({fanned_out:.1f} ms with fan-outs)" in text


def test_the_page_says_how_well_a_second_measurement_reproduces_p50() -> None:
    rows = pd.read_csv(RESULTS / "models" / "repeated.csv")
    off = (rows["second_p50_ms"] / rows["first_p50_ms"] - 1).abs().max()
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert f"P50 comes out within {math.ceil(100 * off)} %" in page
