"""What each command does: gather inputs (with every fault at once), call the library, show the document."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import mipplan as mp
from mipplan.cli.session import EXIT_DONE, EXIT_NO_ANSWER, EXIT_NOT_MET, Session
from mipplan.curves import ArrivalCurve
from mipplan.documents import suggestion
from mipplan.errors import Fault, InputError
from mipplan.quantiles import check_quantile
from mipplan.reporting import examination, summaries, terminal
from mipplan.result.checks import check_seed
from mipplan.result.document import read_document
from mipplan.shipped import shipped_folder
from mipplan.units import NS_PER_S, parse_duration_ns

ValueT = TypeVar("ValueT")

#: Flags whose times are seconds rather than milliseconds.
_COARSE = ("--time-limit", "--from", "--to")
_BARE_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{0,12})?", re.ASCII)
_LONG_UNITS = re.compile(r"(?P<number>[0-9]{1,9}(\.[0-9]{0,9})?) *(?P<unit>m|h)(in|ins|r|rs)?", re.ASCII)


@dataclass(frozen=True)
class TraceRequest:
    """A trace as asked for on the command line."""

    file: str
    expand: str | None
    seed: int | None
    start: str | None
    end: str | None


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


class Gathering:
    """Reads several inputs and keeps every fault, so that the user hears of all of them in one go."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def take(self, read: Callable[[], ValueT]) -> ValueT | None:
        """Read one input; None if it is faulty, which `check` reports."""
        try:
            return read()
        except InputError as error:
            self._faults += error.faults
            return None

    def check(self) -> None:
        """Raise one error with all faults, if there were any."""
        if self._faults:
            raise InputError(dict.fromkeys(self._faults))


def run_plan(session: Session, request: PlanRequest) -> int:
    """Plan, save, replay, show."""
    gathering = Gathering()
    slo_s = gathering.take(lambda: _optional_seconds("--slo", request.slo))
    margin_s = gathering.take(lambda: _optional_seconds("--margin", request.margin))
    envelope = gathering.take(lambda: _arrival_curve(request.envelope))
    time_limit_s = gathering.take(lambda: _optional_seconds("--time-limit", request.time_limit))
    pipeline = gathering.take(lambda: mp.Pipeline.read(_shipped("pipelines", request.pipeline, (".yaml",))))
    profiles = gathering.take(lambda: _profiles(request.profiles))
    trace = gathering.take(lambda: _read_trace(request.trace))
    gathering.take(lambda: check_quantile(request.quantile))
    gathering.take(lambda: check_seed(request.seed))
    gathering.take(lambda: _check_out(request.out))
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


def run_replay(
    session: Session, plan_file: Path, request: TraceRequest, discipline: str, engine: str, seed: int | None
) -> int:
    """Replay a plan file."""
    plan, trace = _plan_and_trace(plan_file, request)
    with session.progress() as progress:
        progress(f"replaying {len(trace):,} queries")
        result = mp.replay(plan, trace, discipline=discipline, engine=engine, seed=seed)
    session.show(summaries.replay_command_report(plan, str(plan_file), trace, result), terminal.show_replay)
    return EXIT_DONE


def run_verify(session: Session, plan_file: Path, request: TraceRequest) -> int:
    """Re-check a plan file."""
    gathering = Gathering()
    document = gathering.take(lambda: read_document(plan_file))
    trace = gathering.take(lambda: _read_trace(request, document.seed if document is not None else 0))
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
    profiles = _profiles(folder)
    shown = shipped_folder() if folder is None else folder
    if check:
        examined = examination.examination_report(profiles, str(shown))
        session.show(examined, examination.show_examination)
        return EXIT_NOT_MET if examined.warnings else EXIT_DONE
    pipelines = _shipped_names("pipelines", (".yaml",)) if folder is None else []
    traces = _shipped_names("traces", (".csv.gz", ".csv")) if folder is None else []
    report = summaries.profiles_report(profiles, str(shown), pipelines, traces)
    session.show(report, terminal.show_profiles)
    return EXIT_DONE


def run_solvers(session: Session) -> int:
    """Show solvers and formulations; exit code 3 if no solver works."""
    from mipplan_formulations import FORMULATIONS

    solvers = mp.solvers.available_solvers()
    session.show(summaries.solvers_report(solvers, list(FORMULATIONS)), terminal.show_solvers)
    return EXIT_DONE if any(solver.available for solver in solvers) else EXIT_NO_ANSWER


def _plan_and_trace(plan_file: Path, request: TraceRequest) -> tuple[mp.Plan, mp.Trace]:
    """Read a plan file and a trace; the seed of an expansion is the plan's unless another is given."""
    gathering = Gathering()
    plan = gathering.take(lambda: mp.Plan.load(plan_file))
    fallback = plan.seed if plan is not None else 0
    trace = gathering.take(lambda: _read_trace(request, fallback))
    gathering.check()
    if plan is None or trace is None:
        raise AssertionError("faults were reported")
    return plan, trace


def _profiles(folder: Path | None) -> mp.Profiles:
    return mp.Profiles.default() if folder is None else mp.Profiles.read(folder)


def _read_trace(request: TraceRequest, seed: int = 0) -> mp.Trace:
    gathering = Gathering()
    start_s = gathering.take(lambda: _optional_seconds("--from", request.start))
    end_s = gathering.take(lambda: _optional_seconds("--to", request.end))
    gathering.check()
    return mp.Trace.read(
        _shipped("traces", request.file, (".csv.gz", ".csv")),
        expand=request.expand,
        seed=seed if request.seed is None else request.seed,
        start_s=start_s,
        end_s=end_s,
    )


def _optional_seconds(flag: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return parse_duration_ns(text) / NS_PER_S
    except ValueError as error:
        message = str(error)
        if flag in _COARSE and _BARE_NUMBER.fullmatch(text.strip()):  # nobody means 5ms here
            message = f"{text.strip()!r} has no unit: write {text.strip()}s"
        elif match := _LONG_UNITS.fullmatch(text.strip()):
            seconds = float(match["number"]) * (60 if match["unit"] == "m" else 3600)
            message = f"{text.strip()!r} is not accepted: write it in seconds, {seconds:.12g}s"
        raise InputError.one(flag, message) from error


def _arrival_curve(buckets: tuple[str, ...]) -> ArrivalCurve | None:
    """Read BURST:RATE pairs; None if there are none."""
    pairs: list[tuple[float, float]] = []
    for text in buckets:
        burst, _, rate = text.partition(":")
        try:
            pairs.append((float(burst), float(rate)))
            ArrivalCurve.token_bucket(*pairs[-1])
        except ValueError as error:
            message = f"expected BURST:RATE in queries and queries/s, such as 20:150, found {text!r}"
            raise InputError.one("--envelope", message) from error
    return ArrivalCurve(tuple(pairs)) if pairs else None


def _check_out(out: Path | None) -> None:
    """Find out before the work, not after it, that the plan could not be written."""
    if out is not None and not out.parent.is_dir():
        raise InputError.one(f"--out {out}", f"there is no folder {str(out.parent)!r} to write to")
    if out is not None and out.is_dir():
        raise InputError.one(f"--out {out}", "is a folder; name a file to write to")


def _shipped(kind: str, name: str, endings: tuple[str, ...]) -> str:
    """Return the path itself, or the shipped file of that name if there is no such path.

    Raises
    ------
    InputError
        If a bare name is neither a file nor shipped.
    """
    if Path(name).exists() or "/" in name or "." in name:
        return name
    for ending in endings:
        candidate = shipped_folder() / kind / f"{name}{ending}"
        if candidate.is_file():
            return str(candidate)
    known = _shipped_names(kind, endings)
    hint = suggestion(name, known) or f"; shipped are {', '.join(known)}"
    raise InputError.one(name, f"is neither a file nor one of the shipped {kind}{hint}")


def _shipped_names(kind: str, endings: tuple[str, ...]) -> list[str]:
    folder = shipped_folder() / kind
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return sorted(
        {name.removesuffix(ending) for name in names for ending in endings if name.endswith(ending)}
    )
