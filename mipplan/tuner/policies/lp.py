"""Our policy: the tuner, on a forecast of the traffic's envelope and with spares; up at once, down after a while."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated

from mipplan.calculus import Envelope, WindowCounts
from mipplan.core import NS_PER_S, first_true, listed
from mipplan.result import Plan
from mipplan.trace import Trace
from mipplan.tuner.policies.base import (
    Observation,
    Parameters,
    Setting,
    Share,
    StabilizationWindow,
    StageObservation,
    Times,
    Wait,
)
from mipplan.tuner.policies.capacity import miss_rate_with
from mipplan.tuner.policies.forecast import Forecast, ForecastRule
from mipplan.tuner.steps import TuningStep
from mipplan.tuner.tuner import Tuner


@dataclass(frozen=True)
class LpParams:
    """What is tried before and during a run."""

    slacks: tuple[float, ...] = tuple(round(0.1 * step, 1) for step in range(1, 76))
    """What calibration tries, by bisection, in increasing order (`Calibration.slack`)."""
    scales: tuple[float, ...] = (1.0, 1.25, 1.6, 2.0, 2.5, 3.2)
    """The sample is replayed at these rates: few replicas round up generously, many do not."""
    most_queries: int = 25_000
    """At most 25,000 queries are replayed at each rate."""
    halvings: int = 5
    """The interval that the multiple for spares lies in is halved 5 times."""
    most_steps: int = 1 << 14
    """Steps, and traffic that asks for the same, remembered at most: each takes some 2 kB."""


_PARAMS = LpParams()


@dataclass(frozen=True)
class SpareRule(Parameters):
    """For what multiple of the present rate to have replicas.

    The pipeline is as fast as its slowest stage, so all stages are ready for the same multiple.
    """

    most: Annotated[float, 1.0, 1_000.0] = 3.0
    """Never more than this."""
    share: Times = 1.0
    """What is spare costs no more than this share of what the rate itself needs."""

    def counts(
        self,
        present: Mapping[str, int] | None,
        price: Mapping[str, int],
        at_surge: Callable[[float], Mapping[str, int] | None],
    ) -> Mapping[str, int]:
        """Return the counts at the largest multiple found within the limits; none where there are to be no spares.

        `present` are the counts for the rate itself, and `at_surge` tells those for a multiple of it, non-decreasing
        in it; both are None where there are not enough devices. Prices are micro-dollars per hour of a replica.
        """
        if present is None or self.most <= 1.0:
            return {}
        affordable = (1.0 + self.share) * _cost_of(present, price)

        def tried(surge: float) -> Mapping[str, int] | None:
            counts = at_surge(surge)
            return None if counts is None or _cost_of(counts, price) > affordable else counts

        largest = tried(self.most)
        if largest is not None:
            return largest
        low, high, found = 1.0, self.most, present
        for _ in range(_PARAMS.halvings):
            surge = (low + high) / 2
            counts = tried(surge)
            if counts is None:
                high = surge
            else:
                low, found = surge, counts
        return found


def _cost_of(counts: Mapping[str, int], price: Mapping[str, int]) -> int:
    return sum(price[stage] * count for stage, count in counts.items())


@dataclass(frozen=True)
class Lp(Parameters):
    """The tuner of this package, in closed loop.

    Before the start it is calibrated on the sample how long stages may make queries wait (`calibrate`). At each instant
    of control,

    1. the tuner sizes for the forecast envelope (`Forecast`): never less than lately, and the sample's at the
       rate and burstiness at hand. A stage has as many replicas as the largest count so found in the last `hold_s`:
       it scales up at once, and down when that long nothing has asked for more (the plan counts as asked for at the
       start);
    2. nobody knows of a jump beforehand, and ordered replicas come late. So there are spare ones, as many as the tuner
       asks for at some multiple of the present rate (`SpareRule`). They go when nothing has asked for them for one
       activation delay, which is what it costs to have them back;
    3. a stage in whose queue more waits than it serves in the time allowed, and that awaits no replicas, also gets what
       the tuner says for that backlog: enough for waits to be as allowed again `recovery_s` after new replicas serve.
       These are not held: they go when the queue has gone.
    """

    miss_rate: Share = 0.0
    """What calibration on the sample allows."""
    horizon_s: Annotated[float, 1e-9, 60.0] = 15.0
    """How long the live envelope remembers, at most a minute."""
    hold_s: Wait = 15.0
    recovery_s: Wait = 3.0
    spares: SpareRule = field(default_factory=SpareRule)
    rule: ForecastRule = field(default_factory=ForecastRule)
    name: str = "lp"

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
        calibration = calibrate(setting.plan, setting.sample, policy.miss_rate)
        self.notes, self._waits_ns = calibration.notes, calibration.waits_ns
        tuner = partial(
            Tuner,
            setting.plan,
            sample=setting.sample,
            keep="sample",
            tokens="mean",
            waits_ns=self._waits_ns,
            horizon_s=policy.horizon_s,
        )
        self._asked: dict[bytes, tuple[object, ...]] = {}
        self._steps: dict[tuple[object, ...], TuningStep] = {}
        delay_s = setting.delay_ns / NS_PER_S
        self._steady = tuner()
        self._waits = tuple(self._steady.budget.waits_ns.values())
        self._recovering = tuner(activation_delay_s=delay_s, recovery_s=delay_s + policy.recovery_s)
        self._price = {stage: scale.microusd_per_hour for stage, scale in self._steady.stages.items()}
        windows_ns, lead_ns = self._steady.live.window_ns, setting.delay_ns + setting.period_ns
        self._forecast = Forecast(policy.rule, setting.sample, windows_ns, setting.start_ns, lead_ns)
        hold_ns = round(policy.hold_s * NS_PER_S)
        self._needed = StabilizationWindow(hold_ns, setting.start_ns, setting.replicas)
        # Whoever lets a spare go and wants it back pays for the delay again: keep it as long as that.
        self._ready = StabilizationWindow(setting.delay_ns, setting.start_ns, {})

    def decide(self, seen: Observation) -> Mapping[str, int]:
        self._steady.observe(seen.arrival_ns)
        self._forecast.observe(seen.arrival_ns, seen.now_ns)
        live = self._steady.live.counts(seen.now_ns)
        if live is None:
            return {}
        outlook = self._forecast.outlook(seen.now_ns, live)

        def at_surge(surge: float) -> Mapping[str, int] | None:
            return _if_enough(self._step(seen.now_ns, outlook(surge)))

        traffic = outlook(1.0)
        step = self._step(seen.now_ns, traffic)
        ready = self._policy.spares.counts(_if_enough(step), self._price, at_surge)
        wanted = self._needed.largest(seen.now_ns, step.replicas)
        for stage, count in self._ready.largest(seen.now_ns, ready).items():
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

    def _step(self, now_ns: int, traffic: WindowCounts) -> TuningStep:
        """Retune, or do as the last time that all was the same."""
        counts = traffic.count.tobytes()
        asked = self._asked.get(counts)
        if asked is None:
            rates = traffic.rates_needed(self._waits)
            # All that traffic asks for; where no rate is enough, what happens depends on more of it.
            asked = self._asked[counts] = (counts,) if None in rates else rates
        known = asked, *self._steady.replicas.values()
        step = self._steps.get(known)
        if step is None:
            step = self._steps[known] = self._steady.retune(now_ns, traffic=traffic)
        self._steady.accept(step)
        for memory in (self._asked, self._steps):
            if len(memory) >= _PARAMS.most_steps:
                memory.clear()
        return step

    def _backlog(self, stage: str, observed: StageObservation) -> int:
        """Tokens that wait, if that is more than is served within the wait that the stage is allowed."""
        wait_s = self._waits_ns[stage] / NS_PER_S
        in_time = self._setting.replica_rate_rps[stage] * observed.active * wait_s
        batches = 2 * self._setting.plan.choices[stage].batch * observed.active
        return observed.waiting if observed.waiting > max(in_time, batches) else 0


def _if_enough(step: TuningStep) -> Mapping[str, int] | None:
    """A step's counts; None if limits do not admit all that was asked for."""
    return None if step.replan or step.share < 1.0 else step.replicas


@dataclass(frozen=True)
class Calibration:
    """How long each stage may make traffic wait, and what replays of the sample could not vouch for."""

    waits_ns: Mapping[str, int]
    missed: float
    """Largest share of the sample that counts for these waits miss, at any rate that was replayed."""
    notes: tuple[str, ...] = ()


def calibrate(plan: Plan, sample: Trace, miss_rate: float = 0.0, params: LpParams = _PARAMS) -> Calibration:
    """Find the longest waits whose counts miss at most `miss_rate` of the sample, at several times its rate.

    Every stage may make traffic wait as long as the plan makes its sample wait, or as long as a slack leaves time for
    on the longest path through it, if that is more. So there are counts for every slack, and the more slack, the fewer.
    No theorem covers them; a replay of the sample says how far one may go. Only the sample is used.

    Where counts for the plan's own waits miss more already, the longest slack is taken, be it shorter than those waits,
    with which no more miss than with the plan on its sample; where there is none, the plan's waits. Notes tell what
    no replay vouches for.
    """
    tuner = Tuner(plan, sample=sample, keep="sample", tokens="mean")
    part = Trace(sample.arrival_ns[: params.most_queries], sample.name, sample.note)
    own, replays, beyond = tuner.budget.waits_ns, [], []
    for scale in params.scales:
        trace = part.scale(scale)
        envelope = WindowCounts.of_arrivals(trace.arrival_ns, tuner.live.window_ns).envelope()
        # Where the conditions admit these counts, they admit all for longer waits.
        if tuner.replicas_for(envelope) == _counts(tuner, envelope, own):
            replays.append((trace, envelope))
        else:
            beyond.append(f"{scale:g}")

    def misses(waits_ns: Mapping[str, int]) -> Iterator[float]:
        return (
            miss_rate_with(plan, _counts(tuner, envelope, waits_ns), trace) for trace, envelope in replays
        )

    found, planned = max(misses(own), default=0.0), miss_rate_with(plan, {}, part)
    kept = found <= miss_rate
    allowed, floor = (miss_rate, own) if kept else (max(miss_rate, planned), dict.fromkeys(own, 1))
    tried = [waits_with_slack_ns(tuner, slack, floor) for slack in params.slacks[::-1] if replays]
    # From the longest down: shorter ones keep the objective more easily.
    place = first_true(0, len(tried), lambda k: all(missed <= allowed for missed in misses(tried[k])))
    waits = [*tried, own][place]
    missed, notes = max(misses(waits), default=0.0), []
    if beyond:
        rates = f"{listed(beyond)} times the sample's rate"
        notes.append(f"not calibrated at {rates}, which takes more replicas than are allowed")
    if missed > miss_rate:
        notes.append(
            f"the plan misses {planned:.2%} of the sample, and counts for its waits up to {found:.2%} at several times "
            f"its rate: {'the same' if waits is own else 'other'} waits are kept, with which up to {missed:.2%} miss"
        )
    return Calibration(waits, missed, tuple(notes))


def waits_with_slack_ns(tuner: Tuner, slack: float, floor_ns: Mapping[str, int]) -> dict[str, int]:
    """Longest wait of each stage: a slack, in objectives, and more where no longest path goes; at least the floor."""
    left = tuner.budget.left_ns({stage: scale.planned for stage, scale in tuner.stages.items()})
    more_ns = round(slack * tuner.plan.slo_ns) - min(left.values())
    return {stage: max(least, left[stage] + more_ns) for stage, least in floor_ns.items()}


def _counts(tuner: Tuner, envelope: Envelope, waits_ns: Mapping[str, int]) -> dict[str, int]:
    needs = tuner.needs(envelope, waits_ns)
    return {stage: max(scale.least, math.ceil(needs[stage] or 0)) for stage, scale in tuner.stages.items()}
