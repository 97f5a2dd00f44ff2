"""What pricing knows of one pipeline before it knows any price: options that may matter, and what they wait at least.

Prices change from round to round, so an option may be left out only if another beats it whatever the prices are. And
the replicas worth considering have no bound that holds for all prices: beyond a number that is plenty at most prices
they are put together in *ranges*. A range costs what its fewest replicas cost and serves what its most serve, so it
stands for each of its members as something no worse: bounds stay bounds. Where it turns out to be
chosen, the range is spelt out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from mipplan.calculus import StageService, Wait
from mipplan.core import NO_DEADLINE, UNLIMITED_NS, Bool, Deadline, Int64
from mipplan.options import (
    Cap,
    Configuration,
    Family,
    StageFamilies,
    StageOptions,
    tabulate,
    undominated,
    wait_bounds,
)
from mipplan.planner import Instance, WalkParams
from mipplan_formulations import LARGEST_MAGNITUDE

#: Per stage and family the most replicas that are spelt out.
Caps = Mapping[str, tuple[int, ...]]
#: A combination that the certificate refused: some of these stages must beat its T (ns), its R (period in ns and
#: tokens), or what it lets overtake.
Refused = tuple[tuple[str, int, int, int, tuple[int, ...]], ...]


@dataclass(frozen=True)
class PricingParams:
    """How pricing searches; no answer depends on it but for which of equally cheap plans is found."""

    #: Of a family, this many times the fewest replicas are spelt out at first.
    spelt_times: int = 2
    #: This many more replicas are spelt out at first, and what is beyond comes in ranges.
    spelt_more: int = 6
    #: The most replicas of a range are this many times the most of the range before it.
    range_ratio: float = 1.5
    #: At most this many replicas of a family are spelt out, because a table holds them all; a wider range stays.
    most_spelt: int = 20_000
    #: Waits are known to within this share of the deadline until they matter.
    wait_tolerance: float = 0.01
    #: An ascent under new prices takes at most this many steps.
    first_steps: int = 80
    #: An ascent with fewer options in question takes at most this many steps.
    later_steps: int = 25
    #: A step that raises the bound by less than this share gains nothing.
    least_gain: float = 2e-4
    #: An ascent ends once this many steps in a row have gained nothing.
    patience: int = 12
    #: Without a plan in hand, costs are first searched up to this share above the bound.
    first_reach: float = 0.01
    #: Each further search goes this many times as far.
    reach_growth: float = 2.0
    #: At most this many plans within a cost are judged, because each takes a certificate; more are too many.
    most_judged: int = 400
    #: At most this many partial choices are kept where all plans within a cost are wanted, because of memory.
    most_listed: int = 400_000
    walk: WalkParams = field(default_factory=WalkParams)


@dataclass(frozen=True)
class PricingState:
    """What was learnt about a pipeline while pricing it; small, and valid under all prices."""

    refused: tuple[Refused, ...] = ()
    multipliers: tuple[float, ...] = ()  # of the deadline rows, where the last ascent ended
    caps: Caps = field(default_factory=dict)  # empty until they differ from the first guess


@dataclass(frozen=True, eq=False)
class StageTable:
    """The m options of one stage that may be part of a certified plan and that no other beats.

    To beat is to be no worse in cost, T, R, overtaking, limited devices and caps; the cost is that of the replicas
    charged.
    """

    options: StageOptions
    device: Int64  # place of each option's hardware in the fleet's list
    charged: Int64  # replicas to pay for: all, or the fewest of a range

    @cached_property
    def is_range(self) -> Bool:
        """Which options are ranges, shape (m,)."""
        return self.charged < self.options.replicas

    def cost(self, prices: Int64) -> Int64:
        """What options cost at prices of devices, shape (m,); what no program holds, about the most that one does."""
        return np.minimum(prices[self.device], LARGEST_MAGNITUDE // self.charged) * self.charged

    def no_better(self, latency_ns: int, period_ns: int, tokens: int, passing: tuple[int, ...]) -> Bool:
        """Which options have no smaller T, no R > tokens/period_ns, and let no fewer pass, shape (m,); exactly."""
        options = self.options
        largest = max(int(options.tokens.max()) * period_ns, int(options.period_ns.max()) * tokens)
        kind = np.int64 if largest < UNLIMITED_NS * 1024 else object
        own, other = options.tokens.astype(kind, copy=False), options.period_ns.astype(kind, copy=False)
        slow: Bool = (own * period_ns <= tokens * other).astype(bool, copy=False)
        disorderly = (options.passing >= np.array(passing, dtype=np.int64)).all(axis=1)
        return slow & disorderly & (options.latency_ns >= latency_ns)


@dataclass(frozen=True)
class PathRow:
    """One path: the stages on it, which of `PricingTables.waits` holds for each of them, and its lag."""

    stages: tuple[int, ...]
    waits: tuple[int, ...]
    lag_ns: int


@dataclass(eq=False)
class WaitBounds:
    """Lower bounds on the wait of every option of a stage, ns, on the paths that use them; exact where it mattered."""

    stage: int
    use: tuple[int, int]  # one of these paths, and the place of the stage along it: there is the curve
    ns: Int64
    exact: Bool

    def keep(self, rows: Bool) -> WaitBounds:
        """Return the waits of some options only."""
        return replace(self, ns=self.ns[rows], exact=self.exact[rows])

    def sharpen(self, options: StageOptions, rows: Int64, curve: Wait) -> None:
        """Evaluate the waits of some options exactly."""
        rows = rows[~self.exact[rows]]
        for row in rows.tolist():
            exact_ns = curve.exact(int(options.period_ns[row]), int(options.tokens[row]))
            self.ns[row] = max(exact_ns, int(self.ns[row]))
        self.exact[rows] = True


@dataclass(frozen=True, eq=False)
class PricingTables:
    """Everything about a pipeline that does not depend on prices; stages in file order."""

    deadline_ns: int
    names: tuple[str, ...]
    stages: tuple[StageTable, ...]
    paths: tuple[PathRow, ...]
    waits: tuple[WaitBounds, ...]
    caps: tuple[Cap, ...] = ()  # of what options take beside devices

    @property
    def options(self) -> dict[str, StageOptions]:
        """Options by stage."""
        return {name: table.options for name, table in zip(self.names, self.stages, strict=True)}

    @property
    def may_keep_caps(self) -> bool:
        """Whether stages that take as little as they can, of each cap by itself, keep all."""
        least = sum(table.options.uses.min(axis=0) for table in self.stages)
        return bool(np.all(least <= [cap.most for cap in self.caps]))

    def configuration(self, pick: Int64) -> Configuration:
        """Return the plan that takes these rows, shape (stages,)."""
        rows = zip(self.options.items(), pick.tolist(), strict=True)
        return Configuration({name: options.option(row) for (name, options), row in rows})

    def services(self, pick: Int64) -> dict[str, StageService]:
        """T, R and overtaking of these rows, shape (stages,); of a range what is no worse than any of its members."""
        rows = zip(self.options.items(), pick.tolist(), strict=True)
        return {name: options.service(row) for (name, options), row in rows}

    def devices(self, picks: Int64, types: int) -> Int64:
        """Devices of each type that choices are charged for; shapes (k, stages) and (k, types)."""
        used = np.zeros((picks.shape[0], types), dtype=np.int64)
        for table, rows in zip(self.stages, picks.T, strict=True):
            used[np.arange(rows.size), table.device[rows]] += table.charged[rows]
        return used

    def is_refused(self, picks: Int64, refused: Refused) -> Bool:
        """Which choices are no better than what was refused; shapes (k, stages) and (k,)."""
        mask = np.ones(picks.shape[0], dtype=bool)
        for name, latency_ns, period_ns, tokens, passing in refused:
            place = self.names.index(name)
            no_better = self.stages[place].no_better(latency_ns, period_ns, tokens, passing)
            mask &= no_better[picks[:, place]]
        return mask


def make_tables(
    instance: Instance,
    hardware: Sequence[str],
    caps: Caps,
    params: PricingParams,
    deadline: Deadline = NO_DEADLINE,
) -> PricingTables:
    """Tabulate the options of every stage, bound their waits, and drop those that no certified plan can contain.

    Raises `LimitReachedError` if the deadline passes before that is done.
    """
    order = list(instance.families)
    tables = [_tabulate(instance.families[stage], caps[stage], params.range_ratio) for stage in order]
    # Paths share curves: each pair of stage and curve has an entry, which knows the first place where it counts.
    entries: dict[tuple[int, int], tuple[int, Wait, tuple[int, int]]] = {}
    rows = []
    for number, path in enumerate(instance.oracle.paths.paths):
        stages = tuple(order.index(name) for name in path.stages)
        waits = []
        for place, (stage, curve) in enumerate(zip(stages, path.curves, strict=True)):
            entry, *_ = entries.setdefault((stage, id(curve)), (len(entries), curve, (number, place)))
            waits.append(entry)
        rows.append(PathRow(stages, tuple(waits), path.lag_ns))
    least = [int(table.latency_ns.min()) for table in tables]
    slack_ns = [instance.deadline_ns - row.lag_ns - sum(least[other] for other in row.stages) for row in rows]
    tolerance_ns = int(params.wait_tolerance * instance.deadline_ns)
    bounds = []
    for (stage, _), (_, curve, use) in entries.items():
        most_ns = max(slack for row, slack in zip(rows, slack_ns, strict=True) if stage in row.stages)
        deadline.check()
        ns = wait_bounds(curve, tables[stage], tolerance_ns, most_ns)
        bounds.append(WaitBounds(stage, use, ns, np.zeros(ns.size, dtype=bool)))
    usable = [np.ones(table.count, dtype=bool) for table in tables]
    for row, slack in zip(rows, slack_ns, strict=True):
        for stage, entry in zip(row.stages, row.waits, strict=True):
            usable[stage] &= tables[stage].latency_ns - least[stage] + bounds[entry].ns <= slack
    return PricingTables(
        instance.deadline_ns,
        tuple(order),
        tuple(_stage_table(table.keep(kept), hardware) for table, kept in zip(tables, usable, strict=True)),
        tuple(rows),
        tuple(wait.keep(usable[wait.stage]) for wait in bounds),
        instance.caps,
    )


def _tabulate(found: StageFamilies, caps: Sequence[int], ratio: float) -> StageOptions:
    """Replicas spelt out up to the caps, and in ranges beyond; without what is beaten whatever the prices are."""
    spelt = [_replicas(family, cap, ratio) for family, cap in zip(found.families, caps, strict=True)]
    # As a range serves what its most replicas do, lets pass what its fewest do, and costs what these cost.
    table = tabulate(found, *zip(*spelt, strict=True))
    return undominated(replace(table, replicas=np.concatenate([offered for offered, _ in spelt])))


def _replicas(family: Family, cap: int, ratio: float) -> tuple[Int64, Int64]:
    """Replicas on offer, and those charged for."""
    offered = list(range(family.fewest, min(cap, family.most) + 1))
    charged = offered.copy()
    while (last := offered[-1]) < family.most:
        offered.append(min(family.most, max(last + 1, int(last * ratio))))
        charged.append(last + 1)
    return np.array(offered, dtype=np.int64), np.array(charged, dtype=np.int64)


def _stage_table(options: StageOptions, hardware: Sequence[str]) -> StageTable:
    families = options.families.families
    place = np.array([hardware.index(family.hardware) for family in families], dtype=np.int64)
    prices = np.array([family.microusd_per_hour for family in families], dtype=np.int64)
    return StageTable(options, place[options.family], options.cost // prices[options.family])
