"""What is sized for a rate without a simulation: the pipeline as a black box, or half of the objective for batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

import numpy as np

from mipplan.baselines.offers import Offer, best_choice, sized, why_no_choice
from mipplan.baselines.problem import BaselineProblem, pose
from mipplan.core import InputError, check_one_of, format_duration, positive_ns
from mipplan.options import Configuration, Family, Option
from mipplan.pipeline import Dispatch, Pipeline
from mipplan.profiles import Profiles
from mipplan.result import Plan
from mipplan.trace import Trace

# --- the rate --------------------------------------------------------------------------------------------------------


class Mode(StrEnum):
    """What rate to size for."""

    MEAN = "mean"
    """Queries over the time from the first to the last."""
    PEAK = "peak"
    """The most queries in any window, over its length."""


def rate_checks(mode: str, window_s: float | None) -> tuple[Callable[[], object], ...]:
    """Return the checks of what says which rate to size for."""
    return lambda: check_one_of("mode", mode, Mode, repr), lambda: check_peak_window(window_s, 1)


def queries_per_ns(trace: Trace, mode: Mode, window_ns: int) -> Fraction:
    """Return the rate to size for, of a trace that spans some time.

    The half-open windows of ``peak``, of that length, may start anywhere.
    """
    if mode is Mode.MEAN:
        return Fraction(len(trace), trace.span_ns)
    arrival_ns = trace.arrival_ns
    # A window with the most queries can be moved to start at one of them.
    ends = np.searchsorted(arrival_ns, arrival_ns + window_ns, side="left")
    return Fraction(int(np.max(ends - np.arange(len(trace)))), window_ns)


def rate_to_size_for(problem: BaselineProblem, mode: str, window_s: float | None) -> Fraction:
    """Return `queries_per_ns` of the problem's trace; a window is as long as its objective by default."""
    return queries_per_ns(problem.trace, Mode(mode), check_peak_window(window_s, problem.deadline_ns))


def check_peak_window(window_s: float | None, default_ns: int) -> int:
    """Return the length of a window in ns; raises `InputError` if it is no positive number of seconds."""
    if window_s is None:
        return default_ns
    window_ns = positive_ns(window_s)
    if window_ns is None:
        raise InputError.one("window_s", f"expected a positive number of seconds, found {window_s!r}")
    return window_ns


# --- the pipeline as one black box: one batch size, whole replicas ---------------------------------------------------


def coarse_grained(
    pipeline: Pipeline,
    profiles: Profiles,
    trace: Trace,
    *,
    mode: str = "mean",
    window_s: float | None = None,
    slo_s: float | None = None,
    quantile: float | None = None,
    seed: int = 0,
    dispatch: Dispatch = None,
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
    pipeline, profiles, trace, slo_s, quantile, seed, dispatch
        As for `mipplan.plan`; the law is the plan's, and no part of the rule.
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
    problem = pose(
        pipeline, profiles, trace, f"coarse_grained, {mode}", slo_s, quantile, seed, checks, dispatch
    )
    if isinstance(problem, Plan):
        return problem
    rate = rate_to_size_for(problem, mode, window_s)
    boxes = list(_boxes(problem))
    fast = [box for box in boxes if box.latency_ns <= problem.deadline_ns]
    copies = [(box, _copies(problem, box, rate)) for box in fast]
    found = [
        (made.microusd_per_hour, Fraction(box.period_ns, box.batch), made) for box, made in copies if made
    ]
    if not found:
        return problem.without_plan(_why_no_box(problem, boxes, fast))
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


def _why_no_box(problem: BaselineProblem, boxes: list[_Box], fast: list[_Box]) -> str:
    if not boxes:
        return "no batch size suits every stage of a box"
    if fast:
        return "limits on replicas or devices allow for too few boxes"
    fastest_ns = min(box.latency_ns for box in boxes)
    return (
        f"the fastest box takes {format_duration(fastest_ns)} for a batch, more than the objective of "
        f"{format_duration(problem.deadline_ns)}"
    )


# --- half of the objective for batches, half for waiting: the rule of Nexus and Loki ---------------------------------


def half_slo(
    pipeline: Pipeline,
    profiles: Profiles,
    trace: Trace,
    *,
    mode: str = "mean",
    window_s: float | None = None,
    slo_s: float | None = None,
    quantile: float | None = None,
    seed: int = 0,
    dispatch: Dispatch = None,
) -> Plan:
    """Plan by the rule that a query waits at most as long as its batches take.

    The cheapest configuration such that along each path the batch latencies ℓ(b) sum up to at most half of the
    objective (less the path's delays), and that n·b/ℓ(b) of each stage is at least the rate of its tokens. Found
    exactly, by dynamic programming over the stages.

    Parameters
    ----------
    pipeline, profiles, trace, mode, window_s, slo_s, quantile, seed, dispatch
        As for `mipplan.baselines.coarse_grained`.

    Returns
    -------
    Plan
        As by `mipplan.baselines.coarse_grained`: ``infeasible`` if no configuration obeys the rule.

    Raises
    ------
    InputError
        Listing every bad argument.

    References
    ----------
    Shen et al., "Nexus: a GPU cluster engine for accelerating DNN-based video analysis", SOSP 2019,
    doi:10.1145/3341301.3359658, section 6. Ahmad et al., "Loki: a system for serving ML inference pipelines with
    hardware and accuracy scaling", HPDC 2024, doi:10.1145/3625549.3658688.
    """
    checks = rate_checks(mode, window_s)
    problem = pose(pipeline, profiles, trace, f"half_slo, {mode}", slo_s, quantile, seed, checks, dispatch)
    if isinstance(problem, Plan):
        return problem
    rate = rate_to_size_for(problem, mode, window_s)
    offers = {
        stage: [
            # The batch, and as long a wait.
            Offer(option, 2 * int(option.family.service_ns[-1]), (option.microusd_per_hour,))
            for device in devices
            for option in sized(device.families, rate * problem.tokens_per_query(stage))
        ]
        for stage, devices in problem.devices.items()
    }
    reason = why_no_choice(problem, offers, "twice the fastest batches")
    chosen = None if reason else best_choice(problem, offers)
    if chosen is None:
        return problem.without_plan(reason or "the limits on devices leave too few of them")
    return problem.given(chosen)
