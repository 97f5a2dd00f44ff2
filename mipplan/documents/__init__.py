"""Documents people write: read safely, keep line numbers, and report every fault with its place.

Everything here is about *form* (bytes, YAML, field paths, wording); what a pipeline or a profile must
contain is said by their own schemas.
"""

from __future__ import annotations

from mipplan.documents.files import (
    MAX_DOCUMENT_BYTES,
    AnyPath,
    decode_text,
    open_file,
    output_problem,
    read_bytes,
    shipped_folder,
    write_atomically,
    write_text_atomically,
)
from mipplan.documents.parsing import parse_yaml, read_yaml
from mipplan.documents.schema import (
    FAULTS_TOLD,
    TAG_MARK,
    Document,
    Duration,
    FieldPath,
    Finding,
    Name,
    PositiveDuration,
    StrictEntry,
    checked_by,
    first_faults,
    parse_entry,
    schema_findings,
)

__all__ = [
    "FAULTS_TOLD",
    "MAX_DOCUMENT_BYTES",
    "TAG_MARK",
    "AnyPath",
    "Document",
    "Duration",
    "FieldPath",
    "Finding",
    "Name",
    "PositiveDuration",
    "StrictEntry",
    "checked_by",
    "decode_text",
    "first_faults",
    "open_file",
    "output_problem",
    "parse_entry",
    "parse_yaml",
    "read_bytes",
    "read_yaml",
    "schema_findings",
    "shipped_folder",
    "write_atomically",
    "write_text_atomically",
]
