"""The planner: the cheapest certified plan, by logic-based Benders decomposition (design §4)."""

from mipplan.planner.benders import PlanSearch
from mipplan.planner.candidates import Bounds, Candidates, PathPart, StagePart, TooManyError, list_choices
from mipplan.planner.cuts import Cut, cover_of, strengthen
from mipplan.planner.explanation import explain
from mipplan.planner.incumbent import trim
from mipplan.planner.instance import Instance, trace_instance
from mipplan.planner.oracle import CertificateOracle
from mipplan.planner.planning import check_search, plan

__all__ = [
    "Bounds",
    "Candidates",
    "Cut",
    "Instance",
    "PathPart",
    "PlanSearch",
    "StagePart",
    "TooManyError",
    "CertificateOracle",
    "check_search",
    "cover_of",
    "explain",
    "list_choices",
    "plan",
    "strengthen",
    "trace_instance",
    "trim",
]
