"""The commands and their flags. Nothing heavy is imported here: ``mipplan --help`` must be instant."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mipplan.cli import flags

app = typer.Typer(
    name="mipplan",
    help="Plan ML inference pipelines: the cheapest configuration that provably keeps the latency objective.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Options of the program itself."""
    if version:
        from mipplan import __version__

        typer.echo(f"mipplan {__version__}")
        raise typer.Exit


@app.command()
def plan(
    pipeline: flags.PipelineFile,
    trace: flags.TraceFile,
    slo: flags.Slo = None,
    profiles: flags.ProfilesDir = None,
    quantile: flags.Quantile = 0.99,
    headroom: Annotated[
        float, typer.Option(metavar="FACTOR", help="Plan for this multiple of the traffic, such as 1.2.")
    ] = 1.0,
    margin: Annotated[
        str, typer.Option(metavar="TIME", help="Keep back this much of the objective, such as 10ms.")
    ] = "0ms",
    guarantee: Annotated[
        str,
        typer.Option(
            help="trace: certified on this trace; envelope: for any traffic inside an arrival curve."
        ),
    ] = "trace",
    envelope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="BURST:RATE",
            help="With --guarantee envelope: at most BURST + RATE·u queries in any u seconds; repeat for the "
            "minimum of several. The trace's own envelope by default.",
        ),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(metavar="USD", help="Instead: the least certified latency for at most this many $/h."),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the plan here (JSON).")] = None,
    formulation: flags.Solver = "auto",
    solver: flags.Solver = "auto",
    time_limit: Annotated[
        str, typer.Option(metavar="TIME", help="Stop searching after this long, with the best plan so far.")
    ] = "60s",
    seed: flags.Seed = 0,
    expand: flags.Expand = None,
    start: flags.From = None,
    end: flags.To = None,
    replay: Annotated[bool, typer.Option(help="Replay the plan on the trace as well.")] = True,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Say what binds, what each stage could spare, and what else would do."
        ),
    ] = False,
    json: flags.Json = False,
) -> None:
    """Find the cheapest certified configuration of a pipeline, and replay it."""
    from mipplan.cli.commands import PlanRequest, run_plan
    from mipplan.cli.inputs import TraceRequest
    from mipplan.cli.session import run

    request = PlanRequest(
        pipeline=pipeline,
        trace=TraceRequest(trace, expand, seed, start, end),
        slo=slo,
        profiles=profiles,
        quantile=quantile,
        headroom=headroom,
        margin=margin,
        guarantee=guarantee,
        envelope=tuple(envelope or ()),
        budget=budget,
        out=out,
        formulation=formulation,
        solver=solver,
        time_limit=time_limit,
        seed=seed,
        replay=replay,
        explain=explain,
    )
    run(json, lambda session: run_plan(session, request))


@app.command()
def replay(
    plan: flags.PlanFile,
    trace: flags.TraceFile,
    discipline: Annotated[
        str, typer.Option(help="oldest_first, or fifo (the certificate does not cover fifo).")
    ] = "oldest_first",
    engine: flags.Engine = "auto",
    seed: flags.PlanSeed = None,
    expand: flags.Expand = None,
    start: flags.From = None,
    end: flags.To = None,
    windows: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Show latencies over time as well, in windows such as 60s."),
    ] = None,
    out: flags.Document = None,
    latencies: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write arrival and latency of every query here (.csv or .parquet)."
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Draw latencies over time and their distribution (.png, .svg or .pdf)."
        ),
    ] = None,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream", help="For traces larger than memory: keep sums and a histogram, not every query."
        ),
    ] = False,
    json: flags.Json = False,
) -> None:
    """Replay a plan on a trace, exactly, and show latencies and what each stage did."""
    from mipplan.cli.inputs import TraceRequest
    from mipplan.cli.replays import ReplayRequest, run_replay
    from mipplan.cli.session import run
    from mipplan.cli.streaming import run_stream

    request = ReplayRequest(
        plan=plan,
        trace=TraceRequest(trace, expand, seed, start, end),
        discipline=discipline,
        engine=engine,
        seed=seed,
        windows=windows,
        out=out,
        latencies=latencies,
        plot=plot,
    )
    run(json, lambda session: (run_stream if stream else run_replay)(session, request))


@app.command()
def compare(
    pipeline: flags.PipelineFile,
    trace: flags.TraceFile,
    slo: flags.Slo = None,
    profiles: flags.ProfilesDir = None,
    quantile: flags.Quantile = 0.99,
    split: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Plan on this share of the trace's time, judge on the rest too."),
    ] = 0.5,
    planners: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Some of certified,refined,inferline,coarse_mean,coarse_peak,half_slo; all by default.",
        ),
    ] = None,
    discipline: Annotated[
        str, typer.Option(help="Judge everybody under this: oldest_first, or fifo.")
    ] = "oldest_first",
    time_limit: Annotated[
        str, typer.Option(metavar="TIME", help="Stop each search after this long.")
    ] = "60s",
    seed: flags.Seed = 0,
    expand: flags.Expand = None,
    start: flags.From = None,
    end: flags.To = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw costs and latencies as bars (.png, .svg or .pdf)."),
    ] = None,
    json: flags.Json = False,
) -> None:
    """Compare planners: plan on the first part of a trace, judge on that and on the rest."""
    from mipplan.cli.comparing import CompareRequest, run_compare
    from mipplan.cli.inputs import TraceRequest
    from mipplan.cli.session import run

    request = CompareRequest(
        pipeline=pipeline,
        trace=TraceRequest(trace, expand, seed, start, end),
        slo=slo,
        profiles=profiles,
        quantile=quantile,
        split=split,
        planners=planners,
        discipline=discipline,
        time_limit=time_limit,
        seed=seed,
        plot=plot,
    )
    run(json, lambda session: run_compare(session, request))


@app.command()
def tune(
    plan: flags.PlanFile,
    trace: flags.TraceFile,
    policy: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Some of lp,lp-lean,inferline,hpa,ray,ray-tuned,static,oracle, with commas between.",
        ),
    ] = "lp,inferline,hpa,ray,static",
    sample: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="The trace planned for; by default the first part of --trace stands for it."
        ),
    ] = None,
    split: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="That part, as a share of the trace's time; 0.2 by default."),
    ] = None,
    period: Annotated[str, typer.Option(metavar="TIME", help="Time between two instants of control.")] = "1s",
    activation_delay: Annotated[
        str, typer.Option(metavar="TIME", help="Time from ordering a replica to its first batch.")
    ] = "5s",
    discipline: Annotated[str, typer.Option(help="oldest_first, or fifo.")] = "oldest_first",
    engine: flags.Engine = "auto",
    seed: flags.PlanSeed = None,
    expand: flags.Expand = None,
    start: flags.From = None,
    end: flags.To = None,
    out: flags.Document = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Draw rate, replicas, latencies and misses over time (.png, .svg or .pdf)."
        ),
    ] = None,
    json: flags.Json = False,
) -> None:
    """Let replicas follow a trace under several policies, replay each exactly, and compare misses and cost."""
    from mipplan.cli.inputs import TraceRequest
    from mipplan.cli.session import run
    from mipplan.cli.tuning import TuneRequest, run_tune

    request = TuneRequest(
        plan=plan,
        trace=TraceRequest(trace, expand, seed, start, end),
        policies=policy,
        sample=sample,
        split=split,
        period=period,
        activation_delay=activation_delay,
        discipline=discipline,
        engine=engine,
        seed=seed,
        out=out,
        plot=plot,
    )
    run(json, lambda session: run_tune(session, request))


@app.command()
def fleet(
    fleet: Annotated[
        Path, typer.Argument(metavar="FLEET", help="Fleet file (YAML): pipelines, traces, limits, budget.")
    ],
    profiles: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Profile folder; by default the one the file names, or the shipped one."
        ),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(metavar="HARDWARE=N", help="Devices there are, such as t4=40; repeat for several."),
    ] = None,
    budget: Annotated[
        float | None, typer.Option(metavar="USD", help="Most $/h for all pipelines together.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="auto, columns, or joint (one MILP, for small fleets).")
    ] = "auto",
    gap: Annotated[float, typer.Option(help="Proven gap to the lower bound that is good enough.")] = 0.001,
    time_limit: Annotated[
        str, typer.Option(metavar="TIME", help="Stop searching after this long, with the best fleet so far.")
    ] = "300s",
    jobs: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Worker processes; by default one per core for more than a few pipelines."
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Keep the state of the search here, and go on from it if it is there."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write every pipeline's plan file into this folder.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw who uses what (.png, .svg or .pdf)."),
    ] = None,
    json: flags.Json = False,
) -> None:
    """Plan many pipelines that share limited hardware: the cheapest set of certified plans."""
    from mipplan.cli.fleets import FleetRequest, run_fleet
    from mipplan.cli.session import run

    request = FleetRequest(
        fleet=fleet,
        profiles=profiles,
        limits=tuple(limit or ()),
        budget=budget,
        method=method,
        gap=gap,
        time_limit=time_limit,
        jobs=jobs,
        checkpoint=checkpoint,
        out=out,
        plot=plot,
    )
    run(json, lambda session: run_fleet(session, request))


@app.command()
def verify(
    plan: flags.PlanFile,
    trace: flags.TraceFile,
    seed: Annotated[int | None, typer.Option(help="Seed of --expand; the plan's by default.")] = None,
    expand: flags.Expand = None,
    start: flags.From = None,
    end: flags.To = None,
    json: flags.Json = False,
) -> None:
    """Re-check a plan file on a trace without a solver; exit code 1 if it does not hold."""
    from mipplan.cli.commands import run_verify
    from mipplan.cli.inputs import TraceRequest
    from mipplan.cli.session import run

    run(json, lambda session: run_verify(session, plan, TraceRequest(trace, expand, seed, start, end)))


@app.command()
def profiles(
    profiles: flags.ProfilesDir = None,
    check: Annotated[
        bool, typer.Option("--check", help="List odd measurements instead; exit code 1 if one needs a look.")
    ] = False,
    json: flags.Json = False,
) -> None:
    """Show hardware, prices and measured models of a profile folder, or what is odd in them."""
    from mipplan.cli.commands import run_profiles
    from mipplan.cli.session import run

    run(json, lambda session: run_profiles(session, profiles, check))


@app.command()
def solvers(json: flags.Json = False) -> None:
    """Show which solvers work here, and which formulations there are."""
    from mipplan.cli.commands import run_solvers
    from mipplan.cli.session import run

    run(json, run_solvers)
