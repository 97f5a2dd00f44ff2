from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mipplan.calculus import StageService, fewest_replicas, service_columns, stage_service
from mipplan.pipeline import DispatchLaw

#: ℓ(1), …, ℓ(b) without any order.
TABLES = st.lists(st.integers(1, 30), min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("service_ns", "replicas", "is_source", "expected"),
    [
        ([7], 3, True, StageService(7, 7, 3)),
        ([7], 3, False, StageService(14, 7, 3)),
        ([7, 10], 3, True, StageService(20, 10, 6)),
        ([7, 10], 3, False, StageService(20, 10, 6)),
        # The slowest batch is not the largest: T counts the slowest, R the largest.
        ([9, 12, 5], 2, True, StageService(24, 5, 6)),
    ],
)
def test_rate_and_latency(
    service_ns: list[int], replicas: int, is_source: bool, expected: StageService
) -> None:
    assert stage_service(np.array(service_ns), replicas, is_source) == expected


def test_rate_is_exact_and_in_tokens_per_second() -> None:
    service = StageService(1, 3, 2)
    assert service.ns_per_token == Fraction(3, 2)
    assert service.rate_rps == pytest.approx(2e9 / 3)
    assert StageService(1, 0, 2).rate_rps == math.inf
    assert StageService(1, 0, 2).ns_per_token == 0


@given(TABLES, st.booleans(), st.sampled_from(DispatchLaw))
def test_columns_are_the_services_one_by_one_and_only_get_better(
    table: list[int], is_source: bool, law: DispatchLaw
) -> None:
    service_ns, counts = np.array(table, dtype=np.int64), np.arange(1, 30)
    longest, full, batch = (np.full_like(counts, n) for n in (max(table), table[-1], len(table)))
    columns = service_columns(longest, full, batch, counts, is_source, law)
    made = [StageService(*(int(column[k]) for column in columns)) for k in range(counts.size)]
    assert made == [stage_service(service_ns, n, is_source, law) for n in counts.tolist()]
    for fewer, more in pairwise(made):
        assert more.latency_ns <= fewer.latency_ns
        assert more.ns_per_token <= fewer.ns_per_token


@given(TABLES, st.fractions(0, 2, max_denominator=100), st.sampled_from(DispatchLaw), st.booleans())
def test_fewest_replicas_are_the_first_that_keep_up(
    table: list[int], rate: Fraction, law: DispatchLaw, reached: bool
) -> None:
    service_ns = np.array(table, dtype=np.int64)

    def keeps_up(replicas: int) -> bool:
        most = 1 / stage_service(service_ns, replicas, False, law).ns_per_token
        return most >= rate if reached else most > rate

    tried = 3 * max(table) + 3  # beyond L replicas δ is 1 ns, and nothing gets faster
    first = next((n for n in range(1, tried) if keeps_up(n)), None)
    found = fewest_replicas(service_ns, rate, law, reached=reached)
    assert max(1, found) == first if first is not None else found >= tried


def test_a_rate_that_is_just_reached_is_not_kept_up_with_unless_said() -> None:
    for law, most in ((DispatchLaw.EAGER, 2), (DispatchLaw.PACED, 2)):
        table, rate = np.array([10]), Fraction(1, 10)
        assert fewest_replicas(table, rate, law) == most
        assert fewest_replicas(table, rate, law, reached=True) == 1


@pytest.mark.parametrize("law", DispatchLaw)
def test_a_window_adds_once_to_batches_and_staggers_to_every_further_token(law: DispatchLaw) -> None:
    for batch, spread in ((1, 0), (2, 100 + 7), (4, 100 + 3 * 7)):
        table = np.full(batch, 40)
        plain, apart = stage_service(table, 2, False, law), stage_service(table, 2, False, law, 7, 100)
        assert apart.latency_ns - plain.latency_ns == spread
        assert apart.ns_per_token == plain.ns_per_token


def test_paced_service_by_hand() -> None:
    table = np.array([4, 10, 7], dtype=np.int64)  # L = 10, ℓ(3) = 7
    assert stage_service(table, 4, False, DispatchLaw.PACED) == StageService(13, 3, 3)
    assert stage_service(table, 1, False, DispatchLaw.PACED) == StageService(20, 7, 3)
    assert stage_service(table[:1], 3, True, DispatchLaw.PACED) == StageService(4, 2, 1)
    assert stage_service(table, 4, False, DispatchLaw.TIMED) == stage_service(table, 4, False)
