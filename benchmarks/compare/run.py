"""Run the comparison: an instance per process, two at a time, going on where an interrupted run of the same
code stopped.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.compare import shared_data
from benchmarks.compare.plots import draw
from benchmarks.compare.specs import Spec, read_frozen
from benchmarks.compare.summary import summarise
from benchmarks.jobs import ONE_THREAD
from benchmarks.machine import publish, record
from benchmarks.provenance import STAMP, keep_same_code, stamp

COLUMNS = (
    "instance",
    "fingerprint",
    "group",
    "source",
    "shared_data",
    "pipeline",
    "stages",
    "arrivals",
    "queries",
    "rate_rps",
    "cv",
    "slo_factor",
    "slo_s",
    "planner",
    "status",
    "proof",
    "usd_per_hour",
    "lower_bound_usd_per_hour",
    "certificate_s",
    "p99_s",
    "miss_rate",
    "held_out_p99_s",
    "held_out_miss_rate",
    "held_out_miss_rate_oldest_first",
    "seconds",
    "cpu_seconds",
    "estimator_calls",
    "reason",
    *STAMP,
)
#: The page with plots; the documentation takes in the summary alone.
PAGE = """# Comparison with greedy

![Distribution of cost over cost of greedy, and the same by tightness of the objective](costs.png)

![Share of held-out queries that miss the objective, and cost against it](held_out.png)

{summary}"""
#: One in so many instances of each group is the quick part.
QUICK_SHARE = 40
ROWS = "compare.csv"
AT_ONCE = 2
#: Planners have limits of their own; one that does not keep to it must not hold up the others.
INSTANCE_LIMIT_S = 600.0


def run(folder: Path, *, quick: bool) -> None:
    """Measure every instance and write ``compare.csv``, a summary, machine and plots into `folder`.

    Rows are kept in ``partial.csv`` while the run lasts, and a ``compare.csv`` that does not hold every instance is
    gone on with; delete both to start anew. Rows of other code are never taken over.
    """
    if find_spec("numba") is None:
        raise SystemExit("this benchmark needs numba: pip install 'mipplan[bench]'")
    frozen = read_frozen()
    specs = [spec for spec in frozen if shared_data.is_present() or not spec.needs_shared_data]
    if quick:
        specs = _quick(specs)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / ("partial-quick.csv" if quick else "partial.csv")
    go_on(specs, None if quick else folder / ROWS, partial)
    failures = _measure_missing(specs, partial)
    if failures:
        raise SystemExit("\n".join(failures))
    in_order(_read(partial), frozen).to_csv(folder / ROWS, index=False, float_format="%.10g")
    record(folder / "machine.json", "compare")
    draw(report(folder), folder)
    partial.unlink()


def report(folder: Path) -> pd.DataFrame:
    """Write the summary of the rows in `folder`, and the page with plots; return the rows."""
    table = _read(folder / ROWS)
    publish(folder, summarise(table, frozen=len(read_frozen())), PAGE)
    return table


def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"fingerprint": str})


def in_order(table: pd.DataFrame, specs: Sequence[Spec]) -> pd.DataFrame:
    """Rows of these instances in their order, whenever each was done; rows of others are left out."""
    position = {spec.name: number for number, spec in enumerate(specs)}
    fingerprints = {spec.name: spec.fingerprint for spec in specs}
    kept = table[table["instance"].map(fingerprints) == table["fingerprint"]]
    return kept.sort_values("instance", key=lambda names: names.map(position), kind="stable").reset_index(
        drop=True
    )


def go_on(specs: Sequence[Spec], before: Path | None, partial: Path) -> None:
    """Take the rows of a run that left instances out as those of this one, unless it has begun already.

    Rows that other code has measured, in either file, are left out.
    """
    if before is not None and not partial.exists() and before.exists() and missing(specs, before):
        shutil.copyfile(before, partial)
    keep_same_code(partial, "compare")


def missing(specs: Sequence[Spec], partial: Path) -> list[Spec]:
    """Instances that have no rows yet, or those of another instance of that name."""
    if not partial.exists():
        return list(specs)
    done = pd.read_csv(partial, usecols=["instance", "fingerprint"], dtype=str)
    known = set(zip(done["instance"], done["fingerprint"], strict=True))
    return [spec for spec in specs if (spec.name, spec.fingerprint) not in known]


def _quick(specs: Sequence[Spec]) -> list[Spec]:
    groups = dict.fromkeys(spec.group for spec in specs)
    return [spec for group in groups for spec in [own for own in specs if own.group == group][::QUICK_SHARE]]


def _measure_missing(specs: Sequence[Spec], partial: Path) -> list[str]:
    """Append the rows of each instance once it is done; return what went wrong."""
    left = missing(specs, partial)
    done, failures, stamped = len(specs) - len(left), [], stamp("compare")
    for name, rows in _results(left):
        done += 1
        if isinstance(rows, str):
            failures.append(rows)
            continue
        _append(partial, [{**row, **stamped} for row in rows])
        print(f"[{done}/{len(specs)}] {name}", file=sys.stderr, flush=True)
    return failures


def _results(specs: Sequence[Spec]) -> Iterator[tuple[str, list[dict[str, Any]] | str]]:
    """Name and rows of each instance as it is done, or what went wrong with it."""
    # Planning times of large instances are an aim, so nothing else runs beside them.
    large = [spec for spec in specs if spec.group == "large"]
    others = [spec for spec in specs if spec.group != "large"]
    for together, workers in ((others, AT_ONCE), (large, 1)):
        with ThreadPoolExecutor(workers) as pool:
            running = {pool.submit(_in_own_process, spec.name): spec.name for spec in together}
            try:
                for finished in as_completed(running):
                    yield running[finished], finished.result()
            finally:
                pool.shutdown(cancel_futures=True)


def _append(partial: Path, rows: Sequence[dict[str, Any]]) -> None:
    is_new = not partial.exists()
    with partial.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if is_new:
            writer.writeheader()
        writer.writerows(rows)


def _in_own_process(name: str) -> list[dict[str, Any]] | str:
    command = [sys.executable, "-m", "benchmarks.compare.measure", name]
    environment = {**os.environ, **ONE_THREAD}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, timeout=INSTANCE_LIMIT_S
        )
    except subprocess.TimeoutExpired:
        return f"{' '.join(command)} was not done within {INSTANCE_LIMIT_S:g} s"
    if done.returncode != 0:
        # The end of it says what; the command shows the rest.
        return f"{' '.join(command)} failed: {' '.join(done.stderr.splitlines()[-1:])}"
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows
