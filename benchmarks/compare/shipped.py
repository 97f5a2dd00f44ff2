"""Every shipped pipeline on every shipped trace: ``python -m benchmarks.compare.shipped`` writes ``shipped.md``.

Examples in the documentation are taken from these cases; the table shows how typical each is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

import mipplan as mp
from benchmarks.compare.figures import EQUAL, geometric_mean
from benchmarks.jobs import measure_missing
from benchmarks.machine import headline, record
from benchmarks.provenance import STAMP
from mipplan.documents import shipped_folder

OUT = Path(__file__).parents[1] / "results" / "compare" / "shipped.md"
MACHINE = OUT.with_suffix(".json")
LIMIT_S = 60.0
#: A job is a pipeline with a trace.
KEYS = ["pipeline", "trace"]
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


def run(folder: Path) -> None:
    """Measure what has not been measured by today's code, and write ``shipped.csv``, a page and machine into `folder`.

    Rows are kept in a file of their own while the run lasts; delete it to start anew.
    """
    partial = folder / "partial-shipped.csv"
    jobs = list_jobs()
    measure_missing(jobs, KEYS, partial, "shipped", measure)
    rows = pd.read_csv(partial).drop(columns=list(STAMP)).set_index(KEYS).loc[jobs].reset_index()
    rows.to_csv(folder / OUT.with_suffix(".csv").name, index=False, float_format="%.10g")
    record(folder / MACHINE.name, "shipped")
    (folder / OUT.name).write_text(f"{headline(folder / MACHINE.name)}\n\n{report(rows)}", encoding="utf-8")
    partial.unlink()


def list_jobs() -> list[tuple[str, str]]:
    """Every shipped pipeline with every shipped trace, by name."""
    pipelines = sorted(file.stem for file in (shipped_folder() / "pipelines").glob("*.yaml"))
    traces = sorted(file.name.split(".")[0] for file in (shipped_folder() / "traces").glob("*.csv.gz"))
    return [(pipeline, trace) for pipeline in pipelines for trace in traces]


def measure(pipeline_name: str, trace_name: str) -> list[dict[str, Any]]:
    """Return cost of every planner's plan at a pipeline's own objective, $/h, as a row."""
    profiles = mp.Profiles.default()
    pipeline, trace = mp.Pipeline.read(pipeline_name), mp.Trace.read(trace_name)

    def planned(**asked: Any) -> mp.Plan:
        return mp.plan(pipeline, profiles, trace, time_limit_s=LIMIT_S, **asked)

    certified = planned()
    plans = {
        "greedy": mp.baselines.inferline(pipeline, profiles, trace),
        "certified": certified,
        "refined": mp.refine(certified, trace, discipline="fifo", time_limit_s=LIMIT_S),
        **{law: planned(**asked) for law, asked in LAWS.items()},
        REPLAYED: planned(dispatch="paced", guarantee="replay"),
    }
    costs = {name: plan.usd_per_hour for name, plan in plans.items()}
    floor = plans[REPLAYED].lower_bound_usd_per_hour
    return [{"pipeline": pipeline_name, "trace": trace_name, **costs, FLOOR: floor}]


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
    run(OUT.parent)
