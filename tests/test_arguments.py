"""What is given in place of an object, such as the name of its file, is refused before any work, and all at once."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import mipplan as mp

PIPELINE, PROFILES = mp.Pipeline.read("cascade"), mp.Profiles.default()
TRACE = mp.Trace.read("steady", end_s=2.0)
NO_PIPELINE = "pipeline: expected a Pipeline, found 'cascade'; Pipeline.read(…) reads a file"
NO_PROFILES = "profiles: expected a Profiles, found 'default'; Profiles.read(…) reads a file"
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
    choices = {"preprocess": ("cpu", 1, 3), "fast": ("t4", 1, 2), "slow": ("v100", 16, 1)}
    with pytest.raises(mp.InputError) as caught:
        mp.verify(mp.Plan.from_choices(PIPELINE, PROFILES, choices), TRACE, **judged)
    assert {fault.place for fault in caught.value.faults} == set(judged)


def test_faults_reach_another_process_as_they_are() -> None:
    """Workers send their errors pickled; one made again of its text had a fault for every letter of it."""
    error = mp.InputError([mp.Fault("a.yaml:3", "no"), mp.Fault("b", "neither")])
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert (type(again), str(again), again.faults) == (
            mp.InputError,
            "a.yaml:3: no\nb: neither",
            error.faults,
        )
