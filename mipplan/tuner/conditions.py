"""What limits retuning beside the objective: devices, money, how fast counts may change and what a change costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from mipplan.core import Fault, InputError, dollars_to_microdollars, is_number, is_whole, remake, shown
from mipplan.result import Plan

#: More dollars per hour than this are a slip, and would leave the numbers that solvers take.
MOST_USD = 1e6


@dataclass(frozen=True)
class Conditions:
    """Limits on replica counts, over all stages they are given for.

    Attributes
    ----------
    limits : mapping of str to int
        Most devices per hardware type; types left out have no limit.
    budget_usd_per_hour : float or None
        Most that all replicas may cost.
    most_added, most_removed : int or None
        Most replicas that one retuning may add to a stage, or remove from it; where that leaves more than limits or
        budget admit, as many as may be are removed, and a note says so.
    added_usd_per_hour, removed_usd_per_hour : float
        What adding or removing a replica is counted as, beside what replicas cost: a count is changed only where it
        saves more.

    Raises
    ------
    InputError
        With every fault.
    """

    limits: Mapping[str, int] = field(default_factory=dict)
    budget_usd_per_hour: float | None = None
    most_added: int | None = None
    most_removed: int | None = None
    added_usd_per_hour: float = 0.0
    removed_usd_per_hour: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.limits, Mapping):
            raise InputError.one("limits", f"expected devices by hardware, found {shown(self.limits)}")
        counts = {f"limits.{name}": limit for name, limit in self.limits.items()}
        changes = {"most_added": self.most_added, "most_removed": self.most_removed}
        counts |= {name: most for name, most in changes.items() if most is not None}
        faults = [
            Fault(place, f"expected a whole number of at least 0, found {shown(count)}")
            for place, count in counts.items()
            if not is_whole(count) or count < 0
        ]
        if self.budget_usd_per_hour is not None:
            faults += dollar_faults("budget_usd_per_hour", self.budget_usd_per_hour)
        for name in ("added_usd_per_hour", "removed_usd_per_hour"):
            faults += dollar_faults(name, getattr(self, name))
        InputError.raise_if(faults)
        object.__setattr__(self, "limits", MappingProxyType({k: int(n) for k, n in self.limits.items()}))

    def __hash__(self) -> int:
        return hash(
            (frozenset(self.limits.items()), self.budget_usd_per_hour, self.most_added, self.most_removed)
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return remake(self)  # a view of a mapping cannot be pickled

    @classmethod
    def of_plans(cls, plans: Iterable[Plan]) -> Conditions:
        """Device limits of the plans' profiles, the least where they differ; nothing else."""
        limits: dict[str, int] = {}
        for plan in plans:
            for name, hardware in plan.profiles.hardware.items():
                if hardware.limit is not None:
                    limits[name] = min(hardware.limit, limits.get(name, hardware.limit))
        return cls(limits)

    @property
    def budget_microusd(self) -> int | None:
        """The budget in micro-dollars per hour."""
        return None if self.budget_usd_per_hour is None else dollars_to_microdollars(self.budget_usd_per_hour)

    @property
    def added_microusd(self) -> int:
        """What adding a replica is counted as, micro-dollars per hour."""
        return dollars_to_microdollars(self.added_usd_per_hour)

    @property
    def removed_microusd(self) -> int:
        """What removing a replica is counted as, micro-dollars per hour."""
        return dollars_to_microdollars(self.removed_usd_per_hour)


def dollar_faults(place: str, usd: object) -> list[Fault]:
    """What is wrong with dollars per hour."""
    if is_number(usd) and 0 <= usd <= MOST_USD:
        return []
    return [Fault(place, f"expected dollars from 0 to {MOST_USD:g}, found {shown(usd)}")]
