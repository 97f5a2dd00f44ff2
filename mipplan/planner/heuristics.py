"""Certified plans found quickly, and small exchanges that make a plan cheaper, certified, or faster at no cost.

**First plan**: its cost bounds how many replicas are worth considering at all. For each of a few degrees of patience
every stage takes the family that serves a token cheapest among those whose T is at most that many times its least T.
(T of paced stages falls as replicas are added, so these are tried with several least counts.) What the objective then
leaves for waiting on the stage's tightest path decides its replicas.

Nothing here is proven except the certificate of what is returned.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

import numpy as np

from mipplan.calculus import PathWait, fewest_replicas, slowest_within
from mipplan.core import NO_DEADLINE, Deadline, Int64, LimitReachedError, first_true
from mipplan.options import Configuration, Family, Option, accurate_families
from mipplan.pipeline import DispatchLaw
from mipplan.planner.choices import SearchSpace
from mipplan.planner.instance import Instance


@dataclass(frozen=True)
class FirstPlanParams:
    """What is tried for a first plan."""

    #: Degrees of patience: T may be this many times the stage's least.
    patience: tuple[float, ...] = (1.0, 1.25, 1.6, 2.0, 2.6, 3.4, 4.5, 6.0, 9.0, 14.0)
    #: Shares of the path's slack given to waiting: the certificate exceeds the bound a little, on branches more.
    shares: tuple[float, ...] = (1.0, 0.8, 0.5, 0.2, 0.0)
    #: Paced stages are tried with at least as many replicas each; others do not depend on it.
    least: tuple[int, ...] = (1, 2, 4, 8, 16, 64)
    certified: int = 3  # Among so many plans that are accurate enough the cheapest is taken.
    shrinking: int = 32  # steps, each by the same factor, from the most replicas to the fewest
    cheapening: float = 0.25  # Share of the time left for exchanges of families.
    rounds: int = 4  # Over the stages, where fewer replicas of one may let others go.


@dataclass(frozen=True)
class CertifiedConfiguration:
    """A certified plan."""

    configuration: Configuration
    certificate_ns: int

    @classmethod
    def of(cls, configuration: Configuration, instance: Instance) -> CertifiedConfiguration:
        """Certify a configuration."""
        return cls(configuration, instance.certificate_ns(configuration.services))

    @property
    def cost(self) -> int:
        """Micro-dollars per hour."""
        return self.configuration.microusd_per_hour


def find_first_plan(
    instance: Instance,
    params: FirstPlanParams = FirstPlanParams(),
    deadline: Deadline = NO_DEADLINE,
    near: Configuration | None = None,
) -> CertifiedConfiguration | None:
    """Cheapest of a handful of certified plans; None if none of them is certified within limits and deadline.

    Given the cheapest plan of a like problem, `near`, one of its families will do.
    """
    if instance.floor is not None:
        what = instance.families, instance.oracle.paths.paths, instance.deadline_ns, instance.caps
        accurate = (_only(instance, kept) for kept in accurate_families(instance.floor, *what))
        plans = (find_first_plan(restricted, params, deadline) for restricted in accurate)
        some = itertools.islice((plan for plan in plans if plan is not None), params.certified)
        best = min(some, key=lambda plan: plan.cost, default=None)
        return None if best is None else trim(instance, best.configuration, params, deadline)
    for patterns in _patterns(instance, params, near):
        if any(option.family.overtaking is not None for start in patterns for option in start.values()):
            # Sizing knows nothing of overtaking: what it finds may be thousands of times too dear.
            most = [_at_most(start) for start in patterns]
            scaled = [(_scaled(instance, own, params.shrinking, deadline), own) for own in most]
            # Where nothing smaller than the most is, that itself may be, or may not.
            certified = [c for c, own in scaled if c != own or _is_certified(instance, own, deadline)]
            if certified:
                cheapest = min(certified, key=lambda configuration: configuration.microusd_per_hour)
                return trim(instance, cheapest, deadline=deadline)
        sized = partial(_candidate, instance, params=params, deadline=deadline)
        candidates = list(filter(None, map(sized, patterns)))
        while candidates and not deadline.is_over:
            cheapest = min(candidates, key=lambda candidate: candidate.microusd_per_hour)
            candidates.remove(cheapest)
            if _is_certified(instance, cheapest, deadline):
                # With no time for any wait a stage got all it may have: mostly many times what it needs. In `fifo`
                # queues what is too many for one stage makes the next ones need more.
                if any(f.overtaking is not None or f.fewest < n == f.most for f, n in cheapest.values()):
                    return trim(instance, cheapest, deadline=deadline)
                return CertifiedConfiguration.of(cheapest, instance)
            # The quick test is one-sided. From being wrong the oracle has learnt enough to size this pattern anew.
            start = {s: Option(family, _least(family, n)) for s, (family, n) in cheapest.items()}
            again = _candidate(instance, start, params, deadline)
            if again is not None and again != cheapest:
                candidates.append(again)
    return None


def _patterns(
    instance: Instance, params: FirstPlanParams, near: Configuration | None
) -> Iterator[Sequence[Mapping[str, Option]]]:
    """Yield families to begin with: those of a plan that is near; where these come to nothing, all to be tried."""
    if near is not None:
        yield [{stage: Option(family, _least(family, 1)) for stage, (family, _) in near.items()}]
    patterns: list[dict[str, Option]] = []
    offered = instance.families.values()
    is_paced = any(family.law is DispatchLaw.PACED for found in offered for family in found.families)
    for least in params.least if is_paced else params.least[:1]:
        stages = (_cheapest_by_patience(found.families, least, params.patience) for found in offered)
        for chosen in zip(*stages, strict=True):
            start = dict(zip(instance.families, chosen, strict=True))
            patterns += [] if start in patterns else [start]
    yield patterns


def _only(instance: Instance, kept: Sequence[Int64]) -> Instance:
    """The instance with some families of each stage only, all of them accurate enough."""
    families = {
        stage: replace(found, families=tuple(found.families[place] for place in own))
        for (stage, found), own in zip(instance.families.items(), kept, strict=True)
    }
    return replace(instance, families=families, floor=None)


def _at_most(start: Mapping[str, Option]) -> Configuration:
    return Configuration({stage: Option(family, family.most) for stage, (family, _) in start.items()})


def _least(family: Family, replicas: int) -> int:
    """Replicas to start from: those of a paced family count for its T, of others only what its rate needs."""
    least = replicas if family.law is DispatchLaw.PACED else 1
    return min(family.most, max(family.fewest, least))


def _cheapest_by_patience(
    families: tuple[Family, ...], replicas: int, patience: tuple[float, ...]
) -> Iterator[Option]:
    """Yield for each degree the family that serves a token cheapest among those that are quick enough."""
    starts = [Option(family, _least(family, replicas)) for family in families]
    latency_ns = [start.service.latency_ns for start in starts]
    prices = [f.microusd_per_hour * float(f.service(1).ns_per_token) for f in families]
    for degree in patience:
        admitted = [place for place, own_ns in enumerate(latency_ns) if own_ns <= degree * min(latency_ns)]
        yield starts[min(admitted, key=prices.__getitem__)]


def _candidate(
    instance: Instance, start: Mapping[str, Option], params: FirstPlanParams, deadline: Deadline
) -> Configuration | None:
    """Return the first sizing that is not surely refused; None if all are, or none is found by the deadline."""
    with suppress(LimitReachedError):
        deadline.check()
        for share in params.shares:
            sized = _sized(instance, start, share, deadline)
            if sized is not None and not instance.surely_misses_slo(sized.services):
                return sized
    return None


def _sized(
    instance: Instance, start: Mapping[str, Option], share: float, deadline: Deadline
) -> Configuration | None:
    """Give every stage the replicas its tightest path needs; None if that is too slow or too many.

    Raises `LimitReachedError` after the deadline.
    """
    sized = Configuration()
    for stage, (family, replicas) in start.items():
        for path in instance.oracle.paths.paths:
            if stage in path.stages:
                needed = replicas_on_path(path, stage, start, share, instance.deadline_ns, deadline)
                if needed is None:
                    return None
                replicas = max(replicas, needed)
        # At the limit a plan may still be certified: the share was only a guess.
        sized[stage] = Option(family, min(replicas, family.most))
    return sized if instance.allows(sized) else None


def replicas_on_path(
    path: PathWait,
    stage: str,
    start: Mapping[str, Option],
    share: float,
    deadline_ns: int,
    deadline: Deadline = NO_DEADLINE,
) -> int | None:
    """Replicas with which a stage's wait takes at most that share of its path's slack; None if there is no slack.

    Every T is that of what is started from: more replicas only lower it. Raises `LimitReachedError` after the deadline.
    """
    slack = deadline_ns - path.lag_ns - sum(start[other].service.latency_ns for other in path.stages)
    if slack < 0:
        return None
    curve = path.curves[path.stages.index(stage)]
    # The wait need not be looked at beyond what the fewest replicas give, nor below what the most give.
    family = start[stage].family
    slowest, quickest = family.service(family.fewest), family.service(family.most)
    span = float(quickest.ns_per_token), float(slowest.ns_per_token)
    period_ns, tokens = slowest_within(curve, math.floor(slack * share), *span, deadline)
    if period_ns == 0:
        return family.most
    return fewest_replicas(family.service_ns, Fraction(tokens, period_ns), family.law, reached=True)


def trim(
    instance: Instance,
    found: Configuration,
    params: FirstPlanParams = FirstPlanParams(),
    deadline: Deadline = NO_DEADLINE,
) -> CertifiedConfiguration:
    """Take away replicas of a certified plan: of all stages alike, then as many as can go, dearest stage first.

    One stage after another alone would leave all the waiting to the first, and the last ones no time for any. In `fifo`
    queues replicas that go let fewer tokens overtake, too, so that others can follow: as long as that helps.
    After the deadline nothing more goes.
    """
    steps, is_orderly = params.shrinking, not any(o.service.passing for o in found.values())
    trimmed = _scaled(instance, found, steps, deadline)
    for _ in range(1 if is_orderly else params.rounds):
        before = trimmed
        for stage in sorted(found, key=lambda stage: -before[stage].microusd_per_hour):
            trimmed = _with_fewest(instance, trimmed, stage, 1 if is_orderly else steps, deadline)
        if trimmed == before:
            break
    return CertifiedConfiguration.of(trimmed, instance)


def _scaled(instance: Instance, found: Configuration, steps: int, deadline: Deadline) -> Configuration:
    """Take replicas of all stages alike, in steps to the fewest, as long as that is certified.

    Where tokens overtake, more replicas may be worse: then the fewest that are certified. Where nothing smaller is
    certified, what was found is returned as it is.
    """

    def moved(left: int) -> Configuration:
        return Configuration({s: Option(f, _between(f, n, left / steps)) for s, (f, n) in found.items()})

    # From the fewest, because the oracle learns from what is refused.
    if any(option.service.passing for option in found.values()):
        return next((c for c in map(moved, range(steps)) if _is_certified(instance, c, deadline)), found)
    return moved(first_true(0, steps, lambda left: _is_certified(instance, moved(left), deadline)))


def _is_certified(instance: Instance, configuration: Configuration, deadline: Deadline) -> bool:
    """Whether it is known to be certified: nothing more is asked after the deadline."""
    with suppress(LimitReachedError):
        deadline.check()
        return instance.allows(configuration) and instance.keeps_slo(configuration.services)
    return False


def _between(family: Family, most: int, share: float) -> int:
    """Replicas from the fewest (0) to the most (1), each step by the same factor."""
    return max(family.fewest, math.ceil(most * math.pow(family.fewest / most, 1.0 - share)))


def _with_fewest(
    instance: Instance, certified: Configuration, stage: str, steps: int, deadline: Deadline
) -> Configuration:
    """Give one stage of a certified plan the fewest replicas with which it is still certified.

    They are looked for by halves; where more replicas may be worse, by so many steps first, from the fewest up.
    """
    family, most = certified[stage]

    def keeps(replicas: int) -> bool:
        return _is_certified(instance, certified.replaced(stage, Option(family, replicas)), deadline)

    below, enough = family.fewest, most
    for step in range(1, steps):
        tried = _between(family, most, step / steps)
        if keeps(tried):
            enough = tried
            break
        below = tried
    return certified.replaced(stage, Option(family, first_true(below, enough, keeps)))


def cheapen(
    instance: Instance, fast: Configuration, params: FirstPlanParams, deadline: Deadline
) -> CertifiedConfiguration:
    """Trim a plan that was found since it is fast, then exchange single families for cheaper ones, while that helps."""
    found = trim(instance, fast, params, deadline)
    best, before, end = found.configuration, None, deadline.share(params.cheapening)
    while best != before and not end.is_over:
        before = best
        for stage in sorted(fast, key=lambda stage: -before[stage].microusd_per_hour):
            for family in instance.families[stage].families:
                most = family.most_within(best[stage].microusd_per_hour - 1)
                cheaper = best.replaced(stage, Option(family, most))
                if most >= family.fewest and _is_certified(instance, cheaper, end):
                    best = _with_fewest(instance, cheaper, stage, 1, end)
    return found if best == found.configuration else CertifiedConfiguration.of(best, instance)


def repair(
    instance: Instance, space: SearchSpace, rows: Int64, refused: Int64, most: int, deadline: Deadline
) -> Int64 | None:
    """Exchange one option after another, each time the one that saves most latency per dollar.

    Returns a choice of these rows, shape (m,), that keeps the objective and costs at most `most` (micro-dollars per
    hour); None if the way to one from `refused`, shape (stages,), gets too dear or ends, or time is up.
    """
    choice = refused.copy()
    names = tuple(space.tables)
    while not deadline.is_over:
        services = space.services(choice)
        if instance.keeps_slo(services):
            return choice
        bound_ns = instance.oracle.quick_bound(services, instance.deadline_ns)
        excess_ns = int(bound_ns(services)) - instance.deadline_ns
        best: tuple[float, int, int] | None = None
        for place, row, extra in _steps(space, rows, choice, most - space.cost_of(choice)):
            name = names[place]
            service = space.tables[name].service(row - int(space.first[place]))
            left_ns = int(bound_ns({**services, name: service})) - instance.deadline_ns
            if left_ns < excess_ns:
                # More than what is in excess is worth nothing. (The bound, rounded down, may see no excess.)
                worth = min(excess_ns - left_ns, max(excess_ns, 1)) / extra
                if best is None or worth > best[0]:
                    best = worth, place, row
        if best is None:
            break
        choice[best[1]] = best[2]
    return None


def _steps(space: SearchSpace, rows: Int64, choice: Int64, spare: int) -> Iterator[tuple[int, int, int]]:
    """Per stage the cheapest dearer options with less T, more R or less overtaking, with and without loss of T or R.

    Yields stage, row and extra cost.
    """
    for place, (own, chosen) in enumerate(zip(space.by_stage(rows), choice, strict=True)):
        extra = space.cost[own] - space.cost[chosen]
        latency_ns, speed = space.latency_ns[own], space.speed[own]
        dearer = (extra > 0) & (extra <= spare)
        quicker, faster = latency_ns < space.latency_ns[chosen], speed > space.speed[chosen]
        no_slower, no_weaker = latency_ns <= space.latency_ns[chosen], speed >= space.speed[chosen]
        found: set[int] = set()
        orderly = (space.passing[own] < space.passing[chosen]).any(axis=1)
        for wanted in (quicker, faster, quicker & no_weaker, faster & no_slower, orderly):
            places = np.flatnonzero(dearer & wanted)
            if places.size:
                found.add(int(places[np.argmin(extra[places])]))
        for option in sorted(found):
            yield place, int(own[option]), int(extra[option])


def break_ties(
    instance: Instance,
    space: SearchSpace,
    choice: Int64,
    certificate_ns: int,
    deadline: Deadline = NO_DEADLINE,
) -> tuple[Int64, int]:
    """Exchange options for others of the same cost, one stage at a time, while the certificate falls.

    Between plans of equal cost the one with the least certificate found is the better answer: latency for free. Batch
    caps cost nothing by themselves, so ties are common, and which of them a solver returns is arbitrary. Where accuracy
    is asked for, more of it comes first. Returns a choice of the same cost and devices, and its certificate, which no
    single exchange lowers, if there is time.
    """
    improved = True
    with suppress(LimitReachedError):
        while improved:
            improved = False
            for place, (first, table) in enumerate(zip(space.first, space.tables.values(), strict=True)):
                chosen, hardware = choice[place] - first, table.hardware
                # On the same hardware no device limit is touched, and no cap by what takes no more of it.
                alike = (table.cost == table.cost[chosen]) & (hardware == hardware[chosen])
                alike &= (table.uses <= table.uses[chosen]).all(axis=1)
                alike &= table.replicas <= table.replicas[chosen]
                alike[chosen] = False
                for row in np.flatnonzero(alike):
                    trial = choice.copy()
                    trial[place] = first + row
                    deadline.check()
                    services, own = space.services(trial), table.uses[choice[place] - first]
                    if (table.uses[row] > own).any() or space.refusal(trial) is not None:
                        continue
                    better = (table.uses[row] < own).any() and instance.keeps_slo(services)
                    # What only the whole trace sees is learnt from: the next trials are mostly like this one.
                    if better or not instance.oracle.exceeds(services, certificate_ns - 1):
                        choice, certificate_ns = trial, instance.certificate_ns(services)
                        improved = True
    return choice, certificate_ns
