"""Small files made to fill memory or take forever: refused in processes of their own, whose memory is measured."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bad_inputs.broken_plans import good_plan
from bad_inputs.case import HEADER, PLAN, lay_out

#: Packages included, which alone take more with every version.
MOST_MIB = 640
#: Processor time, not wall-clock: a bound on work that is generous even on a busy or slow machine.
MOST_CPU_S = 120

#: Runs the program in one folder after the other; then prints what it said, and the most memory it ever held.
RUN = """\
import contextlib, io, json, os, resource, sys
from pathlib import Path
from mipplan.cli.app import app
resource.setrlimit(resource.RLIMIT_CPU, ({cpu}, {cpu} + 5))
said = []
for folder, arguments in {runs!r}:
    os.chdir(folder)
    errors, output = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(output):
        try:
            app(arguments)
        except SystemExit as end:
            said.append([end.code, output.getvalue(), errors.getvalue()[:20000]])
# Not ru_maxrss, which on Linux starts with the memory of the test process that this one was forked from.
status = Path("/proc/self/status")
lines = status.read_text().splitlines() if status.exists() else []
peaks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
peak = peaks[0] if peaks else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([said, peak]))
"""
MIB = 1024**2


def _gzip_bomb(path: Path) -> None:
    """Make 400 MB of rows out of 400 kB."""
    with gzip.open(path, "wb", compresslevel=9) as stream:
        stream.write(b"arrival_s\n")
        for _ in range(100):
            stream.write(b"0\n" * (2 * MIB))


def _gzip_of_one_cell(path: Path) -> None:
    """Make one value of 400 MB, in quotes that are never closed, out of 400 kB."""
    with gzip.open(path, "wb", compresslevel=9) as stream:
        stream.write(b'arrival_s\n"')
        for _ in range(100):
            stream.write(b"x" * (4 * MIB))


def _parquet_bomb(path: Path) -> None:
    """Make a hundred million rows out of a few kilobytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = 10_000_000
    column = pa.DictionaryArray.from_arrays(pa.nulls(rows, pa.int32()).fill_null(0), pa.array([1.0]))
    with pq.ParquetWriter(path, pa.schema({"arrival_s": column.type}), compression="zstd") as writer:
        for _ in range(10):
            writer.write_table(pa.table({"arrival_s": column}), row_group_size=rows)
    assert path.stat().st_size < MIB


BOMBS: dict[str, tuple[str, str | bytes | Callable[[Path], object], str]] = {
    "gzip": ("trace.csv", _gzip_bomb, "trace.csv: expands to more than 100 times its size"),
    "parquet": ("trace.csv", _parquet_bomb, "trace.csv: claims 100,000,000 rows"),
    "text instead of numbers": (
        "trace.csv",
        b"arrival_s\n" + b"x\n" * (2 * MIB),
        "no number (such as 'x') in lines 2, 3, 4",
    ),
    "rows too long": (
        "trace.csv",
        b"arrival_s\n" + b",\n" * (2 * MIB),
        "expected 1 value as in the header, found 2 values",
    ),
    "one cell": ("trace.csv", b'arrival_s\n"' + b"x" * (30 * MIB), "trace.csv"),
    "words instead of dates": ("trace.csv", b"timestamp\n" + b"x\n" * MIB, "no ISO date (such as 'x')"),
    "aliases": (
        "pipeline.yaml",
        "a: &a [x]\n" + "".join(f"a{i}: &a{i} [{', '.join(['*a'] * 20)}]\n" for i in range(4_000)),
        "only the first 100 are told",
    ),
    "values": ("pipeline.yaml", "a: [" + "[]," * MIB + "]", "holds more than 100,000 values"),
    "keys twice": ("pipeline.yaml", "a: 1\n" * (4 * MIB // 5), "holds more than 100,000 values"),
    "sexagesimal number": ("pipeline.yaml", "slo: " + "1:" * MIB + "1\n", "no usable number"),
    "endless number": ("pipeline.yaml", "slo: " + "9" * (3 * MIB) + "\n", "no usable number"),
    "nested keys": ("pipeline.yaml", "? " + "[" * MIB, "pipeline.yaml:1"),
    "stages": (
        "pipeline.yaml",
        "stages:\n" + "".join(f"  s{i}: {{model: m}}\n" for i in range(20_000)) + "edges: []\n",
        "holds more than 1,000 entries",
    ),
    "edges": (
        "pipeline.yaml",
        "stages: {s: {model: m}}\nedges:\n" + "  - {from: x, to: y}\n" * 15_000,
        "holds more than 10,000 entries",
    ),
    "hardware types": (
        "profiles/hardware.yaml",
        "".join(f"h{i}: {{usd_per_hour: 1}}\n" for i in range(20_000)),
        "holds more than 1,000 entries",
    ),
    "faulty rows": (
        "profiles/models/all.csv",
        HEADER + "x\n" * (2 * MIB - 100),
        "holds more than 100,000 rows",
    ),
    "plan of nothing": ("plan.json", '{"format": 1, "x": [' + "{}," * (2 * MIB) + "0]}", "plan.json"),
}


STREAM_BOMBS: dict[str, tuple[Callable[[Path], object], str]] = {
    "gzip": (_gzip_bomb, "trace.csv: no query was finished before more than 2,000,000 tokens had to be held"),
    "one cell": (
        _gzip_of_one_cell,
        "trace.csv:2: a row of more than 2 MiB begins here: is a quote not closed?",
    ),
}


@pytest.mark.parametrize("file", sorted({file for file, *_ in BOMBS.values()}))
def test_bombs(file: str, tmp_path: Path) -> None:
    """Those in one file share a process, so that it starts once."""
    runs, expected = [], []
    for place, (broken, making, said) in enumerate(BOMBS.values()):
        if broken == file:
            folder = tmp_path / str(place)
            lay_out(folder, {file: making})
            arguments = ["replay", "plan.json", "--trace", "trace.csv"] if file == "plan.json" else list(PLAN)
            runs.append((str(folder), arguments))
            expected.append(said)
    check_refused(runs, expected)


@pytest.mark.parametrize("name", STREAM_BOMBS)
def test_bomb_in_a_stream(name: str, tmp_path: Path) -> None:
    making, said = STREAM_BOMBS[name]
    lay_out(tmp_path, {"trace.csv": making})
    good_plan().save(tmp_path / "plan.json")
    check_refused([(str(tmp_path), ["replay", "plan.json", "--trace", "trace.csv", "--stream"])], [said])


def check_refused(runs: list[tuple[str, list[str]]], expected: list[str]) -> None:
    """Run commands in their folders: each must say what is expected, all in bounded memory and time."""
    done = subprocess.run(
        [sys.executable, "-c", RUN.format(runs=runs, cpu=MOST_CPU_S)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told, kilobytes = json.loads(done.stdout)
    assert [(code, output) for code, output, _ in told] == [(2, "")] * len(runs)
    for (_, _, errors), said in zip(told, expected, strict=True):
        assert said in errors
    assert kilobytes / 1024 < MOST_MIB
