"""Whether what older code found is still what today's finds: ``python -m benchmarks reproduce``.

Measuring all takes half a day, and most changes of the code that is measured change no answer. So a sample of jobs is
measured again, drawn by the key of today's code: nobody chooses it, and the next change draws another one. Answers are
compared, not times.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.jobs import AT_ONCE, ONE_THREAD, process_pool
from benchmarks.machine import describe
from benchmarks.provenance import code_key

#: A row that stopped at a time limit depends on the machine; those are counted, not compared.
STOPPED = ("feasible", "unknown")
#: Rows keep ten digits of sums in doubles.
TOLERANCE = 1e-9
WRITTEN = "reproduced.json"
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Sample:
    """What of a benchmark is measured again."""

    rows: str
    """The file of rows in its folder."""
    job: tuple[str, ...]
    """Columns that name a job, which `measure` is called with; rows of a job are measured together."""
    key: tuple[str, ...]
    """Columns that name a row among those of its job."""
    answers: tuple[str, ...]
    """Columns that have to be the same."""
    size: int
    """So many jobs, of some minutes altogether."""
    measure: Callable[..., Rows]


def _compared(instance: str) -> Rows:
    command = [sys.executable, "-m", "benchmarks.compare.measure", instance]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed; what it said is above")
    rows: Rows = json.loads(done.stdout)
    return rows


def _reliability(case: str) -> Rows:
    from benchmarks.reliability.measure import measure

    return measure(case)


def _tuner(pipeline: str, trace: str, draw: int) -> Rows:
    from benchmarks.tuner.run import measure_job

    return measure_job(pipeline, trace, draw)


def _race(pipeline: str, trace: str) -> Rows:
    from benchmarks.race.run import measure_job

    return measure_job(pipeline, trace)


#: Benchmarks of more than some minutes whose rows hold answers, and how a sample of them is measured again.
SAMPLES: Mapping[str, Sample] = {
    "compare": Sample("compare.csv", ("instance",), ("planner",), ("status", "usd_per_hour"), 12, _compared),
    "reliability": Sample(
        "reliability.csv",
        ("case",),
        ("planner", "of_slo", "headroom", "confidence"),
        ("status", "usd_per_hour", "parts", "kept", "test_kept", "all_kept"),
        6,
        _reliability,
    ),
    "tuner": Sample(
        "tuner.csv",
        ("pipeline", "trace", "draw"),
        ("policy", "setting"),
        ("queries", "misses", "usd", "actions", "least_usd"),
        6,
        _tuner,
    ),
    "race": Sample(
        "race.csv",
        ("pipeline", "trace"),
        ("family", "setting"),
        ("queries", "misses", "usd", "actions", "planned_usd_per_hour"),
        2,
        _race,
    ),
}


def reproduce(results: Path, samples: Mapping[str, Sample] = SAMPLES) -> None:
    """Measure a sample of each benchmark again and write what came of it beside its rows.

    Exits with a message where there are no rows at all.
    """
    there = {name: own for name, own in samples.items() if (results / name / own.rows).exists()}
    if not there:
        raise SystemExit(f"{results}: there are no rows that could be reproduced; run a benchmark first")
    for name, own in there.items():
        before = pd.read_csv(results / name / own.rows)
        jobs = [tuple(job) for job in before[list(own.job)].drop_duplicates().itertuples(index=False)]
        jobs = sorted(random.Random(code_key(name)).sample(sorted(jobs), min(own.size, len(jobs))))
        again = _measured(name, own, jobs)
        drawn = before.set_index(list(own.job)).index.isin([job if len(job) > 1 else job[0] for job in jobs])
        found = compare_rows(before[drawn], again, own)
        written = {**found, "jobs": [", ".join(map(str, job)) for job in jobs], "machine": describe(name)}
        (results / name / WRITTEN).write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")


def _measured(name: str, sample: Sample, jobs: list[tuple[Any, ...]]) -> pd.DataFrame:
    """Rows of these jobs, by today's code."""
    rows: Rows = []
    os.environ.update(ONE_THREAD)
    with process_pool(AT_ONCE) as pool:
        futures = {pool.submit(sample.measure, *job): job for job in jobs}
        for number, future in enumerate(as_completed(futures), 1):
            told = dict(zip(sample.job, futures[future], strict=True))
            rows += [{**row, **told} for row in future.result()]
            done = ", ".join(map(str, futures[future]))
            print(f"{name} [{number}/{len(jobs)}] {done}", file=sys.stderr, flush=True)
    return pd.DataFrame(rows)


def compare_rows(before: pd.DataFrame, again: pd.DataFrame, sample: Sample) -> dict[str, Any]:
    """Count rows whose answers are the same, rows that stopped at a limit, and name those that differ."""
    key = [*sample.job, *sample.key]
    columns = [*key, *sample.answers]
    # Cells that hold nothing are one thing, in files and out of them, and settings are numbers or words.
    tables = [table.reindex(columns=columns).astype(object) for table in (before, again)]
    tables = [table.assign(**{one: table[one].map(_plain) for one in key}) for table in tables]
    both = tables[0].merge(tables[1], on=key, how="outer", suffixes=("_before", "_again"), indicator=True)
    stopped = pd.Series(data=False, index=both.index)
    if "status" in sample.answers:
        stopped = both["status_before"].isin(STOPPED) | both["status_again"].isin(STOPPED)
    compared = both[~stopped]
    same = compared["_merge"] == "both"
    for answer in sample.answers:
        same &= _is_same(compared[f"{answer}_before"], compared[f"{answer}_again"])
    differing = [", ".join(filter(None, row)) for row in compared[~same][key].itertuples(index=False)]
    return {
        "compared": len(compared),
        "same": int(same.sum()),
        "stopped": int(stopped.sum()),
        "differing": differing,
    }


def _plain(cell: object) -> str:
    """One spelling of a cell: ``1``, ``1.0`` and ``1.000`` are one setting, and so are nothing and ``nan``."""
    text = str(cell)
    if text in {"", "nan", "None"}:
        return ""
    try:
        return f"{float(text):.10g}"
    except ValueError:
        return text


def _is_same(before: pd.Series[Any], again: pd.Series[Any]) -> pd.Series[bool]:
    """Whether answers are the same: numbers but for rounding, words exactly, nothing where there was nothing."""
    numbers = [pd.to_numeric(side, errors="coerce").to_numpy(float) for side in (before, again)]
    close = np.isclose(*numbers, rtol=TOLERANCE, atol=0.0)
    words = [side.map(_plain) for side in (before, again)]
    return close | (words[0] == words[1])


def tell_reproduced(path: Path, benchmark: str) -> str:
    """What a sample on today's code said, as a part of a sentence; empty where there is none of today's code."""
    written = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if written.get("machine", {}).get("code") != code_key(benchmark):
        return ""
    differing = f"; differing: {'; '.join(written['differing'])}" if written["differing"] else ""
    stopped = f" ({written['stopped']} stopped at a limit)" if written["stopped"] else ""
    return (
        f"; a sample of {len(written['jobs'])} jobs measured again on today's code: {written['same']:,} of "
        f"{written['compared']:,} answers are the same{differing}{stopped}"
    )
