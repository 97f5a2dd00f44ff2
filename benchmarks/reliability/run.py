"""Measure every case in a process of its own, going on where an interrupted run of the same code stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

import mipplan as mp
from benchmarks.jobs import begin, measure_missing
from benchmarks.machine import publish, record
from benchmarks.provenance import STAMP
from benchmarks.reliability.measure import measure
from benchmarks.reliability.plots import draw
from benchmarks.reliability.summary import summarise
from benchmarks.reliability.traffic import all_names, case_names

#: A job is a case.
KEYS = ["case"]
ROWS = "reliability.csv"
COLUMNS = (
    *("case", "fingerprint", "group", "kind", "pipeline", "stages", "queries", "slo_s"),
    *("planner", "of_slo", "headroom", "confidence", "status", "usd_per_hour", "cpu_seconds"),
    # Parts of tomorrow judged on and kept; whether the first was, the frozen held-out half.
    *("parts", "kept", "first_kept"),
    # Of ours: the test on fresh scenarios with its interval, and all parts to hold that against.
    *("test_scenarios", "test_kept", "low", "high", "drift", "chosen_on", "all_parts", "all_kept"),
    # The fastest scenario of that test; of all parts those that are faster, and how many of these are kept.
    *("fastest_rps", "fast_parts", "fast_kept"),
    "case_cpu_seconds",
    *STAMP,
)
#: One in so many cases is the quick part, with a few parts only.
QUICK_SHARE, QUICK_PARTS, QUICK_CALIBRATION_PARTS = 90, 10, 40
PAGE = """# What reliability costs

![Cost against the share of held-out traffic kept, for every planner at every setting](frontier.png)

{summary}"""


def run(folder: Path, *, quick: bool) -> None:
    """Write ``reliability.csv``, a summary, machine and a plot into `folder`.

    Rows are kept in ``partial.csv`` while the run lasts; delete it to start anew.
    """
    partial = begin(folder, quick=quick)
    names = case_names()[::QUICK_SHARE] if quick else case_names()
    jobs = [(name,) for name in names]
    measure_missing(jobs, KEYS, partial, "reliability", _quick_job if quick else _job)
    table = pd.read_csv(partial).reindex(columns=list(COLUMNS))
    order = {name: number for number, name in enumerate(names)}
    table = table.sort_values("case", key=lambda own: own.map(order), kind="stable")
    table.to_csv(folder / ROWS, index=False, float_format="%.10g")
    partial.unlink()
    record(folder / "machine.json", "reliability")
    draw(report(folder), folder)


def report(folder: Path) -> pd.DataFrame:
    """Write the summary of the rows in `folder`, and the page with the plot; return the rows."""
    table = pd.read_csv(folder / ROWS)
    publish(folder, summarise(table, cases=len(all_names())), PAGE)
    return table


def _job(name: str) -> list[dict[str, Any]]:
    _warm_up()
    return measure(name)


def _quick_job(name: str) -> list[dict[str, Any]]:
    _warm_up()
    return measure(name, QUICK_PARTS, QUICK_CALIBRATION_PARTS)


def _warm_up() -> None:
    """Have what is compiled on first use loaded: that is not what is measured."""
    pipeline = mp.Pipeline.from_document(
        {"name": "warm", "stages": {"only": {"model": "resnet50"}}, "edges": []}
    )
    sample = mp.Trace.poisson(50.0, 4.0, seed=1)
    for guarantee, more in (("trace", {}), ("replay", {}), ("reliable", {"confidence": 0.5})):
        asked = {"slo_s": 0.5, "guarantee": guarantee, "time_limit_s": 5.0, **more}
        mp.plan(pipeline, mp.Profiles.default(), sample, **asked)  # type: ignore[arg-type]
