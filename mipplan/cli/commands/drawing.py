"""The commands that draw: one figure of a plan, or a whole page about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import mipplan as mp
from mipplan import plots
from mipplan.cli import flags, inputs, traces
from mipplan.cli.session import Session
from mipplan.core import Fault, Faults

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What can be drawn of a plan, and what each figure shows.
KINDS = {
    "plan": "the pipeline with the plan's choices",
    "latency": "latency as certified and as replayed",
    "curves": "arrival and service curve of a stage, and their deviation",
    "waterfall": "where a query, by default one at the quantile, spent its time",
    "queues": "queues and busy replicas of each stage over time",
}


@traces.placing
def plot(
    context: typer.Context,
    plan: flags.PlanFile,
    trace: flags.TraceFile,
    out: Annotated[Path, flags.picture("the plan", "--out", "-o")],
    kind: Annotated[
        str, typer.Option("--of", help=f"What to draw: {', '.join(KINDS)}.", metavar="FIGURE")
    ] = "plan",
    stage: Annotated[
        str | None, typer.Option(help="For curves: which stage; by default the one that takes longest.")
    ] = None,
    query: Annotated[
        int | None, typer.Option(help="For waterfall: which query, by order of ingress.", metavar="N")
    ] = None,
    seed: flags.ArrivalSeed = None,
    json: flags.Json = False,
    **placed: Any,
) -> None:
    """Draw one figure of a plan: its graph, its curves, its latencies, a query's way, its queues."""
    with Session(context, json) as session:
        from mipplan import reporting
        from mipplan.core import check_one_of

        faults = Faults()
        faults.take(lambda: check_one_of("--of", kind, KINDS, repr))
        if stage is not None and kind != "curves":
            faults.add(Fault("--stage", "goes with --of curves"))
        if query is not None and kind != "waterfall":
            faults.add(Fault("--query", "goes with --of waterfall"))
        faults.take(lambda: inputs.check_out("--out", out, plots.FIGURE_FILES))
        drawn, arrivals = _read(faults, plan, trace, out, seed, placed)
        with session.progress() as progress:
            progress(f"drawing {out}")
            plots.write_figure(out, _drawn(kind, drawn, arrivals, stage, query))
        session.show(
            reporting.drawing_report("plot", str(plan), arrivals, KINDS[kind], str(out)),
            reporting.show_drawing,
        )


def _read(
    faults: Faults,
    plan: Path,
    trace: Sequence[str],
    out: Path,
    seed: int | None,
    placed: Mapping[str, str | None],
) -> tuple[mp.Plan, mp.Trace]:
    """Read a plan and its traffic; raises `InputError` with all faults so far."""
    file = traces.single(faults, trace)
    faults.take(lambda: inputs.check_apart({"plan": plan, "trace": file}, {"--out": out}))
    loaded = faults.take(lambda: mp.Plan.load(plan))
    read = faults.take(lambda: traces.read_trace(file, traces.seed_of(loaded, seed), **placed))
    faults.check()
    return loaded.value, read.value


def _drawn(kind: str, plan: mp.Plan, trace: mp.Trace, stage: str | None, query: int | None) -> Figure:
    match kind:
        case "plan":
            return plots.figure_of(plots.draw_plan(plan))
        case "latency":
            return plots.figure_of(plots.draw_latency(plan, mp.certify(plan, trace), mp.replay(plan, trace)))
        case "curves":
            return plots.figure_of(
                plots.draw_curves(plan, trace, stage or mp.certify(plan, trace).longest_stage)
            )
        case "waterfall":
            return plots.figure_of(plots.draw_waterfall(plan, trace, mp.replay(plan, trace), query))
        case _:
            return plots.draw_queues(plan, mp.replay(plan, trace), zero_ns=trace.zero_ns)


@traces.placing
def report(
    context: typer.Context,
    plan: flags.PlanFile,
    trace: flags.TraceFile,
    out: Annotated[Path, flags.option("FILE", "Write the page here (.html).", "--out", "-o")] = Path(
        "report.html"
    ),
    costs: Annotated[bool, typer.Option(help="Say what other guarantees cost.")] = True,
    compare: Annotated[bool, typer.Option(help="Say what other planners would do.")] = True,
    perturb: Annotated[bool, typer.Option(help="Say what breaks the plan first.")] = True,
    vary: Annotated[bool, typer.Option(help="Say which measurements the cost depends on.")] = True,
    time_limit: Annotated[
        str, flags.option("TIME", "For plans under other guarantees and on other hardware.")
    ] = "30s",
    seed: flags.ArrivalSeed = None,
    json: flags.Json = False,
    **placed: Any,
) -> None:
    """Write one self-contained page about a plan: what, why, at which price, replayed, and how fragile."""
    with Session(context, json) as session:
        from mipplan import reporting

        faults = Faults()
        limit_s = faults.take(lambda: inputs.seconds_of("--time-limit", time_limit))
        faults.take(lambda: inputs.check_out("--out", out, inputs.PAGE_FILES))
        drawn, arrivals = _read(faults, plan, trace, out, seed, placed)
        with session.progress(whole=False) as progress:
            page = mp.report(
                drawn,
                arrivals,
                costs=costs,
                compare=compare,
                perturb=perturb,
                vary=vary,
                time_limit_s=limit_s.value,
                progress=progress,
            )
            progress(f"writing {out}")
            page.save(out)
        shown = (
            f"{len(page.sections)} sections: {', '.join(section.title.lower() for section in page.sections)}"
        )
        session.show(
            reporting.drawing_report("report", str(plan), arrivals, shown, str(out)), reporting.show_drawing
        )
