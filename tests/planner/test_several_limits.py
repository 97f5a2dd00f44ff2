"""Objectives of several quantiles: what is found out for each limit by itself, and what that may take."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

import pytest

import mipplan as mp
from mipplan.core import Deadline, SearchLimits
from mipplan.documents import shipped_folder
from mipplan.options import Configuration, Option
from mipplan.planner import PlanMaker, PlanSearch, SearchOutcome, narrowing
from mipplan.planner import instance as instances
from mipplan.planner.heuristics import CertifiedConfiguration
from mipplan.planner.narrowing import PLANNING, begin
from mipplan.planner.oracle import CertificateOracle
from mipplan.questions import Problem
from mipplan.result import Limit
from mipplan.tokens import Workload, realise
from planning_instances import hand_made


def asked(p50: str = "40ms", **more: Any) -> mp.Plan:
    """Plan a small pipeline with two limits."""
    instance = hand_made()
    both = instance.pipeline.asking({"p50": p50, "p99": "80ms"})
    return mp.plan(both, instance.profiles, instance.trace, **more)


@pytest.mark.parametrize(
    ("time_limit_s", "p50", "analyses"),
    [(1e-9, "10ms", 1), (None, "10ms", 3), (None, "79ms", 2), (1e3, "79ms", 1)],
)
def test_no_limit_is_looked_at_by_itself_where_time_is_short_or_all_is_known(
    time_limit_s: float | None, p50: str, analyses: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a long trace every look took seconds, beyond the time limit, and the tokens were drawn anew for each."""
    drawn, analysed = count(), count()

    def drawing(*arguments: Any) -> Workload:
        next(drawn)
        return realise(*arguments)

    def analysing(*arguments: Any) -> CertificateOracle:
        next(analysed)
        return CertificateOracle(*arguments)

    monkeypatch.setattr(instances, "realise", drawing)
    monkeypatch.setattr(instances, "CertificateOracle", analysing)
    asked(p50, time_limit_s=time_limit_s)
    assert (next(drawn), next(analysed)) == (1, analyses)


def test_ctrl_c_while_the_trace_is_looked_at_once_more_ends_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    analysed = count()

    def analysing(*arguments: Any) -> CertificateOracle:
        if next(analysed) == 1:
            raise KeyboardInterrupt
        return CertificateOracle(*arguments)

    monkeypatch.setattr(instances, "CertificateOracle", analysing)
    plan = asked(time_limit_s=None)  # Within a time limit all of them together come first.
    assert (plan.status, plan.limit) == ("unknown", "interrupt")


def test_what_one_limit_proves_bounds_a_plan_that_was_stopped() -> None:
    pipeline = mp.Pipeline.read(shipped_folder() / "pipelines" / "audio-question-answering.yaml")
    profiles = mp.Profiles.default()
    trace = mp.Trace.read(shipped_folder() / "traces" / "steady.csv.gz")
    begun = count()

    def interrupt(text: str) -> None:
        # The third search is that for both limits.
        if text.startswith("looking for a first") and next(begun) == 2:
            raise KeyboardInterrupt

    both = pipeline.asking({"p50": "90ms", "p99": "150ms"})
    plan = mp.plan(both, profiles, trace, time_limit_s=None, progress=interrupt)
    alone = mp.plan(pipeline.asking({"p50": "90ms"}), profiles, trace)
    assert plan.limit == "interrupt"
    assert alone.microusd_per_hour is not None
    assert plan.lower_bound_microusd_per_hour is not None
    assert plan.lower_bound_microusd_per_hour >= alone.microusd_per_hour


def test_questions_that_keep_what_is_at_hand_plan_for_each_limit_by_itself() -> None:
    """Each was looked at with the waits of all of them: a plan that is optimal was said not to be there."""
    instance = hand_made()
    both = instance.pipeline.asking({"p50": "30ms", "p99": "80ms"})
    plan = mp.plan(both, instance.profiles, instance.trace)
    told = mp.sensitivity(both, instance.profiles, instance.trace)
    assert plan.status == told.plan.status == "optimal"
    assert told.plan.microusd_per_hour == plan.microusd_per_hour


@pytest.mark.parametrize("guarantee", ["trace", "replay"])
def test_ctrl_c_as_the_reason_is_looked_for_leaves_that_there_is_no_plan(guarantee: str) -> None:
    def interrupt(text: str) -> None:
        if text.startswith("finding out"):
            raise KeyboardInterrupt

    instance = hand_made()
    hopeless = instance.pipeline.asking({"p50": "1ms", "p99": "80ms"})
    plan = mp.plan(hopeless, instance.profiles, instance.trace, guarantee=guarantee, progress=interrupt)
    assert plan.status == "infeasible"


def dearest() -> tuple[PlanMaker, CertifiedConfiguration]:
    """A problem of millions of options, with the dearest plan of all, which is what a search may find first."""
    trace = mp.Trace.gamma(rate_rps=150.0, cv=2.0, duration_s=20.0, seed=1)
    made = mp.plan(mp.Pipeline.read("social-media"), mp.Profiles.default(), trace)
    asked = Problem(made, [trace]).asked
    maker = PlanMaker(asked, SearchLimits())
    most = Configuration()
    for stage, found in maker.instance.families.items():
        soonest = min(found.families, key=lambda family: family.service(family.most).latency_ns)
        most[stage] = Option(soonest, soonest.most)
    return maker, CertifiedConfiguration.of(most, maker.instance)


def test_dear_first_plans_are_made_cheaper_before_all_options_are_listed() -> None:
    """Listing millions of options took a minute, whatever time was left."""
    maker, first = dearest()
    instance, own = maker.instance, PLANNING.narrowing
    assert first.certificate_ns <= instance.deadline_ns
    assert instance.count_affordable(first.cost) > own.vast
    over = replace(maker.method, limits=SearchLimits(Deadline.after(1e-9)))
    assert begin(instance, first, over, PLANNING, by_arrival=False) == (first, Limit.TIME)
    cheaper, stop = begin(instance, first, maker.method, PLANNING, by_arrival=False)
    assert stop is None
    assert instance.count_affordable(cheaper.cost) <= own.most


def test_ctrl_c_ends_the_search_for_a_plan_to_begin_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was searched among few numbers of replicas ended; all that comes after it was begun all the same."""
    maker, first = dearest()
    runs = []

    class Interrupted(PlanSearch):
        def run(self) -> SearchOutcome:
            runs.append(self)
            return SearchOutcome(None, 0, Limit.INTERRUPT)

    monkeypatch.setattr(narrowing, "PlanSearch", Interrupted)
    kept, stop = begin(maker.instance, first, maker.method, PLANNING, by_arrival=False)
    assert (kept.cost, stop, len(runs)) == (first.cost, Limit.INTERRUPT, 1)
    kept, stop = begin(maker.instance, first, maker.method, PLANNING, by_arrival=True)
    assert (kept.cost, stop, len(runs)) == (first.cost, Limit.INTERRUPT, 2)
