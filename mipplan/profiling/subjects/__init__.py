"""What can be measured: kinds of subjects, each with a way to recognise and to load it. `SUBJECTS` is the register."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from mipplan.core import InputError, shown
from mipplan.profiling.subjects import callables, commands, oip, onnx_models
from mipplan.profiling.subjects.base import Subject, SubjectError, SubjectRequest


class SubjectKind(Protocol):
    """One kind of things that can be measured: a module with these functions."""

    #: How a user writes one.
    FORM: str

    def recognises(self, text: str) -> bool:
        """Whether a text can only mean this kind."""

    def default_name(self, text: str) -> str:
        """What the model is called in the table, unless told otherwise."""

    def load(self, request: SubjectRequest) -> Subject:
        """Load it, in the process that is to serve it.

        Raises `InputError` with what is wrong with it.
        """


#: By name, in the order in which they are asked whether they recognise a subject.
SUBJECTS: Mapping[str, SubjectKind] = MappingProxyType(
    {"onnx": onnx_models, "oip": oip, "command": commands, "callable": callables}
)


def kind_of(text: str, kind: str | None = None) -> str:
    """Return the kind of a subject: the one that is named, or the one that recognises it.

    Raises `InputError` if there is no such kind, or none recognises it.
    """
    if kind is not None:
        if kind not in SUBJECTS:
            raise InputError.one("kind", f"expected one of {', '.join(SUBJECTS)}, found {shown(kind)}")
        return kind
    found = next((name for name, one in SUBJECTS.items() if one.recognises(text)), None)
    if found is None:
        forms = "; ".join(f"{one.FORM} ({name})" for name, one in SUBJECTS.items())
        raise InputError.one("model", f"{shown(text)} is none of what can be measured: {forms}")
    return found


def content_digest(request: SubjectRequest) -> str | None:
    """Digest of the files that decide what a run does, so that nothing goes on with others of the same names.

    They are a model's file and those of its weights beside it, or a function's module; and what makes the inputs.
    """
    files = [
        Path(file)
        for text in (request.text, request.inputs or "")
        if (file := callables.module_file(text)) is not None
    ]
    if request.kind == "onnx":
        files = [Path(request.text), *onnx_models.weight_files(Path(request.text)), *files]
    if request.inputs is not None and not callables.recognises(request.inputs):
        files.append(Path(request.inputs))
    if not files:
        return None
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            for piece in iter(partial(stream.read, 1 << 20), b""):
                digest.update(piece)
    return digest.hexdigest()


__all__ = [
    "SUBJECTS",
    "Subject",
    "SubjectError",
    "SubjectKind",
    "SubjectRequest",
    "content_digest",
    "kind_of",
]
