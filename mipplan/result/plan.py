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
    Faults,
    FieldOf,
    InputError,
    Int64,
    NoPlanError,
    Printable,
    Summary,
    check_kinds,
    drawn,
    format_duration,
    from_front,
    remake,
    shown,
    usd_text,
)
from mipplan.documents import write_text_atomically
from mipplan.pipeline import Discipline, Dispatch, DispatchLaw, Laws, Pipeline, choosing, common_law
from mipplan.profiles import MW_PER_W, EnergyTerms, LatencyTable, PowerDraw, Profiles, power_draw
from mipplan.result.explanation import Explanation, accuracy_of, dollars_text, summary_figures
from mipplan.result.plan_file import PlanDocument, altered_parts, document_text, plan_document, read_document
from mipplan.result.record import (
    Choice,
    Effort,
    Figures,
    Guarantee,
    Limit,
    Objective,
    PlanStatus,
    Provenance,
    check_laws,
    read_choices,
    relevant_profiles,
    resolve_objective,
)
from mipplan.result.reliability import Reliability, SampleFigure
from mipplan.result.runs import CertificateKind, Refinement, RunClass
from mipplan.trace import TraceReference

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False, repr=False)
class Plan(Printable):
    """One choice per stage (or none, with the reason), self-contained and immutable.

    Attributes
    ----------
    pipeline : Pipeline
        Its stages run the variants that were chosen.
    profiles : Profiles
        The hardware and latency tables admissible for the pipeline's models.
    objective, figures, provenance : Objective, Figures, Provenance
        What was asked for, what is known, where it comes from; their fields are the plan's, too (`slo_ns`, …).
    choices : mapping of str to Choice
        In file order of the stages; empty if there is no plan.
    status : PlanStatus
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
    seeds = FieldOf[int]("objective.seeds")
    """Draws of every trace planned for, from `seed` on."""
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
    discipline = FieldOf[Discipline]("objective.discipline")
    """Which waiting tokens a batch takes first."""
    certificate = FieldOf[CertificateKind]("objective.certificate")
    """By which theorem its latency is bounded."""
    runs = FieldOf[RunClass | None]("objective.runs")
    """The runs that a sharp certificate, or one of ``fifo`` queues, holds for."""
    min_accuracy = FieldOf[float | None]("objective.min_accuracy")
    """The least accuracy that was asked for."""
    microusd_per_hour = FieldOf[int | None]("figures.microusd_per_hour")
    """Cost in whole micro-dollars per hour."""
    lower_bound_microusd_per_hour = FieldOf[int | None]("figures.lower_bound_microusd_per_hour")
    """Proven lower bound in whole micro-dollars per hour."""
    bound_ns = FieldOf[int | None]("figures.bound_ns")
    """The latency bound used inside the MILP, ns."""
    certificate_ns = FieldOf[int | None]("figures.certificate_ns")
    """The certified latency quantile on the trace planned for, ns; of several samples, the greatest."""
    trace = FieldOf[TraceReference | None]("provenance.trace")
    """The trace planned for, the first by name of several; None for a given plan."""
    traces = FieldOf[tuple[TraceReference, ...]]("provenance.traces")
    """All traces planned for."""
    samples = FieldOf[tuple[SampleFigure, ...]]("figures.samples")
    """The certificate on each of several traces and seeds; empty for one."""
    formulation = FieldOf[str | None]("provenance.formulation")
    """Formulation asked for; None for a given plan."""
    solver = FieldOf[str | None]("provenance.solver")
    """Solver asked for, or the rule of a baseline; None for a given plan."""
    effort = FieldOf[Effort | None]("provenance.effort")
    """What finding it took."""
    refinement = FieldOf[Refinement | None]("provenance.refinement")
    """What `mipplan.refine` found out."""
    reliability = FieldOf[Reliability | None]("provenance.reliability")
    """How a plan of guarantee ``reliable`` did on fresh scenarios; None for others."""

    energy = FieldOf[EnergyTerms | None]("objective.energy")
    """What is asked of energy; None if nothing."""
    power_w = FieldOf[float | None]("figures.power_mw", MW_PER_W)
    """Guaranteed: no conforming run on the trace takes more than this on average, watts."""
    least_power_w = FieldOf[float | None]("figures.least_power_mw", MW_PER_W)
    """What a run whose batches take what the tables say takes at least, over a trace's span, watts."""

    slo_s = FieldOf[float]("objective.slo_ns", NS_PER_S)
    """The objective in seconds."""
    usd_per_hour = FieldOf[float | None]("figures.microusd_per_hour", MICRODOLLARS_PER_DOLLAR)
    """Cost, dollars per hour."""
    lower_bound_usd_per_hour = FieldOf[float | None](
        "figures.lower_bound_microusd_per_hour", MICRODOLLARS_PER_DOLLAR
    )
    """Proven: no certified plan (of a refined one: none that replays within the objective; of a reliable one: none that
    keeps all it was chosen on) costs less. None if none exists, or for a given plan."""
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
        runs = {stage: choice.variant for stage, choice in choices.items() if choice.variant is not None}
        object.__setattr__(self, "pipeline", choosing(self.pipeline, runs) if runs else self.pipeline)

    def __reduce__(self) -> tuple[Any, ...]:
        # The sample would be most of what is sent to another process.
        return remake(self, provenance=replace(self.provenance, sample=None, other_samples=()))

    @classmethod
    def from_choices(
        cls,
        pipeline: Pipeline,
        profiles: Profiles,
        choices: Mapping[str, Choice | tuple[Any, ...]],
        *,
        slo_s: float | None = None,
        quantile: float | None = None,
        seed: int = 0,
        dispatch: Dispatch = None,
        discipline: str | None = None,
        energy: EnergyTerms | None = None,
    ) -> Plan:
        """Make a plan of what you run today, to judge it by `certify` and `replay`.

        Raises `InputError` listing every stage missing, unknown, or impossible with these profiles.

        Parameters
        ----------
        pipeline : Pipeline
        profiles : Profiles
        choices : mapping of str to (hardware, batch, replicas[, variant])
            Every stage; the variant that it runs unless named. The pipeline's allow-lists and bounds are for planning
            and do not apply here; batches between measured sizes are interpolated, larger ones refused.
        slo_s : float, optional
            The pipeline's by default.
        quantile, seed, dispatch, discipline, energy
            As for `mipplan.plan`; any discipline will do, and the cost is rent: electricity depends on traffic.
        """
        check_kinds(pipeline=(pipeline, Pipeline), profiles=(profiles, Profiles))
        relevant, faults = relevant_profiles(pipeline, profiles, power=energy is not None), Faults()
        asked = faults.take(lambda: resolve_objective(pipeline, slo_s, quantile, seed))
        made = faults.take(lambda: read_choices(pipeline, relevant, choices))
        laws = faults.take(lambda: check_laws(pipeline, dispatch, discipline))
        if not isinstance(energy, EnergyTerms | None):
            faults.add(Fault("energy", f"expected EnergyTerms, found {shown(energy)}"))
        faults.check()
        objective = replace(asked.value.under(laws.value, discipline or pipeline.discipline), energy=energy)
        return cls(pipeline, relevant, objective, made.value)

    @property
    def collects(self) -> bool:
        """Whether replicas of some stage collect a batch before it begins."""
        return bool(self.windows_ns())

    def windows_ns(
        self, laws: Laws | None = None, window_s: float | Mapping[str, float] | None = None
    ) -> dict[str, int]:
        """For how long, at most, ns: of the stages that do so. A batch of one is full with its first token."""
        own = self.pipeline.windows_ns(self.laws if laws is None else laws, window_s)
        one = {stage for stage, choice in self.choices.items() if choice.batch == 1}
        return {stage: window_ns for stage, window_ns in own.items() if window_ns and stage not in one}

    @property
    def laws(self) -> Laws:
        """When each stage makes a batch, in file order."""
        return dict.fromkeys(self.pipeline.stages, DispatchLaw.EAGER) | dict(self.objective.dispatch)

    @property
    def dispatch(self) -> str:
        """The law of all stages, or ``mixed``."""
        return common_law(self.laws)

    @property
    def accuracy(self) -> float | None:
        """Accuracy of the pipeline with the variants chosen, by its rule; None where none is known."""
        return accuracy_of(self.pipeline, self.profiles, self.choices)

    @property
    def gap(self) -> float | None:
        """(cost − lower bound) / cost; 0 when optimal."""
        cost, bound = self.microusd_per_hour, self.lower_bound_microusd_per_hour
        return None if cost is None or bound is None else 1.0 - bound / cost

    def with_slo(self, slo_ns: int) -> Plan:
        """Return the same choices with another latency objective, ns."""
        return replace(self, objective=replace(self.objective, slo_ns=slo_ns))

    def using(self, latency: str | Mapping[str, str]) -> Plan:
        """Return the same choices, with another column of the measurements for ℓ (see `Profiles.using`).

        What was known of latency and of other plans goes. Raises `InputError` if a choice rests on a table without it.
        """
        chosen = {(self.pipeline.stages[name].model, one.hardware) for name, one in self.choices.items()}
        profiles = self.profiles.using(latency, None, chosen)
        if profiles == self.profiles:
            return self
        unknown = dict.fromkeys(("formulation", "solver", "effort", "refinement", "reliability"))
        provenance = replace(self.provenance, **unknown)  # type: ignore[arg-type]
        given = replace(self, profiles=profiles, figures=Figures(), provenance=provenance)
        return replace(given, status=PlanStatus.GIVEN, reason=None, limit=None)

    def service_ns(self, stage: str) -> Int64:
        """ℓ(1), …, ℓ(b) of a stage's choice in ns, shape (b,)."""
        return self.table(stage).service_ns(self.choices[stage].batch)

    def table(self, stage: str) -> LatencyTable:
        """The measurements that a stage's choice rests on."""
        table = self.profiles.table(self.pipeline.stages[stage].model, self.choices[stage].hardware)
        if table is None:
            raise AssertionError("validated when the plan was made")
        return table

    def draws(self) -> dict[str, PowerDraw]:
        """What a device of each stage draws; raises `InputError` where that is not known."""
        devices, made = self.profiles.hardware, self.choices.items()
        return {name: power_draw(self.table(name), devices[one.hardware], one.batch) for name, one in made}

    def explain(self, *, time_limit_s: float = 20.0) -> Explanation:
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
            raise InputError.one("plan", "has no trace at hand; use mipplan.explain(plan, trace)")
        found: Explanation = from_front("explain")(self, self.provenance.samples, time_limit_s=time_limit_s)
        return found

    def plot(self) -> Figure:
        """Draw the pipeline with the plan's choices; see `mipplan.plots.draw_plan`."""
        figure: Figure = drawn("draw_plan", self)
        return figure

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per stage: ``hardware``, ``batch``, ``replicas``, ``usd_per_hour``, ``variant`` if any."""
        import pandas as pd

        rows = {stage: asdict(choice) for stage, choice in self.choices.items()}
        names = ["hardware", "batch", "replicas", "variant"]
        names = names if any(choice.variant for choice in self.choices.values()) else names[:-1]
        table = pd.DataFrame.from_dict(rows, orient="index", columns=names)
        prices = table["hardware"].map(lambda name: self.profiles.hardware[name].microusd_per_hour)
        usd_per_hour = (table["replicas"] * prices / MICRODOLLARS_PER_DOLLAR).astype(float)
        return table.assign(usd_per_hour=usd_per_hour).rename_axis("stage")

    def _summary(self) -> Summary:
        prices = {name: device.microusd_per_hour for name, device in self.profiles.hardware.items()}
        named = any(choice.variant for choice in self.choices.values())
        return Summary(
            f"Plan for {self.pipeline.name}: {self.status}",
            figures=summary_figures(self),
            headings=("stage", *(("variant",) if named else ()), "hardware", ">batch", ">replicas", ">$/h"),
            rows=(
                (
                    stage,
                    *((choice.variant or "",) if named else ()),
                    choice.hardware,
                    *map(str, (choice.batch, choice.replicas)),
                    usd_text(choice.replicas * prices[choice.hardware] / MICRODOLLARS_PER_DOLLAR),
                )
                for stage, choice in self.choices.items()
            ),
            count=len(self.choices),
            what="stages",
        )

    def _line(self) -> str:
        microusd, certified_ns = self.microusd_per_hour, self.certificate_ns
        cost = "" if microusd is None else f", {dollars_text(microusd)}"
        bound = "" if certified_ns is None else f" (certificate {format_duration(certified_ns)})"
        stages = len(self.pipeline.stages)
        return f" {self.pipeline.name}: {self.status}{cost}, {self.objective.text}{bound}, {stages} stages"

    def require(self) -> Plan:
        """Return the plan itself if it has choices; raises `NoPlanError` with the reason if not."""
        if not self.choices:
            raise NoPlanError(f"{self.status}: {self.reason or 'there is no plan'}")
        return self

    def save(self, path: str | Path) -> None:
        """Write the plan as JSON, whole or not at all: format 1 if all is eager and oldest first, else format 2.

        Raises `InputError` if the place cannot be written to, or the file would be too large to be read again.
        """
        write_text_atomically(path, self.to_json())

    def to_json(self) -> str:
        """Return the text of the plan file: same plan, same bytes."""
        return document_text(self.to_document())

    def to_document(self) -> dict[str, Any]:
        """JSON-able form; see `mipplan.result.plan_file` for the fields."""
        return plan_document(self)

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a plan file; raises `InputError` with every fault and its place, or if it was altered since."""
        document = read_document(path)
        if altered := altered_parts(document):
            message = "was altered after it was written: the checksum of its {} does not match"
            raise InputError(Fault(str(path), message.format(part)) for part in altered)
        return cls.from_document(document, origin=str(path))

    @classmethod
    def from_document(cls, document: PlanDocument, *, origin: str = "plan") -> Plan:
        """Build a plan from a validated document; a fault names its place in `origin`."""
        try:
            pipeline = Pipeline.from_document(document.pipeline, origin=f"{origin}: pipeline")
            document.check_laws(pipeline)
            return cls(
                pipeline,
                Profiles.from_document(document.profiles, origin=f"{origin}: profiles"),
                document.objective(),
                {stage: Choice(**choice.model_dump()) for stage, choice in document.choices.items()},
                PlanStatus(document.status),
                document.stated(),
                document.provenance(),
                document.reason,
                None if document.limit is None else Limit(document.limit),
            )
        except InputError as error:
            raise InputError(
                fault if fault.place.startswith(origin) else Fault(f"{origin}: {fault.place}", fault.message)
                for fault in error.faults
            ) from None
