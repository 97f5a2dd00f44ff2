"""What is sized for a rate without a simulation: the pipeline as a black box, or half of the objective for batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

import numpy as np

from mipplan.baselines.problem import BaselineProblem, Device, pose, size_family
from mipplan.core import InputError, Int64, check_one_of, format_duration, positive_ns
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
    rate = queries_per_ns(trace, Mode(mode), check_peak_window(window_s, problem.deadline_ns))
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
        configuration obeys the rule.

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
    rate = queries_per_ns(trace, Mode(mode), check_peak_window(window_s, problem.deadline_ns))
    offers = {
        stage: _sized(devices, rate * problem.tokens_per_query(stage))
        for stage, devices in problem.devices.items()
    }
    reason = _why_no_choice(problem, offers)
    chosen = None if reason else _cheapest(problem, offers)
    if chosen is None:
        return problem.without_plan(reason or "the limits on devices leave too few of them")
    return problem.given(chosen)


def _sized(devices: Sequence[Device], tokens_per_ns: Fraction) -> list[Option]:
    """Every (hardware, cap) of a stage with as few replicas as serve that rate."""
    sized = [size_family(family, tokens_per_ns) for device in devices for family in device.families]
    return [option for option in sized if option is not None]


def _doubled_ns(option: Option) -> int:
    """Twice the batch latency: the batch and as long a wait."""
    return 2 * int(option.family.service_ns[-1])


def _why_no_choice(problem: BaselineProblem, offers: Mapping[str, Sequence[Option]]) -> str:
    """Why nothing obeys the rule even if devices abound; empty if something does."""
    short = [stage for stage, offered in offers.items() if not offered]
    if short:
        return f"no allowed number of replicas keeps up with the rate at {', '.join(short)}"
    least_ns = {stage: min(map(_doubled_ns, offered)) for stage, offered in offers.items()}
    total_ns, path = problem.longest_path(least_ns)
    if total_ns <= problem.deadline_ns:
        return ""
    return (
        f"twice the fastest batches along {' → '.join(path)} take {format_duration(total_ns)}, more than the "
        f"objective of {format_duration(problem.deadline_ns)}"
    )


def _cheapest(problem: BaselineProblem, offers: Mapping[str, Sequence[Option]]) -> Configuration | None:
    """Find the cheapest choice, of offers none of which is empty; None if limits and objective leave none."""
    pipeline, order = problem.pipeline, problem.pipeline.topological_order
    least_ns = {stage: min(map(_doubled_ns, offered)) for stage, offered in offers.items()}
    from_begin_ns = problem.paths.up_from(least_ns)
    limits = np.array(list(problem.limits.values()), dtype=np.int64)
    # Choices for the stages so far, side by side: what they are, and all that matters about them to later ones (cost,
    # devices taken of each limited type, and when each stage with children still to come is done at the latest).
    chosen: list[tuple[Option, ...]] = [()]
    cost, used = np.zeros(1, dtype=np.int64), np.zeros((1, limits.size), dtype=np.int64)
    ends_ns: dict[str, Int64] = {}
    for position, stage in enumerate(order):
        offered, later = offers[stage], order[position + 1 :]
        before, added = (grid.ravel() for grid in np.indices((len(chosen), len(offered))))
        begin_ns = np.zeros_like(cost)
        for edge in pipeline.incoming(stage):
            begin_ns = np.maximum(begin_ns, ends_ns[edge.parent] + edge.delay_ns)
        prices = np.array([option.microusd_per_hour for option in offered], dtype=np.int64)
        taken = [[n if family.hardware == name else 0 for name in problem.limits] for family, n in offered]
        doubled_ns = np.array([_doubled_ns(option) for option in offered], dtype=np.int64)
        cost, used = cost[before] + prices[added], used[before] + np.array(taken, dtype=np.int64)[added]
        ends_ns = {name: end_ns[before] for name, end_ns in ends_ns.items()}
        ends_ns[stage] = begin_ns[before] + doubled_ns[added]
        in_time = ends_ns[stage] + (from_begin_ns[stage] - least_ns[stage]) <= problem.deadline_ns
        ends_ns = {
            name: end_ns
            for name, end_ns in ends_ns.items()
            if any(edge.child in later for edge in pipeline.outgoing(name))
        }
        rows = np.flatnonzero(in_time & (used <= limits).all(axis=1))
        rows = rows[_undominated(np.column_stack((cost, *ends_ns.values(), used))[rows])]
        chosen = [(*chosen[before[row]], offered[added[row]]) for row in rows.tolist()]
        cost, used, ends_ns = cost[rows], used[rows], {name: end_ns[rows] for name, end_ns in ends_ns.items()}
    if not chosen:
        return None
    best = dict(zip(order, chosen[np.argmin(cost)], strict=True))
    return Configuration({stage: best[stage] for stage in offers})


def _undominated(burdens: Int64) -> list[int]:
    """Rows that no other beats or equals in every column, in the order of the first, then the second and so on."""
    kept: list[int] = []
    for row in np.lexsort(burdens.T[::-1]).tolist():
        if not (burdens[kept] <= burdens[row]).all(axis=1).any():
            kept.append(row)
    return kept
