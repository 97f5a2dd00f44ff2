"""What all figures share: colours, frames, units, and how they are written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mipplan.core import NS_PER_S
from mipplan.documents import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Endings of the files that figures are written to.
FIGURE_FILES = (".png", ".svg", ".pdf")

# Told apart by people with any kind of colour vision (Okabe and Ito), and, in this order, in shades of grey.
BLUE, ORANGE, RED, GREY = "#0072B2", "#E69F00", "#D55E00", "#555555"
COLOURS = (BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9", "#000000", "#8C6D31", "#999999")
#: From this ratio on, a linear axis would flatten usual values to a line.
LOG_FROM = 30.0


def write_figure(path: str | Path, figure: Figure) -> None:
    """Write a figure in the format that its name ends in, whole or not at all.

    Raises
    ------
    InputError
        If the place cannot be written to.
    """
    kind = Path(path).suffix.lower().removeprefix(".")
    write_atomically(path, lambda stream: figure.savefig(stream, format=kind))


def new_axes(width: float, height: float) -> Axes:
    """Return the axes of a new figure of one panel, inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="constrained").add_subplot()


def figure_of(axes: Axes) -> Figure:
    """Return the whole figure that axes are in."""
    figure = axes.get_figure(root=True)
    if figure is None:
        raise AssertionError("axes of a figure that was cleared")
    return figure


def open_frames(several: Iterable[Axes]) -> None:
    """Take away the lines above and to the right."""
    for axes in several:
        axes.spines[["top", "right"]].set_visible(False)


def unit_for(longest_s: float) -> tuple[str, float]:
    """Return the unit in which durations up to `longest_s` are read best, and its multiple of a nanosecond."""
    return ("ms", 1e3 / NS_PER_S) if longest_s < 1.0 else ("s", 1.0 / NS_PER_S)


def colours_of(names: Sequence[str]) -> dict[str, str]:
    """Give each name, of a stage or a hardware type, its colour; the same names in the same order, the same colours."""
    return {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}
