"""Reading traffic: traces, as plans were made for them, and the logs and clocks of what ran."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import typer

import mipplan as mp
from mipplan.cli import config, flags
from mipplan.cli.inputs import optional_seconds, read_pairs, seconds_of
from mipplan.core import NS_PER_S, Fault, Faults, InputError, Taken, listed
from mipplan.documents import files_in, is_folder, mode_of, open_file, shipped_path

#: Options of how a trace is read, by their names in Python.
READING = ("seed", "expand", "spread", "start", "end")


def reading(
    expand: flags.Expand = None,
    spread: flags.Spread = None,
    start: flags.From = None,
    end: flags.To = None,
) -> dict[str, Any]:
    """Check how a trace is to be read, as options say; return what `mp.Trace.read` is told of it."""
    faults = Faults()
    if spread not in (None, "uniform"):
        faults.add(Fault("--spread", f"expected uniform, found {spread!r}"))
    if spread is not None and expand is not None:
        faults.add(Fault("--spread", "does not go with --expand: counts have no time stamps"))
    start_s, end_s = (faults.take(partial(moment_of, *at)) for at in (("--from", start), ("--to", end)))
    faults.check()
    return {"expand": expand, "start_s": start_s.value, "end_s": end_s.value}


def read_trace(file: str, seed: int, **placed: str | None) -> mp.Trace:
    """Read a trace file, or the shipped trace of that name, by the options of `reading`.

    `seed` places the arrivals that are expanded or spread.
    """
    faults = Faults()
    how = faults.take(lambda: reading(**placed))
    faults.take(lambda: open_file(shipped_path("traces", file)).close() if faults else None)
    faults.check()
    trace = mp.Trace.read(file, seed=seed, **how.value)
    return trace if placed.get("spread") is None else trace.spread(seed)


#: Gives a command the options of `reading`, to hand on.
placing = flags.options_of(reading, last=True)


def seed_of(asked: Taken[Any] | None, seed: int | None) -> int:
    """Return the seed that was given, else that of what is asked about if it is a plan that could be read, else 0."""
    return seed if seed is not None else getattr(asked.value if asked else None, "seed", 0)


def single(faults: Faults, files: Sequence[str]) -> str:
    """Return the trace of a command that takes one; that there are several is a fault."""
    if len(files) > 1:
        faults.add(Fault("--trace", f"takes one trace here, found {len(files)}: {listed(files)}"))
    return files[-1]


def read_traces(files: Sequence[str], seed: int, **placed: Any) -> list[mp.Trace]:
    """Read several trace files as `read_trace` does, with every fault of all of them."""
    faults = Faults()
    read = [
        faults.take(
            partial(read_trace, file, seed, **placed | expansion_of(file, files, placed.get("expand")))
        )
        for file in files
    ]
    faults.check()
    return [trace.value for trace in read]


def expansion_of(file: str, files: Sequence[str], expand: str | None) -> dict[str, str | None]:
    """Return how one of several files is expanded: counts as asked, arrivals not at all.

    Where no file holds counts, all are read as asked, and refused.
    """
    if expand is None or len(files) == 1:
        return {"expand": expand}
    counts = [_may_hold_counts(one) for one in files]
    return {"expand": expand if counts[files.index(file)] or not any(counts) else None}


def _may_hold_counts(file: str) -> bool:
    """Whether a file does, or does not say: a pipe can be read only once, and what is wrong is told when it is read."""
    from mipplan.trace import holds_counts

    try:
        return stat.S_ISFIFO(mode_of(file) or 0) or holds_counts(shipped_path("traces", file))
    except InputError:
        return True


def read_if_given(
    context: typer.Context, flag: str, file: str | None, seed: int, **placed: Any
) -> mp.Trace | None:
    """Read a trace as `read_trace` does if one was given with `flag`, else refuse options that say how to."""
    from mipplan.core import check_seed

    if file is None:
        config.check_given(context, dict.fromkeys(READING, f"goes with {flag}"))
        return None
    check_seed(seed)
    return read_trace(file, seed, **placed)


def by_place(files: Sequence[str]) -> dict[str, str]:
    """Say of several trace files which one each is."""
    return {"trace" if number == 1 else f"{number}. trace": file for number, file in enumerate(files, 1)}


def moment_of(flag: str, text: str | None) -> float | str | None:
    """Read a moment of a trace: seconds, or a date or time of day, which the trace itself must place."""
    from mipplan.trace import is_moment, moment_ns

    if text is None or not is_moment(text):
        return optional_seconds(flag, text)
    moment_ns(flag, text, 0)
    return text


def check_beginning(file: str) -> None:
    """Find out with everything else whether a trace to be streamed begins as one; a pipe can be read only once."""
    from mipplan.trace import read_pieces

    if not stat.S_ISFIFO(mode_of(file) or 0):
        next(read_pieces(file), None)


def log_files(logs: Iterable[str]) -> dict[str, str | Path]:
    """Say of logs which one each is, for `check_apart`; of folders their files, as these are what is read.

    Raises `InputError` for pipes: the kind of a log is told by its first bytes, and then it is read from the start.
    """
    faults, files = Faults(), dict[str, str | Path]()
    for log in logs:
        if is_folder(log):
            files |= {f"log {file}": file for file in files_in(log, ".parquet")}
        elif stat.S_ISFIFO(mode_of(log) or 0):
            faults.add(Fault(log, "is a pipe, and a log is read more than once: write it to a file first"))
        else:
            files[f"log {log}"] = log
    faults.check()
    return files


def shifts_of(given: Iterable[str]) -> dict[str, int]:
    """Read HOST=TIME pairs; a time may be negative here."""

    def shift(host: str, text: str) -> int:
        sign = -1 if text.startswith("-") else 1
        try:
            return sign * round(seconds_of("--shift", text.removeprefix("-")) * NS_PER_S)
        except InputError as error:
            raise InputError.one(f"--shift {host}", error.faults[0].message) from None

    return read_pairs("--shift", "HOST=TIME such as gpu1=-12ms", given, shift)


def factor_of(text: str) -> float:
    """Read 2x, or 2."""
    try:
        factor = float(text.strip().removesuffix("x"))
    except ValueError:
        factor = 0.0
    if not factor > 0:
        raise InputError.one("--scale", f"expected a multiple such as 2x, found {text!r}")
    return factor
