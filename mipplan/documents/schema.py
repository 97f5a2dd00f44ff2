"""Documents that people write: where each field stands, what a schema demands, faults worded for the writer."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, RootModel, ValidationError
from pydantic_core import ErrorDetails

from mipplan.core import Fault, InputError, field_text, name_problem, parse_duration_ns, shown, suggestion

_EntryT = TypeVar("_EntryT", bound=BaseModel)

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
    """A parsed document, where each of its fields stands, and what was wrong with its form."""

    value: Any  # Mappings, lists, text, numbers, booleans and None only.
    origin: str  # The file, or what the document is called in messages.
    # From 1; empty if it did not come from a file.
    lines: Mapping[FieldPath, int] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()  # Faults of form: duplicate keys, aliases, tags.
    # Fields of no usable value: nothing more is said about them.
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
        usable = [
            (path, message)
            for path, message in findings
            if not any(path[:length] in self.unreadable for length in range(len(path) + 1))
        ]
        said = dict.fromkeys([*self.findings, *usable])
        ordered = sorted(said, key=lambda finding: self.line(finding[0]) or 0)
        return first_faults((Fault(self.place(path), message) for path, message in ordered), self.origin)


class StrictEntry(BaseModel):
    """Base of all entries of documents: unknown keys are faults, nothing is converted, numbers are finite."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


def checked_by(problem: Callable[[object], str | None]) -> BeforeValidator:
    """Make a validator of a function that says what is wrong with a value, or None."""

    def check(value: object) -> object:
        found = problem(value)
        if found is not None:
            raise ValueError(found)
        return value

    return BeforeValidator(check)


def positive_duration(value: object) -> int:
    """Read a duration of at least 1 ns; raises `ValueError`."""
    ns = parse_duration_ns(value)
    if ns < 1:
        raise ValueError(f"expected a positive duration, found {shown(value)}")
    return ns


#: The name of a stage, model or hardware type.
Name = Annotated[str, checked_by(name_problem)]
#: A duration as people write it, in nanoseconds.
Duration = Annotated[int, BeforeValidator(parse_duration_ns)]
PositiveDuration = Annotated[int, BeforeValidator(positive_duration)]


#: Marks the tags of discriminated unions, which pydantic puts into field paths where no user wrote them.
TAG_MARK = "\0"

_WHOLE_WORDING = {"missing": "is missing", "too_short": "must not be empty"}
_SIGNS = {"greater_than": ">", "greater_than_equal": "≥", "less_than": "<", "less_than_equal": "≤"}
_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


def parse_entry(
    document: Document, kind: type[_EntryT], *, before: Iterable[Finding] = (), after: Iterable[Finding] = ()
) -> _EntryT:
    """Check a document against a schema (a `RootModel` where keys are not fixed) and return its entries.

    `before` and `after` are what else is wrong with the document, found in its raw value, so that a misspelt field
    elsewhere hides none of it; told before or after what the schema finds in the same line.

    Raises `InputError` with every fault of the document, in its order.
    """
    findings = list(before)
    entry: _EntryT | None = None
    try:
        entry = kind.model_validate(document.value)
    except ValidationError as error:
        findings += schema_findings(error, kind)
    faults = document.faults([*findings, *after])
    if faults or entry is None:
        raise InputError(faults)
    return entry


def schema_findings(error: ValidationError, kind: type[BaseModel]) -> list[Finding]:
    """Turn pydantic's errors about a schema into findings worded for the writer of the document."""
    found = error.errors(include_url=False)
    paths = [tuple(part for part in detail["loc"] if not str(part).startswith(TAG_MARK)) for detail in found]
    return [(path, _wording(detail, path, kind)) for path, detail in zip(paths, found, strict=True)]


def _known_keys(kind: type[BaseModel], path: FieldPath) -> list[str]:
    """Keys that a schema allows in the mapping at a field path, as a document spells them."""
    kinds = _alternatives(kind)
    for part in path:
        kinds = [inner for outer in kinds for inner in _alternatives(_inside(outer, part))]
    return [key for found in kinds for key in _fields(found)]


def _inside(kind: Any, part: str | int) -> Any:
    """What a type has below one key or index; None for nothing."""
    if get_origin(kind) in (list, dict):
        return get_args(kind)[-1]
    return _fields(kind).get(str(part))


def _alternatives(kind: Any) -> list[Any]:
    """The types that an annotation allows, without what it adds to them."""
    if get_origin(kind) is Annotated:
        return _alternatives(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return [inner for member in get_args(kind) for inner in _alternatives(member)]
    if isinstance(kind, type) and issubclass(kind, RootModel):
        return _alternatives(kind.model_fields["root"].annotation)
    return [kind]


def _fields(kind: Any) -> dict[str, Any]:
    """Fields of a schema, as a document spells them; none for another type."""
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return {}
    return {field.alias or name: field.annotation for name, field in kind.model_fields.items()}


def _wording(detail: ErrorDetails, path: FieldPath, schema: type[BaseModel]) -> str:
    kind = detail["type"]
    context = detail.get("ctx", {})
    if kind == "extra_forbidden":
        known = sorted(_known_keys(schema, path[:-1]))
        hint = suggestion(path[-1], known) or f"; known keys are {', '.join(known)}"
        return f"unknown key{hint}"
    if kind in _WHOLE_WORDING:
        return _WHOLE_WORDING[kind]
    if kind == "value_error":
        return str(context["error"])
    if kind == "too_long":
        return f"holds more than {context['max_length']:,} entries"
    if kind in _SIGNS:
        bound = next(iter(context.values()))
        expected = f"expected a number {_SIGNS[kind]} {bound:{',' if isinstance(bound, int) else 'g'}}"
    elif kind == "literal_error":
        expected = f"expected {context['expected']}"
    else:
        expected = f"expected {_EXPECTED[kind]}" if kind in _EXPECTED else detail["msg"]
    return f"{expected}, found {shown(detail['input'])}"
