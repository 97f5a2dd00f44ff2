"""What a measurement found: data, the table it makes, and how it is told."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mipplan.core import InputError, Printable, Summary, counted
from mipplan.profiles import LatencyTable
from mipplan.profiling.machine import MachineRecord
from mipplan.profiling.measuring import BatchMeasurement, Ending, MeasuringParams
from mipplan.profiling.subjects import SubjectRequest

if TYPE_CHECKING:
    import pandas as pd

#: What may become the column ``latency_ms``.
LATENCIES = ("p99", "p50", "mean", "max")


@dataclass(frozen=True, eq=False, repr=False)
class Measurement(Printable):
    """Latencies of one model on one hardware type, as measured by [`measure`][mipplan.profiling.measure].

    Attributes
    ----------
    model, hardware : str
        Under which names it stands in the table.
    request : SubjectRequest
        What was measured, and how it was loaded.
    together : int
        Replicas that ran at once.
    latency : str
        What the column ``latency_ms`` holds: ``p99``, ``p50``, ``mean`` or ``max``.
    machine : MachineRecord
    batches : mapping of int to BatchMeasurement
        By batch size, increasing: those measured now and those that were there before.
    days : mapping of int to str
        The day on which each of them was measured.
    failures : mapping of int to str
        Batch sizes that could not be measured, or not once more, and why.
    energy_from : str
        What metered energy; empty if nothing did.
    chosen : mapping of int to str
        Why each of the batch sizes was measured: ``named``, ``doubling``, …
    ended : str
        Why no other size was; empty where all were named.
    """

    model: str
    hardware: str
    request: SubjectRequest
    together: int
    latency: str
    machine: MachineRecord
    batches: Mapping[int, BatchMeasurement]
    days: Mapping[int, str]
    failures: Mapping[int, str]
    energy_from: str = ""
    chosen: Mapping[int, str] = field(default_factory=dict)
    ended: str = ""

    @property
    def table(self) -> LatencyTable:
        """The latency table, as a profile folder holds it.

        Raises
        ------
        InputError
            If no batch size could be measured.
        """
        if not self.batches:
            raise InputError.one("batches", "nothing was measured, so there is no table")
        found = list(self.batches.values())
        return LatencyTable(
            self.model,
            self.hardware,
            batch=list(self.batches),  # type: ignore[arg-type]  # tables take what NumPy takes
            latency_ms=[self._rounded(one.latency_ms(self.latency)) for one in found],  # type: ignore[arg-type]
            source=tuple(self.source(batch) for batch in self.batches),
            **self._optional_columns(found),  # type: ignore[arg-type]
        )

    def _optional_columns(self, found: list[BatchMeasurement]) -> dict[str, list[float]]:
        """What could be measured for every batch size; a table holds a column for all rows or for none."""
        columns: dict[str, list[float | None]] = {
            "latency_p50_ms": [one.latency_ms("p50") for one in found],
            "latency_p99_ms": [one.latency_ms("p99") for one in found],
            "memory_gib": [one.memory_gib for one in found],
            "energy_j": [one.energy_j for one in found],
        }
        return {
            name: [self._rounded(value) for value in values if value is not None]
            for name, values in columns.items()
            if None not in values
        }

    @staticmethod
    def _rounded(value: float) -> float:
        """Nanoseconds and micro-joules are as fine as anything is measured."""
        return round(value, 6)

    def source(self, batch: int) -> str:
        """Say where the row of a batch size comes from."""
        found = self.batches[batch]
        width = found.p99.width
        threads = self.request.threads
        known = f"within {_percent(width)}" if math.isfinite(width) else "of too few runs for an interval"
        told = [
            f"measured with mipplan {self.machine.versions.get('mipplan', '')} on {self.machine}",
            self.days[batch],
            f"latency_ms is {_NAMES[self.latency]} of {found.latency_ns.size} runs, P99 {known}",
            "default threads" if threads is None else counted(threads, "thread"),
            *(f"{name} {version}" for name, version in self.machine.versions.items() if name not in _OWN),
        ]
        if self.together > 1:
            told.append(f"{self.together} replicas at once")
        if found.kept and found.disturbed:
            told.append(f"{found.disturbed} runs disturbed by other load are counted")
        if not found.settled:
            told.append("latencies had not settled")
        return "; ".join(told)

    def remarks(self) -> list[str]:
        """What a user should know of the figures, in a line each."""
        told = []
        for batch, found in self.batches.items():
            if found.ending is not Ending.PRECISE:
                width = found.p99.width
                how = f"known within {_percent(width)} only" if math.isfinite(width) else "hardly known"
                hint = "" if found.ending is Ending.RUNS else "; allow more time"
                told.append(f"batch {batch}: P99 is {how} after {found.spent_s:.3g} s{hint}")
            if found.apart > MeasuringParams.apart:
                told.append(
                    f"batch {batch}: P50 or P99 of its {len(found.visits)} visits differ by up to {found.apart:.0%}, "
                    "and so may another measurement"
                )
            if not found.settled:
                told.append(f"batch {batch}: latencies still changed when the time was up")
            if found.kept and found.disturbed:
                share = found.disturbed / (found.warm_up + found.latency_ns.size)
                told.append(f"batch {batch}: {share:.0%} of the runs were disturbed by other load, and count")
        return told

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per batch size: latencies, their intervals, runs, CPU time, memory, energy."""
        import pandas as pd

        rows = {
            batch: {
                "p50_ms": found.latency_ms("p50"),
                "p99_ms": found.latency_ms("p99"),
                "p99_low_ms": None if found.p99.low_ns is None else found.p99.low_ns / 1e6,
                "p99_high_ms": None if found.p99.high_ns is None else found.p99.high_ns / 1e6,
                "mean_ms": found.mean_ms,
                "max_ms": found.max_ms,
                "cpu_ms": found.cpu_ms,
                "memory_gib": found.memory_gib,
                "energy_j": found.energy_j,
                "runs": found.latency_ns.size,
                "warm_up": found.warm_up,
                "disturbed": found.disturbed,
            }
            for batch, found in self.batches.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("batch")

    def _line(self) -> str:
        return (
            f" {self.model} on {self.hardware}: {len(self.batches)} batch sizes, {len(self.failures)} failed"
        )

    def _summary(self) -> Summary:
        return Summary(
            f"{self.model} on {self.hardware}: {self.machine}",
            [
                *(("failed", f"batch {batch}: {why}") for batch, why in self.failures.items()),
                ("ended", self.ended or None),
            ],
            (">batch", ">P50", ">P99", "interval", ">CPU", ">runs"),
            ([str(batch), *told(found)] for batch, found in self.batches.items()),
            len(self.batches),
            "batch sizes",
        )


def is_as_written(written: float, measured: float) -> bool:
    """Whether a figure of a table, which is rounded, is that of the record."""
    return math.isclose(written, measured, rel_tol=1e-6, abs_tol=1e-6)


_OWN = ("mipplan", "python")
_NAMES = {"p99": "the P99", "p50": "the P50", "mean": "the mean", "max": "the longest"}


def _percent(width: float) -> str:
    return f"± {100 * width:.0f} %" if width >= 0.1 else f"± {100 * width:.2g} %"


def told(found: BatchMeasurement) -> list[str]:
    """Cells of one batch size for people: P50, P99, the interval of P99, CPU time, runs."""
    low, high = found.p99.low_ns, found.p99.high_ns
    interval = " … ".join("?" if end is None else f"{end / 1e6:.4g}" for end in (low, high))
    return [
        f"{found.latency_ms('p50'):.4g} ms",
        f"{found.latency_ms('p99'):.4g} ms",
        f"{interval} ms",
        "" if found.cpu_ms is None else f"{found.cpu_ms:.4g} ms",
        str(found.latency_ns.size),
    ]
