"""How many configurations there are, and what is found among them: by greedy search, by grids, and at best.

All are judged alike: the replayed P99 (fifo queues, eager dispatch) of the traffic planned on keeps the objective.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import islice
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd

import mipplan as mp
from benchmarks.motivation.measure import pipeline_of, trace_of
from mipplan.options import Option, find_families, trace_demand
from mipplan.tokens import realise

PIPELINES = ("image-processing", "cascade", "video-monitoring", "social-media", "audio-question-answering")
DISCIPLINE = "fifo"
#: A grid offers every hardware type and measured batch, and as many replicas as these multiples of the mean load need.
FACTORS = (1.0, 1.25, 1.5, 2.0, 3.0)
#: So many configurations are drawn of it, or looked at, cheapest first.
BUDGETS, DRAWS, AT_ONCE = (100, 1_000), 3, 50
OPTIMUM, GREEDY, RANDOM, ORDERED = "optimum", "greedy", "grid, at random", "grid, cheapest first"
LIMIT_S = 15.0


@dataclass(frozen=True)
class Case:
    """A pipeline and its traffic."""

    pipeline: mp.Pipeline
    trace: mp.Trace

    @cached_property
    def profiles(self) -> mp.Profiles:
        """The shipped ones."""
        return mp.Profiles.default()

    @cached_property
    def grid(self) -> list[list[tuple[int, mp.Choice]]]:
        """Cost in micro-dollars per hour and choice of every option, cheapest first, by stage."""
        demand = trace_demand(realise(self.pipeline, self.trace, 0))
        found = find_families(self.pipeline, self.profiles, dict.fromkeys(self.pipeline.stages, Fraction(0)))
        options = []
        for stage in self.pipeline.stages:
            offered = set()
            for family in found[stage].families:
                busy = demand[stage] / Option(family, 1).tokens_per_ns
                for factor in FACTORS:
                    replicas = max(family.fewest, math.ceil(busy * Fraction(factor)))
                    if replicas <= family.most:
                        cost = family.microusd_per_hour * replicas
                        offered.add((cost, family.hardware, family.batch, replicas))
            options.append([(cost, mp.Choice(*choice)) for cost, *choice in sorted(offered)])
        return options

    def count_within(self, budget: int) -> int:
        """Configurations of any number of replicas that cost at most so many micro-dollars per hour."""
        found = find_families(self.pipeline, self.profiles, dict.fromkeys(self.pipeline.stages, Fraction(0)))
        costs, counts = np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64)
        for stage in found.values():
            own = np.concatenate(
                [family.microusd_per_hour * family.numbers_within(budget) for family in stage.families]
            )
            own, times = np.unique(own, return_counts=True)
            sums, ways = np.add.outer(costs, own).ravel(), np.multiply.outer(counts, times).ravel()
            costs, place = np.unique(sums[sums <= budget], return_inverse=True)
            counts = np.zeros(costs.size, dtype=np.int64)
            np.add.at(counts, place, ways[sums <= budget])
        return int(counts.sum())

    def keeping(self, chosen: Sequence[Sequence[tuple[int, mp.Choice]]]) -> list[bool]:
        """Which configurations keep the objective in replay."""
        plans = [
            mp.Plan.from_choices(
                self.pipeline,
                self.profiles,
                dict(zip(self.pipeline.stages, (choice for _, choice in one), strict=True)),
            )
            for one in chosen
        ]
        slo_s = plans[0].slo_s
        verdicts = mp.replay_many(plans, self.trace, discipline=DISCIPLINE, slo_s=slo_s)
        return [verdict.keeps for verdict in verdicts]

    def search_at_random(self, seed: int, budgets: Sequence[int]) -> Iterator[tuple[int, int, int | None]]:
        """Draw configurations of the grid; yield what was drawn, replayed and found at each budget.

        What was replayed, or costs as much as the best so far, need not be replayed.
        """
        draw, seen = np.random.default_rng(seed), set()
        best, replays = None, 0
        for drawn in range(1, budgets[-1] + 1):
            places = tuple(int(draw.integers(len(options))) for options in self.grid)
            one = [options[place] for options, place in zip(self.grid, places, strict=True)]
            cost = sum(own for own, _ in one)
            if places not in seen and (best is None or cost < best):
                seen.add(places)
                replays += 1
                best = cost if self.keeping([one])[0] else best
            if drawn in budgets:
                yield drawn, replays, best

    def search_in_order(self, budget: int) -> tuple[int, int | None]:
        """Replay configurations of the grid, cheapest first, until one keeps the objective, or all are looked at."""
        ordered, replays = _cheapest_first(self.grid), 0
        while part := list(islice(ordered, min(AT_ONCE, budget - replays))):
            for number, keeps in enumerate(self.keeping(part)):
                if keeps:
                    return replays + number + 1, sum(cost for cost, _ in part[number])
            replays += len(part)
        return replays, None


def _cheapest_first(
    options: Sequence[Sequence[tuple[int, mp.Choice]]],
) -> Iterator[list[tuple[int, mp.Choice]]]:
    """Every combination of one option per stage, by cost; options of a stage are by cost already."""
    start = (0,) * len(options)
    waiting, seen = [(sum(own[0][0] for own in options), start)], {start}
    while waiting:
        cost, places = heapq.heappop(waiting)
        yield [own[place] for own, place in zip(options, places, strict=True)]
        for stage, (own, place) in enumerate(zip(options, places, strict=True)):
            following = (*places[:stage], place + 1, *places[stage + 1 :])
            if place + 1 < len(own) and following not in seen:
                seen.add(following)
                heapq.heappush(waiting, (cost + own[place + 1][0] - own[place][0], following))


def spaces(*, quick: bool) -> pd.DataFrame:
    """What every search finds, and for how many replays."""
    rows: list[dict[str, Any]] = []
    for name in PIPELINES[:: 4 if quick else 1]:
        case = Case(pipeline_of(name), trace_of("bursty", quick=quick))
        given = case.pipeline, case.profiles, case.trace
        greedy = mp.baselines.inferline(*given).require()
        with patch("time.monotonic", time.process_time):
            optimum = mp.refine(
                mp.plan(*given), case.trace, discipline=DISCIPLINE, time_limit_s=LIMIT_S
            ).require()
        within = case.count_within(round(1e6 * (greedy.usd_per_hour or 0)))
        common = {
            "pipeline": name,
            "stages": len(case.pipeline.stages),
            "within_greedy": within,
            "grid": math.prod(len(options) for options in case.grid),
        }

        def add(
            planner: str, budget: int | None, replays: int, usd: float | None, proven: bool, seed: int = 0
        ) -> None:
            rows.append(
                {
                    **common,  # noqa: B023
                    "planner": planner,
                    "budget": budget,
                    "seed": seed,
                    "replays": replays,
                    "usd_per_hour": usd,
                    "proven": proven,
                }
            )

        replayed = optimum.refinement.replays if optimum.refinement else 0
        add(OPTIMUM, None, replayed, optimum.usd_per_hour, optimum.status == mp.PlanStatus.OPTIMAL)
        replayed = greedy.effort.estimator_calls if greedy.effort else 0
        add(GREEDY, None, replayed, greedy.usd_per_hour, False)
        budgets = (20, 50) if quick else BUDGETS
        for seed in range(1 if quick else DRAWS):
            for budget, replays, found in case.search_at_random(seed, budgets):
                add(RANDOM, budget, replays, None if found is None else found / 1e6, False, seed)
        replays, found = case.search_in_order(budgets[-1])
        add(ORDERED, budgets[-1], replays, None if found is None else found / 1e6, False)
    return pd.DataFrame(rows)
