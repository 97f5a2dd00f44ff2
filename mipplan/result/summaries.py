"""What results print: their figures in a few lines, and a table by stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mipplan.core import MICRODOLLARS_PER_DOLLAR, NS_PER_S, Summary, format_duration
from mipplan.result.record import Guarantee, PlanStatus

if TYPE_CHECKING:
    from mipplan.result.plan import Plan
    from mipplan.result.replay import ReplayResult
    from mipplan.result.stage import StageReplay
    from mipplan.result.stream import StageTotals, StreamResult

_STAGE_HEADINGS = ("stage", ">replicas", ">busy", ">tokens", ">mean batch", ">mean wait", ">max wait")
_SHOWN = {"P50": 0.5, "P90": 0.9, "P99": 0.99, "P99.9": 0.999, "max": 1.0}


def dollars_text(microusd: int) -> str:
    """Write a cost."""
    return f"{microusd / MICRODOLLARS_PER_DOLLAR:.4f} $/h"


def objective_text(plan: Plan) -> str:
    """Write the objective of a plan."""
    share = "every query" if plan.envelope is not None else f"P{100 * plan.quantile:g}"
    return f"{share} ≤ {format_duration(plan.slo_ns)}"


def proof_text(status: str, guarantee: str, *, has_budget: bool = False) -> str | None:
    """Say among which plans one is proven best, in the words of docs/glossary.md; None where nothing is proven."""
    which, kept = "no certified plan", " (certified: stable, and the certificate keeps the objective)"
    if guarantee == Guarantee.REPLAY:
        which, kept = "no plan that replays within the objective", ""
    if status == PlanStatus.OPTIMAL:
        better = "within the budget has a lower certificate" if has_budget else "costs less"
        return f"optimal: of all that was allowed, {which} {better}{kept}"
    if status == PlanStatus.FEASIBLE and not has_budget:
        return f"lower bound: of all that was allowed, {which} costs less than it{kept}"
    return None


def plan_line(plan: Plan) -> str:
    """Describe a plan in one line."""
    cost = "" if plan.microusd_per_hour is None else f", {dollars_text(plan.microusd_per_hour)}"
    bound = "" if plan.certificate_ns is None else f" (certificate {format_duration(plan.certificate_ns)})"
    stages = len(plan.pipeline.stages)
    return f" {plan.pipeline.name}: {plan.status}{cost}, {objective_text(plan)}{bound}, {stages} stages"


def plan_summary(plan: Plan) -> Summary:
    """Status, cost, objective, certificate; what each stage runs on."""
    prices = {name: device.microusd_per_hour for name, device in plan.profiles.hardware.items()}
    has_budget = plan.budget_microusd_per_hour is not None
    proof = proof_text(plan.status, plan.guarantee, has_budget=has_budget) if plan.choices else None
    return Summary(
        f"Plan for {plan.pipeline.name}: {plan.status}",
        figures=(
            ("cost", _plan_cost(plan)),
            ("objective", _plan_objective(plan)),
            ("certificate", _plan_certificate(plan)),
            ("replayed", _plan_replayed(plan)),
            ("stopped by", plan.limit and {"time": "the time limit", "interrupt": "Ctrl-C"}[plan.limit]),
            ("reason", plan.reason),
            ("proof", proof),
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
            for stage, choice in plan.choices.items()
        ),
        count=len(plan.choices),
        what="stages",
    )


def _plan_cost(plan: Plan) -> str | None:
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


def _plan_objective(plan: Plan) -> str:
    headroom = "" if plan.headroom == 1.0 else f", for {plan.headroom:g} × the traffic"
    margin = f", {format_duration(plan.margin_ns)} of it kept back" if plan.margin_ns else ""
    return f"{objective_text(plan)}{headroom}{margin}"


def _plan_certificate(plan: Plan) -> str | None:
    if plan.certificate_ns is None:
        return None
    scope = "" if plan.trace is None else f" on {plan.trace.name} ({plan.trace.queries:,} queries)"
    if plan.guarantee is Guarantee.ENVELOPE:
        scope = " for all traffic inside the arrival curve"
    return f"{format_duration(plan.certificate_ns)}{scope}"


def _plan_replayed(plan: Plan) -> str | None:
    refined = plan.refinement
    if refined is None or refined.quantile_ns is None:
        return None
    return f"{format_duration(refined.quantile_ns)}, {refined.discipline.replace('_', ' ')}"


def replay_line(result: ReplayResult) -> str:
    """Describe a replay in one line."""
    span = f"{result.span_ns / NS_PER_S:.6g} s"
    latencies = _latencies(result, "P50", "P99", "max")
    return f": {result.queries} queries, {span}, {latencies}, {len(result.stages)} stages"


def replay_summary(result: ReplayResult) -> Summary:
    """Latencies and cost; what each stage did."""
    applies = "" if result.certificate_applies else "does not cover this run"
    return Summary(
        f"Replay of {result.queries:,} queries over {format_duration(result.span_ns)}",
        figures=(
            ("latency", _latencies(result, *_SHOWN)),
            ("mean", format_duration(result.mean_latency_s * NS_PER_S)),
            ("cost", f"{result.usd:.4g} $, {1_000 * result.usd_per_query:.4g} $ per 1,000 queries"),
            ("manner", _manner(result)),
            ("service", "" if result.service == "as measured" else result.service),
            ("certificate", applies),
        ),
        headings=_STAGE_HEADINGS,
        rows=(_stage_row(name, stage, result.utilisation(name)) for name, stage in result.stages.items()),
        count=len(result.stages),
        what="stages",
    )


def stream_line(result: StreamResult) -> str:
    """Describe a streamed replay in one line."""
    if not result.queries:
        return f": {result.end}, 0 queries of {result.read}"
    latencies = _latencies(result, "P50", "P99", "max")
    return (
        f"{result.end}, {result.queries} queries, {latencies}, {result.misses} slower than {result.slo_s:g} s"
    )


def stream_summary(result: StreamResult) -> Summary:
    """Latencies and misses; what each stage did."""
    slower = latency = None
    if result.queries:
        slo = format_duration(result.slo_s * NS_PER_S)
        slower = f"{result.misses:,} queries ({result.miss_rate:.3%}) than {slo}"
        latency = _latencies(result, *_SHOWN)
    return Summary(
        f"Streamed replay of {result.queries:,} queries: {result.end}",
        figures=(
            ("read", f"{result.read:,} queries" if result.partial else ""),
            ("latency", latency),
            ("slower", slower),
            ("manner", _manner(result)),
        ),
        headings=_STAGE_HEADINGS,
        rows=(_stage_row(name, stage, stage.utilisation) for name, stage in result.stages.items()),
        count=len(result.stages),
        what="stages",
    )


def _stage_row(name: str, stage: StageReplay | StageTotals, utilisation: float) -> tuple[str, ...]:
    waits = (format_duration(wait_s * NS_PER_S) for wait_s in (stage.mean_wait_s, stage.max_wait_s))
    busy, batch = f"{utilisation:.1%}", f"{stage.mean_batch:.2f}"
    return (name, str(stage.replicas), busy, f"{stage.tokens:,}", batch, *waits)


def _latencies(result: ReplayResult | StreamResult, *names: str) -> str:
    return ", ".join(f"{name} {format_duration(result.quantile_ns(_SHOWN[name]))}" for name in names)


def _manner(result: ReplayResult | StreamResult) -> str:
    return f"{result.discipline.replace('_', ' ')}, engine {result.engine}, seed {result.seed}"
