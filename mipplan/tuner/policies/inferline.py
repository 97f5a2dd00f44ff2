"""The tuner of InferLine: traffic envelopes beside the sample's, and one provisioning ratio per stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mipplan.calculus import WindowCounts
from mipplan.core import NS_PER_S, Int64
from mipplan.tuner.policies.base import (
    DAY_S,
    NANOSECOND_S,
    Observation,
    Setting,
    check_numbers,
    whole_replicas,
)
from mipplan.tuner.traffic import LONGEST_WINDOW_NS, RecentArrivals, doubling_windows_ns


@dataclass(frozen=True)
class InferLine:
    """Scale up at once when the traffic exceeds the sample's envelope, and down after 15 s without a change.

    Let ρ_m = (sample rate · s_m) / (μ_m · planned replicas), with s_m tokens per query and μ_m tokens per second of one
    replica. A window length is exceeded when more queries came in one window of it, ending since the last instant of
    control, than in any of the sample. Up: ⌈r · s_m / (μ_m · ρ_m)⌉ replicas, r the largest rate (count by length) among
    the exceeded ones. Down: ⌈r · s_m / (μ_m · min ρ)⌉, r the largest rate of the last 30 s in windows of 5 s.

    Attributes
    ----------
    quiet_s, down_look_back_s, down_window_s : float
    name : str

    Raises
    ------
    InputError

    References
    ----------
    Crankshaw et al., "InferLine: latency-aware provisioning and scaling for prediction serving pipelines",
    SoCC 2020, section 5, doi:10.1145/3419111.3421285.
    """

    quiet_s: float = 15.0
    down_look_back_s: float = 30.0
    down_window_s: float = 5.0
    name: str = "inferline"

    def __post_init__(self) -> None:
        lengths = dict.fromkeys(("down_look_back_s", "down_window_s"), (NANOSECOND_S, DAY_S))
        check_numbers(self, quiet_s=(0.0, DAY_S), **lengths)

    def start(self, setting: Setting) -> _Follower:
        """Learn the sample's envelope."""
        return _Follower(self, setting)


class _Follower:
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
        self._recent = RecentArrivals(int(self._window_ns[-1]))
        self._changed_ns = setting.start_ns
        self._ratio = {
            stage: setting.sample_rate_rps
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
            rate_rps, least = self._recent_rate_rps(seen.now_ns), min(self._ratio.values())
            wanted = {s: min(n, self._replicas(s, rate_rps, least)) for s, n in present.items()}
        if wanted != present:
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
        length_ns = round(self._policy.down_window_s * NS_PER_S)
        windows = round(self._policy.down_look_back_s / self._policy.down_window_s)
        windows = min(windows, max(1, (now_ns - self._setting.start_ns) // length_ns))
        edges: Int64 = now_ns - length_ns * np.arange(windows, -1, -1, dtype=np.int64)
        counts = np.diff(np.searchsorted(self._recent.arrival_ns, edges))
        return float(counts.max()) * NS_PER_S / length_ns
