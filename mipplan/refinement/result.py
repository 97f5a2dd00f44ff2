"""The plan that a refinement comes to, and its record: how much worse it does in a world that is not quite the same."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from mipplan.certificate import certified_on, join_figures
from mipplan.core import MICRODOLLARS_PER_DOLLAR, Deadline, seeds_after
from mipplan.pipeline import are_timed
from mipplan.replayer import ServiceNoise, replay
from mipplan.result import Choice, Figures, Limit, Plan, PlanStatus, Refinement
from mipplan.tokens import Sample, Workload

_Made = TypeVar("_Made")

#: What a plan's record says is proven.
OPTIMAL = "optimal"
ASSUMING = (
    "optimal assuming that neither fewer replicas nor later arrivals ever make a stage serve more "
    "queries in time"
)

#: A plan's record says how it does under service times with these coefficients of variation.
_NOISE = (0.1, 0.3)
#: It says how it does with this number of other draws of branches and fan-outs.
_OTHER_SEEDS = 3
#: What takes less than this is done even if the time is up.
_MOMENT_S = 0.1


def conclude(
    base: Plan, choices: Mapping[str, Choice], lower_bound: int, proven: bool, stopped: Limit, why: str | None
) -> Plan:
    """Say what a search came to, whose choices are empty if it found no plan.

    `why` is the reason if it is proven that there is none; `stopped` is what ended the search if nothing is proven.
    """
    made = replace(base, choices=choices, figures=Figures())
    if proven and choices:
        figures = replace(made.figures, lower_bound_microusd_per_hour=made.microusd_per_hour)
        return replace(made, status=PlanStatus.OPTIMAL, figures=figures)
    if proven:
        nothing = "every plan within the limits was replayed, or refuted without, and none will do"
        return replace(made, status=PlanStatus.INFEASIBLE, reason=why or nothing)
    figures = replace(made.figures, lower_bound_microusd_per_hour=lower_bound)
    ended = "it was interrupted" if stopped is Limit.INTERRUPT else "the time was up"
    if choices:
        status = PlanStatus.FEASIBLE
        reason = (
            f"{ended}: plans that cost from {lower_bound / MICRODOLLARS_PER_DOLLAR:.4g} $/h up to this one's cost "
            "were not all refuted"
        )
    else:
        status = PlanStatus.UNKNOWN
        reason = f"{ended} before any plan was found that keeps the objective in replay"
    return replace(made, status=status, figures=figures, reason=reason, limit=stopped)


def record_refinement(
    plan: Plan,
    samples: Sequence[Sample],
    workloads: Sequence[Workload],
    record: Refinement,
    engine: str,
    deadline: Deadline,
    setup_s: float = 0.0,
) -> Plan:
    """Give a plan its record, and, if it has choices, its figures.

    As far as there is time, of which the search took `setup_s` to begin: its replay, what is certified of it, and how
    fragile it is on the worst sample.
    """
    # A replay takes longer than the search took to begin. Where it is the certificate it must be made.
    is_late = _MOMENT_S < setup_s > deadline.left_s() and not are_timed(plan.laws)
    if not plan.choices or is_late:
        return replace(plan, provenance=replace(plan.provenance, refinement=record))

    def replayed_ns(sample: Sample, noise: ServiceNoise | None = None, seed: int | None = None) -> int:
        drawn = sample.seed if seed is None else seed
        replayed = replay(
            plan, sample.trace, discipline=record.discipline, engine=engine, noise=noise, seed=drawn
        )
        return replayed.objective_ns(plan.objective)

    before = time.monotonic()
    by_sample = {sample: replayed_ns(sample) for sample in samples}
    taken_s = time.monotonic() - before
    figures = plan.figures
    if are_timed(plan.laws):  # then the replay is the certificate
        timed = [replace(plan.figures, certificate_ns=by_sample[sample]) for sample in samples]
        figures = join_figures(samples, timed)
    elif taken_s < _MOMENT_S or deadline.left_s() > taken_s:  # a certificate takes about as long
        figures = certified_on(plan, samples, workloads)
    worst = max(by_sample, key=lambda sample: (by_sample[sample], -sample.number, -sample.seed))
    # Noisy replays and other draws of the worst sample take longer than the one of it that must be made.
    share = len(worst.trace) / sum(len(sample.trace) for sample in samples)
    at_most_s = 2 * share * taken_s

    def in_time(made: Iterable[_Made]) -> Iterator[_Made]:
        return itertools.takewhile(lambda _: deadline.left_s() > at_most_s, made)

    others = seeds_after(plan.seed + plan.seeds - 1, _OTHER_SEEDS) if plan.pipeline.is_random else ()
    noises = in_time(map(ServiceNoise.lognormal, _NOISE))
    several = sorted(by_sample, key=lambda one: (one.number, one.seed)) if len(samples) > 1 else ()
    record = replace(
        record,
        quantile_ns=by_sample[worst],
        samples_ns={sample.name: by_sample[sample] for sample in several},
        noisy_ns={noise.label: replayed_ns(worst, noise) for noise in noises},
        other_seeds_ns={seed: replayed_ns(worst, seed=seed) for seed in in_time(others)},
    )
    return replace(plan, figures=figures, provenance=replace(plan.provenance, refinement=record))
