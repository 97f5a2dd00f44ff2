"""Opening trace files: compression and kind are recognised by content, and expansion is bounded."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from mipplan.core import InputError
from mipplan.documents import AnyPath, read_bytes
from mipplan.trace.columns import Table

#: Largest file read, before and after decompression.
MAX_FILE_BYTES = 4 * 1024**3
#: Beyond `FREE_BYTES`, gzip data may not expand more than `MOST_EXPANSION` times: arrival times, which are all
#: different, never do, and a few megabytes made to expand a thousand times would fill the memory.
FREE_BYTES = 64 * 1024**2
MOST_EXPANSION = 100

GZIP_MAGIC = b"\x1f\x8b"
PARQUET_MAGIC = b"PAR1"
_FOREIGN = {
    b"PK\x03\x04": "a zip archive or a spreadsheet: unpack it, or save the sheet as CSV",
    b"BZh": "compressed with bzip2: use gzip or none",
    b"\xfd7zXZ\x00": "compressed with xz: use gzip or none",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: use gzip or none",
}
_STEP = 1024 * 1024


def read_table(path: AnyPath) -> Table:
    """Open a CSV or Parquet file; gzip and Parquet are recognised by content, not by name.

    Raises
    ------
    InputError
        If the file cannot be read or decompressed, expands suspiciously, or has no header.
    """
    from mipplan.trace.csv_files import open_csv
    from mipplan.trace.parquet_files import open_parquet

    origin = os.fspath(path)
    data = read_bytes(path, limit=MAX_FILE_BYTES)
    if data.startswith(GZIP_MAGIC):
        data = _decompressed(data, origin)
    check_kind(data, origin)
    if data.startswith(PARQUET_MAGIC):
        return open_parquet(data, origin)
    return open_csv(data, origin)


def check_kind(first: bytes, origin: str) -> None:
    """Refuse, by its first bytes, what is neither text nor Parquet, and say what it is."""
    for magic, kind in _FOREIGN.items():
        if first.startswith(magic):
            raise InputError.one(origin, f"is {kind}")


def _decompressed(data: bytes, origin: str) -> bytes:
    source = io.BytesIO(data)
    plain = io.BytesIO()
    with gzip_faults(origin), gzip.GzipFile(fileobj=source) as stream:
        while piece := stream.read(_STEP):
            plain.write(piece)
            _check_expansion(plain.tell(), source.tell(), origin)
    return plain.getvalue()


@contextmanager
def gzip_faults(origin: str) -> Iterator[None]:
    """Say in our words what is wrong with gzip data that are read inside."""
    try:
        yield
    except EOFError:
        raise InputError.one(
            origin, "the gzip data end too early: the file is incomplete; copy or download it again"
        ) from None
    except (OSError, zlib.error):
        raise InputError.one(origin, "the gzip data are damaged; copy or download the file again") from None


def _check_expansion(produced: int, consumed: int, origin: str) -> None:
    if produced > MAX_FILE_BYTES:
        raise InputError.one(origin, f"is larger than {MAX_FILE_BYTES // 1024**3} GiB when decompressed")
    if produced > max(FREE_BYTES, MOST_EXPANSION * consumed):
        raise InputError.one(
            origin,
            f"expands to more than {MOST_EXPANSION} times its size when decompressed, as no trace does; "
            "if it is one, decompress it first",
        )
