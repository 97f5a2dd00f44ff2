"""Options that no plan can be made of: conditions proven necessary, applied before anything is replayed.

*Path service times.* A token cannot leave before its earliest arrival plus the least batch latency on offer, and what
follows from it needs at least the delays and the least batch latencies below. Neither depends on discipline or
replicas.

*Capacity.* Every token of a query that keeps its deadline is served within a window of its own, from its earliest
arrival to its due time. A batch of k that serves any of them on time fits into its window, and holds no more such
tokens than arrive close enough to each other; so there is a least time that a replica spends on each. Whatever the
discipline, the batches and the replicas upstream do, those tokens could also be served on time by one machine that
takes ``work`` for each, at will and with interruptions, if ``work`` is at most that least time divided by the
replicas. The most tokens such a machine can finish on time are found by serving them in order and turning away
whatever would be late (proof: [theory, section 9][9-refinement-which-conditions-are-necessary]).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, TypeAlias

import numpy as np

from mipplan.core import NO_DEADLINE, Deadline, Int64, compiled, numba_fault
from mipplan.refinement.problem import Domain, Domains, RefinementProblem, least_cost, least_services_ns
from mipplan.replayer import NEVER

#: Grounds of refutation, as they stand in a plan's record.
PATH_SERVICE = "path service times"
CAPACITY = "capacity over the trace"


@dataclass(frozen=True)
class CapacityParams:
    """How exactly the least capacity of a stage is found."""

    precision: int = 4_096  # The least work per token is found to one part in 4,096 of itself.
    # Work is counted in at most 1,024 parts of a ns, and in fewer where the times leave no room for them.
    most_parts: int = 1_024
    # Tokens are counted in windows of 41 lengths; between two lengths the longer one counts.
    windows: int = 41


class LeastTimes:
    """Bounds on the times of every token under all plans of a problem's domains, none of which may be empty.

    Raises `LimitReachedError` if the deadline passes before they are known.
    """

    def __init__(self, problem: RefinementProblem, deadline: Deadline = NO_DEADLINE) -> None:
        least = least_services_ns(problem.domains)
        self.problem = problem
        #: No token arrives earlier, by stage.
        self.arrival_ns: dict[str, Int64] = {}
        exits: dict[str, Int64] = {}
        deadline.check()
        for stage in problem.workload.stages:
            self.arrival_ns[stage] = problem.workload.arrival_ns(stage, exits)
            exits[stage] = self.arrival_ns[stage] + least[stage]
        #: A token that leaves its stage later makes its query miss the deadline.
        deadline.check()
        self.due_ns = problem.due_times.under(least, problem.deadline_ns)

    def late_queries(self, stage: str, exit_ns: Int64) -> Int64:
        """Queries that miss the deadline for certain, with these exits (or earlier ones than the true) at a stage."""
        return self.problem.late_queries(stage, exit_ns, self.due_ns[stage])

    def count_late(self, stage: str, exit_ns: Int64) -> int:
        """Count these queries, each once."""
        queries = self.late_queries(stage, exit_ns)
        return min(queries.size, 1 + int(np.count_nonzero(queries[1:] != queries[:-1])))

    def window_ns(self, stage: str) -> int:
        """One window for all tokens, since ingress: from the earliest arrival of any to the latest due time of any."""
        tokens = self.problem.workload.stages[stage]
        if tokens.count == 0:
            return 0
        ingress_ns = self.problem.workload.ingress_ns[tokens.query]
        return int((self.due_ns[stage] - ingress_ns).max() - (self.arrival_ns[stage] - ingress_ns).min())


@dataclass(frozen=True)
class Narrowed:
    """A problem without the options that the conditions exclude."""

    # A domain is empty if nothing is left for its stage: then no plan keeps the deadline.
    problem: RefinementProblem
    blocked: str | None  # That stage.
    refuted: Counter[str]  # Options excluded, by condition.


#: Of more queries than this, what one family makes late takes long enough to look at the limit before.
_LONG = 25_000
#: Capacities found before, by stage and window.
Known: TypeAlias = dict[tuple[str, int], "NeededCapacity | None"]


def narrow(
    problem: RefinementProblem,
    budget: int | None = None,
    known: Known | None = None,
    deadline: Deadline = NO_DEADLINE,
) -> Narrowed:
    """Exclude options by path service times and by capacity, until no more follow from that.

    With a budget only plans that cost less matter. Families too dear for it are left out first, which makes the least
    times longer, and the capacity needed larger. What is `known` from earlier calls on the same workload, with as many
    allowed queries, is added to.

    Raises `LimitReachedError` if the deadline passes before that is done.
    """
    refuted: Counter[str] = Counter()
    known = {} if known is None else known
    while True:
        before = _count(problem.domains)
        if budget is not None:
            problem = replace(problem, domains=_within(problem.domains, budget))
        for ground, condition in (
            (PATH_SERVICE, partial(_in_time, deadline)),
            (CAPACITY, partial(_with_capacity, known, deadline)),
        ):
            blocked = next((stage for stage, domain in problem.domains.items() if not domain), None)
            if blocked is not None:
                return Narrowed(problem, blocked, refuted)
            times, kept = LeastTimes(problem, deadline), {}
            for stage, domain in problem.domains.items():
                deadline.check()
                needed = zip(domain, condition(times, stage), strict=True)
                spans = [replace(span, fewest=max(span.fewest, n)) for span, n in needed if n is not None]
                kept[stage] = tuple(span for span in spans if span.fewest <= span.most)
            if removed := _count(problem.domains) - _count(kept):
                refuted[ground] += removed
            problem = replace(problem, domains=kept)
        if _count(problem.domains) == before:
            return Narrowed(problem, None, refuted)


def _count(domains: Domains) -> int:
    return sum(span.most - span.fewest + 1 for domain in domains.values() for span in domain)


def _within(domains: Domains, budget: int) -> dict[str, Domain]:
    """Leave out what costs too much even if the other stages take the cheapest they can."""
    if not all(domains.values()):
        return dict(domains)
    cheapest = {stage: least_cost(domain) for stage, domain in domains.items()}
    left = budget - 1 - sum(cheapest.values())
    kept: dict[str, Domain] = {}
    for stage, domain in domains.items():
        most_cost = left + cheapest[stage]
        spans = [
            replace(span, most=min(span.most, most_cost // span.family.microusd_per_hour)) for span in domain
        ]
        kept[stage] = tuple(span for span in spans if span.fewest <= span.most)
    return kept


def _in_time(deadline: Deadline, times: LeastTimes, stage: str) -> list[int | None]:
    """Replicas that each family needs by path service times: none, or None if its least batch latency is too long."""
    least_ns = (int(span.family.service_ns.min()) for span in times.problem.domains[stage])
    needed: list[int | None] = []
    for service_ns in least_ns:
        if times.problem.workload.queries > _LONG:
            deadline.check()
        late = times.count_late(stage, times.arrival_ns[stage] + service_ns)
        needed.append(0 if late <= times.problem.allowed else None)
    return needed


def _with_capacity(known: Known, deadline: Deadline, times: LeastTimes, stage: str) -> list[int | None]:
    """Replicas that each family needs by capacity; None if no number of them will do."""
    window = (stage, times.window_ns(stage))
    if window not in known:
        known[window] = find_needed_capacity(times, stage, deadline=deadline)
    needed = known[window]
    domain = times.problem.domains[stage]
    return [0 if needed is None else needed.fewest_replicas(span.family.service_ns) for span in domain]


@dataclass(frozen=True)
class NeededCapacity:
    """What a stage's replicas must be able to do at least."""

    work: int
    """If each token takes so much of the stage as a whole, in parts of a ns, more queries than allowed are late."""
    parts: int  # In a ns.
    window_ns: int  # From the earliest arrival of a token to its due time.
    lengths_ns: Int64  # Of closed windows, ascending, up to that one.
    crowds: Int64  # The most tokens that enter within a window of each length.

    def fewest_replicas(self, service_ns: Int64) -> int | None:
        """With fewer replicas whose batches of k take ``service_ns[k - 1]``, too many queries are late.

        None if they are with any number, since every batch takes longer than the window.
        """
        size = np.arange(1, service_ns.size + 1, dtype=np.int64)
        fits = service_ns <= self.window_ns
        if not fits.any():
            return None
        # Tokens that a batch serves on time entered within what it leaves of the window.
        crowds = self.crowds[np.searchsorted(self.lengths_ns, self.window_ns - service_ns[fits])]
        useful = np.minimum(size[fits], crowds)
        # n replicas are too few if ℓ(k) per useful token is n·work or more for every k.
        too_few = min(
            latency * self.parts // (tokens * self.work)
            for latency, tokens in zip(service_ns[fits].tolist(), useful.tolist(), strict=True)
        )
        return int(too_few) + 1


def find_needed_capacity(
    times: LeastTimes, stage: str, params: CapacityParams = CapacityParams(), deadline: Deadline = NO_DEADLINE
) -> NeededCapacity | None:
    """Find the least capacity of a stage with which no more queries than allowed are late, or nearly that.

    None if any capacity will do, as far as this condition tells. Raises `LimitReachedError` after the deadline.
    """
    workload = times.problem.workload
    tokens = workload.stages[stage]
    if tokens.count == 0:
        return None
    per_query = np.sort(np.bincount(tokens.query))[::-1]
    spare = int(per_query[: times.problem.allowed].sum())
    if spare >= tokens.count:
        return None
    length_ns = times.window_ns(stage)
    if length_ns <= 0:  # then path service times say it all
        return None
    ingress_ns = workload.ingress_ns[tokens.query]
    reach_ns = int(ingress_ns[-1] - ingress_ns[0]) + length_ns
    parts = max(1, min(params.most_parts, (NEVER >> 2) // reach_ns))
    gaps = np.diff(ingress_ns, prepend=ingress_ns[0]) * parts
    window = length_ns * parts
    count = _counter()
    fits, fails = 0, window + 1
    while fails - fits > max(1, fails // params.precision):
        deadline.check()
        work = (fits + fails) // 2
        if count(gaps, window, work, spare) > spare:
            fails = work
        else:
            fits = work
    lengths_ns = np.unique((length_ns * np.linspace(0.0, 1.0, params.windows)).astype(np.int64))
    lengths_ns[-1] = length_ns
    crowds, most_within = [], most_within_by_search if numba_fault() else compiled(most_within_by_walk)
    for length in lengths_ns.tolist():
        deadline.check()
        crowds.append(int(most_within(ingress_ns, length)))
    return NeededCapacity(fails, parts, length_ns, lengths_ns, np.array(crowds, dtype=np.int64))


def most_within_by_search(ingress_ns: Int64, length_ns: int) -> int:
    """Find the most tokens that enter within a closed window of this length."""
    ends = np.searchsorted(ingress_ns, ingress_ns + length_ns, side="right")
    return int((ends - np.arange(ingress_ns.size)).max())


def most_within_by_walk(ingress_ns: Int64, length_ns: int) -> int:
    """Find the same in one walk, which is faster if it is compiled: a window of as many or more ends at every token."""
    first = 0
    for last in range(ingress_ns.size):
        # A window that has become too long loses its first token, and is none the larger for its last.
        first += ingress_ns[last] - ingress_ns[first] > length_ns
    return ingress_ns.size - first


def count_turned_away(gaps: Sequence[int] | Int64, window: int, work: int, most: int) -> int:
    """Count the tokens that a machine must turn away; stops counting once there are more than `most`.

    `gaps` are times since the previous token arrived, the window is from the arrival of a token to its due time.
    """
    unfinished = 0
    away = 0
    for gap in gaps:
        unfinished = max(unfinished - gap, 0)
        if unfinished + work <= window:
            unfinished += work
        else:
            away += 1
            if away > most:
                return away
    return away


@cache
def _counter() -> Callable[[Int64, int, int, int], int]:
    """`count_turned_away`, compiled where numba is there."""
    if numba_fault() is not None:
        return lambda gaps, window, work, most: count_turned_away(gaps.tolist(), window, work, most)
    fast: Callable[..., Any] = compiled(count_turned_away)
    return lambda gaps, window, work, most: int(fast(gaps, window, work, most))
