"""The realised workload: which tokens every query makes at every stage, the same for every plan and engine."""

from mipplan.tokens.chunks import joined, without_first
from mipplan.tokens.draws import (
    MOST_SEEDS,
    Sample,
    check_seeds,
    find_samples,
    read_traces,
    service_key,
    uniform_pairs,
)
from mipplan.tokens.workload import Messages, StageTokens, Workload, least_demand, realise, realise_queries

__all__ = [
    "MOST_SEEDS",
    "Messages",
    "Sample",
    "StageTokens",
    "Workload",
    "check_seeds",
    "find_samples",
    "joined",
    "least_demand",
    "read_traces",
    "realise",
    "realise_queries",
    "service_key",
    "uniform_pairs",
    "without_first",
]
