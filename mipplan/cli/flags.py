"""Flags that several commands have, in the same words everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PlanFile = Annotated[Path, typer.Argument(metavar="PLAN", help="Plan file written by `mipplan plan --out`.")]
TraceFile = Annotated[
    str,
    typer.Option(
        "--trace",
        metavar="FILE",
        help="Arrivals (CSV or Parquet, .gz accepted): arrival_s, arrival_ms, timestamp, or counts per interval. "
        "Also the name of a shipped trace.",
        show_default=False,
    ),
]
Expand = Annotated[
    str | None,
    typer.Option(
        help="For traces of counts: how to place arrivals inside the intervals: poisson, uniform or even."
    ),
]
From = Annotated[
    str | None, typer.Option("--from", metavar="TIME", help="Use the trace from here, such as 60s.")
]
To = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Use the trace up to here.")]
Seed = Annotated[int, typer.Option(help="Seed of the token draws and of --expand.")]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")
]
PipelineFile = Annotated[
    str, typer.Argument(metavar="PIPELINE", help="Pipeline file (YAML), or the name of a shipped pipeline.")
]
Slo = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Latency objective such as 300ms; the pipeline's by default."),
]
ProfilesDir = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Profile folder; the shipped one by default.")
]
Quantile = Annotated[float, typer.Option(help="Share of queries that must keep the objective.")]
PlanSeed = Annotated[
    int | None, typer.Option(help="Seed of the token draws and of --expand; the plan's by default.")
]
Engine = Annotated[str, typer.Option(help="Replay engine; all give the same result.")]
Document = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the document of --json here as well.")
]
Solver = Annotated[str, typer.Option(help="See `mipplan solvers`.")]
