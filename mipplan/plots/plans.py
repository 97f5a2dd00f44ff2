"""Pictures of a plan: the pipeline with its choices, and the latency that is bounded, certified and observed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np

from mipplan.core import MICRODOLLARS_PER_DOLLAR, Int64, format_duration, usd_text
from mipplan.plots.style import (
    BLUE,
    COLOURS,
    GREY,
    LOG_FROM,
    ORANGE,
    RED,
    SMALLEST,
    figure_of,
    folded,
    hardware_looks,
    legend_below,
    new_axes,
    open_frames,
    short_name,
    shortened,
    unit_for,
)
from mipplan.result import Plan, ReplayResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mipplan.certificate import Certificate
    from mipplan.pipeline import Edge

#: A stage is a box of this size, inches; a stage's row or column takes so much with the edges beside it.
_BOX = (1.6, 0.68)
_APART = (1.85, 0.95)
#: Beside columns there is room for what is written at edges.
_ALONG = (2.4, 1.15)
_LETTERS_PER_LINE, _BOLD_LETTERS, _HARDWARE_LETTERS = 24, 21, 12
#: Of a title; each further line of it asks for so many inches.
_TITLE_LETTERS_PER_INCH, _TITLE_LINE = 11, 0.17
#: The middles of edges to stages side by side are half as far apart as these: room for so many letters.
_LETTERS_AT_EDGE = 14
#: Further limits of an objective have other dashes than the first.
_FURTHER: tuple[Any, ...] = ((0, (2, 2)), (0, (4, 1, 1, 1)), (0, (1, 3)))


def draw_plan(plan: Plan, *, axes: Axes | None = None) -> Axes:
    """Draw the pipeline as a graph, with what the plan chooses at each stage.

    A box per stage (model, replicas × hardware, batch cap, cost), coloured by hardware; an edge says with which
    probability it is taken, how many tokens it makes and how long it takes, where that is not 1, 1 and 0. Pipelines
    that are longer than wide run from top to bottom, so that they fit a column of a paper.

    Parameters
    ----------
    plan : Plan
    axes : matplotlib.axes.Axes, optional
        To draw on; of a new figure by default.

    Raises
    ------
    NoPlanError
        If the plan has no choices.
    """
    plan.require()
    places, cross = _places(plan)
    box_x, box_y = _BOX
    right, top = (max(place[axis] for place in places.values()) for axis in (0, 1))
    cost = "" if plan.usd_per_hour is None else f"{usd_text(plan.usd_per_hour, 2)} $/h, "
    title = f"{plan.pipeline.name}: {cost}{plan.objective.text}"
    if axes is None:
        axes = new_axes(1.0)
        title = folded(title, int(_TITLE_LETTERS_PER_INCH * (right + box_x + 0.7)))
        height = top + box_y + 0.9 + _TITLE_LINE * title.count("\n")
        figure_of(axes).set_size_inches(right + box_x + 0.7, height)
    else:
        width = figure_of(axes).get_figwidth() * axes.get_position().width
        title = folded(title, max(_BOLD_LETTERS, int(_TITLE_LETTERS_PER_INCH * width)))
    looks = hardware_looks([name for name in plan.profiles.hardware if name in _used(plan)])
    margin = (
        max(_draw_edge(axes, edge, places, cross) for edge in plan.pipeline.edges)
        if plan.pipeline.edges
        else 0.0
    )
    names = {stage: _shortened(stage, _BOLD_LETTERS) for stage in places}
    if len(set(names.values())) < len(names):
        names = shortened(places)
    for stage, place in places.items():
        _draw_stage(axes, plan, stage, names[stage], place, looks[plan.choices[stage].hardware][0])
    for hardware, (colour, _) in looks.items():
        axes.plot([], [], "s", color=colour, markersize=9, label=short_name(hardware))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=3, frameon=False, fontsize=8.5)
    axes.set_xlim(-0.55 * box_x - margin * (1 - cross), right + 0.55 * box_x + margin * (1 - cross))
    axes.set_ylim(-0.6 * box_y - margin * cross, top + 0.6 * box_y + margin * cross)
    axes.set_axis_off()
    axes.set_title(title, fontsize=10)
    return axes


def _used(plan: Plan) -> set[str]:
    return {choice.hardware for choice in plan.choices.values()}


def _places(plan: Plan) -> tuple[dict[str, tuple[float, float]], int]:
    """Put each stage one step after its last parent, stages of one step side by side; and the axis across the way."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(plan.pipeline.stages)
    graph.add_edges_from((edge.parent, edge.child) for edge in plan.pipeline.edges)
    order = list(plan.pipeline.stages)
    steps = [sorted(step, key=order.index) for step in nx.topological_generations(graph)]
    widest = max(map(len, steps))
    cross = 0 if len(steps) > max(2, widest) else 1
    places = {}
    for at, step in enumerate(steps):
        for row, stage in enumerate(step):
            beside = _APART[cross] * ((widest - len(step)) / 2 + row)
            if cross:
                places[stage] = (_ALONG[0] * at, _APART[1] * (widest - 1) - beside)
            else:
                places[stage] = (beside, _ALONG[1] * (len(steps) - 1 - at))
    return places, cross


def _draw_stage(
    axes: Axes, plan: Plan, stage: str, name: str, place: tuple[float, float], colour: str
) -> None:
    from matplotlib.patches import FancyBboxPatch

    choice, (across, up), (width, height) = plan.choices[stage], place, _BOX
    price = plan.profiles.hardware[choice.hardware].microusd_per_hour / MICRODOLLARS_PER_DOLLAR
    box = FancyBboxPatch(
        (across - width / 2, up - height / 2),
        width,
        height,
        boxstyle="round,pad=0,rounding_size=0.06",
        facecolor="white",
        edgecolor=colour,
        linewidth=2.2,
        zorder=3,
    )
    axes.add_patch(box)
    model = plan.pipeline.stages[stage].model
    lines = (
        *([] if model == stage else [_shortened(model)]),
        f"{choice.replicas} × {_shortened(choice.hardware, _HARDWARE_LETTERS)}, batch ≤ {choice.batch}",
        f"{usd_text(choice.replicas * price, 2)} $/h",
    )
    # Black, whatever the style of the reader: boxes are white.
    middle: dict[str, Any] = {"ha": "center", "va": "center", "zorder": 4, "parse_math": False}
    middle["color"] = "black"
    axes.text(across, up + 0.23, name, fontsize=8.5, weight="bold", **middle)
    axes.text(across, up - 0.09, "\n".join(lines), fontsize=SMALLEST, linespacing=1.2, **middle)


def _draw_edge(axes: Axes, edge: Edge, places: Mapping[str, tuple[float, float]], cross: int) -> float:
    """Draw an edge; one that would run through a stage goes around all, and asks for room beside the boxes."""
    along = 1 - cross
    start, end = list(places[edge.parent]), list(places[edge.child])
    rise, run = end[cross] - start[cross], end[along] - start[along]
    between = [
        abs(place[cross] - start[cross] - rise * (place[along] - start[along]) / run) < _BOX[cross] / 2
        for place in places.values()
        if 0.0 < (place[along] - start[along]) / run < 1.0
    ]
    extent = [place[cross] for place in places.values()]
    # It bends to the side where it begins; twice the distance, since a curve gets half way to what draws it.
    side = 1.0 if start[cross] < max(extent) / 2 else -1.0
    outside = (start[cross] if side > 0 else max(extent) - start[cross]) + _BOX[cross] / 2 + 0.18
    start[along] += math.copysign(_BOX[along] / 2, run)
    end[along] -= math.copysign(_BOX[along] / 2, run)
    bend = 2 * side * outside / abs(end[along] - start[along]) if any(between) else 0.0
    arrow = {"arrowstyle": "-|>", "color": GREY, "linewidth": 1.1, "connectionstyle": f"arc3,rad={bend}"}
    arrow |= {"shrinkA": 0.0, "shrinkB": 0.0}
    axes.annotate("", (end[0], end[1]), (start[0], start[1]), arrowprops=arrow, zorder=1)
    words = [
        *([f"p {edge.probability:.3g}"] if edge.probability != 1.0 else []),
        *([f"×{edge.fanout.mean:.3g}"] if edge.fanout.mean != 1.0 else []),
        *([format_duration(edge.delay_ns)] if edge.delay_ns else []),
    ]
    if words:
        across, up = end[0] - start[0], end[1] - start[1]
        # Beside a stage that a straight edge passes there is no room.
        share = 0.5 if bend or not between else 0.22 / (len(between) + 1)
        middle = (start[0] + share * across + bend * up / 2, start[1] + share * up - bend * across / 2)
        line = ", ".join(words)
        axes.annotate(
            "\n".join(words) if cross or len(line) > _LETTERS_AT_EDGE else line,
            middle,
            fontsize=SMALLEST,
            color="black",
            ha="center",
            va="center",
            zorder=2,
            bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none"},
        )
    return 0.3 if bend else 0.0


def _shortened(name: str, letters: int = _LETTERS_PER_LINE) -> str:
    return name if len(name) <= letters else f"{name[: letters - 1]}…"


def draw_latency(
    plan: Plan, certificate: Certificate, result: ReplayResult | None = None, *, axes: Axes | None = None
) -> Axes:
    """Draw which share of the queries is slower than any latency: as certified, and as replayed.

    Parameters
    ----------
    plan : Plan
        Each limit of its objective is drawn as a line, and its bound of the program, if it has one.
    certificate : Certificate
        Of ``mipplan.certify(plan, trace)``: a bound for each query.
    result : ReplayResult, optional
        Of ``mipplan.replay(plan, trace)``.
    axes : matplotlib.axes.Axes, optional
        To draw on; of a new figure by default.
    """
    axes = new_axes(3.2) if axes is None else axes
    unit, scale = unit_for(plan.slo_s)
    quantile, limit = f"P{100 * plan.quantile:g}", f"{plan.slo_ns * scale:g} {unit}"
    curves = [("certified", certificate.latency_ns, ORANGE, "--")]
    if result is not None:
        curves.append(("replayed", result.answered_ns, BLUE, "-"))
    for name, latency_ns, colour, line in curves:
        ordered, slower = slower_share(latency_ns)
        at = float(np.quantile(latency_ns, plan.quantile, method="higher")) * scale
        axes.plot(
            ordered * scale,
            slower,
            color=colour,
            linestyle=line,
            drawstyle="steps-pre",
            linewidth=1.6,
            label=f"{name}: {quantile} {at:.4g} {unit}",
        )
        axes.plot([at], [1.0 - plan.quantile], "o", color=colour, markersize=5)
        for one in plan.objective.others:
            at = float(np.quantile(latency_ns, one.quantile, method="higher")) * scale
            axes.plot([at], [1.0 - one.quantile], "o", color=colour, markersize=5)
    if plan.bound_ns is not None:
        axes.axvline(
            plan.bound_ns * scale,
            color=COLOURS[2],
            linestyle=":",
            linewidth=1.3,
            label=f"bound in the program: {plan.bound_ns * scale:.4g} {unit}",
        )
    axes.axvline(
        plan.slo_ns * scale,
        color=RED,
        linestyle=(0, (6, 2)),
        linewidth=1.3,
        label=f"objective: {f'{quantile} ≤ {limit}' if plan.objective.others else limit}",
    )
    axes.axhline(1.0 - plan.quantile, color=GREY, linestyle=":", linewidth=0.9)
    for one, dashes in zip(plan.objective.others, cycle(_FURTHER), strict=False):
        own = f"P{100 * one.quantile:g} ≤ {one.limit_ns * scale:g} {unit}"
        axes.axvline(one.limit_ns * scale, color=RED, linestyle=dashes, linewidth=1.1, label=own)
        axes.axhline(1.0 - one.quantile, color=GREY, linestyle=":", linewidth=0.9)
    values = np.concatenate([latency_ns for _, latency_ns, _, _ in curves])
    if values.max() > LOG_FROM * max(1, values.min()):
        axes.set_xscale("log")
    else:
        axes.set_xlim(left=0.0)
    axes.set_yscale("log")
    axes.set_ylim(0.5 / certificate.latency_ns.size, 1.3)
    axes.set_xlabel(f"latency ({unit})")
    axes.set_ylabel("share of queries at least as slow")
    legend_below(axes, ncols=2)
    open_frames([axes])
    return axes


def slower_share(latency_ns: Int64, most_points: int = 1_200) -> tuple[Int64, np.ndarray]:
    """Return latencies in order, and the share of queries at least as slow as each; denser towards the slowest."""
    count = latency_ns.size
    ordered = np.sort(latency_ns)
    even = np.linspace(0, count - 1, min(count, most_points // 2))
    tail = count - np.geomspace(1, count, min(count, most_points // 2))
    places = np.unique(np.rint(np.concatenate([even, tail])).astype(np.int64))
    return ordered[places], 1.0 - places / count
