"""What an engine is asked to do at one stage, what it answers, and what an engine is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mipplan.core import InputError, Int64, format_duration
from mipplan.pipeline import LONGEST_RETRY_NS, ServingSystem
from mipplan.result import BatchAssignment, Following

#: Dispatch and exit of a token that was left waiting; also "no last instant".
NEVER = int(np.iinfo(np.int64).max)
#: Exit of a token that was not dispatched (yet): beyond every time, and adding a delay to it does not overflow.
UNKNOWN = NEVER // 2
#: Before every event.
ALWAYS = int(np.iinfo(np.int64).min)
#: No batch may end later: 73 years, far from the end of int64, so that no sum of times gets there.
LATEST = 2**61


@dataclass(frozen=True)
class Capacity:
    """How many replicas may be busy at once, over time.

    A batch may be dispatched at an instant t only while fewer than ``replicas`` of the last step with
    ``from_ns <= t`` are busy. So a replica that is taken away finishes its batch and retires.
    """

    from_ns: Int64  # Shape (c,). Strictly increasing; the first is `ALWAYS`.
    replicas: Int64  # Shape (c,). Not negative; the last is positive, or tokens would wait for ever.

    @classmethod
    def constant(cls, replicas: int) -> Capacity:
        """The same number at all times."""
        return cls(np.array([ALWAYS], dtype=np.int64), np.array([replicas], dtype=np.int64))

    @property
    def is_constant(self) -> bool:
        """Whether it never changes."""
        return self.from_ns.size == 1

    @property
    def most(self) -> int:
        """The largest number at any time."""
        return int(self.replicas.max())


def no_times() -> Int64:
    """An empty array of instants."""
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class StageTask:
    """Serve these tokens at one stage.

    Whenever a replica is idle and a token waits, it takes the first ``k = min(b, waiting)`` tokens in queue order
    and is busy for ℓ(k). At one instant everything that arrives or completes is enqueued before anything is
    dispatched. A paced task dispatches by rule P ([theory, section 11][11-dispatch-laws]) what it could at once.
    """

    arrival_ns: Int64  # Shape (tokens,). In token order.
    # Shape (levels, b). ℓ(1), …, ℓ(b), at least 1 each; one row per level of random service.
    service_ns: Int64
    capacity: Capacity
    fifo: bool = False  # Queue by arrival at the stage, ties by token order; else by token order alone.
    # Shape (tokens,), or None. Row of `service_ns` for a batch whose oldest token (lowest number) is this
    # one; None means row 0.
    level: NDArray[np.uint16] | None = None
    # Shape (m,). Ends of batches that were under way before the first of these tokens, in any order.
    busy_until_ns: Int64 = field(default_factory=no_times)
    # Nothing is dispatched after this instant; what then still waits, or arrives later, is left waiting.
    until_ns: int = NEVER
    # Shape (b,), or None. ℓ(1), …, ℓ(b), by which rule P spreads dispatches, whatever batches then take.
    pace_ns: Int64 | None = None
    # Shape (m,). Of a paced task: when each of the batches under way should end by that table.
    busy_due_ns: Int64 = field(default_factory=no_times)
    # By whose law batches are made, if it is not that of eager dispatch. Tokens that arrive at `UNKNOWN` or later are
    # left waiting then, and so are those that are turned away.
    system: ServingSystem | None = None
    draws: str = ""  # Seed of the router's draws, if the system has one that draws.

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return int(self.arrival_ns.size)

    @property
    def batch(self) -> int:
        """Batch cap b."""
        return int(self.service_ns.shape[1])

    @property
    def is_plain(self) -> bool:
        """Whether it is eager, with constant replicas and certain times, and the stage starts empty and ends empty."""
        return (
            self.capacity.is_constant
            and self.level is None
            and self.busy_until_ns.size == 0
            and self.until_ns == NEVER
            and self.pace_ns is None
            and self.system is None
        )


#: What happened at one stage.
Served: TypeAlias = BatchAssignment


class EngineFeature(StrEnum):
    """What a task may ask for beyond constant replicas, certain service times, an empty start and eager dispatch."""

    SCHEDULE = "schedule"
    """Replica counts that change."""
    RANDOM_SERVICE = "random service"
    """Service times by level."""
    RESUME = "resume"
    """Batches under way at the start, or a last instant of dispatch."""
    PACED = "paced dispatch"
    """Dispatches that are spread by rule P."""
    SYSTEM = "a serving system's own law"
    """Batches as a serving system makes them (`mipplan.pipeline.systems`)."""


class Engine(Protocol):
    """One way to serve a stage; all engines agree bit for bit on what they can do."""

    name: str
    # By default all but the laws of systems. Both queue disciplines are a matter of course.
    features: frozenset[EngineFeature] = frozenset(EngineFeature) - {EngineFeature.SYSTEM}
    together: int = 1  # How many tasks it is best asked for at once.
    follows: bool = False  # Whether `follow_many` is faster than to write the arrivals out.

    def can(self, needed: frozenset[EngineFeature]) -> bool:
        """Whether it does all that is needed."""
        return needed <= self.features

    def missing(self) -> str | None:
        """Why it cannot run here (a package that is not installed), or None."""
        return None

    def is_cold(self) -> bool:
        """Whether its next use has to load, or even compile, what takes longer than a small job."""
        return False

    def serve_many(self, tasks: Sequence[StageTask]) -> list[Served]:
        """Serve one stage under several plans: one answer for each task."""

    def follow_many(self, tasks: Sequence[StageTask], following: Following) -> list[Served]:
        """Serve a stage whose tokens all follow those of one above; the tasks hold no arrivals."""
        return self.serve_many([replace(task, arrival_ns=following.at_ns) for task in tasks])


def latest_ends(busy_until_ns: Int64, replicas: int) -> Int64:
    """When each replica is idle first, ascending; `ALWAYS` for those without a batch under way.

    With more batches under way than replicas, the first to end make way for none.
    """
    return np.sort(np.append(np.full(replicas, ALWAYS, dtype=np.int64), busy_until_ns))[-replicas:]


def dues_by_end(task: StageTask, replicas: int) -> Int64:
    """When the batches of `latest_ends` should end, of a paced task; `ALWAYS` where there is none."""
    due_ns = task.busy_due_ns[np.argsort(task.busy_until_ns, kind="stable")]
    return np.append(np.full(replicas, ALWAYS, dtype=np.int64), due_ns)[-replicas:]


def latest_end_ns(task: StageTask, arrived_ns: int, tokens: int) -> int:
    """Return an instant after which no batch of a task ends, by arithmetic that cannot overflow.

    Once everything has arrived and the capacity is what it will stay, n replicas are busy while a token waits. They
    have then begun at most all tokens one by one, besides what was under way; and the last batch takes its time.
    Nothing arrives after `arrived_ns`; `tokens` is how many there will be, as the task may hold none yet.
    """
    if not tokens:
        return arrived_ns
    slowest_ns = int(task.service_ns.max())
    settled_ns = max(arrived_ns, int(task.capacity.from_ns[-1]), int(task.busy_until_ns.max(initial=ALWAYS)))
    in_turn_ns = tokens * slowest_ns // int(task.capacity.replicas[-1])
    if (
        task.pace_ns is not None
    ):  # one at a time, at most a batch apart, or δ, if none takes longer than it should
        pace_ns = -(-int(task.pace_ns.max()) // int(task.capacity.replicas[-1]))
        in_turn_ns = tokens * (pace_ns if slowest_ns <= int(task.pace_ns.max()) else slowest_ns)
    if task.system is not None:  # whatever idles: one at a time, each collected for, and drawn for in vain
        in_turn_ns = tokens * (slowest_ns + task.system.window_ns + LONGEST_RETRY_NS)
    return min(settled_ns + in_turn_ns + slowest_ns, task.until_ns) + slowest_ns


def check_end(task: StageTask, arrived_ns: int, tokens: int) -> None:
    """Raise `InputError` if a batch may end later than `LATEST`; parameters as for `latest_end_ns`."""
    if latest_end_ns(task, arrived_ns, tokens) > LATEST:
        raise InputError.one(
            "plan",
            f"{tokens:,} tokens in batches of up to {format_duration(int(task.service_ns.max()))} may take beyond "
            "73 years at a stage: are the latencies in another unit?",
        )
