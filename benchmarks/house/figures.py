"""Figures of docs/theory.md, computed and not drawn by hand; ``python -m benchmarks.house.figures`` writes them."""

from __future__ import annotations

import heapq
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import mipplan as mp
from benchmarks.house.hops import ROOT
from mipplan.plots import draw_curves
from mipplan.plots.style import BLUE, COLOURS, GREY, open_frames
from mipplan.replayer.engines.plain import serve
from mipplan.replayer.stage_task import Capacity, StageTask

IMAGES = ROOT / "docs" / "images"
REPLICAS = 3
#: ℓ(1) to ℓ(4), ms.
LATENCY_MS = (40, 47, 53, 60)
#: Three lone queries, and three at once just after them.
ARRIVAL_MS = (0, 1, 2, 5, 5, 5)


def draw_service(path: Path) -> None:
    """Arrival curve, service curve and horizontal deviation of a stage of the shipped example."""
    pipeline = mp.Pipeline.read(ROOT / "profiles" / "pipelines" / "video-monitoring.yaml")
    trace = mp.Trace.read(ROOT / "profiles" / "traces" / "bursty.csv.gz").slice(0, 20)
    plan = mp.plan(pipeline, mp.Profiles.default(), trace)
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    draw_curves(plan, trace, "detect", axes=figure.add_subplot())
    write(path, figure)


def draw_laws(path: Path) -> None:
    """The same tokens under eager and paced dispatch: when each replica serves which batch."""
    figure = Figure(figsize=(6.4, 3.0), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    for axes, law in zip(panels, ("eager", "paced"), strict=True):
        _draw_batches(axes, law)
    panels[-1].set_xlabel("ms")
    write(path, figure)


def _draw_batches(axes: Axes, law: str) -> None:
    arrival_ns = np.array(ARRIVAL_MS, dtype=np.int64)
    table = np.array([LATENCY_MS], dtype=np.int64)
    pace = table[0] if law == "paced" else None
    served = serve(StageTask(arrival_ns, table, Capacity.constant(REPLICAS), pace_ns=pace))
    free = [(0, replica) for replica in range(REPLICAS)]
    batches = zip(served.batch_start_ns, served.batch_size, served.batch_service_ns, strict=True)
    for number, (start, size, service) in enumerate(batches):
        _, replica = heapq.heappop(free)
        heapq.heappush(free, (int(start + service), replica))
        colour = COLOURS[number % len(COLOURS)]
        axes.barh(replica, service, left=start, height=0.7, color=colour, alpha=0.35, edgecolor=colour)
        tokens = f"{size} token{'s' if size > 1 else ''}"
        axes.text(start + service / 2, replica, tokens, ha="center", va="center", fontsize=8)
    wait_ms = int((served.dispatch_ns - arrival_ns).max())
    axes.set_title(f"{law}: the longest wait is {wait_ms} ms", fontsize=9, loc="left")
    axes.vlines(sorted(set(ARRIVAL_MS)), -0.9, -0.5, color=BLUE, linewidth=1.4)
    axes.set_yticks(range(REPLICAS), [f"replica {replica + 1}" for replica in range(REPLICAS)], fontsize=8)
    axes.set_ylim(-0.95, REPLICAS - 0.4)
    axes.grid(visible=True, axis="x", color=GREY, alpha=0.15)
    open_frames([axes])


def write(path: Path, figure: Figure) -> None:
    """Write a figure; text stays text, and nothing in the file depends on when it was made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mipplan", "font.family": "sans-serif"}):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=150)


if __name__ == "__main__":
    draw_laws(IMAGES / "dispatch-laws.svg")
    draw_service(IMAGES / "curves.svg")
