"""``python -m benchmarks.truth.trial``: every real server with a minute of bursts, side by side, held to limits.

Models sleep, so that two cores carry all servers at once. What is predicted is as in `benchmarks.truth.run`. A case
that misses a limit is measured again, twice at most, with only such cases beside it, since the machine may have been
disturbed; one that misses every time fails. So does a server that is not there, but for Triton, whose wheel a package
index may not have for this Python: it is left out, loudly, unless ``MIPPLAN_TRITON=require`` promises it.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import mipplan as mp
from benchmarks.truth.run import (
    CHOICES,
    capacity_rps,
    overhead_ns,
    plan_of,
    row_of,
    traffic_of,
    with_overhead,
)
from benchmarks.truth.servers import (
    PLAIN,
    ROOT,
    TRUTH_SYSTEMS,
    RunningServer,
    TruthSystem,
    ray_servers,
    wait_until_quiet,
)

PROMISE, REQUIRED = "MIPPLAN_TRITON", "require"
#: On Ray every replica is a process, and takes 3 s of a processor to start: fewer of them.
RAY_CHOICES = {"recognise": ("v100", 4, 1), "answer": ("t4", 2, 2), "speak": ("t4", 1, 2)}
#: A shipped pipeline with a branch, another one within it, both taken by chance, and a join of all.
JOINED = ROOT / "profiles" / "pipelines" / "social-media.yaml"
JOINED_CHOICES = {
    "ingest": ("cpu", 1, 1),
    "language": ("t4", 4, 1),
    "translate": ("t4", 1, 2),
    "image": ("t4", 8, 1),
    "categorise": ("t4", 2, 1),
}
#: Models are so much slower than shipped, and on Ray: what two cores add with all servers on them, some milliseconds a
#: batch, on Ray also for each query of a burst, is not to be what is measured.
SLOWDOWN, SLOWDOWN_ON_RAY = 4, 8
#: Those of the join, which are short, once more so much.
JOINED_SLOWDOWN = 2
#: How far measured by predicted may be from 1.
LIMITS: Mapping[str, float] = {"p50": 0.10, "p99": 0.15}
#: Of Ray Serve as it comes: the router draws, and not what the replay draws.
PLAIN_LIMITS: Mapping[str, float] = {"p50": 0.25, "p99": 0.25}
LOAD, DURATION_S, SEED = 0.4, 62.0, 1

Answer = TypeVar("Answer")
#: What came of driving cases, by name.
Rows = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class TrialCase:
    """A plan on a server, and how far its prediction may be off."""

    name: str
    system: TruthSystem
    plan: mp.Plan
    limits: Mapping[str, float]

    @property
    def is_plain_ray(self) -> bool:
        """Whether it is Ray Serve as it comes."""
        return self.system.name == "ray"

    @property
    def trace(self) -> mp.Trace:
        """Bursts for a minute, at a share of what the plan carries on the server."""
        return traffic_of("bursty", LOAD * capacity_rps(self.plan, self.system.law), DURATION_S, SEED)

    def misses(self, row: Mapping[str, Any]) -> list[str]:
        """Say which limits a row misses, and that queries were lost."""
        lost = row["queries"] - row["answered"]
        off = [(name, error_of(row, name), limit) for name, limit in self.limits.items()]
        return [f"{lost} queries lost"] * bool(lost) + [
            f"{name} off by {error:+.1%}, at most {limit:.0%}"
            for name, error, limit in off
            if abs(error) > limit
        ]


def error_of(row: Mapping[str, Any], figure: str) -> float:
    """Measured by predicted, less 1."""
    return float(row[f"{figure}_measured_ms"] / row[f"{figure}_predicted_ms"] - 1.0)


def trial_cases() -> list[TrialCase]:
    """A chain of three stages on every server; where our dispatcher leads the queries, branches and a join besides."""
    cases = []
    for name, system in TRUTH_SYSTEMS.items():
        limits = PLAIN_LIMITS if name == "ray" else LIMITS
        choices = RAY_CHOICES if system.is_on_ray else CHOICES
        slowdown = SLOWDOWN_ON_RAY if system.is_on_ray else SLOWDOWN
        cases.append(TrialCase(name, system, plan_of(system.law, choices, slowdown), limits))
        if system.law is None:
            joined = plan_of(None, JOINED_CHOICES, JOINED_SLOWDOWN * slowdown, JOINED)
            cases.append(TrialCase(f"{name}_joined", system, joined, limits))
    return cases


def main() -> int:
    """Measure all cases, again those that miss; return the exit code."""
    promise = os.environ.get(PROMISE, "")
    if promise not in ("", REQUIRED):
        raise SystemExit(f"{PROMISE}: expected {REQUIRED} or nothing, found {promise!r}")
    cases, faults = [], []
    for case in trial_cases():
        if (reason := case.system.missing()) is None:
            cases.append(case)
            continue
        print(f"SKIPPED: {case.name} IS NOT MEASURED: {reason}", flush=True)
        if case.system.name != "triton" or promise == REQUIRED:
            faults.append(f"{case.name} is not there")
    began = time.monotonic()
    # Sockets lie there, and their paths must be short.
    with tempfile.TemporaryDirectory(prefix="trial", dir="/tmp") as scratch, ExitStack() as stack:
        servers = started_together(cases, Path(scratch), stack)
        print(f"{len(servers)} servers answer after {time.monotonic() - began:.0f} s", flush=True)
        faults += tried(cases, lambda some: driven(some, servers, Path(scratch)))
        print(f"measured after {time.monotonic() - began:.0f} s", flush=True)
    print("; ".join(faults) or "every limit is kept")
    return int(bool(faults))


def at_once(function: Callable[[TrialCase], Answer], cases: Sequence[TrialCase]) -> dict[str, Answer]:
    """Call a function on all cases at the same time; by name."""
    with ThreadPoolExecutor(max(1, len(cases))) as pool:
        return dict(zip((case.name for case in cases), pool.map(function, cases), strict=True))


def started_together(cases: Sequence[TrialCase], folder: Path, stack: ExitStack) -> dict[str, RunningServer]:
    """Start all servers at the same time, those on Ray in one cluster; `stack` ends them."""
    on_ray = [case for case in cases if case.system.is_on_ray]

    def start(case: TrialCase) -> dict[str, RunningServer]:
        place = folder / case.name
        place.mkdir()
        if case not in on_ray:
            return {case.name: stack.enter_context(case.system.start(case.plan, place))}
        plans = {f"{PLAIN * one.is_plain_ray}{one.name}": one.plan for one in on_ray}
        servers = stack.enter_context(ray_servers(plans, place))
        return {one.name: server for one, server in zip(on_ray, servers, strict=True)}

    groups = at_once(start, [case for case in cases if case not in on_ray[1:]])
    return {name: server for group in groups.values() for name, server in group.items()}


def driven(cases: Sequence[TrialCase], servers: Mapping[str, RunningServer], folder: Path) -> Rows:
    """Drive the servers of some cases at the same time, and compare once all is quiet.

    Their overheads are measured just before, each time: the machine may have become slower since.
    """
    wait_until_quiet()
    extra_ns = at_once(lambda case: overhead_ns(case.plan, case.system.law, servers[case.name]), cases)
    traces = {case.name: case.trace for case in cases}

    def drive(case: TrialCase) -> Path:
        server, log = servers[case.name], folder / f"{case.name}.parquet"
        mp.drive(traces[case.name], server.url, out=log, **server.how)
        return log

    logs = at_once(drive, cases)
    rows = {}
    for case in cases:
        believed = with_overhead(case.plan, extra_ns[case.name])
        seen = mp.truth(believed, logs[case.name], system=case.system.law)
        rows[case.name] = {"overhead_ms": extra_ns[case.name] / 1e6, **row_of(seen)}
    return rows


def tried(cases: Sequence[TrialCase], drive: Callable[[Sequence[TrialCase]], Rows]) -> list[str]:
    """Drive cases, and again those that miss; print what was found, and return what was missed every time."""
    missed: Sequence[TrialCase] = cases
    rows: Rows = {}
    for attempt in ("side by side", "once more, for what missed", "a last time"):
        if missed:
            rows = drive(missed)
            print(f"\n{attempt}:\n{table_of(missed, rows)}\n", flush=True)
            missed = [case for case in missed if case.misses(rows[case.name])]
    return [f"{case.name}: {', '.join(case.misses(rows[case.name]))}" for case in missed]


def table_of(cases: Sequence[TrialCase], rows: Rows) -> str:
    """A line for each case."""
    lines = [
        f"{'case':21}{'queries':>8}{'lost':>5}{'late P99':>10}{'overhead':>10}{'P50':>9}{'off':>8}{'P99':>9}{'off':>8}"
    ]
    for case in cases:
        row = rows[case.name]
        figures = "".join(
            f"{row[f'{name}_measured_ms']:6.0f} ms{error_of(row, name):+8.1%}" for name in case.limits
        )
        told = "; ".join(case.misses(row)) or "kept"
        lines.append(
            f"{case.name:21}{row['queries']:8}{row['queries'] - row['answered']:5}"
            f"{row['sent_late_p99_ms']:7.1f} ms{row['overhead_ms']:7.1f} ms{figures}  {told}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
