"""Traces that cannot be read, or not be used."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from bad_inputs.case import PLAN, Case, Making

_COUNTS = "requests_per_s\n1\n5\n3\n"


def _case(name: str, trace: Making, *said: str, flags: tuple[str, ...] = ()) -> Case:
    return Case(f"trace: {name}", said, {"trace.csv": trace}, (*PLAN, *flags))


def parquet(**columns: list[Any]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table(columns), path)

    return make


def cut_parquet(path: Path) -> None:
    parquet(arrival_s=[float(index) for index in range(1000)])(path)
    path.write_bytes(path.read_bytes()[:-100])


_GZIP = gzip.compress(b"arrival_s\n" + b"".join(b"%d\n" % index for index in range(2000)), mtime=0)

FORM = [
    _case("missing", None, "trace.csv: there is no such file"),
    _case("a folder", Path.mkdir, "trace.csv: is a folder; a file was expected"),
    _case(
        "a device", lambda path: path.symlink_to("/dev/zero"), "trace.csv: is a device; a file was expected"
    ),
    _case("empty", "", "trace.csv: is empty; the first line must name the columns"),
    _case("blank lines", "\n\n\n", "trace.csv: is empty"),
    _case(
        "no header",
        "0\n1\n2\n",
        "trace.csv: expected one of the columns arrival_s",
        "the first line names '0'",
    ),
    _case(
        "unknown column",
        "arival_s\n1\n2\n",
        "trace.csv: expected one of the columns",
        "did you mean 'arrival_s'?",
    ),
    _case(
        "both kinds of columns",
        "arrival_s,requests_per_s\n1,2\n2,2\n",
        "trace.csv: expected one of the columns",
        "found arrival_s and requests_per_s: keep one",
    ),
    _case(
        "column twice",
        "arrival_s,arrival_s\n1,2\n2,2\n",
        "trace.csv",
        "found arrival_s and arrival_s: keep one",
    ),
    _case(
        "ragged",
        "id,arrival_s\n1,2\n3\n4,5,6\n",
        "trace.csv: expected 2 values as in the header, found 1 to 3 values in lines 3, 4 (2 in all)",
    ),
    _case(
        "unclosed quotes", 'arrival_s,url\n1,a\n2,b\n3,"c\n4,d\n', "trace.csv:4: a quoted value begins here"
    ),
    _case("not UTF-8", b"arrival_s,name\n1,caf\xe9\n2,x\n", "trace.csv:2: is not UTF-8 text (byte 0xe9)"),
    _case("UTF-16", "arrival_s\n1\n2\n".encode("utf-16"), "trace.csv:1: is not UTF-8 text"),
    _case("zero bytes", b"arrival_s\n1\n\0\0\n", "trace.csv:3: holds a zero byte"),
    _case("one endless line", "x" * 300_000, "trace.csv:1: is no line of column names"),
    _case("truncated gzip", _GZIP[:-40], "trace.csv: the gzip data end too early", "download it again"),
    _case("damaged gzip", _GZIP[:40] + b"\xff" * 40 + _GZIP[80:], "trace.csv: the gzip data are damaged"),
    _case("gzip header only", b"\x1f\x8b", "trace.csv: the gzip data"),
    _case(
        "zip archive",
        b"PK\x03\x04" + bytes(100),
        "trace.csv: is a zip archive or a spreadsheet: unpack it, or save the sheet as CSV",
    ),
    _case("bzip2", b"BZh91AY&SY" + bytes(100), "trace.csv: is compressed with bzip2: use gzip or none"),
    _case(
        "parquet garbage",
        b"PAR1" + bytes(200) + b"PAR1",
        "trace.csv: begins like a Parquet file but cannot be read as one",
    ),
    _case(
        "truncated parquet",
        cut_parquet,
        "trace.csv: begins like a Parquet file but cannot be read as one: it is damaged",
    ),
    _case(
        "parquet of texts",
        parquet(arrival_s=["a", "b"]),
        "trace.csv: arrival_s: expected numbers, the column holds string",
    ),
    _case(
        "parquet of lists",
        parquet(arrival_s=[[1.0], [2.0]]),
        "trace.csv: arrival_s: expected numbers, the column holds list",
    ),
    _case(
        "parquet of truth values",
        parquet(arrival_s=[True, False]),
        "trace.csv: arrival_s: expected numbers, the column holds bool",
    ),
    _case(
        "parquet of days in seconds",
        parquet(arrival_s=[date(2024, 1, 1), date(2024, 1, 2)]),
        "trace.csv: arrival_s: expected numbers, the column holds date",
    ),
    _case(
        "parquet with gaps",
        parquet(arrival_s=[1.0, None, float("nan"), 2.0]),
        "trace.csv: arrival_s: no value in row 2",
        "NaN in row 3",
    ),
    _case("parquet without rows", parquet(arrival_ms=[]), "trace.csv: arrival_ms"),
    _case(
        "parquet without arrivals",
        parquet(when=[1.0, 2.0]),
        "trace.csv: expected one of the columns arrival_s",
    ),
]

ARRIVALS = [
    _case("no arrival", "arrival_s\n", "trace.csv: arrival_s: gives no arrival; a trace needs at least two"),
    _case(
        "one arrival", "arrival_s\n3\n", "trace.csv: arrival_s: gives one arrival; a trace needs at least two"
    ),
    _case(
        "unsorted",
        "arrival_s\n1\n3\n2\n",
        "trace.csv: arrival_s: earlier than the row before in line 4: sort the file by arrival_s",
    ),
    _case(
        "negative",
        "arrival_s\n-1\n2\n",
        "trace.csv: arrival_s: a negative time in line 2: let the trace begin at 0 or later",
    ),
    _case("NaN", "arrival_s\n1\nNaN\n2\n", "trace.csv: arrival_s: NaN in line 3"),
    _case("infinite", "arrival_s\n1\ninf\n", "trace.csv: arrival_s: an infinite value in line 3"),
    _case("text", "arrival_s\n1\nsoon\n", "trace.csv: arrival_s: no number (such as 'soon') in line 3"),
    _case("braces", "arrival_s\n1\n{0.x}\n", "trace.csv: arrival_s: no number (such as '{0.x}') in line 3"),
    _case("blank cells", "id,arrival_s\n1,\n2,\n", "trace.csv: arrival_s: no value in lines 2, 3 (2 in all)"),
    _case(
        "every kind at once",
        "arrival_s\n-1\nsoon\n5\n4\nnan\n1e300\ninf\n",
        "no number (such as 'soon') in line 3",
        "a negative time in line 2",
        "earlier than the row before in line 5",
        "NaN in line 6",
        "a time beyond ten years in line 7",
        "an infinite value in line 8",
    ),
    _case(
        "an epoch after other times",
        "arrival_s\n0\n1700000000\n1700000001\n",
        "trace.csv: arrival_s: a time beyond ten years in lines 3, 4",
        "subtract the time of the first arrival",
    ),
    _case("numbers as timestamps", "timestamp\n1\n2\n", "trace.csv: timestamp: holds numbers", "arrival_s"),
    _case(
        "no dates",
        "timestamp\n2024-01-01\nyesterday\n",
        "trace.csv: timestamp: no ISO date (such as 'yesterday') in line 3",
    ),
    _case(
        "dates long ago",
        "timestamp\n0001-01-01\n0001-01-02\n",
        "trace.csv: timestamp: a date before 1678",
    ),
    _case("all at once", "arrival_s\n1\n1\n1\n", "trace", "all arrivals are at one instant"),
]

COUNTS = [
    _case(
        "counts without --expand",
        _COUNTS,
        "trace.csv: requests_per_s: holds counts per interval",
        "--expand poisson --seed 1",
    ),
    _case(
        "unknown expansion",
        _COUNTS,
        "trace.csv: requests_per_s: there is no expansion 'poison'; did you mean 'poisson'?",
        flags=("--expand", "poison"),
    ),
    _case(
        "negative count",
        "requests_per_s\n1\n-5\n",
        "trace.csv: requests_per_s: a negative count in line 3",
        flags=("--expand", "even"),
    ),
    _case(
        "NaN and text among counts",
        "requests_per_s\nnan\nx\n",
        "NaN in line 2",
        "no number (such as 'x') in line 3",
        flags=("--expand", "even"),
    ),
    _case(
        "counts beyond measure",
        "requests_per_s\n1e30\n1\n",
        "trace.csv: the counts make 1e+30 arrivals",
        "take a shorter window",
        flags=("--expand", "even"),
    ),
    _case(
        "only zeros",
        "requests_per_s\n0\n0\n",
        "trace.csv: requests_per_s: gives no arrival",
        flags=("--expand", "even"),
    ),
    _case(
        "one interval",
        "t_s,requests_per_s\n0,5\n",
        "trace.csv: t_s: expected at least two different values",
        flags=("--expand", "even"),
    ),
    _case(
        "two interval columns",
        "t_s,minute_index,requests_per_s\n0,0,5\n",
        "trace.csv: found t_s and minute_index: keep the one",
        flags=("--expand", "even"),
    ),
]

WINDOWS = [
    Case(
        "window: expand on arrivals",
        ("trace.csv: arrival_s", "leave out --expand"),
        arguments=(*PLAN, "--expand", "even"),
    ),
    Case(
        "window: ends before it starts",
        ("--from, --to: [20 s, 10 s) is empty: it must end after it starts",),
        arguments=(*PLAN, "--from", "20s", "--to", "10s"),
    ),
    Case(
        "window: empty",
        ("--from, --to: [20 s, 20 s) is empty",),
        arguments=(*PLAN, "--from", "20s", "--to", "20s"),
    ),
    Case(
        "window: beyond the trace",
        ("trace.csv: arrival_s: gives no arrival in [60 s, end) of its 0 s to 0.5 s",),
        arguments=(*PLAN, "--from", "60s"),
    ),
    Case(
        "window: too narrow",
        ("trace.csv: arrival_s: gives one arrival in [start, 0.05 s)",),
        arguments=(*PLAN, "--to", "50ms"),
    ),
    Case("window: no unit", ("--from: '10' has no unit: write 10s",), arguments=(*PLAN, "--from", "10")),
    Case(
        "window: in minutes",
        ("--to: '5mins' is not accepted: write 5min",),
        arguments=(*PLAN, "--to", "5mins"),
    ),
    Case(
        "trace: neither file nor shipped",
        ("burstyy: is neither a file nor one of the shipped traces; did you mean 'bursty'?",),
        arguments=("plan", "pipeline.yaml", "--profiles", "profiles", "--trace", "burstyy"),
    ),
]

CASES = [*FORM, *ARRIVALS, *COUNTS, *WINDOWS]
