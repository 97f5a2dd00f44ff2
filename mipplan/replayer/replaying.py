"""Replay a plan on a trace, one stage at a time.

Pipelines are feed-forward, and a stage's tokens depend on its parents only through their exit times, so
replaying stage after stage in topological order gives exactly what one event loop over all stages would: the
same-instant rule (first everything of an instant is enqueued, then idle replicas dispatch) involves one stage
at a time, and every batch takes at least 1 ns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from mipplan.errors import InputError
from mipplan.replayer.engines import Engine, resolve_engine
from mipplan.replayer.task import Capacity, Served, StageTask
from mipplan.result import Plan, ReplayResult, StageReplay
from mipplan.tokens import Workload, realise
from mipplan.trace import Trace


class Discipline(StrEnum):
    """Which waiting tokens a batch takes first."""

    OLDEST_FIRST = "oldest_first"
    """Token order: by ingress time of the query (longest in system). The certificate holds for this one."""
    FIFO = "fifo"
    """By arrival at the stage, ties by token order. The certificate is no theorem for it."""


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
    """Replay several plans on one trace.

    Plans of one pipeline and seed share the realised tokens, and a stage that two plans configure alike below
    stages that they configure alike is served once. Parameters and errors as for `replay`. Results come in the
    order of `plans`.
    """
    rule = _known("discipline", discipline, [d.value for d in Discipline])
    chosen = resolve_engine(engine, frozenset())
    asked = list(plans)
    results: dict[int, ReplayResult] = {}
    for workload, members in _grouped(asked, trace, seed):
        together = _replay_stages([asked[member] for member in members], workload, rule, chosen)
        results.update(zip(members, together, strict=True))
    return [results[number] for number in range(len(asked))]


def _grouped(plans: list[Plan], trace: Trace, seed: int | None) -> Iterator[tuple[Workload, list[int]]]:
    """Numbers of the plans that see the same tokens, with those."""
    left = list(range(len(plans)))
    while left:
        first = plans[left[0]].require()
        wanted = first.seed if seed is None else seed
        alike = [
            number
            for number in left
            if (plans[number].seed if seed is None else seed) == wanted
            and plans[number].pipeline == first.pipeline
        ]
        yield realise(first.pipeline, trace, wanted), alike
        left = [number for number in left if number not in set(alike)]


def _replay_stages(
    plans: list[Plan], workload: Workload, discipline: str, engine: Engine
) -> list[ReplayResult]:
    """Serve stage after stage, each once for all plans that agree on it and on everything above it."""
    fifo = discipline == Discipline.FIFO
    keys: list[dict[str, int]] = [{} for _ in plans]
    served: dict[str, list[StageReplay]] = {}
    for stage in workload.stages:
        parents = [edge.parent for edge in workload.pipeline.incoming(stage)]
        numbers: dict[tuple[object, ...], int] = {}
        tasks: list[StageTask] = []
        for plan, key in zip(plans, keys, strict=True):
            choice = plan.require().choices[stage]
            identity = (choice, plan.service_ns(stage).tobytes(), *(key[parent] for parent in parents))
            if identity not in numbers:
                numbers[identity] = len(tasks)
                exits = {parent: served[parent][key[parent]].exit_ns for parent in parents}
                arrival_ns = workload.arrival_ns(stage, exits)
                service_ns = plan.service_ns(stage)[np.newaxis]
                tasks.append(StageTask(arrival_ns, service_ns, Capacity.constant(choice.replicas), fifo))
            key[stage] = numbers[identity]
        served[stage] = [
            _stage_replay(task, answer) for task, answer in zip(tasks, engine.serve_many(tasks), strict=True)
        ]
    results = []
    for key in keys:
        stages = {stage: served[stage][key[stage]] for stage in workload.stages}
        latency_ns = _frozen(workload.latency_ns({name: seen.exit_ns for name, seen in stages.items()}))
        results.append(
            ReplayResult(latency_ns, MappingProxyType(stages), discipline, engine.name, workload.seed)
        )
    return results


def _stage_replay(task: StageTask, served: Served) -> StageReplay:
    return StageReplay(
        task.capacity.most,
        *(
            _frozen(array)
            for array in (
                task.arrival_ns,
                served.dispatch_ns,
                served.exit_ns,
                served.batch_start_ns,
                served.batch_size,
                served.batch_service_ns,
            )
        ),
    )


def _known(what: str, value: str, names: list[str]) -> str:
    if value not in names:
        raise InputError.one(what, f"expected one of {', '.join(names)}, found {value!r}")
    return str(value)


def _frozen(array: NDArray[np.int64]) -> NDArray[np.int64]:
    array.flags.writeable = False
    return array
