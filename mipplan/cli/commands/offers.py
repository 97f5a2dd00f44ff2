"""The commands that offer several plans: the front of cost and accuracy, and a menu of near-optimal ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import mipplan as mp
from mipplan import plots, reporting
from mipplan.cli import flags, inputs
from mipplan.cli.session import EXIT_NO_ANSWER, EXIT_NOT_MET, Session
from mipplan.core import Faults, InputError

_Limit = Annotated[str, flags.option("TIME", "Stop searching after this long, with what was found so far.")]


#: For the greatest accuracy that a budget pays for.
GREATEST = "max"


def accuracy_of(text: str | None, budget: float | None) -> Any:
    """Read a least accuracy, or ``max``, which goes with a budget."""
    from mipplan.pipeline import check_accuracy

    if text == GREATEST and budget is None:
        raise InputError.one("--accuracy", "max goes with --budget: the most accuracy that it pays for")
    if text is None or text == GREATEST:
        return text
    return check_accuracy(inputs.share_of("--accuracy", text), "--accuracy")


def pareto(
    context: typer.Context,
    pipeline: flags.PipelineFile,
    trace: flags.TraceFiles,
    slo: flags.Slo = None,
    profiles: flags.ProfilesDir = None,
    quantile: flags.Quantile = None,
    headroom: flags.Headroom = 1.0,
    by: Annotated[
        str, typer.Option(help="What plans are compared by beside cost: accuracy, energy, or both.")
    ] = "accuracy",
    energy: flags.Energy = False,
    max_power: flags.MaxPower = None,
    usd_per_kwh: flags.UsdPerKwh = None,
    gco2_per_kwh: flags.Gco2PerKwh = None,
    time_limit: _Limit = "60s",
    seed: flags.Seed = 0,
    seeds: flags.Draws = 1,
    expand: flags.Expand = None,
    spread: flags.Spread = None,
    start: flags.From = None,
    end: flags.To = None,
    plot: Annotated[Path | None, flags.picture("accuracy over cost")] = None,
    json: flags.Json = False,
) -> None:
    """Find every plan that no other one beats in cost and accuracy, in cost and power, or in all three."""
    with Session(context, json) as session:
        faults = Faults()
        faults.take(lambda: inputs.check_out("--plot", plot, plots.FIGURE_FILES))
        terms = faults.take(lambda: inputs.energy_of(energy, max_power, usd_per_kwh, gco2_per_kwh))
        given, asked = _given(
            faults,
            pipeline,
            trace,
            profiles,
            slo,
            quantile,
            headroom,
            seed,
            seeds,
            time_limit,
            (expand, spread, start, end),
        )
        with session.progress() as progress:
            found = mp.pareto(*given, by=by, energy=terms.value, **asked, progress=progress)
            if plot is not None:
                progress(f"drawing {plot}")
                names = ", ".join(one.name for one in given[2])
                figure = plots.draw_front(found, title=f"{given[0].name} on {names}")
                plots.write_figure(plot, figure)
        written = [] if plot is None else [str(plot)]
        report = reporting.offers_report(given[0], given[2], seeds, found, written)
        session.show(report, reporting.show_offers)
        if not found.plans:
            session.exit_code = EXIT_NOT_MET if found.complete else EXIT_NO_ANSWER


def menu(
    context: typer.Context,
    pipeline: flags.PipelineFile,
    trace: flags.TraceFiles,
    slo: flags.Slo = None,
    profiles: flags.ProfilesDir = None,
    quantile: flags.Quantile = None,
    headroom: flags.Headroom = 1.0,
    within: Annotated[str, flags.option("SHARE", "How much dearer than the cheapest, such as 5%.")] = "5%",
    by: Annotated[
        str, typer.Option(help="What makes plans differ: both, hardware, variants, accuracy, or energy.")
    ] = "both",
    most: Annotated[int, flags.option("COUNT", "Offer at most so many.")] = 20,
    accuracy: flags.Accuracy = None,
    energy: flags.Energy = False,
    max_power: flags.MaxPower = None,
    usd_per_kwh: flags.UsdPerKwh = None,
    gco2_per_kwh: flags.Gco2PerKwh = None,
    time_limit: _Limit = "60s",
    seed: flags.Seed = 0,
    seeds: flags.Draws = 1,
    expand: flags.Expand = None,
    spread: flags.Spread = None,
    start: flags.From = None,
    end: flags.To = None,
    json: flags.Json = False,
) -> None:
    """Find the plans that cost little more than the cheapest and differ from one another in a stated way."""
    with Session(context, json) as session:
        faults = Faults()
        share = faults.take(lambda: inputs.share_of("--within", within))
        least = faults.take(lambda: accuracy_of(accuracy, None))
        terms = faults.take(lambda: inputs.energy_of(energy, max_power, usd_per_kwh, gco2_per_kwh))
        given, asked = _given(
            faults,
            pipeline,
            trace,
            profiles,
            slo,
            quantile,
            headroom,
            seed,
            seeds,
            time_limit,
            (expand, spread, start, end),
        )
        with session.progress() as progress:
            found = mp.menu(
                *given,
                within=share.value or 0.0,
                by=by,
                most=most,
                accuracy=least.value,
                energy=terms.value,
                **asked,
                progress=progress,
            )
        session.show(reporting.offers_report(given[0], given[2], seeds, found, []), reporting.show_offers)
        if not found.plans:
            session.exit_code = EXIT_NOT_MET if found.complete else EXIT_NO_ANSWER


def _given(
    faults: Faults,
    pipeline: str,
    traces: list[str],
    profiles: Path | None,
    slo: str | None,
    quantile: float | None,
    headroom: float,
    seed: int,
    seeds: int,
    time_limit: str,
    of_trace: tuple[str | None, ...],
) -> tuple[tuple[mp.Pipeline, mp.Profiles, list[mp.Trace]], dict[str, Any]]:
    """Read what both commands are given; raises `InputError` with every fault, those found before among them."""
    expand, spread, start, end = of_trace
    limits = faults.take(lambda: inputs.slo_of(slo))
    time_limit_s = faults.take(lambda: inputs.seconds_of("--time-limit", time_limit))
    asked = faults.take(lambda: inputs.read_pipeline(pipeline))
    measured = faults.take(lambda: inputs.read_profiles(profiles))
    arrivals = faults.take(lambda: inputs.read_traces(traces, expand, spread, seed, start, end))
    if asked and limits:
        faults.take(lambda: inputs.asked_of(asked.value, limits.value, None, None))
    faults.check()
    stated, slo_s = inputs.asked_of(asked.value, limits.value, None, None)
    settings = {"slo_s": slo_s, "quantile": quantile, "seed": seed, "seeds": seeds, "headroom": headroom}
    return (stated, measured.value, arrivals.value), {**settings, "time_limit_s": time_limit_s.value}
