"""Plans that must keep several samples of the traffic, each by itself.

A search goes through the plans that keep one of them, the *pivot*. A plan that it finds counts if it keeps the others,
so the cheapest that counts is the cheapest that keeps all; and a condition that is necessary on one sample is necessary
for all of them. The harder the pivot is to keep, the fewer plans are put before the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from mipplan.core import Deadline
from mipplan.options import Configuration
from mipplan.refinement.bounds import Known, Narrowed, narrow
from mipplan.refinement.evaluation import ReplayOracle, WorkLimit
from mipplan.refinement.problem import RefinementProblem
from mipplan.refinement.search import REPLAY
from mipplan.replayer import CacheParams, StageReplays
from mipplan.result import Choice, Plan, worst_sample
from mipplan.tokens import Sample, find_samples
from mipplan.trace import Trace

#: Replays of stages on all samples but the pivot take at most so much memory together.
_CACHE_BYTES = 1 << 29


def pivot_first(plan: Plan, asked: Plan, trace: Trace | Sequence[Trace]) -> tuple[Sample, ...]:
    """Return samples with that one first which a plan is known to keep least easily, else that of highest rate.

    They are those that are asked for: some variants draw where those that the plan runs do not.
    """
    samples = find_samples(asked.pipeline, trace, asked.seed, asked.seeds)
    worst = worst_sample(plan.samples)
    known = [sample for sample in samples if worst is not None and sample.name == worst.name]
    pivot = known[0] if known else max(samples, key=lambda sample: sample.trace.rate_rps)
    return (pivot, *(sample for sample in samples if sample is not pivot))


@dataclass(eq=False)
class OtherSample:
    """A sample that plans must keep beside the pivot."""

    name: str
    problem: RefinementProblem
    replays: StageReplays
    known: Known = field(default_factory=dict)

    @cached_property
    def oracle(self) -> ReplayOracle:
        """Made when it is asked for: until then a stage may have no options."""
        return ReplayOracle(self.problem, self.replays)


@dataclass(eq=False)
class OtherSamples:
    """All samples but the pivot; the one that refused last is asked first."""

    samples: list[OtherSample]
    blocking: str | None = field(default=None, init=False)  # The sample that left a stage no option.
    _verdicts: dict[tuple[Choice, ...], bool] = field(default_factory=dict, init=False)

    @classmethod
    def of(
        cls,
        samples: Sequence[Sample],
        problems: Sequence[RefinementProblem],
        replays_of: Callable[[RefinementProblem, CacheParams], StageReplays],
    ) -> OtherSamples:
        """Prepare what the search on the pivot needs of the others."""
        params = CacheParams(_CACHE_BYTES // max(1, len(samples)))
        pairs = zip(samples, problems, strict=True)
        return cls([OtherSample(one.name, problem, replays_of(problem, params)) for one, problem in pairs])

    @property
    def problems(self) -> list[RefinementProblem]:
        """What has to be kept on each of them."""
        return [one.problem for one in self.samples]

    def keep(self, plan: Configuration, limit: WorkLimit) -> bool:
        """Whether a plan keeps deadline and device limits on all of them.

        Raises `LimitReachedError` if the limit is reached.
        """
        key = tuple(plan[stage].choice for stage in sorted(plan))
        if key not in self._verdicts:
            refusing = next((one for one in self.samples if not one.oracle.keeps(plan, limit)), None)
            if refusing is not None:
                limit.counters.refuted[REPLAY] += 1
                self.samples.remove(refusing)
                self.samples.insert(0, refusing)
            self._verdicts[key] = refusing is None
        return self._verdicts[key]

    def narrow(
        self, problem: RefinementProblem, budget: int | None, known: Known, deadline: Deadline
    ) -> Narrowed:
        """Exclude options by what is necessary on the pivot, whose problem this is, and on all others.

        Raises `LimitReachedError` if the deadline passes before that is done.
        """
        found = narrow(problem, budget, known, deadline)
        while self.samples and found.blocked is None:
            before = found.problem.domains
            for one in self.samples:
                within = replace(one.problem, domains=found.problem.domains)
                on_it = narrow(within, budget, one.known, deadline)
                left = replace(problem, domains=on_it.problem.domains)
                found = Narrowed(left, on_it.blocked, found.refuted + on_it.refuted)
                if found.blocked is not None:
                    self.blocking = one.name
                    return found
            if found.problem.domains == before:
                break
            again = narrow(found.problem, budget, known, deadline)
            found = replace(again, refuted=found.refuted + again.refuted)
        return found
