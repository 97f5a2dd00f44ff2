"""Run every entrant of the race on days of a recording, every second setting of our knob."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.race import run as race
from benchmarks.race.traffic import REAL_DAYS, day_name
from benchmarks.tuner.traffic import SHARED


def run(folder: Path, *, quick: bool) -> None:
    """Write ``race.csv``, a summary, machine and plots into `folder`, as the race does.

    Raises `SystemExit` where the recording does not lie beside the checkout.
    """
    if not SHARED.is_dir():
        raise SystemExit(f"this benchmark reads a recording in {SHARED}, which is not there")
    jobs = [(pipeline, day_name(day)) for day, pipeline in REAL_DAYS.items()]
    race.run_jobs(jobs[:1] if quick else jobs, folder, "race_days", quick=quick)


def report(folder: Path) -> pd.DataFrame:
    """Write the summary of the rows in `folder`, and the page with plots; return the rows."""
    return race.report(folder)
