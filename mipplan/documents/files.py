"""Reading files safely: bounded, and with faults a person can act on."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from mipplan.documents.wording import suggestion
from mipplan.errors import InputError

AnyPath = str | os.PathLike[str]

#: Larger text documents are refused: nobody writes a pipeline of four megabytes by hand.
MAX_DOCUMENT_BYTES = 4 * 1024 * 1024


def read_bytes(path: AnyPath, *, limit: int = MAX_DOCUMENT_BYTES) -> bytes:
    """Read a whole file of at most `limit` bytes.

    Raises
    ------
    InputError
        If there is no such file (with the closest name in that folder), it is a folder or a device, too
        large, or cannot be read.
    """
    place = os.fspath(path)
    if not place:
        raise InputError.one("file", "the name of a file is empty")
    try:
        with Path(path).open("rb") as stream:
            data = _bounded(stream, limit)
    except FileNotFoundError:
        raise InputError.one(place, f"there is no such file{_similar_file(Path(path))}") from None
    except IsADirectoryError:
        raise InputError.one(place, "is a folder; a file was expected") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError.one(place.replace("\0", "?"), f"cannot be read: {reason}") from None
    if data is None:
        raise InputError.one(place, "is a device; a file was expected")
    if len(data) > limit:
        raise InputError.one(place, f"is larger than {limit // 1024**2} MiB, the most that is read")
    return data


def _bounded(stream: BinaryIO, limit: int) -> bytes | None:
    """Read at most one byte more than `limit`; None for a device, which may have no end."""
    status = os.fstat(stream.fileno())
    if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        return None
    if stat.S_ISREG(status.st_mode):
        # No more than there is: `read` sets aside all the memory it is asked to fill.
        return stream.read(min(limit, status.st_size) + 1)
    data = bytearray()  # a pipe, such as a shell's <(…)
    while len(data) <= limit and (piece := stream.read(1024 * 1024)):
        data += piece
    return bytes(data)


def _similar_file(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f", nor a folder {str(folder)!r}"
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError:
        return ""
    return suggestion(path.name, names)


def decode_text(data: bytes, origin: str) -> str:
    """Decode UTF-8 text, with or without a byte-order mark.

    Raises
    ------
    InputError
        With the line of the first byte that is not UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = data[error.start]
        raise InputError.one(
            f"{origin}:{line}", f"is not UTF-8 text (byte 0x{byte:02x}); save the file as UTF-8"
        ) from None
