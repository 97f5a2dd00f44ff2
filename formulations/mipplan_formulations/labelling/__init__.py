"""Exact solving without linear programs: labels over (cost, duration, wait), cut off by Lagrangian bounds.

The method, with proofs, is on the page ``labels.md``.
"""

from mipplan_formulations.labelling.ascent import AscentParams, DualAscent
from mipplan_formulations.labelling.chain import ChainParams
from mipplan_formulations.labelling.diving import DiveParams, PricedPaths, dive
from mipplan_formulations.labelling.lagrange import DualBound
from mipplan_formulations.labelling.network import NetworkParams
from mipplan_formulations.labelling.solving import LabelAnswer, LabelParams, is_chain, solve_by_labels

__all__ = [
    "AscentParams",
    "ChainParams",
    "DiveParams",
    "DualAscent",
    "DualBound",
    "LabelAnswer",
    "LabelParams",
    "NetworkParams",
    "PricedPaths",
    "dive",
    "is_chain",
    "solve_by_labels",
]
