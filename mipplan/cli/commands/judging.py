"""The commands that judge plans on traces: by replay, against other planners, by perturbation, by the certificate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import mipplan as mp
from mipplan import plots, reporting
from mipplan.cli import flags, inputs, question, traces
from mipplan.cli.session import EXIT_DONE, EXIT_INTERRUPTED, EXIT_NOT_MET, Session
from mipplan.core import Fault, Faults


@traces.placing
def replay(
    context: typer.Context,
    plan: flags.PlanFile,
    trace: flags.TraceFile,
    dispatch: flags.Dispatch = None,
    discipline: flags.PlanDiscipline = None,
    stagger: flags.Stagger = None,
    window: flags.Window = None,
    system: flags.System = None,
    engine: flags.Engine = "auto",
    seed: flags.PlanSeed = None,
    noise: flags.Noise = None,
    windows: Annotated[
        str | None, flags.option("TIME", "Show latencies over time as well, in windows such as 60s.")
    ] = None,
    out: flags.Document = None,
    latencies: flags.Latencies = None,
    plot: Annotated[Path | None, flags.picture("latencies over time and their distribution")] = None,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream", help="For traces larger than memory: keep sums and a histogram, not every query."
        ),
    ] = False,
    latency: flags.PlanLatency = None,
    json: flags.Json = False,
    **placed: Any,
) -> None:
    """Replay a plan on a trace, exactly, and show latencies and what each stage did."""
    with Session(context, json) as session:
        from mipplan.core import telling
        from mipplan.documents import shipped_path
        from mipplan.replayer import check_manner
        from mipplan.result import StreamEnd, check_window, check_windows

        faults = Faults()
        file = traces.single(faults, trace)
        if stream:  # what needs the whole trace, or a latency for each query
            whole, each = "the trace is never held as a whole", "latencies of single queries are not kept"
            unusable = (
                ("--expand", placed["expand"], whole),
                ("--spread", placed["spread"], whole),
                ("--from", placed["start"], whole),
                ("--to", placed["end"], whole),
                ("--windows", windows, each),
                ("--latencies", latencies, each),
                ("--plot", plot, each),
                ("--system", system, "a serving system's law is replayed as a whole"),
            )
            for flag, given, reason in unusable:
                if given is not None:
                    faults.add(Fault(flag, f"does not go with --stream: {reason}"))
        faults.take(lambda: inputs.check_dispatch(dispatch))
        stagger_s = faults.take(lambda: inputs.stagger_of(stagger))
        collecting_s = faults.take(lambda: inputs.window_of(window))
        faults.take(lambda: inputs.check_system(system))
        faults.take(lambda: check_manner(discipline, engine, seed))
        drawn = faults.take(lambda: inputs.noise_of(noise))
        # Of a stream the others have been refused.
        outputs = {"--out": out} if stream else {"--out": out, "--latencies": latencies, "--plot": plot}
        faults.take(lambda: inputs.check_files({"plan": plan, "trace": file}, outputs))
        written = [str(path) for path in (out, latencies, plot) if path is not None]
        if stream:
            streamed = faults.take(lambda: inputs.load_plan(plan, latency))
            source = faults.take(lambda: shipped_path("traces", file))
            if source:
                faults.take(lambda: traces.check_beginning(source.value))
            faults.check()
            with session.progress() as progress:
                totals = mp.replay_stream(
                    streamed.value,
                    source.value,
                    dispatch=dispatch,
                    discipline=discipline,
                    stagger_s=stagger_s.value,
                    window_s=collecting_s.value,
                    engine=engine,
                    noise=drawn.value,
                    seed=seed,
                    progress=progress,
                )
            summed = reporting.stream_report(
                streamed.value, str(plan), source.value, totals, written, dispatch=dispatch
            )
            session.show(summed, reporting.show_stream, out)
            codes = {StreamEnd.OVERLOADED: EXIT_NOT_MET, StreamEnd.INTERRUPTED: EXIT_INTERRUPTED}
            session.exit_code = codes.get(totals.end, EXIT_DONE)
            return
        window_s = faults.take(lambda: inputs.optional_seconds("--windows", windows))
        faults.take(lambda: None if window_s.value is None else check_window(window_s.value, "--windows"))
        loaded = faults.take(lambda: inputs.load_plan(plan, latency))
        read = faults.take(lambda: traces.read_trace(file, traces.seed_of(loaded, seed), **placed))
        faults.check()
        replayed, arrivals = loaded.value, read.value
        length_s = window_s.value
        if length_s is not None:
            check_windows(arrivals.arrival_ns, length_s, "--windows")
        with session.progress() as progress, telling(progress):
            progress(f"replaying {len(arrivals):,} queries")
            result = mp.replay(
                replayed,
                arrivals,
                dispatch=dispatch,
                discipline=discipline,
                stagger_s=stagger_s.value,
                system=system,
                window_s=collecting_s.value,
                engine=engine,
                noise=drawn.value,
                seed=seed,
            )
            over_time = None if length_s is None else result.windows(length_s, replayed.slo_s)
            progress("computing quantiles and their intervals")
            report = reporting.replay_command_report(
                replayed, str(plan), arrivals, result, over_time, written, dispatch=dispatch
            )
            session.save(lambda file: reporting.write_latencies(file, result), latencies, progress)
            about = replayed.slo_s, replayed.quantile, length_s
            title, zero_ns = arrivals.name, arrivals.zero_ns
            session.draw(
                lambda: plots.draw_replay(result, *about, title=title, zero_ns=zero_ns), plot, progress
            )
        session.show(report, reporting.show_replay, out)


@traces.placing
def compare(
    context: typer.Context,
    pipeline: flags.PipelineFile,
    trace: flags.TraceFiles,
    slo: flags.Slo = None,
    profiles: flags.ProfilesDir = None,
    quantile: flags.Quantile = None,
    per: flags.Per = None,
    share: flags.Share = None,
    split: Annotated[
        float, flags.option("SHARE", "Plan on this share of the trace's time, judge on the rest too.")
    ] = 0.5,
    planners: flags.Planners = None,
    discipline: Annotated[
        str | None,
        typer.Option(
            help="Judge everybody under this: oldest_first, or fifo; by default as the pipeline says."
        ),
    ] = None,
    dispatch: flags.Dispatch = None,
    stagger: flags.Stagger = None,
    window: flags.Window = None,
    accuracy: Annotated[
        str | None, flags.option("SHARE", "Least accuracy of plans that choose variants, such as 0.6.")
    ] = None,
    energy: Annotated[
        bool, typer.Option("--energy", help="Tell what the replays took of energy (idle_w, tdp_w, …).")
    ] = False,
    time_limit: Annotated[str, flags.option("TIME", "Stop each search after this long.")] = "60s",
    seed: flags.Seed = 0,
    draws: flags.Draws = 1,
    plot: Annotated[Path | None, flags.picture("costs and latencies as bars")] = None,
    latency: flags.Latency = None,
    json: flags.Json = False,
    **placed: Any,
) -> None:
    """Compare planners: plan on the first part of a trace, judge on that and on the rest."""
    with Session(context, json) as session:
        from mipplan.comparison import Contender, check_rules
        from mipplan.pipeline import check_collecting

        faults = Faults()
        limits = faults.take(lambda: inputs.slo_of(slo))
        per_s = faults.take(lambda: inputs.optional_seconds("--per", per))
        time_limit_s = faults.take(lambda: inputs.optional_seconds("--time-limit", time_limit))
        asked = faults.take(lambda: inputs.read_pipeline(pipeline))
        measured = faults.take(
            lambda: inputs.read_profiles(profiles, latency, asked.value if asked else None)
        )
        arrivals = faults.take(lambda: traces.read_traces(trace, seed, **placed))
        faults.take(lambda: question.check_one_quantile(quantile, slo))
        names = list(Contender) if planners is None else inputs.names_in(planners)
        faults.take(
            lambda: check_rules(split, discipline, names, seed, None, time_limit_s.or_else(None), draws)
        )
        faults.take(lambda: inputs.check_dispatch(dispatch))
        stagger_s = faults.take(lambda: inputs.stagger_of(stagger))
        window_s = faults.take(lambda: inputs.window_of(window))
        if asked and window_s and not faults:
            laws = asked.value.laws(dispatch)
            faults.take(lambda: check_collecting(window_s.value, laws, "--window"))
        least = faults.take(lambda: question.least_accuracy(accuracy))
        faults.take(lambda: inputs.check_out("--plot", plot))
        if asked and limits and per_s:
            faults.take(lambda: inputs.asked_of(asked.value, limits.value, per_s.value, share))
        faults.check()
        stated, slo_s = inputs.asked_of(asked.value, limits.value, per_s.value, share)
        with session.progress(whole=False) as progress:
            comparison = mp.compare(
                stated.staggered(stagger_s.value).collecting(window_s.value),
                measured.value,
                arrivals.value,
                slo_s=slo_s,
                quantile=quantile,
                split=split,
                discipline=discipline,
                dispatch=dispatch,
                accuracy=least.value,
                energy=mp.EnergyTerms() if energy else None,
                planners=names,
                seed=seed,
                draws=draws,
                time_limit_s=time_limit_s.value,
                progress=progress,
            )
            written = [] if plot is None else [str(plot)]
            report = reporting.comparison_report(asked.value, comparison, written)
            session.draw(lambda: plots.draw_comparison(report), plot, progress)
        session.show(report, reporting.show_comparison)
        session.exit_code = EXIT_INTERRUPTED if comparison.left_out else EXIT_DONE


@traces.placing
def fragility(
    context: typer.Context,
    plan: flags.PlanFile,
    trace: flags.TraceFiles,
    discipline: flags.PlanDiscipline = None,
    engine: flags.Engine = "auto",
    seed: flags.PlanSeed = None,
    out: flags.Document = None,
    plot: Annotated[Path | None, flags.picture("the latency quantile along every axis")] = None,
    latency: flags.PlanLatency = None,
    json: flags.Json = False,
    **placed: Any,
) -> None:
    """Say what breaks a plan first: more traffic, burstier traffic, slower service, a lost replica."""
    with Session(context, json) as session:
        from mipplan.replayer import check_manner

        faults = Faults()
        faults.take(lambda: check_manner(discipline, engine, seed))
        outputs = {"--out": out, "--plot": plot}
        faults.take(lambda: inputs.check_files({"plan": plan, **traces.by_place(trace)}, outputs))
        loaded = faults.take(lambda: inputs.load_plan(plan, latency))
        read = faults.take(lambda: traces.read_traces(trace, traces.seed_of(loaded, seed), **placed))
        faults.check()
        with session.progress() as progress:
            measured = mp.fragility(
                loaded.value, read.value, discipline=discipline, engine=engine, seed=seed, progress=progress
            )
            written = [str(path) for path in (out, plot) if path is not None]
            report = reporting.fragility_report(measured, str(plan), written)
            session.draw(lambda: plots.draw_fragility(measured), plot, progress)
        session.show(report, reporting.show_fragility, out)
        if measured.left_out:
            session.exit_code = EXIT_INTERRUPTED
        elif not measured.keeps:
            session.exit_code = EXIT_NOT_MET


@traces.placing
def verify(
    context: typer.Context,
    plan: flags.PlanFile,
    trace: flags.TraceFiles,
    seed: flags.ArrivalSeed = None,
    dispatch: flags.Dispatch = None,
    discipline: flags.PlanDiscipline = None,
    stagger: flags.Stagger = None,
    window: flags.Window = None,
    certificate: flags.PlanCertificate = None,
    runs: flags.PlanRuns = None,
    latency: flags.PlanLatency = None,
    json: flags.Json = False,
    **placed: Any,
) -> None:
    """Re-check a plan file on a trace without a solver; exit code 1 if it does not hold."""
    with Session(context, json) as session:
        from mipplan.certificate import check_certificate
        from mipplan.core import telling
        from mipplan.replayer import check_manner
        from mipplan.result import read_document

        faults = Faults()
        document = faults.take(lambda: read_document(plan))
        served = faults.take(lambda: None if latency is None else inputs.latency_of(latency))
        faults.take(lambda: inputs.check_dispatch(dispatch))
        faults.take(lambda: check_manner(discipline, "auto", seed))
        stagger_s = faults.take(lambda: inputs.stagger_of(stagger))
        window_s = faults.take(lambda: inputs.window_of(window))
        faults.take(lambda: None if certificate is None else check_certificate(certificate))
        covered = faults.take(lambda: None if runs is None else inputs.run_class(runs))
        arrivals = faults.take(lambda: traces.read_traces(trace, traces.seed_of(document, seed), **placed))
        faults.check()
        with session.progress() as progress, telling(progress):
            progress("recomputing the certificate")
            verification = mp.verify(
                document.value,
                arrivals.value,
                dispatch=dispatch,
                discipline=discipline,
                stagger_s=stagger_s.value,
                window_s=window_s.value,
                certificate=certificate,
                runs=covered.value,
                latency=served.value,
            )
        report = reporting.verify_report(verification, str(plan), arrivals.value)
        session.show(report, reporting.show_verification)
        session.exit_code = EXIT_DONE if verification.verified else EXIT_NOT_MET
