"""Pictures of a plan: the pipeline with its choices, and the latency that is bounded, certified and observed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import networkx as nx
import numpy as np

from mipplan.core import MICRODOLLARS_PER_DOLLAR, Int64, format_duration
from mipplan.plots.style import (
    BLUE,
    COLOURS,
    GREY,
    LOG_FROM,
    ORANGE,
    RED,
    colours_of,
    new_axes,
    open_frames,
    unit_for,
)
from mipplan.result import Plan, ReplayResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mipplan.certificate import Certificate
    from mipplan.pipeline import Edge

_BOX_WIDTH, _BOX_HEIGHT = 1.0, 0.62
_COLUMN, _ROW = 1.5, 1.0
_WORDS_PER_LINE = 22


def draw_plan(plan: Plan, *, axes: Axes | None = None) -> Axes:
    """Draw the pipeline as a graph, with what the plan chooses at each stage.

    A box per stage (model, replicas × hardware, batch cap, cost), coloured by hardware; an edge says with which
    probability it is taken, how many tokens it makes and how long it takes, where that is not 1, 1 and 0.

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
    places = _places(plan)
    right, top = (max(place[axis] for place in places.values()) for axis in (0, 1))
    if axes is None:
        axes = new_axes(1.6 * right + 2.2, 1.25 * top + 1.9)
    colours = colours_of(sorted({choice.hardware for choice in plan.choices.values()}))
    for edge in plan.pipeline.edges:
        _draw_edge(axes, edge, places)
    for stage, place in places.items():
        _draw_stage(axes, plan, stage, place, colours)
    for hardware, colour in colours.items():
        axes.plot([], [], "s", color=colour, markersize=9, label=hardware)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=4, frameon=False, fontsize=9)
    axes.set_xlim(-0.65 * _BOX_WIDTH, right + 0.65 * _BOX_WIDTH)
    axes.set_ylim(-0.75 * _BOX_HEIGHT, top + 0.75 * _BOX_HEIGHT)
    axes.set_axis_off()
    cost = "" if plan.usd_per_hour is None else f"{plan.usd_per_hour:,.2f} $/h, "
    axes.set_title(f"{plan.pipeline.name}: {cost}{plan.objective.text}", fontsize=11)
    return axes


def _places(plan: Plan) -> dict[str, tuple[float, float]]:
    """Put each stage one column right of its last parent, and spread the stages of a column evenly."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(plan.pipeline.stages)
    graph.add_edges_from((edge.parent, edge.child) for edge in plan.pipeline.edges)
    columns = [
        sorted(column, key=list(plan.pipeline.stages).index) for column in nx.topological_generations(graph)
    ]
    tallest = max(map(len, columns))
    return {
        stage: (_COLUMN * at, _ROW * ((tallest + len(column)) / 2 - 1 - row))
        for at, column in enumerate(columns)
        for row, stage in enumerate(column)
    }


def _draw_stage(
    axes: Axes, plan: Plan, stage: str, place: tuple[float, float], colours: Mapping[str, str]
) -> None:
    from matplotlib.patches import FancyBboxPatch

    choice, (across, up) = plan.choices[stage], place
    price = plan.profiles.hardware[choice.hardware].microusd_per_hour / MICRODOLLARS_PER_DOLLAR
    corner = (across - _BOX_WIDTH / 2, up - _BOX_HEIGHT / 2)
    box = FancyBboxPatch(
        corner,
        _BOX_WIDTH,
        _BOX_HEIGHT,
        boxstyle="round,pad=0,rounding_size=0.06",
        facecolor="white",
        edgecolor=colours[choice.hardware],
        linewidth=2.2,
        zorder=3,
    )
    axes.add_patch(box)
    model = plan.pipeline.stages[stage].model
    lines = (
        *([] if model == stage else [_shortened(model)]),
        f"{choice.replicas} × {choice.hardware}, batch ≤ {choice.batch}",
        f"{choice.replicas * price:,.2f} $/h",
    )
    axes.text(
        across, up + 0.19, _shortened(stage), ha="center", va="center", fontsize=9, weight="bold", zorder=4
    )
    axes.text(
        across, up - 0.08, "\n".join(lines), ha="center", va="center", fontsize=7, zorder=4, linespacing=1.35
    )


def _draw_edge(axes: Axes, edge: Edge, places: Mapping[str, tuple[float, float]]) -> None:
    (from_x, from_y), (to_x, to_y) = places[edge.parent], places[edge.child]
    start, end = (from_x + _BOX_WIDTH / 2, from_y), (to_x - _BOX_WIDTH / 2, to_y)
    # An edge that passes columns by goes around the boxes in between, on the side where it begins.
    middle_row = max(up for _, up in places.values()) / 2
    side = 1.0 if from_y < middle_row else -1.0
    bend = 0.0 if to_x - from_x < 1.5 * _COLUMN else 0.35 * side
    arrow = {"arrowstyle": "-|>", "color": GREY, "linewidth": 1.1, "connectionstyle": f"arc3,rad={bend}"}
    axes.annotate("", end, start, arrowprops=arrow, zorder=1)
    words = [
        *([f"p {edge.probability:g}"] if edge.probability != 1.0 else []),
        *([f"×{edge.fanout.mean:.3g}"] if edge.fanout.mean != 1.0 else []),
        *([format_duration(edge.delay_ns)] if edge.delay_ns else []),
    ]
    middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 - bend * (end[0] - start[0]) / 2)
    axes.annotate(
        "\n".join(words),
        middle,
        fontsize=6.5,
        color="black",
        ha="center",
        va="center",
        zorder=2,
        bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none"},
    ) if words else None


def _shortened(name: str) -> str:
    return name if len(name) <= _WORDS_PER_LINE else f"{name[: _WORDS_PER_LINE - 1]}…"


def draw_latency(
    plan: Plan, certificate: Certificate, result: ReplayResult | None = None, *, axes: Axes | None = None
) -> Axes:
    """Draw which share of the queries is slower than any latency: as certified, and as replayed.

    Parameters
    ----------
    plan : Plan
        Its objective is drawn as a line, and its bound of the program, if it has one.
    certificate : Certificate
        Of ``mipplan.certify(plan, trace)``: a bound for each query.
    result : ReplayResult, optional
        Of ``mipplan.replay(plan, trace)``.
    axes : matplotlib.axes.Axes, optional
        To draw on; of a new figure by default.
    """
    axes = new_axes(6.4, 4.0) if axes is None else axes
    unit, scale = unit_for(plan.slo_s)
    quantile = f"P{100 * plan.quantile:g}"
    curves = [("certified", certificate.latency_ns, ORANGE, "--")]
    if result is not None:
        curves.append(("replayed", result.latency_ns, BLUE, "-"))
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
        label=f"objective: {plan.slo_ns * scale:g} {unit}",
    )
    axes.axhline(1.0 - plan.quantile, color=GREY, linestyle=":", linewidth=0.9)
    values = np.concatenate([latency_ns for _, latency_ns, _, _ in curves])
    if values.max() > LOG_FROM * max(1, values.min()):
        axes.set_xscale("log")
    else:
        axes.set_xlim(left=0.0)
    axes.set_yscale("log")
    axes.set_ylim(0.5 / certificate.latency_ns.size, 1.3)
    axes.set_xlabel(f"latency ({unit})")
    axes.set_ylabel("share of queries at least as slow")
    axes.legend(frameon=False, fontsize=8.5, loc="lower left")
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
