"""The commands about a running system: send it a trace, read its logs, and hold them against a plan's prediction."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

import mipplan as mp
from mipplan import reporting
from mipplan.cli import flags, inputs, traces
from mipplan.cli.session import EXIT_INTERRUPTED, EXIT_NOT_MET, Session
from mipplan.core import Fault, Faults, InputError

#: In every address of the Open Inference Protocol.
_OIP = "/v2/"

Logs = Annotated[
    list[str],
    typer.Argument(
        metavar="LOG…",
        help="Logs of one run: Parquet files, folders of them, or trace files of Triton (.json).",
        show_default=False,
    ),
]
Shift = Annotated[
    list[str] | None,
    flags.option(
        "HOST=TIME", "Add to all stage times logged on a host whose clock is off, such as gpu1=-12ms."
    ),
]


def observe(
    context: typer.Context,
    logs: Logs,
    out: Annotated[
        Path, flags.option("DIR", "New folder for profiles, hops and the arrival trace.", "--out", "-o")
    ],
    plan: Annotated[
        Path | None, flags.option("PLAN", "The plan that was served: models, hardware, edges and prices.")
    ] = None,
    hardware: Annotated[
        str | None, flags.option("NAME", "Without a plan: the hardware type that all of it ran on.")
    ] = None,
    usd_per_hour: Annotated[
        float | None, flags.option("USD", "With --hardware: price of one device.")
    ] = None,
    latency: Annotated[str, typer.Option(help="What latency_ms holds: p99 or p50.")] = "p99",
    shift: Shift = None,
    json: flags.Json = False,
) -> None:
    """Read service times by batch size, hops and arrivals off the logs of a running system."""
    with Session(context, json) as session:
        from mipplan.observing import check_observe

        faults = Faults()
        shifts = faults.take(lambda: traces.shifts_of(shift or ()))
        faults.take(lambda: traces.log_files(logs))
        loaded = faults.take(lambda: None if plan is None else mp.Plan.load(plan))
        about: dict[str, Any] = {"hardware": hardware, "usd_per_hour": usd_per_hour, "latency": latency}
        faults.take(lambda: check_observe(out, plan is not None, **about))
        faults.check()
        with session.progress() as progress:
            found = mp.observe(
                *logs, out=out, plan=loaded.value, shift_ns=shifts.value, progress=progress, **about
            )
        session.show(reporting.observe_report(found), reporting.show_observation)


def truth(
    context: typer.Context,
    plan: flags.PlanFile,
    logs: Logs,
    slo: Annotated[
        str | None, flags.option("TIME", "Latency objective for the miss rate; the plan's by default.")
    ] = None,
    dispatch: flags.Dispatch = None,
    discipline: flags.PlanDiscipline = None,
    stagger: flags.Stagger = None,
    system: flags.System = None,
    engine: flags.Engine = "auto",
    seed: Annotated[int | None, typer.Option(help="Seed of the token draws; the plan's by default.")] = None,
    noise: flags.Noise = None,
    shift: Shift = None,
    out: flags.Document = None,
    json: flags.Json = False,
) -> None:
    """Compare what a plan predicts for the arrivals in a log with what was measured, and say which term is off."""
    with Session(context, json) as session:
        from mipplan.core import check_slo
        from mipplan.replayer import check_manner

        faults = Faults()
        shifts = faults.take(lambda: traces.shifts_of(shift or ()))
        slo_s = faults.take(lambda: inputs.optional_seconds("--slo", slo))
        faults.take(lambda: check_slo(slo_s.value) if slo_s and slo_s.value is not None else None)
        faults.take(lambda: check_manner(discipline, engine, seed))
        faults.take(lambda: inputs.check_dispatch(dispatch))
        stagger_s = faults.take(lambda: inputs.stagger_of(stagger))
        faults.take(lambda: inputs.check_system(system))
        faults.take(lambda: inputs.check_files({"plan": plan, **traces.log_files(logs)}, {"--out": out}))
        drawn = faults.take(lambda: inputs.noise_of(noise))
        loaded = faults.take(lambda: mp.Plan.load(plan))
        faults.check()
        with session.progress() as progress:
            found = mp.truth(
                loaded.value,
                *logs,
                slo_s=slo_s.value,
                dispatch=dispatch,
                discipline=discipline,
                stagger_s=stagger_s.value,
                system=system,
                engine=engine,
                seed=seed,
                noise=drawn.value,
                shift_ns=shifts.value,
                progress=progress,
            )
        session.show(reporting.truth_report(found, str(plan), list(logs)), reporting.show_truth, out)
        if not found.agrees:
            session.exit_code = EXIT_NOT_MET


@traces.placing
def drive(
    context: typer.Context,
    trace: Annotated[
        str,
        typer.Argument(metavar="TRACE", help="Arrivals (CSV or Parquet), or the name of a shipped trace."),
    ],
    target: Annotated[
        str, flags.option("URL", "http://HOST:PORT, http://HOST:PORT/v2/models/NAME, or any other HTTP URL.")
    ],
    out: Annotated[
        Path, flags.option("FILE", "Write the log of the queries here (.parquet).", "--out", "-o")
    ],
    model: Annotated[
        str | None, flags.option("NAME", "Model of a server that speaks the Open Inference Protocol.")
    ] = None,
    scale: Annotated[str, flags.option("FACTOR", "Multiple of the trace's rate, such as 2x.")] = "1x",
    time_limit: Annotated[
        str | None, flags.option("TIME", "Stop sending after this long, such as 60s.")
    ] = None,
    timeout: Annotated[str, flags.option("TIME", "Longest time to wait for an answer.")] = "30s",
    method: Annotated[
        str | None, typer.Option(help="For other URLs: GET, POST or PUT; POST if there is a body.")
    ] = None,
    body: Annotated[
        str | None,
        flags.option("TEXT", "For other URLs: the body; {query} in it is the number of the query."),
    ] = None,
    headers: Annotated[
        list[str] | None,
        flags.option("NAME=VALUE", "Header of every request; repeat for several.", "--header"),
    ] = None,
    made_of: Annotated[
        str | None, flags.option("FILE", "Inputs of the model: an .npz file, or module:function.", "--inputs")
    ] = None,
    axes: Annotated[
        list[str] | None,
        flags.option("NAME=SIZE", "Size of a free axis of its inputs; repeat for several.", "--axis"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of --expand and --spread.")] = 0,
    json: flags.Json = False,
    **placed: Any,
) -> None:
    """Send a trace to a server at its time stamps, never waiting for answers, and log every query."""
    with Session(context, json) as session:
        from mipplan.driving import TargetRequest, check_drive

        faults = Faults()
        factor = faults.take(lambda: traces.factor_of(scale))
        time_limit_s = faults.take(lambda: inputs.optional_seconds("--time-limit", time_limit))
        timeout_s = faults.take(lambda: inputs.seconds_of("--timeout", timeout))
        given = faults.take(lambda: inputs.pairs_of("--header", "NAME=VALUE", headers or ()))
        sizes = faults.take(lambda: inputs.axis_sizes(axes or ()))
        faults.take(lambda: inputs.check_out("--out", out, (".parquet", ".pq")))
        request: dict[str, Any] = {"model": model, "method": method, "body": body, "inputs": made_of}
        request |= {"headers": given.or_else({}), "axes": sizes.or_else({})}
        how = factor.or_else(1.0), time_limit_s.or_else(None), timeout_s.or_else(1.0)
        faults.take(lambda: check_drive(TargetRequest(target, **request), *how, None))
        faults.take(lambda: inputs.check_apart({"trace": trace, "inputs": made_of}, {"--out": out}))
        arrivals = faults.take(lambda: traces.read_trace(trace, seed, **placed))
        faults.check()
        _allow_many_connections()
        with session.progress(as_log=True) as progress, _of_server(target):
            driven = mp.drive(
                arrivals.value,
                target,
                scale=factor.value,
                time_limit_s=time_limit_s.value,
                timeout_s=timeout_s.value,
                out=out,
                progress=progress,
                **request,
            )
        lost = [] if driven.unwritten is None else [f"was not written: {driven.unwritten}"]
        session.save(lambda _: InputError.raise_if(Fault(f"--out {out}", why) for why in lost), out)
        session.show(reporting.drive_report(driven, [str(out)]), reporting.show_drive)
        if driven.interrupted:
            session.exit_code = EXIT_INTERRUPTED
        elif driven.spoilt or not driven.latency_ns.size:
            session.exit_code = EXIT_NOT_MET


@contextlib.contextmanager
def _of_server(url: str) -> Iterator[None]:
    """Say of which server the addresses are that faults name by their paths alone."""
    try:
        yield
    except InputError as error:
        server = urlsplit(url)._replace(path="", query="", fragment="").geturl()
        faults = [
            Fault(f"{server}{fault.place}", fault.message) if _OIP in f"{fault.place}/" else fault
            for fault in error.faults
        ]
        raise InputError(faults) from None


def _allow_many_connections() -> None:
    """Let the process have as many files open as it may: a slow server leaves thousands of connections waiting."""
    try:
        import resource
    except ImportError:  # not a POSIX system
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # The shell's limit then stays, and errors are counted.
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
