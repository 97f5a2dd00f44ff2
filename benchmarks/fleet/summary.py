"""What was measured of planning fleets, as Markdown: a row per size, and the aim for 1,000 pipelines."""

from __future__ import annotations

import pandas as pd

from benchmarks.fleet.instances import LIMITS, WORKERS

#: What counts as good: the aim for 1,000 pipelines.
GAP, AIM_S, AIM_MIB = 0.01, 120.0, 2048


def summarise(table: pd.DataFrame) -> str:
    """One row per size, and the aim against what was measured."""
    heads = ("pipelines", "queries", "total s", "s to 1 %", "ms per pipeline", "rounds", "plans found")
    heads += ("binding limits", "$/h", "proven gap", "peak MiB")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in table.to_dict(orient="records"):
        reached = "" if pd.isna(row["to_gap_s"]) else f"{row['to_gap_s']:.1f}"
        lines.append(
            f"| {row['pipelines']:,} | {row['queries']:,} | {row['seconds']:.1f} | {reached} | "
            f"{1e3 * row['seconds'] / row['pipelines']:.0f} | {row['rounds']} | {row['columns']:,} | "
            f"{row['binding']} | {row['usd_per_hour']:,.1f} | {row['gap']:.4%} | {row['peak_mib']:.0f} |"
        )
    shared = ", ".join(f"{share:g} {name}" for name, share in LIMITS.items())
    lines += [
        "",
        f"Five stages each, {shared} per pipeline, {WORKERS} workers, each size once and in processes of its own.",
        "Peak memory is that of the main process plus the largest worker's for each worker.",
    ]
    large = table[table["pipelines"] == 1000]
    if not large.empty:
        row = large.iloc[0]
        lines += ["", _verdict(row)]
    return "\n".join(lines) + "\n"


def _verdict(row: pd.Series) -> str:
    reached = row["to_gap_s"]
    quick_enough = not pd.isna(reached) and reached <= AIM_S
    kept = quick_enough and row["gap"] <= GAP and row["peak_mib"] <= AIM_MIB
    shown = "never" if pd.isna(reached) else f"{reached:.1f} s"
    return (
        f"Aim for 1,000 pipelines: a proven gap of at most {GAP:.0%} within {AIM_S:.0f} s and {AIM_MIB} MiB. "
        f"Measured: {shown}, {row['peak_mib']:.0f} MiB: {'kept' if kept else 'missed'}."
    )
