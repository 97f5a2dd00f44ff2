"""What becomes of a plan on a part of the trace: replays, and the certificate, whoever made the plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mipplan.certificate import certify
from mipplan.comparison.contenders import Contender, Made
from mipplan.comparison.result import ComparisonRow, Judgement
from mipplan.replayer import replay
from mipplan.result import Plan
from mipplan.trace import Trace


@dataclass(frozen=True)
class Judge:
    """Judges all plans alike.

    Attributes
    ----------
    planned_on, judged_on : Trace
        The part that was planned on, and the rest.
    discipline : str
    seed : int
        Of the draws planned with.
    seeds : sequence of int
        Of the draws on the rest.
    """

    planned_on: Trace
    judged_on: Trace
    discipline: str
    seed: int
    seeds: Sequence[int]

    def row(self, contender: Contender, made: Made, report: Callable[[str], None]) -> ComparisonRow:
        """Judge what a planner came to."""
        row = ComparisonRow(contender, made.plan, made.seconds, made.estimator_calls)
        if not made.plan.choices:
            return row
        report(f"replaying {len(self.planned_on):,} queries planned on")
        return replace(
            row,
            certificate_ns=certify(made.plan, self.planned_on, seed=self.seed).bound_ns,
            in_sample=self._judge(made.plan, self.planned_on, self.seed),
            over_seeds=tuple(self._held_out(made.plan, seed, report) for seed in self.seeds),
        )

    def _held_out(self, plan: Plan, seed: int, report: Callable[[str], None]) -> Judgement:
        report(f"replaying {len(self.judged_on):,} queries held out, seed {seed}")
        return self._judge(plan, self.judged_on, seed)

    def _judge(self, plan: Plan, trace: Trace, seed: int) -> Judgement:
        replayed = replay(plan, trace, discipline=self.discipline, seed=seed)
        quantile_ns = replayed.quantile_ns(plan.quantile)
        misses = int(np.count_nonzero(replayed.latency_ns > plan.slo_ns))
        return Judgement(seed, replayed.queries, quantile_ns, misses, quantile_ns <= plan.slo_ns)
