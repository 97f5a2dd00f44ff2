"""InferLine's greedy planner, written down as the paper states it: eager, slow, and on its own event loop.

Every action of every stage is tried in every round, all latencies of every attempt are simulated event by event,
and replicas are added until there is nothing left to add. Rules of admission, throughput and replay are its own;
a setting is just (hardware, batch cap, replicas).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from mipplan.pipeline import Pipeline
from mipplan.profiles import Profiles
from mipplan.trace import Trace
from oracle_planner import batch_ns
from oracle_replay import EventLoop
from oracle_tokens import slow_tokens

Setting = tuple[str, int, int]
Settings = dict[str, Setting]

#: Without any other limit.
_MOST = 100_000


class SlowGreedy:
    """One problem; `simulated` counts the settings whose latency was looked at, each once."""

    def __init__(
        self, pipeline: Pipeline, profiles: Profiles, trace: Trace, slo_ns: int, quantile: float, seed: int
    ) -> None:
        self.pipeline = pipeline
        self.profiles = profiles
        self.ingress = [int(time) for time in trace.arrival_ns]
        self.slo_ns = slo_ns
        self.quantile = quantile
        self.tokens = slow_tokens(pipeline, len(self.ingress), seed)
        self.simulated: dict[tuple[Setting, ...], int] = {}

    # ---------------------------------------------------------------------------------------- rules

    def price(self, hardware: str) -> int:
        """Micro-dollars per hour of one replica."""
        return round(self.profiles.hardware[hardware].usd_per_hour * 1e6)

    def cost(self, settings: Settings) -> int:
        """Micro-dollars per hour."""
        return sum(replicas * self.price(hardware) for hardware, _, replicas in settings.values())

    def caps(self, stage: str, hardware: str) -> list[int]:
        """Measured batch sizes that stage and memory admit."""
        table = self.profiles.table(self.pipeline.stages[stage].model, hardware)
        memory = self.profiles.hardware[hardware].memory_gib
        assert table is not None
        admitted = []
        for row, cap in enumerate(table.batch.tolist()):
            footprint = None if table.memory_gib is None else table.memory_gib[row]
            fits = footprint is None or memory is None or not footprint > memory
            if fits and self.pipeline.stages[stage].allows_batch(cap):
                admitted.append(cap)
        return admitted

    def replicas(self, stage: str, hardware: str) -> tuple[int, int]:
        """Fewest and most replicas of a stage on some hardware."""
        rules, limit = self.pipeline.stages[stage], self.profiles.hardware[hardware].limit
        bounds = [bound for bound in (rules.replicas_max, limit) if bound is not None]
        return rules.replicas_min, min(bounds, default=_MOST)

    def hardware(self, stage: str) -> list[str]:
        """Hardware on which a stage can run at all."""
        rules = self.pipeline.stages[stage]
        usable = []
        for name in self.profiles.hardware:
            named = rules.hardware is None or name in rules.hardware
            if named and self.profiles.table(rules.model, name) is not None and self.caps(stage, name):
                fewest, most = self.replicas(stage, name)
                if fewest <= most:
                    usable.append(name)
        return usable

    def allowed(self, settings: Settings) -> bool:
        """Whether replica bounds and device limits are kept."""
        used: dict[str, int] = {}
        for stage, (hardware, _, replicas) in settings.items():
            fewest, most = self.replicas(stage, hardware)
            if not fewest <= replicas <= most:
                return False
            used[hardware] = used.get(hardware, 0) + replicas
        limits = {name: device.limit for name, device in self.profiles.hardware.items()}
        return all(limits[name] is None or count <= limits[name] for name, count in used.items())

    def service(self, stage: str, hardware: str, size: int) -> int:
        """ℓ(size) in ns."""
        table = self.profiles.table(self.pipeline.stages[stage].model, hardware)
        assert table is not None
        return batch_ns(table.batch, table.latency_ms, size)

    def throughput(self, settings: Settings, stage: str) -> Fraction | float:
        """Queries per ns."""
        hardware, cap, replicas = settings[stage]
        per_query = Fraction(len(self.tokens[stage]), len(self.ingress))
        if per_query == 0:
            return math.inf
        return Fraction(replicas * cap, self.service(stage, hardware, cap)) / per_query

    def path_service(self, settings: Settings) -> int:
        """Batches of one along the longest path."""

        def until(stage: str) -> int:
            above = [until(edge.parent) + edge.delay_ns for edge in self.pipeline.incoming(stage)]
            return max(above, default=0) + self.service(stage, settings[stage][0], 1)

        return max(until(stage) for stage in settings)

    def latency(self, settings: Settings) -> int:
        """Simulated quantile."""
        key = tuple(settings[stage] for stage in self.pipeline.stages)
        if key not in self.simulated:
            service = {
                stage: [self.service(stage, hardware, size) for size in range(1, cap + 1)]
                for stage, (hardware, cap, _) in settings.items()
            }
            replicas = {stage: setting[2] for stage, setting in settings.items()}
            seen = EventLoop(self.tokens, self.ingress, service, replicas, "fifo").run()
            rank = math.ceil(self.quantile * (len(seen.latency) - 1))
            self.simulated[key] = sorted(seen.latency)[rank]
        return self.simulated[key]

    def feasible(self, settings: Settings) -> bool:
        """Whether the simulated quantile keeps the objective."""
        return self.latency(settings) <= self.slo_ns

    # ------------------------------------------------------------------------------------ algorithm 1

    def initialize(self) -> Settings | None:
        """A feasible start, None if there is none."""
        settings: Settings = {}
        for stage in self.pipeline.stages:
            by_latency = sorted(
                self.hardware(stage), key=lambda name: (self.service(stage, name, 1), self.price(name))
            )
            starts = [{**settings, stage: self.smallest(stage, name)} for name in by_latency]
            allowed = [start for start in starts if self.allowed(start)]
            if not allowed:
                return None
            settings = allowed[0]
        if self.path_service(settings) > self.slo_ns:
            return None
        return self.add_replicas(settings, list(settings))

    def smallest(self, stage: str, hardware: str) -> Setting:
        """Smallest cap, fewest replicas."""
        return hardware, self.caps(stage, hardware)[0], self.replicas(stage, hardware)[0]

    def add_replicas(self, settings: Settings, stages: list[str]) -> Settings | None:
        """To the slowest of these stages, until feasible or until all have as many as they have tokens."""
        while not self.feasible(settings):
            more = {stage: self.changed(settings, stage, by=1) for stage in stages}
            possible = [
                stage
                for stage in stages
                if self.allowed(more[stage]) and settings[stage][2] < len(self.tokens[stage])
            ]
            if not possible:
                return None
            current = settings
            settings = more[min(possible, key=lambda stage: self.throughput(current, stage))]
        return settings

    @staticmethod
    def changed(settings: Settings, stage: str, by: int) -> Settings:
        """Change the number of replicas."""
        hardware, cap, replicas = settings[stage]
        return {**settings, stage: (hardware, cap, replicas + by)}

    # ------------------------------------------------------------------------------------ algorithm 2

    def minimize(self) -> Settings | None:
        """The greedy plan, None if there is no start."""
        settings = self.initialize()
        return None if settings is None else self.descend(settings, list(settings), downgrade=True)

    def descend(self, settings: Settings, stages: list[str], *, downgrade: bool) -> Settings:
        """Act on these stages until no action is left."""
        while True:
            cheaper = [self.changed(settings, stage, by=-1) for stage in stages]
            cheaper = [c for c in cheaper if self.allowed(c) and min(r for _, _, r in c.values()) > 0]
            cheaper = [c for c in cheaper if self.feasible(c)]
            if downgrade:
                downgraded = [self.downgrade(settings, stage) for stage in stages]
                cheaper += [c for c in downgraded if c is not None]
            cheaper = [c for c in cheaper if self.cost(c) < self.cost(settings)]
            if cheaper:
                settings = min(cheaper, key=self.cost)  # of equal ones the first
                continue
            increased = [self.increase_batch(settings, stage) for stage in stages]
            kept = [c for c in increased if c is not None and self.feasible(c)]
            if not kept:
                return settings
            settings = kept[0]

    def increase_batch(self, settings: Settings, stage: str) -> Settings | None:
        """The next cap of at least twice the size (else the largest) with a higher throughput."""
        hardware, cap, replicas = settings[stage]
        larger = [other for other in self.caps(stage, hardware) if other > cap]
        doubled = [other for other in larger if other >= 2 * cap] or larger[-1:]
        for other in doubled:
            attempt = {**settings, stage: (hardware, other, replicas)}
            now, then = self.service(stage, hardware, cap), self.service(stage, hardware, other)
            if other * now > cap * then:
                return attempt
        return None

    def downgrade(self, settings: Settings, stage: str) -> Settings | None:
        """Next cheaper hardware; start the stage anew there and improve it alone."""
        price = self.price(settings[stage][0])
        cheaper = [name for name in self.hardware(stage) if self.price(name) < price]
        if not cheaper:
            return None
        name = max(cheaper, key=lambda name: (self.price(name), -self.service(stage, name, 1)))
        start = {**settings, stage: self.smallest(stage, name)}
        if not self.allowed(start) or self.path_service(start) > self.slo_ns:
            return None
        grown = self.add_replicas(start, [stage])
        return None if grown is None else self.descend(grown, [stage], downgrade=False)


def as_settings(choices: Mapping[str, object]) -> Settings:
    """A plan's choices as plain tuples."""
    return {stage: (c.hardware, c.batch, c.replicas) for stage, c in choices.items()}  # type: ignore[attr-defined]
