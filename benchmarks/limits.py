"""``python -m benchmarks.limits [--share 0.1] [--limits 1 2 5]``: how far calls exceed their time limits.

Every call with a limit, on a day of 1.4 million queries of the shipped video pipeline; asked and taken go into
``results/limits.json``. Not counted are imports and compiling: each call is made on a small trace first, and numba
keeps what it has compiled. A call keeps its limit if it takes at most half a second or a tenth of the limit more.
On a busy machine, ``--clock processor`` lets limits and times count the time of the processor.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import mipplan as mp
from benchmarks.machine import describe
from mipplan.documents import shipped_folder

RESULT = Path(__file__).resolve().parent / "results" / "limits.json"
QUERIES = 1_400_000
LIMITS_S = (1.0, 2.0, 5.0)
RUNS = mp.RunClass(least_service=0.9)
#: What a call may take beyond its limit: the larger of these seconds and this share of the limit.
ALLOWED_S, ALLOWED_SHARE = 0.5, 0.1

#: What limits and times count, by name.
CLOCKS: Mapping[str, Callable[[], float]] = {"wall": time.monotonic, "processor": time.process_time}

#: Of a trace and a limit in seconds.
Call = Callable[[mp.Trace, float], object]


def main() -> None:
    """Make every call under every limit and write what they took."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits", description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="this share of a day")
    parser.add_argument("--limits", type=float, nargs="+", default=LIMITS_S, metavar="SECONDS")
    parser.add_argument("--calls", nargs="+", help="only these", metavar="NAME")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--result", type=Path, default=RESULT)
    arguments = parser.parse_args()
    clock = CLOCKS[arguments.clock]
    with patch("time.monotonic", clock):
        rows = list(measure(arguments.share, arguments.limits, clock, arguments.calls))
    document = {
        "share_of_a_day": arguments.share,
        "clock": arguments.clock,
        "kept": sum(row["kept"] for row in rows),
        "rows": rows,
        "machine": describe("limits"),
    }
    arguments.result.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def measure(
    share: float, limits_s: list[float], clock: Callable[[], float], only: list[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Rows of call, limit, and what it took beyond."""
    small, large = traffic(2_000), traffic(int(share * QUERIES))
    calls = calls_on(small, large)
    for name in only or calls:
        calls[name](small, 2.0)
        for limit_s in limits_s:
            started = clock()
            answer = calls[name](large, limit_s)
            taken_s = clock() - started
            kept = taken_s <= limit_s + max(ALLOWED_S, ALLOWED_SHARE * limit_s)
            found = str(getattr(answer, "status", type(answer).__name__))
            row = {"call": name, "queries": len(large), "limit_s": limit_s, "taken_s": round(taken_s, 3)}
            said = "" if kept else "EXCEEDED"
            print(f"{name:20} {limit_s:4g} s  {taken_s:7.2f} s  {said:8}  {found}", flush=True)
            yield {**row, "kept": kept, "found": found}


def traffic(queries: int) -> mp.Trace:
    """Bursty arrivals, 80 a second."""
    made = mp.Trace.gamma(80.0, 2.0, 1.05 * queries / 80.0 + 10.0, seed=1)
    return mp.Trace.from_ns(made.arrival_ns[:queries], name=f"gamma, {queries:,} queries")


def calls_on(small: mp.Trace, large: mp.Trace) -> Mapping[str, Call]:
    """Every call that has a limit, by name."""
    pipeline = mp.Pipeline.read(shipped_folder() / "pipelines" / "video-monitoring.yaml")
    profiles = mp.Profiles.default()
    given = {id(trace): mp.plan(pipeline, profiles, trace) for trace in (small, large)}

    def planned(**more: Any) -> Call:
        return lambda trace, limit_s: mp.plan(pipeline, profiles, trace, time_limit_s=limit_s, **more)

    stopped = {key: replace(plan, status=mp.PlanStatus.FEASIBLE) for key, plan in given.items()}
    return {
        "plan": planned(),
        "plan, paced": planned(dispatch="paced"),
        "plan, timed": planned(dispatch="timed"),
        "plan, fifo": planned(discipline="fifo", runs=RUNS),
        "plan, sharp": planned(certificate="sharp", runs=RUNS),
        "plan, envelope": planned(guarantee="envelope"),
        "plan, budget": planned(budget_usd_per_hour=10.0),
        "plan, infeasible": planned(slo_s=0.005),
        "plan, windows": planned(per_s=300.0),
        "plan, replay": planned(guarantee="replay"),
        "plan, reliable": planned(guarantee="reliable"),
        "refine": lambda trace, limit_s: mp.refine(given[id(trace)], trace, time_limit_s=limit_s),
        "sharpen": lambda trace, limit_s: mp.sharpen(given[id(trace)], trace, time_limit_s=limit_s),
        "explain": lambda trace, limit_s: mp.explain(stopped[id(trace)], trace, time_limit_s=limit_s),
        "guarantee_costs": lambda trace, limit_s: mp.guarantee_costs(
            given[id(trace)], trace, time_limit_s=limit_s
        ),
    }


if __name__ == "__main__":
    main()
