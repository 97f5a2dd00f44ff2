"""The planner: the cheapest certified plan, by bounds, enumeration and logic-based Benders decomposition."""

from mipplan.planner.benders import PlanSearch, SearchMethod, SearchParams, check_search
from mipplan.planner.choices import (
    Bounds,
    Candidates,
    CertifiedChoice,
    LpBound,
    PathPart,
    ReducedCosts,
    SearchOutcome,
    SearchSpace,
    StagePart,
    TooManyError,
    WalkParams,
    list_choices,
)
from mipplan.planner.cuts import Cut, cover_of, strengthen
from mipplan.planner.enumeration import Enumeration
from mipplan.planner.heuristics import CertifiedConfiguration, break_ties, trim
from mipplan.planner.instance import Instance, Request, check_theorem, check_tomorrow, trace_instance
from mipplan.planner.narrowing import PlanningParams, options_within, uninterrupted
from mipplan.planner.oracle import ORACLES, CertificateOracle, SeparationOracle
from mipplan.planner.planning import PlanMaker, plan

__all__ = [
    "ORACLES",
    "Bounds",
    "Candidates",
    "CertificateOracle",
    "CertifiedChoice",
    "CertifiedConfiguration",
    "Cut",
    "Enumeration",
    "Instance",
    "LpBound",
    "PathPart",
    "PlanMaker",
    "PlanSearch",
    "PlanningParams",
    "ReducedCosts",
    "Request",
    "SearchMethod",
    "SearchOutcome",
    "SearchParams",
    "SearchSpace",
    "SeparationOracle",
    "StagePart",
    "TooManyError",
    "WalkParams",
    "break_ties",
    "check_search",
    "check_theorem",
    "check_tomorrow",
    "cover_of",
    "list_choices",
    "options_within",
    "plan",
    "strengthen",
    "trace_instance",
    "trim",
    "uninterrupted",
]
