"""The aims of the closed-loop benchmark and its tables, as Markdown."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from benchmarks.tuner.comparing import (
    COST_FACTOR,
    KEYS,
    MISS_SHARE,
    TRACE_SHARE,
    beats_greedy,
    beats_greedy_by_trace,
    beside_ours,
    keeps_share,
    tuned,
    with_hindsight,
)
from benchmarks.tuner.contenders import (
    DELAY_S,
    GREEDY,
    HINDSIGHT,
    HPA_TARGETS,
    LEAN,
    OURS,
    PERIOD_S,
    RATES_RPS,
    RAY_TARGETS,
)
from benchmarks.tuner.traffic import FRESH, SCENARIOS, SEEN

FAMILIES = (OURS, LEAN, GREEDY, "hpa", "ray", "ray-tuned", "static", HINDSIGHT)
#: Whose aims are judged, and on which traffic.
JUDGED = ((OURS, SEEN), (OURS, FRESH), (LEAN, SEEN), (LEAN, FRESH))


def summarise(table: pd.DataFrame) -> str:
    """Write the summary."""
    runs = with_hindsight(table)
    parts = [
        _aims(runs),
        "## Policies, over all traces and pipelines\n\n" + _policies(runs),
        "## Trace by trace, over all pipelines\n\n" + _traces(runs),
        "## Pipeline by pipeline\n\n" + _pipelines(runs),
        "## Where ours loses\n\n" + _losses(runs),
    ]
    return "\n\n".join(parts) + "\n"


def _aims(runs: pd.DataFrame) -> str:
    judged = [
        (ours, draw, runs[runs["draw"] == draw])
        for ours, draw in JUDGED
        if ((runs["draw"] == draw) & (runs["policy"] == ours)).any()
    ]
    heads = [f"`{ours}`{', fresh draws' if draw == FRESH else ''}" for ours, draw, _ in judged]
    aims: list[tuple[str, Callable[[pd.DataFrame, str], str]]] = [
        (
            f"misses beyond hindsight at most {MISS_SHARE:g} of {family}'s, at no more cost",
            partial(_beside, family=family),
        )
        for family in ("hpa", "ray", "ray-tuned")
    ]
    aims += [
        (f"no more misses than {GREEDY}, at lower cost, on ≥ {TRACE_SHARE:.0%}", _beside_greedy),
        (f"cost within {COST_FACTOR - 1:.0%} of hindsight", _beside_hindsight),
    ]
    lines = [f"| aim | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
    lines += [
        f"| {aim} | {' | '.join(reached(part, ours) for ours, _, part in judged)} |" for aim, reached in aims
    ]
    bound = runs[runs["policy"] == HINDSIGHT]
    note = (
        f"{runs['pipeline'].nunique()} pipelines, {runs['trace'].nunique()} traces. *Fresh draws* of the made ones, "
        "samples and plans too, are others than ours was designed with. *Yes* only where every "
        "combination of pipeline and trace reaches the aim, or as large a share of them as the aim says; how many do "
        "is said first. "
        "`hpa` and `ray-tuned` are taken, in each pipeline, at the setting with the fewest misses among those "
        "that cost no more than ours in total, and at the cheapest if all cost more. Hindsight (`oracle`) is the "
        "cheapest schedule found by somebody who knows the trace; a bound from below on schedules with nobody late "
        f"is cheaper by a factor of {_mean(bound['usd'] / bound['least_usd']):.3f} (geometric mean)."
    )
    return "\n".join([*lines, "", note])


def _beside(runs: pd.DataFrame, ours: str, *, family: str) -> str:
    rows = tuned(runs, family, ours)
    both = beside_ours(runs, rows, ours)
    misses = both["excess_ours"].sum() / max(1, both["excess"].sum())
    cost = both["usd_ours"].sum() / both["usd"].sum()
    kept = keeps_share(runs, rows, ours)
    reached = "reached" if misses <= MISS_SHARE and cost <= 1 else "missed"
    total = f"in total {reached}: {misses:.3f} of its misses at {cost:.2f} of its cost"
    if kept.all():
        return f"yes: {_share(kept)}; {total}"
    # A row misses by its misses, or by its cost.
    by_misses = both["excess_ours"] / (MISS_SHARE * both["excess"]).clip(lower=0.1)
    worst = both.loc[by_misses.clip(lower=both["usd_ours"] / both["usd"])[~kept].idxmax()]
    shown = (
        f"{worst['excess_ours']:.0f} misses beside {worst['excess']:.0f}, "
        f"{worst['usd_ours'] / worst['usd']:.2f} of its cost"
    )
    return f"no: {_share(kept)}, worst {_place(worst)} with {shown}; {total}"


def _beside_greedy(runs: pd.DataFrame, ours: str) -> str:
    better, by_trace = beats_greedy(runs, ours), beats_greedy_by_trace(runs, ours)
    reached = "yes" if min(better.mean(), by_trace.mean()) >= TRACE_SHARE else "no"
    return f"{reached}: {_share(by_trace)} of the traces, all pipelines together ({_share(better)})"


def _beside_hindsight(runs: pd.DataFrame, ours: str) -> str:
    ratio = runs[runs["policy"] == ours]["cost_ratio"]
    kept = ratio <= COST_FACTOR
    mean = f"{'reached' if _mean(ratio) <= COST_FACTOR else 'missed'} in geometric mean: {_mean(ratio):.2f}"
    if kept.all():
        return f"yes: {_share(kept)}; {mean}"
    worst = runs.loc[ratio.idxmax()]
    return f"no: {_share(kept)}, worst {_place(worst)} with {ratio.max():.2f}; {mean}"


def _place(row: pd.Series) -> str:
    return f"{row['trace']} ({row['pipeline']})"


def _policies(runs: pd.DataFrame) -> str:
    lines = [
        "| policy | setting | missed | traces that keep P99 | cost / hindsight | actions | reaction s: median, worst |",
        "|---|---|---|---|---|---|---|",
    ]
    for family in FAMILIES:
        rows = runs[runs["policy"] == family]
        for setting, own in rows.groupby("setting", dropna=False, sort=True):
            lines.append(
                f"| {family} | {'' if np.isnan(float(str(setting))) else setting} | {_missed(own)} | "
                f"{(own['miss_rate'] <= 0.01).mean():.0%} | {_mean(own['cost_ratio']):.2f} | "
                f"{own['actions'].median():.0f} | {own['reaction_s'].median():.0f}, {own['reaction_s'].max():.0f} |"
            )
    note = (
        f"Missed: of all queries. Cost: geometric mean. Control every {PERIOD_S:g} s, replicas serve {DELAY_S:g} s "
        f"after their order. hpa: target utilisation, of {_listed(HPA_TARGETS)}; ray-tuned: target in full batches per "
        f"replica, of {_listed(RAY_TARGETS)}, 5 s of look-back, up at once, down after 60 s."
    )
    return "\n".join([*lines, "", note])


def _traces(runs: pd.DataFrame) -> str:
    names = (OURS, LEAN, GREEDY, "hpa", "ray-tuned", "static", HINDSIGHT)
    lines = [
        f"| trace | what happens | {' | '.join(names)} |",
        f"|---|---|{'---|' * len(names)}",
    ]
    chosen = {name: tuned(runs, name) for name in names}
    for scenario in SCENARIOS:
        if scenario.name not in set(runs["trace"]):
            continue
        cells = []
        for name in names:
            own = chosen[name][chosen[name]["trace"] == scenario.name]
            cells.append(f"{_missed(own)} at {_mean(own['cost_ratio']):.2f}")
        lines.append(f"| {scenario.name} | {scenario.what} | {' | '.join(cells)} |")
    return "\n".join(
        [
            *lines,
            "",
            "Queries missed, at which multiple of hindsight's cost; hpa and ray-tuned as tuned above.",
        ]
    )


def _pipelines(runs: pd.DataFrame) -> str:
    lines = [
        "| pipeline | sample | plan $/h | lp: missed, cost | lp-lean | inferline | hpa (target) | ray-tuned (target) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for pipeline in dict.fromkeys(runs["pipeline"]):
        cells = []
        for family in (OURS, LEAN, GREEDY, "hpa", "ray-tuned"):
            rows = tuned(runs, family)
            own = rows[rows["pipeline"] == pipeline]
            target = "" if own["setting"].isna().all() else f" ({own['setting'].iloc[0]:g})"
            cells.append(f"{_missed(own)} at {_mean(own['cost_ratio']):.2f}{target}")
        planned = runs[runs["pipeline"] == pipeline]["planned_usd_per_hour"].median()
        lines.append(
            f"| {pipeline} | {RATES_RPS[str(pipeline)]:g} queries/s | {planned:.2f} | {' | '.join(cells)} |"
        )
    return "\n".join(lines)


def _losses(runs: pd.DataFrame) -> str:
    """Combinations in which somebody has fewer misses at no more cost than `lp`, and those dearer than aimed for."""
    ours = runs[runs["policy"] == OURS]
    others = runs[~runs["policy"].isin([OURS, HINDSIGHT])]
    both = beside_ours(runs, others)
    better = both[(both["misses"] < both["misses_ours"]) & (both["usd"] <= both["usd_ours"])]
    lines = []
    for policy in dict.fromkeys(better["policy"]):
        own = better[better["policy"] == policy].drop_duplicates(KEYS)
        lines.append(
            f"- `{policy}` (at some setting) misses less at no more cost in {len(own)}: {_named(own)}."
        )
    greedy = beside_ours(runs, runs[runs["policy"] == GREEDY])
    fewer = greedy[greedy["misses"] < greedy["misses_ours"]]
    if len(fewer):
        lines.append(
            f"- `{GREEDY}` misses less, at {_mean(fewer['usd'] / fewer['usd_ours']):.2f} times our cost (geometric "
            f"mean), in {len(fewer)}: {_named(fewer)}."
        )
    dearer = greedy[greedy["usd_ours"] >= greedy["usd"]]
    if len(dearer):
        lines.append(
            f"- `{GREEDY}` costs no more; ours costs {_mean(dearer['usd_ours'] / dearer['usd']):.2f} times as much "
            f"(geometric mean), in {len(dearer)}: {_named(dearer)}."
        )
    dear = ours[ours["cost_ratio"] > COST_FACTOR]
    if len(dear):
        lines.append(f"- Dearer than {COST_FACTOR:g} times hindsight in {len(dear)} of {len(ours)}.")
    return "\n".join(lines) if lines else "Nowhere."


def _named(rows: pd.DataFrame) -> str:
    """Combinations, those of one trace together."""
    names = [
        f"{trace} ({', '.join(dict.fromkeys(own['pipeline']))})"
        for trace, own in rows.groupby("trace", sort=False)
    ]
    return "; ".join(names)


def _missed(rows: pd.DataFrame) -> str:
    return f"{100 * rows['misses'].sum() / rows['queries'].sum():.3f} %"


def _mean(ratios: pd.Series[float]) -> float:
    return float(np.exp(np.log(ratios).mean()))


def _share(values: pd.Series[bool]) -> str:
    return f"{int(values.sum())} of {len(values)} ({values.mean():.0%})"


def _listed(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
