"""Files: read safely, bounded, with faults a person can act on; written whole or not at all; those shipped found."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from mipplan.core import InputError, shown, suggestion

AnyPath = str | os.PathLike[str]

_PACKAGE = Path(__file__).resolve().parents[1]

#: The names of shipped files end like this.
_ENDINGS = {"pipelines": (".yaml",), "traces": (".csv.gz", ".csv")}
#: Larger text documents are refused: nobody writes a pipeline of four megabytes by hand.
MAX_DOCUMENT_BYTES = 4 * 1024 * 1024


def read_bytes(path: AnyPath, *, limit: int = MAX_DOCUMENT_BYTES) -> bytes:
    """Read a whole file of at most `limit` bytes; `InputError` as for `open_file`, and if it is larger."""
    with open_file(path) as stream:
        try:
            data = _bounded(stream, limit)
        except OSError as error:
            raise InputError.one(os.fspath(path), f"cannot be read: {error.strerror or error}") from None
    if len(data) > limit:
        raise InputError.one(os.fspath(path), f"is larger than {limit // 1024**2} MiB, the most that is read")
    return data


def check_path(path: AnyPath) -> AnyPath:
    """Return what may name a file; raises `InputError` if it is something else."""
    if not isinstance(path, str | os.PathLike):
        raise InputError.one("file", f"expected a name or a path, found {shown(path)}")
    return path


def mode_of(path: AnyPath) -> int | None:
    """Return the kind and the rights (`st_mode`) of what has this name; None if nothing has.

    Raises `InputError` if that cannot be told: a folder on the way is closed, the name is too long, or links lead back
    to themselves. `Path.exists` and its like end with the system's own error there.
    """
    try:
        return Path(check_path(path)).stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        is_circle = getattr(error, "errno", None) == errno.ELOOP
        message = "is a link that leads back to itself" if is_circle else f"cannot be reached: {reason}"
        raise InputError.one(os.fspath(path).replace("\0", "?"), message) from None


def is_there(path: AnyPath) -> bool:
    """Whether anything has this name; raises `InputError` as `mode_of`."""
    return mode_of(path) is not None


def is_file(path: AnyPath) -> bool:
    """Whether a file has this name; raises `InputError` as `mode_of`."""
    return stat.S_ISREG(mode_of(path) or 0)


def is_folder(path: AnyPath) -> bool:
    """Whether a folder has this name; raises `InputError` as `mode_of`."""
    return stat.S_ISDIR(mode_of(path) or 0)


def real_path(path: AnyPath) -> Path:
    """What links lead to; the path as it is where that cannot be told, as in a working folder that is gone."""
    try:
        return Path(path).resolve()
    except (OSError, RuntimeError):
        return Path(path)


def files_in(folder: AnyPath, ending: str = "") -> list[Path]:
    """Return what a folder holds under names that end so, sorted; nothing if there is no such folder.

    Raises `InputError` if it cannot be looked into.
    """
    try:
        return sorted(path for path in Path(folder).iterdir() if path.name.endswith(ending))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise InputError.one(str(folder), f"cannot be read: {error.strerror or error}") from None


def open_file(path: AnyPath) -> BufferedReader:
    """Open a file, or a pipe such as a shell's ``<(…)``, for reading.

    Raises `InputError` if there is no such file (with the closest name in that folder), it is a folder or a
    device, or it cannot be opened.
    """
    place = os.fspath(check_path(path))
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

    Raises `InputError` with the line of the first byte that is not UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = lines_before + data.count(b"\n", 0, error.start) + 1
        message = f"is not UTF-8 text (byte 0x{data[error.start]:02x}); save the file as UTF-8"
        raise InputError.one(f"{origin}:{line}", message) from None


def write_text_atomically(path: str | Path, text: str) -> None:
    """Write `text` (UTF-8) to `path`, whole or not at all; errors as for `write_atomically`."""
    write_atomically(path, lambda stream: stream.write(text.encode("utf-8")))


def write_atomically(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to disk, then rename it into place.

    Where `path` is a link, the file that it leads to is written. Raises `InputError` if the folder does not exist or
    cannot be written to, or `path` is a folder or a device.
    """
    problem = output_problem(path)
    if problem is not None:
        raise InputError.one(str(path).replace("\0", "?"), problem)
    target = real_path(path)
    # Of a long name the beginning: with what is put around it, it would be too long for a file.
    temporary = target.parent / f".{target.name[:50]}.{secrets.token_urlsafe(6)}.part"
    try:
        try:
            # A plan is an ordinary file: its mode follows the umask, which is the whole process's to set.
            with temporary.open("xb") as stream:
                write(stream)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError.one(str(path), f"cannot be written: {error.strerror or error}") from error


def output_problem(path: object) -> str | None:
    """Say what keeps a file of that name from being written, as far as can be told beforehand; None if nothing."""
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        return "expected the name of a file to write to"
    name = os.fspath(path)
    if not name or "\0" in name:
        return "the name of a file to write to is empty or holds a zero byte"
    if name == "-":
        return "is standard output elsewhere, but not here; name a file to write to"
    target = Path(name)
    try:
        mode = mode_of(target)
    except InputError as error:
        return error.faults[0].message
    # Of a link the folder of the file that it leads to is written to; a name that is none is told as it was given.
    folder = real_path(target).parent if target.is_symlink() else target.parent
    if mode is None and not is_folder(folder):
        return f"there is no folder {str(folder)!r} to write to"
    if mode is not None and stat.S_ISDIR(mode):
        return "is a folder; name a file to write to"
    if mode is not None and not stat.S_ISREG(mode):
        return "is a device or a pipe, which cannot be replaced; name a file to write to"
    if not os.access(folder, os.W_OK):
        return f"the folder {str(folder)!r} cannot be written to"
    return None


def folder_problem(path: AnyPath, *, is_new: bool = False) -> str | None:
    """Say what keeps a folder from being made, with all above it, and written to; None if nothing.

    With `is_new` it must not be there yet, unless it is empty.
    """
    try:
        if is_there(path) and is_new and (not is_folder(path) or files_in(path)):
            return "is there already: name a new folder"
    except InputError as error:
        return error.faults[0].message
    place = real_path(path)
    there = next(above for above in (place, *place.parents) if is_there(above))
    if not is_folder(there):
        return "is a file; name a folder" if there == place else f"{str(there)!r} is no folder to make it in"
    return None if os.access(there, os.W_OK) else f"the folder {str(there)!r} cannot be written to"


@contextmanager
def folder_locked(folder: AnyPath) -> Iterator[None]:
    """Keep other processes that ask likewise away from a folder for a moment; POSIX systems only.

    The folder itself is locked, so that no file of a lock is left in it. Where that cannot be done, as on some network
    drives, nothing is kept away: what is written there says why it cannot be.
    """
    import fcntl

    descriptor = None
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def shipped_folder(package: Path = _PACKAGE) -> Path:
    """Find the shipped profiles, pipelines and traces.

    They are in ``mipplan/shipped_profiles`` of an installed package, else in ``profiles/`` beside the package in a
    checkout. Raises `InputError` if neither exists.
    """
    for folder in (package / "shipped_profiles", package.parent / "profiles"):
        if is_file(folder / "hardware.yaml"):
            return folder
    message = "this installation holds no profile folder; install mipplan again, or name a folder of your own"
    raise InputError.one("shipped profiles", message)


def shipped_path(kind: str, name: str, beside: Path | None = None) -> str:
    """Return the path itself, in the folder of the file that names it, or the shipped file if there is no such path.

    Raises `InputError` if a bare name is neither a file nor shipped, or one is shipped whose name lacks this ending.
    """
    path = name if beside is None else str(beside / name)
    with suppress(InputError):  # what cannot be reached is told where it is read
        if is_there(path):
            return path
    if "/" in name:
        return path
    shipped = {file.name: file for file in files_in(shipped_folder() / kind)}
    for ending in _ENDINGS[kind]:
        if f"{name}{ending}" in shipped:
            return str(shipped[f"{name}{ending}"])
        # What has the ending of a file is meant to be one: another one in its place would be a surprise.
        if (bare := name.removesuffix(ending)) != name and bare in shipped_names(kind):
            raise InputError.one(
                name, f"there is no such file; what is shipped is called {bare!r}, without {ending}"
            )
    if "." in name:
        return path
    known = shipped_names(kind)
    hint = suggestion(name, known) or f"; shipped are {', '.join(known)}"
    raise InputError.one(name, f"is neither a file nor one of the shipped {kind}{hint}")


def shipped_names(kind: str) -> list[str]:
    """Names of the shipped files of a kind."""
    names = [path.name for path in files_in(shipped_folder() / kind)]
    return sorted(
        {name.removesuffix(ending) for name in names for ending in _ENDINGS[kind] if name.endswith(ending)}
    )
