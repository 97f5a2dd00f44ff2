"""What time or Ctrl-C stops says nothing that the whole answer contradicts, and is told apart from it."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

import mipplan as mp
from campaigns import campaign_size
from mipplan.core import Deadline, SearchLimits
from mipplan.questions import Problem, frontier_of, least_cost_text, sensitivity_of
from mipplan.questions.staircases import StepRange, with_known
from mipplan.result import Figures, Limit, PlanStatus

VIDEO = mp.Pipeline.read("video-monitoring")
BURSTY = mp.Trace.read("bursty", end_s=4.0)
#: Seconds after which a question is stopped: in its first plan, and in later ones.
DELAYS = [0.02 * 1.7**power for power in range(campaign_size(8, 12))]


@pytest.fixture(scope="module")
def plan() -> mp.Plan:
    return mp.plan(VIDEO, mp.Profiles.default(), BURSTY)


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """Ctrl-C comes once, after so many seconds."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    gc.disable()  # Hypothesis listens to the collector: what is raised there is lost, and told as a warning.
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        gc.enable()
        signal.signal(signal.SIGALRM, before)


def check_part(part: mp.Sensitivity, whole: mp.Sensitivity) -> None:
    """Prices and models looked at are those of the whole; a measurement may lack one of its two directions."""
    assert set(part.hardware) <= set(whole.hardware)
    assert set(part.models) <= set(whole.models)
    told = {(one.model, one.hardware, one.batch): one for one in whole.measurements}
    for one in part.measurements:
        same = told[one.model, one.hardware, one.batch]
        assert one.microusd_slower in (0, same.microusd_slower)
        assert one.microusd_faster in (0, same.microusd_faster)
    if not part.complete:
        assert "so far" in part.found_text
        assert "stopped before all was looked at" in " ".join(str(part).split())


def test_sensitivities_that_are_stopped_are_a_part_of_the_whole(plan: mp.Plan) -> None:
    problem = Problem(plan, [BURSTY])
    whole = sensitivity_of(problem, 0.1, SearchLimits())
    assert whole.complete
    partial = interrupted = 0
    for delay in DELAYS:
        hurried = sensitivity_of(problem, 0.1, SearchLimits(Deadline.after(delay)))
        check_part(hurried, whole)
        partial += not hurried.complete
        try:
            with interrupted_after(delay):
                answer = sensitivity_of(problem, 0.1, SearchLimits())
            check_part(answer, whole)
            interrupted += not answer.complete
        except KeyboardInterrupt:  # before the first plan: there is nothing to show
            interrupted += 1
    assert partial
    assert interrupted


def test_frontiers_that_are_stopped_are_never_dearer_where_the_objective_is_looser(plan: mp.Plan) -> None:
    """Nor than the plan asked about, wherever that is certified."""
    ends, certified_s = (0.100, 0.250), plan.certificate_s or 0.0
    whole = frontier_of(Problem(plan, [BURSTY]), "slo", ends, None, 40, 1, SearchLimits())
    stopped = 0
    for delay in DELAYS:
        limits = SearchLimits(Deadline.after(delay))
        answers = [frontier_of(Problem(plan, [BURSTY]), "slo", ends, None, 40, 1, limits)]
        try:
            with interrupted_after(delay):
                answers.append(frontier_of(Problem(plan, [BURSTY]), "slo", ends, None, 40, 1, SearchLimits()))
        except KeyboardInterrupt:
            stopped += 1
        for answer in answers:
            stopped += not answer.complete
            costs = [step.usd_start for step in answer.steps if step.usd_start is not None]
            assert costs == sorted(costs, reverse=True)
            for step in answer.steps:
                if step.proven:
                    assert step.usd_start == whole.cost_at(step.start)
                elif step.start >= certified_s:
                    assert step.usd_start is not None
                    assert step.usd_start <= (plan.usd_per_hour or 0.0)
                    assert whole.cost_at(step.start) <= step.usd_start
    assert stopped


def test_a_plan_at_hand_takes_the_place_of_dearer_ones_and_of_none(plan: mp.Plan) -> None:
    cost = plan.usd_per_hour or 0.0
    dearer = mp.plan(VIDEO, mp.Profiles.default(), BURSTY, slo_s=0.1)
    assert (dearer.usd_per_hour or 0.0) > cost
    steps = [
        StepRange(1, 4, None, proven=True),
        StepRange(5, 14, None, proven=False),
        StepRange(15, 19, dearer, proven=False),
        StepRange(20, 30, dearer, proven=True),
    ]
    made = with_known(steps, plan, 10)
    assert [(step.low, step.high, step.proven) for step in made] == [
        (1, 4, True),
        (5, 9, False),
        (10, 14, False),
        (15, 19, False),
        (20, 30, True),
    ]
    assert [step.plan and step.plan.usd_per_hour for step in made] == [
        None,
        None,
        cost,
        cost,
        dearer.usd_per_hour,
    ]
    assert made[2].plan is not None
    assert (made[2].plan.status, made[2].plan.limit) == (PlanStatus.FEASIBLE, Limit.TIME)


def test_what_if_says_what_is_not_proven_and_stops_at_ctrl_c(plan: mp.Plan) -> None:
    hurried = mp.whatif(plan, BURSTY, {"rate": "2x"}, time_limit_s=1e-3)
    stopped_at = [one.usd_per_hour for _, one, _, _ in hurried.rows() if one.limit is not None]
    assert ("≤" in str(hurried)) is any(usd is not None for usd in stopped_at)
    assert least_cost_text(plan, " $/h") == f"{plan.usd_per_hour:.4f} $/h"
    open_one = replace(plan, status=PlanStatus.FEASIBLE, limit=Limit.TIME)
    assert least_cost_text(open_one) == f"≤ {plan.usd_per_hour:.4f}"
    unknown = replace(plan, choices={}, figures=Figures(), status=PlanStatus.UNKNOWN, limit=Limit.TIME)
    assert least_cost_text(unknown) == "unknown"  # and no more than that

    def interrupt(line: str) -> None:
        if line == "slo=+10%":
            raise KeyboardInterrupt

    stopped = mp.whatif(plan, BURSTY, {"rate": "2x", "slo": "+10%"}, progress=interrupt)
    assert [case.name for case in stopped.cases] == ["rate=2x"]
    assert not stopped.complete
    assert "interrupted before the last case" in str(stopped)


def test_explanations_leave_out_the_stages_that_there_is_no_time_for(plan: mp.Plan) -> None:
    whole = plan.explain()
    spare = {one.stage: one.spare_latency_ns for one in whole.stages}
    assert set(spare) == set(plan.choices)
    for delay in (1e-6, *DELAYS):
        part = mp.explain(plan, BURSTY, time_limit_s=delay)
        assert {one.stage: one.spare_latency_ns for one in part.stages}.items() <= spare.items()
        assert part.stages_complete <= (len(part.stages) == len(spare))
