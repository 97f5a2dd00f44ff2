"""The sample-path theorem as it is written (design §3): all pairs j ≤ i, rational numbers, up to whole ns per stage."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction

from oracle_tokens import SlowToken, SlowTokens


def slow_latency(service: Sequence[int], is_source: bool, stagger: int = 0, window: int = 0) -> int:
    """T = 2·max ℓ(k), or ℓ(1) where b = 1 and the stage has no incoming edge.

    Then b − 1 gaps between outputs, and the window where a batch may hold more than one token.
    """
    served = service[0] if is_source and len(service) == 1 else 2 * max(service)
    return served + (len(service) - 1) * stagger + (window if len(service) > 1 else 0)


def slow_rate(service: Sequence[int], replicas: int) -> Fraction:
    """R = n·b/ℓ(b), tokens per ns."""
    return Fraction(replicas * len(service), service[-1])


def slow_services(
    tables: Mapping[str, Sequence[int]],
    replicas: Mapping[str, int],
    sources: Collection[str],
    stagger: Mapping[str, int] | None = None,
    window: Mapping[str, int] | None = None,
) -> tuple[dict[str, int], dict[str, Fraction]]:
    """T and R of every stage."""
    gaps, windows = stagger or dict.fromkeys(tables, 0), window or dict.fromkeys(tables, 0)
    latency = {s: slow_latency(own, s in sources, gaps[s], windows[s]) for s, own in tables.items()}
    return latency, {s: slow_rate(own, replicas[s]) for s, own in tables.items()}


def slow_arrivals(
    made: Sequence[SlowToken], ingress: Sequence[int], exits: Mapping[str, Sequence[int]]
) -> list[int]:
    """When the tokens of a stage are ready, given the exits above: a merged one with the last of its messages."""
    return [
        max(exits[parent][sender] + delay for parent, sender, delay in token.senders)
        if token.senders
        else ingress[token.query]
        for token in made
    ]


def slow_exits(
    tokens: SlowTokens,
    ingress: Sequence[int],
    latency: Mapping[str, int],
    rate: Mapping[str, Fraction],
) -> dict[str, list[int]]:
    """X_v(i) for every token, ns."""
    exits: dict[str, list[int]] = {}
    for stage, made in tokens.items():
        arrival = slow_arrivals(made, ingress, exits)
        exits[stage] = [
            math.ceil(latency[stage] + max(arrival[j] + (i - j) / rate[stage] for j in range(i + 1)))
            for i in range(len(made))
        ]
    return exits


def slow_latencies(
    tokens: SlowTokens, ingress: Sequence[int], exits: Mapping[str, Sequence[int]]
) -> list[int]:
    """Last exit of any token of a query minus its ingress, ns."""
    return [
        max(
            exits[stage][number]
            for stage, made in tokens.items()
            for number, token in enumerate(made)
            if token.query == query
        )
        - start
        for query, start in enumerate(ingress)
    ]
