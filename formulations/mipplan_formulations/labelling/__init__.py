"""Exact solving without linear programs: labels over (cost, duration, wait), cut off by Lagrangian bounds.

The method, with proofs, is on the page ``labels.md``.
"""

from mipplan_formulations.labelling.guides import Guide
from mipplan_formulations.labelling.solving import LabelAnswer, is_chain, solve_by_labels

__all__ = ["Guide", "LabelAnswer", "is_chain", "solve_by_labels"]
