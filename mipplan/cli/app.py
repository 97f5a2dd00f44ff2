"""The commands, and those that plan. Nothing heavy is imported before its use: ``mipplan --help`` must be instant."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import mipplan as mp
from mipplan import plots, reporting
from mipplan.cli import flags, inputs
from mipplan.cli.commands.asking import diff, explain, frontier, refine, sensitivity, whatif
from mipplan.cli.commands.drawing import plot, report
from mipplan.cli.commands.following import follow, schedule, watch
from mipplan.cli.commands.judging import compare, fragility, replay, verify
from mipplan.cli.commands.observing import drive, observe, truth
from mipplan.cli.commands.offers import GREATEST, accuracy_of, menu, pareto
from mipplan.cli.commands.profiles import profiles_app
from mipplan.cli.commands.profiling import profile
from mipplan.cli.commands.serving import export, serve
from mipplan.cli.commands.tuning import tune
from mipplan.cli.session import EXIT_NO_ANSWER, EXIT_NOT_MET, Session, read_config
from mipplan.core import Fault, Faults, InputError

#: From this many pipelines on, workers on all cores are worth starting.
_MANY_PIPELINES = 40
#: Planning under the other guarantees may take this share of the time limit, because it is a glance at them.
_COSTS_SHARE = 0.1
#: Explaining a plan takes at most this long, and no longer than making it may.
_EXPLAINING_S = 20.0

app = typer.Typer(
    name="mipplan",
    help="Plan ML inference pipelines: the cheapest configuration that provably keeps the latency objective.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    config: Annotated[
        Path | None,
        flags.option("FILE", "What options are by default (TOML); ./mipplan.toml if there is one."),
    ] = None,
) -> None:
    """Options of the program itself."""
    try:
        context.default_map = read_config(context, config)
    except InputError:
        with Session(context, as_json=False):
            raise
    if version:
        typer.echo(f"mipplan {mp.__version__}")
        raise typer.Exit


def plan(
    context: typer.Context,
    pipeline: flags.PipelineFile,
    trace: flags.TraceFiles,
    slo: flags.Slo = None,
    profiles: flags.ProfilesDir = None,
    quantile: flags.Quantile = None,
    per: flags.Per = None,
    share: flags.Share = None,
    headroom: flags.Headroom = 1.0,
    margin: flags.Margin = "0ms",
    guarantee: flags.Guarantee = "trace",
    envelope: flags.Envelope = None,
    confidence: flags.Confidence = None,
    drift: flags.Drift = None,
    seeds: flags.Seeds = 1,
    dispatch: flags.Dispatch = None,
    stagger: flags.Stagger = None,
    discipline: Annotated[
        str, typer.Option(help="oldest_first, or fifo (by arrival at the stage).")
    ] = "oldest_first",
    budget: Annotated[
        float | None, flags.option("USD", "Instead: the least certified latency for at most this many $/h.")
    ] = None,
    accuracy: flags.Accuracy = None,
    energy: flags.Energy = False,
    max_power: flags.MaxPower = None,
    usd_per_kwh: flags.UsdPerKwh = None,
    gco2_per_kwh: flags.Gco2PerKwh = None,
    certificate: flags.Certificate = "classic",
    runs: flags.Runs = None,
    out: Annotated[Path | None, flags.option("FILE", "Write the plan here (JSON).", "--out", "-o")] = None,
    formulation: flags.Solver = "auto",
    solver: flags.Solver = "auto",
    time_limit: Annotated[
        str, flags.option("TIME", "Stop searching after this long, with the best plan so far.")
    ] = "60s",
    seed: flags.Seed = 0,
    expand: flags.Expand = None,
    spread: flags.Spread = None,
    start: flags.From = None,
    end: flags.To = None,
    replay: Annotated[bool, typer.Option(help="Replay the plan on the trace as well.")] = True,
    costs: Annotated[
        bool,
        typer.Option(
            help="Say what the objective costs under other guarantees as well, in a tenth of the time limit."
        ),
    ] = True,
    laws: Annotated[bool, typer.Option(help="The old name of --costs.", hidden=True)] = True,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Say what binds, what each stage could spare, and what else would do."
        ),
    ] = False,
    latency: flags.Latency = None,
    json: flags.Json = False,
) -> None:
    """Find the cheapest certified configuration of a pipeline, and replay it."""
    with Session(context, json) as session:
        from mipplan.comparison import guarantee_costs
        from mipplan.core import check_one_of, check_quantile, check_seed
        from mipplan.pipeline import Discipline
        from mipplan.planner import check_search, check_theorem, check_tomorrow
        from mipplan.result import Limit, check_laws

        def check_proof() -> None:
            """Find out with everything else whether anything is proven of what is asked for."""
            told = check_laws(asked.value, dispatch, discipline)
            how = told, discipline, guarantee, certificate, covered.or_else(None), headroom, budget
            check_theorem(*how, terms.or_else(None))

        faults = Faults()
        limits = faults.take(lambda: inputs.slo_of(slo))
        per_s = faults.take(lambda: inputs.optional_seconds("--per", per))
        margin_s = faults.take(lambda: inputs.seconds_of("--margin", margin))
        stagger_s = faults.take(lambda: inputs.stagger_of(stagger))
        curve = faults.take(lambda: inputs.arrival_curve(envelope or ()))
        time_limit_s = faults.take(lambda: inputs.seconds_of("--time-limit", time_limit))
        asked = faults.take(lambda: inputs.read_pipeline(pipeline))
        measured = faults.take(
            lambda: inputs.read_profiles(profiles, latency, asked.value if asked else None)
        )
        arrivals = faults.take(lambda: inputs.read_traces(trace, expand, spread, seed, start, end))
        drifting = faults.take(lambda: inputs.share_of("--drift", drift))
        covered = faults.take(lambda: None if runs is None else inputs.run_class(runs))
        least = faults.take(lambda: accuracy_of(accuracy, budget))
        terms = faults.take(lambda: inputs.energy_of(energy, max_power, usd_per_kwh, gco2_per_kwh))
        faults.take(lambda: None if quantile is None else check_quantile(quantile))
        faults.take(lambda: check_seed(seed))
        faults.take(
            lambda: check_search(
                formulation=formulation,
                guarantee=guarantee,
                envelope=curve.or_else(None),
                time_limit_s=time_limit_s.value if time_limit_s else None,
                headroom=headroom,
                budget_usd_per_hour=budget,
                certificate=certificate,
                runs=covered.or_else(None),
                discipline=discipline,
            )
        )
        faults.take(lambda: check_tomorrow(guarantee, confidence, drifting.or_else(None), seeds))
        faults.take(lambda: inputs.check_dispatch(dispatch))
        faults.take(lambda: check_one_of("discipline", discipline, Discipline, repr))
        faults.take(lambda: check_proof() if asked else None)
        if explain and certificate != "classic":
            faults.add(
                Fault("--explain", "goes with --certificate classic; `mipplan verify` has the critical path")
            )
        faults.take(lambda: inputs.check_out("--out", out))
        faults.take(
            lambda: inputs.check_apart(
                {"pipeline": pipeline, **inputs.by_place(trace)}, {"--out": out}, profiles
            )
        )
        if asked and limits and per_s:
            faults.take(lambda: inputs.asked_of(asked.value, limits.value, per_s.value, share))
        faults.check()
        stated, slo_s = inputs.asked_of(asked.value, limits.value, per_s.value, share)
        with session.progress() as progress:
            asking: dict[str, Any] = {
                "slo_s": slo_s,
                "quantile": quantile,
                "formulation": formulation,
                "solver": solver,
                "time_limit_s": time_limit_s.value,
                "seed": seed,
                "guarantee": guarantee,
                "headroom": headroom,
                "margin_s": margin_s.value,
                "envelope": curve.value,
                "budget_usd_per_hour": budget,
                "dispatch": dispatch,
                "discipline": discipline,
                "certificate": certificate,
                "runs": covered.value,
                "confidence": confidence,
                "drift": drifting.value,
                "seeds": seeds,
                "energy": terms.value,
                "progress": progress,
            }
            given = stated.staggered(stagger_s.value), measured.value
            if least.value == GREATEST:
                made = mp.most_accurate(*given, arrivals.value, **asking)
            else:
                made = mp.plan(*given, arrivals.value, accuracy=least.value, **asking)
            replayed, explanation, is_timed = None, None, made.dispatch == "timed"
            if made.choices and explain and not is_timed:
                progress("explaining the plan")
                explanation = made.explain(time_limit_s=min(_EXPLAINING_S, time_limit_s.value))
                made = explanation.adopted or made
            if out is not None:
                made.save(out)
            replayed_ns: dict[str, int] = {}
            if made.choices and replay:
                progress("replaying the plan")
                replayed, replayed_ns = inputs.replay_samples(made, arrivals.value)
            priced = {}
            if costs and laws and made.limit is not Limit.INTERRUPT:
                priced = guarantee_costs(
                    made, arrivals.value, time_limit_s=_COSTS_SHARE * time_limit_s.value, progress=progress
                )
        remarks = reporting.plan_remarks(made, None if profiles is None else str(profiles))
        remarks += reporting.sample_notes(made, arrivals.value)
        if explain and is_timed:
            remarks.append("a timed plan is certified by its replay: there are no terms to explain")
        written = None if out is None else str(out)
        report = reporting.plan_report(
            made, arrivals.value, replayed, explanation, remarks, written, priced, replayed_ns
        )
        session.show(report, reporting.show_plan)
        if made.status is mp.PlanStatus.INFEASIBLE:
            session.exit_code = EXIT_NOT_MET
        elif made.status is mp.PlanStatus.UNKNOWN:
            session.exit_code = EXIT_NO_ANSWER


def fleet(
    context: typer.Context,
    fleet: Annotated[
        Path, typer.Argument(metavar="FLEET", help="Fleet file (YAML): pipelines, traces, limits, budget.")
    ],
    profiles: Annotated[
        Path | None,
        flags.option("DIR", "Profile folder; by default the one the file names, or the shipped one."),
    ] = None,
    limit: Annotated[
        list[str] | None, flags.option("HARDWARE=N", "Devices there are, such as t4=40; repeat for several.")
    ] = None,
    budget: Annotated[float | None, flags.option("USD", "Most $/h for all pipelines together.")] = None,
    method: Annotated[
        str, typer.Option(help="auto, columns, or joint (one MILP, for small fleets).")
    ] = "auto",
    gap: Annotated[float, typer.Option(help="Proven gap to the lower bound that is good enough.")] = 0.001,
    time_limit: Annotated[
        str, flags.option("TIME", "Stop searching after this long, with the best fleet so far.")
    ] = "300s",
    jobs: Annotated[
        int | None,
        flags.option("N", "Worker processes; by default one per core for more than a few pipelines."),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        flags.option("FILE", "Keep the state of the search here, and go on from it if it is there."),
    ] = None,
    out: Annotated[
        Path | None, flags.option("DIR", "Write every pipeline's plan file into this folder.", "--out", "-o")
    ] = None,
    page: flags.Page = None,
    plot: Annotated[Path | None, flags.picture("who uses what")] = None,
    dispatch: Annotated[
        str | None,
        flags.option(
            "LAW", "When batches are made, at all stages: eager or paced; by default as the pipelines say."
        ),
    ] = None,
    json: flags.Json = False,
) -> None:
    """Plan many pipelines that share limited hardware: the cheapest set of certified plans."""
    with Session(context, json) as session:
        from mipplan.documents import shipped_path
        from mipplan.fleet import FleetFile, FleetSettings, read_fleet, read_fleet_file

        def check_settings(file: FleetFile | None) -> None:
            """Check the flags, and with them what the file holds, if it could be read."""
            quantile, seed = (0.99, 0) if file is None else (file.quantile, file.seed)
            limit_s = time_limit_s.or_else(None)
            settings = FleetSettings(budget, quantile, seed, gap, limit_s, method, checkpoint, dispatch)
            if file is None:
                settings.check()
            else:
                read_fleet(file.pipelines, file.profiles, file.limits | limits.or_else({}), settings)

        faults = Faults()
        time_limit_s = faults.take(lambda: inputs.optional_seconds("--time-limit", time_limit))
        limits = faults.take(lambda: inputs.device_limits(limit or ()))
        folder = None if profiles is None else str(profiles)
        read = faults.take(lambda: read_fleet_file(fleet, profiles=folder, find=shipped_path))
        faults.take(lambda: check_settings(read.value if read else None))
        faults.take(lambda: inputs.check_out("--plot", plot, plots.FIGURE_FILES))
        faults.take(lambda: inputs.check_out("--report", page, (".html", ".htm")))
        outputs = {"--plot": plot, "--report": page, "--checkpoint": checkpoint}
        faults.take(lambda: inputs.check_apart({"fleet file": fleet}, outputs))
        if out is not None and out.exists() and not out.is_dir():
            faults.add(Fault(f"--out {out}", "is a file; name a folder for the plan files"))
        faults.check()
        file = read.value
        with session.progress(as_log=True) as progress:  # a log of bound and gap
            made = mp.plan_fleet(
                file.pipelines,
                file.profiles,
                limits=file.limits | limits.value,
                budget=budget if budget is not None else file.budget,
                quantile=file.quantile,
                seed=file.seed,
                method=method,
                gap=gap,
                time_limit_s=time_limit_s.value,
                n_jobs=jobs if jobs is not None else (-1 if len(file.pipelines) >= _MANY_PIPELINES else 1),
                checkpoint=checkpoint,
                dispatch=dispatch,
                progress=progress,
            )
            written = []
            if out is not None and made.plans:
                made.save(out)
                written.append(f"{out}/ ({len(made.plans):,} plan files)")
            written += [str(path) for path in (plot, page) if path is not None]
            report = reporting.fleet_report(file.name, file.quantile, file.seed, made, written)
            if plot is not None:
                plots.write_figure(plot, plots.draw_fleet(report))
            if page is not None:
                mp.report(made).save(page)
        session.show(report, reporting.show_fleet)
        if not made.plans:
            session.exit_code = EXIT_NOT_MET if made.status == "infeasible" else EXIT_NO_ANSWER


def solvers(context: typer.Context, json: flags.Json = False) -> None:
    """Show which solvers work here, and which formulations there are."""
    with Session(context, json) as session:
        from mipplan_formulations import FORMULATIONS

        found = mp.solvers.available_solvers()
        report = reporting.SolversReport(solvers=list(found), formulations=list(FORMULATIONS))
        session.show(report, reporting.show_solvers)
        if not any(solver.available for solver in found):
            session.exit_code = EXIT_NO_ANSWER


#: In the order of the help.
_COMMANDS = (
    *(plan, pareto, menu, refine, replay, verify, compare, explain, whatif, frontier, sensitivity, diff),
    *(fragility, tune, fleet, report, plot, export),
    *(profile, serve, drive, observe, truth, schedule, follow, watch, solvers),
)
for _command in _COMMANDS:
    app.command()(_command)
app.add_typer(profiles_app)
