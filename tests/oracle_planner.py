"""The cheapest certified plan by trying everything: slow, and written from the definitions in docs/theory.md alone.

It shares the realised tokens with the planner, because they are data; families, services, certificate and search
are its own. Only one fact about the theorem is used to stop: with the other choices fixed, more replicas of a
family never raise the certificate (R grows, and the formula falls with R), so

* a family pattern whose certificate fails with as many replicas as allowed fails with fewer;
* once a plan of cost c is known, no stage needs more replicas than c leaves after the others' least cost.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from mipplan.pipeline import Join, Pipeline
from mipplan.profiles import Profiles
from mipplan.result import Choice
from mipplan.tokens import Workload, realise
from mipplan.trace import Trace

#: Without any limit a stage may have this many replicas (documented as the planner's own limit).
MOST_REPLICAS = 100_000

#: Instances that take more certificates, or more nodes, than this are left: a campaign counts how many it skips.
MOST_CERTIFICATES = 6_000

Column = NDArray[np.int64]
#: (T, ℓ(b), n·b) of every stage.
Services = Mapping[str, tuple[int, int, int]]


class TooLargeError(Exception):
    """Brute force would take too long; nothing is known about the instance."""


@dataclass(frozen=True)
class OracleFamily:
    """One (hardware, batch cap) of a stage: T, ℓ(b), price, and how many replicas it needs and may have."""

    hardware: str
    batch: int
    latency_ns: int
    period_ns: int
    price: int
    fewest: int
    most: int

    def service(self, replicas: int) -> tuple[int, int, int]:
        """(T, ℓ(b), n·b): R is n·b/ℓ(b)."""
        return self.latency_ns, self.period_ns, replicas * self.batch


@dataclass(frozen=True)
class PacedFamily(OracleFamily):
    """The same under paced dispatch, where T and R depend on n as theory, section 11, says."""

    batches: tuple[int, ...]
    direct: bool

    def service(self, replicas: int) -> tuple[int, int, int]:
        """(T, δ, b): R is b/δ."""
        slowest = max(self.batches)
        delta = math.ceil(Fraction(slowest, replicas))
        latency = self.batches[0] if self.direct else slowest + delta
        if replicas == 1:
            delta = max(self.batches[-1], math.ceil(Fraction(slowest, 2)))
        return latency, delta, self.batch

    def keeping_up(self, tokens: int, span_ns: int) -> int:
        """Fewest replicas that serve more than so many tokens in that time, tried one by one; too many if none do."""
        for replicas in range(1, self.most + 1):
            _, delta, batch = self.service(replicas)
            if batch * span_ns > tokens * delta:
                return replicas
        return self.most + 1


@dataclass(frozen=True)
class OracleAnswer:
    """Cheapest cost (micro-dollars per hour), every optimal choice, and how many certificates it took."""

    cost: int
    optima: tuple[dict[str, Choice], ...]
    certificates: int


def cheapest_certified(
    pipeline: Pipeline,
    profiles: Profiles,
    trace: Trace,
    slo_ns: int,
    quantile: float = 0.99,
    seed: int = 0,
    *,
    paced: bool = False,
    kept: Callable[[Column], int] | None = None,
) -> OracleAnswer | None:
    """Find the least cost of a certified plan and all plans of that cost; None if there is none.

    `kept` says which limit the certified latencies of all queries keep, if it is not that of their quantile.

    Raises
    ------
    TooLargeError
        If it would take more than `MOST_CERTIFICATES`, or as many nodes.
    """
    workload = realise(pipeline, trace, seed)
    families = oracle_families(pipeline, profiles, workload, paced=paced)

    def certificate(services: Services) -> int:
        if kept is not None:
            return kept(oracle_latencies(workload, services))
        return oracle_certificate(workload, services, quantile)

    return cheapest_within(families, oracle_limits(profiles), certificate, slo_ns)


def cheapest_within(
    families: Mapping[str, list[OracleFamily]],
    limits: Mapping[str, int],
    certificate: Callable[[Services], int],
    slo_ns: int,
) -> OracleAnswer | None:
    """Find the least cost at which any guarantee (falling with replicas) keeps the objective; None if none does."""
    return _Enumeration(families, limits, certificate, slo_ns).run()


def oracle_limits(profiles: Profiles) -> dict[str, int]:
    """Device limits by hardware."""
    return {name: hw.limit for name, hw in profiles.hardware.items() if hw.limit is not None}


def oracle_families(
    pipeline: Pipeline, profiles: Profiles, workload: Workload, *, paced: bool = False
) -> dict[str, list[OracleFamily]]:
    """Every admissible (hardware, batch cap) of every stage, straight from the rules."""
    span_ns = int(workload.ingress_ns[-1] - workload.ingress_ns[0])
    found: dict[str, list[OracleFamily]] = {}
    for name, stage in pipeline.stages.items():
        found[name] = []
        for (model, hardware), table in profiles.tables.items():
            device = profiles.hardware[hardware]
            if model != stage.model or (stage.hardware is not None and hardware not in stage.hardware):
                continue
            most = min(
                MOST_REPLICAS if limit is None else limit
                for limit in (None, stage.replicas_max, device.limit)
            )
            for row, cap in enumerate(table.batch.tolist()):
                too_large = (
                    table.memory_gib is not None
                    and device.memory_gib is not None
                    and table.memory_gib[row] > device.memory_gib
                )
                if too_large or not stage.allows_batch(cap):
                    continue
                batches = [batch_ns(table.batch, table.latency_ms, k) for k in range(1, cap + 1)]
                direct = cap == 1 and not pipeline.incoming(name)
                latency = batches[0] if direct else 2 * max(batches)
                if cap > 1 and not paced:  # collected for so long before it begins
                    latency += pipeline.windows_ns()[name]
                # n·cap/ℓ(cap) > tokens/span, the least such n.
                fewest = workload.stages[name].count * batches[-1] // (cap * span_ns) + 1
                price = round(device.usd_per_hour * 1e6)
                family = OracleFamily(hardware, cap, latency, batches[-1], price, fewest, most)
                if paced:
                    family = PacedFamily(*vars(family).values(), tuple(batches), direct)
                    family = replace(family, fewest=family.keeping_up(workload.stages[name].count, span_ns))
                family = replace(family, fewest=max(family.fewest, stage.replicas_min))
                if family.fewest <= most:
                    found[name].append(family)
    return found


def batch_ns(sizes: Column, latency_ms: NDArray[np.float64], k: int) -> int:
    """ℓ(k), as docs/theory.md defines it, for one k."""
    return max(1, int(np.rint(np.interp(k, sizes, latency_ms) * 1e6)))


def oracle_certificate(workload: Workload, services: Services, quantile: float, all_pairs: int = 80) -> int:
    """The theorem by its definition, in integers; quantile over queries, ``method="higher"``."""
    latency = np.sort(oracle_latencies(workload, services, all_pairs))
    return int(latency[math.ceil(quantile * (latency.size - 1))])


def oracle_latencies(workload: Workload, services: Services, all_pairs: int = 80) -> Column:
    """The certified latency of every query, shape (n,).

    Of up to `all_pairs` tokens at a stage all pairs are compared.
    """
    exits: dict[str, Column] = {}
    last = np.full(workload.ingress_ns.size, -1, dtype=np.int64)
    for name in workload.pipeline.topological_order:
        tokens = workload.stages[name]
        if tokens.messages:
            arrival = np.full(tokens.query.size, -1, dtype=np.int64)
            for messages in tokens.messages:
                sent = exits[messages.edge.parent][messages.parent] + messages.edge.delay_ns
                if workload.pipeline.stages[name].join is Join.EACH:
                    arrival[messages.child] = sent
                else:
                    np.maximum.at(arrival, messages.child, sent)
        else:
            arrival = workload.ingress_ns
        exits[name] = _exits(arrival, *services[name], all_pairs)
        np.maximum.at(last, tokens.query, exits[name])
    return last - workload.ingress_ns


def _exits(arrival: Column, latency_ns: int, period_ns: int, tokens: int, all_pairs: int) -> Column:
    """T + max over j ≤ i of E(j) + (i − j)/R, rounded up to whole nanoseconds once per stage."""
    return latency_ns - (-_reach(arrival, period_ns, tokens, all_pairs) // tokens)


def _reach(arrival: Column, period_ns: int, tokens: int, all_pairs: int) -> Column:
    """The maximum, times n·b: all pairs while they are few, else (i, j) parted and a cumulative maximum."""
    index = np.arange(arrival.size)
    if arrival.size > all_pairs:
        return np.maximum.accumulate(arrival * tokens - index * period_ns) + index * period_ns
    gap = np.maximum(index[:, None] - index[None, :], 0)
    reach = arrival[None, :] * tokens + gap * period_ns
    reach[index[:, None] < index[None, :]] = -1
    return reach.max(axis=1, initial=-1)


class _Enumeration:
    """Depth-first over families and replicas, keeping every plan of least cost."""

    def __init__(
        self,
        families: Mapping[str, list[OracleFamily]],
        limits: Mapping[str, int],
        certificate: Callable[[Services], int],
        slo_ns: int,
    ) -> None:
        self._families = families
        self._limits = limits
        self._certificate = certificate
        self._slo_ns = slo_ns
        self._best: int | None = None
        self._optima: list[dict[str, Choice]] = []
        self._certificates = self._nodes = 0

    def run(self) -> OracleAnswer | None:
        if any(not found for found in self._families.values()):
            return None
        patterns = [
            dict(zip(self._families, p, strict=True)) for p in itertools.product(*self._families.values())
        ]
        patterns.sort(key=lambda pattern: sum(family.fewest * family.price for family in pattern.values()))
        for pattern in patterns:
            self._probe(pattern)
        for pattern in patterns:
            floors = self._floors(pattern)
            if floors is not None:
                self._descend(pattern, floors, {})
        if self._best is None:
            return None
        return OracleAnswer(self._best, tuple(self._optima), self._certificates)

    def _probe(self, pattern: Mapping[str, OracleFamily]) -> None:
        """Find some certified plan of the pattern: its cost is a cap for everything that follows, nothing more."""

        def scaled(step: int) -> dict[str, int]:
            return {name: min(f.most, math.ceil(f.fewest * 1.3**step)) for name, f in pattern.items()}

        step = _first_true(0, 60, lambda step: self._is_certified(pattern, scaled(step)))
        if step is None:
            return
        chosen = scaled(step)
        for name, family in pattern.items():
            least = _first_true(
                family.fewest,
                chosen[name],
                lambda n, name=name: self._is_certified(pattern, {**chosen, name: n}),
            )
            chosen[name] = chosen[name] if least is None else least
        used: dict[str, int] = {}
        for name, family in pattern.items():
            used[family.hardware] = used.get(family.hardware, 0) + chosen[name]
        if all(used.get(name, 0) <= limit for name, limit in self._limits.items()):
            cost = sum(family.price * chosen[name] for name, family in pattern.items())
            self._best = cost if self._best is None else min(self._best, cost)

    def _floors(self, pattern: Mapping[str, OracleFamily]) -> dict[str, int] | None:
        """Least replicas of each stage with which the rest, at its most, is certified; None if there are none."""
        most = {name: family.most for name, family in pattern.items()}
        floors: dict[str, int] = {}
        for name, family in pattern.items():
            least = _first_true(
                family.fewest,
                family.most,
                lambda n, name=name: self._is_certified(pattern, {**most, name: n}),
            )
            if least is None:
                return None
            floors[name] = least
        return floors

    def _descend(
        self, pattern: Mapping[str, OracleFamily], floors: Mapping[str, int], chosen: dict[str, int]
    ) -> None:
        """Fix the replicas of the next stage; `chosen` holds those fixed already."""
        self._nodes += 1
        if self._nodes > MOST_CERTIFICATES:
            raise TooLargeError
        stage = next((name for name in pattern if name not in chosen), None)
        spent = sum(pattern[name].price * n for name, n in chosen.items())
        if stage is None:
            self._record(pattern, chosen, spent)
            return
        later = [name for name in pattern if name not in chosen and name != stage]
        rest = sum(pattern[name].price * floors[name] for name in later)
        family = pattern[stage]
        used = sum(n for name, n in chosen.items() if pattern[name].hardware == family.hardware)
        most = min(family.most, self._limits.get(family.hardware, MOST_REPLICAS) - used)
        if self._best is not None:
            most = min(most, (self._best - spent - rest) // family.price)

        def certified(n: int) -> bool:
            full = {name: pattern[name].most for name in later}
            return self._is_certified(pattern, {**chosen, stage: n, **full})

        first = _first_true(floors[stage], most, certified)
        if first is None:
            return
        for n in range(first, most + 1):
            if self._best is not None and spent + n * family.price + rest > self._best:
                return
            self._descend(pattern, floors, {**chosen, stage: n})
            if not later:
                return  # one more replica only costs more

    def _is_certified(self, pattern: Mapping[str, OracleFamily], replicas: Mapping[str, int]) -> bool:
        self._certificates += 1
        if self._certificates > MOST_CERTIFICATES:
            raise TooLargeError
        services = {name: family.service(replicas[name]) for name, family in pattern.items()}
        return self._certificate(services) <= self._slo_ns

    def _record(self, pattern: Mapping[str, OracleFamily], chosen: Mapping[str, int], cost: int) -> None:
        if self._best is None or cost < self._best:
            self._best, self._optima = cost, []
        if cost == self._best:
            self._optima.append(
                {
                    name: Choice(family.hardware, family.batch, chosen[name])
                    for name, family in pattern.items()
                }
            )


def fastest_within(
    families: Mapping[str, list[OracleFamily]],
    limits: Mapping[str, int],
    certificate: Callable[[Services], int],
    budget: int | None,
) -> int | None:
    """Find the least certificate of all choices that cost at most `budget`, if any; None if there is no choice.

    Raises
    ------
    TooLargeError
        If it would take more than `MOST_CERTIFICATES`.
    """
    best: int | None = None
    tried = 0
    for pattern in itertools.product(*families.values()):
        for replicas in _maximal_replicas(pattern, limits, budget):
            tried += 1
            if tried > MOST_CERTIFICATES:
                raise TooLargeError
            services = {
                stage: family.service(n) for stage, family, n in zip(families, pattern, replicas, strict=True)
            }
            reached = certificate(services)
            best = reached if best is None else min(best, reached)
    return best


def _maximal_replicas(
    pattern: tuple[OracleFamily, ...], limits: Mapping[str, int], budget: int | None
) -> Iterator[tuple[int, ...]]:
    """Replicas for every family, within limits and budget; of the last one only the most that these admit."""

    def onward(chosen: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if len(chosen) == len(pattern):
            yield chosen
            return
        family, later = pattern[len(chosen)], pattern[len(chosen) + 1 :]
        most = family.most
        if family.hardware in limits:
            taken = sum(n for f, n in zip(pattern, chosen, strict=False) if f.hardware == family.hardware)
            kept = sum(f.fewest for f in later if f.hardware == family.hardware)
            most = min(most, limits[family.hardware] - taken - kept)
        if budget is not None:
            spent = sum(f.price * n for f, n in zip(pattern, chosen, strict=False))
            rest = sum(f.fewest * f.price for f in later)
            most = min(most, (budget - spent - rest) // family.price)
        # Where nothing couples the stages, more never hurts.
        first = family.fewest if later and (budget is not None or family.hardware in limits) else most
        for n in range(max(first, family.fewest), most + 1):
            yield from onward((*chosen, n))

    yield from onward(())


def _first_true(low: int, high: int, holds: Callable[[int], bool]) -> int | None:
    """Least number in [low, high] at which a predicate holds that stays true once it is; None if nowhere."""
    if low > high or not holds(high):
        return None
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return high


def all_selections(
    families: Mapping[str, list[OracleFamily]], most: int
) -> Iterator[dict[str, tuple[OracleFamily, int]]]:
    """Every combination with at most `most` replicas a stage, limits ignored."""
    per_stage = [
        [(family, n) for family in found for n in range(family.fewest, min(family.most, most) + 1)]
        for found in families.values()
    ]
    for combination in itertools.product(*per_stage):
        yield dict(zip(families, combination, strict=True))
