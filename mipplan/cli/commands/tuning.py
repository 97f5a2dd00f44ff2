"""The command that lets replicas follow traffic, under several policies, beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import mipplan as mp
from mipplan import plots, reporting
from mipplan.cli import flags, inputs, traces
from mipplan.cli.session import EXIT_DONE, EXIT_INTERRUPTED, Session
from mipplan.core import Fault, Faults


@traces.placing
def tune(
    context: typer.Context,
    plan: flags.PlanFile,
    trace: flags.TraceFile,
    policy: flags.Policy = "newsvendor, lp, inferline, hpa, ray, static",
    worth: flags.Worth = None,
    sample: Annotated[
        str | None,
        flags.option("FILE", "The trace planned for; by default the first part of --trace stands for it."),
    ] = None,
    split: Annotated[
        float | None, flags.option("SHARE", "That part, as a share of the trace's time; 0.2 by default.")
    ] = None,
    period: Annotated[str, flags.option("TIME", "Time between two instants of control.")] = "1s",
    activation_delay: Annotated[
        str, flags.option("TIME", "Time from ordering a replica to its first batch.")
    ] = "5s",
    discipline: flags.PlanDiscipline = None,
    engine: flags.Engine = "auto",
    seed: flags.PlanSeed = None,
    out: flags.Document = None,
    schedule: Annotated[
        Path | None, flags.option("FILE", "Write the counts that each policy ordered here (.csv).")
    ] = None,
    page: flags.Page = None,
    plot: Annotated[Path | None, flags.picture("rate, replicas, latencies and misses over time")] = None,
    latency: flags.PlanLatency = None,
    json: flags.Json = False,
    **placed: Any,
) -> None:
    """Let replicas follow a trace under several policies, replay each exactly, and compare misses and cost."""
    with Session(context, json) as session:
        from mipplan.replayer import check_manner
        from mipplan.tuner import check_delay, check_period, read_policies

        faults = Faults()
        file = traces.single(faults, trace)
        names = inputs.names_in(policy)
        faults.take(lambda: check_manner(discipline, engine, seed))
        policies = faults.take(lambda: read_policies(names, worth_usd=worth))
        if sample is not None and split is not None:
            faults.add(Fault("--split", "does not go with --sample: then the whole trace is run"))
        period_s = faults.take(lambda: inputs.seconds_of("--period", period))
        delay_s = faults.take(lambda: inputs.seconds_of("--activation-delay", activation_delay))
        outputs = {"--out": out, "--schedule": schedule, "--plot": plot, "--report": page}
        faults.take(lambda: inputs.check_files({"plan": plan, "trace": file, "sample": sample}, outputs))
        if period_s:
            faults.take(lambda: check_period(period_s.value))
        if delay_s:
            faults.take(lambda: check_delay(delay_s.value))
        loaded = faults.take(lambda: inputs.load_plan(plan, latency))
        drawn = traces.seed_of(loaded, seed)  # the sample, too: it is what the plan was made for
        files = [file] if sample is None else [file, sample]

        def made(one: str, **how: str | None) -> mp.Trace:
            return traces.read_trace(one, drawn, **how | traces.expansion_of(one, files, placed["expand"]))

        told = faults.take(lambda: None if sample is None else made(sample, spread=placed["spread"]))
        read = faults.take(lambda: made(file, **placed))
        faults.check()
        tuned, arrivals = loaded.value, read.value
        with session.progress() as progress:
            tuning = mp.tune(
                tuned,
                arrivals,
                policies=policies.value,
                sample=told.value,
                **({} if split is None else {"split": split}),
                period_s=period_s.value,
                activation_delay_s=delay_s.value,
                discipline=discipline,
                engine=engine,
                seed=seed,
                progress=progress,
            )
            written = [str(path) for path in (out, schedule, plot, page) if path is not None]
            report = reporting.tune_report(tuning, str(plan), written)
            session.save(lambda file: reporting.write_schedule(file, tuning), schedule, progress)
            title = f"{tuned.pipeline.name} on {arrivals.name}"
            session.draw(lambda: plots.draw_tuning(tuning, title=title), plot, progress)
            session.save(lambda file: mp.report(tuning).save(file), page, progress)
        session.show(report, reporting.show_tuning, out)
        session.exit_code = EXIT_INTERRUPTED if tuning.is_partial else EXIT_DONE
