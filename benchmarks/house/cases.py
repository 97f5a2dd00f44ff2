"""What `speed` measures: processor seconds of each call, as JSON. Uses only the front, so any commit can run it."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import mipplan as mp

#: Calls in one process; the median counts.
REPEATS = 7
#: Steps of retuning in one call.
STEPS = 40
FLEET = 40


def main() -> None:
    """Measure all calls and print the medians."""
    root = Path(mp.__file__).resolve().parents[1] / "profiles"
    profiles = mp.Profiles.read(root)
    video, cascade = (
        mp.Pipeline.read(root / "pipelines" / f"{name}.yaml") for name in ("video-monitoring", "cascade")
    )
    bursty, steady = (mp.Trace.read(root / "traces" / f"{name}.csv.gz") for name in ("bursty", "steady"))
    long = mp.Trace.gamma(rate_rps=150, cv=2, duration_s=600, seed=3)
    plan, small = mp.plan(video, profiles, bursty), mp.plan(cascade, profiles, steady)
    members = {
        f"p{number}": (cascade, mp.Trace.gamma(rate_rps=20 + number, cv=2, duration_s=60, seed=number))
        for number in range(FLEET)
    }
    calls: dict[str, Callable[[], object]] = {
        "plan, 5 stages, 17,336 queries": lambda: mp.plan(video, profiles, bursty),
        "plan, 5 stages, 90,000 queries": lambda: mp.plan(video, profiles, long),
        "plan, 3 stages": lambda: mp.plan(cascade, profiles, steady),
        "replay, numpy": lambda: mp.replay(plan, long, engine="numpy"),
        "replay, numpy, fifo": lambda: mp.replay(plan, long, engine="numpy", discipline="fifo"),
        "replay, numba": lambda: mp.replay(plan, long, engine="numba"),
        f"retune, {STEPS} steps": retuning(plan, bursty),
        "refine, 3 stages": lambda: mp.refine(small, steady, time_limit_s=60),
        f"plan_fleet, {FLEET} pipelines": lambda: mp.plan_fleet(
            members, profiles, limits={"t4": FLEET}, n_jobs=1
        ),
    }
    print(
        json.dumps({name: median_s(call, 1 if "fleet" in name else REPEATS) for name, call in calls.items()})
    )


def retuning(plan: mp.Plan, trace: mp.Trace) -> Callable[[], object]:
    """Observe a trace in pieces and retune after each, with a tuner of its own every time."""

    def run() -> None:
        tuner = mp.Tuner(plan, sample=trace)
        size = len(trace) // STEPS
        for step in range(STEPS):
            tuner.observe(trace.arrival_ns[step * size : (step + 1) * size])
            tuner.retune()

    return run


def median_s(call: Callable[[], object], repeats: int) -> float:
    """Median processor time of a call, seconds, after one that is not counted."""
    call()
    seconds = []
    for _ in range(repeats):
        begun = time.process_time()
        call()
        seconds.append(time.process_time() - begun)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
