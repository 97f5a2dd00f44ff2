"""The realised workload: which tokens every query makes at every stage, the same for every plan and engine."""

from mipplan.tokens.stage_tokens import Messages, StageTokens
from mipplan.tokens.workload import MAX_TOKENS, Workload, realise

__all__ = ["MAX_TOKENS", "Messages", "StageTokens", "Workload", "realise"]
