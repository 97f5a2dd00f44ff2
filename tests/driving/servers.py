"""A real HTTP server on a free port of this machine, in a thread of its own, that behaves as a test wants it to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
MODEL = {"name": "net", "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]}
ANSWER = {"outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [0.5, 0.5]}]}


@contextmanager
def served(infer: Handler, *, key: str | None = None, **documents: Any) -> Iterator[str]:
    """Serve a model `net` whose answers `infer` makes, and the same at ``/any``; yields the server's URL.

    With a key, every request needs it.
    """

    async def described(request: web.Request) -> web.Response:
        return web.json_response({"name": "small", "version": "1", **documents})

    async def model(request: web.Request) -> web.Response:
        return web.json_response(MODEL)

    @web.middleware
    async def checked(request: web.Request, handler: Handler) -> web.StreamResponse:
        if key not in (None, request.headers.get("X-Key")):
            return web.Response(status=401)
        return await handler(request)

    app = web.Application(middlewares=[checked])
    app.router.add_get("/v2", described)
    app.router.add_get("/v2/models/net", model)
    app.router.add_post("/v2/models/net/infer", infer)
    app.router.add_route("*", "/any", infer)
    loop, ready, ports = asyncio.new_event_loop(), threading.Event(), []

    async def start() -> web.AppRunner:
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        ports.append(runner.addresses[0][1])
        return runner

    async def stop(runner: web.AppRunner) -> None:
        await runner.cleanup()
        hanging = asyncio.all_tasks() - {asyncio.current_task()}
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)

    def run() -> None:
        runner = loop.run_until_complete(start())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(stop(runner))
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    try:
        yield f"http://127.0.0.1:{ports[0]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
