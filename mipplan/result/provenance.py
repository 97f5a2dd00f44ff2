"""Where a plan comes from: the trace it was made for, how it was found, and what that took."""

from __future__ import annotations

from dataclasses import dataclass, field

from mipplan.result.refinement import Refinement
from mipplan.trace import Trace


@dataclass(frozen=True)
class TraceReference:
    """Which trace a plan was made for.

    Attributes
    ----------
    name, note : str
        Name and how it was made.
    sha256 : str
        Of its arrival times (little-endian int64 ns).
    queries, span_ns : int
    """

    name: str
    note: str
    sha256: str
    queries: int
    span_ns: int

    @classmethod
    def of(cls, trace: Trace) -> TraceReference:
        """Reference to `trace`."""
        return cls(trace.name, trace.note, trace.sha256, len(trace), trace.span_ns)


@dataclass(frozen=True)
class Effort:
    """What finding a plan took.

    Attributes
    ----------
    estimator_calls : int
        Configurations that were simulated on the trace, each counted once.
    seconds : float
        Wall-clock time of the search, judging the result left out.
    """

    estimator_calls: int
    seconds: float


@dataclass(frozen=True)
class Provenance:
    """Where a plan comes from.

    Attributes
    ----------
    trace : TraceReference or None
        The trace planned for; None for a given plan.
    formulation, solver : str or None
        How it was found; None for a given plan.
    effort : Effort or None
        What finding it took; not part of the plan file.
    refinement : Refinement or None
        What `mipplan.refine` found out; not part of the plan file.
    sample : Trace or None
        The trace planned for itself, at hand until the plan is saved or pickled: what `Plan.explain` looks at.
    """

    trace: TraceReference | None = None
    formulation: str | None = None
    solver: str | None = None
    effort: Effort | None = field(default=None, compare=False, repr=False)
    refinement: Refinement | None = field(default=None, compare=False, repr=False)
    sample: Trace | None = field(default=None, compare=False, repr=False)
