"""Scale factors: how often the edges of a pipeline are taken, and how many tokens they make, by running it on samples.

InferLine's scale factor is the mean number of tokens that a query makes at a stage. Here the whole distribution is
kept, by edge, since it is what bursts inside a pipeline are made of.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mipplan.core import (
    Fault,
    Faults,
    InputError,
    Int64,
    Printable,
    Report,
    Summary,
    check_kinds,
    listed,
    shown,
    suggestion,
)
from mipplan.pipeline import Edge, Join, Pipeline
from mipplan.profiling.subjects.callables import raised

#: Makes of a token at a stage the tokens of the stages after it, by their names.
Step = Callable[[str, Any], Mapping[str, Sequence[Any]]]

#: Of a share or a mean, two-sided.
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class EdgeScale:
    """What an edge made of each token of the stage before it."""

    edge: Edge  # As the pipeline was written.
    counts: Int64 = field(repr=False)  # Number of tokens, of every parent token in the order of the samples.

    @property
    def taken(self) -> float:
        """Share of parent tokens that made at least one token."""
        return float(np.count_nonzero(self.counts)) / self.counts.size

    @property
    def taken_interval(self) -> tuple[float, float]:
        """Clopper-Pearson interval of that share, 95 %, as of independent tokens."""
        from scipy.stats import binomtest

        found = binomtest(int(np.count_nonzero(self.counts)), self.counts.size).proportion_ci(_CONFIDENCE)
        return float(found.low), float(found.high)

    @property
    def document(self) -> dict[str, Any]:
        """``probability`` and ``fanout`` as a pipeline file holds them; weights are counts.

        Raises `InputError` if the edge was never taken: then nothing is known of it.
        """
        values, times = np.unique(self.counts[self.counts > 0], return_counts=True)
        if not values.size:
            message = (
                f"was never taken in {self.counts.size:,} tokens: show more samples, or leave the edge out"
            )
            raise InputError.one(f"edge {self.edge.parent} → {self.edge.child}", message)
        if values.size == 1:
            return {"probability": self.taken, "fanout": int(values[0])}
        return {"probability": self.taken, "fanout": {"values": values.tolist(), "weights": times.tolist()}}


@dataclass(frozen=True, eq=False, repr=False)
class ScaleFactors(Printable):
    """What the edges of a pipeline did on samples, by [`measure_scale`][mipplan.profiling.measure_scale]."""

    pipeline: Pipeline  # As it was written.
    samples: int
    edges: tuple[EdgeScale, ...]  # In file order.
    tokens: Mapping[str, int]  # At each stage, of all samples together.
    # Why it ended early, and where the edges do not do what a pipeline file can say.
    remarks: tuple[str, ...]
    ended_early: bool = False

    @property
    def factors(self) -> dict[str, float]:
        """InferLine's scale factor of each stage: its mean number of tokens per query."""
        return {stage: count / self.samples for stage, count in self.tokens.items()}

    @property
    def document(self) -> dict[str, Any]:
        """The pipeline as a file holds it, with the shares and distributions that were measured; weights are counts.

        Raises `InputError` if an edge was never taken.
        """
        document = self.pipeline.to_document()
        faults = Faults()
        for entry, scale in zip(document["edges"], self.edges, strict=True):
            faults.take(lambda entry=entry, scale=scale: entry.update(scale.document))  # type: ignore[misc]
        faults.check()
        return document

    @property
    def measured(self) -> Pipeline:
        """The pipeline of `document`."""
        return Pipeline.from_document(self.document)

    def _line(self) -> str:
        return f" {self.pipeline.name}: {len(self.edges)} edges on {self.samples} samples"

    def _summary(self) -> Summary:
        return Summary(
            f"{self.pipeline.name} on {self.samples:,} samples",
            [("remark", remark) for remark in self.remarks],
            ("edge", ">tokens", ">taken", "with 95 %", ">tokens each", "from", "to"),
            map(_told, self.edges),
            len(self.edges),
            "edges",
        )


def _told(scale: EdgeScale) -> list[str]:
    """Cells of one edge for people: tokens before it, share taken with its interval, mean, least and most if taken."""
    low, high = scale.taken_interval
    made = scale.counts[scale.counts > 0]
    span = [f"{made.mean():.4g}", str(made.min()), str(made.max())] if made.size else ["", "", ""]
    name = f"{scale.edge.parent} → {scale.edge.child}"
    return [name, f"{scale.counts.size:,}", f"{scale.taken:.4g}", f"{low:.3g} … {high:.3g}", *span]


def measure_scale(
    pipeline: Pipeline, step: Step, samples: Iterable[Any], *, progress: Report = lambda _: None
) -> ScaleFactors:
    """Run a pipeline on samples, and count what its edges do.

    Parameters
    ----------
    pipeline : Pipeline
        Its stages and edges; the shares and fan-outs that it states play no part.
    step : callable
        ``step(stage, token)`` does a stage's work on one token, and returns the tokens of the stages after it: a
        mapping of their names to sequences. A stage that is left out gets none. At a stage of ``join: all``, `token` is
        the list of what has arrived.
    samples : iterable
        A token of the first stages for every query.
    progress : callable, optional
        Told how it goes.

    Returns
    -------
    ScaleFactors
        Of all samples; of those before where one fails, or at Ctrl-C: then the first remark says why.

    Raises
    ------
    InputError
        If there is no sample, or at the first one `step` raises, or returns what is no mapping of next stages to
        sequences; or if a stage got no token.
    """
    check_kinds(pipeline=(pipeline, Pipeline))
    if not callable(step):
        raise InputError.one("step", f"expected a function of a stage and a token, found {shown(step)}")
    counts: dict[tuple[str, str], list[int]] = {(edge.parent, edge.child): [] for edge in pipeline.edges}
    tokens = dict.fromkeys(pipeline.stages, 0)
    number, ended = 0, ""
    try:
        for sample in _each(samples):
            made, seen = _walked(pipeline, step, sample)
            for edge, found in made.items():
                counts[edge] += found
            for stage, count in seen.items():
                tokens[stage] += count
            number += 1
            progress(f"sample {number:,}")
    except (InputError, KeyboardInterrupt) as stop:
        if not number:
            raise
        why = "interrupted" if isinstance(stop, KeyboardInterrupt) else str(stop)
        ended = f"ended at sample {number + 1:,}, of which nothing is counted: {why}"
    if not number:
        raise InputError.one("samples", "there is none: at least one is needed to count anything")
    unseen = [stage for stage, count in tokens.items() if not count]
    if unseen:
        message = f"no token came to {listed(unseen)} in {number:,} samples: show some that make one"
        raise InputError.one("samples", message)
    edges = tuple(
        EdgeScale(edge, np.array(counts[edge.parent, edge.child], np.int64)) for edge in pipeline.edges
    )
    remarks = (*([ended] if ended else ()), *_remarks(pipeline, edges))
    return ScaleFactors(pipeline, number, edges, tokens, remarks, bool(ended))


def _walked(
    pipeline: Pipeline, step: Step, sample: Any
) -> tuple[dict[tuple[str, str], list[int]], dict[str, int]]:
    """Lead a sample through a pipeline: tokens made of each parent token, by edge; how many come to each stage."""
    counts: dict[tuple[str, str], list[int]] = {(edge.parent, edge.child): [] for edge in pipeline.edges}
    tokens = {}
    waiting: dict[str, list[Any]] = {
        stage: [] if pipeline.incoming(stage) else [sample] for stage in pipeline.stages
    }
    for name in pipeline.topological_order:
        arrived = waiting[name]
        if arrived and pipeline.stages[name].join is Join.ALL:
            arrived = [arrived]
        tokens[name] = len(arrived)
        children = [edge.child for edge in pipeline.outgoing(name)]
        for token in arrived:
            made = _made(name, step, token, children)
            for child in children:
                waiting[child] += made.get(child, ())
                counts[name, child].append(len(made.get(child, ())))
    return counts, tokens


def _each(samples: Iterable[Any]) -> Iterator[Any]:
    try:
        yield from samples
    except Exception as error:  # whatever a generator of the user raises, or that nothing can be gone through
        raise InputError.one("samples", raised(error)) from error


def _made(stage: str, step: Step, token: Any, children: Sequence[str]) -> dict[str, list[Any]]:
    """Do a step, and check what it returns; None is no token anywhere."""
    place = f"step({stage!r}, …)"
    try:
        made: object = step(stage, token)
    except Exception as error:  # whatever a function of the user raises
        raise InputError.one(place, raised(error)) from error
    if made is None:
        return {}
    if not isinstance(made, Mapping):
        raise InputError.one(place, f"expected tokens by the next stage, found {shown(made)}")
    faults = [
        Fault(place, f"returns tokens for {shown(name)}, to which no edge leads{suggestion(name, children)}")
        for name in made
        if name not in children
    ]
    faults += [
        Fault(place, f"expected a list of tokens for {shown(name)}, found {shown(given)}")
        for name, given in made.items()
        if isinstance(given, str | bytes) or not isinstance(given, Iterable)
    ]
    InputError.raise_if(faults)
    return {name: list(given) for name, given in made.items()}


def _remarks(pipeline: Pipeline, edges: Sequence[EdgeScale]) -> Iterable[str]:
    """Say where edges of one stage go together: a pipeline draws each by itself."""
    from scipy.stats import spearmanr

    for stage in pipeline.stages:
        leaving = [scale for scale in edges if scale.edge.parent == stage]
        for one, other in itertools.combinations(leaving, 2):
            if any(scale.counts.min() == scale.counts.max() for scale in (one, other)):
                continue
            found = spearmanr(one.counts, other.counts)
            correlation, chance = float(found.statistic), float(found.pvalue)
            # Of independent edges, one pair in a thousand is told.
            if chance < 0.001 and abs(correlation) > 0.2:
                how = "together" if correlation > 0 else "instead of each other"
                yield (
                    f"{stage} makes tokens for {one.edge.child} and {other.edge.child} {how} (rank correlation "
                    f"{correlation:.2f}): a pipeline draws its edges independently"
                )
