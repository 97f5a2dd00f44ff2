"""From logs to what a plan is made of: a profile folder, the delays between stages, and an arrival trace."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from mipplan.core import (
    NS_PER_MS,
    NS_PER_S,
    Fault,
    Faults,
    InputError,
    Int64,
    Printable,
    Summary,
    check_kinds,
    check_one_of,
    format_duration,
    is_finite,
    name_problem,
    shown,
)
from mipplan.documents import AnyPath, folder_problem, write_text_atomically
from mipplan.logs import RunLog
from mipplan.observing.hops import hops_of
from mipplan.observing.reading import came_twice, entries_of, is_tritons, run_of
from mipplan.observing.stage_batches import batches_of
from mipplan.profiling import QuantileRange, quantile_range
from mipplan.result import Plan

#: What `latency_ms` may hold, by quantile.
_LATENCIES = {"p50": 0.5, "p99": 0.99}


@dataclass(frozen=True)
class ObserveParams:
    """What is taken for known."""

    confidence: float = 0.95
    fewest: int = 10
    """Batch sizes that were seen less often do not get into a table, unless a stage has no others."""


@dataclass(frozen=True)
class ObservedBatch:
    """Batches of one size at a stage."""

    stage: str
    batch: int
    count: int
    p50: QuantileRange
    p99: QuantileRange
    written: bool  # Whether it is a row of the table.


@dataclass(frozen=True)
class ObservedHop:
    """The way from one stage to the next; the sender stands at both ends."""

    above: str
    below: str
    count: int
    p50: QuantileRange
    p99: QuantileRange


@dataclass(frozen=True, eq=False, repr=False)
class LogObservation(Printable):
    """What logs say.

    Attributes
    ----------
    batches : tuple of ObservedBatch
        By stage and batch size.
    hops : tuple of ObservedHop
    arrival_ns : int64, shape (queries,)
        When queries were sent, or, without a log of them, when they reached their first stage; the first is at 0.
    failed : mapping of str to int
        Batches that failed, by stage.
    unknown : tuple of str
        What the log cannot tell.
    written : tuple of str
        Files.
    """

    batches: tuple[ObservedBatch, ...]
    hops: tuple[ObservedHop, ...]
    arrival_ns: Int64
    failed: Mapping[str, int]
    unknown: tuple[str, ...]
    written: tuple[str, ...] = ()

    def _summary(self) -> Summary:
        hops = (f"{hop.above} → {hop.below} P50 {format_duration(hop.p50.value_ns)}" for hop in self.hops)
        return Summary(
            f"Observed {self.arrival_ns.size:,} queries",
            figures=(("hops", ", ".join(hops)), *(("unknown", text) for text in self.unknown)),
            headings=("stage", ">batch", ">seen", ">P50", ">P99"),
            rows=(
                (
                    one.stage,
                    str(one.batch),
                    f"{one.count:,}",
                    format_duration(one.p50.value_ns),
                    format_duration(one.p99.value_ns),
                )
                for one in self.batches
            ),
            count=len(self.batches),
            what="batch sizes",
        )

    def _line(self) -> str:
        return f": {self.arrival_ns.size} queries, {len(self.batches)} batch sizes, {len(self.hops)} hops"


def check_observe(
    out: AnyPath | None, has_plan: bool, *, hardware: str | None, usd_per_hour: float | None, latency: str
) -> None:
    """Find out what is wrong with arguments of `observe` before any log is read.

    Raises `InputError` with every fault.
    """
    faults = Faults()
    faults.take(lambda: check_one_of("latency", latency, _LATENCIES))
    if isinstance(out, str | os.PathLike):
        faults.add(*(Fault("out", f"{out} {why}") for why in [folder_problem(out, is_new=True)] if why))
    elif out is not None:
        faults.add(Fault("out", f"expected the name of a folder, found {shown(out)}"))
    if has_plan and (hardware is not None or usd_per_hour is not None):
        faults.add(Fault("hardware", "does not go with a plan, which says what its stages run on"))
    if not has_plan and out is not None:
        problem = "say what it ran on, or give the plan" if hardware is None else name_problem(hardware)
        if problem is not None:
            faults.add(Fault("hardware", problem))
    if usd_per_hour is not None and (not is_finite(usd_per_hour) or not usd_per_hour > 0):
        faults.add(Fault("usd_per_hour", f"expected dollars above 0, found {shown(usd_per_hour)}"))
    faults.check()


def observe(
    *logs: AnyPath | RunLog,
    out: AnyPath | None = None,
    plan: Plan | None = None,
    hardware: str | None = None,
    usd_per_hour: float | None = None,
    latency: str = "p99",
    shift_ns: Mapping[str, int] | None = None,
    progress: Callable[[str], None] | None = None,
    params: ObserveParams = ObserveParams(),
) -> LogObservation:
    """Read service times, hops and arrivals off logs, and write them as files that a plan can be made of.

    Parameters
    ----------
    *logs : path or RunLog
        As for `read_log`.
    out : path, optional
        A new folder: a profile folder (`models/*.csv`, and `hardware.yaml` where prices are known), `hops.csv`, and
        `arrivals.csv`, a trace.
    plan : Plan, optional
        What was served: it says which model and hardware each stage is, which stages feed which, and the prices.
    hardware : str, optional
        Without a plan: what all of it ran on. Models are called as their stages then.
    usd_per_hour : float, optional
        With `hardware`: what one device costs.
    latency : {"p99", "p50"}
        What `latency_ms` holds; both quantiles stand beside it.
    shift_ns
        As for `read_log`.
    progress : callable, optional
        Told what is being done.
    params : ObserveParams

    Returns
    -------
    LogObservation

    Raises
    ------
    InputError
        With every fault of the arguments, or of the logs.
    """
    say = progress or (lambda _line: None)
    faults = Faults()
    about: dict[str, Any] = {"hardware": hardware, "usd_per_hour": usd_per_hour, "latency": latency}
    faults.take(lambda: check_observe(out, plan is not None, **about))
    faults.take(lambda: None if plan is None else check_kinds(plan=(plan, Plan)))
    if not isinstance(params, ObserveParams):
        faults.add(Fault("params", f"expected ObserveParams, found {shown(params)}"))
    say("reading")
    read = faults.take(lambda: run_of(logs, shift_ns, plan if isinstance(plan, Plan) else None))
    faults.check()
    run, folder = read.value, None if out is None else Path(out)
    if not len(run.stages):
        raise InputError.one("logs", "hold no row of a stage: service times and hops are in the server's log")
    say("looking at batches and hops")
    batches = _batches(run, params)
    edges = None if plan is None else [(edge.parent, edge.child) for edge in plan.pipeline.edges]
    hops = tuple(
        ObservedHop(*ends, times.size, *_ranges(times, params.confidence))
        for ends, times in hops_of(run.queries, run.stages, edges).items()
    )
    found = LogObservation(
        batches,
        hops,
        arrivals_of(run),
        {stage: seen.failed for stage, seen in batches_of(run.stages).items() if seen.failed},
        tuple(_unknown(run, batches, plan, params)),
    )
    if folder is None:
        return found
    say(f"writing {folder}")
    written = _Folder(folder, plan, hardware, usd_per_hour, latency).write(found, run)
    return LogObservation(**{**vars(found), "written": tuple(written)})


def _ranges(times_ns: Int64, confidence: float) -> tuple[QuantileRange, QuantileRange]:
    return quantile_range(times_ns, 0.5, confidence), quantile_range(times_ns, 0.99, confidence)


def _batches(run: RunLog, params: ObserveParams) -> tuple[ObservedBatch, ...]:
    found = []
    for stage, seen in batches_of(run.stages).items():
        counts = {int(size): int(np.count_nonzero(seen.size == size)) for size in seen.sizes}
        enough = {size for size, count in counts.items() if count >= params.fewest} or set(counts)
        for size, count in counts.items():
            ranges = _ranges(seen.service_ns[seen.size == size], params.confidence)
            found.append(ObservedBatch(stage, size, count, *ranges, written=size in enough))
    return tuple(found)


def arrivals_of(run: RunLog) -> Int64:
    """Return when queries were sent, or reached their first stage, from 0 on, shape (queries,)."""
    times = np.sort(entries_of(run)[1])
    since_first: Int64 = times - times[:1]
    return since_first


def _unknown(
    run: RunLog, batches: tuple[ObservedBatch, ...], plan: Plan | None, params: ObserveParams
) -> list[str]:
    """Say what the log cannot tell."""
    told = []
    for stage in run.stages.stages:
        here = [one for one in batches if one.stage == stage]
        written = [one.batch for one in here if one.written]
        cap = max(written, default=0) if plan is None else plan.choices[stage].batch
        unseen = sorted(set(range(1, cap + 1)) - {one.batch for one in here})
        if unseen:
            told.append(f"{stage}: no batch of {_numbers(unseen)} was seen")
        rare = [one for one in here if not one.written]
        if rare:
            sizes = _numbers([one.batch for one in rare])
            told.append(
                f"{stage}: batches of {sizes} were seen less than {params.fewest} times: not in the table"
            )
        if cap > max(written, default=0):
            told.append(
                f"{stage}: the table ends at batches of {max(written, default=0)}, the plan's cap is {cap}: "
                "drive at a higher rate to see full batches"
            )
        vague = [one.batch for one in here if one.written and one.p99.high_ns is None]
        if vague:
            told.append(f"{stage}: too few batches of {_numbers(vague)} for an upper end of P99")
    if not len(run.queries):
        told.append(
            "no log of queries: ways from and to the sender are unknown, arrivals are those at the first stages"
        )
        entry = run.stages.stages[0]
        if plan is None and (again := came_twice(run, entry)).size:
            what = f"{again.size:,} queries have several tokens at {entry}, and count as one arrival each"
            told.append(f"{what}: give the plan to see whether these are several runs")
        numbers = np.unique(run.stages.query)
        first, last = int(numbers[0]), int(numbers[-1])
        lacking = last - first + 1 - numbers.size
        if 0 < lacking < numbers.size:  # else they are no numbers in a row, but names
            where = f"{lacking:,} numbers of queries between {first} and {last} are in no row"
            told.append(f"{where}: these were turned away, or the log has gaps")
    if is_tritons(run):
        told.append("Triton's traces hold whole batches only if every request was traced (rate=1)")
    if plan is not None:
        silent = [stage for stage in plan.choices if stage not in run.stages.stages]
        if silent:
            told.append(f"no row of {', '.join(silent)}")
    return told


def _numbers(values: list[int]) -> str:
    """Write ascending numbers, runs of them as 5–7."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)


@dataclass(frozen=True)
class _Folder:
    """Where an observation is written to."""

    root: Path
    plan: Plan | None
    hardware: str | None
    usd_per_hour: float | None
    latency: str

    def write(self, found: LogObservation, run: RunLog) -> list[str]:
        """Write everything and return the files."""
        try:
            (self.root / "models").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError.one("out", f"{self.root}: {error.strerror or error}") from None
        day = datetime.fromtimestamp(int(run.stages.arrival_ns.min()) / NS_PER_S, UTC).date().isoformat()
        targets = sorted({source.target for source in run.sources if source.target})
        # The clock of Triton's traces begins with its machine: the day is known beside the sender's log alone.
        when = f"observed {day}" if len(run.queries) or not is_tritons(run) else "observed"
        origin = when + (f" at {', '.join(targets)}" if targets else "")
        texts: dict[str, str] = {}
        tables: dict[tuple[str, str], dict[int, ObservedBatch]] = {}
        for one in found.batches:
            if one.written:
                # Stages of one model on one hardware share a table: of each size the one seen more often.
                rows = tables.setdefault(self._named(one.stage), {})
                rows[one.batch] = max(rows.get(one.batch, one), one, key=lambda seen: seen.count)
        by_file: dict[str, list[list[object]]] = {}
        for (model, hardware), rows in tables.items():
            for batch, one in sorted(rows.items()):
                p50, p99 = one.p50.value_ns / NS_PER_MS, one.p99.value_ns / NS_PER_MS
                latency = p99 if self.latency == "p99" else p50
                source = f"{origin}, stage {one.stage}, {one.count:,} batches, {self.latency.upper()}"
                # Models whose names differ only in signs that no file is to have share a file.
                name = re.sub(r"[^\w.-]+", "_", model).strip(".") or "model"
                by_file.setdefault(name, []).append([model, hardware, batch, latency, p50, p99, source])
        heading = ["model", "hardware", "batch", "latency_ms", "latency_p50_ms", "latency_p99_ms", "source"]
        for name, lines in by_file.items():
            texts[f"models/{name}.csv"] = _csv(heading, lines)
        prices = self._hardware_text({hardware for _, hardware in tables})
        if prices:
            texts["hardware.yaml"] = prices
        texts["hops.csv"] = _csv(
            ["from", "to", "count", "p50_ms", "p99_ms"],
            [
                [hop.above, hop.below, hop.count, hop.p50.value_ns / NS_PER_MS, hop.p99.value_ns / NS_PER_MS]
                for hop in found.hops
            ],
        )
        texts["arrivals.csv"] = "arrival_s\n" + "".join(
            f"{at / NS_PER_S:.9f}\n" for at in found.arrival_ns.tolist()
        )
        for name, text in texts.items():
            write_text_atomically(self.root / name, text)
        return [str(self.root / name) for name in texts]

    def _named(self, stage: str) -> tuple[str, str]:
        """Model and hardware of a stage."""
        if self.plan is None:
            return stage, self.hardware or ""
        return self.plan.pipeline.stages[stage].model, self.plan.choices[stage].hardware

    def _hardware_text(self, names: set[str]) -> str:
        """Write prices, as far as they are known."""
        entries: dict[str, dict[str, object]] = {}
        if self.plan is not None:
            devices = self.plan.profiles.hardware
            entries = {name: devices[name].to_document() for name in sorted(names)}
        elif self.usd_per_hour is not None:
            entries = {
                name: {"usd_per_hour": self.usd_per_hour, "source": "given with the log"} for name in names
            }
        return "".join(
            f"{_quoted(name)}:\n" + "".join(f"  {key}: {_quoted(value)}\n" for key, value in entry.items())
            for name, entry in entries.items()
        )


def _quoted(value: object) -> str:
    """Write a value for YAML, which knows no pairs of halves, as JSON has them for a sign beyond U+FFFF."""
    return json.dumps(value, ensure_ascii=not str(value).isprintable())


def _csv(heading: list[str], rows: list[list[object]]) -> str:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(heading)
    writer.writerows(rows)
    return stream.getvalue()
