"""Measure how much faster a frontier is than planning each point of a grid anew, and hold the two against each other.

On shipped pipelines: along the objective, the rate, and the price of the dearest hardware. Grids are of 1 ms of the
objective (frontiers are exact to a nanosecond), a hundredth of the rate, a hundredth of the price. Times are wall-clock
times of one process.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

import mipplan as mp
from benchmarks.machine import publish, record

PIPELINES = ("video-monitoring", "image-processing", "cascade")
TRACE = "bursty"
ROWS = "frontier.csv"
#: A walk takes less than a second: the median of so many counts, beside one pass over the grid, which takes many.
WALKS = 5
#: The aim: a frontier is so many times as fast as its grid, in every row.
TIMES_FASTER = 5.0


@dataclass(frozen=True)
class Axis:
    """An axis, its grid, and how a point of it is planned anew."""

    over: str
    points: list[float]
    plan: Callable[[float], mp.Plan]


def axes(pipeline: mp.Pipeline, trace: mp.Trace) -> Iterator[Axis]:
    """Every axis that is measured, the quickest last."""
    profiles = mp.Profiles.default()
    present = mp.plan(pipeline, profiles, trace)
    first, last = round(1000 * 0.9 * present.slo_s), round(1000 * 1.6 * present.slo_s)
    yield Axis(
        "slo",
        [point / 1000 for point in range(first, last + 1)],
        lambda slo_s: mp.plan(pipeline, profiles, trace, slo_s=slo_s),
    )
    yield Axis(
        "rate",
        [point / 100 for point in range(80, 151)],
        lambda factor: mp.plan(pipeline, profiles, trace.scale(factor)),
    )
    device = max(present.profiles.hardware.values(), key=lambda one: one.usd_per_hour)

    def at_price(usd_per_hour: float) -> mp.Plan:
        priced = profiles.with_hardware(replace(device, usd_per_hour=usd_per_hour))
        return mp.plan(pipeline, priced, trace)

    shares = [point / 100 for point in range(50, 151)]
    yield Axis(f"price:{device.name}", [round(share * device.usd_per_hour, 6) for share in shares], at_price)


def measured(name: str, *, quick: bool) -> Iterator[dict[str, object]]:
    """Measure every axis, or the last; raises `AssertionError` where the two differ."""
    pipeline, trace = mp.Pipeline.read(name), mp.Trace.read(TRACE)
    for axis in list(axes(pipeline, trace))[-1 if quick else 0 :]:
        walks_s = []
        for _ in range(WALKS):
            began = time.perf_counter()
            frontier = mp.frontier(
                pipeline,
                mp.Profiles.default(),
                trace,
                over=axis.over,
                start=axis.points[0],
                end=axis.points[-1],
                time_limit_s=None,
            )
            walked = time.perf_counter()
            walks_s.append(walked - began)
        costs = [axis.plan(point).usd_per_hour for point in axis.points]
        planned = time.perf_counter()
        for point, cost in zip(axis.points, costs, strict=True):
            found = frontier.cost_at(point)
            same = found == cost or (found is not None and cost is not None and abs(found - cost) < 1e-6)
            assert same, f"{axis.over} at {point}: {found} $/h, planned anew {cost} $/h"
        yield {
            "pipeline": name,
            "trace": TRACE,
            "over": axis.over,
            "points": len(axis.points),
            "steps": len(frontier.steps),
            "solves": frontier.solves,
            "frontier_s": statistics.median(walks_s),
            "grid_s": planned - walked,
        }


def run(folder: Path, *, quick: bool) -> None:
    """Write ``frontier.csv``, machine and summary into `folder`; a quick run walks one axis."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in PIPELINES[: 1 if quick else None]:
        for row in measured(name, quick=quick):
            print(row, file=sys.stderr, flush=True)
            rows.append(row)
    pd.DataFrame(rows).to_csv(folder / ROWS, index=False, float_format="%.6g")
    record(folder / "machine.json", "frontier")
    report(folder)


def report(folder: Path) -> None:
    """Write ``summary.md`` from the rows in `folder`."""
    table = pd.read_csv(folder / ROWS)
    ratios = table["grid_s"] / table["frontier_s"]
    missed = int((ratios < TIMES_FASTER).sum())
    lines = [
        "| pipeline | along | points of the grid | steps | plans made | frontier, s | grid, s | times as fast |",
        "|---" * 8 + "|",
    ]
    for row, ratio in zip(table.to_dict("records"), ratios, strict=True):
        cells = (row["pipeline"], row["over"], row["points"], row["steps"], row["solves"])
        lines.append(
            f"| {' | '.join(map(str, cells))} | {row['frontier_s']:.2f} | {row['grid_s']:.1f} | {ratio:.1f} |"
        )
    verdict = "kept" if not missed else f"missed in {missed} of {len(table)} rows, worst {ratios.min():.1f}"
    aim = f"Aim: at least {TIMES_FASTER:g} times as fast as the grid, in every row: {verdict}."
    publish(folder, "\n".join([*lines, "", aim]) + "\n")
