"""Small real servers of this machine that say and do what a test wants, and stop by themselves."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: What an answer is: a status and a body, or one of the faults below.
Answer = tuple[int, bytes] | str
HANG, HALF, DRIP = "hang", "half", "drip"


@dataclass
class FakeServer:
    """Answers by `answer(method, path, document)`, and notes what it was asked."""

    answer: Callable[[str, str, Any], Answer]
    url: str = ""
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)

    def changes(self) -> list[tuple[str, str, Any]]:
        """Requests that ask for something else than it has."""
        return [one for one in self.asked if one[0] != "GET"]


def respond(handler: BaseHTTPRequestHandler, answer: Answer, gone: threading.Event) -> None:
    if answer == HANG:
        gone.wait(20)
        return
    if answer == DRIP:  # a byte now and then: no single read takes long
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        for _ in range(400):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            if gone.wait(0.05):
                return
        return
    status, body = (200, b"mipplan_in_flight 0\n") if answer == HALF else answer  # type: ignore[misc]
    handler.send_response(status)
    handler.send_header("Content-Length", str(2 * len(body) if answer == HALF else len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def serving(answer: Callable[[str, str, Any], Answer]) -> Iterator[FakeServer]:
    """Serve until the block ends."""
    fake = FakeServer(answer)

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            document = json.loads(self.rfile.read(length)) if length else None
            fake.asked.append((self.command, self.path, document))
            fake.tokens.append(self.headers.get("Authorization"))
            try:
                respond(self, fake.answer(self.command, self.path, document), fake.gone)
            except (BrokenPipeError, ConnectionResetError):
                return

        do_GET = do_POST = do_PATCH = handle_any  # noqa: N815 -- named by http.server

        def log_message(self, *arguments: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False  # closing waits for them
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield fake
    finally:
        fake.gone.set()
        server.shutdown()
        server.server_close()
        thread.join()


class FakeDispatcher:
    """Metrics of `mipplan serve` at a constant rate, and its ``/scale``; `trouble` may answer in its place."""

    def __init__(self, replicas: dict[str, int], rate_rps: float) -> None:
        self.replicas, self.rate_rps = dict(replicas), rate_rps
        self.obeys = True
        self.trouble: Callable[[str, str], Answer | None] = lambda method, path: None
        self.began = time.monotonic()

    def __call__(self, method: str, path: str, document: Any) -> Answer:
        if (found := self.trouble(method, path)) is not None:
            return found
        if path == "/scale":
            if self.obeys:
                self.replicas |= document
            return 200, json.dumps({"replicas": {**self.replicas, **document}}).encode()
        return 200, self.text().encode()

    def text(self) -> str:
        passed = time.monotonic() - self.began
        came = int(self.rate_rps * passed)
        lines = [f'mipplan_queries_total{{outcome="served"}} {came}', "mipplan_in_flight 0"]
        for stage, count in self.replicas.items():
            lines += [
                f'mipplan_queue_length{{stage="{stage}"}} 0',
                f'mipplan_replicas{{stage="{stage}"}} {count}',
                f'mipplan_busy_replicas{{stage="{stage}"}} 1',
                f'mipplan_busy_seconds_total{{stage="{stage}"}} {passed}',
                f'mipplan_batch_size_sum{{stage="{stage}"}} {came}',
                f'mipplan_batch_size_count{{stage="{stage}"}} {came}',
            ]
        return "\n".join([*lines, ""])
