"""Models on Ray that take a set time to load."""

from __future__ import annotations

import asyncio
import time

from mipplan.serving import RayWorker

#: From when a replica is asked for until it serves. Its actor alone takes 3 s of a processor, and longer beside others.
LOAD_S = 15.0


class LoadingRayWorker(RayWorker):
    """Replicas that serve no sooner than `LOAD_S` after they were asked for, as if models were large."""

    async def start(self, stage: str, replica: int) -> None:
        """Start the actor of a replica, and wait until its model is as good as loaded."""
        ready_s = time.monotonic() + LOAD_S
        await super().start(stage, replica)
        await asyncio.sleep(ready_s - time.monotonic())
