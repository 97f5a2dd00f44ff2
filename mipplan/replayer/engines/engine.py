"""What an engine is: what it can do, whether it is there, and how it serves a stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from mipplan.replayer.task import Served, StageTask
from mipplan.result import Following


class Feature(StrEnum):
    """What a task may ask for beyond constant replicas, certain service times and an empty start."""

    SCHEDULE = "schedule"
    """Replica counts that change."""
    RANDOM_SERVICE = "random service"
    """Service times by level."""
    RESUME = "resume"
    """Batches under way at the start, or a last instant of dispatch."""


ALL_FEATURES = frozenset(Feature)


@dataclass(frozen=True)
class Engine:
    """One way to serve a stage; all engines agree bit for bit on what they can do.

    Attributes
    ----------
    name : str
    features : frozenset of Feature
        Both queue disciplines are a matter of course.
    missing : callable
        Why it cannot run here (a package that is not installed), or None.
    serve_many : callable
        Serves one stage under several plans: a sequence of tasks, one answer each.
    is_cold : callable
        Whether its next use has to load, or even compile, what takes longer than a small job.
    follow_many : callable, optional
        Serves a stage under several plans where its tokens all follow those of a stage above: tasks without arrivals,
        and the arrivals. Only if that is faster than to write these out.
    """

    name: str
    features: frozenset[Feature]
    missing: Callable[[], str | None]
    serve_many: Callable[[Sequence[StageTask]], list[Served]]
    is_cold: Callable[[], bool] = lambda: False
    follow_many: Callable[[Sequence[StageTask], Following], list[Served]] | None = None

    def can(self, needed: frozenset[Feature]) -> bool:
        """Whether it does all that is needed."""
        return needed <= self.features
