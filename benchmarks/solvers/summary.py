"""The rows measured, as Markdown: contradictions first, then aims, then what they rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from benchmarks.instances.best_known import Record
from benchmarks.solvers.aims import AUTO, judge_aims
from benchmarks.solvers.figures import (
    SHIFT_S,
    bound_gaps,
    means_by_pair,
    shifted_geometric_mean,
    solves,
)

ENDINGS = (
    "optimal",
    "infeasible",
    "feasible",
    "no_solution_found",
    "timeout",
    "memory",
    "error",
    "crash",
    "wrong",
)
MISSING = "–"


def summarise(
    table: pd.DataFrame, records: Mapping[str, Record], contradictions: Sequence[str], *, frozen: int
) -> str:
    """Summarise judged rows.

    Parameters
    ----------
    table : DataFrame
        With the columns of `benchmarks.solvers.rows`.
    records : mapping of str to Record
        Best known values by name of the problem.
    contradictions : sequence of str
    frozen : int
        Problems that there are; those that need data that are not here were left out.
    """
    parts = [
        _head(table, records, contradictions, frozen),
        "\n".join(judge_aims(table)),
        "**Pairs on the suite**\n\n" + _pairs(table),
        "**By kind of problem**\n\n" + _families(table),
        "**How runs ended, all groups**\n\n" + _endings(table),
        "**Linear relaxations: how far below the optimum**\n\n" + _bounds(table, records),
        "**Linear relaxations: time**\n\n" + _relaxation_times(table),
        "**What leaving out dominated modes saves**\n\n" + _pruning(table),
        _shrinking(table),
        "**Growth**\n\n" + _growth(table),
        "**Building and handing over**\n\n" + _building(table),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(
    table: pd.DataFrame, records: Mapping[str, Record], contradictions: Sequence[str], frozen: int
) -> str:
    run = table["instance"].nunique()
    plans = int(((table["kind"] == "solve") & table["objective"].notna()).sum())
    optima = int(((table["kind"] == "solve") & (table["termination"] == "optimal")).sum())
    status = pd.Series([record.status for record in records.values()]).value_counts()
    known = ", ".join(f"{count} {name}" for name, count in status.items())
    agreement = (
        f"**{len(contradictions)} rows are wrong:** " + "; ".join(contradictions) + "."
        if contradictions
        else "No two results contradict each other."
    )
    return (
        f"{run} of {frozen} frozen problems, {len(table):,} runs, {table['process_s'].sum() / 60:.0f} minutes in all, "
        f"one thread each. {plans:,} plans were re-costed, among them {optima:,} claimed optima. {agreement} "
        f"Best known values: {known}."
    )


def _pairs(table: pd.DataFrame) -> str:
    solved = solves(table, "suite")
    means = means_by_pair(solved)
    if means.empty:
        return ""
    fine = means_by_pair(solved, 0.01)
    head = [
        "formulation / solver",
        "decided",
        f"SGM s (shift {SHIFT_S:g})",
        "to the best",
        "SGM s (shift 0.01)",
        "median s",
        "wall clock, SGM s",
        "build, median s",
        "peak MiB, median",
        "largest",
    ]
    rows = []
    for pair, mean in means.items():
        own = solved[solved["pair"] == pair]
        rows.append(
            [
                str(pair),
                f"{int(own['decided'].sum())} of {len(own)}",
                f"{mean:.3f}",
                f"{mean / means.iloc[0]:.2f}",
                f"{fine[pair]:.3f}",
                f"{own['seconds'].median():.3f}",
                f"{shifted_geometric_mean(own['wall_s']):.3f}",
                f"{own['build_s'].median():.4f}" if (own["build_s"] > 0).any() else MISSING,
                f"{own['peak_mib'].median():.0f}",
                f"{own['peak_mib'].max():.0f}",
            ]
        )
    return _table(head, rows)


def _families(table: pd.DataFrame) -> str:
    """The three fastest pairs of each family, and `auto` if it was run."""
    solved = solves(table, "suite")
    rows = []
    for family, own in solved.groupby("family", sort=False):
        means = means_by_pair(own)
        shown = [f"{pair} {mean:.3f}" for pair, mean in means.head(3).items()]
        auto = f"{means[AUTO]:.3f}" if AUTO in means else MISSING
        rows.append([str(family), str(own["instance"].nunique()), *(shown + [MISSING] * 3)[:3], auto])
    return _table(["family", "problems", "fastest, SGM s", "second", "third", "auto"], rows) if rows else ""


def _endings(table: pd.DataFrame) -> str:
    solved = solves(table)
    counts = pd.crosstab(solved["pair"], solved["termination"]).reindex(columns=list(ENDINGS), fill_value=0)
    counts = counts.loc[list(dict.fromkeys(solved["pair"])), counts.sum() > 0]
    rows = [[str(pair), *map(str, row)] for pair, row in zip(counts.index, counts.to_numpy(), strict=True)]
    return _table(["formulation / solver", *(name.replace("_", " ") for name in counts)], rows)


def _bounds(table: pd.DataFrame, records: Mapping[str, Record]) -> str:
    optima = {name: r.cost for name, r in records.items() if r.status == "optimal" and r.cost is not None}
    gaps = bound_gaps(table, optima)
    if gaps.empty:
        return ""
    formulations = list(dict.fromkeys(table.loc[table["kind"] == "relax", "formulation"]))
    rows = []
    groups = [
        *((str(family), own) for family, own in gaps.groupby(level="family", sort=False)),
        ("all", gaps),
    ]
    for family, own in groups:
        cells = []
        for formulation in formulations:
            shares = 100 * own[formulation].dropna()
            cells.append(
                f"{shares.median():.2f} % / {shares.max():.2f} % ({len(shares)})" if len(shares) else MISSING
            )
        rows.append([family, *cells])
    return _table(["family", *(f"{name}: median / largest (problems)" for name in formulations)], rows)


def _relaxation_times(table: pd.DataFrame) -> str:
    relaxed = table[table["kind"] == "relax"]
    if relaxed.empty:
        return ""
    rows = []
    for (formulation, solver), own in relaxed.groupby(["formulation", "solver"], sort=False):
        done = own["termination"] == "optimal"
        seconds = own["cpu_s"].where(done, own["time_limit_s"])
        rows.append(
            [
                str(formulation),
                str(solver),
                f"{int(done.sum())} of {len(own)}",
                f"{shifted_geometric_mean(seconds):.3f}",
                f"{seconds.median():.4f}",
            ]
        )
    return _table(["formulation", "solver", "solved", "SGM s", "median s"], rows)


def _pruning(table: pd.DataFrame) -> str:
    solved = solves(table, "pruning")
    if solved.empty:
        return ""
    raw = solved["instance"].str.contains("-raw-")
    names = solved["instance"].str.replace("-raw-", "-", regex=False)
    modes = solved.assign(raw=raw, name=names)
    rows = []
    for pair, own in modes.groupby("pair", sort=False):
        sides = {side: rows_of.set_index("name") for side, rows_of in own.groupby("raw")}
        if len(sides) < 2:
            continue
        before, after = sides[True], sides[False].reindex(sides[True].index)
        both = before["decided"] & after["decided"].astype(bool)
        ratio = (before["seconds"] / after["seconds"])[both]
        rows.append(
            [
                str(pair),
                f"{before['modes'].sum():,} to {after['modes'].sum():,.0f}",
                f"{shifted_geometric_mean(before['seconds']):.3f}",
                f"{shifted_geometric_mean(after['seconds']):.3f}",
                f"{np.exp(np.log(ratio).mean()):.2f}" if len(ratio) else MISSING,
            ]
        )
    head = ["formulation / solver", "modes", "raw, SGM s", "pruned, SGM s", "times as long, raw"]
    return _table(head, rows)


def _shrinking(table: pd.DataFrame) -> str:
    """What `auto` leaves of the modes of the suite, and by what it ends there."""
    own = solves(table, "suite")
    own = own[own["pair"] == AUTO]
    shrunk = own[own["modes_left"].notna()]
    if shrunk.empty:
        return ""
    share = 100 * shrunk["modes_left"] / shrunk["modes"]
    ends = ", ".join(f"{count} by {name}" for name, count in own["by"].value_counts().items())
    return (
        f"Shrinking by reduced costs, which `auto` does on {len(shrunk)} problems of the suite (undominated modes "
        f"only), leaves {share.median():.0f} % of the modes in the median, {share.min():.0f} to {share.max():.0f} %. "
        f"`auto` ended: {ends}."
    )


def _growth(table: pd.DataFrame) -> str:
    blocks = []
    for group in ("stages", "modes", "paths"):
        solved = solves(table, group)
        if solved.empty:
            continue
        values = sorted(solved[group].unique())
        rows = []
        for pair, own in solved.groupby("pair", sort=False):
            cells = []
            for value in values:
                at = own[own[group] == value]
                cells.append(f"{at['seconds'].median():.3f}" if at["decided"].all() and len(at) else MISSING)
            rows.append([str(pair), *cells])
        limit = solved["time_limit_s"].max()
        blocks.append(
            f"Seconds by {group} ({MISSING}: not decided within {limit:g} s)\n\n"
            + _table(["formulation / solver", *(f"{value:,}" for value in values)], rows)
        )
    return "\n\n".join(blocks)


def _building(table: pd.DataFrame) -> str:
    loaded = table[table["kind"] == "load"]
    rows = [
        [
            row.formulation,
            row.solver,
            str(row.stages),
            f"{row.binaries:,.0f}" if row.termination == "loaded" else MISSING,
            f"{row.nonzeros:,.0f}" if row.termination == "loaded" else MISSING,
            f"{row.build_s:.3f}" if row.termination == "loaded" else row.termination,
            f"{row.solve_s:.3f}" if row.termination == "loaded" else row.termination,
            f"{row.peak_mib:.0f}",
        ]
        for row in loaded.itertuples()
    ]
    head = [
        "formulation",
        "solver",
        "stages",
        "binaries",
        "nonzeros",
        "arrays s",
        "into the solver s",
        "peak MiB",
    ]
    return _table(head, rows) if rows else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
