"""The cheapest plan that replays within the objective, by replaying every plan that is cheaper: slow and obvious.

It shares with the planners what may be chosen, and nothing of how it is searched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice

import mipplan as mp
from mipplan.options import find_families
from mipplan.tokens import realise

#: So many plans are replayed at most.
MOST_PLANS = 20_000
#: Plans that are judged in one call.
AT_ONCE = 400


@dataclass(frozen=True)
class Option:
    """A choice for a stage, and what it costs in micro-dollars per hour."""

    cost: int
    choice: mp.Choice


@dataclass(frozen=True)
class Optimum:
    """What exhaustive replay found.

    Attributes
    ----------
    plan : Plan or None
        The cheapest that keeps the objective; None if none does within the budget.
    replays : int
        Plans judged.
    """

    plan: mp.Plan | None
    replays: int


def find_optimum(
    pipeline: mp.Pipeline,
    profiles: mp.Profiles,
    trace: mp.Trace,
    *,
    slo_s: float,
    budget: int,
    discipline: str = "fifo",
    most_plans: int = MOST_PLANS,
) -> Optimum | None:
    """Replay every plan within the budget, cheapest first, until one keeps the objective.

    Parameters
    ----------
    budget : int
        Micro-dollars per hour: what the cheapest plan known costs.
    most_plans : int
        None is replayed if there are more.

    Returns
    -------
    Optimum, or None if there are too many plans
    """
    options = _options(pipeline, profiles, trace, budget)
    found = list(islice(_combinations(list(options.values()), budget), most_plans + 1))
    if len(found) > most_plans:
        return None
    found.sort(key=lambda combination: sum(option.cost for option in combination))
    for start in range(0, len(found), AT_ONCE):
        plans = [
            mp.Plan.from_choices(
                pipeline,
                profiles,
                {stage: option.choice for stage, option in zip(options, combination, strict=True)},
                slo_s=slo_s,
            )
            for combination in found[start : start + AT_ONCE]
        ]
        verdicts = mp.replay_many(plans, trace, discipline=discipline, slo_s=slo_s)
        for number, verdict in enumerate(verdicts):
            if verdict.keeps:
                return Optimum(plans[number], start + number + 1)
    return Optimum(None, len(found))


def _options(
    pipeline: mp.Pipeline, profiles: mp.Profiles, trace: mp.Trace, budget: int
) -> Mapping[str, Sequence[Option]]:
    """Everything that a stage may be within the budget; more replicas than it has tokens never serve one."""
    workload = realise(pipeline, trace, 0)
    families = find_families(pipeline, profiles, dict.fromkeys(pipeline.stages, Fraction(0)))
    options: dict[str, Sequence[Option]] = {}
    for stage, found in families.items():
        offered = []
        for family in found.families:
            most = min(family.most, max(family.fewest, workload.stages[stage].count))
            most = min(most, budget // family.microusd_per_hour)
            for replicas in range(family.fewest, most + 1):
                choice = mp.Choice(family.hardware, family.batch, replicas)
                offered.append(Option(family.microusd_per_hour * replicas, choice))
        options[stage] = sorted(offered, key=lambda option: option.cost)
    return options


def _combinations(options: Sequence[Sequence[Option]], budget: int) -> Iterator[tuple[Option, ...]]:
    """Every way to take one option per stage within the budget."""
    if not options:
        yield ()
        return
    rest = sum(offered[0].cost for offered in options[1:] if offered)
    if not all(options):
        return
    for option in options[0]:
        if option.cost + rest > budget:
            return
        for others in _combinations(options[1:], budget - option.cost):
            yield (option, *others)
