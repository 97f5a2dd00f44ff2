"""Why a plan is what it is: data that `Plan.explain` returns and reports show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from mipplan.core import MOST_LINES, NS_PER_S, FieldOf, Printable, Summary, counted, format_duration, usd_text
from mipplan.pipeline import Discipline, DispatchLaw, Laws, are_timed, common_law, duties_text
from mipplan.profiles import Profiles
from mipplan.result.record import Choice, Guarantee, PlanStatus
from mipplan.result.runs import CriticalStage, JudgedBy, step_text

if TYPE_CHECKING:
    import pandas as pd

    from mipplan.pipeline import Pipeline
    from mipplan.result.plan import Plan


@dataclass(frozen=True)
class Alternative:
    """Another choice for one stage, the others left as they are; cost and certificate of the whole plan with it."""

    choice: Choice
    microusd_per_hour: int
    certificate_ns: int


class OptionVerdict(StrEnum):
    """What comes of running one stage on something else, the others left as they are."""

    CHOSEN = "chosen"
    """It is what the plan takes."""
    THROUGHPUT = "throughput"
    """Certified, with the fewest replicas that keep up with the traffic."""
    LATENCY = "latency"
    """Certified, with more replicas than keeping up takes."""
    TOO_SLOW = "too_slow"
    """No number of replicas is certified."""
    LIMIT = "limit"
    """As many replicas as would do are not to be had, or it is refused for what `detail` says."""
    IMPOSSIBLE = "impossible"
    """Not allowed by the pipeline, not measured, or too large: see `detail`."""


@dataclass(frozen=True)
class OptionReason:
    """Why a stage does not run on something else: the whole plan with it, the other stages left as they are."""

    hardware: str
    batch: int | None  # None where no batch cap of the hardware is on offer.
    verdict: OptionVerdict
    replicas: int | None = None  # The fewest that are certified.
    fewest: int | None = None  # The fewest that keep up with the traffic, or that the stage asks for.
    microusd_per_hour: int | None = None  # Of the whole plan.
    # Of the whole plan; where none is certified, the least, with the most replicas. By trial: with those, at least.
    certificate_ns: int | None = None
    # T of the stage with it: what a token may take there however many replicas there are; None by trial.
    latency_ns: int | None = None
    detail: str | None = None
    variant: str | None = None  # The model that is run, where the stage may run several.

    @property
    def place(self) -> str:
        """What runs where: ``t4``, or ``yolov5n on t4``."""
        return " on ".join(filter(None, (self.variant, self.hardware)))

    def text(self, whole: Explanation) -> str:
        """Say it in a line."""
        what = self.place if self.batch is None else f"{self.place}, batch {self.batch}"
        if self.verdict in (OptionVerdict.IMPOSSIBLE, OptionVerdict.LIMIT):
            return f"{what}: {self.detail or 'there are not as many devices as would do'}"
        replicas = counted(self.replicas or 0, "replica")  # None only where nothing is said of them
        if self.verdict is OptionVerdict.TOO_SLOW:
            missed = format_duration((self.certificate_ns or 0) - whole.deadline_ns)
            if self.latency_ns is None:
                return f"{what}: misses by {missed} even with {replicas}"
            alone = format_duration(self.latency_ns or 0)
            return f"{what}: misses by {missed} with any number of replicas (T alone is {alone})"
        more = (self.microusd_per_hour or 0) - whole.microusd_per_hour
        price = f"{dollars_text(abs(more))} {('cheaper', 'dearer')[more > 0]}" if more else "the same cost"
        if self.verdict is OptionVerdict.CHOSEN:
            return f"{what}: chosen, {replicas}"
        needed = f"{replicas} to keep up"
        if self.verdict is OptionVerdict.LATENCY:
            needed = f"{replicas} for the latency, where {self.fewest} would keep up"
        return f"{what}: {price}, {needed}"


@dataclass(frozen=True)
class StageExplanation:
    """What one stage's choice does for the plan."""

    stage: str
    choice: Choice
    # By how much the stage's T could grow before the certificate misses the deadline; None by trial.
    spare_latency_ns: int | None
    # The certificate with one replica fewer; None if the rest would not keep up, or there is none to spare.
    one_fewer_certificate_ns: int | None
    alternative: Alternative | None  # The cheapest other hardware or batch cap that is certified.
    options: tuple[OptionReason, ...] = ()  # All others, in order of hardware and batch.

    spare_latency_s = FieldOf[float | None]("spare_latency_ns", NS_PER_S)
    """`spare_latency_ns` in seconds."""

    def fewer_text(self, whole: Explanation) -> str:
        """Say what comes of one replica fewer; nothing where there is but one."""
        if self.one_fewer_certificate_ns is None:
            return "one replica fewer does not keep up or is not allowed" if self.choice.replicas > 1 else ""
        excess_ns = self.one_fewer_certificate_ns - whole.deadline_ns
        room = format_duration(abs(excess_ns))
        return f"one replica fewer {f'misses by {room}' if excess_ns > 0 else f'keeps {room} of slack'}"

    def best_by_hardware(self) -> dict[str, OptionReason]:
        """The best option of each hardware and variant: the chosen, else the cheapest certified, else the nearest."""
        ranks = {OptionVerdict.CHOSEN: 0, OptionVerdict.THROUGHPUT: 1, OptionVerdict.LATENCY: 1}

        def rank(option: OptionReason) -> tuple[int, int, int]:
            return ranks.get(option.verdict, 2), option.microusd_per_hour or 0, option.certificate_ns or 0

        best: dict[str, OptionReason] = {}
        for option in sorted(self.options, key=rank):
            best.setdefault(option.place, option)
        return best


@dataclass(frozen=True)
class NearPlan:
    """A certified plan on other hardware that costs little more."""

    choices: tuple[tuple[str, Choice], ...]
    microusd_per_hour: int
    certificate_ns: int


@dataclass(frozen=True, eq=False, repr=False)
class Explanation(Printable):
    """Why a plan is what it is."""

    # Of the plan; the deadline is the objective less any margin.
    microusd_per_hour: int
    certificate_ns: int
    deadline_ns: int
    critical_path: tuple[CriticalStage, ...]
    """How the certificate comes about."""
    stages: tuple[StageExplanation, ...]
    near_plans: tuple[NearPlan, ...]
    """Plans on other hardware within `near_share` of the cost, cheapest first, each hardware pattern once."""
    near_share: float
    near_complete: bool
    """Whether there are surely no others; False if the search stopped early (limit on their number or on time)."""
    sample: str | None = None
    """Where the certificate is greatest, of several traces and seeds; None if there is one."""
    stages_complete: bool = True
    """Whether there was time for all about the stages; if not, they could take more, and other choices may do."""
    adopted: Plan | None = None
    """The cheaper plan that is explained in place of the one asked about, whose search had been stopped."""
    judged_by: JudgedBy = JudgedBy.CLASSIC
    """What certificates here come from: by `JudgedBy.REPLAY` they are replayed quantiles. By this and the sharp one all
    is found by trial: there is no T that could grow, and near plans differ on one stage."""
    remark: str | None = None
    """What else must be known to read it."""

    @property
    def slack_ns(self) -> int:
        """Deadline less certificate."""
        return self.deadline_ns - self.certificate_ns

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per option of every stage: verdict, fewest replicas, and cost and bound of the whole plan."""
        import pandas as pd

        table = pd.DataFrame({"stage": s.stage, **vars(option)} for s in self.stages for option in s.options)
        table["usd_per_hour"] = table.pop("microusd_per_hour") / 1e6
        for kind in ("certificate", "latency"):
            table[f"{kind}_s"] = table.pop(f"{kind}_ns") / NS_PER_S
        return table

    @property
    def _figures(self) -> str:
        certificate, slack = map(format_duration, (self.certificate_ns, abs(self.slack_ns)))
        return f"{certificate}, {slack} {'below' if self.slack_ns >= 0 else 'above'} what has to be kept"

    def _summary(self) -> Summary:
        near = self.near_plans
        others = f"no {self.judged_by.kept} plan on other hardware"
        if near:
            known = "" if self.near_complete else "at least "
            several = f"{counted(len(near), f'{self.judged_by.kept} plan')} on other hardware"
            others = f"{known}{several}, from {dollars_text(near[0].microusd_per_hour)}"
        headings = "stage", "runs on (batch)", ">could take", "one replica fewer", "cheapest other choice"
        return Summary(
            f"Why this plan: {dollars_text(self.microusd_per_hour)}, {self.judged_by.text} {self._figures}",
            figures=(
                ("binds along", " → ".join(step.stage for step in self.critical_path)),
                ("on", self.sample),
                (f"within {self.near_share:.0%}", others),
            ),
            headings=headings,
            rows=(_stage_row(stage, self) for stage in self.stages),
            count=len(self.stages),
            what="stages",
        )

    def _line(self) -> str:
        certificate, slack = map(format_duration, (self.certificate_ns, self.slack_ns))
        cost = f"{dollars_text(self.microusd_per_hour)}, {self.judged_by.text} {certificate}"
        return f": {cost}, slack {slack}, {len(self.stages)} stages"

    def __str__(self) -> str:
        """In sentences; of very many stages, the first."""
        lines = self.lines()
        left_out = len(lines) - MOST_LINES + 1
        return "\n".join(lines if left_out <= 1 else [*lines[:-left_out], f"… and {left_out} more sentences"])

    def lines(self) -> list[str]:
        """Return the explanation in sentences, one a line."""
        path = " → ".join(step_text(step) for step in self.critical_path)
        where = "" if self.sample is None else f" on {self.sample}"
        lines = [f"The {self.judged_by.text} is {self._figures}. It binds{where} along {path}."]
        if self.adopted is not None:
            cost = dollars_text(self.microusd_per_hour)
            lines.insert(0, f"A cheaper certified plan came up, of {cost}, and is explained here.")
        if not self.stages_complete:
            lines.append(
                "There was no time for all about the stages: they may spare more, and other choices do."
            )
        lines += [_stage_text(stage, self) for stage in self.stages]
        share = f"{self.near_share:.0%}"
        if not self.near_plans:
            found = (
                "In the time given there was found"
                if self.judged_by is JudgedBy.CLASSIC
                else "By trial there is"
            )
            known = "There is" if self.near_complete else found
            lines.append(
                f"{known} no {self.judged_by.kept} plan on other hardware within {share} of the cost."
            )
        for near in self.near_plans:
            mix = ", ".join(f"{stage} {choice_text(choice, 'batch ')}" for stage, choice in near.choices)
            lines.append(f"Within {share} of the cost, at {dollars_text(near.microusd_per_hour)}: {mix}.")
        return [*lines, *filter(None, [self.remark])]


def _stage_row(stage: StageExplanation, whole: Explanation) -> tuple[str, ...]:
    fewer, other = "", f"none is {whole.judged_by.kept}"
    if stage.one_fewer_certificate_ns is not None:
        excess_ns = stage.one_fewer_certificate_ns - whole.deadline_ns
        fewer = f"misses by {format_duration(excess_ns)}" if excess_ns > 0 else "would do"
    elif stage.choice.replicas > 1:
        fewer = "does not keep up"
    if stage.alternative is not None:
        extra = stage.alternative.microusd_per_hour - whole.microusd_per_hour
        price = dollars_text(extra, sign=True) if extra else "same cost"
        other = f"{choice_text(stage.alternative.choice)}, {price}"
    spare = "–" if stage.spare_latency_ns is None else f"{format_duration(stage.spare_latency_ns)} more"
    return (stage.stage, choice_text(stage.choice), spare, fewer, other)


def _stage_text(stage: StageExplanation, whole: Explanation) -> str:
    parts = [f"{stage.stage} on {choice_text(stage.choice, 'batch ')}"]
    if stage.spare_latency_ns is not None:
        parts = [f"{parts[0]} could take {format_duration(stage.spare_latency_ns)} more"]
    parts += filter(None, [stage.fewer_text(whole)])
    if stage.alternative is None:
        found = "is" if whole.stages_complete else "was found"
        parts.append(f"no other hardware or batch {found} {whole.judged_by.kept} in its place")
    else:
        extra = stage.alternative.microusd_per_hour - whole.microusd_per_hour
        way = "more" if extra > 0 else "less"
        more = f"for {dollars_text(abs(extra))} {way}" if extra else "at the same cost"
        parts.append(f"cheapest other choice {choice_text(stage.alternative.choice, 'batch ')} {more}")
    return "; ".join(parts) + "."


def choice_text(choice: Choice, batch: str = "") -> str:
    """Write what a stage runs on: ``2 × t4 (8)``, ``2 × yolov5n on t4 (8)``; the batch cap in brackets."""
    return f"{choice.replicas} × {' on '.join(filter(None, (choice.variant, choice.hardware)))} ({batch}{choice.batch})"


def dollars_text(microusd: int, *, sign: bool = False) -> str:
    """Write a cost."""
    return f"{usd_text(microusd / 1e6, sign=sign)} $/h"


def proof_text(status: str, kind: str, *, has_budget: bool = False, timed: bool = False) -> str | None:
    """Say among which plans one is proven best, in the words of docs/glossary.md; None where nothing is proven."""
    which = "no certified plan"
    kept = " (certified: stable, and a certificate of this kind keeps the objective)"
    if kind == Guarantee.REPLAY and timed:
        kept = " (certified: stable, and the replay, which every timed run is, keeps the objective)"
    elif kind == Guarantee.REPLAY:
        which, kept = "no plan that replays within the objective", ""
    elif kind == Guarantee.RELIABLE:
        which, kept = "no plan that keeps all scenarios it was chosen on", ""
    if status == PlanStatus.OPTIMAL:
        better = "within the budget has a lower certificate" if has_budget else "costs less"
        return f"optimal: of all that was allowed, {which} {better}{kept}"
    if status == PlanStatus.FEASIBLE and not has_budget:
        return f"lower bound: of all that was allowed, {which} costs less than it{kept}"
    return None


def laws_text(laws: Laws, discipline: Discipline, *, collects: bool = False) -> str | None:
    """Say by which laws stages are dispatched and what voids the guarantee; None if they do what most servers do."""
    if common_law(laws) == DispatchLaw.EAGER and discipline is Discipline.OLDEST_FIRST and not collects:
        return None
    return f"{common_law(laws)}, {discipline.replace('_', ' ')}: {duties_text(laws, collects=collects)}"


def summary_figures(plan: Plan) -> tuple[tuple[str, str | None], ...]:
    """What a printed plan says before its choices, by name; None for what there is nothing to say of."""
    headroom = "" if plan.headroom == 1.0 else f", for {plan.headroom:g} × the traffic"
    margin = f", {format_duration(plan.margin_ns)} of it kept back" if plan.margin_ns else ""
    least = "" if plan.min_accuracy is None else f", at least {plan.min_accuracy:g} asked for"
    accuracy, tested = plan.accuracy, plan.reliability
    has_budget, is_timed = plan.budget_microusd_per_hour is not None, are_timed(plan.laws)
    return (
        ("cost", cost_text(plan)),
        ("objective", f"{plan.objective.text}{headroom}{margin}"),
        ("accuracy", None if accuracy is None else f"{accuracy:.4g}{least}"),
        ("power", power_text(plan)),
        ("certificate", certificate_text(plan)),
        ("replayed", replayed_text(plan)),
        ("reliable", None if tested is None else tested.text(plan.objective.name)),
        ("stopped by", plan.limit and {"time": "the time limit", "interrupt": "Ctrl-C"}[plan.limit]),
        ("reason", plan.reason),
        ("batches take", plan.profiles.latency_text),
        ("dispatch", laws_text(plan.laws, plan.discipline, collects=plan.collects)),
        ("proof", proof_text(plan.status, plan.guarantee, has_budget=has_budget, timed=is_timed)),
    )


def cost_text(plan: Plan) -> str | None:
    """What a plan costs, and what is proven of it."""
    if plan.microusd_per_hour is None:
        return None
    cost, budget = dollars_text(plan.microusd_per_hour), plan.budget_microusd_per_hour
    if budget is not None:
        proven = ", proven fastest within it" if plan.status is PlanStatus.OPTIMAL else ""
        return f"{cost}, budget {dollars_text(budget)}{proven}"
    if plan.status is PlanStatus.OPTIMAL:
        return f"{cost}, proven cheapest"
    if plan.lower_bound_microusd_per_hour is None or plan.gap is None:
        return cost
    return f"{cost}, no plan below {dollars_text(plan.lower_bound_microusd_per_hour)} (gap {plan.gap:.1%})"


def certificate_text(plan: Plan) -> str | None:
    """Its certificate, and what that holds for."""
    if plan.certificate_ns is None:
        return None
    scope = plan.provenance.scope(plan.samples)
    if plan.guarantee is Guarantee.ENVELOPE:
        scope = " for all traffic inside the arrival curve"
    if plan.guarantee is Guarantee.REPLAY and are_timed(plan.laws):
        scope += ": every timed run is the replay"
    which = "fifo" if plan.discipline is Discipline.FIFO else "sharp"
    scope += "" if plan.runs is None else f", {which}: {plan.runs.text}"
    return f"{format_duration(plan.certificate_ns)}{scope}"


def power_text(plan: Plan) -> str | None:
    """Its mean power at most, and at least; None where energy is not asked for."""
    if plan.power_w is None or plan.energy is None:
        return None
    asked = "" if plan.energy.max_power_w is None else f", of {plan.energy.max_power_w:g} W asked for"
    return f"at most {plan.power_w:.6g} W on average{asked}, at least {plan.least_power_w:.6g} W"


def replayed_text(plan: Plan) -> str | None:
    """The latency of its replay, if it was refined."""
    if plan.refinement is None or plan.refinement.quantile_ns is None:
        return None
    return f"{format_duration(plan.refinement.quantile_ns)}, {plan.refinement.discipline.replace('_', ' ')}"


def accuracy_of(pipeline: Pipeline, profiles: Profiles, choices: Mapping[str, Choice]) -> float | None:
    """Accuracy of a pipeline with these choices of all stages; None where it is not known, or nothing is to choose."""
    if choices and pipeline.accuracy.rows:  # A table stands in place of what stages have, whatever that is.
        return pipeline.accuracy.value(pipeline, {})
    if not choices or not any(stage.variants for stage in pipeline.stages.values()):
        return None
    known: dict[str, float] = {}
    for name, choice in choices.items():
        stage, table = pipeline.stages[name], profiles.table(pipeline.stages[name].model, choice.hardware)
        own = stage.accuracy_of(stage.model) if stage.variants else None
        own = table.accuracy_at(choice.batch) if own is None and table is not None else own
        if own is not None:
            known[name] = own
        elif stage.variants:
            return None
    are_shares = all(0 < own <= 1 for own in known.values())
    return pipeline.accuracy.value(pipeline, known) if are_shares else None
