"""Which tokens every query makes, derived one token at a time from the text of the model (theory, "Serving model").

Slow and obvious: nested loops and Python integers. Nothing of `mipplan.tokens` is used.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field

from mipplan.pipeline import Edge, FanOut, Join, Pipeline


@dataclass
class SlowToken:
    """One token; `senders` are the messages it is made of: (parent stage, parent token, delay in ns)."""

    query: int
    senders: list[tuple[str, int, int]] = field(default_factory=list)


SlowTokens = dict[str, list[SlowToken]]


def slow_tokens(pipeline: Pipeline, queries: int, seed: int) -> SlowTokens:
    """Tokens of every stage in token order, parents before children."""
    made: SlowTokens = {}
    while len(made) < len(pipeline.stages):
        for stage in pipeline.stages:
            if stage not in made and all(edge.parent in made for edge in pipeline.incoming(stage)):
                made[stage] = _tokens_of_stage(pipeline, stage, made, queries, seed)
    return made


def _tokens_of_stage(
    pipeline: Pipeline, stage: str, made: SlowTokens, queries: int, seed: int
) -> list[SlowToken]:
    edges = pipeline.incoming(stage)
    if not edges:
        return [SlowToken(query) for query in range(queries)]
    tokens: list[SlowToken] = []
    for query in range(queries):
        messages: list[tuple[str, int, int]] = []
        for edge in edges:
            parents = [number for number, token in enumerate(made[edge.parent]) if token.query == query]
            for ordinal, parent in enumerate(parents):
                copies = _copies(edge, seed, query, ordinal)
                messages += [(edge.parent, parent, edge.delay_ns)] * copies
        if pipeline.stages[stage].join is Join.ALL:
            tokens += [SlowToken(query, messages)] if messages else []
        else:
            tokens += [SlowToken(query, [message]) for message in messages]
    return tokens


def _copies(edge: Edge, seed: int, query: int, ordinal: int) -> int:
    digest = hashlib.blake2b(f"{seed}\0{edge.parent}\0{edge.child}".encode(), digest_size=8).digest()
    key = (int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little"))
    words = philox_words((query % 2**32, query // 2**32, ordinal, 0), key)
    if uniform(words[0], words[1]) >= edge.probability:
        return 0
    return _inverse(edge.fanout, uniform(words[2], words[3]))


def philox_words(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Philox-4x32-10 on one counter (Salmon et al. 2011, doi:10.1145/2063384.2063405, section 3.3)."""
    x, k = list(counter), list(key)
    for _ in range(10):
        first, second = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
        x = [
            (second >> 32) ^ x[1] ^ k[0],
            second % 2**32,
            (first >> 32) ^ x[3] ^ k[1],
            first % 2**32,
        ]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return x[0], x[1], x[2], x[3]


def uniform(low: int, high: int) -> float:
    """The top 53 of 64 bits as a number in [0, 1)."""
    return float((high * 2**32 + low) >> 11) / 2**53


def _inverse(fanout: FanOut, draw: float) -> int:
    """Least number of tokens whose distribution function exceeds the draw, in the order of the values."""
    if fanout.poisson_mean is None:
        below = 0.0
        for value, weight in zip(fanout.values, fanout.weights, strict=True):
            below += weight
            if draw < below:
                return value
        return fanout.values[-1]
    mean, below, value = fanout.poisson_mean, 0.0, 0
    while True:
        below += math.exp(value * math.log(mean) - mean - math.lgamma(value + 1))
        if draw < below:
            return value
        value += 1
