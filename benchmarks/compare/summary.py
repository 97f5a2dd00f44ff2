"""The rows measured, as Markdown: aims first, then what they rest on, unflattering figures too."""

from __future__ import annotations

import pandas as pd

from benchmarks.compare.aims import judge_aims
from benchmarks.compare.figures import EQUAL, geometric_mean, keeps, planned, planners_of, ratios
from benchmarks.compare.planners import (
    BY_LAW,
    CERTIFIED,
    CERTIFIED_LIMIT_S,
    EXHAUSTIVE,
    FIFO,
    FIFO_LIMIT_S,
    GREEDY,
    REFINED,
    REFINED_LIMIT_S,
)

MISSING = "–"
SLO_BANDS = ((1.1, 1.5), (1.5, 2.5), (2.5, 4.0), (4.0, 6.01))
THEOREM_COLUMN = "held_out_miss_rate_oldest_first"


def summarise(table: pd.DataFrame, *, frozen: int) -> str:
    """Summarise the rows of a run.

    Parameters
    ----------
    table : DataFrame
        With the columns of `benchmarks.compare.run`.
    frozen : int
        Instances that there are; those that need data that are not here were left out.
    """
    compared, large = table[table["group"] != "large"], table[table["group"] == "large"]
    parts = [
        ("Aims, and what became of them", judge_aims(table)),
        ("Cost beside greedy", _costs(compared)),
        ("Refined and certified beside greedy, by group and by objective", _by_part(compared)),
        ("What is proven, by dispatch law and certificate", _by_law(compared)),
        ("The objective, on the traffic planned on and on traffic held out", _misses(compared)),
        ("Effort", _effort(compared)),
        ("What is proven", _proofs(compared)),
        ("Refined beside exhaustive replay", _exhaustive(compared)),
        ("Planning on 100,000 queries", _large(large)),
    ]
    text = "\n\n".join(f"**{title}**\n\n" + "\n".join(lines) for title, lines in parts if lines)
    return f"{_counts(table, frozen)}\n\n{text}\n"


def _counts(table: pd.DataFrame, frozen: int) -> str:
    instances = table.drop_duplicates("instance")
    groups = ", ".join(
        f"{count} {group}" for group, count in instances.groupby("group", sort=False).size().items()
    )
    shared = int(instances["shared_data"].sum())
    return (
        f"{len(instances)} of {frozen} frozen instances ran ({groups}): {len(instances) - shared} need nothing but "
        f"this repository, {shared} read public data that lie beside it."
    )


def _costs(table: pd.DataFrame) -> list[str]:
    instances = table["instance"].nunique()
    lines = _head(
        "planner",
        "plans",
        "keep P99 in replay",
        "P99 in replay / objective (median)",
        "cost / greedy: geometric mean",
        "median",
        "cheaper",
        "equal",
        "dearer",
        "range",
    )
    for planner in planners_of(table):
        rows, beside = planned(table, planner), ratios(table, planner)
        cheaper, dearer = int((beside < 1 - EQUAL).sum()), int((beside > 1 + EQUAL).sum())
        lines.append(
            _row(
                planner,
                f"{len(rows)} of {instances}",
                _share(keeps(rows)),
                f"{(rows['p99_s'] / rows['slo_s']).median():.2f}" if len(rows) else MISSING,
                _mean(beside),
                f"{beside.median():.3f}" if len(beside) else MISSING,
                cheaper,
                len(beside) - cheaper - dearer,
                dearer,
                f"{beside.min():.2f}–{beside.max():.2f}" if len(beside) else MISSING,
            )
        )
    dearer_names = ratios(table, REFINED)
    worse = dearer_names[dearer_names > 1 + EQUAL]
    without = sorted(set(planned(table, GREEDY)["instance"]) - set(planned(table, REFINED)["instance"]))
    lines += [
        "",
        "Ratios are over the instances where both have a plan, whether it keeps the objective or not.",
    ]
    if len(worse):
        shown = ", ".join(f"{name} ({ratio:.3f})" for name, ratio in worse.items())
        lines.append(f"Refined is dearer than greedy on {shown}.")
    if without:
        lines.append(f"Greedy has a plan and refinement none on {', '.join(without)}.")
    return lines


def _parts(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Groups of instances, and bands of objectives, that there are rows of."""
    parts = [(str(group), rows) for group, rows in table.groupby("group", sort=False)]
    for least, most in SLO_BANDS:
        rows = table[(table["slo_factor"] >= least) & (table["slo_factor"] < most)]
        parts.append((f"objective {least:g}–{most:.2g} × fastest service", rows))
    return [(name, rows) for name, rows in parts if len(rows)]


def _by_law(table: pd.DataFrame) -> list[str]:
    """Cost beside greedy's, on which instances there is no plan, how tight certificates are, what holds tomorrow."""
    proven = [name for name in (CERTIFIED, *BY_LAW) if len(planned(table, name))]
    if proven in ([], [CERTIFIED]):
        return []
    lines = _head("part", *(f"{name} / greedy (no plan)" for name in proven))
    for name, rows in [("all", table), *_parts(table)]:
        instances = rows["instance"].nunique()
        cells = (
            f"{_mean(ratios(rows, planner))} ({instances - len(planned(rows, planner))})"
            for planner in proven
        )
        lines.append(_row(name, *cells))
    lines += ["", "Geometric means over the instances where both have a plan.", ""]
    lines += _head("", *proven)
    plans = [planned(table, name) for name in proven]
    lines.append(
        _row(
            "certificate / P99 in replay, median",
            *(f"{(rows['certificate_s'] / rows['p99_s']).median():.2f}" for rows in plans),
        )
    )
    lines.append(_row("kept: held out", *(_share(keeps(rows, "held_out_miss_rate")) for rows in plans)))
    lines.append(
        _row("optimal", *(f"{int((rows['status'] == 'optimal').sum())} of {len(rows)}" for rows in plans))
    )
    lines.append(
        _row("processor seconds: median", *(f"{rows['cpu_seconds'].median():.2f}" for rows in plans))
    )
    note = (
        f"Replays are by each plan's own law, oldest first, but those of `{CERTIFIED}` and `{FIFO}`, which are fifo. "
        "φ: the least share of the stated time that a batch takes; delays are exact."
    )
    return [*lines, "", note]


def _by_part(table: pd.DataFrame) -> list[str]:
    lines = _head("part", "instances", "refined / greedy", "certified / greedy", "certified: no plan")
    for name, rows in _parts(table):
        instances = rows["instance"].nunique()
        lines.append(
            _row(
                name,
                instances,
                _mean(ratios(rows, REFINED)),
                _mean(ratios(rows, CERTIFIED)),
                instances - len(planned(rows, CERTIFIED)),
            )
        )
    return [*lines, "", "Geometric means."]


def _misses(table: pd.DataFrame) -> list[str]:
    lines = _head(
        "planner", "kept: planned on", "kept: held out", "misses held out: median", "90th percentile", "worst"
    )
    for planner in planners_of(table):
        rows = planned(table, planner)
        lines.append(_miss_row(planner, rows, "held_out_miss_rate"))
        if planner == CERTIFIED:
            lines.append(_miss_row(f"{planner}, oldest first", rows, THEOREM_COLUMN))
    exhaustive = planned(table, EXHAUSTIVE)
    if len(exhaustive):
        lines.append(
            _miss_row(f"{EXHAUSTIVE} ({len(exhaustive)} instances)", exhaustive, "held_out_miss_rate")
        )
    note = (
        "All replays are fifo unless stated (by their own law those of paced, timed and sharp plans), and kept means "
        "that P99 is within the objective. Held-out traffic follows the traffic planned on, with as many queries and "
        f"other token draws; certificates are for oldest first but those of `{FIFO}`, on the traffic planned on."
    )
    return [*lines, "", note]


def _miss_row(name: str, rows: pd.DataFrame, column: str) -> str:
    misses = rows[column]
    seen = MISSING if column == THEOREM_COLUMN else _share(keeps(rows))
    return _row(
        name,
        seen,
        _share(keeps(rows, column)),
        *(f"{100 * figure:.2f} %" for figure in (misses.median(), misses.quantile(0.9), misses.max())),
    )


def _effort(table: pd.DataFrame) -> list[str]:
    lines = _head(
        "planner", "processor seconds: median", "90th percentile", "worst", "plans replayed: median", "most"
    )
    for planner in [*planners_of(table), EXHAUSTIVE]:
        rows = table[table["planner"] == planner]
        if rows.empty:
            continue
        seconds, calls = rows["cpu_seconds"], rows["estimator_calls"]
        lines.append(
            _row(
                planner,
                *(f"{figure:.3f}" for figure in (seconds.median(), seconds.quantile(0.9), seconds.max())),
                *(f"{figure:,.0f}" for figure in (calls.median(), calls.max())),
            )
        )
    note = (
        f"Time limits: {CERTIFIED_LIMIT_S:g} s to certify ({FIFO_LIMIT_S:g} s of the processor for fifo queues), and "
        f"{REFINED_LIMIT_S:g} s of the processor to refine the certified plan. Several instances ran at a time, and "
        "other work beside; with the baselines goes the certificate of what they found."
    )
    return [*lines, "", note]


def _proofs(table: pd.DataFrame) -> list[str]:
    lines = _head("planner", "optimal", "feasible", "infeasible", "unknown", "median gap of feasible ones")
    for planner in (CERTIFIED, REFINED):
        rows = table[table["planner"] == planner]
        counts = [
            int((rows["status"] == status).sum())
            for status in ("optimal", "feasible", "infeasible", "unknown")
        ]
        open_ = rows[rows["status"] == "feasible"]
        gap = 1.0 - open_["lower_bound_usd_per_hour"] / open_["usd_per_hour"]
        lines.append(_row(planner, *counts, f"{100 * gap.median():.1f} %" if len(open_) else MISSING))
    assumed = table[
        (table["planner"] == REFINED) & table["proof"].fillna("").str.startswith("optimal assuming")
    ]
    lines += ["", f"{len(assumed)} refined plans are called feasible and optimal under an assumption."]
    proven = table[(table["planner"] == REFINED) & (table["status"] == "optimal")]["instance"]
    beside = ratios(table[table["instance"].isin(proven)], REFINED)
    if len(beside):
        lines.append(
            f"On the {len(beside)} instances where the refined plan is proven optimal and greedy has a plan, refined / "
            f"greedy is {geometric_mean(beside):.3f} in geometric mean: no planner can do better there by this replay."
        )
    return lines


def _exhaustive(table: pd.DataFrame) -> list[str]:
    refined, greedy = ratios(table, REFINED, EXHAUSTIVE), ratios(table, GREEDY, EXHAUSTIVE)
    if refined.empty:
        return []
    lines = _head("planner", "instances", "equal to the optimum", "geometric mean", "worst")
    for name, beside in ((GREEDY, greedy), (REFINED, refined)):
        equal = beside <= 1 + EQUAL
        lines.append(
            _row(name, len(beside), _share(equal), f"{geometric_mean(beside):.4f}", f"{beside.max():.4f}")
        )
    missed = refined[refined > 1 + EQUAL]
    if len(missed):
        lines += [
            "",
            "Not found: " + ", ".join(f"{name} ({ratio:.4f})" for name, ratio in missed.items()) + ".",
        ]
    return lines


def _large(table: pd.DataFrame) -> list[str]:
    if table.empty:
        return []
    lines = _head(
        "instance",
        "stages",
        "certified s",
        "status",
        "$/h",
        "greedy s",
        "plans replayed",
        "$/h",
        "half SLO (peak) s",
    )
    for name, rows in table.groupby("instance", sort=False):
        own = {row["planner"]: row for row in rows.to_dict("records")}
        certified, greedy, half = own[CERTIFIED], own[GREEDY], own["half SLO, peak"]
        lines.append(
            _row(
                name,
                certified["stages"],
                f"{certified['seconds']:.3f}",
                certified["status"],
                _dollars(certified["usd_per_hour"]),
                f"{greedy['seconds']:.2f}",
                f"{greedy['estimator_calls']:,}",
                _dollars(greedy["usd_per_hour"]),
                f"{half['seconds']:.3f}",
            )
        )
    return [*lines, "", "Certified: median of three. Nothing else ran beside."]


def _head(*names: str) -> list[str]:
    return [_row(*names), "|---" * len(names) + "|"]


def _row(*cells: object) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _share(values: pd.Series[bool]) -> str:
    return f"{100 * values.mean():.0f} %" if len(values) else MISSING


def _mean(values: pd.Series[float]) -> str:
    return f"{geometric_mean(values):.3f}" if len(values) else MISSING


def _dollars(value: float) -> str:
    return MISSING if pd.isna(value) else f"{value:.2f}"
