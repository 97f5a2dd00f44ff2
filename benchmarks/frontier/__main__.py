"""Measure how much faster a frontier is than planning each point of a grid anew, and hold the two against each other.

``python -m benchmarks.frontier [--out FILE.csv] [PIPELINE TRACE]`` walks the objective, the rate and the price of the
dearest hardware of a shipped pipeline, and plans every point of a grid on each: 1 ms of the objective (frontiers are
exact to a nanosecond), a hundredth of the rate, a hundredth of the price. Times are wall-clock times of one process.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import mipplan as mp


@dataclass(frozen=True)
class Axis:
    """An axis, its grid, and how a point of it is planned anew."""

    over: str
    points: list[float]
    plan: Callable[[float], mp.Plan]


def axes(pipeline: mp.Pipeline, trace: mp.Trace) -> Iterator[Axis]:
    """Every axis that is measured."""
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


def measured(name: str, trace_name: str) -> Iterator[dict[str, object]]:
    """Measure every axis; raises `AssertionError` where the two differ."""
    pipeline, trace = mp.Pipeline.read(name), mp.Trace.read(trace_name)
    for axis in axes(pipeline, trace):
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
        costs = [axis.plan(point).usd_per_hour for point in axis.points]
        planned = time.perf_counter()
        for point, cost in zip(axis.points, costs, strict=True):
            found = frontier.cost_at(point)
            same = found == cost or (found is not None and cost is not None and abs(found - cost) < 1e-6)
            assert same, f"{axis.over} at {point}: {found} $/h, planned anew {cost} $/h"
        yield {
            "pipeline": name,
            "trace": trace_name,
            "over": axis.over,
            "points": len(axis.points),
            "steps": len(frontier.steps),
            "solves": frontier.solves,
            "frontier_s": round(walked - began, 3),
            "grid_s": round(planned - walked, 3),
            "times_faster": round((planned - walked) / (walked - began), 2),
        }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pipeline", nargs="?", default="video-monitoring")
    parser.add_argument("trace", nargs="?", default="bursty")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    rows = []
    for row in measured(asked.pipeline, asked.trace):
        print(row, file=sys.stderr)
        rows.append(row)
    with asked.out.open("w", newline="", encoding="utf-8") if asked.out else sys.stdout as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
