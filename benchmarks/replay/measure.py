"""Measure one case in this process: ``python -m benchmarks.replay.measure CASE``, with the case in JSON."""

from __future__ import annotations

import json
import resource
import statistics
import sys
import tempfile
import time
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import mipplan as mp
from benchmarks.replay import peers
from benchmarks.replay.cases import OURS, Case
from benchmarks.replay.instances import (
    make_arrivals,
    plans_apart,
    plans_of_search,
    reference_plan,
    stage_settings,
    stream_arrivals,
)
from mipplan.replayer import ENGINES, read_settings, replay_together
from mipplan.tokens import Workload, realise

#: A case is repeated so often,
REPEATS = 9
#: … or so often if its repetitions have taken this long by then (seconds), or once if one takes longer.
FEWEST_REPEATS = 3
LONG_S = 1.5
#: Queries of the first call, which loads what is loaded on first use.
FEW = 1_000
PEERS: dict[str, Callable[..., Sequence[float]]] = {
    "heap": peers.replay_by_heap,
    "simpy": peers.replay_by_simpy,
    "ciw": peers.replay_by_ciw,
}

Row = dict[str, Any]


class Taken(NamedTuple):
    """Time that a call took: of the processor, all threads together, and by the clock on the wall."""

    processor_s: float
    wall_s: float


def measure(case: Case) -> Row:
    """Times, peak memory and a digest of the latencies of one case."""
    if case.group == "stream":
        return {**asdict(case), **_stream(case)}
    plans = _plans(case)
    trace = make_arrivals(case.arrivals, case.rate_rps, case.queries)
    few = make_arrivals(case.arrivals, case.rate_rps, FEW)
    run = _ours if case.engine in OURS else _peer
    return {**asdict(case), **run(case, plans, trace, few)}


def _plans(case: Case) -> list[mp.Plan]:
    if case.group == "plans":
        return (plans_apart if case.plans_are == "apart" else plans_of_search)(case.plans)
    return [reference_plan(case.stages, single_token=case.single_token)]


def _ours(case: Case, plans: list[mp.Plan], trace: mp.Trace, few: mp.Trace) -> Row:
    def replay(arrivals: mp.Trace) -> list[mp.ReplayResult]:
        return mp.replay_many(plans, arrivals, discipline=case.discipline, engine=case.engine)

    started = time.perf_counter()
    # As many plans as in earnest, or another way to serve them would be loaded.
    replay(few)
    first_call_s = time.perf_counter() - started
    before_mib = _resident_mib()
    results = replay(trace)
    peak_mib = _peak_mib()
    _write_out(results)
    seen = {
        "written_peak_mib": _peak_mib(),
        "latency_mean_ms": float(np.mean([result.latency_ns.mean() for result in results])) / 1e6,
        "digest": _digest([result.latency_ns for result in results]),
        "stage_replays": len({id(stage) for result in results for stage in result.stages.values()}),
    }
    del results
    workload = realise(plans[0].pipeline, trace, plans[0].seed)
    whole, served, written = _repeat(
        lambda: replay(trace),
        lambda: _serve(case, plans, workload),
        lambda: _write_out(replay(trace)),
    )
    return {
        **_spread(whole),
        "served_s": _median_s(served),
        "written_s": _median_s(written),
        "first_call_s": first_call_s,
        "visits": case.queries * seen["stage_replays"],
        "before_mib": before_mib,
        "peak_mib": peak_mib,
        **seen,
    }


def _write_out(results: list[mp.ReplayResult]) -> None:
    """Ask for the times of every token at every stage: results write them out when asked first."""
    for result in results:
        for stage in result.stages.values():
            assert stage.arrival_ns.size == stage.dispatch_ns.size == stage.exit_ns.size


def _serve(case: Case, plans: list[mp.Plan], workload: Workload) -> None:
    """Replay as `replay_many` does, with the tokens drawn already."""
    replay_together(plans, workload, read_settings(plans, case.discipline), ENGINES[case.engine])


def _peer(case: Case, plans: list[mp.Plan], trace: mp.Trace, few: mp.Trace) -> Row:
    settings = [stage_settings(plan) for plan in plans]
    replay = PEERS[case.engine]
    started = time.perf_counter()
    replay(few.arrival_ns.tolist(), settings[0])
    first_call_s = time.perf_counter() - started
    arrival_ns = trace.arrival_ns.tolist()
    before_mib = _resident_mib()
    latencies = [replay(arrival_ns, stages) for stages in settings]
    peak_mib = _peak_mib()
    exact = [np.array(latency_ns) for latency_ns in latencies]
    (whole,) = _repeat(lambda: [replay(arrival_ns, stages) for stages in settings])
    return {
        **_spread(whole),
        "first_call_s": first_call_s,
        "visits": case.queries * case.stages * case.plans,
        "before_mib": before_mib,
        "peak_mib": peak_mib,
        "latency_mean_ms": float(np.mean(exact)) / 1e6,
        "digest": None if case.engine == "ciw" else _digest(exact),
        "stage_replays": case.stages * case.plans,
    }


def _stream(case: Case) -> Row:
    plan = reference_plan(case.stages)

    def replay(source: Any) -> mp.StreamResult:
        return mp.replay_stream(plan, source, discipline=case.discipline, engine=case.engine)

    def pieces(queries: int = case.queries) -> Any:
        return stream_arrivals(case.arrivals, case.rate_rps, queries)

    started = time.perf_counter()
    replay(pieces(FEW))
    first_call_s, before_mib = time.perf_counter() - started, _resident_mib()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "arrivals.parquet"
        if case.source == "parquet":
            _write_parquet(pieces(), path)
        results: list[mp.StreamResult] = []
        taken = _take(lambda: results.append(replay(pieces() if case.source == "generator" else path)))
    (result,) = results
    if result.partial or result.queries != case.queries:
        raise RuntimeError(f"the stream ended early: {result.end}")
    peak_mib = _peak_mib()
    drawing = _take(lambda: deque(pieces(), maxlen=0))
    return {
        **_spread([taken]),
        "drawing_s": drawing.processor_s,
        "first_call_s": first_call_s,
        "visits": case.queries * case.stages,
        "before_mib": before_mib,
        "peak_mib": peak_mib,
        "latency_mean_ms": result.mean_latency_s * 1e3,
        "stage_replays": case.stages,
    }


def _write_parquet(pieces: Any, path: Path) -> None:
    schema = pa.schema([("arrival_s", pa.float64())])
    with pq.ParquetWriter(path, schema) as writer:
        for piece in pieces:
            writer.write_table(pa.table({"arrival_s": piece / 1e9}, schema=schema))


def _take(call: Callable[[], object]) -> Taken:
    wall_s, processor_s = time.perf_counter(), time.process_time()
    call()
    return Taken(time.process_time() - processor_s, time.perf_counter() - wall_s)


def _repeat(*calls: Callable[[], object]) -> tuple[list[Taken], ...]:
    """Times of each call, taken in turns."""
    taken: tuple[list[Taken], ...] = tuple([] for _ in calls)
    until = time.perf_counter() + LONG_S
    while len(taken[0]) < REPEATS:
        for call, times in zip(calls, taken, strict=True):
            times.append(_take(call))
        enough = 1 if taken[0][0].wall_s > LONG_S else FEWEST_REPEATS
        if len(taken[0]) >= enough and time.perf_counter() > until:
            break
    return taken


def _median_s(taken: Sequence[Taken]) -> float:
    return statistics.median(times.processor_s for times in taken)


def _spread(taken: Sequence[Taken]) -> Row:
    processor_s = [times.processor_s for times in taken]
    return {
        "seconds": _median_s(taken),
        "fastest_s": min(processor_s),
        "slowest_s": max(processor_s),
        "wall_s": statistics.median(times.wall_s for times in taken),
        "repeats": len(taken),
    }


def _digest(latencies: list[Any]) -> str:
    """A number for int64 latencies, the same for the same ones."""
    crc = 0
    for latency_ns in latencies:
        crc = zlib.crc32(np.ascontiguousarray(latency_ns, dtype=np.int64), crc)
    return f"{crc:08x}"


def _resident_mib() -> float:
    return _status_mib("VmRSS")


def _peak_mib() -> float:
    return _status_mib("VmHWM")


def _status_mib(field: str) -> float:
    """Read it from the process itself where that is possible: `getrusage` may give the peak of the one it came from."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    print(json.dumps(measure(Case(**json.loads(sys.argv[1])))))
