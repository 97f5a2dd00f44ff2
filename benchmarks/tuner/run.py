"""Run every policy on every trace and shipped pipeline, going on where an interrupted run of the same code stopped."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.jobs import begin, measure_missing, missing_jobs
from benchmarks.machine import publish, record
from benchmarks.tuner.comparing import KEYS
from benchmarks.tuner.contenders import RATES_RPS, measure
from benchmarks.tuner.plots import draw
from benchmarks.tuner.summary import summarise
from benchmarks.tuner.traffic import scenarios

QUICK = ("spike", "burstier")
ROWS = "tuner.csv"
#: The page with plots; the documentation takes in the summary alone.
PAGE = """# Following traffic

![Cost and misses of all policies, trace by trace](planes.png)

![Policies on a spike, over time](spike.png)

{summary}"""


def run(folder: Path, *, quick: bool) -> None:
    """Write ``tuner.csv``, a summary, machine and plots into `folder`.

    Rows are kept in ``partial.csv`` while the run lasts; delete it to start anew.
    """
    partial = begin(folder, quick=quick)
    pipelines = list(RATES_RPS)[:1] if quick else list(RATES_RPS)
    chosen = [one for one in scenarios() if not quick or one.name in QUICK]
    draws = [(one.name, draw) for one in chosen for draw in (one.draws[:1] if quick else one.draws)]
    jobs = [(pipeline, *which) for pipeline in pipelines for which in draws]
    measure_missing(jobs, KEYS, partial, "tuner", measure_job)
    table = pd.read_csv(partial)
    places = {name: number for number, name in enumerate([*pipelines, *(one.name for one in chosen)])}
    table = table.sort_values(
        KEYS, key=lambda values: values if values.name == "draw" else values.map(places), kind="stable"
    )
    table.to_csv(folder / ROWS, index=False, float_format="%.10g")
    partial.unlink()
    record(folder / "machine.json", "tuner")
    draw(report(folder), folder)


def report(folder: Path) -> pd.DataFrame:
    """Write the summary of the rows in `folder`, and the page with plots; return the rows."""
    table = pd.read_csv(folder / ROWS)
    publish(folder, summarise(table), PAGE)
    return table


def missing(jobs: list[tuple[str, str, int]], partial: Path) -> list[tuple[str, str, int]]:
    """Jobs that have no rows of today's code yet; rows of other code are taken out of the file."""
    return missing_jobs(jobs, KEYS, partial, "tuner")


def measure_job(pipeline: str, scenario: str, draw: int) -> list[dict[str, object]]:
    """Measure all contenders on one pipeline and draw of a scenario."""
    (wanted,) = (one for one in scenarios() if one.name == scenario)
    return measure(pipeline, wanted, draw)
