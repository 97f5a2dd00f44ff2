"""The tokens of every stage and the messages that reach them, realised for a trace and seed.

The workload is data about *what* arrives, not about when: times follow from a plan. It is shared by the
certificate and the replayer, which share nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from mipplan.core import Bool, Float64, InputError, Int64, check_seed, frozen
from mipplan.pipeline import Edge, FanOut, Join, Pipeline
from mipplan.tokens.draws import edge_key, uniform_pairs
from mipplan.trace import Trace

#: More tokens than this at one stage are refused: beyond it memory, not the planner, gives out.
MAX_TOKENS = 200_000_000
#: Numbers looked at together: few enough to stay in the processor's cache.
_PIECE = 1 << 14


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
        return _counts_up(self.parent) and (self.child is self.parent or _counts_up(self.child))

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
        return self.known_one_per_query or (self.count == self.queries and _counts_up(self.query))

    @property
    def ordinal(self) -> Int64:
        """Number of each token among those of its query, shape (k,)."""
        if self.one_per_query:
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
        if len(tokens.messages) == 1 and tokens.messages[0].one_to_one:
            return _received(tokens.messages[0], exit_ns)
        ready = np.full(tokens.count, np.iinfo(np.int64).min, dtype=np.int64)
        merges = self.pipeline.stages[stage].join is Join.ALL
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
        query_number = np.cumsum(kept) - 1
        token_kept = {name: kept[tokens.query] for name, tokens in self.stages.items()}
        token_number = {name: np.cumsum(marked) - 1 for name, marked in token_kept.items()}
        stages: dict[str, StageTokens] = {}
        for name, tokens in self.stages.items():
            marked = token_kept[name]
            messages = []
            for passed in tokens.messages:
                sent = marked[passed.child]
                parent = token_number[passed.edge.parent][passed.parent[sent]]
                child = token_number[name][passed.child[sent]]
                messages.append(Messages(passed.edge, frozen(parent), frozen(child)))
            query = query_number[tokens.query[marked]]
            number = np.flatnonzero(marked) if tokens.number is None else tokens.number[marked]
            stages[name] = StageTokens(name, frozen(query), tuple(messages), int(kept.sum()), frozen(number))
        ingress_ns = frozen(self.ingress_ns[kept])
        return Workload(self.pipeline, ingress_ns, self.seed, MappingProxyType(stages))

    def latency_ns(self, exit_ns: Mapping[str, Int64]) -> Int64:
        """Latency of each query: the last exit of any of its tokens minus its ingress, shape (n,).

        Only the exits from `last_stages` are looked at: a token leaves later than the one it follows.
        """
        first, *others = self.last_stages
        if not others and self.stages[first].one_per_query:
            return exit_ns[first] - self.ingress_ns
        last = np.full(self.queries, np.iinfo(np.int64).min, dtype=np.int64)
        for name in self.last_stages:
            tokens = self.stages[name]
            if tokens.one_per_query:
                np.maximum(last, exit_ns[name], out=last)
            else:
                _keep_latest(last, exit_ns[name], tokens.query, tokens.first_of_query)
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
    owners = [
        parent if above[edge.parent].one_per_query else above[edge.parent].query[parent]
        for edge, parent in zip(incoming, parents, strict=True)
    ]
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
    draws, ordinal = _FanOutDraws.of(edge.fanout), tokens.ordinal
    found, total = [numbers[:0]], 0
    # Piece by piece: only what comes of the draws is ever held for all tokens.
    for start in range(0, tokens.count, _PIECE):
        piece = slice(start, start + _PIECE)
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


class _FanOutDraws(NamedTuple):
    """Fan-outs and the distribution function up to each of them."""

    values: Int64
    cumulative: Float64

    @classmethod
    def of(cls, fanout: FanOut) -> _FanOutDraws:
        mean = fanout.poisson_mean
        if mean is None:
            values = np.asarray(fanout.values, dtype=np.int64)
            return cls(values, np.cumsum(np.asarray(fanout.weights, dtype=np.float64)))
        # Beyond twelve standard deviations all lies below the 2⁻⁵³ resolution of the uniforms.
        largest = math.ceil(mean + 12.0 * math.sqrt(mean) + 40.0)
        logs = np.array([k * math.log(mean) - mean - math.lgamma(k + 1) for k in range(largest + 1)])
        return cls(np.arange(largest + 1, dtype=np.int64), np.cumsum(np.exp(logs)))

    def at(self, uniform: Float64) -> Int64:
        """Turn uniforms into fan-outs by inversion of the distribution function, shape (k,)."""
        # The last step ends at 1 whatever rounding left: no uniform below 1 falls off the table.
        return self.values[np.searchsorted(self.cumulative[:-1], uniform, side="right")]


def _interleave(owners: list[Int64], everyone: Int64) -> tuple[Int64, list[Int64]]:
    """`join: each`: one token per message, ordered by (query, edge, parent token, copy)."""
    if len(owners) == 1:
        (owner,) = owners
        # 0, 1, 2, …: the array itself if it is so, as in most workloads.
        is_counted = owner is everyone or _counts_up(owner)
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
        if owner is everyone or (owner.size == everyone.size and _counts_up(owner)):
            return owner, owners
    sent = np.zeros(everyone.size, dtype=np.bool_)
    for owner in owners:
        sent[owner] = True
    token_number = np.cumsum(sent) - 1
    return np.flatnonzero(sent), [token_number[owner] for owner in owners]


def _received(messages: Messages, exit_ns: Mapping[str, Int64]) -> Int64:
    """When each message of an edge arrives."""
    sent = exit_ns[messages.edge.parent]
    if not (messages.one_to_one and messages.parent.size == sent.size):
        sent = sent[messages.parent]
    return sent + np.int64(messages.edge.delay_ns) if messages.edge.delay_ns else sent


def _keep_latest(latest: Int64, values: Int64, owner: Int64, starts: Int64) -> None:
    """Raise ``latest`` of each owner to the largest of its values; at `starts`, runs of one owner begin."""
    if starts.size < values.size:
        values, owner = np.maximum.reduceat(values, starts), owner[starts]
    latest[owner] = np.maximum(latest[owner], values)


def _counted(everyone: Int64, count: int) -> Int64:
    """0, 1, …, count − 1: where there are that many queries, a view of their numbers, which takes no memory."""
    return everyone[:count] if count <= everyone.size else np.arange(count, dtype=np.int64)


def _counts_up(array: Int64) -> bool:
    """Whether the array is 0, 1, 2, …; looked at piece by piece, in no memory worth mentioning."""
    numbers = np.arange(min(array.size, _PIECE), dtype=np.int64)
    for start in range(0, array.size, _PIECE):
        piece = array[start : start + _PIECE]
        if piece[0] != start or not np.array_equal(piece - start, numbers[: piece.size]):
            return False
    return True


def _run_starts(array: Int64) -> Int64:
    """Where runs of equal neighbours start."""
    if array.size == 0:
        return np.empty(0, dtype=np.int64)
    return np.flatnonzero(np.r_[True, array[1:] != array[:-1]])


def least_demand(workloads: Sequence[Workload], headroom: float) -> dict[str, Fraction]:
    """Least mean token rate of each stage over several traces, without the headroom that they were sped up by.

    Then arrivals were rounded, so a span may have lost a nanosecond, or a float's precision of it.
    """
    rounds = headroom != 1.0
    spans_ns = [(w.span_ns + rounds * (1 + w.span_ns // 2**50)) * Fraction(headroom) for w in workloads]
    return {
        stage: min(w.stages[stage].count / span_ns for w, span_ns in zip(workloads, spans_ns, strict=True))
        for stage in workloads[0].stages
    }
