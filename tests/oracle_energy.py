"""Power, energy and plans under a cap by trying everything: slow, from the definitions in docs/how-to/energy.md.


Draws, bounds and prices are worked out one number at a time, in fractions; runs are those of the slow event loop. It
shares realised tokens and the theorem's definition (`oracle_planner`) with other oracles, nothing with `mipplan`'s own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

import mipplan as mp
from mipplan.profiles import Hardware, LatencyTable
from mipplan.tokens import Workload, realise
from oracle_planner import (
    MOST_CERTIFICATES,
    OracleFamily,
    TooLargeError,
    batch_ns,
    oracle_certificate,
    oracle_families,
    oracle_limits,
)
from oracle_replay import SlowReplay


def idle_mw(device: Hardware) -> int:
    """Idle draw in milliwatts: as stated, else half of the thermal design power."""
    watts = device.tdp_w / 2 if device.idle_w is None else device.idle_w
    return round(watts * 1000)


def busy_mw(table: LatencyTable, device: Hardware, k: int) -> int:
    """Draw while a batch of k is served, in milliwatts."""
    if table.energy_j is not None:
        joules = float(np.interp(k, table.batch, table.energy_j))
        found = round(joules * 10**12 / batch_ns(table.batch, table.latency_ms, k))
    elif table.power_w is not None:
        found = round(float(np.interp(k, table.batch, table.power_w)) * 1000)
    else:
        found = round(device.tdp_w * 1000)
    return max(found, idle_mw(device))


@dataclass(frozen=True)
class PoweredFamily:
    """A family with the power that its replicas may draw on average, and what they then cost."""

    family: OracleFamily
    idle: int
    peak: int
    tokens_mw: tuple[int, int]  # What its tokens take beyond idle, at least and at most.
    price: Fraction  # Dollars per kWh.

    def most_mw(self, n: int) -> int:
        """Mean power at most."""
        return min(n * self.idle + self.tokens_mw[1], n * self.peak)

    def least_mw(self, n: int) -> int:
        """Mean power at least."""
        return n * self.idle + self.tokens_mw[0]

    def cost(self, n: int) -> int:
        """Micro-dollars per hour: a milliwatt costs as many as a kWh costs dollars; every part rounded up."""
        p, idle, peak = self.price, self.idle, self.peak
        if not p:
            return n * self.family.price
        electricity = min(math.ceil(self.tokens_mw[1] * p) + n * math.ceil(idle * p), n * math.ceil(peak * p))
        return n * self.family.price + electricity


def powered_families(
    pipeline: mp.Pipeline, profiles: mp.Profiles, workload: Workload, price: float
) -> dict[str, list[PoweredFamily]]:
    """Every admissible family of every stage, with its power."""
    span_ns = int(workload.ingress_ns[-1] - workload.ingress_ns[0])
    found: dict[str, list[PoweredFamily]] = {}
    for stage, families in oracle_families(pipeline, profiles, workload).items():
        rate = Fraction(workload.stages[stage].count, span_ns)
        found[stage] = []
        for family in families:
            table = profiles.tables[pipeline.stages[stage].model, family.hardware]
            device = profiles.hardware[family.hardware]
            idle, sizes = idle_mw(device), range(1, family.batch + 1)
            draws = [busy_mw(table, device, k) for k in sizes]
            extra = [
                Fraction((mw - idle) * batch_ns(table.batch, table.latency_ms, k), k)
                for k, mw in zip(sizes, draws, strict=True)
            ]
            tokens = math.floor(rate * math.floor(min(extra))), math.ceil(rate * math.ceil(max(extra)))
            found[stage].append(PoweredFamily(family, idle, max(draws), tokens, Fraction(str(price))))
    return found


class PoweredEnumeration:
    """Cheapest certified plan under a cap, over all families and replicas."""

    def __init__(
        self, pipeline: mp.Pipeline, profiles: mp.Profiles, trace: mp.Trace, slo_ns: int, quantile: float,
        seed: int, price: float = 0.0,
    ) -> None:  # fmt: skip
        self.workload = realise(pipeline, trace, seed)
        self.families = powered_families(pipeline, profiles, self.workload, price)
        self.limits, self.slo_ns, self.quantile = oracle_limits(profiles), slo_ns, quantile
        self.known: dict[tuple[tuple[int, int, int], ...], bool] = {}

    def cheapest(self, cap: int | None) -> int | None:
        """Least cost of a certified plan whose mean power is at most `cap`; None if there is none."""
        self.cap, self.best = math.inf if cap is None else cap, math.inf
        if any(not found for found in self.families.values()):
            return None
        patterns = list(itertools.product(*self.families.values()))
        patterns.sort(key=lambda pattern: sum(f.cost(f.family.fewest) for f in pattern))
        for pattern in patterns:
            for step in range(40):
                chosen = [min(f.family.most, math.ceil(f.family.fewest * 1.3**step)) for f in pattern]
                if self.is_allowed(pattern, chosen) and self.is_certified(pattern, chosen):
                    self.best = min(self.best, self.cost(pattern, chosen) + 1)
                    break
        for pattern in patterns:
            self.descend(pattern, [])
        return None if self.best == math.inf else int(self.best)

    def descend(self, pattern: tuple[PoweredFamily, ...], chosen: list[int]) -> None:
        """Fix the replicas of the next stage."""
        place, fewest = len(chosen), [f.family.fewest for f in pattern]
        if place == len(pattern):
            if self.is_allowed(pattern, chosen) and self.is_certified(pattern, chosen):
                self.best = min(self.best, self.cost(pattern, chosen))
            return
        own = pattern[place]

        def fits(n: int) -> bool:
            tried = [*chosen, n, *fewest[place + 1 :]]
            return self.is_allowed(pattern, tried) and self.cost(pattern, tried) < self.best

        most = own.family.fewest - 1
        while most < own.family.most and fits(most + 1):
            most += 1
            if most > 2_000:
                raise TooLargeError
        if most < own.family.fewest:
            return
        later = [
            self.bound(pattern, [*chosen, own.family.fewest], spot) for spot in range(place + 1, len(pattern))
        ]
        low, high = own.family.fewest, most + 1
        while low < high:  # The certificate falls with replicas.
            middle = (low + high) // 2
            if self.is_certified(pattern, [*chosen, middle, *later]):
                high = middle
            else:
                low = middle + 1
        for n in range(low, most + 1):
            if fits(n):
                self.descend(pattern, [*chosen, n])
            if place == len(pattern) - 1:
                return  # More of the last stage only cost more.

    def bound(self, pattern: tuple[PoweredFamily, ...], chosen: list[int], spot: int) -> int:
        """The most replicas that a later stage may have, the others having their fewest."""
        counts = [*chosen, *(f.family.fewest for f in pattern[len(chosen) :])]
        most = pattern[spot].family.fewest
        while most < pattern[spot].family.most and most < 4_000:
            counts[spot] = most + 1
            if not self.is_allowed(pattern, counts) or self.cost(pattern, counts) >= self.best:
                break
            most += 1
        return most

    def cost(self, pattern: tuple[PoweredFamily, ...], chosen: list[int]) -> int:
        return sum(f.cost(n) for f, n in zip(pattern, chosen, strict=True))

    def is_allowed(self, pattern: tuple[PoweredFamily, ...], chosen: list[int]) -> bool:
        used: dict[str, int] = {}
        for f, n in zip(pattern, chosen, strict=True):
            used[f.family.hardware] = used.get(f.family.hardware, 0) + n
        if any(used.get(name, 0) > limit for name, limit in self.limits.items()):
            return False
        return sum(f.most_mw(n) for f, n in zip(pattern, chosen, strict=True)) <= self.cap

    def is_certified(self, pattern: tuple[PoweredFamily, ...], chosen: list[int]) -> bool:
        services = {
            name: f.family.service(n) for name, f, n in zip(self.families, pattern, chosen, strict=True)
        }
        key = tuple(services.values())
        if key not in self.known:
            if len(self.known) > MOST_CERTIFICATES:
                raise TooLargeError
            self.known[key] = oracle_certificate(self.workload, services, self.quantile) <= self.slo_ns
        return self.known[key]


def run_energy_pj(plan: mp.Plan, seen: SlowReplay, low: int, high: int) -> Iterator[tuple[str, int, int]]:
    """Idle and busy energy of every stage between two instants, picojoules: every batch by itself."""
    for stage, choice in plan.choices.items():
        table, device = plan.table(stage), plan.profiles.hardware[choice.hardware]
        busy_ns = busy_pj = 0
        for batch in seen.batches[stage]:
            inside = max(0, min(batch.start + batch.service, high) - max(batch.start, low))
            busy_ns += inside
            busy_pj += inside * busy_mw(table, device, len(batch.tokens))
        yield stage, idle_mw(device) * (choice.replicas * (high - low) - busy_ns), busy_pj


def powers(plan: mp.Plan, families: Mapping[str, list[PoweredFamily]]) -> tuple[int, int, int]:
    """Mean power of a plan at most and at least, and its cost."""
    most = least = cost = 0
    for stage, choice in plan.choices.items():
        (own,) = (
            f
            for f in families[stage]
            if (f.family.hardware, f.family.batch) == (choice.hardware, choice.batch)
        )
        most, least = most + own.most_mw(choice.replicas), least + own.least_mw(choice.replicas)
        cost += own.cost(choice.replicas)
    return most, least, cost
