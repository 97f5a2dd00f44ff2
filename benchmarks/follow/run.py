"""`mipplan follow` on emulated devices beside the simulated closed loop.

A server (`mipplan serve --emulate`, or Ray Serve with the application of ``mipplan export --to ray``) and a driver
(`mipplan drive`) run in processes of their own, in real time; the controller runs here. What it missed and what it paid
is held against `mipplan.tune` with the same policy, seeing counts (`ByCounts`), on the very send times of the driver.
Both count on services that are longer by what a lone query was measured to take beyond them, as a profile of the server
would be. Takes as long as the traces; needs a machine with time to spare: a run whose queries were sent late is driven
again. An interrupted run goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd

import mipplan as mp
from benchmarks.follow.loading import LOAD_S
from benchmarks.jobs import append_rows, missing_jobs
from benchmarks.machine import publish, record
from benchmarks.provenance import stamp
from benchmarks.truth.run import overhead_ns, sent_in_time, with_overhead
from benchmarks.truth.servers import RunningServer, dispatcher_server, ray_application, wait_until_quiet
from benchmarks.truth.summary import LATE
from benchmarks.tuner.traffic import scenarios
from mipplan.core import NS_PER_S
from mipplan.following import ByCounts, MetricSample, fetch, parse_metrics
from mipplan.profiles import Hardware, LatencyTable, Profiles
from mipplan.tuner import Policy, Setting, simulate
from mipplan.tuner.policies import POLICIES

ROWS = "follow.csv"
KEYS = ("system", "trace", "policy")
#: Aims: following is within a fifth of its simulation, in misses (of all queries) and in replica-hours.
WITHIN = 0.2
#: Where hardly anything is missed, a ratio says nothing: so many queries of a hundred are no difference.
LITTLE = 0.01
#: A run is spoilt, and driven again, if one query of a hundred is sent later than this share of the objective.
LATE_SHARE = 0.02
POLICIES_RUN = ("lp", "inferline", "hpa")
_RATE_RPS, _PEAK = 25.0, (90.0, 80.0)
_START_DELAY_S = 3.0
_IMPORT = "from benchmarks.follow.loading import LoadingRayWorker\n"


@dataclass(frozen=True)
class FollowedSystem:
    """What serves, how slow its models are, and how much of the traffic it gets."""

    name: str
    serve: Callable[[mp.Plan, Path], AbstractContextManager[RunningServer]]
    slowdown: int
    share: float
    delay_s: float
    """Until a replica that was asked for serves."""

    @property
    def rate_factor(self) -> float:
        """Rates are so many times those of models at their own speed."""
        return self.share / self.slowdown


def plan_of(sample: mp.Trace, slowdown: int) -> mp.Plan:
    """Two stages, slow enough that Python's dispatcher is no part of what is measured."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node("detect", model="detect")
    graph.add_node("read", model="read")
    graph.add_edge("detect", "read", delay="1ms")
    sizes = np.array([1, 2, 4])
    tables = [
        LatencyTable("detect", "gpu", sizes, slowdown * np.array([60.0, 75.0, 105.0])),
        LatencyTable("read", "gpu", sizes, slowdown * np.array([40.0, 50.0, 70.0])),
    ]
    profiles = Profiles.from_parts([Hardware("gpu", 1.0)], tables)
    return mp.plan(mp.Pipeline(graph, name="follow", slo_s=0.5 * slowdown), profiles, sample)


def traces(factor: float, part_s: int) -> dict[str, mp.Trace]:
    """A spike, a ramp, and a segment of Twitter's counts where the shared data are, in parts; rates times a factor."""
    low, spike, ramp = (factor * rate for rate in (_RATE_RPS, *_PEAK))
    made = {
        "spike": mp.Trace.ramp(
            rates_rps=[low, spike, low], cvs=[1.2] * 3, durations_s=[part_s] * 3, transition_s=0.5, seed=3
        ),
        "ramp": mp.Trace.ramp(
            rates_rps=[low, ramp, low],
            cvs=[1.2] * 3,
            durations_s=[part_s / 2] * 3,
            transition_s=part_s,
            seed=4,
        ),
    }
    for scenario in scenarios():
        if scenario.name == "twitter bursty":
            whole = scenario.traces(2 * low)[1]
            first_s = float(whole.arrival_ns[0]) / NS_PER_S
            made["twitter"] = whole.slice(first_s, first_s + 3 * part_s)
    return {name: mp.Trace(trace.arrival_ns - trace.arrival_ns[0], name) for name, trace in made.items()}


def emulated(plan: mp.Plan, folder: Path) -> AbstractContextManager[RunningServer]:
    """Serve by ``mipplan serve --emulate``, with replicas that take their time to start."""
    return dispatcher_server(plan, folder, "--start-delay", f"{_START_DELAY_S}s")


@contextmanager
def loading_on_ray(plan: mp.Plan, folder: Path) -> Iterator[RunningServer]:
    """Serve what ``--to ray`` writes, with models that take their time to load."""
    mp.export(plan, to="ray", directory=folder / "application", emulate=True, force=True)
    path = folder / "application" / "app.py"
    text = path.read_text(encoding="utf-8")
    assert text.count("RayWorker(") == 1
    loading = text.replace("RayWorker(", "LoadingRayWorker(")
    path.write_text(
        loading.replace("import mipplan as mp\n", f"{_IMPORT}import mipplan as mp\n"), encoding="utf-8"
    )
    with ray_application(folder) as server:
        yield server


SYSTEMS = (
    FollowedSystem("mipplan serve", emulated, 1, 1.0, _START_DELAY_S),
    # Ray takes 10 to 20 ms of a processor for each query, and a process for each replica.
    FollowedSystem("Ray Serve", loading_on_ray, 8, 0.5, LOAD_S),
)


def _mean(schedule: mp.ReplicaSchedule, end_ns: int) -> float:
    """Replicas told, on average from 0 to an instant."""
    edges = np.concatenate([[0], np.minimum(schedule.change_ns, end_ns), [end_ns]])
    return float((np.diff(edges) * schedule.replicas).sum() / end_ns)


def _sum(samples: list[MetricSample], name: str) -> float:
    return sum(sample.value for sample in samples if sample.name == name)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def policy_of(name: str) -> Policy:
    """The policy of that name; one of hindsight cannot follow."""
    made = POLICIES[name]()
    if not isinstance(made, Policy):
        raise TypeError(name)
    return made


def measured(
    system: FollowedSystem, plan: mp.Plan, extra_ns: int, trace: mp.Trace, sample: mp.Trace, policy: str
) -> dict[str, object]:
    """Serve, drive and follow in real time; then simulate on the times at which queries were sent."""
    load_before = os.getloadavg()[0]
    believed = with_overhead(plan, extra_ns)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "trace.csv").write_text(
            "arrival_s\n" + "".join(f"{at / NS_PER_S:.9f}\n" for at in trace.arrival_ns.tolist())
        )
        stop, found = threading.Event(), []
        with system.serve(plan, folder) as server:
            wait_until_quiet()
            url = server.url.rstrip("/")
            follower = threading.Thread(
                target=lambda: found.append(
                    mp.follow(
                        believed,
                        f"mipplan:{url}",
                        policy=policy,
                        sample=sample,
                        activation_delay_s=system.delay_s,
                        stop=stop,
                        audit=folder / "audit.jsonl",
                    )
                )
            )
            follower.start()
            try:
                while follower.is_alive() and "start" not in _text(folder / "audit.jsonl"):
                    stop.wait(0.1)  # the policy calibrates
                how = [text for key, value in server.how.items() for text in (f"--{key}", value)]
                command = [sys.executable, "-m", "mipplan", "drive", "trace.csv", "--target", server.url]
                subprocess.run(
                    [*command, *how, "--out", "q.parquet"], cwd=folder, capture_output=True, check=False
                )
            finally:
                stop.set()
                follower.join()
            told = parse_metrics(fetch(f"{url}/metrics").decode())
        log = mp.read_log(folder / "q.parquet").queries
        (began, *_) = (json.loads(line) for line in _text(folder / "audit.jsonl").splitlines())
        began_ns = round(datetime.fromisoformat(began["time"]).timestamp() * NS_PER_S)
    (summary,) = found
    # On the clock of following, so that both decide at the same phases of the traffic.
    sent = mp.Trace(np.sort(log.sent_ns) - began_ns, trace.name)
    late = (~log.ok) | (log.latency_ns > plan.slo_ns)
    setting = Setting(believed, sample, 0, NS_PER_S, round(system.delay_s * NS_PER_S))
    run = simulate(setting, sent, ByCounts(policy_of(policy)))
    end_ns = int(sent.arrival_ns[-1])
    replicas = sum(summary.replica_hours.values()) / (summary.duration_s / 3600)
    simulated = sum(_mean(one, end_ns) for one in run.schedules.values())
    return {
        "system": system.name,
        "trace": trace.name,
        "policy": policy,
        "queries": len(sent),
        "missed": float(late.mean()),
        "missed_simulated": run.miss_rate,
        "replicas": replicas,
        "replicas_simulated": simulated,
        "changes": summary.changes,
        "changes_simulated": len(run.actions),
        "failed_looks": summary.failed_looks,
        "overhead_ms": extra_ns / 1e6,
        "overran": _sum(told, "mipplan_overruns_total") / _sum(told, "mipplan_batch_size_count"),
        LATE: float(np.quantile(log.send_error_ns, 0.99) / 1e6),
        "load_before": load_before,
        "within": bool(
            abs(replicas / simulated - 1) <= WITHIN
            and abs(late.mean() - run.miss_rate) <= max(WITHIN * run.miss_rate, LITTLE)
        ),
    }


def run(folder: Path, *, quick: bool) -> None:
    """Write ``follow.csv``, machine and summary into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / ("partial-quick.csv" if quick else "partial.csv")
    part_s = 30 if quick else 60
    for system in SYSTEMS:
        rate_rps = system.rate_factor * _RATE_RPS
        sample = mp.Trace.gamma(rate_rps=rate_rps, cv=1.2, duration_s=120, seed=1)
        plan, driven = plan_of(sample, system.slowdown), traces(system.rate_factor, part_s)
        jobs = [
            (system.name, name, policy) for name in driven for policy in POLICIES_RUN[:: 2 if quick else 1]
        ]
        if not (missing := missing_jobs(jobs, KEYS, kept, "follow")):
            continue
        with tempfile.TemporaryDirectory() as scratch, system.serve(plan, Path(scratch)) as server:
            wait_until_quiet()
            extra_ns = overhead_ns(plan, None, server)
        for _, name, policy in missing:
            row = sent_in_time(
                partial(measured, system, plan, extra_ns, driven[name], sample, policy),
                LATE_SHARE * plan.slo_ns / 1e6,
            )
            append_rows(kept, [{**row, "part_s": part_s}], stamp("follow"))
            print(row, file=sys.stderr, flush=True)
    pd.read_csv(kept).to_csv(folder / ROWS, index=False, float_format="%.6g")
    kept.unlink()
    record(folder / "machine.json", "follow")
    report(folder)


def report(folder: Path) -> None:
    """Write ``summary.md`` from the rows in `folder`."""
    table = pd.read_csv(folder / ROWS)
    lines = [
        "| system | trace | policy | missed | simulated | replicas | simulated | overran | load before | within 20 % |",
        "|---" * 10 + "|",
    ]
    for row in table.to_dict("records"):
        shares = " | ".join(f"{row[name]:.1%}" for name in ("missed", "missed_simulated"))
        counts = " | ".join(f"{row[name]:.2f}" for name in ("replicas", "replicas_simulated"))
        told = f"{row['overran']:.0%} | {row['load_before']:.1f} | {'yes' if row['within'] else '**no**'}"
        lines.append(
            f"| {row['system']} | {row['trace']} | `{row['policy']}` | {shares} | {counts} | {told} |"
        )
    missed = int((~table["within"]).sum())
    verdict = "kept" if not missed else f"missed in {missed} of {len(table)} rows"
    aim = f"Aim: misses and replica-hours within {WITHIN:.0%} of the simulation, in every row: {verdict}."
    means = "Replicas: in the mean; overran: share of batches over 2 ms longer than their table; load: the machine's."
    little = f"Misses that differ by at most {LITTLE:.0%} of the queries count as the same."
    length = f"Traces have three parts of {int(table['part_s'].max())} s."
    publish(folder, "\n".join([*lines, "", f"{aim} {little} {means} {length}"]) + "\n")
