"""Models on Ray that take a set time to load."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mipplan.serving import RayWorker, ServedBatch
from mipplan.serving.workers import BatchFunction

#: From when a replica is asked for until it serves.
LOAD_S = 15.0
#: Actors of each stage that are there from the start.
ACTORS = 10


class LoadingRayWorker(RayWorker):
    """Replicas that serve `LOAD_S` after they were asked for, as if models were large.

    Their actors are started beforehand, all at once, and kept: an actor takes 3 s of a processor to start, which in a
    cluster is none of those that serve, and on this machine would be.
    """

    def __init__(
        self,
        models: Mapping[str, Callable[[], BatchFunction]],
        options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(models, options)
        self._idle: dict[str, list[int]] = {stage: [] for stage in models}
        self._actor_of: dict[tuple[str, int], int] = {}
        self._starting = asyncio.Lock()

    async def start(self, stage: str, replica: int) -> None:
        """Take an idle actor, and wait until its model is as good as loaded."""
        async with self._starting:
            if not self._actor_of and not any(self._idle.values()):
                every = [(stage, actor) for stage in self._idle for actor in range(ACTORS)]
                await asyncio.gather(*(RayWorker.start(self, *one) for one in every))
                self._idle = {stage: list(range(ACTORS)) for stage in self._idle}
        ready_s = time.monotonic() + LOAD_S
        if (stage, replica) not in self._actor_of:
            self._actor_of[stage, replica] = self._idle[stage].pop()
        await asyncio.sleep(ready_s - time.monotonic())

    async def run(self, stage: str, replica: int, batch: ServedBatch) -> Sequence[Any]:
        """Have the actor that the replica took serve the batch."""
        return await super().run(stage, self._actor_of[stage, replica], batch)

    async def stop(self, stage: str, replica: int) -> None:
        """Leave the actor to a later replica."""
        # One that was called off may not have taken any yet.
        if (actor := self._actor_of.pop((stage, replica), None)) is not None:
            self._idle[stage].append(actor)
