"""What the runs come to: the error of means and quantiles by system, as others publish theirs."""

from __future__ import annotations

import pandas as pd

from benchmarks.truth.servers import RAY_SLOWDOWN, TRUTH_SYSTEMS

FIGURES = {"mean": "mean", "p50": "P50", "p90": "P90", "p99": "P99"}
#: How late the sends of a run were, in one of a hundred at least.
LATE = "sent_late_p99_ms"
#: As where `mipplan truth` says that a measurement is spoilt.
SPOILT_MS = 10.0
#: A run that is spoilt is driven again, so often at most: by when queries were sent, never by what was found.
ATTEMPTS = 3
_LONG_S = 60.0
_FEW = (
    "A P99 of so few queries is one of its largest latencies, and spoilt runs are in the errors here: no aim is judged "
    "by these."
)
_WHAT = (
    "Measured by predicted, less 1: the median of a system's runs, and in brackets the one furthest from 0. Runs whose "
    f"sends were late (P99 above {SPOILT_MS:g} ms) are spoilt, driven again, {ATTEMPTS} times in all, and in no error "
    "of the long form if they still are. Systems "
    "that take little of a processor ran side by side, those on Ray alone, with "
    f"models that are {RAY_SLOWDOWN} times as slow. Predicted is the replay of the same send times by the system's own "
    "law, with one constant measured on it while idle: what a lone query takes beyond its services, in even shares of "
    "the stages."
)


def errors(table: pd.DataFrame) -> pd.DataFrame:
    """Measured by predicted less 1 for each row and figure."""
    return pd.DataFrame(
        {name: table[f"{name}_measured_ms"] / table[f"{name}_predicted_ms"] - 1.0 for name in FIGURES}
    )


def is_spoilt(table: pd.DataFrame) -> pd.Series[bool]:
    """Whether the sends of each row were late."""
    return table[LATE] > SPOILT_MS


def summarise(table: pd.DataFrame) -> str:
    """A table of systems with the median and the largest error of each figure, then one row per run."""
    spoilt = is_spoilt(table)
    off = errors(table)
    lines: list[str] = []
    is_small = bool((table["duration_s"] < _LONG_S).any())
    if is_small:
        shortest, load = table["duration_s"].min(), table["load_average"].median()
        busy = f"on a busy machine (load average {load:.0f} where there are two cores)"
        lines += [
            f"**Small form**: runs of {shortest:g} s {busy}, to see that everything runs. {_FEW}",
            "",
        ]
    lines += [
        _WHAT,
        "",
        "| system | runs | driven | spoilt | saturated | lost queries | "
        + " | ".join(FIGURES.values())
        + " |",
        "| --- |" + " ---: |" * (5 + len(FIGURES)),
    ]
    for system, rows in table.groupby("system", sort=False):
        good = off.loc[rows.index if is_small else rows.index[~spoilt[rows.index]]]
        saturated = rows["verdict"].str.startswith("saturated").sum()
        lost = (rows["queries"] - rows["answered"]).sum()
        cells = [_error(good[name]) for name in FIGURES]
        counts = (len(rows), rows["attempts"].sum(), spoilt[rows.index].sum(), saturated, lost)
        lines.append(f"| {system} | {' | '.join(map(str, (*counts, *cells)))} |")
    absent = [name for name in TRUTH_SYSTEMS if name not in set(table["system"])]
    if absent:
        lines += ["", f"Not measured: {', '.join(f'`{name}`' for name in absent)}."]
    lines += [
        "",
        "| system | load | traffic | seed | queries | " + " | ".join(FIGURES.values()) + " | verdict |",
    ]
    lines.append("| --- | ---: | --- | ---: | ---: | " + "---: | " * len(FIGURES) + "--- |")
    for index, row in table.iterrows():
        cells = [f"{off.loc[index, name]:+.1%}" for name in FIGURES]
        verdict = f"{row['verdict']}{', spoilt' if spoilt[index] else ''}"
        known = (row["system"], row["load"], row["traffic"], row["seed"], row["queries"])
        lines.append(f"| {' | '.join(map(str, (*known, *cells, verdict)))} |")
    return "\n".join(lines)


def _error(values: pd.Series[float]) -> str:
    if values.empty:
        return ""
    return f"{values.median():+.1%} ({values[values.abs().idxmax()]:+.1%})"
