"""Paths, waits and envelopes by their definitions: every path, every pair, every window."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

from mipplan.pipeline import Pipeline
from oracle_tokens import SlowTokens

#: Below every wait: −∞.
NEVER = -(10**30)


def slow_rank(quantile: float, count: int) -> int:
    """How many of the values lie before the quantile, ``method="higher"``."""
    return math.ceil(quantile * (count - 1))


def slow_quantile(values: Sequence[int], quantile: float) -> int:
    """``numpy.quantile(values, quantile, method="higher")`` in Python integers."""
    return sorted(values)[slow_rank(quantile, len(values))]


def slow_paths(pipeline: Pipeline) -> Iterator[tuple[str, ...]]:
    """Every path from a source to any stage; only some of them are ends of queries."""

    def grow(path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield path
        for edge in pipeline.edges:
            if edge.parent == path[-1]:
                yield from grow((*path, edge.child))

    children = {edge.child for edge in pipeline.edges}
    for stage in pipeline.stages:
        if stage not in children:
            yield from grow((stage,))


def slow_seen_paths(
    pipeline: Pipeline, tokens: SlowTokens, queries: int, quantile: float
) -> set[tuple[str, ...]]:
    """Paths that enough queries take, without those that some edge always continues."""
    rank = slow_rank(quantile, queries)
    seen: set[tuple[str, ...]] = set()
    for path in slow_paths(pipeline):
        came = came_along(tokens, path)[-1]
        takers = {tokens[path[-1]][number].query for number in came}
        always_continued = any(
            came
            <= {
                sender
                for token in tokens[edge.child]
                for name, sender, _ in token.senders
                if name == path[-1]
            }
            for edge in pipeline.edges
            if edge.parent == path[-1]
        )
        if len(takers) >= queries - rank and not always_continued:
            seen.add(path)
    return seen


def slow_waits(
    tokens: SlowTokens, ingress: Sequence[int], path: Sequence[str], rate: Mapping[str, Fraction]
) -> list[list[int]]:
    """W_{p,v}(q) rounded up for every stage v of the path and query q; `NEVER` where there is none."""
    came, goes = came_along(tokens, path), goes_along(tokens, path)
    table: list[list[int]] = []
    for stage, beginning, remainder in zip(path, came, goes, strict=True):
        start = [ingress[token.query] for token in tokens[stage]]
        waits = [NEVER] * len(ingress)
        for i in remainder:
            for j in beginning:
                if j <= i:
                    wait = math.ceil((i - j) / rate[stage] - (start[i] - start[j]))
                    query = tokens[stage][i].query
                    waits[query] = max(waits[query], wait)
        table.append(waits)
    return table


def slow_bound(
    pipeline: Pipeline,
    tokens: SlowTokens,
    ingress: Sequence[int],
    latency: Mapping[str, int],
    rate: Mapping[str, Fraction],
    quantile: float,
) -> int:
    """max over the paths that are seen of ΣT + Σdelays + max_v w_{p,v}(R_v), ns."""
    delay = {(edge.parent, edge.child): edge.delay_ns for edge in pipeline.edges}
    worst = 0
    for path in slow_seen_paths(pipeline, tokens, len(ingress), quantile):
        waits = [slow_quantile(row, quantile) for row in slow_waits(tokens, ingress, path, rate)]
        fixed = sum(latency[stage] for stage in path) + sum(delay[arc] for arc in itertools.pairwise(path))
        worst = max(worst, fixed + max(waits))
    return worst


def came_along(tokens: SlowTokens, path: Sequence[str]) -> list[set[int]]:
    """Tokens of each stage that came along the beginning of the path."""
    came = [set(range(len(tokens[path[0]])))]
    for parent, stage in itertools.pairwise(path):
        came.append(
            {
                number
                for number, token in enumerate(tokens[stage])
                if any(name == parent and sender in came[-1] for name, sender, _ in token.senders)
            }
        )
    return came


def goes_along(tokens: SlowTokens, path: Sequence[str]) -> list[set[int]]:
    """Tokens of each stage that go on along the remainder of the path, wherever they came from."""
    goes = [set(range(len(tokens[path[-1]])))]
    for parent, stage in reversed(list(itertools.pairwise(path))):
        goes.insert(
            0,
            {
                sender
                for number in goes[0]
                for name, sender, _ in tokens[stage][number].senders
                if name == parent
            },
        )
    return goes


def slow_envelope(arrival_ns: Sequence[int]) -> list[tuple[int, int]]:
    """(length in ns, arrivals) of every closed window that starts and ends with an arrival."""
    pairs = itertools.combinations_with_replacement(range(len(arrival_ns)), 2)
    return [(arrival_ns[j] - arrival_ns[i], j - i + 1) for i, j in pairs]


def concave_hull(points: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Upper hull from the highest point at length 0 to the leftmost highest point of all."""
    hull: list[tuple[int, int]] = []
    for x, y in sorted(points, key=lambda point: (point[0], -point[1])):
        if hull and y <= hull[-1][1]:
            continue
        while len(hull) >= 2 and _is_below((x, y), hull[-2], hull[-1]):
            hull.pop()
        hull.append((x, y))
    return hull


def _is_below(new: tuple[int, int], left: tuple[int, int], middle: tuple[int, int]) -> bool:
    """Whether `middle` lies on or below the chord from `left` to `new`."""
    return (middle[1] - left[1]) * (new[0] - left[0]) <= (new[1] - left[1]) * (middle[0] - left[0])
