"""The tuner: replica counts that follow the traffic, hardware and batch caps as planned."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from numpy.typing import ArrayLike

from mipplan.curves import ArrivalCurve, Envelope, WindowCounts, WorstCase, servers_needed
from mipplan.curves.worstcase import EnvelopeCurve
from mipplan.documents import shown
from mipplan.errors import Fault, InputError
from mipplan.result import Plan
from mipplan.trace import Trace
from mipplan.tuner.live import LiveEnvelope, doubling_windows_ns
from mipplan.tuner.stages import StageScale, Tokens, check_tokens, longest_through_ns, stage_scales
from mipplan.tuner.step import TuningStep
from mipplan.tuner.transients import Transient
from mipplan.units import UNLIMITED_NS, seconds_to_ns

#: Traffic as a tuner takes it: an arrival curve, counts over windows, or corners.
Traffic = ArrivalCurve | WindowCounts | Envelope


class Tuner:
    """Keeps a plan's hardware and batch caps, and re-solves its replica counts as the traffic moves.

    Parameters
    ----------
    plan : Plan
        With choices.
    sample : Trace or ArrivalCurve, optional
        What the plan was made for: used until traffic has been observed, and by ``keep="sample"``.
    keep : str
        ``objective``: replica counts for which every query inside the envelope keeps the objective (a theorem, with
        ``tokens="most"``). ``sample``: counts for which no stage makes the traffic wait longer than the plan makes
        the sample wait; on the sample itself these are the plan's counts, or fewer. No bound, but no dearer than the
        plan, and possible where the plan was not made with this bound (`mipplan.refine`).
    tokens : str
        ``most`` tokens that a query can have at a stage, or ``mean``: closer to the load, no guarantee.
    margin_s : float
        Kept back from the objective.
    horizon_s : float
        How far back the live envelope looks, at most a minute unless `live` is given.
    activation_delay_s : float
        How long an ordered replica takes before it serves.
    recovery_s : float, optional
        With a backlog, or while replicas are not yet active: queries that arrive so long from now keep the objective
        again. Twice the activation delay by default.
    live : LiveEnvelope, optional
        With windows of your choice; by default from the pipeline's service time, doubling, to 60 s.

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
        keep: str = "objective",
        tokens: str = "most",
        margin_s: float = 0.0,
        horizon_s: float = 60.0,
        activation_delay_s: float = 0.0,
        recovery_s: float | None = None,
        live: LiveEnvelope | None = None,
    ) -> None:
        self.plan = plan.require()
        self._tokens = check_tokens(tokens)
        if keep not in ("objective", "sample"):
            raise InputError.one("keep", f"expected one of objective, sample, found {shown(keep)}")
        self._keep = keep
        trace = sample if isinstance(sample, Trace) else None
        self.stages: Mapping[str, StageScale] = stage_scales(plan, self._tokens, trace)
        self._deadline_ns = plan.slo_ns - seconds_to_ns(margin_s)
        self._horizon_ns = seconds_to_ns(horizon_s)
        self._delay_ns = seconds_to_ns(activation_delay_s)
        self._recovery_ns = 2 * self._delay_ns if recovery_s is None else seconds_to_ns(recovery_s)
        windows = doubling_windows_ns(self.service_time_ns)
        self.live = live or LiveEnvelope(windows, horizon_ns=self._horizon_ns)
        self._sample = self._read_sample(sample)
        self._waits_ns = self._allowed_waits()
        self._current = {stage: scale.planned for stage, scale in self.stages.items()}
        self._sharing = _stages_sharing_a_path(plan)

    @property
    def service_time_ns(self) -> int:
        """Largest sum of T and delays along a path: what a query takes that waits for no other."""
        own = {stage: scale.latency_ns for stage, scale in self.stages.items()}
        return max(longest_through_ns(self.plan.pipeline, own).values())

    @property
    def replicas(self) -> dict[str, int]:
        """Counts of the last retuning; before the first those of the plan."""
        return dict(self._current)

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
            If there is neither.
        """
        horizon_ns = self._horizon_ns if horizon_s is None else seconds_to_ns(horizon_s)
        latest = self.live.last_ns
        if latest is not None:
            now = latest if now_ns is None else now_ns
            if now < latest:
                raise InputError.one("now_ns", f"{now} is before the latest arrival observed ({latest})")
            counts = self.live.counts(now, horizon_ns)
            if counts is not None:
                return counts.envelope()
        if self._sample is None:
            raise InputError.one("envelope", "no arrivals observed and no sample given: nothing to tune for")
        return self._sample

    def needs(
        self, traffic: Traffic, *, waits_ns: Mapping[str, int] | None = None
    ) -> dict[str, Fraction | None]:
        """Least replicas of every stage, as real numbers, for traffic inside an envelope; None where none is enough.

        Rounding up keeps the bound, so ``ceil`` of each is the fewest replicas.

        References
        ----------
        Theorem (replicas), docs/theory.md.
        """
        envelope = as_envelope(traffic)
        waits = self._waits_ns if waits_ns is None else waits_ns
        return {
            stage: servers_needed(envelope, s.period_ns, s.batch, waits[stage], s.tokens_per_query)
            for stage, s in self.stages.items()
        }

    def retune(
        self,
        now_ns: int | None = None,
        *,
        traffic: Traffic | None = None,
        backlog: int | Mapping[str, int] = 0,
        active: Mapping[str, int] | None = None,
    ) -> TuningStep:
        """Re-solve the replica counts.

        Parameters
        ----------
        now_ns : int, optional
            The time, on the axis of the arrivals; that of the latest arrival by default.
        traffic : ArrivalCurve, WindowCounts or Envelope, optional
            What to be ready for; the observed envelope by default.
        backlog : int or mapping of str to int
            Queries in the system, or tokens waiting or in service per stage.
        active : mapping of str to int, optional
            Replicas that serve now; by default those of the last retuning.

        Raises
        ------
        InputError
        """
        envelope = self.envelope(now_ns) if traffic is None else as_envelope(traffic)
        serving = dict(self._current if active is None else active)
        queued = self._outstanding(backlog)
        needs = self._needs_with_backlog(envelope, queued, serving)
        notes: list[str] = []
        replan = False
        replicas: dict[str, int] = {}
        for stage, scale in self.stages.items():
            need = needs[stage]
            most = scale.most if scale.most is not None else 10**9
            if need is None:
                replan = True
                notes.append(f"{stage}: no number of replicas keeps the objective")
                replicas[stage] = max(scale.least, serving[stage])
                continue
            replicas[stage] = max(scale.least, math.ceil(need))
            if replicas[stage] > most:
                replan = True
                notes.append(f"{stage}: needs {replicas[stage]} replicas, at most {most} are allowed")
                replicas[stage] = most
        cost = sum(replicas[s] * scale.microusd_per_hour for s, scale in self.stages.items())
        step = TuningStep(
            replicas=replicas,
            microusd_per_hour=cost,
            lower_bound_microusd_per_hour=cost,
            latency_bound_ns=self.bound_ns(replicas, envelope),
            transient_bound_ns=self._transient_bound_ns(replicas, envelope, queued, serving),
            share=1.0,
            reused=True,
            replan=replan,
            notes=tuple(notes),
            now_ns=now_ns if now_ns is not None else self.live.last_ns,
        )
        self._current = dict(replicas)
        return step

    def bound_ns(self, replicas: Mapping[str, int], traffic: Traffic) -> int:
        """Bound on the latency of any query of traffic inside an envelope, ns; `UNLIMITED_NS` if there is none."""
        if self._tokens is not Tokens.MOST:
            return UNLIMITED_NS
        services = {stage: scale.service(replicas[stage]) for stage, scale in self.stages.items()}
        return WorstCase(self.plan.pipeline, as_envelope(traffic)).bound_ns(services)

    def _needs_with_backlog(
        self, envelope: Envelope, queued: Mapping[str, int], serving: Mapping[str, int]
    ) -> dict[str, Fraction | None]:
        steady = self.needs(envelope)
        if not any(queued.values()) and self._delay_ns == 0:
            return steady
        at_once = self._transient_needs(envelope, steady, queued, serving, delay_ns=0)
        if self._delay_ns == 0 or all(
            need is not None and need <= serving[stage] for stage, need in at_once.items()
        ):
            return at_once
        return self._transient_needs(envelope, steady, queued, serving, delay_ns=self._delay_ns)

    def _transient_needs(
        self,
        envelope: Envelope,
        steady: Mapping[str, Fraction | None],
        queued: Mapping[str, int],
        serving: Mapping[str, int],
        delay_ns: int,
    ) -> dict[str, Fraction | None]:
        slowest = self._slowest(serving) if delay_ns else dict.fromkeys(self.stages, Fraction(0))
        needs: dict[str, Fraction | None] = {}
        for stage, scale in self.stages.items():
            need = steady[stage]
            way = Transient(queued[stage], slowest[stage], delay_ns, max(self._recovery_ns, delay_ns))
            rate = way.rate_needed(envelope, self._waits_ns[stage]) if need is not None else None
            if need is not None and rate is not None:
                need = max(need, rate * scale.period_ns * Fraction(scale.tokens_per_query) / scale.batch)
            needs[stage] = need
        return needs

    def _transient_bound_ns(
        self,
        replicas: Mapping[str, int],
        envelope: Envelope,
        queued: Mapping[str, int],
        serving: Mapping[str, int],
    ) -> int:
        if self._tokens is not Tokens.MOST:
            return UNLIMITED_NS
        rises = any(replicas[stage] > serving[stage] for stage in self.stages)
        delay_ns = self._delay_ns if rises else 0
        slowest = self._slowest({s: min(replicas[s], serving[s]) for s in self.stages})
        waits = {}
        own = {}
        for stage, scale in self.stages.items():
            rate = _queries_per_ns(scale, replicas[stage])
            before = slowest[stage] if delay_ns else rate
            waits[stage] = Transient(queued[stage], before, delay_ns, 0).wait_ns(envelope, rate)
            own[stage] = scale.latency_ns + -(-scale.own_load_ns // replicas[stage])
        return max(longest_through_ns(self.plan.pipeline, own, waits=waits).values())

    def _slowest(self, serving: Mapping[str, int]) -> dict[str, Fraction]:
        rates = {stage: _queries_per_ns(scale, serving[stage]) for stage, scale in self.stages.items()}
        return {stage: min(rates[other] for other in self._sharing[stage]) for stage in self.stages}

    def _outstanding(self, backlog: int | Mapping[str, int]) -> dict[str, int]:
        """Queries that each stage has yet to serve: all, or the tokens at it and at the stages before it."""
        if not isinstance(backlog, Mapping):
            return dict.fromkeys(self.stages, int(backlog))
        pipeline = self.plan.pipeline
        above: dict[str, set[str]] = {}
        for stage in pipeline.topological_order:
            above[stage] = {stage}.union(*(above[edge.parent] for edge in pipeline.incoming(stage)))
        return {stage: sum(int(backlog.get(other, 0)) for other in above[stage]) for stage in self.stages}

    def _allowed_waits(self) -> dict[str, int]:
        """Longest wait each stage may cause, ns."""
        if self._keep == "sample":
            return self._sample_waits()
        own = {
            s: scale.latency_ns + -(-scale.own_load_ns // scale.planned) for s, scale in self.stages.items()
        }
        through = longest_through_ns(self.plan.pipeline, own)
        return {stage: self._deadline_ns - through[stage] for stage in self.stages}

    def _sample_waits(self) -> dict[str, int]:
        if self._sample is None:
            raise InputError.one("sample", 'keep="sample" needs the sample that the plan was made for')
        waits = {
            stage: EnvelopeCurve(self._sample, scale.tokens_per_query).exact(
                scale.period_ns, scale.planned * scale.batch
            )
            for stage, scale in self.stages.items()
        }
        faults = [
            Fault(
                f"sample: {stage}",
                "the plan's replicas do not keep up with the sample's most tokens per query; use tokens=mean",
            )
            for stage, wait in waits.items()
            if wait >= UNLIMITED_NS
        ]
        if faults:
            raise InputError(faults)
        return waits

    def _read_sample(self, sample: Trace | ArrivalCurve | None) -> Envelope | None:
        if isinstance(sample, Trace):
            return WindowCounts.of_arrivals(sample.arrival_ns, self.live.window_ns).envelope()
        return None if sample is None else Envelope.of_curve(sample)


def as_envelope(traffic: Traffic) -> Envelope:
    """Corners of whatever describes traffic."""
    if isinstance(traffic, Envelope):
        return traffic
    return traffic.envelope() if isinstance(traffic, WindowCounts) else Envelope.of_curve(traffic)


def _queries_per_ns(scale: StageScale, replicas: int) -> Fraction:
    tokens = Fraction(scale.tokens_per_query)
    return Fraction(replicas * scale.batch, scale.period_ns) / tokens if tokens else Fraction(10**9)


def _stages_sharing_a_path(plan: Plan) -> dict[str, frozenset[str]]:
    """Per stage the stages on some path through it: itself, all above and all below."""
    pipeline = plan.pipeline
    above: dict[str, frozenset[str]] = {}
    for stage in pipeline.topological_order:
        above[stage] = frozenset({stage}).union(*(above[e.parent] for e in pipeline.incoming(stage)))
    return {
        stage: above[stage] | frozenset(other for other in pipeline.stages if stage in above[other])
        for stage in pipeline.stages
    }
