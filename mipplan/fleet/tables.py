"""What pricing knows of one pipeline before it knows any price: options that may matter, and what they wait at least.

Prices change from round to round, so an option may be left out only if another beats it whatever the prices are. And
the replicas worth considering have no bound that holds for all prices: beyond a number that is plenty at most prices
they are put together in *ranges*. A range costs what its fewest replicas cost and serves what its most serve, so it
stands for each of its members as something no worse: bounds stay bounds. Where it turns out to be
chosen, the range is spelt out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mipplan.calculus import PathWait, Wait
from mipplan.core import Int64
from mipplan.options import Family, StageFamilies, StageOptions, tabulate, undominated, wait_bounds
from mipplan.planner import Instance

#: Replicas to spell out per family: this many times the fewest, and a few more.
_TIMES, _MORE = 2, 6
#: From one range to the next.
_RATIO = 1.5
#: Waits are known to within this share of the deadline until it matters.
_TOLERANCE = 0.01

#: Per stage and family the most replicas that are spelt out.
Caps = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class StageTable:
    """Options of one stage.

    Attributes
    ----------
    options : StageOptions
        Those that may be part of a certified plan and that no other beats in cost, T, R and every limited device;
        its cost is that of the replicas charged.
    device : int64, shape (m,)
        Place of each option's hardware in the fleet's list.
    charged : int64, shape (m,)
        Replicas to pay for: all, or the fewest of a range.
    """

    options: StageOptions
    device: Int64
    charged: Int64


@dataclass(frozen=True, eq=False)
class PathRow:
    """One path: which stages lie on it, and for each of them which entry of `PricingTables.waits` holds.

    Attributes
    ----------
    stages : tuple of int
    waits : tuple of int
    lag_ns : int
    """

    stages: tuple[int, ...]
    waits: tuple[int, ...]
    lag_ns: int


@dataclass(eq=False)
class PricingTables:
    """Everything about a pipeline that does not depend on prices.

    Attributes
    ----------
    stages : tuple of StageTable
        In file order.
    paths : tuple of PathRow
    waits : list of int64 arrays, shape (options of the stage,)
        Lower bounds on the wait of every option, ns; they become exact where that mattered once.
    exact : list of bool arrays
        Which of them are.
    owners : tuple of int
        The stage that each entry of `waits` belongs to.
    uses : tuple of tuple of (int, int)
        Which paths use each entry, and at which place along them.
    """

    stages: tuple[StageTable, ...]
    paths: tuple[PathRow, ...]
    waits: list[Int64]
    exact: list[NDArray[np.bool_]]
    owners: tuple[int, ...]
    uses: tuple[tuple[tuple[int, int], ...], ...]

    def sharpen(self, entry: int, rows: Int64, curves: Sequence[Wait]) -> None:
        """Evaluate the waits of some options exactly; of several curves the lowest counts, which holds for all."""
        rows = rows[~self.exact[entry][rows]]
        options = self.stages[self.owners[entry]].options
        for row in rows.tolist() if curves else ():
            rate = int(options.period_ns[row]), int(options.tokens[row])
            found = min(curve.exact(*rate) for curve in curves)
            self.waits[entry][row] = max(found, int(self.waits[entry][row]))
        self.exact[entry][rows] = True

    def doubt(self) -> None:
        """Take no wait for exact: what they are computed from has grown."""
        for marked in self.exact:
            marked[:] = False


def first_caps(families: Mapping[str, StageFamilies]) -> dict[str, tuple[int, ...]]:
    """How many replicas of each family to spell out at first."""
    return {
        stage: tuple(min(family.most, _TIMES * family.fewest + _MORE) for family in found.families)
        for stage, found in families.items()
    }


def make_tables(instance: Instance, hardware: Sequence[str], caps: Caps) -> PricingTables:
    """Tabulate the options of every stage, bound their waits, and drop those that no certified plan can contain.

    Parameters
    ----------
    instance : Instance
    hardware : sequence of str
        The fleet's hardware types, in the order in which devices are counted.
    caps : mapping of str to tuple of int
    """
    order = list(instance.families)
    tables = [_tabulate(instance.families[stage], caps[stage]) for stage in order]
    paths = instance.oracle.paths.paths
    entries, rows = _entries(paths, order)
    least = [int(table.latency_ns.min()) for table in tables]
    waits = []
    for (stage, _), curve in entries.items():
        slack_ns = max(_slack_ns(row, least, instance.deadline_ns) for row in rows if stage in row.stages)
        tolerance_ns = int(_TOLERANCE * instance.deadline_ns)
        waits.append(wait_bounds(curve, tables[stage], tolerance_ns, slack_ns))
    owners = tuple(stage for stage, _ in entries)
    uses: list[list[tuple[int, int]]] = [[] for _ in entries]
    for number, row in enumerate(rows):
        for place, entry in enumerate(row.waits):
            uses[entry].append((number, place))
    usable = [np.ones(table.count, dtype=bool) for table in tables]
    for row in rows:
        spare_ns = _slack_ns(row, least, instance.deadline_ns)
        for stage, entry in zip(row.stages, row.waits, strict=True):
            usable[stage] &= tables[stage].latency_ns - least[stage] + waits[entry] <= spare_ns
    places = {name: place for place, name in enumerate(hardware)}
    return PricingTables(
        tuple(_stage_table(table.keep(kept), places) for table, kept in zip(tables, usable, strict=True)),
        tuple(rows),
        [wait[usable[stage]] for wait, stage in zip(waits, owners, strict=True)],
        [np.zeros(int(usable[stage].sum()), dtype=bool) for stage in owners],
        owners,
        tuple(tuple(used) for used in uses),
    )


def curves_of(tables: PricingTables, paths: Sequence[PathWait], stages: Sequence[str]) -> list[list[Wait]]:
    """Return the curves behind each entry of `PricingTables.waits`, none where a path is not among those given.

    Once more of a trace is looked at, paths that shared a curve may each have their own, and come in another order.
    """
    known = {path.stages: path for path in paths}
    asked = [tuple(stages[stage] for stage in row.stages) for row in tables.paths]
    found: list[list[Wait]] = []
    for used in tables.uses:
        there = all(asked[number] in known for number, _ in used)
        curves = [known[asked[number]].curves[place] for number, place in used] if there else []
        found.append(list({id(curve): curve for curve in curves}.values()))
    return found


def _entries(
    paths: Sequence[PathWait], order: list[str]
) -> tuple[dict[tuple[int, int], Wait], list[PathRow]]:
    """Distinct pairs of stage and curve, and the paths in terms of them."""
    index = {stage: place for place, stage in enumerate(order)}
    entries: dict[tuple[int, int], Wait] = {}
    rows = []
    for path in paths:
        members = tuple(index[stage] for stage in path.stages)
        keys = [(stage, id(curve)) for stage, curve in zip(members, path.curves, strict=True)]
        for key, curve in zip(keys, path.curves, strict=True):
            entries.setdefault(key, curve)
        numbers = {key: number for number, key in enumerate(entries)}
        rows.append(PathRow(members, tuple(numbers[key] for key in keys), path.lag_ns))
    return entries, rows


def _slack_ns(row: PathRow, least: Sequence[int], deadline_ns: int) -> int:
    """What the least T of all its stages leaves of the deadline on a path."""
    return deadline_ns - row.lag_ns - sum(least[other] for other in row.stages)


def _tabulate(found: StageFamilies, caps: Sequence[int]) -> StageOptions:
    """Replicas spelt out up to the caps, and in ranges beyond; without what is beaten whatever the prices are."""
    blocks, charged = zip(
        *(_blocks(f, cap) for f, cap in zip(found.families, caps, strict=True)), strict=True
    )
    table = tabulate(found, blocks)
    price = np.array([family.microusd_per_hour for family in found.families], dtype=np.int64)
    return undominated(replace(table, cost=price[table.family] * np.concatenate(charged)))


def _blocks(family: Family, cap: int) -> tuple[Int64, Int64]:
    """Replicas on offer, and those charged for."""
    exact = list(range(family.fewest, min(cap, family.most) + 1))
    charged = exact.copy()
    last = exact[-1]
    while last < family.most:
        following = min(family.most, max(last + 1, int(last * _RATIO)))
        exact.append(following)
        charged.append(last + 1)
        last = following
    return np.array(exact, dtype=np.int64), np.array(charged, dtype=np.int64)


def _stage_table(options: StageOptions, places: Mapping[str, int]) -> StageTable:
    families = options.families.families
    place = np.array([places[family.hardware] for family in families], dtype=np.int64)
    price = np.array([family.microusd_per_hour for family in families], dtype=np.int64)
    return StageTable(options, place[options.family], options.cost // price[options.family])
