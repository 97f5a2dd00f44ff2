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
from benchmarks.machine import publish, record
from benchmarks.planning import variants
from benchmarks.planning.instances import make_pipeline, make_profiles, make_trace, objective_s
from benchmarks.planning.plots import draw
from benchmarks.planning.stopwatch import MEASURED, Stopwatch
from benchmarks.planning.summary import summarise, summarise_variants

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
ROWS = "planning.csv"


def run(folder: Path, *, quick: bool) -> None:
    """Measure every case and write the rows of both kinds, a summary, machine and plots into `folder`."""
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
    pd.DataFrame(rows).to_csv(folder / ROWS, index=False, float_format="%.6g")
    chosen = (("chain",), (1,)) if quick else (variants.SHAPES, variants.SEEDS)
    rows = []
    for row in variants.measure_all(*chosen):
        rows.append(row)
        case = "{shape}, seed {seed}, objective {objective:g}, floor {floor:g}".format(**row)
        print(f"variants, {case}: {row['seconds']:.2f} s, {row['status']}", file=sys.stderr, flush=True)
    pd.DataFrame(rows).to_csv(folder / variants.ROWS, index=False, float_format="%.6g")
    record(folder / "machine.json", "planning")
    draw(report(folder), folder)


def report(folder: Path) -> pd.DataFrame:
    """Write the summary of the rows in `folder`, and return them."""
    table = pd.read_csv(folder / ROWS)
    publish(folder, summarise(table) + summarise_variants(pd.read_csv(folder / variants.ROWS)))
    return table


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
