"""The planner: the cheapest certified plan, by logic-based Benders decomposition (design §4)."""

from mipplan.planner.explanation import explain
from mipplan.planner.planning import plan

__all__ = ["explain", "plan"]
