"""What is odd in measured latencies: found, and what mipplan does about it. Faults are refused at reading."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from mipplan.core import Bool, listed
from mipplan.profiles.model import Profiles
from mipplan.profiles.tables import LatencyTable


@dataclass(frozen=True)
class LintParams:
    """Beyond what a measurement is called odd."""

    # Between sizes further apart than a factor of 4 a straight line says little about the sizes between them.
    widest_gap: float = 4.0
    # A batch whose latency per item is more than twice that of a smaller one was hardly measured right.
    steepest_rise: float = 2.0
    # A batch that takes less than half the time of a smaller one was hardly measured right.
    deepest_fall: float = 0.5
    # Batches faster than 10 µs or slower than a minute hint at another unit than milliseconds.
    fastest_ms: float = 0.01
    slowest_ms: float = 60_000.0
    # Latencies in proportion to the batch size are equal per item but for rounding.
    least_rise: float = 1.0 + 1e-9


_PARAMS = LintParams()


class Severity(StrEnum):
    """How much a finding matters."""

    NOTE = "note"
    """Unusual, but measurements are like that; a plan remains as good as they are."""
    WARNING = "warning"
    """Probably a mistake, or an assumption stands in for a measurement: look at it before trusting a plan."""


@dataclass(frozen=True)
class Finding:
    """One odd thing in the measurements of a model on a hardware type."""

    severity: Severity
    model: str
    hardware: str
    batches: tuple[int, ...]  # The batch sizes concerned, increasing.
    found: str  # What is odd.
    treatment: str  # What mipplan does about it.

    def __str__(self) -> str:
        return f"{self.model} on {self.hardware}: {self.found}; {self.treatment}"


def examine(profiles: Profiles) -> tuple[Finding, ...]:
    """Look for odd measurements in latency tables.

    Nothing found here is refused or changed: tables are used as they are, and nothing is ever extrapolated, since
    batch caps end at the largest measured size. What cannot be used at all, such as a batch size measured twice,
    is an `InputError` when profiles are read.

    Returns
    -------
    tuple of Finding
        In the order of the tables; for one table, warnings first.
    """
    found: list[Finding] = []
    measured: dict[tuple[str, bytes, bytes], LatencyTable] = {}
    for table in profiles.tables.values():
        alike = measured.setdefault((table.model, table.batch.tobytes(), table.latency_ms.tobytes()), table)
        found += sorted(_examined(table, alike), key=lambda finding: finding.severity is Severity.NOTE)
    return tuple(found)


def _examined(table: LatencyTable, alike: LatencyTable) -> Iterator[Finding]:
    for rule in _rules(table, alike):
        if rule.which.any():
            sizes = tuple(table.batch[rule.which].tolist())
            named = f"batch size{'' if len(sizes) == 1 else 's'} {listed(map(str, sizes))}"
            found = rule.found.replace("{sizes}", named)
            yield Finding(rule.severity, table.model, table.hardware, sizes, found, rule.treatment)


class _Rule(NamedTuple):
    """What is odd about the batch sizes marked in `which`, shape (sizes,); ``{sizes}`` in the text names them."""

    severity: Severity
    which: Bool
    found: str
    treatment: str = "used as measured"


def _rules(table: LatencyTable, alike: LatencyTable) -> Iterator[_Rule]:
    """What is odd about a table; `alike` is the first of its model that agrees in every figure, perhaps itself."""
    note, warning, smallest = Severity.NOTE, Severity.WARNING, table.smallest_batch
    every = np.ones(len(table.batch), dtype=bool)
    if len(table.batch) == 1:
        only = "only batch size 1 was measured, so nothing is known about batching"
        yield _Rule(note, table.batch == 1, only, "requests are served one at a time")
    elif (table.latency_ms == table.latency_ms[0]).all():
        constant = (
            f"the latency is {table.latency_ms[0]:g} ms at every batch size, as if a batch cost no more than one item "
            "(is it a latency per item, or a placeholder?)"
        )
        yield _Rule(warning, every, constant)
    else:
        yield from _rules_of_curve(table)
    yield _Rule(
        warning,
        (table.batch == smallest) & (smallest > 1),
        f"nothing was measured below batch {smallest}",
        "smaller batches are taken to cost as much as that one",
    )
    after = _larger_of(table.batch[1:] > _PARAMS.widest_gap * table.batch[:-1])
    yield _Rule(
        warning,
        after | np.append(after[1:], False),
        f"the gaps between {{sizes}} are wider than a factor of {_PARAMS.widest_gap:g}",
        "batches between them are interpolated along a straight line",
    )
    unit = "at {sizes} (is the column in milliseconds?)"
    yield _Rule(warning, table.latency_ms < _PARAMS.fastest_ms, f"the latency is below 10 µs {unit}")
    yield _Rule(warning, table.latency_ms > _PARAMS.slowest_ms, f"the latency is above one minute {unit}")
    if table.latency_p99_ms is not None:
        below = table.latency_p99_ms < table.latency_ms
        yield _Rule(warning, below, "latency_p99_ms is below latency_ms at {sizes}", "used as measured")
    if alike is not table:
        copied = f"every latency equals that on {alike.hardware} (was the table copied?)"
        yield _Rule(warning, every, copied)


def _rules_of_curve(table: LatencyTable) -> Iterator[_Rule]:
    note, warning = Severity.NOTE, Severity.WARNING
    per_item = table.latency_ms / table.batch
    fall, rise = table.latency_ms[1:] / table.latency_ms[:-1], per_item[1:] / per_item[:-1]
    deepest, steepest = _PARAMS.deepest_fall, _PARAMS.steepest_rise
    fallen = "the latency falls by more than half at {sizes}, which is implausible"
    yield _Rule(warning, _larger_of(fall < deepest), fallen)
    treatment = "used as measured; the bound counts the slowest batch up to the cap"
    yield _Rule(note, _larger_of((fall < 1) & (fall >= deepest)), "the latency falls at {sizes}", treatment)
    grown = f"the latency per item grows more than {steepest:g} times at {{sizes}}, which is implausible"
    yield _Rule(warning, _larger_of(rise > steepest), grown)
    slower = _larger_of((rise > _PARAMS.least_rise) & (rise <= steepest))
    yield _Rule(note, slower, "the throughput falls at {sizes}", "used as measured; such a cap seldom pays")


def _larger_of(pairs: Bool) -> Bool:
    """Mark the larger size of each pair of neighbours that is marked."""
    return np.concatenate([[False], pairs])
