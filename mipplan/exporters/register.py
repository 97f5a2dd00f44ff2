"""The register of serving systems that plans are exported to, and what each of them has to offer."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from mipplan.core import Fault
from mipplan.exporters.departures import Departure, ServingRules
from mipplan.exporters.deployment import DeployedStage, Deployment
from mipplan.exporters.keda import Keda
from mipplan.exporters.kserve import KServe
from mipplan.exporters.mosec import Mosec
from mipplan.exporters.ray_serve import RayServe
from mipplan.exporters.triton import Triton


class ExportTarget(Protocol):
    """A serving system."""

    name: str
    """What ``--to`` calls it."""
    title: str
    """What is written for it."""
    rules: ServingRules
    """How it makes batches."""

    def faults(self, deployment: Deployment, /) -> list[Fault]:
        """Say what keeps a plan from being written for it; empty if nothing."""

    def departures(self, deployment: Deployment, /) -> list[Departure]:
        """Say what it does not keep of a plan, and what that does to the guarantee."""

    def files(self, deployment: Deployment, /) -> dict[str, str]:
        """Write the files: text by path in the folder, the same for the same plan."""

    def settings(self, stage: DeployedStage, /) -> str:
        """Say where the figures of a stage went, in Markdown."""

    def start(self, deployment: Deployment, /) -> str:
        """Say how to start it, in Markdown."""


_TARGETS: tuple[ExportTarget, ...] = (Triton(), RayServe(), Mosec(), KServe(), Keda())

#: Serving systems by name.
TARGETS: Mapping[str, ExportTarget] = MappingProxyType({target.name: target for target in _TARGETS})
