"""Run every pair of formulation and solver on every problem, going on where an interrupted run of the same code
stopped.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.compare import shared_data
from benchmarks.instances.best_known import RECORDS
from benchmarks.instances.specs import Spec, read_frozen
from benchmarks.jobs import ONE_THREAD
from benchmarks.machine import record
from benchmarks.provenance import keep_same_code, stamp
from benchmarks.solvers.jobs import Job, list_jobs
from benchmarks.solvers.processes import INTERRUPTED, terminated_like_interrupted
from benchmarks.solvers.report import report, write_report
from benchmarks.solvers.rows import COLUMNS, KEY

#: One in so many problems of each group is the quick part.
QUICK_SHARE = 30
PARTIAL = "partial.csv"
#: `report` is of every benchmark's front.
__all__ = ["measured_rows", "report", "report_so_far", "run"]


def measured_rows(name: str, jobs: Sequence[Job]) -> Iterator[dict[str, Any]]:
    """Rows of the jobs of one problem, from a process that holds it; which ends with this generator."""
    command = [sys.executable, "-m", "benchmarks.solvers.measure", name]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **ONE_THREAD}
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise AssertionError("pipes were asked for")
        try:
            process.stdin.write("".join(f"{json.dumps(asdict(job))}\n" for job in jobs))
            process.stdin.close()
            for line in process.stdout:
                yield json.loads(line)
        except BaseException:
            process.terminate()  # it ends the run under way first
            process.wait()
            raise
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed with exit code {process.returncode}")


def run(
    folder: Path,
    *,
    quick: bool,
    specs: Sequence[Spec] | None = None,
    measure: Callable[[str, Sequence[Job]], Iterator[dict[str, Any]]] = measured_rows,
    records_path: Path = RECORDS,
) -> None:
    """Run all jobs and write ``solvers.csv``, a summary, machine and plots into `folder`.

    Rows are kept in ``partial.csv`` while the run lasts; delete it to start anew. Rows of other code are never taken
    over. Ctrl-C, or SIGTERM, ends the run
    under way, and the next call goes on from there.

    Parameters
    ----------
    folder : Path
    quick : bool
        Run a few problems of each group only.
    specs : sequence of Spec, optional
        The problems; left out, all frozen ones whose data are here.
    measure : callable
        Makes the rows of some jobs of the problem of that name, as they are done.
    records_path : Path
        Best known values, updated in place.

    Raises
    ------
    SystemExit
        If the run was interrupted, or results contradict each other: the report is there all the same.
    """
    specs = _present() if specs is None else specs
    if quick:
        specs = _quick(specs)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / ("partial-quick.csv" if quick else PARTIAL)
    try:
        with terminated_like_interrupted():
            _measure_missing(specs, partial, measure)
    except KeyboardInterrupt:
        print(f"interrupted; rows so far are in {partial}, the next run goes on from there", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    contradictions = _report(partial, specs, folder, records_path)
    partial.unlink()
    if contradictions:
        raise SystemExit("\n".join(contradictions))


def report_so_far(folder: Path) -> None:
    """Write the report of the rows that an interrupted run has left in `folder`.

    Raises
    ------
    SystemExit
        If results contradict each other.
    """
    keep_same_code(folder / PARTIAL, "solvers")
    contradictions = _report(folder / PARTIAL, _present(), folder, RECORDS)
    if contradictions:
        raise SystemExit("\n".join(contradictions))


def _present() -> list[Spec]:
    return [spec for spec in read_frozen() if shared_data.is_present() or not spec.needs_shared_data]


def _report(partial: Path, specs: Sequence[Spec], folder: Path, records_path: Path) -> list[str]:
    record(folder / "machine.json", "solvers")
    return write_report(in_order(read_rows(partial), specs), folder, records_path)


def read_rows(path: Path) -> pd.DataFrame:
    """Read rows; what identifies and selections are texts."""
    return pd.read_csv(
        path, dtype={"fingerprint": str, "selection": str, "solver_version": str, "message": str}
    )


def key_of(entry: dict[str, Any]) -> tuple[str, ...]:
    """What tells a row or job apart, the same after a detour through a file."""
    return tuple(f"{float(entry[name]):.9g}" if name in _NUMBERS else str(entry[name]) for name in KEY)


_NUMBERS = ("seed", "gap", "time_limit_s")


def missing(specs: Sequence[Spec], partial: Path) -> list[Job]:
    """Jobs that have no row yet, or those of another problem of that name."""
    fingerprints = {spec.name: spec.fingerprint for spec in specs}
    jobs = list_jobs(specs)
    if not partial.exists():
        return jobs
    done = {key_of(row) for row in read_rows(partial).to_dict("records")}
    return [
        job for job in jobs if key_of({**asdict(job), "fingerprint": fingerprints[job.instance]}) not in done
    ]


def in_order(table: pd.DataFrame, specs: Sequence[Spec]) -> pd.DataFrame:
    """Rows of the jobs of these problems, in their order, whenever each was done; others are left out."""
    fingerprints = {spec.name: spec.fingerprint for spec in specs}
    position = {
        key_of({**asdict(job), "fingerprint": fingerprints[job.instance]}): number
        for number, job in enumerate(list_jobs(specs))
    }
    places = pd.Series([position.get(key_of(row), -1) for row in table.to_dict("records")], index=table.index)
    return table.loc[places[places >= 0].sort_values(kind="stable").index].reset_index(drop=True)


def _quick(specs: Sequence[Spec]) -> list[Spec]:
    groups = dict.fromkeys(spec.group for spec in specs)
    return [spec for group in groups for spec in [own for own in specs if own.group == group][::QUICK_SHARE]]


def _measure_missing(
    specs: Sequence[Spec], partial: Path, measure: Callable[[str, Sequence[Job]], Iterator[dict[str, Any]]]
) -> None:
    """Append a row for each job as it is done."""
    keep_same_code(partial, "solvers")
    left, stamped = missing(specs, partial), stamp("solvers")
    done, total = len(list_jobs(specs)) - len(left), len(list_jobs(specs))
    for name in dict.fromkeys(job.instance for job in left):
        for row in measure(name, [job for job in left if job.instance == name]):
            _append(partial, {**row, **stamped})
            done += 1
            shown = f"{row['instance']}: {row['kind']} {row['formulation']} / {row['solver']}"
            print(f"[{done}/{total}] {shown}: {row['termination']}", file=sys.stderr, flush=True)


def _append(partial: Path, row: dict[str, Any]) -> None:
    """Append whole rows only, so that a file cut short by a kill is still one of rows."""
    is_new = not partial.exists()
    with partial.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if is_new:
            writer.writeheader()
        writer.writerow(row)
