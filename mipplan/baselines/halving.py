"""Half of the objective for batches, half for waiting: the rule of Nexus and Loki."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from mipplan.baselines.problem import BaselineProblem, Device, size_family
from mipplan.baselines.rates import pose_at_rate
from mipplan.core import format_duration
from mipplan.options import Configuration, Option
from mipplan.pipeline import Pipeline
from mipplan.profiles import Profiles
from mipplan.result import Effort, Plan
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
    started = time.monotonic()
    posed = pose_at_rate(pipeline, profiles, trace, "half_slo", mode, window_s, slo_s, quantile, seed)
    if isinstance(posed, Plan):
        return posed
    problem, rate = posed
    offers = {
        stage: _sized(devices, rate * problem.tokens_per_query(stage))
        for stage, devices in problem.devices.items()
    }
    reason = _failure(problem, offers)
    chosen = None if reason else _Selection(problem, offers).cheapest()
    effort = Effort(0, time.monotonic() - started)
    if chosen is None:
        return problem.infeasible(reason or "the limits on devices leave too few of them", effort)
    return problem.given(Configuration({stage: chosen[stage] for stage in offers}), effort)


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


class _Label(NamedTuple):
    """Choices for some stages, and all that matters about them to the choices still to come."""

    cost: int
    ends_ns: tuple[int, ...]  # When each open stage (one with children still to come) is done at the latest.
    used: tuple[int, ...]  # Devices taken, of each limited hardware type.
    chosen: tuple[Option, ...]  # In topological order.

    @property
    def burden(self) -> tuple[int, ...]:
        """What later choices would rather have small."""
        return (self.cost, *self.ends_ns, *self.used)


class _Selection:
    """The cheapest option of every stage, of offers none of which is empty: dynamic programming with dominance."""

    def __init__(self, problem: BaselineProblem, offers: Mapping[str, Sequence[Option]]) -> None:
        self._problem = problem
        self._offers = offers
        self._limits = tuple(problem.limits.items())
        least_ns = {stage: min(map(_doubled_ns, offered)) for stage, offered in offers.items()}
        from_begin_ns = problem.paths.up_from(least_ns)
        #: The least time from the end of each stage to the end of the pipeline.
        self._tails_ns = {stage: from_begin_ns[stage] - own_ns for stage, own_ns in least_ns.items()}

    def cheapest(self) -> dict[str, Option] | None:
        """Return it, None if limits and objective leave none."""
        order = self._problem.pipeline.topological_order
        labels = [_Label(0, (), (0,) * len(self._limits), ())]
        open_stages: tuple[str, ...] = ()
        for position, stage in enumerate(order):
            known, open_stages = open_stages, self._still_open((*open_stages, stage), order[position + 1 :])
            labels = _undominated(
                [
                    extended
                    for label in labels
                    for extended in self._extensions(
                        label, dict(zip(known, label.ends_ns, strict=True)), stage, open_stages
                    )
                ]
            )
        best = min(labels, key=lambda label: label.cost, default=None)
        return None if best is None else dict(zip(order, best.chosen, strict=True))

    def _still_open(self, stages: Sequence[str], later: Sequence[str]) -> tuple[str, ...]:
        outgoing = self._problem.pipeline.outgoing
        return tuple(stage for stage in stages if any(edge.child in later for edge in outgoing(stage)))

    def _extensions(
        self, label: _Label, ends_ns: Mapping[str, int], stage: str, open_stages: Sequence[str]
    ) -> Iterator[_Label]:
        """Add every option of a stage that leaves the others a chance."""
        incoming = self._problem.pipeline.incoming(stage)
        start_ns = max((ends_ns[edge.parent] + edge.delay_ns for edge in incoming), default=0)
        for option in self._offers[stage]:
            end_ns = start_ns + _doubled_ns(option)
            used = tuple(
                taken + (option.replicas if name == option.family.hardware else 0)
                for (name, _), taken in zip(self._limits, label.used, strict=True)
            )
            within = all(taken <= limit for (_, limit), taken in zip(self._limits, used, strict=True))
            if within and end_ns + self._tails_ns[stage] <= self._problem.deadline_ns:
                ends = {**ends_ns, stage: end_ns}
                yield _Label(
                    label.cost + option.microusd_per_hour,
                    tuple(ends[name] for name in open_stages),
                    used,
                    (*label.chosen, option),
                )


def _undominated(labels: list[_Label]) -> list[_Label]:
    """Drop labels that another one beats or equals in everything."""
    if not labels:
        return []
    ordered = sorted(labels, key=lambda label: label.burden)
    burdens = np.array([label.burden for label in ordered], dtype=np.int64)
    kept, least, count = [], np.empty_like(burdens), 0
    for label, burden in zip(ordered, burdens, strict=True):
        if not np.any(np.all(least[:count] <= burden, axis=1)):
            kept.append(label)
            least[count] = burden
            count += 1
    return kept
