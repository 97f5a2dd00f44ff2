"""``python -m benchmarks.tuner.day [--share 0.1]``: what a day in closed loop takes, policy by policy, and its memory.

A day is 86,400 control periods of a second, some 1.4 million queries, under four policies.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import mipplan as mp
from benchmarks.machine import describe
from mipplan.documents import shipped_folder

RESULT = Path(__file__).resolve().parents[1] / "results" / "tuner" / "day.json"
POLICIES = ("lp", "inferline", "hpa", "ray")
DAY_S, RATE_RPS = 86_400.0, 16.0
CV = 1.5


def main() -> None:
    """Run a day, or a share of one, and write what it took."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tuner.day", description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="this share of a day")
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    measured = measure(arguments.share)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**measured, "machine": describe("tuner")}, indent=2)
    arguments.out.write_text(text + "\n", encoding="utf-8")
    print(json.dumps(measured, indent=2))


def measure(share: float) -> dict[str, Any]:
    """Seconds of the clock and of the processor for each policy, and the most memory, all in one process."""
    plan, sample, trace = day(share)
    policies: list[dict[str, Any]] = []
    tunings = []
    for name in POLICIES:
        began, worked = time.perf_counter(), time.process_time()
        tunings.append(mp.tune(plan, trace, sample=sample, policies=[name], progress=_show))
        (run,) = tunings[-1].runs
        took = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - worked}
        policies.append({"policy": name, **took, "actions": len(run.actions), "miss_rate": run.miss_rate})
    return {
        "share_of_a_day": share,
        "queries": len(trace),
        "periods": int(trace.span_ns // 1_000_000_000),
        "seconds": sum(row["seconds"] for row in policies),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "policies": policies,
    }


def day(share: float) -> tuple[mp.Plan, mp.Trace, mp.Trace]:
    """A plan, the sample that it was made for, and traffic that doubles and halves over a day, bursty all the time."""
    hours = 24
    rates = [RATE_RPS * (0.5 + abs(hour - hours / 2) / (hours / 2)) for hour in range(hours)]
    trace = mp.Trace.ramp(
        rates_rps=rates, cvs=[CV] * hours, durations_s=[DAY_S * share / hours] * hours, transition_s=0, seed=1
    )
    sample = mp.Trace.gamma(rate_rps=RATE_RPS, cv=CV, duration_s=600.0, seed=2)
    pipeline = mp.Pipeline.read(shipped_folder() / "pipelines" / "cascade.yaml")
    return mp.plan(pipeline, mp.Profiles.default(), sample).require(), sample, trace


def _show(line: str) -> None:
    print(f"\r{line:<70}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
