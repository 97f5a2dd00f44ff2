"""A policy with one knob, what a missed query is worth: at every instant the replicas of least expected loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated

import numpy as np

from mipplan.core import NS_PER_S, Float64, Int64, first_true, from_front
from mipplan.trace import Trace
from mipplan.tuner.policies.base import Observation, Parameters, Setting, StabilizationWindow, Static
from mipplan.tuner.policies.capacity import PROBED
from mipplan.tuner.policies.levels import LevelEstimator
from mipplan.tuner.policies.losses import LossTable, PricedStage


@dataclass(frozen=True)
class NewsvendorParams:
    """How the loss is reckoned, and what is replayed before the start."""

    served: tuple[float, ...] = tuple(300.0 * 0.8**step for step in range(31))
    """A missed query is worth so many served ones, where nobody says what it costs: the first with which replicas that
    follow the sample cost no more than the plan's, or the last; unless that misses the plan's objective there, or runs
    cost less."""
    tried: int = 50_000
    """Whether it does is tried on so many queries of the sample, the last ones."""
    telling: float = 10.0
    """A run tells what a worth costs once it lasts for ten lead times: it begins with the plan's own counts."""
    drained: float = 1.5
    """After a jump beyond capacity queries are late for one lead time, and half of one more while the queue goes."""
    longest_s: float = 600.0
    """A queue that does not go counts as if it did after ten minutes."""
    burstiness_step: float = 1.1
    """Tables are kept by burstiness, rounded up in steps of 10 %."""
    shares: tuple[float, ...] = (1.0, 0.8, 0.65, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05)
    """A query may wait at several stages: each has such a share of the wait that it is measured to have for itself. The
    one is taken whose choices cost least in replays of all stages together, misses included."""
    rates: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    """These are at such multiples of the sample's rate, at each burstiness that was measured."""
    lost: float = 0.5
    """The plan's own counts are replayed at rising rates until this share of the queries is late."""
    hopeless: float = 0.5
    """Where more than half of the queries are late with any replicas, to buy some is no remedy."""


_PARAMS = NewsvendorParams()


@dataclass(frozen=True)
class Newsvendor(Parameters):
    """Replicas by expected loss, as a newsvendor buys papers: what they cost, and what is lost by too few.

    At each instant of control, for every choice of counts n, the dollars of one lead time (activation delay and control
    period) are reckoned:

        cost(n) + worth_usd · E[ queries missed with n ]

    and the least is taken. Misses are those of bursts within a level (`StageCapacity`), of a level that is not known
    for sure, of rises (`LevelEstimator`), which last until what is then ordered serves and the queue has gone, and of a
    queue that is there. Nothing is let go before it has been idle for one activation delay: what it costs to have it
    back. No theorem covers it; how careful its formula is to be, replays before the start say
    (`NewsvendorParams.shares`).

    References
    ----------
    Arrow, Harris and Marschak, "Optimal inventory policy", Econometrica 1951, doi:10.2307/1906813.
    """

    worth_usd: Annotated[float, 0.0, 1_000.0] | None = None
    """What a query that misses its objective costs you, in dollars: 0.001 is a dollar for a thousand. By default
    the most with which replicas that follow the sample cost no more than the plan's; where that misses the plan's
    objective on the sample, the least that does not, or a greater one that costs no more than the plan."""
    name: str = "newsvendor"

    def start(self, setting: Setting) -> _Vendor:
        """Measure what replicas serve in time, and look at the sample."""
        vendor = _Vendor(self, setting)
        if self.worth_usd is not None or vendor.notes:
            return vendor
        return _Vendor(replace(self, worth_usd=_worth_that_keeps(setting, vendor.worth_usd)), setting)


def _worths_usd(setting: Setting) -> list[float]:
    """What a miss may be worth where nobody says, descending."""
    stages = setting.scales.values()
    served_usd = sum(PricedStage.price(one) * one.planned for one in stages) / setting.sample.rate_rps
    return [multiple * served_usd for multiple in _PARAMS.served]


def _worth_that_keeps(setting: Setting, affordable_usd: float) -> float:
    """What the plan's money suffices for; if that misses the objective on the sample, the least worth that does not.

    To serve a query less than it costs pays, as long as no queue comes of it: only a run tells. The least worth may
    keep the objective by luck, so it is the greatest with which the run costs no more than the plan.
    """
    sample, allowed = setting.sample, 1.0 - setting.plan.quantile
    if len(sample) > _PARAMS.tried:
        sample = Trace(sample.arrival_ns[-_PARAMS.tried :], sample.name, sample.note)
    trial = setting.beginning(int(sample.arrival_ns[0]))
    worths = [worth for worth in _worths_usd(setting) if worth >= affordable_usd]

    @cache
    def tried(policy: Newsvendor | Static) -> tuple[float, float]:
        run = from_front("simulate", "mipplan.tuner")(trial, sample, policy, seed=setting.plan.seed)
        if run.until_s is not None:  # It ends at Ctrl-C, which is meant for more than this trial.
            raise KeyboardInterrupt
        return run.miss_rate, run.usd

    def misses(place: int) -> bool:
        return tried(Newsvendor(worths[place]))[0] > allowed

    def suffices(place: int) -> bool:
        return tried(Newsvendor(worths[place]))[1] <= tried(Static())[1]

    kept = len(worths) - 1
    if misses(kept):
        kept = max(0, first_true(0, kept, misses) - 1)
    if sample.span_ns < _PARAMS.telling * (setting.delay_ns + setting.period_ns):
        return worths[kept]
    return worths[first_true(0, kept, suffices)]


class _Vendor:
    def __init__(self, policy: Newsvendor, setting: Setting) -> None:
        self._setting = setting
        self._stages = [
            PricedStage(setting.scales[name], setting.capacities[name]) for name in setting.stages
        ]
        kinds = setting.plan.profiles.hardware.items()
        self._limits = {name: kind.limit for name, kind in kinds if kind.limit is not None}
        self._tokens = np.array([max(float(one.scale.tokens_per_query), 1e-9) for one in self._stages])
        self._batch = np.array([one.scale.batch for one in self._stages]) / self._tokens
        self._batch_s = np.array([one.scale.period_ns for one in self._stages]) / NS_PER_S
        lead_ns = setting.delay_ns + setting.period_ns
        self._lead_s, self._delay_s = lead_ns / NS_PER_S, setting.delay_ns / NS_PER_S
        self._levels = LevelEstimator(setting.sample, setting.period_ns, lead_ns)
        self._levels.begin(setting.start_ns)
        self.notes: tuple[str, ...] = ()
        if setting.least_missed > _PARAMS.hopeless:
            late = f"{setting.least_missed:.0%} of the queries are late however many replicas there are"
            self.notes = (f"{late}: the plan's are kept",)
        self._tables: dict[int, LossTable] = {}
        self._wait_share, told_usd = 1.0, policy.worth_usd
        self.worth_usd = self._worth_as_planned_usd() if told_usd is None else told_usd
        while (share := self._least_costly_share()) < self._wait_share:
            self._wait_share = share
            if told_usd is not None:
                break
            # Shorter waits ask for more replicas, and the plan's money has to suffice for these.
            self.worth_usd = self._worth_as_planned_usd()
        self._held = StabilizationWindow(setting.delay_ns, setting.start_ns, {})
        self._ordered_ns = setting.start_ns

    def _worth_as_planned_usd(self) -> float:
        """What a miss is worth to whoever made the plan, by what it spends on its sample."""
        setting = self._setting
        levels = LevelEstimator(setting.sample, setting.period_ns, round(self._lead_s * NS_PER_S))
        outlooks = []
        for now_ns in levels.follow(setting.sample, setting.period_ns):
            stay, moved = levels.chances(levels.ahead_rps(now_ns))
            outlooks.append((now_ns, _step_of(levels.burstiness), stay + _PARAMS.drained * moved))
        steps = {step for _, step, _ in outlooks}
        plan_usd_per_s = sum(one.scale.planned * one.usd_per_s for one in self._stages)
        worths, price = _worths_usd(setting), np.array([one.usd_per_s for one in self._stages])

        def spent_usd_per_s(worth_usd: float) -> float:
            """What replicas would cost on the sample, as if no queue ever came of too few."""
            held, total = StabilizationWindow(setting.delay_ns, setting.start_ns, {}), 0.0
            tables = {step: self._draw_up(_spread_of(step), self._wait_share, worth_usd) for step in steps}
            for now_ns, step, chances in outlooks:
                best = int(np.argmin(tables[step].expected_usd(self._lead_s, worth_usd, chances)))
                counts = dict(zip(setting.stages, tables[step].replicas[best].tolist(), strict=True))
                total += float(price @ list(held.largest(now_ns, counts).values()))
            return total / len(outlooks)

        if not outlooks:  # The sample is shorter than a period.
            return worths[-1]
        return worths[first_true(0, len(worths) - 1, lambda k: spent_usd_per_s(worths[k]) <= plan_usd_per_s)]

    def decide(self, seen: Observation) -> Mapping[str, int]:
        if self.notes:
            return {}
        levels, stages = self._levels, [seen.stages[stage] for stage in self._setting.stages]
        levels.observe(seen.arrival_ns, seen.now_ns, seen.period_ns)
        ahead_rps = levels.ahead_rps(seen.now_ns)
        stay, moved = levels.chances(ahead_rps)
        table = self._table(levels.burstiness)
        usd = table.expected_usd(self._lead_s, self.worth_usd, stay + _PARAMS.drained * moved)
        present = np.array([one.replicas for one in stages])
        queue = self._queue_ahead(seen, present, ahead_rps)
        if queue is not None:
            bounds_s, base = (self._batch_s, _PARAMS.longest_s), int(np.argmin(usd))
            usd += table.drain_usd(queue, ahead_rps, self.worth_usd, bounds_s, base, self._delay_s)
        chosen = table.replicas[int(np.argmin(usd))]
        if queue is not None:  # What is on its way comes for this queue.
            chosen = np.maximum(chosen, np.minimum(present, table.replicas[-1]))
        counts = dict(zip(self._setting.stages, chosen.tolist(), strict=True))
        wanted = self._held.largest(seen.now_ns, counts)
        if any(wanted[stage] > one.replicas for stage, one in seen.stages.items()):
            self._ordered_ns = seen.now_ns
        return wanted

    def _queue_ahead(self, seen: Observation, present: Int64, ahead_rps: float) -> Float64 | None:
        """Queries that will wait at each stage when what is ordered now serves; None if no queue is out of hand."""
        observed, spread = [seen.stages[stage] for stage in self._setting.stages], self._levels.burstiness
        active = np.array([max(1, one.active) for one in observed])
        waiting = np.array([one.waiting for one in observed]) / self._tokens
        full = 2 * self._batch * active
        if not ((waiting > full) | (present > active)).any():
            return None
        serving_rps, waits_s = self._serving(active, spread)
        waiting = np.where(waiting > np.maximum(serving_rps * waits_s, full), waiting, 0.0)
        # What was ordered last comes in so many seconds; what is ordered now, in a whole delay.
        until_s = 0.0
        if bool((present > active).any()):
            until_s = max(0.0, self._delay_s - (seen.now_ns - self._ordered_ns) / NS_PER_S)
        # Between now and one lead time from now the rate goes from the level to what is ahead.
        level_rps = self._levels.level_rps
        until_rps = level_rps + (ahead_rps - level_rps) * until_s / self._lead_s / 2
        then = np.maximum(0.0, waiting + (until_rps - serving_rps) * until_s)
        if not then.any():
            return None
        later_rps, _ = self._serving(np.maximum(present, 1), spread)
        return np.asarray(np.maximum(0.0, then + (ahead_rps - later_rps) * (self._delay_s - until_s)))

    def _serving(self, counts: Int64, burstiness: float) -> Float64:
        """Capacities and admissible waits of the stages with these replicas, shape (2, stages)."""
        rows = [one.capacity.of(n, burstiness) for one, n in zip(self._stages, counts, strict=True)]
        return np.array(rows).T

    def _table(self, burstiness: float) -> LossTable:
        step = _step_of(burstiness)
        if step not in self._tables:
            self._tables[step] = self._draw_up(_spread_of(step), self._wait_share, self.worth_usd)
        return self._tables[step]

    def _draw_up(self, burstiness: float, wait_share: float, worth_usd: float) -> LossTable:
        planned = tuple(self._setting.replicas.values())
        return LossTable.draw_up(
            self._stages,
            self._levels.rate_rps,
            burstiness,
            worth_usd,
            wait_share=wait_share,
            limits=self._limits,
            measured=(planned, self._missed_by(planned, burstiness)),
        )

    def _missed_by(self, planned: tuple[int, ...], burstiness: float) -> Float64:
        """The share that misses with the plan's counts at each rate, by replays of all stages together.

        One by one stages look worse than they are together, so that more would be held than the plan has at the very
        traffic that it was made for. Where no replay was made it is 1.
        """
        rates_rps = self._levels.rate_rps
        shares = np.ones_like(rates_rps)
        first = int(np.searchsorted(rates_rps, self._setting.sample.rate_rps * _PARAMS.rates[0]))
        for level in range(first, rates_rps.size):
            shares[level] = self._setting.missed(planned, float(rates_rps[level]), burstiness)
            if shares[level] > _PARAMS.lost:
                break
        return shares

    def _least_costly_share(self) -> float:
        """The share of the waits with which replays cost least, relative to the best of each rate and burstiness."""
        rates_rps = self._levels.rate_rps
        levels = np.searchsorted(rates_rps, self._setting.sample.rate_rps * np.array(_PARAMS.rates))
        cost = np.zeros(len(_PARAMS.shares))
        for cv in PROBED:
            tables = [self._draw_up(cv, share, self.worth_usd) for share in _PARAMS.shares]
            for level in levels.tolist():
                rate_rps, usd = float(rates_rps[level]), np.empty(cost.size)
                for place, table in enumerate(tables):
                    best = int(np.argmin(table.usd_per_s + self.worth_usd * table.missed_rps[:, level]))
                    missed = self._setting.missed(table.replicas[best].tolist(), rate_rps, cv)
                    usd[place] = table.usd_per_s[best] + self.worth_usd * rate_rps * missed
                cost += np.divide(usd, usd.min(), out=np.ones_like(usd), where=usd.min() > 0)
        return _PARAMS.shares[int(np.argmin(cost))]


def _step_of(burstiness: float) -> int:
    """Number of the step that a burstiness is rounded up to."""
    return math.ceil(math.log(burstiness) / math.log(_PARAMS.burstiness_step))


def _spread_of(step: int) -> float:
    """Burstiness of a step."""
    return _PARAMS.burstiness_step**step
