"""Profile folders that cannot be used."""

from __future__ import annotations

from pathlib import Path

from bad_inputs.case import HARDWARE, HEADER, ROWS, Case, Making

_CSV = "profiles/models/all.csv"
_YAML = "profiles/hardware.yaml"
_ROW = "resize,cpu,1,2.0,made up\n"


def _table(name: str, table: Making, *said: str) -> Case:
    return Case(f"table: {name}", said, {_CSV: table})


def _row(name: str, row: str, *said: str) -> Case:
    return _table(name, HEADER + ROWS + row + "\n", "all.csv:6", *said)


def _hardware(name: str, hardware: Making, *said: str) -> Case:
    return Case(f"hardware: {name}", said, {_YAML: hardware})


def _device(entries: str, *said: str) -> Case:
    return _hardware(entries, HARDWARE.replace("usd_per_hour: 0.1", entries), "hardware.yaml:1: cpu", *said)


HARDWARE_CASES = [
    _hardware("missing", None, "hardware.yaml: there is no such file"),
    _hardware("empty", "", "hardware.yaml: is empty"),
    _hardware("a folder", Path.mkdir, "hardware.yaml: is a folder"),
    _hardware("a list", "- cpu\n", "hardware.yaml:1: expected a mapping"),
    _hardware("no entries", "{}\n", "hardware.yaml:1: must not be empty"),
    _hardware("price alone", "cpu: 0.1\n", "hardware.yaml:1: cpu: expected a mapping, found 0.1"),
    _hardware("type twice", HARDWARE + HARDWARE, "hardware.yaml:1: cpu: the key is given twice"),
    _hardware("numeric type", "4090: {usd_per_hour: 1}\n", "hardware.yaml:1: 4090", "in quotes"),
    _device("source: x", "usd_per_hour: is missing"),
    _device("usd_per_hour: 0", "expected a price from 0.000001"),
    _device("usd_per_hour: -1", "expected a price from 0.000001"),
    _device("usd_per_hour: .nan", "expected a price in dollars per hour"),
    _device("usd_per_hour: .inf", "expected a price in dollars per hour"),
    _device("usd_per_hour: 1" + "0" * 30, "expected a price from"),
    _device("usd_per_hour: $1", "expected a price in dollars per hour, found '$1'"),
    _device("usd_per_hour: 1, memory_gib: 0", "expected a positive number of GiB"),
    _device("usd_per_hour: 1, memory_gib: 16GiB", "expected a positive number of GiB"),
    _device("usd_per_hour: 1, limit: -1", "expected a whole number of devices from 0 to 1,000,000,000"),
    _device("usd_per_hour: 1, limit: 1.5", "expected a whole number of devices from 0 to 1,000,000,000"),
    _device("usd_per_hour: 1, price: 2", "unknown key"),
    _device("usd_per_hour: 1, limt: 2", "did you mean 'limit'?"),
]

TABLE_CASES = [
    _table("empty", "", "all.csv: is empty; the first line must name the columns"),
    _table("header only", HEADER, "all.csv: holds no row below its header"),
    _table("no header", ROWS, "all.csv:1: ", "names none of the columns model, hardware, batch"),
    _table(
        "missing column",
        "model,hardware,batch,source\nresize,cpu,1,x\n",
        "all.csv:1: missing columns: latency_ms",
    ),
    _table(
        "duplicate column",
        "model,hardware,batch,batch,latency_ms,source\n",
        "all.csv:1: the column batch is given twice",
    ),
    _table(
        "unknown column",
        HEADER.replace("source", "source,latency"),
        "all.csv:1: unknown column 'latency'; did you mean 'latency_ms'?",
    ),
    _table("semicolons", (HEADER + ROWS).replace(",", ";"), "all.csv:1: ", "commas"),
    _table("not UTF-8", (HEADER + ROWS).encode() + b"\xff\xfe\n", "all.csv:6: is not UTF-8 text"),
    _table("binary", b"\x89PNG\r\n\x1a\n" + bytes(500), "all.csv:1: is not UTF-8 text"),
    _table("a folder", Path.mkdir, "all.csv: is a folder; a file was expected"),
    _table("unclosed quotes", HEADER + '"resize,cpu,1,2.0,x\n', "all.csv:2: is not well-formed CSV"),
    _table("too large", HEADER + "x" * (5 * 1024 * 1024), "all.csv: is larger than 4 MiB"),
    _table(
        "hundreds of faults",
        HEADER + "resize,cpu\n" * 300,
        "all.csv:2: expected 5 values",
        "only the first 100 are told",
    ),
    _row("too few values", "resize,cpu,2,2.0", "expected 5 values as in the header, found 4"),
    _row("too many values", "resize,cpu,2,2.0,x,y", "expected 5 values as in the header, found 6"),
    _row("decimal comma", 'resize,cpu,2,"2,5",x', "latency_ms: expected a number, found '2,5'"),
    _row("no latency", "resize,cpu,2,,x", "latency_ms: expected a number, found ''"),
    _row("NaN", "resize,cpu,2,nan,x", "latency_ms: expected a finite number"),
    _row("infinite", "resize,cpu,2,inf,x", "latency_ms: expected a finite number"),
    _row("negative", "resize,cpu,2,-3,x", "latency_ms: expected a number above 0"),
    _row("zero", "resize,cpu,2,0,x", "latency_ms: expected a number above 0"),
    _row("unit in the cell", "resize,cpu,2,3ms,x", "latency_ms: expected a number, found '3ms'"),
    _row("eternal", "resize,cpu,2,1e300,x", "latency_ms", "longer than ten years"),
    _row("batch of one and a half", "resize,cpu,1.5,3,x", "batch: expected a whole number"),
    _row("batch of none", "resize,cpu,0,3,x", "batch: expected a whole number from 1"),
    _row("batch beyond measure", "resize,cpu,1e30,3,x", "batch: expected a whole number from 1"),
    _row("measured twice", _ROW.strip(), "batch 1 is given twice; first at", "all.csv:2"),
    _row("unknown hardware", "resize,cpus,2,3,x", "there is no hardware type 'cpus'; did you mean 'cpu'?"),
    _row("blank model", ",cpu,2,3,x", "model: the name is empty"),
    _row("control character in a model", "re\x07size,cpu,2,3,x", "control or invisible characters"),
    Case(
        "table: column filled in part",
        ("all.csv:", "accuracy: is blank in 1 of 2 rows", "fill all or none"),
        {_CSV: HEADER.replace("source", "source,accuracy") + "resize,cpu,1,2,x,70\nresize,cpu,2,3,x,\n"},
    ),
    Case("tables: none", ("models: there is no table here; expected at least one *.csv file",), {_CSV: None}),
    Case(
        "profiles: a file",
        ("trace.csv: is a file; a profile folder was expected",),
        arguments=("profiles", "--profiles", "trace.csv"),
    ),
    Case(
        "profiles: missing",
        ("nowhere: there is no such folder",),
        arguments=("profiles", "--check", "--profiles", "nowhere"),
    ),
    Case(
        "profiles: bad while checked",
        ("all.csv:2: latency_ms",),
        {_CSV: HEADER + "resize,cpu,1,-2,x\n"},
        ("profiles", "--check", "--profiles", "profiles"),
    ),
]

CASES = [*HARDWARE_CASES, *TABLE_CASES]
