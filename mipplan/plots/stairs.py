"""Pictures of stairs: least cost along an axis, cost against accuracy, and performance profiles of solvers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from mipplan.core import Float64, InputError, counted, usd_text
from mipplan.plots.style import (
    BLUE,
    GREY,
    LOG_FROM,
    ORANGE,
    RED,
    SMALLEST,
    figure_of,
    folded,
    legend_below,
    literal,
    looks_of,
    mark_decades,
    new_axes,
    open_frames,
)
from mipplan.questions import Frontier, FrontierStep, runs_on
from mipplan.variants import Front

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: More steps than this are not told by number: nobody would find them in the list.
_MOST_TOLD = 6
#: A number takes this share of the width of the axes.
_NUMBER_WIDTH = 0.04
_POWER = "mean power at most (W)"
#: Names of variants longer than this make a column of their own below a front.
_LETTERS = 60
#: Titles above axes alone have as many letters in a line.
_TITLE_LETTERS = 54


def draw_frontier(frontier: Frontier, *, axes: Axes | None = None) -> Axes:
    """Draw the least cost along an axis as stairs; the widest steps have numbers, and below stands what they run on.

    A step that is not proven is dashed; where there is no plan, the plane is hatched. Single values that were planned
    are points.

    Parameters
    ----------
    frontier : Frontier
        As `mipplan.frontier` returns it.
    axes : matplotlib.axes.Axes, optional
        To draw on; of a new figure by default.

    Raises
    ------
    InputError
        If it has no step.
    """
    if not frontier.steps:
        raise InputError.one("frontier", "has no step: time was up before the first plan")
    axes = new_axes(3.6) if axes is None else axes
    scale, name = _unit(frontier)
    costs = [cost for step in frontier.steps for cost in (step.usd_start, step.usd_end) if cost is not None]
    for step in frontier.steps:
        _draw_step(axes, step, scale)
    for before, step in pairwise(frontier.steps):
        if before.plan and step.plan and step.start - before.end <= 1.5 * frontier.resolution:
            places = [before.end * scale, step.start * scale]
            axes.plot(places, [before.usd_end or 0.0, step.usd_start or 0.0], color=BLUE, linewidth=0.6)
    if costs and max(costs) > LOG_FROM * max(min(costs), 1e-9):
        axes.set_yscale("log")
        mark_decades(axes.yaxis)
    else:
        axes.set_ylim(0.0, 1.12 * max(costs, default=1.0))
    present, now = frontier.present * scale, frontier.now
    said = "now" if now is None else f"now: {usd_text(now, 2)} $/h"
    axes.axvline(present, color=RED, linestyle=(0, (6, 2)), linewidth=1.1, label=said)
    axes.plot([present], [now], "o", color=RED, markersize=4) if now is not None else None
    told = _told(frontier)
    _number(
        axes,
        [(_middle(step) * scale, step.cost_at(_middle(step)) or 0.0) for step in told],
        [runs_on(step.plan) for step in told if step.plan is not None],
    )
    axes.set_xlabel(name)
    axes.set_ylabel("least cost ($/h)")
    count = counted(len(frontier.steps), "step")
    state = "exact" if frontier.exact else f"to {frontier.text_of(frontier.resolution)}"
    state += "" if frontier.complete else ", not the whole axis"
    title = f"{frontier.plan.pipeline.name}: {count}, {state}"
    axes.set_title(folded(title, _TITLE_LETTERS), fontsize=9, loc="left")
    open_frames([axes])
    return axes


def _unit(frontier: Frontier) -> tuple[float, str]:
    """By what values of the axis are multiplied, and what stands below it."""
    unit = frontier.unit
    if unit == "s" and frontier.steps[-1].end < 1.0:
        return 1e3, f"{frontier.title} (ms)"
    return {
        "share": (100.0, f"{frontier.title} (%)"),
        "x": (1.0, f"{frontier.title} (times what it is)"),
    }.get(unit, (1.0, f"{frontier.title} ({unit})"))


def _middle(step: FrontierStep) -> float:
    return (step.start + step.end) / 2


def _told(frontier: Frontier) -> list[FrontierStep]:
    """The widest steps that are far enough from each other for a number, in order."""
    apart = _NUMBER_WIDTH * (frontier.steps[-1].end - frontier.steps[0].start)
    told: list[FrontierStep] = []
    for step in sorted((one for one in frontier.steps if one.plan), key=lambda one: one.start - one.end):
        if len(told) < _MOST_TOLD and all(abs(_middle(step) - _middle(other)) >= apart for other in told):
            told.append(step)
    return sorted(told, key=lambda step: step.start)


def _draw_step(axes: Axes, step: FrontierStep, scale: float) -> None:
    places = [step.start * scale, step.end * scale]
    if step.usd_start is None or step.usd_end is None:
        axes.axvspan(*places, facecolor="none", edgecolor=GREY, hatch="///", linewidth=0.0, alpha=0.35)
        middle = (sum(places) / 2, 0.5)
        axes.text(
            *middle,
            "no plan" if step.proven else "none found",
            rotation=90,
            transform=axes.get_xaxis_transform(),
            ha="center",
            va="center",
            fontsize=8,
        )
        return
    if step.start == step.end:
        axes.plot(places[:1], [step.usd_start], "o" if step.proven else "D", color=BLUE, markersize=4)
        return
    dashes = "-" if step.proven else (0, (3, 1.5))
    axes.plot(
        places,
        [step.usd_start, step.usd_end],
        color=BLUE,
        linewidth=1.8,
        linestyle=dashes,
        solid_capstyle="butt",
    )


def _number(
    axes: Axes, places: Sequence[tuple[float, float]], texts: Sequence[str], left: float = 0.0
) -> None:
    """Write numbers above places, so many points to the left, and below the axes what they stand for."""
    from matplotlib.lines import Line2D

    handles = axes.get_legend_handles_labels()[0]
    for number, (place, text) in enumerate(zip(places, texts, strict=True), start=1):
        axes.annotate(
            str(number),
            place,
            xytext=(-left, 3),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=SMALLEST,
            weight="bold",
        )
        handles.append(
            Line2D(
                [],
                [],
                linestyle="",
                marker=f"${number}$",
                color="black",
                markeredgewidth=0.0,
                label=literal(text),
            )
        )
    legend_below(axes, handles=handles, ncols=1 if max(map(len, texts), default=0) > _LETTERS // 2 else 2)


def draw_front(front: Front, *, title: str = "") -> Figure:
    """Draw the cost of every accuracy as stairs, each plan of the front as a point; below stand the variants of some.

    Above the stairs nothing can be had: proven, where the front is complete. Of three axes power is colour, and what is
    beaten in cost and accuracy stands beside the stairs.

    Parameters
    ----------
    front : Front
        As `mipplan.pareto` returns it.
    title : str
        What it is of; the number of plans follows.
    """
    axes = new_axes(3.8)
    cost, accuracy = np.array(front.points, dtype=np.float64).reshape(-1, 2).T
    if front.by == "both" and front.plans:
        _draw_three(axes, cost, accuracy, np.array([plan.power_w for plan in front.plans], dtype=np.float64))
    else:
        axes.plot(cost, accuracy, drawstyle="steps-post", color=BLUE, linewidth=1.3)
        axes.plot(cost, accuracy, "o", color=BLUE, markersize=4)
    told = np.unique(
        np.linspace(0, len(front.plans) - 1, min(len(front.plans), _MOST_TOLD)).round().astype(int)
    )
    names = [
        " + ".join(c.variant for c in front.plans[place].choices.values() if c.variant) for place in told
    ]
    if front.by == "both":
        names = [
            f"{name}, {front.plans[place].power_w:.4g} W" for name, place in zip(names, told, strict=True)
        ]
    if front.beyond_usd_per_hour is not None and front.plans:
        axes.axvline(
            front.beyond_usd_per_hour, color=ORANGE, linestyle=":", linewidth=1.4, label="not searched beyond"
        )
    _number(axes, [front.points[place] for place in told], names, left=5.0)
    axes.set_xlabel("cost ($/h)")
    axes.set_ylabel(_POWER if front.by == "energy" else "accuracy of the pipeline")
    axes.margins(y=0.12)
    axes.set_xlim(left=max(0.0, axes.get_xlim()[0]))
    state = "complete" if front.complete else "not complete"
    named = f"{title}: {len(front.plans)} plans, {state}" if title else state
    axes.set_title(folded(named, _TITLE_LETTERS), fontsize=9, loc="left")
    open_frames([axes])
    return figure_of(axes)


def _draw_three(axes: Axes, cost: Float64, accuracy: Float64, power_w: Float64) -> None:
    """Draw points by increasing cost, of equal cost the most accurate first, with their power as colour."""
    best = np.maximum.accumulate(accuracy)
    on_stair = accuracy > np.append(-np.inf, best[:-1])
    axes.plot(cost[on_stair], accuracy[on_stair], drawstyle="steps-post", color=GREY, linewidth=1.1)
    look = {"cmap": "cividis_r", "vmin": power_w.min(), "vmax": power_w.max(), "edgecolors": "black"}
    look |= {"s": 22, "linewidths": 0.5, "zorder": 3}
    for which, marker, label in ((on_stair, "o", None), (~on_stair, "D", "beaten in all but power")):
        if which.any():
            at = cost[which], accuracy[which]
            points = axes.scatter(*at, c=power_w[which], marker=marker, label=label, **look)
    # The bar is a part of the axes, because the legend below pushes away what is not, and is cut off itself.
    figure_of(axes).colorbar(points, cax=axes.inset_axes((1.03, 0.0, 0.035, 1.0)), label=_POWER)


# --- performance profiles ---------------------------------------------------------------------------------------------


def performance_profile(times: pd.DataFrame, floor_s: float = 0.0) -> pd.DataFrame:
    """Share of problems that each solver decides within a factor of the fastest one.

    Parameters
    ----------
    times : DataFrame
        Seconds, one row per problem, one column per solver; infinite where not decided.
    floor_s : float
        Shorter times count as this: factors between them say nothing.

    Returns
    -------
    DataFrame
        Index: factors, ascending, from 1; values: shares of the problems that some solver decides.

    References
    ----------
    E. D. Dolan, J. J. Moré, "Benchmarking optimization software with performance profiles", Math. Program. 91 (2002),
    doi:10.1007/s101070100263.
    """
    import pandas as pd

    seconds = times.to_numpy(dtype=np.float64)
    decided = np.maximum(seconds[np.isfinite(seconds).any(axis=1)], floor_s)
    factors = decided / decided.min(axis=1, keepdims=True)
    steps = np.union1d([1.0], factors[np.isfinite(factors)])
    shares = {
        name: (own[:, None] <= steps * (1 + 1e-12)).mean(axis=0)
        for name, own in zip(times.columns, factors.T, strict=True)
    }
    return pd.DataFrame(shares, index=steps)


def draw_performance(
    times: pd.DataFrame,
    floor_s: float = 0.0,
    *,
    look: Callable[[str], dict[str, object]] | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draw the performance profile of solvers: which share of the problems each decides within a factor of the fastest.

    Parameters
    ----------
    times, floor_s
        As for `performance_profile`.
    look : callable, optional
        What matplotlib is to draw the line of a column with; by default columns differ in colour and dashes.
    axes : matplotlib.axes.Axes, optional
        To draw on; of a new figure by default.
    """
    profile = performance_profile(times, floor_s)
    # Each further line of the legend below, which has two columns, takes nothing from the axes.
    lines = (profile.shape[1] + 1) // 2
    axes = new_axes(3.4 + 0.17 * max(0, lines - 3)) if axes is None else axes
    looks = looks_of([str(name) for name in profile])
    # Beyond the largest factor nothing changes; a little of that is shown.
    factors: Float64 = np.append(profile.index.to_numpy(dtype=np.float64), 1.2 * profile.index[-1])
    for name in map(str, profile):
        colour, dashes = looks[name]
        given = {"color": colour, "linestyle": dashes, "linewidth": 1.4} if look is None else look(name)
        axes.step(
            factors, np.append(profile[name], profile[name].iloc[-1]), where="post", label=name, **given
        )
    axes.set_xscale("log")
    mark_decades(axes.xaxis)
    axes.set_xlim(1.0, factors[-1])
    axes.set_ylim(0.0, 1.02)
    axes.set_xlabel("at most so many times the fastest, logarithmic")
    axes.set_ylabel("share of problems decided")
    if floor_s:
        axes.set_title(f"times below {floor_s:g} s count as {floor_s:g} s", fontsize=8, loc="left")
    axes.grid(visible=True, color=GREY, alpha=0.15)
    legend_below(axes, ncols=2)
    open_frames([axes])
    return axes
