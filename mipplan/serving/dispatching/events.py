"""Tokens and batches under way, and what a dispatcher asks of its host."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from mipplan.serving.dispatching.routes import Decisions, KnownRoutes, TokenKey


class Outcome(StrEnum):
    """How a query ended."""

    SERVED = "served"
    FAILED = "failed"
    """A batch with one of its tokens failed as often as it is tried, or a stage has no replica left."""
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    """Its client has gone."""


@dataclass(eq=False)
class ServedQuery:
    """A query that was accepted, until it is answered."""

    number: int
    """By ingress."""
    name: Hashable
    ingress_ns: int
    routes: KnownRoutes | None
    """None if they are decided token by token."""
    decisions: Decisions = field(default_factory=dict)
    """What was told of it when it entered."""
    live: int = 0
    """Tokens that wait or are served, messages under way, and tokens that wait for messages to be merged."""
    at: dict[str, int] = field(default_factory=dict)
    """The same by stage."""
    merging: dict[str, ServedToken] = field(default_factory=dict)
    """Tokens whose messages have not all arrived."""
    waiting: set[ServedToken] = field(default_factory=set)
    """Tokens in queues."""
    decided: dict[tuple[str, str], dict[TokenKey, int]] = field(default_factory=dict)
    """What was decided token by token: by edge and key of the parent."""
    ends: list[tuple[TokenKey, str, Any]] = field(default_factory=list)
    """Tokens that nothing follows, in the order in which they were done: key, stage and output."""
    is_answered: bool = False
    is_void: bool = False

    @property
    def outputs(self) -> list[tuple[str, Any]]:
        """Stages and outputs of the tokens that nothing follows, in token order, in whichever they were done."""
        return [(stage, output) for _, stage, output in sorted(self.ends, key=lambda end: end[:2])]

    @property
    def route(self) -> Decisions:
        """What edges that decide made of its tokens, in token order: as it was told, or as it has turned out so far."""
        found = {arc: [counts[key] for key in sorted(counts)] for arc, counts in self.decided.items()}
        return self.decisions or found


@dataclass(eq=False)
class ServedToken:
    """One piece of work of a query at a stage."""

    query: ServedQuery
    stage: str
    key: TokenKey
    arrival_ns: int = 0
    """When it was ready, and went into the queue."""
    received: list[tuple[TokenKey, str, Any]] = field(default_factory=list)
    """Messages that it is made of: key, stage and output of the sender."""
    is_void: bool = False

    @property
    def inputs(self) -> list[tuple[str, Any]]:
        """What it is made of: stages and their outputs, in token order; (``""``, payload) at a source."""
        return [(stage, output) for _, stage, output in sorted(self.received, key=lambda message: message[0])]

    @property
    def order(self) -> tuple[int, TokenKey]:
        """Place in token order among the tokens of the stage."""
        return self.query.number, self.key


@dataclass(eq=False)
class ServedBatch:
    """Tokens that a replica serves together."""

    number: int
    stage: str
    replica: int
    tokens: tuple[ServedToken, ...]
    """In the order in which they were taken."""
    dispatched_ns: int
    due_ns: int
    """Dispatch and ℓ(k)."""
    is_retry: bool = False
    finished_ns: int | None = None
    overran: bool = False
    outputs: Sequence[Any] | None = None
    decisions: Sequence[Any] | None = None

    @property
    def oldest(self) -> ServedToken:
        """The first of its tokens in token order."""
        return min(self.tokens, key=lambda token: token.order)


@dataclass(frozen=True)
class Dispatched:
    """The host shall have a replica run a batch."""

    batch: ServedBatch


@dataclass(frozen=True)
class BatchEnded:
    """A batch is done, or has failed; for logs and metrics."""

    batch: ServedBatch
    now_ns: int
    error: str | None
    retries: bool
    """Whether it is tried again."""


@dataclass(frozen=True)
class Overran:
    """A batch is not done when its table says."""

    batch: ServedBatch


@dataclass(frozen=True)
class Voided:
    """What is guaranteed of a plan is not guaranteed of this query: something at this stage was not as planned."""

    query: ServedQuery
    stage: str


@dataclass(frozen=True)
class Answered:
    """The host shall answer a query: with its outputs, or with the reason why there are none."""

    query: ServedQuery
    now_ns: int
    outcome: Outcome
    reason: str | None

    @property
    def latency_ns(self) -> int:
        """From ingress to the last exit of any of its tokens."""
        return self.now_ns - self.query.ingress_ns


Step: TypeAlias = Dispatched | BatchEnded | Overran | Voided | Answered
