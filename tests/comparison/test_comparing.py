"""`mipplan.compare`: every figure of a row recomputed, nobody sees the rest, Ctrl-C leaves what was complete."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mipplan as mp
from mipplan.comparison import Comparison, ComparisonRow, Contender, Judgement, comparing
from mipplan.result import Effort, Provenance, Refinement
from mipplan.tokens import Sample
from planning_instances import hand_made

PIPELINES = Path(__file__).parents[2] / "profiles" / "pipelines"
LIMIT_S = 3.0
#: Where each planner is called from.
CALLED = {
    "plan": Contender.CERTIFIED,
    "refine": Contender.REFINED,
    "inferline": Contender.INFERLINE,
    "coarse_grained": Contender.COARSE_MEAN,
    "half_slo": Contender.HALF_SLO,
}

Problem = tuple[mp.Pipeline, mp.Profiles, mp.Trace]


@pytest.fixture(scope="module")
def problem() -> Problem:
    """A pipeline that draws at random, and bursty traffic."""
    pipeline = mp.Pipeline.read(PIPELINES / "cascade.yaml")
    return pipeline, mp.Profiles.default(), mp.Trace.gamma(rate_rps=80, cv=2.0, duration_s=30, seed=3)


@pytest.fixture(scope="module", params=["oldest_first", "fifo"])
def compared(problem: Problem, request: pytest.FixtureRequest) -> Comparison:
    return mp.compare(*problem, split=0.4, discipline=request.param, time_limit_s=LIMIT_S)


def stub(problem: Problem, calls: list[tuple[Any, ...]]) -> Callable[..., mp.Plan]:
    """Stand in for a planner: notes what it was given, and returns a plan at once."""
    pipeline, profiles, _ = problem
    choices = {stage: (_hardware(profiles, pipeline.stages[stage].model), 1, 4) for stage in pipeline.stages}
    made = mp.Plan.from_choices(pipeline, profiles, choices)

    def planner(*given: Any, **more: Any) -> mp.Plan:
        # The number of draws is no seed.
        calls.append((*given, *(value for name, value in more.items() if name != "seeds")))
        return made

    return planner


def _hardware(profiles: mp.Profiles, model: str) -> str:
    return next(hardware for known, hardware in profiles.tables if known == model)


# --- figures ---------------------------------------------------------------------------------------------------------


def test_every_planner_has_a_row_in_the_order_asked_for(compared: Comparison) -> None:
    assert [row.planner for row in compared.rows] == list(Contender)
    assert compared.left_out == ()
    assert all(row.plan.choices for row in compared.rows)


def test_figures_are_those_of_replay_and_certificate(compared: Comparison) -> None:
    for row in compared.rows:
        plan, slo_s = row.plan, compared.slo_s
        queues = {"discipline": compared.discipline}
        assert row.certificate_ns == mp.certify(plan, compared.planned_on, **queues).bound_ns
        if plan.discipline == compared.discipline and plan.certificate_ns is not None:
            assert row.certificate_ns == plan.certificate_ns
        parts = [(compared.planned_on, row.in_sample, 0)]
        parts += [
            (compared.judged_on, judged, seed)
            for judged, seed in zip(row.over_seeds, (1, 2, 3, 4, 5), strict=True)
        ]
        for trace, judged, seed in parts:
            assert judged is not None
            result = mp.replay(plan, trace, discipline=compared.discipline, seed=seed, engine="python")
            observed_s = result.quantile(0.99)
            assert (judged.seed, judged.queries) == (seed, len(trace))
            assert judged.quantile_s == observed_s
            assert (judged.misses, judged.miss_rate) == (result.misses(slo_s), result.miss_rate(slo_s))
            assert judged.keeps == (observed_s <= slo_s)
        assert row.held_out == row.over_seeds[0]
        assert row.worst_quantile_s == max(judged.quantile_s for judged in row.over_seeds)
        assert row.median_quantile_s == sorted(judged.quantile_s for judged in row.over_seeds)[2]
        assert row.worst_miss_rate == max(judged.miss_rate for judged in row.over_seeds)
        assert row.median_miss_rate == sorted(judged.miss_rate for judged in row.over_seeds)[2]


def test_objective_is_kept_up_to_the_nanosecond(problem: Problem) -> None:
    plan, trace = stub(problem, [])(), problem[2]
    result = mp.replay(plan, trace, seed=0)
    reached_ns = result.quantile_ns(0.99)
    evaluator = comparing.Evaluator(lambda _: [Sample(trace, 0)], [trace], "oldest_first", (1,))
    for slo_ns in (reached_ns, reached_ns - 1):
        row = ComparisonRow(Contender.HALF_SLO, plan.with_slo(slo_ns), 1.0, 0)
        judged = evaluator.judged(row, lambda _: None).in_sample
        assert judged is not None
        assert judged.keeps == (slo_ns == reached_ns)
        assert judged.misses == sum(latency > slo_ns for latency in result.latency_ns.tolist())


def test_what_planners_promise_holds_in_sample(compared: Comparison) -> None:
    refined, certified = compared.row("refined"), compared.row("certified")
    assert refined.in_sample is not None
    assert refined.in_sample.keeps
    assert refined.plan.refinement is not None
    assert refined.plan.refinement.discipline == compared.discipline
    assert refined.plan.microusd_per_hour <= certified.plan.microusd_per_hour
    assert certified.in_sample.quantile_ns <= certified.certificate_ns <= compared.slo_ns
    if compared.discipline == "fifo":
        greedy = compared.row("inferline")
        assert greedy.in_sample.keeps
        assert refined.plan.microusd_per_hour <= greedy.plan.microusd_per_hour


def test_plans_are_those_of_the_planners_on_the_first_part(compared: Comparison, problem: Problem) -> None:
    given = (*problem[:2], compared.planned_on)
    expected = {
        "certified": mp.plan(*given, discipline=compared.discipline),
        "inferline": mp.baselines.inferline(*given),
        "coarse_mean": mp.baselines.coarse_grained(*given),
        "coarse_peak": mp.baselines.coarse_grained(*given, mode="peak"),
        "half_slo": mp.baselines.half_slo(*given),
    }
    assert {name: compared.row(name).plan for name in expected} == expected
    greedy = expected["inferline"]
    assert greedy.effort is not None
    assert compared.row("inferline").estimator_calls == greedy.effort.estimator_calls > 0
    refined = compared.row("refined")
    assert refined.plan.refinement is not None
    assert refined.estimator_calls == refined.plan.refinement.replays > 0
    assert refined.planning_s > compared.row("certified").planning_s > 0


def test_rows_by_cost(compared: Comparison) -> None:
    costs = [row.plan.usd_per_hour for row in compared.by_cost]
    assert costs == sorted(costs)
    assert set(map(id, compared.by_cost)) == set(map(id, compared.rows))
    with pytest.raises(KeyError):
        compared.row("nobody")


def test_median_of_an_even_number_is_the_higher_one() -> None:
    plan = hand_made().plan()
    judged = tuple(Judgement(seed, 100, ns, ns, True) for seed, ns in ((1, 4), (2, 1), (3, 3), (4, 2)))
    row = ComparisonRow(Contender.CERTIFIED, plan, 1.0, 0, over_seeds=judged)
    assert (row.median_quantile_s, row.worst_quantile_s) == (3e-9, 4e-9)
    assert (row.median_miss_rate, row.worst_miss_rate) == (0.03, 0.04)
    empty = replace(row, over_seeds=())
    assert empty.held_out is empty.median_quantile_s is empty.worst_miss_rate is None


# --- infeasible ------------------------------------------------------------------------------------------------------


def test_planners_without_a_plan_are_rows_with_the_reason(problem: Problem) -> None:
    comparison = mp.compare(*problem, slo_s=0.012, time_limit_s=LIMIT_S)
    assert [row.planner for row in comparison.rows] == list(Contender)
    for row in comparison.rows:
        assert not row.plan.choices
        assert row.plan.status is mp.PlanStatus.INFEASIBLE
        assert row.plan.reason
        assert row.in_sample is row.held_out is row.certificate_ns is row.worst_quantile_s is None
    assert comparison.by_cost == comparison.rows


def test_refinement_needs_no_certified_plan(problem: Problem) -> None:
    certified_in = next(slo for slo in (0.03, 0.04, 0.05) if mp.plan(*problem, slo_s=slo).choices)
    comparison = mp.compare(
        *problem, slo_s=certified_in - 0.01, planners=["refined", "certified"], time_limit_s=20 * LIMIT_S
    )
    assert not comparison.row("certified").plan.choices
    assert comparison.row("refined").plan.choices
    assert [row.planner for row in comparison.by_cost] == ["refined", "certified"]


# --- no leakage ------------------------------------------------------------------------------------------------------


def test_no_planner_is_given_anything_of_the_rest(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []
    for name in CALLED:
        monkeypatch.setattr(comparing, name, stub(problem, calls))
    comparison = mp.compare(*problem, split=0.3)
    cut_ns = comparison.judged_on.arrival_ns[0]
    assert len(calls) == 6
    for given in calls:
        listed = [one for value in given if isinstance(value, list) for one in value]
        traces = [value for value in (*given, *listed) if isinstance(value, mp.Trace)]
        assert traces == [comparison.planned_on]
        assert traces[0].arrival_ns[-1] < cut_ns
        assert traces[0].arrival_ns.base is None  # no view through which the rest could be reached
        assert not [value for value in given if type(value) is int and value in comparison.seeds]


def test_plans_do_not_depend_on_the_rest(problem: Problem, compared: Comparison) -> None:
    pipeline, profiles, trace = problem
    last_ns = trace.arrival_ns[-1]
    other = np.linspace(compared.judged_on.arrival_ns[0], last_ns, 200).astype(np.int64)
    changed = mp.Trace.from_ns(
        np.concatenate([compared.planned_on.arrival_ns, other]), trace.name, trace.note
    )
    again = mp.compare(
        pipeline, profiles, changed, split=0.4, discipline=compared.discipline, planners=_FAST, seeds=[9]
    )
    assert [row.plan for row in again.rows] == [compared.row(name).plan for name in _FAST]
    assert [row.in_sample for row in again.rows] == [compared.row(name).in_sample for name in _FAST]
    assert again.row("half_slo").held_out != compared.row("half_slo").held_out


_FAST = ("certified", "inferline", "coarse_mean", "coarse_peak", "half_slo")


def test_all_are_judged_alike(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[tuple[mp.Trace, Any, Any]] = []
    replay = mp.replay

    def recording(plan: mp.Plan, trace: mp.Trace, **how: Any) -> mp.ReplayResult:
        judged.append((trace, how["discipline"], how["seed"]))
        return replay(plan, trace, **how)

    monkeypatch.setattr(comparing, "replay", recording)
    comparison = mp.compare(*problem, discipline="fifo", planners=_FAST, seed=4, seeds=[7, 2])
    expected = [
        (comparison.planned_on, "fifo", 4),
        (comparison.judged_on, "fifo", 7),
        (comparison.judged_on, "fifo", 2),
    ]
    assert judged == expected * len(_FAST)
    assert {row.plan.seed for row in comparison.rows} == {4}


def test_refinement_has_a_plan_to_begin_with_where_none_is_certified_under_fifo() -> None:
    stage = {"model": "resnet50", "replicas": {"max": 4}}
    pipeline = mp.Pipeline.from_document(
        {"slo": "6.6ms", "stages": {"a": stage, "b": stage}, "edges": [{"from": "a", "to": "b"}]}
    )
    trace = mp.Trace.gamma(rate_rps=40, cv=1.0, duration_s=20, seed=1)
    planners = ["certified", "refined"]
    found = mp.compare(pipeline, mp.Profiles.default(), trace, discipline="fifo", planners=planners)
    certified, refined = found.row("certified").plan, found.row("refined").plan
    assert (certified.status, certified.discipline) == ("infeasible", "fifo")
    assert refined.choices
    assert refined.refinement is not None
    assert refined.refinement.discipline == "fifo"


def test_one_seed_is_enough_where_nothing_is_drawn() -> None:
    instance = hand_made()
    comparison = mp.compare(instance.pipeline, instance.profiles, instance.trace, planners=["certified"])
    assert comparison.seeds == (1,)
    assert len(comparison.row("certified").over_seeds) == 1


def test_seeds_go_round_after_the_largest(problem: Problem) -> None:
    comparison = mp.compare(*problem, planners=["half_slo"], seed=2**128 - 2)
    assert comparison.seeds == (2**128 - 1, 0, 1, 2, 3)


# --- who is asked what -----------------------------------------------------------------------------------------------


def test_refinement_starts_from_the_certified_plan_which_is_made_once(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []
    certified = replace(stub(problem, [])(), provenance=Provenance(effort=Effort(3, 20.0)))
    refined = replace(certified, provenance=Provenance(refinement=Refinement("fifo", replays=5)))
    monkeypatch.setattr(comparing, "plan", lambda *given, **more: calls.append(given) or certified)
    monkeypatch.setattr(comparing, "refine", lambda *given, **more: calls.append(given) or refined)
    comparison = mp.compare(*problem, planners=["refined", "certified"])
    assert [given[0] for given in calls] == [problem[0], certified]
    assert (comparison.row("certified").planning_s, comparison.row("certified").estimator_calls) == (20.0, 3)
    assert comparison.row("refined").planning_s >= 20.0
    assert comparison.row("refined").estimator_calls == 3 + 5


def test_seeds_count_where_a_variant_that_does_not_run_today_draws_at_random() -> None:
    instance = hand_made()
    document, tables = instance.pipeline.to_document(), list(instance.profiles.tables.values())
    first, edge = next(iter(document["stages"])), document["edges"][0]
    model = document["stages"][first]["model"]
    edge.pop("probability", None)
    document["stages"][first] |= {"model": model, "variants": [model, "quick"]}
    edge["fanout"] = {model: 1, "quick": {"values": [1, 2], "weights": [1, 1]}}
    tables += [replace(table, model="quick") for table in tables if table.model == model]
    slowed = [replace(t, latency_ms=t.latency_ms * (50 if t.model == model else 1)) for t in tables]
    profiles = mp.Profiles.from_parts(instance.profiles.hardware.values(), slowed)
    pipeline = mp.Pipeline.from_document(document)
    assert not pipeline.is_random
    found = mp.compare(
        pipeline,
        profiles,
        instance.trace,
        seeds=[5, 6],
        planners=["certified"],
        slo_s=3.0,
        time_limit_s=LIMIT_S,
    )
    (row,) = found.rows
    assert row.plan.choices[first].variant == "quick"
    assert found.seeds == (5, 6)
    assert len(row.over_seeds) == 2


def test_progress_names_the_planner(problem: Problem) -> None:
    lines: list[str] = []
    mp.compare(*problem, planners=["half_slo", "certified"], progress=lines.append)
    speakers = [line.split(":")[0] for line in lines]
    assert list(dict.fromkeys(speakers)) == ["half_slo", "certified"]
    assert any("held out" in line for line in lines)


# --- Ctrl-C ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("swallowed", [False, True])
def test_ctrl_c_leaves_the_rows_that_were_complete(
    problem: Problem, monkeypatch: pytest.MonkeyPatch, swallowed: bool
) -> None:
    made = stub(problem, [])

    def interrupted(*given: Any, **more: Any) -> mp.Plan:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            if not swallowed:  # planners take Ctrl-C as the end of their own search
                raise
        return made()

    monkeypatch.setattr(comparing, "inferline", interrupted)
    before = signal.getsignal(signal.SIGINT)
    comparison = mp.compare(*problem, planners=["half_slo", "inferline", "coarse_mean"])
    assert signal.getsignal(signal.SIGINT) is before
    assert [row.planner for row in comparison.rows] == ["half_slo"]
    assert comparison.left_out == ("inferline", "coarse_mean")


def test_a_comparison_that_was_stopped_before_its_first_row_is_an_empty_table(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **more: Any) -> mp.Plan:
        raise KeyboardInterrupt

    monkeypatch.setattr(comparing, "half_slo", interrupted)
    stopped = mp.compare(*problem, planners=["half_slo"])
    assert (stopped.rows, stopped.left_out) == ((), ("half_slo",))
    with pytest.raises(ValueError, match="there is nothing to draw"):
        stopped.plot()
    assert (stopped.to_pandas().empty, stopped.to_pandas().index.name) == (True, "planner")


# --- arguments -------------------------------------------------------------------------------------------------------


def test_all_bad_arguments_come_at_once(problem: Problem) -> None:
    with pytest.raises(mp.InputError) as failure:
        mp.compare(
            *problem,
            slo_s=-1,
            quantile=2,
            split=1.5,
            discipline="lifo",
            planners=["certifed", "half_slo", "half_slo"],
            seeds=[0],
            time_limit_s=0,
        )
    places = [fault.place for fault in failure.value.faults]
    assert places == [
        *("slo_s", "quantile", "split", "discipline", "planners", "planners", "seeds", "time_limit_s")
    ]
    assert "did you mean 'certified'" in str(failure.value)


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        ({"planners": []}, "planners"),
        ({"planners": "certified"}, "planners"),
        ({"planners": [None]}, "planners"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [1, 1]}, "seeds"),
        ({"seeds": [-1]}, "seeds"),
        ({"seed": -1}, "seed"),
        ({"split": True}, "split"),
        ({"split": float("nan")}, "split"),
        ({"split": "half"}, "split"),
        ({"time_limit_s": "60"}, "time_limit_s"),
    ],
)
def test_bad_argument_is_named(problem: Problem, arguments: dict[str, Any], place: str) -> None:
    with pytest.raises(mp.InputError) as failure:
        mp.compare(*problem, **arguments)
    assert {fault.place for fault in failure.value.faults} == {place}


def test_every_trace_is_planned_on_and_judged_by_itself(problem: Problem) -> None:
    pipeline, profiles, trace = problem
    other = mp.Trace.from_ns(trace.scale(1.1).arrival_ns, name="other")
    planners = ("certified", "refined", "half_slo")
    found = mp.compare(pipeline, profiles, [trace, other], planners=planners, draws=2, seeds=[7, 8])
    parts = [(found.planned_on, found.judged_on), *found.others]
    assert found.draws == 2
    assert {planned.name for planned, _ in parts} == {trace.name, "other"}
    for row in found.rows:
        runs = [
            mp.replay(row.plan, planned, discipline="oldest_first", seed=seed)
            for planned, _ in parts
            for seed in (0, 1)
        ]
        assert row.in_sample is not None
        assert row.in_sample.quantile_ns == max(run.quantile_ns(0.99) for run in runs)
        assert row.in_sample.queries == sum(run.queries for run in runs)
        held_out = [mp.replay(row.plan, rest, discipline="oldest_first", seed=7) for _, rest in parts]
        assert row.held_out is not None
        assert row.held_out.quantile_ns == max(run.quantile_ns(0.99) for run in held_out)
    for name in ("certified", "refined"):
        assert len(found.row(name).plan.samples) == 4
        assert found.row(name).in_sample.keeps  # type: ignore[union-attr]
    alone = [
        mp.baselines.half_slo(pipeline, profiles, planned, seed=seed).microusd_per_hour
        for planned, _ in parts
        for seed in (0, 1)
    ]
    assert found.row("half_slo").plan.microusd_per_hour == max(alone)
    assert "and on" in str(found)
    with pytest.raises(mp.InputError, match=r"other than the seed planned with \(0 to 1\)"):
        mp.compare(*problem, draws=2, seeds=[1])
    with pytest.raises(mp.InputError, match="draws: expected a whole number"):
        mp.compare(*problem, draws=0)
