"""The tokens of every stage and the messages that reach them, realised for a trace and seed.

The workload is data about *what* arrives, not about when: times follow from a plan. It is shared by the
certificate and the replayer, which share nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from types import MappingProxyType

import numpy as np

from mipplan.core import PIECE, Bool, InputError, Int32, Int64, check_seed, counts_up, frozen, keep_memory
from mipplan.pipeline import Edge, Join, Pipeline
from mipplan.tokens.draws import FanOutDraws, edge_key, uniform_pairs
from mipplan.trace import Trace

#: More tokens than this at one stage are refused: beyond it memory, not the planner, gives out.
MAX_TOKENS = 200_000_000


@dataclass(frozen=True)
class Messages:
    """What passes along one edge: message k leaves parent token ``parent[k]`` and reaches token ``child[k]``."""

    edge: Edge
    # Shape (m,). Token numbers at the edge's two ends; `parent` is non-decreasing.
    parent: Int64
    child: Int64
    # Whether it is known without a look that message k goes from token k to token k.
    known_one_to_one: bool = False

    @cached_property
    def one_to_one(self) -> bool:
        """Whether message k goes from token k to token k."""
        if self.known_one_to_one:
            return True
        return counts_up(self.parent) and (self.child is self.parent or counts_up(self.child))

    @cached_property
    def first_to_child(self) -> Int64:
        """At a join `all`, where `child` is non-decreasing: the first message to each child, shape (children,)."""
        return frozen(_run_starts(self.child))


@dataclass(frozen=True)
class StageTokens:
    """The tokens of one stage in token order: (query, incoming edge, parent token, copy).

    Queries are numbered by ingress time, so this is the order in which the serving model takes tokens.
    """

    name: str
    query: Int64  # Shape (k,). The query of each token, non-decreasing.
    messages: tuple[Messages, ...]  # One per incoming edge in file order; empty at a source.
    queries: int  # Number of queries in the trace.
    # Shape (k,), or None. In an extract of a workload, the numbers that the tokens have in the whole of it.
    number: Int64 | None = None
    # Whether it is known without a look that token i belongs to query i, for every query.
    known_one_per_query: bool = False

    @property
    def count(self) -> int:
        """Number of tokens."""
        return int(self.query.size)

    @cached_property
    def one_per_query(self) -> bool:
        """Whether token i belongs to query i, for every query (so token and query numbers are the same)."""
        return self.known_one_per_query or (self.count == self.queries and counts_up(self.query))

    @cached_property
    def at_most_one(self) -> bool:
        """Whether no query has two tokens."""
        return self.one_per_query or not bool((self.query[1:] == self.query[:-1]).any())

    @property
    def ordinal(self) -> Int64:
        """Number of each token among those of its query, shape (k,)."""
        if self.at_most_one:
            return np.zeros(self.count, dtype=np.int64)
        first = self.first_of_query
        return np.arange(self.count, dtype=np.int64) - np.repeat(first, np.diff(first, append=self.count))

    @cached_property
    def first_of_query(self) -> Int64:
        """Token numbers at which a new query starts, shape (distinct queries,)."""
        return frozen(_run_starts(self.query))


@dataclass(frozen=True)
class Workload:
    """All tokens of a trace through a pipeline, for one seed."""

    pipeline: Pipeline
    ingress_ns: Int64  # Shape (n,). Ingress time of each query, non-decreasing.
    seed: int
    stages: Mapping[str, StageTokens]  # In topological order.

    @property
    def queries(self) -> int:
        """Number of queries."""
        return int(self.ingress_ns.size)

    @property
    def span_ns(self) -> int:
        """Time from the first ingress to the last."""
        return int(self.ingress_ns[-1] - self.ingress_ns[0])

    def follows(self, stage: str) -> Edge | None:
        """Return the edge along which token k of `stage` follows token k of its only parent, for all of both."""
        messages = self.stages[stage].messages
        return messages[0].edge if len(messages) == 1 and self._passes_all(messages[0]) else None

    @cached_property
    def last_stages(self) -> tuple[str, ...]:
        """Stages at which a query may have its last exit: not all of their tokens are passed on."""
        passed_on = {
            messages.edge.parent
            for tokens in self.stages.values()
            for messages in tokens.messages
            if self._passes_all(messages)
        }
        return tuple(name for name in self.stages if name not in passed_on)

    def _passes_all(self, messages: Messages) -> bool:
        return messages.one_to_one and messages.parent.size == self.stages[messages.edge.parent].count

    def arrival_ns(self, stage: str, exit_ns: Mapping[str, Int64]) -> Int64:
        """When each token of `stage` is ready, given the exit of every token of its parents, shape (k,).

        At a source the ingress time; else exit plus the edge's delay, at a join the latest of those merged. Where
        this is an array at hand (`ingress_ns`, a parent's exits), that one is returned, not a copy.
        """
        tokens = self.stages[stage]
        if not tokens.messages:
            return self.ingress_ns if tokens.one_per_query else self.ingress_ns[tokens.query]
        merges = self.pipeline.stages[stage].join is Join.ALL
        # Along an only edge message k makes token k, unless messages are merged.
        if len(tokens.messages) == 1 and (tokens.messages[0].one_to_one or not merges):
            return _received(tokens.messages[0], exit_ns)
        ready = np.full(tokens.count, np.iinfo(np.int64).min, dtype=np.int64)
        for messages in tokens.messages:
            one_to_one = messages.one_to_one
            received = _received(messages, exit_ns)
            if not merges:
                ready[messages.child] = received
            elif one_to_one and received.size == ready.size:
                np.maximum(ready, received, out=ready)
            else:
                _keep_latest(ready, received, messages.child, messages.first_to_child)
        return ready

    def at(self, ingress_ns: Int64) -> Workload:
        """Return the same tokens at other ingress times, shape (n,), non-decreasing: draws do not depend on these."""
        return replace(self, ingress_ns=ingress_ns)

    def restricted(self, kept: Bool) -> Workload:
        """Only the tokens of the queries marked in `kept`, shape (n,), numbered anew.

        Each stage's `number` says which of the whole workload they are: how many tokens lie between two.
        """
        everyone = frozen(np.arange(np.count_nonzero(kept), dtype=np.int64))
        by_query = _Kept(kept, everyone)
        stages, extracts = dict[str, StageTokens](), dict[str, _Kept]()
        for name, tokens in self.stages.items():
            # Stages that share an array of queries have the same tokens.
            alike = next((other for other in stages if self.stages[other].query is tokens.query), None)
            if alike is not None:
                own, number = extracts[alike], stages[alike].number
            else:
                own = by_query
                if not tokens.one_per_query:
                    marked = kept[tokens.query]
                    own = _Kept(marked, by_query.renumbered(tokens.query[marked]))
                number = own.numbers(tokens.number)
            messages = []
            for passed in tokens.messages:
                above, child = extracts[passed.edge.parent], _counted(everyone, own.query.size)
                if above is own and self._passes_all(passed):
                    parent = child
                elif len(tokens.messages) == 1 and self.pipeline.stages[name].join is not Join.ALL:
                    parent = above.renumbered(passed.parent[own.marked])
                else:
                    sent = own.marked[passed.child]
                    parent, child = above.renumbered(passed.parent[sent]), own.renumbered(passed.child[sent])
                messages.append(Messages(passed.edge, parent, child))
            stages[name] = StageTokens(name, own.query, tuple(messages), everyone.size, number)
            extracts[name] = own
        return Workload(self.pipeline, frozen(self.ingress_ns[kept]), self.seed, MappingProxyType(stages))

    def latency_ns(self, exit_ns: Mapping[str, Int64]) -> Int64:
        """Latency of each query: the last exit of any of its tokens minus its ingress, shape (n,).

        Only the exits from `last_stages` are looked at: a token leaves later than the one it follows.
        """
        whole = next((name for name in self.last_stages if self.stages[name].one_per_query), None)
        if whole is not None and len(self.last_stages) == 1:
            return exit_ns[whole] - self.ingress_ns
        last = np.full(self.queries, np.iinfo(np.int64).min) if whole is None else exit_ns[whole].copy()
        for name in self.last_stages:
            tokens = self.stages[name]
            if not tokens.one_per_query:
                starts = None if tokens.at_most_one else tokens.first_of_query
                _keep_latest(last, exit_ns[name], tokens.query, starts)
            elif name != whole:
                np.maximum(last, exit_ns[name], out=last)
        return np.subtract(last, self.ingress_ns, out=last)


def realise(pipeline: Pipeline, trace: Trace, seed: int = 0) -> Workload:
    """Draw the tokens of every query at every stage.

    Raises `InputError` if the seed is no non-negative integer, or a stage would see more than `MAX_TOKENS`
    tokens.

    Parameters
    ----------
    seed : int
        Non-negative; the draws are keyed by (seed, edge, query, token).
    """
    keep_memory()
    return realise_queries(pipeline, trace.arrival_ns, check_seed(seed))


def realise_queries(pipeline: Pipeline, ingress_ns: Int64, seed: int, first_query: int = 0) -> Workload:
    """Draw the tokens of the queries numbered from `first_query` on, whose ingress times are given, shape (n,).

    Their draws are those that they have in the whole trace; in the workload, numbers start at 0 again.
    """
    # Handed on as it is by stages with one token per query: what is this array need not be looked at.
    everyone = frozen(np.arange(ingress_ns.size, dtype=np.int64))
    stages: dict[str, StageTokens] = {}
    for name in pipeline.topological_order:
        stages[name] = _stage_tokens(pipeline, name, stages, everyone, seed, first_query)
    return Workload(pipeline, ingress_ns, seed, MappingProxyType(stages))


def _stage_tokens(
    pipeline: Pipeline,
    name: str,
    above: Mapping[str, StageTokens],
    everyone: Int64,
    seed: int,
    first_query: int,
) -> StageTokens:
    incoming, queries = pipeline.incoming(name), everyone.size
    if not incoming:
        return StageTokens(name, everyone, (), queries, known_one_per_query=True)
    parents = [
        _parents_of_messages(edge, above[edge.parent], everyone, seed, first_query) for edge in incoming
    ]
    owners = [_owners(above[edge.parent], own) for edge, own in zip(incoming, parents, strict=True)]
    if pipeline.stages[name].join is Join.ALL:
        query, children = _merge(owners, everyone)
    else:
        _check_count(f"stage {name}", sum(owner.size for owner in owners))
        query, children = _interleave(owners, everyone)
    messages = tuple(
        Messages(edge, frozen(parent), frozen(child), child is parent is everyone)
        for edge, parent, child in zip(incoming, parents, children, strict=True)
    )
    return StageTokens(name, frozen(query), messages, queries, known_one_per_query=query is everyone)


def _owners(tokens: StageTokens, parent: Int64) -> Int64:
    """Queries of an edge's messages; where there is one of each token, the array of the tokens itself."""
    if tokens.one_per_query:
        return parent
    each_one = parent.size == tokens.count and counts_up(parent)
    return tokens.query if each_one else tokens.query[parent]


def _parents_of_messages(
    edge: Edge, tokens: StageTokens, everyone: Int64, seed: int, first_query: int
) -> Int64:
    numbers = everyone if tokens.one_per_query else _counted(everyone, tokens.count)
    place = f"edge {edge.parent} -> {edge.child}"
    certain = edge.probability >= 1.0
    if certain and edge.fanout.is_constant_integer:
        copies = edge.fanout.values[0]
        _check_count(place, tokens.count * copies)
        return numbers if copies == 1 else np.repeat(numbers, copies)
    key = edge_key(seed, edge.parent, edge.child)
    draws, ordinal = FanOutDraws.of(edge.fanout), tokens.ordinal
    found, total = [numbers[:0]], 0
    # Piece by piece: only what comes of the draws is ever held for all tokens.
    for start in range(0, tokens.count, PIECE):
        piece = slice(start, start + PIECE)
        take, spread = uniform_pairs(key, tokens.query[piece] + first_query, ordinal[piece])
        sends = slice(None) if certain else take < edge.probability
        made = draws.at(spread[sends])
        total += int(made.sum())
        if total <= MAX_TOKENS:  # else they are only counted
            found.append(np.repeat(numbers[piece][sends], made))
    _check_count(place, total)
    return np.concatenate(found)


def _check_count(place: str, count: int) -> None:
    if count > MAX_TOKENS:
        raise InputError.one(
            place,
            f"this trace makes {count:,} tokens here, more than the {MAX_TOKENS:,} that are supported; "
            "use a shorter trace or a smaller fan-out",
        )


@dataclass(frozen=True)
class _Kept:
    """Which tokens of a stage are kept, or which queries, and what queries these are then."""

    marked: Bool  # Shape (k,).
    query: Int64  # Shape (kept,).

    def numbers(self, of_all: Int64 | None) -> Int64:
        """Return those of the tokens that are kept, given those of all if they are not counted from 0."""
        return frozen(np.flatnonzero(self.marked) if of_all is None else of_all[self.marked])

    @cached_property
    def _up_to(self) -> Int32:
        """How many are kept up to each: at most `MAX_TOKENS`."""
        return np.cumsum(self.marked, dtype=np.int32)

    def renumbered(self, numbers: Int64) -> Int64:
        """Return the new numbers of some that are kept, given the old ones."""
        return frozen(self._up_to[numbers].astype(np.int64) - 1)


def _interleave(owners: list[Int64], everyone: Int64) -> tuple[Int64, list[Int64]]:
    """`join: each`: one token per message, ordered by (query, edge, parent token, copy)."""
    if len(owners) == 1:
        (owner,) = owners
        # 0, 1, 2, …: the array itself if it is so, as in most workloads.
        is_counted = owner is everyone or counts_up(owner)
        return owner, [owner if is_counted else _counted(everyone, owner.size)]
    query = np.concatenate(owners)
    # Each edge's messages are in (query, parent, copy) order already, so a stable sort by query finishes it.
    order = np.argsort(query, kind="stable")
    place = np.empty(query.size, dtype=np.int64)
    place[order] = np.arange(query.size, dtype=np.int64)
    ends = np.cumsum([owner.size for owner in owners])[:-1]
    return query[order], list(np.split(place, ends))


def _merge(owners: list[Int64], everyone: Int64) -> tuple[Int64, list[Int64]]:
    """`join: all`: one token per query that sent any message."""
    for owner in owners:
        if owner is everyone or (owner.size == everyone.size and counts_up(owner)):
            return owner, owners
    sent = np.zeros(everyone.size, dtype=np.bool_)
    for owner in owners:
        sent[owner] = True
    token_number = np.cumsum(sent) - 1
    return np.flatnonzero(sent), [token_number[owner] for owner in owners]


def _received(messages: Messages, exit_ns: Mapping[str, Int64]) -> Int64:
    """When each message of an edge arrives."""
    sent, delay_ns = exit_ns[messages.edge.parent], np.int64(messages.edge.delay_ns)
    if messages.one_to_one and messages.parent.size == sent.size:
        return sent + delay_ns if delay_ns else sent
    received = sent[messages.parent]
    received += delay_ns
    return received


def _keep_latest(latest: Int64, values: Int64, owner: Int64, starts: Int64 | None) -> None:
    """Raise ``latest`` of each owner to the largest of its values; at `starts`, if there are any, their runs begin."""
    if starts is not None and starts.size < values.size:
        values, owner = np.maximum.reduceat(values, starts), owner[starts]
    latest[owner] = np.maximum(latest[owner], values)


def _counted(everyone: Int64, count: int) -> Int64:
    """0, 1, …, count − 1: where there are that many queries, a view of their numbers, which takes no memory."""
    return everyone[:count] if count <= everyone.size else np.arange(count, dtype=np.int64)


def _run_starts(array: Int64) -> Int64:
    """Where runs of equal neighbours start."""
    return np.flatnonzero(np.r_[array.size > 0, array[1:] != array[:-1]])


def least_demand(workloads: Sequence[Workload], faster: float) -> dict[str, Fraction]:
    """Least mean token rate of each stage over several traces, before all were sped up by a factor.

    That rounded arrivals, so a span may have lost a nanosecond, or a float's precision of it.
    """
    rounds = faster != 1.0
    spans_ns = [(w.span_ns + rounds * (1 + w.span_ns // 2**50)) * Fraction(faster) for w in workloads]
    return {
        stage: min(w.stages[stage].count / span_ns for w, span_ns in zip(workloads, spans_ns, strict=True))
        for stage in workloads[0].stages
    }
