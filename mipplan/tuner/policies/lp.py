"""Our policy: the tuner, on a forecast of the traffic's envelope; up at once, down after a while."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mipplan.curves import WindowCounts
from mipplan.tuner.observation import Observation, StageObservation
from mipplan.tuner.policies.calibration import calibrate
from mipplan.tuner.policies.forecast import Forecast, ForecastRule
from mipplan.tuner.policies.policy import Setting
from mipplan.tuner.tuner import Tuner
from mipplan.units import NS_PER_S


@dataclass(frozen=True)
class Lp:
    """The tuner of this package, in closed loop.

    Before the start the latency target is calibrated on the sample (`calibrate`). At each instant of control,

    1. the tuner sizes for the forecast envelope (`Forecast`): never less than lately, and the sample's at the
       rate and burstiness at hand. Where that is cheap it also has spare replicas: those stages whose replicas for
       `surge` times that rate cost least more get them, as far as `spare_share` of the cost goes;
    2. a stage has as many replicas as the largest count so found in the last `hold_s`: it scales up at once, and down
       when that long nothing has asked for more (the plan counts as asked for at the start);
    3. a stage in whose queue more waits than the target leaves time for, and that awaits no replicas, also gets what
       the tuner says for that backlog: enough for queries to keep the objective again `recovery_s` after new
       replicas serve. These are not held: they go when the queue has gone.

    Attributes
    ----------
    miss_rate : float
        What calibration on the sample allows.
    horizon_s : float
        How long the live envelope remembers, at most a minute.
    hold_s, recovery_s, surge, spare_share : float
    rule : ForecastRule
    name : str
    """

    miss_rate: float = 0.0
    horizon_s: float = 15.0
    hold_s: float = 15.0
    recovery_s: float = 3.0
    surge: float = 2.0
    spare_share: float = 0.5
    rule: ForecastRule = field(default_factory=ForecastRule)
    name: str = "lp"

    def start(self, setting: Setting) -> _Follower:
        """Calibrate on the sample."""
        return _Follower(self, setting)


class _Follower:
    def __init__(self, policy: Lp, setting: Setting) -> None:
        self._policy, self._setting = policy, setting
        self._target_ns = calibrate(setting.plan, setting.sample, policy.miss_rate).slo_ns
        self._steady = self._tuner(delay_s=0.0, recovery_s=0.0)
        delay_s = setting.delay_ns / NS_PER_S
        self._recovering = self._tuner(delay_s, delay_s + policy.recovery_s)
        self._forecast = Forecast(
            policy.rule,
            setting.sample,
            self._steady.live.window_ns,
            setting.start_ns,
            setting.delay_ns + setting.period_ns,
        )
        # Of each stage the counts found lately, with their instants.
        self._found = {stage: deque([(setting.start_ns, count)]) for stage, count in setting.replicas.items()}

    def _tuner(self, delay_s: float, recovery_s: float) -> Tuner:
        return Tuner(
            replace(self._setting.plan, slo_ns=self._target_ns),
            sample=self._setting.sample,
            tokens="mean",
            horizon_s=self._policy.horizon_s,
            activation_delay_s=delay_s,
            recovery_s=recovery_s,
        )

    def decide(self, seen: Observation) -> Mapping[str, int]:
        self._steady.observe(seen.arrival_ns)
        self._forecast.observe(seen.arrival_ns, seen.now_ns)
        live = self._steady.live.counts(seen.now_ns)
        if live is None:
            return {}
        traffic = self._forecast.counts(seen.now_ns, live)
        sized = self._with_spares(
            seen.now_ns, self._steady.retune(seen.now_ns, traffic=traffic).replicas, live
        )
        wanted = {stage: self._held(stage, count, seen.now_ns) for stage, count in sized.items()}
        backlog = {stage: self._backlog(stage, observed) for stage, observed in seen.stages.items()}
        if any(backlog.values()):
            active = {stage: observed.active for stage, observed in seen.stages.items()}
            more = self._recovering.retune(seen.now_ns, traffic=traffic, backlog=backlog, active=active)
            for stage, observed in seen.stages.items():
                awaited = observed.replicas > observed.active
                if backlog[stage]:
                    wanted[stage] = max(wanted[stage], observed.replicas if awaited else more.replicas[stage])
        return wanted

    def _with_spares(self, now_ns: int, sized: Mapping[str, int], live: WindowCounts) -> dict[str, int]:
        surging = self._forecast.counts(now_ns, live, self._policy.surge)
        ready = self._steady.retune(now_ns, traffic=surging).replicas
        price = {stage: scale.microusd_per_hour for stage, scale in self._steady.stages.items()}
        left = self._policy.spare_share * sum(price[stage] * count for stage, count in sized.items())
        counts = dict(sized)
        for stage in sorted(counts, key=lambda stage: price[stage] * (ready[stage] - sized[stage])):
            more = min(max(0, ready[stage] - sized[stage]), int(left // price[stage]) if price[stage] else 0)
            counts[stage] += more
            left -= price[stage] * more
        return counts

    def _held(self, stage: str, count: int, now_ns: int) -> int:
        found = self._found[stage]
        found.append((now_ns, count))
        while found[0][0] < now_ns - round(self._policy.hold_s * NS_PER_S):
            found.popleft()
        return max(earlier for _, earlier in found)

    def _backlog(self, stage: str, observed: StageObservation) -> int:
        """Tokens that wait, if that is more than is served within what the target leaves for waiting."""
        wait_s = max(0, self._target_ns - self._steady.service_time_ns) / NS_PER_S
        in_time = self._setting.replica_rate_rps[stage] * observed.active * wait_s
        batches = 2 * self._setting.plan.choices[stage].batch * observed.active
        return observed.waiting if observed.waiting > max(in_time, batches) else 0
