"""The realised workload: which tokens every query makes at every stage, the same for every plan and engine."""

from mipplan.tokens.chunks import joined, without_first
from mipplan.tokens.draws import service_key, uniform_pairs
from mipplan.tokens.workload import Messages, StageTokens, Workload, realise, realise_queries

__all__ = [
    "Messages",
    "StageTokens",
    "Workload",
    "joined",
    "realise",
    "realise_queries",
    "service_key",
    "uniform_pairs",
    "without_first",
]
