"""How the tokens of a query follow from one another: branches, fan-out, delays, merging stages, and the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mipplan.serving.dispatching.blueprint import Blueprint, BlueprintEdge
from mipplan.serving.dispatching.events import ServedBatch, ServedQuery, ServedToken
from mipplan.serving.dispatching.routes import Copies, TokenKey, made_along


@dataclass(frozen=True)
class TokenMessage:
    """What a token sends along an edge."""

    edge: BlueprintEdge
    sender: ServedToken
    copy: int
    output: Any

    @property
    def key(self) -> TokenKey:
        """Key of the token that it makes, where it is not merged."""
        return self.edge.number, self.sender.key, self.copy


class TokenFlow:
    """Lets the tokens of queries flow.

    Parameters
    ----------
    blueprint : Blueprint
    send : callable
        Is given an instant and a message to be received then.
    enqueue : callable
        Is given a token that is ready, and the instant.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        send: Callable[[int, TokenMessage], None],
        enqueue: Callable[[ServedToken, int], None],
    ) -> None:
        self._stages = blueprint.stages
        self._sources = tuple(blueprint.sources)
        self._ancestors = blueprint.ancestors()
        self._send, self._enqueue = send, enqueue

    def enter(self, query: ServedQuery, payload: Any, now_ns: int) -> None:
        """Make the tokens of the sources."""
        for stage in self._sources:
            _count(query, stage, 1)
            self._enqueue(ServedToken(query, stage, (), now_ns, [((), "", payload)]), now_ns)

    def leave(
        self, token: ServedToken, output: Any, decided: Copies | None, now_ns: int, sent_ns: int
    ) -> bool:
        """Send on what a token makes, and return whether it was the last of its query."""
        query, sends = token.query, False
        for edge in self._stages[token.stage].outgoing:
            known = _known(edge, token)
            made = made_along(edge, known, decided, output)
            if known is None:
                query.decided.setdefault((edge.parent, edge.child), {})[token.key] = len(made)
            for copy, piece in enumerate(made):
                sends = True
                _count(query, edge.child, 1)
                self._send(sent_ns + edge.delay_ns, TokenMessage(edge, token, copy, piece))
        if not sends:
            query.ends.append((token.key, token.stage, output))
        _count(query, token.stage, -1)
        self._merge(query, now_ns)
        return not query.live

    def check(self, batch: ServedBatch, decisions: Sequence[Copies] | None) -> None:
        """Raise `InputError` if a decision is missing for a token of a batch that is done, or does not fit."""
        for number, token in enumerate(batch.tokens):
            if not token.query.is_answered:
                for edge in self._stages[batch.stage].outgoing:
                    made_along(edge, _known(edge, token), None if decisions is None else decisions[number])

    def receive(self, message: TokenMessage, now_ns: int) -> None:
        """Let a message arrive."""
        sender, name = message.sender, message.edge.child
        query, received = sender.query, (message.key, sender.stage, message.output)
        if query.is_answered:
            return
        if not self._stages[name].merges:
            self._enqueue(ServedToken(query, name, message.key, now_ns, [received], sender.is_void), now_ns)
            return
        if name in query.merging:
            _count(query, name, -1)  # the first message stands for the token
        token = query.merging.setdefault(name, ServedToken(query, name, ()))
        token.received.append(received)
        token.arrival_ns, token.is_void = now_ns, token.is_void or sender.is_void
        self._merge(query, now_ns)

    def _merge(self, query: ServedQuery, now_ns: int) -> None:
        """Enqueue merged tokens that nothing more can reach."""
        for name, token in list(query.merging.items()):
            if query.routes is not None:
                is_whole = len(token.received) == query.routes.expected[name]
            else:
                others = sum(query.at.get(above, 0) for above in self._ancestors[name])
                is_whole = not others and query.at[name] == 1
            if is_whole and not query.is_answered:  # as by one before it, whose stage has no replica left
                del query.merging[name]
                # Whoever had to wait for a decision after its last message is later than a bound knows.
                token.is_void |= token.arrival_ns < now_ns
                token.arrival_ns = now_ns
                self._enqueue(token, now_ns)


def _count(query: ServedQuery, stage: str, change: int) -> None:
    query.live += change
    query.at[stage] = query.at.get(stage, 0) + change


def _known(edge: BlueprintEdge, token: ServedToken) -> int | None:
    """How many tokens an edge makes of a token, if that is known before its batch is done."""
    if edge.copies is not None or token.query.routes is None:
        return edge.copies
    return token.query.routes.copies[edge.number, token.key]
