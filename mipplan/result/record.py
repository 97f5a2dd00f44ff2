"""What a plan is made of: what was asked for, its choices, what is known of it, and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import Any

from mipplan.core import (
    DEFAULT_QUANTILE,
    NS_PER_S,
    UNLIMITED_NS,
    Allowance,
    Criterion,
    Fault,
    Faults,
    InputError,
    Int64,
    QuantileLimit,
    check_all,
    check_one_of,
    check_quantile,
    check_seed,
    check_slo,
    format_duration,
    is_whole,
    over_text,
    shown,
    suggestion,
)
from mipplan.pipeline import Discipline, Dispatch, DispatchLaw, Laws, Pipeline, Stage, check_accuracy
from mipplan.profiles import EnergyTerms, Profiles
from mipplan.result.reliability import MOST_COUNT, Reliability, SampleFigure, worst_sample
from mipplan.result.runs import CertificateKind, Refinement, RunClass, check_runs
from mipplan.tokens import check_seeds, read_traces
from mipplan.trace import Trace, TraceReference

# --- what was asked for ----------------------------------------------------------------------------------------------


class Guarantee(StrEnum):
    """What traffic the latency bound holds for."""

    TRACE = "trace"
    """The trace planned for, with the token draws of the plan's seed."""
    ENVELOPE = "envelope"
    """Every query of any traffic inside an arrival curve, whatever is drawn."""
    REPLAY = "replay"
    """The *replay* of the trace kept the objective (`mipplan.refine`). Where all stages are timed that is a
    certificate, as every run is the replay; elsewhere it is said of this one run, by no theorem."""
    RELIABLE = "reliable"
    """A stated share of scenarios of tomorrow's traffic, tested on fresh ones (`Plan.reliability`)."""


@dataclass(frozen=True)
class Objective:
    """What was asked for.

    Raises `InputError` if the quantile or the seed is none.
    """

    slo_ns: int  # The latency objective.
    quantile: float = 0.99  # Of latency over queries that must keep it, in (0, 1].
    seed: int = 0  # Of the token draws.
    guarantee: Guarantee = Guarantee.TRACE
    # Multiple of the trace's traffic that was planned for; the certificate is for that multiple.
    headroom: float = 1.0
    margin_ns: int = 0  # Kept back: the certificate is at most the objective less this.
    # Arrival curve of ``guarantee="envelope"``: queries and queries per second.
    envelope: tuple[tuple[float, float], ...] | None = None
    # If the plan is the fastest within a budget instead of the cheapest within an objective.
    budget_microusd_per_hour: int | None = None
    discipline: Discipline = Discipline.OLDEST_FIRST  # Which waiting tokens a batch takes first.
    # Stages whose dispatch is not eager, in file order, with their laws.
    dispatch: tuple[tuple[str, DispatchLaw], ...] = ()
    certificate: CertificateKind = CertificateKind.CLASSIC  # By which theorem latencies are bounded.
    runs: RunClass | None = None  # What a sharp certificate, or one of fifo queues, holds for; else None.
    # The quantile is over the queries of each window of this length, and kept in this share of them; None for over all.
    per_ns: int | None = None
    share: float = 1.0
    others: tuple[QuantileLimit, ...] = ()  # Further quantiles over the same, with their limits.
    seeds: int = 1  # Draws of the tokens of every trace, from `seed` on, each of which must keep it.
    min_accuracy: float | None = None  # The least accuracy of the pipeline with what its stages run.
    energy: EnergyTerms | None = None  # None where nothing is asked of energy, and nothing told.

    def __post_init__(self) -> None:
        # A file holds plain numbers: whole ones and NumPy's would not come back as the same bytes.
        object.__setattr__(self, "quantile", check_quantile(self.quantile))
        object.__setattr__(self, "seed", check_seed(self.seed))
        object.__setattr__(self, "headroom", float(self.headroom))
        object.__setattr__(self, "seeds", check_seeds(self.seeds))
        if self.min_accuracy is not None:
            object.__setattr__(self, "min_accuracy", check_accuracy(self.min_accuracy))

    def under(self, laws: Laws, discipline: str = Discipline.OLDEST_FIRST) -> Objective:
        """Return the same with these laws, of every stage in file order, and this discipline; fifo runs go with it."""
        spread = tuple((stage, law) for stage, law in laws.items() if law is not DispatchLaw.EAGER)
        is_same = self.certificate is CertificateKind.SHARP or discipline == self.discipline
        runs = self.runs if is_same else None
        return replace(self, dispatch=spread, discipline=Discipline(discipline), runs=runs)

    @property
    def name(self) -> str:
        """What is to keep the objective, as people write it: ``P99``, ``P99 in every 5min``."""
        return f"P{100 * self.quantile:g}{over_text(self.per_ns, self.share)}"

    @property
    def text(self) -> str:
        """The whole objective: ``P99 in every 5min ≤ 300 ms, P50 ≤ 100 ms``; ``any objective`` if there is no limit."""
        if self.slo_ns == UNLIMITED_NS:
            return "any objective"
        name, over = "every query" if self.envelope else self.name, over_text(self.per_ns, self.share)
        told = [f"{name} ≤ {format_duration(self.slo_ns)}"]
        told += [f"P{100 * one.quantile:g}{over} ≤ {format_duration(one.limit_ns)}" for one in self.others]
        return ", ".join(told)

    def criterion(self, ingress_ns: Int64) -> Criterion:
        """Return what queries with these ingress times, shape (n,), are to keep."""

        def allowance(quantile: float) -> Allowance:
            return Allowance.of(quantile, ingress_ns, self.per_ns, self.share)

        others = tuple((allowance(one.quantile), self.slo_ns - one.limit_ns) for one in self.others)
        return Criterion(allowance(self.quantile), others)

    @property
    def per_s(self) -> float | None:
        """Length of the windows in seconds; None where there are none."""
        return None if self.per_ns is None else self.per_ns / NS_PER_S

    @property
    def deadline_ns(self) -> int:
        """The latency to plan for: the objective less the margin."""
        return self.slo_ns - self.margin_ns


def check_laws(
    pipeline: Pipeline, dispatch: Dispatch, discipline: str | None = None, otherwise: Laws | None = None
) -> Laws:
    """Return the law of every stage, as asked for, else `otherwise`, else the pipeline's; check the discipline, too.

    Raises `InputError` listing what is no law, no stage or no discipline.
    """
    faults, queues = Faults(), pipeline.discipline if discipline is None else discipline
    laws = faults.take(lambda: pipeline.laws(dispatch, otherwise))
    faults.take(lambda: check_one_of("discipline", queues, Discipline, repr))
    faults.check()
    return laws.value


def check_certified_by(
    certificate: str, runs: RunClass | None, guarantee: str, budget: float | None, discipline: str
) -> None:
    """Raise `InputError` unless there is such a certificate, and it goes with the rest of an objective."""
    check_all(
        lambda: check_one_of("certificate", certificate, ["auto", *CertificateKind], repr),
        lambda: None if runs is None else check_runs(runs),
    )
    if discipline == Discipline.FIFO:
        return  # It has one certificate, of any class of runs; what does not go with it is said elsewhere.
    if certificate == CertificateKind.CLASSIC and runs is not None:
        raise InputError.one("runs", "go with a sharp certificate: the classic one has none")
    if certificate == CertificateKind.SHARP and guarantee == Guarantee.ENVELOPE:
        raise InputError.one("certificate", "an envelope has no sharp one: that counts one trace's arrivals")
    if certificate == CertificateKind.SHARP and budget is not None:
        raise InputError.one("certificate", "a budget goes with the classic one only")
    if runs is not None and (guarantee == Guarantee.ENVELOPE or budget is not None):
        what = "a budget" if guarantee != Guarantee.ENVELOPE else "an envelope"
        raise InputError.one("runs", f"go with a sharp certificate, and {what} has none")


def resolve_objective(
    pipeline: Pipeline,
    slo_s: float | None = None,
    quantile: float | None = None,
    seed: int = 0,
    *,
    per_s: float | None = None,
    share: float | None = None,
) -> Objective:
    """Return what is asked for: by the arguments, else by the pipeline, else P99 over all queries.

    Further quantiles of the pipeline count where neither a limit nor a quantile is given.

    Raises `InputError` listing every fault.
    """
    faults = Faults()
    slo_ns = faults.take(lambda: resolve_slo_ns(pipeline, slo_s))
    stated = pipeline.slo.quantile or DEFAULT_QUANTILE
    wanted = faults.take(lambda: stated if quantile is None else check_quantile(quantile))
    over = faults.take(lambda: pipeline.slo.over(per_s, share))
    drawn = faults.take(lambda: check_seed(seed))
    faults.check()
    others = pipeline.slo.others if slo_s is None and quantile is None else ()
    slo = over.value
    return Objective(
        slo_ns.value, wanted.value, drawn.value, per_ns=slo.per_ns, share=float(slo.share), others=others
    )


def relevant_profiles(pipeline: Pipeline, profiles: Profiles, *, power: bool = False) -> Profiles:
    """Only what the pipeline's models have measurements for; a plan carries no more than its own problem.

    What devices draw belongs to it where energy is asked for.
    """
    models = {model for stage in pipeline.stages.values() for model in stage.models}
    hardware = {name for model, name in profiles.tables if model in models}
    named = {name for stage in pipeline.stages.values() for name in stage.hardware or ()}  # measured or not
    found = profiles.restricted_to(models, hardware | named)
    return found if power else found.without_power()


def resolve_slo_ns(pipeline: Pipeline, slo_s: float | None) -> int:
    """Return the objective in ns: the argument, else the pipeline's.

    Raises `InputError` if there is neither, or it is not a positive time.
    """
    if slo_s is not None:
        return check_slo(slo_s)
    if pipeline.slo_ns is None:
        raise InputError.one(
            pipeline.place(("slo",)),
            f"the pipeline {pipeline.name!r} states none: write slo: 300ms there, or pass --slo 300ms "
            "(in Python slo_s=0.3)",
        )
    return pipeline.slo_ns


# --- what was chosen --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Choice:
    """Configuration of one stage."""

    hardware: str
    batch: int
    """Batch cap."""
    replicas: int
    variant: str | None = None
    """The model that is run, where the stage may run several."""

    def __repr__(self) -> str:
        told = (f"{name}={value!r}" for name, value in vars(self).items() if value is not None)
        return f"Choice({', '.join(told)})"


def read_choices(
    pipeline: Pipeline, profiles: Profiles, given: Mapping[str, Choice | tuple[Any, ...]]
) -> dict[str, Choice]:
    """Check the choices of all stages and bring them into file order, numbers as plain integers.

    Raises `InputError` listing every stage missing, unknown, or impossible with these profiles.
    """
    if not isinstance(given, Mapping):
        raise InputError.one("choices", f"expected a choice for every stage, found {shown(given)}")
    faults = Faults()
    for name in (name for name in given if name not in pipeline.stages):
        known = ", ".join(pipeline.stages)
        faults.add(Fault(f"choices.{name}", f"there is no such stage; the stages are {known}"))
    made = {
        name: faults.take(partial(_read_choice, stage, profiles, f"choices.{name}", given.get(name)))
        for name, stage in pipeline.stages.items()
    }
    faults.check()
    return {name: choice.value for name, choice in made.items()}


def _read_choice(stage: Stage, profiles: Profiles, place: str, given: object) -> Choice:
    """Read the choice of a stage; without a variant it is the one that the stage runs."""
    if given is None:
        raise InputError.one(place, "missing: every stage needs (hardware, batch, replicas)")
    complete = isinstance(given, tuple | list) and len(given) in ((3, 4) if stage.variants else (3,))
    choice = Choice(*given) if complete else given  # type: ignore[misc]
    if not isinstance(choice, Choice):
        more = ", variant" if stage.variants else ""
        raise InputError.one(place, f"expected (hardware, batch, replicas{more}), found {choice!r}")
    model = stage.model if choice.variant is None else choice.variant
    if model not in stage.models:
        hint = suggestion(str(model), stage.models) or f"; there are {', '.join(stage.models)}"
        raise InputError.one(f"{place}.variant", f"there is no variant {shown(model)}{hint}")
    faults = [
        Fault(f"{place}.{what}", f"expected a whole number from 1 to {MOST_COUNT:,}, found {shown(value)}")
        for what, value in (("batch", choice.batch), ("replicas", choice.replicas))
        if not is_whole(value) or not 1 <= value <= MOST_COUNT
    ]
    table = profiles.table(model, choice.hardware) if isinstance(choice.hardware, str) else None
    if table is None:
        measured = ", ".join(profiles.hardware_for(model)) or "none"
        message = f"model {model!r} has no measurements on {choice.hardware!r} (measured: {measured})"
        faults.append(Fault(f"{place}.hardware", message))
    elif not faults and choice.batch > table.largest_batch:
        found = f"largest measured is {table.largest_batch}, found {choice.batch}"
        faults.append(Fault(f"{place}.batch", f"{found}; latency is not extrapolated"))
    if faults:
        raise InputError(faults)
    return Choice(choice.hardware, int(choice.batch), int(choice.replicas), model if stage.variants else None)


# --- what is known ---------------------------------------------------------------------------------------------------


class PlanStatus(StrEnum):
    """How much is proven about a plan."""

    OPTIMAL = "optimal"
    """The cheapest certified plan of the option set; proven. Certified means that every stage serves more than arrives
    there on average (it is stable), and the certificate keeps the objective. Of a refined plan (guarantee ``replay``):
    the cheapest, stable or not, whose replay keeps the objective; if it is timed, its replay is its certificate, and it
    is stable."""
    FEASIBLE = "feasible"
    """Certified (a reliable one: its test passed), but not proven cheapest: compare cost and lower bound."""
    INFEASIBLE = "infeasible"
    """Proven: no plan of the option set can be certified; `reason` says why."""
    UNKNOWN = "unknown"
    """A limit was hit before any plan was found or excluded, or a reliable plan's test did not pass."""
    GIVEN = "given"
    """Made from choices by `Plan.from_choices`, or by a baseline's rule; nothing is proven about it."""


class Limit(StrEnum):
    """What stopped a search before it was done."""

    TIME = "time"
    """The time limit."""
    INTERRUPT = "interrupt"
    """Ctrl-C."""


@dataclass(frozen=True)
class Figures:
    """Figures of a plan, whole numbers; None where there is no such figure."""

    microusd_per_hour: int | None = None  # Cost.
    # Proven: no certified plan (of a refined one: none that replays within the objective) costs less.
    lower_bound_microusd_per_hour: int | None = None
    bound_ns: int | None = None  # The latency bound used inside the MILP, a relaxation of the certificate.
    # The certified latency quantile on the trace planned for; of several samples, the greatest.
    certificate_ns: int | None = None
    samples: tuple[SampleFigure, ...] = ()  # On each of several samples; empty for one.
    power_mw: int | None = None  # Mean power of any conforming run at most, where energy is asked for,
    least_power_mw: int | None = None  # and of one that takes what the tables say at least.


# --- where it comes from ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Effort:
    """What finding a plan took."""

    estimator_calls: int
    """Configurations that were simulated on the trace, each counted once."""
    seconds: float
    """Wall-clock time of the search, judging the result left out."""


@dataclass(frozen=True)
class Provenance:
    """Where a plan comes from."""

    # The trace planned for, the first by name of several; None for a given plan.
    trace: TraceReference | None = None
    formulation: str | None = None  # How it was found; None for a given plan.
    solver: str | None = None
    # What finding it took, and what `mipplan.refine` found out; not part of the plan file.
    effort: Effort | None = field(default=None, compare=False, repr=False)
    refinement: Refinement | None = field(default=None, compare=False, repr=False)
    reliability: Reliability | None = None  # The test of a reliable plan.
    # The trace planned for itself, at hand until the plan is saved or pickled: what `Plan.explain` looks at.
    sample: Trace | None = field(default=None, compare=False, repr=False)
    others: tuple[TraceReference, ...] = ()  # The same of further traces, by name.
    other_samples: tuple[Trace, ...] = field(default=(), compare=False, repr=False)

    @classmethod
    def on(
        cls, traces: Trace | Sequence[Trace], formulation: str | None = None, solver: str | None = None
    ) -> Provenance:
        """Return that of a plan for one or several traces."""
        first, *others = read_traces(traces)
        reference, known = TraceReference.of(first), tuple(map(TraceReference.of, others))
        return cls(reference, formulation, solver, sample=first, others=known, other_samples=tuple(others))

    @property
    def traces(self) -> tuple[TraceReference, ...]:
        """All traces planned for."""
        return () if self.trace is None else (self.trace, *self.others)

    def scope(self, samples: Sequence[SampleFigure]) -> str:
        """Say what a certificate is on, given those of several samples, in words that follow it."""
        if worst := worst_sample(samples):
            return f" on {worst.name}, the worst of {len(samples)} samples"
        return "" if self.trace is None else f" on {self.trace.name} ({self.trace.queries:,} queries)"

    @property
    def samples(self) -> list[Trace]:
        """Those of them at hand."""
        return [] if self.sample is None else [self.sample, *self.other_samples]
