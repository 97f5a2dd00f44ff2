"""Whether what older code found is still what today's finds: ``python -m benchmarks reproduce``.

Measuring the comparison takes an hour and more, and most changes of the code that it measures change no answer. So a
sample of its instances is measured again, drawn by the key of today's code: nobody chooses it, and the next change
draws another one. Answers are compared, not times.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.machine import describe
from benchmarks.provenance import code_key

SAMPLE = 12
KEY = ["instance", "planner"]
#: A row that stopped at a time limit depends on the machine; those are counted, not compared.
STOPPED = ("feasible", "unknown")
#: Costs are sums of prices in doubles.
TOLERANCE = 1e-9
WRITTEN = "reproduced.json"


def reproduce(results: Path, size: int = SAMPLE) -> None:
    """Measure `size` instances of the comparison again and write what came of it beside its rows.

    Exits with a message where there are no rows, or where an instance fails.
    """
    from benchmarks.compare.run import AT_ONCE, ROWS

    folder = results / "compare"
    if not (folder / ROWS).exists():
        raise SystemExit(f"{folder / ROWS}: there are no rows that could be reproduced; run `compare` first")
    before = pd.read_csv(folder / ROWS)
    names = sorted(before["instance"].unique())
    names = sorted(random.Random(code_key("compare")).sample(names, min(size, len(names))))
    again: list[dict[str, Any]] = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for number, rows in enumerate(pool.map(_measure, names), 1):
            again += rows
            print(f"[{number}/{len(names)}] {names[number - 1]}", file=sys.stderr, flush=True)
    found = {**compare_rows(before[before["instance"].isin(names)], pd.DataFrame(again)), "instances": names}
    written = {**found, "machine": describe("compare")}
    (folder / WRITTEN).write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")


def _measure(name: str) -> list[dict[str, Any]]:
    from benchmarks.compare.run import ONE_THREAD

    command = [sys.executable, "-m", "benchmarks.compare.measure", name]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=False, env={**os.environ, **ONE_THREAD}
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed; what it said is above")
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def compare_rows(before: pd.DataFrame, again: pd.DataFrame) -> dict[str, Any]:
    """Count rows whose status and cost are the same, rows that stopped at a limit, and name those that differ."""
    both = before.merge(again, on=KEY, how="outer", suffixes=("_before", "_again"))
    stopped = both["status_before"].isin(STOPPED) | both["status_again"].isin(STOPPED)
    compared = both[~stopped]
    costs = compared["usd_per_hour_before"], compared["usd_per_hour_again"]
    same_cost = (costs[0].isna() & costs[1].isna()) | ((costs[0] - costs[1]).abs() <= TOLERANCE * costs[1])
    same = (compared["status_before"] == compared["status_again"]) & same_cost
    differing = compared[~same][KEY].agg(", ".join, axis=1) if not same.all() else []
    return {
        "compared": len(compared),
        "same": int(same.sum()),
        "stopped": int(stopped.sum()),
        "differing": list(differing),
    }


def tell_reproduced(path: Path) -> str:
    """What a sample on today's code said, as a part of a sentence; empty where there is none of today's code."""
    written = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if written.get("machine", {}).get("code") != code_key("compare"):
        return ""
    differing = f"; differing: {'; '.join(written['differing'])}" if written["differing"] else ""
    return (
        f"; a sample of {len(written['instances'])} instances measured again on today's code: "
        f"{written['same']} of {written['compared']} proven answers are the same{differing} "
        f"({written['stopped']} stopped at a limit)"
    )
