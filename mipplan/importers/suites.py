"""Published results: MLPerf inference, timm's benchmarks, and tables of vendors and papers in CSV."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mipplan.core import Fault, counted, listed, shown
from mipplan.importers.reading import Reading, Record
from mipplan.profiles import OPTIONAL_COLUMNS

_NS_PER_MS = 1_000_000.0
#: What a summary of MLPerf's LoadGen begins with.
SUMMARY_TITLE = "MLPerf Results Summary"
#: By Little's law, rate · latency / batch is the number of batches under way; beyond this a latency holds waiting.
_MOST_UNDER_WAY = 1.25
#: What stands for none in a column of counts or flags.
_NONE = ("", "0", "False")
#: A step of so many samples at so many samples per second takes as long as is written, but for what is between steps.
_LEAST_OF_STEP = 0.8

# --- MLPerf inference ------------------------------------------------------------------------------------------------

_OFFLINE = (
    "Offline measures a throughput: its latencies count from the begin of the run, over all samples at once"
)
_SERVER = "Server latencies hold the waiting under the benchmark's own traffic, and batches of unknown sizes"


def read_mlperf(reading: Reading) -> None:
    """Read a ``mlperf_log_summary.txt``, a table of results, or the submission checker's ``summary.csv``."""
    if "scenario" in reading.file.columns:
        for record in reading.table():
            _read_result(reading, record)
    elif "Scenario" in reading.file.columns:
        for record in reading.table():
            _read_summary(reading, record)
    else:
        _read_log(reading)


def _is_of_use(reading: Reading, place: str, scenario: str) -> bool:
    reasons = {"offline": _OFFLINE, "server": _SERVER, "interactive": _SERVER}
    known = ("singlestream", "multistream")
    if scenario in known:
        return True
    reading.refuse(place, reasons.get(scenario, f"unknown scenario {shown(scenario)}"))
    return False


def _read_log(reading: Reading) -> None:
    path = reading.file.path
    entries: dict[str, tuple[int, str]] = {}
    for line, text in enumerate(reading.file.text.splitlines(), 1):
        name, _, value = text.partition(":")
        if value.strip():
            entries.setdefault(" ".join(name.split()), (line, value.strip()))
    if not reading.file.text.endswith("\n"):
        last = len(reading.file.text.splitlines())
        # It may be half a figure.
        entries = {name: entry for name, entry in entries.items() if entry[0] != last}
    scenario = _compact(entries.get("Scenario", (1, ""))[1])
    line, verdict = entries.get("Result is", (0, ""))
    if reading.file.text.count(SUMMARY_TITLE) > 1:
        reading.faults.append(Fault(path, "holds several summaries: give each as a file of its own"))
    elif not scenario or not verdict:
        reading.faults.append(Fault(path, "ends before 'Scenario : …' and 'Result is : …': half a summary"))
    elif not _compact(entries.get("Mode", (1, "performance"))[1]).startswith("performance"):
        reading.refuse(path, "a run for accuracy measures no latency")
    elif verdict != "VALID":
        reading.refuse(f"{path}:{line}", f"the result is {verdict}")
    elif _is_of_use(reading, path, scenario):
        percentile = "90" if scenario == "singlestream" else "99"
        _read_percentile(reading, entries, percentile)


def _compact(text: str) -> str:
    return text.replace(" ", "").lower()


def _read_percentile(reading: Reading, entries: dict[str, tuple[int, str]], percentile: str) -> None:
    """Take the percentile by which a scenario is judged: P90 of one sample, or P99 of a query of several."""
    path = reading.file.path
    names = (f"{percentile}th percentile latency (ns)", f"{percentile}.00 percentile latency (ns)")
    name = next((name for name in names if name in entries), None)
    if name is None:
        reading.faults.append(Fault(path, f"has no line '{names[0]} : …': half a summary, or other units"))
        return
    line, text = entries[name]
    place = f"{path}:{line}"
    latency_ms = reading.number(place, name, text) / _NS_PER_MS
    at, size = entries.get("samples_per_query", (line, "1" if percentile == "90" else ""))
    batch = reading.whole(f"{path}:{at}", "samples_per_query", size)
    p99_ms = None
    if "99.00 percentile latency (ns)" in entries:
        at, text = entries["99.00 percentile latency (ns)"]
        p99_ms = reading.number(f"{path}:{at}", "99.00 percentile latency (ns)", text) / _NS_PER_MS
    system = entries.get("SUT name", (0, ""))[1]
    what = f"latency of one query of {counted(batch, 'sample')}, seen by LoadGen{f', SUT {system}' if system else ''}"
    reading.keep(place, batch, latency_ms, f"P{percentile}", what, latency_p99_ms=p99_ms)


def _read_result(reading: Reading, record: Record) -> None:
    place = record.place
    scenario = _compact(record.text("scenario"))
    if record.text("valid").lower() not in ("", "true", "valid", "1"):
        reading.refuse(place, "the result is not valid")
        return
    if not _is_of_use(reading, place, scenario):
        return
    accelerator = record.text("accelerator")
    is_cpu = accelerator in ("", "N/A")
    count = 1.0
    for name in ("accelerators_per_node", "nodes"):
        if record.text(name) and not (is_cpu and name == "accelerators_per_node"):
            count *= reading.number(place, name, record.text(name), zero=True)
    if count > 1:
        what = f"the system has {count:g} accelerators, and which of them served a query is not told"
        reading.refuse(place, what)
        return
    is_single = scenario == "singlestream"
    name = "latency_p90_ms" if is_single else "latency_p99_ms"
    batch = 1
    if not is_single:
        batch = reading.whole(place, "samples_per_query", record.text("samples_per_query"))
    p99 = record.text("latency_p99_ms")
    reading.keep(
        place,
        batch,
        reading.number(place, name, record.text(name)),
        "P90" if is_single else "P99",
        f"latency of one query, {record.text('scenario')} of {record.text('submitter')}".removesuffix(" of "),
        model=record.text("benchmark", "model"),
        hardware=record.text("host_cpu") if is_cpu else accelerator,
        latency_p99_ms=reading.number(place, "latency_p99_ms", p99) if p99 else None,
    )


#: Columns of the submission checker, by those of a table of results.
_SUMMARY_COLUMNS = {
    "scenario": "Scenario",
    "submitter": "Organization",
    "benchmark": "MlperfModel",
    "model": "Model",
    "accelerator": "accelerator_model_name",
    "accelerators_per_node": "accelerators_per_node",
    "nodes": "number_of_nodes",
    "host_cpu": "host_processor_model_name",
}


def _read_summary(reading: Reading, record: Record) -> None:
    """Take the percentile by which a scenario is judged: P90 of one sample, or P99 of a query of eight."""
    place, units = record.place, record.text("Units")
    is_single = _compact(record.text("Scenario")) == "singlestream"
    if not _is_of_use(reading, place, _compact(record.text("Scenario"))):
        return
    if units != "Latency (ms)":
        reading.refuse(place, f"is in {shown(units)}, not 'Latency (ms)': no latency of a query")
    elif record.text("inferred") not in _NONE:
        reading.refuse(place, "was inferred from another scenario, not measured")
    elif record.text("errors") not in _NONE:
        reading.refuse(place, f"the submission checker found {record.text('errors')} errors")
    else:
        cells = {ours: record.text(theirs) for ours, theirs in _SUMMARY_COLUMNS.items()}
        cells["latency_p90_ms" if is_single else "latency_p99_ms"] = record.text("Result")
        _read_result(reading, Record(place, cells | {"samples_per_query": "8"}))


# --- timm ------------------------------------------------------------------------------------------------------------


def read_timm(reading: Reading) -> None:
    """Read a ``benchmark-infer-*.csv``; a model's name is its name and image size, such as resnet50-224."""
    for record in reading.table():
        place = record.place
        size = reading.whole(place, "image size", record.text("infer_img_size", "image_px"))
        batch = reading.whole(place, "batch size", record.text("infer_batch_size", "batch_size"))
        step_ms = reading.number(place, "step time", record.text("infer_step_time", "step_ms"))
        rate = reading.number(
            place, "samples per second", record.text("infer_samples_per_sec", "samples_per_s")
        )
        if batch and not _LEAST_OF_STEP <= rate * step_ms / 1e3 / batch <= _MOST_UNDER_WAY:
            if rate == rate and step_ms == step_ms:  # neither is NaN, which is told already
                what = f"{batch} samples at {rate:g}/s take {1e3 * batch / rate:.4g} ms, not the step time {step_ms:g}"
                reading.faults.append(Fault(place, f"{what}: milliseconds?"))
            continue
        settings = [record.text(name) for name in ("precision", "layout", "torch", "compile")]
        how = ", ".join(filter(None, settings))
        what = f"one step of {counted(batch, 'image')} of {size} px{f', {how}' if how else ''}"
        model = f"{record.text('model')}-{size}" if record.text("model") else ""
        reading.keep(place, batch, step_ms, "mean", what, model=model, hardware=record.text("hardware"))


# --- tables of vendors and papers ------------------------------------------------------------------------------------

#: Columns that may hold the latency of one batch, the better known first.
LATENCIES = {
    "latency_avg_ms": "mean",
    "latency_mean_ms": "mean",
    "latency_ms": "latency",
    "latency_p50_ms": "median",
    "latency_median_ms": "median",
    "latency_p90_ms": "P90",
    "latency_p95_ms": "P95",
    "latency_p99_ms": "P99",
}
_HARDWARE = ("hardware", "instance", "accelerator", "device")
_BATCH = ("batch", "batch_size")
#: Columns that count the devices behind a figure; an instance may have several of its own.
_DEVICES = ("n_gpus", "num_gpus", "gpus", "gpu_count", "accelerator_count", "n_devices", "num_devices")
#: What one item of a batch is called; tokens and audio samples are not items.
_ITEMS = re.compile(r"(inference|image|img|sample|sequence|sentence|item|request|quer|frame)", re.IGNORECASE)


def read_published(reading: Reading) -> None:
    """Read a table with a row for each model, hardware and batch size, such as vendors publish."""
    records = list(reading.table())
    column = next((name for name in LATENCIES if any(record.text(name) for record in records)), None)
    untaken = [name for name in OPTIONAL_COLUMNS if any(record.text(name) for record in records)]
    if untaken := [name for name in untaken if name not in LATENCIES]:
        what = f"{listed(untaken)} not taken: write them into the rows of the profile folder"
        reading.notes.append(f"{reading.file.path}: {what}")
    for record in records:
        place = record.place
        if column is None or not record.text(column):
            why = "a throughput alone tells no latency of a batch"
            if any(map(record.text, LATENCIES)):
                why = "a table is read by one statistic"
            reading.refuse(place, f"has no {column or 'latency'}: {why}")
            continue
        batch = reading.whole(place, "batch", record.text(*_BATCH))
        latency_ms = reading.number(place, column, record.text(column))
        if not batch or latency_ms != latency_ms or _is_of_several_devices(reading, record):
            continue
        if _is_shared(reading, record, batch, latency_ms):
            continue
        p99 = record.text("latency_p99_ms") if column != "latency_p99_ms" else ""
        told = ("source", "source_file", "heading", "precision", "input", "scenario", "framework")
        reading.keep(
            place,
            batch,
            latency_ms,
            LATENCIES[column],
            f"{column}, {_joined([record.text(name) for name in told])}".removesuffix(", "),
            model=record.text("model"),
            hardware=record.text(*_HARDWARE),
            latency_p99_ms=reading.number(place, "latency_p99_ms", p99) if p99 else None,
        )


def _joined(texts: Sequence[str]) -> str:
    return " | ".join(filter(None, texts))


def _is_of_several_devices(reading: Reading, record: Record) -> bool:
    name = next((name for name in _DEVICES if record.text(name)), None)
    device = record.text("hardware", "accelerator", "device")
    if name is None or not device:
        return False
    is_several = reading.number(record.place, name, record.text(name), zero=True) > 1
    if is_several:
        what = f"{name} {record.text(name)}: the figure is of several devices together, not of one {device}"
        reading.refuse(record.place, what)
    return is_several


def _is_shared(reading: Reading, record: Record, batch: int, latency_ms: float) -> bool:
    """Whether several batches were under way at once, said so or by Little's law."""
    place, concurrency = record.place, record.text("concurrency")
    if concurrency and reading.number(place, "concurrency", concurrency) > 1:
        reading.refuse(place, f"concurrency {concurrency}: the latency holds the waiting for other requests")
        return True
    rate, unit = record.text("throughput_per_s"), record.text("throughput_unit")
    if not rate or (unit and not _ITEMS.match(unit)):
        return False
    under_way = reading.number(place, "throughput_per_s", rate) * latency_ms / 1e3 / batch
    if under_way > _MOST_UNDER_WAY:
        what = f"throughput times latency is {under_way:.3g} batches: so many were under way, and waited for each other"
        reading.refuse(place, what)
    return under_way > _MOST_UNDER_WAY
