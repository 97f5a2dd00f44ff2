"""Edges: what they make of a token, how many, with which probability and after which delay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from mipplan.core import InputError, is_finite, is_number, is_whole, shown

#: Largest mean number of tokens made of one; beyond it a pipeline is surely mistaken.
MAX_MEAN = 10_000
#: Largest single value of a distribution.
MAX_VALUE = 1_000_000


@dataclass(frozen=True)
class FanOut:
    """Distribution of the number of tokens an edge makes of one parent token, once it is taken.

    Either a finite distribution (`values`, `weights`) or a Poisson one (`poisson_mean`).
    """

    #: Distinct numbers of tokens, each of positive probability; empty for Poisson.
    values: tuple[int, ...] = (1,)
    #: Their probabilities, summing to 1; empty for Poisson.
    weights: tuple[float, ...] = (1.0,)
    #: Mean of a Poisson distribution.
    poisson_mean: float | None = None
    #: Whether every token makes the same number of tokens.
    is_constant_integer: bool = field(init=False, repr=False, compare=False, default=False)

    def __post_init__(self) -> None:
        if self.poisson_mean is None:
            problem = choice_problem(self.values, self.weights)
        elif self.values or self.weights:
            problem = "give values or poisson, not both"
        else:
            problem = mean_problem(self.poisson_mean)
        if problem is not None:
            raise InputError.one("fanout", problem)
        if self.poisson_mean is None:
            # What never happens goes, and weights sum to 1; doing so twice is the same, so that files round-trip.
            total = math.fsum(self.weights)
            total = 1.0 if abs(total - 1.0) <= 1e-12 else total
            shares = [float(weight) / total for weight in self.weights]
            values = tuple(value for value, share in zip(self.values, shares, strict=True) if share > 0)
            object.__setattr__(self, "values", values)
            object.__setattr__(self, "weights", tuple(share for share in shares if share > 0))
            object.__setattr__(self, "is_constant_integer", len(values) == 1)

    @classmethod
    def constant(cls, mean: float) -> FanOut:
        """Make the two-point distribution on the whole numbers next to `mean` (one point if it is whole).

        Raises `InputError` if `mean` is not in (0, 10 000].
        """
        problem = mean_problem(mean)
        if problem is not None:
            raise InputError.one("fanout", problem)
        low = math.floor(mean)
        # The decimal digits as written: 2.6 gives weights 0.4 and 0.6, not 0.3999999999999999 and so on.
        upper = float(Decimal(repr(float(mean))) % 1)
        if upper == 0.0:
            return cls((low,), (1.0,))
        return cls((low, low + 1), (1.0 - upper, upper))

    @classmethod
    def poisson(cls, mean: float) -> FanOut:
        """Make a Poisson distribution; it has no maximum, so no worst-case guarantee exists for it."""
        return cls((), (), float(mean))

    @classmethod
    def choice(cls, values: Sequence[int], weights: Sequence[float]) -> FanOut:
        """Make the distribution that takes `values[k]` with probability proportional to `weights[k]`."""
        return cls(tuple(values), tuple(weights))

    @property
    def mean(self) -> float:
        """Mean number of tokens."""
        if self.poisson_mean is not None:
            return self.poisson_mean
        return math.fsum(value * weight for value, weight in zip(self.values, self.weights, strict=True))

    @property
    def maximum(self) -> int | None:
        """Largest possible number of tokens, None if there is none."""
        return None if self.poisson_mean is not None else max(self.values)

    def scaled(self, factor: float) -> FanOut:
        """Make the distribution whose mean is `factor` times as large, as far as limits allow.

        Of a finite one every value is multiplied, and one between two whole numbers becomes either of them, such that
        its mean is right. They keep their order, so that the same draws make more tokens.
        """
        if self.poisson_mean is not None:
            return FanOut.poisson(min(self.poisson_mean * factor, MAX_MEAN))
        factor = min(factor, MAX_MEAN / self.mean, MAX_VALUE / max(self.values))
        weights: dict[int, float] = {}
        for value, weight in zip(self.values, self.weights, strict=True):
            scaled = round(value * factor, 9)  # 20 · 1.1 is 22, not a little more
            low = math.floor(scaled)
            weights[low] = weights.get(low, 0.0) + weight * (low + 1 - scaled)
            if scaled > low:
                weights[low + 1] = weights.get(low + 1, 0.0) + weight * (scaled - low)
        return FanOut.choice(list(weights), list(weights.values()))

    def to_document(self) -> int | float | dict[str, Any]:
        """Write it in the file syntax; reading that back gives an equal object."""
        if self.poisson_mean is not None:
            return {"poisson": self.poisson_mean}
        if self.is_constant_integer:
            return self.values[0]  # no more than MAX_MEAN, its mean
        if len(self.values) == 2 and self.values[1] == self.values[0] + 1:
            number = float(Decimal(self.values[0]) + Decimal(repr(self.weights[1])))
            if number <= MAX_MEAN and FanOut.constant(number) == self:
                return number
        return {"values": list(self.values), "weights": list(self.weights)}


def mean_problem(mean: object) -> str | None:
    """Say what is wrong with a mean number of tokens, or None."""
    if not is_finite(mean):
        return f"expected a mean number of tokens such as 2 or 2.6, found {shown(mean)}"
    if not 0 < mean <= MAX_MEAN:
        return f"the mean number of tokens must be above 0 and at most {MAX_MEAN}, found {shown(mean)}"
    return None


def choice_problem(values: Sequence[int], weights: Sequence[float]) -> str | None:
    """Say what is wrong with a finite distribution, or None."""
    if not values or len(values) != len(weights):
        return f"expected as many weights as values, at least one: found {len(values)} and {len(weights)}"
    for value in values:
        if not is_whole(value) or not 0 <= value <= MAX_VALUE:
            return f"values must be whole numbers from 0 to {MAX_VALUE}, found {shown(value)}"
    if len(set(values)) < len(values):
        return "the same value is given twice: add up its weights"
    for weight in weights:
        if not is_number(weight) or not 0 <= weight < math.inf:
            return f"weights must be finite numbers ≥ 0, found {shown(weight)}"
    try:
        total = math.fsum(weights)
    except OverflowError:  # beyond all floats
        total = math.inf
    if not 0 < total < math.inf:
        return "the weights must not all be 0, and their sum must be finite"
    return mean_problem(math.fsum(v * (float(w) / total) for v, w in zip(values, weights, strict=True)))


@dataclass(frozen=True)
class Edge:
    """A directed edge: with `probability` a parent token makes `fanout` tokens, `delay_ns` later.

    Where they depend on the variant that the parent runs, both are those of the one it runs, and all are at hand.
    """

    parent: str
    child: str
    delay_ns: int = 0
    probability: float = 1.0
    fanout: FanOut = field(default_factory=FanOut)
    probabilities: tuple[
        tuple[str, float], ...
    ] = ()  # By variant of the parent; () where they do not differ.
    fanouts: tuple[tuple[str, FanOut], ...] = ()

    def under(self, variant: str) -> tuple[float, FanOut]:
        """Probability and fan-out if the parent runs that variant."""
        return dict(self.probabilities).get(variant, self.probability), dict(self.fanouts).get(
            variant, self.fanout
        )
