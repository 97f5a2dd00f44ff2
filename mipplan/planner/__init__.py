"""The planner: the cheapest certified plan, by logic-based Benders decomposition (design §4)."""

from mipplan.planner.plan import plan

__all__ = ["plan"]
