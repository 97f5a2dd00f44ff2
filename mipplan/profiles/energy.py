"""What is asked of energy, and what devices draw: idle, and while they serve a batch of each size.

Draws are measured, or assumed from thermal design powers.

All is in whole milliwatts. Energy is then milliwatts × nanoseconds, exact in whole picojoules.

References
----------
L. A. Barroso, U. Hölzle, "The case for energy-proportional computing", Computer 40(12), 2007, doi:10.1109/MC.2007.443:
even an efficient server that does nearly nothing takes about half of what it takes at full load.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np

from mipplan.core import Fault, InputError, Int64, frozen, is_finite, shown
from mipplan.profiles.model import Hardware
from mipplan.profiles.tables import LatencyTable

MW_PER_W: Final = 1_000
_GRAMS_PER_TONNE: Final = 1_000_000
#: Prices and intensities are given for at most the hours of a leap year.
_MOST_HOURS: Final = 8_784
#: A kWh, its CO₂ included, costs at most so much: costs of programs stay whole numbers that floats hold exactly.
_MOST_USD_PER_KWH: Final = 10_000
#: One number, or one for every hour from the first query on, beginning anew after the last.
Hourly = float | tuple[float, ...]
#: Joules per nanosecond are so many milliwatts.
_MW_PER_J_PER_NS = 10**12
#: Where its idle draw is not known, a device is taken to draw this share of what it does at most.
IDLE_SHARE = 0.5


@dataclass(frozen=True)
class EnergyTerms:
    """What is asked for of energy; without any of it, that it is told.

    Raises `InputError` listing every field that cannot be.
    """

    max_power_w: float | None = None  # The guaranteed mean power is at most this.
    usd_per_kwh: Hourly = 0.0  # Price of electricity, which the cost of a plan then includes.
    gco2_per_kwh: Hourly | None = None  # Grams of CO₂ for each kWh.
    usd_per_tonne: float = 0.0  # Price of a tonne of CO₂, likewise.

    def __post_init__(self) -> None:
        faults = []
        if self.usd_per_kwh is None:  # plan files hold a price; a caller may have none to hand on
            object.__setattr__(self, "usd_per_kwh", 0.0)
        for name in ("usd_per_kwh", "gco2_per_kwh"):
            given = getattr(self, name)
            values = tuple(given) if isinstance(given, list | tuple) else (given,)
            several = isinstance(given, list | tuple)
            if given is not None and (
                not values or len(values) > _MOST_HOURS or not all(map(_is_amount, values))
            ):
                message = "expected a number of at least 0, or one for each hour, at most 8,784, found "
                faults.append(Fault(f"energy.{name}", message + shown(given)))
            elif given is not None:
                object.__setattr__(self, name, tuple(map(float, values)) if several else float(given))
        if self.max_power_w is not None:
            if not _is_amount(self.max_power_w):
                message = f"expected watts of at least 0, at most 10⁹, found {shown(self.max_power_w)}"
                faults.append(Fault("energy.max_power_w", message))
            else:
                object.__setattr__(self, "max_power_w", float(self.max_power_w))
        if not _is_amount(self.usd_per_tonne):
            message = f"expected dollars of at least 0, found {shown(self.usd_per_tonne)}"
            faults.append(Fault("energy.usd_per_tonne", message))
        elif self.usd_per_tonne and self.gco2_per_kwh is None:
            faults.append(Fault("energy.usd_per_tonne", "needs gco2_per_kwh: how much CO₂ a kWh makes"))
        InputError.raise_if(faults)
        object.__setattr__(self, "usd_per_tonne", float(self.usd_per_tonne))
        if self.prices[1] > _MOST_USD_PER_KWH:
            message = (
                f"a kWh and its CO₂ may cost {_MOST_USD_PER_KWH:,} $, found {float(self.prices[1]):,.6g}"
            )
            raise InputError.one("energy.usd_per_kwh", message)

    @property
    def max_power_mw(self) -> int | None:
        """The cap in whole milliwatts, rounded down."""
        return None if self.max_power_w is None else math.floor(Fraction(str(self.max_power_w)) * MW_PER_W)

    @property
    def binds(self) -> bool:
        """Whether it bears on which plan is best, and is not only told."""
        return self.max_power_w is not None or self.prices[1] > 0

    @cached_property
    def prices(self) -> tuple[Fraction, Fraction]:
        """Dollars per kWh, of electricity and of its CO₂: the mean over all hours, and no less than the highest."""
        (usd, grams), gram_usd = self._hours, self._gram_usd
        mean = sum(usd, Fraction(0)) / len(usd) + sum(grams, Fraction(0)) / len(grams) * gram_usd
        return mean, max(usd) + max(grams) * gram_usd

    @property
    def is_hourly(self) -> bool:
        """Whether anything goes by the hour."""
        return isinstance(self.usd_per_kwh, tuple) or isinstance(self.gco2_per_kwh, tuple)

    def at_hour(self, hour: int) -> tuple[Fraction, Fraction]:
        """Dollars per kWh, its CO₂ included, and grams of CO₂ per kWh, so many hours after the first query."""
        usd, grams = self._hours
        own = grams[hour % len(grams)]
        return usd[hour % len(usd)] + own * self._gram_usd, own

    @cached_property
    def _hours(self) -> tuple[list[Fraction], list[Fraction]]:
        return _exact(self.usd_per_kwh), _exact(self.gco2_per_kwh)

    @property
    def _gram_usd(self) -> Fraction:
        return Fraction(str(self.usd_per_tonne)) / _GRAMS_PER_TONNE


def _exact(given: Hourly | None) -> list[Fraction]:
    """One number for each hour; none at all counts as 0."""
    return [Fraction(str(value)) for value in (given if isinstance(given, tuple) else (given or 0.0,))]


def _is_amount(value: object) -> bool:
    return is_finite(value) and 0 <= float(value) <= 1e9


@dataclass(frozen=True, eq=False)
class PowerDraw:
    """What one device draws, in milliwatts."""

    idle_mw: int
    busy_mw: Int64  # While it serves a batch of 1, …, b; shape (b,). At least what it draws idle.


def power_draw(table: LatencyTable, device: Hardware, cap: int) -> PowerDraw:
    """Return what a device draws with batches up to a cap.

    Idle ``idle_w``, else half of ``tdp_w``. Busy the mean over the batch: ``energy_j`` divided by its P50, or else by
    ``latency_ms``; else ``power_w``, else ``tdp_w``. Between measured sizes energy and power follow straight lines, as
    latencies do.

    Raises `InputError` listing what is not known, or cannot be.
    """
    place = f"profile of {table.model} on {device.name}"
    InputError.raise_if(Fault(place, problem) for problem in power_problems(table, device))
    idle_mw = _idle_mw(device)
    # Between measured sizes, too, no batch is less than nothing beside what the device draws anyway.
    return PowerDraw(idle_mw, frozen(np.maximum(idle_mw, _busy_mw(table, device, cap))))


def power_problems(table: LatencyTable, device: Hardware) -> Iterator[str]:
    """Say what is not known of the power that a model takes on a device, or cannot be."""
    is_measured = table.energy_j is not None or table.power_w is not None
    if device.tdp_w is None and device.idle_w is None:
        yield "what the device draws idle is not known: give idle_w or tdp_w in hardware.yaml"
    if device.tdp_w is None and not is_measured:
        yield "what a batch takes is not known: fill the column energy_j or power_w, or give tdp_w in hardware.yaml"
    elif device.tdp_w is not None or device.idle_w is not None:
        idle_mw, sizes = _idle_mw(device), table.batch
        busy_mw = _busy_mw(table, device, table.largest_batch)[sizes - 1]
        for size, mw in zip(sizes.tolist(), busy_mw.tolist(), strict=True):
            if mw < idle_mw:
                yield (
                    f"a batch of {size} takes {mw / MW_PER_W:g} W on average, less than the "
                    f"{idle_mw / MW_PER_W:g} W that the device draws idle"
                )


def power_assumption(table: LatencyTable, device: Hardware) -> str | None:
    """Say what stands in for measurements, or None."""
    parts = []
    if table.energy_j is None and table.power_w is None:
        parts.append(f"a batch is taken to draw the {device.tdp_w:g} W of its thermal design")
    if device.idle_w is None:
        parts.append(f"idle it is taken to draw {IDLE_SHARE:.0%} of the {device.tdp_w:g} W")
    return f"{device.name}: {' and '.join(parts)}" if parts else None


def _idle_mw(device: Hardware) -> int:
    idle_w = IDLE_SHARE * (device.tdp_w or 0.0) if device.idle_w is None else device.idle_w
    return round(idle_w * MW_PER_W)


def _busy_mw(table: LatencyTable, device: Hardware, cap: int) -> Int64:
    sizes = np.arange(1, cap + 1)
    if table.energy_j is not None:
        energy_j = np.interp(sizes, table.batch, table.energy_j)
        # What a batch takes was measured together with what it mostly takes long, whatever column plans go by.
        typical = replace(table, latency="table" if table.latency_p50_ms is None else "p50")
        return np.rint(energy_j * _MW_PER_J_PER_NS / typical.service_ns(cap)).astype(np.int64)
    if table.power_w is not None:
        return np.rint(np.interp(sizes, table.batch, table.power_w) * MW_PER_W).astype(np.int64)
    return np.full(cap, round((device.tdp_w or 0.0) * MW_PER_W), dtype=np.int64)


#: More than any number of replicas: where nothing is in the way of more.
_ANY = 2**62


class Use(NamedTuple):
    """What a family takes of something: a fixed part and one per replica, but at most another part per replica."""

    fixed: int
    each: int = 0
    most_each: int | None = None  # None where there is no such limit.

    def of(self, replicas: int) -> int:
        """What so many replicas take."""
        linear = self.fixed + self.each * replicas
        return linear if self.most_each is None else min(linear, self.most_each * replicas)

    def most(self, room: int) -> int:
        """The most replicas that find room; below 1 if none do."""
        left = room - self.fixed
        linear = left // self.each if self.each else (_ANY if left >= 0 else -1)
        if self.most_each is None:
            return linear
        return max(linear, room // self.most_each if self.most_each else _ANY)


def use_column(uses: Sequence[Use], which: Int64, replicas: Int64) -> Int64:
    """What many numbers of replicas take, each by the use whose place is in `which`; shape (m,)."""
    fixed, each = (np.array([use[part] for use in uses], dtype=np.int64)[which] for part in (0, 1))
    taken: Int64 = fixed + each * replicas
    peaks = [use.most_each for use in uses]
    if any(peak is not None for peak in peaks):
        has_peak = np.array([peak is not None for peak in peaks])[which]
        most_each = np.array([peak or 0 for peak in peaks], dtype=np.int64)[which]
        taken = np.where(has_peak, np.minimum(taken, most_each * replicas), taken)
    return taken


class PowerBounds(NamedTuple):
    """Mean power in milliwatts: a run's energy by the span of the trace is no less, by that of the run no more."""

    least: Use
    most: Use


def power_bounds(draw: PowerDraw, service_ns: list[int], rate: Fraction, least_rate: Fraction) -> PowerBounds:
    """Bound the mean power of replicas that serve up to `rate` tokens per ns in batches that take ℓ(1), …, ℓ(b).

    The lower bound is of `least_rate`, and of runs in which batches take what the table says; the upper one holds for
    faster ones, too. Both are rounded outwards: to picojoules for a token, to milliwatts for a stage.
    """
    idle, busy = draw.idle_mw, draw.busy_mw.tolist()
    extra = [((mw - idle) * ns, k) for k, (mw, ns) in enumerate(zip(busy, service_ns, strict=True), start=1)]
    least, most = min(pj // k for pj, k in extra), max(-(-pj // k) for pj, k in extra)
    return PowerBounds(
        Use(math.floor(least_rate * least), idle), Use(math.ceil(rate * most), idle, max(busy))
    )


def electricity(power: PowerBounds, terms: EnergyTerms) -> Use | None:
    """Micro-dollars per hour that electricity, and its CO₂, cost at most; None if they have no price.

    A milliwatt costs as many micro-dollars per hour as a kWh costs dollars. What devices draw idle they draw at all
    hours; what batches take more may fall into the dearest. Every part is rounded up.
    """
    mean, dearest = terms.prices
    if dearest == 0:
        return None
    fixed, idle, peak = power.most.fixed, power.most.each, power.most.most_each or 0
    each, most_each = math.ceil(idle * mean), math.ceil(idle * mean + (peak - idle) * dearest)
    return Use(math.ceil(fixed * dearest), each, most_each)
