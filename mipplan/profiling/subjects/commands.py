"""Shell commands: ``./detect --batch {batch}``; each run starts the command and waits until it ends."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from mipplan.profiling.disturbance import children_cpu_ns
from mipplan.profiling.sessions import end_group
from mipplan.profiling.subjects.base import Subject, SubjectError, SubjectRequest

FORM = "a shell command that holds {batch}"
_PLACE = "{batch}"


def recognises(text: str) -> bool:
    """Whether a place for the batch size is in it."""
    return _PLACE in text


def default_name(text: str) -> str:
    """Return the name of the program."""
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    # Assignments before a command, and an interpreter before its script, name nothing.
    named = [word for word in words if "=" not in word and not word.startswith("-")]
    scripts = [word for word in named if Path(word).suffix in (".py", ".sh")]
    return Path((scripts or named or ["command"])[0]).stem


def load(request: SubjectRequest) -> Subject:
    """Nothing is loaded: the command itself does that, every time."""
    request.refuse(
        providers="go with ONNX models only",
        axes="go with models that have a signature",
        inputs="a command reads its own inputs",
    )
    return _Command(request.text, request.timeout_s)


class _Command:
    is_remote = False

    def __init__(self, text: str, timeout_s: float) -> None:
        self._text = text
        self._timeout_s = timeout_s
        self._command = text
        self._failure: str | None = None

    def prepare(self, batch: int) -> None:
        self._command = self._text.replace(_PLACE, str(batch))

    def run(self) -> None:
        with tempfile.TemporaryFile() as said:
            # In a group of its own, so that what it has started ends with it; of this session, which ends as a whole.
            process = subprocess.Popen(
                ["/bin/sh", "-c", self._command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                process_group=0,
            )
            try:
                code = process.wait(self._timeout_s)
            except subprocess.TimeoutExpired:
                raise SubjectError(f"the command was still running after {self._timeout_s:g} s") from None
            finally:
                end_group(process.pid)
                process.wait()
            if code:
                said.seek(0, os.SEEK_END)
                said.seek(max(0, said.tell() - 2_000))
                lines = said.read().decode("utf-8", "replace").strip().splitlines()
                raise SubjectError(f"the command {_ended(code)}" + (f": {lines[-1][:200]}" if lines else ""))

    def check(self) -> None:
        """It ended with exit code 0: that is all there is to know."""

    def cpu_ns(self) -> int | None:
        return children_cpu_ns()

    def versions(self) -> dict[str, str]:
        return {}


def _ended(code: int) -> str:
    return f"was ended by signal {-code}" if code < 0 else f"exits with {code}"
