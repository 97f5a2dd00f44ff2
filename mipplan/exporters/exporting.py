"""Writing a plan down for a serving system: everything is checked first, and the folder comes whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from mipplan.core import (
    Fault,
    Faults,
    InputError,
    Printable,
    Summary,
    check_allowance,
    check_kinds,
    check_one_of,
    format_duration,
    shown,
    usd_text,
)
from mipplan.documents import files_in, is_folder, is_there, real_path
from mipplan.exporters.departures import Departure, assumptions
from mipplan.exporters.deployment import Deployment
from mipplan.exporters.register import TARGETS, ExportTarget
from mipplan.result import Plan

#: Every export begins its README with this line: by it a folder is known that may be written over.
_MARK = "<!-- Written by mipplan export. -->"
#: Files beside those of the target.
_README, _PLAN = "README.md", "plan.json"
#: Where the README lists the export's own files: all else in its folder was put in.
_FILES = "<!-- Its files: "
#: Python's own of these files, which it makes again.
_CACHED = "__pycache__"
#: Kinds of files that exports wrote before their README listed them.
_KINDS = {".json", ".md", ".pbtxt", ".py", ".txt", ".yaml"}


@dataclass(frozen=True, eq=False, repr=False)
class Export(Printable):
    """What was written, and what the serving system does not keep of the plan."""

    pipeline: str
    target: str
    directory: str
    files: tuple[str, ...]
    """Paths in the folder, sorted."""
    emulated: bool
    """Whether models only sleep as long as the plan's tables say."""
    departures: tuple[Departure, ...]
    assumptions: tuple[str, ...]
    """What has to be so for the plan's figures to hold there, in sentences."""
    kept: tuple[str, ...] = ()
    """Files of the folder that was replaced, such as models, which are in the new one, too; sorted."""

    @property
    def certificate_holds(self) -> bool:
        """Whether the plan's certificate bounds latencies on the system, given the assumptions."""
        return not any(departure.voids for departure in self.departures)

    def _summary(self) -> Summary:
        return Summary(
            f"{TARGETS[self.target].title} of {self.pipeline}: {len(self.files)} files in {self.directory}",
            figures=(
                ("certificate", "holds" if self.certificate_holds else "does not hold here as it stands"),
                *(
                    (departure.subject, f"{departure.what}. {departure.effect}")
                    for departure in self.departures
                ),
            ),
        )

    def _line(self) -> str:
        return f" of {self.pipeline} to {self.target}: {len(self.files)} files in {self.directory}"


def export(
    plan: Plan,
    *,
    to: str,
    directory: str | Path,
    emulate: bool = False,
    cpu: Collection[str] = (),
    allowance_s: float = 0.0,
    force: bool = False,
) -> Export:
    """Write the files that deploy a plan on a serving system, each value with the figure of the plan it comes from.

    Parameters
    ----------
    plan : Plan
    to : str
        ``triton``, ``ray``, ``mosec``, ``kserve`` or ``keda``.
    directory : str or Path
        A folder that is empty or not there; its README says how to start, and what the system does not keep.
    emulate : bool
        Replace the models by ones that sleep as long as the plan's tables say, to try a plan without its hardware.
        Otherwise they are left for you to put in.
    cpu : collection of str
        Hardware types that are no GPUs, besides those whose names begin with ``cpu``.
    allowance_s : float
        What a batch may take beyond its table, where our dispatcher makes the batches (``ray``): see `with_allowance`.
    force : bool
        Replace the folder if it is an earlier export, with all that was changed in its files. What it did not write,
        such as models put in, is kept (`Export.kept`); where its README does not list its files, what is of no kind
        that exports write.

    Raises
    ------
    InputError
        Listing all that keeps the plan from being written for the system, and what is wrong with the folder.
    NoPlanError
        If there is no plan.
    """
    faults = Faults()
    ready = faults.take(lambda: check_exportable(plan, to, emulate=emulate, cpu=cpu, allowance_s=allowance_s))
    faults.take(lambda: check_directory(directory, force=force))
    faults.check()
    deployment, target, place = ready.value, TARGETS[to], Path(directory)
    departures = tuple(target.departures(deployment))
    files = {**target.files(deployment), _PLAN: plan.to_json()}
    names = tuple(sorted([*files, _README]))
    files[_README] = _readme(target, deployment, departures, names)
    kept = tuple(name for name in _foreign_files(place) if name not in files)
    _write_folder(place, files, kept)
    return Export(
        plan.pipeline.name,
        to,
        str(place),
        names,
        emulate,
        departures,
        tuple(assumptions(deployment, target.rules)),
        kept,
    )


def check_target(to: object) -> None:
    """Refuse what is no serving system; raises `InputError`."""
    check_one_of("to", to, TARGETS)


def check_exportable(
    plan: Plan, to: str, *, emulate: bool = False, cpu: Collection[str] = (), allowance_s: float = 0.0
) -> Deployment:
    """Return a plan as it is deployed on a serving system; arguments as for `export`.

    Raises `InputError` listing all that keeps it from being written, `NoPlanError` if there is no plan.
    """
    faults = Faults()
    faults.take(lambda: check_kinds(plan=(plan, Plan)))
    known = faults.take(lambda: check_target(to))
    if (
        isinstance(cpu, str)
        or not isinstance(cpu, Collection)
        or not all(isinstance(one, str) for one in cpu)
    ):
        faults.add(Fault("cpu", f"expected names of hardware types, found {shown(cpu)}"))
        cpu = ()
    if not isinstance(plan, Plan):
        faults.check()
    deployment = Deployment(plan.require(), emulate, tuple(cpu), allowance_s)
    faults.add(*deployment.faults())
    faults.take(lambda: check_allowance(allowance_s))
    if known:
        faults.add(*TARGETS[to].faults(deployment))
        if allowance_s and not TARGETS[to].rules.is_ours:
            faults.add(
                Fault("allowance_s", f"{to} makes the batches itself: an allowance is our dispatcher's")
            )
    faults.check()
    return deployment


def check_directory(directory: object, *, force: bool = False) -> None:
    """Find out beforehand what keeps a folder from being written.

    Raises `InputError` if it cannot be made, or holds files already and is not to be replaced.
    """
    problem = _directory_problem(directory, force)
    if problem is not None:
        raise InputError.one(str(directory).replace("\0", "?") or "directory", problem)


def _directory_problem(directory: object, force: bool) -> str | None:
    if not isinstance(directory, str | os.PathLike) or not os.fspath(directory) or "\0" in str(directory):
        return "expected the name of a folder"
    try:
        is_new, is_empty = not is_there(directory), not is_folder(directory) or not files_in(directory)
    except InputError as error:
        return error.faults[0].message
    place = real_path(directory)
    if not is_new and not place.is_dir():
        return "is a file; name a folder"
    if not is_folder(place.parent):
        return f"there is no folder {str(place.parent)!r} to make it in"
    if not all(os.access(folder, os.W_OK) for folder in (place.parent, *([] if is_new else [place]))):
        return f"the folder {str(place.parent)!r} cannot be written to"
    if is_empty:
        return None
    if not force:
        return "is not empty; name another folder (--force, or force=True, replaces an earlier export)"
    readme = place / _README
    if not readme.is_file() or not readme.read_bytes().startswith(_MARK.encode()):
        return "holds files that no export wrote; name another folder"
    return None


def _foreign_files(directory: Path) -> tuple[str, ...]:
    """Files of an earlier export's folder that it did not write: weights, labels and the like; sorted."""
    readme = directory / _README
    if not readme.is_file():
        return ()
    own, found = _own_files(readme.read_text(encoding="utf-8", errors="replace")), []
    for path in directory.rglob("*"):
        name = path.relative_to(directory).as_posix()
        is_own = path.suffix in _KINDS or path.name == ".keep" if own is None else name in own
        if not is_own and _CACHED not in path.parts and (path.is_symlink() or path.is_file()):
            found.append(name)
    return tuple(sorted(found))


def _own_files(readme: str) -> set[str] | None:
    """Read which files an export wrote; None where its README does not say, or no longer."""
    line = next((line for line in readme.splitlines() if line.startswith(_FILES)), "")
    try:
        return set(json.loads(line.removeprefix(_FILES).removesuffix(" -->")))
    except ValueError:
        return None


def _write_folder(directory: Path, files: Mapping[str, str], kept: Collection[str]) -> None:
    """Fill a temporary folder beside, with files to be kept, then put it in place; what was there goes last.

    A folder that is there stays the same one, since somebody may be in it: what it holds is exchanged.
    """
    place = real_path(directory)
    token = secrets.token_urlsafe(6)
    made, old = (place.parent / f".{place.name[:50]}.{token}.{end}" for end in ("part", "old"))
    is_new = not place.exists()
    try:
        try:
            for name, text in files.items():
                path = made / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8", newline="\n")
            for name in kept:
                (made / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(place / name, made / name, follow_symlinks=False)
            if is_new:
                made.replace(place)
            else:
                old.mkdir()
                _exchange(place, made, old)
        finally:
            shutil.rmtree(made, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise InputError.one(
            f"directory {directory}", f"cannot be written: {error.strerror or error}"
        ) from error


def _exchange(place: Path, made: Path, old: Path) -> None:
    """Let one folder hold what another does; what it held goes to a third. If that fails, all is as it was."""
    moves: list[tuple[Path, Path]] = []
    try:
        for source, target in ((place, old), (made, place)):
            for path in list(source.iterdir()):
                moves.append((path, target / path.name))
                path.rename(target / path.name)
    except BaseException:
        for path, moved in reversed(moves):
            if os.path.lexists(moved) and not os.path.lexists(path):
                moved.rename(path)
        old.rmdir()
        raise


def _readme(
    target: ExportTarget, deployment: Deployment, departures: tuple[Departure, ...], names: tuple[str, ...]
) -> str:
    plan = deployment.plan
    cost = "" if plan.usd_per_hour is None else f", {usd_text(plan.usd_per_hour)} $/h"
    certified = ""
    if plan.certificate_ns is not None:
        certified = f" Certificate: {format_duration(plan.certificate_ns)}"
        certified += f"{plan.provenance.scope(plan.samples)}."
    needed = ", ".join(f"{count} × {hardware}" for hardware, count in deployment.devices().items())
    rows = [(stage.name, stage.text, stage.table_text, target.settings(stage)) for stage in deployment.stages]
    table = ["| stage | plan | one batch | where |", "| --- | --- | --- | --- |"]
    table += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    voided = [departure.subject for departure in departures if departure.voids]
    verdict = (
        f"**The certificate of the plan does not hold here as it stands**: {', '.join(voided)}."
        if voided
        else "The certificate of the plan holds here, given what stands under *What has to be so*."
    )
    kept = [f"- **{one.subject}**: {one.what}. {one.effect}." for one in departures]
    return "\n".join(
        [
            _MARK,
            f"# {target.title} of {plan.pipeline.name}",
            "",
            f"{plan.objective.text}{cost}; {needed}.{certified} The plan itself is `{_PLAN}`.",
            "",
            "## Start",
            "",
            target.start(deployment),
            "## Where the figures of the plan went",
            "",
            *table,
            "",
            "## What is not as the plan assumes",
            "",
            verdict,
            "",
            *kept,
            *([""] if kept else []),
            "## What has to be so",
            "",
            *(f"- {sentence}" for sentence in assumptions(deployment, target.rules)),
            "",
            f"{_FILES}{json.dumps(names)} -->",
            "",
        ]
    )
