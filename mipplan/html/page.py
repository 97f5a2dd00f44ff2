"""The page itself: sections of words, figures and tables, written as one HTML file that needs no network."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mipplan.core import Printable, Summary
from mipplan.documents import write_text_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Names may look like what refers to an identifier, and stand between tags.
_TAG = re.compile(r"<[^>]*>")
#: Identifiers within a figure, and what refers to them.
_IDENTIFIER = re.compile(r'(\bid="|url\(#|xlink:href="#)([^")]+)')
#: Letters of figures are as large as those of tables, however many stages make a figure long.
_REM_PER_INCH = 7.66
#: Wider figures, in inches, are wider than the page.
_WIDEST = 7.4
_WHAT_COMES_BEFORE_SVG = re.compile(r"^.*?(?=<svg)", re.DOTALL)


@dataclass(frozen=True)
class Sheet:
    """A table of texts; columns whose heading begins with ``>`` hold numbers: they stand to the right."""

    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def columns(self) -> list[tuple[str, bool]]:
        """Headings without their mark, and whether each column holds numbers."""
        return [(heading.removeprefix(">"), heading.startswith(">")) for heading in self.headings]


@dataclass(frozen=True)
class Picture:
    """A figure as SVG, and what it shows in words for those who do not see it."""

    svg: str
    caption: str
    is_wide: bool = False
    """Whether it is wider than the page: then it is scrolled, since shrunk nobody could read it."""


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes
    ----------
    title : str
    words : tuple of str
        Paragraphs.
    sheets : tuple of Sheet
    figures : tuple of (Figure, str)
        Figures, each with what it shows in words.
    """

    title: str
    words: tuple[str, ...] = ()
    sheets: tuple[Sheet, ...] = ()
    figures: tuple[tuple[Figure, str], ...] = ()

    @property
    def anchor(self) -> str:
        """What links to it are called."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True, eq=False, repr=False)
class Page(Printable):
    """One self-contained HTML page.

    Attributes
    ----------
    title, lead : str
        What it is about, and its answer in a sentence.
    tiles : tuple of (str, str)
        The most important figures: name and value.
    sections : tuple of Section
    """

    title: str
    lead: str
    tiles: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]
    foot: str = field(default="")

    @cached_property
    def html(self) -> str:
        """The page as text."""
        from jinja2 import Environment, PackageLoader, StrictUndefined

        environment = Environment(
            loader=PackageLoader("mipplan.html", "."),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        pictures = {
            number: [
                Picture(svg_of(figure, f"f{number}-{place}-", words), words, figure.get_figwidth() > _WIDEST)
                for place, (figure, words) in enumerate(section.figures)
            ]
            for number, section in enumerate(self.sections)
        }
        return environment.get_template("page.html.j2").render(page=self, pictures=pictures)

    def save(self, path: str | Path) -> None:
        """Write the page, whole or not at all.

        Raises
        ------
        InputError
            If the place cannot be written to.
        """
        write_text_atomically(path, self.html)

    def _summary(self) -> Summary:
        return Summary(
            f"{self.title}: {self.lead}",
            figures=self.tiles,
            headings=("section", ">tables", ">figures"),
            rows=((part.title, str(len(part.sheets)), str(len(part.figures))) for part in self.sections),
            count=len(self.sections),
            what="sections",
        )

    def _line(self) -> str:
        return f": {self.title}, {len(self.sections)} sections"


def svg_of(figure: Figure, prefix: str, words: str) -> str:
    """Return a figure as an SVG element; its identifiers get a prefix, as they must differ within a page.

    They are numbered as they appear, since matplotlib makes some of them from addresses in memory.
    """
    from matplotlib import style

    stream = io.StringIO()
    look = {"svg.hashsalt": prefix, "svg.fonttype": "none", "font.family": "sans-serif"}
    with style.context(["default", look]), warnings.catch_warnings():
        # Words stay text, which the reader's browser sets in fonts of its own; only here some have no sign for a name.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(stream, format="svg", metadata={"Date": None}, transparent=True)
    svg = _WHAT_COMES_BEFORE_SVG.sub("", stream.getvalue())
    numbers: dict[str, int] = {}

    def renamed(found: re.Match[str]) -> str:
        return f"{found[1]}{prefix}{numbers.setdefault(found[2], len(numbers))}"

    svg = _TAG.sub(lambda tag: _IDENTIFIER.sub(renamed, tag[0]), svg)
    label = words.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    width = f"width:{_REM_PER_INCH * figure.get_figwidth():.4g}rem"
    return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" style="{width}" ', 1)


def sheet(caption: str, headings: Sequence[str], rows: Iterable[Iterable[Any]]) -> Sheet:
    """Make a table; what is not there (None) becomes a dash."""
    texts = tuple(tuple("–" if cell is None else str(cell) for cell in row) for row in rows)
    return Sheet(caption, tuple(headings), texts)
