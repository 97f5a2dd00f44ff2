"""Re-check a plan file without a solver: was it altered, for which trace was it made, does its certificate hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mipplan.certificate import Certificate, certify, plan_services
from mipplan.curves import analyse_paths
from mipplan.result import Plan, PlanStatus
from mipplan.result.document import altered_parts, read_document
from mipplan.tokens import realise
from mipplan.trace import Trace
from mipplan.units import MICRODOLLARS_PER_DOLLAR, format_duration


@dataclass(frozen=True)
class Verification:
    """Outcome of a re-check.

    Attributes
    ----------
    verified : bool
        The file is as it was written, its figures are right, and the certificate keeps the objective.
    problems : tuple of str
        What speaks against it, one sentence each; empty exactly if verified.
    remarks : tuple of str
        What does not, but must be known: above all that it was judged on another trace.
    plan : Plan
    certificate : Certificate or None
        None if the plan holds no choices.
    """

    verified: bool
    problems: tuple[str, ...]
    remarks: tuple[str, ...]
    plan: Plan
    certificate: Certificate | None


def verify(path: str | Path, trace: Trace) -> Verification:
    """Recompute cost, bound and certificate of a plan file on a trace, from the file alone.

    That no cheaper plan is certified cannot be re-checked without a solver; everything else is.

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
        f"the file was altered after it was written: {part} do not match their checksum"
        for part in altered_parts(document)
    ]
    plan = Plan.from_document(document, origin=str(path))
    if not plan.choices:
        problems.append(f"the file holds no plan ({plan.status}: {plan.reason})")
        return Verification(False, tuple(problems), (), plan, None)
    problems += _cost_problems(plan)
    certificate = certify(plan, trace)
    same_trace = plan.trace is not None and plan.trace.sha256 == trace.sha256
    remarks = [] if same_trace else [_other_trace(plan, trace)]
    if same_trace:
        problems += _figure_problems(plan, trace, certificate)
    if certificate.bound_ns > plan.slo_ns:
        problems.append(
            f"the certificate is {format_duration(certificate.bound_ns)}, above the objective of "
            f"{format_duration(plan.slo_ns)}"
        )
    return Verification(not problems, tuple(problems), tuple(remarks), plan, certificate)


def _cost_problems(plan: Plan) -> list[str]:
    actual = sum(
        c.replicas * plan.profiles.hardware[c.hardware].microusd_per_hour for c in plan.choices.values()
    )
    if plan.microusd_per_hour == actual:
        return []
    stated = (
        "none"
        if plan.microusd_per_hour is None
        else f"{plan.microusd_per_hour / MICRODOLLARS_PER_DOLLAR} $/h"
    )
    return [f"the file states a cost of {stated}; its choices cost {actual / MICRODOLLARS_PER_DOLLAR} $/h"]


def _figure_problems(plan: Plan, trace: Trace, certificate: Certificate) -> list[str]:
    """Recompute what the file states about the trace it was made for, and hold its figures against each other."""
    paths = analyse_paths(realise(plan.pipeline, trace, plan.seed), plan.quantile)
    recomputed = {
        "certificate": (plan.certificate_ns, certificate.bound_ns),
        "bound": (plan.bound_ns, paths.bound_ns(plan_services(plan))),
    }
    problems = [
        f"the file states a {name} of {_stated(stated)}; recomputed it is {actual} ns"
        for name, (stated, actual) in recomputed.items()
        if stated != actual
    ]
    lower_bound, cost = plan.lower_bound_microusd_per_hour, plan.microusd_per_hour
    if lower_bound is not None and cost is not None:
        if lower_bound > cost:
            problems.append("the file states a lower bound above its cost")
        elif plan.status is PlanStatus.OPTIMAL and lower_bound < cost:
            problems.append("the file calls the plan optimal, but its lower bound is below its cost")
    return problems


def _other_trace(plan: Plan, trace: Trace) -> str:
    here = _described(trace.name, len(trace), trace.note)
    if plan.trace is None:
        return f"judged on a trace the plan was not made for: it was made for none, this is {here}"
    made_for = _described(plan.trace.name, plan.trace.queries, plan.trace.note)
    return f"judged on another trace: the plan was made for {made_for}, this is {here}"


def _described(name: str, queries: int, note: str) -> str:
    return f"{name!r} ({queries:,} queries{', ' if note else ''}{note})"


def _stated(figure_ns: int | None) -> str:
    return "nothing" if figure_ns is None else f"{figure_ns} ns"
