"""What became of the aims, and what they rest on, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from benchmarks.race.entrants import DELAY_S, HINDSIGHT, OURS, PERIOD_S
from benchmarks.race.frontier import (
    MISS_RATES,
    PAIR,
    Loss,
    cost_at,
    family_of,
    frontier,
    losses,
    lost_pairs,
    points,
)
from benchmarks.race.traffic import FINAL

#: The aims: of how many pairs, and beside hindsight at the miss rate of InferLine's pair as published.
PAIR_SHARE, HINDSIGHT_FACTOR = 0.8, 1.5
#: Miss rates of the table.
SHOWN = (1e-4, 1e-3, 0.003, 0.01, 0.03, 0.05)
AS_PUBLISHED = ("inferline, inferline", "(as published)")


def parts_of(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Traffic that was drawn once everything was frozen, and real days."""
    final = table["trace"].isin([f"draw {draw}" for draw in FINAL])
    found = {"final draws": table[final], "real days": table[~final]}
    return {name: rows for name, rows in found.items() if len(rows)}


def summarise(table: pd.DataFrame) -> str:
    """Write the summary."""
    sections = []
    for name, rows in parts_of(table).items():
        pairs = rows[PAIR].drop_duplicates()
        title = f"## {name.capitalize()}: {len(pairs)} pairs of pipeline and trace"
        sections.append("\n\n".join([title, _aims(rows, len(pairs)), _costs(rows), _frontier(rows)]))
    note = (
        f"Control every {PERIOD_S:g} s; ordered replicas serve {DELAY_S:g} s later. Costs are totals in dollars. At a "
        "miss rate the cheapest setting that misses no more counts, chosen knowing the results, of every family alike; "
        "nothing is assumed between settings. Ours may run on either planner's plan."
    )
    return "\n\n".join([note, *sections]) + "\n"


def _aims(rows: pd.DataFrame, pairs: int) -> str:
    lost, by_pair = losses(rows), lost_pairs(rows)
    kept = pairs - len(by_pair)
    lines = ["| aim | found | outcome |", "|---|---|---|"]
    worst = "" if not lost else _worst(max(lost, key=lambda loss: loss.ratio))
    places = "nowhere above" if not lost else f"above at {len(lost)} places, worst {worst}"
    lines.append(
        f"| in total below or left of every rival, 0.01 % to 5 % | {places} | {'missed' if lost else 'kept'} |"
    )
    by_rate = [
        pairs - sum(rate in lost_at for lost_at in map(_rates, by_pair.values())) for rate in MISS_RATES
    ]
    for wording, least, found in (
        ("at each of these miss rates", min(by_rate), f"{min(by_rate)} to {max(by_rate)}"),
        ("at all of them", kept, str(kept)),
    ):
        outcome = "kept" if least >= PAIR_SHARE * pairs else "missed"
        lines.append(
            f"| the same {wording} on ≥ {PAIR_SHARE:.0%} of the pairs | {found} of {pairs} | {outcome} |"
        )
    lines.append(_beside_hindsight(rows))
    named = [
        f"- {pipeline}, {trace}: {_worst(max(found, key=lambda loss: loss.ratio))}"
        for (pipeline, trace), found in by_pair.items()
    ]
    return "\n".join(
        [
            *lines,
            *(["", "Pairs on which a rival does it for less, and where most:", "", *named] if named else []),
        ]
    )


def _rates(lost: Iterable[Loss]) -> set[float]:
    """Miss rates at which a pair is lost to anybody."""
    return {loss.miss_rate for loss in lost}


def _worst(loss: Loss) -> str:
    more = f"ours costs {loss.ratio:.2f} times as much"
    if loss.ratio == float("inf"):
        more = "no setting of ours misses so little"
    return f"{loss.family} at {loss.miss_rate:.2%}: {more}"


def _beside_hindsight(rows: pd.DataFrame) -> str:
    found = points(rows)
    kind = found["family"].map(family_of)
    published = found[(found["family"] == AS_PUBLISHED[0]) & found["setting"].str.endswith(AS_PUBLISHED[1])]
    aim = f"| cost ≤ {HINDSIGHT_FACTOR:g} times hindsight at the miss rate of InferLine's pair as published"
    if published.empty:
        return f"{aim} | InferLine's planner has no plan on part of it | not judged |"
    miss_rate = float(published["miss_rate"].iloc[0])
    # Hindsight on a plan with which it misses more is no measure.
    ratio = cost_at(found[kind == OURS], miss_rate) / cost_at(found[kind == HINDSIGHT], miss_rate)
    outcome = "kept" if ratio <= HINDSIGHT_FACTOR else "missed"
    return f"{aim} ({miss_rate:.2%}) | {ratio:.2f} | {outcome} |"


def _costs(rows: pd.DataFrame) -> str:
    found = points(rows)
    heads = [f"≤ {rate:.2%}" for rate in SHOWN]
    lines = [f"| family | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for family, own in found.groupby("family", sort=False):
        costs = [cost_at(own, rate) for rate in SHOWN]
        cells = ["–" if cost == float("inf") else f"{cost:.2f}" for cost in costs]
        lines.append(f"| {family} | {' | '.join(cells)} |")
    return "Cost by the misses that are allowed:\n\n" + "\n".join(lines)


def _frontier(rows: pd.DataFrame) -> str:
    lines = ["| family | setting | $ | missed |", "|---|---|---|---|"]
    for family, own in points(rows).groupby("family", sort=False):
        best = frontier(own)
        columns = (best[name].tolist() for name in ("setting", "usd", "miss_rate"))
        for setting, usd, miss_rate in zip(*columns, strict=True):
            lines.append(f"| {family} | {setting or '–'} | {usd:.2f} | {miss_rate:.3%} |")
    return "Settings that no other setting of the family is better than in both:\n\n" + "\n".join(lines)
