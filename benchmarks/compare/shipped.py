"""Every shipped pipeline on every shipped trace: ``python -m benchmarks.compare.shipped`` writes ``shipped.md``.

Examples in the documentation are taken from these ten cases; the table shows how typical each is.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

import mipplan as mp
from benchmarks.compare.figures import EQUAL, geometric_mean
from benchmarks.machine import headline, record
from mipplan.documents import shipped_folder

OUT = Path(__file__).parents[1] / "results" / "compare" / "shipped.md"
MACHINE = OUT.with_suffix(".json")
LIMIT_S = 60.0


def measure() -> pd.DataFrame:
    """Return cost of the greedy, the certified and the refined plan at each pipeline's own objective, $/h."""
    profiles = mp.Profiles.default()
    rows = []
    for pipeline_file in sorted((shipped_folder() / "pipelines").glob("*.yaml")):
        pipeline = mp.Pipeline.read(pipeline_file)
        for trace_file in sorted((shipped_folder() / "traces").glob("*.csv.gz")):
            trace = mp.Trace.read(trace_file)
            certified = mp.plan(pipeline, profiles, trace, time_limit_s=LIMIT_S)
            rows.append(
                {
                    "pipeline": pipeline.name,
                    "trace": trace.name,
                    "greedy": mp.baselines.inferline(pipeline, profiles, trace).usd_per_hour,
                    "certified": certified.usd_per_hour,
                    "refined": mp.refine(
                        certified, trace, discipline="fifo", time_limit_s=LIMIT_S
                    ).usd_per_hour,
                }
            )
    return pd.DataFrame(rows)


def report(costs: pd.DataFrame) -> str:
    """Lay out costs and ratios, one row per case."""
    lines = [
        "| pipeline | trace | greedy, $/h | certified, $/h | refined, $/h | certified / greedy | refined / greedy |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in costs.itertuples():
        figures = [
            row.greedy,
            row.certified,
            row.refined,
            row.certified / row.greedy,
            row.refined / row.greedy,
        ]
        lines.append(
            " | ".join([f"| {row.pipeline}", row.trace, *(f"{figure:.2f}" for figure in figures)]) + " |"
        )
    for planner in ("certified", "refined"):
        beside = (costs[planner] / costs["greedy"]).dropna()
        cheaper, dearer = int((beside < 1 - EQUAL).sum()), int((beside > 1 + EQUAL).sum())
        counts = f"cheaper in {cheaper}, equal in {len(beside) - cheaper - dearer}, dearer in {dearer}"
        means = f"geometric mean {geometric_mean(beside):.3f}, median {beside.median():.3f}"
        lines += ["", f"{planner.capitalize()} beside greedy: {counts} of {len(costs)}; {means}."]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    text = report(measure())
    record(MACHINE, "shipped")
    OUT.write_text(f"{headline(MACHINE)}\n\n{text}", encoding="utf-8")
