"""Kill and stall what serves a plan on Ray, and hold every query against its own certificate.

The application is that of ``mipplan export --to ray --emulate``, with an allowance for what Ray adds to a batch. Once a
third of the traffic has been sent, something happens to it. Every answer says whether its query has lost the
guarantee; those that have not must keep their certificate, and every query must get an answer.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
import numpy as np
import pandas as pd

import mipplan as mp
from benchmarks.faults.summary import summarise
from benchmarks.machine import publish, record
from benchmarks.truth.run import capacity_rps, plan_of, traffic_of
from benchmarks.truth.servers import ray_application, without
from mipplan.core import NS_PER_S

ROWS = "faults.csv"
#: What a batch may take beyond its table: Ray's way to the actor and back, on two busy cores.
ALLOWANCE_S = 0.05
#: As in `benchmarks.truth`: a query takes Ray 10 to 20 ms of a processor.
SLOWDOWN = 4
_LOAD = 0.5
_TRAFFIC = ("poisson", "bursty")
_DURATION_S, _QUICK_S = 90.0, 20.0
_PATIENCE_S = 60.0
_STALL_S = 3.0
#: What Ray calls the processes of replicas, and that of the ingress, which holds the dispatcher.
_REPLICA, _HOST = "ray::_RayModel", "ray::ServeReplica"

#: Given the numbers of the processes it concerns, does something to the first.
Fault: TypeAlias = Callable[[list[int]], None]


def processes(title: str) -> list[int]:
    """Numbers of the processes that are called so, ascending."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().decode(errors="replace").startswith(title):
                found.append(int(path.parent.name))
        except OSError:  # it has ended meanwhile
            continue
    return sorted(found)


def _kill(numbers: list[int]) -> None:
    os.kill(numbers[0], signal.SIGKILL)


def _freeze(numbers: list[int]) -> None:
    os.kill(numbers[0], signal.SIGSTOP)


def _stall(numbers: list[int]) -> None:
    _freeze(numbers)
    time.sleep(_STALL_S)
    os.kill(numbers[0], signal.SIGCONT)


#: By name: whose processes, and what happens to one of them.
FAULTS: dict[str, tuple[str, Fault] | None] = {
    "none": None,
    "a replica is killed": (_REPLICA, _kill),
    f"a replica stalls for {_STALL_S:g} s": (_REPLICA, _stall),
    "a replica hangs": (_REPLICA, _freeze),
    "the dispatcher's host is killed": (_HOST, _kill),
}


def run(folder: Path, *, quick: bool) -> None:
    """Run all faults, and write rows, a summary and the machine into `folder`."""
    if (reason := without("ray", "starlette", "uvicorn")) is not None:
        raise SystemExit(f"this benchmark needs Ray Serve: {reason}")
    folder.mkdir(parents=True, exist_ok=True)
    plan = plan_of(None, slowdown=SLOWDOWN)
    rate_rps, duration_s = _LOAD * capacity_rps(plan, None), _QUICK_S if quick else _DURATION_S
    rows = []
    for kind, (name, fault) in itertools.product(_TRAFFIC[:1] if quick else _TRAFFIC, FAULTS.items()):
        answers = serve(plan, traffic_of(kind, rate_rps, duration_s, seed=1), fault)
        rows.append({"traffic": kind, "fault": name, **judged(plan, answers)})
        print(rows[-1], file=sys.stderr, flush=True)
    pd.DataFrame(rows).to_csv(folder / ROWS, index=False, float_format="%.6g")
    record(folder / "machine.json", "faults")
    report(folder)


def report(folder: Path) -> None:
    """Write the summary of the rows in `folder`."""
    publish(folder, summarise(pd.read_csv(folder / ROWS)))


def serve(plan: mp.Plan, trace: mp.Trace, fault: tuple[str, Fault] | None) -> list[dict[str, Any]]:
    """Serve a trace, let a fault happen, and return what every query got."""
    with tempfile.TemporaryDirectory() as work:
        place = Path(work)
        mp.export(plan, to="ray", directory=place / "application", emulate=True, allowance_s=ALLOWANCE_S)
        with ray_application(place) as server:
            return asyncio.run(_drive(server.url, trace, fault))


async def _drive(url: str, trace: mp.Trace, fault: tuple[str, Fault] | None) -> list[dict[str, Any]]:
    """Send every query at its time, whatever the answers."""
    offsets_s = trace.arrival_ns / NS_PER_S
    async with asyncio.TaskGroup() as group:
        if fault is not None:
            group.create_task(_let_happen(*fault, after_s=float(offsets_s[-1]) / 3))
        timeout = aiohttp.ClientTimeout(total=_PATIENCE_S)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
            began = time.monotonic()
            asked = []
            for offset_s in offsets_s.tolist():
                await asyncio.sleep(max(0.0, began + offset_s - time.monotonic()))
                asked.append(group.create_task(_ask(session, url)))
            return list(await asyncio.gather(*asked))


async def _let_happen(title: str, happen: Fault, after_s: float) -> None:
    await asyncio.sleep(after_s)
    await asyncio.to_thread(happen, processes(title))


async def _ask(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    """Send a query; say what came of it."""
    try:
        async with session.post(url, data=b"0") as response:
            if response.content_type == "application/json":
                return {"status": response.status, **await response.json()}
            return {"status": response.status}
    except TimeoutError:
        return {"status": None}
    except aiohttp.ClientError as error:
        return {"status": type(error).__name__}


def judged(plan: mp.Plan, answers: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Hold each query that was served against its certificate, by the times at which the dispatcher took it in."""
    all_of_them = list(answers)
    known = sorted(
        (one for one in all_of_them if "ingress_ns" in one), key=lambda one: int(one["ingress_ns"])
    )
    ingress_ns = np.array([one["ingress_ns"] for one in known], dtype=np.int64)
    latency_ns = np.array([one["latency_ns"] for one in known], dtype=np.int64)
    served = np.array([one["outcome"] == "served" for one in known], dtype=np.bool_)
    void = np.array([one["void"] for one in known], dtype=np.bool_)
    promised = mp.serving.with_allowance(plan, ALLOWANCE_S)
    trace = mp.Trace.from_ns(ingress_ns - ingress_ns[0], name="ingress")
    bound_ns = mp.certify(promised, trace, certificate="classic").latency_ns
    over, kept = served & (latency_ns > bound_ns), served & ~void
    # A connection that broke is no answer, and time ran out without one.
    sent = len(all_of_them)
    unanswered = sum(not isinstance(one["status"], int) for one in all_of_them)
    return {
        "sent": sent,
        "served": int(served.sum()),
        "errors": sent - int(served.sum()) - unanswered,
        "unanswered": unanswered,
        "void": int((served & void).sum()),
        "over": int(over.sum()),
        "over_though_guaranteed": int((over & kept).sum()),
        "largest_share_of_bound": float((latency_ns[kept] / bound_ns[kept]).max()),
        "largest_ms": float(latency_ns[served].max()) / 1e6,
        "certificate_ms": float(bound_ns.max()) / 1e6,
    }
