"""Drive real servers under several loads and kinds of traffic, and compare with the replay of the same send times.

Every system is started once and driven with all of its missing jobs; an interrupted run goes on where it stopped. Those
that take little of a processor are driven side by side, each by a process of its own; Ray has the machine to itself.
What is predicted is the system: its own law, and one constant measured on it while idle, the time of a lone query
beyond services and windows, spread evenly over the stages. Nothing is fitted to what is compared.
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd

import mipplan as mp
from benchmarks.jobs import append_rows, missing_jobs, process_pool
from benchmarks.machine import publish, record
from benchmarks.provenance import stamp
from benchmarks.truth.plots import draw
from benchmarks.truth.servers import ROOT, TRUTH_SYSTEMS, RunningServer, TruthSystem, wait_until_quiet
from benchmarks.truth.summary import ATTEMPTS, FIGURES, LATE, SPOILT_MS, summarise
from mipplan.pipeline import read_system
from mipplan.profiles import LatencyTable
from mipplan.tokens import realise_queries

ROWS = "truth.csv"
KEYS = ("system", "load", "traffic", "seed")
PAGE = """# Predicted and measured

![Measured by predicted of every run, by system](errors.png)

{summary}"""
LOADS = (0.4, 0.6, 0.75)
TRAFFIC = ("poisson", "bursty", "shipped")
SEEDS = (1, 2)
#: A shipped pipeline of three stages in a chain, which every system can serve, with batches at two of them.
PIPELINE = ROOT / "profiles" / "pipelines" / "audio-question-answering.yaml"
CHOICES = {"recognise": ("v100", 4, 2), "answer": ("t4", 2, 4), "speak": ("t4", 1, 3)}
#: Lone queries that tell the overhead, and the time between them.
IDLE, IDLE_GAP_S = 12, 0.6
#: Queries whose tokens are counted.
_DRAWN = 10_000


@dataclass(frozen=True)
class TruthParams:
    """How long a run is."""

    duration_s: float = 60.0
    quick_s: float = 10.0


def plan_of(
    law: str | None,
    choices: Mapping[str, tuple[str, int, int]] = CHOICES,
    slowdown: int = 1,
    path: Path = PIPELINE,
) -> mp.Plan:
    """The plan that is served, with slower models: in order of arrival where the system has a law of its own."""
    discipline = "oldest_first" if law is None else "fifo"
    pipeline, shipped = mp.Pipeline.read(path), mp.Profiles.default()
    tables = [
        shipped.table(pipeline.stages[stage].model, hardware) for stage, (hardware, _, _) in choices.items()
    ]
    slower = [LatencyTable(one.model, one.hardware, one.batch, slowdown * one.latency_ms) for one in tables]
    profiles = mp.Profiles.from_parts(shipped.hardware.values(), slower)
    return mp.Plan.from_choices(
        pipeline, profiles, choices, slo_s=slowdown * (pipeline.slo_s or 1.0), discipline=discipline
    )


def capacity_rps(plan: mp.Plan, law: str | None) -> float:
    """Queries per second of the slowest stage: in full batches, or one by one where a window alone makes batches."""
    alone = law is not None and read_system(law).collecting == "ahead"
    drawn = realise_queries(plan.pipeline, np.zeros(_DRAWN, dtype=np.int64), plan.seed)
    rates = []
    for stage, choice in plan.choices.items():
        cap = 1 if alone else choice.batch
        tokens_rps = choice.replicas * cap / plan.service_ns(stage)[cap - 1] * 1e9
        rates.append(tokens_rps * _DRAWN / drawn.stages[stage].count)
    return min(rates)


def traffic_of(kind: str, rate_rps: float, duration_s: float, seed: int) -> mp.Trace:
    """Arrivals of one kind at a rate, the first at 0."""
    if kind == "poisson":
        return mp.Trace.poisson(rate_rps=rate_rps, duration_s=duration_s, seed=seed)
    if kind == "bursty":
        return mp.Trace.gamma(rate_rps=rate_rps, cv=3, duration_s=duration_s, seed=seed)
    shipped = mp.Trace.read(ROOT / "profiles" / "traces" / "bursty.csv.gz")
    # Another part of it for each seed, slowed down to the rate.
    needed = int(rate_rps * duration_s)
    part = shipped.arrival_ns[(seed - 1) * needed :][:needed]
    stretched = (part - part[0]) * (duration_s * 1e9 / (part[-1] - part[0]))
    return mp.Trace.from_ns(np.rint(stretched).astype(np.int64), name="shipped")


def overhead_ns(plan: mp.Plan, law: str | None, server: RunningServer) -> int:
    """Measure what a lone query takes beyond its replay: services, delays (which not all hold), and windows."""
    served_s = sum(int(plan.service_ns(stage)[0]) for stage in plan.choices) / 1e9
    lone = mp.Trace.from_seconds(np.arange(IDLE) * max(IDLE_GAP_S, 1.3 * served_s), name="idle")
    seen = mp.drive(lone, server.url, **server.how).log
    known = mp.replay(plan, mp.Trace.from_ns(seen.sent_ns - seen.sent_ns[0]), system=law)
    return int(np.median((seen.latency_ns - known.latency_ns)[seen.ok]))


def with_overhead(plan: mp.Plan, extra_ns: int) -> mp.Plan:
    """The same plan with that much more time for a lone query, in even shares of the stages on its longest way.

    A replica is held until its answer is back, so the share goes into services, where it takes capacity as well.
    """
    stages = len(nx.dag_longest_path(nx.DiGraph(plan.pipeline.graph), weight=None))
    return mp.serving.with_allowance(plan, max(0, extra_ns) / stages / 1e9)


@dataclass(frozen=True)
class _Job:
    """A system that is up, what is believed of it, and under which load and traffic it is driven."""

    key: tuple[str, float, str, int]
    plan: mp.Plan
    law: str | None
    server: RunningServer
    extra_ns: int
    duration_s: float


def run(folder: Path, *, quick: bool) -> None:
    """Measure all jobs and write ``truth.csv``, a summary, a figure and the machine into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / ("partial-quick.csv" if quick else "partial.csv")
    cases = list(
        itertools.product(*((LOADS[:2], TRAFFIC[:2], SEEDS[:1]) if quick else (LOADS, TRAFFIC, SEEDS)))
    )
    systems = [system for system in TRUTH_SYSTEMS.values() if _is_there(system)]
    light = [system for system in systems if not system.is_on_ray]
    for group in (light, *([system] for system in systems if system.is_on_ray)):
        jobs = [(system.name, *case) for case in cases for system in group]
        missing = missing_jobs(jobs, KEYS, partial, "truth")
        for row in _measured(group, missing, TruthParams(), quick=quick):
            append_rows(partial, [row], stamp("truth"))
            print(", ".join(str(row[key]) for key in KEYS), file=sys.stderr, flush=True)
    _in_order(pd.read_csv(partial)).to_csv(folder / ROWS, index=False)
    partial.unlink()
    record(folder / "machine.json", "truth")
    report(folder)


def _is_there(system: TruthSystem) -> bool:
    if (reason := system.missing()) is not None:
        print(f"{system.name} is left out: {reason}", file=sys.stderr)
    return reason is None


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Rows by system in the order of the register, then by what it was driven with."""
    place = {name: number for number, name in enumerate(TRUTH_SYSTEMS)}
    return table.sort_values(
        list(KEYS), key=lambda column: column.map(place) if column.name == "system" else column, kind="stable"
    )


def report(folder: Path) -> pd.DataFrame:
    """Write the summary of the rows in `folder` and draw them; return them."""
    table = pd.read_csv(folder / ROWS)
    publish(folder, summarise(table), PAGE)
    draw(table, folder)
    return table


def _measured(
    systems: Sequence[TruthSystem], keys: Sequence[Any], params: TruthParams, *, quick: bool
) -> Iterator[dict[str, Any]]:
    """Drive these systems side by side, each with its jobs of these."""
    if not keys:
        return
    duration_s = params.quick_s if quick else params.duration_s
    wanted = [system for system in systems if any(key[0] == system.name for key in keys)]
    up: dict[str, tuple[mp.Plan, str | None, RunningServer, int]] = {}
    with (
        tempfile.TemporaryDirectory() as scratch,
        ExitStack() as stack,
        process_pool(len(wanted)) as pool,
    ):
        for system in wanted:
            plan, place = plan_of(system.law, slowdown=system.slowdown), Path(scratch) / system.name
            place.mkdir()
            server = stack.enter_context(system.start(plan, place))
            wait_until_quiet()
            up[system.name] = (plan, system.law, server, overhead_ns(plan, system.law, server))
        jobs = [_Job(tuple(key), *up[key[0]], duration_s) for key in keys]
        for _, at_once in itertools.groupby(jobs, key=lambda job: job.key[1:]):
            yield from pool.map(_row, at_once)


def _row(job: _Job) -> dict[str, Any]:
    """Drive a system and compare."""
    _, load, kind, seed = job.key
    trace = traffic_of(kind, load * capacity_rps(job.plan, job.law), job.duration_s, seed)
    return {
        **dict(zip(KEYS, job.key, strict=True)),
        "duration_s": job.duration_s,
        "overhead_ms": job.extra_ns / 1e6,
        **sent_in_time(lambda: _driven(job, trace), SPOILT_MS),
    }


def sent_in_time(drive: Callable[[], dict[str, Any]], limit_ms: float) -> dict[str, Any]:
    """Drive, again where sends were later than that, and return the attempt in which they were least so."""
    tried: list[dict[str, Any]] = []
    while not tried or (len(tried) < ATTEMPTS and tried[-1][LATE] > limit_ms):
        tried.append(drive())
    return {"attempts": len(tried), **min(tried, key=lambda row: row[LATE])}


def _driven(job: _Job, trace: mp.Trace) -> dict[str, Any]:
    """Send the trace once, and say what came of it beside what was predicted."""
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "queries.parquet"
        mp.drive(trace, job.server.url, out=log, **job.server.how)
        return row_of(mp.truth(with_overhead(job.plan, job.extra_ns), log, system=job.law))


def row_of(seen: mp.Truth) -> dict[str, Any]:
    """What a row says of a run that has just ended: counts, the load of the machine, and both sides of the figures."""
    return {
        "queries": seen.queries,
        "answered": seen.answered,
        LATE: seen.send_error_s["p99"] * 1e3,
        "load_average": os.getloadavg()[0],
        "verdict": str(seen.verdict),
        **{
            f"{figure.name}_{side}_ms": value * 1e3
            for figure in seen.figures
            if figure.name in FIGURES
            for side, value in (("measured", figure.measured), ("predicted", figure.predicted))
        },
    }
