"""Run every planner on every pipeline and trace, going on where an interrupted run of the same code stopped."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from benchmarks.ipa.measure import measure, measure_quickly
from benchmarks.ipa.plots import draw
from benchmarks.ipa.summary import PAIR, summarise
from benchmarks.ipa.workload import COUNTS, MADE, SETUPS, SHARED, traces
from benchmarks.jobs import begin, measure_missing
from benchmarks.machine import publish, record

ROWS = "ipa.csv"
PAGE = """# IPA's pipelines over its workload

![Cost and accuracy of all plans that keep the objective](planes.png)

{summary}"""


def run(folder: Path, *, quick: bool) -> None:
    """Write ``ipa.csv``, a summary, machine and plot into `folder`.

    Rows are kept in ``partial.csv`` while the run lasts; delete it to start anew.
    """
    partial = begin(folder, quick=quick)
    names = traces()
    if len(names) == len(MADE):
        print(f"IPA's traffic is left out: there is no {SHARED / COUNTS}", file=sys.stderr, flush=True)
    jobs = [(pipeline, trace) for pipeline in SETUPS for trace in (names[-1:] if quick else names)]
    measure_missing(jobs, PAIR, partial, "ipa", measure_quickly if quick else measure)
    table = pd.read_csv(
        partial,
        keep_default_na=False,
        na_values={"usd": "", "accuracy": "", "p99_s": "", "j_per_thousand": ""},
    )
    table["order"] = [jobs.index(pair) for pair in zip(table["pipeline"], table["trace"], strict=True)]
    table = table.sort_values("order", kind="stable").drop(columns="order")
    table.to_csv(folder / ROWS, index=False, float_format="%.10g")
    partial.unlink()
    record(folder / "machine.json", "ipa")
    draw(report(folder), folder)


def report(folder: Path) -> pd.DataFrame:
    """Write the summary of the rows in `folder`, and the page with the plot; return the rows."""
    table = pd.read_csv(folder / ROWS)
    publish(folder, summarise(table), PAGE)
    return table
