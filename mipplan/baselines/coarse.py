"""The pipeline as one black box: one batch size, whole replicas, sized for a rate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from mipplan.baselines.problem import BaselineProblem, pose, rate_checks
from mipplan.core import format_duration
from mipplan.options import Configuration, Family, Option
from mipplan.pipeline import Pipeline
from mipplan.profiles import Profiles
from mipplan.result import Plan
from mipplan.trace import Trace


def coarse_grained(
    pipeline: Pipeline,
    profiles: Profiles,
    trace: Trace,
    *,
    mode: str = "mean",
    window_s: float | None = None,
    slo_s: float | None = None,
    quantile: float = 0.99,
    seed: int = 0,
) -> Plan:
    """Plan for the pipeline as one service, by its capacity: what InferLine was compared with.

    A box holds one replica of every stage, on one hardware type (a stage that may not use it is on its
    lowest-latency hardware), or every stage on its lowest-latency hardware. It serves batches of one size b: a
    stage with s tokens per query gets ⌈s·b⌉ tokens, in full batches of its cap and one of the rest, where the cap
    is the largest admitted one up to b. A box takes as long for a batch as its longest path, and takes in the next
    batch as soon as its slowest stage is free. Of the boxes and sizes whose latency is within the objective, the
    one is chosen for which as many whole boxes as the rate needs cost least; of equal ones the box that serves most.

    Parameters
    ----------
    pipeline, profiles, trace, slo_s, quantile, seed
        As for `mipplan.plan`.
    mode : {"mean", "peak"}
        Rate to size for: the trace's mean, or the most queries in any window divided by its length.
    window_s : float, optional
        Length of the windows of ``peak``; the objective by default.

    Returns
    -------
    Plan
        Status ``given``: nothing was simulated, so that it keeps the objective is not said. ``infeasible`` if no
        box does by this rule.

    Raises
    ------
    InputError
        Listing every bad argument.

    References
    ----------
    Crankshaw et al., "InferLine", SoCC 2020, doi:10.1145/3419111.3421285, section 7 (baselines CG-Mean, CG-Peak).
    """
    checks = rate_checks(mode, window_s)
    problem = pose(pipeline, profiles, trace, f"coarse_grained, {mode}", slo_s, quantile, seed, checks)
    if isinstance(problem, Plan):
        return problem
    rate = problem.queries_per_ns(mode, window_s)
    boxes = list(_boxes(problem))
    fast = [box for box in boxes if box.latency_ns <= problem.deadline_ns]
    copies = [(box, _copies(problem, box, rate)) for box in fast]
    found = [
        (made.microusd_per_hour, Fraction(box.period_ns, box.batch), made) for box, made in copies if made
    ]
    if not found:
        return problem.without_plan(_failure(problem, boxes, fast))
    _, _, cheapest = min(found, key=lambda entry: entry[:2])
    return problem.given(cheapest)


@dataclass(frozen=True)
class _Box:
    """One replica of every stage, serving batches of queries."""

    families: Mapping[str, Family]
    latency_ns: int  # Time from taking in a batch to its end.
    period_ns: int  # Time from taking in a batch to taking in the next.
    batch: int  # Queries in a batch.


def _busy_ns(family: Family, tokens: int) -> int:
    """Time of one replica for that many tokens, in full batches and one of the rest."""
    full, rest = divmod(tokens, family.batch)
    return full * int(family.service_ns[-1]) + (int(family.service_ns[rest - 1]) if rest else 0)


def _boxes(problem: BaselineProblem) -> Iterator[_Box]:
    """Boxes of every kind, with every batch size that some stage has, where no stage only takes larger batches."""
    fastest = {
        stage: min(devices, key=lambda d: (d.latency_ns, d.microusd_per_hour))
        for stage, devices in problem.devices.items()
    }
    names = dict.fromkeys(device.hardware for devices in problem.devices.values() for device in devices)
    for name in (None, *names):
        kind = {
            stage: next((device for device in devices if device.hardware == name), fastest[stage])
            for stage, devices in problem.devices.items()
        }
        for size in sorted({family.batch for device in kind.values() for family in device.families}):
            caps = {stage: [f for f in device.families if f.batch <= size] for stage, device in kind.items()}
            if all(caps.values()):
                families = {stage: own[-1] for stage, own in caps.items()}
                busy_ns = {
                    stage: _busy_ns(family, math.ceil(problem.tokens_per_query(stage) * size))
                    for stage, family in families.items()
                }
                latency_ns, _ = problem.longest_path(busy_ns)
                yield _Box(families, latency_ns, max(busy_ns.values()), size)


def _copies(problem: BaselineProblem, box: _Box, rate: Fraction) -> Configuration | None:
    """As many whole boxes as the rate needs; a stage that demands more replicas gets them. None beyond a limit."""
    copies = max(1, math.ceil(rate * box.period_ns / box.batch))
    made = Configuration(
        {stage: Option(family, max(copies, family.fewest)) for stage, family in box.families.items()}
    )
    bounded = all(replicas <= family.most for family, replicas in made.values())
    return made if bounded and made.keeps(problem.limits) else None


def _failure(problem: BaselineProblem, boxes: list[_Box], fast: list[_Box]) -> str:
    if not boxes:
        return "no batch size suits every stage of a box"
    if fast:
        return "limits on replicas or devices allow for too few boxes"
    fastest_ns = min(box.latency_ns for box in boxes)
    return (
        f"the fastest box takes {format_duration(fastest_ns)} for a batch, more than the objective of "
        f"{format_duration(problem.deadline_ns)}"
    )
