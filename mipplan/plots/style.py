"""What all figures share: colours, frames, units, and how they are written."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from mipplan.core import NS_PER_S, Float64, InputError
from mipplan.documents import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

    from mipplan.result import Windows

#: Endings of the files that figures are written to.
FIGURE_FILES = (".png", ".svg", ".pdf")

# Told apart by people with any kind of colour vision (Okabe and Ito), and, in this order, in shades of grey.
BLUE, ORANGE, RED, GREY = "#0072B2", "#E69F00", "#D55E00", "#555555"
COLOURS = (BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9", "#000000", "#8C6D31", "#999999")
#: Lines of one figure differ in these, too, since some of the colours are alike in grey.
_DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
#: Fillings do in these.
_HATCHES = ("", "", "////", "....", "\\\\\\\\", "xxxx", "||||", "----")
#: Shipped hardware types keep their colours, whichever of them a figure shows.
SHIPPED = ("cpu", "t4", "v100", "a100", "a100_80gb", "epyc_core", "rtx4090", "inf2", "v100_32gb", "tpu_v5e_4")
#: Figures are so wide, inches, for a column of a paper: in one of 80 mm the smallest text has 5 points.
WIDTH = 4.7
SMALLEST = 7.5
#: Names on axes have as many letters at most.
_LETTERS = 18
#: Titles have as many letters in a line.
_TITLE_LETTERS = 64
#: Spaces where a line does not end.
_WITHIN_A_FIGURE = re.compile(r" (?=≤)|(?<=≤) |(?<=\d) (?=(?:[num]?s|\$/h)(?:\W|$))")
#: From this ratio on, a linear axis would flatten usual values to a line.
LOG_FROM = 30.0


def write_figure(path: str | Path, figure: Figure) -> None:
    """Write a figure in the format that its name ends in, whole or not at all.

    Raises
    ------
    InputError
        If the name has another ending than `FIGURE_FILES`, or the place cannot be written to.
    """
    kind = Path(path).suffix.lower().removeprefix(".")
    if f".{kind}" not in FIGURE_FILES:
        raise InputError.one(str(path), "expected a name that ends in .png, .svg or .pdf")
    with warnings.catch_warnings():
        # What a font of this machine has no sign for is a box in the picture, which the reader sees.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        write_atomically(path, lambda stream: figure.savefig(stream, format=kind))


def new_figure(height: float) -> Figure:
    """Return a figure of the usual width, inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), dpi=200, layout="constrained")


def new_axes(height: float) -> Axes:
    """Return the axes of a new figure of one panel, inches."""
    return new_figure(height).add_subplot()


def figure_of(axes: Axes) -> Figure:
    """Return the whole figure that axes are in."""
    figure = axes.get_figure(root=True)
    if figure is None:
        raise AssertionError("axes of a figure that was cleared")
    return figure


def edges_of(windows: Windows) -> Float64:
    """Return the edges of windows, seconds."""
    return np.append(windows.start_s, windows.start_s[-1] + windows.window_s)


def open_frames(several: Iterable[Axes]) -> None:
    """Take away the lines above and to the right."""
    for axes in several:
        axes.spines[["top", "right"]].set_visible(False)


def unit_for(longest_s: float) -> tuple[str, float]:
    """Return the unit in which durations up to `longest_s` are read best, and its multiple of a nanosecond."""
    units = (("s", 1.0), ("ms", 1e3), ("us", 1e6))
    unit, per_s = next((one for one in units if longest_s * one[1] >= 1.0), ("ns", 1e9))
    return unit, per_s / NS_PER_S


def colours_of(names: Sequence[str]) -> dict[str, str]:
    """Give each name, of a stage or a hardware type, its colour; the same names in the same order, the same colours."""
    return {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}


def looks_of(names: Iterable[str]) -> dict[str, tuple[str, Any]]:
    """Give each name its colour and its dashes; of as many as there are pairs of these no two look alike."""
    return {name: _look(place, _DASHES) for place, name in enumerate(names)}


def hardware_looks(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Give each hardware type its colour and its hatch: shipped ones always the same, others those that are left."""
    known = [*SHIPPED, *sorted(set(names) - set(SHIPPED))]
    looks = {name: _look(place, _HATCHES) for place, name in enumerate(known)}
    return {name: looks[name] for name in names}


def _look(place: int, marks: Sequence[Any]) -> tuple[str, Any]:
    """Colours and marks in turn; each time the colours begin anew, three marks on, so that pairs are new as well."""
    return COLOURS[place % len(COLOURS)], marks[(place + 3 * (place // len(COLOURS))) % len(marks)]


def literal(text: str) -> str:
    """Return a text with names in it such that it is drawn as it stands: two signs of the dollar make a formula."""
    return text.replace("$", r"\$")


def folded(text: str, letters: int = _TITLE_LETTERS) -> str:
    """Return a text in lines, drawn as it stands: of a longer one both ends would be cut at the edges of the figure.

    A number stays in one line with its unit, and with what it is compared with.
    """
    return literal(fill(_WITHIN_A_FIGURE.sub("\N{NO-BREAK SPACE}", text), letters)).replace("\xa0", " ")


def shortened(names: Iterable[str]) -> dict[str, str]:
    """Return names that leave panels beside them room: each its own. Both ends stay, or else what differs."""
    short = {name: _ends(name) for name in names}
    for text, count in Counter(short.values()).items():
        alike = [name for name, own in short.items() if own == text] if count > 1 else []
        letters = enumerate(zip(*alike, strict=False))
        first = next((place for place, own in letters if len(set(own)) > 1), 0)
        parts = {name: _beginning(f"…{name[max(0, first - 2) :]}") for name in alike}
        # Where that is not enough, they stand whole: two that read the same would be taken for one.
        short |= parts if len(set(parts.values())) == len(alike) else {name: name for name in alike}
    return short


def _beginning(name: str) -> str:
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"


def _ends(name: str) -> str:
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS // 2]}…{name[1 - _LETTERS // 2 :]}"


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Return names as axes show them: no longer than there is room for, and drawn as they stand."""
    return {name: literal(short) for name, short in shortened(names).items()}


def short_name(name: str) -> str:
    """Return one name as axes show it, beside no other."""
    return literal(_ends(name))


def legend_below(axes: Axes, **given: Any) -> None:
    """Write the legend below what stands below the axes, whatever their height; none where nothing has a label."""
    from matplotlib.transforms import ScaledTranslation

    if "handles" not in given and not axes.get_legend_handles_labels()[0]:
        return
    below = axes.transAxes + ScaledTranslation(0.0, -0.42, figure_of(axes).dpi_scale_trans)
    look = {
        "frameon": False,
        "fontsize": SMALLEST,
        "columnspacing": 1.2,
        "borderpad": 0.0,
        "handlelength": 1.6,
    }
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), bbox_transform=below, **look | given)


def mark_decades(axis: Axis) -> None:
    """Write plain numbers at 1, 2 and 5 of each decade of a logarithmic axis."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def on_clock(seconds: Float64, zero_ns: int | None) -> Float64:
    """Return times on a trace's axis as days since 1970, which matplotlib reads as dates, where it has dates."""
    return seconds if zero_ns is None else (zero_ns / NS_PER_S + seconds) / 86_400.0


def mark_time(axes: Axes, zero_ns: int | None) -> None:
    """Write times on the axis below: dates (UTC) where the trace has dates, else seconds."""
    if zero_ns is None:
        axes.set_xlabel("ingress time (s)", fontsize=8)
        return
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(maxticks=7)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.xaxis.get_offset_text().set_fontsize(8)
    axes.set_xlabel("ingress time (UTC)", fontsize=8)
