"""A part of a long trace on which most bad plans show: the queries around its worst bursts.

What keeps the deadline there must be judged on the whole trace; what does not is most probably no good either.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mipplan.refinement.domains import Problem

#: Longer traces are screened, by about so many queries.
LONGEST_UNSCREENED = 25_000
SCREENED = 10_000
_BLOCK = 500
#: Rates of service, as multiples of the mean rate, under which waits show what is bad.
_RATES = (1.05, 1.2, 1.5, 2.0, 3.0, 5.0)


def screen(problem: Problem) -> Problem | None:
    """Return the problem on the worst parts of its trace; None if the trace is short enough as it is.

    As many queries may be missed there as on the whole trace, since that is where they are missed.
    """
    ingress_ns = problem.workload.ingress_ns
    if ingress_ns.size <= LONGEST_UNSCREENED:
        return None
    kept = np.repeat(_worst_blocks(ingress_ns), _BLOCK)[: ingress_ns.size]
    return replace(problem, workload=problem.workload.restricted(kept))


def _worst_blocks(ingress_ns: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Blocks of queries with the longest waits at some rate, and those just before them."""
    blocks = -(-ingress_ns.size // _BLOCK)
    wanted = SCREENED // _BLOCK
    kept = np.zeros(blocks, dtype=np.bool_)
    rankings = [_ranking(ingress_ns, rate) for rate in _RATES]
    for place in range(blocks):
        for ranking in rankings:
            block = int(ranking[place])
            kept[max(0, block - 1) : block + 1] = True
            if kept.sum() >= wanted:
                return kept
    return kept


def _ranking(ingress_ns: NDArray[np.int64], rate: float) -> NDArray[np.int64]:
    """Blocks by their longest wait at a server of this rate, the worst first."""
    span_ns = float(ingress_ns[-1] - ingress_ns[0])
    served = np.arange(ingress_ns.size) * (span_ns / ingress_ns.size / rate)
    waits = np.maximum.accumulate(ingress_ns - served) + served - ingress_ns
    worst = np.maximum.reduceat(waits, np.arange(0, ingress_ns.size, _BLOCK))
    order: NDArray[np.int64] = np.argsort(-worst, kind="stable")
    return order
