"""Flags that several commands have, in the same words everywhere, and those with long texts."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer


def option(takes: str, text: str, *names: str) -> Any:
    """Return an option that takes a value of some kind, such as TIME."""
    return typer.Option(*names, metavar=takes, help=text)


def picture(what: str, *names: str) -> Any:
    """Return the option of a file to draw something into."""
    return option("FILE", f"Draw {what} (.png, .svg or .pdf).", *names)


def options_of(
    *reads: Callable[..., object], last: bool = False, beside: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of functions as well; it takes them by any names, and hands them on.

    They are the parameters with a text for the help, but for those that the command has itself, under the same name.
    They come before the command's own, or `last`, when only --json follows; the help says so of those that only count
    `beside` another one. The command's first parameter is its context, its last one ``**others``.
    """

    def parameters(function: Callable[..., object]) -> dict[str, inspect.Parameter]:
        return dict(inspect.signature(function, eval_str=True).parameters)

    every = [found for read in reads for found in parameters(read).items()]
    shared = {name: found for name, found in every if get_origin(found.annotation) is Annotated}
    if beside is not None:
        shared = {name: _beside(beside, found) for name, found in shared.items()}

    def give(command: Callable[..., None]) -> Callable[..., None]:
        context, *own, _ = parameters(command).values()
        options = list((shared | {option.name: option for option in own}).values())
        if last:
            options = [*own[:-1], *(option for option in options if option not in own), own[-1]]
        # Those without defaults come first, as everywhere.
        given = sorted(options, key=lambda option: option.default is not option.empty)
        vars(command)["__signature__"] = inspect.Signature([context, *given])
        return command

    return give


def _beside(flag: str, parameter: inspect.Parameter) -> inspect.Parameter:
    """Say in the help of an option that it goes with another one."""
    kind, told = get_args(parameter.annotation)
    told = copy(told)
    told.help = f"With {flag}: {told.help[0].lower()}{told.help[1:]}"
    return parameter.replace(annotation=Annotated[kind, told])


Page = Annotated[Path | None, option("FILE", "Write a page about it (.html).", "--report")]

# --- what is read ----------------------------------------------------------------------------------------------------

PlanFile = Annotated[Path, typer.Argument(metavar="PLAN", help="Plan file written by `mipplan plan --out`.")]
PipelineFile = Annotated[
    str, typer.Argument(metavar="PIPELINE", help="Pipeline file (YAML), or the name of a shipped pipeline.")
]
#: Of these, too, the command line takes several: which of them is meant is asked (`traces.single`), not guessed.
TraceFile = Annotated[
    list[str],
    typer.Option(
        "--trace",
        metavar="FILE",
        help="Arrivals (CSV or Parquet, .gz accepted): arrival_s, arrival_ms, timestamp, or counts per interval. "
        "Also the name of a shipped trace.",
        show_default=False,
    ),
]
TraceFiles = Annotated[
    list[str],
    typer.Option(
        "--trace",
        metavar="FILE",
        help="Arrivals (CSV or Parquet, .gz accepted): arrival_s, arrival_ms, timestamp, or counts per interval. "
        "Also the name of a shipped trace. Repeat for several: each must be kept by itself.",
        show_default=False,
    ),
]
Expand = Annotated[
    str | None,
    typer.Option(
        help="For traces of counts: how to place arrivals inside the intervals: poisson, uniform or even."
    ),
]
Spread = Annotated[
    str | None,
    typer.Option(
        help="For traces whose time stamps are too coarse, such as whole seconds: uniform places queries at random "
        "within their step, which assumes that traffic is even within it."
    ),
]
From = Annotated[str | None, option("TIME", "Use the trace from here: 60s, 12:00, or a date.", "--from")]
To = Annotated[str | None, option("TIME", "Use the trace up to here.", "--to")]
ProfilesDir = Annotated[Path | None, option("DIR", "Profile folder; the shipped one by default.")]

_LATENCY = (
    "the column latency_ms (table), latency_p50_ms (p50) or latency_p99_ms (p99); by model: p99,resize=table."
)
Latency = Annotated[str | None, option("COLUMN", f"What a batch takes: {_LATENCY} The table by default.")]
PlanLatency = Annotated[
    str | None, option("COLUMN", f"What a batch takes: {_LATENCY} The plan's by default.", "--latency")
]

# --- what is asked for -----------------------------------------------------------------------------------------------

Slo = Annotated[
    str | None,
    option("TIME", "Latency objective: 300ms, or of quantiles: p99=1s,p50=90ms; the pipeline's by default."),
]
Quantile = Annotated[
    float | None,
    typer.Option(
        help="Share of queries that must keep the objective; the pipeline's, or 0.99, by default.",
        show_default=False,
    ),
]
Per = Annotated[
    str | None,
    option(
        "TIME", "The queries of every window this long, such as 5min, must keep the quantile by themselves."
    ),
]
Share = Annotated[
    float | None,
    option("SHARE", "With --per: in this share of the windows, such as 0.99; in all by default."),
]
Headroom = Annotated[float, option("FACTOR", "Plan for this multiple of the traffic, such as 1.2.")]
Margin = Annotated[str, option("TIME", "Keep back this much of the objective, such as 10ms.")]
Guarantee = Annotated[
    str,
    typer.Option(
        help="trace: certified on this trace; envelope: for any traffic inside an arrival curve; of `mipplan plan` "
        "only, replay: by replay of this trace; reliable: in a share of scenarios of tomorrow."
    ),
]
Accuracy = Annotated[
    str | None,
    option(
        "SHARE",
        "Least accuracy of the pipeline, such as 0.6; with --budget also max: the most that it pays for.",
    ),
]
Energy = Annotated[
    bool,
    typer.Option(
        "--energy", help="Tell what power the plan may draw and what the replay took (idle_w, tdp_w, …)."
    ),
]
MaxPower = Annotated[
    float | None, option("WATTS", "The mean power of any run that conforms is at most this.", "--max-power")
]
UsdPerKwh = Annotated[
    str | None,
    option(
        "USD", "Price of electricity, part of the cost; by the hour with commas between.", "--usd-per-kwh"
    ),
]
Gco2PerKwh = Annotated[
    str | None, option("GRAMS", "CO₂ of a kWh, likewise; replays tell the carbon of a run.", "--gco2-per-kwh")
]
UsdPerTonne = Annotated[
    float | None, option("USD", "Price of a tonne of CO₂, part of the cost.", "--usd-per-tonne")
]
Confidence = Annotated[
    float | None,
    option("SHARE", "With --guarantee reliable: of scenarios that must keep the objective; 0.95 by default."),
]
Drift = Annotated[
    str | None,
    option(
        "SHARE",
        "With --guarantee reliable: by how much tomorrow's rate is typically off, such as 10%; by default as parts of "
        "the sample differ.",
    ),
]
Seeds = Annotated[
    int,
    option(
        "N",
        "Draws of the tokens of every trace, each of which must be kept; with --guarantee reliable also of every "
        "scenario.",
    ),
]
Draws = Annotated[
    int,
    option("N", "Draws of the tokens of every trace to plan with, each of which must be kept.", "--seeds"),
]
Envelope = Annotated[
    list[str] | None,
    option(
        "BURST:RATE",
        "With --guarantee envelope: at most BURST + RATE·u queries in any u seconds; repeat for the "
        "minimum of several. The trace's own envelope by default.",
    ),
]
Certificate = Annotated[
    str,
    typer.Option(
        help="By which theorem: classic, sharp (lower, takes longer), auto (sharp where affordable)."
    ),
]
PlanCertificate = Annotated[
    str | None,
    typer.Option(
        "--certificate", help="Judge by this: classic, sharp or auto; by default as the plan was made."
    ),
]
_RUNS = (
    "least shares of batch latencies and of delays, and whether the arrivals of an instant come before its dispatches "
    "(settled) or in any order (any)."
)
Runs = Annotated[
    str | None, option("SERVICE:DELAY:TIES", f"Sharp, or of fifo queues: {_RUNS} 0:1:settled by default.")
]
PlanRuns = Annotated[
    str | None,
    option(
        "SERVICE:DELAY:TIES",
        f"Sharp, or of fifo queues: {_RUNS} By default as the plan says, or 0:1:settled.",
        "--runs",
    ),
]
Policy = Annotated[
    str,
    option(
        "NAMES",
        "Some of newsvendor, lp, lp-lean, inferline, hpa, ray, ray-tuned, static, oracle, with commas between.",
    ),
]
Worth = Annotated[
    float | None,
    option(
        "USD",
        "For --policy newsvendor: what a missed query costs you; by default as much as the plan can pay for.",
    ),
]
Planners = Annotated[
    str | None,
    option(
        "NAMES", "Some of certified, refined, inferline, coarse_mean, coarse_peak, half_slo; all by default."
    ),
]

Dispatch = Annotated[
    str | None,
    option(
        "LAW", "When batches are made, at all stages: eager, paced or timed; by default as the file says."
    ),
]
Stagger = Annotated[
    str | None,
    option(
        "TIME",
        "How far apart the outputs of a batch go on to other stages, at all stages, such as 1us; by default as the "
        "pipeline says.",
    ),
]
System = Annotated[
    str | None,
    option(
        "NAME",
        "Batches as a serving system makes them: triton, mosec, litserve, ray or central, with what is other than "
        "usual there, such as ray:window=100ms,ongoing=8.",
    ),
]
Window = Annotated[
    str | None,
    option(
        "TIME",
        "For how long a replica of an eager stage collects a batch before it begins, at most, such as 2ms; by default "
        "as the pipeline says.",
    ),
]
Discipline = Annotated[
    str | None,
    typer.Option(help="oldest_first, or fifo (by arrival at the stage); by default as the pipeline says."),
]
PlanDiscipline = Annotated[
    str | None, typer.Option(help="oldest_first, or fifo (by arrival at the stage); the plan's by default.")
]

# --- how it is done --------------------------------------------------------------------------------------------------

PlanTimeLimit = Annotated[
    str, option("TIME", "Stop searching after this long, with the best that was found so far.")
]
Seed = Annotated[int, typer.Option(help="Seed of the token draws, of --expand and --spread.")]
PlanSeed = Annotated[
    int | None, typer.Option(help="Seed of the token draws, of --expand and --spread; the plan's by default.")
]
ArrivalSeed = Annotated[
    int | None, option("N", "Seed of --expand and --spread; the plan's by default.", "--seed")
]
AskedSeed = Annotated[
    int | None,
    option(
        "N",
        "Seed of --expand and --spread, and of a pipeline's token draws; a plan's own, or 0, by default.",
        "--seed",
    ),
]
Noise = Annotated[
    str | None,
    option(
        "SOURCE",
        "Random service times: p99 (lognormal, by the profiles' P50 or mean and P99), or a profile folder whose "
        "records hold what was measured.",
    ),
]
Engine = Annotated[str, typer.Option(help="Replay engine; all give the same result.")]
Solver = Annotated[str, typer.Option(help="See `mipplan solvers`.")]

# --- what comes of it ------------------------------------------------------------------------------------------------

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")
]
PlanOut = Annotated[Path | None, option("FILE", "Write the plan here (JSON).", "--out", "-o")]
Document = Annotated[Path | None, option("FILE", "Write the document of --json here as well.", "--out", "-o")]
Latencies = Annotated[
    Path | None, option("FILE", "Write arrival and latency of every query here (.csv or .parquet).")
]
