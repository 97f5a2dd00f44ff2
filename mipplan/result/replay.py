"""What a replay observed: integer times per token and per batch, and the figures people ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipplan.quantiles import check_quantile, quantile_ns
from mipplan.units import NS_PER_S, seconds_to_ns

Times = NDArray[np.int64]


@dataclass(frozen=True)
class StageReplay:
    """One stage's tokens and batches, in integer ns.

    Attributes
    ----------
    replicas : int
    arrival_ns, dispatch_ns, exit_ns : int64, shape (tokens,)
        In token order: ready at the stage, taken into a batch, batch done.
    batch_start_ns, batch_size, batch_service_ns : int64, shape (batches,)
        In order of dispatch.
    """

    replicas: int
    arrival_ns: Times
    dispatch_ns: Times
    exit_ns: Times
    batch_start_ns: Times
    batch_size: Times
    batch_service_ns: Times

    @property
    def tokens(self) -> int:
        """Number of tokens served."""
        return int(self.arrival_ns.size)

    @property
    def mean_wait_s(self) -> float:
        """Mean time from ready to dispatch (s); 0 if the stage saw no token."""
        return float(np.mean(self.dispatch_ns - self.arrival_ns)) / NS_PER_S if self.tokens else 0.0

    @property
    def max_wait_s(self) -> float:
        """Longest time from ready to dispatch (s)."""
        return float(np.max(self.dispatch_ns - self.arrival_ns)) / NS_PER_S if self.tokens else 0.0

    @property
    def mean_batch(self) -> float:
        """Mean batch size; 0 if there was no batch."""
        return float(np.mean(self.batch_size)) if self.batch_size.size else 0.0

    @property
    def utilisation(self) -> float:
        """Busy share of all replicas between the stage's first arrival and its last exit."""
        if not self.tokens:
            return 0.0
        span = int(self.exit_ns.max()) - int(self.arrival_ns.min())
        return float(self.batch_service_ns.sum()) / (span * self.replicas)


@dataclass(frozen=True)
class ReplayResult:
    """Outcome of one replay.

    Attributes
    ----------
    latency_ns : int64, shape (n,)
        Latency of each query: last exit of any of its tokens minus ingress.
    stages : mapping of str to StageReplay
        In topological order.
    discipline, engine : str
    seed : int
    """

    latency_ns: Times
    stages: Mapping[str, StageReplay]
    discipline: str
    engine: str
    seed: int

    @property
    def latency_s(self) -> NDArray[np.float64]:
        """Latency of each query in seconds, shape (n,)."""
        return self.latency_ns / NS_PER_S

    def quantile_ns(self, quantile: float) -> int:
        """Latency quantile over queries in ns (``method="higher"``)."""
        return quantile_ns(self.latency_ns, check_quantile(quantile))

    def quantile(self, quantile: float) -> float:
        """Latency quantile over queries in seconds (``method="higher"``).

        Raises
        ------
        InputError
            If `quantile` is not in (0, 1].
        """
        return self.quantile_ns(quantile) / NS_PER_S

    def miss_rate(self, slo_s: float) -> float:
        """Share of queries slower than `slo_s`."""
        return float(np.mean(self.latency_ns > seconds_to_ns(slo_s)))
