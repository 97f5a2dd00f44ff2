"""The command that writes a plan down for a serving system."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import mipplan as mp
from mipplan import reporting
from mipplan.cli import flags
from mipplan.cli.session import Session
from mipplan.core import Faults


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
        from mipplan.exporters import check_directory, check_target

        faults = Faults()
        loaded = faults.take(lambda: mp.Plan.load(plan))
        faults.take(lambda: check_target(to))
        faults.take(lambda: check_directory(out, force=force))
        faults.check()
        written = mp.export(loaded.value, to=to, directory=out, emulate=emulate, cpu=cpu or (), force=force)
        session.show(reporting.export_report(str(plan), written), reporting.show_export)
