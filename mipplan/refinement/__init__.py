"""The cheapest plan by replay, or by the sharp certificate, and what is proven about it."""

from mipplan.refinement.refining import refine
from mipplan.refinement.sharpening import sharpen

__all__ = ["refine", "sharpen"]
