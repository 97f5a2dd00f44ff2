"""A plan in the making: a family and a number of replicas for every stage."""

from __future__ import annotations

from collections.abc import Mapping

from mipplan.calculus import StageService
from mipplan.options import Family
from mipplan.result import Choice

Members = Mapping[str, tuple[Family, int]]


def services_of(members: Members) -> dict[str, StageService]:
    """Service of every stage."""
    return {stage: family.service(replicas) for stage, (family, replicas) in members.items()}


def choices_of(members: Members) -> dict[str, Choice]:
    """Return the choices as people read them."""
    return {stage: choice_of(family, replicas) for stage, (family, replicas) in members.items()}


def choice_of(family: Family, replicas: int) -> Choice:
    """Return one choice as people read it."""
    return Choice(family.hardware, family.batch, replicas)


def cost_of(members: Members) -> int:
    """Micro-dollars per hour."""
    return sum(family.microusd_per_hour * replicas for family, replicas in members.values())


def keeps_limits(members: Members, limits: Mapping[str, int]) -> bool:
    """Whether all stages together use no more devices of any type than there are."""
    used: dict[str, int] = {}
    for family, replicas in members.values():
        used[family.hardware] = used.get(family.hardware, 0) + replicas
    return all(used.get(name, 0) <= limit for name, limit in limits.items())
