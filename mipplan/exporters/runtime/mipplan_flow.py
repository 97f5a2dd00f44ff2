"""How one query goes through the stages of a pipeline: branches, fan-out and joins.

An export takes this file along as it is. It needs nothing but Python's own library.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: What a token brings along: the stage that sent it (empty where the query enters) and what that stage answered.
Message = tuple[str, Any]


@dataclass(frozen=True)
class FlowEdge:
    """With `probability` a token of `parent` makes tokens of `child`: one of `values`, or a Poisson number."""

    parent: str
    child: str
    probability: float = 1.0
    values: tuple[int, ...] = (1,)
    weights: tuple[float, ...] = (1.0,)
    poisson_mean: float | None = None

    def draw(self, random_numbers: random.Random) -> int:
        """Draw how many tokens one token makes, as the plan assumes."""
        if random_numbers.random() >= self.probability:
            return 0
        if self.poisson_mean is None:
            return random_numbers.choices(self.values, self.weights)[0]
        # Arrivals of a Poisson process of rate 1 within the mean.
        count, time = 0, -math.log(1.0 - random_numbers.random())
        while time < self.poisson_mean:
            count += 1
            time -= math.log(1.0 - random_numbers.random())
        return count


class Flow:
    """The way of queries through a pipeline.

    Parameters
    ----------
    merges : mapping of str to bool
        Every stage, and whether it makes one token of all that a query sends to it (``join: all``). Otherwise it
        serves each.
    edges : sequence of FlowEdge
    """

    def __init__(self, merges: Mapping[str, bool], edges: Sequence[FlowEdge]) -> None:
        self.merges = dict(merges)
        self.incoming = {stage: [edge for edge in edges if edge.child == stage] for stage in merges}
        self.outgoing = {stage: [edge for edge in edges if edge.parent == stage] for stage in merges}

    async def run(
        self,
        query: Any,
        infer: Callable[[str, list[Message]], Awaitable[Any]],
        copies: Callable[[FlowEdge, Any], int | Sequence[Any]],
    ) -> list[Message]:
        """Serve one query; return the answers from which nothing went on, each with its stage.

        Parameters
        ----------
        query : object
            What enters at every stage without an incoming edge.
        infer : callable
            Serves one token: a stage and the messages that made the token, one where the stage does not merge.
        copies : callable
            How many tokens an answer makes along an edge of its stage, each of which gets the answer; or a list of what
            each gets.

        Raises whatever `infer` and `copies` raise; the query's other tokens are then cancelled.
        """
        tokens: dict[str, list[asyncio.Future[None]]] = {stage: [] for stage in self.merges}
        inbox: dict[str, list[Message]] = {stage: [] for stage in self.merges}
        is_done = {stage: asyncio.Event() for stage in self.merges}
        ends: list[Message] = []

        async def serve(stage: str, messages: list[Message]) -> None:
            answer, goes_on = await infer(stage, messages), False
            for edge in self.outgoing[stage]:
                made = copies(edge, answer)
                # A count may be one of NumPy's, as of what is above a threshold.
                for piece in made if isinstance(made, Iterable) else [answer] * int(made):
                    goes_on = True
                    if self.merges[edge.child]:
                        inbox[edge.child].append((stage, piece))
                    else:
                        start(edge.child, [(stage, piece)])
            if not goes_on:
                ends.append((stage, answer))

        def start(stage: str, messages: list[Message]) -> None:
            tokens[stage].append(asyncio.ensure_future(serve(stage, messages)))

        async def watch(stage: str) -> None:
            """Once nothing more can come from above, start a merged token, and wait for all tokens."""
            for edge in self.incoming[stage]:
                await is_done[edge.parent].wait()
            if not self.incoming[stage]:
                start(stage, [("", query)])
            elif inbox[stage]:
                start(stage, inbox[stage])
            await asyncio.gather(*tokens[stage])
            is_done[stage].set()

        watched = [asyncio.ensure_future(watch(stage)) for stage in self.merges]
        try:
            await asyncio.gather(*watched)
        finally:
            left = [*watched, *(token for made in tokens.values() for token in made)]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        return ends
