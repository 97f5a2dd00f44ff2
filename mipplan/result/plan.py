"""A plan: one choice per stage, with its whole problem, its figures and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mipplan.core import (
    MICRODOLLARS_PER_DOLLAR,
    NS_PER_S,
    Fault,
    FieldOf,
    InputError,
    Int64,
    NoPlanError,
    Printable,
    Summary,
    format_duration,
    from_front,
    remake,
)
from mipplan.documents import write_text_atomically
from mipplan.pipeline import Pipeline
from mipplan.profiles import LatencyTable, Profiles
from mipplan.result.explanation import Explanation, dollars_text
from mipplan.result.plan_file import (
    PlanDocument,
    altered_parts,
    document_text,
    fingerprint,
    json_form,
    read_document,
    written_fields,
)
from mipplan.result.record import (
    Choice,
    Effort,
    Figures,
    Guarantee,
    Limit,
    Objective,
    PlanStatus,
    Provenance,
    Refinement,
    TraceReference,
    proof_text,
    read_choices,
    resolve_slo_ns,
)
from mipplan.result.runs import CertificateKind, RunClass

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Plan(Printable):
    """One choice per stage (or none, with the reason), self-contained and immutable.

    Attributes
    ----------
    pipeline : Pipeline
    profiles : Profiles
        The hardware and latency tables admissible for the pipeline's models.
    objective : Objective
        What was asked for; its fields are the plan's, too (`slo_ns`, `quantile`, `seed`, …).
    choices : mapping of str to Choice
        In file order of the stages; empty if there is no plan.
    status : PlanStatus
    figures : Figures
        Their fields are the plan's, too.
    provenance : Provenance
        Its fields are the plan's, too.
    reason : str or None
        Why there is no plan, or what kept it from being proven optimal.
    limit : Limit or None
        What stopped the search, if anything did.
    """

    pipeline: Pipeline
    profiles: Profiles
    objective: Objective
    choices: Mapping[str, Choice] = field(default_factory=dict)
    status: PlanStatus = PlanStatus.GIVEN
    figures: Figures = field(default_factory=Figures)
    provenance: Provenance = field(default_factory=Provenance)
    reason: str | None = None
    limit: Limit | None = None

    slo_ns = FieldOf[int]("objective.slo_ns")
    """The latency objective in nanoseconds."""
    quantile = FieldOf[float]("objective.quantile")
    """Of latency over queries that must keep the objective."""
    seed = FieldOf[int]("objective.seed")
    """Of the token draws."""
    guarantee = FieldOf[Guarantee]("objective.guarantee")
    """What traffic the latency bound holds for."""
    headroom = FieldOf[float]("objective.headroom")
    """Multiple of the trace's traffic that was planned for."""
    margin_ns = FieldOf[int]("objective.margin_ns")
    """Kept back of the objective."""
    envelope = FieldOf[tuple[tuple[float, float], ...] | None]("objective.envelope")
    """Arrival curve of ``guarantee="envelope"``: (burst, rate) of every token bucket."""
    budget_microusd_per_hour = FieldOf[int | None]("objective.budget_microusd_per_hour")
    """If the plan is the fastest within a budget."""
    certificate = FieldOf[CertificateKind]("objective.certificate")
    """By which theorem its latency is bounded."""
    runs = FieldOf[RunClass | None]("objective.runs")
    """The runs that a sharp certificate holds for."""
    microusd_per_hour = FieldOf[int | None]("figures.microusd_per_hour")
    """Cost in whole micro-dollars per hour."""
    lower_bound_microusd_per_hour = FieldOf[int | None]("figures.lower_bound_microusd_per_hour")
    """Proven lower bound in whole micro-dollars per hour."""
    bound_ns = FieldOf[int | None]("figures.bound_ns")
    """The latency bound used inside the MILP, ns."""
    certificate_ns = FieldOf[int | None]("figures.certificate_ns")
    """The certified latency quantile on the trace planned for, ns."""
    trace = FieldOf[TraceReference | None]("provenance.trace")
    """The trace planned for; None for a given plan."""
    formulation = FieldOf[str | None]("provenance.formulation")
    """Formulation asked for; None for a given plan."""
    solver = FieldOf[str | None]("provenance.solver")
    """Solver asked for, or the rule of a baseline; None for a given plan."""
    effort = FieldOf[Effort | None]("provenance.effort")
    """What finding it took."""
    refinement = FieldOf[Refinement | None]("provenance.refinement")
    """What `mipplan.refine` found out."""

    slo_s = FieldOf[float]("objective.slo_ns", NS_PER_S)
    """The objective in seconds."""
    usd_per_hour = FieldOf[float | None]("figures.microusd_per_hour", MICRODOLLARS_PER_DOLLAR)
    """Cost, dollars per hour."""
    lower_bound_usd_per_hour = FieldOf[float | None](
        "figures.lower_bound_microusd_per_hour", MICRODOLLARS_PER_DOLLAR
    )
    """Proven: no certified plan (of a refined one: none that replays within the objective) costs less.

    None if none exists, or for a given plan.
    """
    bound_s = FieldOf[float | None]("figures.bound_ns", NS_PER_S)
    """The latency bound used inside the MILP (a relaxation of the certificate), seconds."""
    certificate_s = FieldOf[float | None]("figures.certificate_ns", NS_PER_S)
    """The certified latency quantile on the trace planned for, seconds."""

    def __post_init__(self) -> None:
        choices = read_choices(self.pipeline, self.profiles, self.choices) if self.choices else {}
        if choices and self.figures.microusd_per_hour is None:
            prices = {name: device.microusd_per_hour for name, device in self.profiles.hardware.items()}
            cost = sum(choice.replicas * prices[choice.hardware] for choice in choices.values())
            object.__setattr__(self, "figures", replace(self.figures, microusd_per_hour=cost))
        object.__setattr__(self, "choices", MappingProxyType(choices))

    def __reduce__(self) -> tuple[Any, ...]:
        # The sample would be most of what is sent to another process.
        return remake(self, provenance=replace(self.provenance, sample=None))

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
        return cls(pipeline, relevant, Objective(slo_ns, quantile, seed), made)

    @property
    def gap(self) -> float | None:
        """(cost − lower bound) / cost; 0 when optimal."""
        if self.microusd_per_hour is None or self.lower_bound_microusd_per_hour is None:
            return None
        return 1.0 - self.lower_bound_microusd_per_hour / self.microusd_per_hour

    def with_slo(self, slo_ns: int) -> Plan:
        """Return the same choices with another latency objective, ns."""
        return replace(self, objective=replace(self.objective, slo_ns=slo_ns))

    def service_ns(self, stage: str) -> Int64:
        """ℓ(1), …, ℓ(b) of a stage's choice in ns, shape (b,)."""
        return self.table(stage).service_ns(self.choices[stage].batch)

    def table(self, stage: str) -> LatencyTable:
        """The measurements that a stage's choice rests on."""
        table = self.profiles.table(self.pipeline.stages[stage].model, self.choices[stage].hardware)
        if table is None:
            raise AssertionError("validated when the plan was made")
        return table

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
        if self.provenance.sample is None:
            raise InputError.one(
                "plan", "has no trace at hand to explain it on; use mipplan.explain(plan, trace)"
            )
        explanation: Explanation = from_front("explain")(self, self.provenance.sample)
        return explanation

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per stage: ``hardware``, ``batch``, ``replicas`` and ``usd_per_hour``."""
        import pandas as pd

        rows = {stage: asdict(choice) for stage, choice in self.choices.items()}
        table = pd.DataFrame.from_dict(rows, orient="index", columns=["hardware", "batch", "replicas"])
        prices = table["hardware"].map(lambda name: self.profiles.hardware[name].microusd_per_hour)
        usd_per_hour = table["replicas"] * prices / MICRODOLLARS_PER_DOLLAR
        return table.assign(usd_per_hour=usd_per_hour.astype(float)).rename_axis("stage")

    def _summary(self) -> Summary:
        headroom = "" if self.headroom == 1.0 else f", for {self.headroom:g} × the traffic"
        margin = f", {format_duration(self.margin_ns)} of it kept back" if self.margin_ns else ""
        prices = {name: device.microusd_per_hour for name, device in self.profiles.hardware.items()}
        has_budget = self.budget_microusd_per_hour is not None
        return Summary(
            f"Plan for {self.pipeline.name}: {self.status}",
            figures=(
                ("cost", self._cost_text()),
                ("objective", f"{self._objective_text()}{headroom}{margin}"),
                ("certificate", self._certificate_text()),
                ("replayed", self._replayed_text()),
                ("stopped by", self.limit and {"time": "the time limit", "interrupt": "Ctrl-C"}[self.limit]),
                ("reason", self.reason),
                ("proof", proof_text(self.status, self.guarantee, has_budget=has_budget)),
            ),
            headings=("stage", "hardware", ">batch", ">replicas", ">$/h"),
            rows=(
                (
                    stage,
                    choice.hardware,
                    str(choice.batch),
                    str(choice.replicas),
                    f"{choice.replicas * prices[choice.hardware] / MICRODOLLARS_PER_DOLLAR:.4f}",
                )
                for stage, choice in self.choices.items()
            ),
            count=len(self.choices),
            what="stages",
        )

    def _line(self) -> str:
        cost = "" if self.microusd_per_hour is None else f", {dollars_text(self.microusd_per_hour)}"
        bound = (
            "" if self.certificate_ns is None else f" (certificate {format_duration(self.certificate_ns)})"
        )
        stages = len(self.pipeline.stages)
        return f" {self.pipeline.name}: {self.status}{cost}, {self._objective_text()}{bound}, {stages} stages"

    def _cost_text(self) -> str | None:
        if self.microusd_per_hour is None:
            return None
        cost, budget = dollars_text(self.microusd_per_hour), self.budget_microusd_per_hour
        if budget is not None:
            proven = ", proven fastest within it" if self.status is PlanStatus.OPTIMAL else ""
            return f"{cost}, budget {dollars_text(budget)}{proven}"
        if self.status is PlanStatus.OPTIMAL:
            return f"{cost}, proven cheapest"
        if self.lower_bound_microusd_per_hour is None or self.gap is None:
            return cost
        return (
            f"{cost}, no plan below {dollars_text(self.lower_bound_microusd_per_hour)} (gap {self.gap:.1%})"
        )

    def _objective_text(self) -> str:
        share = "every query" if self.envelope is not None else f"P{100 * self.quantile:g}"
        return f"{share} ≤ {format_duration(self.slo_ns)}"

    def _certificate_text(self) -> str | None:
        if self.certificate_ns is None:
            return None
        scope = "" if self.trace is None else f" on {self.trace.name} ({self.trace.queries:,} queries)"
        if self.guarantee is Guarantee.ENVELOPE:
            scope = " for all traffic inside the arrival curve"
        sharp = "" if self.runs is None else f", sharp: {self.runs.text}"
        return f"{format_duration(self.certificate_ns)}{scope}{sharp}"

    def _replayed_text(self) -> str | None:
        refined = self.refinement
        if refined is None or refined.quantile_ns is None:
            return None
        return f"{format_duration(refined.quantile_ns)}, {refined.discipline.replace('_', ' ')}"

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
        """JSON-able form; see `mipplan.result.plan_file` for the fields."""
        inputs = {"pipeline": self.pipeline.to_document(), "profiles": self.profiles.to_document()}
        made = {"format": 1, **inputs, "hashes": {part: fingerprint(held) for part, held in inputs.items()}}
        own = written_fields(stopped=self.limit is not None, sharp=self.certificate is CertificateKind.SHARP)
        return {name: made[name] if name in made else json_form(getattr(self, name)) for name in own}

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
        made_for = None if document.trace is None else TraceReference(**document.trace.model_dump())
        try:
            return cls(
                Pipeline.from_document(document.pipeline, origin=f"{origin}: pipeline"),
                Profiles.from_document(document.profiles, origin=f"{origin}: profiles"),
                document.objective(),
                {stage: Choice(**choice.model_dump()) for stage, choice in document.choices.items()},
                PlanStatus(document.status),
                Figures(**document.figures.model_dump()),
                Provenance(made_for, document.formulation, document.solver),
                document.reason,
                None if document.limit is None else Limit(document.limit),
            )
        except InputError as error:
            raise InputError(
                fault if fault.place.startswith(origin) else Fault(f"{origin}: {fault.place}", fault.message)
                for fault in error.faults
            ) from None


def relevant_profiles(pipeline: Pipeline, profiles: Profiles) -> Profiles:
    """Only what the pipeline's models have measurements for; a plan carries no more than its own problem."""
    models = {stage.model for stage in pipeline.stages.values()}
    hardware = {name for model, name in profiles.tables if model in models}
    return profiles.restricted_to(models, hardware)
