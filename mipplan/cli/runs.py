"""Reading what the commands about running systems are given: logs, clocks, endpoints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import mipplan as mp
from mipplan.cli.inputs import pairs_of, seconds_of
from mipplan.core import NS_PER_S, Fault, Faults, InputError, counted
from mipplan.documents import files_in, is_folder


def log_files(logs: Iterable[str]) -> dict[str, str | Path]:
    """Say of logs which one each is, for `check_apart`; of folders their files, as these are what is read."""
    files: dict[str, str | Path] = {}
    for log in logs:
        if is_folder(log):
            files |= {f"log {file}": file for file in files_in(log, ".parquet")}
        else:
            files[f"log {log}"] = log
    return files


def shifts_of(given: Iterable[str]) -> dict[str, int]:
    """Read HOST=TIME pairs; a time may be negative here."""
    shifts: dict[str, int] = {}
    for host, text in pairs_of("--shift", "HOST=TIME such as gpu1=-12ms", given).items():
        sign = -1 if text.startswith("-") else 1
        try:
            shifts[host] = sign * round(seconds_of("--shift", text.removeprefix("-")) * NS_PER_S)
        except InputError as error:
            raise InputError.one(f"--shift {host}", error.faults[0].message) from None
    return shifts


def factor_of(text: str) -> float:
    """Read 2x, or 2."""
    try:
        factor = float(text.strip().removesuffix("x"))
    except ValueError:
        factor = 0.0
    if not factor > 0:
        raise InputError.one("--scale", f"expected a multiple such as 2x, found {text!r}")
    return factor


def endpoints_of(given: Sequence[str], plan: mp.Plan | None) -> dict[str, list[str]]:
    """Read ``STAGE=URL``; there must be one for every replica, and may be more for those that are added later."""
    urls: dict[str, list[str]] = {}
    faults = Faults()
    for text in given:
        stage, _, url = text.partition("=")
        if not url or (plan is not None and stage not in plan.choices):
            faults.add(Fault("--endpoint", f"expected STAGE=URL with a stage of the plan, found {text!r}"))
        urls.setdefault(stage, []).append(url)
    for stage, choice in (plan.choices if plan is not None and given else {}).items():
        if (found := len(urls.get(stage, ()))) < choice.replicas:
            faults.add(
                Fault("--endpoint", f"{stage} has {counted(choice.replicas, 'replica')}, found {found}")
            )
    faults.check()
    return urls
