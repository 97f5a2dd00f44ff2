"""Several projects that share resources: the problem, the pool of known ways, and their formulations.

Formulations are to be had by name from `mipplan_formulations.MULTI_PROJECT_FORMULATIONS`.
"""

from mipplan_formulations.projects.problem import (
    ColumnPool,
    Columns,
    MultiProjectEvaluation,
    MultiProjectProblem,
    Selections,
)

__all__ = ["ColumnPool", "Columns", "MultiProjectEvaluation", "MultiProjectProblem", "Selections"]
