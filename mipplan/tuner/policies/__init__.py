"""Policies by which replicas follow traffic: ours, and what others do. `POLICIES` is their register."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from mipplan.core import Fault, InputError, listed, shown, suggestion
from mipplan.tuner.policies.autoscalers import Hpa, InferLine, Ray
from mipplan.tuner.policies.base import (
    Clairvoyant,
    Controller,
    Observation,
    Parameters,
    Policy,
    Setting,
    StageObservation,
    Static,
)
from mipplan.tuner.policies.forecast import ForecastRule
from mipplan.tuner.policies.lp import Lp, SpareRule
from mipplan.tuner.policies.newsvendor import Newsvendor
from mipplan.tuner.policies.oracle import Oracle, cheapest_cover

#: Policies with their usual parameters, by name.
POLICIES: Mapping[str, Callable[[], Policy | Clairvoyant]] = MappingProxyType(
    {
        "newsvendor": Newsvendor,
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
#: Those that a user compares, unless told otherwise.
USUAL = ("newsvendor", "lp", "inferline", "hpa", "ray", "static")


def read_policies(
    policies: Sequence[str | Policy | Clairvoyant], *, worth_usd: float | None = None
) -> list[Policy | Clairvoyant]:
    """Return the policies of these names; those given as such stay what they are.

    What a missed query is worth may be given for ``newsvendor``, if that is named.
    Raises `InputError` with every name that is unknown or there twice.
    """
    if isinstance(policies, str) or not isinstance(policies, Sequence) or not policies:
        raise InputError.one("policies", f"expected some of {listed(POLICIES)}, found {shown(policies)}")
    faults: list[Fault] = []
    if worth_usd is not None and "newsvendor" not in policies:
        faults.append(Fault("worth_usd", "goes with policy newsvendor only"))
    elif worth_usd is not None:
        try:
            priced = Newsvendor(worth_usd)
            policies = [priced if policy == "newsvendor" else policy for policy in policies]
        except InputError as error:
            faults += error.faults
    chosen: list[Policy | Clairvoyant] = []
    for policy in policies:
        made = POLICIES[policy]() if isinstance(policy, str) and policy in POLICIES else policy
        if isinstance(made, Policy | Clairvoyant):
            chosen.append(made)
        elif isinstance(policy, str):
            hint = suggestion(policy, POLICIES) or f"; there are {listed(POLICIES)}"
            faults.append(Fault("policies", f"there is no {shown(policy)}{hint}"))
        else:
            faults.append(Fault("policies", f"expected a name or a policy, found {shown(policy)}"))
    names = [policy.name for policy in chosen]
    faults += [
        Fault("policies", f"names {name} twice") for name in dict.fromkeys(names) if names.count(name) > 1
    ]
    InputError.raise_if(faults)
    return chosen


__all__ = [
    "POLICIES",
    "USUAL",
    "Clairvoyant",
    "Controller",
    "ForecastRule",
    "Hpa",
    "InferLine",
    "Lp",
    "Newsvendor",
    "Observation",
    "Oracle",
    "Parameters",
    "Policy",
    "Ray",
    "Setting",
    "SpareRule",
    "StageObservation",
    "Static",
    "cheapest_cover",
    "read_policies",
]
