"""Language models: vLLM and GenAI-Perf where the batch is told, static estimates of AIConfigurator.

A time to first token, or per token, is no latency of a batch: it holds the waiting for other requests of a batch that
changes with every step. What is taken is the time from the begin to the end of requests that ran together as one batch.
"""

from __future__ import annotations

import math
from typing import Any

from mipplan.core import Fault, is_number, shown
from mipplan.importers.reading import Reading, Record, fields_at, mean_and_p99
from mipplan.importers.triton import SEVERAL_UNDER_WAY

_MS_PER_S = 1_000.0
_MS = {"ms": 1.0, "us": 1e-3, "ns": 1e-6, "s": 1_000.0, "sec": 1_000.0}
#: What is computed anew from a file's own values may differ by rounding.
_ROUNDING = 1e-6
#: Of requests that failed a larger share than this is told.
_FEW_FAILED = 0.01
_TOKENS = (
    "times to first token and between tokens are not the latency of one batch, and how many requests ran together is "
    "not told; measure with one request at a time, or with `vllm bench latency`"
)


def read_vllm(reading: Reading) -> None:
    """Read what ``vllm bench latency --output-json`` wrote, or ``vllm bench serve`` with one request at a time."""
    document, path = reading.file.json, reading.file.path
    if not isinstance(document, dict):
        reading.faults.append(Fault(path, "expected one JSON object"))
    elif "latencies" in document:
        _read_latencies(reading, document)
    elif document.get("max_concurrency") != 1 or document.get("mean_e2el_ms") is None:
        several = document.get("max_concurrency")
        is_told = type(several) is int and several > 1
        reading.refuse(path, SEVERAL_UNDER_WAY.format(concurrency=several) if is_told else _TOKENS)
    else:
        mean_ms = reading.number(path, "mean_e2el_ms", document["mean_e2el_ms"])
        high = document.get("p99_e2el_ms")
        p99_ms = None if high is None else reading.number(path, "p99_e2el_ms", high)
        lengths = _lengths(reading, document)
        _note_failed(reading, document.get("completed"), document.get("failed"))
        what = f"end-to-end latency of single requests{lengths}, network included"
        model = str(document.get("model_id", ""))
        reading.keep(path, 1, mean_ms, "mean", what, model=model, latency_p99_ms=p99_ms)


def _note_failed(reading: Reading, completed: Any, failed: Any) -> None:
    if is_number(completed) and is_number(failed) and failed > _FEW_FAILED * (completed + failed):
        what = f"{failed:g} of {completed + failed:g} requests failed"
        reading.notes.append(f"{reading.file.path}: {what}: the latency is that of those that did not")


def _lengths(reading: Reading, document: dict[str, Any]) -> str:
    """Say how long prompts and answers were: another length is another latency."""
    names = ("total_input_tokens", "total_output_tokens", "completed")
    values = [document.get(name) for name in names]
    if not all(type(value) is int and value > 0 for value in values):
        return ""
    prompt, answer, completed = (reading.number(reading.file.path, "tokens", value) for value in values)
    return f" of {prompt / completed:.4g} tokens with answers of {answer / completed:.4g}"


def _read_latencies(reading: Reading, document: dict[str, Any]) -> None:
    path, listed = reading.file.path, document["latencies"]
    if not isinstance(listed, list) or not listed:
        what = "expected a list of at least one latency in seconds"
        reading.faults.append(Fault(f"{path}: latencies", what))
        return
    seconds = [reading.number(f"{path}: latencies[{at}]", "s", value) for at, value in enumerate(listed)]
    mean_s, p99_s = mean_and_p99(seconds)
    stated_s = reading.number(path, "avg_latency", document.get("avg_latency"))
    if abs(stated_s - mean_s) > _ROUNDING * mean_s:
        what = f"{stated_s:g} is not the mean of the latencies, {mean_s:g}: half a file?"
        reading.faults.append(Fault(f"{path}: avg_latency", what))
    if reading.stated.batch is None:
        what = "does not tell its batch size (vllm bench latency --batch-size, 8 by default): give it with --batch"
        reading.faults.append(Fault(path, what))
        return
    what = f"latency of {len(seconds)} whole batches, prompt to last token"
    p99_ms = None if p99_s is None else p99_s * _MS_PER_S
    reading.keep(path, reading.stated.batch, mean_s * _MS_PER_S, "mean", what, latency_p99_ms=p99_ms)


def read_genai_perf(reading: Reading) -> None:
    """Read a summary of GenAI-Perf or AIPerf of requests sent one at a time."""
    document, path = reading.file.json, reading.file.path
    if not isinstance(document, dict):
        reading.faults.append(Fault(path, "expected one JSON object"))
        return
    if document.get("was_cancelled") is True:
        reading.refuse(path, "the run was cancelled: its figures are those of a part of it")
        return
    settings = document["input_config"]
    concurrency = {value for value in fields_at(settings, "concurrency") if isinstance(value, int)}
    rates = [value for value in fields_at(settings, "request_rate") if value is not None]
    if rates or concurrency != {1}:
        several = next((value for value in concurrency if type(value) is int and value > 1), None)
        reading.refuse(path, SEVERAL_UNDER_WAY.format(concurrency=several) if several else _TOKENS)
        return
    names = ("batch_size", "batch_size_text", "batch_size_image")
    given = [size for name in names for size in fields_at(settings, name)]
    sizes = {size for size in given if type(size) is int and size > 1}
    if len(sizes) > 1:
        reading.refuse(path, "texts and images came in batches of different sizes")
        return
    measured = document["request_latency"]
    unit = measured.get("unit") if isinstance(measured, dict) else None
    if not isinstance(unit, str) or unit not in _MS:
        reading.faults.append(Fault(f"{path}: request_latency.unit", f"expected ms, found {shown(unit)}"))
        return
    mean_ms = reading.number(path, "request_latency.avg", measured.get("avg")) * _MS[unit]
    high = measured.get("p99")
    p99_ms = None if high is None else reading.number(path, "request_latency.p99", high) * _MS[unit]
    count = document.get("request_count")
    failed = [number for number in fields_at(document.get("error_summary"), "count") if is_number(number)]
    _note_failed(reading, count.get("avg") if isinstance(count, dict) else None, sum(failed))
    models = fields_at(settings, "model")
    model = str(models[0][0]) if models and isinstance(models[0], list) and models[0] else ""
    spans = []
    for name, what in (("input_sequence_length", "prompts"), ("output_sequence_length", "answers")):
        length = document.get(name)
        average = length.get("avg") if isinstance(length, dict) else None
        if average is not None:
            spans.append(f"{what} of {reading.number(path, f'{name}.avg', average, zero=True):g} tokens")
    what = ", ".join(["latency of single requests", *spans, "network included"])
    reading.keep(path, next(iter(sizes), 1), mean_ms, "mean", what, model=model, latency_p99_ms=p99_ms)


def read_aiconfigurator(reading: Reading) -> None:
    """Read a summary of static batches that AIConfigurator (now AISimulate) estimated."""
    columns = reading.file.columns
    if "op_name" in columns:
        reason = (
            "times single kernels, not a batch of a model; estimate one with AIConfigurator from these tables"
        )
        reading.refuse(f"{reading.file.path}:1", reason)
        return
    for record in reading.table():
        if "(p)bs" in columns:
            reason = "prefill and decoding run on different devices: no batch of one device"
            reading.refuse(record.place, reason)
        elif "context_latency" in columns or record.text("concurrency") == "1":
            _read_static(reading, record)
        else:
            reason = "requests join and leave the batch at every step: their latency is that of no batch"
            reading.refuse(record.place, reason)


def _read_static(reading: Reading, record: Record) -> None:
    """Take a batch whose requests begin and end together: the latency of a request is that of the batch."""
    place = record.place
    batch = reading.whole(place, "bs", record.text("global_bs", "bs"))
    latency_ms = reading.number(place, "request_latency", record.text("request_latency"))
    devices = 1
    if record.text("num_total_gpus"):
        devices = reading.whole(place, "num_total_gpus", record.text("num_total_gpus"))
    if record.text("context_latency"):
        names = ("encoder_latency", "context_latency", "generation_latency")
        parts_ms = sum(reading.number(place, name, record.text(name) or "0", zero=True) for name in names)
        if abs(parts_ms - latency_ms) > 0.05 * latency_ms and not math.isnan(parts_ms):
            what = f"request_latency {latency_ms:g} is not encoder + context + generation, {parts_ms:g}: other units?"
            reading.faults.append(Fault(place, what))
            return
    system = record.text("system")
    hardware = f"{system}-x{devices}" if system and devices > 1 else system
    version = " ".join(filter(None, (record.text("backend"), record.text("version"))))
    lengths = f"prompts of {record.text('isl')} and answers of {record.text('osl')} tokens"
    what = f"whole batch, {lengths}, {version}".removesuffix(", ")
    reading.keep(place, batch, latency_ms, "estimate", what, model=record.text("model"), hardware=hardware)
