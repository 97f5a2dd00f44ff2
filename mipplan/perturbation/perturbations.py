"""The axes along which a plan is perturbed: what is changed on each, by how much, and when there is nothing to change.

An axis is one entry of `AXES`; tables, figure and documents follow. Draws stay the same along an axis (common random
numbers), but on the axis of other seeds: query 7 gets the same luck under more traffic, so that what differs between
two points is the perturbation alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from mipplan.core import Float64, Int64, seeds_after
from mipplan.pipeline import Edge, Pipeline
from mipplan.profiles import Profiles
from mipplan.result import Plan
from mipplan.trace import Trace

#: Factors on rate, service times and fan-out.
_FACTORS = (1.05, 1.1, 1.2, 1.3, 1.5)
#: Factors on the coefficient of variation of the gaps.
_CV_FACTORS = (1.25, 1.5, 2.0, 3.0)
#: So many other seeds are tried.
_SEEDS = 5
#: Where gaps are drawn anew, parts of the trace keep their time: this many gaps, or a hundredth of all if that is more.
_LEAST_PART, _MOST_PARTS = 1_000, 100


@dataclass(frozen=True)
class Case:
    """What is replayed."""

    plan: Plan
    trace: Trace
    seed: int
    name: str = ""  # Of the sample, where there are several.


@dataclass(frozen=True)
class Amount:
    """One perturbation on an axis."""

    value: float | int | str
    """The factor, the seed, or the stage that loses a replica."""
    label: str
    size: float
    """How large it is in relation to what is: 0.05 for +5 %, 1/n for one of n replicas, 0 for another seed."""


@dataclass(frozen=True)
class Axis:
    """One way of perturbing."""

    name: str
    title: str
    amounts: Callable[[Case], tuple[Amount, ...]]
    """The grid for a case, smallest first."""
    perturb: Callable[[Case, Amount], Case | None]
    """The case after it; None if a stage has no replica left."""
    obstacle: Callable[[Case], str | None] = lambda _: None
    """Why there is nothing to change in a case, or None."""
    steps: int | None = None
    """Of a continuous axis: factors are told apart to one over this; None for any other."""

    def at(self, step: int) -> Amount:
        """The perturbation by a factor of `step` / `steps`, of a continuous axis."""
        steps = self.steps or 1
        factor = step / steps
        label = f"CV × {factor:g}" if self.name == "burstiness" else f"+{100 * (factor - 1):.6g} %"
        return Amount(factor, label, (step - steps) / steps)


def _continuous(
    name: str,
    title: str,
    steps: int,
    factors: tuple[float, ...],
    perturb: Callable[[Case, float], Case],
    obstacle: Callable[[Case], str | None] = lambda _: None,
) -> Axis:
    """Make an axis of factors."""

    def amounts(_: Case) -> tuple[Amount, ...]:
        return tuple(axis.at(round(factor * steps)) for factor in factors)

    axis = Axis(
        name, title, amounts, lambda case, amount: perturb(case, float(amount.value)), obstacle, steps
    )
    return axis


# --- traffic ---------------------------------------------------------------------------------------------------------


def _faster(case: Case, factor: float) -> Case:
    return replace(case, trace=case.trace.scale(factor))


def _burstier(case: Case, factor: float) -> Case:
    return replace(case, trace=clustered(case.trace, factor, case.seed))


def clustered(trace: Trace, factor: float, seed: int) -> Trace:
    """Make a trace burstier: the coefficient of variation (CV) of its gaps grows, its rate stays.

    A change of time. Every gap is multiplied by its own gamma variable of mean 1 and squared CV

        s² = (1 + c′²) / (1 + c²) − 1,    c′ = c + (factor − 1) · max(c, 1),

    where c is the CV of the trace's gaps: second moments of independent factors multiply, so that c′ is the CV to
    expect, `factor` times c from Poisson traffic on. The trace is cut into at most a hundred equal parts of
    at least 1,000 gaps, and each is stretched to the time it took before: rate and order of load over longer times stay
    as they are. That takes a little of the burstiness back where gaps are few or very uneven; the CV reached is that of
    the trace returned.

    Parameters
    ----------
    trace : Trace
    factor : float
        Above 1. With the same seed gaps change continuously with it.
    seed : int
        Of the gamma variables.
    """
    from scipy.special import gammaincinv

    gaps = np.diff(trace.arrival_ns).astype(np.float64)
    if not trace.span_ns:
        return trace
    aimed = trace.cv + (factor - 1.0) * max(trace.cv, 1.0)
    variance = (1.0 + aimed**2) / (1.0 + trace.cv**2) - 1.0
    uniform = np.random.default_rng(seed).random(gaps.size)
    drawn = gaps * gammaincinv(1.0 / variance, uniform) * variance
    arrival_ns = _pinned(trace.arrival_ns, drawn)
    return Trace(arrival_ns, trace.name, f"{trace.note}; gaps drawn burstier, CV × {factor:g}".lstrip("; "))


def _pinned(arrival_ns: Int64, gaps: Float64) -> Int64:
    """Arrivals with these gaps in place of their own, each part stretched to the time that it took before."""
    parts = min(_MOST_PARTS, max(1, gaps.size // _LEAST_PART))
    made = arrival_ns.copy()
    edges = [gaps.size * part // parts for part in range(parts + 1)]
    for first, last in itertools.pairwise(edges):
        reached = np.cumsum(gaps[first:last])
        span_ns = int(arrival_ns[last] - arrival_ns[first])
        # Draws of a very uneven distribution may all be 0: then the part stays as it is.
        if reached[-1] > 0.0:
            offsets = np.rint(reached * (span_ns / reached[-1])).astype(np.int64)
            made[first + 1 : last + 1] = arrival_ns[first] + np.minimum(offsets, span_ns)
    return made


# --- service and tokens ----------------------------------------------------------------------------------------------


def _slower(case: Case, factor: float) -> Case:
    tables = [table.slower(factor) for table in case.plan.profiles.tables.values()]
    profiles = Profiles.from_parts(case.plan.profiles.hardware.values(), tables)
    return replace(case, plan=replace(case.plan, profiles=profiles))


def _multiplies(edge: Edge) -> bool:
    """Whether an edge makes other than exactly one token of one."""
    return edge.probability < 1.0 or edge.fanout.values != (1,)


def _more_tokens(case: Case, factor: float) -> Case:
    """Multiply the mean number of tokens of every edge that makes other than one of one.

    By its probability, as far as that goes, where a token that takes the edge makes one; else by its fan-out.
    """
    pipeline = case.plan.pipeline
    document = pipeline.to_document()
    for edge, entry in zip(pipeline.edges, document["edges"], strict=True):
        if edge.fanout.values == (1,) and edge.probability < 1.0:
            entry["probability"] = min(1.0, edge.probability * factor)
        elif _multiplies(edge):
            entry["fanout"] = edge.fanout.scaled(factor).to_document()
    return replace(case, plan=replace(case.plan, pipeline=Pipeline.from_document(document)))


def _no_fanout(case: Case) -> str | None:
    if any(map(_multiplies, case.plan.pipeline.edges)):
        return None
    return "every query makes one token at each stage"


# --- replicas and seeds ----------------------------------------------------------------------------------------------


def _losses(case: Case) -> tuple[Amount, ...]:
    """One replica of each stage, the stage with most of them first."""
    amounts = [
        Amount(stage, f"{stage}: {choice.replicas - 1} of {choice.replicas}", 1.0 / choice.replicas)
        for stage, choice in case.plan.choices.items()
    ]
    return tuple(sorted(amounts, key=lambda amount: amount.size))


def _without_replica(case: Case, amount: Amount) -> Case | None:
    stage, plan = str(amount.value), case.plan
    choice = plan.choices[stage]
    if choice.replicas == 1:
        return None
    choices = {**plan.choices, stage: replace(choice, replicas=choice.replicas - 1)}
    return replace(case, plan=replace(plan, choices=choices))


def _other_seeds(case: Case) -> tuple[Amount, ...]:
    return tuple(Amount(seed, f"seed {seed}", 0.0) for seed in seeds_after(case.seed, _SEEDS))


def _reseeded(case: Case, amount: Amount) -> Case:
    return replace(case, seed=int(amount.value))


def _nothing_drawn(case: Case) -> str | None:
    return None if case.plan.pipeline.is_random else "the pipeline draws nothing at random"


_ALL_AT_ONCE = "all queries arrive at once"

#: Every axis by name, in the order in which they are tried and shown.
AXES: Mapping[str, Axis] = MappingProxyType(
    {
        axis.name: axis
        for axis in (
            _continuous(
                "rate",
                "arrival rate",
                1_000,
                _FACTORS,
                _faster,
                lambda case: None if case.trace.span_ns else _ALL_AT_ONCE,
            ),
            _continuous(
                "burstiness",
                "burstiness",
                100,
                _CV_FACTORS,
                _burstier,
                lambda case: None if case.trace.span_ns else _ALL_AT_ONCE,
            ),
            _continuous("service", "service times", 1_000, _FACTORS, _slower),
            _continuous("fanout", "tokens per query", 1_000, _FACTORS, _more_tokens, _no_fanout),
            Axis("replica", "one replica lost", _losses, _without_replica),
            Axis("seed", "other token draws", _other_seeds, _reseeded, _nothing_drawn),
        )
    }
)
