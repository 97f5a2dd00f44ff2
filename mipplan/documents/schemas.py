"""From pydantic's errors to findings worded for the writer of a document."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from mipplan.core import shown, suggestion
from mipplan.documents.document import FieldPath, Finding

if TYPE_CHECKING:
    import pydantic
    import pydantic_core

#: Marks the tags of discriminated unions, which pydantic puts into field paths where no user wrote them.
TAG_MARK = "\0"

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


def schema_findings(
    error: pydantic.ValidationError, known_keys: Callable[[FieldPath], Iterable[str]]
) -> list[Finding]:
    """Turn pydantic's errors into findings worded for the writer of the document.

    Parameters
    ----------
    error : pydantic.ValidationError
        What `model_validate` raised.
    known_keys : callable
        The keys allowed in the mapping at a field path; used to suggest the right spelling.
    """
    findings: list[Finding] = []
    for detail in error.errors(include_url=False):
        path = tuple(
            part for part in detail["loc"] if not (isinstance(part, str) and part.startswith(TAG_MARK))
        )
        findings.append((path, _wording(detail, path, known_keys)))
    return findings


def _wording(
    detail: pydantic_core.ErrorDetails, path: FieldPath, known_keys: Callable[[FieldPath], Iterable[str]]
) -> str:
    kind = detail["type"]
    context = detail.get("ctx", {})
    if kind == "extra_forbidden":
        known = sorted(known_keys(path[:-1]))
        hint = suggestion(path[-1], known) or f"; known keys are {', '.join(known)}"
        return f"unknown key{hint}"
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        return str(context["error"])
    if kind in ("greater_than", "greater_than_equal", "less_than", "less_than_equal"):
        sign = {"greater_than": ">", "greater_than_equal": "≥", "less_than": "<", "less_than_equal": "≤"}[
            kind
        ]
        bound = next(iter(context.values()))
        limit = f"{bound:,}" if isinstance(bound, int) else f"{bound:g}"
        return f"expected a number {sign} {limit}, found {shown(detail['input'])}"
    if kind == "too_short":
        return "must not be empty"
    if kind == "literal_error":
        return f"expected {context['expected']}, found {shown(detail['input'])}"
    if kind == "too_long":
        return f"holds more than {context['max_length']:,} entries"
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, found {shown(detail['input'])}"
    return f"{detail['msg']}, found {shown(detail['input'])}"
