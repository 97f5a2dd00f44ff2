"""The horizontal pod autoscaler of Kubernetes, on the utilisation of each stage's replicas."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from mipplan.core import NS_PER_S
from mipplan.tuner.observation import Observation
from mipplan.tuner.policies.held import Held
from mipplan.tuner.policies.parameters import DAY_S, NANOSECOND_S, check_numbers
from mipplan.tuner.policies.policy import Setting

#: Rounding must not turn ⌈3.0000000001⌉ into 4.
_ROUNDING = 1e-9


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
        self._next_ns = setting.start_ns + round(policy.sync_s * NS_PER_S)
        self._seen: deque[Observation] = deque()
        self._wishes = Held(round(policy.down_window_s * NS_PER_S), setting.start_ns, setting.replicas)

    def decide(self, seen: Observation) -> Mapping[str, int]:
        policy = self._policy
        self._seen.append(seen)
        known_ns = seen.now_ns - round(policy.metric_delay_s * NS_PER_S)
        while self._seen and self._seen[0].now_ns <= known_ns - round(policy.sync_s * NS_PER_S):
            self._seen.popleft()
        if seen.now_ns < self._next_ns:
            return {}
        self._next_ns += round(policy.sync_s * NS_PER_S)
        known = [earlier for earlier in self._seen if earlier.now_ns <= known_ns]
        return {stage: self._count(stage, seen, known) for stage in seen.stages}

    def _count(self, stage: str, seen: Observation, known: list[Observation]) -> int:
        policy, present = self._policy, seen.stages[stage].replicas
        active_ns = sum(earlier.stages[stage].active_ns for earlier in known)
        busy_ns = sum(earlier.stages[stage].busy_ns for earlier in known)
        ratio = min(1.0, busy_ns / active_ns) / policy.target if active_ns else 1.0
        within = abs(ratio - 1.0) <= policy.tolerance + _ROUNDING
        wish = present if within else max(1, math.ceil(present * ratio - _ROUNDING))
        largest = self._wishes.most(seen.now_ns, {stage: wish})[stage]
        if wish > present:
            return min(wish, max(2 * present, present + 4))
        return min(present, largest)
