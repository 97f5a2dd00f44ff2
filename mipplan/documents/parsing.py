"""YAML with line numbers, restricted to plain values."""

from __future__ import annotations

import os
import re
from typing import Any

import yaml

from mipplan.core import InputError, shown
from mipplan.documents.files import AnyPath, decode_text, read_bytes
from mipplan.documents.schema import Document, FieldPath, Finding

MAX_DEPTH = 24
#: Values and keys in one document; the largest that people write hold some thousands.
MAX_VALUES = 100_000
#: Digits of a number: beyond them conversion alone would take very long.
MAX_DIGITS = 100

#: What YAML 1.1 reads as 90 or as 8, to the surprise of its writer: 1:30 and 010.
_SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
_OCTAL = re.compile(r"[-+]?0[0-9_]+")
#: Numbers that YAML 1.1 reads as text: 1e-3.
_EXPONENTIAL = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+")


def read_yaml(path: AnyPath) -> Document:
    """Read a YAML file with line numbers; see `parse_yaml`."""
    return parse_yaml(decode_text(read_bytes(path), os.fspath(path)), os.fspath(path))


def parse_yaml(text: str, origin: str) -> Document:
    """Parse one YAML document made of plain values.

    Aliases, anchors, tags, merge keys, duplicate keys and keys that are not text are faults: they are
    kept as `Document.findings`, so that faults of content can be reported with them.

    Raises `InputError` if it is no YAML at all, empty, several documents, or nested too deeply.
    """
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)  # refuses control characters at once
        try:
            return _Reader(loader, origin).document()
        finally:
            loader.dispose()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        # The two loaders name the character at fault in different ways.
        code: Any = error.character if isinstance(error.character, int) else ord(error.character)
        message = f"holds the character U+{code:04X}, which YAML does not allow: remove it"
        raise InputError.one(f"{origin}:{line}", message) from None
    except yaml.YAMLError as error:
        mark: Any = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        place = f"{origin}:{mark.line + 1}" if mark else origin
        raise InputError.one(place, f"is not valid YAML: {problem}{_hint(text, mark, problem)}") from None


def _hint(text: str, mark: Any, problem: str) -> str:
    """Say what the writer most likely has to do about the commonest mistakes."""
    lines = text.split("\n", mark.line + 1) if mark else []
    if mark and len(lines) > mark.line and lines[mark.line][mark.column : mark.column + 1] == "\t":
        return "; indent with blanks, not tabs"
    if problem.startswith("mapping values are not allowed"):
        return "; check the indentation, and put text that holds a colon and a blank in quotes"
    if problem.startswith("could not find expected ':'"):
        return "; each entry of a mapping is written as key: value"
    return ""


class _Reader:
    """Builds plain values from YAML events.

    Working on events instead of a finished tree refuses aliases before they can multiply and deep nesting
    before it can exhaust the stack, and keeps duplicate keys visible. The events of the two loaders (with and
    without libyaml) share their attributes but no types, hence ``Any``.
    """

    def __init__(self, loader: Any, origin: str) -> None:
        self._loader = loader
        self._origin = origin
        self._lines: dict[FieldPath, int] = {}
        self._findings: list[Finding] = []
        self._unreadable: set[FieldPath] = set()
        self._values = 0

    def document(self) -> Document:
        loader = self._loader
        loader.get_event()  # start of the stream
        if loader.check_event(yaml.StreamEndEvent):
            raise InputError.one(self._origin, "is empty")
        loader.get_event()  # start of the document
        value = self._value((), loader.get_event())
        loader.get_event()  # end of the document
        if not loader.check_event(yaml.StreamEndEvent):
            line = loader.peek_event().start_mark.line + 1
            raise InputError.one(f"{self._origin}:{line}", "a second document begins here; keep one per file")
        return Document(value, self._origin, self._lines, tuple(self._findings), frozenset(self._unreadable))

    def _value(self, path: FieldPath, event: Any) -> Any:
        self._lines.setdefault(path, self._admit(event, len(path)))
        if isinstance(event, yaml.AliasEvent):
            return self._refuse(path, f"the alias *{event.anchor} is not accepted: write the value out")
        if event.anchor is not None:
            self._findings.append((path, f"the anchor &{event.anchor} is not accepted: remove it"))
        if event.tag is not None and event.tag != "!":
            self._refuse(path, f"the tag {shown(event.tag)} is not accepted: write a plain value")
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path)
        return self._scalar(path, event)

    def _admit(self, event: Any, depth: int) -> int:
        """Return the line of a value or key, and stop before a document can exhaust memory or patience."""
        line = int(event.start_mark.line) + 1
        self._values += 1
        if self._values > MAX_VALUES:
            message = f"holds more than {MAX_VALUES:,} values up to here"
            raise InputError.one(f"{self._origin}:{line}", message)
        if depth > MAX_DEPTH:
            raise InputError.one(f"{self._origin}:{line}", f"is nested more than {MAX_DEPTH} levels deep")
        return line

    def _refuse(self, path: FieldPath, message: str) -> None:
        self._findings.append((path, message))
        self._unreadable.add(path)

    def _mapping(self, path: FieldPath) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        while not self._loader.check_event(yaml.MappingEndEvent):
            event = self._loader.get_event()
            line = self._admit(event, len(path))
            if not isinstance(event, yaml.ScalarEvent):
                self._lines.setdefault((*path, "?"), line)
                self._refuse((*path, "?"), "a key must be a plain name")
                self._skip(event)
                self._skip(self._loader.get_event())
                continue
            key = self._key(path, event)
            inner = (*path, key)
            if key in entries:
                self._findings.append((inner, f"the key is given twice: here and again on line {line}"))
                self._skip(self._loader.get_event())
            else:
                self._lines[inner] = line
                entries[key] = self._value(inner, self._loader.get_event())
        self._loader.get_event()
        return entries

    def _key(self, path: FieldPath, event: Any) -> str:
        tag = self._tag(event)
        key: str = event.value
        if tag == "str":
            return key
        self._lines.setdefault((*path, key), event.start_mark.line + 1)
        if tag == "merge":
            self._refuse((*path, key), "merge keys are not accepted: write the entries out")
        else:
            kind = {"bool": "a truth value", "null": "nothing", "int": "a number", "float": "a number"}
            message = f'YAML reads this key as {kind.get(tag, tag)}: put it in quotes ("{key}")'
            self._findings.append(((*path, key), message))
        return key

    def _sequence(self, path: FieldPath) -> list[Any]:
        entries: list[Any] = []
        while not self._loader.check_event(yaml.SequenceEndEvent):
            entries.append(self._value((*path, len(entries)), self._loader.get_event()))
        self._loader.get_event()
        return entries

    def _scalar(self, path: FieldPath, event: Any) -> Any:
        tag = self._tag(event)
        text: str = event.value
        if tag in ("int", "float"):
            if len(text) > MAX_DIGITS:
                return self._refuse(path, f"{shown(text, 20)} is no usable number: it has {len(text)} digits")
            if _SEXAGESIMAL.fullmatch(text):
                return text
            if tag == "int" and _OCTAL.fullmatch(text):
                message = f"{text} begins with a zero, which YAML reads as octal: leave it out"
                return self._refuse(path, message)
        elif event.implicit[0] and len(text) <= MAX_DIGITS and _EXPONENTIAL.fullmatch(text):
            tag, text = "float", f"{float(text)!r}"
        if tag not in ("null", "bool", "int", "float"):
            return text  # dates stay text too
        try:
            construct = getattr(self._loader, f"construct_yaml_{tag}")
            return construct(yaml.ScalarNode(f"tag:yaml.org,2002:{tag}", text))
        except ValueError:  # a number such as 0b2
            return self._refuse(path, f"{shown(text, 20)} is no usable number")

    def _tag(self, event: Any) -> str:
        if event.tag == "!" or not event.implicit[0]:
            return "str"
        tag: str = self._loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        return tag.removeprefix("tag:yaml.org,2002:")

    def _skip(self, event: Any) -> None:
        """Pass over one value without keeping it."""
        depth = 0
        while True:
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            self._admit(event, depth)
            if depth == 0:
                return
            event = self._loader.get_event()
