"""What IPA was compared with: FA2 scales fixed variants, RIM switches variants on fixed replicas.

Both as the evaluation of IPA has them: they are its integer program with that part fixed which each cannot change. So
a batch takes ℓ(b) and fills in (b − 1)/λ, and every stage serves at least the rate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from mipplan.baselines.offers import Offer, best_choice, sized, why_no_choice
from mipplan.baselines.problem import BaselineProblem, filled_ns, pose
from mipplan.baselines.sizing import rate_checks, rate_to_size_for
from mipplan.core import Fault, InputError, check_kinds, is_whole, shown
from mipplan.options import Family, Option, check_accuracies, find_families
from mipplan.pipeline import Dispatch, Pipeline, choosing
from mipplan.profiles import Profiles
from mipplan.result import Plan
from mipplan.trace import Trace

#: Losses of accuracy are compared in billionths.
_PER_UNIT = 1_000_000_000


def fa2(
    pipeline: Pipeline,
    profiles: Profiles,
    trace: Trace,
    *,
    variants: str | Mapping[str, str] = "low",
    mode: str = "mean",
    window_s: float | None = None,
    slo_s: float | None = None,
    quantile: float | None = None,
    seed: int = 0,
    dispatch: Dispatch = None,
) -> Plan:
    """Plan by FA2's rule: for fixed variants the cheapest batch sizes and replicas that keep up and are quick enough.

    Along each path the times ℓ(b) + (b − 1)/λ sum up to at most the objective (less the path's delays), and n·b/ℓ(b) of
    each stage is at least the rate λ of its tokens. Found exactly, by dynamic programming over the stages.

    Parameters
    ----------
    variants : {"low", "high"}, or mapping of str to str
        The variant of every stage: the least accurate, the most accurate, or as named (else the one that it runs).
    pipeline, profiles, trace, mode, window_s, slo_s, quantile, seed, dispatch
        As for `mipplan.baselines.coarse_grained`.

    Returns
    -------
    Plan
        Status ``given``: nothing was simulated, so that it keeps the objective is not said. ``infeasible`` if no
        configuration obeys the rule.

    Raises
    ------
    InputError
        Listing every bad argument; variants whose accuracy is not known, where they are to be the least or most.

    References
    ----------
    Razavi et al., "FA2: fast, accurate autoscaling for serving deep learning inference with SLA guarantees", RTAS 2022,
    doi:10.1109/RTAS54340.2022.00020; FA2-low and FA2-high in the evaluation of IPA, doi:10.5070/SR34163500.
    """
    check_kinds(pipeline=(pipeline, Pipeline), profiles=(profiles, Profiles))
    if isinstance(variants, Mapping):
        pipeline = choosing(pipeline, variants)
    elif variants not in ("low", "high"):
        found = f"found {shown(variants)}"
        raise InputError.one("variants", f"expected 'low', 'high' or a variant per stage, {found}")
    elif any(len(stage.models) > 1 for stage in pipeline.stages.values()):
        check_accuracies(pipeline, profiles)
        pipeline = choosing(pipeline, _extreme(pipeline, profiles, most=variants == "high"))
    name = f"fa2, {variants if isinstance(variants, str) else 'given'}, {mode}"
    problem = pose(
        pipeline, profiles, trace, name, slo_s, quantile, seed, rate_checks(mode, window_s), dispatch
    )
    if isinstance(problem, Plan):
        return problem
    rate = rate_to_size_for(problem, mode, window_s)
    offers = {}
    for stage, families in _families(problem, pipeline, profiles).items():
        tokens_per_ns = rate * problem.tokens_per_query(stage)
        own = [family for family in families if family.variant in (None, pipeline.stages[stage].model)]
        offers[stage] = [
            Offer(option, filled_ns(option.family, tokens_per_ns), (option.microusd_per_hour,))
            for option in sized(own, tokens_per_ns)
        ]
    return _answer(problem, pipeline, profiles, offers)


def rim(
    pipeline: Pipeline,
    profiles: Profiles,
    trace: Trace,
    *,
    replicas: int | Mapping[str, int],
    largest_batch: int | None = None,
    mode: str = "mean",
    window_s: float | None = None,
    slo_s: float | None = None,
    quantile: float | None = None,
    seed: int = 0,
    dispatch: Dispatch = None,
) -> Plan:
    """Plan by the rule of RIM in IPA's evaluation: with given replicas the most accurate variants that keep up.

    Of all choices of variants, hardware and batch sizes that are quick enough and serve the rate with these replicas
    (as for `fa2`), the one with the largest product of accuracies; of equal ones the cheapest, then the one with the
    least batch sizes. Variants that make other tokens than the one that the pipeline runs are left out.

    Parameters
    ----------
    replicas : int, or mapping of str to int
        Replicas of every stage, which RIM does not change; 1 of stages that are not named.
    largest_batch : int, optional
        No larger batches: 1 for RIM without batching.
    pipeline, profiles, trace, mode, window_s, slo_s, quantile, seed, dispatch
        As for `mipplan.baselines.coarse_grained`.

    Returns
    -------
    Plan
        As for `fa2`.

    Raises
    ------
    InputError
        Listing every bad argument, unknown accuracies among them.

    References
    ----------
    The baseline RIM of Ghafouri et al., "IPA: Inference pipeline adaptation to achieve high accuracy and
    cost-efficiency", Journal of Systems Research 4(1), 2024, doi:10.5070/SR34163500, as its published configurations
    run it: replicas are fixed at a high number, variants and batch sizes are chosen.
    """
    check_kinds(pipeline=(pipeline, Pipeline), profiles=(profiles, Profiles))
    given = replicas if isinstance(replicas, Mapping) else dict.fromkeys(pipeline.stages, replicas)
    wrong = [
        Fault(
            f"replicas.{stage}", f"expected replicas of a stage, a whole number from 1, found {shown(count)}"
        )
        for stage, count in given.items()
        if stage not in pipeline.stages or not is_whole(count) or count < 1
    ]
    if largest_batch is not None and (not is_whole(largest_batch) or largest_batch < 1):
        wrong.append(Fault("largest_batch", f"expected a whole number from 1, found {shown(largest_batch)}"))
    InputError.raise_if(wrong)
    given = {stage: int(count) for stage, count in given.items()}
    if any(len(stage.models) > 1 for stage in pipeline.stages.values()):
        check_accuracies(pipeline, profiles)
    name, checks = f"rim, {mode}", rate_checks(mode, window_s)
    problem = pose(pipeline, profiles, trace, name, slo_s, quantile, seed, checks, dispatch)
    if isinstance(problem, Plan):
        return problem
    rate = rate_to_size_for(problem, mode, window_s)
    offers = {
        stage: [
            _switched(family, given.get(stage, 1), rate * problem.tokens_per_query(stage))
            for family in families
            if largest_batch is None or family.batch <= largest_batch
            if _serves(family, given.get(stage, 1), rate * problem.tokens_per_query(stage))
        ]
        for stage, families in _families(problem, pipeline, profiles).items()
    }
    return _answer(problem, pipeline, profiles, offers)


def _families(
    problem: BaselineProblem, pipeline: Pipeline, profiles: Profiles
) -> dict[str, tuple[Family, ...]]:
    """Every (variant, hardware, batch size) of a stage, whatever the demand; variants are named."""
    found = find_families(pipeline, profiles, dict.fromkeys(pipeline.stages, Fraction(0)), problem.base.laws)
    return {stage: own.families for stage, own in found.items()}


def _extreme(pipeline: Pipeline, profiles: Profiles, *, most: bool) -> dict[str, str]:
    """The least or the most accurate variant of every stage, the first of equal ones."""
    chosen = {}
    for name, stage in pipeline.stages.items():
        known = {}
        for model in stage.models:
            tables = [profiles.table(model, hardware) for hardware in profiles.hardware_for(model)]
            own = [float(table.accuracy.max()) for table in tables if table and table.accuracy is not None]
            given = stage.accuracy_of(model)
            known[model] = max(own, default=1.0) if given is None else given
        chosen[name] = max(known, key=known.__getitem__) if most else min(known, key=known.__getitem__)
    return chosen


def _serves(family: Family, replicas: int, tokens_per_ns: Fraction) -> bool:
    return replicas <= family.most and replicas * family.batch >= tokens_per_ns * int(family.service_ns[-1])


def _switched(family: Family, replicas: int, tokens_per_ns: Fraction) -> Offer:
    option = Option(family, replicas)
    loss = round(-math.log(family.accuracy or 1.0) * _PER_UNIT)
    return Offer(option, filled_ns(family, tokens_per_ns), (loss, option.microusd_per_hour, family.batch))


def _answer(
    problem: BaselineProblem, pipeline: Pipeline, profiles: Profiles, offers: Mapping[str, list[Offer]]
) -> Plan:
    reason = why_no_choice(problem, offers, "batches and filling them")
    chosen = None if reason else best_choice(problem, offers)
    if chosen is None:
        return problem.without_plan(reason or "the limits on devices leave too few of them")
    variants = {stage: option.family.variant for stage, option in chosen.items()}
    named = choosing(pipeline, {stage: variant for stage, variant in variants.items() if variant})
    return problem.running(named, profiles).given(chosen)
