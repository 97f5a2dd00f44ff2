"""The cheapest plan by replay, or by the sharp certificate, and what is proven about it; and parts of the search."""

from mipplan.refinement.bounds import Known, LeastTimes, narrow
from mipplan.refinement.evaluation import Counters, ReplayOracle, Screen, WorkLimit, screen, study_stages
from mipplan.refinement.heuristics import Heuristics, fastest_plan, propose_plans
from mipplan.refinement.problem import Domains, RefinementProblem, Span, least_cost, state_problem
from mipplan.refinement.request import refine
from mipplan.refinement.search import RefinementSearch
from mipplan.refinement.sharpening import sharpen

__all__ = [
    "Counters",
    "Domains",
    "Heuristics",
    "Known",
    "LeastTimes",
    "RefinementProblem",
    "RefinementSearch",
    "ReplayOracle",
    "Screen",
    "Span",
    "WorkLimit",
    "fastest_plan",
    "least_cost",
    "narrow",
    "propose_plans",
    "refine",
    "screen",
    "sharpen",
    "state_problem",
    "study_stages",
]
