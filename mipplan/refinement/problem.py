"""What a refined plan is asked to keep, and what it may be made of: families, and the replicas not excluded so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TypeAlias

import numpy as np

from mipplan.core import Bool, Criterion, Int64, Positions
from mipplan.options import (
    MAX_REPLICAS,
    AccuracyFloor,
    Cap,
    Configuration,
    Family,
    Option,
    find_families,
    joint_demand,
    limits_of,
    require_accuracy,
)
from mipplan.pipeline import DispatchLaw, Edge, Laws, Pipeline, are_timed
from mipplan.profiles import Profiles
from mipplan.replayer import StageRun
from mipplan.result import Choice, Plan
from mipplan.tokens import Messages, Workload


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
#: In topological order of the stages.
Domains: TypeAlias = Mapping[str, Domain]


@dataclass(frozen=True)
class RefinementProblem:
    """What a plan is asked to keep, and what it may be made of."""

    workload: Workload
    due_times: DueTimes  # Of the workload.
    deadline_ns: int  # Largest latency of a query that is not missed.
    criterion: Criterion  # Which queries may be missed.
    domains: Domains
    limits: Mapping[str, int]  # Devices by hardware name.
    caps: tuple[Cap, ...] = ()  # Of which options take.
    floor: AccuracyFloor | None = None  # The least accuracy; as far as it is linear it is among the caps.
    #: Why a stage cannot run on some hardware, a sentence for each kind.
    rejected: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def allows(self, plan: Configuration) -> bool:
        """Whether a plan keeps device limits, caps and accuracy; nothing is said of its latency."""
        return plan.keeps(self.limits, self.caps) and (self.floor is None or self.floor.is_kept(plan))

    @property
    def allowed(self) -> int:
        """Most queries that may be missed in all."""
        return self.criterion.main.total

    def keeps_others(self, runs: Mapping[str, StageRun]) -> bool:
        """Whether further quantiles are kept, too, in these runs of all stages."""
        if not self.criterion.others:
            return True
        exits = {stage: run.exit_ns for stage, run in runs.items()}
        return not self.criterion.exceeds(self.workload.latency_ns(exits), self.deadline_ns)

    def late_queries(self, stage: str, exit_ns: Int64, due_ns: Int64) -> Int64:
        """Queries of the tokens that leave a stage after their due times: in order, once for each such token."""
        queries: Int64 = self.workload.stages[stage].query[np.flatnonzero(exit_ns > due_ns)]
        return queries

    def on(self, workload: Workload, asked: float | Criterion) -> RefinementProblem:
        """Return the same plans, asked to keep the deadline on another sample."""
        criterion = Criterion.of(asked, workload.ingress_ns)
        return replace(self, workload=workload, due_times=DueTimes(workload), criterion=criterion)

    def restricted(self, kept: Bool) -> RefinementProblem:
        """Only the queries marked in `kept`; as many of them may be missed as of all."""
        workload, criterion = self.workload.restricted(kept), self.criterion.restricted(kept)
        return replace(self, workload=workload, due_times=DueTimes(workload), criterion=criterion)


def state_problem(
    pipeline: Pipeline,
    profiles: Profiles,
    workload: Workload,
    deadline_ns: int,
    asked: float | Criterion,
    laws: Laws | None = None,
    demand: Mapping[str, Fraction] | None = None,
    others: Sequence[Workload] = (),
    min_accuracy: float | None = None,
) -> RefinementProblem:
    """Set up the search for a plan that keeps the deadline.

    The families are the planner's. Without a `demand`, tokens per ns by stage, they need not outrun the mean rate: a
    finite trace can be served with less. Only where all stages are timed they must, as the plan is then a certified
    one. Replicas beyond the number of tokens, of this sample and the `others` that a plan must keep, never find one to
    serve, so they are left out, unless more of them change how they are spread.
    """
    laws = pipeline.laws() if laws is None else laws
    everything = [workload, *others]
    if demand is None:
        demand = joint_demand(everything) if are_timed(laws) else dict.fromkeys(pipeline.stages, Fraction(0))
    found, floor = find_families(pipeline, profiles, demand, laws), None
    if min_accuracy is not None:
        found, floor = require_accuracy(pipeline, found, min_accuracy)
    domains = {
        stage: tuple(
            Span(family, family.fewest, max(family.fewest, min(family.most, useful)))
            for family in found[stage].families
        )
        for stage in workload.stages
        for tokens in [max(load.stages[stage].count for load in everything)]
        for useful in [MAX_REPLICAS if laws[stage] is DispatchLaw.PACED else tokens]
    }
    criterion = Criterion.of(asked, workload.ingress_ns)
    return RefinementProblem(
        workload,
        DueTimes(workload),
        deadline_ns,
        criterion,
        domains,
        limits_of(profiles),
        () if floor is None else floor.caps,
        floor,
        {stage: families.rejected for stage, families in found.items()},
    )


def state_problems(
    plan: Plan, loads: Sequence[Workload], demand: Mapping[str, Fraction] | None = None
) -> list[RefinementProblem]:
    """State what is asked of a plan on each of its samples, of the same options everywhere; see `state_problem`."""
    asked, (pivot, *others) = plan.objective, loads
    first = state_problem(
        plan.pipeline,
        plan.profiles,
        pivot,
        asked.deadline_ns,
        asked.criterion(pivot.ingress_ns),
        plan.laws,
        demand,
        others,
        plan.min_accuracy,
    )
    return [first, *(first.on(load, asked.criterion(load.ingress_ns)) for load in others)]


def least_cost(domain: Domain) -> int:
    """Cost of the cheapest option of a domain that is not empty."""
    return min(span.least_cost for span in domain)


def least_total(domains: Domains) -> int:
    """What a plan costs at least, whatever it keeps; 0 where nothing is left for a stage, and no plan can be made."""
    return sum(map(least_cost, domains.values())) if all(domains.values()) else 0


def least_services_ns(domains: Domains) -> dict[str, int]:
    """Find the least batch latency on offer at every stage."""
    return {
        stage: min(int(span.family.service_ns.min()) for span in domain) for stage, domain in domains.items()
    }


def find_options(domains: Domains, choices: Mapping[str, Choice]) -> Configuration | None:
    """Find the options that these choices are, tokens for all replicas or not; None if one is not offered."""
    found = Configuration()
    for stage, domain in domains.items():
        choice = choices[stage]
        offered = {(span.family.variant, span.family.hardware, span.family.batch): span for span in domain}
        span = offered.get((choice.variant, choice.hardware, choice.batch))
        if span is None or not span.fewest <= choice.replicas <= span.family.most:
            return None
        found[stage] = Option(span.family, choice.replicas)
    return found


class DueTimes:
    """When tokens must leave their stages: the messages made ready for adding up least times from the end."""

    def __init__(self, workload: Workload) -> None:
        self._ingress_ns = {
            stage: workload.ingress_ns[tokens.query] for stage, tokens in workload.stages.items()
        }
        self._links = [
            _Link.of(workload, stage, messages)
            for stage in reversed(list(workload.stages))
            for messages in workload.stages[stage].messages
            if messages.parent.size
        ]

    def under(self, least_service_ns: Mapping[str, int], deadline_ns: int) -> dict[str, Int64]:
        """By when every token must have left its stage, if no batch of the stages below takes less than stated."""
        # Least time from the exit of each token to the last exit of what follows from it; 0 if nothing does.
        remaining = {stage: np.zeros_like(ingress_ns) for stage, ingress_ns in self._ingress_ns.items()}
        for link in self._links:
            needed = remaining[link.stage][link.child] + (link.edge.delay_ns + least_service_ns[link.stage])
            if link.first is not None:
                needed = np.maximum.reduceat(needed, link.first)
            above = remaining[link.edge.parent]
            above[link.parents] = np.maximum(above[link.parents], needed)
        return {
            stage: ingress_ns + (deadline_ns - remaining[stage])
            for stage, ingress_ns in self._ingress_ns.items()
        }


@dataclass(frozen=True)
class _Link:
    """The messages along one edge to a stage, by their parents."""

    stage: str
    edge: Edge
    child: Int64 | slice  # Token that each message makes; a slice if it is one each.
    parents: Int64 | slice  # Tokens that send any; a slice if all do.
    first: Positions | None  # First message of each of these; None if none sends several.

    @classmethod
    def of(cls, workload: Workload, stage: str, messages: Messages) -> _Link:
        # Messages are in order of their parents, so those of one parent are neighbours.
        first = np.flatnonzero(np.diff(messages.parent, prepend=-1))
        parents = messages.parent[first]
        return cls(
            stage,
            messages.edge,
            _as_slice(messages.child, workload.stages[stage].count),
            _as_slice(parents, workload.stages[messages.edge.parent].count),
            None if first.size == messages.parent.size else first,
        )


def _as_slice(tokens: Int64, count: int) -> Int64 | slice:
    """All tokens in their order are faster to take as a slice."""
    return slice(None) if np.array_equal(tokens, np.arange(count)) else tokens
