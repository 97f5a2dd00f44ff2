"""The formulations of problems with several projects, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from mipplan_formulations import columns, joint
from mipplan_formulations.linear import LinearModel
from mipplan_formulations.programme import ColumnPool, Programme


@dataclass(frozen=True)
class ProgrammeFormulation:
    """One way to write a problem with several projects as a `LinearModel`.

    Attributes
    ----------
    name : str
    problem : type
        What it is a formulation of: `Programme` or `ColumnPool`.
    build, decode, encode : callable
        As for `Formulation`, with a choice per project.
    page : str
        File name of the page with the mathematics, beside this package.
    """

    name: str
    problem: type[Programme] | type[ColumnPool]
    build: Callable[[Any], LinearModel]
    decode: Callable[..., tuple[Any, ...]]
    encode: Callable[..., Any]
    page: str


PROGRAMME_FORMULATIONS: Mapping[str, ProgrammeFormulation] = MappingProxyType(
    {
        "joint": ProgrammeFormulation(
            "joint", Programme, joint.build, joint.decode, joint.encode, page="joint.md"
        ),
        "columns": ProgrammeFormulation(
            "columns", ColumnPool, columns.build, columns.decode, columns.encode, page="columns.md"
        ),
    }
)
"""All of them, by name. A new one needs an entry here, a page and golden files; a test sees to it."""
