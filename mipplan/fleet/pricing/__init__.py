"""Pricing: the cheapest plan of one pipeline when devices have other prices, and what that is found by."""

from mipplan.fleet.pricing.certified import Priced as Priced
from mipplan.fleet.pricing.certified import PricingProblem as PricingProblem
from mipplan.fleet.pricing.tables import PricingParams as PricingParams
from mipplan.fleet.pricing.tables import PricingState as PricingState
