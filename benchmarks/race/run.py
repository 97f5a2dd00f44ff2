"""Run every entrant on every pipeline and draw, going on where an interrupted run of the same code stopped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import mipplan as mp
from benchmarks.jobs import begin, measure_missing
from benchmarks.machine import publish, record
from benchmarks.race.entrants import RATES_RPS, WORTHS_USD, entrants, measure
from benchmarks.race.plots import draw
from benchmarks.race.summary import summarise
from benchmarks.race.traffic import FINAL, REAL_DAYS, day_name, drawn_traffic, real_day

#: A job is a pipeline on one trace: `draw N`, or the name of a real day.
KEYS = ["pipeline", "trace"]
ROWS = "race.csv"
#: Real days are thinned to 1.4 million queries.
DAY_RPS = 1_400_000 / 86_400
QUICK_S = 90.0
_DRAW = "draw "
PAGE = """# The race

![Cost and misses of every policy at every setting](frontier.png)

{summary}"""


def run(folder: Path, *, quick: bool) -> None:
    """Write ``race.csv``, a summary, machine and plots into `folder`.

    Rows are kept in ``partial.csv`` while the run lasts; delete it to start anew.
    """
    drawn = [(pipeline, trace_name(draw)) for draw in FINAL for pipeline in RATES_RPS]
    run_jobs(drawn[-1:] if quick else drawn, folder, "race", quick=quick)


def run_jobs(jobs: Sequence[tuple[str, str]], folder: Path, benchmark: str, *, quick: bool) -> None:
    """Run every entrant on each of these pairs of pipeline and trace, and write what came of it."""
    partial = begin(folder, quick=quick)
    measure_missing(jobs, KEYS, partial, benchmark, _quick_job if quick else measure_job)
    table = pd.read_csv(partial)
    table.sort_values(KEYS, kind="stable").to_csv(folder / ROWS, index=False, float_format="%.10g")
    partial.unlink()
    record(folder / "machine.json", benchmark)
    draw(report(folder), folder)


def report(folder: Path) -> pd.DataFrame:
    """Write the summary of the rows in `folder`, and the page with plots; return the rows."""
    table = pd.read_csv(folder / ROWS, keep_default_na=False)
    publish(folder, summarise(table), PAGE)
    return table


def trace_name(draw: int) -> str:
    """The name of a draw in the rows."""
    return f"{_DRAW}{draw}"


def traffic_of(name: str, pipeline: str) -> tuple[mp.Trace, mp.Trace]:
    """Sample and trace of a job."""
    if name.startswith(_DRAW):
        return drawn_traffic(RATES_RPS[pipeline], int(name.split()[1]))
    return real_day(next(day for day in REAL_DAYS if day_name(day) == name), DAY_RPS)


def measure_job(pipeline: str, name: str) -> list[dict[str, Any]]:
    """Measure all entrants, at all their settings, on one pipeline and trace."""
    return list(measure_all(pipeline, name, quick=False))


def _quick_job(pipeline: str, name: str) -> list[dict[str, Any]]:
    return list(measure_all(pipeline, name, quick=True))


def measure_all(pipeline: str, name: str, *, quick: bool) -> Iterator[dict[str, Any]]:
    """Measure every entrant on one job."""
    sample, trace = traffic_of(name, pipeline)
    if quick:
        begin_s = float(trace.arrival_ns[0]) / 1e9
        trace = trace.slice(end_s=begin_s + QUICK_S)
    worths_usd = WORTHS_USD if name.startswith(_DRAW) else WORTHS_USD[::4]
    for entrant in entrants(worths_usd):
        row = measure(pipeline, sample, trace, entrant)
        if row is not None:
            yield {"pipeline": pipeline, "trace": name, **row}
