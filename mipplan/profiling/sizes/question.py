"""A plan that waits for measurements, and how cheap it could get by batch sizes that were not measured.

Let M be the batch sizes measured so far of one model on one hardware type, ℓ their latencies, and G the sizes that some
stage may use and that could still be measured. The table of M alone gives the plan of today, at cost C(M).

*Assumption (between).* A size of G between two measured neighbours a and c would be found to take from min(ℓ(a), ℓ(c))
to max(ℓ(a), ℓ(c)), and to need at least the memory of the one that needs less. One above the largest measured size
takes no less than that one, and needs no less memory.

*Optimistic table.* To M it adds, for each stage, the largest size of G in each gap, with min(ℓ(a), ℓ(c)), and the
largest above all of M, with the latency of the largest of M. Its cheapest plan costs C₀.

*Theorem.* For guarantees `trace` and `envelope` by the classic certificate, under eager dispatch, `oldest_first`,
without stagger: whatever sizes N ⊆ G are measured and whatever they turn out to take within the assumption,
C₀ ≤ C(M ∪ N) ≤ C(M). So if C₀ = C(M), the plan of today is a cheapest plan of every such table.

*Proof.* An option (hardware, b, n) enters the certificate by T, which is 2·L with L = max over k ≤ b of ℓ(k) (or ℓ(1)
where b = 1 at an ingress), and by R = n·b/ℓ(b). Where no T is larger and no R smaller, the certificate is not above
(docs/theory.md, section 3), and a plan keeps up with the traffic that did so before.

Right: let b ∈ M be a cap of today's plan. Interpolation lies between measured latencies, so L is the largest latency
measured up to b. A new size k < b lies in a gap whose ends are both ≤ b, hence ℓ(k) is at most the larger of theirs,
and L is what it was. R is what it was. (A new size below all of M is no candidate: the smallest one a stage may use is
measured first.) So T, R and the certificate of today's plan are the same in the new table.

Left: let a plan of the new table use the cap b at a stage. If b ∈ M, it has T and R in the optimistic table, too: what
that adds in a gap is not above the ends of the gap. Otherwise b lies in a gap (a, c); let g ≥ b be the largest size of
G in there that the stage may use, which the optimistic table offers. There g has L = max(L(a), min(ℓ(a), ℓ(c))), which
is at most max(L(a), ℓ(b)) ≤ L(b), where L(a) is the largest latency measured up to a; and R = n·g/min(ℓ(a), ℓ(c))
≥ n·b/ℓ(b). So g in the place of b costs the same, needs no more memory, and has T no larger and R no smaller (b = 1 is
in no gap). Doing so at each stage gives a plan of the optimistic table with the same cost, and its certificate is not
above. Above all of M the same holds with c left out. ∎

The latencies of M are taken as they were found. What their intervals leave open is a second question with the same
answer: planned with all lower and with all upper ends, the costs enclose those of every table in between.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from mipplan.core import Deadline, Fault, Faults, InputError, SearchLimits, interrupts_seen, listed, shown
from mipplan.options import check_names, check_span
from mipplan.pipeline import Discipline, Pipeline
from mipplan.planner import PlanMaker, PlanningParams
from mipplan.profiles import Hardware, LatencyTable, Profiles
from mipplan.result import (
    CertificateKind,
    Figures,
    Guarantee,
    Plan,
    PlanStatus,
    Provenance,
    check_laws,
    relevant_profiles,
    resolve_objective,
)
from mipplan.trace import Trace

#: A latency that nothing takes less than, ms: what a size may take of which nothing is known.
LEAST_MS = 1e-6


@dataclass(frozen=True)
class Row:
    """What a table says of one batch size."""

    latency_ms: float
    memory_gib: float | None = None


#: By batch size, increasing.
Rows = Mapping[int, Row]


@dataclass(frozen=True)
class PlanQuestion:
    """A plan that is to be made once a model is measured on a hardware type, and for which its batch sizes matter."""

    asked: Plan  # Without choices; its profiles are all others, its provenance has the trace.
    model: str
    hardware: Hardware
    # By stage that may use the model on the hardware: the batch sizes it may use, increasing.
    candidates: Mapping[str, tuple[int, ...]]
    time_limit_s: float = 30.0  # For each plan.

    @classmethod
    def of(
        cls,
        about: object,
        trace: object,
        profiles: Profiles | None,
        model: str,
        hardware: Hardware,
        max_batch: int | None,
    ) -> PlanQuestion:
        """Pose the question.

        Parameters
        ----------
        about : Pipeline or Plan
            A plan is made anew, for its own objective.
        trace : Trace
        profiles : Profiles, optional
            What is known of other models and hardware; a plan brings its own.
        model : str
        hardware : Hardware
        max_batch : int, optional
            Largest batch size; by default as the stages say.

        Raises
        ------
        InputError
            With all that is wrong; or if the theorem does not hold for the plan that is asked for.
        """
        faults, asked = Faults(), None
        if not isinstance(trace, Trace):
            faults.add(Fault("trace", f"the plan is made on a trace: which one? (found {shown(trace)})"))
        if isinstance(about, Plan):
            if profiles is not None:
                faults.add(Fault("profiles", "a plan brings its own profiles: leave them out"))
            asked = about
        elif isinstance(about, Pipeline):
            made = faults.take(lambda: _asked(about, profiles or Profiles({}, {})))
            asked = made.value if made else None
        else:
            faults.add(Fault("for_", f"expected a pipeline or a plan, found {shown(about)}"))
        faults.check()
        assert asked is not None, "or there was a fault"
        assert isinstance(trace, Trace)
        plan = asked
        faults.take(lambda: check_span(trace.span_ns))
        odd = beyond_theorem(asked)
        if any(edge.probabilities or edge.fanouts for edge in plan.pipeline.edges):
            odd.append("tokens that depend on the variant")
        if odd:
            message = (
                f"the plan has {listed(odd)}: a faster batch might make it dearer, so that nobody knows which size "
                "could change it; name the sizes, or give a plan by the classic certificate"
            )
            faults.add(Fault("for_", message))
        candidates = faults.take(lambda: _candidates(plan.pipeline, model, hardware.name, max_batch))
        known = plan.profiles.with_hardware(hardware, [LatencyTable(model, hardware.name, [1], [1.0])])  # type: ignore[arg-type]
        faults.take(lambda: check_names(plan.pipeline, known))
        faults.check()
        posed = replace(
            plan,
            choices={},
            status=PlanStatus.UNKNOWN,
            figures=Figures(lower_bound_microusd_per_hour=0),
            provenance=Provenance.on(trace, "auto", "auto"),
            reason=None,
            limit=None,
        )
        return cls(posed, model, hardware, candidates.value)

    def plan(self, rows: Rows) -> Plan:
        """Make the plan with such a table; without rows, with none. Ctrl-C raises `KeyboardInterrupt`."""
        others, key = self.asked.profiles, (self.model, self.hardware.name)
        tables = {named: table for named, table in others.tables.items() if named != key}
        known = Profiles(others.hardware, tables)
        if rows:
            known = known.with_hardware(self.hardware, [self.table(rows)])
        profiles = relevant_profiles(self.asked.pipeline, known)
        every = self.asked.pipeline.stages.values()
        if any(set(stage.models).isdisjoint(profiles.models) for stage in every):
            return replace(self.asked, status=PlanStatus.INFEASIBLE, figures=Figures())
        limits = SearchLimits(Deadline.after(self.time_limit_s))
        with interrupts_seen() as seen:  # a search ends at Ctrl-C with what it has; this is not the end of it
            made = PlanMaker(
                replace(self.asked, profiles=profiles), limits, PlanningParams(diagnosis_s=0.0)
            ).cheapest()
        if seen:
            raise KeyboardInterrupt
        return made

    def table(self, rows: Rows) -> LatencyTable:
        """Write rows as a table; memory only if it is known of all."""
        memory = [row.memory_gib for row in rows.values() if row.memory_gib is not None]
        return LatencyTable(
            self.model,
            self.hardware.name,
            list(rows),  # type: ignore[arg-type]  # tables take what NumPy takes
            [row.latency_ms for row in rows.values()],  # type: ignore[arg-type]
            memory_gib=memory if len(memory) == len(rows) else None,  # type: ignore[arg-type]
        )

    def open_gaps(self, rows: Rows, failed: Collection[int]) -> Iterator[OpenGap]:
        """Sizes that could still be measured, stage by stage, gap by gap; the last gap is above all that is measured.

        Given up is what has failed, what is larger than something that failed above all that was measured, and what is
        smaller than all that could be measured.
        """
        sizes = list(rows)
        above = min((batch for batch in failed if batch > sizes[-1]), default=None) if sizes else None
        for stage, candidates in self.candidates.items():
            for low, high in [*pairwise(sizes), (sizes[-1] if sizes else 0, above)]:
                start = bisect_right(candidates, low)
                end = len(candidates) if high is None else bisect_left(candidates, high)
                inside = tuple(batch for batch in candidates[start:end] if batch not in failed)
                if inside:
                    measured = high if high in rows else None
                    yield OpenGap(stage, low if low in rows else None, measured, inside, high)

    def optimistic(self, rows: Rows, gaps: Collection[OpenGap]) -> dict[int, Row]:
        """Return the optimistic table of the theorem above."""
        best = dict(rows)
        for gap in gaps:
            ends = [rows[size] for size in (gap.low, gap.high) if size is not None]
            memory = [row.memory_gib for row in ends if row.memory_gib is not None]
            least = min((row.latency_ms for row in ends), default=LEAST_MS)
            best[gap.inside[-1]] = Row(least, min(memory, default=None))
            if not ends:  # a batch of one has a latency bound of its own
                best[gap.inside[0]] = Row(least)
        return dict(sorted(best.items()))


@dataclass(frozen=True)
class OpenGap:
    """Batch sizes that a stage may use and that were not measured, between two measured neighbours."""

    stage: str
    low: int | None  # None where nothing is measured yet.
    high: int | None  # None above all that is measured.
    inside: tuple[int, ...]  # Increasing, at least one.
    bounded_by: int | None = None  # `high`, or the size that failed above all that is measured.

    @property
    def next(self) -> int:
        """The size to measure: the middle one, so that each measurement halves what is open.

        Above all that is measured, where no size has failed yet, at most twice as large as the largest: bigger steps
        would run out of memory where smaller ones would not.
        """
        if self.low is None:
            return self.inside[0]
        if self.bounded_by is not None:
            return self.inside[(len(self.inside) - 1) // 2]
        return next((batch for batch in reversed(self.inside) if batch <= 2 * self.low), self.inside[0])

    @property
    def left(self) -> int:
        """How many sizes halving takes at most, or doubling from what is measured."""
        if self.bounded_by is not None:
            return len(self.inside).bit_length()
        return max(1, math.ceil(math.log2(self.inside[-1] / max(self.low or 1, 1))))

    def __str__(self) -> str:
        few = len(self.inside) == 1
        return f"batch {self.inside[0]}" if few else f"a batch from {self.inside[0]} to {self.inside[-1]}"


def _asked(pipeline: Pipeline, profiles: Profiles) -> Plan:
    objective = resolve_objective(pipeline)
    return Plan(pipeline, profiles, objective.under(check_laws(pipeline, None), pipeline.discipline))


def beyond_theorem(asked: Plan) -> list[str]:
    """Say what a plan has that might make it dearer where a batch is faster, or of which that is not known."""
    odd = {
        f"guarantee {asked.guarantee}": asked.guarantee not in (Guarantee.TRACE, Guarantee.ENVELOPE),
        f"a {asked.certificate} certificate": asked.certificate is not CertificateKind.CLASSIC,
        f"{asked.discipline} queues": asked.discipline is not Discipline.OLDEST_FIRST,
        "dispatch that is not eager": bool(asked.objective.dispatch),
        "a budget": asked.budget_microusd_per_hour is not None,
        "collected batches": asked.collects,
        "staggered outputs": any(asked.pipeline.staggers_ns(asked.laws).values()),
    }
    return [what for what, is_so in odd.items() if is_so]


def _candidates(
    pipeline: Pipeline, model: str, hardware: str, max_batch: int | None
) -> dict[str, tuple[int, ...]]:
    users = {name: stage for name, stage in pipeline.stages.items() if model in stage.models}
    if not users:
        used = listed(sorted({one for stage in pipeline.stages.values() for one in stage.models}))
        message = f"no stage of {pipeline.name} uses the model {shown(model)} (used are {used}): say its name"
        raise InputError.one("name", message)
    allowed = {
        name: stage for name, stage in users.items() if stage.hardware is None or hardware in stage.hardware
    }
    if not allowed:
        raise InputError.one(
            "hardware", f"{listed(list(users))} of {pipeline.name} may not use {shown(hardware)}"
        )
    found: dict[str, tuple[int, ...]] = {}
    for name, stage in allowed.items():
        if stage.batch_sizes is not None:
            sizes: Collection[int] = stage.batch_sizes
        else:
            most = min(stage.batch_max or math.inf, max_batch or math.inf)
            if math.isinf(most):
                message = (
                    f"say up to which batch size (--max-batch 64): {name} of {pipeline.name} may use any"
                )
                raise InputError.one("max_batch", message)
            sizes = range(stage.batch_min, int(most) + 1)
        found[name] = tuple(size for size in sizes if max_batch is None or size <= max_batch)
    if not any(found.values()):
        message = f"{listed(list(found))} of {pipeline.name} may only use larger batches"
        raise InputError.one("max_batch", message)
    return {name: sizes for name, sizes in found.items() if sizes}
