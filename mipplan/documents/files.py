"""Reading files safely: bounded, and with faults a person can act on."""

from __future__ import annotations

import os
import stat
from io import BufferedReader
from pathlib import Path

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
    with open_file(path) as stream:
        try:
            data = _bounded(stream, limit)
        except OSError as error:
            raise InputError.one(place, f"cannot be read: {error.strerror or error}") from None
    if len(data) > limit:
        raise InputError.one(place, f"is larger than {limit // 1024**2} MiB, the most that is read")
    return data


def open_file(path: AnyPath) -> BufferedReader:
    """Open a file, or a pipe such as a shell's ``<(…)``, for reading.

    Raises
    ------
    InputError
        If there is no such file (with the closest name in that folder), it is a folder or a device, or it
        cannot be opened.
    """
    place = os.fspath(path)
    if not place:
        raise InputError.one("file", "the name of a file is empty")
    try:
        stream = Path(path).open("rb")  # noqa: SIM115 -- for the caller to close
    except FileNotFoundError:
        raise InputError.one(place, _why_missing(Path(path))) from None
    except IsADirectoryError:
        raise InputError.one(place, "is a folder; a file was expected") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError.one(place.replace("\0", "?"), f"cannot be read: {reason}") from None
    mode = os.fstat(stream.fileno()).st_mode
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):  # it may have no end
        stream.close()
        raise InputError.one(place, "is a device; a file was expected")
    return stream


def _bounded(stream: BufferedReader, limit: int) -> bytes:
    """Read at most one byte more than `limit`."""
    status = os.fstat(stream.fileno())
    if stat.S_ISREG(status.st_mode):
        # No more than there is: `read` sets aside all the memory it is asked to fill.
        return stream.read(min(limit, status.st_size) + 1)
    data = bytearray()  # a pipe, such as a shell's <(…)
    while len(data) <= limit and (piece := stream.read(1024 * 1024)):
        data += piece
    return bytes(data)


def _why_missing(path: Path) -> str:
    if path.is_symlink():
        return "is a link to a file that does not exist"
    folder, missing = path.parent, "there is no such file"
    if not folder.is_dir():
        return f"{missing}, nor a folder {str(folder)!r}"
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError:
        return missing
    return missing + suggestion(path.name, names)


def decode_text(data: bytes, origin: str, lines_before: int = 0) -> str:
    """Decode UTF-8 text, with or without a byte-order mark; part of a file if lines come before it.

    Raises
    ------
    InputError
        With the line of the first byte that is not UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = lines_before + data.count(b"\n", 0, error.start) + 1
        byte = data[error.start]
        raise InputError.one(
            f"{origin}:{line}", f"is not UTF-8 text (byte 0x{byte:02x}); save the file as UTF-8"
        ) from None
