"""Stage replays that are remembered: the same as made anew, made once, and forgotten when memory is short."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

import mipplan as mp
from chunked_replays import chain
from mipplan.core import Int64
from mipplan.pipeline import DispatchLaw
from mipplan.replayer import ENGINES, CacheParams, StageReplays, StageRun
from mipplan.result import Choice, Plan
from mipplan.tokens import realise


class Service(NamedTuple):
    """The service times of a choice."""

    service_ns: Int64
    law: DispatchLaw
    stagger_ns: int = 0
    window_ns: int = 0


class Option(NamedTuple):
    """A choice of a plan for one stage."""

    choice: Choice
    family: Service
    replicas: int


def option_of(plan: Plan, stage: str, replicas: int | None = None) -> Option:
    choice = plan.choices[stage]
    count = choice.replicas if replicas is None else replicas
    return Option(replace(choice, replicas=count), Service(plan.service_ns(stage), plan.laws[stage]), count)


def replays(
    engine: str, *, fifo: bool = False, most_bytes: int = 1 << 29, law: str = "eager"
) -> tuple[Plan, StageReplays]:
    plan = chain()
    plan = replace(plan, objective=plan.objective.under(plan.pipeline.laws(law)))
    workload = realise(plan.pipeline, mp.Trace.poisson(300.0, 2.0, seed=1))
    return plan, StageReplays(workload, ENGINES[engine], fifo=fifo, params=CacheParams(most_bytes))


def walk(plan: Plan, made: StageReplays, spent: list[int]) -> dict[str, StageRun]:
    runs: dict[str, StageRun] = {}
    for stage in made.workload.stages:
        (runs[stage],) = made.serve(stage, [option_of(plan, stage)], runs, spent.append)
    return runs


@pytest.mark.parametrize("law", DispatchLaw)
@pytest.mark.parametrize("fifo", [False, True])
@pytest.mark.parametrize("engine", ENGINES)
def test_runs_are_those_of_a_replay_and_are_made_once(engine: str, fifo: bool, law: str) -> None:
    plan, made = replays(engine, fifo=fifo, law=law)
    whole = mp.replay(
        plan, mp.Trace.poisson(300.0, 2.0, seed=1), discipline="fifo" if fifo else "oldest_first"
    )
    spent: list[int] = []
    first = walk(plan, made, spent)
    for stage, run in first.items():
        np.testing.assert_array_equal(run.exit_ns, whole.stages[stage].exit_ns)
        waits = np.any(whole.stages[stage].dispatch_ns > whole.stages[stage].arrival_ns)
        # Of a paced stage it is not said that nothing waits: more replicas would spread otherwise.
        assert run.waits == (law == "paced" or bool(waits))
    assert walk(plan, made, spent) == first
    assert spent == [1, 1, 1, 0, 0, 0]


def test_another_choice_above_makes_another_run_below() -> None:
    plan, made = replays("numpy")
    runs = walk(plan, made, [])
    (above,) = made.serve("s0", [option_of(plan, "s0", replicas=1)], {})
    spent: list[int] = []
    (below,) = made.serve("s1", [option_of(plan, "s1")], {"s0": above}, spent.append)
    assert spent == [1]
    assert below.number != runs["s1"].number


def test_the_longest_unused_is_forgotten_first() -> None:
    plan, made = replays("numpy", most_bytes=1)
    spent: list[int] = []
    runs = walk(plan, made, spent)
    again = walk(plan, made, spent)
    assert spent == [1] * 6
    assert {run.number for run in again.values()}.isdisjoint(run.number for run in runs.values())


def test_whoever_pays_may_refuse_before_anything_is_made() -> None:
    plan, made = replays("numpy")

    def refuse(count: int) -> None:
        raise TimeoutError(count)

    with pytest.raises(TimeoutError, match="2"):
        made.serve("s0", [option_of(plan, "s0"), option_of(plan, "s0", replicas=9)], {}, refuse)
    arrival_ns = made.workload.ingress_ns
    (alone,) = made.serve_alone(arrival_ns, [option_of(plan, "s0")])
    assert alone.exit_ns.size == arrival_ns.size
