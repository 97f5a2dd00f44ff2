"""The picture of a plan's life: which room does what, from inputs to what is done with a plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from benchmarks.house.hops import Hops

#: Width and height of a box, in units of the drawing.
WIDTH, HEIGHT = 2.55, 1.0


@dataclass(frozen=True)
class Box:
    """A room, where it stands (column, row), and what it does for a plan."""

    room: str
    column: float
    row: float
    does: str


#: Inputs, preparation, search, plan, and what is done with it, from left to right.
BOXES = (
    Box("profiles", 0, 0, "latency of a batch,\nprices"),
    Box("pipeline", 0, 1.5, "stages and edges,\nchecked when made"),
    Box("trace", 0, 3, "when queries arrived"),
    Box("tokens", 1, 3, "who visits which stage,\ndrawn once"),
    Box("calculus", 1, 1.5, "waits of the trace at\na rate, per path"),
    Box("options", 1, 0, "hardware × batch ×\nreplicas of a stage"),
    Box("planner", 2, 1.5, "bound, enumerate, cut;\nmaster as fall-back"),
    Box("formulations", 2, 3, "the problem as\na linear model"),
    Box("solvers", 3, 3, "HiGHS, CP-SAT, …;\nanswers re-checked"),
    Box("certificate", 2, 0, "does it keep the\nobjective? proven"),
    Box("result", 3, 1.5, "Plan: choices, figures,\nprovenance; its file"),
    Box("verification", 4, 0, "recompute the file's\nfigures, no solver"),
    Box("replayer", 4, 1.5, "what would happen,\nexactly"),
    Box("refinement", 4, 3, "the cheapest plan\nthat replays in time"),
    Box("tuner", 3, 0, "replicas that follow\nthe traffic"),
)
ARROWS = (
    ("pipeline", "options"),
    ("profiles", "options"),
    ("trace", "tokens"),
    ("pipeline", "tokens"),
    ("tokens", "calculus"),
    ("calculus", "planner"),
    ("options", "planner"),
    ("planner", "formulations"),
    ("formulations", "solvers"),
    ("solvers", "planner"),
    ("planner", "certificate"),
    ("certificate", "planner"),
    ("planner", "result"),
    ("result", "verification"),
    ("result", "replayer"),
    ("result", "refinement"),
    ("result", "tuner"),
)


def rooms_of(calls_of: Mapping[str, int]) -> tuple[Counter[str], Counter[str]]:
    """Files entered and calls made, by room."""
    files: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for name, count in calls_of.items():
        parts = Path(name).parts
        room = "formulations" if parts[0] == "formulations" else parts[1].removesuffix(".py")
        files[room] += 1
        calls[room] += count
    return files, calls


def draw(hops: Hops, path: Path) -> None:
    """Draw the rooms, with what planning the shipped example was measured to enter of each."""
    files, calls = rooms_of(hops.calls_of)
    places = {box.room: (box.column * 3.4, -box.row * 1.15) for box in BOXES}
    figure = Figure(figsize=(11, 3.35))
    axes = figure.add_axes((0.005, 0.01, 0.99, 0.98))
    axes.set_xlim(-0.2, 16.4)
    axes.set_ylim(-3.85, 1.1)
    axes.axis("off")
    for start, end in ARROWS:
        _arrow(axes, places[start], places[end])
    for box in BOXES:
        _box(axes, box, places[box.room], files[box.room], calls[box.room])
    path.parent.mkdir(parents=True, exist_ok=True)
    # Text stays text, and nothing in the file depends on when it was made.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mipplan", "font.family": "sans-serif"}):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=150)


def _box(axes: Axes, box: Box, place: tuple[float, float], files: int, calls: int) -> None:
    left, bottom = place
    walked = files > 0
    axes.add_patch(
        FancyBboxPatch(
            (left, bottom),
            WIDTH,
            HEIGHT,
            boxstyle="round,pad=0,rounding_size=0.12",
            facecolor="#eaf2fb" if walked else "#f6f6f6",
            edgecolor="#2a6099" if walked else "#999999",
            linewidth=1.1,
            zorder=3,
        )
    )
    axes.text(left + 0.14, bottom + 0.76, box.room, fontsize=9.5, fontweight="bold", va="center", zorder=4)
    axes.text(
        left + 0.14,
        bottom + 0.32,
        box.does,
        fontsize=7.4,
        va="center",
        color="#222222",
        linespacing=1.15,
        zorder=4,
    )
    if walked:
        label = f"{files} file{'s' if files > 1 else ''}, {calls:,} calls"
        axes.text(left + 0.04, bottom - 0.14, label, fontsize=6, va="center", color="#555555", zorder=4)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """From side to side between columns, from edge to edge within one."""
    (x0, y0), (x1, y1) = start, end
    middle = HEIGHT / 2
    if x0 == x1:
        aside = WIDTH * (0.62 if y0 > y1 else 0.78)
        tail, head = (
            (x0 + aside, y0 if y0 > y1 else y0 + HEIGHT),
            (x1 + aside, y1 + HEIGHT if y0 > y1 else y1),
        )
    elif x0 < x1:
        tail, head = (x0 + WIDTH, y0 + middle), (x1, y1 + middle)
    else:
        tail, head = (x0, y0 + middle), (x1 + WIDTH, y1 + middle)
    style = {"arrowstyle": "-|>", "color": "#2a6099", "linewidth": 0.9, "shrinkA": 0, "shrinkB": 1}
    axes.annotate("", xy=head, xytext=tail, arrowprops=style)
