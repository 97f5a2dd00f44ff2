"""Writing files so that a run killed at any moment leaves either the old file or the new one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from mipplan.errors import InputError


def write_text_atomically(path: str | Path, text: str) -> None:
    """Write `text` (UTF-8) to `path`, whole or not at all; errors as for `write_atomically`."""
    write_atomically(path, lambda stream: stream.write(text.encode("utf-8")))


def write_atomically(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to disk, then rename it into place.

    Where `path` is a link, the file that it leads to is written.

    Raises
    ------
    InputError
        If the folder does not exist or cannot be written to, or `path` is a folder or a device.
    """
    problem = output_problem(path)
    if problem is not None:
        raise InputError.one(str(path).replace("\0", "?"), problem)
    target = Path(path).resolve()
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    except OSError as error:
        raise InputError.one(str(path), f"cannot be written: {error.strerror or error}") from error
    try:
        with os.fdopen(descriptor, "wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(_default_mode())
        Path(temporary).replace(target)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        if isinstance(error, OSError):
            raise InputError.one(str(path), f"cannot be written: {error.strerror or error}") from error
        raise


def output_problem(path: object) -> str | None:
    """Say what keeps a file of that name from being written, as far as can be told beforehand; None if nothing."""
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        return "expected the name of a file to write to"
    name = os.fspath(path)
    if not name or "\0" in name:
        return "the name of a file to write to is empty or holds a zero byte"
    target = Path(name)
    if target.is_dir():
        return "is a folder; name a file to write to"
    if not target.parent.is_dir():
        return f"there is no folder {str(target.parent)!r} to write to"
    if target.exists() and not target.is_file():
        return "is a device or a pipe, which cannot be replaced; name a file to write to"
    if not os.access(target.resolve().parent, os.W_OK):
        return f"the folder {str(target.parent)!r} cannot be written to"
    return None


def _default_mode() -> int:
    # mkstemp makes private files; a plan is an ordinary file and follows the user's umask.
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
