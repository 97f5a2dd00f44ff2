"""What measuring the models shows: can it be reproduced, and does it notice a loaded machine."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

REPEATED, TRIALS = "repeated.csv", "trials.csv"
#: What was asked for: how far a second P50 and P99 may be off, and shares of trials that are flagged.
P50_WITHIN, P99_WITHIN, NOTICED, MISTAKEN = 0.10, 0.20, 0.95, 0.05
#: A measurement is flagged if it says nothing, or leaves out a tenth of its runs: then ``profiles --check`` would tell.
FLAGGED_FROM = 0.1


def differences(rows: pd.DataFrame) -> pd.DataFrame:
    """By how much the second measurement of each batch size is off, as shares of the first."""
    return pd.DataFrame(
        {
            "model": rows["model"],
            "batch": rows["batch"],
            "p50": rows["second_p50_ms"] / rows["first_p50_ms"] - 1.0,
            "p99": rows["second_p99_ms"] / rows["first_p99_ms"] - 1.0,
        }
    )


def flagged(trials: pd.DataFrame) -> pd.Series:
    """Whether other load was told, of each trial."""
    return (trials["runs"] == 0) | (trials["disturbed"] >= FLAGGED_FROM * trials["runs"])


def summarise(folder: Path) -> str:
    """Say what was asked for, what was found, and whether it is enough."""
    lines = ["| aim | found | |", "|---|---|---|"]
    parts: list[str] = []
    if (folder / REPEATED).exists():
        rows = pd.read_csv(folder / REPEATED)
        off = differences(rows)
        for name, most in (("p50", P50_WITHIN), ("p99", P99_WITHIN)):
            kept = off[name].abs() <= most  # what was not measured twice is not reproduced
            worst = off.loc[off[name].abs().idxmax()]
            where = f"{worst['model']}, batch {worst['batch']}: {worst[name]:+.1%}"
            found = f"{int(kept.sum())} of {len(off)}; worst {where}"
            aim = f"a second run reproduces {name.upper()} within {most:.0%}, every model and batch size"
            lines.append(f"| {aim} | {found} | {_verdict(bool(kept.all()))} |")
        parts += ["", "Both measurements, milliseconds:", "", *_repeated(rows, off)]
    if (folder / TRIALS).exists():
        trials = pd.read_csv(folder / TRIALS, keep_default_na=False)
        noticed = trials.assign(flagged=flagged(trials))
        idle, loaded = noticed[noticed["load"] == "none"], noticed[noticed["load"] != "none"]
        for told, of, aim, is_kept in (
            ("a loaded machine is noticed", loaded, f"≥ {NOTICED:.0%}", loaded["flagged"].mean() >= NOTICED),
            ("an idle one is flagged", idle, f"≤ {MISTAKEN:.0%}", idle["flagged"].mean() <= MISTAKEN),
        ):
            found = f"{int(of['flagged'].sum())} of {len(of)} trials"
            lines.append(f"| {told} in {aim} of trials | {found} | {_verdict(bool(is_kept))} |")
        by_load = noticed.groupby("load")["flagged"].agg(["sum", "size"])
        parts += ["", "Trials of a second, flagged by load:", "", "| load | flagged | of |", "|---|---|---|"]
        parts += [f"| {load} | {row['sum']} | {row['size']} |" for load, row in by_load.iterrows()]
    return "\n".join([*lines, *parts]) + "\n"


def _repeated(rows: pd.DataFrame, off: pd.DataFrame) -> list[str]:
    table = [
        "| model | batch | P50 | again | off | P99 | again | off | runs |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row, change in zip(rows.itertuples(), off.itertuples(), strict=True):
        p50 = f"{row.first_p50_ms:.4g} | {row.second_p50_ms:.4g} | {change.p50:+.1%}"
        p99 = f"{row.first_p99_ms:.4g} | {row.second_p99_ms:.4g} | {change.p99:+.1%}"
        table.append(f"| {row.model} | {row.batch} | {p50} | {p99} | {row.first_runs}, {row.second_runs} |")
    return table


def _verdict(is_kept: bool) -> str:
    return "kept" if is_kept else "**missed**"
