"""The command that writes a plan down for a serving system."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import mipplan as mp
from mipplan import reporting
from mipplan.cli import flags
from mipplan.cli.session import Session
from mipplan.core import Faults, InputError


def export(
    context: typer.Context,
    plan: flags.PlanFile,
    to: Annotated[str, typer.Option(help="Serving system: triton, ray, mosec, kserve or keda.")],
    out: Annotated[
        Path, flags.option("DIR", "Folder to write; it is empty or not there yet.", "--out", "-o")
    ],
    emulate: Annotated[
        bool,
        typer.Option("--emulate", help="With models that only sleep, as long as the plan's tables say."),
    ] = False,
    cpu: Annotated[
        list[str] | None,
        flags.option(
            "NAME",
            "A hardware type that is no GPU, besides those called cpu…; repeat for several.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an earlier export, with all that was changed in it.")
    ] = False,
    json: flags.Json = False,
) -> None:
    """Write files that deploy a plan, and say what the serving system does not keep of it."""
    with Session(context, json) as session:
        from mipplan.exporters import check_directory, check_exportable, check_target

        faults = Faults()
        loaded = faults.take(lambda: mp.Plan.load(plan))
        faults.take(lambda: check_target(to))
        if loaded:
            faults.take(lambda: check_exportable(loaded.value, to, emulate=emulate, cpu=cpu or ()))
        faults.take(lambda: check_directory(out, force=force))
        faults.take(lambda: _check_apart(plan, out))
        faults.check()
        written = mp.export(loaded.value, to=to, directory=out, emulate=emulate, cpu=cpu or (), force=force)
        session.show(reporting.export_report(str(plan), written), reporting.show_export)


def _check_apart(plan: Path, out: Path) -> None:
    """Refuse to replace the folder that the plan is read from; raises `InputError`.

    An earlier export holds one, and whoever exports that into its own folder would lose what was changed there.
    """
    if out.resolve() in plan.resolve().parents:
        raise InputError.one(f"--out {out}", "holds the plan that is read; name another folder")
