"""Whatever figures a tool writes in its format, the import gives the same figures; and so does the folder."""

from __future__ import annotations

import csv
import io
import json
import math
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaigns import campaign_size
from mipplan.importers import FORMATS, ImportedFile, Stated, merge_rows, read_measurements
from mipplan.profiles import Profiles

#: Batch sizes with latencies in milliseconds.
Table = dict[int, float]

HARDWARE = "t4:\n  usd_per_hour: 0.5\n"
TABLES = st.dictionaries(
    st.integers(1, 4096),
    st.floats(0.001, 1e6, allow_nan=False).map(lambda value: float(f"{value:.6g}")),
    min_size=1,
    max_size=6,
)


def table_text(rows: Iterable[dict[str, object]]) -> str:
    listed = list(rows)
    made = io.StringIO()
    writer = csv.DictWriter(made, list(listed[0]))
    writer.writeheader()
    writer.writerows(listed)
    return made.getvalue()


def one_each(
    table: Table, write: Callable[[int, float], str], ending: str
) -> list[tuple[str, str, int | None]]:
    """A file for each batch size, which is stated."""
    return [(f"b{batch}.{ending}", write(batch, latency), batch) for batch, latency in table.items()]


def perf_analyzer(table: Table) -> list[tuple[str, str, int | None]]:
    def write(batch: int, latency_ms: float) -> str:
        client_us = latency_ms * 1e3 + 30
        row = {"Concurrency": 1, "Inferences/Second": batch / (client_us / 1e6), "Client Send": 10}
        row |= {"Network+Server Send/Recv": 10, "Server Queue": 5, "Server Compute Input": 0}
        row |= {"Server Compute Infer": repr(latency_ms * 1e3), "Server Compute Output": 0, "Client Recv": 5}
        return table_text([row | {"p50 latency": client_us, "p99 latency": client_us}])

    return one_each(table, write, "csv")


def perf_analyzer_export(table: Table) -> list[tuple[str, str, int | None]]:
    def write(batch: int, latency_ms: float) -> str:
        request = {"timestamp": 7, "response_timestamps": [7 + round(latency_ms * 1e6)]}
        experiment = {"experiment": {"mode": "concurrency", "value": 1}, "requests": [request]}
        return json.dumps({"experiments": [experiment], "version": "2.50"})

    return one_each(table, write, "json")


def model_analyzer(table: Table) -> list[tuple[str, str, int | None]]:
    rows = (
        {
            "Model": "net",
            "Batch": batch,
            "Concurrency": 1,
            "Model Config Path": "c",
            "Avg Latency (ms)": latency,
        }
        for batch, latency in table.items()
    )
    return [("m.csv", table_text(rows), None)]


def trtexec(table: Table) -> list[tuple[str, str, int | None]]:
    runs = (
        "&&&& RUNNING TensorRT.trtexec [TensorRT v100200]\n[I] Batch: Explicit\n"
        f"[I] Input inference shape : x={batch}x3x8x8\n[I] Input inference shape : y={batch}\n"
        f"[I] Latency: min = 0.1 ms, max = 9 ms, mean = {latency!r} ms, median = 1 ms, percentile(99%) = 9 ms\n"
        f"[I] GPU Compute Time: min = 0.1 ms, mean = 0.2 ms\n&&&& PASSED TensorRT.trtexec\n"
        for batch, latency in table.items()
    )
    return [("t.log", "".join(runs), None)]


def onnxruntime(table: Table) -> list[tuple[str, str, int | None]]:
    events: list[dict[str, object]] = []
    begin = 0.0
    for batch, latency in [(1, 1e3), *table.items()]:
        shapes = {"input_type_shape": [{"float": [batch, 8]}], "output_type_shape": [{"float": [batch, 4]}]}
        events.append({"cat": "Node", "name": "a_kernel_time", "ts": begin, "dur": 1, "args": shapes})
        events.append({"cat": "Session", "name": "model_run", "ts": begin, "dur": latency * 1e3, "args": {}})
        begin += latency * 1e3
    return [("o.json", json.dumps(events), None)]


def mlperf(table: Table) -> list[tuple[str, str, int | None]]:
    def write(batch: int, latency_ms: float) -> str:
        ns = round(latency_ms * 1e6)
        return (
            f"MLPerf Results Summary\nSUT name : x\nScenario : MultiStream\nMode     : PerformanceOnly\n"
            f"99th percentile latency (ns) : {ns}\nResult is : VALID\n99.00 percentile latency (ns)   : {ns}\n"
            f"samples_per_query : {batch}\n"
        )

    return one_each(table, write, "txt")


def timm(table: Table) -> list[tuple[str, str, int | None]]:
    rows = (
        {
            "model": "net",
            "infer_img_size": 224,
            "infer_samples_per_sec": batch / latency * 1e3,
            "infer_step_time": latency,
            "infer_batch_size": batch,
        }
        for batch, latency in table.items()
    )
    return [("t.csv", table_text(rows), None)]


def aiconfigurator(table: Table) -> list[tuple[str, str, int | None]]:
    rows = (
        {
            "model": "net",
            "isl": 8,
            "osl": 8,
            "bs": batch,
            "request_latency": latency,
            "context_latency": latency / 4,
            "generation_latency": latency * 3 / 4,
            "system": "t4",
        }
        for batch, latency in table.items()
    )
    return [("a.csv", table_text(rows), None)]


def vllm(table: Table) -> list[tuple[str, str, int | None]]:
    def write(batch: int, latency_ms: float) -> str:
        return json.dumps({"avg_latency": latency_ms / 1e3, "latencies": [latency_ms / 1e3] * 3})

    return one_each(table, write, "json")


def genai_perf(table: Table) -> list[tuple[str, str, int | None]]:
    def write(batch: int, latency_ms: float) -> str:
        settings = {"concurrency": 1, "request_rate": None, "batch_size_text": batch}
        return json.dumps(
            {"request_latency": {"unit": "us", "avg": latency_ms * 1e3}, "input_config": settings}
        )

    return one_each(table, write, "json")


def published(table: Table) -> list[tuple[str, str, int | None]]:
    rows = (
        {
            "model": "net",
            "instance": "t4",
            "batch_size": batch,
            "latency_p90_ms": latency,
            "latency_p99_ms": latency,
        }
        for batch, latency in table.items()
    )
    return [("p.csv", table_text(rows), None)]


WRITERS = [
    *(
        perf_analyzer,
        perf_analyzer_export,
        model_analyzer,
        trtexec,
        onnxruntime,
        mlperf,
        timm,
        aiconfigurator,
    ),
    *(vllm, genai_perf, published),
]


def test_every_format_is_written_here() -> None:
    assert {writer.__name__.removesuffix("_export") for writer in WRITERS} == set(FORMATS)


def read_back(folder: Path, files: list[tuple[str, str, int | None]]) -> list[ImportedFile]:
    read = []
    for name, text, batch in files:
        (folder / name).write_text(text, encoding="utf-8")
        # A file may name its model or hardware, or leave that to whoever imports it.
        for model in ({"": "net"}, {"net-224": "net"}):
            stated = Stated(model, {"": "t4"}, batch if name.startswith("b") else None)
            if "infer_img" not in text or "net-224" in model:
                read.append(read_measurements(folder / name, stated=stated))
                break
    return read


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.__name__)
@given(table=TABLES)
@settings(max_examples=campaign_size(25, 400), deadline=None)
def test_the_same_figures_come_back(
    writer: Callable[[Table], list[tuple[str, str, int | None]]], table: Table
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = read_back(folder, writer(table))
        found = {row.batch: row.latency_ms for file in files for row in file.rows}
        assert found.keys() == table.keys()
        assert all(math.isclose(found[batch], table[batch], rel_tol=1e-12, abs_tol=6e-7) for batch in table)
        assert all(file.refused == () for file in files)
        profile = folder / "profiles"
        assert merge_rows(profile, files).added == len(table)
        (profile / "hardware.yaml").write_text(HARDWARE, encoding="utf-8")
        stored = Profiles.read(profile).tables["net", "t4"]
        assert dict(zip(stored.batch.tolist(), stored.latency_ms.tolist(), strict=True)) == found
        again = merge_rows(profile, files)
        assert (again.added, again.replaced, again.unchanged, again.written) == (0, 0, len(table), ())
