"""The autoscaler of Ray Serve, on the requests under way at each stage."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mipplan.core import NS_PER_S
from mipplan.tuner.policies.base import DAY_S, NANOSECOND_S, MetricWindow, Observation, Setting, check_numbers


@dataclass(frozen=True)
class Ray:
    """Each stage is to have one replica per `target` requests that wait or are served, averaged over 30 s.

    A wish for more replicas has to hold for 30 s, one for fewer for 600 s; then the count jumps to the wish of that
    moment.

    Attributes
    ----------
    target : float
        Ongoing requests per replica.
    per_batch : bool
        Count `target` in full batches of the stage instead of requests: a replica that serves batches of 16 is
        not given two requests.
    look_back_s, up_delay_s, down_delay_s : float
    most : int
        Replicas of one stage. These four are Ray Serve's defaults.
    name : str

    Raises
    ------
    InputError
        With every parameter that makes no sense.

    References
    ----------
    Ray documentation, "Ray Serve Autoscaling" (``target_ongoing_requests``, ``look_back_period_s``,
    ``upscale_delay_s``, ``downscale_delay_s``, ``max_replicas`` of ``num_replicas="auto"``).
    """

    target: float = 2.0
    per_batch: bool = False
    look_back_s: float = 30.0
    up_delay_s: float = 30.0
    down_delay_s: float = 600.0
    most: int = 100
    name: str = "ray"

    def __post_init__(self) -> None:
        seconds = dict.fromkeys(("up_delay_s", "down_delay_s"), (0.0, DAY_S))
        check_numbers(
            self, target=(0.001, 1e6), look_back_s=(NANOSECOND_S, DAY_S), most=(1, 1_000_000), **seconds
        )

    @classmethod
    def tuned(cls, target: float = 1.0) -> Ray:
        """As an expert would set it up here: targets in batches, short look-back, up at once, down after a minute."""
        return cls(target, True, look_back_s=5.0, up_delay_s=0.0, down_delay_s=60.0, name="ray-tuned")

    def start(self, setting: Setting) -> _Autoscaler:
        """Start with no wish."""
        return _Autoscaler(self, setting)


class _Autoscaler:
    def __init__(self, policy: Ray, setting: Setting) -> None:
        self._policy = policy
        self._target = {
            stage: policy.target * (setting.plan.choices[stage].batch if policy.per_batch else 1)
            for stage in setting.stages
        }
        self._periods = MetricWindow(policy.look_back_s)
        # Since when each stage's wish has been on one side of what it has: (side, instant).
        self._side: dict[str, tuple[int, int]] = {}

    def decide(self, seen: Observation) -> Mapping[str, int]:
        self._periods.add(seen)
        known = self._periods.known()
        return {stage: self._count(stage, seen, known) for stage in seen.stages}

    def _count(self, stage: str, seen: Observation, known: list[Observation]) -> int:
        policy, present = self._policy, seen.stages[stage].replicas
        ongoing_ns = sum(period.stages[stage].ongoing_ns for period in known)
        span_ns = sum(period.period_ns for period in known)
        wish = min(policy.most, max(1, math.ceil(ongoing_ns / span_ns / self._target[stage])))
        side = (wish > present) - (wish < present)
        before, since_ns = self._side.get(stage, (0, 0))
        if side != before:
            since_ns = seen.now_ns
            self._side[stage] = (side, since_ns)
        held_ns = seen.now_ns - since_ns
        needed_s = policy.up_delay_s if side > 0 else policy.down_delay_s
        if side == 0 or held_ns < round(needed_s * NS_PER_S):
            return present
        self._side[stage] = (0, seen.now_ns)
        return wish
