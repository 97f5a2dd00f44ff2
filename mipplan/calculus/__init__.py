"""Network calculus: arrival and service curves, their deviations, and the trace's own virtual waiting times."""

from mipplan.calculus.arrival import ArrivalCurve, check_curve, empirical_envelope, least_above, overrun
from mipplan.calculus.envelopes import Envelope, EnvelopeCurve, WindowCounts, rate_needed, servers_needed
from mipplan.calculus.intervals import StageArrivals, StageBounds, bound_stage
from mipplan.calculus.paths import PathWait, PathWaits, analyse_paths, join_paths, slowest_within
from mipplan.calculus.samplepath import (
    TIME_CHECK,
    StageService,
    fewest_replicas,
    given_up_at,
    latest_start_ns,
    service_columns,
    stage_service,
)
from mipplan.calculus.waits import Wait
from mipplan.calculus.worstcase import WorstCase, most_tokens_per_query

__all__ = [
    "TIME_CHECK",
    "ArrivalCurve",
    "Envelope",
    "EnvelopeCurve",
    "PathWait",
    "PathWaits",
    "StageArrivals",
    "StageBounds",
    "StageService",
    "Wait",
    "WindowCounts",
    "WorstCase",
    "analyse_paths",
    "bound_stage",
    "check_curve",
    "empirical_envelope",
    "fewest_replicas",
    "given_up_at",
    "join_paths",
    "latest_start_ns",
    "least_above",
    "most_tokens_per_query",
    "overrun",
    "rate_needed",
    "servers_needed",
    "service_columns",
    "slowest_within",
    "stage_service",
]
