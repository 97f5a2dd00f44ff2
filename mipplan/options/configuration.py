"""A configuration in the making: a family and a number of replicas for every stage, and figures of the whole."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

from mipplan.calculus import StageService
from mipplan.options.families import Family
from mipplan.result import Choice


class Option(NamedTuple):
    """A number of replicas of one family."""

    family: Family
    replicas: int

    @property
    def microusd_per_hour(self) -> int:
        """Cost."""
        return self.family.microusd_per_hour * self.replicas

    @property
    def tokens_per_ns(self) -> Fraction:
        """Throughput with full batches: R."""
        return Fraction(self.replicas * self.family.batch, int(self.family.service_ns[-1]))

    @property
    def service(self) -> StageService:
        """Service curve: T and R."""
        return self.family.service(self.replicas)

    @property
    def choice(self) -> Choice:
        """The option as people read it."""
        return Choice(self.family.hardware, self.family.batch, self.replicas)


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
    def choices(self) -> dict[str, Choice]:
        """The configuration as people read it."""
        return {stage: option.choice for stage, option in self.items()}

    def keeps(self, limits: Mapping[str, int]) -> bool:
        """Whether all stages together use no more devices of any hardware type than there are."""
        used = self.devices
        return all(used.get(name, 0) <= limit for name, limit in limits.items())

    def replaced(self, stage: str, option: Option) -> Configuration:
        """Return the configuration with another option for one stage, the stages in the same order."""
        return Configuration({**self, stage: option})
