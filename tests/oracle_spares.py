"""Spare replicas the slow way: every multiple in small steps, and every count that was."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mipplan.tuner.policies import SpareRule

#: A multiple of the steps in which halving looks.
_STEPS = 320


def best_spares(
    rule: SpareRule,
    price: Mapping[str, int],
    counts_at: Callable[[float], Mapping[str, int] | None],
    below: float,
) -> Mapping[str, int]:
    """Counts at the largest multiple that is allowed, less so much."""
    plain = counts_at(1.0)
    if plain is None or rule.most <= 1.0:
        return {}
    largest = 1.0
    for k in range(_STEPS + 1):
        multiple = 1.0 + (rule.most - 1.0) * k / _STEPS
        counts = counts_at(multiple)
        if counts is None:
            break
        spare = sum(price[stage] * (counts[stage] - plain[stage]) for stage in plain)
        if spare > rule.share * sum(price[stage] * plain[stage] for stage in plain):
            break
        largest = multiple
    return counts_at(max(1.0, largest - below)) or {}


def most_since(history: Sequence[tuple[int, int]], since_ns: int) -> int:
    """The largest count at an instant from `since_ns` on."""
    return max(count for at_ns, count in history if at_ns >= since_ns)
