"""What the records beside the tables tell: what is odd in how latencies were measured, and what it may do to a plan.

Also the latencies themselves, for replays that draw from them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mipplan.certificate import certify_stages
from mipplan.core import NS_PER_MS, Fault, Faults, Float64, InputError, format_duration, listed, shown
from mipplan.profiles import LATENCY_COLUMNS, Finding, LatencyTable, Profiles, Severity
from mipplan.profiling.measuring import BatchMeasurement
from mipplan.profiling.record import MeasurementRecord, ProfileFolder
from mipplan.profiling.result import LATENCIES, is_as_written
from mipplan.profiling.sizes import KnownLatency, falls, find_gaps, known_latency
from mipplan.profiling.sizes.question import beyond_theorem
from mipplan.profiling.statistics import quantile_range
from mipplan.result import Guarantee, Plan
from mipplan.trace import Trace


@dataclass(frozen=True)
class RecordLintParams:
    """Beyond what a measurement is called odd."""

    # Disturbed runs that count show the other load as much as the model.
    most_disturbed: float = 0.1
    # Where a third of the runs is left out, the rest may be those that the load left alone for a reason.
    most_left_out: float = 1 / 3
    # Twice the precision that is asked for by default.
    widest_interval: float = 0.1
    # Twice the tolerance that is asked for by default.
    farthest_line: float = 0.1
    # Medians of the first and the last third of the runs further apart than this, and beyond their intervals: nearly
    # never chance, since both intervals would have to miss on opposite sides.
    least_drift: float = 0.05
    drift_confidence: float = 0.99


_PARAMS = RecordLintParams()
_USED = "used as measured"


def examine_records(root: Path, profiles: Profiles) -> tuple[Finding, ...]:
    """Look for what is odd in the records of a profile folder; tables without a record are passed over.

    Parameters
    ----------
    root : Path
        The profile folder.
    profiles : Profiles
        What was read from it.
    """
    found: list[Finding] = []
    for table in profiles.tables.values():
        try:
            record = _record_of(root, table)
        except InputError as error:
            unread = f"its record cannot be read ({error.faults[0]})"
            treatment = "nothing is known of how it was measured"
            found.append(Finding(Severity.WARNING, table.model, table.hardware, (), unread, treatment))
            continue
        if record is not None:
            found += _examined(table, record)
    return tuple(found)


def examine_for_plan(root: Path, profiles: Profiles, plan: Plan, trace: Trace) -> tuple[Finding, ...]:
    """Say whether intervals are too wide for a plan: at their upper ends it would not be certified any more.

    The certificate does not fall if a batch takes longer, so it keeps the objective for all latencies inside the
    intervals if it does for the upper ends. Tables are looked at one by one, with the others as they are, and all at
    once where none alone is too much. Findings are warnings where the plan would not hold, else notes.

    Parameters
    ----------
    root : Path
        The profile folder.
    profiles : Profiles
        What was read from it; a table that the plan uses stands for the plan's own.
    plan : Plan
        With choices.
    trace : Trace
        On which it is certified.

    Raises
    ------
    NoPlanError
        If the plan holds no choices.
    InputError
        If a choice of the plan is impossible with these profiles, or it is not certified on a trace.
    """
    faults = Faults()
    odd = beyond_theorem(plan.require())
    if odd or plan.guarantee is Guarantee.ENVELOPE:
        what = listed(odd or ["guarantee envelope"])
        message = f"the plan has {what}: what its latency is where batches take longer is told for classic certificates"
        faults.add(Fault("for_", message))
    if not isinstance(trace, Trace):
        faults.add(Fault("trace", f"the plan is certified on a trace: which one? (found {shown(trace)})"))
    faults.check()
    sample = trace if plan.headroom == 1.0 else trace.scale(plan.headroom)
    planned = plan.profiles.tables
    measured = {
        key: replace(table, latency=planned[key].latency)
        for key, table in profiles.tables.items()
        if key in planned
    }
    plan = _with_tables(plan, measured)
    raised: dict[tuple[str, str], _Raised] = {}
    for key, cap in _largest_caps(plan).items():
        table = plan.profiles.tables[key]
        try:
            record = _record_of(root, table) if key in profiles.tables else None
        except InputError:  # that it cannot be read is told by `examine_records`
            continue
        if record is not None:
            raised[key] = _raised(table, record, cap)

    def bound_ns(*keys: tuple[str, str]) -> int:
        with_ends = _with_tables(plan, {key: raised[key].table for key in keys})
        return certify_stages(with_ends, sample).bound_ns

    limit_ns, now_ns = plan.objective.deadline_ns, bound_ns()
    found: list[Finding] = []
    bounds_ns = {key: bound_ns(key) for key in raised}
    others = ""
    if len(raised) > 1 and max(bounds_ns.values()) <= limit_ns < (together_ns := bound_ns(*raised)):
        bounds_ns, others = dict.fromkeys(raised, together_ns), ", and of the other tables' at once,"
    if now_ns > limit_ns and not raised:
        limit = format_duration(limit_ns)
        text = f"the plan's certificate is {format_duration(now_ns)}, above the objective of {limit}"
        for key, cap in _largest_caps(plan).items():
            told = _About(plan.profiles.tables[key])
            sizes = [size for size in told.table.batch.tolist() if size <= cap]
            found += told.warn(sizes, text, "plan anew, with these measurements and on this trace")
    for key, one in raised.items():
        is_kept = bounds_ns[key] <= limit_ns
        ends = f"at the upper ends of the intervals at {{sizes}}{one.open_ends}"
        text = (
            f"{ends}{others} the plan's certificate is {format_duration(bounds_ns[key])}, "
            f"{'within' if is_kept else 'above'} the objective of {format_duration(limit_ns)} (as measured "
            f"{format_duration(now_ns)})"
        )
        told = _About(plan.profiles.tables[key])
        if is_kept:
            found += told.note(one.sizes, text, "this table is known well enough for the plan")
        else:
            found += told.warn(one.sizes, text, "measure longer, or plan with a margin")
    return tuple(found)


class _Raised(NamedTuple):
    """A table with the upper ends of its intervals, where a record has any."""

    table: LatencyTable
    sizes: list[int]  # That a plan uses.
    open_ends: str  # Told, where an interval has none.


def _raised(table: LatencyTable, record: MeasurementRecord, cap: int) -> _Raised:
    statistic = table.latency if table.latency in LATENCIES else _statistic(table, record)
    known = _known(table, record, statistic)
    rows = zip(table.batch.tolist(), table.served_ms.tolist(), strict=True)
    slower = [max(value, known[batch].high) if batch in known else value for batch, value in rows]
    column = {LATENCY_COLUMNS[table.latency]: np.array(slower)}
    sizes = [batch for batch in known if batch <= cap]
    without = [
        str(batch)
        for batch in sizes
        if statistic in ("p50", "p99") and getattr(record.batches[batch], statistic).high_ns is None
    ]
    told = f" (too few runs for one at {listed(without)}: the longest run stands for it)" if without else ""
    return _Raised(replace(table, **column), sizes, told)  # type: ignore[arg-type]


def read_samples(folder: str | Path) -> dict[tuple[str, str], dict[int, Float64]]:
    """Read all latencies that were measured into a profile folder, from the records beside its tables.

    Returns
    -------
    dict of (model, hardware) to dict of int to float64
        By batch size, latencies of the whole batch in milliseconds: those that counted, in the order of the runs.

    Raises
    ------
    InputError
        If a file cannot be used, or there is no record.
    """
    profiles, root = Profiles.read(folder), Path(folder)
    samples: dict[tuple[str, str], dict[int, Float64]] = {}
    for key, table in profiles.tables.items():
        record = _record_of(root, table)
        if record is not None:
            found = record.batches.values()
            samples[key] = {one.batch: one.latency_ns / NS_PER_MS for one in found}
    if not samples:
        raise InputError.one(str(folder), "holds no record of a measurement (mipplan profile writes them)")
    return samples


def _largest_caps(plan: Plan) -> dict[tuple[str, str], int]:
    """The largest batch size that a plan uses of each table."""
    caps: dict[tuple[str, str], int] = {}
    for stage, choice in plan.choices.items():
        key = (plan.pipeline.stages[stage].model, choice.hardware)
        caps[key] = max(choice.batch, caps.get(key, 0))
    return caps


def _with_tables(plan: Plan, tables: Mapping[tuple[str, str], LatencyTable]) -> Plan:
    profiles = plan.profiles
    return replace(plan, profiles=Profiles(profiles.hardware, {**profiles.tables, **tables}))


def _record_of(root: Path, table: LatencyTable) -> MeasurementRecord | None:
    """The record of a table, None if there is none or it is that of another model with a similar name."""
    record = ProfileFolder(root, table.model, table.hardware).read_record()
    is_its = record is not None and (record.model, record.hardware) == (table.model, table.hardware)
    return record if is_its else None


def _rows(table: LatencyTable) -> Iterator[tuple[int, float]]:
    return zip(table.batch.tolist(), table.latency_ms.tolist(), strict=True)


def _statistic(table: LatencyTable, record: MeasurementRecord) -> str | None:
    """Which latency of the record the table holds; None if it is none of them."""
    return next((name for name in LATENCIES if not _others(table, record, name)), None)


def _others(table: LatencyTable, record: MeasurementRecord, statistic: str) -> list[int]:
    """Batch sizes at which the table says something else than the record."""
    measured = record.batches
    return [
        batch
        for batch, value in _rows(table)
        if batch in measured and not is_as_written(value, measured[batch].latency_ms(statistic))
    ]


def _known(table: LatencyTable, record: MeasurementRecord, statistic: str | None) -> dict[int, KnownLatency]:
    rows = set(table.batch.tolist())
    return {
        batch: known_latency(one, statistic or LATENCIES[0])
        for batch, one in record.batches.items()
        if batch in rows
    }


def _examined(table: LatencyTable, record: MeasurementRecord) -> Iterator[Finding]:
    statistic = _statistic(table, record)
    known = _known(table, record, statistic)
    measured = {batch: record.batches[batch] for batch in known}
    about = _About(table)
    if statistic is None:
        odd = _others(table, record, LATENCIES[0])
        yield from about.warn(odd, "latency_ms at {sizes} is not what was measured by the record")
    missing = [batch for batch in table.batch.tolist() if batch not in measured]
    yield from about.warn(missing, "the record says nothing of {sizes}")
    disturbed = {batch: _disturbed(one) for batch, one in measured.items()}
    kept = [b for b, share in disturbed.items() if measured[b].kept and share > _PARAMS.most_disturbed]
    worst = max((disturbed[batch] for batch in kept), default=0.0)
    beside = f"up to {worst:.0%} of the runs at {{sizes}} were disturbed by other load, and count"
    yield from about.warn(kept, beside, f"{_USED}; measure while the machine is quiet")
    left_out = [b for b, share in disturbed.items() if not measured[b].kept and share > _PARAMS.most_left_out]
    text = "more than a third of the runs at {sizes} were disturbed by other load, and left out"
    yield from about.note(left_out, text)
    moving = [batch for batch, one in measured.items() if not one.settled]
    text = "latencies at {sizes} had not settled after the warm-up when the time was up"
    yield from about.warn(moving, text, f"{_USED}; allow more time (--time-limit)")
    drifts = {
        batch: drift for batch, one in measured.items() if (drift := _drift(one)) and batch not in moving
    }
    worst = max(map(abs, drifts.values()), default=0.0)
    text = f"latencies at {{sizes}} drifted by up to {worst:.0%} between the first and the last third of the runs"
    yield from about.warn(
        list(drifts), text, f"{_USED}; intervals do not cover drift: measure again (--again)"
    )
    yield from _wide(about, measured, statistic)
    falling = [larger for _, larger in falls(known)]
    text = "the latency at {sizes} is below that of the size before, beyond the intervals of both"
    yield from about.warn(falling, text, f"{_USED}; the bound counts the slowest batch up to the cap")
    gaps = [gap for gap in find_gaps(known) if gap.error > _PARAMS.farthest_line]
    if gaps:
        far = max(gaps, key=lambda gap: gap.error)
        others = f", and {len(gaps) - 1} more such" if len(gaps) > 1 else ""
        text = f"between {{sizes}} a straight line may be off by {far.error:.0%}{others}"
        treatment = (
            "batches between them are interpolated along it; measure more sizes (--max-batch, --tolerance)"
        )
        yield from about.warn([far.low, far.high], text, treatment)


@dataclass(frozen=True)
class _About:
    """Makes findings about a table; without batch sizes there is none. ``{sizes}`` in a text names them."""

    table: LatencyTable

    def warn(self, sizes: Sequence[int], found: str, treatment: str = _USED) -> Iterator[Finding]:
        return self._tell(Severity.WARNING, sizes, found, treatment)

    def note(self, sizes: Sequence[int], found: str, treatment: str = _USED) -> Iterator[Finding]:
        return self._tell(Severity.NOTE, sizes, found, treatment)

    def _tell(
        self, severity: Severity, sizes: Sequence[int], found: str, treatment: str
    ) -> Iterator[Finding]:
        if sizes:
            told, table = found.replace("{sizes}", _named(sizes)), self.table
            yield Finding(severity, table.model, table.hardware, tuple(sizes), told, treatment)


def _wide(
    about: _About, measured: Mapping[int, BatchMeasurement], statistic: str | None
) -> Iterator[Finding]:
    """Quantiles that are hardly known; means and maxima have no interval."""
    quantile = "p50" if statistic == "p50" else "p99"
    if statistic not in (None, "p50", "p99"):
        return
    widths = {batch: getattr(one, quantile).width for batch, one in measured.items()}
    treatment = f"{_USED}; allow more time (--time-limit)"
    wide = [batch for batch, width in widths.items() if _PARAMS.widest_interval < width < math.inf]
    worst = max((widths[batch] for batch in wide), default=0.0)
    text = f"{quantile.upper()} at {{sizes}} is known within {worst:.0%} only"
    yield from about.warn(wide, text, treatment)
    unknown = [batch for batch, width in widths.items() if math.isinf(width)]
    text = f"{quantile.upper()} at {{sizes}} comes from too few runs for an interval"
    yield from about.warn(unknown, text, treatment)


def _disturbed(found: BatchMeasurement) -> float:
    """Share of the runs that other load disturbed; those that count are among the others already."""
    runs = found.warm_up + found.latency_ns.size + (0 if found.kept else found.disturbed)
    return found.disturbed / runs


def _drift(found: BatchMeasurement) -> float | None:
    """Change of the median from the first to the last third of the runs, if it is more than chance."""
    third = found.latency_ns.size // 3
    if not third:
        return None
    first, last = (
        quantile_range(part, 0.5, _PARAMS.drift_confidence)
        for part in (found.latency_ns[:third], found.latency_ns[-third:])
    )
    ends = (first.low_ns, first.high_ns, last.low_ns, last.high_ns)
    if None in ends:
        return None
    is_apart = last.low_ns > first.high_ns or last.high_ns < first.low_ns  # type: ignore[operator]
    drift = last.value_ns / first.value_ns - 1
    return drift if is_apart and abs(drift) > _PARAMS.least_drift else None


def _named(sizes: Sequence[int]) -> str:
    return f"batch size{'' if len(sizes) == 1 else 's'} {listed(map(str, sizes))}"
