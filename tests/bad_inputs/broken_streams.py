"""What ``mipplan replay`` refuses: traces that are streamed, and flags of both kinds of replay."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

from bad_inputs.broken_plans import sealed
from bad_inputs.broken_traces import cut_parquet, parquet
from bad_inputs.case import Case, Making

_PLAN = sealed(lambda document: None)
_REPLAY = ("replay", "plan.json", "--trace", "trace.csv")
_ROWS = b"arrival_s\n" + b"".join(b"%d\n" % second for second in range(300_000))  # in more than one piece
_ZIPPED = gzip.compress(_ROWS, 1, mtime=0)


def _streamed(name: str, trace: Making, *said: str) -> Case:
    return Case(f"stream: {name}", said, {"plan.json": _PLAN, "trace.csv": trace}, (*_REPLAY, "--stream"))


def _replayed(*flags: str, said: tuple[str, ...], files: dict[str, Making] | None = None) -> Case:
    return Case(
        f"replay {' '.join(flags)}"[:90], said, {"plan.json": _PLAN, **(files or {})}, (*_REPLAY, *flags)
    )


def _late(*cells: str) -> bytes:
    rows = b"".join(b"%d\n" % second for second in range(800_000))
    return b"arrival_s\n" + rows + "".join(f"{cell}\n" for cell in cells).encode()


FILES = [
    _streamed("missing", None, "trace.csv: there is no such file"),
    _streamed("a folder", Path.mkdir, "trace.csv: is a folder; a file was expected"),
    _streamed(
        "a device", lambda path: path.symlink_to("/dev/zero"), "trace.csv: is a device; a file was expected"
    ),
    _streamed(
        "a link to nothing",
        lambda path: path.symlink_to("nothing"),
        "trace.csv: is a link to a file that does not exist",
    ),
    _streamed("empty", "", "trace.csv: is empty; the first line must name the columns"),
    _streamed("a header alone", "arrival_s\n", "trace.csv: holds no arrival"),
    _streamed(
        "zip archive", b"PK\x03\x04" + bytes(100), "trace.csv: is a zip archive or a spreadsheet: unpack it"
    ),
    _streamed("UTF-16", "arrival_s\n1\n".encode("utf-16"), "trace.csv:1: is not UTF-8 text (byte 0xff)"),
    _streamed("not UTF-8", b"arrival_s,who\n1,caf\xe9\n", "trace.csv:2: is not UTF-8 text (byte 0xe9)"),
    _streamed("zero bytes", b"arrival_s\n1\n\0\n", "trace.csv:3: holds a zero byte"),
    _streamed("semicolons", "id;arrival_s\n1;1\n", "separate columns by commas; did you mean 'arrival_s'?"),
    _streamed("column twice", "arrival_s,arrival_s\n1,2\n", "found arrival_s and arrival_s: keep one"),
    _streamed(
        "counts",
        "requests_per_s\n1\n2\n",
        "trace.csv: requests_per_s: counts per interval are not streamed: leave out --stream",
    ),
    _streamed(
        "ragged", "id,arrival_s\n1,2\n3\n", "expected 2 values as in the header, found 1 value in line 3"
    ),
    _streamed("open quote", 'arrival_s,u\n1,a\n2,"b\n3,c\n', "trace.csv:3: a quoted value begins here"),
    _streamed(
        "an endless quoted value",
        b'arrival_s,u\n1,a\n2,"' + b"x\n" * 2**22,
        "trace.csv:3: a row of more than 2 MiB begins here: is a quote not closed?",
    ),
    _streamed("truncated gzip", _ZIPPED[:-40], "trace.csv: the gzip data end too early", "download it again"),
    _streamed("half of the gzip", _ZIPPED[: len(_ZIPPED) // 2], "trace.csv: the gzip data end too early"),
    _streamed("wrong checksum", _ZIPPED[:-8] + bytes(8), "trace.csv: the gzip data are damaged"),
    _streamed("gzip in gzip", gzip.compress(_ZIPPED), "trace.csv:1: is not UTF-8 text"),
    _streamed(
        "parquet garbage",
        b"PAR1" + bytes(200) + b"PAR1",
        "begins like a Parquet file but cannot be read as one",
    ),
    _streamed("truncated parquet", cut_parquet, "begins like a Parquet file but cannot be read as one"),
    _streamed("parquet without rows", parquet(arrival_ms=[]), "trace.csv: holds no arrival"),
]

TIMES = [
    _streamed(
        "every kind at once",
        "arrival_s\n-1\nsoon\n5\n4\nnan\n1e300\ninf\n",
        "no number (such as 'soon') in line 3",
        "a negative time in line 2",
        "earlier than the row before in line 5",
        "NaN in line 6",
        "a time beyond ten years in line 7: subtract the time of the first arrival",
        "an infinite value in line 8",
    ),
    _streamed(
        "late faults",
        _late("x", "3", "nan"),
        "trace.csv: arrival_s: no number (such as 'x') in line 800002",
        "earlier than the row before in line 800003",
        "NaN in line 800004",
    ),
    _streamed(
        "unsorted",
        "arrival_s\n1\n3\n2\n",
        "earlier than the row before in line 4: sort the file by arrival_s",
    ),
    _streamed(
        "numbers as timestamps", "timestamp\n1\n2\n", "trace.csv: timestamp: holds numbers", "arrival_s"
    ),
    _streamed(
        "no dates", "timestamp\n2024-01-01\nsoon\n", "timestamp: no ISO date (such as 'soon') in line 3"
    ),
    _streamed(
        "too long",
        "timestamp\n2000-01-01\n2024-01-01\n",
        "timestamp: a date more than ten years after the first in line 3",
    ),
    _streamed("parquet of texts", parquet(arrival_s=["a", "b"]), "expected numbers, the column holds string"),
    _streamed(
        "parquet of truth values", parquet(arrival_s=[True]), "expected numbers, the column holds bool"
    ),
    _streamed(
        "parquet with gaps", parquet(arrival_s=[1.0, None, float("nan")]), "no value in row 2", "NaN in row 3"
    ),
    _streamed("parquet unsorted", parquet(arrival_ms=[3, 2]), "earlier than the row before in row 2"),
    Case(
        "stream: too much at once",
        ("trace.csv: no query was finished before more than 2,000,000 tokens had to be held",),
        {"plan.json": _PLAN, "trace.csv": b"arrival_s\n" + b"0\n" * 1_100_000},
        (*_REPLAY, "--stream"),
    ),
]

FLAGS = [
    _replayed("--windows", "0.4ns", said=("--windows: expected a positive number of seconds",)),
    _replayed("--windows", "1ns", said=("--windows: 1 ns makes 500,000,001 windows, more than 1,000,000",)),
    _replayed("--windows", "5 m", said=("--windows: '5 m' is not accepted: write 5min",)),
    _replayed("--plot", "a.jpg", said=("--plot a.jpg: expected a name that ends in .png, .svg or .pdf",)),
    _replayed(
        "--latencies", "a.txt", said=("--latencies a.txt: expected a name that ends in .csv or .parquet",)
    ),
    _replayed("--latencies", "trace.csv", said=("--latencies trace.csv: is the trace that is read",)),
    _replayed("--out", "plan.json", said=("--out plan.json: is the plan that is read; name another file",)),
    _replayed(
        *("--out", "link"),
        said=("--out link: is the plan that is read",),
        files={"link": lambda path: path.symlink_to("plan.json")},
    ),
    _replayed(
        *("--latencies", "a.csv", "--out", "a.csv"),
        said=("--latencies a.csv: is written by --out already; name another file",),
    ),
    _replayed("--out", "nowhere/a.json", "--stream", said=("there is no folder 'nowhere' to write to",)),
    _replayed("--out", "profiles", "--stream", said=("--out profiles: is a folder",)),
    _replayed(
        "--out", os.devnull, said=(f"--out {os.devnull}: is a device or a pipe, which cannot be replaced",)
    ),
    _replayed(
        *("--discipline", "lifo", "--engine", "warp", "--seed", "-1"),
        said=("--discipline: expected one of", "--engine: expected one of", "--seed: expected"),
    ),
    Case(
        "replay: everything at once",
        (
            *("--windows: '5' has no unit: write 5s", "--engine", "--discipline", "--seed", "--plot a.gif"),
            *("--latencies b.txt", "--out nowhere/c", "nothing.csv: there is no such file", "nothing.json"),
        ),
        {},
        (
            *("replay", "nothing.json", "--trace", "nothing.csv", "--windows", "5", "--engine", "warp"),
            *("--discipline", "lifo", "--seed", "-1", "--plot", "a.gif", "--latencies", "b.txt"),
            *("--out", "nowhere/c"),
        ),
    ),
    Case(
        "stream: everything at once",
        (
            *(
                "--windows: does not go with --stream",
                "--from: does not go",
                "--engine",
                "--discipline",
                "--seed",
            ),
            *("nothing.json: there is no such file", "trace.csv: arrival_s: NaN in line 2"),
        ),
        {"trace.csv": "arrival_s\nnan\n"},
        (
            *(
                "replay",
                "nothing.json",
                "--trace",
                "trace.csv",
                "--stream",
                "--windows",
                "5s",
                "--from",
                "1s",
            ),
            *("--engine", "warp", "--discipline", "lifo", "--seed", "-1"),
        ),
    ),
    Case(
        "stream: neither file nor shipped",
        ("burstyy: is neither a file nor one of the shipped traces; did you mean 'bursty'?",),
        {"plan.json": _PLAN},
        ("replay", "plan.json", "--trace", "burstyy", "--stream"),
    ),
]

CASES = [*FILES, *TIMES, *FLAGS]
