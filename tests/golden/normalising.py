"""The one place that says what of an answer is not compared, and how the rest is.

Not compared are durations of searches, versions of solvers and the places of folders. Everything else is, to the last
digit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: JSON fields that say how long something took, or which version did it.
VOLATILE_FIELDS = frozenset({"seconds", "planning_s", "build_s", "solve_s", "version"})
#: Columns of tables for people, by title, that say the same; the table is compared with its spaces squeezed.
VOLATILE_COLUMNS = ("planned in", "version")
#: Colours, which some surroundings force on whoever prints.
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_CELLS = re.compile(r" {2,}")
#: Which of the two fast engines "auto" takes depends on whether another test has loaded numba; both give the same.
_FAST_ENGINE = re.compile(r"(?<=engine )(numba|numpy)\b|^(numba|numpy)$")


def plain_text(text: str, folder: Path, root: Path) -> str:
    """Return printed text without what changes from run to run."""
    text = _COLOUR.sub("", text)
    for place, name in ((folder, "<folder>"), (root, "<root>")):
        text = text.replace(str(place), name)
    lines: list[str] = []
    volatile: int | None = None
    for line in text.split("\n"):
        cells = _CELLS.split(line.rstrip())
        titles = [title for title in VOLATILE_COLUMNS if title in cells]
        if titles:
            volatile = cells.index(titles[0]) - len(cells)
        elif not line.strip():
            volatile = None
        elif volatile is not None:
            cells[volatile] = "<volatile>"
        lines.append(line if volatile is None else "  ".join(cells))
    return "\n".join(lines)


def plain_document(value: Any) -> Any:
    """Return a JSON document without what changes from run to run."""
    if isinstance(value, dict):
        return {
            key: "<volatile>" if key in VOLATILE_FIELDS and _is_figure(part) else plain_document(part)
            for key, part in value.items()
        }
    return [plain_document(part) for part in value] if isinstance(value, list) else value


def _is_figure(value: Any) -> bool:
    return value is not None and not isinstance(value, dict | list)


def differences(golden: Any, found: Any, new_fields: frozenset[str], place: str = "answer") -> Iterator[str]:
    """List what is not as it was: fields lost, added without being allowed, moved, or of another value."""
    if isinstance(golden, dict) and isinstance(found, dict):
        for key in golden:
            if key not in found:
                yield f"{place}.{key}: is missing, was {_shown(golden[key])}"
            else:
                yield from differences(golden[key], found[key], new_fields, f"{place}.{key}")
        for key in found:
            if key not in golden and key not in new_fields:
                yield f"{place}.{key}: is new and not in NEW_FIELDS: {_shown(found[key])}"
        if [key for key in found if key in golden] != [key for key in golden if key in found]:
            yield f"{place}: order of fields was {list(golden)}, is {list(found)}"
    elif isinstance(golden, list) and isinstance(found, list):
        if len(golden) != len(found):
            yield f"{place}: had {len(golden)} entries, has {len(found)}"
        for number, (before, now) in enumerate(zip(golden, found, strict=False)):
            yield from differences(before, now, new_fields, f"{place}[{number}]")
    elif not _same(golden, found):
        yield f"{place}: was {_shown(golden)}, is {_shown(found)}"


def _same(golden: Any, found: Any) -> bool:
    if type(golden) is not type(found):  # 1 and 1.0 and True are told apart
        return False
    if isinstance(golden, float) and math.isnan(golden):
        return math.isnan(found)
    if isinstance(golden, str):
        return _FAST_ENGINE.sub("fast", golden) == _FAST_ENGINE.sub("fast", found)
    return bool(golden == found)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + "…"
