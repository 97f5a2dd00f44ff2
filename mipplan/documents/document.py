"""A parsed document that knows where each of its fields stands."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mipplan.core import Fault, field_text

FieldPath = tuple[str | int, ...]
#: One thing wrong: the path of the field, and what was expected there.
Finding = tuple[FieldPath, str]
#: Faults told of one file: nobody reads more, and a hostile file could hold millions.
FAULTS_TOLD = 100


def first_faults(faults: Iterable[Fault], origin: str) -> list[Fault]:
    """Return the first faults of a file; if there are more, one in their place says so."""
    told = list(itertools.islice(faults, FAULTS_TOLD + 1))
    if len(told) > FAULTS_TOLD:
        told[-1] = Fault(origin, f"has more faults; only the first {FAULTS_TOLD} are told")
    return told


@dataclass(frozen=True)
class Document:
    """A parsed document, where each of its fields stands, and what was wrong with its form.

    Attributes
    ----------
    value : Any
        Mappings, lists, text, numbers, booleans and None only.
    origin : str
        The file, or what the document is called in messages.
    lines : mapping of field path to int
        1-based lines; empty for a document that did not come from a file.
    findings : tuple of Finding
        Faults of form (duplicate keys, aliases, tags); reported together with those of content.
    unreadable : frozenset of field path
        Fields without a usable value; nothing more is said about them.
    """

    value: Any
    origin: str
    lines: Mapping[FieldPath, int] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    unreadable: frozenset[FieldPath] = frozenset()

    def line(self, path: FieldPath) -> int | None:
        """Return the line of a field, or of the closest field around it that has one."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return None

    def place(self, path: FieldPath) -> str:
        """Write the place of a field: ``video.yaml:12: stages.detect.batch``."""
        line = self.line(path)
        place = self.origin if line is None else f"{self.origin}:{line}"
        return f"{place}: {field_text(path)}" if path else place

    def faults(self, findings: Iterable[Finding]) -> list[Fault]:
        """Return the first faults of form and the first given ones, in the order of the file, each once."""
        said = dict.fromkeys(
            [*self.findings, *(finding for finding in findings if not self._is_unreadable(finding[0]))]
        )
        ordered = sorted(said, key=lambda finding: self.line(finding[0]) or 0)
        return first_faults((Fault(self.place(path), message) for path, message in ordered), self.origin)

    def _is_unreadable(self, path: FieldPath) -> bool:
        return any(path[:length] in self.unreadable for length in range(len(path) + 1))
