"""Re-check a plan file without a solver: was it altered, for which trace was it made, does its certificate hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from mipplan.calculus import ArrivalCurve, WorstCase, analyse_paths, most_tokens_per_query, overrun
from mipplan.certificate import Certificate, certify, plan_services
from mipplan.core import MICRODOLLARS_PER_DOLLAR, NS_PER_S, Printable, Summary, format_duration
from mipplan.result import Guarantee, Plan, PlanStatus, altered_parts, read_document
from mipplan.tokens import realise
from mipplan.trace import Trace


@dataclass(frozen=True, repr=False)
class Verification(Printable):
    """Outcome of a re-check."""

    verified: bool
    """The file is as it was written, its figures are right, every stage serves more than arrives there on
    average (the plan is stable), and the certificate keeps the objective."""
    problems: tuple[str, ...]
    """What speaks against it, one sentence each; empty exactly if verified."""
    remarks: tuple[str, ...]
    """What does not, but must be known: above all that it was judged on another trace."""
    plan: Plan
    certificate: Certificate | None
    """On this trace, with the plan's headroom; None if the plan holds no choices."""
    worst_case_ns: int | None = None
    """Bound for all traffic inside the plan's arrival curve, if that is its guarantee."""

    def _summary(self) -> Summary:
        plan, bound = self.plan, None if self.certificate is None else self.certificate.bound_ns
        objective = f"P{100 * plan.quantile:g} ≤ {format_duration(plan.slo_ns)}"
        worst_ns = self.worst_case_ns
        worst = None if worst_ns is None else f"{format_duration(worst_ns)}, inside the arrival curve"
        return Summary(
            f"{'Verified' if self.verified else 'Not verified'}: plan for {plan.pipeline.name}",
            figures=(
                ("cost", None if plan.usd_per_hour is None else f"{plan.usd_per_hour:.4f} $/h"),
                ("objective", objective),
                ("certificate", None if bound is None else f"{format_duration(bound)}, recomputed"),
                ("worst case", worst),
                *(("problem", problem) for problem in self.problems),
                *(("remark", remark) for remark in self.remarks),
            ),
        )

    def _line(self) -> str:
        verdict = "verified" if self.verified else f"not verified, {len(self.problems)} problem(s)"
        return f" {self.plan.pipeline.name}: {verdict}"


def verify(path: str | Path, trace: Trace) -> Verification:
    """Recompute cost, bound and certificate of a plan file on a trace, from the file alone.

    That no cheaper plan is certified cannot be re-checked without a solver; everything else is. What counts as a
    certified plan is what it is for `mipplan.plan` (docs/glossary.md): an overloaded stage may keep the objective on
    a trace that ends before its queue has grown, and is a problem all the same.

    Parameters
    ----------
    path : str or Path
        A file written by `Plan.save`.
    trace : Trace
        The trace it was made for, to check its figures; or another, to see whether the plan would be certified
        there too.

    Raises
    ------
    InputError
        If the file cannot be read as a plan.
    """
    document = read_document(path)
    problems = [
        f"the file was altered after it was written: the checksum of its {part} does not match"
        for part in altered_parts(document)
    ]
    plan = Plan.from_document(document, origin=str(path))
    if not plan.choices:
        problems.append(f"the file holds no plan ({plan.status}: {plan.reason})")
        return Verification(False, tuple(problems), (), plan, None)
    problems += _cost_problems(plan)
    planned = trace.scale(plan.headroom)
    certificate = certify(plan, planned)
    curve = None if plan.envelope is None else ArrivalCurve(plan.envelope)
    worst = None if curve is None else WorstCase(plan.pipeline, curve)
    worst_case_ns = None if worst is None else worst.bound_ns(plan_services(plan))
    guaranteed_ns = certificate.bound_ns if worst_case_ns is None else worst_case_ns
    same_trace = plan.trace is not None and plan.trace.sha256 == trace.sha256
    remarks = [] if same_trace else [_other_trace(plan, trace)]
    if same_trace or worst_case_ns is not None:
        problems += _figure_problems(plan, planned, worst, guaranteed_ns)
    problems += _consistency_problems(plan)
    problems += _stability_problems(plan, planned, curve)
    if curve is not None and (excess := overrun(planned.arrival_ns, curve)) > 0:
        remarks.append(
            f"this trace exceeds the plan's arrival curve by up to {excess:.4g} queries: no guarantee covers it"
        )
    if guaranteed_ns > plan.slo_ns - plan.margin_ns:
        margin = f" less {format_duration(plan.margin_ns)} of margin" if plan.margin_ns else ""
        problems.append(
            f"the certificate is {format_duration(guaranteed_ns)}, above the objective of "
            f"{format_duration(plan.slo_ns)}{margin}{_REFINED if plan.guarantee is Guarantee.REPLAY else ''}"
        )
    return Verification(not problems, tuple(problems), tuple(remarks), plan, certificate, worst_case_ns)


#: Why a refined plan mostly cannot be verified.
_REFINED = "; the plan was refined by replay, which no theorem covers: judge it with mipplan replay"


def _cost_problems(plan: Plan) -> list[str]:
    """Add up what the choices cost; a file that states nothing states nothing wrong."""
    hardware, choices = plan.profiles.hardware, plan.choices.values()
    actual = sum(choice.replicas * hardware[choice.hardware].microusd_per_hour for choice in choices)
    if plan.microusd_per_hour == actual:
        return []
    cost_usd = actual / MICRODOLLARS_PER_DOLLAR
    return [f"the file states a cost of {plan.usd_per_hour} $/h; its choices cost {cost_usd} $/h"]


def _figure_problems(plan: Plan, planned: Trace, worst: WorstCase | None, guaranteed_ns: int) -> list[str]:
    """Recompute the latencies that the file states for the traffic it was made for."""
    paths = worst.paths if worst else analyse_paths(realise(plan.pipeline, planned, plan.seed), plan.quantile)
    recomputed = {
        "certificate": (plan.certificate_ns, guaranteed_ns),
        "bound": (plan.bound_ns, paths.bound_ns(plan_services(plan))),
    }
    return [
        f"the file states a {name} of {'nothing' if stated is None else f'{stated} ns'}; recomputed it is {actual} ns"
        for name, (stated, actual) in recomputed.items()
        if stated != actual
    ]


def _consistency_problems(plan: Plan) -> list[str]:
    """Hold the figures of a file against each other."""
    problems = []
    lower_bound, cost = plan.lower_bound_microusd_per_hour, plan.microusd_per_hour
    assert cost is not None  # a plan with choices has one
    if lower_bound is not None:
        if lower_bound > cost:
            problems.append("the file states a lower bound above its cost")
        elif plan.status is PlanStatus.OPTIMAL and lower_bound < cost:
            problems.append("the file calls the plan optimal, but its lower bound is below its cost")
    budget = plan.budget_microusd_per_hour
    if budget is not None and cost > budget:
        problems.append("the plan costs more than the budget that the file states")
    if (plan.guarantee is Guarantee.ENVELOPE) != (plan.envelope is not None):
        problems.append("the file's guarantee and its arrival curve do not go together")
    return problems


def _stability_problems(plan: Plan, planned: Trace, curve: ArrivalCurve | None) -> Iterator[str]:
    """Name the stages that do not serve more than arrives there on average; without a span there is no average."""
    if planned.span_ns == 0:
        return
    if curve is None:
        workload = realise(plan.pipeline, planned, plan.seed)
        demand = {stage: Fraction(of.count, planned.span_ns) for stage, of in workload.stages.items()}
    else:
        rate = max(Fraction(len(planned), planned.span_ns), Fraction(curve.rate) / NS_PER_S)
        demand = {stage: rate * most for stage, most in most_tokens_per_query(plan.pipeline).items()}
    for stage, choice in plan.choices.items():
        full_batch_ns = int(plan.service_ns(stage)[-1])
        rate = Fraction(choice.replicas * choice.batch, full_batch_ns)
        if rate <= demand[stage]:
            most, arriving = float(rate * NS_PER_S), float(demand[stage] * NS_PER_S)
            yield (
                f"stage {stage!r} is overloaded: it serves {most:.4g} tokens/s at most, and {arriving:.4g} arrive on "
                "average, so its queue grows as long as such traffic goes on"
            )


def _other_trace(plan: Plan, trace: Trace) -> str:
    here = _described(trace.name, len(trace), trace.note)
    if plan.trace is None:
        return f"judged on a trace the plan was not made for: it was made for none, this is {here}"
    made_for = _described(plan.trace.name, plan.trace.queries, plan.trace.note)
    return f"judged on another trace: the plan was made for {made_for}, this is {here}"


def _described(name: str, queries: int, note: str) -> str:
    return f"{name!r} ({queries:,} queries{', ' if note else ''}{note})"
