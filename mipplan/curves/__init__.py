"""Network calculus: arrival and service curves, their deviations, and the trace's own virtual waiting times."""

from mipplan.curves.empirical import empirical_envelope
from mipplan.curves.paths import PathWait, PathWaits, WaitCurve, analyse_paths
from mipplan.curves.piecewise import (
    ArrivalCurve,
    ServiceCurve,
    convolve,
    horizontal_deviation,
    vertical_deviation,
)
from mipplan.curves.samplepath import latest_start_ns
from mipplan.curves.service import StageService, ideal_service, stage_service

__all__ = [
    "ArrivalCurve",
    "PathWait",
    "PathWaits",
    "ServiceCurve",
    "StageService",
    "WaitCurve",
    "analyse_paths",
    "convolve",
    "empirical_envelope",
    "horizontal_deviation",
    "ideal_service",
    "latest_start_ns",
    "stage_service",
    "vertical_deviation",
]
