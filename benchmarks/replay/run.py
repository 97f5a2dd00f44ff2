"""Run the replay benchmark: each case in a process of its own, and all answers held to each other."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.machine import describe
from benchmarks.replay.cases import Case, list_cases
from benchmarks.replay.plots import draw
from benchmarks.replay.summary import summarise

NEEDED = ("numba", "simpy", "ciw")
#: What makes a case another one for all engines alike.
INSTANCE = ["arrivals", "queries", "rate_rps", "discipline", "stages", "single_token", "plans", "plans_are"]
#: Means of Ciw, which counts in float seconds, and of streams are not the same to the last digit.
ROUNDING = 1e-9


def run(folder: Path, *, quick: bool) -> None:
    """Measure every case and write ``replay.csv``, a summary, machine and plots into `folder`."""
    missing = [package for package in NEEDED if find_spec(package) is None]
    if missing:
        raise SystemExit(f"this benchmark needs {', '.join(missing)}: pip install 'mipplan[bench]'")
    cases = list_cases(quick=quick)
    rows = []
    for number, case in enumerate(cases, start=1):
        rows.append(_in_own_process(case))
        shown = f"{case.group}, {case.engine}, {case.arrivals}, {case.queries:,} queries, {case.plans} plans"
        print(f"[{number}/{len(cases)}] {shown}: {rows[-1]['seconds']:.3f} s", file=sys.stderr, flush=True)
    table = pd.DataFrame(rows)
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "replay.csv", index=False, float_format="%.10g")
    check_agreement(table)
    (folder / "machine.json").write_text(json.dumps(describe(), indent=2) + "\n")
    summary = summarise(table)
    (folder / "summary.md").write_text(summary)
    draw(table, folder)
    print(summary)


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
