"""Cheaper plans near one at hand: choose some stages anew, keep the others. Nothing here is proven."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np

from mipplan.refinement.domains import Domain, Options, Problem, Span, cost_of
from mipplan.refinement.drafts import MARGINS, draft_once
from mipplan.refinement.meter import Meter, OutOfAllowanceError
from mipplan.refinement.search import Search
from mipplan.refinement.stage_runs import StageReplays
from mipplan.refinement.starts import StageAlone, near_options

#: Stage replays for one neighbourhood, by the number of stages chosen anew.
_MOST_REPLAYS = {1: 2_000, 2: 4_000, 3: 1_000}
#: Threes of stages that are tried at random once nothing smaller helps.
_MOST_THREES = 40
#: Kicks in a row that lead to nothing better, before giving up, for each stage.
_KICKS = 4
#: A kick takes one of so many dearer options of a stage.
_KICK_REACH = 6


def improve(
    problem_now: Callable[[], Problem],
    stages: Mapping[str, StageAlone],
    replays: StageReplays,
    starts: Sequence[Options],
    meter: Meter,
    accept: Callable[[Options], bool],
) -> Options:
    """Make plans cheaper until no choice of one or two stages, nor of some threes, helps.

    Parameters
    ----------
    problem_now : callable
        The problem, on a part of the trace that may be judged by new standards as plans are accepted or not.
    stages : mapping of str to StageAlone
    replays : StageReplays
    starts : sequence of mappings of str to Option
        Plans that keep the deadline, at least one.
    meter : Meter
        For time; each neighbourhood has an allowance of its own.
    accept : callable
        Told of every cheaper plan; says whether it counts.

    Raises
    ------
    OutOfAllowanceError
        If the time is up. `accept` knows the best plan.
    """
    rng = np.random.default_rng(0)

    def settled(plan: Options, sizes: Sequence[int]) -> Options | None:
        """The cheapest plan in steps from this one; None if no step finds any."""
        found, current, improved = None, plan, True
        while improved:
            improved = False
            for free in _neighbourhoods(current, sizes, rng):
                cheaper = _search(problem_now(), stages, replays, current, free, meter, accept)
                if cheaper is not None:
                    found = current = cheaper
                    improved = True
        return found

    best = min((settled(start, (1, 2, 3)) or start for start in starts), key=cost_of)
    kicks = turn = 0
    while kicks < _KICKS * len(best):
        kicks, turn = kicks + 1, turn + 1
        kicked = _kicked(stages, best, rng)
        found = settled(kicked, (1, 2))
        if found is None or cost_of(found) >= cost_of(best):
            # No better, but elsewhere: what counts there may lead to something better yet.
            found = draft_once(
                problem_now(),
                stages,
                replays,
                found or kicked,
                cost_of(best),
                MARGINS[turn % len(MARGINS)],
                meter,
                accept,
            )
        if found is not None and cost_of(found) < cost_of(best):
            best, kicks = settled(found, (1, 2)) or found, 0
    return best


def _kicked(stages: Mapping[str, StageAlone], plan: Options, rng: np.random.Generator) -> Options:
    """A dearer plan, with another good option at two stages; it need not keep the deadline."""
    names = list(plan)
    kicked = dict(plan)
    for number in rng.permutation(len(names))[:2].tolist():
        stage = names[number]
        dearer = [r.option for r in stages[stage].frontier if r.option.cost > plan[stage].cost]
        if dearer:
            kicked[stage] = dearer[int(rng.integers(min(len(dearer), _KICK_REACH)))]
    return kicked


def _neighbourhoods(
    plan: Options, sizes: Sequence[int], rng: np.random.Generator
) -> Iterator[tuple[str, ...]]:
    """Sets of stages to be chosen anew: small ones first, dear stages first; of threes only some."""
    dear = sorted(plan, key=lambda stage: -plan[stage].cost)
    for size in sizes:
        together = list(combinations(dear, size))
        if size == 3:
            together = [together[k] for k in rng.permutation(len(together))[:_MOST_THREES].tolist()]
        yield from together


def _search(
    problem: Problem,
    stages: Mapping[str, StageAlone],
    replays: StageReplays,
    plan: Options,
    free: Sequence[str],
    meter: Meter,
    accept: Callable[[Options], bool],
) -> Options | None:
    domains: dict[str, Domain] = {stage: (Span.of(option),) for stage, option in plan.items()}
    in_order = [stage for stage in problem.workload.stages if stage in free]
    for stage in in_order[:-1]:
        domains[stage] = tuple(map(Span.of, near_options(stages[stage], plan[stage])))
    domains[in_order[-1]] = stages[in_order[-1]].domain
    allowance = Meter(meter.tally, meter.ends_at, _MOST_REPLAYS[len(in_order)])
    search = Search(problem, domains, replays, allowance, trusting=True, accept=accept, is_brief=True)
    try:
        search.run(cost_of(plan))
    except OutOfAllowanceError:
        meter.spend(0)  # the time, or only this neighbourhood's replays?
    return search.best
