"""Measured latency tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mipplan.core import (
    MAX_DURATION_NS,
    NS_PER_MS,
    Fault,
    Float64,
    InputError,
    Int64,
    array_of,
    frozen,
    listed,
    name_problem,
    remake,
    shown,
    text_problem,
)

#: A batch holds at most a million items, because a table of services has an entry for every size up to the cap.
MAX_BATCH = 1_000_000
#: Optional measured columns, and whether they may be zero.
OPTIONAL_COLUMNS = {
    "latency_p99_ms": False,
    "latency_p50_ms": False,
    "accuracy": True,
    "energy_j": True,
    "memory_gib": True,
    "power_w": False,
}
#: By which column batches are planned and replayed, by its short name; docs/how-to/own-profiles.md has the rule.
LATENCY_COLUMNS = {"table": "latency_ms", "p50": "latency_p50_ms", "p99": "latency_p99_ms"}


@dataclass(frozen=True, eq=False, repr=False)
class LatencyTable:
    """Latency of one whole batch of a model on a hardware type, at the measured batch sizes.

    Raises `InputError` with every fault.
    """

    model: str
    hardware: str
    batch: Int64  # Measured batch sizes, at least 1, strictly increasing. Read-only, as are all arrays.
    # Latency of the whole batch in milliseconds, finite and positive. It need not be monotone.
    latency_ms: Float64
    source: tuple[str, ...] = ()  # Provenance of each row, or one text for all; empty if unknown.
    # Further measurements at the same batch sizes.
    latency_p99_ms: Float64 | None = None
    accuracy: Float64 | None = None
    energy_j: Float64 | None = None
    memory_gib: Float64 | None = None
    latency_p50_ms: Float64 | None = None
    power_w: Float64 | None = None  # While such a batch is served; where `energy_j` is not given.
    latency: str = "table"  # Which column is ℓ: a key of `LATENCY_COLUMNS`.

    def __repr__(self) -> str:
        return f"<LatencyTable {self.model} on {self.hardware}: {self.batch.size} batch sizes>"

    def __post_init__(self) -> None:
        place = f"profile of {self.model} on {self.hardware}"
        wrong = [problem for problem in map(name_problem, (self.model, self.hardware)) if problem is not None]
        batch, problem = _whole_column(self.batch)
        if problem is not None:
            wrong.append(f"batch: {problem}")
        object.__setattr__(self, "batch", batch)
        for name in ("latency_ms", *OPTIONAL_COLUMNS):
            given = getattr(self, name)
            if given is None and name != "latency_ms":
                continue
            column, problem = _real_column(given, len(batch), name)
            if problem is not None:
                wrong.append(f"{name}: {problem}")
            object.__setattr__(self, name, column)
        if not isinstance(self.latency, str) or self.latency not in LATENCY_COLUMNS:
            wrong.append(f"latency: expected {listed(LATENCY_COLUMNS)}, found {shown(self.latency)}")
        elif self.served_ms is None:
            wrong.append(f"has no column {LATENCY_COLUMNS[self.latency]}")
        source, problem = _sources(self.source, len(batch))
        if problem is not None:
            wrong.append(f"source: {problem}")
        if wrong:
            raise InputError(Fault(place, problem) for problem in wrong)
        object.__setattr__(self, "source", source)

    @property
    def served_ms(self) -> Float64:
        """The column that is ℓ at the measured batch sizes."""
        column: Float64 = getattr(self, LATENCY_COLUMNS[self.latency])
        return column

    @property
    def largest_batch(self) -> int:
        """Largest measured batch size, beyond which nothing is known."""
        return int(self.batch[-1])

    @property
    def smallest_batch(self) -> int:
        """Smallest measured batch size; smaller batches cost as much as this one."""
        return int(self.batch[0])

    def with_latencies(self, change: Callable[[Float64], Float64]) -> LatencyTable:
        """Return the table with all its columns of latencies, milliseconds, changed alike."""
        columns = {name: getattr(self, name) for name in LATENCY_COLUMNS.values()}
        changed = {name: np.asarray(change(held)) for name, held in columns.items() if held is not None}
        return replace(self, **changed)  # type: ignore[arg-type]  # of latencies only

    def slower(self, factor: float, row: int | None = None) -> LatencyTable:
        """Return the table with latencies and energies of batches multiplied, of all measured sizes or of one.

        A device that takes longer draws as much meanwhile.
        """
        scale = np.ones(self.batch.size)
        scale[slice(None) if row is None else row] = factor
        columns = {name: getattr(self, name) for name in (*LATENCY_COLUMNS.values(), "energy_j")}
        changed = {name: held * scale for name, held in columns.items() if held is not None}
        return replace(self, **changed)

    def service_ns(self, cap: int) -> Int64:
        """Return the latency ℓ of every batch size up to a cap.

        ℓ(k) = max(1, rint(interp(k, batch, served_ms)·10⁶)), in float64: linear between measured sizes,
        constant below the smallest one.

        Raises `InputError` if `cap` is out of range: latencies are never extrapolated.

        Parameters
        ----------
        cap : int
            From 1 to `largest_batch`.

        Returns
        -------
        int64[cap]
            Read-only; entry ``k - 1`` is ℓ(k) in nanoseconds.
        """
        if not 1 <= cap <= self.largest_batch:
            raise InputError.one(
                f"profile of {self.model} on {self.hardware}",
                f"the batch cap {cap} is outside the measured range 1 to {self.largest_batch}",
            )
        sizes = np.arange(1, cap + 1)
        latency_ms = np.interp(sizes, self.batch, self.served_ms)
        return frozen(np.maximum(1, np.rint(latency_ms * NS_PER_MS)).astype(np.int64))

    def accuracy_at(self, cap: int) -> float | None:
        """Accuracy with batches up to a cap; between measured sizes that of the next smaller one; None if unknown."""
        if self.accuracy is None:
            return None
        return float(self.accuracy[max(0, int(np.searchsorted(self.batch, cap, side="right")) - 1)])

    def to_document(self) -> dict[str, Any]:
        """Write the table as a JSON-able mapping of columns."""
        columns = {name: getattr(self, name) for name in ("batch", "latency_ms", *OPTIONAL_COLUMNS)}
        measured = {name: column.tolist() for name, column in columns.items() if column is not None}
        # Files had no choice of a column before there was one, and have none where it is latency_ms.
        chosen = {} if self.latency == "table" else {"latency": self.latency}
        return {
            "model": self.model,
            "hardware": self.hardware,
            **measured,
            **chosen,
            "source": list(self.source),
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LatencyTable) and self.to_document() == other.to_document()

    def __hash__(self) -> int:
        return hash((self.model, self.hardware, self.batch.tobytes(), self.served_ms.tobytes()))

    def __reduce__(self) -> tuple[Any, ...]:
        return remake(self)  # Unpickled arrays are writeable; the constructor makes them read-only again.


def batch_problem(batch: float) -> str | None:
    """Say what is wrong with a batch size, or None."""
    if not (batch == int(batch) if math.isfinite(batch) else False) or not 1 <= batch <= MAX_BATCH:
        return f"expected a whole number from 1 to {MAX_BATCH}, found {shown(batch)}"
    return None


def measurement_problem(name: str, value: float) -> str | None:
    """Say what is wrong with one measured value of a column, or None."""
    if not math.isfinite(value):
        return f"expected a finite number, found {value}"
    if value < 0 or (value == 0 and not OPTIONAL_COLUMNS.get(name, False)):
        return f"expected a number {'≥' if OPTIONAL_COLUMNS.get(name, False) else 'above'} 0, found {value:g}"
    if name.startswith("latency") and value * NS_PER_MS > MAX_DURATION_NS:
        return f"{value:g} ms is longer than ten years"
    return None


def _whole_column(values: object) -> tuple[Int64, str | None]:
    empty: Int64 = np.empty(0, np.int64)
    given = _numbers(values)
    if given is None:
        return empty, f"expected whole numbers, found {shown(values)}"
    if given.ndim != 1 or given.size == 0:
        return empty, "expected at least one batch size in one dimension"
    problem = next((found for found in map(batch_problem, given.tolist()) if found), None)
    if problem is not None:
        return empty, problem
    unordered = "the sizes must increase strictly" if np.any(np.diff(given) <= 0) else None
    return frozen(given.astype(np.int64)), unordered


def _real_column(values: object, length: int, name: str) -> tuple[Float64, str | None]:
    column = _numbers(values)
    if column is None:
        return np.empty(0), f"expected numbers, found {shown(values)}"
    if column.ndim != 1 or (length and len(column) != length):
        return column, f"expected {length} values, one for each batch size"
    problems = (measurement_problem(name, value) for value in column.tolist())
    return frozen(column), next((problem for problem in problems if problem), None)


def _numbers(values: object) -> Float64 | None:
    """Return a new array of numbers; None for what would only be read as such: texts, dates, masked values."""
    given = array_of(values)
    if given.dtype.kind not in "iufbO" or (isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values)):
        return None
    try:
        return np.array(given, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None


def _sources(source: object, length: int) -> tuple[tuple[str, ...], str | None]:
    """Return one provenance per row, and what is wrong with it; a single text speaks for all rows."""
    if not isinstance(source, Iterable):
        return (), f"expected text, found {shown(source)}"
    texts = (source,) if isinstance(source, str) else tuple(str(text) for text in source)
    if len(texts) not in (0, 1, length):
        return (), f"expected one text for each of {length} rows, found {len(texts)}"
    texts = texts or ("",)
    return texts * (length if len(texts) == 1 else 1), next(
        filter(None, map(text_problem, dict.fromkeys(texts))), None
    )
