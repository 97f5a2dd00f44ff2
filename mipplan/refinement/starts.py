"""What each stage would do on its own, and first plans that follow from it. Nothing here is proven.

On its own a stage sees its tokens as early as they can arrive at all. If an option is too slow even then, it is
left aside: an earlier arrival could make a query later (a batching anomaly), but hardly ever does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from mipplan.core import higher_rank
from mipplan.refinement.domains import Domain, Domains, Option, Options, Problem, Span, cost_of
from mipplan.refinement.least_times import LeastTimes, find_least_times
from mipplan.refinement.meter import Meter
from mipplan.refinement.stage_runs import StageReplays

#: Replicas that are tried besides the fewest, as multiples of them.
_MULTIPLES = (1.0, 1.05, 1.1, 1.2, 1.3, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0)
#: Replicas more or less than now, up to which options are next to the present one.
_REACH = 3
#: Prices of time that first plans are made for.
_PRICES = 48


@dataclass(frozen=True)
class Rated:
    """An option of a stage on its own.

    Attributes
    ----------
    option : Option
    sojourn_ns : int
        Quantile over tokens of the time in the stage.
    """

    option: Option
    sojourn_ns: int


@dataclass(frozen=True)
class StageAlone:
    """What is worth considering for a stage.

    Attributes
    ----------
    domain : Domain
        Replicas enough for the stage on its own.
    frontier : tuple of Rated
        Of a sample of them, those that no other beats in both cost and time; by cost.
    """

    domain: Domain
    frontier: tuple[Rated, ...]


def sufficient_domains(problem: Problem, replays: StageReplays, meter: Meter) -> Domains | None:
    """Leave out what is too slow even if every token arrives as early as it can; None if nothing is left.

    Raises
    ------
    OutOfAllowanceError
        If the meter runs out.
    """
    times = find_least_times(problem.workload, problem.domains, problem.deadline_ns)
    kept: dict[str, Domain] = {}
    for stage, domain in problem.domains.items():
        spans = [_enough(problem, replays, times, stage, span, meter) for span in domain]
        kept[stage] = tuple(span for span in spans if span is not None)
    return kept if all(kept.values()) else None


def study_stages(
    problem: Problem, replays: StageReplays, quantile: float, meter: Meter
) -> dict[str, StageAlone] | None:
    """Study every stage on its own; None if nothing would do for one of them.

    Raises
    ------
    OutOfAllowanceError
        If the meter runs out.
    """
    domains = sufficient_domains(problem, replays, meter)
    if domains is None:
        return None
    times = find_least_times(problem.workload, problem.domains, problem.deadline_ns)
    studied: dict[str, StageAlone] = {}
    for stage, domain in domains.items():
        sample = [Option(span.family, n) for span in domain for n in _some_replicas(span)]
        studied[stage] = StageAlone(domain, _rate(replays, times, stage, sample, quantile, meter))
    return studied


def propose_plans(stages: Mapping[str, StageAlone]) -> Iterator[Options]:
    """Plans in which every stage weighs cost against time at one price of time, cheapest plan first."""
    frontiers = {stage: alone.frontier for stage, alone in stages.items()}
    everything = [rated for frontier in frontiers.values() for rated in frontier]
    costs = [rated.option.cost for rated in everything]
    sojourns = [max(1, rated.sojourn_ns) for rated in everything]
    prices = np.geomspace(min(costs) / max(sojourns) / 10, max(costs) / min(sojourns) * 10, _PRICES)
    plans: dict[tuple[int, ...], Options] = {}
    for price in prices.tolist():
        picked = {stage: _pick(frontier, price) for stage, frontier in frontiers.items()}
        plans[tuple(picked.values())] = {stage: frontiers[stage][k].option for stage, k in picked.items()}
    yield from sorted(plans.values(), key=cost_of)


def fastest_plan(problem: Problem) -> Options:
    """Every stage on what serves the smallest batch fastest, with as many replicas as it could ever use."""
    plan = {}
    for stage, domain in problem.domains.items():
        span = min(domain, key=lambda span: int(span.family.service_ns.max()))
        plan[stage] = Option(span.family, span.most)
    return plan


def near_options(alone: StageAlone, now: Option) -> list[Option]:
    """The stage's good options, and those next to the present one."""
    options = {_key(rated.option): rated.option for rated in alone.frontier}
    for span in alone.domain:
        if span.family is now.family:
            fewest, most = max(span.fewest, now.replicas - _REACH), min(span.most, now.replicas + _REACH)
            for replicas in range(fewest, most + 1):
                option = Option(span.family, replicas)
                options[_key(option)] = option
    options[_key(now)] = now
    return list(options.values())


def _key(option: Option) -> tuple[str, int, int]:
    return option.family.hardware, option.family.batch, option.replicas


def _pick(frontier: Sequence[Rated], price: float) -> int:
    return min(range(len(frontier)), key=lambda k: frontier[k].option.cost + price * frontier[k].sojourn_ns)


def _enough(
    problem: Problem, replays: StageReplays, times: LeastTimes, stage: str, span: Span, meter: Meter
) -> Span | None:
    """Leave out replicas that are too few even if every token arrives as early as it can."""

    def enough(replicas: int) -> bool:
        run = replays.serve_alone(times.arrival_ns[stage], [Option(span.family, replicas)], meter)[0]
        return np.unique(times.late_queries(stage, run.exit_ns)).size <= problem.allowed

    low, high = span.fewest, span.fewest
    while not enough(high):
        if high >= span.most:
            return None
        low, high = high + 1, min(span.most, 2 * high)
    while low < high:
        middle = (low + high) // 2
        if enough(middle):
            high = middle
        else:
            low = middle + 1
    return replace(span, fewest=high)


def _some_replicas(span: Span) -> list[int]:
    wanted = {min(span.most, round(span.fewest * multiple)) for multiple in _MULTIPLES}
    return sorted(wanted | {min(span.most, span.fewest + more) for more in (1, 2, 3)})


def _rate(
    replays: StageReplays,
    times: LeastTimes,
    stage: str,
    sample: Sequence[Option],
    quantile: float,
    meter: Meter,
) -> tuple[Rated, ...]:
    """Find what no other of a sample beats in both cost and time; cheapest first, so that much need not be served."""
    arrival_ns = times.arrival_ns[stage]
    frontier: list[Rated] = []
    unsaturated: set[int] = set()
    least_ns = {id(option.family): int(option.family.service_ns.min()) for option in sample}

    def matters(option: Option) -> bool:
        """Not if it is at best as slow as something cheaper, or no different from fewer replicas."""
        key = id(option.family)
        return key not in unsaturated and (not frontier or least_ns[key] < frontier[-1].sojourn_ns)

    left = filter(matters, sorted(sample, key=lambda option: option.cost))
    while group := list(islice(left, replays.together)):
        for option, run in zip(group, replays.serve_alone(arrival_ns, group, meter), strict=True):
            if not run.saturates:
                unsaturated.add(id(option.family))
            spent = run.exit_ns - arrival_ns
            # Service times without any wait are ties by the thousands, which sorting copes with and partition does not.
            rank = higher_rank(quantile, spent.size)
            sojourn_ns = int(np.sort(spent)[rank]) if spent.size else 0
            if frontier and sojourn_ns >= frontier[-1].sojourn_ns:
                continue
            if frontier and option.cost == frontier[-1].option.cost:
                frontier.pop()
            frontier.append(Rated(option, sojourn_ns))
    return tuple(frontier)
