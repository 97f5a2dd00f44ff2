"""Following `mipplan serve` itself, on emulated devices: what it tells is what is read, and what is told is done."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import mipplan as mp
from following.test_follow import Wish
from mipplan.following import READERS, FollowParams, WebError, fetch, open_target, parse_metrics
from mipplan.serving import ServeParams, precise_loop, serve_until
from tuned_plans import one_stage

PLAN = one_stage(2, latency_ms=10.0, batch=4)
SAMPLE = mp.Trace.poisson(rate_rps=50, duration_s=10, seed=1)


@contextmanager
def emulated(plan: mp.Plan, start_s: float = 0.0) -> Iterator[str]:
    """Serve a plan in a thread until the block ends; yields its URL."""
    ready, urls, stops = (
        threading.Event(),
        list[str](),
        list[tuple[asyncio.AbstractEventLoop, asyncio.Event]](),
    )

    async def serve() -> None:
        stop = asyncio.Event()
        stops.append((asyncio.get_running_loop(), stop))

        def started(url: str) -> None:
            urls.append(url)
            ready.set()

        await serve_until(stop, plan, started=started, params=ServeParams(port=0, start_s=start_s))

    def run() -> None:
        with asyncio.Runner(loop_factory=precise_loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(30)
    try:
        yield urls[0]
    finally:
        loop, stop = stops[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def test_every_query_that_was_sent_is_counted(tmp_path: Path) -> None:
    """By looks at real metrics while queries come: none is lost, none is counted twice, and time under way adds up."""
    reader = READERS["mipplan"](PLAN, {})
    trace = mp.Trace.from_seconds(np.arange(60) / 60.0)
    with emulated(PLAN) as url:
        counted, busy_s, arrived = 0.0, 0.0, 0.0

        def look() -> None:
            nonlocal counted, busy_s, arrived
            scrape = reader.read(parse_metrics(fetch(f"{url}/metrics").decode()))
            counted += scrape.queries
            arrived += scrape.stages["only"].arrived
            busy_s += scrape.stages["only"].busy_s or 0.0

        look()
        driver = threading.Thread(
            target=lambda: mp.drive(trace, url, model="pipeline", out=tmp_path / "log.parquet")
        )
        driver.start()
        while driver.is_alive():
            look()
            driver.join(0.05)
        look()
    assert counted == arrived == 60
    # At least 15 batches of 10 ms, at most one for each query.
    assert busy_s >= 0.15
    assert set(mp.read_log(tmp_path / "log.parquet").queries.status) == {"ok"}


def test_what_is_told_is_done_and_a_restart_changes_nothing(tmp_path: Path) -> None:
    params = FollowParams(looks=2, grace_s=0.5, first_retry_s=0.05)
    state = tmp_path / "state.json"
    with emulated(PLAN, start_s=0.2) as url:

        def followed(wish: int, seconds: float) -> mp.FollowSummary:
            return mp.follow(
                PLAN,
                f"mipplan:{url}",
                policy=Wish(wish),
                sample=SAMPLE,
                period_s=0.2,
                activation_delay_s=0.2,
                state=state,
                time_limit_s=seconds,
                params=params,
            )

        def serving() -> int:
            scrape = READERS["mipplan"](PLAN, {}).read(parse_metrics(fetch(f"{url}/metrics").decode()))
            return scrape.stages["only"].active or 0

        first = followed(5, 1.5)
        assert (first.told, first.commands, first.mismatches) == ({"only": 5}, 1, 0)
        assert serving() == 5
        again = followed(1, 1.0)
        assert (again.told, again.commands) == ({"only": 5}, 0)
        assert serving() == 5


def test_counts_that_the_dispatcher_refuses_are_told_by_its_words() -> None:
    with emulated(PLAN) as url:
        target = open_target(PLAN, f"mipplan:{url}")
        target.scale("only", 3, 5.0)
        with pytest.raises(WebError, match="whole number from 1"):
            target.scale("only", 0, 5.0)
        with pytest.raises(WebError, match="no such stage"):
            open_target(PLAN, f"mipplan:{url}", names={"only": "other"}).scale("only", 2, 5.0)
