"""A first certified plan, quickly: its cost bounds how many replicas are worth considering at all.

For each of a few degrees of patience every stage takes the family that serves a token cheapest among those
whose T is at most that many times its least T. What the objective then leaves for waiting on the stage's
tightest path decides its replicas. Nothing here is proven except the certificate of what is returned.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mipplan.calculus import PathWait, StageService, grid_rate, grid_step
from mipplan.options import Family
from mipplan.planner.instance import Instance
from mipplan.planner.members import Members, cost_of, keeps_limits, services_of

_PATIENCE = (1.0, 1.25, 1.6, 2.0, 2.6, 3.4, 4.5, 6.0, 9.0, 14.0)
#: Shares of the path's slack given to waiting: the certificate exceeds the bound a little, on branches more.
_SHARES = (1.0, 0.8, 0.5, 0.2, 0.0)
#: Steps, each by the same factor, from the most replicas to the fewest.
_SHRINKING = 32


@dataclass(frozen=True)
class Incumbent:
    """A certified plan.

    Attributes
    ----------
    members : mapping of str to (Family, int)
        Family and replicas of every stage.
    cost : int
        Micro-dollars per hour.
    certificate_ns : int
    """

    members: Members
    cost: int
    certificate_ns: int

    def services(self) -> dict[str, StageService]:
        """Service of every stage."""
        return services_of(self.members)


def find_incumbent(instance: Instance) -> Incumbent | None:
    """Cheapest of a handful of certified plans; None if none of them is certified within the limits."""
    patterns: dict[tuple[tuple[str, int], ...], dict[str, Family]] = {}
    for patience in _PATIENCE:
        families = {
            stage: _cheapest_within(found.families, patience) for stage, found in instance.families.items()
        }
        patterns[tuple((family.hardware, family.batch) for family in families.values())] = families
    candidates = [found for families in patterns.values() if (found := _candidate(instance, families))]
    while candidates:
        cheapest = min(candidates, key=cost_of)
        candidates.remove(cheapest)
        services = services_of(cheapest)
        if instance.keeps_slo(services):
            return Incumbent(cheapest, cost_of(cheapest), instance.certificate_ns(services))
        # The quick test is one-sided. From being wrong the judge has learnt enough to size this pattern anew.
        again = _candidate(instance, {stage: family for stage, (family, _) in cheapest.items()})
        if again is not None and again != cheapest:
            candidates.append(again)
    return None


def _candidate(instance: Instance, families: Mapping[str, Family]) -> Members | None:
    """Return the first sizing that is not surely refused; None if all are."""
    for share in _SHARES:
        members = _sized(instance, families, share)
        if members is not None and not instance.surely_misses_slo(services_of(members)):
            return members
    return None


def trim(instance: Instance, members: Members) -> Incumbent:
    """Take away replicas of a certified plan: of all stages alike, then as many as can go, dearest stage first.

    One stage after another alone would leave all the waiting to the first, and the last ones no time for any.
    """
    trimmed = _shrunk(instance, members)

    def keeps_slo(stage: str, replicas: int) -> bool:
        trial = {**trimmed, stage: (trimmed[stage][0], replicas)}
        return instance.keeps_slo(services_of(trial))

    for stage in sorted(members, key=lambda s: -members[s][0].microusd_per_hour * members[s][1]):
        family, high = members[stage]
        low = family.fewest
        while low < high:
            middle = (low + high) // 2
            if keeps_slo(stage, middle):
                high = middle
            else:
                low = middle + 1
        trimmed[stage] = (family, high)
    cost = cost_of(trimmed)
    return Incumbent(trimmed, cost, instance.certificate_ns(services_of(trimmed)))


def _shrunk(instance: Instance, members: Members) -> dict[str, tuple[Family, int]]:
    """Move all stages alike from the most replicas towards the fewest, as far as the plan stays certified."""
    kept, low, high = dict(members), 0, _SHRINKING
    while low < high:
        step = (low + high + 1) // 2
        trial = {
            stage: (
                family,
                max(family.fewest, math.ceil(most * (family.fewest / most) ** (step / _SHRINKING))),
            )
            for stage, (family, most) in members.items()
        }
        if instance.keeps_slo(services_of(trial)):
            kept, low = trial, step
        else:
            high = step - 1
    return kept


def _cheapest_within(families: tuple[Family, ...], patience: float) -> Family:
    services = [family.service(1) for family in families]
    least = min(service.latency_ns for service in services)
    admitted = [
        family
        for family, service in zip(families, services, strict=True)
        if service.latency_ns <= patience * least
    ]
    return min(admitted, key=lambda family: family.microusd_per_hour * float(family.service(1).ns_per_token))


def _sized(instance: Instance, families: Mapping[str, Family], share: float) -> Members | None:
    """Give every stage the replicas its tightest path needs; None if that is too slow or too many."""
    members: dict[str, tuple[Family, int]] = {}
    for stage, family in families.items():
        replicas = family.fewest
        for path in instance.oracle.paths.paths:
            if stage in path.stages:
                needed = _replicas_on_path(path, stage, families, share, instance.deadline_ns)
                if needed is None:
                    return None
                replicas = max(replicas, needed)
        # At the limit a plan may still be certified: the share was only a guess.
        members[stage] = (family, min(replicas, family.most))
    return members if keeps_limits(members, instance.limits) else None


def _replicas_on_path(
    path: PathWait, stage: str, families: Mapping[str, Family], share: float, deadline_ns: int
) -> int | None:
    slack = deadline_ns - path.lag_ns - sum(families[other].service(1).latency_ns for other in path.stages)
    if slack < 0:
        return None
    curve = path.curves[path.stages.index(stage)]
    # Largest 1/R on the grid with a wait within the slack: the wait grows with 1/R. It need not be looked for beyond
    # what the fewest replicas give, nor below what the most give; mostly it lies near the former.
    family = families[stage]
    slowest, quickest = family.service(family.fewest), family.service(family.most)
    least, high = grid_step(float(quickest.ns_per_token)), grid_step(float(slowest.ns_per_token)) + 1
    low, stride = high, 1
    while low > least and curve.lower(*grid_rate(low)) > slack * share:
        low, high, stride = max(least, low - stride), low - 1, 2 * stride
    while low < high:
        middle = (low + high + 1) // 2
        if curve.lower(*grid_rate(middle)) <= slack * share:
            low = middle
        else:
            high = middle - 1
    period_ns, tokens = grid_rate(low)
    if period_ns == 0:
        return family.most
    return -(-int(family.service_ns[-1]) * tokens // (family.batch * period_ns))
