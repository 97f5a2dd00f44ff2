"""The commands, and those that plan. Nothing heavy is imported before its use: ``mipplan --help`` must be instant."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import mipplan as mp
from mipplan import plots, reporting
from mipplan.cli import flags, inputs, question
from mipplan.cli.commands.asking import diff, explain, frontier, refine, sensitivity, whatif
from mipplan.cli.commands.drawing import plot, report
from mipplan.cli.commands.following import follow, schedule, watch
from mipplan.cli.commands.judging import compare, fragility, replay, verify
from mipplan.cli.commands.observing import drive, observe, truth
from mipplan.cli.commands.offers import menu, pareto, weigh
from mipplan.cli.commands.profiles import profiles_app
from mipplan.cli.commands.profiling import profile
from mipplan.cli.commands.serving import export, serve
from mipplan.cli.commands.tuning import tune
from mipplan.cli.config import read_config
from mipplan.cli.session import EXIT_NO_ANSWER, Session
from mipplan.core import Fault, Faults, InputError

#: From this many pipelines on, workers on all cores are worth starting.
_MANY_PIPELINES = 40
#: Planning under the other guarantees may take this share of the time limit, because it is a glance at them.
_COSTS_SHARE = 0.125
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


@question.asking
def plan(
    context: typer.Context,
    confidence: flags.Confidence = None,
    drift: flags.Drift = None,
    certificate: flags.Certificate = "classic",
    budget: Annotated[
        float | None, flags.option("USD", "Instead: the least certified latency for at most this many $/h.")
    ] = None,
    accuracy: flags.Accuracy = None,
    out: flags.PlanOut = None,
    replay: Annotated[bool, typer.Option(help="Replay the plan on the trace as well.")] = True,
    costs: Annotated[
        bool,
        typer.Option(
            help="Say what the objective costs under other guarantees as well, in an eighth of the time limit."
        ),
    ] = True,
    laws: Annotated[bool, typer.Option(help="The old name of --costs.", hidden=True)] = True,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Say what binds, what each stage could spare, and what else would do."
        ),
    ] = False,
    json: flags.Json = False,
    **asked: Any,
) -> None:
    """Find the cheapest certified configuration of a pipeline, and replay it."""
    with Session(context, json) as session:
        from mipplan.comparison import guarantee_costs
        from mipplan.result import Limit

        faults = Faults()
        least = faults.take(lambda: question.accuracy_of(accuracy, budget))
        asked |= {"certificate": certificate, "confidence": confidence, "drift": drift}
        given, settings = question.read(faults, **asked, out=out, budget=budget)
        arrivals, limit_s = given[2], settings["time_limit_s"]
        settings["budget_usd_per_hour"] = budget
        with session.progress() as progress:
            if least.value == question.GREATEST:
                made = mp.most_accurate(*given, **settings, progress=progress)
            else:
                made = mp.plan(*given, accuracy=least.value, **settings, progress=progress)
            replayed, explanation = None, None
            if made.choices and explain:
                progress("explaining the plan")
                explanation = made.explain(time_limit_s=min(_EXPLAINING_S, limit_s))
                made = explanation.adopted or made
            out = session.save(made.save, out)
            replayed_ns: dict[str, int] = {}
            if made.choices and replay:
                progress("replaying the plan")
                replayed, replayed_ns = inputs.replay_samples(made, arrivals)
            priced = {}
            if costs and laws and made.limit is not Limit.INTERRUPT:
                priced = guarantee_costs(
                    made, arrivals, time_limit_s=_COSTS_SHARE * limit_s, progress=progress
                )
        remarks = reporting.plan_remarks(made, asked["profiles"])
        remarks += reporting.sample_notes(made, arrivals)
        report = reporting.plan_report(
            made, arrivals, replayed, explanation, remarks, out, priced, replayed_ns
        )
        session.show(report, reporting.show_plan)
        session.answer(is_found=bool(made.choices), is_proven=made.status is mp.PlanStatus.INFEASIBLE)


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
            "LAW",
            "When batches are made, at all stages: eager, paced or timed; by default as the pipelines say.",
        ),
    ] = None,
    discipline: flags.Discipline = None,
    runs: flags.Runs = None,
    json: flags.Json = False,
) -> None:
    """Plan many pipelines that share limited hardware: the cheapest set of certified plans."""
    with Session(context, json) as session:
        from mipplan.documents import folder_problem, shipped_path
        from mipplan.fleet import FleetFile, FleetSettings, read_fleet, read_fleet_file

        def check_settings(file: FleetFile | None) -> None:
            """Check the flags, and with them what the file holds, if it could be read."""
            quantile, seed = (0.99, 0) if file is None else (file.quantile, file.seed)
            limit_s = time_limit_s.or_else(None)
            queues = dispatch, discipline, covered.or_else(None)
            settings = FleetSettings(
                budget, quantile, seed, gap, limit_s, method, checkpoint, *queues, n_jobs=jobs
            )
            if file is None:
                settings.check()
            else:
                read_fleet(file.pipelines, file.profiles, file.limits | limits.or_else({}), settings)

        faults = Faults()
        time_limit_s = faults.take(lambda: inputs.optional_seconds("--time-limit", time_limit))
        limits = faults.take(lambda: inputs.device_limits(limit or ()))
        covered = faults.take(lambda: None if runs is None else inputs.run_class(runs))
        folder = None if profiles is None else str(profiles)
        read = faults.take(lambda: read_fleet_file(fleet, profiles=folder, find=shipped_path))
        faults.take(lambda: check_settings(read.value if read else None))
        faults.take(lambda: inputs.check_out("--plot", plot))
        faults.take(lambda: inputs.check_out("--report", page))
        outputs = {"--plot": plot, "--report": page, "--checkpoint": checkpoint}
        faults.take(lambda: inputs.check_apart({"fleet file": fleet}, outputs))
        if out is not None and (problem := folder_problem(out)) is not None:
            faults.add(Fault(f"--out {out}", problem))
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
                discipline=discipline,
                runs=covered.value,
                progress=progress,
            )
            written = []
            if made.plans and session.save(made.save, out) is not None:
                written.append(f"{out}/")
            written += [str(path) for path in (plot, page) if path is not None]
            report = reporting.fleet_report(file.name, file.quantile, file.seed, made, written)
            session.draw(lambda: plots.draw_fleet(report), plot, progress)
            session.save(lambda to: mp.report(made, title=f"Fleet {file.name}").save(to), page, progress)
        session.show(report, reporting.show_fleet)
        session.answer(is_found=bool(made.plans), is_proven=made.status == "infeasible")


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
    *(plan, pareto, menu, weigh, refine, replay, verify, compare),
    *(explain, whatif, frontier, sensitivity, diff, fragility, tune, fleet, report, plot, export),
    *(profile, serve, drive, observe, truth, schedule, follow, watch, solvers),
)
for _command in _COMMANDS:
    app.command()(_command)
app.add_typer(profiles_app)
