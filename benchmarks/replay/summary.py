"""The rows measured, as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from benchmarks.replay.aims import (
    bytes_per_visit,
    judge_aims,
    queries_per_s,
    select,
    served_only,
    visits_per_s,
)
from benchmarks.replay.cases import OURS, PEERS, RATE_RPS, SINGLE_TOKEN_RPS

NAMES = {"simpy": "SimPy", "ciw": "Ciw"}
HEADS = {"rate_rps": "rate (queries/s)", "plans_are": "plans are"}
MISSING = "–"
#: Of the reference chain, on the machine where the aims were set.
HEAP_WHERE_AIMED = "1.0–1.2"
Cells = Callable[[pd.DataFrame], "pd.Series[str]"]


def summarise(table: pd.DataFrame, cases: int) -> str:
    """Aims, then a table for each question of which anything was measured, of so many cases."""
    queries = select(table, {"group": "queries"})
    rates = pd.concat(
        [queries[queries["queries"] == queries["queries"].min()], select(table, {"group": "rate"})]
    )
    parts = [
        ("Aims and what became of them", [*judge_aims(table), "", _measure_of_machine(queries)]),
        (
            f"Millions of queries per second, {RATE_RPS:g} queries/s arriving: whole call / tokens drawn before",
            wide(queries, ["arrivals", "queries", "discipline"], _pairs(queries_per_s), _ratios),
        ),
        (
            "The same by rate of arrivals, fewest queries, fifo",
            wide(
                select(rates, {"discipline": "fifo"}),
                ["arrivals", "rate_rps"],
                _pairs(queries_per_s),
                _ratios,
            ),
        ),
        (
            "Seconds by number of stages, whole call",
            wide(select(table, {"group": "stages"}), ["queries", "stages"], _seconds),
        ),
        ("Many plans: seconds (millions of tokens per second and stage), whole call", _plans(table)),
        (
            f"Single tokens, {SINGLE_TOKEN_RPS:g} queries/s: millions of tokens per second and stage, as above",
            wide(
                select(table, {"group": "single token"}),
                ["arrivals", "queries"],
                _pairs(visits_per_s),
                _ratios,
            ),
        ),
        (
            "Peak memory above that before the call, all times written out, bytes per token and stage",
            wide(
                queries[queries["engine"].isin(OURS) & (queries["queries"] >= queries["queries"].max() / 10)],
                ["arrivals", "queries", "discipline"],
                lambda rows: bytes_per_visit(rows).map("{:.0f}".format),
            ),
        ),
        ("Streams", _streams(select(table, {"group": "stream"}))),
        ("Seconds grow as this power of the number of …", _growth(table)),
        ("Seconds of the first call in a process, 1,000 queries", _first_calls(queries)),
    ]
    text = "\n\n".join(f"**{title}**\n\n" + "\n".join(lines) for title, lines in parts if lines)
    done = (
        f"{len(table)} cases"
        if len(table) == cases
        else f"{len(table)} of {cases} cases (the others are to follow)"
    )
    repeats = f"{table['repeats'].min()} to {table['repeats'].max()}"
    beyond = table["wall_s"] / table["seconds"]
    return (
        f"{text}\n\n{done}, one process each; medians of {repeats} repetitions. Seconds are of processor "
        f"time; by the clock the calls took {beyond.median():.2f} times as long in the median, and {beyond.max():.2g} "
        "times at most, as the machine had other work to do.\n"
    )


def _measure_of_machine(queries: pd.DataFrame) -> str:
    """Say how fast the heap event loop is, here and where the aims come from."""
    heap = select(queries, {"engine": "heap", "arrivals": "poisson", "queries": "min"})
    return (
        f"Aims come from a machine on which the heap event loop replays {HEAP_WHERE_AIMED} M queries/s of Poisson "
        f"arrivals; here it replayed {queries_per_s(heap).median():.3g} M."
    )


def wide(
    rows: pd.DataFrame,
    index: list[str],
    cells: Cells,
    more: Callable[[pd.DataFrame], dict[str, str]] | None = None,
) -> list[str]:
    """Table with a row for each combination of `index` and a column for each engine, and `more` columns."""
    engines = [engine for engine in (*OURS, *PEERS) if engine in set(rows["engine"])]
    lines: list[str] = []
    for values, own in rows.groupby(index, sort=False):
        written = dict(zip(own["engine"], cells(own), strict=True))
        beyond = {} if more is None else more(own)
        if not lines:
            heads = [
                *(HEADS.get(name, name) for name in index),
                *(NAMES.get(engine, engine) for engine in engines),
                *beyond,
            ]
            lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        shown = [
            *map(_shown, values),
            *(written.get(engine, MISSING) for engine in engines),
            *beyond.values(),
        ]
        lines.append(f"| {' | '.join(shown)} |")
    return lines


def _pairs(figures: Callable[[pd.DataFrame], pd.Series[float]]) -> Cells:
    """Figure of the whole call, and with tokens drawn before where that was timed."""

    def cells(rows: pd.DataFrame) -> pd.Series[str]:
        whole, served = (figures(own).map("{:.3g}".format) for own in (rows, served_only(rows)))
        return whole.where(rows["served_s"].isna(), whole + " / " + served)

    return cells


def _seconds(rows: pd.DataFrame) -> pd.Series[str]:
    return rows["seconds"].map("{:.3g}".format)


def _ratios(rows: pd.DataFrame) -> dict[str, str]:
    """How many times as fast our two fast engines are as the peers, whole calls."""
    seconds = dict(zip(rows["engine"], rows["seconds"], strict=True))
    # Ciw is of no use but for single tokens.
    peers = PEERS if bool(rows["single_token"].iloc[0]) else PEERS[:-1]
    return {
        f"{ours} ÷ {NAMES.get(peer, peer)}": (
            f"{seconds[peer] / seconds[ours]:.3g}" if {ours, peer} <= seconds.keys() else MISSING
        )
        for ours in OURS[:2]
        for peer in peers
    }


def _plans(table: pd.DataFrame) -> list[str]:
    rows = select(table, {"group": "plans"})
    asked = rows["plans"] * rows["stages"]
    rows = rows.assign(shared=(1 - rows["stage_replays"] / asked).where(rows["engine"].isin(OURS)))
    shared = rows.groupby(["plans_are", "plans"])["shared"].transform("max")
    rows = rows.assign(**{"replays of stages shared": shared.map("{:.0%}".format)})

    def cells(own: pd.DataFrame) -> pd.Series[str]:
        # Peers share nothing: their speed is that of the same answers.
        return _seconds(own) + " (" + visits_per_s(own).map("{:.3g}".format) + ")"

    return wide(rows, ["arrivals", "queries", "plans_are", "plans", "replays of stages shared"], cells)


def _streams(rows: pd.DataFrame) -> list[str]:
    if rows.empty:
        return []
    lines = [
        "| engine | arrivals | source | queries | seconds | of which drawing them | M queries/s | peak MiB |",
        "|---" * 8 + "|",
    ]
    for _, row in rows.iterrows():
        drawing = f"{row.drawing_s:.1f}" if row.source == "generator" else MISSING
        lines.append(
            f"| {row.engine} | {row.arrivals} | {row.source} | {row.queries:,} | {row.seconds:.1f} | {drawing} "
            f"| {row.queries / row.seconds / 1e6:.3g} | {row.peak_mib:.0f} |"
        )
    return lines


def _growth(table: pd.DataFrame) -> list[str]:
    questions = {
        "queries": {"group": "queries", "discipline": "fifo", "arrivals": "poisson"},
        "stages": {"group": "stages"},
        "plans": {"group": "plans", "plans_are": "apart", "arrivals": "poisson"},
    }
    engines = [
        engine for engine in (*OURS, *PEERS) if engine in set(select(table, {"group": "queries"})["engine"])
    ]
    lines = [f"| engine | {' | '.join(questions)} |", "|---" * (len(questions) + 1) + "|"]
    for engine in engines:
        powers = [
            _power(select(table, {**rows, "engine": engine}), column) for column, rows in questions.items()
        ]
        lines.append(f"| {NAMES.get(engine, engine)} | {' | '.join(powers)} |")
    return lines


def _power(rows: pd.DataFrame, column: str) -> str:
    """Slope of log(seconds) over log(column)."""
    if rows[column].nunique() < 2:
        return MISSING
    slope = np.polyfit(np.log(rows[column]), np.log(rows["seconds"]), 1)[0]
    return f"{slope:.2f} ({rows[column].min():,}–{rows[column].max():,})"


def _first_calls(rows: pd.DataFrame) -> list[str]:
    medians = rows.groupby("engine", sort=False)["first_call_s"].median()
    heads = [NAMES.get(engine, engine) for engine in medians.index]
    return [
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
        f"| {' | '.join(f'{seconds:.3f}' for seconds in medians)} |",
    ]


def _shown(value: object) -> str:
    return f"{value:,.0f}" if isinstance(value, int | float | np.number) else str(value)
