"""The aims, and what became of them by the rows measured."""

from __future__ import annotations

import pandas as pd

from benchmarks.compare.aims import Aim
from benchmarks.compare.figures import geometric_mean
from benchmarks.compare.planners import GREEDY
from benchmarks.reliability.figures import (
    answers,
    cheapest_as_reliable,
    greedy_costs,
    interval_rows,
    of_setting,
    points,
    ratios,
)
from benchmarks.reliability.planners import OURS, Setting
from benchmarks.reliability.traffic import GAMMA, REAL

#: The setting that the aims are about.
MAIN = Setting(OURS, confidence=0.95)
#: The one with 20 scenarios to choose on, whose time is an aim.
QUICKEST = Setting(OURS, confidence=0.9)
TIMED_STAGES, TIMED_QUERIES, MOST_SECONDS = 5, 10_000, 10.0
LEAST_KEPT, MOST_OF_GREEDY, MOST_OF_RIVAL, LEAST_CALIBRATED = 95.0, 0.92, 0.85, 90.0
_NOT_MEASURED = float("nan")


def judge_aims(table: pd.DataFrame, *, is_whole: bool) -> list[str]:
    """Lines of a Markdown table; verdicts on a part of the cases say so."""
    lines = ["| aim | found | over | outcome |", "|---" * 4 + "|"]
    for aim in find_aims(table):
        found = "–" if pd.isna(aim.found) else aim.unit.format(aim.found)
        part = "" if is_whole or pd.isna(aim.found) else "on this part: "
        lines.append(f"| {aim.text} | {found} | {aim.over} | {part}{aim.outcome} |")
    return lines


def find_aims(table: pd.DataFrame) -> list[Aim]:
    """Judge the rows by all aims."""
    gamma, real = table[table["kind"] == GAMMA], table[table["kind"] == REAL]
    return [
        _kept(gamma),
        _beside_greedy(gamma),
        _beside_rival(gamma),
        _calibrated(interval_rows(gamma)),
        _real(interval_rows(real)),
        _time(table),
    ]


def _kept(gamma: pd.DataFrame) -> Aim:
    rows = of_setting(gamma, MAIN)
    own = answers(rows.reset_index())
    without = len(rows) - len(own)
    return Aim(
        "gamma traffic: at 0.95 ours keeps the held-out half: ≥ 95 % of instances",
        100.0 * float(own["first_kept"].astype(float).mean()) if len(own) else _NOT_MEASURED,
        f"{len(own)} plans that passed their test"
        + (f"; {without} did not, or there is none, and say so" if without else ""),
        least=LEAST_KEPT,
        unit="{:.1f} %",
    )


def _beside_greedy(gamma: pd.DataFrame) -> Aim:
    beside = ratios(gamma, MAIN)
    return Aim(
        f"at 0.95 ours / greedy without headroom ≤ {MOST_OF_GREEDY:g} in geometric mean",
        geometric_mean(beside),
        f"{len(beside)} of {len(greedy_costs(gamma))} instances where greedy has a plan",
        most=MOST_OF_GREEDY,
    )


def _beside_rival(gamma: pd.DataFrame) -> Aim:
    """Ours beside the cheapest of greedy's settings that is as reliable, chosen knowing the results."""
    text = f"at 0.95 ours / the cheapest greedy with margin that is as reliable ≤ {MOST_OF_RIVAL:g}"
    found = points(gamma)
    own = found[(found["planner"] == OURS) & (found["setting"] == MAIN.text)]
    if own.empty or pd.isna(own["cost"].iloc[0]):
        return Aim(text, _NOT_MEASURED, "0 instances", most=MOST_OF_RIVAL)
    cost, kept = float(own["cost"].iloc[0]), float(own["kept"].iloc[0])
    rival = cheapest_as_reliable(found, GREEDY, kept)
    if rival is None:
        best = found[found["planner"] == GREEDY]["kept"].max()
        over = f"no setting of greedy keeps {kept:.1%} of the parts as ours does, but {best:.1%} at most"
        return Aim(text, 0.0, over, most=MOST_OF_RIVAL)
    return Aim(
        text,
        cost / float(rival["cost"]),
        f"greedy, {rival['setting']}: keeps {rival['kept']:.1%} of the parts at {rival['cost']:.3f}; "
        f"ours {kept:.1%} at {cost:.3f}",
        most=MOST_OF_RIVAL,
    )


def _calibrated(rows: pd.DataFrame) -> Aim:
    parts = f"{rows['all_parts'].median():.0f} parts each" if len(rows) else "no parts"
    return Aim(
        "gamma traffic: the observed share lies in the stated interval: ≥ 90 % of plans",
        100.0 * float(rows["inside"].mean()) if len(rows) else _NOT_MEASURED,
        f"{len(rows)} tested plans at all confidences, {parts}",
        least=LEAST_CALIBRATED,
        unit="{:.1f} %",
    )


def _real(rows: pd.DataFrame) -> Aim:
    return Aim(
        "real recordings, which drift: on parts no faster than the test's scenarios the observed share does not "
        "contradict the stated interval: ≥ 90 % of plans",
        100.0 * float(rows["agrees_tested"].mean()) if len(rows) else _NOT_MEASURED,
        f"{len(rows)} tested plans at all confidences, up to {rows['all_parts'].max():.0f} parts each; on all parts, "
        f"however fast, {rows['agrees'].mean():.1%}: of {rows['missed'].sum():.0f} parts missed "
        f"{rows['fast_missed'].sum():.0f} were faster than what the plan says it was tested on"
        if len(rows)
        else "0 plans",
        least=LEAST_CALIBRATED,
        unit="{:.1f} %",
    )


def _time(table: pd.DataFrame) -> Aim:
    own = of_setting(table, QUICKEST)
    own = own[(own["stages"] == TIMED_STAGES) & (own["queries"] == TIMED_QUERIES)]
    return Aim(
        "5 stages × 10⁴ queries × 20 scenarios to choose on, test included: ≤ 10 s in the median",
        float(own["cpu_seconds"].median()) if len(own) else _NOT_MEASURED,
        f"{len(own)} instances, processor time",
        most=MOST_SECONDS,
        unit="{:.1f} s",
    )
