"""Broken models, endpoints, inputs and files after a sound measurement: it is told, and nothing is lost."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from campaigns import tried
from mipplan.cli.app import app
from mipplan.profiles import Profiles
from profiling.subjects_under_test import serving, write_module, write_onnx


@dataclass(frozen=True)
class Broken:
    """What is measured next, into the same folder; which text says what is wrong, and with which exit code."""

    model: str
    message: str
    exit_code: int
    arguments: tuple[str, ...] = ("--batch", "1,2,4", "--name", "m")
    damage: Callable[[Path], None] = lambda _folder: None
    works: tuple[int, ...] = ()  # Batch sizes that are measured all the same.


def profile(*arguments: str) -> Result:
    quick = ("--disturbed", "keep", "--time-limit", "2s", "--precision", "0.95", "--timeout", "3s")
    return CliRunner().invoke(app, ["profile", *arguments, "--hardware", "here", "--out", "p", *quick])


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def write_picky(path: Path, *, huge: bool = False) -> None:
    """An ONNX model that adds four rows to its input, so that 8 do not fit; or one that makes 16 TiB of it."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 4])
    rows = numpy_helper.from_array(np.ones((4, 4), dtype=np.float32), "rows")
    shape = numpy_helper.from_array(np.array([1 << 40, 1, 4], dtype=np.int64), "shape")
    node = helper.make_node(*(("Expand", ["x", "shape"]) if huge else ("Add", ["x", "rows"])), ["y"])
    graph = helper.make_graph([node], "g", [x], [y], [rows, shape])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))


FOR_PLAN = ("--max-batch", "4", "--name", "m", "--trace", "arrivals.csv", "--for")

BROKEN: dict[str, Broken] = {
    # --- models
    "ONNX file written by half": Broken(
        "half.onnx",
        "half.onnx: onnxruntime cannot load it: ",
        2,
        damage=lambda folder: halve(folder / "half.onnx"),
    ),
    "ONNX file that is a folder": Broken("p/models.onnx", "there is no such file", 2),
    "ONNX model fails at batch 8": Broken(
        "picky.onnx", "batch 8: onnxruntime fails: ", 1, ("--batch", "1,4,8", "--name", "m"), works=(1, 4)
    ),
    "ONNX model needs more memory than there is": Broken("huge.onnx", "onnxruntime fails: ", 1),
    "out of memory from batch 4": Broken(
        "served:too_large", "batch 4: there is not enough memory", 1, works=(1, 2)
    ),
    "doubling until it is out of memory": Broken(
        "served:too_large",
        "nothing is known above batch 2: batch 4 failed",
        1,
        ("--max-batch", "64", "--name", "m"),
        works=(1, 2),
    ),
    "function ends its process": Broken(
        "served:leaves_politely", "its process ended by itself with exit code 3", 1
    ),
    "function without end": Broken("served:endless", "raises RecursionError", 1),
    "function that hangs": Broken(
        "served:hangs_at_2", "batch 2: no answer within", 1, ("--batch", "1,2", "--name", "m"), works=(1,)
    ),
    "no such program": Broken("no_such_program {batch}", "the command exits with 127", 1),
    # --- endpoints
    "endpoint describes half of itself": Broken("URL/cut", "the server's description is no JSON: ", 2),
    "endpoint with an endless axis": Broken("URL/endless", "does not say what the model takes", 2),
    "endpoint answers 500 from batch 4": Broken(
        "URL/fails", "batch 4: the server answers 500: CUDA out of memory", 1, works=(1, 2)
    ),
    "endpoint hangs from batch 4": Broken(
        "URL/hangs", "batch 4: the server did not answer within 3 s", 1, works=(1, 2)
    ),
    "endpoint returns a shape of NaN": Broken(
        "URL/nan_shape", "the server's answer is no inference response", 1
    ),
    "endpoint returns an infinite shape": Broken(
        "URL/infinite", "the server's answer is no inference response", 1
    ),
    "endpoint returns parameters of another form": Broken(
        "URL/listed", "the output 'y' holds 0 values, not the [1] it says", 1
    ),
    "endpoint returns a hundred thousand brackets": Broken(
        "URL/nested", "the server's answer is no inference response", 1
    ),
    # --- inputs
    "inputs written by half": Broken(
        "layer.onnx",
        "half.npz is no .npz file of arrays",
        2,
        ("--batch", "1", "--name", "m", "--inputs", "half.npz"),
        lambda folder: halve(folder / "half.npz"),
    ),
    "inputs that are objects": Broken(
        "layer.onnx",
        "objects.npz is no .npz file of arrays",
        2,
        ("--batch", "1", "--name", "m", "--inputs", "objects.npz"),
    ),
    "inputs that cannot be made": Broken(
        "served:counts",
        "raises LookupError: no pages for 1",
        1,
        ("--batch", "1", "--name", "m", "--inputs", "served:no_inputs"),
    ),
    # --- files
    "table written by half": Broken(
        "served:sleepy",
        "p/models/sleepy.csv:2: is not well-formed CSV: unexpected end of data",
        2,
        damage=lambda folder: halve(folder / "p/models/sleepy.csv"),
    ),
    "hardware.yaml written by half": Broken(
        "served:sleepy", "p/hardware.yaml", 2, damage=lambda folder: halve(folder / "p/hardware.yaml")
    ),
    "record written by half": Broken(
        "served:sleepy",
        "is no record of a measurement",
        2,
        ("--batch", "4"),
        lambda folder: halve(folder / "p/models/sleepy.here.json"),
    ),
    "what a killed run left behind": Broken(
        "served:sleepy",
        "sleepy on here",
        0,
        ("--batch", "1"),
        lambda folder: (folder / "p/models/.sleepy.csv.part").write_text("model,hard") and None,
    ),
    # --- what it is measured for
    "plan file written by half": Broken("served:sleepy", "plan.json", 2, (*FOR_PLAN, "plan.json")),
    "pipeline with a model that nobody measured": Broken(
        "served:sleepy", "the profiles have no model 'other'", 2, (*FOR_PLAN, "two.yaml")
    ),
    "pipeline without an objective": Broken(
        "served:sleepy", "the pipeline 'none' states none", 2, (*FOR_PLAN, "none.yaml")
    ),
    "trace of one arrival": Broken(
        "served:sleepy", "once.csv", 2, (*FOR_PLAN, "one.yaml", "--trace", "once.csv")
    ),
    "trace at one instant": Broken(
        "served:sleepy",
        "all arrivals are at one instant: it has no rate to plan for",
        2,
        (*FOR_PLAN, "one.yaml", "--trace", "instant.csv"),
    ),
    "trace that is none": Broken(
        "served:sleepy", "half.npz", 2, (*FOR_PLAN, "one.yaml", "--trace", "half.npz")
    ),
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one sound measurement, and all that is needed for what comes after it."""
    folder = tmp_path_factory.mktemp("measured")
    write_module(folder)
    for name in ("layer.onnx", "half.onnx"):
        write_onnx(folder / name)
    write_picky(folder / "picky.onnx")
    write_picky(folder / "huge.onnx", huge=True)
    np.savez(folder / "half.npz", x=np.ones((2, 4), dtype=np.float32))
    np.savez(folder / "objects.npz", x=np.array([{}], dtype=object))
    stage = "slo: 1s\nstages:\n  a: {model: m}\n"
    (folder / "one.yaml").write_text(f"name: one\n{stage}")
    (folder / "two.yaml").write_text(f"name: two\n{stage}  b: {{model: other}}\n")
    (folder / "none.yaml").write_text("name: none\nstages:\n  a: {model: m}\n")
    (folder / "plan.json").write_text('{"format": 1, "pipel')
    (folder / "arrivals.csv").write_text("arrival_s\n0\n1\n2\n")
    (folder / "once.csv").write_text("arrival_s\n0\n")
    (folder / "instant.csv").write_text("arrival_s\n5\n5\n")
    with contextlib.chdir(folder):
        result = profile("served:sleepy", "--batch", "1,2", "--usd-per-hour", "1")
        assert result.exit_code == 0, result.output
    return folder


def test_there_are_at_least_thirty() -> None:
    assert len(BROKEN) >= 30


@pytest.mark.parametrize("case", tried(BROKEN))
def test_nothing_measured_is_lost(
    case: str, measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, folder = BROKEN[case], tmp_path / "at"
    shutil.copytree(measured, folder)
    monkeypatch.chdir(folder)
    broken.damage(folder)
    before = {path: path.read_bytes() for path in Path("p").rglob("*") if path.is_file()}
    with serving() as server:
        result = profile(broken.model.replace("URL/", server.url("")), *broken.arguments)
    told = " ".join((result.stdout + result.stderr).split())
    assert result.exit_code == broken.exit_code, told
    assert broken.message.removeprefix("URL") in told
    assert "Traceback" not in told
    after = {path: path.read_bytes() for path in Path("p").rglob("*") if path.is_file()}
    added = {path.name for path in after.keys() - before.keys()}
    assert added == ({"m.csv", "m.here.json"} if broken.works else set())
    changed = {path.name for path in before if after.get(path) != before[path]}
    # A run that finds all it wants writes its record again, with the state of the machine if that is another.
    assert changed <= (set() if broken.exit_code else {"sleepy.here.json"})
    if broken.works:
        rows = Path("p/models/m.csv").read_text().splitlines()[1:]
        assert tuple(int(row.split(",")[2]) for row in rows) == broken.works


def test_a_model_that_cannot_be_loaded_leaves_no_price(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The price of that call would stand against the one of the next."""
    write_module(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert profile("served:slepy", "--batch", "1", "--usd-per-hour", "10").exit_code == 2
    assert not Path("p/hardware.yaml").exists()
    result = profile("served:sleepy", "--batch", "1", "--usd-per-hour", "1")
    assert result.exit_code == 0, result.output
    assert "usd_per_hour: 1.0\n" in Path("p/hardware.yaml").read_text()


@pytest.mark.parametrize("again", [(), ("--again",)])
def test_an_accuracy_that_was_written_by_hand_stays(
    again: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module(tmp_path)
    monkeypatch.chdir(tmp_path)
    measured = profile("served:sleepy", "--batch", "2,4", "--name", "m", "--usd-per-hour", "1")
    assert measured.exit_code == 0, measured.output
    table = tmp_path / "p" / "models" / "m.csv"
    head, *lines = table.read_text(encoding="utf-8").splitlines()
    written = [f"accuracy,{head}", *(f"0.5,{line}" for line in lines)]
    table.write_text("\n".join(written) + "\n", encoding="utf-8")
    assert profile("served:sleepy", "--batch", "1,2,4,8", *again, "--name", "m").exit_code == 0
    found = Profiles.read("p").table("m", "here")
    assert found is not None
    assert found.accuracy is not None
    assert found.accuracy.tolist() == [0.5] * 4
