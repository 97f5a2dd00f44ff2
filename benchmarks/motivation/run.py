"""Run the motivating experiment: ``python -m benchmarks motivation``, some minutes of a processor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from benchmarks.machine import publish, record
from benchmarks.motivation.measure import by_batch, by_objective, by_rate, tails
from benchmarks.motivation.plots import draw
from benchmarks.motivation.spaces import spaces
from benchmarks.motivation.summary import summarise
from benchmarks.provenance import ROOT

EXPERIMENTS: Mapping[str, Callable[..., pd.DataFrame]] = {
    "batches": by_batch,
    "tails": tails,
    "rates": by_rate,
    "spaces": spaces,
    "objectives": by_objective,
}
IMAGES = ROOT / "docs" / "images" / "motivation"


def run(folder: Path, *, quick: bool) -> None:
    """Write a table per experiment, a summary and machine into `folder`, and figures into the documentation.

    A quick run draws into `folder`, too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, measure in EXPERIMENTS.items():
        measure(quick=quick).to_csv(folder / f"{name}.csv", index=False, float_format="%.10g")
    record(folder / "machine.json", "motivation")
    draw(report(folder), folder if quick else IMAGES)


def report(folder: Path) -> dict[str, pd.DataFrame]:
    """Write the summary of the tables in `folder`, and return them."""
    tables = {name: pd.read_csv(folder / f"{name}.csv") for name in EXPERIMENTS}
    publish(folder, summarise(tables))
    return tables
