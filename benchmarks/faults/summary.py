"""What became of the queries, fault by fault, and whether what was promised was kept."""

from __future__ import annotations

import pandas as pd

_HEADS = (
    "traffic",
    "fault",
    "sent",
    "served",
    "answered with an error",
    "unanswered",
    "served without guarantee",
    "of these over their certificate",
    "guaranteed, and over it",
    "nearest to it",
)


def summarise(rows: pd.DataFrame) -> str:
    """One row per fault, and the verdicts."""
    lines = [f"| {' | '.join(_HEADS)} |", "| --- | --- |" + " ---: |" * (len(_HEADS) - 2)]
    for _, row in rows.iterrows():
        cells = [row[name] for name in ("traffic", "fault", "sent", "served", "errors", "unanswered", "void")]
        cells += [row["over"] - row["over_though_guaranteed"], row["over_though_guaranteed"]]
        lines.append(f"| {' | '.join(map(str, cells))} | {row['largest_share_of_bound']:.2f} |")
    broken, silent = int(rows["over_though_guaranteed"].sum()), int(rows["unanswered"].sum())
    served, sent = int(rows["served"].sum()), int(rows["sent"].sum())
    first = f"no query that has its guarantee exceeds its certificate | {broken} of {served:,}"
    second = f"every query gets an answer, if only an error | {silent} of {sent:,} without"
    lines += [
        "",
        "| aim | found | |",
        "| --- | --- | --- |",
        f"| {first} | {_verdict(broken)} |",
        f"| {second} | {_verdict(silent)} |",
    ]
    return "\n".join(lines)


def _verdict(faults: int) -> str:
    return "**missed**" if faults else "kept"
