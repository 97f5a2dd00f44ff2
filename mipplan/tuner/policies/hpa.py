"""The horizontal pod autoscaler of Kubernetes, on the utilisation of each stage's replicas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mipplan.core import NS_PER_S
from mipplan.tuner.policies.base import (
    DAY_S,
    NANOSECOND_S,
    ROUNDING,
    MetricWindow,
    Observation,
    Setting,
    StabilizationWindow,
    check_numbers,
    whole_replicas,
)


@dataclass(frozen=True)
class Hpa:
    """Every 15 s each stage is to have ⌈n · utilisation / target⌉ replicas.

    Nothing changes while utilisation / target is within the tolerance of 1. Down, the largest wish of the last 300 s
    counts; up, at most max(100 %, 4) replicas come per 15 s.

    Attributes
    ----------
    target : float
        Utilisation that is aimed for, in (0, 1).
    metric_delay_s : float
        Age of the utilisation that a decision rests on.
    sync_s, tolerance, down_window_s : float
        Kubernetes' defaults. Utilisation is that of the last `sync_s` known.
    name : str

    Raises
    ------
    InputError
        With every parameter that makes no sense.

    References
    ----------
    Kubernetes documentation, "Horizontal Pod Autoscaling" (autoscaling/v2).
    """

    target: float = 0.5
    metric_delay_s: float = 0.0
    sync_s: float = 15.0
    tolerance: float = 0.1
    down_window_s: float = 300.0
    name: str = "hpa"

    def __post_init__(self) -> None:
        seconds = dict.fromkeys(("metric_delay_s", "down_window_s"), (0.0, DAY_S))
        check_numbers(
            self, target=(0.001, 1.0), tolerance=(0.0, 1.0), sync_s=(NANOSECOND_S, DAY_S), **seconds
        )

    def start(self, setting: Setting) -> _Autoscaler:
        """Start with the plan's replicas as the only wish so far."""
        return _Autoscaler(self, setting)


class _Autoscaler:
    def __init__(self, policy: Hpa, setting: Setting) -> None:
        self._policy = policy
        self._sync_ns = round(policy.sync_s * NS_PER_S)
        self._next_ns = setting.start_ns + self._sync_ns
        self._periods = MetricWindow(policy.sync_s, policy.metric_delay_s)
        down_ns = round(policy.down_window_s * NS_PER_S)
        self._wishes = StabilizationWindow(down_ns, setting.start_ns, setting.replicas)

    def decide(self, seen: Observation) -> Mapping[str, int]:
        self._periods.add(seen)
        if seen.now_ns < self._next_ns:
            return {}
        self._next_ns += self._sync_ns
        known = self._periods.known()
        return {stage: self._count(stage, seen, known) for stage in seen.stages}

    def _count(self, stage: str, seen: Observation, known: list[Observation]) -> int:
        policy, present = self._policy, seen.stages[stage].replicas
        active_ns = sum(period.stages[stage].active_ns for period in known)
        busy_ns = sum(period.stages[stage].busy_ns for period in known)
        ratio = min(1.0, busy_ns / active_ns) / policy.target if active_ns else 1.0
        within = abs(ratio - 1.0) <= policy.tolerance + ROUNDING
        wish = present if within else whole_replicas(present * ratio)
        largest = self._wishes.largest(seen.now_ns, {stage: wish})[stage]
        if wish > present:
            return min(wish, max(2 * present, present + 4))
        return min(present, largest)
