"""Replay a plan on a trace, one stage at a time.

Pipelines are feed-forward, and a stage's tokens depend on its parents only through their exit times, so
replaying stage after stage in topological order gives exactly what one event loop over all stages would: the
same-instant rule (first everything of an instant is enqueued, then idle replicas dispatch) involves one stage
at a time, and every batch takes at least 1 ns.

**Verdicts.** Whether a plan keeps its objective is often certain long before the end of a replay, which then stops.
The quantile is an element of the sorted latencies (``method="higher"``): of n queries, those of higher rank than its
own may exceed the objective, and no more. A plan misses as soon as more than that are certain to; it keeps as soon as
all others are certain not to. A query is certain to exceed the objective once a floor under its latency does, so bad
plans are refuted within the first bursts; a good one is replayed until all but the last few queries are finished.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar, overload

import numpy as np

from mipplan.core import (
    NS_PER_S,
    Allowance,
    Bool,
    Faults,
    InputError,
    Int64,
    check_all,
    check_quantile,
    check_seed,
    check_slo,
    shown,
)
from mipplan.pipeline import CollectionWindow, Dispatch, Pipeline, Stagger, System, are_timed
from mipplan.replayer.engines import resolve_engine
from mipplan.replayer.losses import may_overrun, with_disturbances, with_overruns
from mipplan.replayer.schedule import ReplicaSchedule
from mipplan.replayer.settings import (
    Noise,
    ReplaySettings,
    check_at_once,
    check_plan,
    check_trace,
    engine_and_seed,
    read_settings,
)
from mipplan.replayer.stage_task import NEVER, Engine
from mipplan.replayer.walk import ChunkedReplay, replay_together
from mipplan.result import Objective, Plan, ReplayResult, resolve_slo_ns
from mipplan.tokens import realise
from mipplan.trace import Trace

_Answer = TypeVar("_Answer")


def replay(
    plan: Plan,
    trace: Trace,
    *,
    dispatch: Dispatch = None,
    discipline: str | None = None,
    stagger_s: Stagger = None,
    system: System = None,
    window_s: CollectionWindow = None,
    engine: str = "auto",
    seed: int | None = None,
    schedule: Mapping[str, ReplicaSchedule] | None = None,
    noise: Noise = None,
) -> ReplayResult:
    """Replay every query of `trace` under `plan`, exactly, in integer nanoseconds.

    Parameters
    ----------
    plan : Plan
    trace : Trace
    dispatch : str or mapping of str to str, optional
        Law of all stages (``eager``, ``paced`` or ``timed``), or laws of those named; others as the plan says.
    discipline : {"oldest_first", "fifo"}, optional
        As the plan says by default.
    stagger_s : float or mapping of str to float, optional
        Seconds between the outputs of a batch on their way to other stages, at all stages or at those named; others as
        the plan's pipeline says. With 0 all go on at once.
    system : str or ServingSystem, optional
        Batches as a serving system makes them: a key of `SYSTEMS`, with what is other than usual there
        (``"ray:window=100ms,ongoing=8"``). Discipline and stagger are its own unless given. The
        certificate covers it if queue and order are the plan's, and window and stagger within those of its pipeline.
    window_s : float or mapping of str to float, optional
        Seconds that a replica collects, at all stages or at those named; without a system at a central queue.
    engine : str
        ``"auto"`` or a key of `ENGINES`; all give the same result. ``"auto"`` takes the first that is installed,
        and for small jobs the first that need not be loaded.
    seed : int, optional
        Seed of the token draws; the plan's own by default (0 unless the plan was made with another).
    schedule : mapping of str to ReplicaSchedule, optional
        Replica counts over time; stages not named keep the plan's.
    noise : ServiceNoise, or mapping of str to ServiceNoise, optional
        Random service times, at all stages or at those named; at others a batch of k takes ℓ(k).

    Returns
    -------
    ReplayResult

    Raises
    ------
    InputError
        With every argument that cannot be used, or for an engine that lacks what schedule or noise need.
    NoPlanError
        If the plan holds no choices.
    """
    check_plan(plan)
    return replay_many(
        [plan],
        trace,
        dispatch=dispatch,
        discipline=discipline,
        stagger_s=stagger_s,
        system=system,
        window_s=window_s,
        engine=engine,
        seed=seed,
        schedule=schedule,
        noise=noise,
    )[0]


@overload
def replay_many(
    plans: Iterable[Plan],
    trace: Trace,
    *,
    dispatch: Dispatch = ...,
    discipline: str | None = ...,
    stagger_s: Stagger = ...,
    system: System = ...,
    window_s: CollectionWindow = ...,
    engine: str = ...,
    seed: int | None = ...,
    schedule: Mapping[str, ReplicaSchedule] | None = ...,
    noise: Noise = ...,
    slo_s: None = ...,
    quantile: None = ...,
) -> list[ReplayResult]: ...


@overload
def replay_many(
    plans: Iterable[Plan],
    trace: Trace,
    *,
    dispatch: Dispatch = ...,
    discipline: str | None = ...,
    stagger_s: Stagger = ...,
    engine: str = ...,
    seed: int | None = ...,
    schedule: Mapping[str, ReplicaSchedule] | None = ...,
    noise: Noise = ...,
    slo_s: float,
    quantile: float | None = ...,
) -> list[Verdict]: ...


def replay_many(
    plans: Iterable[Plan],
    trace: Trace,
    *,
    dispatch: Dispatch = None,
    discipline: str | None = None,
    stagger_s: Stagger = None,
    system: System = None,
    window_s: CollectionWindow = None,
    engine: str = "auto",
    seed: int | None = None,
    schedule: Mapping[str, ReplicaSchedule] | None = None,
    noise: Noise = None,
    slo_s: float | None = None,
    quantile: float | None = None,
) -> list[ReplayResult] | list[Verdict]:
    """Replay several plans on one trace, or judge them on it.

    Plans of one pipeline and seed share the realised tokens, and a stage that two plans configure alike below
    stages that they configure alike is served once. Other parameters and errors as for `replay`.

    Parameters
    ----------
    slo_s : float, optional
        Only say which plans keep this objective, and stop replaying each as soon as that is certain. Not with `system`.
    quantile : float, optional
        With `slo_s`: of the latencies; each plan's own by default.

    Returns
    -------
    list of ReplayResult, or of Verdict with `slo_s`
        In the order of `plans`.
    """
    own = [
        lambda: check_trace(trace),
        *engine_and_seed(engine, seed),
        lambda: _check_objective(slo_s, quantile, has_system=system is not None),
    ]
    faults = Faults()
    read = faults.take(lambda: _read_plans(plans))
    if faults:
        for check in own:
            faults.take(check)
    asked = read.value
    settings = read_settings(
        asked, discipline, schedule, noise, dispatch, stagger_s, system, window_s, also=own
    )
    # By stages and queries: a little off where tokens multiply, and good enough to choose an engine.
    tokens = sum(trace.arrival_ns.size * len(plan.pipeline.stages) for plan in asked)
    if slo_s is not None:
        check_all(*(partial(check_at_once, plan, settings, "verdicts do not stop early") for plan in asked))
        able = resolve_engine(engine, settings.needed(asked, in_pieces=True), tokens)
        return decide_many(
            asked, trace, slo_s=slo_s, quantile=quantile, settings=settings, engine=able, seed=seed
        )
    chosen = resolve_engine(engine, settings.needed(asked), tokens)

    def replay_group(group: list[Plan], drawn: int) -> list[ReplayResult]:
        workload = realise(group[0].pipeline, trace, drawn)
        runs = replay_together(group, workload, settings, chosen)
        overrunning = []
        for number, plan in enumerate(group):
            if not may_overrun(plan, settings):
                continue
            if are_timed(settings.laws_of(plan)):
                overrunning.append(number)
            else:
                runs[number] = with_disturbances(plan, runs[number], workload)
        if overrunning:
            planned = replay_together(
                [group[number] for number in overrunning], workload, replace(settings, noise=None), chosen
            )
            for number, stated in zip(overrunning, planned, strict=True):
                runs[number] = with_overruns(group[number], runs[number], stated, workload)
        return runs

    return _answer_by_tokens(asked, seed, replay_group)


def _answer_by_tokens(
    plans: Sequence[Plan], seed: int | None, answer: Callable[[list[Plan], int], list[_Answer]]
) -> list[_Answer]:
    """Answer for the plans that see the same tokens at once, given their seed; in the order of `plans`."""
    pipelines: list[Pipeline] = []  # Each once.
    groups: dict[tuple[int, int], list[int]] = {}
    for number, plan in enumerate(plans):
        if plan.pipeline not in pipelines:
            pipelines.append(plan.pipeline)
        drawn = check_seed(plan.seed if seed is None else seed)
        groups.setdefault((pipelines.index(plan.pipeline), drawn), []).append(number)
    answers: dict[int, _Answer] = {}
    for (_, drawn), group in groups.items():
        answers.update(zip(group, answer([plans[number] for number in group], drawn), strict=True))
    return [answers[number] for number in range(len(plans))]


def _read_plans(plans: object) -> list[Plan]:
    if isinstance(plans, Plan) or not isinstance(plans, Iterable):
        raise InputError.one("plans", f"expected several plans, found {shown(plans)}; replay(…) takes one")
    asked = list(plans)
    check_all(*(partial(check_plan, plan, f"plans[{number}]") for number, plan in enumerate(asked)))
    return asked


def _check_objective(slo_s: float | None, quantile: float | None, *, has_system: bool) -> None:
    if slo_s is not None and has_system:
        raise InputError.one("slo_s", "verdicts stop early: a serving system's law is replayed as a whole")
    if slo_s is None and quantile is not None:
        raise InputError.one("quantile", "is that of a verdict: give slo_s as well")
    check_all(
        lambda: None if slo_s is None else check_slo(slo_s),
        lambda: None if quantile is None else check_quantile(quantile),
    )


@dataclass(frozen=True)
class VerdictParams:
    """How much is replayed between two looks at whether the verdict is certain; no verdict depends on it."""

    first_piece: int = 1_024
    """Queries replayed before the first look. Later pieces double, so that they stay few."""
    largest_share: int = 32
    """A piece is at most this part of the trace (one in …), so that little is replayed in vain."""
    queries_at_once: int = 2**22
    """Queries in a piece over all plans, at most, because it is held under all of them at once."""


@dataclass(frozen=True)
class Verdict:
    """Whether a plan keeps an objective on a trace, and how much of a replay it took to be certain.

    Attributes
    ----------
    keeps : bool
        Whether the latency quantile is at most the objective; what a full replay says.
    slo_s, quantile : float
    queries : int
        Queries of the trace.
    queries_replayed : int
        Queries taken in when the verdict became certain; the rest of the trace was not looked at.
    allowed_misses : int
        Queries that may exceed the objective.
    misses_at_least, misses_at_most : int
        Bounds of the number of queries that exceed it, from what was replayed.
    """

    keeps: bool
    slo_s: float
    quantile: float
    queries: int
    queries_replayed: int
    allowed_misses: int
    misses_at_least: int
    misses_at_most: int


def decide_many(
    plans: Sequence[Plan],
    trace: Trace,
    *,
    slo_s: float,
    quantile: float | None,
    settings: ReplaySettings,
    engine: Engine,
    seed: int | None = None,
    params: VerdictParams = VerdictParams(),
) -> list[Verdict]:
    """Judge several plans on one trace, in their order; parameters as for `mipplan.replayer.replay_many`.

    The engine can do what the settings need, and `EngineFeature.RESUME`.
    """

    def decide(group: list[Plan], drawn: int) -> list[Verdict]:
        ingress_ns = trace.arrival_ns
        tallies = [_Tally(plan, ingress_ns, slo_s, quantile) for plan in group]
        chunks = ChunkedReplay(group, settings, engine, drawn)
        start, size = 0, params.first_piece
        verdicts: dict[int, Verdict] = {}
        undecided = list(range(len(group)))
        while undecided:
            end = min(start + size, ingress_ns.size)
            chunks.advance(
                ingress_ns[start:end], NEVER if end == ingress_ns.size else int(ingress_ns[end]) - 1
            )
            released = chunks.release(undecided)
            for plan, latency_ns in zip(undecided, released.latency_ns, strict=True):
                tallies[plan].take(released.query, latency_ns)
                verdict = tallies[plan].verdict(chunks.query, *chunks.latency_floor_ns(plan), chunks.seen)
                if verdict is not None:
                    verdicts[plan] = verdict
            undecided = [plan for plan in undecided if plan not in verdicts]
            most = min(
                ingress_ns.size // params.largest_share, params.queries_at_once // max(len(undecided), 1)
            )
            start, size = end, min(2 * size, max(params.first_piece, most))
        return [verdicts[plan] for plan in range(len(group))]

    return _answer_by_tokens(plans, seed, decide)


class _Tally:
    """The misses of one plan, until they decide."""

    def __init__(self, plan: Plan, ingress_ns: Int64, slo_s: float, quantile: float | None) -> None:
        self._slo_ns = resolve_slo_ns(plan.pipeline, slo_s)
        asked = plan.objective if quantile is None else Objective(self._slo_ns, quantile)
        self._allowance = Allowance.of(asked.quantile, ingress_ns, asked.per_ns, asked.share)
        self._misses = np.zeros_like(self._allowance.allowed)  # Of queries whose latency is known, by window.

    def take(self, query: Int64, latency_ns: Int64) -> None:
        """Count the misses among queries that were released; one may be so long before others that came earlier."""
        self._misses += self._allowance.count_numbers(query[latency_ns > self._slo_ns])

    def verdict(self, query: Int64, floor_ns: Int64, finished: Bool, seen: int) -> Verdict | None:
        """Return the verdict if it is certain.

        Of the queries not yet released, by their numbers, `floor_ns` is a lower bound of the latency, and `finished`
        tells whether it is the latency itself; `seen` queries were taken in so far.
        """
        allowance = self._allowance
        late = floor_ns > self._slo_ns
        least = self._misses + allowance.count_numbers(query[late])
        unseen = np.diff(np.maximum(allowance.starts, seen))
        most = least + allowance.count_numbers(query[~late & ~finished]) + unseen
        refused, keeps = allowance.is_exceeded_by(least), not allowance.is_exceeded_by(most)
        if not refused and not keeps:
            return None
        queries, counts = int(allowance.starts[-1]), (int(least.sum()), int(most.sum()))
        slo_s = self._slo_ns / NS_PER_S
        return Verdict(keeps, slo_s, allowance.quantile, queries, seen, allowance.total, *counts)
