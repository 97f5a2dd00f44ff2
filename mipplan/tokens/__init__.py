"""The realised workload: which tokens every query makes at every stage, the same for every plan and engine."""

from mipplan.tokens.workload import MAX_TOKENS, Messages, StageTokens, Workload, realise

__all__ = ["MAX_TOKENS", "Messages", "StageTokens", "Workload", "realise"]
