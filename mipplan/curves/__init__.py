"""Network calculus: arrival and service curves, their deviations, and the trace's own virtual waiting times."""

from mipplan.curves.capacity import rate_needed, servers_needed
from mipplan.curves.empirical import empirical_envelope, overrun
from mipplan.curves.envelopes import Envelope, WindowCounts
from mipplan.curves.paths import (
    PathWait,
    PathWaits,
    Wait,
    WaitCurve,
    analyse_paths,
    grid_rate,
    grid_step,
)
from mipplan.curves.piecewise import (
    ArrivalCurve,
    ServiceCurve,
    convolve,
    horizontal_deviation,
    vertical_deviation,
)
from mipplan.curves.samplepath import latest_start_ns
from mipplan.curves.service import StageService, ideal_service, service_time_ns, stage_service
from mipplan.curves.worstcase import WorstCase, most_tokens_per_query, worst_case_paths

__all__ = [
    "ArrivalCurve",
    "Envelope",
    "PathWait",
    "PathWaits",
    "ServiceCurve",
    "StageService",
    "Wait",
    "WaitCurve",
    "WindowCounts",
    "WorstCase",
    "analyse_paths",
    "convolve",
    "empirical_envelope",
    "grid_rate",
    "grid_step",
    "horizontal_deviation",
    "ideal_service",
    "latest_start_ns",
    "most_tokens_per_query",
    "overrun",
    "rate_needed",
    "servers_needed",
    "service_time_ns",
    "stage_service",
    "vertical_deviation",
    "worst_case_paths",
]
