"""The rows measured, as Markdown: aims first, then what they rest on, unflattering figures too."""

from __future__ import annotations

import pandas as pd

from benchmarks.reliability.aims import judge_aims
from benchmarks.reliability.figures import frontier, greedy_costs, interval_rows, points
from benchmarks.reliability.planners import OURS
from benchmarks.reliability.traffic import GAMMA, REAL, RECORDED

MISSING = "–"
#: Kinds of traffic, as sections are headed.
KINDS = {
    GAMMA: "Gamma traffic, stationary",
    RECORDED: "Frozen instances on recordings, one half",
    REAL: "Real recordings, parts in a row",
}


def summarise(table: pd.DataFrame, *, cases: int) -> str:
    """Summarise the rows of a run, of so many cases that there are."""
    is_whole = table["case"].nunique() == cases
    sections = [("Aims, and what became of them", judge_aims(table, is_whole=is_whole))]
    for kind, title in KINDS.items():
        rows = table[table["kind"] == kind]
        if len(rows):
            sections.append((f"{title}: cost against the share of tomorrow kept", _points(rows)))
    sections += [("Stated and observed reliability", _intervals(table)), ("Effort", _effort(table, cases))]
    text = "\n\n".join(f"**{title}**\n\n" + "\n".join(lines) for title, lines in sections if lines)
    return f"{_counts(table, cases)}\n\n{text}\n"


def _counts(table: pd.DataFrame, cases: int) -> str:
    ran = table.drop_duplicates("case")
    kinds = ", ".join(f"{count} {kind}" for kind, count in ran.groupby("kind", sort=False).size().items())
    whole = "" if len(ran) == cases else " (a part of them)"
    gamma = table[(table["kind"] == GAMMA) & table["parts"].notna()]
    drawn = f"; gamma cases are judged on {gamma['parts'].median():.0f} parts" if len(gamma) else ""
    commits = ran["commit"].astype(str).str[:7].value_counts()
    apart = ", ".join(f"{count} on {commit}" for commit, count in commits.items())
    mixed = f" Measured on several commits: {apart}." if len(commits) > 1 else ""
    return f"{len(ran)} of {cases} cases ran{whole}: {kinds}{drawn}.{mixed}"


def _points(rows: pd.DataFrame) -> list[str]:
    found = points(rows)
    best = {tuple(row) for _, own in found.groupby("planner") for row in _keys(frontier(own))}
    lines = _head(
        "planner",
        "setting",
        "plans",
        "cost / greedy",
        "parts kept",
        "first part kept",
        "processor time, median",
    )
    for row in found.to_dict("records"):
        mark = " *" if (row["planner"], row["setting"]) in best else ""
        lines.append(
            _row(
                row["planner"],
                f"{row['setting']}{mark}",
                f"{row['plans']} of {row['cases']}",
                MISSING if pd.isna(row["cost"]) else f"{row['cost']:.3f}",
                f"{row['kept']:.1%}",
                f"{row['first_kept']:.1%}",
                f"{row['cpu_seconds']:.2f} s",
            )
        )
    without = rows["case"].nunique() - len(greedy_costs(rows))
    note = (
        "Costs are geometric means beside greedy's plan as it is, where both have one. Shares are over the cases where "
        "greedy has a plan; a case without a plan keeps nothing, nor does one of ours that failed its test. "
        "\\* No other setting of the planner is cheaper and keeps as much."
    )
    lines += ["", note + (f" Greedy has no plan in {without} cases, which are left out." if without else "")]
    return lines


def _keys(found: pd.DataFrame) -> list[list[str]]:
    return found[["planner", "setting"]].to_numpy().tolist()


def _intervals(table: pd.DataFrame) -> list[str]:
    rows = interval_rows(table)
    lines = _head(
        "traffic",
        "confidence",
        "asked",
        "tested",
        "passed",
        "stated interval, median",
        "observed",
        "inside",
        "not contradicted",
        "on parts as fast as tested",
        "observed is below",
    )
    asked = table[table["planner"] == OURS].groupby(["kind", "confidence"]).size()
    for (kind, confidence), own in rows.groupby(["kind", "confidence"], sort=False):
        lines.append(
            _row(
                kind,
                f"{confidence:g}",
                int(asked[(kind, confidence)]),
                len(own),
                int((own["status"] == "feasible").sum()),
                f"{own['low'].median():.1%}–{own['high'].median():.1%}",
                f"{own['observed'].mean():.1%}",
                f"{own['inside'].mean():.1%}",
                f"{own['agrees'].mean():.1%}",
                f"{own['agrees_tested'].mean():.1%}",
                int(own["is_below"].sum()),
            )
        )
    note = (
        "*Observed* is the mean share of a plan's parts that it keeps. *Inside*: it lies in the plan's stated "
        "interval, whose ends are rounded outwards to whole parts; *not contradicted*: its own exact interval (95 %) "
        "meets the stated one, which is all that few parts can tell, and the same on parts whose mean rate is at most "
        "that of the fastest scenario tested (recorded for real recordings): the plan says nothing of faster ones. "
        "Intervals are about scenarios that are made of the sample; parts are tomorrow itself."
    )
    lines += ["", note]
    return lines


def _effort(table: pd.DataFrame, cases: int) -> list[str]:
    each = table.drop_duplicates("case")["case_cpu_seconds"]
    ours = table[table["planner"] == OURS].groupby("confidence")["cpu_seconds"]
    lines = _head("confidence", "processor time of ours, median", "90 %", "longest")
    for confidence, seconds in ours:
        cells = (seconds.median(), seconds.quantile(0.9), seconds.max())
        lines.append(_row(f"{confidence:g}", *(f"{cell:.1f} s" for cell in cells)))
    note = (
        f"All planners and all judging took {each.sum() / 3600:.2f} processor hours for {len(each)} cases, "
        f"{each.mean():.0f} s each; at that rate all {cases} cases take {each.mean() * cases / 3600:.1f} hours."
    )
    lines += ["", note]
    return lines


def _head(*titles: str) -> list[str]:
    return [_row(*titles), "|---" * len(titles) + "|"]


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"
