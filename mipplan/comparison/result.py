"""What a comparison found: one row per planner, its figures on the part planned on and on the rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mipplan.comparison.contenders import Contender
from mipplan.core import NS_PER_S, quantile_ns
from mipplan.result import Plan
from mipplan.trace import Trace


@dataclass(frozen=True)
class Judgement:
    """A plan replayed on one part of the trace.

    Attributes
    ----------
    seed : int
        Of the token draws.
    queries : int
    quantile_ns : int
        Latency quantile over these queries (``method="higher"``).
    misses : int
        Queries slower than the objective.
    keeps : bool
        Whether the quantile is at most the objective.
    """

    seed: int
    queries: int
    quantile_ns: int
    misses: int
    keeps: bool

    @property
    def quantile_s(self) -> float:
        """`quantile_ns` in seconds."""
        return self.quantile_ns / NS_PER_S

    @property
    def miss_rate(self) -> float:
        """Share of queries slower than the objective."""
        return self.misses / self.queries


@dataclass(frozen=True)
class ComparisonRow:
    """One planner: its plan, and how that did.

    Attributes
    ----------
    planner : Contender
    plan : Plan
        Without choices if the planner found none; its `reason` says why.
    planning_s : float
        Wall-clock time of the planner, one run.
    estimator_calls : int
        Configurations that the planner replayed.
    certificate_ns : int or None
        Certified latency quantile on the part planned on, whatever the planner made of it; None without a plan.
    in_sample : Judgement or None
        On the part planned on, with the draws planned with.
    over_seeds : tuple of Judgement
        On the rest, once for each seed of the comparison; empty without a plan.
    """

    planner: Contender
    plan: Plan
    planning_s: float
    estimator_calls: int
    certificate_ns: int | None = None
    in_sample: Judgement | None = None
    over_seeds: tuple[Judgement, ...] = ()

    @property
    def held_out(self) -> Judgement | None:
        """On the rest, with the first of the seeds; None without a plan."""
        return self.over_seeds[0] if self.over_seeds else None

    @property
    def certificate_s(self) -> float | None:
        """`certificate_ns` in seconds."""
        return None if self.certificate_ns is None else self.certificate_ns / NS_PER_S

    @property
    def median_quantile_s(self) -> float | None:
        """Median over the seeds of the latency quantile on the rest, seconds; the higher of two middle ones."""
        return _of_seeds([judged.quantile_ns for judged in self.over_seeds], 0.5, NS_PER_S)

    @property
    def worst_quantile_s(self) -> float | None:
        """Largest of them, seconds."""
        return _of_seeds([judged.quantile_ns for judged in self.over_seeds], 1.0, NS_PER_S)

    @property
    def median_miss_rate(self) -> float | None:
        """Median over the seeds of the miss rate on the rest; the higher of two middle ones."""
        return _of_seeds([judged.misses for judged in self.over_seeds], 0.5, self._queries)

    @property
    def worst_miss_rate(self) -> float | None:
        """Largest of them."""
        return _of_seeds([judged.misses for judged in self.over_seeds], 1.0, self._queries)

    @property
    def _queries(self) -> int:
        return self.over_seeds[0].queries if self.over_seeds else 1


@dataclass(frozen=True)
class Comparison:
    """Several planners on one problem.

    Attributes
    ----------
    slo_ns : int
    quantile : float
    discipline : str
        Queue discipline of all replays here.
    split : float
        Share of the trace's time that was planned on.
    seed : int
        Of the token draws planned with.
    seeds : tuple of int
        Of the token draws on the rest; one where the pipeline draws nothing.
    planned_on, judged_on : Trace
        The first part of the trace, and the rest.
    rows : tuple of ComparisonRow
        In the order asked for.
    left_out : tuple of Contender
        Asked for, but Ctrl-C came first.
    """

    slo_ns: int
    quantile: float
    discipline: str
    split: float
    seed: int
    seeds: tuple[int, ...]
    planned_on: Trace
    judged_on: Trace
    rows: tuple[ComparisonRow, ...]
    left_out: tuple[Contender, ...] = ()

    @property
    def slo_s(self) -> float:
        """The objective in seconds."""
        return self.slo_ns / NS_PER_S

    @property
    def by_cost(self) -> tuple[ComparisonRow, ...]:
        """Rows by cost, cheapest first; those without a plan come last."""
        return tuple(sorted(self.rows, key=lambda row: _cost_key(row.plan)))

    def row(self, planner: str) -> ComparisonRow:
        """Return the row of a planner.

        Raises
        ------
        KeyError
            If it has none.
        """
        found = next((row for row in self.rows if row.planner == planner), None)
        if found is None:
            raise KeyError(planner)
        return found


def _cost_key(plan: Plan) -> tuple[bool, int]:
    return plan.microusd_per_hour is None, plan.microusd_per_hour or 0


def _of_seeds(values: list[int], quantile: float, scale: int) -> float | None:
    return quantile_ns(np.array(values, np.int64), quantile) / scale if values else None
