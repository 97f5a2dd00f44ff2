"""Run the fleet benchmark: each size in a process of its own; goes on where an interrupted run of the same code
stopped.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd

import mipplan as mp
from benchmarks.fleet.instances import WORKERS, make_fleet, make_limits
from benchmarks.fleet.plots import draw
from benchmarks.fleet.summary import GAP, summarise
from benchmarks.machine import publish, record
from benchmarks.provenance import same_code, stamp

SIZES = (10, 30, 100, 300, 1000, 3000)
QUICK_SIZES = (10, 30)
ROWS = "fleet.csv"
_LINE = re.compile(r"^cost .*bound (?P<bound>[\d,.]+), best (?P<best>[\d,.]+)")


def run(folder: Path, *, quick: bool) -> None:
    """Measure every size and write ``fleet.csv``, a summary, machine and plot into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, stamped = rows_before(folder / ROWS), stamp("fleet")
    for pipelines in QUICK_SIZES if quick else SIZES:
        if any(row["pipelines"] == pipelines for row in rows):
            continue
        rows.append({**_in_own_process(pipelines), **stamped})
        print(f"{pipelines:,} pipelines: {rows[-1]['seconds']:.1f} s", file=sys.stderr, flush=True)
        pd.DataFrame(rows).to_csv(folder / ROWS, index=False, float_format="%.10g")
    record(folder / "machine.json", "fleet")
    draw(report(folder), folder)


def report(folder: Path) -> pd.DataFrame:
    """Write the summary of the rows in `folder`, and return them."""
    table = pd.read_csv(folder / ROWS).sort_values("pipelines")
    publish(folder, summarise(table))
    return table


def measure(pipelines: int) -> dict[str, Any]:
    """Plan one fleet in this process and its workers."""
    members, profiles, limits = make_fleet(pipelines), mp.Profiles.default(), make_limits(pipelines)
    seen: list[tuple[float, str]] = []
    started = time.perf_counter()
    fleet = mp.plan_fleet(
        members,
        profiles,
        limits=limits,
        n_jobs=WORKERS,
        time_limit_s=540.0,
        progress=lambda line: seen.append((time.perf_counter() - started, line)),
    )
    seconds = time.perf_counter() - started
    own_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    worker_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {
        "pipelines": pipelines,
        "queries": sum(len(trace) for _, trace, _, _ in members.values()),
        "status": fleet.status.value,
        "seconds": seconds,
        "to_gap_s": _reached(seen),
        "rounds": fleet.effort.rounds,
        "columns": fleet.effort.columns,
        "usd_per_hour": fleet.usd_per_hour,
        "lower_bound_usd_per_hour": fleet.lower_bound_usd_per_hour,
        "gap": fleet.gap,
        "binding": len(fleet.binding),
        # the largest worker counts for each of them
        "peak_mib": (own_kib + WORKERS * worker_kib) / 1024,
        "certified": sum(plan.certificate_ns <= plan.slo_ns for plan in fleet.plans.values()),
    }


def _reached(seen: list[tuple[float, str]]) -> float | None:
    """Seconds until bound and best fleet were within the aim's gap, by the lines of progress."""
    for seconds, line in seen:
        match = _LINE.match(line)
        if match:
            bound, best = (float(match[name].rstrip(",").replace(",", "")) for name in ("bound", "best"))
            if best - bound <= GAP * best:
                return seconds
    return None


def rows_before(path: Path) -> list[dict[str, Any]]:
    """Rows that an earlier run of the same code has left."""
    return same_code(pd.read_csv(path), "fleet").to_dict(orient="records") if path.is_file() else []


def _in_own_process(pipelines: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.fleet.run", str(pipelines)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    row: dict[str, Any] = json.loads(done.stdout)
    return row


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
