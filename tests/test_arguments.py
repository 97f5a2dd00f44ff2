"""What is given in place of an object, such as the name of its file, is refused before any work, and all at once."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import networkx as nx
import numpy as np
import pytest

import mipplan as mp
from mipplan.following import FollowParams
from mipplan.importers import Stated, read_measurements
from mipplan.serving import check_log, with_allowance

PIPELINE, PROFILES = mp.Pipeline.read("cascade"), mp.Profiles.default()
TRACE = mp.Trace.read("steady", end_s=2.0)
NO_PIPELINE = "pipeline: expected a Pipeline, found 'cascade'; Pipeline.read(…) reads a file"
NO_PROFILES = "profiles: expected a Profiles, found 'default'; Profiles.read(…) reads a file"
CHOICES = {"preprocess": ("cpu", 1, 3), "fast": ("t4", 1, 2), "slow": ("v100", 16, 1)}
ANY: Any = None
ANY_LIST: Any = [1]
PLAN = mp.Plan.from_choices(PIPELINE, PROFILES, CHOICES)
GRAPH: nx.DiGraph[str] = nx.DiGraph()
GRAPH.add_node("a", model="slow", dispatch="late")
NO_PLAN = "expected a Plan, found 'plan.json'; Plan.load(…) reads a file"


@pytest.mark.parametrize(
    "call",
    [
        mp.plan,
        mp.frontier,
        mp.sensitivity,
        mp.compare,
        mp.time_cost_problem,
        mp.baselines.inferline,
        mp.baselines.coarse_grained,
        mp.baselines.half_slo,
        mp.Plan.from_choices,
    ],
)
def test_names_of_pipelines_and_profiles_are_none(call: Callable[..., Any]) -> None:
    third: Any = {} if call == mp.Plan.from_choices else TRACE
    with pytest.raises(mp.InputError) as caught:
        call("cascade", "default", third)
    assert [str(fault) for fault in caught.value.faults] == [NO_PIPELINE, NO_PROFILES]


@pytest.mark.parametrize(
    "call", [mp.certify, mp.refine, mp.sharpen, mp.explain, mp.replay, mp.fragility, mp.tune]
)
def test_names_of_plan_files_are_no_plans(call: Callable[..., Any]) -> None:
    with pytest.raises(mp.InputError) as caught:
        call("plan.json", TRACE)
    assert f"plan: {NO_PLAN}" in [str(fault) for fault in caught.value.faults]


def test_both_sides_of_a_difference_are_plans() -> None:
    with pytest.raises(mp.InputError) as caught:
        mp.diff("plan.json", "plan.json")  # type: ignore[arg-type]
    assert [str(fault) for fault in caught.value.faults] == [f"before: {NO_PLAN}", f"after: {NO_PLAN}"]


@pytest.mark.parametrize("read", [mp.Pipeline.read, mp.Trace.read, mp.Plan.load])
def test_what_names_no_file_is_refused(read: Callable[..., Any]) -> None:
    with pytest.raises(mp.InputError, match="file: expected a name or a path, found 7"):
        read(7)


def test_words_that_are_none_are_refused() -> None:
    with pytest.raises(mp.InputError, match="discipline: expected one of oldest_first, fifo, found ''"):
        mp.plan(PIPELINE, PROFILES, TRACE, discipline="")
    with pytest.raises(mp.SolverUnavailableError, match="there is no solver None"):
        mp.plan(PIPELINE, PROFILES, TRACE, solver=None)  # type: ignore[arg-type]


def test_an_unknown_discipline_hides_nothing_else_that_is_wrong() -> None:
    wrong: dict[str, Any] = {"discipline": "lifo", "dispatch": "late", "certificate": "none"}
    planned = wrong | {"quantile": 3, "headroom": 0, "formulation": "edges", "seed": -1}
    with pytest.raises(mp.InputError) as caught:
        mp.plan(PIPELINE, PROFILES, TRACE, **planned)
    assert {fault.place for fault in caught.value.faults} == set(planned)
    judged = wrong | {"stagger_s": -1, "window_s": -1, "latency": "p42"}
    with pytest.raises(mp.InputError) as caught:
        mp.verify(mp.Plan.from_choices(PIPELINE, PROFILES, CHOICES), TRACE, **judged)
    assert {fault.place for fault in caught.value.faults} == set(judged)


@pytest.mark.parametrize(
    ("call", "places"),
    [
        (lambda plan: mp.certify(plan, TRACE, seed=1.5, stagger_s=-1), {"seed", "stagger_s"}),
        (lambda plan: mp.certify(plan, TRACE, seed=True), {"seed"}),
        (
            lambda plan: mp.Plan.from_choices(PIPELINE, PROFILES, ANY, slo_s=-1, dispatch="late", energy=5),
            {"choices", "slo_s", "dispatch", "energy"},
        ),
        (lambda plan: mp.Pipeline(PIPELINE.graph, slo="80ms"), {"slo"}),
        (lambda plan: mp.ArrivalCurve(((-1, 1), (1, -1))), {"arrival curve"}),
        (lambda plan: mp.ArrivalCurve(((1, 2, 3),)), {"arrival curve"}),
        (lambda plan: mp.ArrivalCurve(True), {"arrival curve"}),
        (lambda plan: TRACE.slice("0", "1"), {"start_s"}),
        (lambda plan: TRACE.slice(Fraction(0), 1.0), {"start_s"}),
        (lambda plan: mp.Tuner(plan, margin_s=50, horizon_s=0), {"margin_s", "horizon_s"}),
        (lambda plan: mp.plan(PIPELINE, PROFILES, TRACE, per_s=-1, share=7), {"per_s", "share"}),
        (
            lambda plan: mp.schedule(plan, [1, -1], bin_s=60, keep="all", headroom=0),
            {"counts[1]", "keep", "headroom"},
        ),
        (
            lambda plan: mp.frontier(
                PIPELINE, PROFILES, TRACE, over="mass", n_jobs=10**30, most_steps=0, points=np.array(3.0)
            ),
            {"over", "n_jobs", "most_steps", "points"},
        ),
        (
            lambda plan: mp.time_cost_problem(PIPELINE, PROFILES, TRACE, slo_s=-1, budget_usd_per_hour=-1),
            {"slo_s", "budget_usd_per_hour"},
        ),
        (lambda plan: mp.Trace.gamma(-1, 0, -1, seed=-1), {"rate_rps", "cv", "duration_s", "seed"}),
        (
            lambda plan: mp.Trace.markov_modulated([1, 2], [1e308, 1e308], 5, 1),
            {"mean_sojourn_s[0]", "mean_sojourn_s[1]"},
        ),
        (lambda plan: mp.guarantee_costs(ANY, TRACE), {"made"}),
        (
            lambda plan: mp.Pipeline(GRAPH, slo_s=-1, window_s=-1),
            {"slo_s", "window_s", "pipeline: stages.a.dispatch"},
        ),
        (
            lambda plan: mp.Plan.from_choices(PIPELINE, PROFILES, CHOICES | {"fast": ("t4", 1, 10**20)}),
            {"choices.fast.replicas"},
        ),
        (
            lambda plan: mp.plan(PIPELINE, PROFILES, TRACE, budget_usd_per_hour=5, slo_s=-1, quantile=2),
            {"slo_s", "quantile"},
        ),
        (lambda plan: mp.plan(PIPELINE, PROFILES, TRACE, budget_usd_per_hour=5, margin_s=-1), {"margin_s"}),
        (
            lambda plan: mp.compare(PIPELINE, PROFILES, TRACE, split=3, draws=0, seeds=[-1]),
            {"split", "draws", "seeds"},
        ),
        (lambda plan: mp.Tuner(plan, waits_ns={"q": 1}, margin_s=-1), {"waits_ns.q", "margin_s"}),
        (
            lambda plan: mp.replay_many([plan, ANY], TRACE, slo_s=-1, engine="q"),
            {"plans[1]", "slo_s", "engine"},
        ),
        (lambda plan: mp.refine(plan, TRACE, discipline=np.array(["fifo", "fifo"])), {"discipline"}),
    ],
)
def test_every_fault_of_a_call_is_told_at_once(call: Callable[[mp.Plan], Any], places: set[str]) -> None:
    plan = mp.Plan.from_choices(PIPELINE, PROFILES, CHOICES)
    with pytest.raises(mp.InputError) as caught:
        call(plan)
    assert {fault.place for fault in caught.value.faults} == places


def test_a_solver_that_is_no_word_is_none() -> None:
    with pytest.raises(mp.SolverUnavailableError, match="there is no solver"):
        mp.plan(PIPELINE, PROFILES, TRACE, solver=ANY or [])


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.float32])
def test_numbers_of_numpy_draw_what_those_of_python_draw(kind: type[np.number[Any]]) -> None:
    """Integers of NumPy overflow where seconds become nanoseconds, and have no negative powers."""
    made: Any = kind
    for draw, given in (
        (mp.Trace.poisson, (100, 20)),
        (mp.Trace.gamma, (100, 2, 20)),
        (mp.Trace.diurnal, (100, 1, 10, 20)),
    ):
        plain, drawn = (
            draw(*given, seed=1),
            draw(*map(made, given), seed=made(1) if kind != np.float32 else 1),
        )
        assert plain.arrival_ns.tolist() == drawn.arrival_ns.tolist()
        assert plain.arrival_ns[-1] > plain.arrival_ns[0]
    listed = mp.Trace.ramp(np.array([50, 100], kind), [made(2), 1], [made(5), 5], made(2), 3)
    assert listed.arrival_ns.tolist() == mp.Trace.ramp([50, 100], [2, 1], [5, 5], 2, 3).arrival_ns.tolist()


def test_an_arrival_curve_may_be_given_as_a_generator() -> None:
    assert mp.ArrivalCurve(pair for pair in [(5, 100)]) == mp.ArrivalCurve.token_bucket(5, 100)  # type: ignore[arg-type]


def test_faults_reach_another_process_as_they_are() -> None:
    """Workers send their errors pickled; one made again of its text had a fault for every letter of it."""
    error = mp.InputError([mp.Fault("a.yaml:3", "no"), mp.Fault("b", "neither")])
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert (type(again), str(again), again.faults) == (
            mp.InputError,
            "a.yaml:3: no\nb: neither",
            error.faults,
        )


@pytest.mark.parametrize(
    ("call", "places"),
    [
        (lambda: mp.read_log(ANY, shift_ns=ANY_LIST), {"file", "shift"}),
        (lambda: mp.write_log("log.parquet", ANY), {"log"}),
        (
            lambda: mp.observe("log", out=ANY_LIST, plan=ANY_LIST, params=ANY),
            {"out", "plan", "params", "log"},
        ),
        (
            lambda: mp.watch(ANY, metrics=ANY, system=ANY_LIST, names=ANY_LIST, params=ANY),
            {"plan", "logs", "metrics", "system", "names", "params"},
        ),
        (lambda: mp.follow(ANY, ANY, metrics=ANY, params=ANY), {"plan", "metrics", "params"}),
        (
            lambda: mp.follow(PLAN, ANY, metrics="http://a", audit=ANY_LIST),
            {"target", "sample", "metrics", "audit"},
        ),
        (lambda: mp.follow(PLAN, "ray:http://a", names=ANY_LIST), {"names", "sample"}),
        (lambda: mp.truth(PLAN, "log", params=ANY_LIST, rules=ANY_LIST), {"params", "rules", "log"}),
        (
            lambda: mp.drive(ANY, "http://a", method=ANY_LIST, headers=ANY_LIST, axes={"n": 0}, params=ANY),
            {"trace", "method", "headers", "axes", "params"},
        ),
        (lambda: mp.drive(TRACE, "http://a", model="\ud800", axes=ANY_LIST), {"model", "axes"}),
        (
            lambda: mp.measure(
                len,
                hardware="cpu",
                batches=[1],
                out=ANY_LIST,
                providers=ANY,
                inputs="",
                axes=ANY_LIST,
            ),
            {"out", "providers", "inputs", "axes"},
        ),
        (lambda: mp.measure_scale(ANY, ANY, []), {"pipeline"}),
        (lambda: mp.export(ANY, to=ANY_LIST, directory="", cpu="t4"), {"plan", "to", "directory", "cpu"}),
        (lambda: mp.compare(PIPELINE, PROFILES, TRACE, planners=ANY, split=2), {"planners", "split"}),
        (lambda: mp.guarantee_costs(PLAN, TRACE, guarantees=ANY, confidence=2), {"guarantees", "confidence"}),
        (lambda: with_allowance(ANY, 0.1), {"plan"}),
        (lambda: check_log(ANY), {"log"}),
        (lambda: read_measurements("there", stated=ANY_LIST), {"stated"}),
        (lambda: Stated(where=ANY, hardware=ANY), {"where", "hardware"}),
        (lambda: FollowParams(metrics_timeout_s=1e30), {"params.metrics_timeout_s"}),
    ],
)
def test_around_serving_what_is_of_another_kind_is_told_with_all_else(
    call: Callable[[], object], places: set[str]
) -> None:
    with pytest.raises(mp.InputError) as caught:
        call()
    assert {fault.place for fault in caught.value.faults} == places
