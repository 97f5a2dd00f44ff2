"""Reading what the commands are given: files, shipped names, times; every fault of all inputs comes at once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import mipplan as mp
from mipplan import plots, reporting
from mipplan.core import NS_PER_S, Fault, Faults, InputError, Taken, parse_duration_ns
from mipplan.documents import (
    files_in,
    is_file,
    output_problem,
    read_bytes,
    real_path,
    shipped_path,
)

if TYPE_CHECKING:
    from mipplan.importers import Share
    from mipplan.pipeline import ServerTime

#: A bare number given with one of these flags means seconds rather than milliseconds.
_COARSE = (
    "--time-limit",
    "--total-time",
    "--timeout",
    "--from",
    "--to",
    "--windows",
    "--period",
    "--activation-delay",
    "--start-delay",
    "--bin",
)
PAGE_FILES = (".html", ".htm")
#: What the files of some flags may end in. The rooms that say it are loaded where such a file is asked for.
_ENDINGS: dict[str, Callable[[], tuple[str, ...]]] = {
    "--plot": lambda: plots.FIGURE_FILES,
    "--report": lambda: PAGE_FILES,
    "--schedule": lambda: (".csv",),
    "--latencies": lambda: reporting.LATENCY_FILES,
}
ValueT = TypeVar("ValueT")
_BARE_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{0,12})?", re.ASCII)
_LONG_UNITS = re.compile(r"(?P<number>[0-9]{1,9}(\.[0-9]{0,9})?) *(?P<unit>m|h)(in|ins|r|rs)?", re.ASCII)


def read_pipeline(name: str) -> mp.Pipeline:
    """Read a pipeline file, or the shipped pipeline of that name."""
    return mp.Pipeline.read(name)


def is_plan(name: str) -> bool:
    """Whether a file is a plan rather than a pipeline: by what it holds, or by its ending where that cannot be told."""
    by_name = Path(name).suffix.lower() == ".json"
    try:
        content = json.loads(read_bytes(name)) if is_file(name) else None  # a pipe can be read only once
    except (InputError, ValueError, RecursionError):
        return by_name  # whoever reads it says what is wrong
    if not isinstance(content, dict):
        return by_name
    return "choices" in content or (by_name and "stages" not in content)


def read_profiles(
    folder: Path | None, latency: str | None = None, pipeline: mp.Pipeline | None = None
) -> mp.Profiles:
    """Read a profile folder; the shipped one by default. Its models in the pipeline serve by the column asked for."""
    columns = None if latency is None else latency_of(latency)
    profiles = mp.Profiles.default() if folder is None else mp.Profiles.read(folder)
    if columns is None or pipeline is None:
        return profiles
    return profiles.using(columns, {model for stage in pipeline.stages.values() for model in stage.models})


def load_plan(file: Path, latency: str | None = None) -> mp.Plan:
    """Read a plan file, with the latency column asked for in the place of its own."""
    columns = None if latency is None else latency_of(latency)
    plan = mp.Plan.load(file)
    return plan if columns is None else plan.using(columns)


def latency_of(text: str) -> dict[str, str]:
    """Read which latency column counts: ``p99``, or by model: ``p99,resize=table``."""
    columns: dict[str, str] = {}
    for part in names_in(text):
        model, _, column = part.rpartition("=")
        if model in columns:
            raise InputError.one("--latency", f"{model or 'the column of all models'} is given twice")
        columns[model] = column
    return columns


def noise_of(text: str | None) -> mp.ServiceNoise | None:
    """Read where random service times come from: ``p99``, or a profile folder with records of measurements."""
    if text is None:
        return None
    if text == "p99":
        return mp.ServiceNoise.from_p99()
    from mipplan.profiling import read_samples

    return mp.ServiceNoise.from_samples(read_samples(text))


def optional_seconds(flag: str, text: str | None) -> float | None:
    """Read the time given with a flag; None if the flag was not given."""
    return None if text is None else seconds_of(flag, text)


def slo_of(text: str | None) -> dict[str, str] | float | None:
    """Read the objective given with ``--slo``: seconds, or quantiles with their limits as in a pipeline file."""
    from mipplan.core import check_slo

    if text is None or "=" not in text:
        return None if text is None else check_slo(seconds_of("--slo", text)) / NS_PER_S
    limits: dict[str, str] = {}
    for part in text.split(","):
        name, _, limit = part.partition("=")
        if name.strip() in limits:
            raise InputError.one("--slo", f"{name.strip()} is given twice")
        limits[name.strip()] = limit.strip()
    from mipplan.pipeline import read_slo

    try:
        read_slo(limits)
    except ValueError as error:
        raise InputError.one("--slo", str(error)) from None
    return limits


def asked_of(
    pipeline: mp.Pipeline, slo: dict[str, str] | float | None, per_s: float | None, share: float | None
) -> tuple[mp.Pipeline, float | None]:
    """Return a pipeline with the objective and windows given with flags, and the one limit if one was given."""
    if isinstance(slo, dict):
        return pipeline.asking(slo, per_s=per_s, share=share), None
    return pipeline.asking(per_s=per_s, share=share), slo


def seconds_of(flag: str, text: str) -> float:
    """Read the time given with a flag."""
    try:
        return parse_duration_ns(text) / NS_PER_S
    except ValueError as error:
        message = str(error)
        if flag in _COARSE and _BARE_NUMBER.fullmatch(text.strip()):  # nobody means 5ms here
            message = f"{text.strip()!r} has no unit: write {text.strip()}s"
        elif match := _LONG_UNITS.fullmatch(text.strip()):
            unit = "min" if match["unit"] == "m" else "h"
            meant = f"{match['number']}{unit}"
            if meant != text.strip():  # what is too long is written as it should be
                message = f"{text.strip()!r} is not accepted: write {meant}"
        raise InputError.one(flag, message) from error


def names_in(text: str) -> list[str]:
    """Read names with commas between."""
    return [name.strip() for name in text.split(",")]


def device_limits(given: Iterable[str]) -> dict[str, int]:
    """Read HARDWARE=NUMBER pairs."""

    def number(name: str, text: str) -> int:
        if not text.isdecimal() or len(text) > 40:
            found = f"{name}={text[:60]}"
            raise InputError.one("--limit", f"expected HARDWARE=NUMBER such as t4=40, found {found!r}")
        return int(text)

    return read_pairs("--limit", "HARDWARE=NUMBER such as t4=40", given, number)


def pairs_of(flag: str, form: str, given: Iterable[str]) -> dict[str, str]:
    """Read NAME=VALUE pairs; each name once."""
    return read_pairs(flag, form, given, lambda _, value: value)


def read_pairs(
    flag: str, form: str, given: Iterable[str], read: Callable[[str, str], ValueT]
) -> dict[str, ValueT]:
    """Read NAME=VALUE pairs, each name once, and what stands in each; raises `InputError` with all faults."""
    pairs, faults = dict[str, Taken[ValueT]](), Faults()
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            faults.add(Fault(flag, f"expected {form}, found {text!r}"))
        elif name in pairs:
            faults.add(Fault(flag, f"{name} is given twice"))
        else:
            pairs[name] = faults.take(partial(read, name, value))
    faults.check()
    return {name: taken.value for name, taken in pairs.items()}


def axis_sizes(given: Iterable[str]) -> dict[str, int]:
    """Read NAME=SIZE pairs."""
    sizes: dict[str, int] = {}
    faults = []
    for text in given:
        name, equals, size = text.rpartition("=")
        if not equals or not size.isdecimal() or len(size) > 9:
            faults.append(Fault("--axis", f"expected NAME=SIZE such as seq_len=128, found {text[:80]!r}"))
        else:
            sizes[name] = int(size)
    InputError.raise_if(faults)
    return sizes


def names_given(flag: str, given: Iterable[str]) -> dict[str, str]:
    """Read NAME, or THEIRS=NAME pairs, into names wanted by those in a file; a lone name stands under ``""``."""
    names: dict[str, str] = {}
    for text in given:
        theirs, _, ours = text.rpartition("=")
        if not ours or theirs in names:
            expected = "expected one NAME, or THEIRS=NAME for each name in the file"
            raise InputError.one(flag, f"{expected}, found {', '.join(given)}")
        names[theirs] = ours
    return names


def shares_of(given: Iterable[str]) -> dict[str, Share]:
    """Read NAME=INSTANCE or NAME=INSTANCE/PARTS."""
    from mipplan.importers import Share

    def share(_: str, text: str) -> Share:
        instance, slash, parts = text.rpartition("/")
        if not slash:
            return Share(text)
        if instance and parts.isdecimal() and len(parts) <= 9 and 1 <= int(parts) <= 1_000:
            return Share(instance, int(parts))
        message = f"expected NAME=INSTANCE/PARTS such as a100=p4d.24xlarge/8, found {text[:80]!r}"
        raise InputError.one("--hardware", message)

    return read_pairs("--hardware", "NAME=INSTANCE such as t4=g4dn.xlarge", given, share)


def arrival_curve(buckets: Iterable[str]) -> mp.ArrivalCurve | None:
    """Read BURST:RATE pairs; None if there are none."""
    pairs: list[tuple[float, float]] = []
    for text in buckets:
        burst, _, rate = text.partition(":")
        try:
            pairs.append((float(burst), float(rate)))
            mp.ArrivalCurve.token_bucket(*pairs[-1])
        except ValueError as error:
            message = f"expected BURST:RATE in queries and queries/s, such as 20:150, found {text!r}"
            raise InputError.one("--envelope", message) from error
    return mp.ArrivalCurve(tuple(pairs)) if pairs else None


def share_of(flag: str, text: str | None) -> float | None:
    """Read a share, such as 10% or 0.1, exactly: 0.7 / 100 is below 0.7%. None if the flag was not given."""
    if text is None:
        return None
    number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        return float(Fraction(str(float(number))) / 100) if percent else float(number)
    except ValueError as error:
        raise InputError.one(flag, f"expected a share such as 10% or 0.1, found {text!r}") from error


def axis_value(flag: str, text: str | None, unit: str) -> float | None:
    """Read a value of a frontier's axis, in seconds, shares, $/h or factors; None if the flag was not given."""
    if text is None:
        return None
    if unit == "s":
        return seconds_of(flag, text)
    if unit == "share":
        return share_of(flag, text)
    number = text.strip().removeprefix("$") if unit == "$/h" else text.strip().removesuffix("x")
    try:
        return float(number)
    except ValueError:
        expected = "$/h such as 0.5" if unit == "$/h" else "a factor such as 2x"
        raise InputError.one(flag, f"expected {expected}, found {text!r}") from None


def run_class(text: str) -> mp.RunClass:
    """Read SERVICE:DELAY:TIES."""
    from mipplan.result import Ties

    try:
        service, delay, ties = text.split(":")
        return mp.RunClass(float(service), float(delay), Ties(ties))
    except ValueError as error:
        message = f"expected SERVICE:DELAY:TIES, such as 0.9:1:settled, found {text!r}"
        raise InputError.one("--runs", message) from error


def check_dispatch(word: str | None) -> None:
    """Find out with everything else whether there is such a law, even if what it is for cannot be read."""
    from mipplan.pipeline import check_law

    if word is not None:
        check_law(word)


def check_system(text: str | None) -> None:
    """Find out with everything else whether there is such a serving system."""
    from mipplan.pipeline import read_system

    if text is not None:
        read_system(text, "--system")


def stagger_of(text: str | None) -> float | None:
    """Read what was given with --stagger; None if nothing was."""
    from mipplan.pipeline import STAGGER

    return _server_time(STAGGER, text)


def window_of(text: str | None) -> float | None:
    """Read what was given with --window; None if nothing was."""
    from mipplan.pipeline import WINDOW

    return _server_time(WINDOW, text)


def _server_time(time: ServerTime, text: str | None) -> float | None:
    seconds = optional_seconds(f"--{time.key}", text)
    if seconds is not None:
        time.check(seconds, f"--{time.key}")
    return seconds


def check_out(flag: str, out: Path | None, endings: tuple[str, ...] | None = None) -> None:
    """Find out before the work that a file could not be written; its endings are those of the flag, or as said."""
    problem = None if out is None else output_problem(out)
    if out is not None and endings is None and flag in _ENDINGS:
        endings = _ENDINGS[flag]()
    if out is not None and endings and out.suffix.lower() not in endings:
        problem = f"expected a name that ends in {', '.join(endings[:-1]) + ' or ' if endings[1:] else ''}{endings[-1]}"
    if problem is not None:
        raise InputError.one(f"{flag} {out}", problem)


def check_files(
    read: Mapping[str, str | Path | None], written: Mapping[str, Path | None], profiles: Path | None = None
) -> None:
    """Find out what is wrong with files to write, flag by flag: see `check_out`, and else `check_apart`."""
    faults, taken = Faults(), dict(_taken(read, written, profiles))
    for flag, path in written.items():
        if faults.take(partial(check_out, flag, path)) and flag in taken:
            faults.add(taken[flag])
    faults.check()


def check_apart(read: Mapping[str, str | Path | None], written: Mapping[str, Path | None]) -> None:
    """Refuse to write over what is read (by what it is), or one file twice (by flag)."""
    InputError.raise_if(fault for _, fault in _taken(read, written, None))


def _taken(
    read: Mapping[str, str | Path | None], written: Mapping[str, Path | None], profiles: Path | None
) -> Iterator[tuple[str, Fault]]:
    owners = {real_path(_shipped(what, path)): what for what, path in read.items() if path is not None}
    if profiles is not None:
        tables = profiles / "hardware.yaml", *files_in(profiles / "models", ".csv")
        owners |= {real_path(path): "table of profiles" for path in tables}
    reasons = {path: f"is the {what} that is read" for path, what in owners.items()}
    for flag, path in written.items():
        mine = f"is written by {flag} already"
        if path is not None and (reason := reasons.setdefault(real_path(path), mine)) != mine:
            yield flag, Fault(f"{flag} {path}", f"{reason}; name another file")


def _shipped(what: str, path: str | Path) -> str | Path:
    """Return the shipped file that is meant, if one is."""
    kind = {"pipeline": "pipelines", "trace": "traces", "sample": "traces"}.get(what.split()[-1])
    with suppress(InputError):  # what there is not is told where it is read
        return path if kind is None else shipped_path(kind, str(path))
    return path


def replay_samples(
    plan: mp.Plan, traces: Sequence[mp.Trace]
) -> tuple[mp.ReplayResult | None, dict[str, int]]:
    """Replay a plan on every sample it was made for: the worst replay, and what each of several comes to, by name.

    Nothing is replayed of a plan without choices.
    """
    from mipplan.tokens import find_samples

    worst, worst_ns, found = None, -1, {}
    for sample in find_samples(plan.pipeline, traces, plan.seed, plan.seeds) if plan.choices else ():
        replayed = mp.replay(plan, sample.trace, seed=sample.seed)
        found[sample.name] = replayed.objective_ns(plan.objective)
        if found[sample.name] > worst_ns:
            worst, worst_ns = replayed, found[sample.name]
    return worst, found if len(found) > 1 else {}
