"""What was measured, as Markdown."""

from __future__ import annotations

import pandas as pd

#: Case, most milliseconds in the median.
AIMS = (
    ("10 stages", 1.0),
    ("10 stages, fan-out", 1.0),
    ("200 stages, ten pipelines", 20.0),
    ("200 stages, ten pipelines, scarce devices", 20.0),
    ("200 stages, ten pipelines, fan-out", 20.0),
)
WHOLE = "mipplan retune"


def summarise(table: pd.DataFrame) -> str:
    """All rows, then the aims."""
    lines = ["| case | way | median ms | P90 | P99 | most | steps |", "|---|---|---|---|---|---|---|"]
    for row in table.itertuples(index=False):
        figures = " | ".join(f"{ms:.3f}" for ms in (row.median_ms, row.p90_ms, row.p99_ms, row.most_ms))
        lines.append(f"| {row.case} | {row.way} | {figures} | {row.solves} |")
    whole = table[table["way"] == WHOLE].set_index("case")
    lines += ["", "| aim | measured | P99 | |", "|---|---|---|---|"]
    for case, limit_ms in AIMS:
        if case in whole.index:
            row = whole.loc[case]
            median = float(row["median_ms"])
            verdict = "kept" if median <= limit_ms else f"missed ({median / limit_ms:.1f} times as long)"
            measured = f"{median:.3f} ms | {float(row['p99_ms']):.3f} ms"
            lines.append(f"| {case}: median {limit_ms:g} ms | {measured} | {verdict} |")
    built = {case: int(row["models_built"]) for case, row in whole.iterrows()}
    short = {
        case: int(row["steps_short_of_devices"])
        for case, row in whole.iterrows()
        if row["steps_short_of_devices"]
    }
    lines.append(f"\nModels built from scratch while retuning: {_listed(built)}.")
    if short:
        lines.append(f"Steps in which devices did not suffice for all traffic: {_listed(short)}.")
    return "\n".join(lines) + "\n"


def _listed(counts: dict[str, int]) -> str:
    return "; ".join(f"{count} ({case})" for case, count in counts.items())
