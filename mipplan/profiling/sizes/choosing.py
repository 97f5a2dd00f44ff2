"""Which batch size to measure next: those that were named, or as the ones before it came out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from mipplan.core import Fault, Faults, InputError, format_seconds, is_finite, is_whole, shown
from mipplan.profiles import batch_problem
from mipplan.profiling.measuring import BatchMeasurement
from mipplan.profiling.sizes.gaps import (
    KnownLatencies,
    KnownLatency,
    expected_latency,
    find_gaps,
    known_latency,
)

#: Who asks how many sizes are left gets no larger answer: beyond that it is a guess anyway.
_MOST_AHEAD = 50


class NextSize(NamedTuple):
    """The batch size to measure next."""

    batch: int
    why: str
    left: int  # Sizes still to measure, this one included; a guess where the next ones depend on it.


class EnoughSizes(NamedTuple):
    """No other batch size is worth its time."""

    why: str  # Empty where all that was asked for is there, and there is nothing to say.


class SizeRule(Protocol):
    """Says which batch size comes next. It remembers nothing: a measurement that was killed goes on by asking again."""

    def next(
        self, found: Mapping[int, BatchMeasurement], failed: Mapping[int, float]
    ) -> NextSize | EnoughSizes:
        """Choose from what was found so far, by batch size, increasing, and what failed, with the seconds it took."""


@dataclass(frozen=True)
class NamedSizes:
    """The sizes that were named, smallest first."""

    batches: tuple[int, ...]

    def next(
        self, found: Mapping[int, BatchMeasurement], failed: Mapping[int, float]
    ) -> NextSize | EnoughSizes:
        """Take the first that is missing."""
        missing = [batch for batch in self.batches if batch not in found and batch not in failed]
        return NextSize(missing[0], "named", len(missing)) if missing else EnoughSizes("")


@dataclass(frozen=True)
class AdaptiveSizes:
    """Twice as large each time, then in the middle of the gap where a straight line may be off by most.

    Doubling finds out how far a model goes, and no gap is then wider than a factor of two. It ends at `max_batch`, at a
    size that fails after a smaller one has not, or at one that would hardly be run often enough in its time. Then the
    gap comes next in which interpolation may be off by most (`find_gaps`), as far as it is more than the intervals can
    account for: what is in there cannot be told by measuring. Its middle is measured, because any other place may leave
    a longer gap, and so no gap takes more sizes than halving it does at each level. It ends when no gap is off by more
    than the tolerance.
    """

    max_batch: int
    tolerance: float
    latency: str  # Of which latency: p99, p50, mean or max.
    time_limit_s: float  # Of one size, and the runs it needs at least.
    fewest_runs: int

    def next(
        self, found: Mapping[int, BatchMeasurement], failed: Mapping[int, float]
    ) -> NextSize | EnoughSizes:
        """Choose the next rung of the ladder, or else the worst gap."""
        known = {batch: known_latency(one, self.latency) for batch, one in found.items()}
        choice = self._choice(known, failed)
        if choice is None:
            return EnoughSizes(self._verdict(known, failed))
        return NextSize(*choice, self._left(known, failed))

    def _choice(self, known: KnownLatencies, failed: Collection[int]) -> tuple[int, str] | None:
        for batch in self._ladder():
            smaller = [size for size in known if size < batch]
            if batch in known or (batch in failed and not smaller):
                continue
            if batch in failed or (smaller and self._is_too_slow(known, smaller[-1], batch)):
                break
            return batch, "doubling" if smaller else "the smallest"
        gaps = [gap for gap in find_gaps(known) if gap.shown > self.tolerance and gap.middle not in failed]
        if not gaps:
            return None
        worst = max(gaps, key=lambda gap: gap.shown)
        return worst.middle, f"a line from {worst.low} to {worst.high} may be off by {worst.shown:.0%}"

    def _ladder(self) -> Iterator[int]:
        batch = 1
        while batch < self.max_batch:
            yield batch
            batch *= 2
        yield self.max_batch

    def _is_too_slow(self, known: KnownLatencies, smaller: int, batch: int) -> bool:
        """Whether there would be too few runs, if the latency grows with the batch."""
        run_s = known[smaller].value / 1e3 * batch / smaller
        return run_s * self.fewest_runs > self.time_limit_s

    def _verdict(self, known: KnownLatencies, failed: Collection[int]) -> str:
        if not known:
            return ""
        largest = max(known)
        gaps = find_gaps(known)
        off = max((gap.error for gap in gaps), default=0.0)
        shown = max((gap.shown for gap in gaps), default=0.0)
        told = []
        if gaps:
            known_to = (
                "" if off <= self.tolerance else f" ({shown:.0%} beyond what intervals can account for)"
            )
            told.append(
                f"between measured sizes a straight line is off by at most {off:.0%}{known_to}, unless the latency "
                "bends where no measured size shows it"
            )
        if largest < self.max_batch:
            above = [batch for batch in failed if batch > largest]
            why = f"batch {min(above)} failed" if above else "a larger batch would take too long"
            told.append(f"nothing is known above batch {largest}: {why}")
        return "; ".join(told)

    def _left(self, known: KnownLatencies, failed: Collection[int]) -> int:
        """How many sizes would still be measured if all came out as expected from those before."""
        ahead: dict[int, KnownLatency] = dict(known)
        for count in range(_MOST_AHEAD):
            choice = self._choice(ahead, failed)
            if choice is None:
                return count
            batch = choice[0]
            ahead[batch] = expected_latency(ahead, batch) if ahead else KnownLatency(1.0, 1.0, 1.0)
            ahead = dict(sorted(ahead.items()))
        return _MOST_AHEAD


@dataclass(frozen=True)
class InTime:
    """Another rule, as long as the time for all sizes together lasts, later visits included."""

    rule: SizeRule
    total_time_s: float
    visits: int = 1

    def next(
        self, found: Mapping[int, BatchMeasurement], failed: Mapping[int, float]
    ) -> NextSize | EnoughSizes:
        """Ask the other rule, unless another size as long as those before would not fit; the first one always does."""
        choice = self.rule.next(found, failed)
        due_s = [
            one.spent_s * max(1.0, self.visits / (len(one.visits) or self.visits)) for one in found.values()
        ]
        expected_s = [*due_s, *failed.values()]
        if isinstance(choice, EnoughSizes) or not expected_s:
            return choice
        if sum(expected_s) * (1 + 1 / len(expected_s)) <= self.total_time_s:
            return choice
        spent_s = self.total_time_s - self.left_s(found, failed)
        return EnoughSizes(
            f"{format_seconds(spent_s)} of {format_seconds(self.total_time_s)} are spent, and the next size would have "
            f"been {choice.batch} ({choice.why})"
        )

    def left_s(self, found: Mapping[int, BatchMeasurement], failed: Mapping[int, float]) -> float:
        """Seconds that are left."""
        return self.total_time_s - sum(one.spent_s for one in found.values()) - sum(failed.values())


def check_sizes(
    batches: Sequence[int] | None,
    max_batch: int | None,
    tolerance: float | None,
    total_time_s: float | None,
    for_a_plan: bool,
) -> None:
    """Refuse what is no choice of sizes.

    Raises `InputError` with all that is wrong.
    """
    faults = Faults()
    if batches is not None:
        faults.take(lambda: _check_named(batches))
        others = {"max_batch": max_batch, "tolerance": tolerance, "total_time_s": total_time_s}
        others["for_"] = for_a_plan or None
        for place, given in others.items():
            if given is not None:
                faults.add(Fault(place, "does not go with batch sizes that are named: they are all measured"))
        faults.check()
        return
    if max_batch is None and not for_a_plan:
        what = "say which sizes to measure, such as 1, 2, 4, 8, or up to which to choose (max_batch, --max-batch 64)"
        faults.add(Fault("batches", what))
    if max_batch is not None:
        problem = (
            batch_problem(max_batch)
            if is_whole(max_batch)
            else f"expected a whole number, found {shown(max_batch)}"
        )
        if problem is not None:
            faults.add(Fault("max_batch", problem))
    if tolerance is not None and for_a_plan:
        faults.add(Fault("tolerance", "goes without a plan: there the plan says how exact is exact enough"))
    elif tolerance is not None and not (is_finite(tolerance) and 0 < tolerance < 1):
        faults.add(Fault("tolerance", f"expected a share such as 0.05, found {shown(tolerance)}"))
    if total_time_s is not None and not (is_finite(total_time_s) and total_time_s > 0):
        faults.add(Fault("total_time_s", f"expected seconds above 0, found {shown(total_time_s)}"))
    faults.check()


def _check_named(batches: object) -> None:
    if isinstance(batches, str) or not isinstance(batches, Sequence) or not len(batches):
        raise InputError.one("batches", f"expected batch sizes such as 1, 2, 4, 8, found {shown(batches)}")
    faults = []
    for place, batch in enumerate(batches):
        problem = (
            batch_problem(batch) if is_whole(batch) else f"expected a whole number, found {shown(batch)}"
        )
        if problem is not None:
            faults.append(Fault("batches", problem))
        elif batch in batches[:place]:
            faults.append(Fault("batches", f"the batch size {batch} is given twice"))
    InputError.raise_if(dict.fromkeys(faults))
