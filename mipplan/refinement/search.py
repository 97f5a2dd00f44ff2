"""Search for cheaper plans, stage by stage in topological order: what is refuted above needs no replay below.

A partial plan, of the first stages in topological order, is refuted if its exact replay so far, and the least
times below, make more queries late than may be. That refutes all plans that extend it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mipplan.options import Family
from mipplan.refinement.domains import (
    Domain,
    Domains,
    Option,
    OptionQueue,
    Options,
    Problem,
    Span,
    least_cost,
)
from mipplan.refinement.least_times import late_queries, least_services_ns
from mipplan.refinement.meter import Meter
from mipplan.refinement.stage_runs import StageReplays, StageRun

#: Grounds of refutation, as they stand in a plan's record.
PARTIAL_REPLAY = "replay of a part, with least times below"
REPLAY = "replay"

#: Due times that are kept at hand.
_MOST_DUE = 200


@dataclass(frozen=True)
class Partial:
    """A plan of the first stages.

    Attributes
    ----------
    options : mapping of str to Option
    runs : mapping of str to StageRun
    late : bool, shape (queries,)
        Queries that are late for certain.
    cost : int
    """

    options: Options
    runs: Mapping[str, StageRun]
    late: NDArray[np.bool_]
    cost: int


@dataclass
class Search:
    """Finds the cheapest plan of some domains below a budget.

    Parameters
    ----------
    problem : Problem
        Its domains do not matter here.
    domains : mapping of str to Domain
        To be searched; none is empty.
    replays : StageReplays
    meter : Meter
    trusting : bool
        Whether to take for granted that fewer replicas are never better than more of the same family. That is no
        theorem; it saves most of the work.
    accept : callable
        Told of every plan found, which is cheaper than all before; says whether it counts.
    is_brief : bool
        Whether so little is searched that it does not pay to find out what the budget leaves for the stages below.
    """

    problem: Problem
    domains: Domains
    replays: StageReplays
    meter: Meter
    trusting: bool
    accept: Callable[[Options], bool] = lambda _: True
    is_brief: bool = False
    budget: int = field(default=0, init=False)
    best: Options | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        workload = self.problem.workload
        self._order = tuple(workload.stages)
        self._least = least_services_ns(self.domains)
        self._due_at_most = self.replays.following.due_ns(self._least, self.problem.deadline_ns)
        cheapest = [least_cost(self.domains[stage]) for stage in self._order]
        # Cost of the stages from each on, at least.
        self._rest = [sum(cheapest[depth:]) for depth in range(len(cheapest) + 1)]
        settled = [_is_single(self.domains[stage]) for stage in self._order]
        self._settled_from = [all(settled[depth:]) for depth in range(len(settled) + 1)]
        self._floors = ServiceFloors(self.domains, self._order)
        self._due: OrderedDict[tuple[int, ...], NDArray[np.int64]] = OrderedDict()

    @property
    def least_cost(self) -> int:
        """No plan of these domains costs less."""
        return self._rest[0]

    def run(self, budget: int) -> Options | None:
        """Return the cheapest plan that keeps the deadline and costs less than `budget`, or None.

        Raises
        ------
        OutOfAllowanceError
            If the meter runs out; `best` is the best plan so far.
        """
        self.budget, self.best = budget, None
        nothing = Partial({}, {}, np.zeros(self.problem.workload.queries, dtype=np.bool_), 0)
        self._descend(0, nothing)
        return self.best

    def _descend(self, depth: int, above: Partial) -> None:
        if depth == len(self._order):
            self._complete(above)
        elif self.trusting and self._settled_from[depth + 1]:
            self._finish(depth, above)
        elif self.trusting:
            for partial in self._standing(depth, above):
                if partial.cost + self._rest[depth + 1] < self.budget:
                    self._descend(depth + 1, partial)
        else:
            for partial in self._all(depth, above):
                self._descend(depth + 1, partial)

    def _complete(self, plan: Partial) -> bool:
        """Note a plan that keeps the deadline, if it is accepted."""
        if plan.cost >= self.budget or not self.accept(plan.options):
            return False
        self.best, self.budget = plan.options, plan.cost
        return True

    def _all(self, depth: int, above: Partial) -> Iterator[Partial]:
        """All that stands one stage further, cheapest first, within the budget as it is then."""
        queue = OptionQueue(self._affordable(depth, above))
        group: list[tuple[int, Option]] = []
        for number, option in queue:
            if above.cost + option.cost + self._rest[depth + 1] >= self.budget:
                break
            group.append((number, option))
            if len(group) >= self.replays.together:
                yield from self._drain(depth, above, queue, group)
        yield from self._drain(depth, above, queue, group)

    def _drain(
        self, depth: int, above: Partial, queue: OptionQueue, group: list[tuple[int, Option]]
    ) -> Iterator[Partial]:
        asked, group[:] = list(group), []
        made = self._extend(depth, above, [option for _, option in asked])
        for (number, _), (run, partial) in zip(asked, made, strict=True):
            if not run.saturates:
                queue.drop(number)
            if partial is not None and partial.cost + self._rest[depth + 1] < self.budget:
                yield partial

    def _standing(self, depth: int, above: Partial) -> list[Partial]:
        """Trusting: per family, what has at least the fewest replicas that stand; cheapest first."""
        standing: list[Partial] = []
        for span in self._affordable(depth, above):

            def stands(replicas: int, family: Family = span.family) -> bool:
                return self._extend(depth, above, [Option(family, replicas)])[0][1] is not None

            fewest = _fewest(span, stands)
            if fewest is None:
                continue
            for replicas in range(fewest, span.most + 1):
                run, partial = self._extend(depth, above, [Option(span.family, replicas)])[0]
                if partial is not None:
                    standing.append(partial)
                if not run.saturates:
                    break
        return sorted(standing, key=lambda partial: partial.cost)

    def _finish(self, depth: int, above: Partial) -> None:
        """Trusting: the last stage with a choice. Per family, the fewest replicas with which the plan stands."""
        for span in sorted(self._affordable(depth, above), key=lambda span: span.least_cost):
            left = self.budget - 1 - above.cost - self._rest[depth + 1]
            within = Span(span.family, span.fewest, min(span.most, left // span.family.microusd_per_hour))
            if within.fewest > within.most:
                continue
            found: dict[int, Partial] = {}

            def stands(
                replicas: int, family: Family = span.family, found: dict[int, Partial] = found
            ) -> bool:
                plan = self._to_the_end(depth, above, Option(family, replicas))
                if plan is not None:
                    found[replicas] = plan
                return plan is not None

            fewest = _fewest(within, stands)
            while fewest is not None and not self._complete(found[fewest]):
                # Not accepted: elsewhere it may need more.
                fewest = next((n for n in range(fewest + 1, within.most + 1) if stands(n)), None)

    def _to_the_end(self, depth: int, above: Partial, option: Option) -> Partial | None:
        """Choose an option, and below it what is settled."""
        partial = self._extend(depth, above, [option])[0][1]
        for later in range(depth + 1, len(self._order)):
            if partial is None:
                return None
            (span,) = self.domains[self._order[later]]
            partial = self._extend(later, partial, [Option(span.family, span.fewest)])[0][1]
        return partial

    def _affordable(self, depth: int, above: Partial) -> list[Span]:
        """Options of a stage that the budget and the device limits leave room for."""
        left = self.budget - 1 - above.cost - self._rest[depth + 1]
        spans = []
        for span in self.domains[self._order[depth]]:
            most = min(span.most, left // span.family.microusd_per_hour)
            limit = self.problem.limits.get(span.family.hardware)
            if limit is not None:
                most = min(most, limit - self._used(depth, above.options, span.family.hardware))
            if span.fewest <= most:
                spans.append(Span(span.family, span.fewest, most))
        return spans

    def _used(self, depth: int, above: Options, hardware: str) -> int:
        """Devices that the stages above use, and those below that have no choice."""
        below = [self.domains[stage] for stage in self._order[depth + 1 :]]
        settled = [domain[0] for domain in below if _is_single(domain)]
        return sum(o.replicas for o in above.values() if o.family.hardware == hardware) + sum(
            span.fewest for span in settled if span.family.hardware == hardware
        )

    def _extend(
        self, depth: int, above: Partial, options: Sequence[Option]
    ) -> list[tuple[StageRun, Partial | None]]:
        """Replay one stage further under each option; None where the plan is refuted."""
        if not options:
            return []
        stage = self._order[depth]
        made: list[tuple[StageRun, Partial | None]] = []
        last = depth + 1 == len(self._order)
        runs = self.replays.serve(stage, options, above.runs, self.meter)
        for option, run in zip(options, runs, strict=True):
            late = above.late
            due_ns = self._due_ns(depth, above.cost + option.cost)
            queries = late_queries(self.problem.workload, stage, run.exit_ns, due_ns)
            if queries.size:
                late = late.copy()
                late[queries] = True
            refuted = np.count_nonzero(late) > self.problem.allowed
            self.meter.tally.replays += last
            if refuted:
                self.meter.tally.refuted[REPLAY if last else PARTIAL_REPLAY] += 1
                made.append((run, None))
                continue
            chosen = {**above.options, stage: option}
            made.append((run, Partial(chosen, {**above.runs, stage: run}, late, above.cost + option.cost)))
        return made

    def _due_ns(self, depth: int, cost: int) -> NDArray[np.int64]:
        """Due times at a stage, if the stages below must make do with what is left of the budget."""
        if self.is_brief:
            return self._due_at_most[self._order[depth]]
        left = self.budget - 1 - cost - self._rest[depth + 1]
        floors = self._floors.below(depth, left)
        due_ns = self._due.get((depth, *floors))
        if due_ns is None:
            least = dict(zip(self._order[depth + 1 :], floors, strict=True))
            stages = {**self._least, **least}
            every = self.replays.following.due_ns(stages, self.problem.deadline_ns)
            due_ns = self._due[depth, *floors] = every[self._order[depth]]
            if len(self._due) > _MOST_DUE:
                self._due.popitem(last=False)
        return due_ns


class ServiceFloors:
    """The least batch latency of every stage, by what it may cost."""

    def __init__(self, domains: Domains, order: Sequence[str]) -> None:
        self._steps: list[tuple[list[int], list[int]]] = []
        for stage in order:
            spans = sorted(domains[stage], key=lambda span: span.least_cost)
            cheapest = spans[0].least_cost
            extra = [span.least_cost - cheapest for span in spans]
            least = np.minimum.accumulate([int(span.family.service_ns.min()) for span in spans])
            self._steps.append((extra, least.tolist()))

    def below(self, depth: int, left: int) -> tuple[int, ...]:
        """Least batch latency of each stage after `depth`, if it may cost `left` more than it must."""
        return tuple(
            least[max(0, bisect_right(extra, left) - 1)] for extra, least in self._steps[depth + 1 :]
        )


def _is_single(domain: Domain) -> bool:
    return len(domain) == 1 and domain[0].fewest == domain[0].most


def _fewest(span: Span, stands: Callable[[int], bool]) -> int | None:
    """Return the fewest replicas that stand, if more always do; None if the most do not."""
    low, high = span.fewest, span.most
    if not stands(high):
        return None
    while low < high:
        middle = (low + high) // 2
        if stands(middle):
            high = middle
        else:
            low = middle + 1
    return high
