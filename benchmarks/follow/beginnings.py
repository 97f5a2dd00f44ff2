"""Misses by when following begins: ``python -m benchmarks.follow.beginnings`` writes ``beginnings.md`` in a minute.

What a controller sees of a burst depends on where in its period the burst falls. Each row of `benchmarks.follow.run`
was simulated for the one instant at which that run began; here the same traffic is simulated for beginnings all over
several periods, and what was measured is held against all of them. Nothing is served.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import mipplan as mp
from benchmarks.follow.run import (
    _RATE_RPS,
    LITTLE,
    ROWS,
    SYSTEMS,
    WITHIN,
    FollowedSystem,
    plan_of,
    policy_of,
    traces,
)
from benchmarks.machine import headline, record
from benchmarks.truth.run import with_overhead
from mipplan.core import NS_PER_S
from mipplan.following import ByCounts
from mipplan.tuner import Setting, simulate

OUT = Path(__file__).parents[1] / "results" / "follow" / "beginnings.md"
MACHINE = OUT.with_suffix(".json")
#: Beginnings, evenly over so many seconds, at least so many before the first query: a driver takes that long to start.
BEGINNINGS, SPAN_S, FIRST_S = 24, 5, 2


@cache
def _served(system: FollowedSystem, part_s: int) -> tuple[mp.Trace, mp.Plan, dict[str, mp.Trace]]:
    """The sample that `benchmarks.follow.run` plans for, its plan, and the traces that it drives."""
    sample = mp.Trace.gamma(rate_rps=system.rate_factor * _RATE_RPS, cv=1.2, duration_s=120, seed=1)
    return sample, plan_of(sample, system.slowdown), traces(system.rate_factor, part_s)


def simulated_misses(system: FollowedSystem, row: dict[str, Any]) -> list[float]:
    """Share of queries that miss the objective when what was measured in a row is simulated, for each beginning."""
    sample, plan, driven = _served(system, int(row["part_s"]))
    believed, trace = with_overhead(plan, round(row["overhead_ms"] * 1e6)), driven[row["trace"]]
    setting = Setting(believed, sample, 0, NS_PER_S, round(system.delay_s * NS_PER_S))
    shifts_ns = FIRST_S * NS_PER_S + np.arange(BEGINNINGS) * SPAN_S * NS_PER_S // BEGINNINGS
    return [
        simulate(setting, mp.Trace(trace.arrival_ns + shift_ns), ByCounts(policy_of(row["policy"]))).miss_rate
        for shift_ns in shifts_ns.tolist()
    ]


def is_among(measured: float, simulated: list[float]) -> bool:
    """Whether a share that was measured is as near to a simulated one as the aim asks."""
    return any(abs(measured - one) <= max(WITHIN * one, LITTLE) for one in simulated)


def report(table: pd.DataFrame) -> str:
    """Lay out what was measured beside the least and the most of its simulations."""
    systems = {system.name: system for system in SYSTEMS}
    lines = [
        "| system | trace | policy | missed | simulated, by beginning | aim |",
        "|---" * 6 + "|",
    ]
    outcomes = []
    for row in table.to_dict("records"):
        found = simulated_misses(systems[row["system"]], row)
        outcomes.append((bool(row["within"]), is_among(row["missed"], found)))
        words = "kept" if row["within"] else "missed"
        lines.append(
            f"| {row['system']} | {row['trace']} | `{row['policy']}` | {row['missed']:.1%} | "
            f"{min(found):.1%} – {max(found):.1%} | {words} |"
        )
    missed = [is_one for is_kept, is_one in outcomes if not is_kept]
    verdict = (
        f"The same traffic, simulated for {BEGINNINGS} instants at which following may begin, {FIRST_S} to "
        f"{FIRST_S + SPAN_S} s before the first query. What was measured is as near as the aim asks to one of these in "
        f"{sum(is_one for _, is_one in outcomes)} of {len(outcomes)} rows"
    )
    beside = f", and in {sum(missed)} of the {len(missed)} that missed the aim." if missed else "."
    return "\n".join([*lines, "", verdict + beside]) + "\n"


def main() -> None:
    """Write the table of the rows that are there."""
    text = report(pd.read_csv(OUT.parent / ROWS))
    record(MACHINE, "follow")
    OUT.write_text(f"{headline(MACHINE)}\n\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main()
