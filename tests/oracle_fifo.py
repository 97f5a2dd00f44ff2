"""The certificate of `fifo` queues as it is written (docs/fifo.md): all pairs, rational numbers, whole ns per stage.

How many tokens one replica can serve in a row is bounded as there, and found instant by instant, too.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction

from mipplan.pipeline import Join, Pipeline
from oracle_certificate import slow_arrivals
from oracle_tokens import SlowTokens


def slow_in_a_row(least: Sequence[int], within: int) -> int:
    """At most so many tokens are in batches that one after another take less than `within`: by number, and by rate."""
    batches = max(0, within - 1) // min(least)
    by_rate = max(math.floor(Fraction((within - 1) * size, time)) for size, time in enumerate(least, start=1))
    return min(batches * len(least), max(0, by_rate))


def most_in_a_row(least: Sequence[int], within: int) -> int:
    """Most tokens of batches, one after another, that take less than `within` together: by all times reached."""
    reached = {0: 0}  # Most tokens by exactly this time.
    best = 0
    for time in range(within):
        if time in reached:
            best = max(best, reached[time])
            for size, takes in enumerate(least, start=1):
                reached[time + takes] = max(reached.get(time + takes, 0), reached[time] + size)
    return best


def slow_along(
    service: Sequence[int],
    replicas: int,
    delay: int,
    share: Fraction,
    exact: bool,
    stagger: int = 0,
    window: int = 0,
) -> float:
    """Tokens that may pass a given one in service, and on an edge with this delay, outputs up to `stagger` apart.

    A batch of two or more may begin up to `window` after it took its first token.
    """
    own = max(service) + (window if len(service) > 1 else 0)
    least = [max(1, math.floor(share * time)) for time in service]
    spread = (len(service) - 1) * stagger
    jitter = (0 if exact else delay) + (spread if spread > min(service) else 0)
    if replicas == 1 and jitter == 0:
        return 0
    if share == 0:
        return math.inf
    beside = slow_in_a_row(least, own + jitter + spread) if replicas > 1 else 0
    behind = slow_in_a_row(least, jitter + spread) + len(service) - 1 if jitter else 0
    return (replicas - 1) * beside + behind


def slow_overtakers(
    pipeline: Pipeline,
    tokens: SlowTokens,
    service: Mapping[str, Sequence[int]],
    replicas: Mapping[str, int],
    share: Fraction,
    exact: bool,
    stagger: Mapping[str, int],
    window: Mapping[str, int] | None = None,
) -> dict[str, float]:
    """At most so many younger tokens arrive at each stage before a token of it."""
    found: dict[str, float] = {}
    for stage, made in tokens.items():
        edges = pipeline.incoming(stage)
        merges = pipeline.stages[stage].join is Join.ALL
        each = [0.0]
        for edge in edges:
            own, gap = service[edge.parent], stagger[edge.parent]
            jitters = (not exact and edge.delay_ns > 0) or (len(own) - 1) * gap > min(own)
            collected = (window or {}).get(edge.parent, 0)
            along = slow_along(own, replicas[edge.parent], edge.delay_ns, share, exact, gap, collected)
            sent = Counter(
                sender for token in made for parent, sender, _ in token.senders if parent == edge.parent
            )
            copies = 1 if merges else max(sent.values(), default=1)
            each.append(copies * (found[edge.parent] + along) + (copies - 1 if jitters else 0))
        found[stage] = max(each)
        if merges:
            senders = [{parent for parent, _, _ in token.senders} for token in made]
            if any(edge.parent not in parents for edge in edges for parents in senders):
                found[stage] = math.inf
        elif len(edges) > 1:
            found[stage] = math.inf
    return found


def slow_fifo_exits(
    tokens: SlowTokens,
    ingress: Sequence[int],
    latency: Mapping[str, int],
    rate: Mapping[str, Fraction],
    overtakers: Mapping[str, float],
    exact: bool,
) -> dict[str, list[int]]:
    """Bound on the exit of every token, ns."""
    exits: dict[str, list[int]] = {}
    earliest: dict[str, list[int]] = {}
    for stage, made in tokens.items():
        latest = slow_arrivals(made, ingress, exits)
        # Without a delay that is sure, nothing is known but the ingress.
        entered = [ingress[token.query] for token in made]
        soonest = earliest[stage] = slow_arrivals(made, ingress, earliest) if exact else entered
        everyone = range(len(made))
        exits[stage] = []
        for token in everyone:
            in_order = max(latest[j] + (token - j) / rate[stage] for j in range(token + 1))
            start = in_order
            if overtakers[stage] > 0:
                begins = [begin for begin in latest if begin <= latest[token]]
                start = max(
                    begin
                    + (
                        sum(soonest[j] <= latest[token] for j in everyone)
                        - sum(latest[j] < begin for j in everyone)
                        - 1
                    )
                    / rate[stage]
                    for begin in begins
                )
                ahead = min(overtakers[stage], len(made) - 1 - token)
                start = max(in_order, min(start, in_order + Fraction(ahead) / rate[stage]))
            exits[stage].append(math.ceil(latency[stage] + start))
    return exits
