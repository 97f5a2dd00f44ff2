"""A plan: one choice per stage, with its whole problem, its figures and where they come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mipplan.core import (
    MICRODOLLARS_PER_DOLLAR,
    NS_PER_S,
    Fault,
    InputError,
    NoPlanError,
    check_quantile,
    check_seed,
)
from mipplan.documents import write_text_atomically
from mipplan.pipeline import Pipeline
from mipplan.profiles import Profiles
from mipplan.result.checks import resolve_slo_ns
from mipplan.result.choices import Choice, read_choices
from mipplan.result.document import (
    PlanDocument,
    altered_parts,
    document_text,
    fingerprint,
    placed_in,
    read_document,
)
from mipplan.result.effort import Effort
from mipplan.result.explanation import Explanation
from mipplan.result.refinement import Refinement
from mipplan.trace import Trace


class PlanStatus(StrEnum):
    """How much is proven about a plan."""

    OPTIMAL = "optimal"
    """The cheapest certified plan of the option set; proven. Of a refined plan (guarantee ``replay``): the cheapest
    whose replay keeps the objective."""
    FEASIBLE = "feasible"
    """Certified, but a limit was hit before it was proven cheapest: compare cost and lower bound."""
    INFEASIBLE = "infeasible"
    """Proven: no plan of the option set can be certified; `reason` says why."""
    UNKNOWN = "unknown"
    """A limit was hit before any plan was found or excluded."""
    GIVEN = "given"
    """Made from choices by `Plan.from_choices`, or by a baseline's rule; nothing is proven about it."""


class Guarantee(StrEnum):
    """What traffic the latency bound holds for."""

    TRACE = "trace"
    """The trace planned for, with the token draws of the plan's seed."""
    ENVELOPE = "envelope"
    """Every query of any traffic inside an arrival curve, whatever is drawn."""
    REPLAY = "replay"
    """None by a theorem: the *replay* of the trace kept the objective (`mipplan.refine`)."""


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
class Plan:
    """One choice per stage (or none, with the reason), self-contained and immutable.

    Attributes
    ----------
    pipeline : Pipeline
    profiles : Profiles
        The hardware and latency tables admissible for the pipeline's models.
    slo_ns : int
    quantile : float
    seed : int
        Of the token draws.
    status : PlanStatus
    choices : mapping of str to Choice
        In file order of the stages; empty if there is no plan.
    guarantee : Guarantee
    formulation, solver : str or None
        How it was found; None for a given plan.
    microusd_per_hour, lower_bound_microusd_per_hour : int or None
        Whole micro-dollars per hour; None where there is no such figure.
    bound_ns, certificate_ns : int or None
    reason : str or None
        Why there is no plan, or what kept it from being proven optimal.
    trace : TraceReference or None
        None for a given plan.
    headroom : float
        Multiple of the trace's traffic that was planned for; the certificate is for that multiple.
    margin_ns : int
        Kept back: the certificate is at most the objective less this.
    envelope : tuple of (burst, rate) or None
        Arrival curve of ``guarantee="envelope"``: queries and queries per second.
    budget_microusd_per_hour : int or None
        If the plan is the fastest within a budget instead of the cheapest within an objective.
    effort : Effort or None
        What finding it took; not part of the plan file.
    explainer : callable or None
        What `explain` calls: set by `mipplan.plan`, which has the trace at hand; not part of the plan file.
    refinement : Refinement or None
        What `mipplan.refine` found out: set by it; not part of the plan file.
    """

    pipeline: Pipeline
    profiles: Profiles
    slo_ns: int
    quantile: float = 0.99
    seed: int = 0
    status: PlanStatus = PlanStatus.GIVEN
    choices: Mapping[str, Choice] = field(default_factory=dict)
    guarantee: Guarantee = Guarantee.TRACE
    formulation: str | None = None
    solver: str | None = None
    microusd_per_hour: int | None = None
    lower_bound_microusd_per_hour: int | None = None
    bound_ns: int | None = None
    certificate_ns: int | None = None
    reason: str | None = None
    trace: TraceReference | None = None
    headroom: float = 1.0
    margin_ns: int = 0
    envelope: tuple[tuple[float, float], ...] | None = None
    budget_microusd_per_hour: int | None = None
    effort: Effort | None = field(default=None, compare=False, repr=False)
    refinement: Refinement | None = field(default=None, compare=False, repr=False)
    explainer: Callable[[Plan], Explanation] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        # A file holds plain numbers: whole ones and NumPy's would not come back as the same bytes.
        object.__setattr__(self, "quantile", check_quantile(self.quantile))
        object.__setattr__(self, "seed", check_seed(self.seed))
        if self.choices:
            choices = read_choices(self.pipeline, self.profiles, self.choices)
            if self.microusd_per_hour is None:
                object.__setattr__(self, "microusd_per_hour", _microusd_per_hour(self.profiles, choices))
        else:
            choices = {}
        object.__setattr__(self, "choices", MappingProxyType(choices))

    def __reduce__(self) -> tuple[Any, ...]:
        # Read-only views cannot be pickled or copied; going through the constructor makes them anew.
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "explainer"}
        return partial(type(self), **{**values, "choices": dict(self.choices)}), ()

    @classmethod
    def from_choices(
        cls,
        pipeline: Pipeline,
        profiles: Profiles,
        choices: Mapping[str, Choice | tuple[str, int, int]],
        *,
        slo_s: float | None = None,
        quantile: float = 0.99,
        seed: int = 0,
    ) -> Plan:
        """Make a plan of what you run today, to judge it by `certify` and `replay`.

        Parameters
        ----------
        pipeline : Pipeline
        profiles : Profiles
        choices : mapping of str to (hardware, batch, replicas)
            Every stage. The pipeline's allow-lists and bounds are for planning and do not apply here; batches
            between measured sizes are interpolated, larger ones refused.
        slo_s : float, optional
            The pipeline's by default.
        quantile, seed
            As for `mipplan.plan`.

        Raises
        ------
        InputError
            Listing every stage missing, unknown, or impossible with these profiles.
        """
        slo_ns = resolve_slo_ns(pipeline, slo_s)
        relevant = relevant_profiles(pipeline, profiles)
        made = read_choices(pipeline, relevant, choices)
        return cls(pipeline, relevant, slo_ns, quantile, seed, choices=made)

    @property
    def slo_s(self) -> float:
        """The objective in seconds."""
        return self.slo_ns / NS_PER_S

    @property
    def usd_per_hour(self) -> float | None:
        """Cost, dollars per hour."""
        return _scaled(self.microusd_per_hour, MICRODOLLARS_PER_DOLLAR)

    @property
    def lower_bound_usd_per_hour(self) -> float | None:
        """Proven: no certified plan (of a refined one: none that replays within the objective) costs less.

        None if none exists, or for a given plan.
        """
        return _scaled(self.lower_bound_microusd_per_hour, MICRODOLLARS_PER_DOLLAR)

    @property
    def gap(self) -> float | None:
        """(cost − lower bound) / cost; 0 when optimal."""
        if self.microusd_per_hour is None or self.lower_bound_microusd_per_hour is None:
            return None
        return 1.0 - self.lower_bound_microusd_per_hour / self.microusd_per_hour

    @property
    def bound_s(self) -> float | None:
        """The latency bound used inside the MILP (a relaxation of the certificate), seconds."""
        return _scaled(self.bound_ns, NS_PER_S)

    @property
    def certificate_s(self) -> float | None:
        """The certified latency quantile on the trace planned for, seconds."""
        return _scaled(self.certificate_ns, NS_PER_S)

    def service_ns(self, stage: str) -> NDArray[np.int64]:
        """ℓ(1), …, ℓ(b) of a stage's choice in ns, shape (b,)."""
        choice = self.choices[stage]
        table = self.profiles.table(self.pipeline.stages[stage].model, choice.hardware)
        if table is None:
            raise AssertionError("validated when the plan was made")
        return table.service_ns(choice.batch)

    def explain(self) -> Explanation:
        """Explain what binds, what each stage could spare, and what else would have done.

        Raises
        ------
        NoPlanError
            If there is no plan; its message is the reason.
        InputError
            If the plan came from a file or from choices: it then has no trace, and
            ``mipplan.explain(plan, trace)`` must be given one.
        """
        self.require()
        if self.explainer is None:
            raise InputError.one(
                "plan", "has no trace at hand to explain it on; use mipplan.explain(plan, trace)"
            )
        return self.explainer(self)

    def require(self) -> Plan:
        """Return the plan itself if it has choices.

        Raises
        ------
        NoPlanError
            With the reason.
        """
        if not self.choices:
            raise NoPlanError(f"{self.status}: {self.reason or 'there is no plan'}")
        return self

    def save(self, path: str | Path) -> None:
        """Write the plan as JSON (format 1), whole or not at all.

        Raises
        ------
        InputError
            If the place cannot be written to.
        """
        write_text_atomically(path, self.to_json())

    def to_json(self) -> str:
        """Return the text of the plan file: same plan, same bytes."""
        return document_text(self.to_document())

    def to_document(self) -> dict[str, Any]:
        """JSON-able form; see `mipplan.result.document` for the fields."""
        pipeline, profiles = self.pipeline.to_document(), self.profiles.to_document()
        return {
            "format": 1,
            "status": self.status.value,
            "reason": self.reason,
            "choices": {
                stage: {"hardware": c.hardware, "batch": c.batch, "replicas": c.replicas}
                for stage, c in self.choices.items()
            },
            "figures": {
                "microusd_per_hour": self.microusd_per_hour,
                "lower_bound_microusd_per_hour": self.lower_bound_microusd_per_hour,
                "bound_ns": self.bound_ns,
                "certificate_ns": self.certificate_ns,
            },
            "slo_ns": self.slo_ns,
            "quantile": self.quantile,
            "guarantee": self.guarantee.value,
            "headroom": float(self.headroom),
            "margin_ns": self.margin_ns,
            "envelope": None if self.envelope is None else [list(bucket) for bucket in self.envelope],
            "budget_microusd_per_hour": self.budget_microusd_per_hour,
            "seed": self.seed,
            "formulation": self.formulation,
            "solver": self.solver,
            "trace": None if self.trace is None else vars(self.trace).copy(),
            "pipeline": pipeline,
            "profiles": profiles,
            "hashes": {"pipeline": fingerprint(pipeline), "profiles": fingerprint(profiles)},
        }

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a plan file.

        Raises
        ------
        InputError
            Listing every fault with its place; also if the file's checksum shows it was altered.
        """
        document = read_document(path)
        altered = altered_parts(document)
        if altered:
            raise InputError(
                Fault(
                    str(path), f"was altered after it was written: the checksum of its {part} does not match"
                )
                for part in altered
            )
        return cls.from_document(document, origin=str(path))

    @classmethod
    def from_document(cls, document: PlanDocument, *, origin: str = "plan") -> Plan:
        """Build a plan from a validated document; a fault names its place in `origin`."""
        with placed_in(origin):
            return cls(
                pipeline=Pipeline.from_document(document.pipeline, origin=f"{origin}: pipeline"),
                profiles=Profiles.from_document(document.profiles, origin=f"{origin}: profiles"),
                slo_ns=document.slo_ns,
                quantile=document.quantile,
                seed=document.seed,
                status=PlanStatus(document.status),
                choices={s: Choice(c.hardware, c.batch, c.replicas) for s, c in document.choices.items()},
                guarantee=Guarantee(document.guarantee),
                formulation=document.formulation,
                solver=document.solver,
                microusd_per_hour=document.figures.microusd_per_hour,
                lower_bound_microusd_per_hour=document.figures.lower_bound_microusd_per_hour,
                bound_ns=document.figures.bound_ns,
                certificate_ns=document.figures.certificate_ns,
                reason=document.reason,
                trace=None if document.trace is None else TraceReference(**document.trace.model_dump()),
                headroom=document.headroom,
                margin_ns=document.margin_ns,
                envelope=None if document.envelope is None else tuple((b, r) for b, r in document.envelope),
                budget_microusd_per_hour=document.budget_microusd_per_hour,
            )


def relevant_profiles(pipeline: Pipeline, profiles: Profiles) -> Profiles:
    """Only what the pipeline's models have measurements for; a plan carries no more than its own problem."""
    models = {stage.model for stage in pipeline.stages.values()}
    hardware = {name for model, name in profiles.tables if model in models}
    return profiles.restricted_to(models, hardware)


def _microusd_per_hour(profiles: Profiles, choices: Mapping[str, Choice]) -> int:
    return sum(c.replicas * profiles.hardware[c.hardware].microusd_per_hour for c in choices.values())


def _scaled(value: int | None, scale: int) -> float | None:
    return None if value is None else value / scale
