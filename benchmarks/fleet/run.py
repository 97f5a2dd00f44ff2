"""Run the fleet benchmark: each size in a process of its own; goes on where an interrupted run stopped."""

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
from benchmarks.fleet.instances import LIMITS, make_fleet, make_limits
from benchmarks.fleet.plots import draw
from benchmarks.machine import describe

SIZES = (10, 30, 100, 300, 1000, 3000)
QUICK_SIZES = (10, 30)
WORKERS = 2
#: What counts as good: the aim for 1,000 pipelines.
GAP, AIM_S, AIM_MIB = 0.01, 120.0, 2048
_LINE = re.compile(r"^cost .*bound (?P<bound>[\d,.]+), best (?P<best>[\d,.]+)")


def run(folder: Path, *, quick: bool) -> None:
    """Measure every size and write ``fleet.csv``, a summary, machine and plot into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = _measured_before(folder / "fleet.csv")
    for pipelines in QUICK_SIZES if quick else SIZES:
        if any(row["pipelines"] == pipelines for row in rows):
            continue
        rows.append(_in_own_process(pipelines))
        print(f"{pipelines:,} pipelines: {rows[-1]['seconds']:.1f} s", file=sys.stderr, flush=True)
        pd.DataFrame(rows).to_csv(folder / "fleet.csv", index=False, float_format="%.6g")
    table = pd.DataFrame(rows).sort_values("pipelines")
    (folder / "machine.json").write_text(json.dumps(describe(), indent=2) + "\n")
    (folder / "summary.md").write_text(summarise(table))
    draw(table, folder)
    print(summarise(table))


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


def summarise(table: pd.DataFrame) -> str:
    """One row per size, and the aim against what was measured."""
    heads = ("pipelines", "queries", "total s", "s to 1 %", "ms per pipeline", "rounds", "plans found")
    heads += ("binding limits", "$/h", "proven gap", "peak MiB")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in table.to_dict(orient="records"):
        reached = "" if pd.isna(row["to_gap_s"]) else f"{row['to_gap_s']:.1f}"
        lines.append(
            f"| {row['pipelines']:,} | {row['queries']:,} | {row['seconds']:.1f} | {reached} | "
            f"{1e3 * row['seconds'] / row['pipelines']:.0f} | {row['rounds']} | {row['columns']:,} | "
            f"{row['binding']} | {row['usd_per_hour']:,.2f} | {row['gap']:.4%} | {row['peak_mib']:.0f} |"
        )
    shared = ", ".join(f"{share:g} {name}" for name, share in LIMITS.items())
    lines += [
        "",
        f"Five stages each, {shared} per pipeline, {WORKERS} workers, each size once and in processes of its own.",
        "Peak memory is that of the main process plus the largest worker's for each worker.",
    ]
    large = table[table["pipelines"] == 1000]
    if not large.empty:
        row = large.iloc[0]
        lines += ["", _verdict(row)]
    return "\n".join(lines) + "\n"


def _verdict(row: pd.Series) -> str:
    reached = row["to_gap_s"]
    quick_enough = not pd.isna(reached) and reached <= AIM_S
    kept = quick_enough and row["gap"] <= GAP and row["peak_mib"] <= AIM_MIB
    shown = "never" if pd.isna(reached) else f"{reached:.1f} s"
    return (
        f"Aim for 1,000 pipelines: a proven gap of at most {GAP:.0%} within {AIM_S:.0f} s and {AIM_MIB} MiB. "
        f"Measured: {shown}, {row['peak_mib']:.0f} MiB: {'kept' if kept else 'missed'}."
    )


def _measured_before(path: Path) -> list[dict[str, Any]]:
    return pd.read_csv(path).to_dict(orient="records") if path.is_file() else []


def _in_own_process(pipelines: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.fleet.run", str(pipelines)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    row: dict[str, Any] = json.loads(done.stdout)
    return row


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
