"""Counter-based random draws: the same (seed, edge, query, token) gives the same number, in any order, anywhere.

A sequential generator would tie a draw to how many were made before it, so a sliced trace, a streamed
trace and another plan would see different tokens. Philox-4x32-10 maps a counter straight to random bits.

References
----------
J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11,
doi:10.1145/2063384.2063405.
"""

from __future__ import annotations

import hashlib

import numpy as np

from mipplan.core import Float64, Int64, UInt64

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
