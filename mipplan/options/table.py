"""Options of a stage as columns, which of them can matter (dominance), and the time-cost problem they make."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from mipplan.calculus import PathWaits, StageService, Wait, service_columns
from mipplan.core import UNLIMITED_NS, Bool, InputError, Int64
from mipplan.options.families import Cap, Family, Option, StageFamilies
from mipplan.pipeline import DispatchLaw, Pipeline
from mipplan.profiles import Use, use_column
from mipplan_formulations import Activity, Arc, Cover, Path, Resource, TimeCostProblem


@dataclass(frozen=True)
class StageOptions:
    """Every option of one stage, one per row of equally long columns, shape (m,)."""

    families: StageFamilies
    family: Int64  # index into the families
    replicas: Int64
    cost: Int64  # micro-dollars per hour
    latency_ns: Int64  # T
    period_ns: Int64  # ℓ(b)
    tokens: Int64  # n·b: R = tokens / period_ns
    #: Rank of R among the options that were expanded together: equal exactly when R is, larger when R is larger.
    speed: Int64
    passing: Int64  # under fifo what services say of overtaking, shape (m, slacks); else shape (m, 0)
    uses: Int64  # what each takes of every cap, shape (m, caps)

    @property
    def count(self) -> int:
        """Number of options."""
        return int(self.family.size)

    @property
    def hardware(self) -> NDArray[np.object_]:
        """Hardware of every option, shape (m,)."""
        return np.array([family.hardware for family in self.families.families], dtype=object)[self.family]

    @property
    def limited(self) -> Bool:
        """Whether each option's hardware is shared under a limit, shape (m,)."""
        return np.array([family.limited for family in self.families.families], dtype=bool)[self.family]

    def option(self, row: int) -> Option:
        """Family and replicas of an option."""
        return Option(self.families.families[int(self.family[row])], int(self.replicas[row]))

    def service(self, row: int) -> StageService:
        """T, R and what may overtake under an option."""
        rate = int(self.period_ns[row]), int(self.tokens[row])
        return StageService(int(self.latency_ns[row]), *rate, tuple(self.passing[row].tolist()))

    def no_worse(self, option: Option) -> int:
        """Cheapest option that is no worse than this one in T, R, what may overtake, devices used, and caps.

        Raises `ValueError` if there is none: what `undominated` leaves always holds one, if the option itself
        was among the given.
        """
        (family, replicas), service = option, option.service
        speed = speed_ranks(
            np.append(self.period_ns, service.period_ns), np.append(self.tokens, service.tokens)
        )
        fast = speed[:-1] >= speed[-1]
        devices = ~self.limited | ((self.hardware == family.hardware) & (self.replicas <= replicas))
        orderly = (self.passing <= np.array(service.passing, dtype=np.int64)).all(axis=1)
        orderly &= (self.uses <= np.array(option.uses, dtype=np.int64)).all(axis=1)
        rows = np.flatnonzero(fast & devices & orderly & (self.latency_ns <= service.latency_ns))
        if rows.size == 0:
            raise ValueError(f"no option is as good as {replicas} × {family.hardware} at {family.batch}")
        return int(rows[np.argmin(self.cost[rows])])

    def ideal(self, rows: Int64 | slice = slice(None)) -> StageService:
        """Least T, greatest R and least overtaking among the options, or among some of them."""
        fastest = np.arange(self.count)[rows][np.argmax(self.speed[rows])]
        latency_ns, passing = int(self.latency_ns[rows].min()), self.passing[rows].min(axis=0)
        rate = int(self.period_ns[fastest]), int(self.tokens[fastest])
        return StageService(latency_ns, *rate, tuple(passing.tolist()))

    def keep(self, rows: Bool | Int64) -> StageOptions:
        """Only the options marked or numbered in `rows`; their speeds keep their ranks."""
        columns = (f.name for f in fields(self) if f.name != "families")
        return StageOptions(self.families, *(getattr(self, column)[rows] for column in columns))


def expand(
    stage: StageFamilies, most_microusd: int, dense: int | None = None, also: Option | None = None
) -> StageOptions:
    """Every family with every number of replicas within a budget; with `dense` some of them, and that of `also`."""
    blocks = [family.numbers_within(most_microusd, dense) for family in stage.families]
    if also is not None:
        place = stage.families.index(also.family)
        blocks[place] = np.union1d(blocks[place], [also.replicas])
    return tabulate(stage, blocks)


def extremes(stage: StageFamilies) -> StageOptions:
    """Every family with the most replicas; on limited hardware, which stages share, with every number of them.

    If any plan at all is certified, so is one of these: more replicas of unlimited hardware only help. Under fifo they
    let more tokens overtake, so there all numbers are taken together, as a range (`tabulate`).
    """
    return tabulate(stage, *zip(*(family.extreme_ranges for family in stage.families), strict=True))


def tabulate(
    stage: StageFamilies, blocks: Sequence[Int64] = (), fewest: Sequence[Int64] | None = None
) -> StageOptions:
    """Options with the given numbers of replicas of each family, one array of them per family.

    Where `fewest` are given, too, an option stands for all numbers from these up as something that is no worse: it
    serves what the most do, and costs what the fewest do, and no more tokens overtake than with these.
    """
    own, fewest = stage.families, blocks if fewest is None else fewest
    members = np.repeat(np.arange(len(blocks), dtype=np.int64), [block.size for block in blocks])
    nothing: Int64 = np.empty(0, dtype=np.int64)
    most, replicas = (np.concatenate([nothing, *numbers]) for numbers in (blocks, fewest))

    def column(of: Callable[[Family], int]) -> Int64:
        return np.fromiter(map(of, own), np.int64, len(own))[members]

    batch, full_ns = (
        column(lambda family: family.service_ns.size),
        column(lambda family: int(family.service_ns[-1])),
    )
    longest_ns = column(lambda family: family.longest_ns)
    # A stage is served by one law, whatever it runs on.
    how = own[0].manner if own else (False, DispatchLaw.EAGER, 0, 0)
    latency, period, tokens = service_columns(longest_ns, full_ns, batch, most, *how)
    cost = column(lambda family: family.microusd_per_hour) * replicas
    if any(family.electricity for family in own):
        cost += use_column([family.electricity or Use(0) for family in own], members, replicas)
    orders: Int64 = np.empty((replicas.size, 0), dtype=np.int64)
    if any(family.slacks_ns for family in own):
        orders = np.concatenate([f.passing(block) for f, block in zip(own, fewest, strict=True)])
    taken = [use_column(uses, members, replicas) for uses in zip(*(f.uses for f in own), strict=True)]
    uses = np.stack(taken, axis=1) if taken else np.empty((replicas.size, 0), dtype=np.int64)
    speed = speed_ranks(period, tokens)
    return StageOptions(stage, members, replicas, cost, latency, period, tokens, speed, orders, uses)


def undominated(options: StageOptions) -> StageOptions:
    """Drop each option that another beats or equals in cost, T, R, overtaking, limited devices, and all caps.

    Valid for the certified problem, since the certificate grows with T and falls with R; not valid for replay,
    where batching anomalies break that order ([theory, section 5][5-the-exact-method]). Of equal options the first
    stays.
    """
    limited, names = options.limited, options.hardware
    # An option on limited hardware is beaten only by one that uses none, or no more of the same. Cost is
    # devices × price, so on the same hardware the order by cost is the order by devices used.
    scarce = [limited & (names == name) for name in sorted(set(names[limited]))]
    groups = [(~limited, ~limited), *((own, own | ~limited) for own in scarce)]
    return options.keep(_kept(options, groups))


def undominated_per_hardware(options: StageOptions) -> StageOptions:
    """Drop what another option on the same hardware dominates: for looking at plans that differ in hardware.

    Where the stage has variants, on the same hardware and of the same variant.
    """
    labels = np.array([(f.hardware, f.variant or "") for f in options.families.families], dtype=object)
    own = labels[options.family]
    groups = [(own == label).all(axis=1) for label in sorted({tuple(label) for label in labels.tolist()})]
    return options.keep(_kept(options, [(group, group) for group in groups]))


def _kept(options: StageOptions, groups: Sequence[tuple[Bool, Bool]]) -> Bool:
    """Which options of some groups are not beaten by any that each group is held against, shape (m,)."""
    kept = np.zeros(options.count, dtype=bool)
    levels = np.unique(options.uses, axis=0) if options.uses.size else [None]
    is_priced = any(family.electricity for family in options.families.families)
    if len(levels) > _MOST_LEVELS or (is_priced and options.limited.any()):
        # Power differs from option to option, and with electricity what costs less may take more devices.
        for own, among in groups:
            rows = np.flatnonzero(among)
            devices = np.where(options.limited, options.replicas, 0)[rows]
            more = [*options.uses[rows].T, devices]
            kept[rows] |= _pairwise_frontier(options.keep(rows), own[rows], more) & own[rows]
        return kept
    for uses in levels:
        for own, among in groups:
            if uses is not None:  # what takes more of a cap beats nothing
                own = own & (options.uses == uses).all(axis=1)
                # In this order whatever takes no more comes before: what is left of it beats all that it beat.
                among = own | (among & kept & (options.uses <= uses).all(axis=1))
            kept[own] = _frontier(options, among, own)[own]
    return kept


def _frontier(options: StageOptions, among: Bool, last: Bool) -> Bool:
    """Which of the options marked in `among` no other marked one dominates in (cost, T, R); shape (m,).

    Of options alike in all three one goes that is marked in `last`, for what is not beats it in something else.
    """
    kept = np.zeros(options.count, dtype=bool)
    rows = np.flatnonzero(among)
    if rows.size and np.ptp(options.passing[rows], axis=0).any():
        kept[rows] = _pairwise_frontier(options.keep(rows), last[rows])
        return kept
    kept[rows] = frontier(options.cost[rows], options.latency_ns[rows], options.speed[rows], last[rows])
    return kept


#: Options that differ in what they take of caps are swept level by level up to so many levels, else compared in pairs.
_MOST_LEVELS = 64


def _pairwise_frontier(
    options: StageOptions, last: Bool, more: Sequence[Int64] = (), block: int = 256
) -> Bool:
    """The same for options that differ in overtaking: no sweep is made over so many numbers, all pairs are compared.

    What else an option must not have more of to beat another is in `more`, columns of shape (m,).
    """
    orders = [*more, *options.passing.T, -options.speed, options.latency_ns]
    order = np.lexsort((last, *orders, options.cost))
    kept = np.zeros(options.count, dtype=bool)
    # What beats an option comes before it in this order.
    for start in range(0, order.size, block):
        here = order[start : start + block]
        rivals = np.concatenate([np.flatnonzero(kept), here])
        beaten = np.ones((here.size, rivals.size), dtype=bool)
        for column in orders:
            beaten &= column[rivals] <= column[here, None]
        beaten[:, rivals.size - here.size :] &= np.tri(here.size, k=-1, dtype=bool)
        kept[here] = ~beaten.any(axis=1)
    return kept


def frontier(cost: Int64, latency_ns: Int64, speed: Int64, last: Bool | None = None) -> Bool:
    """Which options no other one dominates in (cost, T, R), given as columns of shape (m,).

    Of options alike in all three the first one stays that is not marked in `last`, if any is.
    """
    kept = np.zeros(cost.size, dtype=bool)
    if cost.size == 0:
        return kept
    order = np.lexsort((-speed, latency_ns, cost) if last is None else (last, -speed, latency_ns, cost))
    levels, level = np.unique(latency_ns[order], return_inverse=True)
    if order.size * levels.size > _LARGEST_GRID:
        kept[order] = swept_frontier(level.tolist(), speed[order].tolist())
        return kept
    # best[k, t]: the greatest speed among the first k options (by cost) with latency level ≤ t.
    best = np.full((order.size + 1, levels.size), -1, dtype=np.int64)
    best[np.arange(1, order.size + 1), level] = speed[order]
    np.maximum.accumulate(best, axis=0, out=best)
    np.maximum.accumulate(best, axis=1, out=best)
    kept[order] = speed[order] > best[np.arange(order.size), level]
    return kept


#: Grids of more entries than this, 256 MiB, would take too much memory: paced options have a T each.
_LARGEST_GRID = 2**25


def swept_frontier(level: list[int], speed: list[int]) -> Bool:
    """Which options are faster than all before them with no greater T, given in order of cost; shape (m,).

    What is kept so far is a staircase, on which speed rises with T; what it stands above is forgotten.
    """
    kept = np.zeros(len(level), dtype=bool)
    levels: list[int] = []
    best: list[int] = []
    for number, (own, fast) in enumerate(zip(level, speed, strict=True)):
        place = bisect_right(levels, own)
        if place and best[place - 1] >= fast:
            continue
        kept[number] = True
        first = place - 1 if place and levels[place - 1] == own else place
        after = bisect_right(best, fast, lo=place)
        levels[first:after], best[first:after] = [own], [fast]
    return kept


def speed_ranks(period_ns: Int64, tokens: Int64) -> Int64:
    """Rank of tokens/period, exactly.

    1/R = period/tokens is split into whole and broken ns. Broken parts are fractions; with denominators up to
    2²⁵ different ones differ by at least 2⁻⁵⁰, and float64 tells them apart without doubt.
    """
    if period_ns.size == 0:
        return np.empty(0, dtype=np.int64)
    if int(tokens.max()) > 2**25:
        ratios = [Fraction(p, t) for p, t in zip(period_ns.tolist(), tokens.tolist(), strict=True)]
        rank_of = {ratio: rank for rank, ratio in enumerate(sorted(set(ratios), reverse=True))}
        return np.array([rank_of[ratio] for ratio in ratios], dtype=np.int64)
    whole, rest = np.divmod(period_ns, tokens)
    broken = rest / tokens
    order = np.lexsort((broken, whole))[::-1]
    changed = (np.diff(whole[order]) != 0) | (np.diff(broken[order]) != 0)
    ranks = np.empty(period_ns.size, dtype=np.int64)
    ranks[order] = np.r_[0, np.cumsum(changed)]
    return ranks


def build_problem(
    pipeline: Pipeline,
    options: Mapping[str, StageOptions],
    paths: PathWaits,
    deadline_ns: int,
    limits: Mapping[str, int],
    *,
    caps: Sequence[Cap] = (),
    covers: Sequence[Cover] = (),
    tolerance: float = 0.0,
) -> TimeCostProblem:
    """Assemble activities, arcs, paths and resources from the options of every stage, in file order, none empty.

    `covers` are cuts found so far. With a `tolerance` of 0 waits are exact, else lower bounds on them, told apart to
    within this share of the deadline.

    Raises `InputError` where deadline or delays are too long for solvers: sums of two such times are no longer exact.
    """
    if max([deadline_ns, *(path.lag_ns for path in paths.paths)]) > UNLIMITED_NS:
        what = "plans are searched for up to latencies of 52 days: are times in the right unit?"
        raise InputError.one("slo_s", what)
    index = {stage: position for position, stage in enumerate(options)}
    used = {f.hardware for table in options.values() for f in table.families.families if f.limited}
    devices = [name for name in limits if name in used]
    activities, least_ns = [], {}
    for stage, table in options.items():
        serial_ns: Int64 = -(-paths.serial_tokens.get(stage, 0) * table.period_ns // table.tokens)
        uses = table.hardware[:, None] == np.array(devices, dtype=object)
        usage = np.where(uses, table.replicas[:, None], 0)
        if caps:
            usage = np.concatenate([usage, table.uses], axis=1)
        # What no deadline allows need not be told apart, here as with delays and waits: solvers could not count it.
        duration_ns = np.minimum(table.latency_ns + serial_ns, UNLIMITED_NS)
        activities.append(Activity(stage, table.cost, duration_ns, usage))
        least_ns[stage] = int(activities[-1].duration.min())
    arcs = tuple(
        Arc(index[edge.parent], index[edge.child], min(edge.delay_ns, UNLIMITED_NS))
        for edge in pipeline.edges
    )
    # Paths share curves: a stage's waits on one are looked up once, unless another path leaves it more slack.
    known: dict[tuple[str, int], tuple[int, Int64]] = {}
    rows = []
    for path in paths.paths:
        # More wait than this no option of the path can afford, whatever the others are.
        slack_ns = deadline_ns - path.lag_ns - sum(least_ns[stage] for stage in path.stages)
        waits = []
        for stage, curve in zip(path.stages, path.curves, strict=True):
            key = (stage, id(curve))
            if key not in known or slack_ns > known[key][0]:
                found = wait_bounds(curve, options[stage], int(tolerance * deadline_ns), slack_ns)
                known[key] = slack_ns, np.minimum(found, UNLIMITED_NS)
            waits.append(known[key][1])
        rows.append(Path(tuple(index[stage] for stage in path.stages), path.lag_ns, tuple(waits)))
    resources = (
        *(Resource(name, limits[name]) for name in devices),
        *(Resource(cap.name, cap.most) for cap in caps),
    )
    return TimeCostProblem(tuple(activities), arcs, tuple(rows), deadline_ns, resources, tuple(covers))


def wait_bounds(
    curve: Wait, options: StageOptions, tolerance_ns: int = 0, beyond_ns: int | None = None
) -> Int64:
    """Wait of every option on the curve's path, or a lower bound on it; shape (m,), ns.

    With a tolerance of 0 every option is evaluated exactly. Otherwise the curve's own lower bounds are taken, only as
    finely as to know these within the tolerance: the wait grows with 1/R, so what bounds that of a faster option bounds
    that of a slower one, too. Bounds above `beyond_ns` need not be told apart.
    """
    if tolerance_ns <= 0 or options.count == 0:
        rates = zip(options.period_ns.tolist(), options.tokens.tolist(), strict=True)
        return np.array([curve.exact(*rate) for rate in rates], dtype=np.int64)
    _, first, place = np.unique(-options.speed, return_index=True, return_inverse=True)
    distinct = list(zip(options.period_ns[first].tolist(), options.tokens[first].tolist(), strict=True))
    # From fast to slow, by halving where the bounds still differ; they do not fall.
    farthest = UNLIMITED_NS if beyond_ns is None else beyond_ns
    least_ns = tolerance_ns // 4  # shorter waits need not be told apart
    found = [0] * len(distinct)
    found[0] = curve.lower(*distinct[0], least_ns, farthest)
    found[-1] = found[0]
    if found[0] <= farthest:
        found[-1] = max(found[0], curve.lower(*distinct[-1], least_ns, farthest))
    pending = [(0, len(distinct) - 1)]
    while pending:
        low, high = pending.pop()
        if found[low] > farthest or found[high] - found[low] <= tolerance_ns:
            found[low + 1 : high] = [found[low]] * max(0, high - low - 1)
        elif high - low > 1:
            middle = (low + high) // 2
            bound_ns = curve.lower(*distinct[middle], least_ns, farthest)
            found[middle] = min(found[high], max(found[low], bound_ns))
            pending += [(low, middle), (middle, high)]
    return np.array(found, dtype=np.int64)[place]
