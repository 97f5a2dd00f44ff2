"""The commands that keep a plan right over time: by the clock, by the traffic, and by looking whether it still fits."""

from __future__ import annotations

import shlex
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

import mipplan as mp
from mipplan import reporting
from mipplan.cli import config, flags, inputs, traces
from mipplan.cli.session import EXIT_NOT_MET, Session
from mipplan.core import Fault, Faults, InputError

#: How a sample is read, by the options that `mipplan plan` has for it.
_sampled = flags.options_of(traces.reading, last=True, beside="--sample")
_SAMPLE = "The trace planned for: how traffic bursts. A plan file does not hold it."
Sample = Annotated[str | None, flags.option("FILE", _SAMPLE)]
Names = Annotated[
    list[str] | None,
    flags.option(
        "STAGE=NAME", "What a stage is called there, if not as `mipplan export` has it; repeat.", "--name"
    ),
]
Metrics = Annotated[
    list[str] | None,
    flags.option("URL", "Metrics in Prometheus' text format; repeat for several.", "--metrics"),
]


def schedule(
    context: typer.Context,
    plan: flags.PlanFile,
    counts: Annotated[
        str,
        flags.option(
            "FILE",
            "Expected traffic (CSV or Parquet): requests_per_hour, requests_per_min or requests_per_s, one row an "
            "interval; or arrivals, which are counted.",
        ),
    ],
    sample: Annotated[
        str | None, flags.option("FILE", f"{_SAMPLE} Not needed if the plan has an arrival curve.")
    ] = None,
    bin_length: Annotated[str, flags.option("TIME", "Length of a bin.", "--bin")] = "1h",
    keep: Annotated[
        str | None,
        typer.Option(
            help="What each bin keeps: sample (the plan's waits) or objective (every query's latency)."
        ),
    ] = None,
    factor: Annotated[
        float, flags.option("FACTOR", "Multiple of the counts, such as 1.2.", "--headroom")
    ] = 1.0,
    activation_delay: Annotated[
        str, flags.option("TIME", "Time from ordering a replica to its first batch.")
    ] = "5s",
    switch: Annotated[float, flags.option("USD", "What a start counts beside the rent.")] = 0.0,
    once: Annotated[
        bool, typer.Option("--once", help="The day does not repeat: the plan's replicas are there before.")
    ] = False,
    to: Annotated[
        str | None,
        typer.Option(help="Write entries of cron, keda (cron scaler) or hpa (minima by CronJobs)."),
    ] = None,
    out: Annotated[Path | None, flags.option("FILE", "Where --to writes them.", "--out", "-o")] = None,
    namespace: Annotated[str, flags.option("NAME", "Of the deployments.")] = "default",
    time_zone: Annotated[str, flags.option("NAME", "In which the first bin begins at midnight.")] = "Etc/UTC",
    seed: flags.ArrivalSeed = None,
    expand: flags.Expand = None,
    spread: flags.Spread = None,
    json: flags.Json = False,
) -> None:
    """Schedule replicas by the hour for expected traffic, at the least rent and starts."""
    with Session(context, json) as session:
        from mipplan.core import check_headroom, check_one_of
        from mipplan.documents import shipped_path
        from mipplan.scheduling import check_bin, check_entries, check_switch, schedule_entries, zone_of
        from mipplan.trace import read_bins
        from mipplan.tuner import Keep, check_delay

        faults = Faults()
        bin_s = faults.take(lambda: inputs.seconds_of("--bin", bin_length))
        delay_s = faults.take(lambda: inputs.seconds_of("--activation-delay", activation_delay))
        faults.take(lambda: check_delay(delay_s.value) if delay_s else None)
        faults.take(lambda: None if keep is None else check_one_of("keep", keep, Keep))
        faults.take(lambda: check_headroom(factor))
        faults.take(lambda: check_switch(switch))
        if out is None and not config.is_typed(context, "to"):
            to = None  # a configuration file says it for runs that write entries
        if (to is None) != (out is None):
            faults.add(Fault("--to", "goes with --out, the file to write"))
        if to is not None:
            faults.take(lambda: check_entries(to, namespace, time_zone))
        read: dict[str, str | Path | None] = {"plan": plan, "file of counts": counts, "sample": sample}
        faults.take(lambda: inputs.check_files(read, {"--out": out}))
        bin_ns = faults.take(lambda: check_bin(bin_s.value, "--bin") if bin_s else None)
        zone = faults.take(lambda: None if once else zone_of(time_zone))
        expected = faults.take(
            lambda: (
                read_bins(shipped_path("traces", counts), bin_ns.value, zone=zone.or_else(None))
                if bin_ns and bin_ns.value
                else None
            )
        )
        loaded = faults.take(lambda: mp.Plan.load(plan))
        traffic = faults.take(
            lambda: traces.read_if_given(
                context, "--sample", sample, traces.seed_of(loaded, seed), expand=expand, spread=spread
            )
        )
        if sample is None and loaded and loaded.value.envelope is None:
            faults.add(Fault("--sample", "is needed: the counts say how much comes, not how it bursts"))
        faults.check()
        if expected.value is None:
            raise InputError.one("--bin", "could not be read")
        made = mp.schedule(
            loaded.value,
            expected.value.count,
            bin_s=bin_s.value,
            sample=traffic.value,
            keep=keep,
            headroom=factor,
            activation_delay_s=delay_s.value,
            switch_usd=switch,
            repeats=not once,
        )
        made = replace(made, notes=(*expected.value.notes[1:], *made.notes))
        written = []
        if to is not None and out is not None:
            from mipplan.documents import write_text_atomically

            text = schedule_entries(made, to, namespace=namespace, time_zone=time_zone)
            session.save(lambda file: write_text_atomically(file, text), out)
            written.append(str(out))
        session.show(reporting.schedule_report(made, str(plan), written), reporting.show_schedule)


@_sampled
def follow(
    context: typer.Context,
    plan: flags.PlanFile,
    target: Annotated[
        str,
        flags.option(
            "KIND:URL",
            "mipplan:URL (mipplan serve), triton:URL, ray:URL (the dashboard) or kserve:URL (the Kubernetes API, as "
            "by kubectl proxy).",
        ),
    ],
    policy: Annotated[
        str, flags.option("NAME", "One of newsvendor, lp, lp-lean, inferline, hpa, ray, ray-tuned, static.")
    ] = "lp",
    worth: flags.Worth = None,
    sample: Sample = None,
    metrics: Metrics = None,
    name: Names = None,
    namespace: Annotated[
        str, flags.option("NAME", "Of Kubernetes; for Ray Serve the application.")
    ] = "default",
    period: Annotated[str, flags.option("TIME", "Time between two decisions.")] = "1s",
    activation_delay: Annotated[
        str, flags.option("TIME", "Time from ordering a replica to its first batch.")
    ] = "5s",
    shadow: Annotated[bool, typer.Option("--shadow", help="Decide and log, and change nothing.")] = False,
    state: Annotated[
        Path | None, flags.option("FILE", "Keep the last decision here, and go on from it if it is there.")
    ] = None,
    audit: Annotated[
        Path | None, flags.option("FILE", "Add a JSON line here for every change, command and failure.")
    ] = None,
    time_limit: Annotated[
        str | None, flags.option("TIME", "Stop by itself after this long.", "--for")
    ] = None,
    seed: flags.ArrivalSeed = None,
    json: flags.Json = False,
    **placed: Any,
) -> None:
    """Let replicas of a running system follow its traffic, by a policy of `mipplan tune`, until Ctrl-C."""
    with Session(context, json) as session:
        from mipplan.core import interrupts_held
        from mipplan.following import check_follow
        from mipplan.tuner import read_policies

        faults = Faults()
        period_s = faults.take(lambda: inputs.seconds_of("--period", period))
        delay_s = faults.take(lambda: inputs.seconds_of("--activation-delay", activation_delay))
        limit_s = faults.take(lambda: inputs.optional_seconds("--for", time_limit))
        names = faults.take(lambda: inputs.pairs_of("--name", "STAGE=NAME", name or ()))
        chosen = faults.take(lambda: read_policies([policy], worth_usd=worth)[0])
        read = {"plan": plan, "sample": sample}
        faults.take(lambda: inputs.check_apart(read, {"--state": state, "--audit": audit}))
        loaded = faults.take(lambda: mp.Plan.load(plan))
        drawn = traces.seed_of(loaded, seed)
        traffic = faults.take(lambda: traces.read_if_given(context, "--sample", sample, drawn, **placed))
        # What cannot be read has been told, and something that is right stands in its place.
        given: dict[str, Any] = {
            "policy": chosen.or_else(read_policies(["static"])[0]),
            "sample": traffic.or_else(mp.Trace.from_seconds([0.0, 1.0])),
            "metrics": metrics or (),
            "names": names.or_else({}),
            "namespace": namespace,
            "period_s": period_s.or_else(1.0),
            "activation_delay_s": delay_s.or_else(1.0),
            "shadow": shadow,
            "state": state,
            "audit": audit,
            "time_limit_s": limit_s.or_else(None),
        }
        if loaded:
            faults.take(lambda: check_follow(loaded.value, target, **given))
        faults.check()
        # A controller in a container is told so to go: what is on its way is waited for, and logged.
        stop = threading.Event()
        earlier = signal.signal(signal.SIGTERM, lambda *_: stop.set())
        try:
            with session.progress(as_log=True) as progress:
                summary = mp.follow(loaded.value, target, stop=stop, progress=progress, **given)
            with interrupts_held():  # another Ctrl-C would cost the summary
                written = [str(path) for path in (state, audit) if path is not None and path.exists()]
                session.show(reporting.follow_report(summary, str(plan), written), reporting.show_follow)
        finally:
            signal.signal(signal.SIGTERM, earlier)


@_sampled
def watch(
    context: typer.Context,
    plan: flags.PlanFile,
    log: Annotated[
        list[str] | None,
        flags.option("LOG", "A log of the run, as for `mipplan observe`; repeat for several.", "--log"),
    ] = None,
    metrics: Metrics = None,
    system: Annotated[str, typer.Option(help="Whose metrics: mipplan, triton or ray.")] = "mipplan",
    name: Names = None,
    duration: Annotated[str, flags.option("TIME", "Look at metrics for so long.", "--for")] = "60s",
    last: Annotated[
        str | None, flags.option("TIME", "Of a log, look only at queries that came so long before its end.")
    ] = None,
    sample: Sample = None,
    cheaper: Annotated[
        str, flags.option("SHARE", "So much cheaper a new plan must be to be worth a word.")
    ] = "10%",
    replan: Annotated[bool, typer.Option(help="Plan for what was seen.")] = True,
    time_limit: Annotated[str, flags.option("TIME", "For that plan.")] = "20s",
    out: Annotated[
        Path | None, flags.option("FILE", "Write the new plan here (JSON).", "--out", "-o")
    ] = None,
    seed: flags.ArrivalSeed = None,
    json: flags.Json = False,
    **placed: Any,
) -> None:
    """Say whether a plan still fits what runs, and what a new one would cost; exit code 1 if it does not."""
    with Session(context, json) as session:
        from mipplan.watching import WatchParams, check_watch

        faults = Faults()
        duration_s = faults.take(lambda: inputs.seconds_of("--for", duration))
        last_s = faults.take(lambda: inputs.optional_seconds("--last", last))
        limit_s = faults.take(lambda: inputs.seconds_of("--time-limit", time_limit))
        names = faults.take(lambda: inputs.pairs_of("--name", "STAGE=NAME", name or ()))
        share = faults.take(lambda: inputs.share_of("--cheaper", cheaper))
        params = faults.take(lambda: WatchParams(cheaper=share.value or 0.0) if share else WatchParams())
        logs = faults.take(lambda: traces.log_files(log or ()))
        read = {"plan": plan, "sample": sample, **(logs.value if logs else {})}
        faults.take(lambda: inputs.check_files(read, {"--out": out}))
        if not replan:
            why = "does not go with --no-replan: there is no new plan"
            of_plans = ("out", "time_limit", "cheaper")
            faults.take(lambda: config.check_given(context, dict.fromkeys(of_plans, why)))
        if log and not metrics:
            of_metrics = ("system", "name", "duration")
            faults.take(lambda: config.check_given(context, dict.fromkeys(of_metrics, "goes with --metrics")))
        if metrics and not log:
            faults.take(lambda: config.check_given(context, {"last": "goes with --log"}))
        loaded = faults.take(lambda: mp.Plan.load(plan))
        drawn = traces.seed_of(loaded, seed)
        traffic = faults.take(lambda: traces.read_if_given(context, "--sample", sample, drawn, **placed))
        faults.take(
            lambda: check_watch(
                log or (),
                metrics or (),
                system=system,
                names=names.or_else({}),
                duration_s=duration_s.or_else(1.0),
                last_s=last_s.or_else(None) if log else None,
                time_limit_s=limit_s.or_else(1.0),
                plan=loaded.value if loaded else None,
            )
        )
        faults.check()
        with session.progress(whole=False) as progress:
            found = mp.watch(
                loaded.value,
                *(log or ()),
                metrics=metrics or (),
                system=system,
                names=names.value,
                duration_s=duration_s.value,
                last_s=last_s.value,
                sample=traffic.value,
                replan=replan,
                time_limit_s=limit_s.value,
                progress=progress,
                params=params.value,
            )
        written, command = [], None
        # A search that was broken off has not found the plan that was asked for: no file is replaced by its best.
        if found.replan is not None and found.replan.choices and not session.was_interrupted:
            if out is not None:
                written += [str(path) for path in (session.save(found.replan.save, out),) if path is not None]
            elif not found.fits:
                idle = () if sample is not None else traces.READING
                given = config.repeated(context, without=("out", "replan", "json", *idle))
                command = shlex.join(["mipplan", "watch", str(plan), *given, "--out", "new-plan.json"])
        report = reporting.watch_report(found, str(plan), command, written)
        session.show(report, reporting.show_watch)
        if not found.fits:
            session.exit_code = EXIT_NOT_MET
        session.answer_in_part()
