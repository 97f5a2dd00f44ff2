"""Replay a plan on a trace, one stage at a time.

Pipelines are feed-forward, and a stage's tokens depend on its parents only through their exit times, so
replaying stage after stage in topological order gives exactly what one event loop over all stages would: the
same-instant rule (first everything of an instant is enqueued, then idle replicas dispatch) involves one stage
at a time, and every batch takes at least 1 ns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import overload

import numpy as np

from mipplan.core import InputError, check_all, check_quantile, check_slo, shown
from mipplan.replayer.engines import resolve_engine
from mipplan.replayer.schedule import ReplicaSchedule
from mipplan.replayer.settings import (
    Noise,
    check_plan,
    check_trace,
    engine_and_seed,
    group_by_tokens,
    read_settings,
)
from mipplan.replayer.stage_task import EngineFeature
from mipplan.replayer.verdicts import Verdict, decide_many
from mipplan.replayer.walk import replay_together
from mipplan.result import Plan, ReplayResult
from mipplan.tokens import realise
from mipplan.trace import Trace

#: The largest piece that glibc takes as a measure is 32 MiB.
_LARGEST_MEASURE = 31 << 20


def replay(
    plan: Plan,
    trace: Trace,
    *,
    discipline: str = "oldest_first",
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
    discipline : {"oldest_first", "fifo"}
    engine : str
        ``"auto"`` or a key of `ENGINES`; all give the same result. ``"auto"`` takes the fastest that is installed,
        and for small jobs the fastest that need not be loaded first.
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
        [plan], trace, discipline=discipline, engine=engine, seed=seed, schedule=schedule, noise=noise
    )[0]


@overload
def replay_many(
    plans: Iterable[Plan],
    trace: Trace,
    *,
    discipline: str = ...,
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
    discipline: str = ...,
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
    discipline: str = "oldest_first",
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
        Only say which plans keep this objective, and stop replaying each as soon as that is certain.
    quantile : float, optional
        With `slo_s`: of the latencies; each plan's own by default.

    Returns
    -------
    list of ReplayResult, or of Verdict with `slo_s`
        In the order of `plans`.
    """
    asked = _read_plans(plans)
    settings = read_settings(
        asked,
        discipline,
        schedule,
        noise,
        also=[
            lambda: check_trace(trace),
            *engine_and_seed(engine, seed),
            lambda: _check_objective(slo_s, quantile),
        ],
    )
    # By stages and queries: a little off where tokens multiply, and good enough to choose an engine.
    tokens = sum(trace.arrival_ns.size * len(plan.pipeline.stages) for plan in asked)
    if slo_s is not None:
        able = resolve_engine(engine, settings.needed | {EngineFeature.RESUME}, tokens)
        return decide_many(
            asked, trace, slo_s=slo_s, quantile=quantile, settings=settings, engine=able, seed=seed
        )
    chosen = resolve_engine(engine, settings.needed, tokens)
    hold_on_to_memory()
    results: dict[int, ReplayResult] = {}
    for members in group_by_tokens(asked, seed):
        first = asked[members[0]]
        workload = realise(first.pipeline, trace, first.seed if seed is None else seed)
        together = replay_together([asked[member] for member in members], workload, settings, chosen)
        results.update(zip(members, together, strict=True))
    return [results[number] for number in range(len(asked))]


def hold_on_to_memory() -> None:
    """Let freed memory stay with the process, some 60 MiB of it, for the next arrays.

    Pages that are new to a process cost as much as serving the tokens whose times they hold. By default glibc returns
    memory to the system beyond twice the largest piece that was ever freed, so freeing a large one is enough; it is
    never written to, and takes no memory itself. Elsewhere this does nothing.
    """
    np.empty(_LARGEST_MEASURE, dtype=np.uint8)


def _read_plans(plans: object) -> list[Plan]:
    if isinstance(plans, Plan) or not isinstance(plans, Iterable):
        raise InputError.one("plans", f"expected several plans, found {shown(plans)}; replay(…) takes one")
    asked = list(plans)
    check_all(*(partial(check_plan, plan, f"plans[{number}]") for number, plan in enumerate(asked)))
    return asked


def _check_objective(slo_s: float | None, quantile: float | None) -> None:
    if slo_s is None and quantile is not None:
        raise InputError.one("quantile", "is that of a verdict: give slo_s as well")
    check_all(
        lambda: None if slo_s is None else check_slo(slo_s),
        lambda: None if quantile is None else check_quantile(quantile),
    )
