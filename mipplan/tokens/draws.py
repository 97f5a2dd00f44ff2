"""Counter-based random draws: the same (seed, edge, query, token) gives the same number, in any order, anywhere.

A guarantee on several *samples*, traces with the seeds of their draws, holds on each by itself; nothing depends on the
order in which traces are given, as they are looked at by name.

A sequential generator would tie a draw to how many were made before it, so a sliced trace, a streamed
trace and another plan would see different tokens. Philox-4x32-10 maps a counter straight to random bits.

References
----------
J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11,
doi:10.1145/2063384.2063405.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from mipplan.core import Float64, InputError, Int64, UInt64, is_whole, shown
from mipplan.pipeline import FanOut, Pipeline
from mipplan.trace import Trace

_MULTIPLIER_0 = np.uint64(0xD2511F53)
_MULTIPLIER_1 = np.uint64(0xCD9E8D57)
_WEYL_0 = 0x9E3779B9
_WEYL_1 = 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_ROUNDS = 10
#: Draws made together: few enough to stay in the processor's cache, where they take half the time.
_PIECE = 1 << 14


Words = tuple[UInt64, UInt64, UInt64, UInt64]


def philox4x32(counter: Words, key: tuple[int, int]) -> Words:
    """Return random 32-bit words of a counter's words, least significant first, and a key, by Philox-4x32-10.

    Words are held in uint64, and arrays have one shape; the key's two are below 2**32.

    References
    ----------
    Salmon et al. 2011, section 3.3 and table 2 (doi:10.1145/2063384.2063405).
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        product_0 = _MULTIPLIER_0 * c0
        product_1 = _MULTIPLIER_1 * c2
        c0 = (product_1 >> _HALF) ^ c1 ^ np.uint64(k0)
        c1 = product_1 & _LOW
        c2 = (product_0 >> _HALF) ^ c3 ^ np.uint64(k1)
        c3 = product_0 & _LOW
        k0 = (k0 + _WEYL_0) & 0xFFFFFFFF
        k1 = (k1 + _WEYL_1) & 0xFFFFFFFF
    return c0, c1, c2, c3


def edge_key(seed: int, parent: str, child: str) -> tuple[int, int]:
    """Derive the Philox key of an edge from the seed and the edge's ends.

    The names, not the position in the file, so that adding an edge leaves the draws of the others alone.
    """
    digest = hashlib.blake2b(f"{seed}\0{parent}\0{child}".encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")


def service_key(seed: int, stage: str) -> tuple[int, int]:
    """Derive the Philox key of a stage's service times; no edge has the same, whatever the names."""
    digest = hashlib.blake2b(f"{seed}\0{stage}".encode(), digest_size=8, person=b"service").digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")


def uniform_pairs(key: tuple[int, int], query: Int64, ordinal: Int64) -> tuple[Float64, Float64]:
    """Draw two independent uniforms in [0, 1) for each (query, token of the query), shape (k,) each.

    Parameters
    ----------
    key : two ints
        From `edge_key` or `service_key`.
    query, ordinal : int64, shape (k,)
        The query, and which of the query's tokens at the edge's parent, or at the stage, this is (0, 1, …).
    """
    take, spread = np.empty(query.shape), np.empty(query.shape)
    for start in range(0, query.size, _PIECE):
        piece = slice(start, start + _PIECE)
        wide = query[piece].astype(np.uint64)
        zeros = np.zeros(wide.shape, dtype=np.uint64)
        words = philox4x32((wide & _LOW, wide >> _HALF, ordinal[piece].astype(np.uint64), zeros), key)
        take[piece], spread[piece] = _unit_interval(*words[:2]), _unit_interval(*words[2:])
    return take, spread


def _unit_interval(low: UInt64, high: UInt64) -> Float64:
    # The top 53 of 64 bits: every double k·2⁻⁵³ in [0, 1) equally likely.
    bits = ((high << _HALF) | low) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53


class FanOutDraws(NamedTuple):
    """Fan-outs and the distribution function up to each of them."""

    values: Int64
    cumulative: Float64

    @classmethod
    def of(cls, fanout: FanOut) -> FanOutDraws:
        """Tabulate a fan-out."""
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


# --- samples of the traffic ------------------------------------------------------------------------------------------

#: More draws of every trace are a slip.
MOST_SEEDS = 1_000


@dataclass(frozen=True, eq=False)
class Sample:
    """One trace with one draw of its tokens."""

    trace: Trace
    seed: int
    number: int = 0  # Of the trace, among those that were given.
    name: str = ""  # What tells it from the others; empty if there are none.

    def scaled(self, factor: float) -> Sample:
        """Return it with a multiple of its traffic."""
        return self if factor == 1.0 else replace(self, trace=self.trace.scale(factor))


def read_traces(traces: object) -> list[Trace]:
    """Return one or several traces as a list, by name.

    Raises `InputError` if they are none.
    """
    found: list[Any] = list(traces) if isinstance(traces, list | tuple) else [traces]
    if not found or not all(isinstance(trace, Trace) for trace in found):
        message = f"expected a Trace, or a list of some, found {shown(traces)}; Trace.read(…) reads a file"
        raise InputError.one("trace", message)
    return found if len(found) == 1 else sorted(found, key=lambda trace: (trace.name, trace.sha256))


def check_seeds(seeds: object, what: str = "seeds") -> int:
    """Return the number of draws of every trace.

    Raises `InputError` if it is none.
    """
    if not is_whole(seeds) or not 1 <= seeds <= MOST_SEEDS:
        message = f"expected a whole number from 1 to {MOST_SEEDS:,}, found {shown(seeds)}"
        raise InputError.one(what, message)
    return int(seeds)


def find_samples(
    pipeline: Pipeline, traces: Trace | Sequence[Trace], seed: int, seeds: int = 1
) -> tuple[Sample, ...]:
    """Every trace with the seeds from `seed` on, so many of them; those that are alike once.

    Where the pipeline draws nothing, one seed stands for all, and of equal traces one.
    """
    given, count = read_traces(traces), check_seeds(seeds)
    drawn = range(seed, seed + (count if pipeline.is_random else 1))
    if len(given) == 1:
        return tuple(Sample(given[0], one, 0, f"seed {one}" if len(drawn) > 1 else "") for one in drawn)
    distinct = {trace.sha256: number for number, trace in reversed(list(enumerate(given)))}
    names = [trace.name for trace in given]
    found = []
    for number in sorted(distinct.values()):
        name, same = names[number], names.count(names[number])
        name += f" ({1 + names[:number].count(name)})" if same > 1 else ""
        found += [
            Sample(given[number], one, number, f"{name}, seed {one}" if len(drawn) > 1 else name)
            for one in drawn
        ]
    return tuple(found)
