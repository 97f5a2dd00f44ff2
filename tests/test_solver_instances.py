"""The frozen problems are the ones described, what is known of them holds, and the checker finds every fault."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product

import networkx as nx
import numpy as np
import pytest

from benchmarks.compare import shared_data
from benchmarks.compare.instances import DriftError
from benchmarks.instances.best_known import read_records, write_records
from benchmarks.instances.building import (
    JUST_MISSED,
    KNIFE_EDGE,
    OUT_OF_REACH,
    build,
    fingerprint,
)
from benchmarks.instances.checking import check
from benchmarks.instances.drawing import draw
from benchmarks.instances.modes import make_traded
from benchmarks.instances.selections import fastest, good
from benchmarks.instances.shapes import SHAPES, list_paths, make_arcs
from benchmarks.instances.specs import Spec, read_frozen
from campaigns import campaign_size, is_deep
from mipplan_formulations import Cover
from mipplan_formulations.time_cost import find_undominated
from random_problems import random_problem

FROZEN = read_frozen()
RECORDS = read_records()
SYNTHETIC = [spec for spec in FROZEN if spec.source == "synthetic"]
#: Pipelines take seconds each, for their traces; these are the quick ones.
QUICK = ("pipeline-image-processing-0", "pipeline-video-monitoring-1", "pipeline-measured-000")


# ------------------------------------------------------------------------------------------ frozen problems


def test_descriptions_are_those_that_the_program_draws() -> None:
    assert [replace(spec, fingerprint="") for spec in FROZEN] == draw()


def test_suite_meets_every_shape_deadline_and_kind_of_mode() -> None:
    suite = [spec for spec in SYNTHETIC if spec.group == "suite"]
    shapes = ("chain", "diamond", "layered", "series-parallel", "random", "tree")
    assert {spec.family for spec in suite} == set(shapes)
    for family in shapes:
        own = [spec for spec in suite if spec.family == family]
        assert len({spec.tightness for spec in own}) >= 4
        assert len({spec.modes for spec in own}) >= 2
        assert len({spec.limits for spec in own}) == 2
    assert {KNIFE_EDGE, JUST_MISSED, OUT_OF_REACH} <= {spec.tightness for spec in suite}
    assert sum(spec.covers > 0 for spec in suite) >= 5
    assert {spec.stages for spec in FROZEN} >= {3, 1_000}
    assert len({spec.name for spec in FROZEN}) == len({spec.fingerprint for spec in FROZEN}) == len(FROZEN)
    assert Counter(spec.family == "pipeline" for spec in FROZEN)[True] >= 10


@pytest.mark.parametrize("group", list(dict.fromkeys(spec.group for spec in SYNTHETIC)))
def test_problems_are_those_that_were_frozen_and_records_hold(group: str) -> None:
    for spec in SYNTHETIC:
        if spec.group == group:
            _check_frozen(spec)


@pytest.mark.parametrize("spec", [spec for spec in FROZEN if spec.family == "pipeline"], ids=lambda s: s.name)
def test_pipelines_are_those_that_were_frozen_and_records_hold(spec: Spec) -> None:
    if spec.name not in QUICK and not is_deep():
        pytest.skip("the long campaign builds this one")
    if spec.needs_shared_data and not shared_data.is_present():
        pytest.skip("the public data sets are not beside the checkout")
    _check_frozen(spec)


def _check_frozen(spec: Spec) -> None:
    problem = build(spec)  # raises if it is another one
    record = RECORDS.get(spec.name)
    if record is None:  # only what is built and never solved has none
        assert spec.group == "building"
        return
    assert record.fingerprint == spec.fingerprint
    assert record.status in ("optimal", "open", "infeasible", "unknown")
    if record.cost is not None:
        verdict = check(problem, record.selection)
        assert verdict.faults == ()
        assert verdict.cost == record.cost
        assert record.lower_bound is not None
        assert (record.lower_bound == record.cost) == (record.status == "optimal")
    if record.status == "infeasible":
        assert record.selection == ()
        assert record.proven_by


@pytest.mark.parametrize("change", [{"seed": 1}, {"tightness": 1_301}, {"limits": True}, {"covers": 2}])
def test_another_problem_under_a_frozen_name_is_refused(change: dict[str, int]) -> None:
    spec = next(s for s in SYNTHETIC if s.tightness == 1_300 and not s.limits and not s.covers)
    with pytest.raises(DriftError, match=spec.name):
        build(replace(spec, **change))  # type: ignore[arg-type]


def test_fingerprint_sees_everything_a_solver_sees() -> None:
    problem = build(next(s for s in SYNTHETIC if s.limits and s.covers and s.wait_classes > 1))
    first, path = problem.activities[0], problem.paths[-1]
    changed = [
        replace(problem, deadline=problem.deadline + 1),
        replace(problem, resources=(replace(problem.resources[0], capacity=0), *problem.resources[1:])),
        replace(problem, covers=problem.covers[:-1]),
        replace(problem, paths=problem.paths[:-1]),
        replace(
            problem, paths=(*problem.paths[:-1], replace(path, waits=(path.waits[0] + 1, *path.waits[1:])))
        ),
    ]
    changed += [
        replace(
            problem, activities=(replace(first, **{name: getattr(first, name) + 1}), *problem.activities[1:])
        )
        for name in ("cost", "duration", "usage")
    ]
    prints = [fingerprint(other) for other in (problem, *changed)]
    assert len(set(prints)) == len(prints)


def test_knife_edges_are_where_a_good_selection_is() -> None:
    spec = next(s for s in SYNTHETIC if s.tightness == KNIFE_EDGE and not s.limits)
    edge = build(replace(spec, fingerprint="", pruned=False))
    missed = build(replace(spec, fingerprint="", pruned=False, tightness=JUST_MISSED))
    assert missed.deadline == edge.deadline - 1
    assert check(edge, good(edge)).faults == ()
    assert check(missed, good(edge)).faults


def test_hopeless_deadlines_are_below_what_any_selection_takes() -> None:
    problem = build(next(s for s in SYNTHETIC if s.tightness == OUT_OF_REACH))
    least = max(
        path.lag + sum(int(problem.activities[v].duration.min()) for v in path.activities)
        for path in problem.paths
    )
    assert problem.evaluate(fastest(problem)).makespan > problem.deadline
    assert least * 0.9 < problem.deadline


# ---------------------------------------------------------------------------------------- shapes and modes


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("stages", "width"), [(3, 1), (9, 3), (16, 4)])
def test_paths_are_all_those_of_the_graph(shape: str, stages: int, width: int) -> None:
    arcs = make_arcs(shape, stages, width, np.random.default_rng(3))
    assert all(0 <= tail < head < stages for tail, head in arcs)
    graph = nx.DiGraph(arcs)
    graph.add_nodes_from(range(stages))
    ends = [[v for v in graph if not degree(v)] for degree in (graph.in_degree, graph.out_degree)]
    expected = [
        tuple(path)
        for source, sink in product(*ends)
        for path in ([[source]] if source == sink else nx.all_simple_paths(graph, source, sink))
    ]
    assert list_paths(stages, arcs) == sorted(expected)
    assert {v for path in expected for v in path} == set(range(stages))


@pytest.mark.parametrize("doublings", [0, 1, 5])
def test_a_ladder_has_twice_as_many_paths_per_pair(doublings: int) -> None:
    arcs = make_arcs("ladder", 12, doublings, np.random.default_rng(0))
    assert len(list_paths(12, arcs)) == 2**doublings


def test_too_many_paths_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 20000 paths"):
        list_paths(60, make_arcs("ladder", 60, 20, np.random.default_rng(0)))


@pytest.mark.parametrize("count", [1, 20, 350])
def test_no_traded_mode_dominates_another(count: int) -> None:
    modes = make_traded(np.random.default_rng(5), count, 1)
    measures = np.stack([modes.cost, modes.duration, *modes.wait], axis=1)
    assert modes.cost.size == count
    assert find_undominated(measures).all()


# -------------------------------------------------------------------------------------------------- checker


def test_checker_agrees_with_the_problems_own_judgement() -> None:
    rng = np.random.default_rng(12)
    seen: Counter[bool] = Counter()
    for _ in range(campaign_size(400, 20_000)):
        problem = random_problem(rng)
        selection = tuple(int(rng.integers(0, m)) for m in problem.mode_counts)
        verdict, judged = check(problem, selection), problem.evaluate(selection)
        assert verdict.cost == judged.cost
        assert (verdict.faults == ()) == judged.feasible
        seen[judged.feasible] += 1
    assert min(seen[True], seen[False]) > 20


def test_checker_names_every_fault() -> None:
    spec = next(s for s in SYNTHETIC if s.limits and s.covers)
    problem = build(replace(spec, fingerprint="", pruned=False))
    plan = good(problem)
    assert check(problem, plan).faults == ()
    nothing = tuple((v, np.zeros(problem.activities[v].num_modes, dtype=bool)) for v in (0, 1))
    broken = replace(
        problem,
        deadline=0,
        resources=tuple(replace(r, capacity=0) for r in problem.resources),
        covers=(Cover(nothing),),
    )
    faults = check(broken, plan).faults
    assert sum(fault.startswith("path ") for fault in faults) == len(problem.paths)
    assert any(fault.startswith("hardware") for fault in faults)
    assert faults[-1] == "cover 0 is not met"
    assert check(problem, plan[:-1]).faults == (f"{len(plan) - 1} modes for {len(plan)} activities",)
    assert check(problem, (10**6, *plan[1:])).faults == ("activity 0 has no mode 1000000",)


def test_records_survive_their_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    write_records(RECORDS, tmp_path / "records.json")
    assert read_records(tmp_path / "records.json") == RECORDS
    assert read_records(tmp_path / "none.json") == {}
