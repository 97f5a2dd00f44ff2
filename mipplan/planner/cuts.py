"""Cuts from what the certificate refuses: in terms of T and R of few stages, or of the queries that miss.

**Cuts.** A certificate grows with every T and falls with every R. So if it fails at services (T_v, R_v), it fails
wherever no stage is better, and some stage must have a smaller T or a greater R. (Where queues are fifo it grows with
how many tokens overtake, too, and a stage may let fewer pass instead.) The cut is the stronger, the better
the services are that still fail: stages that can be made ideal without success drop out of it, and the others are
moved as far towards ideal as the certificate keeps failing.

**Critical chains** say how the slowest queries come to their latency bounds, as linear functions of every T and 1/R.
Unrolling the theorem along the tokens that attain its maxima gives, for a query q,

    latency(q) = constant + Σ_v uses_v·T_v + Σ_v tokens_v·(1/R_v)        (rounded up stage by stage)

Under other services these tokens need no longer attain the maxima, but the maxima are never below them. So a chain
bounds the latency under *any* services from below, for the price of a few multiplications instead of passes
over the trace. `QueryCuts` refuse many choices at once by them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mipplan.calculus import StageService
from mipplan.core import Allowance, Bool, Float64, Int64, last_true
from mipplan.options import StageOptions, build_problem
from mipplan.pipeline import Join
from mipplan.tokens import Messages, StageTokens, Workload
from mipplan_formulations import Cover, TimeCostProblem

if TYPE_CHECKING:
    from mipplan.planner.choices import SearchSpace
    from mipplan.planner.instance import Instance

Services = Mapping[str, StageService]
#: Some stage of the cut must beat its service: (stage, T in ns, speed rank, what may overtake).
Cut = tuple[tuple[str, int, int, tuple[int, ...]], ...]


def strengthen(
    refused: Services,
    options: Mapping[str, StageOptions],
    make_test: Callable[[Services], Callable[[Services], bool]],
    order: Iterable[str],
    speed_first: bool,
) -> Cut:
    """Move refused services as far towards ideal as they stay refused; an empty cut if all stages get there.

    `options` are what any plan of interest chooses from. `make_test` makes, from services that are refused, a test
    whether better ones surely are; monotone. Where it fails to recognise even `refused`, the cut stays there: valid,
    only weaker. It is made anew wherever one has led to, because it may see farther from there. In which `order` the
    stages are tried, and whether R is raised before T is lowered (`speed_first`), decides which maximum is found.
    """
    services, order = dict(refused), tuple(order)
    while True:
        before, is_refused = services, make_test(services)
        services, blamed = dict(services), []
        for stage in order:
            trial = {**services, stage: options[stage].ideal()}
            if is_refused(trial):
                services = trial
            else:
                blamed.append(stage)
        cut: list[tuple[str, int, int, tuple[int, ...]]] = []
        for stage in blamed:
            services[stage], speed = _furthest(options[stage], services, stage, is_refused, speed_first)
            cut.append((stage, services[stage].latency_ns, speed, services[stage].passing))
        if services == before:
            return tuple(sorted(cut))


def _furthest(
    table: StageOptions,
    services: Services,
    stage: str,
    is_refused: Callable[[Services], bool],
    speed_first: bool,
) -> tuple[StageService, int]:
    """Move a stage's service over latencies, rates and overtaking of its options, as far as all services stay refused.

    Along one axis after another. Returns the service and its speed rank.
    """
    start = services[stage]
    latencies = np.unique(table.latency_ns)[::-1].tolist()
    speeds, rows = np.unique(table.speed, return_index=True)
    rates = list(zip(table.period_ns[rows].tolist(), table.tokens[rows].tolist(), strict=True))
    step = latencies.index(start.latency_ns)
    rank = next(i for i, (p, n) in enumerate(rates) if p * start.tokens == start.period_ns * n)

    passing = list(start.passing)

    def holds(step: int, rank: int, place: int = 0, level: int | None = None) -> bool:
        orders = tuple(level if level is not None and k == place else own for k, own in enumerate(passing))
        return is_refused({**services, stage: StageService(latencies[step], *rates[rank], orders)})

    for along_speed in (speed_first, not speed_first):
        if along_speed:
            rank = last_true(rank, len(rates) - 1, lambda i: holds(step, i))  # noqa: B023
        else:
            step = last_true(step, len(latencies) - 1, lambda i: holds(i, rank))  # noqa: B023
    for place, column in enumerate(table.passing.T):
        levels = np.unique(column)[::-1].tolist()
        first = levels.index(passing[place])
        last = last_true(first, len(levels) - 1, lambda i: holds(step, rank, place, levels[i]))  # noqa: B023
        passing[place] = levels[last]
    return StageService(latencies[step], *rates[rank], tuple(passing)), int(speeds[rank])


def cover_of(cut: Cut, options: Mapping[str, StageOptions]) -> Cover:
    """Write a cut as a cover: at least one of its stages takes an option that beats its service in something."""
    stages, members = list(options), []
    for stage, latency_ns, speed, passing in cut:
        own = options[stage]
        orderly = (own.passing < np.array(passing, dtype=np.int64)).any(axis=1)
        members.append((stages.index(stage), (own.latency_ns < latency_ns) | (own.speed > speed) | orderly))
    return Cover(tuple(members))


def master_problem(
    instance: Instance, space: SearchSpace, rows: Int64, covers: Iterable[Cover], tolerance: float
) -> TimeCostProblem:
    """Return the time-cost problem over some rows, ascending, with covers, which are over the rows of all stages."""
    options = space.options_by_stage(rows)
    left = [Cover(tuple((stage, own[options[stage]]) for stage, own in cover.members)) for cover in covers]
    return build_problem(
        instance.pipeline,
        space.tables_of(rows),
        instance.oracle.paths,
        instance.deadline_ns,
        instance.limits,
        caps=space.caps,
        covers=left,
        tolerance=tolerance,
    )


@dataclass(frozen=True)
class Chains:
    """Critical chains of q queries under some services."""

    stages: tuple[str, ...]
    constant_ns: Float64  # delays, and by how much the chain's first token came later, shape (q,)
    uses: Float64  # 1 where the chain passes through the stage, else 0, shape (stages, q)
    #: Served at each stage between the chain's own and the one it waits for, shape (stages, q).
    tokens: Float64

    def latency_ns(self, services: Services) -> Float64:
        """Return lower bounds on the queries' latency bounds under `services`, ns, shape (q,)."""
        chosen = [services[stage] for stage in self.stages]
        latency = np.array([service.latency_ns for service in chosen], dtype=np.float64)
        period = np.array([service.period_ns / service.tokens for service in chosen])
        lower: Float64 = self.constant_ns + latency @ self.uses + period @ self.tokens
        # Two sums of as many products as stages: off by less than an ε per stage, of all terms together. Only the
        # constant may be negative, so these are at most twice what is added here.
        terms = np.abs(self.constant_ns) + np.abs(lower)
        lower -= 2 * (len(self.stages) + 4) * np.finfo(np.float64).eps * terms
        return lower


def critical_chains(
    workload: Workload, services: Services, exits: Mapping[str, Int64], queries: Int64
) -> Chains:
    """Follow every query's last exit back to a source.

    `exits` bounds the exit of every token under these services; `queries`, shape (q,), are numbers in the workload.
    """
    order = tuple(workload.stages)
    constant = -workload.ingress_ns[queries]  # in integers: times may be those of a clock
    uses = np.zeros((len(order), queries.size))
    tokens = np.zeros((len(order), queries.size))
    for link in _links(workload, services, exits, queries):
        number = link.tokens.number
        uses[link.stage, link.here] = 1.0
        tokens[link.stage, link.here] = (
            link.last - link.first if number is None else number[link.last] - number[link.first]
        )
        constant[link.here] += link.earlier_ns
    return Chains(order, constant.astype(np.float64), uses, tokens)


def waited_for_queries(
    workload: Workload, services: Services, exits: Mapping[str, Int64], queries: Int64
) -> Int64:
    """Return the queries that these, as for `critical_chains`, wait for along their chains: each once, ascending."""
    links = _links(workload, services, exits, queries)
    return np.unique(np.concatenate([queries, *(link.tokens.query[link.first] for link in links)]))


class _Link(NamedTuple):
    """What the chains of some queries come to at one stage."""

    stage: int  # by its place in the workload
    tokens: StageTokens
    here: Int64  # places of the queries whose chains pass through the stage
    last: Int64  # their tokens there
    first: Int64  # tokens that these wait for
    earlier_ns: Int64  # arrival of the latter at a source; else the delay of the message that it waited for


def _links(
    workload: Workload, services: Services, exits: Mapping[str, Int64], queries: Int64
) -> Iterator[_Link]:
    """Follow chains from the last stage to the first."""
    order = tuple(workload.stages)
    ends = list[tuple[Int64 | None, Callable[[Int64], Int64]]]()
    for name, own in workload.stages.items():
        ends.append((None if own.one_per_query else own.query, exits[name].__getitem__))
    stage, token = _latest(queries, ends)
    for index in range(len(order) - 1, -1, -1):
        here = np.flatnonzero(stage == index)
        if here.size == 0:
            continue
        made = workload.stages[order[index]]
        arrival_ns, last = workload.arrival_ns(order[index], exits), token[here]
        first = _waited_for(arrival_ns, exits[order[index]], services[order[index]], last)
        if not made.messages:
            yield _Link(index, made, here, last, first, arrival_ns[first])
            continue
        # Along an only edge message k makes token k, unless messages are merged.
        in_order = len(made.messages) == 1 and workload.pipeline.stages[order[index]].join is not Join.ALL
        groups = [(None if in_order else m.child, partial(_sent_ns, m, exits)) for m in made.messages]
        sender, message = _latest(first, groups)
        delays_ns = np.array([messages.edge.delay_ns for messages in made.messages], dtype=np.int64)
        yield _Link(index, made, here, last, first, delays_ns[sender])
        for place, messages in enumerate(made.messages):
            through = sender == place
            stage[here[through]] = order.index(messages.edge.parent)
            token[here[through]] = messages.parent[message[through]]


def _sent_ns(messages: Messages, exits: Mapping[str, Int64], which: Int64) -> Int64:
    """When some messages of an edge arrive."""
    return exits[messages.edge.parent][messages.parent[which]] + np.int64(messages.edge.delay_ns)


def _latest(
    wanted: Int64, groups: Iterable[tuple[Int64 | None, Callable[[Int64], Int64]]]
) -> tuple[Int64, Int64]:
    """Group, by its place, and entry in it with the latest time of each wanted owner; group −1 if it has none.

    A group is the owners of its entries, not decreasing (None for 0, 1, 2, …), and what tells the times of any of
    these. Nor do the times of an owner decrease: bounds on exits do not fall in token order, so the last entry is the
    latest.
    """
    group, entry = np.full(wanted.size, -1, dtype=np.int64), np.zeros(wanted.size, dtype=np.int64)
    latest = np.full(wanted.size, np.iinfo(np.int64).min)
    for place, (owner, times_ns) in enumerate(groups):
        if owner is None:
            time_ns = times_ns(wanted)
            better, last = time_ns > latest, wanted
        elif owner.size:
            last = np.searchsorted(owner, wanted, side="right") - 1
            time_ns = times_ns(last)
            better = (owner[last] == wanted) & (time_ns > latest)
        else:
            continue
        group[better], entry[better], latest[better] = place, last[better], time_ns[better]
    return group, entry


def _waited_for(arrival_ns: Int64, exit_ns: Int64, service: StageService, last: Int64) -> Int64:
    """Token whose arrival and the work since decide when each of `last` starts: the maximum over j ≤ i.

    That is the last one until then which starts when it arrives.
    """
    at_once = np.flatnonzero(exit_ns - arrival_ns == service.latency_ns)
    return at_once[np.searchsorted(at_once, last, side="right") - 1]


@dataclass(frozen=True, eq=False)
class QueryCuts:
    """By how much queries miss a limit at least, as linear functions of every stage's T and 1/R (see `Chains`)."""

    #: Less the limit, and less what rounding may add to any sum about as large as the limit.
    constant_ns: Float64
    uses: Float64
    tokens: Float64
    kept: Allowance  # Which of the queries may miss the limit.

    @classmethod
    def of(cls, chains: Chains, order: Sequence[str], limit_ns: int, kept: Allowance) -> QueryCuts:
        """Make cuts of critical chains, with the stages in the given order."""
        place = [chains.stages.index(stage) for stage in order]
        # Sums of fewer than 4·(stages + 6) terms: off by an ε each, of all terms together. Only the constant may be
        # negative, so where the sum is near the limit these are at most twice |constant| + limit.
        share = 8 * (len(place) + 6) * np.finfo(np.float64).eps
        margin_ns = share * (np.abs(chains.constant_ns) + limit_ns)
        return cls(chains.constant_ns - limit_ns - margin_ns, chains.uses[place], chains.tokens[place], kept)

    def excess_ns(self, latency_ns: Float64, period_ns: Float64) -> Float64:
        """Lower bounds on how far each query misses the limit, given T and 1/R of every stage; shape (q,)."""
        excess: Float64 = self.constant_ns + latency_ns @ self.uses + period_ns @ self.tokens
        return excess

    def refuse(self, excess_ns: Float64) -> bool:
        """Whether too many miss the limit."""
        return self.kept.is_exceeded(excess_ns > 0)

    def refuse_many(
        self, latency_ns: Float64, period_ns: Float64, queries: int = 1024, products: int = 250_000
    ) -> Bool:
        """Whether too many miss the limit, given T and 1/R of every stage of many choices, shape (k, stages).

        Choices meet at most `queries` of them at once (those of several windows together), with at most that many
        products: more would leave the cache, and threads that wait for each other would take over.
        """
        services = np.concatenate([latency_ns, period_ns], axis=1)
        late, refused = np.zeros(len(services), dtype=np.int64), np.zeros(len(services), dtype=bool)
        size = queries if self.kept.is_whole else max(1, self.constant_ns.size)
        for first in range(0, self.constant_ns.size, size):
            some = slice(first, first + size)
            chains = np.concatenate([self.uses[:, some], self.tokens[:, some]])
            in_time = -self.constant_ns[some]
            step = max(1, products // max(1, chains.size))
            for start in range(0, len(services), step):
                asked = slice(start, start + step)
                is_late = services[asked] @ chains > in_time
                if self.kept.is_whole:
                    late[asked] += np.count_nonzero(is_late, axis=1)
                else:
                    refused[asked] = self.kept.are_exceeded(is_late)
        return late > self.kept.total if self.kept.is_whole else refused

    def refuse_some(self, excess_ns: Float64, more_latency_ns: Float64, more_period_ns: Float64) -> list[int]:
        """Stages any one of which, if T and 1/R grow by that much, shape (stages,), makes too many miss the limit."""
        worst = excess_ns + more_latency_ns[:, None] * self.uses + more_period_ns[:, None] * self.tokens
        return np.flatnonzero(self.kept.are_exceeded(worst > 0)).tolist()

    def burdens_ns(self, more_latency_ns: Float64, more_period_ns: Float64) -> Float64:
        """Sum over queries of what they wait longer if T and 1/R of one stage grow by that much, shape (stages,)."""
        burdens: Float64 = more_latency_ns * self.uses.sum(axis=1) + more_period_ns * self.tokens.sum(axis=1)
        return burdens

    def refuse_each(
        self, excess_ns: Float64, stage: int, more_latency_ns: Float64, more_period_ns: Float64
    ) -> Bool:
        """Whether too many miss the limit once T and 1/R of one stage grow that much, at least 0; shape (options,)."""
        if not self.kept.is_whole:
            more = more_latency_ns[:, None] * self.uses[stage] + more_period_ns[:, None] * self.tokens[stage]
            return self.kept.are_exceeded(excess_ns + more > 0)
        needed = self.kept.total + 1 - int(np.count_nonzero(excess_ns > 0))
        # What is on time even where the stage is slowest is on time with all its options.
        slowest = (
            excess_ns + more_latency_ns.max() * self.uses[stage] + more_period_ns.max() * self.tokens[stage]
        )
        doubtful = np.flatnonzero((excess_ns <= 0) & (slowest > 0))
        if doubtful.size < needed:
            return np.zeros(more_latency_ns.size, dtype=bool)
        uses, tokens = self.uses[stage, doubtful], self.tokens[stage, doubtful]
        excess = excess_ns[doubtful] + more_latency_ns[:, None] * uses + more_period_ns[:, None] * tokens
        refused: Bool = np.count_nonzero(excess > 0, axis=1) >= needed
        return refused
