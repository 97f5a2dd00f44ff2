"""``mipplan profiles`` and its commands: what there is, what is odd in it, and what other tools measured or charge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import mipplan as mp
from mipplan import reporting
from mipplan.cli import config, flags, inputs, traces
from mipplan.cli.session import EXIT_NOT_MET, Session
from mipplan.core import Fault, Faults

profiles_app = typer.Typer(
    name="profiles",
    help="Show hardware, prices and measured models of a profile folder, or what is odd in them; import more.",
    invoke_without_command=True,
)

_Where = Annotated[
    list[str] | None,
    flags.option("COLUMN=VALUE", "Read only rows of a table with this value; repeat for several columns."),
]
_Replace = Annotated[bool, typer.Option("--replace", help="Write over what stands there with other figures.")]


@profiles_app.callback()
@traces.placing
def profiles(
    context: typer.Context,
    profiles: flags.ProfilesDir = None,
    check: Annotated[
        bool, typer.Option("--check", help="List odd measurements instead: warnings and notes.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="With --check: exit code 1 if there is a warning.")
    ] = False,
    for_: Annotated[
        Path | None,
        flags.option("PLAN", "With --check: is it certified at the upper ends of intervals, too?", "--for"),
    ] = None,
    trace: Annotated[str | None, flags.option("FILE", "With --for: arrivals, or a shipped trace.")] = None,
    seed: flags.ArrivalSeed = None,
    json: flags.Json = False,
    **placed: Any,
) -> None:
    """Show hardware, prices and measured models of a profile folder, or what is odd in them; import more."""
    if context.invoked_subcommand is not None:
        if any(config.is_typed(context, name) for name in context.params):
            raise typer.BadParameter(f"flags belong behind {context.invoked_subcommand!r}")
        return
    with Session(context, json) as session:
        from mipplan.documents import shipped_folder

        faults = Faults()
        if for_ is None and not config.is_typed(context, "trace"):
            trace = None  # that of a configuration file is for commands that ask about traffic
        if (for_ is None) != (trace is None):
            given, missing = ("--for", "--trace") if trace is None else ("--trace", "--for")
            faults.add(Fault(given, f"goes with {missing}: the plan is certified on the trace"))
        if for_ is not None and not check:
            faults.add(Fault("--for", "goes with --check"))
        if strict and not check:
            faults.add(Fault("--strict", "goes with --check"))
        read = faults.take(lambda: inputs.read_profiles(profiles))
        plan = faults.take(lambda: None if for_ is None else mp.Plan.load(for_))
        drawn = traces.seed_of(plan, seed)
        arrivals = faults.take(lambda: traces.read_if_given(context, "--trace", trace, drawn, **placed))
        faults.check()
        measured, root = read.value, shipped_folder() if profiles is None else profiles
        folder = str(root)
        if check:
            from mipplan.profiles import Severity
            from mipplan.profiling import examine_for_plan, examine_records

            further = examine_records(root, measured)
            for_plan = further[:0]
            if plan.value is not None and arrivals.value is not None:
                for_plan = examine_for_plan(root, measured, plan.value, arrivals.value)
            examined = reporting.examination_report(measured, folder, further + for_plan)
            session.show(examined, reporting.show_examination)
            # A plan that is not certified any more is an answer; warnings are told, and nothing is amiss.
            if any(one.severity is Severity.WARNING for one in for_plan) or (strict and examined.warnings):
                session.exit_code = EXIT_NOT_MET
            return
        from mipplan.documents import shipped_names

        pipelines = shipped_names("pipelines") if profiles is None else []
        shipped = shipped_names("traces") if profiles is None else []
        report = reporting.profiles_report(measured, folder, pipelines, shipped)
        session.show(report, reporting.show_profiles)


@profiles_app.command("import")
def import_measurements(
    context: typer.Context,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="What other tools wrote; .gz accepted.")
    ],
    out: Annotated[
        Path, flags.option("DIR", "Profile folder to merge into; made if it is not there.", "--out", "-o")
    ],
    format: Annotated[  # noqa: A002 -- the flag's name
        str,
        typer.Option(
            help="auto, perf_analyzer, model_analyzer, trtexec, onnxruntime, mlperf, timm, aiconfigurator, vllm, "
            "genai_perf, or published (a table of a vendor or paper)."
        ),
    ] = "auto",
    model: Annotated[
        list[str] | None,
        flags.option("NAME", "The model, or which of the file's; THEIRS=NAME renames; repeat for several."),
    ] = None,
    hardware: Annotated[
        list[str] | None,
        flags.option(
            "NAME", "The hardware, or which of the file's; THEIRS=NAME renames; repeat for several."
        ),
    ] = None,
    batch: Annotated[
        int | None, flags.option("N", "Batch size of the whole file, where it is not written down.")
    ] = None,
    where: _Where = None,
    replace: _Replace = False,
    json: flags.Json = False,
) -> None:
    """Import batch latencies that other tools measured, with where each figure is from."""
    with Session(context, json) as session:
        from functools import partial

        from mipplan.importers import Stated, merge_rows, read_measurements

        faults = Faults()
        models = faults.take(lambda: inputs.names_given("--model", model or ()))
        hardwares = faults.take(lambda: inputs.names_given("--hardware", hardware or ()))
        columns = faults.take(lambda: inputs.pairs_of("--where", "COLUMN=VALUE", where or ()))
        faults.check()
        stated = Stated(models.value, hardwares.value, batch, columns.value)
        read = [faults.take(partial(read_measurements, file, format, stated)) for file in files]
        faults.check()
        imported = [taken.value for taken in read]
        merge = merge_rows(out, imported, replace_existing=replace)
        session.show(reporting.import_report(str(out), imported, merge), reporting.show_import)


@profiles_app.command("prices")
def import_prices(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Price list of instances (CSV, .gz accepted).")
    ],
    out: Annotated[
        Path, flags.option("FILE", "The hardware.yaml to merge into; made if it is not there.", "--out", "-o")
    ],
    region: Annotated[
        str | None, typer.Option(help="Region, such as us-east-1; needed if the list has several.")
    ] = None,
    tier: Annotated[str, typer.Option(help="on-demand, spot or reserved.")] = "on-demand",
    hardware: Annotated[
        list[str] | None,
        flags.option(
            "NAME=INSTANCE",
            "Price of a hardware type, such as t4=g4dn.xlarge, or a100=p4d.24xlarge/8 for an eighth of the instance; "
            "repeat for several. By default every instance, under its own name.",
        ),
    ] = None,
    where: _Where = None,
    replace: _Replace = False,
    json: flags.Json = False,
) -> None:
    """Import prices of cloud instances as hardware types, with where each is from."""
    with Session(context, json) as session:
        from mipplan.importers import merge_hardware, read_prices

        faults = Faults()
        shares = faults.take(lambda: None if hardware is None else inputs.shares_of(hardware))
        columns = faults.take(lambda: inputs.pairs_of("--where", "COLUMN=VALUE", where or ()))
        faults.check()
        prices = read_prices(file, tier=tier, region=region, hardware=shares.value, where=columns.value)
        merge = merge_hardware(out, prices.hardware, replace_existing=replace)
        written = [str(out)] if merge.added or merge.replaced else []
        report = reporting.prices_report(prices, merge, tier=tier, region=region, written=written)
        session.show(report, reporting.show_prices)
