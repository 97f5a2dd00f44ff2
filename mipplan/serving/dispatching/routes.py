"""Which tokens a query makes: decided from outside, known when it enters or token by token.

A token is known by its place among those of its query at a stage, a *token key*: ``()`` for the one of a source or of a
merging stage, else (number of the edge, key of the parent, copy). Keys of one stage sort as the serving model orders
tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from mipplan.core import Fault, Faults, InputError, counted, is_whole, listed, shown
from mipplan.pipeline import Pipeline
from mipplan.serving.dispatching.blueprint import Blueprint, BlueprintEdge
from mipplan.tokens import realise_queries

TokenKey: TypeAlias = tuple[Any, ...]
#: For a query and an edge (parent, child): how many tokens it makes of each of the query's tokens at the parent.
Decisions: TypeAlias = Mapping[tuple[str, str], Sequence[int]]
#: By child stage, what is decided when a token leaves: how many tokens it makes, each of which gets its output; or a
#: list of what each of them gets.
Copies: TypeAlias = Mapping[str, int | Sequence[Any]]

#: One query makes no more tokens than this at a stage: beyond it the decisions are surely mistaken. Each token takes
#: the dispatcher some 30 us at once, during which nobody else is served: these are 0.3 s.
MAX_TOKENS_OF_QUERY = 10_000
#: Queries whose decisions are drawn together, because a draw of one costs as much as one of many.
_DRAWN_AT_ONCE = 256


@dataclass(frozen=True)
class KnownRoutes:
    """All tokens that a query will make."""

    copies: Mapping[tuple[int, TokenKey], int] = field(default_factory=dict)
    """By number of an edge that decides and key of the parent."""
    expected: Mapping[str, int] = field(default_factory=dict)
    """Messages that reach each merging stage."""


def known_routes(blueprint: Blueprint, decisions: Decisions) -> KnownRoutes:
    """Follow a query through a pipeline.

    Raises
    ------
    InputError
        Listing every edge that there is not, that lacks a decision, or whose decisions are no counts of tokens, one for
        each of the query's tokens at its parent.
    """
    faults = Faults()
    edges = {(edge.parent, edge.child): edge for edge in blueprint.edges}
    for arc in decisions.keys() - edges.keys():
        faults.add(Fault(_place(arc), f"there is no such edge; the edges are {listed(map(_arrow, edges))}"))
    copies: dict[tuple[int, TokenKey], int] = {}
    expected: dict[str, int] = {}
    keys: dict[str, list[TokenKey]] = {}
    for name, stage in blueprint.stages.items():
        made: list[TokenKey] = []
        for edge in stage.incoming:
            parents = keys[edge.parent]
            counts = _counts(edge, len(parents), decisions.get((edge.parent, edge.child)), faults)
            if edge.copies is None:
                copies.update({(edge.number, key): count for key, count in zip(parents, counts, strict=True)})
            if len(made) + sum(counts) > MAX_TOKENS_OF_QUERY:
                faults.add(
                    Fault(_place((edge.parent, edge.child)), f"more than {MAX_TOKENS_OF_QUERY:,} tokens")
                )
                counts = [0] * len(parents)
            for key, count in zip(parents, counts, strict=True):
                made += [(edge.number, key, copy) for copy in range(count)]
        if stage.merges:
            expected[name] = len(made)
            made = [()] if made else []
        keys[name] = made if stage.incoming else [()]
    faults.check()
    return KnownRoutes(copies, expected)


def _counts(edge: BlueprintEdge, parents: int, given: Sequence[int] | None, faults: Faults) -> list[int]:
    """How many tokens an edge makes of each parent; what is no answer counts as none, and is told."""
    if edge.copies is not None and given is None:
        return [edge.copies] * parents
    place = _place((edge.parent, edge.child))
    if given is None:
        if parents:
            faults.add(Fault(place, "needs a decision: how many tokens it makes of each token of the query"))
        return [0] * parents
    whole = isinstance(given, Sequence) and not isinstance(given, str)
    if not whole or len(given) != parents or not all(is_whole(count) and count >= 0 for count in given):
        message = (
            f"expected {counted(parents, 'count')} of tokens, one for each of the query's at {edge.parent}"
        )
        faults.add(Fault(place, f"{message}, found {shown(given)}"))
        return [0] * parents
    counts = [int(count) for count in given]
    if edge.copies is not None and any(count != edge.copies for count in counts):
        faults.add(Fault(place, f"makes {edge.copies} of every token, found {shown(given)}"))
    return counts


def _place(arc: tuple[str, str]) -> str:
    return f"decisions.{_arrow(arc)}"


def _arrow(arc: tuple[str, str]) -> str:
    return f"{arc[0]} -> {arc[1]}"


def made_along(
    edge: BlueprintEdge, known: int | None, decided: Copies | None, output: Any = None
) -> Sequence[Any]:
    """Return what each of the tokens gets that an edge makes of a token.

    Parameters
    ----------
    edge : BlueprintEdge
    known : int or None
        How many there are, if that was known before.
    decided : mapping or None
        What was decided when the token left. It comes from whoever runs batches, and may be anything.
    output : object
        Of the token.

    Raises
    ------
    InputError
        Where nobody says how many there are, or a list has another length.
    """
    told = decided.get(edge.child) if isinstance(decided, Mapping) else None
    if isinstance(told, list | tuple):
        if len(told) == known or (known is None and len(told) <= MAX_TOKENS_OF_QUERY):
            return told
        most = f"{MAX_TOKENS_OF_QUERY:,} at most" if known is None else f"{known}"
        message = f"expected a list for {most} tokens that it makes of this token, found one of {len(told):,}"
    elif known is not None:
        return [output] * known
    elif is_whole(told) and 0 <= int(told) <= MAX_TOKENS_OF_QUERY:
        return [output] * int(told)
    else:
        message = f"expected how many tokens it makes of this token, or a list of what each gets, found {shown(told)}"
    raise InputError.one(_place((edge.parent, edge.child)), message)


class DrawnDecisions:
    """The decisions of the queries of a trace, as `mipplan.replay` draws them."""

    def __init__(self, pipeline: Pipeline, seed: int = 0) -> None:
        self._pipeline, self._seed = pipeline, seed
        self._uncertain = [
            (edge.parent, edge.child)
            for edge in pipeline.edges
            if edge.probability < 1.0 or not edge.fanout.is_constant_integer
        ]
        self._first, self._drawn = -1, list[Decisions]()

    def __getitem__(self, query: int) -> Decisions:
        """Return the decisions of a query by its number in the trace."""
        if not self._uncertain:
            return {}
        first = query - query % _DRAWN_AT_ONCE
        if first != self._first:
            self._first, self._drawn = first, self._draw(first)
        return self._drawn[query - first]

    def _draw(self, first: int) -> list[Decisions]:
        nothing = np.zeros(_DRAWN_AT_ONCE, dtype=np.int64)
        workload = realise_queries(self._pipeline, nothing, self._seed, first)
        made: list[dict[tuple[str, str], Sequence[int]]] = [{} for _ in range(_DRAWN_AT_ONCE)]
        for tokens in workload.stages.values():
            for messages in tokens.messages:
                arc = messages.edge.parent, messages.edge.child
                if arc not in self._uncertain:
                    continue
                parents = workload.stages[arc[0]]
                counts = np.bincount(messages.parent, minlength=parents.count)
                ends = np.searchsorted(parents.query, np.arange(1, _DRAWN_AT_ONCE))
                for decisions, part in zip(made, np.split(counts, ends), strict=True):
                    decisions[arc] = part.tolist()
        return list(made)
