"""Pictures of cost against accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mipplan.plots.style import BLUE, GREY, ORANGE, open_frames
from mipplan.variants import Front

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Labels of a front that are closer than this share of its height would cover each other.
_LABEL_RISE = 0.03


def draw_front(front: Front, *, title: str = "") -> Figure:
    """Draw the cost of every accuracy as stairs, each plan of the front as a point that names its variants.

    Above the stairs nothing can be had: proven, where the front is complete.

    Parameters
    ----------
    front : Front
        As `mipplan.pareto` returns it.
    title : str
        What it is of; the number of plans follows.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 5.2), dpi=150, layout="constrained")
    axes = figure.subplots()
    cost, accuracy = np.array(front.points, dtype=np.float64).reshape(-1, 2).T
    axes.plot(cost, accuracy, drawstyle="steps-post", color=BLUE, linewidth=1.3)
    axes.plot(cost, accuracy, "o", color=BLUE, markersize=5)
    above = False
    for place, plan in enumerate(front.plans):
        name = " + ".join(choice.variant for choice in plan.choices.values() if choice.variant)
        # Two labels close to each other stand on both sides.
        rise = abs(accuracy[place] - accuracy[place - 1]) / np.ptp(accuracy) if place else 1.0
        above = not above and rise < _LABEL_RISE
        corner = (-5, 3) if above else (5, -3)
        axes.annotate(
            name,
            front.points[place],
            xytext=corner,
            textcoords="offset points",
            fontsize=6.5,
            color=GREY,
            ha="right" if above else "left",
            va="bottom" if above else "top",
        )
    if front.beyond_usd_per_hour is not None and front.plans:
        axes.axvline(front.beyond_usd_per_hour, color=ORANGE, linestyle=":", linewidth=1.2)
        axes.annotate(
            "not searched beyond",
            (front.beyond_usd_per_hour, accuracy[0]),
            rotation=90,
            fontsize=7,
            color=ORANGE,
        )
    axes.set_xlabel("cost ($/h)")
    axes.set_ylabel("mean power at most (W)" if front.by == "energy" else "accuracy of the pipeline")
    axes.margins(x=0.16)
    axes.set_xlim(left=max(0.0, axes.get_xlim()[0]))
    state = "complete" if front.complete else "not complete"
    axes.set_title(f"{title}: {len(front.plans)} plans, {state}" if title else state, fontsize=10)
    open_frames([axes])
    return figure
