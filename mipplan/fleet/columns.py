"""What pricing finds and learns: certified plans as columns, and what stays valid under all prices."""

from __future__ import annotations

from dataclasses import dataclass, field

from mipplan.fleet.tables import Caps
from mipplan.result import Choice

Refused = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class Column:
    """A certified plan of one pipeline.

    Attributes
    ----------
    choices : tuple of Choice
        In file order of the stages.
    devices : tuple of int
        Devices used of each of the fleet's hardware types.
    """

    choices: tuple[Choice, ...]
    devices: tuple[int, ...]


@dataclass(frozen=True)
class Memory:
    """What was learnt about a pipeline while pricing it; small, and valid under all prices.

    Attributes
    ----------
    refused : tuple of Refused
    multipliers : tuple of float
        Of the deadline rows, where the last ascent ended.
    caps : mapping of str to tuple of int
        How many replicas are spelt out; empty until that differs from the first guess.
    """

    refused: tuple[Refused, ...] = ()
    multipliers: tuple[float, ...] = ()
    caps: Caps = field(default_factory=dict)


@dataclass(frozen=True)
class Priced:
    """The answer to one question.

    Attributes
    ----------
    lower_bound : int
        No certified plan of the pipeline costs less under these prices.
    columns : tuple of Column
        A plan that attains it, unless the caller has one already (or none exists); all plans within a cost where
        these were asked for.
    feasible : bool
        False: there is no certified plan at all, whatever the prices.
    complete : bool
        False: all plans were asked for, and there are too many.
    """

    lower_bound: int
    columns: tuple[Column, ...] = ()
    feasible: bool = True
    complete: bool = True
