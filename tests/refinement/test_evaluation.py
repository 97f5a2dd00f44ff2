"""A long trace is searched by its worst part, and every plan is judged on the whole of it."""

from __future__ import annotations

import numpy as np

import mipplan as mp
from mipplan.core import Deadline
from mipplan.options import Configuration, Option
from mipplan.profiles import Hardware, LatencyTable
from mipplan.refinement.evaluation import ReplayOracle, Screen, ScreenParams, WorkLimit, screen
from mipplan.refinement.problem import RefinementProblem, state_problem
from mipplan.replayer import ENGINES, StageReplays
from mipplan.tokens import realise

STEADY_MS, CROWD_MS = 20, 2
CROWD = slice(15_000, 15_400)


def crowded_trace() -> mp.Trace:
    """A query every 20 ms, and one crowd with one every 2 ms."""
    gaps = np.full(30_000, STEADY_MS * 1_000_000)
    gaps[CROWD] = CROWD_MS * 1_000_000
    return mp.Trace.from_ns(np.cumsum(gaps), name="crowded")


def problem_of(trace: mp.Trace, quantile: float = 0.99) -> RefinementProblem:
    """One stage of 5 ms a query, within 30 ms."""
    pipeline = mp.Pipeline.from_document({"name": "one", "stages": {"s": {"model": "m"}}, "edges": []})
    table = LatencyTable("m", "h", np.array([1]), np.array([5.0]))
    profiles = mp.Profiles.from_parts([Hardware("h", 1.0)], [table])
    return state_problem(pipeline, profiles, realise(pipeline, trace), 30_000_000, quantile)


def oracle_of(problem: RefinementProblem) -> ReplayOracle:
    """An oracle with replays of its own."""
    return ReplayOracle(problem, StageReplays(problem.workload, ENGINES["numpy"], fifo=False))


def option(problem: RefinementProblem, replicas: int) -> Configuration:
    """The plan with that many replicas."""
    return Configuration({"s": Option(problem.domains["s"][0].family, replicas)})


def test_the_screen_holds_the_crowd() -> None:
    problem = problem_of(crowded_trace())
    part = screen(problem)
    assert part is not None
    kept = set(part.workload.ingress_ns.tolist())
    assert kept < set(problem.workload.ingress_ns.tolist())
    assert set(problem.workload.ingress_ns[14_600:15_500].tolist()) <= kept
    assert part.workload.queries <= ScreenParams().queries + 1_000
    assert part.allowed == problem.allowed


def test_short_traces_are_not_screened() -> None:
    trace = mp.Trace.from_ns(np.arange(ScreenParams().longest_unscreened) * 1_000_000)
    assert screen(problem_of(trace)) is None


def test_screen_learns_how_many_late_queries_show() -> None:
    """Two crowds, of which the part holds one: half of what is late shows there, so half as many are allowed."""
    gaps = np.full(30_000, STEADY_MS * 1_000_000)
    for start in (10_000, 20_000):
        gaps[start : start + 400] = CROWD_MS * 1_000_000
    problem = problem_of(mp.Trace.from_ns(np.cumsum(gaps)), 0.98)
    part = screen(problem, ScreenParams(queries=1_000))
    assert part is not None
    whole, seen = oracle_of(problem), oracle_of(part)
    limit = WorkLimit()
    screening = Screen(seen, whole)
    slow = option(problem, 1)
    assert 0 < seen.judge(slow, limit)[1] <= problem.allowed < whole.judge(slow, limit)[1]
    assert screening.problem.allowed == problem.allowed
    for _ in range(20):
        assert not screening.confirms(slow, limit)
    assert screening.problem.allowed < seen.judge(slow, limit)[1]
    assert screening.confirms(option(problem, 3), limit)


def test_without_a_part_everything_is_confirmed() -> None:
    problem = problem_of(mp.Trace.from_ns(np.arange(100) * 1_000_000))
    whole = oracle_of(problem)
    screening = Screen(whole, whole)
    assert screening.problem is problem
    assert screening.confirms(option(problem, 1), WorkLimit(deadline=Deadline(0.0)))
