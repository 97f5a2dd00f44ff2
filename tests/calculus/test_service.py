from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from mipplan.calculus import StageService, stage_service


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
