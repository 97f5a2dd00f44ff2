"""`mipplan.fragility`: points are those of a plain loop, breaks those of a brute scan, and few replays do."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mipplan as mp
import oracle_fragility
from campaigns import campaign_size
from mipplan.core import QuantileLimit
from mipplan.perturbation import AXES, Amount, Axis, Fragility, FragilityBreak, measuring
from mipplan.perturbation import Case as Asked
from planning_instances import hand_made
from random_pipelines import Case, cases

PIPELINES = Path(__file__).parents[2] / "profiles" / "pipelines"
CONTINUOUS = ("rate", "burstiness", "service", "fanout")


@pytest.fixture(scope="module")
def plan() -> mp.Plan:
    """A plan for a pipeline that draws at random, some of whose stages have several replicas."""
    pipeline = mp.Pipeline.read(PIPELINES / "video-monitoring.yaml")
    return mp.plan(pipeline, mp.Profiles.default(), _bursty(), time_limit_s=None)


@pytest.fixture(scope="module")
def found(plan: mp.Plan) -> Fragility:
    return mp.fragility(plan, _bursty())


def _bursty() -> mp.Trace:
    return mp.Trace.gamma(rate_rps=140, cv=3.0, duration_s=20, seed=5)


# --- the reference ----------------------------------------------------------------------------------------------------


@settings(max_examples=campaign_size(25, 2_000), deadline=None)
@given(
    cases(max_stages=4, max_arrivals=40),
    st.sampled_from(["oldest_first", "fifo"]),
    st.sampled_from([0.5, 0.9, 1.0]),
    st.floats(0.9, 1.3),
)
def test_every_point_is_that_of_a_plain_loop(case: Case, discipline: Any, share: float, slack: float) -> None:
    world = oracle_fragility.world_of(case)
    base = oracle_fragility.latencies(world, discipline)
    slo_ns = max(1, round(slack * oracle_fragility.quantile(base, share)))
    plan = replace(case.plan(quantile=share), objective=replace(case.plan().objective, quantile=share))
    found = mp.fragility(plan.with_slo(slo_ns), case.trace, discipline=discipline)
    assert found.unperturbed.quantile_ns == oracle_fragility.quantile(base, share)
    rows = [(name, point) for name, point in found.rows() if name != "none"]
    expected = list(oracle_fragility.points(world))
    assert [(name, point.value) for name, point in rows] == [(name, value) for name, value, _ in expected]
    for (name, point), (_, _, perturbed) in zip(rows, expected, strict=True):
        if perturbed is None:
            assert (point.quantile_ns, point.keeps) == (None, False), name
            continue
        latency = oracle_fragility.latencies(perturbed, discipline)
        assert point.quantile_ns == oracle_fragility.quantile(latency, share), (name, point)
        assert point.miss_rate == sum(time > slo_ns for time in latency) / len(latency)
        assert point.keeps == (point.quantile_ns <= slo_ns)
    for axis in found.axes:
        first = axis.first_break
        assert (first is not None) == (found.keeps and bool(axis.missed))
        if first is not None and axis.name in CONTINUOUS:
            assert first.resolution is not None
            perturb = oracle_fragility.PERTURBED[axis.name]
            for value, keeps in ((float(first.value), False), (float(first.value) - first.resolution, True)):
                if value > 1.0:
                    step = round(value / first.resolution) * first.resolution
                    latency = oracle_fragility.latencies(perturb(world, round(step, 3)), discipline)
                    assert (oracle_fragility.quantile(latency, share) <= slo_ns) == keeps, axis


# --- breaks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "slack"),
    [("rate", 1.02), ("rate", 1.15), ("rate", 1.4), ("service", 1.02), ("service", 1.4), ("service", 2.2)],
)
def test_break_is_where_a_scan_of_every_step_finds_it(name: str, slack: float) -> None:
    """One stage that serves single tokens: by Lindley's recursion latencies grow with both."""
    profiles = mp.Profiles.from_document(
        {
            "hardware": {"cpu": {"usd_per_hour": 1.0, "source": ""}},
            "tables": [{"model": "m", "hardware": "cpu", "batch": [1], "latency_ms": [10.0], "source": [""]}],
        }
    )
    pipeline = mp.Pipeline.from_document({"name": "one", "slo": "1s", "stages": {"only": {"model": "m"}}})
    given = mp.Plan.from_choices(pipeline, profiles, {"only": ("cpu", 1, 1)}, quantile=0.9)
    trace = mp.Trace.poisson(rate_rps=50, duration_s=10, seed=2)
    planned = given.with_slo(round(slack * mp.replay(given, trace).quantile_ns(0.9)))
    axis, case = AXES[name], Asked(planned, trace, 0)

    def misses(step: int) -> bool:
        perturbed = axis.perturb(case, axis.at(step))
        assert perturbed is not None
        return mp.replay(perturbed.plan, perturbed.trace).quantile_ns(0.9) > planned.slo_ns

    scanned = next((step for step in range(1_001, 1_501) if misses(step)), None)
    first = mp.fragility(planned, trace).axis(name).first_break
    assert scanned is not None
    assert first == FragilityBreak(name, scanned / 1_000, first.label, (scanned - 1_000) / 1_000, 0.001)
    assert first.how == "exact to 0.1 %"


def test_first_break_is_the_smallest_of_all(found: Fragility) -> None:
    assert found.keeps
    breaks = [axis.first_break for axis in found.axes if axis.first_break is not None]
    assert len(breaks) > 2
    assert found.first_break in breaks
    assert found.first_break.size == min(each.size for each in breaks)
    assert found.axis(found.first_break.axis).title in found.breaks_first


def test_lost_replicas_come_by_their_share_and_dead_stages_are_called_so(
    plan: mp.Plan, found: Fragility
) -> None:
    points = found.axis("replica").points
    counts = {stage: choice.replicas for stage, choice in plan.choices.items()}
    assert sorted(counts.values()) != [1] * len(counts)
    assert [1 / point.size for point in points] == pytest.approx(sorted(counts.values(), reverse=True))
    for point in points:
        left = counts[str(point.value)] - 1
        assert point.label == f"{point.value}: {left} of {left + 1}"
        assert (point.quantile_ns is None) == (left == 0)
    first = found.axis("replica").first_break
    assert first is not None
    assert (first.resolution, first.how) == (None, "first grid point")


def test_plan_that_misses_as_it_is_says_so_and_looks_for_no_break(plan: mp.Plan) -> None:
    found = mp.fragility(plan.with_slo(plan.slo_ns // 4), _bursty())
    assert not found.keeps
    assert found.first_break is None
    assert all(axis.first_break is None for axis in found.axes)
    assert found.replays == 1 + sum(
        point.quantile_ns is not None for axis in found.axes for point in axis.points
    )
    assert "without any perturbation" in found.breaks_first
    assert "MISSED" in str(found)


def test_easy_objective_breaks_at_nothing_but_dead_stages(plan: mp.Plan) -> None:
    found = mp.fragility(plan.with_slo(3_600 * 10**9), _bursty())
    assert {axis.name for axis in found.axes if axis.missed} == {"replica"}
    assert found.axis("rate").verdict == "kept at all 5 points"


# --- how it is measured -----------------------------------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is replayed, each with the seed."""
    calls: list[Any] = []

    def watched(function: Any) -> Any:
        def call(plans: Any, trace: mp.Trace, **more: Any) -> Any:
            calls.append((plans, trace, more["seed"]))
            return function(plans, trace, **more)

        return call

    monkeypatch.setattr(measuring, "replay", watched(measuring.replay))
    monkeypatch.setattr(measuring, "replay_many", watched(measuring.replay_many))
    return calls


def test_replays_are_few_and_use_the_same_draws(counted: list[Any], plan: mp.Plan) -> None:
    found = mp.fragility(plan, _bursty(), seed=7)
    assert found.replays == len(counted) <= 56 + len(plan.choices)
    seeds = [seed for _, _, seed in counted]
    assert seeds[-5:] == [8, 9, 10, 11, 12]
    assert set(seeds[:-5]) == {7}


def test_no_bisection_takes_more_than_is_promised() -> None:
    """Halving the widest gap of every grid: 1 + 24 points, and as many verdicts as there are left of 56."""
    verdicts = 0
    for axis in map(AXES.__getitem__, CONTINUOUS):
        steps = [round(float(amount.value) * (axis.steps or 0)) for amount in _grid(axis)]
        verdicts += max(math.ceil(math.log2(high - low)) for low, high in pairwise(steps))
    assert 1 + 24 + verdicts == 56


def _grid(axis: Axis) -> list[Amount]:
    instance = hand_made()
    choices = dict.fromkeys(instance.pipeline.stages, ("t4", 1, 1))
    plan = mp.Plan.from_choices(instance.pipeline, instance.profiles, choices)
    assert axis.steps is not None
    return [axis.at(axis.steps), *axis.amounts(Asked(plan, instance.trace, 0))]


@pytest.mark.parametrize("law", ["paced", "timed"])
def test_replays_go_by_the_laws_of_the_plan(plan: mp.Plan, law: str) -> None:
    choices = {
        stage: (choice.hardware, choice.batch, choice.replicas + 1) for stage, choice in plan.choices.items()
    }
    given = mp.Plan.from_choices(plan.pipeline, plan.profiles, choices, slo_s=0.4, dispatch=law)
    trace = _bursty()
    found = mp.fragility(given, trace)
    busier = next(point for point in found.axis("rate").points if point.value == 1.2)
    assert busier.quantile_ns == mp.replay(given, trace.scale(1.2), dispatch=law).quantile_ns(0.99)
    eager = mp.replay(given, trace.scale(1.2), dispatch="eager").quantile_ns(0.99)
    assert (busier.quantile_ns == eager) == (law == "timed")  # of which every run is the eager replay


def test_envelope_plan_is_held_to_every_query() -> None:
    instance = hand_made()
    planned = mp.plan(instance.pipeline, instance.profiles, instance.trace, guarantee="envelope", slo_s=1.0)
    found = mp.fragility(planned, instance.trace)
    assert found.quantile == 1.0
    assert found.unperturbed.quantile_ns == mp.replay(planned, instance.trace).latency_ns.max()


def test_nothing_to_perturb_is_said() -> None:
    instance = hand_made()
    graph = mp.Pipeline.from_document({"name": "one", "slo": "80ms", "stages": {"only": {"model": "m"}}})
    table = replace(next(iter(instance.profiles.tables.values())), model="m")
    profiles = instance.profiles.with_hardware(instance.profiles.hardware[table.hardware], [table])
    given = mp.Plan.from_choices(graph, profiles, {"only": (table.hardware, 1, 2)})
    found = mp.fragility(given, mp.Trace.from_ns([5, 5, 5]))
    obstacles = {axis.name: axis.obstacle for axis in found.axes}
    assert obstacles == {
        "rate": "all queries arrive at once",
        "burstiness": "all queries arrive at once",
        "service": None,
        "fanout": "every query makes one token at each stage",
        "replica": None,
        "seed": "the pipeline draws nothing at random",
    }
    assert found.unperturbed.cv is None
    assert len(found.to_pandas()) == 1 + 5 + 1


def test_ctrl_c_leaves_what_was_replayed(plan: mp.Plan) -> None:
    calls: list[str] = []

    def progress(line: str) -> None:
        calls.append(line)
        if line == "service times: +20 % (33% of all)":
            raise KeyboardInterrupt

    found = mp.fragility(plan, _bursty(), progress=progress)
    assert calls[0] == "as planned (0% of all)"
    assert found.left_out == ("service", "fanout", "replica", "seed")
    assert [point.label for point in found.axis("service").points] == ["+5 %", "+10 %"]
    assert found.axis("seed").points == ()
    assert found.axis("seed").verdict == "not tried"
    assert [axis.name for axis in found.axes] == list(AXES)


def test_ctrl_c_while_bisecting_leaves_the_grid_point(plan: mp.Plan) -> None:
    def progress(line: str) -> None:
        if "looking for the first" in line:
            raise KeyboardInterrupt

    found = mp.fragility(plan, _bursty(), progress=progress)
    first = found.first_break
    assert first is not None
    assert first.how == "first grid point"
    assert first.axis in found.left_out


# --- bad input --------------------------------------------------------------------------------------------------------


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(mp.InputError) as raised:
        mp.fragility("plan.json", [1, 2], discipline="lifo", engine="cython", seed=-1)  # type: ignore[arg-type]
    places = [fault.place for fault in raised.value.faults]
    assert places == ["plan", "trace", "discipline", "engine", "seed"]


def test_plan_without_choices_is_none() -> None:
    instance = hand_made(slo_s=0.001)
    with pytest.raises(mp.NoPlanError):
        mp.fragility(mp.plan(instance.pipeline, instance.profiles, instance.trace), instance.trace)


# --- what it shows ----------------------------------------------------------------------------------------------------


def test_result_prints_tabulates_and_draws(found: Fragility) -> None:
    text = str(found)
    assert len(text.splitlines()) <= 15
    assert f"first break  {found.breaks_first}" in text
    assert "\n" not in repr(found)
    table = found.to_pandas()
    assert table["perturbation"].iloc[0] == "as planned"
    assert len(table) == 1 + sum(len(axis.points) for axis in found.axes)
    assert set(table["axis"]) == {"none", *AXES}
    figure = found.plot()
    titles = [axes.get_title(loc="left").split() for axes in figure.axes]  # Long ones are broken.
    assert titles == [f"{axis.title} {axis.verdict}".split() for axis in found.axes]
    for axes, axis in zip(figure.axes, found.axes, strict=True):
        dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
        assert [line.get_ydata()[0] for line in dashed] == [found.plan.slo_s * 1e3]
        dotted = [line for line in axes.lines if line.get_linestyle() == ":"]
        assert len(dotted) == (axis.first_break is not None)
        if axis.name in CONTINUOUS and axis.first_break is not None:
            assert dotted[0].get_xdata()[0] == axis.first_break.value


def test_of_several_limits_quantiles_are_the_first_ones_and_all_must_be_kept(plan: mp.Plan) -> None:
    """What is least left of any limit is no P99: P50 decides here, and P99 is far below its limit."""
    trace = _bursty()
    now = mp.replay(plan, trace)
    half = QuantileLimit(0.5, round(1.02 * now.quantile_ns(0.5)))
    asked = replace(plan, objective=replace(plan.objective, slo_ns=10**9, others=(half,)))
    found = mp.fragility(asked, trace)
    assert found.keeps
    assert found.unperturbed.quantile_ns == now.quantile_ns(0.99)
    for point in found.axis("rate").points:
        busier = mp.replay(plan, trace.scale(float(point.value)))
        assert point.quantile_ns == busier.quantile_ns(0.99)
        assert point.keeps == (busier.quantile_ns(0.5) <= half.limit_ns)
    assert found.axis("rate").missed
    title = found.plot().get_suptitle()
    assert asked.objective.text in title.replace("\n", " ")


# --- several samples --------------------------------------------------------------------------------------------------


def test_of_several_samples_the_worst_counts_everywhere(plan: mp.Plan) -> None:
    calm = replace(mp.Trace.poisson(rate_rps=170, duration_s=8, seed=6), name="calm")
    wild = replace(_bursty().slice(0, 8), name="wild")
    both = replace(plan, objective=replace(plan.objective, seeds=2))
    found = mp.fragility(both, [wild, calm])
    alone = [mp.fragility(plan, trace, seed=seed) for trace in (calm, wild) for seed in (0, 1)]
    assert found.samples == ("calm, seed 0", "calm, seed 1", "wild, seed 0", "wild, seed 1")
    assert found.unperturbed.quantile_ns == max(one.unperturbed.quantile_ns or 0 for one in alone)
    assert found.keeps == all(one.keeps for one in alone)
    assert found.unperturbed.sample in found.samples
    for name in (*CONTINUOUS, "replica"):
        own = found.axis(name)
        for place, point in enumerate(own.points):
            others = [one.axis(name).points[place] for one in alone]
            assert point.quantile_ns == max((o.quantile_ns for o in others if o.quantile_ns), default=None)
            assert point.keeps == all(other.keeps for other in others)
        firsts = [one.axis(name).first_break for one in alone]
        if found.keeps and name in ("rate", "service"):
            known = [first.value for first in firsts if first is not None]
            assert (own.first_break is None) == (not known)
            if own.first_break is not None:
                assert own.first_break.value <= min(known)
    assert [point.value for point in found.axis("seed").points] == [2, 3, 4, 5, 6]
    assert "worst of" in str(found)
    assert mp.fragility(both, wild, seed=1).samples == ()
