"""Latencies of all queries of a replay as a CSV or Parquet file, which is a trace file as well."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mipplan.core import NS_PER_S, InputError
from mipplan.documents import write_atomically
from mipplan.result import ReplayResult

if TYPE_CHECKING:
    import pyarrow as pa

LATENCY_FILES = (".csv", ".parquet")


def write_latencies(path: str | Path, result: ReplayResult) -> None:
    """Write ``arrival_s`` and ``latency_s`` of each query, in the order of ingress, whole or not at all.

    CSV holds seconds with nine decimals, Parquet float64; both give back whole nanoseconds when rounded.

    Raises
    ------
    InputError
        If the name ends in none of `LATENCY_FILES`, or the place cannot be written to.
    """
    ending = Path(path).suffix.lower()
    if ending not in LATENCY_FILES:
        raise InputError.one(str(path), f"expected a name that ends in {' or '.join(LATENCY_FILES)}")
    write = _write_csv if ending == ".csv" else _write_parquet
    write_atomically(path, lambda stream: write(stream, result))


def _write_csv(stream: BinaryIO, result: ReplayResult) -> None:
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    columns = {"arrival_s": _decimals(result.ingress_ns), "latency_s": _decimals(result.latency_ns)}
    stream.write(f"{','.join(columns)}\n".encode())
    # Arrow would put the names in quotes.
    options = pa_csv.WriteOptions(include_header=False, quoting_style="none")
    pa_csv.write_csv(pa.table(columns), stream, options)


def _write_parquet(stream: BinaryIO, result: ReplayResult) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"arrival_s": result.ingress_ns / NS_PER_S, "latency_s": result.latency_ns / NS_PER_S}
    pq.write_table(pa.table(columns), stream)


def _decimals(times_ns: NDArray[np.int64]) -> pa.Array:
    """Seconds with nine decimals, exactly, as text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    whole, part = np.divmod(times_ns, NS_PER_S)
    padded = pc.utf8_lpad(pa.array(part).cast(pa.string()), width=9, padding="0")
    return pc.binary_join_element_wise(pa.array(whole).cast(pa.string()), padded, ".")
