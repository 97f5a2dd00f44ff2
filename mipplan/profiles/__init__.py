"""Profiles: what hardware costs, and how long one batch of a model takes on it."""

from __future__ import annotations

from mipplan.profiles.energy import (
    MW_PER_W,
    EnergyTerms,
    PowerBounds,
    PowerDraw,
    Use,
    electricity,
    power_assumption,
    power_bounds,
    power_draw,
    power_problems,
    use_column,
)
from mipplan.profiles.folder import read_hardware
from mipplan.profiles.lint import Finding, Severity, examine
from mipplan.profiles.model import MAX_USD_PER_HOUR, Hardware, Profiles, limit_problem, price_problem
from mipplan.profiles.tables import (
    LATENCY_COLUMNS,
    OPTIONAL_COLUMNS,
    LatencyTable,
    batch_problem,
    measurement_problem,
)

__all__ = [
    "LATENCY_COLUMNS",
    "MAX_USD_PER_HOUR",
    "MW_PER_W",
    "OPTIONAL_COLUMNS",
    "EnergyTerms",
    "Finding",
    "Hardware",
    "LatencyTable",
    "PowerBounds",
    "PowerDraw",
    "Profiles",
    "Severity",
    "Use",
    "batch_problem",
    "electricity",
    "examine",
    "limit_problem",
    "measurement_problem",
    "power_assumption",
    "power_bounds",
    "power_draw",
    "power_problems",
    "price_problem",
    "read_hardware",
    "use_column",
]
