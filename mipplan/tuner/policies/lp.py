"""Our policy: the tuner, on a forecast of the traffic's envelope and with spares; up at once, down after a while."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from mipplan.core import NS_PER_S
from mipplan.tuner.observation import Observation, StageObservation
from mipplan.tuner.policies.calibration import calibrate
from mipplan.tuner.policies.forecast import Forecast, ForecastRule, Outlook
from mipplan.tuner.policies.held import Held
from mipplan.tuner.policies.parameters import DAY_S, NANOSECOND_S, check_numbers
from mipplan.tuner.policies.policy import Setting
from mipplan.tuner.policies.spares import SpareRule
from mipplan.tuner.step import TuningStep
from mipplan.tuner.tuner import Tuner


@dataclass(frozen=True)
class Lp:
    """The tuner of this package, in closed loop.

    Before the start the latency target is calibrated on the sample (`calibrate`). At each instant of control,

    1. the tuner sizes for the forecast envelope (`Forecast`): never less than lately, and the sample's at the
       rate and burstiness at hand. A stage has as many replicas as the largest count so found in the last `hold_s`:
       it scales up at once, and down when that long nothing has asked for more (the plan counts as asked for at the
       start);
    2. nobody knows of a jump beforehand, and ordered replicas come late. So there are spare ones, as many as the tuner
       asks for at some multiple of the present rate (`SpareRule`). They go when nothing has asked for them for one
       activation delay, which is what it costs to have them back;
    3. a stage in whose queue more waits than the target leaves time for, and that awaits no replicas, also gets what
       the tuner says for that backlog: enough for queries to keep the objective again `recovery_s` after new
       replicas serve. These are not held: they go when the queue has gone.

    Attributes
    ----------
    miss_rate : float
        What calibration on the sample allows.
    horizon_s : float
        How long the live envelope remembers, at most a minute.
    hold_s, recovery_s : float
    spares : SpareRule
    rule : ForecastRule
    name : str

    Raises
    ------
    InputError
        With every parameter that makes no sense.
    """

    miss_rate: float = 0.0
    horizon_s: float = 15.0
    hold_s: float = 15.0
    recovery_s: float = 3.0
    spares: SpareRule = field(default_factory=SpareRule)
    rule: ForecastRule = field(default_factory=ForecastRule)
    name: str = "lp"

    def __post_init__(self) -> None:
        seconds = dict.fromkeys(("hold_s", "recovery_s"), (0.0, DAY_S))
        check_numbers(self, miss_rate=(0.0, 1.0), horizon_s=(NANOSECOND_S, 60.0), **seconds)

    @classmethod
    def lean(cls) -> Lp:
        """Without spare replicas, but looking along trends: the least cost, and whatever a jump brings is late."""
        return cls(spares=SpareRule(most=1.0), rule=ForecastRule(trend_lead=1.5), name="lp-lean")

    def start(self, setting: Setting) -> _Follower:
        """Calibrate on the sample."""
        return _Follower(self, setting)


class _Follower:
    def __init__(self, policy: Lp, setting: Setting) -> None:
        self._policy, self._setting = policy, setting
        self._target_ns = calibrate(setting.plan, setting.sample, policy.miss_rate).slo_ns
        self._steady = self._tuner(delay_s=0.0, recovery_s=0.0)
        self._price = {stage: scale.microusd_per_hour for stage, scale in self._steady.stages.items()}
        delay_s = setting.delay_ns / NS_PER_S
        self._recovering = self._tuner(delay_s, delay_s + policy.recovery_s)
        self._forecast = Forecast(
            policy.rule,
            setting.sample,
            self._steady.live.window_ns,
            setting.start_ns,
            setting.delay_ns + setting.period_ns,
        )
        self._needed = Held(round(policy.hold_s * NS_PER_S), setting.start_ns, setting.replicas)
        # Whoever lets a spare go and wants it back pays for the delay again: keep it as long as that.
        self._ready = Held(setting.delay_ns, setting.start_ns, {})

    def _tuner(self, delay_s: float, recovery_s: float) -> Tuner:
        return Tuner(
            self._setting.plan.with_slo(self._target_ns),
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
        outlook = self._forecast.outlook(seen.now_ns, live)
        traffic = outlook.counts()
        step = self._steady.retune(seen.now_ns, traffic=traffic)
        at_surge = partial(self._at_surge, seen.now_ns, outlook)
        ready = self._policy.spares.counts(_if_enough(step), self._price, at_surge)
        wanted = self._needed.most(seen.now_ns, step.replicas)
        for stage, count in self._ready.most(seen.now_ns, ready).items():
            wanted[stage] = max(wanted[stage], count)
        backlog = {stage: self._backlog(stage, observed) for stage, observed in seen.stages.items()}
        if any(backlog.values()):
            active = {stage: observed.active for stage, observed in seen.stages.items()}
            more = self._recovering.retune(seen.now_ns, traffic=traffic, backlog=backlog, active=active)
            for stage, observed in seen.stages.items():
                awaited = observed.replicas > observed.active
                if backlog[stage]:
                    wanted[stage] = max(wanted[stage], observed.replicas if awaited else more.replicas[stage])
        return wanted

    def _at_surge(self, now_ns: int, outlook: Outlook, surge: float) -> Mapping[str, int] | None:
        """Counts for a multiple of the present rate; None if limits do not admit it all."""
        return _if_enough(self._steady.retune(now_ns, traffic=outlook.counts(surge)))

    def _backlog(self, stage: str, observed: StageObservation) -> int:
        """Tokens that wait, if that is more than is served within what the target leaves for waiting."""
        wait_s = max(0, self._target_ns - self._steady.service_time_ns) / NS_PER_S
        in_time = self._setting.replica_rate_rps[stage] * observed.active * wait_s
        batches = 2 * self._setting.plan.choices[stage].batch * observed.active
        return observed.waiting if observed.waiting > max(in_time, batches) else 0


def _if_enough(step: TuningStep) -> Mapping[str, int] | None:
    return None if step.replan or step.share < 1.0 else step.replicas
