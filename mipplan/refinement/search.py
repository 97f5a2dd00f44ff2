"""Search for cheaper plans, stage by stage in topological order: what is refuted above needs no replay below.

A partial plan, of the first stages in topological order, is refuted if its exact replay so far, and the least
times below, make more queries late than may be. That refutes all plans that extend it.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice, takewhile

import numpy as np

from mipplan.core import Bool, Int64, first_true
from mipplan.options import Configuration, Family, Option
from mipplan.refinement.evaluation import WorkLimit
from mipplan.refinement.problem import Domain, Domains, RefinementProblem, Span, least_cost, least_services_ns
from mipplan.replayer import StageReplays, StageRun

#: Grounds of refutation, as they stand in a plan's record.
PARTIAL_REPLAY = "replay of a part, with least times below"
REPLAY = "replay"

#: At most 200 arrays of due times are kept, one for each way to spend what is left of the budget below a stage.
_MOST_DUE_TIMES = 200


@dataclass(frozen=True)
class PartialPlan:
    """A plan of the first stages."""

    plan: Configuration
    runs: Mapping[str, StageRun]
    late: Bool  # Queries that are late for certain, shape (queries,).
    cost: int


@dataclass
class RefinementSearch:
    """Finds the cheapest plan of some domains below a budget."""

    problem: RefinementProblem  # Its domains do not matter here.
    domains: Domains  # To be searched; none is empty.
    replays: StageReplays
    limit: WorkLimit
    # Whether to take for granted that fewer replicas are never better than more of the same family. That is
    # no theorem; it saves most of the work.
    trusting: bool
    # Told of every plan found, which is cheaper than all before; says whether it counts.
    accept: Callable[[Configuration], bool] = lambda _: True
    is_alone: bool = True
    """Whether `accept` goes by nothing but this problem: where no token waits more replicas are then of no use. On
    another sample tokens may wait that do not here."""
    is_brief: bool = False
    """Whether so little is searched that it does not pay to find out what the budget leaves for the stages below."""
    budget: int = field(default=0, init=False)  # Plans must cost less, in micro-dollars per hour.
    best: Configuration | None = field(default=None, init=False)  # The cheapest plan accepted so far.

    def __post_init__(self) -> None:
        self._order = tuple(self.problem.workload.stages)
        self._least = least_services_ns(self.domains)
        self._due_at_most = self.problem.due_times.under(self._least, self.problem.deadline_ns)
        cheapest = [least_cost(self.domains[stage]) for stage in self._order]
        # Cost of the stages from each on, at least.
        self._rest = [sum(cheapest[depth:]) for depth in range(len(cheapest) + 1)]
        least = [_least_uses(self.domains[stage], len(self.problem.caps)) for stage in self._order]
        # What the stages from each on take of every cap, at least.
        self._least_uses = [
            [sum(own) for own in zip(*least[depth:], strict=True)] for depth in range(len(least))
        ]
        self._least_uses.append([0] * len(self.problem.caps))
        settled = [_is_single(self.domains[stage]) for stage in self._order]
        self._settled_from = [all(settled[depth:]) for depth in range(len(settled) + 1)]
        self._floors = [_service_floors(self.domains[stage]) for stage in self._order]
        self._due_below = lru_cache(_MOST_DUE_TIMES)(self._find_due_ns)

    def run(self, budget: int) -> Configuration | None:
        """Return the cheapest plan that keeps the deadline and costs less than `budget`, or None.

        If the limit is reached (`LimitReachedError`), `best` is the best plan so far.
        """
        self.budget, self.best = budget, None
        late = np.zeros(self.problem.workload.queries, dtype=np.bool_)
        self._descend(0, PartialPlan(Configuration(), {}, late, 0))
        return self.best

    def _descend(self, depth: int, above: PartialPlan) -> None:
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

    def _complete(self, found: PartialPlan) -> bool:
        """Note a plan that keeps the deadline, if it is accepted."""
        accepted = found.cost < self.budget and self.problem.allows(found.plan) and self.accept(found.plan)
        if accepted:
            self.best, self.budget = found.plan, found.cost
        return accepted

    def _all(self, depth: int, above: PartialPlan) -> Iterator[PartialPlan]:
        """All that stands one stage further, cheapest first, within the budget as it is then."""
        beside = above.cost + self._rest[depth + 1]
        #: Spans of which more replicas make the same run, with that run.
        idle: dict[int, StageRun] = {}
        queue = _by_cost(self._affordable(depth, above), idle if self.is_alone else ())
        within = takewhile(lambda entry: beside + entry[1].microusd_per_hour < self.budget, queue)
        while group := list(islice(within, self.replays.together)):
            known = [idle.get(number) for number, _ in group]
            made = self._extend(depth, above, [option for _, option in group], known)
            for (number, _), (run, partial) in zip(group, made, strict=True):
                if not run.waits:
                    idle[number] = run
                if partial is not None and partial.cost + self._rest[depth + 1] < self.budget:
                    yield partial

    def _standing(self, depth: int, above: PartialPlan) -> list[PartialPlan]:
        """Trusting: per family, what has at least the fewest replicas that stand; cheapest first."""
        standing: list[PartialPlan] = []
        for span in self._affordable(depth, above):

            def stands(replicas: int, family: Family = span.family) -> bool:
                return self._extend(depth, above, [Option(family, replicas)])[0][1] is not None

            fewest = _fewest(span, stands)
            if fewest is None:
                continue
            idle: StageRun | None = None  # What more replicas do not change.
            for replicas in range(fewest, span.most + 1):
                run, partial = self._extend(depth, above, [Option(span.family, replicas)], [idle])[0]
                if partial is not None:
                    standing.append(partial)
                idle = None if run.waits else run
                if idle is not None and self.is_alone:
                    break
        return sorted(standing, key=lambda partial: partial.cost)

    def _finish(self, depth: int, above: PartialPlan) -> None:
        """Trusting: the last stage with a choice. Per family, the fewest replicas with which the plan stands."""
        for span in sorted(self._affordable(depth, above), key=lambda span: span.least_cost):
            left = self.budget - 1 - above.cost - self._rest[depth + 1]
            within = Span(span.family, span.fewest, min(span.most, left // span.family.microusd_per_hour))
            if within.fewest > within.most:
                continue
            found: dict[int, PartialPlan] = {}

            def stands(
                replicas: int, family: Family = span.family, found: dict[int, PartialPlan] = found
            ) -> bool:
                plan = self._to_the_end(depth, above, Option(family, replicas))
                if plan is not None:
                    found[replicas] = plan
                return plan is not None

            fewest = _fewest(within, stands)
            while fewest is not None and not self._complete(found[fewest]):
                # Not accepted: elsewhere it may need more.
                fewest = next((n for n in range(fewest + 1, within.most + 1) if stands(n)), None)

    def _to_the_end(self, depth: int, above: PartialPlan, option: Option) -> PartialPlan | None:
        """Choose an option, and below it what is settled."""
        partial = self._extend(depth, above, [option])[0][1]
        for later in range(depth + 1, len(self._order)):
            if partial is None:
                return None
            (span,) = self.domains[self._order[later]]
            partial = self._extend(later, partial, [Option(span.family, span.fewest)])[0][1]
        return partial

    def _affordable(self, depth: int, above: PartialPlan) -> list[Span]:
        """Options of a stage that the budget and the device limits leave room for."""
        left = self.budget - 1 - above.cost - self._rest[depth + 1]
        spans = []
        for span in self.domains[self._order[depth]]:
            most = min(span.most, left // span.family.microusd_per_hour)
            hardware = span.family.hardware
            if hardware in self.problem.limits:
                most = min(most, self.problem.limits[hardware] - self._used(depth, above.plan, hardware))
            for place, cap in enumerate(self.problem.caps):
                room = cap.most - sum(option.uses[place] for option in above.plan.values())
                most = min(most, span.family.uses[place].most(room - self._least_uses[depth + 1][place]))
            if span.fewest <= most:
                spans.append(Span(span.family, span.fewest, most))
        return spans

    def _used(self, depth: int, above: Configuration, hardware: str) -> int:
        """Devices that the stages above use, and those below that have no choice."""
        below = [self.domains[stage] for stage in self._order[depth + 1 :]]
        settled = [domain[0] for domain in below if _is_single(domain)]
        taken = sum(span.fewest for span in settled if span.family.hardware == hardware)
        return above.devices.get(hardware, 0) + taken

    def _extend(
        self,
        depth: int,
        above: PartialPlan,
        options: Sequence[Option],
        known: Sequence[StageRun | None] | None = None,
    ) -> list[tuple[StageRun, PartialPlan | None]]:
        """Replay one stage further under each option whose run is not known; None where the plan is refuted."""
        stage = self._order[depth]
        last = depth + 1 == len(self._order)
        counters = self.limit.counters
        made: list[tuple[StageRun, PartialPlan | None]] = []
        known = known or [None] * len(options)
        asked = [option for option, run in zip(options, known, strict=True) if run is None]
        served = iter(self.replays.serve(stage, asked, above.runs, self.limit.spend))
        runs = [next(served) if run is None else run for run in known]
        for option, run in zip(options, runs, strict=True):
            late = above.late
            cost = above.cost + option.microusd_per_hour
            queries = self.problem.late_queries(stage, run.exit_ns, self._due_ns(depth, cost))
            if queries.size:
                late = late.copy()
                late[queries] = True
            counters.replays += last
            if self.problem.criterion.main.is_exceeded(late) or (
                last and not self.problem.keeps_others({**above.runs, stage: run})
            ):
                counters.refuted[REPLAY if last else PARTIAL_REPLAY] += 1
                made.append((run, None))
                continue
            plan = above.plan.replaced(stage, option)
            made.append((run, PartialPlan(plan, {**above.runs, stage: run}, late, cost)))
        return made

    def _due_ns(self, depth: int, cost: int) -> Int64:
        """Due times at a stage, if the stages below must make do with what is left of the budget."""
        if self.is_brief:
            return self._due_at_most[self._order[depth]]
        left = self.budget - 1 - cost - self._rest[depth + 1]
        floors = (least[max(0, bisect_right(extra, left) - 1)] for extra, least in self._floors[depth + 1 :])
        return self._due_below(depth, *floors)

    def _find_due_ns(self, depth: int, *floors: int) -> Int64:
        """Due times at a stage, if the stages below it take at least so long."""
        least = dict(zip(self._order[depth + 1 :], floors, strict=True))
        every = self.problem.due_times.under({**self._least, **least}, self.problem.deadline_ns)
        return every[self._order[depth]]


def _service_floors(domain: Domain) -> tuple[list[int], list[int]]:
    """What a stage may cost beyond the least, ascending, and the least batch latency that can be had for it."""
    spans = sorted(domain, key=lambda span: span.least_cost)
    extra = [span.least_cost - spans[0].least_cost for span in spans]
    least = np.minimum.accumulate([int(span.family.service_ns.min()) for span in spans])
    return extra, least.tolist()


def _by_cost(spans: Sequence[Span], dropped: Container[int]) -> Iterator[tuple[int, Option]]:
    """Options with the number of their span, cheapest first; what is still to come of a span can be dropped."""

    def options(number: int, span: Span) -> Iterator[tuple[int, int, Option]]:
        for replicas in range(span.fewest, span.most + 1):
            if number in dropped:
                return
            yield span.family.microusd_per_hour * replicas, number, Option(span.family, replicas)

    for _, number, option in heapq.merge(*(options(number, span) for number, span in enumerate(spans))):
        if number not in dropped:
            yield number, option


def _least_uses(domain: Domain, caps: int) -> list[int]:
    """What an option of a stage takes of every cap, at least."""
    return [min(Option(span.family, span.fewest).uses[place] for span in domain) for place in range(caps)]


def _is_single(domain: Domain) -> bool:
    return len(domain) == 1 and domain[0].fewest == domain[0].most


def _fewest(span: Span, stands: Callable[[int], bool]) -> int | None:
    """Return the fewest replicas that stand, if more always do; None if the most do not."""
    return first_true(span.fewest, span.most, stands) if stands(span.most) else None
