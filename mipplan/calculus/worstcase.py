"""The worst case over all traffic inside an arrival curve.

The proof is in [theory, section 6][6-the-worst-case-inside-an-arrival-curve].

With α(u) the most queries in any closed window of length u and F_v the most tokens a query has at stage v,

    latency ≤ ΣT + Σdelays + Σ_v (F_v − 1)/R_v + sup_{u ≥ 0} [ max_v (F_v/R_v)·(α(u) − 1) − u ]⁺

along every path; the bound is the largest over paths. Supremum and maximum over stages commute, so each stage has
a wait of its own and the path takes the largest: the same shape as the bound for a trace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from mipplan.calculus.arrival import ArrivalCurve
from mipplan.calculus.envelopes import Envelope, EnvelopeCurve
from mipplan.calculus.paths import MAX_PATHS, PathWait, PathWaits
from mipplan.calculus.samplepath import StageService, service_time_ns
from mipplan.core import Fault, InputError, LongestPaths
from mipplan.pipeline import Edge, Join, Pipeline
from mipplan.result import CriticalStage


def most_tokens_per_query(pipeline: Pipeline) -> dict[str, int]:
    """F_v: the most tokens one query can have at each stage, whatever is drawn.

    A branch counts as taken; a stage that merges has one token; where each token is processed, edges add up.

    Raises `InputError` if a fan-out has no largest value (Poisson): then no worst case exists.
    """
    most: dict[str, int] = {}
    faults: list[Fault] = []
    for name in pipeline.topological_order:
        total = 0
        for edge in pipeline.incoming(name):
            largest = edge.fanout.maximum
            if largest is None:
                place = f"{pipeline.name}: edge {edge.parent} -> {edge.child}"
                message = "a Poisson fan-out has no largest value, so there is no worst case to guarantee"
                faults.append(Fault(place, f"{message}; give values and weights instead"))
                largest = 1
            total += most[edge.parent] * largest
        merges = pipeline.stages[name].join is Join.ALL
        most[name] = 1 if merges or not pipeline.incoming(name) else total
    if faults:
        raise InputError(faults)
    return most


@dataclass(frozen=True)
class WorstCase:
    """Evaluates the envelope bound of plans, over all paths at once, however many there are.

    What it tells raises `InputError` as `most_tokens_per_query` does.
    """

    pipeline: Pipeline
    arrival: ArrivalCurve | Envelope

    def bound_ns(self, services: Mapping[str, StageService]) -> int:
        """Largest latency of any query of any traffic inside the arrival curve, ns.

        ``max_p (S_p + max_{v ∈ p} w_v) = max_v (w_v + longest path through v)``: two passes over the graph.
        """
        return max(self._through(services).values())

    @cached_property
    def paths(self) -> PathWaits:
        """All paths of the pipeline with the worst-case waits of their stages."""
        pipeline, most = self.pipeline, self._most
        found: list[PathWait] = []
        truncated = False
        pending: list[tuple[tuple[str, ...], int]] = [((source,), 0) for source in reversed(pipeline.sources)]
        while pending and not truncated:
            stages, lag_ns = pending.pop()
            outgoing = pipeline.outgoing(stages[-1])
            pending += [((*stages, edge.child), lag_ns + edge.delay_ns) for edge in reversed(outgoing)]
            truncated = not outgoing and len(found) == MAX_PATHS
            if not outgoing and not truncated:
                found.append(PathWait(stages, lag_ns, tuple(self._curves[most[stage]] for stage in stages)))
        serial = {stage: tokens - 1 for stage, tokens in most.items() if tokens > 1}
        return PathWaits(tuple(found), truncated, serial)

    def critical_path(self, services: Mapping[str, StageService]) -> tuple[CriticalStage, ...]:
        """Return the longest path through the stage whose wait is the worst, with that wait."""
        own, through = self._own(services), self._through(services)
        before, after = self._paths.down_to(own), self._paths.up_from(own)
        first = last = bottleneck = max(through, key=through.__getitem__)
        edges: list[Edge] = []
        while incoming := self.pipeline.incoming(first):
            edges.insert(0, max(incoming, key=lambda edge: before[edge.parent] + edge.delay_ns))
            first = edges[0].parent
        while outgoing := self.pipeline.outgoing(last):
            edges.append(max(outgoing, key=lambda edge: after[edge.child] + edge.delay_ns))
            last = edges[-1].child
        steps = [(first, 0), *((edge.child, edge.delay_ns) for edge in edges)]
        waits = {bottleneck: self.wait_ns(services, bottleneck)}
        return tuple(CriticalStage(s, own[s], waits.get(s, 0), delay_ns) for s, delay_ns in steps)

    def wait_ns(self, services: Mapping[str, StageService], stage: str) -> int:
        """Worst wait of one stage, ns."""
        return self._curves[self._most[stage]].exact(services[stage].period_ns, services[stage].tokens)

    @cached_property
    def _paths(self) -> LongestPaths[str]:
        return self.pipeline.longest_paths()

    @cached_property
    def _most(self) -> dict[str, int]:
        return most_tokens_per_query(self.pipeline)

    @cached_property
    def _curves(self) -> dict[int, EnvelopeCurve]:
        return {tokens: EnvelopeCurve(self.arrival, tokens) for tokens in set(self._most.values())}

    def _own(self, services: Mapping[str, StageService]) -> dict[str, int]:
        return {stage: service_time_ns(services[stage], most - 1) for stage, most in self._most.items()}

    def _through(self, services: Mapping[str, StageService]) -> dict[str, int]:
        through = self._paths.through(self._own(services))
        return {stage: length + self.wait_ns(services, stage) for stage, length in through.items()}
