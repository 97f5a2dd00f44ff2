"""What a plan leaves to the tuner: per stage one replica's price and speed, and how many there may be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from functools import cached_property

import numpy as np

from mipplan.calculus import Envelope, EnvelopeCurve, most_tokens_per_query, stage_service
from mipplan.core import UNLIMITED_NS, Fault, InputError
from mipplan.pipeline import DispatchLaw
from mipplan.result import Plan
from mipplan.tokens import realise
from mipplan.trace import Trace

#: 20,000 queries are drawn to estimate mean tokens per query where no trace is given.
_DRAWN = 20_000
#: 1,000,000,000 queries per ns are served at a stage that no query reaches.
_ENDLESS = 10**9
#: Paced stages have at most 10,000 replicas, or what the pipeline says: so many ns does rounding δ up cost a batch.
_MOST_PACED = 10_000


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
    """The bounds on waits of the plan on its sample."""


@dataclass(frozen=True)
class StageScale:
    """One stage with its hardware and batch cap fixed."""

    stage: str
    hardware: str
    microusd_per_hour: int  # Price of one replica.
    # One of n replicas serves `batch` tokens in ``period_ns = ℓ(batch)``; of paced ones, n serve n·batch within
    # ``period_ns = L + N − 1`` if there may be N, since ⌈L/n⌉ ≤ (L + n − 1)/n.
    period_ns: int
    batch: int
    latency_ns: int  # T; of a paced stage with the fewest replicas, as it falls with every one that is added.
    tokens_per_query: int | Fraction  # F: most (or mean) tokens of a query.
    least: int  # Fewest replicas, at least 1.
    most: int | None  # Most replicas, None for any number.
    planned: int  # Replicas of the plan.
    slowest_ns: int | None = None  # L of a paced stage.
    # In which one paced replica serves a full batch: it is eager, and may need less than L.
    alone_ns: int = 0
    spread: bool = False  # Whether T depends on the replicas.
    # What of T is neither a wait nor the service: from a batch's end until the last of its outputs has gone on.
    staggered_ns: int = 0

    def latency_at(self, replicas: int) -> int:
        """T with that many replicas, ns."""
        if self.slowest_ns is None or not self.spread:
            return self.latency_ns
        return self.slowest_ns - (-self.slowest_ns // replicas) + self.staggered_ns

    def rate_at(self, replicas: int) -> tuple[int, int]:
        """Time in ns in which so many tokens are served with that many replicas."""
        if self.slowest_ns is None:
            return self.period_ns, replicas * self.batch
        return self.alone_ns if replicas == 1 else -(-self.slowest_ns // replicas), self.batch

    @cached_property
    def own_load_ns(self) -> int:
        """Time one replica needs for the other tokens of a query, ns, rounded up: (F − 1)·ℓ(b)/b."""
        serial = max(Fraction(0), Fraction(self.tokens_per_query) - 1)
        return -(-serial.numerator * self.period_ns // (serial.denominator * self.batch))

    @cached_property
    def divided_ns(self) -> int:
        """What replicas divide among them of the time of a query that does not wait, ns: own load, and L if paced."""
        return self.own_load_ns + (self.slowest_ns or 0) * self.spread

    @cached_property
    def lasting_ns(self) -> int:
        """What no replica can lessen of that time, ns. Of two quotients each is rounded up, of their sum one."""
        if self.slowest_ns is None or not self.spread:
            return self.latency_ns
        return self.slowest_ns + self.staggered_ns + (self.own_load_ns > 0)

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
    staggers_ns, windows_ns = plan.pipeline.staggers_ns(plan.laws), plan.pipeline.windows_ns(plan.laws)
    scales = {}
    for name, choice in plan.choices.items():
        stage = plan.pipeline.stages[name]
        least, most, law = max(1, stage.replicas_min), stage.replicas_max, plan.laws[name]
        paced = law is DispatchLaw.PACED
        if paced:
            most = min(_MOST_PACED, most or _MOST_PACED)
        service_ns, is_source = plan.service_ns(name), not plan.pipeline.incoming(name)
        service = stage_service(service_ns, least, is_source, law, staggers_ns[name], windows_ns[name])
        slowest_ns = int(service_ns.max())
        scales[name] = StageScale(
            stage=name,
            hardware=choice.hardware,
            microusd_per_hour=plan.profiles.hardware[choice.hardware].microusd_per_hour,
            period_ns=slowest_ns + (most or 1) - 1 if paced else service.period_ns,
            batch=choice.batch,
            latency_ns=service.latency_ns,
            tokens_per_query=counts[name],
            least=least,
            most=most,
            planned=choice.replicas,
            slowest_ns=slowest_ns if paced else None,
            alone_ns=stage_service(service_ns, 1, is_source, law).period_ns,
            spread=not (is_source and choice.batch == 1),
            staggered_ns=(choice.batch - 1) * staggers_ns[name],
        )
    return scales


def eased(stages: Mapping[str, StageScale], sample: Envelope) -> dict[str, StageScale]:
    """Stages with as many tokens per query as the plan's replicas keep up with on its sample, if that is fewer.

    A plan may fall behind in the busiest minute and keep its objective. What it does then is what is to be kept.
    """
    found = dict(stages)
    for name, stage in stages.items():
        share = stage.planned * stage.pace / sample.rate if sample.rate else 1
        if share < 1:
            found[name] = replace(stage, tokens_per_query=share * stage.tokens_per_query)
    return found


def sample_waits_ns(stages: Mapping[str, StageScale], sample: Envelope) -> dict[str, int]:
    """How long the plan's replicas make its sample wait, or one of two queries that come together, if that is more.

    So some number of replicas is enough for any traffic. Raises `InputError` if they fall behind.
    """
    waits = {
        stage: EnvelopeCurve(sample, s.tokens_per_query).exact(s.period_ns, s.planned * s.batch)
        for stage, s in stages.items()
    }
    message = "the plan's replicas do not keep up with the sample's most tokens per query; use tokens=mean"
    InputError.raise_if(
        Fault(f"sample: {stage}", message) for stage, wait in waits.items() if wait >= UNLIMITED_NS
    )
    return {name: max(waits[name], math.ceil(1 / (s.planned * s.pace))) for name, s in stages.items()}
