"""What the tables say, in sentences and tables; each section of `docs/motivation.md` takes one in."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from benchmarks.motivation.spaces import GREEDY, OPTIMUM, ORDERED, RANDOM

Tables = Mapping[str, pd.DataFrame]
#: Models of several sizes on one kind of hardware, small to large.
SIZES = (
    ("epyc_core", ("resnet-18", "resnet-50", "resnet-152")),
    ("v100", ("efficientnet-b0", "efficientnet-b4")),
    ("t4", ("bert-base-128", "bert-large-128", "bert-large-384")),
    ("tpu_v5e_4", ("sdxl-base-20-steps",)),
)
CORE = "epyc_core"
#: Of costs that come from different sums.
EQUAL = 1e-9


def summarise(tables: Tables) -> str:
    """All sections; a comment before and after each says to the page where it is."""
    sections = {
        "batches": _batches(tables),
        "tails": _tails(tables["tails"]),
        "rates": _rates(tables["rates"]),
        "spaces": _spaces(tables),
        "objectives": _objectives(tables["objectives"]),
    }
    marks = "<!-- --8<-- [start:{0}] -->\n{1}\n<!-- --8<-- [end:{0}] -->\n"
    return "\n".join(marks.format(name, text) for name, text in sections.items())


# --- figures of the tables, which plots take, too ---------------------------------------------------------------------


def measured(tables: Tables, model: str, hardware: str) -> pd.DataFrame:
    """Latency and throughput of a model on one kind of hardware, by batch."""
    rows = tables["batches"]
    return rows[(rows["model"] == model) & (rows["hardware"] == hardware)]


def gains(tables: Tables) -> pd.DataFrame:
    """Best and last gain of every model and hardware that was measured at several batch sizes."""
    by_pair = tables["batches"].groupby(["kind", "model", "hardware"], sort=False)
    found = by_pair["gain"].agg(["max", "last", "size"]).reset_index()
    return found[found["size"] > 1]


def crossing(rows: pd.DataFrame, model: str, hardware: str) -> float | None:
    """The least rate measured from which on hardware is cheaper than cores at every rate; None if there is none."""
    costs = rows[rows["model"] == model].pivot_table(
        index="rate_rps", columns="hardware", values="usd_per_hour"
    )
    cheaper = (costs[hardware] < costs[CORE])[::-1].cummin()[::-1]
    return float(cheaper.index[cheaper.to_numpy()][0]) if cheaper.any() else None


def finds(tables: Tables) -> pd.DataFrame:
    """By pipeline: counts, the least cost, and what every search pays beside it (draws: their median; NaN: no plan)."""
    rows = tables["spaces"]
    found = rows.drop_duplicates("pipeline").set_index("pipeline")[["within_greedy", "grid"]]
    cost = rows.fillna({"usd_per_hour": np.inf}).groupby(["pipeline", "planner", "budget"], dropna=False)
    cost = cost["usd_per_hour"].median().reset_index(["planner", "budget"])
    for planner in (OPTIMUM, GREEDY, RANDOM, ORDERED):
        for budget, own in cost[cost["planner"] == planner].groupby("budget", dropna=False):
            several = planner == RANDOM
            name = f"{planner}, {budget:,.0f}" if several else planner
            found[name] = own["usd_per_hour"].replace(np.inf, np.nan)
            if planner != OPTIMUM:
                found[name] /= found[OPTIMUM]
    return found


# --- sections ---------------------------------------------------------------------------------------------------------


def _batches(tables: Tables) -> str:
    found = gains(tables)
    said = []
    for kind, words in (("GPU", "GPUs"), ("CPU", "processors")):
        own = found.loc[found["kind"] == kind, "max"]
        said.append(
            f"{own.median():.2g} times on {words} ({own.min():.3g} to {own.max():.3g}, {len(own)} pairs)"
        )
    tpu = found.loc[found["kind"] == "TPU", "last"].iloc[0]
    lines = _head("model", "on", "batch", "latency, ms", "items/s", "gain", "$ per 1,000 items")
    for hardware, models in SIZES:
        for model in models:
            own = measured(tables, model, hardware)
            first, last = own.iloc[0], own.iloc[-1]
            span = [
                f"{first[name]:,.4g} – {last[name]:,.4g}" for name in ("batch", "latency_ms", "items_per_s")
            ]
            prices = f"{first['usd_per_thousand']:.2g} – {last['usd_per_thousand']:.2g}"
            lines.append(_row(model, hardware, *span, f"{last['gain']:.2f}", prices))
    sentence = (
        "Over all pairs of model and hardware measured at several batch sizes, the best batch serves this many times "
        f"what the smallest does, in the median: {' and '.join(said)}. The one TPU slice serves {tpu:.2f} times as "
        "much in batches of 8 as in batches of 4."
    )
    return "\n".join([sentence, "", *lines])


def _tails(rows: pd.DataFrame) -> str:
    median = rows.groupby(["cv", "load"])[["p99_ms", "certificate_ms"]].median()
    ratio = rows["certificate_ms"] / rows["p99_ms"]
    slo_ms = rows["slo_ms"].iloc[0]
    kept, certified = rows["p99_ms"] <= slo_ms, rows["certificate_ms"] <= slo_ms
    quiet, busy = median.loc[(4.0, rows["load"].min())], median.loc[(1.0, 0.8)]
    regular, wild = (median.loc[(cv, 0.5), "p99_ms"] for cv in (rows["cv"].min(), rows["cv"].max()))
    least, most, idle = rows["cv"].min(), rows["cv"].max(), 1 - rows["load"].min()
    sentence = (
        f"At half load P99 grows from {regular:.0f} ms to {wild:.0f} ms as the coefficient of variation goes from "
        f"{least:g} to {most:g}. Bursts (CV 4) on servers that idle {idle:.0%} of the time make a longer tail "
        f"({quiet['p99_ms']:.0f} ms) than Poisson arrivals at 80% load ({busy['p99_ms']:.0f} ms). The certificate is "
        f"never below the replayed P99 in {len(rows)} runs, and {ratio.median():.2f} times it in the median "
        f"({ratio.min():.2f} to {ratio.max():.2f}). Of the {kept.sum()} runs that keep {slo_ms:g} ms in replay, "
        f"{certified.sum()} are certified to."
    )
    lines = _head("CV", "load", "P99 in replay, ms", "its range", "certificate, ms")
    for cv, load in ((0.5, 0.5), (1.0, 0.1), (1.0, 0.5), (1.0, 0.8), (1.0, 0.95), (2.0, 0.5), (4.0, 0.1), (4.0, 0.5),
                     (4.0, 0.8), (8.0, 0.5)):  # fmt: skip
        if (cv, load) in median.index:
            own = rows.loc[(rows["cv"] == cv) & np.isclose(rows["load"], load), "p99_ms"]
            seen, proven = median.loc[(cv, load)]
            lines.append(
                _row(
                    f"{cv:g}",
                    f"{load:.0%}",
                    f"{seen:.0f}",
                    f"{own.min():.0f}–{own.max():.0f}",
                    f"{proven:.0f}",
                )
            )
    return "\n".join([sentence, "", *lines])


def _rates(rows: pd.DataFrame) -> str:
    lines = _head(
        "model",
        *(f"$ per 1,000 at {rate:g}/s: core / GPU" for rate in (4, 64, 1024)),
        "GPU cheaper from",
        "inference chip cheaper from",
        "a full core / a full GPU, $ per item",
    )
    at = rows.set_index(["model", "hardware", "rate_rps"])["usd_per_thousand"]
    full = rows.groupby(["model", "hardware"])["least_usd_per_thousand"].first()
    for model in dict.fromkeys(rows["model"]):
        pairs = [
            f"{at.get((model, CORE, rate), np.nan):.2g} / {at.get((model, 'rtx4090', rate), np.nan):.2g}"
            for rate in (4.0, 64.0, 1024.0)
        ]
        froms = []
        for hardware in ("rtx4090", "inf2"):
            rate = crossing(rows, model, hardware)
            froms.append("never" if rate is None else f"{rate:,.0f}/s")
        lines.append(_row(model, *pairs, *froms, f"{full[(model, CORE)] / full[(model, 'rtx4090')]:.0f}"))
    return "\n".join(lines)


def _spaces(tables: Tables) -> str:
    found, rows = finds(tables), tables["spaces"]
    searches = [name for name in found if name not in ("within_greedy", "grid", OPTIMUM)]
    replays = rows.set_index("pipeline")
    proven = replays.loc[replays["planner"] == OPTIMUM, "proven"]
    lines = _head("pipeline", "configurations no dearer than greedy's", "grid", "cheapest, $/h", *searches)
    for name, row in found.iterrows():
        cells = ["none" if pd.isna(row[search]) else f"{row[search]:.2f}" for search in searches]
        own = replays.loc[[name]].groupby("planner")["replays"].last()
        cells[0] += f" ({own[GREEDY]} replays)"
        cells[-1] += f" ({own[ORDERED]:,} replays)"
        least = f"{row[OPTIMUM]:.2f}" + ("" if proven[name] else " \\*")
        lines.append(_row(name, f"{row['within_greedy']:,.0f}", f"{row['grid']:,.0f}", least, *cells))
    draws = rows.loc[rows["planner"] == RANDOM, "budget"].max()
    as_good = int((found[f"{RANDOM}, {draws:,.0f}"].fillna(np.inf) <= found[GREEDY] + EQUAL).sum())
    sentence = (
        f"Of {len(proven)} cheapest plans {proven.sum()} are proven optimal, the others (\\*) the best known. "
        f"Greedy finds {int((found[GREEDY] <= 1 + EQUAL).sum())} of them, and pays {found[GREEDY].max() - 1:.0%} more "
        f"at worst. After {draws:,.0f} draws the random grid is as good as greedy, or better, in {as_good} of "
        f"{len(found)} (medians of {rows['seed'].max() + 1} runs)."
    )
    return "\n".join([sentence, "", *lines])


def _objectives(rows: pd.DataFrame) -> str:
    steps, points = rows[rows["from_ms"] < rows["to_ms"]], rows[rows["planner"].isin(("greedy", "timed"))]
    count = steps[steps["planner"] == "eager"]["usd_per_hour"].nunique()
    beside = points.pivot_table(index="from_ms", columns="planner", values="usd_per_hour")
    for law in ("eager", "paced"):
        beside[law] = [_cost_at(rows[rows["planner"] == law], at) for at in beside.index]
    names = ["greedy", "eager", "paced", "timed"]
    shown = beside[names].drop_duplicates()
    lines = _head("objective, ms", *names)
    for at, row in shown.iterrows():
        more = " and more" if at == shown.index[-1] else ""
        costs = ["no plan" if pd.isna(cost) else f"{cost:.2f}" for cost in row]
        lines.append(_row(f"{at:g}{more}", *costs))
    said = []
    for name in ("eager", "paced", "timed"):
        ratio = beside[name] / beside["greedy"]
        cheaper, dearer = int((ratio < 1 - EQUAL).sum()), int((ratio > 1 + EQUAL).sum())
        said.append(
            f"{name} plans are cheaper in {cheaper} and dearer in {dearer} ({ratio.mean():.2f} on average)"
        )
    eager = rows[rows["planner"] == "eager"]
    first, last = eager["from_ms"].min(), eager["to_ms"].max()
    starts = np.arange(np.ceil(first), last - 9)
    saved = [_cost_at(eager, at) - _cost_at(eager, at + 10) for at in starts]
    best = int(np.nanargmax(saved))
    sentence = (
        f"The eager staircase has {count} costs between {first:.0f} and {last:.0f} ms. Ten milliseconds more save up "
        f"to {saved[best]:.2f} $/h, from {starts[best]:.0f} ms on; beyond {eager['from_ms'].max():.0f} ms nothing "
        f"saves any more. Beside greedy at {len(beside)} objectives, {'; '.join(said)}."
    )
    return "\n".join([sentence, "", *lines])


def _cost_at(steps: pd.DataFrame, at_ms: float) -> float:
    """Cost of the step that a value lies on; NaN beside the walk, or where there is no plan."""
    on = steps[(steps["from_ms"] <= at_ms + EQUAL) & (steps["to_ms"] >= at_ms - EQUAL)]
    return float(on["usd_per_hour"].iloc[-1]) if len(on) else float("nan")


def _head(*titles: str) -> list[str]:
    return [_row(*titles), "|---" * len(titles) + "|"]


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"
