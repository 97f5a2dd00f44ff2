"""What was measured of planning, as Markdown: medians, then the aims, which every single row has to keep."""

from __future__ import annotations

import pandas as pd

from benchmarks.planning.stopwatch import MEASURED
from benchmarks.planning.variants import QUERIES, STAGES, VARIANTS

#: A tree may take so many times as long as a chain of the same stages and queries.
TREE_FACTOR = 1.3
#: Nine stages of nine variants on five hardware types in eight batch sizes, in so many seconds.
VARIANTS_AIM_S = 1.0
#: Text, stages from and to, queries, most seconds, most MiB.
AIMS = (
    ("5 stages, 10⁶ queries: 3 s and 1 GiB", (5, 5), 1_000_000, 3.0, 1024.0),
    ("10 stages, 10⁵ queries: 1 s", (10, 10), 100_000, 1.0, float("inf")),
    ("3 to 5 stages, 10⁵ queries: 0.1 s", (3, 5), 100_000, 0.1, float("inf")),
    ("10⁷ queries: 2 GiB", (1, 20), 10_000_000, float("inf"), 2048.0),
)


def summarise(table: pd.DataFrame) -> str:
    """Medians per number of stages and queries, as a Markdown table."""
    columns = ["seconds", *MEASURED, "other", "masters", "peak_mib"]
    medians = table.groupby(["shape", "stages", "queries"])[columns].median().reset_index()
    lines = [
        "| shape | stages | queries | total s | " + " | ".join(MEASURED) + " | other | masters | peak MiB |"
    ]
    lines.append("|---" * (len(columns) + 3) + "|")
    for row in medians.itertuples(index=False):
        shape, stages, queries, *figures = row
        parts = " | ".join(f"{figure:.3f}" for figure in figures[:-2])
        lines.append(
            f"| {shape} | {stages} | {queries:,} | {parts} | {figures[-2]:.0f} | {figures[-1]:.0f} |"
        )
    statuses = ", ".join(f"{count} {status}" for status, count in table["status"].value_counts().items())
    lines.append(f"\nMedian of {len(table)} runs ({statuses}); times in seconds, one process each.")
    lines += ["", *judge_aims(table), *judge_trees(medians), *judge_proofs(table), *explain_trees(medians)]
    return "\n".join(lines) + "\n"


def judge_aims(table: pd.DataFrame) -> list[str]:
    """Set the aims against every run that they concern, as lines of a Markdown table."""
    lines = []
    for shape, own in table.groupby("shape"):
        for text, stages, queries, limit_s, limit_mib in AIMS:
            rows = own[own["stages"].between(*stages) & (own["queries"] == queries)]
            if len(rows):
                measured = f"{_span(rows['seconds'])} s"
                if limit_mib < float("inf"):
                    measured += f", {rows['peak_mib'].max():.0f} MiB"
                lines.append(f"| {text} | {shape} | {measured} | {_verdict(rows, limit_s, limit_mib)} |")
    return ["| aim | shape | measured | |", "|---|---|---|---|", *lines] if lines else []


def judge_trees(medians: pd.DataFrame) -> list[str]:
    """Set trees beside chains of as many stages and queries, as lines of the aims' table: each pair has to keep it."""
    tree, chain = _pairs(medians)
    if tree.empty:
        return []
    factors = tree["seconds"] / chain["seconds"]
    missed = int((factors > TREE_FACTOR).sum())
    stages, queries = factors.idxmax()
    worst = f"worst {stages} stages, {queries:,} queries: {factors.max():.2f} times a chain"
    outcome = _outcome(missed, f"{len(factors)} pairs", worst)
    return [f"| at most {TREE_FACTOR:g} times a chain's time | tree | {_span(factors)} times | {outcome} |"]


def explain_trees(medians: pd.DataFrame) -> list[str]:
    """Why trees take longer than chains, and which parts of planning the difference lies in, as lines of Markdown."""
    tree, chain = _pairs(medians)
    if tree.empty:
        return []
    more = (tree - chain)[tree["seconds"] / chain["seconds"] > TREE_FACTOR]
    lines = [
        "",
        (
            "Why trees take longer: all stages of a chain see the same tokens, so that one analysis, and one pass at a "
            "rate, serve all of them. In a tree every branch has tokens of its own, and of many stages more "
            "configurations must be told apart. Where the aim is missed, the largest parts of what a tree takes more:"
        ),
        "",
        "| stages | queries | more, s | in |",
        "|---|---|---|---|",
    ]
    for (stages, queries), row in more.iterrows():
        largest = row[[*MEASURED, "other"]].sort_values(ascending=False).head(3)
        where = ", ".join(f"{part} {seconds / row['seconds']:.0%}" for part, seconds in largest.items())
        lines.append(f"| {stages} | {queries:,} | {row['seconds']:.3f} | {where} |")
    return lines


def _pairs(medians: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Medians of trees, and of chains of as many stages and queries in the same order; empty where none go together."""
    shapes = medians.pivot_table(index=["stages", "queries"], columns="shape")
    if not {"chain", "tree"} <= {*shapes.columns.unique("shape")}:
        return pd.DataFrame(), pd.DataFrame()
    pairs = shapes.dropna()
    return pairs.xs("tree", axis=1, level="shape"), pairs.xs("chain", axis=1, level="shape")


def judge_proofs(table: pd.DataFrame) -> list[str]:
    """Whether every plan was proven cheapest within the limit, as lines of the aims' table."""
    lines = []
    for shape, own in table.groupby("shape"):
        open_ = own[own["status"] != "optimal"]
        cases = [
            f"{row.stages} stages, {row.queries:,} queries, seed {row.seed}" for row in open_.itertuples()
        ]
        outcome = (
            f"missed in {len(open_)}: {'; '.join(cases)}" if cases else f"kept in each of {len(own)} runs"
        )
        lines.append(
            f"| proven cheapest within the limit | {shape} | {len(own) - len(open_)} of {len(own)} | {outcome} |"
        )
    return lines


def summarise_variants(table: pd.DataFrame) -> str:
    """Plans with variants, objectives as rows and floors of the accuracy as columns; then the aim, of every row."""
    floors = sorted(table["floor"].unique())
    lines = [
        (
            f"\n{STAGES} stages of {VARIANTS} variants on 5 hardware types in 8 batch sizes, {QUERIES:,} queries, by "
            "how much of the accuracy that can be chosen is asked for: median seconds, how many were proven cheapest.\n"
        ),
        "| shape | objective | " + " | ".join(f"{floor:.0%}" for floor in floors) + " |",
        "|---" * (len(floors) + 2) + "|",
    ]
    for (shape, objective), own in table.groupby(["shape", "objective"]):
        cells = []
        for _, rows in own.groupby("floor"):
            proven = (rows["status"] == "optimal").sum()
            cells.append(f"{rows['seconds'].median():.2f}, {proven} of {len(rows)}")
        lines.append(f"| {shape} | {objective:g} × fastest | " + " | ".join(cells) + " |")
    lines += ["", "| aim | shape | measured | |", "|---|---|---|---|"]
    for shape, own in table.groupby("shape"):
        missed = int(((own["seconds"] > VARIANTS_AIM_S) | (own["status"] != "optimal")).sum())
        measured = f"{_span(own['seconds'])} s, median {own['seconds'].median():.2f} s"
        outcome = _outcome(missed, f"{len(own)} runs")
        lines.append(f"| proven cheapest in {VARIANTS_AIM_S:g} s | {shape} | {measured} | {outcome} |")
    return "\n".join(lines) + "\n"


def _verdict(rows: pd.DataFrame, limit_s: float, limit_mib: float) -> str:
    """Kept, if each run keeps it; else in how many it is missed, and the worst of them."""
    share = pd.concat([rows["seconds"] / limit_s, rows["peak_mib"] / limit_mib], axis=1).max(axis=1)
    missed = int((share > 1).sum())
    worst = rows.loc[share.idxmax()]
    told = f"worst {worst['stages']} stages, seed {worst['seed']}: {share.max():.1f} times as much"
    return _outcome(missed, f"{len(rows)} runs", told)


def _outcome(missed: int, of: str, worst: str = "") -> str:
    """Say whether an aim is kept, by so many runs or pairs; else which misses it most, if that is to be told."""
    if not missed:
        return f"kept in each of {of}"
    return f"missed in {missed} of {of}" + (f", {worst}" if worst else "")


def _span(figures: pd.Series[float]) -> str:
    return f"{figures.min():.2f}–{figures.max():.2f}" if len(figures) > 1 else f"{figures.iloc[0]:.2f}"
