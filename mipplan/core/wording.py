"""How faults are worded: values shown, spellings suggested, names judged."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

#: Known words looked through for a suggestion: comparing takes long, and hostile files hold very many.
_WORDS_COMPARED = 1_000


def shown(value: object, limit: int = 60) -> str:
    """Write a value for an error message, shortened, on one line."""
    if isinstance(value, str):
        text = repr(value[: limit + 1])  # never repr megabytes to show sixty characters
    elif isinstance(value, Mapping):
        text = f"a mapping of {counted(len(value), 'key')}"
    elif isinstance(value, list | tuple) and len(value) > 8:
        text = f"a list of {len(value)} entries"
    elif value is None:
        text = "nothing"
    elif isinstance(value, int) and value.bit_length() > 4 * limit:
        text = "a number of very many digits"  # Python refuses to write out the longest ones
    else:
        text = repr(value).replace("\n", " ")
    return text if len(text) <= limit + 2 else text[:limit] + "…"


def suggestion(word: object, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the known word closest to `word`, else an empty string."""
    candidates = {name.casefold(): name for name in itertools.islice(known, _WORDS_COMPARED)}
    close = difflib.get_close_matches(str(word)[:80].casefold(), candidates, n=1, cutoff=0.6)
    return f"; did you mean {candidates[close[0]]!r}?" if close else ""


def counted(number: int, noun: str, several: str = "") -> str:
    """Write a number with the noun it needs."""
    return f"{number:,} {noun if number == 1 else several or f'{noun}s'}"


def listed(names: Iterable[str], limit: int = 12) -> str:
    """Write names one after the other, the first few of very many."""
    words = list(itertools.islice(names, limit + 1))
    return ", ".join(words[:limit]) + (", …" if len(words) > limit else "")


def name_problem(name: object) -> str | None:
    """Say what is wrong with the name of a stage, model or hardware type, or None if it will do."""
    if not isinstance(name, str):
        return f"expected a name (text), found {shown(name)}"
    if not name.strip():
        return "the name is empty"
    if name != name.strip():
        return f"the name {shown(name)} begins or ends with a blank"
    if not name.isprintable():
        return f"the name {shown(name)} holds control or invisible characters"
    if len(name) > 200:
        return f"the name {shown(name, 20)} is longer than 200 characters"
    return None


def text_problem(text: object) -> str | None:
    """Say what keeps a text for people, such as a source, from a file that can be read again; None if nothing."""
    if not isinstance(text, str):
        return f"expected text, found {shown(text)}"
    try:
        text.encode()
    except UnicodeEncodeError:
        return f"{shown(text)} holds half a character (a surrogate), which no file can"
    return None


def plain(value: Any) -> Any:
    """Reduce a value built in Python to what a document holds: tuples to lists, NumPy values to numbers."""
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if getattr(value, "ndim", None) in (0, 1) and hasattr(value, "tolist"):
        return value.tolist()
    return value


def field_text(path: Iterable[str | int]) -> str:
    """Write a field path as people do: ``edges[2].delay``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if len(part) <= 80 else f"{part[:80]}…"
            text += f".{name}" if text else name
    return "".join(character if character.isprintable() else "?" for character in text)
