"""Which batch sizes to measure, written down as the definitions read: slow, and obvious."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from fractions import Fraction

#: Latencies by batch size; whole numbers, so that fractions stay exact.
Latencies = Mapping[int, int]


def line(latencies: Latencies, first: int, second: int, batch: int) -> Fraction:
    """The straight line through two measured latencies, at any batch size."""
    slope = Fraction(latencies[second] - latencies[first], second - first)
    return latencies[first] + slope * (batch - first)


def errors(latencies: Latencies) -> dict[tuple[int, int], Fraction]:
    """By gap, the largest share of the straight line by which it may be off, if the assumptions of the rule hold."""
    sizes = sorted(latencies)
    found = {}
    for place, (low, high) in enumerate(itertools.pairwise(sizes)):
        worst = Fraction(0)
        for batch in range(low + 1, high):
            straight = line(latencies, low, high, batch)
            smallest, largest = sorted((latencies[low], latencies[high]))
            beside = []
            if place > 0:
                beside.append(line(latencies, sizes[place - 1], low, batch))
            if place + 2 < len(sizes):
                beside.append(line(latencies, high, sizes[place + 2], batch))
            if not beside:
                beside = [Fraction(smallest), Fraction(largest)]
            allowed = [min(max(one, Fraction(smallest)), Fraction(largest)) for one in beside]
            worst = max(worst, *(abs(one - straight) / straight for one in allowed))
        if high - low > 1:
            found[low, high] = worst
    return found


def completions(
    latencies: Latencies, candidates: Collection[int], failed: Collection[int], steps: int
) -> Iterator[dict[int, int]]:
    """Every table that more measurements could lead to, with latencies on a grid of so many values in each range.

    A size is not measured at all, or found between its measured neighbours; above all that was measured it takes from
    as long as the largest to three times as long, and nothing that fails makes a row.
    """
    sizes = sorted(latencies)
    limit = min((batch for batch in failed if batch > sizes[-1]), default=max(candidates) + 1)
    choices: list[Sequence[int | None]] = []
    further = [
        batch
        for batch in sorted(candidates)
        if batch not in latencies and batch not in failed and sizes[0] < batch < limit
    ]
    for batch in further:
        below = max(size for size in sizes if size < batch)
        above = [size for size in sizes if size > batch]
        ends = (latencies[below], latencies[min(above)] if above else 3 * latencies[below])
        least, most = sorted(ends)
        choices.append(
            [None, *sorted({least + (most - least) * step // (steps - 1) for step in range(steps)})]
        )
    for found in itertools.product(*choices):
        more = {batch: taken for batch, taken in zip(further, found, strict=True) if taken is not None}
        yield dict(sorted({**latencies, **more}.items()))
