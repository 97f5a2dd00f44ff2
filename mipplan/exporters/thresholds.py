"""When to have more replicas than planned: thresholds for autoscalers that follow from a plan.

Autoscalers of Kubernetes want a target per replica and make as many as ``ceil(total / target)``. Two targets follow
from a plan:

- **Rate.** The plan keeps its objective at its own rate Λ with n replicas, so a replica is good for ``Λ_v / n`` tokens
  per second; at the planned rate that asks for exactly n.
- **Queue.** Tokens that wait before n replicas are gone within ``q / R``, R = n·b/ℓ(b). The longest path through the
  stage leaves ``slack = objective − margin − ΣT − Σdelays`` for waiting, so ``R·slack`` tokens may wait, and
  ``slack·b/ℓ(b)`` for each replica. (Under paced dispatch R is b/δ.)

Replicas are never fewer than planned, as the certificate is about n of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from fractions import Fraction

from mipplan.certificate import plan_services
from mipplan.core import format_duration
from mipplan.exporters.deployment import DeployedStage, Deployment
from mipplan.result import Plan

#: Where neither pipeline nor hardware limits the replicas of a stage, a scaler may double them: a bill has to have a
#: limit, and a plan says nothing of traffic beyond its own.
_MOST_TIMES = 2
#: Thresholds are written with this many digits.
_DIGITS = 6


@dataclass(frozen=True)
class ScalingThresholds:
    """What an autoscaler is told of one stage."""

    #: Replicas of the plan: never fewer.
    least: int
    most: int
    #: Why no more than `most`.
    most_because: str
    #: Tokens per second for each replica; None where the plan has no trace.
    rate_rps: float | None
    #: Tokens that may wait for each replica, at least 1; None where paths leave no time for waiting.
    queue: int | None
    #: Left for waiting on the longest path through the stage, ns; negative if there is none.
    slack_ns: int

    @property
    def scales(self) -> bool:
        """Whether there is anything to scale by, and room for it."""
        return self.most > self.least and (self.rate_rps is not None or self.queue is not None)

    def rate_text(self, stage: DeployedStage) -> str:
        """Say where the rate comes from."""
        busy = (stage.rate_rps or 0.0) / (stage.replica_rps * self.least)
        return (
            f"Λ/n: the plan keeps its objective at {stage.rate_rps:.4g} tokens/s with n = {self.least}. That is "
            f"{busy:.0%} of the {stage.replica_rps:.4g} tokens/s that one serves in full batches (b/ℓ(b))."
        )

    def queue_text(self, stage: DeployedStage) -> str:
        """Say where the queue comes from."""
        return (
            f"slack·b/ℓ(b): the longest path through {stage.name} takes all but {format_duration(self.slack_ns)} of "
            f"the objective (ΣT and delays), and a replica serves {stage.replica_rps:.4g} tokens/s. Where more wait, "
            "the objective may be missed before new replicas can help."
        )


def scaling_thresholds(deployment: Deployment) -> dict[str, ScalingThresholds]:
    """Work out the thresholds of every stage by name, in the order of the flow."""
    plan = deployment.plan
    services = plan_services(plan)
    through_ns = plan.pipeline.longest_paths().through(
        {name: service.latency_ns for name, service in services.items()}
    )
    found, counts = {}, {name: choice.replicas for name, choice in plan.choices.items()}
    for stage in deployment.stages:
        service, replicas = services[stage.name], stage.choice.replicas
        slack_ns = plan.objective.deadline_ns - through_ns[stage.name]
        queue = math.floor(Fraction(slack_ns * service.tokens, service.period_ns * replicas))
        most, because = most_replicas(plan, stage.name, counts)
        rate_rps = None if stage.rate_rps is None else _per_replica(stage.rate_rps, replicas)
        found[stage.name] = ScalingThresholds(
            replicas, most, because, rate_rps or None, queue if queue >= 1 else None, slack_ns
        )
    return found


def most_replicas(plan: Plan, stage: str, counts: Mapping[str, int], of: str = "the plan") -> tuple[int, str]:
    """Return how many replicas load may ask for at a stage where stages have these counts, and why: no fewer.

    `of` says whose counts these are.
    """
    limits = [(_MOST_TIMES * counts[stage], f"twice {of}, as no limit is stated")]
    if (stated := plan.pipeline.stages[stage].replicas_max) is not None:
        limits = [(stated, "`replicas` in the pipeline file")]
    hardware = plan.choices[stage].hardware
    devices = plan.profiles.hardware[hardware].limit
    if devices is not None:
        others = sum(counts[name] for name, own in plan.choices.items() if own.hardware == hardware)
        others -= counts[stage]
        limits.append((devices - others, f"the {devices} {hardware} there are, less those of other stages"))
    most, because = min(limits, key=lambda limit: limit[0])
    return max(most, counts[stage]), because


def _per_replica(rate_rps: float, replicas: int) -> float:
    """Share a rate, rounded up to some digits, so that the planned rate never asks for one replica more."""
    return float(Context(_DIGITS, ROUND_CEILING).divide(Decimal(rate_rps), Decimal(replicas)))
