"""Every shipped pipeline on every shipped trace: ``python -m benchmarks.compare.shipped`` writes ``shipped.md``.

Examples in the documentation are taken from these cases; the table shows how typical each is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

import mipplan as mp
from benchmarks.compare.figures import EQUAL, geometric_mean
from benchmarks.machine import headline, record
from mipplan.documents import shipped_folder

OUT = Path(__file__).parents[1] / "results" / "compare" / "shipped.md"
MACHINE = OUT.with_suffix(".json")
LIMIT_S = 60.0
LAWS: dict[str, dict[str, Any]] = {
    "paced": {"dispatch": "paced"},
    "paced, sharp": {"dispatch": "paced", "certificate": "sharp"},
    "timed": {"dispatch": "timed"},
}
#: The same dispatch without a certificate: a certified plan is kept by the replay, too, so none costs less.
REPLAYED = "paced, refined"
PLANNERS = ("certified", "refined", *LAWS, REPLAYED)
#: What plans of `REPLAYED` are proven to cost at least.
FLOOR = "paced at least"
#: What a certified plan of paced dispatch may cost, beside greedy's, in geometric mean.
PACED_FACTOR = 0.90


def measure() -> pd.DataFrame:
    """Return cost of every planner's plan at each pipeline's own objective, $/h."""
    profiles = mp.Profiles.default()
    rows = []
    for pipeline_file in sorted((shipped_folder() / "pipelines").glob("*.yaml")):
        pipeline = mp.Pipeline.read(pipeline_file)
        for trace_file in sorted((shipped_folder() / "traces").glob("*.csv.gz")):
            trace = mp.Trace.read(trace_file)
            certified = mp.plan(pipeline, profiles, trace, time_limit_s=LIMIT_S)
            replayed = mp.plan(
                pipeline, profiles, trace, time_limit_s=LIMIT_S, dispatch="paced", guarantee="replay"
            )
            rows.append(
                {
                    "pipeline": pipeline.name,
                    "trace": trace.name,
                    "greedy": mp.baselines.inferline(pipeline, profiles, trace).usd_per_hour,
                    "certified": certified.usd_per_hour,
                    "refined": mp.refine(
                        certified, trace, discipline="fifo", time_limit_s=LIMIT_S
                    ).usd_per_hour,
                    **{
                        law: mp.plan(pipeline, profiles, trace, time_limit_s=LIMIT_S, **asked).usd_per_hour
                        for law, asked in LAWS.items()
                    },
                    REPLAYED: replayed.usd_per_hour,
                    FLOOR: replayed.lower_bound_usd_per_hour,
                }
            )
    return pd.DataFrame(rows)


def report(costs: pd.DataFrame) -> str:
    """Lay out costs and ratios, one row per case."""
    heads = ["pipeline", "trace", "greedy, $/h"]
    heads += [f"{planner}, $/h" for planner in PLANNERS] + [f"{planner} / greedy" for planner in PLANNERS]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in costs.to_dict("records"):
        figures = [row["greedy"], *(row[planner] for planner in PLANNERS)]
        figures += [row[planner] / row["greedy"] for planner in PLANNERS]
        cells = [row["pipeline"], row["trace"], *(f"{figure:.2f}" for figure in figures)]
        lines.append(f"| {' | '.join(cells)} |")
    for planner in PLANNERS:
        beside = (costs[planner] / costs["greedy"]).dropna()
        cheaper, dearer = int((beside < 1 - EQUAL).sum()), int((beside > 1 + EQUAL).sum())
        counts = f"cheaper in {cheaper}, equal in {len(beside) - cheaper - dearer}, dearer in {dearer}"
        means = f"geometric mean {geometric_mean(beside):.3f}, median {beside.median():.3f}"
        lines += ["", f"{planner.capitalize()} beside greedy: {counts} of {len(costs)}; {means}."]
    paced = geometric_mean((costs["paced, sharp"] / costs["greedy"]).dropna())
    outcome = "kept" if paced <= PACED_FACTOR else f"missed by {paced - PACED_FACTOR:.3f}"
    lines += ["", f"Aim: paced, sharp / greedy ≤ {PACED_FACTOR:.2f} in geometric mean: {outcome}."]
    floor = geometric_mean((costs[FLOOR] / costs["greedy"]).dropna())
    known = f"{costs[FLOOR].notna().sum()} of {len(costs)}"
    least = (
        "No plan that is certified for paced dispatch costs less than the cheapest that is kept by a replay of it: "
        f"at least {floor:.3f} of greedy's, by proven lower bounds on {known}."
    )
    return "\n".join([*lines, least, ""])


if __name__ == "__main__":
    text = report(measure())
    record(MACHINE, "shipped")
    OUT.write_text(f"{headline(MACHINE)}\n\n{text}", encoding="utf-8")
