"""The commands that read logs of a running system: into profiles and traces, and against a plan's prediction."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

import mipplan as mp
from mipplan import reporting
from mipplan.cli import flags, inputs
from mipplan.cli.session import EXIT_NOT_MET, Session
from mipplan.core import NS_PER_S, Faults, InputError

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
        faults = Faults()
        shifts = faults.take(lambda: _shifts(shift or ()))
        loaded = faults.take(lambda: None if plan is None else mp.Plan.load(plan))
        faults.check()
        with session.progress() as progress:
            found = mp.observe(
                *logs,
                out=out,
                plan=loaded.value,
                hardware=hardware,
                usd_per_hour=usd_per_hour,
                latency=latency,
                shift_ns=shifts.value,
                progress=progress,
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
    seed: flags.PlanSeed = None,
    shift: Shift = None,
    out: flags.Document = None,
    json: flags.Json = False,
) -> None:
    """Compare what a plan predicts for the arrivals in a log with what was measured, and say which term is off."""
    with Session(context, json) as session:
        faults = Faults()
        shifts = faults.take(lambda: _shifts(shift or ()))
        slo_s = faults.take(lambda: inputs.optional_seconds("--slo", slo))
        faults.take(lambda: inputs.check_dispatch(dispatch))
        stagger_s = faults.take(lambda: inputs.stagger_of(stagger))
        faults.take(lambda: inputs.check_system(system))
        faults.take(lambda: inputs.check_out("--out", out))
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
                shift_ns=shifts.value,
                progress=progress,
            )
        session.show(reporting.truth_report(found, str(plan), list(logs)), reporting.show_truth, out)
        if not found.agrees:
            session.exit_code = EXIT_NOT_MET


def _shifts(given: Iterable[str]) -> dict[str, int]:
    """Read HOST=TIME pairs; a time may be negative here."""
    shifts: dict[str, int] = {}
    for host, text in inputs.pairs_of("--shift", "HOST=TIME such as gpu1=-12ms", given).items():
        sign = -1 if text.startswith("-") else 1
        try:
            shifts[host] = sign * round(inputs.seconds_of("--shift", text.removeprefix("-")) * NS_PER_S)
        except InputError as error:
            raise InputError.one(f"--shift {host}", error.faults[0].message) from None
    return shifts
