"""Critical chains: how the slowest queries come to their latency bounds, as linear functions of every T and 1/R.

Unrolling the theorem along the tokens that attain its maxima gives, for a query q,

    latency(q) = constant + Σ_v uses_v·T_v + Σ_v tokens_v·(1/R_v)        (rounded up stage by stage)

Under other services these tokens need no longer attain the maxima, but the maxima are never below them. So a chain
bounds the latency under *any* services from below, for the price of a few multiplications instead of passes
over the trace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipplan.calculus import StageService
from mipplan.core import Int64
from mipplan.tokens import StageTokens, Workload


@dataclass(frozen=True)
class Chains:
    """Critical chains of some queries under some services.

    Attributes
    ----------
    stages : tuple of str
    constant_ns : float64, shape (q,)
        Delays, and how much earlier or later than the query the chain's first token came.
    uses : float64, shape (stages, q)
        1 where the chain passes through the stage, else 0.
    tokens : float64, shape (stages, q)
        Tokens served at each stage between the chain's own and the one it waits for.
    """

    stages: tuple[str, ...]
    constant_ns: NDArray[np.float64]
    uses: NDArray[np.float64]
    tokens: NDArray[np.float64]

    def latency_ns(self, services: Mapping[str, StageService]) -> NDArray[np.float64]:
        """Return lower bounds on the queries' latency bounds under `services`, ns, shape (q,)."""
        chosen = [services[stage] for stage in self.stages]
        latency = np.array([service.latency_ns for service in chosen], dtype=np.float64)
        period = np.array([service.period_ns / service.tokens for service in chosen])
        lower: NDArray[np.float64] = self.constant_ns + latency @ self.uses + period @ self.tokens
        # Two sums of as many products as stages: off by less than an ε per stage, of all terms together. Only the
        # constant may be negative, so these are at most twice what is added here.
        terms = np.abs(self.constant_ns) + np.abs(lower)
        lower -= 2 * (len(self.stages) + 4) * np.finfo(np.float64).eps * terms
        return lower


def critical_chains(
    workload: Workload, services: Mapping[str, StageService], exits: Mapping[str, Int64], queries: Int64
) -> Chains:
    """Follow every query's last exit back to a source.

    Parameters
    ----------
    workload : Workload
    services : mapping of str to StageService
    exits : mapping of str to int64 arrays
        Bound on the exit of every token under these services.
    queries : int64, shape (q,)
        Query numbers in the workload.
    """
    order = tuple(workload.stages)
    stage, token = _last_exits(workload, exits, queries)
    constant = -workload.ingress_ns[queries]  # in integers: times may be those of a clock
    uses = np.zeros((len(order), queries.size))
    tokens = np.zeros((len(order), queries.size))
    for index in range(len(order) - 1, -1, -1):
        name = order[index]
        here = np.flatnonzero(stage == index)
        if here.size == 0:
            continue
        made = workload.stages[name]
        arrival = workload.arrival_ns(name, exits)
        last = token[here]
        first = _waited_for(made, arrival, services[name], last)
        uses[index, here] = 1.0
        tokens[index, here] = (
            (last - first) if made.number is None else made.number[last] - made.number[first]
        )
        if not made.messages:
            constant[here] += arrival[first]
            continue
        sender, parent, delay_ns = _senders(made, exits, first)
        stage[here] = np.array([order.index(messages.edge.parent) for messages in made.messages])[sender]
        token[here] = parent
        constant[here] += delay_ns
    return Chains(order, constant.astype(np.float64), uses, tokens)


def waited_for_queries(
    workload: Workload, services: Mapping[str, StageService], exits: Mapping[str, Int64], queries: Int64
) -> Int64:
    """Return the queries that these wait for along their critical chains, each once, ascending.

    Parameters
    ----------
    workload, services, exits, queries
        As for `critical_chains`.
    """
    order = tuple(workload.stages)
    stage, token = _last_exits(workload, exits, queries)
    found = [queries]
    for index in range(len(order) - 1, -1, -1):
        here = np.flatnonzero(stage == index)
        if here.size == 0:
            continue
        made = workload.stages[order[index]]
        arrival = workload.arrival_ns(order[index], exits)
        first = _waited_for(made, arrival, services[order[index]], token[here])
        found.append(made.query[first])
        if made.messages:
            sender, parent, _ = _senders(made, exits, first)
            stage[here] = np.array([order.index(m.edge.parent) for m in made.messages])[sender]
            token[here] = parent
    return np.unique(np.concatenate(found))


def _last_exits(workload: Workload, exits: Mapping[str, Int64], queries: Int64) -> tuple[Int64, Int64]:
    """Stage (by its place in the workload) and token of each query's last exit."""
    stage = np.full(queries.size, -1, dtype=np.int64)
    token = np.zeros(queries.size, dtype=np.int64)
    latest = np.full(queries.size, np.iinfo(np.int64).min)
    for index, (name, made) in enumerate(workload.stages.items()):
        if made.count == 0:
            continue
        found, greatest = _latest_of(made.query, exits[name], queries)
        better = greatest > latest
        stage[better], token[better], latest[better] = index, found[better], greatest[better]
    return stage, token


def _latest_of(owner: Int64, time_ns: Int64, wanted: Int64) -> tuple[Int64, Int64]:
    """Per wanted owner the entry with the latest time, and that time; the least int64 where there is none.

    `owner` is non-decreasing, shape (k,), k ≥ 1. So are the times of each owner: bounds on exits do not fall in token
    order, so the last entry is the latest.
    """
    entry = np.searchsorted(owner, wanted, side="right") - 1
    return entry, np.where(owner[entry] == wanted, time_ns[entry], np.iinfo(np.int64).min)


def _waited_for(tokens: StageTokens, arrival_ns: Int64, service: StageService, last: Int64) -> Int64:
    """Token whose arrival and the work since decide when each of `last` starts: the maximum over j ≤ i.

    In floats: where rounding mistakes one token for another, the chain is another, and as valid.
    """
    number = np.arange(tokens.count) if tokens.number is None else tokens.number
    key = (arrival_ns - arrival_ns.min()) - number * (service.period_ns / service.tokens)
    greatest = np.maximum.accumulate(key)
    return np.searchsorted(greatest, greatest[last])


def _senders(tokens: StageTokens, exits: Mapping[str, Int64], wanted: Int64) -> tuple[Int64, Int64, Int64]:
    """Edge (by its place), parent token and delay of the latest message that reaches each token."""
    edge = np.zeros(wanted.size, dtype=np.int64)
    parent = np.zeros(wanted.size, dtype=np.int64)
    latest = np.full(wanted.size, np.iinfo(np.int64).min)
    for index, messages in enumerate(tokens.messages):
        if messages.child.size == 0:
            continue
        sent = exits[messages.edge.parent][messages.parent] + np.int64(messages.edge.delay_ns)
        found, greatest = _latest_of(messages.child, sent, wanted)
        better = greatest > latest
        edge[better], parent[better], latest[better] = index, messages.parent[found][better], greatest[better]
    delays = np.array([messages.edge.delay_ns for messages in tokens.messages], dtype=np.int64)
    return edge, parent, delays[edge]
