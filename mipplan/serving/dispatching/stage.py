"""One stage of a dispatcher: its queue, its replicas, batches to be tried again, and when a batch may leave."""

from __future__ import annotations

import heapq
from typing import Any

from mipplan.pipeline import DispatchLaw
from mipplan.serving.dispatching.blueprint import StageBlueprint
from mipplan.serving.dispatching.events import ServedBatch, ServedToken


class StageState:
    """What waits at a stage, who is busy, and who is there.

    Parameters
    ----------
    blueprint : StageBlueprint
    fifo : bool
        Whether batches take tokens by arrival; else by ingress.
    """

    def __init__(self, blueprint: StageBlueprint, *, fifo: bool) -> None:
        self.blueprint = blueprint
        self.alive = set(range(blueprint.replicas))
        self.busy: dict[int, ServedBatch] = {}
        self.sent_ns: dict[int, int] = {}
        """When each replica has sent on all outputs of its last batch, where its next one may not end before."""
        self.waiting = 0
        self.look_again_ns: int | None = None
        """When time alone makes rule P allow what it forbids now."""
        self._fifo = fifo
        self._queue: list[tuple[Any, ServedToken]] = []
        self._retries: list[tuple[int, tuple[ServedToken, ...]]] = []
        self._slowest_ns = max(blueprint.service_ns)

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits and nothing is served."""
        return not self.waiting and not self.busy

    @property
    def is_off_plan(self) -> bool:
        """Whether there are other replicas than the guarantee holds for."""
        more = len(self.alive) - self.blueprint.replicas
        return more < 0 or (more > 0 and not self.blueprint.bears_more)

    def enqueue(self, token: ServedToken) -> None:
        """Put a token into the queue."""
        order = (token.arrival_ns, token.order) if self._fifo else token.order
        heapq.heappush(self._queue, (order, token))
        token.query.waiting.add(token)
        self.waiting += 1

    def remove(self, token: ServedToken) -> None:
        """Take a token out of the queue; its query has been answered."""
        # It stays in the heap, and is skipped when it comes up.
        token.query.waiting.discard(token)
        self.waiting -= 1

    def retry(self, batch: ServedBatch, *, alone: bool) -> None:
        """Have a batch tried again, before anything that waits; or each of its tokens alone."""
        tokens = tuple(token for token in batch.tokens if not token.query.is_answered)
        self._retries += [(batch.replica, (one,)) for one in tokens] if alone else [(batch.replica, tokens)]
        for token in tokens:
            token.query.waiting.add(token)
        self.waiting += len(tokens)

    def take(self, now_ns: int) -> tuple[int, tuple[ServedToken, ...], bool] | None:
        """Take a batch for an idle replica, if there are both and the law allows it.

        Returns
        -------
        (replica, tokens, whether it is tried again), or None
        """
        self.look_again_ns = None
        idle = self.alive - self.busy.keys()
        if not idle or not self.waiting:
            return None
        self._retries = [
            (failed_on, tokens)
            for failed_on, tokens in self._retries
            if any(not token.query.is_answered for token in tokens)
        ]
        replica, place = min(idle), None
        for number, (failed_on, _) in enumerate(self._retries):
            # On another replica than where it failed, if there is one.
            others = idle - {failed_on} if self.alive != {failed_on} else idle
            if others:
                replica, place = min(others), number
                break
        if place is None:
            size = min(self.blueprint.batch, self.waiting - self._waiting_for_retry())
        else:
            size = sum(not token.query.is_answered for token in self._retries[place][1])
        if not size:
            return None
        allowed_ns = self._spread_from(now_ns, size)
        if allowed_ns > now_ns:
            self.look_again_ns = allowed_ns
            return None
        if place is None:
            taken = tuple(self._next() for _ in range(size))
        else:
            taken = tuple(token for token in self._retries.pop(place)[1] if not token.query.is_answered)
        for token in taken:
            token.query.waiting.discard(token)
        self.waiting -= size
        return replica, taken, place is not None

    def _next(self) -> ServedToken:
        while True:
            _, token = heapq.heappop(self._queue)
            if not token.query.is_answered:
                return token

    def _waiting_for_retry(self) -> int:
        return sum(not token.query.is_answered for _, tokens in self._retries for token in tokens)

    def _spread_from(self, now_ns: int, size: int) -> int:
        """Return when rule P allows a batch of that size, from now on, if nothing else happens; one is idle now.

        The i-th of m worst-case free times must be at most j·δ later than the dispatch, j being its rank among those
        of all n replicas after the dispatch: n − m + i, or one less where the new batch ranks above it
        ([theory, section 11][11-dispatch-laws]).
        """
        if self.blueprint.law is not DispatchLaw.PACED:
            return now_ns
        replicas = len(self.alive)
        delta = -(-self._slowest_ns // replicas)
        own = -(-self.blueprint.service_ns[size - 1] // delta)
        due = sorted(batch.due_ns for batch in self.busy.values())
        for place, due_ns in enumerate(due, replicas - len(due) + 1):
            rank = place - 1 if place <= own else place
            now_ns = max(now_ns, due_ns - rank * delta)
        return now_ns

    def abandon(self) -> list[ServedToken]:
        """Return all that waits; with no replica left, nobody will serve it."""
        waiting = [token for _, token in self._queue if token in token.query.waiting]
        return waiting + [
            token for _, tokens in self._retries for token in tokens if not token.query.is_answered
        ]
