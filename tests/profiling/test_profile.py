"""`mipplan profile` end to end on small real subjects: what is measured, written, kept and gone on with."""

from __future__ import annotations

import csv
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from typer.testing import CliRunner, Result

import mipplan as mp
from mipplan.cli.app import app
from mipplan.profiling import SUBJECTS, Ending, SubjectRequest
from mipplan.profiling.subjects.signature import TensorSpec, input_maker
from mipplan.reporting.catalog import MeasurementReport
from profiling.subjects_under_test import quick, serving, write_module, write_onnx

QUICK = quick(60)

#: What a user may write, the kind of it, and what the model is then called.
KINDS = [
    ("models/resnet50-v1.ONNX", "onnx", "resnet50-v1"),
    ("https://host/v2/models/resnet%2050/versions/3", "oip", "resnet 50"),
    ("OMP=1 python -u serve/detect.py --batch {batch}", "command", "detect"),
    ("package.module:Class.method", "callable", "method"),
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_module(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    quick = ("--hardware", "here", "--disturbed", "keep", "--time-limit", "2s", "--precision", "0.95")
    return CliRunner().invoke(app, ["profile", *arguments, *quick])


def rows(file: str) -> list[dict[str, str]]:
    return list(csv.DictReader(Path(file).read_text().splitlines()))


def test_a_function_becomes_a_profile_a_plan_and_a_replay() -> None:
    result = run("served:sleepy", "--batch", "4,1,2", "--out", "p", "--usd-per-hour", "0.5", "--threads", "1")
    assert result.exit_code == 0, result.output
    assert "latency_ms is p99" in result.output
    profiles = mp.Profiles.read("p")
    table = profiles.table("sleepy", "here")
    assert table is not None
    assert table.batch.tolist() == [1, 2, 4]
    assert table.latency_p50_ms is not None
    assert (table.latency_p50_ms >= [0.5, 1, 2]).all()  # sleeping takes at least as long
    assert (table.latency_ms >= table.latency_p50_ms).all()
    assert all("1 thread" in text and "measured with mipplan" in text for text in table.source)
    assert profiles.hardware["here"].usd_per_hour == 0.5
    pipeline = mp.Pipeline.from_document({"slo": "2s", "stages": {"a": {"model": "sleepy"}}})
    trace = mp.Trace.from_seconds(np.arange(50) / 10)
    plan = mp.plan(pipeline, profiles, trace)
    assert plan.status == "optimal"
    assert mp.replay(plan, trace).quantile(0.99) <= plan.certificate_s


def test_report_is_as_documented_and_names_the_machine() -> None:
    result = run("served:sleepy", "--batch", "1", "--out", "p", "--usd-per-hour", "0.5", "--json")
    document = json.loads(result.stdout)
    jsonschema.validate(document, MeasurementReport.model_json_schema())
    (batch,) = document["batches"]
    assert batch["p50_ms"] <= batch["p99_ms"] == batch["latency_ms"] <= batch["max_ms"]
    assert batch["cpu_ms"] < batch["p99_ms"]
    assert batch["memory_gib"] > 0
    assert document["machine"]["processors"] == len(os.sched_getaffinity(0))
    assert (document["kind"], document["subject"], document["together"]) == ("callable", "served:sleepy", 1)
    assert "about" in result.stderr  # how long it may still take
    assert "left" in result.stderr


def test_a_command_is_started_for_each_run() -> None:
    found = mp.measure(
        "sleep 0.00{batch} && echo {batch} >> seen", batches=[1, 2], out="p", usd_per_hour=1, **QUICK
    )
    assert (found.model, found.failures) == ("sleep", {})
    assert [one.p50.value_ns >= batch * 1_000_000 for batch, one in found.batches.items()] == [True, True]
    seen = Path("seen").read_text().split()
    assert set(seen) == {"1", "2"}
    ones = found.batches[1]
    assert seen.count("1") == ones.latency_ns.size + ones.warm_up


@pytest.mark.parametrize("binary", [False, True], ids=["as text", "binary"])
def test_an_endpoint_is_asked_as_the_protocol_says(binary: bool) -> None:
    with serving(binary) as server:
        found = mp.measure(
            server.url("free"), batches=[1, 3], out="p", usd_per_hour=1, axes={"x.2": 5}, **QUICK
        )
    assert found.failures == {}
    assert found.machine.versions["server"] == "small 1.0"
    assert {tuple(asked["inputs"][0]["shape"]) for asked in server.asked} == {(1, 3, 5), (3, 3, 5)}
    assert server.asked[0]["inputs"][1] == {"name": "t", "shape": [1], "datatype": "BYTES", "data": ["text"]}
    assert ("data" in server.asked[0]["inputs"][0]) is not binary
    assert found.batches[1].cpu_ms is None  # it is the server's, not ours
    assert found.table.memory_gib is None


def test_an_onnx_model_is_run_by_onnxruntime() -> None:
    write_onnx(Path("layer.onnx"), width="width")
    given = QUICK | {"threads": 1, "axes": {"width": 4}}
    found = mp.measure(Path("layer.onnx"), batches=[1, 16], out="p", usd_per_hour=1, **given)
    assert found.failures == {}
    assert found.machine.versions["providers"] == "CPUExecutionProvider"
    assert all(one.latency_ns.size > 10 for one in found.batches.values())
    np.savez("given.npz", x=np.ones((3, 4), dtype=np.float32))
    given = QUICK | {"inputs": "given.npz", "name": "given"}
    assert mp.measure("layer.onnx", batches=[1, 7], **given).failures == {}


def test_the_batch_is_an_axis_by_its_name_wherever_it_stands() -> None:
    shapes = {"state": (2, "batch", 3), "x": ("batch", 4), "rate": ()}
    wanted = {"state": (2, 5, 3), "x": (5, 4), "rate": ()}
    np.savez("given.npz", state=np.ones((2, 1, 3)), x=np.ones((3, 4)), rate=np.array(16_000))
    specs = [TensorSpec(name, "float32", shape) for name, shape in shapes.items()]
    for order, inputs in itertools.product((specs, specs[::-1]), (None, "given.npz")):
        made = input_maker(order, SubjectRequest("onnx", "m", inputs=inputs))(5)
        assert {name: array.shape for name, array in made.items()} == wanted
    specs = [TensorSpec("x", "float32", ("batch", "n")), TensorSpec("boxes", "float32", ("n", 4))]
    with pytest.raises(mp.InputError, match="the size of axis 'n' is free"):
        input_maker(specs, SubjectRequest("onnx", "m"))
    assert input_maker(specs, SubjectRequest("onnx", "m", axes={"n": 7}))(5)["boxes"].shape == (7, 4)
    # Behind another axis, and under another name in another input; where no name tells, sizes of all others do.
    for shape, axes, wanted_shape in (
        (("seq", "batch", 16), {"seq": 10}, (10, 5, 16)),
        (("seq", "rows", 16), {"seq": 10}, (10, 5, 16)),
        (("seq", "rows", 16), {"rows": 10}, (5, 10, 16)),
        (("rows", "n"), {"n": 7}, (5, 7)),
    ):
        made = input_maker([TensorSpec("x", "float32", shape)], SubjectRequest("onnx", "m", axes=axes))(5)
        assert made["x"].shape == wanted_shape
    specs = [TensorSpec("x", "float32", ("seq", "batch", 16))]
    with pytest.raises(mp.InputError, match="'batch' is the batch's"):
        input_maker(specs, SubjectRequest("onnx", "m", axes={"batch": 10, "seq": 3}))
    with pytest.raises(mp.InputError, match="the size of axis 'seq' is free"):
        input_maker(specs, SubjectRequest("onnx", "m"))
    specs = [TensorSpec("x", "float32", ("rows", 4)), TensorSpec("y", "float32", ("others", 4))]
    assert input_maker(specs, SubjectRequest("onnx", "m"))(5)["y"].shape == (5, 4)


def test_a_function_that_reads_its_standard_input_finds_nothing_there() -> None:
    found = mp.measure("served:reads_input", batches=[1], timeout_s=5, **QUICK)
    assert found.failures == {}


def test_a_function_itself_is_called_in_this_process() -> None:
    called = []
    found = mp.measure(lambda batch: called.append(batch), batches=[5], name="mine", **QUICK)
    assert set(called) == {5}
    assert found.table.model == "mine"
    assert not Path("p").exists()
    assert str(found).startswith("mine on here")
    assert repr(found) == "<Measurement mine on here: 1 batch sizes, 0 failed>"
    assert found.to_pandas().index.tolist() == [5]


@pytest.mark.parametrize(("text", "kind", "name"), KINDS)
def test_kinds_recognise_their_own_and_name_it(text: str, kind: str, name: str) -> None:
    assert next(known for known, one in SUBJECTS.items() if one.recognises(text)) == kind
    assert SUBJECTS[kind].default_name(text) == name
    assert {kind for _, kind, _ in KINDS} == set(SUBJECTS)


def test_inputs_are_made_before_the_clock_runs() -> None:
    found = mp.measure("served:counts", batches=[3], inputs="served:made", **QUICK)
    assert found.failures == {}


def test_threads_are_told_to_libraries() -> None:
    assert mp.measure("served:threads", batches=[1], threads=3, **QUICK).failures == {}
    assert "threads were not set" in mp.measure("served:threads", batches=[1], threads=2, **QUICK).failures[1]


def test_replicas_together_are_processes_of_their_own_and_all_count() -> None:
    found = mp.measure("served:signs", batches=[1], together=2, out="p", usd_per_hour=1, **QUICK)
    assert found.failures == {}
    signs = Counter(Path("signs").read_text().split())
    assert len(signs) == 2
    # Whoever is done goes on beside the other, uncounted.
    assert 30 <= found.batches[1].latency_ns.size + found.batches[1].warm_up <= signs.total()
    assert all("2 replicas at once" in text for text in found.table.source)


@pytest.mark.parametrize("latency", ["p99", "p50", "mean", "max"])
def test_what_latency_ms_holds_is_chosen_and_can_be_chosen_again(latency: str) -> None:
    first = mp.measure("served:sleepy", batches=[1], out="p", usd_per_hour=1, **QUICK)
    again = mp.measure("served:sleepy", batches=[1], out="p", latency=latency, **QUICK)
    assert (
        again.batches[1].latency_ns.tolist() == first.batches[1].latency_ns.tolist()
    )  # nothing was measured anew
    latency_ns = first.batches[1].latency_ns
    wanted = {
        "p99": np.quantile(latency_ns, 0.99, method="higher"),
        "p50": np.quantile(latency_ns, 0.5, method="higher"),
        "mean": latency_ns.mean(),
        "max": latency_ns.max(),
    }
    assert float(rows("p/models/sleepy.csv")[0]["latency_ms"]) == pytest.approx(
        wanted[latency] / 1e6, abs=1e-6
    )


def test_measuring_goes_on_where_it_stopped() -> None:
    first = mp.measure("served:sleepy", batches=[1, 2], out="p", usd_per_hour=1, **QUICK)
    told: list[str] = []
    more = mp.measure("served:sleepy", batches=[1, 2, 4], out="p", progress=told.append, **QUICK)
    assert list(more.batches) == [1, 2, 4]
    assert more.batches[2].latency_ns.tolist() == first.batches[2].latency_ns.tolist()
    assert more.batches[2].ending in Ending
    once, twice = "batch 4 (1 of 1)", "batch 4, visit 2 (1 of 1)"
    assert {line.split(":")[0] for line in told} == {"loading sleepy", once, twice}
    assert [row["batch"] for row in rows("p/models/sleepy.csv")] == ["1", "2", "4"]


def test_sizes_are_visited_in_turns_and_what_fails_then_is_made_up_for() -> None:
    """Batch 1 fails once batch 2 has run in the same process: in its second visit, and in no new process."""
    Path("worn.py").write_text(
        "import time\nseen = set()\ndef serve(batch):\n    seen.add(batch)\n    time.sleep(0.004)\n"
        "    if batch == 1 and 2 in seen:\n        raise RuntimeError('worn out')\n"
    )
    told: list[str] = []
    found = mp.measure("worn:serve", batches=[1, 2], out="p", usd_per_hour=1, progress=told.append, **QUICK)
    visits = [
        "batch 1 (1 of 2)",
        "batch 2 (2 of 2)",
        "batch 1, visit 2 (1 of 2)",
        "batch 2, visit 2 (2 of 2)",
    ]
    assert list(dict.fromkeys(line.split(":")[0] for line in told)) == ["loading serve", *visits]
    assert found.failures.keys() == {1}
    assert found.failures[1].startswith("visit 2: ")
    assert "worn out" in found.failures[1]
    assert [len(found.batches[batch].visits) for batch in (1, 2)] == [1, 2]
    more = mp.measure("worn:serve", batches=[1, 2], out="p", **QUICK)
    assert not more.failures
    first, again = found.batches[1], more.batches[1]
    assert again.latency_ns.tolist()[: first.latency_ns.size] == first.latency_ns.tolist()
    assert [len(more.batches[batch].visits) for batch in (1, 2)] == [2, 2]
    assert more.batches[2].latency_ns.tolist() == found.batches[2].latency_ns.tolist()


def test_one_named_size_has_nothing_to_be_visited_in_turns_with() -> None:
    found = mp.measure("served:sleepy", batches=[2], out="p", usd_per_hour=1, **QUICK)
    assert len(found.batches[2].visits) == 1


@pytest.mark.parametrize("sizes", [("--batch", "1,2"), ("--max-batch", "4")], ids=["named", "chosen"])
def test_a_killed_measurement_loses_only_the_batch_under_way(sizes: tuple[str, str]) -> None:
    """Batch 2 hangs; when it is under way, batch 1 is written, and the next call goes on from there."""
    arguments = ["profile", "served:hangs_at_2", *sizes, "--out", "p", "--usd-per-hour", "1"]
    quick = ["--hardware", "here", "--disturbed", "keep", "--time-limit", "2s"]
    process = subprocess.Popen([sys.executable, "-m", "mipplan", *arguments, *quick], start_new_session=True)
    for _ in range(1_200):
        if Path("p/models/hangs_at_2.csv").exists():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130
    assert [row["batch"] for row in rows("p/models/hangs_at_2.csv")] == ["1"]
    assert not list(Path("p").rglob("*.part"))
    found = mp.measure("served:hangs_at_2", batches=[1, 4], out="p", **QUICK)
    assert list(found.batches) == [1, 4]
    assert found.chosen == {1: "named" if "--batch" in sizes else "the smallest", 4: "named"}


def test_sizes_are_chosen_up_to_one_that_fails() -> None:
    told: list[str] = []
    found = mp.measure(
        "served:fails_at_8",
        max_batch=64,
        out="p",
        usd_per_hour=1,
        tolerance=0.9,
        progress=told.append,
        **QUICK,
    )
    assert {1, 2, 4} <= found.batches.keys()
    assert found.failures.keys() == {8}
    assert "nothing is known above batch 4: batch 8 failed" in found.ended
    assert "ended" in str(found)
    assert told[1] == "batch 1 (1 of about 7; the smallest): preparing"
    assert any(line.startswith("batch 8 (4 of about ") for line in told)
    record = json.loads(Path("p/models/fails_at_8.here.json").read_text())
    assert [one["chosen"] for one in record["batches"]][:3] == ["the smallest", "doubling", "doubling"]


def test_what_was_chosen_is_not_measured_again() -> None:
    first = mp.measure("served:sleepy", max_batch=2, out="p", usd_per_hour=1, **QUICK)
    told: list[str] = []
    again = mp.measure("served:sleepy", max_batch=2, out="p", progress=told.append, **QUICK)
    assert told == ["loading sleepy"]
    assert again.batches[2].latency_ns.tolist() == first.batches[2].latency_ns.tolist()
    assert again.chosen == first.chosen == {1: "the smallest", 2: "doubling"}


def test_the_time_for_all_sizes_is_kept() -> None:
    found = mp.measure("served:sleepy", max_batch=64, out="p", usd_per_hour=1, total_time_s=1e-6, **QUICK)
    assert list(found.batches) == [1]
    assert "are spent, and the next size would have been 2 (doubling)" in found.ended


def write_traffic() -> None:
    Path("p.yaml").write_text("name: one\nslo: 2s\nstages:\n  a: {model: sleepy}\n")
    Path("arrivals.csv").write_text("arrival_s\n" + "".join(f"{at / 10}\n" for at in range(50)))


def test_sizes_are_chosen_for_a_pipeline_and_for_a_plan() -> None:
    """Ten queries a second need no batch: one size tells, and the JSON document says why."""
    write_traffic()
    for_traffic = ("--trace", "arrivals.csv", "--max-batch", "8")
    result = run(
        "served:sleepy", "--for", "p.yaml", *for_traffic, "--out", "p", "--usd-per-hour", "0.5", "--json"
    )
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    jsonschema.validate(document, MeasurementReport.model_json_schema())
    assert [batch["batch"] for batch in document["batches"]] == [1]
    assert document["ended"].startswith("no further batch size can make the plan cheaper than 0.5 $/h")
    plan = CliRunner().invoke(
        app,
        ["plan", "p.yaml", "--profiles", "p", "--trace", "arrivals.csv", "--out", "plan.json", "--no-laws"],
    )
    assert plan.exit_code == 0, plan.output
    again = run("served:sleepy", "--for", "plan.json", *for_traffic, "--out", "p")
    assert again.exit_code == 0, again.output
    assert "ended    no further batch size can make the plan cheaper" in again.stdout
    assert "preparing" not in again.stderr  # all that is needed was there


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--batch: say which sizes to measure, such as 1, 2, 4, 8, or up to which to choose"),
        (["--batch", "1,2", "--max-batch", "8"], "--max-batch: does not go with batch sizes that are named"),
        (["--max-batch", "8", "--tolerance", "much"], "--tolerance: expected a share such as 10% or 0.1"),
        (["--max-batch", "8", "--tolerance", "200%"], "--tolerance: expected a share such as 0.05, found 2"),
        (["--max-batch", "8", "--total-time", "60"], "--total-time: '60' has no unit: write 60s"),
        (["--max-batch", "8", "--trace", "arrivals.csv"], "goes with a pipeline or plan to measure for"),
        (["--for", "p.yaml"], "trace: the plan is made on a trace: which one?"),
        (["--for", "p.yaml", "--trace", "arrivals.csv"], "--max-batch: say up to which batch size"),
        (["--for", "gone.json", "--trace", "arrivals.csv"], "gone.json"),
        (["--for", "p.yaml", "--trace", "gone.csv"], "gone.csv"),
        (
            ["--for", "p.yaml", "--trace", "arrivals.csv", "--max-batch", "8", "--name", "other"],
            "--name: no stage of one uses the model 'other' (used are sleepy): say its name",
        ),
    ],
)
def test_what_is_no_choice_is_told_before_anything_is_measured(arguments: list[str], message: str) -> None:
    write_traffic()
    result = run("served:sleepy", *arguments, "--out", "p", "--usd-per-hour", "1")
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.stderr.split())
    assert "preparing" not in result.stderr


def test_rows_stay_where_they_are_whatever_their_file_is_called() -> None:
    """Imported and handwritten tables have names of their own; a second one would make the folder unreadable."""
    Path("p/models").mkdir(parents=True)
    Path("p/hardware.yaml").write_text("here: {usd_per_hour: 0.5}\n")
    header = "model,hardware,batch,latency_ms,source\n"
    Path("p/models/all.csv").write_text(f"{header}sleepy,here,1,3.5,by hand\nother,here,1,2,by hand\n")
    with pytest.raises(mp.InputError, match=r"all\.csv: has sleepy on here already \(row 2\)"):
        mp.measure("served:sleepy", batches=[1, 2], out="p", **QUICK)
    mp.measure("served:sleepy", batches=[1, 2], out="p", again=True, **QUICK)
    assert [path.name for path in Path("p/models").glob("*.csv")] == ["all.csv"]
    assert [(row["model"], row["batch"]) for row in rows("p/models/all.csv")] == [
        ("other", "1"),
        ("sleepy", "1"),
        ("sleepy", "2"),
    ]
    more = mp.measure("served:sleepy", batches=[1, 2, 4], out="p", **QUICK)
    assert list(more.batches) == [1, 2, 4]
    assert mp.Profiles.read("p").table("sleepy", "here").batch.tolist() == [1, 2, 4]
    for name, batch in (("all", 1), ("more", 8)):
        Path(f"p/models/{name}.csv").write_text(f"{header}sleepy,here,{batch},{batch},by hand\n")
    with pytest.raises(mp.InputError, match=r"stand in p/models/all\.csv, p/models/more\.csv"):
        mp.measure("served:sleepy", batches=[1], out="p", again=True, **QUICK)


def test_rows_of_others_stay() -> None:
    Path("p/models").mkdir(parents=True)
    Path("p/hardware.yaml").write_text("# ours\nt4: {usd_per_hour: 0.5}\n")
    Path("p/models/sleepy.csv").write_text(
        'source,model,hardware,batch,latency_ms,accuracy\n"load test, May",sleepy,t4,1,3.5,0.9\n'
    )
    mp.measure("served:sleepy", batches=[1], out="p", usd_per_hour=0.25, **QUICK)
    assert Path("p/hardware.yaml").read_text().startswith("# ours\nt4: {usd_per_hour: 0.5}\n")
    theirs, ours = rows("p/models/sleepy.csv")
    assert (theirs["source"], theirs["latency_ms"], theirs["accuracy"]) == ("load test, May", "3.5", "0.9")
    assert (ours["hardware"], ours["accuracy"]) == ("here", "")
    profiles = mp.Profiles.read("p")
    assert list(profiles.hardware) == ["t4", "here"]
    assert set(profiles.tables) == {("sleepy", "t4"), ("sleepy", "here")}
