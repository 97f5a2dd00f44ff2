"""Modes of a stage, in integers throughout: no machine's floating point can change a frozen problem."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]

#: Micro-dollars per hour.
PRICES = (100_000, 526_000, 1_006_000, 2_480_000, 4_100_000)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
#: Work of one item on the slowest hardware, in microseconds: roughly geometric.
WORKS_US = (4_000, 6_000, 9_000, 13_000, 19_000, 28_000, 42_000, 60_000)
#: What speeds up by how many times the slowest, in thousandths, from the cheapest hardware to the dearest.
SPEEDUPS = (1_000, 3_200, 4_600, 8_500, 12_000)
NS_PER_S = 10**9
#: A wait beyond this is as good as none at all.
LONGEST_WAIT_NS = 100 * NS_PER_S
#: Trade-offs of `traded` modes are drawn on a grid so many times finer than there are modes.
_FINENESS = 4


@dataclass(frozen=True, eq=False)
class Modes:
    """Modes of one stage.

    Attributes
    ----------
    cost, duration : int64 arrays, shape (m,)
    wait : int64 array, shape (classes, m)
        By class of path.
    hardware, replicas : int64 arrays, shape (m,)
        Replicas of which type; 0 of type 0 for modes without hardware.
    """

    cost: IntArray
    duration: IntArray
    wait: IntArray
    hardware: IntArray
    replicas: IntArray


def make_served(
    rng: np.random.Generator, rate_rps: int, burst: int, counts: int, classes: int, has_predecessor: bool
) -> Modes:
    """Hardware × batch × replicas: from as few replicas as keep up with the rate, `counts` numbers of them.

    A batch of k takes ``fixed + slope·k``; a mode of n replicas carries ``R = n·b/ℓ(b)``, lasts 2ℓ(b) (ℓ(1) without
    batching where nothing comes before) and waits ``burst/(R - rate)``, which grows as the spare rate goes.
    """
    work_ns = WORKS_US[int(rng.integers(len(WORKS_US)))] * int(rng.integers(900, 1101))
    fixed_share, gain = int(rng.integers(200, 801)), int(rng.integers(500, 1001))
    rows: list[tuple[int, int, int, int, int]] = []
    for hardware, (price, speedup) in enumerate(zip(PRICES, SPEEDUPS, strict=True)):
        faster = 1_000 + (speedup - 1_000) * gain // 1_000
        fixed_ns = work_ns * fixed_share // (faster + int(rng.integers(-100, 101)))
        slope_ns = work_ns * (1_000 - fixed_share) // (faster + int(rng.integers(-100, 101)))
        for batch in BATCHES:
            latency_ns = fixed_ns + slope_ns * batch
            duration_ns = latency_ns if batch == 1 and not has_predecessor else 2 * latency_ns
            fewest = rate_rps * latency_ns // (batch * NS_PER_S) + 1
            rows += [
                (price * n, duration_ns, hardware, n, latency_ns * 1_000 // batch)
                for n in range(fewest, fewest + counts)
            ]
    cost, duration, kind, replicas, item_ps = (
        np.array(column, dtype=np.int64) for column in zip(*rows, strict=True)
    )
    waits = [
        [
            _wait_ns(burst * (c + 1) // classes, rate_rps, n, ps)
            for n, ps in zip(replicas.tolist(), item_ps.tolist(), strict=True)
        ]
        for c in range(classes)
    ]
    return Modes(cost, duration, np.array(waits, dtype=np.int64), kind, replicas)


def _wait_ns(burst: int, rate_rps: int, replicas: int, item_ps: int) -> int:
    """``burst / (replicas/item - rate)``, rounded up."""
    spare = 1_000 * NS_PER_S * replicas - rate_rps * item_ps  # over item_ps: tokens per second
    if spare <= 0:
        return LONGEST_WAIT_NS
    return min(LONGEST_WAIT_NS, -(-burst * NS_PER_S * item_ps // spare))


def make_traded(rng: np.random.Generator, count: int, classes: int) -> Modes:
    """`count` modes, none dominated: cost is a falling step function of duration plus one of wait, neither convex."""
    side = 2
    while side * side < _FINENESS * count:
        side += 1
    cells = np.sort(rng.permutation(side * side)[:count])
    x, y = cells // side, cells % side
    fall = [np.cumsum(rng.integers(1, 2_000, side) * rng.integers(1, 30, side))[::-1] for _ in range(2)]
    cost = 10 * (fall[0][x] + fall[1][y])
    duration = (x + 1) * 40_000_000 // side + rng.integers(0, 10**5)
    wait = (y + 1) * 60_000_000 // side + rng.integers(0, 10**5)
    waits = np.stack([wait * (c + 1) // classes for c in range(classes)])
    none = np.zeros(count, dtype=np.int64)
    return Modes(cost.astype(np.int64), duration.astype(np.int64), waits.astype(np.int64), none, none)
