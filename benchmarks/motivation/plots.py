"""Figures of `docs/motivation.md`: 80 mm wide, told apart without colours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from benchmarks.motivation.measure import MODERATE
from benchmarks.motivation.summary import SIZES, Tables, crossing, finds, gains, measured
from mipplan.plots import COLOURS, open_frames, write_figure

BLUE, ORANGE, GREEN, PINK, SKY, BLACK, BROWN, GREY = COLOURS
WIDTH = 80 / 25.4
STYLE = {
    "font.size": 7,
    "legend.fontsize": 6,
    "lines.linewidth": 1.1,
    "lines.markersize": 3,
    "savefig.dpi": 300,
}
#: Colour, marker and line of each kind of hardware, planner or case: they tell each other apart in grey, too.
HARDWARE = {
    "epyc_core": (ORANGE, "o", "-"),
    "t4": (GREEN, "s", "--"),
    "v100_32gb": (SKY, "^", "-"),
    "a100_80gb": (BLUE, "D", "-"),
    "inf2": (PINK, "X", ":"),
    "rtx4090": (BLACK, "P", "-."),
}
#: Two of them cost almost the same, so one is drawn broad, below the other.
RATED = {
    "epyc_core": ((ORANGE, "o", "-"), 1.1),
    "inf2": ((SKY, "", "-"), 3.2),
    "rtx4090": ((BLACK, "", "--"), 0.9),
}
PLANNERS = {
    "eager": (BLUE, "", "-"),
    "paced": (GREEN, "", "--"),
    "timed": (BLACK, "D", "none"),
    "greedy": (ORANGE, "x", "none"),
}


def draw(tables: Tables, folder: Path) -> None:
    """Write all figures."""
    drawings = {
        "hardware": _hardware,
        "sizes": _sizes,
        "gain": _gain,
        "tails": _tails,
        "rates": _rates,
        "spaces": _spaces,
        "objectives": _objectives,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, drawing in drawings.items():
        with rc_context(STYLE):
            write_figure(folder / f"{name}.png", drawing(tables))


def _panels(rows: int, height: float, **more: Any) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(WIDTH, height), dpi=300, layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, 1, **more)).tolist()
    open_frames(axes)
    return figure, axes


def _plain(axes: Axes, *, x: bool = False, y: bool = False) -> None:
    """Logarithmic axes with numbers as people write them."""
    for wanted, axis, scale in ((x, axes.xaxis, axes.set_xscale), (y, axes.yaxis, axes.set_yscale)):
        if wanted:
            scale("log")
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.9g}"))
            axis.set_minor_formatter(NullFormatter())


def _line(axes: Axes, x: Any, y: Any, style: tuple[str, str, str], label: str | None, **more: Any) -> None:
    colour, marker, line = style
    axes.plot(x, y, color=colour, marker=marker, linestyle=line, label=label, **more)


def _by_batch(cases: dict[str, tuple[pd.DataFrame, tuple[str, str, str]]], columns: int) -> Figure:
    """Throughput above latency, over the batch."""
    figure, (above, below) = _panels(2, 3.7, sharex=True)
    for label, (rows, style) in cases.items():
        _line(above, rows["batch"], rows["items_per_s"], style, label)
        _line(below, rows["batch"], rows["latency_ms"], style, None)
    above.set_ylabel("throughput (items/s)")
    below.set_ylabel("latency of a batch (ms)")
    below.set_xlabel("batch size")
    for axes in (above, below):
        _plain(axes, x=True, y=True)
    above.legend(frameon=False, ncols=columns, loc="lower left", bbox_to_anchor=(-0.1, 1.0))
    return figure


def _hardware(tables: Tables) -> Figure:
    """ResNet-50 on six kinds of hardware."""
    rows = tables["batches"]
    cases = {}
    for hardware, style in HARDWARE.items():
        own = rows[rows["model"].isin(("resnet50", "resnet-50")) & (rows["hardware"] == hardware)]
        cases[hardware] = (own, style)
    return _by_batch(cases, 3)


def _sizes(tables: Tables) -> Figure:
    """Models of several sizes: a family per colour, the size by line and marker."""
    cases, colours, markers = {}, (ORANGE, BLUE, GREEN, BLACK), ("os^", "Dd", "v<>", "P")
    for colour, marks, (hardware, models) in zip(colours, markers, SIZES, strict=True):
        for model, marker, line in zip(models, marks, ("-", "--", ":"), strict=False):
            own = measured(tables, model, hardware)
            label = f"{model.removesuffix('-base-20-steps')}, {hardware}"
            cases[label] = (own, (colour, marker, line))
    return _by_batch(cases, 2)


def _gain(tables: Tables) -> Figure:
    """What a batch buys on everything that was measured at several batch sizes."""
    figure, (axes,) = _panels(1, 2.4)
    styles = {"GPU": (GREY, "", "-"), "CPU": (ORANGE, "o", "-"), "TPU": (BLACK, "s", "--")}
    for kind, style in styles.items():
        chosen = gains(tables).query("kind == @kind")[["model", "hardware"]]
        for number, (model, hardware) in enumerate(chosen.to_numpy().tolist()):
            own = measured(tables, model, hardware)
            label = f"{kind} ({len(chosen)})" if number == 0 else None
            _line(axes, own["batch"], own["gain"], style, label, linewidth=0.7, markersize=2, alpha=0.8)
    batch = np.array([1, 1024])
    axes.plot(batch, batch, color=BLUE, linestyle=":", linewidth=0.8)
    axes.annotate("all for the time of one", (24, 32), rotation=41, color=BLUE, fontsize=6, ha="center")
    axes.set_xlabel("batch size")
    axes.set_ylabel("throughput / that of the least batch")
    _plain(axes, x=True, y=True)
    axes.legend(frameon=False, loc="upper left", title="model and hardware", title_fontsize=6)
    return figure


def _tails(tables: Tables) -> Figure:
    """P99 in replay and its certificate, over load and over burstiness."""
    figure, (above, below) = _panels(2, 3.9)
    rows = tables["tails"]
    slo_ms = float(rows["slo_ms"].iloc[0])
    groups = [(float(cv), own) for cv, own in rows.groupby("cv") if np.ptp(own["load"]) > 0]
    panels = [(above, "load", own, f"CV {cv:g}", cv) for cv, own in groups]
    panels.append((below, "cv", rows[np.isclose(rows["load"], MODERATE)], f"load {MODERATE:g}", 1.0))
    for axes, column, own, label, cv in panels:
        colour, marker = (BLUE, "o") if cv == 1.0 else (ORANGE, "s")
        seen = own.groupby(column)[["p99_ms", "certificate_ms"]].median()
        spread = own.groupby(column)["p99_ms"].agg(["min", "max"])
        axes.fill_between(seen.index, spread["min"], spread["max"], color=colour, alpha=0.2, linewidth=0)
        _line(axes, seen.index, seen["certificate_ms"], (colour, "", "--"), f"{label}: certificate")
        _line(axes, seen.index, seen["p99_ms"], (colour, marker, "-"), f"{label}: replay")
    for axes in (above, below):
        axes.axhline(slo_ms, color=BLACK, linewidth=0.7, linestyle=":")
        axes.set_ylabel("P99 of latency (ms)")
        axes.legend(frameon=False, loc="upper left")
        _plain(axes, x=axes is below, y=True)
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    below.xaxis.set_minor_locator(NullLocator())
    below.set_xticks(sorted(panels[-1][2]["cv"].unique()))
    above.set_xlabel("load of the busiest stage")
    below.set_xlabel("burstiness: coefficient of variation of gaps")
    above.annotate(f"SLO {slo_ms:g} ms", (0.6, slo_ms), ha="center", va="bottom", fontsize=6)
    return figure


def _rates(tables: Tables) -> Figure:
    """Cost of a thousand queries over their rate, one panel per model size."""
    rows = tables["rates"]
    models = list(dict.fromkeys(rows["model"]))
    figure, panels = _panels(len(models), 1.25 * len(models) + 0.5, sharex=True, sharey=True)
    for axes, model in zip(panels, models, strict=True):
        for hardware, (style, width) in RATED.items():
            own = rows[(rows["model"] == model) & (rows["hardware"] == hardware)]
            _line(axes, own["rate_rps"], own["usd_per_thousand"], style, hardware, linewidth=width)
        _plain(axes, x=True, y=True)
        axes.set_title(model, loc="left", fontsize=7)
        rate = crossing(rows, model, "rtx4090")
        if rate is not None:
            axes.axvline(rate, color=GREY, linewidth=0.7, linestyle=":")
    panels[len(models) // 2].set_ylabel("cost of a thousand queries ($)")
    panels[0].legend(
        frameon=False, loc="lower right", bbox_to_anchor=(1.03, 0.97), ncols=3, columnspacing=1.0
    )
    panels[-1].set_xlabel("rate (queries/s)")
    return figure


def _spaces(tables: Tables) -> Figure:
    """What each search pays, beside the cheapest plan there is."""
    found = finds(tables)
    figure, (axes,) = _panels(1, 2.6)
    styles = {0: (ORANGE, "x"), 1: (SKY, "v"), 2: (BLUE, "s"), 3: (BLACK, "D"), 4: (GREEN, "P")}
    planners = [column for column in found.columns if column not in ("within_greedy", "grid", "optimum")]
    for number, planner in enumerate(planners):
        colour, marker = styles[number]
        places = np.arange(len(found)) + 0.14 * (number - (len(planners) - 1) / 2)
        axes.plot(found[planner], places, color=colour, marker=marker, linestyle="none", label=planner)
        for place, missing in zip(places, found[planner].isna(), strict=True):
            if missing:
                axes.annotate(
                    "no plan within the budget", (1.02, place), color=colour, fontsize=5, va="center"
                )
    axes.axvline(1.0, color=GREY, linewidth=0.7)
    axes.set_yticks(range(len(found)), [name.replace("-", "-\n", 1) for name in found.index])
    axes.invert_yaxis()
    axes.set_xlabel("cost / cheapest known")
    axes.set_xlim(left=0.93)
    axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(-0.35, 1.0))
    return figure


def _objectives(tables: Tables) -> Figure:
    """Least cost over the objective."""
    figure, (axes,) = _panels(1, 2.5)
    rows = tables["objectives"]
    for planner, (colour, marker, line) in PLANNERS.items():
        own = rows[rows["planner"] == planner].dropna(subset=["usd_per_hour"])
        if line == "none":
            _line(
                axes, own["from_ms"], own["usd_per_hour"], (colour, marker, line), planner, mfc="none", ms=5
            )
        else:
            ends = own[["from_ms", "to_ms"]].to_numpy().ravel()
            _line(axes, ends, np.repeat(own["usd_per_hour"], 2), (colour, marker, line), planner)
    axes.set_xlabel("latency objective, P99 (ms)")
    axes.set_ylabel("cost ($/h)")
    axes.set_ylim(bottom=0.0)
    # Beyond the last step nothing happens any more.
    axes.set_xlim(right=1.25 * rows.loc[rows["planner"] == "eager", "from_ms"].max())
    axes.legend(frameon=False)
    return figure
