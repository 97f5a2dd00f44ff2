"""Hardware types and their prices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mipplan.core import (
    MICRODOLLARS_PER_DOLLAR,
    Fault,
    InputError,
    dollars_to_microdollars,
    is_finite,
    is_whole,
    name_problem,
    shown,
)

#: Dearer devices are surely mistaken, and would overflow sums of micro-dollars.
MAX_USD_PER_HOUR = 1_000_000.0


@dataclass(frozen=True)
class Hardware:
    """A hardware type; one replica occupies one device.

    Attributes
    ----------
    name : str
    usd_per_hour : float
        Price of one device: at least a micro-dollar.
    memory_gib : float or None
        Memory of one device, None if it does not matter.
    limit : int or None
        Most devices over all stages, None for any number.
    source : str
        Where the figures come from.

    Raises
    ------
    InputError
        With every fault.
    """

    name: str
    usd_per_hour: float
    memory_gib: float | None = None
    limit: int | None = None
    source: str = ""

    def __post_init__(self) -> None:
        problems = {
            "name": name_problem(self.name),
            "usd_per_hour": price_problem(self.usd_per_hour),
            "memory_gib": None if self.memory_gib is None else memory_problem(self.memory_gib),
            "limit": None if self.limit is None else limit_problem(self.limit),
        }
        faults = [
            Fault(f"hardware {shown(self.name)}: {name}", problem)
            for name, problem in problems.items()
            if problem
        ]
        if faults:
            raise InputError(faults)
        # One spelling of every number, so that equal hardware is written to equal files.
        object.__setattr__(self, "usd_per_hour", float(self.usd_per_hour))
        if self.memory_gib is not None:
            object.__setattr__(self, "memory_gib", float(self.memory_gib))
        if self.limit is not None:
            object.__setattr__(self, "limit", int(self.limit))

    @cached_property
    def microusd_per_hour(self) -> int:
        """Price of one device in whole micro-dollars per hour, the planner's currency."""
        return dollars_to_microdollars(self.usd_per_hour)

    def to_document(self) -> dict[str, Any]:
        """Write it as in ``hardware.yaml``, without the name."""
        document: dict[str, Any] = {"usd_per_hour": self.usd_per_hour}
        if self.memory_gib is not None:
            document["memory_gib"] = self.memory_gib
        if self.limit is not None:
            document["limit"] = self.limit
        return {**document, "source": self.source}


def price_problem(value: object) -> str | None:
    """Say what is wrong with a price in dollars per hour, or None."""
    if not is_finite(value):
        return f"expected a price in dollars per hour, found {shown(value)}"
    if not 1 / MICRODOLLARS_PER_DOLLAR <= float(value) <= MAX_USD_PER_HOUR:
        return f"expected a price from 0.000001 to {MAX_USD_PER_HOUR:.0f}, found {shown(value)}"
    return None


def memory_problem(value: object) -> str | None:
    """Say what is wrong with a memory size in GiB, or None."""
    usable = is_finite(value) and float(value) > 0
    return None if usable else f"expected a positive number of GiB, found {shown(value)}"


def limit_problem(value: object) -> str | None:
    """Say what is wrong with a limit on devices, or None."""
    usable = is_whole(value) and 0 <= value <= 1_000_000_000
    return None if usable else f"expected a whole number of devices ≥ 0, found {shown(value)}"
