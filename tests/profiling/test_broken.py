"""Whatever is wrong with what is measured, or where: it is said clearly, and nothing measured is lost."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import mipplan as mp
from mipplan.cli.app import app
from mipplan.profiling import SUBJECTS, SubjectRequest
from profiling.subjects_under_test import quick, serving, write_module, write_onnx

QUICK = quick(60)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_module(tmp_path)
    (tmp_path / "corrupt.onnx").write_bytes(b"\x08\x07 this is no model \xff\xff")
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "other.npz", z=np.ones((2, 4)))
    (tmp_path / "file").write_text("a file, no folder")
    write_onnx(tmp_path / "layer.onnx")
    write_onnx(tmp_path / "free.onnx", width="width")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def profile(*arguments: str, batch: str = "1,2", out: str = "p") -> Result:
    named = ("--hardware", "here", "--batch", batch, "--out", out, "--usd-per-hour", "1")
    quick = ("--disturbed", "keep", "--time-limit", "2s", "--precision", "0.95")
    return CliRunner().invoke(app, ["profile", *arguments, *named, *quick])


REFUSED = {
    "corrupt ONNX": (["corrupt.onnx"], "corrupt.onnx: onnxruntime cannot load it: "),
    "empty ONNX": (["empty.onnx"], "empty.onnx: onnxruntime cannot load it: "),
    "no such file": (["modle.onnx"], "modle.onnx: there is no such file"),
    "free axis": (["free.onnx"], "--axis: the size of axis 'width' is free: say which one is to be measured"),
    "no such axis": (
        ["layer.onnx", "--axis", "widht=4"],
        "no input has an axis 'widht' of free size; free are batch",
    ),
    "axis without size": (
        ["layer.onnx", "--axis", "width"],
        "--axis: expected NAME=SIZE such as seq_len=128",
    ),
    "no such provider": (
        ["layer.onnx", "--providers", "CPUExecutionProvidr"],
        "did you mean 'CPUExecutionProvider'?",
    ),
    "inputs of another model": (
        ["layer.onnx", "--inputs", "other.npz"],
        "--inputs: other.npz: the model takes no 'z'",
    ),
    "inputs are no archive": (["layer.onnx", "--inputs", "text.npz"], "text.npz is no .npz file of arrays"),
    "inputs are not there": (["layer.onnx", "--inputs", "gone.npz"], "there is no file 'gone.npz'"),
    "no module": (["no_such_module:f"], "model: there is no module 'no_such_module'"),
    "module imports what is not there": (["broken:f"], "'no_such_package_at_all', which broken imports"),
    "module raises": (["raising:f"], "importing raising raises OSError: no licence (raising.py:1)"),
    "no function": (["served:sleppy"], "served has no 'sleppy'; did you mean 'sleepy'?"),
    "not callable": (["served:number"], "served:number is no function but of type int"),
    "coroutine": (["served:asynchronous"], "is a coroutine function: give one that waits for its answer"),
    "generator": (["served:generates"], "model: is a generator, whose call does no work"),
    "size of the batch": (["layer.onnx", "--axis", "batch=1"], "'batch' is the batch's: its sizes are those"),
    "provider of another build": (
        ["layer.onnx", "--providers", "TensorrtExecutionProvider"],
        "onnxruntime has no 'TensorrtExecutionProvider' here; it has ",
    ),
    "providers of a function": (
        ["served:sleepy", "--providers", "X"],
        "--providers: go with ONNX models only",
    ),
    "nothing that can be measured": (
        ["resnet50"],
        "is none of what can be measured: a file that ends in .onnx",
    ),
    "no such kind": (
        ["resnet50", "--kind", "tensorflow"],
        "--kind: expected one of onnx, oip, command, callable",
    ),
    "URL of no model": (["http://localhost:1/"], "expected http://HOST:PORT/v2/models/NAME"),
    "port is no number": (["http://localhost:x/v2/models/m"], "expected http://HOST:PORT/v2/models/NAME"),
    "bracket does not close": (["http://[::1/v2/models/m"], "expected http://HOST:PORT/v2/models/NAME"),
    "nobody listens": (["http://127.0.0.1:9/v2/models/m"], "the server cannot be reached"),
    "no threads": (
        ["served:sleepy", "--threads", "0"],
        "--threads: expected a whole number from 1 to 1024, found 0",
    ),
    "no replicas": (
        ["served:sleepy", "--together", "0"],
        "--together: expected a whole number from 1 to 1024",
    ),
    "no such latency": (
        ["served:sleepy", "--latency", "p90"],
        "--latency: expected one of p99, p50, mean, max",
    ),
    "blank in the name": (["served:sleepy", "--name", " x"], "the name ' x' begins or ends with a blank"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_measured_is_refused(case: str) -> None:
    arguments, message = REFUSED[case]
    result = profile(*arguments)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.stderr.split())
    assert not list(Path().rglob("models"))  # An empty folder was left behind.


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ("0,1", "--batch: expected a whole number from 1 to 1000000, found 0"),
        ("1,2,1,2", "the batch size 1 is given twice"),
        ("1;2", "--batch: expected batch sizes such as 1,2,4,8, found '1;2'"),
        ("", "--batch: expected batch sizes"),
        ("2000000", "from 1 to 1000000"),
    ],
)
def test_batch_sizes_are_checked(batch: str, message: str) -> None:
    result = profile("served:sleepy", batch=batch)
    assert result.exit_code == 2
    assert message in result.stderr


def test_all_faults_of_the_options_are_told_at_once() -> None:
    """What cannot be read, and what can and is no choice."""
    wrong = ("--batch", "a", "--latency", "p75", "--together", "0", "--precision", "2", "--axis", "x")
    more = ("--disturbed", "z", "--timeout", "3")
    result = CliRunner().invoke(app, ["profile", "x.onnx", "--out", "p", *wrong, *more])
    assert result.exit_code == 2
    options = ("--hardware", *(option for option in (*wrong, *more) if option.startswith("--")))
    for option in options:
        assert f"  {option}: " in result.stderr, option
    assert f"the input has {len(options)} faults" in result.stderr


def test_all_faults_of_the_arguments_are_told_at_once() -> None:
    with pytest.raises(mp.InputError) as error:
        mp.measure(
            "served:sleepy",
            hardware="",
            batches=[0],
            threads=-1,
            together=2.5,  # type: ignore[arg-type]
            latency="worst",
            precision=0,
            time_limit_s=0,
            timeout_s=float("nan"),
            disturbed="ignore",
            axes={"a": 0},
        )
    places = {fault.place for fault in error.value.faults}
    arguments = {
        "batches",
        "threads",
        "together",
        "latency",
        "precision",
        "time_limit_s",
        "timeout_s",
        "disturbed",
    }
    assert places == arguments | {"axes", "hardware"}
    with pytest.raises(mp.InputError, match="a function in this process is alone"):
        mp.measure(len, batches=[1], together=2, **QUICK)  # type: ignore[arg-type]


FAILS = {
    "raises": ("served:fails_at_8", "raises ValueError: no room for 8 (served.py:"),
    "dies": ("served:dies_at_2", "its process was ended by SIGKILL (out of memory?): out of luck"),
    "leaves": ("served:leaves_at_2", "its process ended by itself with exit code 7"),
    "command fails": (
        "test {batch} -ne 2 || { echo no luck >&2; exit 3; }",
        "the command exits with 3: no luck",
    ),
    "command dies": ("test {batch} -ne 2 || kill -9 $$", "the command was ended by signal 9"),
}


@pytest.mark.parametrize("case", FAILS)
def test_a_batch_size_that_fails_costs_no_other(case: str) -> None:
    model, message = FAILS[case]
    result = profile(model, "--name", "m", batch="1,2,8,16" if case == "raises" else "1,2,4")
    assert result.exit_code == 1, result.output
    assert message in " ".join(result.stdout.split())
    table = mp.Profiles.read("p").table("m", "here")
    assert table is not None
    assert table.batch.tolist() == ([1, 2] if case == "raises" else [1, 4])


def test_a_run_that_hangs_is_ended() -> None:
    found = mp.measure("served:hangs_at_2", batches=[1, 2, 4], timeout_s=2, **QUICK)
    assert list(found.batches) == [1, 4]
    assert "no answer within 4.05 s (--timeout)" in found.failures[2]
    found = mp.measure("test {batch} -eq 1 || sleep 600", batches=[1, 2], timeout_s=2, **QUICK)
    assert found.failures == {2: "the command was still running after 2 s"}


def test_failing_now_and_then_is_failing() -> None:
    assert "worn out" in mp.measure("served:fails_late", batches=[1], **QUICK).failures[1]
    assert "not enough memory" in mp.measure("served:out_of_memory", batches=[1], **QUICK).failures[1]


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        ("served:asks_for_generator", None, "it returns a generator, whose work is done when it is read"),
        (
            "served:counts",
            "served:makes_generator",
            "its inputs are a generator, which the first run uses up",
        ),
        ("served:empties", "served:made", "it changes its inputs, which had 2 entries and have 0"),
    ],
)
def test_work_that_is_not_done_in_each_run_is_not_measured(
    model: str, inputs: str | None, message: str
) -> None:
    found = mp.measure(model, batches=[2], inputs=inputs, **QUICK)
    assert message in found.failures[2]


def alive(mark: str) -> list[int]:
    """Processes whose command line holds a mark."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if mark.encode() in entry.read_bytes():
                found.append(int(entry.parent.name))
    return found


def soon(holds: Callable[[], bool]) -> bool:
    ends = time.monotonic() + 60
    while not holds() and time.monotonic() < ends:
        time.sleep(0.02)
    return holds()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a list of processes")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("kind", ["command", "callable"])
def test_nothing_goes_on_when_a_measurement_is_ended(kind: str, number: int, folder: Path) -> None:
    """A command, and what it has started, in a session of their own once lived on; so did workers at SIGKILL."""
    sleeping = f"sleep\0{86}{os.getpid()}"
    command = f"sleep {86}{os.getpid()}"
    (folder / "waits.py").write_text(
        "import time\n\n\ndef waits(batch):\n    while True:\n        time.sleep(0.01)\n"
    )
    model = f"{command} & {command} # {{batch}}" if kind == "command" else "waits:waits"
    named = ("--hardware", "here", "--usd-per-hour", "1", "--batch", "1", "--out", "q", "--name", "m")
    process = subprocess.Popen(
        [sys.executable, "-m", "mipplan", "profile", model, *named], stderr=subprocess.DEVNULL
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    assert soon(lambda: children.read_text() != "")
    workers = [Path("/proc") / child for child in children.read_text().split()]
    assert kind == "callable" or soon(lambda: len(alive(sleeping)) == 2)
    process.send_signal(number)
    process.wait(60)
    assert soon(lambda: not alive(sleeping))
    assert soon(lambda: not any(worker.exists() for worker in workers))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a list of processes")
def test_what_a_command_leaves_running_is_ended() -> None:
    mark = f"87{os.getpid()}"
    found = mp.measure(f"(sleep {mark} &) ; true {{batch}}", batches=[1], **QUICK)
    assert list(found.batches) == [1]
    assert soon(lambda: not alive(f"sleep\0{mark}"))


def test_what_cannot_be_saved_is_told(folder: Path) -> None:
    def breaks(batch: int) -> None:
        if batch == 2 and Path("gone").is_dir():
            shutil.rmtree("gone")

    with pytest.raises(mp.InputError) as error:
        mp.measure(breaks, batches=[1, 2, 4], out="gone", usd_per_hour=1, **QUICK)
    assert "to write to" in str(error.value)
    assert "so batch 2 is not saved; measured were " in str(error.value)
    assert "p99 " in str(error.value)


def test_a_command_that_fails_everywhere_leaves_no_table() -> None:
    result = profile("false {batch}")
    assert result.exit_code == 1
    assert not list(Path("p/models").iterdir())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("fails", "the server answers 500: CUDA out of memory"),
        ("hangs", "the server did not answer within 3 s"),
        ("halves", "the output 'y' has the shape [2, 2]: not an answer to a batch of 4"),
        ("short", "holds 8 values, not the [4, 3] it says"),
        ("nan", "the output 'y' holds NaN"),
        ("prose", "the server's answer is no inference response: "),
        ("empty", "the server's answer holds no output"),
        ("breaks", "the server cannot be reached, or breaks off"),
    ],
)
def test_endpoints_that_go_wrong(model: str, message: str) -> None:
    with serving() as server:
        found = mp.measure(server.url(model), batches=[1, 4], timeout_s=3, **QUICK)
    assert message in found.failures[4]
    assert list(found.batches) == ([1] if model in ("fails", "hangs", "halves") else [])


@pytest.mark.parametrize("model", ["states", "only%20states", "boxes", "mean"])
def test_outputs_need_not_have_the_batch_in_front(model: str) -> None:
    with serving() as server:
        found = mp.measure(server.url(model), batches=[1, 2, 4], timeout_s=3, **QUICK)
    assert found.failures == {}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("unknown", "the server answers 404: there is no model 'unknown'"),
        ("mute", "does not say what the model takes"),
        ("bfloat", "the model takes BF16, which NumPy does not have"),
        ("free", "the size of axis 'x.2' is free"),
    ],
)
def test_endpoints_that_cannot_be_asked(model: str, message: str) -> None:
    with serving() as server, pytest.raises(mp.InputError, match=message):
        mp.measure(server.url(model), batches=[1], **QUICK)


@pytest.mark.parametrize(("model", "message"), [("nan", "'y' holds NaN"), ("short", "'y' is 7 bytes long")])
def test_binary_tensors_are_looked_at(model: str, message: str) -> None:
    with serving(binary=True) as server:
        found = mp.measure(server.url(model), batches=[1], **QUICK)
    assert message in found.failures[1]


def test_a_connection_that_the_server_has_closed_meanwhile_is_made_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving() as server:
        monkeypatch.setattr(server.RequestHandlerClass, "timeout", 0.3)
        endpoint = SUBJECTS["oip"].load(SubjectRequest("oip", server.url("well")))
        time.sleep(1)
        endpoint.prepare(1)
        endpoint.run()
        endpoint.check()
        endpoint.close()  # type: ignore[attr-defined]


def test_onnx_models_that_go_wrong() -> None:
    write_onnx(Path("one.onnx"), first=1)
    found = mp.measure("one.onnx", batches=[1, 2], **QUICK)
    assert list(found.batches) == [1]
    assert "so there are no batches of 2: export the model with a free first axis" in found.failures[2]
    write_onnx(Path("nan.onnx"), gives="NaN")
    assert "the output 'y' holds NaN" in mp.measure("nan.onnx", batches=[1], **QUICK).failures[1]
    np.savez("wide.npz", x=np.ones((2, 9), dtype=np.float32))
    found = mp.measure("layer.onnx", batches=[1], inputs="wide.npz", **QUICK)
    assert "onnxruntime fails: " in found.failures[1]


def test_without_onnxruntime_it_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "onnxruntime.py").write_text(
        "raise ImportError('not here')\n"
    )  # found first: the folder comes first
    result = profile("layer.onnx")
    assert result.exit_code == 2
    assert "pip install 'mipplan[profile]'" in result.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to() -> None:
    Path("locked").mkdir()
    Path("locked").chmod(0o500)
    result = profile("served:sleepy", out="locked/p")
    assert (result.exit_code, "locked' cannot be written to" in result.stderr) == (2, True)


def test_places_that_cannot_be_written_to_are_found_before_anything_is_measured() -> None:
    assert "--out: file: is a file; name a folder" in profile("served:sleepy", out="file").stderr
    Path("q").mkdir()
    Path("q/models").write_text("a file, no folder")
    assert "--out: q/models: is a file; name a folder" in profile("served:sleepy", out="q").stderr
    Path("p/models/sleepy.csv").mkdir(parents=True)
    result = profile("served:sleepy")
    assert result.exit_code == 2
    assert "p/models/sleepy.csv: is a folder" in result.stderr
    assert "preparing" not in result.stderr


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound profile folder, measured once."""
    folder = tmp_path_factory.mktemp("measured")
    write_module(folder)
    with contextlib.chdir(folder):
        assert profile("served:sleepy").exit_code == 0
    return folder / "p"


@pytest.fixture
def sound(measured: Path, folder: Path) -> tuple[Path, Path]:
    """Table and record of such a folder, to be damaged."""
    shutil.copytree(measured, folder / "p")
    return Path("p/models/sleepy.csv"), Path("p/models/sleepy.here.json")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edit(change: Callable[[Any], object]) -> Callable[[Path], None]:
    def edited(path: Path) -> None:
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    return edited


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "is no record of a measurement ("),
        (lambda path: path.write_bytes(b"\xff\xfe"), "is not UTF-8 text"),
        (lambda path: path.write_text("[]"), "expected a mapping"),
        (lambda path: path.write_text("[" * 100_000), "is no record of a measurement"),
        (edit(lambda record: record.pop("machine")), "machine: is missing"),
        (edit(lambda record: record.update(format=2)), "is a record of another version of mipplan"),
        (
            edit(lambda record: record["batches"][0].update(latency_ns=["x"])),
            "expected a whole number, found 'x'",
        ),
        (edit(lambda record: record["batches"][0].update(batch=-1)), "expected a number > 0, found -1"),
        (edit(lambda record: record["batches"][0].update(visits=[1, 1])), "visits do not add up to the"),
        (edit(lambda record: record["machine"].update(processor="Z80")), "it was another machine"),
    ],
)
def test_a_damaged_record_is_not_built_upon(
    damage: Callable[[Path], None], message: str, sound: tuple[Path, Path]
) -> None:
    table, record = sound
    before = table.read_text()
    damage(record)
    result = profile("served:sleepy", batch="1,2,4")
    assert result.exit_code == 2
    assert message in result.stderr
    assert table.read_text() == before


def test_a_damaged_record_can_be_replaced(sound: tuple[Path, Path]) -> None:
    cut(sound[1])
    assert profile("served:sleepy", "--again", batch="4").exit_code == 0
    table = mp.Profiles.read("p").table("sleepy", "here")
    assert table is not None
    assert table.batch.tolist() == [4]


def test_a_damaged_table_is_not_written_over(sound: tuple[Path, Path]) -> None:
    table, _ = sound
    text = table.read_text()
    table.write_text(text + "resnet50,here,1,")
    result = profile("served:sleepy", batch="1,2,4")
    assert result.exit_code == 2
    assert "expected 8 values as in the header, found 4" in result.stderr
    assert table.read_text().endswith("resnet50,here,1,")
    table.unlink()  # ours is made anew from the record
    assert profile("served:sleepy").exit_code == 0
    assert table.read_text() == text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threads", "2"], "threads was nothing, now 2"),
        (["--together", "2"], "together was 1, now 2"),
        (["--inputs", "served:made"], "inputs was nothing, now 'served:made'"),
    ],
)
def test_what_is_measured_otherwise_is_not_mixed(
    arguments: list[str], message: str, sound: tuple[Path, Path]
) -> None:
    result = profile("served:sleepy", *arguments, batch="4")
    assert result.exit_code == 2
    assert f"was measured otherwise: {message}" in result.stderr


def test_another_model_of_the_same_name_is_not_mixed() -> None:
    assert profile("layer.onnx").exit_code == 0
    write_onnx(Path("layer.onnx"), first="other")
    assert "content was" in profile("layer.onnx", batch="4").stderr


def test_a_function_that_was_changed_is_not_mixed_with_what_it_was(sound: tuple[Path, Path]) -> None:
    assert profile("served:sleepy", batch="4").exit_code == 0
    path = Path("served.py")
    path.write_text(path.read_text() + "\n# changed\n")
    assert "content was" in profile("served:sleepy", batch="2").stderr
    assert len(sound[0].read_text().splitlines()) == 4


def test_inputs_that_were_changed_are_not_mixed_with_what_they_were() -> None:
    np.savez("in.npz", x=np.ones((2, 4), np.float32))
    Path("inputs.py").write_text("def made(batch):\n    return [batch]\n")
    given = {"layer.onnx": "in.npz", "served:counts": "inputs:made"}
    for model, inputs in given.items():
        assert profile(model, "--inputs", inputs, batch="1").exit_code == 0
        assert profile(model, "--inputs", inputs, batch="2").exit_code == 0
    np.savez("in.npz", x=np.ones((512, 4), np.float32))
    Path("inputs.py").write_text("def made(batch):\n    return [batch] * 512\n")
    for model, inputs in given.items():
        assert "content was" in profile(model, "--inputs", inputs, batch="4").stderr


def test_weights_beside_a_model_that_were_changed_are_not_mixed_with_what_they_were() -> None:
    import onnx

    model = onnx.load("layer.onnx")
    stored = {"save_as_external_data": True, "location": "layer.weights", "size_threshold": 0}
    onnx.save(model, "layer.onnx", **stored)
    assert profile("layer.onnx", batch="1").exit_code == 0
    Path("unrelated").write_text("changes nothing")
    assert profile("layer.onnx", batch="2").exit_code == 0
    weights = bytearray(Path("layer.weights").read_bytes())
    weights[0] ^= 1
    Path("layer.weights").write_bytes(weights)
    assert "content was" in profile("layer.onnx", batch="4").stderr


def test_measuring_anew_does_not_replace_the_record_of_another_model() -> None:
    assert profile("served:sleepy", "--name", "a b").exit_code == 0
    (record,) = Path("p/models").glob("*.json")
    before = record.read_bytes()
    result = profile("served:sleepy", "--name", "a/b", "--again")
    assert result.exit_code == 2
    assert "is the record of a b on here: choose another" in " ".join(result.stderr.split())
    assert record.read_bytes() == before


def test_rows_without_a_record_are_not_replaced(sound: tuple[Path, Path]) -> None:
    _, record = sound
    record.unlink()
    result = profile("served:sleepy", batch="4")
    assert result.exit_code == 2
    assert "has sleepy on here already (row 2, 3), without a record" in " ".join(result.stderr.split())


def test_rows_that_are_not_of_the_record_are_not_replaced(sound: tuple[Path, Path]) -> None:
    table, _ = sound
    lines = table.read_text().splitlines()
    cells = lines[-1].split(",")
    cells[2:4] = ["64", "99.5"]
    table.write_text("\n".join([*lines, ",".join(cells), ""]))
    result = profile("served:sleepy", batch="4")
    assert result.exit_code == 2
    assert "has sleepy on here already (row 4), without a record" in " ".join(result.stderr.split())
    assert profile("served:sleepy", "--again", batch="1").exit_code == 0


def test_prices_are_asked_for_and_not_changed(sound: tuple[Path, Path]) -> None:
    with pytest.raises(mp.InputError, match=r"here is not in q/hardware\.yaml: say what one device costs"):
        mp.measure("served:sleepy", batches=[1], out="q", **QUICK)
    with pytest.raises(mp.InputError, match="says 1 for here: change it there"):
        mp.measure("served:sleepy", batches=[4], out="p", usd_per_hour=2, **QUICK)
    Path("flow/models").mkdir(parents=True)
    Path("flow/hardware.yaml").write_text("{t4: {usd_per_hour: 1}}\n")
    with pytest.raises(mp.InputError, match="has a form that nothing can be added to"):
        mp.measure("served:sleepy", batches=[4], out="flow", usd_per_hour=2, **QUICK)
    assert Path("flow/hardware.yaml").read_text() == "{t4: {usd_per_hour: 1}}\n"


def test_nothing_measured_is_no_table() -> None:
    found = mp.measure("served:out_of_memory", batches=[1], **QUICK)
    with pytest.raises(mp.InputError, match="nothing was measured"):
        _ = found.table
    assert "batch 1: there is not enough memory" in str(found)
