"""Run the replay benchmark: each case in a process of its own, going on where an interrupted run stopped.

All answers are held to each other.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.machine import publish, record
from benchmarks.provenance import code_key, stamp, tell_left_out
from benchmarks.replay.cases import Case, list_cases
from benchmarks.replay.plots import draw
from benchmarks.replay.summary import summarise

NEEDED = ("numba", "simpy", "ciw")
ROWS = "replay.csv"
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
    table = pd.DataFrame(rows)
    table.to_csv(folder / ROWS, index=False, float_format="%.10g")
    check_agreement(table)
    record(folder / "machine.json", "replay")
    draw(report(folder, len(cases)), folder)
    partial.unlink()


def report(folder: Path, cases: int | None = None) -> pd.DataFrame:
    """Write the summary of the rows in `folder`, of so many cases (of a whole run by default); return the rows."""
    table = pd.read_csv(folder / ROWS)
    publish(folder, summarise(table, len(list_cases(quick=False)) if cases is None else cases))
    return table


def _measure_missing(cases: Sequence[Case], partial: Path) -> list[dict[str, Any]]:
    """Rows of all cases, in their order; those measured now are appended to the file."""
    code = code_key("replay")
    done, stamped = read_rows(partial, code), stamp("replay")
    rows = []
    for number, case in enumerate(cases, start=1):
        key = json.dumps(asdict(case))
        if key not in done:
            row = {**_in_own_process(case), **stamped}
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
    others = 0
    if partial.exists():
        for line in partial.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                kept = json.loads(line)
                if kept["code"] == code:
                    rows[kept["case"]] = kept["row"]
                else:
                    others += 1
    tell_left_out(others)
    return rows


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
