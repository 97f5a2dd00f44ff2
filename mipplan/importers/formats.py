"""The register of formats, how one is recognised, and reading a file into rows of a profile."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mipplan.core import Fault, Faults, InputError, listed, name_problem, shown, suggestion
from mipplan.documents import AnyPath, first_faults
from mipplan.importers.engines import read_onnxruntime, read_trtexec
from mipplan.importers.language_models import read_aiconfigurator, read_genai_perf, read_vllm
from mipplan.importers.reading import MeasurementFile, Reading
from mipplan.importers.rows import ImportedFile, ImportedRow, Stated
from mipplan.importers.suites import LATENCIES, SUMMARY_TITLE, read_mlperf, read_published, read_timm
from mipplan.importers.triton import read_model_analyzer, read_perf_analyzer
from mipplan.profiles import batch_problem

#: Which format a file is in is found out by default.
AUTO = "auto"


@dataclass(frozen=True)
class Signs:
    """What a file in a format must have: columns of a table, keys of a JSON object, or phrases anywhere.

    Of columns that are a tuple, one is enough.
    """

    kind: str  # "columns", "keys" or "phrases".
    marks: tuple[str | tuple[str, ...], ...]

    def missing(self, file: MeasurementFile) -> list[str]:
        """Say which of them a file has not."""
        place: Collection[str] = {"columns": file.columns, "keys": file.keys, "phrases": file.text}[self.kind]
        groups = [mark if isinstance(mark, tuple) else (mark,) for mark in self.marks]
        return [group[0] for group in groups if not any(mark in place for mark in group)]


@dataclass(frozen=True)
class MeasurementFormat:
    """A format of another tool."""

    name: str  # As ``--format`` takes it.
    title: str  # As people call it.
    signs: tuple[Signs, ...]  # Any of them will do.
    taken: str  # What is taken as the latency of one batch.
    refused: str  # What is refused.
    read: Callable[[Reading], None]


def _columns(*marks: str | tuple[str, ...]) -> Signs:
    return Signs("columns", marks)


def _keys(*marks: str) -> Signs:
    return Signs("keys", marks)


_REGISTERED = (
    MeasurementFormat(
        "perf_analyzer",
        "Triton perf_analyzer",
        (
            _columns(("Concurrency", "Request Rate"), "Inferences/Second", "Client Send", "Client Recv"),
            _keys("experiments"),
        ),
        "concurrency 1: mean server compute input + infer + output, without queue; without server times, and in "
        "profile exports, what the client saw",
        "more than one request under way, request rates, answers from the cache, streams of responses",
        read_perf_analyzer,
    ),
    MeasurementFormat(
        "model_analyzer",
        "Triton Model Analyzer",
        (_columns("Model", "Batch", "Concurrency", "Model Config Path"),),
        "concurrency 1: mean server compute input + infer + output, else the client's mean, P99 or P95",
        "more than one request under way, throughput without latency",
        read_model_analyzer,
    ),
    MeasurementFormat(
        "trtexec",
        "trtexec",
        (
            Signs("phrases", ("TensorRT.trtexec",)),
            Signs("phrases", ("[I] GPU Compute Time:", "[I] Latency:")),
            _keys("latencyMs", "startComputeMs"),
        ),
        "mean Latency (transfers and GPU compute time) at the batch of the input shapes, P99 beside it",
        "several streams at once",
        read_trtexec,
    ),
    MeasurementFormat(
        "onnxruntime",
        "ONNX Runtime profile",
        (_keys("cat", "name", "ts", "dur"),),
        "mean of the session's model_run events but the first, by batch size; P99 from 100 runs on",
        "a single run, which is the warm-up, and runs at the same time",
        read_onnxruntime,
    ),
    MeasurementFormat(
        "mlperf",
        "MLPerf inference",
        (
            Signs("phrases", (SUMMARY_TITLE,)),
            _columns("scenario", "benchmark", "accelerator", "latency_p90_ms", "latency_p99_ms"),
            _columns("SystemName", "Scenario", "Result", "Units"),
        ),
        "SingleStream: P90 at batch 1; MultiStream: P99 of a query of samples_per_query samples",
        "Offline (throughput only), Server (waiting included), results that are not valid or inferred, systems of "
        "several accelerators",
        read_mlperf,
    ),
    MeasurementFormat(
        "timm",
        "timm benchmark",
        (
            _columns("model", "infer_samples_per_sec", "infer_step_time", "infer_batch_size"),
            _columns("model", "image_px", "samples_per_s", "step_ms", "batch_size"),
        ),
        "mean step time at the batch size, of each model and image size",
        "nothing; training results have other columns",
        read_timm,
    ),
    MeasurementFormat(
        "aiconfigurator",
        "AIConfigurator",
        (
            _columns("isl", "osl", ("request_latency", "(p)bs")),
            _columns("op_name", "kernel_source", "latency"),
        ),
        "static batches, or concurrency 1: the estimated latency of a request, which is the batch's",
        "requests that join and leave a batch, prefill and decoding apart, tables of single kernels",
        read_aiconfigurator,
    ),
    MeasurementFormat(
        "vllm",
        "vLLM benchmark",
        (_keys("avg_latency", "latencies"), _keys("mean_ttft_ms", "mean_tpot_ms")),
        "bench latency: mean time of whole batches; bench serve with --max-concurrency 1: end-to-end latency",
        "times of tokens, several requests at once",
        read_vllm,
    ),
    MeasurementFormat(
        "genai_perf",
        "GenAI-Perf",
        (_keys("request_latency", "input_config"),),
        "concurrency 1: mean request latency, P99 beside it",
        "times of tokens, several requests at once, request rates, cancelled runs",
        read_genai_perf,
    ),
    MeasurementFormat(
        "published",
        "published table",
        (
            _columns(
                "model",
                ("hardware", "instance", "accelerator", "device"),
                ("batch", "batch_size"),
                tuple(LATENCIES),
            ),
        ),
        "the first of " + ", ".join(LATENCIES) + " that has figures",
        "throughput without latency, concurrency above 1, more than one batch under way by Little's law, several "
        "devices",
        read_published,
    ),
)
#: The formats that can be read, by name; where several recognise a file, the first is taken.
FORMATS: Mapping[str, MeasurementFormat] = {known.name: known for known in _REGISTERED}


def recognise(file: MeasurementFile) -> MeasurementFormat:
    """Find out which format a file is in.

    Raises `InputError` if none of them recognises it, with the closest one and what is missing for it.
    """
    closest: tuple[float, str] | None = None
    for known in FORMATS.values():
        for signs in known.signs:
            missing = signs.missing(file)
            if not missing:
                return known
            share = 1 - len(missing) / len(signs.marks)
            if share > 0 and (closest is None or share > closest[0]):
                closest = share, f"{known.name}, but for the {signs.kind} {listed(missing)}"
    hint = "" if closest is None else f"; the closest is {closest[1]}"
    apart = next((mark for mark in (";", "\t") if mark in file.text.lstrip().partition("\n")[0]), None)
    if not file.columns and not file.is_json and apart is not None:
        hint += f"; cells of a table are told apart by commas, not {shown(apart)}, and decimals begin with a point"
    raise InputError.one(file.path, f"looks like none of {listed(FORMATS)}{hint}")


def read_measurements(path: AnyPath, format: str = AUTO, stated: Stated | None = None) -> ImportedFile:  # noqa: A002
    """Read the batch latencies in a file of another tool.

    Parameters
    ----------
    path : path
        The file; gzip accepted.
    format : str
        A name in `FORMATS`, or "auto" to recognise it.
    stated : Stated, optional
        What the file does not say: names of model and hardware, the batch size; and which rows are wanted.

    Returns
    -------
    ImportedFile
        Rows with the place, the statistic and the meaning of each figure, and what was refused.

    Raises
    ------
    InputError
        With every fault of the file; if its format is not recognised; or if nothing in it is the latency of one
        batch, with the reasons.
    """
    stated = Stated() if stated is None else stated
    if not isinstance(stated, Stated):
        raise InputError.one("stated", f"expected Stated, found {shown(stated)}")
    if stated.batch is not None and (problem := batch_problem(stated.batch)):
        raise InputError.one("batch", problem)
    if format != AUTO and format not in list(FORMATS):
        hint = suggestion(format, FORMATS) or f"; known are {AUTO}, {listed(FORMATS)}"
        raise InputError.one("format", f"there is no format {shown(format)}{hint}")
    file = MeasurementFile.read(path)
    known = recognise(file) if format == AUTO else FORMATS[format]
    if format != AUTO and all(missing := [signs.missing(file) for signs in known.signs]):
        least = min(missing, key=len)
        raise InputError.one(file.path, f"is no file of {known.title}: it lacks {listed(least)}")
    if stated.where and not file.columns:
        raise InputError.one("where", f"{file.path} is no table, and has no columns to choose rows by")
    reading = Reading(file, stated)
    known.read(reading)
    reading.check()
    if not reading.rows:
        none = Fault(file.path, "no row is left by --where" if stated.where else "has no figures")
        raise InputError(first_faults(reading.refused or [none], file.path))
    rows = tuple(_named(reading))
    if not rows:
        raise InputError.one(file.path, "has each of these models and hardware, but no two of them together")
    InputError.raise_if(first_faults(_repeated(reading, rows), file.path))
    return ImportedFile(
        file.path,
        file.sha256,
        known.name,
        known.title,
        reading.tool,
        rows,
        tuple(reading.refused),
        tuple(reading.notes),
    )


def _named(reading: Reading) -> Iterator[ImportedRow]:
    """Give rows the names that are wanted, and leave out models and hardware that are not."""
    stated = reading.stated
    faults = Faults()
    models = faults.take(lambda: _names(reading, "model", stated.model))
    hardware = faults.take(lambda: _names(reading, "hardware", stated.hardware))
    faults.check()
    for row in reading.rows:
        if row.model in models.value and row.hardware in hardware.value:
            yield replace(row, model=models.value[row.model], hardware=hardware.value[row.hardware])


def _repeated(reading: Reading, rows: Sequence[ImportedRow]) -> Iterator[Fault]:
    """Rows about one batch size of a model on a hardware type: which of them is meant is not told."""
    first: dict[tuple[str, str, int], ImportedRow] = {}
    for row in rows:
        before = first.setdefault((row.model, row.hardware, row.batch), row)
        if before is not row:
            what = f"batch {row.batch} of {row.model} on {row.hardware} is given twice"
            columns = listed(reading.differing(row.place, before.place), 5)
            hint = f"; they differ in {columns}: choose with --where COLUMN=VALUE" if columns else ""
            yield Fault(row.place, f"{what}; first at {before.place}{hint}")


def _names(reading: Reading, field: str, wanted: Mapping[str, str]) -> dict[str, str]:
    """Names in the file, with those wanted for them."""
    path, flag = reading.file.path, f"--{field}"
    found = list(dict.fromkeys(getattr(row, field) for row in reading.rows))
    told = [name for name in found if name]
    unnamed = "" in found
    lone = wanted.get("", "")
    names = {theirs: ours for theirs, ours in wanted.items() if theirs}
    faults = []
    for theirs in names:
        if theirs not in told:
            hint = suggestion(theirs, told) or f"; it names {listed(told)}" if told else "; it names none"
            faults.append(Fault(field, f"{path} has no {field} {shown(theirs)}{hint}"))
    if unnamed and not lone:
        faults.append(Fault(path, f"does not name the {field}: give it with {flag} NAME"))
    elif unnamed:
        # Other rows may be named: the lone name chooses from those, too, and if it is none of theirs they keep them.
        chosen = [lone] if lone in told else [] if names else told
        names |= {name: name for name in chosen} | {"": lone}
    elif lone and lone in told:
        names[lone] = lone
    elif lone:
        hint = suggestion(lone, told) or f"; it names {listed(map(shown, told))}"
        what = f"{path} has no {field} {shown(lone)}{hint}; {flag} THEIRS={lone} gives another name"
        faults.append(Fault(field, what))
    elif not names:
        names = {name: name for name in told}
    for name in names.values():
        problem = name_problem(name)
        if problem is not None:
            faults.append(Fault(field, f"{problem}; {flag} THEIRS=NAME gives another name"))
    InputError.raise_if(faults)
    return names
