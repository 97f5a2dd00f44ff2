"""What a stage can run (variant, hardware, batch cap, apart from the number of replicas), and a choice of it per stage.

Within a family cost and device use grow in proportion to the replicas. So does R, and T is one number, unless dispatch
is paced: then both get better with every replica. Where queues are fifo, more tokens overtake each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from mipplan.calculus import StageService, fewest_replicas, stage_service
from mipplan.certificate import delay_slacks_ns, most_passing
from mipplan.core import Fault, InputError, Int64, check_kinds, frozen, listed, suggestion
from mipplan.pipeline import DispatchLaw, Laws, Pipeline, Stage, alike
from mipplan.profiles import Hardware, LatencyTable, PowerBounds, Profiles, Use
from mipplan.result import Choice, RunClass
from mipplan.tokens import Workload
from mipplan_formulations import LARGEST_MAGNITUDE

#: At most this many replicas of a stage are considered where neither stage nor hardware sets a limit.
MAX_REPLICAS = 100_000


@dataclass(frozen=True, eq=False)
class Family:
    """One (variant, hardware, batch cap) of a stage."""

    hardware: str
    batch: int
    service_ns: Int64  # ℓ(1), …, ℓ(b), shape (batch,)
    microusd_per_hour: int  # of one replica
    fewest: int  # replicas that the mean rate and the stage's minimum need
    most: int  # replicas that the limits allow
    is_source: bool  # whether the stage has no incoming edge (T is then smaller at b = 1)
    limited: bool  # whether the hardware is shared under a limit with other stages
    law: DispatchLaw = DispatchLaw.EAGER  # when the stage makes a batch
    stagger_ns: int = 0  # between the outputs of a batch on their way to other stages
    window_ns: int = 0  # for which a replica collects a batch, at most
    #: Under fifo the runs in which tokens overtake each other, and the slacks of the stage's messages.
    overtaking: RunClass | None = None
    slacks_ns: tuple[int, ...] = ()
    variant: str | None = None  # the model, where the stage may run several
    accuracy: float | None = None  # None where nothing is known
    uses: tuple[Use, ...] = ()  # what it takes of each `Cap`
    power: PowerBounds | None = None  # where energy is asked for
    electricity: Use | None = None  # micro-dollars per hour for it at most, where it has a price

    @property
    def manner(self) -> tuple[bool, DispatchLaw, int, int]:
        """What a service curve depends on beside table and replicas, the same for all that a stage may run."""
        return self.is_source, self.law, self.stagger_ns, self.window_ns

    @cached_property
    def longest_ns(self) -> int:
        """Longest service of a batch."""
        return int(self.service_ns.max())

    def service(self, replicas: int) -> StageService:
        """Service curve with that many replicas."""
        if self.slacks_ns:
            return self.range_service(replicas, replicas)
        return stage_service(self.service_ns, replicas, *self.manner)

    def range_service(self, fewest: int, most: int) -> StageService:
        """No worse than with any number of replicas in a range: fewer let fewer tokens pass, more serve faster."""
        service = stage_service(self.service_ns, most, *self.manner)
        passing = tuple(self.passing(np.array([fewest], dtype=np.int64))[0].tolist())
        return replace(service, passing=passing) if passing else service

    def cost(self, replicas: int) -> int:
        """What so many replicas cost, electricity included, micro-dollars per hour."""
        own = self.microusd_per_hour * replicas
        return own if self.electricity is None else own + self.electricity.of(replicas)

    def most_within(self, most_microusd: int) -> int:
        """The most replicas that cost at most so much per hour; below 1 if none do."""
        price, power = self.microusd_per_hour, self.electricity
        if power is None:
            return min(self.most, most_microusd // price)
        peak = None if power.most_each is None else power.most_each + price
        return min(self.most, Use(power.fixed, power.each + price, peak).most(most_microusd))

    def numbers_within(self, most_microusd: int, dense: int | None = None) -> Int64:
        """Numbers of replicas, ascending, that cost at most so much per hour.

        With `dense` only the first so many, and a geometric series from the fewest to the most whose numbers grow by a
        part in `dense`. Read-only.
        """
        return _numbers(self.fewest, self.most_within(most_microusd), dense)

    def count_within(self, most_microusd: int) -> int:
        """How many numbers of replicas cost at most so much per hour."""
        return max(0, self.most_within(most_microusd) - self.fewest + 1)

    def passing(self, replicas: Int64) -> Int64:
        """How many tokens may pass another one, for many numbers of replicas: `most_passing`, shape (m, slacks)."""
        if self.overtaking is None:
            return np.empty((replicas.size, 0), dtype=np.int64)
        times_ns = self.stagger_ns, self.window_ns
        return most_passing(self.service_ns, replicas, self.slacks_ns, self.overtaking, *times_ns)

    @property
    def extreme_ranges(self) -> tuple[Int64, Int64]:
        """Ranges of replicas that tell whether any plan is certified: the most of each, and the fewest.

        On limited hardware, which stages share, every number by itself; else the most replicas, which only help, unless
        tokens overtake.
        """
        if self.limited:
            every = np.arange(self.fewest, self.most + 1, dtype=np.int64)
            return every, every
        most = np.array([self.most], dtype=np.int64)
        # Of what takes power, too, more are not only better: even where nothing is drawn idle, few cannot draw as much.
        worse = self.slacks_ns or any(use.each or use.most_each for use in self.uses)
        return most, np.array([self.fewest], dtype=np.int64) if worse else most


@dataclass(frozen=True)
class StageFamilies:
    """What one stage can run on."""

    stage: str
    families: tuple[Family, ...]  # by variant, hardware, then batch; empty if nothing can carry the stage
    rejected: tuple[str, ...]  # why each hardware, or part of it, was left out: one sentence each

    def option(self, choice: Choice) -> Option:
        """Return the option that a choice names; its replicas need not be among those on offer.

        Raises `KeyError` if the stage cannot run that variant on that hardware with that batch cap.
        """
        for family in self.families:
            if Option(family, choice.replicas).choice == choice:
                return Option(family, choice.replicas)
        raise KeyError(f"stage {self.stage} has no option {choice}")


class Option(NamedTuple):
    """A number of replicas of one family."""

    family: Family
    replicas: int

    @property
    def microusd_per_hour(self) -> int:
        """Cost."""
        return self.family.cost(self.replicas)

    @property
    def tokens_per_ns(self) -> Fraction:
        """Throughput with full batches: R."""
        return 1 / self.service.ns_per_token

    @property
    def service(self) -> StageService:
        """Service curve: T and R."""
        return self.family.service(self.replicas)

    @property
    def choice(self) -> Choice:
        """The option as people read it."""
        return Choice(self.family.hardware, self.family.batch, self.replicas, self.family.variant)

    @property
    def uses(self) -> tuple[int, ...]:
        """What it takes of each cap; () where families say nothing of caps."""
        return tuple(use.of(self.replicas) for use in self.family.uses)


class Cap(NamedTuple):
    """Something other than devices of which all stages together may take so much: accuracy lost, or power."""

    name: str
    most: int
    least: int = 0  # that they take whatever they run on


class Configuration(dict[str, Option]):
    """One option per stage. Never changed once made: `replaced` makes another."""

    @property
    def microusd_per_hour(self) -> int:
        """Cost of all stages."""
        return sum(option.microusd_per_hour for option in self.values())

    @property
    def devices(self) -> dict[str, int]:
        """Replicas by hardware."""
        used: dict[str, int] = {}
        for family, replicas in self.values():
            used[family.hardware] = used.get(family.hardware, 0) + replicas
        return used

    @property
    def services(self) -> dict[str, StageService]:
        """Service curve of every stage."""
        return {stage: option.service for stage, option in self.items()}

    @property
    def power_mw(self) -> dict[str, int]:
        """Bounds on mean power, as the figures of a plan; empty where energy is not asked for."""
        held = [(option.replicas, option.family.power) for option in self.values()]
        if not held or any(power is None for _, power in held):
            return {}
        least = sum(power.least.of(replicas) for replicas, power in held if power)
        most = sum(power.most.of(replicas) for replicas, power in held if power)
        return {"power_mw": most, "least_power_mw": least}

    @property
    def choices(self) -> dict[str, Choice]:
        """The configuration as people read it."""
        return {stage: option.choice for stage, option in self.items()}

    def keeps(self, limits: Mapping[str, int], caps: Sequence[Cap] = ()) -> bool:
        """Whether all stages together use no more devices of any type than there are, and keep the caps."""
        used = self.devices
        if not all(used.get(name, 0) <= limit for name, limit in limits.items()):
            return False
        taken = zip(*(option.uses for option in self.values()), strict=True) if caps else ()
        return all(sum(own) <= cap.most for own, cap in zip(taken, caps, strict=True))

    def replaced(self, stage: str, option: Option) -> Configuration:
        """Return the configuration with another option for one stage, the stages in the same order."""
        return Configuration({**self, stage: option})


def resolve_discipline(pipeline: Pipeline, profiles: Profiles, discipline: str | None) -> str:
    """Return the discipline that is asked for, else the pipeline's; whether it is one is looked at with the laws.

    Raises `InputError` if these are no pipeline and profiles: nothing else can be looked at then.
    """
    check_kinds(pipeline=(pipeline, Pipeline), profiles=(profiles, Profiles))
    return pipeline.discipline if discipline is None else discipline


def check_names(pipeline: Pipeline, profiles: Profiles) -> None:
    """Check that every model is measured somewhere and every hardware named in an allow-list exists.

    Raises `InputError` listing every unknown name, with the closest known one.
    """
    faults: list[Fault] = []
    for name, stage in pipeline.stages.items():
        for kind, named, known, there_are in (
            ("variants" if stage.variants else "model", stage.models, profiles.models, "measured are"),
            ("hardware", stage.hardware or (), profiles.hardware, "there are"),
        ):
            for unknown in (word for word in named if word not in known):
                hint = suggestion(unknown, known) or f"; {there_are} {listed(known)}"
                place, what = pipeline.place(("stages", name, kind)), kind.replace("variants", "model")
                faults.append(Fault(place, f"the profiles have no {what} {unknown!r}{hint}"))
    InputError.raise_if(faults)


def limits_of(profiles: Profiles) -> dict[str, int]:
    """Device limits by hardware name, only where there is one."""
    return {name: hw.limit for name, hw in profiles.hardware.items() if hw.limit is not None}


def check_span(span_ns: int) -> None:
    """Raise `InputError` if a trace spans no time: it has no rate that a stage could keep up with."""
    if span_ns == 0:
        raise InputError.one("trace", "all arrivals are at one instant: it has no rate to plan for")


def trace_demand(workload: Workload) -> dict[str, Fraction]:
    """Mean token rate of each stage over the trace, tokens per ns; raises `InputError` if it spans no time."""
    check_span(workload.span_ns)
    return {name: Fraction(tokens.count, workload.span_ns) for name, tokens in workload.stages.items()}


def joint_demand(workloads: Sequence[Workload]) -> dict[str, Fraction]:
    """Greatest mean token rate of each stage over several traces, at least one: each must be outrun."""
    demands = [trace_demand(workload) for workload in workloads]
    return {stage: max(demand[stage] for demand in demands) for stage in demands[0]}


def find_families(
    pipeline: Pipeline,
    profiles: Profiles,
    demand: Mapping[str, Fraction],
    laws: Laws | None = None,
    overtaking: RunClass | None = None,
) -> dict[str, StageFamilies]:
    """Find every (variant, hardware, batch cap) each stage may use, in file order of the stages.

    Of variants that make different tokens only those that make them as the one does that the stage runs: with others
    the demand would be another one.

    A family counts only if some allowed number of replicas serves more than the stage's demand, tokens per ns: a finite
    trace hides overload, so R must exceed the mean rate. The laws are the pipeline's own by default. For fifo queues it
    is `overtaking` that says which runs are planned for.
    """
    laws = pipeline.laws() if laws is None else laws
    staggers_ns, windows_ns = pipeline.staggers_ns(laws), pipeline.windows_ns(laws)
    found = {}
    for name, stage in pipeline.stages.items():
        slacks_ns = () if overtaking is None else delay_slacks_ns(pipeline.outgoing(name), overtaking)
        how = _Serving(laws[name], staggers_ns[name], windows_ns[name], overtaking, slacks_ns)
        parts = [
            _variant_families(pipeline, profiles, demand[name], stage, model, how)
            for model in (alike(pipeline, name) if stage.variants else stage.models)
        ]
        families = tuple(family for part in parts for family in part.families)
        rejected = tuple(reason for part in parts for reason in part.rejected)
        found[name] = StageFamilies(name, families, rejected)
    return found


class _Serving(NamedTuple):
    """How a stage is served on any hardware, as in `Family`."""

    law: DispatchLaw
    stagger_ns: int
    window_ns: int
    overtaking: RunClass | None
    slacks_ns: tuple[int, ...]


def _variant_families(
    pipeline: Pipeline, profiles: Profiles, demand: Fraction, stage: Stage, model: str, how: _Serving
) -> StageFamilies:
    """Find what a stage can run one of its models on."""
    families: list[Family] = []
    rejected: list[str] = []
    variant = model if stage.variants else None
    is_source, measured = not pipeline.incoming(stage.name), profiles.hardware_for(model)
    accuracy = stage.accuracy_of(model) if stage.variants else None
    for name in measured:
        if stage.hardware is not None and name not in stage.hardware:
            continue
        table, hardware = profiles.tables[model, name], profiles.hardware[name]
        price, limited = hardware.microusd_per_hour, hardware.limit is not None
        most, binding = _most_replicas(stage, hardware)
        every_ns = table.service_ns(table.largest_batch)
        for cap in _batch_caps(stage, table, hardware, rejected):
            service_ns = every_ns[:cap]
            needed = fewest_replicas(service_ns, demand, how.law)
            fewest = max(needed, stage.replicas_min)
            if fewest > most:
                purpose = "to keep up" if needed == fewest else "by the stage's minimum"
                rejected.append(
                    f"{name} with batch {cap} needs {fewest} replicas {purpose}, but {binding} allows {most}"
                )
                continue
            known = table.accuracy_at(cap) if accuracy is None else accuracy
            families.append(
                Family(name, cap, service_ns, price, fewest, most, is_source, limited, *how, variant, known)
            )
    unmeasured = [name for name in stage.hardware or () if name not in measured]
    rejected += [f"{name} has no measurements of model {model!r}" for name in unmeasured]
    rejected += [] if measured else [f"model {model!r} has no measurements on any hardware"]
    return StageFamilies(stage.name, tuple(families), tuple(rejected))


def _batch_caps(stage: Stage, table: LatencyTable, hardware: Hardware, rejected: list[str]) -> list[int]:
    """Measured batch sizes that the stage admits and the device's memory holds; tells why there are no more."""
    caps: list[int] = []
    known = len(rejected)
    for row, size in enumerate(table.batch.tolist()):
        if not stage.allows_batch(size):
            continue
        needed = None if table.memory_gib is None else float(table.memory_gib[row])
        # NaN (not measured) compares false: an unknown footprint removes nothing.
        if needed is not None and hardware.memory_gib is not None and needed > hardware.memory_gib:
            rejected.append(
                f"{hardware.name} with batch {size} needs {needed:g} GiB of memory and has {hardware.memory_gib:g}"
            )
            continue
        caps.append(size)
    if not caps and len(rejected) == known:
        measured = ", ".join(map(str, table.batch.tolist()))
        rejected.append(
            f"{hardware.name} has no measurement at an admitted batch size (measured: {measured})"
        )
    return caps


def _most_replicas(stage: Stage, hardware: Hardware) -> tuple[int, str]:
    exact = LARGEST_MAGNITUDE // hardware.microusd_per_hour  # beyond, programs would not tell costs apart
    candidates: list[tuple[int, str]] = [(min(MAX_REPLICAS, exact), "the planner")]
    if stage.replicas_max is not None:
        candidates.append((stage.replicas_max, "the stage's replicas setting"))
    if hardware.limit is not None:
        candidates.append((hardware.limit, f"the limit on {hardware.name}"))
    return min(candidates, key=lambda candidate: candidate[0])


@lru_cache(maxsize=4096)  # families by the thousand have few different ones
def _numbers(fewest: int, most: int, dense: int | None) -> Int64:
    numbers = np.arange(fewest, most + 1, dtype=np.int64)
    if dense is None or numbers.size <= dense:
        return frozen(numbers)
    steps = int(np.log(most / fewest) / np.log1p(1.0 / dense)) + 1
    series = np.rint(fewest * (1.0 + 1.0 / dense) ** np.arange(steps)).astype(np.int64)
    return frozen(np.unique(np.minimum(np.concatenate([numbers[:dense], series]), most)))
