"""Which batch sizes to measure: those named, those that a line misses by most, those that could change a plan."""

from mipplan.profiling.sizes.choosing import (
    AdaptiveSizes,
    EnoughSizes,
    InTime,
    NamedSizes,
    NextSize,
    SizeRule,
    check_sizes,
)
from mipplan.profiling.sizes.gaps import Gap, KnownLatency, falls, find_gaps, known_latency

__all__ = [
    "AdaptiveSizes",
    "EnoughSizes",
    "Gap",
    "InTime",
    "KnownLatency",
    "NamedSizes",
    "NextSize",
    "SizeRule",
    "check_sizes",
    "falls",
    "find_gaps",
    "known_latency",
]
