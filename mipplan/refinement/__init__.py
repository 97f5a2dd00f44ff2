"""The cheapest plan that *replays* within its objective, and what is proven about it."""

from mipplan.refinement.refining import refine

__all__ = ["refine"]
