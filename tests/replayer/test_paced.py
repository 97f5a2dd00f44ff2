"""Rule P: every engine against a clock that ticks and against the event loop of whole pipelines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from campaigns import campaign_size
from mipplan.replayer import ENGINES, Capacity, StageTask
from mipplan.replayer.engines import plain
from mipplan.replayer.stage_task import NEVER
from mipplan.result import Following
from oracle_paced import ClockedStage
from random_tasks import differences, paced_task


def by_clock(task: StageTask) -> list[tuple[int, int, tuple[int, ...]]]:
    """What the clock makes of a task."""
    assert task.pace_ns is not None
    steps = list(zip(task.capacity.from_ns.tolist(), task.capacity.replicas.tolist(), strict=True))
    service = task.service_ns.tolist()
    return ClockedStage(
        task.arrival_ns.tolist(),
        task.pace_ns.tolist(),
        lambda now: [count for start, count in steps if start <= now][-1],
        lambda oldest, size: service[0 if task.level is None else task.level[oldest]][size - 1],
        task.fifo,
        list(zip(task.busy_until_ns.tolist(), task.busy_due_ns.tolist(), strict=True)),
        None if task.until_ns == NEVER else task.until_ns,
    ).run()


@pytest.mark.parametrize("name", ENGINES)
def test_engines_tick_as_the_clock_does(name: str) -> None:
    rng = np.random.default_rng(96)
    spread = 0
    for number in range(campaign_size(quick=400, deep=20_000)):
        task = paced_task(rng, most_tokens=25)
        (made,) = ENGINES[name].serve_many([task])
        expected = by_clock(task)
        riders = np.arange(task.tokens) if made.rider is None else made.rider
        taken = np.split(riders[: made.batch_size.sum()], np.cumsum(made.batch_size)[:-1])
        # Under fifo, batches of one instant hold their tokens by arrival; under oldest first by number.
        found = [
            (int(start), int(service), tuple(sorted(tokens.tolist())))
            for start, service, tokens in zip(made.batch_start_ns, made.batch_service_ns, taken, strict=False)
        ]
        assert found == [(start, service, tuple(sorted(tokens))) for start, service, tokens in expected], (
            number
        )
        spread += bool(differences(made, plain.serve(replace(task, pace_ns=None))))
    assert spread > 50, "too few tasks in which the rule makes a difference"


@pytest.mark.parametrize("name", ENGINES)
def test_engines_agree_on_paced_tasks_of_any_size(name: str) -> None:
    rng = np.random.default_rng(97)
    for number in range(campaign_size(quick=150, deep=5_000)):
        task = paced_task(rng, most_tokens=400)
        if (
            number % 3 == 0 and task.capacity.is_constant
        ):  # more replicas than tokens, and than a heap is used for
            task = replace(task, capacity=Capacity.constant(int(rng.integers(50, 1_000))))
        (made,) = ENGINES[name].serve_many([task])
        assert not differences(made, plain.serve(task)), number


@pytest.mark.parametrize("name", ENGINES)
def test_engines_pace_tokens_that_follow_others(name: str) -> None:
    rng = np.random.default_rng(98)
    for number in range(60):
        above = plain.serve(paced_task(rng, features=()))
        following = Following(above, int(rng.integers(20)))
        blank = replace(paced_task(rng, features=()), arrival_ns=np.empty(0, dtype=np.int64))
        (made,) = ENGINES[name].follow_many([blank], following)
        expected = plain.serve(replace(blank, arrival_ns=following.at_ns))
        assert not differences(made, expected), number


def test_rule_p_by_hand() -> None:
    """Two replicas, L = 10, δ = 5: the second of two tokens that come one after the other waits until 5."""
    arrival, table = np.array([0, 1, 2, 30], dtype=np.int64), np.array([10], dtype=np.int64)
    task = StageTask(arrival, table[np.newaxis], Capacity.constant(2), pace_ns=table)
    assert plain.serve(task).dispatch_ns.tolist() == [0, 5, 10, 30]
    # Short batches may go at once: beside a batch of two, which ends at 10, one token goes too, since ℓ(1) ≤ δ.
    table = np.array([4, 10], dtype=np.int64)
    task = StageTask(arrival[:3] * 0, table[np.newaxis], Capacity.constant(2), pace_ns=table)
    assert plain.serve(task).batch_start_ns.tolist() == [0, 0]
