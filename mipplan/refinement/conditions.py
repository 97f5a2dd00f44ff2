"""Options that no plan can be made of: conditions proven necessary, applied before anything is replayed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from mipplan.refinement.capacity import NeededCapacity, find_needed_capacity, window_ns
from mipplan.refinement.domains import Domain, Domains, Problem, least_cost
from mipplan.refinement.least_times import LeastTimes, find_least_times

#: Grounds of refutation, as they stand in a plan's record.
PATH_SERVICE = "path service times"
CAPACITY = "capacity over the trace"


@dataclass(frozen=True)
class Narrowed:
    """A problem without the options that the conditions exclude.

    Attributes
    ----------
    problem : Problem
        A domain is empty if nothing is left for its stage: then no plan keeps the deadline.
    blocked : str or None
        That stage.
    refuted : Counter of str
        Options excluded, by condition.
    """

    problem: Problem
    blocked: str | None
    refuted: Counter[str]


#: Capacities found before, by stage and window.
Known: TypeAlias = dict[tuple[str, int], NeededCapacity | None]


def narrow(problem: Problem, budget: int | None = None, known: Known | None = None) -> Narrowed:
    """Exclude options by path service times and by capacity, until no more follow from that.

    Parameters
    ----------
    problem : Problem
    budget : int, optional
        Only plans that cost less matter. Families too dear for it are left out first, which makes the least times
        longer, and the capacity needed larger.
    known : dict, optional
        Of earlier calls on the same workload with as many allowed queries; what is found is added.
    """
    refuted: Counter[str] = Counter()
    known = {} if known is None else known
    while True:
        before = _count(problem.domains)
        if budget is not None:
            problem = replace(problem, domains=_within(problem.domains, budget))
        for condition in (_served_in_time, partial(_with_capacity, known)):
            blocked = next((stage for stage, domain in problem.domains.items() if not domain), None)
            if blocked is not None:
                return Narrowed(problem, blocked, refuted)
            times = find_least_times(problem.workload, problem.domains, problem.deadline_ns)
            problem = replace(problem, domains=condition(problem, times, refuted))
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


def _served_in_time(problem: Problem, times: LeastTimes, refuted: Counter[str]) -> Mapping[str, Domain]:
    """Leave out families whose least batch latency alone is too long."""
    kept: dict[str, Domain] = {}
    for stage, domain in problem.domains.items():
        spans = []
        for span in domain:
            if times.late_at_best(stage, int(span.family.service_ns.min())) <= problem.allowed:
                spans.append(span)
            else:
                refuted[PATH_SERVICE] += span.most - span.fewest + 1
        kept[stage] = tuple(spans)
    return kept


def _with_capacity(
    known: Known, problem: Problem, times: LeastTimes, refuted: Counter[str]
) -> Mapping[str, Domain]:
    """Leave out replicas that are too few."""
    kept: dict[str, Domain] = {}
    for stage, domain in problem.domains.items():
        window = (stage, window_ns(times, stage))
        if window not in known:
            known[window] = find_needed_capacity(times, stage, problem.allowed)
        needed = known[window]
        if needed is None:
            kept[stage] = domain
            continue
        spans = []
        for span in domain:
            enough = needed.fewest_replicas(span.family.service_ns)
            fewest = span.most + 1 if enough is None else max(span.fewest, min(enough, span.most + 1))
            refuted[CAPACITY] += fewest - span.fewest
            if fewest <= span.most:
                spans.append(replace(span, fewest=fewest))
        kept[stage] = tuple(spans)
    return kept
