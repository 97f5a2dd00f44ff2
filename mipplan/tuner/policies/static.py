"""The plan's replicas, whatever comes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mipplan.tuner.observation import Observation
from mipplan.tuner.policies.policy import Setting


@dataclass(frozen=True)
class Static:
    """Never change anything."""

    name: str = "static"

    def start(self, setting: Setting) -> _Still:  # noqa: ARG002  # as every policy
        """Start."""
        return _Still()


class _Still:
    def decide(self, seen: Observation) -> Mapping[str, int]:  # noqa: ARG002  # as every controller
        return {}
