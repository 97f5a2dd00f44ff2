"""The tuner: replica counts that follow the traffic, hardware and batch caps as planned."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

from mipplan.calculus import ArrivalCurve, Envelope, WindowCounts, servers_needed
from mipplan.certificate import check_discipline
from mipplan.core import UNLIMITED_NS, Fault, Faults, FieldOf, InputError, check_margin, check_one_of, shown
from mipplan.pipeline import Dispatch
from mipplan.replayer import check_plan
from mipplan.result import Plan, check_laws
from mipplan.trace import Trace
from mipplan.tuner.conditions import Conditions
from mipplan.tuner.requirements import DelayBudget, decide
from mipplan.tuner.scaling import UNLIMITED, PipelineShape, Scaler
from mipplan.tuner.stages import Keep, StageScale, Tokens, eased, sample_waits_ns, stage_scales
from mipplan.tuner.steps import TuningStep
from mipplan.tuner.traffic import (
    LiveEnvelope,
    Situation,
    Traffic,
    as_envelope,
    doubling_windows_ns,
    read_counts,
    read_instant,
    read_outstanding,
    read_seconds,
)
from mipplan.tuner.transients import awaited

#: Where nobody said what to keep, and there is no sample to keep to.
_NO_SAMPLE = (
    "no sample is known, so counts keep the objective for every query; give sample= to keep to the plan"
)
#: What bounds every query says nothing of the limits of lower quantiles.
_SEVERAL_LIMITS = (
    "an arrival curve bounds every query: one limit, not several quantiles; "
    "with keep=sample and a sample counts keep to the plan"
)


class Tuner:
    """Keeps a plan's hardware and batch caps, and re-solves its replica counts as the traffic moves.

    Parameters
    ----------
    plan : Plan
        With choices.
    sample : Trace or ArrivalCurve, optional
        What the plan was made for: used until traffic has been observed, and by ``keep="sample"``. By default what the
        plan itself holds: its trace, unless it comes from a file or was made for several, or its arrival curve.
    keep : str, optional
        ``sample``: no stage's bound on waits, by the envelope of the traffic, exceeds the plan's on its sample; on
        that these are the plan's counts, or fewer. Nothing is said of the objective. The default with
        ``tokens="mean"``, where the sample is a trace.
        ``objective``: every query inside the envelope keeps it (a theorem, with ``tokens="most"``: then an objective of
        several quantiles is refused).
    tokens : str, optional
        ``most`` tokens that a query can have at a stage, or ``mean``: closer to the load, no guarantee.
    waits_ns : mapping of str to int, optional
        How long each stage may make the traffic wait, instead of what `keep` leaves.
    conditions : Conditions, optional
        Device limits, budget, how fast counts may change and what a change costs; by default the device limits of the
        plan's profiles.
    margin_s : float
        Kept back from the objective.
    horizon_s : float
        How far back the live envelope looks; no further than `live` remembers, if that is given.
    activation_delay_s : float
        How long an ordered replica takes before it serves.
    recovery_s : float, optional
        With a backlog, or while replicas are not yet active: queries that arrive so long from now keep the objective
        again. At least, and by default twice, the activation delay.
    live : LiveEnvelope, optional
        With windows of your choice; by default from the pipeline's service time, doubling, to 60 s.
    dispatch : str or mapping of str to str, optional
        Law of all stages, or of those named; others as the plan says. For paced stages no bound is stated while counts
        change (`transient_bound_s`).
    discipline : {"oldest_first", "fifo"}, optional
        Which waiting tokens a batch takes first; as the plan says by default. No theorem covers ``fifo`` inside an
        arrival curve: with ``tokens="most"`` it is refused.

    Raises
    ------
    NoPlanError
        If the plan has no choices.
    InputError
        With every fault; also if a fan-out has no largest value and `tokens` is ``most``.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        sample: Trace | ArrivalCurve | None = None,
        keep: str | None = None,
        tokens: str | None = None,
        waits_ns: Mapping[str, int] | None = None,
        conditions: Conditions | None = None,
        margin_s: float = 0.0,
        horizon_s: float = 60.0,
        activation_delay_s: float = 0.0,
        recovery_s: float | None = None,
        live: LiveEnvelope | None = None,
        dispatch: Dispatch = None,
        discipline: str | None = None,
    ) -> None:
        check_plan(plan)
        faults = Faults()
        wanted = plan.discipline if discipline is None else discipline
        laws = faults.take(lambda: check_laws(plan.pipeline, dispatch, wanted, plan.laws))
        for name, value, kind in (("conditions", conditions, Conditions), ("live", live, LiveEnvelope)):
            if not isinstance(value, kind | None):
                faults.add(Fault(name, f"expected {kind.__name__}, found {shown(value)}"))
        faults.take(lambda: None if tokens is None else check_one_of("tokens", tokens, Tokens, repr))
        faults.take(lambda: None if keep is None else check_one_of("keep", keep, Keep))
        waits = faults.take(lambda: {} if waits_ns is None else _read_waits(waits_ns, plan.choices))
        margin = faults.take(lambda: check_margin(margin_s, plan.slo_ns))
        horizon = faults.take(lambda: read_seconds("horizon_s", horizon_s, least_ns=1))
        delay = faults.take(lambda: read_seconds("activation_delay_s", activation_delay_s))
        recovery = faults.take(lambda: read_seconds("recovery_s", 0.0 if recovery_s is None else recovery_s))
        faults.check()
        plan = replace(plan.require(), objective=plan.objective.under(laws.value, wanted))
        self.plan = plan
        # Of several traces none is the one to keep to: counts may follow each of them.
        alone = None if plan.provenance.others else plan.provenance.sample
        own = alone if plan.envelope is None else ArrivalCurve(plan.envelope)
        known = own if sample is None else sample
        trace = known if isinstance(known, Trace) else None
        as_planned = keep is None and tokens is None and trace is not None
        self.keep = Keep(keep or (Keep.SAMPLE if as_planned else Keep.OBJECTIVE))
        self.tokens = Tokens(tokens or (Tokens.MEAN if as_planned else Tokens.MOST))
        self.conditions = conditions if conditions is not None else Conditions.of_plans([plan])
        if self.tokens is Tokens.MOST:
            check_discipline(plan.discipline)
            if self.keep is Keep.OBJECTIVE and plan.objective.others and waits_ns is None:
                raise InputError.one("keep", _SEVERAL_LIMITS)
        self.stages: Mapping[str, StageScale] = stage_scales(plan, self.tokens, trace)
        self._horizon_ns = horizon.value
        self.activation_delay_ns = delay.value
        self.recovery_ns = max(delay.value, 2 * delay.value if recovery_s is None else recovery.value)
        most = {stage: scale.tokens_per_query for stage, scale in self.stages.items()}
        self._awaited = awaited(plan.pipeline, most if self.tokens is Tokens.MOST else None)
        self.budget = DelayBudget(
            self.stages,
            plan.pipeline.longest_paths(),
            plan.slo_ns - margin.value,
            self.tokens,
            self.activation_delay_ns,
            self.recovery_ns,
            self._awaited.merged,
        )
        self.live = live or LiveEnvelope(
            doubling_windows_ns(self.service_time_ns), horizon_ns=self._horizon_ns
        )
        self._sample = self._read_sample(known)
        if self.keep is Keep.SAMPLE:
            if self._sample is None:
                raise InputError.one("sample", "keep=sample needs the sample that the plan was made for")
            if self.tokens is Tokens.MEAN:
                self.budget.stages = self.stages = eased(self.stages, self._sample)
            self.budget.fixed_ns = sample_waits_ns(self.stages, self._sample)
        elif keep is None and self._sample is None:
            self.budget.notes = (_NO_SAMPLE,)
        if waits_ns is not None:
            self.budget.fixed_ns = waits.value
        self._ordered = {stage: scale.planned for stage, scale in self.stages.items()}
        self.scaler = Scaler([self.shape()], self.conditions)
        unchanged = Conditions(self.conditions.limits, self.conditions.budget_usd_per_hour)
        self._free = Scaler([self.shape()], unchanged)

    service_time_ns = FieldOf[int]("budget.service_time_ns")
    """Largest sum of T and delays along a path: what a query takes that waits for no other."""

    @property
    def replicas(self) -> dict[str, int]:
        """Counts of the last retuning; before the first those of the plan."""
        return dict(self._ordered)

    def observe(self, arrival_ns: ArrayLike) -> None:
        """Take in further arrivals at the pipeline's entry.

        Parameters
        ----------
        arrival_ns : int64, shape (m,)
            Non-decreasing, and not before the latest one so far.

        Raises
        ------
        InputError
        """
        self.live.observe(arrival_ns)

    def envelope(self, now_ns: int | None = None, *, horizon_s: float | None = None) -> Envelope:
        """Envelope of the observed traffic at `now_ns`; of the sample before the first arrival.

        Raises
        ------
        InputError
            If there is neither, or `now_ns` lies before the latest arrival.
        """
        horizon_ns = self._horizon_ns
        if horizon_s is not None:
            horizon_ns = read_seconds("horizon_s", horizon_s, least_ns=1)
        latest = self.live.last_ns
        now = latest if now_ns is None else read_instant(now_ns)
        if now is not None and latest is not None and now < latest:
            raise InputError.one("now_ns", f"{now} is before the latest arrival observed ({latest})")
        counts = None if now is None else self.live.counts(now, horizon_ns)
        if counts is not None:
            return counts.envelope()
        if self._sample is None:
            raise InputError.one("traffic", "no arrivals observed and no sample given: nothing to tune for")
        return self._sample

    def needs(
        self, traffic: Traffic, waits_ns: Mapping[str, int] | None = None
    ) -> dict[str, Fraction | None]:
        """Least replicas of every stage, as real numbers, for traffic inside an envelope; None where none is enough.

        Rounding up keeps the bound, so ``math.ceil`` of each is the fewest replicas. Where queries have several tokens
        at a stage, or it is paced, waits are taken as the plan's counts leave them, so nothing is kept with fewer there
        than it has; `replicas_for` shares them out anew.

        Raises
        ------
        InputError
            Also if waits are given and not for every stage.

        References
        ----------
        [Theorem (replicas)][theorem-replicas].
        """
        envelope = as_envelope(traffic)
        waits = self.budget.waits_ns
        if waits_ns is not None:
            waits = _read_waits(waits_ns, self.stages)
        return {
            stage: servers_needed(envelope, s.period_ns, s.batch, waits[stage], s.tokens_per_query)
            for stage, s in self.stages.items()
        }

    def replicas_for(self, traffic: Traffic) -> dict[str, int]:
        """Cheapest replica counts for traffic inside an envelope, whatever runs now.

        Changes nothing. Limits and budget hold; where they bind, as much as possible is served.
        """
        envelope = as_envelope(traffic)
        idle, ready = dict.fromkeys(self.stages, 0), dict.fromkeys(self.stages, UNLIMITED)
        # No replica is waited for: otherwise the counts would depend on those that serve now.
        situation = Situation(envelope, idle, ready, self._ordered, None)
        return dict(decide([self.budget], self._free, [situation])[0].replicas)

    def retune(
        self,
        now_ns: int | None = None,
        *,
        traffic: Traffic | None = None,
        backlog: int | Mapping[str, int] = 0,
        active: Mapping[str, int] | None = None,
        ordered: Mapping[str, int] | None = None,
    ) -> TuningStep:
        """Re-solve the replica counts.

        Parameters
        ----------
        now_ns : int, optional
            The time, on the axis of the arrivals; that of the latest arrival by default.
        traffic : ArrivalCurve, WindowCounts or Envelope, optional
            What to be ready for; the observed envelope by default.
        backlog : int or mapping of str to int
            Queries in the system, or tokens waiting or in service per stage, with those on their way there.
        active : mapping of str to int, optional
            Replicas that serve now; by default those ordered.
        ordered : mapping of str to int, optional
            Replicas asked for before; by default those of the last retuning.

        Raises
        ------
        InputError
        """
        situation = self.situation(now_ns, traffic=traffic, backlog=backlog, active=active, ordered=ordered)
        step = decide([self.budget], self.scaler, [situation])[0]
        self.accept(step)
        return step

    def situation(
        self,
        now_ns: int | None = None,
        *,
        traffic: Traffic | None = None,
        backlog: int | Mapping[str, int] = 0,
        active: Mapping[str, int] | None = None,
        ordered: Mapping[str, int] | None = None,
    ) -> Situation:
        """Check and complete the arguments of `retune`."""
        known = set(self.stages)
        faults = Faults()
        asked = faults.take(lambda: read_counts("ordered", ordered or {}, known, least=0))
        serving = faults.take(lambda: read_counts("active", active or {}, known, least=0))
        outstanding = faults.take(lambda: read_outstanding(self._awaited.stages, backlog))
        instant = faults.take(lambda: read_instant(now_ns))
        envelope = faults.take(lambda: self.envelope(now_ns) if traffic is None else as_envelope(traffic))
        faults.check()
        replicas = self._ordered | asked.value
        now = self.live.last_ns if instant.value is None else instant.value
        return Situation(envelope.value, outstanding.value, replicas | serving.value, replicas, now)

    def accept(self, step: TuningStep) -> None:
        """Take a step's counts as ordered."""
        self._ordered = dict(step.replicas)

    def shape(self, loss_microusd: int | None = None) -> PipelineShape:
        """Return what a scaler needs to know of this pipeline."""
        place = {stage: v for v, stage in enumerate(self.stages)}
        edges = tuple((place[e.parent], place[e.child], e.delay_ns) for e in self.plan.pipeline.edges)
        return PipelineShape(tuple(self.stages.values()), edges, self.budget.deadline_ns, loss_microusd)

    def bound_ns(self, replicas: Mapping[str, int], traffic: Traffic) -> int:
        """Bound on the latency of any query of traffic inside an envelope, ns; `UNLIMITED_NS` if there is none.

        Parameters
        ----------
        replicas : mapping of str to int
            For every stage, at least 1.
        traffic : ArrivalCurve, WindowCounts or Envelope

        Raises
        ------
        InputError

        References
        ----------
        [Theorem (worst case)][theorem-worst-case].
        """
        _read_all("replicas", replicas, self.stages, least=1)
        return self.budget.bound_ns(replicas, traffic)

    def _read_sample(self, sample: Trace | ArrivalCurve | None) -> Envelope | None:
        if isinstance(sample, Trace):
            # As of live traffic, no window longer than itself is known of a sample whose waits are kept.
            span_ns = sample.span_ns if self.keep is Keep.SAMPLE else UNLIMITED_NS
            known = max(1, int(np.searchsorted(self.live.window_ns, span_ns, side="right")))
            return WindowCounts.of_arrivals(sample.arrival_ns, self.live.window_ns[:known]).envelope()
        if isinstance(sample, ArrivalCurve | None):
            return None if sample is None else Envelope.of_curve(sample)
        raise InputError.one("sample", f"expected a Trace or an ArrivalCurve, found {shown(sample)}")


def _read_waits(given: Mapping[str, int], stages: Collection[str]) -> dict[str, int]:
    """Nanoseconds for every stage; raises `InputError` with every fault."""
    return _read_all("waits_ns", given, stages, least=0, most=UNLIMITED_NS)


def _read_all(name: str, given: Mapping[str, int], stages: Collection[str], **limits: int) -> dict[str, int]:
    """Whole numbers for every stage; raises `InputError` with every fault."""
    numbers = read_counts(name, given, set(stages), **limits)
    InputError.raise_if(Fault(f"{name}.{stage}", "is missing") for stage in stages if stage not in numbers)
    return numbers
