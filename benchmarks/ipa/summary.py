"""What the rows say: cost at equal accuracy and accuracy at equal cost, of every rival beside ours, as Markdown."""

from __future__ import annotations

import math
from typing import NamedTuple

import pandas as pd

from benchmarks.ipa.measure import OURS, OURS_CHEAPEST, OURS_FRUGAL, OURS_REPLAYED, RATES, WITHIN

#: Plans of ours that are compared: those by the certificate alone, and with those found by replays.
CERTIFIED, BOTH = (OURS,), (OURS, OURS_REPLAYED)
FA2 = ("fa2-low", "fa2-high", "fa2, other variants")
#: Rivals, and whose rows each one's are.
RIVALS: dict[str, tuple[str, ...]] = {
    "IPA's program": ("ipa",),
    "FA2-low": FA2[:1],
    "FA2-high": FA2[1:2],
    "FA2, any variants": FA2,
    "RIM": ("rim",),
}
#: Costs closer than a millionth of a dollar, and accuracies closer than this, are the same.
CLOSE = 1e-6
PAIR = ["pipeline", "trace"]


class Point(NamedTuple):
    """A rival's plan that nothing of its own beats, beside the best of ours."""

    pipeline: str
    trace: str
    usd: float
    accuracy: float
    least_usd: float  # Of ours that are at least as accurate; infinite without one.
    most_accuracy: float  # Of ours that cost no more; 0 without one.
    more_energy: float  # What ours of that least cost take in the replay, as a share of the rival's, less 1.

    @property
    def saving(self) -> float:
        """Part of the rival's cost that ours does without."""
        return 1.0 - self.least_usd / self.usd

    @property
    def gain(self) -> float:
        """Accuracy that ours has more for the same money."""
        return self.most_accuracy - self.accuracy


def kept(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of plans whose replay keeps the objective."""
    return rows[rows["p99_s"] <= rows["slo_s"]]


def frontier(rows: pd.DataFrame) -> list[tuple[float, float]]:
    """Cost and accuracy of the rows that no other one beats, the cheapest first."""
    found: list[tuple[float, float]] = []
    for usd, accuracy in sorted(zip(rows["usd"], rows["accuracy"], strict=True), key=lambda p: (p[0], -p[1])):
        if not found or accuracy > found[-1][1] + CLOSE:
            found.append((float(usd), float(accuracy)))
    return found


def points(table: pd.DataFrame, rival: str, ours: tuple[str, ...]) -> list[Point]:
    """Every plan of a rival, at its best setting, that kept the objective, beside ours that did."""
    found = []
    for (pipeline, trace), rows in kept(table).groupby(PAIR, sort=False):
        own = frontier(rows[rows["method"].isin(ours)])
        for usd, accuracy in frontier(rows[rows["method"].isin(RIVALS[rival])]):
            least = min((cost for cost, a in own if a >= accuracy - CLOSE), default=float("inf"))
            most = max((a for cost, a in own if cost <= usd + CLOSE), default=0.0)
            more = energy_of(rows, ours, least, accuracy) / energy_of(rows, RIVALS[rival], usd, accuracy) - 1
            found.append(Point(str(pipeline), str(trace), usd, accuracy, least, most, more))
    return found


def energy_of(rows: pd.DataFrame, methods: tuple[str, ...], usd: float, accuracy: float) -> float:
    """Least energy of plans of some methods with that cost and at least that accuracy, J per thousand queries."""
    alike = rows["method"].isin(methods) & ((rows["usd"] - usd).abs() <= CLOSE)
    return float(rows.loc[alike & (rows["accuracy"] >= accuracy - CLOSE), "j_per_thousand"].min())


def summarise(table: pd.DataFrame) -> str:
    """Write the summary."""
    pairs = table[PAIR].drop_duplicates()
    note = (
        f"{len(pairs)} pairs of pipeline and trace. Every rival at each of {len(RATES)} rates (the mean, and the most "
        "queries of windows of 60 s to 1 s), the best one *chosen after the replay*: it does not know beforehand which "
        "keeps the objective. A point is a rival's plan that keeps it and that no other one of its own beats in cost "
        "and accuracy."
    )
    parts = ["## At the rival's best setting", note, _beside(table), _by_pipeline(table)]
    parts += ["## At a setting chosen beforehand", _by_rate(table)]
    parts += ["## On another draw of the same traffic", _again(table)]
    parts += ["## Energy", _energy(table)]
    return "\n\n".join(parts) + "\n"


def _beside(table: pd.DataFrame) -> str:
    heads = (
        "beside",
        "points",
        "ours dearer or less accurate",
        "cheaper at equal accuracy, mean (most)",
        "more accurate at equal cost, mean (most), %",
        "certified plans alone no dearer",
        "cheaper, mean",
    )
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for rival in RIVALS:
        both, alone = points(table, rival, BOTH), points(table, rival, CERTIFIED)
        if not both:
            lines.append(f"| {rival} | 0 | | | | | |")
            continue
        worse = sum(point.saving < -CLOSE or point.gain < -CLOSE for point in both)
        reached = [point for point in alone if point.least_usd < float("inf")]
        equal = sum(point.saving >= -CLOSE for point in reached)
        lines.append(
            f"| {rival} | {len(both)} | {worse} | {_mean_most([p.saving for p in both], '.0%')} "
            f"| {_mean_most([100 * p.gain for p in both], '.1f')} | {equal} of {len(alone)} "
            f"| {_mean([p.saving for p in reached]):+.0%} |"
        )
    return "\n".join(lines)


def _by_pipeline(table: pd.DataFrame) -> str:
    names = list(dict.fromkeys(table["pipeline"]))
    lines = [
        "Cheaper at equal accuracy, mean:",
        "",
        f"| beside | {' | '.join(names)} |",
        "|---" * (len(names) + 1) + "|",
    ]
    for rival in RIVALS:
        found = points(table, rival, BOTH)
        cells = []
        for name in names:
            own = [point.saving for point in found if point.pipeline == name]
            cells.append(f"{_mean(own):.0%}" if own else "none kept")
        lines.append(f"| {rival} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _by_rate(table: pd.DataFrame) -> str:
    lines = [
        "Plans that keep the objective, and what these cost more than ours of at least their accuracy:",
        "",
        f"| planned for | {' | '.join(RIVALS)} |",
        "|---" * (len(RIVALS) + 1) + "|",
    ]
    ours = {
        pair: frontier(rows[rows["method"].isin(BOTH)])
        for pair, rows in kept(table).groupby(PAIR, sort=False)
    }
    for rate in RATES:
        cells = []
        for methods in RIVALS.values():
            rows = table[table["method"].isin(methods) & (table["rate"] == rate)]
            good = kept(rows)
            more = [
                usd / least - 1
                for pipeline, trace, usd, accuracy in zip(
                    good["pipeline"], good["trace"], good["usd"], good["accuracy"], strict=True
                )
                if (least := min((c for c, a in ours[pipeline, trace] if a >= accuracy - CLOSE), default=0.0))
            ]
            share = f"{len(good)} of {len(rows)}" if len(rows) else "0"
            cells.append(f"{share}{f', {_mean(more):+.0%}' if more else ''}")
        lines.append(f"| {rate} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _again(table: pd.DataFrame) -> str:
    lines = ["| plans of | keep it on the draw planned for | and on another one |", "|---|---|---|"]
    for method in dict.fromkeys(table["method"]):
        rows = table[table["method"] == method]
        good = kept(rows)
        again = int((good["p99_again_s"] <= good["slo_s"]).sum())
        share = f"{again} ({again / max(1, len(good)):.0%})"
        lines.append(f"| {method} | {len(good)} of {len(rows)} | {share} |")
    return "\n".join(lines)


def _energy(table: pd.DataFrame) -> str:
    note = (
        "Up to five accuracies of our front per pair: of all certified plans that cost at most so much more than the "
        "cheapest of that accuracy, the one with the least proven power, and what both take in the replay."
    )
    heads = "at most dearer | cases | with less energy | less energy, mean (most) | dearer, mean (most) | median s"
    lines = [note, "", f"| {heads} |", "|---" * 6 + "|"]
    keys = [*PAIR, "setting"]
    for within in WITHIN:
        some = table[table["setting"].astype(str).str.endswith(f", {within:.0%}")]
        cheapest, frugal = (some[some["method"] == method] for method in (OURS_CHEAPEST, OURS_FRUGAL))
        found = cheapest.merge(frugal, on=keys, suffixes=("", "_frugal"), validate="one_to_one")
        if found.empty:
            continue
        saved = (1 - found["j_per_thousand_frugal"] / found["j_per_thousand"]).tolist()
        dearer = (found["usd_frugal"] / found["usd"] - 1).tolist()
        cells = (
            f"{within:.0%}",
            str(len(found)),
            str(sum(value > CLOSE for value in saved)),
            _mean_most(saved, ".1%"),
            _mean_most(dearer, ".1%"),
            f"{frugal['taken_s'].median():.2f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "Beside rivals at their best setting, our cheapest plans of at least their accuracy take:",
        "",
    ]
    lines += ["| beside | energy in the replay, mean |", "|---|---|"]
    for rival in RIVALS:
        more = [p.more_energy for p in points(table, rival, BOTH) if math.isfinite(p.more_energy)]
        lines.append(f"| {rival} | {f'{_mean(more):+.0%}' if more else '–'} |")
    return "\n".join(lines)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _mean_most(values: list[float], form: str) -> str:
    return f"{_mean(values):{form}} ({max(values):{form}})"
