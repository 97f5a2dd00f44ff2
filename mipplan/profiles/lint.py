"""What is odd in measured latencies: found, and what mipplan does about it. Faults are refused at reading."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from mipplan.core import listed
from mipplan.profiles.model import Profiles
from mipplan.profiles.tables import LatencyTable

#: Between sizes further apart than this, a straight line says little about the sizes between them.
WIDEST_GAP = 4.0
#: A batch whose latency per item is more than this many times that of a smaller one was hardly measured right.
STEEPEST_RISE = 2.0
#: A larger batch that takes less than this share of the time of a smaller one was hardly measured right.
DEEPEST_FALL = 0.5
#: Batches faster than 10 µs or slower than a minute hint at another unit than milliseconds.
FASTEST_MS = 0.01
SLOWEST_MS = 60_000.0
#: Latencies in proportion to the batch size are equal per item but for rounding.
_LEAST_RISE = 1.0 + 1e-9


class Severity(StrEnum):
    """How much a finding matters."""

    NOTE = "note"
    """Unusual, but measurements are like that; a plan remains as good as they are."""
    WARNING = "warning"
    """Probably a mistake, or an assumption stands in for a measurement: look at it before trusting a plan."""


@dataclass(frozen=True)
class Finding:
    """One odd thing in the measurements of a model on a hardware type.

    Attributes
    ----------
    severity : Severity
    model, hardware : str
    batches : tuple of int
        The batch sizes concerned, increasing.
    found : str
        What is odd.
    treatment : str
        What mipplan does about it.
    """

    severity: Severity
    model: str
    hardware: str
    batches: tuple[int, ...]
    found: str
    treatment: str

    def __str__(self) -> str:
        return f"{self.model} on {self.hardware}: {self.found}; {self.treatment}"


def examine(profiles: Profiles) -> tuple[Finding, ...]:
    """Look for odd measurements in latency tables.

    Nothing found here is refused or changed: tables are used as they are, and nothing is ever extrapolated, since
    batch caps end at the largest measured size. What cannot be used at all, such as a batch size measured twice,
    is an `InputError` when profiles are read.

    Parameters
    ----------
    profiles : Profiles

    Returns
    -------
    tuple of Finding
        In the order of the tables; for one table, warnings first.
    """
    copies = _copies(profiles.tables.values())
    found: list[Finding] = []
    for table in profiles.tables.values():
        of_table = [*_examined(table), *copies.get((table.model, table.hardware), ())]
        found += sorted(of_table, key=lambda finding: finding.severity is Severity.NOTE)
    return tuple(found)


def _examined(table: LatencyTable) -> Iterator[Finding]:
    if len(table.batch) == 1:
        yield from _single_size(table)
    elif (table.latency_ms == table.latency_ms[0]).all():
        yield from _constant(table)
    else:
        for check in _CHECKS_OF_CURVES:
            yield from check(table)
    yield from _unmeasured_small_batches(table)
    yield from _gaps(table)
    yield from _odd_units(table)
    yield from _percentile_below_latency(table)


def _finding(
    severity: Severity, table: LatencyTable, which: NDArray[np.bool_], found: str, treatment: str
) -> Iterator[Finding]:
    """Yield one finding about the batch sizes marked in `which`, if there are any; ``{sizes}`` names them."""
    if not which.any():
        return
    sizes = tuple(table.batch[which].tolist())
    named = f"batch size{'' if len(sizes) == 1 else 's'} {listed(map(str, sizes))}"
    yield Finding(severity, table.model, table.hardware, sizes, found.format(sizes=named), treatment)


# ------------------------------------------------------------------------------------ how many were measured


def _single_size(table: LatencyTable) -> Iterator[Finding]:
    if table.smallest_batch == 1:
        yield from _finding(
            Severity.NOTE,
            table,
            table.batch == 1,
            "only batch size 1 was measured, so nothing is known about batching",
            "requests are served one at a time",
        )


def _unmeasured_small_batches(table: LatencyTable) -> Iterator[Finding]:
    smallest = table.smallest_batch
    yield from _finding(
        Severity.WARNING,
        table,
        (table.batch == smallest) & (smallest > 1),
        f"nothing was measured below batch {smallest}",
        "smaller batches are taken to cost as much as that one",
    )


def _gaps(table: LatencyTable) -> Iterator[Finding]:
    after = _marked_pairs(table, table.batch[1:] > WIDEST_GAP * table.batch[:-1])
    before = np.append(after[1:], False)
    yield from _finding(
        Severity.WARNING,
        table,
        after | before,
        f"the gaps between {{sizes}} are wider than a factor of {WIDEST_GAP:g}",
        "batches between them are interpolated along a straight line",
    )


# --------------------------------------------------------------------------------------- how latency behaves


def _constant(table: LatencyTable) -> Iterator[Finding]:
    yield from _finding(
        Severity.WARNING,
        table,
        np.ones(len(table.batch), dtype=bool),
        f"the latency is {table.latency_ms[0]:g} ms at every batch size, as if a batch cost no more than one item "
        "(is it a latency per item, or a placeholder?)",
        "used as measured",
    )


def _falling_latency(table: LatencyTable) -> Iterator[Finding]:
    ratio = table.latency_ms[1:] / table.latency_ms[:-1]
    yield from _finding(
        Severity.WARNING,
        table,
        _marked_pairs(table, ratio < DEEPEST_FALL),
        "the latency falls by more than half at {sizes}, which is implausible",
        "used as measured",
    )
    yield from _finding(
        Severity.NOTE,
        table,
        _marked_pairs(table, (ratio < 1) & (ratio >= DEEPEST_FALL)),
        "the latency falls at {sizes}",
        "used as measured; the bound counts the slowest batch up to the cap",
    )


def _falling_throughput(table: LatencyTable) -> Iterator[Finding]:
    per_item = table.latency_ms / table.batch
    ratio = per_item[1:] / per_item[:-1]
    yield from _finding(
        Severity.WARNING,
        table,
        _marked_pairs(table, ratio > STEEPEST_RISE),
        f"the latency per item grows more than {STEEPEST_RISE:g} times at {{sizes}}, which is implausible",
        "used as measured",
    )
    yield from _finding(
        Severity.NOTE,
        table,
        _marked_pairs(table, (ratio > _LEAST_RISE) & (ratio <= STEEPEST_RISE)),
        "the throughput falls at {sizes}",
        "used as measured; such a cap seldom pays",
    )


def _odd_units(table: LatencyTable) -> Iterator[Finding]:
    yield from _finding(
        Severity.WARNING,
        table,
        table.latency_ms < FASTEST_MS,
        "the latency is below 10 µs at {sizes} (is the column in milliseconds?)",
        "used as measured",
    )
    yield from _finding(
        Severity.WARNING,
        table,
        table.latency_ms > SLOWEST_MS,
        "the latency is above one minute at {sizes} (is the column in milliseconds?)",
        "used as measured",
    )


def _percentile_below_latency(table: LatencyTable) -> Iterator[Finding]:
    if table.latency_p99_ms is not None:
        yield from _finding(
            Severity.WARNING,
            table,
            table.latency_p99_ms < table.latency_ms,
            "latency_p99_ms is below latency_ms at {sizes}",
            "plans use latency_ms only",
        )


_CHECKS_OF_CURVES: tuple[Callable[[LatencyTable], Iterator[Finding]], ...] = (
    _falling_latency,
    _falling_throughput,
)


def _marked_pairs(table: LatencyTable, pairs: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the larger size of each pair of neighbours."""
    marked = np.zeros(len(table.batch), dtype=bool)
    marked[1:] = pairs
    return marked


# -------------------------------------------------------------------------------------------- across tables


def _copies(tables: Iterable[LatencyTable]) -> dict[tuple[str, str], list[Finding]]:
    """Find tables of one model that agree in every figure on several hardware types."""
    alike: dict[tuple[str, bytes, bytes], list[LatencyTable]] = {}
    for table in tables:
        key = (table.model, table.batch.tobytes(), table.latency_ms.tobytes())
        alike.setdefault(key, []).append(table)
    found: dict[tuple[str, str], list[Finding]] = {}
    for first, *others in alike.values():
        for table in others:
            found[table.model, table.hardware] = [
                Finding(
                    Severity.WARNING,
                    table.model,
                    table.hardware,
                    tuple(table.batch.tolist()),
                    f"every latency equals that on {first.hardware} (was the table copied?)",
                    "used as measured",
                )
            ]
    return found
