"""Frontiers equal brute force at every breakpoint and on a grid between; solves are as few as steps."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mipplan as mp
from campaigns import campaign_size, write_summary
from mipplan.core import SearchLimits
from mipplan.profiles import Hardware, LatencyTable
from mipplan.questions import AXES_OF_COST, FrontierStep, Problem, axis_of, frontier_of
from mipplan.questions.axes import burstier, faster
from mipplan.questions.staircases import PriceWalker, StepRange, merged
from mipplan.result import PlanStatus, relevant_profiles
from oracle_planner import TooLargeError
from oracle_questions import LeastCosts, microusd
from planning_instances import PlanningInstance, planning_instance
from small_problems import arriving_ms, pipeline_of, profiles_of

#: Points from end to end at which a frontier is held against brute force, besides breakpoints.
GRID = campaign_size(4, 24)


def instances(count: int, first: int) -> Iterator[PlanningInstance]:
    """Instances with a plan of few replicas: brute force settles most of these."""
    found = 0
    for number in itertools.count(first):
        instance = planning_instance(number)
        plan = instance.plan()
        if plan.choices and sum(choice.replicas for choice in plan.choices.values()) <= 12:
            yield instance
            found += 1
        if found == count:
            return


def asked(instance: PlanningInstance, over: str, **more: Any) -> mp.Frontier:
    given = {"time_limit_s": None, "most_steps": 60} | instance.arguments | more
    return mp.frontier(instance.pipeline, instance.profiles, instance.trace, over=over, **given)


def ends_of(frontier: mp.Frontier, ticks: int, most: int = campaign_size(5, 8)) -> set[int]:
    """Whole values at which some steps begin and end."""
    ends = [round(ticks * end) for step in frontier.steps for end in (step.start, step.end)]
    return set(ends[:: max(1, len(ends) // most)]) | set(ends[-1:])


class Seen:
    """Holds frontiers against brute force, and counts what was seen."""

    def __init__(self) -> None:
        self.instances = self.steps = self.points = self.skipped = 0

    def check(
        self, instance: PlanningInstance, frontier: mp.Frontier, ticks: int, truths: dict[int, Any]
    ) -> None:
        """Compare at whole values; where brute force would take too long, skip and count."""
        self.instances += 1
        self.steps += len(frontier.steps)
        costs = LeastCosts(instance)
        for value, truth in truths.items():
            try:
                cost = costs.at(**truth)
            except TooLargeError:
                self.skipped += 1
                continue
            assert microusd(frontier, value / ticks) == cost, (instance.features, value)
            self.points += 1

    def done(self, name: str) -> None:
        assert self.points > self.skipped
        assert self.steps > self.instances
        write_summary(name, vars(self))


def test_along_the_objective_every_breakpoint_is_exact() -> None:
    seen = Seen()
    for instance in instances(campaign_size(5, 120), 71_000):
        low, high = round(0.93 * instance.slo_ns), round(1.3 * instance.slo_ns)
        frontier = asked(instance, "slo", start=low / 1e9, end=high / 1e9)
        assert frontier.exact
        walked = round(1e9 * frontier.steps[0].start)
        assert round(1e9 * frontier.steps[-1].end) == high
        assert walked == low or not frontier.complete
        points = ends_of(frontier, 10**9) | set(np.linspace(walked, high, GRID).astype(int).tolist())
        seen.check(instance, frontier, 10**9, {slo_ns: {"slo_ns": slo_ns} for slo_ns in points})
        for step, after in itertools.pairwise(frontier.steps):
            assert round(1e9 * after.start) == round(1e9 * step.end) + 1
            assert step.microusd_start is None or after.microusd_start < step.microusd_start
        for step in frontier.steps:
            assert step.proven
            assert step.plan is None or mp.certify(step.plan, instance.trace).bound_ns <= round(
                1e9 * step.start
            )
    seen.done("frontier-slo")


def test_along_a_price_every_breakpoint_is_exact() -> None:
    seen = Seen()
    for instance in instances(campaign_size(2, 120), 72_000):
        # Hardware that runs none of the models has no price to ask about.
        name, device = list(relevant_profiles(instance.pipeline, instance.profiles).hardware.items())[-1]
        low, high = device.microusd_per_hour // 3, 2 * device.microusd_per_hour
        frontier = asked(instance, f"price:{name}", start=low / 1e6, end=high / 1e6)
        points = ends_of(frontier, 10**6) | set(np.linspace(low, high, GRID).astype(int).tolist())
        seen.check(instance, frontier, 10**6, {price: {"prices": {name: price}} for price in points})
    seen.done("frontier-price")


def test_along_the_rate_every_hundredth_is_right() -> None:
    seen = Seen()
    for instance in instances(campaign_size(2, 100), 73_000):
        frontier = asked(instance, "rate", start=0.8, end=1.3)
        points = ends_of(frontier, 100) | set(
            range(80, round(100 * frontier.steps[-1].end) + 1, campaign_size(20, 2))
        )
        seen.check(instance, frontier, 100, {tick: {"factor": tick / 100} for tick in points})
    seen.done("frontier-rate")


class Lines(PriceWalker):
    """Walks along the lower envelope of given lines: (devices, others), whose cost at p is others + devices·p."""

    def __init__(self, lines: list[tuple[int, int]]) -> None:
        self.lines, self.plans_made = lines, 0
        super().__init__(SimpleNamespace(solves=0), None, "t4")  # type: ignore[arg-type]

    def plan(self, price: int) -> Any:
        self.plans_made += 1
        cost, line = min((n * price + a, (n, a)) for n, a in self.lines)
        return SimpleNamespace(choices=True, status=PlanStatus.OPTIMAL, microusd_per_hour=cost, at=line)

    proven = plan

    def line(self, plan: Any) -> tuple[int, int]:
        return plan.at


LINES = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 4000)), min_size=1, max_size=12)


@given(LINES, st.integers(1, 40), st.integers(0, 300))
@settings(max_examples=campaign_size(150, 2000), deadline=None)
def test_lower_envelopes_of_lines_equal_brute_force(
    lines: list[tuple[int, int]], low: int, span: int
) -> None:
    walker, high = Lines(lines), low + span
    walk = walker.walk(low, high, 1000, SearchLimits())
    assert walk.complete
    assert [step.low for step in walk.steps[1:]] == [step.high + 1 for step in walk.steps[:-1]]
    assert (walk.steps[0].low, walk.steps[-1].high) == (low, high)
    for step in walk.steps:
        devices, others = walker.line(step.plan)
        for price in range(step.low, step.high + 1):
            assert others + devices * price == min(n * price + a for n, a in lines)
    steps = merged(walk.steps, lambda one, other: walker.line(one.plan) == walker.line(other.plan))
    assert walker.plans_made <= 4 * len(steps)


@given(LINES, st.integers(2, 60), st.integers(1, 200))
@settings(max_examples=campaign_size(150, 2000), deadline=None)
def test_turning_prices_equal_brute_force(lines: list[tuple[int, int]], present: int, far: int) -> None:
    walker = Lines(lines)
    kept = walker.plan(present)
    devices, others = walker.line(kept)
    step = 1 if far > present else -1
    truth = None
    for price in range(present, far + step, step):
        if others + devices * price > min(n * price + a for n, a in lines):
            truth = price - step
            break
    assert walker.turning_price(kept, far) == truth


(SMALL,) = instances(1, 71_000)
#: A little to both sides of its objective.
SPAN = {"start": 0.9 * SMALL.slo_ns / 1e9, "end": 1.2 * SMALL.slo_ns / 1e9}


def test_as_many_plans_are_made_as_there_are_steps() -> None:
    """On a grid as fine as the steps are exact, planning each point anew would take millions of plans."""
    instance = SMALL
    frontier = asked(instance, "slo", **SPAN)
    walked = frontier_of(
        Problem(frontier.plan, [instance.trace]), "slo", tuple(SPAN.values()), None, 60, 1, SearchLimits()
    )
    assert walked.steps == frontier.steps
    assert frontier.solves <= 3 * len(frontier.steps)
    rate = asked(instance, "rate")
    points = round((rate.steps[-1].end - rate.steps[0].start) / rate.resolution)
    assert 5 * rate.solves < points


def test_parts_walked_at_once_give_the_same_steps() -> None:
    instance = SMALL
    for over in ("slo", "rate", f"price:{next(iter(instance.profiles.hardware))}"):
        span = SPAN if over == "slo" else {}
        alone, parted = asked(instance, over, **span), asked(instance, over, n_jobs=2, **span)
        figures = [
            [(step.start, step.end, step.microusd_start, step.microusd_end) for step in found.steps]
            for found in (alone, parted)
        ]
        assert figures[0] == figures[1]


def test_neighbours_are_joined_where_they_are_one_step() -> None:
    steps = [StepRange(1, 2, None), StepRange(3, 5, None, proven=False), StepRange(7, 8, None)]
    assert merged(steps, lambda *_: True) == [StepRange(1, 5, None, proven=False), StepRange(7, 8, None)]
    assert merged(steps, lambda *_: False) == steps


def test_single_values_where_no_plan_is_proven() -> None:
    instance = SMALL
    frontier = asked(
        instance, "slo", guarantee="replay", points=[instance.slo_ns / 1e9, 2 * instance.slo_ns / 1e9]
    )
    assert [step.start for step in frontier.steps] == [step.end for step in frontier.steps]
    assert len(frontier.steps) == 2
    assert not frontier.exact
    assert "nothing is said of what lies between" in frontier.notes[0]


@pytest.mark.parametrize("over", ["slo", "rate"])
def test_where_nothing_was_found_in_the_time_nothing_is_said_of_plans(
    over: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (instance,) = instances(1, 100)
    ticks = itertools.count()
    with monkeypatch.context() as patch:  # a second for every look at the clock
        patch.setattr("time.monotonic", lambda: float(next(ticks)))
        found = asked(instance, over, time_limit_s=1.0)
    assert [(step.plan, step.proven) for step in found.steps] == [(None, False)]
    assert not found.complete
    assert "none found" in str(found)


def test_a_saving_is_a_difference_of_costs() -> None:
    instance = SMALL
    frontier = asked(instance, "slo", **SPAN)
    by = instance.slo_ns / 1e10
    here, there = frontier.cost_at(frontier.present), frontier.cost_at(frontier.present + by)
    assert here is not None
    assert there is not None
    assert frontier.saving(by) == here - there >= 0
    assert frontier.saving(100.0) is None
    table = frontier.to_pandas()
    assert list(table["start"]) == [step.start for step in frontier.steps]
    assert f"{len(frontier.steps)} steps\n" in str(frontier)
    assert repr(frontier).startswith(
        "<Frontier random over slo" if instance.pipeline.name == "random" else "<Frontier "
    )


@pytest.mark.parametrize(
    ("over", "more", "message"),
    [
        ("sol", {}, "did you mean 'slo'"),
        ("price", {}, "there is no axis 'price'"),
        ("price:tpu", {}, "there is no hardware 'tpu'"),
        ("reliability", {}, "goes with the guarantee reliable only"),
        ("accuracy", {}, "no stage has variants to choose from"),
        ("slo", {"start": -1.0}, "start: expected seconds from 0.000000001 to 316,224,000, found -1.0"),
        ("slo", {"start": 3.0, "end": 2.0}, "start: lies above the end"),
        ("slo", {"n_jobs": 0, "most_steps": 0}, "most_steps: expected a whole number above 0"),
    ],
)
def test_what_cannot_be_asked_is_refused(over: str, more: dict[str, Any], message: str) -> None:
    instance = SMALL
    with pytest.raises(mp.InputError, match=message):
        asked(instance, over, **more)


@pytest.mark.parametrize(
    ("over", "more", "told"),
    [
        (
            "price:cpu",
            {"end": 1e9},
            ["end: expected dollars per hour from 0.000001 to 1,000,000, found 1000000000.0"],
        ),
        ("slo", {"end": 1e9}, ["end: expected seconds from 0.000000001 to 316,224,000, found 1000000000.0"]),
        (
            "rate",
            {"start": -1.0, "end": 1e10, "points": [1.0, "a", None], "most_steps": 0},
            [
                "most_steps: expected a whole number above 0, found 0",
                "start: expected a factor from 0.01 to 1,000,000,000, found -1.0",
                "end: expected a factor from 0.01 to 1,000,000,000, found 10000000000.0",
                "points: expected a factor from 0.01 to 1,000,000,000, found 'a'",
                "points: expected a factor from 0.01 to 1,000,000,000, found nothing",
            ],
        ),
    ],
)
def test_values_of_no_axis_are_told_before_anything_is_planned(
    over: str, more: dict[str, Any], told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mipplan.questions.frontiers.first_plan", lambda *_: pytest.fail("planned"))
    with pytest.raises(mp.InputError) as caught:
        asked(SMALL, over, **more)
    assert [str(fault) for fault in caught.value.faults] == told


@pytest.mark.parametrize("name", ["start", "end", "points"])
@pytest.mark.parametrize(
    ("over", "value", "least"),
    [
        ("slo", 4e-10, "seconds from 0.000000001 to"),
        ("rate", 0.0, "a factor from 0.01 to"),
        ("rate", 0.004, "a factor from 0.01 to"),
        ("price:cpu", 4e-7, "dollars per hour from 0.000001 to"),
    ],
)
def test_values_that_round_to_nothing_are_not_moved_up(
    over: str, value: float, least: str, name: str
) -> None:
    given: dict[str, Any] = {name: [1.0, value] if name == "points" else value}
    with pytest.raises(mp.InputError, match=f"{name}: expected {least} .*, found {value}"):
        asked(SMALL, over, **given)


def test_an_axis_of_shares_begins_at_none() -> None:
    given = mp.Pipeline.read("video"), mp.Profiles.default(), mp.Trace.read("steady", end_s=2.0)
    with_start = mp.frontier(*given, over="accuracy", start=0.0)
    assert with_start.steps == mp.frontier(*given, over="accuracy").steps
    with pytest.raises(mp.InputError, match=r"points: expected a share from 0\.001 to 0\.999, found 0\.0"):
        mp.frontier(*given, over="reliability", guarantee="reliable", points=[0.0])


def test_every_axis_has_its_words() -> None:
    for name in AXES_OF_COST:
        axis, what = axis_of(f"{name}:t4" if name == "price" else name)
        assert axis is AXES_OF_COST[name]
        assert what == ("t4" if name == "price" else "")


def test_values_that_are_none_of_an_axis() -> None:
    given = mp.Pipeline.read("cascade"), mp.Profiles.default(), mp.Trace.read("steady", end_s=2.0)
    with pytest.raises(mp.InputError, match="points: expected a list of at least one value"):
        mp.frontier(*given, points=[])
    with pytest.raises(mp.InputError, match="start: traffic can be made burstier only"):
        mp.frontier(*given, over="burstiness", start=0.5)
    video = mp.Pipeline.read("video"), *given[1:]
    with pytest.raises(mp.InputError, match="points: every step along the least accuracy is found"):
        mp.frontier(*video, over="accuracy", points=[0.4])
    with pytest.raises(
        mp.InputError, match="accuracy is traded for cost by plans with a classic certificate"
    ):
        mp.frontier(*video, over="accuracy", guarantee="replay", time_limit_s=2.0)
    plan = mp.plan(*given, energy=mp.EnergyTerms())
    (case,) = mp.whatif(plan, given[2], {"slo": "+10%"}).cases
    assert case.plan.power_w is not None  # as the plan asked about tells it


def test_where_time_was_up_nothing_is_called_impossible() -> None:
    given = mp.Pipeline.read("video-monitoring"), mp.Profiles.default(), mp.Trace.read("bursty", end_s=20.0)
    hurried = mp.frontier(*given, slo_s=0.14, time_limit_s=1e-6, start=0.135, end=0.14)
    assert not all(step.proven for step in hurried.steps)
    assert hurried.complete <= all(step.plan or step.proven for step in hurried.steps)
    assert "is not proven that no plan is cheaper" in str(hurried)
    unknown = FrontierStep(0.135, 0.14, None, None, None, proven=False)
    told = [replace(hurried, steps=(replace(unknown, proven=proven),)) for proven in (True, False)]
    assert [changed for one in told for _, changed in one.changes()] == ["no plan", "none found"]


def test_variants_that_make_other_tokens_are_chosen_anew_at_every_value() -> None:
    """At a tight objective a fast variant that makes two tokens is needed, at a loose one the slow one is cheaper."""
    tables = [
        LatencyTable(model, hardware, np.array([1]), np.array([ms]))
        for model, hardware, ms in (("fast", "gpu", 10.0), ("slow", "cpu", 100.0), ("next", "cpu", 10.0))
    ]
    profiles = mp.Profiles.from_parts([Hardware("cpu", 0.1), Hardware("gpu", 1.0)], tables)
    stages = {"a": {"variants": ["fast", "slow"]}, "b": {"model": "next"}}
    edges = [{"from": "a", "to": "b", "fanout": {"fast": 2, "slow": 1}}]
    pipeline = mp.Pipeline.from_document({"slo": "60ms", "stages": stages, "edges": edges})
    trace = mp.Trace.from_seconds([0.0, 1.0, 2.0, 3.0])
    plan = mp.plan(pipeline, profiles, trace)
    assert (plan.usd_per_hour, plan.choices["a"].variant) == (1.1, "fast")
    (looser,) = mp.whatif(plan, trace, {"slo": "300ms"}).cases
    found = mp.frontier(pipeline, profiles, trace, over="slo", points=[0.06, 0.3])
    for other in (looser.plan, found.steps[-1].plan):
        assert other is not None
        assert (other.usd_per_hour, other.choices["a"].variant) == (0.2, "slow")
    assert looser.difference.stages[0].text == "a 1 × fast on gpu (1) → 1 × slow on cpu (1)"
    assert not mp.frontier(pipeline, profiles, trace, over="slo", start=0.06, end=0.3).exact
    assert mp.sensitivity(pipeline, profiles, trace).plan.choices == plan.choices


def test_under_windows_no_rate_says_anything_of_another() -> None:
    """Three queries, two of them at once: at 1.2 times the rate the third comes into their window, and P50 is easy."""
    profiles = profiles_of({"cpu": 1.0}, {("m", "cpu"): {1: 1}})
    pipeline, trace = pipeline_of({"a": {"model": "m"}}, slo="1500us"), arriving_ms([0, 0, 12])
    windows = {"quantile": 0.5, "per_s": 0.01}
    for over in ("rate", "burstiness"):
        found = mp.frontier(pipeline, profiles, trace, over=over, start=1.0, end=2.0, **windows)
        assert found.complete
        assert "nothing is said of what lies between" in found.notes[0]
        assert all(step.start == step.end for step in found.steps)
        assert (found.steps[0].start, found.steps[-1].end) == (1.0, 2.0)
    whole = mp.frontier(pipeline, profiles, trace, over="rate", start=1.0, end=2.0, quantile=0.5)
    assert [(step.start, step.end) for step in whole.steps] == [(1.0, 2.0)]
    exact = mp.frontier(pipeline, profiles, trace, start=0.001, end=0.1, most_steps=3, **windows)
    assert exact.exact  # the queries of each window are the same whatever the objective is


@pytest.mark.parametrize("over", ["rate", "burstiness"])
def test_under_windows_every_value_told_is_planned_by_itself(over: str) -> None:
    for instance in instances(campaign_size(3, 30), 73_700):
        windows = {"per_s": instance.trace.span_ns / 4e9, **instance.arguments}
        found = mp.frontier(
            instance.pipeline, instance.profiles, instance.trace, over=over, start=1.0, end=1.6, **windows
        )
        for step in found.steps:
            change = faster if over == "rate" else burstier
            trace = change(Problem(found.plan, [instance.trace]), step.start).traces[0]
            alone = mp.plan(instance.pipeline, instance.profiles, trace, **windows)
            assert step.microusd_start == alone.microusd_per_hour
            assert step.proven == (alone.status in ("optimal", "infeasible"))


def test_points_that_are_no_values_are_told() -> None:
    profiles = profiles_of({"cpu": 1.0}, {("m", "cpu"): {1: 1}})
    for points in (0.2, []):
        with pytest.raises(mp.InputError, match="points: expected a list of at least one value"):
            mp.frontier(pipeline_of({"a": {"model": "m"}}), profiles, arriving_ms([0, 12]), points=points)  # type: ignore[arg-type]
