"""Run the replay benchmark: each case in a process of its own, going on where an interrupted run stopped.

All answers are held to each other.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

import mipplan
from benchmarks.machine import describe
from benchmarks.replay.cases import Case, list_cases
from benchmarks.replay.plots import draw
from benchmarks.replay.summary import summarise

NEEDED = ("numba", "simpy", "ciw")
#: Packages of ours that a replay spends its time in, and files here that a case is measured by.
MEASURED = ("replayer", "tokens", "result")
MEASURING = ("measure.py", "instances.py", "peers.py")
#: What makes a case another one for all engines alike.
INSTANCE = ["arrivals", "queries", "rate_rps", "discipline", "stages", "single_token", "plans", "plans_are"]
#: Means of Ciw, which counts in float seconds, and of streams are not the same to the last digit.
ROUNDING = 1e-9


def run(folder: Path, *, quick: bool) -> None:
    """Measure every case and write ``replay.csv``, a summary, machine and plots into `folder`.

    Rows are kept in ``partial.jsonl`` while the run lasts, and an interrupted one goes on from there as long as the
    code is the same.
    """
    missing = [package for package in NEEDED if find_spec(package) is None]
    if missing:
        raise SystemExit(f"this benchmark needs {', '.join(missing)}: pip install 'mipplan[bench]'")
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / ("partial-quick.jsonl" if quick else "partial.jsonl")
    cases = list_cases(quick=quick)
    rows = _measure_missing(cases, partial)
    write_results(rows, len(cases), folder)
    partial.unlink()


def write_results(rows: list[dict[str, Any]], cases: int, folder: Path) -> None:
    """Write what was measured, of so many cases."""
    table = pd.DataFrame(rows)
    table.to_csv(folder / "replay.csv", index=False, float_format="%.10g")
    check_agreement(table)
    (folder / "machine.json").write_text(json.dumps(describe(), indent=2) + "\n")
    summary = summarise(table, cases)
    (folder / "summary.md").write_text(summary)
    draw(table, folder)
    print(summary)


def _measure_missing(cases: Sequence[Case], partial: Path) -> list[dict[str, Any]]:
    """Rows of all cases, in their order; those measured now are appended to the file."""
    code = fingerprint()
    done = read_rows(partial, code)
    rows = []
    for number, case in enumerate(cases, start=1):
        key = json.dumps(asdict(case))
        if key not in done:
            row = _in_own_process(case)
            with partial.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"code": code, "case": key, "row": row}) + "\n")
            done[key] = row
            shown = (
                f"{case.group}, {case.engine}, {case.arrivals}, {case.queries:,} queries, {case.plans} plans"
            )
            print(f"[{number}/{len(cases)}] {shown}: {row['seconds']:.3f} s", file=sys.stderr, flush=True)
        rows.append(done[key])
    return rows


def read_rows(partial: Path, code: str) -> dict[str, dict[str, Any]]:
    """Rows that an interrupted run of the same code left, by case; half a line at the end is none."""
    rows: dict[str, dict[str, Any]] = {}
    if partial.exists():
        for line in partial.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                kept = json.loads(line)
                if kept["code"] == code:
                    rows[kept["case"]] = kept["row"]
    return rows


def fingerprint() -> str:
    """Of the source files that are measured, and that measure: not of all that other work may change."""
    package, here = Path(mipplan.__file__).parent, Path(__file__).parent
    measured = [path for part in MEASURED for path in sorted((package / part).rglob("*.py"))]
    digest = hashlib.blake2b(digest_size=8)
    for path in (*measured, *(here / name for name in MEASURING)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def check_agreement(table: pd.DataFrame) -> None:
    """Refuse rows of one instance whose latencies differ: in any nanosecond, or (Ciw, streams) in the mean.

    Raises
    ------
    RuntimeError
        Naming the instance.
    """
    for instance, rows in table.groupby(INSTANCE):
        means = rows["latency_mean_ms"]
        if (
            len(rows["digest"].dropna().drop_duplicates()) > 1
            or means.max() - means.min() > ROUNDING * means.max()
        ):
            found = rows[["group", "engine", "digest", "latency_mean_ms"]].to_string(index=False)
            raise RuntimeError(
                f"different latencies for {dict(zip(INSTANCE, instance, strict=True))}:\n{found}"
            )


def _in_own_process(case: Case) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.replay.measure", json.dumps(asdict(case))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    row: dict[str, Any] = json.loads(done.stdout)
    return row
