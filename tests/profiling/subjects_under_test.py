"""What the tests measure: functions, an ONNX model, and a small server that speaks the Open Inference Protocol v2."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np

from mipplan.profiling import MeasuringParams


def quick(most_runs: int, **others: Any) -> dict[str, Any]:
    """Return how to measure in tests: some runs rather than some time, so that a busy machine makes tests slow only."""
    params = MeasuringParams(most_visits=2, first_look=1_000, most_runs=most_runs, block_s=0.05, least_s=0.0)
    return {"hardware": "here", "disturbed": "keep", "time_limit_s": 60, "params": params, **others}


#: A module as a user would write one; it is written into a folder, from which replicas import it.
MODULE = """
import os
import signal
import sys
import time


def sleepy(batch):
    print("what a model prints harms nobody")
    time.sleep(0.0005 * batch)


def signs(batch):
    with open("signs", "a") as file:
        print(os.getpid(), file=file)


def made(batch):
    return list(range(batch))


def counts(items):
    assert isinstance(items, list)


def fails_at_8(batch):
    if batch >= 8:
        raise ValueError(f"no room for {batch}")


def fails_late(batch, calls=[]):
    calls.append(batch)
    if len(calls) > 10:
        raise RuntimeError("worn out")


def hangs_at_2(batch):
    if batch == 2:
        time.sleep(600)


def dies_at_2(batch):
    if batch == 2:
        print("out of luck", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


def leaves_at_2(batch):
    if batch == 2:
        os._exit(7)


def out_of_memory(batch):
    raise MemoryError


async def asynchronous(batch):
    pass


def reads_input(batch):
    if sys.stdin.read():
        raise RuntimeError("that was meant for the replica")


def generates(batch):
    yield batch


def asks_for_generator(batch):
    return (time.sleep(0.2) for _ in range(batch))


def makes_generator(batch):
    return (number for number in range(batch))


def empties(items):
    while items:
        items.pop()


number = 5


def leaves_politely(batch):
    sys.exit(3)


def too_large(batch):
    if batch > 2:
        bytearray(1 << 62)


def endless(batch):
    endless(batch)


def no_inputs(batch):
    raise LookupError(f"no pages for {batch}")


def threads(batch):
    if os.environ.get("OMP_NUM_THREADS") != "3":
        raise RuntimeError("threads were not set")
"""


def write_module(folder: Path) -> None:
    """Write the module as ``served.py``, and two that cannot be imported."""
    (folder / "served.py").write_text(MODULE)
    (folder / "broken.py").write_text("import no_such_package_at_all\n")
    (folder / "raising.py").write_text("raise OSError('no licence')\n")


def write_onnx(
    path: Path, *, first: int | str = "batch", width: int | str = 4, gives: str = "MatMul"
) -> None:
    """Write a model of one layer: x (batch × width) times a matrix, or the logarithm of -1 - x, which is NaN."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [first, width])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [first, None])
    weights = numpy_helper.from_array(np.ones((4, 4), dtype=np.float32), "w")
    ones = numpy_helper.from_array(np.full((1,), -1, dtype=np.float32), "minus")
    if gives == "NaN":
        nodes = [
            helper.make_node("Sub", ["minus", "x"], ["negative"]),
            helper.make_node("Log", ["negative"], ["y"]),
        ]
    else:
        nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    graph = helper.make_graph(nodes, "g", [x], [y], [weights, ones])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))


class OipServer(ThreadingHTTPServer):
    """Serves any model; its name says how it goes wrong."""

    daemon_threads = True

    def __init__(self, binary: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.binary = binary
        self.asked: list[dict[str, Any]] = []

    def handle_error(self, *_request: object) -> None:
        """Print nothing when a client has gone: those that wait for a hanging server give up."""

    def url(self, model: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/v2/models/{model}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: OipServer

    #: Otherwise an answer in two packets waits for the client's acknowledgement: 40 ms.
    disable_nagle_algorithm = True

    def log_message(self, *args: object) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        if self.path == "/v2":
            extensions = ["binary_tensor_data"] if self.server.binary else []
            return self.say(200, {"name": "small", "version": "1.0", "extensions": extensions})
        name = self.path.rpartition("/")[2]
        if name == "unknown":
            return self.say(404, {"error": "there is no model 'unknown'"})
        if name == "mute":
            return self.say(200, {"name": "mute"})
        if name == "cut":
            return self.say(200, b'{"name": "cut", "inputs": [{"na')
        if name == "bfloat":
            return self.say(200, {"name": name, "inputs": [{"name": "x", "datatype": "BF16", "shape": [-1]}]})
        if name == "endless":
            axis = {"name": "x", "datatype": "FP32", "shape": [-1, math.inf]}
            return self.say(200, {"name": name, "inputs": [axis]})
        text = {"name": "t", "datatype": "BYTES", "shape": [-1]}
        image = {"name": "x", "datatype": "FP32", "shape": [-1, 3, -1 if name == "free" else 2]}
        return self.say(200, {"name": name, "inputs": [image, text], "outputs": []})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        head = self.headers.get("Inference-Header-Content-Length")
        asked = json.loads(body[: int(head)] if head else body)
        self.server.asked.append(asked)
        for entry in asked["inputs"]:
            given = entry.get("parameters", {}).get("binary_data_size")
            count = given // 4 if given is not None else len(entry["data"])
            assert count == math.prod(entry["shape"])
        batch = asked["inputs"][0]["shape"][0]
        if self.server.binary:
            return self.say_binary(self.path.split("/")[3], batch)
        answer = BEHAVIOURS.get(self.path.split("/")[3], _well)(batch)
        if answer is None:
            self.close_connection = True
            return None
        return self.say(*answer)

    def say_binary(self, name: str, batch: int) -> None:
        """Answer as Triton does: the document, then the tensor."""
        tensor = np.full((batch, 2), math.nan if name == "nan" else 0.5, np.float32).tobytes()
        output = {"name": "y", "datatype": "FP32", "shape": [batch, 2]}
        output |= {"parameters": {"binary_data_size": len(tensor)}}
        head = json.dumps({"model_name": "m", "outputs": [output]}).encode()
        self.say(200, head + (tensor[:-1] if name == "short" else tensor), len(head))

    def say(self, status: int, document: Any, head: int | None = None) -> None:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if head is not None:
            self.send_header("Inference-Header-Content-Length", str(head))
        self.end_headers()
        self.wfile.write(body)


def _outputs(shape: list[int], data: list[Any]) -> tuple[int, Any]:
    return 200, {
        "model_name": "m",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": shape, "data": data}],
    }


def _several(*outputs: tuple[list[int], float]) -> tuple[int, Any]:
    """Some outputs, each of one value."""
    return 200, {
        "outputs": [
            {"name": f"y{number}", "datatype": "FP32", "shape": shape, "data": [value] * math.prod(shape)}
            for number, (shape, value) in enumerate(outputs)
        ]
    }


def _well(batch: int) -> tuple[int, Any]:
    return _outputs([batch, 2], [[0.5, 0.5]] * batch)


def _hangs(batch: int) -> tuple[int, Any]:
    if batch >= 4:
        time.sleep(8)
    return _well(batch)


BEHAVIOURS: dict[str, Callable[[int], tuple[int, Any] | None]] = {
    "hangs": _hangs,
    "fails": lambda batch: (500, {"error": "CUDA out of memory"}) if batch >= 4 else _well(batch),
    "halves": lambda batch: _well(max(1, batch // 2)),
    "states": lambda batch: _several(([batch, 1], 0.5), ([2, batch, 3], 0.5)),
    "only states": lambda batch: _several(([2, batch, 3], 0.5)),
    "boxes": lambda batch: _several(([3 * batch, 7], 0.5)),
    "mean": lambda _batch: _several(([], 0.5)),
    "short": lambda batch: _outputs([batch, 3], [0.5] * 2 * batch),
    "nan": lambda batch: _outputs([batch], [math.nan] * batch),
    "nan_shape": lambda batch: _outputs([math.nan, 2], [[0.5, 0.5]] * batch),  # type: ignore[list-item]
    "infinite": lambda batch: _outputs([math.inf, 2], [[0.5, 0.5]] * batch),  # type: ignore[list-item]
    "listed": lambda batch: (200, {"outputs": [{"name": "y", "shape": [batch], "parameters": [1]}]}),
    "nested": lambda _batch: (200, b"[" * 100_000),
    "prose": lambda _batch: (200, b"<html>all is well</html>"),
    "empty": lambda _batch: (200, {"outputs": []}),
    "breaks": lambda _batch: None,
}


@contextmanager
def serving(binary: bool = False) -> Iterator[OipServer]:
    """Serve on 127.0.0.1 while the context lasts."""
    server = OipServer(binary)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
