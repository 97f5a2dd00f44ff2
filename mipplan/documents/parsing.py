"""YAML with line numbers, restricted to plain values."""

from __future__ import annotations

import os
from typing import Any

from mipplan.documents.document import Document, FieldPath, Finding
from mipplan.documents.files import AnyPath, decode_text, read_bytes
from mipplan.documents.wording import shown
from mipplan.errors import InputError

MAX_DEPTH = 24


def read_yaml(path: AnyPath) -> Document:
    """Read a YAML file with line numbers; see `parse_yaml`."""
    return parse_yaml(decode_text(read_bytes(path), os.fspath(path)), os.fspath(path))


def parse_yaml(text: str, origin: str) -> Document:
    """Parse one YAML document made of plain values.

    Aliases, anchors, tags, merge keys, duplicate keys and keys that are not text are faults: they are
    kept as `Document.findings`, so that faults of content can be reported with them.

    Raises
    ------
    InputError
        If it is no YAML at all, empty, several documents, or nested too deeply.
    """
    import yaml

    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)  # refuses control characters at once
        try:
            return _Reader(loader, origin).document()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        place = f"{origin}:{mark.line + 1}" if mark else origin
        raise InputError.one(place, f"is not valid YAML: {problem}") from None


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

    def document(self) -> Document:
        import yaml

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
        import yaml

        line = event.start_mark.line + 1
        self._lines.setdefault(path, line)
        if len(path) > MAX_DEPTH:
            raise InputError.one(f"{self._origin}:{line}", f"is nested more than {MAX_DEPTH} levels deep")
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

    def _refuse(self, path: FieldPath, message: str) -> None:
        self._findings.append((path, message))
        self._unreadable.add(path)

    def _mapping(self, path: FieldPath) -> dict[str, Any]:
        import yaml

        entries: dict[str, Any] = {}
        while not self._loader.check_event(yaml.MappingEndEvent):
            event = self._loader.get_event()
            line = event.start_mark.line + 1
            if not isinstance(event, yaml.ScalarEvent):
                self._lines.setdefault((*path, "?"), line)
                self._refuse((*path, "?"), "a key must be a plain name")
                self._skip(event)
                self._skip(self._loader.get_event())
                continue
            key = self._key(path, event)
            if key in entries:
                first = self._lines[(*path, key)]
                self._repeated((*path, key), line, first)
                self._skip(self._loader.get_event())
                continue
            self._lines[(*path, key)] = line
            entries[key] = self._value((*path, key), self._loader.get_event())
        self._loader.get_event()
        return entries

    def _repeated(self, path: FieldPath, line: int, first: int) -> None:
        self._findings.append((path, f"the key is given twice: here and again on line {line}"))
        self._lines[path] = first

    def _key(self, path: FieldPath, event: Any) -> str:
        tag = self._tag(event)
        key: str = event.value
        if tag == "merge":
            self._lines.setdefault((*path, key), event.start_mark.line + 1)
            self._findings.append(((*path, key), "merge keys are not accepted: write the entries out"))
        elif tag != "str":
            kind = {"bool": "a truth value", "null": "nothing", "int": "a number", "float": "a number"}
            self._lines.setdefault((*path, key), event.start_mark.line + 1)
            message = f'YAML reads this key as {kind.get(tag, tag)}: put it in quotes ("{key}")'
            self._findings.append(((*path, key), message))
        return key

    def _sequence(self, path: FieldPath) -> list[Any]:
        import yaml

        entries: list[Any] = []
        while not self._loader.check_event(yaml.SequenceEndEvent):
            entries.append(self._value((*path, len(entries)), self._loader.get_event()))
        self._loader.get_event()
        return entries

    def _scalar(self, path: FieldPath, event: Any) -> Any:
        import yaml

        tag = self._tag(event)
        node = yaml.ScalarNode(f"tag:yaml.org,2002:{tag}", event.value)
        try:
            if tag == "null":
                return None
            if tag == "bool":
                return self._loader.construct_yaml_bool(node)
            if tag == "int":
                return self._loader.construct_yaml_int(node)
            if tag == "float":
                return self._loader.construct_yaml_float(node)
        except ValueError:  # a number of thousands of digits, or one such as 0b2
            return self._refuse(path, f"{shown(event.value, 20)} is no usable number")
        return event.value  # text; dates stay text too

    def _tag(self, event: Any) -> str:
        import yaml

        if event.tag == "!" or not event.implicit[0]:
            return "str"
        tag: str = self._loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        return tag.removeprefix("tag:yaml.org,2002:")

    def _skip(self, event: Any) -> None:
        """Pass over one value without keeping it, however deep it is."""
        import yaml

        depth = 0
        while True:
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth == 0:
                return
            event = self._loader.get_event()
