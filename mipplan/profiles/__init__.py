"""Profiles: what hardware costs, and how long one batch of a model takes on it."""

from __future__ import annotations

from mipplan.profiles.folder import read_hardware
from mipplan.profiles.lint import Finding, Severity, examine
from mipplan.profiles.model import Hardware, Profiles, limit_problem, price_problem
from mipplan.profiles.tables import (
    LATENCY_COLUMNS,
    OPTIONAL_COLUMNS,
    LatencyTable,
    batch_problem,
    measurement_problem,
)

__all__ = [
    "LATENCY_COLUMNS",
    "OPTIONAL_COLUMNS",
    "Finding",
    "Hardware",
    "LatencyTable",
    "Profiles",
    "Severity",
    "batch_problem",
    "examine",
    "limit_problem",
    "measurement_problem",
    "price_problem",
    "read_hardware",
]
