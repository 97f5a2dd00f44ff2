"""The oracle itself, against hand-worked answers and against a search without any stopping rule."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pytest

import mipplan as mp
from mipplan.tokens import realise
from oracle_planner import (
    OracleFamily,
    all_selections,
    batch_ns,
    cheapest_certified,
    oracle_certificate,
    oracle_families,
)
from planning_instances import hand_made, planning_instance


def test_two_stages_by_hand() -> None:
    # Five arrive together every 40 ms. detect: cpu with batch 2 gives T = 28 ms and 7 ms a token, so the fifth
    # waits 28 ms; identify: cpu with batch 2 gives T = 20 ms, 5 ms a token, no further wait. 28 + 28 + 1 + 20.
    instance = hand_made(0.077)
    answer = cheapest_certified(instance.pipeline, instance.profiles, instance.trace, instance.slo_ns, 1.0)
    assert answer is not None
    assert answer.cost == 200_000
    assert {"detect": mp.Choice("cpu", 2, 1), "identify": mp.Choice("cpu", 2, 1)} in answer.optima
    tighter = cheapest_certified(instance.pipeline, instance.profiles, instance.trace, 60_000_000, 1.0)
    assert tighter is not None
    assert tighter.cost > answer.cost


def test_certificate_by_hand() -> None:
    instance = hand_made()
    workload = realise(instance.pipeline, instance.trace)
    services = {"detect": (28_000_000, 14_000_000, 2), "identify": (20_000_000, 10_000_000, 2)}
    assert oracle_certificate(workload, services, 1.0) == 77_000_000
    assert oracle_certificate(workload, services, 0.5) == 63_000_000


def test_batch_times_are_interpolated_and_never_zero() -> None:
    sizes, latency_ms = np.array([2, 4]), np.array([1.0, 2.0])
    assert [batch_ns(sizes, latency_ms, k) for k in (1, 2, 3, 4)] == [
        1_000_000,
        1_000_000,
        1_500_000,
        2_000_000,
    ]
    assert batch_ns(np.array([1]), np.array([1e-9]), 1) == 1


@pytest.mark.parametrize("number", range(8))
def test_both_forms_of_the_maximum_agree(number: int) -> None:
    instance = planning_instance(number, shape="diamond", limited=False)
    workload = realise(instance.pipeline, instance.trace, instance.seed)
    services = {name: found[0].service(2) for name, found in families_of(number).items()}
    figures = [oracle_certificate(workload, services, 0.9, all_pairs) for all_pairs in (0, 10**6)]
    assert figures[0] == figures[1]


@pytest.mark.parametrize("number", range(300, 312))
def test_stopping_rules_lose_nothing(number: int) -> None:
    instance = planning_instance(number, shape="skip", limited=True)
    workload = realise(instance.pipeline, instance.trace, instance.seed)
    families = {
        name: [f for f in found if f.fewest <= 3][:3]
        for name, found in oracle_families(instance.pipeline, instance.profiles, workload).items()
    }
    limits = {name: hw.limit for name, hw in instance.profiles.hardware.items() if hw.limit is not None}
    certified = {
        frozenset(
            (stage, family.hardware, family.batch, n) for stage, (family, n) in selection.items()
        ): cost_of(selection)
        for selection in all_selections(families, 4)
        if within(selection, limits)
        and oracle_certificate(
            workload, {s: f.service(n) for s, (f, n) in selection.items()}, instance.quantile
        )
        <= instance.slo_ns
    }
    answer = cheapest_certified(
        instance.pipeline,
        instance.profiles,
        instance.trace,
        instance.slo_ns,
        instance.quantile,
        instance.seed,
    )
    if answer is None:
        assert not certified
    elif certified:
        assert answer.cost <= min(certified.values())
        found = {
            frozenset((s, c.hardware, c.batch, c.replicas) for s, c in optimum.items())
            for optimum in answer.optima
        }
        assert {key for key, cost in certified.items() if cost == answer.cost} <= found


def families_of(number: int) -> dict[str, list[OracleFamily]]:
    instance = planning_instance(number, shape="diamond", limited=False)
    workload = realise(instance.pipeline, instance.trace, instance.seed)
    return oracle_families(instance.pipeline, instance.profiles, workload)


def key_of(selection: Mapping[str, tuple[OracleFamily, int]]) -> frozenset[tuple[str, str, int, int]]:
    return frozenset((stage, f.hardware, f.batch, n) for stage, (f, n) in selection.items())


def cost_of(selection: Mapping[str, tuple[OracleFamily, int]]) -> int:
    return sum(family.price * n for family, n in selection.values())


def within(selection: Mapping[str, tuple[OracleFamily, int]], limits: Mapping[str, int]) -> bool:
    devices = itertools.chain.from_iterable([family.hardware] * n for family, n in selection.values())
    used = list(devices)
    return all(used.count(name) <= limit for name, limit in limits.items())
