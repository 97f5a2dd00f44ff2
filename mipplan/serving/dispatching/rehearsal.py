"""A dispatcher driven by a virtual clock: what it does with given ingress times and given times of batches."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from mipplan.serving.dispatching.dispatcher import Dispatcher
from mipplan.serving.dispatching.events import (
    Answered,
    BatchEnded,
    Dispatched,
    Overran,
    ServedBatch,
    ServedQuery,
    Step,
    Voided,
)
from mipplan.serving.dispatching.routes import Decisions

#: How long a device takes for a batch, ns; None if it never comes back.
BatchTime: TypeAlias = Callable[[ServedBatch], int | None]
#: Something else that happens at an instant.
Incident: TypeAlias = tuple[int, Callable[[Dispatcher, int], None]]


@dataclass
class Rehearsal:
    """What happened. Queries are named by their place among the ingress times.

    Attributes
    ----------
    batches : dict of str to list of ServedBatch
        By stage, in order of dispatch.
    steps : list of Step
        All that the host was told, in this order.
    ended : list of BatchEnded
        In order of their ends.
    answers : list of Answered
    rejected : dict of int to str
        Queries that were turned away, and why.
    overruns : list of ServedBatch
    void : set of int
        Queries that have lost the guarantee.
    end_ns : int
        The last instant at which anything happened.
    """

    batches: dict[str, list[ServedBatch]]
    steps: list[Step] = field(default_factory=list)
    ended: list[BatchEnded] = field(default_factory=list)
    answers: list[Answered] = field(default_factory=list)
    rejected: dict[int, str] = field(default_factory=dict)
    overruns: list[ServedBatch] = field(default_factory=list)
    void: set[int] = field(default_factory=set)
    end_ns: int = 0

    @property
    def latency_ns(self) -> dict[int, int]:
        """Latency of every query that was answered."""
        return {_place(answer.query): answer.latency_ns for answer in self.answers}

    def note(self, step: Step) -> None:
        """Take a step down."""
        self.steps.append(step)
        if isinstance(step, Dispatched):
            self.batches[step.batch.stage].append(step.batch)
        elif isinstance(step, BatchEnded):
            self.ended.append(step)
        elif isinstance(step, Answered):
            self.answers.append(step)
        elif isinstance(step, Overran):
            self.overruns.append(step.batch)
        elif isinstance(step, Voided):
            self.void.add(_place(step.query))


def rehearse(
    dispatcher: Dispatcher,
    ingress_ns: Sequence[int],
    decisions: Sequence[Decisions] | None = None,
    *,
    batch_time: BatchTime | None = None,
    decide: Callable[[ServedBatch], Sequence[Mapping[str, int]]] | None = None,
    incidents: Iterable[Incident] = (),
) -> Rehearsal:
    """Let a dispatcher serve queries on a virtual clock, until nothing is left to happen.

    Parameters
    ----------
    dispatcher : Dispatcher
        A fresh one.
    ingress_ns : sequence of int
        Non-decreasing.
    decisions : sequence of decisions, optional
        One for each query, told when it enters.
    batch_time : callable, optional
        How long a device takes for a batch; by default what the table says. None: it never comes back.
    decide : callable, optional
        The decisions for the tokens of a batch, told when it is done.
    incidents : iterable of (instant, callable)
        What else happens; called with the dispatcher and the instant, after what else happens at it.
    """
    seen = Rehearsal({name: [] for name in dispatcher.stages})
    devices: list[tuple[int, int, ServedBatch]] = []
    entering = list(zip(ingress_ns, range(len(ingress_ns)), strict=True))[::-1]
    others = sorted(incidents, key=lambda incident: incident[0], reverse=True)
    while True:
        due = [devices[0][0]] if devices else []
        due += [entering[-1][0]] if entering else []
        due += [others[-1][0]] if others else []
        due += [wake_ns] if (wake_ns := dispatcher.next_wake_ns) is not None else []
        if not due:
            return seen
        now_ns = max(min(due), seen.end_ns)
        seen.end_ns = now_ns
        while devices and devices[0][0] <= now_ns:
            batch = heapq.heappop(devices)[2]
            dispatcher.finished(batch.number, now_ns, None, decide(batch) if decide else None)
        while entering and entering[-1][0] <= now_ns:
            _, query = entering.pop()
            reason = dispatcher.arrive(query, now_ns, decisions=decisions[query] if decisions else None)
            if reason is not None:
                seen.rejected[query] = reason
        while others and others[-1][0] <= now_ns:
            others.pop()[1](dispatcher, now_ns)
        for step in dispatcher.wake(now_ns):
            seen.note(step)
            if isinstance(step, Dispatched):
                taken_ns = _table_time(step.batch) if batch_time is None else batch_time(step.batch)
                if taken_ns is not None:
                    heapq.heappush(
                        devices, (step.batch.dispatched_ns + taken_ns, step.batch.number, step.batch)
                    )


def _place(query: ServedQuery) -> int:
    """Its place among the ingress times, by which it was named."""
    return int(str(query.name))


def _table_time(batch: ServedBatch) -> int:
    return batch.due_ns - batch.dispatched_ns
