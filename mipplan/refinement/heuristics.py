"""Plans that may be good, and cheaper ones near them: replay says what they are worth, and nothing is proven.

*First plans* weigh cost against time at one price of time in every stage.

*Drafts* take times that simply add up along every path. How long tokens spend at a stage depends on all that is above
it. But where a plan is at hand, each stage can be replayed under other options with the arrivals that it has in that
plan, and what counts there are the queries that just keep the deadline or just miss it. Their mean time at the stages
adds up to their mean latency. With these times the cheapest plans for every length of the longest path are found by
dynamic programming, without a replay.

*Neighbourhoods* choose some stages of a plan anew and keep the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from mipplan.core import Bool, Int32, Int64, LimitReachedError, LongestPaths, Positions, first_true
from mipplan.options import Configuration, Option
from mipplan.pipeline import Pipeline
from mipplan.refinement.evaluation import RatedOption, ReplayOracle, ScreenParams, StageAlone, WorkLimit
from mipplan.refinement.problem import Domain, RefinementProblem, Span
from mipplan.refinement.search import RefinementSearch
from mipplan.replayer import NEVER, StageReplays


@dataclass(frozen=True)
class HeuristicParams:
    """How much the heuristics try."""

    prices: int = 48  # First plans are made for 48 prices of time.
    reach: int = 3  # Options next to the present one have at most 3 replicas more or less.
    margins: tuple[tuple[float, float], ...] = ((0.7, 1.5), (0.7, 3.0), (0.0, 2.0), (1.0, 8.0))
    """Ranks of the queries that count in a draft, by how late they are, as multiples of those that may be late."""
    # Partial drafts are told apart by how long their longest path must get at least, in 256 steps.
    draft_cells: int = 256
    drafts_per_cell: int = 24  # 24 of each are kept from one stage to the next, the cheapest.
    # Drafts next to the cheapest that keeps the deadline, on its cheaper side, that are judged as well.
    next_drafts: int = 12
    quick_drafts: int = 60  # Quick drafts that are judged where none of the front keeps the deadline.
    # The most stage replays for one neighbourhood, by the number of stages that are chosen anew: one, two, three.
    stage_replays: tuple[int, int, int] = (2_000, 4_000, 1_000)
    threes: int = 40  # At most 40 threes of stages are tried, at random, once nothing smaller helps.
    # Kicks in a row that lead to nothing better before the search for cheaper plans gives up, for each stage.
    kicks: int = 4
    kick_reach: int = 6  # A kick takes one of 6 dearer options of a stage.


@dataclass(frozen=True)
class RefinementParams:
    """How a refinement divides its time and work."""

    improved_by: float = 0.85
    """By the end of this share of the time limit looking for better plans must be done, to leave time for proving."""
    trusted_by: float = 0.92  # By the end of this share the search on trust must be done.
    proven_by: float = 1.0  # By the end of this share the proof must be done.
    kept_back: float = 0.5  # At most this share of the time limit is kept back for the record at the end.
    trusted_replays: int = 400_000
    """At most 400,000 stage replays of the search on trust, because without a time limit it has to end as well."""
    # Budgets of the proof, as shares of the way from the lower bound to the best plan.
    proof_steps: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    # The cost up to which conditions alone refute every plan is found to one part in 200 of itself.
    bound_precision: int = 200
    screen: ScreenParams = field(default_factory=ScreenParams)
    heuristics: HeuristicParams = field(default_factory=HeuristicParams)


def propose_plans(
    stages: Mapping[str, StageAlone], params: HeuristicParams = HeuristicParams()
) -> Iterator[Configuration]:
    """Plans in which every stage weighs cost against time at one price of time, cheapest plan first."""
    frontiers = {stage: alone.frontier for stage, alone in stages.items()}
    everything = [rated for frontier in frontiers.values() for rated in frontier]
    costs = [rated.option.microusd_per_hour for rated in everything]
    sojourns = [max(1, rated.sojourn_ns) for rated in everything]
    prices = np.geomspace(min(costs) / max(sojourns) / 10, max(costs) / min(sojourns) * 10, params.prices)

    def plan_at(price: float) -> Configuration:
        def weighed(rated: RatedOption) -> float:
            return rated.option.microusd_per_hour + price * rated.sojourn_ns

        return Configuration({stage: min(own, key=weighed).option for stage, own in frontiers.items()})

    plans = {tuple(plan.choices.values()): plan for plan in map(plan_at, prices.tolist())}
    yield from sorted(plans.values(), key=_cost)


def fastest_plan(problem: RefinementProblem) -> Configuration:
    """Every stage on what serves the smallest batch fastest, with as many replicas as it could ever use."""
    fastest = {
        stage: min(domain, key=lambda span: int(span.family.service_ns.max()))
        for stage, domain in problem.domains.items()
    }
    return Configuration({stage: Option(span.family, span.most) for stage, span in fastest.items()})


def _cost(plan: Configuration) -> int:
    return plan.microusd_per_hour


@dataclass(frozen=True)
class Heuristics:
    """Ways from plans that keep the deadline to cheaper ones.

    All methods raise `LimitReachedError` when the limit is reached; `accept` knows the best plan.
    """

    # The problem, on a part of the trace that may be judged by new standards as plans are accepted or not.
    problem_now: Callable[[], RefinementProblem]
    stages: Mapping[str, StageAlone]
    replays: StageReplays
    limit: WorkLimit  # For time; each neighbourhood has an allowance of stage replays of its own.
    # Told of every cheaper plan that keeps the deadline; says whether it counts.
    accept: Callable[[Configuration], bool]
    params: HeuristicParams = HeuristicParams()

    def redraft(self, start: Configuration) -> Configuration:
        """Draft cheaper plans by the times of the best one, as long as one of them keeps the deadline."""
        best, idle, turn = start, 0, 0
        while idle < len(self.params.margins):
            found = self._draft(best, best.microusd_per_hour, turn)
            turn, idle = turn + 1, idle + 1
            if found is not None:
                best, idle = found, 0
        return best

    def improve(self, starts: Sequence[Configuration]) -> Configuration:
        """Make plans cheaper until no choice of one or two stages, nor of some threes, helps.

        `starts` are plans that keep the deadline, at least one.
        """
        rng = np.random.default_rng(0)
        settled = [self.settle(start, (1, 2, 3), rng) or start for start in starts]
        best = min(settled, key=_cost)
        kicks = turn = 0
        while kicks < self.params.kicks * len(best):
            kicks, turn = kicks + 1, turn + 1
            kicked = self._kick(best, rng)
            found = self.settle(kicked, (1, 2), rng)
            if found is None or _cost(found) >= _cost(best):
                # No better, but elsewhere: what counts there may lead to something better yet.
                found = self._draft(found or kicked, _cost(best), turn)
            if found is not None and _cost(found) < _cost(best):
                best, kicks = self.settle(found, (1, 2), rng) or found, 0
        return best

    def _draft(self, plan: Configuration, budget: int, turn: int) -> Configuration | None:
        """Draft plans by the times of a plan, and return the cheapest found that keeps the deadline.

        The plan gives the arrivals, and the queries that count; it need not keep the deadline. Only what costs less
        than the budget is drafted.
        """
        problem = self.problem_now()
        oracle = ReplayOracle(problem, self.replays)
        menus = self._measure(oracle, plan, self.params.margins[turn % len(self.params.margins)])
        drafts = draft_plans(problem.workload.pipeline, menus, budget - 1, self.params)
        found = self._cheapest_kept(drafts.front(), oracle)
        if found is not None:
            return found
        # The times are none too exact: of those that are cheap enough, the ones that look quickest.
        quick = drafts.quickest(self.params.quick_drafts)
        return next(
            (draft for draft in quick if oracle.keeps(draft, self.limit) and self.accept(draft)), None
        )

    def _cheapest_kept(self, drafts: Sequence[Configuration], oracle: ReplayOracle) -> Configuration | None:
        """Find the cheapest that keeps the deadline, or nearly: by bisection, then by looking at the next ones."""
        found: Configuration | None = None

        def good(place: int) -> bool:
            nonlocal found
            draft = drafts[place]
            if not oracle.keeps(draft, self.limit) or not self.accept(draft):
                return False
            if found is None or _cost(draft) < _cost(found):
                found = draft
            return True

        first = first_true(0, len(drafts), good)
        for place in range(max(0, first - 1 - self.params.next_drafts), first - 1):
            if good(place):
                break
        return found

    def _measure(
        self, oracle: ReplayOracle, plan: Configuration, margin: tuple[float, float]
    ) -> dict[str, Menu]:
        """Times of every stage under other options, at the arrivals of this plan."""
        workload = oracle.problem.workload
        runs = dict(oracle.runs(plan, self.limit))
        counting = _counting(oracle.lateness_ns(runs), oracle.problem.allowed, margin)
        sent_ns = {stage: run.sent_ns for stage, run in runs.items()}
        menus: dict[str, Menu] = {}
        for stage, tokens in workload.stages.items():
            arrival_ns = workload.arrival_ns(stage, sent_ns)
            options = self._near_options(stage, plan[stage])
            seen = np.flatnonzero(counting[tokens.query])
            times = []
            for start in range(0, len(options), self.replays.together):
                group = options[start : start + self.replays.together]
                for run in self.replays.serve(stage, group, runs, self.limit.spend):
                    spent = run.exit_ns - arrival_ns
                    times.append(int(spent[seen].mean()) if seen.size else 0)
            cost = np.array([option.microusd_per_hour for option in options], dtype=np.int64)
            menus[stage] = Menu(options, cost, np.array(times, dtype=np.int64))
        return menus

    def _near_options(self, stage: str, now: Option) -> list[Option]:
        """The stage's good options, and those next to the present one."""
        options = {rated.option.choice: rated.option for rated in self.stages[stage].frontier}
        reach = self.params.reach
        for span in self.stages[stage].domain:
            if span.family is now.family:
                fewest, most = max(span.fewest, now.replicas - reach), min(span.most, now.replicas + reach)
                near = (Option(span.family, replicas) for replicas in range(fewest, most + 1))
                options |= {option.choice: option for option in near}
        options[now.choice] = now
        return list(options.values())

    def settle(
        self, plan: Configuration, sizes: Sequence[int], rng: np.random.Generator
    ) -> Configuration | None:
        """The cheapest plan in steps from this one; None if no step finds any."""
        found, current, improved = None, plan, True
        while improved:
            improved = False
            for free in self._neighbourhoods(current, sizes, rng):
                cheaper = self._search(current, free)
                if cheaper is not None:
                    found = current = cheaper
                    improved = True
        return found

    def _neighbourhoods(
        self, plan: Configuration, sizes: Sequence[int], rng: np.random.Generator
    ) -> Iterator[tuple[str, ...]]:
        """Sets of stages to be chosen anew: small ones first, dear stages first; of threes only some."""
        dear = sorted(plan, key=lambda stage: -plan[stage].microusd_per_hour)
        for size in sizes:
            together = list(combinations(dear, size))
            if size == 3:
                some = rng.permutation(len(together))[: self.params.threes]
                together = [together[k] for k in some.tolist()]
            yield from together

    def _search(self, plan: Configuration, free: Sequence[str]) -> Configuration | None:
        """Find the cheapest plan with these stages chosen anew."""
        problem = self.problem_now()
        domains: dict[str, Domain] = {stage: (Span.of(option),) for stage, option in plan.items()}
        *others, last = (stage for stage in problem.workload.stages if stage in free)
        for stage in others:
            domains[stage] = tuple(map(Span.of, self._near_options(stage, plan[stage])))
        domains[last] = self.stages[last].domain
        most = self.params.stage_replays[len(others)]
        allowance = WorkLimit(self.limit.counters, self.limit.deadline, most)
        search = RefinementSearch(
            problem, domains, self.replays, allowance, trusting=True, accept=self.accept, is_brief=True
        )
        try:
            search.run(plan.microusd_per_hour)
        except LimitReachedError:
            self.limit.spend(0)  # the time, or only this neighbourhood's replays?
        return search.best

    def _kick(self, plan: Configuration, rng: np.random.Generator) -> Configuration:
        """A dearer plan, with another good option at two stages; it need not keep the deadline."""
        names = list(plan)
        kicked = plan
        for number in rng.permutation(len(names))[:2].tolist():
            stage = names[number]
            good = [rated.option for rated in self.stages[stage].frontier]
            dearer = [o for o in good if o.microusd_per_hour > plan[stage].microusd_per_hour]
            if dearer:
                option = dearer[int(rng.integers(min(len(dearer), self.params.kick_reach)))]
                kicked = kicked.replaced(stage, option)
        return kicked


def _counting(lateness_ns: Int64, allowed: int, margin: tuple[float, float]) -> Bool:
    """Mark the queries that count: those of certain ranks, the latest first."""
    first = min(int(margin[0] * allowed), lateness_ns.size - 1)
    last = min(max(int(margin[1] * allowed), first + 1), lateness_ns.size)
    counting = np.zeros(lateness_ns.size, dtype=np.bool_)
    counting[np.argsort(-lateness_ns, kind="stable")[first:last]] = True
    return counting


@dataclass(frozen=True)
class Menu:
    """What a stage may be in a draft: m options, what they cost, and how long the queries that count take there."""

    options: Sequence[Option]
    cost: Int64
    time_ns: Int64


@dataclass(frozen=True)
class Drafts:
    """Choices of one option per stage: d of them."""

    menus: Mapping[str, Menu]
    picked: Int32  # Place in the menu of every stage, shape (d, stages).
    cost: Int64
    longest_ns: Int64  # Length of the longest path of each, shape (d,).

    def front(self) -> list[Configuration]:
        """What no other beats in both cost and length: the cheapest, with the longest path, first."""
        order = np.lexsort((self.longest_ns, self.cost))
        shortest = np.minimum.accumulate(self.longest_ns[order])
        return self._at(order[np.flatnonzero(np.diff(shortest, prepend=NEVER) < 0)])

    def quickest(self, count: int) -> list[Configuration]:
        """Those with the shortest longest path, the shortest first; of equal ones the cheapest."""
        return self._at(np.lexsort((self.cost, self.longest_ns))[:count])

    def _at(self, places: Positions) -> list[Configuration]:
        return [
            Configuration(
                (stage, menu.options[mode])
                for (stage, menu), mode in zip(self.menus.items(), picked, strict=True)
            )
            for picked in self.picked[places].tolist()
        ]


def draft_plans(
    pipeline: Pipeline, menus: Mapping[str, Menu], budget: int, params: HeuristicParams = HeuristicParams()
) -> Drafts:
    """Draft the cheapest plans for every length of the longest path, and some that are nearly so.

    Menus come in topological order of the stages. Drafts cost at most the budget, in micro-dollars per hour.
    """
    names = list(menus)
    cheapest = [int(menus[name].cost.min()) for name in names]
    least_ns = {name: int(menu.time_ns.min()) for name, menu in menus.items()}
    edges = [(edge.parent, edge.child, edge.delay_ns) for edge in pipeline.edges]
    from_begin_ns = LongestPaths(names, edges).up_from(least_ns)
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
        reach = np.maximum(longest[above], end + (from_begin_ns[name] - least_ns[name]))
        kept = _thinned(total, reach, params)
        above, mode = above[kept], mode[kept]
        cost, longest = total[kept], reach[kept]
        ends = {stage: times[above] for stage, times in ends.items()} | {name: end[kept]}
        picked = np.column_stack((picked[above], mode)).astype(np.int32)
    return Drafts(menus, picked, cost, longest)


def _thinned(cost: Int64, reach_ns: Int64, params: HeuristicParams) -> Positions:
    """Of drafts whose longest paths are about as long, the few cheapest."""
    if not cost.size:
        return np.zeros(0, dtype=np.intp)
    span = int(reach_ns.max() - reach_ns.min()) + 1
    cell = (reach_ns - reach_ns.min()) * params.draft_cells // span
    order = np.lexsort((reach_ns, cost, cell))
    first = np.searchsorted(cell[order], np.arange(params.draft_cells))
    rank = np.arange(cost.size) - first[cell[order]]
    kept: Positions = order[rank < params.drafts_per_cell]
    return kept
