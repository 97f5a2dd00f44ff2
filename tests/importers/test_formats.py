"""What is taken from a file of each format, what is left out, and how a format is recognised."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from pathlib import Path

import pytest

from mipplan.core import InputError
from mipplan.importers import FORMATS, ImportedFile, MeasurementFile, Stated, read_measurements, recognise

FILES = Path(__file__).parent / "files"
ROOT = Path(__file__).resolve().parents[2]
NAMED = Stated(model={"": "net"}, hardware={"": "dev"})

#: File: format, what is stated, and (model, hardware, batch, latency_ms, latency_p99_ms, statistic, place in the file).
REAL: dict[str, tuple[str, Stated, list[tuple[object, ...]]]] = {
    "perf_analyzer.csv": ("perf_analyzer", NAMED, [("net", "dev", 1, 12.006, None, "mean", ":2")]),
    "perf_analyzer.json": (
        "perf_analyzer",
        Stated({"": "net"}, {"": "dev"}, batch=2),
        [("net", "dev", 2, 4.55, None, "mean", ": experiments[0]")],
    ),
    "model_analyzer.csv": (
        "model_analyzer",
        Stated({"resnet50_libtorch": "resnet50"}, {"": "dev"}),
        [("resnet50", "dev", 1, 8.1, 8.1, "P99", ":3")],
    ),
    "trtexec.log": ("trtexec", NAMED, [("net", "dev", 4, 10.0312, 10.25, "mean", ":17")]),
    "onnxruntime.json": (
        "onnxruntime",
        NAMED,
        [("net", "dev", 4, (23 + 12 + 15) / 3e3, None, "mean", ": [9]")],
    ),
    "mlperf_log_summary.txt": ("mlperf", NAMED, [("net", "dev", 1, 4751.92083, 5927.20948, "P90", ":7")]),
    "timm.csv": (
        "timm",
        Stated(hardware={"": "i7"}),
        [
            ("mobilenetv3_small_100-224", "i7", 1, 2.654, None, "mean", ":2"),
            ("resnet18-160", "i7", 1, 9.66, None, "mean", ":3"),
            ("resnet18-224", "i7", 1, 16.046, None, "mean", ":4"),
            ("resnet50-160", "i7", 1, 22.892, None, "mean", ":5"),
        ],
    ),
    "aiconfigurator.csv": (
        "aiconfigurator",
        Stated(),
        [
            ("QWEN3_32B", "h200_sxm", 1, 1975.5, None, "estimate", ":2"),
            ("QWEN3_32B", "h200_sxm", 4, 2297.0, None, "estimate", ":3"),
        ],
    ),
    "vllm_latency.json": (
        "vllm",
        Stated({"": "net"}, {"": "dev"}, batch=8),
        [("net", "dev", 8, 1250.0, None, "mean", "")],
    ),
    "genai_perf.json": (
        "genai_perf",
        Stated(hardware={"": "dev"}),
        [("gpt2_vllm", "dev", 1, 1240.5, 1302.25, "mean", "")],
    ),
}


def imported(folder: Path, name: str, text: str, stated: Stated = NAMED) -> ImportedFile:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return read_measurements(path, stated=stated)


def faults_of(folder: Path, name: str, text: str, stated: Stated = NAMED) -> str:
    with pytest.raises(InputError) as caught:
        imported(folder, name, text, stated)
    return str(caught.value)


def batches(file: ImportedFile) -> dict[int, float]:
    return {row.batch: row.latency_ms for row in file.rows}


@pytest.mark.parametrize("name", REAL)
def test_figures_of_a_real_file_are_taken(name: str) -> None:
    known, stated, expected = REAL[name]
    file = read_measurements(FILES / name, stated=stated)
    assert file.format == known
    assert file.sha256 == hashlib.sha256((FILES / name).read_bytes()).hexdigest()
    found = [
        (
            row.model,
            row.hardware,
            row.batch,
            pytest.approx(row.latency_ms, rel=1e-12),
            row.latency_p99_ms,
            row.statistic,
            row.place.removeprefix(str(FILES / name)),
        )
        for row in file.rows
    ]
    assert found == expected


def test_every_file_is_tried_and_has_a_source() -> None:
    readme = (FILES / "README.md").read_text(encoding="utf-8")
    assert {path.name for path in FILES.iterdir()} - {"README.md"} == set(REAL)
    assert re.findall(r"^\| `(.+?)` \|", readme, re.MULTILINE) == [
        *("perf_analyzer.csv", "perf_analyzer.json", "model_analyzer.csv", "trtexec.log", "onnxruntime.json"),
        *("mlperf_log_summary.txt", "timm.csv", "aiconfigurator.csv", "vllm_latency.json", "genai_perf.json"),
    ]


def test_formats_stand_in_the_table_of_the_page_as_registered() -> None:
    page = (ROOT / "docs" / "how-to" / "import-profiles.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.+?) \|$", page, re.MULTILINE)
    assert rows == [(known.name, known.title, known.taken, known.refused) for known in FORMATS.values()]


@pytest.mark.parametrize("name", REAL)
def test_each_file_is_recognised_by_its_format_alone(name: str) -> None:
    file = MeasurementFile.read(FILES / name)
    claimed = [
        known.name for known in FORMATS.values() if not all(signs.missing(file) for signs in known.signs)
    ]
    assert claimed == [REAL[name][0]] == [recognise(file).name]


def test_a_gzipped_file_is_read_and_its_hash_is_of_the_bytes_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "timm.csv.gz"
    path.write_bytes(gzip.compress((FILES / "timm.csv").read_bytes()))
    file = read_measurements(path, stated=Stated(hardware={"": "i7"}))
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(file.rows) == 4


def test_the_source_of_a_row_names_file_line_hash_tool_and_statistic() -> None:
    file = read_measurements(FILES / "trtexec.log", stated=NAMED)
    source = file.source_of(file.rows[0])
    assert source.startswith(
        f"trtexec.log:17 sha256:{file.sha256[:16]} | trtexec 8.5.0 | mean of latency of one"
    )
    assert "NVIDIA GeForce RTX 2080 Ti" in source


# --- Triton ----------------------------------------------------------------------------------------------------------

HEADER = (
    "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,"
    "Server Compute Infer,Server Compute Output,Client Recv,p50 latency,p99 latency"
)


MIXED = "model,device,batch,latency_ms\nresnet,t4,1,5\n,t4,2,9\nvgg,,1,7\n"


@pytest.mark.parametrize(
    ("model", "taken"),
    [
        ({"": "net"}, {("resnet", "t4"), ("net", "t4"), ("vgg", "cpu")}),
        ({"": "resnet"}, {("resnet", "t4")}),
        ({"": "net", "vgg": "vgg16"}, {("net", "t4"), ("vgg16", "cpu")}),
    ],
)
def test_a_name_for_what_a_file_does_not_name_drops_nothing_else(
    tmp_path: Path, model: dict[str, str], taken: set[tuple[str, str]]
) -> None:
    """Rows with a name of their own were dropped without a word, beside rows whose cell is blank."""
    path = tmp_path / "t.csv"
    path.write_text(MIXED, encoding="utf-8")
    imported = read_measurements(path, stated=Stated(model, {"": "cpu"}))
    assert {(row.model, row.hardware) for row in imported.rows} == taken


def test_requests_under_way_together_are_refused() -> None:
    refused = read_measurements(FILES / "perf_analyzer.csv", stated=NAMED).refused
    assert [fault.place.rpartition(":")[2] for fault in refused] == ["3", "4", "5"]
    assert "concurrency 3" in refused[0].message


@pytest.mark.parametrize("batch", [1, 2])
def test_a_small_batch_is_told_by_littles_law(tmp_path: Path, batch: int) -> None:
    rate = batch / 0.010 * 0.998
    row = f"1,{rate},100,900,50,150,8700,50,50,9900,11000\n"
    assert batches(imported(tmp_path, "p.csv", f"{HEADER}\n{row}")) == {batch: 8.9}


@pytest.mark.parametrize("batch", [3, 8, 32])
def test_a_large_batch_must_be_stated(tmp_path: Path, batch: int) -> None:
    text = f"{HEADER}\n1,{batch / 0.010},100,900,50,150,8700,50,50,9900,11000\n"
    assert "--batch" in faults_of(tmp_path, "p.csv", text)
    stated = Stated({"": "net"}, {"": "dev"}, batch=batch)
    assert batches(imported(tmp_path, "p.csv", text, stated)) == {batch: 8.9}


def test_a_batch_that_throughput_contradicts_is_a_fault(tmp_path: Path) -> None:
    text = f"{HEADER}\n1,100,100,900,50,150,8700,50,50,9900,11000\n"
    told = faults_of(tmp_path, "p.csv", text, Stated({"": "net"}, {"": "dev"}, batch=8))
    assert "throughput times latency is 1" in told


def test_request_rates_and_cached_answers_are_refused(tmp_path: Path) -> None:
    text = HEADER.replace("Concurrency", "Request Rate") + "\n50,50,100,900,50,150,8700,50,50,9900,11000\n"
    assert "requests came at a rate" in faults_of(tmp_path, "p.csv", text)
    header = HEADER.replace("Client Recv", "Server Cache Hit,Server Cache Miss,Client Recv")
    assert "response cache" in faults_of(tmp_path, "p.csv", f"{header}\n1,100,1,1,1,1,1,1,9,9,1,10,11\n")


def test_without_server_times_the_client_is_believed(tmp_path: Path) -> None:
    header = "Concurrency,Inferences/Second,Client Send,Client Recv,p50 latency,p99 latency"
    file = imported(tmp_path, "p.csv", f"{header}\n1,200,50,5,5000,6000\n")
    row = file.rows[0]
    assert (row.batch, row.latency_ms, row.latency_p99_ms, row.statistic) == (1, 5.0, 6.0, "median")


def test_streams_of_responses_are_refused(tmp_path: Path) -> None:
    experiment = {"mode": "concurrency", "value": 1}
    requests = [{"timestamp": 1, "response_timestamps": [5, 9]}]
    text = json.dumps({"experiments": [{"experiment": experiment, "requests": requests}], "version": "1"})
    told = faults_of(tmp_path, "p.json", text, Stated({"": "net"}, {"": "dev"}, batch=1))
    assert "stream of tokens" in told


def test_model_analyzer_prefers_server_times(tmp_path: Path) -> None:
    header = (
        "Model,Batch,Concurrency,Model Config Path,Server Compute Input time (ms),Server Compute Infer time (ms),"
        "Server Compute Output time (ms),p99 Latency (ms)"
    )
    rows = "m,1,1,c,0.2,3.5,0.3,6\nm,8,1,c,0.5,9.5,1,14\nm,8,2,c,0.5,9.5,1,28\n"
    file = imported(tmp_path, "m.csv", f"{header}\n{rows}", Stated(hardware={"": "dev"}))
    assert batches(file) == {1: 4.0, 8: 11.0}
    assert len(file.refused) == 1


# --- engines ---------------------------------------------------------------------------------------------------------

LOG = (FILES / "trtexec.log").read_text(encoding="utf-8")


def test_several_runs_of_trtexec_stand_in_one_log(tmp_path: Path) -> None:
    other = LOG.replace("4x3x640x640", "8x3x640x640").replace("mean = 10.0312", "mean = 18.5")
    assert batches(imported(tmp_path, "t.log", LOG + other)) == {4: 10.0312, 8: 18.5}


def test_several_streams_are_refused(tmp_path: Path) -> None:
    told = faults_of(tmp_path, "t.log", LOG.replace("Streams: 1", "Inference Streams: 4"))
    assert "4 streams at once" in told


def test_batch_1_of_an_engine_is_no_evidence(tmp_path: Path) -> None:
    """Engines built for ten frames were logged as "Batch: 1", "Input inference shapes: model"."""
    lines = [line for line in LOG.splitlines() if "input binding" not in line]
    text = (
        "\n".join(lines)
        .replace("Batch: Explicit", "Batch: 1")
        .replace("shape: images=4x3x640x640", "shapes: model")
    )
    assert "does not tell the batch size" in faults_of(tmp_path, "t.log", text)
    file = imported(tmp_path, "t.log", text, Stated({"": "net"}, {"": "dev"}, batch=10))
    assert batches(file) == {10: 10.0312}


def test_implicit_batches_and_contradicted_ones(tmp_path: Path) -> None:
    assert batches(imported(tmp_path, "t.log", LOG.replace("Batch: Explicit", "Batch: 16"))) == {16: 10.0312}
    told = faults_of(tmp_path, "t.log", LOG, Stated({"": "net"}, {"": "dev"}, batch=8))
    assert "the file says batch 4, --batch 8" in told


def test_inputs_of_different_sizes_need_the_batch(tmp_path: Path) -> None:
    """The second form of the line is that of TensorRT 8.6 and later (lyuwenyu/RT-DETR, issue 47)."""
    line = "[I] Created input binding for images with dimensions 4x3x640x640"
    other = f"{line}\n[I] Input binding for sizes with dimensions 2x2 is created."
    assert "begin with different sizes" in faults_of(tmp_path, "t.log", LOG.replace(line, other))
    same = LOG.replace(line, other.replace("2x2", "4x2"))
    assert batches(imported(tmp_path, "t.log", same)) == {4: 10.0312}


def test_exported_times_of_trtexec(tmp_path: Path) -> None:
    entries = [
        {"startComputeMs": begin, "endComputeMs": begin + 1, "latencyMs": latency}
        for begin, latency in ((0.0, 2.0), (1.0, 4.0))
    ]
    stated = Stated({"": "net"}, {"": "dev"}, batch=3)
    assert batches(imported(tmp_path, "times.json", json.dumps(entries), stated)) == {3: 3.0}


def events(*runs: tuple[int, int, int]) -> str:
    """A profile of runs: leading dimension in, out, and microseconds."""
    made: list[dict[str, object]] = [
        {"cat": "Session", "name": "session_initialization", "ts": 0, "dur": 900}
    ]
    begin = 1_000
    for size_in, size_out, took in runs:
        shapes = {
            "input_type_shape": [{"float": [size_in, 8]}],
            "output_type_shape": [{"float": [size_out, 4]}],
        }
        made.append({"cat": "Node", "name": "MatMul_kernel_time", "ts": begin, "dur": 5, "args": shapes})
        made.append({"cat": "Session", "name": "model_run", "ts": begin, "dur": took, "args": {}})
        begin += took
    return json.dumps(made)


def test_runs_are_told_apart_by_batch_and_the_first_is_warm_up(tmp_path: Path) -> None:
    text = events((1, 1, 9000), (1, 1, 1000), (1, 1, 3000), (4, 4, 4000), (4, 4, 6000))
    assert batches(imported(tmp_path, "o.json", text)) == {1: 2.0, 4: 5.0}


def test_p99_comes_with_a_hundred_runs(tmp_path: Path) -> None:
    text = events((2, 2, 9000), *((2, 2, 1000 + at) for at in range(100)))
    row = imported(tmp_path, "o.json", text).rows[0]
    assert (row.latency_ms, row.latency_p99_ms) == (1.0495, 1.098)


def test_a_single_run_and_unclear_batches(tmp_path: Path) -> None:
    assert "only the first run" in faults_of(tmp_path, "o.json", events((1, 1, 9000)))
    unclear = events((6, 2, 900), (6, 2, 1000))
    assert "begin with different sizes" in faults_of(tmp_path, "o.json", unclear)
    stated = Stated({"": "net"}, {"": "dev"}, batch=2)
    assert batches(imported(tmp_path, "o.json", unclear, stated)) == {2: 1.0}
    several = events((1, 1, 900), (1, 1, 1000), (4, 4, 1000))
    assert "of other shapes" in faults_of(tmp_path, "o.json", several, stated)


# --- suites ----------------------------------------------------------------------------------------------------------

SUMMARY = (FILES / "mlperf_log_summary.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("Scenario : SingleStream", "Scenario : Offline", "measures a throughput"),
        ("Scenario : SingleStream", "Scenario : Server", "hold the waiting"),
        ("Result is : VALID", "Result is : INVALID", "the result is INVALID"),
        ("Mode     : PerformanceOnly", "Mode     : AccuracyOnly", "a run for accuracy"),
    ],
)
def test_what_mlperf_does_not_tell_is_refused(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert told in faults_of(tmp_path, "mlperf_log_summary.txt", SUMMARY.replace(old, new))


def test_multistream_is_a_batch_of_its_query(tmp_path: Path) -> None:
    text = SUMMARY.replace("SingleStream", "MultiStream").replace(
        "samples_per_query : 1", "samples_per_query : 8"
    )
    text = text.replace("90th percentile latency (ns) : 4751920830", "99th percentile latency (ns) : 8000000")
    row = imported(tmp_path, "s.txt", text).rows[0]
    assert (row.batch, row.latency_ms, row.statistic) == (8, 8.0, "P99")


RESULTS = (
    "submitter,accelerator,accelerators_per_node,nodes,host_cpu,benchmark,scenario,samples_per_query,valid,"
    "latency_p90_ms,latency_p99_ms\n"
)


def test_a_table_of_mlperf_results(tmp_path: Path) -> None:
    rows = (
        "A,NVIDIA L4,1.0,1,x,resnet,SingleStream,,True,0.3,0.31\n"
        "A,NVIDIA L4,1.0,1,x,resnet,MultiStream,8,True,,0.9\n"
        "A,NVIDIA L4,1.0,1,x,resnet,Offline,,True,100,101\n"
        "A,NVIDIA L4,8.0,1,x,bert,SingleStream,,True,0.3,0.31\n"
        "A,NVIDIA L4,1.0,1,x,bert,SingleStream,,False,0.3,0.31\n"
        "A,N/A,,1,Xeon,resnet,SingleStream,,True,2.5,2.6\n"
        "A,Google TPU,1.0,1,x,resnet,SingleStream,,True,0.7,0.8\n"
    )
    file = imported(tmp_path, "r.csv", RESULTS + rows, Stated())
    assert [(row.hardware, row.batch, row.latency_ms, row.latency_p99_ms) for row in file.rows] == [
        ("NVIDIA L4", 1, 0.3, 0.31),
        ("NVIDIA L4", 8, 0.9, 0.9),
        ("Xeon", 1, 2.5, 2.6),
        ("Google TPU", 1, 0.7, 0.8),
    ]
    assert [fault.place.rpartition(":")[2] for fault in file.refused] == ["4", "5", "6"]


def test_a_published_table_is_held_to_littles_law(tmp_path: Path) -> None:
    header = "model,instance,batch_size,throughput_per_s,throughput_unit,latency_p50_ms,latency_p99_ms,concurrency\n"
    rows = "a,inf1,4,400,inferences,10,11,\na,inf1,8,1600,inferences,10,11,\na,inf1,16,9999,tokens,20,21,\n"
    rows += "b,inf1,1,100,inferences,,,\nb,inf1,2,100,inferences,9,9,3\nb,inf1,4,100,inferences,,9,\n"
    file = imported(tmp_path, "t.csv", header + rows, Stated())
    assert file.format == "published"
    assert batches(file) == {4: 10.0, 16: 20.0}
    assert {row.statistic for row in file.rows} == {"median"}
    assert [fault.message.partition(":")[0] for fault in file.refused] == [
        "throughput times latency is 2 batches",
        "has no latency_p50_ms",
        "concurrency 3",
        "has no latency_p50_ms",
    ]
    assert file.refused[-1].message.endswith("one statistic")


# --- language models -------------------------------------------------------------------------------------------------

SERVE = {"model_id": "m", "max_concurrency": 1, "mean_ttft_ms": 20.0, "mean_tpot_ms": 5.0}


def test_vllm_serving_one_request_at_a_time_tells_batch_1(tmp_path: Path) -> None:
    text = json.dumps(SERVE | {"mean_e2el_ms": 640.0, "p99_e2el_ms": 700.0})
    row = imported(tmp_path, "v.json", text, Stated(hardware={"": "dev"})).rows[0]
    assert (row.model, row.batch, row.latency_ms, row.latency_p99_ms) == ("m", 1, 640.0, 700.0)


@pytest.mark.parametrize(
    "changed", [{}, {"max_concurrency": 4, "mean_e2el_ms": 640.0}, {"max_concurrency": None}]
)
def test_times_of_tokens_are_refused(tmp_path: Path, changed: dict[str, object]) -> None:
    told = faults_of(tmp_path, "v.json", json.dumps(SERVE | changed))
    assert "not the latency of one batch" in told or "concurrency 4" in told


@pytest.mark.parametrize("changed", [{"concurrency": 8}, {"request_rate": 2.0}, {"concurrency": None}])
def test_genai_perf_under_load_is_refused(tmp_path: Path, changed: dict[str, object]) -> None:
    document = json.loads((FILES / "genai_perf.json").read_text(encoding="utf-8"))
    document["input_config"] |= changed
    told = faults_of(tmp_path, "g.json", json.dumps(document))
    assert "concurrency 8" in told or "not the latency of one batch" in told


def test_genai_perf_with_batched_texts(tmp_path: Path) -> None:
    document = json.loads((FILES / "genai_perf.json").read_text(encoding="utf-8"))
    document["input_config"]["batch_size_text"] = 16
    assert set(batches(imported(tmp_path, "g.json", json.dumps(document), Stated(hardware={"": "d"})))) == {
        16
    }


def test_aiconfigurator_kernels_and_joined_batches_are_refused(tmp_path: Path) -> None:
    kernels = (
        "framework,device,op_name,kernel_source,gemm_dtype,m,n,k,latency\nTRTLLM,H200,gemm,t,fp8,1,2,3,.2\n"
    )
    assert "single kernels" in faults_of(tmp_path, "gemm_perf.txt", kernels)
    joined = "model,isl,osl,concurrency,bs,ttft,tpot,request_latency,system\nm,512,128,64,64,1,2,300,h\n"
    assert "join and leave the batch" in faults_of(tmp_path, "best.csv", joined)
    apart = "model,isl,osl,concurrency,(p)bs,(d)bs,ttft,tpot,request_latency\nm,512,128,64,1,64,1,2,300\n"
    assert "different devices" in faults_of(tmp_path, "best.csv", apart)


def test_aiconfigurator_counts_devices_in_the_name(tmp_path: Path) -> None:
    text = (FILES / "aiconfigurator.csv").read_text(encoding="utf-8").replace(",1905.0,1,1,", ",1905.0,2,2,")
    file = imported(tmp_path, "a.csv", text, Stated())
    assert [row.hardware for row in file.rows] == ["h200_sxm-x2", "h200_sxm"]
