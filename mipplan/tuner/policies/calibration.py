"""The latency target at which the tuner's closed form, replayed, keeps the plan's objective.

The theorem behind the tuner assumes the worst at every stage (T = 2·max ℓ, the most tokens at once), so counts for the
objective itself keep it with room to spare. Sized for a longer target the counts are fewer, and no theorem covers
them; a replay of the sample says how far one may go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mipplan.calculus import WindowCounts
from mipplan.replayer import replay
from mipplan.result import Choice, Plan
from mipplan.trace import Trace
from mipplan.tuner.tuner import Tuner

#: Multiples of the objective that are tried, by bisection.
FACTORS = tuple(round(0.7 + 0.1 * step, 1) for step in range(75))
#: The sample at these rates: few replicas round up generously, many do not.
SCALES = (1.0, 1.25, 1.6, 2.0, 2.5, 3.2)
#: Queries replayed at each rate.
_MOST_QUERIES = 25_000


@dataclass(frozen=True)
class Calibration:
    """What was found.

    Attributes
    ----------
    slo_ns : int
        The target to size for.
    factor : float
        It is this multiple of the objective.
    """

    slo_ns: int
    factor: float


def calibrate(plan: Plan, sample: Trace, miss_rate: float) -> Calibration:
    """Find the longest target whose counts miss at most `miss_rate` on the sample, at several times its rate.

    Only the sample is used. If no target does, the shortest one is returned.

    Parameters
    ----------
    plan : Plan
    sample : Trace
    miss_rate : float
        Share of queries beyond the objective.
    """
    traces = [_part(sample).scale(scale) for scale in SCALES]
    low, high = -1, len(FACTORS)
    while high - low > 1:
        middle = (low + high) // 2
        keeps = _keeps(plan, sample, traces, FACTORS[middle], miss_rate)
        low, high = (middle, high) if keeps else (low, middle)
    factor = FACTORS[max(low, 0)]
    return Calibration(round(factor * plan.slo_ns), factor)


def _keeps(plan: Plan, sample: Trace, traces: Sequence[Trace], factor: float, miss_rate: float) -> bool:
    """Whether counts for this target miss at most so much; where there are none, the target is too short."""
    tuner = Tuner(plan.with_slo(round(factor * plan.slo_ns)), sample=sample, tokens="mean")
    missed = (_missed(plan, tuner, trace) for trace in traces)
    return all(share is None or share <= miss_rate for share in missed)


def _part(sample: Trace) -> Trace:
    if len(sample) <= _MOST_QUERIES:
        return sample
    return Trace(sample.arrival_ns[:_MOST_QUERIES], sample.name, sample.note)


def _missed(plan: Plan, tuner: Tuner, trace: Trace) -> float | None:
    """Share of queries beyond the objective with the tuner's counts; None if it has none."""
    envelope = WindowCounts.of_arrivals(trace.arrival_ns, tuner.live.window_ns).envelope()
    if any(need is None for need in tuner.needs(envelope).values()):
        return None
    counts = tuner.replicas_for(envelope)
    choices = {
        stage: Choice(choice.hardware, choice.batch, counts[stage]) for stage, choice in plan.choices.items()
    }
    sized = Plan.from_choices(plan.pipeline, plan.profiles, choices, slo_s=plan.slo_s, seed=plan.seed)
    return replay(sized, trace).miss_rate(plan.slo_s)
