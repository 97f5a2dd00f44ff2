"""Samples of the traffic: traces, each with the seed of its token draws.

A guarantee on several holds on each by itself. Nothing here depends on the order in which traces are given: they are
looked at by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mipplan.core import InputError, is_whole, shown
from mipplan.pipeline import Pipeline
from mipplan.tokens.workload import Workload, realise
from mipplan.trace import Trace

#: More draws of every trace are a slip.
MOST_SEEDS = 1_000


@dataclass(frozen=True, eq=False)
class Sample:
    """One trace with one draw of its tokens."""

    trace: Trace
    seed: int
    number: int = 0  # Of the trace, among those that were given.
    name: str = ""  # What tells it from the others; empty if there are none.

    def realise(self, pipeline: Pipeline) -> Workload:
        """Draw its tokens."""
        return realise(pipeline, self.trace, self.seed)

    def scaled(self, factor: float) -> Sample:
        """Return it with a multiple of its traffic."""
        return self if factor == 1.0 else replace(self, trace=self.trace.scale(factor))


def read_traces(traces: object) -> list[Trace]:
    """Return one or several traces as a list, by name.

    Raises `InputError` if they are none.
    """
    found: list[Any] = list(traces) if isinstance(traces, list | tuple) else [traces]
    if not found or not all(isinstance(trace, Trace) for trace in found):
        message = f"expected a Trace, or a list of some, found {shown(traces)}; Trace.read(…) reads a file"
        raise InputError.one("trace", message)
    return found if len(found) == 1 else sorted(found, key=lambda trace: (trace.name, trace.sha256))


def check_seeds(seeds: object) -> int:
    """Return the number of draws of every trace.

    Raises `InputError` if it is none.
    """
    if not is_whole(seeds) or not 1 <= seeds <= MOST_SEEDS:
        message = f"expected a whole number from 1 to {MOST_SEEDS:,}, found {shown(seeds)}"
        raise InputError.one("seeds", message)
    return int(seeds)


def find_samples(
    pipeline: Pipeline, traces: Trace | Sequence[Trace], seed: int, seeds: int = 1
) -> tuple[Sample, ...]:
    """Every trace with the seeds from `seed` on, so many of them; those that are alike once.

    Where the pipeline draws nothing, one seed stands for all, and of equal traces one.
    """
    given = read_traces(traces)
    drawn = range(seed, seed + (check_seeds(seeds) if pipeline.is_random else 1))
    if len(given) == 1:
        return tuple(Sample(given[0], one, 0, f"seed {one}" if len(drawn) > 1 else "") for one in drawn)
    distinct = {trace.sha256: number for number, trace in reversed(list(enumerate(given)))}
    names = [trace.name for trace in given]
    found = []
    for number in sorted(distinct.values()):
        name, same = names[number], names.count(names[number])
        name += f" ({1 + names[:number].count(name)})" if same > 1 else ""
        found += [
            Sample(given[number], one, number, f"{name}, seed {one}" if len(drawn) > 1 else name)
            for one in drawn
        ]
    return tuple(found)
