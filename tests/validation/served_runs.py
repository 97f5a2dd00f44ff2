"""Logs of systems that are known to the nanosecond: replays of a plan, or of one that differs from it by one fault."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

import mipplan as mp
from mipplan.logs import RunLog, StageLog
from mipplan.validation import replayed_log

#: A UNIX time.
START_NS = 1_800_000_000_000_000_000
MS = 1_000_000
CHOICES = {"detect": ("t4", 4, 3), "read": ("t4", 8, 2)}


def pipeline(hop: str = "2ms", **stages: dict[str, object]) -> mp.Pipeline:
    """Two stages, one after the other."""
    document = {
        "slo": "250ms",
        "stages": {name: {"model": name} | stages.get(name, {}) for name in CHOICES},
        "edges": [{"from": "detect", "to": "read", "delay": hop}],
    }
    return mp.Pipeline.from_document(document)


def profiles(**factors: float) -> mp.Profiles:
    """Their tables, each times a factor."""
    tables = []
    for model, (first, each) in {"detect": (20.0, 5.0), "read": (12.0, 4.0)}.items():
        sizes = np.array([1, 2, 4, 8])
        latency = (first + each * sizes) * factors.get(model, 1.0)
        tables.append(
            {"model": model, "hardware": "t4", "batch": sizes.tolist(), "latency_ms": latency.tolist()}
        )
    return mp.Profiles.from_document({"hardware": {"t4": {"usd_per_hour": 0.5}}, "tables": tables})


@cache
def traffic(rate: float = 100.0, seconds: float = 60.0, seed: int = 1) -> mp.Trace:
    """Poisson arrivals that begin at 0."""
    trace = mp.Trace.poisson(rate, seconds, seed=seed)
    return mp.Trace(trace.arrival_ns - trace.arrival_ns[0], "traffic")


@cache
def plan() -> mp.Plan:
    """What everybody believes is served."""
    return mp.Plan.from_choices(pipeline(), profiles(), CHOICES)


def served(as_if: mp.Plan | None = None, trace: mp.Trace | None = None, **manner: object) -> RunLog:
    """Log a system that does exactly what a plan says."""
    does = as_if or plan()
    result = mp.replay(does, trace or traffic(), **manner)  # type: ignore[arg-type]
    return replayed_log(does, result, START_NS)


def with_stages(run: RunLog, stages: StageLog) -> RunLog:
    """Return the same run with another log of its stages."""
    return replace(run, stages=stages)
