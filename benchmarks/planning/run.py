"""Run the planning benchmark: each case in a process of its own, so that peak memory is that of one call."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import mipplan as mp
from benchmarks.machine import describe
from benchmarks.planning.instances import make_pipeline, make_profiles, make_trace, objective_s
from benchmarks.planning.plots import draw
from benchmarks.planning.stopwatch import Stopwatch

#: (stages, queries): growth with stages at 10⁵ queries, growth with queries at 5 stages.
CASES = [(stages, 100_000) for stages in (1, 3, 4, 5, 10, 20)] + [
    (5, queries) for queries in (10_000, 1_000_000, 10_000_000)
]
QUICK_CASES = [(3, 10_000), (5, 10_000)]
SHAPES = ("chain", "tree")
SEEDS = (1, 2)
#: A case is planned so often, unless once takes this long already (seconds).
REPEATS = 3
LONG_S = 5.0
TIME_LIMIT_S = 10.0
#: … or so many per query, whichever is longer.
TIME_LIMIT_PER_QUERY_S = 1e-5
MEASURED = ("trace analysis", "waits", "options", "build", "relax", "solve", "enumerate", "certify")


def run(folder: Path, *, quick: bool) -> None:
    """Measure every case and write ``planning.csv``, a summary, machine and plots into `folder`."""
    cases = QUICK_CASES if quick else CASES
    jobs = [
        (shape, stages, queries, seed)
        for stages, queries in cases
        for shape in SHAPES
        for seed in (SEEDS[:1] if quick or queries > 1_000_000 else SEEDS)
    ]
    rows = []
    for number, job in enumerate(jobs, start=1):
        rows.append(_in_own_process(job))
        shown = f"{rows[-1]['shape']} {rows[-1]['stages']} stages, {rows[-1]['queries']:,} queries"
        print(f"[{number}/{len(jobs)}] {shown}: {rows[-1]['seconds']:.3f} s", file=sys.stderr, flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows)
    table.to_csv(folder / "planning.csv", index=False, float_format="%.6g")
    (folder / "machine.json").write_text(json.dumps(describe(), indent=2) + "\n")
    summary = summarise(table)
    (folder / "summary.md").write_text(summary)
    draw(table, folder)
    print(summary)


def measure(shape: str, stages: int, queries: int, seed: int) -> dict[str, Any]:
    """Plan one instance, three times if that is quick, in this process and keep the median by total time."""
    pipeline, profiles = make_pipeline(shape, stages, seed), make_profiles(stages, seed)
    trace = make_trace(queries, seed)
    slo_s = objective_s(pipeline, profiles)
    # Imports and first calls of every library are not what is measured.
    mp.plan(make_pipeline("chain", 2, 0), make_profiles(2, 0), make_trace(1_000, 0), slo_s=1.0)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    limit_s = max(TIME_LIMIT_S, TIME_LIMIT_PER_QUERY_S * queries)
    runs: list[tuple[float, Stopwatch, mp.Plan]] = []
    while len(runs) < REPEATS and (not runs or runs[0][0] < LONG_S):
        stopwatch = Stopwatch()
        started = time.perf_counter()
        with stopwatch.running():
            plan = mp.plan(pipeline, profiles, trace, slo_s=slo_s, time_limit_s=limit_s)
        runs.append((time.perf_counter() - started, stopwatch, plan))
    seconds, stopwatch, plan = sorted(runs, key=lambda item: item[0])[len(runs) // 2]
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    parts = {name: stopwatch.seconds[name] for name in MEASURED}
    return {
        "shape": shape,
        "stages": stages,
        "queries": queries,
        "seed": seed,
        "status": plan.status.value,
        "usd_per_hour": plan.usd_per_hour,
        "masters": stopwatch.calls["solve"],
        "seconds": seconds,
        **parts,
        "other": seconds - sum(parts.values()),
        "peak_mib": peak_kib / 1024,
        "before_mib": before_kib / 1024,
    }


def summarise(table: pd.DataFrame) -> str:
    """Medians per number of stages and queries, as a Markdown table."""
    columns = ["seconds", *MEASURED, "other", "masters", "peak_mib"]
    medians = table.groupby(["shape", "stages", "queries"])[columns].median().reset_index()
    lines = [
        "| shape | stages | queries | total s | " + " | ".join(MEASURED) + " | other | masters | peak MiB |"
    ]
    lines.append("|---" * (len(columns) + 3) + "|")
    for row in medians.itertuples(index=False):
        shape, stages, queries, *figures = row
        parts = " | ".join(f"{figure:.3f}" for figure in figures[:-2])
        lines.append(
            f"| {shape} | {stages} | {queries:,} | {parts} | {figures[-2]:.0f} | {figures[-1]:.0f} |"
        )
    statuses = ", ".join(f"{count} {status}" for status, count in table["status"].value_counts().items())
    lines.append(f"\nMedian of {len(table)} runs ({statuses}); times in seconds, one process each.")
    return "\n".join([*lines, "", *judge_aims(table)]) + "\n"


def judge_aims(table: pd.DataFrame) -> list[str]:
    """Set the aims against what was measured, as lines of a Markdown table."""
    lines = ["| aim | shape | measured | |", "|---|---|---|---|"]
    for shape, own in table.groupby("shape"):
        large = own[(own["stages"] == 5) & (own["queries"] == 1_000_000)]
        deep = own[(own["stages"] == 10) & (own["queries"] == 100_000)]
        usual = own[own["stages"].between(3, 5) & (own["queries"] == 100_000)]
        if large.empty or deep.empty or usual.empty:
            continue
        peak_mib = large["peak_mib"].max()
        for aim, seconds, limit_s, kept in (
            ("5 stages, 10⁶ queries: 3 s and 1 GiB", large["seconds"].median(), 3.0, peak_mib <= 1024),
            ("10 stages, 10⁵ queries: 1 s", deep["seconds"].median(), 1.0, True),
            ("3 to 5 stages, 10⁵ queries: 0.1 s", usual["seconds"].median(), 0.1, True),
        ):
            verdict = (
                "kept" if kept and seconds <= limit_s else f"missed ({seconds / limit_s:.1f} times as long)"
            )
            memory = f", {peak_mib:.0f} MiB" if "GiB" in aim else ""
            lines.append(f"| {aim} | {shape} | {seconds:.2f} s{memory} | {verdict} |")
    return lines if len(lines) > 2 else []


def _in_own_process(job: tuple[str, int, int, int]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.planning.run", *map(str, job)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    row: dict[str, Any] = json.loads(done.stdout)
    return row


if __name__ == "__main__":
    np.seterr(all="raise")
    print(json.dumps(measure(sys.argv[1], *map(int, sys.argv[2:5]))))
