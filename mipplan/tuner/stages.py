"""What a plan leaves to the tuner: per stage one replica's price and speed, and how long it may make traffic wait."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from functools import cached_property

import numpy as np

from mipplan.calculus import Envelope, EnvelopeCurve, most_tokens_per_query, stage_service
from mipplan.core import UNLIMITED_NS, Fault, InputError, LongestPaths, shown
from mipplan.pipeline import Pipeline
from mipplan.result import Plan
from mipplan.tokens import realise
from mipplan.trace import Trace
from mipplan.tuner.traffic import Situation, Traffic, as_envelope
from mipplan.tuner.transients import Transient

#: So many queries are drawn to estimate mean tokens per query where no trace is given.
_DRAWN = 20_000
#: So many queries per ns are served at a stage that no query reaches.
_ENDLESS = 10**9


class Tokens(StrEnum):
    """How many tokens a query is taken to have at a stage."""

    MOST = "most"
    """As many as it can have: what the bound is proven for."""
    MEAN = "mean"
    """As many as queries have on average: closer to the load, no guarantee."""


class Keep(StrEnum):
    """What replica counts keep."""

    OBJECTIVE = "objective"
    """The latency objective, for every query inside the envelope."""
    SAMPLE = "sample"
    """The waits of the plan on its sample."""


@dataclass(frozen=True)
class StageScale:
    """One stage with its hardware and batch cap fixed.

    Attributes
    ----------
    stage, hardware : str
    microusd_per_hour : int
        Price of one replica.
    period_ns, batch : int
        One replica serves `batch` tokens in ``period_ns = ℓ(batch)``.
    latency_ns : int
        T; it does not depend on the number of replicas.
    tokens_per_query : int or Fraction
        F: most (or mean) tokens of a query.
    least : int
        Fewest replicas, at least 1.
    most : int or None
        Most replicas, None for any number.
    planned : int
        Replicas of the plan.
    """

    stage: str
    hardware: str
    microusd_per_hour: int
    period_ns: int
    batch: int
    latency_ns: int
    tokens_per_query: int | Fraction
    least: int
    most: int | None
    planned: int

    @cached_property
    def own_load_ns(self) -> int:
        """Time one replica needs for the other tokens of a query, ns, rounded up: (F − 1)·ℓ(b)/b."""
        serial = max(Fraction(0), Fraction(self.tokens_per_query) - 1)
        return -(-serial.numerator * self.period_ns // (serial.denominator * self.batch))

    def own_ns(self, replicas: int) -> int:
        """T and the time for the other tokens of a query, ns, rounded up."""
        return self.latency_ns + -(-self.own_load_ns // replicas)

    @cached_property
    def pace(self) -> Fraction:
        """Queries that one replica serves per ns; where queries have no tokens, more than ever come."""
        tokens = Fraction(self.tokens_per_query)
        return Fraction(self.batch, self.period_ns) / tokens if tokens else Fraction(_ENDLESS)


def stage_scales(
    plan: Plan, tokens: Tokens = Tokens.MOST, sample: Trace | None = None
) -> dict[str, StageScale]:
    """Read a plan's stages, in file order.

    Tokens are the most of a query, or the mean of the sample's draws (of drawn queries, where there is no sample).

    Raises
    ------
    NoPlanError
        If the plan has no choices.
    InputError
        If the most tokens of a query are asked for and a fan-out has no largest value.
    """
    plan.require()
    counts: Mapping[str, int | Fraction]
    if tokens is Tokens.MOST:
        counts = most_tokens_per_query(plan.pipeline)
    else:
        trace = sample if sample is not None else Trace.from_ns(np.arange(_DRAWN, dtype=np.int64))
        drawn = realise(plan.pipeline, trace, plan.seed).stages
        counts = {stage: Fraction(found.count, len(trace)) for stage, found in drawn.items()}
    scales = {}
    for name, choice in plan.choices.items():
        stage = plan.pipeline.stages[name]
        service = stage_service(plan.service_ns(name), 1, not plan.pipeline.incoming(name))
        scales[name] = StageScale(
            stage=name,
            hardware=choice.hardware,
            microusd_per_hour=plan.profiles.hardware[choice.hardware].microusd_per_hour,
            period_ns=service.period_ns,
            batch=choice.batch,
            latency_ns=service.latency_ns,
            tokens_per_query=counts[name],
            least=max(1, stage.replicas_min),
            most=stage.replicas_max,
            planned=choice.replicas,
        )
    return scales


def pipeline_paths(pipeline: Pipeline) -> LongestPaths[str]:
    """Return the paths through a pipeline, its delays their lengths."""
    edges = [(edge.parent, edge.child, edge.delay_ns) for edge in pipeline.edges]
    return LongestPaths(pipeline.topological_order, edges)


@dataclass(eq=False)
class DelayBudget:
    """How long each stage of a pipeline may make queries wait, and how long its replicas do."""

    stages: Mapping[str, StageScale]
    paths: LongestPaths[str]
    deadline_ns: int
    """The objective less any margin."""
    tokens: Tokens
    """How they were counted: only with the most of them are latencies proven."""
    activation_delay_ns: int
    """New replicas serve from then on."""
    recovery_ns: int
    """Queries that arrive from then on must keep their wait, whatever is there now."""
    fixed_ns: dict[str, int] | None = None
    """Waits that do not depend on the replicas; by default they are what own times leave of the deadline."""

    @property
    def service_time_ns(self) -> int:
        """Largest sum of T and delays along a path: what a query takes that waits for no other."""
        own = {stage: scale.latency_ns for stage, scale in self.stages.items()}
        return max(self.paths.through(own).values())

    @property
    def is_shared_out(self) -> bool:
        """Whether waits depend on replica counts: on how long queries wait for their own tokens."""
        return self.fixed_ns is None and any(stage.own_load_ns for stage in self.stages.values())

    @cached_property
    def waits_ns(self) -> dict[str, int]:
        """Longest wait of each stage, with own times as the plan's replicas leave them; perhaps negative."""
        return self.waits_with({stage: scale.planned for stage, scale in self.stages.items()})

    def waits_with(self, replicas: Mapping[str, int]) -> dict[str, int]:
        """Longest wait of each stage, with own times as these replicas leave them; perhaps negative."""
        if self.fixed_ns is not None:
            return self.fixed_ns
        through = self.paths.through(self._own_ns(replicas))
        return {stage: self.deadline_ns - through[stage] for stage in self.stages}

    def bound_ns(self, replicas: Mapping[str, int], traffic: Traffic) -> int:
        """Bound on the latency of any query of traffic inside an envelope that meets an empty system, ns.

        `UNLIMITED_NS` if there is none.
        """
        if self.tokens is not Tokens.MOST:
            return UNLIMITED_NS
        envelope = as_envelope(traffic)
        curves = {f: EnvelopeCurve(envelope, f) for f in {s.tokens_per_query for s in self.stages.values()}}
        waits = {}
        for stage, scale in self.stages.items():
            curve = curves[scale.tokens_per_query]
            waits[stage] = curve.exact(scale.period_ns, replicas[stage] * scale.batch)
        return self._longest_ns(replicas, waits)

    def transient_bound_ns(self, replicas: Mapping[str, int], situation: Situation) -> int:
        """Bound on the latency of any query from now on, ns; `UNLIMITED_NS` if there is none."""
        active = situation.active
        rises = any(replicas[stage] > active[stage] for stage in self.stages)
        delay_ns = self.activation_delay_ns if rises else 0
        remaining = {s: min(replicas[s], active[s]) * scale.pace for s, scale in self.stages.items()}
        slowest = self.paths.least_along(remaining)
        waits = {}
        for stage, scale in self.stages.items():
            rate = replicas[stage] * scale.pace
            way = Transient(situation.outstanding[stage], slowest[stage] if delay_ns else rate, delay_ns, 0)
            waits[stage] = way.wait_ns(situation.envelope, rate)
        return self._longest_ns(replicas, waits)

    def transient_needs(self, waits_ns: Mapping[str, int], situation: Situation) -> dict[str, Fraction]:
        """Replicas, as real numbers, that a backlog and the activation delay ask for, given the waits; perhaps none.

        If what is active is enough at once, the delay does not matter. Otherwise it counts for all stages.
        """
        if not any(situation.outstanding.values()) and self.activation_delay_ns == 0:
            return {}
        active = situation.active
        at_once = self._needed(waits_ns, situation, dict.fromkeys(self.stages, Fraction(0)), 0)
        if self.activation_delay_ns == 0 or all(need <= active[stage] for stage, need in at_once.items()):
            return at_once
        slowest = self.paths.least_along({s: active[s] * scale.pace for s, scale in self.stages.items()})
        return self._needed(waits_ns, situation, slowest, self.activation_delay_ns)

    def _needed(
        self,
        waits_ns: Mapping[str, int],
        situation: Situation,
        slowest: Mapping[str, Fraction],
        delay_ns: int,
    ) -> dict[str, Fraction]:
        needed = {}
        for stage, scale in self.stages.items():
            way = Transient(situation.outstanding[stage], slowest[stage], delay_ns, self.recovery_ns)
            rate = way.rate_needed(situation.envelope, waits_ns[stage]) if waits_ns[stage] > 0 else None
            if rate is not None:
                needed[stage] = rate / scale.pace
        return needed

    def _own_ns(self, replicas: Mapping[str, int]) -> dict[str, int]:
        return {stage: scale.own_ns(replicas[stage]) for stage, scale in self.stages.items()}

    def _longest_ns(self, replicas: Mapping[str, int], waits_ns: Mapping[str, int]) -> int:
        """Longest path, ns: own times, delays, and once the largest wait on it."""
        through = self.paths.through(self._own_ns(replicas))
        return max(length + waits_ns[stage] for stage, length in through.items())


def sample_waits_ns(stages: Mapping[str, StageScale], sample: Envelope | None) -> dict[str, int]:
    """How long the plan's replicas make its sample wait; raises `InputError` without one, or if they fall behind."""
    if sample is None:
        raise InputError.one("sample", "keep=sample needs the sample that the plan was made for")
    waits = {
        stage: EnvelopeCurve(sample, s.tokens_per_query).exact(s.period_ns, s.planned * s.batch)
        for stage, s in stages.items()
    }
    message = "the plan's replicas do not keep up with the sample's most tokens per query; use tokens=mean"
    faults = [Fault(f"sample: {stage}", message) for stage, wait in waits.items() if wait >= UNLIMITED_NS]
    if faults:
        raise InputError(faults)
    return waits


def check_keep(keep: str) -> Keep:
    """Return what to keep by name; raises `InputError`."""
    if keep not in list(Keep):
        raise InputError.one("keep", f"expected one of {', '.join(Keep)}, found {shown(keep)}")
    return Keep(keep)


def check_tokens(tokens: str) -> Tokens:
    """Return the way of counting tokens of that name; raises `InputError`."""
    if tokens not in list(Tokens):
        raise InputError.one("tokens", f"expected one of {', '.join(Tokens)}, found {tokens!r}")
    return Tokens(tokens)
