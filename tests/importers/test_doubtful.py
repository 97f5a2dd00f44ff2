"""Figures that look like the latency of one batch and are not, or may not be: left out, or told to be doubtful."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mipplan.core import InputError
from mipplan.importers import ImportedFile, Share, Stated, read_measurements, read_prices

FILES = Path(__file__).parent / "files"
LOG = (FILES / "trtexec.log").read_text(encoding="utf-8")


def stated(batch: int | None = None) -> Stated:
    return Stated({"": "net"}, {"": "dev"}, batch)


def imported(folder: Path, name: str, content: object, batch: int | None = None) -> ImportedFile:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return read_measurements(path, stated=stated(batch))


def told(folder: Path, name: str, content: object, batch: int | None = None) -> str:
    with pytest.raises(InputError) as caught:
        imported(folder, name, content, batch)
    return str(caught.value)


def batches(file: ImportedFile) -> dict[int, float]:
    return {row.batch: row.latency_ms for row in file.rows}


# --- perf_analyzer ---------------------------------------------------------------------------------------------------


def table_of(under_way: float) -> str:
    """One request of 10 ms at a time, 8.9 ms of it computed."""
    header = (
        "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,"
        "Server Compute Infer,Server Compute Output,Client Recv,p50 latency\n"
    )
    return f"{header}1,{under_way / 0.010},100,900,50,150,8700,50,50,9900\n"


@pytest.mark.parametrize(("batch", "overhead"), [(1, 0.0), (1, 0.2), (2, 0.0), (2, 0.2)])
def test_a_batch_size_that_alone_fits_is_told_to_be_inferred(
    tmp_path: Path, batch: int, overhead: float
) -> None:
    file = imported(tmp_path, "p.csv", table_of(batch * (1 - overhead)))
    assert batches(file) == {batch: 8.9}
    assert "batch size inferred from throughput times latency" in file.source_of(file.rows[0])


@pytest.mark.parametrize("under_way", [2.5, 3.0, 4.0, 6.0, 7.0, 15.02, 31.0, 0.5, 1e300])
def test_a_batch_size_beside_others_that_fit_is_asked_for(tmp_path: Path, under_way: float) -> None:
    """A batch of 16 at 15.02 was taken for one of 15: the client idles between its requests."""
    assert "give perf_analyzer's -b with --batch" in told(tmp_path, "p.csv", table_of(under_way))


def test_no_size_is_taken_for_its_neighbour(tmp_path: Path) -> None:
    for batch in range(1, 40):
        for percent in range(25):
            try:
                found = batches(imported(tmp_path, "p.csv", table_of(batch * (1 - percent / 100))))
            except InputError:
                continue
            assert found == {batch: 8.9}, percent


def test_a_stated_batch_size_is_not_told_to_be_inferred(tmp_path: Path) -> None:
    file = imported(tmp_path, "p.csv", table_of(15.02), 16)
    assert batches(file) == {16: 8.9}
    assert "inferred" not in file.source_of(file.rows[0])


def export(boundaries: object) -> dict[str, object]:
    """Windows of 100 ns: the first two with latencies of 40 ns, then three with 10, 20 and 30 ns."""
    requests = [
        {"timestamp": 1_000 + 100 * window, "response_timestamps": [1_000 + 100 * window + latency]}
        for window, latency in enumerate((40, 40, 10, 20, 30))
    ]
    one = {
        "experiment": {"mode": "concurrency", "value": 1},
        "requests": requests,
        "window_boundaries": boundaries,
    }
    return {"experiments": [one], "version": "2.59.0"}


BOUNDARIES = [1_000, 1_100, 1_200, 1_300, 1_400, 1_500]


@pytest.mark.parametrize(
    ("boundaries", "mean_ns", "source"),
    [
        (BOUNDARIES, 20, "of 3 requests at concurrency 1, network included, in the last 3 of 5 windows"),
        (BOUNDARIES[3:], 25, "of 2 requests at concurrency 1, network included, in the last 2 of 2 windows"),
        ([], 28, "of 5 requests at concurrency 1, network included"),
        (None, 28, "of 5 requests at concurrency 1, network included"),
    ],
)
def test_the_last_three_windows_are_taken_as_by_perf_analyzer(
    tmp_path: Path, boundaries: object, mean_ns: int, source: str
) -> None:
    file = imported(tmp_path, "e.json", export(boundaries), 4)
    assert batches(file) == {4: pytest.approx(mean_ns / 1e6)}
    assert file.source_of(file.rows[0]).endswith(source)


def test_windows_without_requests_or_order(tmp_path: Path) -> None:
    assert "no request begins in its last 3 windows" in told(tmp_path, "e.json", export([1, 2, 3, 4]), 4)
    for odd in ([1_500, 1_000], [1_000, "x"], 5):
        assert "experiments[0].window_boundaries: expected" in told(tmp_path, "e.json", export(odd), 4)


# --- engines ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "log",
    [
        LOG.replace("[I] Streams: 1", "[I] Streams: 1\n[I] Data transfers: Disabled"),
        LOG.replace("--onnx", "--noDataTransfers --onnx"),
    ],
    ids=["options", "command"],
)
def test_latencies_without_transfers_say_so(tmp_path: Path, log: str) -> None:
    assert "without transfers to and from the device" in imported(tmp_path, "t.log", log).rows[0].what
    assert "transfers to and from the device included" in imported(tmp_path, "t.log", LOG).rows[0].what


@pytest.mark.parametrize("flag", ["--streams=8", "--infStreams=8"])
def test_streams_on_the_command_line_count_where_the_options_are_missing(tmp_path: Path, flag: str) -> None:
    command = LOG.replace("--onnx", f"{flag} --onnx")
    bare = "\n".join(line for line in command.splitlines() if "Streams:" not in line)
    assert "8 streams at once" in told(tmp_path, "t.log", bare)
    assert batches(imported(tmp_path, "t.log", command)) == {4: 10.0312}


def times(every: float) -> list[dict[str, float]]:
    """Inferences of 10 ms, 8 ms of which compute; without --exposeDMA transfers of one overlap the next's computing."""
    starts = [at * every for at in range(5)]
    return [
        {"startH2dMs": start, "startComputeMs": start + 1, "endComputeMs": start + 9, "latencyMs": 10.0}
        for start in starts
    ]


def test_exported_times_that_compute_at_once_are_refused(tmp_path: Path) -> None:
    assert "several inferences at once" in told(tmp_path, "t.json", times(5.0), 8)
    assert batches(imported(tmp_path, "t.json", times(8.0), 8)) == {8: 10.0}


def profile(*runs: tuple[list[list[int]], list[int], int, int]) -> list[dict[str, object]]:
    """Shapes of the first node's inputs, shape of the last output, begin and microseconds of each run."""
    made: list[dict[str, object]] = []
    for inputs, output, begin, took in runs:
        shapes = {
            "input_type_shape": [{"float": shape} for shape in inputs],
            "output_type_shape": [{"float": output}],
        }
        made.append({"cat": "Node", "name": "a_kernel_time", "ts": begin, "dur": 1, "args": shapes})
        made.append({"cat": "Session", "name": "model_run", "ts": begin, "dur": took, "args": {}})
    return made


def test_runs_at_the_same_time_are_refused(tmp_path: Path) -> None:
    alone = profile(*(([[4, 8]], [4, 2], 1_000 * at, 1_000) for at in range(5)))
    assert batches(imported(tmp_path, "o.json", alone)) == {4: 1.0}
    shared = profile(*(([[4, 8]], [4, 2], 1_000 * at, 1_500) for at in range(5)))
    assert "o.json: [3]: runs of the session overlap" in told(tmp_path, "o.json", shared)
    assert "runs of the session overlap" in told(tmp_path, "o.json", shared, 4)


def test_sizes_come_from_the_input_that_the_output_follows(tmp_path: Path) -> None:
    """The first input of Gather(weights, ids) is the vocabulary."""
    runs = [
        ([[1_000, 64], [batch, 16]], [batch, 64], 10_000 * at, 100 * batch)
        for at, batch in enumerate((1, 1, 1, 8, 8, 64))
    ]
    assert batches(imported(tmp_path, "o.json", profile(*runs))) == {1: 0.1, 8: 0.8, 64: 6.4}


def test_runs_of_several_shapes_are_not_averaged(tmp_path: Path) -> None:
    """Here the batch is the second axis, and the first may be taken for it."""
    for constant in (7, 16):
        runs = [([[16, batch]], [constant], 10_000 * at, 100) for at, batch in enumerate((1, 1, 8, 64))]
        for batch in (None, 8):
            found = told(tmp_path, "o.json", profile(*runs), batch)
            assert "o.json: [5]: has inputs of other shapes than [3]" in found
            assert "--batch" not in found.replace("leave --batch out", "")
    warm_up = profile(*(([[16, batch]], [7], 10_000 * at, 100) for at, batch in enumerate((1, 8, 8))))
    assert batches(imported(tmp_path, "o.json", warm_up, 8)) == {8: 0.1}


# --- suites ----------------------------------------------------------------------------------------------------------

HEADER = "model,hardware,batch,latency_ms"


def test_a_last_figure_that_may_be_cut_is_told(tmp_path: Path) -> None:
    file = imported(tmp_path, "t.csv", f"{HEADER}\nnet,dev,1,5.25\nnet,dev,8,2")
    assert batches(file) == {1: 5.25, 8: 2.0}
    path = tmp_path / "t.csv"
    assert file.notes == (
        f"{path}:3: ends without a line break: if the file was cut, 2 may be half a figure",
    )
    assert imported(tmp_path, "t.csv", f"{HEADER}\nnet,dev,8,22.75\n").notes == ()
    assert imported(tmp_path, "t.csv", f"{HEADER},source\nnet,dev,8,22.75,page 2").notes == ()


@pytest.mark.parametrize("column", ["n_gpus", "num_gpus", "accelerator_count"])
def test_the_figure_of_several_devices_is_not_that_of_one(tmp_path: Path, column: str) -> None:
    rows = "net,dev,8,15.25,4\nnet,dev,16,9,1\nnet,dev,32,12,\n"
    file = imported(tmp_path, "t.csv", f"{HEADER},{column}\n{rows}")
    assert batches(file) == {16: 9.0, 32: 12.0}
    assert f"{column} 4: the figure is of several dev" in file.refused[0].message
    instance = f"model,instance,batch,latency_ms,{column}\n{rows}"
    assert set(batches(imported(tmp_path, "t.csv", instance))) == {8, 16, 32}


def test_columns_of_a_profile_that_are_not_taken_are_told(tmp_path: Path) -> None:
    file = imported(tmp_path, "t.csv", f"{HEADER},accuracy,memory_gib,energy_j\nnet,dev,8,5.25,0.76,2,\n")
    assert file.notes == (
        f"{tmp_path / 't.csv'}: accuracy, memory_gib not taken: write them into the rows of the profile folder",
    )


SUMMARY = (
    "Organization,Division,SystemName,MlperfModel,Scenario,Result,number_of_nodes,host_processor_model_name,"
    "accelerator_model_name,accelerators_per_node,errors,inferred,Units\n"
)


def test_a_summary_of_the_submission_checker(tmp_path: Path) -> None:
    rows = (
        "NVIDIA,closed,Jetson,resnet,SingleStream,0.64,1,arm,Orin,1,0,0,Latency (ms)\n"
        "NVIDIA,closed,Jetson,resnet,MultiStream,2.1,1,arm,Orin,1,0,0,Latency (ms)\n"
        "NVIDIA,closed,Jetson,resnet,Offline,6423,1,arm,Orin,1,0,0,Samples/s\n"
        "NVIDIA,closed,DGX,resnet,Server,300000,1,x86,Orin,8,0,0,Queries/s\n"
        "NVIDIA,closed,Jetson,bert,SingleStream,20.5,1,arm,Orin,1,0,0,Watts\n"
        "NVIDIA,closed,Jetson,bert,SingleStream,5,1,arm,Orin,1,0,1,Latency (ms)\n"
        "NVIDIA,closed,Jetson,bert,SingleStream,5,1,arm,Orin,1,2,0,Latency (ms)\n"
        "Intel,closed,Xeon,resnet,SingleStream,1.5,1,8592+,,0,0,0,Latency (ms)\n"
        "X,closed,Two,bert,SingleStream,1.5,1,x86,L4,2,0,0,Latency (ms)\n"
    )
    path = tmp_path / "summary.csv"
    path.write_text(SUMMARY + rows, encoding="utf-8")
    file = read_measurements(path)
    found = [(row.model, row.hardware, row.batch, row.latency_ms, row.statistic) for row in file.rows]
    assert found == [
        ("resnet", "Orin", 1, 0.64, "P90"),
        ("resnet", "Orin", 8, 2.1, "P99"),
        ("resnet", "8592+", 1, 1.5, "P90"),
    ]
    assert (file.format, file.rows[0].latency_p99_ms, file.rows[1].latency_p99_ms) == ("mlperf", None, 2.1)
    reasons = [fault.message for fault in file.refused]
    for reason, words in zip(
        reasons,
        ["a throughput", "hold the waiting", "'Watts'", "inferred from", "errors", "2 accelerators"],
        strict=True,
    ):
        assert words in reason


# --- language models -------------------------------------------------------------------------------------------------


def test_cancelled_and_failed_requests_are_told(tmp_path: Path) -> None:
    aiperf = json.loads((FILES / "genai_perf.json").read_text(encoding="utf-8"))
    named = Stated(hardware={"": "dev"})
    path = tmp_path / "g.json"
    path.write_text(json.dumps(aiperf | {"was_cancelled": True}), encoding="utf-8")
    with pytest.raises(InputError, match="the run was cancelled"):
        read_measurements(path, stated=named)
    errors = {"error_summary": [{"error_details": {}, "count": 3}], "request_count": {"avg": 97}}
    path.write_text(json.dumps(aiperf | {"was_cancelled": False} | errors), encoding="utf-8")
    note = "g.json: 3 of 100 requests failed: the latency is that of those that did not"
    assert read_measurements(path, stated=named).notes[0].endswith(note)


@pytest.mark.parametrize(("completed", "failed", "notes"), [(60, 40, 1), (99, 1, 0), (98, 2, 1), (0, 1, 1)])
def test_failed_requests_of_vllm_are_told(tmp_path: Path, completed: int, failed: int, notes: int) -> None:
    run = {"max_concurrency": 1, "mean_ttft_ms": 2.0, "mean_tpot_ms": 5.0, "mean_e2el_ms": 64.0}
    file = imported(tmp_path, "v.json", run | {"completed": completed, "failed": failed})
    assert len(file.notes) == notes
    assert not notes or f"{failed} of {completed + failed} requests failed" in file.notes[0]


# --- prices ----------------------------------------------------------------------------------------------------------

PRICES = (
    "provider,accelerator,instance_or_tier,accelerator_count,accelerator_memory_gb,on_demand_usd_per_hour\n"
    "lambda,A6000,,1,48.0,1.09\nlambda,V100,,8,16.0,6.32\nlambda,,cpu_4x,0,,0.2\nlambda,,,0,,0.4\nlambda,,,0,,0.5\n"
)


def test_an_unnamed_instance_goes_by_its_accelerator(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(PRICES, encoding="utf-8")
    prices = read_prices(path, where={"provider": "lambda"})
    assert [(entry.name, entry.usd_per_hour) for entry in prices.hardware] == [
        ("A6000", 1.09),
        ("cpu_4x", 0.2),
    ]
    places = [(fault.place.rpartition(":")[2], fault.message) for fault in prices.refused]
    assert places == [
        ("5", "has neither an instance nor an accelerator to name it by"),
        ("6", "has neither an instance nor an accelerator to name it by"),
        (
            "3",
            "is the price of 8 V100, in an instance without a name: take one with --hardware NAME=V100/8",
        ),
    ]
    with pytest.raises(InputError, match="is the price of 8 V100"):
        read_prices(path, where={"accelerator": "V100"}, hardware={"v100": Share("V100")})
    wanted = read_prices(path, hardware={"v100": Share("V100", 8)}).hardware
    assert [(entry.usd_per_hour, entry.memory_gib) for entry in wanted] == [(0.79, 16.0)]
    assert wanted[0].source.endswith("| lambda V100, on-demand, 1/8 of it")


def test_a_short_row_hides_no_other_faults(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("instance,region,on_demand_usd_per_hour\na,us,-1\nb,us,$2\nc,us\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_prices(path)
    for place in (":2: on_demand", ":3: on_demand", ":4: expected 3 values"):
        assert f"list.csv{place}" in str(caught.value)
