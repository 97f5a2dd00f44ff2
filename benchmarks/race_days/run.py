"""Run every entrant of the race on days of a recording, every fourth setting of our knob."""

from __future__ import annotations

from pathlib import Path

from benchmarks.race.run import report as report
from benchmarks.race.run import run_jobs
from benchmarks.race.traffic import REAL_DAYS, day_name
from benchmarks.tuner.traffic import SHARED


def run(folder: Path, *, quick: bool) -> None:
    """Write ``race.csv``, a summary, machine and plots into `folder`, as the race does.

    Raises `SystemExit` where the recording does not lie beside the checkout.
    """
    if not SHARED.is_dir():
        raise SystemExit(f"this benchmark reads a recording in {SHARED}, which is not there")
    jobs = [(pipeline, day_name(day)) for day, pipeline in REAL_DAYS.items()]
    run_jobs(jobs[:1] if quick else jobs, folder, "race_days", quick=quick)
