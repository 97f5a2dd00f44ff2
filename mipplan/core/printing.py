"""What results can do beside holding data: they print, compare, and offer functions of the rooms above as methods.

They print in at most 15 lines for people, as a small table in a notebook, in one line inside anything else.
"""

from __future__ import annotations

import html
import itertools
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from importlib import import_module
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

ValueT = TypeVar("ValueT")

#: A result prints in at most this many lines, so that several of them fit on a screen.
MOST_LINES = 15
#: No line is longer, because narrower terminals are rare and wider ones are hard to read.
MOST_COLUMNS = 100
#: A name in a table is shortened to this length, because the figures beside it matter more.
_LONGEST_CELL = 40
#: A text behind a label takes at most this many lines above a table, and without one.
_MOST_WRAPPED, _MOST_ALONE = 3, 8
_INDENT = "  "


@dataclass(frozen=True)
class Summary:
    """What a result prints."""

    title: str
    figures: Sequence[tuple[str, str | None]] = ()  # Those without a text are left out.
    headings: Sequence[str] = ()  # Of the table; one that begins with ``>`` stands above numbers.
    # Made when they are printed, and no more of them than that.
    rows: Iterable[Sequence[str]] = field(default=(), repr=False)
    count: int = 0  # Number of rows.
    what: str = "rows"  # What a row is, several of them.

    def text(self) -> str:
        """Return at most `MOST_LINES` lines of at most `MOST_COLUMNS` signs."""
        figures, room = list(self._figure_lines()), MOST_LINES - 5
        if len(figures) > room:
            figures[room - 1 :] = [f"{_INDENT}… and {len(figures) - room + 1:,} more lines"]
        lines = [_shortened(self.title, MOST_COLUMNS), *figures]
        if self.count:
            rows = self._shown_rows(MOST_LINES - len(lines) - 2)
            lines += ["", *(_INDENT + line for line in self._aligned([self._names(), *rows]))]
            lines += [f"{_INDENT}{more}" for more in self._left_out(len(rows))]
        return "\n".join(lines)

    def html(self) -> str:
        """Return the same as HTML, everything escaped."""
        figures = "".join(
            f"<tr><th style='text-align:left'>{html.escape(label)}</th>"
            f"<td style='text-align:left'>{html.escape(text)}</td></tr>"
            for label, text in self.figures
            if text
        )
        parts = [
            f"<strong>{html.escape(self.title)}</strong>",
            f"<table>{figures}</table>" if figures else "",
        ]
        if self.count:
            rows = self._shown_rows(MOST_LINES)
            head = self._html_cells("th", self._names())
            body = "".join(f"<tr>{self._html_cells('td', row)}</tr>" for row in rows)
            parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
            parts += [f"<p>{html.escape(more)}</p>" for more in self._left_out(len(rows))]
        return f"<div>{''.join(parts)}</div>"

    def _figure_lines(self) -> Iterator[str]:
        width = max((len(label) for label, text in self.figures if text), default=0) + 2
        for label, text in self.figures:
            if text:
                hanging = " " * (width + len(_INDENT))
                yield from textwrap.wrap(
                    text,
                    MOST_COLUMNS,
                    initial_indent=f"{_INDENT}{label:<{width}}",
                    subsequent_indent=hanging,
                    max_lines=_MOST_WRAPPED if self.count else _MOST_ALONE,
                    placeholder=" …",
                    break_on_hyphens=False,
                )

    def _shown_rows(self, room: int) -> list[list[str]]:
        shown = self.count if self.count <= room else room - 1
        return [
            [_shortened(cell, _LONGEST_CELL) for cell in row] for row in itertools.islice(self.rows, shown)
        ]

    def _names(self) -> list[str]:
        return [heading.removeprefix(">") for heading in self.headings]

    def _aligned(self, rows: Sequence[Sequence[str]]) -> Iterator[str]:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (
                cell.rjust(width) if heading.startswith(">") else cell.ljust(width)
                for cell, width, heading in zip(row, widths, self.headings, strict=True)
            )
            yield _shortened("  ".join(cells).rstrip(), MOST_COLUMNS - len(_INDENT))

    def _html_cells(self, tag: str, texts: Sequence[str]) -> str:
        sides = ("right" if heading.startswith(">") else "left" for heading in self.headings)
        return "".join(
            f"<{tag} style='text-align:{side}'>{html.escape(text)}</{tag}>"
            for text, side in zip(texts, sides, strict=True)
        )

    def _left_out(self, shown: int) -> list[str]:
        return [f"… and {self.count - shown:,} more {self.what}"] if shown < self.count else []


class Printable:
    """A result that prints: what it says of itself is in `_summary`, and in one line in `_line`."""

    def _summary(self) -> Summary:
        raise NotImplementedError

    def _line(self) -> str:
        """What `repr` says behind the name of the class: `` name: figures`` or ``: figures``."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__}{self._line()}>"

    def __str__(self) -> str:
        return self._summary().text()

    def _repr_html_(self) -> str:
        return self._summary().html()

    def __reduce__(self) -> tuple[Any, ...]:
        return remake(self)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and _same_fields(self, other)

    def __hash__(self) -> int:
        return hash(repr(self))  # what is equal prints alike; mappings and arrays have no hash


#: How objects compare whose class says nothing of it.
_BY_IDENTITY: object = object.__eq__


def _same_fields(one: Any, other: Any) -> bool:
    names = (part.name for part in fields(one) if part.compare)
    return all(_is_same(getattr(one, name), getattr(other, name)) for name in names)


def _is_same(one: Any, other: Any) -> bool:
    """Whether parts of two results are equal; of arrays ``==`` tells that for every element instead."""
    if one is other:
        return True
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_is_same(held, other[key]) for key, held in one.items())
    if type(one) is not type(other):
        return bool(one == other)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if hasattr(one, "tobytes") and hasattr(one, "dtype"):  # NumPy is loaded by whoever has arrays
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    kind = getattr(one, "__dataclass_params__", None)
    if kind is not None and (kind.eq or type(one).__eq__ is _BY_IDENTITY):
        return _same_fields(one, other)
    return bool(one == other) or (one != one and other != other)  # NaN, such as of a trace of one instant


class FieldOf(property, Generic[ValueT]):
    """A field of a part that a result offers as its own: ``slo_ns = FieldOf[int]("objective.slo_ns")``.

    With `per` it is counted in units of that size; what is None stays None.
    """

    def __init__(self, path: str, per: int = 1) -> None:
        exact = attrgetter(path)
        super().__init__(exact if per == 1 else lambda result: _in_units(exact(result), per))
        self.__doc__ = f"`{path}`" if per == 1 else f"`{path}` / {per:_}"

    if TYPE_CHECKING:  # a property made without a decorator tells no type

        def __get__(self, result: Any, owner: type | None = None, /) -> ValueT: ...  # type: ignore[override]


def _in_units(value: int | None, per: int) -> float | None:
    return None if value is None else value / per


def remake(result: Any, **others: object) -> tuple[Any, ...]:
    """Return what `__reduce__` of a dataclass must: its constructor makes read-only views, which cannot be pickled."""
    values = {part.name: getattr(result, part.name) for part in fields(result)} | others
    plain = {
        name: dict(held) if isinstance(held, MappingProxyType) else held for name, held in values.items()
    }
    return partial(result.__class__, **plain), ()


def from_front(name: str, room: str = "mipplan") -> Any:
    """Return what ``mipplan``, or the front of one of its rooms, offers under a name.

    A result knows nothing of the rooms above it. Still ``plan.explain()`` is where people look for
    ``mipplan.explain(plan, …)``: such a method asks for the function when it is called.
    """
    return getattr(import_module(room), name)


def drawn(name: str, *of: Any, **more: Any) -> Any:
    """Return the figure that a function of `mipplan.plots` draws, or whose axes it returns; see `from_front`."""
    made = from_front(name, "mipplan.plots")(*of, **more)
    return made if hasattr(made, "savefig") else made.get_figure(root=True)


def _shortened(text: str, length: int) -> str:
    flat = " ".join(text.split("\n"))
    return flat if len(flat) <= length else flat[: length - 1] + "…"
