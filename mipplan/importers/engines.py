"""What inference engines say of themselves: logs and timings of trtexec, profiles of ONNX Runtime."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from mipplan.core import Fault, listed, shown
from mipplan.importers.reading import Reading, mean_and_p99

_US_PER_MS = 1_000.0
#: Runs of a session are taken from the second on: the first one allocates, compiles and picks kernels.
_WARM_UP_RUNS = 1
#: Runs are alike if the inputs of so many first nodes are: later ones may work on what the data make, such as boxes.
_FIRST_NODES = 10
#: Times are written with six digits.
_ROUNDING = 1e-5

# --- trtexec ---------------------------------------------------------------------------------------------------------

_BEGIN = re.compile(r"&&&& RUNNING TensorRT\.trtexec")
_VERSION = re.compile(r"TensorRT version: (\S+)|TensorRT\.trtexec \[TensorRT (v\d+)\]")
_DEVICE = re.compile(r"Selected Device: (.+)")
_BATCH = re.compile(r"\[I\] Batch: (\S+)")
_SHAPE = re.compile(r"Input inference shapes? ?: (\S.*)")
_BINDING = re.compile(
    r"(?:Created input binding for|Input binding for) (\S+) (?:with dimensions )(\d+(?:x\d+)*)"
)
_STREAMS = re.compile(r"\[I\] (?:Inference )?Streams: (\d{1,6})")
_STREAMS_FLAG = re.compile(r"--(?:streams|infStreams)=(\d{1,6})\b")
_NO_TRANSFERS = re.compile(r"\[I\] Data transfers: Disabled")
_SUMMARY = re.compile(r"\[I\] Latency: (min = .*)")
_STATISTIC = re.compile(r"(min|max|mean|median|percentile\(\d+(?:\.\d+)?%?\)) = (\S+) (\w+)")
_AFTER_SUMMARY = re.compile(r"\[I\] GPU Compute Time: ")
_FAILED = re.compile(r"&&&& FAILED")


@dataclass
class _TrtexecRun:
    """What one run of trtexec said, with the lines of it."""

    line: int
    version: str = ""
    device: str = ""
    implicit: str = ""  # What stands behind "Batch:".
    # First dimension of each input shape, as text.
    leading: list[tuple[str, str]] = field(default_factory=list)
    streams: int = 1
    has_transfers: bool = True  # To and from the device.
    summaries: list[tuple[int, str]] = field(default_factory=list)
    is_whole: bool = False  # Whether what follows the latencies in the summary is there.
    is_failed: bool = False


def read_trtexec(reading: Reading) -> None:
    """Read the log of one or several runs of trtexec, or what its ``--exportTimes`` wrote."""
    if reading.file.is_json:
        _read_export(reading)
        return
    for run in _runs(reading.file.text):
        place = f"{reading.file.path}:{run.line}"
        reading.tool = reading.tool or run.version
        if run.is_failed:
            reading.faults.append(Fault(place, "the run failed (&&&& FAILED): it measured nothing"))
        elif not run.summaries or not run.is_whole:
            what = "ends before 'Latency: min = … ms' and 'GPU Compute Time: …' of its summary: half a log, "
            what += "a build without inference, or TensorRT before version 8"
            reading.faults.append(Fault(place, what))
        elif len(run.summaries) > 1:
            lines = listed(str(line) for line, _ in run.summaries)
            reading.faults.append(Fault(place, f"several performance summaries, on lines {lines}"))
        elif run.streams > 1:
            reason = f"{run.streams} streams at once: the latency holds the waiting for each other"
            reading.refuse(f"{reading.file.path}:{run.summaries[0][0]}", reason)
        else:
            _read_run(reading, run)


def _runs(text: str) -> Iterator[_TrtexecRun]:
    run = _TrtexecRun(1)
    is_begun = False
    for number, line in enumerate(text.splitlines(), 1):
        if _BEGIN.search(line):
            if is_begun:
                yield run
            run, is_begun = _TrtexecRun(number), True
            run.has_transfers = "--noDataTransfers" not in line
            if found := _STREAMS_FLAG.search(line):  # The options that are logged below say it again.
                run.streams = int(found[1])
        if (found := _VERSION.search(line)) and (found[1] or not run.version):
            run.version = found[1] or found[2]
        elif found := _DEVICE.search(line):
            run.device = found[1].strip()
        elif found := _BATCH.search(line):
            run.implicit = found[1]
        elif (found := _SHAPE.search(line)) and "=" in found[1]:
            shapes = [part.rpartition("=") for part in re.split(r"[+,]", found[1].strip())]
            run.leading += [(name.strip("'\\"), shape.partition("x")[0]) for name, _, shape in shapes]
        elif found := _BINDING.search(line):
            run.leading.append((found[1], found[2].partition("x")[0]))
        elif found := _STREAMS.search(line):
            run.streams = int(found[1])
        elif _NO_TRANSFERS.search(line):
            run.has_transfers = False
        elif found := _SUMMARY.search(line):
            run.summaries.append((number, found[1]))
        elif _AFTER_SUMMARY.search(line):
            run.is_whole = True
        elif _FAILED.search(line):
            run.is_failed = True
    yield run


def _read_run(reading: Reading, run: _TrtexecRun) -> None:
    line, summary = run.summaries[0]
    place = f"{reading.file.path}:{line}"
    figures: dict[str, float] = {}
    for name, value, unit in _STATISTIC.findall(summary):
        if unit != "ms":
            reading.faults.append(Fault(f"{place}: {name}", f"expected milliseconds, found {shown(unit)}"))
        figures[name] = reading.number(place, name, value)
    batch = _batch_of(reading, place, run)
    if "mean" not in figures:
        reading.faults.append(Fault(place, "the summary has no mean"))
        return
    on = f" on {run.device}" if run.device else ""
    transfers = "transfers to and from the device included"
    if not run.has_transfers:
        transfers = "without transfers to and from the device"
    what = f"latency of one inference, {transfers}{on}"
    p99_ms = figures.get("percentile(99%)")
    reading.keep(place, batch, figures["mean"], "mean", what, latency_p99_ms=p99_ms)


def _batch_of(reading: Reading, place: str, run: _TrtexecRun) -> int:
    """Return the batch size; 0 if it is not told.

    "Batch: 1" is no evidence: trtexec writes it for engines that were built with another batch size, too.
    """
    stated = reading.stated.batch
    sizes = sorted({int(size) for _, size in run.leading if size.isdecimal() and len(size) < 10})
    if run.implicit.isdecimal() and len(run.implicit) < 10 and int(run.implicit) > 1:
        sizes = [int(run.implicit)]
    elif run.implicit == "1" and len(sizes) == 1 and stated is None:
        sizes = sizes if sizes == [1] else []
    if len(sizes) == 1 and sizes[0] >= 1:
        return sizes[0]
    if stated is not None:
        return stated
    what = (
        "the inputs begin with different sizes" if len(sizes) > 1 else "the log does not tell the batch size"
    )
    reading.faults.append(Fault(place, f"{what}: give it with --batch"))
    return 0


def _read_export(reading: Reading) -> None:
    times_ms: list[float] = []
    spans: list[tuple[float, float, str]] = []
    path = reading.file.path
    for index, entry in enumerate(reading.file.json):
        place = f"{path}: [{index}]"
        value = entry.get("latencyMs") if isinstance(entry, dict) else None
        times_ms.append(reading.number(place, "latencyMs", value))
        if isinstance(entry, dict):
            begin, end = (
                reading.number(place, name, entry.get(name), zero=True)
                for name in ("startComputeMs", "endComputeMs")
            )
            spans.append((begin, end, place))
    overlapping = _overlapping(spans)
    if overlapping is not None:  # Transfers of one stream may overlap, what it computes does not.
        reason = (
            "several inferences at once, from several streams: the latency holds the waiting for each other"
        )
        reading.refuse(overlapping, reason)
        return
    if reading.stated.batch is None:
        what = "timings do not tell the batch size: give it with --batch"
        reading.faults.append(Fault(path, what))
        return
    mean_ms, p99_ms = mean_and_p99(times_ms)
    what = f"latency of {len(times_ms)} inferences, transfers to and from the device included"
    reading.keep(path, reading.stated.batch, mean_ms, "mean", what, latency_p99_ms=p99_ms)


def _overlapping(spans: Iterable[tuple[float, float, str]]) -> str | None:
    """Return the place of the first span, given with begin and end, that begins before the one before it ends."""
    for before, after in pairwise(sorted(spans)):
        if after[0] < before[1] * (1 - _ROUNDING):
            return after[2]
    return None


# --- ONNX Runtime ----------------------------------------------------------------------------------------------------


@dataclass
class _ModelRun:
    """One run of a session."""

    index: int
    begin_us: float
    took_us: float
    leading: list[int | None]  # First dimension of each input of the first node.
    output: int | None  # First dimension of the last node's first output.
    shapes: str  # Of the inputs of the first nodes.


def read_onnxruntime(reading: Reading) -> None:
    """Read a profile of a session: its ``model_run`` events, by the batch that ran in each."""
    path = reading.file.path
    runs = list(_model_runs(reading))
    overlapping = _overlapping((run.begin_us, run.begin_us + run.took_us, f"[{run.index}]") for run in runs)
    if not runs:
        what = "holds no model_run event: the session ran nothing, or the file ends before"
        reading.faults.append(Fault(path, what))
    elif overlapping is not None:
        reason = "runs of the session overlap: they hold the waiting for each other; run one at a time"
        reading.refuse(f"{path}: {overlapping}", reason)
    elif len(runs) <= _WARM_UP_RUNS and not reading.faults:
        what = "only the first run of the session, which allocates and picks kernels: run it more often"
        reading.refuse(path, what)
    else:
        by_batch: dict[int | None, list[_ModelRun]] = {}
        # The first input may be weights; another one is the batch where the output changes with it from run to run.
        several = len({run.output for run in runs}) > 1
        for run in runs[_WARM_UP_RUNS:]:
            told = run.output in (run.leading if several else run.leading[:1])
            by_batch.setdefault(reading.stated.batch or (run.output if told else None), []).append(run)
        for batch, found in by_batch.items():
            _read_batch(reading, batch, found)


def _read_batch(reading: Reading, batch: int | None, runs: list[_ModelRun]) -> None:
    """Take the mean of runs of one batch size, which must be of one shape."""
    first = runs[0]
    place = f"{reading.file.path}: [{first.index}]"
    other = next((run for run in runs if run.shapes != first.shapes), None)
    if other is not None:
        what = f"has inputs of other shapes than [{first.index}], and a mean of both is that of none: "
        what += "profile one shape at a time" + (", or leave --batch out" if reading.stated.batch else "")
        reading.faults.append(Fault(f"{reading.file.path}: [{other.index}]", what))
    elif batch is None:
        what = "the first input and the last output begin with different sizes, or with none that is told: "
        what += "give the batch with --batch"
        reading.faults.append(Fault(place, what))
    else:
        mean_ms, p99_ms = mean_and_p99([run.took_us / _US_PER_MS for run in runs])
        what = f"model_run, {len(runs)} runs without the session's first"
        reading.keep(place, batch, mean_ms, "mean", what, latency_p99_ms=p99_ms)


def _model_runs(reading: Reading) -> Iterator[_ModelRun]:
    inputs: list[object] = []
    output: object = None
    for index, event in enumerate(reading.file.json):
        place = f"{reading.file.path}: [{index}]"
        if not isinstance(event, dict):
            reading.faults.append(Fault(place, f"expected an event, found {shown(event)}"))
        elif event.get("cat") == "Node" and str(event.get("name", "")).endswith("_kernel_time"):
            arguments = event.get("args")
            shapes: Any = arguments if isinstance(arguments, dict) else {}
            inputs.append(shapes.get("input_type_shape"))
            output = shapes.get("output_type_shape")
        elif event.get("name") == "model_run":
            begin_us = reading.number(place, "ts", event.get("ts"), zero=True)
            took_us = reading.number(place, "dur", event.get("dur"))
            leading, last = _leading(inputs[0] if inputs else None), next(iter(_leading(output)), None)
            yield _ModelRun(index, begin_us, took_us, leading, last, repr(inputs[:_FIRST_NODES]))
            inputs, output = [], None


def _leading(shapes: object) -> list[int | None]:
    """Return the first dimension of each tensor of [{"float": [4, 8]}, …]."""
    found: list[int | None] = []
    for tensor in shapes if isinstance(shapes, list) else []:
        dimensions = next(iter(tensor.values()), None) if isinstance(tensor, dict) else None
        size = dimensions[0] if isinstance(dimensions, list) and dimensions else None
        found.append(size if type(size) is int and size >= 1 else None)
    return found
