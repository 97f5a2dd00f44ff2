"""A plan with a branch and a join, its trace and its replay, for tests of figures and pages."""

from __future__ import annotations

from functools import cache

import mipplan as mp
from serving_plans import small_plan


@cache
def drawn_plan() -> mp.Plan:
    """Four stages: prepare, then look and sometimes read, joined by merge."""
    return small_plan(
        {
            "prepare": ([4.0], 1),
            "look": ([9.0, 12.0, 15.0, 18.0], 1),
            "read": ([20.0, 30.0], 1),
            "merge": ([3.0], 1),
        },
        {
            ("prepare", "look"): {"delay": "1ms"},
            ("prepare", "read"): {"probability": 0.4, "fanout": 2, "delay": "2ms"},
            ("look", "merge"): {},
            ("read", "merge"): {},
        },
        slo_s=0.3,
    )


@cache
def drawn_trace() -> mp.Trace:
    """Six hundred queries in bursts."""
    return mp.Trace.gamma(30.0, 2.5, 20.0, seed=5)


@cache
def drawn_replay() -> mp.ReplayResult:
    return mp.replay(drawn_plan(), drawn_trace())
