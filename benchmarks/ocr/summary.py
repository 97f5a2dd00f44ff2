"""What the runs of the real pipeline come to: plans, and errors of the predictions."""

from __future__ import annotations

import pandas as pd

from benchmarks.truth.summary import FIGURES, SPOILT_MS, errors


def summarise(rows: pd.DataFrame, plans: pd.DataFrame) -> str:
    """Tables of the plans, and of the errors of every run."""
    lines = [
        "| system | pages/s | objective | stage | batch cap | replicas | ℓ(1) | ℓ(cap) |",
        "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for _, plan in plans.iterrows():
        cells = [
            plan["system"],
            f"{plan['rate_rps']:.2f}",
            f"{plan['slo_s']:.2f} s",
            plan["stage"],
            plan["batch"],
            plan["replicas"],
            f"{plan['one_ms']:.1f} ms",
            f"{plan['full_ms']:.1f} ms",
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    off, slo_s = errors(rows), plans.groupby("system")["slo_s"].first()
    heads = [
        "system",
        "traffic",
        "seed",
        "prediction",
        "queries",
        *FIGURES.values(),
        "measured P99",
        "terms that are off",
    ]
    lines += [
        "",
        "Measured by predicted, less 1; bold: beyond the objective. Terms off the profiles, where stages are logged:",
        "",
        f"| {' | '.join(heads)} |",
        "| --- | --- | ---: | --- | ---: | " + "---: | " * (len(FIGURES) + 1) + "--- |",
    ]
    for index, row in rows.iterrows():
        cells = [row["system"], row["traffic"], row["seed"], row["prediction"], row["queries"]]
        cells += [f"{off.loc[index, name]:+.1%}" for name in FIGURES]
        spoilt = ", spoilt: sent late" if row["sent_late_p99_ms"] > SPOILT_MS else ""
        terms = "" if pd.isna(row["terms"]) or row["prediction"] != "profile" else row["terms"]
        p99 = f"{row['p99_measured_ms']:,.0f} ms"
        if row["p99_measured_ms"] > 1e3 * slo_s[row["system"]]:
            p99 = f"**{p99}**"
        lines.append(f"| {' | '.join(map(str, cells))} | {p99} | {terms}{spoilt} |")
    lost = int((rows["queries"] - rows["answered"]).sum())
    return "\n".join([*lines, "", f"Queries without an answer: {lost}."])
