"""Calibration the slow way: every slack of the grid, each replayed at every rate, counts by the formula as written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import mipplan as mp
from mipplan.calculus import Envelope, WindowCounts
from mipplan.result import Figures, Plan


def slow_counts(tuner: mp.Tuner, traffic: Envelope, waits_ns: Mapping[str, int]) -> dict[str, int] | None:
    """Fewest replicas with which every stage keeps its wait; None if no number does at some stage."""
    counts = {}
    for stage, scale in tuner.stages.items():
        rate = Fraction(traffic.rate)
        for window, arrivals in traffic.corners:
            if arrivals > 1 and window + waits_ns[stage] <= 0:
                return None
            if arrivals > 1:
                rate = max(rate, Fraction(arrivals - 1) / (window + waits_ns[stage]))
        work = Fraction(scale.tokens_per_query) * scale.period_ns / scale.batch
        counts[stage] = max(scale.least, math.ceil(rate * work))
    return counts


def slow_misses(
    plan: Plan, sample: mp.Trace, waits_ns: Mapping[str, int], rates: Sequence[float], most_queries: int
) -> list[float]:
    """Share of the sample missed with counts for these waits, at several times its rate."""
    tuner = mp.Tuner(plan, sample=sample, keep="sample", tokens="mean")
    found = []
    for rate in rates:
        trace = mp.Trace(sample.arrival_ns[:most_queries], sample.name, sample.note).scale(rate)
        traffic = WindowCounts.of_arrivals(trace.arrival_ns, tuner.live.window_ns).envelope()
        counts = slow_counts(tuner, traffic, waits_ns)
        assert counts is not None, "there are counts for all waits"
        found.append(slow_miss_rate(plan, counts, trace))
    return found


def slow_miss_rate(plan: Plan, counts: Mapping[str, int], trace: mp.Trace) -> float:
    """Share of a trace that misses the plan's objective with other counts."""
    choices = {stage: replace(choice, replicas=counts[stage]) for stage, choice in plan.choices.items()}
    latency_ns = mp.replay(replace(plan, choices=choices, figures=Figures()), trace).latency_ns
    return float((latency_ns > plan.slo_ns).mean())
