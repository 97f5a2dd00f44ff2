"""`mipplan follow` on emulated devices beside the simulated closed loop.

A server (`mipplan serve --emulate`) and a driver (`mipplan drive`) run in processes of their own, in real time; the
controller runs here. What it missed and what it paid is held against `mipplan.tune` with the same policy, seeing counts
(`ByCounts`), on the very send times of the driver. Takes as long as the traces; needs a machine with time to spare, or
send errors and overruns are part of what is measured (both are told).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from datetime import datetime
from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd

import mipplan as mp
from benchmarks.machine import publish, record
from mipplan.core import NS_PER_S
from mipplan.following import ByCounts, MetricSample, fetch, parse_metrics
from mipplan.profiles import Hardware, LatencyTable, Profiles
from mipplan.tuner import Policy, Setting, simulate
from mipplan.tuner.policies import POLICIES

ROWS = "follow.csv"
#: Aims: following is within a fifth of its simulation, in misses (of all queries) and in replica-hours.
WITHIN = 0.2
#: Where hardly anything is missed, a ratio says nothing: so many queries of a hundred are no difference.
LITTLE = 0.01
DELAY_S = 3.0
POLICIES_RUN = ("lp", "inferline", "hpa")


def plan_of(sample: mp.Trace) -> mp.Plan:
    """Two stages, slow enough that Python's dispatcher is no part of what is measured."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node("detect", model="detect")
    graph.add_node("read", model="read")
    graph.add_edge("detect", "read", delay="1ms")
    sizes = np.array([1, 2, 4])
    tables = [
        LatencyTable("detect", "gpu", sizes, np.array([60.0, 75.0, 105.0])),
        LatencyTable("read", "gpu", sizes, np.array([40.0, 50.0, 70.0])),
    ]
    profiles = Profiles.from_parts([Hardware("gpu", 1.0)], tables)
    return mp.plan(mp.Pipeline(graph, name="follow", slo_s=0.5), profiles, sample)


def traces(*, quick: bool) -> dict[str, mp.Trace]:
    """A spike and a ramp."""
    part_s = 30 if quick else 120
    made = {
        "spike": mp.Trace.ramp(
            rates_rps=[25, 90, 25],
            cvs=[1.2] * 3,
            durations_s=[part_s, part_s, part_s],
            transition_s=0.5,
            seed=3,
        ),
        "ramp": mp.Trace.ramp(
            rates_rps=[25, 80, 25], cvs=[1.2] * 3, durations_s=[part_s / 2] * 3, transition_s=part_s, seed=4
        ),
    }
    return {name: mp.Trace(trace.arrival_ns - trace.arrival_ns[0], name) for name, trace in made.items()}


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


def measured(plan: mp.Plan, trace: mp.Trace, sample: mp.Trace, policy: str) -> dict[str, object]:
    """Serve, drive and follow in real time; then simulate on the times at which queries were sent."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan.save(folder / "plan.json")
        (folder / "trace.csv").write_text(
            "arrival_s\n" + "".join(f"{at / NS_PER_S:.9f}\n" for at in trace.arrival_ns.tolist())
        )
        command = [sys.executable, "-m", "mipplan"]
        serve = [*command, "serve", "plan.json", "--emulate", "--port", "0", "--start-delay", f"{DELAY_S}s"]
        server = subprocess.Popen(serve, cwd=folder, stdout=subprocess.PIPE, text=True)
        stop, found = threading.Event(), []
        try:
            if server.stdout is None:
                raise AssertionError("a pipe was asked for")
            url = next(
                match[1]
                for line in server.stdout
                if (match := re.search(r"(http://[0-9.:]+)/v2/models", line))
            )
            threading.Thread(target=server.stdout.read, daemon=True).start()
            follower = threading.Thread(
                target=lambda: found.append(
                    mp.follow(
                        plan,
                        f"mipplan:{url}",
                        policy=policy,
                        sample=sample,
                        activation_delay_s=DELAY_S,
                        stop=stop,
                        audit=folder / "audit.jsonl",
                    )
                )
            )
            follower.start()
            while follower.is_alive() and "start" not in _text(folder / "audit.jsonl"):
                stop.wait(0.1)  # the policy calibrates
            drive = [
                *command,
                "drive",
                "trace.csv",
                "--target",
                url,
                "--model",
                "follow",
                "--out",
                "q.parquet",
            ]
            subprocess.run(drive, cwd=folder, capture_output=True, check=False)
            stop.set()
            follower.join()
            told = parse_metrics(fetch(f"{url}/metrics").decode())
        finally:
            stop.set()
            server.terminate()
            server.wait()
        log = mp.read_log(folder / "q.parquet").queries
        (began, *_) = (json.loads(line) for line in _text(folder / "audit.jsonl").splitlines())
        began_ns = round(datetime.fromisoformat(began["time"]).timestamp() * NS_PER_S)
    (summary,) = found
    # On the clock of following, so that both decide at the same phases of the traffic.
    sent = mp.Trace(np.sort(log.sent_ns) - began_ns, trace.name)
    late = (~log.ok) | (log.latency_ns > plan.slo_ns)
    setting = Setting(plan, sample, 0, NS_PER_S, round(DELAY_S * NS_PER_S))
    run = simulate(setting, sent, ByCounts(policy_of(policy)))
    end_ns = int(sent.arrival_ns[-1])
    replicas = sum(summary.replica_hours.values()) / (summary.duration_s / 3600)
    simulated = sum(_mean(one, end_ns) for one in run.schedules.values())
    return {
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
        "overran": _sum(told, "mipplan_overruns_total") / _sum(told, "mipplan_batch_size_count"),
        "sent_late_p99_ms": float(np.quantile(log.send_error_ns, 0.99) / 1e6),
        "within": bool(
            abs(replicas / simulated - 1) <= WITHIN
            and abs(late.mean() - run.miss_rate) <= max(WITHIN * run.miss_rate, LITTLE)
        ),
    }


def run(folder: Path, *, quick: bool) -> None:
    """Write ``follow.csv``, machine and summary into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    sample = mp.Trace.gamma(rate_rps=25, cv=1.2, duration_s=120, seed=1)
    plan = plan_of(sample)
    rows = []
    for trace in traces(quick=quick).values():
        for policy in POLICIES_RUN[:: 2 if quick else 1]:
            load = os.getloadavg()[0]
            rows.append({**measured(plan, trace, sample, policy), "load_before": load})
            print(rows[-1], file=sys.stderr, flush=True)
    pd.DataFrame(rows).to_csv(folder / ROWS, index=False, float_format="%.6g")
    record(folder / "machine.json", "follow")
    report(folder)


def report(folder: Path) -> None:
    """Write ``summary.md`` from the rows in `folder`."""
    table = pd.read_csv(folder / ROWS)
    lines = [
        "| trace | policy | missed | simulated | replicas | simulated | overran | load before | within 20 % |",
        "|---" * 9 + "|",
    ]
    for row in table.to_dict("records"):
        shares = " | ".join(f"{row[name]:.1%}" for name in ("missed", "missed_simulated"))
        counts = " | ".join(f"{row[name]:.2f}" for name in ("replicas", "replicas_simulated"))
        told = f"{row['overran']:.0%} | {row['load_before']:.1f} | {'yes' if row['within'] else '**no**'}"
        lines.append(f"| {row['trace']} | `{row['policy']}` | {shares} | {counts} | {told} |")
    missed = int((~table["within"]).sum())
    verdict = "kept" if not missed else f"missed in {missed} of {len(table)} rows"
    aim = f"Aim: misses and replica-hours within {WITHIN:.0%} of the simulation, in every row: {verdict}."
    means = "Replicas: in the mean; overran: share of batches over 2 ms longer than their table; load: the machine's."
    little = f"Misses that differ by at most {LITTLE:.0%} of the queries count as the same."
    publish(folder, "\n".join([*lines, "", f"{aim} {little} {means}"]) + "\n")
