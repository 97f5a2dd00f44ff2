"""Problems made from their descriptions, and fingerprints that show when they are no longer the same."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import pairwise

import numpy as np

import mipplan as mp
from benchmarks.compare.instances import DriftError
from benchmarks.compare.instances import build as build_compared
from benchmarks.compare.specs import read_frozen as read_compared
from benchmarks.instances.modes import PRICES, IntArray, Modes, make_served, make_traded
from benchmarks.instances.selections import fastest, good
from benchmarks.instances.shapes import SHAPES, list_paths, make_arcs
from benchmarks.instances.specs import Spec
from mipplan_formulations import Activity, Arc, Cover, Path, Resource, TimeCostProblem
from mipplan_formulations.time_cost import find_undominated, keep_modes

#: Nanoseconds between stages.
LAGS_NS = (0, 100_000, 500_000, 1_000_000)
RATES_RPS = (20, 1_001)
BURSTS = (2, 31)
#: Deadlines that cannot be kept are this much of what every selection takes, in thousandths.
HOPELESS = 970
KNIFE_EDGE, JUST_MISSED, OUT_OF_REACH = -1, -2, -3
#: A knife edge is that of a good selection for a deadline here (as a tightness).
EDGE = 1_600
#: Types of hardware that are limited, and stages in a cover.
LIMITED, COVERED = 2, 4


def build(spec: Spec) -> TimeCostProblem:
    """Make a problem.

    Raises
    ------
    DriftError
        If it is not the one that was frozen under this description.
    """
    problem = _synthetic(spec) if spec.source == "synthetic" else _pipeline(spec)
    if spec.fingerprint and fingerprint(problem) != spec.fingerprint:
        raise DriftError(f"{spec.name} is no longer the problem that was frozen")
    return problem


def fingerprint(problem: TimeCostProblem) -> str:
    """Of everything a formulation or solver gets to see, names left out."""
    digest = hashlib.sha256()

    def add(*numbers: int) -> None:
        add_array(np.array(numbers, dtype=np.int64))

    def add_array(array: IntArray) -> None:
        digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes() + b"|")

    add(problem.deadline, len(problem.activities), len(problem.paths))
    add(*(resource.capacity for resource in problem.resources))
    for activity in problem.activities:
        for array in (activity.cost, activity.duration, activity.usage):
            add_array(array)
    for arc in problem.arcs:
        add(arc.tail, arc.head, arc.lag)
    known: dict[bytes, int] = {}  # a wait function goes in once, however many paths share it
    for path in problem.paths:
        add(path.lag, *path.activities)
        for waits in path.waits:
            text = waits.tobytes()
            if text not in known:
                known[text] = len(known)
                add_array(waits)
            add(known[text])
    for cover in problem.covers:
        for index, marked in cover.members:
            add(index, *np.flatnonzero(marked).tolist())
    return digest.hexdigest()[:16]


def _synthetic(spec: Spec) -> TimeCostProblem:
    rng = np.random.default_rng([spec.seed, spec.stages, spec.width, list(SHAPES).index(spec.family)])
    steps = make_arcs(spec.family, spec.stages, spec.width, rng)
    stages = _make_stages(spec, {head for _, head in steps}, rng)
    arcs = tuple(Arc(tail, head, LAGS_NS[int(rng.integers(len(LAGS_NS)))]) for tail, head in steps)
    paths = _make_paths(spec, arcs, stages, rng)
    activities = tuple(Activity(f"s{v}", modes.cost, modes.duration) for v, modes in enumerate(stages))
    problem = TimeCostProblem(activities, arcs, paths, 0)
    problem = replace(problem, deadline=_deadline(problem, spec.tightness))
    if spec.limits:
        problem = _with_limits(problem, stages)
    if spec.pruned:
        problem = _prune(problem)
    if spec.covers:
        problem = problem.with_covers(*_covers(problem, spec.covers, rng))
    return problem


def _prune(problem: TimeCostProblem) -> TimeCostProblem:
    """Leave out modes that another of their activity equals or beats in cost, duration, use, and the wait on each path.

    Solvers leave out more: this is what the problems were frozen with.
    """
    columns = [[a.cost, a.duration, *a.usage.T] for a in problem.activities]
    seen: set[tuple[int, bytes]] = set()
    for path in problem.paths:
        for v, waits in zip(path.activities, path.waits, strict=True):
            raised = np.maximum(waits, path.least_wait)
            if (v, raised.tobytes()) not in seen:
                seen.add((v, raised.tobytes()))
                columns[v].append(raised)
    pruned = keep_modes(problem, [find_undominated(np.stack(own, axis=1)) for own in columns])
    assert pruned is not None  # something is always undominated
    return pruned.problem


def _make_stages(spec: Spec, entered: set[int], rng: np.random.Generator) -> list[Modes]:
    rate_rps, burst = int(rng.integers(*RATES_RPS)), int(rng.integers(*BURSTS))
    kind, _, number = spec.modes.partition(":")
    if kind == "traded":
        return [make_traded(rng, int(number), spec.wait_classes) for _ in range(spec.stages)]
    return [
        make_served(rng, rate_rps, burst, int(number), spec.wait_classes, stage in entered)
        for stage in range(spec.stages)
    ]


def _make_paths(
    spec: Spec, arcs: tuple[Arc, ...], stages: list[Modes], rng: np.random.Generator
) -> tuple[Path, ...]:
    """All paths; those of one class wait alike."""
    lags = {(arc.tail, arc.head): arc.lag for arc in arcs}
    waits = [[_read_only(row) for row in modes.wait] for modes in stages]
    paths: list[Path] = []
    for stops in list_paths(spec.stages, list(lags)):
        # Of several classes the last waits longest; there is at least one path of it.
        own = int(rng.integers(spec.wait_classes)) if paths else spec.wait_classes - 1
        lag = sum(lags[step] for step in pairwise(stops))
        paths.append(Path(stops, lag, tuple(waits[v][own] for v in stops)))
    return tuple(paths)


def _read_only(array: IntArray) -> IntArray:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def _deadline(problem: TimeCostProblem, tightness: int) -> int:
    if tightness == OUT_OF_REACH:
        return _least_makespan(problem) * HOPELESS // 1_000
    fast = problem.evaluate(fastest(problem)).makespan
    if tightness >= 0:
        return fast * tightness // 1_000
    edge = problem.evaluate(good(replace(problem, deadline=fast * EDGE // 1_000))).makespan
    return edge if tightness == KNIFE_EDGE else edge - 1


def _least_makespan(problem: TimeCostProblem) -> int:
    """No selection is faster: on each path all durations and one wait at their least."""
    return max(
        path.lag
        + sum(int(problem.activities[v].duration.min()) for v in path.activities)
        + max(int(waits.min()) for waits in path.waits)
        for path in problem.paths
    )


def _with_limits(problem: TimeCostProblem, stages: list[Modes]) -> TimeCostProblem:
    """Limit the two types of hardware that a good selection has most of, to what it has."""
    had = np.zeros(len(PRICES), dtype=np.int64)
    for modes, mode in zip(stages, good(problem), strict=True):
        had[modes.hardware[mode]] += modes.replicas[mode]
    limited = sorted(np.argsort(-had, kind="stable")[:LIMITED].tolist())
    activities = tuple(
        replace(
            activity,
            usage=np.stack([np.where(modes.hardware == kind, modes.replicas, 0) for kind in limited], axis=1),
        )
        for activity, modes in zip(problem.activities, stages, strict=True)
    )
    resources = tuple(Resource(f"hardware{kind}", int(had[kind])) for kind in limited)
    return replace(problem, activities=activities, resources=resources)


def _covers(problem: TimeCostProblem, count: int, rng: np.random.Generator) -> list[Cover]:
    """Conditions that one of a few stages is fast, as the planner's cuts are; a good selection meets each."""
    anchor = good(problem)
    covers = []
    for _ in range(count):
        members = []
        for position, v in enumerate(rng.permutation(len(problem.activities))[:COVERED].tolist()):
            duration = problem.activities[v].duration
            marked = duration < int(np.sort(duration)[duration.size // 4])
            members.append((v, duration <= int(duration[anchor[v]]) if position == 0 else marked))
        covers.append(Cover(tuple(members)))
    return covers


def _pipeline(spec: Spec) -> TimeCostProblem:
    """What `mipplan.plan` solves for an instance of the comparison with greedy."""
    compared = build_compared(next(known for known in read_compared() if known.name == spec.source))
    return mp.time_cost_problem(
        compared.pipeline,
        compared.profiles,
        compared.planned_on,
        slo_s=compared.slo_s * spec.tightness / 1_000,
    )
