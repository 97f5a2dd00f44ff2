"""Autoscalers of others: Kubernetes and Ray Serve, each stage by itself on what its replicas did lately; InferLine."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from mipplan.calculus import WindowCounts
from mipplan.core import NS_PER_S, Int64
from mipplan.tuner.policies.base import (
    ROUNDING,
    Observation,
    Parameters,
    Setting,
    Share,
    Span,
    StabilizationWindow,
    Wait,
    whole_replicas,
)
from mipplan.tuner.traffic import LONGEST_WINDOW_NS, RecentArrivals, doubling_windows_ns

#: So long is a period of Kubernetes' default policy for scaling up, however often it looks.
_POLICY_NS = 15 * NS_PER_S


@dataclass(frozen=True)
class Hpa(Parameters):
    """Every 15 s each stage is to have ⌈n · utilisation / target⌉ replicas.

    Nothing changes while utilisation / target is within the tolerance of 1. Down, the largest wish of the last 300 s
    counts; up, at most max(100 %, 4) replicas come per 15 s, and replicas that still start count as idle ones: nothing
    changes if the ratio is within the tolerance, or below 1, with them. Below 1 without them, n is of those that serve.

    References
    ----------
    Kubernetes documentation, "Horizontal Pod Autoscaling" (autoscaling/v2).
    """

    target: Annotated[float, 0.001, 1.0] = 0.5
    """Utilisation that is aimed for."""
    metric_delay_s: Wait = 0.0
    """Age of the utilisation that a decision rests on."""
    sync_s: Span = 15.0
    """Utilisation is that of the last `sync_s` known. This and the next two are Kubernetes' defaults."""
    tolerance: Share = 0.1
    down_window_s: Wait = 300.0
    name: str = "hpa"

    def start(self, setting: Setting) -> _HpaController:
        """Start with the plan's replicas as the only wish so far."""
        return _HpaController(self, setting)


class _HpaController:
    def __init__(self, policy: Hpa, setting: Setting) -> None:
        self._policy = policy
        self._sync_ns = round(policy.sync_s * NS_PER_S)
        self._next_ns = setting.start_ns + self._sync_ns
        self._periods = MetricWindow(policy.sync_s, policy.metric_delay_s)
        down_ns = round(policy.down_window_s * NS_PER_S)
        self._wishes = StabilizationWindow(down_ns, setting.start_ns, setting.replicas)
        # Of each stage, from 15 s ago on: (instant, replicas from then on).
        self._counts = {stage: deque[tuple[int, int]]() for stage in setting.stages}

    def decide(self, seen: Observation) -> Mapping[str, int]:
        self._periods.take(seen)
        if seen.now_ns < self._next_ns:
            return {}
        # Where nobody could ask for a while, as metrics failed, what was due then is not made up for.
        self._next_ns += ((seen.now_ns - self._next_ns) // self._sync_ns + 1) * self._sync_ns
        return {stage: self._count(stage, seen) for stage in seen.stages}

    def _count(self, stage: str, seen: Observation) -> int:
        policy, present = self._policy, seen.stages[stage].replicas
        busy_ns, active_ns, _ = self._periods.sums_ns[stage]
        ratio = min(1.0, busy_ns / active_ns) / policy.target if active_ns else 1.0
        most, active = policy.tolerance + ROUNDING, min(present, seen.stages[stage].active)
        wish = present if abs(ratio - 1.0) <= most else whole_replicas(present * ratio)
        if wish > present:
            # Those on their way would be ordered again and again otherwise, until the first of them serves.
            damped = ratio * active / present
            wish = present if damped - 1.0 <= most else whole_replicas(present * damped)
        elif ratio < 1.0 - most:
            wish = whole_replicas(active * ratio)
        largest, counts = self._wishes.largest(seen.now_ns, {stage: wish})[stage], self._counts[stage]
        if counts:  # what was granted, not what was wished
            counts[-1] = (counts[-1][0], present)
        else:
            counts.append((seen.now_ns - _POLICY_NS, present))
        while len(counts) > 1 and counts[1][0] <= seen.now_ns - _POLICY_NS:
            counts.popleft()
        before = counts[0][1]
        allowed = max(present, 2 * before, before + 4)
        count = min(wish, allowed) if wish > present else min(present, largest)
        counts.append((seen.now_ns, count))
        return count


@dataclass(frozen=True)
class Ray(Parameters):
    """Each stage is to have one replica per `target` requests that wait or are served, averaged over 30 s.

    A wish for more replicas has to hold for 30 s, one for fewer for 600 s; then the count jumps to the wish of that
    moment.

    References
    ----------
    Ray documentation, "Ray Serve Autoscaling" (``target_ongoing_requests``, ``look_back_period_s``,
    ``upscale_delay_s``, ``downscale_delay_s``, ``max_replicas`` of ``num_replicas="auto"``).
    """

    target: Annotated[float, 0.001, 1e6] = 2.0
    """Ongoing requests per replica."""
    per_batch: bool = False
    """Count `target` in full batches of the stage: a replica that serves batches of 16 is not given two requests."""
    look_back_s: Span = 30.0
    up_delay_s: Wait = 30.0
    down_delay_s: Wait = 600.0
    most: Annotated[int, 1, 1_000_000] = 100
    """Replicas of one stage. This and the three above are Ray Serve's defaults."""
    name: str = "ray"

    @classmethod
    def tuned(cls, target: float = 1.0) -> Ray:
        """As an expert would set it up here: targets in batches, short look-back, up at once, down after a minute."""
        return cls(target, True, look_back_s=5.0, up_delay_s=0.0, down_delay_s=60.0, name="ray-tuned")

    def start(self, setting: Setting) -> _RayController:
        """Start with no wish."""
        return _RayController(self, setting)


class _RayController:
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
        self._periods.take(seen)
        return {stage: self._count(stage, seen) for stage in seen.stages}

    def _count(self, stage: str, seen: Observation) -> int:
        policy, present = self._policy, seen.stages[stage].replicas
        _, _, ongoing_ns = self._periods.sums_ns[stage]
        wish = min(policy.most, max(1, math.ceil(ongoing_ns / self._periods.span_ns / self._target[stage])))
        side = (wish > present) - (wish < present)
        if side != self._side.get(stage, (0, 0))[0]:
            self._side[stage] = (side, seen.now_ns)
        needed_s = policy.up_delay_s if side > 0 else policy.down_delay_s
        if side == 0 or seen.now_ns - self._side[stage][1] < round(needed_s * NS_PER_S):
            return present
        self._side[stage] = (0, seen.now_ns)
        return wish


class MetricWindow:
    """Sums over the control periods of the last `length_s` that are known, those of the last `delay_s` not being yet.

    They are kept up to date as periods come and go: O(1) a period and stage, however many are looked at.
    """

    def __init__(self, length_s: float, delay_s: float = 0.0) -> None:
        self._length_ns, self._delay_ns = round(length_s * NS_PER_S), round(delay_s * NS_PER_S)
        self._unknown: deque[Observation] = deque()
        self._known: deque[Observation] = deque()
        self.span_ns = 0
        #: Of each stage `busy_ns`, `active_ns` and `ongoing_ns`.
        self.sums_ns: dict[str, tuple[int, int, int]] = {}

    def take(self, seen: Observation) -> None:
        """Take in the period that ends now."""
        if not self.sums_ns:
            self.sums_ns = dict.fromkeys(seen.stages, (0, 0, 0))
        known_ns = seen.now_ns - self._delay_ns
        self._unknown.append(seen)
        while self._unknown and self._unknown[0].now_ns <= known_ns:
            self._known.append(self._unknown.popleft())
            self._add(self._known[-1], 1)
        while self._known and self._known[0].now_ns <= known_ns - self._length_ns:
            self._add(self._known.popleft(), -1)

    def _add(self, period: Observation, times: int) -> None:
        self.span_ns += times * period.period_ns
        for stage, one in period.stages.items():
            busy_ns, active_ns, ongoing_ns = self.sums_ns[stage]
            self.sums_ns[stage] = (
                busy_ns + times * one.busy_ns,
                active_ns + times * one.active_ns,
                ongoing_ns + times * one.ongoing_ns,
            )


@dataclass(frozen=True)
class InferLine(Parameters):
    """Scale up at once when the traffic exceeds the sample's envelope, and down after 15 s without a change.

    Let ρ_m = (sample rate · s_m) / (μ_m · planned replicas), with s_m tokens per query and μ_m tokens per second of one
    replica. A window length is exceeded when more queries came in one window of it, ending since the last instant of
    control, than in any of the sample. Up: ⌈r · s_m / (μ_m · ρ_m)⌉ replicas, r the largest rate (count by length) among
    the exceeded ones. Down: ⌈r · s_m / (μ_m · min ρ)⌉, r the largest rate of the last 30 s in windows of 5 s.

    References
    ----------
    Crankshaw et al., "InferLine: latency-aware provisioning and scaling for prediction serving pipelines",
    SoCC 2020, section 5, doi:10.1145/3419111.3421285.
    """

    quiet_s: Wait = 15.0
    down_look_back_s: Span = 30.0
    down_window_s: Span = 5.0
    name: str = "inferline"

    def start(self, setting: Setting) -> _InferLineController:
        """Learn the sample's envelope."""
        return _InferLineController(self, setting)


class _InferLineController:
    def __init__(self, policy: InferLine, setting: Setting) -> None:
        self._policy, self._setting = policy, setting
        # The time through full batches, doubling to 60 s, and that.
        full_ns = {stage: int(setting.plan.service_ns(stage)[-1]) for stage in setting.stages}
        doubling = doubling_windows_ns(max(setting.plan.pipeline.longest_paths().down_to(full_ns).values()))
        lengths_ns = np.append(doubling[doubling < LONGEST_WINDOW_NS], LONGEST_WINDOW_NS)
        # In a window longer than itself the sample shows too little: any traffic would exceed it for ever.
        covered = max(1, int(np.searchsorted(lengths_ns, setting.sample.span_ns, side="right")))
        self._window_ns = lengths_ns[:covered]
        self._known = WindowCounts.of_arrivals(setting.sample.arrival_ns, self._window_ns).count
        # Of a short sample all windows are shorter than what the way down looks back on.
        self._down_ns = round(policy.down_window_s * NS_PER_S)
        self._downs = max(1, round(policy.down_look_back_s / policy.down_window_s))
        self._recent = RecentArrivals(max(int(self._window_ns[-1]), self._downs * self._down_ns))
        self._changed_ns = setting.start_ns
        self._ratio = {
            stage: setting.sample.rate_rps
            * setting.tokens_per_query[stage]
            / (setting.replica_rate_rps[stage] * setting.replicas[stage])
            for stage in setting.stages
        }

    def decide(self, seen: Observation) -> Mapping[str, int]:
        present = {stage: observed.replicas for stage, observed in seen.stages.items()}
        self._recent.add(seen.arrival_ns, seen.now_ns)
        most = self._recent.most_ending(seen.arrival_ns, self._window_ns)
        exceeded = np.flatnonzero(most > self._known)
        wanted = present
        if exceeded.size:
            rate_rps = float(np.max(most[exceeded] * NS_PER_S / self._window_ns[exceeded]))
            wanted = {s: max(n, self._replicas(s, rate_rps, self._ratio[s])) for s, n in present.items()}
        elif seen.now_ns - self._changed_ns >= round(self._policy.quiet_s * NS_PER_S):
            # A stage that the sample never reached has no ratio.
            rate_rps, least = self._recent_rate_rps(seen.now_ns), min(filter(None, self._ratio.values()))
            wanted = {s: min(n, self._replicas(s, rate_rps, least)) for s, n in present.items()}
        if self._setting.granted(present, wanted) != present:
            self._changed_ns = seen.now_ns
        return wanted

    def _replicas(self, stage: str, rate_rps: float, ratio: float) -> int:
        if not ratio:  # a stage that the sample never reached
            return 1
        setting = self._setting
        needed = rate_rps * setting.tokens_per_query[stage] / (setting.replica_rate_rps[stage] * ratio)
        return whole_replicas(needed)

    def _recent_rate_rps(self, now_ns: int) -> float:
        """Largest rate in consecutive windows that end now, as far back as the run goes."""
        windows = min(self._downs, max(1, (now_ns - self._setting.start_ns) // self._down_ns))
        edges: Int64 = now_ns - self._down_ns * np.arange(windows, -1, -1, dtype=np.int64)
        places = self._recent.arrival_ns.searchsorted(edges)
        counts = places[1:] - places[:-1]
        return float(counts.max()) * NS_PER_S / self._down_ns
