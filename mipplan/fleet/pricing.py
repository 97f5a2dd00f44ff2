"""Pricing: the cheapest certified plan of one pipeline when devices have other prices.

The same exact method as `mipplan.planner.benders` (a relaxation, the certificate as judge, cuts from what it refuses),
made for being asked again and again: multipliers, cuts and sharpened waits stay valid under all prices, so a later
question is mostly answered by a bound, or by judging a handful of choices. Choices are enumerated within the bound
instead of handed to a solver; where they are too many, the planner's own search takes over.

References
----------
Claim 1 of formulations/columns.md; J. N. Hooker, G. Ottosson, "Logic-based Benders decomposition", Math. Program. 96
(2003), doi:10.1007/s10107-003-0375-9.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mipplan.curves import PathWaits, StageService, Wait
from mipplan.fleet.enumeration import Candidates, StagePart, TooManyError, enumerate_choices
from mipplan.fleet.relaxation import DeadlineRows, Relaxed
from mipplan.fleet.tables import Caps, PricingTables, StageTable, curves_of, first_caps, make_tables
from mipplan.options import StageOptions, frontier
from mipplan.planner.benders import Search
from mipplan.planner.cuts import strengthen
from mipplan.planner.instance import Instance
from mipplan.planner.judges import TraceJudge
from mipplan.result import Choice
from mipplan.units import UNLIMITED_NS
from mipplan_formulations import FORMULATIONS

Integers = NDArray[np.int64]
#: Steps of an ascent from scratch, and with fewer options in question.
_FIRST_STEPS, _LATER_STEPS = 80, 25
#: Without a plan in hand, costs are searched up to this share above the bound, then further.
_FIRST_STEP, _FURTHER = 0.01, 2.0
#: Of all plans within a cost no more than this are judged, and no more choices listed.
_MOST_JUDGED, _MOST_LISTED = 400, 400_000
#: Ranges are spelt out up to so many replicas; a wider one stays a bound.
MOST_SPELT = 20_000

#: Stage, T in ns, period in ns, tokens: a plan is refused whose every such stage has no smaller T and no greater R.
Refused = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class Column:
    """A certified plan of one pipeline.

    Attributes
    ----------
    choices : tuple of Choice
        In file order of the stages.
    devices : tuple of int
        Devices used of each of the fleet's hardware types.
    """

    choices: tuple[Choice, ...]
    devices: tuple[int, ...]


@dataclass(frozen=True)
class Memory:
    """What was learnt about a pipeline while pricing it; small, and valid under all prices.

    Attributes
    ----------
    refused : tuple of Refused
    multipliers : tuple of float
        Of the deadline rows, where the last ascent ended.
    caps : mapping of str to tuple of int
        How many replicas are spelt out; empty until that differs from the first guess.
    """

    refused: tuple[Refused, ...] = ()
    multipliers: tuple[float, ...] = ()
    caps: Caps = field(default_factory=dict)


@dataclass(frozen=True)
class Priced:
    """The answer to one question.

    Attributes
    ----------
    lower_bound : int
        No certified plan of the pipeline costs less under these prices.
    columns : tuple of Column
        A plan that attains it, unless the caller has one already (or none exists); all plans within a cost where
        these were asked for.
    feasible : bool
        False: there is no certified plan at all, whatever the prices.
    complete : bool
        False: all plans were asked for, and there are too many.
    """

    lower_bound: int
    columns: tuple[Column, ...] = ()
    feasible: bool = True
    complete: bool = True


class Pricer:
    """One pipeline, ready to be priced.

    Parameters
    ----------
    make_instance : callable
        Realises the pipeline's request; called when the certificate is needed and the instance is not at hand.
    hardware : tuple of str
        The fleet's hardware types, in the order in which devices are counted.
    memory : Memory
        What was learnt before.
    """

    def __init__(
        self, make_instance: Callable[[], Instance], hardware: tuple[str, ...], memory: Memory | None = None
    ) -> None:
        self._make_instance = make_instance
        self._hardware = hardware
        self._instance: Instance | None = None
        self._paths: PathWaits | None = None
        self._curves: list[list[Wait]] = []
        self.memory = Memory() if memory is None else memory
        instance = self.instance
        self.deadline_ns = instance.deadline_ns
        self._size = _trace_judge(instance).tokens
        self.limits = np.array(
            [instance.limits.get(name, np.iinfo(np.int64).max) for name in hardware], dtype=np.int64
        )
        self.stages = tuple(instance.families)
        self.tables = self._tabulate()
        self.hopeless = self.tables is None or not instance.keeps_slo(self._ideal())

    @property
    def instance(self) -> Instance:
        """The pipeline's request, realised."""
        if self._instance is None:
            self._instance = self._make_instance()
        return self._instance

    def forget_instance(self) -> None:
        """Let go of the trace and all that was made of it; it comes back when needed."""
        self._instance = self._paths = None
        self._curves = []

    def forget_exits(self) -> None:
        """Let go of what certificates were last computed from; the trace stays."""
        if self._instance is not None:
            _trace_judge(self._instance).forget()

    def recall(self, memory: Memory) -> None:
        """Take on what was learnt elsewhere."""
        if dict(memory.caps) != dict(self.memory.caps):
            self.memory = memory
            self.forget_instance()
            self.tables = self._tabulate()
        self.memory = memory

    @property
    def tokens(self) -> int:
        """Tokens of the trace at all stages together."""
        return self._size

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the trace's tokens, which can be drawn again."""
        return {**self.__dict__, "_instance": None, "_paths": None, "_curves": []}

    def price(self, prices: Integers, most: int | None) -> Priced:
        """Find the cheapest certified plan under `prices`.

        Parameters
        ----------
        prices : int64, shape (H,)
            Of one device of each hardware type; not negative.
        most : int or None
            Only plans that cost at most this much are of interest.

        Returns
        -------
        Priced
            With a column if there is a plan of at most that cost; without, the lower bound is above `most`.
        """
        if self.hopeless:
            return Priced(0, feasible=False)
        priced = self._price_exactly(prices, most, firm=False)
        if all(map(self._keeps_limits, priced.columns)):
            return priced
        return self._price_exactly(prices, most, firm=True)

    def _price_exactly(self, prices: Integers, most: int | None, *, firm: bool) -> Priced:
        """Price, and where a range of replicas is chosen, spell it out and price again.

        Whether limits bind a pipeline alone is mostly not the question, and without them fewer options
        matter. So they are left out at first, which can only make plans cheaper (`firm` puts them in).
        """
        while True:
            priced, spelt = self._price_once(_Question(self, prices, firm=firm), most)
            if spelt is None:
                return priced
            self._spell_out(spelt)

    def price_all(self, prices: Integers, most: int) -> Priced:
        """Find all certified plans that cost at most `most` under `prices`.

        Left out are plans that another one beats or equals in devices of every type: whatever the prices are, they
        are of no use.
        """
        if self.hopeless:
            return Priced(0, feasible=False)
        while True:
            question = _Question(self, prices, firm=True)
            try:
                picks = question.all_within(most)
            except TooManyError:
                return Priced(0, complete=False)
            spelt = next((ranges for pick in picks if (ranges := self._ranges(question, pick))), None)
            if spelt is None:
                return Priced(0, tuple(map(self.column_of, picks)))
            self._spell_out(spelt)

    def _keeps_limits(self, column: Column) -> bool:
        return bool(np.all(np.array(column.devices) <= self.limits))

    # ------------------------------------------------------------------------------------- one attempt

    def _price_once(self, question: _Question, most: int | None) -> tuple[Priced, Mapping[str, int] | None]:
        """Answer, and say which ranges to spell out before the answer counts (None: it does)."""
        reach = _FIRST_STEP
        while True:
            if most is not None and question.bound > most:
                # No more than was asked for: how much higher the bound is depends on what was learnt before.
                return Priced(most + 1), None
            goal = math.ceil(question.bound * (1.0 + reach)) + 1
            if most is not None:
                goal = most if goal > most - (goal - question.bound) // 4 else goal
            goal = min(goal, question.dearest)
            try:
                found = question.cheapest_within(goal)
            except TooManyError:
                return self._search(question, most)
            if found is not None:
                return self._answer(question, *found)
            if goal == question.dearest:
                return Priced(0, feasible=False), None  # nothing on offer is certified within the limits
            question.raise_bound(goal + 1)
            reach *= _FURTHER

    def _answer(
        self, question: _Question, pick: Integers, cost: int
    ) -> tuple[Priced, Mapping[str, int] | None]:
        """Turn the cheapest choice into an answer; a range in it is spelt out first, unless it is a wide one."""
        ranges = self._ranges(question, pick)
        return Priced(cost, (self.column_of(pick),)), ranges or None

    def _ranges(self, question: _Question, pick: Integers) -> dict[str, int]:
        """Ranges in a choice that are worth spelling out: row of the table by stage."""
        ranges: dict[str, int] = {}
        for stage, table, row in zip(self.stages, self.required_tables.stages, pick.tolist(), strict=True):
            replicas = int(table.options.replicas[row])
            price = int(question.prices[table.device[row]])
            if table.charged[row] < replicas <= MOST_SPELT and price > 0:
                ranges[stage] = row
        return ranges

    def _search(self, question: _Question, most: int | None) -> tuple[Priced, Mapping[str, int] | None]:
        """Let the planner's own search answer; it counts devices, so no range of limited ones may be left."""
        ranges = {
            stage: int(np.flatnonzero(ranged)[-1])
            for stage, table in zip(self.stages, self.required_tables.stages, strict=True)
            if (ranged := (table.charged < table.options.replicas) & table.options.limited).any()
        }
        if ranges:
            return Priced(0), ranges
        options = {
            stage: replace(table.options, cost=question.prices[table.device] * table.charged)
            for stage, table in zip(self.stages, self.required_tables.stages, strict=True)
        }
        search = Search(
            self.instance,
            options,
            FORMULATIONS["paths"],
            "auto",
            math.inf,
            lambda _: None,
            budget=most,
        )
        outcome = search.run()
        if not outcome.finished:
            raise KeyboardInterrupt  # it has no other limit, and took the interrupt for one
        if outcome.best is None:
            return Priced(0 if most is None else most + 1, feasible=most is not None), None
        pick = np.array([outcome.best.selection[stage] for stage in self.stages], dtype=np.int64)
        return self._answer(question, pick, outcome.best.cost)

    # --------------------------------------------------------------------------------- what it rests on

    @property
    def required_tables(self) -> PricingTables:
        """The tables; there are some unless the pipeline is hopeless."""
        if self.tables is None:
            raise AssertionError("a hopeless pipeline is not priced")
        return self.tables

    def column_of(self, pick: Integers) -> Column:
        """Return the plan that takes these rows of the tables."""
        devices = [0] * len(self._hardware)
        choices = []
        for table, row in zip(self.required_tables.stages, pick.tolist(), strict=True):
            choice = table.options.choice(row)
            devices[int(table.device[row])] += choice.replicas
            choices.append(choice)
        return Column(tuple(choices), tuple(devices))

    def services(self, pick: Integers) -> dict[str, StageService]:
        """Service of every stage under these rows of the tables."""
        tables = self.required_tables.stages
        return {
            stage: table.options.service(row)
            for stage, table, row in zip(self.stages, tables, pick.tolist(), strict=True)
        }

    def judge(self, pick: Integers) -> Refused | None:
        """Ask the certificate; None if it keeps the deadline, else what is refused with this choice."""
        services = self.services(pick)
        instance = self.instance
        if instance.keeps_slo(services):
            return None
        options = self._options()

        def test_from(at: Mapping[str, StageService]) -> Callable[[Mapping[str, StageService]], bool]:
            test = instance.quick_test(at).surely_exceeds
            return test if test(at) else instance.surely_misses_slo

        cut = strengthen(services, options, test_from, self.stages, True)
        refused = []
        for stage, latency_ns, speed in cut:
            table = options[stage]
            row = int(np.flatnonzero(table.speed == speed)[0])
            refused.append((stage, latency_ns, int(table.period_ns[row]), int(table.tokens[row])))
        self.memory = replace(self.memory, refused=(*self.memory.refused, tuple(refused)))
        return tuple(refused)

    def sharpen(self, entry: int, rows: Integers) -> None:
        """Make waits exact where they may decide."""
        tables = self.required_tables
        if not tables.exact[entry][rows].all():
            self._look_up_curves()
            tables.sharpen(entry, rows, self._curves[entry])

    def has_learnt(self) -> bool:
        """Whether waits can be known better since the judge has been asked; then none counts as exact."""
        if self.instance.judge.paths is self._paths:
            return False
        self._look_up_curves()
        self.required_tables.doubt()
        return True

    def _look_up_curves(self) -> None:
        paths = self.instance.judge.paths
        if paths is not self._paths:
            self._curves = curves_of(self.required_tables, paths.paths, self.stages)
            self._paths = paths

    def _tabulate(self) -> PricingTables | None:
        families = self.instance.families
        if not all(found.families for found in families.values()):
            return None
        caps = self.memory.caps or first_caps(families)
        tables = make_tables(self.instance, self._hardware, caps)
        return tables if all(table.options.count for table in tables.stages) else None

    def _spell_out(self, rows: Mapping[str, int]) -> None:
        """Spell out more replicas of the families whose ranges were chosen, up to what was chosen."""
        caps = dict(self.memory.caps or first_caps(self.instance.families))
        for stage, row in rows.items():
            options = self.required_tables.stages[self.stages.index(stage)].options
            family = int(options.family[row])
            reached = list(caps[stage])
            reached[family] = max(reached[family], int(options.replicas[row]))
            caps[stage] = tuple(reached)
        self.memory = replace(self.memory, caps=caps)
        # A fresh instance, so that tables do not depend on what the judge has learnt meanwhile.
        self.forget_instance()
        self.tables = self._tabulate()

    def _options(self) -> dict[str, StageOptions]:
        tables = self.required_tables.stages
        return {stage: table.options for stage, table in zip(self.stages, tables, strict=True)}

    def _ideal(self) -> dict[str, StageService]:
        return {stage: options.ideal() for stage, options in self._options().items()}


class _Question:
    """One pipeline under one set of prices, with or without the limits on devices."""

    def __init__(self, pricer: Pricer, prices: Integers, *, firm: bool) -> None:
        self._pricer = pricer
        self.prices = prices
        self._limits = pricer.limits if firm else np.full_like(pricer.limits, np.iinfo(np.int64).max)
        self._tables = pricer.required_tables
        costs = [prices[table.device] * table.charged for table in self._tables.stages]
        self._rows = [
            # What beats another at these prices may use more of a limited device.
            np.arange(cost.size) if firm else np.flatnonzero(_frontier(table, cost))
            for table, cost in zip(self._tables.stages, costs, strict=True)
        ]
        self._cost = [cost[rows] for cost, rows in zip(costs, self._rows, strict=True)]
        self._kept = [np.ones(rows.size, dtype=bool) for rows in self._rows]
        self.dearest = sum(int(cost.max()) for cost in self._cost)
        self._proven = 0
        known = np.array(pricer.memory.multipliers)
        size = sum(len(path.stages) for path in self._tables.paths)
        self._relaxed = self._ascend(known if known.size == size else np.zeros(size), _FIRST_STEPS)

    @property
    def bound(self) -> int:
        """No certified plan costs less."""
        return max(self._proven, math.ceil(self._relaxed.bound))

    def raise_bound(self, proven: int) -> None:
        """Note that no certified plan costs less than `proven`."""
        self._proven = max(self._proven, proven)

    def cheapest_within(self, most: int) -> tuple[Integers, int] | None:
        """Cheapest certified choice that costs at most `most`, and its cost; None if there is none.

        Raises
        ------
        TooManyError
        """
        while True:
            parts = self._parts(most)
            if parts is None:
                return None
            spare = most - self._relaxed.bound
            found = self._without_refused(
                enumerate_choices(
                    self._tables, parts, self._pricer.deadline_ns, spare, most, self._limits
                ).in_order()
            )
            best, learnt = self._first_certified(found)
            if not learnt:
                return best

    def all_within(self, most: int) -> list[Integers]:
        """All certified choices of at most that cost, but for those that another one beats in every device.

        Raises
        ------
        TooManyError
            Also if judging them all would take too long.
        """
        parts = self._parts(most)
        if parts is None:
            return []
        spare = most - self._relaxed.bound
        found = self._without_refused(
            enumerate_choices(
                self._tables, parts, self._pricer.deadline_ns, spare, most, self._limits, _MOST_LISTED
            ).in_order()
        )
        devices = self._devices(found)
        certified: list[Integers] = []
        for _ in range(_MOST_JUDGED):
            if not found.cost.size:
                return certified
            pick = found.picks[0]
            refused = self._pricer.judge(pick)
            if refused is None:
                certified.append(pick)
                kept = (devices < devices[0]).any(axis=1)
            else:
                kept = ~self._is_refused(found, refused)
            found, devices = found.keep(kept), devices[kept]
        raise TooManyError

    def _devices(self, found: Candidates) -> Integers:
        """Devices of each type that the choices are charged for, shape (k, H)."""
        used = np.zeros((found.cost.size, self.prices.size), dtype=np.int64)
        for place, table in enumerate(self._tables.stages):
            rows = found.picks[:, place]
            used[np.arange(rows.size), table.device[rows]] += table.charged[rows]
        return used

    def _first_certified(self, found: Candidates) -> tuple[tuple[Integers, int] | None, bool]:
        """First choice that the certificate does not refuse; or whether refusing one has taught something."""
        while found.cost.size:
            pick = found.picks[0]
            refused = self._pricer.judge(pick)
            if refused is None:
                return (pick, int(found.cost[0])), False
            if self._pricer.has_learnt():
                return None, True
            found = found.keep(~self._is_refused(found, refused))
        return None, False

    def _without_refused(self, found: Candidates) -> Candidates:
        for refused in self._pricer.memory.refused:
            found = found.keep(~self._is_refused(found, refused))
        return found

    def _parts(self, most: int) -> list[StagePart] | None:
        """Options that may be part of a plan of at most that cost; None if some stage has none."""
        for _ in range(2):
            if not self._drop(most):
                return None
            if not self._sharpen():
                break
            self._relaxed = self._ascend(self._relaxed.multipliers, _LATER_STEPS)
        if not self._drop(most):
            return None
        self._sharpen()  # of what the last ascent has brought back
        added = self._split(self._relaxed.added)
        parts = zip(self._rows, self._cost, added, self._kept, strict=True)
        return [StagePart(rows[kept], cost[kept], extra[kept]) for rows, cost, extra, kept in parts]

    def _drop(self, most: int) -> bool:
        """Mark what may be part of a plan of at most that cost; return whether every stage has such an option."""
        self._kept = [self._relaxed.bound + extra <= most for extra in self._split(self._relaxed.added)]
        return all(kept.any() for kept in self._kept)

    def _sharpen(self) -> bool:
        """Make the waits of options in question exact; return whether any was not."""
        sharper = False
        for entry, owner in enumerate(self._tables.owners):
            rows = self._rows[owner][self._kept[owner]]
            if not self._tables.exact[entry][rows].all():
                self._pricer.sharpen(entry, rows)
                sharper = True
        return sharper

    def _ascend(self, multipliers: NDArray[np.float64], steps: int) -> Relaxed:
        rows = self._deadline_rows()
        best = rows.relaxed(multipliers)
        target = max(best.bound, float(self._proven), float(sum(c.min() for c in self._cost))) * 1.03 + 1.0
        for _ in range(6):
            reached = rows.ascend(best.multipliers, target, steps)
            best = reached if reached.bound > best.bound else best
            if best.bound < target * 0.99:
                break
            target = best.bound * 1.2 + 1.0  # the goal was too near
        memory = self._pricer.memory
        self._pricer.memory = replace(memory, multipliers=tuple(best.multipliers.tolist()))
        return best

    def _deadline_rows(self) -> DeadlineRows:
        """Rows (4) of formulation `paths` over the options on the frontier."""
        tables, deadline = self._tables, float(self._pricer.deadline_ns)
        starts = np.cumsum([0, *(rows.size for rows in self._rows)])
        taken = np.zeros((int(starts[-1]), sum(len(path.stages) for path in tables.paths)))
        room = np.empty(taken.shape[1])
        first = 0
        for path in tables.paths:
            columns = slice(first, first + len(path.stages))
            room[columns] = (deadline - path.lag_ns) / deadline
            for place, (stage, entry) in enumerate(zip(path.stages, path.waits, strict=True)):
                block = slice(starts[stage], starts[stage + 1])
                rows = self._rows[stage]
                taken[block, columns] = (tables.stages[stage].options.latency_ns[rows] / deadline)[:, None]
                taken[block, first + place] += tables.waits[entry][rows] / deadline
            first += len(path.stages)
        return DeadlineRows(np.concatenate(self._cost), taken, room, starts[:-1])

    def _split(self, values: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        return np.split(values, np.cumsum([rows.size for rows in self._rows])[:-1])

    def _is_refused(self, found: Candidates, refused: Refused) -> NDArray[np.bool_]:
        """Which choices are no better than what was refused, shape (k,)."""
        mask = np.ones(found.cost.size, dtype=bool)
        for stage, latency_ns, period_ns, tokens in refused:
            place = self._pricer.stages.index(stage)
            options = self._tables.stages[place].options
            worse = (options.latency_ns >= latency_ns) & _no_faster(options, period_ns, tokens)
            mask &= worse[found.picks[:, place]]
        return mask


def _trace_judge(instance: Instance) -> TraceJudge:
    if not isinstance(instance.judge, TraceJudge):
        raise AssertionError("fleets are certified on their traces")
    return instance.judge


def _frontier(table: StageTable, cost: Integers) -> NDArray[np.bool_]:
    return frontier(cost, table.options.latency_ns, table.options.speed)


def _no_faster(options: StageOptions, period_ns: int, tokens: int) -> NDArray[np.bool_]:
    """Which options have R ≤ tokens/period_ns, shape (m,); exactly."""
    largest = max(int(options.tokens.max()) * period_ns, int(options.period_ns.max()) * tokens)
    if largest < UNLIMITED_NS * 1024:
        return options.tokens * period_ns <= tokens * options.period_ns
    left = options.tokens.astype(object) * period_ns
    return np.asarray(left <= options.period_ns.astype(object) * tokens, dtype=bool)
