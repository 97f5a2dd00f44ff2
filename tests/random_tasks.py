"""Random stages that are hard on engines: ties, overtaking, odd tables, schedules, work left over from before.

Small numbers on purpose: instants within a few service times of each other meet again and again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mipplan.replayer import EngineFeature
from mipplan.replayer.stage_task import ALWAYS, NEVER, Capacity, Served, StageTask

#: Where a trace may start: at 0, or at a Unix time in ns, beyond what a double holds exactly.
EPOCHS = (0, 1_700_000_000_000_000_001)
SERVED_ARRAYS = ("dispatch_ns", "exit_ns", "batch_start_ns", "batch_size", "batch_service_ns")


def random_task(
    rng: np.random.Generator,
    *,
    features: Collection[EngineFeature] = tuple(EngineFeature),
    most_tokens: int = 60,
    fifo: bool | None = None,
) -> StageTask:
    """One stage to serve.

    Parameters
    ----------
    rng : numpy.random.Generator
    features : collection of EngineFeature
        What the task may ask for; each is asked for, or not, by the toss of a coin.
    most_tokens : int
        It has 0 to this many tokens.
    fifo : bool, optional
        The discipline; by the toss of a coin unless given.
    """
    epoch = int(rng.choice(EPOCHS))
    tokens = int(rng.integers(most_tokens + 1))
    scale = int(rng.choice([2, 10, 100]))
    span = 1 + int(tokens * scale * rng.choice([0.0, 0.1, 1.0, 3.0]))
    arrival_ns = epoch + _arrivals(rng, tokens, span)
    levels = int(rng.integers(1, 5)) if _asks(rng, features, EngineFeature.RANDOM_SERVICE) else 0
    scheduled = _asks(rng, features, EngineFeature.SCHEDULE)
    resumes = _asks(rng, features, EngineFeature.RESUME)
    busy = int(rng.integers(5)) if resumes else 0
    until_ns = epoch + int(rng.integers(-1, span + scale)) if resumes and rng.random() < 0.5 else NEVER
    return StageTask(
        arrival_ns,
        _service(rng, max(levels, 1), scale),
        _schedule(rng, epoch, span) if scheduled else Capacity.constant(int(rng.choice([1, 1, 2, 3, 5, 40]))),
        bool(rng.integers(2)) if fifo is None else fifo,
        rng.integers(levels, size=tokens).astype(np.uint16) if levels else None,
        epoch + rng.integers(-scale, span + scale, size=busy),
        until_ns,
    )


def paced_task(rng: np.random.Generator, **settings: Any) -> StageTask:
    """The same, dispatched by rule P: by the table that batches keep, or by another one."""
    task = random_task(rng, **settings)
    table = task.service_ns[0]
    if task.level is not None or rng.random() < 0.2:
        table = rng.integers(1, table.max() + 1, size=table.size)
    late = rng.integers(-3, 1 + task.service_ns.max(), size=task.busy_until_ns.size)
    return replace(task, pace_ns=table, busy_due_ns=task.busy_until_ns + late * rng.integers(2))


def differences(made: Served, expected: Served) -> list[str]:
    """Name the arrays in which two answers differ, or which are not int64."""
    return [
        name
        for name in SERVED_ARRAYS
        if getattr(made, name).dtype != np.int64
        or not np.array_equal(getattr(made, name), getattr(expected, name))
    ]


def _asks(rng: np.random.Generator, features: Collection[EngineFeature], feature: EngineFeature) -> bool:
    return bool(rng.integers(2)) and feature in features


def _arrivals(rng: np.random.Generator, tokens: int, span: int) -> NDArray[np.int64]:
    """Arrivals in [0, span) in token order."""
    shapes: list[Callable[[], NDArray[np.int64]]] = [
        lambda: np.sort(rng.integers(span, size=tokens)),
        lambda: rng.integers(span, size=tokens),
        lambda: np.sort(rng.integers(span, size=tokens))[::-1].copy(),
        lambda: np.full(tokens, rng.integers(span)),
        lambda: _overtaking(rng, tokens, span),
        lambda: _in_batches(rng, tokens, span),
    ]
    return np.asarray(shapes[int(rng.integers(len(shapes)))](), dtype=np.int64)


def _overtaking(rng: np.random.Generator, tokens: int, span: int) -> NDArray[np.int64]:
    """Sorted but for a few that come much later, as after a slow stage that most skip."""
    late = np.where(rng.random(tokens) < 0.2, rng.integers(span, size=tokens), 0)
    return np.minimum(np.sort(rng.integers(span, size=tokens)) + late, span - 1)


def _in_batches(rng: np.random.Generator, tokens: int, span: int) -> NDArray[np.int64]:
    """Runs of equal instants that overtake each other a little, as behind a batching stage."""
    starts = np.sort(rng.integers(span, size=tokens)) + rng.integers(1 + span // 10, size=tokens)
    return np.asarray(np.repeat(starts, rng.integers(1, 6, size=tokens))[:tokens])


def _service(rng: np.random.Generator, levels: int, scale: int) -> NDArray[np.int64]:
    """Tables of any shape, or affine ones, whose completions coincide with arrivals often."""
    cap = int(rng.choice([1, 1, 2, 3, 4, 8, 70]))
    if rng.random() < 0.5:
        return rng.integers(1, scale + 1, size=(levels, cap))
    affine = rng.integers(1, scale + 1) + rng.integers(3) * np.arange(cap)
    return np.asarray(affine + rng.integers(3, size=(levels, 1)), dtype=np.int64)


def _schedule(rng: np.random.Generator, epoch: int, span: int) -> Capacity:
    """Replica counts that change, now and then to none at all; the last is positive."""
    changes = np.unique(rng.integers(-2, 2 * span + 2, size=int(rng.integers(1, 7))))
    replicas = rng.integers(5, size=changes.size + 1)
    replicas[-1] = max(replicas[-1], 1)
    return Capacity(np.r_[ALWAYS, epoch + changes], replicas)
