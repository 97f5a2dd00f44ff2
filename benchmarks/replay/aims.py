"""The aims of the replayer, and what became of them by the rows measured."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

Figures = Callable[[pd.DataFrame], "pd.Series[float]"]


def queries_per_s(table: pd.DataFrame) -> pd.Series[float]:
    """Millions, from a whole call."""
    return table["queries"] / table["seconds"] / 1e6


def visits_per_s(table: pd.DataFrame) -> pd.Series[float]:
    """Millions of tokens served per second, each counted at every stage and under every plan where it is served."""
    return table["visits"] / table["seconds"] / 1e6


def served_only(table: pd.DataFrame) -> pd.DataFrame:
    """The same rows, timed with the tokens drawn before."""
    return table.assign(seconds=table["served_s"])


def written_out(table: pd.DataFrame) -> pd.DataFrame:
    """The same rows, timed with arrival, dispatch and exit of every token at every stage written out as well."""
    return table.assign(seconds=table["written_s"])


def bytes_per_visit(table: pd.DataFrame) -> pd.Series[float]:
    """Peak memory above that before the call, per token and stage, with everything written out."""
    return (table["written_peak_mib"] - table["before_mib"]) * 2**20 / table["visits"]


def peak_mib(table: pd.DataFrame) -> pd.Series[float]:
    """Peak memory of the process, imports included."""
    return table["peak_mib"]


@dataclass(frozen=True)
class Aim:
    """A figure to be reached by all rows that are concerned.

    Attributes
    ----------
    text, unit : str
        ``{queries}`` and ``{plans}`` in the text are filled in with the most of the rows.
    rows : mapping
        Columns and the values they must have; ``min`` and ``max`` stand for those of the rows left.
    figures : callable
        The figure of each row.
    least, most : float
        What it must be at least or at most.
    timed : bool
        Whether it rests on a time, so that it differs where tokens are drawn before.
    """

    text: str
    unit: str
    rows: Mapping[str, Any]
    figures: Figures
    least: float = 0.0
    most: float = float("inf")
    timed: bool = True

    def judge(self, table: pd.DataFrame) -> str:
        """Write the row of a Markdown table."""
        concerned = select(table, self.rows)
        if concerned.empty:
            return f"| {re.sub('{[^}]*}', '…', self.text)} | | | | not measured yet |"
        text = self.text.format(queries=concerned["queries"].max(), plans=concerned["plans"].max())
        whole = self.figures(concerned)
        if not self.timed:
            return f"| {text} | {_span(whole)} {self.unit} | | | {self._outcome(whole)} |"
        served, written = (self.figures(timed(concerned)) for timed in (served_only, written_out))
        outcome = self._outcome(whole)
        if outcome != "kept" and self._outcome(served) == "kept":
            outcome += "; kept with tokens drawn before"
        spans = " | ".join(f"{_span(figures)} {self.unit}" for figures in (whole, served, written))
        return f"| {text} | {spans} | {outcome} |"

    def _outcome(self, figures: pd.Series[float]) -> str:
        reached = figures.between(self.least, self.most)
        if reached.all():
            return "kept"
        worst = figures.min() / self.least if self.least else figures.max() / self.most
        return (
            f"missed in {int((~reached).sum())} of {reached.size} cases, at worst {worst:.2g} times the aim"
        )


#: Those concerned are of both disciplines and both kinds of arrivals, as far as they were measured.
AIMS = (
    Aim(
        "numba: ≥ 20 M queries/s at {queries:,} queries",
        "M/s",
        {"group": "queries", "engine": "numba", "queries": "min"},
        queries_per_s,
        least=20,
    ),
    Aim(
        "numba: ≥ 10 M queries/s at {queries:,}",
        "M/s",
        {"group": "queries", "engine": "numba", "queries": "max"},
        queries_per_s,
        least=10,
    ),
    Aim(
        "numpy: ≥ 2 M queries/s, one plan, both traces, all sizes",
        "M/s",
        {"group": "queries", "engine": "numpy"},
        queries_per_s,
        least=2,
    ),
    Aim(
        "numpy: ≥ 10 M tokens/s per stage at {plans:,} plans, nothing shared",
        "M/s",
        {"group": "plans", "engine": "numpy", "plans_are": "apart", "plans": "max"},
        visits_per_s,
        least=10,
    ),
    Aim(
        "numpy: ≥ 80 M tokens/s in closed form",
        "M/s",
        {"group": "single token", "engine": "numpy"},
        visits_per_s,
        least=80,
    ),
    Aim(
        "numba: ≤ 60 bytes per token and stage at {queries:,} queries",
        "bytes",
        {"group": "queries", "engine": "numba", "queries": "max"},
        bytes_per_visit,
        most=60,
        timed=False,
    ),
    Aim(
        "numpy: ≤ 60 bytes per token and stage at {queries:,} queries",
        "bytes",
        {"group": "queries", "engine": "numpy", "queries": "max"},
        bytes_per_visit,
        most=60,
        timed=False,
    ),
    Aim(
        "stream of {queries:,} arrivals within 500 MiB",
        "MiB",
        {"group": "stream", "queries": "max"},
        peak_mib,
        most=500,
        timed=False,
    ),
)


def select(table: pd.DataFrame, rows: Mapping[str, Any]) -> pd.DataFrame:
    """Rows with these values, narrowed one column after the other."""
    for column, wanted in rows.items():
        if wanted in ("min", "max"):
            wanted = table[column].agg(wanted)
        table = table[table[column] == wanted]
    return table


def judge_aims(table: pd.DataFrame) -> list[str]:
    """Lines of a Markdown table."""
    heads = ("aim", "whole call", "tokens drawn before", "all times written out", "outcome")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    return lines + [aim.judge(table) for aim in AIMS]


def _span(figures: pd.Series[float]) -> str:
    least, most = (f"{figure:.3g}" for figure in (figures.min(), figures.max()))
    return least if least == most else f"{least}–{most}"
