"""Endpoints that speak the Open Inference Protocol v2 over HTTP: Triton, KServe, OpenVINO and others.

The protocol: https://github.com/kserve/open-inference-protocol. Latencies are those of the client on this machine,
the network included. Where the server takes binary tensors (Triton's extension of that name), they are sent so, because
otherwise its time goes into reading numbers from text.
"""

from __future__ import annotations

import http.client
import json
import math
import urllib.parse
from collections.abc import Mapping
from typing import Any

from mipplan.core import InputError, listed, shown, split_url
from mipplan.profiling.subjects.base import Subject, SubjectError, SubjectRequest

FORM = "http://HOST:PORT/v2/models/NAME"
#: Element types of the protocol, as NumPy calls them.
_TYPES = {
    "BOOL": "bool",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BYTES": "object",
    **{f"{sign.upper()}{bits}": f"{sign}{bits}" for sign in ("int", "uint") for bits in (8, 16, 32, 64)},
}
_BINARY = "binary_tensor_data"
#: Length of the JSON document in front of binary tensors.
HEADER_LENGTH = "Inference-Header-Content-Length"


def recognises(text: str) -> bool:
    """Whether it is a URL."""
    return text.startswith(("http://", "https://"))


def default_name(text: str) -> str:
    """Return the name of the model in the URL."""
    return urllib.parse.unquote(text.rstrip("/").partition("/models/")[2].partition("/")[0]) or "model"


def load(request: SubjectRequest) -> Subject:
    """Ask the server what the model takes."""
    request.refuse(
        threads="are those of the server: start it with as many", providers="go with ONNX models only"
    )
    return _Endpoint(_split(request.text), request, {})


def _split(text: str) -> urllib.parse.SplitResult:
    url = split_url(text.rstrip("/"))
    if url is None or "/v2/models/" not in f"{url.path}/":
        raise InputError.one("model", f"expected {FORM}, found {shown(text)}")
    return url


class OipModel:
    """What a model takes and answers, in the words of the protocol.

    Parameters
    ----------
    document : mapping
        What the server says of the model.
    is_binary : bool
        Whether the server takes binary tensors.
    path : str
        Of the model on the server: for messages, and with ``/infer`` where requests go.
    request : SubjectRequest
        Which inputs to make.

    Raises
    ------
    InputError
        If the server does not say what the model takes, or no such inputs can be made.
    """

    def __init__(
        self, document: Mapping[str, Any], is_binary: bool, path: str, request: SubjectRequest
    ) -> None:
        from mipplan.profiling.subjects.signature import TensorSpec, input_maker

        self._specs: list[TensorSpec] = []
        self._is_binary = is_binary
        self.path = path
        try:
            unknown = {str(entry["datatype"]) for entry in document["inputs"]} - _TYPES.keys()
            for entry in () if unknown else document["inputs"]:
                shape = tuple("" if size == -1 else size for size in _sizes(entry["shape"], least=-1))
                self._specs.append(TensorSpec(str(entry["name"]), _TYPES[entry["datatype"]], shape))
        except (KeyError, OverflowError, TypeError, ValueError):  # JSON of Python knows infinity
            raise InputError.one(path, f"does not say what the model takes: {shown(document)}") from None
        if unknown:
            what = f"the model takes {listed(sorted(unknown))}, which NumPy does not have"
            raise InputError.one(path, what)
        self._make = input_maker(self._specs, request)

    def written(self, batch: int) -> tuple[bytes, bytes, dict[str, str]]:
        """Write the inputs of a batch: the JSON document, the binary tensors behind it, and the headers.

        Raises `SubjectError` or `InputError` if there are none of that size.
        """
        arrays = self._make(batch)
        entries: list[dict[str, Any]] = []
        pieces: list[bytes] = []
        names = {dtype: name for name, dtype in _TYPES.items()}
        for spec in self._specs:
            array = arrays[spec.name]
            datatype = names.get(str(array.dtype), "BYTES")
            entry: dict[str, Any] = {"name": spec.name, "shape": list(array.shape), "datatype": datatype}
            if self._is_binary and datatype != "BYTES":
                pieces.append(array.tobytes())
                entry["parameters"] = {"binary_data_size": len(pieces[-1])}
            else:
                entry["data"] = array.reshape(-1).tolist()
            entries.append(entry)
        document: dict[str, Any] = {"inputs": entries}
        if pieces:
            document["parameters"] = {"binary_data_output": True}
        head = json.dumps(document).encode()
        headers = {"Content-Type": "application/octet-stream" if pieces else "application/json"}
        if pieces:
            headers[HEADER_LENGTH] = str(len(head))
        return head, b"".join(pieces), headers

    def check(self, batch: int, body: bytes, head: str | None) -> None:
        """Look at an answer, the length of whose JSON document may stand in a header.

        Raises `SubjectError` if it cannot be the answer to the batch.
        """
        try:
            document = json.loads(body[: int(head)] if head else body)
            outputs = document["outputs"]
            found = [(str(out["name"]), _sizes(out["shape"]), out) for out in outputs]
        except (KeyError, OverflowError, RecursionError, TypeError, ValueError):
            raise SubjectError(f"the server's answer is no inference response: {shown(body[:80])}") from None
        if not found:
            raise SubjectError("the server's answer holds no output")
        # One output is enough that has the batch somewhere, a multiple of it in front, or no axis at all: states have
        # it elsewhere than in front, boxes are as many as are found, and a mean is one number.
        if not any(not shape or batch in shape or shape[0] % batch == 0 for _, shape, _ in found):
            name, shape, _ = found[0]
            raise SubjectError(
                f"the output {name!r} has the shape {shape}: not an answer to a batch of {batch}"
            )
        tensors = body[int(head) :] if head else b""
        for name, shape, output in found:
            data = output.get("data")
            parameters = output.get("parameters")
            if data is None and isinstance(parameters, dict) and "binary_data_size" in parameters:
                tensors = _checked(name, shape, output, tensors)
                continue
            flat = _flattened(data)
            if len(flat) != math.prod(shape):
                raise SubjectError(f"the output {name!r} holds {len(flat)} values, not the {shape} it says")
            if any(isinstance(value, float) and math.isnan(value) for value in flat):
                raise _nan(name)


def _sizes(given: object, least: int = 0) -> list[int]:
    """Read a shape; whole numbers may be text, as where an endpoint is one of gRPC behind a gateway.

    Raises `ValueError` if it is none.
    """
    sizes = given if isinstance(given, list) else [None]
    whole: list[Any] = [int(size) if isinstance(size, str) else size for size in sizes]
    if not all(type(size) is int and size >= least for size in whole):
        raise ValueError(f"no shape: {given}")
    return whole


def _checked(name: str, shape: list[int], output: Mapping[str, Any], tensors: bytes) -> bytes:
    """Look at the first of some binary tensors, and return those behind it.

    Raises `SubjectError` if it has another length than it says, or holds NaN.
    """
    import numpy as np

    size, dtype = output["parameters"]["binary_data_size"], _TYPES.get(str(output.get("datatype")), "object")
    wanted = size if dtype == "object" else math.prod(shape) * np.dtype(dtype).itemsize
    if type(size) is not int or size != wanted or not 0 <= size <= len(tensors):
        raise SubjectError(f"the output {name!r} is {len(tensors)} bytes long, not the {shape} it says")
    if dtype.startswith("float") and np.isnan(np.frombuffer(tensors[:size], dtype)).any():
        raise _nan(name)
    return tensors[size:]


def _nan(name: str) -> SubjectError:
    return SubjectError(f"the output {name!r} holds NaN: give inputs the model is made for (--inputs)")


def oip_model(request: SubjectRequest, headers: Mapping[str, str]) -> OipModel:
    """Ask a server, with these headers, what a model takes, for whoever sends requests in a way of their own.

    Raises `InputError` if it is no such server, or no inputs can be made.
    """
    endpoint = _Endpoint(_split(request.text), request, headers)
    endpoint.close()
    return endpoint.model


class _Endpoint:
    is_remote = True

    def __init__(
        self, url: urllib.parse.SplitResult, request: SubjectRequest, headers: Mapping[str, str]
    ) -> None:
        secure = url.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        port = url.port or kind.default_port  # or the end of an address of IPv6 is taken for it
        self._connection = kind(url.hostname or "", port, timeout=request.timeout_s)
        self._timeout_s = request.timeout_s
        self._headers = dict(headers)
        try:
            server = self._described(url.path.partition("/models/")[0])
            document = self._described(url.path)
            extensions = server.get("extensions")
            is_binary = isinstance(extensions, list) and _BINARY in extensions
            self.model = OipModel(document, is_binary, url.path, request)
        except InputError:
            self.close()
            raise
        self._server = " ".join(str(server.get(key, "")) for key in ("name", "version")).strip()
        self._batch = 0
        self._body: bytes = b""
        self._answer: tuple[bytes, str | None] = (b"", None)

    def _described(self, path: str) -> dict[str, Any]:
        """Get a document of the server's about itself or the model."""
        try:
            status, body, _ = self._ask("GET", path, b"", self._headers)
            document = json.loads(body) if status == 200 else None
        except SubjectError as error:
            raise InputError.one(path, f"{error}") from None
        except (RecursionError, ValueError) as error:
            raise InputError.one(path, f"the server's description is no JSON: {error}") from None
        if status != 200:
            raise InputError.one(path, f"the server answers {status}{_reason(body)}")
        if not isinstance(document, dict):
            raise InputError.one(path, f"expected a description of the model, found {shown(document)}")
        return document

    def prepare(self, batch: int) -> None:
        # A server may have closed a connection that waited: a new one costs the first run, which is warm-up.
        self._connection.close()
        head, tensors, self._headers = self.model.written(batch)
        self._batch, self._body = batch, head + tensors

    def run(self) -> None:
        status, body, head = self._ask("POST", f"{self.model.path}/infer", self._body, self._headers)
        if status != 200:
            raise SubjectError(f"the server answers {status}{_reason(body)}")
        self._answer = body, head

    def _ask(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, bytes, str | None]:
        connection = self._connection
        try:
            connection.request(method, path, body or None, headers)
            response = connection.getresponse()
            read = response.read()
        except TimeoutError:
            connection.close()
            raise SubjectError(f"the server did not answer within {self._timeout_s:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            text = str(error) or type(error).__name__
            raise SubjectError(f"the server cannot be reached, or breaks off: {text}") from None
        return response.status, read, response.headers.get(HEADER_LENGTH)

    def check(self) -> None:
        self.model.check(self._batch, *self._answer)

    def close(self) -> None:
        self._connection.close()

    def cpu_ns(self) -> int | None:
        return None

    def versions(self) -> dict[str, str]:
        return {"server": self._server} if self._server else {}


def _flattened(data: Any) -> list[Any]:
    """Values of a tensor, in any order; the protocol allows nested lists."""
    values: list[Any] = []
    unread: list[Any] = [data]
    while unread:
        entry = unread.pop()
        if isinstance(entry, list):
            unread += entry
        elif entry is not None:
            values.append(entry)
    return values


def _reason(body: bytes) -> str:
    """What a server says of an error, as the protocol has it, or the beginning of what it says instead."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        error = body[:100].decode("utf-8", "replace").strip()
    return f": {str(error)[:200]}" if error else ""
