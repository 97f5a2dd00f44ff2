"""A fleet: pipelines, the devices and the budget they share, what is minimised in numbers, and what solves it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np

from mipplan.core import UNLIMITED_NS, Int64
from mipplan.options import Configuration, limits_of
from mipplan.pipeline import Discipline, Laws, Pipeline, are_timed, choosing, combinations
from mipplan.planner import Instance, trace_instance
from mipplan.profiles import Profiles
from mipplan.result import (
    Choice,
    Guarantee,
    Objective,
    Plan,
    PlanStatus,
    Provenance,
    RunClass,
    relevant_profiles,
)
from mipplan.tokens import realise
from mipplan.trace import Trace
from mipplan_formulations import ColumnPool, Columns, Resource

#: A thousandth of a weight counts this much in what admission minimises. It is large, so that duals rounded to whole
#: numbers say enough.
WEIGHT_UNIT = 10**9
#: Makes one pipeline's instance, in any process and as often as needed.
Realisation = Callable[[], Instance]


@dataclass(frozen=True)
class FleetMember:
    """One pipeline of a fleet; `weight` (in thousandths) is what it counts if not all can be admitted."""

    name: str
    pipeline: Pipeline
    trace: Trace
    slo_ns: int
    weight: int
    laws: Laws | None = None  # those of the pipeline by default
    min_accuracy: float | None = None
    discipline: Discipline = Discipline.OLDEST_FIRST
    runs: RunClass | None = None  # that certificates of fifo queues are to hold for

    @property
    def is_timed(self) -> bool:
        """Whether its plans are certified by their replay."""
        return are_timed(self.asked_laws)

    @property
    def overtaking(self) -> RunClass | None:
        """The runs of fifo queues that are planned for; None if services are those of oldest first."""
        by_arrival = self.discipline is Discipline.FIFO and not self.is_timed
        return (self.runs or RunClass()) if by_arrival else None

    @property
    def asked_laws(self) -> Laws:
        """Law of every stage."""
        return self.pipeline.laws() if self.laws is None else self.laws

    @property
    def alternatives(self) -> list[FleetMember]:
        """The same for each way to draw its tokens: variants may change fan-outs and probabilities."""
        return [replace(self, pipeline=choosing(self.pipeline, runs)) for runs in combinations(self.pipeline)]

    def instance(self, profiles: Profiles, quantile: float, seed: int) -> Instance:
        """Realise it."""
        asked = self.pipeline, profiles, self.trace, self.slo_ns, quantile, seed, self.laws
        return trace_instance(*asked, self.overtaking).with_floor(self.min_accuracy)

    def asked(self, profiles: Profiles, quantile: float, seed: int) -> Plan:
        """Return the plan without choices that states what is asked for."""
        kind = Guarantee.REPLAY if self.is_timed else Guarantee.TRACE
        made = Objective(self.slo_ns, quantile, seed, kind, min_accuracy=self.min_accuracy)
        objective = replace(made.under(self.asked_laws, self.discipline), runs=self.overtaking)
        held, provenance = relevant_profiles(self.pipeline, profiles), Provenance.on(self.trace)
        return Plan(self.pipeline, held, objective, status=PlanStatus.UNKNOWN, provenance=provenance)


@dataclass(frozen=True)
class ReplayedMember:
    """A pipeline whose plans are certified by their replay, as all its stages are timed."""

    asked: Plan  # What is asked for: a plan without choices.
    trace: Trace

    @cached_property
    def most_replicas(self) -> int:
        """No plan has more replicas: those beyond the tokens of a stage never find one to serve."""
        workload = realise(self.asked.pipeline, self.trace, self.asked.seed)
        least = sum(stage.replicas_min for stage in self.asked.pipeline.stages.values())
        return least + sum(tokens.count for tokens in workload.stages.values())


@dataclass(frozen=True)
class Fleet:
    """Everything asked for; limits on devices are those of the profiles, the budget is in micro-dollars per hour."""

    members: tuple[FleetMember, ...]
    profiles: Profiles
    quantile: float
    seed: int
    budget: int | None = None

    @cached_property
    def hardware(self) -> tuple[str, ...]:
        """Hardware types, in the order in which devices are counted."""
        return tuple(self.profiles.hardware)

    @cached_property
    def prices(self) -> Int64:
        """Micro-dollars per hour of one device of each type, shape (H,)."""
        devices = self.profiles.hardware.values()
        return np.array([device.microusd_per_hour for device in devices], dtype=np.int64)

    @cached_property
    def limits(self) -> Mapping[str, int]:
        """Devices there are, of the types that are limited."""
        return limits_of(self.profiles)

    @cached_property
    def _alternatives(self) -> tuple[list[FleetMember], ...]:
        return tuple(member.alternatives for member in self.members)

    @cached_property
    def realisations(self) -> tuple[Realisation | ReplayedMember, ...]:
        """What makes the instance of each member's alternatives, with the profiles of its own models only.

        Timed ones have none.
        """
        drawn = self.quantile, self.seed
        return tuple(
            ReplayedMember(own.asked(self.profiles, *drawn), own.trace)
            if own.is_timed
            else partial(own.instance, relevant_profiles(own.pipeline, self.profiles), *drawn)
            for own in itertools.chain.from_iterable(self._alternatives)
        )

    @cached_property
    def places(self) -> tuple[range, ...]:
        """Where each member's alternatives are among the realisations."""
        ends = itertools.accumulate(map(len, self._alternatives))
        return tuple(range(end - len(own), end) for own, end in zip(self._alternatives, ends, strict=True))

    @property
    def is_one_program(self) -> bool:
        """Whether one MILP can state it: no member has several alternatives, and none is certified by replays."""
        return all(len(own) == 1 and not own[0].is_timed for own in self._alternatives)

    def relaxed(self, factor: float) -> Fleet:
        """Return the fleet with every objective multiplied by a factor, rounded up to ns."""
        slos = [min(UNLIMITED_NS, math.ceil(member.slo_ns * factor)) for member in self.members]
        members = zip(self.members, slos, strict=True)
        return replace(self, members=tuple(replace(member, slo_ns=slo_ns) for member, slo_ns in members))


@dataclass(frozen=True)
class Column:
    """A certified plan of one pipeline: a choice per stage, in file order, and devices used of each of the H types."""

    choices: tuple[Choice, ...]
    devices: tuple[int, ...]

    @classmethod
    def of(cls, plan: Configuration, hardware: Sequence[str]) -> Column:
        """Make the column of a plan."""
        devices = plan.devices
        return cls(tuple(plan.choices.values()), tuple(devices.get(name, 0) for name in hardware))

    def cost(self, prices: Int64) -> int:
        """What it costs under these prices of devices."""
        return sum(price * count for price, count in zip(prices.tolist(), self.devices, strict=True))


@dataclass(frozen=True, eq=False)
class FleetObjective:
    """Minimise device prices and prices of leaving out, such that each row's use stays within its capacity.

    There is a row for everything that is scarce: r limited hardware types, perhaps the budget.
    """

    prices: Int64  # of one device of each hardware type, shape (H,)
    rows: tuple[str, ...]
    usage: Int64  # what one device of each type takes of each row, shape (r, H)
    capacity: Int64  # shape (r,)
    excess: Int64  # price of one unit beyond a capacity: the most a dual can rise to, shape (r,)
    #: Price of leaving each pipeline out, shape (N,); None if all have to be served.
    forgone: Int64 | None = None
    name: str = "cost in $/h"
    unit: float = 1e6  # what lines of progress count in

    @classmethod
    def of_cost(cls, fleet: Fleet) -> FleetObjective:
        """Minimise the cost of the fleet within the limits."""
        names = tuple(name for name in fleet.hardware if name in fleet.limits)
        usage = np.array([[name == other for other in fleet.hardware] for name in names], dtype=np.int64)
        capacity = np.array([fleet.limits[name] for name in names], dtype=np.int64)
        excess = np.full(len(names), int(fleet.prices.max()), dtype=np.int64)
        return cls(fleet.prices, names, usage.reshape(-1, len(fleet.hardware)), capacity, excess)

    @classmethod
    def of_weight(cls, fleet: Fleet) -> FleetObjective:
        """Minimise the weight that is left out, within limits and budget."""
        limited = cls.of_cost(fleet)
        names, usage, capacity = limited.rows, limited.usage, limited.capacity
        if fleet.budget is not None:
            names = (*names, "budget")
            usage = np.vstack([usage, fleet.prices])
            capacity = np.append(capacity, fleet.budget)
        forgone = np.array([member.weight * WEIGHT_UNIT for member in fleet.members], dtype=np.int64)
        excess = np.full(len(names), int(forgone.max()) + 1, dtype=np.int64)
        prices, unit = np.zeros_like(fleet.prices), 1000.0 * WEIGHT_UNIT
        return cls(prices, names, usage, capacity, excess, forgone, "weight left out", unit)

    def of_fit(self) -> FleetObjective:
        """Minimise the devices that are missing, by price: the optimum is 0 exactly if all fits."""
        excess = np.maximum(self.usage @ self.prices, 1)
        return replace(self, prices=np.zeros_like(self.prices), excess=excess)

    @cached_property
    def step(self) -> int:
        """Costs of choices are multiples of this."""
        forgone = [] if self.forgone is None else self.forgone.tolist()
        return math.gcd(*self.prices.tolist(), *forgone) or 1

    def raised_to_step(self, bound: int) -> int:
        """Return the least cost of a choice, given that none is below `bound`."""
        return -(-bound // self.step) * self.step

    def device_prices(self, duals: Int64) -> Int64:
        """Prices of devices with the duals of all rows added, shape (H,)."""
        return self.prices + duals @ self.usage

    def pool(self, columns: Sequence[Sequence[Column]], *, firm: bool) -> ColumnPool:
        """Return the restricted master over the known columns of every pipeline; `firm` allows no excess."""
        devices = [
            np.array([column.devices for column in known], dtype=np.int64).reshape(-1, self.prices.size)
            for known in columns
        ]
        return ColumnPool(
            tuple(Columns(used @ self.prices, used @ self.usage.T) for used in devices),
            tuple(map(Resource, self.rows, self.capacity.tolist())),
            None if self.forgone is None else tuple(self.forgone.tolist()),
            None if firm else tuple(self.excess.tolist()),
        )


@dataclass(frozen=True)
class FleetChoice:
    """A plan for every pipeline, or none where it is left out, within all capacities; `cost` as the objective says."""

    columns: tuple[Column | None, ...]
    cost: int

    @classmethod
    def at(cls, known: Sequence[Sequence[Column]], places: Sequence[int | None], cost: int) -> FleetChoice:
        """Return the choice of plans by their places among the known ones of each pipeline."""
        chosen = zip(known, places, strict=True)
        return cls(tuple(None if place is None else own[place] for own, place in chosen), cost)

    def places(self, known: Sequence[Sequence[Column]]) -> list[int | None]:
        """Where each plan is among the known ones of its pipeline."""
        chosen = zip(known, self.columns, strict=True)
        return [None if column is None else own.index(column) for own, column in chosen]


@dataclass(frozen=True, eq=False)
class FleetSolution:
    """The best choice found, and what is proven of all choices."""

    chosen: FleetChoice | None
    lower_bound: int | None  # no allowed choice costs less; None if nothing is known
    infeasible: bool  # proven: nothing fits
    #: By one unit more of each row, as the proof's duals say.
    saved: Mapping[str, int] = field(default_factory=dict)
    rounds: int = 0
    interrupted: bool = False  # by Ctrl-C
    #: What pipelines cost at least by themselves, as far as a joint search found out.
    alone: tuple[int, ...] = ()

    def within(self, gap: float) -> bool:
        """Whether the choice is proven to be at most that share dearer than the best."""
        if self.chosen is None or self.lower_bound is None:
            return False
        return self.chosen.cost - self.lower_bound <= gap * self.chosen.cost

    def within_budget(self, budget: int | None) -> FleetSolution:
        """Return the same, but for what a budget rules out."""
        if budget is None:
            return self
        affordable = self.chosen is not None and self.chosen.cost <= budget
        impossible = self.lower_bound is not None and self.lower_bound > budget
        chosen = self.chosen if affordable else None
        return replace(self, chosen=chosen, infeasible=self.infeasible or impossible)
