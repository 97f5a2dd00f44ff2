"""What a broken input is: good files, one of them broken, a command, and what its message must say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

PIPELINE = """\
name: small
slo: 100ms
stages:
  first: {model: resize}
  second: {model: classify, replicas: {max: 20}}
edges:
  - {from: first, to: second, delay: 1ms}
"""
HARDWARE = """\
cpu: {usd_per_hour: 0.1, source: "made up for the tests"}
gpu: {usd_per_hour: 1.0, memory_gib: 16, source: "made up for the tests"}
"""
HEADER = "model,hardware,batch,latency_ms,source\n"
ROWS = """\
resize,cpu,1,2.0,made up
classify,cpu,1,30.0,made up
classify,gpu,1,4.0,made up
classify,gpu,8,10.0,made up
"""
TRACE = "arrival_s\n0\n0.1\n0.2\n0.5\n"

#: How a file is made: its text, its bytes, a function that makes it at a path, or None to leave it out.
Making = str | bytes | Callable[[Path], object] | None

GOOD: dict[str, Making] = {
    "pipeline.yaml": PIPELINE,
    "profiles/hardware.yaml": HARDWARE,
    "profiles/models/all.csv": HEADER + ROWS,
    "trace.csv": TRACE,
}
PLAN = ("plan", "pipeline.yaml", "--trace", "trace.csv", "--profiles", "profiles", "--no-replay")


@dataclass(frozen=True)
class Case:
    """One broken input.

    Attributes
    ----------
    name : str
    said : tuple of str
        What the message must hold: file, place, remedy.
    files : dict
        What differs from the good files.
    arguments : tuple of str
    usage : bool
        Whether the command line itself is at fault: the message is then the parser's, and there is no JSON document.
    """

    name: str
    said: tuple[str, ...]
    files: dict[str, Making] = field(default_factory=dict)
    arguments: tuple[str, ...] = PLAN
    usage: bool = False


def lay_out(folder: Path, files: dict[str, Making]) -> None:
    """Make the good files, with the given ones in their place."""
    for name, making in {**GOOD, **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(making, str):
            path.write_bytes(making.encode())
        elif isinstance(making, bytes):
            path.write_bytes(making)
        elif making is not None:
            making(path)
