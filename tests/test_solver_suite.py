"""The solver benchmark: whatever becomes of a run is a row, contradictions come out, and figures are what rows say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.instances.best_known import Record
from benchmarks.instances.specs import read_frozen
from benchmarks.provenance import code_key
from benchmarks.solvers import run as running
from benchmarks.solvers.aims import find_aims
from benchmarks.solvers.figures import (
    bound_gaps,
    means_by_pair,
    shifted_geometric_mean,
    solves,
)
from benchmarks.solvers.jobs import LP_SOLVERS, MIP_SOLVERS, Job, list_jobs
from benchmarks.solvers.processes import Ending, family_of
from benchmarks.solvers.rows import COLUMNS, make_row
from benchmarks.solvers.summary import summarise
from benchmarks.solvers.verdicts import find_contradictions, judge, update_records
from mipplan.plots import performance_profile
from mipplan_formulations import FORMULATIONS

ROOT = Path(__file__).resolve().parents[1]
FROZEN = read_frozen()
SMALL = next(spec for spec in FROZEN if spec.group == "suite" and spec.family == "chain")
JOB = Job(SMALL.name, "solve", "paths", "highs", 0, 0.0, 5.0)


# -------------------------------------------------------------------------------- processes, from crash to hang


def _run(program: str, **limits: float) -> Ending:
    """Run `program`, which defines `work`, in a process of its own with a single thread, as the benchmark does."""
    code = (
        "import json, dataclasses\nfrom benchmarks.solvers.processes import run_limited\n"
        f"{program}\nprint(json.dumps(dataclasses.asdict(run_limited(work, **{limits!r}))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return Ending(**json.loads(done.stdout))


def test_work_returns_its_result() -> None:
    ending = _run("def work():\n print('noise')\n return {'a': 1}", time_limit_s=20, memory_limit_mib=1000)
    assert (ending.kind, ending.result) == ("done", {"a": 1})
    assert ending.cpu_s > 0
    assert 1 < ending.peak_mib < 1000


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ("raise ValueError('no such luck')", "error", "ValueError: no such luck"),
        ("os.abort()", "crash", "signal 6"),
        ("os.kill(os.getpid(), 9)", "crash", "signal 9"),
        ("ctypes.string_at(0)", "crash", "signal 11"),
        ("os._exit(7)", "crash", "exit code 7"),
        ("os.write(2, b'out of luck'); os._exit(7)", "crash", "exit code 7: out of luck"),
    ],
)
def test_a_crash_is_an_ending(body: str, kind: str, message: str) -> None:
    ending = _run(f"import ctypes, os\ndef work():\n {body}", time_limit_s=20, memory_limit_mib=1000)
    assert (ending.kind, ending.message) == (kind, message)


def test_a_hanging_run_is_killed_with_its_children() -> None:
    program = "import subprocess\ndef work():\n subprocess.run(['sleep', '98765'])"
    ending = _run(program, time_limit_s=0.5, memory_limit_mib=1000)
    assert ending.kind == "timeout"
    assert ending.wall_s >= 0.5
    assert not any(b"98765" in line for line in _command_lines())


def test_a_run_that_eats_memory_is_killed() -> None:
    program = "def work():\n eaten = []\n while True: eaten.append(bytearray(2**24))"
    ending = _run(program, time_limit_s=60, memory_limit_mib=300)
    assert ending.kind == "memory"
    assert 300 < ending.peak_mib < 2_000


def test_memory_of_child_processes_counts() -> None:
    child = "import time; eaten = bytearray(2**28); time.sleep(60)"
    program = f"import subprocess, sys\ndef work():\n subprocess.run([sys.executable, '-c', {child!r}])"
    assert _run(program, time_limit_s=30, memory_limit_mib=250).kind == "memory"


def test_processes_that_end_while_they_are_looked_at_are_no_fault() -> None:
    """Solvers start programs that last for milliseconds, and the kernel answers in three ways for one just gone."""
    forking = "import os\nwhile True:\n child = os.fork()\n if not child: os._exit(0)\n os.waitpid(child, 0)"
    with subprocess.Popen([sys.executable, "-c", forking]) as parent:
        try:
            sizes = {len(family_of(parent.pid)) for _ in range(20_000)}
        finally:
            parent.kill()
    assert sizes <= {1, 2}


def _command_lines() -> Iterator[bytes]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes()
        except OSError:
            continue


# ---------------------------------------------------------------------------------------------- rows, resuming


def test_every_kind_of_ending_is_a_full_row() -> None:
    ending = Ending(
        "done", {"termination": "optimal", "objective": 10, "lower_bound": 8.0}, "", 1.0, 1.0, 50.0
    )
    for other in (
        ending,
        replace(ending, kind="timeout", result={}, message="killed: timeout limit"),
        replace(ending, kind="crash", result={}, message="signal 11"),
    ):
        row = make_row(SMALL, JOB, other, 30, 1)
        assert set(row) <= set(COLUMNS)
        assert row["termination"] == other.result.get("termination", other.kind)
    assert make_row(SMALL, JOB, ending, 30, 1)["relative_gap"] == pytest.approx(0.2)


def test_a_plan_that_breaks_something_is_a_wrong_row() -> None:
    result = {"termination": "optimal", "objective": 10, "selection": [1], "faults": ["path 0 takes 9"]}
    row = make_row(SMALL, JOB, Ending("done", result, "", 1.0, 1.0, 50.0), 30, 1)
    assert (row["termination"], row["message"]) == ("wrong", "path 0 takes 9")


def test_one_problem_is_run_by_everything() -> None:
    rows = _measure([job for job in list_jobs([SMALL]) if job.solver != "pdlp"])
    solved = [row for row in rows if row["kind"] == "solve"]
    assert {(row["formulation"], row["solver"]) for row in solved} >= {
        (formulation, solver) for formulation in FORMULATIONS for solver in MIP_SOLVERS
    } | {("native", "labels"), ("native", "cp_sat_native"), ("auto", "auto")}
    assert {row["termination"] for row in solved} == {"optimal"}
    assert len({(row["objective"]) for row in solved}) == 1
    for row in rows:
        assert set(row) <= set(COLUMNS)
        assert row["solver_version"]
        assert row["processor"]
        assert row["solve_s"] >= 0
        assert row["peak_mib"] >= row["before_mib"] * 0.5
    relaxed = [row for row in rows if row["kind"] == "relax"]
    assert {row["solver"] for row in relaxed} == set(LP_SOLVERS) - {"pdlp"}
    for row in relaxed:
        assert row["lower_bound"] <= solved[0]["objective"]


def test_models_are_handed_over_and_relaxed_by_every_backend() -> None:
    loads = [replace(JOB, kind="load", solver=solver) for solver in MIP_SOLVERS]
    rows = _measure([*loads, replace(JOB, kind="relax", solver="pdlp")])
    assert [row["termination"] for row in rows] == ["loaded"] * len(MIP_SOLVERS) + ["optimal"]


def test_solvers_that_crash_hang_or_eat_memory_are_rows() -> None:
    """The process that runs the jobs, with a `perform` that does what each job's solver is called."""
    program = (
        "import os, sys, time\n"
        "from benchmarks.solvers import measure\n"
        "def perform(job, problem):\n"
        "    if job.solver == 'crash': os.abort()\n"
        "    if job.solver == 'hang': time.sleep(1000)\n"
        "    if job.solver == 'eat': eaten = [bytearray(2**24) for _ in range(10**6)]\n"
        "    return {'termination': 'optimal', 'objective': 1}\n"
        "measure.perform, measure.GRACE_S = perform, 0.1\n"
        f"measure.main({SMALL.name!r})\n"
    )
    jobs = [
        replace(JOB, solver=solver, time_limit_s=limit_s, memory_limit_mib=600.0)
        for solver, limit_s in (("crash", 20.0), ("hang", 0.4), ("eat", 20.0), ("fine", 20.0))
    ]
    rows = _measure(jobs, [sys.executable, "-c", program])
    assert [row["termination"] for row in rows] == ["crash", "timeout", "memory", "optimal"]
    assert [row["solver"] for row in rows] == ["crash", "hang", "eat", "fine"]


def _measure(jobs: list[Job], command: list[str] | None = None) -> list[dict[str, object]]:
    done = subprocess.run(
        command or [sys.executable, "-m", "benchmarks.solvers.measure", SMALL.name],
        input="".join(f"{json.dumps(asdict(job))}\n" for job in jobs),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **running.ONE_THREAD},
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_only_what_has_no_row_is_run_again(tmp_path: Path) -> None:
    specs, partial = FROZEN[:2], tmp_path / "partial.csv"
    jobs = list_jobs(specs)
    assert running.missing(specs, partial) == jobs
    first, second = (_row(**asdict(job), fingerprint=specs[0].fingerprint) for job in jobs[:2])
    pd.DataFrame([second, {**first, "fingerprint": "another"}]).to_csv(partial, index=False)
    assert running.missing(specs, partial) == [jobs[0], *jobs[2:]]


def test_rows_of_other_code_are_not_gone_on_with(tmp_path: Path) -> None:
    partial, asked = tmp_path / "partial-quick.csv", []

    def measure(_: str, jobs: Sequence[Job]) -> Iterator[dict[str, object]]:
        asked.append(len(jobs))
        return (_row(**asdict(job), fingerprint=SMALL.fingerprint, solver_version="1") for job in jobs)

    jobs = list_jobs([SMALL])
    for code, left in ((code_key("solvers"), len(jobs) - 2), ("of other code", len(jobs))):
        rows = [_row(**asdict(job), fingerprint=SMALL.fingerprint, code=code) for job in jobs[:2]]
        pd.DataFrame(rows).to_csv(partial, index=False)
        running.run(
            tmp_path, quick=True, specs=[SMALL], measure=measure, records_path=tmp_path / "known.json"
        )
        assert asked.pop() == left
        table = pd.read_csv(tmp_path / "solvers.csv")
        assert set(table["code"]) == {code_key("solvers")}
        assert len(table) == len(jobs)


def test_rows_come_in_the_order_of_the_jobs_whenever_they_were_done() -> None:
    specs = FROZEN[:2]
    jobs = list_jobs(specs)
    prints = {spec.name: spec.fingerprint for spec in specs}
    rows = [_row(**asdict(job), fingerprint=prints[job.instance]) for job in jobs]
    stray = [{**rows[0], "fingerprint": "another"}, {**rows[0], "solver": "gone"}]
    ordered = running.in_order(pd.DataFrame([*stray, *reversed(rows)]), specs)
    assert ordered["solver"].tolist() == [job.solver for job in jobs]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_whole_rows_and_no_process(tmp_path: Path, number: int) -> None:
    command = [sys.executable, "-m", "benchmarks", "solvers", "--quick", "--results", str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stderr is not None
        while "] " not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(number)
        assert process.wait(timeout=60) == running.INTERRUPTED
        assert "the next run goes on from there" in process.stderr.read()
    rows = running.read_rows(tmp_path / "solvers" / "partial-quick.csv")
    assert len(rows) >= 1
    assert rows["termination"].notna().all()
    ends_at = time.monotonic() + 10
    while any(
        b"benchmarks.solvers.measure" in line and FROZEN[0].name.encode() in line for line in _command_lines()
    ):
        assert time.monotonic() < ends_at
        time.sleep(0.1)


# -------------------------------------------------------------------------------------------------- verdicts


def test_rows_that_fit_together_are_not_wrong() -> None:
    judged = judge(_rows())
    assert find_contradictions(judged) == []
    assert (judged["termination"] != "wrong").all()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"termination": "infeasible", "objective": None, "lower_bound": None}, "said to be infeasible"),
        ({"objective": 101.0, "lower_bound": 90.0}, "said to be optimal at 101"),
        ({"termination": "feasible", "objective": 120.0, "lower_bound": 101.0}, "bound 101"),
        ({"kind": "relax", "objective": None, "lower_bound": 100.6}, "bound 100.6"),
        ({"objective": 112.0, "lower_bound": 99.0, "gap": 0.1}, "said to be optimal at 112"),
    ],
)
def test_a_row_that_a_plan_refutes_is_wrong(change: dict[str, object], reason: str) -> None:
    rows = pd.DataFrame([*_rows().to_dict("records"), _row(instance="a", solver="scip", **change)])
    (line,) = find_contradictions(judge(rows))
    assert line.startswith("a: ")
    assert f"scip, seed 0: {reason}" in line
    assert "there is a plan of 100" in line


@pytest.mark.parametrize(
    "change",
    [
        {"termination": "feasible", "objective": 120.0, "lower_bound": 100.0},
        {"objective": 108.0, "lower_bound": 99.0, "gap": 0.1},
        {"kind": "relax", "objective": None, "lower_bound": 100.0},
        {"termination": "error", "objective": None, "lower_bound": None},
    ],
)
def test_a_row_that_no_plan_refutes_is_not(change: dict[str, object]) -> None:
    rows = pd.DataFrame([*_rows().to_dict("records"), _row(instance="a", solver="scip", **change)])
    assert find_contradictions(judge(rows)) == []


def test_contradictions_make_the_run_fail(tmp_path: Path) -> None:
    wrong = _row(instance=SMALL.name, fingerprint=SMALL.fingerprint, solver="cbc", objective=101.0)
    right = _row(instance=SMALL.name, fingerprint=SMALL.fingerprint, solver="highs")
    (limit_s,) = {job.time_limit_s for job in list_jobs([SMALL]) if (job.kind, job.gap) == ("solve", 0.0)}
    rows = [{**row, "gap": 0.0, "time_limit_s": limit_s} for row in (right, wrong)]
    with pytest.raises(SystemExit, match="paths / cbc, seed 0: said to be optimal at 101"):
        running.run(
            tmp_path,
            quick=True,
            specs=[SMALL],
            measure=lambda _name, _jobs: iter(rows),
            records_path=tmp_path / "known.json",
        )
    assert "**1 rows are wrong:**" in (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert set(json.loads((tmp_path / "known.json").read_text())) == {SMALL.name}


def test_records_keep_the_best_of_old_and_new() -> None:
    rows = _rows()
    old = Record("f-a", "open", 105, 99, (9,), ())
    updated = update_records({"a": old}, judge(rows))
    assert updated["a"] == Record(
        "f-a", "optimal", 100, 100, (0, 1), ("auto / auto", "levels / highs", "paths / highs")
    )
    better = Record("f-a", "optimal", 99, 99, (3,), ("paths / scip",))
    assert update_records({"a": better}, judge(rows))["a"].cost == 99
    other = Record("f-other", "optimal", 9, 9, (3,), ("paths / scip",))
    assert update_records({"a": other}, judge(rows))["a"].cost == 100
    assert updated["b"] == Record("f-b", "infeasible", None, None, (), ("paths / highs",))
    assert (updated["c"].status, updated["c"].cost, updated["c"].lower_bound) == ("open", 50, 40)


# ----------------------------------------------------------------------------------------------- figures


def test_shifted_geometric_mean_by_hand() -> None:
    assert shifted_geometric_mean(pd.Series([0.9, 9.9]), 0.1) == pytest.approx(10**0.5 - 0.1)
    assert np.isnan(shifted_geometric_mean(pd.Series([], dtype=float)))


def test_what_is_not_decided_counts_with_the_limit() -> None:
    solved = solves(_rows(), "suite")
    times = {(row.instance, row.pair): row.seconds for row in solved.itertuples()}
    assert times["a", "paths / highs"] == pytest.approx(1.01)
    assert times["b", "paths / highs"] == pytest.approx(1.01)  # infeasible is an answer, too
    assert times["c", "paths / highs"] == times["b", "levels / highs"] == 10.0
    assert means_by_pair(solved).index[0] == "paths / highs"


def test_performance_profile_by_hand() -> None:
    times = pd.DataFrame({"x": [1.0, 4.0, np.inf, np.inf], "y": [2.0, 1.0, 3.0, np.inf]})
    profile = performance_profile(times)
    # Of three problems that anything decides, x is fastest on one, y on two and within 2 on all.
    assert profile["x"].to_dict() == {1.0: 1 / 3, 2.0: 1 / 3, 4.0: 2 / 3}
    assert profile["y"].to_dict() == {1.0: 2 / 3, 2.0: 1.0, 4.0: 1.0}
    assert performance_profile(times, 4.0)["x"].loc[1.0] == pytest.approx(2 / 3)


def test_gaps_of_bounds_by_hand() -> None:
    gaps = bound_gaps(_rows(), {"a": 100})
    assert gaps.loc[("chain", "a"), "paths"] == pytest.approx(0.1)
    assert gaps.loc[("chain", "a"), "levels"] == pytest.approx(0.02)


def test_aims_say_what_the_rows_say() -> None:
    aims = {(aim.text.split(",")[0], aim.by): aim for aim in find_aims(_rows())}
    ten = {by: aim for (text, by), aim in aims.items() if text.startswith("10 stages")}
    assert ten["fastest pair: paths / highs"].found == pytest.approx(0.05)
    assert ten["fastest pair: paths / highs"].outcome == "kept"
    assert ten["auto / auto"].outcome == (
        "missed: 1 of 1 runs, worst d, 5 times as much; in the median 5 times as much"
    )
    other = _row(instance="d2", group="ten-stages", build_s=0.0, cpu_s=0.14)
    pooled = [
        aim for aim in find_aims(pd.DataFrame([*_rows().to_dict("records"), other])) if aim.by[0] == "f"
    ]
    assert pooled[0].outcome == "missed: 1 of 2 runs, worst d2, 1.4 times as much; in the median kept"
    (built,) = [aim for (text, _), aim in aims.items() if text.startswith("100")]
    assert (built.found, built.by, built.outcome) == (0.75, "paths, 2 stages, slowest: scip", "kept")
    killed = pd.DataFrame(
        [*_rows().to_dict("records"), _row(**_LARGE, solver="cp_sat", termination="memory")]
    )
    (killed_one,) = [aim for aim in find_aims(killed) if aim.text.startswith("100,")]
    assert (killed_one.by, killed_one.outcome) == (
        "paths, 2 stages, slowest: cp_sat",
        "missed: not within the limits",
    )
    open_one = _row(
        instance="h", group="hundred-stages", termination="feasible", lower_bound=94.0, relative_gap=0.06
    )
    (hundred,) = find_aims(pd.DataFrame([open_one]))
    assert (hundred.by, hundred.outcome) == (
        "fastest pair: paths / highs",
        "missed: 1 of 1 runs, worst h, not within the limits; in the median 6.0 % left at the limit",
    )
    (ratio,) = [aim for (text, by), aim in aims.items() if by == "auto beside paths / highs"]
    assert ratio.outcome.startswith("missed")


def test_summary_says_what_there_is_and_its_tables_are_even() -> None:
    judged = judge(_rows())
    records = update_records({}, judged)
    text = summarise(judged, records, [], frozen=9)
    assert text.startswith("5 of 9 frozen problems")
    assert "leaves 25 % of the modes" in text
    assert "`auto` ended: 1 by labels." in text
    assert "No two results contradict each other." in text
    assert "| chain | 10.00 % / 10.00 % (1) | 2.00 % / 2.00 % (1) |" in text
    assert "**1 rows are wrong:** oh dear." in summarise(judged, records, ["oh dear"], frozen=9)
    for line, following in pairwise([*text.splitlines(), ""]):
        if line.startswith("|") and following.startswith("|"):
            assert line.count("|") == following.count("|")


def test_the_page_says_of_a_hundred_stages_what_the_rows_say() -> None:
    """How near `auto` and linear models come to the best plans known; and which pair is the fastest on the suite."""
    table = pd.read_csv(ROOT / "benchmarks" / "results" / "solvers" / "solvers.csv")
    known = json.loads((ROOT / "benchmarks" / "instances" / "best_known.json").read_text(encoding="utf-8"))
    keys = ["kind", "formulation", "solver", "instance"]
    rows = table[table["group"] == "hundred-stages"].set_index(keys).sort_index()
    solved, relaxed = rows.loc["solve"], rows.loc["relax"]
    auto, first = solved.loc["auto", "auto"], min(known, key=lambda name: "served3-1.6x-51" not in name)
    gaps = 100 * auto["relative_gap"]
    linear = 100 * solved.loc["potentials", "highs"]["relative_gap"]
    best = known[first]["cost"]
    below = [
        100 * (1 - relaxed.loc[name, "highs_lp", first]["lower_bound"] / best) for name in ("paths", "levels")
    ]
    above = 100 * (solved.loc["paths", "highs", first]["objective"] / best - 1)
    page = " ".join((ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8").split())
    for sentence in (
        f"within {gaps.max():.1f} %;",
        f"`potentials` by HiGHS leaves {linear.min():.1f} to {linear.max():.1f} %",
        f"bounds {below[0]:.1f} % and {below[1]:.1f} % below the best plan known of the first",
        f"the plans that HiGHS finds with `paths` are {above:.1f} % too dear",
    ):
        assert sentence in page, sentence
    for name in ("paths", "potentials"):
        assert (auto["lower_bound"] > solved.loc[name, "highs"]["lower_bound"]).all()
    assert (solved.loc["levels", "highs"]["termination"] == "no_solution_found").all()
    assert gaps.max() <= 0.5
    forty = table[(table["group"] == "forty-stages") & (table["kind"] == "solve")]
    own = forty[forty["formulation"] == "potentials"].set_index("solver")
    assert (own.loc["cp_sat", "termination"] == "no_solution_found").all()
    assert own.loc["highs", "relative_gap"].max() < 0.001
    assert set(own["modes"]) == {14_000}
    assert "the fastest pair of a formulation and a solver on the suite;" in page
    fastest = [
        pair for pair in means_by_pair(solves(table, "suite")).index if pair.split(" / ")[0] in FORMULATIONS
    ]
    assert fastest[0] == "paths / cp_sat"


def _row(**given: object) -> dict[str, object]:
    row: dict[str, object] = {
        **dict.fromkeys(COLUMNS),
        "fingerprint": f"f-{given.get('instance')}",
        "kind": "solve",
        "formulation": "paths",
        "solver": "highs",
        "seed": 0,
        "gap": 0.0,
        "time_limit_s": 10.0,
        "group": "suite",
        "family": "chain",
        "stages": 2,
        "modes": 4,
        "paths": 1,
        "termination": "optimal",
        "objective": 100.0,
        "lower_bound": 100.0,
        "build_s": 0.01,
        "solve_s": 1.0,
        "cpu_s": 1.01,
        "process_s": 1.2,
        "peak_mib": 100.0,
        "columns": 4,
        "binaries": 4,
        "rows": 3,
        "nonzeros": 9,
        **given,
    }
    if row["kind"] == "solve" and row["objective"] is not None and row["selection"] is None:
        row["selection"] = "0 1"
    return row


_LARGE = {"instance": "e", "group": "building", "kind": "load", "objective": None, "lower_bound": None}


def _rows() -> pd.DataFrame:
    """A is decided by all, b infeasible by one, c open; d is of the ten-stage aim, and a large model was built."""
    nothing = {"objective": None, "lower_bound": None}
    relaxed = {"instance": "a", "kind": "relax", "solver": "highs_lp", "objective": None}
    ten = {"instance": "d", "group": "ten-stages", "build_s": 0.0}
    auto = {"formulation": "auto", "solver": "auto"}
    return pd.DataFrame(
        [
            _row(instance="a"),
            _row(instance="a", formulation="levels", cpu_s=9.0),
            _row(instance="a", cpu_s=9.5, by="labels", modes_left=1, **auto),
            _row(**relaxed, lower_bound=90.0),
            _row(**relaxed, formulation="levels", lower_bound=98.0),
            _row(instance="b", termination="infeasible", **nothing),
            _row(instance="b", formulation="levels", termination="crash", **nothing),
            _row(instance="b", **auto, termination="timeout", **nothing),
            _row(instance="c", termination="feasible", objective=50.0, lower_bound=40.0, selection="1 1"),
            _row(**ten, cpu_s=0.05),
            _row(**ten, **auto, cpu_s=0.5),
            _row(
                instance="e",
                group="building",
                kind="load",
                solver="highs",
                binaries=100_000,
                termination="loaded",
                cpu_s=0.2,
                **nothing,
            ),
            _row(
                instance="e",
                group="building",
                kind="load",
                solver="scip",
                binaries=100_000,
                termination="loaded",
                cpu_s=0.75,
                **nothing,
            ),
        ]
    )
