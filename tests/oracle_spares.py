"""Spare replicas the slow way: every multiple in small steps, and every count that was."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mipplan.tuner.policies.spares import SpareRule

_STEPS = 4_000


def best_spares(
    rule: SpareRule,
    needed: Mapping[str, int],
    price: Mapping[str, int],
    counts_at: Callable[[float], Mapping[str, int] | None],
    below: float,
) -> dict[str, int]:
    """Counts at the largest multiple that is allowed, less so much."""
    allowed = [1.0]
    multiples = sorted({1.0 + (rule.most - 1.0) * k / _STEPS for k in range(_STEPS + 1)} | {rule.most})
    for multiple in multiples:
        counts = counts_at(multiple)
        if counts is None:
            break
        spare = sum(price[s] * max(0, counts[s] - needed[s]) for s in needed)
        if spare > rule.share * sum(price[s] * needed[s] for s in needed):
            break
        allowed.append(multiple)
    chosen = allowed[-1] - below
    counts = counts_at(chosen) if chosen > 1.0 else None
    return {s: max(needed[s], counts[s] if counts else 0) for s in needed}


def most_since(history: Sequence[tuple[int, int]], since_ns: int) -> int:
    """The largest count at an instant from `since_ns` on."""
    return max(count for at_ns, count in history if at_ns >= since_ns)
