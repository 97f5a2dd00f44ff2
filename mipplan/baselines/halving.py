"""Half of the objective for batches, half for waiting: the rule of Nexus and Loki."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from mipplan.baselines.problem import BaselineProblem, Device, pose, rate_checks, size_family
from mipplan.core import Int64, format_duration
from mipplan.options import Configuration, Option
from mipplan.pipeline import Pipeline
from mipplan.profiles import Profiles
from mipplan.result import Plan
from mipplan.trace import Trace


def half_slo(
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
    """Plan by the rule that a query waits at most as long as its batches take.

    The cheapest configuration such that along each path the batch latencies ℓ(b) sum up to at most half of the
    objective (less the path's delays), and that n·b/ℓ(b) of each stage is at least the rate of its tokens. Found
    exactly, by dynamic programming over the stages.

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
    problem = pose(pipeline, profiles, trace, f"half_slo, {mode}", slo_s, quantile, seed, checks)
    if isinstance(problem, Plan):
        return problem
    rate = problem.queries_per_ns(mode, window_s)
    offers = {
        stage: _sized(devices, rate * problem.tokens_per_query(stage))
        for stage, devices in problem.devices.items()
    }
    reason = _failure(problem, offers)
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


def _failure(problem: BaselineProblem, offers: Mapping[str, Sequence[Option]]) -> str:
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
