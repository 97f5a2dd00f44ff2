"""``mipplan fleet``: many pipelines on shared hardware."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import typer

import mipplan as mp
from mipplan.cli.inputs import Gathering, check_apart, check_out, optional_seconds, shipped_path
from mipplan.cli.session import EXIT_DONE, EXIT_NO_ANSWER, EXIT_NOT_MET, Session
from mipplan.core import InputError
from mipplan.fleet import FleetFile, FleetSettings, read_fleet, read_fleet_file
from mipplan.reporting import fleet_figures, fleet_report, replay_figures, show_fleet

_ENDINGS = {"pipelines": (".yaml",), "traces": (".csv.gz", ".csv")}
#: From so many pipelines on, workers on all cores are worth starting.
_MANY = 40


@dataclass(frozen=True)
class FleetRequest:
    """The flags of ``mipplan fleet``."""

    fleet: Path
    profiles: Path | None
    limits: tuple[str, ...]
    budget: float | None
    method: str
    gap: float
    time_limit: str
    jobs: int | None
    checkpoint: Path | None
    out: Path | None
    plot: Path | None


def run_fleet(session: Session, request: FleetRequest) -> int:
    """Plan, save, draw, show; exit code 1 if not all pipelines fit."""
    gathering = Gathering()
    time_limit_s = gathering.take(lambda: optional_seconds("--time-limit", request.time_limit))
    limits = gathering.take(lambda: _limits(request.limits))
    profiles = None if request.profiles is None else str(request.profiles)
    file = gathering.take(lambda: read_fleet_file(request.fleet, profiles=profiles, find=find_named))
    gathering.take(lambda: _check_search(request, file, limits or {}, time_limit_s))
    gathering.take(lambda: check_out("--plot", request.plot, replay_figures.FIGURE_FILES))
    gathering.take(
        lambda: check_apart(
            {"fleet file": request.fleet}, {"--plot": request.plot, "--checkpoint": request.checkpoint}
        )
    )
    gathering.take(lambda: _check_folder(request.out))
    gathering.check()
    if file is None or limits is None:
        raise AssertionError("faults were reported")
    jobs = request.jobs if request.jobs is not None else (-1 if len(file.pipelines) >= _MANY else 1)
    with progress_lines(session) as progress:
        fleet = mp.plan_fleet(
            file.pipelines,
            file.profiles,
            limits=file.limits | limits,
            budget=request.budget if request.budget is not None else file.budget,
            quantile=file.quantile,
            seed=file.seed,
            method=request.method,
            gap=request.gap,
            time_limit_s=time_limit_s,
            n_jobs=jobs,
            checkpoint=request.checkpoint,
            progress=progress,
        )
        written = []
        if request.out is not None and fleet.plans:
            fleet.save(request.out)
            written.append(f"{request.out}/ ({len(fleet.plans):,} plan files)")
        if request.plot is not None:
            written.append(str(request.plot))
        report = fleet_report(file.name, file.quantile, file.seed, fleet, written)
        if request.plot is not None:
            replay_figures.write_figure(request.plot, fleet_figures.draw_fleet(report))
    session.show(report, show_fleet)
    if fleet.plans:
        return EXIT_DONE
    return EXIT_NOT_MET if fleet.status == "infeasible" else EXIT_NO_ANSWER


def _check_search(
    request: FleetRequest, file: FleetFile | None, limits: dict[str, int], time_limit_s: float | None
) -> None:
    """Check the flags, and with them what the file holds, if it could be read."""
    settings = FleetSettings(
        budget=request.budget,
        quantile=0.99 if file is None else file.quantile,
        seed=0 if file is None else file.seed,
        gap=request.gap,
        time_limit_s=time_limit_s,
        method=request.method,
        checkpoint=request.checkpoint,
    )
    if file is None:
        settings.check()
    else:
        read_fleet(file.pipelines, file.profiles, file.limits | limits, settings)


def find_named(kind: str, name: str, folder: Path) -> str:
    """Return the file beside the fleet file, or the shipped one of that name."""
    beside = folder / name
    return (
        str(beside)
        if beside.exists() or "/" in name or "." in name
        else shipped_path(kind, name, _ENDINGS[kind])
    )


@contextmanager
def progress_lines(session: Session) -> Iterator[Callable[[str], None]]:
    """Show progress as one changing line on a terminal, else as lines on stderr: a log of bound and gap."""
    if sys.stderr is not None and sys.stderr.isatty():
        with session.progress() as progress:
            yield progress
    else:
        yield _echo_progress


def _echo_progress(line: str) -> None:
    with suppress(OSError):  # nobody reads the log: no reason to end the search
        typer.echo(line, err=True)


def _limits(given: tuple[str, ...]) -> dict[str, int]:
    limits: dict[str, int] = {}
    for text in given:
        name, equals, number = text.partition("=")
        if not equals or not number.isdecimal():
            raise InputError.one("--limit", f"expected HARDWARE=NUMBER such as t4=40, found {text!r}")
        limits[name] = int(number)
    return limits


def _check_folder(out: Path | None) -> None:
    if out is not None and out.exists() and not out.is_dir():
        raise InputError.one(f"--out {out}", "is a file; name a folder for the plan files")
