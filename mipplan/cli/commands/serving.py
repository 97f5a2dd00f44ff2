"""The commands that run a plan: serve it, and write it down for a serving system."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

import mipplan as mp
from mipplan import reporting
from mipplan.cli import config, flags, inputs, traces
from mipplan.cli.session import Session
from mipplan.core import Fault, Faults, InputError, counted, format_duration
from mipplan.documents import real_path


@traces.placing
def serve(
    context: typer.Context,
    plan: flags.PlanFile,
    emulate: Annotated[
        bool,
        typer.Option(
            "--emulate", help="Emulate all devices: a batch takes as long as the plan's table says."
        ),
    ] = False,
    endpoint: Annotated[
        list[str] | None,
        flags.option(
            "STAGE=URL",
            "Instead: a replica of a stage, as http://HOST:PORT/v2/models/NAME; repeat for all replicas of all stages.",
        ),
    ] = None,
    address: Annotated[
        str, flags.option("ADDRESS", "Listen here; by default for this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 for any that is free.")] = 8000,
    start_delay: Annotated[
        str,
        flags.option("TIME", "With --emulate: how long a replica takes to start that `POST /scale` adds."),
    ] = "0s",
    log: Annotated[
        Path | None,
        flags.option(
            "FILE", "Log what each stage does: to a .parquet file at the end, or to a folder as it goes."
        ),
    ] = None,
    allowance: Annotated[
        str, flags.option("TIME", "What the dispatcher itself may take on top of the table, for every batch.")
    ] = "2ms",
    trace: Annotated[
        str | None,
        typer.Option(
            help="Say what is guaranteed on this trace, with the allowance, and count what is later.",
            metavar="FILE",
        ),
    ] = None,
    most_waiting: Annotated[
        int | None, flags.option("N", "Turn queries away while more tokens than this wait at some stage.")
    ] = None,
    most_in_flight: Annotated[
        int | None, flags.option("N", "Turn queries away beyond so many in flight.")
    ] = None,
    seed: flags.ArrivalSeed = None,
    time_limit: Annotated[
        str | None, flags.option("TIME", "Stop by itself after this long, such as 60s.", "--for")
    ] = None,
    **placed: Any,
) -> None:
    """Serve a plan over HTTP, by the law that its guarantee rests on, until Ctrl-C."""
    with Session(context, as_json=False) as session:
        from mipplan.core import check_time_limit
        from mipplan.serving import AdmissionParams, EndpointWorker, ServeParams, check_log, with_allowance

        faults = Faults()
        faults.take(_check_packages)
        given = faults.take(lambda: mp.Plan.load(plan).require())
        allowance_s = faults.take(lambda: inputs.seconds_of("--allowance", allowance))
        limit_s = faults.take(lambda: inputs.optional_seconds("--for", time_limit))
        if limit_s:
            faults.take(lambda: check_time_limit(limit_s.value))
        start_s = faults.take(lambda: inputs.seconds_of("--start-delay", start_delay))
        urls = faults.take(lambda: _endpoints(endpoint or (), given.value if given else None))
        if emulate == bool(endpoint):
            faults.add(Fault("--emulate", "give this, or --endpoint for every replica of every stage"))
        elif urls and not emulate:
            faults.take(lambda: EndpointWorker(urls.value))
            faults.take(lambda: config.check_given(context, {"start_delay": "goes with --emulate"}))
        if given and allowance_s:
            faults.take(lambda: with_allowance(given.value, allowance_s.value))
        for name, most in (("--most-waiting", most_waiting), ("--most-in-flight", most_in_flight)):
            if most is not None and most < 0:
                faults.add(Fault(name, f"expected a number of at least 0, found {most}"))
        if not 0 <= port < 65536:
            faults.add(Fault("--port", f"expected 0 to 65535, found {port}"))
        if log is not None:
            faults.take(lambda: check_log(log))
        faults.take(lambda: inputs.check_apart({"plan": plan, "trace": trace}, {"--log": log}))
        drawn = traces.seed_of(given, seed)
        arrivals = faults.take(lambda: traces.read_if_given(context, "--trace", trace, drawn, **placed))
        faults.check()
        served = given.value
        promised = with_allowance(served, allowance_s.value)
        bound_ns, longest_ns = (
            (None, None) if arrivals.value is None else _bounds_ns(promised, arrivals.value)
        )
        bound_ns = bound_ns if served.envelope is None else longest_ns  # inside a curve every query counts
        session.say(*_introduction(served, arrivals.value, bound_ns, allowance_s.value))
        params = ServeParams(
            address,
            port,
            allowance_s.value,
            start_s=start_s.value,
            certificate_ns=longest_ns,
            admission=AdmissionParams(most_in_flight, most_waiting),
        )
        worker = None if emulate else EndpointWorker(urls.value)
        summary = mp.serving.serve(
            served,
            worker,
            log=log,
            time_limit_s=limit_s.value,
            started=lambda url: session.say(*_where(url, served, emulate)),
            params=params,
        )
        session.say(str(summary))
        if summary.unwritten is not None:
            raise InputError.one(f"--log {log}", f"was not written: {summary.unwritten}")
        if log is not None:
            session.say(f"wrote {log}")


def _endpoints(given: Sequence[str], plan: mp.Plan | None) -> dict[str, list[str]]:
    """Read ``STAGE=URL``; there must be one for every replica, and may be more for those that are added later."""
    urls: dict[str, list[str]] = {}
    faults = Faults()
    for text in given:
        stage, _, url = text.partition("=")
        if not url or (plan is not None and stage not in plan.choices):
            faults.add(Fault("--endpoint", f"expected STAGE=URL with a stage of the plan, found {text!r}"))
        urls.setdefault(stage, []).append(url)
    for stage, choice in (plan.choices if plan is not None and given else {}).items():
        if (found := len(urls.get(stage, ()))) < choice.replicas:
            faults.add(
                Fault("--endpoint", f"{stage} has {counted(choice.replicas, 'replica')}, found {found}")
            )
    faults.check()
    return urls


def _check_packages() -> None:
    try:
        import aiohttp  # noqa: F401 -- asked for before anything starts, used in the server
        import prometheus_client  # noqa: F401
    except ImportError as error:
        raise InputError.one("serve", f"needs {error.name}: pip install 'mipplan[serve]'") from None


def _introduction(
    plan: mp.Plan, trace: mp.Trace | None, bound_ns: int | None, allowance_s: float
) -> list[str]:
    """Say what is served, by which law, and what is guaranteed."""
    from mipplan.pipeline import Discipline, duties_text

    lines = [str(plan), ""]
    # The plan's own text says its law where it is another.
    if plan.dispatch == "eager" and plan.discipline is Discipline.OLDEST_FIRST and not plan.collects:
        lines.append(f"law          eager, oldest first; {duties_text(plan.laws)}")
    allowed = format_duration(round(allowance_s * 1e9))
    if allowance_s:
        lines.append(
            f"table        a batch of k may take ℓ(k) + {allowed}, the allowance for the dispatcher itself"
        )
    if trace is not None and bound_ns is not None:
        kept = "kept" if bound_ns <= plan.slo_ns else "NOT kept"
        lines.append(
            f"guarantee    {plan.objective.name} ≤ {format_duration(bound_ns)} on {trace.name} with the allowance: "
            f"the objective of {format_duration(plan.slo_ns)} is {kept}"
        )
    elif plan.certificate_ns is not None and allowance_s:
        lines.append(
            f"guarantee    the certificate of {format_duration(plan.certificate_ns)} is without the allowance; "
            "--trace FILE says what holds with it"
        )
    elif plan.certificate_ns is None:
        lines.append("guarantee    none was asked for: these are given choices; --trace FILE says what holds")
    return [*lines, ""]


def _bounds_ns(promised: mp.Plan, trace: mp.Trace) -> tuple[int, int | None]:
    """What is guaranteed on a trace of the plan's objective, by the certificate or of timed pipelines the replay.

    And of any query, to watch: the quantile is exceeded by right. Of timed pipelines nothing is watched.
    """
    if promised.dispatch == "timed":
        return mp.replay(promised, trace).objective_ns(promised.objective), None
    certificate = mp.certify(promised, trace)
    return certificate.bound_ns, int(certificate.latency_ns.max())


def _where(url: str, plan: mp.Plan, emulated: bool) -> Iterator[str]:
    """Say where queries are taken."""
    devices = "emulated devices" if emulated else "the endpoints given"
    name = urllib.parse.quote(plan.pipeline.name, safe="")
    yield f"serving on {devices}: POST {url}/v2/models/{name}/infer"
    yield f"also {url}/metrics, {url}/v2/health/ready, POST {url}/scale; Ctrl-C drains and stops"


def export(
    context: typer.Context,
    plan: flags.PlanFile,
    to: Annotated[str, typer.Option(help="Serving system: triton, ray, mosec, kserve or keda.")],
    out: Annotated[
        Path, flags.option("DIR", "Folder to write; it is empty or not there yet.", "--out", "-o")
    ],
    emulate: Annotated[
        bool, typer.Option("--emulate", help="With models that only sleep, as long as the plan's tables say.")
    ] = False,
    cpu: Annotated[
        list[str] | None,
        flags.option(
            "NAME", "A hardware type that is no GPU, besides those called cpu…; repeat for several."
        ),
    ] = None,
    allowance: Annotated[
        str,
        flags.option("TIME", "With --to ray: what a batch may take beyond its table, for Ray's own time."),
    ] = "0s",
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Replace an earlier export, with all that was changed; models are kept.",
        ),
    ] = False,
    json: flags.Json = False,
) -> None:
    """Write files that deploy a plan, and say what the serving system does not keep of it."""
    with Session(context, json) as session:
        from mipplan.exporters import check_directory, check_exportable, check_target

        faults = Faults()
        loaded = faults.take(lambda: mp.Plan.load(plan))
        faults.take(lambda: check_target(to))
        allowed = faults.take(lambda: inputs.seconds_of("--allowance", allowance))
        allowance_s = allowed.value if allowed else 0.0
        given: dict[str, Any] = {"to": to, "emulate": emulate, "cpu": cpu or (), "allowance_s": allowance_s}
        if loaded:
            faults.take(lambda: check_exportable(loaded.value, **given))
        faults.take(lambda: check_directory(out, force=force))
        faults.take(lambda: _check_apart(plan, out))
        faults.check()
        written = mp.export(loaded.value, directory=out, force=force, **given)
        session.show(reporting.export_report(str(plan), written), reporting.show_export)


def _check_apart(plan: Path, out: Path) -> None:
    """Refuse to replace the folder that the plan is read from; raises `InputError`.

    An earlier export holds one, and whoever exports that into its own folder would lose what was changed there.
    """
    if real_path(out) in real_path(plan).parents:
        raise InputError.one(f"--out {out}", "holds the plan that is read; name another folder")
