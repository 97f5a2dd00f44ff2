"""Triton's tools: tables and profile exports of perf_analyzer, tables of Model Analyzer.

Latencies that a client sees while several requests are under way hold the waiting for each other, and a server may
merge such requests into batches of its own; so only what was measured with one request at a time is taken.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from mipplan.core import Fault, shown
from mipplan.importers.reading import Reading, Record, mean_and_p99

_US_PER_MS = 1_000.0
_NS_PER_MS = 1_000_000.0
_COMPUTE = ("Server Compute Input", "Server Compute Infer", "Server Compute Output")
_OLD_COMPUTE = ("Server Compute",)
#: What a request spends its time on, one after the other: together its mean latency.
_PARTS = ("Client Send", "Network+Server Send/Recv", "Server Queue", "Client Recv")
#: One request at a time keeps the number under way at 1, by Little's law: rate · latency = batch. A client that idles
#: between requests stays a little below; beyond this band something is not what it was said to be.
_LEAST_UNDER_WAY, _MOST_UNDER_WAY = 0.8, 1.25
#: These batch sizes are read off Little's law, since no other fits as long as the client idles for less than a quarter
#: of the time; from 3 on a larger one does.
_TOLD = (1, 2)
_MOST_IDLE = 0.25
_ROUNDING = 0.01
#: perf_analyzer measures in windows until the last ones agree, and reports these together.
_WINDOWS_MERGED = 3

SEVERAL_UNDER_WAY = (
    "concurrency {concurrency}: the latency holds the waiting for other requests, and the server may merge them; "
    "measure with one request at a time"
)


def read_perf_analyzer(reading: Reading) -> None:
    """Read what ``perf_analyzer -f`` or ``--profile-export-file`` wrote."""
    if reading.file.is_json:
        _read_export(reading)
        return
    for record in reading.table():
        if "Request Rate" in record.cells:
            reason = "requests came at a rate: how many were under way, and in which batches, is not told"
            reading.refuse(record.place, reason)
        elif _is_alone(reading, record, "Concurrency") and not _is_cached(reading, record):
            _read_alone(reading, record)


def _is_alone(reading: Reading, record: Record, column: str) -> bool:
    concurrency = reading.whole(record.place, column, record.cells.get(column))
    if concurrency > 1:
        reading.refuse(record.place, SEVERAL_UNDER_WAY.format(concurrency=concurrency))
    return concurrency == 1


def _is_cached(reading: Reading, record: Record) -> bool:
    hit = record.text("Server Cache Hit")
    is_cached = bool(hit) and reading.number(record.place, "Server Cache Hit", hit, zero=True) > 0
    if is_cached:
        reading.refuse(record.place, "answers came from the response cache, without a batch; switch it off")
    return is_cached


def _read_alone(reading: Reading, record: Record) -> None:
    """Take a row of concurrency 1: what the server computed for one request, which is one batch."""
    cells, place = record.cells, record.place
    compute = _COMPUTE if _COMPUTE[0] in cells else _OLD_COMPUTE if _OLD_COMPUTE[0] in cells else ()
    rate = reading.number(place, "Inferences/Second", cells.get("Inferences/Second"))
    computed_us = sum(reading.number(place, name, cells.get(name), zero=True) for name in compute)
    others = [reading.number(place, name, cells[name], zero=True) for name in _PARTS if name in cells]
    seen = next((name for name in ("Avg latency", "p50 latency") if cells.get(name)), "")
    if compute and len(others) == len(_PARTS):
        client_us = computed_us + sum(others)
    elif seen:
        client_us = reading.number(place, seen, cells[seen])
    else:
        reading.faults.append(Fault(place, "has neither server times nor a latency of the client"))
        return
    batch = _batch_of(reading, place, rate * client_us / 1e6)
    inferred = "" if reading.stated.batch else ", batch size inferred from throughput times latency"
    if compute:
        if computed_us == 0:
            reading.faults.append(Fault(f"{place}: {compute[-1]}", "the server computed for 0 µs"))
            return
        parts = "input + infer + output" if compute is _COMPUTE else "time"
        what = f"server compute {parts}, without queue, at concurrency 1{inferred}"
        reading.keep(place, batch, computed_us / _US_PER_MS, "mean", what)
    else:
        statistic = "mean" if seen == "Avg latency" else "median"
        what = f"client latency at concurrency 1, network included{inferred}"
        high = cells.get("p99 latency")
        p99_ms = reading.number(place, "p99 latency", high) / _US_PER_MS if high else None
        reading.keep(place, batch, client_us / _US_PER_MS, statistic, what, latency_p99_ms=p99_ms)


def _batch_of(reading: Reading, place: str, under_way: float) -> int:
    """Return the batch size, stated or by Little's law; 0 if there is none to rely on."""
    batch = reading.stated.batch
    if math.isnan(under_way):
        return 0
    if batch is not None:
        if not _LEAST_UNDER_WAY <= under_way / batch <= _MOST_UNDER_WAY:
            what = (
                f"throughput times latency is {under_way:.3g}, which at concurrency 1 is the batch size, not {batch}: "
                "another batch size, or other units than inferences/s and µs"
            )
            reading.faults.append(Fault(place, what))
            return 0
        return batch
    for size in _TOLD:
        if (1 - _MOST_IDLE) * size <= under_way <= (1 + _ROUNDING) * size:
            return size
    what = f"the batch size is not written down, and throughput times latency ({under_way:.4g}) does not tell it, "
    what += "as clients idle between requests: give perf_analyzer's -b with --batch"
    reading.faults.append(Fault(place, what))
    return 0


def _read_export(reading: Reading) -> None:
    """Take the requests of experiments with one under way: what the client saw of each."""
    document, path = reading.file.json, reading.file.path
    experiments = document.get("experiments") if isinstance(document, dict) else None
    if not isinstance(experiments, list) or not experiments:
        reading.faults.append(Fault(f"{path}: experiments", "expected a list of at least one experiment"))
        return
    reading.tool = str(document.get("version", ""))
    for index, experiment in enumerate(experiments):
        place = f"{path}: experiments[{index}]"
        settings = experiment.get("experiment") if isinstance(experiment, dict) else None
        requests = experiment.get("requests") if isinstance(experiment, dict) else None
        if not isinstance(settings, dict) or not isinstance(requests, list) or not requests:
            reading.faults.append(Fault(place, "expected an experiment with its requests: half a file?"))
        elif settings.get("mode") != "concurrency":
            reason = f"mode {shown(settings.get('mode'))}: how many requests were under way is not told"
            reading.refuse(place, reason)
        elif settings.get("value") != 1:
            reading.refuse(place, SEVERAL_UNDER_WAY.format(concurrency=settings.get("value")))
        else:
            _read_requests(reading, place, requests, experiment.get("window_boundaries") or [])


def _read_requests(reading: Reading, place: str, requests: list[object], boundaries: Any) -> None:
    """Take the requests that begin in the last windows, or all if no windows are told."""
    seen_ms: list[float] = []
    stamps = boundaries if isinstance(boundaries, list) else [None]
    if not all(type(stamp) is int for stamp in stamps) or stamps != sorted(stamps):
        what = "expected a list of whole nanoseconds, one after the other"
        reading.faults.append(Fault(f"{place}.window_boundaries", what))
        return
    merged = stamps[-1 - _WINDOWS_MERGED :]
    begin_ns, end_ns = (merged[0], merged[-1]) if len(merged) > 1 else (0, math.inf)
    for at, begin, ends in _times(reading, place, requests):
        if len(ends) != 1:
            reading.refuse(place, f"{at} has {len(ends)} responses: a stream of tokens, not one batch")
            return
        if ends[0] <= begin:
            reading.faults.append(Fault(at, "the response came no later than the request"))
        if begin_ns <= begin < end_ns:
            seen_ms.append((ends[0] - begin) / _NS_PER_MS)
    if reading.stated.batch is None:
        missing = "the batch size is not written down: give perf_analyzer's -b with --batch"
        reading.faults.append(Fault(place, missing))
    elif seen_ms:
        mean_ms, p99_ms = mean_and_p99(seen_ms)
        what = f"client latency of {len(seen_ms)} requests at concurrency 1, network included"
        if len(merged) > 1:
            what += f", in the last {len(merged) - 1} of {len(stamps) - 1} windows"
        reading.keep(place, reading.stated.batch, mean_ms, "mean", what, latency_p99_ms=p99_ms)
    elif len(merged) > 1:
        reading.refuse(place, f"no request begins in its last {len(merged) - 1} windows")


def _times(reading: Reading, place: str, requests: list[object]) -> Iterator[tuple[str, int, list[int]]]:
    for index, request in enumerate(requests):
        at = f"{place}.requests[{index}]"
        begin = request.get("timestamp") if isinstance(request, dict) else None
        ends = request.get("response_timestamps") if isinstance(request, dict) else None
        stamps = [begin, *ends] if isinstance(ends, list) else []
        if not stamps or not all(type(stamp) is int and stamp >= 0 for stamp in stamps):
            what = "expected a timestamp and response_timestamps in whole nanoseconds"
            reading.faults.append(Fault(at, what))
        else:
            yield at, stamps[0], stamps[1:]


def read_model_analyzer(reading: Reading) -> None:
    """Read a table of inference metrics that Model Analyzer wrote."""
    compute = tuple(f"{name} time (ms)" for name in _COMPUTE)
    for record in reading.table():
        cells, place, model = record.cells, record.place, record.text("Model")
        if not _is_alone(reading, record, "Concurrency"):
            continue
        batch = reading.whole(place, "Batch", cells.get("Batch"))
        p99 = cells.get("p99 Latency (ms)")
        p99_ms = reading.number(place, "p99 Latency (ms)", p99) if p99 else None
        if all(cells.get(name) for name in compute):
            latency_ms = sum(reading.number(place, name, cells[name], zero=True) for name in compute)
            what = "server compute input + infer + output, without queue, at concurrency 1"
            reading.keep(place, batch, latency_ms, "mean", what, model=model)
            continue
        what = "client latency at concurrency 1, network included"
        statistics = (("mean", "Avg Latency (ms)"), ("P99", "p99 Latency (ms)"), ("P95", "p95 Latency (ms)"))
        statistic, name = next(((how, name) for how, name in statistics if cells.get(name)), ("", ""))
        if not name:
            why = "a throughput alone tells no latency; have Model Analyzer write p99 Latency (ms)"
            reading.refuse(place, why)
            continue
        latency_ms = reading.number(place, name, cells[name])
        reading.keep(place, batch, latency_ms, statistic, what, model=model, latency_p99_ms=p99_ms)
