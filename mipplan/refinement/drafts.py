"""Plans drafted from times that simply add up along every path; replay says what they are worth. Nothing is proven.

How long tokens spend at a stage depends on all that is above it. But where a plan is at hand, each stage can be
replayed under other options with the arrivals that it has in that plan, and what counts there are the queries that
just keep the deadline or just miss it. Their mean time at the stages adds up to their mean latency. With these times
the cheapest plans for every length of the longest path are found by dynamic programming, without a replay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipplan.core import Int64
from mipplan.pipeline import Pipeline
from mipplan.refinement.domains import Option, Options, Problem, cost_of
from mipplan.refinement.judging import Judge
from mipplan.refinement.meter import Meter
from mipplan.refinement.stage_runs import StageReplays, StageRun
from mipplan.refinement.starts import StageAlone, near_options
from mipplan.replayer import NEVER

#: Ranks of the queries that count, by how late they are, as multiples of those that may be late.
MARGINS = ((0.7, 1.5), (0.7, 3.0), (0.0, 2.0), (1.0, 8.0))
#: Partial drafts that are kept from one stage to the next, by how long their longest path must get at least.
_CELLS, _PER_CELL = 256, 24
#: Drafts next to the cheapest that keeps the deadline, on its cheaper side, that are judged as well.
_NEXT = 12
#: Quick drafts that are judged where none of the front keeps the deadline.
_QUICKEST = 60


@dataclass(frozen=True)
class Menu:
    """What a stage may be in a draft.

    Attributes
    ----------
    options : sequence of Option
    cost : int64, shape (m,)
    time_ns : int64, shape (m,)
        That it takes for the queries that count.
    """

    options: Sequence[Option]
    cost: Int64
    time_ns: Int64


def redraft(
    problem_now: Callable[[], Problem],
    stages: Mapping[str, StageAlone],
    replays: StageReplays,
    start: Options,
    meter: Meter,
    accept: Callable[[Options], bool],
) -> Options:
    """Draft cheaper plans by the times of the best one, as long as one of them keeps the deadline.

    Parameters
    ----------
    problem_now : callable
        The problem, on a part of the trace that may be judged by new standards as plans are accepted or not.
    stages : mapping of str to StageAlone
    replays : StageReplays
    start : mapping of str to Option
    meter : Meter
    accept : callable
        Told of every cheaper plan that keeps the deadline; says whether it counts.

    Raises
    ------
    OutOfAllowanceError
        If the meter runs out. `accept` knows the best plan.
    """
    best, idle, turn = start, 0, 0
    while idle < len(MARGINS):
        found = draft_once(
            problem_now(), stages, replays, best, cost_of(best), MARGINS[turn % len(MARGINS)], meter, accept
        )
        turn, idle = turn + 1, idle + 1
        if found is not None:
            best, idle = found, 0
    return best


def draft_once(
    problem: Problem,
    stages: Mapping[str, StageAlone],
    replays: StageReplays,
    plan: Options,
    budget: int,
    margin: tuple[float, float],
    meter: Meter,
    accept: Callable[[Options], bool],
) -> Options | None:
    """Draft plans by the times of a plan, and return the cheapest found below the budget that keeps the deadline.

    Parameters
    ----------
    problem, stages, replays, meter, accept
        As for `redraft`.
    plan : mapping of str to Option
        Gives the arrivals, and the queries that count; it need not keep the deadline.
    budget : int
        Micro-dollars per hour; only what costs less is drafted.
    margin : tuple of float
        Ranks of the queries that count; one of `MARGINS`.

    Raises
    ------
    OutOfAllowanceError
    """
    menus = _measure(problem, stages, replays, plan, margin, meter)
    drafts = draft_plans(problem.workload.pipeline, menus, budget - 1)
    judge = Judge(problem, replays)
    found = _cheapest_kept(drafts.front(), judge, meter, accept)
    if found is None:
        # The times are none too exact: of those that are cheap enough, the ones that look quickest.
        kept = (draft for draft in drafts.quickest(_QUICKEST) if judge.keeps(draft, meter) and accept(draft))
        found = next(kept, None)
    return found


def _cheapest_kept(
    drafts: Sequence[Options], judge: Judge, meter: Meter, accept: Callable[[Options], bool]
) -> Options | None:
    """Find the cheapest that keeps the deadline, or nearly: by bisection, then by looking at the next ones."""
    found: Options | None = None

    def good(place: int) -> bool:
        nonlocal found
        draft = drafts[place]
        if not judge.keeps(draft, meter) or not accept(draft):
            return False
        if found is None or cost_of(draft) < cost_of(found):
            found = draft
        return True

    low, high = 0, len(drafts)
    while low < high:
        middle = (low + high) // 2
        if good(middle):
            high = middle
        else:
            low = middle + 1
    for place in range(max(0, low - 1 - _NEXT), low - 1):
        if good(place):
            break
    return found


def _measure(
    problem: Problem,
    stages: Mapping[str, StageAlone],
    replays: StageReplays,
    plan: Options,
    margin: tuple[float, float],
    meter: Meter,
) -> dict[str, Menu]:
    """Times of every stage under other options, at the arrivals of this plan."""
    judge = Judge(problem, replays)
    runs = judge.replay(plan, meter)
    counting = _counting(judge.lateness_ns(runs), problem.allowed, margin)
    menus: dict[str, Menu] = {}
    for stage, tokens in problem.workload.stages.items():
        arrival_ns = problem.workload.arrival_ns(stage, {name: run.exit_ns for name, run in runs.items()})
        options = near_options(stages[stage], plan[stage])
        seen = np.flatnonzero(counting[tokens.query])
        times = []
        for run in _served(stage, options, runs, replays, meter):
            spent = run.exit_ns - arrival_ns
            times.append(int(spent[seen].mean()) if seen.size else 0)
        cost = np.array([option.cost for option in options], dtype=np.int64)
        menus[stage] = Menu(options, cost, np.array(times, dtype=np.int64))
    return menus


def _served(
    stage: str, options: Sequence[Option], runs: Mapping[str, StageRun], replays: StageReplays, meter: Meter
) -> Iterator[StageRun]:
    for start in range(0, len(options), replays.together):
        yield from replays.serve(stage, options[start : start + replays.together], runs, meter)


def _counting(lateness_ns: Int64, allowed: int, margin: tuple[float, float]) -> NDArray[np.bool_]:
    """Mark the queries that count: those of certain ranks, the latest first."""
    first = min(int(margin[0] * allowed), lateness_ns.size - 1)
    last = min(max(int(margin[1] * allowed), first + 1), lateness_ns.size)
    counting = np.zeros(lateness_ns.size, dtype=np.bool_)
    counting[np.argsort(-lateness_ns, kind="stable")[first:last]] = True
    return counting


@dataclass(frozen=True)
class Drafts:
    """Choices of one option per stage.

    Attributes
    ----------
    menus : mapping of str to Menu
    picked : int32, shape (d, stages)
        Place in the menu of every stage.
    cost : int64, shape (d,)
    longest_ns : int64, shape (d,)
        Length of the longest path.
    """

    menus: Mapping[str, Menu]
    picked: NDArray[np.int32]
    cost: Int64
    longest_ns: Int64

    def front(self) -> list[Options]:
        """What no other beats in both cost and length: the cheapest, with the longest path, first."""
        order = np.lexsort((self.longest_ns, self.cost))
        shortest = np.minimum.accumulate(self.longest_ns[order])
        return self._at(order[np.flatnonzero(np.diff(shortest, prepend=NEVER) < 0)])

    def quickest(self, count: int) -> list[Options]:
        """Those with the shortest longest path, the shortest first; of equal ones the cheapest."""
        return self._at(np.lexsort((self.cost, self.longest_ns))[:count])

    def _at(self, places: NDArray[np.intp]) -> list[Options]:
        names = list(self.menus)
        return [
            {name: self.menus[name].options[mode] for name, mode in zip(names, picked, strict=True)}
            for picked in self.picked[places].tolist()
        ]


def draft_plans(pipeline: Pipeline, menus: Mapping[str, Menu], budget: int) -> Drafts:
    """Draft the cheapest plans for every length of the longest path, and some that are nearly so.

    Parameters
    ----------
    pipeline : Pipeline
    menus : mapping of str to Menu
        In topological order of the stages.
    budget : int
        Drafts cost at most that, in micro-dollars per hour.
    """
    names = list(menus)
    cheapest = [int(menus[name].cost.min()) for name in names]
    tails = _least_tails(pipeline, menus)
    cost, longest = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    picked = np.zeros((1, 0), dtype=np.int32)
    ends: dict[str, Int64] = {}
    for depth, name in enumerate(names):
        menu = menus[name]
        begin = np.zeros(cost.size, dtype=np.int64)
        for edge in pipeline.incoming(name):
            begin = np.maximum(begin, ends[edge.parent] + edge.delay_ns)
        above, mode = (grid.ravel() for grid in np.indices((cost.size, menu.cost.size)))
        total = cost[above] + menu.cost[mode]
        affordable = total + sum(cheapest[depth + 1 :]) <= budget
        above, mode, total = above[affordable], mode[affordable], total[affordable]
        end = begin[above] + menu.time_ns[mode]
        reach = np.maximum(longest[above], end + tails[name])
        kept = _thinned(total, reach)
        above, mode = above[kept], mode[kept]
        cost, longest = total[kept], reach[kept]
        ends = {stage: times[above] for stage, times in ends.items()} | {name: end[kept]}
        picked = np.column_stack((picked[above], mode)).astype(np.int32)
    return Drafts(menus, picked, cost, longest)


def _least_tails(pipeline: Pipeline, menus: Mapping[str, Menu]) -> dict[str, int]:
    """Least time from the end of each stage to that of what follows."""
    tails = dict.fromkeys(menus, 0)
    for name in reversed(list(menus)):
        for edge in pipeline.incoming(name):
            needed = edge.delay_ns + int(menus[name].time_ns.min()) + tails[name]
            tails[edge.parent] = max(tails[edge.parent], needed)
    return tails


def _thinned(cost: Int64, reach_ns: Int64) -> NDArray[np.intp]:
    """Of drafts whose longest paths are about as long, the few cheapest."""
    if not cost.size:
        return np.zeros(0, dtype=np.intp)
    span = int(reach_ns.max() - reach_ns.min()) + 1
    cell = (reach_ns - reach_ns.min()) * _CELLS // span
    order = np.lexsort((reach_ns, cost, cell))
    first = np.searchsorted(cell[order], np.arange(_CELLS))
    rank = np.arange(cost.size) - first[cell[order]]
    kept: NDArray[np.intp] = order[rank < _PER_CELL]
    return kept
