"""What counts cost and miss: those worth a look at one burstiness, and the expected loss of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mipplan.core import MICRODOLLARS_PER_DOLLAR, NS_PER_HOUR, NS_PER_S, Bool, Float64, Int64
from mipplan.tuner.policies.capacity import StageCapacity
from mipplan.tuner.stages import StageScale


@dataclass(frozen=True)
class LossParams:
    """What counts are worth a look."""

    cautions: tuple[float, ...] = (1.0, 0.1, 0.01)
    """Counts are drawn up as if a miss was worth this much of what it is: those for what is unlikely need less care."""
    exact: int = 32
    """Every count of a stage up to 32 is looked at; beyond, counts about 5 % apart."""
    beyond: int = 118
    """So many of these."""
    most: int = 10_000
    """Replicas of one stage."""


_PARAMS = LossParams()


@dataclass(frozen=True)
class PricedStage:
    """A stage's price and limits, and what its replicas serve in time."""

    scale: StageScale
    capacity: StageCapacity

    @property
    def usd_per_s(self) -> float:
        """Price of one replica."""
        return self.price(self.scale)

    @staticmethod
    def price(scale: StageScale) -> float:
        """Dollars per second of one replica of a stage."""
        return scale.microusd_per_hour / MICRODOLLARS_PER_DOLLAR * NS_PER_S / NS_PER_HOUR

    def tried(self, params: LossParams = _PARAMS) -> Int64:
        """Counts that are looked at, increasing."""
        least = self.scale.least
        most = max(least, params.most if self.scale.most is None else self.scale.most)
        beyond = np.geomspace(params.exact, params.most, params.beyond).astype(np.int64)
        return np.unique(np.clip(np.concatenate([np.arange(1, params.exact + 1), beyond]), least, most))


@dataclass(frozen=True)
class LossTable:
    """Counts to choose from at one burstiness, what they cost, and what they miss at each rate."""

    replicas: Int64
    """Shape (k, stages), in lexicographic order."""
    usd_per_s: Float64
    """Shape (k,)."""
    missed_rps: Float64
    """Queries per second that are late, shape (k, rates)."""
    capacity_rps: Float64
    """Shape (k, stages)."""

    @classmethod
    def draw_up(
        cls,
        stages: Sequence[PricedStage],
        rate_rps: Float64,
        burstiness: float,
        worth_usd: float,
        *,
        wait_share: float = 1.0,
        limits: Mapping[str, int] | None = None,
        measured: tuple[Sequence[int], Float64] | None = None,
        params: LossParams = _PARAMS,
    ) -> LossTable:
        """Draw up for every rate, and several cautions, the counts that are best if it is that rate for sure.

        Then stages do not depend on each other, if a query that is late twice counts twice. Counts of which it was
        `measured` which share misses at each rate are among them, with no more than that. Counts that a limit on
        devices does not admit are left out; where it admits none, all but the fewest.
        """
        columns = [
            _best_counts(stage, rate_rps, burstiness, worth_usd, wait_share, params) for stage in stages
        ]
        given = [[stage.scale.least for stage in stages], *([] if measured is None else [measured[0]])]
        counts = np.unique(np.concatenate([given, *np.stack(columns, axis=-1)]), axis=0)
        counts = counts[_admitted(counts, [stage.scale.hardware for stage in stages], limits or {})]
        missed, capacity = np.zeros((len(counts), rate_rps.size)), np.empty(counts.shape)
        for place, stage in enumerate(stages):
            missed += stage.capacity.missed(counts[:, place], rate_rps, burstiness, wait_share)
            capacity[:, place] = stage.capacity.of(counts[:, place], burstiness)[0]
        if measured is not None:
            own = (counts == measured[0]).all(axis=1)  # none where there are no devices for them
            missed[own] = np.minimum(missed[own], measured[1])
        price = np.array([stage.usd_per_s for stage in stages])
        return cls(counts, counts @ price, rate_rps * np.minimum(missed, 1.0), capacity)

    def expected_usd(self, lead_s: float, worth_usd: float, chances: Float64) -> Float64:
        """Dollars of one lead time, what is missed included, by the chances of the rates, shape (k,)."""
        return np.asarray(lead_s * (self.usd_per_s + worth_usd * (self.missed_rps @ chances)))

    def drain_usd(
        self,
        queue: Float64,
        rate_rps: float,
        worth_usd: float,
        bounds_s: tuple[Float64, float],
        base: int,
        held_s: float,
    ) -> Float64:
        """What queues of so many queries at the stages cost until they have gone, shape (k,).

        Until then every query that arrives is late. No replicas have a queue gone before a batch of its stage is done,
        and beyond some time none is waited for: `bounds_s`, the first of shape (stages,). What is dearer than row
        `base` is there for the queues alone, and paid until they have gone and for `held_s` more, when it is let go.
        """
        least_s, most_s = bounds_s
        spare = np.maximum(self.capacity_rps - rate_rps, 1e-9)
        seconds = np.clip(queue / spare, np.where(queue > 0, least_s, 0.0), most_s).max(axis=1)
        more_usd_per_s = np.maximum(self.usd_per_s - self.usd_per_s[base], 0.0)
        return np.asarray(seconds * worth_usd * rate_rps + (seconds + held_s) * more_usd_per_s)


def _best_counts(
    stage: PricedStage,
    rate_rps: Float64,
    burstiness: float,
    worth_usd: float,
    wait_share: float,
    params: LossParams,
) -> Int64:
    """Best counts of one stage by caution and rate, non-decreasing in the rate, shape (cautions, rates)."""
    tried = stage.tried(params)
    late_rps = rate_rps * stage.capacity.missed(tried, rate_rps, burstiness, wait_share)
    worth = worth_usd * np.array(params.cautions)[:, None, None]
    usd = tried[:, None] * stage.usd_per_s + worth * late_rps
    return np.asarray(np.maximum.accumulate(tried[np.argmin(usd, axis=1)], axis=1))


def _admitted(counts: Int64, hardware: Sequence[str], limits: Mapping[str, int]) -> Bool:
    """Which counts there are devices for; the first where there are for none."""
    within = np.ones(len(counts), dtype=np.bool_)
    for name, limit in limits.items():
        within &= counts[:, [one == name for one in hardware]].sum(axis=1) <= limit
    if not within.any():
        within[0] = True
    return within
