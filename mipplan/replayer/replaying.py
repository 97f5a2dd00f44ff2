"""Replay a plan on a trace, one stage at a time.

Pipelines are feed-forward, and a stage's tokens depend on its parents only through their exit times, so
replaying stage after stage in topological order gives exactly what one event loop over all stages would: the
same-instant rule (first everything of an instant is enqueued, then idle replicas dispatch) involves one stage
at a time, and every batch takes at least 1 ns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from mipplan.errors import InputError
from mipplan.replayer.queue import Served, serve
from mipplan.result import Plan, ReplayResult, StageReplay
from mipplan.tokens import Workload, realise
from mipplan.trace import Trace


class Discipline(StrEnum):
    """Which waiting tokens a batch takes first."""

    OLDEST_FIRST = "oldest_first"
    """Token order: by ingress time of the query (longest in system). The certificate holds for this one."""
    FIFO = "fifo"
    """By arrival at the stage, ties by token order. The certificate is no theorem for it."""


#: A stage engine serves the tokens of one stage: (arrival_ns, service_ns, replicas, fifo) -> Served.
StageEngine = Callable[[NDArray[np.int64], NDArray[np.int64], int, bool], Served]

#: Engines by name, fastest first; each does the whole serving model, bit for bit alike.
ENGINES: Mapping[str, StageEngine] = MappingProxyType({"python": serve})


def replay(
    plan: Plan,
    trace: Trace,
    *,
    discipline: str = "oldest_first",
    engine: str = "auto",
    seed: int | None = None,
) -> ReplayResult:
    """Replay every query of `trace` under `plan`, exactly, in integer nanoseconds.

    Parameters
    ----------
    plan : Plan
    trace : Trace
    discipline : {"oldest_first", "fifo"}
    engine : str
        ``"auto"`` or a key of `ENGINES`.
    seed : int, optional
        Seed of the token draws; the plan's own by default (0 unless the plan was made with another).

    Returns
    -------
    ReplayResult

    Raises
    ------
    InputError
        For an unknown discipline or engine.
    NoPlanError
        If the plan holds no choices.
    """
    return replay_many([plan], trace, discipline=discipline, engine=engine, seed=seed)[0]


def replay_many(
    plans: Iterable[Plan],
    trace: Trace,
    *,
    discipline: str = "oldest_first",
    engine: str = "auto",
    seed: int | None = None,
) -> list[ReplayResult]:
    """Replay several plans on one trace; plans of one pipeline and seed share the realised tokens.

    Parameters and errors as for `replay`. Results come in the order of `plans`.
    """
    rule = _known("discipline", discipline, [d.value for d in Discipline])
    name = _known("engine", engine, ["auto", *ENGINES])
    name = next(iter(ENGINES)) if name == "auto" else name
    results: list[ReplayResult] = []
    workload: Workload | None = None
    for plan in plans:
        plan.require()
        wanted = plan.seed if seed is None else seed
        if workload is None or workload.seed != wanted or workload.pipeline != plan.pipeline:
            workload = realise(plan.pipeline, trace, wanted)
        results.append(_replay_stages(plan, workload, rule, name))
    return results


def _replay_stages(plan: Plan, workload: Workload, discipline: str, engine: str) -> ReplayResult:
    serve_stage = ENGINES[engine]
    exits: dict[str, NDArray[np.int64]] = {}
    stages: dict[str, StageReplay] = {}
    for stage in workload.stages:
        arrival_ns = workload.arrival_ns(stage, exits)
        replicas = plan.choices[stage].replicas
        served = serve_stage(arrival_ns, plan.service_ns(stage), replicas, discipline == Discipline.FIFO)
        exits[stage] = served.exit_ns
        stages[stage] = StageReplay(
            replicas,
            *(
                _frozen(array)
                for array in (
                    arrival_ns,
                    served.dispatch_ns,
                    served.exit_ns,
                    served.batch_start_ns,
                    served.batch_size,
                    served.batch_service_ns,
                )
            ),
        )
    latency_ns = _frozen(workload.latency_ns(exits))
    return ReplayResult(latency_ns, MappingProxyType(stages), discipline, engine, workload.seed)


def _known(what: str, value: str, names: list[str]) -> str:
    if value not in names:
        raise InputError.one(what, f"expected one of {', '.join(names)}, found {value!r}")
    return str(value)


def _frozen(array: NDArray[np.int64]) -> NDArray[np.int64]:
    array.flags.writeable = False
    return array
