"""What each command does: gather inputs (with every fault at once), call the library, show the document."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mipplan as mp
from mipplan.cli.inputs import (
    Gathering,
    TraceRequest,
    arrival_curve,
    check_apart,
    check_out,
    optional_seconds,
    read_profiles,
    read_trace,
    shipped_names,
    shipped_path,
)
from mipplan.cli.session import EXIT_DONE, EXIT_NO_ANSWER, EXIT_NOT_MET, Session
from mipplan.core import check_quantile, check_seed
from mipplan.documents import shipped_folder
from mipplan.planner import check_search
from mipplan.reporting import examination, summaries, terminal
from mipplan.result import read_document


@dataclass(frozen=True)
class PlanRequest:
    """The flags of ``mipplan plan``."""

    pipeline: str
    trace: TraceRequest
    slo: str | None
    profiles: Path | None
    quantile: float
    headroom: float
    margin: str
    guarantee: str
    envelope: tuple[str, ...]
    budget: float | None
    out: Path | None
    formulation: str
    solver: str
    time_limit: str
    seed: int
    replay: bool
    explain: bool


def run_plan(session: Session, request: PlanRequest) -> int:
    """Plan, save, replay, show."""
    gathering = Gathering()
    slo_s = gathering.take(lambda: optional_seconds("--slo", request.slo))
    margin_s = gathering.take(lambda: optional_seconds("--margin", request.margin))
    envelope = gathering.take(lambda: arrival_curve(request.envelope))
    time_limit_s = gathering.take(lambda: optional_seconds("--time-limit", request.time_limit))
    pipeline = gathering.take(
        lambda: mp.Pipeline.read(shipped_path("pipelines", request.pipeline, (".yaml",)))
    )
    profiles = gathering.take(lambda: read_profiles(request.profiles))
    trace = gathering.take(lambda: read_trace(request.trace))
    gathering.take(lambda: check_quantile(request.quantile))
    gathering.take(lambda: check_seed(request.seed))
    gathering.take(
        lambda: check_search(
            formulation=request.formulation,
            guarantee=request.guarantee,
            envelope=envelope,
            time_limit_s=time_limit_s,
            headroom=request.headroom,
            budget_usd_per_hour=request.budget,
        )
    )
    gathering.take(lambda: check_out("--out", request.out))
    read = {"pipeline": request.pipeline, "trace": request.trace.file}
    gathering.take(lambda: check_apart(read, {"--out": request.out}, request.profiles))
    gathering.check()
    if pipeline is None or profiles is None or trace is None:
        raise AssertionError("faults were reported")
    with session.progress() as progress:
        plan = mp.plan(
            pipeline,
            profiles,
            trace,
            slo_s=slo_s,
            quantile=request.quantile,
            formulation=request.formulation,
            solver=request.solver,
            time_limit_s=time_limit_s,
            seed=request.seed,
            guarantee=request.guarantee,
            headroom=request.headroom,
            margin_s=margin_s or 0.0,
            envelope=envelope,
            budget_usd_per_hour=request.budget,
            progress=progress,
        )
        if request.out is not None:
            plan.save(request.out)
        replayed = None
        if plan.choices and request.replay:
            progress("replaying the plan")
            replayed = mp.replay(plan, trace)
        explanation = None
        if plan.choices and request.explain:
            progress("explaining the plan")
            explanation = plan.explain()
    written = None if request.out is None else str(request.out)
    remarks = examination.plan_remarks(plan, None if request.profiles is None else str(request.profiles))
    session.show(
        summaries.plan_report(plan, trace, replayed, explanation, remarks, written), terminal.show_plan
    )
    if plan.status is mp.PlanStatus.INFEASIBLE:
        return EXIT_NOT_MET
    return EXIT_DONE if plan.choices else EXIT_NO_ANSWER


def run_verify(session: Session, plan_file: Path, request: TraceRequest) -> int:
    """Re-check a plan file."""
    gathering = Gathering()
    document = gathering.take(lambda: read_document(plan_file))
    trace = gathering.take(lambda: read_trace(request, document.seed if document is not None else 0))
    gathering.check()
    if trace is None:
        raise AssertionError("faults were reported")
    with session.progress() as progress:
        progress("recomputing the certificate")
        verification = mp.verify(plan_file, trace)
    session.show(summaries.verify_report(verification, str(plan_file), trace), terminal.show_verification)
    return EXIT_DONE if verification.verified else EXIT_NOT_MET


def run_profiles(session: Session, folder: Path | None, check: bool) -> int:
    """Show a profile folder, or with `check` what is odd in it; exit code 1 if there are warnings."""
    profiles = read_profiles(folder)
    shown = shipped_folder() if folder is None else folder
    if check:
        examined = examination.examination_report(profiles, str(shown))
        session.show(examined, examination.show_examination)
        return EXIT_NOT_MET if examined.warnings else EXIT_DONE
    pipelines = shipped_names("pipelines", (".yaml",)) if folder is None else []
    traces = shipped_names("traces", (".csv.gz", ".csv")) if folder is None else []
    report = summaries.profiles_report(profiles, str(shown), pipelines, traces)
    session.show(report, terminal.show_profiles)
    return EXIT_DONE


def run_solvers(session: Session) -> int:
    """Show solvers and formulations; exit code 3 if no solver works."""
    from mipplan_formulations import FORMULATIONS

    solvers = mp.solvers.available_solvers()
    session.show(summaries.solvers_report(solvers, list(FORMULATIONS)), terminal.show_solvers)
    return EXIT_DONE if any(solver.available for solver in solvers) else EXIT_NO_ANSWER
