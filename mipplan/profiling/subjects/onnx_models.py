"""ONNX models, run by onnxruntime in this process: ``pip install 'mipplan[profile]'``."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mipplan.core import Fault, InputError, listed, shown, suggestion
from mipplan.documents import is_file, is_folder
from mipplan.profiling.subjects.base import LocalSubject, Subject, SubjectError, SubjectRequest

FORM = "a file that ends in .onnx"
#: Element types of inputs, as NumPy calls them.
_TYPES = {
    "float": "float32",
    "float16": "float16",
    "double": "float64",
    "bool": "bool",
    "string": "object",
    **{name: name for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")},
}


def recognises(text: str) -> bool:
    """Whether it ends like the name of such a file."""
    return text.lower().endswith(".onnx")


def default_name(text: str) -> str:
    """Return the name of the file without its ending."""
    return Path(text).stem


def weight_files(path: Path) -> list[Path]:
    """Return the files in a model's folder that its own file names: weights too large for it are kept so."""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        beside = (file for file in sorted(path.parent.iterdir()) if file.is_file() and file != path)
        return [file for file in beside if content.find(os.fsencode(file.name)) >= 0]


def load(request: SubjectRequest) -> Subject:
    """Read the model and make a session of onnxruntime for it."""
    try:
        import onnxruntime
    except ImportError as error:
        message = f"onnxruntime is needed to measure ONNX models ({error}): pip install 'mipplan[profile]'"
        raise InputError.one("model", message) from None
    path = Path(request.text)
    if not is_file(path):
        what = "is a folder; a file was expected" if is_folder(path) else "there is no such file"
        raise InputError.one(request.text, what)
    installed = onnxruntime.get_available_providers()
    providers = list(request.providers) or _usual(installed)
    InputError.raise_if(_provider_faults(providers, installed, onnxruntime.get_all_providers()))
    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # what goes wrong comes as an error; warnings would only fill the log
    if request.threads is not None:
        options.intra_op_num_threads = request.threads
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime's errors have no common base of their own
        raise InputError.one(request.text, f"onnxruntime cannot load it: {_worded(error)}") from None
    missing = [name for name in providers if name not in session.get_providers()]
    if missing and request.providers:
        message = (
            f"{listed(missing)} is installed but does not work here; onnxruntime would use others instead"
        )
        raise InputError.one("providers", message)
    return _OnnxModel(session, request, onnxruntime)


def _usual(installed: Sequence[str]) -> list[str]:
    """All that are installed but those that ask a service far away."""
    return [name for name in installed if name != "AzureExecutionProvider"]


def _provider_faults(asked: Sequence[str], installed: Sequence[str], known: Sequence[str]) -> list[Fault]:
    faults = []
    for name in asked:
        if name not in installed:
            hint = "" if name in known else suggestion(name, installed)
            hint = hint or f"; it has {listed(installed)}"
            faults.append(Fault("providers", f"onnxruntime has no {shown(name)} here{hint}"))
    return faults


def _worded(error: Exception) -> str:
    """What onnxruntime says, without its codes and the names of its own source files."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return text.rpartition(" : ")[2][:300]


class _OnnxModel(LocalSubject):
    def __init__(self, session: Any, request: SubjectRequest, onnxruntime: Any) -> None:
        from mipplan.profiling.subjects.signature import TensorSpec, input_maker

        self._session = session
        self._version: str = onnxruntime.__version__
        specs: list[TensorSpec] = []
        for entry in session.get_inputs():
            element = entry.type.removeprefix("tensor(").removesuffix(")")
            if element not in _TYPES:
                message = f"the input {entry.name!r} is a {entry.type}, which NumPy does not have"
                raise InputError.one(request.text, f"{message}: measure a function that runs the model")
            # onnxruntime names a free axis, or says None where the file does not.
            shape = tuple(size if isinstance(size, int) else size or "" for size in entry.shape)
            specs.append(TensorSpec(entry.name, _TYPES[element], shape))
        self._outputs = [entry.name for entry in session.get_outputs()]
        self._make = input_maker(specs, request)
        self._feed: dict[str, Any] = {}
        self._answer: list[Any] = []

    def prepare(self, batch: int) -> None:
        self._feed = self._make(batch)

    def run(self) -> None:
        try:
            self._answer = self._session.run(None, self._feed)
        except Exception as error:  # onnxruntime's errors have no common base of their own
            raise SubjectError(f"onnxruntime fails: {_worded(error)}") from None

    def check(self) -> None:
        from mipplan.profiling.subjects.signature import nan_in

        name = nan_in(dict(zip(self._outputs, self._answer, strict=True)))
        if name is not None:
            what = f"the output {name!r} holds NaN"
            raise SubjectError(f"{what}: give inputs that the model is made for (--inputs)")

    def versions(self) -> dict[str, str]:
        used = self._session.get_providers()
        return {"onnxruntime": self._version, "providers": ", ".join(used)}
