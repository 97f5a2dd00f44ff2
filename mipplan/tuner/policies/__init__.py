"""Policies by which replicas follow traffic: ours, and what others do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from mipplan.tuner.policies.hpa import Hpa
from mipplan.tuner.policies.inferline import InferLine
from mipplan.tuner.policies.lp import Lp
from mipplan.tuner.policies.oracle import Oracle
from mipplan.tuner.policies.policy import Clairvoyant, Controller, Policy, Setting
from mipplan.tuner.policies.ray import Ray
from mipplan.tuner.policies.spares import SpareRule
from mipplan.tuner.policies.static import Static

#: Policies with their usual parameters, by name.
POLICIES: Mapping[str, Callable[[], Policy | Clairvoyant]] = MappingProxyType(
    {
        "lp": Lp,
        "lp-lean": Lp.lean,
        "inferline": InferLine,
        "hpa": Hpa,
        "ray": Ray,
        "ray-tuned": Ray.tuned,
        "static": Static,
        "oracle": Oracle,
    }
)

__all__ = [
    "POLICIES",
    "Clairvoyant",
    "Controller",
    "Hpa",
    "InferLine",
    "Lp",
    "Oracle",
    "Policy",
    "Ray",
    "Setting",
    "SpareRule",
    "Static",
]
