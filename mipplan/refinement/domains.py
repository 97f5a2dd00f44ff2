"""What may be chosen for every stage: families, and the replicas of each that are not excluded."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple, TypeAlias

from mipplan.core import higher_rank
from mipplan.options import Family, find_families, limits_of
from mipplan.pipeline import Pipeline
from mipplan.profiles import Profiles
from mipplan.result import Choice
from mipplan.tokens import Workload


class Option(NamedTuple):
    """A family with a number of replicas."""

    family: Family
    replicas: int

    @property
    def cost(self) -> int:
        """Micro-dollars per hour."""
        return self.family.microusd_per_hour * self.replicas

    @property
    def choice(self) -> Choice:
        """As people read it."""
        return Choice(self.family.hardware, self.family.batch, self.replicas)


@dataclass(frozen=True)
class Span:
    """A family with the replicas from `fewest` to `most`."""

    family: Family
    fewest: int
    most: int

    @classmethod
    def of(cls, option: Option) -> Span:
        """Only that option."""
        return cls(option.family, option.replicas, option.replicas)

    @property
    def least_cost(self) -> int:
        """Micro-dollars per hour with the fewest replicas."""
        return self.family.microusd_per_hour * self.fewest


#: Empty if nothing is left for the stage.
Domain: TypeAlias = tuple[Span, ...]
Domains: TypeAlias = Mapping[str, Domain]
Options: TypeAlias = Mapping[str, Option]


@dataclass(frozen=True)
class Problem:
    """What a plan is asked to keep, and what it may be made of.

    Attributes
    ----------
    workload : Workload
    deadline_ns : int
        Largest latency of a query that is not missed.
    allowed : int
        Queries that may be missed.
    domains : mapping of str to Domain
        In topological order of the stages.
    limits : mapping of str to int
        Devices by hardware name.
    """

    workload: Workload
    deadline_ns: int
    allowed: int
    domains: Domains
    limits: Mapping[str, int]


def state_problem(
    pipeline: Pipeline, profiles: Profiles, workload: Workload, deadline_ns: int, quantile: float
) -> Problem:
    """Set up the search for a plan that replays within the deadline.

    The families are the planner's, without its demand that a stage outruns the mean rate: a finite trace can be
    served with less. Replicas beyond the number of tokens never find one to serve, so they are left out.
    """
    found = find_families(pipeline, profiles, dict.fromkeys(pipeline.stages, Fraction(0)))
    domains = {
        stage: tuple(
            Span(family, family.fewest, max(family.fewest, min(family.most, tokens.count)))
            for family in found[stage].families
        )
        for stage, tokens in workload.stages.items()
    }
    allowed = workload.queries - 1 - higher_rank(quantile, workload.queries)
    return Problem(workload, deadline_ns, allowed, domains, limits_of(profiles))


def cost_of(options: Options) -> int:
    """Micro-dollars per hour."""
    return sum(option.cost for option in options.values())


def least_cost(domain: Domain) -> int:
    """Cost of the cheapest option of a domain that is not empty."""
    return min(span.least_cost for span in domain)


def options_of(domains: Domains, choices: Mapping[str, Choice]) -> dict[str, Option] | None:
    """Find the options that these choices are; None if one of them is not on offer."""
    found: dict[str, Option] = {}
    for stage, domain in domains.items():
        choice = choices[stage]
        for span in domain:
            alike = (span.family.hardware, span.family.batch) == (choice.hardware, choice.batch)
            if alike and span.fewest <= choice.replicas <= span.most:
                found[stage] = Option(span.family, choice.replicas)
                break
        else:
            return None
    return found


class OptionQueue:
    """The options of a domain by cost, where a family can be taken out on the way."""

    def __init__(self, spans: Iterable[Span]) -> None:
        self._spans = list(spans)
        self._next = [(span.least_cost, number, span.fewest) for number, span in enumerate(self._spans)]
        heapq.heapify(self._next)
        self._dropped: set[int] = set()

    def __iter__(self) -> Iterator[tuple[int, Option]]:
        """Options with the number of their span, cheapest first."""
        while self._next:
            _, number, replicas = heapq.heappop(self._next)
            if number in self._dropped:
                continue
            span = self._spans[number]
            if replicas < span.most:
                cost = span.family.microusd_per_hour * (replicas + 1)
                heapq.heappush(self._next, (cost, number, replicas + 1))
            yield number, Option(span.family, replicas)

    def drop(self, number: int) -> None:
        """Leave out what is still to come of a span."""
        self._dropped.add(number)
