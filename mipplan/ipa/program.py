"""The program as a time-cost problem: variants, batch sizes and replicas become modes.

With variant and batch size fixed, replicas appear in the throughput constraint and in the cost only, so as few as keep
up are best: what is a product of variables in the program is a constant of a mode. Equation numbers refer to the page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from mipplan.core import MICRODOLLARS_PER_DOLLAR
from mipplan.options import Option
from mipplan_formulations import Activity, Arc, Path, Resource, TimeCostProblem

#: The objective is counted in millionths, because costs of a program are whole numbers.
_PER_UNIT = 1_000_000


@dataclass(frozen=True)
class Weights:
    """Weights of the objective (1).

    Attributes
    ----------
    accuracy : float
        α, per unit of accuracy, summed over stages.
    cost : float
        β, per dollar an hour.
    batch : float
        δ, per item of batch size, summed over stages.
    """

    accuracy: float = 1.0
    cost: float = 1.0
    batch: float = 1e-6


@dataclass(frozen=True, eq=False)
class Variant:
    """A model on one hardware with one batch size, and the fewest replicas that keep up with the rate (3)."""

    model: str
    option: Option
    accuracy: float

    def latency_ns(self, queries_per_ns: Fraction) -> int:
        """Time of a full batch and of waiting for the others of the batch, (b − 1)/λ, rounded up (2)."""
        family = self.option.family
        return int(family.service_ns[-1]) + math.ceil((family.batch - 1) / queries_per_ns)

    def value(self, weights: Weights) -> float:
        """Its part of the objective (1)."""
        return (
            weights.accuracy * self.accuracy
            - weights.cost * (self.option.microusd_per_hour / MICRODOLLARS_PER_DOLLAR)
            - weights.batch * self.option.family.batch
        )


def pose_program(
    stages: Mapping[str, Sequence[Variant]],
    delays_ns: Sequence[int],
    deadline_ns: int,
    limits: Mapping[str, int],
    queries_per_ns: Fraction,
    weights: Weights,
) -> TimeCostProblem:
    """Write the program for a chain; a mode costs what its value falls short of the stage's best, in millionths.

    Stages come in the order of the chain, none without variants, with the delay between one and the next; limits are
    devices by hardware name, and `queries_per_ns` is λ.
    """
    activities = []
    for name, variants in stages.items():
        values = np.array([variant.value(weights) for variant in variants])
        cost = np.rint((values.max() - values) * _PER_UNIT).astype(np.int64)
        latency_ns = np.array([variant.latency_ns(queries_per_ns) for variant in variants], dtype=np.int64)
        options = [variant.option for variant in variants]
        used = [[n if family.hardware == hardware else 0 for hardware in limits] for family, n in options]
        activities.append(Activity(name, cost, latency_ns, np.array(used, dtype=np.int64)))
    nothing = tuple(np.zeros(len(variants), dtype=np.int64) for variants in stages.values())
    return TimeCostProblem(
        tuple(activities),
        tuple(Arc(v, v + 1, delay) for v, delay in enumerate(delays_ns)),
        (Path(tuple(range(len(activities))), sum(delays_ns), nothing),),
        deadline_ns,
        tuple(Resource(hardware, limit) for hardware, limit in limits.items()),
    )
