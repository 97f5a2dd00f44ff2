"""Our policy: the tuner, on a forecast of the traffic's envelope; up at once, down after a while."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mipplan.curves import WindowCounts
from mipplan.tuner.observation import Observation, StageObservation
from mipplan.tuner.policies.calibration import Calibration, calibrate
from mipplan.tuner.policies.policy import Setting
from mipplan.tuner.recent import RecentArrivals
from mipplan.tuner.tuner import Tuner
from mipplan.units import NS_PER_S

Integers = NDArray[np.int64]

#: Rates are compared with the sample's in steps of this: the sample's envelope is scaled once for each.
_RATE_STEP = 1.02


@dataclass(frozen=True)
class Lp:
    """The tuner of this package.

    Attributes
    ----------
    """

    miss_rate: float = 0.0
    headroom: float = 1.0
    rate_windows_s: tuple[float, ...] = (5.0, 10.0)
    jump_windows_s: tuple[float, ...] = (1.0, 2.0)
    jump_noise: float = 2.0
    tolerance: float = 0.0
    horizon_s: float = 60.0
    hold_s: float = 30.0
    recovery_s: float = 3.0
    trend_s: float = 5.0
    trend_noise: float = 1.5
    lead: float = 1.0
    use_cv: bool = True
    name: str = "lp"

    def start(self, setting: Setting) -> _Follower:
        """Calibrate on the sample."""
        return _Follower(self, setting)


_CAL: dict = {}


class _Follower:
    def __init__(self, policy: Lp, setting: Setting) -> None:
        self._policy, self._setting = policy, setting
        key = (setting.plan.to_json(), setting.sample.sha256, policy.miss_rate)
        if key not in _CAL:
            _CAL[key] = calibrate(setting.plan, setting.sample, policy.miss_rate)
        self.calibration: Calibration = _CAL[key]
        delay_s = setting.delay_ns / NS_PER_S
        self.tuner = Tuner(
            replace(setting.plan, slo_ns=self.calibration.slo_ns),
            sample=setting.sample,
            tokens="mean",
            horizon_s=policy.horizon_s,
            activation_delay_s=delay_s,
            recovery_s=delay_s + policy.recovery_s,
        )
        self._recent = RecentArrivals(60 * NS_PER_S)
        self._scaled: dict[int, Integers] = {}
        self._wishes: dict[str, deque[tuple[int, int]]] = {stage: deque() for stage in setting.stages}
        self._sample_cv = self._dispersion(setting.sample.arrival_ns, int(setting.sample.arrival_ns[-1]), 30.0)

    def decide(self, seen: Observation) -> Mapping[str, int]:
        self.tuner.observe(seen.arrival_ns)
        self._recent.add(seen.arrival_ns, seen.now_ns)
        traffic = self._forecast(seen.now_ns)
        if traffic is None:
            return {}
        step = self.tuner.retune(
            seen.now_ns,
            traffic=traffic,
            backlog={stage: self._backlog(stage, observed) for stage, observed in seen.stages.items()},
            active={stage: observed.active for stage, observed in seen.stages.items()},
        )
        return {stage: self._held(stage, count, seen.now_ns) for stage, count in step.replicas.items()}

    def _held(self, stage: str, wish: int, now_ns: int) -> int:
        wishes = self._wishes[stage]
        wishes.append((now_ns, wish))
        while wishes[0][0] < now_ns - round(self._policy.hold_s * NS_PER_S):
            wishes.popleft()
        return max(count for _, count in wishes)

    def _backlog(self, stage: str, observed: StageObservation) -> int:
        slack_ns = max(0, self.tuner._waits_ns[stage])
        usual = self._setting.replica_rate_rps[stage] * observed.active * slack_ns / NS_PER_S
        usual = max(usual, 2 * self._setting.plan.choices[stage].batch * observed.active)
        return observed.waiting if observed.waiting > usual else 0

    def _count(self, now_ns: int, length_s: float) -> int:
        arrivals = self._recent.arrival_ns
        return arrivals.size - int(np.searchsorted(arrivals, now_ns - round(length_s * NS_PER_S)))

    def _forecast(self, now_ns: int) -> WindowCounts | None:
        policy, setting = self._policy, self._setting
        live = self.tuner.live.counts(now_ns, round(policy.horizon_s * NS_PER_S))
        if live is None:
            return None
        run_s = (now_ns - setting.start_ns) / NS_PER_S
        rate = max(self._count(now_ns, w) / min(w, run_s) for w in policy.rate_windows_s)
        spread = self._dispersion(self._recent.arrival_ns, now_ns, 30.0)
        for w in policy.jump_windows_s:
            c = self._count(now_ns, w)
            rate = max(rate, (c - policy.jump_noise * spread * math.sqrt(c)) / min(w, run_s))
        if run_s >= 2 * policy.trend_s:
            w = policy.trend_s
            late = self._count(now_ns, w)
            early = self._count(now_ns, 2 * w) - late
            rise = late - early - policy.trend_noise * spread * math.sqrt(late + early)
            if rise > 0:
                lead_s = (setting.delay_ns + setting.period_ns) / NS_PER_S + w / 2
                rate = max(rate, late / w + policy.lead * rise / (w * w) * lead_s)
        ratio = policy.headroom * rate / setting.sample_rate_rps
        windows = self.tuner.live.window_ns
        counts = self._sample_counts(ratio).astype(np.float64)
        if policy.use_cv and run_s > 5:
            cv = self._dispersion(self._recent.arrival_ns, now_ns, 30.0)
            wider = max(1.0, cv / self._sample_cv)
            level = ratio * setting.sample_rate_rps * windows / NS_PER_S
            counts = level + wider * np.maximum(counts - level, 0.0)
        counts = np.ceil(counts).astype(np.int64)
        counts[: live.count.size] = np.maximum(counts[: live.count.size], live.count)
        return WindowCounts(windows, np.maximum.accumulate(counts))

    def _sample_counts(self, ratio: float) -> Integers:
        step = max(-200, math.ceil(math.log(max(ratio, 1e-3)) / math.log(_RATE_STEP)))
        if step not in self._scaled:
            stretched = np.rint(self.tuner.live.window_ns * _RATE_STEP**step).astype(np.int64)
            sample = self._setting.sample
            known = WindowCounts.of_arrivals(sample.arrival_ns, stretched).count.astype(np.float64)
            # windows longer than the sample: at its mean rate
            mean = self._setting.sample_rate_rps * stretched / NS_PER_S
            self._scaled[step] = np.ceil(np.maximum(known, np.where(stretched > sample.span_ns, mean, 0))).astype(np.int64)
        return self._scaled[step]

    def _dispersion(self, arrival_ns: Integers, now_ns: int, span_s: float, cell_s: float = 0.25) -> float:
        """Square root of variance over mean of counts in short cells, of a trend removed: the CV of a renewal process."""
        cells = int(min(span_s, max(cell_s * 4, (now_ns - self._setting.start_ns) / NS_PER_S if arrival_ns is not self._setting.sample.arrival_ns else span_s)) / cell_s)
        edges = now_ns - round(cell_s * NS_PER_S) * np.arange(cells, -1, -1, dtype=np.int64)
        counts = np.diff(np.searchsorted(arrival_ns, edges)).astype(np.float64)
        mean = counts.mean() if counts.size else 0.0
        if mean <= 0:
            return 1.0
        # differences of neighbours: a drifting rate does not count as burstiness
        return float(math.sqrt(max(np.mean(np.diff(counts) ** 2) / 2 / mean, 0.25)))
