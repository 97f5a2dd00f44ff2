"""What an import gives: rows of a profile, each with where it is from, and what was refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from mipplan.core import Fault, InputError, shown

#: So much of a file's hash stands in a row: enough to find the file again.
_HASH_SHOWN = 16


@dataclass(frozen=True)
class Stated:
    """What the user says beside the file.

    Attributes
    ----------
    model, hardware : mapping of str to str
        Names in the file with the names wanted for them. A lone name, which stands under ``""``, is given to what
        the file does not name, and chosen from what it does; where it is given, other rows may be of other names.
    batch : int or None
        Batch size of the whole file, for tools that do not write it down.
    where : mapping of str to str
        Only rows of a table with these values in these columns are read.

    Raises
    ------
    InputError
        If one of the mappings is none.
    """

    model: Mapping[str, str] = field(default_factory=dict)
    hardware: Mapping[str, str] = field(default_factory=dict)
    batch: int | None = None
    where: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        InputError.raise_if(
            Fault(name, f"expected a mapping of names, found {shown(given)}")
            for name in ("model", "hardware", "where")
            for given in [getattr(self, name)]
            if not isinstance(given, Mapping)
        )
        for name in ("model", "hardware", "where"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))


@dataclass(frozen=True)
class ImportedRow:
    """The latency of one batch, and where the figure stands."""

    place: str  # The file and its line, or the path inside a JSON document.
    model: str
    hardware: str
    batch: int
    latency_ms: float  # Of the whole batch.
    latency_p99_ms: float | None
    statistic: str  # What `latency_ms` is: mean, median, P90, …
    what: str  # What was measured, in the words of the tool.


@dataclass(frozen=True)
class ImportedFile:
    """What one file of another tool holds for a profile.

    Attributes
    ----------
    path : str
        As it was named.
    sha256 : str
        Of its bytes, in hexadecimal.
    format : str
        Name of its format in `FORMATS`.
    title : str
        What people call the format.
    tool : str
        Version of the tool, empty if the file does not state it.
    rows : tuple of ImportedRow
        At least one.
    refused : tuple of Fault
        Sound figures that are not the latency of one batch, each with its place and the reason.
    notes : tuple of str
        What is to be known of the figures, and columns that were not taken, each with its place.
    """

    path: str
    sha256: str
    format: str
    title: str
    tool: str
    rows: tuple[ImportedRow, ...]
    refused: tuple[Fault, ...]
    notes: tuple[str, ...] = ()

    def source_of(self, row: ImportedRow) -> str:
        """Say where a row is from: the text of its column ``source``."""
        tool = f"{self.title} {self.tool}".strip()
        place = row.place.rpartition("/")[2].rpartition("\\")[2].encode(errors="replace").decode()
        return f"{place} sha256:{self.sha256[:_HASH_SHOWN]} | {tool} | {row.statistic} of {row.what}"
