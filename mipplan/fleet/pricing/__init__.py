"""Pricing: the cheapest plan of one pipeline when devices have other prices, by what stages serve or by replays."""

from __future__ import annotations

from mipplan.core import Deadline
from mipplan.fleet.pricing.certified import Priced as Priced
from mipplan.fleet.pricing.certified import PricingProblem as PricingProblem
from mipplan.fleet.pricing.replayed import ReplayedPricing as ReplayedPricing
from mipplan.fleet.pricing.tables import PricingParams as PricingParams
from mipplan.fleet.pricing.tables import PricingState as PricingState
from mipplan.fleet.problem import Realisation, ReplayedMember

Pricing = PricingProblem | ReplayedPricing


def pricing_of(
    data: Realisation | ReplayedMember, hardware: tuple[str, ...], state: PricingState, deadline: Deadline
) -> Pricing:
    """Make one pipeline ready to be priced, as it is certified."""
    if isinstance(data, ReplayedMember):
        return ReplayedPricing(data, hardware, state, deadline)
    return PricingProblem(data, hardware, state, deadline=deadline)
